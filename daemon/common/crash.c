#include "common/crash.h"
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <unistd.h>
#include "base/cc.h"
#include "common/clock.h"

static volatile uint32_t *crash_word;
static volatile uint64_t alive_until_ns = UINT64_MAX; /* CLOCK_MONOTONIC */

static void on_crash(int sig, siginfo_t *info, void *context)
{
	bool from_outside = info->si_code <= 0 && info->si_pid != getpid();

	(void)context;
	if (crash_word && (!from_outside || clock_ns(CLOCK_MONOTONIC) > alive_until_ns))
		*crash_word = (uint32_t)sig;
	raise(sig); /* SA_RESETHAND: now it ends the process */
}

void crash_note(volatile uint32_t *word)
{
	static const int fatal[] = { SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT, SIGTRAP };
	struct sigaction sa = { .sa_sigaction = on_crash,
				.sa_flags = (int)(SA_SIGINFO | SA_RESETHAND | SA_NODEFER) };

	crash_word = word;
	for (unsigned i = 0; i < ARRAY_SIZE(fatal); i++)
		sigaction(fatal[i], &sa, NULL);
}

void crash_alive(uint64_t patience_ns)
{
	alive_until_ns = clock_ns(CLOCK_MONOTONIC) + patience_ns;
}
