/* segment_check.h - the one place for sequence arithmetic: what does a segment prove?  Pure.
 *
 * Sources: RFC 9293 3.4 and 3.10.7 (acceptability), RFC 5961 3-5 (RST, SYN, ACK), RFC 7413 (data
 * on SYN).  A bystander knows RCV.NXT only between what the receiver acknowledged and what the
 * sender sent; within that an RST counts as exact. */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include "flow/conn.h"
#include "flow/gaps.h"
#include "wire/segment.h"

enum { ANOMALY_NONE = ANOMALIES };

/* The least window to believe in: what was offered may have been missed, and before RFC 7323 no
 * window was larger.  It widens what counts as old or early data, never what closes. */
enum { WINDOW_FLOOR = 65535 };

struct verdict {
	uint16_t evidence; /* bits 1 << enum fsm_evidence, to be applied in that order */
	uint8_t anomaly;   /* enum anomaly, or ANOMALY_NONE; may stand beside evidence */
	bool acceptable;   /* its numbers fit: they may update what is known */
	bool repeat;	   /* a SYN or SYN-ACK that was seen before */
	bool probe;	   /* keep-alive or window probe: neither data nor retransmission */
	bool suspect;	   /* an RST in the window, but not exact */
	bool refuses_data; /* a SYN-ACK that does not acknowledge the data on the SYN */
};

/* What @s proves, sent by @from on @c.  @c is as before the segment; state FSM_NONE included (the
 * caller has filled in nothing but the sides then).  @h: the gaps of @c as far as they are
 * known. */
struct verdict segment_check(const struct conn *c, enum fsm_side from, const struct segment *s,
			     const struct gaps *h);

/* RFC 7323 2.3: no window is larger. */
enum { WINDOW_MOST = 1 << 30 };

/* Is @ack one of what is sent (up to @next) and not acknowledged (from @acked on)?  Where @acked is
 * ahead of @next, which is so if one side was not seen, the answer is no. */
static inline bool ack_in_flight(uint32_t acked, uint32_t ack, uint32_t next)
{
	return ack - acked <= next - acked && next - acked <= WINDOW_MOST;
}

/* Nearly all traffic: on a connection that is `quiet` the next octets in order, or a bare ACK
 * in order, with an ACK of what was sent, into a window that need not be looked at.  True: it
 * proves nothing that is not known, and segment_learn() would do no more than fastpath_learn_open()
 * does. */
static inline bool fastpath_predict_open(const struct conn_hot *h, enum fsm_side from,
					 const struct segment *s)
{
	enum fsm_side peer = !from;

	return h->quiet && (s->flags & (TCP_SYN | TCP_FIN | TCP_RST | TCP_ACK)) == TCP_ACK &&
	       s->seq == h->next[from] && s->window && s->seq - h->acked[from] <= WINDOW_FLOOR &&
	       s->payload_len <= WINDOW_FLOOR &&
	       ack_in_flight(h->acked[peer], s->ack, h->next[peer]);
}

static inline void fastpath_learn_open(struct conn_hot *h, enum fsm_side from,
				       const struct segment *s)
{
	h->next[from] = s->seq + s->payload_len;
	h->acked[!from] = s->ack;
	conn_set_window(h, from, s->window);
}

/* The textbook, where nothing is missing and nothing is in doubt (the caller looks at `suspect`):
 * between the handshake's last ACK and the last one of all the next octets in order, or the FIN, or
 * nothing, with an ACK of what was sent.  Returns what segment_check() would find, and then
 * segment_learn() would do no more than fastpath_learn(); 0: segment_check() must tell. */
unsigned fastpath_predict(const struct conn *c, enum fsm_side from, const struct segment *s);

/* Takes the numbers of @s, which fastpath_predict() found to be so; before the state moves. */
void fastpath_learn(struct conn *c, enum fsm_side from, const struct segment *s);

/* The window of a SYN, which is never scaled (RFC 7323 2.2), as a later segment would say it;
 * rounded up. */
uint16_t window_scaled_down(uint16_t window, unsigned shift);

/* Does the server's @s show that it took the data on the SYN (RFC 7413 4.2), now or before? */
bool segment_fast_open(const struct conn *c, enum fsm_side from, const struct segment *s);

struct learned {
	bool again;    /* it repeats octets that were seen already: a retransmission */
	bool acks_gap; /* it acknowledges octets that were not seen */
};

/* Takes the numbers of an acceptable segment into @c (next, acked, window, gap, gaps) and @h. */
struct learned segment_learn(struct conn *c, enum fsm_side from, const struct segment *s,
			     struct verdict p, struct gaps *h);

/* The handshake is over, and @c can hold now that there are gaps. */
void segment_keep_gaps(struct conn *c, struct gaps *h);

/* A segment that was refused for its numbers; kept in case the peer's next one bears it out. */
struct resync_candidate {
	uint64_t flow; /* whose: the hash of its key; 0: nobody's */
	uint32_t seq, end, ack;
	uint8_t side;
};

/* After a loss of more than a window both sides' segments look wrong, for good.  Yet together they
 * make sense: what one acknowledges, the other sends.  If @s, refused as well, and the peer's @odd
 * bear each other out like that, @c takes their numbers over (what went by unseen is a gap), and
 * true is returned: prove @s again.  One of the two directions must go on where it was known to be,
 * which nobody off the path can forge without knowing it; @lossy, a loss that the capture told,
 * does instead. */
bool segment_resync(struct conn *c, enum fsm_side from, const struct segment *s,
		    const struct resync_candidate *candidate, bool lossy);
