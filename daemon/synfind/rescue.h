/* rescue.h - what the next process does differently where the last one died.
 *
 * A new process rolls the open transaction back and does the same again.  If that is what killed
 * the last process (a frame that the code cannot stand, damaged memory), each one after it would
 * die of it, too.  So each part of kept memory counts the deaths in its own transactions, and each
 * one in a row leads one step further:
 *
 *     1  one by one   RESCUE_TAKES frames (or records) are taken one at a time
 *     2  skip         the one at which it died is skipped
 *     3  new memory   this part of kept memory begins anew, and that one is skipped as well
 *     4  all new      nothing that is kept is used
 *
 * A row ends when what the last process died of succeeds.  A death between transactions counts for
 * nothing.  Nor does that of a process that was killed from outside (SIGKILL), unless that happens
 * RESCUE_KILLS times in a row before it has succeeded once at the same task.
 *
 * Lies in kept memory, outside transactions.  Written by one thread. */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include "base/cc.h"

enum { RESCUE_TAKES = 512, RESCUE_KILLS = 4 };

enum rescue_step {
	RESCUE_NONE,
	RESCUE_ONE_BY_ONE,
	RESCUE_SKIP,
	RESCUE_NEW_MEMORY,
	RESCUE_ALL_NEW,
};

/* Further tasks are the owner's, from RESCUE_OTHER on. */
enum rescue_task { RESCUE_IDLE, RESCUE_ADOPT, RESCUE_TAKE, RESCUE_OTHER };

struct rescue {
	uint32_t task;	  /* is being done now */
	uint32_t died_of; /* task */
	uint32_t deaths;  /* in a row */
	uint32_t single;  /* how many are still to be taken one at a time */
	uint32_t done;	  /* sum of 1 << task: at what this process has succeeded */
	uint32_t kills;	  /* in a row, before it had */
};

/* Of what the last process left in @r: the step for this one, which adopts it now.  @crashed: it
 * was not killed from outside. */
enum rescue_step rescue_adopt(struct rescue *r, bool crashed);

/* New memory in place of that with @r: the row of deaths goes on. */
struct rescue rescue_renewed(const struct rescue *r);

/* Is it time for RESCUE_ALL_NEW?  Asked of each part before any is adopted. */
bool rescue_is_hopeless(const struct rescue *r, bool crashed);

/* Is the one at which the last process died to be skipped? */
static inline bool rescue_skips(const struct rescue *r, enum rescue_step step)
{
	return (step == RESCUE_SKIP || step == RESCUE_NEW_MEMORY) && r->died_of == RESCUE_TAKE;
}

/* How many may be taken at once, of @max. */
static inline unsigned rescue_batch(const struct rescue *r, unsigned max)
{
	return unlikely(r->deaths) && r->single ? 1 : max;
}

static inline void rescue_begin(struct rescue *r, uint32_t task)
{
	r->task = task;
}

/* One was skipped, which ends no row. */
static inline void rescue_skipped(struct rescue *r)
{
	r->task = RESCUE_IDLE;
}

/* Ends the row, if that was the task of the last death. */
void rescue_survived(struct rescue *r, uint32_t task);

/* The task is done. */
static inline void rescue_end(struct rescue *r)
{
	uint32_t task = r->task;

	r->task = RESCUE_IDLE;
	r->done |= 1u << task;
	if (unlikely(r->deaths))
		rescue_survived(r, task);
}
