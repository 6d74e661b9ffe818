#include "synfind/lister.h"
#include <stdlib.h>
#include <string.h>
#include "flow/listing.h"

/* ---- lists ----------------------------------------------------------------------------------- */

struct list *list_new(enum list_order order, uint32_t limit)
{
	struct list *l = calloc(1, sizeof *l + limit * sizeof *l->row);

	if (!l)
		return NULL;
	l->order = order;
	l->limit = limit;
	return l;
}

void list_free(struct list *l)
{
	free(l);
}

/* Octets both ways; what is not known counts as none. */
static uint64_t octets_of(const struct event *e)
{
	uint64_t sum = 0;

	for (unsigned i = 0; i < 2; i++)
		if (e->snapshot.counts == COUNTS_SEGMENTS)
			sum += e->snapshot.bytes[i];
		else if (e->snapshot.payload[i] != UINT64_MAX)
			sum += e->snapshot.payload[i];
	return sum;
}

static uint64_t rank_of(enum list_order order, const struct event *e)
{
	switch (order) {
	case LIST_OLDEST:
		return UINT64_MAX - e->snapshot.start_ns;
	case LIST_NEWEST:
		return e->snapshot.start_ns;
	case LIST_IDLE:
		return UINT64_MAX - e->snapshot.end_ns;
	case LIST_OCTETS:
		return octets_of(e);
	case LIST_RETRANS:
		return (uint64_t)e->snapshot.retrans[0] + e->snapshot.retrans[1];
	case LIST_ANY:
	case LIST_ORDERS:
		break;
	}
	return 0;
}

/* A total order, so that the same rows are kept whatever the way through the table is. */
static bool comes_after(const struct list_row *a, const struct list_row *b)
{
	return a->rank != b->rank ? a->rank < b->rank : a->e.flow_id > b->e.flow_id;
}

/* The rows are a heap, whose root comes last of all: @row goes to place @at or below. */
static void heap_sink(struct list_row *heap, uint32_t n, uint32_t at, const struct list_row *row)
{
	for (uint32_t child = 2 * at + 1; child < n; child = 2 * at + 1) {
		if (child + 1 < n && comes_after(&heap[child + 1], &heap[child]))
			child++;
		if (!comes_after(&heap[child], row))
			break;
		heap[at] = heap[child];
		at = child;
	}
	heap[at] = *row;
}

/* The same upwards from the new place @at. */
static void heap_rise(struct list_row *heap, uint32_t at, const struct list_row *row)
{
	for (; at && comes_after(row, &heap[(at - 1) / 2]); at = (at - 1) / 2)
		heap[at] = heap[(at - 1) / 2];
	heap[at] = *row;
}

static void list_add(struct list *l, const struct list_row *row)
{
	if (l->n < l->limit)
		heap_rise(l->row, l->n++, row);
	else if (l->n && comes_after(&l->row[0], row))
		heap_sink(l->row, l->n, 0, row);
}

void list_sort(struct list *l)
{
	for (uint32_t n = l->n; n-- > 1;) {
		struct list_row last = l->row[n];

		l->row[n] = l->row[0];
		heap_sink(l->row, n, 0, &last);
	}
}

void list_merge(struct list *to, const struct list *from)
{
	for (uint32_t i = 0; i < from->n; i++)
		list_add(to, &from->row[i]);
	to->open += from->open;
	to->matched += from->matched;
}

/* ---- mailboxes ------------------------------------------------------------------------------- */

void lister_init(struct lister *l)
{
	spsc_init(&l->pieces, l->piece_memory, LIST_PIECES, sizeof(struct list_piece), 0);
	spsc_init(&l->lists, l->list_memory, LISTS, sizeof(struct list *), 0);
	l->begun = false;
}

static bool mailbox_put(struct spsc *box, const void *q, bool *ret_wake)
{
	void *slot = spsc_reserve(box);

	if (!slot)
		return false;
	memcpy(slot, q, box->record_size);
	spsc_commit(box);
	*ret_wake = spsc_must_wake(box);
	return true;
}

bool lister_put_piece(struct lister *l, const struct list_piece *q, bool *ret_wake)
{
	return mailbox_put(&l->pieces, q, ret_wake);
}

bool lister_put_list(struct lister *l, struct list *q, bool *ret_wake)
{
	return mailbox_put(&l->lists, &q, ret_wake);
}

/* ---- work ------------------------------------------------------------------------------------ */

unsigned lister_piece(struct lister *l, const struct tracker *t,
		      struct event ret[static LIST_PIECE_ROWS])
{
	struct list_piece q = *(const struct list_piece *)spsc_at(&l->pieces, 0);
	unsigned max = q.rows && q.rows < LIST_PIECE_ROWS ? q.rows : LIST_PIECE_ROWS;
	uint32_t cursor = l->begun ? l->at : q.cursor;
	unsigned n = listing_read(t, &cursor, ret, max);

	l->at = cursor;
	l->begun = !n && cursor != LISTING_END;
	if (l->begun)
		return 0;
	if (!n) {
		memset(&ret[n], 0, sizeof ret[n]);
		ret[n].kind = EVENT_SNAPSHOT;
		ret[n++].snapshot.no_row = true;
	}
	ret[n - 1].snapshot.place = cursor;
	for (unsigned i = 0; i < n; i++) {
		ret[i].snapshot.token = q.token;
		ret[i].snapshot.generation = q.generation;
		ret[i].snapshot.left = (uint8_t)(n - 1 - i);
	}
	spsc_release(&l->pieces, 1);
	return n;
}

/* The list belongs to the main thread from here on. */
static void list_hand_back(struct lister *l, struct list *q, enum list_state state)
{
	spsc_release(&l->lists, 1);
	atomic_store_explicit(&q->state, state, memory_order_release);
}

static struct list *first_list(struct lister *l)
{
	return *(struct list *const *)spsc_at(&l->lists, 0);
}

/* One row of the walk. */
static void list_take(struct list *q, const struct event *e)
{
	struct list_row row;

	q->open++;
	if (q->match && !q->match(q->filter, e))
		return;
	q->matched++;
	row.rank = rank_of(q->order, e);
	row.e = *e;
	list_add(q, &row);
}

bool lister_list(struct lister *l, const struct tracker *t)
{
	struct list *q = first_list(l);
	struct event row[LIST_SLICE_ROWS];
	bool stops = q->order == LIST_ANY && q->limit;

	if (atomic_load_explicit(&q->cancelled, memory_order_relaxed)) {
		list_hand_back(l, q, LIST_DROPPED);
		return true;
	}
	unsigned n = listing_read(t, &q->cursor, row, LIST_SLICE_ROWS);

	for (unsigned i = 0; i < n; i++) {
		list_take(q, &row[i]);
		if (stops && q->n == q->limit) {
			q->cursor = row[i].snapshot.place;
			break;
		}
	}
	if (q->cursor != LISTING_END && !(stops && q->n == q->limit))
		return false;
	list_hand_back(l, q, LIST_DONE);
	return true;
}

void lister_drop(struct lister *l)
{
	while (spsc_ready(&l->lists))
		list_hand_back(l, first_list(l), LIST_DROPPED);
	spsc_release(&l->pieces, spsc_ready(&l->pieces));
}
