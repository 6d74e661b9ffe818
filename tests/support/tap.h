/* tap.h - the Test Anything Protocol for C tests: one line per check, a plan at the end.
 *
 * A check's text says the behaviour it proves.  tests/run counts the lines of every test. */
#pragma once
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

static int tap_checks, tap_failed;

#define ok(cond, ...) tap_ok((cond), #cond, __FILE__, __LINE__, __VA_ARGS__)

__attribute__((format(printf, 5, 6))) static inline bool
tap_ok(bool good, const char *expr, const char *file, int line, const char *what, ...)
{
	va_list ap;

	tap_checks++;
	tap_failed += !good;
	printf("%sok %d - ", good ? "" : "not ", tap_checks);
	va_start(ap, what);
	vprintf(what, ap);
	va_end(ap);
	putchar('\n');
	if (!good)
		printf("# %s:%d: %s\n", file, line, expr);
	fflush(stdout);
	return good;
}

/* A check that cannot run here; @why names what is missing. */
static inline void tap_skip(const char *what, const char *why)
{
	printf("ok %d - %s # SKIP %s\n", ++tap_checks, what, why);
}

/* Prints the plan; the exit status of the test. */
static inline int tap_done(void)
{
	printf("1..%d\n", tap_checks);
	return tap_failed ? EXIT_FAILURE : EXIT_SUCCESS;
}

/* Seed of a randomised test: $SEED or the default, printed so that a failure can be replayed. */
static inline unsigned long long tap_seed(unsigned long long dflt)
{
	const char *s = getenv("SEED");
	unsigned long long seed = s ? strtoull(s, NULL, 0) : dflt;

	printf("# seed %llu (SEED=... replays)\n", seed);
	return seed;
}
