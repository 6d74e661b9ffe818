#include <arpa/inet.h>
#include <string.h>
#include "base/cc.h"
#include "flow/key.h"
#include "tests/support/rand.h"
#include "tests/support/tap.h"
#include "wire/segment.h"

static struct segment segment_of(const char *src, uint16_t sport, const char *dst, uint16_t dport)
{
	int family = strchr(src, ':') ? AF_INET6 : AF_INET;
	struct segment s = { .ip_v = family == AF_INET6 ? 6 : 4, .sport = sport, .dport = dport };

	inet_pton(family, src, s.src);
	inet_pton(family, dst, s.dst);
	return s;
}

static struct segment turned(const struct segment *s)
{
	struct segment t = *s;

	memcpy(t.src, s->dst, sizeof t.src);
	memcpy(t.dst, s->src, sizeof t.dst);
	t.sport = s->dport;
	t.dport = s->sport;
	return t;
}

static bool end_is(const struct flow_key *k, unsigned end, const uint8_t addr[16], uint16_t port)
{
	uint8_t a[16];
	uint16_t p;

	memset(a, 0xee, sizeof a);
	flow_key_end(k, end, a, &p);
	return !memcmp(a, addr, sizeof a) && p == port;
}

/* Both directions of @s give one key, opposite ends, and the ends that went in. */
static bool sound(const struct segment *s)
{
	struct segment back = turned(s);
	struct flow_key k, l;
	unsigned end = flow_key_of(s, &k), other = flow_key_of(&back, &l);
	unsigned n = s->ip_v == 4 ? 4 : 16;
	int order = memcmp(s->src, s->dst, n);
	bool self = !order && s->sport == s->dport;

	return end <= 1 && !memcmp(k.w, l.w, sizeof k.w) && k.ip_v == l.ip_v &&
	       other == (self ? end : !end) && k.self == self && l.self == self &&
	       k.ip_v == s->ip_v && end == (order > 0 || (!order && s->sport > s->dport)) &&
	       end_is(&k, end, s->src, s->sport) && (self || end_is(&k, !end, s->dst, s->dport));
}

static void test_directions(void)
{
	static const struct {
		const char *a;
		uint16_t ap;
		const char *b;
		uint16_t bp;
		const char *why;
	} hand[] = {
		{ "10.0.0.1", 40000, "10.0.0.2", 80, "IPv4" },
		{ "127.0.0.1", 40000, "127.0.0.1", 80, "IPv4, one address" },
		{ "127.0.0.1", 80, "127.0.0.1", 80, "IPv4, self" },
		{ "9.255.255.255", 1, "10.0.0.0", 1, "IPv4, ordered by octets, not as loaded" },
		{ "127.255.255.255", 1, "128.0.0.0", 1, "IPv4, addresses are unsigned" },
		{ "0.0.0.0", 0, "255.255.255.255", 65535, "IPv4, limits" },
		{ "2001:db8::1", 40000, "2001:db8::2", 443, "IPv6" },
		{ "2001:db8::1", 40000, "2001:db8:1::1", 443,
		  "IPv6, they differ in the first half" },
		{ "2001:db8::ff:1", 1, "2001:db8::1:0:0", 2, "IPv6, ordered by octets" },
		{ "7fff::", 1, "8000::", 1, "IPv6, addresses are unsigned" },
		{ "::1", 40000, "::1", 443, "IPv6, one address" },
		{ "::1", 443, "::1", 443, "IPv6, self" },
		{ "::", 0, "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", 65535, "IPv6, limits" },
	};
	unsigned wrong = 0;

	for (unsigned i = 0; i < ARRAY_SIZE(hand); i++) {
		struct segment s = segment_of(hand[i].a, hand[i].ap, hand[i].b, hand[i].bp);

		ok(sound(&s), "both directions give one key: %s", hand[i].why);
	}
	for (unsigned i = 0; i < 200000; i++) {
		struct segment s = { .ip_v = rand64() & 1 ? 4 : 6,
				     .iface = (uint16_t)(rand64() & 0xff) };
		unsigned n = s.ip_v == 4 ? 4 : 16;

		for (unsigned k = 0; k < n; k++) { /* nearly equal ones are where order may fail */
			s.src[k] = s.dst[k] = (uint8_t)rand64();
			if (rand64() % n == 0)
				s.dst[k] = (uint8_t)rand64();
		}
		s.sport = s.dport = (uint16_t)rand64();
		if (rand64() & 1)
			s.dport = (uint16_t)rand64();
		wrong += !sound(&s);
	}
	ok(!wrong, "both directions give one key: random ends");
}

static bool differ(const struct segment *a, const struct segment *b)
{
	static const struct hash_key secret = { { 1, 2, 3, 5, 7, 11, 13, 17 } };
	struct flow_key k, l;

	flow_key_of(a, &k);
	flow_key_of(b, &l);
	return memcmp(k.w, l.w, sizeof k.w) &&
	       flow_key_hash(&k, &secret) != flow_key_hash(&l, &secret) &&
	       flow_id_of(&k, 1, 1) != flow_id_of(&l, 1, 1);
}

static void test_distinct(unsigned ip_v)
{
	struct segment s = ip_v == 4 ? segment_of("10.0.0.1", 40000, "10.0.0.2", 80)
				     : segment_of("2001:db8::1", 40000, "2001:db8::2", 443);
	unsigned n = ip_v == 4 ? 4 : 16, same = 0;
	struct segment o = s;

	o.iface = 1;
	ok(differ(&s, &o), "IPv%u: another interface is another connection", ip_v);
	o = s;
	o.sport = s.dport;
	o.dport = s.sport;
	ok(differ(&s, &o), "IPv%u: ports change places, addresses do not", ip_v);
	for (unsigned bit = 0; bit < 8 * n; bit++) {
		o = s;
		o.src[bit / 8] ^= (uint8_t)(1u << bit % 8);
		same += !differ(&s, &o);
		o = s;
		o.dst[bit / 8] ^= (uint8_t)(1u << bit % 8);
		same += !differ(&s, &o);
	}
	for (unsigned bit = 0; bit < 16; bit++) {
		o = s;
		o.sport ^= (uint16_t)(1u << bit);
		same += !differ(&s, &o);
		o = s;
		o.dport ^= (uint16_t)(1u << bit);
		same += !differ(&s, &o);
	}
	ok(!same, "IPv%u: each bit of addresses and ports makes another key, hash and id", ip_v);
}

static void test_families(void)
{
	struct segment four = segment_of("0.0.0.0", 1, "0.0.0.0", 2);
	struct segment six = segment_of("::", 1, "::", 2);

	ok(differ(&four, &six), "an IPv4 key never equals an IPv6 one");
}

static void test_hash_and_id(void)
{
	struct segment s = segment_of("172.16.196.142", 41334, "172.16.196.145", 60000),
		       t = turned(&s);
	struct segment six = segment_of("2001:db8::1", 41334, "2001:db8::2", 60000);
	const struct hash_key one = { { 1, 2, 3, 5, 7, 11, 13, 17 } },
			      two = { { 1, 3, 3, 5, 7, 11, 13, 17 } };
	const uint64_t start = 1552394626905987000;
	struct flow_key k, l, m;

	flow_key_of(&s, &k);
	flow_key_of(&t, &l);
	flow_key_of(&six, &m);
	ok(flow_key_hash(&k, &one) == flow_key_hash(&l, &one), "both directions have one hash");
	ok(flow_key_hash(&k, &one) != flow_key_hash(&k, &two) &&
		   flow_key_hash(&m, &one) != flow_key_hash(&m, &two),
	   "another secret is another hash");
	ok(flow_id_of(&k, start, 7) == flow_id_of(&l, start, 7), "both directions have one id");
	/* Whoever stored ids finds them again after an update: these never change. */
	ok(flow_id_of(&k, start, 7) == 0xbb6b7751b0565c94,
	   "the id of an IPv4 connection is the same for ever");
	ok(flow_id_of(&m, start, 7) == 0xe24f750c4ec03e99,
	   "the id of an IPv6 connection is the same for ever");
	ok(flow_id_of(&k, start, 7) != flow_id_of(&k, start + 1, 7), "another start, another id");
	ok(flow_id_of(&k, start, 7) != flow_id_of(&k, start, 8), "another ISN, another id");
	ok(flow_id_of(&k, 7, 8) != flow_id_of(&k, 8, 7), "start and ISN do not change places");
}

int main(void)
{
	rng = tap_seed(4);
	test_directions();
	test_distinct(4);
	test_distinct(6);
	test_families();
	test_hash_and_id();
	return tap_done();
}
