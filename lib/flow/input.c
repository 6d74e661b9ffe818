#include "flow/input.h"
#include "flow/close.h"
#include "flow/control_mode.h"
#include "flow/deferral.h"
#include "flow/entry_store.h"
#include "flow/tracker_state.h"
#include "flow/transition.h"
#include "flow/trouble.h"
#include "wire/tcpopt.h"

/* ---- refused segments, and gaps: what is remembered of a few connections --------------------- */

/* A segment with wrong numbers.  Together with the peer's last one it may be right after all, after
 * a loss; otherwise it is remembered for the peer's next one. */
static struct verdict reconsider(struct tracker *t, struct flow *f, enum fsm_side from,
				 const struct segment *s, struct verdict v, const struct gaps *g)
{
	const struct resync_candidate *last = recall_find(RECALL(t->candidate), f->hash);
	bool both = last && segment_resync(f->c, from, s, last, tracker_was_lossy(t, f->c));
	struct resync_candidate *k = tracker_recall_edit(t, candidate, f->hash);

	if (both) {
		k->side = SIDES; /* nobody's */
		return segment_check(f->c, from, s, g);
	}
	*k = (struct resync_candidate){ k->head, s->seq, segment_end(s), s->ack, (uint8_t)from };
	return v;
}

static bool has_gaps(const struct conn *c)
{
	return fsm_offering(c->state) ? c->offer.gaps : c->gaps;
}

static void gaps_load(const struct tracker *t, const struct flow *f, struct gaps *ret)
{
	const struct gaps *g = has_gaps(f->c) ? recall_find(RECALL(t->gaps), f->hash) : NULL;

	if (g)
		*ret = *g;
	else
		ret->n[SIDE_A] = ret->n[SIDE_B] = 0;
}

/* After a segment that came in state @before. */
static void gaps_store(struct tracker *t, struct flow *f, enum fsm_state before, struct gaps *g)
{
	if (!(g->n[SIDE_A] | g->n[SIDE_B]))
		return;
	if (fsm_offering(f->c->state))
		f->c->offer.gaps = 1;
	else if (fsm_offering(before))
		segment_keep_gaps(f->c, g);
	if (!has_gaps(f->c))
		return;
	struct gaps *record = tracker_recall_edit(t, gaps, f->hash);

	g->head = record->head;
	*record = *g;
}

/* ---- a known connection ---------------------------------------------------------------------- */

/* The server's data overtook its SYN-ACK @s (RFC 7413 4.2).  A client in SYN-SENT drops such data
 * (RFC 9293 3.10.7.3, fifth step), so it must come again. */
static void mark_overtaken(struct conn *c, const struct segment *s, struct gaps *g)
{
	if (c->complete & COMPLETE_SYN_ACK || !c->payload_lo[SIDE_B])
		return;
	g->n[SIDE_B] = 0; /* gaps in that data are a part of this one */
	gaps_add(g, SIDE_B, (struct gap){ s->seq + 1, c->next[SIDE_B], true });
}

/* A SYN-ACK that does not acknowledge the data on the SYN: it comes again, and counts once. */
static void uncount_syn_data(struct conn *c)
{
	struct conn_counts n = conn_counts(c, SIDE_A);

	n.header += n.payload;
	n.payload = 0;
	conn_set_counts(c, SIDE_A, n);
	c->complete &= ~COMPLETE_DATA & 63;
}

/* A SYN or SYN-ACK that counts, before its numbers are learned. */
static void learn_syn(struct conn *c, enum fsm_side from, const struct segment *s, struct verdict v,
		      struct gaps *g)
{
	bool answer = v.acceptable && c->state == FSM_SYN && s->flags & TCP_ACK;
	struct tcpopt o = tcpopt_parse(s->options);
	uint64_t at = conn_offset(c, s->ts_ns), asked = conn_age(c);

	conn_learn_offer(c, from, s, &o);
	if (answer && from == SIDE_B)
		c->server_rtt = dur32_of(at > asked ? at - asked : 0);
	if (v.repeat && from == SIDE_B && c->state == FSM_ANSWERED &&
	    !(c->complete & COMPLETE_SYN_ACK)) {
		/* Other segments of the server came first, and showed what it proves now. */
		c->since[SIDE_B] = dur40_of(at);
		if (!c->retrans[SIDE_A])
			c->server_rtt = dur32_of(at);
	}
	if (v.refuses_data)
		uncount_syn_data(c);
	else if (answer && c->payload_lo[SIDE_A])
		c->tfo = 1;
	if (v.repeat && s->flags & TCP_ACK && c->state == FSM_ANSWERED)
		mark_overtaken(c, s, g);
}

/* A segment that shows that the SYN was answered, though the SYN-ACK was not seen. */
static void learn_unseen_answer(struct conn *c, enum fsm_side from, const struct segment *s)
{
	c->tfo = segment_fast_open(c, from, s);
	c->server_rtt.v = UINT32_MAX;
	if (c->wscale0 != TCPOPT_WSCALE_NONE) /* the server's scale is not known: the most */
		c->wscale1 = TCPOPT_WSCALE_MAX;
}

/* A self-connection received its own SYN: that is a crossed one.  Returns the state to begin at. */
static enum fsm_state cross_own_syn(struct conn *c)
{
	c->next[SIDE_B] = c->next[SIDE_A];
	c->acked[SIDE_B] = c->acked[SIDE_A];
	c->sent = c->heard = 3;
	return FSM_CROSSED;
}

static struct verdict check(struct tracker *t, struct flow *f, enum fsm_side from,
			    const struct segment *s, enum fsm_state at, const struct gaps *g)
{
	enum fsm_state before = f->c->state;

	f->c->state = at & 31;
	struct verdict v = segment_check(f->c, from, s, g);

	f->c->state = before & 31;
	if (v.anomaly == ANOMALY_OUT_OF_WINDOW || v.anomaly == ANOMALY_BAD_ACK ||
	    v.anomaly == ANOMALY_FIN_OUT_OF_WINDOW)
		return reconsider(t, f, from, s, v, g);
	return v;
}

void input_segment(struct tracker *t, struct flow *f, enum fsm_side from, const struct segment *s)
{
	struct conn *c = f->c;
	bool mirror = f->key.self && !(s->flags & TCP_RST), syn = s->flags & TCP_SYN;
	enum fsm_state before = c->state, at = before;
	uint64_t before_ns = c->last_ns;
	struct learned l = { 0 };
	struct gaps g;
	struct segment bare;

	if (t->cfg.control)
		s = control_mode_believe(c, from, s, &bare);
	if (mirror && at == FSM_SYN && syn && s->flags & TCP_ACK)
		at = cross_own_syn(c);
	gaps_load(t, f, &g);

	struct verdict v = check(t, f, from, s, at, &g);
	bool counts = v.acceptable || v.repeat;
	/* The first of its kind may be overtaken by what it led to: then it repeats nothing. */
	bool late =
		v.repeat && !(c->complete & (s->flags & TCP_ACK ? COMPLETE_SYN_ACK : COMPLETE_SYN));

	if (v.repeat && !late && s->flags & TCP_ACK && before == FSM_ANSWERED)
		answers_add(tracker_recall_edit(t, answers, f->hash), c, s);
	if (syn && counts)
		learn_syn(c, from, s, v, &g);
	if (v.acceptable && !syn && c->state == FSM_SYN)
		learn_unseen_answer(c, from, s);
	conn_account(c, from, s, v.probe ? 0 : s->payload_len);
	if (counts) {
		l = segment_learn(c, from, s, v, &g);
		l.again |= v.repeat && !late;
		if (mirror) {
			c->next[!from] = c->next[from];
			c->acked[from] = c->acked[!from];
		}
		if (!(s->flags & TCP_RST))
			c->suspect = 0;
	}
	if (counts || late || s->flags & TCP_RST || (syn && s->flags & TCP_FIN))
		conn_note_history(
			c, from, s,
			(struct conn_note){ v.probe, l.again,
					    l.acks_gap || v.anomaly == ANOMALY_ACK_UNSEEN });
	if (l.again)
		conn_count_retrans(c, from);
	if (l.again && syn)
		trouble_repeated(t, f, from, s, before_ns);
	c->suspect |= v.suspect;
	transition_apply(t, f, from, s, v, at, mirror);
	gaps_store(t, f, before, &g);
}

/* ---- connections begin ----------------------------------------------------------------------- */

/* The state that the evidence of a first segment leads to; FSM_NONE or FSM_ILLEGAL: it begins
 * nothing (an RST to nothing, a scan's flags). */
static enum fsm_state first_state(struct verdict v, enum fsm_side from, bool *ret_inferred)
{
	enum fsm_state to = FSM_NONE;

	for (unsigned ev = 0; v.acceptable && ev < EVIDENCES; ev++)
		if (v.evidence >> ev & 1)
			to = fsm_step(to, from, ev, ret_inferred);
	return to;
}

void input_first(struct tracker *t, struct flow *f, unsigned sender, const struct segment *s,
		 const struct conn *old)
{
	bool has_prev = old && !conn_deferred(old), watched = synflood_watched(&t->synflood);
	uint64_t prev = has_prev ? flow_id_of(&f->key, old->start_ns, old->isn) : 0;
	struct conn *c = f->c;
	int mss = NO_OFFER;
	struct gaps g = { 0 };
	struct syn_entry e;
	bool inferred = false;

	f->ref = TABLE_NONE;
	conn_begin(c, s, tracker_start_ns(t, s->ts_ns), sender, old);

	enum fsm_side from = sender != c->client_end;
	struct verdict v = segment_check(c, from, s, &gaps_none);
	enum fsm_state to = first_state(v, from, &inferred);
	bool late = unlikely(watched) && to == FSM_ANSWERED && s->flags & TCP_SYN && !old &&
		    deferral_is_late(t, f);

	if (to == FSM_NONE || to == FSM_ILLEGAL || late) {
		counter_add(&t->count->unmatched, 1);
		return;
	}
	c->state = to;
	if (s->flags & TCP_SYN) {
		struct tcpopt offered = tcpopt_parse(s->options);

		conn_learn_offer(c, from, s, &offered);
		if (!(s->flags & TCP_ACK))
			mss = offered.mss;
	}
	conn_account(c, from, s, v.probe ? 0 : s->payload_len);
	segment_learn(c, from, s, v, &g);
	if (from == SIDE_B) /* Zeek marks likewise that its first sender is not the originator */
		conn_history_add(&c->cold, SIDE_B, HISTORY_FLIPPED);
	conn_note_history(c, from, s,
			  (struct conn_note){ v.probe, false, v.anomaly == ANOMALY_ACK_UNSEEN });
	tracker_count_state(t, FSM_NONE, to);
	if (likely(!watched) || !deferral_begin(t, f))
		emit_open(t, f, mss, prev, trigger_of(s, inferred));
	if (entry_fits_syn(t, c, &e)) {
		struct flow_server server = flow_server(f);

		deferral_add(t, f, &server, &e);
	} else {
		entry_save(t, f);
	}
}

void input_replace(struct tracker *t, struct flow *f, unsigned sender, const struct segment *s)
{
	struct conn old = *f->c;

	close_connection(t, f, REASON_REUSE, -1, trigger_of(s, false));
	if (conn_deferred(&old)) /* it may have been reported with its end */
		old = *f->c;
	input_first(t, f, sender, s, &old);
}
