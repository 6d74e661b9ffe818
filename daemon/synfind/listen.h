/* listen.h - the events socket in the file system: create it, inherit it, remove it.
 *
 * Who creates PATH has a lock (flock(2)) on PATH.lock for the life of its process, so that no other
 * process replaces a socket that does not listen yet, or does not any more.  A socket of systemd
 * needs no lock. */
#pragma once
#include <stdbool.h>

struct options;
struct fdstore;

/* Listens on options->socket with its mode and group.  Replaces the socket of a dead process.
 * Fails if another process listens there (-EADDRINUSE), or if the path is not a socket (-EEXIST).
 * Logs what fails.  Returns the descriptor or -errno; *ret_directory_made: it created the
 * directory. */
int listen_open(const struct options *o, bool *ret_directory_made);

/* The inherited listening socket: the service manager's, or one that an earlier process created and
 * stored (*ret_own).  -ENOENT: there is none. */
#define EVENTS_SOCKET "events"
#define LISTENER      "listener"
int listen_inherited(struct fdstore *fdstore, bool *ret_own);

/* The path of a listening socket; "" if it has none. */
void listen_path(int fd, char ret[static 108]);

/* Removes the path, unless a process listens there, and the directory, if it was created. */
void listen_remove(const struct options *o, bool directory_made);
