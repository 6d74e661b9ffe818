/* fdstore.h - descriptors that outlive the process, kept by name in the service manager's fd store
 * (sd_pid_notify_with_fds(3), FileDescriptorStoreMax= in systemd.service(5)).
 *
 * The start collects all inherited descriptors.  Each part of the daemon takes its own by name;
 * what is left is closed.  Without a store (a start by hand) everything works, but nothing outlives
 * the process.  Names have at most FDSTORE_NAME_MAX octets, no ':' and no control characters.
 *
 * The manager sees changes in the order in which they are made, including those made just before
 * the process ends.  It does not confirm them.  If it does not read, they wait (common/notify.h),
 * and a process that is killed then leaves the store as it was.  Main thread only. */
#pragma once
#include <stdbool.h>
#include <stddef.h>

enum { FDSTORE_NAME_MAX = 255 };

struct fdstore {
	char **names; /* of the inherited descriptors; NULL: taken */
	unsigned n;
	bool live; /* the manager keeps descriptors for us */
};

struct fdstore_name {
	char s[40];
};

/* The name of item @a, @b of a kind. */
struct fdstore_name fdstore_name(const char *kind, unsigned a, unsigned b);

/* Collects the inherited descriptors and clears their environment variables.  Once per process.
 * 0 or -errno. */
int fdstore_init(struct fdstore *s);

/* Closes what was not taken; it stays in the store.  A zeroed one is fine. */
void fdstore_destroy(struct fdstore *s);

/* Was a descriptor inherited that has this name, or (not @equal) any other name? */
bool fdstore_has(const struct fdstore *s, const char *name, bool equal);

/* The first inherited descriptor of this name.  The caller owns it; it also stays in the store.
 * -ENOENT. */
int fdstore_take(struct fdstore *s, const char *name);

/* The same of inherited descriptor @i, which fdstore_peek() found. */
int fdstore_take_at(struct fdstore *s, unsigned i);

/* Stores a copy of @fd; the store must have none of this name.  -ENOTCONN: there is no store;
 * -ENOBUFS: the manager does not read; -errno. */
int fdstore_add(struct fdstore *s, const char *name, int fd);

/* Removes all descriptors of this name from the store.  Our own copies stay open. */
void fdstore_remove(struct fdstore *s, const char *name);

/* Inherited descriptor @i of .n, borrowed, with its name.  -ENOENT: it was taken. */
int fdstore_peek(const struct fdstore *s, unsigned i, const char **ret_name);

/* Closes what was not taken and removes it from the store.  Call it after all parts took theirs. */
void fdstore_sweep(struct fdstore *s);

/* Closes and removes what has a name that begins with @prefix and was not taken. */
void fdstore_discard(struct fdstore *s, const char *prefix);

/* A memfd of this name and size, owned by the caller: the inherited one if its size fits, else a
 * new one of zeroes, which is stored.  -errno. */
int fdstore_memfd(struct fdstore *s, const char *name, size_t octets);

/* As fdstore_memfd(), mapped shared; munmap() it.  NULL: failure. */
void *fdstore_memory(struct fdstore *s, const char *name, size_t octets);
