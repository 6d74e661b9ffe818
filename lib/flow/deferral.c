#include "flow/deferral.h"
#include "flow/emit.h"
#include "flow/entry_store.h"
#include "flow/tracker_state.h"

bool deferral_wanted(struct tracker *t, const struct flow_server *s)
{
	struct synflood_report r;

	if (!synflood_defers(&t->synflood, s, t->waiting[s->hash], t->now_ns, &r))
		return false;
	counter_add(&t->count->deferred, 1);
	if (unlikely(r.phase != SYNFLOOD_PHASES))
		emit_synflood(t, &r);
	return true;
}

bool deferral_begin(struct tracker *t, struct flow *f)
{
	struct flow_server s = flow_server(f);
	struct syn_entry e;

	if (f->c->state != FSM_SYN || !syn_entry_pack(f->c, &e) || !deferral_wanted(t, &s))
		return false;
	f->c->offer.deferred = 1;
	f->c->offer.mss_client = f->c->offer.mss;
	return true;
}

void deferral_open(struct tracker *t, struct flow *f, uint64_t prev_flow_id)
{
	if (likely(!synflood_watched(&t->synflood)) || !deferral_begin(t, f))
		emit_open(t, f, f->c->offer.mss, prev_flow_id,
			  (struct trigger){ f->c->start_ns, SEGMENT_SYN, BASIS_OBSERVED });
}

bool deferral_is_late(struct tracker *t, const struct flow *f)
{
	struct flow_server s = flow_server(f);

	return synflood_is_late(&t->synflood, &s);
}

/* Reports what was deferred of @f, in the order of time.  @as: how that counts. */
static void deferral_report(struct tracker *t, struct flow *f, enum synflood_count as)
{
	struct flow_server s = flow_server(f);
	struct trigger trigger = { f->c->start_ns, SEGMENT_SYN, BASIS_OBSERVED };
	enum fsm_state at = f->c->state;

	f->c->offer.deferred = 0;
	f->c->state = FSM_SYN;
	emit_open(t, f, f->c->offer.mss_client, 0, trigger);
	f->c->state = at & 31;
	if (at == FSM_ANSWERED) {
		uint64_t after = dur40_ns(f->c->since[SIDE_B]);

		trigger =
			(struct trigger){ trigger.ts_ns + after, SEGMENT_SYN_ACK, BASIS_OBSERVED };
		emit_move(t, f, FSM_SYN, trigger, (uint64_t[SIDES]){ DURATION_UNKNOWN, after },
			  NULL);
	}
	synflood_undefer(&t->synflood, &s, as);
}

bool deferral_absorbs(struct tracker *t, const struct flow_server *s, uint64_t start_ns,
		      enum synflood_count how)
{
	if (!synflood_has(&t->synflood, s, start_ns))
		return false;
	counter_add(&t->count->suppressed, 1);
	if (how != SYNFLOOD_COUNTS) /* else still half-open when all ended */
		synflood_undefer(&t->synflood, s, how);
	return true;
}

bool deferral_ends(struct tracker *t, struct flow *f, enum synflood_count how)
{
	struct flow_server s = flow_server(f);

	if (deferral_absorbs(t, &s, f->c->start_ns, how))
		return true;
	deferral_report(t, f, SYNFLOOD_REPORTED);
	return false;
}

enum synflood_count deferral_count_of(enum close_reason reason)
{
	switch (reason) {
	case REASON_REUSE:
		return SYNFLOOD_REPLACED;
	case REASON_EVICTED:
		return SYNFLOOD_EVICTED;
	case REASON_CAPTURE_END:
	case REASON_SHUTDOWN:
		return SYNFLOOD_COUNTS;
	default: /* silence */
		return SYNFLOOD_EXPIRED;
	}
}

bool deferral_moves(struct tracker *t, struct flow *f, enum fsm_state to, const struct segment *s)
{
	if (to == FSM_ANSWERED && s->flags & TCP_SYN) {
		struct flow_server server = flow_server(f);

		synflood_answered(&t->synflood, &server);
		return true;
	}
	if (fsm_over(to))
		return deferral_ends(t, f, SYNFLOOD_REFUSED);
	deferral_report(t, f, SYNFLOOD_COMPLETED);
	return false;
}

bool deferral_overdue(const struct tracker *t, table_ref r)
{
	return entry_deferred(t, r) && table_syn(&t->table, r)->start_ns + DEFERRAL_NS <= t->now_ns;
}

bool deferral_tell(struct tracker *t, struct flow *f)
{
	struct flow_server s = flow_server(f);

	if (synflood_has(&t->synflood, &s, f->c->start_ns))
		return false;
	deferral_report(t, f, SYNFLOOD_REPORTED);
	return true;
}

void deferral_expire(struct tracker *t, struct flow *f)
{
	if (deferral_tell(t, f))
		deferral_save(t, f);
}

void deferral_add(struct tracker *t, struct flow *f, const struct flow_server *s,
		  const struct syn_entry *e)
{
	entry_add_syn(t, f, s, e);
	if (unlikely(t->waiting[s->hash] > t->synflood.from) &&
	    !synflood_watch(&t->synflood, s, t->now_ns))
		counter_add(&t->count->unwatched, 1);
}

void deferral_save(struct tracker *t, struct flow *f)
{
	struct syn_entry e;

	if (unlikely(conn_deferred(f->c)) && !entry_fits_syn(t, f->c, &e))
		deferral_report(t, f, SYNFLOOD_COMPLETED);
	entry_save(t, f);
}
