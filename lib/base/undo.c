#include "base/undo.h"
#include <errno.h>

_Static_assert(sizeof(struct undo_record) == 8, "undo.h");

void undo_init(struct undo *u, void *base, size_t size, void *log, size_t octets)
{
	*u = (struct undo){
		.base = base, .size = size, .log = log, .capacity = octets - sizeof(struct undo_log)
	};
}

int undo_rollback(struct undo *u)
{
	if (!undo_is_open(u))
		return 0;

	uint64_t end = u->log->used;

	if (end == UNDO_OVERFLOW)
		return -ENOSPC;
	if (end > u->capacity)
		return -EBADMSG;
	while (end) {
		struct undo_record r;

		if (end < sizeof r)
			return -EBADMSG;
		memcpy(&r, u->log->records + end - sizeof r, sizeof r);
		if (end < UNDO_COST(r.n) || r.offset > u->size || r.n > u->size - r.offset)
			return -EBADMSG;
		end -= UNDO_COST(r.n);
		memcpy(u->base + r.offset, u->log->records + end, r.n);
	}
	undo_commit(u); /* last: until then, an interrupted rollback starts over */
	return 0;
}
