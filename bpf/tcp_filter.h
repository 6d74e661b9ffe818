/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only) */
/* tcp_filter.h - builds the classic BPF program that passes the headers of TCP frames.
 *
 * It runs in the kernel for each frame of the interface (SO_ATTACH_FILTER; Linux
 * Documentation/networking/filter.rst).  It accepts exactly the frames whose verdict by
 * frame_decode() is one of frame_claims_tcp().  It copies the headers up to the end of the TCP
 * header, as its data offset says: all that frame_decode() reads, and no payload.  With `inner` it
 * also accepts frame_holds_inner().  Of an ICMP error it copies the quoted IP header and 8 octets;
 * of a tunnel a fixed number of octets, because a classic program cannot parse what it carries.
 * With `control` a TCP frame must contain the flags, with SYN, FIN or RST set.
 *
 * Pure: no allocation, clock, log or global; any thread. */
#pragma once
#include <stdbool.h>
#include "wire/link.h"

struct sock_filter; /* <linux/filter.h> */

struct tcp_filter_spec {
	enum link_type link; /* LINK_ETHERNET or LINK_RAW_IP */
	unsigned inner;	     /* sum of enum frame_inner, "wire/frame.h" */
	bool control;	     /* pass only segment_is_control() */
};

/* The length of the longest program (the kernel allows BPF_MAXINSNS, 4096). */
enum { TCP_FILTER_MAX = 512 };

/* Octets copied after the outer IP header of a tunnel: two levels of VXLAN over IPv6 and a TCP
 * header take 232. */
enum { TCP_FILTER_TUNNEL_OCTETS = 256 };

/* Raise it if a program, also that of bypass.bpf.c, passes or copies something else than before: a
 * kept ring has the program of the build that opened it, and is then replaced. */
enum { TCP_FILTER_VERSION = 2 };

/* Writes the program of at most @max instructions (TCP_FILTER_MAX suffice) and returns their
 * number.  -EPFNOSUPPORT: not a link type of rings; -ENOSPC: @max is too small; -ERANGE: a jump
 * does not fit 8 bits (the limits in wire/link.h have grown: insert a BPF_JA).  On failure @insns
 * is undefined. */
int tcp_filter_build(const struct tcp_filter_spec *spec, struct sock_filter *insns, unsigned max);
