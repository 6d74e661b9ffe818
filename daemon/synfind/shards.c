#include "synfind/shards.h"
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
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
	BATCH = 1024, /* frames; some 50 us of work */
	BATCHES =
		/* of each lane, on their way to others, so that they may be behind for a while */
	4,
	OPTIONS_MAX = 40, /* of a TCP header, RFC 9293 3.1 */
};
enum { SPINS = 1000 };	   /* of some 20 ns */
enum { IS_ICMP = 0x8000 }; /* besides the place within the batch */

/* When something is told: each frame has two moments.  In the first one time goes on, for all
 * lanes; in the second one its lane has the segment.  The end of the file comes after all. */
#define MOMENT(frame) ((frame)*2)
#define AT_THE_END    (UINT64_MAX - 1)
#define THROUGH	      UINT64_MAX

#define NO_TIME UINT64_MAX

/* Which lane a connection is in follows from the file alone. */
static const uint64_t fixed_secret = 0x73796e66696e64;

/* As tracker_advance() has it. */
static const uint64_t sweep_every_ns = 1000000000, clock_step_ns = 10000000000;

/* What is one lane's of a batch. */
struct part {
	unsigned n;
	uint16_t at[BATCH]; /* place within the batch, and IS_ICMP */
	struct segment segment[BATCH];
};

/* Frames between being read and being tracked by all lanes.  It always belongs to the same lane, so
 * that of its memory only what is for others goes from one processor to another. */
struct batch {
	uint64_t first; /* number of its first frame */
	unsigned frames;
	unsigned left; /* lanes that have not tracked it; 0: free */
	bool decoded;
	unsigned segments;
	bool sorted; /* their times do not run backwards; the first and the last: */
	uint64_t from_ns, to_ns;
	struct part *part;     /* of each lane */
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
	uint64_t next;	     /* batch that it tracks next */
	uint64_t moment;     /* of what is told now, unless ... */
	const uint16_t *run; /* ... these are fed at once: their places within the batch ... */
	uint64_t run_from;   /* ... that begins with this frame */
	struct batch batch[BATCHES];
	uint64_t now_ns, sweep_at_ns; /* the tracker's time, had it seen all segments of the file */
	CACHE_ALIGNED _Atomic uint64_t done; /* all events of moments before this are in the ring */

	/* the consumer's: no event of this lane is of a moment before this */
	CACHE_ALIGNED uint64_t low;
	bool ready; /* its next event is of that one */

	CACHE_ALIGNED struct frame frames[BATCH];
};

struct iface_name {
	char name[PCAPFILE_NAME_MAX + 1];
	uint64_t since; /* frame */
};

struct shards {
	const struct options *o;
	struct source *source; /* who holds the baton uses it */
	int fd;	     /* of a source whose frames go away at the next call; -1: they stay */
	bool serial; /* decode before the baton is given on */
	struct lane **lane;
	unsigned lanes;
	struct part *parts;   /* of all batches */
	struct batch **batch; /* those on their way, by number */
	unsigned batches;
	struct lane *cursor; /* by the consumer: the lane of the event that it has */

	pthread_mutex_t lock;	 /* of all below, and of `left` and `decoded` of batches */
	pthread_cond_t work;	 /* a lane may have something to do */
	pthread_cond_t reported; /* the consumer may */
	bool baton, ended, stop;
	_Atomic uint32_t stirred; /* times that lanes were told; also looked at without the lock */
	uint64_t issued;	  /* batches so far */
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
	pthread_cond_signal(&s->reported);
}

static void tell_lanes(struct shards *s)
{
	atomic_fetch_add_explicit(&s->stirred, 1, memory_order_relaxed);
	pthread_cond_broadcast(&s->work);
}

/* Of a segment at place @at of the batch that begins with frame @first. */
static uint64_t moment_of(uint64_t first, uint16_t at)
{
	return MOMENT(first + (at & ~IS_ICMP)) + 1;
}

static struct event *lane_reserve(struct event_sink *sink)
{
	struct lane *l = (struct lane *)((char *)sink - offsetof(struct decoder, sink));
	struct shards *s = l->shards;

	if (s->o->quiet) {
		counter_add(&l->d.count->events, 1);
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

	l->d.slot->number = l->run ? moment_of(l->run_from, l->run[sink->current]) : l->moment;
	spsc_commit(&l->d.ring);
	counter_add(&l->d.count->events, 1);
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

/* The frames of one batch; fewer are the last, or (a pipe) all that is there.  Stays in the steps
 * of a single decoder, so that an interface is known from the same frame on. */
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

static void note_time(struct batch *b, unsigned i, uint64_t ts_ns)
{
	b->ts_ns[i] = ts_ns;
	if (!b->segments++)
		b->from_ns = ts_ns;
	else if (ts_ns < b->to_ns)
		b->sorted = false;
	b->to_ns = ts_ns;
}

/* To the part of the lane that has its connection. */
static void deal(const struct shards *s, struct batch *b, uint16_t at, const struct segment *g)
{
	struct part *p = &b->part[(uint64_t)fanout_hash_of(fixed_secret, g) * s->lanes >> 32];
	struct segment *to = &p->segment[p->n];

	*to = *g;
	p->at[p->n++] = at;
	if (s->fd >= 0 && !(at & IS_ICMP) && g->options.n) {
		memcpy(b->options[at], g->options.p, g->options.n);
		to->options.p = b->options[at];
	}
}

/* Frames of @l to segments of @b. */
static void decode(struct shards *s, struct lane *l, struct batch *b)
{
	struct decoder *numbers = &s->lane[0]->d; /* those of tunnels */
	uint64_t verdicts[FRAME_VERDICTS] = { 0 };
	unsigned bad_checksum = 0, filtered = 0;

	b->segments = 0;
	b->sorted = true;
	for (unsigned k = 0; k < s->lanes; k++)
		b->part[k].n = 0;
	/* A few at a time: who reads what was written a moment ago, in other pieces, waits. */
	for (unsigned i = 0; i < b->frames;) {
		struct segment segment[DECODER_BATCH];
		uint16_t at[DECODER_BATCH];
		unsigned n = 0;

		for (unsigned end = i + DECODER_BATCH; i < end && i < b->frames; i++) {
			struct frame *f = &l->frames[i];
			struct segment *g = &segment[n];
			enum frame_verdict v = decoder_decode(numbers, f, g);

			verdicts[v]++;
			b->ts_ns[i] = NO_TIME;
			if (v != FRAME_TCP && v != FRAME_ICMP)
				continue;
			if (v == FRAME_TCP && f->unverified)
				bad_checksum += checksum_wrong(g, f->data + f->caplen);
			if (v == FRAME_TCP && numbers->control && !segment_is_control(g)) {
				filtered++; /* to the tracker not even its time is shown */
				continue;
			}
			note_time(b, i, g->ts_ns);
			at[n++] = (uint16_t)(v == FRAME_ICMP ? i | IS_ICMP : i);
		}
		for (unsigned k = 0; k < n; k++)
			deal(s, b, at[k], &segment[k]);
	}
	counter_add(&l->d.count->bad_checksum, bad_checksum);
	counter_add(&l->d.count->filtered, filtered);
	for (unsigned v = 0; v < FRAME_VERDICTS; v++)
		counter_add(&l->d.count->verdicts[v], verdicts[v]);
}

/* ---- tracking ------------------------------------------------------------------------------- */

static void input_one(struct lane *l, const struct batch *b, const struct part *p, unsigned k)
{
	l->moment = moment_of(b->first, p->at[k]);
	if (p->at[k] & IS_ICMP)
		tracker_unreachable(l->d.tracker, &p->segment[k]);
	else
		tracker_input(l->d.tracker, &p->segment[k], 1);
}

/* All of @p: no sweep is due, so that each event is that of a segment. */
static void input_all(struct lane *l, const struct batch *b, const struct part *p)
{
	l->run_from = b->first;
	for (unsigned k = 0, n; k < p->n; k += n) {
		for (n = 0; n < TRACKER_BATCH && k + n < p->n && !(p->at[k + n] & IS_ICMP); n++)
			;
		if (n) {
			l->run = &p->at[k];
			tracker_input(l->d.tracker, &p->segment[k], n);
			l->run = NULL;
		} else {
			input_one(l, b, p, k++);
		}
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
	const struct part *p = &b->part[l->index];
	unsigned k = 0;

	if (!b->segments)
		return;
	if (b->sorted && b->from_ns >= l->now_ns && b->to_ns < l->sweep_at_ns) {
		input_all(l, b, p);
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
		if (k < p->n && (p->at[k] & ~IS_ICMP) == i)
			input_one(l, b, p, k++);
	}
}

static inline void cpu_relax(void)
{
#if defined(__x86_64__) || defined(__i386__)
	__builtin_ia32_pause();
#elif defined(__aarch64__)
	__asm__ volatile("yield");
#endif
}

/* ---- threads -------------------------------------------------------------------------------- */

static bool readable(int fd)
{
	return poll(&(struct pollfd){ .fd = fd, .events = POLLIN }, 1, 0) > 0;
}

static struct batch *batch_of(const struct shards *s, uint64_t number)
{
	return s->batch[number % s->batches];
}

/* Locked.  One of @l that nobody needs any more, rather one that was in use lately; or NULL. */
static struct batch *batch_free(struct lane *l)
{
	for (unsigned i = 0; i < BATCHES; i++)
		if (!l->batch[i].left)
			return &l->batch[i];
	return NULL;
}

/* Locked.  Is a batch ready for this lane? */
static bool may_track(const struct shards *s, const struct lane *l)
{
	return l->next < s->issued && batch_of(s, l->next)->decoded;
}

/* Locked.  Who has to wait for a pipe must not keep others waiting for its own lane. */
static bool may_pull(const struct shards *s, struct lane *l)
{
	return !s->ended && !s->baton && batch_free(l) &&
	       (s->fd < 0 || l->next == s->issued || readable(s->fd));
}

/* Locked, and unlocked meanwhile. */
static void pull_and_decode(struct shards *s, struct lane *l)
{
	struct batch *b = batch_free(l);
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
		s->batch[s->issued++ % s->batches] = b;
		b->left = s->lanes;
		b->decoded = s->serial;
	}
	if (r != -EINTR && (r < 0 || !b->frames)) {
		s->ended = true;
		s->error = r;
	}
	tell_lanes(s);
	if (!b->frames || s->serial)
		return;
	pthread_mutex_unlock(&s->lock);
	decode(s, l, b);
	pthread_mutex_lock(&s->lock);
	b->decoded = true;
	tell_lanes(s);
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
		tell_lanes(s);
	if (!s->o->quiet)
		tell_consumer(s);
}

/* Locked, and unlocked meanwhile.  What it waits for takes another lane as long as a thread takes
 * to wake up: it does not sleep at once, but for a pipe. */
static void wait_for_work(struct shards *s)
{
	uint32_t seen = atomic_load_explicit(&s->stirred, memory_order_relaxed);

	if (s->fd < 0) {
		pthread_mutex_unlock(&s->lock);
		for (unsigned i = 0; i < SPINS; i++) {
			if (atomic_load_explicit(&s->stirred, memory_order_relaxed) != seen)
				break;
			cpu_relax();
		}
		pthread_mutex_lock(&s->lock);
	}
	if (atomic_load_explicit(&s->stirred, memory_order_relaxed) == seen)
		pthread_cond_wait(&s->work, &s->lock);
}

static void *lane_run(void *arg)
{
	struct lane *l = arg;
	struct shards *s = l->shards;

	pthread_mutex_lock(&s->lock);
	while (!s->stop) {
		if (may_track(s, l)) /* while it is in the cache */
			track_next(s, l);
		else if (may_pull(s, l))
			pull_and_decode(s, l);
		else if (s->ended && l->next == s->issued)
			break;
		else
			wait_for_work(s);
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
	tell_lanes(s); /* rings that were full have room */
	while (s->changes == changes && !r)
		r = wait_ms < 0 ? pthread_cond_wait(&s->reported, &s->lock)
				: pthread_cond_timedwait(&s->reported, &s->lock, &until);
	pthread_mutex_unlock(&s->lock);
	return !r;
}

enum shards_verdict shards_next(struct shards *s, int wait_ms, const struct event **ret)
{
	if (s->cursor) {
		spsc_release(&s->cursor->d.ring, 1);
		look(s->cursor);
		s->cursor = NULL;
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
		s->cursor = l;
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
	uint64_t moment = s->cursor ? s->cursor->low : THROUGH;
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
				       .max_syn = s->o->max_half_open,
				       .max_full = s->o->max_connections };
	for (unsigned i = 0; i < s->lanes; i++) {
		decoder_read_counters(&s->lane[i]->d, iface, &d);
		ret->opened += d.opened;
		ret->closed += d.closed;
		ret->syn_entries += d.syn_entries;
		ret->full_entries += d.full_entries;
		ret->evicted_syn += d.evicted_syn;
		ret->evicted_full += d.evicted_full;
		ret->anomalies += d.anomalies;
		ret->anomalies_suppressed += d.anomalies_suppressed;
		ret->unmatched += d.unmatched;
		ret->floods += d.floods;
		ret->deferred += d.deferred;
		ret->suppressed += d.suppressed;
		ret->unwatched += d.unwatched;
		ret->bad_checksum += d.bad_checksum;
		ret->filtered += d.filtered;
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
	int r = decoder_init(&l->d, s->o, NULL, NULL, NULL, 0, &share);

	if (r < 0)
		return r;
	l->d.sink = (struct event_sink){ .reserve = lane_reserve, .commit = lane_commit };
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
		for (unsigned k = 0; k < BATCHES; k++)
			l->batch[k].part = s->parts + (i * BATCHES + k) * s->lanes;
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

/* A part has room for all of a batch, though it mostly gets but its share. */
static size_t parts_octets(const struct shards *s)
{
	return (size_t)s->batches * s->lanes * sizeof(struct part);
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
	s->batches = s->lanes * BATCHES;
	pthread_mutex_init(&s->lock, NULL);
	pthread_condattr_init(&monotonic);
	pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
	pthread_cond_init(&s->work, NULL);
	pthread_cond_init(&s->reported, &monotonic);
	pthread_condattr_destroy(&monotonic);
	s->lane = calloc(s->lanes, sizeof(struct lane *));
	s->batch = calloc(s->batches, sizeof(struct batch *));
	s->parts = map_lazily(parts_octets(s));

	int r = s->lane && s->batch && s->parts ? start(s) : -ENOMEM;

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
	tell_lanes(s);
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
	if (s->parts)
		munmap(s->parts, parts_octets(s));
	pthread_cond_destroy(&s->work);
	pthread_cond_destroy(&s->reported);
	pthread_mutex_destroy(&s->lock);
	free(s);
}
