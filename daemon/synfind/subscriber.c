#include "synfind/subscriber.h"
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "base/strbuf.h"
#include "base/undo.h"
#include "common/clock.h"
#include "format/json.h"

enum {
	SEND_AT_ONCE = 1 << 18, /* budget of one call */
	LOST_LINE_MAX = 512,
	RUNS_MAX = 64,
	LOOK_MAX = 1 << 14, /* lines that one call looks at; a parsed one takes some us */
	PARSED_MAX = 128,
	LOOK_COST = SEND_AT_ONCE / 4,
	PIPE_AT_ONCE = 4096, /* PIPE_BUF: a writable pipe takes it without blocking */
	SKIP_SPARE = 8,	     /* skip this part of the log in addition, to gain time ... */
	SKIP_LINES = 256,    /* ... or so many lines, if it chooses */
};

int subscriber_prepend(struct subscriber_record *record, const char *octets, size_t n)
{
	struct subscriber_cursor *cursor = &record->cursor;

	if (subscriber_prefix_sent(record))
		cursor->prefix_at = cursor->prefix_len = 0;
	if (n > sizeof record->prefix - cursor->prefix_len)
		return -ENOBUFS;
	memcpy(record->prefix + cursor->prefix_len, octets, n);
	cursor->prefix_len += (uint32_t)n;
	return 0;
}

/* ---- losing --------------------------------------------------------------------------------- */

/* What the wanted line @i, which has no number, stands for. */
static uint64_t special_lines(const struct linelog *l, uint64_t i, const struct subscription *want)
{
	struct linelog_mark m = linelog_mark(l, i, 0);

	if (!(m.endpoints & want->endpoints))
		return 0;
	return m.kind == LINE_LOST ? m.bits : 1;
}

/* Counts the wanted ones of lines @i to @end - 1 as lost. */
static void lose_lines(struct subscriber_cursor *cursor, const struct linelog *l, uint64_t i,
		       uint64_t end, uint64_t seq_now)
{
	uint64_t before = cursor->lost_count;

	for (; i < end; i++) {
		uint64_t seq = linelog_mark(l, i, seq_now).seq, last;
		bool parsed;

		if (!cursor->want.everything && !linelog_wants(l, i, &cursor->want, &parsed))
			continue;
		if (cursor->want.everything)
			i = end - 1; /* all of them, without a look */
		last = linelog_mark(l, i + 1, seq_now).seq;
		if (last == seq) {
			cursor->lost_segments += special_lines(l, i, &cursor->want);
			continue;
		}
		if (!cursor->lost_first || seq + 1 < cursor->lost_first)
			cursor->lost_first = seq + 1;
		if (last > cursor->lost_last)
			cursor->lost_last = last;
		cursor->lost_count += last - seq;
	}
	cursor->lost_total += cursor->lost_count - before;
}

/* Saves the rest of a line that is partly sent.  Returns the next line, or SUBSCRIBER_BROKEN. */
static uint64_t finish_line(struct subscriber_record *record, const struct linelog *l,
			    uint64_t seq_now)
{
	struct subscriber_cursor *cursor = &record->cursor;
	uint64_t line = linelog_line_at(l, cursor->at), at = linelog_mark(l, line, seq_now).at;

	if (at != cursor->at &&
	    subscriber_prepend(record, linelog_octets(l, cursor->at), at - cursor->at) < 0)
		return SUBSCRIBER_BROKEN;
	cursor->at = at;
	return line;
}

/* All lines from @line on are lost. */
static void lose_all(struct subscriber_cursor *cursor, const struct linelog *l, uint64_t line,
		     uint64_t seq_now)
{
	lose_lines(cursor, l, line, l->end->mark_next, seq_now);
	cursor->at = l->end->head;
	cursor->lost_segments_seq = seq_now;
}

/* drop_newest: keeps the wanted lines from @line on that fit the prefix.  Returns the next line. */
static uint64_t keep_oldest(struct subscriber_record *record, const struct linelog *l,
			    uint64_t line)
{
	bool parsed;

	for (; line < l->end->mark_next; line++) {
		uint64_t at = linelog_mark(l, line, 0).at;

		if (linelog_wants(l, line, &record->cursor.want, &parsed) &&
		    subscriber_prepend(record, linelog_octets(l, at),
				       linelog_mark(l, line + 1, 0).at - at) < 0)
			break;
	}
	return line;
}

static void disconnect(struct subscriber_record *record, uint64_t seq_now)
{
	struct subscriber_cursor *cursor = &record->cursor;
	char line[LOST_LINE_MAX], text[128];
	struct strbuf x = { .p = line, .end = line + sizeof line };

	snprintf(text, sizeof text,
		 "too slow: %llu events were lost, and the policy is to disconnect",
		 (unsigned long long)(cursor->lost_count + cursor->lost_segments));
	json_error(&x, NULL, text, 0, seq_now, wall_clock_ns());
	if (subscriber_prepend(record, line, (size_t)(x.p - line)) == 0)
		cursor->lost_first = cursor->lost_last = cursor->lost_count =
			cursor->lost_segments = 0;
	cursor->closing = true;
}

uint64_t subscriber_skip(struct subscriber_record *record, const struct linelog *l, struct undo *u,
			 uint64_t clear, uint64_t seq_now)
{
	struct subscriber_cursor *cursor = &record->cursor;
	uint64_t before = cursor->lost_total, least = linelog_line_at(l, clear), line, to;
	bool had_lost = cursor->lost_first || cursor->lost_segments;

	undo_save(u, cursor, sizeof *cursor);
	line = finish_line(record, l, seq_now);
	if (line == SUBSCRIBER_BROKEN)
		return SUBSCRIBER_BROKEN;
	if (cursor->closing) {
		cursor->at = l->end->head;
		return 0;
	}
	if (cursor->want.policy == POLICY_DROP_NEWEST) {
		lose_all(cursor, l, had_lost ? line : keep_oldest(record, l, line), seq_now);
		return cursor->lost_total - before;
	}
	to = line + (l->end->mark_next - line) / SKIP_SPARE + 1;
	if (!cursor->want.everything)
		to = least + SKIP_LINES;
	if (to < least)
		to = least;
	if (to > l->end->mark_next)
		to = l->end->mark_next;
	lose_lines(cursor, l, line, to, seq_now);
	cursor->at = linelog_mark(l, to, seq_now).at;
	cursor->lost_segments_seq = linelog_mark(l, to, seq_now).seq;
	if (cursor->want.policy == POLICY_DISCONNECT &&
	    (cursor->lost_count || cursor->lost_segments)) {
		lose_all(cursor, l, to, seq_now);
		disconnect(record, seq_now);
	}
	return cursor->lost_total - before;
}

static void report_lost(struct subscriber_record *record, struct undo *u, uint64_t now_ns)
{
	static const char *const reason[SUBSCRIBER_LOSSES] = {
		[LOSS_SLOW] = "subscriber",
		[LOSS_REPLAY] = "replay",
		[LOSS_RUN] = "run",
	};
	struct subscriber_cursor *cursor = &record->cursor;
	char line[LOST_LINE_MAX];
	struct strbuf x = { .p = line, .end = line + sizeof line };

	json_lost(&x, cursor->lost_count, cursor->lost_first, cursor->lost_last,
		  reason[cursor->lost_reason % SUBSCRIBER_LOSSES], now_ns);
	undo_save(u, cursor, sizeof *cursor);
	if (subscriber_prepend(record, line, (size_t)(x.p - line)) == 0) {
		cursor->lost_first = cursor->lost_last = cursor->lost_count = 0;
		cursor->lost_reason = LOSS_SLOW;
	}
	undo_commit(u);
}

/* They have no numbers. */
static void report_lost_segments(struct subscriber_record *record, struct undo *u, uint64_t now_ns)
{
	struct subscriber_cursor *cursor = &record->cursor;
	char line[LOST_LINE_MAX];
	struct strbuf x = { .p = line, .end = line + sizeof line };

	json_lost_segments(&x, cursor->lost_segments, "segment_slow", cursor->lost_segments_seq,
			   now_ns);
	undo_save(u, cursor, sizeof *cursor);
	if (subscriber_prepend(record, line, (size_t)(x.p - line)) == 0)
		cursor->lost_segments = 0;
	undo_commit(u);
}

/* ---- subscribing ---------------------------------------------------------------------------- */

int subscriber_change(struct subscriber_record *record, const struct linelog *l, struct undo *u,
		      const struct subscriber_change *change, uint64_t seq_now)
{
	struct subscriber_cursor *cursor = &record->cursor;
	char line[SUBSCRIBER_ANSWER_MAX];
	struct strbuf t = { .p = line, .end = line + sizeof line };
	uint64_t next = linelog_line_at(l, cursor->at), from = change->from;
	struct linelog_mark at;

	if (change->has_from)
		next = linelog_line_after(l, from);
	at = linelog_mark(l, next, seq_now);
	change->answer(change->arg, &t, change->has_from ? from : at.seq);
	if (t.full)
		return -ENOBUFS;
	undo_save(u, cursor, sizeof *cursor);
	if (finish_line(record, l, seq_now) == SUBSCRIBER_BROKEN ||
	    subscriber_prepend(record, line, (size_t)(t.p - line)) < 0)
		return -ENOBUFS;
	cursor->want = change->want;
	cursor->want.segments_at = l->end->head;
	if (!change->has_from)
		return 0;
	cursor->lost_segments = 0;
	cursor->at = at.at;
	cursor->lost_first = at.seq > from ? from + 1 : 0;
	cursor->lost_last = at.seq > from ? at.seq : 0;
	cursor->lost_count = at.seq > from ? at.seq - from : 0;
	cursor->lost_reason = (uint8_t)change->gap;
	return 0;
}

/* ---- sending -------------------------------------------------------------------------------- */

/* What is sent in one call: parts of the log, in order. */
struct runs {
	struct {
		uint64_t at;
		size_t n;
	} run[RUNS_MAX];
	unsigned n;
	size_t octets;
	uint64_t end; /* behind the last line that was looked at */
};

/* False: there is no space. */
static bool runs_add(struct runs *r, uint64_t at, size_t n)
{
	if (r->n && r->run[r->n - 1].at + r->run[r->n - 1].n == at) {
		r->run[r->n - 1].n += n;
	} else if (r->n == RUNS_MAX) {
		return false;
	} else {
		r->run[r->n].at = at;
		r->run[r->n++].n = n;
	}
	r->octets += n;
	return true;
}

/* As much as one call takes, from @from on, where the cursor is or was.  It is the same again
 * whenever it is called: the next process may have to find out what was sent. */
static void runs_find(const struct subscriber_record *record, const struct linelog *l,
		      uint64_t from, struct runs *ret)
{
	const struct subscriber_cursor *cursor = &record->cursor;
	const struct subscriber_snapshot *snapshot = &record->snapshot;
	uint64_t i = linelog_line_at(l, from), at = linelog_mark(l, i, 0).at;
	uint64_t end = snapshot->rows_octets && from < snapshot->rows_at ? snapshot->rows_at
									 : l->end->head;
	uint64_t end_line, look_end;
	unsigned n_parsed = 0;

	ret->n = 0;
	ret->octets = 0;
	if (cursor->want.everything && from >= l->end->special_end) {
		runs_add(ret, from, end - from);
		ret->end = end;
		return;
	}
	if (at != from)
		runs_add(ret, from, at - from);
	end_line = end == l->end->head ? l->end->mark_next : linelog_line_at(l, end);
	look_end = end_line - i < LOOK_MAX ? end_line : i + LOOK_MAX;
	while (ret->octets < SEND_AT_ONCE && n_parsed < PARSED_MAX) {
		bool parsed;

		i = linelog_pass(l, i, look_end, &cursor->want);
		if (i >= look_end)
			break;
		at = linelog_mark(l, i, 0).at;
		if (linelog_wants(l, i, &cursor->want, &parsed) &&
		    !runs_add(ret, at, linelog_mark(l, i + 1, 0).at - at))
			break;
		n_parsed += parsed;
		i++;
	}
	ret->end = linelog_mark(l, i, 0).at;
}

/* The position after @n octets of them. */
static uint64_t runs_position(const struct runs *r, size_t n)
{
	for (unsigned i = 0; i < r->n; i++) {
		if (n < r->run[i].n)
			return r->run[i].at + n;
		n -= r->run[i].n;
	}
	return r->end;
}

static void flight_end(struct subscriber_record *record, const struct runs *runs)
{
	uint32_t n = record->msg.msg_len; /* 0 until octets are sent */

	if (record->flight == FLIGHT_PREFIX)
		record->cursor.prefix_at = (uint32_t)record->from + n;
	else if (record->flight == FLIGHT_LOG)
		record->cursor.at = runs_position(runs, n);
	undo_order();
	record->flight = FLIGHT_NONE;
}

void subscriber_settle(struct subscriber_record *record, const struct linelog *l)
{
	struct runs runs;

	if (record->flight == FLIGHT_LOG)
		runs_find(record, l, record->from, &runs);
	flight_end(record, &runs);
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
static ssize_t send_some(struct subscriber *s, enum subscriber_flight flight, struct iovec *iov,
			 unsigned n, const struct runs *runs)
{
	struct subscriber_record *record = s->record;
	ssize_t r;

	record->msg = (struct mmsghdr){ .msg_hdr = { .msg_iov = iov, .msg_iovlen = n } };
	record->from = runs ? record->cursor.at : record->cursor.prefix_at;
	undo_order();
	record->flight = flight;
	undo_order();
	if (s->is_socket) {
		r = sendmmsg(s->fd, &record->msg, 1, MSG_DONTWAIT | MSG_NOSIGNAL);
	} else {
		r = write_some(s, iov->iov_base, iov->iov_len);
		record->msg.msg_len = r > 0 ? (unsigned)r : 0;
	}
	undo_order();
	flight_end(record, runs);
	return r < 0 ? -1 : (ssize_t)record->msg.msg_len;
}

static ssize_t send_prefix(struct subscriber *s)
{
	struct subscriber_cursor *cursor = &s->record->cursor;
	struct iovec iov = { .iov_base = s->record->prefix + cursor->prefix_at,
			     .iov_len = cursor->prefix_len - cursor->prefix_at };

	return send_some(s, FLIGHT_PREFIX, &iov, 1, NULL);
}

/* Octets, LOOK_COST if lines were only looked at, or -1. */
static ssize_t send_lines(struct subscriber *s, const struct linelog *l)
{
	struct iovec iov[RUNS_MAX];
	struct runs runs;
	size_t left = SEND_AT_ONCE;
	unsigned n = 0;

	runs_find(s->record, l, s->record->cursor.at, &runs);
	for (; n < runs.n && left; n++) {
		size_t octets = runs.run[n].n < left ? runs.run[n].n : left;

		iov[n] = (struct iovec){ .iov_base = (char *)linelog_octets(l, runs.run[n].at),
					 .iov_len = octets };
		left -= octets;
	}
	if (n)
		return send_some(s, FLIGHT_LOG, iov, n, &runs);
	s->record->cursor.at = runs.end;
	return LOOK_COST;
}

/* What comes before the next line of the log: a loss to report, or lines of a snapshot. */
static void fill_prefix(struct subscriber_record *record, struct undo *u, uint64_t now_ns)
{
	struct subscriber_snapshot *snapshot = &record->snapshot;

	if (record->cursor.lost_first) {
		report_lost(record, u, now_ns);
	} else if (record->cursor.lost_segments) {
		report_lost_segments(record, u, now_ns);
	} else if (snapshot->rows_octets && record->cursor.at >= snapshot->rows_at) {
		undo_save(u, &record->cursor, sizeof record->cursor);
		undo_save(u, &snapshot->rows_octets, sizeof snapshot->rows_octets);
		subscriber_prepend(record, record->rows, snapshot->rows_octets);
		snapshot->rows_octets = 0;
		undo_commit(u);
	}
}

enum subscriber_verdict subscriber_send(struct subscriber *s, const struct linelog *l,
					struct undo *u, uint64_t now_ns)
{
	struct subscriber_record *record = s->record;
	const struct subscriber_cursor *cursor = &record->cursor;

	for (size_t budget = SEND_AT_ONCE; budget;) {
		ssize_t n;

		if (subscriber_prefix_sent(record))
			fill_prefix(record, u, now_ns);
		if (cursor->prefix_at < cursor->prefix_len) {
			n = send_prefix(s);
		} else if (cursor->closing) {
			errno = ETIMEDOUT;
			return SUBSCRIBER_GONE;
		} else if (cursor->at < l->end->head) {
			n = send_lines(s, l);
		} else {
			return SUBSCRIBER_IDLE;
		}
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
	       l->end->head - cursor->at <= l->size && cursor->lost_first <= cursor->lost_last &&
	       cursor->want.policy < POLICIES &&
	       record->snapshot.rows_octets <= sizeof record->rows &&
	       record->snapshot.rows_at <= l->end->head &&
	       record->snapshot.id[sizeof record->snapshot.id - 1] == 0;
}
