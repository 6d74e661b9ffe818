/* tracker_config.h - what a tracker is given: limits, timeouts, and the counters that it keeps. */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include "base/counter.h"
#include "base/hash.h"
#include "flow/tcp_fsm.h"

struct bypass_kernel;
struct origins;
struct undo;

enum { STUCK_TIMES = 3 };

struct tracker_config {
	uint32_t max_connections; /* full entries, those in TIME_WAIT included */
	uint32_t max_half_open;	  /* SYNs and SYN-ACKs without more */
	uint64_t timeout_ns[FSM_TIMEOUTS];
	/* Ascending: silences of a half-closed connection that are reported; 0: no more of them. */
	uint64_t stuck_ns[STUCK_TIMES];
	uint32_t anomalies_per_connection; /* reported, at most ANOMALIES_REPORTED_MAX */
	uint32_t anomalies_per_second;	   /* reported in all */
	uint32_t flood_half_open;   /* 0: no server is ever under a flood; see "flow/synflood.h" */
	uint32_t flood_rate;	    /* attempts in a second */
	uint64_t flood_interval_ns; /* between two events of a series */
	uint16_t decoders;	    /* that share the connections; 0 is 1 */
	uint32_t unwanted; /* kinds of event that are not delivered, 1 << enum event_kind */
	struct hash_key secret;
	struct bypass_kernel *bypass; /* NULL: every segment comes here; "flow/bypass.h" */
	/* NULL: the memory ends with the process.  Else another process can continue with it,
	 * wherever this one stops: each call below is part of a transaction of the caller, after
	 * tracker_begin(), and long work is done in steps: tracker_step().  Not with `bypass`. */
	struct undo *undo;
	bool slow_only; /* no fast path; for tests that compare */
	/* Only segments with segment_is_control() come: "flow/control_mode.h". */
	bool control;
	/* Not NULL: a connection that several origins show is one ("flow/dedupe.h").  Borrowed; its
	 * limit is ORIGINS_DEDUPED or less.  Not with `bypass`. */
	struct origins *origins;
	bool recorded; /* time is that of the segments, and may come again */
};

enum { ANOMALIES_REPORTED_MAX = 14 };

/* Written by the tracker's thread, read by any. */
struct tracker_counters {
	struct counter states[FSM_STATES]; /* gauge: entries in each state */
	struct counter opened, closed;
	struct counter evicted_syn, evicted_full;
	struct counter anomalies, anomalies_suppressed;
	struct counter unmatched;   /* segments without a connection that open none */
	struct counter copies;	    /* segments that another origin showed: "flow/dedupe.h" */
	struct counter dedupe_full; /* of these: had no number, or no instance */
	struct counter bypassed;    /* segments that the kernel filter counted */
	struct counter syn_entries, full_entries; /* gauges: entries of each shape */
	struct counter floods;			  /* gauge: servers under a SYN flood */
	struct counter deferred;		  /* attempts whose tcp_open had to wait */
	struct counter suppressed;		  /* of these: never reported */
	struct counter unwatched; /* not deferred, because too many servers are watched */
};

/* Events that one step emits at most: tracker_step(), tracker_close_some(). */
enum { STEP_EVENTS = 512 };
