#include "common/notify.h"
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <systemd/sd-event.h>
#include <unistd.h>
#include "common/clock.h"
#include "common/log.h"

enum { TEXT_MAX = 512 };

struct message {
	struct message *next;
	int fd; /* owned; -1: none */
	char text[];
};

static struct message *first, **last = &first;
static unsigned waiting;
static int socket_fd = -1;
static sd_event *event_loop; /* borrowed */
static sd_event_source *writable;

bool notify_wanted(void)
{
	const char *path = getenv("NOTIFY_SOCKET");

	return path && *path;
}

/* ---- the socket ----------------------------------------------------------------------------- */

static int socket_connect(void)
{
	const char *path = getenv("NOTIFY_SOCKET");
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	size_t n = path ? strlen(path) : 0;

	if (!n)
		return -ENOTCONN;
	if ((*path != '/' && *path != '@') || n >= sizeof a.sun_path)
		return -EAFNOSUPPORT;
	memcpy(a.sun_path, path, n);
	if (*path == '@') /* abstract */
		a.sun_path[0] = '\0';
	socket_fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (socket_fd < 0)
		return -errno;
	return connect(socket_fd, (struct sockaddr *)&a,
		       (socklen_t)(offsetof(struct sockaddr_un, sun_path) + n)) < 0
		       ? -errno
		       : 0;
}

static void socket_close(void)
{
	writable = sd_event_source_disable_unref(writable);
	if (socket_fd >= 0)
		close(socket_fd);
	socket_fd = -1;
}

static int message_send(const char *text, int fd)
{
	union {
		struct cmsghdr h;
		char octets[CMSG_SPACE(sizeof fd)];
	} control = { .h = { .cmsg_level = SOL_SOCKET,
			     .cmsg_type = SCM_RIGHTS,
			     .cmsg_len = CMSG_LEN(sizeof fd) } };
	struct iovec iov = { (void *)text, strlen(text) };
	struct msghdr m = { .msg_iov = &iov,
			    .msg_iovlen = 1,
			    .msg_control = fd >= 0 ? &control : NULL,
			    .msg_controllen = fd >= 0 ? sizeof control : 0 };

	memcpy(CMSG_DATA(&control.h), &fd, sizeof fd);
	return sendmsg(socket_fd, &m, MSG_DONTWAIT | MSG_NOSIGNAL) < 0 ? -errno : 0;
}

/* Connects again if the manager has made its socket anew. */
static int message_try(const char *text, int fd)
{
	int r = socket_fd < 0 ? -ENOTCONN : message_send(text, fd);

	if (r != -ENOTCONN && r != -ECONNREFUSED && r != -ECONNRESET)
		return r;
	socket_close();
	r = socket_connect();
	if (r >= 0)
		r = message_send(text, fd);
	if (event_loop)
		notify_watch(event_loop);
	return r;
}

/* ---- what waits ----------------------------------------------------------------------------- */

static void message_remove(struct message **link)
{
	struct message *m = *link;

	*link = m->next;
	if (!m->next)
		last = link;
	waiting--;
	if (m->fd >= 0)
		close(m->fd);
	free(m);
}

/* Messages about a descriptor are about that one; others are about their first variable. */
static bool is_about_same(const char *a, const char *b)
{
	return strstr(a, "FDNAME=") ? !strcmp(a, b) : !strncmp(a, b, strcspn(a, "=") + 1);
}

static void waiting_flush(void)
{
	int r;

	while (first && (r = message_try(first->text, first->fd)) != -EAGAIN) {
		if (r < 0)
			log_limited(LOG_LEVEL_WARN, "Cannot notify the service manager: %s",
				    strerror(-r));
		message_remove(&first);
	}
	if (writable)
		sd_event_source_set_enabled(writable, first ? SD_EVENT_ON : SD_EVENT_OFF);
}

static int waiting_add(const char *text, int fd)
{
	size_t octets = strlen(text) + 1;
	struct message *m = waiting < NOTIFY_WAITING_MAX ? malloc(sizeof *m + octets) : NULL;

	if (!m)
		return -ENOBUFS;
	memcpy(m->text, text, octets);
	m->next = NULL;
	m->fd = fd < 0 ? -1 : fcntl(fd, F_DUPFD_CLOEXEC, 0);
	if (fd >= 0 && m->fd < 0) {
		free(m);
		return -errno;
	}
	*last = m;
	last = &m->next;
	waiting++;
	if (writable)
		sd_event_source_set_enabled(writable, SD_EVENT_ON);
	return 0;
}

static bool waiting_withdraw(const char *text, bool exactly)
{
	bool found = false;

	for (struct message **link = &first; *link;) {
		if (exactly ? !strcmp(text, (*link)->text) : is_about_same(text, (*link)->text))
			message_remove(link), found = true;
		else
			link = &(*link)->next;
	}
	return found;
}

bool notify_withdraw(const char *text)
{
	return waiting_withdraw(text, true);
}

/* ---- sending -------------------------------------------------------------------------------- */

int notify_send_fd(const char *text, int fd)
{
	int r = -EAGAIN;

	if (!notify_wanted())
		return -ENOTCONN;
	waiting_withdraw(text, false);
	waiting_flush();
	if (!first)
		r = message_try(text, fd);
	return r == -EAGAIN ? waiting_add(text, fd) : r;
}

void notify_send(const char *format, ...)
{
	char text[TEXT_MAX];
	va_list ap;
	int r;

	va_start(ap, format);
	vsnprintf(text, sizeof text, format, ap);
	va_end(ap);
	r = notify_send_fd(text, -1);
	if (r < 0 && r != -ENOTCONN)
		log_limited(LOG_LEVEL_WARN, "Cannot notify the service manager: %s", strerror(-r));
}

static int on_writable(sd_event_source *io, int fd, uint32_t revents, void *arg)
{
	(void)io, (void)fd, (void)revents, (void)arg;
	waiting_flush();
	return 0;
}

int notify_watch(sd_event *loop)
{
	int r;

	event_loop = loop;
	if (socket_fd < 0)
		return 0;
	writable = sd_event_source_disable_unref(writable);
	r = sd_event_add_io(loop, &writable, socket_fd, EPOLLOUT, on_writable, NULL);
	if (r >= 0)
		r = sd_event_source_set_enabled(writable, first ? SD_EVENT_ON : SD_EVENT_OFF);
	return r;
}

void notify_end(uint64_t wait_ns)
{
	uint64_t until = clock_ns(CLOCK_MONOTONIC) + wait_ns, now;

	waiting_flush();
	while (first && (now = clock_ns(CLOCK_MONOTONIC)) < until) {
		struct pollfd p = { .fd = socket_fd, .events = POLLOUT };

		if (poll(&p, 1, (int)((until - now) / 1000000) + 1) > 0)
			waiting_flush();
	}
	if (first)
		log_warn("The service manager did not take %u messages", waiting);
	while (first)
		message_remove(&first);
	socket_close();
	event_loop = NULL;
}
