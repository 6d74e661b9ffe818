#include "common/crash.h"
#include <signal.h>
#include <stddef.h>
#include "base/cc.h"

static volatile uint32_t *crash_word;

static void on_crash(int sig)
{
	if (crash_word)
		*crash_word = (uint32_t)sig;
	raise(sig); /* SA_RESETHAND: now it ends the process */
}

void crash_note(volatile uint32_t *word)
{
	static const int fatal[] = { SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT, SIGTRAP };
	struct sigaction sa = { .sa_handler = on_crash,
				.sa_flags = (int)(SA_RESETHAND | SA_NODEFER) };

	crash_word = word;
	for (unsigned i = 0; i < ARRAY_SIZE(fatal); i++)
		sigaction(fatal[i], &sa, NULL);
}
