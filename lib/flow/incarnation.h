/* incarnation.h - a SYN with another ISN on a 4-tuple in use (RFC 9293 3.6.1, RFC 5961 4).
 *
 * The SYN begins a new incarnation only when the peer answers it.  Until then it lies in a SYN
 * entry of its own beside the old connection: the new entry has the bit `incarnation`, the old one
 * `rivalled`. A challenge ACK drops it.  Private to lib/flow. */
#pragma once
#include <stdbool.h>
#include "flow/tcp_fsm.h"

struct conn;
struct flow;
struct segment;
struct tracker;

/* May @s of @from begin a new connection at once, though the old one @c is still remembered?  RFC
 * 9293 3.6.1 and RFC 6191 2: if no endpoint is in TIME-WAIT, or if @s is newer than the old
 * connection. */
bool incarnation_supersedes(const struct conn *c, enum fsm_side from, const struct segment *s);

/* Keeps @s beside the old connection @old, which the caller saves.  False: it cannot be kept. */
bool incarnation_keep(struct tracker *t, struct flow *old, unsigned sender,
		      const struct segment *s);

enum incarnation_for { INCARNATION_FOR_OLD, INCARNATION_FOR_NEW, INCARNATION_DONE };

/* A segment of a 4-tuple with an unconfirmed incarnation @pend beside the old connection @old:
 * which of them it is for.  INCARNATION_DONE: nothing is left to do. */
enum incarnation_for incarnation_input(struct tracker *t, struct flow *pend, struct flow *old,
				       unsigned sender, const struct segment *s);

/* @pend is confirmed: by an answer, or since nothing is left beside it.  Closes @old, if it has an
 * entry, because of @s, and reports @pend. */
void incarnation_confirm(struct tracker *t, struct flow *pend, struct flow *old,
			 const struct segment *s);
