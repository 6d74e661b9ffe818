#include "synfinctl/ask.h"
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>
#include "base/cc.h"
#include "synfinctl/js.h"
#include "synfinctl/lines.h"

#define INTERFACE "io.synfind.Control."

enum { PATIENCE_S = 30 };

static bool send_all(int fd, const char *s, size_t n)
{
	while (n) {
		ssize_t r = send(fd, s, n, MSG_NOSIGNAL);

		if (r < 0 && errno == EINTR)
			continue;
		if (r <= 0)
			return false;
		s += r;
		n -= (size_t)r;
	}
	return true;
}

/* A call that ends with a newline gets replies that end with newlines. */
static bool send_call(int fd, const char *method, json_t *parameters, bool more)
{
	json_t *call = json_pack("{s:s+, s:o*, s:b}", "method", INTERFACE, method, "parameters",
				 parameters, "more", more);
	char *text = call ? json_dumps(call, JSON_COMPACT) : NULL;
	bool done = text && send_all(fd, text, strlen(text)) && send_all(fd, "\n", 1);

	free(text);
	json_decref(call);
	return done;
}

static int say_error(const json_t *reply, const char *error)
{
	const char *message = js_str(reply, "parameters.message");
	const char *name = strrchr(error, '.');

	name = name ? name + 1 : error;
	if (!strcmp(name, "NoSuchConnection"))
		return CLI_NOTHING;
	if (!strcmp(name, "InvalidExpression"))
		return cli_error(CLI_USAGE, "--where, character %d: %s",
				 (int)js_u64(reply, "parameters.at"), message);
	if (!strcmp(name, "Refused"))
		return cli_error(CLI_NO_DAEMON, "synfind refuses: %s", message);
	return cli_error(CLI_FAILED, "synfind answers %s%s%s", name, *message ? ": " : "", message);
}

/* An exit status; -1: there is more. */
static int take_reply(const char *line, size_t n, bool (*reply)(const json_t *, void *), void *arg)
{
	json_t *object = json_loadb(line, n, 0, NULL);
	const char *error = js_str(object, "error");
	int r = -1;

	if (!object)
		r = cli_error(CLI_FAILED,
			      "the answer is not JSON: is this synfind's control.sock?");
	else if (*error)
		r = say_error(object, error);
	else if (!reply(js_at(object, "parameters"), arg) || !js_true(object, "continues"))
		r = CLI_FOUND;
	json_decref(object);
	return r;
}

static int take_replies(struct lines *l, bool (*reply)(const json_t *, void *), void *arg)
{
	for (;;) {
		char *line;
		size_t n;
		ssize_t got;
		int r;

		while (lines_next(l, &line, &n)) {
			r = take_reply(line, n, reply, arg);
			if (r >= 0)
				return r;
		}
		got = lines_fill(l);
		if (got == -EINTR)
			continue;
		if (got == -EAGAIN)
			return cli_error(CLI_NO_DAEMON, "synfind does not answer within %d s",
					 PATIENCE_S);
		if (got <= 0)
			return cli_error(CLI_NO_DAEMON,
					 "synfind ended the connection without an answer%s",
					 l->too_long ? " that fits in memory" : "");
	}
}

int ask(const struct dial_options *o, const char *method, json_t *parameters, bool more,
	bool (*reply)(const json_t *parameters, void *arg), void *arg)
{
	static const struct timeval patience = { .tv_sec = PATIENCE_S };
	struct lines l;
	int fd = dial_or_explain(o, DIAL_TO_CONTROL), r;

	if (fd < 0) {
		json_decref(parameters);
		return CLI_NO_DAEMON;
	}
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
	/* A daemon that refuses has answered already, and the call finds no reader. */
	send_call(fd, method, parameters, more);
	if (lines_init(&l, fd))
		r = take_replies(&l, reply, arg);
	else
		r = cli_error(CLI_FAILED, "out of memory");
	lines_done(&l);
	close(fd);
	return r;
}

static bool keep_reply(const json_t *parameters, void *arg)
{
	json_t **ret = arg;

	*ret = json_deep_copy(parameters);
	return false;
}

int ask_one(const struct dial_options *o, const char *method, json_t *parameters, json_t **ret)
{
	json_t *got = NULL;
	int r = ask(o, method, parameters, false, keep_reply, &got);

	if (r == CLI_FOUND && !got)
		r = cli_error(CLI_FAILED, "synfind's answer to %s is empty", method);
	if (r == CLI_FOUND)
		*ret = got;
	return r;
}
