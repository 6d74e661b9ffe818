#include <stdlib.h>
#include <string.h>
#include "base/cc.h"
#include "flow/gaps.h"
#include "tests/support/rand.h"
#include "tests/support/tap.h"

static void dig(struct gaps *h, uint32_t from, uint32_t to)
{
	gaps_add(h, SIDE_A, (struct gap){ from, to, false });
}

static void test_one(uint32_t at)
{
	struct gaps h = gaps_none;

	ok(!gaps_end(&h, SIDE_A, at, at + 1000), "where no gap is known, nothing ends it");
	dig(&h, at + 10, at + 20);
	ok(h.n[SIDE_A] == 1 && !h.n[SIDE_B], "a gap is of one side");
	ok(gaps_end(&h, SIDE_A, at + 10, at + 20) && gaps_end(&h, SIDE_A, at, at + 99) &&
		   !gaps_end(&h, SIDE_A, at + 11, at + 20) &&
		   !gaps_end(&h, SIDE_A, at + 10, at + 19),
	   "it ends with all of its octets, and with no less");
	ok(gaps_fill(&h, SIDE_A, at, at + 10) == 0 &&
		   gaps_fill(&h, SIDE_A, at + 20, at + 30) == 0 &&
		   gaps_fill(&h, SIDE_B, at, at + 30) == 0 && h.n[SIDE_A] == 1,
	   "what lies beside it, or is the other side's, fills nothing");
	ok(gaps_fill(&h, SIDE_A, at + 13, at + 15) == 2 && h.n[SIDE_A] == 2,
	   "the middle of it leaves two");
	ok(gaps_fill(&h, SIDE_A, at, at + 99) == 8 && !h.n[SIDE_A], "the rest is what was missing");

	dig(&h, at + 10, at + 20);
	ok(!gaps_pass(&h, SIDE_A, at + 10) && h.n[SIDE_A] == 1, "an ACK up to it says nothing");
	ok(gaps_pass(&h, SIDE_A, at + 15) && gaps_fill(&h, SIDE_A, at, at + 99) == 5,
	   "an ACK into it says that a part was not seen");
	gaps_add(&h, SIDE_A, (struct gap){ at + 10, at + 20, true });
	ok(gaps_fill(&h, SIDE_A, at + 10, at + 15) == 0 && gaps_end(&h, SIDE_A, at + 15, at + 20) &&
		   !gaps_pass(&h, SIDE_A, at + 20) && !h.n[SIDE_A],
	   "octets that were seen before are nothing new, and no gap");
}

/* Against a map of octets. */
static void test_random(void)
{
	enum { OCTETS = 2000 };
	unsigned wrong = 0, full = 0;

	for (unsigned round = 0; round < 3000; round++) {
		bool missing[OCTETS] = { 0 };
		struct gaps h = gaps_none;
		uint32_t base = (uint32_t)rand64(), next = 0;
		bool exact = true;

		for (unsigned step = 0; step < 120; step++) {
			uint32_t a = below(2) ? next + below(9) : below(next + 1);
			uint32_t b = a + 1 + below(9), count = 0;

			if (a > next) {
				exact &= h.n[SIDE_A] < GAPS_MAX;
				dig(&h, base + next, base + a);
				memset(missing + next, 1, a - next);
			}
			for (uint32_t i = a; i < b; i++) {
				count += missing[i];
				missing[i] = false;
			}
			unsigned before = h.n[SIDE_A];
			uint32_t got = gaps_fill(&h, SIDE_A, base + a, base + b);

			exact &= before < GAPS_MAX;
			wrong += exact && got != count;
			next = b > next ? b : next;
			if (!exact)
				break;
			full += h.n[SIDE_A] > GAPS_MAX / 2;
			bool any = memchr(missing, 1, OCTETS);

			wrong += any != (h.n[SIDE_A] > 0);
			wrong += h.n[SIDE_A] > GAPS_MAX;
		}
	}
	ok(!wrong && full > 1000, "gaps are where a map of octets has them (%u times with many)",
	   full);
}

int main(void)
{
	rng = tap_seed(7411);
	test_one(1000);
	test_one((uint32_t)-15);
	test_random();
	return tap_done();
}
