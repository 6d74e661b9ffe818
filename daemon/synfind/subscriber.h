/* subscriber.h - one reader of the stream: a position in the line log and what is in flight.
 *
 * It costs nobody anything but its own events: when the log overtakes it, the rest of the line it
 * is in is kept aside, everything up to a line further on is lost, and a `lost` line says so
 * before the stream goes on.  Lines are whole, always.  Main thread only. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include "synfind/linelog.h"

typedef struct sd_event_source sd_event_source;

struct subscriber {
	struct subscriber *next, **link;
	struct publisher *publisher;
	sd_event_source *io;
	int fd;		   /* owned */
	bool is_socket;	   /* else a pipe, terminal or file: standard output */
	bool waits;	   /* EPOLLOUT is asked for */
	bool input_ended;
	bool plain_file;   /* cannot be polled: always ready */
	pid_t pid;	   /* of the peer, for the log */
	uid_t uid;	   /* of the peer; of ours: (uid_t)-1 */
	unsigned stream;   /* of the publisher's */
	uint64_t at;	   /* next octet of the log to send */
	char *aside;	   /* octets to send before those of the log; owned */
	size_t aside_len, aside_at, aside_room;
	uint64_t lost_first, lost_last; /* to be told; 0: nothing */
	uint64_t lost_total, input_octets;
};

enum subscriber_verdict { SUBSCRIBER_IDLE, SUBSCRIBER_WAITS, SUBSCRIBER_GONE };

/* Puts octets before those of the log (the hello line); -ENOMEM. */
int subscriber_put_aside(struct subscriber *s, const char *octets, size_t n);

/* Called before the octets in front of @clear are overwritten: gives up what it has not sent of them.
 * @seq_now: number of the last event.  Returns how many events were lost; SUBSCRIBER_BROKEN: no
 * memory to keep its line whole, so it must go. */
#define SUBSCRIBER_BROKEN UINT64_MAX
uint64_t subscriber_skip(struct subscriber *s, const struct linelog *l, uint64_t clear,
			 uint64_t seq_now);

/* Sends what can be sent without waiting.  IDLE: everything is sent; WAITS: the rest when the
 * descriptor is ready; GONE: nobody reads any more. */
enum subscriber_verdict subscriber_send(struct subscriber *s, const struct linelog *l,
					uint64_t now_ns);
