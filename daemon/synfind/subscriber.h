/* subscriber.h - one reader of the stream: a position in the line log and what is in flight.
 *
 * It costs nobody anything but its own events: when the log overtakes it, the rest of the line it
 * is in is kept aside, everything up to a line further on is lost, and a `lost` line says so
 * before the stream goes on.  Lines are whole, always.
 *
 * Where it stands is in a record of shared memory, and so is the header of each send: the kernel
 * itself stores there how much it took (`msg_len`, net/socket.c: __sys_sendmmsg()) before the call
 * returns, and a process is killed only on its way out of the kernel.  So whoever takes over knows
 * to the octet what was sent: subscriber_settle().  Main thread only. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <sys/uio.h>
#include "synfind/linelog.h"

typedef struct sd_event_source sd_event_source;
struct undo;

/* The most that is ever kept aside: a hello, or the rest of one line, or a `lost` line.  Never two
 * of them, since nothing is skipped or told before what is aside has gone. */
enum { SUBSCRIBER_PREFIX_MAX = 20 << 10 };

/* Saved as a whole where several of them change. */
struct subscriber_cursor {
	uint64_t at;			/* next octet of the log to send */
	uint64_t lost_first, lost_last; /* to be told; 0: nothing */
	uint64_t lost_total;
	uint32_t prefix_len, prefix_at; /* octets to send before those of the log */
};

enum subscriber_flight { FLIGHT_NONE, FLIGHT_PREFIX, FLIGHT_LOG };

struct subscriber_record {
	struct subscriber_cursor cursor;
	uint32_t log;	    /* which of the stream's logs it reads */
	uint32_t flight;    /* enum subscriber_flight: what is being sent ... */
	uint64_t from;	    /* ... from here on ... */
	struct mmsghdr msg; /* ... and how much of it was */
	struct iovec iov;
	char prefix[SUBSCRIBER_PREFIX_MAX];
};

struct subscriber {
	struct subscriber *next, **link;
	struct publisher *publisher;
	struct subscriber_record *record; /* borrowed */
	unsigned index;			  /* its number */
	sd_event_source *io;
	int fd;		/* owned */
	bool is_socket; /* else a pipe, terminal or file: standard output */
	bool waits;	/* EPOLLOUT is asked for */
	bool input_ended;
	bool plain_file; /* cannot be polled: always ready */
	pid_t pid;	 /* of the peer, for the log */
	uid_t uid;	 /* of the peer; standard output: (uid_t)-1 */
	uint64_t input_octets;
};

enum subscriber_verdict { SUBSCRIBER_IDLE, SUBSCRIBER_WAITS, SUBSCRIBER_GONE };

/* A record for who reads log number @log from @at on. */
void subscriber_record_init(struct subscriber_record *record, unsigned log, uint64_t at);

/* Puts octets before those of the log (the hello line); -ENOBUFS. */
int subscriber_prepend(struct subscriber_record *record, const char *octets, size_t n);

/* Called before the octets in front of @clear are overwritten: gives up what it has not sent of
 * them.
 * @seq_now: number of the last event.  Saves to @u what it changes, and leaves the commit to the
 * caller.  Returns how many events were lost; SUBSCRIBER_BROKEN: its line cannot be kept whole, so
 * it must go. */
#define SUBSCRIBER_BROKEN UINT64_MAX
uint64_t subscriber_skip(struct subscriber_record *record, const struct linelog *l, struct undo *u,
			 uint64_t clear, uint64_t seq_now);

/* Sends what can be sent without waiting.  IDLE: everything is sent; WAITS: the rest when the
 * descriptor is ready; GONE: nobody reads any more.  No transaction may be open: it makes its own
 * with @u, and what it sends is final. */
enum subscriber_verdict subscriber_send(struct subscriber *s, const struct linelog *l,
					struct undo *u, uint64_t now_ns);

/* After each send, and first of all when a record is taken over: notes what the kernel took.  May
 * itself be ended anywhere and called again. */
void subscriber_settle(struct subscriber_record *record);

/* Could this be what a process left that read @l?  Of a record that was taken over and settled. */
bool subscriber_is_sound(const struct subscriber_record *record, const struct linelog *l);
