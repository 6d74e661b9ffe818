/* publisher_state.h - what the publisher knows, for those who own one or look at its rings. */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include <systemd/sd-event.h>
#include "base/fmt.h"
#include "synfind/identity.h"
#include "synfind/stream_state.h"
#include "synfind/subscribers.h"

enum {
	PLAIN_LINE_MAX = 40 << 10, /* a line without addresses */
};

/* A decoder as the publisher sees it. */
struct input_ring {
	struct input_ring *next;
	struct decoder *decoder;
	const char *iface;	    /* borrowed */
	struct ring_cursor *cursor; /* borrowed */
	bool resumed;		    /* from an earlier process */
	bool skip;		    /* its next record: rescue.h */
	/* watchdog.c: at its last look, and in the seconds before it */
	uint64_t beats, drops_reported, packets, events;
	uint64_t packets_per_s, events_per_s;
	bool looked, rates_known;
};

struct publisher {
	const struct options *o;
	sd_event *loop; /* borrowed, like the store */
	struct fdstore *fdstore;
	struct identity id;
	struct stream_state stream;
	bool adopted;  /* the stream is an earlier process's */
	bool all_new;  /* what was kept has been given up: rescue.h */
	bool reported; /* `restart` is published; the rings wait for it */
	struct pseudonym_key key;
	struct fmt_second second; /* of the last event's time */
	char *plain_line;	  /* PLAIN_LINE_MAX octets; owned */
	struct input_ring *rings;
	struct subscribers subscribers;
	int wake_fd;
	sd_event_source *wake_io, *more;
	sd_event_source *snapshot_timer; /* a decoder could not be asked; NULL: never yet */
	void (*on_wake)(void *arg);	 /* a decoder may have changed its state */
	void *wake_arg;
};
