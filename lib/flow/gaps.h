/* gaps.h - octets that a sender skipped, as seen here: lost on the path, or reordered.  Pure.
 *
 * They decide whether a FIN after them can have been received (RFC 9293 3.10.7.4, eighth step), and
 * whether octets fill a gap or repeat.  A tracker remembers the gaps of a few connections at a
 * time ("flow/recall.h").  A gap that it does not remember ends when the peer acknowledges
 * everything. */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include "flow/recall.h"
#include "flow/tcp_fsm.h"

enum { GAPS_MAX = 16 }; /* per side; one more is merged with the newest */

struct gap {
	uint32_t from, to; /* [from, to), sequence numbers */
	bool seen;	   /* captured, but the receiver cannot have accepted them */
};

struct gaps {
	struct recall_head head;
	unsigned n[SIDES];
	struct gap gap[SIDES][GAPS_MAX]; /* ascending */
};

extern const struct gaps gaps_none;

/* @side skipped octets after the last one that it had sent. */
void gaps_add(struct gaps *h, enum fsm_side side, struct gap gap);

/* @side sent [from, to): returns how many octets of that fill gaps. */
uint32_t gaps_fill(struct gaps *h, enum fsm_side side, uint32_t from, uint32_t to);

/* The peer has everything before @acked; true: some of it was never captured. */
bool gaps_pass(struct gaps *h, enum fsm_side side, uint32_t acked);

/* Octets of @side that were not captured. */
uint32_t gaps_unseen(const struct gaps *h, enum fsm_side side);

/* Would no gap of @side be left if it sent [from, to)?  False if none is known. */
bool gaps_end(const struct gaps *h, enum fsm_side side, uint32_t from, uint32_t to);
