/* capture_state.h - what capture knows, shared by capture.c and the parts below it: interface.h. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <systemd/sd-event.h>

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
	int *others; /* of interfaces that are not watched, while some share rings; owned */
	size_t n_others;
	bool listed;	 /* the opener's list is complete */
	bool reloading;	 /* the opener was asked for a new list */
	bool relisted;	 /* this list is the answer */
	bool missing;	 /* it lacks interfaces that are named in full */
	unsigned pinned; /* decoder threads pinned so far */
	bool starting, stopping;
	int error;		      /* at start: the first failure */
	struct capture_totals totals; /* of decoders that ended */
};
