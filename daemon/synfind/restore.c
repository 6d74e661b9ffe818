#include "synfind/restore.h"
#include <errno.h>
#include <stdio.h>
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
	const struct decoder_state *old = &stored->state[i];
	struct decoder_ring ring = *decoder_state_current_ring(old);
	struct rescue rescue = rescue_renewed(&old->head->rescue);
	enum rescue_step step = old->step;
	int *fd = &stored->fd[i][old->head->current];
	struct source *source;
	/* After deaths the position is known, and the frame there is the one to skip. */
	int r = afring_map(*fd, &ring.geometry, step ? &old->progress->at : NULL, &source);

	if (r == -EINVAL && step) /* it is damaged, too */
		r = afring_map(*fd, &ring.geometry, NULL, &source);

	if (r < 0)
		return r;
	*fd = -1;
	interface_unstore(c, iface->id, i);
	r = interface_decoder_make(c, iface, d, source, NULL, &ring);
	if (r < 0)
		return r;
	decoder_state_copy_links(&d->state, old);
	if (d->state.links[0].reported == REPORTED_NEW) /* another layout */
		d->state.links[0].reported = REPORTED_UP;
	d->pipeline.inner = ring.inner;
	d->state.step = step;
	d->state.deaths = rescue.deaths;
	if (step) {
		d->state.head->rescue = rescue;
		d->skip = rescue_skips(&rescue, step);
	}
	return 0;
}

/* Maps the current ring of a resumed decoder.  The rollback may have changed which one that is, so
 * the cookie is checked again.  A spare is dropped: a ring switch that has not come to the cut is
 * void. */
static int interface_map_ring(struct capture *c, struct interface *iface, struct decoder *d,
			      struct stored_interface *stored, unsigned i)
{
	const struct decoder_ring *ring = decoder_state_current_ring(&d->state);
	int *fd = &stored->fd[i][d->state.head->current], r;

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

static void log_recovery(const struct interface *iface, const struct decoder *d)
{
	static const char *const does[] = {
		[RESCUE_ONE_BY_ONE] = "taking frames one by one",
		[RESCUE_SKIP] = "skipping what it ended at",
		[RESCUE_NEW_MEMORY] = "beginning with new tables",
	};

	if (d->state.step)
		log_event(d->state.step == RESCUE_ONE_BY_ONE ? LOG_LEVEL_INFO : LOG_LEVEL_ERR,
			  LOG_ID_RESCUE, LOG_FIELDS({ "SYNFIND_INTERFACE", iface->name }),
			  "The last %u processes ended while they decoded %s: %s", d->state.deaths,
			  iface->name, does[d->state.step]);
}

/* Resumes a decoder, or makes a new one for its ring. */
static int interface_adopt_decoder(struct capture *c, struct interface *iface,
				   struct stored_interface *stored, unsigned i)
{
	struct decoder *d = interface_add_decoder(iface);
	int r = d ? decoder_adopt(d, c->o, &stored->state[i], c->publisher->stream.crashed)
		  : -ENOMEM;

	if (r == -ESTALE)
		r = interface_replace_decoder(c, iface, d, stored, i);
	else if (r >= 0)
		r = interface_map_ring(c, iface, d, stored, i);
	if (r < 0)
		return r;
	log_recovery(iface, d);
	rescue_end(&d->state.head->rescue);
	return 0;
}

/* The link state that an earlier process published last. */
static void link_settle(const struct capture *c, const struct decoder *d)
{
	struct decoder_state_head *h = d->state.head;

	if (h->link_report_seq && c->publisher->stream.state->seq >= h->link_report_seq)
		d->state.links[h->link_reporting_slot % LINK_SLOTS].reported = h->link_reporting;
	undo_order();
	h->link_report_seq = 0;
}

/* The interfaces that shared the rings. */
static void interface_adopt_links(struct capture *c, struct interface *rings)
{
	struct decoder_state *state = &rings->decoder[0]->state;

	for (uint32_t slot = 1; slot < state->head->link_slots && slot < LINK_SLOTS; slot++) {
		struct stored_link *kept = &state->links[slot];
		struct interface *iface;

		if (kept->reported == REPORTED_GONE)
			kept->name[0] = '\0';
		if (!*kept->name)
			continue;
		iface = interface_add(c,
				      &(struct interface){ .ifindex = kept->ifindex,
							   .rings = rings,
							   .slot = slot,
							   .resumed = true,
							   .up = kept->reported == REPORTED_UP });
		if (!iface)
			continue;
		memcpy(iface->name, kept->name, sizeof iface->name - 1);
		interface_watch(iface);
	}
}

/* Resumes an interface.  The opener's list will show whether it still exists. */
static void interface_adopt(struct capture *c, struct stored_interface *stored, unsigned id)
{
	const struct decoder_ring *ring = decoder_state_current_ring(&stored->state[0]);
	struct interface *iface = interface_add(c, &(struct interface){ .ifindex = ring->ifindex,
									.id = id,
									.resumed = true,
									.wanted = ring->wants });
	enum reported_link link;
	int r = iface ? 0 : -ENOMEM;

	if (iface)
		memcpy(iface->name, ring->geometry.ifname, sizeof iface->name - 1);
	for (unsigned i = 0; i < stored->n && r >= 0; i++)
		r = interface_adopt_decoder(c, iface, stored, i);
	stored_free(stored);
	if (r >= 0)
		r = interface_attach(c, iface);
	if (r < 0) {
		log_errno(r, "Cannot resume interface %u of the previous process", id);
		for (unsigned i = 0; i < stored->n; i++)
			interface_unstore(c, id, i);
		if (iface)
			interface_forget(c, iface);
		return;
	}
	interface_log(iface, "watched", "Watching %s, resumed from the previous process",
		      iface->name);
	link_settle(c, iface->decoder[0]);
	if (interface_is_rings(iface)) {
		interface_adopt_links(c, iface);
		return;
	}
	link = (enum reported_link)iface->decoder[0]->state.links[0].reported;
	iface->up = link == REPORTED_UP;
	if (link == REPORTED_GONE)
		interface_close_all(iface);
}

/* Removes what was not resumed, because its name will be used again. */
static void restore_discard(struct fdstore *fdstore)
{
	fdstore_discard(fdstore, INTERFACE_TABLES "-");
	fdstore_discard(fdstore, INTERFACE_RING "-");
	fdstore_discard(fdstore, INTERFACE_SPARE "-");
}

void restore_interfaces(struct capture *c)
{
	struct stored_interface stored;
	const char *name;
	unsigned id;

	for (unsigned i = 0; i < c->fdstore->n && c->fdstore->live; i++)
		if (fdstore_peek(c->fdstore, i, &name) >= 0 &&
		    sscanf(name, INTERFACE_TABLES "-%u-0", &id) == 1 && id < INTERFACES_MAX &&
		    stored_load_all(c, &stored, id))
			interface_adopt(c, &stored, id);
	restore_discard(c->fdstore);
}

/* The stream's part says whether the last process crashed: if it is missing, suppose so. */
static struct stream_rescue peek_stream(const struct fdstore *fdstore)
{
	struct stream_rescue rescue = { .crashed = 1 };
	const char *name;

	for (unsigned i = 0; i < fdstore->n; i++) {
		int fd = fdstore_peek(fdstore, i, &name);

		if (fd >= 0 && !strcmp(name, STREAM_NAME) && stream_state_rescue(fd, &rescue))
			return rescue;
	}
	return (struct stream_rescue){ .crashed = 1 };
}

bool restore_give_up(struct fdstore *fdstore)
{
	struct stream_rescue stream = peek_stream(fdstore);
	bool hopeless = rescue_is_hopeless(&stream.deaths, stream.crashed);
	const char *name;

	for (unsigned i = 0; i < fdstore->n && !hopeless; i++) {
		int fd = fdstore_peek(fdstore, i, &name);
		struct decoder_state state;

		if (fd < 0 || strncmp(name, INTERFACE_TABLES "-", sizeof INTERFACE_TABLES) != 0 ||
		    decoder_state_map(&state, fd) < 0)
			continue;
		const struct rescue *rescue = decoder_state_rescue(&state);

		hopeless = rescue && rescue_is_hopeless(rescue, stream.crashed);
		decoder_state_close(&state);
	}
	if (!hopeless)
		return false;
	log_event(LOG_LEVEL_ERR, LOG_ID_RESCUE, NULL,
		  "The last processes ended at what is kept, whatever was tried: beginning with a "
		  "new ring and a new stream");
	fdstore_discard(fdstore, STREAM_NAME);
	restore_discard(fdstore);
	return true;
}
