/* encap_id.h - numbers for tunnels: the same 4-tuple in two of them is two connections, and a key
 * has room for one small number.
 *
 * Numbers below ENCAP_ID_FIRST are interfaces; each (interface, type, id) that is met gets the next
 * one from there on, for good.  When all are given away, further tunnels get none.
 *
 * One thread gives numbers, any thread looks them up. */
#pragma once
#include <stddef.h>
#include <stdint.h>
#include "base/hash.h"
#include "wire/tunnel.h"

struct encap_ids;

enum { ENCAP_ID_FIRST = 256, ENCAP_ID_LAST = 65535 };

/* Octets of the region that encap_id_init() wants. */
size_t encap_id_memory(void);

/* An empty one in @memory, zeroed and borrowed.  Untouched memory of it costs nothing. */
struct encap_ids *encap_id_init(void *memory, const struct hash_key *secret);

/* Goes on with the one in @memory, wherever the process that used it ended; NULL: it is none. */
struct encap_ids *encap_id_adopt(void *memory);

/* The number of @tunnel as seen on @iface, below ENCAP_ID_FIRST; of TUNNEL_NONE it is @iface
 * itself. -ENOSPC: none is left.  O(1). */
int encap_id_of(struct encap_ids *t, uint16_t iface, const struct tunnel *tunnel);

/* What @number stands for: its interface; *ret_tunnel is TUNNEL_NONE without a tunnel.  Any number
 * will do.  Wait-free; any thread that got @number from the one which gave it. */
uint16_t encap_id_look_up(const struct encap_ids *t, uint16_t number, struct tunnel *ret_tunnel);
