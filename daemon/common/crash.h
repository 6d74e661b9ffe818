/* crash.h - tells the next process that this one crashed, in memory that outlives it.
 *
 * A process that is killed from outside proves nothing about what it was doing.  One that dies of a
 * signal of its own does, and so does one that hung until the watchdog sent SIGABRT. */
#pragma once
#include <stdint.h>

/* From now on a fatal signal (SIGSEGV, SIGABRT, ...) writes its number to @word before it ends the
 * process.  NULL: not any more.  Main thread. */
void crash_note(volatile uint32_t *word);

/* All is well.  A SIGABRT that another process sends more than @patience_ns from now is taken for
 * the watchdog's; an earlier one proves nothing. */
void crash_alive(uint64_t patience_ns);
