/* restore.h - resumes the interfaces of an earlier process (docs/restart.md). */
#pragma once
#include <stdbool.h>

struct capture;
struct fdstore;

/* Resumes the stored rings and decoders that the options still want, and removes the others from
 * the store.  Logs what fails; the opener then provides new rings.  Call it before the opener's
 * list, which shows what is gone meanwhile. */
void restore_interfaces(struct capture *c);

/* Removes all that is kept, except the socket that accepts subscribers, if earlier processes died
 * in it too often (rescue.h).  Call it before any part is resumed.  True: it did. */
bool restore_give_up(struct fdstore *fdstore);
