/* spsc.h - ring of fixed-size records between one producer thread and one consumer thread.
 *
 * Wait-free on both sides: no call loops or blocks.  Indices run freely and are compared by
 * unsigned difference, so wrap-around is harmless.  Each side's index has a cache line of its own
 * and each side remembers the other's last known index, to touch that line only when it must.
 *
 * Orders: the producer's release-store of `head` pairs with the consumer's acquire-load (the
 * record is complete before it is visible); the consumer's release-store of `tail` pairs with the
 * producer's acquire-load (the record was read before it is overwritten).
 *
 * What is shared lies in memory that the caller lends, without a pointer, and may outlast the
 * process: spsc_adopt().  A producer whose records count only all together *stages* them
 * (spsc_stage()): the consumer sees none until they are published, and one that was never published
 * was never seen.
 *
 * Sleep and wake: the consumer says that it is about to sleep and then looks once more; the
 * producer publishes and then looks whether someone sleeps.  Each is a store followed by a load
 * of the other's word, which only a full fence on BOTH sides orders (Dekker): without either one
 * both may read the old value, and the record lies there until the next one comes. */
#pragma once
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include "base/cc.h"

struct spsc_words { /* shared; the records follow */
	/* producer's line */
	CACHE_ALIGNED _Atomic uint32_t head; /* published up to here */
	uint32_t staged;		     /* next to be written */
	/* consumer's line */
	CACHE_ALIGNED _Atomic uint32_t tail; /* next to be read */
	/* written by the consumer before it sleeps, by the producer when it wakes it */
	CACHE_ALIGNED _Atomic uint32_t asleep;
};

struct spsc {			  /* a process's view */
	struct spsc_words *words; /* borrowed */
	uint32_t mask;
	uint32_t record_size;
	CACHE_ALIGNED uint32_t tail_seen; /* the producer's */
	CACHE_ALIGNED uint32_t head_seen; /* the consumer's */
};

/* Octets of memory for @n records (a power of two, at most 2^31) of @size octets; a constant, if
 * they are. */
#define SPSC_OCTETS(n, size) (sizeof(struct spsc_words) + (size_t)(n) * (size))

/* Views @mem, which the caller owns: SPSC_OCTETS(), aligned to a cache line. */
static inline struct spsc spsc_view(void *mem, uint32_t n, uint32_t size)
{
	return (struct spsc){ .words = mem, .mask = n - 1, .record_size = size };
}

/* Makes an empty ring in @mem.  @first is the starting index: 0, or anything in tests. */
static inline void spsc_init(struct spsc *r, void *mem, uint32_t n, uint32_t size, uint32_t first)
{
	*r = spsc_view(mem, n, size);
	r->tail_seen = r->head_seen = first;
	r->words->staged = first;
	atomic_init(&r->words->head, first);
	atomic_init(&r->words->tail, first);
	atomic_init(&r->words->asleep, 0);
}

/* Goes on with the ring in @mem, as threads that are no more left it, wherever they ended: what is
 * staged is published (take back first what shall not be: `staged`), and nobody is asleep.
 * False: such a ring cannot be. */
static inline bool spsc_adopt(struct spsc *r, void *mem, uint32_t n, uint32_t size)
{
	*r = spsc_view(mem, n, size);

	uint32_t head = r->words->staged;
	uint32_t tail = atomic_load_explicit(&r->words->tail, memory_order_relaxed);

	r->tail_seen = tail;
	r->head_seen = head;
	atomic_store_explicit(&r->words->head, head, memory_order_relaxed);
	atomic_store_explicit(&r->words->asleep, 0, memory_order_relaxed);
	return head - tail <= n;
}

/* Consumer, after spsc_adopt() and before anything else: it has had all before @tail.  False: that
 * cannot be, nothing is changed. */
static inline bool spsc_resume_tail(struct spsc *r, uint32_t tail)
{
	uint32_t head = atomic_load_explicit(&r->words->head, memory_order_acquire);

	if (head - tail > r->mask + 1)
		return false;
	atomic_store_explicit(&r->words->tail, tail, memory_order_release);
	r->head_seen = head;
	return true;
}

static inline void *spsc_slot(const struct spsc *r, uint32_t index)
{
	return (unsigned char *)(r->words + 1) + (size_t)(index & r->mask) * r->record_size;
}

/* Producer: the slot of the next record, to be filled and then committed or staged; NULL: the ring
 * is full, nothing is changed.  Asking again before that gives the same slot. */
static inline void *spsc_reserve(struct spsc *r)
{
	uint32_t next = r->words->staged;

	if (next - r->tail_seen > r->mask) {
		r->tail_seen = atomic_load_explicit(&r->words->tail, memory_order_acquire);
		if (next - r->tail_seen > r->mask)
			return NULL;
	}
	return spsc_slot(r, next);
}

/* Producer: how many records there is room for, at least. */
static inline uint32_t spsc_room(struct spsc *r)
{
	r->tail_seen = atomic_load_explicit(&r->words->tail, memory_order_acquire);
	return r->mask + 1 - (r->words->staged - r->tail_seen);
}

/* Producer: the reserved record is complete; it will be seen with the others. */
static inline void spsc_stage(struct spsc *r)
{
	r->words->staged++;
}

/* Producer: makes what is staged visible. */
static inline void spsc_publish(struct spsc *r)
{
	atomic_store_explicit(&r->words->head, r->words->staged, memory_order_release);
}

/* Producer: makes the reserved record visible. */
static inline void spsc_commit(struct spsc *r)
{
	spsc_stage(r);
	spsc_publish(r);
}

/* Producer, after it published: must the consumer be woken?  True at most once per sleep. */
static inline bool spsc_must_wake(struct spsc *r)
{
	/* Without this fence the load below may pass the store of `head`: see the top. */
	atomic_thread_fence(memory_order_seq_cst);
	if (!atomic_load_explicit(&r->words->asleep, memory_order_relaxed))
		return false;
	return atomic_exchange_explicit(&r->words->asleep, 0, memory_order_relaxed);
}

/* Consumer: index of the next record to be read. */
static inline uint32_t spsc_tail(const struct spsc *r)
{
	return atomic_load_explicit(&r->words->tail, memory_order_relaxed);
}

/* Consumer: number of records ready to be read. */
static inline uint32_t spsc_ready(struct spsc *r)
{
	uint32_t tail = atomic_load_explicit(&r->words->tail, memory_order_relaxed);

	if (r->head_seen == tail)
		r->head_seen = atomic_load_explicit(&r->words->head, memory_order_acquire);
	return r->head_seen - tail;
}

/* Consumer: record @i of those that are ready; valid until it is released. */
static inline const void *spsc_at(const struct spsc *r, uint32_t i)
{
	return spsc_slot(r, atomic_load_explicit(&r->words->tail, memory_order_relaxed) + i);
}

/* Consumer: gives the first @n ready records back. */
static inline void spsc_release(struct spsc *r, uint32_t n)
{
	uint32_t tail = atomic_load_explicit(&r->words->tail, memory_order_relaxed);

	atomic_store_explicit(&r->words->tail, tail + n, memory_order_release);
}

/* Consumer: announces sleep.  True: nothing is there, sleep until woken.  False: records came
 * meanwhile, do not sleep. */
static inline bool spsc_may_sleep(struct spsc *r)
{
	atomic_store_explicit(&r->words->asleep, 1, memory_order_relaxed);
	/* Without this fence the look below may pass the store of `asleep`: see the top. */
	atomic_thread_fence(memory_order_seq_cst);
	if (!spsc_ready(r))
		return true;
	atomic_store_explicit(&r->words->asleep, 0, memory_order_relaxed);
	return false;
}
