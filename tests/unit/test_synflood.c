/* Which servers are watched for a flood: found by hash, and forgotten in any order, against a plain
 * list; and all of it is put back where a process ends in between. */
#include <string.h>
#include <sys/mman.h>
#include "base/cc.h"
#include "base/undo.h"
#include "flow/synflood.h"
#include "tests/support/rand.h"
#include "tests/support/tap.h"

static const uint64_t second = 1000000000;

enum { SERVERS_SEEN = 2 * SYNFLOODS, ALIKE = 5, LOG_OCTETS = 1 << 20 };

struct rig {
	struct synflood d;
	struct undo undo;
	size_t octets;
	unsigned char *memory, *before; /* struct synflood_memory, then the log */
	uint32_t waiting[FLOW_SERVERS];
	uint64_t now_ns;
	unsigned unwatched;
	struct flow_server server[SERVERS_SEEN]; /* ALIKE at a time have one hash */
	bool watched[SERVERS_SEEN];
};

static struct flow_server random_server(void)
{
	struct flow_key k = { .ip_v = below(2) ? 4 : 6 };

	for (unsigned i = 0; i < (k.ip_v == 4 ? 2 : 5); i++)
		k.w[i] = rand64() & (i == 4 || (k.ip_v == 4 && i) ? UINT64_MAX >> 16 : UINT64_MAX);
	return flow_server_of(&k, below(2));
}

static struct rig *rig_new(void)
{
	struct rig *r = calloc(1, sizeof *r);
	size_t octets = LINE_UP(sizeof(struct synflood_memory));

	r->octets = octets;
	r->memory = mmap(NULL, octets + LOG_OCTETS, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	r->before = malloc(octets);
	if (r->memory == MAP_FAILED || !r->before)
		abort();
	undo_init(&r->undo, r->memory, octets, r->memory + octets, LOG_OCTETS);
	r->d = (struct synflood){ .memory = (struct synflood_memory *)r->memory, .undo = &r->undo };
	synflood_configure(&r->d, &(struct synflood_config){ .half_open = 100,
							     .rate = UINT32_MAX, /* never one */
							     .decoders = 1,
							     .max_syn_entries = 1000 });
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
static const struct synflood_server *slot_of(const struct rig *r, unsigned server)
{
	const struct synflood_memory *m = r->d.memory;

	for (unsigned i = 0; i < m->n; i++)
		if (!memcmp(m->slot[i].server.w, r->server[server].w, sizeof r->server->w))
			return &m->slot[i];
	return NULL;
}

enum deed { WATCH, DEFER, TICK, DEEDS };

static bool transaction(struct rig *r, enum deed deed, unsigned server)
{
	const struct flow_server *s = &r->server[server];
	struct synflood_report report;
	unsigned at = synflood_watched(&r->d);

	switch (deed) {
	case WATCH:
		return synflood_watch(&r->d, s, r->now_ns);
	case DEFER:
		return synflood_defers(&r->d, s, r->waiting[s->hash], r->now_ns, &report);
	default:
		while (synflood_tick(&r->d, &at, r->waiting, r->now_ns, &report))
			;
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

/* What the list says of it: is one more deferred, and of no other server? */
static bool deferred_right(const struct rig *r, unsigned server, bool deferred,
			   const uint32_t *before)
{
	for (unsigned i = 0; i < SERVERS_SEEN; i++) {
		const struct synflood_server *d = slot_of(r, i);

		if ((d ? d->deferred : 0) != before[i] + (i == server && deferred))
			return false;
	}
	return deferred == (r->watched[server] && r->waiting[r->server[server].hash] > r->d.from);
}

static void forget(struct rig *r)
{
	for (unsigned i = 0; i < SERVERS_SEEN; i++) {
		const struct synflood_server *d = slot_of(r, i);

		if (!d || (!d->deferred && r->waiting[r->server[i].hash] <= r->d.from))
			r->watched[i] = false;
	}
}

static void test_watched(unsigned deeds)
{
	struct rig *r = rig_new();
	const struct synflood_memory *m = r->d.memory;
	unsigned wrong = 0, left = 0, most = 0, alike = 0, linked = 0, at = 0;
	struct synflood_report report;

	for (unsigned n = 0; n < deeds; n++) {
		enum deed deed = below(12) ? below(TICK) : TICK;
		unsigned server = below(SERVERS_SEEN), of_hash = 0;
		uint32_t before[SERVERS_SEEN];
		bool ret = false, full = m->n == SYNFLOODS;

		if (below(3))
			r->waiting[r->server[server].hash] = below(4) ? 1000 : 0;
		for (unsigned i = 0; i < SERVERS_SEEN; i++) {
			const struct synflood_server *d = slot_of(r, i);

			if (d && deed == TICK && !below(2))
				((struct synflood_server *)d)->deferred = 0;
			before[i] = d ? d->deferred : 0;
			of_hash += r->watched[i] && r->server[i].hash == r->server[server].hash;
		}
		most = m->n > most ? m->n : most;
		alike = of_hash > alike ? of_hash : alike;
		if (deed == WATCH && !full)
			r->watched[server] = true;
		if (deed == TICK) {
			r->now_ns += second;
			forget(r);
		}
		left += !transact(r, deed, server, &ret);
		if (deed == DEFER)
			wrong += !deferred_right(r, server, ret, before);
		if (deed == WATCH) {
			wrong += ret != r->watched[server];
			r->unwatched += !ret;
		}
		for (unsigned i = 0; i < SERVERS_SEEN; i++)
			wrong += r->watched[i] != !!slot_of(r, i);
	}
	ok(most == SYNFLOODS && alike == ALIKE && r->unwatched,
	   "%u servers are watched at once, %u of one hash, and others not", most, alike);
	ok(!wrong, "each is found among those of its hash, and forgotten when it is idle");
	ok(!left, "rolled back, every octet is as it was");
	while (synflood_end(&r->d, &at, r->now_ns, &report))
		;
	for (unsigned i = 0; i < FLOW_SERVERS; i++)
		linked += m->first[i];
	ok(!m->n && !linked, "at the end none is");
	rig_free(r);
}

int main(void)
{
	rng = tap_seed(64);
	test_watched(20000);
	return tap_done();
}
