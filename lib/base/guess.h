/* guess.h - "did you mean ...?": the candidate that is nearest to a name, as text for a message. */
#pragma once
#include <limits.h>

struct guess {
	unsigned distance;
	char text[96];	     /* "; did you mean ...?" or "" */
	const char *nearest; /* the candidate, borrowed; NULL: none */
};

#define GUESS_NONE ((struct guess){ .distance = UINT_MAX })

/* Takes @candidate if it is nearer to @name than the ones before.  Up to a third of @name may be
 * wrong; the beginning of @candidate counts as near.  @before, @after: quotes in the message. */
void guess_offer(struct guess *g, const char *name, const char *before, const char *candidate,
		 const char *after);
