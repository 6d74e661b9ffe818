#include "format/community.h"
#include <endian.h>
#include <stdbool.h>
#include <string.h>
#include "format/sha1.h"
#include "wire/ip.h"

/* @n: a multiple of 3.  Terminated. */
static void base64(char *out, const uint8_t *in, unsigned n)
{
	static const char set[] =
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

	for (unsigned i = 0; i < n; i += 3) {
		uint32_t v = (uint32_t)in[i] << 16 | in[i + 1] << 8 | in[i + 2];

		*out++ = set[v >> 18];
		*out++ = set[v >> 12 & 63];
		*out++ = set[v >> 6 & 63];
		*out++ = set[v & 63];
	}
	*out = '\0';
}

void community_id_of(char ret[static COMMUNITY_ID_CHARS + 1], unsigned ip_v, uint16_t seed,
		     const uint8_t *addr0, uint16_t port0, const uint8_t *addr1, uint16_t port1)
{
	unsigned n = ip_v == 4 ? 4 : 16;
	int order = memcmp(addr0, addr1, n);
	bool swap = order > 0 || (!order && port0 > port1); /* the smaller end goes first */
	uint16_t ports[2] = { htobe16(swap ? port1 : port0), htobe16(swap ? port0 : port1) };
	uint8_t block[SHA1_BLOCK], *p = block + sizeof seed, digest[SHA1_OCTETS + 1] = { 0 };

	seed = htobe16(seed);
	memcpy(block, &seed, sizeof seed);
	memcpy(p, swap ? addr1 : addr0, n);
	memcpy(p + n, swap ? addr0 : addr1, n);
	p += 2 * n;
	*p++ = PROTO_TCP;
	*p++ = 0;
	memcpy(p, ports, sizeof ports);
	sha1_one_block(block, (size_t)(p + sizeof ports - block), digest);
	memcpy(ret, "1:", 2);
	base64(ret + 2, digest, sizeof digest);
	ret[COMMUNITY_ID_CHARS - 1] = '='; /* the last octet is padding */
}
