#include "wire/checksum.h"
#include <string.h>
#include "wire/ip.h"
#include "wire/segment.h"

enum { TCP_FIXED = 20 };

/* Ones' complement sums know no byte order (RFC 1071 2): words are added as they lie in memory. */
static uint64_t add(uint64_t sum, uint64_t v)
{
	sum += v;
	return sum + (sum < v);
}

static uint64_t add_octets(uint64_t sum, const uint8_t *p, uint32_t n)
{
	uint64_t v;

	for (; n >= sizeof v; p += sizeof v, n -= (uint32_t)sizeof v) {
		memcpy(&v, p, sizeof v);
		sum = add(sum, v);
	}
	v = 0;
	memcpy(&v, p, n); /* the rest, zeros behind it */
	return add(sum, v);
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

	const uint8_t tail[8] = { (uint8_t)(len >> 24), (uint8_t)(len >> 16), (uint8_t)(len >> 8),
				  (uint8_t)len, 0, 0, 0, PROTO_TCP };
	uint32_t octets = s->ip_v == 4 ? 4 : 16;
	uint64_t pseudo = add_octets(0, s->src, octets);
	uint16_t field;

	pseudo = add_octets(pseudo, s->dst, octets);
	pseudo = add_octets(pseudo, tail, sizeof tail);
	if (fold(add_octets(pseudo, tcp, len)) == 0xffff)
		return false;
	memcpy(&field, tcp + 16, sizeof field);
	return field != fold(pseudo);
}
