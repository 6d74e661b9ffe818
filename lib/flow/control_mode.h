/* control_mode.h - conclusions where the capture leaves out all but SYN, FIN and RST.  Pure.
 *
 * The numbers of a FIN or an RST can then lie anywhere: only this segment says how far the
 * connection got.  So the connection is moved to these numbers before the segment is checked. */
#pragma once
#include <stdint.h>
#include "flow/tcp_fsm.h"

struct conn;
struct segment;

/* Before @s is checked: moves @c to where @s says that both ends are, unless a FIN fixed that.
 * Returns the segment to check in place of @s: @s itself, or *@scratch, a copy of @s without data,
 * so that a FIN and its repetition have the same numbers. */
const struct segment *control_mode_believe(struct conn *c, enum fsm_side from,
					   const struct segment *s, struct segment *scratch);

/* The timeout of state @s.  An ACK is not captured; but what is not acknowledged is repeated, and
 * that is captured. */
enum fsm_timeout control_mode_timeout(enum fsm_state s);

/* The state after both FINs, if neither is repeated; @s itself if they were not seen. */
enum fsm_state control_mode_end(enum fsm_state s);

/* Octets from @side's SYN to its FIN, modulo 2^32; UINT64_MAX where one of them was not seen.
 * @s: the state before a reset, or the present one. */
uint64_t control_mode_stream(const struct conn *c, enum fsm_state s, enum fsm_side side);
