#include "feed/pseudonym.h"
#include <endian.h>
#include <string.h>
#include "base/hash.h"
#include "flow/event.h"

enum {
	LEVELS = 6, /* of a binary tree whose 63 nodes have a bit each in 64 */
};

/* SipHash-2-4 of @n words. */
static uint64_t siphash(const uint64_t key[static 2], const uint64_t *w, size_t n)
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

/* The tree below the @depth first bits of an address, whose other bits are 0.  An input for IPv4 has
 * one word, one for IPv6 three: they never meet. */
static uint64_t tree(const struct pseudonym_key *k, unsigned ip_v, const uint64_t prefix[static 2],
		     unsigned depth)
{
	uint64_t v4 = prefix[0] | depth, v6[3] = { prefix[0], prefix[1], depth };

	return ip_v == 4 ? siphash(k->addresses, &v4, 1) : siphash(k->addresses, v6, 3);
}

void pseudonym_address(const struct pseudonym_key *k, unsigned ip_v, uint8_t addr[static 16])
{
	unsigned bits = ip_v == 4 ? 32 : 128;
	uint64_t a[2] = { 0 }, prefix[2] = { 0 }, turned[2] = { 0 };

	memcpy(a, addr, bits / 8);
	a[0] = be64toh(a[0]); /* the first bit of an address is the highest of a[0] */
	a[1] = be64toh(a[1]);
	for (unsigned depth = 0; depth < bits; depth += LEVELS) {
		uint64_t t = tree(k, ip_v, prefix, depth), node = 1;

		for (unsigned i = depth; i < depth + LEVELS && i < bits; i++) {
			unsigned word = i / 64, shift = 63 - i % 64;
			uint64_t bit = a[word] >> shift & 1;

			prefix[word] |= bit << shift;
			turned[word] |= (bit ^ (t >> node & 1)) << shift;
			node = node << 1 | bit;
		}
	}
	turned[0] = htobe64(turned[0]);
	turned[1] = htobe64(turned[1]);
	memcpy(addr, turned, bits / 8);
}

uint64_t pseudonym_flow_id(const struct pseudonym_key *k, uint64_t flow_id)
{
	return siphash(k->flows, &flow_id, 1);
}

void pseudonym_event(const struct pseudonym_key *k, struct event *e)
{
	if (e->kind == EVENT_CAPTURE_LOSS) /* no connection in it */
		return;
	pseudonym_address(k, e->ip_v, e->addr[0]);
	pseudonym_address(k, e->ip_v, e->addr[1]);
	e->flow_id = pseudonym_flow_id(k, e->flow_id);
	if (e->kind == EVENT_TCP_OPEN && e->open.prev_flow_id)
		e->open.prev_flow_id = pseudonym_flow_id(k, e->open.prev_flow_id);
}
