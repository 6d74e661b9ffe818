#include "synfind/pipeline.h"
#include <errno.h>
#include <string.h>
#include <sys/random.h>
#include "base/cc.h"
#include "common/options.h"
#include "base/undo.h"
#include "flow/endpoints.h"
#include "flow/event.h"
#include "flow/origin.h"
#include "flow/segment_report.h"
#include "flow/tracker.h"
#include "format/json.h"
#include "source/fanout.h"
#include "synfind/decoder_state.h"
#include "wire/checksum.h"
#include "wire/frame.h"
#include "wire/segment.h"

/* ---- life ----------------------------------------------------------------------------------- */

static uint32_t part_of(unsigned n, unsigned of)
{
	return (n + of - 1) / of;
}

struct decoder_state_sizes pipeline_sizes(const struct options *o,
					  const struct decoder_share *share)
{
	return (struct decoder_state_sizes){ .max_connections =
						     part_of(o->max_connections, share->of),
					     .max_half_open = part_of(o->max_half_open, share->of),
					     .events = o->event_ring_size,
					     .control = o->mode == MODE_CONTROL || share->control,
					     .dedupe = options_dedupe(o, share->shared) };
}

struct tracker_config pipeline_config(const struct pipeline *p, const struct options *o)
{
	unsigned of = p->share.of;

	return (struct tracker_config){
		.max_connections = part_of(o->max_connections, of),
		.max_half_open = part_of(o->max_half_open, of),
		.timeout_ns = { [FSM_T_SYN_SENT] = o->timeout_syn_sent_ns,
				[FSM_T_SYN_RECEIVED] = o->timeout_syn_received_ns,
				[FSM_T_ESTABLISHED] = o->timeout_established_ns,
				[FSM_T_HALF_CLOSED] = o->timeout_half_closed_ns,
				[FSM_T_CLOSING] = o->timeout_closing_ns,
				[FSM_T_TIME_WAIT] = o->timeout_time_wait_ns,
				[FSM_T_RESET] = o->timeout_reset_ns },
		.stuck_ns = { o->stuck_after_ns[0], o->stuck_after_ns[1], o->stuck_after_ns[2] },
		.anomalies_per_connection = o->anomalies_per_connection,
		.anomalies_per_second = o->anomalies_per_second,
		.flood_half_open = part_of(o->syn_flood_half_open, of),
		.flood_rate = part_of(o->syn_flood_rate, of),
		.flood_interval_ns = o->syn_flood_interval_ns,
		.decoders = (uint16_t)of,
		.unwanted = LINES_ALL & LINES_EVENTS & ~o->events,
		.control = p->control,
		.recorded = o->read_files.n,
	};
}

/* The same file always gives the same events: any constant will do. */
static const struct hash_key file_key = {
	{ 0xb7e151628aed2a6a, 0xbf7158809cf4f3c7, 0x62e7160f38b4da56, 0xa784d9045190cfef,
	  0x324e7738926cfbe5, 0xf4bf8d8d8c31d763, 0xda06c80abb1185eb, 0x4f7c7b5757f59584 }
};

/* Sets all but the tracker; returns its configuration. */
static struct tracker_config pipeline_begin(struct pipeline *p, const struct options *o,
					    const struct pipeline_parts *parts)
{
	struct tracker_config cfg;

	*p = (struct pipeline){ .count = &parts->state->progress->count,
				.share = parts->share,
				.inner = options_inner(o),
				.undo = parts->undo,
				.sink = parts->sink,
				.meter = &parts->state->head->segments,
				.control = o->mode == MODE_CONTROL || parts->share.control };
	cfg = pipeline_config(p, o);
	cfg.undo = parts->undo;
	cfg.bypass = parts->bypass;
	if (options_dedupe(o, p->share.shared))
		cfg.origins = &p->origins;
	p->max_connections = cfg.max_connections;
	p->max_half_open = cfg.max_half_open;
	return cfg;
}

/* With dedupe an entry has space for fewer numbers. */
static void limit_origins(struct pipeline *p, const struct options *o)
{
	if (options_dedupe(o, p->share.shared))
		p->origins.limit = ORIGINS_DEDUPED;
}

int pipeline_init(struct pipeline *p, const struct options *o, const struct pipeline_parts *parts)
{
	struct tracker_config cfg = pipeline_begin(p, o, parts);

	cfg.secret = file_key;
	if (!cfg.recorded && getrandom(&cfg.secret, sizeof cfg.secret, 0) != sizeof cfg.secret)
		return -errno;
	origins_init(&p->origins, parts->state->origins, &cfg.secret, parts->undo);
	limit_origins(p, o);
	p->tracker = tracker_new(&cfg, parts->state->tracker, parts->sink, &p->count->tracker);
	return p->tracker ? 0 : -ENOMEM;
}

int pipeline_adopt(struct pipeline *p, const struct options *o, const struct pipeline_parts *parts)
{
	struct tracker_config cfg = pipeline_begin(p, o, parts);

	p->inner = decoder_state_current_ring(parts->state)->inner;
	p->tracker = tracker_adopt(&cfg, parts->state->tracker, parts->sink, &p->count->tracker);
	if (!p->tracker || !origins_adopt(&p->origins, parts->state->origins, parts->undo))
		return -ESTALE;
	limit_origins(p, o);
	return 0;
}

void pipeline_destroy(struct pipeline *p)
{
	tracker_free(p->tracker);
	*p = (struct pipeline){ 0 };
}

/* ---- frames --------------------------------------------------------------------------------- */

static enum frame_verdict decode_frame(struct pipeline *p, struct frame *f, struct segment *ret)
{
	enum frame_verdict v = frame_decode(f, ret);

	if (v != FRAME_NOT_TCP || !p->inner)
		return v;
	/* Look into tunnels and ICMP errors. */
	struct tunnel t = { 0 };

	v = frame_decode_inner(f, p->inner, &t, ret);
	if (v != FRAME_TCP && v != FRAME_ICMP)
		return v;

	int number = origin_of_tunnel(&p->origins, (uint16_t)f->iface, &t);

	if (number < 0)
		return FRAME_TUNNELS_FULL;
	ret->iface = (uint16_t)number;
	return v;
}

/* Does another decoder have the segment's connection?  That happens while the members of a fan-out
 * group return one by one after the interface was down.  Losing the segment is better than
 * reporting its connection twice. */
static bool is_foreign(const struct pipeline *p, const struct segment *s)
{
	return p->share.known && fanout_member(p->share.secret, s, p->share.of) != p->share.index;
}

/* ---- segments that are reported one by one --------------------------------------------------- */

enum { RATE = 5000 /* of an endpoint, in a second */ };

static void meter_edit(struct pipeline *p)
{
	undo_save(p->undo, p->meter, sizeof *p->meter);
}

void pipeline_report(struct pipeline *p, const struct endpoints *now)
{
	meter_edit(p);
	if (p->endpoints)
		endpoint_meter_change(p->meter, p->endpoints, now);
	p->endpoints = now->used ? now : NULL;
	tracker_bypass_except(p->tracker, p->endpoints);
}

void pipeline_report_all(struct pipeline *p)
{
	static const struct endpoints all = { .used = 1 };

	p->endpoints = &all;
	p->every_segment = true;
}

void pipeline_skipped(struct pipeline *p, uint64_t now_ns)
{
	struct endpoint_meter *m = p->meter;

	if (likely(!endpoint_meter_due(m, now_ns)))
		return;
	meter_edit(p);
	while (m->skips) {
		const struct endpoint_skipped *s = &m->skipped[m->skips - 1];
		struct event *e = p->sink->offer(p->sink);

		if (!e)
			return; /* later */
		memset(e, 0, sizeof *e);
		e->kind = EVENT_TCP_SEGMENT;
		e->wire.skipped = s->count;
		e->wire.skipped_why = s->why;
		e->wire.endpoints = s->of;
		p->sink->commit(p->sink);
		m->skips--;
	}
}

/* Reports @s, the newest segment that the tracker has, or counts it. */
static void report(struct pipeline *p, const struct segment *s, unsigned of)
{
	uint32_t rate = part_of(RATE, p->share.of);
	struct event *e;

	if (!p->every_segment && !endpoint_meter_pass(p->meter, of, s->ts_ns, rate)) {
		endpoint_meter_skip(p->meter, of, ENDPOINT_SKIP_RATE);
		return;
	}
	e = p->sink->offer(p->sink);
	if (!e)
		endpoint_meter_skip(p->meter, of, ENDPOINT_SKIP_RING);
	else if (segment_report(p->tracker, s, of, e))
		p->sink->commit(p->sink);
}

/* Each segment to be reported ends a batch: then the states are those after it. */
static __attribute__((noinline)) void input_reported(struct pipeline *p, const struct segment *s,
						     unsigned n)
{
	unsigned done = 0;

	meter_edit(p);
	for (unsigned i = 0; i < n; i++) {
		unsigned of = endpoints_of_segment(p->endpoints, &s[i]);

		if (!of)
			continue;
		pipeline_skipped(p, s[i].ts_ns);
		tracker_input(p->tracker, s + done, i + 1 - done);
		done = i + 1;
		report(p, &s[i], of);
	}
	tracker_input(p->tracker, s + done, n - done);
}

static void input(struct pipeline *p, const struct segment *s, unsigned n)
{
	if (unlikely(p->endpoints != NULL))
		input_reported(p, s, n);
	else
		tracker_input(p->tracker, s, n);
}

void pipeline_frames(struct pipeline *p, struct frame *frames, int n)
{
	struct segment segments[TRACKER_BATCH];
	uint64_t verdicts[FRAME_VERDICTS] = { 0 };
	unsigned tcp = 0, bad_checksum = 0, filtered = 0;

	for (int i = 0; i < n; i++) {
		struct frame *f = &frames[i];
		struct segment *s = &segments[tcp];

		enum frame_verdict v = decode_frame(p, f, s);

		verdicts[v]++;
		if ((v == FRAME_TCP || v == FRAME_ICMP) && unlikely(is_foreign(p, s))) {
			counter_add(&p->count->split, 1);
		} else if (v == FRAME_TCP) {
			if (f->unverified)
				bad_checksum += checksum_wrong(s, f->data + f->caplen);
			/* Files and tunnels have not been filtered by the kernel. */
			if (unlikely(p->control) && !segment_is_control(s))
				filtered++;
			else
				tcp++;
		} else if (v == FRAME_ICMP) {
			input(p, segments, tcp); /* first those before it */
			tracker_unreachable(p->tracker, s);
			tcp = 0;
		}
	}
	counter_add(&p->count->bad_checksum, bad_checksum);
	counter_add(&p->count->filtered, filtered);
	for (unsigned v = 0; v < FRAME_VERDICTS; v++)
		if (verdicts[v])
			counter_add(&p->count->verdicts[v], verdicts[v]);
	input(p, segments, tcp);
}

void pipeline_name_origin(const struct pipeline *p, uint16_t number, const char *ring,
			  struct json_context *ret)
{
	ret->iface = ring;
	ret->tunnel = (struct tunnel){ 0 };
	if (likely(!number)) /* a ring of one interface, the usual case */
		return;

	struct origin_view v = origin_look_up(&p->origins, number);

	ret->iface = v.name ?: ring;
	ret->tunnel = v.tunnel;
}

void pipeline_read_counters(const struct pipeline *p, const char *iface, struct stats_decoder *ret)
{
	const struct counter *from = (const struct counter *)p->count;
	struct counter *to = (struct counter *)&ret->count;

	*ret = (struct stats_decoder){ .iface = iface,
				       .several = p->share.of > 1,
				       .index = p->share.index,
				       .split_known = p->share.known,
				       .max_syn = p->max_half_open,
				       .max_full = p->max_connections };
	for (unsigned i = 0; i < sizeof ret->count / sizeof *to; i++)
		counter_set(&to[i], counter_get(&from[i]));
}
