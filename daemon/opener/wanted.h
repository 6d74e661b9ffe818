/* wanted.h - does the configuration name this interface?  By name, pattern, "auto" or "any". */
#pragma once
#include <net/if.h>
#include <stdbool.h>

struct link;

enum { WANTED_ROUTES_MAX = 32 };

/* Interfaces that have had a default route, for "auto"; zeroed: none. */
struct wanted {
	char routed[WANTED_ROUTES_MAX][IF_NAMESIZE];
	unsigned n;
};

/* Adds the interfaces that have a default route now. */
void wanted_look(struct wanted *w);

/* Do these options depend on routes? */
bool wanted_by_route(char *const *interfaces);

/* Does an entry of @interfaces, of options->interfaces, match @l?  *ret_named: by its full name. */
bool wanted_has(const struct wanted *w, char *const *interfaces, const struct link *l,
		bool *ret_named);
