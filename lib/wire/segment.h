/* segment.h - one decoded TCP segment, as a value (RFC 9293 section 3.1).
 *
 * Integers are in host order, addresses in network order.  A super-frame (GRO, TSO) is one segment
 * here and `wire_segs` segments on the wire. */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include "base/bytes.h"

enum tcp_flag { /* octets 12-13 of the header, low 12 bits */
		TCP_FIN = 1,
		TCP_SYN = 2,
		TCP_RST = 4,
		TCP_PSH = 8,
		TCP_ACK = 16,
		TCP_URG = 32,
		TCP_ECE = 64,
		TCP_CWR = 128,
};

struct segment {
	uint64_t ts_ns;	 /* capture time, ns since 1970 UTC */
	uint8_t src[16]; /* IPv4: the first 4 octets, the rest 0 */
	uint8_t dst[16];
	uint16_t sport, dport;
	uint8_t ip_v;	      /* 4 or 6 */
	bool fragment;	      /* first of several IP fragments: payload_len is incomplete */
	uint8_t nvlan;	      /* tags kept in vlan[], outermost first */
	bool extended;	      /* IPv6 extension headers: the checksum may cover another address */
	uint16_t vlan[2];     /* VLAN ids, 12 bits */
	uint16_t iface;	      /* as in struct frame */
	uint16_t flags;	      /* enum tcp_flag */
	uint16_t window;      /* as on the wire, unscaled */
	uint16_t wire_segs;   /* segments on the wire, at least 1 */
	uint32_t seq, ack;    /* ack: as on the wire, valid with TCP_ACK */
	uint32_t payload_len; /* octets on the wire, may exceed the captured ones */
	uint32_t wire_len;    /* octets of the frame(s) on the wire, link header included */
	struct span options;  /* borrowed from the frame */
};

/* Records the VLAN id of a tag; only the two outermost are kept. */
static inline void segment_add_vlan(struct segment *s, uint16_t tci)
{
	if (s->nvlan < sizeof s->vlan / sizeof s->vlan[0])
		s->vlan[s->nvlan++] = tci & 0x0fff;
}

/* The flags that open and close a connection, and ACK. */
static inline unsigned segment_flags(const struct segment *s)
{
	return s->flags & (TCP_SYN | TCP_FIN | TCP_RST | TCP_ACK);
}

/* The VLAN id of tag @i, or @none. */
static inline unsigned segment_vlan(const struct segment *s, unsigned i, unsigned none)
{
	return i < s->nvlan ? s->vlan[i] & 0xfff : none;
}

/* Can it open or close a connection?  All others carry data or acknowledge it. */
static inline bool segment_is_control(const struct segment *s)
{
	return s->flags & (TCP_SYN | TCP_FIN | TCP_RST);
}

/* Sequence number after the segment: SYN and FIN count one each. */
static inline uint32_t segment_end(const struct segment *s)
{
	return s->seq + s->payload_len + !!(s->flags & TCP_SYN) + !!(s->flags & TCP_FIN);
}
