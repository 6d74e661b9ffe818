/* decoder.h - the thread that reads a packet ring through a pipeline into an event ring.
 *
 * A decoder owns its source, its pipeline with the kept state, and the producing end of one SPSC
 * ring.  Only the counters (read by the main thread) and the ring are shared.  It works in
 * transactions, so another process can resume it: decoder_state.h. */
#pragma once
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include "base/spsc.h"
#include "flow/event.h"
#include "synfind/decoder_view.h"
#include "synfind/links.h"
#include "synfind/lister.h"
#include "synfind/pipeline.h"

struct bypass_filter;
struct endpoints;
struct source;

/* Progress of a switch to another packet ring: ring_switch.h. */
enum decoder_switch {
	SWITCH_NONE,
	SWITCH_ASKED, /* set by the main thread; the decoder's thread sets the next ones */
	SWITCH_UNDER_WAY,
	SWITCH_DONE,
	SWITCH_REFUSED, /* the old ring stays */
};

struct decoder {
	struct event_sink sink; /* writes to the ring */
	struct decoder_state state;
	struct undo *undo;		/* NULL: nothing outlives the process */
	struct decoder_counters *count; /* &state.progress->count */
	uint64_t generation;		/* state.head->generation */
	struct pipeline pipeline;

	struct spsc ring;
	struct event *slot;
	struct lister lister;
	struct links links; /* if the ring is shared: those that it has */
	bool shared;

	struct source *source;			 /* owned */
	struct source *next_source, *old_source; /* during a ring switch; owned or NULL */
	_Atomic int switching;			 /* enum decoder_switch */
	struct bypass_filter *bypass;		 /* owned; NULL: the filter is a classic one */
	struct bypass_filter *other_bypass;	 /* that of the other ring during a switch */
	bool skip;				 /* the first frame: rescue.h */
	bool block_when_full; /* at the end: wait for the consumer instead of losing events */

	/* the thread */
	pthread_t thread;
	bool started;
	int wake_fd, stop_fd; /* borrowed: wakes the consumer; readable: look at .stopping */
	int control_fd;	      /* owned; readable: switching, new_config or lister has changed */
	int beat_ms; /* longest wait without a heartbeat; 0: unlimited.  Set before the start */
	_Atomic(struct tracker_config *) new_config; /* for the thread to apply; owned or NULL */
	_Atomic(struct endpoints *) new_endpoints;   /* likewise */
	struct endpoints *endpoints;		     /* the thread's; owned or NULL */
	_Atomic bool stopping;			     /* end; set before stop_fd becomes readable */
	_Atomic bool paused;	  /* end at once and close nothing: the next process resumes */
	_Atomic bool ended;	  /* set by the thread as its last step */
	_Atomic int close_reason; /* enum close_reason for connections open at the end */
	uint64_t stats_at_ns;
	uint64_t newest_ns;	   /* stamp of the last frame that was taken */
	bool stats_pending;	   /* frames came since the last look at the kernel's counters */
	uint32_t woken_at;	   /* ring position when the consumer was last woken */
	uint64_t waiting_since_ns; /* time of the first event after that; 0: none */
};

/* Makes a decoder that owns @source, its filter @bypass (may be NULL) and @memory, also on failure.
 * @memory: shared, decoder_state_octets() zeroes, to be signed with decoder_state_sign()
 * afterwards; NULL: private.  0 or -errno. */
int decoder_init(struct decoder *d, const struct options *o, struct source *source,
		 struct bypass_filter *bypass, const struct decoder_share *share, void *memory);

/* Resumes the decoder of an earlier process in a zeroed @d; @state is mapped by
 * decoder_state_map(), and owned from success on.  @crashed: that process did (rescue.h).
 * The caller then maps the packet ring at .state.progress->at.  0; -ESTALE: @state is of no use. */
int decoder_adopt(struct decoder *d, const struct options *o, struct decoder_state *state,
		  bool crashed);

/* Join the thread first.  A zeroed one is fine. */
void decoder_destroy(struct decoder *d);

/* Starts the thread.  It writes to the eventfd @wake_fd when events wait.  When it finds
 * .stopping set, it takes the frames that had arrived by then, closes all connections and ends;
 * @stop_fd wakes it for that.  0 or -errno. */
int decoder_start(struct decoder *d, int wake_fd, int stop_fd);

/* Hands new timeouts and limits to the thread.  0 or -ENOMEM. */
int decoder_configure(struct decoder *d, const struct options *o);

/* Has the thread follow what the opener reports of an interface that shares its ring.  False: no
 * memory. */
bool decoder_link(struct decoder *d, const struct link_news *news);

/* Asks the thread for a piece of a snapshot, which it answers in the ring: lister.h.  False: too
 * many wait, or the decoder ends.  Once it ends, what waits is dropped: no answer comes after
 * decoder_join(). */
bool decoder_list(struct decoder *d, const struct list_piece *q);

/* Asks it for @l, which is the thread's until list_is_over(); it then wakes the consumer.  False,
 * and @l stays the caller's: as above.  Once it ends, what waits is LIST_DROPPED, at the latest by
 * decoder_join(). */
bool decoder_list_all(struct decoder *d, struct list *l);

/* From now on the thread reports the segments of @list, each one.  0 or -ENOMEM. */
int decoder_report_segments(struct decoder *d, const struct endpoints *list);

/* Switches to @source, owned from now on, which is capturing already, while no other switch is
 * under way.  @ring describes it; the caller has stored its socket.  @bypass: its filter, owned as
 * well; NULL, as that of the old one is. */
void decoder_switch_ring(struct decoder *d, struct source *source, struct bypass_filter *bypass,
			 const struct decoder_ring *ring);

/* Closes the unused ring after a switch.  Call it when all decoders of the interface have finished
 * theirs: a socket that leaves a fan-out group changes which member gets what. */
void decoder_switched(struct decoder *d);

/* Waits for the thread to end. */
void decoder_join(struct decoder *d);
