#include "base/put.h"

char *put_long(char *p, uint64_t v)
{
	uint64_t high = v / PUT_SHORT;

	p = high < PUT_SHORT ? put_short(p, (uint32_t)high) : put_long(p, high);
	put_store8(p, put_eight((uint32_t)(v % PUT_SHORT)) | PUT_ZEROS);
	return p + 8;
}

/* Four hexadecimal digits of each 16-bit half of @v, one in each octet, the first in the low one. */
static uint64_t hex_digits(uint32_t v)
{
	uint64_t x = v >> 16 | (uint64_t)(v & 0xffff) << 32;

	x = (x >> 8 & 0x000000ff000000ff) | (x & 0x000000ff000000ff) << 16;
	return (x >> 4 & 0x000f000f000f000f) | (x & 0x000f000f000f000f) << 8;
}

/* Digits to characters: those above 9 are letters, 'a' - '0' - 10 further on. */
static uint64_t hex_chars(uint64_t digits)
{
	uint64_t letter = (digits + 0x0606060606060606) >> 4 & 0x0101010101010101;

	return digits + PUT_ZEROS + letter * ('a' - '0' - 10);
}

char *put_hex64(char *p, uint64_t v)
{
	put_store8(p, hex_chars(hex_digits((uint32_t)(v >> 32))));
	put_store8(p + 8, hex_chars(hex_digits((uint32_t)v)));
	return p + 16;
}

/* The civil date of a day number since 1970-01-01, read as the number YYYYMMDD (Hinnant,
 * "chrono-Compatible Low-Level Date Algorithms": days_from_civil's inverse, for days that are not
 * negative). */
static uint32_t date_of(uint32_t days)
{
	uint32_t z = days + 719468, era = z / 146097, doe = z % 146097;
	uint32_t yoe = (doe - doe / 1460 + doe / 36524 - doe / 146096) / 365;
	uint32_t doy = doe - (365 * yoe + yoe / 4 - yoe / 100), mp = (5 * doy + 2) / 153;
	uint32_t month = mp < 10 ? mp + 3 : mp - 9, year = yoe + era * 400 + (month <= 2);

	return year * 10000 + month * 100 + doy - (153 * mp + 2) / 5 + 1;
}

/* Up to the point before the fraction.  From the front, each store over what the one before wrote
 * too much. */
static void put_second(char *p, uint64_t s)
{
	uint32_t sec = (uint32_t)(s % 86400);
	uint64_t date = put_eight(date_of((uint32_t)(s / 86400))) | PUT_ZEROS;
	uint64_t clock = put_eight(sec / 3600 * 10000 + sec / 60 % 60 * 100 + sec % 60) | PUT_ZEROS;

	p[0] = '"';
	put_store8(p + 1, date);
	p[5] = '-';
	put_store8(p + 6, date >> 32);
	p[8] = '-';
	put_store8(p + 9, date >> 48);
	p[11] = 'T';
	put_store8(p + 12, clock >> 16);
	p[14] = ':';
	put_store8(p + 15, clock >> 32);
	p[17] = ':';
	put_store8(p + 18, clock >> 48);
	p[20] = '.';
}

/* What follows that. */
static char *put_fraction(char *p, uint32_t ns)
{
	p[0] = (char)('0' + ns / PUT_SHORT);
	put_store8(p + 1, put_eight(ns % PUT_SHORT) | PUT_ZEROS);
	return put_lit(p + 9, "Z\"");
}

enum { SECOND = 1000000000, SECOND_OCTETS = 21 };

char *put_timestamp(char *p, uint64_t ns)
{
	put_second(p, ns / SECOND);
	return put_fraction(p + SECOND_OCTETS, (uint32_t)(ns % SECOND));
}

char *put_timestamp_near(char *p, uint64_t ns, struct put_second *last)
{
	uint64_t s = ns / SECOND;

	if (s + 1 != last->next) {
		put_second(last->text, s);
		last->next = s + 1;
	}
	memcpy(p, last->text, sizeof last->text);
	return put_fraction(p + SECOND_OCTETS, (uint32_t)(ns % SECOND));
}

/* "0" to "255" */
#define TEN(t) t "0", t "1", t "2", t "3", t "4", t "5", t "6", t "7", t "8", t "9"
static const char octet[256][4] = {
	TEN(""),   TEN("1"),  TEN("2"),	 TEN("3"),  TEN("4"),  TEN("5"),  TEN("6"),  TEN("7"),
	TEN("8"),  TEN("9"),  TEN("10"), TEN("11"), TEN("12"), TEN("13"), TEN("14"), TEN("15"),
	TEN("16"), TEN("17"), TEN("18"), TEN("19"), TEN("20"), TEN("21"), TEN("22"), TEN("23"),
	TEN("24"), "250",     "251",	 "252",	    "253",     "254",	  "255",
};

static char *put_octet(char *p, uint8_t v)
{
	memcpy(p, octet[v], sizeof octet[v]);
	return p + 1 + (v >= 10) + (v >= 100);
}

char *put_ip4(char *p, const uint8_t a[static 4])
{
	p = put_octet(p, a[0]);
	for (unsigned i = 1; i < 4; i++) {
		*p = '.';
		p = put_octet(p + 1, a[i]);
	}
	return p;
}

/* Four digits, without zeros in front. */
static char *put_group(char *p, const uint8_t a[static 2])
{
	uint64_t d = hex_digits((uint32_t)a[0] << 24 | (uint32_t)a[1] << 16);
	unsigned zeros = (unsigned)__builtin_ctzll(d | 1u << 24) / 8;
	uint32_t c = htole32((uint32_t)(hex_chars(d) >> 8 * zeros));

	memcpy(p, &c, sizeof c);
	return p + 4 - zeros;
}

char *put_ip6(char *p, const uint8_t a[static 16])
{
	static const uint8_t mapped[12] = { [10] = 0xff, [11] = 0xff };
	unsigned zeros = 0, run = 0, last = 0, from;

	if (!memcmp(a, mapped, sizeof mapped))
		return put_ip4(put_lit(p, "::ffff:"), a + 12);
	for (unsigned i = 0; i < 8; i++)
		zeros |= (unsigned)!(a[2 * i] | a[2 * i + 1]) << i;
	/* Of the places where a run of `run` zeros begins the first is that of the longest run, in
	 * the end; of equals the first (RFC 5952 4.2.3). */
	for (; zeros; run++) {
		last = zeros;
		zeros &= zeros >> 1;
	}
	if (run < 2) { /* a single zero is not shortened (4.2.2) */
		for (unsigned i = 0; i < 8; i++) {
			p = put_group(p, a + 2 * i);
			*p++ = ':';
		}
		return p - 1;
	}
	from = (unsigned)__builtin_ctz(last);
	for (unsigned i = 0; i < from; i++) {
		p = put_group(p, a + 2 * i);
		*p++ = ':';
	}
	if (!from)
		*p++ = ':';
	*p++ = ':';
	for (unsigned i = from + run; i < 8; i++) {
		p = put_group(p, a + 2 * i);
		*p++ = ':';
	}
	return from + run < 8 ? p - 1 : p;
}
