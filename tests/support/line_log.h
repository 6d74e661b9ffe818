/* line_log.h - a line log in memory of its own, without the stream around it. */
#pragma once
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>
#include "synfind/linelog.h"

/* What the stream's memory has of a log. */
struct log_words {
	struct linelog_end end;
	uint64_t mark_first;
	struct linelog_mark marks[];
};

static inline int log_new(struct linelog *l, uint64_t octets)
{
	uint64_t size = linelog_size(octets);
	struct log_words *w = calloc(1, sizeof *w + linelog_marks(size) * sizeof *w->marks);
	int fd = memfd_create("log", 0), r;

	if (ftruncate(fd, (off_t)size) < 0)
		abort();
	*l = (struct linelog){ 0 };
	r = linelog_map(l, fd, 0, size, w->marks, &w->end, &w->mark_first);
	close(fd);
	if (r < 0)
		free(w);
	return r;
}

static inline void log_free(struct linelog *l)
{
	free(l->end);
	linelog_unmap(l);
}
