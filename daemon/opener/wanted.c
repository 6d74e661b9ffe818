#include "opener/wanted.h"
#include <fnmatch.h>
#include <net/if_arp.h>
#include <stdio.h>
#include <string.h>
#include "common/options.h"
#include "opener/linkwatch.h"

static bool is_routed(const struct wanted *w, const char *name)
{
	for (unsigned n = 0; n < w->n; n++)
		if (!strcmp(w->routed[n], name))
			return true;
	return false;
}

/* Adds the interfaces of default routes; @format finds name, destination, and mask or length. */
static void add_routes(struct wanted *w, const char *path, const char *format)
{
	char name[IF_NAMESIZE], dest[40], line[512];
	unsigned mask;
	FILE *f = fopen(path, "re");

	while (f && fgets(line, sizeof line, f))
		if (sscanf(line, format, name, dest, &mask) == 3 && !mask &&
		    strspn(dest, "0") == strlen(dest) && strcmp(name, "lo") &&
		    w->n < WANTED_ROUTES_MAX && !is_routed(w, name))
			snprintf(w->routed[w->n++], IF_NAMESIZE, "%s", name);
	if (f)
		fclose(f);
}

/* The columns are those of proc(5). */
void wanted_look(struct wanted *w)
{
	add_routes(w, "/proc/self/net/route", "%15s %39s %*s %*s %*s %*s %*s %x");
	add_routes(w, "/proc/self/net/ipv6_route",
		   "%2$39s %3$x %*s %*s %*s %*s %*s %*s %*s %1$15s");
}

bool wanted_by_route(char *const *interfaces)
{
	for (; *interfaces; interfaces++)
		if (!strcmp(*interfaces, "auto"))
			return true;
	return false;
}

static bool one_wants(const struct wanted *w, const char *entry, const struct link *l)
{
	if (!strcmp(entry, "any"))
		return true;
	if (!strcmp(entry, "auto"))
		return l->arphrd == ARPHRD_LOOPBACK || is_routed(w, l->name);
	return options_is_pattern(entry) ? !fnmatch(entry, l->name, 0) : !strcmp(entry, l->name);
}

bool wanted_has(const struct wanted *w, char *const *interfaces, const struct link *l,
		bool *ret_named)
{
	bool wanted = false;

	*ret_named = false;
	for (; *interfaces; interfaces++) {
		if (!one_wants(w, *interfaces, l))
			continue;
		wanted = true;
		*ret_named |= !options_is_pattern(*interfaces);
	}
	return wanted;
}
