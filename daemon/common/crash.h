/* crash.h - tells the next process that this one crashed, in memory that outlives it.
 *
 * A process that is killed (SIGKILL) proves nothing about what it was doing; one that dies of a
 * signal of its own, or of the watchdog's SIGABRT, does. */
#pragma once
#include <stdint.h>

/* From now on a fatal signal (SIGSEGV, SIGABRT, ...) writes its number to @word before it ends the
 * process.  NULL: not any more.  Main thread. */
void crash_note(volatile uint32_t *word);
