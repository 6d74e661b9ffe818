/* opener.h - the daemon's end of the connection to its opener: see opener/protocol.h.
 *
 * The opener is a child, which restarts by itself on the same connection, or a service, to which
 * the daemon reconnects.  Main thread only. */
#pragma once
#include <stdbool.h>
#include <stdint.h>

struct options;
struct opener_reply;
struct opener_request;

struct opener {
	int fd;			      /* -1: not connected */
	char path[108];		      /* of the service's socket; "": a child */
	struct opener_request *queue; /* owned: requests that are not sent yet */
	unsigned queued;
};

/* Starts the child, or connects to options->opener.  Call it before starting threads and before
 * dropping privileges.  Logs what fails; 0 or -errno. */
int opener_start(struct opener *p, int argc, char **argv, const struct options *o);

/* Reconnects to the service.  0 or -errno; -ENOTCONN for a child. */
int opener_connect(struct opener *p);

/* Sends a request for rings that share frames by @secret (0: a new one); later, if the opener does
 * not accept it now.  If the opener is gone, opener_next() reports that. */
void opener_ask(struct opener *p, unsigned kind, int ifindex, uint64_t secret);

/* The next reply with its descriptors, at most OPENER_FDS_MAX: 1; 0: none yet, poll @fd;
 * -ENOTCONN: the opener is gone, and @fd is closed. */
int opener_next(struct opener *p, struct opener_reply *ret, int *ret_fds, unsigned *ret_nfds);

/* Has a child remove our sockets (if @socket_made) and their @directories (listen.h), which the
 * daemon no longer has the privileges for, and disconnects.  A closed one is fine. */
void opener_end(struct opener *p, bool socket_made, unsigned directories);
