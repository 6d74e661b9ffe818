/* timeout.h - entries that were silent for too long: each when it is touched, all by the sweep.
 * Private to lib/flow. */
#pragma once
#include "flow/synflood.h"
#include "flow/table.h"
#include "flow/tracker_config.h"

struct flow;
struct tracker;

/* Has the slot @r outlived its time?  Looks at a few octets, before any work is done. */
bool timeout_due(const struct tracker *t, table_ref r);

/* Closes @f if its time has come; true: its entry is gone. */
bool timeout_expire(struct tracker *t, struct flow *f);

/* A sweep looks through a part of the table; several at once after a pause. */
void timeout_sweep_begin(struct tracker *t, unsigned sweeps);

/* Some of it: with an undo log at most SWEEP_STEP slots and STEP_EVENTS events, else all.  False:
 * that was all. */
bool timeout_sweep(struct tracker *t);

/* A sweep looks at this part of the slots in use, or more. */
enum { SWEEP_PARTS = 8 };

/* Slots that may be closed in one step: each emits its open, if that was deferred, its answer and
 * its close, and the same of an incarnation beside it; then floods end. */
enum { STEP_SLOTS = (STEP_EVENTS - SYNFLOODS) / 6 };
