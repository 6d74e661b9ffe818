/* synflood.h - is a server under a SYN flood?  Pure: counts go in, a verdict or a report comes out.
 *
 * From SYNFLOOD_DEFER_FROM half-open connections of a server on, the detector watches it: each new
 * attempt is to be deferred ("flow/deferral.h"), and is counted here.
 *
 * Half-open connections alone make no flood.  An honest server has as many as its rate times its
 * round trip (20,000/s at 100 ms: 2,000), with SYN cookies or without, and many more after a pause.
 * But they complete within the second.  So a flood begins when at the end of a second, or after so
 * many attempts that the table is in danger, both are true:
 *
 *   - more attempts are deferred than `half_open`, or than a quarter of all SYN entries;
 *   - at least `rate` attempts a second, and at least a quarter of all attempts, did not complete.
 *     (A server that is down and asked now and then is under no flood.)
 *
 * It ends when for SYNFLOOD_CALM_NS the second was false, and half of the first as well.
 *
 * SYNFLOODS servers are watched at once.  Several decoders that share an interface have each a
 * share of a server's attempts and of the thresholds, and a series of reports of their own.
 *
 * struct synflood is a process's view.  What it remembers is kept memory: const here, changed only
 * after it was saved for the undo log. */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include "flow/event.h"
#include "flow/key.h"

struct undo;

enum {
	SYNFLOODS = 64,
	SYNFLOOD_DEFER_FROM = 16, /* / decoders */
	SYNFLOOD_PART = 4,	  /* this part of all SYN entries, for one server, is a danger */
};
static const uint64_t SYNFLOOD_CALM_NS = 10000000000;

/* A watched server. */
struct synflood_server {
	struct flow_server server;
	bool reported;			 /* a flood: its series has begun */
	uint8_t next;			 /* see struct synflood_memory */
	uint32_t deferred;		 /* attempts, now */
	uint64_t count[SYNFLOOD_COUNTS]; /* since since_ns; event.h says what they add up to */
	uint64_t since_ns;
	uint64_t ended_ns; /* end of the last series: attempts before it belong to that */
	uint64_t window_ns, window_attempts, window_completed; /* where the present second began */
	uint64_t calm_ns;		 /* when it became calm; UINT64_MAX: it is not */
	uint64_t line_ns, line_attempts; /* of the last report */
};

struct synflood_memory {
	unsigned n;
	struct synflood_server slot[SYNFLOODS];
	uint8_t first[FLOW_SERVERS]; /* by hash: slot[] of a server, from 1; `next` of that is
				      * another one's; 0: none */
};

struct synflood_config {
	uint32_t half_open; /* 0: no server is ever under a flood */
	uint32_t rate;	    /* attempts in a second */
	uint64_t interval_ns;
	uint16_t decoders; /* that share the connections, at least 1 */
	uint32_t max_syn_entries;
};

struct synflood {
	struct synflood_config cfg;
	/* SYN entries of a server from which on it is watched, and deferred ones that make a flood;
	 * attempts in a second that are a danger to the table. */
	uint32_t from, limit, danger;
	const struct synflood_memory *memory; /* borrowed, zeroed at first */
	struct undo *undo;		      /* borrowed, or NULL */
};

/* What to report about a server. */
struct synflood_report {
	enum synflood_phase phase; /* SYNFLOOD_PHASES: nothing */
	struct flow_server server;
	uint64_t started_ns;
	uint64_t count[SYNFLOOD_COUNTS];
	uint32_t half_open, new_attempts, rate;
};

/* Other thresholds. */
void synflood_configure(struct synflood *d, const struct synflood_config *c);

/* Watches @s, which has more than .from SYN entries.  False: too many servers are watched. */
bool synflood_watch(struct synflood *d, const struct flow_server *s, uint64_t now_ns);

/* A new attempt at @s, which has @waiting SYN entries.  True: defer it; it is counted, and *ret is
 * what to report now. */
bool synflood_defers(struct synflood *d, const struct flow_server *s, uint32_t waiting,
		     uint64_t now_ns, struct synflood_report *ret);

/* A SYN-ACK came, but its SYN is not known.  True: @s is under a flood, so the SYN-ACK most likely
 * answers an attempt that was evicted; it is counted. */
bool synflood_is_late(struct synflood *d, const struct flow_server *s);

/* A deferred attempt at @s was answered. */
void synflood_answered(struct synflood *d, const struct flow_server *s);

/* Does an attempt of @start_ns at @s, which is deferred, belong to a flood? */
bool synflood_has(const struct synflood *d, const struct flow_server *s, uint64_t start_ns);

/* A deferred attempt at @s is no longer that, for the reason @as. */
void synflood_undefer(struct synflood *d, const struct flow_server *s, enum synflood_count as);

/* About a second has passed: judges one watched server, from the last to the first.  Begin with *at
 * = synflood_watched().  @waiting: SYN entries by hash of the server.  False: that was all. */
bool synflood_tick(struct synflood *d, unsigned *at, const uint32_t *waiting, uint64_t now_ns,
		   struct synflood_report *ret);

static inline unsigned synflood_watched(const struct synflood *d)
{
	return d->memory->n;
}

/* Every entry is gone: ends one series, from the first on.  Begin with *at = 0.  False: that was
 * all, and no server is watched any more. */
bool synflood_end(struct synflood *d, unsigned *at, uint64_t now_ns, struct synflood_report *ret);
