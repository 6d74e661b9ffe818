/* stdfds.h - descriptors 0 to 2 are open before anything else is opened. */
#pragma once

/* Opens closed descriptors 0 to 2 on /dev/null, for the wrong direction: reading and writing there
 * fails, as on a closed one.  Otherwise a socket could become standard output or error, and would
 * get what is written there.  Call it first of all.  0 or -errno; it cannot log. */
int stdfds_open(void);
