#include "flow/tracker.h"
#include <stdlib.h>
#include <string.h>
#include <sys/param.h>
#include "base/layout.h"
#include "flow/bypass.h"
#include "flow/close.h"
#include "flow/dedupe.h"
#include "flow/deferral.h"
#include "flow/emit.h"
#include "flow/entry_store.h"
#include "flow/evict.h"
#include "flow/fastpath.h"
#include "flow/incarnation.h"
#include "flow/input.h"
#include "flow/late.h"
#include "flow/origin.h"
#include "flow/timeout.h"
#include "flow/tracker_state.h"
#include "flow/transition.h"

static const uint64_t sweep_every_ns = 1000000000;
static const uint64_t clock_step_ns = 10000000000; /* more is a clock change, not reordering */

/* Sets the gauges of entries: last of all in each call from outside. */
static void set_gauges(struct tracker *t)
{
	counter_set(&t->count->syn_entries, table_used(&t->table, SHAPE_SYN));
	counter_set(&t->count->full_entries, table_used(&t->table, SHAPE_FULL));
}

/* ---- one segment ----------------------------------------------------------------------------- */

static void known_input(struct tracker *t, struct flow *f, unsigned sender, const struct segment *s)
{
	enum fsm_side from = sender != f->c->client_end;
	bool other_syn = segment_flags(s) == TCP_SYN &&
			 segment_check(f->c, from, s, &gaps_none).anomaly == ANOMALY_SYN_IN_OPEN;

	if (f->key.self)
		from = SIDE_A;
	if (other_syn && from == SIDE_A && f->c->state == FSM_SYN) {
		input_replace(t, f, sender, s); /* the client abandoned the first attempt */
		return;
	}
	if (other_syn && incarnation_keep(t, f, sender, s)) /* counted there */
		emit_anomaly(t, f, from, ANOMALY_SYN_IN_OPEN, trigger_of(s, false), true);
	else if (!fastpath_segment(t, f, from, s))
		input_segment(t, f, from, s);
	deferral_save(t, f);
}

/* Does the 4-tuple of this entry have a second one? */
static bool entry_has_rival(const struct tracker *t, table_ref r)
{
	if (table_shape_of(r) == SHAPE_FULL)
		return table_hot(&t->table, r)->rivalled;
	const struct syn_entry *e = table_syn(&t->table, r);

	return e->incarnation || e->rivalled;
}

/* A 4-tuple can have two entries: an old connection and an unconfirmed incarnation.  Returns the
 * one that @s is for.  Expires both first.  *ret_done: nothing is left to do. */
static table_ref choose_incarnation(struct tracker *t, const struct flow *f, unsigned sender,
				    const struct segment *s, bool *ret_done)
{
	struct flow old = { .key = f->key, .hash = f->hash, .ref = TABLE_NONE }, pend = old;
	table_ref other, ref = table_find(&t->table, f->hash, &f->key, &other);

	if (table_shape_of(ref) == SHAPE_SYN && table_syn(&t->table, ref)->incarnation) {
		table_ref incarnation = ref;

		ref = other;
		other = incarnation;
	}
	if (other == TABLE_NONE)
		return ref;
	if (ref != TABLE_NONE) {
		entry_load(t, &old, ref);
		if (timeout_expire(t, &old)) { /* and the incarnation with it, maybe */
			other = table_find(&t->table, f->hash, &f->key, NULL);
			if (other == TABLE_NONE)
				return TABLE_NONE;
		}
	}
	entry_load(t, &pend, other);
	if (timeout_expire(t, &pend))
		return old.ref;
	if (old.ref == TABLE_NONE) { /* nothing rivals it any more: an attempt like any other */
		incarnation_confirm(t, &pend, &old, s);
		return pend.ref;
	}
	switch (incarnation_input(t, &pend, &old, sender, s)) {
	case INCARNATION_FOR_NEW:
		return pend.ref;
	case INCARNATION_DONE:
		*ret_done = true;
		break;
	case INCARNATION_FOR_OLD:
		break;
	}
	return old.ref;
}

/* Adds what the kernel counted before @s. */
static void bypass_before(struct tracker *t, struct flow *f, unsigned sender,
			  const struct segment *s)
{
	if (table_shape_of(f->ref) == SHAPE_SYN)
		return;
	uint64_t n = bypass_catch_up(t->bypass, f->c, f->hash, sender != f->c->client_end, s);

	if (!n)
		return;
	counter_add(&t->count->bypassed, n);
	entry_save(t, f);
}

void tracker_bypass_except(struct tracker *t, const struct endpoints *e)
{
	if (t->bypass)
		bypass_except(t->bypass, e);
}

void tracker_bypass_pause(struct tracker *t, bool paused)
{
	if (t->bypass)
		bypass_pause(t->bypass, paused);
}

void tracker_bypass_renew(struct tracker *t, struct bypass_kernel *kernel)
{
	uint32_t at = 0;
	struct flow f;

	while (bypass_next(t->bypass, &at, &f.key, &f.hash)) {
		table_ref other, ref = table_find(&t->table, f.hash, &f.key, &other);

		if (ref != TABLE_NONE && table_shape_of(ref) != SHAPE_FULL)
			ref = other; /* the first is another incarnation */
		if (ref == TABLE_NONE || table_shape_of(ref) != SHAPE_FULL)
			continue;
		entry_load(t, &f, ref);
		counter_add(&t->count->bypassed, bypass_settle(t->bypass, f.c, f.hash, true));
		entry_save(t, &f);
	}
	bypass_renew(t->bypass, kernel);
	bypass_pause(t->bypass, false);
	set_gauges(t);
}

static void bypass_after(struct tracker *t, const struct flow *f)
{
	if (f->ref != TABLE_NONE && table_shape_of(f->ref) == SHAPE_FULL)
		bypass_consider(t->bypass, f->c, &f->key, f->hash);
}

/* Sends @s to its path.  Key and hash of @f are set; @sender is the end that sent @s; @ref is an
 * entry of the key, if any. */
static void dispatch(struct tracker *t, struct flow *f, table_ref ref, unsigned sender,
		     const struct segment *s)
{
	bool done = false;

	f->ref = TABLE_NONE;
	if (ref != TABLE_NONE && unlikely(entry_has_rival(t, ref)))
		ref = choose_incarnation(t, f, sender, s, &done);
	if (unlikely(done))
		return;
	if (ref != TABLE_NONE && fastpath_syn_ack(t, f, ref, sender, s))
		return;
	if (ref != TABLE_NONE) {
		entry_load(t, f, ref);
		if (unlikely(t->bypass))
			bypass_before(t, f, sender, s);
		if (unlikely(timeout_expire(t, f)))
			ref = TABLE_NONE;
	}
	if (ref == TABLE_NONE) {
		if (!fastpath_syn(t, f, sender, s))
			input_first(t, f, sender, s, NULL);
	} else if (fsm_over(f->c->state)) {
		late_input(t, f, sender, s);
	} else {
		known_input(t, f, sender, s);
		if (unlikely(t->bypass))
			bypass_after(t, f);
	}
}

/* ---- a batch of them ------------------------------------------------------------------------- */

/* A segment that waits while the memory that it needs is on its way. */
struct ticket {
	struct flow_key key;
	uint64_t hash;
	table_ref hint;	   /* the entry that may be its own, when that was looked for ... */
	const void *entry; /* ... and where it lies */
	unsigned sender;
};

static __attribute__((noinline)) void take_at(struct tracker *t, const struct ticket *k,
					      table_ref ref, const struct segment *s)
{
	struct flow f;

	f.key = k->key;
	f.hash = k->hash;
	dispatch(t, &f, ref, k->sender, s);
	if (unlikely(t->over_limit))
		evict_to_limit(t, f.ref);
}

/* The entry of its key, if any. */
static table_ref entry_of_ticket(const struct tracker *t, const struct ticket *k)
{
	if (likely(k->hint != TABLE_NONE && table_is(&t->table, k->hint, &k->key)))
		return k->hint;
	return table_find(&t->table, k->hash, &k->key, NULL);
}

static inline __attribute__((always_inline)) bool
take_open(struct tracker *t, const struct ticket *k, const struct segment *s)
{
	if (unlikely(k->hint == TABLE_NONE))
		return false;
	const struct conn_hot *h = table_full(k->hint, k->entry, &k->key, UINT16_MAX);

	return h && !k->key.self &&
	       fastpath_open(&t->table, k->hint, h, k->sender, s, t->now_ns,
			     t->cfg.timeout_ns[FSM_T_ESTABLISHED]);
}

/* The usual data of a connection that has no other instance, if its origin owns its direction. */
static inline __attribute__((always_inline)) bool
take_open_deduped(struct tracker *t, const struct ticket *k, const struct segment *s)
{
	if (unlikely(k->hint == TABLE_NONE) || k->key.self || tracker_has_instances(t, k->hash))
		return false;
	const struct conn_hot *h = table_full(k->hint, k->entry, &k->key, t->table.key_mask);

	return h &&
	       origin_owns(t->origins, tracker_origin(t, h->iface), k->sender != h->client_end,
			   s->iface) &&
	       fastpath_open(&t->table, k->hint, h, k->sender, s, t->now_ns,
			     t->cfg.timeout_ns[FSM_T_ESTABLISHED]);
}

/* @s goes to the instance that it belongs to, if it is no copy. */
static void take_instance(struct tracker *t, const struct ticket *k, const struct segment *s)
{
	struct placed p = { .key = k->key, .hash = k->hash };
	struct segment of_instance;

	t->last.copied = !dedupe_place(t, &p, k->sender, s);
	if (t->last.copied)
		return;
	t->last.key = p.key;
	if (unlikely(p.instance)) { /* a connection that it begins has the number in its key */
		of_instance = *s;
		of_instance.iface = (uint16_t)(s->iface | p.instance << INSTANCE_SHIFT);
		s = &of_instance;
	}
	take_at(t, &(struct ticket){ .key = p.key, .hash = p.hash, .sender = k->sender }, p.ref, s);
}

static __attribute__((noinline)) void take_deduped(struct tracker *t, const struct ticket *k,
						   const struct segment *s)
{
	table_ref ref = entry_of_ticket(t, k);

	if (unlikely(k->key.self || tracker_has_instances(t, k->hash)) ||
	    (ref != TABLE_NONE && !dedupe_is_alone(t, ref, k->sender, s))) {
		take_instance(t, k, s);
		return;
	}
	t->last = (struct dedupe_last){ k->key, false };
	take_at(t, k, ref, s);
}

static __attribute__((noinline)) void input_deduped(struct tracker *t, const struct segment *s,
						    unsigned n)
{
	struct ticket ticket[TRACKER_BATCH];

	for (unsigned i = 0; i < n; i++) {
		struct ticket *k = &ticket[i];

		k->sender = flow_key_of(&s[i], &k->key);
		dedupe_key(&k->key, 0);
		k->hash = flow_key_hash(&k->key, &t->cfg.secret);
		table_prefetch(&t->table, k->hash);
	}
	for (unsigned i = 0; i < n; i++)
		ticket[i].hint = table_prefetch_entry(&t->table, ticket[i].hash, &ticket[i].entry);
	for (unsigned i = 0; i < n; i++) {
		const struct ticket *k = &ticket[i];

		if (likely(s[i].ts_ns - t->now_ns < t->sweep_at_ns - t->now_ns))
			t->now_ns = s[i].ts_ns;
		else
			tracker_advance(t, s[i].ts_ns);
		if (!t->cfg.slow_only && likely(take_open_deduped(t, k, &s[i]))) {
			if (i + 1 == n)
				t->last = (struct dedupe_last){ k->key, false };
			continue;
		}
		t->sink->current = i;
		take_deduped(t, k, &s[i]);
	}
	set_gauges(t);
}

__attribute__((noinline)) void tracker_input(struct tracker *t, const struct segment *s, unsigned n)
{
	struct ticket ticket[TRACKER_BATCH];
	const bool fast = !t->cfg.slow_only && !t->bypass;

	if (unlikely(t->origins != NULL)) {
		input_deduped(t, s, n);
		return;
	}

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
		if (likely(fast) && likely(take_open(t, k, &s[i])))
			continue;
		t->sink->current = i;
		take_at(t, k, entry_of_ticket(t, k), &s[i]);
	}
	set_gauges(t);
}

void tracker_unreachable(struct tracker *t, const struct segment *quoted)
{
	struct flow f;
	unsigned sender = flow_key_of(quoted, &f.key);

	tracker_advance(t, quoted->ts_ns);
	if (t->origins)
		dedupe_quoted(t, &f.key, sender, quoted);
	f.hash = flow_key_hash(&f.key, &t->cfg.secret);

	table_ref ref = table_find(&t->table, f.hash, &f.key, NULL);

	if (ref == TABLE_NONE || entry_has_rival(t, ref))
		return;
	entry_load(t, &f, ref);
	if (!timeout_expire(t, &f) && f.c->state == FSM_SYN && sender == f.c->client_end &&
	    quoted->seq == f.c->isn) {
		transition_unreachable(t, &f, quoted->ts_ns);
		entry_save(t, &f);
		evict_to_limit(t, f.ref);
	}
	set_gauges(t);
}

/* ---- time, and losses ------------------------------------------------------------------------ */

/* A connection whose segments the kernel bypasses is not silent. */
static void touch(void *arg, const struct flow_key *key, uint64_t hash, uint64_t last_ns)
{
	struct tracker *t = arg;
	table_ref ref = table_find(&t->table, hash, key, NULL);

	if (ref == TABLE_NONE || table_shape_of(ref) != SHAPE_FULL)
		return;
	const struct conn_hot *h = table_hot(&t->table, ref);

	if (last_ns > h->last_ns)
		table_hot_edit(&t->table, h)->last_ns = last_ns;
}

static void judge_floods(struct tracker *t)
{
	unsigned at = synflood_watched(&t->synflood);
	struct synflood_report r;

	while (synflood_tick(&t->synflood, &at, t->waiting, t->now_ns, &r))
		emit_synflood(t, &r);
}

/* Time went back to @ts_ns, or goes on from there. */
static void note_late(struct tracker *t, uint64_t ts_ns)
{
	if (t->ahead_ns != t->now_ns || ts_ns < t->behind_ns)
		t->steps++;
	t->ahead_ns = t->now_ns;
	t->behind_ns = ts_ns;
}

void tracker_advance(struct tracker *t, uint64_t now_ns)
{
	if (now_ns < t->now_ns)
		note_late(t, now_ns);
	if (now_ns + clock_step_ns < t->now_ns) { /* the clock was set back: continue from there */
		t->stepped_ns = MAX(t->stepped_ns, t->now_ns);
		t->ahead_ns = 0;
		t->now_ns = now_ns;
		t->sweep_at_ns = now_ns + sweep_every_ns;
	}
	if (now_ns <= t->now_ns)
		return;
	/* After a pause no timeout may be late: sweep the whole table before anything is
	 * reported. */
	bool all = now_ns - t->now_ns > sweep_every_ns * SWEEP_PARTS && t->now_ns;

	t->now_ns = now_ns;
	if (now_ns < t->sweep_at_ns)
		return;
	t->sweep_at_ns = now_ns + sweep_every_ns;
	if (t->bypass)
		bypass_refresh(t->bypass, touch, t);
	judge_floods(t);
	timeout_sweep_begin(t, all ? SWEEP_PARTS + 1 : 1);
	while (!t->undo && tracker_step(t))
		;
}

bool tracker_has_steps(const struct tracker *t)
{
	return t->sweep_pools;
}

bool tracker_step(struct tracker *t)
{
	bool more = timeout_sweep(t);

	set_gauges(t);
	return more;
}

void tracker_loss(struct tracker *t, enum loss_reason reason, uint64_t from_ns, uint64_t to_ns,
		  uint64_t count, uint64_t freezes)
{
	struct loss_window *loss = undo_edit(t->undo, t->loss, sizeof t->loss);

	if (t->losses == LOSS_WINDOWS) { /* the two oldest become one: too wide, but complete */
		loss[1].from_ns = loss[0].from_ns;
		memmove(loss, loss + 1, sizeof *loss * (LOSS_WINDOWS - 1));
		t->losses--;
	}
	loss[t->losses] = (struct loss_window){ from_ns, to_ns };
	emit_loss(t, &loss[t->losses++], reason, count, freezes);
}

/* ---- the end --------------------------------------------------------------------------------- */

static void close_slot(struct tracker *t, table_ref r, enum close_reason reason)
{
	struct trigger trigger = { t->now_ns, SEGMENT_NONE, BASIS_OBSERVED };
	struct flow f;

	if (!table_live(&t->table, r))
		return;
	if (entry_deferred(t, r) && !timeout_due(t, r) && close_deferred_at(t, r, reason))
		return;
	entry_load_at(t, &f, r);
	if (!timeout_expire(t, &f))
		close_entry(t, &f, reason, -1, trigger);
}

static bool slot_is_gone(const struct tracker *t, table_ref r, const struct origins *o)
{
	return table_live(&t->table, r) &&
	       origin_is_gone(o, tracker_origin(t, (uint16_t)table_iface(&t->table, r)));
}

/* Up to STEP_SLOTS of them from @slot on, those of gone origins if @gone; false: that was all. */
static bool close_slots(struct tracker *t, uint32_t *slot, enum close_reason reason,
			const struct origins *gone)
{
	enum { AHEAD = 16 };
	unsigned n = STEP_SLOTS;

	for (unsigned p = 0; p < TABLE_POOLS; p++)
		while (slot[p] < t->table.head->pool[p].high) {
			if (!n--)
				return true;
			table_ref r = table_slot(p, slot[p]++);

			entry_prefetch(t, r + AHEAD);
			if (gone && !slot_is_gone(t, r, gone))
				continue;
			t->gone_found = true;
			close_slot(t, r, reason);
		}
	return false;
}

bool tracker_close_some(struct tracker *t, enum close_reason reason)
{
	bool more = close_slots(t, t->close_slot, reason, NULL);

	if (!more) {
		struct synflood_report r;
		unsigned at = 0;

		memset(t->close_slot, 0, sizeof t->close_slot);
		while (synflood_end(&t->synflood, &at, t->now_ns, &r))
			emit_synflood(t, &r);
	}
	set_gauges(t);
	return more;
}

/* An entry may move to a slot that the walk has passed: it ends with a walk that finds none. */
bool tracker_close_gone(struct tracker *t, const struct origins *o)
{
	bool more = close_slots(t, t->gone_slot, REASON_CAPTURE_END, o);

	if (!more) {
		memset(t->gone_slot, 0, sizeof t->gone_slot);
		more = t->gone_found;
		t->gone_found = false;
	}
	set_gauges(t);
	return more;
}

void tracker_more_gone(struct tracker *t)
{
	t->gone_found = true; /* after this walk there is another one */
}

void tracker_close_all(struct tracker *t, enum close_reason reason)
{
	while (tracker_close_some(t, reason))
		;
}

/* ---- life ------------------------------------------------------------------------------------ */

static size_t table_offset(void)
{
	return LINE_UP(sizeof(struct tracker));
}

size_t tracker_memory(const struct tracker_config *c)
{
	return table_offset() +
	       table_size(c->max_connections + TABLE_SPARE, c->max_half_open + TABLE_SPARE);
}

/* Raise it when kept memory changes its meaning.  Sizes and offsets are compared anyway. */
enum { LAYOUT_VERSION = 5 };

uint64_t tracker_layout(void)
{
	static const uint64_t values[] = {
		sizeof(struct tracker),
		LAYOUT_MEMBER(struct tracker, now_ns),
		LAYOUT_MEMBER(struct tracker, losses),
		LAYOUT_MEMBER(struct tracker, loss),
		LAYOUT_MEMBER(struct tracker, incarnation),
		LAYOUT_MEMBER(struct tracker, candidate),
		LAYOUT_MEMBER(struct tracker, gaps),
		LAYOUT_MEMBER(struct tracker, answers),
		LAYOUT_MEMBER(struct tracker, base),
		LAYOUT_MEMBER(struct tracker, instances),
		LAYOUT_MEMBER(struct tracker, synflood_memory),
		sizeof(struct conn_hot),
		sizeof(struct conn_cold),
		sizeof(struct syn_entry),
		sizeof(struct table_head),
		FSM_STATES,
	};

	return layout_fingerprint(LAYOUT_VERSION, values, ARRAY_SIZE(values));
}

/* Sets the part of @t that belongs to the process. */
static void tracker_view(struct tracker *t, const struct tracker_config *c, struct event_sink *sink,
			 struct tracker_counters *counters)
{
	t->bypass = NULL;
	t->origins = c->origins;
	t->origin_mask = UINT16_MAX;
	if (t->origins) {
		t->origin_mask = (1 << INSTANCE_SHIFT) - 1;
		t->table.key_mask = (uint16_t)~t->origin_mask;
	}
	t->undo = t->table.undo = c->undo;
	t->synflood = (struct synflood){ .memory = &t->synflood_memory, .undo = c->undo };
	t->sink = sink;
	t->count = counters;
	tracker_configure(t, c);
}

struct tracker *tracker_new(const struct tracker_config *c, void *memory, struct event_sink *sink,
			    struct tracker_counters *counters)
{
	struct tracker *t = memory;

	t->cfg.secret = c->secret;
	table_init(&t->table, (uint8_t *)memory + table_offset(), c->max_connections + TABLE_SPARE,
		   c->max_half_open + TABLE_SPARE);
	tracker_view(t, c, sink, counters);
	t->newest[SHAPE_SYN] = t->newest[SHAPE_FULL] = TABLE_NONE;
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
	    !table_adopt(&t->table, (uint8_t *)memory + table_offset(),
			 c->max_connections + TABLE_SPARE, c->max_half_open + TABLE_SPARE) ||
	    t->losses > LOSS_WINDOWS || t->synflood_memory.n > SYNFLOODS)
		return NULL;
	tracker_view(t, c, sink, counters);
	memset(t->close_slot, 0, sizeof t->close_slot); /* after a close segments may come again */
	return t;
}

void tracker_begin(struct tracker *t)
{
	undo_edit(t->undo, &t->now_ns,
		  offsetof(struct tracker, layout) - offsetof(struct tracker, now_ns));
	table_pools_edit(&t->table);
}

void tracker_configure(struct tracker *t, const struct tracker_config *c)
{
	uint32_t full = table_max(&t->table, SHAPE_FULL) - TABLE_SPARE;
	uint32_t syn = table_max(&t->table, SHAPE_SYN) - TABLE_SPARE;
	struct hash_key secret = t->cfg.secret;

	t->cfg = *c;
	t->cfg.secret = secret;
	t->cfg.decoders = c->decoders ? c->decoders : 1;
	t->cfg.anomalies_per_connection = MIN(c->anomalies_per_connection, ANOMALIES_REPORTED_MAX);
	emit_configure(t);
	t->limit[SHAPE_FULL] = MIN(c->max_connections, full);
	t->limit[SHAPE_SYN] = MIN(c->max_half_open, syn);
	synflood_configure(&t->synflood,
			   &(struct synflood_config){ .half_open = c->flood_half_open,
						      .rate = c->flood_rate,
						      .interval_ns = c->flood_interval_ns,
						      .decoders = t->cfg.decoders,
						      .max_syn_entries = syn });
}

void tracker_free(struct tracker *t)
{
	if (t)
		bypass_free(t->bypass);
}
