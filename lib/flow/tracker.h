/* tracker.h - segments in, events out.
 *
 * One thread owns a tracker.  It lies in memory that the caller lends, keeps no pointer into
 * segments, allocates nothing and reads no clock: time comes from the segments, or from
 * tracker_advance() when there are none.  Small backward steps are reordering; more than 10 s is a
 * clock change.  The events depend only on the calls and the secret, and the secret decides only
 * which entry is evicted from a full table. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "flow/event.h"
#include "flow/tracker_config.h"

struct endpoints;
struct origins;
struct segment;
struct tracker;

/* Octets that tracker_new() needs. */
size_t tracker_memory(const struct tracker_config *c);

/* A tracker in @memory (zeroed, aligned to a cache line, borrowed until tracker_free()); @sink and
 * @counters are borrowed too.  NULL: no memory (only with `bypass`). */
struct tracker *tracker_new(const struct tracker_config *c, void *memory, struct event_sink *sink,
			    struct tracker_counters *counters);

/* Continues with the tracker that tracker_new() made in @memory, maybe in another process.  An open
 * transaction has been rolled back, in @counters too.  Its secret is kept.  NULL: another version
 * made it, or its limits differ. */
struct tracker *tracker_adopt(const struct tracker_config *c, void *memory, struct event_sink *sink,
			      struct tracker_counters *counters);

/* The version of the memory: equal if tracker_adopt() can use it.  Not 0. */
uint64_t tracker_layout(void);

/* Sets other timeouts and limits; the secret stays.  Limits can be raised up to those of
 * tracker_new().  Lowering one evicts old connections gradually, two per new one. */
void tracker_configure(struct tracker *t, const struct tracker_config *c);

/* NULL is allowed.  Reports nothing: see tracker_close_all(). */
void tracker_free(struct tracker *t);

/* Segments per call: the memory for all is prefetched before the first is processed.  64 would do
 * for that, but the code would leave the instruction cache too often. */
enum { TRACKER_BATCH = 512 };

/* Processes @n segments, at most TRACKER_BATCH, in capture order.  O(1) each; now and then also
 * sweeps a part of the table for entries that timed out. */
void tracker_input(struct tracker *t, const struct segment *s, unsigned n);

/* An ICMP or ICMPv6 error says that @quoted was not delivered.  If @quoted is the SYN of an
 * unanswered attempt, by its number too (RFC 5927 4.1), the attempt has failed.  Uses only
 * addresses, ports, ip_v, iface, seq and ts_ns (of the error). */
void tracker_unreachable(struct tracker *t, const struct segment *quoted);

/* Time passed without segments: lets entries time out. */
void tracker_advance(struct tracker *t, uint64_t now_ns);

/* With `bypass`, else without effect.  From now on all segments of the connections that have one of
 * the endpoints @e come here; @e is borrowed until the next call; NULL: none. */
void tracker_bypass_except(struct tracker *t, const struct endpoints *e);

/* With `bypass`, else without effect.  Before a change of filters: from now on all segments come
 * here, until it is called with false. */
void tracker_bypass_pause(struct tracker *t, bool paused);

/* After tracker_bypass_pause(), and after all segments that the former filter passed: adds what it
 * counted, and continues with the filter @kernel. */
void tracker_bypass_renew(struct tracker *t, struct bypass_kernel *kernel);

/* @count frames were lost before the tracker between @from_ns and @to_ns (the ring was full
 * @freezes times).  Reports it, and marks connections that were open then as lossy. */
void tracker_loss(struct tracker *t, enum loss_reason reason, uint64_t from_ns, uint64_t to_ns,
		  uint64_t count, uint64_t freezes);

/* With `undo`: at the start of each transaction. */
void tracker_begin(struct tracker *t);

/* With `undo`: a part of the work that the calls above left, at most STEP_EVENTS events.  False:
 * that was all.  Call it until then, a transaction each, before the next segments. */
bool tracker_step(struct tracker *t);
bool tracker_has_steps(const struct tracker *t);

/* Closes open connections at the end of the capture, at most STEP_EVENTS per call.  False: that was
 * all.  No segments in between. */
bool tracker_close_some(struct tracker *t, enum close_reason reason);

/* Closes connections whose origin is gone (origin.h), a part per call, as above, but segments may
 * come in between.  False: none is left. */
bool tracker_close_gone(struct tracker *t, const struct origins *o);

/* More origins are gone since tracker_close_gone() began, and it may have passed their
 * connections. */
void tracker_more_gone(struct tracker *t);

/* All at once. */
void tracker_close_all(struct tracker *t, enum close_reason reason);
