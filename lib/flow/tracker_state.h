/* tracker_state.h - what a tracker remembers, shared by its parts: private to lib/flow.
 *
 * struct tracker lies at the start of the region that the caller lends; the table follows.  Another
 * process may adopt it, so nothing kept is a pointer.  Kept memory is const here, or saved as a
 * whole at the start of each transaction: whatever writes it calls an *_edit() first, which saves
 * it for the undo log. */
#pragma once
#include "base/cc.h"
#include "base/undo.h"
#include "flow/answers.h"
#include "flow/conn.h"
#include "flow/event.h"
#include "flow/gaps.h"
#include "flow/recall.h"
#include "flow/segment_check.h"
#include "flow/synflood.h"
#include "flow/table.h"
#include "flow/tracker_config.h"

struct bypass;

enum {
	LOSS_WINDOWS = 64, /* remembered; older ones are merged into the oldest */
	/* Records, in sets of RECALL_WAYS: docs/tcp-model.md says for how many connections at once
	 * they are enough. */
	RECALL_RECORDS = 8192,
	RECALL_ATTEMPTS = 1024, /* of those that wait for an answer, which is soon over */
};

struct loss_window {
	uint64_t from_ns, to_ns;
};

/* The newest start of an incarnation. */
struct recent_start {
	struct recall_head head;
	uint64_t start_ns;
};

/* What the sequence numbers of a connection are counted from, for those who look on. */
struct segment_base {
	struct recall_head head;
	uint64_t start_ns; /* of the connection */
	uint32_t base[SIDES];
	uint8_t known; /* bit per side */
};

/* The newest segment. */
struct dedupe_last {
	struct flow_key key; /* of its connection */
	bool copied;	     /* it was a copy: it has none */
};

struct tracker {
	/* The process's own: tracker_adopt() sets it again. */
	struct tracker_config cfg; /* but for the secret, which is kept */
	struct table table;
	struct synflood synflood;
	uint32_t limit[SHAPES];	 /* entries of each shape that may be left after a segment */
	struct bypass *bypass;	 /* NULL: not wanted */
	struct origins *origins; /* NULL: each origin has connections of its own */
	uint16_t origin_mask;	 /* of an entry's iface: the rest is the instance */
	struct dedupe_last last; /* with origins */
	struct undo *undo;	 /* NULL: the memory ends with the process */
	struct event_sink *sink;
	struct event_sink *sinks[EVENT_KINDS]; /* of each kind: that, or one that takes nothing */
	struct event_sink nowhere;
	struct tracker_counters *count;

	/* Kept from here on.  Saved as a whole by tracker_begin(). */
	uint64_t now_ns; /* the newest time seen */
	uint64_t sweep_at_ns;
	/* Times that came again, since the capture went back: see tracker_start_ns(). */
	uint64_t stepped_ns;	      /* the newest time before the clock was set back */
	uint64_t behind_ns, ahead_ns; /* the newest late time, while now_ns was so */
	uint64_t steps;		      /* how often it went back */
	uint32_t sweep_slot[TABLE_POOLS], evict_slot[TABLE_POOLS];
	uint32_t sweep_pools, sweep_left; /* still to be looked at: pools, slots of the first */
	uint32_t close_slot[TABLE_POOLS]; /* tracker_close_some() */
	uint32_t gone_slot[TABLE_POOLS];  /* tracker_close_gone() */
	bool gone_found;		  /* there, on this walk */
	uint64_t anomaly_second, anomalies_reported; /* in that second */
	uint64_t recall_writes;			     /* to all the records below */
	unsigned losses;
	/* Shapes that the present segment brought over their limit (bits 1 << enum table_shape),
	 * and the entries that did: free slots are topped up after the segment. */
	unsigned over_limit;
	table_ref newest[SHAPES];

	/* Saved where it is changed. */
	uint64_t layout; /* 0: none yet */
	const struct loss_window loss[LOSS_WINDOWS];
	const struct recent_start incarnation[RECALL_ATTEMPTS];
	const struct resync_candidate candidate[RECALL_RECORDS];
	const struct gaps gaps[RECALL_RECORDS];
	const struct answers answers[RECALL_ATTEMPTS];
	const struct segment_base base[RECALL_RECORDS];
	const uint8_t instances[RECALL_RECORDS]; /* the highest ever, by hash of the 4-tuple */
	const uint32_t waiting[FLOW_SERVERS];	 /* SYN entries, by hash of the server */
	const struct synflood_memory synflood_memory;
};

/* Keeps the gauges of states; FSM_NONE: no entry. */
static inline void tracker_count_state(struct tracker *t, enum fsm_state from, enum fsm_state to)
{
	if (from != FSM_NONE)
		counter_add(&t->count->states[from], (uint64_t)-1);
	if (to != FSM_NONE)
		counter_add(&t->count->states[to], 1);
}

/* The record of @flow in one of the arrays, lent: see recall_edit(). */
#define tracker_recall_edit(t, array, flow)                                                        \
	recall_edit(RECALL((t)->array), flow, &(t)->recall_writes, (t)->undo)

/* How long an attempt of that age may be silent: @timeout_ns, but not less than until its next SYN
 * can come (RFC 6298: the first after 1 s or 3 s, then after twice the time), if that is within the
 * default.  Else the repetition would be another attempt. */
static inline uint64_t tracker_silence_ns(uint64_t timeout_ns, uint64_t age_ns)
{
	const uint64_t first = 3500000000, most = 70000000000;
	uint64_t next = first + 2 * age_ns < most ? first + 2 * age_ns : most;

	return timeout_ns < next ? next : timeout_ns;
}

/* When a connection began whose first segment is of @ts_ns.  A file may hold the same frames twice,
 * and then time goes back: what begins in a time that was there before has another nanosecond each
 * time, because the flow id follows from it.  Live, now_ns may be ahead of a frame that waits in
 * the ring; only a clock that was set back makes times come again. */
static inline uint64_t tracker_start_ns(const struct tracker *t, uint64_t ts_ns)
{
	if (likely(ts_ns >= t->stepped_ns && (!t->cfg.recorded || ts_ns >= t->now_ns)))
		return ts_ns;
	return ts_ns + 1 + t->steps % (CLOCK_TICK_NS - 1);
}

/* Did the capture lose frames while this connection lived? */
static inline bool tracker_was_lossy(const struct tracker *t, const struct conn *c)
{
	for (unsigned i = 0; i < t->losses; i++)
		if (c->start_ns <= t->loss[i].to_ns && t->loss[i].from_ns <= c->last_ns)
			return true;
	return false;
}

/* With dedupe: has a 4-tuple with this hash ever had another instance than 0? */
static inline bool tracker_has_instances(const struct tracker *t, uint64_t hash)
{
	return t->instances[hash % RECALL_RECORDS];
}

/* The origin in @iface of an entry. */
static inline uint16_t tracker_origin(const struct tracker *t, uint16_t iface)
{
	return iface & t->origin_mask;
}

/* May short ways be taken?  In control mode the segments that they predict are not seen. */
static inline bool tracker_is_fast(const struct tracker *t)
{
	return !t->cfg.slow_only && !t->cfg.control;
}
