/* rings.h - the ring sockets of one interface, as the options want them.
 *
 * The cut between privilege and parsing goes here: whoever opens needs CAP_NET_RAW and sees no
 * frame; whoever gets the descriptors maps them (afring_map()) and needs nothing. */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include "source/afring.h"

struct link;
struct options;

struct rings {
	unsigned n;
	int fd[AFRING_GROUP_MAX];
	struct afring_geometry geometry[AFRING_GROUP_MAX];
	bool by_program; /* several: dealt out by fanout_member() under this secret: */
	uint64_t secret;
};

/* Opens the rings of @l with filter and lock, capturing from now on; the descriptors are the
 * caller's.  Several share the interface by a program of ours if we may load one, else by the
 * kernel's hash, and a warning is logged.  0, or -errno with *reterr_step, a literal. */
int rings_open(const struct options *o, const struct link *l, struct rings *ret,
	       const char **reterr_step);
