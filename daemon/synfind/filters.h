/* filters.h - what subscribers want: kinds of line, and up to 64 different expressions.
 *
 * Each expression has a slot.  As a line is written, it is evaluated once per slot in use, and the
 * verdicts are bits beside the line (linelog.h).  Subscribers with the same expression share a
 * slot.  The slots outlive the process (stream_state.h); what is compiled from them does not.
 * Main thread only. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include "format/where.h"
#include "synfind/access.h"

struct event;	     /* "flow/event.h" */
struct json_context; /* "format/json.h" */

enum {
	FILTER_SLOTS = 64,
	FILTER_NONE = FILTER_SLOTS, /* every line */
	FILTERS_PER_UID = 8,
};

enum filter_policy { POLICY_DROP_OLDEST, POLICY_DROP_NEWEST, POLICY_DISCONNECT, POLICIES };

extern const char *const filter_policy_name[POLICIES];

/* Of one subscriber.  A line is wanted if its kind and its expression say so. */
struct subscription {
	uint32_t kinds;	    /* 1 << enum line_kind */
	uint8_t filter;	    /* slot, or FILTER_NONE */
	uint8_t policy;	    /* enum filter_policy */
	bool everything;    /* LINES_ALL, FILTER_NONE, no endpoints: lines need not be looked at */
	uint16_t endpoints; /* whose segments it wants: a set of places, segments.h ... */
	uint64_t segments_at; /* ... in lines from this position of the log on */
};

/* Every line; the oldest are dropped. */
extern const struct subscription subscription_default;

/* Kept memory.  It is written only while no subscriber refers to it. */
struct filter_slot {
	uint64_t since_seq; /* the bits of lines before this event are of another expression */
	uint32_t log;	    /* its users' log: with pseudonyms the same text means something else */
	uint32_t uid;	    /* who brought it */
	uint32_t octets;
	char text[WHERE_TEXT_MAX];
};

struct filters {
	struct filter_slot *slots;	   /* borrowed */
	struct where *where[FILTER_SLOTS]; /* NULL: unused */
	unsigned users[FILTER_SLOTS];
	uint64_t active[ACCESS_LOGS]; /* slots in use */
};

/* Frees what is compiled. */
void filters_destroy(struct filters *f);

/* The slot for @text (@n octets) in @log, for a user @uid; a line after event @seq has its bit.
 * Each use is given back with filters_release().  -EINVAL and *ret_error; -ENOSPC: all slots are in
 * use; -EDQUOT: those of this user are; -ENOMEM. */
int filters_use(struct filters *f, unsigned log, uid_t uid, const char *text, size_t n,
		uint64_t seq, struct where_error *ret_error);

/* Uses slot @i of an earlier process again, for a subscriber of @log.  False: it is not sound. */
bool filters_resume(struct filters *f, unsigned i, unsigned log);

/* @i may be FILTER_NONE. */
void filters_release(struct filters *f, unsigned i);

/* The bits of an event's record, as subscribers of @log see it. */
uint64_t filters_event(const struct filters *f, unsigned log, const struct event *e, uint64_t seq,
		       const struct json_context *c);

/* The bits of a line by its text. */
uint64_t filters_line(const struct filters *f, unsigned log, const char *line, size_t n);
