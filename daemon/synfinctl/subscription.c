#include "synfinctl/subscription.h"
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include "common/clock.h"
#include "format/where.h"
#include "synfinctl/choose.h"
#include "synfinctl/js.h"

static const uint64_t save_every_ns = 100000000;
static const int retry_ms = 250;

static volatile sig_atomic_t stopping;

static void on_signal(int signal)
{
	(void)signal;
	stopping = 1;
}

/* Signals are blocked except while it waits, so that none comes between a check and the wait. */
static void catch_signals(struct subscription *s)
{
	static const int signals[] = { SIGINT, SIGTERM, SIGHUP };
	struct sigaction action = { .sa_handler = on_signal }, old;
	sigset_t block;

	sigemptyset(&block);
	for (unsigned i = 0; i < sizeof signals / sizeof *signals; i++) {
		sigaction(signals[i], NULL, &old);
		if (old.sa_handler == SIG_IGN) /* nohup */
			continue;
		sigaction(signals[i], &action, NULL);
		sigaddset(&block, signals[i]);
	}
	sigprocmask(SIG_BLOCK, &block, &s->waiting);
}

static void failed(struct subscription *s, int status)
{
	s->status = status;
}

static void cursor_read(struct subscription *s)
{
	FILE *f = fopen(s->o.cursor_file, "re");
	char run[sizeof s->run_id];
	uint64_t seq;

	if (!f && errno == ENOENT)
		return;
	if (f && fscanf(f, "%39[0-9a-f] %" SCNu64, run, &seq) == 2) {
		snprintf(s->run_id, sizeof s->run_id, "%s", run);
		s->seq = s->saved_seq = seq;
		s->resumable = true;
	} else {
		failed(s, cli_error(CLI_FAILED, "%s: %s", s->o.cursor_file,
				    f ? "this is not a cursor file" : strerror(errno)));
	}
	if (f)
		fclose(f);
}

/* What was printed has left before: an event may come twice after a kill, but none is missing. */
static void cursor_write(struct subscription *s, bool now)
{
	char part[CLI_TEXT_MAX * 4];
	uint64_t time = clock_ns(CLOCK_MONOTONIC);
	FILE *f;

	if (!s->o.cursor_file || !s->resumable || s->seq == s->saved_seq ||
	    (!now && time < s->saved_ns + save_every_ns))
		return;
	snprintf(part, sizeof part, "%s.part", s->o.cursor_file);
	f = fopen(part, "we");
	if (!f || fprintf(f, "%s %" PRIu64 "\n", s->run_id, s->seq) < 0 || fclose(f) ||
	    rename(part, s->o.cursor_file)) {
		failed(s, cli_error(CLI_FAILED, "%s: %s", s->o.cursor_file, strerror(errno)));
		return;
	}
	s->saved_seq = s->seq;
	s->saved_ns = time;
}

static bool subscription_send(struct subscription *s, json_t *request)
{
	char *text = json_dumps(request, JSON_COMPACT);
	size_t n = text ? strlen(text) : 0, at = 0;
	bool done;

	if (text)
		text[n++] = '\n'; /* in place of the NUL */
	while (at < n) {
		ssize_t r = send(s->fd, text + at, n - at, MSG_NOSIGNAL);

		if (r < 0 && errno != EINTR)
			break;
		at += r > 0 ? (size_t)r : 0;
	}
	done = text && at == n;
	free(text);
	return done;
}

/* With no_follow, the newest event of now ends the stream: it comes, whatever the expression is. */
static void ask_for_end(struct subscription *s, json_t *request)
{
	char text[SUBSCRIPTION_WHERE_MAX];
	const char *where = json_string_value(json_object_get(request, "where"));

	if (where)
		snprintf(text, sizeof text, "(%s) || seq == %" PRIu64, where, s->last_seq);
	else
		snprintf(text, sizeof text, "true");
	json_object_set_new(request, "where", json_string(text));
}

/* The daemon's hello came.  Sends the request, with the place to begin from. */
static void greet(struct subscription *s, const json_t *hello)
{
	json_t *request;
	const char *run = js_str(hello, "run_id");
	uint64_t next = js_u64(hello, "next_seq");

	s->greeted = true;
	if (s->o.no_follow && next <= 2) { /* 1 is the start itself */
		s->at_end = true;
		return;
	}
	request = s->o.request ? json_deep_copy(s->o.request) : json_object();
	if (s->o.no_follow) {
		s->last_seq = next - 1;
		ask_for_end(s, request);
	}
	if (s->resumable)
		json_object_set_new(
			request, "from",
			json_pack("{s:s, s:I}", "run_id", s->run_id, "seq", (json_int_t)s->seq));
	else if (s->o.past) /* 1 is the start itself */
		json_object_set_new(request, "from",
				    json_pack("{s:s, s:i}", "run_id", run, "seq", 1));
	if (strcmp(s->run_id, run) != 0) { /* numbers begin anew */
		snprintf(s->run_id, sizeof s->run_id, "%s", run);
		s->seq = s->resumable || s->o.past || !next ? 1 : next - 1;
		s->saved_seq = 0;
	}
	if (json_object_size(request))
		subscription_send(s, request); /* if that fails, the daemon is gone */
	else
		s->subscribed = true;
	json_decref(request);
}

/* Connects.  False: nobody is there. */
static int subscription_connect(struct subscription *s)
{
	int fd = dial(s->o.dial, DIAL_TO_EVENTS);

	if (fd < 0)
		return fd;
	s->fd = s->lines.fd = fd;
	s->lines.at = s->lines.n = s->lines.scanned = 0;
	s->lines.skipping = false;
	s->greeted = s->subscribed = false;
	return 0;
}

int subscription_open(struct subscription *s, const struct subscription_options *o)
{
	const char *where = json_string_value(json_object_get(o->request, "where"));
	int r;

	*s = (struct subscription){ .o = *o, .fd = -1 };
	if (o->no_follow && where) {
		r = choose_compile("expression", where, &s->wanted);
		if (r)
			return r;
	}
	if (!lines_init(&s->lines, -1))
		return cli_error(CLI_FAILED, "out of memory");
	if (o->cursor_file)
		cursor_read(s);
	if (s->status)
		return s->status;
	r = subscription_connect(s);
	if (r < 0) {
		char why[2 * CLI_TEXT_MAX];

		dial_explain(o->dial, DIAL_TO_EVENTS, -r, why);
		return cli_error(CLI_NO_DAEMON, "%s", why);
	}
	catch_signals(s);
	return CLI_FOUND;
}

/* Did the reader of standard output go away? */
static bool output_closed(const struct pollfd *p)
{
	return p->revents & (POLLERR | POLLHUP | POLLNVAL);
}

/* Waits for octets, or for @ms if it is not connected.  False: it must end. */
static bool subscription_wait(struct subscription *s, int ms)
{
	struct pollfd p[2] = { { .fd = STDOUT_FILENO }, { .fd = s->fd, .events = POLLIN } };
	unsigned wait_ms = s->fd < 0 ? (unsigned)ms : s->quiet_ms;
	struct timespec t = { wait_ms / 1000, wait_ms % 1000 * 1000000L };

	s->quiet = false;
	if (fflush(stdout) && errno == EPIPE)
		return false;
	cursor_write(s, false);
	if (s->status)
		return false;
	for (;;) {
		int r;

		if (stopping)
			return false;
		r = ppoll(p, s->fd < 0 ? 1 : 2, wait_ms ? &t : NULL, &s->waiting);
		if (r < 0 && errno != EINTR)
			return false;
		if (r > 0 && output_closed(&p[0]))
			return false;
		s->quiet = r == 0;
		if (r >= 0)
			return true;
	}
}

static enum subscription_got refused(struct subscription *s)
{
	failed(s, cli_error(CLI_NO_DAEMON,
			    "synfind ended the connection at once: this user may not subscribe "
			    "(allow-user, allow-group in synfind.conf), or there are too many "
			    "subscribers. See: journalctl -u synfind -n 5"));
	return SUBSCRIPTION_FAILED;
}

/* The daemon closed the connection. */
static enum subscription_got gone(struct subscription *s)
{
	close(s->fd);
	s->fd = -1;
	if (!s->resumable && !s->greeted)
		return refused(s);
	if (s->o.no_follow) {
		failed(s, cli_error(CLI_NO_DAEMON, "synfind ended the connection"));
		return SUBSCRIPTION_FAILED;
	}
	s->resumable = true;
	snprintf(s->note, sizeof s->note, "synfind is gone: waiting for it");
	return SUBSCRIPTION_NOTE;
}

static void refused_request(struct subscription *s, const json_t *error)
{
	char at[32] = "";

	if (js_u64(error, "at"))
		snprintf(at, sizeof at, " (character %u)", (unsigned)js_u64(error, "at"));
	failed(s, cli_error(CLI_USAGE, "synfind refuses the request: %s%s", js_str(error, "error"),
			    at));
}

/* True: @event belongs to the subscription. */
static bool subscription_take(struct subscription *s, const json_t *event, const char *line,
			      size_t n)
{
	const char *type = js_str(event, "event_type");

	if (!event)
		return s->subscribed;
	if (!s->greeted) {
		if (!strcmp(type, "hello"))
			greet(s, event);
		return false;
	}
	if (!s->subscribed) {
		if (!strcmp(type, "subscribed"))
			s->subscribed = true;
		if (!strcmp(type, "error"))
			refused_request(s, event);
		return false;
	}
	s->seq = js_u64(event, "seq");
	if (!s->resumable && s->o.past && js_is(event, "reason", "replay")) {
		s->resumable = true;
		s->truncated = s->seq + 1;
		return false;
	}
	s->resumable = true;
	if (!s->o.no_follow || s->seq < s->last_seq)
		return true;
	s->at_end = true;
	return s->seq == s->last_seq &&
	       (!s->wanted || where_line(s->wanted, line, n) || !strcmp(type, "lost"));
}

static enum subscription_got reconnect(struct subscription *s)
{
	while (subscription_connect(s) < 0)
		if (!subscription_wait(s, retry_ms))
			return s->status ? SUBSCRIPTION_FAILED : SUBSCRIPTION_END;
	snprintf(s->note, sizeof s->note, "synfind is back");
	return SUBSCRIPTION_NOTE;
}

enum subscription_got subscription_next(struct subscription *s, char **ret_line, size_t *ret_n,
					const json_t **ret_event)
{
	for (;;) {
		ssize_t r;

		while (!s->status && !s->at_end && lines_next(&s->lines, ret_line, ret_n)) {
			json_decref(s->event);
			s->event = js_parse(*ret_line, *ret_n);
			*ret_event = s->event;
			if (subscription_take(s, s->event, *ret_line, *ret_n))
				return SUBSCRIPTION_LINE;
		}
		if (s->status)
			return SUBSCRIPTION_FAILED;
		if (s->at_end || stopping)
			return SUBSCRIPTION_END;
		if (s->fd < 0)
			return reconnect(s);
		if (!subscription_wait(s, 0))
			return s->status ? SUBSCRIPTION_FAILED : SUBSCRIPTION_END;
		if (s->quiet)
			return SUBSCRIPTION_QUIET;
		r = lines_fill(&s->lines);
		if (r == 0 || (r < 0 && r != -EINTR && r != -EAGAIN))
			return gone(s);
	}
}

void subscription_close(struct subscription *s)
{
	if (!fflush(stdout))
		cursor_write(s, true);
	if (s->fd >= 0 && s->lines.octets)
		close(s->fd);
	lines_done(&s->lines);
	where_free(s->wanted);
	json_decref(s->event);
	json_decref(s->o.request);
	*s = (struct subscription){ .fd = -1 };
}

int subscription_past(const struct dial_options *dial, const char *where,
		      void (*take)(void *arg, const char *line, size_t n, const json_t *event),
		      void *arg, uint64_t *ret_truncated)
{
	struct subscription_options o = { .dial = dial, .past = true, .no_follow = true };
	struct subscription s = { .fd = -1 };
	const json_t *event;
	enum subscription_got got;
	char *line;
	size_t n;
	int status;

	o.request = json_pack("{s:s}", "where", where);
	status = subscription_open(&s, &o);
	if (status)
		return status;
	while ((got = subscription_next(&s, &line, &n, &event)) < SUBSCRIPTION_END)
		if (got == SUBSCRIPTION_LINE && event)
			take(arg, line, n, event);
	status = got == SUBSCRIPTION_FAILED ? s.status : CLI_FOUND;
	if (ret_truncated)
		*ret_truncated = s.truncated;
	subscription_close(&s);
	return status;
}
