#include "flow/segment_report.h"
#include "flow/emit.h"
#include "flow/entry_store.h"
#include "flow/tracker_state.h"
#include "wire/segment.h"

/* The entry that @s went to: see incarnation.c for a 4-tuple with two. */
static table_ref entry_of(const struct tracker *t, const struct flow *f, const struct segment *s)
{
	table_ref other, ref = table_find(&t->table, f->hash, &f->key, &other);

	if (ref == TABLE_NONE || other == TABLE_NONE)
		return ref;
	if (table_shape_of(ref) == SHAPE_SYN && table_syn(&t->table, ref)->incarnation) {
		table_ref incarnation = ref;

		ref = other;
		other = incarnation;
	}
	if (s->flags & TCP_SYN && table_shape_of(other) == SHAPE_SYN &&
	    table_syn(&t->table, other)->isn[SIDE_A] == s->seq)
		return other;
	return ref;
}

static void base_learn(struct segment_base *b, enum fsm_side side, uint32_t base)
{
	if (b->known >> side & 1)
		return;
	b->base[side] = base;
	b->known |= (uint8_t)(1u << side);
}

/* What numbers of @f are counted from, @s included. */
static const struct segment_base *base_of(struct tracker *t, const struct flow *f,
					  enum fsm_side from, const struct segment *s)
{
	const struct conn *c = f->c;
	struct segment_base *b = tracker_recall_edit(t, base, f->hash);

	if (b->start_ns != c->start_ns) { /* another connection had the 4-tuple */
		b->start_ns = c->start_ns;
		b->known = 0;
	}
	if (!conn_is_midstream(c))
		base_learn(b, SIDE_A, c->isn);
	base_learn(b, from, s->flags & TCP_SYN ? s->seq : s->seq - 1);
	if (s->flags & TCP_ACK)
		base_learn(b, !from, s->ack - 1);
	return b;
}

bool segment_report(struct tracker *t, const struct segment *s, unsigned endpoints,
		    struct event *ret)
{
	struct flow f;
	unsigned sender = flow_key_of(s, &f.key);
	enum fsm_side from;
	table_ref ref;

	if (unlikely(t->origins != NULL)) {
		if (t->last.copied)
			return false;
		f.key = t->last.key;
	}
	f.hash = flow_key_hash(&f.key, &t->cfg.secret);
	ref = entry_of(t, &f, s);
	if (ref == TABLE_NONE)
		return false;
	entry_load(t, &f, ref);
	from = f.key.self ? SIDE_A : sender != f.c->client_end;
	emit_segment(t, &f, from, s, base_of(t, &f, from, s), endpoints, ret);
	return true;
}
