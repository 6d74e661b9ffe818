/* SHA-1 of one block against libmd's own, with the machine's instructions and without. */
#include "format/sha1.c"
#include "tests/support/rand.h"
#include "tests/support/tap.h"

static void fill(uint8_t *p, size_t n)
{
	for (size_t i = 0; i < n; i++)
		p[i] = (uint8_t)rand64();
}

static void test_transform(void)
{
	unsigned wrong = 0;

	for (unsigned i = 0; i < 20000; i++) {
		uint8_t block[SHA1_BLOCK];
		uint32_t h[2][5];

		fill(block, sizeof block);
		fill((uint8_t *)h[0], sizeof h[0]);
		memcpy(h[1], h[0], sizeof h[0]);
		transform(h[0], block);
		SHA1Transform(h[1], block);
		wrong += !!memcmp(h[0], h[1], sizeof h[0]);
	}
	ok(!wrong, "random blocks: the SHA instructions and libmd agree");
}

static void test_digests(void)
{
	static const uint8_t abc[SHA1_OCTETS] = { /* FIPS 180-4, example of one block */
						  0xa9, 0x99, 0x3e, 0x36, 0x47, 0x06, 0x81,
						  0x6a, 0xba, 0x3e, 0x25, 0x71, 0x78, 0x50,
						  0xc2, 0x6c, 0x9c, 0xd0, 0xd8, 0x9d
	};
	uint8_t block[SHA1_BLOCK] = "abc", got[SHA1_OCTETS], want[SHA1_OCTETS];
	unsigned wrong = 0;

	sha1_one_block(block, 3, got);
	ok(!memcmp(got, abc, sizeof abc), "the digest of \"abc\" is as published");
	for (size_t n = 0; n <= SHA1_ONE_BLOCK_MAX; n++) {
		for (unsigned i = 0; i < 100; i++) {
			SHA1_CTX sha;

			fill(block, sizeof block); /* also where the padding goes */
			SHA1Init(&sha);
			SHA1Update(&sha, block, n);
			SHA1Final(want, &sha);
			sha1_one_block(block, n, got);
			wrong += !!memcmp(got, want, sizeof want);
		}
	}
	ok(!wrong, "messages of 0 to %u octets: the digests are libmd's", SHA1_ONE_BLOCK_MAX);
}

int main(void)
{
	rng = tap_seed(180);
	if (SHA_INSTRUCTIONS)
		test_transform();
	else
		tap_skip("the SHA instructions", "this machine does not have them");
	test_digests();
	return tap_done();
}
