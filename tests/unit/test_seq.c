#include "base/cc.h"
#include "tests/support/tap.h"
#include "wire/segment.h"
#include "wire/seq.h"

/* Where 32-bit arithmetic turns over, signed and unsigned. */
static const uint32_t edges[] = { 0,	      1,	  2,	      0x7ffffffe, 0x7fffffff,
				  0x80000000, 0x80000001, 0xfffffffe, 0xffffffff };
static const uint32_t steps[] = { 1, 2, 1460, 0x10000, 0x7ffffffe, 0x7fffffff };

static void test_order(void)
{
	unsigned wrong = 0;

	for (unsigned i = 0; i < ARRAY_SIZE(edges); i++) {
		uint32_t a = edges[i];

		wrong += seq_lt(a, a) || !seq_le(a, a);
		for (unsigned j = 0; j < ARRAY_SIZE(steps); j++) {
			uint32_t b = a + steps[j];

			wrong += !seq_lt(a, b) || seq_lt(b, a) || !seq_le(a, b) || seq_le(b, a);
		}
	}
	ok(!wrong, "a number comes before each of the next 2^31 - 1, wherever it turns over");
	ok(seq_lt(0xffffffff, 0) && !seq_lt(0, 0xffffffff), "2^32 - 1 comes before 0");
}

static void test_within(void)
{
	unsigned wrong = 0;

	for (unsigned i = 0; i < ARRAY_SIZE(edges); i++) {
		for (unsigned j = 0; j < ARRAY_SIZE(steps); j++) {
			uint32_t lo = edges[i], hi = lo + steps[j];

			wrong += !seq_within(lo, lo, hi) || !seq_within(lo, hi, hi) ||
				 !seq_within(lo, lo + steps[j] / 2, hi) ||
				 seq_within(lo, lo - 1, hi) || seq_within(lo, hi + 1, hi);
		}
		wrong += !seq_within(edges[i], edges[i], edges[i]) ||
			 seq_within(edges[i], edges[i] + 1, edges[i]);
	}
	ok(!wrong, "a range has both of its ends and nothing beside them, wherever it turns over");
	ok(seq_within(5, 0x90000000, 4), "a range of all numbers");
}

static void test_segment_end(void)
{
	ok(segment_end(&(struct segment){ .seq = 7, .flags = TCP_ACK }) == 7,
	   "an ACK takes no number");
	ok(segment_end(&(struct segment){ .seq = 7, .flags = TCP_SYN }) == 8, "a SYN takes one");
	ok(segment_end(&(struct segment){ .seq = 7, .flags = TCP_FIN | TCP_ACK }) == 8,
	   "a FIN takes one");
	ok(segment_end(&(struct segment){
		   .seq = 7, .flags = TCP_SYN | TCP_FIN, .payload_len = 3 }) == 12,
	   "both and the payload");
	ok(segment_end(
		   &(struct segment){ .seq = 0xffffffff, .flags = TCP_FIN, .payload_len = 1 }) == 1,
	   "it turns over");
}

int main(void)
{
	test_order();
	test_within();
	test_segment_end();
	return tap_done();
}
