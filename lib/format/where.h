/* where.h - expressions over the members of event lines, for subscribers that want some of them.
 *
 *     dest_port == 443 && tcp.reason != 'fin'
 *
 * A subset of CEL, the Common Expression Language (https://github.com/google/cel-spec);
 * docs/requests.md describes it.  An expression is compiled once, into memory of fixed size without
 * pointers out of itself, and evaluated on records, or on the text of lines that have no record
 * any more.  Both give the same verdict.  Evaluation takes at most WHERE_TERMS_MAX steps and
 * allocates nothing.  Pure. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct event;	     /* "flow/event.h" */
struct json_context; /* "format/json.h" */

enum {
	WHERE_TEXT_MAX = 1024, /* octets */
	WHERE_TERMS_MAX = 100, /* comparisons, calls, and elements of lists */
	WHERE_NESTING_MAX = 32,
};

struct where;

struct where_error {
	unsigned at;	/* the character where it is, from 1 */
	char text[200]; /* UTF-8, terminated */
};

/* Compiles @text.  0; -EINVAL with *e; -ENOMEM.  Free it with where_free(). */
int where_compile(struct where **ret, const char *text, size_t n, struct where_error *e);

/* NULL is allowed. */
void where_free(struct where *w);

/* Does the line hold that json_event() writes for these? */
bool where_event(const struct where *w, const struct event *e, uint64_t seq,
		 const struct json_context *c);

/* The kinds of event that it can hold for: bit 1 << enum event_kind. */
uint32_t where_kinds(const struct where *w);

/* Does @line hold?  It is a line of lib/format/json.h, with its newline or without.  Of another
 * text the verdict is undefined, but nothing outside of it is read. */
bool where_line(const struct where *w, const char *line, size_t n);
