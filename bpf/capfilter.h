/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only) */
/* capfilter.h - puts a filter of the user's before ours (tcp_filter.h): a frame must pass both.
 *
 * The user's is a classic BPF program for one link type, as libpcap compiles an expression
 * (daemon/common/capfilter.h).  Here it becomes one that rejects a frame or runs on beyond its end,
 * where the caller appends the next program, or an instruction that accepts.
 *
 * Ethernet frames may have VLAN tags.  In a ring the outermost one is not in the frame: the kernel
 * keeps it beside it.  Pure: no allocation, clock, log or global; any thread. */
#pragma once

struct sock_filter; /* <linux/filter.h> */

enum capfilter_tags {
	CAPFILTER_AS_IS, /* the program sees the frame as it is */
	/* The program sees the frame without up to CAPFILTER_TAGS tags in it.  If it computes
	 * places in the frame itself, or reads some octets of the addresses and some beyond them at
	 * once, it sees the frame as it is. */
	CAPFILTER_WITHOUT,
	/* For rings: the program sees the frame with the tag that the kernel keeps beside it.  Of
	 * the type and the tag it must read two octets at once, as `vlan` does. */
	CAPFILTER_WITH_OUTER,
};

enum { CAPFILTER_TAGS = 2 };

/* Writes at most @max instructions for the @n of @user and returns their number.  -ENOSPC: @max is
 * too small; -EINVAL: the kernel would refuse @user (it jumps backwards, as `protochain` does);
 * -EOPNOTSUPP: with CAPFILTER_WITH_OUTER, it computes places in the frame.  On failure @insns is
 * undefined. */
int capfilter_wrap(const struct sock_filter *user, unsigned n, enum capfilter_tags tags,
		   struct sock_filter *insns, unsigned max);
