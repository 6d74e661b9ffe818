#include <string.h>
#include "flow/segment_check.h"
#include "flow/emit.h"
#include "flow/control_mode.h"
#include "flow/work.h"
#include "wire/tcpopt.h"

void conn_count_retrans(struct conn *c, enum fsm_side from)
{
	if (c->retrans[from] != UINT16_MAX)
		c->retrans[from]++;
}

/* Zeek's letters and Wireshark's bits: one letter for the kind of segment, then those for what
 * happened on it, as Zeek orders them.  Data and FIN do not count as ACK to either of them. */
void conn_note_history(struct conn *c, enum fsm_side from, const struct segment *s,
		       struct learned l, struct verdict p)
{
	bool syn = s->flags & TCP_SYN, fin = s->flags & TCP_FIN, rst = s->flags & TCP_RST;
	bool ack = s->flags & TCP_ACK, data = s->payload_len && !p.probe;
	enum fsm_side peer = !from;

	if (syn + fin + rst > 1) {
		conn_history_add(c, from, fin && rst ? HISTORY_INCONSISTENT : HISTORY_MULTI_FLAG);
		return;
	}
	if (syn) {
		c->complete |= ack ? COMPLETE_SYN_ACK : COMPLETE_SYN;
		if (data && !ack)
			c->complete |= COMPLETE_DATA;
		/* A SYN-ACK of crossed SYNs has the number of the SYN: the same one to Zeek. */
		if (!conn_history_has(c, from, ack ? HISTORY_SYN : HISTORY_SYN_ACK))
			conn_history_add(c, from, ack ? HISTORY_SYN_ACK : HISTORY_SYN);
		return;
	}
	if (ack)
		c->complete |= data ? COMPLETE_DATA : COMPLETE_ACK;
	c->complete |= (fin ? COMPLETE_FIN : 0) | (rst ? COMPLETE_RST : 0);
	conn_history_add(c, from,
			 rst	? HISTORY_RST
			 : fin	? HISTORY_FIN
			 : data ? HISTORY_DATA
				: HISTORY_ACK);
	if (!rst && !fin && fsm_phase_of(c->state) == PHASE_OPEN)
		conn_mark_noted(c, from, data);
	/* Who has sent a FIN needs no window any more. */
	if (!s->window && !rst && !fsm_fin_seen(c->state, peer))
		conn_history_add(c, from, HISTORY_ZERO_WINDOW);
	if (data && l.again)
		conn_history_add(c, from, HISTORY_RETRANSMIT);
	if (fsm_offering(c->state) || !(c->complete & COMPLETE_SYN_ACK))
		return;
	if (l.acks_gap || p.anomaly == ANOMALY_ACK_UNSEEN)
		conn_history_add(c, peer, HISTORY_GAP);
}

/* What a SYN or SYN-ACK offers. */
void conn_learn_offer(struct conn *c, enum fsm_side from, const struct segment *s,
		      const struct tcpopt *o)
{
	unsigned bit = 1u << from;

	if (from == SIDE_A)
		c->wscale0 = o->wscale;
	else
		c->wscale1 = o->wscale;
	if (!fsm_offering(c->state))
		return;
	if (o->mss && (!c->offer.mss || o->mss < c->offer.mss))
		c->offer.mss = o->mss;
	c->offer.sack |= o->sack ? bit : 0;
	c->offer.timestamps |= o->timestamps ? bit : 0;
	c->offer.tfo |= o->tfo ? bit : 0;
	c->offer.mptcp |= o->mptcp ? bit : 0;
	c->offer.ecn |= conn_asks_ecn(s) ? bit : 0;
}

/* What the SYNs offered gives way to what only a longer life needs. */
static void leave_offer(struct conn *c)
{
	struct conn_counts n[SIDES] = { conn_counts(c, SIDE_A), conn_counts(c, SIDE_B) };

	c->gap_bytes = c->gaps = 0;
	c->state = FSM_CLAIMED; /* any that offers nothing */
	conn_set_counts(c, SIDE_A, n[SIDE_A]);
	conn_set_counts(c, SIDE_B, n[SIDE_B]);
}

/* The connection goes to @to.  How long each end was where it was, if it moved: @ret_moved_ns. */
bool flow_change(struct tracker *t, struct conn *c, enum fsm_state to, uint64_t ts_ns,
		 uint64_t ret_moved_ns[static SIDES])
{
	enum fsm_state before = c->state;
	uint64_t at = conn_offset(c, ts_ns);
	bool moved = false;

	for (unsigned side = 0; side < SIDES; side++) {
		ret_moved_ns[side] = DURATION_UNKNOWN;
		if (fsm_endpoint(before, side) == fsm_endpoint(to, side))
			continue;
		uint64_t since = dur40_ns(c->since[side]);

		ret_moved_ns[side] = at > since ? at - since : 0;
		c->since[side] = dur40_of(at);
		moved = true;
	}
	if (fsm_offering(before) && !fsm_offering(to))
		leave_offer(c);
	if (fsm_phase_of(before) != fsm_phase_of(to))
		c->noted = 0;
	c->merged |= (before == FSM_FIN_A && to == FSM_LAST_A) ||
		     (before == FSM_FIN_B && to == FSM_LAST_B);
	c->state = to & 31;
	flow_count_state(t, before, to);
	return moved;
}

static bool both_fins(enum fsm_state s)
{
	return fsm_fin_seen(s, SIDE_A) && fsm_fin_seen(s, SIDE_B);
}

static enum close_reason reason_of(enum fsm_state before, enum fsm_state after, enum fsm_side from)
{
	if (after != FSM_RESET || both_fins(before))
		return REASON_FIN; /* after both FINs an RST changes nothing: RFC 1337 */
	/* an RST to a SYN refuses it, unless it is the client's own */
	return before == FSM_SYN && from == SIDE_B ? REASON_REFUSED : REASON_RST;
}

/* Of the last FIN: the next incarnation is compared with it.  window[] is not needed any more. */
static void keep_tsval(struct conn *c, const struct segment *s)
{
	struct tcpopt o = tcpopt_parse(s->options);

	conn_set_tsval(c, o.tsval);
	c->tsval_ok = o.timestamps;
}

/* Tells what the ends did.  @offered: what the handshake knew, if this ended it. */
static void emit_move(struct tracker *t, struct flow *f, enum fsm_state before,
		      struct trigger trigger, const uint64_t *moved_ns, const struct conn *offered)
{
	struct event *e = event_begin(t);

	if (!e)
		return;
	emit_common(e, offered ? EVENT_TCP_ESTABLISHED : EVENT_TCP_STATE, &f->key, f->c, before,
		    trigger);
	memcpy(e->prev_state_ns, moved_ns, sizeof e->prev_state_ns);
	if (offered)
		emit_established(e, offered, before, trigger.ts_ns);
	event_end(t);
}

/* The handshake ends by going to @to for @s. */
static __attribute__((noinline)) bool establish(struct tracker *t, struct flow *f,
						enum fsm_state to, const struct segment *s,
						bool inferred)
{
	struct conn offered = *f->c; /* before it is overwritten */
	uint64_t moved_ns[SIDES];

	if (!flow_change(t, f->c, to, s->ts_ns, moved_ns))
		return false;
	emit_move(t, f, (enum fsm_state)offered.state, trigger_of(s, inferred), moved_ns, &offered);
	return true;
}

/* The connection goes to @to for @s; tells what its ends did.  False: nothing, there was no word
 * to say. */
static bool move(struct tracker *t, struct flow *f, enum fsm_side from, enum fsm_state to,
		 const struct segment *s, bool inferred)
{
	enum fsm_state before = f->c->state;
	uint64_t moved_ns[SIDES];

	bool deferred = unlikely(conn_deferred(f->c)) && synflood_keeps(t, f, to, s);

	if (fsm_handshaking(before) && !fsm_handshaking(to) && !fsm_over(to))
		return establish(t, f, to, s, inferred);
	bool moved = flow_change(t, f->c, to, s->ts_ns, moved_ns);

	if (both_fins(to) && !both_fins(before))
		keep_tsval(f->c, s);
	if (!moved)
		return false;
	if (deferred)
		return true;
	if (fsm_over(to))
		flow_emit_close(t, f, before, reason_of(before, to, from),
				to == FSM_RESET ? (int)from : -1, trigger_of(s, inferred),
				moved_ns);
	else
		emit_move(t, f, before, trigger_of(s, inferred), moved_ns, NULL);
	return true;
}

/* Applies proofs in their order, beginning at state @to.  With @mirror each is applied for both
 * sides: self-connection.  A remark that the proof carries is told only if nothing better is: one
 * segment, one event. */
static void apply(struct tracker *t, struct flow *f, enum fsm_side from, const struct segment *s,
		  struct verdict p, enum fsm_state to, bool mirror)
{
	unsigned anomaly = p.anomaly;
	/* A FIN shows that there was a handshake, but not the ACK that ended it. */
	bool inferred = t->cfg.control && !(s->flags & TCP_SYN) && fsm_handshaking(to);

	for (unsigned proofs = p.evidence; proofs; proofs &= proofs - 1) {
		enum fsm_evidence ev = (enum fsm_evidence)__builtin_ctz(proofs);
		enum fsm_state next = fsm_step(to, from, ev, &inferred);

		if (next != FSM_ILLEGAL && mirror)
			next = fsm_step(next, !from, ev, &inferred);
		if (next == FSM_ILLEGAL) {
			anomaly = ANOMALY_ILLEGAL;
			break;
		}
		to = next;
	}
	bool reported = to != f->c->state && move(t, f, from, to, s, inferred);

	if (anomaly != ANOMALY_NONE)
		flow_emit_anomaly(t, f, from, anomaly, trigger_of(s, false), !reported);
}

/* A segment that answers a SYN tells how long that took: before anything is changed. */
static void time_answer(struct conn *c, const struct segment *s)
{
	uint64_t at = conn_offset(c, s->ts_ns), asked = conn_age(c);

	c->server_rtt = dur32_of(at > asked ? at - asked : 0);
}

/* A segment with wrong numbers: together with the peer's last one it may be a right one after all,
 * after a loss; otherwise it is remembered for the peer's next one. */
static struct verdict reconsider(struct tracker *t, struct flow *f, enum fsm_side from,
				 const struct segment *s, struct verdict p, const struct gaps *h)
{
	struct resync_candidate *candidate = &t->candidate[f->hash & (RESYNC_CANDIDATES - 1)];

	undo_save(t->undo, candidate, sizeof *candidate);
	if (candidate->flow == f->hash &&
	    segment_resync(f->c, from, s, candidate, flow_was_lossy(t, f->c))) {
		candidate->flow = 0;
		return segment_check(f->c, from, s, h);
	}
	*candidate = (struct resync_candidate){ .flow = f->hash,
						.seq = s->seq,
						.end = segment_end(s),
						.ack = s->ack,
						.side = (uint8_t)from };
	return p;
}

/* ---- what is missing ------------------------------------------------------------------------ */

static bool has_gaps(const struct conn *c)
{
	return fsm_offering(c->state) ? c->offer.overtaken : c->gaps;
}

static void gaps_load(const struct tracker *t, const struct flow *f, struct gaps *ret)
{
	const struct gaps *h = &t->gaps[f->hash & (GAP_FLOWS - 1)];

	if (has_gaps(f->c) && h->flow == f->hash)
		*ret = *h;
	else
		ret->n[SIDE_A] = ret->n[SIDE_B] = 0;
}

/* After a segment that came in state @before. */
static void gaps_store(struct tracker *t, struct flow *f, enum fsm_state before, struct gaps *h)
{
	struct gaps *slot = &t->gaps[f->hash & (GAP_FLOWS - 1)];
	struct conn *c = f->c;

	if (!(h->n[SIDE_A] | h->n[SIDE_B]))
		return;
	if (fsm_offering(before) && !fsm_offering(c->state))
		segment_keep_gaps(c, h);
	if (!has_gaps(c))
		return;
	h->flow = f->hash;
	undo_save(t->undo, slot, sizeof *slot);
	*slot = *h;
}

/* The SYN-ACK was overtaken by data of its server's (RFC 7413 4.2): a client in SYN-SENT drops it
 * (RFC 9293 3.10.7.3, fifth step), and it has to come again. */
static void mark_overtaken(struct conn *c, const struct segment *s, struct gaps *h)
{
	if (c->complete & COMPLETE_SYN_ACK || !c->payload_lo[SIDE_B] || c->offer.overtaken)
		return;
	c->offer.overtaken = 1;
	gaps_add(h, SIDE_B, (struct gap){ s->seq + 1, c->next[SIDE_B], true });
}

/* The short way for the textbook's segments: does what input_segment() would do. */
static bool input_predicted(struct tracker *t, struct flow *f, enum fsm_side from,
			    const struct segment *s)
{
	struct conn *c = f->c;
	struct verdict p = { .anomaly = ANOMALY_NONE };

	if (!t->fastpath || c->suspect || f->key.self)
		return false;
	p.evidence = (uint16_t)fastpath_predict(c, from, s);
	if (!p.evidence)
		return false;
	conn_account(c, from, s, s->payload_len);
	fastpath_learn(c, from, s);
	conn_note_predicted(c, from, s);
	apply(t, f, from, s, p, c->state, false);
	return true;
}

void input_segment(struct tracker *t, struct flow *f, enum fsm_side from, const struct segment *s)
{
	if (input_predicted(t, f, from, s))
		return;
	struct conn *c = f->c;
	bool mirror = f->key.self && !(s->flags & TCP_RST);
	enum fsm_state before = c->state, at = before;
	struct learned l = { 0 };
	struct gaps h;
	struct segment room;

	if (t->cfg.control)
		s = control_mode_believe(c, from, s, &room);
	if (mirror && at == FSM_SYN && s->flags & TCP_SYN && s->flags & TCP_ACK) {
		/* It received its own SYN meanwhile: that is a crossed one. */
		c->next[SIDE_B] = c->next[SIDE_A];
		c->acked[SIDE_B] = c->acked[SIDE_A];
		c->sent = c->heard = 3;
		at = FSM_CROSSED;
	}
	gaps_load(t, f, &h);
	c->state = at & 31;
	struct verdict p = segment_check(c, from, s, &h);

	c->state = before & 31;
	if (p.anomaly == ANOMALY_OUT_OF_WINDOW || p.anomaly == ANOMALY_BAD_ACK ||
	    p.anomaly == ANOMALY_FIN_OUT_OF_WINDOW)
		p = reconsider(t, f, from, s, p, &h);
	bool syn = s->flags & TCP_SYN;

	if (syn && (p.acceptable || p.repeat)) {
		struct tcpopt o = tcpopt_parse(s->options);

		conn_learn_offer(c, from, s, &o);
		if (p.acceptable && c->state == FSM_SYN && from == SIDE_B && s->flags & TCP_ACK)
			time_answer(c, s);
		if (p.refuses_data) { /* it comes again: not counted twice */
			struct conn_counts n = conn_counts(c, SIDE_A);

			n.header += n.payload;
			n.payload = 0;
			conn_set_counts(c, SIDE_A, n);
			c->complete &= ~COMPLETE_DATA & 63;
		} else if (p.acceptable && c->state == FSM_SYN && s->flags & TCP_ACK &&
			   c->payload_lo[SIDE_A]) {
			c->tfo = 1;
		}
		if (p.repeat && s->flags & TCP_ACK && c->state == FSM_ANSWERED)
			mark_overtaken(c, s, &h);
	}
	if (p.acceptable && !syn && c->state == FSM_SYN) {
		c->tfo = segment_fast_open(c, from, s);
		/* The answer was not seen: how far the server scales is not known. */
		if (c->wscale0 != TCPOPT_WSCALE_NONE)
			c->wscale1 = TCPOPT_WSCALE_MAX;
	}
	/* The first of its kind may be overtaken by what it led to: then it repeats nothing. */
	bool late =
		p.repeat && !(c->complete & (s->flags & TCP_ACK ? COMPLETE_SYN_ACK : COMPLETE_SYN));

	conn_account(c, from, s, p.probe ? 0 : s->payload_len);
	if (p.acceptable || p.repeat) {
		l = segment_learn(c, from, s, p, &h);
		l.again |= p.repeat && !late;
		if (mirror) {
			c->next[!from] = c->next[from];
			c->acked[from] = c->acked[!from];
		}
		if (!(s->flags & TCP_RST))
			c->suspect = 0;
	}
	if (p.acceptable || p.repeat || late || s->flags & TCP_RST || (syn && s->flags & TCP_FIN))
		conn_note_history(c, from, s, l, p);
	if (l.again)
		conn_count_retrans(c, from);
	c->suspect |= p.suspect;
	apply(t, f, from, s, p, at, mirror);
	gaps_store(t, f, before, &h);
}

/* ---- connections begin ---------------------------------------------------------------------- */

/* Who is the client, when no SYN says so?  The end whose port looks like a service is not. */
static unsigned guess_client(const struct segment *s, unsigned sender, enum direction_basis *ret)
{
	enum { WELL_KNOWN = 1024, EPHEMERAL = 32768 }; /* IANA; Linux ip_local_port_range */
	bool low = s->sport < WELL_KNOWN, low_peer = s->dport < WELL_KNOWN;

	if (low == low_peer) {
		low = s->sport < EPHEMERAL;
		low_peer = s->dport < EPHEMERAL;
	}
	*ret = low == low_peer ? DIRECTION_FIRST_PACKET : DIRECTION_PORT;
	return low && !low_peer ? !sender : sender;
}

/* An entry for the connection that @s begins, as it is before @s.  @old, if not NULL, is the one
 * that the 4-tuple had: where the clock is too coarse to tell them apart, the new one begins a
 * nanosecond later, since the flow id follows from the start. */
void conn_begin(struct conn *c, const struct segment *s, unsigned sender, const struct conn *old)
{
	const struct conn_where where = conn_where_of(s);
	enum direction_basis basis = DIRECTION_SYN;
	unsigned client = sender;
	bool syn = s->flags & TCP_SYN;

	*c = (struct conn){ .start_ns = s->ts_ns,
			    .last_ns = s->ts_ns,
			    .iface = s->iface,
			    .outer = where.outer,
			    .inner = where.inner,
			    .wscale0 = TCPOPT_WSCALE_NONE,
			    .wscale1 = TCPOPT_WSCALE_NONE };
	if (syn && s->flags & TCP_ACK) {
		basis = DIRECTION_SYN_ACK;
		client = !sender;
		c->isn = s->ack - 1;
		c->next[SIDE_A] = c->acked[SIDE_A] = s->ack;
		c->sent = c->heard = 1 << SIDE_A;
		c->server_rtt.v = UINT32_MAX;
		c->wscale0 = TCPOPT_WSCALE_MAX; /* the client's SYN, not seen, may have said so */
	} else if (!syn) {
		client = guess_client(s, sender, &basis);
		c->isn = s->seq;
		c->wscale0 = c->wscale1 = TCPOPT_WSCALE_MAX; /* not known: the most there is */
	} else {
		c->isn = s->seq;
	}
	c->client_end = client & 1;
	c->direction = basis & 3;
	if (old)
		conn_begin_after(c, old->start_ns);
}

/* The first segment of a connection; @old, if not NULL, is the one that it takes over from. */
void input_first(struct tracker *t, struct flow *f, unsigned sender, const struct segment *s,
		 const struct conn *old)
{
	uint64_t prev_flow_id =
		old && !conn_deferred(old) ? flow_id_of(&f->key, old->start_ns, old->isn) : 0;
	struct conn *c = f->c;
	struct tcpopt opt, *offered = NULL;
	bool inferred = false;

	f->ref = TABLE_NONE;
	conn_begin(c, s, sender, old);

	enum fsm_side from = sender != c->client_end;
	struct verdict p = segment_check(c, from, s, &gaps_none);
	struct gaps gaps = { 0 };
	enum fsm_state to = FSM_NONE;

	for (unsigned ev = 0; p.acceptable && ev < EVIDENCES; ev++)
		if (p.evidence >> ev & 1)
			to = fsm_step(to, from, ev, &inferred);
	bool late = unlikely(t->floods.n) && to == FSM_ANSWERED && s->flags & TCP_SYN && !old &&
		    synflood_late(t, f);

	if (to == FSM_NONE || to == FSM_ILLEGAL ||
	    late) { /* an RST to nothing, a scan's odd flags */
		counter_add(&t->count->unmatched, 1);
		return;
	}
	c->state = to;
	if (s->flags & TCP_SYN) {
		opt = tcpopt_parse(s->options);
		offered = s->flags & TCP_ACK ? NULL : &opt;
		conn_learn_offer(c, from, s, &opt);
	}
	conn_account(c, from, s, p.probe ? 0 : s->payload_len);
	segment_learn(c, from, s, p, &gaps);
	if (from == SIDE_B) /* Zeek marks likewise that its first sender is not the originator */
		conn_history_add(c, SIDE_B, HISTORY_FLIPPED);
	conn_note_history(c, from, s, (struct learned){ 0 }, p);
	flow_count_state(t, FSM_NONE, to);
	if (likely(!t->floods.n) || !synflood_defer(t, f))
		flow_emit_open(t, f, offered, offered && c->offer.ecn >> from & 1, prev_flow_id,
			       trigger_of(s, inferred));
	flow_store(t, f);
}
