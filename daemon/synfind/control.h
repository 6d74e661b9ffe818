/* control.h - the control socket: questions about the daemon, and answers, in Varlink.
 *
 * The users who may subscribe may also ask: access.h.  A connection costs little and can take
 * little: calls are answered one at a time, in turn with the subscribers, and all of them together
 * get a tenth of the main thread's time.
 * A client that does not read its answers is asked for no more, and disconnected after a time.
 * Connections end with the process; the socket is kept for the next one.  Main thread only. */
#pragma once
#include <stdbool.h>
#include "synfind/control_methods.h"

typedef struct sd_event sd_event;
typedef struct sd_event_source sd_event_source;
struct control_client;
struct fdstore;

struct control {
	struct control_view view;
	struct fdstore *fdstore; /* borrowed, like the loop */
	sd_event *loop;
	struct control_client *clients;
	unsigned connected;
	int listen_fd;	     /* -1: none */
	bool socket_made;    /* listen_remove() the path at the end */
	bool directory_made; /* and its directory */
	bool off;	     /* the service manager's socket, which the options do not want */
	sd_event_source *listen_io;
	sd_event_source *patience; /* timer, while a client does not read; NULL: none does */
	uint64_t spell_since_ns, spent_ns; /* monotonic; and the CPU time of calls since then */
	/* The list that decoders are adding to. */
	struct control_list *list; /* of the asker; owned if that is gone; NULL: none */
	struct control_client *asker;
	sd_event_source *list_timer; /* to look how far they are */
	sd_event_source *pause;	     /* timer, while none is answered because that is too much */
};

/* Opens the socket of the options or the service manager, if any.  @managed: the events socket is
 * the service manager's, and so should be this one.  Call it before privileges are dropped.  Logs
 * what fails; 0 or -errno. */
int control_open(struct control *c, const struct options *o, struct fdstore *fdstore, bool managed);

/* Answers from now on; all is borrowed.  Logs what fails; 0 or -errno. */
int control_start(struct control *c, sd_event *loop, const struct publisher *publisher,
		  const struct capture *capture);

/* After a reload: disconnects those that have lost access, or are to see something else. */
void control_recheck(struct control *c);

/* No later process continues: closes the socket for good. */
void control_end(struct control *c);

/* Frees everything in this process.  The decoders have ended.  One that was not opened is fine if
 * its listen_fd is -1. */
void control_destroy(struct control *c);
