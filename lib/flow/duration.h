/* duration.h - durations in 32 and 40 bits, for entries of the flow table.  Pure. */
#pragma once
#include <stdint.h>

#define DURATION_UNKNOWN (UINT64_MAX) /* ns */

/* A short duration in 32 bits: ns below 2.1 s, then us up to 35 minutes; or
 * unknown. */
struct dur32 {
	uint32_t v;
} __attribute__((packed));

static inline struct dur32 dur32_of(uint64_t ns)
{
	uint64_t us = ns / 1000;

	if (ns < 1ull << 31)
		return (struct dur32){ (uint32_t)ns };
	return (struct dur32){ us >> 31 ? UINT32_MAX : (uint32_t)(us | 1ull << 31) };
}

static inline uint64_t dur32_ns(struct dur32 d)
{
	if (d.v == UINT32_MAX)
		return DURATION_UNKNOWN;
	return d.v >> 31 ? (d.v & 0x7fffffffull) * 1000 : d.v;
}

/* A duration in 40 bits: 38 bits of ns, us, ms or s, the first that fits. Exact below 274 s, then
 * cut to the microsecond up to 3 days and to the millisecond up to 8 years. */
struct dur40 {
	uint32_t lo;
	uint8_t hi;
} __attribute__((packed));

static inline struct dur40 dur40_of(uint64_t ns)
{
	static const uint64_t unit[4] = { 1, 1000, 1000000, 1000000000 };
	uint64_t v = ns;
	unsigned u = 0;

	while (__builtin_expect(v >> 38 && u < 3, 0))
		v = ns / unit[++u];
	v = (v >> 38 ? (1ull << 38) - 1 : v) | (uint64_t)u << 38;
	return (struct dur40){ (uint32_t)v, (uint8_t)(v >> 32) };
}

static inline uint64_t dur40_ns(struct dur40 d)
{
	static const uint64_t unit[4] = { 1, 1000, 1000000, 1000000000 };
	uint64_t v = (uint64_t)d.hi << 32 | d.lo;

	return (v & ((1ull << 38) - 1)) * unit[v >> 38];
}
