/* Lists of connections: which rows, in which order, and what becomes of requests. */
#include <stdlib.h>
#include <string.h>
#include "base/cc.h"
#include "../../daemon/synfind/lister.c"
#include "flow/tracker.h"
#include "tests/support/rand.h"
#include "tests/support/tap.h"
#include "wire/segment.h"

static const uint64_t ms = 1000000, start_ns = 1700000000000000000;

/* ---- a table full of connections ------------------------------------------------------------- */

enum { FLOWS = 3000 };

struct rig {
	struct event_sink sink; /* first */
	struct tracker_counters count;
	struct tracker *t;
	void *memory;
	struct event event;
	struct lister lister;
	struct list_row all[FLOWS]; /* as a walk at once has them */
	unsigned n;
};

static struct event *rig_reserve(struct event_sink *s)
{
	return &((struct rig *)s)->event;
}

static void rig_commit(struct event_sink *s)
{
	(void)s;
}

static void feed(struct rig *r, uint64_t ts_ns, unsigned port, unsigned from, unsigned flags,
		 uint32_t len)
{
	struct segment s = { .ts_ns = ts_ns,
			     .ip_v = port & 1 ? 6 : 4,
			     .flags = (uint16_t)flags,
			     .window = 60000,
			     .wire_segs = 1,
			     .seq = flags & TCP_SYN ? 99 : 100,
			     .ack = flags & TCP_ACK ? 100 : 0,
			     .payload_len = len,
			     .wire_len = 74 + len,
			     .src = { 10, 0, 0, (uint8_t)(from ? 2 : 1) },
			     .dst = { 10, 0, 0, (uint8_t)(from ? 1 : 2) } };

	s.sport = from ? 80 : (uint16_t)(1024 + port);
	s.dport = from ? (uint16_t)(1024 + port) : 80;
	tracker_input(r->t, &s, 1);
}

static int by_rank(const void *a, const void *b)
{
	const struct list_row *x = a, *y = b;

	if (x->rank != y->rank)
		return x->rank < y->rank ? 1 : -1;
	return (x->e.flow_id > y->e.flow_id) - (x->e.flow_id < y->e.flow_id);
}

static struct rig *rig_new(bool control)
{
	struct rig *r = aligned_alloc(CACHE_LINE, LINE_UP(sizeof *r));
	struct tracker_config c = { .max_connections = 2 * FLOWS,
				    .max_half_open = 2 * FLOWS,
				    .control = control };
	struct event row[16];
	uint64_t now = start_ns;

	for (unsigned i = 0; i < FSM_TIMEOUTS; i++)
		c.timeout_ns[i] = 1000000 * ms;
	memset(r, 0, sizeof *r);
	r->sink = (struct event_sink){ .reserve = rig_reserve, .commit = rig_commit };
	r->memory = aligned_alloc(CACHE_LINE, LINE_UP(tracker_memory(&c)));
	memset(r->memory, 0, LINE_UP(tracker_memory(&c)));
	r->t = tracker_new(&c, r->memory, &r->sink, &r->count);
	lister_init(&r->lister);
	for (unsigned i = 0; i < FLOWS; i++) {
		now += below(ms); /* some begin at the same time */
		feed(r, now, i, 0, TCP_SYN, 0);
		if (below(2)) {
			feed(r, now + 1, i, 1, TCP_SYN | TCP_ACK, 0);
			feed(r, now + 2, i, 0, TCP_ACK, 0);
			for (unsigned k = below(4); k--;)
				feed(r, now + 3 + below(ms), i, below(2), TCP_ACK, below(1400));
		}
	}
	for (uint32_t cursor = 0; cursor != LISTING_END;) {
		unsigned n = listing_read(r->t, &cursor, row, 16);

		for (unsigned i = 0; i < n; i++)
			r->all[r->n++].e = row[i];
	}
	return r;
}

static void rig_free(struct rig *r)
{
	tracker_free(r->t);
	free(r->memory);
	free(r);
}

static void run(struct rig *r, struct list *l)
{
	bool wake = false;

	if (!lister_put_list(&r->lister, l, &wake))
		abort();
	while (lister_has_list(&r->lister))
		lister_list(&r->lister, r->t);
}

static bool is_even(const void *filter, const struct event *row)
{
	return row->port[0] % 2 == *(const unsigned *)filter;
}

/* ---- rows ------------------------------------------------------------------------------------ */

/* The rows that the list must have, in their order. */
static unsigned expected(struct rig *r, enum list_order order, const unsigned *filter,
			 struct list_row *ret)
{
	unsigned n = 0;

	for (unsigned i = 0; i < r->n; i++) {
		if (filter && !is_even(filter, &r->all[i].e))
			continue;
		ret[n] = r->all[i];
		ret[n++].rank = rank_of(order, &r->all[i].e);
	}
	qsort(ret, n, sizeof *ret, by_rank);
	return n;
}

static void test_orders(void)
{
	static const char *const name[] = { [LIST_OLDEST] = "oldest",
					    [LIST_NEWEST] = "newest",
					    [LIST_IDLE] = "longest silent",
					    [LIST_OCTETS] = "most octets",
					    [LIST_RETRANS] = "most retransmissions" };
	static struct list_row want[FLOWS];
	static const uint32_t limits[] = { 1, 2, 100, FLOWS - 1, FLOWS, 10000 };
	struct rig *r = rig_new(false);

	for (unsigned order = LIST_OLDEST; order < LIST_ORDERS; order++) {
		unsigned wrong = 0;

		for (unsigned k = 0; k < 2 * ARRAY_SIZE(limits); k++) {
			struct list *l = list_new(order, limits[k / 2]);
			const unsigned filter = 1;
			unsigned n = expected(r, order, k & 1 ? &filter : NULL, want);
			unsigned rows = n < l->limit ? n : l->limit;

			l->match = k & 1 ? is_even : NULL;
			l->filter = &filter;
			run(r, l);
			list_sort(l);
			wrong += l->state != LIST_DONE || l->n != rows || l->matched != n ||
				 l->open != r->n || l->cursor != LISTING_END;
			for (unsigned i = 0; i < rows && i < l->n; i++)
				wrong += memcmp(&l->row[i].e, &want[i].e, sizeof want[i].e) != 0;
			list_free(l);
		}
		ok(!wrong && r->n == FLOWS, "the %s come first, however many, also of some",
		   name[order]);
	}
	rig_free(r);
}

static void test_ranks(void)
{
	struct event e = { .ts_ns = 100,
			   .snapshot = { .start_ns = 10,
					 .end_ns = 20,
					 .bytes = { 1000, 200 },
					 .payload = { 7, UINT64_MAX },
					 .retrans = { 65535, 3 } } };

	ok(rank_of(LIST_OLDEST, &e) == UINT64_MAX - 10 && rank_of(LIST_NEWEST, &e) == 10 &&
		   rank_of(LIST_IDLE, &e) == UINT64_MAX - 20 && rank_of(LIST_OCTETS, &e) == 1200 &&
		   rank_of(LIST_RETRANS, &e) == 65538,
	   "each order by its own number");
	e.snapshot.counts = COUNTS_SEQUENCE;
	ok(rank_of(LIST_OCTETS, &e) == 7, "control mode: octets are those of the known streams");
}

static void test_any(void)
{
	struct rig *r = rig_new(false);
	unsigned pages = 0, wrong = 0, rows = 0;
	uint32_t cursor = 0;

	for (; cursor != LISTING_END; pages++) {
		struct list *l = list_new(LIST_ANY, 70);

		l->cursor = cursor;
		run(r, l);
		wrong += l->state != LIST_DONE || (l->n != 70 && l->cursor != LISTING_END);
		for (unsigned i = 0; i < l->n; i++, rows++) {
			bool found = false;

			for (unsigned k = 0; k < r->n && !found; k++)
				if (r->all[k].e.flow_id == l->row[i].e.flow_id) {
					r->all[k].e.flow_id = 0; /* once */
					found = true;
				}
			wrong += !found;
		}
		cursor = l->cursor;
		list_free(l);
	}
	ok(!wrong && rows == FLOWS && pages >= FLOWS / 70,
	   "without an order a list stops at its limit, and the next one goes on from there");

	struct list *none = list_new(LIST_OLDEST, 0), *any = list_new(LIST_ANY, 0);

	run(r, none);
	run(r, any);
	ok(!none->n && none->matched == FLOWS && !any->n && any->matched == FLOWS &&
		   any->cursor == LISTING_END,
	   "with a limit of 0 it only counts");
	list_free(none);
	list_free(any);
	rig_free(r);
}

static void test_merge(void)
{
	struct rig *a = rig_new(false), *b = rig_new(false);
	static struct list_row want[2 * FLOWS];
	struct list *l = list_new(LIST_OLDEST, 500), *other = list_new(LIST_OLDEST, 500);
	unsigned n, wrong = 0;

	run(a, l);
	run(b, other);
	list_merge(l, other);
	list_sort(l);
	n = expected(a, LIST_OLDEST, NULL, want);
	n += expected(b, LIST_OLDEST, NULL, want + n);
	qsort(want, n, sizeof *want, by_rank);
	for (unsigned i = 0; i < l->n; i++)
		wrong += memcmp(&l->row[i].e, &want[i].e, sizeof want[i].e) != 0;
	ok(!wrong && l->n == 500 && l->matched == 2 * FLOWS && l->open == 2 * FLOWS,
	   "lists of two decoders become one");
	list_free(l);
	list_free(other);
	rig_free(a);
	rig_free(b);
}

/* ---- pieces ---------------------------------------------------------------------------------- */

static void test_pieces(void)
{
	struct rig *r = rig_new(false);
	struct event row[LIST_PIECE_ROWS];
	unsigned wrong = 0, rows = 0, pieces = 0;
	bool wake;

	for (uint32_t cursor = 0; cursor != LISTING_END; pieces++) {
		struct list_piece q = { .token = 7 + pieces,
					.generation = 65535,
					.rows = (uint16_t)below(40),
					.cursor = cursor };
		unsigned max = q.rows && q.rows < LIST_PIECE_ROWS ? q.rows : LIST_PIECE_ROWS;
		unsigned n = 0;

		wrong += !lister_put_piece(&r->lister, &q, &wake);
		while (!n && lister_has_piece(&r->lister))
			n = lister_piece(&r->lister, r->t, row);
		wrong += !n || n > max;
		for (unsigned i = 0; i < n; i++) {
			wrong += row[i].snapshot.token != q.token ||
				 row[i].snapshot.generation != q.generation ||
				 row[i].snapshot.left != n - 1 - i || row[i].kind != EVENT_SNAPSHOT;
			rows += !row[i].snapshot.no_row;
			wrong += row[i].snapshot.no_row && row[i].snapshot.place != LISTING_END;
		}
		wrong += row[n - 1].snapshot.place <= cursor;
		cursor = row[n - 1].snapshot.place;
	}
	ok(!wrong && rows == FLOWS && pieces > FLOWS / 40,
	   "pieces, each from the position that the last one ended with, list all");
	rig_free(r);

	struct tracker_config c = { .max_connections = 100000, .max_half_open = 100000 };
	void *memory = aligned_alloc(CACHE_LINE, LINE_UP(tracker_memory(&c)));
	static struct rig empty;
	unsigned n = 0, calls = 0;
	struct list_piece q = { .token = 3, .rows = 16 };

	memset(memory, 0, LINE_UP(tracker_memory(&c)));
	empty.sink = (struct event_sink){ .reserve = rig_reserve, .commit = rig_commit };
	empty.t = tracker_new(&c, memory, &empty.sink, &empty.count);
	lister_init(&empty.lister);
	lister_put_piece(&empty.lister, &q, &wake);
	for (; lister_has_piece(&empty.lister); calls++)
		n = lister_piece(&empty.lister, empty.t, row);
	ok(n == 1 && calls > 10 && row[0].snapshot.no_row && row[0].snapshot.place == LISTING_END &&
		   row[0].snapshot.token == 3 && !row[0].snapshot.left &&
		   !lister_has_piece(&empty.lister),
	   "an empty table: one record without a row, after many small parts of the work");
	free(memory);
}

/* ---- mailboxes ------------------------------------------------------------------------------- */

static void test_mailboxes(void)
{
	struct rig *r = rig_new(false);
	struct list *l[LISTS + 1], *cancelled = list_new(LIST_OLDEST, 5);
	struct list_piece q = { .rows = 1 };
	unsigned n = 0, wrong = 0;
	bool wake = false;

	ok(lister_may_sleep(&r->lister), "nothing is asked for: the thread may sleep");
	lister_put_piece(&r->lister, &q, &wake);
	ok(wake, "a piece wakes a thread that sleeps");
	lister_put_piece(&r->lister, &q, &wake);
	ok(!wake && !lister_may_sleep(&r->lister),
	   "another one need not, and the thread does not sleep while one waits");
	lister_drop(&r->lister);
	ok(lister_may_sleep(&r->lister) && !lister_has_piece(&r->lister),
	   "pieces that are dropped are gone");
	for (unsigned i = 0; i <= LISTS; i++)
		l[i] = list_new(LIST_OLDEST, 5);
	while (n <= LISTS && lister_put_list(&r->lister, l[n], &wake))
		n += 1 + 0 * (wrong += n ? wake : !wake);
	ok(n == LISTS && !wrong && !lister_may_sleep(&r->lister),
	   "so many lists can wait, the first one wakes the thread, and one more is refused");
	for (n = 0; n < 200 && lister_put_piece(&r->lister, &q, &wake); n++)
		;
	ok(n == LIST_PIECES, "so many pieces can wait, and one more is refused");
	if (lister_has_list(&r->lister))
		lister_list(&r->lister, r->t);
	lister_drop(&r->lister);
	for (unsigned i = 0; i < LISTS; i++)
		wrong += !list_is_over(l[i]) || l[i]->state != LIST_DROPPED;
	ok(!wrong && !list_is_over(l[LISTS]) && !lister_has_list(&r->lister),
	   "the end of the thread: each list that waited is handed back as dropped");
	for (unsigned i = 0; i <= LISTS; i++)
		list_free(l[i]);
	lister_put_list(&r->lister, cancelled, &wake);
	ok(lister_has_list(&r->lister) && !lister_list(&r->lister, r->t),
	   "a list takes many parts");
	list_cancel(cancelled);
	ok(lister_list(&r->lister, r->t) && cancelled->state == LIST_DROPPED &&
		   !lister_has_list(&r->lister),
	   "a list that is cancelled is handed back before it is done");
	list_free(cancelled);
	rig_free(r);
}

int main(void)
{
	rng = tap_seed(20261201);
	test_ranks();
	test_orders();
	test_any();
	test_merge();
	test_pieces();
	test_mailboxes();
	return tap_done();
}
