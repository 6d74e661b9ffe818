#include "synfind/decoder.h"
#include "synfind/decoder_state.h"
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/random.h>
#include <unistd.h>
#include "base/cc.h"
#include "common/clock.h"
#include "common/log.h"
#include "flow/origin.h"
#include "flow/tracker.h"
#include "source/source.h"
#include "synfind/bypassfilter.h"
#include "synfind/ring_switch.h"
#include "wire/frame.h"

static const uint64_t stats_every_ns = 100000000; /* between looks at the kernel's drop counter */
/* While frames come, the consumer is woken for so many events, or for the first one this late. */
static const uint32_t wake_events = 1024;
static const uint64_t wake_after_ns = 1000000;
enum {
	TICK_MS = 1000,	    /* accuracy of timeouts on an idle link */
	SWITCH_MS = 10,	    /* poll interval during a ring switch */
	LOSS_MS = 100,	    /* as stats_every_ns, after the last frame */
	LINK_MS = 50,	    /* between looks whether all frames of a removed interface were read */
	UNKNOWN_MS = 100,   /* longest wait for the name of an interface that has frames */
	LIST_MS = 5,	    /* between looks at a ring that is too full for rows */
	LIST_CALLS = 4,	    /* parts of the work on lists between two batches */
	LIST_RING_PART = 8, /* rows go into a ring of which at most this part is in use */
	SKIPPED_OCTETS = 512, /* of a frame, in the log */
};

/* ---- the sink into the ring ----------------------------------------------------------------- */

static void wait_for_consumer(struct decoder *d)
{
	counter_add(&d->count->beats, 1);
	nanosleep(&(struct timespec){ .tv_nsec = 1000000 }, NULL);
}

static struct event *ring_reserve(struct event_sink *s)
{
	struct decoder *d = (struct decoder *)s;

	d->slot = spsc_reserve(&d->ring);
	while (!d->slot && d->block_when_full && !d->undo && !atomic_load(&d->paused)) {
		if (spsc_must_wake(&d->ring))
			eventfd_write(d->wake_fd, 1);
		wait_for_consumer(d);
		d->slot = spsc_reserve(&d->ring);
	}
	if (!d->slot) { /* skip its number, so that the loss shows */
		d->state.progress->number++;
		counter_add(&d->count->lost, 1);
	}
	return d->slot;
}

/* Half of the ring is for others. */
static struct event *ring_offer(struct event_sink *s)
{
	struct decoder *d = (struct decoder *)s;

	if (spsc_space(&d->ring) <= d->ring.mask / 2)
		return NULL;
	return d->slot = spsc_reserve(&d->ring);
}

static void ring_commit(struct event_sink *s)
{
	struct decoder *d = (struct decoder *)s;
	bool numbered = d->slot->kind != EVENT_TCP_SEGMENT;

	d->slot->number = d->state.progress->number;
	d->state.progress->number += numbered;
	if (d->undo)
		spsc_stage(&d->ring);
	else
		spsc_commit(&d->ring);
	counter_add(&d->count->events, numbered);
	if (unlikely(d->shared) && numbered)
		links_count_event(&d->links, d->slot->iface);
}

/* ---- life ----------------------------------------------------------------------------------- */

static struct pipeline_parts pipeline_parts(struct decoder *d, const struct decoder_share *share)
{
	atomic_init(&d->close_reason, REASON_SHUTDOWN);
	d->count = &d->state.progress->count;
	d->sink = (struct event_sink){ .reserve = ring_reserve,
				       .commit = ring_commit,
				       .offer = ring_offer };
	return (struct pipeline_parts){ .state = &d->state,
					.undo = d->undo,
					.sink = &d->sink,
					.bypass = bypass_filter_kernel(d->bypass),
					.share = *share };
}

int decoder_init(struct decoder *d, const struct options *o, struct source *source,
		 struct bypass_filter *bypass, const struct decoder_share *share, void *memory)
{
	struct decoder_state_sizes sizes = pipeline_sizes(o, share);
	struct pipeline_parts parts;
	uint64_t *generation;

	*d = (struct decoder){ .source = source, .bypass = bypass };
	if (memory) {
		decoder_state_open(&d->state, memory, &sizes, true);
		d->undo = &d->state.undo;
	} else {
		int r = decoder_state_private(&d->state, &sizes);

		if (r < 0)
			return r;
	}
	d->state.head->sizes = sizes;
	generation = &d->state.head->generation;
	if (getrandom(generation, sizeof *generation, 0) != sizeof *generation)
		return -errno;
	d->generation = *generation |= 1;
	spsc_init(&d->ring, d->state.events, sizes.events, sizeof(struct event), 0);
	parts = pipeline_parts(d, share);
	return pipeline_init(&d->pipeline, o, &parts);
}

int decoder_adopt(struct decoder *d, const struct options *o, struct decoder_state *state,
		  bool crashed)
{
	struct decoder_share share = decoder_state_current_ring(state)->share;
	struct decoder_state_sizes sizes = pipeline_sizes(o, &share);
	struct pipeline_parts parts;

	if (!decoder_state_adopt(state, &sizes, crashed))
		return -ESTALE;
	d->state = *state;
	d->undo = &d->state.undo;
	d->generation = d->state.head->generation;
	parts = pipeline_parts(d, &share);
	if (!d->generation || pipeline_adopt(&d->pipeline, o, &parts) < 0 ||
	    !spsc_adopt(&d->ring, d->state.events, sizes.events, sizeof(struct event))) {
		pipeline_destroy(&d->pipeline);
		memset(d, 0, sizeof *d);
		return -ESTALE;
	}
	if (d->state.ring_switch->phase == RING_SWITCH_OLD) /* we do not have the new ring */
		ring_switch_abandon(d->state.ring_switch);
	else if (d->state.ring_switch->phase != RING_SWITCH_NONE)
		atomic_init(&d->switching, SWITCH_UNDER_WAY);
	d->skip = rescue_skips(&d->state.head->rescue, d->state.step);
	*state = (struct decoder_state){ 0 };
	return 0;
}

void decoder_destroy(struct decoder *d)
{
	free(atomic_load(&d->new_config));
	free(atomic_load(&d->new_endpoints));
	free(d->endpoints);
	links_free(&d->links);
	pipeline_destroy(&d->pipeline);
	source_free(d->source);
	source_free(d->next_source);
	source_free(d->old_source);
	if (d->control_fd > 0)
		close(d->control_fd);
	bypass_filter_free(d->bypass);
	bypass_filter_free(d->other_bypass);
	decoder_state_close(&d->state);
	memset(d, 0, sizeof *d);
}

/* ---- transactions --------------------------------------------------------------------------- */

enum {
	TASK_SWEEP = RESCUE_OTHER,
	TASK_TIME,
	TASK_LOSS,
	TASK_CLOSE,
	TASK_SWITCH,
	TASK_LIST,
	TASK_CONFIG,
	TASK_LINKS
};

static void decoder_begin(struct decoder *d, uint32_t task)
{
	if (!d->undo)
		return;
	rescue_begin(&d->state.head->rescue, task);
	undo_save(d->undo, d->state.progress, sizeof *d->state.progress);
	undo_save(d->undo, &d->ring.words->staged, sizeof d->ring.words->staged);
	tracker_begin(d->pipeline.tracker);
}

static void decoder_commit(struct decoder *d)
{
	if (!d->undo)
		return;
	undo_commit(d->undo);
	spsc_publish(&d->ring);
	rescue_end(&d->state.head->rescue);
}

/* Finishes a sweep, one transaction per part. */
static void decoder_sweep(struct decoder *d)
{
	while (d->undo && tracker_has_steps(d->pipeline.tracker)) {
		decoder_begin(d, TASK_SWEEP);
		tracker_step(d->pipeline.tracker);
		decoder_commit(d);
		counter_add(&d->count->beats, 1);
	}
}

/* ---- frames --------------------------------------------------------------------------------- */

static bool is_switching(const struct decoder *d)
{
	return unlikely(atomic_load_explicit(&d->switching, memory_order_relaxed) ==
			SWITCH_UNDER_WAY);
}

/* During a ring switch: drops the frames that the ring is not read for; returns the number left. */
static int switch_frames(struct decoder *d, struct frame *frames, int n)
{
	int left = 0;

	undo_save(d->undo, d->state.ring_switch, sizeof *d->state.ring_switch);
	for (int i = 0; i < n; i++)
		if (!ring_switch_skips(d->state.ring_switch, frames[i].ts_ns))
			frames[left++] = frames[i];
	return left;
}

/* The opener reports an interface while its first frames are on their way. */
static COLD struct link_seen *await_link(struct decoder *d, const struct frame *f)
{
	struct link_seen *s = NULL;

	while (!links_find(&d->links, f->iface, &s)) {
		int64_t left_ns = (int64_t)(f->ts_ns + UNKNOWN_MS * 1000000ull - wall_clock_ns());
		struct pollfd fds[] = { { .fd = d->stop_fd, .events = POLLIN },
					{ .fd = d->control_fd, .events = POLLIN } };
		eventfd_t requests;

		if (left_ns <= 0 || left_ns > UNKNOWN_MS * 1000000ll || atomic_load(&d->stopping)) {
			links_presume(&d->links, f->iface);
			links_find(&d->links, f->iface, &s);
			break;
		}
		if (!links_have_news(&d->links) &&
		    poll(fds, ARRAY_SIZE(fds), (int)(left_ns / 1000000) + 1) > 0 &&
		    fds[1].revents & POLLIN)
			eventfd_read(d->control_fd, &requests);
		if (links_have_news(&d->links))
			links_apply(&d->links);
	}
	return s;
}

/* Of a shared ring: gives each frame its origin's number, and drops those of interfaces that are
 * not watched; returns the number left. */
static int shared_frames(struct decoder *d, struct frame *frames, int n)
{
	int dropped = 0, left = 0;

	for (struct frame *f = frames; f < frames + n; f++) {
		struct link_seen *s = links_look_up(&d->links, f->iface);

		if (unlikely(!s)) {
			if (!links_is_other(&d->links, f->iface))
				s = await_link(d, f);
			if (!s) {
				dropped++;
				f->iface = 0;
				continue;
			}
		}
		s->frames++;
		f->iface = s->number;
	}
	if (likely(!dropped))
		return n;
	for (int i = 0; i < n; i++)
		if (frames[i].iface)
			frames[left++] = frames[i];
	counter_add(&d->count->other_interfaces, (uint64_t)dropped);
	return left;
}

/* Runs one batch of frames through the pipeline, in a transaction.  Returns as source_next(). */
static int decoder_pull(struct decoder *d)
{
	struct frame frames[TRACKER_BATCH];
	int n = source_next(d->source, frames, rescue_batch(&d->state.head->rescue, TRACKER_BATCH));
	int used = n;

	counter_add(&d->count->beats, 1);
	if (n <= 0)
		return n;
	d->stats_pending = true;
	d->newest_ns = frames[n - 1].ts_ns;
	decoder_begin(d, RESCUE_TAKE);
	if (is_switching(d))
		used = switch_frames(d, frames, n);
	if (unlikely(d->shared))
		used = shared_frames(d, frames, used);
	pipeline_frames(&d->pipeline, frames, used);
	if (d->undo)
		source_position(d->source, &d->state.progress->at);
	decoder_commit(d);
	return n;
}

/* Skips the frame at which the last processes died, and logs its octets. */
static void skip_frame(struct decoder *d)
{
	struct rescue *rescue = &d->state.head->rescue;
	char hex[2 * SKIPPED_OCTETS + 1];
	struct frame f;

	d->skip = false;
	if (source_next(d->source, &f, 1) != 1)
		return;
	log_event(LOG_LEVEL_ERR, LOG_ID_RESCUE,
		  LOG_FIELDS({ "SYNFIND_INTERFACE", source_iface(d->source, 0) }),
		  "%s: %u processes ended at this frame, which is skipped: %s",
		  source_iface(d->source, 0), rescue->deaths,
		  log_hex(hex, sizeof hex, f.data, f.caplen));
	decoder_begin(d, RESCUE_TAKE);
	tracker_loss(d->pipeline.tracker, LOSS_POISON, f.ts_ns, f.ts_ns, 1, 0);
	source_position(d->source, &d->state.progress->at);
	rescue_skipped(rescue);
	decoder_commit(d);
}

/* ---- the thread ----------------------------------------------------------------------------- */

/* Of each interface that shares the ring. */
static void count_frames(struct decoder *d)
{
	decoder_begin(d, TASK_LINKS);
	links_count_frames(&d->links);
	decoder_commit(d);
}

/* Adds the kernel's counts since the last call, and reports drops.  Reading resets the kernel's
 * counters, so `pending` keeps them until a transaction has added them. */
static void count_loss(struct decoder *d, uint64_t now)
{
	struct decoder_progress *s = d->state.progress;
	struct source_counts *p = &s->pending;

	d->stats_at_ns = now + stats_every_ns;
	d->stats_pending = false;
	bypass_filter_set_clock(d->bypass);
	if (d->shared)
		count_frames(d);
	if (!p->packets && !p->drops && !p->freezes && source_take_counts(d->source, p) < 0)
		return;
	decoder_begin(d, TASK_LOSS);
	counter_add(&d->count->packets, p->packets - p->drops);
	counter_add(&d->count->drops, p->drops);
	counter_add(&d->count->freezes, p->freezes);
	if (p->drops)
		tracker_loss(d->pipeline.tracker, LOSS_RING_FULL, s->loss_from_ns, now, p->drops,
			     p->freezes);
	*p = (struct source_counts){ 0 };
	s->loss_from_ns = now;
	decoder_commit(d);
}

/* Wakes the consumer if it sleeps and there are new events.  Most frames cause none. */
static void wake_consumer(struct decoder *d)
{
	uint32_t staged = d->ring.words->staged;

	if (staged == d->woken_at)
		return;
	d->woken_at = staged;
	d->waiting_since_ns = 0;
	if (spsc_must_wake(&d->ring))
		eventfd_write(d->wake_fd, 1);
}

/* Does so for many events at once: if both threads share one processor, each time costs two context
 * switches. */
static void wake_consumer_soon(struct decoder *d, uint64_t now)
{
	uint32_t n = d->ring.words->staged - d->woken_at;

	if (n && !d->waiting_since_ns)
		d->waiting_since_ns = now;
	if (n >= wake_events || (n && now - d->waiting_since_ns >= wake_after_ns))
		wake_consumer(d);
}

/* ---- lists of connections -------------------------------------------------------------------- */

/* Has the consumer read nearly everything?  Rows must not push out events. */
static bool has_space_for_rows(struct decoder *d)
{
	uint32_t records = d->ring.mask + 1;

	return records - spsc_space(&d->ring) <= records / LIST_RING_PART;
}

/* Puts the answer to a piece into the ring, whole. */
static void rows_into_ring(struct decoder *d, const struct event *row, unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		struct event *slot = spsc_reserve(&d->ring);

		if (!slot) /* not reached: see has_space_for_rows() */
			return;
		*slot = row[i];
		slot->number = d->state.progress->number;
		if (d->undo)
			spsc_stage(&d->ring);
		else
			spsc_commit(&d->ring);
	}
}

/* A part of what was asked for.  In a transaction also where nothing is written, so that a death in
 * damaged memory counts. */
static void serve_lists(struct decoder *d)
{
	struct event row[LIST_PIECE_ROWS];

	for (unsigned i = 0; i < LIST_CALLS && lister_has_piece(&d->lister); i++) {
		if (!has_space_for_rows(d))
			break;
		decoder_begin(d, TASK_LIST);
		rows_into_ring(d, row, lister_piece(&d->lister, d->pipeline.tracker, row));
		decoder_commit(d);
	}
	for (unsigned i = 0; i < LIST_CALLS && lister_has_list(&d->lister); i++) {
		decoder_begin(d, TASK_LIST);
		bool over = lister_list(&d->lister, d->pipeline.tracker);

		decoder_commit(d);
		if (over)
			eventfd_write(d->wake_fd, 1);
	}
}

static bool decoder_answers(struct decoder *d)
{
	return d->started && !atomic_load(&d->stopping) && !atomic_load(&d->paused) &&
	       !atomic_load(&d->ended);
}

bool decoder_list(struct decoder *d, const struct list_piece *q)
{
	bool wake = false;

	if (!decoder_answers(d) || !lister_put_piece(&d->lister, q, &wake))
		return false;
	if (wake)
		eventfd_write(d->control_fd, 1);
	return true;
}

bool decoder_list_all(struct decoder *d, struct list *l)
{
	bool wake = false;

	if (!decoder_answers(d) || !lister_put_list(&d->lister, l, &wake))
		return false;
	if (wake)
		eventfd_write(d->control_fd, 1);
	return true;
}

/* ---- waiting --------------------------------------------------------------------------------- */

/* Waits for frames; without connections there is no timeout. */
static void wait_for_frames(struct decoder *d)
{
	struct pollfd fds[] = { { .fd = source_fd(d->source), .events = POLLIN | POLLERR },
				{ .fd = d->stop_fd, .events = POLLIN },
				{ .fd = d->control_fd, .events = POLLIN } };
	const struct tracker_counters *t = &d->count->tracker;
	/* The end of a flood must be reported. */
	bool tracking = counter_get(&t->syn_entries) || counter_get(&t->full_entries) ||
			counter_get(&t->floods) || d->state.head->segments.skips;
	int ms = tracking ? TICK_MS : -1;
	eventfd_t requests;

	if (d->beat_ms && (ms < 0 || ms > d->beat_ms))
		ms = d->beat_ms;
	if (d->stats_pending && (ms < 0 || ms > LOSS_MS))
		ms = LOSS_MS;
	if (is_switching(d))
		ms = SWITCH_MS;
	if (d->shared && links_are_leaving(&d->links))
		ms = LINK_MS;
	if (d->links.closing && d->shared)
		ms = 0;
	if (!lister_may_sleep(&d->lister))
		ms = lister_has_list(&d->lister) || has_space_for_rows(d) ? 0 : LIST_MS;
	poll(fds, ARRAY_SIZE(fds), ms);
	if (fds[2].revents & POLLIN)
		eventfd_read(d->control_fd, &requests);
}

int decoder_configure(struct decoder *d, const struct options *o)
{
	struct tracker_config *c = malloc(sizeof *c);

	if (!c)
		return -ENOMEM;
	*c = pipeline_config(&d->pipeline, o);
	d->pipeline.max_connections = c->max_connections;
	d->pipeline.max_half_open = c->max_half_open;
	free(atomic_exchange(&d->new_config, c)); /* an older one that was not applied */
	return 0;
}

static void apply_config(struct decoder *d)
{
	if (!atomic_load_explicit(&d->new_config, memory_order_relaxed))
		return;

	struct tracker_config *c = atomic_exchange(&d->new_config, NULL);

	tracker_configure(d->pipeline.tracker, c);
	free(c);
}

int decoder_report_segments(struct decoder *d, const struct endpoints *list)
{
	struct endpoints *copy = malloc(sizeof *copy);

	if (!copy)
		return -ENOMEM;
	*copy = *list;
	free(atomic_exchange(&d->new_endpoints, copy));
	if (d->started) /* with mode=auto there may be no frames to wake it */
		eventfd_write(d->control_fd, 1);
	return 0;
}

static void apply_endpoints(struct decoder *d)
{
	if (!atomic_load_explicit(&d->new_endpoints, memory_order_relaxed))
		return;

	struct endpoints *now = atomic_exchange(&d->new_endpoints, NULL);

	decoder_begin(d, TASK_CONFIG);
	pipeline_report(&d->pipeline, now);
	decoder_commit(d);
	free(d->endpoints);
	d->endpoints = now;
}

bool decoder_link(struct decoder *d, const struct link_news *news)
{
	if (!links_post(&d->links, news))
		return false;
	if (d->started)
		eventfd_write(d->control_fd, 1);
	return true;
}

/* Connections of interfaces that are gone are closed, a part at a time; then, when their events
 * are taken, the numbers of these interfaces are free. */
static void close_gone(struct decoder *d)
{
	struct links *l = &d->links;

	if (l->closing) {
		decoder_begin(d, TASK_CLOSE);
		if (l->more)
			tracker_more_gone(d->pipeline.tracker);
		l->more = false;
		l->closing = tracker_close_gone(d->pipeline.tracker, &d->pipeline.origins);
		l->release |= !l->closing;
		decoder_commit(d);
	}
	if (l->release && !l->closing && (int32_t)(spsc_tail(&d->ring) - l->released_at) >= 0) {
		decoder_begin(d, TASK_LINKS);
		origins_release(&d->pipeline.origins);
		decoder_commit(d);
		l->released_at = d->ring.words->staged;
		l->release = false;
	}
}

static void follow_links(struct decoder *d, uint64_t now, bool idle)
{
	if (unlikely(links_have_news(&d->links))) {
		decoder_begin(d, TASK_LINKS);
		links_apply(&d->links);
		decoder_commit(d);
	}
	while (links_may_remove(&d->links, now, d->newest_ns, idle)) {
		decoder_begin(d, TASK_LINKS);
		links_remove(&d->links);
		decoder_commit(d);
	}
	if (unlikely(d->links.closing || d->links.release))
		close_gone(d);
}

static void decoder_close_all(struct decoder *d)
{
	enum close_reason reason = (enum close_reason)atomic_load(&d->close_reason);

	for (bool more = true; more;) {
		/* The consumer does not see staged events: one step's must fit. */
		while (d->undo && spsc_space(&d->ring) < STEP_EVENTS) {
			if (atomic_load(&d->paused))
				return; /* the next process continues */
			wake_consumer(d);
			wait_for_consumer(d);
		}
		decoder_begin(d, TASK_CLOSE);
		more = tracker_close_some(d->pipeline.tracker, reason);
		decoder_commit(d);
	}
}

/* ---- from one packet ring to another -------------------------------------------------------- */

void decoder_switch_ring(struct decoder *d, struct source *source, struct bypass_filter *bypass,
			 const struct decoder_ring *ring)
{
	struct decoder_state_head *h = d->state.head;

	h->ring[!h->current] = *ring;
	d->next_source = source;
	d->other_bypass = bypass;
	atomic_store(&d->switching, SWITCH_ASKED);
	eventfd_write(d->control_fd, 1);
}

void decoder_switched(struct decoder *d)
{
	source_free(d->next_source);
	source_free(d->old_source);
	bypass_filter_free(d->other_bypass);
	d->next_source = d->old_source = NULL;
	d->other_bypass = NULL;
	atomic_store(&d->switching, SWITCH_NONE);
}

static struct ring_switch_clock clocks(void)
{
	return (struct ring_switch_clock){ wall_clock_ns(), clock_ns(CLOCK_MONOTONIC) };
}

static struct ring_switch *switch_begin(struct decoder *d)
{
	decoder_begin(d, TASK_SWITCH);
	undo_save(d->undo, d->state.ring_switch, sizeof *d->state.ring_switch);
	return d->state.ring_switch;
}

/* The old ring is read up to the cut: what its filter counted is added, and the new one's counts
 * from now on. */
static void switch_bypass(struct decoder *d)
{
	struct bypass_filter *old = d->bypass;

	if (!old)
		return;
	d->bypass = d->other_bypass;
	d->other_bypass = old;
	tracker_bypass_renew(d->pipeline.tracker, bypass_filter_kernel(d->bypass));
}

/* One commit changes which ring is read, and from where. */
static void switch_advance(struct decoder *d, bool empty)
{
	struct decoder_state_head *h = d->state.head;
	struct ring_switch *s;

	if (d->state.ring_switch->phase == RING_SWITCH_OLD)
		count_loss(d, wall_clock_ns()); /* may be the last look at that ring's counters */
	s = switch_begin(d);
	if (ring_switch_advance(s, clocks(), empty) && s->phase == RING_SWITCH_NEW) {
		undo_save(d->undo, &h->current, sizeof h->current);
		d->old_source = d->source;
		d->source = d->next_source;
		d->next_source = NULL;
		switch_bypass(d);
		h->current = !h->current;
		d->state.progress->at = (struct source_position){ 0 };
		d->pipeline.inner = decoder_state_current_ring(&d->state)->inner;
	}
	decoder_commit(d);
}

/* Reports what was lost between the two rings. */
static void switch_end(struct decoder *d)
{
	struct ring_switch *s = switch_begin(d);
	uint64_t from = s->time_ns, to, count = ring_switch_lost(s, &to);

	if (count)
		tracker_loss(d->pipeline.tracker, LOSS_RING_SWITCH, from, to, count, 0);
	decoder_commit(d);
}

static void switch_rings(struct decoder *d, bool empty)
{
	int phase = atomic_load_explicit(&d->switching, memory_order_acquire);

	if (phase == SWITCH_ASKED) {
		const struct decoder_ring *ring = d->state.head->ring;
		uint64_t a = ring[0].block_timeout_ns, b = ring[1].block_timeout_ns;

		/* What its filter counts must lie before the cut. */
		tracker_bypass_pause(d->pipeline.tracker, true);
		ring_switch_begin(switch_begin(d), clocks(), a > b ? a : b);
		decoder_commit(d);
		atomic_store(&d->switching, SWITCH_UNDER_WAY);
	}
	if (likely(phase != SWITCH_UNDER_WAY))
		return;
	if (d->state.ring_switch->phase != RING_SWITCH_OVER)
		switch_advance(d, empty);
	if (d->state.ring_switch->phase != RING_SWITCH_OVER)
		return;
	switch_end(d);
	tracker_bypass_pause(d->pipeline.tracker, false); /* if the old ring stays */
	atomic_store(&d->switching, d->next_source ? SWITCH_REFUSED : SWITCH_DONE);
	eventfd_write(d->wake_fd, 1);
}

/* Takes the frames that arrived before the end, not those that go on arriving, and closes all. */
static void decoder_finish(struct decoder *d)
{
	uint64_t end = wall_clock_ns();

	while (decoder_pull(d) > 0 && d->newest_ns <= end && !atomic_load(&d->paused)) {
		decoder_sweep(d);
		wake_consumer_soon(d, wall_clock_ns());
	}
	count_loss(d, wall_clock_ns());
	d->block_when_full = true;
	if (atomic_load(&d->paused))
		return;
	decoder_begin(d, TASK_CLOSE);
	pipeline_skipped(&d->pipeline, UINT64_MAX);
	decoder_commit(d);
	decoder_close_all(d);
}

static void *decoder_run(void *arg)
{
	struct decoder *d = arg;

	if (!d->state.progress->loss_from_ns)
		d->state.progress->loss_from_ns = wall_clock_ns();
	if (d->state.ring_switch->phase == RING_SWITCH_OVER && !is_switching(d))
		switch_end(d); /* an earlier process had to abandon it */
	if (d->skip)
		skip_frame(d);
	while (!atomic_load_explicit(&d->stopping, memory_order_relaxed)) {
		apply_config(d);
		apply_endpoints(d);
		decoder_sweep(d);

		int n = decoder_pull(d);

		if (n == -ENODEV) { /* the interface is gone; rtnetlink reports it as well */
			atomic_store(&d->close_reason, REASON_CAPTURE_END);
			break;
		}
		uint64_t now = wall_clock_ns();

		if (now >= d->stats_at_ns || now + 2 * stats_every_ns < d->stats_at_ns)
			count_loss(d, now);
		switch_rings(d, n <= 0);
		if (unlikely(d->shared))
			follow_links(d, now, n <= 0);
		if (n > 0) {
			serve_lists(d);
			wake_consumer_soon(d, now);
			continue;
		}
		decoder_begin(d, TASK_TIME);
		tracker_advance(d->pipeline.tracker, now);
		pipeline_skipped(&d->pipeline, now);
		decoder_commit(d);
		decoder_sweep(d);
		serve_lists(d);
		wake_consumer(d);
		wait_for_frames(d);
	}
	lister_drop(&d->lister);
	if (!atomic_load(&d->paused))
		decoder_finish(d);
	if (d->shared)
		count_frames(d);
	atomic_store(&d->ended, true);
	eventfd_write(d->wake_fd, 1);
	return NULL;
}

int decoder_start(struct decoder *d, int wake_fd, int stop_fd)
{
	d->wake_fd = wake_fd;
	d->stop_fd = stop_fd;
	d->control_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (d->control_fd < 0)
		return -errno;
	lister_init(&d->lister);
	const struct decoder_ring *ring = decoder_state_current_ring(&d->state);

	d->shared = ring->geometry.shared;
	links_begin(&d->links, &d->pipeline.origins, d->state.links, d->undo,
		    ring->block_timeout_ns);
	int r = pthread_create(&d->thread, NULL, decoder_run, d);

	d->started = !r;
	return -r;
}

void decoder_join(struct decoder *d)
{
	if (d->started) {
		pthread_join(d->thread, NULL);
		lister_drop(&d->lister); /* what came after the thread had dropped the others */
	}
	d->started = false;
}
