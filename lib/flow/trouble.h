/* trouble.h - what is wrong now: a SYN or SYN-ACK that came again, a half-closed connection in
 * which nothing moves.
 *
 * tcp_retry is reported at the first repetition, and at the first one after 1, 2, 4, 8 ... s, so
 * that a connection has few of them however often it repeats.  A copy that the path made at once is
 * none.  tcp_stuck is reported once for each time of cfg.stuck_ns.
 * Private to lib/flow, in the tracker's thread. */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include "flow/table.h"
#include "flow/tcp_fsm.h"

struct flow;
struct segment;
struct tracker;

/* @s of @from repeats a SYN or SYN-ACK of @f, and is counted; the newest segment before was at
 * @before_ns. */
void trouble_repeated(struct tracker *t, struct flow *f, enum fsm_side from,
		      const struct segment *s, uint64_t before_ns);

/* Has nothing moved in the entry @r, if it is one, for so long that it must be reported? */
bool trouble_stuck_due(const struct tracker *t, table_ref r);

/* Reports that of @f, which is due, and saves it.  @deadline_ns: when it times out. */
void trouble_stuck(struct tracker *t, struct flow *f, uint64_t deadline_ns);
