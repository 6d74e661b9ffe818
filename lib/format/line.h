/* line.h - finds members in the text of an event line.  Pure; O(length of the line). */
#pragma once
#include <stdbool.h>
#include <stddef.h>

struct line_member {
	const char *path; /* "tcp.reason" */
	unsigned path_len;
	unsigned n;	  /* octets of text; 0: absent */
	const char *text; /* its value, JSON, within the line; '{' or '[' for an object or a list */
};

/* Sets .text and .n of @n members.  The line must come from lib/format/json.c: of another text,
 * anything may be found, but nothing outside of it is read.  false: it is no object. */
bool line_find(const char *line, size_t len, struct line_member *m, unsigned n);
