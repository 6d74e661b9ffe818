/* The logger, each case in a child of its own: it looks at stderr once. */
#include "../../daemon/common/log.c"
#include <fcntl.h>
#include <sys/wait.h>
#include "tests/support/tap.h"

static char seen[1 << 20];

/* What @say writes to stderr, in `seen`, and how many octets. */
static size_t run_child(void (*say)(void), int in, int out)
{
	size_t n = 0;
	ssize_t r;
	pid_t pid;

	fflush(NULL);
	pid = fork();
	if (pid == 0) {
		dup2(out, STDERR_FILENO);
		close(out);
		close(in);
		say();
		_exit(0);
	}
	close(out);
	/* EIO: the terminal's other end is closed */
	while ((r = read(in, seen + n, sizeof seen - 1 - n)) > 0)
		n += (size_t)r;
	seen[n] = '\0';
	close(in);
	waitpid(pid, NULL, 0);
	return n;
}

static size_t on_pipe(void (*say)(void))
{
	int p[2];

	if (pipe(p) < 0)
		abort();
	return run_child(say, p[0], p[1]);
}

static size_t on_terminal(void (*say)(void))
{
	int master = posix_openpt(O_RDWR | O_NOCTTY);

	if (master < 0 || grantpt(master) < 0 || unlockpt(master) < 0)
		return 0;
	return run_child(say, master, open(ptsname(master), O_RDWR | O_NOCTTY));
}

static void say_each_level(void)
{
	log_error("one %d", 1);
	log_warn("two");
	log_info("three");
	log_debug("four");
}

static void say_errors_only(void)
{
	log_set_level(LOG_LEVEL_ERR);
	say_each_level();
}

static void say_with_debug(void)
{
	log_set_level(LOG_LEVEL_DEBUG);
	say_each_level();
}

static void say_to_journal(void)
{
	struct stat st;
	char id[64];

	fstat(STDERR_FILENO, &st);
	snprintf(id, sizeof id, "%llu:%llu", (unsigned long long)st.st_dev,
		 (unsigned long long)st.st_ino);
	setenv("JOURNAL_STREAM", id, 1);
	say_with_debug();
}

static void say_with_fields(void)
{
	log_event(LOG_LEVEL_WARN, LOG_ID_CAPTURE_LOSS,
		  LOG_FIELDS({ "SYNFIND_DROPS", log_number(18446744073709551615u).s }), "lost %d",
		  3);
	log_event(LOG_LEVEL_DEBUG, LOG_ID_READY, NULL, "not this");
}

/* What the journal would be given. */
static void check_entry(void)
{
	struct entry e = { .n = 0 };

	entry_add(&e, "A=%d", 1);
	entry_add(&e, "B=%0600d", 2);
	ok(e.n == 2 && e.iov[0].iov_len == 3 && !memcmp(e.iov[0].iov_base, "A=1", 3),
	   "a field is NAME=value");
	ok(e.iov[1].iov_len == FIELD_MAX_OCTETS - 1, "a long one is cut");
	for (int i = 0; i < 2 * FIELDS_MAX; i++)
		entry_add(&e, "C=%d", i);
	ok(e.n == FIELDS_MAX, "and too many are omitted");
	for (int i = 1; i < LOG_IDS; i++)
		for (int j = 1; j <= i; j++)
			if (!message_ids[i] || strlen(message_ids[i]) != 32 ||
			    (i != j && !strcmp(message_ids[i], message_ids[j])))
				ok(false, "message id %d is one of its own", i);
}

static void say_past_journal(void)
{
	setenv("JOURNAL_STREAM", "1:2", 1);
	log_error("here");
}

static void say_hostile(void)
{
	log_error("a\nsynfind: error: forged\033[2J\x7f");
	log_error("%s", "\xc2\x9b"
			"2J \x9b"
			"2J \xc2\xa0 \xc3\xbc \xe2\x82\xac \xe2\x82 \xff");
}

static void say_long(void)
{
	char text[3 * LOG_LINE_MAX];

	memset(text, '\n', sizeof text - 1); /* each becomes four octets */
	text[sizeof text - 1] = '\0';
	log_error("%s", text);
	memset(text, 'x', sizeof text - 1);
	log_error("%s", text);
}

static void say_errno(void)
{
	errno = EBUSY;
	int r = log_errno(-ENOENT, "cannot open '%s'", "x");
	int s = log_errno(EACCES, "nor this");

	log_error("%d %d, errno is kept: %m", r == -ENOENT, s == -EACCES);
}

static void say_limited(void)
{
	for (int i = 0; i < 1000; i++) {
		log_limited(LOG_LEVEL_WARN, "often %d", i);
		log_limited(LOG_LEVEL_WARN, "another call site");
	}
}

enum { THREADS = 4, LINES = 500 };

static void *say_many(void *arg)
{
	for (int i = 0; i < LINES; i++)
		log_error("%c%0200d%c", *(char *)arg, i, *(char *)arg);
	return NULL;
}

static void say_from_threads(void)
{
	pthread_t t[THREADS];
	static char name[] = "abcd";

	for (int i = 0; i < THREADS; i++)
		pthread_create(&t[i], NULL, say_many, &name[i]);
	for (int i = 0; i < THREADS; i++)
		pthread_join(t[i], NULL);
}

static int whole_lines(void)
{
	const size_t head = strlen("synfind: error: ");
	int n = 0;

	for (char *s = strtok(seen, "\n"); s; s = strtok(NULL, "\n"))
		n += strlen(s) == head + 202 && s[head] == s[head + 201];
	return n;
}

static _Atomic int passed;
static struct log_limit shared_limit;

static void *pass_often(void *arg)
{
	uint64_t held_back;

	for (int i = 0; i < 10000; i++)
		if (log_limit_pass(&shared_limit, &held_back))
			passed++;
	return arg;
}

static void limit_alone(void)
{
	pthread_t t[THREADS];
	uint64_t held_back = 0;

	for (int i = 0; i < THREADS; i++)
		pthread_create(&t[i], NULL, pass_often, NULL);
	for (int i = 0; i < THREADS; i++)
		pthread_join(t[i], NULL);
	ok(passed == 1, "of four threads at one call site one speaks");
	ok(shared_limit.held_back == THREADS * 10000 - 1, "and what was held back is counted");
	shared_limit.quiet_until_ns = 0; /* as if the ten seconds were over */
	ok(log_limit_pass(&shared_limit, &held_back) && held_back == THREADS * 10000 - 1,
	   "the next line reports how many");
	ok(!log_limit_pass(&shared_limit, &held_back), "and then it is quiet again");
}

int main(void)
{
	unsetenv("JOURNAL_STREAM");
	unsetenv("NO_COLOR");
	journal_socket = "/nonexistent"; /* this machine's journal is not to have any of it */

	on_pipe(say_each_level);
	ok(!strcmp(seen, "synfind: error: one 1\nsynfind: warning: two\nsynfind: three\n"),
	   "a pipe gets plain lines, debug omitted by default");
	on_pipe(say_errors_only);
	ok(!strcmp(seen, "synfind: error: one 1\n"), "level err leaves only errors");
	on_pipe(say_with_debug);
	ok(strstr(seen, "synfind: debug: four\n") != NULL, "level debug adds debug");
	on_pipe(say_to_journal);
	ok(!strcmp(seen, "<3>one 1\n<4>two\n<6>three\n<7>four\n"),
	   "the journal gets syslog's priorities");
	on_pipe(say_with_fields);
	ok(!strcmp(seen, "synfind: warning: lost 3\n"), "fields are for the journal alone");
	check_entry();
	on_pipe(say_past_journal);
	ok(!strcmp(seen, "synfind: error: here\n"),
	   "a JOURNAL_STREAM that is not stderr is not believed");

	if (on_terminal(say_each_level) == 0) {
		tap_skip("colours", "a pseudo-terminal");
	} else {
		ok(strstr(seen, "synfind: \033[1;31merror:\033[0m one 1") != NULL,
		   "a terminal gets a coloured error");
		setenv("NO_COLOR", "1", 1);
		on_terminal(say_each_level);
		ok(!strchr(seen, '\033') && strstr(seen, "error: one 1"),
		   "NO_COLOR takes the colour away");
		setenv("NO_COLOR", "", 1);
		on_terminal(say_each_level);
		ok(strchr(seen, '\033') != NULL, "an empty NO_COLOR does not");
	}

	on_pipe(say_hostile);
	char *second = strchr(seen, '\n');
	ok(second && !strncmp(seen, "synfind: error: a\\x0asynfind: error: forged\\x1b[2J\\x7f\n",
			      (size_t)(second + 1 - seen)),
	   "control characters cannot forge a line or reach the terminal");
	ok(second && !strcmp(second + 1, "synfind: error: \\xc2\\x9b2J \\x9b2J \xc2\xa0 \xc3\xbc "
					 "\xe2\x82\xac \\xe2\\x82 \\xff\n"),
	   "nor can those of C1; other UTF-8 stays, and what is none is shown as octets");
	size_t n = on_pipe(say_long);
	char *end = strchr(seen, '\n');
	ok(end && end - seen < LOG_LINE_MAX && !memcmp(end - 3, "...", 3) &&
		   n - (size_t)(end + 1 - seen) < LOG_LINE_MAX && !strcmp(seen + n - 4, "...\n"),
	   "lines that are too long are cut and say so");
	on_pipe(say_errno);
	ok(!strcmp(seen, "synfind: error: cannot open 'x': No such file or directory\n"
			 "synfind: error: nor this: Permission denied\n"
			 "synfind: error: 1 1, errno is kept: Device or resource busy\n"),
	   "log_errno() takes errno or -errno, names it, returns -errno and keeps errno");
	on_pipe(say_limited);
	ok(!strcmp(seen, "synfind: warning: often 0\nsynfind: warning: another call site\n"),
	   "each call site is limited for itself");
	limit_alone();
	on_pipe(say_from_threads);
	ok(whole_lines() == THREADS * LINES, "lines of %d threads never mix", THREADS);
	return tap_done();
}
