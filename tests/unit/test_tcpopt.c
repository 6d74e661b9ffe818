#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include "base/cc.h"
#include "tests/support/tap.h"
#include "wire/tcpopt.h"

/* Parses @n octets that end where readable memory ends. */
static struct tcpopt parse(const void *octets, size_t n)
{
	static uint8_t *room;
	size_t page = (size_t)sysconf(_SC_PAGESIZE);

	if (!room) {
		room = mmap(NULL, 2 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
			    0);
		if (room == MAP_FAILED || mprotect(room + page, page, PROT_NONE) < 0)
			exit(1);
	}
	memcpy(room + page - n, octets, n);
	return tcpopt_parse((struct span){ room + page - n, n });
}

#define PARSE(literal) parse(literal, sizeof(literal) - 1)

static bool same(struct tcpopt a, struct tcpopt b)
{
	return a.mss == b.mss && a.wscale == b.wscale && a.sack == b.sack &&
	       a.timestamps == b.timestamps && a.tfo == b.tfo && a.mptcp == b.mptcp &&
	       a.malformed == b.malformed && a.tsval == b.tsval && a.tsecr == b.tsecr;
}

static const struct tcpopt none = { .wscale = TCPOPT_WSCALE_NONE };

/* What @octets say, and nothing else: @field of the expected result is set on top of none. */
#define says(octets, what, ...)                                                                    \
	do {                                                                                       \
		struct tcpopt want_ = { .wscale = TCPOPT_WSCALE_NONE, __VA_ARGS__ };               \
		ok(same(PARSE(octets), want_), what);                                              \
	} while (0)

static void test_each(void)
{
	ok(same(PARSE(""), none), "no options");
	says("\2\4\5\xb4", "MSS", .mss = 1460);
	says("\2\4\xff\xff", "the largest MSS", .mss = 65535);
	says("\4\2", "SACK permitted", .sack = true);
	says("\10\12\1\2\3\4\5\6\7\10", "timestamps", .timestamps = true, .tsval = 0x01020304,
	     .tsecr = 0x05060708);
	says("\10\12\0\0\0\0\0\0\0\0", "timestamps of 0", .timestamps = true);
	says("\x22\2", "Fast Open: a request for a cookie", .tfo = true);
	says("\x22\12abcdefgh", "Fast Open: a cookie", .tfo = true);
	says("\xfe\4\xf9\x89", "Fast Open, experimental: a request", .tfo = true);
	says("\xfe\14\xf9\x89"
	     "abcdefgh",
	     "Fast Open, experimental: a cookie", .tfo = true);
	ok(same(PARSE("\xfe\4\xf9\x8a"), none), "another experiment of the same kind");
	ok(same(PARSE("\xfe\3\xf9"), none), "half of an experiment's magic");
	ok(same(PARSE("\xfe\2"), none), "an experiment without magic");
	ok(same(PARSE("\xfd\4\xf9\x89"), none), "the other experimental kind is not Fast Open");
	says("\x1e\14\0\x81"
	     "abcdefgh",
	     "Multipath TCP", .mptcp = true);
	ok(same(PARSE("\5\12abcdefgh"), none), "SACK blocks belong to later segments");
	ok(same(PARSE("\x63\6abcd"), none), "an unknown option is stepped over");
	says("\x63\6abcd\4\2", "... to the one after it", .sack = true);

	struct tcpopt linux_syn = {
		.mss = 1460, .wscale = 7, .sack = true, .timestamps = true, .tsval = 1
	};

	ok(same(PARSE("\2\4\5\xb4\4\2\10\12\0\0\0\1\0\0\0\0\1\3\3\7"), linux_syn),
	   "what Linux sends");
}

static void test_wscale(void)
{
	for (unsigned shift = 0; shift < 256; shift++) {
		uint8_t octets[] = { 3, 3, (uint8_t)shift };
		struct tcpopt want = { .wscale = (uint8_t)(shift > 14 ? 14 : shift) };

		if (!same(parse(octets, sizeof octets), want)) {
			ok(false, "window scale %u", shift);
			return;
		}
	}
	ok(true, "window scale: 0 to 14 as they are, above counts as 14 (RFC 7323 2.3)");
}

static void test_end_and_nop(void)
{
	uint8_t nops[40];

	memset(nops, 1, sizeof nops);
	ok(same(parse(nops, sizeof nops), none), "40 octets of NOP");
	memcpy(nops + 38, "\4\2", 2);
	ok(parse(nops, sizeof nops).sack, "38 of them, then an option");
	ok(same(PARSE("\0\4\2\2\4\5\xb4"), none), "nothing after the end of options counts");
	says("\4\2\0\2\1", "... not even what would be malformed", .sack = true);
}

static void test_lies(void)
{
	static const uint8_t all[] = { 2, 4, 5, 180, 3, 3, 7,  4, 2,  8, 10, 1, 2,
				       3, 4, 5, 6,   7, 8, 34, 2, 30, 4, 0,  0 };
	/* where an option ends */
	static const uint8_t ends[] = { 0, 4, 7, 9, 19, 21, 25 };
	unsigned wrong = 0;

	says("\4\2\2\0\5\xb4", "length 0: what came before is kept", .sack = true,
	     .malformed = true);
	says("\4\2\2\1\5\xb4", "length 1", .sack = true, .malformed = true);
	says("\2\5\5\xb4", "a length one octet beyond the end", .malformed = true);
	says("\2\xff\5\xb4", "a length far beyond the end", .malformed = true);
	says("\2", "a kind without a length", .malformed = true);
	says("\1\1\1\2", "... in the last octet", .malformed = true);
	ok(same(PARSE("\2\3\5"), none), "MSS of another length is ignored");
	ok(same(PARSE("\2\5\5\xb4\0"), none), "... longer, too");
	ok(same(PARSE("\3\2"), none), "window scale of another length");
	ok(same(PARSE("\3\4\7\0"), none), "... longer, too");
	ok(same(PARSE("\4\3\0"), none), "SACK permitted of another length");
	says("\4\2\4\3\0", "... does not take the good one back", .sack = true);
	ok(same(PARSE("\10\11\1\2\3\4\5\6\7"), none), "timestamps of another length");
	ok(same(PARSE("\10\13\1\2\3\4\5\6\7\10\11"), none), "... longer, too");
	says("\2\4\5\xb4\2\4\2\30", "of two MSS the last one counts", .mss = 536);

	for (size_t n = 0; n <= sizeof all; n++) {
		struct tcpopt o = parse(all, n);
		bool full = memchr(ends, (int)n, sizeof ends);

		wrong += o.malformed == full || (o.mss == 1460) != (n >= 4) ||
			 (o.wscale == 7) != (n >= 7) || o.sack != (n >= 9) ||
			 o.timestamps != (n >= 19) || o.tfo != (n >= 21) || o.mptcp != (n >= 25);
	}
	ok(!wrong,
	   "cut at each octet: all before the cut is kept, a cut within an option is malformed");
}

static uint8_t blocks(const char *octets, size_t n)
{
	static uint8_t space[64];

	memcpy(space, octets, n);
	return tcpopt_sack_blocks((struct span){ space, n });
}

#define BLOCKS(literal) blocks(literal, sizeof(literal) - 1)

static void test_sack_blocks(void)
{
	ok(BLOCKS("") == 0 && BLOCKS("\1\1\1\1") == 0 && BLOCKS("\2\4\5\xb4") == 0,
	   "no SACK, no blocks");
	ok(BLOCKS("\5\12abcdefgh") == 1, "one block");
	ok(BLOCKS("\1\1\5\22abcdefghabcdefgh") == 2, "two, after NOPs");
	ok(BLOCKS("\1\1\10\12abcdefgh\1\1\5\32abcdefghabcdefghabcdefgh") == 3,
	   "three, after timestamps");
	ok(BLOCKS("\5\2") == 0 && BLOCKS("\5\11abcdefg") == 0, "less than a block is none");
	ok(BLOCKS("\5\23abcdefghabcdefghi") == 2, "what is left over does not count");
	ok(BLOCKS("\4\2\5\12abcdefgh") == 1, "SACK permitted is another option");
	ok(BLOCKS("\0\2\5\12abcdefgh") == 0, "nothing after the end of options counts");
	ok(BLOCKS("\5\13abcdefgh") == 0 && BLOCKS("\5") == 0 && BLOCKS("\2\xff\5\12abcdefgh") == 0,
	   "an option that is longer than what is there ends them");
	ok(BLOCKS("\5\0abcdefgh") == 0 && BLOCKS("\2\1\5\12abcdefgh") == 0,
	   "and a length of less than 2");
}

int main(void)
{
	test_sack_blocks();
	test_each();
	test_wscale();
	test_end_and_nop();
	test_lies();
	return tap_done();
}
