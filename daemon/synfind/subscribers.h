/* subscribers.h - all subscribers: accepting, greeting, serving and removing them, and resuming
 * those of an earlier process (docs/restart.md).  One is stored for the next process after a
 * second, so that connections that come and go cost the service manager nothing.
 *
 * They read the line logs of a stream, which the publisher writes.  Main thread only. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "synfind/access.h"

typedef struct sd_event sd_event;
typedef struct sd_event_source sd_event_source;
struct fdstore;
struct identity;
struct options;
struct stream_state;
struct subscriber;

/* Priorities of the event loop: signals and new events come before idle chores.  Under load
 * draining never ends; then draining and the subscribers alternate. */
enum { PRIORITY_EVENTS = 0, PRIORITY_ACCEPT = 10, PRIORITY_SUBSCRIBER = 20, PRIORITY_MORE = 20 };

struct subscribers {
	const struct options *o; /* borrowed, like all up to the list */
	sd_event *loop;
	struct fdstore *fdstore;
	struct stream_state *stream;
	const struct identity *id;
	/* Set by the owner: writes the first @max names for hello lines and returns the number of
	 * all.  May be NULL. */
	unsigned (*ifaces)(void *arg, const char **ret, unsigned max);
	void *arg;
	/* Set by the owner: stream->segments has changed.  May be NULL. */
	void (*segments_changed)(void *arg);
	void *segments_arg;
	/* Set by the owner: asks for more of the snapshot that @s has under way.  True: there is a
	 * line to send. */
	bool (*pull)(void *publisher, struct subscriber *s);
	void *publisher;
	struct subscriber *list;
	unsigned connected, reading[ACCESS_LOGS];
	uint64_t slowest[ACCESS_LOGS]; /* every subscriber is at or after this position */
	int listen_fd;
	char path[108];	  /* of the socket; "": none */
	bool socket_made; /* listen_remove() the path at the end */
	bool directory_made;
	int output_error; /* of standard output: -errno; it was logged */
	sd_event_source *listen_io;
	sd_event_source *keep_timer; /* NULL: all are stored that can be */
};

/* Does nothing but set the members; all is borrowed. */
void subscribers_init(struct subscribers *all, const struct options *o, sd_event *loop,
		      struct fdstore *fdstore, struct stream_state *stream,
		      const struct identity *id);

/* Opens the socket of the options or the service manager, if any, and accepts from now on.  Logs
 * what fails; 0 or -errno. */
int subscribers_listen(struct subscribers *all);

/* Makes standard output a subscriber.  The loop ends when it is closed.  Logs what fails; 0 or
 * -errno. */
int subscribers_stdout(struct subscribers *all);

/* Resumes the subscribers of an earlier process.  The log still has what they did not get.
 * @other_key: it had another key for pseudonyms. */
void subscribers_adopt(struct subscribers *all, bool other_key);

/* Sends, and polls the descriptor if it blocks.  False: the subscriber was removed. */
bool subscribers_serve(struct subscriber *s, uint64_t now_ns);

/* Serves all subscribers that do not wait for their descriptor.  @more: further lines follow at
 * once, so that those that choose, who want few of them, get them together: a send costs some us,
 * however short it is. */
void subscribers_serve_all(struct subscribers *all, bool more, uint64_t now_ns);

/* Makes sure that no subscriber of @log still needs the octets that the next @n overwrite.  Ready
 * subscribers are served first, because a burst may be longer than the log; the others lose events,
 * by their policy.
 * Call it without an open transaction: the skips are final before anything is overwritten. */
void subscribers_clear(struct subscribers *all, unsigned log, size_t n);

/* After a reload: removes those that have lost access or are to see another log. */
void subscribers_recheck(struct subscribers *all);

/* Disconnects it for good: the next process does not resume it. */
void subscribers_remove(struct subscriber *s, const char *why);

/* Waits up to @wait_ns for them to read the rest, then disconnects them and closes the socket for
 * good. */
void subscribers_end(struct subscribers *all, uint64_t wait_ns);

/* Frees all of them in this process only: the next process resumes them.  A zeroed one is fine. */
void subscribers_destroy(struct subscribers *all);
