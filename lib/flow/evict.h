/* evict.h - which entry is removed when a table is over its limit.  Private to lib/flow.
 *
 * The only caller is the tracker, after a segment that used a slot: processing a segment never
 * evicts, because a table has TABLE_SPARE slots more than its limit. */
#pragma once
#include "flow/table.h"

struct tracker;

/* Evicts entries of the shapes that the present segment brought over their limit, down to it, but
 * at most EVICT_AT_ONCE of each: a limit that a reload lowered is reached gradually.  Not @keep,
 * the present segment's own entry, nor the newest one. */
void evict_to_limit(struct tracker *t, table_ref keep);

enum { EVICT_AT_ONCE = 2 };
