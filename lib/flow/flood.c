#include "flow/flood.h"
#include <string.h>
#include "flow/work.h"
#include "wire/segment.h"

static const uint64_t second_ns = 1000000000;
static const uint64_t window_least_ns = 500000000;  /* in less time no handshake need be complete */
static const uint64_t window_most_ns = 10000000000; /* longer ones are taken for that */

/* The one of @s, or NULL. */
static struct flood *find(struct tracker *t, const struct flood_server *s)
{
	for (unsigned i = t->servers[s->hash].watch; i; i = t->floods.slot[i - 1].next) {
		struct flood *d = &t->floods.slot[i - 1];

		if (d->server.ip_v == s->ip_v && !memcmp(d->server.w, s->w, sizeof s->w))
			return d;
	}
	return NULL;
}

/* The one of @f's server, or NULL. */
static struct flood *find_of(struct tracker *t, const struct flow *f)
{
	struct flood_server s = flood_server_of(&f->key, f->c->client_end);

	return find(t, &s);
}

/* One more of @as; @held more are held. */
static void count(struct tracker *t, struct flood *d, enum flood_count as, int held)
{
	undo_save(t->undo, &d->held, sizeof d->held);
	undo_save(t->undo, &d->count[as], sizeof d->count[as]);
	d->held += (uint32_t)held;
	d->count[as]++;
}

void flood_configure(struct tracker *t)
{
	uint32_t most = t->cfg.flood_half_open, decoders = t->cfg.decoders ? t->cfg.decoders : 1;
	uint32_t from = (FLOOD_HOLD_FROM + decoders - 1) / decoders;

	t->cfg.decoders = (uint16_t)decoders;
	t->flood_danger = table_max(&t->table, SHAPE_SYN) / FLOOD_PART;
	t->flood_limit = most < t->flood_danger ? most : t->flood_danger;
	t->flood_from = from < t->flood_limit ? from : t->flood_limit;
	if (!most)
		t->flood_from = UINT32_MAX;
}

/* ---- one series ----------------------------------------------------------------------------- */

static uint32_t fit32(uint64_t n)
{
	return n < UINT32_MAX ? (uint32_t)n : UINT32_MAX;
}

static void tell(struct tracker *t, struct flood *d, enum flood_phase phase)
{
	struct event *e = event_begin(t);
	uint64_t took = t->now_ns > d->line_ns ? t->now_ns - d->line_ns : 0;
	uint64_t attempts = d->count[FLOOD_ATTEMPTS] - d->line_attempts;

	if (e) {
		const uint64_t *w = d->server.w;
		uint64_t rest = w[3] << 32 | w[2] << 16;
		struct flow_key k = { .ip_v = d->server.ip_v };

		/* The server is end 0: of an IPv4 key that is the upper half. */
		k.w[0] = k.ip_v == 4 ? w[0] << 32 : w[0];
		k.w[1] = k.ip_v == 4 ? rest : w[1];
		k.w[4] = rest;
		tell_flood(e, phase, &k, (uint16_t)w[3], t->now_ns, d->since_ns);
		memcpy(e->flood.count, d->count, sizeof e->flood.count);
		e->flood.half_open = d->held;
		e->flood.new_attempts = fit32(attempts);
		e->flood.rate = took ? fit32((uint64_t)((double)attempts * 1e9 / (double)took)) : 0;
		e->flood.shares = t->cfg.decoders;
		event_end(t);
	}
	d->line_ns = t->now_ns;
	d->line_attempts = d->count[FLOOD_ATTEMPTS];
}

static void window_begin(const struct tracker *t, struct flood *d)
{
	d->window_ns = t->now_ns;
	d->window_attempts = d->count[FLOOD_ATTEMPTS];
	d->window_completed = d->count[FLOOD_COMPLETED];
}

/* Counts begin anew, with what is held. */
static void counts_begin(const struct tracker *t, struct flood *d)
{
	memset(d->count, 0, sizeof d->count);
	d->count[FLOOD_ATTEMPTS] = d->held;
	d->since_ns = t->now_ns;
	d->line_ns = t->now_ns;
	d->line_attempts = 0;
	window_begin(t, d);
}

static void series_begin(struct tracker *t, struct flood *d)
{
	d->told = true;
	d->calm_ns = UINT64_MAX;
	tell(t, d, FLOOD_BEGIN);
	counter_add(&t->count->floods, 1);
}

static void series_end(struct tracker *t, struct flood *d)
{
	tell(t, d, FLOOD_END);
	counter_add(&t->count->floods, (uint64_t)-1);
	d->told = false;
	d->ended_ns = t->now_ns;
	counts_begin(t, d);
}

/* Of the attempts of the present second too many did not go on. */
static bool window_bad(const struct tracker *t, const struct flood *d)
{
	uint64_t took = t->now_ns - d->window_ns;
	uint64_t came = d->count[FLOOD_ATTEMPTS] - d->window_attempts;
	uint64_t went_on = d->count[FLOOD_COMPLETED] - d->window_completed;
	uint64_t stayed = came > went_on ? came - went_on : 0;

	took = took < window_most_ns ? took : window_most_ns;
	return stayed && stayed * 4 >= came && stayed * second_ns >= t->cfg.flood_rate * took;
}

static void series_go_on(struct tracker *t, struct flood *d, bool bad)
{
	bool calm = !bad && d->held <= t->flood_limit / 2;

	if (!calm)
		d->calm_ns = UINT64_MAX;
	else if (d->calm_ns == UINT64_MAX)
		d->calm_ns = d->window_ns;
	if (!t->cfg.flood_half_open || (calm && t->now_ns - d->calm_ns >= FLOOD_CALM_NS))
		series_end(t, d);
	else if (t->now_ns - d->line_ns >= t->cfg.flood_interval_ns)
		tell(t, d, FLOOD_UPDATE);
}

/* The present second, which is over. */
static void judge(struct tracker *t, struct flood *d)
{
	bool bad = window_bad(t, d);

	if (d->told)
		series_go_on(t, d, bad);
	else if (bad && t->cfg.flood_half_open && d->held > t->flood_limit)
		series_begin(t, d);
	else
		counts_begin(t, d);
	window_begin(t, d);
}

/* Somebody set the clock back. */
static void mind_the_clock(const struct tracker *t, struct flood *d)
{
	uint64_t *times[] = { &d->since_ns, &d->window_ns, &d->line_ns, &d->ended_ns };

	for (unsigned i = 0; i < sizeof times / sizeof *times; i++)
		if (*times[i] > t->now_ns)
			*times[i] = t->now_ns;
	if (d->calm_ns != UINT64_MAX && d->calm_ns > t->now_ns)
		d->calm_ns = t->now_ns;
}

static bool idle(const struct tracker *t, const struct flood *d)
{
	return !d->told && !d->held && t->servers[d->server.hash].syn <= t->flood_from;
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

void flood_tick(struct tracker *t)
{
	for (unsigned i = t->floods.n; i--;) {
		struct flood *d = &t->floods.slot[i];

		undo_save(t->undo, d, sizeof *d);
		mind_the_clock(t, d);
		if (t->now_ns - d->window_ns >= window_least_ns)
			judge(t, d);
		if (idle(t, d))
			forget(t, i);
	}
}

void flood_end_all(struct tracker *t)
{
	for (unsigned i = 0; i < t->floods.n; i++) {
		struct flood *d = &t->floods.slot[i];

		if (!d->told)
			continue;
		undo_save(t->undo, d, sizeof *d);
		series_end(t, d);
	}
	while (t->floods.n)
		forget(t, t->floods.n - 1);
}

/* ---- one attempt ---------------------------------------------------------------------------- */

void flood_watch(struct tracker *t, const struct flood_server *s)
{
	if (find(t, s))
		return;
	if (t->floods.n == FLOODS) {
		counter_add(&t->count->unwatched, 1);
		return;
	}
	struct flood *d = &t->floods.slot[t->floods.n++];
	uint8_t *link = &t->servers[s->hash].watch;

	undo_save(t->undo, d, sizeof *d);
	undo_save(t->undo, link, sizeof *link);
	*d = (struct flood){ .server = *s, .next = *link };
	*link = (uint8_t)t->floods.n;
	counts_begin(t, d);
}

bool flood_holds(struct tracker *t, const struct flood_server *s)
{
	struct flood *d = t->servers[s->hash].syn > t->flood_from ? find(t, s) : NULL;

	if (!d)
		return false;
	count(t, d, FLOOD_ATTEMPTS, 1);
	counter_add(&t->count->held, 1);
	if (unlikely(!d->told && d->count[FLOOD_ATTEMPTS] - d->window_attempts > t->flood_danger)) {
		undo_save(t->undo, d, sizeof *d);
		judge(t, d);
	}
	return true;
}

bool flood_hold(struct tracker *t, struct flow *f)
{
	struct flood_server s = flood_server_of(&f->key, f->c->client_end);
	struct syn_entry syn;

	if (f->c->state != FSM_SYN || !syn_entry_pack(f->c, &syn) || !flood_holds(t, &s))
		return false;
	f->c->offer.held = 1;
	f->c->offer.mss_client = f->c->offer.mss;
	return true;
}

bool flood_late(struct tracker *t, const struct flow *f)
{
	struct flood *d = find_of(t, f);

	if (!d || !d->told)
		return false;
	count(t, d, FLOOD_LATE, 0);
	return true;
}

/* Tells the SYN-ACK of @f as it was then. */
static void tell_answer(struct tracker *t, const struct flow *f)
{
	struct event *e = event_begin(t);
	uint64_t after = dur40_ns(f->c->since[SIDE_B]);

	if (!e)
		return;
	tell_common(e, EVENT_TCP_STATE, &f->key, f->c, FSM_SYN,
		    (struct cause){ .ts_ns = f->c->start_ns + after, .segment = SEGMENT_SYN_ACK });
	e->prev_state_ns[SIDE_B] = after;
	event_end(t);
}

void flood_release(struct tracker *t, struct flow *f, enum flood_count as)
{
	struct flood *d = find_of(t, f);
	enum fsm_state at = f->c->state;

	f->c->offer.held = 0;
	f->c->state = FSM_SYN;
	flow_tell_late(t, f, f->c->offer.mss_client, 0);
	f->c->state = at & 31;
	if (at == FSM_ANSWERED)
		tell_answer(t, f);
	count(t, d, as, -1);
}

/* Is an attempt of @start_ns one of a flood that was told, or is told now? */
static bool in_flood(const struct flood *d, uint64_t start_ns)
{
	return d->told || start_ns < d->ended_ns;
}

bool flood_swallows(struct tracker *t, const struct flood_server *s, uint64_t start_ns,
		    enum flood_count how)
{
	struct flood *d = find(t, s);

	if (!in_flood(d, start_ns))
		return false;
	counter_add(&t->count->untold, 1);
	if (how != FLOOD_COUNTS) /* else still half-open when all ended */
		count(t, d, how, -1);
	return true;
}

bool flood_ends(struct tracker *t, struct flow *f, enum flood_count how)
{
	struct flood_server s = flood_server_of(&f->key, f->c->client_end);

	if (flood_swallows(t, &s, f->c->start_ns, how))
		return true;
	flood_release(t, f, FLOOD_TOLD);
	return false;
}

enum flood_count flood_count_of(enum close_reason reason)
{
	switch (reason) {
	case REASON_REUSE:
		return FLOOD_REPLACED;
	case REASON_EVICTED:
		return FLOOD_EVICTED;
	case REASON_CAPTURE_END:
	case REASON_SHUTDOWN:
		return FLOOD_COUNTS;
	default: /* silence */
		return FLOOD_EXPIRED;
	}
}

bool flood_keeps(struct tracker *t, struct flow *f, enum fsm_state to, const struct segment *s)
{
	if (to == FSM_ANSWERED && s->flags & TCP_SYN) {
		count(t, find_of(t, f), FLOOD_ANSWERED, 0);
		return true;
	}
	if (fsm_over(to))
		return flood_ends(t, f, FLOOD_REFUSED);
	flood_release(t, f, FLOOD_COMPLETED);
	return false;
}

bool flood_overdue(const struct tracker *t, table_ref r)
{
	return flow_held_at(t, r) && table_syn(&t->table, r)->start_ns + FLOOD_HOLD_NS <= t->now_ns;
}

void flood_let_go(struct tracker *t, struct flow *f)
{
	if (in_flood(find_of(t, f), f->c->start_ns))
		return;
	flood_release(t, f, FLOOD_TOLD);
	flow_store(t, f);
}
