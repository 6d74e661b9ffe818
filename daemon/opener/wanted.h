/* wanted.h - is this interface one that the configuration names?  Names, patterns, "auto", "any". */
#pragma once
#include <stdbool.h>

struct link;
struct options;

enum { WANTED_ROUTES_MAX = 32 };

/* Interfaces that carried a default route when it was filled in, for "auto". */
struct wanted {
	char routed[WANTED_ROUTES_MAX][16]; /* IF_NAMESIZE */
	unsigned n;
};

/* Looks at the routes of this network namespace. */
void wanted_init(struct wanted *w);

/* @interfaces: options->interfaces; *ret_named: by its full name. */
bool wanted_has(const struct wanted *w, char *const *interfaces, const struct link *l,
		bool *ret_named);

/* Does this entry of options->interfaces stand for more than a name? */
bool wanted_is_pattern(const char *entry);
