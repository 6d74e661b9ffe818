#include "format/community.h"
#include <string.h>
#include "format/sha1.h"

enum { PROTO_TCP = 6 };

static void put16(uint8_t *p, uint16_t v)
{
	p[0] = (uint8_t)(v >> 8);
	p[1] = (uint8_t)v;
}

static void base64(char *out, const uint8_t *in, unsigned n)
{
	static const char set[] =
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

	for (unsigned i = 0; i < n; i += 3) {
		uint32_t v = (uint32_t)in[i] << 16 | (i + 1 < n ? in[i + 1] << 8 : 0) |
			     (i + 2 < n ? in[i + 2] : 0);

		*out++ = set[v >> 18];
		*out++ = set[v >> 12 & 63];
		*out++ = i + 1 < n ? set[v >> 6 & 63] : '=';
		*out++ = i + 2 < n ? set[v & 63] : '=';
	}
	*out = '\0';
}

void community_id(char ret[static COMMUNITY_ID_CHARS + 1], unsigned ip_v, uint16_t seed,
		  const uint8_t *addr0, uint16_t port0, const uint8_t *addr1, uint16_t port1)
{
	unsigned n = ip_v == 4 ? 4 : 16;
	int order = memcmp(addr0, addr1, n);
	uint8_t block[SHA1_BLOCK], *p = block + 2, digest[SHA1_OCTETS];

	if (order > 0 || (!order && port0 > port1)) { /* the smaller end goes first */
		const uint8_t *addr = addr0;
		uint16_t port = port0;

		addr0 = addr1;
		addr1 = addr;
		port0 = port1;
		port1 = port;
	}
	put16(block, seed);
	memcpy(p, addr0, n);
	memcpy(p + n, addr1, n);
	p += 2 * n;
	*p++ = PROTO_TCP;
	*p++ = 0;
	put16(p, port0);
	put16(p + 2, port1);
	sha1_one_block(block, (size_t)(p + 4 - block), digest);
	memcpy(ret, "1:", 2);
	base64(ret + 2, digest, sizeof digest);
}
