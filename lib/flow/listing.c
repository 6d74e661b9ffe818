#include "flow/listing.h"
#include "flow/bypass.h"
#include "flow/emit.h"
#include "flow/entry_store.h"
#include "flow/tracker_state.h"

enum { AHEAD = 24 /* places, whose entries are asked for */ };

/* Has its tcp_open been emitted, and its tcp_close not? */
static bool is_open(const struct table *t, table_ref r)
{
	if (table_shape_of(r) == SHAPE_FULL)
		return !fsm_over(table_hot(t, r)->state);
	const struct syn_entry *e = table_syn(t, r);

	return !e->deferred && !e->incarnation;
}

static void listing_fill(const struct tracker *t, table_ref r, struct event *ret)
{
	struct flow f = { .key = table_key(&t->table, r) };

	entry_load(t, &f, r);
	if (t->bypass && table_shape_of(r) == SHAPE_FULL)
		bypass_peek(t->bypass, f.c, flow_key_hash(&f.key, &t->cfg.secret));
	emit_snapshot(t, &f, ret);
}

unsigned listing_read(const struct tracker *t, uint32_t *cursor, struct event *ret, unsigned max)
{
	uint32_t place = *cursor, end = table_places(&t->table);
	unsigned n = 0, entries = 0;

	for (unsigned places = 0;
	     place < end && n < max && entries < LISTING_ENTRIES && places < LISTING_PLACES;
	     places++) {
		table_ref r = table_place(&t->table, place++);

		table_prefetch_place(&t->table, place + AHEAD);
		if (r == TABLE_NONE)
			continue;
		entries++;
		if (!is_open(&t->table, r))
			continue;
		listing_fill(t, r, &ret[n]);
		ret[n++].snapshot.place = place < end ? place : LISTING_END;
	}
	*cursor = place < end ? place : LISTING_END;
	return n;
}
