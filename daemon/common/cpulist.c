#include "common/cpulist.h"
#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* Reads a number at *@p and advances *@p.  CPU_SETSIZE or more: none, or one too large. */
static unsigned long cpu_number(const char **p)
{
	char *end;

	if (!isdigit((unsigned char)**p))
		return CPU_SETSIZE;
	unsigned long v = strtoul(*p, &end, 10);

	*p = end;
	return v;
}

int cpulist_parse(const char *text, struct cpulist *ret)
{
	cpu_set_t seen;
	const char *p = text;

	ret->n = 0;
	if (!strcmp(text, "auto")) {
		if (sched_getaffinity(0, sizeof seen, &seen) < 0)
			return -errno;
		for (unsigned i = 0; i < CPU_SETSIZE; i++)
			if (CPU_ISSET(i, &seen))
				ret->cpu[ret->n++] = (uint16_t)i;
		return 0;
	}
	CPU_ZERO(&seen);
	for (;; p++) {
		unsigned long first = cpu_number(&p), last = first;

		if (*p == '-') {
			p++;
			last = cpu_number(&p);
		}
		if (first >= CPU_SETSIZE || last >= CPU_SETSIZE || first > last)
			return -EINVAL;
		for (; first <= last; first++) {
			if (CPU_ISSET(first, &seen))
				return -EINVAL;
			CPU_SET(first, &seen);
			ret->cpu[ret->n++] = (uint16_t)first;
		}
		if (!*p)
			return 0;
		if (*p != ',')
			return -EINVAL;
	}
}

int cpulist_pin(const struct cpulist *list, unsigned n, pthread_t thread, unsigned *ret_cpu)
{
	cpu_set_t set;

	*ret_cpu = list->cpu[n % list->n];
	CPU_ZERO(&set);
	CPU_SET(*ret_cpu, &set);
	return -pthread_setaffinity_np(thread, sizeof set, &set);
}
