#include "synfind/subscribers.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <systemd/sd-event.h>
#include <time.h>
#include <unistd.h>
#include "base/cc.h"
#include "base/strbuf.h"
#include "common/clock.h"
#include "common/log.h"
#include "common/options.h"
#include "format/json.h"
#include "synfind/access.h"
#include "synfind/listen.h"
#include "synfind/identity.h"
#include "synfind/request.h"
#include "synfind/stream_state.h"
#include "synfind/fdstore.h"
#include "synfind/subscriber.h"

enum {
	SERVE_OCTETS = 1 << 19, /* of the log: a send is worth its time */
	HELLO_MAX = 1 << 14,	/* SUBSCRIBER_PREFIX_MAX */
	REQUESTS_MAX = 10000,	/* of one subscriber: each costs some us */
	ACCEPT_USEC = 50000,	/* at most ACCEPT_BURST are accepted in this time */
	ACCEPT_BURST = 100,
	KEEP_CHECK_USEC = 250000, /* between two looks for subscribers to store */
};
static const uint64_t keep_after_ns = 1000000000;

_Static_assert((unsigned)ACCESS_LOGS == ACCESS_UNLISTED,
	       "each verdict that is no refusal is a log");

/* ---- one subscriber -------------------------------------------------------------------------- */

static struct linelog *subscriber_log(const struct subscriber *s)
{
	return &s->all->stream->log[s->record->log];
}

/* It needs the octets of the log from its position on. */
static void hold_log(struct subscribers *all, const struct subscriber_record *record)
{
	uint64_t *slowest = &all->slowest[record->log];

	if (record->cursor.at < *slowest)
		*slowest = record->cursor.at;
}

static void segments_changed(const struct subscribers *all)
{
	if (all->segments_changed)
		all->segments_changed(all->segments_arg);
}

/* The name of its socket in the store, unique for each use of the record. */
#define SUBSCRIBER_NAME "reader"

static struct fdstore_name subscriber_fdname(const struct subscriber *s)
{
	return fdstore_name(SUBSCRIBER_NAME, s->index, s->all->stream->in_use[s->index] >> 1);
}

/* Frees it in this process only. */
static void subscriber_free(struct subscriber *s)
{
	*s->link = s->next;
	if (s->next)
		s->next->link = s->link;
	s->all->connected--;
	s->all->reading[s->record->log]--;
	filters_release(&s->all->stream->filters, s->record->cursor.want.filter);
	segments_release(&s->all->stream->segments, s->record->log,
			 s->record->cursor.want.endpoints);
	if (s->record->cursor.want.endpoints)
		segments_changed(s->all);
	sd_event_source_disable_unref(s->io);
	free(s->input);
	if (s->fd != STDOUT_FILENO)
		close(s->fd);
	free(s);
}

void subscribers_remove(struct subscriber *s, const char *why)
{
	struct subscribers *all = s->all;
	uint32_t *in_use = &all->stream->in_use[s->index];
	bool is_stdout = s->fd == STDOUT_FILENO;

	log_debug("Subscriber %d (pid %d) is gone: %s", s->fd, (int)s->pid, why);
	*in_use &= ~1u; /* first: the next process must not resume it */
	if (!is_stdout) {
		shutdown(s->fd, SHUT_RDWR); /* the store may hold a copy for a while */
		if (s->stored)
			fdstore_remove(all->fdstore, subscriber_fdname(s).s);
	}
	subscriber_free(s);
	if (is_stdout)
		sd_event_exit(all->loop, 0);
}

bool subscribers_serve(struct subscriber *s, uint64_t now_ns)
{
	struct subscribers *all = s->all;
	struct undo *u = &all->stream->undo;
	enum subscriber_verdict v = subscriber_send(s, subscriber_log(s), u, now_ns);

	/* The next piece of its snapshot; the last line comes at once. */
	if (v != SUBSCRIBER_GONE && s->record->snapshot.walking && all->pull &&
	    all->pull(all->publisher, s) && v == SUBSCRIBER_IDLE)
		v = subscriber_send(s, subscriber_log(s), u, now_ns);
	bool waits = v == SUBSCRIBER_WAITS;

	if (v == SUBSCRIBER_GONE) {
		/* EPIPE: its reader wants no more. */
		if (s->fd == STDOUT_FILENO && errno != EPIPE)
			s->all->output_error =
				log_errno(errno, "Cannot write events to standard output");
		subscribers_remove(s, strerror(errno));
		return false;
	}
	if (s->plain_file) {
		sd_event_source_set_enabled(s->io, waits ? SD_EVENT_ON : SD_EVENT_OFF);
		return true;
	}
	s->waits = waits;
	/* An answer needs an empty prefix. */
	bool listens = !s->input_ended && subscriber_prefix_sent(s->record);
	unsigned polled = (waits ? EPOLLOUT : 0u) | (listens ? EPOLLIN : 0u);

	if (polled != s->polled)
		sd_event_source_set_io_events(s->io, s->polled = polled);
	return true;
}

/* It has little to get so far. */
static bool can_wait(const struct subscriber *s)
{
	const struct subscriber_cursor *cursor = &s->record->cursor;
	const struct linelog *l = subscriber_log(s);
	uint64_t behind = l->end->head - cursor->at;

	return !cursor->want.everything && !s->record->snapshot.walking &&
	       subscriber_prefix_sent(s->record) && behind < SERVE_OCTETS && behind < l->size / 8;
}

void subscribers_serve_all(struct subscribers *all, bool more, uint64_t now_ns)
{
	for (struct subscriber *s = all->list, *next; s; s = next) {
		next = s->next;
		if (!s->waits && !(more && can_wait(s)))
			subscribers_serve(s, now_ns);
	}
}

/* ---- requests -------------------------------------------------------------------------------- */

struct answer {
	const struct subscriber *s;
	const struct request *q;
};

static void answer_subscribed(void *arg, struct strbuf *t, uint64_t seq)
{
	const struct answer *a = arg;
	const struct identity *id = a->s->all->id;
	struct json_subscribed line = { .id = a->q->has_id ? a->q->id : NULL,
					.host = id->host,
					.run_id = id->run_id,
					.kinds = a->q->kinds,
					.where = a->q->has_where ? a->q->where : NULL,
					.segments = a->q->segments,
					.nsegments = a->q->nsegments,
					.policy = filter_policy_name[a->q->policy] };

	json_subscribed(t, &line, seq, wall_clock_ns());
}

static void answer_error(struct subscriber *s, const struct request *q,
			 const struct request_error *e)
{
	char line[SUBSCRIBER_ANSWER_MAX];
	struct strbuf t = { .p = line, .end = line + sizeof line };
	struct stream_state *st = s->all->stream;

	json_error(&t, q->has_id ? q->id : NULL, e->text, e->at, st->state->seq, wall_clock_ns());
	subscriber_prepend(s->record, line, (size_t)(t.p - line));
}

/* The slot of the request's expression; -EINVAL and *ret_error. */
static int request_filter(struct subscriber *s, const struct request *q,
			  struct request_error *ret_error)
{
	struct stream_state *st = s->all->stream;
	struct where_error error = { 0 };
	int r = FILTER_NONE;

	if (q->has_where)
		r = filters_use(&st->filters, s->record->log, s->uid, q->where, q->where_octets,
				st->state->seq, &error);
	if (r >= 0)
		return r;
	ret_error->at = r == -EINVAL ? error.at : 0;
	if (r == -EINVAL)
		snprintf(ret_error->text, sizeof ret_error->text, "where: %s", error.text);
	else if (r == -ENOSPC)
		snprintf(ret_error->text, sizeof ret_error->text,
			 "where: %u different expressions are in use, and there are no more",
			 FILTER_SLOTS);
	else if (r == -EDQUOT)
		snprintf(ret_error->text, sizeof ret_error->text,
			 "where: your user has %u different expressions in use, the limit",
			 FILTERS_PER_UID);
	else
		snprintf(ret_error->text, sizeof ret_error->text, "where: %s", strerror(-r));
	return -EINVAL;
}

/* What the request changes about segments; -EINVAL and *ret_error. */
static int request_segments(const struct subscriber *s, const struct request *q,
			    struct segments_change *ret, struct request_error *ret_error)
{
	int r;

	for (unsigned i = 0; i < q->nsegments && s->record->log == ACCESS_PSEUDONYMS; i++) {
		if (!q->segments[i].ip_v)
			continue;
		snprintf(ret_error->text, sizeof ret_error->text,
			 "segments: net is not for those who see pseudonyms; port is");
		return -EINVAL;
	}
	r = segments_plan(&s->all->stream->segments, s->record->log, s->uid,
			  s->record->cursor.want.endpoints, q->segments, q->nsegments, ret);
	if (r == -ENOSPC)
		snprintf(ret_error->text, sizeof ret_error->text,
			 "segments: %u different entries are in use, and there are no more",
			 ENDPOINTS_MAX);
	else if (r < 0)
		snprintf(ret_error->text, sizeof ret_error->text,
			 "segments: your user has %u different entries, the limit",
			 SEGMENTS_PER_UID);
	return r < 0 ? -EINVAL : 0;
}

/* Begins a walk if one is requested; a new request ends the one before. */
static void snapshot_begin(struct subscriber *s, const struct request *q)
{
	struct subscriber_snapshot *snapshot = &s->record->snapshot;
	uint32_t serial = snapshot->serial + 1;

	undo_save(&s->all->stream->undo, snapshot, sizeof *snapshot);
	*snapshot = (struct subscriber_snapshot){ .serial = serial,
						  .walking = q->snapshot,
						  .has_id = q->has_id };
	memcpy(snapshot->id, q->id, sizeof snapshot->id);
	s->snapshot_asked = false;
}

/* 0, or -EINVAL and *ret_error. */
static int request_apply(struct subscriber *s, const struct request *q,
			 struct request_error *ret_error)
{
	struct stream_state *st = s->all->stream;
	struct answer answer = { s, q };
	bool same_run = !strcmp(q->from_run_id, s->all->id->run_id);
	struct subscriber_change change = {
		.want = { .kinds = q->kinds, .policy = q->policy, .filter = FILTER_NONE },
		.has_from = q->has_from,
		.from = same_run ? q->from_seq : 0,
		.gap = same_run ? LOSS_REPLAY : LOSS_RUN,
		.answer = answer_subscribed,
		.arg = &answer,
	};
	unsigned before = s->record->cursor.want.filter;
	bool had_segments = s->record->cursor.want.endpoints;
	struct segments_change segments;
	int filter, r;

	if (change.from > st->state->seq) {
		snprintf(ret_error->text, sizeof ret_error->text,
			 "from.seq is %llu, but the last event has %llu",
			 (unsigned long long)q->from_seq, (unsigned long long)st->state->seq);
		return -EINVAL;
	}
	if (request_segments(s, q, &segments, ret_error) < 0)
		return -EINVAL;
	filter = request_filter(s, q, ret_error);
	if (filter < 0)
		return filter;
	change.want.endpoints = (uint16_t)segments.of;
	change.want.filter = (uint8_t)filter;
	change.want.everything = q->kinds == LINES_ALL && filter == FILTER_NONE && !segments.of;
	stream_state_begin(st, NULL);
	r = subscriber_change(s->record, subscriber_log(s), &st->undo, &change, st->state->seq);
	if (r >= 0) {
		segments_apply(&st->segments, &segments, &st->undo);
		snapshot_begin(s, q);
	}
	stream_state_commit(st);
	if (r < 0) {
		filters_release(&st->filters, (unsigned)filter);
		snprintf(ret_error->text, sizeof ret_error->text, "the answer is too long");
		return -EINVAL;
	}
	filters_release(&st->filters, before);
	if (segments.of || had_segments)
		segments_changed(s->all);
	hold_log(s->all, s->record);
	return 0;
}

static void request_handle(struct subscriber *s, const char *text, size_t n)
{
	struct request q = { .has_id = false };
	struct request_error e;

	if (s->requests++ == REQUESTS_MAX) {
		s->input_ended = true;
		e = (struct request_error){
			.text = "too many requests: the next ones are not read"
		};
		answer_error(s, &q, &e);
	} else if (request_parse(&q, text, n, &e) < 0 || request_apply(s, &q, &e) < 0) {
		answer_error(s, &q, &e);
	}
}

/* Keeps the beginning of a request. */
static void input_keep(struct subscriber *s, const char *octets, size_t n)
{
	char *grown = s->input_skips || s->input_octets + n > REQUEST_MAX
			      ? NULL
			      : realloc(s->input, s->input_octets + n);

	if (grown) {
		s->input = grown;
		memcpy(grown + s->input_octets, octets, n);
		s->input_octets += n;
		return;
	}
	free(s->input);
	s->input = NULL;
	s->input_octets = 0;
	s->input_skips = true;
}

static void input_end(struct subscriber *s)
{
	struct request none = { .has_id = false };
	struct request_error e = { 0 };

	snprintf(e.text, sizeof e.text, "a request has at most %u octets", REQUEST_MAX);
	if (s->input_skips)
		answer_error(s, &none, &e);
	else if (s->input_octets && strspn(s->input, " \t\r") < s->input_octets)
		request_handle(s, s->input, s->input_octets);
	free(s->input);
	s->input = NULL;
	s->input_octets = 0;
	s->input_skips = false;
}

/* Reads up to one request.  It stays in the socket until it has been applied: the next process then
 * finds it there.  A subscriber that ends its input may still read (nc with an empty stdin). */
static bool read_input(struct subscriber *s)
{
	static char buf[1 << 14];
	ssize_t n = recv(s->fd, buf, sizeof buf, MSG_DONTWAIT | MSG_PEEK);
	const char *newline;

	if (n < 0)
		return errno == EAGAIN || errno == EINTR;
	s->input_ended |= n == 0;
	newline = memchr(buf, '\n', (size_t)n);
	input_keep(s, buf, newline ? (size_t)(newline - buf) : (size_t)n);
	if (newline)
		n = newline - buf + 1;
	if (newline)
		input_end(s);
	while (n > 0 && recv(s->fd, buf, (size_t)n, MSG_DONTWAIT) < 0 && errno == EINTR)
		;
	return true;
}

static int on_subscriber(sd_event_source *io, int fd, uint32_t revents, void *arg)
{
	struct subscriber *s = arg;

	(void)io, (void)fd;
	if (revents & (EPOLLHUP | EPOLLERR))
		subscribers_remove(s, "it hung up");
	else if (revents & EPOLLIN && s->is_socket && subscriber_prefix_sent(s->record) &&
		 !read_input(s))
		subscribers_remove(s, strerror(errno));
	else
		subscribers_serve(s, wall_clock_ns());
	return 0;
}

static int on_plain_file(sd_event_source *io, void *arg)
{
	(void)io;
	subscribers_serve(arg, wall_clock_ns());
	return 0;
}

static int subscriber_greet(struct subscribers *all, struct subscriber_record *record)
{
	const char *names[JSON_NAMES_MAX];
	unsigned n = all->ifaces ? all->ifaces(all->arg, names, ARRAY_SIZE(names)) : 0;
	struct json_hello h = identity_hello(all->id, capture_mode_name(all->o->mode), names, n);
	char line[HELLO_MAX];
	struct strbuf x = { .p = line, .end = line + sizeof line };

	h.events = all->o->events;
	h.pseudonyms = record->log == ACCESS_PSEUDONYMS;
	json_hello(&x, &h, all->stream->state->seq, wall_clock_ns());
	return x.full ? -ENOBUFS : subscriber_prepend(record, line, (size_t)(x.p - line));
}

/* Makes a subscriber with record @index in this process.  Owns @fd, also on failure. */
static int subscriber_new(struct subscribers *all, unsigned index, int fd, bool is_socket,
			  struct subscriber **ret)
{
	struct subscriber *s = calloc(1, sizeof *s);
	struct ucred peer = { 0 };
	socklen_t len = sizeof peer;
	int r;

	if (!s) {
		if (fd != STDOUT_FILENO)
			close(fd);
		return -ENOMEM;
	}
	if (is_socket)
		getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len);
	*s = (struct subscriber){ .next = all->list,
				  .link = &all->list,
				  .all = all,
				  .record = stream_state_record(all->stream, index),
				  .index = index,
				  .fd = fd,
				  .is_socket = is_socket,
				  .polled = is_socket ? EPOLLIN : 0,
				  .input_ended = !is_socket,
				  .since_ns = clock_ns(CLOCK_MONOTONIC),
				  .pid = peer.pid,
				  .uid = fd == STDOUT_FILENO ? (uid_t)-1 : peer.uid };
	if (s->next)
		s->next->link = &s->next;
	all->list = s;
	all->connected++;
	all->reading[s->record->log]++;
	r = sd_event_add_io(all->loop, &s->io, fd, is_socket ? EPOLLIN : 0, on_subscriber, s);
	if (r == -EPERM) { /* epoll does not support regular files */
		s->plain_file = true;
		r = sd_event_add_defer(all->loop, &s->io, on_plain_file, s);
	}
	if (r >= 0)
		r = sd_event_source_set_priority(s->io, PRIORITY_SUBSCRIBER);
	if (r < 0) {
		subscriber_free(s);
		return r;
	}
	*ret = s;
	return 0;
}

static int on_keep(sd_event_source *timer, uint64_t usec, void *arg)
{
	struct subscribers *all = arg;
	uint64_t now = clock_ns(CLOCK_MONOTONIC);
	bool young = false;

	for (struct subscriber *s = all->list; s; s = s->next) {
		int r = 0;

		if (s->stored || s->fd == STDOUT_FILENO)
			continue;
		s->stored = now - s->since_ns >= keep_after_ns;
		young |= !s->stored;
		if (s->stored)
			r = fdstore_add(all->fdstore, subscriber_fdname(s).s, s->fd);
		if (r < 0)
			log_limited(LOG_LEVEL_WARN,
				    "Cannot store a subscriber; a restart will disconnect it: %s",
				    strerror(-r));
	}
	if (young)
		sd_event_source_set_time(timer, usec + KEEP_CHECK_USEC);
	return sd_event_source_set_enabled(timer, young ? SD_EVENT_ONESHOT : SD_EVENT_OFF);
}

/* Stores the new subscriber later. */
static void keep_later(struct subscribers *all)
{
	int r = 0;

	if (!all->fdstore->live)
		return;
	if (!all->keep_timer) {
		r = sd_event_add_time_relative(all->loop, &all->keep_timer, CLOCK_MONOTONIC,
					       keep_after_ns / 1000, 1, on_keep, all);
	} else if (!sd_event_source_get_enabled(all->keep_timer, NULL)) {
		r = sd_event_source_set_time_relative(all->keep_timer, keep_after_ns / 1000);
		if (r >= 0)
			r = sd_event_source_set_enabled(all->keep_timer, SD_EVENT_ONESHOT);
	}
	if (r < 0)
		log_errno(r, "Cannot store subscribers; a restart will disconnect new ones");
}

/* Adds a subscriber that reads @log from now on.  Owns @fd, also on failure. */
static int subscriber_add(struct subscribers *all, unsigned index, int fd, bool is_socket,
			  unsigned log)
{
	uint32_t *in_use = &all->stream->in_use[index], generation = (*in_use >> 1) + 1;
	struct subscriber_record *record = stream_state_record(all->stream, index);
	struct subscriber *s;
	int r;

	if (log != ACCESS_ADDRESSES && !all->reading[log])
		linelog_clear(&all->stream->log[log]); /* it was not written meanwhile */
	record->cursor = (struct subscriber_cursor){ .at = all->stream->state->end[log].head,
						     .want = subscription_default };
	record->log = log;
	record->flight = FLIGHT_NONE;
	record->snapshot.walking = false;
	record->snapshot.rows_octets = 0;
	r = subscriber_new(all, index, fd, is_socket, &s);
	if (r >= 0 && (r = subscriber_greet(all, record)) < 0)
		subscriber_free(s);
	if (r < 0)
		return log_errno(r, "Cannot serve a subscriber");
	undo_order();
	*in_use = generation << 1 | 1; /* the next process resumes it, once it is stored */
	undo_order();
	if (fd != STDOUT_FILENO)
		keep_later(all);
	subscribers_serve(s, wall_clock_ns());
	return 0;
}

/* The last record is for standard output. */
static unsigned stdout_index(const struct subscribers *all)
{
	return (unsigned)all->stream->head->geometry.records - 1;
}

/* What the peer of @fd may see.  @is_new: an additional subscriber, checked against the limits and
 * logged. */
static enum access_verdict subscriber_access(const struct subscribers *all, int fd, bool is_new)
{
	enum access_verdict v = ACCESS_UNKNOWN;
	struct access_peer peer = { 0 };
	unsigned of_uid = 0;

	if (access_peer_of(fd, &peer) == 0) {
		for (const struct subscriber *s = all->list; s; s = s->next)
			of_uid += s->uid == peer.uid;
		v = is_new ? access_decide(&peer, all->o, all->connected, of_uid)
			   : access_by_name(&peer, all->o);
		if (is_new && !access_rate_pass(peer.uid, clock_ns(CLOCK_MONOTONIC)))
			v = ACCESS_RATE_LIMIT;
	}
	if (is_new || access_refused(v))
		access_log(&peer, v);
	access_peer_free(&peer);
	return v;
}

void subscribers_recheck(struct subscribers *all)
{
	for (struct subscriber *s = all->list, *next; s; s = next) {
		next = s->next;
		/* A subscriber that is to see another log may reconnect. */
		if (s->fd != STDOUT_FILENO &&
		    subscriber_access(all, s->fd, false) != s->record->log)
			subscribers_remove(s, "the configuration has changed");
	}
}

static int on_connect(sd_event_source *io, int fd, uint32_t revents, void *arg)
{
	struct subscribers *all = arg;
	struct stream_head *h = all->stream->head;
	int c = accept4(fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	enum access_verdict v;
	unsigned index = 0;

	(void)io, (void)revents;
	if (c < 0) {
		if (errno != EAGAIN && errno != EINTR && errno != ECONNABORTED)
			log_limited(LOG_LEVEL_ERR, "Cannot accept a subscriber: %m");
		return 0;
	}
	v = subscriber_access(all, c, true);
	while (index < stdout_index(all) && all->stream->in_use[index] & 1)
		index++;
	if (!access_refused(v) &&
	    index == stdout_index(all)) /* log_sizes() said how many there are */
		v = ACCESS_LIMIT;
	if (access_refused(v)) {
		h->refused[v]++;
		close(c);
		return 0;
	}
	h->accepted++;
	subscriber_add(all, index, c, true, v);
	return 0;
}

int subscribers_stdout(struct subscribers *all)
{
	struct stat st;
	bool is_socket = fstat(STDOUT_FILENO, &st) == 0 && S_ISSOCK(st.st_mode);

	return subscriber_add(all, stdout_index(all), STDOUT_FILENO, is_socket, ACCESS_ADDRESSES);
}

/* ---- subscribers of an earlier process ------------------------------------------------------- */

/* Its record is sound, and it may still see the same log with the same key.  If so, its filter is
 * in use. */
static bool record_resume(struct subscribers *all, struct subscriber_record *record, int fd,
			  bool other_key)
{
	struct stream_state *st = all->stream;
	unsigned log = record->log, filter = record->cursor.want.filter;

	if (log >= ACCESS_LOGS ||
	    (filter != FILTER_NONE && !filters_resume(&st->filters, filter, log)))
		return false;
	subscriber_settle(record, &st->log[log]);
	if (fd >= 0 && subscriber_is_sound(record, &st->log[log]) &&
	    subscriber_access(all, fd, false) == log && !(log == ACCESS_PSEUDONYMS && other_key) &&
	    segments_resume(&st->segments, log, record->cursor.want.endpoints))
		return true;
	filters_release(&st->filters, filter);
	return false;
}

static void subscriber_adopt(struct subscribers *all, unsigned index, bool other_key)
{
	struct subscriber_record *record = stream_state_record(all->stream, index);
	uint32_t *in_use = &all->stream->in_use[index];
	struct fdstore_name name = fdstore_name(SUBSCRIBER_NAME, index, *in_use >> 1);
	int fd = index == stdout_index(all) ? -ENOENT : fdstore_take(all->fdstore, name.s);
	struct subscriber *s;

	record->snapshot.serial++; /* rows that are still in a ring are listed again */
	if (record_resume(all, record, fd, other_key)) {
		if (subscriber_new(all, index, fd, true, &s) == 0) {
			s->stored = true;
			hold_log(all, record);
			return;
		}
	} else if (fd >= 0) {
		shutdown(fd, SHUT_RDWR);
		close(fd);
	}
	*in_use &= ~1u;
	if (fd >= 0)
		fdstore_remove(all->fdstore, name.s);
}

void subscribers_adopt(struct subscribers *all, bool other_key)
{
	for (unsigned i = 0; i < ACCESS_LOGS; i++)
		all->slowest[i] = all->stream->state->end[i].head;
	for (unsigned i = 0; i <= stdout_index(all); i++)
		if (all->stream->in_use[i] & 1)
			subscriber_adopt(all, i, other_key);
}

/* ---- all of them ----------------------------------------------------------------------------- */

int subscribers_listen(struct subscribers *all)
{
	int fd = listen_inherited(all->fdstore, LISTEN_EVENTS, &all->socket_made), r;

	if (fd == -ENOENT && !all->o->socket)
		return 0;
	if (fd == -ENOENT) {
		fd = listen_open(all->o, LISTEN_EVENTS, &all->directory_made);
		all->socket_made = fd >= 0;
		if (fd >= 0)
			listen_store(all->fdstore, LISTEN_EVENTS, fd);
	}
	if (fd < 0)
		return fd;
	all->listen_fd = fd;
	listen_path(fd, all->path);
	r = sd_event_add_io(all->loop, &all->listen_io, fd, EPOLLIN, on_connect, all);
	if (r >= 0)
		r = sd_event_source_set_priority(all->listen_io, PRIORITY_ACCEPT);
	/* Without a free descriptor accept() fails and the client stays in the queue. */
	if (r >= 0)
		r = sd_event_source_set_ratelimit(all->listen_io, ACCEPT_USEC, ACCEPT_BURST);
	return r < 0 ? log_errno(r, "Cannot watch the events socket") : 0;
}

/* Skips what is before @clear; false: it was removed. */
static bool subscriber_overtake(struct subscriber *s, uint64_t clear)
{
	struct stream_state *st = s->all->stream;
	uint64_t lost;

	stream_state_begin(st, NULL);
	lost = subscriber_skip(s->record, subscriber_log(s), &st->undo, clear, st->state->seq);
	if (lost != SUBSCRIBER_BROKEN)
		st->state->lost_events += lost;
	stream_state_commit(st);
	if (lost == SUBSCRIBER_BROKEN) {
		subscribers_remove(s, "its line is too long");
		return false;
	}
	if (lost && s->record->cursor.lost_total == lost)
		log_event(LOG_LEVEL_INFO, LOG_ID_SUBSCRIBER,
			  LOG_FIELDS({ "SYNFIND_STATE", "slow" },
				     { "SYNFIND_PID", log_number((uint64_t)s->pid).s }),
			  "Subscriber %d (pid %d) is too slow and loses events", s->fd,
			  (int)s->pid);
	return true;
}

void subscribers_clear(struct subscribers *all, unsigned log, size_t n)
{
	uint64_t head = all->stream->state->end[log].head;
	uint64_t clear = head + n - all->stream->log[log].size;

	all->slowest[log] = head;
	for (struct subscriber *s = all->list, *next; s; s = next) {
		const struct subscriber_cursor *cursor = &s->record->cursor;

		next = s->next;
		if (s->record->log != log)
			continue;
		if (cursor->at < clear && !s->waits && !subscribers_serve(s, wall_clock_ns()))
			continue;
		if (cursor->at < clear && !subscriber_overtake(s, clear))
			continue;
		hold_log(all, s->record);
	}
}

void subscribers_init(struct subscribers *all, const struct options *o, sd_event *loop,
		      struct fdstore *fdstore, struct stream_state *stream,
		      const struct identity *id)
{
	*all = (struct subscribers){ .o = o,
				     .loop = loop,
				     .fdstore = fdstore,
				     .stream = stream,
				     .id = id,
				     .listen_fd = -1 };
}

/* Sends to all of them once.  True: some have not got everything yet. */
static bool send_all(struct subscribers *all)
{
	bool waiting = false;

	for (struct subscriber *s = all->list; s; s = s->next)
		waiting |= subscriber_send(s, subscriber_log(s), &all->stream->undo,
					   wall_clock_ns()) == SUBSCRIBER_WAITS;
	return waiting;
}

void subscribers_end(struct subscribers *all, uint64_t wait_ns)
{
	uint64_t until = wall_clock_ns() + wait_ns;

	while (send_all(all) && wall_clock_ns() < until)
		nanosleep(&(struct timespec){ .tv_nsec = 2000000 }, NULL);
	while (all->list)
		subscribers_remove(all->list, "the daemon ends");
	if (all->socket_made) {
		shutdown(all->listen_fd, SHUT_RDWR); /* the store may hold a copy for a while */
		listen_unstore(all->fdstore, LISTEN_EVENTS);
	}
}

void subscribers_destroy(struct subscribers *all)
{
	all->segments_changed = NULL;
	while (all->list)
		subscriber_free(all->list);
	sd_event_source_disable_unref(all->listen_io);
	sd_event_source_disable_unref(all->keep_timer);
	if (all->loop && all->listen_fd >= 0)
		close(all->listen_fd);
	*all = (struct subscribers){ 0 };
}
