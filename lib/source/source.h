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

/* A position in a ring.  Without pointers: it can outlive the process. */
struct source_position {
	uint64_t block_seq; /* the kernel's number of the block; 0: nothing was read */
	uint32_t block;
	uint32_t frames; /* lent so far from the block */
};

/* The kernel's counts of a ring since they were last taken: struct tpacket_stats_v3. */
struct source_counts {
	uint32_t packets; /* drops included */
	uint32_t drops, freezes;
};

struct source_ops {
	int (*next)(struct source *, struct frame *ret, unsigned max);
	int (*stats)(struct source *, struct source_stats *ret);
	const char *(*iface)(struct source *, unsigned index);
	int (*fd)(struct source *);
	void (*free)(struct source *);
	/* Rings only. */
	void (*position)(const struct source *, struct source_position *ret);
	int (*take_counts)(struct source *, struct source_counts *ret);
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

/* The position after all lent frames.  A later source_next() returns the block, so a position saved
 * before that call neither misses nor repeats a frame. */
static inline void source_position(const struct source *s, struct source_position *ret)
{
	s->ops->position(s, ret);
}

/* Takes the kernel's counts, which resets them.  The kernel writes @ret itself: if the process is
 * killed here, either @ret or the kernel has the counts.  0 or -errno.  source_stats() resets them,
 * too. */
static inline int source_take_counts(struct source *s, struct source_counts *ret)
{
	return s->ops->take_counts(s, ret);
}

/* NULL is fine. */
static inline void source_free(struct source *s)
{
	if (s)
		s->ops->free(s);
}
