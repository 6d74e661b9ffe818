/* Header-only, so that it also builds alone under ThreadSanitizer. */
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>
#include "base/spsc.h"
#include "tests/support/tap.h"

enum { WORDS = 6, SLOTS = 64 };

/* A record that shows when it is torn or out of place. */
struct record {
	uint64_t w[WORDS];
};

static uint64_t rng_next(uint64_t *s) /* splitmix64 */
{
	uint64_t z = *s += 0x9e3779b97f4a7c15u;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
	z = (z ^ z >> 27) * 0x94d049bb133111ebu;
	return z ^ z >> 31;
}

static void record_fill(struct record *r, uint64_t number)
{
	uint64_t s = number;

	r->w[0] = number;
	for (unsigned i = 1; i < WORDS; i++)
		r->w[i] = rng_next(&s);
}

static bool record_is(const struct record *r, uint64_t number)
{
	struct record want;

	record_fill(&want, number);
	return !memcmp(r, &want, sizeof want);
}

/* ---- one thread ----------------------------------------------------------------------------- */

static void test_order_and_bounds(uint32_t first, const char *where)
{
	CACHE_ALIGNED static unsigned char mem[SPSC_OCTETS(8, sizeof(struct record))];
	uint64_t in = 0, out = 0;
	unsigned wrong = 0, taken;
	struct spsc r;

	spsc_init(&r, mem, 8, sizeof(struct record), first);
	ok(!spsc_ready(&r), "%s: a new ring is empty", where);

	struct record *slot = spsc_reserve(&r);

	ok(slot && slot == spsc_reserve(&r) && !spsc_ready(&r),
	   "%s: reserving twice gives one slot, and shows nothing", where);
	while ((slot = spsc_reserve(&r))) {
		record_fill(slot, in++);
		spsc_commit(&r);
	}
	ok(in == 8, "%s: it takes as many records as it has slots", where);
	ok(!spsc_reserve(&r) && spsc_ready(&r) == 8, "%s: a refusal changes nothing", where);
	spsc_release(&r, 1);
	out++;
	ok(spsc_reserve(&r) != NULL, "%s: one given back makes room for one", where);
	for (taken = 0; taken < 7; taken++)
		wrong += !record_is(spsc_at(&r, taken), out + taken);
	ok(!wrong, "%s: they come out in order, by position", where);
	spsc_release(&r, 7);
	out += 7;
	ok(!spsc_ready(&r), "%s: empty again", where);

	for (unsigned round = 0; round < 1000; round++) {
		for (unsigned n = round % 9; n && (slot = spsc_reserve(&r)); n--) {
			record_fill(slot, in++);
			spsc_commit(&r);
		}
		uint32_t ready = spsc_ready(&r), take = ready ? 1 + round % ready : 0;

		for (uint32_t i = 0; i < take; i++)
			wrong += !record_is(spsc_at(&r, i), out++);
		spsc_release(&r, take);
	}
	ok(!wrong && out > 2000, "%s: first in, first out over a thousand uneven rounds", where);
}

static void test_must_wake(void)
{
	CACHE_ALIGNED static unsigned char mem[SPSC_OCTETS(2, sizeof(struct record))];
	struct spsc r;

	spsc_init(&r, mem, 2, sizeof(struct record), 0);
	ok(!spsc_must_wake(&r), "a consumer that is awake is not woken");
	ok(spsc_may_sleep(&r), "it may sleep when nothing is there");
	ok(spsc_must_wake(&r) && !spsc_must_wake(&r), "a sleeper is woken, and only once");
	spsc_reserve(&r);
	spsc_commit(&r);
	ok(!spsc_may_sleep(&r) && !spsc_must_wake(&r),
	   "it may not sleep when something is there, and then needs no waking");
}

/* ---- staged records, and a process that continues with the ring of another
 * ---------------------- */

/* Writes records @from .. @to - 1 without showing them. */
static void stage(struct spsc *r, uint64_t from, uint64_t to)
{
	for (uint64_t n = from; n < to; n++) {
		record_fill(spsc_reserve(r), n);
		spsc_stage(r);
	}
}

static unsigned wrong_records(struct spsc *r, uint64_t from, uint64_t to)
{
	unsigned wrong = spsc_ready(r) != to - from;

	for (uint64_t n = from; n < to && !wrong; n++)
		wrong += !record_is(spsc_at(r, (uint32_t)(n - from)), n);
	return wrong;
}

static void test_staged(uint32_t first, const char *where)
{
	CACHE_ALIGNED static unsigned char mem[SPSC_OCTETS(8, sizeof(struct record))];
	struct spsc r;

	spsc_init(&r, mem, 8, sizeof(struct record), first);
	stage(&r, 0, 3);
	ok(!spsc_ready(&r) && spsc_may_sleep(&r), "%s: what is staged is not seen", where);
	spsc_publish(&r);
	ok(!wrong_records(&r, 0, 3), "%s: once published all of it is", where);
	stage(&r, 3, 8);
	ok(!spsc_reserve(&r) && !spsc_space(&r), "%s: what is staged takes room", where);
	spsc_release(&r, 2);
	ok(spsc_space(&r) == 2 && spsc_reserve(&r), "%s: what is given back is room again", where);
}

static void test_adopted(uint32_t first, const char *where)
{
	CACHE_ALIGNED static unsigned char mem[SPSC_OCTETS(8, sizeof(struct record))];
	struct spsc old, r;
	struct spsc_words *w = (struct spsc_words *)mem;

	spsc_init(&old, mem, 8, sizeof(struct record), first);
	stage(&old, 0, 4);
	spsc_publish(&old);
	spsc_may_sleep(&old);
	atomic_store(&w->asleep, 1);
	spsc_release(&old, 1);

	uint32_t committed = w->staged;

	stage(&old, 4, 7); /* and here it ends */
	w->staged = committed;
	ok(spsc_adopt(&r, mem, 8, sizeof(struct record)) && !wrong_records(&r, 1, 4),
	   "%s: adopted, it has what was published and not yet taken", where);
	ok(!spsc_must_wake(&r), "%s: no sleeper is announced", where);
	stage(&r, 4, 6);
	ok(spsc_adopt(&r, mem, 8, sizeof(struct record)) && !wrong_records(&r, 1, 6),
	   "%s: what was staged and stands is published", where);
	ok(spsc_resume_tail(&r, first + 5) && !wrong_records(&r, 5, 6) && spsc_space(&r) == 7,
	   "%s: its consumer continues where it had come to", where);
	ok(!spsc_resume_tail(&r, first + 7) && !spsc_resume_tail(&r, first - 3) &&
		   !wrong_records(&r, 5, 6),
	   "%s: but not at what was never there", where);
	atomic_store(&w->tail, w->staged + 1);
	ok(!spsc_adopt(&r, mem, 8, sizeof(struct record)), "%s: a ring that cannot be is refused",
	   where);
}

/* ---- two threads ---------------------------------------------------------------------------- */

struct stream_state {
	struct spsc ring;
	CACHE_ALIGNED unsigned char mem[SPSC_OCTETS(SLOTS, sizeof(struct record))];
	uint64_t total, seed;
	uint64_t full, empty; /* times that a side found it so; each is one thread's own */
	unsigned wrong;
	int wake; /* eventfd */
	uint64_t wakes, sleeps, announced;
};

/* Now and then long enough for the other side to run into the end of the ring. */
static void dawdle(uint64_t *rng)
{
	if (rng_next(rng) % 128)
		return;
	for (volatile unsigned spin = rng_next(rng) % 4096; spin; spin--)
		;
}

static void *produce(void *arg)
{
	struct stream_state *s = arg;
	uint64_t rng = s->seed;

	for (uint64_t n = 0; n < s->total;) {
		struct record *slot = spsc_reserve(&s->ring);

		if (!slot) {
			s->full++;
			sched_yield();
			continue;
		}
		record_fill(slot, n++);
		spsc_commit(&s->ring);
		dawdle(&rng);
	}
	return NULL;
}

/* In batches of uneven size, each seen completely or not at all. */
static void *produce_batches(void *arg)
{
	struct stream_state *s = arg;
	uint64_t rng = s->seed;

	for (uint64_t n = 0; n < s->total;) {
		uint32_t want = 1 + (uint32_t)(rng_next(&rng) % 16);

		if (spsc_space(&s->ring) < want) {
			s->full++;
			sched_yield();
			continue;
		}
		for (; want && n < s->total; want--) {
			struct record *slot = spsc_reserve(&s->ring);

			if (!slot)
				abort();
			record_fill(slot, n++);
			spsc_stage(&s->ring);
			dawdle(&rng);
		}
		spsc_publish(&s->ring);
	}
	return NULL;
}

static void *consume(void *arg)
{
	struct stream_state *s = arg;
	uint64_t rng = s->seed ^ 1;

	for (uint64_t n = 0; n < s->total;) {
		uint32_t ready = spsc_ready(&s->ring);

		if (!ready) {
			s->empty++;
			sched_yield();
			continue;
		}
		uint32_t take = 1 + (uint32_t)(rng_next(&rng) % ready);

		for (uint32_t i = 0; i < take; i++)
			s->wrong += !record_is(spsc_at(&s->ring, i), n++);
		spsc_release(&s->ring, take);
		dawdle(&rng);
	}
	return NULL;
}

static void run_both(struct stream_state *s, void *(*producer)(void *), void *(*consumer)(void *))
{
	pthread_t p, c;

	if (pthread_create(&c, NULL, consumer, s) || pthread_create(&p, NULL, producer, s))
		abort();
	pthread_join(p, NULL);
	pthread_join(c, NULL);
}

static void test_two_threads(uint64_t seed, void *(*producer)(void *), const char *how)
{
	static struct stream_state s;

	s = (struct stream_state){ .total = 2000000, .seed = seed };
	/* The indices turn over in the middle of it. */
	spsc_init(&s.ring, s.mem, SLOTS, sizeof(struct record), UINT32_MAX - 1000000);
	run_both(&s, producer, consume);
	printf("# found full %llu times, empty %llu times\n", (unsigned long long)s.full,
	       (unsigned long long)s.empty);
	ok(!s.wrong,
	   "two threads, %s: every record complete and in order, across the turn of the indices",
	   how);
	ok(s.full && s.empty, "two threads, %s: the ring was full at times and empty at others",
	   how);
	ok(!spsc_ready(&s.ring), "two threads, %s: nothing more came out than went in", how);
}

/* ---- sleep and wake ------------------------------------------------------------------------- */

enum { WAKE_MS = 5000 /* who is not woken by then never is */ };

static bool sleep_until_woken(struct stream_state *s)
{
	struct pollfd fd = { .fd = s->wake, .events = POLLIN };
	uint64_t v;

	s->sleeps++;
	if (poll(&fd, 1, WAKE_MS) != 1)
		return false;
	return read(s->wake, &v, sizeof v) == sizeof v;
}

/* One record at a time, each published just as the consumer lies down: the narrowest place. */
static void *produce_waking(void *arg)
{
	struct stream_state *s = arg;
	uint64_t rng = s->seed;

	for (uint64_t n = 0; n < s->total;) {
		struct record *slot = spsc_reserve(&s->ring);

		if (slot) {
			record_fill(slot, n++);
			spsc_commit(&s->ring);
			if (spsc_must_wake(&s->ring)) {
				s->wakes++;
				if (write(s->wake, &(uint64_t){ 1 }, sizeof(uint64_t)) < 0)
					abort();
			}
		} else {
			s->full++;
			sched_yield();
		}
		for (volatile unsigned spin = rng_next(&rng) % 256; spin; spin--)
			;
	}
	return NULL;
}

static void *consume_sleeping(void *arg)
{
	struct stream_state *s = arg;

	for (uint64_t n = 0; n < s->total;) {
		uint32_t ready = spsc_ready(&s->ring);

		for (uint32_t i = 0; i < ready; i++)
			s->wrong += !record_is(spsc_at(&s->ring, i), n++);
		spsc_release(&s->ring, ready);
		if (n == s->total)
			break;
		s->announced++;
		if (!spsc_may_sleep(&s->ring))
			continue;
		if (!sleep_until_woken(s)) {
			s->empty++; /* lost: go on by hand, so that the test ends */
			spsc_must_wake(&s->ring);
		}
	}
	return NULL;
}

static void test_wake_ups(uint64_t seed)
{
	static struct stream_state s;

	s = (struct stream_state){ .total = 300000, .seed = seed, .wake = eventfd(0, EFD_CLOEXEC) };
	spsc_init(&s.ring, s.mem, SLOTS, sizeof(struct record), UINT32_MAX - 1000);
	run_both(&s, produce_waking, consume_sleeping);
	printf("# %llu sleeps, %llu wake-ups\n", (unsigned long long)s.sleeps,
	       (unsigned long long)s.wakes);
	ok(!s.empty, "sleep and wake: no wake-up is lost");
	ok(!s.wrong, "sleep and wake: every record complete and in order");
	/* More than one for each sleep, since a consumer may find the record by itself. */
	ok(s.sleeps && s.sleeps <= s.wakes && s.wakes <= s.announced,
	   "sleep and wake: at most one wake-up each time that sleep is announced");
	close(s.wake);
}

/* The bare protocol, without any sleeping, both sides let loose at the same moment: on x86 it is
 * the one place where a missing fence shows (a store passed by the load after it). */
struct litmus {
	struct spsc ring;
	CACHE_ALIGNED unsigned char mem[SPSC_OCTETS(SLOTS, sizeof(struct record))];
	CACHE_ALIGNED _Atomic unsigned round[2];
	unsigned rounds, lost, lay_down, woken;
	CACHE_ALIGNED _Atomic bool wakes;
};

/* Both have come to @round; a long wait yields the processor. */
static void meet(struct litmus *l, unsigned me, unsigned round)
{
	atomic_store_explicit(&l->round[me], round, memory_order_release);
	for (unsigned spin = 0; atomic_load_explicit(&l->round[!me], memory_order_acquire) < round;)
		if (++spin % 1024 == 0)
			sched_yield();
}

static void skew(unsigned n)
{
	for (volatile unsigned spin = n; spin; spin--)
		;
}

/* The calling thread to the @n-th processor that it may use: on one alone nothing races. */
static void pin(unsigned n)
{
	cpu_set_t all, one;

	CPU_ZERO(&one);
	if (sched_getaffinity(0, sizeof all, &all) < 0)
		return;
	for (int cpu = 0; cpu < CPU_SETSIZE; cpu++)
		if (CPU_ISSET(cpu, &all) && !n--)
			CPU_SET(cpu, &one);
	if (CPU_COUNT(&one))
		pthread_setaffinity_np(pthread_self(), sizeof one, &one);
}

static void *litmus_produce(void *arg)
{
	struct litmus *l = arg;

	pin(1);

	for (unsigned i = 1; i <= l->rounds; i++) {
		record_fill(spsc_reserve(&l->ring), i);
		meet(l, 0, 2 * i);
		skew(i / 64 % 64);
		spsc_commit(&l->ring);
		atomic_store_explicit(&l->wakes, spsc_must_wake(&l->ring), memory_order_relaxed);
		meet(l, 0, 2 * i + 1);
	}
	return NULL;
}

enum { RACE_S = 20 };

static void test_wake_race(void)
{
	static struct litmus l;
	cpu_set_t before;
	pthread_t t;
	unsigned wrong = 0;
	time_t end = time(NULL) + RACE_S;

	l.rounds = 400000;
	spsc_init(&l.ring, l.mem, SLOTS, sizeof(struct record), 0);
	if (sched_getaffinity(0, sizeof before, &before) < 0 ||
	    pthread_create(&t, NULL, litmus_produce, &l))
		abort();
	pin(0);
	for (unsigned i = 1; i <= l.rounds; i++) {
		meet(&l, 1, 2 * i);
		skew(i % 64);
		bool sleeps = spsc_may_sleep(&l.ring);

		if (i % 64 == 0 && time(NULL) > end)
			l.rounds = i; /* what a busy machine can do in that time */
		meet(&l, 1, 2 * i + 1);
		bool wakes = atomic_load_explicit(&l.wakes, memory_order_relaxed);

		l.lay_down += sleeps;
		l.woken += wakes;
		l.lost += sleeps && !wakes;
		wrong += spsc_ready(&l.ring) != 1 || !record_is(spsc_at(&l.ring, 0), i);
		spsc_release(&l.ring, 1);
		if (sleeps && !wakes)
			spsc_must_wake(&l.ring); /* as if: the next round starts awake */
	}
	pthread_join(t, NULL);
	sched_setaffinity(0, sizeof before, &before);
	printf("# %u rounds: lay down %u times, woken %u times, lost %u\n", l.rounds, l.lay_down,
	       l.woken, l.lost);
	ok(!l.lost, "race of sleep and wake: a sleeper is woken");
	ok(!wrong, "race of sleep and wake: the record is there afterwards");
}

/* Two rings against each other: each thread sleeps after every record, so that every one of them
 * depends on a wake-up. */
struct pair {
	struct stream_state there, back;
};

static bool wait_for(struct stream_state *s)
{
	while (!spsc_ready(&s->ring)) {
		if (!spsc_may_sleep(&s->ring))
			continue;
		if (!sleep_until_woken(s))
			return false;
	}
	return true;
}

static void hand_over(struct stream_state *s, uint64_t n)
{
	record_fill(spsc_reserve(&s->ring), n);
	spsc_commit(&s->ring);
	if (spsc_must_wake(&s->ring) && write(s->wake, &(uint64_t){ 1 }, sizeof(uint64_t)) < 0)
		abort();
}

static void *echo(void *arg)
{
	struct pair *p = arg;

	for (uint64_t n = 0; n < p->there.total; n++) {
		if (!wait_for(&p->there)) {
			p->there.empty++;
			break;
		}
		p->there.wrong += !record_is(spsc_at(&p->there.ring, 0), n);
		spsc_release(&p->there.ring, 1);
		hand_over(&p->back, n);
	}
	return NULL;
}

static void test_ping_pong(void)
{
	static struct pair p;
	struct stream_state *both[] = { &p.there, &p.back };
	pthread_t t;

	for (unsigned i = 0; i < 2; i++) {
		*both[i] = (struct stream_state){ .total = 50000, .wake = eventfd(0, EFD_CLOEXEC) };
		spsc_init(&both[i]->ring, both[i]->mem, SLOTS, sizeof(struct record), 0);
	}
	if (pthread_create(&t, NULL, echo, &p))
		abort();
	for (uint64_t n = 0; n < p.back.total; n++) {
		hand_over(&p.there, n);
		if (!wait_for(&p.back)) {
			p.back.empty++;
			break;
		}
		p.back.wrong += !record_is(spsc_at(&p.back.ring, 0), n);
		spsc_release(&p.back.ring, 1);
	}
	pthread_join(t, NULL);
	ok(!p.there.empty && !p.back.empty, "ping-pong: %llu records each way, no wake-up is lost",
	   (unsigned long long)p.back.total);
	ok(!p.there.wrong && !p.back.wrong, "ping-pong: every record complete and in order");
	close(p.there.wake);
	close(p.back.wake);
}

int main(void)
{
	uint64_t seed = tap_seed(20240229);

	alarm(600);
	test_order_and_bounds(0, "from 0");
	test_order_and_bounds(UINT32_MAX - 3, "across 2^32");
	test_order_and_bounds(INT32_MAX - 3, "across 2^31");
	test_must_wake();
	test_staged(0, "staged");
	test_staged(UINT32_MAX - 4, "staged, across 2^32");
	test_adopted(0, "after a restart");
	test_adopted(UINT32_MAX - 4, "after a restart, across 2^32");
	test_two_threads(seed, produce, "one by one");
	test_two_threads(seed + 1, produce_batches, "in batches");
	test_wake_ups(seed);
	test_wake_race();
	test_ping_pong();
	return tap_done();
}
