/* json.h - events to lines: nothing else knows the field names.
 *
 * One line of JSON each, newline included, UTF-8, in the vocabulary of docs/events.schema.json.
 * Written by hand and not with jansson, which takes 35 times as long for such a line; the tests
 * hold every line against jansson and the schema.  Pure: what is not in the record comes in
 * struct json_context. */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include "base/fmt.h"
#include "base/strbuf.h"
#include "flow/event.h"
#include "format/community.h"
#include "source/source.h"
#include "wire/tunnel.h"

enum { JSON_LINE_MAX = 4096 }; /* room for any line of an event record, the spare of fmt.h too */

struct json_context {
	const char *iface; /* name, borrowed */
	enum community_policy community;
	uint16_t community_seed;
	struct tunnel tunnel;	   /* of the connection; zeroed: none */
	struct fmt_second *second; /* that events are in; borrowed, kept from line to line */
};

/* A line for @e under number @seq.  Needs JSON_LINE_MAX octets of room, however short the line;
 * with less, or an interface whose name alone takes half of that, @t is full and nothing is
 * written. */
void json_event(struct strbuf *t, const struct event *e, uint64_t seq,
		const struct json_context *c);

/* What the daemon is, as the first line to each subscriber. */
struct json_hello {
	const char *version, *host, *boot_id, *run_id, *policy, *mode; /* mode may be NULL */
	const char *const *ifaces; /* borrowed, @nifaces of them */
	unsigned nifaces;
	bool pseudonyms; /* are in the place of addresses */
};

/* @seq is that of the event before the next one, @ts_ns the present. */
void json_hello(struct strbuf *t, const struct json_hello *h, uint64_t seq, uint64_t ts_ns);

/* Events @first to @last are missing from the stream; @reason "subscriber" or "ring". */
void json_lost(struct strbuf *t, uint64_t count, uint64_t first, uint64_t last, const char *reason,
	       uint64_t ts_ns);

/* Interface @name is now @state: "up", "down", "gone" or "back". */
void json_iface(struct strbuf *t, const char *name, const char *state, uint64_t seq,
		uint64_t ts_ns);

/* The stream goes on in another process. */
struct json_restart {
	const char *cause; /* "stop" or "crash" */
	uint64_t down_ns;
	const char *const *reset; /* interfaces whose connections were forgotten; borrowed */
	unsigned nreset;
};

/* Room for the names of @r beyond 512 octets. */
void json_restart(struct strbuf *t, const struct json_restart *r, uint64_t seq, uint64_t ts_ns);

/* Counters of one decoder, read once. */
struct stats_decoder {
	const char *iface;
	struct source_stats source;
	uint64_t verdicts[FRAME_VERDICTS];
	uint64_t states[FSM_STATES];
	uint64_t opened, closed, syn_entries, full_entries, evicted_syn, evicted_full;
	uint64_t anomalies, anomalies_suppressed, unmatched;
	uint64_t floods, deferred, suppressed, unwatched;
	uint64_t events, lost, bad_checksum;
	uint64_t bypassed; /* segments that the kernel counted instead */
	uint64_t filtered; /* decoded segments that the mode does not want */
	uint64_t max_syn, max_full;
	bool several; /* of this interface; then this is number ... */
	unsigned index;
	bool split_known; /* ... and can tell how many segments came to the wrong one */
	uint64_t split;
};

struct stats_subscribers {
	uint64_t connected, accepted, lost_events;
	uint64_t unlisted, uid_limit, limit, unknown; /* refused: for each reason */
};

/* @decoders need up to 1,900 octets of room each. */
void json_stats(struct strbuf *t, const struct stats_decoder *decoders, unsigned n,
		const struct stats_subscribers *s, uint64_t interval_ns, uint64_t seq,
		uint64_t ts_ns);
