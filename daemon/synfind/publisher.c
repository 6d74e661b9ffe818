#include "synfind/publisher.h"
#include "synfind/publisher_state.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>
#include "base/cc.h"
#include "base/strbuf.h"
#include "common/clock.h"
#include "common/log.h"
#include "common/options.h"
#include "format/json.h"
#include "synfind/subscribers.h"
#include "synfind/decoder.h"
#include "synfind/decoder_state.h"
#include "synfind/keyfile.h"
#include "synfind/linelog_write.h"
#include "synfind/listen.h"
#include "synfind/snapshot.h"
#include "synfind/fdstore.h"

enum {
	DRAIN_AT_ONCE = 256,   /* records of one ring per round */
	DRAIN_ROUNDS = 16,     /* then the loop handles other sources */
	STATS_DECODERS = 8,    /* in one line */
	STATS_INTERFACES = 64, /* likewise */
};

/* ---- lines ---------------------------------------------------------------------------------- */

static bool log_is_read(const struct publisher *p, unsigned log)
{
	return log == ACCESS_ADDRESSES || p->subscribers.reading[log];
}

static bool log_has_space(const struct publisher *p, unsigned log, size_t space)
{
	const struct stream_state *st = &p->stream;
	uint64_t end = st->state->end[log].head + space;

	/* A transaction is at most half the log, so the lines it discards are older. */
	return end <= p->subscribers.slowest[log] + st->log[log].size &&
	       end <= st->committed[log] + st->log[log].size / 2;
}

static COLD void log_make_space(struct publisher *p, unsigned log, size_t space)
{
	struct stream_state *st = &p->stream;

	stream_state_commit(st);
	if (st->state->end[log].head + space > p->subscribers.slowest[log] + st->log[log].size)
		subscribers_clear(&p->subscribers, log, space);
}

/* Makes space for one line of @space octets in each log that is read, and begins a transaction.  It
 * may commit what went before, so changes that belong together come after it. */
static inline void lines_begin(struct publisher *p, const struct input_ring *input, size_t space)
{
	for (unsigned log = 0; log < ACCESS_LOGS; log++)
		if (log_is_read(p, log) && unlikely(!log_has_space(p, log, space)))
			log_make_space(p, log, space);
	stream_state_begin(&p->stream, input ? input->cursor : NULL);
}

static struct strbuf publisher_line_begin(struct publisher *p, unsigned log, size_t space)
{
	char *at = linelog_reserve(&p->stream.log[log], space);

	return (struct strbuf){ .p = at, .end = at + space };
}

/* Appends the line.  One that does not fit (the bounds above exclude that) is discarded. */
static inline __attribute__((always_inline)) void publisher_line_end(struct publisher *p,
								     unsigned log,
								     const struct strbuf *line,
								     struct linelog_mark mark)
{
	struct linelog *l = &p->stream.log[log];

	if (line->full) {
		log_limited(LOG_LEVEL_ERR, "A line was too long and is discarded");
		return;
	}
	linelog_append(l, (size_t)(line->p - linelog_octets(l, l->end->head)), mark);
}

/* @e as subscribers of @log see it. */
static inline __attribute__((always_inline)) void append_event(struct publisher *p, unsigned log,
							       const struct event *e, uint64_t seq,
							       const struct json_context *c)
{
	const struct filters *f = &p->stream.filters;
	struct strbuf line = publisher_line_begin(p, log, JSON_LINE_MAX);

	json_event(&line, e, seq, c);
	publisher_line_end(p, log, &line,
			   (struct linelog_mark){
				   .seq = seq - 1,
				   .kind = e->kind,
				   .bits = f->active[log] ? filters_event(f, log, e, seq, c) : 0 });
}

static __attribute__((noinline)) void append_masked(struct publisher *p, const struct event *e,
						    uint64_t seq, const struct json_context *c)
{
	struct event masked = *e;

	pseudonym_event(&p->key, &masked);
	append_event(p, ACCESS_PSEUDONYMS, &masked, seq, c);
}

/* What the line of @e, a record of @input, needs besides it. */
static struct json_context event_context(struct publisher *p, const struct input_ring *input,
					 const struct event *e)
{
	struct json_context c = { .second = &p->second,
				  .community = p->o->community_id,
				  .community_seed = (uint16_t)p->o->community_id_seed };

	pipeline_name_origin(&input->decoder->pipeline, e->iface, input->iface, &c);
	return c;
}

static void publish_event(struct publisher *p, const struct input_ring *input,
			  const struct event *e)
{
	struct json_context c = event_context(p, input, e);
	uint64_t seq;

	lines_begin(p, input, JSON_LINE_MAX);
	seq = ++p->stream.state->seq;
	append_event(p, ACCESS_ADDRESSES, e, seq, &c);
	if (unlikely(log_is_read(p, ACCESS_PSEUDONYMS)))
		append_masked(p, e, seq, &c);
	input->cursor->number = e->number + 1;
	input->cursor->tail++;
}

/* The line of one segment, or how many have none, for those who want @of. */
static void append_segment(struct publisher *p, unsigned log, const struct event *e, unsigned of,
			   const struct json_context *c)
{
	static const char *const why[ENDPOINT_SKIPS] = {
		[ENDPOINT_SKIP_RATE] = "segment_rate", [ENDPOINT_SKIP_RING] = "segment_ring"
	};
	uint64_t seq = p->stream.state->seq;
	struct strbuf line = publisher_line_begin(p, log, JSON_LINE_MAX);
	struct linelog_mark mark = { .seq = seq, .kind = LINE_LOST, .endpoints = of };

	if (e->wire.skipped) {
		mark.bits = e->wire.skipped;
		json_lost_segments(&line, e->wire.skipped,
				   why[e->wire.skipped_why % ENDPOINT_SKIPS], seq, wall_clock_ns());
	} else {
		json_event(&line, e, seq, c);
		mark.kind = e->kind;
		mark.bits = filters_event(&p->stream.filters, log, e, seq, c);
	}
	publisher_line_end(p, log, &line, mark);
}

/* It has no number of its own. */
static void publish_segment(struct publisher *p, const struct input_ring *input,
			    const struct event *e)
{
	const struct segments *s = &p->stream.segments;
	unsigned of = e->wire.endpoints;

	lines_begin(p, input, JSON_LINE_MAX);
	input->cursor->tail++;
	if (!e->wire.skipped) { /* they may have changed since */
		struct endpoints now;

		segments_list(s, &now);
		of &= endpoints_of_event(&now, e);
	}
	for (unsigned log = 0; log < ACCESS_LOGS; log++) {
		unsigned wanted = of & segments_used(s, log);
		struct json_context c = { 0 };
		struct event seen = *e;

		if (!wanted)
			continue;
		if (!e->wire.skipped)
			c = event_context(p, input, e);
		if (log == ACCESS_PSEUDONYMS && !e->wire.skipped)
			pseudonym_event(&p->key, &seen);
		append_segment(p, log, &seen, wanted, &c);
	}
}

/* Passes to the decoder whose segments are wanted. */
static void input_watch(struct publisher *p, struct input_ring *input)
{
	struct endpoints now;

	segments_list(&p->stream.segments, &now);
	if (decoder_report_segments(input->decoder, &now) < 0)
		log_limited(LOG_LEVEL_ERR, "No memory: segments are not reported");
}

static void publisher_watch(void *arg)
{
	struct publisher *p = arg;

	for (struct input_ring *input = p->rings; input; input = input->next)
		input_watch(p, input);
}

/* A line without addresses, equal in all logs. */
static struct strbuf plain_line_begin(struct publisher *p)
{
	return (struct strbuf){ .p = p->plain_line, .end = p->plain_line + PLAIN_LINE_MAX };
}

/* Appends it for the events up to number @seq; the caller commits. */
static void plain_line_append(struct publisher *p, const struct input_ring *input,
			      const struct strbuf *l, uint64_t seq, enum line_kind kind)
{
	uint64_t seq_before = p->stream.state->seq;
	size_t n = (size_t)(l->p - p->plain_line);

	lines_begin(p, input, n);
	p->stream.state->seq = seq;
	for (unsigned i = 0; i < ACCESS_LOGS; i++) {
		if (!log_is_read(p, i))
			continue;
		struct strbuf line = publisher_line_begin(p, i, n);

		memcpy(line.p, p->plain_line, n);
		line.p += n;
		line.full = l->full;
		publisher_line_end(
			p, i, &line,
			(struct linelog_mark){
				.seq = seq_before,
				.kind = kind,
				.bits = filters_line(&p->stream.filters, i, p->plain_line, n) });
	}
}

/* The decoder's lost events, up to number @next, have numbers but no lines.  @reason "ring": its
 * ring was full. */
static void publish_loss(struct publisher *p, const struct input_ring *input, uint64_t next,
			 const char *reason)
{
	uint64_t count = next - input->cursor->number, first = p->stream.state->seq + 1;
	struct strbuf l = plain_line_begin(p);

	json_lost(&l, count, first, first + count - 1, reason, wall_clock_ns());
	plain_line_append(p, input, &l, first + count - 1, LINE_LOST);
	input->cursor->number = next;
}

static bool publisher_wants(const struct publisher *p, enum line_kind kind)
{
	return p->o->events & 1u << kind;
}

void publisher_iface(struct publisher *p, const char *iface, const char *state)
{
	uint64_t seq = p->stream.state->seq + 1;
	struct strbuf l = plain_line_begin(p);

	if (!publisher_wants(p, LINE_IFACE))
		return;
	json_iface(&l, iface, state, seq, wall_clock_ns());
	plain_line_append(p, NULL, &l, seq, LINE_IFACE);
	stream_state_commit(&p->stream);
}

/* How far the interfaces that share rings were read. */
struct links_cursor {
	const struct input_ring *input;
	uint32_t slot;
};

static void read_interface(const struct publisher *p, const struct links_cursor *at,
			   struct stats_interface *ret)
{
	*ret = (struct stats_interface){
		.iface = at->input->decoder->state.links[at->slot].name,
		.rings = at->input->iface,
	};
	for (const struct input_ring *of = p->rings; of; of = of->next)
		if (of->iface == at->input->iface) { /* another decoder of these rings */
			const struct stored_link *l = &of->decoder->state.links[at->slot];

			ret->frames += counter_get(&l->frames);
			ret->events += counter_get(&l->events);
		}
}

/* The next ones; returns their number. */
static unsigned read_interfaces(const struct publisher *p, struct links_cursor *at,
				struct stats_interface *ret)
{
	unsigned n = 0;

	for (; at->input; at->input = at->input->next, at->slot = 1) {
		const struct decoder_state *state = &at->input->decoder->state;

		if (at->input->decoder->pipeline.share.index)
			continue;
		for (; at->slot < state->head->link_slots; at->slot++) {
			if (n == STATS_INTERFACES)
				return n;
			if (*state->links[at->slot].name)
				read_interface(p, at, &ret[n++]);
		}
	}
	return n;
}

static void publish_stats(struct publisher *p, const struct json_stats *s)
{
	uint64_t seq = p->stream.state->seq + 1;
	struct strbuf l = plain_line_begin(p);

	json_stats(&l, s, seq, wall_clock_ns());
	plain_line_append(p, NULL, &l, seq, LINE_STATS);
	stream_state_commit(&p->stream);
}

void publisher_stats(struct publisher *p, uint64_t interval_ns)
{
	const struct stream_head *h = p->stream.head;
	struct stats_decoder d[STATS_DECODERS];
	struct stats_interface links[STATS_INTERFACES];
	struct json_stats s = { .decoders = d,
				.interfaces = links,
				.interval_ns = interval_ns,
				.subscribers = { .connected = p->subscribers.connected,
						 .accepted = h->accepted,
						 .lost_events = h->state.lost_events,
						 .unlisted = h->refused[ACCESS_UNLISTED],
						 .uid_limit = h->refused[ACCESS_UID_LIMIT],
						 .limit = h->refused[ACCESS_LIMIT],
						 .unknown = h->refused[ACCESS_UNKNOWN],
						 .rate_limit = h->refused[ACCESS_RATE_LIMIT] } };
	const struct input_ring *input = p->rings;
	/* Slot 0 is that of a ring of one interface, whose counts are the decoder's. */
	struct links_cursor at = { input, 1 };

	if (!publisher_wants(p, LINE_STATS))
		return;
	do {
		for (s.ndecoders = 0; input && s.ndecoders < STATS_DECODERS; input = input->next)
			pipeline_read_counters(&input->decoder->pipeline, input->iface,
					       &d[s.ndecoders++]);
		s.ninterfaces = read_interfaces(p, &at, links);
		publish_stats(p, &s);
	} while (input || at.input);
}

static void add_recovery(struct json_restart *r, struct json_recovery *list,
			 const struct input_ring *input, enum rescue_step step, unsigned deaths)
{
	static const char *const name[] = { [RESCUE_ONE_BY_ONE] = "one_by_one",
					    [RESCUE_SKIP] = "skip",
					    [RESCUE_NEW_MEMORY] = "new_tables",
					    [RESCUE_ALL_NEW] = "all_new" };
	bool new_stream = !input && step == RESCUE_NEW_MEMORY;

	if (step == RESCUE_NONE || r->nrecovery == JSON_NAMES_MAX)
		return;
	list[r->nrecovery++] = (struct json_recovery){
		.deaths = deaths,
		.step = new_stream ? "new_stream" : name[step],
		.iface = input ? input->iface : NULL,
		.decoder = input ? input->decoder->pipeline.share.index : 0,
	};
}

void publisher_start(struct publisher *p)
{
	struct stream_head *h = p->stream.head;
	uint64_t now = wall_clock_ns(), seq = h->state.seq + 1;
	const char *reset[JSON_NAMES_MAX];
	struct json_recovery recovery[JSON_NAMES_MAX];
	struct json_restart restart = { .cause = h->paused ? "stop" : "crash",
					.down_ns = h->alive_ns && now > h->alive_ns
							   ? now - h->alive_ns
							   : 0,
					.reset = reset,
					.recovery = recovery };
	struct strbuf l = plain_line_begin(p);

	for (const struct input_ring *input = p->rings; input && p->adopted; input = input->next)
		if (!input->resumed && input->decoder->pipeline.share.index == 0 &&
		    restart.nreset++ < JSON_NAMES_MAX)
			reset[restart.nreset - 1] = input->iface;
	add_recovery(&restart, recovery, NULL, p->all_new ? RESCUE_ALL_NEW : p->stream.step,
		     p->all_new ? RESCUE_ALL_NEW : p->stream.deaths);
	for (const struct input_ring *input = p->rings; input; input = input->next)
		add_recovery(&restart, recovery, input, input->decoder->state.step,
			     input->decoder->state.deaths);
	if (p->adopted || restart.nrecovery) {
		json_restart(&l, &restart, seq, now);
		plain_line_append(p, NULL, &l, seq, LINE_RESTART);
		stream_state_commit(&p->stream);
	}
	h->paused = false;
	h->alive_ns = now;
	p->reported = true;
	p->subscribers.pull = snapshot_pull; /* not before all rings are there */
	p->subscribers.publisher = p;
	publisher_drain(p);
}

/* Sends what is ready.  @more: as in subscribers_serve_all(). */
static void publisher_serve(struct publisher *p, bool more)
{
	uint64_t now = wall_clock_ns();

	if (p->reported)
		p->stream.head->alive_ns = now;
	subscribers_serve_all(&p->subscribers, more, now);
}

/* ---- draining ------------------------------------------------------------------------------- */

static bool is_numbered(const struct event *e)
{
	return e->kind != EVENT_SNAPSHOT && e->kind != EVENT_TCP_SEGMENT;
}

/* Skips the record at which the last processes died, and logs its octets. */
static void input_skip(struct publisher *p, struct input_ring *input)
{
	char hex[2 * sizeof(struct event) + 1];

	input->skip = false;
	log_event(
		LOG_LEVEL_ERR, LOG_ID_RESCUE, LOG_FIELDS({ "SYNFIND_INTERFACE", input->iface }),
		"%s: %u processes ended at this event, which is skipped: %s", input->iface,
		p->stream.head->rescue.deaths.deaths,
		log_hex(hex, sizeof hex, spsc_at(&input->decoder->ring, 0), sizeof(struct event)));
	stream_state_begin(&p->stream, input->cursor);
	if (is_numbered(spsc_at(&input->decoder->ring, 0)))
		publish_loss(p, input, input->cursor->number + 1, "poison");
	input->cursor->tail++;
	rescue_skipped(&p->stream.head->rescue.deaths);
	stream_state_commit(&p->stream);
	spsc_release(&input->decoder->ring, 1);
}

/* A row of a snapshot: no event, and for one subscriber alone. */
static void input_row(struct publisher *p, struct input_ring *input, const struct event *e)
{
	stream_state_begin(&p->stream, input->cursor);
	struct json_context c = event_context(p, input, e);

	snapshot_take(p, e, &c);
	input->cursor->tail++;
}

/* True: the budget was used up and more records are ready. */
static bool input_drain(struct publisher *p, struct input_ring *input)
{
	struct spsc *ring = &input->decoder->ring;
	uint32_t max = rescue_batch(&p->stream.head->rescue.deaths, DRAIN_AT_ONCE);
	uint32_t ready = spsc_ready(ring), n = ready < max ? ready : max;

	if (input->skip && n) {
		input_skip(p, input);
		return true;
	}
	for (uint32_t i = 0; i < n; i++) {
		const struct event *e = spsc_at(ring, i);

		if (e->number != input->cursor->number)
			publish_loss(p, input, e->number, "ring");
		if (unlikely(e->kind == EVENT_SNAPSHOT))
			input_row(p, input, e);
		else if (unlikely(e->kind == EVENT_TCP_SEGMENT))
			publish_segment(p, input, e);
		else
			publish_event(p, input, e);
	}
	stream_state_commit(&p->stream);
	spsc_release(ring, n); /* after the commit: a rollback needs the records */
	return n < ready;
}

/* Drains and serves in rounds whose lines are still in the CPU's cache.  True: more is ready. */
static bool drain_round(struct publisher *p)
{
	bool more = false;

	/* `restart` comes first. */
	for (struct input_ring *input = p->rings; input && p->reported; input = input->next)
		more |= input_drain(p, input);
	publisher_serve(p, more);
	return more;
}

void publisher_drain(struct publisher *p)
{
	bool more = true;

	for (unsigned i = 0; i < DRAIN_ROUNDS && more; i++)
		more = drain_round(p);
	for (struct input_ring *input = p->rings; input && !more; input = input->next)
		more |= !spsc_may_sleep(&input->decoder->ring);
	/* A producer wakes us only after spsc_may_sleep(). */
	sd_event_source_set_enabled(p->more, more ? SD_EVENT_ON : SD_EVENT_OFF);
}

static int on_more(sd_event_source *io, void *arg)
{
	(void)io;
	publisher_drain(arg);
	return 0;
}

static int publisher_on_wake(sd_event_source *io, int fd, uint32_t revents, void *arg)
{
	struct publisher *p = arg;
	eventfd_t n;

	(void)io, (void)revents;
	eventfd_read(fd, &n); /* before draining, or a wake-up is lost */
	publisher_drain(p);
	if (p->on_wake)
		p->on_wake(p->wake_arg);
	return 0;
}

int publisher_add(struct publisher *p, struct decoder *d, unsigned id, const char *iface)
{
	struct input_ring *input = calloc(1, sizeof *input), **last = &p->rings;

	if (!input)
		return -ENOMEM;
	*input = (struct input_ring){ .decoder = d,
				      .iface = iface,
				      .cursor = stream_state_cursor(&p->stream, id,
								    d->pipeline.share.index) };
	input->resumed = input->cursor->generation == d->generation &&
			 spsc_resume_tail(&d->ring, input->cursor->tail);
	input->skip =
		(input->resumed || !p->adopted) && stream_state_skips(&p->stream, input->cursor);
	if (!input->resumed) { /* read it from the start */
		const struct event *e = spsc_ready(&d->ring) ? spsc_at(&d->ring, 0) : NULL;

		stream_state_begin(&p->stream, NULL); /* no record is taken */
		undo_save(&p->stream.undo, input->cursor, sizeof *input->cursor);
		*input->cursor =
			(struct ring_cursor){ .generation = d->generation,
					      .number = e ? e->number : d->state.progress->number,
					      .tail = spsc_tail(&d->ring) };
		stream_state_commit(&p->stream);
	}
	while (*last) /* the order of the stats */
		last = &(*last)->next;
	*last = input;
	input_watch(p, input); /* before its thread runs */
	if (spsc_may_sleep(&d->ring))
		return 0;
	return sd_event_source_set_enabled(p->more, SD_EVENT_ON); /* no wake-up will come */
}

void publisher_remove(struct publisher *p, struct decoder *d)
{
	struct input_ring **link = &p->rings, *input;

	while (*link && (*link)->decoder != d)
		link = &(*link)->next;
	input = *link;
	if (!input)
		return;
	while (input_drain(p, input))
		;
	/* Its thread has ended, so its number is final. */
	if (d->state.progress->number != input->cursor->number) {
		publish_loss(p, input, d->state.progress->number, "ring");
		stream_state_commit(&p->stream);
	}
	publisher_serve(p, false);
	snapshot_removed(p, input);
	*link = input->next;
	free(input);
}

/* ---- life ----------------------------------------------------------------------------------- */

static int publisher_loop_init(struct publisher *p)
{
	int r;

	p->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (p->wake_fd < 0)
		return log_errno(errno, "Cannot create an eventfd");
	r = sd_event_add_io(p->loop, &p->wake_io, p->wake_fd, EPOLLIN, publisher_on_wake, p);
	if (r >= 0)
		r = sd_event_source_set_priority(p->wake_io, PRIORITY_EVENTS);
	if (r >= 0)
		r = sd_event_add_defer(p->loop, &p->more, on_more, p);
	if (r >= 0)
		r = sd_event_source_set_priority(p->more, PRIORITY_MORE);
	if (r >= 0)
		r = sd_event_source_set_enabled(p->more, SD_EVENT_OFF);
	return r < 0 ? log_errno(r, "Cannot set up the event loop") : 0;
}

/* Always loaded: a reload may enable pseudonyms, but can no longer read the file.  A random key is
 * stored with the stream.  *ret_other_key: it differs from the earlier process's. */
static int load_key(struct publisher *p, bool *ret_other_key)
{
	struct stream_head *h = p->stream.head;
	uint8_t key[PSEUDONYM_KEY_OCTETS];
	int r = keyfile_read(p->o->pseudonym_key_file, key);

	if (r < 0)
		return r;
	if (!r && h->has_key)
		memcpy(key, h->key, sizeof key);
	else if (!r && getrandom(key, sizeof key, 0) != sizeof key)
		return log_errno(errno, "Cannot generate a key for pseudonyms");
	*ret_other_key = !h->has_key || memcmp(key, h->key, sizeof key);
	if (*ret_other_key) {
		h->has_key = false;
		undo_order();
		memcpy(h->key, key, sizeof key);
		undo_order();
		h->has_key = true;
	}
	p->key = pseudonym_key_of(key);
	explicit_bzero(key, sizeof key);
	return 0;
}

/* A resumed stream keeps its sizes. */
static void log_sizes(const struct publisher *p)
{
	const struct stream_geometry *g = &p->stream.head->geometry;

	if (g->log_octets != linelog_size(p->o->queue_size_bytes))
		log_warn("queue-size: the resumed stream keeps %llu octets; a new stream uses the "
			 "new size",
			 (unsigned long long)g->log_octets);
	if (p->o->max_subscribers >= g->records)
		log_warn(
			"max-subscribers: the resumed stream is limited to %u; a new stream allows "
			"more",
			(unsigned)g->records - 1);
}

int publisher_init(struct publisher *p, const struct options *o, sd_event *loop,
		   struct fdstore *fdstore)
{
	struct stream_head *h;
	bool other_key = false;
	int r;

	*p = (struct publisher){ .o = o, .loop = loop, .fdstore = fdstore, .wake_fd = -1 };
	p->plain_line = malloc(PLAIN_LINE_MAX);
	if (!p->plain_line)
		return log_errno(ENOMEM, "Cannot publish");
	r = stream_state_open(&p->stream, fdstore, o->queue_size_bytes, o->max_subscribers + 1,
			      &p->adopted);
	if (r < 0)
		return r;
	p->reported = !p->adopted;
	log_sizes(p);
	identity_init(&p->id, true);
	/* A resumed stream keeps its run id, so that subscribers see that it is the same. */
	h = p->stream.head;
	if (p->adopted && h->run_id[0] && memchr(h->run_id, 0, sizeof h->run_id))
		memcpy(p->id.run_id, h->run_id, sizeof h->run_id);
	else
		memcpy(h->run_id, p->id.run_id, sizeof h->run_id);
	r = load_key(p, &other_key);
	if (r >= 0)
		r = publisher_loop_init(p);
	subscribers_init(&p->subscribers, o, loop, fdstore, &p->stream, &p->id);
	p->subscribers.segments_changed = publisher_watch;
	p->subscribers.segments_arg = p;
	if (r >= 0)
		r = subscribers_listen(&p->subscribers);
	if (r >= 0)
		subscribers_adopt(&p->subscribers, other_key);
	if (r >= 0)
		stream_state_opened(&p->stream);
	return r;
}

void publisher_end(struct publisher *p, uint64_t wait_ns)
{
	subscribers_end(&p->subscribers, wait_ns);
	stream_state_forget(p->fdstore);
}

void publisher_pause(struct publisher *p)
{
	p->subscribers.pull = NULL; /* the next process continues snapshots */
	while (drain_round(p))
		;
	p->stream.head->alive_ns = wall_clock_ns();
	undo_order();
	p->stream.head->paused = true;
}

void publisher_destroy(struct publisher *p)
{
	subscribers_destroy(&p->subscribers);
	while (p->rings) {
		struct input_ring *input = p->rings;

		p->rings = input->next;
		free(input);
	}
	sd_event_source_disable_unref(p->wake_io);
	sd_event_source_disable_unref(p->more);
	sd_event_source_disable_unref(p->snapshot_timer);
	if (p->loop && p->wake_fd >= 0)
		close(p->wake_fd);
	stream_state_close(&p->stream);
	free(p->plain_line);
	*p = (struct publisher){ 0 };
}
