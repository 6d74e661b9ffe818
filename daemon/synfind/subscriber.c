#include "synfind/subscriber.h"
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>
#include "base/undo.h"
#include "format/json.h"

enum {
	SEND_AT_ONCE = 1 << 18, /* then the others have their turn */
	LOST_LINE_MAX = 256,
	PIPE_AT_ONCE =
		4096,	/* PIPE_BUF: a pipe that polls as writable takes that without waiting */
	SKIP_SPARE = 8, /* a part of the log: who is late shall not be late again at once */
};

void subscriber_record_init(struct subscriber_record *record, unsigned log, uint64_t at)
{
	record->cursor = (struct subscriber_cursor){ .at = at };
	record->log = log;
	record->flight = FLIGHT_NONE;
}

int subscriber_prepend(struct subscriber_record *record, const char *octets, size_t n)
{
	struct subscriber_cursor *p = &record->cursor;

	if (p->prefix_at == p->prefix_len)
		p->prefix_at = p->prefix_len = 0;
	if (n > sizeof record->prefix - p->prefix_len)
		return -ENOBUFS;
	memcpy(record->prefix + p->prefix_len, octets, n);
	p->prefix_len += (uint32_t)n;
	return 0;
}

uint64_t subscriber_skip(struct subscriber_record *record, const struct linelog *l, struct undo *u,
			 uint64_t clear, uint64_t seq_now)
{
	struct subscriber_cursor *p = &record->cursor;
	uint64_t line = linelog_line_at(l, p->at), least = linelog_line_at(l, clear), lost;
	struct linelog_mark first = linelog_mark(l, line, seq_now), to;

	undo_save(u, p, sizeof *p);
	/* The rest of a line that was begun is kept, or it could never be completed. */
	if (first.at != p->at &&
	    subscriber_prepend(record, linelog_octets(l, p->at), first.at - p->at) < 0)
		return SUBSCRIBER_BROKEN;
	line += (l->end->mark_next - line) / SKIP_SPARE + 1;
	if (line < least)
		line = least;
	if (line > l->end->mark_next)
		line = l->end->mark_next;
	to = linelog_mark(l, line, seq_now);
	p->at = to.at;
	lost = to.seq - first.seq;
	if (lost) {
		if (!p->lost_first)
			p->lost_first = first.seq + 1;
		p->lost_last = to.seq;
	}
	p->lost_total += lost;
	return lost;
}

/* After the line that was begun: says what is missing now. */
static void report_lost(struct subscriber_record *record, struct undo *u, uint64_t now_ns)
{
	struct subscriber_cursor *p = &record->cursor;
	char line[LOST_LINE_MAX];
	struct strbuf x = { .p = line, .end = line + sizeof line };

	json_lost(&x, p->lost_last - p->lost_first + 1, p->lost_first, p->lost_last, "subscriber",
		  now_ns);
	undo_save(u, p, sizeof *p);
	if (subscriber_prepend(record, line, (size_t)(x.p - line)) == 0)
		p->lost_first = p->lost_last = 0;
	undo_commit(u);
}

/* ---- sending -------------------------------------------------------------------------------- */

void subscriber_settle(struct subscriber_record *record)
{
	uint32_t n = record->msg.msg_len; /* 0 until the kernel has taken some */

	if (record->flight == FLIGHT_PREFIX)
		record->cursor.prefix_at = (uint32_t)record->from + n;
	else if (record->flight == FLIGHT_LOG)
		record->cursor.at = record->from + n;
	undo_order();
	record->flight = FLIGHT_NONE;
}

/* Each step is one that the next process can go on from. */
static ssize_t send_noted(struct subscriber *s, enum subscriber_flight flight, uint64_t from,
			  const char *p, size_t n)
{
	struct subscriber_record *record = s->record;

	record->iov = (struct iovec){ .iov_base = (char *)p, .iov_len = n };
	record->msg = (struct mmsghdr){ .msg_hdr = { .msg_iov = &record->iov, .msg_iovlen = 1 } };
	record->from = from;
	undo_order();
	record->flight = flight;
	undo_order();
	int r = sendmmsg(s->fd, &record->msg, 1, MSG_DONTWAIT | MSG_NOSIGNAL);

	undo_order();
	subscriber_settle(record);
	return r < 0 ? -1 : (ssize_t)record->msg.msg_len;
}

/* Standard output: it ends with the process. */
static ssize_t write_some(const struct subscriber *s, const char *p, size_t n)
{
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

static ssize_t send_some(struct subscriber *s, enum subscriber_flight flight, uint64_t from,
			 const char *p, size_t n)
{
	struct subscriber_record *record = s->record;

	if (n > SEND_AT_ONCE)
		n = SEND_AT_ONCE;
	if (s->is_socket)
		return send_noted(s, flight, from, p, n);

	ssize_t sent = write_some(s, p, n);

	if (sent > 0 && flight == FLIGHT_PREFIX)
		record->cursor.prefix_at += (uint32_t)sent;
	else if (sent > 0)
		record->cursor.at += (uint64_t)sent;
	return sent;
}

enum subscriber_verdict subscriber_send(struct subscriber *s, const struct linelog *l,
					struct undo *u, uint64_t now_ns)
{
	struct subscriber_record *record = s->record;
	const struct subscriber_cursor *p = &record->cursor;

	for (size_t budget = SEND_AT_ONCE; budget;) {
		ssize_t n;

		if (p->prefix_at == p->prefix_len && p->lost_first)
			report_lost(record, u, now_ns);
		if (p->prefix_at < p->prefix_len)
			n = send_some(s, FLIGHT_PREFIX, p->prefix_at, record->prefix + p->prefix_at,
				      p->prefix_len - p->prefix_at);
		else if (p->at < l->end->head)
			n = send_some(s, FLIGHT_LOG, p->at, linelog_octets(l, p->at),
				      l->end->head - p->at);
		else
			return SUBSCRIBER_IDLE;
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return errno == EAGAIN || errno == ENOBUFS ? SUBSCRIBER_WAITS
								   : SUBSCRIBER_GONE;
		budget -= (size_t)n < budget ? (size_t)n : budget;
	}
	return SUBSCRIBER_WAITS;
}

bool subscriber_is_sound(const struct subscriber_record *record, const struct linelog *l)
{
	const struct subscriber_cursor *p = &record->cursor;

	return p->prefix_at <= p->prefix_len && p->prefix_len <= sizeof record->prefix &&
	       p->at <= l->end->head && l->end->head - p->at <= l->size &&
	       p->lost_first <= p->lost_last;
}
