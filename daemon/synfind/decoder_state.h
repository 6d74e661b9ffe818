/* decoder_state.h - what of one decoder outlives the process: its tables and counters, its ring of
 * events, and how far it has read its packet ring, in one memfd.
 *
 *     head | state | ring of events | tracker | tunnels | successor | undo log
 *
 * What a decoder changes, it changes in transactions: a batch of frames, a tick, a part of a sweep.
 * Whoever takes the memory over rolls back the one that was under way (base/undo.h), and decodes
 * its frames again.  Events of a transaction become visible when it is committed, so that one that
 * is rolled back was never told.  See docs/restart.md. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/counter.h"
#include "base/undo.h"
#include "flow/tracker.h"
#include "source/afring.h"

struct options;
struct ring_switch;

struct decoder_counters { /* written by the decoder's thread, read by any */
	struct counter verdicts[FRAME_VERDICTS];
	struct counter packets, drops, freezes;
	struct counter filtered;     /* segments that the mode does not want */
	struct counter split;	     /* segments of another decoder's connections: left out */
	struct counter bad_checksum; /* segments, of those that could be looked at as a whole */
	struct counter events, lost;
	struct counter beats; /* moves as long as the thread turns: at each batch, at each wait */
	struct tracker_counters tracker;
};

/* Several decoders may share a source's connections. */
struct decoder_share {
	unsigned index, of; /* this is number @index of @of; of == 1: it has all of them */
	bool known;	    /* fanout_member() under @secret tells whose a connection is */
	uint64_t secret;
	bool control; /* the source shows SYN, FIN and RST alone, whatever the mode is */
};

/* What the parts are made for: equal in whoever takes over. */
struct decoder_state_sizes {
	uint32_t max_connections, max_half_open; /* of this decoder */
	uint32_t events;
	uint32_t control, iface_id;
};

/* The packet ring that belongs to it: a socket of its own in the store. */
struct decoder_ring {
	uint64_t cookie; /* SO_COOKIE: this socket and no other */
	uint64_t wants;	 /* decoder_state_wants() of who had it made */
	uint64_t fixed;	 /* decoder_state_fixed() likewise */
	uint64_t block_timeout_ns;
	uint32_t inner; /* sum of enum frame_inner: what its filter lets pass besides TCP */
	struct afring_geometry geometry;
	int32_t ifindex;
	struct decoder_share share;
};

enum reported_link { REPORTED_NEW, REPORTED_UP, REPORTED_DOWN, REPORTED_GONE };

struct decoder_state_head {
	uint64_t magic; /* last: the rest of it is there */
	uint64_t layout, octets;
	uint64_t generation; /* of the ring of events and its numbers: no other has it; never 0 */
	struct decoder_state_sizes sizes;
	struct decoder_ring
		ring[2];  /* the one in use, and one that may take its place (ring_switch.h) */
	uint32_t current; /* 0 or 1: changed in a transaction */
	/* Of decoder 0: what subscribers know of the interface, and what they are being told, if
	 * anything: once the stream has a number from .link_report_seq on, they were. */
	uint8_t link_reported, link_reporting; /* enum reported_link */
	uint64_t link_report_seq;	       /* 0: nothing */
};

struct decoder_progress { /* saved as a whole at the start of a transaction */
	CACHE_ALIGNED struct decoder_counters count;
	uint64_t number; /* of the next event, lost ones included */
	struct afring_position at;
	struct afring_counts pending; /* the kernel's, not added to the counters yet */
	uint64_t loss_from_ns;	      /* since when drops would be new ones */
};

struct decoder_state { /* a process's view */
	void *memory;  /* owned; NULL: closed */
	size_t octets;
	struct decoder_state_head *head;
	struct decoder_progress *progress;
	void *events, *tracker, *encap_ids; /* where they lie */
	struct ring_switch *ring_switch;
	struct undo undo;
};

/* Of the parts; @shared: with an undo log. */
size_t decoder_state_octets(const struct decoder_state_sizes *s, bool shared);

/* Lays them out in @memory (zeroes, decoder_state_octets(), a mapping that decoder_state_close()
 * unmaps). */
void decoder_state_open(struct decoder_state *state, void *memory,
			const struct decoder_state_sizes *s, bool shared);

/* From here on another process can take it over, with the packet ring @ring. */
void decoder_state_sign(struct decoder_state *state, const struct decoder_ring *ring);

/* Maps what @fd has, if it is signed, by whatever version: then its head->ring can be believed, and
 * nothing else.  0; -EBADMSG: it is none; -errno. */
int decoder_state_map(struct decoder_state *state, int fd);

/* Goes on with what decoder_state_map() mapped: what was under way is rolled back.  False: it was
 * made by another version, for other sizes, or its last transaction was too long to be rolled
 * back. */
bool decoder_state_adopt(struct decoder_state *state, const struct decoder_state_sizes *s);

/* A zeroed one is fine. */
void decoder_state_close(struct decoder_state *state);

/* A number for what the options want of packet rings: others are to be made for other ones. */
uint64_t decoder_state_wants(const struct options *o);

/* A number for what no reload can change in it: rings for other ones are not taken over. */
uint64_t decoder_state_fixed(const struct options *o);

/* The packet ring in use. */
static inline struct decoder_ring *decoder_state_current_ring(const struct decoder_state *state)
{
	return &state->head->ring[state->head->current];
}

/* The cookie of a socket; 0: it has none. */
uint64_t decoder_state_cookie(int fd);
