#include "flow/origin.h"
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include "tests/support/tap.h"

enum { NUMBERS = ORIGINS - ORIGIN_FIRST };
static const struct hash_key secret = { { 1, 2 } };

static struct origins *make(void)
{
	static struct origins o;
	void *memory = calloc(1, origins_memory());

	if (!memory)
		exit(EXIT_FAILURE);
	origins_init(&o, memory, &secret, NULL);
	return &o;
}

static struct tunnel vxlan(uint32_t id)
{
	return (struct tunnel){ .type = TUNNEL_VXLAN, .has_id = true, .id = id };
}

/* @number stands for @want on @iface. */
static bool stands_for(const struct origins *t, int number, uint16_t iface, struct tunnel want)
{
	struct origin_view got = origin_look_up(t, (uint16_t)number);

	return got.iface == iface && got.tunnel.type == want.type &&
	       got.tunnel.has_id == want.has_id && got.tunnel.id == want.id;
}

static void test_numbers(void)
{
	struct origins *t = make();
	struct tunnel none = { .type = TUNNEL_NONE }, gre = { .type = TUNNEL_GRE };
	struct tunnel gre0 = { .type = TUNNEL_GRE, .has_id = true };
	struct tunnel a = vxlan(0), b = vxlan(1);

	ok(origin_of_tunnel(t, 254, &none) == 254, "no tunnel: the interface");
	ok(origin_of_tunnel(t, 0, &a) == ORIGIN_FIRST, "the first tunnel");
	ok(origin_of_tunnel(t, 0, &b) == ORIGIN_FIRST + 1, "another id");
	ok(origin_of_tunnel(t, 1, &b) == ORIGIN_FIRST + 2, "another interface");
	ok(origin_of_tunnel(t, 0, &gre) == ORIGIN_FIRST + 3, "another type");
	ok(origin_of_tunnel(t, 0, &gre0) == ORIGIN_FIRST + 4, "id 0 is not the same as none");
	ok(origin_of_tunnel(t, 0, &a) == ORIGIN_FIRST &&
		   origin_of_tunnel(t, 0, &gre) == ORIGIN_FIRST + 3,
	   "the same again");
	ok(stands_for(t, ORIGIN_FIRST + 2, 1, b) && stands_for(t, ORIGIN_FIRST + 3, 0, gre) &&
		   stands_for(t, ORIGIN_FIRST + 4, 0, gre0),
	   "what they stand for");
	ok(stands_for(t, 7, 7, none) && stands_for(t, ORIGIN_FIRST + 5, ORIGIN_FIRST + 5, none) &&
		   stands_for(t, 65535, 65535, none),
	   "numbers that stand for no tunnel");
	free(t->memory);
}

static void test_full(void)
{
	struct origins *t = make();
	unsigned wrong = 0;
	struct tunnel v;

	for (uint32_t i = 0; i < NUMBERS; i++) {
		v = vxlan((i >> 2) * 2654435761u); /* each id on four interfaces */
		wrong += origin_of_tunnel(t, i & 3, &v) != (int)(ORIGIN_FIRST + i);
	}
	ok(!wrong, "%d tunnels have numbers", NUMBERS);
	v = vxlan(7);
	ok(origin_of_tunnel(t, 0, &v) == -ENOSPC, "one more gets none");
	for (uint32_t i = 0; i < NUMBERS; i++) {
		v = vxlan((i >> 2) * 2654435761u);
		wrong += origin_of_tunnel(t, i & 3, &v) != (int)(ORIGIN_FIRST + i) ||
			 !stands_for(t, (int)(ORIGIN_FIRST + i), i & 3, v);
	}
	ok(!wrong, "the others keep theirs");
	free(t->memory);
}

static bool is_named(const struct origins *t, int number, const char *name)
{
	struct origin_view got = origin_look_up(t, (uint16_t)number);

	return got.name && !strcmp(got.name, name) && got.tunnel.type == TUNNEL_NONE;
}

static bool is_link(const struct origins *t, int number, const char *name, bool watched)
{
	return is_named(t, number, name) && origin_link_of(t, (uint16_t)number)->watched == watched;
}

static int add_link(struct origins *t, uint32_t ifindex, const char *name, bool watched)
{
	struct origin_link l = { .ifindex = ifindex, .slot = 1, .watched = watched };

	strcpy(l.name, name);
	return origin_add_link(t, &l);
}

static void test_links(void)
{
	struct origins *t = make();
	struct tunnel v = vxlan(7);

	ok(!origin_of_link(t, 5), "an interface that is not known has no number");
	int five = add_link(t, 5, "veth5", false), six = add_link(t, 6, "veth6", true);

	ok(five >= ORIGIN_FIRST && six > five && origin_of_link(t, 5) == five &&
		   is_link(t, five, "veth5", false) && is_link(t, six, "veth6", true),
	   "interfaces have numbers and names");
	ok(add_link(t, 5, "eth5", true) == five && is_link(t, five, "eth5", true),
	   "one that is changed keeps its number");

	int tunnel = origin_of_tunnel(t, (uint16_t)five, &v);
	struct origin_view got = origin_look_up(t, (uint16_t)tunnel);

	ok(!strcmp(got.name, "eth5") && got.tunnel.id == 7, "a tunnel on one of them");

	int pair = origin_of_pair(t, (uint16_t)five, (uint16_t)six);
	int other = origin_of_pair(t, (uint16_t)six, (uint16_t)tunnel);

	ok(origin_of_pair(t, (uint16_t)six, (uint16_t)six) == six, "a pair of equals is no pair");
	ok(origin_of_client(t, (uint16_t)pair) == five &&
		   origin_of_server(t, (uint16_t)pair) == six &&
		   origin_of_client(t, (uint16_t)six) == six && is_named(t, pair, "eth5"),
	   "a pair, named after the client's");
	ok(origin_link_of(t, (uint16_t)tunnel)->slot == 1 &&
		   origin_link_of(t, (uint16_t)pair)->slot == 1 && !origin_link_of(t, 0),
	   "their slot is the interface's");

	origin_remove_link(t, 5);
	ok(!origin_of_link(t, 5) && origin_is_gone(t, (uint16_t)five) &&
		   origin_is_gone(t, (uint16_t)tunnel) && origin_is_gone(t, (uint16_t)pair),
	   "gone: with its tunnels, and pairs whose client's it is");
	ok(!origin_is_gone(t, (uint16_t)other) && origin_of_server(t, (uint16_t)other) == six,
	   "a pair whose server's is gone has the client's for both");
	ok(is_named(t, pair, "eth5"), "events still find its name");

	int again = add_link(t, 5, "eth5", true);

	ok(again > other && !origin_is_gone(t, (uint16_t)again),
	   "the same ifindex again: another number");
	free(t->memory);
}

/* Numbers are used again, the one that is free for longest first. */
static void test_release(void)
{
	struct origins *t = make();
	unsigned wrong = 0;

	t->limit = ORIGIN_FIRST + 10;
	for (uint32_t i = 1; i <= 10; i++)
		wrong += add_link(t, i, "a", true) != (int)(ORIGIN_FIRST + i - 1);
	ok(!wrong && add_link(t, 11, "b", true) == -ENOSPC, "none is left");
	origin_remove_link(t, 4);
	origin_remove_link(t, 2);
	ok(add_link(t, 11, "b", true) == -ENOSPC, "gone, but connections have them");
	origins_release(t);
	ok(add_link(t, 11, "b", true) == -ENOSPC && is_link(t, ORIGIN_FIRST + 3, "a", true),
	   "released, but events have them");
	origins_release(t);
	ok(add_link(t, 11, "b", true) == ORIGIN_FIRST + 1 &&
		   is_link(t, ORIGIN_FIRST + 1, "b", true),
	   "then they are used again");
	for (uint32_t i = 12; i < 100000; i++) {
		wrong += add_link(t, i, "c", true) < 0;
		origin_remove_link(t, i);
		origins_release(t);
		origins_release(t);
	}
	ok(!wrong && origin_of_link(t, 1) == ORIGIN_FIRST &&
		   origin_of_link(t, 11) == ORIGIN_FIRST + 1,
	   "100,000 that come and go need no more, and the others stay");
	origins_begin_list(t);
	add_link(t, 11, "b", true);
	origins_end_list(t);
	ok(!origin_of_link(t, 1) && origin_of_link(t, 11) && origin_is_gone(t, ORIGIN_FIRST),
	   "what a list does not have is gone");
	free(t->memory);
}

/* ---- a reader beside the writer ---- */

struct shared {
	struct origins *t;
	_Atomic int newest; /* as an event carries it through a ring */
	unsigned wrong, seen;
};

static void *read_along(void *arg)
{
	struct shared *s = arg;
	int number = 0;

	while (number < ORIGINS - 1) {
		number = atomic_load_explicit(&s->newest, memory_order_acquire);
		if (number < ORIGIN_FIRST)
			continue;
		struct origin_view got = origin_look_up(s->t, (uint16_t)number);
		uint32_t i = (uint32_t)(number - ORIGIN_FIRST);

		s->seen++;
		s->wrong += got.iface != (i & 0xff) || got.tunnel.id != i * 7 + 1 ||
			    got.tunnel.type != TUNNEL_VXLAN;
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

		atomic_store_explicit(&s.newest, origin_of_tunnel(s.t, i & 0xff, &v),
				      memory_order_release);
	}
	pthread_join(reader, NULL);
	ok(!s.wrong && s.seen, "a reader beside the writer sees complete entries (%u looked up)",
	   s.seen);
	free(s.t->memory);
}

int main(void)
{
	test_numbers();
	test_full();
	test_links();
	test_release();
	test_reader();
	return tap_done();
}
