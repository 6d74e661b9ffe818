/* conststr.h - a short constant string with its length.
 *
 * All have the same size, so that a copy is two stores for any of them. */
#pragma once

enum { CONSTSTR_MAX = 22 };

struct conststr {
	unsigned char n; /* octets; first, so that a plain "..." in a table does not compile */
	char s[CONSTSTR_MAX + 1]; /* terminated */
};

/* Initialiser; a literal that is too long does not compile. */
#define CONSTSTR(lit)                                                                              \
	{                                                                                          \
		sizeof(lit) - 1 + 0 * sizeof(char[sizeof(lit) <= CONSTSTR_MAX + 1 ? 1 : -1]), lit  \
	}
