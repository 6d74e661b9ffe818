/* Two rings of one interface: no frame is taken twice, and only frames within the gap are lost. */
#include <stdlib.h>
#include <string.h>
#include "base/cc.h"
#include "../../daemon/synfind/ring_switch.c"
#include "tests/support/rand.h"
#include "tests/support/tap.h"

static const uint64_t us = 1000, ms = 1000000;
enum { FRAMES = 40000, SKEW_US = 165 };
static const uint64_t epoch = UINT64_C(1800000000000000000);

struct seen { /* a frame, as it lies in a ring */
	uint64_t ts_ns;
	unsigned number; /* of the frame */
};

static struct {
	struct seen old[FRAMES], new[FRAMES];
	unsigned n, taken[FRAMES];
} w;

struct plan {
	const char *name;
	uint64_t gap_ns;  /* between frames, on average */
	uint64_t late_ns; /* the old ring's stamp is up to that later */
	unsigned reorder; /* of a hundred neighbours that are the other way round in one ring */
	unsigned burst;	  /* so many at once, with a pause that keeps the average */
};

static struct ring_switch s;

static int by_stamp(const void *a, const void *b)
{
	const struct seen *x = a, *y = b;

	return (x->ts_ns > y->ts_ns) - (x->ts_ns < y->ts_ns);
}

static void disorder(struct seen *f, unsigned n, unsigned percent)
{
	for (unsigned i = 1; i < n; i++)
		if (below(100) < percent && f[i].ts_ns - f[i - 1].ts_ns < SKEW_US * us) {
			struct seen t = f[i];

			f[i] = f[i - 1];
			f[i - 1] = t;
		}
}

static void make(const struct plan *p, unsigned n)
{
	uint64_t now = epoch;

	w.n = n;
	memset(w.taken, 0, sizeof w.taken);
	for (unsigned i = 0; i < n; i++) {
		uint64_t pause = p->gap_ns * (p->burst ? p->burst : 1);

		if (!p->burst || i % p->burst == 0)
			now += pause / 2 + rand64() % (pause + 1);
		else
			now += 300;
		w.old[i] = (struct seen){ now + rand64() % (p->late_ns + 1), i };
		w.new[i] = (struct seen){ now, i };
	}
	qsort(w.old, n, sizeof *w.old, by_stamp);
	disorder(w.old, n, p->reorder);
	disorder(w.new, n, p->reorder);
}

static struct ring_switch_clock at(uint64_t real)
{
	return (struct ring_switch_clock){ real, real - epoch + 77 };
}

/* Reads @ring from frame @i on, in batches, until the phase changes; returns the frame after. */
static unsigned read_ring(const struct seen *ring, unsigned i, uint64_t *now)
{
	uint32_t phase = s.phase;

	while (s.phase == phase) {
		for (unsigned end = i + 64; i < end && i < w.n; i++) {
			*now = ring[i].ts_ns > *now ? ring[i].ts_ns : *now;
			if (!ring_switch_skips(&s, ring[i].ts_ns))
				w.taken[ring[i].number]++;
		}
		*now += i == w.n ? 10 * ms : 0;
		ring_switch_advance(&s, at(*now), i == w.n);
	}
	return i;
}

/* All frames, through both rings; the switch begins when the old one is at frame @from. */
static uint64_t go_over(unsigned from)
{
	uint64_t now = epoch, to, lost;
	unsigned i;

	for (i = 0; i < from; i++) {
		now = w.old[i].ts_ns;
		w.taken[w.old[i].number]++;
	}
	ring_switch_begin(&s, at(now), 2 * ms);
	read_ring(w.old, from, &now);
	for (i = read_ring(w.new, 0, &now); i < w.n; i++)
		w.taken[w.new[i].number]++;
	lost = ring_switch_lost(&s, &to);
	return to == s.time_ns + RING_SWITCH_GAP_NS ? lost : UINT64_MAX;
}

static void test_plans(void)
{
	static const struct plan plans[] = {
		{ "in order, equal stamps", 20 * us, 0, 0, 0 },
		{ "in order, later stamps in the old ring", 20 * us, SKEW_US * us, 0, 0 },
		{ "neighbours the other way round", 20 * us, SKEW_US * us, 30, 0 },
		{ "bursts", 20 * us, SKEW_US * us, 10, 900 },
		{ "a frame now and then", 7 * ms, SKEW_US * us, 0, 0 },
		{ "a frame each second", 1000 * ms, SKEW_US * us, 0, 0 },
		{ "a million a second", 1 * us, SKEW_US * us, 30, 0 },
	};

	for (unsigned i = 0; i < ARRAY_SIZE(plans); i++) {
		unsigned doubled = 0, outside = 0, lost = 0, in_gap = 0, silent = 0;

		for (unsigned round = 0; round < 20; round++) {
			unsigned n = plans[i].gap_ns > ms ? 500 : FRAMES, now = 0;

			make(&plans[i], n);

			uint64_t reported = go_over(10 + below(n < 1000 ? n - 20 : 900));

			for (unsigned k = 0; k < n; k++) {
				uint64_t ts = w.new[k].ts_ns;
				bool gap = ts + SKEW_US * us >= s.time_ns &&
					   ts <= s.time_ns + RING_SWITCH_GAP_NS;

				in_gap += gap;
				doubled += w.taken[w.new[k].number] > 1;
				now += !w.taken[w.new[k].number];
				outside += !w.taken[w.new[k].number] && !gap;
			}
			silent += (now > 0) != (reported > 0) || reported > now + 100 ||
				  now > reported + reported / 2 + 20;
			lost += now;
		}
		ok(!doubled, "%s: no frame is taken twice (%u are)", plans[i].name, doubled);
		ok(!outside && lost <= in_gap, "%s: only frames within the gap are lost (%u of %u)",
		   plans[i].name, outside, lost);
		ok(!silent, "%s: the loss is counted (not in %u rounds of 20)", plans[i].name,
		   silent);
	}
}

static void test_empty(void)
{
	uint64_t t = epoch + 1000 * ms, to;

	ring_switch_begin(&s, at(t), 2 * ms);
	ok(!ring_switch_advance(&s, at(t + 100 * ms), true),
	   "an empty ring may still have a block to hand over");
	ok(!ring_switch_advance(&s, at(t + 200 * ms), false),
	   "one that was not empty may be far behind");
	ok(ring_switch_advance(&s, at(t + 200 * ms), true) && s.phase == RING_SWITCH_NEW,
	   "after that time it has none");
	ok(ring_switch_skips(&s, t) && !ring_switch_skips(&s, t + 3 * ms),
	   "the new ring is read from the end of the gap on");
	ring_switch_begin(&s, at(t), 2 * ms);
	ring_switch_advance(&s, at(t + 200 * ms), true);
	ok(!ring_switch_advance(&s, at(t + 201 * ms), true),
	   "it is not over as long as a frame may be unseen");
	ok(ring_switch_advance(&s, at(t + 1000 * ms), true) && s.phase == RING_SWITCH_OVER,
	   "then it is");
	ok(!ring_switch_lost(&s, &to) && s.phase == RING_SWITCH_NONE,
	   "without frames nothing is lost");
}

static void test_clock(void)
{
	uint64_t t = epoch + 1000 * ms, to;
	struct ring_switch_clock c = at(t + ms);

	c.real += 3600000 * ms;
	ring_switch_begin(&s, at(t), 2 * ms);
	ok(ring_switch_advance(&s, c, false) && s.phase == RING_SWITCH_OVER,
	   "the clock was set forward: the old ring stays");
	c.real = epoch;
	ring_switch_begin(&s, at(t), 2 * ms);
	ok(ring_switch_advance(&s, c, false) && s.phase == RING_SWITCH_OVER, "or back");
	c = at(t + ms);
	c.real += ms / 2;
	ring_switch_begin(&s, at(t), 2 * ms);
	ok(!ring_switch_advance(&s, c, false), "one that is trimmed does no harm");

	ring_switch_skips(&s, s.time_ns + ms / 2);
	ring_switch_skips(&s, s.time_ns + 2 * ms);
	ring_switch_abandon(&s);
	ok(ring_switch_lost(&s, &to) == 2 && to == s.time_ns + 2 * ms,
	   "where the old ring stays, all that was skipped in it is lost");
}

int main(void)
{
	rng = tap_seed(1);
	test_plans();
	test_empty();
	test_clock();
	return tap_done();
}
