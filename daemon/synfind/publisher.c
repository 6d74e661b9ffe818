#include "synfind/publisher.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>
#include "base/cc.h"
#include "common/log.h"
#include "common/options.h"
#include "synfind/subscribers.h"
#include "synfind/decoder.h"
#include "synfind/keyfile.h"
#include "synfind/listen.h"
#include "synfind/fdstore.h"
#include "synfind/subscriber.h"

enum {
	DRAIN_AT_ONCE = 256, /* records of one ring, then the others have their turn */
	DRAIN_ROUNDS = 16,   /* then the loop looks at everything else */
	STATS_DECODERS = 8,  /* in one line */
	STATS_LINE_MAX = 20 << 10,
	RESTART_LINE_MAX = 20 << 10,
};

/* ---- lines ---------------------------------------------------------------------------------- */

/* Nobody may still need the octets that @n more will overwrite.  Who has room takes them first: a
 * burst may be longer than the log.  No transaction is open: what is skipped is final before
 * anything is overwritten. */
static void keep_clear(struct publisher *p, unsigned log, size_t n)
{
	struct stream_state *st = &p->stream;
	uint64_t head = st->state->end[log].head, clear = head + n - st->log[log].size;

	p->slowest[log] = head;
	for (struct subscriber *s = p->subscribers, *next; s; s = next) {
		const struct subscriber_cursor *cursor = &s->record->cursor;

		next = s->next;
		if (s->record->log != log)
			continue;
		if (cursor->at < clear && !s->waits && !subscribers_serve(s, wall_clock_ns()))
			continue;
		if (cursor->at < clear) {
			stream_state_begin(st, NULL);
			uint64_t lost = subscriber_skip(s->record, &st->log[log], &st->undo, clear,
							st->state->seq);

			if (lost != SUBSCRIBER_BROKEN)
				st->state->lost_events += lost;
			stream_state_commit(st);
			if (lost == SUBSCRIBER_BROKEN) {
				subscribers_remove(s, "its line is too long");
				continue;
			}
			if (lost && cursor->lost_total == lost)
				log_event(LOG_LEVEL_INFO, LOG_ID_SUBSCRIBER,
					  LOG_FIELDS({ "SYNFIND_STATE", "slow" },
						     { "SYNFIND_PID",
						       log_number((uint64_t)s->pid).s }),
					  "Subscriber %d (pid %d) is too slow and loses events",
					  s->fd, (int)s->pid);
		}
		if (cursor->at < p->slowest[log])
			p->slowest[log] = cursor->at;
	}
}

/* Before the lines of one event, or of one loss: room for one in each log, and a transaction.  What
 * went before may become final here, so what belongs together changes behind this. */
static void lines_begin(struct publisher *p, const struct input_ring *f, size_t room)
{
	struct stream_state *st = &p->stream;

	for (unsigned i = 0; i < ACCESS_LOGS; i++) {
		uint64_t end = st->state->end[i].head + room;

		/* A transaction is never longer than half the log: what it forgets is older. */
		if (end > p->slowest[i] + st->log[i].size ||
		    end > st->committed[i] + st->log[i].size / 2) {
			stream_state_commit(st);
			if (end > p->slowest[i] + st->log[i].size)
				keep_clear(p, i, room);
		}
	}
	stream_state_begin(st, f ? f->cursor : NULL);
}

static struct strbuf line_begin(struct publisher *p, unsigned log, size_t room)
{
	char *at = linelog_reserve(&p->stream.log[log], room);

	return (struct strbuf){ .p = at, .end = at + room };
}

/* Keeps the line; @seq_before is the number of the event before it.  One that did not fit (none
 * does not, by the bounds above) is left out rather than told in part. */
static void line_end(struct publisher *p, unsigned log, const struct strbuf *t, uint64_t seq_before)
{
	struct linelog *l = &p->stream.log[log];

	if (t->full) {
		log_limited(LOG_LEVEL_ERR, "A line was too long and is left out");
		return;
	}
	linelog_append(l, (size_t)(t->p - linelog_octets(l, l->end->head)), seq_before);
}

static bool is_read(const struct publisher *p, unsigned log)
{
	return log == ACCESS_ADDRESSES || p->reading[log];
}

static void publish_event(struct publisher *p, const struct input_ring *f, const struct event *e)
{
	struct json_context c = { .iface = f->iface,
				  .second = &p->second,
				  .community = p->o->community_id,
				  .community_seed = (uint16_t)p->o->community_id_seed };
	uint64_t seq;

	decoder_where(f->decoder, e->iface, &c.tunnel);
	lines_begin(p, f, JSON_LINE_MAX);
	seq = ++p->stream.state->seq;
	struct strbuf t = line_begin(p, ACCESS_ADDRESSES, JSON_LINE_MAX);

	json_event(&t, e, seq, &c);
	line_end(p, ACCESS_ADDRESSES, &t, seq - 1);
	if (is_read(p, ACCESS_PSEUDONYMS)) {
		struct event masked = *e;

		pseudonym_event(&p->key, &masked);
		t = line_begin(p, ACCESS_PSEUDONYMS, JSON_LINE_MAX);
		json_event(&t, &masked, seq, &c);
		line_end(p, ACCESS_PSEUDONYMS, &t, seq - 1);
	}
	f->cursor->number = e->number + 1;
	f->cursor->tail++;
}

/* A decoder's ring was full: what it could not say, up to event number @next, has numbers, but no
 * lines. */
static void publish_ring_loss(struct publisher *p, const struct input_ring *f, uint64_t next)
{
	uint64_t count = next - f->cursor->number, first, now = wall_clock_ns();

	lines_begin(p, f, JSON_LINE_MAX);
	first = p->stream.state->seq + 1;
	p->stream.state->seq += count;
	for (unsigned i = 0; i < ACCESS_LOGS; i++) {
		if (!is_read(p, i))
			continue;
		struct strbuf t = line_begin(p, i, JSON_LINE_MAX);

		json_lost(&t, count, first, p->stream.state->seq, "ring", now);
		line_end(p, i, &t, first - 1);
	}
	f->cursor->number = next;
}

/* A line without addresses, the same in all logs: @put writes it under the next number. */
static void publish(struct publisher *p, size_t room,
		    void (*put)(struct strbuf *t, uint64_t seq, uint64_t now_ns, const void *arg),
		    const void *arg)
{
	uint64_t seq, now = wall_clock_ns();

	lines_begin(p, NULL, room);
	seq = ++p->stream.state->seq;
	for (unsigned i = 0; i < ACCESS_LOGS; i++) {
		if (!is_read(p, i))
			continue;
		struct strbuf t = line_begin(p, i, room);

		put(&t, seq, now, arg);
		line_end(p, i, &t, seq - 1);
	}
	stream_state_commit(&p->stream);
}

struct iface_line {
	const char *iface, *state;
};

static void put_iface(struct strbuf *t, uint64_t seq, uint64_t now_ns, const void *arg)
{
	const struct iface_line *l = arg;

	json_iface(t, l->iface, l->state, seq, now_ns);
}

void publisher_iface(struct publisher *p, const char *iface, const char *state)
{
	publish(p, JSON_LINE_MAX, put_iface, &(struct iface_line){ iface, state });
}

struct stats_line {
	struct stats_subscribers s;
	struct stats_decoder d[STATS_DECODERS];
	unsigned n;
	uint64_t interval_ns;
};

static void put_stats(struct strbuf *t, uint64_t seq, uint64_t now_ns, const void *arg)
{
	const struct stats_line *l = arg;

	json_stats(t, l->d, l->n, &l->s, l->interval_ns, seq, now_ns);
}

void publisher_stats(struct publisher *p, uint64_t interval_ns)
{
	const struct stream_head *h = p->stream.head;
	struct stats_line l = { .s = { .connected = p->connected,
				       .accepted = h->accepted,
				       .lost_events = h->state.lost_events,
				       .unlisted = h->refused[ACCESS_UNLISTED],
				       .uid_limit = h->refused[ACCESS_UID_LIMIT],
				       .limit = h->refused[ACCESS_LIMIT],
				       .unknown = h->refused[ACCESS_UNKNOWN] },
				.interval_ns = interval_ns };
	struct input_ring *f = p->rings;

	do {
		for (l.n = 0; f && l.n < STATS_DECODERS; f = f->next)
			decoder_read_counters(f->decoder, f->iface, &l.d[l.n++]);
		publish(p, STATS_LINE_MAX, put_stats, &l);
	} while (f);
}

static void put_restart(struct strbuf *t, uint64_t seq, uint64_t now_ns, const void *arg)
{
	json_restart(t, arg, seq, now_ns);
}

void publisher_start(struct publisher *p)
{
	struct stream_head *h = p->stream.head;
	uint64_t now = wall_clock_ns();
	const char *reset[PUBLISHER_IFACES];
	struct json_restart l = { .cause = h->paused ? "stop" : "crash",
				  .down_ns =
					  h->alive_ns && now > h->alive_ns ? now - h->alive_ns : 0,
				  .reset = reset };

	for (const struct input_ring *f = p->rings; f && p->adopted; f = f->next)
		if (!f->resumed && f->decoder->share.index == 0 && l.nreset < PUBLISHER_IFACES)
			reset[l.nreset++] = f->iface;
	if (p->adopted)
		publish(p, RESTART_LINE_MAX, put_restart, &l);
	h->paused = false;
	h->alive_ns = now;
	p->reported = true;
	subscribers_greet_late(p);
	publisher_drain(p);
}

/* ---- draining ------------------------------------------------------------------------------- */

/* True: more is there than the budget allowed. */
static bool drain(struct publisher *p, struct input_ring *f)
{
	struct spsc *ring = &f->decoder->ring;
	uint32_t ready = spsc_ready(ring), n = ready < DRAIN_AT_ONCE ? ready : DRAIN_AT_ONCE;

	if (!p->reported && !f->resumed)
		return false; /* `restart` comes before what begins anew */
	for (uint32_t i = 0; i < n; i++) {
		const struct event *e = spsc_at(ring, i);

		if (e->number != f->cursor->number)
			publish_ring_loss(p, f, e->number);
		publish_event(p, f, e);
	}
	stream_state_commit(&p->stream);
	spsc_release(ring, n); /* what a later process would be told again is not overwritten */
	return n < ready;
}

void publisher_drain(struct publisher *p)
{
	bool more = true;

	/* Sent in pieces that are still in the processor's cache, which are large writes all the
	 * same. */
	for (unsigned i = 0; i < DRAIN_ROUNDS && more; i++) {
		more = false;
		for (struct input_ring *f = p->rings; f; f = f->next)
			more |= drain(p, f);
		subscribers_serve_all(p);
	}
	for (struct input_ring *f = p->rings; f && !more; f = f->next)
		more |= !spsc_may_sleep(&f->decoder->ring);
	/* Whoever called: a ring that is not told that we sleep wakes nobody. */
	sd_event_source_set_enabled(p->more, more ? SD_EVENT_ON : SD_EVENT_OFF);
}

/* Runs while there is more than one turn's budget. */
static int on_more(sd_event_source *io, void *arg)
{
	(void)io;
	publisher_drain(arg);
	return 0;
}

static int on_wake(sd_event_source *io, int fd, uint32_t revents, void *arg)
{
	struct publisher *p = arg;
	eventfd_t n;

	(void)io, (void)revents;
	eventfd_read(fd, &n); /* before the rings are looked at */
	publisher_drain(p);
	if (p->on_wake)
		p->on_wake(p->arg);
	return 0;
}

/* Where a ring that this stream has taken nothing of goes on. */
static struct ring_cursor first_of(struct decoder *d)
{
	const struct event *e = spsc_ready(&d->ring) ? spsc_at(&d->ring, 0) : NULL;

	return (struct ring_cursor){ .generation = d->generation,
				     .number = e ? e->number : d->state.progress->number,
				     .tail = spsc_tail(&d->ring) };
}

int publisher_add(struct publisher *p, struct decoder *d, const char *iface)
{
	struct input_ring *f = calloc(1, sizeof *f), **last = &p->rings;

	if (!f)
		return -ENOMEM;
	*f = (struct input_ring){ .decoder = d,
				  .iface = iface,
				  .cursor = stream_state_cursor(&p->stream, d->iface_id,
								d->share.index) };
	f->resumed = f->cursor->generation == d->generation &&
		     spsc_resume_tail(&d->ring, f->cursor->tail);
	if (!f->resumed) {
		stream_state_begin(&p->stream, f->cursor);
		*f->cursor = first_of(d);
		stream_state_commit(&p->stream);
	}
	while (*last) /* stats tell them in this order */
		last = &(*last)->next;
	*last = f;
	if (spsc_may_sleep(&d->ring))
		return 0;
	return sd_event_source_set_enabled(p->more, SD_EVENT_ON); /* nobody would wake us for it */
}

void publisher_remove(struct publisher *p, struct decoder *d)
{
	for (struct input_ring **link = &p->rings; *link; link = &(*link)->next) {
		struct input_ring *f = *link;

		if (f->decoder != d)
			continue;
		f->resumed = true; /* or it would wait for `restart` */
		while (drain(p, f))
			;
		if (d->state.progress->number !=
		    f->cursor->number) { /* its thread has ended: this is final */
			publish_ring_loss(p, f, d->state.progress->number);
			stream_state_commit(&p->stream);
		}
		subscribers_serve_all(p);
		*link = f->next;
		free(f);
		return;
	}
}

/* ---- life ----------------------------------------------------------------------------------- */

static int loop_init(struct publisher *p)
{
	int r;

	p->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (p->wake_fd < 0)
		return log_errno(errno, "Cannot make an eventfd");
	r = sd_event_add_io(p->loop, &p->wake_io, p->wake_fd, EPOLLIN, on_wake, p);
	if (r >= 0)
		r = sd_event_source_set_priority(p->wake_io, PRIORITY_EVENTS);
	if (r >= 0)
		r = sd_event_add_defer(p->loop, &p->more, on_more, p);
	if (r >= 0)
		r = sd_event_source_set_priority(p->more, PRIORITY_MORE);
	if (r >= 0)
		r = sd_event_source_set_enabled(p->more, SD_EVENT_OFF);
	return r < 0 ? log_errno(r, "Cannot set up the event loop") : 0;
}

/* The identity of the run goes with the stream: a subscriber shall see that it is the same. */
static void take_identity(struct publisher *p)
{
	struct stream_head *h = p->stream.head;

	identity_init(&p->id, true);
	if (p->adopted && h->run_id[0] && memchr(h->run_id, 0, sizeof h->run_id))
		memcpy(p->id.run_id, h->run_id, sizeof h->run_id);
	else
		memcpy(h->run_id, p->id.run_id, sizeof h->run_id);
}

/* Read always: a reload may want pseudonyms, and finds no file any more.  A random one goes with
 * the stream. */
static int take_key(struct publisher *p)
{
	struct stream_head *h = p->stream.head;
	uint8_t key[PSEUDONYM_KEY_OCTETS];
	int r = keyfile_read(p->o->pseudonym_key_file, key);

	if (r < 0)
		return r;
	if (!r && h->has_key)
		memcpy(key, h->key, sizeof key);
	else if (!r && getrandom(key, sizeof key, 0) != sizeof key)
		return log_errno(errno, "Cannot draw a key of pseudonyms");
	p->other_key = !h->has_key || memcmp(key, h->key, sizeof key);
	if (p->other_key) {
		h->has_key = false;
		undo_order();
		memcpy(h->key, key, sizeof key);
		undo_order();
		h->has_key = true;
	}
	p->key = pseudonym_key_of(key);
	explicit_bzero(key, sizeof key);
	return 0;
}

/* Those of the memory count. */
static void say_sizes(const struct publisher *p)
{
	const struct stream_geometry *g = &p->stream.head->geometry;

	if (g->log_octets != linelog_size(p->o->queue_size_bytes))
		log_warn(
			"queue-size: the stream goes on with %llu octets; another size counts once "
			"it has ended",
			(unsigned long long)g->log_octets);
	if (p->o->max_subscribers >= g->records)
		log_warn("max-subscribers: the stream goes on with %u places; more count once it "
			 "has ended",
			 g->records - 1);
}

int publisher_init(struct publisher *p, const struct options *o, sd_event *loop,
		   struct fdstore *fdstore)
{
	int r;

	*p = (struct publisher){
		.o = o, .loop = loop, .fdstore = fdstore, .listen_fd = -1, .wake_fd = -1
	};
	r = stream_state_open(&p->stream, fdstore, o->queue_size_bytes, o->max_subscribers + 1,
			      &p->adopted);
	if (r < 0)
		return r;
	p->reported = !p->adopted;
	say_sizes(p);
	take_identity(p);
	r = take_key(p);
	if (r >= 0)
		r = loop_init(p);
	if (r >= 0)
		r = subscribers_listen(p);
	if (r >= 0)
		subscribers_adopt(p);
	return r;
}

int publisher_stdout(struct publisher *p)
{
	return subscribers_stdout(p);
}

void publisher_reload(struct publisher *p)
{
	subscribers_judge(p);
}

void publisher_end(struct publisher *p, uint64_t patience_ns)
{
	uint64_t until = wall_clock_ns() + patience_ns;

	while (subscribers_send_all(p) && wall_clock_ns() < until)
		nanosleep(&(struct timespec){ .tv_nsec = 2000000 }, NULL);
	while (p->subscribers)
		subscribers_remove(p->subscribers, "the daemon ends");
	stream_state_forget(p->fdstore);
	if (p->socket_made) {
		shutdown(p->listen_fd,
			 SHUT_RDWR); /* nobody listens, though the store may not know yet */
		fdstore_remove(p->fdstore, LISTENER);
	}
}

void publisher_pause(struct publisher *p)
{
	bool more = true;

	while (more) {
		more = false;
		for (struct input_ring *f = p->rings; f; f = f->next)
			more |= drain(p, f);
		subscribers_serve_all(p);
	}
	p->stream.head->alive_ns = wall_clock_ns();
	undo_order();
	p->stream.head->paused = true;
}

void publisher_destroy(struct publisher *p)
{
	subscribers_free(p);
	while (p->rings) {
		struct input_ring *f = p->rings;

		p->rings = f->next;
		free(f);
	}
	sd_event_source_disable_unref(p->listen_io);
	sd_event_source_disable_unref(p->wake_io);
	sd_event_source_disable_unref(p->more);
	if (p->loop && p->listen_fd >= 0)
		close(p->listen_fd);
	if (p->loop && p->wake_fd >= 0)
		close(p->wake_fd);
	stream_state_close(&p->stream);
	*p = (struct publisher){ 0 };
}
