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

struct left { /* of one interface */
	struct decoder_state state[OPENER_RINGS_MAX];
	int fd[OPENER_RINGS_MAX]
	      [2]; /* rings, as decoder_state_head.ring; -1: none, or not ours any more */
	unsigned n;
};

static void left_free(struct left *l)
{
	for (unsigned i = 0; i < l->n; i++) {
		decoder_state_close(&l->state[i]);
		for (unsigned slot = 0; slot < ARRAY_SIZE(l->fd[i]); slot++)
			if (l->fd[i][slot] >= 0)
				close(l->fd[i][slot]);
	}
}

/* Decoder @i of interface @id, as far as it is there: can its ring go on? */
static bool left_take(struct capture *c, struct left *l, unsigned id, unsigned i)
{
	int fd = fdstore_take(c->fdstore, interface_stored(INTERFACE_TABLES, id, i).s);
	struct decoder_state *k = &l->state[i];
	const struct decoder_ring *ring, *first;

	l->n = i + 1;
	l->fd[i][0] = l->fd[i][1] = -1;
	*k = (struct decoder_state){ 0 };
	if (fd < 0)
		return false;
	decoder_state_map(k, fd);
	close(fd);
	for (unsigned slot = 0; slot < INTERFACE_SLOTS; slot++)
		l->fd[i][slot] = fdstore_take(c->fdstore,
					      interface_stored(interface_ring_name[slot], id, i).s);
	if (!k->memory || !l->state[0].memory)
		return false;
	ring = decoder_state_ring(k);
	first = decoder_state_ring(&l->state[0]);
	return ring->cookie && ring->cookie == decoder_state_cookie(l->fd[i][k->head->current]) &&
	       ring->fixed == decoder_state_fixed(c->o) && ring->share.index == i &&
	       ring->share.of == first->share.of && ring->ifindex == first->ifindex;
}

/* All decoders of interface @id; false: there are none that can go on, and all of it is let go. */
static bool left_take_all(struct capture *c, struct left *l, unsigned id)
{
	bool good = left_take(c, l, id, 0);
	unsigned of = l->state[0].memory ? decoder_state_ring(&l->state[0])->share.of : 1;

	for (unsigned i = 1; i < of; i++)
		good &= left_take(c, l, id, i);
	if (good)
		return true;
	for (unsigned i = 0; i < l->n; i++)
		if (l->state[i].memory || l->fd[i][0] >= 0 || l->fd[i][1] >= 0)
			interface_unstore(c, id, i);
	left_free(l);
	return false;
}

/* Tables of another version or for other sizes are of no use: new ones, over the same ring. */
static int interface_renew_decoder(struct capture *c, struct interface *t, struct decoder *d,
				   struct left *l, unsigned i)
{
	struct decoder_ring ring = *decoder_state_ring(&l->state[i]);
	int *fd = &l->fd[i][l->state[i].head->current];
	struct source *source;
	int r = afring_map(*fd, &ring.geometry, NULL, &source);

	if (r < 0)
		return r;
	*fd = -1;
	interface_unstore(c, t->id, i);
	r = interface_decoder_make(c, t, d, source, NULL, &ring);
	d->inner = ring.inner;
	return r;
}

/* The ring in use, and no other: a turn to another one that had not come to the cut is none. */
static int interface_adopt_ring(struct capture *c, struct interface *t, struct decoder *d,
				int fd[2], unsigned i)
{
	uint32_t slot = d->state.head->current;
	const struct decoder_ring *ring = decoder_state_ring(&d->state);
	int r = -EBADMSG;

	if (ring->cookie && ring->cookie == decoder_state_cookie(fd[slot]))
		r = afring_map(fd[slot], &ring->geometry, &d->state.progress->at, &d->source);
	if (r < 0)
		return r;
	fd[slot] = -1;
	if (fd[!slot] >= 0)
		fdstore_remove(c->fdstore,
			       interface_stored(interface_ring_name[!slot], t->id, i).s);
	t->switching |= atomic_load(&d->switching) != SWITCH_NONE;
	return 0;
}

static int interface_adopt_decoder(struct capture *c, struct interface *t, struct left *l,
				   unsigned i)
{
	struct decoder *d = aligned_alloc(CACHE_LINE, sizeof *d);
	int r;

	if (!d)
		return -ENOMEM;
	t->decoder[t->decoders++] = d;
	r = decoder_adopt(d, c->o, t->id, &l->state[i]);
	if (r == -ESTALE) {
		r = interface_renew_decoder(c, t, d, l, i);
	} else if (r >= 0) {
		r = interface_adopt_ring(c, t, d, l->fd[i], i);
	}
	d->beat_ms = watchdog_beat_ms();
	return r;
}

/* An interface goes on where the earlier process was: whether it is still there is for the opener
 * to say. */
static void interface_adopt(struct capture *c, struct left *l, unsigned id)
{
	const struct decoder_ring *ring = decoder_state_ring(&l->state[0]);
	enum reported_link link = interface_link_settle(c, l->state[0].head);
	struct interface *t = calloc(1, sizeof *t);
	int r = t ? 0 : -ENOMEM;

	if (r >= 0) {
		*t = (struct interface){ .next = c->interfaces,
					 .ifindex = ring->ifindex,
					 .id = (uint8_t)id,
					 .up = link != REPORTED_DOWN,
					 .wanted = ring->wants,
					 .stop_fd = -1 };
		memcpy(t->name, ring->geometry.ifname, sizeof t->name - 1);
		c->interfaces = t;
	}
	for (unsigned i = 0; i < l->n && r >= 0; i++)
		r = interface_adopt_decoder(c, t, l, i);
	left_free(l);
	if (r >= 0)
		r = interface_run(c, t);
	if (r >= 0) {
		t->decoder[0]->state.head->reported = (uint8_t)link;
		log_event(LOG_LEVEL_INFO, LOG_ID_INTERFACE,
			  LOG_FIELDS({ "SYNFIND_INTERFACE", t->name },
				     { "SYNFIND_STATE", "watched" }),
			  "Watching %s where the process before this one was", t->name);
		if (link == REPORTED_NEW)
			interface_report_link(c, t, REPORTED_UP, "up");
		if (link == REPORTED_GONE)
			interface_close_all(t);
		return;
	}
	log_errno(r, "Cannot go on with interface %u of the process before", id);
	for (unsigned i = 0; i < l->n; i++)
		interface_unstore(c, id, i);
	if (t)
		interface_forget(c, t);
}

/* Lets go of what nobody could use: now, for its name will be needed. */
static void drop(struct capture *c, const char *prefix)
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
	struct left l;

	for (unsigned id = 0; id < INTERFACES_MAX && c->fdstore->live; id++)
		if (left_take_all(c, &l, id))
			interface_adopt(c, &l, id);
	drop(c, INTERFACE_TABLES "-");
	drop(c, INTERFACE_RING "-");
	drop(c, INTERFACE_SPARE "-");
}
