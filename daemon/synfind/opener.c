#include "synfind/opener.h"
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
#include "common/log.h"
#include "common/options.h"
#include "common/sandbox.h"
#include "opener/protocol.h"
#include "opener/spawn.h"
#include "synfind/listen.h"

enum { CLEAN_PATIENCE_MS = 2000 };

_Static_assert(sizeof(((struct opener *)NULL)->path) ==
		       sizeof(((struct sockaddr_un *)NULL)->sun_path),
	       "opener.h");

int opener_connect(struct opener *p)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	int r;

	if (!*p->path)
		return -ENOTCONN;
	p->fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (p->fd < 0)
		return -errno;
	memcpy(a.sun_path, p->path, sizeof p->path);
	r = connect(p->fd, (struct sockaddr *)&a, sizeof a) < 0 ? -errno : 0;
	if (r < 0) {
		close(p->fd);
		p->fd = -1;
	}
	return r;
}

int opener_start(struct opener *p, int argc, char **argv, const struct options *o)
{
	int r;

	*p = (struct opener){ .fd = -1 };
	if (o->opener) {
		snprintf(p->path, sizeof p->path, "%s",
			 o->opener); /* options.c checks that it fits */
		r = opener_connect(p);
		return r < 0 ? log_errno(r, "Cannot reach the opener on '%s'", o->opener) : 0;
	}
	if (!sandbox_may_capture()) {
		log_error("Capturing needs CAP_NET_RAW: run synfind as root, or give its file the "
			  "capability (setcap cap_net_raw+ep FILE); --read needs neither");
		return -EPERM;
	}
	r = spawn_opener(argc, argv, o, listen_remove);
	if (r < 0)
		return log_errno(r, "Cannot start the opener");
	p->fd = r;
	return 0;
}

static void opener_disconnect(struct opener *p)
{
	if (p->fd >= 0)
		close(p->fd);
	free(p->queue);
	p->fd = -1;
	p->queue = NULL;
	p->queued = 0;
}

/* Sends requests in order until the opener accepts no more. */
static void queue_flush(struct opener *p)
{
	unsigned n = 0;

	while (n < p->queued &&
	       opener_send(p->fd, &p->queue[n], sizeof *p->queue, NULL, 0) != -EAGAIN)
		n++;
	p->queued -= n;
	memmove(p->queue, p->queue + n, p->queued * sizeof *p->queue);
}

void opener_ask(struct opener *p, unsigned kind, int ifindex, uint64_t secret)
{
	struct opener_request *queue;

	if (p->fd < 0)
		return;
	queue = reallocarray(p->queue, p->queued + 1, sizeof *queue);
	if (!queue) {
		log_error("No memory for a request to the opener");
		return;
	}
	p->queue = queue;
	queue[p->queued++] =
		(struct opener_request){ .kind = kind, .ifindex = ifindex, .secret = secret };
	queue_flush(p);
}

int opener_next(struct opener *p, struct opener_reply *ret, int *ret_fds, unsigned *ret_nfds)
{
	int r = p->fd < 0 ? 0 : opener_receive(p->fd, ret, sizeof *ret, ret_fds, ret_nfds);

	if (p->queued) /* it replies to each request, so this is called when it has read one */
		queue_flush(p);
	if (r == -EAGAIN)
		return 0;
	if (r > 0)
		return r;
	opener_disconnect(p);
	return -ENOTCONN;
}

void opener_end(struct opener *p, bool socket_made, unsigned directories)
{
	struct pollfd fds = { .fd = p->fd, .events = POLLIN };
	bool waits = p->fd >= 0 && socket_made && !*p->path;
	struct opener_reply m;
	int rings[OPENER_FDS_MAX];
	unsigned n;

	if (waits)
		opener_ask(p, OPENER_CLEAN, (int)directories, 0);
	/* Waits for OPENER_CLEANED and discards other replies. */
	while (waits && poll(&fds, 1, CLEAN_PATIENCE_MS) > 0) {
		int r = opener_next(p, &m, rings, &n);

		if (r > 0)
			opener_close_fds(rings, n);
		waits = r >= 0 && !(r > 0 && m.kind == OPENER_CLEANED);
	}
	opener_disconnect(p);
}
