#include "format/member.h"
#include <arpa/inet.h>
#include "base/cc.h"
#include "base/strbuf.h"
#include "flow/event_names.h"
#include "format/community.h"
#include "wire/tcpopt.h"
#include "wire/tunnel.h"

enum read {
	READ_LINE, /* only lines have it */
	READ_NUMBER,
	READ_BOOL,
	READ_WORD,
	READ_SIDE,     /* a word: client or server */
	READ_CONSTANT, /* the first word */
	READ_TIME,
	READ_ID,
	READ_ADDRESS,
	READ_PRESENCE,
	READ_SEQ,
	READ_FLOW_ID,
	READ_IFACE,
	READ_VLAN,
	READ_TUNNEL_TYPE,
	READ_TUNNEL_ID,
	READ_COMMUNITY,
	READ_HISTORY,
	READ_AGE,
	READ_IDLE,
	READ_RTT,
	READ_FLAGS,
};

/* All of these must hold, else the member is absent.  A word beyond the table is absent as well. */
enum when {
	WHEN_NONZERO = 1,
	WHEN_KNOWN = 2,	    /* a duration */
	WHEN_CAUSED = 4,    /* by a segment or its absence */
	WHEN_OFFERED = 8,   /* tcp_open: options were seen */
	WHEN_SCALED = 16,   /* tcp_established: both sides scale windows */
	WHEN_SEGMENTS = 32, /* tcp_close, snapshot: segments were counted */
	WHEN_SEQUENCE = 64, /* tcp_close, snapshot: only sequence numbers are known */
	WHEN_TUNNEL = 128,
	WHEN_SEVERAL = 256,  /* syn_flood: several decoders have a part of it */
	WHEN_ANSWERED = 512, /* snapshot: half-open, and its SYN was seen */
};

#define KIND(k) (1u << (k))
#define OPEN	KIND(EVENT_TCP_OPEN)
#define STATE	KIND(EVENT_TCP_STATE)
#define ESTAB	KIND(EVENT_TCP_ESTABLISHED)
#define CLOSE	KIND(EVENT_TCP_CLOSE)
#define RETRY	KIND(EVENT_TCP_RETRY)
#define STUCK	KIND(EVENT_TCP_STUCK)
#define ANOMALY KIND(EVENT_TCP_ANOMALY)
#define SNAP	KIND(EVENT_SNAPSHOT)
#define SEG	KIND(EVENT_TCP_SEGMENT)
#define LOSS	KIND(EVENT_CAPTURE_LOSS)
#define FLOOD	KIND(EVENT_SYN_FLOOD)
#define STATS	KIND(LINE_STATS)
#define IFACE	KIND(LINE_IFACE)
#define RESTART KIND(LINE_RESTART)
#define LOST	KIND(LINE_LOST)
#define TCP	(OPEN | STATE | ESTAB | CLOSE | RETRY | STUCK | ANOMALY | SNAP | SEG)
#define MOVES	(STATE | ESTAB | CLOSE)
#define RECORDS (TCP | LOSS | FLOOD)
#define LINES	(STATS | IFACE | RESTART | LOST)

#define FROM(how, field)                                                                           \
	.read = (how), .at = offsetof(struct event, field),                                        \
	.width = sizeof(((struct event *)0)->field)
#define WORDS(table) .words = (table), .nwords = ARRAY_SIZE(table)

#define INTEGER(p, k, field, ...)                                                                  \
	{                                                                                          \
		.path = p, .kinds = k, .type = MEMBER_INTEGER, FROM(READ_NUMBER, field),           \
		__VA_ARGS__                                                                        \
	}
#define BOOL(p, k, field, ...)                                                                     \
	{                                                                                          \
		.path = p, .kinds = k, .type = MEMBER_BOOL, FROM(READ_BOOL, field), __VA_ARGS__    \
	}
#define WORD(p, k, field, table, ...)                                                              \
	{                                                                                          \
		.path = p, .kinds = k, .type = MEMBER_STRING, FROM(READ_WORD, field),              \
		WORDS(table), __VA_ARGS__                                                          \
	}
#define SIDE(p, k, field)                                                                          \
	{                                                                                          \
		.path = p, .kinds = k, .type = MEMBER_STRING, FROM(READ_SIDE, field),              \
		WORDS(event_side_str)                                                              \
	}
#define CONSTANT(p, k, table, ...)                                                                 \
	{                                                                                          \
		.path = p, .kinds = k, .type = MEMBER_STRING, .read = READ_CONSTANT, WORDS(table), \
		__VA_ARGS__                                                                        \
	}
#define TIME(p, k, field)                                                                          \
	{                                                                                          \
		.path = p, .kinds = k, .type = MEMBER_TIME, FROM(READ_TIME, field)                 \
	}
#define ID(p, k, field, ...)                                                                       \
	{                                                                                          \
		.path = p, .kinds = k, .type = MEMBER_STRING, FROM(READ_ID, field), __VA_ARGS__    \
	}
#define ADDRESS(p, k, field)                                                                       \
	{                                                                                          \
		.path = p, .kinds = k, .type = MEMBER_ADDRESS, FROM(READ_ADDRESS, field)           \
	}
#define GROUP(p, k, ...)                                                                           \
	{                                                                                          \
		.path = p, .kinds = k, .type = MEMBER_GROUP, .read = READ_PRESENCE, __VA_ARGS__    \
	}
#define SPECIAL(p, k, t, how, ...)                                                                 \
	{                                                                                          \
		.path = p, .kinds = k, .type = t, .read = how, __VA_ARGS__                         \
	}
#define LINE(p, k, t)                                                                              \
	{                                                                                          \
		.path = p, .kinds = k, .type = t                                                   \
	}
#define LINE_WORD(p, k, table)                                                                     \
	{                                                                                          \
		.path = p, .kinds = k, .type = MEMBER_STRING, WORDS(table)                         \
	}

static const struct conststr proto_str[] = { CONSTSTR("TCP") };
static const struct conststr counts_str[] = { CONSTSTR("sequence") };
static const struct conststr line_str[] = { CONSTSTR("stats"), CONSTSTR("iface"),
					    CONSTSTR("restart"), CONSTSTR("lost") };
static const struct conststr iface_str[] = { CONSTSTR("up"), CONSTSTR("down"), CONSTSTR("gone"),
					     CONSTSTR("back") };
static const struct conststr cause_str[] = { CONSTSTR("stop"), CONSTSTR("crash") };
static const struct conststr tables_str[] = { CONSTSTR("kept"), CONSTSTR("reset") };
static const struct conststr lost_str[] = { CONSTSTR("subscriber"),   CONSTSTR("ring"),
					    CONSTSTR("poison"),	      CONSTSTR("replay"),
					    CONSTSTR("run"),	      CONSTSTR("segment_rate"),
					    CONSTSTR("segment_ring"), CONSTSTR("segment_slow") };

/* A tcp_close and a snapshot have the same sums. */
#define SUMS (CLOSE | SNAP)
_Static_assert(offsetof(struct event, close.lossy) == offsetof(struct event, snapshot.lossy),
	       "struct event_totals at the same place");

const struct member member_table[] = {
	TIME("timestamp", RECORDS, ts_ns),
	LINE("timestamp", LINES, MEMBER_TIME),
	WORD("event_type", RECORDS, kind, event_kind_str),
	LINE_WORD("event_type", LINES, line_str),
	SPECIAL("seq", RECORDS, MEMBER_INTEGER, READ_SEQ),
	LINE("seq", LINES, MEMBER_INTEGER),

	SPECIAL("flow_id", TCP, MEMBER_STRING, READ_FLOW_ID),
	SPECIAL("in_iface", RECORDS, MEMBER_STRING, READ_IFACE),
	LINE("in_iface", IFACE, MEMBER_STRING),
	SPECIAL("vlan", TCP, MEMBER_LIST, READ_VLAN),
	GROUP("tunnel", TCP | FLOOD, .when = WHEN_TUNNEL),
	SPECIAL("tunnel.type", TCP | FLOOD, MEMBER_STRING, READ_TUNNEL_TYPE, .when = WHEN_TUNNEL),
	SPECIAL("tunnel.id", TCP | FLOOD, MEMBER_INTEGER, READ_TUNNEL_ID, .when = WHEN_TUNNEL),
	INTEGER("ip_v", TCP | FLOOD, ip_v),
	ADDRESS("src_ip", TCP, addr[0]),
	INTEGER("src_port", TCP, port[0]),
	ADDRESS("dest_ip", TCP | FLOOD, addr[1]),
	INTEGER("dest_port", TCP | FLOOD, port[1]),
	CONSTANT("proto", TCP | FLOOD, proto_str),
	SPECIAL("community_id", TCP, MEMBER_STRING, READ_COMMUNITY),

	GROUP("tcp", TCP),
	WORD("tcp.client_state", TCP, state[0], tcp_state_str),
	WORD("tcp.server_state", TCP, state[1], tcp_state_str),
	WORD("tcp.prev_client_state", MOVES, prev_state[0], tcp_state_str),
	WORD("tcp.prev_server_state", MOVES, prev_state[1], tcp_state_str),
	/* SEGMENT_NONE is the last one, and no word of a line. */
	{ .path = "tcp.segment",
	  .kinds = TCP & ~(STUCK | SNAP),
	  .type = MEMBER_STRING,
	  FROM(READ_WORD, segment),
	  .words = event_segment_str,
	  .nwords = SEGMENT_NONE },
	WORD("tcp.basis", OPEN | MOVES, basis, event_basis_str, .when = WHEN_CAUSED),
	INTEGER("tcp.client_prev_ns", MOVES, prev_state_ns[0], .when = WHEN_KNOWN),
	INTEGER("tcp.server_prev_ns", MOVES, prev_state_ns[1], .when = WHEN_KNOWN),
	INTEGER("tcp.client_state_ns", SNAP, prev_state_ns[0], .when = WHEN_KNOWN),
	INTEGER("tcp.server_state_ns", SNAP, prev_state_ns[1], .when = WHEN_KNOWN),
	SPECIAL("tcp.idle_ns", SNAP, MEMBER_INTEGER, READ_IDLE),
	BOOL("tcp.midstream", OPEN | CLOSE | SNAP, midstream),
	WORD("tcp.direction_basis", OPEN | SNAP, direction_basis, direction_basis_str),
	ID("tcp.prev_flow_id", OPEN, open.prev_flow_id, .when = WHEN_NONZERO),

	GROUP("tcp.options", OPEN, .when = WHEN_OFFERED),
	GROUP("tcp.options", ESTAB),
	{ .path = "tcp.options",
	  .kinds = SEG,
	  .type = MEMBER_GROUP,
	  FROM(READ_PRESENCE, wire.has_options),
	  .when = WHEN_NONZERO },
	BOOL("tcp.options.sack", OPEN, open.options.sack, .when = WHEN_OFFERED),
	BOOL("tcp.options.sack", ESTAB, established.options.sack),
	BOOL("tcp.options.timestamps", OPEN, open.options.timestamps, .when = WHEN_OFFERED),
	BOOL("tcp.options.timestamps", ESTAB, established.options.timestamps),
	BOOL("tcp.options.tfo", OPEN, open.options.tfo, .when = WHEN_OFFERED),
	BOOL("tcp.options.tfo", ESTAB, established.options.tfo),
	BOOL("tcp.options.ecn", OPEN, open.options.ecn, .when = WHEN_OFFERED),
	BOOL("tcp.options.ecn", ESTAB, established.options.ecn),
	BOOL("tcp.options.mptcp", OPEN, open.options.mptcp, .when = WHEN_OFFERED),
	BOOL("tcp.options.mptcp", ESTAB, established.options.mptcp),
	INTEGER("tcp.options.mss", OPEN, open.options.mss, .when = WHEN_OFFERED | WHEN_NONZERO),
	INTEGER("tcp.options.mss", ESTAB, established.options.mss, .when = WHEN_NONZERO),
	INTEGER("tcp.options.mss", SEG, wire.mss, .when = WHEN_NONZERO),
	INTEGER("tcp.options.wscale", OPEN, open.options.wscale[0],
		.when = WHEN_OFFERED | WHEN_SCALED),
	INTEGER("tcp.options.wscale", SEG, wire.wscale, .when = WHEN_KNOWN),
	BOOL("tcp.options.sack_permitted", SEG, wire.sack_permitted, .when = WHEN_NONZERO),
	INTEGER("tcp.options.tsval", SEG, wire.tsval, .when = WHEN_KNOWN),
	INTEGER("tcp.options.tsecr", SEG, wire.tsecr, .when = WHEN_KNOWN),
	INTEGER("tcp.options.sack_blocks", SEG, wire.sack_blocks, .when = WHEN_NONZERO),
	INTEGER("tcp.options.client_wscale", ESTAB, established.options.wscale[0],
		.when = WHEN_SCALED),
	INTEGER("tcp.options.server_wscale", ESTAB, established.options.wscale[1],
		.when = WHEN_SCALED),

	GROUP("tcp.handshake", ESTAB),
	GROUP("tcp.handshake", SNAP, .when = WHEN_ANSWERED),
	INTEGER("tcp.handshake.syn_retrans", ESTAB, established.syn_retrans),
	INTEGER("tcp.handshake.synack_retrans", ESTAB, established.synack_retrans),
	INTEGER("tcp.handshake.server_rtt_ns", ESTAB, established.server_rtt_ns,
		.when = WHEN_KNOWN),
	SPECIAL("tcp.handshake.server_rtt_ns", SNAP, MEMBER_INTEGER, READ_RTT,
		.when = WHEN_ANSWERED),
	INTEGER("tcp.handshake.client_rtt_ns", ESTAB, established.client_rtt_ns,
		.when = WHEN_KNOWN),
	INTEGER("tcp.handshake.total_ns", ESTAB, established.total_ns, .when = WHEN_KNOWN),

	WORD("tcp.reason", CLOSE, close.reason, close_reason_str),
	WORD("tcp.closed_by", SUMS, close.closed_by, closed_by_str),
	WORD("tcp.outstanding", SUMS, close.outstanding, outstanding_str, .when = WHEN_NONZERO),
	WORD("tcp.teardown", CLOSE, close.teardown, teardown_str),
	WORD("tcp.conn_state", SUMS, close.conn_state, conn_state_str),
	SPECIAL("tcp.history", SUMS, MEMBER_STRING, READ_HISTORY),
	INTEGER("tcp.completeness", SUMS, close.completeness, .when = WHEN_SEGMENTS),
	BOOL("tcp.lossy", SUMS, close.lossy),

	WORD("tcp.kind", ANOMALY, anomaly.kind, anomaly_str),
	SIDE("tcp.from", RETRY, retry.from),
	SIDE("tcp.from", ANOMALY, anomaly.from),
	SIDE("tcp.from", SEG, wire.from),
	INTEGER("tcp.count", RETRY, retry.count),
	INTEGER("tcp.count", ANOMALY, anomaly.count),
	INTEGER("tcp.waited_ns", RETRY, retry.waited_ns),
	SIDE("tcp.waits_for", STUCK, stuck.waits_for),
	INTEGER("tcp.silent_ns", STUCK, stuck.silent_ns),

	SPECIAL("tcp.flags", SEG, MEMBER_STRING, READ_FLAGS),
	INTEGER("tcp.seq", SEG, wire.seq),
	INTEGER("tcp.ack", SEG, wire.ack, .when = WHEN_KNOWN),
	INTEGER("tcp.payload_len", SEG, wire.payload_len),
	INTEGER("tcp.window", SEG, wire.window),
	INTEGER("tcp.window_scale", SEG, wire.window_scale, .when = WHEN_KNOWN),
	INTEGER("tcp.wire_segs", SEG, wire.wire_segs),

	GROUP("flow", SUMS),
	TIME("flow.start", SUMS, close.start_ns),
	TIME("flow.end", CLOSE, close.end_ns),
	SPECIAL("flow.age_ns", SUMS, MEMBER_INTEGER, READ_AGE),
	CONSTANT("flow.counts", SUMS, counts_str, .when = WHEN_SEQUENCE),
	INTEGER("flow.stream_toserver", SUMS, close.payload[0], .when = WHEN_SEQUENCE | WHEN_KNOWN),
	INTEGER("flow.stream_toclient", SUMS, close.payload[1], .when = WHEN_SEQUENCE | WHEN_KNOWN),
	INTEGER("flow.pkts_toserver", SUMS, close.pkts[0], .when = WHEN_SEGMENTS),
	INTEGER("flow.pkts_toclient", SUMS, close.pkts[1], .when = WHEN_SEGMENTS),
	INTEGER("flow.bytes_toserver", SUMS, close.bytes[0], .when = WHEN_SEGMENTS),
	INTEGER("flow.bytes_toclient", SUMS, close.bytes[1], .when = WHEN_SEGMENTS),
	INTEGER("flow.payload_toserver", SUMS, close.payload[0], .when = WHEN_SEGMENTS),
	INTEGER("flow.payload_toclient", SUMS, close.payload[1], .when = WHEN_SEGMENTS),
	INTEGER("flow.retrans_toserver", SUMS, close.retrans[0], .when = WHEN_SEGMENTS),
	INTEGER("flow.retrans_toclient", SUMS, close.retrans[1], .when = WHEN_SEGMENTS),
	INTEGER("flow.gap_bytes", SUMS, close.gap_bytes, .when = WHEN_SEGMENTS),

	GROUP("flood", FLOOD),
	SPECIAL("flood.id", FLOOD, MEMBER_STRING, READ_FLOW_ID),
	WORD("flood.phase", FLOOD, flood.phase, synflood_phase_str),
	TIME("flood.started", FLOOD, flood.started_ns),
	INTEGER("flood.attempts", FLOOD, flood.count[SYNFLOOD_ATTEMPTS]),
	INTEGER("flood.answered", FLOOD, flood.count[SYNFLOOD_ANSWERED]),
	INTEGER("flood.late", FLOOD, flood.count[SYNFLOOD_LATE]),
	INTEGER("flood.completed", FLOOD, flood.count[SYNFLOOD_COMPLETED]),
	INTEGER("flood.told", FLOOD, flood.count[SYNFLOOD_REPORTED]),
	INTEGER("flood.refused", FLOOD, flood.count[SYNFLOOD_REFUSED]),
	INTEGER("flood.expired", FLOOD, flood.count[SYNFLOOD_EXPIRED]),
	INTEGER("flood.evicted", FLOOD, flood.count[SYNFLOOD_EVICTED]),
	INTEGER("flood.replaced", FLOOD, flood.count[SYNFLOOD_REPLACED]),
	INTEGER("flood.half_open", FLOOD, flood.half_open),
	INTEGER("flood.new_attempts", FLOOD, flood.new_attempts),
	INTEGER("flood.rate", FLOOD, flood.rate),
	INTEGER("flood.decoders", FLOOD, flood.shares, .when = WHEN_SEVERAL),

	INTEGER("count", LOSS, loss.count),
	LINE("count", LOST, MEMBER_INTEGER),
	INTEGER("freezes", LOSS, loss.freezes),
	TIME("from", LOSS, loss.from_ns),
	TIME("to", LOSS, loss.to_ns),
	WORD("reason", LOSS, loss.reason, loss_reason_str, .when = WHEN_NONZERO),
	LINE_WORD("reason", LOST, lost_str),

	LINE("first_seq", LOST, MEMBER_INTEGER),
	LINE("last_seq", LOST, MEMBER_INTEGER),
	LINE_WORD("state", IFACE, iface_str),
	LINE_WORD("cause", RESTART, cause_str),
	LINE("down_ns", RESTART, MEMBER_INTEGER),
	LINE_WORD("tables", RESTART, tables_str),
	LINE("reset", RESTART, MEMBER_GROUP),
	LINE("reset_more", RESTART, MEMBER_INTEGER),
	LINE("recovery", RESTART, MEMBER_GROUP),
	LINE("interval_ns", STATS, MEMBER_INTEGER),
	LINE("decoders", STATS, MEMBER_GROUP),
	LINE("interfaces", STATS, MEMBER_GROUP),
	LINE("subscribers", STATS, MEMBER_GROUP),
	LINE("subscribers.connected", STATS, MEMBER_INTEGER),
	LINE("subscribers.accepted", STATS, MEMBER_INTEGER),
	LINE("subscribers.refused", STATS, MEMBER_INTEGER),
	LINE("subscribers.refused_by", STATS, MEMBER_GROUP),
	LINE("subscribers.refused_by.unlisted", STATS, MEMBER_INTEGER),
	LINE("subscribers.refused_by.uid_limit", STATS, MEMBER_INTEGER),
	LINE("subscribers.refused_by.limit", STATS, MEMBER_INTEGER),
	LINE("subscribers.refused_by.unknown", STATS, MEMBER_INTEGER),
	LINE("subscribers.refused_by.rate_limit", STATS, MEMBER_INTEGER),
	LINE("subscribers.lost_events", STATS, MEMBER_INTEGER),
};
const unsigned member_count = ARRAY_SIZE(member_table);
_Static_assert(ARRAY_SIZE(member_table) <= MEMBERS_MAX, "a row has its number in 8 bits");

/* ---- of a record ----------------------------------------------------------------------------- */

static uint64_t number_at(const struct event *e, const struct member *m)
{
	const char *p = (const char *)e + m->at;
	uint16_t two;
	uint32_t four;
	uint64_t eight;

	switch (m->width) {
	case 1:
		return *(const uint8_t *)p;
	case sizeof two:
		return memcpy(&two, p, sizeof two), two;
	case sizeof four:
		return memcpy(&four, p, sizeof four), four;
	default:
		return memcpy(&eight, p, sizeof eight), eight;
	}
}

static bool present(const struct member *m, const struct event *e, const struct json_context *c)
{
	unsigned when = m->when;
	uint8_t wscale = e->kind == EVENT_TCP_OPEN ? e->open.options.wscale[0]
						   : e->established.options.wscale[0];

	return !((when & WHEN_NONZERO && !number_at(e, m)) ||
		 (when & WHEN_KNOWN && number_at(e, m) == DURATION_UNKNOWN) ||
		 (when & WHEN_CAUSED && e->segment == SEGMENT_NONE) ||
		 (when & WHEN_OFFERED && !e->open.has_options) ||
		 (when & WHEN_SCALED && wscale == TCPOPT_WSCALE_NONE) ||
		 (when & WHEN_SEGMENTS && e->close.counts != COUNTS_SEGMENTS) ||
		 (when & WHEN_SEQUENCE && e->close.counts != COUNTS_SEQUENCE) ||
		 (when & WHEN_TUNNEL && c->tunnel.type == TUNNEL_NONE) ||
		 (when & WHEN_SEVERAL && e->flood.shares < 2) ||
		 (when & WHEN_ANSWERED && dur32_ns(e->snapshot.server_rtt) == DURATION_UNKNOWN));
}

static int64_t limited(uint64_t n)
{
	return n > INT64_MAX ? INT64_MAX : (int64_t)n;
}

static bool give_integer(struct member_value *v, uint64_t n)
{
	v->integer = limited(n);
	return true;
}

static bool give_text(struct member_value *v, const char *text, size_t n)
{
	v->text = text;
	v->n = n;
	return true;
}

static bool give_id(struct member_value *v, uint64_t id)
{
	return give_text(v, v->space, (size_t)(fmt_hex64(v->space, id) - v->space));
}

static bool give_word(struct member_value *v, const struct member *m, uint64_t i)
{
	return i < m->nwords && give_text(v, m->words[i].s, m->words[i].n);
}

/* A name as the line has it: U+FFFD in the place of each octet that is not UTF-8. */
static bool give_name(struct member_value *v, const char *s)
{
	const char *begin = s;
	char *p = v->space;
	unsigned n = 1;

	for (; *s && (n = strbuf_utf8_length(s)); s += n)
		;
	if (n)
		return give_text(v, begin, (size_t)(s - begin));
	for (s = begin; *s; s += n ? n : 1) {
		n = strbuf_utf8_length(s);
		if (p > v->space + MEMBER_TEXT_MAX - 4)
			return false; /* such an event has no line */
		p = n ? fmt_octets(p, s, n) : fmt_lit(p, "\xef\xbf\xbd");
	}
	return give_text(v, v->space, (size_t)(p - v->space));
}

static bool give_vlan(struct member_value *v, const struct event *e)
{
	v->items = e->nvlan > MEMBER_LIST_MAX ? MEMBER_LIST_MAX : e->nvlan;
	for (unsigned i = 0; i < MEMBER_LIST_MAX; i++)
		v->item[i] = e->vlan[i];
	return v->items;
}

static bool give_tunnel(struct member_value *v, const struct tunnel *u)
{
	const char *name = tunnel_name(u->type);

	return give_text(v, name, strlen(name));
}

static bool give_community(struct member_value *v, const struct event *e,
			   const struct json_context *c)
{
	if (c->community == COMMUNITY_OFF ||
	    (c->community == COMMUNITY_OPEN_CLOSE && e->kind != EVENT_TCP_OPEN &&
	     e->kind != EVENT_TCP_CLOSE && e->kind != EVENT_SNAPSHOT))
		return false;
	community_id_of(v->space, e->ip_v, c->community_seed, e->addr[0], e->port[0], e->addr[1],
			e->port[1]);
	return give_text(v, v->space, COMMUNITY_ID_CHARS);
}

static bool give_age(struct member_value *v, const struct event *e)
{
	uint64_t end = e->kind == EVENT_SNAPSHOT ? e->ts_ns : e->close.end_ns;

	return give_integer(v, end > e->close.start_ns ? end - e->close.start_ns : 0);
}

static bool give_idle(struct member_value *v, const struct event *e)
{
	uint64_t last = e->snapshot.end_ns;

	return give_integer(v, e->ts_ns > last ? e->ts_ns - last : 0);
}

bool member_is_formatted(const struct member *m)
{
	return m->read == READ_TIME || m->read == READ_ID || m->read == READ_FLOW_ID ||
	       m->read == READ_COMMUNITY || m->read == READ_HISTORY;
}

bool member_is_kind(const struct member *m)
{
	return m->words == event_kind_str;
}

bool member_is_word(const struct member *m)
{
	return m->read == READ_WORD || m->read == READ_SIDE;
}

bool member_is_number(const struct member *m)
{
	return m->read == READ_NUMBER && !m->when;
}

int64_t member_number_of_event(const struct member *m, const struct event *e)
{
	return limited(number_at(e, m));
}

int member_word_of_event(const struct member *m, const struct event *e,
			 const struct json_context *c)
{
	uint64_t i = number_at(e, m);

	if (m->when && !present(m, e, c))
		return -1;
	if (m->read == READ_SIDE)
		i = i != SIDE_A;
	return i < m->nwords ? (int)i : -1;
}

bool member_of_event(const struct member *m, const struct event *e, uint64_t seq,
		     const struct json_context *c, struct member_value *v)
{
	if (m->when && !present(m, e, c))
		return false;
	switch ((enum read)m->read) {
	case READ_LINE:
		return false;
	case READ_NUMBER:
		return give_integer(v, number_at(e, m));
	case READ_BOOL:
		v->truth = number_at(e, m);
		return true;
	case READ_WORD:
		return give_word(v, m, number_at(e, m));
	case READ_SIDE:
		return give_word(v, m, number_at(e, m) != SIDE_A);
	case READ_CONSTANT:
		return give_word(v, m, 0);
	case READ_TIME: /* without its quotes */
		fmt_timestamp(v->space, number_at(e, m));
		return give_text(v, v->space + 1, FMT_TIMESTAMP_MAX - 2);
	case READ_ID:
		return give_id(v, number_at(e, m));
	case READ_ADDRESS:
		v->text = NULL;
		v->addr = (const uint8_t *)e + m->at;
		v->ip_v = e->ip_v == 4 ? 4 : 6;
		return true;
	case READ_PRESENCE:
		return true;
	case READ_SEQ:
		return give_integer(v, seq);
	case READ_FLOW_ID:
		return give_id(v, e->flow_id);
	case READ_IFACE:
		return give_name(v, c->iface);
	case READ_VLAN:
		return give_vlan(v, e);
	case READ_TUNNEL_TYPE:
		return give_tunnel(v, &c->tunnel);
	case READ_TUNNEL_ID:
		return c->tunnel.has_id && give_integer(v, c->tunnel.id);
	case READ_COMMUNITY:
		return give_community(v, e, c);
	case READ_HISTORY:
		return give_text(v, v->space, history_text(e->close.history, v->space));
	case READ_AGE:
		return give_age(v, e);
	case READ_IDLE:
		return give_idle(v, e);
	case READ_FLAGS:
		return give_text(v, v->space, tcp_flags_text(e->wire.flags, v->space));
	case READ_RTT:
		return give_integer(v, dur32_ns(e->snapshot.server_rtt));
	}
	return false;
}

void member_address_text(struct member_value *v)
{
	if (v->text)
		return;
	give_text(
		v, v->space,
		(size_t)((v->ip_v == 4 ? fmt_ip4(v->space, v->addr) : fmt_ip6(v->space, v->addr)) -
			 v->space));
}

/* ---- of a line ------------------------------------------------------------------------------- */

static bool digit(char c)
{
	return c >= '0' && c <= '9';
}

/* Reads a number that begins at *@s. */
static uint64_t number_of(const char **s, const char *end)
{
	uint64_t n = 0;

	for (; *s < end && digit(**s); ++*s)
		n = n >= UINT64_MAX / 10 ? UINT64_MAX : n * 10 + (uint64_t)(**s - '0');
	return n;
}

static unsigned hex_digit(char c)
{
	return digit(c) ? (unsigned)(c - '0') : (unsigned)((c | 0x20) - 'a' + 10) & 15;
}

/* One UTF-16 unit as UTF-8; the encoder escapes no character that needs two of them. */
static char *fmt_unit(char *p, const char *hex)
{
	unsigned u = hex_digit(hex[0]) << 12 | hex_digit(hex[1]) << 8 | hex_digit(hex[2]) << 4 |
		     hex_digit(hex[3]);

	if (u < 0x80) {
		*p++ = (char)u;
	} else if (u < 0x800) {
		*p++ = (char)(0xc0 | u >> 6);
		*p++ = (char)(0x80 | (u & 0x3f));
	} else {
		*p++ = (char)(0xe0 | u >> 12);
		*p++ = (char)(0x80 | (u >> 6 & 0x3f));
		*p++ = (char)(0x80 | (u & 0x3f));
	}
	return p;
}

/* @s without its quotes. */
static bool string_of(const char *s, size_t n, struct member_value *v)
{
	static const char escape[] = "\"\\/bfnrt", meaning[] = "\"\\/\b\f\n\r\t";
	const char *end = s + n;
	char *p = v->space;

	if (!memchr(s, '\\', n))
		return give_text(v, s, n);
	while (s < end) {
		const char *found;

		if (p > v->space + MEMBER_TEXT_MAX - 4)
			return false;
		if (*s != '\\') {
			*p++ = *s++;
		} else if (end - s >= 6 && s[1] == 'u') {
			p = fmt_unit(p, s + 2);
			s += 6;
		} else if (end - s >= 2 && s[1] && (found = strchr(escape, s[1]))) {
			*p++ = meaning[found - escape];
			s += 2;
		} else {
			return false;
		}
	}
	return give_text(v, v->space, (size_t)(p - v->space));
}

static bool address_of(struct member_value *v)
{
	char text[INET6_ADDRSTRLEN];

	if (v->n >= sizeof text)
		return false;
	memcpy(text, v->text, v->n);
	text[v->n] = '\0';
	v->addr = v->octets;
	v->ip_v = memchr(text, ':', v->n) ? 6 : 4;
	return inet_pton(v->ip_v == 4 ? AF_INET : AF_INET6, text, v->octets) == 1;
}

/* @s is after the bracket. */
static bool list_of(const char *s, const char *end, struct member_value *v)
{
	v->items = 0;
	while (s < end && *s != ']' && v->items < MEMBER_LIST_MAX)
		if (digit(*s))
			v->item[v->items++] = (uint16_t)number_of(&s, end);
		else
			s++;
	return v->items;
}

bool member_of_text(const struct member *m, const char *json, size_t n, struct member_value *v)
{
	const char *end = json + n;
	bool string = n >= 2 && *json == '"';

	if (!n)
		return false;
	switch ((enum member_type)m->type) {
	case MEMBER_INTEGER:
		return digit(*json) && give_integer(v, number_of(&json, end));
	case MEMBER_BOOL:
		v->truth = *json == 't';
		return *json == 't' || *json == 'f';
	case MEMBER_STRING:
	case MEMBER_TIME:
		return string && string_of(json + 1, n - 2, v);
	case MEMBER_ADDRESS:
		return string && string_of(json + 1, n - 2, v) && address_of(v);
	case MEMBER_LIST:
		return *json == '[' && list_of(json + 1, end, v);
	case MEMBER_GROUP:
		return *json == '{' || *json == '[';
	}
	return false;
}

/* ---- words ----------------------------------------------------------------------------------- */

const char *member_word(const struct member *m, unsigned i)
{
	if (m->read == READ_TUNNEL_TYPE)
		return i + 1 < TUNNEL_TYPES ? tunnel_name(i + 1) : NULL;
	i += m->when & WHEN_NONZERO ? 1 : 0; /* the first one is never said */
	return i < m->nwords ? m->words[i].s : NULL;
}
