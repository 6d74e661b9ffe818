#include "flow/tracker.h"
#include <stdlib.h>
#include <string.h>
#include "base/cc.h"
#include "flow/segment_check.h"
#include "flow/work.h"

static bool bare_syn(const struct segment *s)
{
	return (s->flags & (TCP_SYN | TCP_ACK | TCP_RST | TCP_FIN)) == TCP_SYN;
}

/* Closes what was there and begins anew on the same 4-tuple. */
static void flow_replace(struct tracker *t, struct flow *f, unsigned sender,
			 const struct segment *s)
{
	struct conn old = *f->c;

	flow_give_up(t, f, REASON_REUSE, -1, trigger_of(s, false));
	if (conn_deferred(&old)) /* perhaps it was told with its end */
		old = *f->c;
	input_first(t, f, sender, s, &old);
}

/* The SYN was refused, so it seemed; but now the same one is accepted.  Its RST overtook another
 * answer, or the SYN came twice and the port had opened meanwhile. */
static bool answers_refused(const struct conn *c, enum fsm_side from, const struct segment *s)
{
	return c->state == FSM_RESET && from == SIDE_B &&
	       !(c->complete & (COMPLETE_SYN_ACK | COMPLETE_DATA | COMPLETE_FIN)) &&
	       (s->flags & (TCP_SYN | TCP_ACK | TCP_RST | TCP_FIN)) == (TCP_SYN | TCP_ACK) &&
	       s->ack == c->isn + 1;
}

/* A segment for a connection that is over: a straggler, or the first of the next one. */
static void over_input(struct tracker *t, struct flow *f, unsigned sender, const struct segment *s)
{
	enum fsm_side from = sender != f->c->client_end;

	if (answers_refused(f->c, from, s)) {
		flow_replace(t, f, sender, s);
		return;
	}
	if (!bare_syn(s) || (from == SIDE_A && s->seq == f->c->isn))
		return;
	if (incarnation_supersedes(f->c, from, s))
		flow_replace(t, f, sender, s);
	else
		incarnation_hold(t, f, sender, s);
	if (f->ref != TABLE_NONE)
		flow_store(t, f);
}

/* The short way for what is nearly all of the traffic: does what input_segment() would do. */
static inline __attribute__((always_inline)) bool
fastpath_input(const struct tracker *t, struct conn_hot *h, unsigned sender,
	       const struct segment *s, struct undo *undo)
{
	enum fsm_side from = sender != h->client_end;

	if (!fastpath_predict_open(h, from, s) ||
	    t->now_ns >= h->last_ns + t->cfg.timeout_ns[FSM_T_ESTABLISHED])
		return false;
	undo_save(undo, h, sizeof *h);
	if (unlikely(!(h->noted & conn_note_bit(from, s->payload_len))) &&
	    !conn_note(h, from, s->payload_len))
		return false;
	if (!conn_count_low(h, from, s->wire_segs, s->wire_len - s->payload_len, s->payload_len))
		return false;
	if (s->ts_ns > h->last_ns)
		h->last_ns = s->ts_ns;
	fastpath_learn_open(h, from, s);
	return true;
}

static void known_input(struct tracker *t, struct flow *f, unsigned sender, const struct segment *s)
{
	enum fsm_side from = sender != f->c->client_end;
	bool other_syn = bare_syn(s) &&
			 segment_check(f->c, from, s, &gaps_none).anomaly == ANOMALY_SYN_IN_OPEN;

	if (f->key.self)
		from = SIDE_A;
	if (other_syn && from == SIDE_A && f->c->state == FSM_SYN) {
		flow_replace(t, f, sender, s); /* it gave the first attempt up */
		return;
	}
	if (other_syn && incarnation_hold(t, f, sender, s)) /* counted there */
		flow_emit_anomaly(t, f, from, ANOMALY_SYN_IN_OPEN, trigger_of(s, false), true);
	else
		input_segment(t, f, from, s);
	flow_store(t, f);
}

/* Does the 4-tuple of this entry have a second one? */
static bool entry_has_rival(const struct tracker *t, table_ref r)
{
	if (table_shape_of(r) == SHAPE_FULL)
		return table_hot(&t->table, r)->rivalled;
	const struct syn_entry *h = table_syn(&t->table, r);

	return h->incarnation || h->rivalled;
}

/* What the kernel bypassed before @s. */
static void catch_up(struct tracker *t, struct flow *f, unsigned sender, const struct segment *s)
{
	if (table_shape_of(f->ref) == SHAPE_SYN)
		return;
	uint64_t n = bypass_catch_up(t->bypass, f->c, f->hash, sender != f->c->client_end, s);

	if (!n)
		return;
	counter_add(&t->count->bypassed, n);
	flow_store(t, f);
}

/* Key and hash of @f are set; @sender is the end that sent @s, @ref an entry of the key, if any. */
static void dispatch(struct tracker *t, struct flow *f, table_ref ref, unsigned sender,
		     const struct segment *s)
{
	table_ref other = TABLE_NONE;

	if (ref != TABLE_NONE && unlikely(entry_has_rival(t, ref))) {
		bool done = false;

		ref = table_find(&t->table, f->hash, &f->key, &other);
		if (table_shape_of(ref) == SHAPE_SYN && table_syn(&t->table, ref)->incarnation) {
			table_ref pending = ref;

			ref = other;
			other = pending;
		}
		if (other != TABLE_NONE)
			ref = incarnation_input(t, f, other, ref, sender, s, &done);
		if (done)
			return;
	}
	if (ref != TABLE_NONE && fastpath_syn_ack(t, f, ref, sender, s))
		return;
	if (ref != TABLE_NONE) {
		flow_load(t, f, ref);
		if (unlikely(t->bypass))
			catch_up(t, f, sender, s);
		if (unlikely(flow_expire(t, f)))
			ref = TABLE_NONE;
	}
	if (ref == TABLE_NONE) {
		if (!fastpath_syn(t, f, sender, s))
			input_first(t, f, sender, s, NULL);
	} else if (fsm_over(f->c->state)) {
		over_input(t, f, sender, s);
	} else {
		known_input(t, f, sender, s);
		if (unlikely(t->bypass) && f->ref != TABLE_NONE &&
		    table_shape_of(f->ref) == SHAPE_FULL)
			bypass_consider(t->bypass, f->c, &f->key, f->hash);
	}
}

/* A segment that waits for its turn while the memory that it needs is on its way. */
struct ticket {
	struct flow_key key;
	uint64_t hash;
	table_ref hint; /* the entry that may be its own, when that was looked for ... */
	void *entry;	/* ... and where it lies */
	unsigned sender;
};

static __attribute__((noinline)) void take(struct tracker *t, const struct ticket *k,
					   const struct segment *s)
{
	table_ref ref = k->hint;
	struct flow f;

	if (unlikely(ref == TABLE_NONE || !table_is(&t->table, ref, &k->key)))
		ref = table_find(&t->table, k->hash, &k->key, NULL);
	f.key = k->key;
	f.hash = k->hash;
	dispatch(t, &f, ref, k->sender, s);
}

/* Nearly all there is. */
static inline __attribute__((always_inline)) bool take_predicted(struct tracker *t,
								 const struct ticket *k,
								 const struct segment *s,
								 struct undo *undo)
{
	if (unlikely(k->hint == TABLE_NONE))
		return false;
	struct conn_hot *h = table_full(k->hint, k->entry, &k->key);

	return h && !k->key.self && fastpath_input(t, h, k->sender, s, undo);
}

/* The same with a log.  Not inline: others pay nothing for it. */
static __attribute__((noinline)) bool take_kept(struct tracker *t, const struct ticket *k,
						const struct segment *s)
{
	return take_predicted(t, k, s, t->undo);
}

void tracker_input(struct tracker *t, const struct segment *s, unsigned n)
{
	struct ticket ticket[TRACKER_BATCH];
	const bool fastpath = !t->cfg.slow_only && !t->bypass && !t->undo;
	const bool kept = !t->cfg.slow_only && t->undo;

	/* A table of millions is memory far away: ask for all lines first, then work. */
	for (unsigned i = 0; i < n; i++) {
		struct ticket *k = &ticket[i];

		k->sender = flow_key_of(&s[i], &k->key);
		k->hash = flow_key_hash(&k->key, &t->cfg.secret);
		table_prefetch(&t->table, k->hash);
	}
	for (unsigned i = 0; i < n; i++) {
		struct ticket *k = &ticket[i];

		k->hint = table_prefetch_entry(&t->table, k->hash, &k->entry);
		if (s[i].flags & (TCP_SYN | TCP_FIN | TCP_RST) && k->hint != TABLE_NONE &&
		    table_shape_of(k->hint) == SHAPE_FULL)
			table_prefetch_cold(&t->table, k->hint);
	}
	for (unsigned i = 0; i < n; i++) {
		const struct ticket *k = &ticket[i];
		uint64_t ts_ns = s[i].ts_ns;

		if (likely(ts_ns - t->now_ns < t->sweep_at_ns - t->now_ns))
			t->now_ns = ts_ns;
		else
			tracker_advance(t, ts_ns);
		if (likely(fastpath) && likely(take_predicted(t, k, &s[i], NULL)))
			continue;
		if (unlikely(kept) && take_kept(t, k, &s[i]))
			continue;
		t->sink->current = i;
		take(t, k, &s[i]);
	}
	flow_gauges(t);
}

/* The SYN of @f, which @quoted seems to be, could not be delivered. */
static void refuse(struct tracker *t, struct flow *f, unsigned sender, const struct segment *quoted)
{
	uint64_t moved_ns[SIDES];

	if (flow_expire(t, f) || f->c->state != FSM_SYN || sender != f->c->client_end ||
	    quoted->seq != f->c->isn)
		return;
	bool suppressed = conn_deferred(f->c) && synflood_ends(t, f, SYNFLOOD_REFUSED);

	flow_change(t, f->c, FSM_RESET, quoted->ts_ns, moved_ns);
	if (!suppressed)
		flow_emit_close(t, f, FSM_SYN, REASON_UNREACHABLE, -1,
				(struct trigger){ .ts_ns = quoted->ts_ns, .segment = SEGMENT_ICMP },
				moved_ns);
	flow_store(t, f);
}

void tracker_unreachable(struct tracker *t, const struct segment *quoted)
{
	struct flow f;
	unsigned sender = flow_key_of(quoted, &f.key);

	tracker_advance(t, quoted->ts_ns);
	f.hash = flow_key_hash(&f.key, &t->cfg.secret);

	table_ref ref = table_find(&t->table, f.hash, &f.key, NULL);

	if (ref == TABLE_NONE || entry_has_rival(t, ref))
		return;
	flow_load(t, &f, ref);
	refuse(t, &f, sender, quoted);
	flow_gauges(t);
}

void tracker_loss(struct tracker *t, uint64_t from_ns, uint64_t to_ns, uint64_t count,
		  uint64_t freezes)
{
	struct event *e;

	undo_save(t->undo, t->loss, sizeof t->loss);
	if (t->losses ==
	    LOSS_WINDOWS) { /* the two oldest become one: rather too wide than unsaid */
		t->loss[1].from_ns = t->loss[0].from_ns;
		memmove(t->loss, t->loss + 1, sizeof *t->loss * (LOSS_WINDOWS - 1));
		t->losses--;
	}
	t->loss[t->losses++] = (struct loss_window){ from_ns, to_ns };
	e = event_begin(t);
	if (!e)
		return;
	e->ts_ns = to_ns;
	e->flow_id = 0;
	e->kind = EVENT_CAPTURE_LOSS;
	e->loss.count = count;
	e->loss.freezes = freezes;
	e->loss.from_ns = from_ns;
	e->loss.to_ns = to_ns;
	event_end(t);
}

/* Closes one slot. */
static void close_slot(struct tracker *t, table_ref r, enum close_reason reason)
{
	struct trigger trigger = { .ts_ns = t->now_ns,
				   .segment = SEGMENT_NONE,
				   .basis = BASIS_OBSERVED };
	struct flow f;

	if (!table_live(&t->table, r))
		return;
	if (entry_deferred(t, r) && !flow_due(t, r) && fastpath_drop_at(t, r, reason))
		return;
	flow_at(t, &f, r);
	if (!flow_expire(t, &f))
		flow_end(t, &f, reason, -1, trigger);
}

bool tracker_close_some(struct tracker *t, enum close_reason reason)
{
	enum { AHEAD = 16 };
	unsigned n = STEP_SLOTS;

	for (unsigned p = 0; p < TABLE_POOLS; p++)
		while (t->close_slot[p] < t->table.head->pool[p].high) {
			if (!n--) {
				flow_gauges(t);
				return true;
			}
			table_ref r = table_slot(p, t->close_slot[p]++);

			flow_prefetch(t, r + AHEAD);
			close_slot(t, r, reason);
		}
	memset(t->close_slot, 0, sizeof t->close_slot);
	synflood_end_all(t);
	flow_gauges(t);
	return false;
}

void tracker_close_all(struct tracker *t, enum close_reason reason)
{
	while (tracker_close_some(t, reason))
		;
}

/* ---- life ----------------------------------------------------------------------------------- */

size_t tracker_memory(const struct tracker_config *c)
{
	return LINE_UP(sizeof(struct tracker)) + table_size(c->max_connections, c->max_half_open);
}

static void *table_region(void *memory)
{
	return (uint8_t *)memory + LINE_UP(sizeof(struct tracker));
}

/* To be raised when anything that is kept changes its meaning; sizes are seen without. */
enum { LAYOUT_VERSION = 2 };

uint64_t tracker_layout(void)
{
	static const uint64_t sizes[] = { sizeof(struct tracker),
					  sizeof(struct conn_hot),
					  sizeof(struct conn_cold),
					  sizeof(struct syn_entry),
					  sizeof(struct gaps),
					  sizeof(struct resync_candidate),
					  sizeof(struct table_head),
					  sizeof(struct synflood),
					  offsetof(struct tracker, now_ns),
					  FSM_STATES };
	uint64_t v = LAYOUT_VERSION;

	for (unsigned i = 0; i < ARRAY_SIZE(sizes); i++)
		v = v * 0x9e3779b97f4a7c15 + sizes[i];
	return v | 1;
}

static void view(struct tracker *t, const struct tracker_config *c, struct event_sink *sink,
		 struct tracker_counters *counters)
{
	t->bypass = NULL;
	t->undo = t->table.undo = c->undo;
	t->sink = sink;
	t->count = counters;
	tracker_configure(t, c);
}

struct tracker *tracker_new(const struct tracker_config *c, void *memory, struct event_sink *sink,
			    struct tracker_counters *counters)
{
	struct tracker *t = memory;

	t->cfg.secret = c->secret;
	table_init(&t->table, table_region(memory), c->max_connections, c->max_half_open);
	view(t, c, sink, counters);
	if (c->bypass && !(t->bypass = bypass_new(c->bypass)))
		return NULL;
	t->layout = tracker_layout();
	return t;
}

struct tracker *tracker_adopt(const struct tracker_config *c, void *memory, struct event_sink *sink,
			      struct tracker_counters *counters)
{
	struct tracker *t = memory;

	if (t->layout != tracker_layout() ||
	    !table_adopt(&t->table, table_region(memory), c->max_connections, c->max_half_open) ||
	    t->losses > LOSS_WINDOWS || t->floods.n > SYNFLOODS)
		return NULL;
	view(t, c, sink, counters);
	memset(t->close_slot, 0, sizeof t->close_slot); /* who closed may be fed again */
	return t;
}

void tracker_begin(struct tracker *t)
{
	undo_save(t->undo, &t->now_ns,
		  offsetof(struct tracker, floods.slot) - offsetof(struct tracker, now_ns));
	undo_save(t->undo, t->table.head->pool, sizeof t->table.head->pool);
}

void tracker_configure(struct tracker *t, const struct tracker_config *c)
{
	struct hash_key secret = t->cfg.secret;
	uint32_t full = table_max(&t->table, SHAPE_FULL), syn = table_max(&t->table, SHAPE_SYN);

	t->cfg = *c;
	t->cfg.secret = secret;
	t->fastpath = !c->control && !c->slow_only;
	if (t->cfg.anomalies_per_connection > ANOMALIES_REPORTED_MAX)
		t->cfg.anomalies_per_connection = ANOMALIES_REPORTED_MAX;
	t->limit[SHAPE_FULL] = c->max_connections < full ? c->max_connections : full;
	t->limit[SHAPE_SYN] = c->max_half_open < syn ? c->max_half_open : syn;
	synflood_configure(t);
}

void tracker_free(struct tracker *t)
{
	if (t)
		bypass_free(t->bypass);
}
