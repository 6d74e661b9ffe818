#include "wire/checksum.h"
#include <endian.h>
#include <string.h>
#include "wire/ip.h"
#include "wire/segment.h"

enum { TCP_FIXED = 20 };

/* Ones' complement sums know no byte order (RFC 1071 2): words are added as they lie in memory. */
static inline uint64_t add(uint64_t sum, uint64_t v)
{
	uint64_t with;

	bool carry = __builtin_add_overflow(sum, v, &with);

	return with + carry;
}

static inline uint64_t word(const uint8_t *p)
{
	uint32_t v;

	memcpy(&v, p, sizeof v);
	return v;
}

/* The last octet, if it is odd, has a zero behind it. */
static inline uint64_t add_octets(uint64_t sum, const uint8_t *p, uint32_t n)
{
	uint64_t v;
	uint16_t two;

	for (; n >= sizeof v; p += sizeof v, n -= (uint32_t)sizeof v) {
		memcpy(&v, p, sizeof v);
		sum = add(sum, v);
	}
	if (n & 4) {
		sum = add(sum, word(p));
		p += 4;
	}
	if (n & 2) {
		memcpy(&two, p, sizeof two);
		sum = add(sum, two);
		p += 2;
	}
	if (n & 1) {
		two = 0;
		memcpy(&two, p, 1);
		sum = add(sum, two);
	}
	return sum;
}

static uint16_t fold(uint64_t sum)
{
	sum = (sum & 0xffffffff) + (sum >> 32);
	sum = (sum & 0xffffffff) + (sum >> 32);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return (uint16_t)sum;
}

bool checksum_wrong(const struct segment *s, const uint8_t *end)
{
	const uint8_t *tcp = s->options.p - TCP_FIXED;
	uint32_t len = (tcp[12] >> 4) * 4u + s->payload_len;

	if (len > (size_t)(end - tcp) || s->fragment || s->extended || s->wire_segs > 1)
		return false;

	uint64_t pseudo = (uint64_t)htobe32(len) + htobe32(PROTO_TCP);
	uint16_t field;

	pseudo += word(s->src) + word(s->dst);
	for (unsigned at = 4; s->ip_v != 4 && at < sizeof s->src; at += 4)
		pseudo += word(s->src + at) + word(s->dst + at);
	if (fold(add_octets(pseudo, tcp, len)) == 0xffff)
		return false;
	memcpy(&field, tcp + 16, sizeof field);
	return field != fold(pseudo);
}
