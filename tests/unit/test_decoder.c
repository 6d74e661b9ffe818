/* A decoder's thread on a source of its own: what it lists under traffic, among the events, and
 * what becomes of requests when it is busy, idle, full or ended.
 *
 * Also built with ThreadSanitizer. */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>
#include "../../daemon/common/log.c"
#include "../../daemon/synfind/rescue.c"
#include "../../daemon/synfind/ring_switch.c"
#include "../../daemon/synfind/decoder_state.c"
#include "../../daemon/synfind/pipeline.c"
#include "../../daemon/synfind/lister.c"
#include "../../daemon/synfind/links.c"
#include "../../daemon/synfind/decoder.c"
#include "tests/support/rand.h"
#include "tests/support/tap.h"
#include "wire/link.h"

/* ---- what a decoder needs besides ------------------------------------------------------------ */

unsigned options_inner(const struct options *o)
{
	(void)o;
	return 0;
}

bool options_dedupe(const struct options *o, bool shared)
{
	(void)o, (void)shared;
	return false;
}

struct bypass_kernel *bypass_filter_kernel(struct bypass_filter *f)
{
	(void)f;
	return NULL;
}

void bypass_filter_set_clock(struct bypass_filter *f)
{
	(void)f;
}

void bypass_filter_free(struct bypass_filter *f)
{
	(void)f;
}

/* ---- a source: connections that come and go -------------------------------------------------- */

enum { PORTS = 700, FRAME = 54, BATCH = 64, RING = 1024 };

struct traffic {
	struct source source; /* first */
	_Atomic int frames;   /* that may come; negative: any number */
	int fd;
	uint64_t rng; /* of its own: another thread */
	struct {
		uint32_t next[2];
		uint8_t step;
	} port[PORTS];
	uint8_t octets[BATCH][FRAME];
};

static uint32_t traffic_below(struct traffic *s, uint32_t n)
{
	s->rng = s->rng * 6364136223846793005u + 1442695040888963407u;
	return (uint32_t)((s->rng >> 32) * n >> 32);
}

static void write_frame(uint8_t *p, unsigned port, unsigned from, unsigned flags, uint32_t seq,
			uint32_t ack)
{
	const uint8_t head[] = { 2, 2, 2, 2, 2, 2, 4, 4, 4, 4, 4, 4, 8, 0, 0x45, 0, 0, 40 };
	uint16_t ports[2] = { htobe16((uint16_t)(from ? 80 : 1024 + port)),
			      htobe16((uint16_t)(from ? 1024 + port : 80)) };
	uint32_t numbers[2] = { htobe32(seq), htobe32(ack) };

	memset(p, 0, FRAME);
	memcpy(p, head, sizeof head);
	p[22] = 64;
	p[23] = 6;
	memcpy(p + 26, (uint8_t[4]){ 10, 0, 0, (uint8_t)(1 + from) }, 4);
	memcpy(p + 30, (uint8_t[4]){ 10, 0, 0, (uint8_t)(2 - from) }, 4);
	memcpy(p + 34, ports, 4);
	memcpy(p + 38, numbers, 8);
	p[46] = 0x50;
	p[47] = (uint8_t)flags;
	p[48] = 0xff;
}

/* The next segment of a connection of @port: a handshake, and mostly an end. */
static void next_frame(struct traffic *s, uint8_t *p, unsigned port)
{
	uint32_t *next = s->port[port].next;

	switch (s->port[port].step++) {
	case 0:
		for (unsigned i = 0; i < 2; i++)
			next[i] = traffic_below(s, UINT32_MAX);
		write_frame(p, port, 0, TCP_SYN, next[0]++, 0);
		break;
	case 1:
		write_frame(p, port, 1, TCP_SYN | TCP_ACK, next[1]++, next[0]);
		break;
	case 2:
		write_frame(p, port, 0, TCP_ACK, next[0], next[1]);
		break;
	case 3:
		write_frame(p, port, 0, TCP_FIN | TCP_ACK, next[0]++, next[1]);
		break;
	default:
		write_frame(p, port, 1, TCP_RST, next[1], next[0]);
		s->port[port].step = 0;
	}
}

static int traffic_next(struct source *source, struct frame *ret, unsigned max)
{
	struct traffic *s = (struct traffic *)source;
	int may = atomic_load(&s->frames);
	unsigned n = may < 0 || may > BATCH ? BATCH : (unsigned)may;
	eventfd_t wakes;

	n = n < max ? n : max;
	if (!n) {
		eventfd_read(s->fd, &wakes);
		return 0;
	}
	for (unsigned i = 0; i < n; i++) {
		/* Many ports rarely move, so that their connections stay for a walk. */
		unsigned port = traffic_below(s, traffic_below(s, 10) ? 100 : PORTS);

		next_frame(s, s->octets[i], port);
		ret[i] = (struct frame){ .data = s->octets[i],
					 .caplen = FRAME,
					 .len = FRAME,
					 .ts_ns = wall_clock_ns(),
					 .link = LINK_ETHERNET };
	}
	if (may > 0)
		atomic_fetch_sub(&s->frames, (int)n);
	return (int)n;
}

static const char *traffic_iface(struct source *s, unsigned index)
{
	(void)s, (void)index;
	return "eth0";
}

static int traffic_fd(struct source *s)
{
	return ((struct traffic *)s)->fd;
}

static void traffic_free(struct source *s)
{
	close(((struct traffic *)s)->fd);
	free(s);
}

static void traffic_position(const struct source *s, struct source_position *ret)
{
	(void)s;
	*ret = (struct source_position){ 0 };
}

static int traffic_counts(struct source *s, struct source_counts *ret)
{
	(void)s;
	*ret = (struct source_counts){ 0 };
	return 0;
}

static struct traffic *traffic_new(void)
{
	static const struct source_ops ops = { .next = traffic_next,
					       .iface = traffic_iface,
					       .fd = traffic_fd,
					       .free = traffic_free,
					       .position = traffic_position,
					       .take_counts = traffic_counts };
	struct traffic *s = calloc(1, sizeof *s);

	s->source.ops = &ops;
	s->fd = eventfd(0, EFD_NONBLOCK);
	s->rng = rand64();
	return s;
}

/* Lets @n more frames come, or any number. */
static void traffic_go(struct traffic *s, int n)
{
	if (n < 0)
		atomic_store(&s->frames, -1);
	else
		atomic_fetch_add(&s->frames, n);
	eventfd_write(s->fd, 1);
}

/* ---- the main thread's side ------------------------------------------------------------------ */

#ifdef __SANITIZE_THREAD__
enum { WALKS = 40, LISTS_DONE = 20 }; /* it is slow */
#else
enum { WALKS = 200, LISTS_DONE = 50 };
#endif

enum { FLOWS = 1 << 18, ASKERS = 5 };

struct flow_seen {
	uint64_t id, since;
	uint8_t state[2];
	bool open;
	unsigned at;		 /* in rig.list, while it is open */
	uint32_t listed[ASKERS]; /* in which of his walks */
};

struct asker {
	uint32_t walk, cursor, rows;
	uint64_t began; /* events then */
	bool waits;
	unsigned left; /* records of the answer under way */
};

struct rig {
	struct decoder d;
	struct traffic *traffic;
	void *memory;
	int wake_fd, stop_fd;
	struct flow_seen *seen;
	struct flow_seen *list[PORTS + 1]; /* those that are open */
	struct asker asker[ASKERS];
	uint64_t number, events, rows, lost;
	unsigned open, wrong, walks, missing, refused;
};

static struct flow_seen *seen_of(struct rig *r, uint64_t id)
{
	struct flow_seen *s = &r->seen[id % FLOWS];

	while (s->id && s->id != id)
		s = s + 1 < r->seen + FLOWS ? s + 1 : r->seen;
	s->id = id;
	return s;
}

static struct rig *rig_new(bool shared)
{
	static const struct options o = { .events = LINES_ALL,
					  .max_connections = 4096,
					  .max_half_open = 4096,
					  .event_ring_size = RING,
					  .timeout_syn_sent_ns = 70000000000,
					  .timeout_syn_received_ns = 70000000000,
					  .timeout_established_ns = 900000000000,
					  .timeout_half_closed_ns = 900000000000,
					  .timeout_closing_ns = 240000000000,
					  .timeout_time_wait_ns = 60000000000,
					  .timeout_reset_ns = 10000000000 };
	static const struct decoder_share share = { .of = 1 };
	struct decoder_state_sizes sizes = pipeline_sizes(&o, &share);
	size_t octets = decoder_state_octets(&sizes, true);
	struct rig *r = aligned_alloc(CACHE_LINE, LINE_UP(sizeof *r));

	memset(r, 0, sizeof *r);
	r->traffic = traffic_new();
	r->wake_fd = eventfd(0, EFD_NONBLOCK);
	r->stop_fd = eventfd(0, EFD_NONBLOCK);
	r->seen = calloc(FLOWS, sizeof *r->seen);
	if (shared)
		r->memory = mmap(NULL, octets, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS,
				 -1, 0);
	if (decoder_init(&r->d, &o, &r->traffic->source, NULL, &share, r->memory) < 0)
		abort();
	if (shared)
		decoder_state_sign(&r->d.state, &(struct decoder_ring){ .share = share });
	spsc_may_sleep(&r->d.ring);
	if (decoder_start(&r->d, r->wake_fd, r->stop_fd) < 0)
		abort();
	return r;
}

static void rig_stop(struct rig *r)
{
	atomic_store(&r->d.paused, true);
	atomic_store(&r->d.stopping, true);
	eventfd_write(r->stop_fd, 1);
	decoder_join(&r->d);
}

static void rig_free(struct rig *r)
{
	decoder_destroy(&r->d);
	close(r->wake_fd);
	close(r->stop_fd);
	free(r->seen);
	free(r);
}

static void take_event(struct rig *r, const struct event *e)
{
	struct flow_seen *f = seen_of(r, e->flow_id);

	r->number++;
	r->events++;
	if (e->kind == EVENT_TCP_OPEN) {
		r->wrong += f->open;
		*f = (struct flow_seen){
			.id = e->flow_id, .open = true, .since = r->events, .at = r->open
		};
		r->list[r->open] = f;
		r->open += r->open < PORTS;
	}
	memcpy(f->state, e->state, sizeof f->state);
	if (e->kind == EVENT_TCP_CLOSE) {
		f->open = false;
		r->list[f->at] = r->list[--r->open];
		r->list[f->at]->at = f->at;
	}
}

static void walk_ends(struct rig *r, struct asker *a)
{
	unsigned i = (unsigned)(a - r->asker);

	for (unsigned k = 0; k < r->open && !r->lost; k++)
		r->missing += r->list[k]->since <= a->began && r->list[k]->listed[i] != a->walk + 1;
	a->walk++;
	a->cursor = 0;
	a->began = r->events;
	r->walks++;
}

/* A row must be true at its place among the events. */
static void take_row(struct rig *r, const struct event *e)
{
	struct asker *a = &r->asker[e->snapshot.token % ASKERS];

	r->wrong += e->snapshot.token >= ASKERS || !a->waits ||
		    e->snapshot.generation != (uint16_t)a->walk ||
		    (a->left && e->snapshot.left != a->left - 1);
	a->left = e->snapshot.left;
	a->waits = a->left;
	a->cursor = e->snapshot.place;
	if (!e->snapshot.no_row) {
		struct flow_seen *f = seen_of(r, e->flow_id);

		r->rows++;
		if (!r->lost) {
			r->wrong += !f->open || memcmp(f->state, e->state, sizeof f->state);
			r->wrong += f->listed[a - r->asker] == a->walk + 1;
		}
		f->listed[a - r->asker] = a->walk + 1;
	}
	if (!a->waits && a->cursor == LISTING_END)
		walk_ends(r, a);
}

/* Takes what is ready. */
static unsigned drain(struct rig *r)
{
	unsigned n = spsc_ready(&r->d.ring);

	for (unsigned i = 0; i < n; i++) {
		const struct event *e = spsc_at(&r->d.ring, i);

		if (e->number != r->number) {
			r->lost += e->number - r->number;
			r->number = e->number;
		}
		if (e->kind == EVENT_SNAPSHOT)
			take_row(r, e);
		else
			take_event(r, e);
	}
	spsc_release(&r->d.ring, n);
	return n;
}

/* Sleeps until the thread wakes us, as the publisher does. */
static void wait_for_thread(struct rig *r)
{
	struct pollfd fd = { .fd = r->wake_fd, .events = POLLIN };
	eventfd_t n;

	if (!spsc_may_sleep(&r->d.ring))
		return;
	if (poll(&fd, 1, 30000) != 1) {
		printf("Bail out! the decoder does not wake the consumer\n");
		exit(1);
	}
	eventfd_read(r->wake_fd, &n);
}

static void ask(struct rig *r, unsigned i)
{
	struct asker *a = &r->asker[i];
	struct list_piece q = { .token = i,
				.generation = (uint16_t)a->walk,
				.rows = (uint16_t)(1 + i * 7),
				.cursor = a->cursor };

	if (a->waits)
		return;
	a->waits = decoder_list(&r->d, &q);
	r->refused += !a->waits;
}

/* So many records are in the ring. */
static uint32_t in_ring(const struct rig *r)
{
	return atomic_load(&r->d.ring.words->head) - atomic_load(&r->d.ring.words->tail);
}

/* More frames, but not more than the ring has space for: no event may be lost. */
static void feed(struct rig *r)
{
	if (!atomic_load(&r->traffic->frames) && in_ring(r) < RING / 4)
		traffic_go(r->traffic, RING / 8);
}

/* Some connections to begin with; all of their events are taken. */
static void begin(struct rig *r)
{
	uint64_t frames = 0;

	for (; frames < 5000; frames = counter_get(&r->d.count->verdicts[FRAME_TCP])) {
		feed(r);
		drain(r);
	}
	/* A piece is answered after all the frames that came before it. */
	while (atomic_load(&r->traffic->frames))
		drain(r);
	for (unsigned walk = r->asker[0].walk; r->asker[0].walk == walk;) {
		ask(r, 0);
		if (!drain(r))
			wait_for_thread(r);
	}
}

/* ---- tests ----------------------------------------------------------------------------------- */

static bool has_odd_port(const void *odd, const struct event *row)
{
	return row->port[0] % 2 == *(const unsigned *)odd;
}

/* Lists among it all: some are cancelled. */
static void lists_among(struct rig *r, struct list **l, unsigned *ret_done)
{
	static const unsigned odd = 1;

	if (*l && !list_is_over(*l)) {
		if (!below(50))
			list_cancel(*l);
		return;
	}
	if (*l && (*l)->state == LIST_DONE) {
		struct list *q = *l;

		++*ret_done;
		list_sort(q);
		for (uint32_t i = 0; i < q->n; i++) {
			r->wrong += q->row[i].e.port[0] % 2 != 1;
			r->wrong += i && q->row[i].e.snapshot.start_ns <
						 q->row[i - 1].e.snapshot.start_ns;
		}
	}
	list_free(*l);
	*l = list_new(LIST_OLDEST, 20);
	(*l)->match = has_odd_port;
	(*l)->filter = &odd;
	if (!decoder_list_all(&r->d, *l)) {
		r->refused++;
		list_free(*l);
		*l = NULL;
	}
}

static void test_traffic(bool shared)
{
	struct rig *r = rig_new(shared);
	const char *how = shared ? "in transactions" : "private";
	struct list *l = NULL;
	unsigned lists = 0;

	while (r->walks < WALKS || lists < LISTS_DONE) {
		feed(r);
		for (unsigned i = 0; i < ASKERS; i++)
			ask(r, i);
		lists_among(r, &l, &lists);
		if (!drain(r))
			wait_for_thread(r);
	}
	rig_stop(r);
	while (drain(r))
		;
	printf("# %llu events, %llu rows, %llu events lost, %u lists\n",
	       (unsigned long long)r->events, (unsigned long long)r->rows,
	       (unsigned long long)r->lost, lists);
	ok(!r->wrong && r->rows > 1000,
	   "%s: under traffic each row is true at its place among the events", how);
	ok(!r->missing, "%s: and what is open during a whole walk is listed", how);
	ok(!r->refused && !r->lost, "%s: no request is refused, and no event is lost", how);
	ok(list_is_over(l), "%s: the end of the decoder gives a list back", how);
	list_free(l);
	rig_free(r);
}

/* No traffic: the thread sleeps in poll() for up to a second. */
static void test_idle(void)
{
	struct rig *r = rig_new(true);
	struct list *l = list_new(LIST_NEWEST, 10);
	uint64_t began;

	begin(r);
	began = clock_ns(CLOCK_MONOTONIC);
	for (unsigned walks = 0; walks < 20; walks = r->asker[1].walk) {
		ask(r, 1);
		if (!drain(r))
			wait_for_thread(r);
	}
	/* Twenty walks of several pieces each: a thread that slept through a tick each time would
	 * take minutes. */
	ok(!r->wrong && !r->missing && r->rows >= 20ull * r->open &&
		   clock_ns(CLOCK_MONOTONIC) - began < 10000000000,
	   "without traffic a piece wakes the thread");
	decoder_list_all(&r->d, l);
	while (!list_is_over(l)) {
		drain(r);
		wait_for_thread(r);
	}
	drain(r);
	list_sort(l);
	ok(l->state == LIST_DONE && l->n == 10 && l->open == r->open && l->matched == r->open,
	   "and so does a list, which wakes the one who asked");
	list_free(l);
	rig_stop(r);
	rig_free(r);
}

static void test_full(void)
{
	struct rig *r = rig_new(true);
	unsigned answered = 0;
	uint32_t before;

	/* Connections first, and their events out of the way. */
	begin(r);
	/* Then the consumer does not read, and the ring fills beyond the part for rows. */
	traffic_go(r->traffic, 400);
	while (in_ring(r) < RING / LIST_RING_PART + BATCH)
		sched_yield();
	for (unsigned i = 0; i < LIST_PIECES; i++) {
		struct list_piece q = { .token = 4, .rows = 32 };

		answered += decoder_list(&r->d, &q);
	}
	while (atomic_load(&r->traffic->frames))
		sched_yield();
	/* Time enough to answer all of them, if that were right. */
	for (uint64_t beats = counter_get(&r->d.count->beats);
	     counter_get(&r->d.count->beats) < beats + 2 * LIST_PIECES;)
		sched_yield();
	before = in_ring(r);
	traffic_go(r->traffic, 200);
	while (atomic_load(&r->traffic->frames))
		sched_yield();
	ok(answered == LIST_PIECES && before < RING && !counter_get(&r->d.count->lost),
	   "pieces wait for a consumer that does not read, and no event is lost (%u in the ring)",
	   in_ring(r));
	/* Once it reads, all are answered. */
	uint64_t rows = 0, number = r->number;

	for (unsigned over = 0; over < answered;) {
		unsigned n = spsc_ready(&r->d.ring);

		for (unsigned i = 0; i < n; i++) {
			const struct event *e = spsc_at(&r->d.ring, i);

			r->wrong += e->number != number;
			number += e->kind != EVENT_SNAPSHOT;
			rows += e->kind == EVENT_SNAPSHOT;
			over += e->kind == EVENT_SNAPSHOT && !e->snapshot.left;
		}
		spsc_release(&r->d.ring, n);
		if (!n)
			wait_for_thread(r);
	}
	ok(!r->wrong && rows == 32ull * answered && !counter_get(&r->d.count->lost),
	   "then all are answered, and the numbers of events have no gap");
	rig_stop(r);
	rig_free(r);
}

static void test_end(void)
{
	unsigned over = 0, taken = 0, refused = 0, dropped = 0;

	for (unsigned i = 0; i < 30; i++) {
		struct rig *r = rig_new(i & 1);
		struct list *l[LISTS], *late = list_new(LIST_OLDEST, 10);
		struct list_piece q = { .rows = 5 };
		bool had[LISTS];

		traffic_go(r->traffic, i & 2 ? -1 : 500);
		for (unsigned k = 0; k < LISTS; k++) {
			l[k] = list_new(LIST_OLDEST, 100);
			had[k] = decoder_list_all(&r->d, l[k]);
		}
		for (unsigned k = 0; k < 10; k++)
			decoder_list(&r->d, &q);
		rig_stop(r);
		for (unsigned k = 0; k < LISTS; k++) {
			taken += had[k];
			over += had[k] && list_is_over(l[k]);
			dropped += had[k] && l[k]->state == LIST_DROPPED;
			list_free(l[k]);
		}
		refused += !decoder_list(&r->d, &q) && !decoder_list_all(&r->d, late);
		list_free(late);
		rig_free(r);
	}
	printf("# %u lists taken, %u dropped\n", taken, dropped);
	ok(taken == 30 * LISTS && over == taken,
	   "at the end each list is handed back, whether it is done or not");
	ok(refused == 30, "afterwards nothing is taken");
}

int main(void)
{
	rng = tap_seed(20261202);
	test_traffic(true);
	test_traffic(false);
	test_idle();
	test_full();
	test_end();
	return tap_done();
}
