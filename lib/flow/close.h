/* close.h - the only way an entry ends.
 *
 * A connection closes and is reported (close_connection()).  An incarnation that was never
 * confirmed is settled: reported with its end, or counted as a stray SYN of the old connection.  A
 * deferred attempt is counted for its flood.  Or an entry is forgotten.  Private to lib/flow. */
#pragma once
#include "flow/emit.h"
#include "flow/table.h"

struct flow;
struct waiting;

/* Ends the entry of @f for a reason that no segment of its own gave: the endpoints stay as they
 * are, as far as is known.  @rst_by: the side whose RST it was, or -1. */
void close_entry(struct tracker *t, struct flow *f, enum close_reason reason, int rst_by,
		 struct trigger trigger);

/* The same of one that is no unconfirmed incarnation. */
void close_connection(struct tracker *t, struct flow *f, enum close_reason reason, int rst_by,
		      struct trigger trigger);

/* An incarnation @f that was never confirmed: reports it with its end, if it was one, and forgets
 * it. */
void close_incarnation(struct tracker *t, struct flow *f, enum close_reason reason,
		       struct trigger trigger);

/* Ends the SYN entry of @w without unpacking it.  False: nothing was done; it must be reported. */
bool close_deferred(struct tracker *t, const struct waiting *w, enum close_reason reason);

/* The same for the SYN entry @r. */
bool close_deferred_at(struct tracker *t, table_ref r, enum close_reason reason);

/* Frees the entry of @f; nothing is reported. */
void close_forget(struct tracker *t, struct flow *f);

/* The SYNs of the incarnation @pend began nothing: @old counts them as its own. */
void close_give_back(struct conn *old, const struct conn *pend);
