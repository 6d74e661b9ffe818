/* linelog_write.h - appending to a line log, in line: the publisher does it for each event. */
#pragma once
#include "base/cc.h"
#include "base/undo.h"
#include "synfind/linelog.h"

/* Space for a line of up to @n octets (at most half the size).  Discards the oldest lines as
 * needed.  The caller writes the line there and calls linelog_append(). */
static inline char *linelog_reserve(struct linelog *l, size_t n)
{
	while (*l->mark_first != l->end->mark_next &&
	       l->end->head + n - linelog_oldest(l) > l->size)
		++*l->mark_first;
	undo_order(); /* discard a line before overwriting its octets */
	return l->base + (l->end->head & (l->size - 1));
}

/* Appends the @n octets written: a line that @mark describes, but for its position. */
static inline void linelog_append(struct linelog *l, size_t n, struct linelog_mark mark)
{
	mark.at = l->end->head;
	if (l->end->mark_next - *l->mark_first > l->mark_mask)
		++*l->mark_first;
	undo_order();
	l->marks[l->end->mark_next++ & l->mark_mask] = mark;
	l->end->head += n;
	if (unlikely(mark.endpoints))
		l->end->special_end = l->end->head;
}
