/* listen.h - our sockets in the file system: create them, inherit them, remove them.
 *
 * Who creates PATH has a lock (flock(2)) on PATH.lock for the life of its process, so that no other
 * process replaces a socket that does not listen yet, or does not any more.  A socket of systemd
 * needs no lock. */
#pragma once
#include <stdbool.h>

struct options;
struct fdstore;

enum listen_kind {
	LISTEN_EVENTS,	/* subscribers.h */
	LISTEN_CONTROL, /* control.h */
	LISTEN_KINDS
};

/* Listens on the path of the options, with the mode and group of the events socket.  Replaces the
 * socket of a dead process.  Fails if another process listens there (-EADDRINUSE), or if the path
 * is not a socket (-EEXIST).  Logs what fails.  Returns the descriptor or -errno;
 * *ret_directory_made: it created the directory. */
int listen_open(const struct options *o, enum listen_kind kind, bool *ret_directory_made);

/* The inherited listening socket: the service manager's, or one that an earlier process created and
 * stored (*ret_own).  -ENOENT: there is none. */
#define EVENTS_SOCKET "events" /* both: the control socket is the one named control.sock */
int listen_inherited(struct fdstore *fdstore, enum listen_kind kind, bool *ret_own);

/* Keeps our own socket for the next process, or removes it from what is kept. */
void listen_store(struct fdstore *fdstore, enum listen_kind kind, int fd);
void listen_unstore(struct fdstore *fdstore, enum listen_kind kind);

/* The path of a listening socket; "" if it has none. */
void listen_path(int fd, char ret[static 108]);

/* Removes the paths, unless a process listens there, and the directories that were created: a bit
 * of @directories for each enum listen_kind. */
void listen_remove(const struct options *o, unsigned directories);
