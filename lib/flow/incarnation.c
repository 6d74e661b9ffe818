#include "flow/incarnation.h"
#include "flow/close.h"
#include "flow/deferral.h"
#include "flow/entry_store.h"
#include "flow/tracker_state.h"
#include "wire/seq.h"
#include "wire/tcpopt.h"

bool incarnation_supersedes(const struct conn *c, enum fsm_side from, const struct segment *s)
{
	if (fsm_endpoint(c->state, !from) != TCPS_TIME_WAIT)
		return true;
	if (seq_lt(c->next[from], s->seq))
		return true;
	if (c->state == FSM_DONE_X) /* it is not known whose timestamp was kept: keep the SYN */
		return false;
	struct tcpopt o = tcpopt_parse(s->options);

	return c->tsval_ok && o.timestamps && seq_lt(conn_tsval(c), o.tsval);
}

/* @s without its data, which will be sent again or was never taken. */
static struct segment without_data(const struct segment *s)
{
	struct segment bare = *s;

	bare.payload_len = 0;
	bare.wire_len -= s->payload_len;
	return bare;
}

bool incarnation_keep(struct tracker *t, struct flow *old, unsigned sender, const struct segment *s)
{
	const struct verdict v = { 1 << EV_SYN, ANOMALY_NONE, .acceptable = true };
	struct flow f = { .key = old->key, .hash = old->hash, .ref = TABLE_NONE };
	struct segment bare = without_data(s);
	struct tcpopt o = tcpopt_parse(s->options);
	struct gaps g = { 0 };
	struct syn_entry e;

	conn_begin(f.c, &bare, tracker_start_ns(t, s->ts_ns), sender, old->c);
	/* It starts after the newest incarnation of this 4-tuple. */
	struct recent_start *newest = tracker_recall_edit(t, incarnation, f.hash);

	conn_begin_after(f.c, newest->start_ns);
	newest->start_ns = f.c->start_ns;
	f.c->state = FSM_SYN;
	conn_learn_offer(f.c, SIDE_A, &bare, &o);
	conn_account(f.c, SIDE_A, &bare, 0);
	segment_learn(f.c, SIDE_A, &bare, v, &g);
	conn_note_history(f.c, SIDE_A, &bare, (struct conn_note){ 0 });
	if (!syn_entry_pack(f.c, &e))
		return false; /* a header of more than 255 octets */
	e.incarnation = 1;

	struct flow_server server = flow_server(&f);

	deferral_add(t, &f, &server, &e);
	tracker_count_state(t, FSM_NONE, FSM_SYN);
	old->c->rivalled = 1;
	return true;
}

void incarnation_confirm(struct tracker *t, struct flow *pend, struct flow *old,
			 const struct segment *s)
{
	struct syn_entry *e;
	uint64_t prev = 0;

	if (old->ref != TABLE_NONE) {
		prev = flow_id(old);
		old->c->rivalled = 0; /* or its close would look for @pend */
		close_connection(t, old, REASON_REUSE, -1, trigger_of(s, false));
		if (conn_deferred(old->c)) /* and it was not reported */
			prev = 0;
	}
	deferral_open(t, pend, prev);
	e = table_edit(&t->table, pend->ref).syn;
	e->incarnation = 0;
	e->deferred = pend->c->offer.deferred;
}

/* Forgets @pend; @old is rivalled no more. */
static void incarnation_drop(struct tracker *t, struct flow *pend, struct flow *old)
{
	close_forget(t, pend);
	old->c->rivalled = 0;
	close_give_back(old->c, pend->c);
	deferral_save(t, old);
}

/* The SYN of @pend once more.  It stays a SYN entry: a repetition of another size is not counted,
 * but keeps it alive. */
static void incarnation_again(struct tracker *t, struct flow *pend, const struct segment *s)
{
	struct syn_entry *e = table_edit(&t->table, pend->ref).syn, again;
	struct segment bare = without_data(s);

	conn_account(pend->c, SIDE_A, &bare, 0);
	conn_count_retrans(pend->c, SIDE_A);
	if (syn_entry_pack(pend->c, &again)) {
		again.incarnation = 1;
		*e = again;
	} else {
		e->last = dur40_of(conn_age(pend->c));
	}
}

/* What a segment means for an unconfirmed incarnation. */
enum incarnation_verdict {
	INCARNATION_STANDS,
	INCARNATION_AGAIN,
	INCARNATION_CONFIRMED,
	INCARNATION_DROPPED,
	INCARNATION_REPLACED /* by yet another one */
};

/* @closed: the end that answers has closed the old connection; @fits_old: @s can be of the old
 * connection; @news: @s acknowledges something new there. */
static enum incarnation_verdict incarnation_judge(const struct conn *c, enum fsm_side from,
						  const struct segment *s, bool closed,
						  bool fits_old, bool news)
{
	bool syn = s->flags & TCP_SYN, ack = s->flags & TCP_ACK, rst = s->flags & TCP_RST;

	if (from == SIDE_A) {
		if (syn && !ack && s->seq == c->isn)
			return closed ? INCARNATION_CONFIRMED : INCARNATION_AGAIN;
		if (syn && !ack)
			return INCARNATION_REPLACED;
		/* Its third segment: the answer was not seen. */
		return !rst && s->seq == c->isn + 1 && !fits_old ? INCARNATION_CONFIRMED
								 : INCARNATION_STANDS;
	}
	if (syn && !ack) /* one the other way round: the newest is kept */
		return INCARNATION_REPLACED;
	if (ack && s->ack == c->isn + 1 && (syn || rst))
		return INCARNATION_CONFIRMED;
	/* A challenge ACK says nothing new (RFC 5961 4.2).  Data, a FIN or their acknowledgement
	 * may have been under way before the server had the SYN.  If the server's end has closed,
	 * the challenge ACK is from before: the server accepts the next SYN. */
	bool bare = ack && !syn && !rst && !(s->flags & TCP_FIN) && !s->payload_len;

	return bare && !news && !closed ? INCARNATION_DROPPED : INCARNATION_STANDS;
}

enum incarnation_for incarnation_input(struct tracker *t, struct flow *pend, struct flow *old,
				       unsigned sender, const struct segment *s)
{
	enum fsm_side from = sender != pend->c->client_end;
	enum fsm_side old_from = sender != old->c->client_end;
	enum fsm_side answers = pend->c->client_end == old->c->client_end; /* a side of @old */
	bool closed = fsm_endpoint(old->c->state, answers) == TCPS_CLOSED;
	bool fits_old = segment_check(old->c, old_from, s, &gaps_none).acceptable;
	bool news = s->ack != old->c->acked[!old_from];

	switch (incarnation_judge(pend->c, from, s, closed, fits_old, news)) {
	case INCARNATION_AGAIN:
		incarnation_again(t, pend, s);
		return INCARNATION_DONE;
	case INCARNATION_CONFIRMED:
		incarnation_confirm(t, pend, old, s);
		return INCARNATION_FOR_NEW;
	case INCARNATION_DROPPED:
		incarnation_drop(t, pend, old);
		break;
	case INCARNATION_REPLACED:
		close_incarnation(t, pend, REASON_REUSE, trigger_of(s, false));
		break;
	case INCARNATION_STANDS:
		break;
	}
	return INCARNATION_FOR_OLD;
}
