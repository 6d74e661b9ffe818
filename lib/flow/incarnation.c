/* A SYN with another ISN on a 4-tuple that is taken. */
#include "flow/segment_check.h"
#include "flow/work.h"
#include "wire/seq.h"
#include "wire/tcpopt.h"

/* The SYNs of the attempt @pend began nothing: @old counts them as its own. */
static void incarnation_give_back(struct conn *old, const struct conn *pend)
{
	enum fsm_side from = pend->client_end != old->client_end;
	struct conn_counts more = conn_counts(pend, SIDE_A);

	conn_count(old, from, more.pkts, more.header, 0);
}

/* Tells the SYN of an attempt that was deferred back; not if its server is flooded with them. */
static void incarnation_emit(struct tracker *t, struct flow *f, uint64_t prev_flow_id)
{
	if (likely(!t->floods.n) || !synflood_defer(t, f))
		flow_emit_deferred(t, f, f->c->offer.mss, prev_flow_id);
}

/* The other entry of this one's 4-tuple, or TABLE_NONE. */
static table_ref beside(const struct tracker *t, const struct flow *f)
{
	table_ref other, first = table_find(&t->table, f->hash, &f->key, &other);

	return first == f->ref ? other : first;
}

/* A pending attempt that nothing answered: was it one?  If the old connection went on meanwhile
 * it was a stray SYN; if not, it is told now, with its end. */
void incarnation_settle(struct tracker *t, struct flow *f, enum close_reason reason,
			struct trigger trigger)
{
	table_ref old_ref = beside(t, f);
	uint64_t prev = 0;

	if (old_ref != TABLE_NONE) {
		struct flow old = { .key = f->key, .hash = f->hash };

		flow_load(t, &old, old_ref);
		/* Only the last of several attempts against a living connection can be one:
		 * nobody shall fill the stream with SYNs that nobody answers. */
		bool lives = !fsm_over(old.c->state);
		bool stray = old.c->last_ns > f->c->start_ns || (lives && reason == REASON_REUSE);

		old.c->rivalled = 0;
		if (stray)
			flow_remove(t, f);
		/* A SYN entry would want another entry. */
		if (stray && lives && table_shape_of(old_ref) == SHAPE_FULL)
			incarnation_give_back(old.c, f->c);
		flow_store(t, &old);
		if (stray)
			return;
		prev = conn_deferred(old.c) ? 0 : flow_own_id(&old);
	}
	incarnation_emit(t, f, prev);
	flow_give_up(t, f, reason, -1, trigger);
}

void incarnation_orphan(struct tracker *t, const struct flow *old)
{
	struct flow pend = { .key = old->key, .hash = old->hash };
	table_ref ref = beside(t, old);

	if (ref == TABLE_NONE)
		return;
	flow_load(t, &pend, ref);
	if (old->c->last_ns > pend.c->start_ns)
		flow_remove(t, &pend);
}

/* May @s begin a new connection at once, though the old one is not forgotten?  RFC 9293 3.6.1
 * and RFC 6191 2: where nobody waits any more, or when it is newer than the old connection. */
bool incarnation_supersedes(const struct conn *c, enum fsm_side from, const struct segment *s)
{
	if (fsm_endpoint(c->state, !from) != TCPS_TIME_WAIT)
		return true;
	if (seq_lt(c->next[from], s->seq))
		return true;
	if (c->state == FSM_DONE_X) /* whose time the last FIN told is not known: hold the SYN */
		return false;
	struct tcpopt o = tcpopt_parse(s->options);

	return c->tsval_ok && o.timestamps && seq_lt(conn_tsval(c), o.tsval);
}

/* A new incarnation begins when the peer answers the SYN; a challenge ACK drops it (RFC 9293 3.6.1,
 * RFC 5961 4). */
bool incarnation_hold(struct tracker *t, struct flow *old, unsigned sender, const struct segment *s)
{
	struct flow f = { .key = old->key, .hash = old->hash, .ref = TABLE_NONE };
	struct segment bare = *s;
	struct syn_entry syn;

	bare.payload_len = 0; /* data on it will be sent again, or was never taken */
	bare.wire_len -= s->payload_len;
	conn_begin(f.c, &bare, sender, old->c);
	uint64_t *newest = &t->incarnation_ns[f.hash & (RESYNC_CANDIDATES - 1)];

	conn_begin_after(f.c, *newest);
	undo_save(t->undo, newest, sizeof *newest);
	*newest = f.c->start_ns;
	f.c->state = FSM_SYN;

	struct tcpopt o = tcpopt_parse(s->options);
	struct verdict p = { .evidence = 1 << EV_SYN, .anomaly = ANOMALY_NONE, .acceptable = true };
	struct gaps gaps = { 0 };

	conn_learn_offer(f.c, SIDE_A, &bare, &o);
	conn_account(f.c, SIDE_A, &bare, 0);
	segment_learn(f.c, SIDE_A, &bare, p, &gaps);
	conn_note_history(f.c, SIDE_A, &bare, (struct learned){ 0 }, p);
	if (!syn_entry_pack(f.c, &syn))
		return false; /* a header of more than 255 octets: not worth holding */
	syn.incarnation = 1;
	struct synflood_server server = synflood_server_of(&f.key, f.c->client_end);

	f.ref = flow_slot_syn(t, &f, &server, old->ref);
	if (f.ref == TABLE_NONE)
		return false;
	*table_syn(&t->table, f.ref) = syn;
	flow_count_state(t, FSM_NONE, FSM_SYN);
	old->c->rivalled = 1;
	return true;
}

/* Forgets the pending attempt @f; @old, if there is one, is not contested any more. */
static void incarnation_drop(struct tracker *t, struct flow *f, struct flow *old)
{
	flow_remove(t, f);
	if (old->ref != TABLE_NONE) {
		old->c->rivalled = 0;
		incarnation_give_back(old->c, f->c);
		flow_store(t, old);
	}
}

/* The attempt @f was answered: the old connection is gone, this one is told. */
static void incarnation_confirm(struct tracker *t, struct flow *f, struct flow *old,
				const struct segment *s)
{
	uint64_t prev = 0;

	if (old->ref != TABLE_NONE) {
		prev = flow_own_id(old);
		old->c->rivalled = 0; /* by what now takes its place */
		flow_give_up(t, old, REASON_REUSE, -1, trigger_of(s, false));
		if (conn_deferred(old->c)) /* and nothing was told of it */
			prev = 0;
	}
	incarnation_emit(t, f, prev);
	table_syn(&t->table, f->ref)->incarnation = 0;
	table_syn(&t->table, f->ref)->deferred = f->c->offer.deferred;
}

/* The SYN of the attempt once more.  It stays a SYN entry: a repetition of another size is not
 * counted, but keeps it alive. */
static void incarnation_again(struct tracker *t, struct flow *f, const struct segment *s)
{
	struct syn_entry *h = table_syn(&t->table, f->ref), again;
	struct segment bare = *s;

	bare.payload_len = 0;
	bare.wire_len -= s->payload_len;
	conn_account(f->c, SIDE_A, &bare, 0);
	conn_count_retrans(f->c, SIDE_A);
	if (syn_entry_pack(f->c, &again)) {
		again.incarnation = 1;
		*h = again;
	} else {
		h->last = dur40_of(conn_age(f->c));
	}
}

/* What a segment means for a pending attempt. */
enum incarnation_verdict {
	INCARNATION_STANDS,
	INCARNATION_AGAIN,
	INCARNATION_CONFIRMED,
	INCARNATION_DROPPED,
	INCARNATION_REPLACED /* by yet another attempt */
};

/* @fits_old: it can be of the old connection; @news: it acknowledges something new there. */
static enum incarnation_verdict incarnation_judge(const struct conn *c, enum fsm_side from,
						  const struct segment *s, bool fits_old, bool news)
{
	bool syn = s->flags & TCP_SYN, ack = s->flags & TCP_ACK, rst = s->flags & TCP_RST;

	if (from == SIDE_A) {
		if (syn && !ack)
			return s->seq == c->isn ? INCARNATION_AGAIN : INCARNATION_REPLACED;
		/* its third segment: the answer was not seen */
		return !rst && s->seq == c->isn + 1 && !fits_old ? INCARNATION_CONFIRMED
								 : INCARNATION_STANDS;
	}
	if (syn && !ack) /* an attempt the other way round: one is deferred, the newest */
		return INCARNATION_REPLACED;
	if (ack && s->ack == c->isn + 1 && (syn || rst))
		return INCARNATION_CONFIRMED;
	/* A challenge ACK says nothing new (RFC 5961 4.2).  Data, a FIN or their acknowledgement
	 * may have been under way before the server had the SYN. */
	bool bare = ack && !syn && !rst && !(s->flags & TCP_FIN) && !s->payload_len;

	return bare && !news ? INCARNATION_DROPPED : INCARNATION_STANDS;
}

/* A segment of a 4-tuple with a pending attempt @new_ref and, maybe, an old connection.  Returns
 * the entry that the segment is for, or TABLE_NONE; *ret_done: nothing is left to do. */
table_ref incarnation_input(struct tracker *t, const struct flow *f, table_ref new_ref,
			    table_ref old_ref, unsigned sender, const struct segment *s,
			    bool *ret_done)
{
	struct flow pend = { .key = f->key, .hash = f->hash };
	struct flow old = { .key = f->key, .hash = f->hash, .ref = TABLE_NONE };

	if (old_ref != TABLE_NONE) {
		flow_load(t, &old, old_ref);
		if (flow_expire(t, &old)) { /* and the attempt with it, maybe */
			old.ref = TABLE_NONE;
			new_ref = table_find(&t->table, f->hash, &f->key, NULL);
			if (new_ref == TABLE_NONE)
				return TABLE_NONE;
		}
	}
	flow_load(t, &pend, new_ref);
	if (flow_expire(t, &pend))
		return old.ref;
	if (old.ref == TABLE_NONE) { /* nobody contests it any more: an attempt like any other */
		incarnation_confirm(t, &pend, &old, s);
		return pend.ref;
	}

	enum fsm_side from = sender != pend.c->client_end;

	enum fsm_side old_from = sender != old.c->client_end;
	bool fits_old = segment_check(old.c, old_from, s, &gaps_none).acceptable;
	bool news = s->ack != old.c->acked[!old_from];

	switch (incarnation_judge(pend.c, from, s, fits_old, news)) {
	case INCARNATION_AGAIN:
		incarnation_again(t, &pend, s);
		*ret_done = true;
		break;
	case INCARNATION_CONFIRMED:
		incarnation_confirm(t, &pend, &old, s);
		return pend.ref;
	case INCARNATION_DROPPED:
		incarnation_drop(t, &pend, &old);
		break;
	case INCARNATION_REPLACED:
		incarnation_settle(t, &pend, REASON_REUSE, trigger_of(s, false));
		break;
	case INCARNATION_STANDS:
		break;
	}
	return old.ref;
}
