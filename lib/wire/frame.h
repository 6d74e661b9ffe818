/* frame.h - decodes one captured frame to one TCP segment.
 *
 * Pure and reentrant: no allocation, clock, log or global.
 * Layouts: IEEE 802.1Q cl. 9 (tags), RFC 791 3.1, RFC 8200 3-4, RFC 4302 2 (AH), RFC 9293 3.1;
 * RFC 3032 2.1 (MPLS), RFC 2516 4 (PPPoE), IEEE 802.2 and RFC 1042 (SNAP); for link types see
 * link.c, for tunnels tunnel.h. */
#pragma once
#include <stdbool.h>
#include <stdint.h>

struct segment; /* "wire/segment.h" */
struct tunnel;	/* "wire/tunnel.h" */

/* A frame as a source lends it. */
struct frame {
	const uint8_t *data; /* borrowed; caplen octets, link header first */
	uint32_t caplen;     /* 0..len */
	uint32_t len;	     /* octets on the wire; a super-frame counts once */
	uint64_t ts_ns;	     /* ns since 1970 UTC */
	uint32_t gso_size;   /* payload of each segment of a super-frame; 0: not one */
	uint32_t iface;	     /* index, see source_iface(); of a shared ring: ifindex */
	uint16_t vlan_tci;   /* outermost tag, which the kernel removed from the frame ... */
	uint8_t has_vlan;    /* ... when this is set */
	uint8_t link;	     /* enum link_type of "wire/link.h" */
	uint8_t unverified;  /* the checksum was not checked since the sender set it */
};

/* Ordered: verdicts up to FRAME_TCP_BAD claim to be TCP (frame_claims_tcp()).  The kernel's filter
 * (bpf/tcp_filter.h) passes exactly these frames and those of frame_holds_inner(). */
enum frame_verdict {
	FRAME_TCP,	    /* a segment was decoded */
	FRAME_TCP_CUT,	    /* TCP, but the capture cuts its header */
	FRAME_TCP_BAD,	    /* TCP with contradictory lengths */
	FRAME_NOT_TCP,	    /* well formed, but not TCP */
	FRAME_FRAGMENT,	    /* offset > 0: no TCP header (RFC 791 3.2, RFC 8200 4.5) */
	FRAME_CUT,	    /* too short to decide */
	FRAME_BAD,	    /* an inconsistent IP header */
	FRAME_TOO_DEEP,	    /* more layers of one kind than LINK_MAX_*, IP6_MAX_*, TUNNEL_MAX_* */
	FRAME_ICMP,	    /* an ICMP error that quotes TCP; frame_decode_inner() only */
	FRAME_TUNNELS_FULL, /* TCP in a tunnel without a number of its own (flow/origin.h) */
	FRAME_VERDICTS	    /* array size, never returned */
};

static inline bool frame_claims_tcp(enum frame_verdict v)
{
	return v <= FRAME_TCP_BAD;
}

/* Name of a verdict, as in the `stats` event. */
const char *frame_verdict_name(enum frame_verdict v);

/* Decodes the TCP header of the outermost IP packet.
 * @frame  borrowed, read-only
 * @ret    written only on FRAME_TCP; ret->options points into the frame
 * Total: every input yields a verdict (tests/fuzz/fuzz_frame.c).  O(headers). */
enum frame_verdict frame_decode(const struct frame *frame, struct segment *ret);

/* What frame_decode_inner() decapsulates. */
enum frame_inner { INNER_TUNNELS = 1, INNER_ICMP = 2 };

/* Like frame_decode(), but where that returns FRAME_NOT_TCP, decodes the innermost TCP header of a
 * tunnel, or the one that an ICMP error quotes.
 * @inner	sum of enum frame_inner
 * @ret_tunnel	the innermost tunnel
 * @ret		on FRAME_ICMP the quoted segment: only addresses, ip_v, ports and seq are quoted;
 *		ts_ns, iface and vlan[] are the error's, the rest is 0
 * Both are written only on FRAME_TCP and FRAME_ICMP.  vlan[] belongs to the innermost Ethernet
 * header. */
enum frame_verdict frame_decode_inner(const struct frame *frame, unsigned inner,
				      struct tunnel *ret_tunnel, struct segment *ret);

/* Is the outermost IP packet a tunnel, or an ICMP error that quotes TCP, as @inner selects?  The
 * kernel's filter passes these frames besides TCP. */
bool frame_holds_inner(const struct frame *frame, unsigned inner);
