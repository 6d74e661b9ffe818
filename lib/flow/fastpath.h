/* fastpath.h - header prediction: the usual segments by a short way, with what input.c would do.
 *
 * What is predicted: the SYN and the SYN-ACK of a handshake, on the SYN entry itself; between the
 * handshake's last ACK and the last one of all, the next octets in order, or a FIN, or a bare ACK,
 * acknowledging what was sent ("bpf/predict.h" has the rule).  A predicted segment of an open
 * connection changes only the hot part of its entry, in place.  False or 0 always means: nothing
 * was done, the general path must take the segment.  Private to lib/flow;
 * tests/unit/test_fastpath.c compares both paths. */
#pragma once
#include <stdbool.h>
#include "bpf/predict.h"
#include "flow/conn.h"
#include "flow/table.h"

struct flow;
struct tracker;

/* A SYN that begins a connection; as input_first().  Key and hash of @f are set. */
bool fastpath_syn(struct tracker *t, struct flow *f, unsigned sender, const struct segment *s);

/* The SYN-ACK of the SYN entry @ref. */
bool fastpath_syn_ack(struct tracker *t, struct flow *f, table_ref ref, unsigned sender,
		      const struct segment *s);

/* The evidence of @s, if it is predicted: what segment_check() would find, and then segment_learn()
 * would do no more than fastpath_learn(); else 0.  The caller looks at `suspect`. */
unsigned fastpath_predict(const struct conn *c, enum fsm_side from, const struct segment *s);

/* Takes the numbers of @s, which fastpath_predict() found to be so; before the state moves. */
void fastpath_learn(struct conn *c, enum fsm_side from, const struct segment *s);

/* A segment of a connection that is known and not over; as input_segment(). */
bool fastpath_segment(struct tracker *t, struct flow *f, enum fsm_side from,
		      const struct segment *s);

/* What is known of the side @side of @h. */
static inline struct predict_side predict_side(const struct conn_hot *h, enum fsm_side side)
{
	return (struct predict_side){ h->next[side], h->acked[side] };
}

/* The first ACK, or data, of its side on the full entry @ref, whose hot part @h is lent: a
 * letter. */
void fastpath_note(const struct table *t, table_ref ref, struct conn_hot *h, enum fsm_side from,
		   bool data);

/* Nearly all traffic: a predicted segment of the open connection whose full entry is @ref, and
 * whose hot part is @was, if it is not silent for @timeout_ns at @now_ns.  Inline: this is the loop
 * of a busy tracker. */
static inline __attribute__((always_inline)) bool
fastpath_open(const struct table *t, table_ref ref, const struct conn_hot *was, unsigned sender,
	      const struct segment *s, uint64_t now_ns, uint64_t timeout_ns)
{
	enum fsm_side from = sender != was->client_end;
	bool data = s->payload_len;

	if (!was->quiet || segment_flags(s) != TCP_ACK ||
	    !predict(predict_side(was, from), predict_side(was, !from), s->seq, s->ack, s->window,
		     WINDOW_FLOOR) ||
	    s->payload_len > WINDOW_FLOOR || now_ns >= was->last_ns + timeout_ns)
		return false;

	struct conn_hot *h = table_hot_edit(t, was);

	if (!conn_count_low(h, from, s->wire_segs, s->wire_len - s->payload_len, s->payload_len))
		return false;
	if (unlikely(!(h->noted & conn_note_bit(from, data))))
		fastpath_note(t, ref, h, from, data);
	if (s->ts_ns > h->last_ns)
		h->last_ns = s->ts_ns;
	h->next[from] = s->seq + s->payload_len;
	h->acked[!from] = s->ack;
	conn_set_window(h, from, s->window);
	return true;
}
