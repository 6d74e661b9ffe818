/* rings.h - the ring sockets of one interface, as the options want them.
 *
 * The cut between privilege and parsing goes here: whoever opens needs CAP_NET_RAW and sees no
 * frame; whoever gets the descriptors maps them (afring_map()) and needs nothing.  Likewise with
 * the filters of mode=auto: they are loaded here, and their maps are used there. */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include "common/options.h"
#include "source/afring.h"
#include "source/bypassload.h"

struct link;

struct rings {
	unsigned n;
	int fd[AFRING_GROUP_MAX];
	struct afring_geometry geometry[AFRING_GROUP_MAX];
	bool by_program; /* several: dealt out by fanout_member() under this secret: */
	uint64_t secret;
	enum capture_mode mode; /* MODE_AUTO: each has a filter with maps */
	struct bypassload filter[AFRING_GROUP_MAX];
};

/* Opens the rings of @l with filter and lock, capturing from now on; the descriptors are the
 * caller's.  @secret: to deal out by; 0: a new one.  Several share the interface by a program of
 * ours if we may load one, else by the kernel's hash, and a warning is logged.  0, or -errno with
 * *reterr_step, a literal. */
int rings_open(const struct options *o, const struct link *l, uint64_t secret, struct rings *ret,
	       const char **reterr_step);

/* All that the daemon gets, in the order of OPENER_RINGS (protocol.h): their number. */
unsigned rings_collect(const struct rings *rings, int ret_fds[]);

void rings_close(struct rings *rings);
