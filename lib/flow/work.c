#include "flow/work.h"
#include <string.h>
#include "flow/emit.h"
#include "flow/control_mode.h"
#include "wire/segment.h"
#include "wire/tcpopt.h"

void flow_gauges(struct tracker *t)
{
	counter_set(&t->count->syn_entries, table_used(&t->table, SHAPE_SYN));
	counter_set(&t->count->full_entries, table_used(&t->table, SHAPE_FULL));
}

void flow_count_state(struct tracker *t, enum fsm_state from, enum fsm_state to)
{
	if (from != FSM_NONE)
		counter_add(&t->count->states[from], (uint64_t)-1);
	if (to != FSM_NONE)
		counter_add(&t->count->states[to], 1);
}

static __attribute__((noinline)) void load_syn(const struct tracker *t, struct flow *f)
{
	const struct syn_entry *h = table_syn(&t->table, f->ref);

	undo_save(t->undo, h, sizeof *h);
	syn_entry_unpack(h, f->c);
	if (unlikely(h->deferred))
		syn_entry_unpack_deferred(h, f->c);
}

void flow_load(const struct tracker *t, struct flow *f, table_ref ref)
{
	f->ref = ref;
	if (table_shape_of(ref) == SHAPE_SYN) {
		load_syn(t, f);
		return;
	}
	const struct conn_hot *h = table_hot(&t->table, ref);
	const struct conn_cold *k = table_cold(&t->table, ref);

	undo_save(t->undo, h, sizeof *h);
	undo_save(t->undo, k, sizeof *k);
	full_entry_join(h, k, f->c);
}

void flow_settle(struct tracker *t, struct flow *f, bool forget)
{
	if (!t->bypass || f->ref == TABLE_NONE || table_shape_of(f->ref) == SHAPE_SYN)
		return;
	uint64_t n = bypass_settle(t->bypass, f->c, f->hash, forget);

	if (n)
		counter_add(&t->count->bypassed, n);
}

/* One SYN entry more or less of @s, and maybe of others of its hash: how many that makes. */
static uint32_t press(struct tracker *t, const struct synflood_server *s, int by)
{
	uint32_t *syn = &t->servers[s->hash].syn;

	undo_save(t->undo, syn, sizeof *syn);
	return *syn += (uint32_t)by;
}

void flow_waits(const struct tracker *t, table_ref ref, struct waiting *ret)
{
	struct flow_key key = table_key(&t->table, ref);
	struct syn_entry *h = table_syn(&t->table, ref);

	ret->ref = ref;
	ret->h = h;
	ret->hash = flow_key_hash(&key, &t->cfg.secret);
	ret->server = synflood_server_of(&key, h->client_end);
}

static struct synflood_server server_of(const struct flow *f)
{
	return synflood_server_of(&f->key, f->c->client_end);
}

void flow_remove_syn(struct tracker *t, uint64_t hash, table_ref ref, enum fsm_state state,
		     const struct synflood_server *s)
{
	flow_count_state(t, state, FSM_NONE);
	press(t, s, -1);
	table_remove(&t->table, hash, ref);
}

void flow_remove(struct tracker *t, struct flow *f)
{
	if (f->ref != TABLE_NONE && table_shape_of(f->ref) == SHAPE_SYN) {
		struct synflood_server s = server_of(f);

		flow_remove_syn(t, f->hash, f->ref, f->c->state, &s);
	} else {
		flow_settle(t, f, true);
		flow_count_state(t, f->c->state, FSM_NONE);
		if (f->ref != TABLE_NONE)
			table_remove(&t->table, f->hash, f->ref);
	}
	f->ref = TABLE_NONE;
}

/* One more entry of @shape is to come. */
static void keep_limit(struct tracker *t, enum table_shape shape, table_ref keep)
{
	/* A limit that was lowered is approached by giving up two for each one that comes. */
	for (int n = 0; n < 2 && unlikely(table_used(&t->table, shape) >= t->limit[shape]); n++)
		if (!flow_make_room(t, shape, keep))
			break;
}

table_ref flow_slot_syn(struct tracker *t, const struct flow *f, const struct synflood_server *s,
			table_ref keep)
{
	keep_limit(t, SHAPE_SYN, keep);
	table_ref r = table_insert(&t->table, f->hash, &f->key, SHAPE_SYN);

	if (r != TABLE_NONE && unlikely(press(t, s, 1) > t->synflood_from))
		synflood_watch(t, s);
	return r;
}

/* A new entry for what flow_store() stores. */
static table_ref flow_slot(struct tracker *t, const struct flow *f, enum table_shape shape)
{
	if (shape == SHAPE_SYN) {
		struct synflood_server s = server_of(f);

		return flow_slot_syn(t, f, &s, TABLE_NONE);
	}
	keep_limit(t, SHAPE_FULL, TABLE_NONE);
	return table_insert(&t->table, f->hash, &f->key, SHAPE_FULL);
}

/* The SYN entry of @f becomes a whole one. */
static table_ref flow_grow(struct tracker *t, const struct flow *f)
{
	keep_limit(t, SHAPE_FULL, f->ref);
	table_ref r = table_reshape(&t->table, f->hash, f->ref, &f->key, SHAPE_FULL);

	if (r != TABLE_NONE) {
		struct synflood_server s = server_of(f);

		press(t, &s, -1);
	}
	return r;
}

/* Puts SYN entry @half, or else all of @f, into the slot @r of its shape. */
static void put(struct tracker *t, const struct flow *f, table_ref r, const struct syn_entry *syn)
{
	if (syn)
		*table_syn(&t->table, r) = *syn;
	else
		full_entry_split(f->c, table_hot(&t->table, r), table_cold(&t->table, r));
}

/* Another slot for what lies in the table, or the first one. */
static table_ref slot_for(struct tracker *t, const struct flow *f, enum table_shape shape)
{
	return f->ref == TABLE_NONE ? flow_slot(t, f, shape) : flow_grow(t, f);
}

void flow_store(struct tracker *t, struct flow *f)
{
	struct syn_entry syn;

	if (f->ref != TABLE_NONE && table_shape_of(f->ref) == SHAPE_FULL) {
		put(t, f, f->ref, NULL);
		return;
	}
	/* Who was answered may well be established, though nobody is shown the ACK that says so. */
	bool answered = t->cfg.control && f->c->state != FSM_SYN;
	bool small = !answered && syn_entry_pack(f->c, &syn);

	if (f->ref != TABLE_NONE && small) {
		syn.incarnation = table_syn(&t->table, f->ref)->incarnation;
		put(t, f, f->ref, &syn);
		return;
	}
	if (unlikely(!small && conn_deferred(f->c)))
		synflood_release(t, f, SYNFLOOD_COMPLETED); /* only a SYN entry can be deferred */
	table_ref r = slot_for(t, f, small ? SHAPE_SYN : SHAPE_FULL);

	if (r == TABLE_NONE) /* not reached: something can always be given up for it */
		return;
	put(t, f, r, small ? &syn : NULL);
	f->ref = r;
}

/* ---- telling -------------------------------------------------------------------------------- */

struct event *event_begin(struct tracker *t)
{
	return t->sink->reserve(t->sink);
}

void event_end(struct tracker *t)
{
	t->sink->commit(t->sink);
}

bool flow_was_lossy(const struct tracker *t, const struct conn *c)
{
	for (unsigned i = 0; i < t->losses; i++)
		if (c->start_ns <= t->loss[i].to_ns && t->loss[i].from_ns <= c->last_ns)
			return true;
	return false;
}

/* Counts one; tells it, if @tell and if not too many were told. */
void flow_emit_anomaly(struct tracker *t, struct flow *f, enum fsm_side from, unsigned kind,
		       struct trigger trigger, bool emit)
{
	uint64_t second = t->now_ns / 1000000000;

	counter_add(&t->count->anomalies, 1);
	if (second != t->anomaly_second) {
		t->anomaly_second = second;
		t->anomalies_reported = 0;
	}
	if (!emit || conn_deferred(f->c) || f->c->anomalies >= t->cfg.anomalies_per_connection ||
	    t->anomalies_reported >= t->cfg.anomalies_per_second) {
		counter_add(&t->count->anomalies_suppressed, 1);
		return;
	}
	f->c->anomalies++;
	t->anomalies_reported++;

	struct event *e = event_begin(t);

	if (!e)
		return;
	emit_common(e, EVENT_TCP_ANOMALY, &f->key, f->c, f->c->state, trigger);
	e->anomaly.kind = (uint8_t)kind;
	e->anomaly.from = from;
	e->anomaly.count = f->c->anomalies;
	event_end(t);
}

void flow_emit_close(struct tracker *t, struct flow *f, enum fsm_state before,
		     enum close_reason reason, int rst_by, struct trigger trigger,
		     const uint64_t *moved_ns)
{
	struct event *e = event_begin(t);

	counter_add(&t->count->closed, 1);
	if (!e)
		return;
	emit_common(e, EVENT_TCP_CLOSE, &f->key, f->c, before, trigger);
	if (moved_ns)
		memcpy(e->prev_state_ns, moved_ns, sizeof e->prev_state_ns);
	emit_close(e, f->c, before, reason, rst_by, flow_was_lossy(t, f->c));
	if (t->cfg.control)
		emit_close_control_mode(e, f->c, before);
	event_end(t);
}

void flow_emit_open(struct tracker *t, const struct flow *f, const struct tcpopt *opt, bool ecn,
		    uint64_t prev_flow_id, struct trigger trigger)
{
	struct event *e = event_begin(t);

	counter_add(&t->count->opened, 1);
	if (!e)
		return;
	emit_common(e, EVENT_TCP_OPEN, &f->key, f->c, FSM_NONE, trigger);
	emit_open(e, opt, ecn, prev_flow_id);
	event_end(t);
}

void flow_emit_deferred(struct tracker *t, const struct flow *f, uint16_t mss,
			uint64_t prev_flow_id)
{
	const struct conn *c = f->c;
	struct tcpopt offered = { .mss = mss,
				  .wscale = c->wscale0,
				  .sack = c->offer.sack & 1,
				  .timestamps = c->offer.timestamps & 1,
				  .tfo = c->offer.tfo & 1,
				  .mptcp = c->offer.mptcp & 1 };

	flow_emit_open(t, f, &offered, c->offer.ecn & 1, prev_flow_id,
		       (struct trigger){ .ts_ns = c->start_ns, .segment = SEGMENT_SYN });
}

/* In control mode: FINs of both and no repetition since, or even a new connection in its place. */
static void emit_unseen_end(struct tracker *t, struct flow *f, struct trigger trigger)
{
	enum fsm_state before = f->c->state;
	uint64_t moved_ns[SIDES];

	if (trigger.basis == BASIS_OBSERVED)
		trigger.basis = BASIS_INFERRED;
	flow_change(t, f->c, control_mode_end(before), trigger.ts_ns, moved_ns);
	flow_emit_close(t, f, before, REASON_FIN, -1, trigger, moved_ns);
}

/* Closes a connection for a reason that no segment of its own gave: its ends stay as they are, as
 * far as anyone knows.  The entry is removed. */
void flow_give_up(struct tracker *t, struct flow *f, enum close_reason reason, int rst_by,
		  struct trigger trigger)
{
	flow_settle(t, f, true);
	if (t->cfg.control && (reason == REASON_IDLE || reason == REASON_REUSE) &&
	    control_mode_end(f->c->state) != f->c->state)
		emit_unseen_end(t, f, trigger);
	else if (!fsm_over(f->c->state) &&
		 !(conn_deferred(f->c) && synflood_ends(t, f, synflood_count_of(reason))))
		flow_emit_close(t, f, f->c->state, reason, rst_by, trigger, NULL);
	if (f->c->rivalled)
		incarnation_orphan(t, f);
	flow_remove(t, f);
}

enum event_segment segment_kind(const struct segment *s)
{
	if (s->flags & TCP_RST)
		return SEGMENT_RST;
	if (s->flags & TCP_SYN)
		return s->flags & TCP_ACK ? SEGMENT_SYN_ACK : SEGMENT_SYN;
	if (s->flags & TCP_FIN)
		return s->flags & TCP_ACK ? SEGMENT_FIN_ACK : SEGMENT_FIN;
	return SEGMENT_ACK;
}

struct trigger trigger_of(const struct segment *s, bool inferred)
{
	return (struct trigger){ .ts_ns = s->ts_ns,
				 .segment = segment_kind(s),
				 .basis = inferred ? BASIS_INFERRED : BASIS_OBSERVED };
}
