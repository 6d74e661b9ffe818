#include "flow/table.h"
#include <assert.h>
#include <string.h>
#include "base/cc.h"

enum { WAYS = 12, LOAD_WAYS = 10 /* entries a bucket is planned for */ };

static const uint64_t table_magic = 0x73796e6674626c32; /* "synftbl2" */

struct table_bucket {
	uint8_t tag[WAYS]; /* 1..255 of the hash; 0: empty */
	uint16_t passed;   /* entries whose home is here or before, and that live further on */
	uint16_t pad;
	table_ref ref[WAYS];
} CACHE_ALIGNED;
static_assert(sizeof(struct table_bucket) == CACHE_LINE, "one line a bucket");

struct key6 { /* as struct key4 */
	uint64_t addr[4];
	uint32_t ports;
} __attribute__((packed));

struct free_slot {
	uint64_t mark; /* ENTRY_FREE, where an entry has a time */
	uint32_t next;
} __attribute__((packed));

/* Without the key behind them, and without a cold part. */
static uint32_t shape_octets(enum table_shape s)
{
	return s == SHAPE_SYN ? sizeof(struct syn_entry) : sizeof(struct conn_hot);
}

static unsigned pool_of(enum table_shape s, unsigned ip_v)
{
	return (unsigned)s << 1 | (ip_v == 6);
}

/* Lays out the region; returns its size. */
static uint64_t table_lay_out(struct table_head *h, uint32_t max_full, uint32_t max_syn)
{
	uint64_t at = LINE_UP(sizeof *h);

	*h = (struct table_head){ .magic = table_magic, .max_full = max_full, .max_syn = max_syn };
	h->buckets = (uint32_t)(((uint64_t)max_full + max_syn) / LOAD_WAYS + 2);
	at += (uint64_t)h->buckets * sizeof(struct table_bucket);
	for (unsigned p = 0; p < TABLE_POOLS; p++) {
		enum table_shape s = p >> 1;
		size_t key = p & 1 ? sizeof(struct key6) : sizeof(struct key4);

		h->pool[p] = (struct table_pool){ .capacity = s == SHAPE_SYN ? max_syn : max_full,
						  .stride = (uint32_t)(shape_octets(s) + key),
						  .free = TABLE_NONE,
						  .offset = at };
		at += LINE_UP((uint64_t)h->pool[p].capacity * h->pool[p].stride);
		if (s != SHAPE_FULL)
			continue;
		h->pool[p].cold = at;
		at += LINE_UP((uint64_t)max_full * sizeof(struct conn_cold));
	}
	h->octets = at;
	return at;
}

size_t table_size(uint32_t max_full, uint32_t max_syn)
{
	struct table_head h;

	return table_lay_out(&h, max_full, max_syn);
}

static void table_view(struct table *ret, void *mem)
{
	struct table_head *h = mem;

	*ret = (struct table){ .head = h,
			       .bucket =
				       (struct table_bucket *)((uint8_t *)mem + LINE_UP(sizeof *h)),
			       .buckets = h->buckets,
			       .key_mask = UINT16_MAX };
	for (unsigned p = 0; p < TABLE_POOLS; p++) {
		ret->pool[p] = (uint8_t *)mem + h->pool[p].offset;
		ret->stride[p] = h->pool[p].stride;
		if (p >> 1 == SHAPE_FULL)
			ret->cold[p & 1] = (uint8_t *)mem + h->pool[p].cold;
	}
}

void table_init(struct table *ret, void *mem, uint32_t max_full, uint32_t max_syn)
{
	table_lay_out(mem, max_full, max_syn);
	table_view(ret, mem);
}

bool table_adopt(struct table *ret, void *mem, uint32_t max_full, uint32_t max_syn)
{
	const struct table_head *h = mem;
	struct table_head want;

	table_lay_out(&want, max_full, max_syn);
	if (h->magic != want.magic || h->octets != want.octets || h->max_full != want.max_full ||
	    h->max_syn != want.max_syn || h->buckets != want.buckets)
		return false;
	for (unsigned p = 0; p < TABLE_POOLS; p++) {
		const struct table_pool *a = &h->pool[p], *b = &want.pool[p];

		if (a->capacity != b->capacity || a->stride != b->stride ||
		    a->offset != b->offset || a->cold != b->cold || a->high > a->capacity ||
		    a->used > a->high || (a->free != TABLE_NONE && a->free >= a->high))
			return false;
	}
	table_view(ret, mem);
	return true;
}

uint32_t table_used(const struct table *t, enum table_shape s)
{
	return t->head->pool[pool_of(s, 4)].used + t->head->pool[pool_of(s, 6)].used;
}

uint32_t table_max(const struct table *t, enum table_shape s)
{
	return s == SHAPE_SYN ? t->head->max_syn : t->head->max_full;
}

static uint32_t bucket_home(const struct table *t, uint64_t hash)
{
	return (uint32_t)((hash >> 32) * t->buckets >> 32);
}

static uint32_t bucket_after(const struct table *t, uint32_t b)
{
	return ++b == t->buckets ? 0 : b;
}

static uint8_t tag_of(uint64_t hash)
{
	return (uint8_t)hash ?: 1;
}

struct flow_key table_key6(const void *at, uint64_t iface)
{
	const struct key6 *k6 = at;
	struct flow_key k = { .w[4] = iface << 32 | k6->ports, .ip_v = 6 };

	memcpy(k.w, k6->addr, sizeof k6->addr);
	k.self = k.w[0] == k.w[2] && k.w[1] == k.w[3] && k6->ports >> 16 == (k6->ports & 0xffff);
	return k;
}

/* @at: the key's octets behind an entry of the same family as @k. */
static inline __attribute__((always_inline)) bool key_equals(const void *at, uint64_t iface,
							     const struct flow_key *k)
{
	if (likely(k->ip_v == 4)) {
		const struct key4 *k4 = at;

		return k4->addr == k->w[0] && (iface << 32 | k4->ports) == k->w[1];
	}
	const struct key6 *k6 = at;

	return !memcmp(k6->addr, k->w, sizeof k6->addr) && (iface << 32 | k6->ports) == k->w[4];
}

static bool key_is(const struct table *t, table_ref r, const struct flow_key *k)
{
	return table_ip_v(r) == k->ip_v &&
	       key_equals(table_key_at(t, r), table_iface(t, r) & t->key_mask, k);
}

/* Writes @k after the entry at @entry of @shape. */
static void set_key(void *entry, enum table_shape shape, const struct flow_key *k)
{
	uint8_t *at = (uint8_t *)entry + shape_octets(shape);

	if (k->ip_v == 4) {
		struct key4 k4 = { k->w[0], (uint32_t)k->w[1] };

		memcpy(at, &k4, sizeof k4);
	} else {
		struct key6 k6 = { .ports = (uint32_t)k->w[4] };

		memcpy(k6.addr, k->w, sizeof k6.addr);
		memcpy(at, &k6, sizeof k6);
	}
}

/* One bit in the octet of each tag that equals @tag, in 12 octets of two words; now and then also
 * in one beside it (the borrow of the subtraction), which the comparison of keys sorts out. */
struct tag_match {
	uint64_t low;
	uint32_t high;
};

static struct tag_match match_tags(const struct table_bucket *k, uint8_t tag)
{
	const uint64_t ones = 0x0101010101010101, tops = ones << 7;
	uint64_t low;
	uint32_t high;

	memcpy(&low, k->tag, sizeof low);
	memcpy(&high, k->tag + sizeof low, sizeof high);
	low ^= ones * tag;
	high ^= (uint32_t)ones * tag;
	return (struct tag_match){ (low - ones) & ~low & tops,
				   (high - (uint32_t)ones) & ~high & (uint32_t)tops };
}

/* Takes the next one out: 0..WAYS-1, or WAYS. */
static unsigned next_match(struct tag_match *m)
{
	unsigned way;

	if (m->low) {
		way = (unsigned)__builtin_ctzll(m->low) / 8;
		m->low &= m->low - 1;
	} else if (m->high) {
		way = (unsigned)__builtin_ctz(m->high) / 8 + 8;
		m->high &= m->high - 1;
	} else {
		way = WAYS;
	}
	return way;
}

void table_prefetch(const struct table *t, uint64_t hash)
{
	__builtin_prefetch(&t->bucket[bucket_home(t, hash)], 1);
}

table_ref table_prefetch_entry(const struct table *t, uint64_t hash, const void **ret_entry)
{
	const struct table_bucket *k = &t->bucket[bucket_home(t, hash)];
	struct tag_match m = match_tags(k, tag_of(hash));
	table_ref first = TABLE_NONE;

	for (unsigned i = next_match(&m); i < WAYS; i = next_match(&m)) {
		const uint8_t *at = table_at(t, k->ref[i]);
		uint32_t octets = t->stride[k->ref[i] >> TABLE_POOL_SHIFT];

		__builtin_prefetch(at, 1);
		__builtin_prefetch(at + octets - 1, 1);
		if (unlikely(octets > CACHE_LINE))
			__builtin_prefetch(at + CACHE_LINE, 1);
		if (likely(first == TABLE_NONE)) {
			first = k->ref[i];
			*ret_entry = at;
		}
	}
	return first;
}

void table_prefetch_cold(const struct table *t, table_ref r)
{
	const uint8_t *k = (const uint8_t *)table_cold(t, r);

	__builtin_prefetch(k, 1);
	__builtin_prefetch(k + sizeof(struct conn_cold) - 1, 1);
}

const struct conn_hot *table_full(table_ref r, const void *entry, const struct flow_key *key,
				  uint16_t mask)
{
	const struct conn_hot *h = entry;

	if (table_shape_of(r) != SHAPE_FULL || table_ip_v(r) != key->ip_v ||
	    h->last_ns == ENTRY_FREE)
		return NULL;
	return key_equals(h + 1, h->iface & mask, key) ? h : NULL;
}

bool table_is(const struct table *t, table_ref r, const struct flow_key *key)
{
	return key_is(t, r, key) && table_live(t, r);
}

static __attribute__((noinline)) table_ref
index_search(const struct table *t, uint64_t hash, const struct flow_key *key, table_ref *ret_other)
{
	table_ref found = TABLE_NONE;
	uint8_t tag = tag_of(hash);

	if (ret_other)
		*ret_other = TABLE_NONE;
	for (uint32_t b = bucket_home(t, hash), n = 0; n < t->buckets;
	     b = bucket_after(t, b), n++) {
		const struct table_bucket *k = &t->bucket[b];
		struct tag_match m = match_tags(k, tag);

		for (unsigned i = next_match(&m); i < WAYS; i = next_match(&m)) {
			if (k->tag[i] != tag || !key_is(t, k->ref[i], key))
				continue;
			if (!ret_other)
				return k->ref[i];
			if (found != TABLE_NONE) {
				*ret_other = k->ref[i];
				return found;
			}
			found = k->ref[i];
		}
		if (!k->passed)
			break;
	}
	return found;
}

table_ref table_find(const struct table *t, uint64_t hash, const struct flow_key *key,
		     table_ref *ret_other)
{
	/* Most are new, and the home bucket alone shows it. */
	const struct table_bucket *k = &t->bucket[bucket_home(t, hash)];
	struct tag_match m = match_tags(k, tag_of(hash));

	if (m.low | m.high | k->passed)
		return index_search(t, hash, key, ret_other);
	if (ret_other)
		*ret_other = TABLE_NONE;
	return TABLE_NONE;
}

uint32_t table_places(const struct table *t)
{
	return t->buckets * WAYS;
}

table_ref table_place(const struct table *t, uint32_t place)
{
	const struct table_bucket *k = &t->bucket[place / WAYS];

	return k->tag[place % WAYS] ? k->ref[place % WAYS] : TABLE_NONE;
}

void table_prefetch_place(const struct table *t, uint32_t place)
{
	table_ref r = place < table_places(t) ? table_place(t, place) : TABLE_NONE;

	if (r == TABLE_NONE)
		return;
	__builtin_prefetch(table_at(t, r));
	if (table_shape_of(r) == SHAPE_FULL)
		table_prefetch_cold(t, r);
}

/* ---- what is written, and saved before it ---------------------------------------------------- */

void table_pools_edit(const struct table *t)
{
	undo_edit(t->undo, t->head->pool, sizeof t->head->pool);
}

struct table_edit table_edit(const struct table *t, table_ref r)
{
	bool full = table_shape_of(r) == SHAPE_FULL;
	struct table_edit e = { .cold = NULL };

	if (!full) {
		e.syn = undo_edit(t->undo, table_syn(t, r), sizeof *e.syn);
		return e;
	}
	e.hot = undo_edit(t->undo, table_hot(t, r), sizeof *e.hot);
	e.cold = undo_edit(t->undo, table_cold(t, r), sizeof *e.cold);
	return e;
}

__attribute__((noinline)) struct conn_hot *table_hot_saved_edit(const struct table *t,
								const struct conn_hot *h)
{
	return undo_edit(t->undo, h, sizeof *h);
}

/* A slot and its key, to be filled. */
static struct table_edit slot_edit(const struct table *t, table_ref r)
{
	struct table_edit e = { .cold = NULL };

	e.hot = undo_edit(t->undo, table_at(t, r), t->stride[r >> TABLE_POOL_SHIFT]);
	if (table_shape_of(r) == SHAPE_FULL)
		e.cold = undo_edit(t->undo, table_cold(t, r), sizeof *e.cold);
	return e;
}

/* ---- slots ----------------------------------------------------------------------------------- */

/* A slot of @shape for @key, lent with its key set. */
static table_ref slot_take(struct table *t, enum table_shape shape, const struct flow_key *key,
			   struct table_edit *ret)
{
	unsigned pool = pool_of(shape, key->ip_v);
	struct table_pool *p = &t->head->pool[pool];
	table_ref r = table_slot(pool, p->free);

	if (p->free != TABLE_NONE) {
		uint32_t next = ((const struct free_slot *)table_at(t, r))->next;

		p->free = next;
		if (next != TABLE_NONE) { /* not touched for long: it may be far away */
			__builtin_prefetch(table_at(t, table_slot(pool, next)), 1);
			if (shape == SHAPE_FULL)
				table_prefetch_cold(t, table_slot(pool, next));
		}
	} else {
		r = table_slot(pool, p->high++);
	}
	p->used++;
	*ret = slot_edit(t, r);
	set_key(ret->hot, shape, key);
	return r;
}

static void slot_give(struct table *t, table_ref r)
{
	struct table_pool *p = &t->head->pool[r >> TABLE_POOL_SHIFT];

	struct free_slot *slot = undo_edit(t->undo, table_at(t, r), sizeof *slot);

	*slot = (struct free_slot){ .mark = ENTRY_FREE, .next = p->free };
	p->free = table_number(r);
	p->used--;
}

/* One entry more or less lives beyond this bucket.  At the maximum the count stays: a longer
 * search, no error. */
static void bucket_pass(struct table *t, const struct table_bucket *k, int by)
{
	if (k->passed == UINT16_MAX)
		return;
	uint16_t *passed = undo_edit(t->undo, &k->passed, sizeof *passed);

	*passed = (uint16_t)(*passed + by);
}

table_ref table_insert(struct table *t, uint64_t hash, const struct flow_key *key,
		       enum table_shape shape, struct table_edit *ret)
{
	if (table_used(t, shape) >= table_max(t, shape))
		return TABLE_NONE;

	table_ref r = slot_take(t, shape, key, ret);

	/* This ends: the index has room for more than all entries. */
	for (uint32_t b = bucket_home(t, hash);; b = bucket_after(t, b)) {
		const struct table_bucket *k = &t->bucket[b];
		struct tag_match empty = match_tags(k, 0);
		unsigned i = next_match(&empty);

		if (i == WAYS) {
			bucket_pass(t, k, 1);
			continue;
		}
		struct table_bucket *to = undo_edit(t->undo, k, sizeof *to);

		to->tag[i] = tag_of(hash);
		to->ref[i] = r;
		return r;
	}
}

/* Where the index has @r; false: nowhere. */
static inline __attribute__((always_inline)) bool index_find(const struct table *t, uint64_t hash,
							     table_ref r, uint32_t *ret_bucket,
							     unsigned *ret_way)
{
	uint8_t tag = tag_of(hash);

	for (uint32_t b = bucket_home(t, hash), n = 0; n < t->buckets;
	     b = bucket_after(t, b), n++) {
		const struct table_bucket *k = &t->bucket[b];
		struct tag_match m = match_tags(k, tag);

		for (unsigned i = next_match(&m); i < WAYS; i = next_match(&m)) {
			if (k->tag[i] != tag || k->ref[i] != r)
				continue;
			*ret_bucket = b;
			*ret_way = i;
			return true;
		}
	}
	return false;
}

table_ref table_reshape(struct table *t, uint64_t hash, table_ref r, const struct flow_key *key,
			enum table_shape shape, struct table_edit *ret)
{
	uint32_t b;
	unsigned way;

	if (table_used(t, shape) >= table_max(t, shape) || !index_find(t, hash, r, &b, &way))
		return TABLE_NONE;
	table_ref to = slot_take(t, shape, key, ret);

	table_ref *ref = undo_edit(t->undo, &t->bucket[b].ref[way], sizeof *ref);

	*ref = to;
	slot_give(t, r);
	return to;
}

void table_remove(struct table *t, uint64_t hash, table_ref r)
{
	uint32_t b;
	unsigned way;

	if (!index_find(t, hash, r, &b, &way))
		return;
	uint8_t *tag = undo_edit(t->undo, &t->bucket[b].tag[way], sizeof *tag);

	*tag = 0;
	for (uint32_t back = bucket_home(t, hash); back != b; back = bucket_after(t, back))
		bucket_pass(t, &t->bucket[back], -1);
	slot_give(t, r);
}
