#include "base/fmt.h"

char *fmt_long(char *p, uint64_t v)
{
	uint64_t high = v / FMT_SHORT;

	if (high < FMT_SHORT) {
		p = fmt_short(p, (uint32_t)high);
	} else {
		p = fmt_short(p, (uint32_t)(high / FMT_SHORT));
		fmt_store8(p, fmt_eight((uint32_t)(high % FMT_SHORT)) | FMT_ZEROS);
		p += 8;
	}
	fmt_store8(p, fmt_eight((uint32_t)(v % FMT_SHORT)) | FMT_ZEROS);
	return p + 8;
}

/* Digits are below 16, so signed comparison is correct. */
typedef int8_t octets16 __attribute__((vector_size(16)));
typedef uint8_t octets16u __attribute__((vector_size(16)));

static octets16 hex_chars(octets16 digits)
{
	return digits + '0' + ((digits > 9) & ('a' - '0' - 10));
}

/* Two digits for each octet of @a: of the first eight octets, or with @halves 2 of all sixteen. */
static void fmt_hex(char *p, octets16 a, unsigned halves)
{
	octets16 high = (octets16)((octets16u)a >> 4), low = a & 15;
	octets16 c = hex_chars(__builtin_shufflevector(high, low, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20,
						       5, 21, 6, 22, 7, 23));

	memcpy(p, &c, sizeof c);
	if (halves < 2)
		return;
	c = hex_chars(__builtin_shufflevector(high, low, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13,
					      29, 14, 30, 15, 31));
	memcpy(p + sizeof c, &c, sizeof c);
}

char *fmt_hex64(char *p, uint64_t v)
{
	uint64_t w[2] = { htobe64(v) };
	octets16 a;

	memcpy(&a, w, sizeof a);
	fmt_hex(p, a, 1);
	return p + 16;
}

/* The date @days after 1970-01-01 as the number YYYYMMDD (Hinnant, "chrono-Compatible Low-Level
 * Date Algorithms": civil_from_days for non-negative days). */
static uint32_t date_of(uint32_t days)
{
	uint32_t z = days + 719468, era = z / 146097, doe = z % 146097;
	uint32_t yoe = (doe - doe / 1460 + doe / 36524 - doe / 146096) / 365;
	uint32_t doy = doe - (365 * yoe + yoe / 4 - yoe / 100), mp = (5 * doy + 2) / 153;
	uint32_t month = mp < 10 ? mp + 3 : mp - 9, year = yoe + era * 400 + (month <= 2);

	return year * 10000 + month * 100 + doy - (153 * mp + 2) / 5 + 1;
}

/* Up to the decimal point, first to last: each store overwrites the excess of the one before. */
static void fmt_second(char *p, uint64_t s)
{
	uint32_t sec = (uint32_t)(s % 86400);
	uint64_t date = fmt_eight(date_of((uint32_t)(s / 86400))) | FMT_ZEROS;
	uint64_t clock = fmt_eight(sec / 3600 * 10000 + sec / 60 % 60 * 100 + sec % 60) | FMT_ZEROS;

	p[0] = '"';
	fmt_store8(p + 1, date);
	p[5] = '-';
	fmt_store8(p + 6, date >> 32);
	p[8] = '-';
	fmt_store8(p + 9, date >> 48);
	p[11] = 'T';
	fmt_store8(p + 12, clock >> 16);
	p[14] = ':';
	fmt_store8(p + 15, clock >> 32);
	p[17] = ':';
	fmt_store8(p + 18, clock >> 48);
	p[20] = '.';
}

/* The fraction and what follows. */
static char *fmt_fraction(char *p, uint32_t ns)
{
	p[0] = (char)('0' + ns / FMT_SHORT);
	fmt_store8(p + 1, fmt_eight(ns % FMT_SHORT) | FMT_ZEROS);
	return fmt_lit(p + 9, "Z\"");
}

enum { SECOND = 1000000000, SECOND_OCTETS = 21 };

char *fmt_timestamp(char *p, uint64_t ns)
{
	fmt_second(p, ns / SECOND);
	return fmt_fraction(p + SECOND_OCTETS, (uint32_t)(ns % SECOND));
}

char *fmt_timestamp_near(char *p, uint64_t ns, struct fmt_second *memo)
{
	uint64_t s = ns / SECOND;
	struct fmt_second_text *last = &memo->near[s % FMT_SECONDS];

	if (s + 1 != last->next) {
		fmt_second(last->text, s);
		last->next = s + 1;
	}
	memcpy(p, last->text, sizeof last->text);
	return fmt_fraction(p + SECOND_OCTETS, (uint32_t)(ns % SECOND));
}

/* "0." to "255.", with length */
#define OCTET(t)                                                                                   \
	{                                                                                          \
		t ".", sizeof t                                                                    \
	}
#define TEN(t)                                                                                     \
	OCTET(t "0"), OCTET(t "1"), OCTET(t "2"), OCTET(t "3"), OCTET(t "4"), OCTET(t "5"),        \
		OCTET(t "6"), OCTET(t "7"), OCTET(t "8"), OCTET(t "9")
static const struct {
	char s[4];
	uint32_t n;
} octet[256] = {
	TEN(""),      TEN("1"),	    TEN("2"),	  TEN("3"),	TEN("4"),     TEN("5"),
	TEN("6"),     TEN("7"),	    TEN("8"),	  TEN("9"),	TEN("10"),    TEN("11"),
	TEN("12"),    TEN("13"),    TEN("14"),	  TEN("15"),	TEN("16"),    TEN("17"),
	TEN("18"),    TEN("19"),    TEN("20"),	  TEN("21"),	TEN("22"),    TEN("23"),
	TEN("24"),    OCTET("250"), OCTET("251"), OCTET("252"), OCTET("253"), OCTET("254"),
	OCTET("255"),
};

char *fmt_ip4(char *p, const uint8_t a[static 4])
{
	for (unsigned i = 0; i < 4; i++) {
		memcpy(p, octet[a[i]].s, sizeof octet->s);
		p += octet[a[i]].n;
	}
	return p - 1; /* the last dot */
}

/* The groups of an IPv6 address, and their digits; 4 spare octets, because each read is 4 wide. */
struct groups {
	unsigned v[8];
	char hex[8 * 4 + 4];
};

/* Groups @from to @to - 1 without leading zeros, each with a colon after it. */
static char *fmt_groups(char *p, const struct groups *g, unsigned from, unsigned to)
{
	for (unsigned i = from; i < to; i++) {
		unsigned n = (unsigned)(35 - __builtin_clz(g->v[i] | 1)) / 4; /* digits */

		memcpy(p, g->hex + 4 * i + 4 - n, 4);
		p[n] = ':';
		p += n + 1;
	}
	return p;
}

char *fmt_ip6(char *p, const uint8_t a[static 16])
{
	static const uint8_t mapped[12] = { [10] = 0xff, [11] = 0xff };
	unsigned zeros = 0, run = 0, last = 0, from;
	struct groups g = { 0 };
	octets16 octets;

	if (!memcmp(a, mapped, sizeof mapped))
		return fmt_ip4(fmt_lit(p, "::ffff:"), a + 12);
	for (unsigned i = 0; i < 8; i++) {
		g.v[i] = (unsigned)a[2 * i] << 8 | a[2 * i + 1];
		zeros |= (unsigned)!g.v[i] << i;
	}
	memcpy(&octets, a, sizeof octets);
	fmt_hex(g.hex, octets, 2);
	/* Bit i: a run of at least `run` zeros begins at group i.  The last non-zero value gives
	 * the longest run; its lowest bit is the first of them (RFC 5952 4.2.3). */
	for (; zeros; run++) {
		last = zeros;
		zeros &= zeros >> 1;
	}
	if (run < 2) /* a single zero group is not compressed (4.2.2) */
		return fmt_groups(p, &g, 0, 8) - 1;
	from = (unsigned)__builtin_ctz(last);
	p = fmt_groups(p, &g, 0, from);
	if (!from)
		*p++ = ':';
	*p++ = ':';
	p = fmt_groups(p, &g, from + run, 8);
	return from + run < 8 ? p - 1 : p;
}
