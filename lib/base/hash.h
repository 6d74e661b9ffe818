/* hash.h - keyed 64-bit hashes of a few words.  Pure.
 *
 * hash_words()  SipHash-1-3 (Aumasson, Bernstein, 2012): a pseudo-random function, for what others
 *               get to see
 * hash_quick()  NH of UMAC (Black et al., 1999; RFC 4418 5.2), with 64-bit words, and folded: an
 *               eighth of the work.  For tables: whoever sees no hash and does not know the key
 *               finds two inputs that collide no sooner than by trying.
 *
 * The words are taken as they are: callers put them together the same way on both sides of a
 * comparison. */
#pragma once
#include <stddef.h>
#include <stdint.h>

struct hash_key {
	uint64_t k[8]; /* random; hash_words() uses the first two */
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

/* Hash of @n words, at most 6, under @key; inlined, so that a constant @n unrolls. */
static inline uint64_t hash_quick(const struct hash_key *key, const uint64_t *w, size_t n)
{
	unsigned __int128 sum = 0;

	for (size_t i = 0; i < n; i += 2)
		sum += (unsigned __int128)(w[i] + key->k[i]) *
		       ((i + 1 < n ? w[i + 1] : 0) + key->k[i + 1]);
	sum = (unsigned __int128)((uint64_t)sum ^ key->k[6]) * ((uint64_t)(sum >> 64) ^ key->k[7]);
	return (uint64_t)sum ^ (uint64_t)(sum >> 64);
}
