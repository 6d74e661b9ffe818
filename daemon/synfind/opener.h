/* opener.h - the daemon's end of its opener: see opener/protocol.h.
 *
 * The opener is a child (it comes back by itself, over the same connection), or a service, whose
 * socket is connected to again when it died.  Main thread only. */
#pragma once
#include <stdbool.h>
#include <stdint.h>

struct options;
struct opener_reply;

struct opener {
	int fd;		/* -1: none at present */
	char path[108]; /* of the service's socket; "": a child */
};

/* Starts the child, or connects to options->opener.  Call it before threads are made and before
 * privileges are given up.  Logs what fails; 0 or -errno. */
int opener_start(struct opener *p, int argc, char **argv, const struct options *o);

/* Connects to the service again, or does nothing for a child; -ENOTCONN: not there. */
int opener_connect(struct opener *p);

/* Sends a request, of rings that are dealt out by @secret (0: any); whoever does not read it is
 * gone, and opener_next() will say so. */
void opener_ask(struct opener *p, unsigned kind, int ifindex, uint64_t secret);

/* The next reply, with its descriptors, OPENER_FDS_MAX at most: 1; 0: none is there, and poll
 * @fd; -ENOTCONN: the opener is gone, and @fd is closed. */
int opener_next(struct opener *p, struct opener_reply *ret, int *ret_fds, unsigned *ret_nfds);

/* At the end: removes the events socket, and its @directory, that was made with privileges which
 * the daemon no longer has; then lets the opener go.  A closed one is fine. */
void opener_end(struct opener *p, bool socket_made, bool directory);
