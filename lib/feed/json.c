#include "feed/json.h"
#include "feed/community.h"
#include "wire/tcpopt.h"

/* ,"key":value - every member but the first of an object */
#define key(t, name) text_lit(t, ",\"" name "\":")

static void put_bool(struct text *t, bool b)
{
	if (b)
		text_lit(t, "true");
	else
		text_lit(t, "false");
}

/* A word of ours: nothing in it needs escaping. */
static void put_word(struct text *t, const char *w)
{
	text_lit(t, "\"");
	text_str(t, w);
	text_lit(t, "\"");
}

#define key_u64(t, name, v)  (key(t, name), text_u64(t, v))
#define key_bool(t, name, v) (key(t, name), put_bool(t, v))
#define key_word(t, name, v) (key(t, name), put_word(t, v))

#define key_duration(t, name, v)                                                                   \
	do {                                                                                       \
		if ((v) != DURATION_UNKNOWN)                                                       \
			key_u64(t, name, v);                                                       \
	} while (0)

static void begin(struct text *t, const char *type, uint64_t seq, uint64_t ts_ns)
{
	text_lit(t, "{\"timestamp\":");
	text_timestamp(t, ts_ns);
	key_word(t, "event_type", type);
	key_u64(t, "seq", seq);
}

static void end(struct text *t)
{
	text_lit(t, "}\n");
}

static void put_ip(struct text *t, const struct event *e, unsigned side)
{
	text_lit(t, "\"");
	if (e->ip_v == 4)
		text_ip4(t, e->addr[side]);
	else
		text_ip6(t, e->addr[side]);
	text_lit(t, "\"");
}

static void put_flow(struct text *t, const struct event *e, const struct json_context *c)
{
	text_lit(t, ",\"flow_id\":\"");
	text_hex64(t, e->flow_id);
	text_lit(t, "\",\"in_iface\":");
	text_json_string(t, c->iface);
	if (e->nvlan) {
		text_lit(t, ",\"vlan\":[");
		text_u64(t, e->vlan[0]);
		if (e->nvlan > 1) {
			text_lit(t, ",");
			text_u64(t, e->vlan[1]);
		}
		text_lit(t, "]");
	}
	if (c->tunnel.type != TUNNEL_NONE) {
		text_lit(t, ",\"tunnel\":{\"type\":");
		put_word(t, tunnel_name(c->tunnel.type));
		if (c->tunnel.has_id)
			key_u64(t, "id", c->tunnel.id);
		text_lit(t, "}");
	}
	key_u64(t, "ip_v", e->ip_v);
	key(t, "src_ip");
	put_ip(t, e, 0);
	key_u64(t, "src_port", e->port[0]);
	key(t, "dest_ip");
	put_ip(t, e, 1);
	key_u64(t, "dest_port", e->port[1]);
	text_lit(t, ",\"proto\":\"TCP\"");
	if (c->community == COMMUNITY_ALL ||
	    (c->community == COMMUNITY_OPEN_CLOSE &&
	     (e->kind == EVENT_TCP_OPEN || e->kind == EVENT_TCP_CLOSE))) {
		char id[COMMUNITY_ID_CHARS + 1];

		community_id(id, e->ip_v, c->community_seed, e->addr[0], e->port[0], e->addr[1],
			     e->port[1]);
		key_word(t, "community_id", id);
	}
}

static void put_states(struct text *t, const struct event *e)
{
	text_lit(t, ",\"tcp\":{\"client_state\":");
	put_word(t, tcp_state_name(e->state[0]));
	key_word(t, "server_state", tcp_state_name(e->state[1]));
}

/* What brought the event about; no segment for those that the daemon itself ends. */
static void put_cause(struct text *t, const struct event *e)
{
	if (e->segment != SEGMENT_NONE) {
		key_word(t, "segment", event_segment_name(e->segment));
		key_word(t, "basis", event_basis_name(e->basis));
	}
}

static void put_moves(struct text *t, const struct event *e)
{
	key_word(t, "prev_client_state", tcp_state_name(e->prev_state[0]));
	key_word(t, "prev_server_state", tcp_state_name(e->prev_state[1]));
	put_cause(t, e);
	key_duration(t, "client_prev_ns", e->prev_state_ns[0]);
	key_duration(t, "server_prev_ns", e->prev_state_ns[1]);
}

/* The first member is always there, so that the others may begin with a comma. */
static void put_flags(struct text *t, const struct event_options *o)
{
	text_lit(t, "\"sack\":");
	put_bool(t, o->sack);
	key_bool(t, "timestamps", o->timestamps);
	key_bool(t, "tfo", o->tfo);
	key_bool(t, "ecn", o->ecn);
	key_bool(t, "mptcp", o->mptcp);
	if (o->mss)
		key_u64(t, "mss", o->mss);
}

static void put_open(struct text *t, const struct event *e)
{
	put_cause(t, e);
	key_bool(t, "midstream", e->midstream);
	key_word(t, "direction_basis", direction_basis_name(e->direction_basis));
	if (e->open.has_options) {
		const struct event_options *o = &e->open.options;

		text_lit(t, ",\"options\":{");
		put_flags(t, o);
		if (o->wscale[0] != TCPOPT_WSCALE_NONE)
			key_u64(t, "wscale", o->wscale[0]);
		text_lit(t, "}");
	}
	if (e->open.prev_flow_id) {
		text_lit(t, ",\"prev_flow_id\":\"");
		text_hex64(t, e->open.prev_flow_id);
		text_lit(t, "\"");
	}
}

static void put_established(struct text *t, const struct event *e)
{
	const struct event_options *o = &e->established.options;

	put_moves(t, e);
	text_lit(t, ",\"handshake\":{\"syn_retrans\":");
	text_u64(t, e->established.syn_retrans);
	key_u64(t, "synack_retrans", e->established.synack_retrans);
	key_duration(t, "server_rtt_ns", e->established.server_rtt_ns);
	key_duration(t, "client_rtt_ns", e->established.client_rtt_ns);
	key_duration(t, "total_ns", e->established.total_ns);
	text_lit(t, "},\"options\":{");
	put_flags(t, o);
	if (o->wscale[0] != TCPOPT_WSCALE_NONE) {
		key_u64(t, "client_wscale", o->wscale[0]);
		key_u64(t, "server_wscale", o->wscale[1]);
	}
	text_lit(t, "}");
}

static void put_close(struct text *t, const struct event *e)
{
	char history[HISTORY_LETTERS + 1];
	uint64_t start = e->close.start_ns, stop = e->close.end_ns;

	history_text(e->close.history, history);
	put_moves(t, e);
	key_word(t, "reason", close_reason_name(e->close.reason));
	key_word(t, "closed_by", closed_by_name(e->close.closed_by));
	if (e->close.teardown != TEARDOWN_UNKNOWN)
		key_word(t, "teardown", teardown_name(e->close.teardown));
	key_word(t, "conn_state", conn_state_name(e->close.conn_state));
	key_word(t, "history", history);
	if (e->close.counts == COUNTS_SEGMENTS)
		key_u64(t, "completeness", e->close.completeness);
	key_bool(t, "midstream", e->midstream);
	key_bool(t, "lossy", e->close.lossy);
	text_lit(t, "},\"flow\":{\"start\":");
	text_timestamp(t, start);
	key(t, "end");
	text_timestamp(t, stop);
	key_u64(t, "age_ns", stop > start ? stop - start : 0);
	if (e->close.counts == COUNTS_SEQUENCE) {
		key_word(t, "counts", "sequence");
		key_duration(t, "stream_toserver", e->close.payload[0]);
		key_duration(t, "stream_toclient", e->close.payload[1]);
		return;
	}
	key_u64(t, "pkts_toserver", e->close.pkts[0]);
	key_u64(t, "pkts_toclient", e->close.pkts[1]);
	key_u64(t, "bytes_toserver", e->close.bytes[0]);
	key_u64(t, "bytes_toclient", e->close.bytes[1]);
	key_u64(t, "payload_toserver", e->close.payload[0]);
	key_u64(t, "payload_toclient", e->close.payload[1]);
	key_u64(t, "retrans_toserver", e->close.retrans[0]);
	key_u64(t, "retrans_toclient", e->close.retrans[1]);
	key_u64(t, "gap_bytes", e->close.gap_bytes);
}

static void put_anomaly(struct text *t, const struct event *e)
{
	key_word(t, "kind", anomaly_name(e->anomaly.kind));
	key_word(t, "from", e->anomaly.from == SIDE_A ? "client" : "server");
	key_word(t, "segment", event_segment_name(e->segment));
	key_u64(t, "count", e->anomaly.count);
}

void json_event(struct text *t, const struct event *e, uint64_t seq, const struct json_context *c)
{
	begin(t, event_kind_name(e->kind), seq, e->ts_ns);
	if (e->kind == EVENT_CAPTURE_LOSS) {
		key(t, "in_iface");
		text_json_string(t, c->iface);
		key_u64(t, "count", e->loss.count);
		key_u64(t, "freezes", e->loss.freezes);
		key(t, "from");
		text_timestamp(t, e->loss.from_ns);
		key(t, "to");
		text_timestamp(t, e->loss.to_ns);
		end(t);
		return;
	}
	put_flow(t, e, c);
	put_states(t, e);
	switch ((enum event_kind)e->kind) {
	case EVENT_TCP_OPEN:
		put_open(t, e);
		break;
	case EVENT_TCP_STATE:
		put_moves(t, e);
		break;
	case EVENT_TCP_ESTABLISHED:
		put_established(t, e);
		break;
	case EVENT_TCP_CLOSE:
		put_close(t, e);
		break;
	case EVENT_TCP_ANOMALY:
		put_anomaly(t, e);
		break;
	case EVENT_CAPTURE_LOSS:
	case EVENT_KINDS:
		break;
	}
	text_lit(t, "}");
	end(t);
}

void json_hello(struct text *t, const struct json_hello *h, uint64_t seq, uint64_t ts_ns)
{
	begin(t, "hello", seq, ts_ns);
	text_lit(t, ",\"schema\":\"synfind/1\",\"version\":");
	text_json_string(t, h->version);
	key(t, "host");
	text_json_string(t, h->host);
	key(t, "boot_id");
	text_json_string(t, h->boot_id);
	key(t, "run_id");
	text_json_string(t, h->run_id);
	text_lit(t, ",\"interfaces\":[");
	for (unsigned i = 0; i < h->nifaces; i++) {
		if (i)
			text_lit(t, ",");
		text_json_string(t, h->ifaces[i]);
	}
	text_lit(t, "]");
	key_u64(t, "next_seq", seq + 1);
	key_word(t, "policy", h->policy);
	if (h->mode)
		key_word(t, "mode", h->mode);
	end(t);
}

void json_lost(struct text *t, uint64_t count, uint64_t first, uint64_t last, const char *reason,
	       uint64_t ts_ns)
{
	begin(t, "lost", last, ts_ns);
	key_u64(t, "count", count);
	key_u64(t, "first_seq", first);
	key_u64(t, "last_seq", last);
	key_word(t, "reason", reason);
	end(t);
}

void json_iface(struct text *t, const char *name, const char *state, uint64_t seq, uint64_t ts_ns)
{
	begin(t, "iface", seq, ts_ns);
	key(t, "in_iface");
	text_json_string(t, name);
	key_word(t, "state", state);
	end(t);
}

/* Connections by the state of both ends, as "client/server"; those that are over are not. */
static void put_by_state(struct text *t, const struct stats_decoder *d)
{
	bool first = true;

	text_lit(t, ",\"by_state\":{");
	for (unsigned s = FSM_SYN; s < FSM_STATES; s++) {
		uint64_t n = d->states[s];

		if (fsm_over(s))
			break;
		if (s == FSM_CROSSED_A || s == FSM_CROSSED_B)
			continue; /* the same pair as FSM_CROSSED, counted there */
		if (s == FSM_CROSSED)
			n += d->states[FSM_CROSSED_A] + d->states[FSM_CROSSED_B];
		if (!n)
			continue;
		if (!first)
			text_lit(t, ",");
		first = false;
		text_lit(t, "\"");
		text_str(t, tcp_state_name(fsm_endpoint(s, SIDE_A)));
		text_lit(t, "/");
		text_str(t, tcp_state_name(fsm_endpoint(s, SIDE_B)));
		text_lit(t, "\":");
		text_u64(t, n);
	}
	text_lit(t, "}");
}

static void put_connections(struct text *t, const struct stats_decoder *d)
{
	uint64_t total = 0, half_open = 0;

	for (unsigned s = FSM_SYN; s < FSM_STATES && !fsm_over(s); s++) {
		total += d->states[s];
		half_open += fsm_handshaking(s) ? d->states[s] : 0;
	}
	text_lit(t, ",\"connections\":{\"total\":");
	text_u64(t, total);
	key_u64(t, "half_open", half_open);
	put_by_state(t, d);
	key_u64(t, "opened", d->opened);
	key_u64(t, "closed", d->closed);
	key_u64(t, "evicted_half_open", d->evicted_half);
	key_u64(t, "evicted", d->evicted_whole);
	text_lit(t, "},\"table\":{\"entries\":");
	text_u64(t, d->whole);
	key_u64(t, "max_entries", d->max_whole);
	key_u64(t, "half_open_entries", d->half);
	key_u64(t, "max_half_open_entries", d->max_half);
	text_lit(t, "}");
}

static void put_decoder(struct text *t, const struct stats_decoder *d)
{
	text_lit(t, "{\"in_iface\":");
	text_json_string(t, d->iface);
	key_u64(t, "packets", d->source.packets);
	key_u64(t, "drops", d->source.drops);
	key_u64(t, "freezes", d->source.freezes);
	text_lit(t, ",\"verdicts\":{");
	for (unsigned v = 0; v < FRAME_VERDICTS; v++) {
		if (v)
			text_lit(t, ",");
		put_word(t, frame_verdict_name(v));
		text_lit(t, ":");
		text_u64(t, d->verdicts[v]);
	}
	text_lit(t, "}");
	key_u64(t, "bad_checksum", d->bad_checksum);
	if (d->withheld)
		key_u64(t, "withheld", d->withheld);
	if (d->left_out)
		key_u64(t, "left_out", d->left_out);
	put_connections(t, d);
	key_u64(t, "strays", d->strays);
	key_u64(t, "anomalies", d->anomalies);
	key_u64(t, "anomalies_untold", d->anomalies_untold);
	key_u64(t, "events", d->events);
	key_u64(t, "lost", d->lost);
	text_lit(t, "}");
}

void json_stats(struct text *t, const struct stats_decoder *decoders, unsigned n,
		const struct stats_subscribers *s, uint64_t interval_ns, uint64_t seq,
		uint64_t ts_ns)
{
	begin(t, "stats", seq, ts_ns);
	key_u64(t, "interval_ns", interval_ns);
	text_lit(t, ",\"decoders\":[");
	for (unsigned i = 0; i < n; i++) {
		if (i)
			text_lit(t, ",");
		put_decoder(t, &decoders[i]);
	}
	text_lit(t, "],\"subscribers\":{\"connected\":");
	text_u64(t, s->connected);
	key_u64(t, "accepted", s->accepted);
	key_u64(t, "refused", s->refused);
	key_u64(t, "lost_events", s->lost_events);
	text_lit(t, "}");
	end(t);
}
