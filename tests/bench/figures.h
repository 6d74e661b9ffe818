/* figures.h - clocks, medians, and one line of JSON per figure; with "at_most" or "at_least" it is a
 * goal. */
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
