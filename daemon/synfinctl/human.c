#include "synfinctl/human.h"
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <wchar.h>
#include "base/cc.h"
#include "base/strbuf.h"

static const uint64_t ns_per_s = 1000000000;

struct human_short human_duration(uint64_t ns)
{
	static const struct {
		unsigned s;
		const char *name;
	} units[] = { { 86400, "d" }, { 3600, "h" }, { 60, "min" }, { 1, "s" } };
	struct human_short t = { "" };
	uint64_t s = ns / ns_per_s;

	if (ns < 10000000) /* 0.03 ms */
		snprintf(t.s, sizeof t.s, ns < 10000 ? "%.3f ms" : "%.2f ms", (double)ns / 1e6);
	else if (ns < ns_per_s)
		snprintf(t.s, sizeof t.s, "%.0f ms", (double)ns / 1e6);
	else if (s < 100)
		snprintf(t.s, sizeof t.s, s < 10 ? "%.2f s" : "%.1f s", (double)ns / 1e9);
	else
		for (unsigned i = 0; i + 1 < ARRAY_SIZE(units); i++)
			if (s >= units[i].s) {
				snprintf(t.s, sizeof t.s, "%" PRIu64 " %s %" PRIu64 " %s",
					 s / units[i].s, units[i].name,
					 s % units[i].s / units[i + 1].s, units[i + 1].name);
				break;
			}
	return t;
}

struct human_short human_octets(uint64_t n)
{
	static const char units[][3] = { "B", "kB", "MB", "GB", "TB", "PB", "EB" };
	struct human_short t;
	double v = (double)n;
	unsigned i = 0;

	/* 999.6 would be printed as 1000 */
	while (v >= 999.5 && i + 1 < ARRAY_SIZE(units)) {
		v /= 1000;
		i++;
	}
	snprintf(t.s, sizeof t.s, i && v < 9.95 ? "%.1f %s" : "%.0f %s", v, units[i]);
	return t;
}

struct human_short human_count(uint64_t n)
{
	struct human_short t;
	char digits[24], *to = t.s;
	int len = snprintf(digits, sizeof digits, "%" PRIu64, n);

	for (int i = 0; i < len; i++) {
		if (i && (len - i) % 3 == 0)
			*to++ = ',';
		*to++ = digits[i];
	}
	*to = 0;
	return t;
}

struct human_short human_plural(uint64_t n, const char *noun)
{
	struct human_short t, count = human_count(n);

	snprintf(t.s, sizeof t.s, "%.26s %s%s", count.s, noun, n == 1 ? "" : "s");
	return t;
}

struct human_short human_time(uint64_t ns, enum human_clock clock, bool date)
{
	struct human_short t;
	time_t s = (time_t)(ns / ns_per_s);
	struct tm tm;
	size_t n;

	if (!(clock == HUMAN_UTC ? gmtime_r(&s, &tm) : localtime_r(&s, &tm)))
		memset(&tm, 0, sizeof tm);
	n = strftime(t.s, sizeof t.s - 5, date ? "%Y-%m-%d %H:%M:%S" : "%H:%M:%S", &tm);
	snprintf(t.s + n, sizeof t.s - n, ".%03u", (unsigned)(ns % ns_per_s / 1000000));
	return t;
}

bool human_parse_time(const char *text, uint64_t *ret)
{
	struct tm tm = { 0 };
	uint64_t fraction = 0;
	time_t s;
	int at = 0;

	if (sscanf(text, "%4d-%2d-%2dT%2d:%2d:%2d%n", &tm.tm_year, &tm.tm_mon, &tm.tm_mday,
		   &tm.tm_hour, &tm.tm_min, &tm.tm_sec, &at) != 6 ||
	    tm.tm_year < 1970 || tm.tm_year > 2500)
		return false;
	text += at;
	if (*text == '.') {
		uint64_t unit = ns_per_s;

		while (*++text >= '0' && *text <= '9') {
			unit /= 10;
			fraction += (uint64_t)(*text - '0') * unit;
		}
	}
	if (strcmp(text, "Z") != 0)
		return false;
	tm.tm_year -= 1900;
	tm.tm_mon -= 1;
	s = timegm(&tm);
	if (s < 0)
		return false;
	*ret = (uint64_t)s * ns_per_s + fraction;
	return true;
}

/* The code point of the sequence of @n octets at @s. */
static uint32_t code_point(const unsigned char *s, unsigned n)
{
	uint32_t c = n == 1 ? s[0] : s[0] & (0xffu >> (n + 1));

	for (unsigned i = 1; i < n; i++)
		c = c << 6 | (s[i] & 0x3f);
	return c;
}

static bool printable(uint32_t c)
{
	if (c < 0x20 || (c >= 0x7f && c < 0xa0))
		return false;
	/* Line separators, and what changes the direction of what follows. */
	return !(c >= 0x2028 && c <= 0x202e) && !(c >= 0x2066 && c <= 0x2069) && c != 0x200e &&
	       c != 0x200f && c != 0x61c && c != 0xfeff;
}

void human_safe(char *ret, size_t size, const char *s)
{
	size_t at = 0;

	while (*s) {
		unsigned n = strbuf_utf8_length(s);

		if (n && printable(code_point((const unsigned char *)s, n))) {
			if (at + n >= size)
				break;
			memcpy(ret + at, s, n);
			at += n;
		} else {
			n = n ? n : 1;
			if (at + 4 * n >= size)
				break;
			for (unsigned i = 0; i < n; i++)
				at += (size_t)sprintf(ret + at, "\\x%02x",
						      (unsigned)(unsigned char)s[i]);
		}
		s += n;
	}
	ret[at] = 0;
}

unsigned human_columns(const char *s)
{
	unsigned columns = 0;

	while (*s) {
		unsigned n = strbuf_utf8_length(s);
		int w;

		n = n ? n : 1;
		w = wcwidth((wchar_t)code_point((const unsigned char *)s, n));
		columns += w > 0 ? (unsigned)w : w < 0;
		s += n;
	}
	return columns;
}
