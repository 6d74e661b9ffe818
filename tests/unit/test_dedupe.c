/* The tracker with origins: which segments count, whose they are, what is counted of the others.
 * conformance/dedupe.py compares whole streams. */
#include <stdlib.h>
#include <string.h>
#include "base/cc.h"
#include "flow/origin.h"
#include "flow/segment_report.h"
#include "flow/tracker.h"
#include "tests/support/tap.h"
#include "wire/segment.h"

static const uint64_t ms = 1000000, second = 1000000000, start_ns = 1700000000000000000;

enum { CLIENT, SERVER, EVENTS = 256 };

struct rig {
	struct event_sink sink; /* first */
	struct tracker_counters count;
	struct origins origins;
	struct tracker *t;
	void *memory;
	struct event event[EVENTS], segment; /* the newest that was reported one by one */
	unsigned n;
	uint64_t now;
};

static struct event *rig_reserve(struct event_sink *s)
{
	struct rig *r = (struct rig *)s;

	if (r->n == EVENTS)
		abort();
	return &r->event[r->n];
}

static void rig_commit(struct event_sink *s)
{
	((struct rig *)s)->n++;
}

static struct rig *rig_new(void)
{
	struct rig *r = calloc(1, sizeof *r);
	struct tracker_config cfg = { .max_connections = 100,
				      .max_half_open = 100,
				      .anomalies_per_connection = 3,
				      .anomalies_per_second = 1000,
				      .origins = &r->origins };
	size_t octets = LINE_UP(tracker_memory(&cfg));

	for (unsigned i = 0; i < FSM_TIMEOUTS; i++)
		cfg.timeout_ns[i] = 60 * second;
	r->sink = (struct event_sink){ .reserve = rig_reserve, .commit = rig_commit };
	origins_init(&r->origins, calloc(1, origins_memory()), &cfg.secret, NULL);
	r->origins.limit = ORIGINS_DEDUPED;
	r->memory = memset(aligned_alloc(CACHE_LINE, octets), 0, octets);
	r->t = tracker_new(&cfg, r->memory, &r->sink, &r->count);
	r->now = start_ns;
	return r;
}

static void rig_free(struct rig *r)
{
	tracker_free(r->t);
	free(r->origins.memory);
	free(r->memory);
	free(r);
}

static struct segment seg(uint16_t iface, unsigned from, unsigned flags, uint32_t seq, uint32_t ack)
{
	struct segment s = { .ip_v = 4,
			     .iface = iface,
			     .flags = (uint16_t)flags,
			     .window = 500,
			     .wire_segs = 1,
			     .seq = seq,
			     .ack = ack,
			     .wire_len = 54,
			     .sport = from ? 80 : 40000,
			     .dport = from ? 40000 : 80 };

	memcpy(from ? s.dst : s.src, (uint8_t[4]){ 10, 0, 0, 1 }, 4);
	memcpy(from ? s.src : s.dst, (uint8_t[4]){ 10, 0, 0, 2 }, 4);
	return s;
}

/* Is it of a connection?  False: it was a copy. */
static bool take(struct rig *r, struct segment s)
{
	s.ts_ns = r->now += ms;
	tracker_input(r->t, &s, 1);
	return segment_report(r->t, &s, 1, &r->segment);
}

static bool syn(struct rig *r, uint16_t iface, uint32_t isn)
{
	return take(r, seg(iface, CLIENT, TCP_SYN, isn, 0));
}

static bool syn_ack(struct rig *r, uint16_t iface, uint32_t isn)
{
	return take(r, seg(iface, SERVER, TCP_SYN | TCP_ACK, ~isn, isn + 1));
}

static bool third(struct rig *r, uint16_t iface, uint32_t isn)
{
	return take(r, seg(iface, CLIENT, TCP_ACK, isn + 1, ~isn + 1));
}

static const struct event *last(const struct rig *r)
{
	return &r->event[r->n - 1];
}

static bool counts(const struct rig *r, uint64_t opened, uint64_t copies, uint64_t full)
{
	return r->count.opened.v == opened && r->count.copies.v == copies &&
	       r->count.dedupe_full.v == full;
}

static void test_owners(void)
{
	struct rig *r = rig_new();

	ok(syn(r, 1, 100) && !syn(r, 2, 100) && !syn(r, 3, 100), "a SYN counts where it is first");
	ok(syn_ack(r, 3, 100) && !syn_ack(r, 2, 100) && !syn_ack(r, 1, 100), "a SYN-ACK likewise");
	ok(third(r, 1, 100) && !third(r, 2, 100), "the client's direction stays");
	ok(counts(r, 1, 5, 0), "one connection, five copies");
	ok(last(r)->kind == EVENT_TCP_ESTABLISHED && last(r)->flow_id == r->event[0].flow_id &&
		   origin_look_up(&r->origins, last(r)->iface).iface == 1,
	   "its events have the client's interface");
	ok(last(r)->iface < ORIGINS_DEDUPED, "and no instance");
	rig_free(r);
}

static bool send(struct rig *r, uint16_t iface, unsigned flags, uint32_t seq, uint32_t octets)
{
	struct segment s = seg(iface, CLIENT, flags | TCP_ACK, 101 + seq, ~100u + 1);

	s.payload_len = octets;
	return take(r, s);
}

/* The client's route changes. */
static void test_moved(void)
{
	struct rig *r = rig_new();

	syn(r, 1, 100);
	syn_ack(r, 2, 100);
	ok(third(r, 3, 100) && !third(r, 1, 100), "the handshake's ACK comes by another route");
	ok(send(r, 3, 0, 0, 50) && !send(r, 1, 0, 0, 50), "and its segments");
	ok(send(r, 1, 0, 50, 50) && !send(r, 3, 0, 50, 50), "it is back with the next octets");
	ok(!send(r, 3, 0, 150, 50), "octets after a gap may be of another connection");
	ok(!send(r, 3, 0, 99, 1) && !send(r, 3, 0, 100, 1), "a window probe is nothing new");
	ok(take(r, seg(2, SERVER, TCP_ACK, ~100u + 1, 201)), "the server's direction stays");
	ok(!send(r, 3, TCP_RST, 99, 0) && !r->count.closed.v, "nor is an RST that is not exact");
	ok(send(r, 3, TCP_FIN, 100, 0) && !send(r, 1, TCP_FIN, 100, 0), "a FIN is new");
	struct segment fin = seg(4, SERVER, TCP_FIN | TCP_ACK, ~100u + 1, 202);

	ok(take(r, fin), "the server's FIN as well");
	ok(take(r, seg(1, CLIENT, TCP_ACK, 202, ~100u + 2)) && r->count.closed.v == 1 &&
		   last(r)->close.reason == REASON_FIN,
	   "and the last ACK: the connection ends by its FINs");
	ok(!take(r, seg(3, CLIENT, TCP_ACK, 202, ~100u + 2)) && r->count.opened.v == 1,
	   "what comes then is a copy");
	rig_free(r);

	r = rig_new();
	syn(r, 1, 100);
	syn_ack(r, 2, 100);
	third(r, 1, 100);
	ok(!take(r, seg(3, CLIENT, TCP_ACK, 101, ~100u + 500)), "an ACK of what was not seen");
	ok(send(r, 3, TCP_RST, 0, 0) && r->count.closed.v == 1, "an exact RST is new");
	rig_free(r);

	r = rig_new();
	for (uint16_t i = 0; i < 2; i++) {
		syn(r, 1 + i, 100u + i);
		syn_ack(r, 3 + i, 100u + i);
		third(r, 1 + i, 100u + i);
	}
	ok(!send(r, 5, 0, 0, 50) && !send(r, 5, TCP_RST, 0, 0) && !r->count.closed.v,
	   "two connections: it may be a copy of either");
	rig_free(r);
}

static void test_instances(void)
{
	struct rig *r = rig_new();

	for (uint16_t i = 0; i < 4; i++)
		syn(r, i, 1000u + i);
	ok(counts(r, 4, 0, 0), "four SYNs of one 4-tuple on four interfaces");
	ok(!syn(r, 9, 5000) && counts(r, 4, 1, 1), "there is no place for a fifth");
	ok(!syn(r, 9, 1002) && counts(r, 4, 2, 1), "a copy of one of them");
	for (uint16_t i = 4; i-- > 0;)
		ok(syn_ack(r, 10 + i, 1000u + i) && !syn_ack(r, 20, 1000u + i),
		   "a SYN-ACK finds the SYN that it answers: %d", i);
	ok(third(r, 2, 1002) && origin_look_up(&r->origins, last(r)->iface).iface == 2 &&
		   last(r)->iface < ORIGINS_DEDUPED,
	   "an ACK finds its connection by its interface");
	rig_free(r);
}

static void test_no_number(void)
{
	struct rig *r = rig_new();

	r->origins.limit = ORIGIN_FIRST;
	syn(r, 1, 100);
	ok(!syn_ack(r, 2, 100) && counts(r, 1, 1, 1), "without a number the pair is not kept");
	ok(syn_ack(r, 1, 100) && third(r, 1, 100) && counts(r, 1, 1, 1),
	   "the client's interface has both directions");
	rig_free(r);
}

static void test_late_segments(void)
{
	struct rig *r = rig_new();

	syn(r, 1, 100);
	ok(!take(r, seg(2, SERVER, TCP_ACK, 7, 900000000)), "an old ACK does not own the answers");
	ok(syn_ack(r, 3, 100) && counts(r, 1, 1, 0), "the SYN-ACK does");
	rig_free(r);
}

static void test_over(void)
{
	struct rig *r = rig_new();
	uint64_t second_id;

	syn(r, 1, 100);
	syn_ack(r, 5, 100);
	third(r, 1, 100);
	take(r, seg(1, CLIENT, TCP_RST | TCP_ACK, 101, ~100u + 1));
	syn(r, 2, 200);
	second_id = last(r)->flow_id;
	ok(syn_ack(r, 5, 200) && third(r, 2, 200) && counts(r, 2, 0, 0),
	   "beside one that is over, from another interface");
	ok(take(r, seg(5, SERVER, TCP_ACK, ~200u + 1, 201)) && r->segment.flow_id == second_id,
	   "the server's interface is that of both: its segment is of the one that lives");
	rig_free(r);
}

static void test_unreachable(void)
{
	struct rig *r = rig_new();
	struct segment s = seg(5, CLIENT, TCP_SYN, 101, 0);

	syn(r, 1, 100);
	syn(r, 2, 101);
	s.ts_ns = r->now += ms;
	tracker_unreachable(r->t, &s);
	ok(last(r)->kind == EVENT_TCP_CLOSE && last(r)->iface == 2,
	   "an ICMP error is about the SYN that it quotes");
	rig_free(r);
}

static void test_gone(void)
{
	struct rig *r = rig_new();
	int n[3];

	for (unsigned i = 0; i < 3; i++)
		n[i] = origin_add_link(&r->origins,
				       &(struct origin_link){ .ifindex = i + 1, .watched = true });
	syn(r, (uint16_t)n[0], 100);
	syn_ack(r, (uint16_t)n[1], 100);
	third(r, (uint16_t)n[0], 100);
	origin_remove_link(&r->origins, 2);
	while (tracker_close_gone(r->t, &r->origins))
		;
	ok(!r->count.closed.v, "the server's interface is gone: the connection stays");
	origin_remove_link(&r->origins, 1);
	while (tracker_close_gone(r->t, &r->origins))
		;
	ok(r->count.closed.v == 1 && last(r)->kind == EVENT_TCP_CLOSE &&
		   last(r)->close.reason == REASON_CAPTURE_END,
	   "the client's is gone: it is closed");
	rig_free(r);
}

int main(void)
{
	test_owners();
	test_moved();
	test_instances();
	test_no_number();
	test_late_segments();
	test_over();
	test_unreachable();
	test_gone();
	return tap_done();
}
