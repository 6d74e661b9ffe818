/* micro.h - clocks, medians, and figures: one line of JSON each, as `make bench` reads it from each
 * build/bench/micro_*: {"name":..., "unit":..., "value":...}.  With "at_most" or "at_least", a
 * number, it is a goal, and stands among the goals of the report. */
#pragma once
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static inline double micro_clock(clockid_t id)
{
	struct timespec t;

	clock_gettime(id, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static inline int micro_order(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

/* Sorts @v. */
static inline double micro_median(double *v, unsigned n)
{
	qsort(v, n, sizeof *v, micro_order);
	return n % 2 ? v[n / 2] : (v[n / 2 - 1] + v[n / 2]) / 2;
}

static inline void micro_say(const char *name, const char *unit, double value)
{
	printf("{\"name\":\"%s\",\"unit\":\"%s\",\"value\":%.6g}\n", name, unit, value);
	fflush(stdout);
}

/* @goal: "at_most" or "at_least" @bound. */
static inline void micro_say_goal(const char *name, const char *unit, double value,
				  const char *goal, double bound)
{
	printf("{\"name\":\"%s\",\"unit\":\"%s\",\"value\":%.6g,\"%s\":%.6g}\n", name, unit, value,
	       goal, bound);
	fflush(stdout);
}

enum { MICRO_PASSES = 9 };

/* A pass: does @ops operations; what it computes goes into the return value, so that the compiler
 * must do them. */
typedef uint64_t micro_pass(void *arg);

/* Says the median of MICRO_PASSES passes of @pass, each after @prepare (if any), whose time does
 * not count.  CPU time, since others may use the machine too. */
static inline void micro_run(const char *name, uint64_t ops, micro_pass *pass,
			     void (*prepare)(void *arg), void *arg)
{
	static volatile uint64_t sink;
	double ns[MICRO_PASSES];

	for (unsigned i = 0; i < MICRO_PASSES; i++) {
		if (prepare)
			prepare(arg);
		double start = micro_clock(CLOCK_PROCESS_CPUTIME_ID);

		sink += pass(arg);
		ns[i] = (micro_clock(CLOCK_PROCESS_CPUTIME_ID) - start) * 1e9 / (double)ops;
	}
	micro_say(name, "ns/op", micro_median(ns, MICRO_PASSES));
}
