#include "source/source.h"
#include "synfind/interface.h"
#include <errno.h>
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
#include "synfind/decoder_state.h"
#include "synfind/watchdog.h"
#include "synfind/publisher.h"
#include "synfind/publisher_state.h"
#include "synfind/fdstore.h"

/* ---- names in the store --------------------------------------------------------------------- */

const char *const interface_ring_fdname[INTERFACE_RINGS] = { INTERFACE_RING, INTERFACE_SPARE };

void interface_unstore(struct capture *c, unsigned id, unsigned i)
{
	fdstore_remove(c->fdstore, fdstore_name(INTERFACE_RING, id, i).s);
	fdstore_remove(c->fdstore, fdstore_name(INTERFACE_SPARE, id, i).s);
	fdstore_remove(c->fdstore, fdstore_name(INTERFACE_TABLES, id, i).s);
}

static void interface_unstore_all(struct capture *c, const struct interface *iface)
{
	for (unsigned i = 0; i < iface->decoders; i++)
		interface_unstore(c, iface->id, i);
}

struct fdstore_name interface_spare_fdname(const struct interface *iface, unsigned i)
{
	uint32_t current = iface->decoder[i]->state.head->current;

	return fdstore_name(interface_ring_fdname[!current], iface->id, i);
}

/* ---- the list ------------------------------------------------------------------------------- */

struct interface *interface_find(const struct capture *c, int ifindex)
{
	for (struct interface *iface = c->interfaces; iface; iface = iface->next)
		if (!iface->gone && iface->ifindex == ifindex)
			return iface;
	return NULL;
}

bool interface_name_known(const struct capture *c, const char *name)
{
	for (struct interface *iface = c->interfaces; iface; iface = iface->next)
		if (!strcmp(iface->name, name))
			return true;
	return false;
}

static void interface_free_decoders(struct interface *iface)
{
	for (; iface->decoders; iface->decoders--) {
		decoder_destroy(iface->decoder[iface->decoders - 1]);
		free(iface->decoder[iface->decoders - 1]);
	}
	if (iface->stop_fd >= 0)
		close(iface->stop_fd);
	iface->stop_fd = -1;
}

void interface_free(struct interface *iface)
{
	interface_free_decoders(iface);
	free(iface);
}

static void interface_remove(struct capture *c, struct interface **link)
{
	struct interface *iface = *link;

	interface_unstore_all(c, iface);
	*link = iface->next;
	interface_free(iface);
}

void interface_forget(struct capture *c, struct interface *iface)
{
	struct interface **link = &c->interfaces;

	while (*link)
		if (*link == iface || (*link)->rings == iface)
			interface_remove(c, link);
		else
			link = &(*link)->next;
}

static void interface_forget_oldest(struct capture *c)
{
	struct interface *oldest = NULL;
	unsigned n = 0;

	for (struct interface *iface = c->interfaces; iface; iface = iface->next) {
		if (!iface->gone || iface->decoders)
			continue;
		oldest = iface;
		n++;
	}
	if (n > INTERFACES_GONE)
		interface_forget(c, oldest);
}

struct interface *interface_add(struct capture *c, const struct interface *iface)
{
	struct interface *added = malloc(sizeof *added);

	if (!added)
		return NULL;
	interface_forget_oldest(c);
	*added = *iface;
	added->next = c->interfaces;
	if (!added->rings)
		added->rings = added;
	added->stop_fd = -1;
	return c->interfaces = added;
}

/* ---- its decoders --------------------------------------------------------------------------- */

unsigned interface_fds(const struct opener_reply *m)
{
	return m->mode == MODE_AUTO ? 3 * m->rings : m->rings;
}

/* A filter that is closed has no keys and passes everything: the opener has another mode. */
int interface_take_filter(struct capture *c, const struct opener_reply *m, unsigned i,
			  const int *fds, struct bypass_filter **ret)
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

int interface_decoder_make(struct capture *c, struct interface *iface, struct decoder *d,
			   struct source *source, struct bypass_filter *bypass,
			   const struct decoder_ring *ring)
{
	const struct decoder_share *share = &ring->share;
	struct decoder_state_sizes sizes = pipeline_sizes(c->o, share);
	bool stored = c->fdstore->live && !bypass;
	void *memory = NULL;
	int r;

	if (stored)
		memory = fdstore_memory(c->fdstore,
					fdstore_name(INTERFACE_TABLES, iface->id, share->index).s,
					decoder_state_octets(&sizes, true));
	if (stored && !memory) {
		d->source = source;
		return -ENOMEM;
	}
	r = decoder_init(d, c->o, source, bypass, share, memory);
	if (r < 0)
		return r;
	decoder_state_sign(&d->state, ring);
	if (!stored)
		return 0;
	return fdstore_add(c->fdstore, fdstore_name(INTERFACE_RING, iface->id, share->index).s,
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
						 .control = m->mode == MODE_CONTROL,
						 .shared = m->ring[i].shared } };
}

struct decoder *interface_add_decoder(struct interface *iface)
{
	struct decoder *d = aligned_alloc(CACHE_LINE, sizeof *d);

	if (!d)
		return NULL;
	memset(d, 0, sizeof *d);
	return iface->decoder[iface->decoders++] = d;
}

/* Makes a decoder for ring @i of the reply; owns its descriptors, also on failure. */
static int interface_open_decoder(struct capture *c, struct interface *iface,
				  const struct opener_reply *m, unsigned i, const int *fds)
{
	struct decoder_ring ring = interface_ring_of(c, m, i, fds[i]);
	struct decoder *d = interface_add_decoder(iface);
	struct bypass_filter *bypass;
	struct source *source = NULL;
	int r = interface_take_filter(c, m, i, fds, &bypass);

	if (r >= 0)
		r = d ? afring_map(fds[i], &m->ring[i], NULL, &source) : -ENOMEM;
	if (r < 0) {
		bypass_filter_free(bypass);
		close(fds[i]);
		return r;
	}
	return interface_decoder_make(c, iface, d, source, bypass, &ring);
}

int interface_start(struct capture *c, struct interface *iface, const struct opener_reply *m,
		    const int *fds)
{
	unsigned i = 0;
	int r = 0;

	for (; i < m->rings && r >= 0; i++)
		r = interface_open_decoder(c, iface, m, i, fds);
	for (; i < m->rings; i++)
		for (unsigned fd = i; fd < interface_fds(m); fd += m->rings)
			close(fds[fd]);
	return r < 0 ? r : interface_attach(c, iface);
}

void interface_stop(struct interface *iface)
{
	for (unsigned i = 0; i < iface->decoders; i++)
		atomic_store(&iface->decoder[i]->stopping, true);
	if (iface->decoders)
		eventfd_write(iface->stop_fd, 1); /* stays readable for all of them */
}

void interface_join(struct capture *c, struct interface *iface)
{
	for (unsigned i = 0; i < iface->decoders; i++) {
		decoder_join(iface->decoder[i]);
		publisher_remove(c->publisher, iface->decoder[i]);
	}
}

static void interface_pin(struct capture *c, const struct interface *iface, struct decoder *d)
{
	struct cpulist cpus;
	unsigned cpu = 0;
	int r;

	if (!c->o->pin_decoders)
		return;
	r = cpulist_parse(c->o->pin_decoders, &cpus);
	if (r >= 0)
		r = cpulist_pin(&cpus, c->pinned++, d->thread, &cpu);
	if (r < 0)
		log_errno(r, "Cannot pin a decoder of %s", iface->name);
	else
		log_debug("A decoder of %s is pinned to processor %u", iface->name, cpu);
}

int interface_run(struct capture *c, struct interface *iface)
{
	int r = 0;

	for (unsigned i = 0; i < iface->decoders && r >= 0; i++) {
		struct decoder *d = iface->decoder[i];

		d->beat_ms = watchdog_beat_ms();
		r = decoder_start(d, c->publisher->wake_fd, iface->stop_fd);
		if (r >= 0)
			interface_pin(c, iface, d);
	}
	return r;
}

int interface_attach(struct capture *c, struct interface *iface)
{
	int r = 0;

	iface->stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (iface->stop_fd < 0)
		return -errno;
	for (unsigned i = 0; i < iface->decoders && r >= 0; i++)
		r = publisher_add(c->publisher, iface->decoder[i], iface->id, iface->name);
	if (r >= 0 && !c->starting)
		r = interface_run(c, iface);
	if (r < 0) {
		interface_stop(iface);
		interface_join(c, iface);
	}
	return r;
}

void interface_add_totals(struct capture_totals *sum, const struct interface *iface)
{
	for (unsigned i = 0; i < iface->decoders; i++) {
		const struct decoder_counters *count = iface->decoder[i]->count;

		sum->packets += counter_get(&count->packets);
		sum->drops += counter_get(&count->drops);
		sum->connections += counter_get(&count->tracker.opened);
		sum->events += counter_get(&count->events);
		sum->lost += counter_get(&count->lost);
	}
}

void interface_end(struct capture *c, struct interface *iface)
{
	interface_join(c, iface);
	interface_add_totals(&c->totals, iface);
	interface_unstore_all(c, iface);
	interface_free_decoders(iface);
}

static void interface_post(struct interface *rings, const struct link_news *news)
{
	for (unsigned i = 0; i < rings->decoders; i++)
		if (!decoder_link(rings->decoder[i], news))
			log_limited(LOG_LEVEL_ERR, "No memory: changes of interfaces are missed");
}

void interface_follow(struct interface *rings, enum link_news_kind kind, int ifindex, bool watched)
{
	interface_post(rings, &(struct link_news){ .kind = kind,
						   .ifindex = (uint32_t)ifindex,
						   .watched = watched });
}

/* A slot of the rings that was free for long, because its last events may still be counted. */
static uint32_t interface_take_slot(struct interface *rings)
{
	struct decoder_state *state = &rings->decoder[0]->state;
	uint32_t *slots = &state->head->link_slots;

	if (*slots < LINK_SLOTS)
		return (*slots)++;
	for (uint32_t n = 1; n < LINK_SLOTS; n++) {
		uint32_t slot = rings->slot = rings->slot % (LINK_SLOTS - 1) + 1;

		if (!*state->links[slot].name)
			return slot;
	}
	return 0;
}

static void interface_keep(struct interface *iface)
{
	struct interface *rings = iface->rings;
	struct stored_link *kept;

	iface->slot = interface_take_slot(rings);
	for (unsigned i = 0; i < rings->decoders && iface->slot; i++) {
		kept = &rings->decoder[i]->state.links[iface->slot];
		counter_set(&kept->frames, 0);
		counter_set(&kept->events, 0);
	}
	kept = interface_stored(iface);
	if (!kept)
		return;
	kept->ifindex = iface->ifindex;
	kept->reported = REPORTED_NEW;
	undo_order();
	memcpy(kept->name, iface->name, sizeof kept->name);
}

void interface_watch(struct interface *iface)
{
	struct link_news news = { .kind = LINK_HERE,
				  .ifindex = (uint32_t)iface->ifindex,
				  .watched = true };

	if (!iface->slot)
		interface_keep(iface);
	news.slot = iface->slot;
	memcpy(news.name, iface->name, sizeof news.name);
	interface_post(iface->rings, &news);
}

void interface_close_all(struct interface *iface)
{
	iface->gone = true;
	if (iface->rings != iface) {
		interface_follow(iface->rings, LINK_GONE, iface->ifindex, false);
		return;
	}
	for (unsigned i = 0; i < iface->decoders; i++)
		atomic_store(&iface->decoder[i]->close_reason, REASON_CAPTURE_END);
	interface_stop(iface); /* the ring of a removed interface may never wake its decoder */
}

/* ---- link state ----------------------------------------------------------------------------- */

struct stored_link *interface_stored(const struct interface *iface)
{
	const struct interface *rings = iface->rings;
	bool kept = rings->decoders && (rings == iface || iface->slot);

	return kept ? &rings->decoder[0]->state.links[rings == iface ? 0 : iface->slot] : NULL;
}

bool interface_is_reported(const struct interface *iface)
{
	const struct stored_link *stored = interface_stored(iface);

	return !stored || stored->reported != REPORTED_NEW;
}

void interface_report_link(struct capture *c, struct interface *iface, enum reported_link link,
			   const char *state)
{
	struct stored_link *kept = interface_stored(iface);
	struct decoder_state_head *h = kept ? iface->rings->decoder[0]->state.head : NULL;

	if (h) {
		h->link_reporting = (uint8_t)link;
		h->link_reporting_slot = (uint32_t)(kept - iface->rings->decoder[0]->state.links);
		undo_order();
		h->link_report_seq = c->publisher->stream.state->seq + 1;
		undo_order();
	}
	publisher_iface(c->publisher, iface->name, state);
	if (h) {
		kept->reported = (uint8_t)link;
		undo_order();
		h->link_report_seq = 0;
		if (link == REPORTED_GONE && iface->slot && iface->rings != iface) {
			kept->name[0] = '\0'; /* free */
			iface->slot = 0;
		}
	}
}
