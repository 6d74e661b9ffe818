/* rings.h - the ring sockets of one interface, as the options want them.
 *
 * The cut between privilege and parsing goes here: whoever opens needs CAP_NET_RAW and sees no
 * frame; whoever gets the descriptors maps them (afring_map()) and needs nothing. */
#pragma once
#include "source/afring.h"

struct link;
struct options;

struct ring {
	int fd;
	struct afring_geometry geometry;
};

/* Opens the rings of @l, at most @max, with filter and lock, capturing from now on; the
 * descriptors are the caller's.  Their number, or -errno with *reterr_step, a literal. */
int rings_open(const struct options *o, const struct link *l, struct ring *ret, unsigned max,
	       const char **reterr_step);
