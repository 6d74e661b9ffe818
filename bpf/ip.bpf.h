/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only) */
/* ip.bpf.h - parses IP headers in kernel programs, as wire/frame.c does in user space. */
#pragma once
#include <linux/bpf.h>
#include <stdbool.h>
#include <stdint.h>
#include <bpf/bpf_helpers.h>
#include "bpf/link.bpf.h"
#include "wire/ip.h"

struct ip {
	uint32_t at;  /* offset of what follows the header and its extensions */
	uint32_t len; /* of the packet; 0: BIG TCP */
	uint8_t proto;
	bool part;	     /* first of several fragments */
	uint64_t addr[2][2]; /* as in fanout_end() */
};

/* False: not IPv4, or a later fragment. */
static __always_inline bool skb_ip4_walk(struct __sk_buff *skb, uint32_t at, struct ip *ret)
{
	struct {
		uint8_t octet[12];
		uint32_t src, dst;
	} h;

	if (!LOAD(skb, at, &h) || h.octet[0] < 0x45 || h.octet[0] > 0x4f ||
	    be16(h.octet + 6) & 0x1fff)
		return false;
	*ret = (struct ip){ .at = at + (h.octet[0] & 15) * 4,
			    .len = be16(h.octet + 2),
			    .proto = h.octet[9],
			    .part = h.octet[6] & 0x20,
			    .addr = { { 0, h.src }, { 0, h.dst } } };
	return true;
}

/* Returns the offset of what follows the IPv6 header at @ip and its extensions, PART, and the
 * protocol << 24; 0: a later fragment, or the frame is too short.  A global function, and an offset
 * with known bounds, so that the verifier checks each header once. */
enum { PART = 1 << 16 };
__noinline uint32_t ip6_skip(struct __sk_buff *skb, uint32_t ip);
__noinline uint32_t ip6_skip(struct __sk_buff *skb, uint32_t ip)
{
	uint32_t at = (ip + 40) & 0xffff, part = 0;
	uint8_t next;

	if (!LOAD(skb, ip + 6, &next))
		return 0;
	for (unsigned n = 0; n < IP6_MAX_HEADERS && ip6_header_len(next, 0); n++) {
		uint8_t e[4] = { 0 };

		if (bpf_skb_load_bytes(skb, at, e, next == IP6_FRAGMENT ? 4 : 2))
			return 0;
		if (next == IP6_FRAGMENT) {
			if (be16(e + 2) & 0xfff8)
				return 0;
			part |= (e[3] & 1) << 16;
		}
		at = (at + ip6_header_len(next, e[1])) & 0xffff;
		next = e[0];
	}
	return at | part | (uint32_t)next << 24;
}

static __always_inline bool skb_ip6_walk(struct __sk_buff *skb, uint32_t at, struct ip *ret)
{
	struct {
		uint8_t octet[8];
		uint64_t src[2], dst[2];
	} h;

	if (!LOAD(skb, at, &h) || h.octet[0] >> 4 != 6)
		return false;
	uint32_t len = be16(h.octet + 4), next = ip6_skip(skb, at);

	*ret = (struct ip){ .at = next & 0xffff,
			    .len = len ? 40 + len : 0,
			    .proto = next >> 24,
			    .part = next & PART,
			    .addr = { { h.src[0], h.src[1] }, { h.dst[0], h.dst[1] } } };
	return next;
}

static __noinline bool skb_ip_walk(struct __sk_buff *skb, unsigned ip_v, uint32_t at,
				   struct ip *ret)
{
	return ip_v == 4 ? skb_ip4_walk(skb, at, ret) : skb_ip6_walk(skb, at, ret);
}
