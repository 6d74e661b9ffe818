#include <string.h>
#include "base/cc.h"
#include "flow/listing.h"
#include "flow/tracker.h"
#include "tests/support/rand.h"
#include "tests/support/tap.h"
#include "wire/segment.h"

static const uint64_t ms = 1000000, second = 1000000000, start_ns = 1700000000000000000;

/* ---- a tracker, and what its events say ------------------------------------------------------ */

enum { FLOWS = 1 << 16, OPEN = 512, PORTS = 300, ROWS = 16 };

struct flow_seen { /* one connection by its events */
	uint64_t id, start_ns;
	uint64_t since; /* the event that opened it, among all */
	uint8_t state[2];
	bool open;
	unsigned at;		 /* in rig.list, while it is open */
	unsigned listed;	 /* in this walk */
	struct event_totals row; /* of the walk */
};

struct ends { /* of one client port */
	uint32_t isn[2], next[2];
	bool begun;
};

struct rig {
	struct event_sink sink; /* first */
	struct tracker_config cfg;
	struct tracker_counters count;
	struct tracker *t;
	void *memory;
	size_t octets;
	struct event event;
	struct flow_seen *seen; /* by id, open addressing */
	uint64_t events, now;
	struct flow_seen *list[OPEN]; /* those that are open ... */
	unsigned open;		      /* ... so many */
	unsigned wrong, compared;
	bool comparing; /* all of what is open ends now */
	bool once;	/* one connection of each port: no incarnations */
	struct ends ends[PORTS];
};

static struct flow_seen *seen_of(struct rig *r, uint64_t id)
{
	struct flow_seen *s = &r->seen[id % FLOWS];

	while (s->id && s->id != id)
		s = s + 1 < r->seen + FLOWS ? s + 1 : r->seen;
	s->id = id;
	return s;
}

static struct event *rig_reserve(struct event_sink *s)
{
	return memset(&((struct rig *)s)->event, 0xa5, sizeof(struct event));
}

/* A connection that was listed ends: what its row said must be what the tcp_close says. */
static void compare_totals(struct rig *r, const struct flow_seen *f, const struct event *e)
{
	const struct event_totals *a = &f->row, *b = (const struct event_totals *)&e->close;

	if (!r->comparing || !f->listed || e->close.reason != REASON_SHUTDOWN)
		return;
	r->compared++;
	r->wrong += a->start_ns != b->start_ns || a->end_ns != b->end_ns ||
		    a->history != b->history || a->gap_bytes != b->gap_bytes ||
		    a->closed_by != b->closed_by || a->conn_state != b->conn_state ||
		    a->completeness != b->completeness || a->counts != b->counts ||
		    a->outstanding != b->outstanding || a->lossy != b->lossy ||
		    a->counts != (r->cfg.control ? COUNTS_SEQUENCE : COUNTS_SEGMENTS);
	for (unsigned i = 0; i < 2; i++)
		r->wrong += a->bytes[i] != b->bytes[i] || a->payload[i] != b->payload[i] ||
			    a->pkts[i] != b->pkts[i] || a->retrans[i] != b->retrans[i];
}

static void rig_commit(struct event_sink *s)
{
	struct rig *r = (struct rig *)s;
	const struct event *e = &r->event;

	if (e->kind == EVENT_SYN_FLOOD || e->kind == EVENT_CAPTURE_LOSS)
		return;
	struct flow_seen *f = seen_of(r, e->flow_id);

	r->events++;
	if (e->kind == EVENT_TCP_OPEN) {
		r->wrong += f->open;
		*f = (struct flow_seen){
			.id = e->flow_id, .open = true, .since = r->events, .at = r->open
		};
		if (r->open == OPEN)
			abort();
		r->list[r->open++] = f;
	}
	memcpy(f->state, e->state, sizeof f->state);
	if (e->kind == EVENT_TCP_CLOSE) {
		compare_totals(r, f, e);
		f->open = false;
		r->list[f->at] = r->list[--r->open];
		r->list[f->at]->at = f->at;
	}
}

static void ends_renew(struct ends *e)
{
	for (unsigned i = 0; i < 2; i++) {
		e->isn[i] = (uint32_t)rand64();
		e->next[i] = e->isn[i] + 1;
	}
}

static struct rig *rig_new(const struct tracker_config *c)
{
	struct rig *r = calloc(1, sizeof *r);

	r->sink = (struct event_sink){ .reserve = rig_reserve, .commit = rig_commit };
	r->cfg = *c;
	r->cfg.secret = (struct hash_key){ { rand64(), rand64(), rand64(), rand64(), rand64(),
					     rand64(), rand64(), rand64() } };
	r->octets = LINE_UP(tracker_memory(&r->cfg));
	r->memory = aligned_alloc(CACHE_LINE, r->octets);
	memset(r->memory, 0, r->octets);
	r->t = tracker_new(&r->cfg, r->memory, &r->sink, &r->count);
	r->seen = calloc(FLOWS, sizeof *r->seen);
	r->now = start_ns;
	for (unsigned i = 0; i < PORTS; i++)
		ends_renew(&r->ends[i]);
	return r;
}

static void rig_free(struct rig *r)
{
	tracker_free(r->t);
	free(r->memory);
	free(r->seen);
	free(r);
}

/* Small tables, so that entries are evicted and buckets overflow. */
static struct tracker_config config(void)
{
	struct tracker_config c = { .max_connections = 120,
				    .max_half_open = 60,
				    .stuck_ns = { 2 * second, 0, 0 },
				    .anomalies_per_connection = 3,
				    .anomalies_per_second = 1000000,
				    .recorded = true };

	for (unsigned i = 0; i < FSM_TIMEOUTS; i++)
		c.timeout_ns[i] = (2 + i) * second;
	return c;
}

/* ---- traffic --------------------------------------------------------------------------------- */

static void feed(struct rig *r, unsigned port, unsigned from, unsigned flags, uint32_t seq,
		 uint32_t ack, uint32_t len)
{
	struct segment s = { .ts_ns = r->now,
			     .ip_v = port & 1 ? 6 : 4,
			     .flags = (uint16_t)flags,
			     .window = 60000,
			     .wire_segs = 1,
			     .seq = seq,
			     .ack = flags & TCP_ACK ? ack : 0,
			     .payload_len = len,
			     .wire_len = 74 + len };

	memcpy(from ? s.dst : s.src, (uint8_t[4]){ 10, 0, 0, 1 }, 4);
	memcpy(from ? s.src : s.dst, (uint8_t[4]){ 10, 0, 0, 2 }, 4);
	s.sport = from ? 80 : (uint16_t)(1024 + port);
	s.dport = from ? (uint16_t)(1024 + port) : 80;
	tracker_input(r->t, &s, 1);
}

/* Something that an end could send, or hardly could; often a whole handshake. */
static void segment_at_random(struct rig *r, unsigned port)
{
	struct ends *e = &r->ends[port];
	unsigned from = below(2), what = below(16);
	uint32_t next = e->next[from], ack = e->next[!from];

	if (r->once)
		what = !e->begun ? below(8) : below(4) ? 8 + below(8) : 3;
	e->begun = true;
	if (what < 3) {
		if (!r->once)
			ends_renew(e); /* a new connection, or an incarnation beside another */
		feed(r, port, 0, TCP_SYN, e->isn[0], 0, 0);
	} else if (what < 5) {
		feed(r, port, 1, TCP_SYN | TCP_ACK, e->isn[1], e->isn[0] + 1, 0);
	} else if (what < 8) {
		feed(r, port, 0, TCP_SYN, e->isn[0], 0, 0);
		feed(r, port, 1, TCP_SYN | TCP_ACK, e->isn[1], e->isn[0] + 1, 0);
		feed(r, port, 0, TCP_ACK, e->next[0], e->next[1], 0);
	} else if (what < 11) {
		feed(r, port, from, TCP_ACK, next, ack, 100);
		e->next[from] += 100;
	} else if (what < 14) {
		feed(r, port, from, TCP_FIN | TCP_ACK, next, ack, 0);
		e->next[from]++;
	} else if (what < 15) {
		feed(r, port, from, TCP_ACK, next, ack, 0);
	} else {
		feed(r, port, from, TCP_RST, next + below(2), 0, 0);
	}
}

/* @n segments; time mostly stands still, as in a coarse capture, and sometimes jumps. */
static void churn(struct rig *r, unsigned n)
{
	while (n--) {
		if (!below(8))
			r->now += below(5 * ms);
		if (!below(400)) {
			r->now += below(3 * second);
			tracker_advance(r->t, r->now);
		}
		segment_at_random(r, below(PORTS));
	}
}

/* SYNs that nobody answers, from ports of their own: incarnations, deferred ones. */
static void flood(struct rig *r, unsigned n)
{
	while (n--) {
		struct ends *e = &r->ends[below(PORTS)];

		r->now += below(ms / 10);
		ends_renew(e);
		feed(r, (unsigned)(e - r->ends), 0, TCP_SYN, e->isn[0], 0, 0);
	}
}

/* ---- walks ----------------------------------------------------------------------------------- */

struct walk {
	uint32_t cursor;
	uint64_t began; /* r->events then */
	unsigned rows, calls;
};

static struct walk walk_begin(struct rig *r)
{
	for (unsigned i = 0; i < r->open; i++)
		r->list[i]->listed = 0;
	return (struct walk){ .began = r->events };
}

/* As listing_read().  A walk that stays where it is would never end. */
static unsigned rows_of(const struct tracker *t, uint32_t *cursor, struct event *ret, unsigned max)
{
	uint32_t before = *cursor;
	unsigned n = listing_read(t, cursor, ret, max);

	if (*cursor == before && before != LISTING_END)
		abort();
	return n;
}

/* One piece of at most @max rows: each row must be true at this moment. */
static void walk_piece(struct rig *r, struct walk *w, unsigned max)
{
	struct event row[ROWS];
	uint32_t before = w->cursor;
	unsigned n = rows_of(r->t, &w->cursor, row, max);

	r->wrong += n > max || (w->cursor <= before && before != LISTING_END);
	w->rows += n;
	w->calls++;
	for (unsigned i = 0; i < n; i++) {
		const struct event *e = &row[i];
		struct flow_seen *f = seen_of(r, e->flow_id);

		r->wrong += e->kind != EVENT_SNAPSHOT || e->ts_ns < start_ns ||
			    e->snapshot.place <= before || e->snapshot.place > w->cursor;
		r->wrong += !f->open || memcmp(f->state, e->state, sizeof f->state);
		r->wrong += f->listed++;
		memcpy(&f->row, &e->snapshot, sizeof f->row);
		before = e->snapshot.place;
	}
}

/* Connections that were open during the whole walk, and are not listed. */
static unsigned missing(const struct rig *r, const struct walk *w)
{
	unsigned n = 0;

	for (unsigned i = 0; i < r->open; i++)
		n += r->list[i]->since <= w->began && !r->list[i]->listed;
	return n;
}

/* A walk during which nothing changes. */
static struct walk walk_at_once(struct rig *r)
{
	struct walk w = walk_begin(r);

	while (w.cursor != LISTING_END)
		walk_piece(r, &w, 1 + below(ROWS));
	r->wrong += missing(r, &w) || w.rows != r->open;
	return w;
}

enum { PLAIN, FLOODED, CONTROL, SLOW, KINDS };

static struct tracker_config config_of(unsigned kind)
{
	struct tracker_config c = config();

	if (kind == FLOODED) {
		c.flood_half_open = 4;
		c.flood_rate = 1;
		c.flood_interval_ns = second;
	}
	c.control = kind == CONTROL;
	c.slow_only = kind == SLOW;
	return c;
}

static void test_still(void)
{
	static const char *const name[] = { "plain traffic", "deferred attempts and floods",
					    "control mode", "no fast path" };

	for (unsigned kind = 0; kind < KINDS; kind++) {
		struct tracker_config c = config_of(kind);
		struct rig *r = rig_new(&c);
		unsigned rows = 0;

		for (unsigned i = 0; i < 150; i++) {
			churn(r, below(200));
			if (kind == FLOODED)
				flood(r, below(60));
			rows += walk_at_once(r).rows;
		}
		ok(!r->wrong && rows > 2000,
		   "%s: what is listed is what was opened and not closed, in its states",
		   name[kind]);
		printf("# %u rows, %u wrong, %llu deferred, %llu suppressed, %llu evicted\n", rows,
		       r->wrong, (unsigned long long)counter_get(&r->count.deferred),
		       (unsigned long long)counter_get(&r->count.suppressed),
		       (unsigned long long)counter_get(&r->count.evicted_full));
		rig_free(r);
	}
}

static void test_churn(void)
{
	static const char *const name[] = { "plain traffic", "floods", "control mode",
					    "no fast path" };

	for (unsigned kind = 0; kind < KINDS; kind++) {
		struct tracker_config c = config_of(kind);
		struct rig *r = rig_new(&c);
		unsigned lost = 0, stayed = 0;

		churn(r, 2000);
		for (unsigned i = 0; i < 150; i++) {
			struct walk w = walk_begin(r);
			unsigned piece = 1 + below(ROWS), pause = below(40);

			while (w.cursor != LISTING_END) {
				walk_piece(r, &w, piece);
				churn(r, below(1 + pause));
				if (kind == FLOODED && !below(4))
					flood(r, below(30));
			}
			lost += missing(r, &w);
			for (unsigned k = 0; k < r->open; k++)
				stayed += r->list[k]->since <= w.began;
		}
		ok(!lost && stayed > 500,
		   "%s between pieces: what is open all the time is listed (%u)", name[kind],
		   stayed);
		ok(!r->wrong, "%s between pieces: nothing twice, and each row is true then",
		   name[kind]);
		rig_free(r);
	}
}

/* ---- what a row says ------------------------------------------------------------------------- */

static void test_totals(void)
{
	for (unsigned control = 0; control < 2; control++) {
		unsigned compared = 0, wrong = 0;

		for (unsigned i = 0; i < 40; i++) {
			struct tracker_config c = config_of(control ? CONTROL : PLAIN);
			struct rig *r = rig_new(&c);

			/* The SYNs of an incarnation that ends unconfirmed count for the other. */
			r->once = true;
			churn(r, 1500);
			if (i & 1)
				tracker_loss(r->t, LOSS_RING_FULL, r->now - ms, r->now, 1, 1);
			walk_at_once(r);
			r->comparing = true;
			tracker_close_all(r->t, REASON_SHUTDOWN);
			compared += r->compared;
			wrong += r->wrong;
			rig_free(r);
		}
		ok(compared > 1000 && !wrong,
		   "%s: a row has all that a tcp_close at that moment has (%u)",
		   control ? "control mode" : "all segments", compared);
	}
}

/* The only row. */
static struct event one_row(struct rig *r)
{
	struct event row[ROWS] = { 0 };
	uint32_t cursor = 0;
	unsigned n = 0;

	while (cursor != LISTING_END && !n)
		n = rows_of(r->t, &cursor, row, ROWS);
	r->wrong += n != 1;
	return row[0];
}

static void test_times(void)
{
	struct tracker_config c = config();
	struct rig *r = rig_new(&c);
	struct ends *e = r->ends;
	struct event row;

	feed(r, 0, 0, TCP_SYN, e->isn[0], 0, 0);
	r->now += 3 * ms;
	tracker_advance(r->t, r->now);
	row = one_row(r);
	ok(row.ts_ns == r->now && row.snapshot.start_ns == start_ns &&
		   row.snapshot.end_ns == start_ns && row.prev_state_ns[0] == 3 * ms &&
		   row.prev_state_ns[1] == 3 * ms && !row.midstream && row.ip_v == 4 &&
		   row.port[0] == 1024 && row.port[1] == 80 &&
		   row.direction_basis == DIRECTION_SYN &&
		   dur32_ns(row.snapshot.server_rtt) == DURATION_UNKNOWN &&
		   row.snapshot.outstanding == OUTSTANDING_SYN && row.segment == SEGMENT_NONE,
	   "a row is of the newest time seen: age, time in state and idle time follow");

	feed(r, 0, 1, TCP_SYN | TCP_ACK, e->isn[1], e->isn[0] + 1, 0);
	r->now += 4 * ms;
	tracker_advance(r->t, r->now);
	row = one_row(r);
	ok(dur32_ns(row.snapshot.server_rtt) == 3 * ms && row.prev_state_ns[0] == 7 * ms &&
		   row.prev_state_ns[1] == 4 * ms && row.snapshot.end_ns == start_ns + 3 * ms &&
		   row.snapshot.outstanding == OUTSTANDING_SYN_ACK,
	   "half-open: the server's part of the handshake, and how long each end waits");

	feed(r, 0, 0, TCP_ACK, e->next[0], e->next[1], 0);
	r->now += 5 * ms;
	feed(r, 0, 0, TCP_FIN | TCP_ACK, e->next[0], e->next[1], 0);
	r->now += 6 * ms;
	feed(r, 0, 1, TCP_ACK, e->next[1], e->next[0] + 1, 0);
	r->now += 7 * ms;
	tracker_advance(r->t, r->now);
	row = one_row(r);
	ok(row.state[0] == TCPS_FIN_WAIT_2 && row.state[1] == TCPS_CLOSE_WAIT &&
		   row.snapshot.closed_by == CLOSED_BY_CLIENT && row.prev_state_ns[0] == 7 * ms &&
		   row.prev_state_ns[1] == 7 * ms &&
		   dur32_ns(row.snapshot.server_rtt) == DURATION_UNKNOWN && row.flow_id &&
		   row.snapshot.outstanding == OUTSTANDING_NONE,
	   "half-closed: who closed first, and for how long it has been so");
	r->now -= 5 * ms; /* a late segment */
	feed(r, 0, 1, TCP_ACK, e->next[1], e->next[0] + 1, 50);
	r->now += 5 * ms;
	ok(one_row(r).ts_ns == r->now, "a late segment does not set the time back");
	feed(r, 0, 1, TCP_FIN | TCP_ACK, e->next[1] + 50, e->next[0] + 1, 0);
	feed(r, 0, 0, TCP_ACK, e->next[0] + 1, e->next[1] + 51, 0);
	row = one_row(r);
	ok(r->wrong == 1 && !row.flow_id, "what is over is not listed, though its entry stays");
	r->wrong = 0;

	feed(r, 1, 1, TCP_ACK, 7, 8, 10);
	r->now += 9 * ms;
	tracker_advance(r->t, r->now);
	row = one_row(r);
	ok(!r->wrong && row.midstream && row.prev_state_ns[0] == DURATION_UNKNOWN &&
		   row.prev_state_ns[1] == DURATION_UNKNOWN && row.ip_v == 6,
	   "picked up mid-stream: nobody knows for how long it has been so");
	rig_free(r);
}

/* ---- positions ------------------------------------------------------------------------------- */

static void test_adopted(void)
{
	unsigned wrong = 0, lost = 0, rows = 0;

	for (unsigned i = 0; i < 30; i++) {
		struct tracker_config c = config_of(i % KINDS);
		struct rig *r = rig_new(&c);
		void *other = aligned_alloc(CACHE_LINE, r->octets);

		churn(r, 1500);
		struct walk w = walk_begin(r);

		while (w.cursor != LISTING_END) {
			walk_piece(r, &w, 5);
			churn(r, 20);
			/* The memory in another process, somewhere else. */
			memcpy(other, r->memory, r->octets);
			memset(r->memory, 0xee, r->octets);
			void *former = r->memory;

			r->memory = other;
			other = former;
			r->t = tracker_adopt(&r->cfg, r->memory, &r->sink, &r->count);
		}
		lost += missing(r, &w);
		wrong += r->wrong;
		rows += w.rows;
		free(other);
		rig_free(r);
	}
	ok(!lost && !wrong && rows > 500, "another process continues the walk (%u rows)", rows);
}

static void test_bounded(void)
{
	struct tracker_config c = config();

	c.max_connections = c.max_half_open = 200000;

	struct rig *r = rig_new(&c);
	struct event row[ROWS];
	uint32_t cursor = 0, most = 0;
	unsigned calls = 0;

	for (; cursor != LISTING_END; calls++) {
		uint32_t before = cursor;

		r->wrong += rows_of(r->t, &cursor, row, ROWS);
		if (cursor != LISTING_END && cursor - before > most)
			most = cursor - before;
	}
	ok(!r->wrong && most == LISTING_PLACES && calls > 100,
	   "an empty table of any size: no call looks at more than its part");
	r->wrong += rows_of(r->t, &cursor, row, ROWS) || cursor != LISTING_END;
	ok(!r->wrong, "after the end there is nothing");
	cursor = LISTING_END - 1;
	r->wrong += rows_of(r->t, &cursor, row, ROWS) || cursor != LISTING_END;
	ok(!r->wrong, "a position that this table does not have is the end");
	for (unsigned i = 0; i < 100; i++)
		feed(r, i, 0, TCP_SYN, r->ends[i].isn[0], 0, 0);
	cursor = 0;
	while (listing_read(r->t, &cursor, row, 0) == 0 && cursor != LISTING_END && calls--)
		;
	ok(cursor == 0, "no room for rows: the walk stays where it is");
	rig_free(r);
}

/* What is over costs a look, too. */
static void test_over(void)
{
	struct tracker_config c = config();

	c.max_connections = c.max_half_open = 60000;
	for (unsigned i = 0; i < FSM_TIMEOUTS; i++)
		c.timeout_ns[i] = 1000 * second;

	struct rig *r = rig_new(&c);
	struct event row[ROWS];
	uint32_t cursor = 0;
	unsigned calls = 0, rows = 0;

	for (unsigned i = 0; i < 60000; i++) { /* refused */
		struct segment s = { .ts_ns = r->now,
				     .ip_v = 4,
				     .flags = TCP_SYN,
				     .wire_segs = 1,
				     .wire_len = 74,
				     .sport = (uint16_t)i,
				     .dport = 80,
				     .src = { 10 },
				     .dst = { 11 } };

		tracker_input(r->t, &s, 1);
		memcpy(s.src, (uint8_t[4]){ 11 }, 4);
		memcpy(s.dst, (uint8_t[4]){ 10 }, 4);
		s.sport = 80;
		s.dport = (uint16_t)i;
		s.flags = TCP_RST | TCP_ACK;
		s.ack = 1;
		tracker_input(r->t, &s, 1);
	}
	for (; cursor != LISTING_END; calls++)
		rows += rows_of(r->t, &cursor, row, ROWS);
	ok(!rows && !r->open && counter_get(&r->count.full_entries) > 50000 &&
		   calls > 50000 / LISTING_ENTRIES,
	   "many that are over: no call looks at more than its part (%u)", calls);
	rig_free(r);
}

int main(void)
{
	rng = tap_seed(20261130);
	test_times();
	test_still();
	test_churn();
	test_totals();
	test_adopted();
	test_bounded();
	test_over();
	return tap_done();
}
