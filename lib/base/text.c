#include "base/text.h"

static const char pairs[] = "00010203040506070809101112131415161718192021222324252627282930313233"
			    "34353637383940414243444546474849505152535455565758596061626364656667"
			    "6869707172737475767778798081828384858687888990919293949596979899";

void text_u64(struct text *t, uint64_t v)
{
	char buf[20], *p = buf + sizeof buf;

	while (v >= 100) {
		p -= 2;
		memcpy(p, pairs + v % 100 * 2, 2);
		v /= 100;
	}
	if (v >= 10) {
		p -= 2;
		memcpy(p, pairs + v * 2, 2);
	} else {
		*--p = (char)('0' + v);
	}
	text_put(t, p, (size_t)(buf + sizeof buf - p));
}

void text_digits(struct text *t, uint64_t v, unsigned digits)
{
	char buf[20];

	for (unsigned i = digits; i--; v /= 10)
		buf[i] = (char)('0' + v % 10);
	text_put(t, buf, digits);
}

static const char hex[] = "0123456789abcdef";

void text_hex64(struct text *t, uint64_t v)
{
	char buf[16];

	for (unsigned i = 16; i--; v >>= 4)
		buf[i] = hex[v & 15];
	text_put(t, buf, sizeof buf);
}

unsigned text_utf8_length(const char *str)
{
	const unsigned char *s = (const unsigned char *)str;
	unsigned n = s[0] < 0x80 ? 1 : s[0] >> 5 == 6 ? 2 : s[0] >> 4 == 14 ? 3 : s[0] >> 3 == 30 ? 4 : 0;
	uint32_t c = n == 1 ? s[0] : s[0] & (0x7fu >> n);
	static const uint32_t least[] = { 0, 0, 0x80, 0x800, 0x10000 };

	for (unsigned i = 1; i < n; i++) {
		if (s[i] >> 6 != 2)
			return 0;
		c = c << 6 | (s[i] & 0x3f);
	}
	return n && c >= least[n] && c <= 0x10ffff && (c < 0xd800 || c > 0xdfff) ? n : 0;
}

void text_json_string(struct text *t, const char *str)
{
	const unsigned char *s = (const unsigned char *)str;

	text_lit(t, "\"");
	while (*s) {
		unsigned n = text_utf8_length((const char *)s);

		if (!n) {
			text_lit(t, "\\ufffd");
			s++;
		} else if (*s == '"' || *s == '\\') {
			char esc[2] = { '\\', (char)*s++ };

			text_put(t, esc, 2);
		} else if (*s < 0x20) {
			text_lit(t, "\\u00");
			text_put(t, &hex[*s >> 4], 1);
			text_put(t, &hex[*s++ & 15], 1);
		} else {
			text_put(t, (const char *)s, n);
			s += n;
		}
	}
	text_lit(t, "\"");
}

/* Civil date of a day number since 1970-01-01 (Hinnant, "chrono-Compatible Low-Level Date
 * Algorithms": days_from_civil's inverse, for days that are not negative). */
static void put_date(struct text *t, uint64_t days)
{
	uint64_t z = days + 719468, era = z / 146097, doe = z % 146097;
	uint64_t yoe = (doe - doe / 1460 + doe / 36524 - doe / 146096) / 365;
	uint64_t doy = doe - (365 * yoe + yoe / 4 - yoe / 100), mp = (5 * doy + 2) / 153;
	uint64_t month = mp < 10 ? mp + 3 : mp - 9, year = yoe + era * 400 + (month <= 2);

	text_digits(t, year, 4);
	text_lit(t, "-");
	text_digits(t, month, 2);
	text_lit(t, "-");
	text_digits(t, doy - (153 * mp + 2) / 5 + 1, 2);
}

void text_timestamp(struct text *t, uint64_t ns)
{
	uint64_t s = ns / 1000000000u, day = s / 86400, sec = s % 86400;

	text_lit(t, "\"");
	put_date(t, day);
	text_lit(t, "T");
	text_digits(t, sec / 3600, 2);
	text_lit(t, ":");
	text_digits(t, sec / 60 % 60, 2);
	text_lit(t, ":");
	text_digits(t, sec % 60, 2);
	text_lit(t, ".");
	text_digits(t, ns % 1000000000u, 9);
	text_lit(t, "Z\"");
}

void text_ip4(struct text *t, const uint8_t a[static 4])
{
	text_u64(t, a[0]);
	for (unsigned i = 1; i < 4; i++) {
		text_lit(t, ".");
		text_u64(t, a[i]);
	}
}

static void put_hex16(struct text *t, unsigned v)
{
	unsigned shift = v > 0xfff ? 12 : v > 0xff ? 8 : v > 0xf ? 4 : 0;

	for (;; shift -= 4) {
		text_put(t, &hex[v >> shift & 15], 1);
		if (!shift)
			break;
	}
}

void text_ip6(struct text *t, const uint8_t a[static 16])
{
	static const uint8_t mapped[12] = { [10] = 0xff, [11] = 0xff };
	unsigned w[8], from = 8, run = 1; /* RFC 5952 4.2.2: a single zero is not shortened */

	if (!memcmp(a, mapped, sizeof mapped)) {
		text_lit(t, "::ffff:");
		text_ip4(t, a + 12);
		return;
	}
	for (unsigned i = 0; i < 8; i++)
		w[i] = (unsigned)a[2 * i] << 8 | a[2 * i + 1];
	for (unsigned i = 0, n; i < 8; i += n ? n : 1) {
		for (n = 0; i + n < 8 && !w[i + n]; n++)
			;
		if (n > run) { /* the longest run; of equals the first (4.2.3) */
			from = i;
			run = n;
		}
	}
	for (unsigned i = 0; i < 8; i++) {
		if (i == from) {
			text_lit(t, "::");
			i += run - 1;
			continue;
		}
		if (i && i != from + run)
			text_lit(t, ":");
		put_hex16(t, w[i]);
	}
}
