/* member.h - the members of event lines: one table for expressions, and for the tests that compare
 * encoder, schema and documentation with it.
 *
 * A row has the member's path in the line ("tcp.reason"), the kinds of line that have it, its type,
 * and where its value is in a struct event.  A member that comes from different places in different
 * kinds has several rows, one after the other, with the same path and type.  docs/events.md says
 * what the members mean.  Pure. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/fmt.h"
#include "flow/event.h"
#include "format/json.h"

enum member_type {
	MEMBER_INTEGER, /* above 2^63 - 1: counts as 2^63 - 1 */
	MEMBER_BOOL,
	MEMBER_STRING,
	MEMBER_TIME,	/* a string: RFC 3339 */
	MEMBER_ADDRESS, /* a string: IPv4 or IPv6 */
	MEMBER_LIST,	/* of integers */
	MEMBER_GROUP,	/* an object, or a list of strings or objects: only its presence counts */
};

struct member {
	const char *path;
	uint32_t kinds; /* bit 1 << kind */
	uint8_t type;	/* enum member_type */
	/* The rest is for member.c. */
	uint8_t read, width;
	uint16_t when, at; /* in struct event */
	uint16_t nwords;
	const struct conststr *words;
};

enum { MEMBERS_MAX = 254, MEMBER_PATH_MAX = 63 };

extern const struct member member_table[];
extern const unsigned member_count;

enum {
	MEMBER_LIST_MAX = 2,
	MEMBER_SHORT = 64,		     /* text that needs formatting, FMT_SPARE included */
	MEMBER_TEXT_MAX = JSON_LINE_MAX / 2, /* the longest name of an interface */
};

/* A value, by the member's type.  Valid while its source is. */
struct member_value {
	union {
		int64_t integer;
		bool truth;
		struct {		  /* MEMBER_STRING, MEMBER_TIME, MEMBER_ADDRESS */
			const char *text; /* not terminated; NULL: not formatted yet (address) */
			size_t n;
			const uint8_t *addr; /* MEMBER_ADDRESS: 4 or 16 octets */
			uint8_t ip_v;
		};
		struct {
			uint8_t items;
			uint16_t item[MEMBER_LIST_MAX];
		};
	};
	uint8_t octets[16];			 /* space for .addr */
	char space[MEMBER_TEXT_MAX + FMT_SPARE]; /* space for .text */
};

/* The value of @m in the line of @e; false: absent there.  @m must be a row for the kind of @e. */
bool member_of_event(const struct member *m, const struct event *e, uint64_t seq,
		     const struct json_context *c, struct member_value *ret);

enum { MEMBER_FORMATTED_MAX = 32 };

/* Is its value a text of at most MEMBER_FORMATTED_MAX octets that takes time to make? */
bool member_is_formatted(const struct member *m);

/* Is it event_type, whose word has the number of the kind? */
bool member_is_kind(const struct member *m);

/* Is the value always a word of m->words? */
bool member_is_word(const struct member *m);

/* The same for such a member: the index of its word, or -1: absent. */
int member_word_of_event(const struct member *m, const struct event *e,
			 const struct json_context *c);

/* Is it a number that is always there? */
bool member_is_number(const struct member *m);

/* The same number as member_of_event() gives for such a member. */
int64_t member_number_of_event(const struct member *m, const struct event *e);

/* The value of @m from its text in a line, JSON; false: it has another type. */
bool member_of_text(const struct member *m, const char *json, size_t n, struct member_value *ret);

/* Formats the text of an address, if it is not there yet. */
void member_address_text(struct member_value *v);

/* What the member can be in a line, if that is known: string number @i, from 0; NULL: no more. */
const char *member_word(const struct member *m, unsigned i);
