/* conststr.h - a short constant string that knows its length, to be copied without looking for its
 * end.
 *
 * All words have the same room, so that a copy is two stores whatever the word is. */
#pragma once

enum { CONSTSTR_MAX = 22 };

struct conststr {
	unsigned char n; /* octets of it, first: a plain "..." in a table does not compile */
	char s[CONSTSTR_MAX + 1]; /* terminated */
};

/* Initialiser; a literal that is too long does not compile. */
#define CONSTSTR(lit)                                                                              \
	{                                                                                          \
		sizeof(lit) - 1 + 0 * sizeof(char[sizeof(lit) <= CONSTSTR_MAX + 1 ? 1 : -1]), lit  \
	}
