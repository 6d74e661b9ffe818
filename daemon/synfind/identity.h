/* identity.h - host, boot and run of this process, for the hello line. */
#pragma once
#include <stdbool.h>

struct json_hello; /* "format/json.h" */

struct identity {
	char host[65], boot_id[33], run_id[33];
};

/* Fills in the host name, the kernel's boot id and, for a @daemon, a random id of this run; "" if
 * unknown.  A file has no run id, so that it gives the same lines each time. */
void identity_init(struct identity *ret, bool daemon);

/* A hello line for these interfaces; all pointers are borrowed. */
struct json_hello identity_hello(const struct identity *id, const char *const *ifaces, unsigned n);
