/* The ladder of rescue.h: how often the same thing may end a process. */
#include "../../daemon/synfind/rescue.c"
#include "tests/support/tap.h"

static struct rescue r;

/* A process that does @task, and dies of it. */
static enum rescue_step dies(uint32_t task)
{
	enum rescue_step step = rescue_adopt(&r, true);

	rescue_end(&r); /* adopted */
	rescue_begin(&r, task);
	return step;
}

static void survives(uint32_t task)
{
	rescue_begin(&r, task);
	rescue_end(&r);
}

static void test_ladder(void)
{
	r = (struct rescue){ 0 };
	ok(dies(RESCUE_TAKE) == RESCUE_NONE, "the first process knows of no death");
	ok(dies(RESCUE_TAKE) == RESCUE_ONE_BY_ONE && rescue_batch(&r, 512) == 1,
	   "after one death it takes one at a time");
	ok(dies(RESCUE_TAKE) == RESCUE_SKIP && rescue_skips(&r, RESCUE_SKIP),
	   "after two it skips that one");
	ok(!rescue_is_hopeless(&r, true), "a third death is not the end of all");
	ok(dies(RESCUE_TAKE) == RESCUE_NEW_MEMORY, "after three it takes new memory");
	r = rescue_renewed(&r);
	ok(r.deaths == 3 && rescue_skips(&r, RESCUE_NEW_MEMORY),
	   "which knows of them, and skips that one");
	rescue_begin(&r, RESCUE_TAKE);
	ok(rescue_is_hopeless(&r, true), "after four nothing is kept");
}

static void test_chores(void)
{
	r = (struct rescue){ 0 };
	dies(RESCUE_OTHER);
	dies(RESCUE_OTHER);
	ok(dies(RESCUE_OTHER) == RESCUE_ONE_BY_ONE && !rescue_skips(&r, RESCUE_ONE_BY_ONE),
	   "a chore is not skipped");
	ok(dies(RESCUE_OTHER) == RESCUE_NEW_MEMORY, "but leads to new memory");
	r = (struct rescue){ 0 };
	dies(RESCUE_OTHER);
	rescue_adopt(&r, true);
	rescue_end(&r);
	survives(RESCUE_TAKE);
	ok(r.deaths == 1, "another task that is done proves nothing");
	survives(RESCUE_OTHER);
	ok(!r.deaths, "the same one does");
	r = (struct rescue){ 0 };
	rescue_adopt(&r, true);
	rescue_adopt(&r, true);
	rescue_adopt(&r, true);
	ok(rescue_adopt(&r, true) == RESCUE_NEW_MEMORY,
	   "memory that cannot be adopted is given up");
}

static void test_killed(void)
{
	r = (struct rescue){ 0 };
	dies(RESCUE_TAKE);
	survives(RESCUE_TAKE);
	rescue_begin(&r, RESCUE_TAKE);
	ok(rescue_adopt(&r, false) == RESCUE_NONE,
	   "a process that was killed after it had taken some proves nothing");
	rescue_end(&r);
	for (unsigned i = 1; i < RESCUE_KILLS; i++) {
		rescue_begin(&r, RESCUE_TAKE);
		if (rescue_adopt(&r, false) != RESCUE_NONE)
			break;
		rescue_end(&r);
	}
	ok(!r.deaths && r.kills == RESCUE_KILLS - 1, "nor do some that were killed at the first");
	rescue_begin(&r, RESCUE_TAKE);
	ok(rescue_adopt(&r, false) == RESCUE_ONE_BY_ONE,
	   "four of them in a row may have been killed for it");
}

static void test_rows(void)
{
	r = (struct rescue){ 0 };
	dies(RESCUE_TAKE);
	dies(RESCUE_TAKE);
	rescue_adopt(&r, true);
	rescue_end(&r);
	rescue_begin(&r, RESCUE_TAKE);
	rescue_skipped(&r);
	ok(r.deaths == 2, "to skip one is not to survive");
	survives(RESCUE_TAKE);
	ok(r.deaths == 1, "the next one that is taken ends the row, but for care");
	for (unsigned i = 0; i < RESCUE_TAKES; i++)
		survives(RESCUE_TAKE);
	ok(!r.deaths && rescue_batch(&r, 512) == 512, "which ends after 512 of them");
	rescue_adopt(&r, true);
	rescue_end(&r);
	ok(!r.deaths && rescue_adopt(&r, true) == RESCUE_NONE,
	   "a death while nothing was being done counts for nothing");
}

int main(void)
{
	test_ladder();
	test_chores();
	test_killed();
	test_rows();
	return tap_done();
}
