/* fixed_random.c - a library to be preloaded: a program draws the same secrets in each run. */
#include <string.h>
#include <sys/random.h>

ssize_t getrandom(void *p, size_t n, unsigned flags)
{
	(void)flags;
	memset(p, 0x5a, n);
	return (ssize_t)n;
}
