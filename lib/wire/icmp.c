#include "wire/decode.h"

enum { ICMP_HEADER = 8, QUOTED_TCP = 8 };
enum { ICMP4_UNREACHABLE = 3, ICMP4_FRAGMENTATION_NEEDED = 4, ICMP6_UNREACHABLE = 1 };

/* Quoted IPv6 packets with extension headers do not count: the filter cannot parse them, and a SYN
 * rarely has any. */
bool icmp_may_quote(const struct decode *d)
{
	bool v4 = d->ip_v == 4;
	uint32_t proto_at = d->upper.off + ICMP_HEADER + (v4 ? 9 : 6);

	if (d->upper.proto != (v4 ? PROTO_ICMP : PROTO_ICMP6) || d->upper.later ||
	    cursor_left(&d->c) <= proto_at)
		return false;
	const uint8_t *icmp = d->c.p + d->upper.off;

	/* "Fragmentation needed" is not a failure (RFC 1191 3); ICMPv6 has a type of its own for it
	 * (RFC 4443). */
	if (v4 ? icmp[0] != ICMP4_UNREACHABLE || icmp[1] == ICMP4_FRAGMENTATION_NEEDED
	       : icmp[0] != ICMP6_UNREACHABLE)
		return false;
	return d->c.p[proto_at] == PROTO_TCP;
}

enum frame_verdict icmp_decode(struct decode *d)
{
	const uint8_t *icmp = d->c.p + d->upper.off;
	size_t left = cursor_left(&d->c) - d->upper.off - ICMP_HEADER;
	/* Length of the quoted packet in words of 4 or 8 octets; 0: to the end (RFC 4884 5). */
	size_t quoted = d->ip_v == 4 ? icmp[5] * 4u : icmp[4] * 8u;

	d->c = cursor_of(
		(struct span){ icmp + ICMP_HEADER, quoted && quoted < left ? quoted : left });
	enum frame_verdict v = ip_decode(d);

	if (v)
		return v;
	if (d->upper.later)
		return FRAME_FRAGMENT;
	if (cursor_left(&d->c) < d->upper.off + QUOTED_TCP)
		return FRAME_CUT;
	const uint8_t *tcp = d->c.p + d->upper.off;

	ip_copy_addresses(d);
	d->s->sport = be16_at(tcp);
	d->s->dport = be16_at(tcp + 2);
	d->s->seq = be32_at(tcp + 4);
	return FRAME_ICMP;
}
