#include "flow/control_mode.h"
#include "flow/work.h"

enum {
	EVICTION_SAMPLE = 32,	/* entries looked at for the one that is missed least */
	SYN_SAMPLE = 8,		/* SYN entries looked at for the oldest */
	SYN_AHEAD = 8,		/* in a flood: how far ahead of the hand the index is asked for */
	SWEEP_AT_LEAST = 65536, /* slots of a pool looked through at each turn ... */
	SWEEP_PARTS = 8,	/* ... or this part of those in use */
	SWEEP_STEP = 16384,	/* slots looked through in one step */
	SWEEP_BATCH = 32,	/* entries that go at once */
};
static const uint64_t sweep_every_ns = 1000000000;
static const uint64_t clock_step_ns = 10000000000; /* more is no reordering */

static uint64_t timeout_of(const struct tracker *t, enum fsm_state s, bool suspect)
{
	/* A RST that fell silent was a real one: its receiver would have answered (RFC 5961
	 * 3.2). */
	enum fsm_timeout wait = t->cfg.control ? control_mode_timeout(s) : fsm_timeout_of(s);

	return t->cfg.timeout_ns[suspect ? FSM_T_TIME_WAIT : wait];
}

static uint64_t deadline_of(const struct tracker *t, const struct conn *c)
{
	return c->last_ns + timeout_of(t, c->state, c->suspect);
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
		/* In control mode nobody is shown the ACK that they wait for. */
		return t->cfg.control && c->state != FSM_CROSSED ? REASON_IDLE : REASON_HALF_OPEN;
	default:
		return REASON_IDLE;
	}
}

/* Whose RST was it?  The later of the two letters. */
static int suspect_side(const struct conn *c)
{
	int side = -1;

	for (uint64_t h = c->history; h; h >>= HISTORY_LETTER_BITS)
		if ((h & 15) == HISTORY_RST)
			side = h & HISTORY_FROM_CLIENT ? SIDE_A : SIDE_B;
	return side;
}

void flow_end(struct tracker *t, struct flow *f, enum close_reason reason, int rst_by,
	      struct trigger trigger)
{
	if (table_shape_of(f->ref) == SHAPE_SYN && table_syn(&t->table, f->ref)->incarnation)
		incarnation_settle(t, f, reason, trigger);
	else
		flow_give_up(t, f, reason, rst_by, trigger);
}

/* Lets an entry go for silence if its time has come; true: it is gone. */
bool flow_expire(struct tracker *t, struct flow *f)
{
	uint64_t at = deadline_of(t, f->c);

	if (t->now_ns < at)
		return false;
	flow_settle(t, f, false);
	at = deadline_of(t, f->c);
	if (t->now_ns < at) {
		flow_store(t, f);
		return false;
	}
	struct trigger trigger = { .ts_ns = at,
				   .segment = SEGMENT_TIMEOUT,
				   .basis = BASIS_TIMEOUT };

	flow_end(t, f, silence_means(t, f->c), f->c->suspect ? suspect_side(f->c) : -1, trigger);
	return true;
}

void flow_prefetch(const struct tracker *t, table_ref r)
{
	uint32_t slot = table_number(r);

	if (slot >= t->table.head->pool[r >> TABLE_POOL_SHIFT].high || !table_live(&t->table, r))
		return;
	struct flow_key k = table_key(&t->table, r);

	table_prefetch(&t->table, flow_key_hash(&k, &t->cfg.secret));
}

void flow_at(const struct tracker *t, struct flow *f, table_ref r)
{
	f->key = table_key(&t->table, r);
	f->hash = flow_key_hash(&f->key, &t->cfg.secret);
	flow_load(t, f, r);
}

static bool full_due(const struct tracker *t, const struct conn_hot *h)
{
	return h->last_ns + timeout_of(t, h->state, h->suspect) <= t->now_ns;
}

bool flow_due(const struct tracker *t, table_ref r)
{
	if (!table_live(&t->table, r))
		return false;
	if (table_shape_of(r) == SHAPE_FULL)
		return full_due(t, table_hot(&t->table, r));
	const struct syn_entry *h = table_syn(&t->table, r);
	enum fsm_timeout wait = h->syn_acks ? FSM_T_SYN_RECEIVED : FSM_T_SYN_SENT;

	return h->start_ns + dur40_ns(h->last) + t->cfg.timeout_ns[wait] <= t->now_ns;
}

/* ... or is it deferred and must be told? */
static bool slot_waits(const struct tracker *t, table_ref r)
{
	return flow_due(t, r) ||
	       (unlikely(t->floods.n) && table_live(&t->table, r) && synflood_overdue(t, r));
}

/* Lets go what still waits among these slots.  Many are at once where many were closed at once, and
 * the index knows no neighbours: all lines are asked for first. */
static void expire_all(struct tracker *t, const table_ref *r, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		flow_prefetch(t, r[i]);
	for (unsigned i = 0; i < n; i++) {
		struct flow f;

		if (!slot_waits(t, r[i]))
			continue;
		if (entry_deferred(t, r[i]) && flow_due(t, r[i]) &&
		    fastpath_drop_at(t, r[i], REASON_UNANSWERED))
			continue;
		flow_at(t, &f, r[i]);
		if (!flow_expire(t, &f) && synflood_overdue(t, f.ref))
			synflood_let_go(t, &f);
	}
	flow_gauges(t);
}

/* How many slots of pool @p one sweep looks at. */
static uint32_t sweep_part(const struct tracker *t, unsigned p)
{
	uint32_t high = t->table.head->pool[p].high;
	uint32_t n = high / SWEEP_PARTS > SWEEP_AT_LEAST ? high / SWEEP_PARTS : SWEEP_AT_LEAST;

	return n < high ? n : high;
}

static void sweep_begin(struct tracker *t, unsigned sweeps)
{
	t->sweep_pools = sweeps * TABLE_POOLS;
	t->sweep_left = sweep_part(t, 0);
}

bool tracker_has_steps(const struct tracker *t)
{
	return t->sweep_pools;
}

bool tracker_step(struct tracker *t)
{
	uint32_t slots = t->undo ? SWEEP_STEP : UINT32_MAX,
		 most = t->undo ? STEP_SLOTS : UINT32_MAX;
	table_ref due[SWEEP_BATCH];
	unsigned k = 0;

	while (t->sweep_pools) {
		unsigned p = -t->sweep_pools % TABLE_POOLS;
		uint32_t slot =
			t->sweep_slot[p] < t->table.head->pool[p].high ? t->sweep_slot[p] : 0;
		bool enough = !slots-- || !most;

		if (k == SWEEP_BATCH || !t->sweep_left || enough) {
			expire_all(t, due, k);
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
		if (slot_waits(t, table_slot(p, slot))) {
			due[k++] = table_slot(p, slot);
			most--;
		}
	}
	return false;
}

/* A connection whose segments the kernel bypasses is not silent. */
static void touch(void *arg, const struct flow_key *key, uint64_t hash, uint64_t last_ns)
{
	struct tracker *t = arg;
	table_ref ref = table_find(&t->table, hash, key, NULL);

	if (ref == TABLE_NONE || table_shape_of(ref) != SHAPE_FULL)
		return;
	struct conn_hot *h = table_hot(&t->table, ref);

	if (last_ns > h->last_ns)
		h->last_ns = last_ns;
}

void tracker_advance(struct tracker *t, uint64_t now_ns)
{
	if (now_ns + clock_step_ns <
	    t->now_ns) { /* somebody set the clock back: go on from there */
		t->now_ns = now_ns;
		t->sweep_at_ns = now_ns + sweep_every_ns;
	}
	if (now_ns <= t->now_ns)
		return;
	/* After a silence nothing may be late: the whole table, before anything else is told. */
	bool all = now_ns - t->now_ns > sweep_every_ns * SWEEP_PARTS && t->now_ns;

	t->now_ns = now_ns;
	if (now_ns < t->sweep_at_ns)
		return;
	t->sweep_at_ns = now_ns + sweep_every_ns;
	if (t->bypass)
		bypass_refresh(t->bypass, touch, t);
	synflood_tick(t);
	sweep_begin(t, all ? SWEEP_PARTS + 1 : 1);
	while (!t->undo && tracker_step(t))
		;
}

/* What is given up first has the highest rank: entries that are over, then half-open ones, then
 * half-closed and established ones; the oldest among equals. */
static unsigned eviction_rank(enum fsm_state s)
{
	return fsm_over(s) ? 3 : fsm_handshaking(s) ? 2 : s == FSM_OPEN ? 0 : 1;
}

static void evict(struct tracker *t, table_ref r)
{
	struct trigger trigger = { .ts_ns = t->now_ns,
				   .segment = SEGMENT_NONE,
				   .basis = BASIS_TIMEOUT };
	bool syn = table_shape_of(r) == SHAPE_SYN;
	struct flow f;

	flow_at(t, &f, r);
	if (!fsm_over(f.c->state))
		counter_add(syn ? &t->count->evicted_syn : &t->count->evicted_full, 1);
	flow_end(t, &f, REASON_EVICTED, -1, trigger);
}

/* Does this SYN entry wait in vain for a server that much of the table waits for?  A SYN flood. */
static bool is_flood(const struct tracker *t, const struct waiting *w)
{
	return !w->h->syn_acks &&
	       t->servers[w->server.hash].syn > t->table.head->max_syn / SYNFLOOD_PART;
}

/* SYN entries go in the order in which they came: first those of a flooded server, then those that
 * nobody answered.  A hand goes round the pool; but a slot that is given back is taken again at
 * once, so that among the old ones there are always some that just came: the oldest of a few, and
 * the hand goes on by one. */
static bool oldest_syn(struct tracker *t, unsigned p, table_ref keep, struct waiting *ret)
{
	uint32_t high = t->table.head->pool[p].high, *hand = &t->evict_slot[p];
	unsigned look = SYN_SAMPLE;
	table_ref best = TABLE_NONE;

	*hand = *hand < high ? *hand : 0;
	for (uint32_t n = 0, slot = *hand; n < high && look;
	     n++, slot = slot + 1 < high ? slot + 1 : 0) {
		table_ref r = table_slot(p, slot);

		if (r == keep || !table_live(&t->table, r)) {
			*hand += slot == *hand;
			continue;
		}
		flow_waits(t, r, ret);
		if (is_flood(t, ret)) {
			flow_prefetch(t, r + SYN_AHEAD);
			++*hand;
			return true;
		}
		look--;
		const struct syn_entry *h = ret->h;
		const struct syn_entry *b = best == TABLE_NONE ? NULL : table_syn(&t->table, best);

		if (!b || !!h->syn_acks < !!b->syn_acks ||
		    (!h->syn_acks == !b->syn_acks && h->start_ns < b->start_ns))
			best = r;
	}
	++*hand;
	if (best == TABLE_NONE)
		return false;
	flow_waits(t, best, ret);
	return true;
}

/* Of the full ones, the least missed of a few. */
static table_ref least_missed(struct tracker *t, unsigned p, table_ref keep)
{
	uint32_t high = t->table.head->pool[p].high, *hand = &t->evict_slot[p];
	unsigned look = EVICTION_SAMPLE;
	table_ref best = TABLE_NONE;

	for (uint32_t n = 0; n < high && look; n++) {
		uint32_t slot = *hand < high ? *hand : 0;
		table_ref r = table_slot(p, slot);

		*hand = slot + 1;
		if (r == keep || !table_live(&t->table, r))
			continue;
		look--;
		const struct conn_hot *h = table_hot(&t->table, r);
		unsigned rank = eviction_rank(h->state);

		if (best != TABLE_NONE) {
			const struct conn_hot *b = table_hot(&t->table, best);
			unsigned least = eviction_rank(b->state);

			if (rank < least || (rank == least && h->last_ns >= b->last_ns))
				continue;
		}
		best = r;
		if (rank == 3)
			break;
	}
	return best;
}

static bool give_up_syn(struct tracker *t, unsigned p, table_ref keep)
{
	struct waiting w;

	if (!oldest_syn(t, p, keep, &w))
		return false;
	if (fastpath_drop(t, &w, REASON_EVICTED))
		counter_add(&t->count->evicted_syn, 1);
	else
		evict(t, w.ref);
	return true;
}

static bool give_up_full(struct tracker *t, unsigned p, table_ref keep)
{
	table_ref r = least_missed(t, p, keep);

	if (r != TABLE_NONE)
		evict(t, r);
	return r != TABLE_NONE;
}

/* Gives one entry of @shape up, but not @keep: of the address family that has more of them. */
bool flow_make_room(struct tracker *t, enum table_shape shape, table_ref keep)
{
	const struct table_pool *pool = t->table.head->pool;
	unsigned p4 = (unsigned)shape << 1, p = p4 + (pool[p4 + 1].used > pool[p4].used);
	bool keep_here = keep != TABLE_NONE && keep >> TABLE_POOL_SHIFT == p;

	if (pool[p].used <= keep_here)
		p ^= 1;
	return shape == SHAPE_SYN ? give_up_syn(t, p, keep) : give_up_full(t, p, keep);
}
