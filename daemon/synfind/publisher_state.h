/* publisher_state.h - what the publisher knows, shared by publisher.c and subscribers.c. */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include <systemd/sd-event.h>
#include "base/fmt.h"
#include "synfind/identity.h"
#include "synfind/stream_state.h"

enum {
	PUBLISHER_IFACES = 255,	   /* named in one line */
	PLAIN_LINE_MAX = 20 << 10, /* a line without addresses */
};

/* A decoder as the publisher sees it. */
struct input_ring {
	struct input_ring *next;
	struct decoder *decoder;
	const char *iface;		/* borrowed */
	struct ring_cursor *cursor;	/* borrowed */
	bool resumed;			/* from an earlier process */
	uint64_t beats, drops_reported; /* watchdog.c: at its last look */
};

struct publisher {
	const struct options *o;
	sd_event *loop; /* borrowed, like the store */
	struct fdstore *fdstore;
	struct identity id;
	struct stream_state stream;
	bool adopted;  /* the stream is an earlier process's */
	bool reported; /* `restart` is published; new rings wait for it */
	struct pseudonym_key key;
	bool other_key;		  /* the key differs from the earlier process's */
	struct fmt_second second; /* of the last event's time */
	char plain_line[PLAIN_LINE_MAX];
	struct input_ring *rings;
	struct subscriber *subscribers;
	unsigned connected, reading[ACCESS_LOGS];
	uint64_t slowest[ACCESS_LOGS]; /* every subscriber is at or after this position */
	int listen_fd, wake_fd;
	char path[108];	  /* of the socket; "": none */
	bool socket_made; /* listen_remove() the path at the end */
	bool directory_made;
	sd_event_source *listen_io, *wake_io, *more;
	void (*on_wake)(void *arg); /* a decoder may have changed its state */
	unsigned (*ifaces)(void *arg, const char **ret, unsigned max); /* names for hello lines */
	void *arg;
};
