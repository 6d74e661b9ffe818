#include <arpa/inet.h>
#include <inttypes.h>
#include <string.h>
#include <time.h>
#include "base/cc.h"
#include "base/fmt.h"
#include "tests/support/rand.h"
#include "tests/support/tap.h"

/* What a call wrote, one at a time: the longest piece, what it may touch, and what it may not. */
enum { LONGEST = FMT_IP_MAX, FENCE = 8 };
static char out[LONGEST + FMT_SPARE + FENCE], *p;
static unsigned beyond;

static char *begin(void)
{
	memset(out, '#', sizeof out);
	return out;
}

static bool wrote(const char *want)
{
	size_t n = (size_t)(p - out);

	for (size_t i = n + FMT_SPARE; i < sizeof out; i++)
		beyond += out[i] != '#';
	if (n == strlen(want) && !memcmp(out, want, n))
		return true;
	printf("# got %.*s, want %s\n", (int)n, out, want);
	return false;
}

/* ---- numbers -------------------------------------------------------------------------------- */

static void test_integers(void)
{
	unsigned wrong = 0;
	char want[24];

	p = fmt_u64(begin(), 0);
	ok(wrote("0"), "zero is one digit");
	p = fmt_u64(begin(), UINT64_MAX);
	ok(wrote("18446744073709551615"), "2^64 - 1 is written in full");
	for (uint64_t ten = 1, i = 0; i < 20; i++, ten *= 10) {
		const uint64_t around[] = { ten - 1, ten, ten + 1 };

		for (unsigned k = 0; k < ARRAY_SIZE(around); k++) {
			snprintf(want, sizeof want, "%" PRIu64, around[k]);
			p = fmt_u64(begin(), around[k]);
			wrong += !wrote(want);
		}
	}
	ok(!wrong, "around every power of ten the digits are right");
	for (uint32_t v = 0; v < 10000; v++) {
		snprintf(want, sizeof want, "%04u%04u", v, 9999 - v);
		fmt_store8(p = begin(), fmt_eight(v * 10000 + 9999 - v) | FMT_ZEROS);
		p += 8;
		wrong += !wrote(want);
	}
	ok(!wrong, "every four digits in front and at the back of eight are right");
	for (unsigned v = 0; v < 200; v++) {
		uint64_t n = v < 100 ? v : UINT64_MAX >> rand64() % 64;

		snprintf(want, sizeof want, "%" PRIu64, n);
		p = fmt_few(begin(), n);
		wrong += !wrote(want);
	}
	ok(!wrong, "numbers that seldom have more than one digit are right when they have more");
	for (unsigned i = 0; i < 20000; i++) {
		uint64_t v = rand64() >> rand64() % 64;

		snprintf(want, sizeof want, "%" PRIu64, v);
		p = fmt_u64(begin(), v);
		wrong += !wrote(want);
		snprintf(want, sizeof want, "%016" PRIx64, v);
		p = fmt_hex64(begin(), v);
		wrong += !wrote(want);
	}
	ok(!wrong, "random numbers of every length agree with printf, decimal and hexadecimal");
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
		p = fmt_timestamp(begin(), at[i].s * 1000000000u + at[i].ns);
		ok(wrote(at[i].want), "time: %s", at[i].want);
	}
	for (unsigned i = 0; i < 20000; i++) {
		uint64_t ns = rand64();
		time_t s = (time_t)(ns / 1000000000u);
		char want[64], date[32];
		struct tm tm;

		strftime(date, sizeof date, "%Y-%m-%dT%H:%M:%S", gmtime_r(&s, &tm));
		snprintf(want, sizeof want, "\"%s.%09uZ\"", date, (unsigned)(ns % 1000000000u));
		p = fmt_timestamp(begin(), ns);
		wrong += !wrote(want);
	}
	ok(!wrong, "time: random times of 1970 to 2554 agree with gmtime()");

	struct fmt_second last = { 0 };

	/* Within a second, to and fro by one, to one that takes its place, anywhere. */
	for (unsigned i = 0; i < 20000; i++) {
		static uint64_t s;
		uint64_t ns;
		char want[FMT_TIMESTAMP_MAX + FMT_SPARE];

		s = i % 64 == 63 ? rand64() / 1000000000u
		    : i % 8 == 7 ? s ^ 1
		    : i % 8 == 3 ? s ^ FMT_SECONDS
				 : s;
		ns = s * 1000000000u + rand64() % 709551616u;
		*fmt_timestamp(want, ns) = '\0';
		p = fmt_timestamp_near(begin(), ns, &last);
		wrong += !wrote(want);
	}
	ok(!wrong, "time: near the ones before, the text is the same");
	last = (struct fmt_second){ 0 };
	for (uint64_t s = 0; s < 2 * FMT_SECONDS; s++) {
		char want[FMT_TIMESTAMP_MAX + FMT_SPARE];

		*fmt_timestamp(want, s * 1000000000u) = '\0';
		p = fmt_timestamp_near(begin(), s * 1000000000u, &last);
		wrong += !wrote(want);
	}
	ok(!wrong, "time: the first seconds of 1970 are not taken for nothing");
}

/* ---- addresses ------------------------------------------------------------------------------ */

static bool ip6_is(const uint8_t a[16], const char *want)
{
	p = fmt_ip6(begin(), a);
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
		p = fmt_ip4(begin(), a);
		wrong += !wrote(inet_ntop(AF_INET, a, want, sizeof want));
	}
	ok(!wrong, "IPv4 addresses agree with glibc");
}

/* ---- words ----------------------------------------------------------------------------------- */

static void test_words(void)
{
	static const struct conststr words[] = { CONSTSTR(""), CONSTSTR("a"),
						 CONSTSTR("abcdefghijklmnopqrstuv") };

	for (unsigned i = 0; i < ARRAY_SIZE(words); i++) {
		p = fmt_conststr(begin(), &words[i]);
		ok(wrote(words[i].s) && words[i].n == strlen(words[i].s), "a word of %u octets",
		   words[i].n);
	}
	p = fmt_lit(fmt_lit(begin(), "in"), "deed");
	ok(wrote("indeed"), "what comes next follows at once");
}

int main(void)
{
	rng = tap_seed(5952);
	test_integers();
	test_timestamps();
	test_addresses();
	test_words();
	ok(!beyond, "nothing is touched more than FMT_SPARE octets after the end");
	return tap_done();
}
