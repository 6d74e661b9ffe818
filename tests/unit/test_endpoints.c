#include <stdio.h>
#include <string.h>
#include "flow/endpoints.h"
#include "flow/event.h"
#include "flow/key.h"
#include "tests/support/tap.h"
#include "wire/segment.h"

static struct endpoint endpoint_of(const char *net, int port)
{
	struct endpoint e = { .has_port = port >= 0, .port = port >= 0 ? (uint16_t)port : 0 };

	if (net && !endpoint_parse(&e, net))
		printf("# %s is no network\n", net);
	return e;
}

static void test_text(void)
{
	static const char *const good[][2] = {
		{ "10.0.0.7", "10.0.0.7" },
		{ "10.0.0.7/32", "10.0.0.7" },
		{ "10.1.2.3/8", "10.0.0.0/8" },
		{ "10.1.2.255/31", "10.1.2.254/31" },
		{ "255.255.255.255/0", "0.0.0.0/0" },
		{ "::1", "::1" },
		{ "2001:db8:ffff::1/33", "2001:db8:8000::/33" },
		{ "::ffff:10.0.0.1/128", "::ffff:10.0.0.1" },
	};
	static const char *const bad[] = {
		"",
		"/8",
		"10.0.0",
		"10.0.0.7/",
		"10.0.0.7/33",
		"10.0.0.7/8/8",
		"::/129",
		"::/-1",
		"10.0.0.7/ 8",
		"10.0.0.7/+8",
		"10.0.0.7/0x8",
		"a.b.c.d",
		"::1%lo",
		"10.0.0.07",
		" 10.0.0.7",
		"10.0.0.7/9999999999",
		"1111:1111:1111:1111:1111:1111:1111:1111:1111:1111:1111:1111",
	};
	unsigned wrong = 0;
	char text[ENDPOINT_TEXT_MAX];

	for (unsigned i = 0; i < sizeof good / sizeof *good; i++) {
		struct endpoint e = { 0 };

		wrong += !endpoint_parse(&e, good[i][0]);
		endpoint_text(&e, text);
		if (strcmp(text, good[i][1]) != 0 && ++wrong)
			printf("# %s is %s\n", good[i][0], text);
	}
	ok(!wrong, "addresses and networks, without the bits behind the prefix");
	wrong = 0;
	for (unsigned i = 0; i < sizeof bad / sizeof *bad; i++) {
		struct endpoint e = { 0 };

		if (endpoint_parse(&e, bad[i]) && ++wrong)
			printf("# '%s' is accepted\n", bad[i]);
	}
	ok(!wrong, "all else is no network");
}

static unsigned of_segment(const struct endpoints *e, const struct segment *s)
{
	struct event v = { .ip_v = s->ip_v, .port = { s->dport, s->sport } };
	struct flow_key k;

	memcpy(v.addr[0], s->dst, sizeof s->dst);
	memcpy(v.addr[1], s->src, sizeof s->src);
	flow_key_of(s, &k);

	unsigned of = endpoints_of_segment(e, s);

	return endpoints_of_event(e, &v) == of && endpoints_of_key(e, &k) == of ? of : ~0u;
}

static void test_match(void)
{
	struct endpoints e = { .used = 0x80ff,
			       .at = { endpoint_of("10.0.0.7", -1), endpoint_of("10.0.0.0/9", -1),
				       endpoint_of(NULL, 443), endpoint_of("10.0.0.7", 443),
				       endpoint_of("10.0.0.8", 443), endpoint_of("0.0.0.0/0", -1),
				       endpoint_of("::/0", -1), endpoint_of("2001:db8::/35", 80),
				       [15] = endpoint_of("10.127.255.0/24", -1) } };
	struct segment s = { .ip_v = 4,
			     .src = { 10, 0, 0, 7 },
			     .dst = { 192, 0, 2, 1 },
			     .sport = 443,
			     .dport = 40000 };

	ok(of_segment(&e, &s) == 0x2f, "either by address, network, port or both");
	s.sport = 40000;
	s.dport = 443;
	ok(of_segment(&e, &s) == 0x27, "both have to be those of one end");
	s = (struct segment){ .ip_v = 4, .src = { 10, 128 }, .dst = { 10, 127, 255, 255 } };
	ok(of_segment(&e, &s) == 0x8022, "networks end at a bit");
	s = (struct segment){ .ip_v = 6, .src = { 0x20, 1, 0xd, 0xb8, 0x1f, 0xff }, .sport = 80 };
	ok(of_segment(&e, &s) == 0xc0, "IPv6 is matched by IPv6 alone");
	s.src[4] = 0x20;
	ok(of_segment(&e, &s) == 0x40, "up to the bit");
	e.used &= ~0x40u;
	ok(of_segment(&e, &s) == 0, "what is not in use matches nothing");
}

static void test_rate(void)
{
	struct endpoint_meter m = { 0 };
	uint64_t t = 1700000000000000000;
	unsigned n = 0;

	for (unsigned i = 0; i < 100; i++)
		n += endpoint_meter_pass(&m, 1, t, 10);
	ok(n == 10, "so many in a second, and no more");
	ok(endpoint_meter_pass(&m, 3, t, 10), "another one may still have some");
	ok(!endpoint_meter_pass(&m, 1, t - 1, 10), "a late one does not begin a second again");
	ok(endpoint_meter_pass(&m, 1, t + 1000000000, 10), "the next second does");
	ok(endpoint_meter_pass(&m, 1, t - 60000000000, 10), "and a clock that was set back");
}

static void test_skips(void)
{
	struct endpoint_meter m = { .second = 5 };
	struct endpoints was = { .used = 7,
				 .at = { endpoint_of(NULL, 1), endpoint_of(NULL, 2),
					 endpoint_of(NULL, 3) } },
			 now = was;
	uint64_t sum = 0;

	ok(!endpoint_meter_due(&m, 6000000000), "nothing was skipped: nothing is due");
	endpoint_meter_skip(&m, 1, ENDPOINT_SKIP_RATE);
	endpoint_meter_skip(&m, 3, ENDPOINT_SKIP_RATE);
	endpoint_meter_skip(&m, 1, ENDPOINT_SKIP_RATE);
	endpoint_meter_skip(&m, 1, ENDPOINT_SKIP_RING);
	ok(m.skips == 3 && m.skipped[0].count == 2 && m.skipped[1].of == 3 &&
		   m.skipped[2].why == ENDPOINT_SKIP_RING,
	   "each set of endpoints and reason is counted apart");
	ok(!endpoint_meter_due(&m, 5999999999) && endpoint_meter_due(&m, 6000000000),
	   "it is due when the second is over");
	now.used = 6;
	now.at[2] = endpoint_of("10.0.0.0/8", 3);
	m.n[1] = m.n[2] = 9;
	endpoint_meter_change(&m, &was, &now);
	ok(m.skips == 1 && m.skipped[0].of == 2 && m.skipped[0].count == 1,
	   "what endpoints had that are gone is forgotten");
	ok(m.n[1] == 9 && !m.n[2], "another endpoint in its place begins anew");
	m.skips = 0;
	for (unsigned i = 1; i <= 40; i++)
		endpoint_meter_skip(&m, i, ENDPOINT_SKIP_RATE);
	for (unsigned i = 0; i < m.skips; i++)
		sum += m.skipped[i].count;
	ok(m.skips == ENDPOINTS_MAX && sum == 40 && m.skipped[ENDPOINTS_MAX - 1].of == 63,
	   "of too many sets the last ones are counted together");
}

int main(void)
{
	test_text();
	test_match();
	test_rate();
	test_skips();
	return tap_done();
}
