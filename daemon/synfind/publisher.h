/* publisher.h - the main thread's side: drains the decoders' rings, encodes each event once, keeps
 * the lines and offers them to every subscriber; serves the socket and standard output.
 *
 * One sd-event loop, one thread.  It owns the line log, the sequence numbers and the subscribers;
 * of the decoders it touches only the consuming end of their rings. */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include <systemd/sd-event.h>
#include "feed/json.h"
#include "feed/pseudonym.h"
#include "synfind/access.h"
#include "synfind/identity.h"
#include "synfind/linelog.h"

struct options;
struct subscriber;
struct decoder;

/* What subscribers may see.  Lines with pseudonyms are made while somebody reads them. */
enum stream {
	STREAM_ADDRESSES = ACCESS_ADDRESSES,
	STREAM_PSEUDONYMS = ACCESS_PSEUDONYMS,
	STREAMS,
};

/* A decoder as the publisher sees it. */
struct feed {
	struct feed *next;
	struct decoder *decoder;
	const char *iface; /* borrowed */
	uint64_t number;   /* of the event that comes next */
	uint64_t beats, drops_said; /* health.c: what it saw last */
};

struct publisher {
	const struct options *o;
	sd_event *loop; /* borrowed */
	struct identity id;
	struct linelog log[STREAMS]; /* the same events; see enum stream */
	struct pseudonym_key key;
	uint64_t seq; /* of the last event */
	struct put_second second; /* of its time */
	struct feed *feeds;
	struct subscriber *subscribers;
	unsigned connected, reading[STREAMS];
	uint64_t accepted, refused[ACCESS_VERDICTS], lost_events;
	uint64_t slowest[STREAMS]; /* no subscriber is behind this position */
	int listen_fd, wake_fd;
	char path[108]; /* where it listens; "": nowhere */
	bool socket_made; /* the path is to be removed at the end: listen_remove() */
	bool directory_made;
	sd_event_source *listen_io, *wake_io, *more;
	/* called when a decoder says something else than "events"; and for hello and stats lines */
	void (*on_wake)(void *arg);
	unsigned (*ifaces)(void *arg, const char **ret, unsigned max);
	void *arg;
};

/* Sets up log, socket and standard output as the options say; logs what fails; 0 or -errno. */
int publisher_init(struct publisher *p, const struct options *o, sd_event *loop);

/* Standard output becomes a subscriber; when nobody reads it any more, the loop ends. */
int publisher_stdout(struct publisher *p);

/* Closes all; the socket's path stays.  A zeroed one is fine. */
void publisher_destroy(struct publisher *p);

/* The options are other ones: who may not listen any more is disconnected. */
void publisher_reload(struct publisher *p);

/* Takes part in the stream from now on; @iface is borrowed until publisher_remove(). */
int publisher_add(struct publisher *p, struct decoder *d, const char *iface);

/* Drains what is left of @d's ring and forgets it. */
void publisher_remove(struct publisher *p, struct decoder *d);

/* Publishes an `iface` event. */
void publisher_iface(struct publisher *p, const char *iface, const char *state);

/* Publishes a `stats` event (several, if there are many decoders). */
void publisher_stats(struct publisher *p, uint64_t interval_ns);

/* Drains all rings, a budget of each; what is left then has its turn in the loop. */
void publisher_drain(struct publisher *p);

/* At the end: gives subscribers a little time to take what is theirs. */
void publisher_flush(struct publisher *p, uint64_t patience_ns);
