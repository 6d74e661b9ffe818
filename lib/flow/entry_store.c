#include "flow/entry_store.h"
#include "flow/bypass.h"
#include "flow/tracker_state.h"

bool entry_deferred(const struct tracker *t, table_ref r)
{
	return table_shape_of(r) == SHAPE_SYN && table_syn(&t->table, r)->deferred;
}

static __attribute__((noinline)) void load_syn(const struct tracker *t, struct flow *f)
{
	syn_entry_unpack(table_syn(&t->table, f->ref), f->c);
}

void entry_load(const struct tracker *t, struct flow *f, table_ref ref)
{
	f->ref = ref;
	if (table_shape_of(ref) == SHAPE_SYN)
		load_syn(t, f);
	else
		full_entry_join(table_hot(&t->table, ref), table_cold(&t->table, ref), f->c);
}

void entry_load_at(const struct tracker *t, struct flow *f, table_ref ref)
{
	f->key = table_key(&t->table, ref);
	f->hash = flow_key_hash(&f->key, &t->cfg.secret);
	entry_load(t, f, ref);
}

void entry_prefetch(const struct tracker *t, table_ref r)
{
	uint32_t slot = table_number(r);

	if (slot >= t->table.head->pool[r >> TABLE_POOL_SHIFT].high || !table_live(&t->table, r))
		return;
	struct flow_key k = table_key(&t->table, r);

	table_prefetch(&t->table, flow_key_hash(&k, &t->cfg.secret));
}

void entry_settle(struct tracker *t, struct flow *f, bool forget)
{
	if (!t->bypass || f->ref == TABLE_NONE || table_shape_of(f->ref) == SHAPE_SYN)
		return;
	uint64_t n = bypass_settle(t->bypass, f->c, f->hash, forget);

	if (n)
		counter_add(&t->count->bypassed, n);
}

static void slot_used(struct tracker *t, enum table_shape shape, table_ref r)
{
	if (likely(table_used(&t->table, shape) <= t->limit[shape]))
		return;
	t->over_limit |= 1u << shape;
	t->newest[shape] = r;
}

/* ---- SYN entries ----------------------------------------------------------------------------- */

static uint32_t *waiting_edit(struct tracker *t, const struct flow_server *s)
{
	return undo_edit(t->undo, &t->waiting[s->hash], sizeof t->waiting[s->hash]);
}

void waiting_of(const struct tracker *t, table_ref ref, struct waiting *ret)
{
	struct flow_key key = table_key(&t->table, ref);
	const struct syn_entry *e = table_syn(&t->table, ref);

	ret->ref = ref;
	ret->e = e;
	ret->hash = flow_key_hash(&key, &t->cfg.secret);
	ret->server = flow_server_of(&key, e->client_end);
}

void waiting_remove(struct tracker *t, const struct waiting *w)
{
	--*waiting_edit(t, &w->server);
	table_remove(&t->table, w->hash, w->ref);
}

void entry_add_syn(struct tracker *t, struct flow *f, const struct flow_server *s,
		   const struct syn_entry *e)
{
	struct table_edit to;

	f->ref = table_insert(&t->table, f->hash, &f->key, SHAPE_SYN, &to);
	if (unlikely(f->ref == TABLE_NONE)) /* not reached: see TABLE_SPARE */
		return;
	*to.syn = *e;
	++*waiting_edit(t, s);
	slot_used(t, SHAPE_SYN, f->ref);
}

bool entry_fits_syn(const struct tracker *t, const struct conn *c, struct syn_entry *ret)
{
	/* In control mode an answered attempt may well be established: its ACK is not seen. */
	return !(t->cfg.control && c->state != FSM_SYN) && syn_entry_pack(c, ret);
}

/* ---- saving and removing --------------------------------------------------------------------- */

/* @f takes a full entry: its first, or in place of its SYN entry. */
static void entry_promote(struct tracker *t, struct flow *f)
{
	bool was_syn = f->ref != TABLE_NONE;
	struct table_edit to;
	table_ref r = was_syn ? table_reshape(&t->table, f->hash, f->ref, &f->key, SHAPE_FULL, &to)
			      : table_insert(&t->table, f->hash, &f->key, SHAPE_FULL, &to);

	if (unlikely(r == TABLE_NONE)) /* not reached: see TABLE_SPARE */
		return;
	if (was_syn) {
		struct flow_server s = flow_server(f);

		--*waiting_edit(t, &s);
	}
	full_entry_split(f->c, to.hot, to.cold);
	f->ref = r;
	slot_used(t, SHAPE_FULL, r);
}

void entry_save(struct tracker *t, struct flow *f)
{
	struct syn_entry e;

	if (f->ref != TABLE_NONE && table_shape_of(f->ref) == SHAPE_FULL) {
		struct table_edit to = table_edit(&t->table, f->ref);

		full_entry_split(f->c, to.hot, to.cold);
	} else if (!entry_fits_syn(t, f->c, &e)) {
		entry_promote(t, f);
	} else {
		e.incarnation = table_syn(&t->table, f->ref)->incarnation;
		*table_edit(&t->table, f->ref).syn = e;
	}
}

void entry_remove(struct tracker *t, struct flow *f)
{
	if (f->ref != TABLE_NONE && table_shape_of(f->ref) == SHAPE_SYN) {
		struct flow_server s = flow_server(f);

		--*waiting_edit(t, &s);
	} else {
		entry_settle(t, f, true);
	}
	if (f->ref != TABLE_NONE)
		table_remove(&t->table, f->hash, f->ref);
	f->ref = TABLE_NONE;
}
