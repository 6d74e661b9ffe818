#include <string.h>
#include "base/cc.h"
#include "base/hash.h"
#include "tests/support/rand.h"
#include "tests/support/tap.h"

/* SipHash-1-3 of the octets 00 01 02 ... (8n of them) under the key 00 01 .. 0f, from another
 * implementation of the paper's octet strings; that one gives the paper's own vector for 2-4. */
static const uint64_t vectors[] = {
	0xabac0158050fc4dc, 0x369095118d299a8e, 0xcc4fdd1a7d908b66,
	0xf464aeb267349c8c, 0x81157b6c16a7b60d, 0xc1d2363299e41531,
	0x9f3143f8df074c46, 0xb4bcc0db243c6d75, 0xf17997ec4b4a6065,
};

static const struct hash_key key = { { 0x0706050403020100, 0x0f0e0d0c0b0a0908 } };

static void test_vectors(void)
{
	uint64_t w[ARRAY_SIZE(vectors)];

	for (unsigned i = 0; i < ARRAY_SIZE(w); i++)
		w[i] = 0x0706050403020100 + i * 0x0808080808080808;
	for (unsigned n = 0; n < ARRAY_SIZE(vectors); n++)
		ok(hash_words(&key, w, n) == vectors[n], "SipHash-1-3 of %u octets", 8 * n);
}

/* Each bit of what goes in turns about half of what comes out: over 1000 rounds the count of each
 * pair is within 8 standard deviations (16) of 500. */
enum { ROUNDS = 1000, LEAST = 500 - 8 * 16, MOST = 500 + 8 * 16 };

static void test_avalanche(unsigned key_words, unsigned words)
{
	static unsigned turned[9 * 64][64];
	unsigned bits = (key_words + words) * 64, out = 0;

	memset(turned, 0, sizeof turned);
	for (unsigned round = 0; round < ROUNDS; round++) {
		uint64_t in[9];

		for (unsigned i = 0; i < ARRAY_SIZE(in); i++)
			in[i] = rand64();
		for (unsigned bit = 0; bit < bits; bit++) {
			struct hash_key k = { { in[0], in[1] } };
			uint64_t before = hash_words(&k, in + 2, words), *w, d;
			unsigned at = bit + (key_words ? 0 : 128);

			w = at < 128 ? &k.k[at / 64] : &in[at / 64];
			*w ^= 1ull << at % 64;
			d = before ^ hash_words(&k, in + 2, words);
			if (at >= 128)
				*w ^= 1ull << at % 64;
			for (unsigned i = 0; i < 64; i++)
				turned[bit][i] += d >> i & 1;
		}
	}
	for (unsigned bit = 0; bit < bits; bit++)
		for (unsigned i = 0; i < 64; i++)
			out += turned[bit][i] < LEAST || turned[bit][i] > MOST;
	ok(!out, "each bit of the %s turns each bit of the hash half of the time (%u words)",
	   key_words ? "key and the words" : "words", words);
}

/* Keys like those of a table: addresses and ports that differ in few bits.  Buckets are taken from
 * the upper half, tags from the lowest octet. */
static void test_quick(unsigned words)
{
	enum { FLOWS = 1 << 16, BUCKETS = 1 << 12, MEAN = FLOWS / BUCKETS };
	static uint16_t bucket[BUCKETS];
	static uint32_t tag[256];
	uint32_t most = 0, most_tag = 0;
	struct hash_key k;

	memset(bucket, 0, sizeof bucket);
	memset(tag, 0, sizeof tag);
	for (unsigned i = 0; i < ARRAY_SIZE(k.k); i++)
		k.k[i] = rand64();
	for (uint32_t i = 0; i < FLOWS; i++) {
		uint64_t w[5] = { 0x0a0000010a000002, 0, 0, 0, 0 };

		w[0] += i >> 12;
		w[words - 1] |= (i & 0xfff) << 16 | 443;
		uint64_t h = hash_quick(&k, w, words);

		bucket[h >> 52]++;
		tag[h & 255]++;
	}
	for (unsigned i = 0; i < BUCKETS; i++)
		most = bucket[i] > most ? bucket[i] : most;
	for (unsigned i = 0; i < 256; i++)
		most_tag = tag[i] > most_tag ? tag[i] : most_tag;
	ok(most < 4 * MEAN && most_tag < FLOWS / 256 * 3 / 2,
	   "near keys of %u words spread over buckets (%u of %u at most) and tags (%u of %u)",
	   words, most, MEAN, most_tag, FLOWS / 256);
}

/* A bit of a word, or of the key, turns the hash; by chance never in 64 bits. */
static void test_quick_bits(unsigned words)
{
	unsigned same = 0;

	for (unsigned round = 0; round < 100; round++) {
		struct hash_key k;
		uint64_t w[5];

		for (unsigned i = 0; i < ARRAY_SIZE(k.k); i++)
			k.k[i] = rand64();
		for (unsigned i = 0; i < words; i++)
			w[i] = round & 1 ? rand64() : 0;
		uint64_t h = hash_quick(&k, w, words);

		for (unsigned bit = 0; bit < words * 64; bit++) {
			w[bit / 64] ^= 1ull << bit % 64;
			same += hash_quick(&k, w, words) == h;
			w[bit / 64] ^= 1ull << bit % 64;
			k.k[bit / 64] ^= 1ull << bit % 64;
			same += hash_quick(&k, w, words) == h;
			k.k[bit / 64] ^= 1ull << bit % 64;
		}
	}
	ok(!same, "each bit of %u words and of the key makes another hash_quick()", words);
}

int main(void)
{
	test_vectors();
	rng = tap_seed(13);
	test_avalanche(2, 2);
	test_avalanche(0, 5);
	for (unsigned round = 0; round < 10; round++) {
		test_quick(2);
		test_quick(5);
	}
	test_quick_bits(2);
	test_quick_bits(5);

	uint64_t w[3] = { 0, 0, 0 };

	ok(hash_words(&key, w, 1) != hash_words(&key, w, 2) &&
		   hash_words(&key, w, 2) != hash_words(&key, w, 3),
	   "a zero more is another message");
	return tap_done();
}
