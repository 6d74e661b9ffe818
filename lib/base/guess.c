#include "base/guess.h"
#include <limits.h>
#include <stdio.h>
#include <string.h>

/* Levenshtein's distance; UINT_MAX if a name is longer than 40 octets. */
static unsigned edit_distance(const char *a, const char *b)
{
	unsigned row[42];
	size_t n = strlen(b);

	if (strlen(a) > 40 || n > 40)
		return UINT_MAX;
	for (unsigned j = 0; j <= n; j++)
		row[j] = j;
	for (unsigned i = 1; a[i - 1]; i++) {
		unsigned diagonal = row[0];

		row[0] = i;
		for (size_t j = 1; j <= n; j++) {
			unsigned best = diagonal + (a[i - 1] != b[j - 1]);

			diagonal = row[j];
			if (row[j] + 1 < best)
				best = row[j] + 1;
			if (row[j - 1] + 1 < best)
				best = row[j - 1] + 1;
			row[j] = best;
		}
	}
	return row[n];
}

void guess_offer(struct guess *g, const char *name, const char *before, const char *candidate,
		 const char *after)
{
	size_t n = strlen(name);
	unsigned d = edit_distance(name, candidate);

	if (n >= 3 && !strncmp(name, candidate, n))
		d = 1;
	if (d >= g->distance || d > (n < 3 ? 1 : n < 9 ? 2 : 3))
		return;
	g->distance = d;
	g->nearest = candidate;
	snprintf(g->text, sizeof g->text, "; did you mean %s%s%s?", before, candidate, after);
}
