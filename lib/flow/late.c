#include "flow/late.h"
#include "flow/deferral.h"
#include "flow/entry_store.h"
#include "flow/incarnation.h"
#include "flow/input.h"
#include "flow/tracker_state.h"
#include "wire/seq.h"

/* The SYN seemed to be refused, but now it is accepted: its RST overtook another answer, or the SYN
 * came twice and the port had opened meanwhile. */
static bool answers_refused(const struct conn *c, enum fsm_side from, const struct segment *s)
{
	return from == SIDE_B &&
	       !(c->complete & (COMPLETE_SYN_ACK | COMPLETE_DATA | COMPLETE_FIN)) &&
	       segment_flags(s) == (TCP_SYN | TCP_ACK) && s->ack == c->isn + 1;
}

/* Does @s bring octets of @from behind those that were sent before the RST?  Remembers it.  An RST
 * can overtake a FIN, and the ACK behind it. */
static bool goes_on(struct conn *c, enum fsm_side from, const struct segment *s)
{
	uint32_t end = s->seq + s->payload_len;

	if (!s->payload_len || !seq_lt(c->next[from], end) ||
	    !seq_le(s->seq, c->next[from] + WINDOW_FLOOR) ||
	    !seq_le(c->next[from] - WINDOW_FLOOR, s->seq))
		return false;
	c->next[from] = end;
	return true;
}

/* An exact RST was not taken: its receiver wants it signed (RFC 2385, RFC 5925), or it was forged.
 * An endpoint that was reset acknowledges nothing.  So if a side acknowledges what its peer has
 * sent since, the connection lives.  conn_reset() marked in acked[] what was sent before. */
static bool outlives_reset(struct tracker *t, struct flow *f, enum fsm_side from,
			   const struct segment *s)
{
	enum fsm_side peer = !from;
	struct conn *c = f->c;

	if (c->state != FSM_RESET || c->sent != 3 || t->cfg.control ||
	    s->flags & (TCP_SYN | TCP_RST) || !(s->flags & TCP_ACK))
		return false;
	if (seq_lt(c->acked[peer], s->ack) && seq_le(s->ack, c->next[peer]))
		return true;
	if (goes_on(c, from, s))
		entry_save(t, f);
	return false;
}

/* A FIN that comes again restarts TIME-WAIT (RFC 9293 3.10.7.4, eighth step): its sender has not
 * got the last ACK, and will go on. */
static bool restarts_time_wait(const struct conn *c, enum fsm_side from, const struct segment *s)
{
	return s->flags & TCP_FIN && segment_end(s) == c->next[from] && s->ts_ns > c->last_ns &&
	       fsm_endpoint(c->state, !from) == TCPS_TIME_WAIT;
}

void late_input(struct tracker *t, struct flow *f, unsigned sender, const struct segment *s)
{
	enum fsm_side from = sender != f->c->client_end;

	/* An incarnation that waits beside it decides first. */
	if (!f->c->rivalled && (answers_refused(f->c, from, s) || outlives_reset(t, f, from, s))) {
		input_replace(t, f, sender, s);
		return;
	}
	if (!f->c->rivalled && restarts_time_wait(f->c, from, s)) {
		f->c->last_ns = s->ts_ns;
		entry_save(t, f);
	}
	if (segment_flags(s) != TCP_SYN || (from == SIDE_A && s->seq == f->c->isn))
		return;
	if (incarnation_supersedes(f->c, from, s))
		input_replace(t, f, sender, s);
	else
		incarnation_keep(t, f, sender, s);
	if (f->ref != TABLE_NONE)
		deferral_save(t, f);
}
