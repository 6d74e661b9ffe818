#include "synfind/subscriber.h"
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include "feed/json.h"

enum {
	SEND_AT_ONCE = 1 << 18, /* then the others have their turn */
	LOST_LINE_MAX = 256,
	PIPE_AT_ONCE = 4096, /* PIPE_BUF: a pipe that polls as writable takes that without waiting */
	SKIP_SPARE = 8,	     /* a part of the log: who is late shall not be late again at once */
};

int subscriber_put_aside(struct subscriber *s, const char *octets, size_t n)
{
	if (s->aside_at == s->aside_len)
		s->aside_at = s->aside_len = 0;
	if (s->aside_len + n > s->aside_room) {
		char *p = realloc(s->aside, s->aside_len + n);

		if (!p)
			return -ENOMEM;
		s->aside = p;
		s->aside_room = s->aside_len + n;
	}
	memcpy(s->aside + s->aside_len, octets, n);
	s->aside_len += n;
	return 0;
}

uint64_t subscriber_skip(struct subscriber *s, const struct linelog *l, uint64_t clear,
			 uint64_t seq_now)
{
	uint64_t line = linelog_line_at(l, s->at), least = linelog_line_at(l, clear), lost;
	struct linelog_mark first = linelog_mark(l, line, seq_now), to;

	/* The rest of a line that was begun is kept, or it could never be completed. */
	if (first.at != s->at &&
	    subscriber_put_aside(s, linelog_octets(l, s->at), first.at - s->at) < 0)
		return SUBSCRIBER_BROKEN;
	line += (l->mark_next - line) / SKIP_SPARE + 1;
	if (line < least)
		line = least;
	if (line > l->mark_next)
		line = l->mark_next;
	to = linelog_mark(l, line, seq_now);
	s->at = to.at;
	lost = to.seq - first.seq;
	if (lost) {
		if (!s->lost_first)
			s->lost_first = first.seq + 1;
		s->lost_last = to.seq;
	}
	s->lost_total += lost;
	return lost;
}

/* After the line that was begun: says what is missing now. */
static void tell_lost(struct subscriber *s, uint64_t now_ns)
{
	char line[LOST_LINE_MAX];
	struct text t = { .p = line, .end = line + sizeof line };

	json_lost(&t, s->lost_last - s->lost_first + 1, s->lost_first, s->lost_last, "subscriber",
		  now_ns);
	if (subscriber_put_aside(s, line, (size_t)(t.p - line)) == 0)
		s->lost_first = s->lost_last = 0;
}

static ssize_t send_some(const struct subscriber *s, const char *p, size_t n)
{
	if (n > SEND_AT_ONCE)
		n = SEND_AT_ONCE;
	if (s->is_socket)
		return send(s->fd, p, n, MSG_DONTWAIT | MSG_NOSIGNAL);
	if (s->plain_file)
		return write(s->fd, p, n);
	/* The descriptor may be shared with a shell, so that O_NONBLOCK is not ours to set. */
	struct pollfd fd = { .fd = s->fd, .events = POLLOUT };

	if (poll(&fd, 1, 0) <= 0 || !(fd.revents & (POLLOUT | POLLERR | POLLHUP))) {
		errno = EAGAIN;
		return -1;
	}
	return write(s->fd, p, n < PIPE_AT_ONCE ? n : PIPE_AT_ONCE);
}

enum subscriber_verdict subscriber_send(struct subscriber *s, const struct linelog *l,
					uint64_t now_ns)
{
	for (size_t budget = SEND_AT_ONCE; budget;) {
		if (s->aside_at == s->aside_len && s->lost_first)
			tell_lost(s, now_ns);

		bool aside = s->aside_at < s->aside_len;
		const char *p = aside ? s->aside + s->aside_at : linelog_octets(l, s->at);
		uint64_t left = aside ? s->aside_len - s->aside_at : l->head - s->at;

		if (!left)
			return SUBSCRIBER_IDLE;
		ssize_t n = send_some(s, p, left);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return errno == EAGAIN || errno == ENOBUFS ? SUBSCRIBER_WAITS : SUBSCRIBER_GONE;
		if (aside)
			s->aside_at += (size_t)n;
		else
			s->at += (size_t)n;
		budget -= (size_t)n < budget ? (size_t)n : budget;
	}
	return SUBSCRIBER_WAITS;
}
