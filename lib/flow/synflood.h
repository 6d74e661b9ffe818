/* synflood.h - a server under a SYN flood: one series of events for it, in place of two for each
 * SYN.
 *
 * From SYNFLOOD_DEFER_FROM half-open connections of a server on, a new attempt is *deferred*: a bit
 * in its SYN entry says that nothing of it was told.  That loses nothing and only delays, for it
 * ends in one of these ways:
 *
 *   - it goes on beyond a SYN and its SYN-ACK (mostly the handshake's ACK: who forges his address
 *     cannot acknowledge a number that he does not see).  Then its tcp_open and tcp_state are told
 *     as they would have been, then what the segment did;
 *   - SYNFLOOD_DEFER_NS passed, and there is no flood: the same, by the next sweep;
 *   - it ends, or the capture does.  In a flood it is counted, and nothing is told; otherwise it is
 *     told in full.
 *
 * Half-open connections alone make no flood: an honest server has as many of them as its rate times
 * its round trip (20,000/s at 100 ms: 2,000), SYN cookies or not, and with a pause of its own many
 * more.  But they come to be connections within the second.  So it is a flood when at the end of a
 * second, or after so many attempts that the table is in danger,
 *
 *   - more attempts are deferred than cfg.flood_half_open, or a quarter of all SYN entries, and
 *   - those of that time which did not go on are cfg.flood_rate in a second, at least, and a
 *     quarter of them all.  (A server that is down and asked now and then is under no flood.)
 *
 * A SYN-ACK that comes (again) for an attempt which was evicted in a flood begins nothing.  If it
 * was a real one after all, its next segment begins it: picked up mid-stream.
 *
 * It is over when for SYNFLOOD_CALM_NS the second did not hold, and half of the first not either.
 *
 * SYNFLOODS servers are watched at once; attempts at further ones are told as ever, and counted.
 * All of it follows from the segments and the configuration alone.  Where several decoders share an
 * interface each has its part of a server's attempts, of the thresholds, and a series of its own.
 *
 * This is state of the run, but for the bits `deferred` and `mss_apart` of a SYN entry. */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include "base/hash.h"
#include "flow/event.h"
#include "flow/key.h"
#include "flow/table.h"

struct flow;
struct segment;
struct tracker;

enum {
	SYNFLOODS = 64,
	SYNFLOOD_DEFER_FROM = 16, /* ... / decoders; the first ones are told one by one */
	SYNFLOOD_PART = 4,	  /* of all SYN entries, for one server: the table is in danger */
};
static const uint64_t SYNFLOOD_DEFER_NS = 1000000000, SYNFLOOD_CALM_NS = 10000000000;

enum { SERVERS = 4096 }; /* of which SYN entries are counted, by hash, a power of two */

/* What of a key is the server's: address (two words), port, interface. */
struct synflood_server {
	uint64_t w[4];
	uint8_t ip_v;
	uint16_t hash; /* which struct synflood_servers is its own; the same in every run */
};

/* A server of which attempts are deferred. */
struct synflood {
	struct synflood_server server;
	bool reported;			 /* a flood: its series has begun */
	uint8_t next;			 /* see struct synflood_servers */
	uint32_t deferred;		 /* entries, now */
	uint64_t count[SYNFLOOD_COUNTS]; /* since since_ns; see event.h for what they add up to */
	uint64_t since_ns;
	uint64_t ended_ns; /* end of the last series: attempts before it belong to that */
	uint64_t window_ns, window_attempts, window_completed; /* where the present second began */
	uint64_t calm_ns;		 /* when it became calm; UINT64_MAX: it is not */
	uint64_t line_ns, line_attempts; /* of the last line of the series */
};

struct synfloods {
	unsigned n;
	struct synflood slot[SYNFLOODS];
};

/* The servers of one hash: mostly one. */
struct synflood_servers {
	uint32_t syn; /* their SYN entries */
	/* floods.slot[] of one of them, from 1; `next` of that is another's; 0: none */
	uint8_t watch;
};

/* Takes over what t->cfg says: see tracker_configure(). */
void synflood_configure(struct tracker *t);

/* The server of @k, whose client is end @client_end. */
static inline struct synflood_server synflood_server_of(const struct flow_key *k,
							unsigned client_end)
{
	static const struct hash_key fixed = {
		{ 0x73796e66696e6421, 0x666c6f6f64732121, 0x736572766572733f, 0x243f6a8885a308d3,
		  0x13198a2e03707344, 0xa4093822299f31d0, 0x082efa98ec4e6c89, 0x452821e638d01377 }
	};
	struct synflood_server s = { .ip_v = k->ip_v };
	uint64_t rest = k->w[k->ip_v == 4 ? 1 : 4];

	if (k->ip_v == 4) {
		s.w[0] = (uint32_t)(client_end ? k->w[0] >> 32 : k->w[0]);
	} else {
		s.w[0] = k->w[client_end ? 0 : 2];
		s.w[1] = k->w[client_end ? 1 : 3];
	}
	s.w[2] = rest >> (client_end ? 16 : 0) & 0xffff;
	s.w[3] = rest >> 32;
	s.hash = (uint16_t)((hash_quick(&fixed, s.w, 4) >> 32) * SERVERS >> 32);
	return s;
}

/* More than SYNFLOOD_DEFER_FROM SYN entries wait for @s: from now on attempts are deferred. */
void synflood_watch(struct tracker *t, const struct synflood_server *s);

/* A new attempt at @s, of which a SYN entry can tell all.  True: it is deferred, its tcp_open must
 * not be told. */
bool synflood_defers(struct tracker *t, const struct synflood_server *s);

/* The same of any attempt @f, complete but not stored. */
bool synflood_defer(struct tracker *t, struct flow *f);

/* The SYN-ACK that would begin @f, since nothing is known of its SYN.  True: its server is under a
 * flood, so that it mostly answers an attempt that was given up: it begins nothing. */
bool synflood_late(struct tracker *t, const struct flow *f);

/* A deferred attempt @f goes to state @to, by @s of @from, and is still as it was before.  True:
 * nothing of that is to be told; false: all of it, what came before is told now. */
bool synflood_keeps(struct tracker *t, struct flow *f, enum fsm_state to, const struct segment *s);

/* A deferred attempt ends, and never went on.  As synflood_keeps(). */
bool synflood_ends(struct tracker *t, struct flow *f, enum synflood_count how);

/* How that counts, by the reason that its tcp_close would give. */
enum synflood_count synflood_count_of(enum close_reason reason);

/* Does one of @start_ns end in a flood of @s?  Then that is counted; otherwise nothing was done. */
bool synflood_swallows(struct tracker *t, const struct synflood_server *s, uint64_t start_ns,
		       enum synflood_count how);

/* Tells what was deferred of @f, in the order of time; it is deferred no more.  @as: how that
 * counts. */
void synflood_release(struct tracker *t, struct flow *f, enum synflood_count as);

/* Is the live entry @r deferred for so long that it must be told, unless there is a flood? */
bool synflood_overdue(const struct tracker *t, table_ref r);

/* If there is none: tells what was deferred of @f, an entry that is overdue. */
void synflood_let_go(struct tracker *t, struct flow *f);

/* A second has passed, more or less, and nothing was given up for its age since. */
void synflood_tick(struct tracker *t);

/* Every entry is gone: series end. */
void synflood_end_all(struct tracker *t);
