/* retry.h - a start that fails while the service manager keeps what an earlier process stored.
 *
 * A mistake in the configuration must not cost the subscribers and the tables: the process ends
 * with status 1, and the manager keeps the store and starts it again each second (status 2 would
 * end that).  The same message is logged at most once a minute, another one at once.  Without a
 * store nothing changes. */
#pragma once
#include <stdbool.h>
#include <stdint.h>

struct fdstore;

enum { RETRY_MESSAGES = 128 }; /* more than a wrong file can cause */

/* Outlives the failed starts. */
struct retry_memory {
	uint64_t starts;		   /* that failed */
	uint64_t message[RETRY_MESSAGES];  /* hashes of what was logged ... */
	uint64_t logged_s[RETRY_MESSAGES]; /* ... and when, since boot; 0: unused */
};

struct retry {
	struct fdstore *fdstore; /* borrowed */
	bool stored;		 /* there is something to keep */
	struct retry_memory own, *memory;
};

/* Call it first.  From now on the log leaves out what an earlier start has said; @r stays in
 * place. */
void retry_begin(struct retry *r, struct fdstore *fdstore);

/* The start failed with this exit status; returns the one to end with. */
int retry_failed(struct retry *r, int status);

/* The start succeeded. */
void retry_end(struct retry *r);
