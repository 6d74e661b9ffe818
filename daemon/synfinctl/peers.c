#include "synfinctl/peers.h"
#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

int peers_init(struct peers *p)
{
	*p = (struct peers){ .rows = calloc(PEERS_MAX, sizeof *p->rows),
			     .slots = calloc(PEERS_SLOTS, sizeof *p->slots) };
	/* Names come from a capture: without a random key they could be chosen to collide. */
	if (getrandom(&p->key, sizeof p->key, 0) < 0)
		p->key.k[0] = (uint64_t)(uintptr_t)p->rows;
	if (p->rows && p->slots)
		return 0;
	peers_done(p);
	return -ENOMEM;
}

void peers_done(struct peers *p)
{
	free(p->rows);
	free(p->slots);
	*p = (struct peers){ 0 };
}

uint64_t peer_retrans(const struct peer *p)
{
	return p->retrans[SIDE_CLIENT] + p->retrans[SIDE_SERVER];
}

uint64_t peer_score(const struct peer *p)
{
	return p->failed + p->retries + peer_retrans(p);
}

/* Largest first; then by retries, connections and name, so that the order is always the same. */
static int compare(const struct peer *a, const struct peer *b, uint64_t x, uint64_t y)
{
	if (x != y)
		return x < y ? 1 : -1;
	if (a->retries != b->retries)
		return a->retries < b->retries ? 1 : -1;
	if (a->connections != b->connections)
		return a->connections < b->connections ? 1 : -1;
	return memcmp(a->name, b->name, PEER_NAME);
}

int peers_by_failures(const void *a, const void *b)
{
	const struct peer *x = a, *y = b;

	return compare(x, y, x->failed, y->failed);
}

int peers_by_retrans(const void *a, const void *b)
{
	const struct peer *x = a, *y = b;

	return compare(x, y, peer_retrans(x), peer_retrans(y));
}

static int by_score(const void *a, const void *b)
{
	const struct peer *x = a, *y = b;

	return compare(x, y, peer_score(x), peer_score(y));
}

static uint16_t *slot_of(struct peers *p, const char name[static PEER_NAME])
{
	uint64_t words[PEER_NAME / 8];
	unsigned i;

	memcpy(words, name, PEER_NAME);
	i = (unsigned)hash_quick(&p->key, words, PEER_NAME / 8);
	for (;; i++) {
		uint16_t *slot = &p->slots[i % PEERS_SLOTS];

		if (!*slot || !memcmp(p->rows[*slot - 1].name, name, PEER_NAME))
			return slot;
	}
}

static void peer_add(struct peer *sum, const struct peer *p)
{
	sum->connections += p->connections;
	sum->failed += p->failed;
	sum->unanswered_yet += p->unanswered_yet;
	sum->retries += p->retries;
	for (unsigned i = 0; i < PEER_REASONS; i++)
		sum->by_reason[i] += p->by_reason[i];
	for (unsigned side = 0; side < SIDES; side++) {
		sum->fin_by[side] += p->fin_by[side];
		sum->rst_by[side] += p->rst_by[side];
		sum->frames[side] += p->frames[side];
		sum->retrans[side] += p->retrans[side];
	}
}

static void peers_prune(struct peers *p)
{
	qsort(p->rows, p->n, sizeof *p->rows, by_score);
	p->n = PEERS_MAX / 2;
	p->missing += peer_score(&p->rows[p->n]); /* the largest one that goes */
	p->pruned = true;
	for (unsigned i = p->n; i < PEERS_MAX; i++)
		peer_add(&p->other, &p->rows[i]);
	memset(p->slots, 0, PEERS_SLOTS * sizeof *p->slots);
	for (unsigned i = 0; i < p->n; i++)
		*slot_of(p, p->rows[i].name) = (uint16_t)(i + 1);
}

struct peer *peers_at(struct peers *p, const char *name)
{
	char key[PEER_NAME] = "";
	uint16_t *slot;

	memcpy(key, name, strnlen(name, PEER_NAME - 1));
	slot = slot_of(p, key);
	if (*slot)
		return &p->rows[*slot - 1];
	if (p->n == PEERS_MAX) {
		peers_prune(p);
		slot = slot_of(p, key);
	}
	p->rows[p->n] = (struct peer){ 0 };
	memcpy(p->rows[p->n].name, key, PEER_NAME);
	*slot = (uint16_t)++p->n;
	return &p->rows[p->n - 1];
}

void peers_sort(struct peers *p, int (*larger_first)(const void *a, const void *b))
{
	qsort(p->rows, p->n, sizeof *p->rows, larger_first);
}
