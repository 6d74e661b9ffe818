#include "flow/gaps.h"
#include <string.h>
#include "wire/seq.h"

const struct gaps gaps_none;

void gaps_add(struct gaps *h, enum fsm_side side, struct gap gap)
{
	if (h->n[side] == GAPS_MAX) /* too wide a gap is safe: an ACK ends it */
		h->gap[side][GAPS_MAX - 1].to = gap.to;
	else
		h->gap[side][h->n[side]++] = gap;
}

static void forget(struct gaps *h, enum fsm_side side, unsigned i)
{
	memmove(&h->gap[side][i], &h->gap[side][i + 1],
		(--h->n[side] - i) * sizeof h->gap[side][i]);
}

uint32_t gaps_fill(struct gaps *h, enum fsm_side side, uint32_t from, uint32_t to)
{
	uint32_t filled = 0;

	for (unsigned i = h->n[side]; i-- > 0;) {
		uint32_t a = h->gap[side][i].from, b = h->gap[side][i].to;

		if (!seq_lt(a, to) || !seq_lt(from, b))
			continue;
		uint32_t octets = (seq_lt(to, b) ? to : b) - (seq_lt(a, from) ? from : a);

		filled += h->gap[side][i].seen ? 0 : octets;
		if (seq_le(from, a) && seq_le(b, to)) {
			forget(h, side, i);
		} else if (seq_le(from, a)) {
			h->gap[side][i].from = to;
		} else {
			h->gap[side][i].to = from;
			if (!seq_lt(to, b))
				continue;
			/* It came in the middle: two are left. */
			if (h->n[side] == GAPS_MAX) {
				h->gap[side][i].to = b;
				continue;
			}
			memmove(&h->gap[side][i + 2], &h->gap[side][i + 1],
				(h->n[side]++ - i - 1) * sizeof h->gap[side][i]);
			h->gap[side][i + 1] = (struct gap){ to, b, h->gap[side][i].seen };
		}
	}
	return filled;
}

bool gaps_pass(struct gaps *h, enum fsm_side side, uint32_t acked)
{
	bool unseen = false;

	while (h->n[side] && seq_lt(h->gap[side][0].from, acked)) {
		unseen |= !h->gap[side][0].seen;
		if (seq_lt(acked, h->gap[side][0].to)) {
			h->gap[side][0].from = acked;
			break;
		}
		forget(h, side, 0);
	}
	return unseen;
}

uint32_t gaps_unseen(const struct gaps *h, enum fsm_side side)
{
	uint32_t octets = 0;

	for (unsigned i = 0; i < h->n[side]; i++)
		if (!h->gap[side][i].seen)
			octets += h->gap[side][i].to - h->gap[side][i].from;
	return octets;
}

bool gaps_end(const struct gaps *h, enum fsm_side side, uint32_t from, uint32_t to)
{
	unsigned n = h->n[side];

	for (unsigned i = 0; i < n; i++)
		if (seq_lt(h->gap[side][i].from, from) || seq_lt(to, h->gap[side][i].to))
			return false;
	return n;
}
