/* linelog.h - the newest lines, stored once for all subscribers: a ring of octets and an index of
 * line starts (marks), with the kind of each line and the verdicts of the filters on it.
 *
 * The publisher appends (linelog_write.h).  Each subscriber is a position in the log and reads at
 * its own pace; linelog_oldest() shows whether the log has overtaken it.  The octets are mapped
 * twice in a row, so that any range of them is contiguous.  One thread.
 *
 * The memory outlives the process (stream_state.h).  Appending a line writes its octets, its mark
 * and `end`.  Readers stop at `end`, so restoring `end` takes the line back.  `mark_first` only
 * grows, and does so before octets are overwritten. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct filters;
struct subscription;

enum { LINE_MIN = 128 }; /* no line is shorter, which limits the number of marks */

struct linelog_mark {
	uint64_t at : 56;	 /* position of the start of a line */
	uint64_t kind : 8;	 /* enum line_kind */
	uint64_t seq : 48;	 /* number of the event before it */
	uint64_t endpoints : 16; /* if not 0: only for subscribers that want one of these */
	/* Filters that it passes; of LINE_LOST with endpoints: how many lines it stands for. */
	uint64_t bits;
};

struct linelog_end {
	uint64_t head;	      /* octets ever appended */
	uint64_t mark_next;   /* lines ever appended */
	uint64_t special_end; /* before it are lines that not everybody gets; none after it */
};

/* A view; it owns the mapping of the octets and borrows the rest. */
struct linelog {
	char *base;
	uint64_t size; /* octets kept, a power of two */
	struct linelog_mark *marks;
	uint64_t mark_mask;
	struct linelog_end *end;
	uint64_t *mark_first;	       /* lines mark_first .. mark_next - 1 are kept */
	const struct filters *filters; /* borrowed, set by the owner; NULL: there are none */
};

/* The size of a log of at least @octets. */
uint64_t linelog_size(uint64_t octets);

/* The number of marks of a log of this size. */
static inline uint64_t linelog_marks(uint64_t size)
{
	return size / LINE_MIN;
}

/* Views the log of linelog_size() octets at @offset of @fd, a multiple of the page size, and its
 * other parts.  All zeroes are an empty log.  0 or -errno. */
int linelog_map(struct linelog *l, int fd, uint64_t offset, uint64_t size,
		struct linelog_mark *marks, struct linelog_end *end, uint64_t *mark_first);

/* A zeroed one is fine. */
void linelog_unmap(struct linelog *l);

/* Discards all lines. */
void linelog_clear(struct linelog *l);

/* Is adopted memory a consistent log? */
bool linelog_is_sound(const struct linelog *l);

/* Position of the oldest line kept, or the head. */
static inline uint64_t linelog_oldest(const struct linelog *l)
{
	return *l->mark_first == l->end->mark_next ? l->end->head
						   : l->marks[*l->mark_first & l->mark_mask].at;
}

/* Index of the first line that begins at or after @at: mark_first .. mark_next. */
uint64_t linelog_line_at(const struct linelog *l, uint64_t at);

/* Index of the first line after event @seq: mark_first .. mark_next. */
uint64_t linelog_line_after(const struct linelog *l, uint64_t seq);

/* The mark of line @i; i == mark_next: the head, after event number @seq_now. */
static inline struct linelog_mark linelog_mark(const struct linelog *l, uint64_t i,
					       uint64_t seq_now)
{
	if (i == l->end->mark_next)
		return (struct linelog_mark){ .at = l->end->head, .seq = seq_now };
	return l->marks[i & l->mark_mask];
}

/* Does a subscriber with @want get line @i?  *ret_parsed: it is older than the filter, so its text
 * was parsed, which takes some us. */
bool linelog_wants(const struct linelog *l, uint64_t i, const struct subscription *want,
		   bool *ret_parsed);

/* Index of the first line of @i to @end - 1 that linelog_wants() must look at, or @end.  Those
 * before it are not wanted. */
uint64_t linelog_pass(const struct linelog *l, uint64_t i, uint64_t end,
		      const struct subscription *want);

/* The head - at octets from @at on, contiguous. */
static inline const char *linelog_octets(const struct linelog *l, uint64_t at)
{
	return l->base + (at & (l->size - 1));
}
