/* source.h - the common interface of the live ring and of files.
 *
 * A source lends frames: they are valid until the next source_next() or source_free().  One thread
 * uses a source.  Errors are -errno; nothing here logs. */
#pragma once
#include <stdint.h>

struct frame; /* "wire/frame.h" */
struct source;

/* Totals since the source was opened. */
struct source_stats {
	uint64_t packets; /* passed the filter, without drops */
	uint64_t drops;
	uint64_t freezes; /* times that the ring was full */
};

struct source_ops {
	int (*next)(struct source *, struct frame *ret, unsigned max);
	int (*stats)(struct source *, struct source_stats *ret);
	const char *(*iface)(struct source *, unsigned index);
	int (*fd)(struct source *);
	void (*free)(struct source *);
};

/* First member of each kind of source. */
struct source {
	const struct source_ops *ops;
};

/* Lends up to @max frames and returns their number.  0: none now (ring: poll its fd) or the end of
 * the file.  -errno: ring: -ENETDOWN, the interface is down and frames may come again; file:
 * -EBADMSG or -EIO, its error text says where. */
static inline int source_next(struct source *s, struct frame *ret, unsigned max)
{
	return s->ops->next(s, ret, max);
}

/* 0 or -errno. */
static inline int source_stats(struct source *s, struct source_stats *ret)
{
	return s->ops->stats(s, ret);
}

/* The name of frame.iface @index; borrowed; "" if it has no name, never NULL. */
static inline const char *source_iface(struct source *s, unsigned index)
{
	return s->ops->iface(s, index);
}

/* Descriptor to poll for POLLIN; -1: source_next() never blocks. */
static inline int source_fd(struct source *s)
{
	return s->ops->fd(s);
}

/* NULL is fine. */
static inline void source_free(struct source *s)
{
	if (s)
		s->ops->free(s);
}
