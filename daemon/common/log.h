/* log.h - writes each message as one line to stderr; under systemd as a journal entry with fields.
 *
 * Any thread may log at any time; each line is one write(2), so lines of several threads never mix.
 * Control characters and invalid UTF-8 are written as \xNN, so that a name or path cannot forge a
 * line, control a terminal, or make the journal hide the message as binary data.  errno is
 * unchanged.  A message is cut at LOG_LINE_MAX octets, marked by "...". */
#pragma once
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { LOG_LINE_MAX = 2048 };

enum log_level {
	LOG_LEVEL_ERR,
	LOG_LEVEL_WARN,
	LOG_LEVEL_INFO,
	LOG_LEVEL_DEBUG,
};

/* Messages with a MESSAGE_ID, which programs can search for: see docs/operating.md. */
enum log_id {
	LOG_ID_NONE,
	LOG_ID_READY,
	LOG_ID_SUMMARY,
	LOG_ID_INTERFACE, /* watched, up, down, gone: SYNFIND_STATE */
	LOG_ID_CAPTURE_LOSS,
	LOG_ID_SUBSCRIBER, /* here, refused, slow, gone: SYNFIND_STATE */
	LOG_ID_OPENER,	   /* gone, back: SYNFIND_STATE */
	LOG_ID_RELOADED,
	LOG_ID_BAD_CONFIG,
	LOG_ID_STALLED,
	LOG_ID_MISSING, /* a configured interface */
	LOG_ID_RESCUE,
	LOG_IDS,
};

struct log_field {
	const char *name, *value; /* SYNFIND_INTERFACE, eth0 */
};

/* One per call site with a rate limit. */
struct log_limit {
	_Atomic uint64_t quiet_until_ns;
	_Atomic uint64_t held_back;
};

/* The program's name, a literal; initially "synfind". */
void log_set_name(const char *name);

/* Suppresses messages less severe than @level; initially LOG_LEVEL_INFO. */
void log_set_level(enum log_level level);

/* Suppresses the messages for which @wanted returns false; NULL: none.  Main thread only. */
void log_set_filter(bool (*wanted)(void *arg, const char *text), void *arg);

/* For a process that ends at once: the journal then knows its unit nevertheless, because it knows
 * that of the stream.  Messages have no fields.  Returns true. */
bool log_as_stream(void);

/* Is a message of @level written? */
bool log_enabled(enum log_level level);

/* Logs with an id and fields, which end with a NULL name: LOG_FIELDS.  stderr gets no fields, so
 * the message must be complete without them.  "%m" stands for the text of errno, as in
 * syslog(3). */
__attribute__((format(printf, 4, 5))) void log_event(enum log_level level, enum log_id id,
						     const struct log_field *fields,
						     const char *fmt, ...);
#define LOG_FIELDS(...) ((const struct log_field[]){ __VA_ARGS__, { NULL, NULL } })

/* A number as the value of a field; it lives until the end of the full expression. */
struct log_number {
	char s[24];
};
struct log_number log_number(uint64_t n);

/* Writes the first of @n octets as hexadecimal digits, as many as fit; returns @buf. */
const char *log_hex(char *buf, size_t size, const void *octets, size_t n);

/* Logs the message, ": " and the text of @err (errno or -errno) as an error.  Returns -errno:
 * `return log_errno(r, "Cannot open '%s'", path)`. */
__attribute__((format(printf, 2, 3))) int log_errno(int err, const char *fmt, ...);

/* May this call site log?  At most once in ten seconds.  If it may, *@ret_held_back is the number
 * of messages suppressed since the last one. */
bool log_limit_pass(struct log_limit *limit, uint64_t *ret_held_back);

#define log_at(level, ...) log_event(level, LOG_ID_NONE, NULL, __VA_ARGS__)

#define log_error(...) log_at(LOG_LEVEL_ERR, __VA_ARGS__)
#define log_warn(...)  log_at(LOG_LEVEL_WARN, __VA_ARGS__)
#define log_info(...)  log_at(LOG_LEVEL_INFO, __VA_ARGS__)
#define log_debug(...) log_at(LOG_LEVEL_DEBUG, __VA_ARGS__)

/* log_at() for what may happen a million times a second; adds the number of suppressed messages. */
#define log_limited(level, fmt, ...)                                                               \
	do {                                                                                       \
		static struct log_limit limit_;                                                    \
		uint64_t held_back_;                                                               \
		if (!log_enabled(level) || !log_limit_pass(&limit_, &held_back_))                  \
			break;                                                                     \
		if (held_back_)                                                                    \
			log_at(level, fmt " (and %llu times before that)", ##__VA_ARGS__,          \
			       (unsigned long long)held_back_);                                    \
		else                                                                               \
			log_at(level, fmt, ##__VA_ARGS__);                                         \
	} while (0)
