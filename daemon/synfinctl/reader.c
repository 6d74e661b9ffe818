#include "synfinctl/reader.h"
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include "base/cc.h"
#include "common/clock.h"
#include "synfinctl/cli.h"
#include "synfinctl/human.h"
#include "synfinctl/js.h"

extern char **environ;

enum { PATH_SIZE = 4096 };
static const uint64_t progress_after_ns = 1000000000;
static const char progress_prefix[] = "progress ";
/* Before a message of synfind; after it comes the level. */
static const char log_prefix[] = "synfind: ";

/* ---- the program ----------------------------------------------------------------------------- */

static bool program_beside(const char *folder, const char *name, char ret[static PATH_SIZE])
{
	int n = snprintf(ret, PATH_SIZE, "%s/%s", folder, name);

	return n < PATH_SIZE && access(ret, X_OK) == 0;
}

/* Sets @ret to its path, or to its name: then PATH is searched. */
static void program_find(char ret[static PATH_SIZE])
{
	const char *env = getenv("SYNFIND");
	char self[PATH_SIZE / 2], *slash;
	ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);

	if (env && *env) {
		snprintf(ret, PATH_SIZE, "%s", env);
		return;
	}
	self[n > 0 ? n : 0] = 0;
	slash = strrchr(self, '/');
	if (slash) {
		*slash = 0;
		if (program_beside(self, "synfind", ret) ||
		    program_beside(self, "../sbin/synfind", ret))
			return;
	}
	snprintf(ret, PATH_SIZE, "synfind");
}

/* ---- start ----------------------------------------------------------------------------------- */

/* The signals that subscription.h blocks, and SIGPIPE, as a program expects them. */
static void plain_signals(posix_spawnattr_t *a)
{
	sigset_t none, defaults;

	sigemptyset(&none);
	sigemptyset(&defaults);
	sigaddset(&defaults, SIGPIPE);
	posix_spawnattr_setsigmask(a, &none);
	posix_spawnattr_setsigdefault(a, &defaults);
	posix_spawnattr_setflags(a, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
}

/* synfind says how far it is in lines if this variable is set. */
static char **progress_environ(void)
{
	static char variable[] = "SYNFIND_PROGRESS=1";
	size_t n = 0;
	char **e;

	while (environ[n])
		n++;
	e = calloc(n + 2, sizeof *e);
	if (e) {
		e[0] = variable;
		memcpy(e + 1, environ, n * sizeof *e);
	}
	return e;
}

/* Runs @program: 0 or an errno.  @out and @err are the ends to write to. */
static int spawn(struct reader *r, const char *program, char **argv, int out, int err)
{
	char **env = isatty(STDERR_FILENO) ? progress_environ() : NULL;
	posix_spawn_file_actions_t actions;
	posix_spawnattr_t attr;
	int e;

	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_adddup2(&actions, out, STDOUT_FILENO);
	posix_spawn_file_actions_adddup2(&actions, err, STDERR_FILENO);
	posix_spawnattr_init(&attr);
	plain_signals(&attr);
	e = posix_spawnp(&r->pid, program, &actions, &attr, argv, env ? env : environ);
	posix_spawnattr_destroy(&attr);
	posix_spawn_file_actions_destroy(&actions);
	free(env);
	if (e)
		r->pid = 0;
	return e;
}

/* The arguments; the items that are "--name=value" are owned. */
struct arguments {
	char **v;
	unsigned n;
	char *owned[3];
	unsigned nowned;
};

static bool add_flag(struct arguments *a, const char *name, const char *value)
{
	char *text = NULL;

	if (!value)
		return true;
	if (asprintf(&text, "--%s=%s", name, value) < 0)
		return false;
	a->v[a->n++] = a->owned[a->nowned++] = text;
	return true;
}

static void arguments_free(struct arguments *a)
{
	for (unsigned i = 0; i < a->nowned; i++)
		free(a->owned[i]);
	free(a->v);
}

static bool arguments_make(struct arguments *a, const struct reader_options *o)
{
	static char name[] = "synfind", config[] = "--config=/dev/null", log[] = "--log-level=warn",
		    read[] = "--read";
	size_t files = 0;

	while (o->files[files])
		files++;
	*a = (struct arguments){ .v = calloc(2 * files + READER_FLAGS_MAX + 6, sizeof *a->v) };
	if (!a->v)
		return false;
	a->v[a->n++] = name;
	a->v[a->n++] = config;
	a->v[a->n++] = log;
	for (unsigned i = 0; o->flags && o->flags[i] && i < READER_FLAGS_MAX; i++)
		a->v[a->n++] = (char *)o->flags[i];
	for (size_t i = 0; i < files; i++) {
		a->v[a->n++] = read;
		a->v[a->n++] = o->files[i];
	}
	return add_flag(a, "events", o->events) && add_flag(a, "filter", o->filter);
}

int reader_start(struct reader *r, const struct reader_options *o)
{
	int out[2] = { -1, -1 }, err[2] = { -1, -1 }, e = ENOMEM;
	char program[PATH_SIZE];
	struct arguments a;

	*r = (struct reader){ .err = -1,
			      .quiet = o->quiet,
			      .started_ns = clock_ns(CLOCK_MONOTONIC) };
	program_find(program);
	if (arguments_make(&a, o))
		e = pipe2(out, O_CLOEXEC) || pipe2(err, O_CLOEXEC)
			    ? errno
			    : spawn(r, program, a.v, out[1], err[1]);
	arguments_free(&a);
	if (out[1] >= 0)
		close(out[1]);
	if (err[1] >= 0)
		close(err[1]);
	if (!e && !lines_init(&r->lines, out[0]))
		e = ENOMEM;
	if (!e) {
		r->err = err[0];
		return CLI_FOUND;
	}
	if (out[0] >= 0)
		close(out[0]);
	if (err[0] >= 0)
		close(err[0]);
	reader_end(r);
	if (e == ENOENT || e == EACCES)
		return cli_error(CLI_FAILED,
				 "cannot run %s, which reads the files: %s. Install the package "
				 "synfind, or name the program in the variable SYNFIND",
				 program, strerror(e));
	return cli_error(CLI_FAILED, "cannot run %s: %s", program, strerror(e));
}

/* ---- what it says ---------------------------------------------------------------------------- */

static void progress_clear(struct reader *r)
{
	if (r->progress)
		fputs("\r\033[K", stderr);
	r->progress = false;
}

static void progress_show(struct reader *r, const char *text)
{
	char safe[256];

	if (clock_ns(CLOCK_MONOTONIC) < r->started_ns + progress_after_ns)
		return;
	human_safe(safe, sizeof safe, text);
	fprintf(stderr, "\r%s\033[K", safe);
	fflush(stderr);
	r->progress = true;
}

/* Shows the lines of progress in the error output, and keeps the others. */
static void progress_take(struct reader *r)
{
	char *at = r->errors, *end;

	while ((end = strchr(at, '\n')))
		if (!strncmp(at, progress_prefix, sizeof progress_prefix - 1)) {
			*end = 0;
			progress_show(r, at + sizeof progress_prefix - 1);
			memmove(at, end + 1, strlen(end + 1) + 1);
		} else {
			at = end + 1;
		}
	r->n = strlen(r->errors);
}

/* Reads once of its error output; what exceeds the space is dropped. */
static void errors_fill(struct reader *r)
{
	char octets[1024];
	ssize_t n = read(r->err, octets, sizeof octets);

	if (n < 0 && errno == EINTR)
		return;
	if (n <= 0) {
		close(r->err);
		r->err = -1;
		return;
	}
	for (ssize_t i = 0; i < n && r->n + 1 < sizeof r->errors; i++)
		if (octets[i]) /* a NUL would end the text */
			r->errors[r->n++] = octets[i];
	r->errors[r->n] = 0;
	progress_take(r);
}

/* Each line as one of ours: "synfind: error: x" becomes "synfinctl: x". */
static void errors_print(struct reader *r)
{
	static const char *const levels[] = { "error: ", "warning: " };
	char *save, *line = strtok_r(r->errors, "\n", &save);

	for (; line; line = strtok_r(NULL, "\n", &save)) {
		if (!strncmp(line, log_prefix, sizeof log_prefix - 1))
			line += sizeof log_prefix - 1;
		for (unsigned i = 0; i < ARRAY_SIZE(levels); i++)
			if (!strncmp(line, levels[i], strlen(levels[i])))
				line += strlen(levels[i]);
		cli_error(CLI_FAILED, "%s", line);
	}
}

/* ---- lines ----------------------------------------------------------------------------------- */

/* Waits for octets of it.  False: no more will come. */
static bool reader_wait(struct reader *r)
{
	struct pollfd p[2] = { { .fd = r->lines.fd, .events = POLLIN },
			       { .fd = r->err, .events = POLLIN } };
	ssize_t n;

	if (poll(p, 2, -1) < 0)
		return errno == EINTR;
	if (p[1].revents)
		errors_fill(r);
	if (!p[0].revents)
		return true;
	n = lines_fill(&r->lines);
	return n > 0 || n == -EINTR;
}

static bool reader_line(struct reader *r, char **ret, size_t *ret_n)
{
	while (!lines_next(&r->lines, ret, ret_n)) {
		if (r->at_end)
			return false;
		if (!reader_wait(r)) {
			r->at_end = true;
			return lines_rest(&r->lines, ret, ret_n);
		}
	}
	return true;
}

bool reader_next(struct reader *r, const char **ret_line, size_t *ret_n, const json_t **ret_event)
{
	char *line;

	while (reader_line(r, &line, ret_n)) {
		*ret_line = line;
		if (!ret_event)
			return true;
		json_decref(r->event);
		r->event = js_parse(line, *ret_n);
		*ret_event = r->event;
		if (r->event)
			return true;
		r->garbage++;
	}
	return false;
}

/* ---- end ------------------------------------------------------------------------------------- */

/* True if it ended well. */
static bool reap(struct reader *r)
{
	int status = 0;

	if (!r->at_end)
		kill(r->pid, SIGTERM);
	while (waitpid(r->pid, &status, 0) < 0 && errno == EINTR)
		;
	if (r->at_end && WIFSIGNALED(status))
		cli_error(CLI_FAILED, "synfind ended by signal %d", WTERMSIG(status));
	return !r->at_end || status == 0;
}

int reader_end(struct reader *r)
{
	bool good = true;

	if (r->lines.octets)
		close(r->lines.fd);
	while (r->at_end && r->err >= 0)
		errors_fill(r);
	progress_clear(r);
	if (!r->quiet)
		errors_print(r);
	if (r->pid)
		good = reap(r);
	if (r->err >= 0 && r->pid)
		close(r->err);
	lines_done(&r->lines);
	json_decref(r->event);
	*r = (struct reader){ .err = -1 };
	return good ? CLI_FOUND : CLI_FAILED;
}
