/* cc.h - the few compiler helpers that the whole tree shares. */
#pragma once
#include <stddef.h>

#define ARRAY_SIZE(a) (sizeof(a) / sizeof *(a))

/* Runs @fn on the variable's address when it leaves scope. */
#define AUTO(fn) __attribute__((cleanup(fn)))

/* Moves a pointer out of an AUTO variable: the caller owns it now. */
#define TAKE(p)                                                                                    \
	({                                                                                         \
		__typeof__(p) take_ = (p);                                                         \
		(p) = NULL;                                                                        \
		take_;                                                                             \
	})

#define likely(x)   __builtin_expect(!!(x), 1)
#define unlikely(x) __builtin_expect(!!(x), 0)

/* A function off the hot path: kept out of line, and out of the way. */
#define COLD __attribute__((cold, noinline))

/* Two threads that write within one line slow each other down (x86, arm64: 64 octets). */
enum { CACHE_LINE = 64 };
#define CACHE_ALIGNED __attribute__((aligned(CACHE_LINE)))

/* @n octets, up to a whole number of lines. */
#define LINE_UP(n) (((n) + CACHE_LINE - 1) / CACHE_LINE * CACHE_LINE)
