#include "format/pseudonym.h"
#include <endian.h>
#include <string.h>
#include "base/hash.h"
#include "flow/event.h"

enum {
	LEVELS = 6, /* of a binary tree whose 63 nodes have a bit each in 64 */
};

/* SipHash-2-4 of @n words. */
static inline __attribute__((always_inline)) uint64_t siphash(const uint64_t key[static 2],
							      const uint64_t *w, size_t n)
{
	uint64_t v[4] = { key[0] ^ 0x736f6d6570736575u, key[1] ^ 0x646f72616e646f6du,
			  key[0] ^ 0x6c7967656e657261u, key[1] ^ 0x7465646279746573u };

	for (size_t i = 0; i <= n; i++) {
		uint64_t word = i < n ? w[i] : (uint64_t)(n * 8) << 56;

		v[3] ^= word;
		hash_round(v);
		hash_round(v);
		v[0] ^= word;
	}
	v[2] ^= 0xff;
	for (unsigned i = 0; i < 4; i++)
		hash_round(v);
	return v[0] ^ v[1] ^ v[2] ^ v[3];
}

struct pseudonym_key pseudonym_key_of(const uint8_t octets[static PSEUDONYM_KEY_OCTETS])
{
	uint64_t w[4];

	memcpy(w, octets, sizeof w);
	return (struct pseudonym_key){ { le64toh(w[0]), le64toh(w[1]) },
				       { le64toh(w[2]), le64toh(w[3]) } };
}

/* Which of the LEVELS bits behind the @depth first ones of @a are turned over, if these begin with
 * @a's. An input for IPv4 has one word, one for IPv6 three: they never meet. */
static uint64_t turns(const struct pseudonym_key *k, unsigned ip_v, unsigned __int128 a,
		      unsigned depth)
{
	unsigned __int128 prefix = depth ? a >> (128 - depth) << (128 - depth) : 0;
	uint64_t hi = (uint64_t)(prefix >> 64), v4 = hi | depth,
		 v6[] = { hi, (uint64_t)prefix, depth };
	uint64_t tree = ip_v == 4 ? siphash(k->addresses, &v4, 1) : siphash(k->addresses, v6, 3);
	uint64_t path = (uint64_t)(a << depth >> (128 - LEVELS)), turned = 0;

	for (unsigned level = 0; level < LEVELS; level++) {
		uint64_t node = 1u << level | path >> (LEVELS - level);

		turned = turned << 1 | (tree >> node & 1);
	}
	return turned;
}

void pseudonym_address(const struct pseudonym_key *k, unsigned ip_v, uint8_t addr[static 16])
{
	unsigned bits = ip_v == 4 ? 32 : 128;
	unsigned __int128 a, turned = 0;
	uint64_t w[2] = { 0 };

	memcpy(w, addr, bits / 8);
	a = (unsigned __int128)be64toh(w[0]) << 64 |
	    be64toh(w[1]); /* the first bit is the highest */
	for (unsigned depth = 0; depth < bits; depth += LEVELS)
		turned |= (unsigned __int128)turns(k, ip_v, a, depth) << (128 - LEVELS) >> depth;
	a ^= turned;
	w[0] = htobe64((uint64_t)(a >> 64));
	w[1] = htobe64((uint64_t)a);
	memcpy(addr, w, bits / 8);
}

uint64_t pseudonym_flow_id(const struct pseudonym_key *k, uint64_t flow_id)
{
	return siphash(k->flows, &flow_id, 1);
}

void pseudonym_event(const struct pseudonym_key *k, struct event *e)
{
	if (e->kind == EVENT_CAPTURE_LOSS) /* neither ends nor an id in it */
		return;
	pseudonym_address(k, e->ip_v, e->addr[0]);
	pseudonym_address(k, e->ip_v, e->addr[1]);
	e->flow_id = pseudonym_flow_id(k, e->flow_id);
	if (e->kind == EVENT_TCP_OPEN && e->open.prev_flow_id)
		e->open.prev_flow_id = pseudonym_flow_id(k, e->open.prev_flow_id);
}
