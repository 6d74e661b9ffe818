/* cc.h - compiler helpers. */
#pragma once
#include <stddef.h>

#define ARRAY_SIZE(a) (sizeof(a) / sizeof *(a))

/* Calls @fn with the address of the variable when it leaves scope. */
#define AUTO(fn) __attribute__((cleanup(fn)))

#define likely(x)   __builtin_expect(!!(x), 1)
#define unlikely(x) __builtin_expect(!!(x), 0)

/* A function off the hot path: kept out of line, and out of the way. */
#define COLD __attribute__((cold, noinline))

/* Threads that write to the same line slow each other down (x86, arm64: 64 octets). */
enum { CACHE_LINE = 64 };
#define CACHE_ALIGNED __attribute__((aligned(CACHE_LINE)))

/* @n octets, rounded up to whole cache lines. */
#define LINE_UP(n) (((n) + CACHE_LINE - 1) / CACHE_LINE * CACHE_LINE)
