#include "format/json.h"
#include "base/cc.h"
#include "base/fmt.h"
#include "base/strbuf.h"
#include "flow/endpoints.h"
#include "flow/event.h"
#include "flow/event_names.h"
#include "format/community.h"
#include "wire/tcpopt.h"

/* ---- events: the hot path -------------------------------------------------------------------- */

/* These functions write at a pointer without checking space: the longest line is known, except for
 * the interface's name, which is checked. */
enum { NAME_SPACE = JSON_LINE_MAX / 2, NAME_SHORT = 15 };

#define add_key(p, name)	 fmt_lit(p, ",\"" name "\":")
#define add_u64(p, name, v)	 fmt_u64(add_key(p, name), v)
#define add_few(p, name, v)	 fmt_few(add_key(p, name), v)
#define add_conststr(p, name, w) fmt_lit(fmt_conststr(fmt_lit(p, ",\"" name "\":\""), w), "\"")
#define add_bool(p, name, b)	 fmt_conststr(add_key(p, name), &truth[b])
#define add_time(p, name, v)	 fmt_timestamp(add_key(p, name), v)
#define add_id(p, name, v)	 fmt_lit(fmt_hex64(fmt_lit(p, ",\"" name "\":\""), v), "\"")

#define add_duration(p, name, v) ((v) == DURATION_UNKNOWN ? (p) : add_u64(p, name, v))

/* @v[0] is what the client sent, @v[1] what the server sent. */
#define add_both_ways(add, p, name, v)                                                             \
	add(add(p, name "_toserver", (v)[0]), name "_toclient", (v)[1])

static const struct conststr truth[2] = { CONSTSTR("false"), CONSTSTR("true") };

static char *add_event(char *p, const struct event *e, uint64_t seq, struct fmt_second *second)
{
	p = fmt_timestamp_near(fmt_lit(p, "{\"timestamp\":"), e->ts_ns, second);
	p = add_conststr(p, "event_type", &event_kind_str[e->kind]);
	return add_u64(p, "seq", seq);
}

/* NULL: the name is too long. */
static char *add_iface(char *p, const char *iface)
{
	char *q = fmt_lit(p, ",\"in_iface\":\"");
	unsigned n = 0;

	for (; n < NAME_SHORT && strbuf_plain[(unsigned char)iface[n]]; n++)
		q[n] = iface[n];
	if (likely(!iface[n])) /* nothing to escape: the usual case */
		return fmt_lit(q + n, "\"");

	struct strbuf t = { .p = add_key(p, "in_iface"), .end = p + NAME_SPACE };

	strbuf_json_string(&t, iface);
	return t.full ? NULL : t.p;
}

static char *add_vlan(char *p, const struct event *e)
{
	p = fmt_u64(fmt_lit(p, ",\"vlan\":["), e->vlan[0]);
	if (e->nvlan > 1)
		p = fmt_u64(fmt_lit(p, ","), e->vlan[1]);
	return fmt_lit(p, "]");
}

static char *add_tunnel(char *p, const struct tunnel *u)
{
	const char *name = tunnel_name(u->type);

	p = fmt_lit(p, ",\"tunnel\":{\"type\":\"");
	p = fmt_lit(fmt_octets(p, name, strlen(name)), "\"");
	if (u->has_id)
		p = add_u64(p, "id", u->id);
	return fmt_lit(p, "}");
}

static char *fmt_ip(char *p, const struct event *e, unsigned side)
{
	return e->ip_v == 4 ? fmt_ip4(p, e->addr[side]) : fmt_ip6(p, e->addr[side]);
}

static char *add_server(char *p, const struct event *e)
{
	p = fmt_ip(fmt_lit(p, ",\"dest_ip\":\""), e, 1);
	p = fmt_u64(fmt_lit(p, "\",\"dest_port\":"), e->port[1]);
	return fmt_lit(p, ",\"proto\":\"TCP\"");
}

static char *add_ends(char *p, const struct event *e)
{
	p = add_few(p, "ip_v", e->ip_v);
	p = fmt_ip(fmt_lit(p, ",\"src_ip\":\""), e, 0);
	p = fmt_u64(fmt_lit(p, "\",\"src_port\":"), e->port[0]);
	return add_server(p, e);
}

static char *add_community(char *p, const struct event *e, const struct json_context *c)
{
	if (c->community == COMMUNITY_OFF ||
	    (c->community == COMMUNITY_OPEN_CLOSE && e->kind != EVENT_TCP_OPEN &&
	     e->kind != EVENT_TCP_CLOSE && e->kind != EVENT_SNAPSHOT))
		return p;
	p = fmt_lit(p, ",\"community_id\":\"");
	community_id_of(p, e->ip_v, c->community_seed, e->addr[0], e->port[0], e->addr[1],
			e->port[1]);
	return fmt_lit(p + COMMUNITY_ID_CHARS, "\"");
}

static char *add_states(char *p, const struct event *e)
{
	p = fmt_conststr(fmt_lit(p, ",\"tcp\":{\"client_state\":\""), &tcp_state_str[e->state[0]]);
	p = fmt_conststr(fmt_lit(p, "\",\"server_state\":\""), &tcp_state_str[e->state[1]]);
	return fmt_lit(p, "\"");
}

/* The trigger of the event; absent if the daemon itself closed the connection. */
static char *add_trigger(char *p, const struct event *e)
{
	if (e->segment == SEGMENT_NONE)
		return p;
	p = add_conststr(p, "segment", &event_segment_str[e->segment]);
	return add_conststr(p, "basis", &event_basis_str[e->basis]);
}

static char *add_moves(char *p, const struct event *e)
{
	p = add_conststr(p, "prev_client_state", &tcp_state_str[e->prev_state[0]]);
	p = add_conststr(p, "prev_server_state", &tcp_state_str[e->prev_state[1]]);
	p = add_trigger(p, e);
	p = add_duration(p, "client_prev_ns", e->prev_state_ns[0]);
	return add_duration(p, "server_prev_ns", e->prev_state_ns[1]);
}

static char *add_flags(char *p, const struct event_options *o)
{
	p = fmt_conststr(fmt_lit(p, ",\"options\":{\"sack\":"), &truth[o->sack]);
	p = add_bool(p, "timestamps", o->timestamps);
	p = add_bool(p, "tfo", o->tfo);
	p = add_bool(p, "ecn", o->ecn);
	p = add_bool(p, "mptcp", o->mptcp);
	return o->mss ? add_u64(p, "mss", o->mss) : p;
}

static char *add_open(char *p, const struct event *e)
{
	p = add_trigger(p, e);
	p = add_bool(p, "midstream", e->midstream);
	p = add_conststr(p, "direction_basis", &direction_basis_str[e->direction_basis]);
	if (e->open.has_options) {
		const struct event_options *o = &e->open.options;

		p = add_flags(p, o);
		if (o->wscale[0] != TCPOPT_WSCALE_NONE)
			p = add_few(p, "wscale", o->wscale[0]);
		p = fmt_lit(p, "}");
	}
	return e->open.prev_flow_id ? add_id(p, "prev_flow_id", e->open.prev_flow_id) : p;
}

static char *add_established(char *p, const struct event *e)
{
	const struct event_options *o = &e->established.options;

	p = add_moves(p, e);
	p = fmt_few(fmt_lit(p, ",\"handshake\":{\"syn_retrans\":"), e->established.syn_retrans);
	p = add_few(p, "synack_retrans", e->established.synack_retrans);
	p = add_duration(p, "server_rtt_ns", e->established.server_rtt_ns);
	p = add_duration(p, "client_rtt_ns", e->established.client_rtt_ns);
	p = add_duration(p, "total_ns", e->established.total_ns);
	p = add_flags(fmt_lit(p, "}"), o);
	if (o->wscale[0] != TCPOPT_WSCALE_NONE) {
		p = add_few(p, "client_wscale", o->wscale[0]);
		p = add_few(p, "server_wscale", o->wscale[1]);
	}
	return fmt_lit(p, "}");
}

static inline __attribute__((always_inline)) char *add_sum(char *p, const struct event_totals *n)
{
	p = add_conststr(p, "conn_state", &conn_state_str[n->conn_state]);
	p = fmt_lit(p, ",\"history\":\"");
	p += history_text(n->history, p);
	p = fmt_lit(p, "\"");
	return n->counts == COUNTS_SEGMENTS ? add_u64(p, "completeness", n->completeness) : p;
}

static inline __attribute__((always_inline)) char *add_counts(char *p, const struct event_totals *n)
{
	if (n->counts == COUNTS_SEQUENCE) {
		p = fmt_lit(p, ",\"counts\":\"sequence\"");
		return add_both_ways(add_duration, p, "stream", n->payload);
	}
	p = add_both_ways(add_u64, p, "pkts", n->pkts);
	p = add_both_ways(add_u64, p, "bytes", n->bytes);
	p = add_both_ways(add_u64, p, "payload", n->payload);
	p = add_both_ways(add_few, p, "retrans", n->retrans);
	return add_few(p, "gap_bytes", n->gap_bytes);
}

static char *add_close(char *p, const struct event *e, struct fmt_second *second)
{
	const struct event_totals *n = (const struct event_totals *)&e->close;
	uint64_t start = n->start_ns, stop = n->end_ns;

	p = add_moves(p, e);
	p = add_conststr(p, "reason", &close_reason_str[e->close.reason]);
	p = add_conststr(p, "closed_by", &closed_by_str[n->closed_by]);
	if (n->outstanding != OUTSTANDING_NONE)
		p = add_conststr(p, "outstanding", &outstanding_str[n->outstanding]);
	if (e->close.teardown != TEARDOWN_UNKNOWN)
		p = add_conststr(p, "teardown", &teardown_str[e->close.teardown]);
	p = add_sum(p, n);
	p = add_bool(p, "midstream", e->midstream);
	p = add_bool(p, "lossy", n->lossy);
	p = fmt_timestamp_near(fmt_lit(p, "},\"flow\":{\"start\":"), start, second);
	p = fmt_timestamp_near(add_key(p, "end"), stop, second);
	p = add_u64(p, "age_ns", stop > start ? stop - start : 0);
	return add_counts(p, n);
}

static uint64_t time_since(uint64_t now_ns, uint64_t then_ns)
{
	return now_ns > then_ns ? now_ns - then_ns : 0;
}

static char *add_snapshot(char *p, const struct event *e)
{
	const struct event_totals *n = (const struct event_totals *)&e->snapshot;
	uint64_t rtt_ns = dur32_ns(e->snapshot.server_rtt);

	p = add_duration(p, "client_state_ns", e->prev_state_ns[0]);
	p = add_duration(p, "server_state_ns", e->prev_state_ns[1]);
	p = add_u64(p, "idle_ns", time_since(e->ts_ns, n->end_ns));
	p = add_conststr(p, "closed_by", &closed_by_str[n->closed_by]);
	if (n->outstanding != OUTSTANDING_NONE)
		p = add_conststr(p, "outstanding", &outstanding_str[n->outstanding]);
	p = add_sum(p, n);
	p = add_bool(p, "midstream", e->midstream);
	p = add_conststr(p, "direction_basis", &direction_basis_str[e->direction_basis]);
	p = add_bool(p, "lossy", n->lossy);
	if (rtt_ns != DURATION_UNKNOWN) {
		p = fmt_u64(fmt_lit(p, ",\"handshake\":{\"server_rtt_ns\":"), rtt_ns);
		p = fmt_lit(p, "}");
	}
	p = fmt_timestamp(fmt_lit(p, "},\"flow\":{\"start\":"), n->start_ns);
	p = add_u64(p, "age_ns", time_since(e->ts_ns, n->start_ns));
	return add_counts(p, n);
}

static char *add_retry(char *p, const struct event *e)
{
	p = add_conststr(p, "segment", &event_segment_str[e->segment]);
	p = add_conststr(p, "from", &event_side_str[e->retry.from != SIDE_A]);
	p = add_few(p, "count", e->retry.count);
	return add_u64(p, "waited_ns", e->retry.waited_ns);
}

static char *add_stuck(char *p, const struct event *e)
{
	p = add_conststr(p, "waits_for", &event_side_str[e->stuck.waits_for != SIDE_A]);
	return add_u64(p, "silent_ns", e->stuck.silent_ns);
}

/* As Scapy spells them. */
static char *add_tcp_flags(char *p, const struct event *e)
{
	p = fmt_lit(p, ",\"flags\":\"");
	p += tcp_flags_text(e->wire.flags, p);
	return fmt_lit(p, "\"");
}

static char *add_segment_options(char *p, const struct event *e)
{
	char *first = fmt_lit(p, ",\"options\":") + 1;

	p = first - 1;
	if (e->wire.mss)
		p = add_u64(p, "mss", e->wire.mss);
	p = add_duration(p, "wscale", e->wire.wscale);
	if (e->wire.sack_permitted)
		p = add_bool(p, "sack_permitted", true);
	p = add_duration(p, "tsval", e->wire.tsval);
	p = add_duration(p, "tsecr", e->wire.tsecr);
	if (e->wire.sack_blocks)
		p = add_few(p, "sack_blocks", e->wire.sack_blocks);
	first[-1] = '{'; /* in the place of the first comma */
	return fmt_lit(p, "}");
}

static char *add_segment(char *p, const struct event *e)
{
	p = add_conststr(p, "segment", &event_segment_str[e->segment]);
	p = add_conststr(p, "from", &event_side_str[e->wire.from != SIDE_A]);
	p = add_tcp_flags(p, e);
	p = add_u64(p, "seq", e->wire.seq);
	p = add_duration(p, "ack", e->wire.ack);
	p = add_u64(p, "payload_len", e->wire.payload_len);
	p = add_u64(p, "window", e->wire.window);
	p = add_duration(p, "window_scale", e->wire.window_scale);
	p = add_u64(p, "wire_segs", e->wire.wire_segs);
	return e->wire.has_options ? add_segment_options(p, e) : p;
}

static char *add_anomaly(char *p, const struct event *e)
{
	p = add_conststr(p, "kind", &anomaly_str[e->anomaly.kind]);
	p = add_conststr(p, "from", &event_side_str[e->anomaly.from != SIDE_A]);
	p = add_conststr(p, "segment", &event_segment_str[e->segment]);
	return add_u64(p, "count", e->anomaly.count);
}

static char *add_loss(char *p, const struct event *e)
{
	p = add_u64(p, "count", e->loss.count);
	p = add_u64(p, "freezes", e->loss.freezes);
	p = add_time(p, "from", e->loss.from_ns);
	p = add_time(p, "to", e->loss.to_ns);
	if (e->loss.reason == LOSS_RING_FULL)
		return p;
	return add_conststr(p, "reason", &loss_reason_str[e->loss.reason]);
}

static char *add_flood(char *p, const struct event *e, const struct json_context *c)
{
	const uint64_t *n = e->flood.count;

	if (c->tunnel.type != TUNNEL_NONE)
		p = add_tunnel(p, &c->tunnel);
	p = add_server(add_few(p, "ip_v", e->ip_v), e);
	p = fmt_hex64(fmt_lit(p, ",\"flood\":{\"id\":\""), e->flow_id);
	p = fmt_lit(p, "\"");
	p = add_conststr(p, "phase", &synflood_phase_str[e->flood.phase]);
	p = add_time(p, "started", e->flood.started_ns);
	p = add_u64(p, "attempts", n[SYNFLOOD_ATTEMPTS]);
	p = add_u64(p, "answered", n[SYNFLOOD_ANSWERED]);
	p = add_u64(p, "late", n[SYNFLOOD_LATE]);
	p = add_u64(p, "completed", n[SYNFLOOD_COMPLETED]);
	p = add_u64(p, "told", n[SYNFLOOD_REPORTED]);
	p = add_u64(p, "refused", n[SYNFLOOD_REFUSED]);
	p = add_u64(p, "expired", n[SYNFLOOD_EXPIRED]);
	p = add_u64(p, "evicted", n[SYNFLOOD_EVICTED]);
	p = add_u64(p, "replaced", n[SYNFLOOD_REPLACED]);
	p = add_u64(p, "half_open", e->flood.half_open);
	p = add_u64(p, "new_attempts", e->flood.new_attempts);
	p = add_u64(p, "rate", e->flood.rate);
	if (e->flood.shares > 1)
		p = add_u64(p, "decoders", e->flood.shares);
	return fmt_lit(p, "}");
}

/* Out of line, so that the kinds of every connection are encoded in line. */
static __attribute__((noinline)) char *add_rare(char *p, const struct event *e)
{
	switch (e->kind) {
	case EVENT_TCP_RETRY:
		return add_retry(p, e);
	case EVENT_TCP_STUCK:
		return add_stuck(p, e);
	case EVENT_TCP_ANOMALY:
		return add_anomaly(p, e);
	case EVENT_SNAPSHOT:
		return add_snapshot(p, e);
	case EVENT_TCP_SEGMENT:
		return add_segment(p, e);
	default:
		return p;
	}
}

static char *add_connection(char *p, const struct event *e, const struct json_context *c)
{
	if (e->nvlan)
		p = add_vlan(p, e);
	if (c->tunnel.type != TUNNEL_NONE)
		p = add_tunnel(p, &c->tunnel);
	p = add_ends(p, e);
	p = add_community(p, e, c);
	p = add_states(p, e);
	if (e->kind == EVENT_TCP_OPEN)
		p = add_open(p, e);
	else if (e->kind == EVENT_TCP_STATE)
		p = add_moves(p, e);
	else if (e->kind == EVENT_TCP_ESTABLISHED)
		p = add_established(p, e);
	else if (e->kind == EVENT_TCP_CLOSE)
		p = add_close(p, e, c->second);
	else
		p = add_rare(p, e);
	return fmt_lit(p, "}");
}

void json_event(struct strbuf *t, const struct event *e, uint64_t seq, const struct json_context *c)
{
	bool loss = e->kind == EVENT_CAPTURE_LOSS, flood = e->kind == EVENT_SYN_FLOOD;
	char *p = t->p;

	if (t->full || (size_t)(t->end - p) < JSON_LINE_MAX) {
		t->full = true;
		return;
	}
	p = add_event(p, e, seq, c->second);
	if (!loss && !flood)
		p = add_id(p, "flow_id", e->flow_id);
	p = add_iface(p, c->iface);
	if (!p) {
		t->full = true;
		return;
	}
	p = loss ? add_loss(p, e) : flood ? add_flood(p, e, c) : add_connection(p, e, c);
	t->p = fmt_lit(p, "}\n");
}

/* ---- the daemon's own events ----------------------------------------------------------------- */

/* ,"key":value - every member but the first of an object */
#define key(t, name) strbuf_lit(t, ",\"" name "\":")

/* A string of ours, which needs no escaping. */
static void strbuf_quoted(struct strbuf *t, const char *s)
{
	strbuf_lit(t, "\"");
	strbuf_str(t, s);
	strbuf_lit(t, "\"");
}

#define key_u64(t, name, v) (key(t, name), strbuf_u64(t, v))
#define key_str(t, name, v) (key(t, name), strbuf_quoted(t, v))
/* A string of others, which may need escaping. */
#define key_name(t, name, v) (key(t, name), strbuf_json_string(t, v))
/* An object that begins with a number. */
#define key_object(t, name, first, v)                                                              \
	(strbuf_lit(t, ",\"" name "\":{\"" first "\":"), strbuf_u64(t, v))
/* Precedes element @i of an array or object. */
#define comma(t, i) strbuf_str(t, (i) ? "," : "")

static void json_begin(struct strbuf *t, const char *type, uint64_t seq, uint64_t ts_ns)
{
	strbuf_lit(t, "{\"timestamp\":");
	strbuf_timestamp(t, ts_ns);
	key_str(t, "event_type", type);
	key_u64(t, "seq", seq);
}

static void json_end(struct strbuf *t)
{
	strbuf_lit(t, "}\n");
}

static void json_names(struct strbuf *t, const char *const *names, unsigned n)
{
	strbuf_lit(t, "[");
	for (unsigned i = 0; i < n && i < JSON_NAMES_MAX; i++) {
		comma(t, i);
		strbuf_json_string(t, names[i]);
	}
	strbuf_lit(t, "]");
}

#define key_names(t, name, names, n)                                                               \
	do {                                                                                       \
		key(t, name);                                                                      \
		json_names(t, names, n);                                                           \
		if (n > JSON_NAMES_MAX)                                                            \
			key_u64(t, name "_more", n - JSON_NAMES_MAX);                              \
	} while (0)

const char *line_kind_name(unsigned kind)
{
	static const char *const name[] = {
		[LINE_STATS] = "stats",
		[LINE_IFACE] = "iface",
		[LINE_RESTART] = "restart",
		[LINE_LOST] = "lost",
	};

	return kind < EVENT_KINDS ? event_kind_str[kind].s : name[kind];
}

static void json_kinds(struct strbuf *t, uint32_t kinds)
{
	bool more = false;

	strbuf_lit(t, "[");
	for (unsigned k = 0; k < LINE_KINDS; k++) {
		if (!(kinds & 1u << k))
			continue;
		comma(t, more);
		strbuf_quoted(t, line_kind_name(k));
		more = true;
	}
	strbuf_lit(t, "]");
}

void json_hello(struct strbuf *t, const struct json_hello *h, uint64_t seq, uint64_t ts_ns)
{
	json_begin(t, "hello", seq, ts_ns);
	key_str(t, "schema", JSON_SCHEMA);
	key_name(t, "version", h->version);
	key_name(t, "host", h->host);
	key_name(t, "boot_id", h->boot_id);
	key_name(t, "run_id", h->run_id);
	key_names(t, "interfaces", h->ifaces, h->nifaces);
	key_u64(t, "next_seq", seq + 1);
	key_str(t, "policy", h->policy);
	if (h->mode)
		key_str(t, "mode", h->mode);
	if (h->pseudonyms)
		key_str(t, "addresses", "pseudonyms");
	if (h->events != LINES_ALL) {
		key(t, "events");
		json_kinds(t, h->events & ~LINES_ALWAYS);
	}
	json_end(t);
}

static void json_segments(struct strbuf *t, const struct endpoint *e, unsigned n)
{
	char net[ENDPOINT_TEXT_MAX];

	key(t, "segments");
	strbuf_lit(t, "[");
	for (unsigned i = 0; i < n; i++) {
		comma(t, i);
		strbuf_lit(t, "{");
		if (e[i].ip_v) {
			endpoint_text(&e[i], net);
			strbuf_lit(t, "\"net\":");
			strbuf_quoted(t, net);
		}
		if (e[i].has_port) {
			comma(t, e[i].ip_v);
			strbuf_lit(t, "\"port\":");
			strbuf_u64(t, e[i].port);
		}
		strbuf_lit(t, "}");
	}
	strbuf_lit(t, "]");
}

void json_subscribed(struct strbuf *t, const struct json_subscribed *s, uint64_t seq,
		     uint64_t ts_ns)
{
	json_begin(t, "subscribed", seq, ts_ns);
	if (s->id)
		key_name(t, "id", s->id);
	key_name(t, "host", s->host);
	key_name(t, "run_id", s->run_id);
	key_u64(t, "next_seq", seq + 1);
	key(t, "events");
	json_kinds(t, s->kinds);
	if (s->where)
		key_name(t, "where", s->where);
	if (s->nsegments)
		json_segments(t, s->segments, s->nsegments);
	key_str(t, "policy", s->policy);
	json_end(t);
}

void json_error(struct strbuf *t, const char *id, const char *error, unsigned at, uint64_t seq,
		uint64_t ts_ns)
{
	json_begin(t, "error", seq, ts_ns);
	if (id)
		key_name(t, "id", id);
	key_name(t, "error", error);
	if (at)
		key_u64(t, "at", at);
	json_end(t);
}

void json_lost(struct strbuf *t, uint64_t count, uint64_t first, uint64_t last, const char *reason,
	       uint64_t ts_ns)
{
	json_begin(t, "lost", last, ts_ns);
	key_u64(t, "count", count);
	key_u64(t, "first_seq", first);
	key_u64(t, "last_seq", last);
	key_str(t, "reason", reason);
	json_end(t);
}

void json_lost_segments(struct strbuf *t, uint64_t count, const char *reason, uint64_t seq,
			uint64_t ts_ns)
{
	json_begin(t, "lost", seq, ts_ns);
	key_u64(t, "count", count);
	key_str(t, "reason", reason);
	json_end(t);
}

void json_iface(struct strbuf *t, const char *name, const char *state, uint64_t seq, uint64_t ts_ns)
{
	json_begin(t, "iface", seq, ts_ns);
	key_name(t, "in_iface", name);
	key_str(t, "state", state);
	json_end(t);
}

void json_snapshot_end(struct strbuf *t, const struct json_snapshot_end *s, uint64_t seq,
		       uint64_t ts_ns)
{
	json_begin(t, "snapshot_end", seq, ts_ns);
	key_name(t, "host", s->host);
	key_name(t, "run_id", s->run_id);
	if (s->id)
		key_name(t, "id", s->id);
	key_u64(t, "count", s->count);
	json_end(t);
}

static void json_recovery(struct strbuf *t, const struct json_recovery *r, unsigned n)
{
	strbuf_lit(t, ",\"recovery\":[");
	for (unsigned i = 0; i < n; i++) {
		comma(t, i);
		strbuf_lit(t, "{\"step\":");
		strbuf_quoted(t, r[i].step);
		key_u64(t, "deaths", r[i].deaths);
		if (r[i].iface) {
			key_name(t, "in_iface", r[i].iface);
			key_u64(t, "decoder", r[i].decoder);
		}
		strbuf_lit(t, "}");
	}
	strbuf_lit(t, "]");
}

void json_restart(struct strbuf *t, const struct json_restart *r, uint64_t seq, uint64_t ts_ns)
{
	json_begin(t, "restart", seq, ts_ns);
	key_str(t, "cause", r->cause);
	key_u64(t, "down_ns", r->down_ns);
	key_str(t, "tables", r->nreset ? "reset" : "kept");
	if (r->nreset)
		key_names(t, "reset", r->reset, r->nreset);
	if (r->nrecovery)
		json_recovery(t, r->recovery, r->nrecovery);
	json_end(t);
}

/* Open connections by the state of both ends, as "client/server". */
static void json_by_state(struct strbuf *t, const struct tracker_counters *k)
{
	uint64_t n[FSM_STATES] = { 0 };
	unsigned shown = 0;

	for (unsigned s = FSM_SYN; s < FSM_STATES && !fsm_over(s); s++)
		n[fsm_pair(s)] += k->states[s].v;
	strbuf_lit(t, ",\"by_state\":{");
	for (unsigned s = FSM_SYN; s < FSM_STATES && !fsm_over(s); s++) {
		if (!n[s])
			continue;
		comma(t, shown++);
		strbuf_lit(t, "\"");
		strbuf_str(t, tcp_state_str[fsm_endpoint(s, SIDE_A)].s);
		strbuf_lit(t, "/");
		strbuf_str(t, tcp_state_str[fsm_endpoint(s, SIDE_B)].s);
		strbuf_lit(t, "\":");
		strbuf_u64(t, n[s]);
	}
	strbuf_lit(t, "}");
}

static void json_connections(struct strbuf *t, const struct stats_decoder *d)
{
	const struct tracker_counters *k = &d->count.tracker;
	uint64_t total = 0, half_open = 0;

	for (unsigned s = FSM_SYN; s < FSM_STATES && !fsm_over(s); s++) {
		total += k->states[s].v;
		half_open += fsm_handshaking(s) ? k->states[s].v : 0;
	}
	key_object(t, "connections", "total", total);
	key_u64(t, "half_open", half_open);
	json_by_state(t, k);
	key_u64(t, "opened", k->opened.v);
	key_u64(t, "closed", k->closed.v);
	key_u64(t, "evicted_half_open", k->evicted_syn.v);
	key_u64(t, "evicted", k->evicted_full.v);
	strbuf_lit(t, "}");
	key_object(t, "table", "entries", k->full_entries.v);
	key_u64(t, "max_entries", d->max_full);
	key_u64(t, "half_open_entries", k->syn_entries.v);
	key_u64(t, "max_half_open_entries", d->max_syn);
	strbuf_lit(t, "}");
}

static void json_decoder(struct strbuf *t, const struct stats_decoder *d)
{
	const struct decoder_counters *c = &d->count;
	const struct tracker_counters *k = &c->tracker;

	strbuf_lit(t, "{\"in_iface\":");
	strbuf_json_string(t, d->iface);
	if (d->several)
		key_u64(t, "decoder", d->index);
	if (d->several && d->split_known)
		key_u64(t, "split", c->split.v);
	key_u64(t, "packets", c->packets.v);
	if (c->other_interfaces.v)
		key_u64(t, "other_interfaces", c->other_interfaces.v);
	key_u64(t, "drops", c->drops.v);
	key_u64(t, "freezes", c->freezes.v);
	strbuf_lit(t, ",\"verdicts\":{");
	for (unsigned v = 0; v < FRAME_VERDICTS; v++) {
		comma(t, v);
		strbuf_quoted(t, frame_verdict_name(v));
		strbuf_lit(t, ":");
		strbuf_u64(t, c->verdicts[v].v);
	}
	strbuf_lit(t, "}");
	key_u64(t, "bad_checksum", c->bad_checksum.v);
	if (k->copies.v)
		key_u64(t, "duplicates", k->copies.v);
	if (k->dedupe_full.v)
		key_u64(t, "dedupe_full", k->dedupe_full.v);
	if (k->bypassed.v)
		key_u64(t, "withheld", k->bypassed.v);
	if (c->filtered.v)
		key_u64(t, "left_out", c->filtered.v);
	json_connections(t, d);
	key_object(t, "syn_flood", "servers", k->floods.v);
	key_u64(t, "held", k->deferred.v);
	key_u64(t, "untold", k->suppressed.v);
	key_u64(t, "unwatched", k->unwatched.v);
	strbuf_lit(t, "}");
	key_u64(t, "strays", k->unmatched.v);
	key_u64(t, "anomalies", k->anomalies.v);
	key_u64(t, "anomalies_untold", k->anomalies_suppressed.v);
	key_u64(t, "events", c->events.v);
	key_u64(t, "lost", c->lost.v);
	strbuf_lit(t, "}");
}

static void json_interface(struct strbuf *t, const struct stats_interface *i)
{
	strbuf_lit(t, "{\"in_iface\":");
	strbuf_json_string(t, i->iface);
	key_name(t, "rings", i->rings);
	key_u64(t, "frames", i->frames);
	key_u64(t, "events", i->events);
	strbuf_lit(t, "}");
}

static void json_subscribers(struct strbuf *t, const struct stats_subscribers *s)
{
	key_object(t, "subscribers", "connected", s->connected);
	key_u64(t, "accepted", s->accepted);
	key_u64(t, "refused", s->unlisted + s->uid_limit + s->limit + s->unknown + s->rate_limit);
	key_object(t, "refused_by", "unlisted", s->unlisted);
	key_u64(t, "uid_limit", s->uid_limit);
	key_u64(t, "limit", s->limit);
	key_u64(t, "unknown", s->unknown);
	if (s->rate_limit)
		key_u64(t, "rate_limit", s->rate_limit);
	strbuf_lit(t, "}");
	key_u64(t, "lost_events", s->lost_events);
	strbuf_lit(t, "}");
}

void json_stats(struct strbuf *t, const struct json_stats *s, uint64_t seq, uint64_t ts_ns)
{
	json_begin(t, "stats", seq, ts_ns);
	key_u64(t, "interval_ns", s->interval_ns);
	strbuf_lit(t, ",\"decoders\":[");
	for (unsigned i = 0; i < s->ndecoders; i++) {
		comma(t, i);
		json_decoder(t, &s->decoders[i]);
	}
	strbuf_lit(t, "]");
	for (unsigned i = 0; i < s->ninterfaces; i++) {
		strbuf_str(t, i ? "," : ",\"interfaces\":[");
		json_interface(t, &s->interfaces[i]);
	}
	if (s->ninterfaces)
		strbuf_lit(t, "]");
	json_subscribers(t, &s->subscribers);
	json_end(t);
}
