/* The filter of mode=auto in the kernel, and a tracker after it, beside a tracker that is fed
 * every segment: whatever passes on the wire, both must report the same.
 *
 * The filter is on the receiving end of an AF_UNIX datagram pair, as in test_tcp_filter.c.  Between
 * it and its tracker frames wait for a while, as they do in a ring. */
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <skel/bypass.skel.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>
#include "base/cc.h"
#include "bpf/bypass.h"
#include "flow/event_names.h"
#include "flow/bypass.h"
#include "flow/endpoints.h"
#include "flow/listing.h"
#include "flow/tracker.h"
#include "tests/support/rand.h"
#include "tests/support/tap.h"
#include "wire/frame.h"
#include "wire/link.h"
#include "wire/segment.h"

enum { EVENTS = 2048, RING = 256, FRAME = 1500, RUNS = 400, STEPS = 600 };
static const uint64_t start_ns = 1700000000000000000, ms = 1000000;

/* ---- a tracker and what it reported ---- */

struct rig {
	struct event_sink sink; /* first */
	struct tracker_counters count;
	struct tracker *t;
	void *memory;
	struct event event[EVENTS];
	unsigned n;
};

static struct event *rig_reserve(struct event_sink *s)
{
	struct rig *r = (struct rig *)s;

	if (r->n == EVENTS)
		abort();
	return memset(&r->event[r->n], 0, sizeof *r->event);
}

static void rig_commit(struct event_sink *s)
{
	((struct rig *)s)->n++;
}

static struct rig *rig_new(struct bypass_kernel *bypass)
{
	struct tracker_config cfg = { .max_connections = 1024,
				      .max_half_open = 1024,
				      .anomalies_per_connection = ANOMALIES_REPORTED_MAX,
				      .anomalies_per_second = 1000000,
				      .bypass = bypass };
	struct rig *r = calloc(1, sizeof *r);
	size_t size = (tracker_memory(&cfg) + CACHE_LINE - 1) / CACHE_LINE * CACHE_LINE;

	for (unsigned i = 0; i < FSM_TIMEOUTS; i++)
		cfg.timeout_ns[i] = 60000 * ms;
	r->sink = (struct event_sink){ .reserve = rig_reserve, .commit = rig_commit };
	r->memory = aligned_alloc(CACHE_LINE, size);
	memset(r->memory, 0, size);
	r->t = tracker_new(&cfg, r->memory, &r->sink, &r->count);
	return r;
}

static void rig_free(struct rig *r)
{
	tracker_free(r->t);
	free(r->memory);
	free(r);
}

/* ---- the filter ---- */

static struct bypass_kernel kernel;
static struct bypass_bpf *skel;
static int wire[2];

static int watch(struct bypass_kernel *k, const struct bypass_key *keys, uint32_t slot)
{
	(void)k;
	for (uint32_t d = 0; d < 2; d++) {
		uint32_t value = slot << 1 | d;

		if (bpf_map_update_elem(bpf_map__fd(skel->maps.flows), &keys[d], &value, BPF_ANY) <
		    0)
			return -errno;
	}
	return 0;
}

static void forget(struct bypass_kernel *k, const struct bypass_key *keys)
{
	(void)k;
	for (unsigned d = 0; d < 2; d++)
		bpf_map_delete_elem(bpf_map__fd(skel->maps.flows), &keys[d]);
}

static int silent(enum libbpf_print_level level, const char *format, va_list args)
{
	(void)level, (void)format, (void)args;
	return 0;
}

static int load(void)
{
	struct timespec now;

	libbpf_set_print(silent);
	skel = bypass_bpf__open();
	if (!skel)
		return -errno;
	skel->rodata->raw_ip = true;

	int r = bypass_bpf__load(skel), fd;

	if (r < 0)
		return r;
	fd = bpf_program__fd(skel->progs.bypass);
	if (socketpair(AF_UNIX, SOCK_DGRAM, 0, wire) < 0 ||
	    setsockopt(wire[1], SOL_SOCKET, SO_ATTACH_BPF, &fd, sizeof fd) < 0)
		return -errno;
	kernel.slots = mmap(NULL, sizeof(struct bypass_slot) * BYPASS_SLOTS, PROT_READ | PROT_WRITE,
			    MAP_SHARED, bpf_map__fd(skel->maps.slots), 0);
	if (kernel.slots == MAP_FAILED)
		return -errno;
	kernel.watch = watch;
	kernel.forget = forget;
	kernel.after_pkts = 4;
	/* What the filter bypasses is as old as the test: earlier than any segment of it. */
	clock_gettime(CLOCK_MONOTONIC, &now);
	kernel.wall_minus_mono = -(int64_t)now.tv_sec * 1000000000;
	return 0;
}

static bool passes(const uint8_t *p, size_t n)
{
	uint8_t room[FRAME];

	if (send(wire[0], p, n, 0) != (ssize_t)n)
		abort();
	return recv(wire[1], room, sizeof room, MSG_DONTWAIT) > 0;
}

/* ---- frames ---- */

struct packet {
	uint64_t ts_ns;
	size_t n;
	uint8_t p[FRAME];
};

static void put(uint8_t *p, uint32_t v, unsigned octets)
{
	while (octets--) {
		p[octets] = (uint8_t)v;
		v >>= 8;
	}
}

struct end {
	uint32_t next, acked; /* acked: what it acknowledges of the other's */
	unsigned window;
};

/* A TCP packet of connection @id by end @from, over IPv4 or IPv6. */
static struct packet make(unsigned id, unsigned from, unsigned flags, uint32_t seq, uint32_t ack,
			  unsigned window, unsigned payload)
{
	bool v6 = id & 1;
	unsigned ip = v6 ? 40 : 20;
	struct packet k = { .n = ip + 20 + payload };
	uint8_t *t = k.p + ip;

	if (v6) {
		k.p[0] = 0x60;
		put(k.p + 4, 20 + payload, 2);
		k.p[6] = 6;
		k.p[8] = k.p[24] = 0xfd;
		k.p[23] = (uint8_t)(1 + from);
		k.p[39] = (uint8_t)(2 - from);
	} else {
		k.p[0] = 0x45;
		put(k.p + 2, 40 + payload, 2);
		k.p[9] = 6;
		k.p[12] = k.p[16] = 10;
		k.p[15] = (uint8_t)(1 + from);
		k.p[19] = (uint8_t)(2 - from);
	}
	put(t, from ? 80 : 20000 + id, 2);
	put(t + 2, from ? 20000 + id : 80, 2);
	put(t + 4, seq, 4);
	put(t + 8, ack, 4);
	put(t + 12, 5 << 12 | flags, 2);
	put(t + 14, window, 2);
	return k;
}

/* ---- both ---- */

static struct rig *every, *behind;
static struct packet ring[RING];
static unsigned ring_head, ring_tail, bypassed, shown;
static uint64_t now_ns;

/* Now and then, in some runs: segments of the connection are wanted, or not any more; the filter is
 * replaced. */
static const struct endpoints wanted = { .used = 1, .at[0] = { .has_port = true, .port = 80 } };
static unsigned meddling; /* of 10000 packets: before how many */
static bool excepted;
static unsigned bypassed_then, excepted_shown, wrongly_bypassed, returned, renewed;

static void feed(struct rig *r, const struct packet *k)
{
	struct frame f = { .ts_ns = k->ts_ns,
			   .data = k->p,
			   .caplen = (uint32_t)k->n,
			   .len = (uint32_t)k->n,
			   .link = LINK_RAW_IP };
	struct segment s;

	if (frame_decode(&f, &s) == FRAME_TCP)
		tracker_input(r->t, &s, 1);
}

static void drain(unsigned leave)
{
	while (ring_head - ring_tail > leave)
		feed(behind, &ring[ring_tail++ % RING]);
}

static void except(bool now)
{
	excepted = now;
	tracker_bypass_except(behind->t, now ? &wanted : NULL);
	bypassed_then = bypassed;
}

static void renew(void)
{
	tracker_bypass_pause(behind->t, true);
	drain(0);
	tracker_bypass_renew(behind->t, &kernel);
	renewed++;
}

static void meddle(void)
{
	if (below(10000) >= meddling)
		return;
	if (!below(3)) {
		renew();
		return;
	}
	returned += !excepted && bypassed > bypassed_then && bypassed_then;
	except(!excepted);
}

static void show(struct packet k)
{
	meddle();
	now_ns += 1000 + below(ms);
	k.ts_ns = now_ns;
	feed(every, &k);
	if (passes(k.p, k.n)) {
		drain(RING - 1);
		ring[ring_head++ % RING] = k;
		shown++;
		excepted_shown += excepted;
	} else {
		bypassed++;
		wrongly_bypassed += excepted;
	}
	if (!below(8))
		drain(below(20));
}

/* One connection: mostly in order, with all that can happen to it now and then. */
static void converse(unsigned id)
{
	struct end e[2] = { { (uint32_t)rand64(), 0, 60000 }, { (uint32_t)rand64(), 0, 60000 } };
	unsigned luck = below(4) ? 1 + below(60) : 0; /* of 1000: how often something happens */
	struct packet late = { .n = 0 };

	show(make(id, 0, TCP_SYN, e[0].next++, 0, 60000, 0));
	show(make(id, 1, TCP_SYN | TCP_ACK, e[1].next++, e[0].next, 60000, 0));
	e[0].acked = e[1].next;
	e[1].acked = e[0].next;
	show(make(id, 0, TCP_ACK, e[0].next, e[0].acked, 60000, 0));
	unsigned biased = below(3);

	for (unsigned step = 0; step < STEPS; step++) {
		unsigned d = biased == 2 ? below(2) : below(4) ? biased : !biased;
		unsigned len = biased == 2 || d == biased ? 1 + below(1000) : 0;
		struct end *me = &e[d], *peer = &e[!d];
		uint32_t seq = me->next, in_flight = seq - peer->acked;

		if (in_flight > 30000 || !below(6))
			len = 0;
		if (below(3))
			me->acked = peer->next;
		unsigned flags = TCP_ACK, window = me->window,
			 what = below(1000) < luck ? below(12) : 99;
		bool lost = false;

		switch (what) {
		case 0: /* again */
			seq -= below(in_flight + 1);
			len = 1 + below(500);
			if (seq + len - me->next < 1u << 31)
				len = me->next - seq;
			break;
		case 1:
			lost = true;
			break;
		case 2: /* overtaken by what follows */
			late = make(id, d, flags, seq, me->acked, window, len);
			lost = true;
			break;
		case 3:
			show(make(id, d, TCP_RST, seq + 1 + below(2000), 0, 0, 0)); /* forged */
			break;
		case 4:
			show(make(id, d, TCP_SYN, (uint32_t)rand64(), 0, window, 0));
			break;
		case 5:
			window = 0;
			break;
		case 6: /* keep-alive */
			seq--;
			len = 0;
			break;
		case 7:
			show(make(id, d, TCP_ACK, (uint32_t)rand64(), (uint32_t)rand64(), window,
				  len));
			break;
		case 8:
			if (!below(4))
				flags |= below(2) ? TCP_FIN : TCP_RST;
			break;
		case 9:
			show(make(id, d, TCP_ACK, seq, peer->next + below(100000), window, 0));
			break;
		case 10:
			me->window = 1000 + below(60000);
			break;
		case 11:
			show(make(id, d, TCP_ACK | TCP_FIN, seq + below(3000), me->acked, window,
				  0));
			break;
		default:
			break;
		}
		if (!lost)
			show(make(id, d, flags, seq, me->acked, window, len));
		if (seq == me->next)
			me->next += len + !!(flags & TCP_FIN);
		if (late.n && !below(3)) {
			show(late);
			late.n = 0;
		}
	}
	if (below(3)) {
		unsigned d = below(2);

		drain(below(200));
		show(make(id, d, TCP_FIN | TCP_ACK, e[d].next++, e[!d].next, 60000, 0));
		show(make(id, !d, TCP_FIN | TCP_ACK, e[!d].next++, e[d].next, 60000, 0));
		show(make(id, d, TCP_ACK, e[d].next, e[!d].next, 60000, 0));
	} else if (below(2)) {
		show(make(id, 0, TCP_RST, e[0].next, 0, 0, 0));
	}
}

/* The end of a connection that no segment ended is the time of its newest one, which for bypassed
 * ones is the filter's own clock. */
static bool same(struct event a, struct event b)
{
	if (a.kind == EVENT_TCP_CLOSE && a.segment == SEGMENT_NONE)
		a.close.end_ns = b.close.end_ns;
	return !memcmp(&a, &b, sizeof a);
}

static const char *why(const struct event *a, const struct event *b)
{
	static char text[300];

	snprintf(text, sizeof text,
		 "%s/%s by %s/%s, states %u %u / %u %u, pkts %u %u / %u %u, payload %llu %llu / "
		 "%llu %llu, "
		 "retrans %u %u / %u %u, gap %u / %u",
		 event_kind_str[a->kind].s, event_kind_str[b->kind].s,
		 event_segment_str[a->segment].s, event_segment_str[b->segment].s, a->state[0],
		 a->state[1], b->state[0], b->state[1], a->close.pkts[0], a->close.pkts[1],
		 b->close.pkts[0], b->close.pkts[1], (unsigned long long)a->close.payload[0],
		 (unsigned long long)a->close.payload[1], (unsigned long long)b->close.payload[0],
		 (unsigned long long)b->close.payload[1], a->close.retrans[0], a->close.retrans[1],
		 b->close.retrans[0], b->close.retrans[1], a->close.gap_bytes, b->close.gap_bytes);
	return text;
}

static unsigned differences, rows, other_rows;

static void begin(void)
{
	every = rig_new(NULL);
	behind = rig_new(&kernel);
	ring_head = ring_tail = 0;
	now_ns = start_ns;
	excepted = false;
	bypassed_then = 0;
}

/* The only connection, as a snapshot has it; false: it is over. */
static bool listed(const struct rig *r, struct event *ret)
{
	uint32_t cursor = 0;
	unsigned n = 0;

	while (cursor != LISTING_END && !n)
		n = listing_read(r->t, &cursor, ret, 1);
	return n;
}

/* Do both list the same, though the kernel goes on counting for one of them? */
static void compare_rows(void)
{
	struct event a, b;
	bool open = listed(every, &a);

	rows += open;
	if (open != listed(behind, &b)) {
		other_rows++;
	} else if (open) {
		a.snapshot.end_ns = b.snapshot.end_ns; /* as in same() */

		other_rows += !!memcmp(&a, &b, sizeof a);
	}
}

/* Both are through: did they report the same? */
static bool finish(unsigned id, uint64_t seed, bool capture_ends)
{
	drain(0);
	tracker_advance(every->t, now_ns);
	tracker_advance(behind->t, now_ns);
	compare_rows();
	tracker_close_all(every->t, capture_ends ? REASON_CAPTURE_END : REASON_SHUTDOWN);
	tracker_close_all(behind->t, capture_ends ? REASON_CAPTURE_END : REASON_SHUTDOWN);

	unsigned i = 0;

	while (i < every->n && i < behind->n && same(every->event[i], behind->event[i]))
		i++;
	bool equal = i == every->n && i == behind->n;

	differences += !equal;
	if (!equal && differences <= 5)
		printf("# SEED=%llu, connection %u: event %u of %u (all), %u (auto): %s\n",
		       (unsigned long long)seed, id, i, every->n, behind->n,
		       i < every->n && i < behind->n ? why(&every->event[i], &behind->event[i])
						     : "more");
	rig_free(every);
	rig_free(behind);
	return equal;
}

static void run(unsigned id, bool capture_ends)
{
	uint64_t seed = rng;

	begin();
	converse(id);
	finish(id, seed, capture_ends);
}

/* The same while somebody wants the segments now and then. */
static void test_excepted(void)
{
	unsigned before = differences, shown_before = shown, bypassed_before = bypassed;
	unsigned other_before = other_rows;

	for (unsigned i = 0; i < RUNS; i++) {
		meddling = (unsigned[]){ 2, 20, 100, 1000 }[i % 4];
		run(i % 7, i & 8);
	}
	meddling = 0;
	printf("# %u segments passed, %u of them wanted, %u bypassed; %u new filters\n",
	       shown - shown_before, excepted_shown, bypassed - bypassed_before, renewed);
	ok(differences == before && other_rows == other_before && renewed > 100,
	   "the same where segments are wanted now and then, and the filter is replaced");
	ok(excepted_shown > 10000 && !wrongly_bypassed,
	   "each segment that is wanted passes (%u; %u did not)", excepted_shown, wrongly_bypassed);
	ok(returned > 100, "when it is not wanted any more, the connection is bypassed again (%u)",
	   returned);
}

/* To who does not know yet what was bypassed this is plain. */
static void test_first_withheld_again(void)
{
	uint32_t seq = 1000;
	unsigned before = bypassed;

	begin();
	show(make(0, 0, TCP_SYN, seq++, 0, 60000, 0));
	show(make(0, 1, TCP_SYN | TCP_ACK, 5000, seq, 60000, 0));
	for (unsigned i = 0; i < 200; i++) {
		before = bypassed;
		show(make(0, 0, TCP_ACK, seq, 5001, 60000, 100));
		if (bypassed > before)
			break;
		seq += 100;
		show(make(0, 1, TCP_ACK, 5001, seq, 60000, 0));
		drain(0);
	}
	show(make(0, 0, TCP_ACK, seq, 5001, 60000, 100));
	ok(finish(0, rng, false) && bypassed == before + 1,
	   "the first segment that was bypassed comes again: a retransmission");
}

/* A long one in order, with the time of the kernel: it is not silent, though nothing is shown. */
static void test_not_silent(void)
{
	struct timespec mono;
	uint32_t seq = 1000;

	clock_gettime(CLOCK_MONOTONIC, &mono);
	begin();
	show(make(0, 0, TCP_SYN, seq++, 0, 60000, 0));
	show(make(0, 1, TCP_SYN | TCP_ACK, 5000, seq, 60000, 0));
	unsigned before = bypassed;

	unsigned shown_before = shown;

	for (unsigned i = 0; i < 2000; i++) {
		show(make(0, 0, TCP_ACK, seq, 5001, 60000, 100));
		seq += 100;
		show(make(0, 1, TCP_ACK, 5001, seq, 60000, 0));
		drain(below(20));
	}
	drain(0);
	ok((shown - shown_before) * 10 < 4000,
	   "a long transfer: not a tenth of it is shown (%u of 4000)", shown - shown_before);
	/* The last segment was bypassed 59 s after all that was shown. */
	uint64_t last = now_ns + 59000 * ms;
	int64_t state = kernel.wall_minus_mono;

	kernel.wall_minus_mono = (int64_t)last - (int64_t)mono.tv_sec * 1000000000 - mono.tv_nsec;
	tracker_advance(behind->t, last + 59000 * ms);
	ok(!counter_get(&behind->count.closed),
	   "a connection is not silent while its segments are bypassed");

	struct event row = { 0 };

	ok(listed(behind, &row) && row.snapshot.pkts[0] == 2001 && row.snapshot.pkts[1] == 2001 &&
		   row.snapshot.payload[0] == 200000 && row.snapshot.end_ns >= last &&
		   row.snapshot.end_ns < last + 5000 * ms,
	   "nor does a snapshot show it as silent, and its counts are whole");
	tracker_advance(behind->t, last + 130000 * ms);
	const struct event *e = &behind->event[behind->n - 1];

	ok(e->kind == EVENT_TCP_CLOSE && e->close.reason == REASON_IDLE &&
		   e->close.pkts[0] == 2001 && e->close.pkts[1] == 2001 &&
		   e->close.payload[0] == 200000 && e->close.end_ns >= last &&
		   e->close.end_ns < last + 5000 * ms,
	   "and when it is, nothing is missing in its counts and times");
	ok(counter_get(&behind->count.bypassed) == bypassed - before,
	   "each bypassed segment is counted");
	kernel.wall_minus_mono = state;
	rig_free(behind);
	rig_free(every);
}

/* Who is done with is looked for in vain. */
static void test_forgotten(void)
{
	struct bypass_key key;

	ok(bpf_map_get_next_key(bpf_map__fd(skel->maps.flows), NULL, &key) < 0 && errno == ENOENT,
	   "the filter forgets every connection that is over");
}

int main(void)
{
	int r = load();

	if (r < 0) {
		tap_skip("the filter of mode=auto", strerror(-r));
		return tap_done();
	}
	rng = tap_seed(20251121);
	for (unsigned i = 0; i < RUNS; i++)
		run(i % 7, i & 8);
	printf("# %u segments passed, %u bypassed\n", shown, bypassed);
	ok(!differences,
	   "%u connections: after the filter the same is reported as with all segments", RUNS);
	ok(bypassed > shown / 2, "although many of them were bypassed");
	ok(rows > 50 && !other_rows,
	   "a snapshot has what the kernel has counted until then (%u rows, %u differ)", rows,
	   other_rows);
	test_excepted();
	test_first_withheld_again();
	test_not_silent();
	test_forgotten();
	return tap_done();
}
