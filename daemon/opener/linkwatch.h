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

/* Requests all links; linkwatch_read() reports them. */
int linkwatch_ask(int fd);

/* Reports all that has come.  With @until_done it waits for the end of the answer to
 * linkwatch_ask(), and asks again if the kernel dropped a part of it.  Without, -ENOBUFS: the
 * kernel dropped messages, so what changed is not known. */
int linkwatch_read(int fd, linkwatch_fn *report, void *arg, bool until_done);
