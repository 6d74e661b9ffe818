/* identity.h - who this is, for the hello line. */
#pragma once
#include "format/json.h"

struct identity {
	char host[65], boot_id[33], run_id[33];
};

/* Fills in host name, the kernel's boot id and, for a @daemon, a fresh id of this run ("" where
 * unknown; a file read twice shall give the same lines). */
void identity_init(struct identity *ret, bool daemon);

/* A hello for these interfaces; all pointers are borrowed. */
struct json_hello identity_hello(const struct identity *id, const char *const *ifaces, unsigned n);
