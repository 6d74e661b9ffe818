#include <string.h>
#include "wire/segment.h"
#include "wire/walk.h"

enum { ICMP_HEADER = 8, QUOTED_TCP = 8 };
enum { ICMP4_UNREACHABLE = 3, ICMP4_FRAGMENTATION_NEEDED = 4, ICMP6_UNREACHABLE = 1 };

/* A quoted IPv6 packet with extension headers is not looked into: neither can the filter, and a
 * SYN hardly has them. */
bool icmp_may_quote(const struct packet *p, const struct upper *u)
{
	bool v4 = p->ip_v == 4;
	uint32_t proto_at = u->off + ICMP_HEADER + (v4 ? 9 : 6);

	if (u->proto != (v4 ? PROTO_ICMP : PROTO_ICMP6) || p->ip.n <= proto_at)
		return false;
	const uint8_t *icmp = p->ip.p + u->off;

	/* "Fragmentation needed" is advice, and no failure (RFC 1191 3; RFC 4443 has a type for
	 * it). */
	if (v4 ? icmp[0] != ICMP4_UNREACHABLE || icmp[1] == ICMP4_FRAGMENTATION_NEEDED
	       : icmp[0] != ICMP6_UNREACHABLE)
		return false;
	return p->ip.p[proto_at] == PROTO_TCP;
}

enum frame_verdict icmp_walk(const struct packet *p, const struct upper *u, struct segment *ret)
{
	const uint8_t *icmp = p->ip.p + u->off;
	/* RFC 4884 5: what is quoted ends here, in words of 4 or 8 octets; 0: with the packet. */
	size_t quoted = p->ip_v == 4 ? icmp[5] * 4u : icmp[4] * 8u;
	struct packet in = { .ip = { icmp + ICMP_HEADER, p->ip.n - u->off - ICMP_HEADER },
			     .ip_v = p->ip_v };
	struct upper of;

	if (quoted && quoted < in.ip.n)
		in.ip.n = quoted;
	enum frame_verdict v = ip_walk(&in, &of);

	if (v)
		return v;
	if (of.later)
		return FRAME_FRAGMENT;
	if (in.ip.n < of.off + QUOTED_TCP)
		return FRAME_CUT;
	const uint8_t *tcp = in.ip.p + of.off;
	unsigned octets = in.ip_v == 4 ? 4 : 16, at = in.ip_v == 4 ? 12 : 8;

	ret->ip_v = in.ip_v;
	memcpy(ret->src, in.ip.p + at, octets);
	memcpy(ret->dst, in.ip.p + at + octets, octets);
	ret->sport = be16_at(tcp);
	ret->dport = be16_at(tcp + 2);
	ret->seq = be32_at(tcp + 4);
	return FRAME_ICMP;
}
