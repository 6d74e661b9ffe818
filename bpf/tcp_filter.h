/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only) */
/* tcp_filter.h - the classic BPF program that lets TCP pass, and of it only the headers.
 *
 * It runs in the kernel for each frame of the interface (SO_ATTACH_FILTER; Linux
 * Documentation/networking/filter.rst).  It accepts exactly the frames whose verdict by
 * frame_decode() is one of frame_claims_tcp(), and returns as copy length the offset of the TCP
 * header + 60 (the longest TCP header, RFC 9293 3.1): all that frame_decode() reads, no payload.
 * With `inside` also those that frame_holds_inner(): of these the first octets behind the outer IP
 * header, since no such program can follow what they carry.  With `control` a frame of TCP must
 * reach to the octet of the flags, and have SYN, FIN or RST there.
 *
 * Pure: no allocation, clock, log or global; any thread. */
#pragma once
#include <stdbool.h>
#include "wire/link.h"

struct sock_filter; /* <linux/filter.h> */

struct tcp_filter_spec {
	enum link_type link; /* LINK_ETHERNET or LINK_RAW_IP */
	unsigned inner;	     /* sum of enum frame_inner, "wire/frame.h" */
	bool control;	     /* of TCP only SYN, FIN and RST: what segment_is_control() */
};

/* Instructions that the longest program needs at most (the kernel takes BPF_MAXINSNS, 4096). */
enum { TCP_FILTER_MAX = 512 };

/* Octets behind the outer IP header that are copied of a tunnel (two levels of VXLAN over IPv6 with
 * a TCP header inside take 232) and of an ICMP error. */
enum { TCP_FILTER_TUNNEL_OCTETS = 256, TCP_FILTER_ICMP_OCTETS = 8 + 60 + 8 };

/* Writes the program into @insns, which has room for @max instructions (TCP_FILTER_MAX do).
 * Returns their number; -EPFNOSUPPORT: not a link type of rings; -ENOSPC: @max is too small;
 * -ERANGE: a jump is longer than 8 bits can say (the bounds in wire/link.h have grown: put a
 * BPF_JA between).  On failure the content of @insns is undefined. */
int tcp_filter_build(const struct tcp_filter_spec *spec, struct sock_filter *insns, unsigned max);
