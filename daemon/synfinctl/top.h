/* top.h - the few lines with the largest scores. */
#pragma once
#include <stddef.h>
#include <stdint.h>

enum { TOP_LINE_MAX = 8192, TOP_KEY_MAX = 24 };

struct top_row {
	uint64_t score;
	char key[TOP_KEY_MAX];
	char *line; /* owned */
	size_t n;
};

struct top {
	unsigned n, max;
	uint64_t seen;	      /* calls of top_add() */
	struct top_row *rows; /* owned; largest first, of equal ones the first one that came */
};

/* Keeps up to @max lines.  0; -ENOMEM.  Free it with top_done(). */
int top_init(struct top *t, unsigned max);

/* Keeps the line if it is among the largest, in place of one with the same key ("": none).  A line
 * of more than TOP_LINE_MAX octets is not kept. */
void top_add(struct top *t, uint64_t score, const char *key, const char *line, size_t n);

/* Frees it; a zeroed one is fine. */
void top_done(struct top *t);
