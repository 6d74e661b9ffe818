#include "wire/checksum.h"
#include <endian.h>
#include <string.h>
#include "wire/ip.h"
#include "wire/segment.h"

enum { TCP_FIXED = 20 };

/* Ones' complement sums are independent of byte order (RFC 1071 2): integers are added in memory
 * order. */
static inline uint64_t sum_add(uint64_t sum, uint64_t v)
{
	bool carry = __builtin_add_overflow(sum, v, &sum);

	return sum + carry;
}

static inline uint64_t native_u32(const uint8_t *p)
{
	uint32_t v;

	memcpy(&v, p, sizeof v);
	return v;
}

/* @n: at least 8.  The end is padded with zeros. */
static inline uint64_t sum_add_octets(uint64_t sum, const uint8_t *p, uint32_t n)
{
	uint64_t v;

	for (; n >= sizeof v; p += sizeof v, n -= (uint32_t)sizeof v) {
		memcpy(&v, p, sizeof v);
		sum = sum_add(sum, v);
	}
	if (!n)
		return sum;
	/* The last 8 octets, without those that are in the sum already. */
	memcpy(&v, p + n - sizeof v, sizeof v);
	return sum_add(sum, htole64(le64toh(v) >> 8 * (sizeof v - n)));
}

static uint16_t sum_fold(uint64_t sum)
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

	pseudo += native_u32(s->src) + native_u32(s->dst);
	for (unsigned at = 4; s->ip_v != 4 && at < sizeof s->src; at += 4)
		pseudo += native_u32(s->src + at) + native_u32(s->dst + at);
	if (sum_fold(sum_add_octets(pseudo, tcp, len)) == 0xffff)
		return false;
	memcpy(&field, tcp + 16, sizeof field);
	return field != sum_fold(pseudo);
}
