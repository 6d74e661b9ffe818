/* stream_state.h - all of the published stream that outlives the process, in one memfd named
 * "stream": the lines, the numbers, where each decoder's ring and each subscriber stands.
 *
 * What changes together changes in a transaction (base/undo.h): lines, `seq` and what was taken
 * from a decoder's ring for them.  Who takes the memory over rolls back what was not committed.
 * Only committed lines may be sent.  See docs/restart.md.  Main thread only. */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include "base/undo.h"
#include "format/pseudonym.h"
#include "synfind/access.h"
#include "synfind/linelog.h"

struct fdstore;
struct subscriber_record;

enum {
	STREAM_RECORDS_MIN = 1024, /* places that cost nothing until they are taken */
};

/* Saved as a whole at the start of a transaction. */
struct stream_progress {
	uint64_t seq;	      /* of the last event */
	uint64_t lost_events; /* of all subscribers */
	struct linelog_end end[ACCESS_LOGS];
};

/* How much of a decoder's ring has become lines; saved in its transactions. */
struct ring_cursor {
	uint64_t generation; /* whose this is: decoder.generation; 0: nobody's */
	uint64_t number;     /* of the event that comes next */
	uint32_t tail;	     /* index of the record that comes next */
};

/* What is needed to understand the rest; equal in whoever takes over. */
struct stream_geometry {
	uint64_t magic, octets;
	uint64_t log_octets; /* of each log */
	uint32_t layout, records;
};

struct stream_head {
	struct stream_geometry geometry;
	char run_id[33];
	bool paused;				     /* the process ended in order */
	uint64_t alive_ns;			     /* and it lived at this time */
	uint64_t accepted, refused[ACCESS_VERDICTS]; /* subscribers */
	uint8_t key[PSEUDONYM_KEY_OCTETS];	     /* of pseudonyms, once ... */
	bool has_key;
	uint64_t mark_first[ACCESS_LOGS];
	struct stream_progress state;
};

struct stream_state {
	struct stream_head *head;      /* NULL: closed */
	struct stream_progress *state; /* &head->state */
	uint32_t *
		/* per record: generation << 1 | taken, so that one store takes or frees it */
		in_use;
	struct ring_cursor *cursors;
	unsigned char *record_memory;
	struct linelog log[ACCESS_LOGS];
	uint64_t committed[ACCESS_LOGS]; /* heads at the last commit */
	struct undo undo;
	uint64_t control_octets;
};

/* Takes the stream over from an earlier process, with the sizes that it had, or begins a new one:
 * lines in at least @log_octets, at least @records subscribers.  Logs what fails; 0 or -errno. */
int stream_state_open(struct stream_state *s, struct fdstore *fdstore, uint64_t log_octets,
		      unsigned records, bool *ret_adopted);

/* The memory stays in the store.  A zeroed one is fine. */
void stream_state_close(struct stream_state *s);

/* The end of the stream: no later process takes it over. */
void stream_state_forget(struct fdstore *fdstore);

/* The place of decoder @index of interface @iface_id. */
struct ring_cursor *stream_state_cursor(const struct stream_state *s, unsigned iface_id,
					unsigned index);

/* Slot @i, below geometry.records. */
struct subscriber_record *stream_state_record(const struct stream_state *s, unsigned i);

/* Begins a transaction, or goes on with one: before the state, or what @feed (may be NULL) says, is
 * changed.  One transaction, one feed. */
static inline void stream_state_begin(struct stream_state *s, const struct ring_cursor *cursor)
{
	if (undo_is_open(&s->undo))
		return;
	undo_save(&s->undo, s->state, sizeof *s->state);
	if (cursor)
		undo_save(&s->undo, cursor, sizeof *cursor);
}

/* All lines so far are final. */
static inline void stream_state_commit(struct stream_state *s)
{
	undo_commit(&s->undo);
	for (unsigned i = 0; i < ACCESS_LOGS; i++)
		s->committed[i] = s->state->end[i].head;
}
