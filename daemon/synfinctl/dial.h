/* dial.h - connects to the daemon's sockets; if that fails, says why, and what to do. */
#pragma once
#include <stdbool.h>
#include "synfinctl/cli.h"

#define DIAL_EVENTS "/run/synfind/events.sock"

struct dial_options {
	const char *socket; /* of the events; NULL: DIAL_EVENTS */
};

extern const struct cli_flag dial_flags[];
#define DIAL_GROUP(type, member)                                                                   \
	{                                                                                          \
		"Where the daemon is", dial_flags, offsetof(type, member)                          \
	}

enum dial_which { DIAL_TO_EVENTS, DIAL_TO_CONTROL };

/* The path of that socket: control.sock is beside events.sock. */
void dial_path(const struct dial_options *o, enum dial_which which, char ret[static CLI_TEXT_MAX]);

/* A connected descriptor, blocking; or -errno. */
int dial(const struct dial_options *o, enum dial_which which);

/* Why dial() gave -@err: cause and remedy, one sentence each. */
void dial_explain(const struct dial_options *o, enum dial_which which, int err,
		  char ret[static 2 * CLI_TEXT_MAX]);

/* dial(), and if that fails, dial_explain() on standard error.  A negative number then. */
int dial_or_explain(const struct dial_options *o, enum dial_which which);
