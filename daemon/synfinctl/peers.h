/* peers.h - counts per server or per client, for a bounded number of them.
 *
 * When the table is full, the half with the lowest scores is added up in @other.  A peer that comes
 * back after that begins anew: what its row misses is at most @missing of its score. */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include "base/hash.h"

enum { PEERS_MAX = 10000, PEERS_SLOTS = 1 << 15, PEER_NAME = 48, PEER_REASONS = 16 };

/* The two sides of a connection. */
enum { SIDE_CLIENT, SIDE_SERVER, SIDES };

struct peer {
	char name[PEER_NAME]; /* filled with NULs; "[2001:db8::5]:443", or without a port */
	uint64_t connections, failed;
	uint64_t unanswered_yet;	  /* of them: without an answer when the capture ended */
	uint64_t by_reason[PEER_REASONS]; /* by describe_nth_reason() */
	uint64_t fin_by[SIDES], rst_by[SIDES];
	uint64_t retries; /* tcp_retry: a SYN or a SYN-ACK without an answer in time */
	/* Segments, by the side that sent them. */
	uint64_t frames[SIDES], retrans[SIDES];
};

struct peers {
	struct hash_key key;
	unsigned n;
	bool pruned;
	uint64_t missing;
	struct peer other; /* the sum of the peers that have no row any more */
	struct peer *rows; /* owned */
	uint16_t *slots;   /* owned; row + 1 */
};

/* 0; -ENOMEM.  Free it with peers_done(). */
int peers_init(struct peers *p);

/* The row of @name, which is cut to PEER_NAME; borrowed until the next call. */
struct peer *peers_at(struct peers *p, const char *name);

/* Failures, retries, and segments sent again. */
uint64_t peer_score(const struct peer *p);

/* Segments sent again, by both sides. */
uint64_t peer_retrans(const struct peer *p);

/* Sorts the rows; peers_at() may not be called any more. */
void peers_sort(struct peers *p, int (*larger_first)(const void *a, const void *b));

/* Orders for peers_sort(): the most failures, then retries; the most segments sent again. */
int peers_by_failures(const void *a, const void *b);
int peers_by_retrans(const void *a, const void *b);

/* Frees it; a zeroed one is fine. */
void peers_done(struct peers *p);
