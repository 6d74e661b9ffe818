#include "synfind/retry.h"
#include <stdlib.h>
#include <string.h>
#include "common/clock.h"
#include "common/log.h"
#include "synfind/fdstore.h"
#include "synfind/listen.h"

#define RETRY_FDNAME "rejected"

enum { REPEAT_S = 60 };

/* For log_set_filter(): notes a message; false if it was logged less than a minute ago. */
static bool is_news(void *arg, const char *text)
{
	struct retry_memory *m = ((struct retry *)arg)->memory;
	uint64_t hash = 0xcbf29ce484222325u;
	uint64_t now_s = clock_ns(CLOCK_BOOTTIME) / 1000000000;
	unsigned oldest = 0;

	for (const char *s = text; *s; s++) /* FNV-1a */
		hash = (hash ^ (unsigned char)*s) * 0x100000001b3u;
	for (unsigned i = 0; i < RETRY_MESSAGES; i++) {
		if (m->message[i] == hash && m->logged_s[i] && now_s - m->logged_s[i] < REPEAT_S)
			return false;
		if (m->logged_s[i] < m->logged_s[oldest])
			oldest = i;
	}
	m->message[oldest] = hash;
	m->logged_s[oldest] = now_s;
	return true;
}

void retry_begin(struct retry *r, struct fdstore *fdstore)
{
	*r = (struct retry){ .fdstore = fdstore,
			     .stored =
				     fdstore->live && fdstore_has(fdstore, EVENTS_SOCKET, false) };
	if (r->stored && fdstore_has(fdstore, RETRY_FDNAME, true))
		r->memory = fdstore_memory(fdstore, RETRY_FDNAME, sizeof *r->memory);
	if (!r->memory)
		r->memory = &r->own;
	if (r->stored)
		log_set_filter(is_news, r);
}

int retry_failed(struct retry *r, int status)
{
	struct retry_memory *shared;

	if (!r->stored)
		return status;
	log_event(LOG_LEVEL_ERR, LOG_ID_BAD_CONFIG, NULL,
		  "Cannot start (see above): trying again each second; subscribers stay connected");
	r->memory->starts++;
	shared = r->memory == &r->own ? fdstore_memory(r->fdstore, RETRY_FDNAME, sizeof *shared)
				      : NULL;
	if (shared)
		*shared = r->own;
	return EXIT_FAILURE;
}

void retry_end(struct retry *r)
{
	log_set_filter(NULL, NULL);
	if (!r->memory->starts)
		return;
	log_info("Started after %llu starts that failed", (unsigned long long)r->memory->starts);
	fdstore_remove(r->fdstore, RETRY_FDNAME);
}
