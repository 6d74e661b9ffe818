/* rings.h - opens the ring sockets of an interface, or of all, as the options say.
 *
 * Here privilege is separated from parsing.  The opener needs CAP_NET_RAW and reads no frame; the
 * daemon maps the descriptors (afring_map()) and needs no privilege.  In the same way the opener
 * loads the filters of mode=auto, and the daemon uses their maps. */
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
	bool by_program; /* several rings: fanout_member() under @secret assigns frames */
	uint64_t secret;
	enum capture_mode mode; /* MODE_AUTO: each ring has a filter with maps */
	struct bypassload filter[AFRING_GROUP_MAX];
};

/* The link that stands for all those of kind @link, enum link_type, that share rings. */
struct link rings_shared_link(unsigned link);

/* Opens the rings of @l, filtered and locked; they capture from now on.  The descriptors are the
 * caller's.  Several rings share the frames by an eBPF program under @secret (0: a new one).  If
 * that cannot be loaded, the kernel's hash is used and a warning logged.  0, or -errno with
 * *reterr_step, a literal. */
int rings_open(const struct options *o, const struct link *l, uint64_t secret, struct rings *ret,
	       const char **reterr_step);

/* Collects the descriptors for OPENER_RINGS (protocol.h) and returns their number. */
unsigned rings_collect(const struct rings *rings, int ret_fds[]);

/* Closes the descriptors here; what was sent stays open in the daemon. */
void rings_close(struct rings *rings);
