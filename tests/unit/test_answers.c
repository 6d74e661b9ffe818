#include "flow/answers.h"
#include <string.h>
#include "base/cc.h"
#include "flow/conn.h"
#include "tests/support/tap.h"

#define MS UINT64_C(1000000)

enum { START = 1000, FIRST = 10 }; /* ms: the SYN, and from there to the SYN-ACK */

/* Timestamps of an otherwise empty segment (RFC 7323 appendix A). */
static uint8_t option[12] = { 1, 1, 8, 10 };

static struct segment stamped(uint64_t ms, uint8_t tsval, uint8_t tsecr)
{
	option[7] = tsval;
	option[11] = tsecr;
	return (struct segment){ .ts_ns = ms * MS, .options = { option, sizeof option } };
}

static struct segment bare(uint64_t ms)
{
	return (struct segment){ .ts_ns = ms * MS };
}

static struct conn conn_of(void)
{
	struct conn c = { .start_ns = START * MS, .retrans = { 0, 1 } };

	c.since[SIDE_B] = dur40_of(FIRST * MS);
	return c;
}

/* ms from the SYN-ACK that an ACK at @ms answers; -1: not known. */
static int rtt(const struct answers *a, const struct conn *c, struct segment s)
{
	uint64_t ns = answers_rtt(a, c, &s);

	return ns == DURATION_UNKNOWN ? -1 : (int)(ns / MS);
}

static void add(struct answers *a, const struct conn *c, struct segment s)
{
	answers_add(a, c, &s);
}

int main(void)
{
	struct answers a = { .n = 0 };
	struct conn c = conn_of(), other = conn_of();

	c.retrans[SIDE_B] = 0;
	ok(rtt(NULL, &c, bare(1030)) == 20, "from the SYN-ACK, if it came once");
	ok(rtt(NULL, &c, bare(900)) == 0, "never below 0");
	c.retrans[SIDE_B] = 1;
	ok(rtt(NULL, &c, stamped(1030, 0, 7)) == -1, "what was forgotten is not known");
	add(&a, &c, stamped(2010, 20, 0));
	add(&a, &c, stamped(4010, 40, 0));
	ok(rtt(&a, &c, stamped(4030, 0, 40)) == 20 && rtt(&a, &c, stamped(4030, 0, 20)) == 2020,
	   "from the repetition whose timestamp it echoes");
	ok(rtt(&a, &c, stamped(4030, 0, 10)) == -1, "another one's may answer any of them");
	ok(rtt(&a, &c, bare(4030)) == -1, "nor is it known without a timestamp (RFC 6298 3)");
	other.start_ns++;
	ok(rtt(&a, &other, stamped(4030, 0, 40)) == -1, "another connection of the 4-tuple");
	for (uint8_t i = 1; i < 20; i++)
		add(&a, &c, stamped(5000 + 1000ul * i, (uint8_t)(50 + i), 0));
	ok(rtt(&a, &c, stamped(30000, 0, 69)) == 6000 &&
		   rtt(&a, &c, stamped(30000, 0, 66)) == 9000 &&
		   rtt(&a, &c, stamped(30000, 0, 65)) == -1,
	   "the four newest repetitions are remembered");
	add(&a, &other, bare(1011));
	ok(rtt(&a, &other, bare(1030)) == 19, "a copy within a millisecond is the one before");
	add(&a, &other, stamped(2030, 30, 0));
	add(&a, &other, stamped(2031, 30, 0));
	ok(rtt(&a, &other, stamped(2050, 0, 30)) == 20, "a copy of a repetition, too");
	return tap_done();
}
