#include "synfind/retry.h"
#include <stdint.h>
#include <stdlib.h>
#include <time.h>
#include "common/log.h"
#include "synfind/fdstore.h"
#include "synfind/listen.h"

#define RETRY_MEMORY "rejected"

struct retry_memory {
	uint64_t starts; /* that failed */
	uint64_t logged_s;
};

enum { LOGGED_EVERY_S = 60 };

static uint64_t seconds_now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_BOOTTIME, &ts);
	return (uint64_t)ts.tv_sec;
}

void retry_begin(struct retry *r, struct fdstore *fdstore)
{
	*r = (struct retry){ .fdstore = fdstore,
			     .stored =
				     fdstore->live && fdstore_has(fdstore, EVENTS_SOCKET, false) };
	if (!r->stored || !fdstore_has(fdstore, RETRY_MEMORY, true))
		return;
	r->memory = fdstore_memory(fdstore, RETRY_MEMORY, sizeof *r->memory);
	log_mute(r->memory && seconds_now() - r->memory->logged_s < LOGGED_EVERY_S);
}

int retry_failed(struct retry *r, int status)
{
	if (!r->stored)
		return status;
	if (!r->memory)
		r->memory = fdstore_memory(r->fdstore, RETRY_MEMORY, sizeof *r->memory);
	if (r->memory)
		r->memory->starts++;
	if (!log_mute(true)) {
		log_mute(false);
		log_event(LOG_LEVEL_ERR, LOG_ID_BAD_CONFIG, NULL,
			  "Cannot start (see above): trying again each second; subscribers stay "
			  "connected and connections known, as long as the rings last");
		if (r->memory)
			r->memory->logged_s = seconds_now();
	}
	return EXIT_FAILURE;
}

void retry_end(struct retry *r)
{
	log_mute(false);
	if (!r->memory)
		return;
	log_info("Started after %llu starts that failed", (unsigned long long)r->memory->starts);
	fdstore_remove(r->fdstore, RETRY_MEMORY);
}
