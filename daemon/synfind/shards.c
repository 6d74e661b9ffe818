#include "synfind/shards.h"
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include "base/cc.h"
#include "common/cpulist.h"
#include "common/log.h"
#include "common/options.h"
#include "source/afring.h"
#include "source/fanout.h"
#include "source/pcapfile.h"
#include "synfind/decoder.h"
#include "wire/checksum.h"
#include "wire/segment.h"

enum {
	BATCH = 1024,	     /* frames; some 50 us of work */
	BATCHES_PER_LANE = 4, /* on their way, so that a lane may be behind for a while */
	OPTIONS_MAX = 40,    /* of a TCP header, RFC 9293 3.1 */
};
enum { IS_ICMP = 0x8000 }; /* besides the place within the batch */

/* When something is told: each frame has two moments.  In the first one time goes on, for all lanes; in
 * the second one its lane has the segment.  The end of the file comes after all. */
#define MOMENT(frame) ((frame) * 2)
#define AT_THE_END    (UINT64_MAX - 1)
#define THROUGH	      UINT64_MAX

#define NO_TIME UINT64_MAX

/* Which lane a connection is in follows from the file alone. */
static const uint64_t fixed_secret = 0x73796e66696e64;

/* As tracker_advance() has it. */
static const uint64_t sweep_every_ns = 1000000000, clock_step_ns = 10000000000;

/* Frames between being read and being tracked by all lanes. */
struct batch {
	uint64_t first;	 /* number of its first frame */
	unsigned frames;
	unsigned left;	 /* lanes that have not tracked it; 0: free */
	bool decoded;
	bool sorted;	 /* times do not run backwards; the first and the last: */
	uint64_t from_ns, to_ns;
	unsigned start[AFRING_GROUP_MAX + 1]; /* of each lane's part of what follows */
	struct segment segment[BATCH];
	uint16_t at[BATCH];   /* place within the batch, and IS_ICMP */
	uint64_t ts_ns[BATCH]; /* of each frame that is a segment; NO_TIME: of the others */
	uint8_t options[BATCH][OPTIONS_MAX]; /* for a source whose frames go away */
};

/* One thread: its tracker, and what it needs while it decodes a batch. */
struct lane {
	struct decoder d; /* first: of its sink */
	struct shards *shards;
	unsigned index;
	pthread_t thread;
	bool started;
	uint64_t next;	 /* batch that it tracks next */
	uint64_t moment; /* of what is told now */
	uint64_t now_ns, sweep_at_ns; /* the tracker's time, had it seen all segments of the file */
	CACHE_ALIGNED _Atomic uint64_t done; /* all events of moments before this are in the ring */

	/* the consumer's: no event of this lane is of a moment before this */
	CACHE_ALIGNED uint64_t low;
	bool ready; /* its next event is of that one */

	CACHE_ALIGNED struct frame frames[BATCH];
	struct segment segments[BATCH];
	uint16_t places[BATCH];
	uint8_t lanes[BATCH];
};

struct iface_name {
	char name[PCAPFILE_NAME_MAX + 1];
	uint64_t since; /* frame */
};

struct shards {
	const struct options *o;
	struct source *source; /* who holds the baton uses it */
	int fd;		       /* of a source whose frames go away at the next call; -1: they stay */
	bool serial;	       /* decode before the baton is given on */
	struct lane **lane;
	unsigned lanes;
	struct batch *batch;
	unsigned batches;
	struct lane *taken; /* by the consumer: the lane of the event that it has */

	pthread_mutex_t lock; /* of all below, and of `left` and `decoded` of batches */
	pthread_cond_t work;  /* a lane may have something to do */
	pthread_cond_t told;  /* the consumer may */
	bool baton, ended, stop;
	uint64_t issued; /* batches so far */
	uint64_t frames, offset;
	uint64_t changes; /* that concern the consumer */
	int error;
	unsigned ifaces;
	struct iface_name iface[PCAPFILE_IFACES];
};

static struct timespec in_ms(clockid_t clock, int ms)
{
	struct timespec t;

	clock_gettime(clock, &t);
	t.tv_sec += ms / 1000;
	t.tv_nsec += ms % 1000 * 1000000;
	if (t.tv_nsec >= 1000000000) {
		t.tv_sec++;
		t.tv_nsec -= 1000000000;
	}
	return t;
}

/* ---- events out of a lane ------------------------------------------------------------------- */

static void tell_consumer(struct shards *s)
{
	s->changes++;
	pthread_cond_signal(&s->told);
}

static struct event *lane_reserve(struct event_sink *sink)
{
	struct lane *l = (struct lane *)((char *)sink - offsetof(struct decoder, sink));
	struct shards *s = l->shards;

	if (s->o->quiet) {
		counter_add(&l->d.count.events, 1);
		return NULL;
	}
	l->d.slot = spsc_reserve(&l->d.ring);
	if (likely(l->d.slot != NULL))
		return l->d.slot;
	pthread_mutex_lock(&s->lock);
	while (!s->stop && !(l->d.slot = spsc_reserve(&l->d.ring))) {
		tell_consumer(s);
		pthread_cond_wait(&s->work, &s->lock);
	}
	pthread_mutex_unlock(&s->lock);
	return l->d.slot;
}

static void lane_commit(struct event_sink *sink)
{
	struct lane *l = (struct lane *)((char *)sink - offsetof(struct decoder, sink));

	l->d.slot->number = l->moment;
	spsc_commit(&l->d.ring);
	counter_add(&l->d.count.events, 1);
}

/* ---- reading: with the baton ---------------------------------------------------------------- */

/* Keeps the names of the interfaces that are known now: those of these frames, and further ones
 * that have a name. */
static void learn_ifaces(struct shards *s, const struct frame *f, unsigned n, uint64_t since)
{
	unsigned want = s->ifaces;

	for (unsigned i = 0; i < n; i++)
		if (unlikely(f[i].iface >= want))
			want = f[i].iface + 1u;
	while (want < PCAPFILE_IFACES && *source_iface(s->source, want))
		want++;
	if (want == s->ifaces)
		return;
	pthread_mutex_lock(&s->lock);
	for (; s->ifaces < want; s->ifaces++) {
		struct iface_name *i = &s->iface[s->ifaces];

		strncpy(i->name, source_iface(s->source, s->ifaces), PCAPFILE_NAME_MAX);
		i->since = since;
	}
	pthread_mutex_unlock(&s->lock);
}

/* The frames of one batch; fewer are the last, or (a pipe) all that is there.  Stays in the steps of a
 * single decoder, so that an interface is known from the same frame on. */
static unsigned pull(struct shards *s, struct lane *l, uint64_t first, int *ret_error)
{
	unsigned n = 0;
	int r;

	do {
		unsigned room = BATCH - n < DECODER_BATCH ? BATCH - n : DECODER_BATCH;

		r = source_next(s->source, l->frames + n, room);
		if (r <= 0)
			break;
		learn_ifaces(s, l->frames + n, (unsigned)r, first + n);
		n += (unsigned)r;
	} while (n < BATCH && s->fd < 0);
	*ret_error = r < 0 ? r : 0;
	return n;
}

/* ---- decoding ------------------------------------------------------------------------------- */

static void note_time(struct batch *b, unsigned i, uint64_t ts_ns, bool first)
{
	b->ts_ns[i] = ts_ns;
	if (first)
		b->from_ns = ts_ns;
	else if (ts_ns < b->to_ns)
		b->sorted = false;
	b->to_ns = ts_ns;
}

/* Frames of @l to segments of @b, each lane's in a row. */
static void decode(struct shards *s, struct lane *l, struct batch *b)
{
	uint64_t verdicts[FRAME_VERDICTS] = { 0 };
	unsigned n = 0, bad_checksum = 0, end[AFRING_GROUP_MAX] = { 0 };
	struct decoder *numbers = &s->lane[0]->d; /* those of tunnels */

	b->sorted = true;
	for (unsigned i = 0; i < b->frames; i++) {
		struct frame *f = &l->frames[i];
		struct segment *g = &l->segments[n];
		enum frame_verdict v = decoder_decode(numbers, f, g);

		verdicts[v]++;
		b->ts_ns[i] = NO_TIME;
		if (v != FRAME_TCP && v != FRAME_ICMP)
			continue;
		if (v == FRAME_TCP && f->unverified)
			bad_checksum += checksum_wrong(g, f->data + f->caplen);
		note_time(b, i, g->ts_ns, !n);
		l->places[n] = (uint16_t)(v == FRAME_ICMP ? i | IS_ICMP : i);
		l->lanes[n] = (uint8_t)fanout_member(fixed_secret, g, s->lanes);
		end[l->lanes[n++]]++;
	}
	b->start[0] = 0;
	for (unsigned k = 0; k < s->lanes; k++) {
		b->start[k + 1] = b->start[k] + end[k];
		end[k] = b->start[k];
	}
	for (unsigned i = 0; i < n; i++) {
		unsigned to = end[l->lanes[i]]++;
		struct segment *g = &b->segment[to];

		*g = l->segments[i];
		b->at[to] = l->places[i];
		if (s->fd >= 0 && l->places[i] < IS_ICMP && g->options.n) {
			memcpy(b->options[to], g->options.p, g->options.n);
			g->options.p = b->options[to];
		}
	}
	counter_add(&l->d.count.bad_checksum, bad_checksum);
	for (unsigned v = 0; v < FRAME_VERDICTS; v++)
		counter_add(&l->d.count.verdicts[v], verdicts[v]);
}

/* ---- tracking ------------------------------------------------------------------------------- */

static void feed_one(struct lane *l, const struct batch *b, unsigned k)
{
	l->moment = MOMENT(b->first + (b->at[k] & ~IS_ICMP)) + 1;
	if (b->at[k] & IS_ICMP)
		tracker_unreachable(l->d.tracker, &b->segment[k]);
	else
		tracker_feed(l->d.tracker, &b->segment[k], 1);
}

/* No event is told, so that it does not matter which of them causes it. */
static void feed_quietly(struct lane *l, const struct batch *b, unsigned k, unsigned end)
{
	while (k < end) {
		unsigned n = 0;

		while (n < TRACKER_BATCH && k + n < end && !(b->at[k + n] & IS_ICMP))
			n++;
		if (n)
			tracker_feed(l->d.tracker, &b->segment[k], n);
		else
			feed_one(l, b, k++);
		k += n;
	}
}

/* Time goes on as if all segments of the file came to this lane. */
static void pass_time(struct lane *l, uint64_t ts_ns)
{
	bool back = ts_ns + clock_step_ns < l->now_ns;

	if (!back && ts_ns <= l->now_ns)
		return;
	l->now_ns = ts_ns;
	if (back || ts_ns >= l->sweep_at_ns)
		l->sweep_at_ns = ts_ns + sweep_every_ns;
}

/* This lane's part of @b.  The tracker's time is moved by the others' segments as well: by each of
 * them where a sweep is due or times run backwards, and by the last of them elsewhere. */
static void track(struct lane *l, const struct batch *b)
{
	unsigned k = b->start[l->index], end = b->start[l->index + 1];

	if (!b->start[l->shards->lanes])
		return;
	if (b->sorted && b->from_ns >= l->now_ns && b->to_ns < l->sweep_at_ns) {
		if (l->shards->o->quiet)
			feed_quietly(l, b, k, end);
		else
			for (; k < end; k++)
				feed_one(l, b, k);
		tracker_advance(l->d.tracker, b->to_ns);
		l->now_ns = b->to_ns;
		return;
	}
	for (unsigned i = 0; i < b->frames; i++) {
		if (b->ts_ns[i] == NO_TIME)
			continue;
		pass_time(l, b->ts_ns[i]);
		l->moment = MOMENT(b->first + i);
		tracker_advance(l->d.tracker, b->ts_ns[i]);
		if (k < end && (b->at[k] & ~IS_ICMP) == i)
			feed_one(l, b, k++);
	}
}

/* ---- threads -------------------------------------------------------------------------------- */

static bool readable(int fd)
{
	return poll(&(struct pollfd){ .fd = fd, .events = POLLIN }, 1, 0) > 0;
}

static struct batch *batch_of(const struct shards *s, uint64_t number)
{
	return &s->batch[number % s->batches];
}

/* Locked.  Who has to wait for a pipe must not keep others waiting for its own lane. */
static bool may_pull(const struct shards *s, const struct lane *l)
{
	return !s->ended && !s->baton && !batch_of(s, s->issued)->left &&
	       (s->fd < 0 || l->next == s->issued || readable(s->fd));
}

/* Locked, and unlocked meanwhile. */
static void pull_and_decode(struct shards *s, struct lane *l)
{
	struct batch *b = batch_of(s, s->issued);
	int r;

	s->baton = true;
	pthread_mutex_unlock(&s->lock);
	b->first = s->frames;
	b->frames = pull(s, l, s->frames, &r);
	if (s->serial)
		decode(s, l, b);
	pthread_mutex_lock(&s->lock);
	s->baton = false;
	s->frames += b->frames;
	s->offset = pcapfile_offset(s->source);
	if (b->frames) {
		s->issued++;
		b->left = s->lanes;
		b->decoded = s->serial;
	}
	if (r != -EINTR && (r < 0 || !b->frames)) {
		s->ended = true;
		s->error = r;
	}
	pthread_cond_broadcast(&s->work);
	if (!b->frames || s->serial)
		return;
	pthread_mutex_unlock(&s->lock);
	decode(s, l, b);
	pthread_mutex_lock(&s->lock);
	b->decoded = true;
	pthread_cond_broadcast(&s->work);
}

/* Locked, and unlocked meanwhile. */
static void track_next(struct shards *s, struct lane *l)
{
	struct batch *b = batch_of(s, l->next);

	pthread_mutex_unlock(&s->lock);
	track(l, b);
	atomic_store_explicit(&l->done, MOMENT(b->first + b->frames), memory_order_release);
	pthread_mutex_lock(&s->lock);
	l->next++;
	if (!--b->left)
		pthread_cond_broadcast(&s->work);
	if (!s->o->quiet)
		tell_consumer(s);
}

static void *lane_run(void *arg)
{
	struct lane *l = arg;
	struct shards *s = l->shards;

	pthread_mutex_lock(&s->lock);
	while (!s->stop) {
		if (l->next < s->issued && batch_of(s, l->next)->decoded)
			track_next(s, l);
		else if (may_pull(s, l))
			pull_and_decode(s, l);
		else if (s->ended && l->next == s->issued)
			break;
		else
			pthread_cond_wait(&s->work, &s->lock);
	}
	pthread_mutex_unlock(&s->lock);

	l->moment = AT_THE_END;
	atomic_store_explicit(&l->done, AT_THE_END, memory_order_release);
	tracker_close_all(l->d.tracker, REASON_CAPTURE_END);
	atomic_store_explicit(&l->done, THROUGH, memory_order_release);
	pthread_mutex_lock(&s->lock);
	tell_consumer(s);
	pthread_mutex_unlock(&s->lock);
	return NULL;
}

/* ---- the consumer --------------------------------------------------------------------------- */

/* Looks again for what this lane has. */
static void look(struct lane *l)
{
	/* First this: what is told before it is in the ring then. */
	uint64_t done = atomic_load_explicit(&l->done, memory_order_acquire);

	l->ready = spsc_ready(&l->d.ring);
	l->low = l->ready ? ((const struct event *)spsc_at(&l->d.ring, 0))->number : done;
}

/* The lane whose next event must be the first of all, if it has one; among those of one moment the
 * first lane.  It may be that it has none yet. */
static struct lane *foremost(struct shards *s)
{
	struct lane *first = s->lane[0];

	for (unsigned i = 1; i < s->lanes; i++)
		if (s->lane[i]->low < first->low)
			first = s->lane[i];
	return first;
}

/* Waits until something has changed since @changes; false: not within @wait_ms. */
static bool await(struct shards *s, uint64_t changes, int wait_ms)
{
	struct timespec until = in_ms(CLOCK_MONOTONIC, wait_ms);
	int r = 0;

	pthread_mutex_lock(&s->lock);
	pthread_cond_broadcast(&s->work); /* rings that were full have room */
	while (s->changes == changes && !r)
		r = wait_ms < 0 ? pthread_cond_wait(&s->told, &s->lock)
				: pthread_cond_timedwait(&s->told, &s->lock, &until);
	pthread_mutex_unlock(&s->lock);
	return !r;
}

enum shards_verdict shards_next(struct shards *s, int wait_ms, const struct event **ret)
{
	if (s->taken) {
		spsc_release(&s->taken->d.ring, 1);
		look(s->taken);
		s->taken = NULL;
	}
	for (;;) {
		struct lane *l = foremost(s);

		if (!l->ready) {
			pthread_mutex_lock(&s->lock);
			uint64_t changes = s->changes;

			pthread_mutex_unlock(&s->lock);
			uint64_t low = l->low;

			look(l);
			if (!l->ready && l->low == THROUGH && foremost(s)->low == THROUGH)
				return SHARDS_END;
			if (!l->ready && l->low == low && !await(s, changes, wait_ms))
				return SHARDS_NONE;
			continue;
		}
		s->taken = l;
		*ret = spsc_at(&l->d.ring, 0);
		return SHARDS_EVENT;
	}
}

uint16_t shards_where(const struct shards *s, uint16_t iface, struct tunnel *ret_tunnel)
{
	return decoder_where(&s->lane[0]->d, iface, ret_tunnel);
}

const char *shards_iface(struct shards *s, unsigned index)
{
	return index < PCAPFILE_IFACES ? s->iface[index].name : "";
}

unsigned shards_ifaces(struct shards *s)
{
	uint64_t moment = s->taken ? s->taken->low : THROUGH;
	unsigned n = 0;

	pthread_mutex_lock(&s->lock);
	while (n < s->ifaces && MOMENT(s->iface[n].since) <= moment)
		n++;
	pthread_mutex_unlock(&s->lock);
	return n;
}

uint64_t shards_offset(struct shards *s)
{
	pthread_mutex_lock(&s->lock);
	uint64_t offset = s->offset;

	pthread_mutex_unlock(&s->lock);
	return offset;
}

void shards_read_counters(struct shards *s, const char *iface, struct stats_decoder *ret)
{
	struct stats_decoder d;

	*ret = (struct stats_decoder){ .iface = iface,
				       .max_half = s->o->max_half_open,
				       .max_whole = s->o->max_connections };
	for (unsigned i = 0; i < s->lanes; i++) {
		decoder_read_counters(&s->lane[i]->d, iface, &d);
		ret->opened += d.opened;
		ret->closed += d.closed;
		ret->half += d.half;
		ret->whole += d.whole;
		ret->evicted_half += d.evicted_half;
		ret->evicted_whole += d.evicted_whole;
		ret->anomalies += d.anomalies;
		ret->anomalies_untold += d.anomalies_untold;
		ret->strays += d.strays;
		ret->bad_checksum += d.bad_checksum;
		ret->events += d.events;
		ret->lost += d.lost;
		for (unsigned v = 0; v < FRAME_VERDICTS; v++)
			ret->verdicts[v] += d.verdicts[v];
		for (unsigned v = 0; v < FSM_STATES; v++)
			ret->states[v] += d.states[v];
	}
}

/* ---- life ----------------------------------------------------------------------------------- */

/* Only to end a read(). */
static void on_signal(int sig)
{
	(void)sig;
}

static int lane_start(struct shards *s, struct lane *l)
{
	struct decoder_share share = { .index = l->index, .of = s->lanes };
	int r = decoder_init(&l->d, s->o, NULL, NULL, 0, &share);

	if (r < 0)
		return r;
	l->d.sink = (struct event_sink){ lane_reserve, lane_commit };
	return 0;
}

static void lane_pin(struct shards *s, struct lane *l, const struct cpulist *cpus)
{
	int r = thread_pin(l->thread, cpus->cpu[l->index % cpus->n]);

	if (r < 0)
		log_errno(r, "Cannot pin a decoder of %s", s->o->read_file);
}

static int start(struct shards *s)
{
	struct cpulist cpus = { .n = 0 };
	int r = s->o->pin_decoders ? cpulist_parse(s->o->pin_decoders, &cpus) : 0;

	for (unsigned i = 0; i < s->lanes && r >= 0; i++) {
		struct lane *l = aligned_alloc(CACHE_LINE, sizeof *l);

		if (!l)
			return -ENOMEM;
		memset(l, 0, offsetof(struct lane, frames));
		s->lane[i] = l;
		l->shards = s;
		l->index = i;
		r = lane_start(s, l);
	}
	for (unsigned i = 0; i < s->lanes && r >= 0; i++) {
		struct lane *l = s->lane[i];

		r = -pthread_create(&l->thread, NULL, lane_run, l);
		l->started = !r;
		if (!r && cpus.n)
			lane_pin(s, l, &cpus);
	}
	return r;
}

int shards_start(const struct options *o, struct source *source, struct shards **ret)
{
	struct shards *s = calloc(1, sizeof *s);
	pthread_condattr_t monotonic;

	if (!s)
		return -ENOMEM;
	s->o = o;
	s->source = source;
	s->fd = source_fd(source);
	s->serial = o->decap || s->fd >= 0; /* tunnels have their numbers in the order of frames */
	if (s->fd >= 0)
		sigaction(SIGUSR1, &(struct sigaction){ .sa_handler = on_signal }, NULL);
	s->lanes = o->decoders;
	s->batches = s->lanes * BATCHES_PER_LANE;
	pthread_mutex_init(&s->lock, NULL);
	pthread_condattr_init(&monotonic);
	pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
	pthread_cond_init(&s->work, NULL);
	pthread_cond_init(&s->told, &monotonic);
	pthread_condattr_destroy(&monotonic);
	s->lane = calloc(s->lanes, sizeof(struct lane *));
	s->batch = calloc(s->batches, sizeof(struct batch)); /* large: not touched before it is used */

	int r = s->lane && s->batch ? start(s) : -ENOMEM;

	if (r < 0) {
		if (s->lane)
			shards_finish(s);
		shards_free(s);
		return r;
	}
	*ret = s;
	return 0;
}

/* It may wait for a pipe that nobody writes to. */
static void lane_join(struct shards *s, struct lane *l)
{
	for (;;) {
		struct timespec soon = in_ms(CLOCK_REALTIME, 10);

		if (pthread_timedjoin_np(l->thread, NULL, &soon) != ETIMEDOUT)
			return;
		if (s->fd >= 0) /* has a handler only then */
			pthread_kill(l->thread, SIGUSR1);
	}
}

int shards_finish(struct shards *s)
{
	pthread_mutex_lock(&s->lock);
	s->stop = true;
	pthread_cond_broadcast(&s->work);
	pthread_mutex_unlock(&s->lock);
	for (unsigned i = 0; i < s->lanes; i++) {
		struct lane *l = s->lane[i];

		if (l && l->started)
			lane_join(s, l);
	}
	return s->error;
}

void shards_free(struct shards *s)
{
	if (!s)
		return;
	for (unsigned i = 0; s->lane && i < s->lanes; i++) {
		if (s->lane[i])
			decoder_destroy(&s->lane[i]->d);
		free(s->lane[i]);
	}
	free(s->lane);
	free(s->batch);
	pthread_cond_destroy(&s->work);
	pthread_cond_destroy(&s->told);
	pthread_mutex_destroy(&s->lock);
	free(s);
}
