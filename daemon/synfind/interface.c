#include "synfind/interface.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>
#include "base/cc.h"
#include "common/cpulist.h"
#include "common/log.h"
#include "common/options.h"
#include "source/afring.h"
#include "synfind/bypassfilter.h"
#include "synfind/decoder.h"
#include "synfind/watchdog.h"
#include "synfind/publisher.h"
#include "synfind/fdstore.h"

/* ---- names in the store --------------------------------------------------------------------- */

const char *const interface_ring_name[INTERFACE_SLOTS] = { INTERFACE_RING, INTERFACE_SPARE };

struct interface_stored interface_stored(const char *what, unsigned id, unsigned decoder)
{
	struct interface_stored n;

	snprintf(n.s, sizeof n.s, "%s-%u-%u", what, id, decoder);
	return n;
}

void interface_unstore(struct capture *c, unsigned id, unsigned i)
{
	for (unsigned slot = 0; slot < INTERFACE_SLOTS; slot++)
		fdstore_remove(c->fdstore, interface_stored(interface_ring_name[slot], id, i).s);
	fdstore_remove(c->fdstore, interface_stored(INTERFACE_TABLES, id, i).s);
}

/* ---- one interface -------------------------------------------------------------------------- */

struct interface *interface_find(const struct capture *c, int ifindex)
{
	for (struct interface *t = c->interfaces; t; t = t->next)
		if (!t->gone && t->ifindex == ifindex)
			return t;
	return NULL;
}

bool interface_name_known(const struct capture *c, const char *name)
{
	for (struct interface *t = c->interfaces; t; t = t->next)
		if (!strcmp(t->name, name))
			return true;
	return false;
}

int interface_free_id(const struct capture *c)
{
	bool used[INTERFACES_MAX] = { false };

	for (struct interface *t = c->interfaces; t; t = t->next)
		used[t->id] = true;
	for (int i = 0; i < INTERFACES_MAX; i++)
		if (!used[i])
			return i;
	return -1;
}

static void interface_free_decoders(struct interface *t)
{
	for (; t->decoders; t->decoders--) {
		decoder_destroy(t->decoder[t->decoders - 1]);
		free(t->decoder[t->decoders - 1]);
	}
}

void interface_free(struct interface *t)
{
	interface_free_decoders(t);
	if (t->stop_fd >= 0)
		close(t->stop_fd);
	free(t);
}

unsigned interface_fds(const struct opener_reply *m)
{
	return m->mode == MODE_AUTO ? 3 * m->rings : m->rings;
}

/* The filter of ring @i, if it has one and this daemon wants it.  One that is not wanted, as
 * another mode counts from the next start on, has no key in it and lets everything pass. */
static int take_filter(struct capture *c, const struct opener_reply *m, unsigned i, const int *fds,
		       struct bypass_filter **ret)
{
	int flows, slots;

	*ret = NULL;
	if (m->mode != MODE_AUTO)
		return 0;
	flows = fds[m->rings + i];
	slots = fds[2 * m->rings + i];
	if (c->o->mode == MODE_AUTO)
		return bypass_filter_new(flows, slots, c->o->auto_after, ret);
	close(flows);
	close(slots);
	return 0;
}

int interface_decoder_make(struct capture *c, struct interface *t, struct decoder *d,
			   struct source *source, struct bypass_filter *bypass,
			   const struct decoder_ring *ring)
{
	const struct decoder_share *share = &ring->share;
	struct interface_stored tables = interface_stored(INTERFACE_TABLES, t->id, share->index);
	struct decoder_state_sizes sizes = decoder_sizes(c->o, t->id, share);
	bool adopted = false;
	void *memory;
	int r;

	if (!c->fdstore->live || bypass) {
		r = decoder_init(d, c->o, source, bypass, NULL, t->id, share);
		if (r >= 0)
			decoder_state_sign(&d->state, ring);
		return r;
	}
	memory = fdstore_memory(c->fdstore, tables.s, decoder_state_octets(&sizes, true), &adopted);
	r = decoder_init_shared(d, c->o, source, t->id, share, memory);
	if (r < 0)
		return r;
	d->state.head->reported = !c->starting ? REPORTED_NEW : t->up ? REPORTED_UP : REPORTED_DOWN;
	decoder_state_sign(&d->state, ring);
	return fdstore_put(c->fdstore, interface_stored(INTERFACE_RING, t->id, share->index).s,
			   source_fd(source));
}

struct decoder_ring interface_ring_of(const struct capture *c, const struct opener_reply *m,
				      unsigned i, int fd)
{
	return (struct decoder_ring){ .cookie = decoder_state_cookie(fd),
				      .wants = decoder_state_wants(c->o),
				      .fixed = decoder_state_fixed(c->o),
				      .block_timeout_ns = c->o->block_timeout_ns,
				      .inner = options_inner(c->o),
				      .geometry = m->ring[i],
				      .ifindex = m->ifindex,
				      .share = { .index = i,
						 .of = m->rings,
						 .known = m->by_program,
						 .secret = m->secret,
						 .control = m->mode == MODE_CONTROL } };
}

/* A decoder over ring @i of those that have come; takes its descriptors over, also on failure. */
static int interface_make_decoder(struct capture *c, struct interface *t,
				  const struct opener_reply *m, unsigned i, const int *fds)
{
	struct decoder_ring ring = interface_ring_of(c, m, i, fds[i]);
	struct decoder *d = aligned_alloc(CACHE_LINE, sizeof *d);
	struct bypass_filter *bypass;
	struct source *source = NULL;
	int r = take_filter(c, m, i, fds, &bypass);

	if (r >= 0)
		r = d ? afring_map(fds[i], &m->ring[i], NULL, &source) : -ENOMEM;
	if (r < 0) {
		bypass_filter_free(bypass);
		free(d);
		close(fds[i]);
		return r;
	}
	t->decoder[t->decoders++] = d;
	r = interface_decoder_make(c, t, d, source, bypass, &ring);
	d->beat_ms = watchdog_beat_ms();
	return r;
}

/* One for each ring; takes the descriptors over, also on failure. */
static int interface_make_decoders(struct capture *c, struct interface *t,
				   const struct opener_reply *m, const int *fds)
{
	unsigned i = 0;
	int r = 0;

	for (; i < m->rings && r >= 0; i++)
		r = interface_make_decoder(c, t, m, i, fds);
	for (; i < m->rings; i++)
		for (unsigned k = i; k < interface_fds(m); k += m->rings)
			close(fds[k]);
	return r;
}

void interface_stop(struct interface *t)
{
	eventfd_write(t->stop_fd, 1); /* stays readable: all of them see it */
}

void interface_join(struct capture *c, struct interface *t)
{
	for (unsigned i = 0; i < t->decoders; i++) {
		decoder_join(t->decoder[i]);
		publisher_remove(c->publisher, t->decoder[i]);
	}
}

static void pin(struct capture *c, const struct interface *t, struct decoder *d)
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

int interface_run(struct capture *c, struct interface *t)
{
	int r = 0;

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
		interface_stop(t);
		interface_join(c, t);
	}
	return r;
}

int interface_start(struct capture *c, struct interface *t, const struct opener_reply *m,
		    const int *fds)
{
	int r = interface_make_decoders(c, t, m, fds);

	return r < 0 ? r : interface_run(c, t);
}

void interface_forget(struct capture *c, struct interface *t)
{
	struct interface **link = &c->interfaces;

	for (unsigned i = 0; i < t->decoders; i++)
		interface_unstore(c, t->id, i);

	while (*link != t)
		link = &(*link)->next;
	*link = t->next;
	interface_free(t);
}

void interface_add_totals(struct capture_totals *sum, const struct interface *t)
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

void interface_end(struct capture *c, struct interface *t)
{
	interface_join(c, t);
	interface_add_totals(&c->totals, t);
	for (unsigned i = 0; i < t->decoders; i++)
		interface_unstore(c, t->id, i);
	interface_free_decoders(t);
	close(t->stop_fd);
	t->stop_fd = -1;
}

void interface_report_link(struct capture *c, struct interface *t, enum reported_link link,
			   const char *state)
{
	struct decoder_state_head *h = t->decoders ? t->decoder[0]->state.head : NULL;

	if (h) {
		h->reporting = (uint8_t)link;
		undo_order();
		h->reporting_as = c->publisher->stream.state->seq + 1;
		undo_order();
	}
	publisher_iface(c->publisher, t->name, state);
	if (h) {
		h->reported = (uint8_t)link;
		undo_order();
		h->reporting_as = 0;
	}
}

enum reported_link interface_link_settle(const struct capture *c, struct decoder_state_head *h)
{
	if (h->reporting_as && c->publisher->stream.state->seq >= h->reporting_as)
		h->reported = h->reporting;
	undo_order();
	h->reporting_as = 0;
	return (enum reported_link)h->reported;
}

void interface_close_all(struct interface *t)
{
	t->gone = true;
	for (unsigned i = 0; i < t->decoders; i++)
		atomic_store(&t->decoder[i]->close_reason, REASON_CAPTURE_END);
	if (t->decoders)
		interface_stop(t); /* a ring without an interface may never wake by itself */
}
