#include "synfinctl/lines.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "synfinctl/cli.h"

/* One octet more, for the NUL of a last line without a newline. */
enum { SIZE = LINES_MAX + 1 };

bool lines_init(struct lines *l, int fd)
{
	*l = (struct lines){ .fd = fd, .octets = malloc(SIZE + 1) };
	return l->octets;
}

static bool lines_take(struct lines *l, char *end, char **ret, size_t *ret_n)
{
	char *begin = l->octets + l->at;

	*end = 0;
	*ret = begin;
	*ret_n = (size_t)(end - begin);
	l->at = l->scanned = (size_t)(end + 1 - l->octets);
	return true;
}

bool lines_next(struct lines *l, char **ret, size_t *ret_n)
{
	for (;;) {
		char *end = memchr(l->octets + l->scanned, '\n', l->n - l->scanned);

		if (!end) {
			l->scanned = l->n;
			return false;
		}
		if (!l->skipping)
			return lines_take(l, end, ret, ret_n);
		l->skipping = false;
		l->at = l->scanned = (size_t)(end + 1 - l->octets);
	}
}

bool lines_rest(struct lines *l, char **ret, size_t *ret_n)
{
	if (l->skipping || l->at == l->n)
		return false;
	lines_take(l, l->octets + l->n, ret, ret_n);
	l->at = l->scanned = l->n;
	return true;
}

ssize_t lines_fill(struct lines *l)
{
	ssize_t r;

	if (l->at) {
		memmove(l->octets, l->octets + l->at, l->n - l->at);
		l->n -= l->at;
		l->scanned -= l->at;
		l->at = 0;
	}
	if (l->n == SIZE) {
		l->too_long += !l->skipping;
		l->skipping = true;
		l->n = l->scanned = 0;
	}
	r = read(l->fd, l->octets + l->n, SIZE - l->n);
	if (r < 0)
		return -errno;
	l->n += (size_t)r;
	return r;
}

void lines_done(struct lines *l)
{
	free(l->octets);
	l->octets = NULL;
}

int lines_of_file(const char *name, void (*take)(void *arg, const char *line, size_t n), void *arg,
		  uint64_t *too_long)
{
	bool standard = !strcmp(name, "-");
	int fd = standard ? STDIN_FILENO : open(name, O_RDONLY | O_CLOEXEC);
	struct lines l;
	ssize_t got;
	char *line;
	size_t n;

	if (fd < 0)
		return cli_error(CLI_FAILED, "%s: %s", name, strerror(errno));
	if (!lines_init(&l, fd)) {
		close(fd);
		return cli_error(CLI_FAILED, "out of memory");
	}
	do {
		fflush(stdout); /* more may not come for long */
		got = lines_fill(&l);
		while (got > 0 && lines_next(&l, &line, &n))
			take(arg, line, n);
	} while (got > 0 || got == -EINTR);
	if (got == 0 && lines_rest(&l, &line, &n))
		take(arg, line, n);
	*too_long += l.too_long;
	lines_done(&l);
	if (!standard)
		close(fd);
	return got < 0 ? cli_error(CLI_FAILED, "%s: %s", name, strerror((int)-got)) : CLI_FOUND;
}
