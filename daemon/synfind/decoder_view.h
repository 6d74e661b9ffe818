/* decoder_view.h - where the parts of a decoder's memory are, and what its head says: see
 * decoder_state.h. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/counter.h"
#include "base/undo.h"
#include "flow/endpoints.h"
#include "source/afring.h"
#include "synfind/decoder_share.h"
#include "synfind/rescue.h"

/* The sizes of the parts.  Another process can resume only with the same sizes. */
struct decoder_state_sizes {
	uint32_t max_connections, max_half_open; /* of this decoder */
	uint32_t events;
	uint32_t control;
	uint32_t dedupe;
};

/* The packet ring of the decoder.  Its socket is in the fd store under a name of its own. */
struct decoder_ring {
	uint64_t cookie; /* SO_COOKIE, identifies the socket */
	uint64_t wants;	 /* decoder_state_wants() at the request for the ring */
	uint64_t fixed;	 /* decoder_state_fixed() likewise */
	uint64_t block_timeout_ns;
	uint32_t inner; /* sum of enum frame_inner: what the filter passes besides TCP */
	struct afring_geometry geometry;
	int32_t ifindex; /* negative: interfaces share it */
	struct decoder_share share;
};

enum reported_link { REPORTED_NEW, REPORTED_UP, REPORTED_DOWN, REPORTED_GONE };

/* An interface of the ring.  The main thread has it, but for the counts. */
struct stored_link {
	char name[16]; /* IFNAMSIZ; "": a free slot */
	int32_t ifindex;
	uint8_t reported; /* decoder 0 only: the state published last, enum reported_link */
	struct counter frames, events; /* changed in transactions of the decoder */
};

/* Slot 0 is that of the ring's one interface, the others are of those that share it. */
enum { LINK_SLOTS = 65536 };

struct decoder_state_head {
	uint64_t magic; /* written last: the rest is complete */
	uint64_t layout, octets;
	uint64_t generation; /* unique id of the event ring and its numbers; never 0 */
	struct decoder_state_sizes sizes;
	struct decoder_ring ring[2]; /* the current one and its spare (ring_switch.h) */
	uint32_t current;	     /* 0 or 1: changed in a transaction */
	/* Decoder 0 only: the link state that is being published, of which slot.  It counts as
	 * published once the stream has number link_report_seq. */
	uint32_t link_reporting_slot;
	uint8_t link_reporting;	  /* enum reported_link */
	uint64_t link_report_seq; /* 0: no report is open */
	uint32_t link_slots;	  /* all from here on were never used */
	struct rescue rescue;
	struct endpoint_meter segments; /* changed in transactions */
};

struct decoder_state { /* a process's view */
	void *memory;  /* owned; NULL: closed */
	size_t octets;
	struct decoder_state_head *head;
	struct decoder_progress *progress;
	void *events, *tracker, *origins; /* addresses of the parts */
	struct stored_link *links;	  /* LINK_SLOTS of them */
	struct ring_switch *ring_switch;
	struct undo undo;
	enum rescue_step step; /* of this process, since its adoption, after so many deaths */
	uint32_t deaths;
};

static inline struct decoder_ring *decoder_state_current_ring(const struct decoder_state *state)
{
	return &state->head->ring[state->head->current];
}
