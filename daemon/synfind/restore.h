/* restore.h - resumes the interfaces of an earlier process (docs/restart.md). */
#pragma once

struct capture;

/* Resumes the stored rings and decoders that the options still want, and removes the others from
 * the store.  Logs what fails; the opener then provides new rings.  Call it before the opener's
 * list, which shows what is gone meanwhile. */
void restore_interfaces(struct capture *c);
