#include "flow/control_mode.h"
#include "flow/conn.h"
#include "wire/seq.h"

/* @side's next octet is @at.  Modulo 2^32 the steps add up, whichever way they go. */
static void go_on_at(struct conn *c, enum fsm_side side, uint32_t at)
{
	if (c->sent >> side & 1)
		c->payload_lo[side] += at - c->next[side];
	c->next[side] = at;
	c->sent |= 1u << side & 3;
	c->heard |= 1u << side & 3;
}

/* Does the segment say where its sender is?  To a SYN alone an RST must answer (RFC 9293
 * 3.10.7.3), and odd flags are none of ours. */
static bool is_word(const struct conn *c, enum fsm_side from, const struct segment *s)
{
	unsigned flags = segment_flags(s);

	if (flags == (TCP_FIN | TCP_ACK))
		return true;
	return (flags & ~(unsigned)TCP_ACK) == TCP_RST && !(c->state == FSM_SYN && from == SIDE_B);
}

const struct segment *control_mode_believe(struct conn *c, enum fsm_side from,
					   const struct segment *s, struct segment *scratch)
{
	enum fsm_side peer = !from;
	unsigned syn = fsm_handshaking(c->state); /* it may be what is acknowledged */

	if (!is_word(c, from, s))
		return s;
	*scratch = *s;
	scratch->payload_len = 0;
	if (s->flags & TCP_FIN)
		scratch->seq += s->payload_len;
	if (!fsm_fin_seen(c->state, from)) {
		go_on_at(c, from, scratch->seq);
		c->acked[from] = scratch->seq - syn;
	} else if (seq_lt(scratch->seq, c->acked[from])) { /* an RST repeats the ACK that it got */
		c->acked[from] = scratch->seq;
	}
	if (!(s->flags & TCP_ACK))
		return scratch;
	if (!fsm_fin_seen(c->state, peer)) {
		go_on_at(c, peer, s->ack);
		c->acked[peer] = s->ack - syn;
	} else if (seq_lt(s->ack, c->acked[peer])) { /* FINs that crossed */
		c->acked[peer] = s->ack;
	}
	return scratch;
}

enum fsm_timeout control_mode_timeout(enum fsm_state s)
{
	switch (s) {
	case FSM_CROSSED_A:
	case FSM_CROSSED_B:
	case FSM_ANSWERED:
		return FSM_T_ESTABLISHED;
	case FSM_FIN_A:
	case FSM_FIN_B:
		return FSM_T_HALF_CLOSED;
	default:
		return control_mode_end(s) != s ? FSM_T_TIME_WAIT : fsm_timeout_of(s);
	}
}

enum fsm_state control_mode_end(enum fsm_state s)
{
	if (fsm_over(s) || !fsm_both_fins(s))
		return s;
	return s == FSM_LAST_A ? FSM_DONE_A : s == FSM_LAST_B ? FSM_DONE_B : FSM_DONE_X;
}

uint64_t control_mode_stream(const struct conn *c, enum fsm_state s, enum fsm_side side)
{
	if (!fsm_fin_seen(s, side) || conn_is_midstream(c))
		return UINT64_MAX;
	if (side == SIDE_A) /* its ISN is kept; SYN and FIN count one each */
		return (uint32_t)(c->next[SIDE_A] - c->isn - 2);
	return c->complete & COMPLETE_SYN_ACK ? c->payload_lo[SIDE_B] : UINT64_MAX;
}
