#include "flow/recall.h"
#include <string.h>
#include "base/undo.h"

static const struct recall_head *recall_at(struct recall r, uint64_t flow, unsigned way)
{
	uint64_t set = (flow >> 32) * r.sets >> 32;

	return (const void *)((const char *)r.records + (set * RECALL_WAYS + way) * r.octets);
}

const void *recall_find(struct recall r, uint64_t flow)
{
	for (unsigned way = 0; way < RECALL_WAYS; way++) {
		const struct recall_head *h = recall_at(r, flow, way);

		if (h->flow == flow)
			return h;
	}
	return NULL;
}

void *recall_edit(struct recall r, uint64_t flow, uint64_t *count, struct undo *undo)
{
	const struct recall_head *oldest = recall_find(r, flow);
	bool known = oldest;

	for (unsigned way = 0; way < RECALL_WAYS && !known; way++) {
		const struct recall_head *h = recall_at(r, flow, way);

		if (!oldest || h->written < oldest->written)
			oldest = h;
	}
	struct recall_head *to = undo_edit(undo, oldest, r.octets);

	if (!known)
		memset(to, 0, r.octets);
	to->flow = flow;
	to->written = ++*count;
	return to;
}
