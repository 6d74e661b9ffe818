#include "flow/synflood.h"
#include <string.h>
#include <sys/param.h>
#include "base/cc.h"
#include "base/undo.h"

static const uint64_t second_ns = 1000000000;
static const uint64_t window_least_ns = 500000000;  /* too short for a handshake to complete */
static const uint64_t window_most_ns = 10000000000; /* a longer one counts as this */

/* ---- what is remembered, and saved before it is written -------------------------------------- */

static unsigned *n_edit(struct synflood *d)
{
	return undo_edit(d->undo, &d->memory->n, sizeof d->memory->n);
}

static struct synflood_server *server_edit(struct synflood *d, const struct synflood_server *s)
{
	return undo_edit(d->undo, s, sizeof *s);
}

/* The number of the slot of @s, from 1, or 0: where a list of its hash names it. */
static uint8_t *link_edit(struct synflood *d, const uint8_t *link)
{
	return undo_edit(d->undo, link, sizeof *link);
}

static uint64_t *count_edit(struct synflood *d, const struct synflood_server *s,
			    enum synflood_count as)
{
	return undo_edit(d->undo, &s->count[as], sizeof s->count[as]);
}

/* The slot of @s, or NULL. */
static const struct synflood_server *server_find(const struct synflood *d,
						 const struct flow_server *s)
{
	const struct synflood_memory *m = d->memory;

	for (unsigned i = m->first[s->hash]; i; i = m->slot[i - 1].next) {
		const struct flow_server *w = &m->slot[i - 1].server;

		if (w->ip_v == s->ip_v && !memcmp(w->w, s->w, sizeof s->w))
			return &m->slot[i - 1];
	}
	return NULL;
}

/* What names slot @i is to name @other, from 1. */
static void relink(struct synflood *d, unsigned i, uint8_t other)
{
	const struct synflood_memory *m = d->memory;
	const uint8_t *link = &m->first[m->slot[i].server.hash];

	while (*link != i + 1)
		link = &m->slot[*link - 1].next;
	*link_edit(d, link) = other;
}

/* Slot @i becomes free; the last one takes its place. */
static void unwatch(struct synflood *d, unsigned i)
{
	const struct synflood_memory *m = d->memory;
	unsigned last = --*n_edit(d);

	relink(d, i, m->slot[i].next);
	if (i == last)
		return;
	relink(d, last, (uint8_t)(i + 1));
	*server_edit(d, &m->slot[i]) = m->slot[last];
}

void synflood_configure(struct synflood *d, const struct synflood_config *c)
{
	uint32_t from = (SYNFLOOD_DEFER_FROM + c->decoders - 1u) / c->decoders;

	d->cfg = *c;
	d->danger = c->max_syn_entries / SYNFLOOD_PART;
	d->limit = c->half_open < d->danger ? c->half_open : d->danger;
	d->from = from < d->limit ? from : d->limit;
	if (!c->half_open)
		d->from = UINT32_MAX;
}

/* ---- one series ------------------------------------------------------------------------------ */

static void report(struct synflood_server *s, enum synflood_phase phase, uint64_t now_ns,
		   struct synflood_report *ret)
{
	uint64_t took = now_ns > s->line_ns ? now_ns - s->line_ns : 0;
	uint64_t attempts = s->count[SYNFLOOD_ATTEMPTS] - s->line_attempts;
	double rate = took ? (double)attempts * 1e9 / (double)took : 0;

	*ret = (struct synflood_report){ .phase = phase,
					 .server = s->server,
					 .started_ns = s->since_ns,
					 .half_open = s->deferred,
					 .new_attempts = (uint32_t)MIN(attempts, UINT32_MAX),
					 .rate = (uint32_t)MIN(rate, UINT32_MAX) };
	memcpy(ret->count, s->count, sizeof ret->count);
	s->line_ns = now_ns;
	s->line_attempts = s->count[SYNFLOOD_ATTEMPTS];
}

static void window_begin(struct synflood_server *s, uint64_t now_ns)
{
	s->window_ns = now_ns;
	s->window_attempts = s->count[SYNFLOOD_ATTEMPTS];
	s->window_completed = s->count[SYNFLOOD_COMPLETED];
}

/* Counting starts again, with what is deferred. */
static void counts_begin(struct synflood_server *s, uint64_t now_ns)
{
	memset(s->count, 0, sizeof s->count);
	s->count[SYNFLOOD_ATTEMPTS] = s->deferred;
	s->since_ns = now_ns;
	s->line_ns = now_ns;
	s->line_attempts = 0;
	window_begin(s, now_ns);
}

static void series_begin(struct synflood_server *s, uint64_t now_ns, struct synflood_report *ret)
{
	s->reported = true;
	s->calm_ns = UINT64_MAX;
	report(s, SYNFLOOD_BEGIN, now_ns, ret);
}

static void series_end(struct synflood_server *s, uint64_t now_ns, struct synflood_report *ret)
{
	report(s, SYNFLOOD_END, now_ns, ret);
	s->reported = false;
	s->ended_ns = now_ns;
	counts_begin(s, now_ns);
}

/* Of the attempts of the present second too many did not complete. */
static bool window_bad(const struct synflood *d, const struct synflood_server *s, uint64_t now_ns)
{
	uint64_t took = now_ns - s->window_ns;
	uint64_t came = s->count[SYNFLOOD_ATTEMPTS] - s->window_attempts;
	uint64_t completed = s->count[SYNFLOOD_COMPLETED] - s->window_completed;
	uint64_t stayed = came > completed ? came - completed : 0;

	took = took < window_most_ns ? took : window_most_ns;
	return stayed && stayed * 4 >= came && stayed * second_ns >= d->cfg.rate * took;
}

static void series_update(const struct synflood *d, struct synflood_server *s, bool bad,
			  uint64_t now_ns, struct synflood_report *ret)
{
	bool calm = !bad && s->deferred <= d->limit / 2;

	if (!calm)
		s->calm_ns = UINT64_MAX;
	else if (s->calm_ns == UINT64_MAX)
		s->calm_ns = s->window_ns;
	if (!d->cfg.half_open || (calm && now_ns - s->calm_ns >= SYNFLOOD_CALM_NS))
		series_end(s, now_ns, ret);
	else if (now_ns - s->line_ns >= d->cfg.interval_ns)
		report(s, SYNFLOOD_UPDATE, now_ns, ret);
}

/* The present second, which is over. */
static void window_judge(const struct synflood *d, struct synflood_server *s, uint64_t now_ns,
			 struct synflood_report *ret)
{
	bool bad = window_bad(d, s, now_ns);

	if (s->reported)
		series_update(d, s, bad, now_ns, ret);
	else if (bad && d->cfg.half_open && s->deferred > d->limit)
		series_begin(s, now_ns, ret);
	else
		counts_begin(s, now_ns);
	window_begin(s, now_ns);
}

/* The clock may have been set back. */
static void clamp_times(struct synflood_server *s, uint64_t now_ns)
{
	uint64_t *times[] = { &s->since_ns, &s->window_ns, &s->line_ns, &s->ended_ns };

	for (unsigned i = 0; i < ARRAY_SIZE(times); i++)
		if (*times[i] > now_ns)
			*times[i] = now_ns;
	if (s->calm_ns != UINT64_MAX && s->calm_ns > now_ns)
		s->calm_ns = now_ns;
}

bool synflood_tick(struct synflood *d, unsigned *at, const uint32_t *waiting, uint64_t now_ns,
		   struct synflood_report *ret)
{
	if (!*at)
		return false;
	struct synflood_server *s = server_edit(d, &d->memory->slot[--*at]);

	ret->phase = SYNFLOOD_PHASES;
	clamp_times(s, now_ns);
	if (now_ns - s->window_ns >= window_least_ns)
		window_judge(d, s, now_ns, ret);
	if (!s->reported && !s->deferred && waiting[s->server.hash] <= d->from)
		unwatch(d, *at);
	return true;
}

bool synflood_end(struct synflood *d, unsigned *at, uint64_t now_ns, struct synflood_report *ret)
{
	const struct synflood_memory *m = d->memory;

	while (*at < m->n && !m->slot[*at].reported)
		++*at;
	if (*at < m->n) {
		series_end(server_edit(d, &m->slot[*at]), now_ns, ret);
		return true;
	}
	while (m->n)
		unwatch(d, m->n - 1);
	return false;
}

/* ---- one attempt ----------------------------------------------------------------------------- */

bool synflood_watch(struct synflood *d, const struct flow_server *s, uint64_t now_ns)
{
	const struct synflood_memory *m = d->memory;

	if (server_find(d, s))
		return true;
	if (m->n == SYNFLOODS)
		return false;
	struct synflood_server *to = server_edit(d, &m->slot[(*n_edit(d))++]);
	uint8_t *first = link_edit(d, &m->first[s->hash]);

	*to = (struct synflood_server){ .server = *s, .next = *first };
	*first = (uint8_t)m->n;
	counts_begin(to, now_ns);
	return true;
}

/* One more of @as; @deferred more are deferred. */
static void server_count(struct synflood *d, const struct synflood_server *s,
			 enum synflood_count as, int deferred)
{
	uint32_t *n = undo_edit(d->undo, &s->deferred, sizeof *n);

	*n += (uint32_t)deferred;
	++*count_edit(d, s, as);
}

bool synflood_defers(struct synflood *d, const struct flow_server *s, uint32_t waiting,
		     uint64_t now_ns, struct synflood_report *ret)
{
	const struct synflood_server *w = waiting > d->from ? server_find(d, s) : NULL;

	ret->phase = SYNFLOOD_PHASES;
	if (!w)
		return false;
	server_count(d, w, SYNFLOOD_ATTEMPTS, 1);
	if (unlikely(!w->reported && w->count[SYNFLOOD_ATTEMPTS] - w->window_attempts > d->danger))
		window_judge(d, server_edit(d, w), now_ns, ret);
	return true;
}

bool synflood_is_late(struct synflood *d, const struct flow_server *s)
{
	const struct synflood_server *w = server_find(d, s);

	if (!w || !w->reported)
		return false;
	++*count_edit(d, w, SYNFLOOD_LATE);
	return true;
}

void synflood_answered(struct synflood *d, const struct flow_server *s)
{
	++*count_edit(d, server_find(d, s), SYNFLOOD_ANSWERED);
}

bool synflood_has(const struct synflood *d, const struct flow_server *s, uint64_t start_ns)
{
	const struct synflood_server *w = server_find(d, s);

	return w->reported || start_ns < w->ended_ns;
}

void synflood_undefer(struct synflood *d, const struct flow_server *s, enum synflood_count as)
{
	server_count(d, server_find(d, s), as, -1);
}
