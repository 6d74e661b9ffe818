/* snapshot.h - the open connections, listed to a subscriber that asks (docs/requests.md).
 *
 * Pulled: a decoder is asked for one piece of a walk over its table at a time (decoder_list()),
 * and for the next one when the subscriber's space for lines is empty.  So a million connections
 * take the time that the subscriber takes, and no memory.  The records come through the decoder's
 * ring, in their order among its events.  Their lines go to the subscriber alone, at the position
 * that the log has then.  How far the walk is is kept, and so are its lines: the next process
 * continues.  Main thread only. */
#pragma once
#include <stdbool.h>
#include <stdint.h>

struct event;
struct input_ring;
struct json_context;
struct publisher;
struct subscriber;

/* Takes a record of kind EVENT_SNAPSHOT, in the transaction of its ring. */
void snapshot_take(struct publisher *p, const struct event *e, const struct json_context *c);

/* Asks for the next piece for @s if it has space: subscribers.pull.  Without an open transaction.
 * True: the walk has ended, and its last line waits. */
bool snapshot_pull(void *publisher, struct subscriber *s);

/* The ring of @input is about to be removed: walks over it continue with the next one. */
void snapshot_removed(struct publisher *p, const struct input_ring *input);
