/* manual.h - the commands as sections of the manual page, from the table of commands. */
#pragma once

/* Prints them in mdoc(7): docs/man/synfinctl.1.in has the rest of the page. */
void manual_print(void);
