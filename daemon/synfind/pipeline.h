/* pipeline.h - frames -> segments -> tracker -> events: the same for live capture and for files.
 *
 * No thread, no clock, no source: the caller brings frames and commits.  decoder.h runs it live,
 * offline.h over files. */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include "flow/origin.h"
#include "flow/tracker_config.h"
#include "synfind/decoder_share.h"

struct bypass_kernel;
struct decoder_counters;
struct decoder_state;
struct decoder_state_sizes;
struct endpoints;
struct endpoint_meter;
struct event_sink;
struct frame;
struct json_context;
struct options;
struct stats_decoder;
struct tracker;
struct undo;

struct pipeline {
	struct tracker *tracker;	/* owned */
	struct origins origins;		/* numbers of interfaces and tunnels */
	struct decoder_counters *count; /* borrowed */
	struct decoder_share share;
	uint32_t max_connections, max_half_open; /* its share of the options' limits */
	unsigned inner;	   /* sum of enum frame_inner: where else to look for TCP */
	struct undo *undo; /* as in struct pipeline_parts, like the next ones */
	struct event_sink *sink;
	const struct endpoints *endpoints; /* whose segments to report; borrowed; NULL: none */
	struct endpoint_meter *meter;
	bool control;	    /* ignore segments that are not segment_is_control() */
	bool every_segment; /* reports without a limit, all of pipeline_report_all() */
};

/* What a pipeline is made of, besides the options. */
struct pipeline_parts {
	const struct decoder_state *state; /* borrowed */
	struct undo *undo;		   /* NULL: nothing outlives the process */
	struct event_sink *sink;	   /* receives the events */
	struct bypass_kernel *bypass;	   /* NULL: none */
	struct decoder_share share;	   /* sharing decoders divide the limits */
};

/* The sizes of the memory that it needs. */
struct decoder_state_sizes pipeline_sizes(const struct options *o,
					  const struct decoder_share *share);

/* Begins in zeroed memory.  0 or -errno. */
int pipeline_init(struct pipeline *p, const struct options *o, const struct pipeline_parts *parts);

/* Continues with the memory of an earlier process, which is rolled back.  0; -ESTALE: it is of no
 * use. */
int pipeline_adopt(struct pipeline *p, const struct options *o, const struct pipeline_parts *parts);

/* A zeroed one is fine. */
void pipeline_destroy(struct pipeline *p);

/* Decodes and tracks @n frames, at most TRACKER_BATCH. */
void pipeline_frames(struct pipeline *p, struct frame *frames, int n);

/* Reports the segments of @now, borrowed until the next call. */
void pipeline_report(struct pipeline *p, const struct endpoints *now);

/* Reports the segments of all connections, without a limit: the sink always has space. */
void pipeline_report_all(struct pipeline *p);

/* Reports how many segments were skipped in a second that is over at @now_ns. */
void pipeline_skipped(struct pipeline *p, uint64_t now_ns);

/* The timeouts and limits for new options: for tracker_configure(), on the thread that runs it. */
struct tracker_config pipeline_config(const struct pipeline *p, const struct options *o);

/* Sets the interface and the tunnel that @number, the iface of an event, stands for; @ring: the
 * name of the interface if the ring has only one.  Any thread that has the event.  The name is
 * valid as long as the number. */
void pipeline_name_origin(const struct pipeline *p, uint16_t number, const char *ring,
			  struct json_context *ret);

/* Copies the counters; any thread. */
void pipeline_read_counters(const struct pipeline *p, const char *iface, struct stats_decoder *ret);
