#include <arpa/inet.h>
#include <inttypes.h>
#include <jansson.h>
#include <string.h>
#include <time.h>
#include "base/cc.h"
#include "base/text.h"
#include "tests/support/rand.h"
#include "tests/support/tap.h"

/* What a call wrote, terminated; one at a time. */
static char out[512];
static struct text text;

static struct text *begin(void)
{
	text = (struct text){ .p = out, .end = out + sizeof out - 1 };
	return &text;
}

static bool wrote(const char *want)
{
	*text.p = '\0';
	if (!text.full && !strcmp(out, want))
		return true;
	printf("# got %s, want %s%s\n", out, want, text.full ? ", full" : "");
	return false;
}

/* ---- numbers -------------------------------------------------------------------------------- */

static void test_integers(void)
{
	unsigned wrong = 0;
	char want[24];

	text_u64(begin(), 0);
	ok(wrote("0"), "zero is one digit");
	text_u64(begin(), UINT64_MAX);
	ok(wrote("18446744073709551615"), "2^64 - 1 is written in full");
	for (uint64_t ten = 1, i = 0; i < 20; i++, ten *= 10) {
		const uint64_t around[] = { ten - 1, ten, ten + 1 };

		for (unsigned k = 0; k < ARRAY_SIZE(around); k++) {
			snprintf(want, sizeof want, "%" PRIu64, around[k]);
			text_u64(begin(), around[k]);
			wrong += !wrote(want);
		}
	}
	ok(!wrong, "around every power of ten the digits are right");
	for (unsigned i = 0; i < 20000; i++) {
		uint64_t v = rand64() >> rand64() % 64;

		snprintf(want, sizeof want, "%" PRIu64, v);
		text_u64(begin(), v);
		wrong += !wrote(want);
		snprintf(want, sizeof want, "%016" PRIx64, v);
		text_hex64(begin(), v);
		wrong += !wrote(want);
	}
	ok(!wrong, "random numbers of every length agree with printf, decimal and hexadecimal");
	text_digits(begin(), 7, 2);
	ok(wrote("07"), "fixed digits have zeros in front");
	text_digits(begin(), 12345, 3);
	ok(wrote("345"), "fixed digits keep the low ones");
	text_digits(begin(), UINT64_MAX, 20);
	ok(wrote("18446744073709551615"), "twenty fixed digits hold 2^64 - 1");
	text_digits(begin(), 1, 0);
	ok(wrote(""), "no digits are none");
}

/* ---- time ----------------------------------------------------------------------------------- */

static void test_timestamps(void)
{
	static const struct {
		uint64_t s;
		uint32_t ns;
		const char *want;
	} at[] = {
		{ 0, 0, "\"1970-01-01T00:00:00.000000000Z\"" },
		{ 0, 1, "\"1970-01-01T00:00:00.000000001Z\"" },
		{ 68169599, 999999999, "\"1972-02-28T23:59:59.999999999Z\"" },
		{ 68169600, 0, "\"1972-02-29T00:00:00.000000000Z\"" },
		{ 951782400, 5, "\"2000-02-29T00:00:00.000000005Z\"" },
		{ 951868800, 0, "\"2000-03-01T00:00:00.000000000Z\"" },
		{ 978307199, 100000000, "\"2000-12-31T23:59:59.100000000Z\"" },
		{ 1709164800, 0, "\"2024-02-29T00:00:00.000000000Z\"" },
		{ 1709251200, 0, "\"2024-03-01T00:00:00.000000000Z\"" },
		{ 4107542399, 0, "\"2100-02-28T23:59:59.000000000Z\"" },
		{ 4107542400, 0, "\"2100-03-01T00:00:00.000000000Z\"" },
		{ 9223372036, 854775807, "\"2262-04-11T23:47:16.854775807Z\"" }, /* 2^63 - 1 */
		{ 9223372036, 854775808, "\"2262-04-11T23:47:16.854775808Z\"" },
		{ 18446744073, 709551615, "\"2554-07-21T23:34:33.709551615Z\"" }, /* 2^64 - 1 */
	};
	unsigned wrong = 0;

	for (unsigned i = 0; i < ARRAY_SIZE(at); i++) {
		text_timestamp(begin(), at[i].s * 1000000000u + at[i].ns);
		ok(wrote(at[i].want), "time: %s", at[i].want);
	}
	for (unsigned i = 0; i < 20000; i++) {
		uint64_t ns = rand64();
		time_t s = (time_t)(ns / 1000000000u);
		char want[64], date[32];
		struct tm tm;

		strftime(date, sizeof date, "%Y-%m-%dT%H:%M:%S", gmtime_r(&s, &tm));
		snprintf(want, sizeof want, "\"%s.%09uZ\"", date, (unsigned)(ns % 1000000000u));
		text_timestamp(begin(), ns);
		wrong += !wrote(want);
	}
	ok(!wrong, "time: random times of 1970 to 2554 agree with gmtime()");
}

/* ---- addresses ------------------------------------------------------------------------------ */

static bool ip6_is(const uint8_t a[16], const char *want)
{
	text_ip6(begin(), a);
	return wrote(want);
}

/* glibc still writes ::a.b.c.d for ::/96, which RFC 5952 section 5 does not ask for. */
static bool glibc_is_old(const uint8_t a[16])
{
	static const uint8_t zero[12];

	return !memcmp(a, zero, sizeof zero);
}

static void test_addresses(void)
{
	static const struct {
		const char *in, *want, *why;
	} hand[] = {
		{ "::", "::", "all zero" },
		{ "::1", "::1", "loopback" },
		{ "0:0:0:0:0:0:0102:0304", "::102:304", "::/96 is not mixed notation" },
		{ "::ffff:192.0.2.1", "::ffff:192.0.2.1", "IPv4-mapped, section 5" },
		{ "::ffff:0:0", "::ffff:0.0.0.0", "IPv4-mapped zero" },
		{ "::fffe:c000:201", "::fffe:c000:201", "nearly IPv4-mapped" },
		{ "64:ff9b::192.0.2.33", "64:ff9b::c000:221", "no mixed notation by guess" },
		{ "2001:db8:0:1:1:1:1:1", "2001:db8:0:1:1:1:1:1",
		  "4.2.2: one zero is not shortened" },
		{ "2001:0:0:1:0:0:0:1", "2001:0:0:1::1", "4.2.3: the longest run" },
		{ "2001:db8:0:0:1:0:0:1", "2001:db8::1:0:0:1", "4.2.3: of equals the first" },
		{ "2001:DB8::A:B", "2001:db8::a:b", "4.3: lower case" },
		{ "2001:0db8::0001", "2001:db8::1", "4.1: no zeros in front" },
		{ "1::", "1::", "a run at the end" },
		{ "0:0:1::", "0:0:1::", "the longer run at the end" },
		{ "1:0:0:2:3:4:0:0", "1::2:3:4:0:0", "equal runs, one at the end" },
		{ "fe80:0:0:0:0:0:0:0", "fe80::", "seven zeros" },
		{ "0:1:2:3:4:5:6:7", "0:1:2:3:4:5:6:7", "one zero in front" },
		{ "1:2:3:4:5:6:7:0", "1:2:3:4:5:6:7:0", "one zero at the end" },
		{ "0:0:1:2:3:4:5:6", "::1:2:3:4:5:6", "two zeros in front" },
		{ "1000:200:30:4:f000:f00:f0:f", "1000:200:30:4:f000:f00:f0:f",
		  "one to four digits" },
	};
	unsigned wrong = 0, old = 0;
	char want[INET6_ADDRSTRLEN];
	uint8_t a[16];

	for (unsigned i = 0; i < ARRAY_SIZE(hand); i++) {
		inet_pton(AF_INET6, hand[i].in, a);
		ok(ip6_is(a, hand[i].want), "RFC 5952: %s (%s)", hand[i].want, hand[i].why);
	}
	for (unsigned zeros = 0; zeros < 256; zeros++) { /* every pattern of zero groups */
		for (unsigned i = 0; i < 8; i++) {
			uint16_t w = zeros >> i & 1 ? 0 : htons((uint16_t)(1 + rand64() % 65535));

			memcpy(a + 2 * i, &w, sizeof w);
		}
		if (!glibc_is_old(a))
			wrong += !ip6_is(a, inet_ntop(AF_INET6, a, want, sizeof want));
	}
	ok(!wrong, "RFC 5952: every pattern of zero groups agrees with glibc");
	for (unsigned i = 0; i < 50000; i++) {
		for (unsigned k = 0; k < 16; k++)
			a[k] = rand64() % 3 ? 0 : (uint8_t)rand64();
		if (glibc_is_old(a))
			old++;
		else
			wrong += !ip6_is(a, inet_ntop(AF_INET6, a, want, sizeof want));
	}
	ok(!wrong && old < 5000, "RFC 5952: random addresses full of zeros agree with glibc");
	for (unsigned i = 0; i < 50000; i++) {
		uint32_t v = (uint32_t)(rand64() >> rand64() % 64);

		memcpy(a, &v, sizeof v);
		text_ip4(begin(), a);
		wrong += !wrote(inet_ntop(AF_INET, a, want, sizeof want));
	}
	ok(!wrong, "IPv4 addresses agree with glibc");
}

/* ---- strings -------------------------------------------------------------------------------- */

/* @s written as JSON and read back by jansson; NULL: jansson refuses it. */
static json_t *there_and_back(const char *s)
{
	struct text *t = begin();

	text_json_string(t, s);
	return t->full ? NULL : json_loadb(out, (size_t)(t->p - out), JSON_DECODE_ANY, NULL);
}

static bool comes_back_as(const char *s, const char *want)
{
	json_t *j = there_and_back(s);
	bool good = j && !strcmp(json_string_value(j), want);

	json_decref(j);
	return good;
}

#define BAD "\xef\xbf\xbd" /* U+FFFD */

/* Valid UTF-8, by jansson's judgement, comes back as it is; anything else is still valid JSON. */
static bool sound(const char *s)
{
	json_t *valid = json_string(s), *j = there_and_back(s);
	bool good = j && (valid ? json_equal(valid, j) : !!strstr(json_string_value(j), BAD));

	json_decref(valid);
	json_decref(j);
	return good;
}

static void test_json_strings(void)
{
	static const struct {
		const char *in, *want, *why;
	} hand[] = {
		{ "", "", "the empty string" },
		{ "eth0", "eth0", "a plain name" },
		{ "a\"b\\c/d", "a\"b\\c/d", "quotes and backslashes" },
		{ "\x01\x1f\n\r\t\b\f\x7f", "\x01\x1f\n\r\t\b\f\x7f", "control characters" },
		{ "z\xc3\xbcrich\xe2\x82\xac\xf0\x9f\x98\x80",
		  "z\xc3\xbcrich\xe2\x82\xac\xf0\x9f\x98\x80", "two, three and four octets" },
		{ "\xef\xbf\xbf\xf4\x8f\xbf\xbf", "\xef\xbf\xbf\xf4\x8f\xbf\xbf",
		  "the last of three and of four" },
		{ "\xc0\x80", BAD BAD, "an overlong NUL" },
		{ "\xc1\xbf", BAD BAD, "an overlong DEL" },
		{ "\xe0\x9f\xbf", BAD BAD BAD, "overlong in three" },
		{ "\xf0\x8f\xbf\xbf", BAD BAD BAD BAD, "overlong in four" },
		{ "\xed\xa0\x80", BAD BAD BAD, "the first surrogate" },
		{ "\xed\xbf\xbf", BAD BAD BAD, "the last surrogate" },
		{ "\xed\x9f\xbf\xee\x80\x80", "\xed\x9f\xbf\xee\x80\x80",
		  "the neighbours of the surrogates" },
		{ "\xf4\x90\x80\x80", BAD BAD BAD BAD, "beyond U+10FFFF" },
		{ "\xf8\x88\x80\x80\x80", BAD BAD BAD BAD BAD, "five octets" },
		{ "\x80", BAD, "a continuation alone" },
		{ "\xe2\x82", BAD BAD, "cut by the end" },
		{ "\xe2\x82x", BAD BAD "x", "cut by a letter" },
		{ "\xf0\x9f\x98\"", BAD BAD BAD "\"", "cut by a quote" },
		{ "\xff\xfe", BAD BAD, "never in UTF-8" },
	};
	unsigned wrong = 0;

	for (unsigned i = 0; i < ARRAY_SIZE(hand); i++)
		ok(comes_back_as(hand[i].in, hand[i].want), "JSON string: %s", hand[i].why);
	for (unsigned c = 1; c < 256; c++) {
		char in[] = { 'a', (char)c, 'z', '\0' }, plain[] = { 'a', (char)c, 'z', '\0' };

		wrong += !comes_back_as(in, c < 0x80 ? plain : "a" BAD "z");
	}
	ok(!wrong, "JSON string: each octet comes back, or as U+FFFD");
	for (unsigned c = 1; c < 65536; c++) {
		char in[] = { (char)(c >> 8), (char)c, '\0' };

		wrong += !sound(in);
	}
	ok(!wrong, "JSON string: every pair of octets is told well-formed or not as by jansson");
	for (unsigned i = 0; i < 200000; i++) {
		static const unsigned char odd[] = {
			0x7f, 0x80, 0x8f, 0x90, 0x9f, 0xa0, 0xbf, 0xc0, 0xc2, 0xdf, 0xe0, 0xed,
			0xef, 0xf0, 0xf4, 0xf5, 0xff, '"',  '\\', 'x',	0x01, 0x1f, 0xe1, 0xf1
		};
		char in[9] = { 0 };

		for (unsigned k = 0, n = 1 + (unsigned)(rand64() % 8); k < n; k++)
			in[k] = (char)odd[rand64() % sizeof odd];
		wrong += !sound(in);
	}
	ok(!wrong, "JSON string: so is what random edges of UTF-8 make");
}

/* ---- room ----------------------------------------------------------------------------------- */

enum piece { PUT, LIT, STR, U64, DIGITS, HEX, JSON, TIME, IP4, IP6, PIECES };

static void append(struct text *t, enum piece p)
{
	static const uint8_t a[16] = {
		0x20, 0x01, 0xd, 0xb8, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12
	};

	switch (p) {
	case PUT:
		text_put(t, "abcdef", 6);
		break;
	case LIT:
		text_lit(t, "literal");
		break;
	case STR:
		text_str(t, "string");
		break;
	case U64:
		text_u64(t, 12345678901234567890u);
		break;
	case DIGITS:
		text_digits(t, 42, 9);
		break;
	case HEX:
		text_hex64(t, 0xfeedfacecafebeef);
		break;
	case JSON:
		text_json_string(t, "q\"\x01\xff\xe2\x82\xac");
		break;
	case TIME:
		text_timestamp(t, 1709164800123456789);
		break;
	case IP4:
		text_ip4(t, a);
		break;
	case IP6:
		text_ip6(t, a);
		break;
	case PIECES:
		break;
	}
}

static void test_room(void)
{
	unsigned beyond = 0, unsaid = 0, early = 0, moved = 0, torn = 0, after = 0;

	for (enum piece p = 0; p < PIECES; p++) {
		append(begin(), p);
		size_t len = (size_t)(text.p - out);
		char whole[sizeof out];

		memcpy(whole, out, len);
		for (size_t room = 0; room <= len; room++) {
			char *mem = malloc(room + 1); /* exact, for the address sanitizer */
			struct text t = { .p = mem, .end = mem + room };

			mem[room] = '#';
			append(&t, p);
			unsaid += room < len && !t.full;
			early += room == len && (t.full || t.p != t.end);
			beyond += mem[room] != '#' || t.p > t.end;
			torn += !!memcmp(mem, whole, (size_t)(t.p - mem));
			moved += p < JSON && room < len && t.p != mem; /* those of one piece */

			char *p0 = t.p;

			text_lit(&t, "");
			text_put(&t, "x", t.full);
			after += t.full && t.p != p0;
			free(mem);
		}
	}
	ok(!unsaid, "an append that does not fit sets full, whatever the room");
	ok(!early, "an append that just fits is whole and not full");
	ok(!beyond, "nothing is written beyond the room");
	ok(!moved, "a number or a string that does not fit is not begun");
	ok(!torn, "what was written before the room ended is right");
	ok(!after, "after the first refusal everything is refused, however short");
}

int main(void)
{
	rng = tap_seed(5952);
	test_integers();
	test_timestamps();
	test_addresses();
	test_json_strings();
	test_room();
	return tap_done();
}
