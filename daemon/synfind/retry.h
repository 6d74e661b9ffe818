/* retry.h - a start that fails while the service manager keeps what an earlier process stored.
 *
 * A mistake in the configuration must not cost the subscribers and the tables: the process ends
 * with status 1, and the manager keeps the store and starts it again each second (status 2 would
 * end that).  The first failure is logged, and then one a minute.  Without a store nothing
 * changes. */
#pragma once
#include <stdbool.h>

struct fdstore;
struct retry_memory;

struct retry {
	struct fdstore *fdstore;     /* borrowed */
	bool stored;		     /* there is something to keep */
	struct retry_memory *memory; /* of failed starts; NULL: none yet */
};

/* Call it first.  Mutes the log if a failure was logged less than a minute ago. */
void retry_begin(struct retry *r, struct fdstore *fdstore);

/* The start failed with this exit status; returns the one to end with. */
int retry_failed(struct retry *r, int status);

/* The start succeeded. */
void retry_end(struct retry *r);
