#include "opener/protocol.h"
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* Aligned for control messages. */
union control {
	struct cmsghdr h;
	char octets[CMSG_SPACE(OPENER_FDS_MAX * sizeof(int))];
};
_Static_assert(sizeof(union control) == CMSG_LEN(OPENER_FDS_MAX * sizeof(int)), "no more fit");

int opener_send(int fd, const void *message, size_t octets, const int *fds, unsigned nfds)
{
	union control control = { 0 };
	struct iovec iov = { (void *)message, octets };
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1 };

	if (nfds > OPENER_FDS_MAX)
		return -EINVAL;
	if (nfds) {
		m.msg_control = &control;
		m.msg_controllen = CMSG_SPACE(nfds * sizeof(int));
		struct cmsghdr *c = CMSG_FIRSTHDR(&m);

		*c = (struct cmsghdr){ .cmsg_level = SOL_SOCKET,
				       .cmsg_type = SCM_RIGHTS,
				       .cmsg_len = CMSG_LEN(nfds * sizeof(int)) };
		memcpy(CMSG_DATA(c), fds, nfds * sizeof(int));
	}
	while (sendmsg(fd, &m, MSG_NOSIGNAL) < 0)
		if (errno != EINTR)
			return -errno;
	return 0;
}

void opener_close_fds(const int *fds, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		close(fds[i]);
}

int opener_receive(int fd, void *ret, size_t octets, int *ret_fds, unsigned *ret_nfds)
{
	union control control;
	struct iovec iov = { ret, octets };
	struct msghdr m = { .msg_iov = &iov,
			    .msg_iovlen = 1,
			    .msg_control = ret_fds ? &control : NULL,
			    .msg_controllen = ret_fds ? sizeof control : 0 };
	unsigned nfds = 0;
	struct cmsghdr *c;
	ssize_t n;

	do
		n = recvmsg(fd, &m, MSG_CMSG_CLOEXEC);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return -errno;
	c = CMSG_FIRSTHDR(&m); /* the kernel makes one of all descriptors */
	if (c && c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS) {
		nfds = (unsigned)((c->cmsg_len - CMSG_LEN(0)) / sizeof(int));
		memcpy(ret_fds, CMSG_DATA(c), nfds * sizeof(int));
	}
	if (n == 0 && !nfds)
		return 0;
	if ((size_t)n != octets || m.msg_flags & MSG_TRUNC ||
	    (ret_fds && m.msg_flags & MSG_CTRUNC)) {
		opener_close_fds(ret_fds, nfds);
		return -EBADMSG;
	}
	if (ret_nfds)
		*ret_nfds = nfds;
	return 1;
}
