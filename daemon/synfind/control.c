#include "synfind/control.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <systemd/sd-event.h>
#include <time.h>
#include <unistd.h>
#include "common/clock.h"
#include "common/log.h"
#include "common/options.h"
#include "synfind/access.h"
#include "synfind/control_list.h"
#include "synfind/fdstore.h"
#include "synfind/listen.h"
#include "synfind/publisher_state.h"
#include "synfind/subscribers.h"
#include "synfind/varlink.h"

enum {
	/* Below that it would starve under load. */
	PRIORITY_CONTROL = PRIORITY_SUBSCRIBER,
	CLIENTS_MAX = 32,
	CLIENTS_PER_UID = 8,
	ACCEPT_USEC = 50000, /* at most ACCEPT_BURST are accepted in this time */
	ACCEPT_BURST = 20,
	LISTS_MAX = 4,		 /* of connections, at the same time */
	LIST_CHECK_USEC = 2000,	 /* between two looks at the decoder that adds to one */
	PATIENCE_USEC = 1000000, /* between two looks for clients that do not read */
};
static const uint64_t patience_ns = 10000000000;

/* All clients together get a tenth of the time of the main thread, spent in spells. */
static const uint64_t spell_ns = 50000000;
enum { SHARE = 10 };

struct control_client {
	struct control_client *next, **link;
	struct control *all;
	int fd;
	uid_t uid;
	enum access_verdict access;
	struct varlink_input in;
	struct varlink_output out;
	struct varlink_call call;  /* being answered; .object NULL: none */
	struct control_list *list; /* control_request.list; owned */
	json_t *rows;		   /* control_request.rows */
	bool collects;		   /* the list waits for decoders, or for another list */
	uint64_t from;		   /* control_request.from of its next reply */
	char end;		   /* of the call */
	bool input_ended;	   /* no more calls come */
	bool closing;		   /* no more are answered */
	uint64_t waits_since_ns;   /* monotonic: since then it reads nothing; 0: it does */
	sd_event_source *io, *turn;
};

/* ---- one client ------------------------------------------------------------------------------ */

/* The call is answered. */
static void client_call_done(struct control_client *s)
{
	if (s->list && s->list == s->all->list) {
		control_list_cancel(s->list); /* it is freed when its decoder gives it back */
		s->all->asker = NULL;
	} else {
		control_list_free(s->list);
	}
	s->list = NULL;
	s->collects = false;
	json_decref(s->rows);
	s->rows = NULL;
	varlink_call_done(&s->call);
}

static void client_free(struct control_client *s)
{
	client_call_done(s);
	*s->link = s->next;
	if (s->next)
		s->next->link = s->link;
	s->all->connected--;
	sd_event_source_disable_unref(s->io);
	sd_event_source_disable_unref(s->turn);
	varlink_input_done(&s->in);
	varlink_output_done(&s->out);
	close(s->fd);
	free(s);
}

static int on_patience(sd_event_source *timer, uint64_t usec, void *arg)
{
	struct control *c = arg;
	uint64_t now = clock_ns(CLOCK_MONOTONIC);
	bool waiting = false;

	(void)timer, (void)usec;
	for (struct control_client *s = c->clients, *next; s; s = next) {
		next = s->next;
		if (s->waits_since_ns && now - s->waits_since_ns > patience_ns) {
			log_debug("Control client %d does not read: disconnecting it", s->fd);
			client_free(s);
		} else {
			waiting |= s->waits_since_ns != 0;
		}
	}
	if (waiting) {
		sd_event_source_set_time_relative(c->patience, PATIENCE_USEC);
		return sd_event_source_set_enabled(c->patience, SD_EVENT_ONESHOT);
	}
	c->patience = sd_event_source_disable_unref(c->patience);
	return 0;
}

static void begin_patience(struct control_client *s)
{
	struct control *c = s->all;

	if (!s->waits_since_ns)
		s->waits_since_ns = clock_ns(CLOCK_MONOTONIC);
	if (!c->patience && sd_event_add_time_relative(c->loop, &c->patience, CLOCK_MONOTONIC,
						       PATIENCE_USEC, 0, on_patience, c) < 0)
		s->closing = true; /* without a timer, it would have its time for ever */
}

/* Sends what it takes now.  False: it is gone. */
static bool client_send(struct control_client *s)
{
	while (s->out.n) {
		ssize_t n = send(s->fd, s->out.octets + s->out.at, s->out.n - s->out.at,
				 MSG_NOSIGNAL | MSG_DONTWAIT);

		if (n < 0 && errno == EAGAIN) {
			begin_patience(s);
			return true;
		}
		if (n < 0 && errno != EINTR)
			return false;
		if (n > 0) {
			varlink_output_sent(&s->out, (size_t)n);
			s->waits_since_ns = 0;
		}
	}
	return true;
}

/* Queues a reply; if it cannot be made, one that says so. */
static void client_reply(struct control_client *s, const char *error, json_t *parameters,
			 bool continues, char end)
{
	int r = varlink_output_reply(&s->out, error, parameters, continues, end);

	if (r < 0)
		r = varlink_output_reply(
			&s->out, CONTROL_INTERFACE ".Failed",
			json_pack("{s:s}", "message",
				  r == -ENOBUFS ? "the answer is too long" : "no memory"),
			false, end);
	s->closing |= r < 0;
}

/* The same of what the answer to @q is. */
static void client_answer(struct control_client *s, const struct control_request *q,
			  json_t *parameters)
{
	if (!q->json ||
	    varlink_output_text(&s->out, q->json, q->json_octets, q->continues, s->end) < 0)
		client_reply(s, q->error, parameters, q->continues, s->end);
}

static void client_complain(struct control_client *s, const char *error, const char *message,
			    char end)
{
	client_reply(s, error, json_pack("{s:s}", "message", message), false, end);
}

static int on_pause_end(sd_event_source *timer, uint64_t usec, void *arg);

/* Counts the time of this thread since @cpu_ns, and makes a pause if it is too much. */
static void control_spend(struct control *c, uint64_t cpu_ns)
{
	uint64_t now = clock_ns(CLOCK_MONOTONIC), end;

	if (now - c->spell_since_ns >= spell_ns) {
		c->spell_since_ns = now;
		c->spent_ns = 0;
	}
	c->spent_ns += clock_ns(CLOCK_THREAD_CPUTIME_ID) - cpu_ns;
	end = c->spell_since_ns + SHARE * c->spent_ns;
	if (c->spent_ns >= spell_ns / SHARE && end > now && !c->pause)
		sd_event_add_time(c->loop, &c->pause, CLOCK_MONOTONIC, end / 1000, 1, on_pause_end,
				  c);
}

/* Sends, and then waits for what comes next: space in the socket, its turn, or a call.  Frees a
 * client that is gone or has got all. */
static void client_proceed(struct control_client *s)
{
	bool sends, calls, paused = s->all->pause;
	const char *call;
	char end;
	int r;

	if (!client_send(s)) {
		client_free(s);
		return;
	}
	if (s->collects)
		paused = true; /* in effect */
	sends = s->out.n;
	calls = !s->closing && (s->call.object || varlink_input_call(&s->in, &call, &end) >= 0 ||
				(s->input_ended && s->in.begun));
	if (!sends && !calls && (s->closing || s->input_ended)) {
		client_free(s);
		return;
	}
	r = sd_event_source_set_io_events(s->io, sends ? EPOLLOUT : calls || paused ? 0u : EPOLLIN);
	if (r >= 0)
		r = sd_event_source_set_enabled(s->turn, calls && !sends && !paused ? SD_EVENT_ON
										    : SD_EVENT_OFF);
	if (r < 0)
		client_free(s);
}

static int on_pause_end(sd_event_source *timer, uint64_t usec, void *arg)
{
	struct control *c = arg;

	(void)timer, (void)usec;
	c->pause = sd_event_source_disable_unref(c->pause);
	for (struct control_client *s = c->clients, *next; s; s = next) {
		next = s->next;
		client_proceed(s);
	}
	return 0;
}

static void client_read(struct control_client *s)
{
	size_t space;
	char *at = varlink_input_space(&s->in, &space);
	ssize_t n = at ? recv(s->fd, at, space, MSG_DONTWAIT) : 0;

	if (!at) {
		client_complain(s, CONTROL_INTERFACE ".CallTooLong", "a call is longer than 64 KiB",
				VARLINK_END_ANY);
		shutdown(s->fd, SHUT_RD); /* what else comes is refused */
		s->closing = true;
	} else if (n > 0) {
		varlink_input_add(&s->in, (size_t)n);
	} else if (n == 0) {
		s->input_ended = true;
	} else if (errno != EAGAIN && errno != EINTR) {
		s->closing = true;
	}
}

static int on_client(sd_event_source *io, int fd, uint32_t revents, void *arg)
{
	struct control_client *s = arg;
	struct control *c = s->all;
	uint64_t cpu_ns = clock_ns(CLOCK_THREAD_CPUTIME_ID);

	(void)io, (void)fd;
	if (revents & (EPOLLHUP | EPOLLERR)) {
		client_free(s);
		return 0;
	}
	if (revents & EPOLLIN && !c->pause)
		client_read(s);
	client_proceed(s);
	control_spend(c, cpu_ns);
	return 0;
}

/* Takes the next call, if it is one. */
static void client_next_call(struct control_client *s)
{
	char why[VARLINK_MESSAGE_MAX];
	const char *octets;
	ssize_t n = varlink_input_call(&s->in, &octets, &s->end);

	if (n < 0) { /* what came before the end of the input is a part of one */
		client_complain(s, CONTROL_INTERFACE ".InvalidCall",
				"a call ends with a NUL or a newline", VARLINK_END_ANY);
		s->closing = true;
		return;
	}
	if (varlink_call_parse(octets, (size_t)n, &s->call, why) < 0)
		client_complain(s, CONTROL_INTERFACE ".InvalidCall", why, s->end);
	varlink_input_drop(&s->in, (size_t)n);
	s->from = 0;
}

/* ---- lists of connections -------------------------------------------------------------------- */

static int on_list_timer(sd_event_source *timer, uint64_t usec, void *arg);

static unsigned lists_held(const struct control *c)
{
	unsigned n = c->list && !c->asker;

	for (const struct control_client *s = c->clients; s; s = s->next)
		n += s->list != NULL;
	return n;
}

/* Begins with the list of the next client that waits for one, unless one is under way. */
static void list_begin(struct control *c)
{
	struct control_client *next = NULL;

	for (struct control_client *s = c->clients; s; s = s->next)
		if (s->collects && !c->list)
			next = s; /* the one that connected first */
	if (!next)
		return;
	c->list = next->list;
	c->asker = next;
	if (!c->list_timer && sd_event_add_time_relative(c->loop, &c->list_timer, CLOCK_MONOTONIC,
							 0, 1, on_list_timer, c) < 0) {
		c->list = NULL;
		next->collects = false;
		client_complain(next, CONTROL_INTERFACE ".Failed", "no memory", next->end);
		client_call_done(next);
	}
}

static int on_list_timer(sd_event_source *timer, uint64_t usec, void *arg)
{
	struct control *c = arg;
	struct control_client *asker = c->asker;
	uint64_t cpu_ns = clock_ns(CLOCK_THREAD_CPUTIME_ID);

	(void)timer, (void)usec;
	if (control_list_proceed(c->list, c->view.publisher)) {
		sd_event_source_set_time_relative(c->list_timer, LIST_CHECK_USEC);
		return sd_event_source_set_enabled(c->list_timer, SD_EVENT_ONESHOT);
	}
	c->list_timer = sd_event_source_disable_unref(c->list_timer);
	if (!asker)
		control_list_free(c->list);
	c->list = NULL;
	c->asker = NULL;
	if (asker) {
		asker->collects = false;
		client_proceed(asker);
	}
	list_begin(c);
	control_spend(c, cpu_ns);
	return 0;
}

/* ---- its turn -------------------------------------------------------------------------------- */

/* One reply, or what is wrong with a call. */
static int on_turn(sd_event_source *turn, void *arg)
{
	struct control_client *s = arg;
	struct control *c = s->all;
	uint64_t cpu_ns = clock_ns(CLOCK_THREAD_CPUTIME_ID);
	struct control_request q = { 0 };
	json_t *parameters;

	(void)turn;
	if (!c->pause && !s->call.object)
		client_next_call(s);
	if (!c->pause && s->call.object) {
		q = (struct control_request){ .view = &c->view,
					      .method = s->call.method,
					      .parameters = s->call.parameters,
					      .more = s->call.more,
					      .pseudonyms = s->access == ACCESS_PSEUDONYMS,
					      .from = s->from,
					      .list = s->list,
					      .rows = s->rows };
		parameters = s->call.oneway ? NULL : control_answer(&q);
		s->list = q.list;
		s->rows = q.rows;
		s->from = q.from;
		s->collects = q.collects;
		if (q.collects && lists_held(c) > LISTS_MAX) {
			client_complain(s, CONTROL_INTERFACE ".Busy",
					"others are listing connections: ask later", s->end);
			q.collects = false;
		} else if (!s->call.oneway && !q.collects && !q.again) {
			client_answer(s, &q, parameters);
		}
		if (!q.continues && !q.collects && !q.again)
			client_call_done(s);
	}
	list_begin(c);
	free(q.json);
	control_spend(c, cpu_ns); /* first: it may make a pause */
	client_proceed(s);
	return 0;
}

/* ---- who may ask ----------------------------------------------------------------------------- */

/* Of the peer of @fd.  @is_new: a connection more. */
static enum access_verdict client_access(const struct control *c, int fd, bool is_new,
					 struct access_peer *ret)
{
	enum access_verdict v;
	unsigned of_uid = 0;

	if (access_peer_of(fd, ret) < 0)
		return ACCESS_UNKNOWN;
	v = access_by_name(ret, c->view.o);
	if (!is_new || access_refused(v))
		return v;
	for (const struct control_client *s = c->clients; s; s = s->next)
		of_uid += s->uid == ret->uid;
	if (!access_rate_pass(ret->uid, clock_ns(CLOCK_MONOTONIC)))
		return ACCESS_RATE_LIMIT;
	if (of_uid >= CLIENTS_PER_UID)
		return ACCESS_UID_LIMIT;
	return c->connected >= CLIENTS_MAX ? ACCESS_LIMIT : v;
}

/* Says why, as far as that fits the socket at once.  A newline and a NUL: the client may want
 * either. */
static void refuse(int fd, const struct access_peer *peer, enum access_verdict v)
{
	static const char *const why[ACCESS_VERDICTS] = {
		[ACCESS_UNLISTED] = "this user may not read the events",
		[ACCESS_UID_LIMIT] = "this user has 8 connections already",
		[ACCESS_LIMIT] = "there are 32 connections already",
		[ACCESS_UNKNOWN] = "the kernel does not name the user",
		[ACCESS_RATE_LIMIT] = "this user connects too often",
	};
	static struct log_limit limit;
	const char *message = access_refused(v) ? why[v] : "control-socket = off";
	char text[256];
	uint64_t held_back;
	int n = snprintf(text, sizeof text,
			 "{\"error\":\"%s.Refused\",\"parameters\":{\"message\":\"%s\"}}\n",
			 CONTROL_INTERFACE, message);

	send(fd, text, (size_t)n + 1, MSG_NOSIGNAL | MSG_DONTWAIT);
	if (log_enabled(LOG_LEVEL_WARN) && log_limit_pass(&limit, &held_back))
		log_event(LOG_LEVEL_WARN, LOG_ID_SUBSCRIBER,
			  LOG_FIELDS({ "SYNFIND_STATE", "refused" },
				     { "SYNFIND_UID", log_number(peer->uid).s },
				     { "SYNFIND_PID", log_number((uint64_t)peer->pid).s }),
			  "Control client of user %u (pid %d) is refused: %s", peer->uid,
			  (int)peer->pid, message);
}

/* Owns @fd, also on failure. */
static int client_new(struct control *c, int fd, uid_t uid, enum access_verdict access)
{
	struct control_client *s = calloc(1, sizeof *s);
	int r;

	if (!s) {
		close(fd);
		return -ENOMEM;
	}
	*s = (struct control_client){ .next = c->clients,
				      .link = &c->clients,
				      .all = c,
				      .fd = fd,
				      .uid = uid,
				      .access = access };
	if (s->next)
		s->next->link = &s->next;
	c->clients = s;
	c->connected++;
	r = sd_event_add_io(c->loop, &s->io, fd, EPOLLIN, on_client, s);
	if (r >= 0)
		r = sd_event_source_set_priority(s->io, PRIORITY_CONTROL);
	if (r >= 0)
		r = sd_event_add_defer(c->loop, &s->turn, on_turn, s);
	if (r >= 0)
		r = sd_event_source_set_priority(s->turn, PRIORITY_CONTROL);
	if (r >= 0)
		r = sd_event_source_set_enabled(s->turn, SD_EVENT_OFF);
	if (r < 0)
		client_free(s);
	return r;
}

static int on_control(sd_event_source *io, int fd, uint32_t revents, void *arg)
{
	struct control *c = arg;
	int client = accept4(fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK), r = 0;
	struct access_peer peer = { 0 };
	enum access_verdict v;

	(void)io, (void)revents;
	if (client < 0) {
		if (errno != EAGAIN && errno != EINTR && errno != ECONNABORTED)
			log_limited(LOG_LEVEL_ERR, "Cannot accept a control client: %m");
		return 0;
	}
	v = client_access(c, client, true, &peer);
	if (c->off || access_refused(v)) {
		refuse(client, &peer, v);
		close(client);
	} else {
		r = client_new(c, client, peer.uid, v);
	}
	access_peer_free(&peer);
	if (r < 0)
		log_limited(LOG_LEVEL_ERR, "Cannot serve a control client: %s", strerror(-r));
	return 0;
}

void control_recheck(struct control *c)
{
	for (struct control_client *s = c->clients, *next; s; s = next) {
		struct access_peer peer = { 0 };

		next = s->next;
		if (client_access(c, s->fd, false, &peer) != s->access)
			client_free(s);
		access_peer_free(&peer);
	}
}

/* ---- life ------------------------------------------------------------------------------------ */

int control_open(struct control *c, const struct options *o, struct fdstore *fdstore, bool managed)
{
	char path[108];
	int fd;

	*c = (struct control){ .view.o = o, .fdstore = fdstore, .listen_fd = -1 };
	options_control_path(o, path);
	c->off = !o->control_socket || !strcmp(o->control_socket, "off");
	fd = listen_inherited(fdstore, LISTEN_CONTROL, &c->socket_made);
	if (fd == -ENOENT && !*path)
		return 0;
	if (fd == -ENOENT && managed && !strcmp(o->control_socket, "auto")) {
		log_info("No control socket: the service manager has none for this daemon");
		return 0;
	}
	if (fd == -ENOENT) {
		fd = listen_open(o, LISTEN_CONTROL, &c->directory_made);
		c->socket_made = fd >= 0;
		if (fd >= 0)
			listen_store(fdstore, LISTEN_CONTROL, fd);
	}
	if (fd < 0)
		return fd;
	c->listen_fd = fd;
	json_object_seed(0); /* here, because at the first call it would be in the sandbox */
	return 0;
}

int control_start(struct control *c, sd_event *loop, const struct publisher *publisher,
		  const struct capture *capture)
{
	int r;

	c->loop = loop;
	c->view.publisher = publisher;
	c->view.capture = capture;
	c->view.started_ns = wall_clock_ns();
	c->view.started_mono_ns = clock_ns(CLOCK_MONOTONIC);
	if (c->listen_fd < 0)
		return 0;
	r = sd_event_add_io(loop, &c->listen_io, c->listen_fd, EPOLLIN, on_control, c);
	if (r >= 0)
		r = sd_event_source_set_priority(c->listen_io, PRIORITY_CONTROL);
	if (r >= 0)
		r = sd_event_source_set_ratelimit(c->listen_io, ACCEPT_USEC, ACCEPT_BURST);
	return r < 0 ? log_errno(r, "Cannot watch the control socket") : 0;
}

void control_end(struct control *c)
{
	if (!c->socket_made)
		return;
	shutdown(c->listen_fd, SHUT_RDWR); /* the store may hold a copy for a while */
	listen_unstore(c->fdstore, LISTEN_CONTROL);
}

void control_destroy(struct control *c)
{
	while (c->clients)
		client_free(c->clients);
	control_list_free(c->list); /* its client has left */
	sd_event_source_disable_unref(c->list_timer);
	sd_event_source_disable_unref(c->listen_io);
	sd_event_source_disable_unref(c->patience);
	sd_event_source_disable_unref(c->pause);
	if (c->listen_fd >= 0)
		close(c->listen_fd);
	*c = (struct control){ .listen_fd = -1 };
}
