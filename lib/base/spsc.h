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
 * Sleep and wake: the consumer says that it is about to sleep and then looks once more; the
 * producer publishes and then looks whether someone sleeps.  Each is a store followed by a load
 * of the other's word, which only a full fence on BOTH sides orders (Dekker): without either one
 * both may read the old value, and the record lies there until the next one comes. */
#pragma once
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include "base/cc.h"

struct spsc {
	/* producer's line */
	CACHE_ALIGNED _Atomic uint32_t head; /* next to be written */
	uint32_t tail_seen;
	/* consumer's line */
	CACHE_ALIGNED _Atomic uint32_t tail; /* next to be read */
	uint32_t head_seen;
	/* written by the consumer before it sleeps, by the producer when it wakes it */
	CACHE_ALIGNED _Atomic uint32_t asleep;
	/* constant after spsc_init() */
	CACHE_ALIGNED uint32_t mask;
	uint32_t record_size;
	unsigned char *records; /* borrowed */
};

/* Makes an empty ring of @n records (a power of two, at most 2^31) of @size octets in @mem, which
 * the caller owns (n * size octets).  @first is the starting index: 0, or anything in tests. */
static inline void spsc_init(struct spsc *r, void *mem, uint32_t n, uint32_t size, uint32_t first)
{
	*r = (struct spsc){ .tail_seen = first,
			    .head_seen = first,
			    .mask = n - 1,
			    .record_size = size,
			    .records = mem };
	atomic_init(&r->head, first);
	atomic_init(&r->tail, first);
	atomic_init(&r->asleep, 0);
}

static inline void *spsc_slot(const struct spsc *r, uint32_t index)
{
	return r->records + (size_t)(index & r->mask) * r->record_size;
}

/* Producer: the slot of the next record, to be filled and then committed; NULL: the ring is full,
 * nothing is changed.  Asking again before the commit gives the same slot. */
static inline void *spsc_reserve(struct spsc *r)
{
	uint32_t head = atomic_load_explicit(&r->head, memory_order_relaxed);

	if (head - r->tail_seen > r->mask) {
		r->tail_seen = atomic_load_explicit(&r->tail, memory_order_acquire);
		if (head - r->tail_seen > r->mask)
			return NULL;
	}
	return spsc_slot(r, head);
}

/* Producer: makes the reserved record visible. */
static inline void spsc_commit(struct spsc *r)
{
	uint32_t head = atomic_load_explicit(&r->head, memory_order_relaxed);

	atomic_store_explicit(&r->head, head + 1, memory_order_release);
}

/* Producer, after a batch of commits: must the consumer be woken?  True at most once per sleep. */
static inline bool spsc_must_wake(struct spsc *r)
{
	/* Without this fence the load below may pass the store of `head`: see the top. */
	atomic_thread_fence(memory_order_seq_cst);
	if (!atomic_load_explicit(&r->asleep, memory_order_relaxed))
		return false;
	return atomic_exchange_explicit(&r->asleep, 0, memory_order_relaxed);
}

/* Consumer: number of records ready to be read. */
static inline uint32_t spsc_ready(struct spsc *r)
{
	uint32_t tail = atomic_load_explicit(&r->tail, memory_order_relaxed);

	if (r->head_seen == tail)
		r->head_seen = atomic_load_explicit(&r->head, memory_order_acquire);
	return r->head_seen - tail;
}

/* Consumer: record @i of those that are ready; valid until it is released. */
static inline const void *spsc_at(const struct spsc *r, uint32_t i)
{
	return spsc_slot(r, atomic_load_explicit(&r->tail, memory_order_relaxed) + i);
}

/* Consumer: gives the first @n ready records back. */
static inline void spsc_release(struct spsc *r, uint32_t n)
{
	uint32_t tail = atomic_load_explicit(&r->tail, memory_order_relaxed);

	atomic_store_explicit(&r->tail, tail + n, memory_order_release);
}

/* Consumer, before anything else: goes on at @tail, which it had come to before its process ended;
 * what lies between there and the head is still to be read. */
static inline void spsc_resume_tail(struct spsc *r, uint32_t tail)
{
	r->head_seen = tail;
	atomic_store_explicit(&r->tail, tail, memory_order_release);
}

/* Consumer: announces sleep.  True: nothing is there, sleep until woken.  False: records came
 * meanwhile, do not sleep. */
static inline bool spsc_may_sleep(struct spsc *r)
{
	atomic_store_explicit(&r->asleep, 1, memory_order_relaxed);
	/* Without this fence the look below may pass the store of `asleep`: see the top. */
	atomic_thread_fence(memory_order_seq_cst);
	if (!spsc_ready(r))
		return true;
	atomic_store_explicit(&r->asleep, 0, memory_order_relaxed);
	return false;
}
