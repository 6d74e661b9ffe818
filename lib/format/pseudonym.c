#include "format/pseudonym.h"
#include <endian.h>
#include <string.h>
#include "base/hash.h"
#include "flow/event.h"

enum {
	LEVELS = 6, /* a binary tree of 63 nodes, one bit of the hash each */
};

struct pseudonym_key pseudonym_key_of(const uint8_t octets[static PSEUDONYM_KEY_OCTETS])
{
	uint64_t w[4];

	memcpy(w, octets, sizeof w);
	return (struct pseudonym_key){ { le64toh(w[0]), le64toh(w[1]) },
				       { le64toh(w[2]), le64toh(w[3]) } };
}

/* Which of the LEVELS bits after the first @depth bits of @a to flip.  Hash inputs have one word
 * for IPv4 and three for IPv6, so they never coincide. */
static uint64_t flips_of(const struct pseudonym_key *k, unsigned ip_v, unsigned __int128 a,
			 unsigned depth)
{
	unsigned __int128 prefix = depth ? a >> (128 - depth) << (128 - depth) : 0;
	uint64_t hi = (uint64_t)(prefix >> 64), v4 = hi | depth,
		 v6[] = { hi, (uint64_t)prefix, depth };
	uint64_t tree = ip_v == 4 ? siphash(k->addresses, &v4, 1, 2, 4)
				  : siphash(k->addresses, v6, 3, 2, 4);
	uint64_t path = (uint64_t)(a << depth >> (128 - LEVELS)), flips = 0;

	for (unsigned level = 0; level < LEVELS; level++) {
		uint64_t node = 1u << level | path >> (LEVELS - level);

		flips = flips << 1 | (tree >> node & 1);
	}
	return flips;
}

void pseudonym_address(const struct pseudonym_key *k, unsigned ip_v, uint8_t addr[static 16])
{
	unsigned bits = ip_v == 4 ? 32 : 128;
	unsigned __int128 a, flips = 0;
	uint64_t w[2] = { 0 };

	memcpy(w, addr, bits / 8);
	/* The first bit of the address is the most significant one. */
	a = (unsigned __int128)be64toh(w[0]) << 64 | be64toh(w[1]);
	for (unsigned depth = 0; depth < bits; depth += LEVELS)
		flips |= (unsigned __int128)flips_of(k, ip_v, a, depth) << (128 - LEVELS) >> depth;
	a ^= flips;
	w[0] = htobe64((uint64_t)(a >> 64));
	w[1] = htobe64((uint64_t)a);
	memcpy(addr, w, bits / 8);
}

uint64_t pseudonym_flow_id(const struct pseudonym_key *k, uint64_t flow_id)
{
	return siphash(k->flows, &flow_id, 1, 2, 4);
}

void pseudonym_event(const struct pseudonym_key *k, struct event *e)
{
	if (e->kind == EVENT_CAPTURE_LOSS) /* has no addresses and no id */
		return;
	pseudonym_address(k, e->ip_v, e->addr[0]);
	pseudonym_address(k, e->ip_v, e->addr[1]);
	e->flow_id = pseudonym_flow_id(k, e->flow_id);
	if (e->kind == EVENT_TCP_OPEN && e->open.prev_flow_id)
		e->open.prev_flow_id = pseudonym_flow_id(k, e->open.prev_flow_id);
}
