/* human.h - how durations, sizes, times and foreign text are written for people.  Pure. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct human_short {
	char s[40];
};

/* 0.03 ms, 12 ms, 1.02 s, 2 min 5 s, 3 h 4 min, 2 d 1 h: about three digits. */
struct human_short human_duration(uint64_t ns);

/* 78 B, 14 kB, 1.7 MB: powers of 1000. */
struct human_short human_octets(uint64_t n);

/* 1,204,511 */
struct human_short human_count(uint64_t n);

/* "1 segment", "1,204 segments" */
struct human_short human_plural(uint64_t n, const char *noun);

enum human_clock { HUMAN_LOCAL, HUMAN_UTC };

/* 03:01:31.248, or with @date 2026-11-30 03:01:31.248.  @ns since 1970. */
struct human_short human_time(uint64_t ns, enum human_clock clock, bool date);

/* Nanoseconds since 1970 of an RFC 3339 time in UTC with up to nine digits, as lines have it.
 * False: @text is not such a time. */
bool human_parse_time(const char *text, uint64_t *ret);

/* Copies @s: control characters (C0, DEL, C1) and octets that are not UTF-8 become \xNN, and so
 * does what reorders text (bidirectional controls).  Cut to @size, NUL included. */
void human_safe(char *ret, size_t size, const char *s);

/* Columns that @s takes on a terminal; safe text. */
unsigned human_columns(const char *s);
