/* hash.h - a keyed 64-bit hash of a few words: SipHash-1-3 (Aumasson, Bernstein, 2012; the
 * 1-3 rounds are what hash tables use: Linux, Rust, Python).
 *
 * Pure.  With a key that peers cannot know they cannot aim at one bucket of a table.  The words
 * are taken as they are: callers put them together the same way on both sides of a comparison. */
#pragma once
#include <stddef.h>
#include <stdint.h>

struct hash_key {
	uint64_t k[2];
};

#define HASH_ROTL(x, b) (((x) << (b)) | ((x) >> (64 - (b))))

static inline void hash_round(uint64_t v[static 4])
{
	v[0] += v[1];
	v[1] = HASH_ROTL(v[1], 13) ^ v[0];
	v[0] = HASH_ROTL(v[0], 32);
	v[2] += v[3];
	v[3] = HASH_ROTL(v[3], 16) ^ v[2];
	v[0] += v[3];
	v[3] = HASH_ROTL(v[3], 21) ^ v[0];
	v[2] += v[1];
	v[1] = HASH_ROTL(v[1], 17) ^ v[2];
	v[2] = HASH_ROTL(v[2], 32);
}

/* Hash of @n words under @key; inlined, so that a constant @n unrolls. */
static inline uint64_t hash_words(const struct hash_key *key, const uint64_t *w, size_t n)
{
	uint64_t v[4] = { key->k[0] ^ 0x736f6d6570736575u, key->k[1] ^ 0x646f72616e646f6du,
			  key->k[0] ^ 0x6c7967656e657261u, key->k[1] ^ 0x7465646279746573u };
	uint64_t last = (uint64_t)(n * 8) << 56;

	for (size_t i = 0; i < n; i++) {
		v[3] ^= w[i];
		hash_round(v);
		v[0] ^= w[i];
	}
	v[3] ^= last;
	hash_round(v);
	v[0] ^= last;
	v[2] ^= 0xff;
	hash_round(v);
	hash_round(v);
	hash_round(v);
	return v[0] ^ v[1] ^ v[2] ^ v[3];
}
