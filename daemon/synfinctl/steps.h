/* steps.h - the events of one connection, its segments among them, as rows of a sequence diagram.
 *
 * Says in words what a segment means, marks what is wrong, and folds long runs of data.  Give it
 * the lines in their order, and take the rows after each one.  Memory is fixed.  Pure. */
#pragma once
#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include "synfinctl/describe.h"
#include "synfinctl/sequence.h"

enum { STEPS_ROWS = 8, STEPS_GAPS = 16 };

struct steps_side {
	bool seen;	   /* a segment of it */
	bool syn, syn_ack; /* its SYN, and one with ACK */
	bool fin, fin_acked;
	bool sent, got;	   /* its first data, and its first bare ACK of data */
	bool no_space;	   /* its newest window is 0 */
	int64_t next;	   /* relative number after all that it sent */
	int64_t fin_at;	   /* number after its FIN */
	int64_t acked;	   /* the newest acknowledgement that it sent */
	int64_t missing;   /* the newest one that was said to be missing */
	uint64_t first_ns; /* of its SYN */
	uint64_t fin_ns;
	unsigned gaps;
	struct {
		int64_t from, to;
	} gap[STEPS_GAPS]; /* octets that were not seen yet */
};

struct steps_fold {
	struct sequence_row first; /* itself, if it stays alone */
	uint64_t rows, segments, again;
	uint64_t to_client, to_server; /* octets */
	uint64_t last_ns;
};

struct steps {
	bool all;	      /* folds nothing */
	uint64_t fold_max_ns; /* a row for a fold at least so often; 0: when it ends */

	struct steps_side side[2]; /* client, server */
	char state[2][SEQUENCE_STATE];
	uint64_t begin_ns, last_ns;    /* timestamps; 0: none yet */
	uint64_t segments, segment_ns; /* and the time of the newest one */
	json_t *pending;	       /* an event whose segment should come next */

	struct steps_fold fold;
	unsigned free; /* rows without words that are shown before the next ones are folded */
	unsigned turns, marks, pauses; /* shown since the last important row */
	bool data_to_client;

	bool opened; /* both sides were established */
	bool closed; /* tcp_close came */
	struct description outcome;

	unsigned n; /* rows to be taken */
	struct sequence_row rows[STEPS_ROWS];
};

/* Begins.  Free it with steps_done(). */
void steps_init(struct steps *s, bool all, uint64_t fold_max_ns);

/* The ends of an event's connection, and when it came. */
void steps_head(const json_t *event, struct sequence_head *ret);

/* An event of the connection, or one of the stream that concerns it, such as capture_loss. */
void steps_take(struct steps *s, const json_t *event);

/* No more events come, for now. */
void steps_end(struct steps *s);

/* The next row.  False: there is none yet. */
bool steps_next(struct steps *s, struct sequence_row *ret);

/* How it went, or what its states are. */
void steps_outcome(const struct steps *s, struct description *ret);

/* Frees it. */
void steps_done(struct steps *s);
