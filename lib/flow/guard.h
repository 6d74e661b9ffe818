/* guard.h - the one place for sequence arithmetic: what does a segment prove?  Pure.
 *
 * Sources: RFC 9293 3.4 and 3.10.7 (acceptability), RFC 5961 3-5 (RST, SYN, ACK), RFC 7413 (data
 * on SYN).  A bystander knows RCV.NXT only between what the receiver acknowledged and what the
 * sender sent; within that an RST counts as exact. */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include "flow/conn.h"

struct segment;

enum { ANOMALY_NONE = ANOMALIES };

struct proof {
	uint8_t evidence; /* bits 1 << enum fsm_evidence, to be applied in that order */
	uint8_t anomaly;  /* enum anomaly, or ANOMALY_NONE; may stand beside evidence */
	bool acceptable;  /* its numbers fit: they may update what is known */
	bool repeat;	  /* a SYN or SYN-ACK that was seen before */
	bool probe;	  /* keep-alive or window probe: neither data nor retransmission */
	bool suspect;	  /* an RST in the window, but not exact */
	bool refuses_data; /* a SYN-ACK that does not acknowledge the data on the SYN */
};

/* What @s proves, sent by @from on @c.  @c is as before the segment; state FSM_NONE included (the
 * caller has filled in nothing but the sides then). */
struct proof guard_prove(const struct conn *c, enum fsm_side from, const struct segment *s);

/* Takes the numbers of an acceptable segment into @c: next, acked, window, gap.  Returns true if
 * the segment repeats octets that were seen already (a retransmission). */
bool guard_learn(struct conn *c, enum fsm_side from, const struct segment *s, struct proof p);
