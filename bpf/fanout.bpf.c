/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only) */
/* Assigns the frames of an interface to the members of a fan-out group: all frames of a connection
 * to one member (PACKET_FANOUT_EBPF, packet(7)).  The kernel takes the result modulo the number of
 * members.
 *
 * It parses as frame_decode() and frame_decode_inner() do (lib/wire/): to the innermost TCP header,
 * or to the one that an ICMP error quotes.  A later fragment has no ports and needs none: each
 * member's filter drops it.  A first fragment has ports and goes with its connection.  What the
 * filter drops returns 0. */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <stdbool.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>
#include "bpf/fanout.h"
#include "bpf/ip.bpf.h"
#include "bpf/link.bpf.h"
#include "wire/frame.h"
#include "wire/link.h"
#include "wire/tunnel.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

const volatile struct fanout_config config;

static __always_inline uint32_t connection_hash(struct __sk_buff *skb, const struct ip *ip)
{
	uint64_t secret = config.secret;
	uint8_t b[4];

	if (ip->proto != PROTO_TCP || !LOAD(skb, ip->at, &b))
		return 0;
	return fanout_hash(fanout_end(secret, ip->addr[0][0], ip->addr[0][1], be16(b)),
			   fanout_end(secret, ip->addr[1][0], ip->addr[1][1], be16(b + 2)));
}

static __always_inline unsigned skb_payload_walk(struct __sk_buff *skb, uint16_t type, uint32_t *at)
{
	if (type == 0x6558)
		return skb_ethernet_walk(skb, at);
	return type < ETH_P_802_3_MIN ? NOTHING : skb_type_walk(skb, type, at);
}

static __always_inline unsigned skb_erspan_walk(struct __sk_buff *skb, bool third, bool sequenced,
						uint32_t *at)
{
	uint8_t head[4], rest[4];

	if (!third && !sequenced)
		return skb_ethernet_walk(skb, at);
	if (!LOAD(skb, *at, &head) || head[0] >> 4 != (third ? 2 : 1))
		return NOTHING;
	*at += 8;
	if (third) {
		if (!LOAD(skb, *at, &rest))
			return NOTHING;
		*at += rest[3] & 1 ? 12 : 4;
		if ((rest[2] >> 2 & 0x1f) == 2)
			return version_at(skb, *at);
		if (rest[2] >> 2 & 0x1f)
			return NOTHING;
	}
	return skb_ethernet_walk(skb, at);
}

static __noinline unsigned skb_gre_walk(struct __sk_buff *skb, uint32_t *at)
{
	uint8_t b[4];

	if (!LOAD(skb, *at, &b) || b[0] & 0x40 || b[1] & 7)
		return NOTHING;
	*at += 4 + (b[0] & 0x80 ? 4 : 0) + (b[0] & 0x20 ? 4 : 0) + (b[0] & 0x10 ? 4 : 0);
	uint16_t type = be16(b + 2);

	if (type == 0x88be || type == 0x22eb)
		return skb_erspan_walk(skb, type == 0x22eb, b[0] & 0x10, at);
	return skb_payload_walk(skb, type, at);
}

static __always_inline unsigned skb_gtp_u_walk(struct __sk_buff *skb, uint32_t *at)
{
	uint8_t b[4], next;

	if (!LOAD(skb, *at, &b) || b[0] >> 4 != 3 || b[1] != 255)
		return NOTHING;
	*at += 8;
	if (b[0] & 7) {
		next = b[0] & 4;
		if (!LOAD(skb, *at, &b))
			return NOTHING;
		*at += 4;
		next = next ? b[3] : 0;
		for (unsigned n = 0; n < TUNNEL_MAX_GTP_HEADERS && next; n++) {
			if (!LOAD(skb, *at, &next) || !next)
				return NOTHING;
			*at += next * 4;
			if (!LOAD(skb, *at - 1, &next))
				return NOTHING;
		}
	}
	return version_at(skb, *at);
}

static __noinline unsigned skb_udp_walk(struct __sk_buff *skb, uint32_t *at)
{
	uint8_t b[16];

	if (!LOAD(skb, *at, &b)) /* the shortest tunnel header */
		return NOTHING;
	switch (be16(b + 2)) {
	case PORT_VXLAN:
	case PORT_VXLAN_LINUX:
		*at += 16;
		return b[8] & 8 ? skb_ethernet_walk(skb, at) : NOTHING;
	case PORT_GENEVE:
		*at += 16 + (b[8] & 0x3f) * 4;
		return b[8] >> 6 ? NOTHING : skb_payload_walk(skb, be16(b + 10), at);
	case PORT_GTP_U:
		*at += 8;
		return skb_gtp_u_walk(skb, at);
	default:
		return NOTHING;
	}
}

/* From a tunnel's IP header to the inner one: returns its version and offset. */
static __always_inline unsigned skb_tunnel_walk(struct __sk_buff *skb, const struct ip *ip,
						uint32_t *at)
{
	*at = ip->at;
	switch (ip->proto) {
	case PROTO_IP4:
		return 4;
	case PROTO_IP6:
		return 6;
	case PROTO_GRE:
		return skb_gre_walk(skb, at);
	case PROTO_UDP:
		return skb_udp_walk(skb, at);
	default:
		return NOTHING;
	}
}

/* The program runs before packet_rcv() restores the link header.  An incoming frame has lost it and
 * the first tag; an outgoing frame still has both (dev_queue_xmit_nit()). */
static __always_inline unsigned skb_link_walk(struct __sk_buff *skb, uint32_t *at)
{
	*at = 0;
	if (config.raw_ip)
		return version_at(skb, 0);
	if (skb->pkt_type == PACKET_OUTGOING)
		return skb_ethernet_walk(skb, at);
	return skb_type_walk(skb, bpf_ntohs(skb->protocol), at);
}

SEC("socket")
int fanout(struct __sk_buff *skb)
{
	uint32_t at;
	unsigned ip_v = skb_link_walk(skb, &at);
	struct ip ip;

	for (unsigned level = 0; level <= TUNNEL_MAX_LEVELS && ip_v; level++) {
		if (!skb_ip_walk(skb, ip_v, at, &ip))
			return 0;
		if (ip.proto == PROTO_TCP)
			return connection_hash(skb, &ip);
		/* An error goes with the connection that it quotes: icmp_walk(), wire/icmp.c. */
		if (config.inner & INNER_ICMP && ip.proto == (ip_v == 4 ? PROTO_ICMP : PROTO_ICMP6))
			return skb_ip_walk(skb, ip_v, ip.at + 8, &ip) ? connection_hash(skb, &ip)
								      : 0;
		if (!(config.inner & INNER_TUNNELS))
			return 0;
		ip_v = skb_tunnel_walk(skb, &ip, &at);
	}
	return 0;
}
