#include "synfind/capture.h"
#include <errno.h>
#include <fnmatch.h>
#include <net/if_arp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/random.h>
#include <unistd.h>
#include "base/cc.h"
#include "bpf/tcp_filter.h"
#include "common/log.h"
#include "common/options.h"
#include "common/cpulist.h"
#include "source/afring.h"
#include "source/fanout.h"
#include "synfind/bulkfilter.h"
#include "synfind/decoder.h"
#include "synfind/linkwatch.h"
#include "synfind/publisher.h"

enum { TAPS_MAX = 255, ROUTED_MAX = 32 };

/* How the frames of an interface come to its decoders. */
struct rings {
	struct source *source[AFRING_GROUP_MAX];
	struct bulk_filter *bulk[AFRING_GROUP_MAX]; /* with mode=auto: the filter of each */
	unsigned n;
	bool by_program; /* under this secret: */
	uint64_t secret;
};

struct tap {
	struct tap *next;
	struct decoder *decoder[AFRING_GROUP_MAX]; /* owned */
	unsigned decoders;			   /* 0: gone, its name is remembered */
	char name[IF_NAMESIZE];
	int ifindex;
	uint8_t id;
	bool up;
	int stop_fd;
};

/* ---- which interfaces ----------------------------------------------------------------------- */

static bool is_pattern(const char *s)
{
	return strpbrk(s, "*?[") || !strcmp(s, "auto") || !strcmp(s, "any");
}

static void add_routed(struct capture *c, const char *name)
{
	unsigned n = 0;

	for (; c->routed[n]; n++)
		if (!strcmp(c->routed[n], name))
			return;
	if (n < ROUTED_MAX)
		c->routed[n] = strdup(name);
}

/* Interfaces that carry a default route, as proc(5) tells: /proc/net/route has the destination in
 * the second column and the mask in the eighth, /proc/net/ipv6_route destination and length in
 * front and the name at the end. */
static void find_routed(struct capture *c)
{
	char name[IF_NAMESIZE], dest[40], line[512];
	unsigned len, mask;
	FILE *f = fopen("/proc/net/route", "re");

	while (f && fgets(line, sizeof line, f))
		if (sscanf(line, "%15s %39s %*s %*s %*s %*s %*s %x", name, dest, &mask) == 3 && !mask &&
		    strspn(dest, "0") == strlen(dest))
			add_routed(c, name);
	if (f)
		fclose(f);
	f = fopen("/proc/net/ipv6_route", "re");
	while (f && fgets(line, sizeof line, f))
		if (sscanf(line, "%39s %x %*s %*s %*s %*s %*s %*s %*s %15s", dest, &len, name) == 3 &&
		    !len && strspn(dest, "0") == strlen(dest) && strcmp(name, "lo"))
			add_routed(c, name);
	if (f)
		fclose(f);
}

static bool is_routed(const struct capture *c, const char *name)
{
	for (unsigned n = 0; c->routed[n]; n++)
		if (!strcmp(c->routed[n], name))
			return true;
	return false;
}

static bool one_wants(const struct capture *c, const char *wanted, const struct link *l)
{
	if (!strcmp(wanted, "any"))
		return true;
	if (!strcmp(wanted, "auto"))
		return l->arphrd == ARPHRD_LOOPBACK || is_routed(c, l->name);
	return is_pattern(wanted) ? !fnmatch(wanted, l->name, 0) : !strcmp(wanted, l->name);
}

/* Is this link to be watched?  *ret_named: by its full name. */
static bool is_wanted(const struct capture *c, const struct link *l, bool *ret_named)
{
	bool wanted = false;

	*ret_named = false;
	for (char **w = c->o->interfaces; *w; w++) {
		if (!one_wants(c, *w, l))
			continue;
		wanted = true;
		*ret_named |= !is_pattern(*w);
	}
	return wanted;
}

/* ---- one interface -------------------------------------------------------------------------- */

static struct tap *find_tap(const struct capture *c, const struct link *l)
{
	for (struct tap *t = c->taps; t; t = t->next)
		if (t->decoders && t->ifindex == l->ifindex)
			return t;
	return NULL;
}

static bool name_known(const struct capture *c, const char *name)
{
	for (struct tap *t = c->taps; t; t = t->next)
		if (!strcmp(t->name, name))
			return true;
	return false;
}

/* The lowest id that no tap has; ids keep the flows of interfaces apart. */
static int free_id(const struct capture *c)
{
	bool used[TAPS_MAX] = { false };

	for (struct tap *t = c->taps; t; t = t->next)
		used[t->id] = true;
	for (int i = 0; i < TAPS_MAX; i++)
		if (!used[i])
			return i;
	return -1;
}

/* The rings of an interface.  Several share it by a program of ours if we may load one.  If not, by
 * the kernel's hash; but that splits what is in tunnels, and loses ICMP errors. */
static int open_group(const struct options *o, const struct link *l, const struct afring_config *cfg,
		      enum link_type link, struct rings *ret, const char **reterr_step)
{
	struct fanout_config fc = { .inside = decoder_inside(o), .raw_ip = link == LINK_RAW_IP };
	int program = -1, r = 0;

	ret->n = o->decoders;
	if (ret->n > 1) {
		if (getrandom(&fc.secret, sizeof fc.secret, 0) != sizeof fc.secret)
			return *reterr_step = "getrandom", -errno;
		program = fanout_load(&fc);
		if (program < 0 && fc.inside) {
			log_warn("%s has one decoder: the eBPF program that deals tunnels and ICMP errors out "
				 "cannot be loaded: %s (it needs CAP_BPF)", l->name, strerror(-program));
			ret->n = 1;
		} else if (program < 0) {
			log_warn("%s: the kernel's hash deals frames out (PACKET_FANOUT_HASH), which may split "
				 "connections that are fragmented: the eBPF program cannot be loaded: %s (it "
				 "needs CAP_BPF)", l->name, strerror(-program));
		}
	}
	if (ret->n > 1) {
		r = afring_open_group(cfg, ret->n, program, ret->source, reterr_step);
		if (r == -EINVAL && !(l->flags & IFF_UP)) {
			log_warn("%s has one decoder: it is down, and this kernel lets rings share only what is "
				 "up", l->name);
			ret->n = 1;
		}
	}
	if (ret->n == 1)
		r = afring_open(cfg, ret->source, reterr_step);
	ret->by_program = program >= 0 && ret->n > 1;
	ret->secret = fc.secret;
	if (program >= 0)
		close(program);
	return r;
}

/* Those from number @from on. */
static void free_bulk(struct rings *rings, unsigned from)
{
	for (unsigned i = from; i < AFRING_GROUP_MAX; i++) {
		bulk_filter_free(rings->bulk[i]);
		rings->bulk[i] = NULL;
	}
}

/* With mode=auto: a filter for each decoder, with slots that belong to its connections. */
static int load_bulk(const struct options *o, const struct link *l, bool raw_ip, struct rings *ret,
		     int ret_program[static AFRING_GROUP_MAX])
{
	for (unsigned i = 0; i < o->decoders; i++) {
		int r = bulk_filter_load(raw_ip, l->arphrd == ARPHRD_LOOPBACK, o->auto_after,
					 &ret->bulk[i]);

		if (r < 0) {
			free_bulk(ret, 0);
			return r;
		}
		ret_program[i] = bulk_filter_fd(ret->bulk[i]);
	}
	return 0;
}

static int open_rings(const struct options *o, const struct link *l, struct rings *ret)
{
	int program[AFRING_GROUP_MAX];
	struct sock_filter insns[TCP_FILTER_MAX];
	int link = afring_link_type((int)l->arphrd), n, r;
	const char *step = "";

	if (link < 0) {
		log_error("Cannot capture on '%s': frames of its kind (ARPHRD %u) are not understood",
			  l->name, l->arphrd);
		return link;
	}
	n = tcp_filter_build(&(struct tcp_filter_spec){ .link = link,
						       .inside = decoder_inside(o),
						       .control = o->mode == MODE_CONTROL },
			     insns, ARRAY_SIZE(insns));
	if (n < 0)
		return log_errno(n, "Cannot build the filter for '%s'", l->name);

	if (o->mode == MODE_AUTO) {
		r = load_bulk(o, l, link == LINK_RAW_IP, ret, program);
		if (r < 0)
			return r;
	}
	struct afring_config cfg = {
		.ifindex = l->ifindex,
		.ifname = l->name,
		.block_size = (unsigned)o->ring_block_size_bytes,
		.block_nr = (unsigned)(o->ring_size_bytes / o->ring_block_size_bytes),
		.block_timeout_ms = (unsigned)(o->block_timeout_ns / 1000000),
		.promiscuous = o->promiscuous,
		.filter = { .len = (unsigned short)n, .filter = insns },
		.programs = o->mode == MODE_AUTO ? program : NULL,
	};

	r = open_group(o, l, &cfg, (enum link_type)link, ret, &step);
	if (r == -EPERM || r == -EACCES)
		log_error("Cannot capture on '%s': %s needs CAP_NET_RAW (run it as root, or give the file the "
			  "capability: setcap cap_net_raw+ep)", l->name, step);
	else if (r < 0)
		log_errno(r, "Cannot capture on '%s': %s", l->name, step);
	free_bulk(ret, r < 0 ? 0 : ret->n); /* there may be fewer rings than decoders were asked for */
	return r;
}

static void tap_free_decoders(struct tap *t)
{
	for (; t->decoders; t->decoders--) {
		decoder_destroy(t->decoder[t->decoders - 1]);
		free(t->decoder[t->decoders - 1]);
	}
}

static void tap_free(struct tap *t)
{
	tap_free_decoders(t);
	if (t->stop_fd >= 0)
		close(t->stop_fd);
	free(t);
}

/* Makes the decoders; takes sources and filters over, also on failure. */
static int tap_make_decoders(struct capture *c, struct tap *t, struct rings *rings)
{
	unsigned n = 0;
	int r = 0;

	for (; n < rings->n && r >= 0; n++) {
		struct decoder *d = aligned_alloc(CACHE_LINE, sizeof *d);
		struct decoder_share share = { .index = n,
					       .of = rings->n,
					       .known = rings->by_program,
					       .secret = rings->secret };

		if (!d) {
			r = -ENOMEM;
			break;
		}
		t->decoder[t->decoders++] = d;
		r = decoder_init(d, c->o, rings->source[n], rings->bulk[n], NULL, t->id, &share);
	}
	free_bulk(rings, n);
	for (; n < rings->n; n++)
		source_free(rings->source[n]);
	return r;
}

static void tap_stop(struct tap *t)
{
	eventfd_write(t->stop_fd, 1); /* stays readable: all of them see it */
}

/* Their threads have ended, or are told to: publishes what they said last. */
static void tap_join(struct capture *c, struct tap *t)
{
	for (unsigned i = 0; i < t->decoders; i++) {
		decoder_join(t->decoder[i]);
		publisher_remove(c->publisher, t->decoder[i]);
	}
}

static void pin(struct capture *c, const struct tap *t, struct decoder *d)
{
	struct cpulist cpus;

	if (!c->o->pin_decoders)
		return;
	int r = cpulist_parse(c->o->pin_decoders, &cpus);

	if (r >= 0) {
		unsigned cpu = cpus.cpu[c->pinned++ % cpus.n];

		r = thread_pin(d->thread, cpu);
		if (r >= 0) {
			log_debug("A decoder of %s stays on processor %u", t->name, cpu);
			return;
		}
	}
	log_errno(r, "Cannot pin a decoder of %s", t->name);
}

static int tap_start(struct capture *c, struct tap *t, struct rings *rings)
{
	int r = tap_make_decoders(c, t, rings);

	if (r < 0)
		return r;
	t->stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (t->stop_fd < 0)
		return -errno;
	for (unsigned i = 0; i < t->decoders && r >= 0; i++) {
		struct decoder *d = t->decoder[i];

		r = publisher_add(c->publisher, d, t->name);
		if (r >= 0)
			r = decoder_start(d, c->publisher->wake_fd, t->stop_fd);
		if (r >= 0)
			pin(c, t, d);
	}
	if (r < 0) {
		tap_stop(t);
		tap_join(c, t);
	}
	return r;
}

static int tap_add(struct capture *c, const struct link *l)
{
	struct rings rings = { .n = 0 };
	int id = free_id(c), r;

	if (id < 0) {
		log_error("Cannot capture on '%s': %d interfaces are watched already", l->name, TAPS_MAX);
		return -EMFILE;
	}
	struct tap *t = calloc(1, sizeof *t);

	if (!t)
		return -ENOMEM;
	*t = (struct tap){ .next = c->taps, .ifindex = l->ifindex, .id = (uint8_t)id,
			   .up = l->flags & IFF_UP, .stop_fd = -1 };
	memcpy(t->name, l->name, sizeof t->name);
	r = open_rings(c->o, l, &rings);
	if (r < 0) {
		tap_free(t);
		return r;
	}
	r = tap_start(c, t, &rings);
	if (r < 0) {
		tap_free(t);
		return log_errno(r, "Cannot start a decoder for '%s'", l->name);
	}
	c->taps = t;
	if (rings.n > 1)
		log_info("Watching %s%s with %u decoders, dealt out by %s", t->name,
			 t->up ? "" : ", which is down,", rings.n,
			 rings.by_program ? "an eBPF program" : "the kernel's hash");
	else
		log_info("Watching %s%s", t->name, t->up ? "" : ", which is down");
	return 0;
}

static void add_totals(struct capture_totals *sum, const struct tap *t)
{
	for (unsigned i = 0; i < t->decoders; i++) {
		struct stats_decoder d;

		decoder_read_counters(t->decoder[i], t->name, &d);
		sum->packets += d.source.packets;
		sum->drops += d.source.drops;
		sum->connections += d.opened;
		sum->events += d.events;
		sum->lost += d.lost;
	}
}

/* Its decoders have ended: takes them out, keeps the name. */
static void tap_end(struct capture *c, struct tap *t)
{
	tap_join(c, t);
	add_totals(&c->totals, t);
	tap_free_decoders(t);
	close(t->stop_fd);
	t->stop_fd = -1;
}

/* ---- links come and go ---------------------------------------------------------------------- */

static void link_gone(struct capture *c, const struct link *l)
{
	struct tap *t = find_tap(c, l);

	if (!t)
		return;
	log_info("Interface %s is gone", t->name);
	for (unsigned i = 0; i < t->decoders; i++)
		atomic_store(&t->decoder[i]->last_words, REASON_CAPTURE_END);
	tap_stop(t); /* a ring without an interface may never wake by itself */
	publisher_iface(c->publisher, t->name, "gone");
}

static void link_new(struct capture *c, const struct link *l)
{
	bool named, again = name_known(c, l->name);
	int r;

	if (!is_wanted(c, l, &named))
		return;
	if (!named && c->starting && afring_link_type((int)l->arphrd) < 0) {
		log_debug("Leaving %s out: frames of its kind are not understood", l->name);
		return;
	}
	for (struct tap **link = &c->taps; *link; link = &(*link)->next) {
		struct tap *t = *link;

		if (t->decoders || strcmp(t->name, l->name))
			continue;
		*link = t->next; /* it comes back under the same name */
		tap_free(t);
		break;
	}
	r = tap_add(c, l);
	if (c->starting && r < 0 && !c->error)
		c->error = r;
	if (!c->starting && r >= 0)
		publisher_iface(c->publisher, l->name, again ? "back" : "up");
}

static void on_link(void *arg, const struct link *l, bool gone)
{
	struct capture *c = arg;
	struct tap *t = find_tap(c, l);
	bool up = l->flags & IFF_UP;

	if (c->stopping)
		return;
	publisher_drain(c->publisher); /* what happened before it is told before it */
	if (gone) {
		link_gone(c, l);
	} else if (!t) {
		link_new(c, l);
	} else if (t->up != up) {
		t->up = up;
		log_info("Interface %s is %s", t->name, up ? "up" : "down");
		publisher_iface(c->publisher, t->name, up ? "up" : "down");
	}
}

static int on_netlink(sd_event_source *io, int fd, uint32_t revents, void *arg)
{
	struct capture *c = arg;
	int r = linkwatch_read(fd, on_link, c, false);

	(void)io, (void)revents;
	if (r < 0)
		log_limited(LOG_LEVEL_ERR, "Cannot follow interfaces: %s", strerror(-r));
	publisher_drain(c->publisher);
	return 0;
}

/* The last decoder has ended: the last words, with the counters of all of them. */
static void end_all(struct capture *c)
{
	publisher_drain(c->publisher);
	publisher_stats(c->publisher, c->o->stats_interval_ns);
	for (struct tap *t = c->taps; t; t = t->next)
		if (t->decoders)
			tap_end(c, t);
	sd_event_exit(c->loop, 0);
}

static bool tap_ended(const struct tap *t)
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

	for (struct tap *t = c->taps; t; t = t->next) {
		if (!t->decoders)
			continue;
		if (!tap_ended(t))
			running = true;
		else if (!c->stopping)
			tap_end(c, t);
	}
	if (c->stopping && !running)
		end_all(c);
}

static unsigned iface_names(void *arg, const char **ret, unsigned max)
{
	const struct capture *c = arg;
	unsigned n = 0;

	for (const struct tap *t = c->taps; t && n < max; t = t->next)
		if (t->decoders)
			ret[n++] = t->name;
	return n;
}

/* ---- life ----------------------------------------------------------------------------------- */

/* Every interface that was named in full must be there. */
static int check_named(const struct capture *c)
{
	for (char **w = c->o->interfaces; *w; w++) {
		if (is_pattern(*w) || name_known(c, *w))
			continue;
		log_error("Cannot capture on '%s': there is no such interface", *w);
		return -ENODEV;
	}
	return 0;
}

int capture_start(struct capture *c, const struct options *o, sd_event *loop,
		  struct publisher *publisher)
{
	int r;

	*c = (struct capture){ .o = o, .loop = loop, .publisher = publisher, .link_fd = -1, .starting = true };
	publisher->on_wake = on_wake;
	publisher->ifaces = iface_names;
	publisher->arg = c;
	c->routed = calloc(ROUTED_MAX + 1, sizeof *c->routed);
	if (!c->routed)
		return log_errno(ENOMEM, "Cannot list interfaces");
	find_routed(c);
	c->link_fd = linkwatch_open();
	if (c->link_fd < 0)
		return log_errno(c->link_fd, "Cannot open a netlink socket");
	r = linkwatch_ask(c->link_fd);
	if (r >= 0)
		r = linkwatch_read(c->link_fd, on_link, c, true);
	if (r < 0)
		return log_errno(r, "Cannot list interfaces");
	c->starting = false;
	if (c->error)
		return c->error;
	r = check_named(c);
	if (r < 0)
		return r;
	if (!c->taps)
		log_warn("No interface matches yet: waiting for one");
	r = sd_event_add_io(loop, &c->link_io, c->link_fd, EPOLLIN, on_netlink, c);
	return r < 0 ? log_errno(r, "Cannot watch interfaces") : 0;
}

void capture_stop(struct capture *c)
{
	c->stopping = true;
	for (struct tap *t = c->taps; t; t = t->next)
		if (t->decoders)
			tap_stop(t);
	on_wake(c); /* there may be none */
}

void capture_destroy(struct capture *c)
{
	while (c->taps) {
		struct tap *t = c->taps;

		c->taps = t->next;
		if (t->decoders) {
			tap_stop(t);
			for (unsigned i = 0; i < t->decoders; i++)
				t->decoder[i]->patient = false;
			tap_join(c, t);
		}
		tap_free(t);
	}
	sd_event_source_disable_unref(c->link_io);
	if (c->link_fd > 0)
		close(c->link_fd);
	for (unsigned n = 0; c->routed && c->routed[n]; n++)
		free(c->routed[n]);
	free(c->routed);
	*c = (struct capture){ 0 };
}
