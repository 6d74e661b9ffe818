#include "common/log.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <syslog.h>
#include <systemd/sd-journal.h>
#include <unistd.h>
#include "common/clock.h"
#include "base/strbuf.h"

static const uint64_t LIMIT_NS = 10 * UINT64_C(1000000000);

enum { FIELDS_MAX = 16, FIELD_MAX_OCTETS = 512 };

enum sink {
	SINK_PLAIN,
	SINK_TERMINAL,
	SINK_STREAM,  /* stderr goes to the journal: "<6>text" */
	SINK_JOURNAL, /* the journal's own socket, which takes fields */
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

/* Made with systemd-id128 new.  Never change them. */
static const char *const message_ids[LOG_IDS] = {
	[LOG_ID_READY] = "72361e3ec8b545e4ab89d0a4256f1cf1",
	[LOG_ID_SUMMARY] = "e0820b2621e54885a36219b82cbb6a19",
	[LOG_ID_INTERFACE] = "223247aea74b44b991f19e822d55df8f",
	[LOG_ID_CAPTURE_LOSS] = "dcff84c688a7427a9d5f8c83245f7684",
	[LOG_ID_SUBSCRIBER] = "8d5eda149e114f2caee648d14eda7791",
	[LOG_ID_OPENER] = "c2a2d03edb7e49839bf192e73165a601",
	[LOG_ID_RELOADED] = "f4e7b7661eea41b788ab1993bc82b1ce",
	[LOG_ID_BAD_CONFIG] = "8ea2ae8f0b1742108e19e370fcbfaafa",
	[LOG_ID_STALLED] = "99603448537a4aefbd8324664fc14822",
	[LOG_ID_MISSING] = "ef3837af77704ff298c7afbd8a808d1d",
	[LOG_ID_RESCUE] = "841bf942d4a2484d964367628bfdc881",
};

static const char *log_name = "synfind";
static const char *journal_socket = "/run/systemd/journal/socket"; /* tests have none */
static _Atomic enum log_level max_level = LOG_LEVEL_INFO;
static struct {
	bool (*wanted)(void *arg, const char *text);
	void *arg;
} filter;
static enum sink sink;
static pthread_once_t sink_once = PTHREAD_ONCE_INIT;

/* JOURNAL_STREAM names the journal's end by device and inode.  The variable alone proves nothing: a
 * shell may have inherited it and redirected stderr (systemd.exec(5)). */
static bool stderr_is_journal(void)
{
	const char *stream = getenv("JOURNAL_STREAM");
	unsigned long long dev, ino;
	struct stat st;

	return stream && sscanf(stream, "%llu:%llu", &dev, &ino) == 2 &&
	       fstat(STDERR_FILENO, &st) == 0 && st.st_dev == dev && st.st_ino == ino;
}

/* https://no-color.org: set to anything but the empty string. */
static void sink_find(void)
{
	const char *no_color = getenv("NO_COLOR");

	if (stderr_is_journal())
		sink = access(journal_socket, W_OK) == 0 ? SINK_JOURNAL : SINK_STREAM;
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
	atomic_store_explicit(&max_level, level, memory_order_relaxed);
}

void log_set_filter(bool (*wanted)(void *arg, const char *text), void *arg)
{
	filter.wanted = wanted;
	filter.arg = arg;
}

bool log_as_stream(void)
{
	pthread_once(&sink_once, sink_find);
	if (sink == SINK_JOURNAL)
		sink = SINK_STREAM;
	return true;
}

bool log_enabled(enum log_level level)
{
	return level <= atomic_load_explicit(&max_level, memory_order_relaxed);
}

/* C0, DEL and C1.  A terminal obeys C1 as well: U+009B has the effect of ESC [ (ECMA-48 5.4). */
static bool is_control(const char *s)
{
	unsigned char c = (unsigned char)*s;

	return c < 0x20 || c == 0x7f || (c == 0xc2 && (unsigned char)s[1] < 0xa0);
}

/* Appends @text to @line at @at, with control characters escaped; stops while "..." and the end of
 * line still fit.  Returns the new length. */
static size_t append_visible(char line[static LOG_LINE_MAX], size_t at, const char *text)
{
	const size_t end = LOG_LINE_MAX - sizeof "...\n";

	for (unsigned n; *text; text += n) {
		bool shown = (n = strbuf_utf8_length(text)) && !is_control(text);

		n = n ? n : 1;
		if (at + (shown ? n : 4 * n) > end) {
			memcpy(line + at, "...", 3);
			return at + 3;
		}
		for (unsigned i = 0; i < n; i++)
			at += (size_t)sprintf(line + at, shown ? "%c" : "\\x%02x",
					      (unsigned char)text[i]);
	}
	return at;
}

static void write_line(enum log_level level, const char *text)
{
	char line[LOG_LINE_MAX];
	size_t n;

	if (sink == SINK_STREAM)
		n = (size_t)sprintf(line, "<%d>", levels[level].priority);
	else
		n = (size_t)snprintf(line, 64, "%s: %s", log_name,
				     sink == SINK_TERMINAL ? levels[level].coloured
							   : levels[level].word);
	n = append_visible(line, n, text);
	line[n++] = '\n';
	while (write(STDERR_FILENO, line, n) < 0 && errno == EINTR)
		;
}

/* A journal entry: strings NAME=value. */
struct entry {
	struct iovec iov[FIELDS_MAX];
	char text[FIELDS_MAX][FIELD_MAX_OCTETS];
	int n;
};

__attribute__((format(printf, 2, 3))) static void entry_add(struct entry *e, const char *fmt, ...)
{
	char *at = e->text[e->n];
	va_list ap;

	if (e->n == FIELDS_MAX)
		return;
	va_start(ap, fmt);
	if (vsnprintf(at, FIELD_MAX_OCTETS, fmt, ap) > 0)
		e->iov[e->n++] = (struct iovec){ at, strlen(at) };
	va_end(ap);
}

/* False: the journal did not accept it. */
static bool write_entry(enum log_level level, enum log_id id, const struct log_field *fields,
			int err, const char *text)
{
	char message[LOG_LINE_MAX] = "MESSAGE=";
	struct entry e = { .n = 1 };

	e.iov[0] = (struct iovec){ message, append_visible(message, strlen(message), text) };
	entry_add(&e, "PRIORITY=%d", levels[level].priority);
	entry_add(&e, "SYSLOG_IDENTIFIER=%s", log_name);
	if (message_ids[id])
		entry_add(&e, "MESSAGE_ID=%s", message_ids[id]);
	if (err > 0)
		entry_add(&e, "ERRNO=%d", err);
	for (; fields && fields->name; fields++)
		entry_add(&e, "%s=%s", fields->name, fields->value);
	return sd_journal_sendv(e.iov, e.n) >= 0;
}

/* @err: of log_errno(); -1: none. */
__attribute__((format(printf, 5, 0))) static void
write_message(enum log_level level, enum log_id id, const struct log_field *fields, int err,
	      const char *fmt, va_list ap)
{
	char text[LOG_LINE_MAX];
	int saved = errno;
	size_t n;

	if (vsnprintf(text, sizeof text, fmt, ap) < 0) /* %m needs the caller's errno */
		*text = '\0';
	n = strlen(text);
	if (err >= 0)
		snprintf(text + n, sizeof text - n, ": %s",
			 strerrordesc_np(err) ?: "unknown error");
	pthread_once(&sink_once, sink_find);
	if (filter.wanted && !filter.wanted(filter.arg, text)) {
		errno = saved;
		return;
	}
	if (sink != SINK_JOURNAL || !write_entry(level, id, fields, err, text))
		write_line(level, text);
	errno = saved;
}

void log_event(enum log_level level, enum log_id id, const struct log_field *fields,
	       const char *fmt, ...)
{
	va_list ap;

	if (!log_enabled(level))
		return;
	va_start(ap, fmt);
	write_message(level, id, fields, -1, fmt, ap);
	va_end(ap);
}

struct log_number log_number(uint64_t n)
{
	struct log_number t;

	snprintf(t.s, sizeof t.s, "%" PRIu64, n);
	return t;
}

const char *log_hex(char *buf, size_t size, const void *octets, size_t n)
{
	static const char digits[] = "0123456789abcdef";
	const unsigned char *p = octets;
	char *at = buf;

	for (size_t i = 0; i < n && 2 * i + 2 < size; i++) {
		*at++ = digits[p[i] >> 4];
		*at++ = digits[p[i] & 15];
	}
	*at = '\0';
	return buf;
}

int log_errno(int err, const char *fmt, ...)
{
	va_list ap;

	err = abs(err);
	va_start(ap, fmt);
	write_message(LOG_LEVEL_ERR, LOG_ID_NONE, NULL, err, fmt, ap);
	va_end(ap);
	return -err;
}

bool log_limit_pass(struct log_limit *limit, uint64_t *ret_held_back)
{
	uint64_t until = atomic_load_explicit(&limit->quiet_until_ns, memory_order_relaxed);
	uint64_t now = clock_ns(CLOCK_MONOTONIC);

	/* If several threads come at once, the one that changes the word may log. */
	if (now < until ||
	    !atomic_compare_exchange_strong(&limit->quiet_until_ns, &until, now + LIMIT_NS)) {
		atomic_fetch_add_explicit(&limit->held_back, 1, memory_order_relaxed);
		return false;
	}
	*ret_held_back = atomic_exchange_explicit(&limit->held_back, 0, memory_order_relaxed);
	return true;
}
