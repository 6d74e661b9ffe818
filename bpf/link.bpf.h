/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only) */
/* link.bpf.h - parses from the link header to the IP header in kernel programs, as link_walk() in
 * wire/link.c does in user space.
 *
 * Socket filters have no pointer into the frame, so all reads are copies.  Each function moves *at
 * past what it read, and returns the IP version that follows, or NOTHING. */
#pragma once
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <stdbool.h>
#include <stdint.h>
#include <bpf/bpf_helpers.h>
#include "wire/link.h"

enum { NOTHING = 0 }; /* no IP version: no IP header, or one that we do not look for */

/* Copies the octets at @at; false: the frame is too short. */
#define LOAD(skb, at, to) (!bpf_skb_load_bytes(skb, at, to, sizeof *(to)))

static __always_inline uint16_t be16(const uint8_t *p)
{
	return (uint16_t)(p[0] << 8 | p[1]);
}

static __always_inline bool is_vlan_type(uint16_t type)
{
	return type == 0x8100 || type == 0x88a8 || type == 0x9100;
}

static __always_inline unsigned version_of(uint32_t type)
{
	return type == ETH_P_IP ? 4 : type == ETH_P_IPV6 ? 6 : NOTHING;
}

static __always_inline unsigned version_at(struct __sk_buff *skb, uint32_t at)
{
	uint8_t b;

	if (!LOAD(skb, at, &b))
		return NOTHING;
	return b >> 4 == 4 ? 4 : b >> 4 == 6 ? 6 : NOTHING;
}

/* Other EtherTypes than IP: VLAN tags, then IP, SNAP, PPPoE or MPLS. */
static __noinline unsigned skb_carrier_walk(struct __sk_buff *skb, uint32_t type, uint32_t *at)
{
	uint8_t b[8];

	for (unsigned n = 0; n < LINK_MAX_VLAN && is_vlan_type(type); n++) {
		if (bpf_skb_load_bytes(skb, *at, b, 4))
			return NOTHING;
		type = be16(b + 2);
		*at += 4;
	}
	if (type < ETH_P_802_3_MIN) { /* LLC and SNAP, RFC 1042 */
		if (!LOAD(skb, *at, &b) || be16(b) != 0xaaaa || be16(b + 2) != 0x0300 ||
		    be16(b + 4))
			return NOTHING;
		type = be16(b + 6);
		*at += 8;
		return version_of(type);
	}
	switch (type) {
	case ETH_P_PPP_SES: /* RFC 2516 4 */
		if (!LOAD(skb, *at, &b) || be16(b) != 0x1100)
			return NOTHING;
		*at += 8;
		return be16(b + 6) == 0x0021 ? 4 : be16(b + 6) == 0x0057 ? 6 : NOTHING;
	case ETH_P_MPLS_UC:
	case ETH_P_MPLS_MC:
		for (unsigned n = 0; n < LINK_MAX_MPLS; n++) {
			if (bpf_skb_load_bytes(skb, *at, b, 4))
				return NOTHING;
			*at += 4;
			if (b[2] & 1)
				return version_at(skb, *at);
		}
	}
	return version_of(type);
}

/* From after an EtherType, as type_walk() in wire/link.c.  Most frames are IP. */
static __always_inline unsigned skb_type_walk(struct __sk_buff *skb, uint32_t type, uint32_t *at)
{
	unsigned ip_v = version_of(type);

	return ip_v ? ip_v : skb_carrier_walk(skb, type, at);
}

static __always_inline unsigned skb_ethernet_walk(struct __sk_buff *skb, uint32_t *at)
{
	uint8_t b[2];

	if (!LOAD(skb, *at + ETH_HLEN - 2, &b))
		return NOTHING;
	*at += ETH_HLEN;
	return skb_type_walk(skb, be16(b), at);
}
