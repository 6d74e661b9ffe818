#include "flow/bypass.h"
#include <stdlib.h>
#include <string.h>
#include "base/cc.h"
#include "bpf/bypass.h"
#include "flow/conn.h"
#include "flow/endpoints.h"
#include "flow/segment_check.h"
#include "wire/seq.h"
#include "wire/tcpopt.h"

enum { PATIENCE = 4096, PLACES = 2 * BYPASS_SLOTS, NONE = UINT32_MAX };

struct watch {
	uint64_t hash;
	struct flow_key key;
	struct bypass_key keys[2];
	struct bypass_count taken[2]; /* counts that the connection has already */
	uint64_t reported_ns;	      /* newest time that bypass_refresh() reported */
	uint32_t next;		      /* of the free ones */
	bool used;
	bool caught_up;	 /* since the slot was frozen */
	uint32_t waited; /* segments since it was armed: too many, and no marker will come */
};

struct bypass {
	struct bypass_kernel *kernel;
	const struct endpoints *except; /* borrowed; NULL: none */
	bool paused;
	uint32_t free, high; /* first free watch; those above high were never used */
	uint32_t at[PLACES]; /* open addressing by hash: number of the watch, + 1; 0: empty */
	struct watch watch[BYPASS_SLOTS];
};

struct bypass *bypass_new(struct bypass_kernel *kernel)
{
	struct bypass *b = calloc(1, sizeof *b);

	if (b) {
		b->kernel = kernel;
		b->free = NONE;
	}
	return b;
}

void bypass_free(struct bypass *b)
{
	for (uint32_t i = 0; b && i < b->high; i++)
		if (b->watch[i].used)
			b->kernel->forget(b->kernel, b->watch[i].keys);
	free(b);
}

/* ---- which connections ---- */

static uint32_t home_of(uint64_t hash)
{
	return (uint32_t)(hash >> 32) & (PLACES - 1);
}

/* The place of @hash, or the empty one where it would be. */
static uint32_t place_of(const struct bypass *b, uint64_t hash)
{
	uint32_t i = home_of(hash);

	while (b->at[i] && b->watch[b->at[i] - 1].hash != hash)
		i = (i + 1) & (PLACES - 1);
	return i;
}

static struct watch *find(struct bypass *b, uint64_t hash)
{
	uint32_t at = b->at[place_of(b, hash)];

	return at ? &b->watch[at - 1] : NULL;
}

/* Takes @hash out; what was pushed on by it moves up. */
static void unplace(struct bypass *b, uint64_t hash)
{
	uint32_t gap = place_of(b, hash);

	for (uint32_t i = (gap + 1) & (PLACES - 1); b->at[i]; i = (i + 1) & (PLACES - 1)) {
		uint32_t home = home_of(b->watch[b->at[i] - 1].hash);

		if (((i - home) & (PLACES - 1)) >= ((i - gap) & (PLACES - 1))) {
			b->at[gap] = b->at[i];
			gap = i;
		}
	}
	b->at[gap] = 0;
}

static struct bypass_slot *slot_of(const struct bypass *b, const struct watch *w)
{
	return &b->kernel->slots[w - b->watch];
}

static uint32_t phase_of(const struct bypass_slot *s)
{
	return __atomic_load_n(&s->phase, __ATOMIC_ACQUIRE);
}

static void forget(struct bypass *b, struct watch *w)
{
	b->kernel->forget(b->kernel, w->keys);
	unplace(b, w->hash);
	__atomic_store_n(&slot_of(b, w)->phase, BYPASS_OFF, __ATOMIC_RELEASE);
	w->used = false;
	w->next = b->free;
	b->free = (uint32_t)(w - b->watch);
}

static struct watch *take_free(struct bypass *b)
{
	if (b->free != NONE) {
		struct watch *w = &b->watch[b->free];

		b->free = w->next;
		return w;
	}
	return b->high < BYPASS_SLOTS ? &b->watch[b->high++] : NULL;
}

/* ---- watching ---- */

/* Segments of a kind that the side has not sent yet are not plain: they are of some interest. */
static uint8_t may_of(const struct conn *c, enum fsm_side side)
{
	bool ack = c->complete & COMPLETE_ACK && conn_history_has(&c->cold, side, HISTORY_ACK);
	bool data = c->complete & COMPLETE_DATA && conn_history_has(&c->cold, side, HISTORY_DATA);

	return (ack ? BYPASS_MAY_ACK : 0) | (data ? BYPASS_MAY_DATA : 0);
}

static void arm(struct bypass_slot *s, const struct conn *c)
{
	for (unsigned side = 0; side < SIDES; side++) {
		s->next[side] = s->base_next[side] = c->next[side];
		s->acked[side] = s->base_acked[side] = c->acked[side];
		s->window[side] = conn_window(&c->hot, side);
		s->shift[side] = segment_shift(c, side);
		s->seen[side] = 0;
		s->may[side] = may_of(c, side);
	}
	s->streak = 0;
	s->marked = s->unpredicted = 0;
	__atomic_store_n(&s->phase, BYPASS_ARMED, __ATOMIC_RELEASE);
}

static void make_keys(const struct flow_key *key, unsigned client_end, struct bypass_key ret[2])
{
	memset(ret, 0, 2 * sizeof *ret);
	for (unsigned d = 0; d < SIDES; d++) {
		unsigned sender = d ^ client_end;
		uint16_t port;

		flow_key_end(key, sender, ret[d].src, &port);
		ret[d].sport = __builtin_bswap16(port);
		flow_key_end(key, !sender, ret[d].dst, &port);
		ret[d].dport = __builtin_bswap16(port);
		ret[d].ip_v = key->ip_v;
	}
}

static void watch_new(struct bypass *b, const struct conn *c, const struct flow_key *key,
		      uint64_t hash)
{
	struct watch *w = take_free(b);

	if (!w)
		return;
	*w = (struct watch){ .hash = hash, .key = *key, .used = true };
	make_keys(key, c->client_end, w->keys);
	b->at[place_of(b, hash)] = (uint32_t)(w - b->watch) + 1;

	struct bypass_slot *s = slot_of(b, w);

	memset(s, 0, sizeof *s);
	arm(s, c);
	if (b->kernel->watch(b->kernel, w->keys, (uint32_t)(w - b->watch)) < 0)
		forget(b, w);
}

static bool change_phase(struct bypass_slot *s, uint32_t from, uint32_t to)
{
	return __atomic_compare_exchange_n(&s->phase, &from, to, false, __ATOMIC_ACQ_REL,
					   __ATOMIC_ACQUIRE);
}

/* Nothing is in the way of bypassing, as far as @c has been fed. */
static void go_round(struct bypass_slot *s, struct watch *w, const struct conn *c)
{
	uint32_t phase = phase_of(s);

	switch (phase) {
	case BYPASS_ARMED:
		if (s->marked && !s->unpredicted && seq_le(s->marker, c->next[s->marker_dir & 1])) {
			change_phase(s, BYPASS_ARMED, BYPASS_READY);
			return;
		}
		/* fall through */
	case BYPASS_READY:
		if (!s->unpredicted && ++w->waited < PATIENCE)
			return;
		if (!change_phase(s, phase, BYPASS_OFF))
			return;
		break;
	case BYPASS_FROZEN:
		if (!w->caught_up)
			return;
		break;
	default:
		return;
	}
	w->waited = 0;
	w->caught_up = false;
	arm(s, c);
}

/* ---- watching no more ---- */

static bool is_excepted(const struct bypass *b, const struct flow_key *key)
{
	return b->paused || (b->except && endpoints_of_key(b->except, key));
}

/* From now on its segments pass.  What the filter has counted is added when the next one comes, or
 * when the connection ends; until then the watch goes on. */
static void leave(struct bypass *b, struct watch *w)
{
	struct bypass_slot *s = slot_of(b, w);

	change_phase(s, BYPASS_ARMED, BYPASS_OFF);
	change_phase(s, BYPASS_READY, BYPASS_OFF);
	change_phase(s, BYPASS_BYPASSED, BYPASS_FROZEN); /* the filter may have been faster */
	if (phase_of(s) != BYPASS_FROZEN || w->caught_up)
		forget(b, w);
}

static void leave_excepted(struct bypass *b)
{
	for (uint32_t i = 0; i < b->high; i++)
		if (b->watch[i].used && is_excepted(b, &b->watch[i].key))
			leave(b, &b->watch[i]);
}

void bypass_except(struct bypass *b, const struct endpoints *e)
{
	b->except = e;
	leave_excepted(b);
}

void bypass_pause(struct bypass *b, bool paused)
{
	b->paused = paused;
	leave_excepted(b);
}

bool bypass_next(const struct bypass *b, uint32_t *at, struct flow_key *ret_key, uint64_t *ret_hash)
{
	while (*at < b->high) {
		const struct watch *w = &b->watch[(*at)++];

		if (!w->used)
			continue;
		*ret_key = w->key;
		*ret_hash = w->hash;
		return true;
	}
	return false;
}

void bypass_renew(struct bypass *b, struct bypass_kernel *kernel)
{
	memset(b->at, 0, sizeof b->at);
	b->kernel = kernel;
	b->free = NONE;
	b->high = 0;
}

/* ---- each segment ---- */

void bypass_consider(struct bypass *b, const struct conn *c, const struct flow_key *key,
		     uint64_t hash)
{
	struct watch *w;

	if (unlikely(b->paused || b->except) && is_excepted(b, key)) {
		w = find(b, hash);
		if (w)
			leave(b, w);
		return;
	}
	if (conn_counts(c, SIDE_A).pkts < b->kernel->after_pkts &&
	    conn_counts(c, SIDE_B).pkts < b->kernel->after_pkts)
		return;
	if (c->state != FSM_OPEN || (c->sent & c->heard) != 3 || c->gaps || c->suspect ||
	    c->rivalled || key->self)
		return;
	w = find(b, hash);
	if (w)
		go_round(slot_of(b, w), w, c);
	else
		watch_new(b, c, key, hash);
}

/* ---- catching up ---- */

/* The time of the newest one; the filter reads another clock than the ring. */
static void touch(struct conn *c, uint64_t wall_ns)
{
	if (wall_ns > c->last_ns)
		c->last_ns = wall_ns;
}

/* @c, then at @next, had not been fed all that passed before the filter bypassed anything: the
 * capture lost it. */
static void note_gap(struct conn *c, unsigned side, uint32_t next, uint32_t base)
{
	if (!seq_lt(next, base))
		return;
	conn_add_gap(c, base - next);
	c->gaps |= 1u << side & 3;
}

/* Adds to @c what the filter counted of @w since the last time; returns the number of segments.
 * The filter may be counting just now: it adds in the reverse order, so no part exceeds its
 * whole. */
static uint64_t add_counts(const struct bypass *b, const struct watch *w, struct conn *c,
			   struct bypass_count ret_taken[static SIDES])
{
	const struct bypass_slot *s = slot_of(b, w);
	uint64_t pkts = 0;

	for (unsigned side = 0; side < SIDES; side++) {
		const struct bypass_count *now = &s->count[side];
		struct bypass_count *n = &ret_taken[side];

		n->payload = __atomic_load_n(&now->payload, __ATOMIC_ACQUIRE);
		n->wire = __atomic_load_n(&now->wire, __ATOMIC_ACQUIRE);
		n->pkts = __atomic_load_n(&now->pkts, __ATOMIC_ACQUIRE);
		n->last_ns = __atomic_load_n(&now->last_ns, __ATOMIC_ACQUIRE);
		pkts += n->pkts - w->taken[side].pkts;
	}
	if (!pkts)
		return 0;
	for (unsigned side = 0; side < SIDES; side++) {
		const struct bypass_count *n = &ret_taken[side], *was = &w->taken[side];
		uint64_t payload = n->payload - was->payload;

		c->next[side] = s->next[side];
		c->acked[side] = s->acked[side];
		conn_set_window(&c->hot, side, (uint16_t)s->window[side]);
		if (n->last_ns)
			touch(c, n->last_ns + (uint64_t)b->kernel->wall_minus_mono);
		conn_count(c, side, n->pkts - was->pkts, n->wire - was->wire - payload, payload);
	}
	return pkts;
}

static uint64_t take(struct bypass *b, struct watch *w, struct conn *c)
{
	const struct bypass_slot *s = slot_of(b, w);
	const uint32_t next[SIDES] = { c->next[SIDE_A], c->next[SIDE_B] };
	struct bypass_count taken[SIDES];
	uint64_t pkts = add_counts(b, w, c, taken);

	w->caught_up = true;
	for (unsigned side = 0; side < SIDES && pkts; side++) {
		note_gap(c, side, next[side], s->base_next[side]);
		w->taken[side] = taken[side];
	}
	return pkts;
}

/* Is @s behind all that passed before the filter bypassed anything?  Frames that were in the ring
 * by then come first. */
static bool is_behind(const struct bypass_slot *s, const struct conn *c, enum fsm_side from,
		      const struct segment *g)
{
	bool there = true;

	for (unsigned side = 0; side < SIDES; side++)
		there &= c->next[side] == s->base_next[side] &&
			 c->acked[side] == s->base_acked[side];
	return there || seq_lt(s->base_next[from], segment_end(g)) ||
	       (g->flags & TCP_ACK && seq_lt(s->base_acked[!from], g->ack));
}

uint64_t bypass_catch_up(struct bypass *b, struct conn *c, uint64_t hash, enum fsm_side from,
			 const struct segment *g)
{
	struct watch *w = find(b, hash);
	uint64_t pkts = 0;

	if (!w)
		return 0;
	struct bypass_slot *s = slot_of(b, w);

	if (!w->caught_up && phase_of(s) == BYPASS_FROZEN && is_behind(s, c, from, g))
		pkts = take(b, w, c);
	/* Mostly it is about to end.  If not, it is watched again. */
	if (segment_is_control(g))
		pkts += bypass_settle(b, c, hash, true);
	return pkts;
}

uint64_t bypass_settle(struct bypass *b, struct conn *c, uint64_t hash, bool gone)
{
	struct watch *w = find(b, hash);
	uint64_t pkts = 0;

	if (!w)
		return 0;
	struct bypass_slot *s = slot_of(b, w);

	change_phase(s, BYPASS_BYPASSED, BYPASS_FROZEN);
	if (!w->caught_up && c->state == FSM_OPEN && phase_of(s) == BYPASS_FROZEN)
		pkts = take(b, w, c);
	if (gone)
		forget(b, w);
	return pkts;
}

void bypass_peek(const struct bypass *b, struct conn *c, uint64_t hash)
{
	uint32_t at = b->at[place_of(b, hash)];
	const struct watch *w = at ? &b->watch[at - 1] : NULL;
	struct bypass_count ignored[SIDES];

	if (w && !w->caught_up && c->state == FSM_OPEN &&
	    phase_of(slot_of(b, w)) >= BYPASS_BYPASSED)
		add_counts(b, w, c, ignored);
}

void bypass_refresh(struct bypass *b,
		    void (*emit)(void *arg, const struct flow_key *key, uint64_t hash,
				 uint64_t last_ns),
		    void *arg)
{
	for (uint32_t i = 0; i < b->high; i++) {
		struct watch *w = &b->watch[i];
		const struct bypass_slot *s = slot_of(b, w);

		if (!w->used)
			continue;
		uint64_t a = s->count[SIDE_A].last_ns, z = s->count[SIDE_B].last_ns;
		uint64_t last = a > z ? a : z;

		if (last > w->reported_ns)
			emit(arg, &w->key, w->hash, last + (uint64_t)b->kernel->wall_minus_mono);
		w->reported_ns = last;
	}
}
