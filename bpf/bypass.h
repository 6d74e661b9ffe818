/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only) */
/* bypass.h - what the filter of bypass.bpf.c shares with user space: one slot for each connection
 * whose plain segments it keeps to itself and counts.
 *
 * Direction 0 is the client's.  A number of a direction is written by the frames of that direction
 * alone, which the kernel shows one after the other; the other direction reads it. */
#pragma once
#include <linux/types.h>

enum { BYPASS_SLOTS = 16384 };

/* A slot goes round.  User space arms it, but is behind by what waits in its ring.  So all frames
 * pass yet, and the filter takes the newest numbers from them; a plain one becomes the marker.
 * When user space comes to the marker and finds that nothing is in the way, the slot is ready.  All
 * that came behind the marker was seen by the filter: if all of it was plain, it begins to
 * bypass.  The first frame that is not freezes the slot. */
enum bypass_phase {
	BYPASS_OFF,
	BYPASS_ARMED,
	BYPASS_READY,
	BYPASS_BYPASSED, /* plain frames do not pass */
	BYPASS_FROZEN,	 /* all frames pass; nothing in the slot changes any more */
};

enum bypass_may { BYPASS_MAY_ACK = 1, BYPASS_MAY_DATA = 2 };

struct bypass_key {	       /* of one direction */
	__u8 src[16], dst[16]; /* IPv4: the first 4 octets, the rest 0 */
	__u16 sport, dport;    /* network order */
	__u32 ip_v;
};

struct bypass_count { /* of what was bypassed, since the slot was taken */
	__u64 pkts, wire, payload;
	__u64 last_ns; /* bpf_ktime_get_ns() of the newest */
};

struct bypass_slot {
	__u32 phase;
	__u32 streak; /* plain frames behind the marker */
	__u32 marker; /* where it ends: next[] of its direction */
	__u8 marked, marker_dir;
	__u8 unpredicted; /* a frame behind the marker was not plain: arm it again */
	__u32 next[2], acked[2], window[2]; /* as in struct conn; acked[d]: of d's octets */
	__u32 base_next[2], base_acked[2];  /* the same when it was armed; when bypassing began */
	__u8 seen[2], may[2], shift[2];	    /* may: sum of enum bypass_may */
	struct bypass_count count[2];
};
