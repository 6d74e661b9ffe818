#include "flow/segment_check.h"
#include "flow/conn.h"
#include "flow/gaps.h"
#include "wire/seq.h"
#include "wire/tcpopt.h"

static bool known(unsigned bits, enum fsm_side side)
{
	return bits >> side & 1;
}

unsigned segment_shift(const struct conn *c, enum fsm_side side)
{
	if (c->wscale0 == TCPOPT_WSCALE_NONE || c->wscale1 == TCPOPT_WSCALE_NONE)
		return 0;
	return side == SIDE_A ? c->wscale0 : c->wscale1;
}

uint32_t segment_window(const struct conn *c, enum fsm_side side)
{
	if (fsm_both_fins(c->state) || !known(c->sent, side))
		/* window[] holds something else by then, or nothing yet */
		return WINDOW_FLOOR;
	return (uint32_t)conn_window(&c->hot, side) << segment_shift(c, side);
}

static uint32_t at_least_floor(uint32_t window)
{
	return window < WINDOW_FLOOR ? WINDOW_FLOOR : window;
}

/* Is @side's SYN still to be acknowledged? */
static bool syn_unacked(enum fsm_state s, enum fsm_side side)
{
	if (side == SIDE_A)
		return s == FSM_SYN || s == FSM_CROSSED || s == FSM_CROSSED_B;
	return s == FSM_ANSWERED || s == FSM_CROSSED || s == FSM_CROSSED_A;
}

static struct verdict anomalous(enum anomaly a)
{
	return (struct verdict){ .anomaly = (uint8_t)a };
}

static struct verdict proves(unsigned evidence)
{
	return (struct verdict){ (uint16_t)evidence, ANOMALY_NONE, .acceptable = true };
}

static struct verdict check_syn(const struct conn *c, enum fsm_side from, const struct segment *s)
{
	struct verdict repeat = { .anomaly = ANOMALY_NONE, .repeat = true };
	bool crossed = c->state > FSM_SYN && c->state <= FSM_CROSSED_B;

	if (c->state == FSM_NONE)
		return proves(1 << EV_SYN);
	if (from == SIDE_A && s->seq == c->isn)
		return repeat;
	/* Behind its SYN-ACK it is the crossed SYN that was overtaken. */
	if (from == SIDE_B && (crossed || c->state == FSM_ANSWERED) &&
	    s->seq + 1 == c->next[SIDE_B])
		return repeat;
	if (from == SIDE_B && c->state == FSM_SYN)
		return proves(1 << EV_SYN);
	return anomalous(ANOMALY_SYN_IN_OPEN);
}

/* Are octets of @from's missing, and @s brings the last of them? */
static bool fills(const struct conn *c, enum fsm_side from, const struct segment *s,
		  const struct gaps *g)
{
	uint32_t end = segment_end(s);

	if (fsm_offering(c->state) || !known(c->gaps, from))
		return false;
	/* Where they are need not be known if all comes that is not acknowledged. */
	return gaps_end(g, from, s->seq, end) ||
	       (seq_le(s->seq, c->acked[from]) && end == c->next[from]);
}

/* A FIN, and whether octets are missing in front of it or in the peer's. */
static enum fsm_evidence fin_evidence(const struct conn *c, enum fsm_side from,
				      const struct segment *s, const struct gaps *g)
{
	bool offering = fsm_offering(c->state); /* no gaps are kept yet */
	bool own = (!offering && known(c->gaps, from) && !fills(c, from, s, g)) ||
		   (known(c->sent, from) && seq_lt(c->next[from], s->seq));
	bool peer = !offering && known(c->gaps, !from);

	return own && peer ? EV_FIN_GAP_BOTH
	       : own	   ? EV_FIN_GAP_OWN
	       : peer	   ? EV_FIN_GAP_PEER
			   : EV_FIN;
}

static struct verdict check_syn_ack(const struct conn *c, enum fsm_side from,
				    const struct segment *s, const struct gaps *g)
{
	enum fsm_side peer = !from;
	/* A FIN on it counts (RFC 9293 3.10.7.3, fourth step, and 3.10.7.4, eighth step). */
	bool fin = s->flags & TCP_FIN;
	struct verdict v = proves(1 << EV_SYN_ACK | (fin ? 1 << fin_evidence(c, from, s, g) : 0));

	if (c->state == FSM_NONE)
		return v;
	if (!fsm_handshaking(c->state)) { /* late repetition, its number known from the handshake */
		v = (struct verdict){ .anomaly = ANOMALY_NONE, .repeat = true };
		/* With Fast Open it acknowledges data as well, and data may have overtaken it. */
		bool first = !(c->complete & COMPLETE_SYN_ACK);

		if (from != SIDE_B || (s->ack != c->isn + 1 &&
				       !(first && seq_within(c->isn + 1, s->ack, c->next[SIDE_A]))))
			v = anomalous(ANOMALY_SYN_ACK_UNEXPECTED);
		return v;
	}
	/* A sends one only in SYN-RECEIVED: where B's SYN was not seen its numbers must be
	 * exact. */
	if (from == SIDE_A && (c->state == FSM_SYN || c->state == FSM_CLAIMED ||
			       (c->state == FSM_ANSWERED && s->seq != c->isn)))
		return anomalous(ANOMALY_SYN_ACK_UNEXPECTED);
	/* It acknowledges the peer's SYN, and no more than the peer sent. */
	uint32_t isn = peer == SIDE_A ? c->isn : c->acked[SIDE_B] - !syn_unacked(c->state, SIDE_B);

	if (!seq_within(isn + 1, s->ack, c->next[peer]))
		return anomalous(ANOMALY_BAD_ACK);
	if (c->state == FSM_CLAIMED && s->seq + 1 != c->acked[SIDE_B])
		return anomalous(ANOMALY_BAD_ACK); /* the client acknowledged another one */
	v.repeat = c->state == FSM_ANSWERED && from == SIDE_B;
	v.refuses_data = c->state == FSM_SYN && s->ack != c->next[peer];
	return v;
}

static struct verdict check_rst(const struct conn *c, enum fsm_side from, const struct segment *s)
{
	struct verdict exact = { .evidence = 1 << EV_RST, .anomaly = ANOMALY_NONE };
	struct verdict suspect = { .anomaly = ANOMALY_RST_IN_WINDOW, .suspect = true };
	bool answers_syn = s->flags & TCP_ACK && from == SIDE_B &&
			   seq_within(c->isn + 1, s->ack, c->next[SIDE_A]);

	if (c->state == FSM_SYN && from == SIDE_B)
		return answers_syn ? exact : anomalous(ANOMALY_RST_BAD_ACK);
	/* A client that repeats its SYN is still in SYN-SENT: RFC 9293 3.10.7.3 holds there too. */
	if (c->state == FSM_ANSWERED && answers_syn && conn_counts(c, SIDE_A).pkts > 1)
		return exact;

	bool sent = known(c->sent, from), heard = known(c->heard, from);

	if (!sent && !heard)
		return suspect;
	/* The SYN's own number is never the expected one (RFC 5961 3.2). */
	uint32_t lo = heard ? c->acked[from] + syn_unacked(c->state, from) : c->next[from];
	uint32_t hi = sent ? c->next[from] : c->acked[from];

	if (seq_lt(hi, lo))
		hi = lo;
	if (seq_within(lo, s->seq, hi))
		return exact;
	/* Linux takes one with the FIN's own number too, where the FIN was received. */
	if (fsm_fin_seen(c->state, from) && s->seq + 1 == c->next[from])
		return exact;
	if (seq_within(lo, s->seq, lo + segment_window(c, !from)))
		return suspect;
	return anomalous(ANOMALY_RST_OUT_OF_WINDOW);
}

/* Does the ACK field fit what the peer sent?  May leave a remark in @p. */
static bool ack_fits(const struct conn *c, enum fsm_side from, const struct segment *s,
		     struct verdict *v)
{
	enum fsm_side peer = !from;

	if (known(c->sent, peer) && seq_lt(c->next[peer], s->ack)) {
		/* Of octets that were not seen here: possible within the window that @from offered,
		 * unless the peer cannot have sent any. */
		if (syn_unacked(c->state, peer) || fsm_fin_seen(c->state, peer) ||
		    s->ack - c->next[peer] > at_least_floor(segment_window(c, from)))
			return false;
		v->anomaly = ANOMALY_ACK_UNSEEN;
		return true;
	}
	if (!known(c->heard, peer))
		return true;
	if (syn_unacked(c->state, peer))
		return seq_lt(c->acked[peer], s->ack);
	/* An old one is a reordered one, if it is not too old (RFC 5961 5.2). */
	return seq_le(c->acked[peer] - at_least_floor(segment_window(c, from)), s->ack);
}

/* Does the segment touch what the receiver takes, give or take a window of old data? */
static bool seq_fits(const struct conn *c, enum fsm_side from, const struct segment *s)
{
	uint32_t window = at_least_floor(segment_window(c, !from)), base;

	if (c->state == FSM_SYN && from == SIDE_A) /* nothing is known of B: it must be exact */
		return seq_within(c->isn + 1, s->seq, c->next[SIDE_A]);
	if (known(c->heard, from))
		base = c->acked[from];
	else if (known(c->sent, from))
		base = c->next[from];
	else
		return true;
	if (!known(c->sent, !from))
		window = WINDOW_MOST; /* one-sided: its window was never seen */
	return seq_le(base - window, segment_end(s)) && seq_le(s->seq, base + window);
}

/* RFC 9293 3.10.7.4, eighth step: a FIN counts in window, and only at one place. */
static unsigned fin_fits(const struct conn *c, enum fsm_side from, uint32_t fin)
{
	if (fsm_fin_seen(c->state, from))
		return fin + 1 == c->next[from] ? ANOMALY_NONE : ANOMALY_FIN_MOVED;
	/* A segment behind it, without data, may have overtaken it: then one number is missing. */
	if (known(c->sent, from) && seq_lt(fin, c->next[from]) &&
	    !(fin + 1 == c->next[from] && known(c->heard, from) && seq_le(c->acked[from], fin)))
		return ANOMALY_FIN_OUT_OF_WINDOW; /* it sent more than that already */
	if (known(c->heard, from) && known(c->sent, !from) &&
	    !seq_within(c->acked[from], fin, c->acked[from] + segment_window(c, !from)))
		return ANOMALY_FIN_OUT_OF_WINDOW;
	return ANOMALY_NONE;
}

bool segment_fast_open(const struct conn *c, enum fsm_side from, const struct segment *s)
{
	return from == SIDE_B && (c->tfo || (c->state == FSM_SYN && seq_lt(c->isn + 1, s->ack)));
}

static struct verdict check_rest(const struct conn *c, enum fsm_side from, const struct segment *s,
				 const struct gaps *g)
{
	enum fsm_side peer = !from;
	struct verdict v = proves(1 << EV_ACK);

	if (!(s->flags & TCP_ACK))
		return anomalous(ANOMALY_BAD_FLAGS);
	if (!seq_fits(c, from, s))
		return anomalous(ANOMALY_OUT_OF_WINDOW);
	if (!ack_fits(c, from, s, &v))
		return anomalous(ANOMALY_BAD_ACK);

	/* A segment of old octets alone is answered and dropped, its ACK unread (3.10.7.4, first
	 * step): the peer does not know yet that its FIN has arrived. */
	bool old = known(c->heard, from) && seq_lt(segment_end(s), c->acked[from]);

	if (fsm_fin_seen(c->state, peer) && s->ack == c->next[peer] && !old)
		v.evidence |= 1 << EV_ACK_FIN;
	if (fsm_both_fins(c->state) && fills(c, from, s, g))
		v.evidence |= 1 << EV_FILL;
	v.probe = known(c->sent, from) && known(c->heard, from) &&
		  c->acked[from] == c->next[from] && s->seq + 1 == c->next[from] &&
		  s->payload_len <= 1 && !(s->flags & TCP_FIN);

	uint32_t fin = s->seq + s->payload_len;

	if (s->payload_len && !v.probe) {
		if (fsm_fin_seen(c->state, from) && seq_lt(c->next[from] - 1, fin)) {
			v = anomalous(ANOMALY_DATA_AFTER_FIN);
			return v;
		}
		/* With Fast Open a server may send before the handshake's ACK (RFC 7413 4.2). */
		if (!(segment_fast_open(c, from, s) && fsm_offering(c->state)))
			v.evidence |= 1 << EV_DATA;
	}
	if (s->flags & TCP_FIN) {
		unsigned a = fin_fits(c, from, fin);

		if (a != ANOMALY_NONE)
			return anomalous(a);
		v.evidence |= 1 << fin_evidence(c, from, s, g);
	}
	return v;
}

struct verdict segment_check(const struct conn *c, enum fsm_side from, const struct segment *s,
			     const struct gaps *g)
{
	bool syn = s->flags & TCP_SYN, fin = s->flags & TCP_FIN, rst = s->flags & TCP_RST;

	bool ack = s->flags & TCP_ACK;

	if ((rst && (syn || fin)) || (syn && fin && !ack))
		return anomalous(ANOMALY_BAD_FLAGS);
	if (rst)
		return check_rst(c, from, s);
	if (syn)
		return ack ? check_syn_ack(c, from, s, g) : check_syn(c, from, s);
	return check_rest(c, from, s, g);
}

/* Returns true for octets that came before. */
static bool learn_seq(struct conn *c, enum fsm_side from, const struct segment *s, struct gaps *g)
{
	uint32_t end = segment_end(s), filled = 0;

	if (!known(c->sent, from)) {
		c->next[from] = end;
		c->sent |= 1 << from;
		return false;
	}
	if (!fsm_offering(c->state) && known(c->gaps, from)) {
		if (fills(c, from, s, g))
			c->gaps &= ~(1 << from) & 3;
		filled = gaps_fill(g, from, s->seq, end);
		c->gap_bytes -= filled < c->gap_bytes ? filled : c->gap_bytes;
	}
	bool again = seq_lt(s->seq, c->next[from]) && end != s->seq && !filled;

	if (seq_lt(c->next[from], s->seq)) {
		bool offering = fsm_offering(c->state); /* the caller keeps them until then */

		/* Where some are there that nobody knows, this one cannot be the last. */
		if (offering || g->n[from] || !known(c->gaps, from))
			gaps_add(g, from, (struct gap){ c->next[from], s->seq, false });
		if (!offering) {
			conn_add_gap(c, s->seq - c->next[from]);
			c->gaps |= 1 << from & 3;
		}
	}
	if (seq_lt(c->next[from], end))
		c->next[from] = end;
	return again;
}

/* @from has all of the peer's before acked[]: no gap is left there.  True: octets were never
 * seen. */
static bool pass_gaps(struct conn *c, enum fsm_side peer, struct gaps *g)
{
	bool known_where = g->n[peer], unseen = gaps_pass(g, peer, c->acked[peer]);

	if (known_where ? !g->n[peer] : c->acked[peer] == c->next[peer])
		c->gaps &= ~(1 << peer) & 3;
	return known_where ? unseen : !known(c->gaps, peer);
}

void segment_keep_gaps(struct conn *c, struct gaps *g)
{
	for (unsigned side = 0; side < SIDES; side++) {
		gaps_pass(g, side, c->acked[side]);
		conn_add_gap(c, gaps_unseen(g, side));
		c->gaps |= g->n[side] ? 1 << side & 3 : 0;
	}
}

uint16_t window_scaled_down(uint16_t window, unsigned shift)
{
	return (uint16_t)((window + (1u << shift) - 1) >> shift);
}

struct learned segment_learn(struct conn *c, enum fsm_side from, const struct segment *s,
			     struct verdict v, struct gaps *g)
{
	enum fsm_side peer = !from;
	struct learned l = { 0 };
	bool syn = s->flags & TCP_SYN;

	if (v.refuses_data)
		c->next[peer] = s->ack; /* RFC 9293: it will be sent again */
	if (syn) {
		bool known_syn = known(c->sent, from) && s->seq + 1 == c->next[from];
		/* A repeated SYN-ACK may carry another ISN: a new SYN cookie.  The first one
		 * replaces what a bare ACK before it seemed to say (RFC 9293 3.10.7.3).  But data
		 * that overtook it (Fast Open) is not taken back. */
		bool anew = c->state == FSM_ANSWERED &&
			    (known(c->heard, from) ? c->acked[from] + 1 == c->next[from]
						   : !c->payload_lo[from]);

		if (known_syn && s->flags & TCP_FIN && c->state == FSM_ANSWERED)
			c->next[from] = segment_end(s);
		if (!known_syn && (!v.repeat || anew)) {
			c->next[from] = segment_end(s);
			if (c->state != FSM_CLAIMED) /* there the peer acknowledged it before */
				c->acked[from] = s->seq;
			c->sent |= 1 << from;
			c->heard |= 1 << from;
		}
	} else if (!v.probe) {
		l.again = learn_seq(c, from, s, g);
	}
	/* A's SYN-ACK after B's shows only that the SYNs had crossed: A's ACK is still to come. */
	bool crossed_late = syn && from == SIDE_A && c->state == FSM_ANSWERED;

	if (s->flags & TCP_ACK && !crossed_late) {
		bool newest = true;

		if (!known(c->heard, peer))
			c->acked[peer] = s->ack;
		else if (seq_lt(s->ack, c->acked[peer]))
			newest = false;
		else if (!known(c->sent, peer) || seq_le(s->ack, c->next[peer]))
			c->acked[peer] = s->ack;
		c->heard |= 1 << peer;
		if (!newest)
			return l;
		if (!fsm_offering(c->state) && known(c->gaps, peer))
			l.acks_gap = pass_gaps(c, peer, g);
	}
	if (fsm_both_fins(c->state))
		return l;
	/* The window in a SYN is never scaled (RFC 7323 2.2): the answer makes the scale known, so
	 * that the one in the peer's SYN is due as well. */
	if (syn && s->flags & TCP_ACK && c->state == FSM_SYN)
		conn_set_window(
			&c->hot, peer,
			window_scaled_down(conn_window(&c->hot, peer), segment_shift(c, peer)));
	conn_set_window(&c->hot, from,
			syn ? window_scaled_down(s->window, segment_shift(c, from)) : s->window);
	return l;
}

static bool near(uint32_t a, uint32_t b, uint32_t distance)
{
	return a - b + distance <= 2 * distance;
}

/* @side continues at @next; what lies before @to was not seen. */
static void jump(struct conn *c, enum fsm_side side, uint32_t to, uint32_t next, uint32_t acked)
{
	if (seq_lt(c->next[side], to))
		conn_add_gap(c, to - c->next[side]);
	c->next[side] = next;
	c->acked[side] = acked;
}

bool segment_resync(struct conn *c, enum fsm_side from, const struct segment *s,
		    const struct resync_candidate *candidate, bool lossy)
{
	enum fsm_side peer = !from;
	uint32_t window[SIDES] = { at_least_floor(segment_window(c, SIDE_A)),
				   at_least_floor(segment_window(c, SIDE_B)) };
	bool goes_on[SIDES];

	if (candidate->side != peer || (c->sent & c->heard) != 3 || fsm_handshaking(c->state) ||
	    fsm_fin_seen(c->state, SIDE_A) || fsm_fin_seen(c->state, SIDE_B))
		return false;
	if (!near(s->seq, candidate->ack, window[peer]) ||
	    !near(s->ack, candidate->end, window[from]))
		return false;
	goes_on[from] = near(s->seq, c->next[from], window[peer]) &&
			near(candidate->ack, c->next[from], window[peer]);
	goes_on[peer] = near(candidate->seq, c->next[peer], window[from]) &&
			near(s->ack, c->next[peer], window[from]);
	if (!goes_on[from] && !goes_on[peer] && !lossy)
		return false;
	jump(c, from, s->seq, s->seq, seq_lt(s->seq, candidate->ack) ? s->seq : candidate->ack);
	if (seq_lt(candidate->end, s->ack))
		jump(c, peer, s->ack, s->ack, s->ack);
	else
		jump(c, peer, candidate->seq, candidate->end, s->ack);
	return true;
}
