#include "flow/origin.h"
#include <errno.h>
#include <string.h>
#include "base/cc.h"
#include "base/undo.h"

enum { CHAINS = 1 << 16 };

enum origin_kind {
	ORIGIN_FREE, /* never used, or to be used again */
	ORIGIN_LINK,
	ORIGIN_TUNNEL,
	ORIGIN_PAIR,
};

enum origin_phase {
	PHASE_IN_USE,
	PHASE_GONE,    /* nothing finds it, but connections have it */
	PHASE_RESTING, /* released: only events may have it */
};

struct origin {
	uint8_t kind, phase; /* enum origin_kind, enum origin_phase */
	uint16_t next;	     /* in its chain, or in the list of the free ones; 0: the end */
	uint16_t of;	     /* tunnel: its interface; pair: the client's origin */
	uint16_t server;
	struct tunnel tunnel;
	struct origin_link link;
	uint32_t list; /* in which the link was seen last */
};

struct origin_memory {
	struct hash_key secret;
	uint32_t fresh; /* numbers from here on were never used */
	uint32_t list;	/* the present one */
	uint32_t pairs; /* that are in use: the others need not be searched */
	uint16_t free_first, free_last;
	uint16_t chain[CHAINS]; /* the first number; 0: empty */
	struct origin origin[ORIGINS - ORIGIN_FIRST];
};

size_t origins_memory(void)
{
	return sizeof(struct origin_memory);
}

void origins_init(struct origins *o, void *memory, const struct hash_key *secret, struct undo *undo)
{
	*o = (struct origins){ memory, undo, ORIGINS };
	o->memory->secret = *secret;
	o->memory->fresh = ORIGIN_FIRST;
}

bool origins_adopt(struct origins *o, void *memory, struct undo *undo)
{
	*o = (struct origins){ memory, undo, ORIGINS };
	return o->memory->fresh >= ORIGIN_FIRST && o->memory->fresh <= ORIGINS;
}

/* ---- numbers -------------------------------------------------------------------------------- */

/* NULL: it is the source's own, or was never given. */
static const struct origin *origin_at(const struct origins *o, uint16_t number)
{
	return number < ORIGIN_FIRST ? NULL : &o->memory->origin[number - ORIGIN_FIRST];
}

static struct origin *origin_edit(struct origins *o, uint16_t number)
{
	struct origin *at = &o->memory->origin[number - ORIGIN_FIRST];

	return undo_edit(o->undo, at, sizeof *at);
}

static uint16_t *chain_of(const struct origins *o, const struct origin *what)
{
	struct origin_memory *m = o->memory;
	const uint64_t words[] = {
		(uint64_t)what->kind << 48 | (uint64_t)what->of << 16 | what->server,
		(uint64_t)what->tunnel.id << 32 | what->link.ifindex,
		(uint64_t)what->tunnel.type << 1 | what->tunnel.has_id,
	};

	return &m->chain[hash_words(&m->secret, words, ARRAY_SIZE(words)) % CHAINS];
}

static bool is_same(const struct origin *a, const struct origin *b)
{
	return a->kind == b->kind && a->of == b->of && a->server == b->server &&
	       a->link.ifindex == b->link.ifindex && a->tunnel.type == b->tunnel.type &&
	       a->tunnel.has_id == b->tunnel.has_id && a->tunnel.id == b->tunnel.id;
}

static uint16_t origin_find(const struct origins *o, const struct origin *what)
{
	uint16_t n = *chain_of(o, what);

	while (n && !is_same(origin_at(o, n), what))
		n = origin_at(o, n)->next;
	return n;
}

/* All but the chains and the origins. */
static struct origin_memory *heads_edit(struct origins *o)
{
	struct origin_memory *m = o->memory;

	undo_edit(o->undo, &m->fresh,
		  offsetof(struct origin_memory, chain) - offsetof(struct origin_memory, fresh));
	return m;
}

/* A number that was never used, or else the one that is free for longest; 0: none. */
static uint16_t take_number(struct origins *o)
{
	struct origin_memory *m = heads_edit(o);
	uint16_t n = m->free_first;

	if (m->fresh < o->limit)
		return (uint16_t)m->fresh++;
	if (n)
		m->free_first = origin_at(o, n)->next;
	return n;
}

static int origin_add(struct origins *o, const struct origin *what)
{
	uint16_t *chain = chain_of(o, what), n = take_number(o);
	struct origin *at;

	if (!n)
		return -ENOSPC;
	at = origin_edit(o, n);
	*at = *what;
	at->next = *chain;
	*(uint16_t *)undo_edit(o->undo, chain, sizeof *chain) = n;
	o->memory->pairs += what->kind == ORIGIN_PAIR;
	return n;
}

static int find_or_add(struct origins *o, const struct origin *what)
{
	uint16_t n = origin_find(o, what);

	return n ? n : origin_add(o, what);
}

uint16_t origin_of_link(const struct origins *o, uint32_t ifindex)
{
	return origin_find(o, &(struct origin){ .kind = ORIGIN_LINK, .link.ifindex = ifindex });
}

int origin_add_link(struct origins *o, const struct origin_link *l)
{
	int n = find_or_add(o, &(struct origin){ .kind = ORIGIN_LINK, .link.ifindex = l->ifindex });

	if (n >= 0) {
		struct origin *at = origin_edit(o, (uint16_t)n);

		at->link = *l;
		at->list = o->memory->list;
	}
	return n;
}

void origins_begin_list(struct origins *o)
{
	heads_edit(o)->list++;
}

int origin_of_tunnel(struct origins *o, uint16_t iface, const struct tunnel *tunnel)
{
	if (tunnel->type == TUNNEL_NONE)
		return iface;
	return find_or_add(
		o, &(struct origin){ .kind = ORIGIN_TUNNEL, .of = iface, .tunnel = *tunnel });
}

int origin_of_pair(struct origins *o, uint16_t client, uint16_t server)
{
	if (client == server)
		return client;
	return find_or_add(o,
			   &(struct origin){ .kind = ORIGIN_PAIR, .of = client, .server = server });
}

/* ---- giving them back ----------------------------------------------------------------------- */

/* Nothing finds it any more. */
static void origin_unlink(struct origins *o, uint16_t number)
{
	uint16_t *link = chain_of(o, origin_at(o, number));

	while (*link && *link != number)
		link = &o->memory->origin[*link - ORIGIN_FIRST].next;
	if (*link)
		*(uint16_t *)undo_edit(o->undo, link, sizeof *link) = origin_at(o, number)->next;
}

static void set_gone(struct origins *o, uint16_t number)
{
	origin_unlink(o, number);
	origin_edit(o, number)->phase = PHASE_GONE;
}

void origin_remove_link(struct origins *o, uint32_t ifindex)
{
	uint16_t link = origin_of_link(o, ifindex);

	if (!link)
		return;
	set_gone(o, link);
	/* In this order: tunnels, then pairs, which may be of tunnels. */
	for (unsigned kind = ORIGIN_TUNNEL; kind <= ORIGIN_PAIR; kind++) {
		if (kind == ORIGIN_PAIR && !o->memory->pairs)
			break;
		for (uint32_t i = ORIGIN_FIRST; i < o->memory->fresh; i++) {
			uint16_t n = (uint16_t)i;
			const struct origin *at = origin_at(o, n);

			if (at->kind != kind || at->phase != PHASE_IN_USE)
				continue;
			if (origin_is_gone(o, at->of)) {
				set_gone(o, n);
			} else if (kind == ORIGIN_PAIR && origin_is_gone(o, at->server)) {
				origin_unlink(o, n); /* its connections go on without it */
				origin_edit(o, n)->server = at->of;
			}
		}
	}
}

void origins_end_list(struct origins *o)
{
	for (uint32_t n = ORIGIN_FIRST; n < o->memory->fresh; n++) {
		const struct origin *at = origin_at(o, (uint16_t)n);

		if (at->kind == ORIGIN_LINK && at->phase == PHASE_IN_USE &&
		    at->list != o->memory->list)
			origin_remove_link(o, at->link.ifindex);
	}
}

bool origin_is_gone(const struct origins *o, uint16_t number)
{
	const struct origin *at = origin_at(o, number);

	return at && at->phase == PHASE_GONE;
}

/* The last one in the list of those that are free. */
static void set_free(struct origins *o, uint16_t number)
{
	struct origin_memory *m = o->memory;
	struct origin *at = origin_edit(o, number);

	m->pairs -= at->kind == ORIGIN_PAIR;
	*at = (struct origin){ .kind = ORIGIN_FREE };
	if (m->free_first)
		origin_edit(o, m->free_last)->next = number;
	else
		m->free_first = number;
	m->free_last = number;
}

void origins_release(struct origins *o)
{
	struct origin_memory *m = heads_edit(o);

	for (uint32_t i = ORIGIN_FIRST; i < m->fresh; i++) {
		uint16_t n = (uint16_t)i;

		if (origin_at(o, n)->phase == PHASE_RESTING)
			set_free(o, n);
		else if (origin_at(o, n)->phase == PHASE_GONE)
			origin_edit(o, n)->phase = PHASE_RESTING;
	}
}

/* ---- looking up ----------------------------------------------------------------------------- */

uint16_t origin_of_client(const struct origins *o, uint16_t number)
{
	const struct origin *at = origin_at(o, number);

	return at && at->kind == ORIGIN_PAIR ? at->of : number;
}

uint16_t origin_of_server(const struct origins *o, uint16_t number)
{
	const struct origin *at = origin_at(o, number);

	return at && at->kind == ORIGIN_PAIR ? at->server : number;
}

struct origin_view origin_look_up(const struct origins *o, uint16_t number)
{
	struct origin_view v = { .iface = origin_of_client(o, number) };
	const struct origin *at = origin_at(o, v.iface);

	if (at && at->kind == ORIGIN_TUNNEL) {
		v.tunnel = at->tunnel;
		v.iface = at->of;
		at = origin_at(o, v.iface);
	}
	if (at && *at->link.name)
		v.name = at->link.name;
	return v;
}

bool origin_owns_pair(const struct origins *o, uint16_t number, bool server, uint16_t from)
{
	const struct origin *at = origin_at(o, number);

	return at && at->kind == ORIGIN_PAIR && from == (server ? at->server : at->of);
}

const struct origin_link *origin_link_of(const struct origins *o, uint16_t number)
{
	const struct origin *at = origin_at(o, origin_look_up(o, number).iface);

	return at ? &at->link : NULL;
}
