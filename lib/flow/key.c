#include "flow/key.h"
#include <endian.h>
#include <string.h>
#include "base/cc.h"
#include "wire/segment.h"

static uint64_t rest_of(const struct segment *s, uint16_t port0, uint16_t port1)
{
	return (uint64_t)s->iface << 32 | (uint64_t)port0 << 16 | port1;
}

/* Network-order words compare like octets once they are big-endian numbers. */
static uint64_t load_be64(const uint8_t *p)
{
	uint64_t v;

	memcpy(&v, p, sizeof v);
	return be64toh(v);
}

static __attribute__((noinline)) unsigned key6_of(const struct segment *s, struct flow_key *ret)
{
	uint64_t src[2] = { load_be64(s->src), load_be64(s->src + 8) };
	uint64_t dst[2] = { load_be64(s->dst), load_be64(s->dst + 8) };
	bool same = src[0] == dst[0] && src[1] == dst[1];
	unsigned end;

	if (src[0] != dst[0])
		end = src[0] > dst[0];
	else if (src[1] != dst[1])
		end = src[1] > dst[1];
	else
		end = s->sport > s->dport;
	const uint64_t *lo = end ? dst : src, *hi = end ? src : dst;

	ret->w[0] = lo[0];
	ret->w[1] = lo[1];
	ret->w[2] = hi[0];
	ret->w[3] = hi[1];
	ret->w[4] = end ? rest_of(s, s->dport, s->sport) : rest_of(s, s->sport, s->dport);
	ret->self = same && s->sport == s->dport;
	ret->ip_v = 6;
	return end;
}

unsigned flow_key_of(const struct segment *s, struct flow_key *ret)
{
	if (unlikely(s->ip_v != 4))
		return key6_of(s, ret);

	/* Which sorts first is as good as random: no branch. */
	uint64_t src = (uint64_t)be32_at(s->src) << 16 | s->sport;
	uint64_t dst = (uint64_t)be32_at(s->dst) << 16 | s->dport;
	uint64_t first = src > dst ? dst : src, second = src > dst ? src : dst;

	ret->w[0] = first >> 16 << 32 | second >> 16;
	ret->w[1] = rest_of(s, (uint16_t)first, (uint16_t)second);
	ret->w[2] = ret->w[3] = ret->w[4] = 0;
	ret->self = src == dst;
	ret->ip_v = 4;
	return src > dst;
}

void flow_key_end(const struct flow_key *k, unsigned end, uint8_t ret_addr[static 16],
		  uint16_t *ret_port)
{
	if (k->ip_v == 4) {
		uint32_t a = htobe32((uint32_t)(end ? k->w[0] : k->w[0] >> 32));

		memset(ret_addr, 0, 16);
		memcpy(ret_addr, &a, sizeof a);
		*ret_port = (uint16_t)(end ? k->w[1] : k->w[1] >> 16);
	} else {
		uint64_t a[2] = { htobe64(k->w[end ? 2 : 0]), htobe64(k->w[end ? 3 : 1]) };

		memcpy(ret_addr, a, sizeof a);
		*ret_port = (uint16_t)(end ? k->w[4] : k->w[4] >> 16);
	}
}

uint64_t flow_id_of(const struct flow_key *k, uint64_t start_ns, uint32_t isn)
{
	static const struct hash_key fixed = { { 0x73796e66696e6421u, 0x666c6f775f696421u } };

	if (likely(k->ip_v == 4)) /* one length known to the compiler, for nearly all */
		return hash_words(&fixed, (uint64_t[]){ k->w[0], k->w[1], start_ns, isn }, 4);
	return hash_words(
		&fixed, (uint64_t[]){ k->w[0], k->w[1], k->w[2], k->w[3], k->w[4], start_ns, isn },
		7);
}
