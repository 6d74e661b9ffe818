/* clock.h - the clocks, in ns. */
#pragma once
#include <stdint.h>
#include <time.h>

static inline uint64_t clock_ns(clockid_t clock)
{
	struct timespec ts;

	clock_gettime(clock, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

/* Since 1970 UTC. */
static inline uint64_t wall_clock_ns(void)
{
	return clock_ns(CLOCK_REALTIME);
}
