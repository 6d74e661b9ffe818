/* walk.h - the layers of a frame, a step each: what frame.c, tunnel.c and icmp.c have in common.
 * Not for anyone else.
 *
 * A step returns FRAME_TCP for "go on", or the verdict on the whole frame. */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include "base/bytes.h"
#include "wire/frame.h"
#include "wire/ip.h"

struct segment; /* "wire/segment.h" */

/* An IP packet and the room that what carries it leaves. */
struct packet {
	struct span ip; /* captured octets, borrowed */
	uint32_t wire;	/* octets on the wire, padding included */
	uint8_t ip_v;	/* 4 or 6, as the layer before says */
	bool part; /* of it more than `wire` was sent, elsewhere: fragments, a mirror that cuts */
};

/* What an IP header says of the header behind it, or behind IPv6 extension headers. */
struct upper {
	uint32_t l3_len; /* IP header + payload on the wire; 0: "as long as the frame" */
	uint32_t off;	 /* octets from the IP header on */
	uint8_t proto;	 /* enum ip_protocol */
	bool first;	 /* of several fragments */
	bool later;	 /* a fragment without that header */
	bool extended;	 /* IPv6 extension headers lie between */
};

/* From the link header to the IP header; VLAN ids go to @s. */
enum frame_verdict link_walk(enum link_type link, struct cursor *c, struct segment *s,
			     uint8_t *ret_ip_v);

/* The same from behind an EtherType on. */
enum frame_verdict type_walk(uint32_t type, struct cursor *c, struct segment *s, uint8_t *ret_ip_v);

/* From an IPv6 header over its extension headers.  A later fragment is FRAME_FRAGMENT. */
enum frame_verdict ip6_walk(struct span ip, struct upper *ret);

/* From an IPv4 header on.  A later fragment is `later`. */
static inline enum frame_verdict ip4_walk(struct span ip, struct upper *ret)
{
	if (ip.n < 20)
		return FRAME_CUT;
	uint32_t hl = (ip.p[0] & 15u) * 4, fragment = be16_at(ip.p + 6);

	if (ip.p[0] >> 4 != 4 || hl < 20)
		return FRAME_BAD;
	*ret = (struct upper){ .l3_len = be16_at(ip.p + 2),
			       .off = hl,
			       .proto = ip.p[9],
			       .first = fragment & 0x2000,
			       .later = fragment & 0x1fff };
	return FRAME_TCP;
}

static inline enum frame_verdict ip_walk(const struct packet *p, struct upper *ret)
{
	return p->ip_v == 4 ? ip4_walk(p->ip, ret) : ip6_walk(p->ip, ret);
}

struct tunnel; /* "wire/tunnel.h" */

/* From an IP packet of tunnel @type, its @upper known, to the one inside, in place. */
enum frame_verdict tunnel_walk(uint8_t type, const struct upper *upper, struct packet *packet,
			       struct segment *s, struct tunnel *ret);

/* Is what follows the IP header an ICMP error that a quoted TCP header can be in?  By its first
 * octets, as the kernel's filter has it. */
bool icmp_may_quote(const struct packet *packet, const struct upper *upper);

/* Addresses, ports and sequence number of the quoted header go to @ret: FRAME_ICMP. */
enum frame_verdict icmp_walk(const struct packet *packet, const struct upper *upper,
			     struct segment *ret);
