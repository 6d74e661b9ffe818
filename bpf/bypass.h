/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only) */
/* bypass.h - shared by the filter bypass.bpf.c and user space: one slot for each connection whose
 * plain segments the filter counts instead of passing them.
 *
 * Direction 0 is the client's.  Only frames of a direction write its numbers, one frame at a time;
 * frames of the other direction read them. */
#pragma once
#include <linux/types.h>

enum { BYPASS_SLOTS = 16384 };

/* The cycle of a slot.  User space arms it, but has not read yet what waits in its ring.  So all
 * frames still pass; the filter learns the newest numbers from them and makes a plain one the
 * marker.  When user space has read the marker and nothing prevents bypassing, it makes the slot
 * ready.  The filter has seen all frames after the marker: if all were plain, it starts bypassing.
 * The first other frame freezes the slot. */
enum bypass_phase {
	BYPASS_OFF,
	BYPASS_ARMED,
	BYPASS_READY,
	BYPASS_BYPASSED, /* plain frames do not pass */
	BYPASS_FROZEN,	 /* all frames pass; the slot does not change any more */
};

enum bypass_may { BYPASS_MAY_ACK = 1, BYPASS_MAY_DATA = 2 };

struct bypass_key {	       /* of one direction */
	__u8 src[16], dst[16]; /* IPv4: the first 4 octets, the rest 0 */
	__u16 sport, dport;    /* network order */
	__u32 ip_v;
};

struct bypass_count { /* of bypassed segments, since the slot was armed first */
	__u64 pkts, wire, payload;
	__u64 last_ns; /* bpf_ktime_get_ns() of the newest */
};

struct bypass_slot {
	__u32 phase;
	__u32 streak; /* plain frames after the marker */
	__u32 marker; /* its end: next[] of its direction */
	__u8 marked, marker_dir;
	__u8 unpredicted; /* a frame after the marker was not plain: arm it again */
	__u32 next[2], acked[2], window[2]; /* as in struct conn; acked[d]: of d's octets */
	__u32 base_next[2], base_acked[2];  /* the same when armed, then when bypassing began */
	__u8 seen[2], may[2], shift[2];	    /* may: sum of enum bypass_may */
	struct bypass_count count[2];
};
