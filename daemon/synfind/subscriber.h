/* subscriber.h - one reader of the stream: a position in the line log and the send in flight.
 *
 * A subscriber gets the lines that its subscription wants, and whole lines only.  A slow one loses
 * only its own events, by its policy.  If the log overtakes it, the rest of its current line is
 * saved in `prefix`, some lines are skipped, and a `lost` line reports those that it wanted before
 * the stream continues.
 *
 * Its position is in a record of shared memory, and so is the header of each send: the kernel
 * writes the number of octets sent (`msg_len`, net/socket.c: __sys_sendmmsg()) before the call
 * returns, and a signal kills a process only on its way out of the kernel.  So the next process
 * knows exactly what was sent: subscriber_settle().  Main thread only. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <sys/uio.h>
#include "synfind/filters.h"
#include "synfind/linelog.h"

typedef struct sd_event_source sd_event_source;
struct strbuf;
struct subscribers;
struct undo;

/* The prefix holds one hello, the rest of one line with the answer to a request, or one `lost`
 * line: nothing is skipped, answered or reported before it is sent. */
enum { SUBSCRIBER_PREFIX_MAX = 32 << 10, SUBSCRIBER_ANSWER_MAX = 10 << 10 };

/* Why events do not reach it. */
enum subscriber_loss { LOSS_SLOW, LOSS_REPLAY, LOSS_RUN, SUBSCRIBER_LOSSES };

/* Saved as a whole when several members change. */
struct subscriber_cursor {
	uint64_t at;			/* next octet of the log to send */
	uint64_t lost_first, lost_last; /* not reported yet; 0: none */
	uint64_t lost_count;		/* of them, what it wanted */
	uint64_t lost_total;
	uint64_t lost_segments;		/* lines tcp_segment, not reported yet ... */
	uint64_t lost_segments_seq;	/* ... the event before the next line */
	uint32_t prefix_len, prefix_at; /* octets to send before those of the log */
	uint8_t lost_reason;		/* enum subscriber_loss */
	bool closing;			/* the prefix is the last that it gets */
	struct subscription want;
};

/* A walk over all open connections, one piece of lines at a time: snapshot.h. */
struct subscriber_snapshot {
	uint32_t serial;     /* of the request that began it, from 1 */
	bool walking;	     /* and not at its end */
	uint32_t ring;	     /* index of the ring_cursor of the decoder that it has come to */
	uint64_t generation; /* of that decoder's ring */
	uint32_t next;	     /* cursor in the decoder's table: "flow/listing.h" */
	uint32_t rows_octets;
	uint64_t rows_at; /* position in the log where `rows` belong */
	uint64_t count;	  /* lines so far */
	char id[256 + 1]; /* of the request */
	bool has_id;
};

enum subscriber_flight { FLIGHT_NONE, FLIGHT_PREFIX, FLIGHT_LOG };

struct subscriber_record {
	struct subscriber_cursor cursor;
	uint32_t log;	    /* enum access_verdict: the log that it reads */
	uint32_t flight;    /* enum subscriber_flight: what is being sent */
	uint64_t from;	    /* position where the send began */
	struct mmsghdr msg; /* .msg_len: octets sent */
	struct subscriber_snapshot snapshot;
	char prefix[SUBSCRIBER_PREFIX_MAX];
	char rows[SUBSCRIBER_PREFIX_MAX];
};

struct subscriber {
	struct subscriber *next, **link;
	struct subscribers *all;	  /* that it belongs to */
	struct subscriber_record *record; /* borrowed */
	unsigned index;			  /* of the record */
	sd_event_source *io;
	int fd;		 /* owned */
	bool is_socket;	 /* else a pipe, terminal or file: standard output */
	bool waits;	 /* for EPOLLOUT */
	unsigned polled; /* EPOLLOUT, EPOLLIN */
	bool input_ended;
	bool plain_file;   /* cannot be polled: always ready */
	bool stored;	   /* the next process resumes it */
	uint64_t since_ns; /* monotonic, of its connection */
	pid_t pid;	   /* of the peer, for the log */
	uid_t uid;	   /* of the peer; standard output: (uid_t)-1 */
	char *input;	   /* of a request that has not come completely; owned */
	size_t input_octets;
	bool input_skips; /* up to the next newline: the request is too long */
	unsigned requests;
	bool snapshot_asked; /* a decoder is to answer */
};

enum subscriber_verdict { SUBSCRIBER_IDLE, SUBSCRIBER_WAITS, SUBSCRIBER_GONE };

static inline bool subscriber_prefix_sent(const struct subscriber_record *record)
{
	return record->cursor.prefix_at == record->cursor.prefix_len;
}

/* Adds octets to the prefix; -ENOBUFS. */
int subscriber_prepend(struct subscriber_record *record, const char *octets, size_t n);

/* Skips unsent octets before @clear, which are about to be overwritten, or disconnects it, by its
 * policy.  @seq_now: number of the last event.  Saves its changes to @u; the caller commits.
 * Returns the number of lost events, or SUBSCRIBER_BROKEN: the current line does not fit the
 * prefix, so the subscriber must be removed. */
#define SUBSCRIBER_BROKEN UINT64_MAX
uint64_t subscriber_skip(struct subscriber_record *record, const struct linelog *l, struct undo *u,
			 uint64_t clear, uint64_t seq_now);

/* A subscription from where it is, or from event @from on. */
struct subscriber_change {
	struct subscription want;
	bool has_from;
	uint64_t from;		  /* the last event that it has */
	enum subscriber_loss gap; /* what to call the events after it that the log does not have */
	/* Writes the answer; @seq is the number of the event before the first line. */
	void (*answer)(void *arg, struct strbuf *t, uint64_t seq);
	void *arg;
};

/* Applies it.  The prefix is empty.  Saves its changes to @u; the caller commits.  0; -ENOBUFS: the
 * answer is too long, and nothing has changed. */
int subscriber_change(struct subscriber_record *record, const struct linelog *l, struct undo *u,
		      const struct subscriber_change *change, uint64_t seq_now);

/* Sends what can be sent without blocking.  IDLE: all is sent; WAITS: the descriptor is not ready
 * or the budget is used up; GONE: the peer has closed.  Call it without an open transaction: it
 * uses @u for its own, and what it sends is final. */
enum subscriber_verdict subscriber_send(struct subscriber *s, const struct linelog *l,
					struct undo *u, uint64_t now_ns);

/* Moves the cursor past what the kernel sent.  Called after each send, and first of all on an
 * adopted record.  May be interrupted anywhere and repeated. */
void subscriber_settle(struct subscriber_record *record, const struct linelog *l);

/* Is an adopted, settled record consistent with log @l? */
bool subscriber_is_sound(const struct subscriber_record *record, const struct linelog *l);
