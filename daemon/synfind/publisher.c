#include "synfind/publisher.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include "base/cc.h"
#include "common/log.h"
#include "common/options.h"
#include "synfind/decoder.h"
#include "synfind/keyfile.h"
#include "synfind/listen.h"
#include "synfind/subscriber.h"

enum {
	DRAIN_AT_ONCE = 256,	 /* records of one ring, then the others have their turn */
	DRAIN_ROUNDS = 16,	 /* then the loop looks at everything else */
	STATS_DECODERS = 8,	 /* in one line */
	STATS_LINE_MAX = 20 << 10,
	HELLO_MAX = 1 << 14,
	INPUT_MAX = 1 << 16,	 /* octets taken from a subscriber; requests are a later door */
	IFACES_TOLD = 255,
};

/* Priorities of the loop: signals and the first look at new events come before idle chores.  Under
 * load, when draining has no end, draining and the subscribers take turns. */
enum { PRIORITY_EVENTS = 0, PRIORITY_ACCEPT = 10, PRIORITY_SUBSCRIBER = 20, PRIORITY_MORE = 20 };

/* ---- lines ---------------------------------------------------------------------------------- */

static void subscriber_remove(struct subscriber *s, const char *why);
static bool serve(struct subscriber *s, uint64_t now_ns);

/* Nobody may still need the octets that @n more will overwrite.  Who has room takes them first: a
 * burst may be longer than the log. */
static void keep_clear(struct publisher *p, enum stream stream, size_t n)
{
	struct linelog *l = &p->log[stream];
	uint64_t *slowest = &p->slowest[stream];

	if (l->head + n <= *slowest + l->size)
		return;
	uint64_t clear = l->head + n - l->size;

	*slowest = l->head;
	for (struct subscriber *s = p->subscribers, *next; s; s = next) {
		next = s->next;
		if (s->stream != stream)
			continue;
		if (s->at < clear && !s->waits && !serve(s, wall_clock_ns()))
			continue;
		if (s->at < clear) {
			uint64_t lost = subscriber_skip(s, l, clear, p->seq);

			if (lost == SUBSCRIBER_BROKEN) {
				subscriber_remove(s, "no memory");
				continue;
			}
			if (lost && s->lost_total == lost)
				log_tell(LOG_LEVEL_INFO, LOG_ID_SUBSCRIBER,
					 LOG_FIELDS({ "SYNFIND_STATE", "slow" },
						    { "SYNFIND_PID", log_number((uint64_t)s->pid).s }),
					 "Subscriber %d (pid %d) is too slow and loses events", s->fd,
					 (int)s->pid);
			p->lost_events += lost;
		}
		if (s->at < *slowest)
			*slowest = s->at;
	}
}

static struct text line_begin(struct publisher *p, enum stream stream, size_t room)
{
	keep_clear(p, stream, room);
	char *at = linelog_reserve(&p->log[stream], room);

	return (struct text){ .p = at, .end = at + room };
}

/* Keeps the line; @seq_before is the number of the event before it.  One that did not fit (none
 * does not, by the bounds above) is left out rather than told in part. */
static void line_end(struct publisher *p, enum stream stream, const struct text *t,
		     uint64_t seq_before)
{
	struct linelog *l = &p->log[stream];

	if (t->full) {
		log_limited(LOG_LEVEL_ERR, "A line was too long and is left out");
		return;
	}
	linelog_commit(l, (size_t)(t->p - linelog_octets(l, l->head)), seq_before);
}

/* A line without addresses is the same for all. */
static void line_end_all(struct publisher *p, const struct text *t, uint64_t seq_before)
{
	const struct linelog *l = &p->log[STREAM_ADDRESSES];
	uint64_t from = l->head;

	line_end(p, STREAM_ADDRESSES, t, seq_before);
	size_t n = (size_t)(l->head - from);

	if (!n || !p->reading[STREAM_PSEUDONYMS])
		return;
	struct text copy = line_begin(p, STREAM_PSEUDONYMS, n);

	memcpy(copy.p, linelog_octets(l, from), n);
	copy.p += n;
	line_end(p, STREAM_PSEUDONYMS, &copy, seq_before);
}

static void publish_event(struct publisher *p, const struct feed *f, const struct event *e)
{
	struct json_context c = { .iface = f->iface,
				  .second = &p->second,
				  .community = (enum community_policy)p->o->community_id,
				  .community_seed = (uint16_t)p->o->community_id_seed };
	struct text t = line_begin(p, STREAM_ADDRESSES, JSON_LINE_MAX);

	decoder_where(f->decoder, e->iface, &c.tunnel);
	json_event(&t, e, ++p->seq, &c);
	line_end(p, STREAM_ADDRESSES, &t, p->seq - 1);
	if (!p->reading[STREAM_PSEUDONYMS])
		return;
	struct event masked = *e;

	pseudonym_event(&p->key, &masked);
	t = line_begin(p, STREAM_PSEUDONYMS, JSON_LINE_MAX);
	json_event(&t, &masked, p->seq, &c);
	line_end(p, STREAM_PSEUDONYMS, &t, p->seq - 1);
}

/* A decoder's ring was full: what it could not say has numbers, but no lines. */
static void publish_ring_loss(struct publisher *p, uint64_t count)
{
	struct text t = line_begin(p, STREAM_ADDRESSES, JSON_LINE_MAX);
	uint64_t first = p->seq + 1;

	p->seq += count;
	json_lost(&t, count, first, p->seq, "ring", wall_clock_ns());
	line_end_all(p, &t, first - 1);
}

void publisher_iface(struct publisher *p, const char *iface, const char *state)
{
	struct text t = line_begin(p, STREAM_ADDRESSES, JSON_LINE_MAX);

	json_iface(&t, iface, state, ++p->seq, wall_clock_ns());
	line_end_all(p, &t, p->seq - 1);
}

void publisher_stats(struct publisher *p, uint64_t interval_ns)
{
	const uint64_t *refused = p->refused;
	struct stats_subscribers s = {
		.connected = p->connected,
		.accepted = p->accepted,
		.lost_events = p->lost_events,
		.unlisted = refused[ACCESS_UNLISTED],
		.uid_limit = refused[ACCESS_UID_LIMIT],
		.limit = refused[ACCESS_LIMIT],
		.unknown = refused[ACCESS_UNKNOWN],
	};
	struct stats_decoder d[STATS_DECODERS];
	struct feed *f = p->feeds;

	do {
		unsigned n = 0;

		for (; f && n < STATS_DECODERS; f = f->next)
			decoder_read_counters(f->decoder, f->iface, &d[n++]);
		struct text t = line_begin(p, STREAM_ADDRESSES, STATS_LINE_MAX);

		json_stats(&t, d, n, &s, interval_ns, ++p->seq, wall_clock_ns());
		line_end_all(p, &t, p->seq - 1);
	} while (f);
}

/* ---- subscribers ---------------------------------------------------------------------------- */

static void subscriber_remove(struct subscriber *s, const char *why)
{
	struct publisher *p = s->publisher;

	log_debug("Subscriber %d (pid %d) is gone: %s", s->fd, (int)s->pid, why);
	*s->link = s->next;
	if (s->next)
		s->next->link = s->link;
	p->connected--;
	p->reading[s->stream]--;
	sd_event_source_disable_unref(s->io);
	bool is_stdout = s->fd == STDOUT_FILENO;

	if (!is_stdout)
		close(s->fd);
	free(s->aside);
	free(s);
	if (is_stdout) /* whoever watched has seen enough */
		sd_event_exit(p->loop, 0);
}

/* Sends, and asks for the descriptor's attention as far as needed.  False: it is gone. */
static bool serve(struct subscriber *s, uint64_t now_ns)
{
	enum subscriber_verdict v = subscriber_send(s, &s->publisher->log[s->stream], now_ns);
	bool waits = v == SUBSCRIBER_WAITS;

	if (v == SUBSCRIBER_GONE) {
		subscriber_remove(s, strerror(errno));
		return false;
	}
	if (s->plain_file) {
		sd_event_source_set_enabled(s->io, waits ? SD_EVENT_ON : SD_EVENT_OFF);
	} else if (waits != s->waits) {
		s->waits = waits;
		sd_event_source_set_io_events(s->io, (waits ? EPOLLOUT : 0u) |
							     (s->input_ended ? 0u : EPOLLIN));
	}
	return true;
}

static void serve_all(struct publisher *p)
{
	uint64_t now = wall_clock_ns();

	for (struct subscriber *s = p->subscribers, *next; s; s = next) {
		next = s->next;
		if (!s->waits)
			serve(s, now);
	}
}

/* What a plain reader says is not for us yet; its end of input does not mean that it stops
 * reading (nc with an empty stdin). */
static bool take_input(struct subscriber *s)
{
	char buf[4096];
	ssize_t n = recv(s->fd, buf, sizeof buf, MSG_DONTWAIT);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return true;
	if (n < 0)
		return false;
	s->input_octets += (size_t)n;
	if (n == 0 || s->input_octets > INPUT_MAX) {
		s->input_ended = true;
		sd_event_source_set_io_events(s->io, s->waits ? EPOLLOUT : 0u);
	}
	return true;
}

static int on_subscriber(sd_event_source *io, int fd, uint32_t revents, void *arg)
{
	struct subscriber *s = arg;

	(void)io, (void)fd;
	if (revents & (EPOLLHUP | EPOLLERR)) {
		subscriber_remove(s, "it hung up");
		return 0;
	}
	if (revents & EPOLLIN && s->is_socket && !take_input(s)) {
		subscriber_remove(s, strerror(errno));
		return 0;
	}
	if (revents & EPOLLOUT)
		serve(s, wall_clock_ns());
	return 0;
}

static int on_plain_file(sd_event_source *io, void *arg)
{
	(void)io;
	serve(arg, wall_clock_ns());
	return 0;
}

static int greet(struct publisher *p, struct subscriber *s)
{
	const char *names[IFACES_TOLD];
	unsigned n = p->ifaces ? p->ifaces(p->arg, names, ARRAY_SIZE(names)) : 0;
	struct json_hello h = identity_hello(&p->id, names, n);
	char line[HELLO_MAX];
	struct text t = { .p = line, .end = line + sizeof line };

	h.mode = capture_mode_name(p->o->mode);
	h.pseudonyms = s->stream == STREAM_PSEUDONYMS;
	json_hello(&t, &h, p->seq, wall_clock_ns());
	return t.full ? -ENOBUFS : subscriber_put_aside(s, line, (size_t)(t.p - line));
}

/* Takes @fd over, also on failure.  @peer may be NULL: it is ours. */
static int subscriber_add(struct publisher *p, int fd, bool is_socket, const struct access_peer *peer,
			  enum stream stream)
{
	struct subscriber *s = calloc(1, sizeof *s);
	int r;

	if (!s) {
		close(fd);
		return -ENOMEM;
	}
	*s = (struct subscriber){ .next = p->subscribers,
				  .link = &p->subscribers,
				  .publisher = p,
				  .fd = fd,
				  .is_socket = is_socket,
				  .input_ended = !is_socket,
				  .pid = peer ? peer->pid : getpid(),
				  .uid = peer ? peer->uid : (uid_t)-1,
				  .stream = stream,
				  .at = p->log[stream].head };
	if (s->next)
		s->next->link = &s->next;
	p->subscribers = s;
	p->connected++;
	p->reading[stream]++;
	r = sd_event_add_io(p->loop, &s->io, fd, is_socket ? EPOLLIN : 0, on_subscriber, s);
	if (r == -EPERM) { /* epoll has no regular files */
		s->plain_file = true;
		r = sd_event_add_defer(p->loop, &s->io, on_plain_file, s);
	}
	if (r >= 0)
		r = sd_event_source_set_priority(s->io, PRIORITY_SUBSCRIBER);
	if (r >= 0)
		r = greet(p, s);
	if (r < 0) {
		subscriber_remove(s, strerror(-r));
		return r;
	}
	serve(s, wall_clock_ns());
	return 0;
}

static unsigned count_of_uid(const struct publisher *p, uid_t uid)
{
	unsigned n = 0;

	for (const struct subscriber *s = p->subscribers; s; s = s->next)
		n += s->uid == uid;
	return n;
}

void publisher_reload(struct publisher *p)
{
	for (struct subscriber *s = p->subscribers, *next; s; s = next) {
		struct access_peer peer = { 0 };
		enum access_verdict v = ACCESS_UNKNOWN;

		next = s->next;
		if (s->uid == (uid_t)-1)
			continue;
		if (access_peer_of(s->fd, &peer) == 0)
			v = access_by_name(&peer, p->o);
		if (access_refused(v))
			access_tell(&peer, v);
		if (v != (enum access_verdict)s->stream) /* it may come again and see what it may see now */
			subscriber_remove(s, "the configuration has changed");
		access_peer_free(&peer);
	}
}

static int on_connect(sd_event_source *io, int fd, uint32_t revents, void *arg)
{
	struct publisher *p = arg;
	struct access_peer peer = { 0 };
	enum access_verdict v = ACCESS_UNKNOWN;
	int c = accept4(fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

	(void)io, (void)revents;
	if (c < 0) {
		if (errno != EAGAIN && errno != EINTR && errno != ECONNABORTED)
			log_limited(LOG_LEVEL_ERR, "Cannot accept a subscriber: %m");
		return 0;
	}
	if (access_peer_of(c, &peer) == 0)
		v = access_decide(&peer, p->o, p->connected, count_of_uid(p, peer.uid));
	access_tell(&peer, v);
	if (access_refused(v)) {
		p->refused[v]++;
		close(c);
	} else {
		p->accepted++;
		subscriber_add(p, c, true, &peer, (enum stream)v);
	}
	access_peer_free(&peer);
	return 0;
}

/* ---- draining ------------------------------------------------------------------------------- */

/* True: more is there than the budget allowed. */
static bool drain(struct publisher *p, struct feed *f)
{
	struct spsc *ring = &f->decoder->ring;
	uint32_t ready = spsc_ready(ring), n = ready < DRAIN_AT_ONCE ? ready : DRAIN_AT_ONCE;

	for (uint32_t i = 0; i < n; i++) {
		const struct event *e = spsc_at(ring, i);

		if (e->number != f->number)
			publish_ring_loss(p, e->number - f->number);
		f->number = e->number + 1;
		publish_event(p, f, e);
	}
	spsc_release(ring, n);
	return n < ready;
}

void publisher_drain(struct publisher *p)
{
	bool more = true;

	/* Sent in pieces that are still in the processor's cache, which are large writes all the same. */
	for (unsigned i = 0; i < DRAIN_ROUNDS && more; i++) {
		more = false;
		for (struct feed *f = p->feeds; f; f = f->next)
			more |= drain(p, f);
		serve_all(p);
	}
	for (struct feed *f = p->feeds; f && !more; f = f->next)
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

int publisher_add(struct publisher *p, struct decoder *d, const char *iface)
{
	struct feed *f = calloc(1, sizeof *f), **last = &p->feeds;

	if (!f)
		return -ENOMEM;
	*f = (struct feed){ .decoder = d, .iface = iface };
	while (*last) /* stats tell them in this order */
		last = &(*last)->next;
	*last = f;
	spsc_may_sleep(&d->ring);
	return 0;
}

void publisher_remove(struct publisher *p, struct decoder *d)
{
	for (struct feed **link = &p->feeds; *link; link = &(*link)->next) {
		struct feed *f = *link;

		if (f->decoder != d)
			continue;
		while (drain(p, f))
			;
		if (d->number != f->number) /* its thread has ended: this is final */
			publish_ring_loss(p, d->number - f->number);
		serve_all(p);
		*link = f->next;
		free(f);
		return;
	}
}

/* ---- life ----------------------------------------------------------------------------------- */

/* Always: a reload may want pseudonyms, and cannot read the file any more. */
static int init_key(struct publisher *p)
{
	uint8_t octets[PSEUDONYM_KEY_OCTETS];
	int r = keyfile_read(p->o->pseudonym_key_file, octets);

	if (r < 0)
		return r;
	if (!r && getrandom(octets, sizeof octets, 0) != sizeof octets)
		return log_errno(errno, "Cannot draw a key of pseudonyms");
	p->key = pseudonym_key_of(octets);
	explicit_bzero(octets, sizeof octets);
	return 0;
}

int publisher_init(struct publisher *p, const struct options *o, sd_event *loop)
{
	int r;

	*p = (struct publisher){ .o = o, .loop = loop, .listen_fd = -1, .seq = 1 /* the daemon's hello */ };
	identity_init(&p->id, true);
	for (unsigned i = 0; i < STREAMS; i++) { /* pages that nobody writes to cost nothing */
		r = linelog_init(&p->log[i], o->queue_size_bytes);
		if (r < 0)
			return log_errno(r, "Cannot set up the queue");
	}
	r = init_key(p);
	if (r < 0)
		return r;
	p->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (p->wake_fd < 0)
		return log_errno(errno, "Cannot make an eventfd");
	r = sd_event_add_io(loop, &p->wake_io, p->wake_fd, EPOLLIN, on_wake, p);
	if (r >= 0)
		r = sd_event_source_set_priority(p->wake_io, PRIORITY_EVENTS);
	if (r >= 0)
		r = sd_event_add_defer(loop, &p->more, on_more, p);
	if (r >= 0)
		r = sd_event_source_set_priority(p->more, PRIORITY_MORE);
	if (r >= 0)
		r = sd_event_source_set_enabled(p->more, SD_EVENT_OFF);
	if (r < 0)
		return log_errno(r, "Cannot set up the event loop");
	p->listen_fd = listen_inherited();
	if (p->listen_fd == -ENOENT && o->socket) {
		p->listen_fd = listen_open(o, &p->directory_made);
		p->socket_made = p->listen_fd >= 0;
	}
	if (p->listen_fd < 0 && p->listen_fd != -ENOENT)
		return p->listen_fd;
	if (p->listen_fd >= 0) {
		listen_path(p->listen_fd, p->path);
		r = sd_event_add_io(loop, &p->listen_io, p->listen_fd, EPOLLIN, on_connect, p);
		if (r >= 0)
			r = sd_event_source_set_priority(p->listen_io, PRIORITY_ACCEPT);
		if (r < 0)
			return log_errno(r, "Cannot watch the events socket");
	}
	return 0;
}

int publisher_stdout(struct publisher *p)
{
	struct stat st;
	bool is_socket = fstat(STDOUT_FILENO, &st) == 0 && S_ISSOCK(st.st_mode);
	int r = subscriber_add(p, STDOUT_FILENO, is_socket, NULL, STREAM_ADDRESSES);

	return r < 0 ? log_errno(r, "Cannot write events to standard output") : 0;
}

void publisher_flush(struct publisher *p, uint64_t patience_ns)
{
	uint64_t until = wall_clock_ns() + patience_ns;

	for (bool waiting = true; waiting && wall_clock_ns() < until;) {
		waiting = false;
		for (struct subscriber *s = p->subscribers, *next; s; s = next) {
			next = s->next;
			if (subscriber_send(s, &p->log[s->stream], wall_clock_ns()) == SUBSCRIBER_WAITS)
				waiting = true;
		}
		if (waiting)
			nanosleep(&(struct timespec){ .tv_nsec = 2000000 }, NULL);
	}
}

void publisher_destroy(struct publisher *p)
{
	while (p->subscribers)
		subscriber_remove(p->subscribers, "the daemon ends");
	while (p->feeds) {
		struct feed *f = p->feeds;

		p->feeds = f->next;
		free(f);
	}
	sd_event_source_disable_unref(p->listen_io);
	sd_event_source_disable_unref(p->wake_io);
	sd_event_source_disable_unref(p->more);
	if (p->loop && p->listen_fd >= 0)
		close(p->listen_fd);
	if (p->loop)
		close(p->wake_fd);
	for (unsigned i = 0; i < STREAMS; i++)
		linelog_destroy(&p->log[i]);
	*p = (struct publisher){ 0 };
}
