/* ring_switch.h - from one packet ring to another of the same interface.
 *
 * For a while both rings get every frame.  The reader takes the old ring's frames up to a time, and
 * the new one's from RING_SWITCH_GAP_NS after it.  The stamps of one frame in two rings differ by
 * up to 165 us on a busy machine (tpacket_rcv() reads the clock once per ring), so no frame is
 * taken twice.  Frames within the gap are lost, counted and reported.
 *
 * Pure, without pointers: it lies in memory that outlives the process (decoder_state.h), and the
 * caller saves it.  Stamps are of CLOCK_REALTIME. */
#pragma once
#include <stdbool.h>
#include <stdint.h>

enum { RING_SWITCH_GAP_NS = 1000000 };

/* The longest time that a frame stays unread in a ring: the kernel's timer may retire a block later
 * than its timeout. */
static inline uint64_t ring_latency_ns(uint64_t block_timeout_ns)
{
	return 100000000 + 4 * block_timeout_ns;
}

enum ring_switch_phase {
	RING_SWITCH_NONE,
	RING_SWITCH_OLD,  /* reading the old ring up to the time */
	RING_SWITCH_NEW,  /* reading the new one, skipping what is before the gap's end */
	RING_SWITCH_OVER, /* the loss is to be reported: ring_switch_lost() */
};

struct ring_switch_clock { /* now, ns */
	uint64_t real, monotonic;
};

struct ring_switch {
	uint32_t phase;
	struct ring_switch_clock since; /* the beginning */
	uint64_t time_ns;		/* stamp of the last frame to take from the old ring */
	uint64_t newest_ns;		/* latest stamp that was read from the current ring */
	uint64_t until_ns;   /* monotonic: by then a frame of the gap has been read, if one came */
	uint64_t latency_ns; /* longest time that a frame stays unread in either ring */
	uint64_t in_gap[2];  /* frames skipped within the gap, in the old and the new ring */
	uint64_t after_gap;  /* frames skipped after it in the old ring, while it is read */
};

/* Begins; the new ring is capturing already.  @block_timeout_ns: the longer one of the two
 * rings'. */
void ring_switch_begin(struct ring_switch *s, struct ring_switch_clock now,
		       uint64_t block_timeout_ns);

/* Is a frame with stamp @ts_ns to be skipped in the ring that is being read? */
bool ring_switch_skips(struct ring_switch *s, uint64_t ts_ns);

/* Call it after each batch.  @empty: no frame is ready.  True: the phase has changed.  NEW: read
 * the new ring from now on.  OVER: the other ring is not needed any more.  From OLD to OVER,
 * because the clock was set: the old ring stays. */
bool ring_switch_advance(struct ring_switch *s, struct ring_switch_clock now, bool empty);

/* In phase OLD: the old ring stays. */
void ring_switch_abandon(struct ring_switch *s);

/* In phase OVER: ends the switch and returns the number of frames lost between .time_ns and
 * *ret_to_ns. */
uint64_t ring_switch_lost(struct ring_switch *s, uint64_t *ret_to_ns);
