/* ip.h - IP protocol numbers and IPv6 extension headers, for the decoders here and in the kernel
 * (bpf/).  Constants and arithmetic only, because kernel programs include it. */
#pragma once
#include <stdint.h>

/* Assigned Internet Protocol Numbers (IANA). */
enum ip_protocol {
	PROTO_ICMP = 1,
	PROTO_IP4 = 4,
	PROTO_TCP = 6,
	PROTO_UDP = 17,
	PROTO_IP6 = 41,
	PROTO_GRE = 47,
	PROTO_ICMP6 = 58,
};

/* IPv6 extension headers. */
enum ip6_extension {
	IP6_HOPOPTS = 0,
	IP6_ROUTING = 43,
	IP6_FRAGMENT = 44,
	IP6_AH = 51,
	IP6_DSTOPTS = 60,
	IP6_MOBILITY = 135,
	IP6_HIP = 139,
	IP6_SHIM6 = 140,
};

/* Octets of extension header @kind with length field @len; 0: not an extension header.  RFC 8200
 * 4.3 to 4.6; AH counts words of 4 octets, minus 2 (RFC 4302 2.2). */
static inline uint32_t ip6_header_len(uint8_t kind, uint8_t len)
{
	switch (kind) {
	case IP6_HOPOPTS:
	case IP6_ROUTING:
	case IP6_DSTOPTS:
	case IP6_MOBILITY:
	case IP6_HIP:
	case IP6_SHIM6:
		return (len + 1u) * 8;
	case IP6_AH:
		return (len + 2u) * 4;
	case IP6_FRAGMENT:
		return 8;
	default:
		return 0;
	}
}
