#include "opener/wanted.h"
#include <fnmatch.h>
#include <net/if_arp.h>
#include <stdio.h>
#include <string.h>
#include "opener/linkwatch.h"

_Static_assert(sizeof(((struct wanted *)NULL)->routed[0]) == IF_NAMESIZE, "wanted.h");

bool wanted_is_pattern(const char *s)
{
	return strpbrk(s, "*?[") || !strcmp(s, "auto") || !strcmp(s, "any");
}

static bool is_routed(const struct wanted *w, const char *name)
{
	for (unsigned n = 0; n < w->n; n++)
		if (!strcmp(w->routed[n], name))
			return true;
	return false;
}

static void add_routed(struct wanted *w, const char *name)
{
	if (w->n < WANTED_ROUTES_MAX && !is_routed(w, name))
		snprintf(w->routed[w->n++], IF_NAMESIZE, "%s", name);
}

/* proc(5): net/route has the destination in column 2 and the mask in column 8; net/ipv6_route has
 * destination and prefix length first and the name last. */
void wanted_look(struct wanted *w)
{
	char name[IF_NAMESIZE], dest[40], line[512];
	unsigned len, mask;
	FILE *f = fopen("/proc/self/net/route", "re");

	while (f && fgets(line, sizeof line, f))
		if (sscanf(line, "%15s %39s %*s %*s %*s %*s %*s %x", name, dest, &mask) == 3 &&
		    !mask && strspn(dest, "0") == strlen(dest))
			add_routed(w, name);
	if (f)
		fclose(f);
	f = fopen("/proc/self/net/ipv6_route", "re");
	while (f && fgets(line, sizeof line, f))
		if (sscanf(line, "%39s %x %*s %*s %*s %*s %*s %*s %*s %15s", dest, &len, name) ==
			    3 &&
		    !len && strspn(dest, "0") == strlen(dest) && strcmp(name, "lo"))
			add_routed(w, name);
	if (f)
		fclose(f);
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
	return wanted_is_pattern(entry) ? !fnmatch(entry, l->name, 0) : !strcmp(entry, l->name);
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
		*ret_named |= !wanted_is_pattern(*interfaces);
	}
	return wanted;
}
