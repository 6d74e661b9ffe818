#include <arpa/inet.h>
#include <string.h>
#include "base/cc.h"
#include "format/community.h"
#include "tests/support/tap.h"

/* The first four are published with the specification; the others come from another
 * implementation of it, and stand for what the published ones leave out. */
static const struct {
	const char *addr[2];
	uint16_t port[2], seed;
	const char *id, *why;
} vectors[] = {
	{ { "128.232.110.120", "66.35.250.204" },
	  { 34855, 80 },
	  0,
	  "1:LQU9qZlK+B5F3KDmev6m5PMibrg=",
	  "IPv4, published" },
	{ { "128.232.110.120", "66.35.250.204" },
	  { 34855, 80 },
	  1,
	  "1:3V71V58M3Ksw/yuFALMcW0LAHvc=",
	  "IPv4 with seed 1, published" },
	{ { "2001:470:e5bf:dead:4957:2174:e82c:4887", "2607:f8b0:400c:c03::1a" },
	  { 63943, 25 },
	  0,
	  "1:/qFaeAR+gFe1KYjMzVDsMv+wgU4=",
	  "IPv6, published" },
	{ { "1.2.3.4", "5.6.7.8" },
	  { 1122, 3344 },
	  0,
	  "1:wCb3OG7yAFWelaUydu0D+125CLM=",
	  "IPv4 already in order, published" },
	{ { "2001:470:e5bf:dead:4957:2174:e82c:4887", "2607:f8b0:400c:c03::1a" },
	  { 63943, 25 },
	  1,
	  "1:eJYTW6AOzFLlSUoESovMjnu7rMw=",
	  "IPv6 with seed 1" },
	{ { "10.0.0.1", "10.0.0.1" },
	  { 1, 2 },
	  0,
	  "1:mb9gqkXo1/+WeunLJO7I9i/H8Ec=",
	  "one address, ordered by port" },
	{ { "10.0.0.1", "10.0.0.1" },
	  { 7, 7 },
	  65535,
	  "1:nHWWk5n+Z8NYJit67xfBlL8M92s=",
	  "self-connection, greatest seed" },
	{ { "::1", "::1" },
	  { 65535, 0 },
	  0,
	  "1:W0HuhcJXwBcNUkqfFBxqfiLAARE=",
	  "IPv6 loopback, ports at their limits" },
	{ { "fe80::1", "fe80::1:0" },
	  { 1000, 1 },
	  256,
	  "1:XT92x+YX0mFcnabPWM/vxyPIO58=",
	  "ordered by address and not by port; the seed in network order" },
};

static bool id_is(unsigned i, unsigned first)
{
	int family = strchr(vectors[i].addr[0], ':') ? AF_INET6 : AF_INET;
	char id[COMMUNITY_ID_CHARS + 2];
	uint8_t a[2][16];

	for (unsigned k = 0; k < 2; k++)
		inet_pton(family, vectors[i].addr[k], a[k]);
	memset(id, '#', sizeof id);
	community_id_of(id, family == AF_INET6 ? 6 : 4, vectors[i].seed, a[first],
			vectors[i].port[first], a[!first], vectors[i].port[!first]);
	return strlen(vectors[i].id) == COMMUNITY_ID_CHARS && !strcmp(id, vectors[i].id) &&
	       id[COMMUNITY_ID_CHARS + 1] == '#';
}

int main(void)
{
	for (unsigned i = 0; i < ARRAY_SIZE(vectors); i++) {
		ok(id_is(i, 0), "%s", vectors[i].why);
		ok(id_is(i, 1), "%s: the other direction has the same id", vectors[i].why);
	}
	return tap_done();
}
