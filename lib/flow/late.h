/* late.h - segments of a 4-tuple whose connection is over: late ones, which mean nothing, or the
 * first of the next connection.  Private to lib/flow. */
#pragma once

struct flow;
struct segment;
struct tracker;

/* Processes @s, sent by end @sender; @f is over.  Only a repeated
 * FIN prolongs its entry. */
void late_input(struct tracker *t, struct flow *f, unsigned sender, const struct segment *s);
