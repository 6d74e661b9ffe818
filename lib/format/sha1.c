#include "format/sha1.h"
#include <endian.h>
#include <sha1.h>
#include <string.h>

/* clang before version 17 cannot test for "sha". */
#if defined __x86_64__ && !defined __clang__
#include <immintrin.h>
#define SHA_INSTRUCTIONS (__builtin_cpu_supports("sha") && __builtin_cpu_supports("sse4.1"))

/* Intel, "Intel SHA Extensions", 2013.  @h: the state, updated in place. */
__attribute__((target("sha,sse4.1"))) static void transform(uint32_t h[static 5],
							    const uint8_t block[static SHA1_BLOCK])
{
	const __m128i big_endian = _mm_set_epi64x(0x0001020304050607, 0x08090a0b0c0d0e0f);
	const __m128i abcd0 = _mm_shuffle_epi32(_mm_loadu_si128((const __m128i *)h), 0x1b);
	const __m128i e0 = _mm_set_epi32((int)h[4], 0, 0, 0);
	__m128i abcd = abcd0, e, next, w[4];

	for (unsigned i = 0; i < 4; i++)
		w[i] = _mm_shuffle_epi8(_mm_loadu_si128((const __m128i *)block + i), big_endian);
	e = _mm_add_epi32(e0, w[0]);

/* Rounds 4 i to 4 i + 3, five times, with function @f (an immediate operand).  Their words in
 * w[i % 4] are replaced with those of 16 rounds later. */
#define TWENTY_ROUNDS(f)                                                                           \
	for (unsigned i = 5 * (f); i < 5 * (f) + 5; i++) {                                         \
		if (i)                                                                             \
			e = _mm_sha1nexte_epu32(e, w[i % 4]);                                      \
		next = abcd;                                                                       \
		abcd = _mm_sha1rnds4_epu32(abcd, e, f);                                            \
		e = next;                                                                          \
		next = _mm_sha1msg1_epu32(w[i % 4], w[(i + 1) % 4]);                               \
		next = _mm_xor_si128(next, w[(i + 2) % 4]);                                        \
		w[i % 4] = _mm_sha1msg2_epu32(next, w[(i + 3) % 4]);                               \
	}

	TWENTY_ROUNDS(0)
	TWENTY_ROUNDS(1)
	TWENTY_ROUNDS(2)
	TWENTY_ROUNDS(3)
#undef TWENTY_ROUNDS
	e = _mm_sha1nexte_epu32(e, e0);
	abcd = _mm_shuffle_epi32(_mm_add_epi32(abcd, abcd0), 0x1b);
	_mm_storeu_si128((__m128i *)h, abcd);
	h[4] = (uint32_t)_mm_extract_epi32(e, 3);
}
#else
#define SHA_INSTRUCTIONS 0
#define transform	 SHA1Transform
#endif

void sha1_one_block(uint8_t block[static SHA1_BLOCK], size_t n, uint8_t ret[static SHA1_OCTETS])
{
	uint32_t h[5] = { 0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476, 0xc3d2e1f0 };
	uint64_t bits = htobe64(8 * n);

	/* Not SHA1Final(): libmd's pads octet by octet, which takes as long as the rounds. */
	memset(block + n, 0, SHA1_BLOCK - n);
	block[n] = 0x80;
	memcpy(block + SHA1_BLOCK - sizeof bits, &bits, sizeof bits);
	if (SHA_INSTRUCTIONS)
		transform(h, block);
	else
		SHA1Transform(h, block);
	for (unsigned i = 0; i < 5; i++)
		h[i] = htobe32(h[i]);
	memcpy(ret, h, sizeof h);
}
