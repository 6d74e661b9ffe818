/* decoder.h - one source -> frames -> segments -> tracker -> events, and the thread that does it.
 *
 * A decoder owns its source, its flow table, its counters and the producing end of one SPSC ring.
 * Nothing of it is shared but the counters (read by the main thread) and the ring.  Another process
 * can go on with it: decoder_state.h.  For a file the same steps run in the caller's thread:
 * decoder_pull(). */
#pragma once
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include "base/spsc.h"
#include "format/json.h"
#include "flow/tracker.h"
#include "source/source.h"
#include "synfind/decoder_state.h"

struct bypass_filter;
struct options;
struct encap_ids;

/* From one packet ring to another: ring_switch.h. */
enum decoder_switch {
	SWITCH_NONE,
	SWITCH_ASKED, /* by the main thread; what follows is said by the decoder's */
	SWITCH_UNDER_WAY,
	SWITCH_DONE,
	SWITCH_REFUSED, /* the old ring stays */
};

struct decoder {
	struct decoder_state state;	/* what outlives the process, or would */
	struct undo *undo;		/* NULL: nothing does */
	struct decoder_counters *count; /* in it */
	uint64_t generation;		/* of the ring and its numbers: no other has it; never 0 */

	struct spsc ring;
	struct event_sink sink; /* into the ring */
	struct event *slot;

	struct source *source; /* owned */
	struct source *next,
		*retired;      /* in a turn: the ring to come, the one that was; owned or NULL */
	_Atomic int switching; /* enum decoder_switch */
	struct bypass_filter *bypass; /* owned; NULL: the source's filter is a classic one */
	struct tracker *tracker;
	bool control;		     /* leave out what segment_is_control() does not want */
	unsigned inner;		     /* sum of enum frame_inner: where TCP is looked for */
	struct encap_ids *encap_ids; /* numbers for those that were met */
	uint8_t iface_id;	     /* put into every frame: flows of two interfaces never mix */
	struct decoder_share share;
	uint32_t max_connections, max_half_open; /* its part of the options' */
	bool block_when_full; /* at the end: rather wait for the consumer than lose events */

	/* the thread */
	pthread_t thread;
	bool started;
	int wake_fd, stop_fd; /* borrowed: to wake the consumer; readable: stop */
	int control_fd;	      /* owned: readable: there is something new to look at */
	int beat_ms; /* the longest wait without a beat; 0: for ever.  Set before the start */
	_Atomic(struct tracker_config *) fresh; /* to be taken over by the thread, owned; or NULL */
	_Atomic bool paused;	  /* end at once, and leave all as it is: another process goes on */
	_Atomic bool ended;	  /* set by the thread, last of all */
	_Atomic int close_reason; /* enum close_reason for what is open at the end */
	uint64_t stats_at_ns;
	bool stats_pending; /* frames came since the kernel was asked for its counters */
	uint32_t woken_at;  /* the events before this were there when the consumer was last woken */
	uint64_t waiting_since_ns; /* the first event after those; 0: there is none */
};

/* Makes a decoder over @source and @bulk, the filter of the source or NULL, and owns them from then
 * on (also on failure).  @sink: where events go; NULL: into an SPSC ring of
 * options->event_ring_size records.  @share: NULL: it is the only one; the limits of the tables are
 * divided among those that share.  Returns 0 or -errno. */
int decoder_init(struct decoder *d, const struct options *o, struct source *source,
		 struct bypass_filter *bypass, struct event_sink *sink, uint8_t iface_id,
		 const struct decoder_share *share);

/* What is needed of memory to make one that another process can go on with. */
struct decoder_state_sizes decoder_sizes(const struct options *o, uint8_t iface_id,
					 const struct decoder_share *share);

/* As decoder_init(), with an SPSC ring, in @memory: zeroes, shared, decoder_state_octets() of
 * decoder_sizes(); unmapped by decoder_destroy(), or on failure.  decoder_state_sign() it then. */
int decoder_init_shared(struct decoder *d, const struct options *o, struct source *source,
			uint8_t iface_id, const struct decoder_share *share, void *memory);

/* Goes on with one that an earlier process made: @kept was mapped by decoder_state_map(), and is
 * taken over. 0; -ESTALE: it is of no use, and still the caller's.  It has no source yet: the
 * packet ring is to be mapped at .kept.state->at. */
int decoder_adopt(struct decoder *d, const struct options *o, uint8_t iface_id,
		  struct decoder_state *state);

/* Stops nothing: join first.  A zeroed one is fine. */
void decoder_destroy(struct decoder *d);

/* What the number in event.iface stands for: index of the interface, and the tunnel.  Any thread
 * that got the event. */
uint16_t decoder_where(const struct decoder *d, uint16_t iface, struct tunnel *ret_tunnel);

/* One batch of frames through the pipeline: their number, 0 at the end or when none are there, or
 * -errno, as source_next(). */
int decoder_pull(struct decoder *d);

/* Keeps @thread on processor @cpu: 0 or -errno. */
int thread_pin(pthread_t thread, unsigned cpu);

/* Runs the thread: @wake_fd is an eventfd that is written when events wait, @stop_fd becomes
 * readable when it is to close what is open and end.  Returns 0 or -errno. */
int decoder_start(struct decoder *d, int wake_fd, int stop_fd);

/* Other timeouts and limits, for the thread to take over at its next turn: -ENOMEM or 0. */
int decoder_configure(struct decoder *d, const struct options *o);

/* Goes over to @source, a ring that is capturing already: owned from now on.  No turn may be under
 * way.
 * @ring: what is kept of it; whoever follows this process needs its socket, if anything is kept. */
void decoder_switch_ring(struct decoder *d, struct source *source, const struct decoder_ring *ring);

/* The turn has ended, well or not: closes the ring that is of no use any more.  Only when all that
 * share the interface have ended theirs: those that leave a fan-out group change who gets what. */
void decoder_switched(struct decoder *d);

/* Waits for the thread to end. */
void decoder_join(struct decoder *d);

/* Copies the counters, any thread. */
void decoder_read_counters(const struct decoder *d, const char *iface, struct stats_decoder *ret);

/* Memory that costs nothing until it is touched; NULL: there is none.  munmap() it. */
void *map_lazily(size_t octets);

/* The present, ns since 1970 UTC. */
uint64_t wall_clock_ns(void);
