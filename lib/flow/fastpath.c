/* The SYN and the SYN-ACK of a handshake as the textbook has it, on the SYN entry itself: does
 * what input_first() and input_segment() would do by way of a struct conn
 * (tests/unit/test_fastpath.c). */
#include "flow/segment_check.h"
#include "flow/work.h"
#include "wire/tcpopt.h"

static bool flags_are(const struct segment *s, unsigned flags)
{
	return (s->flags & (TCP_SYN | TCP_FIN | TCP_RST | TCP_ACK)) == flags;
}

/* One that a SYN entry can count, see syn_entry_pack(). */
static bool is_small(const struct segment *s)
{
	return !s->payload_len && s->wire_segs == 1 && s->wire_len <= UINT8_MAX;
}

static void emit_begin(struct tracker *t, struct flow *f, const struct syn_entry *h,
		       const struct tcpopt *o, const struct segment *s)
{
	struct event *e = event_begin(t);

	counter_add(&t->count->opened, 1);
	if (!e)
		return;
	syn_entry_unpack(h, f->c);
	emit_common(e, EVENT_TCP_OPEN, &f->key, f->c, FSM_NONE, trigger_of(s, false));
	emit_open(e, o, h->ecn, 0);
	event_end(t);
}

bool fastpath_syn(struct tracker *t, struct flow *f, unsigned sender, const struct segment *s)
{
	if (!t->fastpath || !flags_are(s, TCP_SYN) || !is_small(s))
		return false;

	struct tcpopt o = tcpopt_parse(s->options);
	bool ecn = conn_asks_ecn(s);
	struct synflood_server server = synflood_server_of(&f->key, sender);
	bool deferred = unlikely(t->floods.n) && synflood_defers(t, &server);
	struct syn_entry h = { .start_ns = s->ts_ns,
			       .isn = { s->seq },
			       .mss = o.mss,
			       .header = { (uint8_t)s->wire_len },
			       .syns = 1,
			       .wscale0 = o.wscale & 15,
			       .wscale1 = TCPOPT_WSCALE_NONE,
			       .where = conn_where_of(s),
			       .sack = o.sack,
			       .timestamps = o.timestamps,
			       .tfo = o.tfo,
			       .ecn = ecn,
			       .mptcp = o.mptcp,
			       .client_end = sender & 1,
			       .deferred = deferred };

	flow_count_state(t, FSM_NONE, FSM_SYN);
	if (!deferred)
		emit_begin(t, f, &h, &o, s);
	f->ref = flow_slot_syn(t, f, &server, TABLE_NONE);
	if (f->ref != TABLE_NONE)
		*table_syn(&t->table, f->ref) = h;
	return true;
}

bool fastpath_syn_ack(struct tracker *t, struct flow *f, table_ref ref, unsigned sender,
		      const struct segment *s)
{
	if (!t->fastpath || table_shape_of(ref) != SHAPE_SYN || !flags_are(s, TCP_SYN | TCP_ACK))
		return false;

	struct syn_entry *h = table_syn(&t->table, ref);
	uint64_t at = s->ts_ns - h->start_ns, asked = dur40_ns(h->last);

	/* A segment from before the start has a huge offset. */
	if (h->syn_acks || h->deferred || sender == h->client_end || f->key.self || !is_small(s) ||
	    s->ack != h->isn[SIDE_A] + 1 || at > UINT32_MAX ||
	    t->now_ns >= h->start_ns + asked + t->cfg.timeout_ns[fsm_timeout_of(FSM_SYN)])
		return false;

	struct tcpopt o = tcpopt_parse(s->options);
	bool scales = h->wscale0 != TCPOPT_WSCALE_NONE && o.wscale != TCPOPT_WSCALE_NONE;
	const unsigned bit = 1 << SIDE_B;

	undo_save(t->undo, h, sizeof *h);
	h->answered_ns = (uint32_t)at;
	h->server_rtt = dur32_of(at > asked ? at - asked : 0);
	if (at > asked)
		h->last = dur40_of(at);
	h->isn[SIDE_B] = s->seq;
	h->window = window_scaled_down(s->window, scales ? o.wscale : 0);
	h->header[SIDE_B] = (uint8_t)s->wire_len;
	h->syn_acks = 1;
	h->wscale1 = o.wscale & 15;
	if (o.mss && (!h->mss || o.mss < h->mss))
		h->mss = o.mss;
	h->sack |= o.sack ? bit : 0;
	h->timestamps |= o.timestamps ? bit : 0;
	h->tfo |= o.tfo ? bit : 0;
	h->mptcp |= o.mptcp ? bit : 0;
	h->ecn |= conn_asks_ecn(s) ? bit : 0;
	flow_count_state(t, FSM_SYN, FSM_ANSWERED);
	struct event *e = event_begin(t);

	if (!e)
		return true;
	syn_entry_unpack(h, f->c);
	emit_common(e, EVENT_TCP_STATE, &f->key, f->c, FSM_SYN, trigger_of(s, false));
	e->prev_state_ns[SIDE_B] = at;
	event_end(t);
	return true;
}

bool fastpath_drop(struct tracker *t, const struct waiting *w, enum close_reason reason)
{
	const struct syn_entry *h = w->h;
	enum fsm_state state = h->syn_acks ? FSM_ANSWERED : FSM_SYN;

	if (!t->fastpath || !h->deferred || h->rivalled ||
	    !synflood_swallows(t, &w->server, h->start_ns, synflood_count_of(reason)))
		return false;
	undo_save(t->undo, h, sizeof *h);
	flow_remove_syn(t, w->hash, w->ref, state, &w->server);
	return true;
}

bool fastpath_drop_at(struct tracker *t, table_ref r, enum close_reason reason)
{
	struct waiting w;

	flow_waits(t, r, &w);
	return fastpath_drop(t, &w, reason);
}
