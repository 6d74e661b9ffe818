#include "flow/recall.h"
#include <stdlib.h>
#include <string.h>
#include "base/cc.h"
#include "tests/support/rand.h"
#include "tests/support/tap.h"

enum { SETS = 64 };

struct record {
	struct recall_head head;
	uint64_t value;
};

static struct record records[SETS * RECALL_WAYS];
static uint64_t writes;

static struct record *lend(uint64_t flow)
{
	return recall_edit(RECALL(records), flow, &writes, NULL);
}

static const struct record *found(uint64_t flow)
{
	return recall_find(RECALL(records), flow);
}

/* A flow of the set: the upper half of the hash chooses it. */
static uint64_t flow_of(unsigned set, unsigned i)
{
	return ((uint64_t)set << 58) + i + 1;
}

static void test_ways(void)
{
	unsigned kept = 0;

	ok(!found(flow_of(3, 0)), "nothing is remembered at first");
	for (unsigned i = 0; i < RECALL_WAYS; i++)
		lend(flow_of(3, i))->value = i + 100;
	for (unsigned i = 0; i < RECALL_WAYS; i++)
		kept += found(flow_of(3, i)) && found(flow_of(3, i))->value == i + 100;
	ok(kept == RECALL_WAYS, "as many of one set as it has ways");
	ok(!found(flow_of(2, 0)) && !found(flow_of(4, 0)), "and nothing beside it");
	ok(lend(flow_of(3, 0))->value == 100, "a record that is lent again is the same");
	ok(lend(flow_of(3, 77))->value == 0, "a new one is zeroed, also in the place of another");
	ok(found(flow_of(3, 0)) && !found(flow_of(3, 1)),
	   "the place of the one that was written the longest ago");
	for (unsigned i = 0; i < 1000; i++)
		lend(flow_of(5, i));
	ok(found(flow_of(3, 0)) && found(flow_of(3, 0))->value == 100,
	   "another set takes nothing away, whatever comes there");
}

/* A model beside it: lists by age. */
static void test_model(void)
{
	static uint64_t age[SETS][RECALL_WAYS];
	unsigned wrong = 0;

	memset(records, 0, sizeof records);
	for (unsigned i = 0; i < 200000; i++) {
		uint64_t flow = flow_of(below(SETS), below(12)), *a = age[flow >> 58];
		unsigned at = 0;

		while (at < RECALL_WAYS && a[at] != flow)
			at++;
		wrong += (at < RECALL_WAYS) != (found(flow) != NULL);
		if (below(3))
			continue;
		struct record *r = lend(flow);

		wrong += r->value != (at < RECALL_WAYS ? flow : 0);
		r->value = flow;
		at = at < RECALL_WAYS ? at : RECALL_WAYS - 1;
		memmove(a + 1, a, at * sizeof *a);
		a[0] = flow;
	}
	ok(!wrong, "200000 random looks and writes are as the lists have it (%u)", wrong);
}

int main(void)
{
	rng = tap_seed(31);
	test_ways();
	test_model();
	return tap_done();
}
