/* source.h - where frames come from: one contract for the live ring and for files.
 *
 * A source lends frames; they are valid until the next call of source_next() or source_free(),
 * which give them back.  One thread uses a source.  Errors are -errno; nothing here logs. */
#pragma once
#include <stdint.h>
#include "wire/frame.h" /* struct frame: lent by value */

/* Frames that the kernel let pass and frames that it had to drop, since the source began. */
struct source_stats {
	uint64_t packets; /* passed the filter, drops not included */
	uint64_t drops;
	uint64_t freezes; /* times the ring was found full */
};

struct source;

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

/* Lends up to @max frames.  Returns their number; 0: none at present (a ring: poll its fd; a
 * file: its end); -errno: the source is broken (the ring: -ENETDOWN, the interface went down and
 * frames may come again; a file: -EBADMSG or -EIO, its error text says where). */
static inline int source_next(struct source *s, struct frame *ret, unsigned max)
{
	return s->ops->next(s, ret, max);
}

/* Totals since the source began; 0 or -errno. */
static inline int source_stats(struct source *s, struct source_stats *ret)
{
	return s->ops->stats(s, ret);
}

/* Name of interface @index of its frames; borrowed; never NULL ("" if it has no name). */
static inline const char *source_iface(struct source *s, unsigned index)
{
	return s->ops->iface(s, index);
}

/* Descriptor to poll for POLLIN; -1: none needed, source_next() never waits. */
static inline int source_fd(struct source *s)
{
	return s->ops->fd(s);
}

/* Gives everything back; NULL is fine. */
static inline void source_free(struct source *s)
{
	if (s)
		s->ops->free(s);
}
