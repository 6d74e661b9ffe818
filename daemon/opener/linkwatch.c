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

int linkwatch_ask(int fd)
{
	struct {
		struct nlmsghdr h;
		struct ifinfomsg i;
	} req = { .h = { .nlmsg_len = sizeof req,
			 .nlmsg_type = RTM_GETLINK,
			 .nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP },
		  .i = { .ifi_family = AF_UNSPEC } };

	return send(fd, &req, sizeof req, 0) < 0 ? -errno : 0;
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

/* Reports one datagram; true: it ended a dump. */
static bool report_datagram(const char *buf, size_t n, linkwatch_fn *report, void *arg)
{
	const struct nlmsghdr *h = (const struct nlmsghdr *)buf;

	for (; NLMSG_OK(h, n); h = NLMSG_NEXT(h, n)) {
		const struct rtmsg *route = NLMSG_DATA(h);
		struct link l;

		if (h->nlmsg_type == NLMSG_DONE || h->nlmsg_type == NLMSG_ERROR)
			return true;
		if (link_parse(h, &l))
			report(arg, &l, h->nlmsg_type == RTM_DELLINK);
		if (h->nlmsg_type == RTM_NEWROUTE && h->nlmsg_len >= NLMSG_LENGTH(sizeof *route) &&
		    route->rtm_dst_len == 0)
			report(arg, NULL, false);
	}
	return false;
}

int linkwatch_read(int fd, linkwatch_fn *report, void *arg, bool until_done)
{
	_Alignas(struct nlmsghdr) char buf[32768]; /* the kernel's limit for a part of a dump */

	for (;;) {
		struct sockaddr_nl from;
		socklen_t octets = sizeof from;
		ssize_t n = recvfrom(fd, buf, sizeof buf, 0, (struct sockaddr *)&from, &octets);

		if (n < 0 && errno == ENOBUFS && until_done) {
			int r = linkwatch_ask(fd);

			if (r < 0)
				return r;
		} else if (n < 0 && errno == EAGAIN) {
			if (!until_done)
				return 0;
			poll(&(struct pollfd){ .fd = fd, .events = POLLIN }, 1, 1000);
		} else if (n < 0 && errno != EINTR) {
			return -errno;
		} else if (n > 0 && from.nl_pid == 0 && /* from the kernel only */
			   report_datagram(buf, (size_t)n, report, arg) && until_done) {
			return 0;
		}
	}
}
