#include "synfinctl/quantile.h"

/* Values below 2^QUANTILE_BITS have a bucket each; above, a value keeps its highest bits. */
static unsigned bucket_of(uint64_t v)
{
	unsigned shift;

	if (v < 1u << QUANTILE_BITS)
		return (unsigned)v;
	shift = 63 - (unsigned)__builtin_clzll(v) - QUANTILE_BITS;
	return ((shift + 1) << QUANTILE_BITS) +
	       (unsigned)(v >> shift & ((1u << QUANTILE_BITS) - 1));
}

static uint64_t middle_of(unsigned bucket)
{
	unsigned shift = bucket >> QUANTILE_BITS;
	uint64_t low;

	if (!shift)
		return bucket;
	shift--;
	low = (1ull << QUANTILE_BITS | (bucket & ((1u << QUANTILE_BITS) - 1))) << shift;
	return low + ((1ull << shift) >> 1);
}

void quantiles_add(struct quantiles *q, uint64_t v)
{
	q->counts[bucket_of(v)]++;
	if (!q->n || v < q->min)
		q->min = v;
	if (v > q->max)
		q->max = v;
	q->n++;
}

uint64_t quantiles_at(const struct quantiles *q, unsigned permille)
{
	uint64_t rank = (q->n / 1000) * permille + (q->n % 1000 * permille + 999) / 1000, seen = 0;
	unsigned i = 0;
	uint64_t v;

	if (!q->n)
		return 0;
	if (!rank)
		rank = 1;
	while (i < QUANTILE_BUCKETS - 1 && (seen += q->counts[i]) < rank)
		i++;
	v = middle_of(i);
	return v < q->min ? q->min : v > q->max ? q->max : v;
}
