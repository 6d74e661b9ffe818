/* lines.h - lines from a descriptor: a socket, a pipe or a file.  Memory is bounded: a line of more
 * than LINES_MAX octets is skipped and counted. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

enum { LINES_MAX = 1 << 20 };

struct lines {
	int fd;
	char *octets; /* owned */
	size_t at, n, scanned;
	bool skipping; /* the rest of a line that is too long */
	uint64_t too_long;
};

/* Reads from @fd, which stays the caller's.  False: no memory. */
bool lines_init(struct lines *l, int fd);

/* The next complete line without its newline, borrowed until the next call; it ends with a NUL.
 * False: none is complete. */
bool lines_next(struct lines *l, char **ret, size_t *ret_n);

/* What came without a newline before the end of the file. */
bool lines_rest(struct lines *l, char **ret, size_t *ret_n);

/* Reads once: octets, 0 at the end of the file, or -errno. */
ssize_t lines_fill(struct lines *l);

/* Frees it; a zeroed one is fine. */
void lines_done(struct lines *l);

/* Gives @take each line of the file @name; "-" is standard input, which is not closed.  Adds the
 * lines that were too long to *@too_long.  Flushes standard output before it waits for more.  An
 * exit status: CLI_FOUND, or CLI_FAILED after an error line. */
int lines_of_file(const char *name, void (*take)(void *arg, const char *line, size_t n), void *arg,
		  uint64_t *too_long);
