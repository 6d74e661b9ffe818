/* listing.h - the open connections of a tracker, a piece at a time.
 *
 * A walk follows the places of the table's index (table_place()).  An entry keeps its place from
 * its begin to its end: removal moves no other entry, a SYN entry that becomes a full one moves to
 * another slot but keeps its place, and the index never grows.  So, whatever happens to the table
 * between two pieces, of a walk from 0 to LISTING_END:
 *
 *   - a connection that is open during the whole walk is listed exactly once;
 *   - a connection that begins or ends during the walk is listed once or not at all;
 *   - a connection is listed as it is at that moment, and only if it is open then: its tcp_open was
 *     emitted, its tcp_close was not.  Deferred attempts ("flow/deferral.h") and unconfirmed
 *     incarnations are not listed: nothing of them was emitted.  Nor is what is over.
 *
 * Hence rows that are put into the stream of events where they were read, together with the events
 * after them, give the true state: what is missing was opened later, and its tcp_open follows.
 * Times are not compared, so equal stamps and clocks that are set back do no harm.
 *
 * The position is a number that also holds in the process that adopts the table.  Nothing is
 * written; the tracker's thread calls it, between two batches. */
#pragma once
#include <stdint.h>

struct event;
struct tracker;

#define LISTING_END UINT32_MAX

enum {
	LISTING_PLACES = 4096, /* of the index that a call looks at, at most ... */
	LISTING_ENTRIES = 256, /* ... and entries there */
};

/* Fills up to @max records (EVENT_SNAPSHOT) with connections from position *cursor on (0: the
 * first) and moves *cursor; LISTING_END: that was all.  Returns how many, maybe 0 before the end.
 * Sets all of a record but its number and who asked; snapshot.place is the position after it, from
 * which a walk can be continued as well. */
unsigned listing_read(const struct tracker *t, uint32_t *cursor, struct event *ret, unsigned max);
