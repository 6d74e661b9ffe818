/* linkwatch.h - which network interfaces there are, and what becomes of them (rtnetlink(7)).
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

/* What is told of each link: at first all that there are, later each change; @gone: it was
 * removed, or moved to another namespace. */
typedef void linkwatch_fn(void *arg, const struct link *l, bool gone);

/* A non-blocking descriptor that polls as readable when there is news.  @routes: also of default
 * routes that are added, told with a NULL link. */
int linkwatch_open(bool routes);

/* Asks for all links: they come as news. */
int linkwatch_ask(int fd);

/* Tells what has come until nothing is left.  With @until_done it waits for the end of the answer
 * to linkwatch_ask().  If the kernel had to drop news, it asks again by itself. */
int linkwatch_read(int fd, linkwatch_fn *report, void *arg, bool until_done);
