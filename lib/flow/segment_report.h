/* segment_report.h - one segment of a connection, as a tcp_segment record.
 *
 * Sequence numbers are relative, as Wireshark counts them: the SYN has 0.  If the SYN of a side was
 * not seen, the first number that was reported of it is 1. */
#pragma once
#include <stdbool.h>
#include <stdint.h>

struct event;
struct segment;
struct tracker;

/* Fills *ret with @s, the segment that tracker_input() processed last, of the @endpoints: all but
 * its number.  False: it belongs to no connection. */
bool segment_report(struct tracker *t, const struct segment *s, unsigned endpoints,
		    struct event *ret);
