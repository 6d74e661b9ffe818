/* ring_switch.h - from one packet ring to another of the same interface: which frames of the new
 * ring were already read from the old one?
 *
 * For a while both rings get every frame.  The reader reads the old one and records its frames.
 * Then it leaves the old one after any frame (the cut) and skips in the new one what it has read.
 * The timestamps of one frame in two rings differ, and frames of two processors may be in another
 * order in each; but both differ by microseconds only (tpacket_rcv() reads the clock once per
 * ring).  So, with a window that is much longer than that:
 *
 *     stamp <= cut - window    the frame was in the old ring
 *     up to cut + window       it was, if a like frame of about that time is on record; a record
 *                              matches one frame
 *     later                    it was not
 *
 * Equal frames are interchangeable.  Frames that only the new filter passes count from cut - window
 * on.
 *
 * Pure, without pointers: it lies in memory that outlives the process (decoder_state.h).  The
 * caller saves the part before .record; `undo` saves other changes, or a rollback makes them
 * irrelevant.  Stamps are of CLOCK_REALTIME; a clock change shows as a drift between the clocks. */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include "wire/frame.h"

struct undo;

enum {
	RING_SWITCH_RECORDS = 1 << 16, /* of the 40 ms before the cut: 1.6 M frames/s */
	RING_SWITCH_HEADS = 1 << 14,
};

enum ring_switch_phase {
	RING_SWITCH_NONE,
	RING_SWITCH_OLD, /* reading the old ring */
	RING_SWITCH_NEW, /* reading the new one, skipping what the old one had */
};

struct ring_switch_clock { /* now, ns */
	uint64_t real, monotonic;
};

struct ring_switch {
	uint32_t phase;
	bool full; /* too many frames to record: no cut is possible */
	uint32_t records;
	uint64_t latency_ns;		/* longest time that a frame stays unread in either ring */
	struct ring_switch_clock since; /* from then on both rings get every frame */
	uint64_t newest_ns;		/* latest stamp that was read */
	uint64_t cut_ns;		/* stamp */
	uint64_t until_ns; /* monotonic: all frames of the window have been read by then */

	struct ring_switch_record {
		uint64_t hash, ts_ns;
		uint32_t next; /* of the same chain: index + 1; 0: none */
		uint32_t used;
	} record[RING_SWITCH_RECORDS]; /* in order of arrival */
	uint32_t head[RING_SWITCH_HEADS];
};

/* The part that ring_switch_begin(), _had(), _cut() and _over() change. */
#define RING_SWITCH_SCALARS offsetof(struct ring_switch, record)

/* Starts recording the old ring's frames; the new ring is capturing already.
 * @block_timeout_ns: the longer one of the two rings'. */
void ring_switch_begin(struct ring_switch *s, struct ring_switch_clock now,
		       uint64_t block_timeout_ns);

/* Records @f, which was read from the old ring. */
void ring_switch_had(struct ring_switch *s, const struct frame *f);

enum ring_switch_verdict { RING_SWITCH_WAIT, RING_SWITCH_CUT, RING_SWITCH_IMPOSSIBLE };

/* Makes the cut after the last recorded frame, if it is time (CUT).  @empty: no frame is ready in
 * the old ring.  IMPOSSIBLE: the clock was changed, or there are too many frames: the old ring
 * stays, and the phase is NONE. */
enum ring_switch_verdict ring_switch_cut(struct ring_switch *s, struct ring_switch_clock now,
					 bool empty);

/* Was @f, a frame of the new ring, read from the old one? */
bool ring_switch_leaves_out(struct ring_switch *s, struct undo *u, const struct frame *f);

/* Have all frames of the old ring passed in the new one?  Then the phase is NONE. */
bool ring_switch_over(struct ring_switch *s, struct ring_switch_clock now, bool empty);
