/* publisher.h - the main thread's side: drains the decoders' rings, encodes each event once, keeps
 * the lines and offers them to every subscriber; serves the socket and standard output.
 *
 * One sd-event loop, one thread.  It owns the line log, the sequence numbers and the subscribers;
 * of the decoders it touches only the consuming end of their rings.
 *
 * All of that goes on in the next process, if there is a store (stream_state.h,
 * docs/restart.md). */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include <systemd/sd-event.h>
#include "format/json.h"
#include "synfind/identity.h"
#include "synfind/stream_state.h"

struct options;
struct subscriber;
struct decoder;
struct fdstore;

enum { PUBLISHER_IFACES = 255 /* told in one line */ };

/* A decoder as the publisher sees it. */
struct input_ring {
	struct input_ring *next;
	struct decoder *decoder;
	const char *iface;	    /* borrowed */
	struct ring_cursor *cursor; /* how far; borrowed */
	bool resumed;		    /* it goes on where an earlier process was */
	uint64_t beats, drops_said; /* watchdog.c: what it saw last */
};

struct publisher {
	const struct options *o;
	sd_event *loop; /* borrowed, as is the store */
	struct fdstore *fdstore;
	struct identity id;
	struct stream_state stream;
	bool adopted;  /* it goes on; and what is new waits for ... */
	bool reported; /* ... `restart` to be told */
	struct pseudonym_key key;
	bool other_key;		  /* than the process before had */
	struct fmt_second second; /* of the last event's time */
	struct input_ring *rings;
	struct subscriber *subscribers;
	unsigned connected, reading[ACCESS_LOGS];
	uint64_t slowest[ACCESS_LOGS]; /* no subscriber is behind this position */
	int listen_fd, wake_fd;
	char path[108];	  /* where it listens; "": nowhere */
	bool socket_made; /* the path is to be removed at the end: listen_remove() */
	bool directory_made;
	sd_event_source *listen_io, *wake_io, *more;
	/* called when a decoder says something else than "events"; and for hello and stats lines */
	void (*on_wake)(void *arg);
	unsigned (*ifaces)(void *arg, const char **ret, unsigned max);
	void *arg;
};

/* Takes the stream over that @store (borrowed) has, with its subscribers, or begins one; sets up
 * socket and standard output as the options say.  Logs what fails; 0 or -errno. */
int publisher_init(struct publisher *p, const struct options *o, sd_event *loop,
		   struct fdstore *fdstore);

/* Once it is known who takes part: publishes `restart`, if the stream was taken over. */
void publisher_start(struct publisher *p);

/* Standard output becomes a subscriber; when nobody reads it any more, the loop ends. */
int publisher_stdout(struct publisher *p);

/* Closes all, but leaves the stream and its subscribers to the next process, as far as there is a
 * store; the socket's path stays.  A zeroed one is fine. */
void publisher_destroy(struct publisher *p);

/* The options are other ones: who may not listen any more is disconnected. */
void publisher_reload(struct publisher *p);

/* Takes part in the stream from now on, and goes on with the ring of events of @d.generation where
 * the process before was; @iface is borrowed until publisher_remove(). */
int publisher_add(struct publisher *p, struct decoder *d, const char *iface);

/* Drains what is left of @d's ring and forgets it. */
void publisher_remove(struct publisher *p, struct decoder *d);

/* Publishes an `iface` event. */
void publisher_iface(struct publisher *p, const char *iface, const char *state);

/* Publishes a `stats` event (several, if there are many decoders). */
void publisher_stats(struct publisher *p, uint64_t interval_ns);

/* Drains all rings, a budget of each; what is left then has its turn in the loop. */
void publisher_drain(struct publisher *p);

/* The stream ends with this process: gives subscribers a little time to take what is theirs, and
 * disconnects them. */
void publisher_end(struct publisher *p, uint64_t patience_ns);

/* The stream goes on in the next process, and this one is to end: the decoders stand still. */
void publisher_pause(struct publisher *p);
