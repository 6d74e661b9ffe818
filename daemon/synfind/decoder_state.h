/* decoder_state.h - the part of a decoder that outlives the process, in one memfd: tables,
 * counters, event ring, and the position in the packet ring.
 *
 *     head | progress | event ring | tracker | encap ids | ring switch | undo log
 *
 * A decoder changes it in transactions: one batch of frames, one tick, or one part of a sweep.  The
 * next process rolls back an open transaction (base/undo.h) and decodes its frames again.  The
 * events of a transaction become visible at its commit, so an event that is rolled back was never
 * published.  See docs/restart.md. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/undo.h"
#include "format/json.h"
#include "source/afring.h"

struct options;

/* How the decoders of one interface share its connections. */
struct decoder_share {
	unsigned index, of; /* number @index of @of; of == 1: it has all connections */
	bool known;	    /* fanout_member() under @secret says which decoder has a connection */
	uint64_t secret;
	bool control; /* the filter passes SYN, FIN and RST only, whatever the mode is */
};

/* The sizes of the parts.  Another process can resume only with the same sizes. */
struct decoder_state_sizes {
	uint32_t max_connections, max_half_open; /* of this decoder */
	uint32_t events;
	uint32_t control, iface_id;
};

/* The packet ring of the decoder.  Its socket is in the fd store under a name of its own. */
struct decoder_ring {
	uint64_t cookie; /* SO_COOKIE, identifies the socket */
	uint64_t wants;	 /* decoder_state_wants() at the request for the ring */
	uint64_t fixed;	 /* decoder_state_fixed() likewise */
	uint64_t block_timeout_ns;
	uint32_t inner; /* sum of enum frame_inner: what the filter passes besides TCP */
	struct afring_geometry geometry;
	int32_t ifindex;
	struct decoder_share share;
};

enum reported_link { REPORTED_NEW, REPORTED_UP, REPORTED_DOWN, REPORTED_GONE };

struct decoder_state_head {
	uint64_t magic; /* written last: the rest is complete */
	uint64_t layout, octets;
	uint64_t generation; /* unique id of the event ring and its numbers; never 0 */
	struct decoder_state_sizes sizes;
	struct decoder_ring ring[2]; /* the current one and its spare (ring_switch.h) */
	uint32_t current;	     /* 0 or 1: changed in a transaction */
	/* Decoder 0 only: the link state last published, and the one being published.  The latter
	 * counts as published once the stream has number link_report_seq. */
	uint8_t link_reported, link_reporting; /* enum reported_link */
	uint64_t link_report_seq;	       /* 0: no report is open */
};

struct decoder_progress { /* saved as a whole at the start of a transaction */
	CACHE_ALIGNED struct decoder_counters count;
	uint64_t number; /* of the next event; lost events are counted */
	struct afring_position at;
	struct afring_counts pending; /* kernel counts that are not in the counters yet */
	uint64_t loss_from_ns;	      /* start of the interval that new drops belong to */
};

struct decoder_state { /* a process's view */
	void *memory;  /* owned; NULL: closed */
	size_t octets;
	struct decoder_state_head *head;
	struct decoder_progress *progress;
	void *events, *tracker, *encap_ids; /* addresses of the parts */
	struct ring_switch *ring_switch;
	struct undo undo;
};

/* Octets of all parts; @shared: including an undo log. */
size_t decoder_state_octets(const struct decoder_state_sizes *s, bool shared);

/* Lays the parts out in @memory: decoder_state_octets() zeroes, mapped by the caller and unmapped
 * by decoder_state_close(). */
void decoder_state_open(struct decoder_state *state, void *memory,
			const struct decoder_state_sizes *s, bool shared);

/* Marks the memory as complete: from now on another process can resume it with packet ring
 * @ring. */
void decoder_state_sign(struct decoder_state *state, const struct decoder_ring *ring);

/* Maps the memory of @fd if it is signed, by whatever version.  Only head->ring is valid then.
 * 0; -EBADMSG: not a signed state; -errno. */
int decoder_state_map(struct decoder_state *state, int fd);

/* Views all of what decoder_state_map() mapped and rolls an open transaction back.  False: it has
 * another layout or other sizes, or its last transaction is too long to be rolled back. */
bool decoder_state_adopt(struct decoder_state *state, const struct decoder_state_sizes *s);

/* A zeroed one is fine. */
void decoder_state_close(struct decoder_state *state);

/* Hash of the options that a packet ring depends on.  If it changes, a reload replaces the ring. */
uint64_t decoder_state_wants(const struct options *o);

/* Hash of the options that no reload can change.  If it changes, a restart replaces the ring. */
uint64_t decoder_state_fixed(const struct options *o);

static inline struct decoder_ring *decoder_state_current_ring(const struct decoder_state *state)
{
	return &state->head->ring[state->head->current];
}

/* The cookie of a socket; 0: it has none. */
uint64_t decoder_state_cookie(int fd);
