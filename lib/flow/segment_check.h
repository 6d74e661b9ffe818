/* segment_check.h - what does a segment prove?  The one place for sequence arithmetic.  Pure.
 *
 * Sources: RFC 9293 3.4 and 3.10.7 (acceptability), RFC 5961 3-5 (RST, SYN, ACK), RFC 7413 (data on
 * a SYN).  A bystander knows RCV.NXT only as a range: from what the receiver acknowledged to what
 * the sender sent.  An RST within that range counts as exact. */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include "bpf/predict.h" /* WINDOW_FLOOR, WINDOW_MOST */
#include "flow/event.h"
#include "flow/recall.h"
#include "flow/tcp_fsm.h"

struct conn;
struct gaps;
struct segment;

enum { ANOMALY_NONE = ANOMALIES };

struct verdict {
	uint16_t evidence; /* bits 1 << enum fsm_evidence, to be applied in that order */
	uint8_t anomaly;   /* enum anomaly, or ANOMALY_NONE; may accompany evidence */
	bool acceptable;   /* its numbers fit: they may update what is known */
	bool repeat;	   /* a SYN or SYN-ACK that was seen before */
	bool probe;	   /* keep-alive or window probe: neither data nor retransmission */
	bool suspect;	   /* an RST in the window, but not exact */
	bool refuses_data; /* a SYN-ACK that does not acknowledge the data on the SYN */
};

/* What @s, sent by @from, proves on @c, which is as before the segment.  State FSM_NONE is allowed:
 * then only the sides are known.  @g: the gaps of @c, as far as they are known. */
struct verdict segment_check(const struct conn *c, enum fsm_side from, const struct segment *s,
			     const struct gaps *g);

/* How far the windows of @side are scaled (RFC 7323 2.2); 0 unless both sides offered it. */
unsigned segment_shift(const struct conn *c, enum fsm_side side);

/* Octets that @side accepts beyond what it acknowledged. */
uint32_t segment_window(const struct conn *c, enum fsm_side side);

/* The window of a SYN, which is never scaled (RFC 7323 2.2), as a later segment would say it;
 * rounded up. */
uint16_t window_scaled_down(uint16_t window, unsigned shift);

/* Does the server's @s show that it took the data on the SYN (RFC 7413 4.2), now or before? */
bool segment_fast_open(const struct conn *c, enum fsm_side from, const struct segment *s);

struct learned {
	bool again;    /* it repeats octets that were seen already: a retransmission */
	bool acks_gap; /* it acknowledges octets that were not seen */
};

/* Takes the numbers of an acceptable segment into @c (next, acked, window, gaps) and @g. */
struct learned segment_learn(struct conn *c, enum fsm_side from, const struct segment *s,
			     struct verdict v, struct gaps *g);

/* The handshake is over, so @c can now record that there are gaps. */
void segment_keep_gaps(struct conn *c, struct gaps *g);

/* A segment that was refused for its numbers; kept in case the peer's next one confirms it. */
struct resync_candidate {
	struct recall_head head;
	uint32_t seq, end, ack;
	uint8_t side;
};

/* After a loss of more than a window the segments of both sides look wrong, for good.  Yet together
 * they make sense: what one acknowledges, the other sends.  If @s, refused as well, and the peer's
 * @candidate confirm each other, @c takes their numbers over (what went by unseen is a gap) and
 * true is returned: check @s again.
 *
 * One of the two directions must continue where it was known to be, which an attacker off the path
 * cannot forge; a loss that the capture reported (@lossy) does instead. */
bool segment_resync(struct conn *c, enum fsm_side from, const struct segment *s,
		    const struct resync_candidate *candidate, bool lossy);
