/* spsc.h - ring of fixed-size records between one producer thread and one consumer thread.
 *
 * Wait-free on both sides: no call loops or blocks.  Indices run freely and are compared by
 * unsigned difference, so wrap-around is harmless.  Each side's index has its own cache line, and
 * each side caches the other's index to avoid reading that line.
 *
 * Memory order: the producer's release-store of `head` pairs with the consumer's acquire-load (a
 * visible record is complete); the consumer's release-store of `tail` pairs with the producer's
 * acquire-load (a record is read before it is overwritten).
 *
 * The shared part is in the caller's memory, contains no pointer, and may outlast the process
 * (spsc_adopt()).  spsc_stage() completes a record without publishing it; spsc_publish() makes all
 * staged records visible together.
 *
 * Sleep and wake: the consumer announces sleep, then checks for records again; the producer
 * publishes, then checks for the announcement.  Each side stores one value and loads the other's.
 * Only a full fence on BOTH sides orders that (Dekker).  If one is missing, both may read the old
 * value, and the record waits until the next one arrives. */
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
	/* set by the consumer before it sleeps, cleared by the side that ends the sleep */
	CACHE_ALIGNED _Atomic uint32_t asleep;
};

struct spsc {			  /* the view of one process */
	struct spsc_words *words; /* borrowed */
	uint32_t mask;
	uint32_t record_size;
	CACHE_ALIGNED uint32_t tail_seen; /* the producer's */
	CACHE_ALIGNED uint32_t head_seen; /* the consumer's */
};

/* Octets of memory for @n records (a power of two, at most 2^31) of @size octets. */
#define SPSC_OCTETS(n, size) (sizeof(struct spsc_words) + (size_t)(n) * (size))

/* A view of @mem: SPSC_OCTETS(), aligned to a cache line, owned by the caller. */
static inline struct spsc spsc_view(void *mem, uint32_t n, uint32_t size)
{
	return (struct spsc){ .words = mem, .mask = n - 1, .record_size = size };
}

/* Initialises an empty ring in @mem.  @first: the first index; 0 except in tests. */
static inline void spsc_init(struct spsc *r, void *mem, uint32_t n, uint32_t size, uint32_t first)
{
	*r = spsc_view(mem, n, size);
	r->tail_seen = r->head_seen = first;
	r->words->staged = first;
	atomic_init(&r->words->head, first);
	atomic_init(&r->words->tail, first);
	atomic_init(&r->words->asleep, 0);
}

/* Continues with the ring in @mem after a former process, which may have ended at any instruction.
 * Publishes the staged records (reset `staged` first to drop them) and clears the sleep.
 * False: the indices are inconsistent. */
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

/* Consumer, directly after spsc_adopt(): continues at record @tail.  False, and no change: @tail is
 * not in the ring. */
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

/* Producer: the slot of the next record, to be filled and then committed or staged.  Until then
 * another call returns the same slot.  NULL: the ring is full. */
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

/* Producer: number of free slots, at least. */
static inline uint32_t spsc_space(struct spsc *r)
{
	r->tail_seen = atomic_load_explicit(&r->words->tail, memory_order_acquire);
	return r->mask + 1 - (r->words->staged - r->tail_seen);
}

/* Producer: the reserved record is complete; spsc_publish() makes it visible. */
static inline void spsc_stage(struct spsc *r)
{
	r->words->staged++;
}

/* Producer: makes the staged records visible. */
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

/* Producer, after publishing: must the consumer be woken?  True at most once per sleep. */
static inline bool spsc_must_wake(struct spsc *r)
{
	/* Without this fence the load may pass the store of `head`: see the top. */
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
	uint32_t tail = spsc_tail(r);

	if (r->head_seen == tail)
		r->head_seen = atomic_load_explicit(&r->words->head, memory_order_acquire);
	return r->head_seen - tail;
}

/* Consumer: ready record @i, counted from the tail; valid until released. */
static inline const void *spsc_at(const struct spsc *r, uint32_t i)
{
	return spsc_slot(r, spsc_tail(r) + i);
}

/* Consumer: releases the first @n ready records. */
static inline void spsc_release(struct spsc *r, uint32_t n)
{
	atomic_store_explicit(&r->words->tail, spsc_tail(r) + n, memory_order_release);
}

/* Consumer: announces sleep.  True: the ring is empty, sleep until woken.  False: records arrived
 * meanwhile, do not sleep. */
static inline bool spsc_may_sleep(struct spsc *r)
{
	atomic_store_explicit(&r->words->asleep, 1, memory_order_relaxed);
	/* Without this fence the load may pass the store of `asleep`: see the top. */
	atomic_thread_fence(memory_order_seq_cst);
	if (!spsc_ready(r))
		return true;
	atomic_store_explicit(&r->words->asleep, 0, memory_order_relaxed);
	return false;
}
