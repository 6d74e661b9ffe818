/* rand.h - random numbers for tests: splitmix64, whose whole state is the seed
 * (tap_seed()). */
#pragma once
#include <stdint.h>

static uint64_t rng; /* set it to the seed */

static inline uint64_t rand64(void)
{
	uint64_t z = rng += 0x9e3779b97f4a7c15u;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
	z = (z ^ z >> 27) * 0x94d049bb133111ebu;
	return z ^ z >> 31;
}

/* 0 .. n-1 */
static inline uint32_t below(uint64_t n)
{
	return (uint32_t)(rand64() % n);
}
