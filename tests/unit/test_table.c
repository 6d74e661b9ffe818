#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include "base/cc.h"
#include "flow/table.h"
#include "tests/support/rand.h"
#include "tests/support/tap.h"

static struct table table_make(uint32_t max_full, uint32_t max_syn)
{
	size_t size = (table_size(max_full, max_syn) + CACHE_LINE - 1) / CACHE_LINE * CACHE_LINE;
	void *mem = aligned_alloc(CACHE_LINE, size);
	struct table t;

	if (!mem)
		abort();
	memset(mem, 0, size);
	table_init(&t, mem, max_full, max_syn);
	return t;
}

/* Key number @n: both families, several interfaces, neighbours that differ in one field. */
static struct flow_key key_of(uint32_t n)
{
	struct flow_key k = { .ip_v = n & 1 ? 6 : 4 };
	uint64_t rest = (uint64_t)(n >> 1 & 3) << 32 | (uint64_t)(n >> 3 & 7) << 16 | 443;

	if (k.ip_v == 4) {
		k.w[0] = (uint64_t)(n >> 6) << 32 | 0xfffffffe;
		k.w[1] = rest;
	} else {
		k.w[0] = 0x20010db800000000;
		k.w[1] = n >> 6 & 15;
		k.w[2] = 0x20010db800000001;
		k.w[3] = n >> 10;
		k.w[4] = rest;
	}
	return k;
}

static uint8_t iface_of(const struct flow_key *k)
{
	return (uint8_t)(k->w[k->ip_v == 4 ? 1 : 4] >> 32);
}

/* ---- a simple reference --------------------------------------------------------------------- */

enum { KEYS = 4096, MAX_WHOLE = 1500, MAX_HALF = 1100, ENTRIES = MAX_WHOLE + MAX_HALF };

struct entry {
	uint32_t key;
	table_ref ref;
	uint64_t stamp;
};

struct model {
	struct table t;
	uint64_t (*hash)(uint32_t key);
	struct entry live[ENTRIES];
	unsigned n, used[SHAPES], wrong;
	uint64_t stamps;
};

/* The entry's octets: all from its stamp, so that two that share any of them show. */
static void pattern(uint8_t *p, size_t n, uint64_t stamp)
{
	for (size_t i = 0; i < n; i++)
		p[i] = (uint8_t)((stamp * 0x9e3779b97f4a7c15u) >> (i % 8 * 8)) ^ (uint8_t)i;
}

static struct conn_hot hot_of(uint64_t stamp, uint8_t iface)
{
	struct conn_hot h;

	pattern((uint8_t *)&h, sizeof h, stamp);
	h.last_ns = stamp;
	h.iface = iface;
	return h;
}

static struct conn_cold cold_of(uint64_t stamp)
{
	struct conn_cold k;

	pattern((uint8_t *)&k, sizeof k, ~stamp);
	return k;
}

static void fill_full(struct table_edit e, uint64_t stamp, uint8_t iface)
{
	*e.hot = hot_of(stamp, iface);
	*e.cold = cold_of(stamp);
}

static struct syn_entry half_of(uint64_t stamp, uint8_t iface)
{
	struct syn_entry h;

	pattern((uint8_t *)&h, sizeof h, stamp);
	h.start_ns = stamp;
	h.where.iface = iface;
	return h;
}

static void check_octets(struct model *m, const struct entry *e)
{
	struct flow_key k = key_of(e->key), in = table_key(&m->t, e->ref);
	struct conn_hot hot = hot_of(e->stamp, iface_of(&k));
	struct conn_cold cold = cold_of(e->stamp);
	struct syn_entry h = half_of(e->stamp, iface_of(&k));

	m->wrong += !table_live(&m->t, e->ref) || memcmp(k.w, in.w, sizeof k.w) ||
		    k.ip_v != in.ip_v || table_ip_v(e->ref) != k.ip_v;
	if (table_shape_of(e->ref) == SHAPE_FULL)
		m->wrong += memcmp(table_hot(&m->t, e->ref), &hot, sizeof hot) ||
			    memcmp(table_cold(&m->t, e->ref), &cold, sizeof cold);
	else
		m->wrong += !!memcmp(table_syn(&m->t, e->ref), &h, sizeof h);
}

static unsigned count_of(const struct model *m, uint32_t key)
{
	unsigned n = 0;

	for (unsigned i = 0; i < m->n; i++)
		n += m->live[i].key == key;
	return n;
}

static void model_insert(struct model *m, uint32_t key, enum table_shape shape)
{
	struct flow_key k = key_of(key);
	struct table_edit edit;
	table_ref r = table_insert(&m->t, m->hash(key), &k, shape, &edit);
	bool full = m->used[shape] == (shape == SHAPE_FULL ? MAX_WHOLE : MAX_HALF);

	m->wrong += (r == TABLE_NONE) != full;
	if (r == TABLE_NONE || full)
		return;
	m->wrong += table_shape_of(r) != shape;
	for (unsigned i = 0; i < m->n; i++)
		m->wrong += m->live[i].ref == r;
	struct entry e = { key, r, ++m->stamps };

	if (shape == SHAPE_FULL)
		fill_full(edit, e.stamp, iface_of(&k));
	else
		*edit.syn = half_of(e.stamp, iface_of(&k));
	m->live[m->n++] = e;
	m->used[shape]++;
}

static void model_remove(struct model *m, unsigned i)
{
	struct entry e = m->live[i];

	check_octets(m, &e);
	table_remove(&m->t, m->hash(e.key), e.ref);
	m->wrong += table_live(&m->t, e.ref);
	m->used[table_shape_of(e.ref)]--;
	m->live[i] = m->live[--m->n];
}

static void model_find(struct model *m, uint32_t key)
{
	struct flow_key k = key_of(key);
	table_ref other = 0, one = table_find(&m->t, m->hash(key), &k, &other), want[2];
	unsigned n = 0;

	want[0] = want[1] = TABLE_NONE;
	for (unsigned i = 0; i < m->n; i++)
		if (m->live[i].key == key)
			want[n++] = m->live[i].ref;
	m->wrong += !((one == want[0] && other == want[1]) ||
		      (n == 2 && one == want[1] && other == want[0]));
	one = table_find(&m->t, m->hash(key), &k, NULL);
	m->wrong += one != want[0] && (n < 2 || one != want[1]);
}

/* As the tracker does when a half-open connection becomes a whole one: the new one first. */
static void model_promote(struct model *m, unsigned i)
{
	struct entry e = m->live[i];

	if (table_shape_of(e.ref) == SHAPE_FULL || m->used[SHAPE_FULL] == MAX_WHOLE)
		return;
	model_insert(m, e.key, SHAPE_FULL);
	for (i = 0; m->live[i].ref != e.ref; i++)
		;
	model_remove(m, i);
}

/* Everything there is, and nothing else. */
static void model_walk(struct model *m)
{
	unsigned seen = 0;

	for (unsigned p = 0; p < TABLE_POOLS; p++)
		for (uint32_t slot = 0; slot < m->t.head->pool[p].high; slot++)
			seen += table_live(&m->t, table_slot(p, slot));
	for (unsigned i = 0; i < m->n; i++)
		check_octets(m, &m->live[i]);
	m->wrong += seen != m->n;
	for (unsigned s = 0; s < SHAPES; s++)
		m->wrong += table_used(&m->t, s) != m->used[s];
}

static void test_model(uint64_t (*hash)(uint32_t), unsigned ops, const char *what)
{
	static struct model m;
	unsigned full[SHAPES] = { 0 }, both = 0;

	m = (struct model){ .t = table_make(MAX_WHOLE, MAX_HALF), .hash = hash };
	for (unsigned op = 0; op < ops; op++) {
		/* It fills up, stays full for long, runs empty at the end. */
		unsigned leave = op < ops / 3 ? 2 : op < ops * 9 / 10 ? 25 : 55, dice = below(100);
		uint32_t key = below(KEYS);

		if (dice < leave && m.n) {
			model_remove(&m, below(m.n));
		} else if (dice < 60) {
			enum table_shape s = rand64() & 1 ? SHAPE_FULL : SHAPE_SYN;
			unsigned n = count_of(&m, key);

			if (n < 2)
				model_insert(&m, key, s);
			both += n == 1;
		} else if (dice < 70 && m.n) {
			model_promote(&m, below(m.n));
		} else {
			model_find(&m, m.n && rand64() & 1 ? m.live[below(m.n)].key : key);
		}
		full[SHAPE_SYN] += m.used[SHAPE_SYN] == MAX_HALF;
		full[SHAPE_FULL] += m.used[SHAPE_FULL] == MAX_WHOLE;
		if (op % 4096 == 0)
			model_walk(&m);
	}
	model_walk(&m);
	ok(!m.wrong, "%s: %u operations as a simple reference has it, octet for octet", what, ops);
	ok(full[SHAPE_SYN] > ops / 20 && full[SHAPE_FULL] > ops / 20 && both > ops / 200,
	   "%s: both shapes were full for long, and keys had two entries", what);
	for (uint32_t key = 0; key < KEYS; key++)
		model_find(&m, key);
	while (m.n)
		model_remove(&m, m.n - 1);
	for (uint32_t key = 0; key < KEYS; key++)
		model_find(&m, key);
	model_walk(&m);
	ok(!m.wrong, "%s: all are found at the end, and none when all are gone", what);
	free(m.t.head);
}

static uint64_t good_hash(uint32_t key)
{
	static const struct hash_key secret = {
		{ 0x243f6a8885a308d3, 0x13198a2e03707344, 0xa4093822299f31d0, 0x082efa98ec4e6c89,
		  0x452821e638d01377, 0xbe5466cf34e90c6c, 0xc0ac29b7c97c50dd, 0x3f84d5b5b5470917 }
	};
	struct flow_key k = key_of(key);

	return flow_key_hash(&k, &secret);
}

/* One home for all, one tag for all. */
static uint64_t worst_hash(uint32_t key)
{
	(void)key;
	return 0x8000000000000000;
}

/* Few homes, the last bucket among them, so that chains run over each other and over the end. */
static uint64_t few_homes(uint32_t key)
{
	static const uint64_t homes[] = { 0xffffffff, 0xfe000000, 0, 0x01000000, 0x80000000 };

	return homes[key % ARRAY_SIZE(homes)] << 32 | key % 7;
}

/* ---- chains longer than a bucket can count --------------------------------------------------- */

static void test_long_chain(void)
{
	enum { MANY = 66500 /* a bucket counts to 65535 */ };
	static table_ref ref[MANY];
	struct table t = table_make(4, MANY);
	unsigned lost = 0, ghosts = 0;

	for (uint32_t n = 0; n < MANY; n++) {
		struct flow_key k = key_of(2 * n);

		struct table_edit edit;

		ref[n] = table_insert(&t, worst_hash(0), &k, SHAPE_SYN, &edit);
		lost += ref[n] == TABLE_NONE;
		*edit.syn = half_of(n + 1, iface_of(&k));
	}
	ok(!lost, "%u connections that all want one bucket find their places", MANY);
	for (uint32_t n = 0; n < MANY; n += n < MANY - 50 ? 997 : 1) {
		struct flow_key k = key_of(2 * n);

		lost += table_find(&t, worst_hash(0), &k, NULL) != ref[n];
	}
	ok(!lost, "and are found");
	for (uint32_t n = 0; n < MANY - 20; n++)
		table_remove(&t, worst_hash(0), ref[n]);
	for (uint32_t n = 0; n < MANY; n += n < MANY - 50 ? 9973 : 1) {
		struct flow_key k = key_of(2 * n);
		table_ref r = table_find(&t, worst_hash(0), &k, NULL);

		lost += n >= MANY - 20 && r != ref[n];
		ghosts += n < MANY - 20 && r != TABLE_NONE;
	}
	ok(!lost && !ghosts && table_used(&t, SHAPE_SYN) == 20,
	   "the last ones are still found when those before them are gone");
	free(t.head);
}

/* ---- limits and sizes ------------------------------------------------------------------------ */

static void test_limits(void)
{
	struct table t = table_make(3, 2);
	struct table_edit edit;
	table_ref r[8];
	struct flow_key k[8];

	for (unsigned i = 0; i < 8; i++)
		k[i] = key_of(i);
	ok(table_max(&t, SHAPE_FULL) == 3 && table_max(&t, SHAPE_SYN) == 2,
	   "it says how many it holds");
	for (unsigned i = 0; i < 4; i++)
		r[i] = table_insert(&t, good_hash(i), &k[i], SHAPE_FULL, &edit);
	ok(r[0] != TABLE_NONE && r[1] != TABLE_NONE && r[2] != TABLE_NONE,
	   "it takes as many as that, whatever their families");
	ok(r[3] == TABLE_NONE && table_used(&t, SHAPE_FULL) == 3, "and no more");
	r[4] = table_insert(&t, good_hash(4), &k[4], SHAPE_SYN, &edit);
	r[6] = table_insert(&t, good_hash(6), &k[6], SHAPE_SYN, &edit);
	ok(r[4] != TABLE_NONE && r[6] != TABLE_NONE &&
		   table_insert(&t, good_hash(5), &k[5], SHAPE_SYN, &edit) == TABLE_NONE,
	   "half-open ones have a limit of their own");
	table_remove(&t, good_hash(1), r[1]);
	ok(table_insert(&t, good_hash(3), &k[3], SHAPE_FULL, &edit) != TABLE_NONE,
	   "one that leaves makes room for one of either family");
	ok(table_find(&t, good_hash(1), &k[1], NULL) == TABLE_NONE,
	   "what was removed is not found");
	free(t.head);

	t = table_make(1, 1);
	r[0] = table_insert(&t, good_hash(0), &k[0], SHAPE_FULL, &edit);
	r[1] = table_insert(&t, good_hash(0), &k[0], SHAPE_SYN, &edit);
	table_ref other, one = table_find(&t, good_hash(0), &k[0], &other);

	ok((one == r[0] && other == r[1]) || (one == r[1] && other == r[0]),
	   "the smallest table holds two entries of one key");
	free(t.head);
}

static void test_octets(void)
{
	enum { M = 1 << 20 };
	struct table t = table_make(16, 16);
	const struct table_pool *p = t.head->pool;
	double full = (double)(table_size(2 * M, M) - table_size(M, M)) / M;
	double syn = (double)(table_size(M, 2 * M) - table_size(M, M)) / M;
	const uint32_t cold = sizeof(struct conn_cold);
	/* The region has room for all in either family; only one of them is ever touched. */
	double index_whole = full - p[2].stride - p[3].stride - 2 * cold;
	double index_half = syn - p[0].stride - p[1].stride;

	printf("# IPv4 %.1f whole, %.1f half; IPv6 %.1f whole, %.1f half; index %.2f\n",
	       p[2].stride + cold + index_whole, p[0].stride + index_half,
	       p[3].stride + cold + index_whole, p[1].stride + index_half, index_whole);
	ok(index_whole > 64. / 12 && index_whole < 6.5 && index_half > 64. / 12 && index_half < 6.5,
	   "the index takes 6.4 octets an entry");
	ok(p[2].stride + cold + index_whole <= 128,
	   "at most 128 octets for an IPv4 connection, all in");
	ok(p[0].stride + index_half <= 64, "at most 64 octets for one half-open, all in");
	ok(p[0].stride == 56 && p[2].stride == 64 && p[1].stride == 80 && p[3].stride == 88 &&
		   cold == 52,
	   "the strides are those that the header promises");
	free(t.head);
}

/* What the kernel really gave, for a full table of one family and shape. */
static double resident(enum table_shape shape, unsigned ip_v, uint32_t n)
{
	uint32_t max_full = shape == SHAPE_FULL ? n : 1, max_syn = shape == SHAPE_SYN ? n : 1;
	size_t size = table_size(max_full, max_syn), page = (size_t)sysconf(_SC_PAGESIZE);
	size_t pages = (size + page - 1) / page, in = 0;
	void *mem = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	unsigned char *map = malloc(pages);
	struct table t;

	if (mem == MAP_FAILED || !map)
		abort();
	madvise(mem, size, MADV_NOHUGEPAGE);
	table_init(&t, mem, max_full, max_syn);
	for (uint32_t i = 0; i < n; i++) {
		struct flow_key k = key_of(i << 1 | (ip_v == 6));
		struct table_edit edit;

		table_insert(&t, good_hash(i << 1 | (ip_v == 6)), &k, shape, &edit);

		if (shape == SHAPE_FULL)
			fill_full(edit, 1, 0);
		else
			*edit.syn = half_of(1, 0);
	}
	mincore(mem, size, map);
	for (size_t i = 0; i < pages; i++)
		in += map[i] & 1;
	munmap(mem, size);
	free(map);
	return (double)(in * page) / n;
}

static void test_memory(void)
{
	enum { N = 100000 };
	double full = resident(SHAPE_FULL, 4, N), syn = resident(SHAPE_SYN, 4, N);
	double whole6 = resident(SHAPE_FULL, 6, N), half6 = resident(SHAPE_SYN, 6, N);

	printf("# resident: IPv4 %.1f whole, %.1f half; IPv6 %.1f whole, %.1f half\n", full, syn,
	       whole6, half6);
	ok(full > 116 && full <= 128, "a table full of IPv4 connections takes 128 octets each");
	ok(syn > 56 && syn <= 64, "a table full of half-open ones takes 64 octets each");
	ok(whole6 <= 148 && half6 <= 88, "IPv6 takes no more than the header promises");
}

int main(void)
{
	rng = tap_seed(12);
	test_limits();
	test_model(good_hash, 200000, "spread");
	test_model(few_homes, 60000, "few homes");
	test_model(worst_hash, 40000, "one home");
	test_long_chain();
	test_octets();
	test_memory();
	return tap_done();
}
