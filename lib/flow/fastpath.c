#include "flow/fastpath.h"
#include "flow/deferral.h"
#include "flow/emit.h"
#include "flow/entry_store.h"
#include "flow/tracker_state.h"
#include "flow/transition.h"
#include "wire/tcpopt.h"

/* ---- open connections, and those that close -------------------------------------------------- */

/* The first ACK, or data, of its side in the open state: a letter. */
static void note_first(struct conn_hot *h, struct conn_cold *k, enum fsm_side from, bool data)
{
	h->noted |= conn_note_bit(from, data) & 15;
	k->complete |= data ? COMPLETE_DATA : COMPLETE_ACK;
	conn_history_add(k, from, data ? HISTORY_DATA : HISTORY_ACK);
}

COLD void fastpath_note(const struct table *t, table_ref ref, struct conn_hot *h,
			enum fsm_side from, bool data)
{
	struct conn_cold *k = undo_edit(t->undo, table_cold(t, ref), sizeof *k);

	note_first(h, k, from, data);
}

/* conn_note_history() of a predicted segment. */
static void note_history(struct conn *c, enum fsm_side from, const struct segment *s)
{
	bool data = s->payload_len, fin = s->flags & TCP_FIN;
	bool open = fsm_phase_of(c->state) == PHASE_OPEN;

	if (!fin && open) {
		if (!(c->noted & conn_note_bit(from, data)))
			note_first(&c->hot, &c->cold, from, data);
		return;
	}
	c->complete |= (fin ? COMPLETE_FIN : 0) | (data ? COMPLETE_DATA : COMPLETE_ACK);
	conn_history_add(&c->cold, from, fin ? HISTORY_FIN : data ? HISTORY_DATA : HISTORY_ACK);
}

/* States where both sides are known and no octet is missing before a FIN. */
static const uint32_t predicted_states = 1 << FSM_ANSWERED | 1 << FSM_OPEN | 1 << FSM_FIN_A |
					 1 << FSM_FIN_B | 1 << FSM_HALF_A | 1 << FSM_HALF_B |
					 1 << FSM_LAST_A | 1 << FSM_LAST_B | 1 << FSM_BOTH |
					 1 << FSM_BOTH_A | 1 << FSM_BOTH_B;

unsigned fastpath_predict(const struct conn *c, enum fsm_side from, const struct segment *s)
{
	enum fsm_side peer = !from;
	unsigned flags = segment_flags(s);
	bool fin = flags == (TCP_FIN | TCP_ACK);
	unsigned evidence = 1 << EV_ACK;

	if (!(predicted_states >> c->state & 1) || (flags != TCP_ACK && !fin) ||
	    (c->sent & c->heard) != 3 ||
	    !predict(predict_side(&c->hot, from), predict_side(&c->hot, peer), s->seq, s->ack,
		     s->window, WINDOW_FLOOR) ||
	    s->payload_len > WINDOW_FLOOR)
		return 0;
	if (c->state == FSM_ANSWERED) { /* the client's ACK of the SYN that waits for it */
		if (from != SIDE_A || s->ack == c->acked[SIDE_B] || c->offer.gaps)
			return 0;
	} else if (c->gaps) {
		return 0;
	}
	if (fsm_fin_seen(c->state, peer) && s->ack == c->next[peer])
		evidence |= 1 << EV_ACK_FIN;
	if (!fin && !s->payload_len)
		return evidence;
	if (fsm_fin_seen(c->state, from))
		return 0;
	if (s->payload_len)
		evidence |= 1 << EV_DATA;
	if (!fin)
		return evidence;
	if (s->seq + s->payload_len - c->acked[from] > segment_window(c, peer)) /* as fin_fits() */
		return 0;
	return evidence | 1 << EV_FIN;
}

void fastpath_learn(struct conn *c, enum fsm_side from, const struct segment *s)
{
	c->next[from] = segment_end(s);
	c->acked[!from] = s->ack;
	if (!fsm_both_fins(c->state))
		conn_set_window(&c->hot, from, s->window);
}

bool fastpath_segment(struct tracker *t, struct flow *f, enum fsm_side from,
		      const struct segment *s)
{
	struct verdict v = { .anomaly = ANOMALY_NONE };
	struct conn *c = f->c;

	if (!tracker_is_fast(t) || c->suspect || f->key.self)
		return false;
	v.evidence = (uint16_t)fastpath_predict(c, from, s);
	if (!v.evidence)
		return false;
	conn_account(c, from, s, s->payload_len);
	fastpath_learn(c, from, s);
	note_history(c, from, s);
	transition_apply(t, f, from, s, v, c->state, false);
	return true;
}

/* ---- SYN and SYN-ACK ------------------------------------------------------------------------- */

/* Can a SYN entry count it?  See syn_entry_pack(). */
static bool is_small(const struct segment *s)
{
	return !s->payload_len && s->wire_segs == 1 && s->wire_len <= UINT8_MAX;
}

/* Of the connection of @e what emit_open() and emit_move() need.  All of it takes four times as
 * long: syn_entry_unpack(). */
static inline void outline(const struct syn_entry *e, enum fsm_state state, struct conn *ret)
{
	ret->start_ns = e->start_ns;
	ret->isn = e->isn[SIDE_A];
	ret->iface = e->where.iface;
	ret->outer = e->where.outer;
	ret->inner = e->where.inner;
	ret->direction = DIRECTION_SYN;
	ret->client_end = e->client_end;
	ret->state = state & 31;
	ret->wscale0 = e->wscale0;
	ret->offer.bits = e->offer;
}

bool fastpath_syn(struct tracker *t, struct flow *f, unsigned sender, const struct segment *s)
{
	if (!tracker_is_fast(t) || segment_flags(s) != TCP_SYN || !is_small(s))
		return false;

	struct tcpopt o = tcpopt_parse(s->options);
	struct flow_server server = flow_server_of(&f->key, sender);
	bool deferred = unlikely(synflood_watched(&t->synflood)) && deferral_wanted(t, &server);
	struct syn_entry e = { .start_ns = tracker_start_ns(t, s->ts_ns),
			       .isn = { s->seq },
			       .mss = o.mss,
			       .header = { (uint8_t)s->wire_len },
			       .syns = 1,
			       .wscale0 = o.wscale & 15,
			       .wscale1 = TCPOPT_WSCALE_NONE,
			       .where = { s->iface, segment_vlan(s, 0, VLAN_NONE),
					  segment_vlan(s, 1, VLAN_NONE) },
			       .offer = conn_offer_bits(s, &o) & OFFER_ALL,
			       .client_end = sender & 1,
			       .deferred = deferred };

	tracker_count_state(t, FSM_NONE, FSM_SYN);
	if (!deferred) {
		outline(&e, FSM_SYN, f->c);
		emit_open(t, f, o.mss, 0, trigger_of(s, false));
	}
	deferral_add(t, f, &server, &e);
	return true;
}

bool fastpath_syn_ack(struct tracker *t, struct flow *f, table_ref ref, unsigned sender,
		      const struct segment *s)
{
	if (!tracker_is_fast(t) || table_shape_of(ref) != SHAPE_SYN ||
	    segment_flags(s) != (TCP_SYN | TCP_ACK))
		return false;

	const struct syn_entry *was = table_syn(&t->table, ref);
	uint64_t at = s->ts_ns - was->start_ns, asked = dur40_ns(was->last);

	/* A segment from before the start has a huge offset. */
	if (was->syn_acks || was->deferred || sender == was->client_end || f->key.self ||
	    !is_small(s) || s->ack != was->isn[SIDE_A] + 1 || at > UINT32_MAX ||
	    t->now_ns >= was->start_ns + asked +
				 tracker_silence_ns(t->cfg.timeout_ns[FSM_T_SYN_SENT], asked))
		return false;

	struct syn_entry *e = table_edit(&t->table, ref).syn;
	struct tcpopt o = tcpopt_parse(s->options);
	bool scales = e->wscale0 != TCPOPT_WSCALE_NONE && o.wscale != TCPOPT_WSCALE_NONE;

	e->answered_ns = (uint32_t)at;
	e->server_rtt = dur32_of(at > asked ? at - asked : 0);
	if (at > asked)
		e->last = dur40_of(at);
	e->isn[SIDE_B] = s->seq;
	e->window = window_scaled_down(s->window, scales ? o.wscale : 0);
	e->header[SIDE_B] = (uint8_t)s->wire_len;
	e->syn_acks = 1;
	e->wscale1 = o.wscale & 15;
	if (o.mss && (!e->mss || o.mss < e->mss))
		e->mss = o.mss;
	e->offer |= conn_offer_bits(s, &o) << SIDE_B & OFFER_ALL;
	tracker_count_state(t, FSM_SYN, FSM_ANSWERED);
	outline(e, FSM_ANSWERED, f->c);
	emit_move(t, f, FSM_SYN, trigger_of(s, false),
		  (uint64_t[SIDES]){ DURATION_UNKNOWN, e->answered_ns }, NULL);
	return true;
}
