#include "flow/holes.h"
#include <string.h>
#include "wire/seq.h"

const struct holes holes_none;

void holes_dig(struct holes *h, enum fsm_side side, struct hole hole)
{
	if (h->n[side] == HOLES_MAX) /* rather too wide: an ACK will end it */
		h->hole[side][HOLES_MAX - 1].to = hole.to;
	else
		h->hole[side][h->n[side]++] = hole;
}

static void forget(struct holes *h, enum fsm_side side, unsigned i)
{
	memmove(&h->hole[side][i], &h->hole[side][i + 1],
		(--h->n[side] - i) * sizeof h->hole[side][i]);
}

uint32_t holes_fill(struct holes *h, enum fsm_side side, uint32_t from, uint32_t to)
{
	uint32_t filled = 0;

	for (unsigned i = h->n[side]; i-- > 0;) {
		uint32_t a = h->hole[side][i].from, b = h->hole[side][i].to;

		if (!seq_lt(a, to) || !seq_lt(from, b))
			continue;
		uint32_t octets = (seq_lt(to, b) ? to : b) - (seq_lt(a, from) ? from : a);

		filled += h->hole[side][i].seen ? 0 : octets;
		if (seq_le(from, a) && seq_le(b, to)) {
			forget(h, side, i);
		} else if (seq_le(from, a)) {
			h->hole[side][i].from = to;
		} else {
			h->hole[side][i].to = from;
			if (!seq_lt(to, b))
				continue;
			/* It came in the middle: two are left. */
			if (h->n[side] == HOLES_MAX) {
				h->hole[side][i].to = b;
				continue;
			}
			memmove(&h->hole[side][i + 2], &h->hole[side][i + 1],
				(h->n[side]++ - i - 1) * sizeof h->hole[side][i]);
			h->hole[side][i + 1] = (struct hole){ to, b, h->hole[side][i].seen };
		}
	}
	return filled;
}

bool holes_pass(struct holes *h, enum fsm_side side, uint32_t acked)
{
	bool unseen = false;

	while (h->n[side] && seq_lt(h->hole[side][0].from, acked)) {
		unseen |= !h->hole[side][0].seen;
		if (seq_lt(acked, h->hole[side][0].to)) {
			h->hole[side][0].from = acked;
			break;
		}
		forget(h, side, 0);
	}
	return unseen;
}

uint32_t holes_unseen(const struct holes *h, enum fsm_side side)
{
	uint32_t octets = 0;

	for (unsigned i = 0; i < h->n[side]; i++)
		if (!h->hole[side][i].seen)
			octets += h->hole[side][i].to - h->hole[side][i].from;
	return octets;
}

bool holes_end(const struct holes *h, enum fsm_side side, uint32_t from, uint32_t to)
{
	unsigned n = h->n[side];

	for (unsigned i = 0; i < n; i++)
		if (seq_lt(h->hole[side][i].from, from) || seq_lt(to, h->hole[side][i].to))
			return false;
	return n;
}
