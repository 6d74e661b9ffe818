#include "synfind/decoder.h"
#include "synfind/decoder_state.h"
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>
#include "base/cc.h"
#include "common/options.h"
#include "flow/encap_id.h"
#include "source/afring.h"
#include "source/fanout.h"
#include "source/source.h"
#include "synfind/bypassfilter.h"
#include "synfind/ring_switch.h"
#include "wire/checksum.h"
#include "wire/frame.h"
#include "wire/segment.h"

static const uint64_t stats_every_ns = 100000000; /* between looks at the kernel's drop counter */
/* While frames come, the consumer is woken for so many events, or for the first one this late. */
static const uint32_t wake_events = 1024;
static const uint64_t wake_after_ns = 1000000;
enum {
	TICK_MS = 1000, /* accuracy of timeouts on an idle link */
	SWITCH_MS = 10, /* poll interval during a ring switch */
	LOSS_MS = 100,	/* as stats_every_ns, after the last frame */
};

static uint64_t clock_ns(clockid_t clock)
{
	struct timespec ts;

	clock_gettime(clock, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

uint64_t wall_clock_ns(void)
{
	return clock_ns(CLOCK_REALTIME);
}

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
	while (!d->slot && d->block_when_full && !d->undo) {
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

static void ring_commit(struct event_sink *s)
{
	struct decoder *d = (struct decoder *)s;

	d->slot->number = d->state.progress->number++;
	if (d->undo)
		spsc_stage(&d->ring);
	else
		spsc_commit(&d->ring);
	counter_add(&d->count->events, 1);
}

/* ---- life ----------------------------------------------------------------------------------- */

static uint32_t part_of(unsigned n, unsigned of)
{
	return (n + of - 1) / of;
}

static struct tracker_config tracker_config_of(const struct options *o, unsigned of)
{
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
		.anomalies_per_connection = o->anomalies_per_connection,
		.anomalies_per_second = o->anomalies_per_second,
		.flood_half_open = part_of(o->syn_flood_half_open, of),
		.flood_rate = part_of(o->syn_flood_rate, of),
		.flood_interval_ns = o->syn_flood_interval_ns,
		.decoders = (uint16_t)of,
		.control = o->mode == MODE_CONTROL,
	};
}

struct decoder_state_sizes decoder_sizes(const struct options *o, uint8_t iface_id,
					 const struct decoder_share *share)
{
	return (struct decoder_state_sizes){ .max_connections =
						     part_of(o->max_connections, share->of),
					     .max_half_open = part_of(o->max_half_open, share->of),
					     .events = o->event_ring_size,
					     .control = o->mode == MODE_CONTROL || share->control,
					     .iface_id = iface_id };
}

/* Sets what depends on the options; returns the tracker's part. */
static struct tracker_config apply_options(struct decoder *d, const struct options *o,
					   uint8_t iface_id, const struct decoder_share *share)
{
	struct tracker_config cfg = tracker_config_of(o, share->of);

	cfg.control |= share->control;
	cfg.undo = d->undo;
	d->share = *share;
	d->max_connections = cfg.max_connections;
	d->max_half_open = cfg.max_half_open;
	d->iface_id = iface_id;
	d->sink = (struct event_sink){ .reserve = ring_reserve, .commit = ring_commit };
	d->inner = options_inner(o);
	d->control = cfg.control;
	d->count = &d->state.progress->count;
	return cfg;
}

int decoder_init(struct decoder *d, const struct options *o, struct source *source,
		 struct bypass_filter *bypass, struct event_sink *sink, uint8_t iface_id,
		 const struct decoder_share *share, void *memory)
{
	struct decoder_state_sizes sizes = decoder_sizes(o, iface_id, share);
	bool shared = memory;
	struct tracker_config cfg;
	uint64_t *generation;

	memset(d, 0, sizeof *d);
	d->source = source;
	d->bypass = bypass;
	if (sink)
		sizes.events = 0;
	if (!memory) /* unused pages cost nothing */
		memory = mmap(NULL, decoder_state_octets(&sizes, false), PROT_READ | PROT_WRITE,
			      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (memory == MAP_FAILED)
		return -ENOMEM;
	decoder_state_open(&d->state, memory, &sizes, shared);
	d->state.head->sizes = sizes;
	d->undo = shared ? &d->state.undo : NULL;
	cfg = apply_options(d, o, iface_id, share);
	cfg.bypass = bypass_filter_kernel(d->bypass);
	generation = &d->state.head->generation;
	if (getrandom(&cfg.secret, sizeof cfg.secret, 0) != sizeof cfg.secret ||
	    getrandom(generation, sizeof *generation, 0) != sizeof *generation)
		return -errno;
	d->generation = *generation |= 1;
	d->encap_ids = encap_id_init(d->state.encap_ids, &cfg.secret);
	if (!sink)
		spsc_init(&d->ring, d->state.events, sizes.events, sizeof(struct event), 0);
	d->tracker =
		tracker_new(&cfg, d->state.tracker, sink ? sink : &d->sink, &d->count->tracker);
	return d->tracker ? 0 : -ENOMEM;
}

int decoder_adopt(struct decoder *d, const struct options *o, uint8_t iface_id,
		  struct decoder_state *state)
{
	struct decoder_share share = decoder_state_current_ring(state)->share;
	struct decoder_state_sizes sizes = decoder_sizes(o, iface_id, &share);

	if (!decoder_state_adopt(state, &sizes))
		return -ESTALE;
	d->state = *state;
	d->undo = &d->state.undo;

	struct tracker_config cfg = apply_options(d, o, iface_id, &share);

	d->generation = d->state.head->generation;
	d->encap_ids = encap_id_adopt(d->state.encap_ids);
	d->tracker = tracker_adopt(&cfg, d->state.tracker, &d->sink, &d->count->tracker);
	if (!d->tracker || !d->encap_ids || !d->generation ||
	    !spsc_adopt(&d->ring, d->state.events, sizes.events, sizeof(struct event))) {
		memset(d, 0, sizeof *d);
		return -ESTALE;
	}
	d->inner = decoder_state_current_ring(&d->state)->inner;
	if (d->state.ring_switch->phase == RING_SWITCH_OLD) /* we do not have the new ring */
		d->state.ring_switch->phase = RING_SWITCH_NONE;
	if (d->state.ring_switch->phase == RING_SWITCH_NEW)
		atomic_init(&d->switching, SWITCH_UNDER_WAY);
	*state = (struct decoder_state){ 0 };
	return 0;
}

void decoder_destroy(struct decoder *d)
{
	free(atomic_load(&d->new_config));
	tracker_free(d->tracker);
	source_free(d->source);
	source_free(d->next_source);
	source_free(d->old_source);
	if (d->control_fd > 0)
		close(d->control_fd);
	bypass_filter_free(d->bypass);
	decoder_state_close(&d->state);
	memset(d, 0, sizeof *d);
}

/* ---- transactions --------------------------------------------------------------------------- */

static void decoder_begin(struct decoder *d)
{
	if (!d->undo)
		return;
	undo_save(d->undo, d->state.progress, sizeof *d->state.progress);
	undo_save(d->undo, &d->ring.words->staged, sizeof d->ring.words->staged);
	tracker_begin(d->tracker);
}

static void decoder_commit(struct decoder *d)
{
	if (!d->undo)
		return;
	undo_commit(d->undo);
	spsc_publish(&d->ring);
}

/* Finishes a sweep, one transaction per part. */
static void decoder_sweep(struct decoder *d)
{
	while (d->undo && tracker_has_steps(d->tracker)) {
		decoder_begin(d);
		tracker_step(d->tracker);
		decoder_commit(d);
		counter_add(&d->count->beats, 1);
	}
}

/* ---- frames --------------------------------------------------------------------------------- */

static enum frame_verdict decode_frame(struct decoder *d, struct frame *f, struct segment *ret)
{
	f->iface += d->iface_id;

	enum frame_verdict v = frame_decode(f, ret);

	if (v != FRAME_NOT_TCP || !d->inner)
		return v;
	/* Look into tunnels and ICMP errors. */
	struct tunnel t = { 0 };

	v = frame_decode_inner(f, d->inner, &t, ret);
	if (v != FRAME_TCP && v != FRAME_ICMP)
		return v;

	int number = encap_id_of(d->encap_ids, f->iface, &t);

	if (number < 0)
		return FRAME_TUNNELS_FULL;
	ret->iface = (uint16_t)number;
	return v;
}

/* Does another decoder have the segment's connection?  That happens while the members of a fan-out
 * group return one by one after the interface was down.  Losing the segment is better than
 * reporting its connection twice. */
static bool is_foreign(const struct decoder *d, const struct segment *s)
{
	return d->share.known && fanout_member(d->share.secret, s, d->share.of) != d->share.index;
}

/* During a ring switch: records frames of the old ring, and skips those frames in the new one.
 * Returns the number of frames left. */
static int switch_frames(struct decoder *d, struct frame *frames, int n)
{
	struct ring_switch *s = d->state.ring_switch;
	int left = 0;

	undo_save(d->undo, s, RING_SWITCH_SCALARS);
	for (int i = 0; i < n; i++) {
		if (s->phase == RING_SWITCH_OLD)
			ring_switch_had(s, &frames[i]);
		else if (s->phase == RING_SWITCH_NEW &&
			 ring_switch_leaves_out(s, d->undo, &frames[i]))
			continue;
		frames[left++] = frames[i];
	}
	return left;
}

static bool is_switching(const struct decoder *d)
{
	return unlikely(atomic_load_explicit(&d->switching, memory_order_relaxed) ==
			SWITCH_UNDER_WAY);
}

int decoder_pull(struct decoder *d)
{
	struct frame frames[TRACKER_BATCH];
	struct segment segments[TRACKER_BATCH];
	int n = source_next(d->source, frames, TRACKER_BATCH);
	uint64_t verdicts[FRAME_VERDICTS] = { 0 };
	unsigned tcp = 0, bad_checksum = 0, filtered = 0;
	int used = n;

	counter_add(&d->count->beats, 1);
	if (n <= 0)
		return n;
	d->stats_pending = true;
	decoder_begin(d);
	if (is_switching(d))
		used = switch_frames(d, frames, n);
	for (int i = 0; i < used; i++) {
		struct frame *f = &frames[i];
		struct segment *s = &segments[tcp];

		enum frame_verdict v = decode_frame(d, f, s);

		verdicts[v]++;
		if ((v == FRAME_TCP || v == FRAME_ICMP) && unlikely(is_foreign(d, s))) {
			counter_add(&d->count->split, 1);
		} else if (v == FRAME_TCP) {
			if (f->unverified)
				bad_checksum += checksum_wrong(s, f->data + f->caplen);
			/* Files and tunnels have not been filtered by the kernel. */
			if (unlikely(d->control) && !segment_is_control(s))
				filtered++;
			else
				tcp++;
		} else if (v == FRAME_ICMP) {
			tracker_input(d->tracker, segments, tcp); /* first those before it */
			tracker_unreachable(d->tracker, s);
			tcp = 0;
		}
	}
	counter_add(&d->count->bad_checksum, bad_checksum);
	counter_add(&d->count->filtered, filtered);
	for (unsigned v = 0; v < FRAME_VERDICTS; v++)
		if (verdicts[v])
			counter_add(&d->count->verdicts[v], verdicts[v]);
	tracker_input(d->tracker, segments, tcp);
	if (d->undo)
		afring_position(d->source, &d->state.progress->at);
	decoder_commit(d);
	return n;
}

/* ---- the thread ----------------------------------------------------------------------------- */

/* Adds the kernel's counts since the last call, and reports drops.  Reading resets the kernel's
 * counters, so `pending` keeps them until a transaction has added them. */
static void count_loss(struct decoder *d, uint64_t now)
{
	struct decoder_progress *s = d->state.progress;
	struct afring_counts *p = &s->pending;

	d->stats_at_ns = now + stats_every_ns;
	d->stats_pending = false;
	bypass_filter_set_clock(d->bypass);
	if (!p->packets && !p->drops && !p->freezes && afring_take_counts(d->source, p) < 0)
		return;
	decoder_begin(d);
	counter_add(&d->count->packets, p->packets - p->drops);
	counter_add(&d->count->drops, p->drops);
	counter_add(&d->count->freezes, p->freezes);
	if (p->drops)
		tracker_loss(d->tracker, s->loss_from_ns, now, p->drops, p->freezes);
	*p = (struct afring_counts){ 0 };
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

/* Waits for frames; without connections there is no timeout.  False: stop. */
static bool wait_for_frames(struct decoder *d)
{
	struct pollfd fds[] = { { .fd = source_fd(d->source), .events = POLLIN | POLLERR },
				{ .fd = d->stop_fd, .events = POLLIN },
				{ .fd = d->control_fd, .events = POLLIN } };
	const struct tracker_counters *t = &d->count->tracker;
	/* The end of a flood must be reported. */
	bool tracking = counter_get(&t->syn_entries) || counter_get(&t->full_entries) ||
			counter_get(&t->floods);
	int ms = tracking ? TICK_MS : -1;
	eventfd_t requests;

	if (d->beat_ms && (ms < 0 || ms > d->beat_ms))
		ms = d->beat_ms;
	if (d->stats_pending && (ms < 0 || ms > LOSS_MS))
		ms = LOSS_MS;
	if (is_switching(d))
		ms = SWITCH_MS;
	poll(fds, ARRAY_SIZE(fds), ms);
	if (fds[2].revents & POLLIN)
		eventfd_read(d->control_fd, &requests);
	return !(fds[1].revents & POLLIN);
}

int decoder_configure(struct decoder *d, const struct options *o)
{
	struct tracker_config *c = malloc(sizeof *c);

	if (!c)
		return -ENOMEM;
	*c = tracker_config_of(o, d->share.of);
	c->control = d->control;
	d->max_connections = c->max_connections;
	d->max_half_open = c->max_half_open;
	free(atomic_exchange(&d->new_config, c)); /* an older one that was not applied */
	return 0;
}

static void apply_config(struct decoder *d)
{
	if (!atomic_load_explicit(&d->new_config, memory_order_relaxed))
		return;

	struct tracker_config *c = atomic_exchange(&d->new_config, NULL);

	tracker_configure(d->tracker, c);
	free(c);
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
		decoder_begin(d);
		more = tracker_close_some(d->tracker, reason);
		decoder_commit(d);
	}
}

/* ---- from one packet ring to another -------------------------------------------------------- */

void decoder_switch_ring(struct decoder *d, struct source *source, const struct decoder_ring *ring)
{
	struct decoder_state_head *h = d->state.head;

	h->ring[!h->current] = *ring;
	d->next_source = source;
	atomic_store(&d->switching, SWITCH_ASKED);
	eventfd_write(d->control_fd, 1);
}

void decoder_switched(struct decoder *d)
{
	source_free(d->next_source);
	source_free(d->old_source);
	d->next_source = d->old_source = NULL;
	atomic_store(&d->switching, SWITCH_NONE);
}

static struct ring_switch_clock clocks(void)
{
	return (struct ring_switch_clock){ clock_ns(CLOCK_REALTIME), clock_ns(CLOCK_MONOTONIC) };
}

static void switch_report(struct decoder *d, enum decoder_switch phase)
{
	atomic_store(&d->switching, (int)phase);
	eventfd_write(d->wake_fd, 1);
}

static void switch_transaction(struct decoder *d)
{
	decoder_begin(d);
	undo_save(d->undo, d->state.ring_switch, RING_SWITCH_SCALARS);
}

/* Leaves the old ring if it is time to.  One commit changes which ring is read, and from where. */
static void switch_cut(struct decoder *d, bool empty)
{
	struct decoder_state_head *h = d->state.head;
	enum ring_switch_verdict v;

	count_loss(d, wall_clock_ns()); /* may be the last look at the old ring's counters */
	switch_transaction(d);
	undo_save(d->undo, &h->current, sizeof h->current);
	v = ring_switch_cut(d->state.ring_switch, clocks(), empty);
	if (v == RING_SWITCH_CUT) {
		d->old_source = d->source;
		d->source = d->next_source;
		d->next_source = NULL;
		h->current = !h->current;
		d->state.progress->at = (struct afring_position){ 0 };
		d->inner = decoder_state_current_ring(&d->state)->inner;
	}
	decoder_commit(d);
	if (v == RING_SWITCH_IMPOSSIBLE)
		switch_report(d, SWITCH_REFUSED);
}

static void switch_rings(struct decoder *d, bool empty)
{
	int phase = atomic_load_explicit(&d->switching, memory_order_acquire);

	if (phase == SWITCH_ASKED) {
		const struct decoder_ring *ring = d->state.head->ring;
		uint64_t a = ring[0].block_timeout_ns, b = ring[1].block_timeout_ns;

		switch_transaction(d);
		ring_switch_begin(d->state.ring_switch, clocks(), a > b ? a : b);
		decoder_commit(d);
		atomic_store(&d->switching, SWITCH_UNDER_WAY);
	}
	if (likely(phase != SWITCH_UNDER_WAY))
		return;
	if (d->state.ring_switch->phase == RING_SWITCH_OLD) {
		switch_cut(d, empty);
		return;
	}
	switch_transaction(d);
	bool over = ring_switch_over(d->state.ring_switch, clocks(), empty);

	decoder_commit(d);
	if (over)
		switch_report(d, SWITCH_DONE);
}

static void *decoder_run(void *arg)
{
	struct decoder *d = arg;
	bool running = true;

	if (!d->state.progress->loss_from_ns)
		d->state.progress->loss_from_ns = wall_clock_ns();
	while (running && !atomic_load_explicit(&d->paused, memory_order_relaxed)) {
		apply_config(d);
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
		if (n > 0) {
			wake_consumer_soon(d, now);
			continue;
		}
		decoder_begin(d);
		tracker_advance(d->tracker, now);
		decoder_commit(d);
		decoder_sweep(d);
		wake_consumer(d);
		running = wait_for_frames(d);
	}
	if (atomic_load(&d->paused)) {
		atomic_store(&d->ended, true);
		return NULL;
	}
	while (decoder_pull(d) > 0) { /* frames that arrived before the end */
		decoder_sweep(d);
		wake_consumer_soon(d, wall_clock_ns());
	}
	count_loss(d, wall_clock_ns());
	d->block_when_full = true;
	decoder_close_all(d);
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
	atomic_init(&d->close_reason, REASON_SHUTDOWN);
	int r = pthread_create(&d->thread, NULL, decoder_run, d);

	d->started = !r;
	return -r;
}

void decoder_join(struct decoder *d)
{
	if (d->started)
		pthread_join(d->thread, NULL);
	d->started = false;
}

void decoder_read_counters(const struct decoder *d, const char *iface, struct stats_decoder *ret)
{
	const struct counter *from = (const struct counter *)d->count;
	struct counter *to = (struct counter *)&ret->count;

	*ret = (struct stats_decoder){ .iface = iface,
				       .several = d->share.of > 1,
				       .index = d->share.index,
				       .split_known = d->share.known,
				       .max_syn = d->max_half_open,
				       .max_full = d->max_connections };
	for (unsigned i = 0; i < sizeof ret->count / sizeof *to; i++)
		counter_set(&to[i], counter_get(&from[i]));
}
