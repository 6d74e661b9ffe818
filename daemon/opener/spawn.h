/* spawn.h - starts an opener as a child of a daemon that was started by hand.
 *
 * The child is two processes: a supervisor and the opener itself.  If the opener dies, the
 * supervisor starts another one on the same connection, and the daemon gets a HELLO; if it dies at
 * its start again and again, the supervisor gives up, and the connection ends.  Both ignore
 * the terminal's signals and end after the daemon. */
#pragma once
#include <stdbool.h>

struct options;

/* Forks: call it before starting threads.  @argc, @argv: to read the configuration again; @clean:
 * as in serve.h.  The child keeps only the privileges of serve_role().  Returns the daemon's end of
 * the connection (close-on-exec, non-blocking), or -errno. */
int spawn_opener(int argc, char **argv, const struct options *o,
		 void (*clean)(const struct options *o, unsigned directories));
