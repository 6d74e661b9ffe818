#include "synfind/restore.h"
#include <errno.h>
#include <string.h>
#include <unistd.h>
#include "common/log.h"
#include "source/afring.h"
#include "synfind/decoder.h"
#include "synfind/decoder_state.h"
#include "synfind/fdstore.h"
#include "synfind/interface.h"
#include "synfind/publisher_state.h"

struct stored_interface {
	struct decoder_state state[OPENER_RINGS_MAX];
	int fd[OPENER_RINGS_MAX][INTERFACE_RINGS]; /* as decoder_state_head.ring[]; -1: none */
	unsigned n;
};

static void stored_free(struct stored_interface *stored)
{
	for (unsigned i = 0; i < stored->n; i++) {
		decoder_state_close(&stored->state[i]);
		for (unsigned ring = 0; ring < INTERFACE_RINGS; ring++)
			if (stored->fd[i][ring] >= 0)
				close(stored->fd[i][ring]);
	}
}

/* Takes decoder @i of interface @id from the store.  True: its ring can be resumed. */
static bool stored_load(struct capture *c, struct stored_interface *stored, unsigned id, unsigned i)
{
	int fd = fdstore_take(c->fdstore, fdstore_name(INTERFACE_TABLES, id, i).s);
	struct decoder_state *state = &stored->state[i];
	const struct decoder_ring *ring, *first;

	stored->n = i + 1;
	stored->fd[i][0] = stored->fd[i][1] = -1;
	*state = (struct decoder_state){ 0 };
	if (fd < 0)
		return false;
	decoder_state_map(state, fd);
	close(fd);
	for (unsigned n = 0; n < INTERFACE_RINGS; n++)
		stored->fd[i][n] =
			fdstore_take(c->fdstore, fdstore_name(interface_ring_fdname[n], id, i).s);
	if (!state->memory || !stored->state[0].memory)
		return false;
	ring = decoder_state_current_ring(state);
	first = decoder_state_current_ring(&stored->state[0]);
	return ring->cookie &&
	       ring->cookie == decoder_state_cookie(stored->fd[i][state->head->current]) &&
	       ring->fixed == decoder_state_fixed(c->o) && ring->share.index == i &&
	       ring->share.of == first->share.of && ring->ifindex == first->ifindex;
}

/* Takes all decoders of interface @id.  False: it is not stored or cannot be resumed; then it is
 * removed from the store. */
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

/* The tables are of another version or for other sizes: makes new ones for the same ring. */
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
	d->pipeline.inner = ring.inner;
	return r;
}

/* Resumes a decoder and maps its current ring.  The rollback may have changed which one that is, so
 * the cookie is checked again.  A spare is dropped: a ring switch that has not come to the cut is
 * void. */
static int interface_adopt_decoder(struct capture *c, struct interface *iface,
				   struct stored_interface *stored, unsigned i)
{
	struct decoder *d = interface_add_decoder(iface);
	int r = d ? decoder_adopt(d, c->o, iface->id, &stored->state[i]) : -ENOMEM;
	const struct decoder_ring *ring;
	int *fd;

	if (r == -ESTALE)
		return interface_replace_decoder(c, iface, d, stored, i);
	if (r < 0)
		return r;
	ring = decoder_state_current_ring(&d->state);
	fd = &stored->fd[i][d->state.head->current];
	if (!ring->cookie || ring->cookie != decoder_state_cookie(*fd))
		return -EBADMSG;
	r = afring_map(*fd, &ring->geometry, &d->state.progress->at, &d->source);
	if (r < 0)
		return r;
	*fd = -1;
	if (stored->fd[i][!d->state.head->current] >= 0)
		fdstore_remove(c->fdstore, interface_spare_fdname(iface, i).s);
	iface->switching |= atomic_load(&d->switching) != SWITCH_NONE;
	return 0;
}

/* The link state that an earlier process published last. */
static enum reported_link link_settle(const struct capture *c, struct decoder_state_head *h)
{
	if (h->link_report_seq && c->publisher->stream.state->seq >= h->link_report_seq)
		h->link_reported = h->link_reporting;
	undo_order();
	h->link_report_seq = 0;
	return (enum reported_link)h->link_reported;
}

/* Resumes an interface.  The opener's list will show whether it still exists. */
static void interface_adopt(struct capture *c, struct stored_interface *stored, unsigned id)
{
	const struct decoder_ring *ring = decoder_state_current_ring(&stored->state[0]);
	enum reported_link link = link_settle(c, stored->state[0].head);
	struct interface *iface = interface_add(c, &(struct interface){ .ifindex = ring->ifindex,
									.id = (uint8_t)id,
									.up = link != REPORTED_DOWN,
									.wanted = ring->wants });
	int r = iface ? 0 : -ENOMEM;

	if (iface)
		memcpy(iface->name, ring->geometry.ifname, sizeof iface->name - 1);
	for (unsigned i = 0; i < stored->n && r >= 0; i++)
		r = interface_adopt_decoder(c, iface, stored, i);
	stored_free(stored);
	if (r >= 0)
		r = interface_run(c, iface);
	if (r < 0) {
		log_errno(r, "Cannot resume interface %u of the previous process", id);
		for (unsigned i = 0; i < stored->n; i++)
			interface_unstore(c, id, i);
		if (iface)
			interface_forget(c, iface);
		return;
	}
	iface->decoder[0]->state.head->link_reported = (uint8_t)link;
	interface_log(iface, "watched", "Watching %s, resumed from the previous process",
		      iface->name);
	if (link == REPORTED_NEW)
		interface_report_link(c, iface, REPORTED_UP, "up");
	if (link == REPORTED_GONE)
		interface_close_all(iface);
}

/* Removes what was not resumed now, because its name will be used again. */
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
