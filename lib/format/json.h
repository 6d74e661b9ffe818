/* json.h - encodes events; the only place that knows the field names.
 *
 * Each event is one line of JSON in UTF-8, newline included, as docs/events.schema.json defines.
 * jansson takes 35 times as long for a line, so it only serves the tests: they check every line
 * with it and against the schema.  Pure: data outside the record comes in struct json_context. */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include "base/counter.h"
#include "flow/event.h"
#include "flow/tracker_config.h"
#include "format/community.h"
#include "wire/frame.h"
#include "wire/tunnel.h"

struct endpoint;   /* "flow/endpoints.h" */
struct fmt_second; /* "base/fmt.h" */
struct strbuf;	   /* "base/strbuf.h" */

#define JSON_SCHEMA "synfind/1"

/* Kinds of line that have a `seq`: the events, and what the daemon itself reports. */
enum line_kind {
	LINE_IFACE = EVENT_KINDS, /* below: enum event_kind */
	LINE_STATS,
	LINE_RESTART,
	LINE_LOST,
	LINE_KINDS,
};
/* All but those that come when they are asked for, and have no seq of their own. */
#define LINES_ALL    (((1u << LINE_KINDS) - 1) & ~(1u << EVENT_SNAPSHOT | 1u << EVENT_TCP_SEGMENT))
#define LINES_EVENTS ((1u << EVENT_KINDS) - 1)
/* No option and no request excludes these: a loss is never silent. */
#define LINES_ALWAYS (1u << EVENT_CAPTURE_LOSS | 1u << LINE_RESTART | 1u << LINE_LOST)

/* Its event_type. */
const char *line_kind_name(unsigned kind);

enum { JSON_LINE_MAX = 4096 }; /* enough for any line of json_event(), FMT_SPARE included */

struct json_context {
	const char *iface; /* name, borrowed */
	enum community_policy community;
	uint16_t community_seed;
	struct tunnel tunnel;	   /* zeroed: none */
	struct fmt_second *second; /* cache, kept from line to line; borrowed */
};

/* The line of @e with sequence number @seq.  Needs JSON_LINE_MAX octets of space, however short the
 * line.  With less, or if the interface's name takes half of that, writes nothing and sets
 * t->full. */
void json_event(struct strbuf *t, const struct event *e, uint64_t seq,
		const struct json_context *c);

enum { JSON_NAMES_MAX = 64 }; /* interfaces that one line names; it counts the others */

/* The first line to each subscriber. */
struct json_hello {
	const char *version, *host, *boot_id, *run_id, *policy, *mode; /* mode may be NULL */
	const char *const *ifaces; /* borrowed; the first JSON_NAMES_MAX of @nifaces */
	unsigned nifaces;
	bool pseudonyms; /* pseudonyms replace addresses */
	uint32_t events; /* lines that are produced, 1 << enum line_kind */
};

/* @seq is that of the last event, @ts_ns the current time. */
void json_hello(struct strbuf *t, const struct json_hello *h, uint64_t seq, uint64_t ts_ns);

/* The answer to a request. */
struct json_subscribed {
	const char *id; /* of the request; NULL: none */
	const char *host, *run_id;
	uint32_t kinds;			 /* 1 << enum line_kind */
	const char *where;		 /* terminated; NULL: none */
	const struct endpoint *segments; /* @nsegments of them */
	unsigned nsegments;
	const char *policy;
};

/* @seq is that of the event before the first line of the subscription. */
void json_subscribed(struct strbuf *t, const struct json_subscribed *s, uint64_t seq,
		     uint64_t ts_ns);

/* A request was refused, or the subscription ends.  @at: character, from 1; 0: none. */
void json_error(struct strbuf *t, const char *id, const char *error, unsigned at, uint64_t seq,
		uint64_t ts_ns);

/* Events @first to @last are missing from the stream; @reason "subscriber" or "ring". */
void json_lost(struct strbuf *t, uint64_t count, uint64_t first, uint64_t last, const char *reason,
	       uint64_t ts_ns);

/* @count lines tcp_segment are missing; they have no numbers.  @seq is that of the event before. */
void json_lost_segments(struct strbuf *t, uint64_t count, const char *reason, uint64_t seq,
			uint64_t ts_ns);

/* Interface @name is now @state: "up", "down", "gone" or "back". */
void json_iface(struct strbuf *t, const char *name, const char *state, uint64_t seq,
		uint64_t ts_ns);

/* The last line of a snapshot. */
struct json_snapshot_end {
	const char *host, *run_id;
	const char *id; /* of the request; NULL: it has none */
	uint64_t count; /* `snapshot` lines before it */
};

/* @seq as in json_hello(). */
void json_snapshot_end(struct strbuf *t, const struct json_snapshot_end *s, uint64_t seq,
		       uint64_t ts_ns);

/* A part of kept memory in whose transactions earlier processes died, and what this one does. */
struct json_recovery {
	const char *iface; /* of the decoder; NULL: the stream's part */
	unsigned decoder;
	unsigned deaths; /* in a row */
	const char *step;
};

/* Another process continues the stream. */
struct json_restart {
	const char *cause; /* "stop" or "crash" */
	uint64_t down_ns;
	/* Interfaces whose connections were lost; borrowed; the first JSON_NAMES_MAX of @nreset. */
	const char *const *reset;
	unsigned nreset;
	const struct json_recovery *recovery; /* borrowed, at most JSON_NAMES_MAX */
	unsigned nrecovery;
};

/* Needs JSON_LINE_MAX octets of space and those of the names. */
void json_restart(struct strbuf *t, const struct json_restart *r, uint64_t seq, uint64_t ts_ns);

struct decoder_counters { /* written by the decoder's thread, read by any */
	struct counter verdicts[FRAME_VERDICTS];
	struct counter packets, drops, freezes;
	struct counter filtered; /* segments that the mode excludes */
	struct counter
		other_interfaces; /* frames of interfaces that are not watched, on a shared ring */
	struct counter split;	  /* ignored segments of another decoder's connections */
	struct counter bad_checksum; /* of the segments that were captured whole */
	struct counter events, lost;
	struct counter beats; /* heartbeat: moves at each batch and each wait */
	struct tracker_counters tracker;
};

struct stats_decoder {
	const char *iface;
	struct decoder_counters count; /* a copy: each counter is read once */
	uint64_t max_syn, max_full;
	bool several;	  /* several decoders share the interface: this is ... */
	unsigned index;	  /* ... number `index` */
	bool split_known; /* .count.split is counted */
};

struct stats_subscribers {
	uint64_t connected, accepted, lost_events;
	uint64_t unlisted, uid_limit, limit, unknown, rate_limit; /* refused, by reason */
};

struct stats_interface { /* of those that share rings */
	const char *iface, *rings;
	uint64_t frames, events;
};

/* What one line says.  Borrowed. */
struct json_stats {
	const struct stats_decoder *decoders;
	const struct stats_interface *interfaces;
	unsigned ndecoders, ninterfaces;
	struct stats_subscribers subscribers;
	uint64_t interval_ns;
};

/* Needs up to 2,300 octets of space for each decoder, and 250 for each interface. */
void json_stats(struct strbuf *t, const struct json_stats *s, uint64_t seq, uint64_t ts_ns);
