#include "flow/encap_id.h"
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include "tests/support/tap.h"

enum { NUMBERS = ENCAP_ID_LAST + 1 - ENCAP_ID_FIRST };
static const struct hash_key secret = { { 1, 2 } };

static struct encap_ids *make(void)
{
	void *memory = calloc(1, encap_id_memory());

	if (!memory)
		exit(EXIT_FAILURE);
	return encap_id_init(memory, &secret);
}

static struct tunnel vxlan(uint32_t id)
{
	return (struct tunnel){ .type = TUNNEL_VXLAN, .has_id = true, .id = id };
}

/* @number stands for @want on @iface. */
static bool stands_for(const struct encap_ids *t, int number, uint16_t iface, struct tunnel want)
{
	struct tunnel got;

	return encap_id_look_up(t, (uint16_t)number, &got) == iface && got.type == want.type &&
	       got.has_id == want.has_id && got.id == want.id;
}

static void test_numbers(void)
{
	struct encap_ids *t = make();
	struct tunnel none = { .type = TUNNEL_NONE }, gre = { .type = TUNNEL_GRE };
	struct tunnel gre0 = { .type = TUNNEL_GRE, .has_id = true };
	struct tunnel a = vxlan(0), b = vxlan(1);

	ok(encap_id_of(t, 254, &none) == 254, "no tunnel: the interface");
	ok(encap_id_of(t, 0, &a) == ENCAP_ID_FIRST, "the first tunnel");
	ok(encap_id_of(t, 0, &b) == ENCAP_ID_FIRST + 1, "another id");
	ok(encap_id_of(t, 1, &b) == ENCAP_ID_FIRST + 2, "another interface");
	ok(encap_id_of(t, 0, &gre) == ENCAP_ID_FIRST + 3, "another type");
	ok(encap_id_of(t, 0, &gre0) == ENCAP_ID_FIRST + 4, "id 0 is not the same as none");
	ok(encap_id_of(t, 0, &a) == ENCAP_ID_FIRST && encap_id_of(t, 0, &gre) == ENCAP_ID_FIRST + 3,
	   "the same again");
	ok(stands_for(t, ENCAP_ID_FIRST + 2, 1, b) && stands_for(t, ENCAP_ID_FIRST + 3, 0, gre) &&
		   stands_for(t, ENCAP_ID_FIRST + 4, 0, gre0),
	   "what they stand for");
	ok(stands_for(t, 7, 7, none) &&
		   stands_for(t, ENCAP_ID_FIRST + 5, ENCAP_ID_FIRST + 5, none) &&
		   stands_for(t, 65535, 65535, none),
	   "numbers that stand for no tunnel");
	free(t);
}

static void test_full(void)
{
	struct encap_ids *t = make();
	unsigned wrong = 0;
	struct tunnel v;

	for (uint32_t i = 0; i < NUMBERS; i++) {
		v = vxlan((i >> 2) * 2654435761u); /* each id on four interfaces */
		wrong += encap_id_of(t, i & 3, &v) != (int)(ENCAP_ID_FIRST + i);
	}
	ok(!wrong, "%d tunnels have numbers", NUMBERS);
	v = vxlan(7);
	ok(encap_id_of(t, 0, &v) == -ENOSPC, "one more gets none");
	for (uint32_t i = 0; i < NUMBERS; i++) {
		v = vxlan((i >> 2) * 2654435761u);
		wrong += encap_id_of(t, i & 3, &v) != (int)(ENCAP_ID_FIRST + i) ||
			 !stands_for(t, (int)(ENCAP_ID_FIRST + i), i & 3, v);
	}
	ok(!wrong, "the others keep theirs");
	free(t);
}

/* ---- a reader beside the writer ---- */

struct shared {
	struct encap_ids *t;
	_Atomic int newest; /* as an event would carry it; relaxed: the count itself must order */
	unsigned wrong, seen;
};

static void *read_along(void *arg)
{
	struct shared *s = arg;
	int number = 0;

	while (number < ENCAP_ID_LAST) {
		struct tunnel got;

		number = atomic_load_explicit(&s->newest, memory_order_relaxed);
		if (number < ENCAP_ID_FIRST)
			continue;
		uint16_t iface = encap_id_look_up(s->t, (uint16_t)number, &got);
		uint32_t i = (uint32_t)(number - ENCAP_ID_FIRST);

		if (got.type == TUNNEL_NONE) /* the count was not there yet */
			continue;
		s->seen++;
		s->wrong += iface != (i & 0xff) || got.id != i * 7 + 1 || got.type != TUNNEL_VXLAN;
	}
	return NULL;
}

static void test_reader(void)
{
	struct shared s = { .t = make() };
	pthread_t reader;

	if (pthread_create(&reader, NULL, read_along, &s))
		exit(EXIT_FAILURE);
	for (uint32_t i = 0; i < NUMBERS; i++) {
		struct tunnel v = vxlan(i * 7 + 1);

		atomic_store_explicit(&s.newest, encap_id_of(s.t, i & 0xff, &v),
				      memory_order_relaxed);
	}
	pthread_join(reader, NULL);
	ok(!s.wrong && s.seen, "a reader beside the writer sees complete entries (%u looked up)",
	   s.seen);
	free(s.t);
}

int main(void)
{
	test_numbers();
	test_full();
	test_reader();
	return tap_done();
}
