/* serve.h - the opener's main loop: serves one daemon until it disconnects. */
#pragma once
#include <stdbool.h>
#include "common/sandbox.h" /* enum sandbox_role */

struct serve {
	const struct options *o;
	int fd; /* of the daemon; borrowed */
	/* Removes the daemon's sockets; NULL: systemd does. */
	void (*clean)(const struct options *o, unsigned directories);
};

/* The privileges that these options need. */
enum sandbox_role serve_role(const struct options *o);

/* Serves until the daemon disconnects (0) or requests an opener with a new configuration
 * (SERVE_AGAIN); -errno: logged. */
enum { SERVE_AGAIN = 1 };
int serve_run(const struct serve *s);
