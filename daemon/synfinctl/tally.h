/* tally.h - counts connections by what they have in common. */
#pragma once
#include <jansson.h>
#include <stdbool.h>
#include "synfinctl/out.h"

#define TALLY_WORDS "no|state|server|client|port|interface"

enum tally_by {
	TALLY_NO,
	TALLY_STATE,
	TALLY_SERVER,
	TALLY_CLIENT,
	TALLY_PORT,
	TALLY_INTERFACE,
};

struct tally {
	enum tally_by by;
	json_t *groups; /* owned; name -> {connections, payload_*, retrans} */
};

/* Counts by @by; free it with tally_done(). */
void tally_init(struct tally *t, enum tally_by by);

/* Counts a tcp_close or snapshot. */
void tally_add(struct tally *t, const json_t *event);

/* A table, the largest group first; or a JSON object for each group.  Returns an exit status. */
int tally_print(const struct tally *t, struct out *out, bool json);

/* Frees it. */
void tally_done(struct tally *t);
