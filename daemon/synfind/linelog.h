/* linelog.h - the newest lines, once, for all subscribers: a ring of octets and where lines begin.
 *
 * The publisher appends; each subscriber is a position in the log and reads at its own pace.  A
 * position that the log has overtaken is told by linelog_oldest().  The octets are mapped twice in
 * a row, so that any stretch of them is contiguous.  One thread.
 *
 * All of it lies in memory that outlives the process (stream_state.h).  What a line changes is its
 * own octets and mark, which nobody reads before `end` has moved on, and `end`: whoever puts `end`
 * back has taken the line back.  `mark_first` only ever grows, and does so before octets are
 * overwritten. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct linelog_mark {
	uint64_t at;  /* where a line begins */
	uint64_t seq; /* number of the event before it */
};

struct linelog_end {
	uint64_t head;	    /* octets ever appended */
	uint64_t mark_next; /* lines ever appended */
};

/* A view of it; all is borrowed but the mapping of the octets. */
struct linelog {
	char *base;
	uint64_t size; /* octets kept, a power of two */
	struct linelog_mark *marks;
	uint64_t mark_mask;
	struct linelog_end *end;
	uint64_t *mark_first; /* lines kept: first .. next-1 */
};

/* The size of a log of at least @octets. */
uint64_t linelog_size(uint64_t octets);

/* How many marks a log of this size has. */
uint64_t linelog_marks(uint64_t size);

/* Views a log of linelog_size() octets at @offset of @fd, a multiple of the page size, and its
 * other parts; a new one is all zeroes.  0 or -errno. */
int linelog_map(struct linelog *l, int fd, uint64_t offset, uint64_t size,
		struct linelog_mark *marks, struct linelog_end *end, uint64_t *mark_first);

/* A zeroed one is fine. */
void linelog_unmap(struct linelog *l);

/* Room for a line of up to @n octets (at most half the size): forgets the oldest lines as needed.
 * The caller writes the line there and calls linelog_append(). */
char *linelog_reserve(struct linelog *l, size_t n);

/* Keeps the @n octets written, a line that begins behind event number @seq. */
void linelog_append(struct linelog *l, size_t n, uint64_t seq);

/* Could this be what a process left?  Of memory that was adopted. */
bool linelog_is_sound(const struct linelog *l);

/* Position of the oldest line kept, or the head. */
static inline uint64_t linelog_oldest(const struct linelog *l)
{
	return *l->mark_first == l->end->mark_next ? l->end->head
						   : l->marks[*l->mark_first & l->mark_mask].at;
}

/* The first line that begins at or behind @at: its index, mark_first .. mark_next. */
uint64_t linelog_line_at(const struct linelog *l, uint64_t at);

/* The line at index @i; i == mark_next: none, the head. */
struct linelog_mark linelog_mark(const struct linelog *l, uint64_t i, uint64_t seq_now);

/* The octets from @at on: contiguous, head - at of them. */
static inline const char *linelog_octets(const struct linelog *l, uint64_t at)
{
	return l->base + (at & (l->size - 1));
}
