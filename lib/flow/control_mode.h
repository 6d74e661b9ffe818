/* control_mode.h - what is concluded of segments that the capture leaves out on purpose.  Pure.
 *
 * In control mode the tracker is shown SYN, FIN and RST alone.  The numbers of a FIN or an RST then
 * lie anywhere: how far the conversation got between is known by nobody but this very segment.  So
 * it is taken at its word, and the segment check finds the numbers that it says. */
#pragma once
#include <stdint.h>
#include "flow/tcp_fsm.h"

struct conn;
struct segment;

/* Before @s is proved: @c goes on to where @s says that both ends are, as far as no FIN fixed it.
 * Returns the segment to prove in its place: @s, or *@room, which is @s without the data that came
 * with it, so that a FIN and its repetition say the same. */
const struct segment *control_mode_believe(struct conn *c, enum fsm_side from,
					   const struct segment *s, struct segment *room);

/* How long silence lasts in @s until it means something: an acknowledgement is not shown, and what
 * is not acknowledged would be repeated, which is. */
enum fsm_timeout control_mode_timeout(enum fsm_state s);

/* Where a connection with FINs of both is, once neither was repeated; @s, if they were not seen. */
enum fsm_state control_mode_end(enum fsm_state s);

/* Octets from @side's SYN to its FIN, modulo 2^32; UINT64_MAX where one of them was not seen.
 * @s: the state before a reset, or the present one. */
uint64_t control_mode_stream(const struct conn *c, enum fsm_state s, enum fsm_side side);
