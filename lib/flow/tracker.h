/* tracker.h - the spine: segments in, events out.
 *
 * One thread owns a tracker.  It lies in memory that the caller lends, holds no pointer into the
 * segments it was fed, allocates nothing, reads no clock: time is the segments' own, and
 * tracker_advance() when there are none; times a little back are late frames, times far back a
 * clock that was set.  What it makes of a sequence of calls depends on nothing but the calls and
 * the secret (the secret decides only which entry an over-full table gives up). */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/counter.h"
#include "base/hash.h"
#include "flow/event.h"
#include "flow/tcp_fsm.h"

struct bypass_kernel;
struct segment;
struct tracker;
struct undo;

struct tracker_config {
	uint32_t max_connections; /* full entries, those in TIME_WAIT included */
	uint32_t max_half_open;	  /* SYNs and SYN-ACKs without more */
	uint64_t timeout_ns[FSM_TIMEOUTS];
	uint32_t anomalies_per_connection; /* told one by one, at most ANOMALIES_REPORTED_MAX */
	uint32_t anomalies_per_second;	   /* told in all */
	uint32_t flood_half_open;   /* 0: no server is ever under a flood; see "flow/synflood.h" */
	uint32_t flood_rate;	    /* attempts in a second */
	uint64_t flood_interval_ns; /* between two events of a series */
	uint16_t decoders;	    /* that share the connections; 0 is 1 */
	struct hash_key secret;
	struct bypass_kernel *bypass; /* NULL: every segment comes here; "flow/bypass.h" */
	/* NULL: the memory ends with the process.  Else another one goes on with it, wherever this
	 * one ended: each call below is (part of) a transaction of the caller's, in which it comes
	 * after tracker_begin(), and what takes long is done in steps: tracker_step().  Not with
	 * .bulk. */
	struct undo *undo;
	bool slow_only; /* no short ways: what they must equal, for tests */
	/* no other segments than segment_is_control() are shown: "flow/control_mode.h" */
	bool control;
};

enum { ANOMALIES_REPORTED_MAX = 14 };

/* Written by the tracker's thread, read by any. */
struct tracker_counters {
	struct counter states[FSM_STATES]; /* gauge: entries in each state */
	struct counter opened, closed;
	struct counter evicted_syn, evicted_full;
	struct counter anomalies, anomalies_suppressed;
	struct counter unmatched; /* segments that belong to nothing and open nothing */
	struct counter bypassed;  /* segments that the kernel counted instead: on the wire */
	struct counter syn_entries, full_entries; /* gauges: entries of each shape */
	struct counter floods;			  /* gauge: servers under a SYN flood */
	struct counter deferred,
		suppressed; /* attempts whose tcp_open had to wait; of which nothing was told */
	struct counter
		unwatched; /* attempts that would have been deferred, but for too many servers */
};

/* Octets of the region that tracker_new() wants. */
size_t tracker_memory(const struct tracker_config *c);

/* A tracker over @memory (zeroed, aligned to a cache line, borrowed until tracker_free()); @sink
 * and
 * @counters are borrowed as well.  NULL: no memory (only with .bulk). */
struct tracker *tracker_new(const struct tracker_config *c, void *memory, struct event_sink *sink,
			    struct tracker_counters *counters);

/* Goes on with the tracker in @memory that tracker_new() made, in another process maybe; a
 * transaction that was under way has been rolled back, in @counters too.  Its secret is kept.
 * NULL: another version made it, or one for other limits. */
struct tracker *tracker_adopt(const struct tracker_config *c, void *memory, struct event_sink *sink,
			      struct tracker_counters *counters);

/* Which tracker_new() made it: equal where one can adopt what the other made.  Not 0. */
uint64_t tracker_layout(void);

/* Goes on with other timeouts and limits; the secret stays.  Limits can be lowered, and raised up
 * to those of tracker_new(): what is above a lower one is evicted as others come. */
void tracker_configure(struct tracker *t, const struct tracker_config *c);

/* NULL is fine.  Tells nothing: see tracker_close_all(). */
void tracker_free(struct tracker *t);

/* A step of many: the memory that all of them want is asked for before any is worked on.  64 do
 * that as well, but leave each part of the code too soon. */
enum { TRACKER_BATCH = 512 };

/* @n segments, at most TRACKER_BATCH, in capture order.  O(1) each; now and then a slice of the
 * table is looked through for entries that timed out. */
void tracker_input(struct tracker *t, const struct segment *s, unsigned n);

/* An ICMP or ICMPv6 error said that @quoted could not be delivered: if that is the SYN of an
 * attempt that nobody answered, by its number too (RFC 5927 4.1), it has failed.  Of @quoted only
 * addresses, ports, ip_v, iface, seq and ts_ns (the error's) count. */
void tracker_unreachable(struct tracker *t, const struct segment *quoted);

/* Nothing came, but time went on: lets entries time out. */
void tracker_advance(struct tracker *t, uint64_t now_ns);

/* Frames were lost before the tracker between @from_ns and @to_ns (@count of them, ring found full
 * @freezes times): tells it, and connections that lived meanwhile will be called lossy. */
void tracker_loss(struct tracker *t, uint64_t from_ns, uint64_t to_ns, uint64_t count,
		  uint64_t freezes);

/* With .undo, at the start of each transaction. */
void tracker_begin(struct tracker *t);

/* With .undo: a part of what the calls above found to be due; STEP_EVENTS at most.  False: that was
 * all.  To be called until then, a transaction for each, before anything else is fed. */
bool tracker_step(struct tracker *t);
bool tracker_has_steps(const struct tracker *t);

/* Closes what is open: the capture ended, or the daemon stops.  A part of it, STEP_EVENTS at most;
 * false: that was all.  Nothing is fed in between. */
bool tracker_close_some(struct tracker *t, enum close_reason reason);

enum { STEP_EVENTS = 512 };

/* All of it at once. */
void tracker_close_all(struct tracker *t, enum close_reason reason);
