#include "opener/serve.h"
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "base/cc.h"
#include "base/guess.h"
#include "common/log.h"
#include "common/options.h"
#include "opener/linkwatch.h"
#include "opener/protocol.h"
#include "opener/rings.h"
#include "opener/wanted.h"
#include "source/afring.h"
#include "wire/link.h"

/* An interface that the configuration names, or whose rings the daemon has. */
struct known {
	struct known *next;
	struct link link;
	bool wanted; /* false: only reported as OTHER, or held */
	bool opened; /* its rings were sent; they are sent once */
	bool listed; /* since the last list began */
};

struct server {
	const struct serve *s;
	struct wanted wanted;
	struct known *links;
	char (*names)[IF_NAMESIZE]; /* of all links, while they are listed */
	size_t n_names;
	unsigned held;			/* requests of OPENER_HOLD */
	bool shared;			/* interfaces share rings ... */
	bool shared_opened[LINK_TYPES]; /* ... which were sent */
	int deaf_fd;			/* keeps them promiscuous; -1: not yet */
	int link_fd;
	bool relist; /* messages were lost, or there is a new default route */
	int error;   /* -errno of the first reply that could not be sent */
};

/* After an error it sends nothing; the loop then ends. */
static void reply(struct server *v, const struct opener_reply *m, const int *fds, unsigned nfds)
{
	int r = v->error ? 0 : opener_send(v->s->fd, m, sizeof *m, fds, nfds);

	if (r < 0)
		v->error = r;
}

static struct known **link_find(struct server *v, int ifindex)
{
	struct known **known = &v->links;

	while (*known && (*known)->link.ifindex != ifindex)
		known = &(*known)->next;
	return known;
}

static void link_remove(struct known **known)
{
	struct known *gone = *known;

	*known = gone->next;
	free(gone);
}

/* One membership for each: the kernel counts them. */
static void make_promiscuous(struct server *v, const struct link *l)
{
	int r = 0;

	if (v->deaf_fd < 0)
		r = v->deaf_fd = afring_deaf_socket();
	if (r >= 0)
		r = afring_promiscuous(v->deaf_fd, l->ifindex);
	if (r < 0 && r != -ENODEV)
		log_errno(r, "%s: cannot make it promiscuous", l->name);
}

static void report_link(struct server *v, const struct link *l, bool gone)
{
	struct known **known = link_find(v, l->ifindex);
	struct opener_reply m = { .kind = gone ? OPENER_GONE : OPENER_LINK,
				  .ifindex = l->ifindex,
				  .arphrd = l->arphrd,
				  .flags = l->flags };
	bool named, wanted = wanted_has(&v->wanted, v->s->o->interfaces.names, l, &named);

	if (!*known && (gone || !(wanted || v->shared)))
		return;
	memcpy(m.name, l->name, sizeof m.name);
	m.named = named;
	m.shared = v->shared;
	if (!gone && !wanted && !(*known && (*known)->opened))
		m.kind = OPENER_OTHER;
	if (v->shared && v->s->o->promiscuous && wanted && !gone && !(*known && (*known)->wanted))
		make_promiscuous(v, l);
	if (gone)
		link_remove(known);
	else if (*known || (*known = calloc(1, sizeof **known)))
		**known = (struct known){ (*known)->next, *l, wanted, (*known)->opened, true };
	else
		v->error = -ENOMEM;
	reply(v, &m, NULL, 0);
}

static void on_link(void *arg, const struct link *l, bool gone)
{
	struct server *v = arg;
	struct known *before = l ? *link_find(v, l->ifindex) : NULL;

	if (before && *before->link.name && !gone && strcmp(before->link.name, l->name))
		report_link(v, &before->link, true); /* renamed: the old one is gone */
	if (l)
		report_link(v, l, gone);
	else
		v->relist = true; /* "auto" may match more of them */
}

/* While links are listed: keeps their names, for report_missing(). */
static void on_listed(void *arg, const struct link *l, bool gone)
{
	struct server *v = arg;
	void *grown = l && !gone ? realloc(v->names, (v->n_names + 1) * sizeof *v->names) : NULL;

	if (grown) {
		v->names = grown;
		memcpy(v->names[v->n_names++], l->name, IF_NAMESIZE);
	}
	on_link(arg, l, gone);
}

enum { MISSING_MAX = 64 }; /* the first ones */

/* Reports the configuration's names that no link has. */
static void report_missing(struct server *v)
{
	unsigned missing = 0;

	for (char **name = v->s->o->interfaces.names; *name; name++) {
		struct opener_reply m = { .kind = OPENER_MISSING };
		struct guess g = GUESS_NONE;
		size_t i = 0;

		while (i < v->n_names && strcmp(v->names[i], *name))
			i++;
		if (i < v->n_names || options_is_pattern(*name) || missing++ >= MISSING_MAX)
			continue;
		for (i = 0; i < v->n_names; i++)
			guess_offer(&g, *name, "", v->names[i], "");
		snprintf(m.name, sizeof m.name, "%s", *name);
		snprintf(m.step, sizeof m.step, "%s", g.nearest ?: "");
		reply(v, &m, NULL, 0);
	}
	free(v->names);
	v->names = NULL;
	v->n_names = 0;
}

/* Replies with the rings of one interface, or with the error. */
static void open_rings(struct server *v, int ifindex, uint64_t secret)
{
	unsigned kind = (unsigned)(-1 - ifindex); /* of opener_shared() */
	bool shared = v->shared && kind < LINK_TYPES;
	struct known *known = *link_find(v, ifindex);
	struct link link = shared  ? rings_shared_link(kind)
			   : known ? known->link
				   : (struct link){ 0 };
	bool *opened = shared			? &v->shared_opened[kind]
		       : known && known->wanted ? &known->opened
						: NULL;
	struct opener_reply m = { .ifindex = ifindex };
	struct rings rings;
	int fds[OPENER_FDS_MAX];
	const char *step = "";
	int r;

	if (!opened)
		r = -ENODEV, step = "interface";
	else if (*opened)
		r = -EALREADY, step = "second request";
	else
		r = rings_open(v->s->o, &link, secret, &rings, &step);
	if (r < 0) {
		m.kind = OPENER_FAILED;
		m.error = r;
		snprintf(m.step, sizeof m.step, "%s", step);
		reply(v, &m, NULL, 0);
		return;
	}
	m.kind = OPENER_RINGS;
	m.rings = rings.n;
	m.by_program = rings.by_program;
	m.mode = (uint8_t)rings.mode;
	m.secret = rings.secret;
	memcpy(m.ring, rings.geometry, rings.n * sizeof *m.ring);
	*opened = true;
	log_debug("Opened %u ring%s for '%s'", rings.n, rings.n == 1 ? "" : "s", link.name);
	reply(v, &m, fds, rings_collect(&rings, fds));
	rings_close(&rings); /* the daemon has them */
}

enum { HELD_MAX = 4096 };

/* The daemon has its rings from an earlier opener and keeps them. */
static void hold_link(struct server *v, int ifindex)
{
	struct known **known = link_find(v, ifindex);

	if (!*known && (v->held++ == HELD_MAX || !(*known = calloc(1, sizeof **known))))
		return;
	(*known)->link.ifindex = ifindex; /* its next change brings the rest */
	(*known)->opened = true;
}

enum { NEXT, OVER, ANEW };

/* NEXT: continue; OVER: the daemon disconnected; ANEW: it requests a new opener; -errno: it sent an
 * invalid request. */
static int handle_request(struct server *v)
{
	struct opener_request q;
	int r = opener_receive(v->s->fd, &q, sizeof q, NULL, NULL);

	if (r == -EAGAIN)
		return NEXT;
	if (r == 0 || r == -ECONNRESET)
		return OVER;
	if (r < 0)
		return r;
	switch (q.kind) {
	case OPENER_OPEN:
		open_rings(v, q.ifindex, q.secret);
		return NEXT;
	case OPENER_AGAIN:
		return ANEW;
	case OPENER_HOLD:
		hold_link(v, q.ifindex);
		return NEXT;
	case OPENER_CLEAN:
		if (v->s->clean)
			v->s->clean(v->s->o, (unsigned)q.ifindex);
		reply(v, &(struct opener_reply){ .kind = OPENER_CLEANED }, NULL, 0);
		return NEXT;
	default:
		return -EBADMSG;
	}
}

static void list_begin(void *arg)
{
	struct server *v = arg;

	v->n_names = 0;
	for (struct known *known = v->links; known; known = known->next)
		known->listed = false;
}

static int list_links(struct server *v)
{
	int r;

	v->link_fd = linkwatch_open(wanted_by_route(v->s->o->interfaces.names));
	if (v->link_fd < 0)
		return log_errno(v->link_fd, "Cannot open a netlink socket");
	reply(v, &(struct opener_reply){ .kind = OPENER_HELLO }, NULL, 0);
	do {
		r = linkwatch_list(v->link_fd, list_begin, on_listed, v);
	} while (r == -ENOBUFS);
	if (r < 0)
		return log_errno(r, "Cannot list interfaces");
	report_missing(v);
	reply(v, &(struct opener_reply){ .kind = OPENER_LISTED }, NULL, 0);
	return 0;
}

/* Lists all links again, and reports those as gone that are not there any more.  One attempt: the
 * daemon's requests are answered in between. */
static int relist(struct server *v)
{
	int r;

	v->relist = false;
	wanted_look(&v->wanted);
	r = linkwatch_list(v->link_fd, list_begin, on_link, v);
	v->relist |= r == -ENOBUFS;
	for (struct known *known = v->links, *next; known && r >= 0; known = next) {
		struct link link = known->link;

		next = known->next;
		if (!known->listed)
			report_link(v, &link, true);
	}
	return r == -ENOBUFS ? 0 : r;
}

static int handle_link_news(struct server *v)
{
	int r = linkwatch_read(v->link_fd, on_link, v);

	if (r == -ENOBUFS)
		v->relist = true;
	else if (r < 0)
		return r;
	return v->relist ? relist(v) : 0;
}

static int serve_loop(struct server *v)
{
	struct pollfd fds[] = { { .fd = v->s->fd, .events = POLLIN },
				{ .fd = v->link_fd, .events = POLLIN } };

	while (!v->error) {
		int r;

		if (poll(fds, ARRAY_SIZE(fds), v->relist ? 0 : -1) < 0) {
			if (errno == EINTR)
				continue;
			return log_errno(errno, "Cannot wait for the daemon");
		}
		/* Changes of an interface come before replies about it. */
		r = fds[1].revents || v->relist ? handle_link_news(v) : 0;
		if (r < 0)
			return log_errno(r, "Cannot follow interfaces");
		r = fds[0].revents ? handle_request(v) : NEXT;
		if (r < 0)
			return log_errno(r, "The daemon sent an invalid request");
		if (r != NEXT)
			return r == ANEW ? SERVE_AGAIN : 0;
	}
	return v->error == -EPIPE || v->error == -ECONNRESET
		       ? 0
		       : log_errno(v->error, "Cannot answer the daemon");
}

enum sandbox_role serve_role(const struct options *o)
{
	return o->decoders > 1 || o->mode == MODE_AUTO ? SANDBOX_OPENER_BPF : SANDBOX_OPENER;
}

int serve_run(const struct serve *s)
{
	struct server v = {
		.s = s, .link_fd = -1, .deaf_fd = -1, .shared = options_share_rings(s->o)
	};
	int r;

	wanted_look(&v.wanted);
	r = list_links(&v);
	if (r >= 0)
		r = serve_loop(&v);
	while (v.links)
		link_remove(&v.links);
	if (v.link_fd >= 0)
		close(v.link_fd);
	if (v.deaf_fd >= 0)
		close(v.deaf_fd);
	return r;
}
