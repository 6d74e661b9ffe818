#include "synfind/decoder.h"
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
#include "synfind/bypassfilter.h"
#include "synfind/ring_switch.h"
#include "wire/checksum.h"
#include "wire/segment.h"

static const uint64_t stats_every_ns = 100000000; /* a look at the kernel's drop counter */
static const uint64_t wake_after_ns = 1000000;	  /* an event waits so long, while frames come */
static const uint32_t wake_events = 1024;	  /* or until they are so many */
enum {
	TICK_MS = 1000, /* how late a timeout may be told on an idle link */
	SWITCH_MS = 10, /* in a turn from one ring to another */
	LOOK_MS = 100,	/* stats_every_ns: how late a loss may be told if nothing comes any more */
};

uint64_t wall_clock_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_REALTIME, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

/* ---- the sink into the ring ----------------------------------------------------------------- */

static struct decoder *of_sink(struct event_sink *s)
{
	return (struct decoder *)((char *)s - offsetof(struct decoder, sink));
}

static struct event *ring_reserve(struct event_sink *s)
{
	struct decoder *d = of_sink(s);

	d->slot = spsc_reserve(&d->ring);
	while (!d->slot && d->block_when_full && !d->undo) {
		if (spsc_must_wake(&d->ring))
			eventfd_write(d->wake_fd, 1);
		counter_add(&d->count->beats, 1);
		nanosleep(&(struct timespec){ .tv_nsec = 1000000 }, NULL);
		d->slot = spsc_reserve(&d->ring);
	}
	if (!d->slot) { /* its number is skipped, so that the gap shows */
		d->state.progress->number++;
		counter_add(&d->count->lost, 1);
	}
	return d->slot;
}

static void ring_commit(struct event_sink *s)
{
	struct decoder *d = of_sink(s);

	d->slot->number = d->state.progress->number++;
	if (d->undo)
		spsc_stage(&d->ring);
	else
		spsc_commit(&d->ring);
	counter_add(&d->count->events, 1);
}

/* ---- life ----------------------------------------------------------------------------------- */

void *map_lazily(size_t octets)
{
	void *p = mmap(NULL, octets, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	return p == MAP_FAILED ? NULL : p;
}

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

static const struct decoder_share alone = { .of = 1 };

struct decoder_state_sizes decoder_sizes(const struct options *o, uint8_t iface_id,
					 const struct decoder_share *share)
{
	struct tracker_config c = tracker_config_of(o, share->of);

	return (struct decoder_state_sizes){ .max_connections = c.max_connections,
					     .max_half_open = c.max_half_open,
					     .events = o->event_ring_size,
					     .control = c.control || share->control,
					     .iface_id = iface_id };
}

/* All that the options say; returns the tracker's part. */
static struct tracker_config take_options(struct decoder *d, const struct options *o,
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

/* In @memory of these sizes; NULL: there is none. */
static int make(struct decoder *d, const struct options *o, struct event_sink *sink,
		uint8_t iface_id, const struct decoder_share *share,
		const struct decoder_state_sizes *sizes, void *memory, bool shared)
{
	struct decoder_state_head *h;

	if (!memory)
		return -ENOMEM;
	decoder_state_open(&d->state, memory, sizes, shared);
	d->undo = shared ? &d->state.undo : NULL;
	h = d->state.head;

	struct tracker_config cfg = take_options(d, o, iface_id, share);

	cfg.bypass = bypass_filter_kernel(d->bypass);
	if (getrandom(&cfg.secret, sizeof cfg.secret, 0) != sizeof cfg.secret ||
	    getrandom(&h->generation, sizeof h->generation, 0) != sizeof h->generation)
		return -errno;
	d->generation = h->generation |= 1;
	d->encap_ids = encap_id_init(d->state.encap_ids, &cfg.secret);
	if (sizes->events)
		spsc_init(&d->ring, d->state.events, sizes->events, sizeof(struct event), 0);
	d->tracker =
		tracker_new(&cfg, d->state.tracker, sink ? sink : &d->sink, &d->count->tracker);
	return d->tracker ? 0 : -ENOMEM;
}

int decoder_init(struct decoder *d, const struct options *o, struct source *source,
		 struct bypass_filter *bypass, struct event_sink *sink, uint8_t iface_id,
		 const struct decoder_share *share)
{
	struct decoder_state_sizes sizes = decoder_sizes(o, iface_id, share ? share : &alone);

	memset(d, 0, sizeof *d);
	d->source = source;
	d->bypass = bypass;
	if (sink)
		sizes.events = 0;
	return make(d, o, sink, iface_id, share ? share : &alone, &sizes,
		    map_lazily(decoder_state_octets(&sizes, false)), false);
}

int decoder_init_shared(struct decoder *d, const struct options *o, struct source *source,
			uint8_t iface_id, const struct decoder_share *share, void *memory)
{
	struct decoder_state_sizes sizes = decoder_sizes(o, iface_id, share);

	memset(d, 0, sizeof *d);
	d->source = source;
	return make(d, o, NULL, iface_id, share, &sizes, memory, true);
}

int decoder_adopt(struct decoder *d, const struct options *o, uint8_t iface_id,
		  struct decoder_state *state)
{
	struct decoder_share share = decoder_state_ring(state)->share;
	struct decoder_state_sizes sizes = decoder_sizes(o, iface_id, &share);
	struct decoder_state_head *h = state->head;

	memset(d, 0, sizeof *d);
	if (!decoder_state_adopt(state, &sizes))
		return -ESTALE;
	d->state = *state;
	d->undo = &d->state.undo;

	struct tracker_config cfg = take_options(d, o, iface_id, &share);

	d->generation = h->generation;
	d->encap_ids = encap_id_adopt(d->state.encap_ids);
	d->tracker = tracker_adopt(&cfg, d->state.tracker, &d->sink, &d->count->tracker);
	if (!d->tracker || !d->encap_ids || !d->generation ||
	    !spsc_adopt(&d->ring, d->state.events, sizes.events, sizeof(struct event))) {
		memset(d, 0, sizeof *d);
		return -ESTALE;
	}
	d->inner = decoder_state_ring(&d->state)->inner;
	if (d->state.ring_switch->phase ==
	    RING_SWITCH_OLD) /* the other ring is not ours any more */
		d->state.ring_switch->phase = RING_SWITCH_NONE;
	if (d->state.ring_switch->phase == RING_SWITCH_NEW)
		atomic_init(&d->switching, SWITCH_UNDER_WAY);
	*state = (struct decoder_state){ 0 };
	return 0;
}

void decoder_destroy(struct decoder *d)
{
	free(atomic_load(&d->fresh));
	tracker_free(d->tracker);
	source_free(d->source);
	source_free(d->next);
	source_free(d->retired);
	if (d->control_fd > 0)
		close(d->control_fd);
	bypass_filter_free(d->bypass);
	decoder_state_close(&d->state);
	memset(d, 0, sizeof *d);
}

/* ---- transactions --------------------------------------------------------------------------- */

static void begin(struct decoder *d)
{
	if (!d->undo)
		return;
	undo_save(d->undo, d->state.progress, sizeof *d->state.progress);
	undo_save(d->undo, &d->ring.words->staged, sizeof d->ring.words->staged);
	tracker_begin(d->tracker);
}

static void commit(struct decoder *d)
{
	if (!d->undo)
		return;
	undo_commit(d->undo);
	spsc_publish(&d->ring);
}

/* The rest of a sweep, in parts. */
static void sweep(struct decoder *d)
{
	while (d->undo && tracker_has_steps(d->tracker)) {
		begin(d);
		tracker_step(d->tracker);
		commit(d);
		counter_add(&d->count->beats, 1);
	}
}

/* ---- frames --------------------------------------------------------------------------------- */

/* What frame_decode() has no use for, in tunnels and ICMP errors. */
static enum frame_verdict decode_inner(struct decoder *d, const struct frame *f, struct segment *s)
{
	struct tunnel t = { 0 };
	enum frame_verdict v = frame_decode_inner(f, d->inner, &t, s);
	int number = f->iface;

	if (v != FRAME_TCP && v != FRAME_ICMP)
		return v;
	number = encap_id_of(d->encap_ids, f->iface, &t);
	if (number < 0)
		return FRAME_TUNNELS_FULL;
	s->iface = (uint16_t)number;
	return v;
}

uint16_t decoder_where(const struct decoder *d, uint16_t iface, struct tunnel *ret_tunnel)
{
	return encap_id_look_up(d->encap_ids, iface, ret_tunnel);
}

static enum frame_verdict decode_frame(struct decoder *d, struct frame *f, struct segment *ret)
{
	f->iface += d->iface_id;
	enum frame_verdict v = frame_decode(f, ret);

	return v == FRAME_NOT_TCP && d->inner ? decode_inner(d, f, ret) : v;
}

/* A segment of another decoder's connection.  That happens while the members of a fan-out group
 * come back one by one, after the interface was down.  Better one segment missing than a connection
 * that is told twice. */
static bool is_foreign(const struct decoder *d, const struct segment *s)
{
	return d->share.known && fanout_member(d->share.secret, s, d->share.of) != d->share.index;
}

/* In a turn: notes what comes of the old ring, and leaves out of the new one what was in that.  How
 * many frames are left. */
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
	begin(d);
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
			/* Of a file, and in tunnels: there the kernel's filter cannot tell. */
			if (unlikely(d->control) && !segment_is_control(s))
				filtered++;
			else
				tcp++;
		} else if (v == FRAME_ICMP) {
			tracker_input(d->tracker, segments, tcp); /* those before it */
			tracker_unreachable(d->tracker, s);
			tcp = 0;
		}
	}
	if (bad_checksum)
		counter_add(&d->count->bad_checksum, bad_checksum);
	if (filtered)
		counter_add(&d->count->filtered, filtered);
	for (unsigned v = 0; v < FRAME_VERDICTS; v++)
		if (verdicts[v])
			counter_add(&d->count->verdicts[v], verdicts[v]);
	tracker_input(d->tracker, segments, tcp);
	if (d->undo)
		afring_position(d->source, &d->state.progress->at);
	commit(d);
	return n;
}

/* ---- the thread ----------------------------------------------------------------------------- */

/* Asks the kernel what it counted since the last time; tells what it dropped.  It forgets what it
 * has told, so the answer lies in what is kept until it is added up. */
static void look_for_loss(struct decoder *d, uint64_t now)
{
	struct decoder_progress *s = d->state.progress;
	struct afring_counts *p = &s->pending;

	d->stats_at_ns = now + stats_every_ns;
	d->stats_pending = false;
	bypass_filter_set_clock(d->bypass);
	if (!p->packets && !p->drops && !p->freezes && afring_take_counts(d->source, p) < 0)
		return;
	begin(d);
	counter_add(&d->count->packets, p->packets - p->drops);
	counter_add(&d->count->drops, p->drops);
	counter_add(&d->count->freezes, p->freezes);
	if (p->drops)
		tracker_loss(d->tracker, s->loss_from_ns, now, p->drops, p->freezes);
	*p = (struct afring_counts){ 0 };
	s->loss_from_ns = now;
	commit(d);
}

static void advance(struct decoder *d, uint64_t now)
{
	begin(d);
	tracker_advance(d->tracker, now);
	commit(d);
	sweep(d);
}

/* Wakes the consumer, if it sleeps and events came that it was not woken for: most frames tell
 * nothing, and are no reason to. */
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

/* While frames come: rather for many events than for each batch's.  Where both threads have one
 * processor each time costs two switches. */
static void wake_consumer_soon(struct decoder *d, uint64_t now)
{
	uint32_t n = d->ring.words->staged - d->woken_at;

	if (n && !d->waiting_since_ns)
		d->waiting_since_ns = now;
	if (n >= wake_events || (n && now - d->waiting_since_ns >= wake_after_ns))
		wake_consumer(d);
}

static bool anything_tracked(const struct decoder *d)
{
	return counter_get(&d->count->tracker.syn_entries) ||
	       counter_get(&d->count->tracker.full_entries) ||
	       counter_get(&d->count->tracker.floods); /* whose end is to be told */
}

/* Waits for frames.  Idle and with nothing to time out it sleeps until something comes. */
static bool wait_for_frames(struct decoder *d)
{
	struct pollfd fds[] = { { .fd = source_fd(d->source), .events = POLLIN | POLLERR },
				{ .fd = d->stop_fd, .events = POLLIN },
				{ .fd = d->control_fd, .events = POLLIN } };
	eventfd_t requests;

	int ms = anything_tracked(d) ? TICK_MS : -1;

	if (d->beat_ms && (ms < 0 || ms > d->beat_ms))
		ms = d->beat_ms;
	if (d->stats_pending && (ms < 0 || ms > LOOK_MS))
		ms = LOOK_MS;
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
	free(atomic_exchange(&d->fresh, c)); /* one that came too fast for it to see */
	return 0;
}

static void take_over_config(struct decoder *d)
{
	if (!atomic_load_explicit(&d->fresh, memory_order_relaxed))
		return;

	struct tracker_config *c = atomic_exchange(&d->fresh, NULL);

	tracker_configure(d->tracker, c);
	free(c);
}

/* Room for a step's events, since what is only staged frees none.  False: not any more, and another
 * process has to go on. */
static bool await_room(struct decoder *d)
{
	while (d->undo && spsc_room(&d->ring) < STEP_EVENTS) {
		if (atomic_load(&d->paused))
			return false;
		wake_consumer(d);
		counter_add(&d->count->beats, 1);
		nanosleep(&(struct timespec){ .tv_nsec = 1000000 }, NULL);
	}
	return true;
}

static void close_all(struct decoder *d, enum close_reason reason)
{
	bool more = true;

	while (more && await_room(d)) {
		begin(d);
		more = tracker_close_some(d->tracker, reason);
		commit(d);
	}
}

/* ---- from one packet ring to another -------------------------------------------------------- */

void decoder_switch_ring(struct decoder *d, struct source *source, const struct decoder_ring *ring)
{
	struct decoder_state_head *h = d->state.head;

	h->ring[!h->current] = *ring;
	d->next = source;
	atomic_store(&d->switching, SWITCH_ASKED);
	eventfd_write(d->control_fd, 1);
}

void decoder_switched(struct decoder *d)
{
	source_free(d->next);
	source_free(d->retired);
	d->next = d->retired = NULL;
	atomic_store(&d->switching, SWITCH_NONE);
}

static struct ring_switch_clock clocks(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (struct ring_switch_clock){ .real = wall_clock_ns(),
					   .monotonic = (uint64_t)ts.tv_sec * 1000000000u +
							(uint64_t)ts.tv_nsec };
}

static void switch_report(struct decoder *d, enum decoder_switch phase)
{
	atomic_store(&d->switching, (int)phase);
	eventfd_write(d->wake_fd, 1);
}

static void switch_begin(struct decoder *d)
{
	const struct decoder_ring *ring = d->state.head->ring;
	uint64_t timeout = ring[0].block_timeout_ns > ring[1].block_timeout_ns
				   ? ring[0].block_timeout_ns
				   : ring[1].block_timeout_ns;

	begin(d);
	undo_save(d->undo, d->state.ring_switch, RING_SWITCH_SCALARS);
	ring_switch_begin(d->state.ring_switch, clocks(), timeout);
	commit(d);
	atomic_store(&d->switching, SWITCH_UNDER_WAY);
}

/* Leaves the old ring, if it is time to: which one is read, and from where, changes with one
 * commit. */
static void switch_cut(struct decoder *d, bool empty)
{
	enum ring_switch_verdict v;

	begin(d);
	undo_save(d->undo, d->state.ring_switch, RING_SWITCH_SCALARS);
	undo_save(d->undo, &d->state.head->current, sizeof d->state.head->current);
	v = ring_switch_cut(d->state.ring_switch, clocks(), empty);
	if (v == RING_SWITCH_CUT) {
		d->retired = d->source;
		d->source = d->next;
		d->next = NULL;
		d->state.head->current = !d->state.head->current;
		d->state.progress->at = (struct afring_position){ 0 };
		d->inner = decoder_state_ring(&d->state)->inner;
	}
	commit(d);
	if (v == RING_SWITCH_IMPOSSIBLE)
		switch_report(d, SWITCH_REFUSED);
}

static void switch_step(struct decoder *d, bool empty)
{
	struct ring_switch *s = d->state.ring_switch;
	bool over;

	if (s->phase == RING_SWITCH_OLD) {
		look_for_loss(d, wall_clock_ns()); /* nobody will ask the old one afterwards */
		switch_cut(d, empty);
		return;
	}
	begin(d);
	undo_save(d->undo, s, RING_SWITCH_SCALARS);
	over = ring_switch_over(s, clocks(), empty);
	commit(d);
	if (over)
		switch_report(d, SWITCH_DONE);
}

static void switch_rings(struct decoder *d, bool empty)
{
	int said = atomic_load_explicit(&d->switching, memory_order_acquire);

	if (said == SWITCH_ASKED)
		switch_begin(d);
	else if (unlikely(said == SWITCH_UNDER_WAY))
		switch_step(d, empty);
}

static void *decoder_run(void *arg)
{
	struct decoder *d = arg;
	bool go_on = true;

	if (!d->state.progress->loss_from_ns)
		d->state.progress->loss_from_ns = wall_clock_ns();
	while (go_on && !atomic_load_explicit(&d->paused, memory_order_relaxed)) {
		take_over_config(d);
		sweep(d);

		int n = decoder_pull(d);

		if (n == -ENODEV) { /* nothing will come any more; rtnetlink says so as well */
			atomic_store(&d->close_reason, REASON_CAPTURE_END);
			break;
		}
		uint64_t now = wall_clock_ns();

		if (now >= d->stats_at_ns || now + 2 * stats_every_ns < d->stats_at_ns)
			look_for_loss(d, now);
		switch_rings(d, n <= 0);
		if (n > 0) {
			wake_consumer_soon(d, now);
			continue;
		}
		advance(d, now);
		wake_consumer(d);
		go_on = wait_for_frames(d);
	}
	if (atomic_load(&d->paused)) {
		atomic_store(&d->ended, true);
		return NULL;
	}
	while (decoder_pull(d) > 0) { /* what is in the ring was on the wire before the end */
		sweep(d);
		wake_consumer_soon(d, wall_clock_ns());
	}
	look_for_loss(d, wall_clock_ns());
	d->block_when_full = true;
	close_all(d, (enum close_reason)atomic_load(&d->close_reason));
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

int thread_pin(pthread_t thread, unsigned cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	return -pthread_setaffinity_np(thread, sizeof set, &set);
}

void decoder_join(struct decoder *d)
{
	if (d->started)
		pthread_join(d->thread, NULL);
	d->started = false;
}

void decoder_read_counters(const struct decoder *d, const char *iface, struct stats_decoder *ret)
{
	const struct decoder_counters *c = d->count;
	const struct tracker_counters *t = &c->tracker;

	*ret = (struct stats_decoder){
		.iface = iface,
		.several = d->share.of > 1,
		.index = d->share.index,
		.split_known = d->share.known,
		.split = counter_get(&c->split),
		.max_syn = d->max_half_open,
		.max_full = d->max_connections,
		.source = { counter_get(&c->packets), counter_get(&c->drops),
			    counter_get(&c->freezes) },
		.opened = counter_get(&t->opened),
		.closed = counter_get(&t->closed),
		.syn_entries = counter_get(&t->syn_entries),
		.full_entries = counter_get(&t->full_entries),
		.evicted_syn = counter_get(&t->evicted_syn),
		.evicted_full = counter_get(&t->evicted_full),
		.anomalies = counter_get(&t->anomalies),
		.anomalies_suppressed = counter_get(&t->anomalies_suppressed),
		.floods = counter_get(&t->floods),
		.deferred = counter_get(&t->deferred),
		.suppressed = counter_get(&t->suppressed),
		.unwatched = counter_get(&t->unwatched),
		.unmatched = counter_get(&t->unmatched),
		.bad_checksum = counter_get(&c->bad_checksum),
		.bypassed = counter_get(&t->bypassed),
		.filtered = counter_get(&c->filtered),
		.events = counter_get(&c->events),
		.lost = counter_get(&c->lost),
	};
	for (unsigned i = 0; i < FRAME_VERDICTS; i++)
		ret->verdicts[i] = counter_get(&c->verdicts[i]);
	for (unsigned i = 0; i < FSM_STATES; i++)
		ret->states[i] = counter_get(&t->states[i]);
}
