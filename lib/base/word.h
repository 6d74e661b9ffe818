/* word.h - a short constant string that knows its length, to be copied without looking for its end.
 *
 * All words have the same room, so that a copy is two stores whatever the word is. */
#pragma once

enum { WORD_MAX = 22 };

struct word {
	unsigned char n;      /* octets of it, first: a plain "..." in a table does not compile */
	char s[WORD_MAX + 1]; /* terminated */
};

/* Initialiser; a literal that is too long does not compile. */
#define WORD_OF(lit)                                                                               \
	{                                                                                          \
		sizeof(lit) - 1 + 0 * sizeof(char[sizeof(lit) <= WORD_MAX + 1 ? 1 : -1]), lit      \
	}
