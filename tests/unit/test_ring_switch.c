/* Two rings of one interface: each frame must be taken once, and in the order of its ring. */
#include <stdlib.h>
#include <string.h>
#include "base/cc.h"
#include "../../daemon/synfind/ring_switch.c"
#include "tests/support/rand.h"
#include "tests/support/tap.h"

static const uint64_t us = 1000, ms = 1000000;
enum { FRAMES = 40000, OCTETS = 60 };
static const uint64_t epoch = UINT64_C(1800000000000000000);

struct seen { /* a frame, as it lies in a ring */
	uint64_t ts_ns;
	unsigned number; /* of the frame */
};

struct wire {
	uint8_t octets[FRAMES][OCTETS];
	struct seen old[FRAMES], new[FRAMES];
	unsigned n, n_old, n_new;
	unsigned taken[FRAMES];
};

struct plan {
	const char *name;
	uint64_t gap_ns;     /* between frames, on average */
	uint64_t late_ns;    /* the old ring's stamp is up to that later */
	unsigned reorder;    /* of a hundred neighbours that are the other way round in one ring */
	unsigned kinds;	     /* frames that differ; 0: all */
	unsigned burst;	     /* so many at once, with a pause that keeps the average */
	unsigned new_begins; /* the new ring lacks so many of the first ones */
	unsigned unsure;     /* of each turn: frames that cannot be distinguished */
};

static struct wire w;
static struct ring_switch s;

static int by_stamp(const void *a, const void *b)
{
	const struct seen *x = a, *y = b;

	return (x->ts_ns > y->ts_ns) - (x->ts_ns < y->ts_ns);
}

static void disorder(struct seen *f, unsigned n, unsigned percent)
{
	for (unsigned i = 1; i < n; i++)
		if (below(100) < percent) {
			struct seen t = f[i];

			f[i] = f[i - 1];
			f[i - 1] = t;
		}
}

static void make(const struct plan *p, unsigned n)
{
	uint64_t now = epoch;

	w.n = w.n_old = n;
	w.n_new = n - p->new_begins;
	memset(w.taken, 0, sizeof w.taken);
	for (unsigned i = 0; i < n; i++) {
		uint32_t kind = p->kinds ? below(p->kinds) : i;
		uint64_t pause = p->gap_ns * (p->burst ? p->burst : 1);

		memset(w.octets[i], 0, OCTETS);
		memcpy(w.octets[i] + 20, &kind, sizeof kind);
		if (!p->burst || i % p->burst == 0)
			now += pause / 2 + rand64() % (pause + 1);
		else
			now += 300;
		w.old[i] = (struct seen){ now + rand64() % (p->late_ns + 1), i };
		if (i >= p->new_begins)
			w.new[i - p->new_begins] = (struct seen){ now, i };
	}
	qsort(w.old, w.n_old, sizeof *w.old, by_stamp);
	disorder(w.old, w.n_old, p->reorder);
	disorder(w.new, w.n_new, p->reorder);
}

static struct frame frame_of(const struct seen *f)
{
	return (struct frame){
		.data = w.octets[f->number], .caplen = OCTETS, .len = 1000, .ts_ns = f->ts_ns
	};
}

static struct ring_switch_clock at(uint64_t real)
{
	return (struct ring_switch_clock){ real, real - epoch + 77 };
}

/* All of it, through both rings; the turn is asked for when the old one is at frame @from. */
static bool go_over(unsigned from)
{
	enum ring_switch_verdict v = RING_SWITCH_WAIT;
	uint64_t now = epoch;
	unsigned i = 0;

	for (; i < w.n_old && v == RING_SWITCH_WAIT; i++) {
		struct frame f = frame_of(&w.old[i]);

		now = f.ts_ns > now ? f.ts_ns : now;
		w.taken[w.old[i].number]++;
		if (i < from)
			continue;
		if (i == from)
			ring_switch_begin(&s, at(now), 2 * ms);
		ring_switch_had(&s, &f);
		if (i % 64 == 63)
			v = ring_switch_cut(&s, at(now), false);
	}
	for (unsigned n = 0; n < 100 && v == RING_SWITCH_WAIT; n++)
		v = ring_switch_cut(&s, at(now += 10 * ms), true);
	if (v != RING_SWITCH_CUT)
		return false;
	for (unsigned k = 0; k < w.n_new; k++) {
		struct frame f = frame_of(&w.new[k]);

		if (s.phase == RING_SWITCH_NONE || !ring_switch_leaves_out(&s, NULL, &f))
			w.taken[w.new[k].number]++;
		now = f.ts_ns > now ? f.ts_ns : now;
		if (s.phase == RING_SWITCH_NEW && k % 64 == 63)
			ring_switch_over(&s, at(now), false);
	}
	if (s.phase == RING_SWITCH_NEW)
		ring_switch_over(&s, at(now + 1000 * ms), true);
	return s.phase == RING_SWITCH_NONE;
}

/* Frames that were not taken once; frames that are alike are one kind, and their number counts. */
static unsigned wrong(const struct plan *p)
{
	static unsigned want[FRAMES], got[FRAMES];
	unsigned n = 0;

	memset(want, 0, sizeof want);
	memset(got, 0, sizeof got);
	for (unsigned i = 0; i < w.n; i++) {
		uint32_t kind;

		memcpy(&kind, w.octets[i] + 20, sizeof kind);
		want[kind]++;
		got[kind] += w.taken[i];
	}
	for (unsigned i = 0; i < (p->kinds ? p->kinds : w.n); i++)
		n += want[i] > got[i] ? want[i] - got[i] : got[i] - want[i];
	return n;
}

static void test_plans(void)
{
	static const struct plan plans[] = {
		{ "in order, equal stamps", 20 * us, 0, 0, 0, 0, 0, 0 },
		{ "in order, later stamps in the old ring", 20 * us, 165 * us, 0, 0, 0, 0, 0 },
		{ "neighbours the other way round", 20 * us, 165 * us, 30, 0, 0, 0, 0 },
		{ "far more than a window of disorder would be", 20 * us, 5 * ms, 10, 0, 0, 0, 0 },
		{ "frames that are alike", 20 * us, 165 * us, 30, 3, 0, 0, 0 },
		{ "nothing but one frame, again and again", 20 * us, 165 * us, 0, 1, 0, 0, 4 },
		{ "bursts", 20 * us, 165 * us, 10, 0, 900, 0, 0 },
		{ "bursts of frames that are alike", 20 * us, 165 * us, 10, 5, 900, 0, 0 },
		{ "a frame now and then", 7 * ms, 165 * us, 0, 0, 0, 0, 0 },
		{ "a frame each second", 1000 * ms, 165 * us, 0, 0, 0, 0, 0 },
		{ "a million a second", 1 * us, 165 * us, 30, 0, 0, 0, 0 },
		{ "a ring that came in the midst", 20 * us, 165 * us, 10, 0, 0, 900, 0 },
	};

	for (unsigned i = 0; i < ARRAY_SIZE(plans); i++) {
		unsigned bad = 0, failed = 0;
		const unsigned rounds = 20;

		for (unsigned round = 0; round < rounds; round++) {
			unsigned n = plans[i].gap_ns > ms ? 500 : FRAMES;

			make(&plans[i], n);
			failed +=
				!go_over(plans[i].new_begins + 10 + below(n < 1000 ? n - 20 : 900));
			bad += wrong(&plans[i]);
		}
		ok(!failed, "%s: it comes to the cut and is over", plans[i].name);
		ok(bad <= rounds * plans[i].unsure, "%s: each frame is taken once (%u are not)",
		   plans[i].name, bad);
	}
}

static struct frame one(uint64_t ts_ns, unsigned number)
{
	return frame_of(&(struct seen){ ts_ns, number });
}

static void test_empty(void)
{
	uint64_t t = epoch + 1000 * ms;
	struct frame f = one(t - ms, 1);

	make(&(struct plan){ .gap_ns = us }, 10);
	ring_switch_begin(&s, at(t), 2 * ms);
	ok(ring_switch_cut(&s, at(t + 100 * ms), true) == RING_SWITCH_WAIT,
	   "an empty ring may still have a block to hand over");
	ok(ring_switch_cut(&s, at(t + 200 * ms), false) == RING_SWITCH_WAIT,
	   "one that was not empty may be far behind");
	ok(ring_switch_cut(&s, at(t + 200 * ms), true) == RING_SWITCH_CUT &&
		   s.phase == RING_SWITCH_NEW,
	   "after that time it has none");
	ok(ring_switch_leaves_out(&s, NULL, &f),
	   "what is from before is not the new ring's to give");
	f = one(t + 190 * ms, 1);
	ok(!ring_switch_leaves_out(&s, NULL, &f), "what comes later is");
	ring_switch_begin(&s, at(t), 2 * ms);
	ring_switch_cut(&s, at(t + 200 * ms), true);
	ok(!ring_switch_over(&s, at(t + 201 * ms), true),
	   "it is not over as long as a frame may be unseen");
	ok(ring_switch_over(&s, at(t + 1000 * ms), true) && s.phase == RING_SWITCH_NONE,
	   "then it is");
}

static void test_filters(void)
{
	uint64_t t = epoch + 1000 * ms;
	unsigned taken = 0, doubled = 0;

	make(&(struct plan){ .gap_ns = us }, 1000);
	ring_switch_begin(&s, at(t), 2 * ms);
	for (unsigned i = 0; i < 500; i++) {
		struct frame f = one(t + i * 100 * us, i);

		if (i % 2) /* the new filter alone lets the others pass */
			ring_switch_had(&s, &f);
	}
	ok(ring_switch_cut(&s, at(t + 50 * ms), false) == RING_SWITCH_CUT, "the cut");
	for (unsigned i = 0; i < 1000; i++) {
		struct frame f = one(t + i * 100 * us, i);

		if (ring_switch_leaves_out(&s, NULL, &f))
			continue;
		taken += i >= 500;
		doubled += i < 500 && i % 2;
	}
	ok(taken == 500 && !doubled, "what only one of the filters lets pass disturbs nothing");
}

static void test_clock(void)
{
	uint64_t t = epoch + 1000 * ms;
	struct ring_switch_clock c = at(t + 500 * ms);

	make(&(struct plan){ .gap_ns = us }, 10);
	ring_switch_begin(&s, at(t), 2 * ms);
	c.real += 3600000 * ms;
	ok(ring_switch_cut(&s, c, true) == RING_SWITCH_IMPOSSIBLE && s.phase == RING_SWITCH_NONE,
	   "the clock was set forward: there is no cut");
	ring_switch_begin(&s, at(t), 2 * ms);
	c.real = epoch;
	ok(ring_switch_cut(&s, c, true) == RING_SWITCH_IMPOSSIBLE, "or back");
	ring_switch_begin(&s, at(t), 2 * ms);
	c = at(t + 500 * ms);
	c.real += ms;
	ok(ring_switch_cut(&s, c, true) == RING_SWITCH_CUT, "one that is trimmed does no harm");
	c.real -= 500 * ms;
	ok(ring_switch_over(&s, c, false),
	   "set back after the cut: nothing is omitted by its stamp");
}

static void test_full(void)
{
	uint64_t t = epoch + 1000 * ms;
	struct frame f = one(t + ms, 0);

	make(&(struct plan){ .gap_ns = us }, 10);
	ring_switch_begin(&s, at(t), 2 * ms);
	for (unsigned i = 0; i < RING_SWITCH_RECORDS; i++)
		ring_switch_had(&s, &f);
	ok(ring_switch_cut(&s, at(t + 2 * ms), false) == RING_SWITCH_WAIT,
	   "as many as can be recorded");
	ring_switch_had(&s, &f);
	ok(ring_switch_cut(&s, at(t + 2 * ms), false) == RING_SWITCH_IMPOSSIBLE,
	   "one more: no cut");
}

int main(void)
{
	rng = tap_seed(1);
	test_plans();
	test_empty();
	test_filters();
	test_clock();
	test_full();
	return tap_done();
}
