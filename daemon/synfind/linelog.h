/* linelog.h - the newest lines, once, for all subscribers: a ring of octets and where lines begin.
 *
 * The publisher appends; each subscriber is a position in the log and reads at its own pace.  A
 * position that the log has overtaken is told by linelog_oldest().  The octets are mapped twice in
 * a row, so that any stretch of them is contiguous.  One thread. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct linelog_mark {
	uint64_t at;  /* where a line begins */
	uint64_t seq; /* number of the event before it */
};

struct linelog {
	char *base;
	uint64_t size; /* octets kept, a power of two */
	uint64_t head; /* octets ever appended */
	struct linelog_mark *marks;
	uint64_t mark_mask, mark_first, mark_next; /* lines kept: first .. next-1 */
};

/* An empty log of at least @size octets; 0 or -errno. */
int linelog_init(struct linelog *l, uint64_t size);
void linelog_destroy(struct linelog *l);

/* Room for a line of up to @n octets (at most a quarter of the size): forgets the oldest lines as
 * needed.  The caller writes the line there and calls linelog_commit(). */
char *linelog_reserve(struct linelog *l, size_t n);

/* Keeps the @n octets written, a line that begins behind event number @seq. */
void linelog_commit(struct linelog *l, size_t n, uint64_t seq);

/* Position of the oldest line kept, or the head. */
static inline uint64_t linelog_oldest(const struct linelog *l)
{
	return l->mark_first == l->mark_next ? l->head
					     : l->marks[l->mark_first & l->mark_mask].at;
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
