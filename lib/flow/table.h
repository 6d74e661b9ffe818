/* table.h - the flow table: fixed memory, open addressing, entries named by slot number.
 *
 * The table lies in one region that the caller lends, without a pointer in it, so it can live in a
 * memfd and outlast the process.  Two shapes of entry ("flow/entry_layout.h") times two address
 * families make four pools.  A slot has the entry's octets, then the key; full entries have their
 * cold part in an array of its own:
 *
 *     IPv4  SYN 56   full 64 + 52        IPv6  SYN 80   full 88 + 52
 *
 * The index adds 64 octets for 12 entries at 5/6 load: 6.4 an entry.  In all, a connection takes
 * 122.4 octets and a half-open one 62.4 (IPv4), or 146.4 and 86.4 (IPv6).  Untouched memory costs
 * nothing.
 *
 * The index is an array of cache lines (buckets).  An entry lives in its home bucket or, while that
 * is full, in one of the next.  Each bucket counts the entries that passed it, so that a search
 * knows when to stop and a removal leaves no tombstone.
 *
 * Readers get const pointers.  To write, call table_edit(), table_hot_edit() or table_insert():
 * they save the entry in the undo log and lend it.  One thread owns a table.  Nothing here
 * allocates, evicts, logs or reads a clock. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/cc.h"
#include "base/undo.h"
#include "flow/entry_layout.h"
#include "flow/key.h"

enum table_shape { SHAPE_SYN, SHAPE_FULL, SHAPES };

/* A slot of a pool, or TABLE_NONE.  Valid until it is removed. */
typedef uint32_t table_ref;
#define TABLE_NONE ((table_ref)UINT32_MAX)

enum { TABLE_POOLS = 4, TABLE_POOL_SHIFT = 30, TABLE_MAX_SLOTS = 1 << 28 };

/* Slots of each shape beyond the limit that the table's user keeps: one segment takes at most so
 * many, and eviction comes after it. */
enum { TABLE_SPARE = 2 };

static inline enum table_shape table_shape_of(table_ref r)
{
	return r >> (TABLE_POOL_SHIFT + 1) & 1;
}

static inline unsigned table_ip_v(table_ref r)
{
	return r >> TABLE_POOL_SHIFT & 1 ? 6 : 4;
}

struct table_pool {
	uint32_t capacity; /* slots */
	uint32_t stride;   /* octets a slot */
	uint32_t high;	   /* slots ever used: those above are untouched */
	uint32_t free;	   /* first of the free list, or TABLE_NONE */
	uint32_t used;
	uint64_t offset; /* of slot 0 in the region */
	uint64_t cold;	 /* of full entries: of slot 0's cold part */
};

struct table_head { /* at the start of the region */
	uint64_t magic, octets;
	uint32_t max_full, max_syn, buckets, pad;
	struct table_pool pool[TABLE_POOLS];
};

struct table { /* a process's view of the region */
	struct table_head *head;
	struct table_bucket *bucket;
	uint8_t *pool[TABLE_POOLS]; /* slot 0 of each */
	uint8_t *cold[2];	    /* of full entries of IPv4, of IPv6: slot 0's cold part */
	uint32_t stride[TABLE_POOLS];
	uint32_t buckets;
	/* Set by the owner, or NULL.  head->pool is the owner's to save: table_pools_edit(). */
	struct undo *undo;
	/* Bits of an entry's iface that its key has: all, unless the owner sets others. */
	uint16_t key_mask;
};

/* The number of the slot in its pool. */
static inline uint32_t table_number(table_ref r)
{
	return r & (TABLE_MAX_SLOTS * 4u - 1);
}

/* The entry's octets. */
static inline const uint8_t *table_at(const struct table *t, table_ref r)
{
	unsigned p = r >> TABLE_POOL_SHIFT;

	return t->pool[p] + (uint64_t)table_number(r) * t->stride[p];
}

/* Octets of the region for so many whole and SYN entries. */
size_t table_size(uint32_t max_full, uint32_t max_syn);

/* Makes an empty table in @mem: table_size() octets, zeroed, aligned to a cache line, borrowed. */
void table_init(struct table *ret, void *mem, uint32_t max_full, uint32_t max_syn);

/* Views the table that lies in @mem, made by another process maybe; false: none of these sizes. */
bool table_adopt(struct table *ret, void *mem, uint32_t max_full, uint32_t max_syn);

/* Entries of a shape, and the most there can be. */
uint32_t table_used(const struct table *t, enum table_shape s);
uint32_t table_max(const struct table *t, enum table_shape s);

/* Asks the processor for the index line of @hash, and, once that is there, for the entries that
 * may be meant: a search comes soon. */
void table_prefetch(const struct table *t, uint64_t hash);

/* Returns the first entry that may be the one, or TABLE_NONE: see table_is().  *ret_entry: its
 * octets. */
table_ref table_prefetch_entry(const struct table *t, uint64_t hash, const void **ret_entry);

/* The same for the cold part of the full entry @r. */
void table_prefetch_cold(const struct table *t, table_ref r);

/* Is @r, which was an entry a while ago, now an entry of @key?  It may not be the only one. */
bool table_is(const struct table *t, table_ref r, const struct flow_key *key);

/* The entry @r at @entry, if it is a full one and @key's, as table_is() has it; else NULL.  @mask
 * is the key_mask of the table: a constant where that is known. */
const struct conn_hot *table_full(table_ref r, const void *entry, const struct flow_key *key,
				  uint16_t mask);

/* The entries of @key: *ret_other, if not NULL, is a second one (a pending SYN entry). */
table_ref table_find(const struct table *t, uint64_t hash, const struct flow_key *key,
		     table_ref *ret_other);

/* An entry that is lent to be written; saved for the undo log. */
struct table_edit {
	union {
		struct syn_entry *syn;
		struct conn_hot *hot;
	};
	struct conn_cold *cold; /* NULL for a SYN entry */
};

/* Lends the entry @r. */
struct table_edit table_edit(const struct table *t, table_ref r);

/* Lends only the hot part @h of a full entry.  Without an undo log that costs a comparison. */
struct conn_hot *table_hot_saved_edit(const struct table *t, const struct conn_hot *h);

static inline struct conn_hot *table_hot_edit(const struct table *t, const struct conn_hot *h)
{
	return unlikely(t->undo) ? table_hot_saved_edit(t, h) : (struct conn_hot *)h;
}

/* Lends the pools' heads; once at the start of each transaction. */
void table_pools_edit(const struct table *t);

/* Adds an entry of @shape for @key and lends it, its octets unset (the caller sets them at once).
 * TABLE_NONE: this shape is at its maximum. */
table_ref table_insert(struct table *t, uint64_t hash, const struct flow_key *key,
		       enum table_shape shape, struct table_edit *ret);

/* The entry @r of @key takes another @shape, and so another slot, lent with its octets unset; its
 * place in the index stays.  TABLE_NONE: that shape is at its maximum, @r stays. */
table_ref table_reshape(struct table *t, uint64_t hash, table_ref r, const struct flow_key *key,
			enum table_shape shape, struct table_edit *ret);

/* Removes an entry; @hash is its key's. */
void table_remove(struct table *t, uint64_t hash, table_ref r);

/* The entry, to be read: a SYN entry, or the two parts of a full one, as table_shape_of() says. */
static inline const struct conn_hot *table_hot(const struct table *t, table_ref r)
{
	return (const struct conn_hot *)table_at(t, r);
}

static inline const struct conn_cold *table_cold(const struct table *t, table_ref r)
{
	unsigned p = r >> TABLE_POOL_SHIFT;

	return (const struct conn_cold *)t->cold[p & 1] + table_number(r);
}

static inline const struct syn_entry *table_syn(const struct table *t, table_ref r)
{
	return (const struct syn_entry *)table_at(t, r);
}

/* struct flow_key without what the pool and the entry say: its words, the last without iface. */
struct key4 {
	uint64_t addr;
	uint32_t ports;
} __attribute__((packed));

/* The key at @at, of an IPv6 entry of @iface. */
struct flow_key table_key6(const void *at, uint64_t iface);

/* Where the entry was seen, and the octets of its key, which are behind it. */
static inline uint64_t table_iface(const struct table *t, table_ref r)
{
	return table_shape_of(r) == SHAPE_SYN ? table_syn(t, r)->where.iface
					      : table_hot(t, r)->iface;
}

static inline const void *table_key_at(const struct table *t, table_ref r)
{
	return table_shape_of(r) == SHAPE_SYN ? (const void *)(table_syn(t, r) + 1)
					      : (const void *)(table_hot(t, r) + 1);
}

/* The entry's key. */
static inline struct flow_key table_key(const struct table *t, table_ref r)
{
	uint64_t iface = table_iface(t, r) & t->key_mask;
	const struct key4 *at = table_key_at(t, r);

	if (unlikely(table_ip_v(r) != 4))
		return table_key6(at, iface);
	bool same = at->addr >> 32 == (uint32_t)at->addr && at->ports >> 16 == (at->ports & 0xffff);

	return (struct flow_key){ .w = { at->addr, iface << 32 | at->ports },
				  .ip_v = 4,
				  .self = same };
}

/* Where the index has an entry: places 0 to table_places() - 1.  An entry keeps its place as long
 * as it lives, whatever its shape becomes. */
uint32_t table_places(const struct table *t);

/* The entry at @place, or TABLE_NONE. */
table_ref table_place(const struct table *t, uint32_t place);

/* Asks the processor for the entry at @place, if there is such a place. */
void table_prefetch_place(const struct table *t, uint32_t place);

/* Is this slot in use?  For walks over pool @p: refs table_slot(p, 0 .. pool.high-1). */
static inline bool table_live(const struct table *t, table_ref r)
{
	return table_syn(t, r)->start_ns != ENTRY_FREE; /* where every shape has it */
}

static inline table_ref table_slot(unsigned pool, uint32_t slot)
{
	return (table_ref)pool << TABLE_POOL_SHIFT | slot;
}
