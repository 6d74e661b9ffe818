/* transition.h - what proven evidence does to a connection: follows the edges of the state table,
 * counts states, emits what the endpoints did.  Private to lib/flow. */
#pragma once
#include "flow/segment_check.h"

struct flow;
struct tracker;

/* Applies the evidence of @v, which @s of @from proved, in its order, beginning at state @at.  With
 * @mirror each is applied for both sides: self-connection.  An anomaly that accompanies it is
 * reported only if nothing else is: one segment, one event. */
void transition_apply(struct tracker *t, struct flow *f, enum fsm_side from,
		      const struct segment *s, struct verdict v, enum fsm_state at, bool mirror);

/* An ICMP error at @ts_ns says that the SYN of @f could not be delivered: the attempt has
 * failed. */
void transition_unreachable(struct tracker *t, struct flow *f, uint64_t ts_ns);
