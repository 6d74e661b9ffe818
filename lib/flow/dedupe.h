/* dedupe.h - a connection that several origins show is one: which of its segments count.
 *
 * Each direction of a connection has an owner, the origin (origin.h) that showed it first.  Only
 * the owners' segments are processed; those that another origin shows are copies.  A segment that
 * is ahead of what the owner has shown is no copy: the route has changed, and its origin becomes
 * the owner.  So the key of a connection has no interface, and its entry has the pair of owners.
 *
 * Two connections may have the same 4-tuple at the same time, on networks that do not meet (two
 * containers with equal addresses).  Their ISNs differ.  The further ones are instances 1 to 3: the
 * key has the instance in place of the interface.
 *
 * Private to lib/flow. */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include "flow/key.h"
#include "flow/table.h"

struct segment;
struct tracker;

/* The 16 bits of an entry's iface are an instance and the number of an origin. */
enum { INSTANCE_SHIFT = 14, INSTANCES = 4 };

/* Where a segment goes. */
struct placed {
	struct flow_key key;
	uint64_t hash;
	table_ref ref; /* an entry of the key, or TABLE_NONE */
	unsigned instance;
};

/* Makes @k a key of @instance: it stands in place of the interface. */
static inline void dedupe_key(struct flow_key *k, unsigned instance)
{
	uint64_t *rest = &k->w[k->ip_v == 4 ? 1 : 4];

	*rest = (*rest & UINT32_MAX) | (uint64_t)instance << (INSTANCE_SHIFT + 32);
}

/* Is @s of the entry @r, without a choice, if the 4-tuple has no other instance?  Most segments
 * are: their origin owns their direction, and no incarnation waits.  Not the server's SYN,
 * which may begin another connection. */
bool dedupe_is_alone(const struct tracker *t, table_ref r, unsigned sender,
		     const struct segment *s);

/* @p has the key of @s, which end @sender sent, in instance 0, and gets its place.  May make the
 * origin of @s the owner of its direction.  False: it is a copy, and was counted. */
bool dedupe_place(struct tracker *t, struct placed *p, unsigned sender, const struct segment *s);

/* Makes @k the key of the instance whose client's SYN is @quoted, in an ICMP error; else that of
 * instance 0. */
void dedupe_quoted(const struct tracker *t, struct flow_key *k, unsigned sender,
		   const struct segment *quoted);
