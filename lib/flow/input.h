/* input.h - the general path of one segment (tcp_input in the kernels).  Private to lib/flow. */
#pragma once
#include "flow/tcp_fsm.h"

struct conn;
struct flow;
struct segment;
struct tracker;

/* The first segment of a connection; @old, if not NULL, is the one that it takes over from. */
void input_first(struct tracker *t, struct flow *f, unsigned sender, const struct segment *s,
		 const struct conn *old);

/* Closes @f and begins a new connection on the same 4-tuple. */
void input_replace(struct tracker *t, struct flow *f, unsigned sender, const struct segment *s);

/* A segment of a connection that is known and not over; the caller saves @f. */
void input_segment(struct tracker *t, struct flow *f, enum fsm_side from, const struct segment *s);
