#include "flow/close.h"
#include "flow/control_mode.h"
#include "flow/deferral.h"
#include "flow/entry_store.h"
#include "flow/tracker_state.h"

void close_forget(struct tracker *t, struct flow *f)
{
	tracker_count_state(t, f->c->state, FSM_NONE);
	entry_remove(t, f);
}

void close_give_back(struct conn *old, const struct conn *pend)
{
	enum fsm_side from = pend->client_end != old->client_end;
	struct conn_counts more = conn_counts(pend, SIDE_A);

	conn_count(old, from, more.pkts, more.header, 0);
}

bool close_deferred(struct tracker *t, const struct waiting *w, enum close_reason reason)
{
	const struct syn_entry *e = w->e;

	if (!tracker_is_fast(t) || !e->deferred || e->rivalled ||
	    !deferral_absorbs(t, &w->server, e->start_ns, deferral_count_of(reason)))
		return false;
	tracker_count_state(t, e->syn_acks ? FSM_ANSWERED : FSM_SYN, FSM_NONE);
	waiting_remove(t, w);
	return true;
}

bool close_deferred_at(struct tracker *t, table_ref r, enum close_reason reason)
{
	struct waiting w;

	waiting_of(t, r, &w);
	return close_deferred(t, &w, reason);
}

/* The other entry of this one's 4-tuple, or TABLE_NONE. */
static table_ref entry_beside(const struct tracker *t, const struct flow *f)
{
	table_ref other, first = table_find(&t->table, f->hash, &f->key, &other);

	return first == f->ref ? other : first;
}

/* The old connection @old ends.  An incarnation beside it that it outlived was a stray SYN, and
 * ends with it. */
static void close_stray(struct tracker *t, const struct flow *old)
{
	struct flow pend = { .key = old->key, .hash = old->hash };
	table_ref ref = entry_beside(t, old);

	if (ref == TABLE_NONE)
		return;
	entry_load(t, &pend, ref);
	if (old->c->last_ns > pend.c->start_ns)
		close_forget(t, &pend);
}

/* In control mode: both FINs and no repetition since, or even a new connection in its place. */
static void close_unseen(struct tracker *t, struct flow *f, struct trigger trigger)
{
	enum fsm_state before = f->c->state, to = control_mode_end(before);
	uint64_t moved_ns[SIDES];

	if (trigger.basis == BASIS_OBSERVED)
		trigger.basis = BASIS_INFERRED;
	conn_move(f->c, to, trigger.ts_ns, moved_ns);
	tracker_count_state(t, before, to);
	emit_close(t, f, before, REASON_FIN, -1, trigger, moved_ns);
}

void close_connection(struct tracker *t, struct flow *f, enum close_reason reason, int rst_by,
		      struct trigger trigger)
{
	struct conn *c = f->c;

	entry_settle(t, f, true);
	if (t->cfg.control && (reason == REASON_IDLE || reason == REASON_REUSE) &&
	    control_mode_end(c->state) != c->state)
		close_unseen(t, f, trigger);
	else if (!fsm_over(c->state) &&
		 !(conn_deferred(c) && deferral_ends(t, f, deferral_count_of(reason))))
		emit_close(t, f, c->state, reason, rst_by, trigger, NULL);
	if (c->rivalled)
		close_stray(t, f);
	close_forget(t, f);
}

void close_incarnation(struct tracker *t, struct flow *f, enum close_reason reason,
		       struct trigger trigger)
{
	table_ref old_ref = entry_beside(t, f);
	uint64_t prev = 0;

	if (old_ref != TABLE_NONE) {
		struct flow old = { .key = f->key, .hash = f->hash };

		entry_load(t, &old, old_ref);
		/* If the old connection went on meanwhile it was a stray SYN.  Of several against a
		 * living connection only the last can be an incarnation: SYNs that no server
		 * answers must not fill the stream. */
		bool lives = !fsm_over(old.c->state);
		bool stray = old.c->last_ns > f->c->start_ns || (lives && reason == REASON_REUSE);

		old.c->rivalled = 0;
		if (stray)
			close_forget(t, f);
		/* A SYN entry might not hold more. */
		if (stray && lives && table_shape_of(old_ref) == SHAPE_FULL)
			close_give_back(old.c, f->c);
		deferral_save(t, &old);
		if (stray)
			return;
		prev = conn_deferred(old.c) ? 0 : flow_id(&old);
	}
	deferral_open(t, f, prev);
	close_connection(t, f, reason, -1, trigger);
}

void close_entry(struct tracker *t, struct flow *f, enum close_reason reason, int rst_by,
		 struct trigger trigger)
{
	if (table_shape_of(f->ref) == SHAPE_SYN && table_syn(&t->table, f->ref)->incarnation)
		close_incarnation(t, f, reason, trigger);
	else
		close_connection(t, f, reason, rst_by, trigger);
}
