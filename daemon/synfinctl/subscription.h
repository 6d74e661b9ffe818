/* subscription.h - a subscription to the daemon's events (docs/requests.md): sends the request,
 * reads lines, connects again when the daemon is away and resumes after the last event.
 *
 * Standard output is flushed whenever no line waits; the stream ends if its reader is gone. */
#pragma once
#include <jansson.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include "synfinctl/dial.h"
#include "synfinctl/lines.h"

struct where; /* "format/where.h" */

enum { SUBSCRIPTION_WHERE_MAX = 4096 };

struct subscription_options {
	const struct dial_options *dial;
	json_t *request; /* owned by the stream: events, where, segments, ...; NULL: everything */
	/* Begins with the oldest event that the daemon's queue has; @truncated. */
	bool past;
	/* With past: ends with the newest event of now.  The request must have no "events":
	 * the expression can say event_type. */
	bool no_follow;
	/* Keeps run and number of the last event in this file, and begins after it.  NULL: none. */
	const char *cursor_file;
};

enum subscription_got {
	SUBSCRIPTION_LINE,   /* of the subscription */
	SUBSCRIPTION_NOTE,   /* the daemon is away, or back: @note */
	SUBSCRIPTION_QUIET,  /* no line came for quiet_ms */
	SUBSCRIPTION_END,    /* a signal, no_follow, or standard output is closed */
	SUBSCRIPTION_FAILED, /* after an error line: @status */
};

struct subscription {
	struct subscription_options o;
	struct lines lines;
	int fd; /* -1: not connected */
	int status;
	unsigned quiet_ms;    /* the caller's: SUBSCRIPTION_QUIET after so long; 0: never */
	bool quiet;	      /* that was so in the last wait */
	bool greeted;	      /* hello came */
	bool subscribed;      /* lines are those of the request */
	bool at_end;	      /* no_follow: the newest event of then came */
	bool resumable;	      /* run_id and seq are known */
	char run_id[40];      /* of the event @seq */
	uint64_t seq;	      /* the last event that came */
	uint64_t last_seq;    /* with no_follow: ends there */
	uint64_t truncated;   /* with past: number of the oldest event, if older ones are gone */
	struct where *wanted; /* with no_follow: the expression without the end */
	uint64_t saved_seq;   /* the one that the cursor file has */
	uint64_t saved_ns;    /* when that was written */
	sigset_t waiting;     /* the mask while it waits */
	json_t *event;	      /* of the line that was given last */
	char note[2 * CLI_TEXT_MAX];
};

/* Connects; SIGINT, SIGTERM and SIGHUP then end the stream instead of the process.  An exit status:
 * CLI_FOUND, or another one after an error line. */
int subscription_open(struct subscription *s, const struct subscription_options *o);

/* Waits for the next line; it and the event are borrowed until the next call.  The event is NULL if
 * the line is not a JSON object. */
enum subscription_got subscription_next(struct subscription *s, char **ret_line, size_t *ret_n,
					const json_t **ret_event);

/* Frees it, and writes the cursor file.  A zeroed one is fine. */
void subscription_close(struct subscription *s);

/* Gives @take the events that the daemon's queue has and for which @where holds, oldest first.
 * *@ret_truncated: as in struct subscription; NULL: not wanted.  An exit status. */
int subscription_past(const struct dial_options *dial, const char *where,
		      void (*take)(void *arg, const char *line, size_t n, const json_t *event),
		      void *arg, uint64_t *ret_truncated);
