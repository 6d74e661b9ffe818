/* linkwatch.h - lists the network interfaces and reports their changes (rtnetlink(7)).
 *
 * The socket sees its own network namespace.  Nothing here logs.  -errno on failure. */
#pragma once
#include <net/if.h>
#include <stdbool.h>

struct link {
	int ifindex;
	unsigned arphrd; /* ARPHRD_* */
	unsigned flags;	 /* IFF_* */
	char name[IF_NAMESIZE];
};

/* Called for each link, first for all that exist, later for each change.  @gone: it was removed or
 * moved to another namespace. */
typedef void linkwatch_fn(void *arg, const struct link *l, bool gone);

/* A non-blocking descriptor, readable when something has changed.  @routes: also report new default
 * routes, with a NULL link. */
int linkwatch_open(bool routes);

/* Reports what has come.  -ENOBUFS: the kernel dropped messages, so what changed is not known. */
int linkwatch_read(int fd, linkwatch_fn *report, void *arg);

/* Reports what has come, then calls @begin, then reports all links, and their changes meanwhile.
 * -ENOBUFS: a link or a change may be missing; to be called again. */
int linkwatch_list(int fd, void (*begin)(void *arg), linkwatch_fn *report, void *arg);
