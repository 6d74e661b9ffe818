#include "opener/linkwatch.h"
#include <errno.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

int linkwatch_open(bool routes)
{
	struct sockaddr_nl a = {
		.nl_family = AF_NETLINK,
		.nl_groups = RTMGRP_LINK | (routes ? RTMGRP_IPV4_ROUTE | RTMGRP_IPV6_ROUTE : 0),
	};
	int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_ROUTE), r;

	if (fd < 0)
		return -errno;
	r = bind(fd, (struct sockaddr *)&a, sizeof a) < 0 ? -errno : fd;
	if (r < 0)
		close(fd);
	return r;
}

static bool link_parse(const struct nlmsghdr *h, struct link *ret)
{
	const struct ifinfomsg *i = NLMSG_DATA(h);

	if ((h->nlmsg_type != RTM_NEWLINK && h->nlmsg_type != RTM_DELLINK) ||
	    h->nlmsg_len < NLMSG_LENGTH(sizeof *i) || i->ifi_family != AF_UNSPEC)
		return false;
	*ret = (struct link){ .ifindex = i->ifi_index,
			      .arphrd = i->ifi_type,
			      .flags = i->ifi_flags };
	int left = (int)(h->nlmsg_len - NLMSG_LENGTH(sizeof *i));

	for (const struct rtattr *a = IFLA_RTA(i); RTA_OK(a, left); a = RTA_NEXT(a, left))
		if (a->rta_type == IFLA_IFNAME && RTA_PAYLOAD(a) <= sizeof ret->name)
			memcpy(ret->name, RTA_DATA(a), RTA_PAYLOAD(a));
	ret->name[sizeof ret->name - 1] = '\0';
	return ret->name[0];
}

struct dump {
	bool ended;
	bool complete; /* until a message is dropped, or the list of links changes on the way */
};

static void report_datagram(const char *buf, size_t n, struct dump *dump, linkwatch_fn *report,
			    void *arg)
{
	const struct nlmsghdr *h = (const struct nlmsghdr *)buf;

	for (; NLMSG_OK(h, n); h = NLMSG_NEXT(h, n)) {
		const struct rtmsg *route = NLMSG_DATA(h);
		struct link l;

		if (h->nlmsg_type == NLMSG_ERROR || (h->nlmsg_flags & NLM_F_DUMP_INTR))
			dump->complete = false;
		if (h->nlmsg_type == NLMSG_ERROR || h->nlmsg_type == NLMSG_DONE)
			dump->ended = true;
		if (link_parse(h, &l))
			report(arg, &l, h->nlmsg_type == RTM_DELLINK);
		if (h->nlmsg_type == RTM_NEWROUTE && h->nlmsg_len >= NLMSG_LENGTH(sizeof *route) &&
		    route->rtm_dst_len == 0)
			report(arg, NULL, false);
	}
}

/* Reads until the dump has ended; without a request, until nothing is left.  After a dropped
 * message the kernel drops all others until nothing is left, so it reads on. */
static int read_messages(int fd, bool requested, linkwatch_fn *report, void *arg)
{
	_Alignas(struct nlmsghdr) char buf[32768]; /* the kernel's limit for a part of a dump */
	struct dump dump = { .complete = true };

	while (!dump.ended) {
		struct sockaddr_nl from;
		socklen_t octets = sizeof from;
		ssize_t n = recvfrom(fd, buf, sizeof buf, 0, (struct sockaddr *)&from, &octets);

		if (n < 0 && errno == ENOBUFS)
			dump.complete = false;
		else if (n < 0 && errno == EAGAIN && !requested)
			dump.ended = true;
		else if (n < 0 && errno == EAGAIN)
			poll(&(struct pollfd){ .fd = fd, .events = POLLIN }, 1, 1000);
		else if (n < 0 && errno != EINTR)
			return -errno;
		else if (n > 0 && from.nl_pid == 0) /* from the kernel only */
			report_datagram(buf, (size_t)n, &dump, report, arg);
	}
	return dump.complete ? 0 : -ENOBUFS;
}

int linkwatch_read(int fd, linkwatch_fn *report, void *arg)
{
	return read_messages(fd, false, report, arg);
}

int linkwatch_list(int fd, void (*begin)(void *arg), linkwatch_fn *report, void *arg)
{
	struct {
		struct nlmsghdr h;
		struct ifinfomsg i;
	} req = { .h = { .nlmsg_len = sizeof req,
			 .nlmsg_type = RTM_GETLINK,
			 .nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP },
		  .i = { .ifi_family = AF_UNSPEC } };
	int r = linkwatch_read(fd, report, arg); /* what is older than the list */

	if (r < 0 && r != -ENOBUFS)
		return r;
	begin(arg);
	return send(fd, &req, sizeof req, 0) < 0 ? -errno : read_messages(fd, true, report, arg);
}
