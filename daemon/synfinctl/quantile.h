/* quantile.h - quantiles of durations in fixed memory: a histogram with 64 buckets to each power of
 * two, so that a quantile is wrong by less than 1 %.  Pure. */
#pragma once
#include <stdint.h>

enum { QUANTILE_BITS = 6, QUANTILE_BUCKETS = (64 - QUANTILE_BITS + 1) << QUANTILE_BITS };

struct quantiles {
	uint64_t n, min, max; /* these are exact */
	uint64_t counts[QUANTILE_BUCKETS];
};

/* Adds a value; a zeroed @q is empty. */
void quantiles_add(struct quantiles *q, uint64_t v);

/* The value that @permille of the values do not exceed; 0 if there is none. */
uint64_t quantiles_at(const struct quantiles *q, unsigned permille);
