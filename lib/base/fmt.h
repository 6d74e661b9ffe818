/* fmt.h - text at a pointer, for lines whose greatest length is known: "base/strbuf.h" is the
 * builder that checks its room, and uses these.
 *
 * Every put_x(p, ...) writes at @p and returns the place behind.  It may also touch up to FMT_SPARE
 * octets behind that: stores have one width, and what comes next overwrites what was too much.  So
 * the caller has room for the longest line and FMT_SPARE more.  No terminator.  Pure. */
#pragma once
#include <endian.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include "base/conststr.h"

enum {
	FMT_SPARE = 24,
	FMT_SHORT = 100000000, /* 10^8 */
	FMT_U64_MAX = 20,
	FMT_TIMESTAMP_MAX = 32,
	FMT_IP_MAX = 39, /* eight groups of four digits and seven colons */
};

/* @n octets. */
static inline char *fmt_octets(char *p, const char *s, size_t n)
{
	memcpy(p, s, n);
	return p + n;
}

/* A string literal: its length is known to the compiler. */
#define fmt_lit(p, s) fmt_octets((p), "" s, sizeof(s) - 1)

static inline char *fmt_conststr(char *p, const struct conststr *w)
{
	memcpy(p, w->s, sizeof w->s);
	return p + w->n;
}

/* Eight octets, the low one first. */
static inline void fmt_store8(char *p, uint64_t v)
{
	v = htole64(v);
	memcpy(p, &v, sizeof v);
}

/* The eight decimal digits of @v < 10^8, not yet characters, the first in the low octet.  Halves,
 * quarters and eighths of the number side by side in one word: 10486 / 2^20 is 1/100 for all below
 * 10^4, 103 / 2^10 is 1/10 for all below 100. */
static inline uint64_t fmt_eight(uint32_t v)
{
	uint64_t x = v / 10000 | (uint64_t)(v % 10000) << 32;
	uint64_t q = x * 10486 >> 20 & 0x0000007f0000007f;

	x = q | (x - q * 100) << 16;
	q = x * 103 >> 10 & 0x000f000f000f000f;
	return q | (x - q * 10) << 8;
}

#define FMT_ZEROS 0x3030303030303030u /* "00000000" */

/* Decimal, @v < 10^8.  No branch: digits of connections are not to be predicted. */
static inline char *fmt_short(char *p, uint32_t v)
{
	uint64_t d = fmt_eight(v);
	/* of the zeros in front the last one stays */
	unsigned zeros = (unsigned)__builtin_ctzll(d | 1ull << 56) / 8;

	fmt_store8(p, (d | FMT_ZEROS) >> 8 * zeros);
	return p + 8 - zeros;
}

/* Decimal, @v >= 10^8. */
char *fmt_long(char *p, uint64_t v);

/* Decimal. */
static inline char *fmt_u64(char *p, uint64_t v)
{
	return v < FMT_SHORT ? fmt_short(p, (uint32_t)v) : fmt_long(p, v);
}

/* Decimal, of what seldom has more than one digit. */
static inline char *fmt_few(char *p, uint64_t v)
{
	if (v > 9)
		return fmt_u64(p, v);
	*p = (char)('0' + v);
	return p + 1;
}

/* 16 lower-case hexadecimal digits. */
char *fmt_hex64(char *p, uint64_t v);

/* RFC 3339, UTC, nine digits of fraction, in quotes: FMT_TIMESTAMP_MAX octets, always.  @ns since
 * 1970; years 1970 to 2554. */
char *fmt_timestamp(char *p, uint64_t ns);

enum { FMT_SECONDS = 8 }; /* a connection often ends a few after its start */

/* Up to the fraction: what was written last of the seconds with the same remainder.  Zeroed:
 * nothing. */
struct fmt_second {
	struct fmt_second_text {
		uint64_t next; /* the second after it */
		char text[FMT_TIMESTAMP_MAX];
	} near[FMT_SECONDS];
};

/* The same text as fmt_timestamp(), sooner if the second of @ns was written lately. */
char *fmt_timestamp_near(char *p, uint64_t ns, struct fmt_second *memo);

/* IPv4 dotted, @addr of 4 octets. */
char *fmt_ip4(char *p, const uint8_t addr[static 4]);

/* IPv6 in the canonical form of RFC 5952 (IPv4-mapped ones in mixed notation). */
char *fmt_ip6(char *p, const uint8_t addr[static 16]);
