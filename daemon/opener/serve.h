/* serve.h - the opener at work: one daemon, from its connection to its end. */
#pragma once
#include <stdbool.h>
#include "common/sandbox.h" /* enum sandbox_role */

struct options;

struct serve {
	const struct options *o;
	int fd; /* of the daemon; stays the caller's */
	/* removes the events socket; NULL: that is somebody else's */
	void (*clean)(const struct options *o, bool directory);
};

/* What an opener with these options needs. */
enum sandbox_role serve_role(const struct options *o);

/* Serves until the daemon is gone (0) or wants another opener with a fresh configuration
 * (SERVE_AGAIN); -errno: it was logged. */
enum { SERVE_AGAIN = 1 };
int serve_run(const struct serve *s);
