/* fdstore.h - what outlives the process: descriptors in the service manager's store, by name
 * (sd_pid_notify_with_fds(3), FileDescriptorStoreMax= in systemd.service(5)).
 *
 * At the start all that were inherited are taken in; each part of the daemon takes its own by
 * name, and what nobody took is let go.  Without a store (by hand) everything works alike, only
 * nothing outlives the process.  Names: no ':' and no control character, FDSTORE_NAME_MAX octets.
 *
 * The manager learns of changes in the order in which they are made here, and of all that was sent
 * before the process ended; that it takes them is not told.  Main thread only. */
#pragma once
#include <stdbool.h>
#include <stddef.h>

enum { FDSTORE_NAME_MAX = 255 };

struct fdstore {
	struct fdstore_entry *entries; /* inherited, not taken */
	unsigned n;
	bool live; /* the manager keeps what it is given */
};

/* Takes in what was inherited; asks once: the environment forgets it.  0 or -errno. */
int fdstore_init(struct fdstore *s);

/* Closes what nobody took, and keeps it in the store.  A zeroed one is fine. */
void fdstore_destroy(struct fdstore *s);

/* The inherited descriptor of this name (the first, if there are several): owned by the caller,
 * and still in the store; -ENOENT. */
int fdstore_take(struct fdstore *s, const char *name);

/* An inherited one that begins with @prefix, and its name: as fdstore_take(). */
int fdstore_take_next(struct fdstore *s, const char *prefix,
		      char ret_name[static FDSTORE_NAME_MAX + 1]);

/* Gives the manager a copy of @fd.  -ENOTCONN: there is no store; -errno. */
int fdstore_add(struct fdstore *s, const char *name, int fd);

/* Makes the manager forget all of this name.  Our own copy is the caller's to close. */
void fdstore_remove(struct fdstore *s, const char *name);

/* Closes what nobody took, and has the manager forget it: after everybody took theirs. */
void fdstore_sweep(struct fdstore *s);

/* A memfd of this name and size, owned by the caller: the inherited one, if it has this size, else
 * a new one of zeroes, which is put into the store.  -errno. */
int fdstore_memfd(struct fdstore *s, const char *name, size_t octets, bool *ret_adopted);

/* The same, mapped shared; munmap() it.  NULL with errno. */
void *fdstore_memory(struct fdstore *s, const char *name, size_t octets, bool *ret_adopted);
