/* counter.h - counters with one writer and any number of readers in other threads.
 *
 * An update costs a plain add; readers see a recent value, never a torn one.  Counters of different
 * writers must not share a cache line: keep those of a thread in one CACHE_ALIGNED struct. */
#pragma once
#include <stdatomic.h>
#include <stdint.h>

struct counter {
	_Atomic uint64_t v;
};

/* Writer only. */
static inline void counter_add(struct counter *c, uint64_t n)
{
	uint64_t v = atomic_load_explicit(&c->v, memory_order_relaxed);

	atomic_store_explicit(&c->v, v + n, memory_order_relaxed);
}

/* Writer only, for gauges. */
static inline void counter_set(struct counter *c, uint64_t n)
{
	atomic_store_explicit(&c->v, n, memory_order_relaxed);
}

/* Any thread. */
static inline uint64_t counter_get(const struct counter *c)
{
	return atomic_load_explicit(&c->v, memory_order_relaxed);
}
