/* wanted.h - is this interface one that the configuration names?  Names, patterns, "auto",
 * "any". */
#pragma once
#include <stdbool.h>

struct link;
struct options;

enum { WANTED_ROUTES_MAX = 32 };

/* Interfaces that carried a default route at some look, for "auto"; zeroed: none. */
struct wanted {
	char routed[WANTED_ROUTES_MAX][16]; /* IF_NAMESIZE */
	unsigned n;
};

/* Looks at the routes of this network namespace, for new ones. */
void wanted_look(struct wanted *w);

/* Do these options depend on routes at all? */
bool wanted_by_route(char *const *interfaces);

/* @interfaces: options->interfaces; *ret_named: by its full name. */
bool wanted_has(const struct wanted *w, char *const *interfaces, const struct link *l,
		bool *ret_named);

/* Does this entry of options->interfaces stand for more than a name? */
bool wanted_is_pattern(const char *entry);
