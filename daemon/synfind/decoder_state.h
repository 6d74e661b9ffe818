/* decoder_state.h - the part of a decoder that outlives the process, in one memfd: tables,
 * counters, event ring, and the position in the packet ring.
 *
 *     head | progress | event ring | tracker | origins | links | ring switch | undo log
 *
 * A decoder changes it in transactions: one batch of frames, one tick, or one part of a sweep.  The
 * next process rolls back an open transaction (base/undo.h) and decodes its frames again.  The
 * events of a transaction become visible at its commit, so an event that is rolled back was never
 * published.  See docs/restart.md. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "format/json.h"
#include "source/source.h"
#include "synfind/decoder_view.h"

struct options;

struct decoder_progress { /* saved as a whole at the start of a transaction */
	CACHE_ALIGNED struct decoder_counters count;
	uint64_t number; /* of the next event; lost events are counted */
	struct source_position at;
	struct source_counts pending; /* kernel counts that are not in the counters yet */
	uint64_t loss_from_ns;	      /* start of the interval that new drops belong to */
};

/* Octets of all parts; @shared: including an undo log. */
size_t decoder_state_octets(const struct decoder_state_sizes *s, bool shared);

/* Lays the parts out in @memory: decoder_state_octets() zeroes, mapped by the caller and unmapped
 * by decoder_state_close(). */
void decoder_state_open(struct decoder_state *state, void *memory,
			const struct decoder_state_sizes *s, bool shared);

/* Opens a private state, for this process only.  0 or -errno. */
int decoder_state_private(struct decoder_state *state, const struct decoder_state_sizes *s);

/* Marks the memory as complete: from now on another process can resume it with packet ring
 * @ring. */
void decoder_state_sign(struct decoder_state *state, const struct decoder_ring *ring);

/* Maps the memory of @fd if it is signed, by whatever version.  Only head->ring is valid then.
 * 0; -EBADMSG: not a signed state; -errno. */
int decoder_state_map(struct decoder_state *state, int fd);

/* Views all of what decoder_state_map() mapped, takes the step that is due (rescue.h), and rolls an
 * open transaction back.  False: it has another layout or other sizes (then the step is NONE), its
 * last transaction is too long to be rolled back, or new memory is due.  @crashed: see
 * rescue_adopt(). */
bool decoder_state_adopt(struct decoder_state *state, const struct decoder_state_sizes *s,
			 bool crashed);

/* The deaths that are counted in mapped memory; NULL: it has another layout. */
const struct rescue *decoder_state_rescue(const struct decoder_state *state);

/* Copies what mapped memory says of interfaces that share the ring, if it has this layout. */
void decoder_state_copy_links(struct decoder_state *to, const struct decoder_state *mapped);

/* A zeroed one is fine. */
void decoder_state_close(struct decoder_state *state);

/* Hash of what a packet ring depends on: the options and the version of the filter.  If it changes,
 * a reload or a restart replaces the ring, without loss. */
uint64_t decoder_state_wants(const struct options *o);

/* Hash of the options that no reload can change.  If it changes, a restart replaces the ring. */
uint64_t decoder_state_fixed(const struct options *o);

/* The cookie of a socket; 0: it has none. */
uint64_t decoder_state_cookie(int fd);
