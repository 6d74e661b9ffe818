/* micro.h - times a stage and prints it as a line of JSON, as `make bench` reads it from each
 * build/bench/micro_*: {"name":..., "unit":"ns/op", "value":...}.  A line may also have "at_most" or
 * "at_least", a number: then it is a goal, and stands among the goals of the report. */
#pragma once
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { MICRO_PASSES = 9 };

/* CPU time, since others may use the machine too. */
static inline double micro_now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
	return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

static inline int micro_by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

/* A pass: does @ops operations; what it computes goes into the return value, so that the compiler
 * must do them. */
typedef uint64_t micro_pass(void *arg);

/* Prints the median of MICRO_PASSES passes of @pass, each after @prepare (if any), whose time does
 * not count. */
static inline void micro_run(const char *name, uint64_t ops, micro_pass *pass,
			     void (*prepare)(void *arg), void *arg)
{
	static volatile uint64_t sink;
	double ns[MICRO_PASSES];

	for (unsigned i = 0; i < MICRO_PASSES; i++) {
		if (prepare)
			prepare(arg);
		double start = micro_now_ns();

		sink += pass(arg);
		ns[i] = (micro_now_ns() - start) / (double)ops;
	}
	qsort(ns, MICRO_PASSES, sizeof *ns, micro_by_value);
	printf("{\"name\":\"%s\",\"unit\":\"ns/op\",\"value\":%.2f}\n", name, ns[MICRO_PASSES / 2]);
	fflush(stdout);
}
