/* seq.h - serial arithmetic on 32-bit sequence numbers (RFC 9293 section 3.4, modulo 2^32).
 *
 * Valid for numbers less than 2^31 apart. */
#pragma once
#include <stdbool.h>
#include <stdint.h>

static inline bool seq_lt(uint32_t a, uint32_t b)
{
	return (int32_t)(a - b) < 0;
}

static inline bool seq_le(uint32_t a, uint32_t b)
{
	return (int32_t)(a - b) <= 0;
}

/* lo <= x <= hi */
static inline bool seq_within(uint32_t lo, uint32_t x, uint32_t hi)
{
	return x - lo <= hi - lo;
}
