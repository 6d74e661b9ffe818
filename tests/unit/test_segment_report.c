#include <string.h>
#include "base/cc.h"
#include "flow/segment_report.h"
#include "flow/tracker.h"
#include "tests/support/rand.h"
#include "tests/support/tap.h"
#include "wire/segment.h"
#include "wire/tcpopt.h"

static const uint64_t second = 1000000000, start_ns = 1700000000000000000;

enum { CLIENT, SERVER, ISN_C = -3, ISN_S = 0x7ffffff0 }; /* the client's numbers turn over soon */

struct rig {
	struct event_sink sink; /* first */
	struct tracker_config cfg;
	struct tracker_counters count;
	struct tracker *t;
	void *memory;
	struct event last; /* that the tracker reported */
	uint64_t now;
};

static struct event *rig_reserve(struct event_sink *s)
{
	return &((struct rig *)s)->last;
}

static void rig_commit(struct event_sink *s)
{
	(void)s;
}

static struct rig *rig_new(void)
{
	struct rig *r = calloc(1, sizeof *r);
	size_t octets;

	r->sink = (struct event_sink){ .reserve = rig_reserve, .commit = rig_commit };
	r->cfg = (struct tracker_config){ .max_connections = 100,
					  .max_half_open = 100,
					  .anomalies_per_connection = 3,
					  .anomalies_per_second = 1000,
					  .recorded = true };
	for (unsigned i = 0; i < FSM_TIMEOUTS; i++)
		r->cfg.timeout_ns[i] = 60 * second;
	r->cfg.secret = (struct hash_key){ { rand64(), rand64(), rand64(), rand64(), rand64(),
					     rand64(), rand64(), rand64() } };
	octets = (tracker_memory(&r->cfg) + CACHE_LINE - 1) / CACHE_LINE * CACHE_LINE;
	r->memory = memset(aligned_alloc(CACHE_LINE, octets), 0, octets);
	r->t = tracker_new(&r->cfg, r->memory, &r->sink, &r->count);
	r->now = start_ns;
	return r;
}

static void rig_free(struct rig *r)
{
	tracker_free(r->t);
	free(r->memory);
	free(r);
}

static struct segment seg(unsigned from, unsigned flags, uint32_t seq, uint32_t ack, uint32_t len)
{
	struct segment s = { .ip_v = 4,
			     .flags = (uint16_t)flags,
			     .window = 500,
			     .wire_segs = 1,
			     .seq = seq,
			     .ack = ack,
			     .payload_len = len,
			     .wire_len = 54 + len,
			     .sport = from ? 80 : 40000,
			     .dport = from ? 40000 : 80 };

	memcpy(from ? s.dst : s.src, (uint8_t[4]){ 10, 0, 0, 1 }, 4);
	memcpy(from ? s.src : s.dst, (uint8_t[4]){ 10, 0, 0, 2 }, 4);
	return s;
}

/* The record of a segment that the tracker has processed; NULL: it belongs to no connection. */
static const struct event *report(struct rig *r, struct segment s)
{
	static struct event e;

	r->now += 1000000;
	s.ts_ns = r->now;
	tracker_input(r->t, &s, 1);
	memset(&e, 0xa5, sizeof e);
	return segment_report(r->t, &s, 5, &e) ? &e : NULL;
}

static bool numbers(const struct event *e, uint64_t seq, uint64_t ack)
{
	return e && e->wire.seq == seq && e->wire.ack == ack;
}

static const struct event *handshake(struct rig *r)
{
	report(r, seg(CLIENT, TCP_SYN, (uint32_t)ISN_C, 0, 0));
	report(r, seg(SERVER, TCP_SYN | TCP_ACK, ISN_S, (uint32_t)ISN_C + 1, 0));
	return report(r, seg(CLIENT, TCP_ACK, (uint32_t)ISN_C + 1, ISN_S + 1, 0));
}

static void test_numbers(void)
{
	struct rig *r = rig_new();
	const struct event *e = report(r, seg(CLIENT, TCP_SYN, (uint32_t)ISN_C, 0, 0));

	ok(e && e->kind == EVENT_TCP_SEGMENT && e->ts_ns == r->now && e->wire.endpoints == 5,
	   "a record of its kind, time and endpoints");
	ok(numbers(e, 0, DURATION_UNKNOWN) && e->wire.from == CLIENT && e->wire.flags == TCP_SYN,
	   "the SYN has 0, and no ACK");
	ok(numbers(report(r, seg(SERVER, TCP_SYN | TCP_ACK, ISN_S, (uint32_t)ISN_C + 1, 0)), 0, 1),
	   "the SYN-ACK has 0, and acknowledges 1");
	e = report(r, seg(CLIENT, TCP_ACK, (uint32_t)ISN_C + 1, ISN_S + 1, 100));
	ok(numbers(e, 1, 1) && e->wire.payload_len == 100 && e->wire.window == 500,
	   "the first data has 1");
	ok(numbers(report(r, seg(CLIENT, TCP_ACK, (uint32_t)ISN_C + 101, ISN_S + 1, 7)), 101, 1),
	   "numbers that turned over go on");
	e = report(r, seg(SERVER, TCP_ACK, ISN_S + 1, (uint32_t)ISN_C + 108, 0));
	ok(numbers(e, 1, 108) && e->wire.from == SERVER,
	   "the other side is counted from its own SYN");
	ok(numbers(report(r, seg(CLIENT, TCP_ACK, (uint32_t)ISN_C + 1, ISN_S + 1, 100)), 1, 1),
	   "a repetition has its number again");
	ok(numbers(report(r, seg(CLIENT, TCP_ACK, (uint32_t)ISN_C, ISN_S + 1, 0)), 0, 1),
	   "a keep-alive has the number before");
	rig_free(r);
}

static void test_states(void)
{
	struct rig *r = rig_new();
	const struct event *e = handshake(r);
	uint64_t id = e->flow_id;

	ok(e->state[0] == TCPS_ESTABLISHED && e->state[1] == TCPS_ESTABLISHED,
	   "the states are those after the segment");
	e = report(r, seg(SERVER, TCP_FIN | TCP_ACK, ISN_S + 1, (uint32_t)ISN_C + 1, 0));
	ok(e->state[1] == TCPS_FIN_WAIT_1 && e->state[0] == TCPS_ESTABLISHED && e->flow_id == id,
	   "of either side, and the connection is the same");
	report(r, seg(CLIENT, TCP_RST | TCP_ACK, (uint32_t)ISN_C + 1, ISN_S + 2, 0));
	e = report(r, seg(SERVER, TCP_ACK, ISN_S + 2, (uint32_t)ISN_C + 1, 0));
	ok(e && e->flow_id == id && numbers(e, 2, 1),
	   "what comes after the end, and is remembered, is of the same connection");
	ok(!report(r, (struct segment){ .ip_v = 4, .flags = TCP_RST, .sport = 7, .dport = 8 }),
	   "a segment of no connection has no record");
	rig_free(r);
}

static void test_midstream(void)
{
	struct rig *r = rig_new();

	ok(numbers(report(r, seg(SERVER, TCP_ACK, 5000, 900000, 10)), 1, 1),
	   "mid-stream, the first number that is seen is 1, and so is what it acknowledges");
	ok(numbers(report(r, seg(CLIENT, TCP_ACK, 900000, 5010, 3)), 1, 11),
	   "the other side is counted from what was acknowledged");
	ok(numbers(report(r, seg(SERVER, TCP_ACK, 5010, 900003, 1)), 11, 4), "and so on");
	rig_free(r);
}

/* A SYN with another ISN on the same 4-tuple. */
static void test_new_connection(void)
{
	struct rig *r = rig_new();
	uint64_t id = report(r, seg(CLIENT, TCP_SYN, 100, 0, 0))->flow_id;
	const struct event *e = report(r, seg(CLIENT, TCP_SYN, 9000, 0, 0));

	ok(numbers(e, 0, DURATION_UNKNOWN) && e->flow_id != id,
	   "a new connection of the same 4-tuple is counted anew");
	handshake(r);
	e = report(r, seg(CLIENT, TCP_ACK, (uint32_t)ISN_C + 1, ISN_S + 1, 4));
	id = e->flow_id;
	ok(numbers(e, 1, 1), "as often as there is one");
	e = report(r, seg(CLIENT, TCP_SYN, 777777, 0, 0));
	ok(numbers(e, 0, DURATION_UNKNOWN) && e->flow_id != id,
	   "a SYN beside a living connection is of the attempt");
	e = report(r, seg(SERVER, TCP_ACK, ISN_S + 1, (uint32_t)ISN_C + 5, 0));
	ok(numbers(e, 1, 5) && e->flow_id == id, "and what follows of the living one");
	rig_free(r);
}

/* A key has the lower address first, whoever that is. */
static struct segment turned(struct segment s)
{
	uint8_t addr[sizeof s.src];

	memcpy(addr, s.src, sizeof addr);
	memcpy(s.src, s.dst, sizeof addr);
	memcpy(s.dst, addr, sizeof addr);
	return s;
}

static void test_turned(void)
{
	struct rig *r = rig_new();
	const struct event *e = report(r, turned(seg(CLIENT, TCP_SYN, 100, 0, 0)));

	ok(numbers(e, 0, DURATION_UNKNOWN) && e->wire.from == CLIENT,
	   "a client of the higher address");
	e = report(r, turned(seg(SERVER, TCP_SYN | TCP_ACK, 500, 101, 0)));
	ok(numbers(e, 0, 1) && e->wire.from == SERVER, "and its server");
	rig_free(r);
}

static struct segment with_options(struct segment s, const char *octets, size_t n)
{
	s.options = (struct span){ (const uint8_t *)octets, n };
	return s;
}

#define WITH(s, literal) with_options(s, literal, sizeof(literal) - 1)

static void test_options(void)
{
	struct rig *r = rig_new();
	const struct event *e = report(r, WITH(seg(CLIENT, TCP_SYN, 100, 0, 0),
					       "\2\4\5\xb4\3\3\7\4\2\10\12\0\0\0\5\0\0\0\0"));

	ok(e->wire.has_options && e->wire.mss == 1460 && e->wire.wscale == 7 &&
		   e->wire.sack_permitted && e->wire.tsval == 5 && !e->wire.sack_blocks,
	   "options of a SYN");
	ok(e->wire.tsecr == DURATION_UNKNOWN, "TSecr is nothing without an ACK");
	ok(e->wire.window_scale == DURATION_UNKNOWN, "the window of a SYN is not scaled");
	report(r, WITH(seg(SERVER, TCP_SYN | TCP_ACK, 500, 101, 0), "\2\4\5\xb4\3\3\2"));
	e = report(r, WITH(seg(CLIENT, TCP_ACK, 101, 501, 0),
			   "\1\1\10\12\0\0\0\6\0\0\0\0\1\1\5\22abcdefghABCDEFGH"));
	ok(e->wire.window_scale == 7 && e->wire.tsecr == 0 && e->wire.sack_blocks == 2 &&
		   !e->wire.mss && e->wire.wscale == DURATION_UNKNOWN && e->wire.has_options,
	   "of a later segment: scale of its sender, TSecr, blocks of SACK");
	e = report(r, seg(SERVER, TCP_ACK, 501, 101, 0));
	ok(e->wire.window_scale == 2 && !e->wire.has_options && e->wire.tsval == DURATION_UNKNOWN,
	   "the other side has its own scale; without options there are none");
	rig_free(r);
}

int main(void)
{
	test_numbers();
	test_states();
	test_midstream();
	test_new_connection();
	test_turned();
	test_options();
	return tap_done();
}
