/* spawn.h - an opener for a daemon that was started by hand: a child of its own making.
 *
 * The child is two processes: one that keeps watch, and the opener proper.  If that one dies, the
 * first starts another over the same connection, and the daemon sees a HELLO.  Both end when the
 * daemon has, and leave the terminal's signals to it. */
#pragma once
#include <stdbool.h>

struct options;

/* Forks: call it while there is one thread and nothing is open that the child should not have.
 * @argc, @argv: to read the configuration again; @clean: as in serve.h.  The child keeps
 * CAP_NET_RAW, if there is one, and nothing else.  Returns the daemon's end of the connection
 * (close-on-exec, non-blocking), or -errno. */
int spawn_opener(int argc, char **argv, const struct options *o,
		 void (*clean)(const struct options *o, bool directory));
