/* shards.h - one file through several decoders at once, its events in the order of the frames that
 * caused them.
 *
 * The file is cut into batches of frames.  Each thread takes the next batch in turn (only one walks
 * the file at a time), decodes it, and divides its segments by connection among the lanes.  Each
 * thread has a lane: a tracker, which is fed its part of every batch, in order.  The events of
 * the lanes are merged by the number of the frame.
 *
 * What a lane does depends on the frames alone, and not on which thread was faster.  So the same
 * file gives the same events in the same order; and for any number of threads the same events,
 * except that those which one sweep of timeouts finds, and those of the end, come lane by lane.
 * Where a limit is reached (of the tables, of anomalies per second) each lane has its own.
 *
 * Who calls these functions is one thread, besides those that are made here. */
#pragma once
#include <stdbool.h>
#include <stdint.h>

struct event;
struct options;
struct shards;
struct source;
struct stats_decoder;
struct tunnel;

/* Starts options->decoders threads over the file @source, which is borrowed; nobody else may use it
 * before shards_finish().  0 or -errno. */
int shards_start(const struct options *o, struct source *source, struct shards **ret);

enum shards_verdict { SHARDS_EVENT, SHARDS_NONE, SHARDS_END };

/* The next event, valid until the next call.  SHARDS_NONE: none came within @wait_ms (-1: for
 * ever). With options->quiet events are only counted. */
enum shards_verdict shards_next(struct shards *s, int wait_ms, const struct event **ret);

/* What the number in event.iface stands for: see decoder_where(). */
uint16_t shards_where(const struct shards *s, uint16_t iface, struct tunnel *ret_tunnel);

/* Name of interface @index, as source_iface(); one that an event came from, or below
 * shards_ifaces(). */
const char *shards_iface(struct shards *s, unsigned index);

/* Interfaces that are known where the event is that shards_next() gave, before there were
 * others. */
unsigned shards_ifaces(struct shards *s);

/* Octets read so far. */
uint64_t shards_offset(struct shards *s);

/* Sums of the lanes' counters so far; without those of the source. */
void shards_read_counters(struct shards *s, const char *iface, struct stats_decoder *ret);

/* Ends the threads, also before the end of the file.  What source_next() said last: 0 or -errno. */
int shards_finish(struct shards *s);

/* After shards_finish(); NULL is fine. */
void shards_free(struct shards *s);
