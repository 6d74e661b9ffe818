/* publisher.h - the main thread's side: drains the decoders' rings, encodes each event once into
 * the line log, and serves the subscribers on the socket and standard output.
 *
 * One sd-event loop, one thread.  The publisher owns the line log, the sequence numbers and the
 * subscribers.  Of the decoders it touches only the consuming end of their rings.
 *
 * With a store all of this continues in the next process (stream_state.h, docs/restart.md). */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include <systemd/sd-event.h>
#include "base/fmt.h"
#include "format/json.h"
#include "synfind/identity.h"
#include "synfind/stream_state.h"

struct options;
struct subscriber;
struct decoder;
struct fdstore;

enum { PUBLISHER_IFACES = 255 }; /* named in one line */

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

/* Resumes the stream of @fdstore (borrowed) with its subscribers, or begins one.  Opens the socket
 * that the options name.  Logs what fails; 0 or -errno. */
int publisher_init(struct publisher *p, const struct options *o, sd_event *loop,
		   struct fdstore *fdstore);

/* Call it when all rings are added.  Publishes `restart` if the stream is resumed. */
void publisher_start(struct publisher *p);

/* As subscribers_stdout(). */
int publisher_stdout(struct publisher *p);

/* Frees everything in this process.  With a store the stream and its subscribers continue in the
 * next one; the socket's path stays.  A zeroed one is fine. */
void publisher_destroy(struct publisher *p);

/* The options have changed: disconnects subscribers that have lost access. */
void publisher_reload(struct publisher *p);

/* Adds the event ring of @d, and resumes it if the stream knows its generation.  @iface is borrowed
 * until publisher_remove(). */
int publisher_add(struct publisher *p, struct decoder *d, const char *iface);

/* Drains the ring of @d and removes it. */
void publisher_remove(struct publisher *p, struct decoder *d);

/* Publishes an `iface` event. */
void publisher_iface(struct publisher *p, const char *iface, const char *state);

/* Publishes a `stats` event (several if there are many decoders). */
void publisher_stats(struct publisher *p, uint64_t interval_ns);

/* Drains all rings up to a budget; the loop drains the rest later. */
void publisher_drain(struct publisher *p);

/* Ends the stream: waits up to @wait_ns for subscribers to read the rest, then disconnects
 * them. */
void publisher_end(struct publisher *p, uint64_t wait_ns);

/* Drains all rings for the last time before the next process resumes the stream.  The decoders have
 * stopped. */
void publisher_pause(struct publisher *p);
