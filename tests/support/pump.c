/* pump.c - the daemon's publisher without a rest, for tests that kill it: events of a made-up
 * decoder, whose ring and numbers outlive the process as well, as fast as the quickest subscriber
 * takes them.
 *
 *   pump OPTION...    those of synfind(8); --socket= and what concerns subscribers count
 *
 * At SIGTERM it makes no more of them, says that its interface is gone, and goes on serving.
 *
 * Event number N has the time 1700000000 s + N * 1234567 ns (tests/bench/micro_event.h), so that
 * each line says which event it tells. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "common/clock.h"
#include "common/notify.h"
#include "common/options.h"
#include "flow/origin.h"
#include "synfind/decoder.h"
#include "synfind/decoder_state.h"
#include "synfind/publisher.h"
#include "synfind/publisher_state.h"
#include "synfind/fdstore.h"
#include "synfind/subscriber.h"
#include "tests/bench/micro_event.h"

enum { RECORDS = 1024, AT_ONCE = 300 };

struct memory { /* in the store */
	uint64_t generation;
	struct decoder_progress state; /* nothing but the number of the event that comes next */
	CACHE_ALIGNED unsigned char ring[SPSC_OCTETS(RECORDS, sizeof(struct event))];
};

static volatile sig_atomic_t enough;

static void on_term(int sig)
{
	(void)sig;
	enough = 1;
}

static int end(const char *what, int r)
{
	fprintf(stderr, "%s: %s\n", what, strerror(-r));
	return 1;
}

/* Octets that the quickest subscriber has still to be sent; nobody: too many. */
static uint64_t behind(const struct publisher *p)
{
	uint64_t least = UINT64_MAX;

	for (const struct subscriber *s = p->subscribers.list; s; s = s->next)
		if (p->stream.state->end[0].head - s->record->cursor.at < least)
			least = p->stream.state->end[0].head - s->record->cursor.at;
	return least;
}

/* The ring began at 0, so its index is also the event's number. */
static void produce(struct decoder *d)
{
	for (unsigned i = 0; i < AT_ONCE; i++) {
		uint32_t number = d->ring.words->staged;
		struct event *e = spsc_reserve(&d->ring);

		if (!e)
			break;
		*e = micro_event(number);
		e->number = number;
		d->state.progress->number = number + 1;
		spsc_commit(&d->ring);
	}
}

static void adopt(struct decoder *d, struct memory *m)
{
	d->state.progress = &m->state;
	d->count = &m->state.count;
	if (m->generation) {
		spsc_adopt(&d->ring, m->ring, RECORDS, sizeof(struct event));
		m->state.number = d->ring.words->staged;
	} else {
		spsc_init(&d->ring, m->ring, RECORDS, sizeof(struct event), 0);
		m->generation = wall_clock_ns() | 1;
	}
	d->generation = m->generation;
	origins_init(&d->pipeline.origins, calloc(1, origins_memory()), &(struct hash_key){ 0 },
		     NULL);
}

int main(int argc, char **argv)
{
	struct options o;
	struct fdstore fdstore;
	struct publisher p;
	struct decoder d = { 0 };
	struct memory *m;
	sd_event *loop;
	int r = options_parse(argc, argv, &o);

	if (r)
		return 2;
	signal(SIGPIPE, SIG_IGN);
	signal(SIGTERM, on_term);
	r = fdstore_init(&fdstore);
	if (r >= 0)
		r = sd_event_new(&loop);
	if (r >= 0)
		r = notify_watch(loop);
	if (r < 0)
		return end("start", r);
	m = fdstore_memory(&fdstore, "pump", sizeof *m);
	if (!m)
		return end("memory", -ENOMEM);
	adopt(&d, m);
	r = publisher_init(&p, &o, loop, &fdstore);
	if (r >= 0)
		r = publisher_add(&p, &d, 0, "pump");
	if (r < 0)
		return end("publisher", r);
	publisher_start(&p);
	fdstore_sweep(&fdstore);
	notify_send("READY=1");
	while (!enough) {
		if (behind(&p) < p.stream.log[0].size / 4)
			produce(&d);
		publisher_drain(&p);
		r = sd_event_run(loop, 0);
		if (r < 0)
			return end("loop", r);
	}
	publisher_iface(&p, "pump", "gone");
	do {
		publisher_drain(&p);
		r = sd_event_run(loop, UINT64_MAX);
	} while (r >= 0);
	return end("loop", r);
}
