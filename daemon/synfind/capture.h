/* capture.h - the interfaces that are watched: which they are, a decoder for each, and what
 * happens when they come and go.  Main thread only. */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include <systemd/sd-event.h>

struct opener;
struct options;
struct publisher;
struct fdstore;
struct interface; /* one interface and its decoder */

struct capture_totals { /* for the summary at the end */
	uint64_t packets, drops, connections, events, lost;
};

struct capture {
	const struct options *o;
	struct publisher *publisher;
	sd_event *loop;
	struct opener *opener; /* borrowed, as is the store */
	struct fdstore *fdstore;
	sd_event_source *opener_io, *retry;
	struct interface *interfaces;
	bool listed;	 /* the opener has told all that there are */
	bool reloading;	 /* it was asked to begin anew */
	unsigned pinned; /* decoder threads so far that were given a processor */
	bool starting, stopping;
	int error;		      /* at start: the first thing that failed */
	struct capture_totals totals; /* of taps that ended */
};

/* Goes on with the rings and decoders that are in the store, gets from the opener the rings of all
 * other interfaces that the options name, and starts their decoders.  Logs what fails; an interface
 * that was named by its full name must exist and open.  An opener that dies later disturbs nothing
 * that is watched.  0 or -errno. */
int capture_start(struct capture *c, const struct options *o, sd_event *loop,
		  struct publisher *publisher, struct opener *opener, struct fdstore *fdstore);

/* The options have changed: timeouts and limits for the decoders, interfaces for the opener, which
 * reads them for itself. */
void capture_reload(struct capture *c);

/* Asks every decoder to close what is open; when the last one has, the loop ends. */
void capture_stop(struct capture *c);

/* The process is to end and another one to go on: every decoder stops between two batches, and
 * nothing is closed.  Returns when they stand still. */
void capture_pause(struct capture *c);

/* A zeroed one is fine. */
void capture_destroy(struct capture *c);
