#include "flow/timeout.h"
#include "flow/close.h"
#include "flow/control_mode.h"
#include "flow/deferral.h"
#include "flow/entry_store.h"
#include "flow/tracker_state.h"
#include "flow/trouble.h"

enum {
	SWEEP_AT_LEAST = 65536, /* slots of a pool that one sweep looks at */
	SWEEP_STEP = 16384,	/* slots looked at in one step */
	SWEEP_BATCH = 32,	/* entries that end at once */
};

static uint64_t timeout_of(const struct tracker *t, enum fsm_state s, bool suspect)
{
	enum fsm_timeout wait = t->cfg.control ? control_mode_timeout(s) : fsm_timeout_of(s);

	/* An RST that silence followed was real: its receiver would have answered (RFC 5961
	 * 3.2). */
	return t->cfg.timeout_ns[suspect ? FSM_T_TIME_WAIT : wait];
}

static enum close_reason silence_means(const struct tracker *t, const struct conn *c)
{
	if (c->suspect)
		return REASON_RST;
	switch ((enum fsm_state)c->state) {
	case FSM_SYN:
		return REASON_UNANSWERED;
	case FSM_ANSWERED:
	case FSM_CROSSED:
	case FSM_CROSSED_A:
	case FSM_CROSSED_B:
		/* In control mode the ACK that they wait for is not seen. */
		return t->cfg.control && c->state != FSM_CROSSED ? REASON_IDLE : REASON_HALF_OPEN;
	default:
		return REASON_IDLE;
	}
}

/* The side whose RST it was: the later of the two letters. */
static int suspect_side(const struct conn *c)
{
	int side = -1;

	for (uint64_t h = c->history; h; h >>= HISTORY_LETTER_BITS)
		if ((h & 15) == HISTORY_RST)
			side = h & HISTORY_FROM_CLIENT ? SIDE_A : SIDE_B;
	return side;
}

/* When @c is over, if it stays silent. */
static uint64_t deadline_of(const struct tracker *t, const struct conn *c)
{
	uint64_t wait = timeout_of(t, c->state, c->suspect);

	if (fsm_offering(c->state) && !c->suspect)
		wait = tracker_silence_ns(wait, conn_age(c));
	return c->last_ns + wait;
}

bool timeout_expire(struct tracker *t, struct flow *f)
{
	uint64_t at = deadline_of(t, f->c);

	if (t->now_ns < at)
		return false;
	entry_settle(t, f, false);
	at = deadline_of(t, f->c);
	if (t->now_ns < at) {
		entry_save(t, f);
		return false;
	}
	struct trigger trigger = { at, SEGMENT_TIMEOUT, BASIS_TIMEOUT };

	close_entry(t, f, silence_means(t, f->c), f->c->suspect ? suspect_side(f->c) : -1, trigger);
	return true;
}

bool timeout_due(const struct tracker *t, table_ref r)
{
	if (!table_live(&t->table, r))
		return false;
	if (table_shape_of(r) == SHAPE_FULL) {
		const struct conn_hot *h = table_hot(&t->table, r);

		return h->last_ns + timeout_of(t, h->state, h->suspect) <= t->now_ns;
	}
	const struct syn_entry *e = table_syn(&t->table, r);
	enum fsm_timeout wait = e->syn_acks ? FSM_T_SYN_RECEIVED : FSM_T_SYN_SENT;
	uint64_t age = dur40_ns(e->last);

	return e->start_ns + age + tracker_silence_ns(t->cfg.timeout_ns[wait], age) <= t->now_ns;
}

/* ---- the sweep ------------------------------------------------------------------------------- */

/* Is it due, stuck, or deferred and to be reported? */
static bool sweep_wants(const struct tracker *t, table_ref r)
{
	return timeout_due(t, r) || trouble_stuck_due(t, r) ||
	       (unlikely(synflood_watched(&t->synflood)) && table_live(&t->table, r) &&
		deferral_overdue(t, r));
}

/* Ends what is still due among these slots.  Many are due at once after many closed at once, and
 * the index knows no neighbours: asks for all its lines first. */
static void expire_batch(struct tracker *t, const table_ref *r, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		entry_prefetch(t, r[i]);
	for (unsigned i = 0; i < n; i++) {
		struct flow f;

		if (!sweep_wants(t, r[i]))
			continue;
		if (entry_deferred(t, r[i]) && timeout_due(t, r[i]) &&
		    close_deferred_at(t, r[i], REASON_UNANSWERED))
			continue;
		entry_load_at(t, &f, r[i]);
		if (trouble_stuck_due(t, r[i]))
			trouble_stuck(t, &f, deadline_of(t, f.c));
		if (!timeout_expire(t, &f) && deferral_overdue(t, f.ref))
			deferral_expire(t, &f);
	}
}

/* How many slots of pool @p one sweep looks at. */
static uint32_t sweep_part(const struct tracker *t, unsigned p)
{
	uint32_t high = t->table.head->pool[p].high;
	uint32_t n = high / SWEEP_PARTS > SWEEP_AT_LEAST ? high / SWEEP_PARTS : SWEEP_AT_LEAST;

	return n < high ? n : high;
}

void timeout_sweep_begin(struct tracker *t, unsigned sweeps)
{
	t->sweep_pools = sweeps * TABLE_POOLS;
	t->sweep_left = sweep_part(t, 0);
}

bool timeout_sweep(struct tracker *t)
{
	uint32_t slots = t->undo ? SWEEP_STEP : UINT32_MAX,
		 most = t->undo ? STEP_SLOTS : UINT32_MAX;
	table_ref due[SWEEP_BATCH];
	unsigned k = 0;

	while (t->sweep_pools) {
		unsigned p = -t->sweep_pools % TABLE_POOLS;
		uint32_t high = t->table.head->pool[p].high;
		uint32_t slot = t->sweep_slot[p] < high ? t->sweep_slot[p] : 0;
		bool enough = !slots-- || !most;

		if (k == SWEEP_BATCH || !t->sweep_left || enough) {
			expire_batch(t, due, k);
			k = 0;
		}
		if (enough)
			return true;
		if (!t->sweep_left) {
			t->sweep_pools--;
			t->sweep_left = sweep_part(t, -t->sweep_pools % TABLE_POOLS);
			continue;
		}
		t->sweep_left--;
		t->sweep_slot[p] = slot + 1;
		if (sweep_wants(t, table_slot(p, slot))) {
			due[k++] = table_slot(p, slot);
			most--;
		}
	}
	return false;
}
