/* Which servers are watched for a flood: found by hash, and forgotten in any order, against a plain
 * list; and all of it is put back where a process ends in between. */
#include <string.h>
#include <sys/mman.h>
#include "base/cc.h"
#include "base/undo.h"
#include "flow/work.h"
#include "tests/support/rand.h"
#include "tests/support/tap.h"

static const uint64_t second = 1000000000;

enum { SERVERS_SEEN = 2 * SYNFLOODS, ALIKE = 5, LOG_OCTETS = 1 << 20 };

struct rig {
	struct event_sink sink;
	struct tracker_counters count;
	struct undo undo;
	size_t octets;
	unsigned char *memory, *before;
	struct tracker *t;
	struct synflood_server server[SERVERS_SEEN]; /* ALIKE at a time have one hash */
	bool watched[SERVERS_SEEN];
};

static struct event *no_room(struct event_sink *s)
{
	(void)s;
	return NULL;
}

static void nothing(struct event_sink *s)
{
	(void)s;
}

static struct synflood_server random_server(void)
{
	struct flow_key k = { .ip_v = below(2) ? 4 : 6 };

	for (unsigned i = 0; i < (k.ip_v == 4 ? 2 : 5); i++)
		k.w[i] = rand64() & (i == 4 || (k.ip_v == 4 && i) ? UINT64_MAX >> 16 : UINT64_MAX);
	return synflood_server_of(&k, below(2));
}

static struct rig *rig_new(void)
{
	struct rig *r = calloc(1, sizeof *r);
	struct tracker_config c = { .max_connections = 10,
				    .max_half_open = 1000,
				    .flood_half_open = 100,
				    .flood_rate = UINT32_MAX, /* none is ever reported */
				    .undo = &r->undo };
	size_t octets = LINE_UP(tracker_memory(&c));

	r->sink = (struct event_sink){ .reserve = no_room, .commit = nothing };
	r->octets = octets;
	r->memory = mmap(NULL, octets + LOG_OCTETS, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	r->before = malloc(octets);
	if (r->memory == MAP_FAILED || !r->before)
		abort();
	undo_init(&r->undo, r->memory, octets, r->memory + octets, LOG_OCTETS);
	r->t = tracker_new(&c, r->memory, &r->sink, &r->count);
	for (unsigned i = 0; i < SERVERS_SEEN; i++)
		do
			r->server[i] = random_server();
		while (i % ALIKE && r->server[i].hash != r->server[i - i % ALIKE].hash);
	return r;
}

static void rig_free(struct rig *r)
{
	munmap(r->memory, r->octets + LOG_OCTETS);
	free(r->before);
	free(r);
}

/* The plain list. */
static struct synflood *slot_of(struct rig *r, unsigned server)
{
	for (unsigned i = 0; i < r->t->floods.n; i++)
		if (!memcmp(r->t->floods.slot[i].server.w, r->server[server].w,
			    sizeof r->server->w))
			return &r->t->floods.slot[i];
	return NULL;
}

enum deed { WATCH, HOLD, TICK, DEEDS };

static bool transaction(struct rig *r, enum deed deed, unsigned server)
{
	tracker_begin(r->t);
	switch (deed) {
	case WATCH:
		synflood_watch(r->t, &r->server[server]);
		return true;
	case HOLD:
		return synflood_defers(r->t, &r->server[server]);
	default:
		synflood_tick(r->t);
		return true;
	}
}

/* Once in vain, and once for good.  False: not all was put back. */
static bool transact(struct rig *r, enum deed deed, unsigned server, bool *ret)
{
	memcpy(r->before, r->memory, r->octets);
	transaction(r, deed, server);
	if (undo_rollback(&r->undo) || memcmp(r->before, r->memory, r->octets) != 0)
		return false;
	*ret = transaction(r, deed, server);
	undo_commit(&r->undo);
	return true;
}

/* What the list says of it: is one more deferred, and of none other? */
static bool held_right(struct rig *r, unsigned server, bool deferred, const uint32_t *before)
{
	for (unsigned i = 0; i < SERVERS_SEEN; i++) {
		const struct synflood *d = slot_of(r, i);

		if ((d ? d->deferred : 0) != before[i] + (i == server && deferred))
			return false;
	}
	return deferred == (r->watched[server] &&
			    r->t->servers[r->server[server].hash].syn > r->t->synflood_from);
}

static void forget(struct rig *r)
{
	for (unsigned i = 0; i < SERVERS_SEEN; i++) {
		const struct synflood *d = slot_of(r, i);

		if (!d ||
		    (!d->deferred && r->t->servers[r->server[i].hash].syn <= r->t->synflood_from))
			r->watched[i] = false;
	}
}

static void test_watched(unsigned deeds)
{
	struct rig *r = rig_new();
	unsigned wrong = 0, left = 0, most = 0, alike = 0;

	for (unsigned n = 0; n < deeds; n++) {
		enum deed deed = below(12) ? below(TICK) : TICK;
		unsigned server = below(SERVERS_SEEN), of_hash = 0;
		uint32_t before[SERVERS_SEEN];
		bool ret = false;

		if (below(3))
			r->t->servers[r->server[server].hash].syn = below(4) ? 1000 : 0;
		for (unsigned i = 0; i < SERVERS_SEEN; i++) {
			struct synflood *d = slot_of(r, i);

			if (d && deed == TICK && !below(2))
				d->deferred = 0;
			before[i] = d ? d->deferred : 0;
			of_hash += r->watched[i] && r->server[i].hash == r->server[server].hash;
		}
		most = r->t->floods.n > most ? r->t->floods.n : most;
		alike = of_hash > alike ? of_hash : alike;
		if (deed == WATCH && r->t->floods.n < SYNFLOODS)
			r->watched[server] = true;
		if (deed == TICK) {
			r->t->now_ns += second;
			forget(r);
		}
		left += !transact(r, deed, server, &ret);
		if (deed == HOLD)
			wrong += !held_right(r, server, ret, before);
		for (unsigned i = 0; i < SERVERS_SEEN; i++)
			wrong += r->watched[i] != !!slot_of(r, i);
	}
	ok(most == SYNFLOODS && alike == ALIKE && counter_get(&r->count.unwatched),
	   "%u servers are watched at once, %u of one hash, and others not", most, alike);
	ok(!wrong, "each is found among those of its hash, and forgotten when it is idle");
	ok(!left, "rolled back, every octet is as it was");
	synflood_end_all(r->t);
	unsigned linked = 0;

	for (unsigned i = 0; i < SERVERS; i++)
		linked += r->t->servers[i].watch;
	ok(!r->t->floods.n && !linked, "at the end none is");
	rig_free(r);
}

int main(void)
{
	rng = interface_seed(64);
	test_watched(20000);
	return interface_done();
}
