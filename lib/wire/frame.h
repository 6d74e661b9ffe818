/* frame.h - one captured frame in, one TCP segment out.
 *
 * Pure: no allocation, clock, log or global; any thread, any number at once.
 * Layouts: IEEE 802.1Q cl. 9 (tags), RFC 791 3.1, RFC 8200 3-4, RFC 4302 2 (AH), RFC 9293 3.1;
 * RFC 3032 2.1 (MPLS), RFC 2516 4 (PPPoE), IEEE 802.2 and RFC 1042 (SNAP); those of link types in
 * link.c, of tunnels in tunnel.c. */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include "wire/link.h"

struct segment; /* "wire/segment.h" */
struct tunnel;	/* "wire/tunnel.h" */

/* A frame as a source lends it. */
struct frame {
	const uint8_t *data; /* borrowed, caplen octets from the link header on */
	uint32_t caplen;     /* 0..len */
	uint32_t len;	     /* octets on the wire (a super-frame's: as one) */
	uint64_t ts_ns;	     /* ns since 1970 UTC */
	uint32_t gso_size;   /* payload of each wire segment of a super-frame; 0: not one */
	uint16_t iface;	     /* index, see source_iface() */
	uint16_t vlan_tci;   /* outermost tag, taken out of the frame by the kernel ... */
	uint8_t has_vlan;    /* ... when this is set */
	uint8_t link;	     /* enum link_type */
	uint8_t unverified;  /* the checksum is the sender's, and nobody has looked at it yet */
};

/* Ordered: everything up to FRAME_TCP_BAD claims to be TCP (frame_claims_tcp()), and the kernel's
 * filter (bpf/tcp_filter.h) lets exactly that pass, besides what frame_holds_inner(). */
enum frame_verdict {
	FRAME_TCP,	    /* a segment was decoded */
	FRAME_TCP_CUT,	    /* TCP, but its header is not wholly captured */
	FRAME_TCP_BAD,	    /* TCP, but a length contradicts another */
	FRAME_NOT_TCP,	    /* well formed, not ours */
	FRAME_FRAGMENT,	    /* offset > 0: no TCP header here (RFC 791 3.2, RFC 8200 4.5) */
	FRAME_CUT,	    /* ends before one can tell what it is */
	FRAME_BAD,	    /* an IP header that contradicts itself */
	FRAME_TOO_DEEP,	    /* more layers of one kind than LINK_MAX_*, IP6_MAX_*, TUNNEL_MAX_* */
	FRAME_ICMP,	    /* an ICMP error that quotes TCP; frame_decode_inner() only */
	FRAME_TUNNELS_FULL, /* TCP in a tunnel that found no number (flow/encap_id.h) */
	FRAME_VERDICTS	    /* array size, never returned */
};

static inline bool frame_claims_tcp(enum frame_verdict v)
{
	return v <= FRAME_TCP_BAD;
}

/* Name of a verdict, as in the `stats` event. */
const char *frame_verdict_name(enum frame_verdict v);

/* Decodes the TCP header of @frame, if that is what its IP header is followed by.
 * @frame  borrowed, only read
 * @ret    written only on FRAME_TCP; ret->options points into the frame and dies with it
 * Total: every input yields a verdict (tests/fuzz/fuzz_frame.c); O(headers). */
enum frame_verdict frame_decode(const struct frame *frame, struct segment *ret);

/* Where frame_decode_inner() looks. */
enum frame_inner { INNER_TUNNELS = 1, INNER_ICMP = 2 };

/* For what frame_decode() calls FRAME_NOT_TCP: the innermost TCP header in tunnels, or the one that
 * an ICMP error quotes, as @inside (a sum of enum frame_inner) allows.
 * @ret_tunnel	the innermost tunnel that was entered
 * @ret		on FRAME_ICMP the quoted segment, of which no more than addresses, ip_v, ports and
 *		seq was quoted; ts_ns is the error's, the rest is 0
 * Both are written only on FRAME_TCP and FRAME_ICMP.  vlan[] is of the innermost Ethernet header
 * that was met. */
enum frame_verdict frame_decode_inner(const struct frame *frame, unsigned inner,
				      struct tunnel *ret_tunnel, struct segment *ret);

/* Does the outermost IP packet of @frame carry a tunnel, or an ICMP error that quotes TCP, where
 * frame_decode_inner() would look?  These are what the kernel's filter lets pass besides TCP. */
bool frame_holds_inner(const struct frame *frame, unsigned inner);
