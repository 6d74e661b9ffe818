/* lister.h - open connections, asked for by the main thread and listed by a decoder's thread.
 *
 * The decoder's thread owns its table, so it alone can list it: between two batches of frames, in
 * slices of bounded work ("flow/listing.h").  The main thread asks in two ways:
 *
 *   - a *piece* of a snapshot: a few rows from a position on.  They go through the event ring, so
 *     their place among the events of this decoder is exact: decoder_list().
 *   - a *list*: the whole table, filtered, the first rows by some order.  They are written to
 *     memory of the one who asks, which the thread hands back: decoder_list_all().
 *
 * Requests wait in two bounded mailboxes, one for each way; putting one never blocks.  They are of
 * this process: after a restart the main thread asks again. */
#pragma once
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include "base/spsc.h"
#include "flow/event.h"
#include "wire/tunnel.h"

struct tracker;

enum {
	LIST_PIECES = 32,     /* pieces of one decoder that can wait */
	LIST_PIECE_ROWS = 32, /* the most rows of a piece */
	LISTS = 8,	      /* lists of one decoder that can wait */
	LIST_SLICE_ROWS = 64,
};

/* A piece of a snapshot. */
struct list_piece {
	uint32_t token;	     /* who asks: comes back in each record, like ... */
	uint16_t generation; /* ... which of his requests it is */
	uint16_t rows;	     /* at most; 1 to LIST_PIECE_ROWS */
	uint32_t cursor;     /* 0: from the first connection on */
};

/* The answer to a piece is one or more records of kind EVENT_SNAPSHOT in the event ring, in a row.
 * They have no event number of their own: number is that of the next event.
 *
 *     snapshot.left     records of this answer after this one; 0: the last one
 *     snapshot.place    the position after it: the next piece begins at that of the last one;
 *                       LISTING_END: all are listed
 *     snapshot.no_row   the record has no connection; only at LISTING_END, as the only one
 *
 * A piece is answered once the ring is nearly empty: rows never take the place of events. */

enum list_order {
	LIST_ANY, /* the first ones found: stops at the limit */
	LIST_OLDEST,
	LIST_NEWEST,
	LIST_IDLE,    /* longest silent */
	LIST_OCTETS,  /* most octets, both ways; in control mode those of its streams */
	LIST_RETRANS, /* most retransmissions, both ways */
	LIST_ORDERS
};

enum list_state {
	LIST_WAITS, /* not yet passed to a decoder, or not yet answered */
	LIST_DONE,
	LIST_DROPPED, /* cancelled, or the decoder ended: what is found is of no use */
};

struct list_row {
	uint64_t rank; /* the greatest comes first */
	struct event e;
	/* Set by who asked, as long as the number e.iface stands for it. */
	char iface[16]; /* IFNAMSIZ */
	struct tunnel tunnel;
};

/* Belongs to the main thread, but for the time from decoder_list_all() until list_is_over(). */
struct list {
	_Atomic int state; /* enum list_state */
	_Atomic bool cancelled;
	enum list_order order;
	uint32_t limit;	 /* rows, maybe 0: only count */
	uint32_t cursor; /* where it begins, then where it ended: LISTING_END, but for LIST_ANY */
	/* NULL: each row.  Runs in the decoder's thread: pure, and what it reads stays as it is. */
	bool (*match)(const void *filter, const struct event *row);
	const void *filter;	/* borrowed */
	uint64_t open, matched; /* connections looked at; those that match */
	uint32_t n;		/* rows found */
	struct list_row row[];	/* see list_sort() */
};

/* A list of @limit rows at most; memory is touched as rows come.  NULL: no memory. */
struct list *list_new(enum list_order order, uint32_t limit);

/* Not while a decoder has it.  NULL is fine. */
void list_free(struct list *l);

/* Has the decoder given it back?  Then all of it can be read. */
static inline bool list_is_over(const struct list *l)
{
	return atomic_load_explicit(&l->state, memory_order_acquire) != LIST_WAITS;
}

/* The decoder may give it back soon, unfinished. */
static inline void list_cancel(struct list *l)
{
	atomic_store_explicit(&l->cancelled, true, memory_order_relaxed);
}

/* Puts the rows in their order; equal ones by flow_id. */
void list_sort(struct list *l);

/* Adds the rows of @from, of the same order and limit, to @to, for decoders that share connections:
 * before list_sort(). */
void list_merge(struct list *to, const struct list *from);

/* ---- of the decoder -------------------------------------------------------------------------- */

struct lister {
	struct spsc pieces; /* of struct list_piece */
	struct spsc lists;  /* of struct list * */
	CACHE_ALIGNED unsigned char
		piece_memory[SPSC_OCTETS(LIST_PIECES, sizeof(struct list_piece))];
	CACHE_ALIGNED unsigned char list_memory[SPSC_OCTETS(LISTS, sizeof(struct list *))];
	/* The thread's: where the first piece goes on, of whose begin nothing was open. */
	uint32_t at;
	bool begun;
};

/* Empty, before the thread begins. */
void lister_init(struct lister *l);

/* Main thread: false: too many wait.  *ret_wake: the thread sleeps and must be woken. */
bool lister_put_piece(struct lister *l, const struct list_piece *q, bool *ret_wake);
bool lister_put_list(struct lister *l, struct list *q, bool *ret_wake);

/* Thread: is there one? */
static inline bool lister_has_piece(struct lister *l)
{
	return spsc_ready(&l->pieces);
}

static inline bool lister_has_list(struct lister *l)
{
	return spsc_ready(&l->lists);
}

/* Thread, before it sleeps: false: it must not. */
static inline bool lister_may_sleep(struct lister *l)
{
	bool no_piece = spsc_may_sleep(&l->pieces), no_list = spsc_may_sleep(&l->lists);

	return no_piece && no_list;
}

/* Thread, if there is one: a part of the first piece's work.  Returns the number of records of the
 * answer, all but their numbers set, or 0: it needs more calls. */
unsigned lister_piece(struct lister *l, const struct tracker *t,
		      struct event ret[static LIST_PIECE_ROWS]);

/* Thread, if there is one: a part of the first list's work.  True: it was handed back, wake the
 * main thread. */
bool lister_list(struct lister *l, const struct tracker *t);

/* Gives up what waits: the thread at its end, then the main thread once it has joined it. */
void lister_drop(struct lister *l);
