/* fmt.h - formats text at a pointer, for lines of known maximum length.  "base/strbuf.h" checks the
 * space.
 *
 * Each fmt_x(p, ...) writes at @p and returns the end of what it wrote.  It may also overwrite up
 * to FMT_SPARE octets after that, because stores have a fixed width.  So the caller needs space
 * for the longest line and FMT_SPARE more.  No terminator.  Pure. */
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
	FMT_IP_MAX = 39, /* 8 groups of 4 digits, 7 colons */
};

/* @n octets. */
static inline char *fmt_octets(char *p, const char *s, size_t n)
{
	memcpy(p, s, n);
	return p + n;
}

/* A string literal. */
#define fmt_lit(p, s) fmt_octets((p), "" s, sizeof(s) - 1)

static inline char *fmt_conststr(char *p, const struct conststr *w)
{
	memcpy(p, w->s, sizeof w->s);
	return p + w->n;
}

/* Eight octets, the least significant one first. */
static inline void fmt_store8(char *p, uint64_t v)
{
	v = htole64(v);
	memcpy(p, &v, sizeof v);
}

/* The eight decimal digits of @v < 10^8 as numbers, the first one in the lowest octet.  Splits the
 * number into halves, quarters and eighths within one 64-bit integer.  v * 10486 / 2^20 is v / 100
 * for all v < 10^4; v * 103 / 2^10 is v / 10 for all v < 100. */
static inline uint64_t fmt_eight(uint32_t v)
{
	uint64_t x = v / 10000 | (uint64_t)(v % 10000) << 32;
	uint64_t q = x * 10486 >> 20 & 0x0000007f0000007f;

	x = q | (x - q * 100) << 16;
	q = x * 103 >> 10 & 0x000f000f000f000f;
	return q | (x - q * 10) << 8;
}

#define FMT_ZEROS 0x3030303030303030u /* "00000000" */

/* Decimal, @v < 10^8.  Branch-free: the number of digits is unpredictable. */
static inline char *fmt_short(char *p, uint32_t v)
{
	uint64_t d = fmt_eight(v);
	/* at least one digit stays */
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

/* Decimal, fast for one digit. */
static inline char *fmt_few(char *p, uint64_t v)
{
	if (v > 9)
		return fmt_u64(p, v);
	*p = (char)('0' + v);
	return p + 1;
}

/* 16 lower-case hexadecimal digits. */
char *fmt_hex64(char *p, uint64_t v);

/* RFC 3339, UTC, nine digits of fraction, in quotes: always FMT_TIMESTAMP_MAX octets.  @ns since
 * 1970; years 1970 to 2554. */
char *fmt_timestamp(char *p, uint64_t ns);

enum { FMT_SECONDS = 8 }; /* many connections last only a few seconds */

/* Cache of timestamps up to the fraction: one per second modulo FMT_SECONDS.  Zeroed: empty. */
struct fmt_second {
	struct fmt_second_text {
		uint64_t next; /* the cached second + 1; 0: none */
		char text[FMT_TIMESTAMP_MAX];
	} near[FMT_SECONDS];
};

/* Same as fmt_timestamp(), but faster if @memo has the second of @ns. */
char *fmt_timestamp_near(char *p, uint64_t ns, struct fmt_second *memo);

/* IPv4, dotted decimal. */
char *fmt_ip4(char *p, const uint8_t addr[static 4]);

/* IPv6 in the canonical form of RFC 5952; IPv4-mapped addresses in mixed notation. */
char *fmt_ip6(char *p, const uint8_t addr[static 16]);
