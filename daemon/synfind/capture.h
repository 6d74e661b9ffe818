/* capture.h - the captured interfaces, with one decoder per packet ring: what happens when they
 * appear, disappear and change.  Main thread only. */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include <systemd/sd-event.h>

struct opener;
struct options;
struct publisher;
struct fdstore;
struct interface;

struct capture_totals { /* for the summary at the end */
	uint64_t packets, drops, connections, events, lost;
};

struct capture {
	const struct options *o;
	struct publisher *publisher;
	sd_event *loop;
	struct opener *opener; /* borrowed, like the store */
	struct fdstore *fdstore;
	sd_event_source *opener_io, *retry;
	struct interface *interfaces;
	bool listed;	 /* the opener's list is complete */
	bool reloading;	 /* the opener was asked for a new list */
	unsigned pinned; /* decoder threads pinned so far */
	bool starting, stopping;
	int error;		      /* at start: the first failure */
	struct capture_totals totals; /* of decoders that ended */
};

/* Resumes the stored interfaces, asks the opener for the rings of all others that the options name,
 * and starts their decoders.  An interface that the options name in full must exist.  Logs what
 * fails; 0 or -errno.  If the opener dies later, the captured interfaces are not affected. */
int capture_start(struct capture *c, const struct options *o, sd_event *loop,
		  struct publisher *publisher, struct opener *opener, struct fdstore *fdstore);

/* The options have changed: configures the decoders and has the opener read its options again. */
void capture_reload(struct capture *c);

/* Has every decoder close all connections.  The loop ends when the last one has. */
void capture_stop(struct capture *c);

/* Stops every decoder between two batches without closing anything, for the next process.  Returns
 * when they have stopped. */
void capture_pause(struct capture *c);

/* A zeroed one is fine. */
void capture_destroy(struct capture *c);
