#include "synfind/capture.h"
#include <errno.h>
#include <net/if.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include "common/log.h"
#include "common/options.h"
#include "opener/protocol.h"
#include "source/afring.h"
#include "synfind/decoder.h"
#include "synfind/opener.h"
#include "synfind/publisher.h"
#include "synfind/publisher_state.h"
#include "synfind/ring_reload.h"
#include "synfind/restore.h"
#include "synfind/interface.h"
#include "wire/link.h"

enum {
	OPENER_TIMEOUT_MS = 10000, /* at start */
	RETRY_USEC = 500000,	   /* between two attempts to reconnect to the opener */
};

/* ---- messages of the opener ----------------------------------------------------------------- */

static void interface_gone(struct capture *c, struct interface *iface)
{
	if (iface->rings->asked) { /* it was not reported as up */
		interface_forget(c, iface);
		return;
	}
	interface_log(iface, "gone", "Interface %s is gone", iface->name);
	interface_close_all(iface);
	if (interface_is_reported(iface))
		interface_report_link(c, iface, REPORTED_GONE, "gone");
}

static void note_error(struct capture *c, int r)
{
	if (c->starting && !c->error)
		c->error = r;
}

/* ---- interfaces that share rings ------------------------------------------------------------- */

/* Calls interface_follow() for all rings that are shared. */
static void shared_follow(struct capture *c, enum link_news_kind kind, int ifindex, bool watched)
{
	for (struct interface *iface = c->interfaces; iface; iface = iface->next)
		if (interface_is_rings(iface))
			interface_follow(iface, kind, ifindex, watched);
}

static bool watches_any(const struct capture *c)
{
	for (size_t i = 0; i < c->o->interfaces.n; i++)
		if (!strcmp(c->o->interfaces.names[i], "any"))
			return true;
	return false;
}

static size_t other_find(const struct capture *c, int ifindex)
{
	size_t i = 0;

	while (i < c->n_others && c->others[i] != ifindex)
		i++;
	return i;
}

/* It is gone, or watched from now on. */
static void other_forget(struct capture *c, int ifindex)
{
	size_t i = other_find(c, ifindex);

	if (i < c->n_others)
		c->others[i] = c->others[--c->n_others];
}

/* Frames of this interface are in the shared rings, and not wanted. */
static void other_add(struct capture *c, int ifindex)
{
	size_t i = other_find(c, ifindex);
	int *grown = c->others;

	if (i == c->n_others)
		grown = reallocarray(c->others, c->n_others + 1, sizeof *grown);
	if (!grown) {
		log_limited(LOG_LEVEL_ERR, "No memory: changes of interfaces are missed");
		return;
	}
	c->others = grown;
	c->others[i] = ifindex;
	c->n_others += i == c->n_others;
	shared_follow(c, LINK_HERE, ifindex, false);
}

static void ask_rings(struct capture *c, struct interface *iface)
{
	iface->asked = true;
	opener_ask(c->opener, OPENER_OPEN, iface->ifindex, 0);
}

/* The lowest unused id, or -1. */
static int free_id(const struct capture *c)
{
	bool used[INTERFACES_MAX] = { false };

	for (struct interface *iface = c->interfaces; iface; iface = iface->next)
		if (iface->decoders || iface->asked)
			used[iface->id] = true;
	for (int i = 0; i < INTERFACES_MAX; i++)
		if (!used[i])
			return i;
	return -1;
}

/* An id for the rings of @name, or -1: logged. */
static int take_id(struct capture *c, const char *name)
{
	int id = free_id(c);

	if (id < 0) {
		log_error("Cannot capture on '%s': %d interfaces are captured already", name,
			  INTERFACES_MAX);
		note_error(c, -EMFILE);
	}
	return id;
}

static struct interface *add_interface(struct capture *c, const struct interface *iface)
{
	struct interface *added = interface_add(c, iface);

	if (!added)
		note_error(c, log_errno(ENOMEM, "Cannot capture on '%s'", iface->name));
	return added;
}

/* What stands for the rings of @link, enum link_type; requests them if there are none.  NULL:
 * logged. */
static struct interface *shared_rings(struct capture *c, unsigned link)
{
	struct interface *rings = interface_find(c, opener_shared(link));
	int id = rings ? 0 : take_id(c, "any");

	if (rings || id < 0)
		return rings;
	rings = add_interface(c, &(struct interface){ .ifindex = opener_shared(link),
						      .id = (unsigned)id,
						      .name = "any", /* until the rings have come */
						      .up = true,
						      .listed = true });
	if (rings)
		ask_rings(c, rings);
	return rings;
}

/* Its frames are read from now on.  It is reported when it is up for the first time; not at the
 * start of the daemon, whose hello names it, unless an earlier process had its rings. */
static void interface_is_new(struct capture *c, struct interface *iface)
{
	struct stored_link *stored = interface_stored(iface);
	bool quiet = c->starting && !iface->resumed && !iface->rings->resumed;

	if (quiet && stored)
		stored->reported = iface->up ? REPORTED_UP : REPORTED_DOWN;
	else if (iface->up)
		interface_report_link(c, iface, REPORTED_UP, iface->again ? "back" : "up");
}

/* Its rings, which it shares, are there: watches it. */
static void interface_join_rings(struct capture *c, struct interface *iface)
{
	interface_watch(iface);
	interface_log(iface, "watched", "Watching %s%s", iface->name,
		      iface->up ? "" : " (it is down)");
	interface_is_new(c, iface);
}

/* Adds an interface, with rings of its own or, if @rings, with those. */
static struct interface *link_add(struct capture *c, const struct opener_reply *m, bool again,
				  struct interface *rings)
{
	int id = rings ? 0 : take_id(c, m->name);
	struct interface iface = { .ifindex = m->ifindex,
				   .rings = rings,
				   .id = (unsigned)id,
				   .again = again,
				   .up = m->flags & IFF_UP,
				   .listed = true };

	memcpy(iface.name, m->name, sizeof iface.name);
	return id < 0 ? NULL : add_interface(c, &iface);
}

/* It is back under the same name: what is known of it need not be kept twice. */
static void forget_gone(struct capture *c, const char *name)
{
	for (struct interface *iface = c->interfaces; iface; iface = iface->next)
		if (!interface_runs(iface) && !iface->decoders && !iface->rings->asked &&
		    !strcmp(iface->name, name)) {
			interface_forget(c, iface);
			break;
		}
}

static void link_new(struct capture *c, const struct opener_reply *m)
{
	bool again = interface_name_known(c, m->name);
	int link = afring_link_type((int)m->arphrd);
	struct interface *iface, *rings = NULL;

	if (link < 0 && !m->named && (c->starting || m->shared)) {
		log_debug("Skipping %s: its link type is not supported", m->name);
		return;
	}
	if (link < 0 && m->shared) {
		log_error("Cannot capture on '%s': its link type is not supported", m->name);
		note_error(c, -EPFNOSUPPORT);
		return;
	}
	forget_gone(c, m->name);
	if (m->shared && !(rings = shared_rings(c, (unsigned)link)))
		return;
	other_forget(c, m->ifindex);
	iface = link_add(c, m, again, rings);
	if (!iface)
		return;
	if (!rings)
		ask_rings(c, iface);
	else if (rings->decoders)
		interface_join_rings(c, iface);
	/* Is it the one that was missing? */
	for (iface = m->named && c->listed ? c->interfaces : NULL; iface; iface = iface->next)
		if (iface->held) {
			ring_reload_list(c);
			break;
		}
}

/* The opener has this interface in its list, so what has its frames is needed. */
static void rings_needed(struct capture *c, struct interface *rings)
{
	if (rings->asked && !rings->listed)
		ask_rings(c, rings); /* the opener died before it replied */
	else if (!c->listed && !(interface_is_rings(rings) && rings->listed))
		ring_reload_ask(c, rings);
	rings->listed = true;
}

static void link_update(struct capture *c, const struct opener_reply *m)
{
	struct interface *iface = interface_find(c, m->ifindex);
	bool up = m->flags & IFF_UP;
	const char *state = up ? "up" : "down";

	if (iface && strcmp(iface->name, m->name)) { /* renamed while there was no opener */
		interface_gone(c, iface);
		iface = NULL;
	}
	if (!iface) {
		link_new(c, m);
		return;
	}
	rings_needed(c, iface->rings);
	iface->listed = true;
	if (m->shared && iface->rings == iface)
		other_add(c, iface->ifindex); /* it keeps rings of its own */
	else if (iface->rings != iface && interface_runs(iface))
		interface_watch(iface);
	if (iface->up == up)
		return;
	iface->up = up;
	if (!interface_runs(iface))
		return;
	interface_log(iface, state, "Interface %s is %s", iface->name, state);
	if (!interface_is_reported(iface))
		interface_is_new(c, iface);
	else
		interface_report_link(c, iface, up ? REPORTED_UP : REPORTED_DOWN, state);
}

static void log_watching(const struct capture *c, const struct interface *iface,
			 const struct opener_reply *m)
{
	char decoders[64] = "";

	if (m->rings > 1)
		snprintf(decoders, sizeof decoders, " with %u decoders, assigned by %s", m->rings,
			 m->by_program ? "an eBPF program" : "the kernel's hash");
	if (interface_is_rings(iface))
		log_info("Interfaces share %s packet ring%s%s",
			 m->ring[0].link == LINK_RAW_IP ? "the raw IP" : "the Ethernet",
			 m->rings > 1 ? "s" : "", decoders);
	else
		interface_log(iface, "watched", "Watching %s%s%s", iface->name, decoders,
			      iface->up ? "" : " (it is down)");
	/* The opener has read a configuration whose mode the daemon takes at its next start. */
	if (m->mode != c->o->mode)
		log_warn(
			"%s: its opener has mode=%s, this daemon has mode=%s; restart the daemon%s",
			iface->name, capture_mode_name((enum capture_mode)m->mode),
			capture_mode_name(c->o->mode),
			m->mode == MODE_CONTROL ? "; until then it sees only SYN, FIN and RST there"
						: "");
}

/* The decoders of shared rings are there: passes them the interfaces that are known. */
static void shared_begin(struct capture *c, struct interface *rings)
{
	interface_follow(rings, LINK_LIST, 0, watches_any(c));
	for (size_t i = 0; i < c->n_others; i++)
		interface_follow(rings, LINK_HERE, c->others[i], false);
	for (struct interface *iface = c->interfaces; iface; iface = iface->next)
		if (iface->rings == rings && iface != rings && !iface->gone)
			interface_join_rings(c, iface);
}

/* Owns @fds. */
static void rings_came(struct capture *c, const struct opener_reply *m, const int *fds, unsigned n)
{
	struct interface *iface = interface_find(c, m->ifindex);
	int r;

	if (!iface || !(iface->asked || iface->reloading) || !m->rings ||
	    m->rings > OPENER_RINGS_MAX || n != interface_fds(m)) {
		opener_close_fds(fds, n); /* the interface is gone meanwhile */
		return;
	}
	if (iface->reloading) {
		ring_reload_rings(c, iface, m, fds, n);
		return;
	}
	iface->asked = false;
	memcpy(iface->name, m->ring[0].ifname, sizeof iface->name - 1);
	r = interface_start(c, iface, m, fds);
	if (r < 0) {
		note_error(c, log_errno(r, "Cannot start a decoder for '%s'", iface->name));
		interface_forget(c, iface);
		return;
	}
	log_watching(c, iface, m);
	if (interface_is_rings(iface))
		shared_begin(c, iface);
	else
		interface_is_new(c, iface);
}

static void rings_failed(struct capture *c, const struct opener_reply *m)
{
	struct interface *iface = interface_find(c, m->ifindex);

	if (iface && iface->reloading) {
		iface->reloading = false;
		log_errno(m->error, "%s keeps its old ring: %s", iface->name, m->step);
		return;
	}
	if (!iface || !iface->asked)
		return;
	if (!strcmp(m->step, OPENER_STEP_BYPASS))
		log_error("Cannot capture on '%s': cannot load the filter of mode=auto: %s (it "
			  "needs CAP_BPF, CAP_PERFMON and Linux 5.19; mode=all needs none of them)",
			  iface->name, strerror(-m->error));
	else if (m->error == -EPERM || m->error == -EACCES)
		log_error("Cannot capture on '%s': %s needs CAP_NET_RAW (run it as root, or give "
			  "the file the capability: setcap cap_net_raw+ep)",
			  iface->name, m->step);
	else if (m->error == -EPFNOSUPPORT)
		log_error("Cannot capture on '%s': its link type is not supported", iface->name);
	else
		log_errno(m->error, "Cannot capture on '%s': %s", iface->name, m->step);
	note_error(c, m->error);
	interface_forget(c, iface);
}

/* A list begins: the first one, or that of a new opener. */
static void list_begins(struct capture *c)
{
	if (c->listed && !c->reloading)
		log_event(LOG_LEVEL_INFO, LOG_ID_OPENER, LOG_FIELDS({ "SYNFIND_STATE", "back" }),
			  "The opener is back");
	c->relisted = c->reloading;
	c->listed = c->reloading = c->missing = false;
	for (struct interface *iface = c->interfaces; iface; iface = iface->next)
		iface->listed = iface->other = false;
	c->n_others = 0;
	shared_follow(c, LINK_LIST, 0, watches_any(c));
}

/* The index of @name in the option, or its end. */
static size_t find_configured(const struct capture *c, const char *name)
{
	const struct name_list *l = &c->o->interfaces;
	size_t i = 0;

	while (i < l->n && strcmp(l->names[i], name))
		i++;
	return i;
}

/* The configuration has the full name of an interface that does not exist.  An error at the
 * start. */
static void link_missing(struct capture *c, const struct opener_reply *m)
{
	bool known = interface_name_known(c, m->name);
	size_t i = find_configured(c, m->name);
	char guess[64] = "";

	/* It went away, and that was reported; or the opener's file differs. */
	if ((known && !c->relisted) || i == c->o->interfaces.n)
		return;
	if (*m->step)
		snprintf(guess, sizeof guess, "; did you mean '%s'?", m->step);
	log_event(c->starting ? LOG_LEVEL_ERR : LOG_LEVEL_WARN, LOG_ID_MISSING,
		  LOG_FIELDS({ "SYNFIND_INTERFACE", m->name }), "%s: '%s' does not exist%s",
		  options_place(c->o, i).s, m->name, guess);
	c->missing |= !known;
	note_error(c, -ENODEV);
}

static void interface_hold(struct capture *c, struct interface *iface)
{
	if (!iface->held)
		interface_log(
			iface, "held",
			"Interface %s is not configured any more, but kept until all that are "
			"configured exist",
			iface->name);
	iface->held = true;
	opener_ask(c->opener, OPENER_HOLD, iface->ifindex, 0);
	if (iface->rings != iface)
		interface_watch(iface); /* also in this list */
}

/* It has gone, or is not configured any more: then the shared rings have its frames still. */
static void interface_unlisted(struct capture *c, struct interface *iface)
{
	int ifindex = iface->ifindex;
	bool other = iface->other;

	interface_gone(c, iface);
	if (other)
		other_add(c, ifindex);
}

/* The list is complete.  What is not in it has gone, or is not configured any more.  If a
 * configured name is missing after a reload, it is probably mistyped, and what it should have been
 * is kept. */
static void list_ends(struct capture *c)
{
	struct interface *next;

	c->listed = true;
	for (struct interface *iface = c->interfaces; iface; iface = next) {
		next = iface->next;
		if (interface_is_rings(iface))
			continue; /* kept, whatever uses them */
		if (iface->gone || iface->listed)
			iface->held = false;
		else if (c->missing && (c->relisted || iface->held) && interface_runs(iface) &&
			 find_configured(c, iface->name) == c->o->interfaces.n)
			interface_hold(c, iface);
		else
			interface_unlisted(c, iface);
	}
	shared_follow(c, LINK_LIST_END, 0, false);
}

static void handle_reply(struct capture *c, const struct opener_reply *m, const int *fds,
			 unsigned n)
{
	struct interface *iface;

	if (m->kind != OPENER_RINGS)
		opener_close_fds(fds, n);
	switch (m->kind) {
	case OPENER_HELLO:
		list_begins(c);
		break;
	case OPENER_LINK:
		link_update(c, m);
		break;
	case OPENER_LISTED:
		if (c->error) /* nothing changes for the next process */
			c->listed = true;
		else
			list_ends(c);
		break;
	case OPENER_OTHER:
		iface = interface_find(c, m->ifindex);
		if (iface && c->listed) { /* it has another name now */
			interface_gone(c, iface);
			iface = NULL;
		}
		if (iface && iface->rings != iface)
			iface->other = true; /* watched until list_ends() */
		else
			other_add(c, m->ifindex);
		break;
	case OPENER_MISSING:
		link_missing(c, m);
		break;
	case OPENER_GONE:
		iface = interface_find(c, m->ifindex);
		if (iface)
			interface_gone(c, iface);
		else
			shared_follow(c, LINK_GONE, m->ifindex, false);
		other_forget(c, m->ifindex);
		break;
	case OPENER_RINGS:
		rings_came(c, m, fds, n);
		break;
	case OPENER_FAILED:
		rings_failed(c, m);
		break;
	}
}

/* Handles all replies that have come; -ENOTCONN: the opener is gone. */
static int handle_replies(struct capture *c)
{
	int fds[OPENER_FDS_MAX], r;
	struct opener_reply m;
	unsigned n;

	while ((r = opener_next(c->opener, &m, fds, &n)) > 0) {
		m.name[sizeof m.name - 1] = m.step[sizeof m.step - 1] = '\0';
		publisher_drain(c->publisher); /* earlier events come first */
		if (c->stopping)
			m.kind = 0;
		handle_reply(c, &m, fds, n);
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
	if (handle_replies(c) == 0)
		return 0;
	if (c->reloading && opener_connect(c->opener) == 0)
		return watch_opener(c);
	log_event(*c->opener->path ? LOG_LEVEL_WARN : LOG_LEVEL_ERR, LOG_ID_OPENER,
		  LOG_FIELDS({ "SYNFIND_STATE", "gone" }),
		  *c->opener->path ? "The opener is gone: reconnecting"
				   : "The opener is gone: new and removed interfaces are not "
				     "noticed any more");
	return watch_opener(c);
}

/* Polls the opener; if it is not connected, a timer reconnects. */
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

/* A decoder may have ended or finished a ring switch. */
static void capture_on_wake(void *arg)
{
	struct capture *c = arg;
	bool running = false;

	for (struct interface *iface = c->interfaces; iface; iface = iface->next) {
		bool ended = true;

		if (!iface->decoders)
			continue;
		if (iface->switching)
			ring_reload_end(c, iface);
		for (unsigned i = 0; i < iface->decoders; i++)
			ended &= atomic_load(&iface->decoder[i]->ended);
		running |= !ended;
		if (ended && !c->stopping)
			interface_end(c, iface);
	}
	if (!c->stopping || running)
		return;
	/* The last one has: publish the last events and all counters. */
	publisher_drain(c->publisher);
	publisher_stats(c->publisher, c->o->stats_interval_ns);
	for (struct interface *iface = c->interfaces; iface; iface = iface->next)
		if (iface->decoders)
			interface_end(c, iface);
	sd_event_exit(c->loop, 0);
}

static unsigned capture_iface_names(void *arg, const char **ret, unsigned max)
{
	const struct capture *c = arg;
	unsigned n = 0;

	for (const struct interface *iface = c->interfaces; iface; iface = iface->next)
		if (interface_runs(iface) && !interface_is_rings(iface) && n++ < max)
			ret[n - 1] = iface->name;
	return n;
}

/* ---- life ----------------------------------------------------------------------------------- */

/* Waits until every listed interface has its decoders, or one has failed; of those that are missing
 * all are reported. */
static int await_rings(struct capture *c)
{
	while (!c->error || !c->listed) {
		struct pollfd p = { .fd = c->opener->fd, .events = POLLIN };
		bool ready = c->listed;
		int n;

		for (struct interface *iface = c->interfaces; iface; iface = iface->next)
			ready &= !iface->asked;
		if (ready)
			break;
		n = poll(&p, 1, OPENER_TIMEOUT_MS);
		if (n == 0 || (n < 0 && errno != EINTR))
			return log_errno(n ? errno : ETIMEDOUT, "No answer from the opener");
		if (handle_replies(c) < 0)
			return log_errno(ENOTCONN, "The opener ended before it answered");
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
	publisher->on_wake = capture_on_wake;
	publisher->wake_arg = c;
	publisher->subscribers.ifaces = capture_iface_names;
	publisher->subscribers.arg = c;
	restore_interfaces(c);
	r = await_rings(c);
	c->starting = false;
	if (r < 0)
		return r;
	if (!c->interfaces)
		log_warn("No interface matches yet: waiting for one");
	return watch_opener(c);
}

int capture_run(struct capture *c)
{
	int r = 0;

	for (struct interface *iface = c->interfaces; iface && r >= 0; iface = iface->next)
		r = interface_run(c, iface);
	return r < 0 ? log_errno(r, "Cannot start the decoders") : 0;
}

void capture_reload(struct capture *c)
{
	for (struct interface *iface = c->interfaces; iface; iface = iface->next)
		for (unsigned i = 0; i < iface->decoders; i++)
			if (decoder_configure(iface->decoder[i], c->o) < 0)
				log_error("No memory for the new limits of '%s': the old ones stay",
					  iface->name);
	ring_reload_list(c);
}

void capture_stop(struct capture *c)
{
	c->stopping = true;
	for (struct interface *iface = c->interfaces; iface; iface = iface->next)
		interface_stop(iface);
	capture_on_wake(c); /* ends the loop if there are no decoders */
}

void capture_pause(struct capture *c)
{
	c->stopping = true;
	for (struct interface *iface = c->interfaces; iface; iface = iface->next) {
		for (unsigned i = 0; i < iface->decoders; i++)
			atomic_store(&iface->decoder[i]->paused, true);
		interface_stop(iface);
		for (unsigned i = 0; i < iface->decoders; i++)
			decoder_join(iface->decoder[i]);
		interface_add_totals(&c->totals, iface);
	}
}

void capture_destroy(struct capture *c)
{
	while (c->interfaces) {
		struct interface *iface = c->interfaces;

		c->interfaces = iface->next;
		interface_stop(iface);
		for (unsigned i = 0; i < iface->decoders; i++)
			atomic_store(&iface->decoder[i]->paused, true);
		interface_join(c, iface);
		interface_free(iface);
	}
	sd_event_source_disable_unref(c->opener_io);
	sd_event_source_disable_unref(c->retry);
	free(c->others);
	*c = (struct capture){ 0 };
}
