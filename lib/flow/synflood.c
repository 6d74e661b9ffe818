#include "flow/synflood.h"
#include <string.h>
#include "flow/work.h"
#include "wire/segment.h"

static const uint64_t second_ns = 1000000000;
static const uint64_t window_least_ns = 500000000;  /* in less time no handshake need be complete */
static const uint64_t window_most_ns = 10000000000; /* longer ones are taken for that */

/* The one of @s, or NULL. */
static struct synflood *find(struct tracker *t, const struct synflood_server *s)
{
	for (unsigned i = t->servers[s->hash].watch; i; i = t->floods.slot[i - 1].next) {
		struct synflood *d = &t->floods.slot[i - 1];

		if (d->server.ip_v == s->ip_v && !memcmp(d->server.w, s->w, sizeof s->w))
			return d;
	}
	return NULL;
}

/* The one of @f's server, or NULL. */
static struct synflood *find_of(struct tracker *t, const struct flow *f)
{
	struct synflood_server s = synflood_server_of(&f->key, f->c->client_end);

	return find(t, &s);
}

/* One more of @as; @deferred more are deferred. */
static void count(struct tracker *t, struct synflood *d, enum synflood_count as, int deferred)
{
	undo_save(t->undo, &d->deferred, sizeof d->deferred);
	undo_save(t->undo, &d->count[as], sizeof d->count[as]);
	d->deferred += (uint32_t)deferred;
	d->count[as]++;
}

void synflood_configure(struct tracker *t)
{
	uint32_t most = t->cfg.flood_half_open, decoders = t->cfg.decoders ? t->cfg.decoders : 1;
	uint32_t from = (SYNFLOOD_DEFER_FROM + decoders - 1) / decoders;

	t->cfg.decoders = (uint16_t)decoders;
	t->synflood_danger = table_max(&t->table, SHAPE_SYN) / SYNFLOOD_PART;
	t->synflood_limit = most < t->synflood_danger ? most : t->synflood_danger;
	t->synflood_from = from < t->synflood_limit ? from : t->synflood_limit;
	if (!most)
		t->synflood_from = UINT32_MAX;
}

/* ---- one series ----------------------------------------------------------------------------- */

static uint32_t fit32(uint64_t n)
{
	return n < UINT32_MAX ? (uint32_t)n : UINT32_MAX;
}

static void emit(struct tracker *t, struct synflood *d, enum synflood_phase phase)
{
	struct event *e = event_begin(t);
	uint64_t took = t->now_ns > d->line_ns ? t->now_ns - d->line_ns : 0;
	uint64_t attempts = d->count[SYNFLOOD_ATTEMPTS] - d->line_attempts;

	if (e) {
		const uint64_t *w = d->server.w;
		uint64_t rest = w[3] << 32 | w[2] << 16;
		struct flow_key k = { .ip_v = d->server.ip_v };

		/* The server is end 0: of an IPv4 key that is the upper half. */
		k.w[0] = k.ip_v == 4 ? w[0] << 32 : w[0];
		k.w[1] = k.ip_v == 4 ? rest : w[1];
		k.w[4] = rest;
		emit_flood(e, phase, &k, (uint16_t)w[3], t->now_ns, d->since_ns);
		memcpy(e->flood.count, d->count, sizeof e->flood.count);
		e->flood.half_open = d->deferred;
		e->flood.new_attempts = fit32(attempts);
		e->flood.rate = took ? fit32((uint64_t)((double)attempts * 1e9 / (double)took)) : 0;
		e->flood.shares = t->cfg.decoders;
		event_end(t);
	}
	d->line_ns = t->now_ns;
	d->line_attempts = d->count[SYNFLOOD_ATTEMPTS];
}

static void window_begin(const struct tracker *t, struct synflood *d)
{
	d->window_ns = t->now_ns;
	d->window_attempts = d->count[SYNFLOOD_ATTEMPTS];
	d->window_completed = d->count[SYNFLOOD_COMPLETED];
}

/* Counts begin anew, with what is deferred. */
static void counts_begin(const struct tracker *t, struct synflood *d)
{
	memset(d->count, 0, sizeof d->count);
	d->count[SYNFLOOD_ATTEMPTS] = d->deferred;
	d->since_ns = t->now_ns;
	d->line_ns = t->now_ns;
	d->line_attempts = 0;
	window_begin(t, d);
}

static void series_begin(struct tracker *t, struct synflood *d)
{
	d->reported = true;
	d->calm_ns = UINT64_MAX;
	emit(t, d, SYNFLOOD_BEGIN);
	counter_add(&t->count->floods, 1);
}

static void series_end(struct tracker *t, struct synflood *d)
{
	emit(t, d, SYNFLOOD_END);
	counter_add(&t->count->floods, (uint64_t)-1);
	d->reported = false;
	d->ended_ns = t->now_ns;
	counts_begin(t, d);
}

/* Of the attempts of the present second too many did not go on. */
static bool window_bad(const struct tracker *t, const struct synflood *d)
{
	uint64_t took = t->now_ns - d->window_ns;
	uint64_t came = d->count[SYNFLOOD_ATTEMPTS] - d->window_attempts;
	uint64_t went_on = d->count[SYNFLOOD_COMPLETED] - d->window_completed;
	uint64_t stayed = came > went_on ? came - went_on : 0;

	took = took < window_most_ns ? took : window_most_ns;
	return stayed && stayed * 4 >= came && stayed * second_ns >= t->cfg.flood_rate * took;
}

static void series_go_on(struct tracker *t, struct synflood *d, bool bad)
{
	bool calm = !bad && d->deferred <= t->synflood_limit / 2;

	if (!calm)
		d->calm_ns = UINT64_MAX;
	else if (d->calm_ns == UINT64_MAX)
		d->calm_ns = d->window_ns;
	if (!t->cfg.flood_half_open || (calm && t->now_ns - d->calm_ns >= SYNFLOOD_CALM_NS))
		series_end(t, d);
	else if (t->now_ns - d->line_ns >= t->cfg.flood_interval_ns)
		emit(t, d, SYNFLOOD_UPDATE);
}

/* The present second, which is over. */
static void judge(struct tracker *t, struct synflood *d)
{
	bool bad = window_bad(t, d);

	if (d->reported)
		series_go_on(t, d, bad);
	else if (bad && t->cfg.flood_half_open && d->deferred > t->synflood_limit)
		series_begin(t, d);
	else
		counts_begin(t, d);
	window_begin(t, d);
}

/* Somebody set the clock back. */
static void mind_the_clock(const struct tracker *t, struct synflood *d)
{
	uint64_t *times[] = { &d->since_ns, &d->window_ns, &d->line_ns, &d->ended_ns };

	for (unsigned i = 0; i < sizeof times / sizeof *times; i++)
		if (*times[i] > t->now_ns)
			*times[i] = t->now_ns;
	if (d->calm_ns != UINT64_MAX && d->calm_ns > t->now_ns)
		d->calm_ns = t->now_ns;
}

static bool idle(const struct tracker *t, const struct synflood *d)
{
	return !d->reported && !d->deferred && t->servers[d->server.hash].syn <= t->synflood_from;
}

/* What names slot @i is to name @other, from 1. */
static void relink(struct tracker *t, unsigned i, uint8_t other)
{
	uint8_t *link = &t->servers[t->floods.slot[i].server.hash].watch;

	while (*link != i + 1)
		link = &t->floods.slot[*link - 1].next;
	undo_save(t->undo, link, sizeof *link);
	*link = other;
}

/* Slot @i, which is saved, is of no server any more; the last one takes its place. */
static void forget(struct tracker *t, unsigned i)
{
	unsigned last = --t->floods.n;

	relink(t, i, t->floods.slot[i].next);
	if (i == last)
		return;
	relink(t, last, (uint8_t)(i + 1));
	t->floods.slot[i] = t->floods.slot[last];
}

void synflood_tick(struct tracker *t)
{
	for (unsigned i = t->floods.n; i--;) {
		struct synflood *d = &t->floods.slot[i];

		undo_save(t->undo, d, sizeof *d);
		mind_the_clock(t, d);
		if (t->now_ns - d->window_ns >= window_least_ns)
			judge(t, d);
		if (idle(t, d))
			forget(t, i);
	}
}

void synflood_end_all(struct tracker *t)
{
	for (unsigned i = 0; i < t->floods.n; i++) {
		struct synflood *d = &t->floods.slot[i];

		if (!d->reported)
			continue;
		undo_save(t->undo, d, sizeof *d);
		series_end(t, d);
	}
	while (t->floods.n)
		forget(t, t->floods.n - 1);
}

/* ---- one attempt ---------------------------------------------------------------------------- */

void synflood_watch(struct tracker *t, const struct synflood_server *s)
{
	if (find(t, s))
		return;
	if (t->floods.n == SYNFLOODS) {
		counter_add(&t->count->unwatched, 1);
		return;
	}
	struct synflood *d = &t->floods.slot[t->floods.n++];
	uint8_t *link = &t->servers[s->hash].watch;

	undo_save(t->undo, d, sizeof *d);
	undo_save(t->undo, link, sizeof *link);
	*d = (struct synflood){ .server = *s, .next = *link };
	*link = (uint8_t)t->floods.n;
	counts_begin(t, d);
}

bool synflood_defers(struct tracker *t, const struct synflood_server *s)
{
	struct synflood *d = t->servers[s->hash].syn > t->synflood_from ? find(t, s) : NULL;

	if (!d)
		return false;
	count(t, d, SYNFLOOD_ATTEMPTS, 1);
	counter_add(&t->count->deferred, 1);
	if (unlikely(!d->reported &&
		     d->count[SYNFLOOD_ATTEMPTS] - d->window_attempts > t->synflood_danger)) {
		undo_save(t->undo, d, sizeof *d);
		judge(t, d);
	}
	return true;
}

bool synflood_defer(struct tracker *t, struct flow *f)
{
	struct synflood_server s = synflood_server_of(&f->key, f->c->client_end);
	struct syn_entry syn;

	if (f->c->state != FSM_SYN || !syn_entry_pack(f->c, &syn) || !synflood_defers(t, &s))
		return false;
	f->c->offer.deferred = 1;
	f->c->offer.mss_client = f->c->offer.mss;
	return true;
}

bool synflood_late(struct tracker *t, const struct flow *f)
{
	struct synflood *d = find_of(t, f);

	if (!d || !d->reported)
		return false;
	count(t, d, SYNFLOOD_LATE, 0);
	return true;
}

/* Tells the SYN-ACK of @f as it was then. */
static void emit_answer(struct tracker *t, const struct flow *f)
{
	struct event *e = event_begin(t);
	uint64_t after = dur40_ns(f->c->since[SIDE_B]);

	if (!e)
		return;
	emit_common(
		e, EVENT_TCP_STATE, &f->key, f->c, FSM_SYN,
		(struct trigger){ .ts_ns = f->c->start_ns + after, .segment = SEGMENT_SYN_ACK });
	e->prev_state_ns[SIDE_B] = after;
	event_end(t);
}

void synflood_release(struct tracker *t, struct flow *f, enum synflood_count as)
{
	struct synflood *d = find_of(t, f);
	enum fsm_state at = f->c->state;

	f->c->offer.deferred = 0;
	f->c->state = FSM_SYN;
	flow_emit_deferred(t, f, f->c->offer.mss_client, 0);
	f->c->state = at & 31;
	if (at == FSM_ANSWERED)
		emit_answer(t, f);
	count(t, d, as, -1);
}

/* Is an attempt of @start_ns one of a flood that was told, or is told now? */
static bool in_flood(const struct synflood *d, uint64_t start_ns)
{
	return d->reported || start_ns < d->ended_ns;
}

bool synflood_swallows(struct tracker *t, const struct synflood_server *s, uint64_t start_ns,
		       enum synflood_count how)
{
	struct synflood *d = find(t, s);

	if (!in_flood(d, start_ns))
		return false;
	counter_add(&t->count->suppressed, 1);
	if (how != SYNFLOOD_COUNTS) /* else still half-open when all ended */
		count(t, d, how, -1);
	return true;
}

bool synflood_ends(struct tracker *t, struct flow *f, enum synflood_count how)
{
	struct synflood_server s = synflood_server_of(&f->key, f->c->client_end);

	if (synflood_swallows(t, &s, f->c->start_ns, how))
		return true;
	synflood_release(t, f, SYNFLOOD_REPORTED);
	return false;
}

enum synflood_count synflood_count_of(enum close_reason reason)
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

bool synflood_keeps(struct tracker *t, struct flow *f, enum fsm_state to, const struct segment *s)
{
	if (to == FSM_ANSWERED && s->flags & TCP_SYN) {
		count(t, find_of(t, f), SYNFLOOD_ANSWERED, 0);
		return true;
	}
	if (fsm_over(to))
		return synflood_ends(t, f, SYNFLOOD_REFUSED);
	synflood_release(t, f, SYNFLOOD_COMPLETED);
	return false;
}

bool synflood_overdue(const struct tracker *t, table_ref r)
{
	return entry_deferred(t, r) &&
	       table_syn(&t->table, r)->start_ns + SYNFLOOD_DEFER_NS <= t->now_ns;
}

void synflood_let_go(struct tracker *t, struct flow *f)
{
	if (in_flood(find_of(t, f), f->c->start_ns))
		return;
	synflood_release(t, f, SYNFLOOD_REPORTED);
	flow_store(t, f);
}
