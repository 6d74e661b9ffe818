/* hash.h - keyed 64-bit hashes of a few 64-bit integers.  Pure.
 *
 * siphash()     SipHash-c-d (Aumasson, Bernstein, 2012): a pseudo-random function
 * hash_words()  SipHash-1-3, for values that leave the process
 * hash_quick()  NH of UMAC (Black et al., 1999; RFC 4418 5.2) with 64-bit words, folded: an eighth
 *               of the work.  For tables: without the key and the hashes, an attacker finds
 *               collisions only by chance.
 *
 * Integers are hashed in host order: compare only hashes of values built the same way. */
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

/* SipHash-@c-@d of @n words; inlined, so that constants unroll. */
static inline __attribute__((always_inline)) uint64_t
siphash(const uint64_t key[static 2], const uint64_t *w, size_t n, unsigned c, unsigned d)
{
	uint64_t v[4] = { key[0] ^ 0x736f6d6570736575u, key[1] ^ 0x646f72616e646f6du,
			  key[0] ^ 0x6c7967656e657261u, key[1] ^ 0x7465646279746573u };

	for (size_t i = 0; i <= n; i++) {
		uint64_t word = i < n ? w[i] : (uint64_t)(n * 8) << 56;

		v[3] ^= word;
		for (unsigned round = 0; round < c; round++)
			hash_round(v);
		v[0] ^= word;
	}
	v[2] ^= 0xff;
	for (unsigned round = 0; round < d; round++)
		hash_round(v);
	return v[0] ^ v[1] ^ v[2] ^ v[3];
}

/* SipHash-1-3 of @n words. */
static inline uint64_t hash_words(const struct hash_key *key, const uint64_t *w, size_t n)
{
	return siphash(key->k, w, n, 1, 3);
}

/* @n: at most 6; inlined, so that a constant @n unrolls. */
static inline uint64_t hash_quick(const struct hash_key *key, const uint64_t *w, size_t n)
{
	unsigned __int128 sum = 0;

	for (size_t i = 0; i < n; i += 2)
		sum += (unsigned __int128)(w[i] + key->k[i]) *
		       ((i + 1 < n ? w[i + 1] : 0) + key->k[i + 1]);
	sum = (unsigned __int128)((uint64_t)sum ^ key->k[6]) * ((uint64_t)(sum >> 64) ^ key->k[7]);
	return (uint64_t)sum ^ (uint64_t)(sum >> 64);
}
