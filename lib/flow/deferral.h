/* deferral.h - attempts at a server with many half-open connections: reported later, or not at all.
 *
 * When "flow/synflood.h" says so, a new attempt is deferred: a bit in its SYN entry says that no
 * event of it was emitted.  Nothing is lost, only delayed.  A deferral ends in one of three ways:
 *
 *   - the attempt continues beyond a SYN and its SYN-ACK, mostly by the handshake's ACK.  (A forged
 *     address cannot acknowledge a number that it does not see.)  Its tcp_open and tcp_state are
 *     emitted as they would have been, then the events of the segment;
 *   - DEFERRAL_NS passed, and there is no flood: the next sweep does the same;
 *   - the attempt ends, or the capture ends.  In a flood it is only counted; otherwise it is
 *     reported in full.
 *
 * This module carries out the detector's verdicts.  Private to lib/flow. */
#pragma once
#include <stdbool.h>
#include "flow/event.h"
#include "flow/table.h"
#include "flow/tcp_fsm.h"

struct flow;
struct segment;
struct tracker;

static const uint64_t DEFERRAL_NS = 1000000000;

/* Is a new attempt at @s to be deferred?  Counts it, and reports a flood that begins. */
bool deferral_wanted(struct tracker *t, const struct flow_server *s);

/* The same of any attempt @f, complete but not saved: true, it is deferred. */
bool deferral_begin(struct tracker *t, struct flow *f);

/* Emits the tcp_open of an incarnation @f that was not confirmed until now, unless it is
 * deferred. */
void deferral_open(struct tracker *t, struct flow *f, uint64_t prev_flow_id);

/* The SYN-ACK that would begin @f, whose SYN was not seen.  True: its server is under a flood, so
 * it mostly answers an attempt that was evicted: it begins nothing. */
bool deferral_is_late(struct tracker *t, const struct flow *f);

/* The deferred attempt @f, still as before, goes to state @to by @s.  True: nothing of that is to
 * be reported; false: all of it, what came before is reported now. */
bool deferral_moves(struct tracker *t, struct flow *f, enum fsm_state to, const struct segment *s);

/* The deferred attempt @f ends without having continued.  As deferral_moves(). */
bool deferral_ends(struct tracker *t, struct flow *f, enum synflood_count how);

/* How that counts, by the reason that its tcp_close would have. */
enum synflood_count deferral_count_of(enum close_reason reason);

/* Does a deferred attempt at @s that began at @start_ns end in a flood?  Then it is counted;
 * otherwise nothing was done. */
bool deferral_absorbs(struct tracker *t, const struct flow_server *s, uint64_t start_ns,
		      enum synflood_count how);

/* Is the live entry @r deferred for so long that it must be reported, unless there is a flood? */
bool deferral_overdue(const struct tracker *t, table_ref r);

/* Reports what was deferred of @f, if there is no flood; false: there is one. */
bool deferral_tell(struct tracker *t, struct flow *f);

/* If there is no flood: reports @f, whose entry is overdue. */
void deferral_expire(struct tracker *t, struct flow *f);

/* Saves @f, which has an entry.  A deferred attempt that no SYN entry holds is reported first. */
void deferral_save(struct tracker *t, struct flow *f);

/* Adds the SYN entry @e for @f, whose server is @s.  With too many of them the server is watched
 * from now on. */
void deferral_add(struct tracker *t, struct flow *f, const struct flow_server *s,
		  const struct syn_entry *e);
