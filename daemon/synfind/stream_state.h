/* stream_state.h - the part of the published stream that outlives the process, in one memfd named
 * "stream": lines, numbers, and the position of each decoder's ring and each subscriber.
 *
 * What changes together changes in one transaction (base/undo.h): lines, `seq`, and the cursor of
 * the ring that the events came from.  The next process rolls back an open transaction.  Only
 * committed lines may be sent.  See docs/restart.md.  Main thread only. */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include "base/undo.h"
#include "format/pseudonym.h"
#include "synfind/access.h"
#include "synfind/filters.h"
#include "synfind/linelog.h"
#include "synfind/rescue.h"
#include "synfind/segments.h"

struct fdstore;

#define STREAM_NAME "stream" /* in the fd store */

/* What is not used costs no memory. */
enum { STREAM_RECORDS_MIN = 1024, STREAM_IFACES = 4096 };

/* Saved as a whole at the start of a transaction. */
struct stream_progress {
	uint64_t seq;	      /* of the last event */
	uint64_t lost_events; /* sum over all subscribers */
	struct linelog_end end[ACCESS_LOGS];
};

/* How much of a decoder's event ring is published; saved in the transactions of that ring. */
struct ring_cursor {
	uint64_t generation; /* of the ring, decoder_state_head.generation; 0: unused */
	uint64_t number;     /* of the next event */
	uint32_t tail;	     /* index of the next record */
};

/* Describes the rest of the memory.  The next process keeps it as it is. */
struct stream_geometry {
	uint64_t magic, octets;
	uint64_t log_octets; /* of each log */
	uint64_t layout, records;
};

struct stream_head {
	struct stream_geometry geometry;
	char run_id[33];
	bool paused;				     /* the process ended in order */
	uint64_t alive_ns;			     /* last time it was known to run */
	uint64_t accepted, refused[ACCESS_VERDICTS]; /* subscribers */
	uint8_t key[PSEUDONYM_KEY_OCTETS];	     /* valid if has_key */
	bool has_key;
	struct stream_rescue {
		struct rescue deaths;
		uint32_t taking;  /* index of the cursor whose records are taken */
		uint32_t crashed; /* crash_note() */
	} rescue;
	uint64_t mark_first[ACCESS_LOGS];
	struct stream_progress state;
};

struct stream_state {
	struct stream_head *head;      /* NULL: closed */
	struct stream_progress *state; /* &head->state */
	uint32_t *in_use;	       /* per record: generation << 1 | in use, changed as one */
	struct ring_cursor *cursors;
	unsigned char *record_memory;
	struct linelog log[ACCESS_LOGS];
	uint64_t committed[ACCESS_LOGS]; /* heads at the last commit */
	struct segments segments;	 /* whose places are kept */
	struct filters filters;		 /* compiled in this process; their text is kept */
	struct undo undo;
	uint64_t control_octets;
	bool crashed; /* the last process, or that is not known */
	enum rescue_step
		step; /* of this process, since it opened the stream, after so many deaths */
	uint32_t deaths;
};

/* Resumes the stream of an earlier process with its sizes, or begins a new one with at least
 * @log_octets per log and at least @records subscribers.  Logs what fails; 0 or -errno. */
int stream_state_open(struct stream_state *s, struct fdstore *fdstore, uint64_t log_octets,
		      unsigned records, bool *ret_adopted);

/* All parts of it are resumed or new: what comes now is done in transactions. */
static inline void stream_state_opened(struct stream_state *s)
{
	rescue_end(&s->head->rescue.deaths);
}

/* The deaths that are counted in the memory of @fd.  False: it is no stream of this version. */
bool stream_state_rescue(int fd, struct stream_rescue *ret);

/* The memory stays in the store.  A zeroed one is fine. */
void stream_state_close(struct stream_state *s);

/* Ends the stream: no later process resumes it. */
void stream_state_forget(struct fdstore *fdstore);

/* The cursor of decoder @index of interface @iface_id. */
struct ring_cursor *stream_state_cursor(const struct stream_state *s, unsigned iface_id,
					unsigned index);

/* Record @i, below geometry.records. */
struct subscriber_record *stream_state_record(const struct stream_state *s, unsigned i);

/* Begins a transaction, unless one is open, before the state or @cursor (may be NULL) changes.  A
 * transaction has one cursor. */
static inline void stream_state_begin(struct stream_state *s, const struct ring_cursor *cursor)
{
	if (undo_is_open(&s->undo))
		return;
	s->head->rescue.taking = cursor ? (uint32_t)(cursor - s->cursors) : 0;
	rescue_begin(&s->head->rescue.deaths, cursor ? RESCUE_TAKE : RESCUE_OTHER);
	undo_save(&s->undo, s->state, sizeof *s->state);
	if (cursor)
		undo_save(&s->undo, cursor, sizeof *cursor);
}

/* Makes all lines so far final. */
static inline void stream_state_commit(struct stream_state *s)
{
	undo_commit(&s->undo);
	for (unsigned i = 0; i < ACCESS_LOGS; i++)
		s->committed[i] = s->state->end[i].head;
	rescue_end(&s->head->rescue.deaths);
}

/* The record of @cursor at which the last processes died is to be skipped. */
static inline bool stream_state_skips(const struct stream_state *s,
				      const struct ring_cursor *cursor)
{
	return rescue_skips(&s->head->rescue.deaths, s->step) &&
	       s->head->rescue.taking == cursor - s->cursors;
}
