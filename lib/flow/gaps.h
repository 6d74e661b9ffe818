/* gaps.h - octets that a sender has skipped so far, as seen here: lost on the path, or about to
 * come in another order.  Pure.
 *
 * They decide whether a FIN behind them can have been received (RFC 9293 3.10.7.4, eighth step),
 * and tell what is filled from what is repeated.  A tracker remembers those of a few connections at
 * a time: what it has forgotten, or never knew, ends when the peer acknowledges all that was
 * sent. */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include "flow/tcp_fsm.h"

enum { GAPS_MAX = 16 }; /* per side; one more is taken together with the newest */

struct gap {
	uint32_t from, to; /* [from, to), sequence numbers */
	bool seen;	   /* they passed here, but the receiver cannot have taken them */
};

struct gaps {
	uint64_t flow; /* whose: the hash of its key */
	unsigned n[SIDES];
	struct gap gap[SIDES][GAPS_MAX]; /* ascending */
};

extern const struct gaps gaps_none;

/* @side skipped octets behind all that it had sent before. */
void gaps_add(struct gaps *h, enum fsm_side side, struct gap gap);

/* @side sent [from, to): returns how many octets of that had not been seen. */
uint32_t gaps_fill(struct gaps *h, enum fsm_side side, uint32_t from, uint32_t to);

/* The peer has everything before @acked; true: octets among it that were never seen here. */
bool gaps_pass(struct gaps *h, enum fsm_side side, uint32_t acked);

/* Octets of @side that were not seen. */
uint32_t gaps_unseen(const struct gaps *h, enum fsm_side side);

/* Would no gap of @side be left if it sent [from, to)?  False if none is known. */
bool gaps_end(const struct gaps *h, enum fsm_side side, uint32_t from, uint32_t to);
