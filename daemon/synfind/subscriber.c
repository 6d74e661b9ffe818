#include "synfind/subscriber.h"
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>
#include "base/strbuf.h"
#include "base/undo.h"
#include "format/json.h"

enum {
	SEND_AT_ONCE = 1 << 18, /* budget of one call */
	LOST_LINE_MAX = 256,
	PIPE_AT_ONCE = 4096, /* PIPE_BUF: a writable pipe takes it without blocking */
	SKIP_SPARE = 8,	     /* skip this part of the log in addition, to gain time */
};

void subscriber_record_init(struct subscriber_record *record, unsigned log, uint64_t at)
{
	record->cursor = (struct subscriber_cursor){ .at = at };
	record->log = log;
	record->flight = FLIGHT_NONE;
}

int subscriber_prepend(struct subscriber_record *record, const char *octets, size_t n)
{
	struct subscriber_cursor *cursor = &record->cursor;

	if (cursor->prefix_at == cursor->prefix_len)
		cursor->prefix_at = cursor->prefix_len = 0;
	if (n > sizeof record->prefix - cursor->prefix_len)
		return -ENOBUFS;
	memcpy(record->prefix + cursor->prefix_len, octets, n);
	cursor->prefix_len += (uint32_t)n;
	return 0;
}

uint64_t subscriber_skip(struct subscriber_record *record, const struct linelog *l, struct undo *u,
			 uint64_t clear, uint64_t seq_now)
{
	struct subscriber_cursor *cursor = &record->cursor;
	uint64_t line = linelog_line_at(l, cursor->at), least = linelog_line_at(l, clear), lost;
	struct linelog_mark first = linelog_mark(l, line, seq_now), to;

	undo_save(u, cursor, sizeof *cursor);
	/* Save the rest of a line that is partly sent. */
	if (first.at != cursor->at &&
	    subscriber_prepend(record, linelog_octets(l, cursor->at), first.at - cursor->at) < 0)
		return SUBSCRIBER_BROKEN;
	line += (l->end->mark_next - line) / SKIP_SPARE + 1;
	if (line < least)
		line = least;
	if (line > l->end->mark_next)
		line = l->end->mark_next;
	to = linelog_mark(l, line, seq_now);
	cursor->at = to.at;
	lost = to.seq - first.seq;
	if (lost) {
		if (!cursor->lost_first)
			cursor->lost_first = first.seq + 1;
		cursor->lost_last = to.seq;
	}
	cursor->lost_total += lost;
	return lost;
}

static void report_lost(struct subscriber_record *record, struct undo *u, uint64_t now_ns)
{
	struct subscriber_cursor *cursor = &record->cursor;
	char line[LOST_LINE_MAX];
	struct strbuf x = { .p = line, .end = line + sizeof line };

	json_lost(&x, cursor->lost_last - cursor->lost_first + 1, cursor->lost_first,
		  cursor->lost_last, "subscriber", now_ns);
	undo_save(u, cursor, sizeof *cursor);
	if (subscriber_prepend(record, line, (size_t)(x.p - line)) == 0)
		cursor->lost_first = cursor->lost_last = 0;
	undo_commit(u);
}

/* ---- sending -------------------------------------------------------------------------------- */

void subscriber_settle(struct subscriber_record *record)
{
	uint32_t n = record->msg.msg_len; /* 0 until octets are sent */

	if (record->flight == FLIGHT_PREFIX)
		record->cursor.prefix_at = (uint32_t)record->from + n;
	else if (record->flight == FLIGHT_LOG)
		record->cursor.at = record->from + n;
	undo_order();
	record->flight = FLIGHT_NONE;
}

/* Standard output is not resumed, so only the result counts. */
static ssize_t write_some(const struct subscriber *s, const char *p, size_t n)
{
	if (s->plain_file)
		return write(s->fd, p, n);
	/* We may share the descriptor with a shell, so we must not set O_NONBLOCK. */
	struct pollfd fd = { .fd = s->fd, .events = POLLOUT };

	if (poll(&fd, 1, 0) <= 0 || !(fd.revents & (POLLOUT | POLLERR | POLLHUP))) {
		errno = EAGAIN;
		return -1;
	}
	return write(s->fd, p, n < PIPE_AT_ONCE ? n : PIPE_AT_ONCE);
}

/* If the process ends at any point here, subscriber_settle() in the next one is right. */
static ssize_t send_some(struct subscriber *s, enum subscriber_flight flight, uint64_t from,
			 const char *p, size_t n)
{
	struct subscriber_record *record = s->record;
	ssize_t r;

	if (n > SEND_AT_ONCE)
		n = SEND_AT_ONCE;
	record->iov = (struct iovec){ .iov_base = (char *)p, .iov_len = n };
	record->msg = (struct mmsghdr){ .msg_hdr = { .msg_iov = &record->iov, .msg_iovlen = 1 } };
	record->from = from;
	undo_order();
	record->flight = flight;
	undo_order();
	if (s->is_socket) {
		r = sendmmsg(s->fd, &record->msg, 1, MSG_DONTWAIT | MSG_NOSIGNAL);
	} else {
		r = write_some(s, p, n);
		record->msg.msg_len = r > 0 ? (unsigned)r : 0;
	}
	undo_order();
	subscriber_settle(record);
	return r < 0 ? -1 : (ssize_t)record->msg.msg_len;
}

enum subscriber_verdict subscriber_send(struct subscriber *s, const struct linelog *l,
					struct undo *u, uint64_t now_ns)
{
	struct subscriber_record *record = s->record;
	const struct subscriber_cursor *cursor = &record->cursor;

	for (size_t budget = SEND_AT_ONCE; budget;) {
		ssize_t n;

		if (cursor->prefix_at == cursor->prefix_len && cursor->lost_first)
			report_lost(record, u, now_ns);
		if (cursor->prefix_at < cursor->prefix_len)
			n = send_some(s, FLIGHT_PREFIX, cursor->prefix_at,
				      record->prefix + cursor->prefix_at,
				      cursor->prefix_len - cursor->prefix_at);
		else if (cursor->at < l->end->head)
			n = send_some(s, FLIGHT_LOG, cursor->at, linelog_octets(l, cursor->at),
				      l->end->head - cursor->at);
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
	const struct subscriber_cursor *cursor = &record->cursor;

	return cursor->prefix_at <= cursor->prefix_len &&
	       cursor->prefix_len <= sizeof record->prefix && cursor->at <= l->end->head &&
	       l->end->head - cursor->at <= l->size && cursor->lost_first <= cursor->lost_last;
}
