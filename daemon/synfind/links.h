/* links.h - the interfaces that share a packet ring, as its decoder needs them: the ifindex of each
 * frame becomes a number (flow/origin.h), and frames of interfaces that are not watched are
 * dropped.
 *
 * The main thread posts what the opener reports, in its order.  The decoder's thread applies it
 * between two batches, in transactions; in between it may have frames of an interface that it does
 * not know yet.  What is gone is removed when the frames that came before were read: then its
 * connections are closed, in steps, and the numbers are used again. */
#pragma once
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include "base/cc.h"

struct stored_link;
struct origins;
struct undo;

enum link_news_kind {
	LINK_LIST,     /* a list of all interfaces begins */
	LINK_HERE,     /* an interface is new or has changed */
	LINK_GONE,     /* .ifindex only */
	LINK_LIST_END, /* what was not in the list is gone */
};

struct link_news {
	struct link_news *next;
	enum link_news_kind kind;
	uint32_t ifindex;
	uint32_t slot; /* its stored_link, if it is watched */
	bool watched;  /* HERE: this one; LIST: any that is not known in time */
	char name[16];
	uint64_t at_ns; /* set by links_post() */
};

/* What was looked up last, of those with the same low bits. */
struct link_seen {
	uint32_t ifindex; /* watched; 0: none */
	uint32_t frames;  /* of it that are not counted yet */
	uint16_t number, slot;
	uint32_t other; /* ifindex of one that is not watched; 0: none */
};

enum { LINKS_CACHE = 256 };

struct links {
	_Atomic(struct link_news *) posted; /* newest first */
	/* The decoder's thread alone has the rest. */
	struct origins *origins; /* borrowed, like the next ones */
	struct stored_link *kept;
	struct undo *undo;
	struct link_news *leaving; /* GONE and LIST_END, oldest first; owned */
	uint64_t latency_ns;	   /* longest time that a frame stays unread in the ring */
	bool any;		   /* interfaces that are not known are watched */
	bool closing;		   /* connections of what is gone are being closed */
	bool more;		   /* something is gone since that began */
	bool release;		   /* they were: their numbers are to be released ... */
	uint32_t released_at;	   /* ... when the events up to here are taken */
	struct link_seen seen[LINKS_CACHE];
};

/* Before the thread begins, in every process; @l was zeroed, and may have news. */
void links_begin(struct links *l, struct origins *origins, struct stored_link *kept,
		 struct undo *undo, uint64_t block_timeout_ns);

/* The thread has ended, or has not begun. */
void links_free(struct links *l);

/* Main thread: passes a copy of @news to the decoder, which the caller wakes.  False: no memory. */
bool links_post(struct links *l, const struct link_news *news);

/* ---- the decoder's thread ------------------------------------------------------------------- */

static inline bool links_have_news(const struct links *l)
{
	return atomic_load_explicit(&l->posted, memory_order_relaxed);
}

/* Applies what was posted; in a transaction. */
void links_apply(struct links *l);

/* Is something to be removed, of which all frames were read?  @newest_ns: stamp of the last frame;
 * @idle: the ring is empty. */
bool links_may_remove(const struct links *l, uint64_t now_ns, uint64_t newest_ns, bool idle);

/* Is something to be removed soon? */
static inline bool links_are_leaving(const struct links *l)
{
	return l->leaving || l->release;
}

/* Removes the first of those; in a transaction.  Sets .closing if connections may have it. */
void links_remove(struct links *l);

/* What was looked up of interface @ifindex, lent until the next call that changes anything, .frames
 * to be counted by the caller; NULL: nothing, or it is not watched. */
static inline struct link_seen *links_look_up(struct links *l, uint32_t ifindex)
{
	struct link_seen *s = &l->seen[ifindex % LINKS_CACHE];

	return likely(s->ifindex == ifindex) ? s : NULL;
}

/* Was it looked up, and is not watched? */
static inline bool links_is_other(const struct links *l, uint32_t ifindex)
{
	return l->seen[ifindex % LINKS_CACHE].other == ifindex;
}

/* Looks it up: *ret as above.  False: it is not known. */
bool links_find(struct links *l, uint32_t ifindex, struct link_seen **ret);

/* The opener has not reported @ifindex in time: its name is "if" and that number, and it is watched
 * if all are.  In a transaction. */
void links_presume(struct links *l, uint32_t ifindex);

/* Adds the frames since the last call to the counts that are kept; in a transaction.  Not after
 * each batch, which would cost as much as to tell the interfaces apart: so what came since is not
 * counted if the process is killed. */
void links_count_frames(struct links *l);

/* Counts an event of origin @number; in a transaction. */
void links_count_event(struct links *l, uint16_t number);
