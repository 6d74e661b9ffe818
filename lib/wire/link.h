/* link.h - link types, and how many headers a decoder follows. */
#pragma once

enum link_type {
	LINK_ETHERNET, /* IEEE 802.3 header of 14 octets; also Linux loopback */
	LINK_RAW_IP,   /* no header: the IP version nibble decides (tun, DLT_RAW) */
	LINK_NULL,     /* 4 octets of address family, either byte order (DLT_NULL, DLT_LOOP) */
	LINK_SLL,      /* Linux cooked v1, 16 octets, EtherType at 14 (DLT_LINUX_SLL) */
	LINK_SLL2,     /* Linux cooked v2, 20 octets, EtherType at 0 (DLT_LINUX_SLL2) */
	LINK_PPP,      /* RFC 1661, with the FF 03 of RFC 1662 or without (DLT_PPP, _SERIAL) */
	LINK_PPPOE,    /* RFC 2516, session stage, PPPoE header first (DLT_PPP_ETHER) */
	LINK_80211,    /* IEEE 802.11, MAC header first (DLT_IEEE802_11) */
	LINK_RADIOTAP, /* ... after a radiotap header (DLT_IEEE802_11_RADIO) */
	LINK_TYPES
};

/* Beyond these a frame is too deep.  The kernel's filter (bpf/) has the same limits, so that both
 * agree on what is TCP. */
enum {
	LINK_MAX_VLAN = 4,   /* tags in the frame, besides the one in the ring's metadata */
	LINK_MAX_MPLS = 8,   /* labels */
	IP6_MAX_HEADERS = 8, /* IPv6 extension headers before TCP */
};
