#include "flow/evict.h"
#include "flow/close.h"
#include "flow/entry_store.h"
#include "flow/tracker_state.h"

enum {
	FULL_SAMPLE = 32, /* full entries looked at for the one that is missed least */
	SYN_SAMPLE = 8,	  /* SYN entries looked at for the oldest */
	SYN_AHEAD = 8,	  /* in a flood: how far ahead of the hand the index is asked for */
};

static bool is_kept(const table_ref keep[static 2], table_ref r)
{
	return r == keep[0] || r == keep[1];
}

static void evict(struct tracker *t, table_ref r)
{
	struct trigger trigger = { t->now_ns, SEGMENT_NONE, BASIS_TIMEOUT };
	bool syn = table_shape_of(r) == SHAPE_SYN;
	struct flow f;

	entry_load_at(t, &f, r);
	if (!fsm_over(f.c->state))
		counter_add(syn ? &t->count->evicted_syn : &t->count->evicted_full, 1);
	close_entry(t, &f, REASON_EVICTED, -1, trigger);
}

/* Does this SYN entry wait in vain for a server that much of the table waits for?  A SYN flood. */
static bool is_flood(const struct tracker *t, const struct waiting *w)
{
	return !w->e->syn_acks && t->waiting[w->server.hash] > t->synflood.danger;
}

/* Is @e to be evicted rather than @best?  First those that were not answered, then the oldest. */
static bool syn_goes_first(const struct syn_entry *e, const struct syn_entry *best)
{
	if (!e->syn_acks != !best->syn_acks)
		return !e->syn_acks;
	return e->start_ns < best->start_ns;
}

/* SYN entries end in the order in which they came: first those of a flooded server, then those that
 * were not answered.  A hand goes round the pool.  A freed slot is taken again at once, so among
 * the old entries there are always some new ones: take the oldest of a few, and move the hand by
 * one. */
static void oldest_syn(struct tracker *t, unsigned p, const table_ref keep[static 2],
		       struct waiting *ret)
{
	uint32_t high = t->table.head->pool[p].high, *hand = &t->evict_slot[p];
	unsigned look = SYN_SAMPLE;
	table_ref best = TABLE_NONE;

	*hand = *hand < high ? *hand : 0;
	for (uint32_t n = 0, slot = *hand; n < high && look;
	     n++, slot = slot + 1 < high ? slot + 1 : 0) {
		table_ref r = table_slot(p, slot);

		if (is_kept(keep, r) || !table_live(&t->table, r)) {
			*hand += slot == *hand;
			continue;
		}
		waiting_of(t, r, ret);
		if (is_flood(t, ret)) {
			entry_prefetch(t, r + SYN_AHEAD);
			++*hand;
			return;
		}
		look--;
		if (best == TABLE_NONE || syn_goes_first(ret->e, table_syn(&t->table, best)))
			best = r;
	}
	++*hand;
	ret->ref = best;
	if (best != TABLE_NONE)
		waiting_of(t, best, ret);
}

/* The highest rank is evicted first: entries that are over, then half-open ones, then half-closed
 * ones, then established ones. */
static unsigned rank_of(enum fsm_state s)
{
	return fsm_over(s) ? 3 : fsm_handshaking(s) ? 2 : s == FSM_OPEN ? 0 : 1;
}

/* Of the full entries, the least missed of a few: the highest rank, then the longest silent. */
static table_ref least_missed(struct tracker *t, unsigned p, const table_ref keep[static 2])
{
	uint32_t high = t->table.head->pool[p].high, *hand = &t->evict_slot[p];
	const struct conn_hot *best = NULL;
	table_ref found = TABLE_NONE;
	unsigned look = FULL_SAMPLE;

	for (uint32_t n = 0; n < high && look; n++) {
		uint32_t slot = *hand < high ? *hand : 0;
		table_ref r = table_slot(p, slot);

		*hand = slot + 1;
		if (is_kept(keep, r) || !table_live(&t->table, r))
			continue;
		look--;
		const struct conn_hot *h = table_hot(&t->table, r);
		unsigned rank = rank_of(h->state), least = best ? rank_of(best->state) : 0;

		if (best && (rank < least || (rank == least && h->last_ns >= best->last_ns)))
			continue;
		best = h;
		found = r;
		if (rank == 3)
			break;
	}
	return found;
}

/* One entry of @shape, of the address family that has more of them; false: there is none. */
static bool evict_one(struct tracker *t, enum table_shape shape, const table_ref keep[static 2])
{
	const struct table_pool *pool = t->table.head->pool;
	unsigned p4 = (unsigned)shape << 1, p = p4 + (pool[p4 + 1].used > pool[p4].used), here = 0;

	for (unsigned i = 0; i < 2; i++)
		here += keep[i] != TABLE_NONE && keep[i] >> TABLE_POOL_SHIFT == p &&
			(!i || keep[1] != keep[0]);
	if (pool[p].used <= here)
		p ^= 1;
	struct waiting w = { .ref = TABLE_NONE };

	if (shape == SHAPE_FULL)
		w.ref = least_missed(t, p, keep);
	else
		oldest_syn(t, p, keep, &w);
	if (w.ref == TABLE_NONE)
		return false;
	if (shape == SHAPE_SYN && close_deferred(t, &w, REASON_EVICTED))
		counter_add(&t->count->evicted_syn, 1);
	else
		evict(t, w.ref);
	return true;
}

void evict_to_limit(struct tracker *t, table_ref keep)
{
	for (unsigned shape = 0; shape < SHAPES; shape++) {
		const table_ref both[2] = { keep, t->newest[shape] };

		for (unsigned n = 0; n < EVICT_AT_ONCE && t->over_limit >> shape & 1; n++)
			if (table_used(&t->table, shape) <= t->limit[shape] ||
			    !evict_one(t, shape, both))
				break;
		t->newest[shape] = TABLE_NONE;
	}
	t->over_limit = 0;
}
