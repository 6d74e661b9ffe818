#include "synfind/restore.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "base/cc.h"
#include "common/log.h"
#include "source/afring.h"
#include "synfind/decoder.h"
#include "synfind/watchdog.h"
#include "synfind/fdstore.h"
#include "synfind/interface.h"

struct stored_interface { /* of one interface */
	struct decoder_state state[OPENER_RINGS_MAX];
	int fd[OPENER_RINGS_MAX]
	      [2]; /* rings, as decoder_state_head.ring; -1: none, or not ours any more */
	unsigned n;
};

static void stored_free(struct stored_interface *stored)
{
	for (unsigned i = 0; i < stored->n; i++) {
		decoder_state_close(&stored->state[i]);
		for (unsigned slot = 0; slot < ARRAY_SIZE(stored->fd[i]); slot++)
			if (stored->fd[i][slot] >= 0)
				close(stored->fd[i][slot]);
	}
}

/* Decoder @i of interface @id, as far as it is there: can its ring go on? */
static bool stored_load(struct capture *c, struct stored_interface *stored, unsigned id, unsigned i)
{
	int fd = fdstore_take(c->fdstore, interface_fdname(INTERFACE_TABLES, id, i).s);
	struct decoder_state *k = &stored->state[i];
	const struct decoder_ring *ring, *first;

	stored->n = i + 1;
	stored->fd[i][0] = stored->fd[i][1] = -1;
	*k = (struct decoder_state){ 0 };
	if (fd < 0)
		return false;
	decoder_state_map(k, fd);
	close(fd);
	for (unsigned slot = 0; slot < INTERFACE_RINGS; slot++)
		stored->fd[i][slot] = fdstore_take(
			c->fdstore, interface_fdname(interface_ring_fdname[slot], id, i).s);
	if (!k->memory || !stored->state[0].memory)
		return false;
	ring = decoder_state_current_ring(k);
	first = decoder_state_current_ring(&stored->state[0]);
	return ring->cookie &&
	       ring->cookie == decoder_state_cookie(stored->fd[i][k->head->current]) &&
	       ring->fixed == decoder_state_fixed(c->o) && ring->share.index == i &&
	       ring->share.of == first->share.of && ring->ifindex == first->ifindex;
}

/* All decoders of interface @id; false: there are none that can go on, and all of it is let go. */
static bool stored_load_all(struct capture *c, struct stored_interface *stored, unsigned id)
{
	bool good = stored_load(c, stored, id, 0);
	unsigned of = stored->state[0].memory
			      ? decoder_state_current_ring(&stored->state[0])->share.of
			      : 1;

	for (unsigned i = 1; i < of; i++)
		good &= stored_load(c, stored, id, i);
	if (good)
		return true;
	for (unsigned i = 0; i < stored->n; i++)
		if (stored->state[i].memory || stored->fd[i][0] >= 0 || stored->fd[i][1] >= 0)
			interface_unstore(c, id, i);
	stored_free(stored);
	return false;
}

/* Tables of another version or for other sizes are of no use: new ones, over the same ring. */
static int interface_replace_decoder(struct capture *c, struct interface *iface, struct decoder *d,
				     struct stored_interface *stored, unsigned i)
{
	struct decoder_ring ring = *decoder_state_current_ring(&stored->state[i]);
	int *fd = &stored->fd[i][stored->state[i].head->current];
	struct source *source;
	int r = afring_map(*fd, &ring.geometry, NULL, &source);

	if (r < 0)
		return r;
	*fd = -1;
	interface_unstore(c, iface->id, i);
	r = interface_decoder_make(c, iface, d, source, NULL, &ring);
	d->inner = ring.inner;
	return r;
}

/* The ring in use, and no other: a turn to another one that had not come to the cut is none. */
static int interface_adopt_ring(struct capture *c, struct interface *iface, struct decoder *d,
				int fd[2], unsigned i)
{
	uint32_t slot = d->state.head->current;
	const struct decoder_ring *ring = decoder_state_current_ring(&d->state);
	int r = -EBADMSG;

	if (ring->cookie && ring->cookie == decoder_state_cookie(fd[slot]))
		r = afring_map(fd[slot], &ring->geometry, &d->state.progress->at, &d->source);
	if (r < 0)
		return r;
	fd[slot] = -1;
	if (fd[!slot] >= 0)
		fdstore_remove(c->fdstore,
			       interface_fdname(interface_ring_fdname[!slot], iface->id, i).s);
	iface->switching |= atomic_load(&d->switching) != SWITCH_NONE;
	return 0;
}

static int interface_adopt_decoder(struct capture *c, struct interface *iface,
				   struct stored_interface *stored, unsigned i)
{
	struct decoder *d = aligned_alloc(CACHE_LINE, sizeof *d);
	int r;

	if (!d)
		return -ENOMEM;
	iface->decoder[iface->decoders++] = d;
	r = decoder_adopt(d, c->o, iface->id, &stored->state[i]);
	if (r == -ESTALE) {
		r = interface_replace_decoder(c, iface, d, stored, i);
	} else if (r >= 0) {
		r = interface_adopt_ring(c, iface, d, stored->fd[i], i);
	}
	d->beat_ms = watchdog_beat_ms();
	return r;
}

/* An interface goes on where the earlier process was: whether it is still there is for the opener
 * to say. */
static void interface_adopt(struct capture *c, struct stored_interface *stored, unsigned id)
{
	const struct decoder_ring *ring = decoder_state_current_ring(&stored->state[0]);
	enum reported_link link = interface_link_settle(c, stored->state[0].head);
	struct interface *iface = calloc(1, sizeof *iface);
	int r = iface ? 0 : -ENOMEM;

	if (r >= 0) {
		*iface = (struct interface){ .next = c->interfaces,
					     .ifindex = ring->ifindex,
					     .id = (uint8_t)id,
					     .up = link != REPORTED_DOWN,
					     .wanted = ring->wants,
					     .stop_fd = -1 };
		memcpy(iface->name, ring->geometry.ifname, sizeof iface->name - 1);
		c->interfaces = iface;
	}
	for (unsigned i = 0; i < stored->n && r >= 0; i++)
		r = interface_adopt_decoder(c, iface, stored, i);
	stored_free(stored);
	if (r >= 0)
		r = interface_run(c, iface);
	if (r >= 0) {
		iface->decoder[0]->state.head->link_reported = (uint8_t)link;
		log_event(LOG_LEVEL_INFO, LOG_ID_INTERFACE,
			  LOG_FIELDS({ "SYNFIND_INTERFACE", iface->name },
				     { "SYNFIND_STATE", "watched" }),
			  "Watching %s where the process before this one was", iface->name);
		if (link == REPORTED_NEW)
			interface_report_link(c, iface, REPORTED_UP, "up");
		if (link == REPORTED_GONE)
			interface_close_all(iface);
		return;
	}
	log_errno(r, "Cannot go on with interface %u of the process before", id);
	for (unsigned i = 0; i < stored->n; i++)
		interface_unstore(c, id, i);
	if (iface)
		interface_forget(c, iface);
}

/* Lets go of what nobody could use: now, for its name will be needed. */
static void restore_discard(struct capture *c, const char *prefix)
{
	char name[FDSTORE_NAME_MAX + 1];
	int fd;

	while ((fd = fdstore_take_next(c->fdstore, prefix, name)) >= 0) {
		fdstore_remove(c->fdstore, name);
		close(fd);
	}
}

void restore_interfaces(struct capture *c)
{
	struct stored_interface stored;

	for (unsigned id = 0; id < INTERFACES_MAX && c->fdstore->live; id++)
		if (stored_load_all(c, &stored, id))
			interface_adopt(c, &stored, id);
	restore_discard(c, INTERFACE_TABLES "-");
	restore_discard(c, INTERFACE_RING "-");
	restore_discard(c, INTERFACE_SPARE "-");
}
