#include "synfinctl/top.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int top_init(struct top *t, unsigned max)
{
	*t = (struct top){ .max = max, .rows = calloc(max, sizeof *t->rows) };
	return t->rows ? 0 : -ENOMEM;
}

static void top_remove(struct top *t, unsigned i)
{
	free(t->rows[i].line);
	t->n--;
	memmove(&t->rows[i], &t->rows[i + 1], (t->n - i) * sizeof *t->rows);
}

static void top_remove_key(struct top *t, const char *key)
{
	for (unsigned i = 0; *key && i < t->n; i++)
		if (!strcmp(t->rows[i].key, key)) {
			top_remove(t, i);
			t->seen--;
			return;
		}
}

void top_add(struct top *t, uint64_t score, const char *key, const char *line, size_t n)
{
	struct top_row row = { .score = score, .n = n };
	unsigned at;

	t->seen++;
	if (n > TOP_LINE_MAX || (t->n == t->max && score <= t->rows[t->n - 1].score))
		return;
	row.line = malloc(n + 1);
	if (!row.line)
		return;
	memcpy(row.line, line, n);
	row.line[n] = 0;
	snprintf(row.key, sizeof row.key, "%s", key);
	top_remove_key(t, row.key);
	if (t->n == t->max)
		top_remove(t, t->n - 1);
	for (at = t->n; at && t->rows[at - 1].score < score; at--)
		t->rows[at] = t->rows[at - 1];
	t->rows[at] = row;
	t->n++;
}

void top_done(struct top *t)
{
	while (t->n)
		top_remove(t, t->n - 1);
	free(t->rows);
	*t = (struct top){ 0 };
}
