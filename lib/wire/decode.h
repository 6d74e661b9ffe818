/* decode.h - the layers of a frame, one function each, from the outside in.  For frame.c, link.c,
 * tunnel.c and icmp.c only.
 *
 * A function returns FRAME_TCP to continue with the next layer; anything else is the verdict on the
 * whole frame. */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include "base/bytes.h"
#include "wire/frame.h"
#include "wire/ip.h"
#include "wire/link.h"
#include "wire/segment.h"
#include "wire/tunnel.h"

/* What an IP header says about the next header, after any IPv6 extension headers. */
struct upper {
	uint32_t l3_len; /* IP header + payload on the wire; 0: as long as the frame */
	uint32_t off;	 /* octets from the IP header to the next header */
	uint8_t proto;	 /* enum ip_protocol */
	bool first;	 /* first of several fragments */
	bool later;	 /* a later fragment: the next header is not in it */
	bool extended;	 /* IPv6 extension headers are present */
};

/* Progress through one frame. */
struct decode {
	struct cursor c;      /* captured octets from the next header on; stays at an IP header */
	struct segment *s;    /* receives VLAN ids, addresses and the TCP header */
	struct tunnel tunnel; /* the innermost one so far */
	uint32_t wire;	      /* octets of the IP packet on the wire, padding included */
	uint8_t ip_v;	      /* 4 or 6, as the layer before the IP header says */
	bool part;	      /* the packet exceeds `wire`: a fragment, or cut off by a mirror */
	struct upper upper;   /* from ip_decode() */
};

/* An IP header follows. */
static inline enum frame_verdict ip_follows(struct decode *d, uint8_t ip_v)
{
	d->ip_v = ip_v;
	return FRAME_TCP;
}

/* From a link header to the IP header; sets ip_v. */
enum frame_verdict link_decode(enum link_type link, struct decode *d);

/* From the octet after EtherType @type to the IP header; sets ip_v. */
enum frame_verdict ethertype_decode(uint32_t type, struct decode *d);

/* An IPv6 header and its extension headers.  A later fragment is FRAME_FRAGMENT. */
enum frame_verdict ip6_decode(struct decode *d);

/* An IPv4 header.  A later fragment sets upper.later. */
static inline enum frame_verdict ip4_decode(struct decode *d)
{
	const uint8_t *ip = d->c.p;

	if (cursor_left(&d->c) < 20)
		return FRAME_CUT;
	uint32_t hl = (ip[0] & 15u) * 4, fragment = be16_at(ip + 6);

	if (ip[0] >> 4 != 4 || hl < 20)
		return FRAME_BAD;
	d->upper = (struct upper){ .l3_len = be16_at(ip + 2),
				   .off = hl,
				   .proto = ip[9],
				   .first = fragment & 0x2000,
				   .later = fragment & 0x1fff };
	return FRAME_TCP;
}

static inline enum frame_verdict ip_decode(struct decode *d)
{
	return d->ip_v == 4 ? ip4_decode(d) : ip6_decode(d);
}

/* Copies version and addresses of the IP header to the segment, whose addresses are zero. */
static inline void ip_copy_addresses(struct decode *d)
{
	const uint8_t *ip = d->c.p;

	d->s->ip_v = d->ip_v;
	if (d->ip_v == 4) {
		memcpy(d->s->src, ip + 12, 4);
		memcpy(d->s->dst, ip + 16, 4);
	} else {
		memcpy(d->s->src, ip + 8, 16);
		memcpy(d->s->dst, ip + 24, 16);
	}
}

/* The tunnel in the IP packet, by protocol and port; TUNNEL_NONE: not a tunnel, or too short.
 * Needs `upper`. */
enum tunnel_type tunnel_of(const struct decode *d);

/* From the IP header of a tunnel at nesting @level to the inner IP header.  FRAME_NOT_TCP: the
 * packet is not a tunnel. */
enum frame_verdict tunnel_decode(struct decode *d, unsigned level);

/* Does the IP packet carry an ICMP error that can quote a TCP header?  Reads no further than the
 * kernel's filter does. */
bool icmp_may_quote(const struct decode *d);

/* Copies addresses, ports and sequence number of the quoted TCP header: FRAME_ICMP. */
enum frame_verdict icmp_decode(struct decode *d);
