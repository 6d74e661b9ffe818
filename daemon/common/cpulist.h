/* cpulist.h - a list of processors, as in 0-3,8 (cpuset(7), "List format"). */
#pragma once
#include <pthread.h>
#include <sched.h> /* CPU_SETSIZE */
#include <stdint.h>

struct cpulist {
	unsigned n;
	uint16_t cpu[CPU_SETSIZE];
};

/* Fills *@ret from @text, in its order; "auto": the processors that this thread may run on.  0;
 * -EINVAL: not a list of numbers below CPU_SETSIZE, or a number is repeated; -errno of
 * sched_getaffinity(). */
int cpulist_parse(const char *text, struct cpulist *ret);

/* Binds @thread to the processor at place @n of the list, counted round and round; *ret_cpu: which
 * one.  0 or -errno. */
int cpulist_pin(const struct cpulist *list, unsigned n, pthread_t thread, unsigned *ret_cpu);
