#include "common/log.h"

#include <errno.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <syslog.h>
#include <time.h>
#include <unistd.h>

static const uint64_t LIMIT_NS = 10 * UINT64_C(1000000000);

enum sink {
	SINK_PLAIN,
	SINK_TERMINAL,
	SINK_JOURNAL,
};

static const struct {
	const char *word, *coloured;
	int priority;
} levels[] = {
	[LOG_LEVEL_ERR] = { "error: ", "\033[1;31merror:\033[0m ", LOG_ERR },
	[LOG_LEVEL_WARN] = { "warning: ", "\033[1;33mwarning:\033[0m ", LOG_WARNING },
	[LOG_LEVEL_INFO] = { "", "", LOG_INFO },
	[LOG_LEVEL_DEBUG] = { "debug: ", "debug: ", LOG_DEBUG },
};

static const char *log_name = "synfind";
static _Atomic int max_level = LOG_LEVEL_INFO;
static enum sink sink;
static pthread_once_t sink_once = PTHREAD_ONCE_INIT;

/* JOURNAL_STREAM names the journal's end by device and inode: a shell may have inherited the
 * variable, with stderr long since gone elsewhere (systemd.exec(5)). */
static bool stderr_is_journal(void)
{
	const char *stream = getenv("JOURNAL_STREAM");
	unsigned long long dev, ino;
	struct stat st;

	return stream && sscanf(stream, "%llu:%llu", &dev, &ino) == 2 &&
	       fstat(STDERR_FILENO, &st) == 0 && st.st_dev == dev && st.st_ino == ino;
}

/* https://no-color.org: set to anything but the empty string. */
static void find_sink(void)
{
	const char *no_color = getenv("NO_COLOR");

	if (stderr_is_journal())
		sink = SINK_JOURNAL;
	else if (isatty(STDERR_FILENO) && !(no_color && *no_color))
		sink = SINK_TERMINAL;
	else
		sink = SINK_PLAIN;
}

void log_set_name(const char *name)
{
	log_name = name;
}

void log_set_level(enum log_level level)
{
	atomic_store_explicit(&max_level, (int)level, memory_order_relaxed);
}

bool log_enabled(enum log_level level)
{
	return (int)level <= atomic_load_explicit(&max_level, memory_order_relaxed);
}

/* Appends @text to @line at @at with control octets made visible; stops where "..." and the end
 * of line still fit.  Returns the new length. */
static size_t append_visible(char line[static LOG_LINE_MAX], size_t at, const char *text)
{
	const size_t room = LOG_LINE_MAX - sizeof "...\n";

	for (; *text; text++) {
		unsigned char c = (unsigned char)*text;
		bool control = c < 0x20 || c == 0x7f;

		if (at + (control ? 4 : 1) > room) {
			memcpy(line + at, "...", 3);
			return at + 3;
		}
		if (control)
			at += (size_t)sprintf(line + at, "\\x%02x", c);
		else
			line[at++] = (char)c;
	}
	return at;
}

__attribute__((format(printf, 2, 0))) static void write_line(enum log_level level, const char *fmt,
							     va_list ap)
{
	char text[LOG_LINE_MAX], line[LOG_LINE_MAX];
	size_t n;

	if (vsnprintf(text, sizeof text, fmt, ap) < 0)
		return;
	pthread_once(&sink_once, find_sink);
	if (sink == SINK_JOURNAL)
		n = (size_t)sprintf(line, "<%d>", levels[level].priority);
	else
		n = (size_t)sprintf(line, "%s: %s", log_name,
				    sink == SINK_TERMINAL ? levels[level].coloured
							  : levels[level].word);
	n = append_visible(line, n, text);
	line[n++] = '\n';
	while (write(STDERR_FILENO, line, n) < 0 && errno == EINTR)
		;
}

void log_write(enum log_level level, const char *fmt, ...)
{
	int saved = errno;
	va_list ap;

	va_start(ap, fmt);
	write_line(level, fmt, ap); /* errno still the caller's, for %m */
	va_end(ap);
	errno = saved;
}

int log_errno(int err, const char *fmt, ...)
{
	int saved = errno;
	char text[LOG_LINE_MAX];
	va_list ap;

	err = abs(err);
	va_start(ap, fmt);
	if (vsnprintf(text, sizeof text, fmt, ap) < 0)
		*text = '\0';
	va_end(ap);
	errno = err;
	log_write(LOG_LEVEL_ERR, "%s: %m", text);
	errno = saved;
	return -err;
}

bool log_limit_pass(struct log_limit *limit, uint64_t *ret_held_back)
{
	uint64_t until = atomic_load_explicit(&limit->quiet_until_ns, memory_order_relaxed);
	struct timespec ts;
	uint64_t now;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	now = (uint64_t)ts.tv_sec * UINT64_C(1000000000) + (uint64_t)ts.tv_nsec;

	/* Of several threads that come at once, the one that moves the word speaks. */
	if (now < until ||
	    !atomic_compare_exchange_strong(&limit->quiet_until_ns, &until, now + LIMIT_NS)) {
		atomic_fetch_add_explicit(&limit->held_back, 1, memory_order_relaxed);
		return false;
	}
	*ret_held_back = atomic_exchange_explicit(&limit->held_back, 0, memory_order_relaxed);
	return true;
}
