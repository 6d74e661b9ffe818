/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only) */
/* bulk.h - what the filter of bulk.bpf.c shares with user space: one slot for each connection whose
 * plain segments it keeps to itself and counts.
 *
 * Direction 0 is the client's.  A number of a direction is written by the frames of that direction
 * alone, which the kernel shows one after the other; the other direction reads it. */
#pragma once
#include <linux/types.h>

enum { BULK_SLOTS = 16384 };

/* Least and largest window to believe in: GUARD_WINDOW_FLOOR and _MOST of flow/guard.h. */
enum { BULK_WINDOW_FLOOR = 65535, BULK_WINDOW_MOST = 1 << 30 };

/* A slot goes round.  User space arms it, but is behind by what waits in its ring.  So all frames
 * pass yet, and the filter takes the newest numbers from them; a plain one becomes the marker.
 * When user space comes to the marker and finds that nothing is in the way, the slot is ready.  All
 * that came behind the marker was seen by the filter: if all of it was plain, it begins to
 * withhold.  The first frame that is not freezes the slot. */
enum bulk_phase {
	BULK_OFF,
	BULK_ARMED,
	BULK_READY,
	BULK_WITHHELD, /* plain frames do not pass */
	BULK_FROZEN,   /* all frames pass; nothing in the slot changes any more */
};

enum bulk_may { BULK_MAY_ACK = 1, BULK_MAY_DATA = 2 };

struct bulk_key {	       /* of one direction */
	__u8 src[16], dst[16]; /* IPv4: the first 4 octets, the rest 0 */
	__u16 sport, dport;    /* network order */
	__u32 ip_v;
};

struct bulk_count { /* of what was withheld, since the slot was taken */
	__u64 pkts, wire, payload;
	__u64 last_ns; /* bpf_ktime_get_ns() of the newest */
};

struct bulk_slot {
	__u32 phase;
	__u32 streak; /* plain frames behind the marker */
	__u32 marker; /* where it ends: next[] of its direction */
	__u8 marked, marker_dir;
	__u8 odd; /* a frame behind the marker was not plain: arm it again */
	__u32 next[2], acked[2], window[2]; /* as in struct conn; acked[d]: of d's octets */
	__u32 base_next[2], base_acked[2];  /* the same when it was armed; when withholding began */
	__u8 seen[2], may[2], shift[2];	    /* may: sum of enum bulk_may */
	struct bulk_count count[2];
};
