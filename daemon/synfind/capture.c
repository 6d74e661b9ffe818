#include "synfind/capture.h"
#include <errno.h>
#include <net/if.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>
#include "base/cc.h"
#include "common/log.h"
#include "common/options.h"
#include "opener/protocol.h"
#include "opener/wanted.h"
#include "source/afring.h"
#include "synfind/decoder.h"
#include "synfind/watchdog.h"
#include "synfind/opener.h"
#include "synfind/publisher.h"
#include "synfind/ring_reload.h"
#include "synfind/fdstore.h"
#include "synfind/restore.h"
#include "synfind/interface.h"

enum {
	OPENER_PATIENCE_MS = 10000, /* at start */
	RETRY_USEC = 500000,	    /* between two attempts to reach an opener that died */
};

/* ---- what the opener tells ------------------------------------------------------------------ */

static void say_state(const struct interface *t, const char *state)
{
	log_event(LOG_LEVEL_INFO, LOG_ID_INTERFACE,
		  LOG_FIELDS({ "SYNFIND_INTERFACE", t->name }, { "SYNFIND_STATE", state }),
		  "Interface %s is %s", t->name, state);
}

static void interface_gone(struct capture *c, struct interface *t)
{
	if (t->asked) { /* it never was there, as far as anyone was told */
		interface_forget(c, t);
		return;
	}
	say_state(t, "gone");
	interface_close_all(t);
	interface_report_link(c, t, REPORTED_GONE, "gone");
}

static void note_error(struct capture *c, int r)
{
	if (c->starting && !c->error)
		c->error = r;
}

static void ask(struct capture *c, struct interface *t)
{
	t->asked = true;
	opener_ask(c->opener, OPENER_OPEN, t->ifindex, 0);
}

static void link_new(struct capture *c, const struct opener_reply *m)
{
	bool again = interface_name_known(c, m->name);
	int id;

	if (!m->named && c->starting && afring_link_type((int)m->arphrd) < 0) {
		log_debug("Leaving %s out: frames of its kind are not understood", m->name);
		return;
	}
	for (struct interface *t = c->interfaces; t; t = t->next)
		if (!t->decoders && !t->asked && !strcmp(t->name, m->name)) {
			interface_forget(c, t); /* it comes back under the same name */
			break;
		}
	id = interface_free_id(c);
	if (id < 0) {
		log_error("Cannot capture on '%s': %d interfaces are watched already", m->name,
			  INTERFACES_MAX);
		note_error(c, -EMFILE);
		return;
	}
	struct interface *t = calloc(1, sizeof *t);

	if (!t) {
		note_error(c, log_errno(ENOMEM, "Cannot capture on '%s'", m->name));
		return;
	}
	*t = (struct interface){ .next = c->interfaces,
				 .ifindex = m->ifindex,
				 .id = (uint8_t)id,
				 .again = again,
				 .up = m->flags & IFF_UP,
				 .listed = true,
				 .stop_fd = -1 };
	memcpy(t->name, m->name, sizeof t->name);
	c->interfaces = t;
	ask(c, t);
}

static void link_told(struct capture *c, const struct opener_reply *m)
{
	struct interface *t = interface_find(c, m->ifindex);
	bool up = m->flags & IFF_UP;

	if (t && strcmp(t->name, m->name)) { /* renamed while there was no opener */
		interface_gone(c, t);
		t = NULL;
	}
	if (!t) {
		link_new(c, m);
		return;
	}
	t->listed = true;
	if (!c->listed)
		ring_reload_ask(c, t);
	if (t->up == up)
		return;
	t->up = up;
	if (t->asked)
		return;
	say_state(t, up ? "up" : "down");
	interface_report_link(c, t, up ? REPORTED_UP : REPORTED_DOWN, up ? "up" : "down");
}

static void say_watching(const struct interface *t, const struct opener_reply *m)
{
	const struct log_field *fields =
		LOG_FIELDS({ "SYNFIND_INTERFACE", t->name }, { "SYNFIND_STATE", "watched" });

	if (m->rings > 1)
		log_event(LOG_LEVEL_INFO, LOG_ID_INTERFACE, fields,
			  "Watching %s%s with %u decoders, dealt out by %s", t->name,
			  t->up ? "" : ", which is down,", m->rings,
			  m->by_program ? "an eBPF program" : "the kernel's hash");
	else
		log_event(LOG_LEVEL_INFO, LOG_ID_INTERFACE, fields, "Watching %s%s", t->name,
			  t->up ? "" : ", which is down");
}

/* The opener has read a configuration that this daemon will only have after its next start. */
static void say_other_mode(const struct capture *c, const struct interface *t,
			   const struct opener_reply *m)
{
	if (m->mode != c->o->mode)
		log_warn("%s: its opener has mode=%s, this daemon mode=%s; a restart brings them "
			 "together%s",
			 t->name, capture_mode_name(m->mode), capture_mode_name(c->o->mode),
			 m->mode == MODE_CONTROL
				 ? "; until then nothing but SYN, FIN and RST is seen there"
				 : "");
}

/* Its rings have come: @fds are ours. */
static void rings_came(struct capture *c, const struct opener_reply *m, const int *fds, unsigned n)
{
	struct interface *t = interface_find(c, m->ifindex);
	int r;

	if (t && t->reloading && m->rings && m->rings <= OPENER_RINGS_MAX &&
	    n == interface_fds(m)) {
		ring_reload_rings(c, t, m, fds, n);
		return;
	}
	if (!t || !t->asked || !m->rings || m->rings > OPENER_RINGS_MAX || n != interface_fds(m)) {
		/* it went meanwhile */
		for (unsigned i = 0; i < n; i++)
			close(fds[i]);
		return;
	}
	t->asked = false;
	r = interface_start(c, t, m, fds);
	if (r < 0) {
		note_error(c, log_errno(r, "Cannot start a decoder for '%s'", t->name));
		interface_forget(c, t);
		return;
	}
	say_watching(t, m);
	say_other_mode(c, t, m);
	if (!c->starting)
		interface_report_link(c, t, REPORTED_UP, t->again ? "back" : "up");
}

static void rings_failed(struct capture *c, const struct opener_reply *m)
{
	struct interface *t = interface_find(c, m->ifindex);

	if (t && t->reloading) {
		t->reloading = false;
		log_errno(m->error, "%s keeps the ring that it has: %s", t->name, m->step);
		return;
	}
	if (!t || !t->asked)
		return;
	if (!strcmp(m->step, OPENER_STEP_BYPASS))
		log_error("Cannot capture on '%s': cannot load the filter of mode=auto: %s (it "
			  "needs CAP_BPF, "
			  "CAP_PERFMON and Linux 5.19; mode=all needs none of it)",
			  t->name, strerror(-m->error));
	else if (m->error == -EPERM || m->error == -EACCES)
		log_error("Cannot capture on '%s': %s needs CAP_NET_RAW (run it as root, or give "
			  "the file the "
			  "capability: setcap cap_net_raw+ep)",
			  t->name, m->step);
	else if (m->error == -EPFNOSUPPORT)
		log_error("Cannot capture on '%s': frames of its kind are not understood", t->name);
	else
		log_errno(m->error, "Cannot capture on '%s': %s", t->name, m->step);
	note_error(c, m->error);
	interface_forget(c, t);
}

/* A list begins: the first one, or that of an opener that took over. */
static void list_begins(struct capture *c)
{
	if (c->listed && !c->reloading)
		log_event(LOG_LEVEL_INFO, LOG_ID_OPENER, LOG_FIELDS({ "SYNFIND_STATE", "back" }),
			  "The opener is back");
	c->listed = c->reloading = false;
	for (struct interface *t = c->interfaces; t; t = t->next)
		t->listed = false;
}

/* What was not in it went while nobody looked; what was asked of the opener before is asked
 * again. */
static void list_ends(struct capture *c)
{
	c->listed = true;
	for (struct interface *t = c->interfaces, *next; t; t = next) {
		next = t->next;
		if (!t->gone && !t->listed)
			interface_gone(c, t);
	}
}

static void take_reply(struct capture *c, const struct opener_reply *m, const int *fds, unsigned n)
{
	struct interface *t;

	if (m->kind != OPENER_RINGS)
		for (unsigned i = 0; i < n; i++)
			close(fds[i]);
	switch (m->kind) {
	case OPENER_HELLO:
		list_begins(c);
		break;
	case OPENER_LINK:
		t = interface_find(c, m->ifindex);
		if (t && t->asked && !t->listed)
			ask(c, t); /* of one that died over it */
		link_told(c, m);
		break;
	case OPENER_LISTED:
		list_ends(c);
		break;
	case OPENER_GONE:
		t = interface_find(c, m->ifindex);
		if (t)
			interface_gone(c, t);
		break;
	case OPENER_RINGS:
		rings_came(c, m, fds, n);
		break;
	case OPENER_FAILED:
		rings_failed(c, m);
		break;
	default:
		break;
	}
}

/* All that has come; -ENOTCONN: the opener is gone. */
static int take_replies(struct capture *c)
{
	int fds[OPENER_FDS_MAX], r;
	struct opener_reply m;
	unsigned n;

	while ((r = opener_next(c->opener, &m, fds, &n)) > 0) {
		m.name[sizeof m.name - 1] = m.step[sizeof m.step - 1] = '\0';
		publisher_drain(c->publisher); /* what happened before it is told before it */
		if (c->stopping)
			m.kind = 0;
		take_reply(c, &m, fds, n);
	}
	publisher_drain(c->publisher);
	return r;
}

static int watch_opener(struct capture *c);

static int on_retry(sd_event_source *s, uint64_t usec, void *arg)
{
	struct capture *c = arg;
	int r = opener_connect(c->opener);

	(void)s, (void)usec;
	if (r < 0)
		log_limited(LOG_LEVEL_WARN, "Cannot reach the opener on '%s': %s", c->opener->path,
			    strerror(-r));
	return watch_opener(c);
}

static int on_opener(sd_event_source *io, int fd, uint32_t revents, void *arg)
{
	struct capture *c = arg;

	(void)io, (void)fd, (void)revents;
	if (take_replies(c) == 0)
		return 0;
	if (c->reloading && opener_connect(c->opener) == 0)
		return watch_opener(c);
	log_event(*c->opener->path ? LOG_LEVEL_WARN : LOG_LEVEL_ERR, LOG_ID_OPENER,
		  LOG_FIELDS({ "SYNFIND_STATE", "gone" }),
		  *c->opener->path ? "The opener is gone: looking for another"
				   : "The opener is gone: interfaces that come or go from now on "
				     "are not seen");
	return watch_opener(c);
}

/* Listens to the opener or, if there is none, tries again soon. */
static int watch_opener(struct capture *c)
{
	int r = 0;

	c->opener_io = sd_event_source_disable_unref(c->opener_io);
	c->retry = sd_event_source_disable_unref(c->retry);
	if (c->opener->fd >= 0)
		r = sd_event_add_io(c->loop, &c->opener_io, c->opener->fd, EPOLLIN, on_opener, c);
	else if (*c->opener->path)
		r = sd_event_add_time_relative(c->loop, &c->retry, CLOCK_MONOTONIC, RETRY_USEC, 0,
					       on_retry, c);
	return r < 0 ? log_errno(r, "Cannot watch the opener") : 0;
}

/* ---- the end -------------------------------------------------------------------------------- */

/* The last decoder has ended: the last words, with the counters of all of them. */
static void end_all(struct capture *c)
{
	publisher_drain(c->publisher);
	publisher_stats(c->publisher, c->o->stats_interval_ns);
	for (struct interface *t = c->interfaces; t; t = t->next)
		if (t->decoders)
			interface_end(c, t);
	sd_event_exit(c->loop, 0);
}

static bool interface_ended(const struct interface *t)
{
	for (unsigned i = 0; i < t->decoders; i++)
		if (!atomic_load(&t->decoder[i]->ended))
			return false;
	return true;
}

/* Some decoder may have ended. */
static void on_wake(void *arg)
{
	struct capture *c = arg;
	bool running = false;

	for (struct interface *t = c->interfaces; t; t = t->next) {
		if (!t->decoders)
			continue;
		if (t->switching)
			ring_reload_end(c, t);
		if (!interface_ended(t))
			running = true;
		else if (!c->stopping)
			interface_end(c, t);
	}
	if (c->stopping && !running)
		end_all(c);
}

static unsigned iface_names(void *arg, const char **ret, unsigned max)
{
	const struct capture *c = arg;
	unsigned n = 0;

	for (const struct interface *t = c->interfaces; t && n < max; t = t->next)
		if (t->decoders)
			ret[n++] = t->name;
	return n;
}

/* ---- life ----------------------------------------------------------------------------------- */

/* Every interface that was named in full must be there. */
static int check_named(const struct capture *c)
{
	for (char **w = c->o->interfaces; *w; w++) {
		if (wanted_is_pattern(*w) || interface_name_known(c, *w))
			continue;
		log_error("Cannot capture on '%s': there is no such interface", *w);
		return -ENODEV;
	}
	return 0;
}

static bool any_asked(const struct capture *c)
{
	for (const struct interface *t = c->interfaces; t; t = t->next)
		if (t->asked)
			return true;
	return false;
}

/* Until every interface that is there has its decoder, or could not have one. */
static int await_rings(struct capture *c)
{
	while (!c->error && (!c->listed || any_asked(c))) {
		struct pollfd p = { .fd = c->opener->fd, .events = POLLIN };
		int n = poll(&p, 1, OPENER_PATIENCE_MS);

		if (n == 0 || (n < 0 && errno != EINTR))
			return log_errno(n ? errno : ETIMEDOUT, "No answer from the opener");
		if (take_replies(c) < 0)
			return log_errno(ENOTCONN, "The opener ended before it had answered");
	}
	return c->error;
}

int capture_start(struct capture *c, const struct options *o, sd_event *loop,
		  struct publisher *publisher, struct opener *opener, struct fdstore *fdstore)
{
	int r;

	*c = (struct capture){ .o = o,
			       .loop = loop,
			       .publisher = publisher,
			       .opener = opener,
			       .fdstore = fdstore,
			       .starting = true };
	publisher->on_wake = on_wake;
	publisher->ifaces = iface_names;
	publisher->arg = c;
	restore_interfaces(c);
	r = await_rings(c);
	if (r < 0)
		return r;
	c->starting = false;
	r = check_named(c);
	if (r < 0)
		return r;
	if (!c->interfaces)
		log_warn("No interface matches yet: waiting for one");
	return watch_opener(c);
}

void capture_reload(struct capture *c)
{
	for (struct interface *t = c->interfaces; t; t = t->next)
		for (unsigned i = 0; i < t->decoders; i++)
			if (decoder_configure(t->decoder[i], c->o) < 0)
				log_error(
					"No memory for the limits of '%s': they stay as they were",
					t->name);
	ring_reload_list(c);
}

void capture_stop(struct capture *c)
{
	c->stopping = true;
	for (struct interface *t = c->interfaces; t; t = t->next)
		if (t->decoders)
			interface_stop(t);
	on_wake(c); /* there may be none */
}

void capture_pause(struct capture *c)
{
	c->stopping = true;
	for (struct interface *t = c->interfaces; t; t = t->next) {
		for (unsigned i = 0; i < t->decoders; i++)
			atomic_store(&t->decoder[i]->paused, true);
		if (t->decoders)
			interface_stop(t);
		for (unsigned i = 0; i < t->decoders; i++)
			decoder_join(t->decoder[i]);
		interface_add_totals(&c->totals, t);
	}
}

void capture_destroy(struct capture *c)
{
	while (c->interfaces) {
		struct interface *t = c->interfaces;

		c->interfaces = t->next;
		if (t->decoders) {
			interface_stop(t);
			for (unsigned i = 0; i < t->decoders; i++)
				t->decoder[i]->block_when_full = false;
			interface_join(c, t);
		}
		interface_free(t);
	}
	sd_event_source_disable_unref(c->opener_io);
	sd_event_source_disable_unref(c->retry);
	*c = (struct capture){ 0 };
}
