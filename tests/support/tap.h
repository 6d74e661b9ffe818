/* interface.h - the Test Anything Protocol for C tests: one line per check, a plan at the end.
 *
 * A check's text says the behaviour it proves.  tests/run counts the lines of every test. */
#pragma once
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

static int interface_checks, interface_failed;

#define ok(cond, ...) interface_ok((cond), #cond, __FILE__, __LINE__, __VA_ARGS__)

__attribute__((format(printf, 5, 6))) static inline bool
interface_ok(bool good, const char *expr, const char *file, int line, const char *what, ...)
{
	va_list ap;

	interface_checks++;
	interface_failed += !good;
	printf("%sok %d - ", good ? "" : "not ", interface_checks);
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
static inline void interface_skip(const char *what, const char *why)
{
	printf("ok %d - %s # SKIP %s\n", ++interface_checks, what, why);
}

/* Prints the plan; the exit status of the test. */
static inline int interface_done(void)
{
	printf("1..%d\n", interface_checks);
	return interface_failed ? EXIT_FAILURE : EXIT_SUCCESS;
}

/* Seed of a randomised test: $SEED or the default, printed so that a failure can be replayed. */
static inline unsigned long long interface_seed(unsigned long long dflt)
{
	const char *s = getenv("SEED");
	unsigned long long seed = s ? strtoull(s, NULL, 0) : dflt;

	printf("# seed %llu (SEED=... replays)\n", seed);
	return seed;
}
