#include "synfind/subscribers.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>
#include "base/cc.h"
#include "common/log.h"
#include "common/options.h"
#include "synfind/access.h"
#include "synfind/decoder.h"
#include "synfind/listen.h"
#include "synfind/publisher.h"
#include "synfind/fdstore.h"
#include "synfind/subscriber.h"

enum {
	HELLO_MAX = 1 << 14, /* SUBSCRIBER_ASIDE_MAX */
	INPUT_MAX = 1 << 16, /* octets taken from a subscriber; requests are a later door */
	ACCEPT_USEC = 50000, /* in that time at most */
	ACCEPT_BURST = 100,  /* subscribers are accepted */
};

/* ---- one subscriber -------------------------------------------------------------------------- */

static struct linelog *log_of(struct subscriber *s)
{
	return &s->publisher->stream.log[s->record->log];
}

/* Its socket's name in the store: of one stay in one place. */
#define SUBSCRIBER_NAME "reader-"
struct subscriber_name {
	char s[sizeof SUBSCRIBER_NAME + 24];
};

static struct subscriber_name subscriber_name(unsigned index, uint32_t generation)
{
	struct subscriber_name n;

	snprintf(n.s, sizeof n.s, SUBSCRIBER_NAME "%u-%u", index, generation);
	return n;
}

/* Lets go of what this process has of it. */
static void subscriber_free(struct subscriber *s)
{
	*s->link = s->next;
	if (s->next)
		s->next->link = s->link;
	s->publisher->connected--;
	s->publisher->reading[s->record->log]--;
	sd_event_source_disable_unref(s->io);
	if (s->fd != STDOUT_FILENO)
		close(s->fd);
	free(s);
}

void subscribers_remove(struct subscriber *s, const char *why)
{
	struct publisher *p = s->publisher;
	uint32_t *index = &p->stream.in_use[s->index];
	bool is_stdout = s->fd == STDOUT_FILENO;

	log_debug("Subscriber %d (pid %d) is gone: %s", s->fd, (int)s->pid, why);
	*index &= ~1u; /* first: now it is gone for whoever comes after us */
	if (!is_stdout) {
		shutdown(s->fd, SHUT_RDWR); /* or it would go on until the store has let go */
		fdstore_remove(p->fdstore, subscriber_name(s->index, *index >> 1).s);
	}
	subscriber_free(s);
	if (is_stdout) /* whoever watched has seen enough */
		sd_event_exit(p->loop, 0);
}

bool subscribers_serve(struct subscriber *s, uint64_t now_ns)
{
	enum subscriber_verdict v =
		subscriber_send(s, log_of(s), &s->publisher->stream.undo, now_ns);
	bool waits = v == SUBSCRIBER_WAITS;

	if (v == SUBSCRIBER_GONE) {
		subscribers_remove(s, strerror(errno));
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

void subscribers_serve_all(struct publisher *p)
{
	uint64_t now = wall_clock_ns();

	if (p->reported)
		p->stream.head->alive_ns = now;
	for (struct subscriber *s = p->subscribers, *next; s; s = next) {
		next = s->next;
		if (!s->waits)
			subscribers_serve(s, now);
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
		subscribers_remove(s, "it hung up");
		return 0;
	}
	if (revents & EPOLLIN && s->is_socket && !take_input(s)) {
		subscribers_remove(s, strerror(errno));
		return 0;
	}
	if (revents & EPOLLOUT)
		subscribers_serve(s, wall_clock_ns());
	return 0;
}

static int on_plain_file(sd_event_source *io, void *arg)
{
	(void)io;
	subscribers_serve(arg, wall_clock_ns());
	return 0;
}

static int greet(struct publisher *p, struct subscriber_record *t)
{
	const char *names[PUBLISHER_IFACES];
	unsigned n = p->ifaces ? p->ifaces(p->arg, names, ARRAY_SIZE(names)) : 0;
	struct json_hello h = identity_hello(&p->id, names, n);
	char line[HELLO_MAX];
	struct strbuf x = { .p = line, .end = line + sizeof line };

	h.mode = capture_mode_name(p->o->mode);
	h.pseudonyms = t->log == ACCESS_PSEUDONYMS;
	json_hello(&x, &h, p->stream.state->seq, wall_clock_ns());
	return x.full ? -ENOBUFS : subscriber_put_aside(t, line, (size_t)(x.p - line));
}

static int watch(struct publisher *p, struct subscriber *s)
{
	int r = sd_event_add_io(p->loop, &s->io, s->fd, s->is_socket ? EPOLLIN : 0, on_subscriber,
				s);

	if (r == -EPERM) { /* epoll has no regular files */
		s->plain_file = true;
		r = sd_event_add_defer(p->loop, &s->io, on_plain_file, s);
	}
	return r < 0 ? r : sd_event_source_set_priority(s->io, PRIORITY_SUBSCRIBER);
}

/* What a process has of a subscriber, whose index may be taken already.  Takes @fd over, also on
 * failure. */
static int subscriber_new(struct publisher *p, unsigned index, int fd, bool is_socket,
			  struct subscriber **ret)
{
	struct subscriber *s = calloc(1, sizeof *s);
	struct ucred peer = { 0 };
	socklen_t len = sizeof peer;
	int r;

	if (!s) {
		if (fd != STDOUT_FILENO)
			close(fd);
		return -ENOMEM;
	}
	if (is_socket)
		getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len);
	*s = (struct subscriber){ .next = p->subscribers,
				  .link = &p->subscribers,
				  .publisher = p,
				  .record = stream_state_record(&p->stream, index),
				  .index = index,
				  .fd = fd,
				  .is_socket = is_socket,
				  .input_ended = !is_socket,
				  .pid = peer.pid,
				  .uid = fd == STDOUT_FILENO ? (uid_t)-1 : peer.uid };
	if (s->next)
		s->next->link = &s->next;
	p->subscribers = s;
	p->connected++;
	p->reading[s->record->log]++;
	r = watch(p, s);
	if (r < 0) {
		subscriber_free(s);
		return r;
	}
	*ret = s;
	return 0;
}

/* One that reads @log from now on; its socket is in the store already.  Takes @fd over, also on
 * failure. */
static int subscriber_add(struct publisher *p, unsigned index, int fd, bool is_socket, unsigned log)
{
	uint32_t *word = &p->stream.in_use[index], generation = (*word >> 1) + 1;
	struct subscriber_record *t = stream_state_record(&p->stream, index);
	struct subscriber *s;
	int r;

	subscriber_record_init(t, log, p->stream.state->end[log].head);
	r = greet(p, t);
	undo_order();
	*word = generation << 1 | 1; /* now it is one, for whoever comes after us */
	undo_order();
	if (r >= 0) {
		r = subscriber_new(p, index, fd, is_socket, &s);
	} else if (fd != STDOUT_FILENO) {
		close(fd);
	}
	if (r < 0) {
		*word &= ~1u;
		fdstore_remove(p->fdstore, subscriber_name(index, generation).s);
		return log_errno(r, "Cannot serve a subscriber");
	}
	subscribers_serve(s, wall_clock_ns());
	return 0;
}

/* The last index is that of standard output. */
static unsigned stdout_index(const struct publisher *p)
{
	return p->stream.head->geometry.records - 1;
}

/* The first index that is free, or stdout_index(). */
static unsigned free_index(const struct publisher *p)
{
	unsigned i = 0;

	while (i < stdout_index(p) && p->stream.in_use[i] & 1)
		i++;
	return i;
}

/* What the peer of @fd may see; @comes: now, as one more, which is logged. */
static enum access_verdict judge(const struct publisher *p, int fd, bool comes)
{
	enum access_verdict v = ACCESS_UNKNOWN;
	struct access_peer peer = { 0 };
	unsigned of_uid = 0;

	if (access_peer_of(fd, &peer) == 0) {
		for (const struct subscriber *s = p->subscribers; s; s = s->next)
			of_uid += s->uid == peer.uid;
		v = comes ? access_decide(&peer, p->o, p->connected, of_uid)
			  : access_by_name(&peer, p->o);
	}
	if (comes || access_refused(v))
		access_log(&peer, v);
	access_peer_free(&peer);
	return v;
}

void subscribers_judge(struct publisher *p)
{
	for (struct subscriber *s = p->subscribers, *next; s; s = next) {
		next = s->next;
		/* Who is to see something else may come again. */
		if (s->fd != STDOUT_FILENO && judge(p, s->fd, false) != s->record->log)
			subscribers_remove(s, "the configuration has changed");
	}
}

static int on_connect(sd_event_source *io, int fd, uint32_t revents, void *arg)
{
	struct publisher *p = arg;
	struct stream_head *h = p->stream.head;
	int c = accept4(fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK), r;
	enum access_verdict v;
	unsigned index;

	(void)io, (void)revents;
	if (c < 0) {
		if (errno != EAGAIN && errno != EINTR && errno != ECONNABORTED)
			log_limited(LOG_LEVEL_ERR, "Cannot accept a subscriber: %m");
		return 0;
	}
	v = judge(p, c, true);
	index = free_index(p);
	if (!access_refused(v) &&
	    index == stdout_index(p)) /* say_sizes() said how many there are */
		v = ACCESS_LIMIT;
	if (access_refused(v)) {
		h->refused[v]++;
		close(c);
		return 0;
	}
	r = fdstore_put(p->fdstore, subscriber_name(index, (p->stream.in_use[index] >> 1) + 1).s,
			c);
	if (r < 0 && r != -ENOTCONN)
		log_limited(LOG_LEVEL_WARN,
			    "Cannot store a subscriber, it will not outlive a restart: %s",
			    strerror(-r));
	h->accepted++;
	subscriber_add(p, index, c, true, v);
	return 0;
}

int subscribers_stdout(struct publisher *p)
{
	struct stat st;
	bool is_socket = fstat(STDOUT_FILENO, &st) == 0 && S_ISSOCK(st.st_mode);

	return subscriber_add(p, stdout_index(p), STDOUT_FILENO, is_socket, ACCESS_ADDRESSES);
}

/* ---- subscribers of the process before ------------------------------------------------------- */

/* Where it stands makes sense, and it may still see what it saw. */
static bool may_go_on(const struct publisher *p, const struct subscriber_record *t, int fd)
{
	return t->log < ACCESS_LOGS && subscriber_is_sound(t, &p->stream.log[t->log]) &&
	       judge(p, fd, false) == t->log && !(t->log == ACCESS_PSEUDONYMS && p->other_key);
}

static void adopt(struct publisher *p, unsigned index)
{
	struct subscriber_record *t = stream_state_record(&p->stream, index);
	uint32_t *word = &p->stream.in_use[index];
	struct subscriber_name name = subscriber_name(index, *word >> 1);
	int fd = index == stdout_index(p) ? -ENOENT : fdstore_take(p->fdstore, name.s);
	struct subscriber *s;

	subscriber_settle(t);
	if (fd >= 0 && may_go_on(p, t, fd)) {
		if (subscriber_new(p, index, fd, true, &s) == 0) {
			if (t->cursor.at < p->slowest[t->log])
				p->slowest[t->log] = t->cursor.at;
			return;
		}
	} else if (fd >= 0) {
		shutdown(fd, SHUT_RDWR); /* the store may have it for a while yet */
		close(fd);
	}
	*word &= ~1u;
	fdstore_remove(p->fdstore, name.s);
}

void subscribers_adopt(struct publisher *p)
{
	for (unsigned i = 0; i < ACCESS_LOGS; i++)
		p->slowest[i] = p->stream.state->end[i].head;
	for (unsigned i = 0; i <= stdout_index(p); i++)
		if (p->stream.in_use[i] & 1)
			adopt(p, i);
}

void subscribers_greet_late(struct publisher *p)
{
	char name[FDSTORE_NAME_MAX + 1];
	int fd;

	while ((fd = fdstore_take_next(p->fdstore, SUBSCRIBER_NAME, name)) >= 0) {
		unsigned index = 0, generation = 0;

		if (p->adopted && sscanf(name, SUBSCRIBER_NAME "%u-%u", &index, &generation) == 2 &&
		    index < stdout_index(p) && p->stream.in_use[index] == (generation - 1) << 1) {
			enum access_verdict v = judge(p, fd, true);

			if (!access_refused(v)) {
				subscriber_add(p, index, fd, true, v);
				continue;
			}
			p->stream.head->refused[v]++;
		}
		fdstore_remove(p->fdstore, name); /* one that was let go, or is now */
		shutdown(fd, SHUT_RDWR);
		close(fd);
	}
}

/* ---- all of them ----------------------------------------------------------------------------- */

static int open_socket(struct publisher *p)
{
	int fd = listen_inherited(p->fdstore, &p->socket_made);

	if (fd != -ENOENT || !p->o->socket)
		return fd;
	fd = listen_open(p->o, &p->directory_made);
	p->socket_made = fd >= 0;
	if (fd >= 0)
		fdstore_put(p->fdstore, LISTENER, fd);
	return fd;
}

int subscribers_listen(struct publisher *p)
{
	int r;

	p->listen_fd = open_socket(p);
	if (p->listen_fd < 0)
		return p->listen_fd == -ENOENT ? 0 : p->listen_fd;
	listen_path(p->listen_fd, p->path);
	r = sd_event_add_io(p->loop, &p->listen_io, p->listen_fd, EPOLLIN, on_connect, p);
	if (r >= 0)
		r = sd_event_source_set_priority(p->listen_io, PRIORITY_ACCEPT);
	/* Who cannot be accepted, for want of a descriptor, stays in front of the queue. */
	if (r >= 0)
		r = sd_event_source_set_ratelimit(p->listen_io, ACCEPT_USEC, ACCEPT_BURST);
	return r < 0 ? log_errno(r, "Cannot watch the events socket") : 0;
}

bool subscribers_send_all(struct publisher *p)
{
	bool waiting = false;

	for (struct subscriber *s = p->subscribers; s; s = s->next)
		if (subscriber_send(s, log_of(s), &p->stream.undo, wall_clock_ns()) ==
		    SUBSCRIBER_WAITS)
			waiting = true;
	return waiting;
}

void subscribers_free(struct publisher *p)
{
	while (p->subscribers)
		subscriber_free(p->subscribers);
}
