/* listen.h - the events socket in the file system: made, taken over from the dead, removed. */
#pragma once
#include <stdbool.h>

struct options;
struct fdstore;

/* Listens on options->socket with its mode and group.  A socket that a dead process left is
 * replaced; one with a live listener is refused (-EADDRINUSE), and so is anything that is not a
 * socket (-EEXIST).  Logs what fails.  Returns the descriptor or -errno; *ret_directory_made: the
 * directory was not there and was made. */
int listen_open(const struct options *o, bool *ret_directory_made);

/* The listening socket that we inherited, by its name: the service manager's, or one that we made
 * and stored (*ret_own).  -ENOENT: there is none. */
#define EVENTS_SOCKET "events"
#define LISTENER      "listener"
int listen_inherited(struct fdstore *fdstore, bool *ret_own);

/* The path of a listening socket, "" if it has none that can be told. */
void listen_path(int fd, char ret[static 108]);

/* Removes the path, if nobody listens there any more, and the directory, if it was made. */
void listen_remove(const struct options *o, bool directory_made);
