/* encap_id.h - a small number for each tunnel.  The same 4-tuple in two tunnels is two connections,
 * and a key has space for one small number.
 *
 * Numbers below ENCAP_ID_FIRST are interfaces.  Each new (interface, type, id) gets the next number
 * from there on, and keeps it.  When all are used, further tunnels get none.
 *
 * One thread assigns numbers, any thread looks them up. */
#pragma once
#include <stddef.h>
#include <stdint.h>
#include "base/hash.h"
#include "wire/tunnel.h"

struct encap_ids;

enum { ENCAP_ID_FIRST = 256, ENCAP_ID_LAST = 65535 };

/* Octets of the region that encap_id_init() wants. */
size_t encap_id_memory(void);

/* An empty set in @memory, zeroed and borrowed.  Memory that is not touched costs nothing. */
struct encap_ids *encap_id_init(void *memory, const struct hash_key *secret);

/* Continues with the set in @memory, wherever the last process stopped; NULL: it is invalid. */
struct encap_ids *encap_id_adopt(void *memory);

/* The number of @tunnel on interface @iface, which is below ENCAP_ID_FIRST; for TUNNEL_NONE it is
 * @iface.  -ENOSPC: none is left.  O(1). */
int encap_id_of(struct encap_ids *t, uint16_t iface, const struct tunnel *tunnel);

/* The interface of @number; *ret_tunnel is its tunnel, or TUNNEL_NONE.  Any number is allowed.
 * Wait-free; for any thread that got @number from the assigning one. */
uint16_t encap_id_look_up(const struct encap_ids *t, uint16_t number, struct tunnel *ret_tunnel);
