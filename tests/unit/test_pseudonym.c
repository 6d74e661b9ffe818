/* Pseudonyms: known ones, the property of prefixes at every length, what of an event is
 * replaced. */
#include <arpa/inet.h>
#include <string.h>
#include "base/cc.h"
#include "format/pseudonym.h"
#include "flow/event_names.h"
#include "flow/event.h"
#include "tests/support/rand.h"
#include "tests/support/tap.h"

/* By tests/support/pseudonym.py, under the key 00 01 ... 1f. */
static const struct {
	const char *real, *pseudonym;
} vectors[] = {
	{ "0.0.0.0", "210.111.57.116" },
	{ "10.0.0.1", "219.12.209.30" },
	{ "10.0.0.2", "219.12.209.29" },
	{ "127.0.0.1", "155.241.7.225" },
	{ "192.0.2.255", "100.110.2.49" },
	{ "255.255.255.255", "68.237.153.80" },
	{ "::", "bd04:715f:6e75:afc1:62ae:cedf:bb25:a61c" },
	{ "::1", "bd04:715f:6e75:afc1:62ae:cedf:bb25:a61d" },
	{ "::ffff:10.0.0.1", "bd04:715f:6e75:afc1:62ae:37c5:70fb:b41d" },
	{ "::10.0.0.1", "bd04:715f:6e75:afc1:62ae:cedf:b053:4137" },
	{ "2001:db8::1", "9599:2741:c2d5:17fd:fe61:44b3:8d4:4a8c" },
	{ "2001:db8:0:1::1", "9599:2741:c2d5:17fc:8fc8:17f:7e83:3d48" },
	{ "fe80::1", "30bd:8777:1005:c0e0:300e:a7b9:566a:7f0b" },
	{ "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "31c1:6d0b:c2be:4d4a:4228:16e9:19b:de4f" },
};

static struct pseudonym_key key;

static unsigned family_of(const char *text)
{
	return strchr(text, ':') ? 6 : 4;
}

static void parse(const char *text, uint8_t ret[static 16])
{
	memset(ret, 0, 16);
	if (inet_pton(family_of(text) == 4 ? AF_INET : AF_INET6, text, ret) != 1)
		abort();
}

static void known_ones(void)
{
	for (size_t i = 0; i < ARRAY_SIZE(vectors); i++) {
		uint8_t a[16], want[16];

		parse(vectors[i].real, a);
		parse(vectors[i].pseudonym, want);
		pseudonym_address(&key, family_of(vectors[i].real), a);
		ok(!memcmp(a, want, sizeof a), "%s is %s", vectors[i].real, vectors[i].pseudonym);
	}
	ok(pseudonym_flow_id(&key, 0x0123456789abcdef) == 0x8f7280c0e0c8ef29 &&
		   pseudonym_flow_id(&key, 0) == 0x6a24acdc228fa124,
	   "flow ids have theirs");
}

/* Leading bits that two addresses share. */
static unsigned shared(const uint8_t *a, const uint8_t *b, unsigned bits)
{
	unsigned i = 0;

	while (i < bits && !((a[i / 8] ^ b[i / 8]) >> (7 - i % 8) & 1))
		i++;
	return i;
}

/* Pairs that part at each bit in turn, and are random after it. */
static void prefixes_are_kept(unsigned ip_v)
{
	unsigned bits = ip_v == 4 ? 32 : 128, wrong = 0, moved = 0, tried = 0;

	for (unsigned round = 0; round < 200; round++) {
		for (unsigned part = 0; part <= bits; part++, tried++) {
			uint8_t a[16] = { 0 }, b[16], x[16], y[16];

			for (unsigned i = 0; i < bits / 8; i++)
				a[i] = (uint8_t)rand64();
			memcpy(b, a, sizeof b);
			for (unsigned i = part; i < bits; i++) {
				bool turn = i == part || rand64() & 1;

				b[i / 8] ^= (uint8_t)(turn << (7 - i % 8));
			}
			memcpy(x, a, sizeof x);
			memcpy(y, b, sizeof y);
			pseudonym_address(&key, ip_v, x);
			pseudonym_address(&key, ip_v, y);
			wrong += shared(x, y, bits) != part;
			moved += memcmp(x, a, sizeof x) != 0;
		}
	}
	ok(!wrong,
	   "IPv%u: pseudonyms share as many leading bits as their addresses do, of %u pairs", ip_v,
	   tried);
	ok(moved > tried - 5, "IPv%u: an address is not its own pseudonym", ip_v);
}

/* At each level a bit is turned over for half of the prefixes: 2,000 coins at most 5 sigma away. */
static void bits_are_fair(unsigned ip_v)
{
	unsigned bits = ip_v == 4 ? 32 : 128, turned[128] = { 0 }, unfair = 0;
	enum { COINS = 2000, FIVE_SIGMA = 112 };

	for (unsigned n = 0; n < COINS; n++) {
		struct pseudonym_key k;
		uint8_t octets[PSEUDONYM_KEY_OCTETS], a[16] = { 0 }, x[16];

		for (unsigned i = 0; i < sizeof octets; i++)
			octets[i] = (uint8_t)rand64();
		k = pseudonym_key_of(octets);
		for (unsigned i = 0; i < bits / 8; i++)
			a[i] = (uint8_t)rand64();
		memcpy(x, a, sizeof x);
		pseudonym_address(&k, ip_v, x);
		for (unsigned i = 0; i < bits; i++)
			turned[i] += (a[i / 8] ^ x[i / 8]) >> (7 - i % 8) & 1;
	}
	for (unsigned i = 0; i < bits; i++)
		unfair += turned[i] < COINS / 2 - FIVE_SIGMA || turned[i] > COINS / 2 + FIVE_SIGMA;
	ok(!unfair, "IPv%u: over all keys, every bit is as likely to be turned over as not", ip_v);
}

static void every_key_bit_counts(void)
{
	unsigned without = 0;

	for (unsigned bit = 0; bit < 8 * PSEUDONYM_KEY_OCTETS; bit++) {
		uint8_t octets[PSEUDONYM_KEY_OCTETS], mine[16], other[16];
		struct pseudonym_key k;

		for (unsigned i = 0; i < sizeof octets; i++)
			octets[i] = (uint8_t)i;
		octets[bit / 8] ^= (uint8_t)(1 << bit % 8);
		k = pseudonym_key_of(octets);
		parse("2001:db8::1", mine);
		memcpy(other, mine, sizeof other);
		pseudonym_address(&key, 6, mine);
		pseudonym_address(&k, 6, other);
		without += !memcmp(mine, other, sizeof mine) &&
			   pseudonym_flow_id(&key, 1) == pseudonym_flow_id(&k, 1);
	}
	ok(!without, "every bit of the key makes a difference");
}

/* IPv4 leaves the other octets alone: other code compares and encodes all of them. */
static void only_its_own_octets(void)
{
	uint8_t a[16];

	memset(a, 0x5a, sizeof a);
	pseudonym_address(&key, 4, a);
	bool state = true;

	for (unsigned i = 4; i < sizeof a; i++)
		state &= a[i] == 0x5a;
	ok(state, "IPv4: only four octets are touched");
}

static struct event event_of(unsigned kind, unsigned ip_v)
{
	struct event e;

	memset(&e, 0xa5, sizeof e);
	e.kind = (uint8_t)kind;
	e.ip_v = (uint8_t)ip_v;
	return e;
}

static void events(void)
{
	for (unsigned kind = 0; kind < EVENT_KINDS; kind++)
		for (unsigned ip_v = 4; ip_v <= 6; ip_v += 2) {
			struct event e = event_of(kind, ip_v), want = e;

			if (kind != EVENT_CAPTURE_LOSS) {
				pseudonym_address(&key, ip_v, want.addr[0]);
				pseudonym_address(&key, ip_v, want.addr[1]);
				want.flow_id = pseudonym_flow_id(&key, e.flow_id);
			}
			if (kind == EVENT_TCP_OPEN)
				want.open.prev_flow_id =
					pseudonym_flow_id(&key, e.open.prev_flow_id);
			pseudonym_event(&key, &e);
			ok(!memcmp(&e, &want, sizeof e),
			   "%s, IPv%u: addresses and ids are replaced, nothing else",
			   event_kind_str[kind].s, ip_v);
		}
	struct event open = event_of(EVENT_TCP_OPEN, 4);

	open.open.prev_flow_id = 0;
	pseudonym_event(&key, &open);
	ok(!open.open.prev_flow_id, "a connection that follows no other still follows none");
}

int main(void)
{
	uint8_t octets[PSEUDONYM_KEY_OCTETS];

	rng = tap_seed(7);
	for (unsigned i = 0; i < sizeof octets; i++)
		octets[i] = (uint8_t)i;
	key = pseudonym_key_of(octets);
	known_ones();
	for (unsigned ip_v = 4; ip_v <= 6; ip_v += 2) {
		prefixes_are_kept(ip_v);
		bits_are_fair(ip_v);
	}
	every_key_bit_counts();
	only_its_own_octets();
	events();
	return tap_done();
}
