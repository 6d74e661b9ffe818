/* ring_switch.h - from one packet ring to another of the same interface: which frames of the new
 * one has the old one already given?
 *
 * For a while both rings get every frame.  The reader goes on with the old one, and what it takes
 * there is recorded; then it leaves the old one, at any frame (the cut), and leaves out of the new
 * one what it had.  The stamps of one frame in two rings are not equal, and frames of two
 * processors need not lie in the same order in both; but both differ by microseconds (tpacket_rcv()
 * asks the clock once per ring).  So, with a window that is much longer than that:
 *
 *     stamp <= cut - window    was in the old one
 *     up to cut + window       was, if a frame like it, of about that time, is on record; each record is
 *				good for one
 *     later			was not
 *
 * Frames that are alike are interchangeable.  What the filter of the new ring alone lets pass is
 * taken from cut - window on.
 *
 * Pure, without pointers: it lies in memory that outlives the process (decoder_state.h).  All that
 * changes is in the part up to .record, which the caller saves, or is saved in `undo`, or counts
 * for nothing if rolled back.  Stamps are of CLOCK_REALTIME; one that is stepped is seen by the
 * clocks drifting apart. */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include "wire/frame.h" /* struct frame, by value */

struct undo;

enum {
	RING_SWITCH_RECORDS =
		1 << 16, /* of the 40 ms before the cut: 1.6 million frames a second */
	RING_SWITCH_HEADS = 1 << 14,
};

enum ring_switch_phase {
	RING_SWITCH_NONE,
	RING_SWITCH_OLD, /* reading the old ring */
	RING_SWITCH_NEW, /* reading the new one, and leaving out */
};

struct ring_switch_clock { /* the present, ns */
	uint64_t real, monotonic;
};

struct ring_switch {
	uint32_t phase;
	bool full; /* more frames than can be recorded: there can be no cut */
	uint32_t records;
	uint64_t latency_ns;		/* the longest that a frame stays unseen in either ring */
	struct ring_switch_clock since; /* both got every frame, at the latest */
	uint64_t newest_ns;		/* stamp of what the reader had */
	uint64_t cut_ns;		/* stamp */
	uint64_t until_ns; /* monotonic: what is stamped in the window has been seen by then */

	struct ring_switch_record {
		uint64_t hash, ts_ns;
		uint32_t next; /* of the same head: number + 1; 0: none */
		uint32_t used;
	} record[RING_SWITCH_RECORDS]; /* the order in which they came */
	uint32_t head[RING_SWITCH_HEADS];
};

/* What ring_switch_begin(), _had(), _cut() and _over() change. */
#define RING_SWITCH_SCALARS offsetof(struct ring_switch, record)

/* From now on the old ring's frames are recorded; the new one has been there for some time.
 * @block_timeout_ns: the longer one of the two rings'. */
void ring_switch_begin(struct ring_switch *s, struct ring_switch_clock now,
		       uint64_t block_timeout_ns);

/* The reader has taken @f out of the old ring. */
void ring_switch_had(struct ring_switch *s, const struct frame *f);

enum ring_switch_verdict { RING_SWITCH_WAIT, RING_SWITCH_CUT, RING_SWITCH_IMPOSSIBLE };

/* May the reader leave the old ring, behind what it had?  @empty: nothing was ready there.  With
 * RING_SWITCH_CUT that is done.  RING_SWITCH_IMPOSSIBLE: the clock was stepped, or it is too much:
 * the old ring stays, and the phase is NONE again. */
enum ring_switch_verdict ring_switch_cut(struct ring_switch *s, struct ring_switch_clock now,
					 bool empty);

/* Had the old ring given @f, of the new one? */
bool ring_switch_leaves_out(struct ring_switch *s, struct undo *u, const struct frame *f);

/* Does the new ring give nothing any more that the old one had?  Then the phase is NONE again. */
bool ring_switch_over(struct ring_switch *s, struct ring_switch_clock now, bool empty);
