/* restore.h - interfaces go on where an earlier process was (docs/restart.md). */
#pragma once

struct capture;

/* Takes rings and decoders that are in the store, as far as the options still want them, and runs
 * them; lets the others go.  Logs what fails: the opener has new rings for that.  Before the
 * opener's list, which says what is gone meanwhile. */
void restore_interfaces(struct capture *c);
