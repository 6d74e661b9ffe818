/* listen.h - the events socket in the file system: made, taken over from the dead, removed. */
#pragma once
#include <stdbool.h>

struct options;

/* Listens on options->socket with its mode and group.  A socket that a dead process left is
 * replaced; one with a live listener is refused (-EADDRINUSE), and so is anything that is not a
 * socket (-EEXIST).  Logs what fails.  Returns the descriptor or -errno; *ret_directory_made: the
 * directory was not there and was made. */
int listen_open(const struct options *o, bool *ret_directory_made);

/* The listening socket that systemd holds for us, by its name; -ENOENT: it does not.  Others that it
 * passed are closed.  Asks once: the environment forgets them. */
#define EVENTS_SOCKET "events"
int listen_inherited(void);

/* The path of a listening socket, "" if it has none that can be told. */
void listen_path(int fd, char ret[static 108]);

/* Removes the path, if nobody listens there any more, and the directory, if it was made. */
void listen_remove(const struct options *o, bool directory_made);
