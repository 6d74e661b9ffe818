/* origin.h - a small number for where segments were seen: an interface, or a tunnel on it.  The
 * same 4-tuple at two origins is two connections, and a key has space for one small number.
 *
 * Numbers below ORIGIN_FIRST are the source's own interfaces: those of a capture file, or 0, the
 * one interface of a ring.  The others are given to what comes: interfaces of a shared ring,
 * tunnels, and pairs of origins.  All are used once before one is used again; see
 * origins_release().
 *
 * One thread gives numbers, any thread looks them up.  The memory may outlive the process: changes
 * are saved in the undo log. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/hash.h"
#include "wire/tunnel.h"

struct undo;

enum {
	ORIGIN_FIRST = 256,
	ORIGINS = 65536,
	ORIGINS_DEDUPED = 1 << 14, /* the limit with dedupe.h */
	ORIGIN_NAME = 16,	   /* IFNAMSIZ */
};

struct origins {
	struct origin_memory *memory; /* borrowed */
	struct undo *undo;	      /* NULL: the memory ends with the process */
	uint32_t limit;		      /* numbers stay below; ORIGINS unless the caller lowers it */
};

/* Octets of the region that origins_init() wants. */
size_t origins_memory(void);

/* An empty set in @memory, zeroed and borrowed.  Memory that is not touched costs nothing. */
void origins_init(struct origins *o, void *memory, const struct hash_key *secret,
		  struct undo *undo);

/* Continues with the set in @memory, which is rolled back; false: it is invalid. */
bool origins_adopt(struct origins *o, void *memory, struct undo *undo);

/* ---- giving numbers, O(1).  -ENOSPC: none is left ------------------------------------------- */

/* The number of interface @ifindex of a shared ring; 0: it is not known. */
uint16_t origin_of_link(const struct origins *o, uint32_t ifindex);

/* An interface of a shared ring. */
struct origin_link {
	uint32_t ifindex;
	uint32_t slot; /* the caller's */
	bool watched;  /* its frames are wanted */
	char name[ORIGIN_NAME];
};

/* Makes it known, or changes it; it is in the present list. */
int origin_add_link(struct origins *o, const struct origin_link *l);

/* A list of all interfaces begins. */
void origins_begin_list(struct origins *o);

/* The number of @tunnel on @iface, the number of an interface; for TUNNEL_NONE it is @iface. */
int origin_of_tunnel(struct origins *o, uint16_t iface, const struct tunnel *tunnel);

/* The number of a connection whose client's segments are those of origin @client, and its server's
 * those of @server; if both are the same it is that. */
int origin_of_pair(struct origins *o, uint16_t client, uint16_t server);

/* ---- giving them back ----------------------------------------------------------------------- */

/* Interface @ifindex is gone: it is unknown from now on, and what is on it is gone as well.  A pair
 * whose server's origin is gone has the client's instead.  O(numbers). */
void origin_remove_link(struct origins *o, uint32_t ifindex);

/* The same for each interface that was not added since the list began. */
void origins_end_list(struct origins *o);

/* Is this origin gone?  Any number is allowed. */
bool origin_is_gone(const struct origins *o, uint16_t number);

/* No connection has the origins any more that are gone: they can be used again after the next call,
 * so the events that have them must be taken until then.  O(numbers). */
void origins_release(struct origins *o);

/* ---- looking up, wait-free; for any thread that got @number from the assigning one ----------- */

struct origin_view {
	uint16_t iface;	      /* the source's interface, if below ORIGIN_FIRST */
	const char *name;     /* of an interface of a shared ring; else NULL; lent */
	struct tunnel tunnel; /* or TUNNEL_NONE */
};

/* Any number is allowed. */
struct origin_view origin_look_up(const struct origins *o, uint16_t number);

/* Whose segments of the client, and of the server, a connection with this number has. */
uint16_t origin_of_client(const struct origins *o, uint16_t number);
uint16_t origin_of_server(const struct origins *o, uint16_t number);

/* Are segments of origin @from those that a connection with @number has of this direction? */
bool origin_owns_pair(const struct origins *o, uint16_t number, bool server, uint16_t from);

static inline bool origin_owns(const struct origins *o, uint16_t number, bool server, uint16_t from)
{
	return number == from || origin_owns_pair(o, number, server, from);
}

/* The interface of a shared ring, or what the tunnel or pair is on; NULL: @number has none. */
const struct origin_link *origin_link_of(const struct origins *o, uint16_t number);
