#include "synfind/capture.h"
#include <errno.h>
#include <net/if.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>
#include "base/cc.h"
#include "common/cpulist.h"
#include "common/log.h"
#include "common/options.h"
#include "opener/protocol.h"
#include "opener/wanted.h"
#include "source/afring.h"
#include "synfind/bulkfilter.h"
#include "synfind/decoder.h"
#include "synfind/health.h"
#include "synfind/opener.h"
#include "synfind/publisher.h"
#include "synfind/store.h"

enum {
	TAPS_MAX = 255,
	OPENER_PATIENCE_MS = 10000, /* at start */
	RETRY_USEC = 500000,	    /* between two attempts to reach an opener that died */
};

struct tap {
	struct tap *next;
	struct decoder *decoder[OPENER_RINGS_MAX]; /* owned */
	unsigned decoders;			   /* 0: not yet, or not any more */
	char name[IF_NAMESIZE];	 /* remembered when it is gone */
	int ifindex;
	uint8_t id;
	bool asked; /* for its rings */
	bool gone;  /* and that was told */
	bool again; /* its name was watched before */
	bool up;
	bool listed; /* in the opener's present list */
	bool renewing; /* asked for other rings, in place of those that it has */
	bool turning;  /* its decoders go over to them */
	uint64_t wanted; /* kept_wants() when they were asked for */
	int stop_fd;
};

/* ---- names in the store --------------------------------------------------------------------- */

struct stored_name {
	char s[32];
};

static struct stored_name stored(const char *what, unsigned id, unsigned decoder)
{
	struct stored_name n;

	snprintf(n.s, sizeof n.s, "%s-%u-%u", what, id, decoder);
	return n;
}

#define TABLES "tables" /* kept.h */
#define RING   "ring"	/* the packet ring's socket */
#define TWIN   "twin"	/* of the one that may take its place, or has */

/* Of kept_head.ring[@slot]. */
static const char *const ring_name[] = { RING, TWIN };

/* The next process shall know nothing of decoder @i. */
static void unstore(struct capture *c, unsigned id, unsigned i)
{
	for (unsigned slot = 0; slot < ARRAY_SIZE(ring_name); slot++)
		store_remove(c->store, stored(ring_name[slot], id, i).s);
	store_remove(c->store, stored(TABLES, id, i).s);
}

/* ---- one interface -------------------------------------------------------------------------- */

static struct tap *find_tap(const struct capture *c, int ifindex)
{
	for (struct tap *t = c->taps; t; t = t->next)
		if (!t->gone && t->ifindex == ifindex)
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

/* How many descriptors come with these rings. */
static unsigned fds_of(const struct opener_reply *m)
{
	return m->bulk ? 3 * m->rings : m->rings;
}

/* The filter of ring @i, if it has one and this daemon wants it.  One that is not wanted, as another
 * mode counts from the next start on, has no key in it and lets everything pass. */
static int take_filter(struct capture *c, const struct opener_reply *m, unsigned i, const int *fds,
		       struct bulk_filter **ret)
{
	int flows, slots;

	*ret = NULL;
	if (!m->bulk)
		return 0;
	flows = fds[m->rings + i];
	slots = fds[2 * m->rings + i];
	if (c->o->mode == MODE_AUTO)
		return bulk_filter_new(flows, slots, c->o->auto_after, ret);
	close(flows);
	close(slots);
	return 0;
}

/* A new decoder over @source, the ring @ring; what it needs to be gone on with is in the store then.  The
 * filters of mode=auto count on, whoever goes on: there nothing is kept. */
static int decoder_make(struct capture *c, struct tap *t, struct decoder *d, struct source *source,
			struct bulk_filter *bulk, const struct kept_ring *ring)
{
	const struct decoder_share *share = &ring->share;
	struct stored_name tables = stored(TABLES, t->id, share->index);
	struct kept_sizes sizes = decoder_sizes(c->o, t->id, share);
	bool adopted = false;
	void *memory;
	int r;

	if (!c->store->live || bulk) {
		r = decoder_init(d, c->o, source, bulk, NULL, t->id, share);
		if (r >= 0)
			kept_sign(&d->kept, ring);
		return r;
	}
	memory = store_memory(c->store, tables.s, kept_octets(&sizes, true), &adopted);
	r = decoder_init_kept(d, c->o, source, t->id, share, memory);
	if (r < 0)
		return r;
	d->kept.head->told = !c->starting ? KEPT_NEW : t->up ? KEPT_UP : KEPT_DOWN;
	kept_sign(&d->kept, ring);
	return store_put(c->store, stored(RING, t->id, share->index).s, source_fd(source));
}

/* What is kept of ring @i of those that have come. */
static struct kept_ring ring_of(const struct capture *c, const struct opener_reply *m, unsigned i, int fd)
{
	return (struct kept_ring){ .cookie = kept_cookie(fd),
				   .wants = kept_wants(c->o),
				   .fixed = kept_fixed(c->o),
				   .block_timeout_ns = c->o->block_timeout_ns,
				   .inside = options_inside(c->o),
				   .geometry = m->ring[i],
				   .ifindex = m->ifindex,
				   .share = { .index = i,
					      .of = m->rings,
					      .known = m->by_program,
					      .secret = m->secret,
					      .control = m->control } };
}

/* A decoder over ring @i of those that have come; takes its descriptors over, also on failure. */
static int tap_make_decoder(struct capture *c, struct tap *t, const struct opener_reply *m, unsigned i,
			    const int *fds)
{
	struct kept_ring ring = ring_of(c, m, i, fds[i]);
	struct decoder *d = aligned_alloc(CACHE_LINE, sizeof *d);
	struct bulk_filter *bulk;
	struct source *source = NULL;
	int r = take_filter(c, m, i, fds, &bulk);

	if (r >= 0)
		r = d ? afring_map(fds[i], &m->ring[i], NULL, &source) : -ENOMEM;
	if (r < 0) {
		bulk_filter_free(bulk);
		free(d);
		close(fds[i]);
		return r;
	}
	t->decoder[t->decoders++] = d;
	r = decoder_make(c, t, d, source, bulk, &ring);
	d->beat_ms = health_beat_ms();
	return r;
}

/* One for each ring; takes the descriptors over, also on failure. */
static int tap_make_decoders(struct capture *c, struct tap *t, const struct opener_reply *m,
			     const int *fds)
{
	unsigned i = 0;
	int r = 0;

	for (; i < m->rings && r >= 0; i++)
		r = tap_make_decoder(c, t, m, i, fds);
	for (; i < m->rings; i++)
		for (unsigned k = i; k < fds_of(m); k += m->rings)
			close(fds[k]);
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

/* Its decoders, which are made, begin. */
static int tap_run(struct capture *c, struct tap *t)
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
		tap_stop(t);
		tap_join(c, t);
	}
	return r;
}

static int tap_start(struct capture *c, struct tap *t, const struct opener_reply *m, const int *fds)
{
	int r = tap_make_decoders(c, t, m, fds);

	return r < 0 ? r : tap_run(c, t);
}

/* Takes @t out of the list and frees it; nothing of it outlives this. */
static void tap_forget(struct capture *c, struct tap *t)
{
	struct tap **link = &c->taps;

	for (unsigned i = 0; i < t->decoders; i++)
		unstore(c, t->id, i);

	while (*link != t)
		link = &(*link)->next;
	*link = t->next;
	tap_free(t);
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
	for (unsigned i = 0; i < t->decoders; i++)
		unstore(c, t->id, i);
	tap_free_decoders(t);
	close(t->stop_fd);
	t->stop_fd = -1;
}

/* Publishes it, once, wherever this process ends: the number of the line tells the next one whether
 * that was before or after. */
static void tell_link(struct capture *c, struct tap *t, enum kept_link link, const char *state)
{
	struct kept_head *h = t->decoders ? t->decoder[0]->kept.head : NULL;

	if (h) {
		h->telling = (uint8_t)link;
		undo_order();
		h->telling_as = c->publisher->stream.state->seq + 1;
		undo_order();
	}
	publisher_iface(c->publisher, t->name, state);
	if (h) {
		h->told = (uint8_t)link;
		undo_order();
		h->telling_as = 0;
	}
}

/* What the process before this one had told. */
static enum kept_link link_settle(const struct capture *c, struct kept_head *h)
{
	if (h->telling_as && c->publisher->stream.state->seq >= h->telling_as)
		h->told = h->telling;
	undo_order();
	h->telling_as = 0;
	return (enum kept_link)h->told;
}

/* Its decoders read what is left, close all, and end. */
static void tap_last_words(struct tap *t)
{
	t->gone = true;
	for (unsigned i = 0; i < t->decoders; i++)
		atomic_store(&t->decoder[i]->last_words, REASON_CAPTURE_END);
	if (t->decoders)
		tap_stop(t); /* a ring without an interface may never wake by itself */
}

/* ---- what an earlier process left ------------------------------------------------------------ */

struct left { /* of one interface */
	struct kept kept[OPENER_RINGS_MAX];
	int fd[OPENER_RINGS_MAX][2]; /* rings, as kept_head.ring; -1: none, or not ours any more */
	unsigned n;
};

static void left_free(struct left *l)
{
	for (unsigned i = 0; i < l->n; i++) {
		kept_close(&l->kept[i]);
		for (unsigned slot = 0; slot < ARRAY_SIZE(l->fd[i]); slot++)
			if (l->fd[i][slot] >= 0)
				close(l->fd[i][slot]);
	}
}

/* Decoder @i of interface @id, as far as it is there: can its ring go on? */
static bool left_take(struct capture *c, struct left *l, unsigned id, unsigned i)
{
	int fd = store_take(c->store, stored(TABLES, id, i).s);
	struct kept *k = &l->kept[i];
	const struct kept_ring *ring, *first;

	l->n = i + 1;
	l->fd[i][0] = l->fd[i][1] = -1;
	*k = (struct kept){ 0 };
	if (fd < 0)
		return false;
	kept_map(k, fd);
	close(fd);
	for (unsigned slot = 0; slot < ARRAY_SIZE(ring_name); slot++)
		l->fd[i][slot] = store_take(c->store, stored(ring_name[slot], id, i).s);
	if (!k->memory || !l->kept[0].memory)
		return false;
	ring = kept_ring(k);
	first = kept_ring(&l->kept[0]);
	return ring->cookie && ring->cookie == kept_cookie(l->fd[i][k->head->current]) &&
	       ring->fixed == kept_fixed(c->o) && ring->share.index == i &&
	       ring->share.of == first->share.of && ring->ifindex == first->ifindex;
}

/* All decoders of interface @id; false: there are none that can go on, and all of it is let go. */
static bool left_take_all(struct capture *c, struct left *l, unsigned id)
{
	bool good = left_take(c, l, id, 0);
	unsigned of = l->kept[0].memory ? kept_ring(&l->kept[0])->share.of : 1;

	for (unsigned i = 1; i < of; i++)
		good &= left_take(c, l, id, i);
	if (good)
		return true;
	for (unsigned i = 0; i < l->n; i++)
		if (l->kept[i].memory || l->fd[i][0] >= 0 || l->fd[i][1] >= 0)
			unstore(c, id, i);
	left_free(l);
	return false;
}

/* Tables of another version or for other sizes are of no use: new ones, over the same ring. */
static int tap_renew_decoder(struct capture *c, struct tap *t, struct decoder *d, struct left *l,
			     unsigned i)
{
	struct kept_ring ring = *kept_ring(&l->kept[i]);
	int *fd = &l->fd[i][l->kept[i].head->current];
	struct source *source;
	int r = afring_map(*fd, &ring.geometry, NULL, &source);

	if (r < 0)
		return r;
	*fd = -1;
	unstore(c, t->id, i);
	r = decoder_make(c, t, d, source, NULL, &ring);
	d->inside = ring.inside;
	return r;
}

/* The ring in use, and no other: a turn to another one that had not come to the cut is none. */
static int tap_adopt_ring(struct capture *c, struct tap *t, struct decoder *d, int fd[2], unsigned i)
{
	uint32_t slot = d->kept.head->current;
	const struct kept_ring *ring = kept_ring(&d->kept);
	int r = -EBADMSG;

	if (ring->cookie && ring->cookie == kept_cookie(fd[slot]))
		r = afring_map(fd[slot], &ring->geometry, &d->kept.state->at, &d->source);
	if (r < 0)
		return r;
	fd[slot] = -1;
	if (fd[!slot] >= 0)
		store_remove(c->store, stored(ring_name[!slot], t->id, i).s);
	t->turning |= atomic_load(&d->turn) != TURN_NONE;
	return 0;
}

static int tap_adopt_decoder(struct capture *c, struct tap *t, struct left *l, unsigned i)
{
	struct decoder *d = aligned_alloc(CACHE_LINE, sizeof *d);
	int r;

	if (!d)
		return -ENOMEM;
	t->decoder[t->decoders++] = d;
	r = decoder_adopt(d, c->o, t->id, &l->kept[i]);
	if (r == -ESTALE) {
		r = tap_renew_decoder(c, t, d, l, i);
	} else if (r >= 0) {
		r = tap_adopt_ring(c, t, d, l->fd[i], i);
	}
	d->beat_ms = health_beat_ms();
	return r;
}

/* An interface goes on where the earlier process was: whether it is still there is for the opener to
 * say. */
static void tap_adopt(struct capture *c, struct left *l, unsigned id)
{
	const struct kept_ring *ring = kept_ring(&l->kept[0]);
	enum kept_link link = link_settle(c, l->kept[0].head);
	struct tap *t = calloc(1, sizeof *t);
	int r = t ? 0 : -ENOMEM;

	if (r >= 0) {
		*t = (struct tap){ .next = c->taps, .ifindex = ring->ifindex, .id = (uint8_t)id,
				   .up = link != KEPT_DOWN, .wanted = ring->wants, .stop_fd = -1 };
		memcpy(t->name, ring->geometry.ifname, sizeof t->name - 1);
		c->taps = t;
	}
	for (unsigned i = 0; i < l->n && r >= 0; i++)
		r = tap_adopt_decoder(c, t, l, i);
	left_free(l);
	if (r >= 0)
		r = tap_run(c, t);
	if (r >= 0) {
		t->decoder[0]->kept.head->told = (uint8_t)link;
		log_tell(LOG_LEVEL_INFO, LOG_ID_INTERFACE,
			 LOG_FIELDS({ "SYNFIND_INTERFACE", t->name }, { "SYNFIND_STATE", "watched" }),
			 "Watching %s where the process before this one was", t->name);
		if (link == KEPT_NEW)
			tell_link(c, t, KEPT_UP, "up");
		if (link == KEPT_GONE)
			tap_last_words(t);
		return;
	}
	log_errno(r, "Cannot go on with interface %u of the process before", id);
	for (unsigned i = 0; i < l->n; i++)
		unstore(c, id, i);
	if (t)
		tap_forget(c, t);
}

/* Lets go of what nobody could use: now, for its name will be needed. */
static void drop(struct capture *c, const char *prefix)
{
	char name[STORE_NAME_MAX + 1];
	int fd;

	while ((fd = store_take_next(c->store, prefix, name)) >= 0) {
		store_remove(c->store, name);
		close(fd);
	}
}

static void adopt_taps(struct capture *c)
{
	struct left l;

	for (unsigned id = 0; id < TAPS_MAX && c->store->live; id++)
		if (left_take_all(c, &l, id))
			tap_adopt(c, &l, id);
	drop(c, TABLES "-");
	drop(c, RING "-");
	drop(c, TWIN "-");
}

/* ---- what the opener tells ------------------------------------------------------------------ */

static void say_state(const struct tap *t, const char *state)
{
	log_tell(LOG_LEVEL_INFO, LOG_ID_INTERFACE,
		 LOG_FIELDS({ "SYNFIND_INTERFACE", t->name }, { "SYNFIND_STATE", state }),
		 "Interface %s is %s", t->name, state);
}

static void tap_gone(struct capture *c, struct tap *t)
{
	if (t->asked) { /* it never was there, as far as anyone was told */
		tap_forget(c, t);
		return;
	}
	say_state(t, "gone");
	tap_last_words(t);
	tell_link(c, t, KEPT_GONE, "gone");
}

static void note_error(struct capture *c, int r)
{
	if (c->starting && !c->error)
		c->error = r;
}

static void ask(struct capture *c, struct tap *t)
{
	t->asked = true;
	opener_ask(c->opener, OPENER_OPEN, t->ifindex, 0);
}

/* ---- other rings for an interface that has some ---------------------------------------------- */

/* Each opener can be asked once; and the daemon does, when it lists the interface. */
static void ask_anew(struct capture *c)
{
	c->renewing = c->listed;
	opener_ask(c->opener, OPENER_AGAIN, 0, 0);
}

static bool wants_others(const struct capture *c, const struct tap *t)
{
	uint64_t wants = kept_wants(c->o);

	if (!t->gone && c->o->mode != MODE_AUTO)
		for (unsigned i = 0; i < t->decoders; i++)
			if (kept_ring(&t->decoder[i]->kept)->wants != wants)
				return true;
	return false;
}

static void ask_for_others(struct capture *c, struct tap *t)
{
	const struct decoder_share *share;

	if (t->turning || !wants_others(c, t))
		return;
	share = &t->decoder[0]->share;
	t->wanted = kept_wants(c->o);
	t->renewing = true;
	opener_ask(c->opener, OPENER_OPEN, t->ifindex, share->known ? share->secret : 0);
}

static void say_old_rings_stay(const struct tap *t, const char *why)
{
	log_error("%s keeps the ring that it has: %s", t->name, why);
}

/* Each connection must come to the decoder that has it. */
static const char *unfit(const struct tap *t, const struct opener_reply *m)
{
	const struct decoder_share *share = &t->decoder[0]->share;

	if (m->bulk || m->control != share->control)
		return "the opener has another mode, which counts from the next start on";
	if (m->rings != t->decoders)
		return "there are to be as many rings as decoders";
	if (m->rings > 1 && (m->by_program != share->known || (share->known && m->secret != share->secret)))
		return "connections would be dealt out otherwise";
	return NULL;
}

/* The decoder goes over to it; takes the descriptor over, also on failure. */
static int turn_decoder(struct capture *c, struct tap *t, const struct opener_reply *m, unsigned i, int fd)
{
	struct kept_ring ring = ring_of(c, m, i, fd);
	struct decoder *d = t->decoder[i];
	struct source *source;
	int r = afring_map(fd, &m->ring[i], NULL, &source);

	if (r < 0) {
		close(fd);
		return r;
	}
	if (c->store->live)
		r = store_put(c->store, stored(ring_name[!d->kept.head->current], t->id, i).s, fd);
	if (r < 0) {
		source_free(source);
		return r;
	}
	t->turning = true;
	decoder_succeed(d, source, &ring);
	return 0;
}

static void others_came(struct capture *c, struct tap *t, const struct opener_reply *m, const int *fds,
			unsigned n)
{
	bool stale = t->wanted != kept_wants(c->o); /* the next list is on its way */
	const char *why = unfit(t, m);

	t->renewing = false;
	if (why && !stale)
		say_old_rings_stay(t, why);
	if (why || stale) {
		for (unsigned i = 0; i < n; i++)
			close(fds[i]);
		return;
	}
	for (unsigned i = 0; i < n; i++) {
		int r = turn_decoder(c, t, m, i, fds[i]);

		if (r < 0)
			say_old_rings_stay(t, strerror(-r));
	}
}

/* Have all decoders ended their turn?  Then the rings that are of no use are let go. */
static void turns_end(struct capture *c, struct tap *t)
{
	bool refused = false;

	for (unsigned i = 0; i < t->decoders; i++) {
		int turn = atomic_load(&t->decoder[i]->turn);

		if (turn == TURN_ASKED || turn == TURN_UNDER_WAY)
			return;
		refused |= turn == TURN_REFUSED;
	}
	for (unsigned i = 0; i < t->decoders; i++) {
		struct decoder *d = t->decoder[i];

		decoder_turned(d);
		store_remove(c->store, stored(ring_name[!d->kept.head->current], t->id, i).s);
	}
	t->turning = false;
	if (refused)
		say_old_rings_stay(t, "the clock was set, or there are too many frames; reload once more");
	else
		log_info("%s has its new ring", t->name);
	if (t->wanted != kept_wants(c->o) && !c->stopping) /* there was a reload meanwhile */
		ask_anew(c);
}

static void link_new(struct capture *c, const struct opener_reply *m)
{
	bool again = name_known(c, m->name);
	int id;

	if (!m->named && c->starting && afring_link_type((int)m->arphrd) < 0) {
		log_debug("Leaving %s out: frames of its kind are not understood", m->name);
		return;
	}
	for (struct tap *t = c->taps; t; t = t->next)
		if (!t->decoders && !t->asked && !strcmp(t->name, m->name)) {
			tap_forget(c, t); /* it comes back under the same name */
			break;
		}
	id = free_id(c);
	if (id < 0) {
		log_error("Cannot capture on '%s': %d interfaces are watched already", m->name, TAPS_MAX);
		note_error(c, -EMFILE);
		return;
	}
	struct tap *t = calloc(1, sizeof *t);

	if (!t) {
		note_error(c, log_errno(ENOMEM, "Cannot capture on '%s'", m->name));
		return;
	}
	*t = (struct tap){ .next = c->taps, .ifindex = m->ifindex, .id = (uint8_t)id, .again = again,
			   .up = m->flags & IFF_UP, .listed = true, .stop_fd = -1 };
	memcpy(t->name, m->name, sizeof t->name);
	c->taps = t;
	ask(c, t);
}

static void link_told(struct capture *c, const struct opener_reply *m)
{
	struct tap *t = find_tap(c, m->ifindex);
	bool up = m->flags & IFF_UP;

	if (t && strcmp(t->name, m->name)) { /* renamed while there was no opener */
		tap_gone(c, t);
		t = NULL;
	}
	if (!t) {
		link_new(c, m);
		return;
	}
	t->listed = true;
	if (!c->listed)
		ask_for_others(c, t);
	if (t->up == up)
		return;
	t->up = up;
	if (t->asked)
		return;
	say_state(t, up ? "up" : "down");
	tell_link(c, t, up ? KEPT_UP : KEPT_DOWN, up ? "up" : "down");
}

static void say_watching(const struct tap *t, const struct opener_reply *m)
{
	const struct log_field *fields =
		LOG_FIELDS({ "SYNFIND_INTERFACE", t->name }, { "SYNFIND_STATE", "watched" });

	if (m->rings > 1)
		log_tell(LOG_LEVEL_INFO, LOG_ID_INTERFACE, fields,
			 "Watching %s%s with %u decoders, dealt out by %s", t->name,
			 t->up ? "" : ", which is down,", m->rings,
			 m->by_program ? "an eBPF program" : "the kernel's hash");
	else
		log_tell(LOG_LEVEL_INFO, LOG_ID_INTERFACE, fields, "Watching %s%s", t->name,
			 t->up ? "" : ", which is down");
}

/* The opener has read a configuration that this daemon will only have after its next start. */
static void say_other_mode(const struct capture *c, const struct tap *t, const struct opener_reply *m)
{
	enum capture_mode mode = m->bulk ? MODE_AUTO : m->control ? MODE_CONTROL : MODE_ALL;

	if (mode != c->o->mode)
		log_warn("%s: its opener has mode=%s, this daemon mode=%s; a restart brings them together%s",
			 t->name, capture_mode_name(mode), capture_mode_name(c->o->mode),
			 m->control ? "; until then nothing but SYN, FIN and RST is seen there" : "");
}

/* Its rings have come: @fds are ours. */
static void rings_came(struct capture *c, const struct opener_reply *m, const int *fds, unsigned n)
{
	struct tap *t = find_tap(c, m->ifindex);
	int r;

	if (t && t->renewing && m->rings && m->rings <= OPENER_RINGS_MAX && n == fds_of(m)) {
		others_came(c, t, m, fds, n);
		return;
	}
	if (!t || !t->asked || !m->rings || m->rings > OPENER_RINGS_MAX || n != fds_of(m)) {
		/* it went meanwhile */
		for (unsigned i = 0; i < n; i++)
			close(fds[i]);
		return;
	}
	t->asked = false;
	r = tap_start(c, t, m, fds);
	if (r < 0) {
		note_error(c, log_errno(r, "Cannot start a decoder for '%s'", t->name));
		tap_forget(c, t);
		return;
	}
	say_watching(t, m);
	say_other_mode(c, t, m);
	if (!c->starting)
		tell_link(c, t, KEPT_UP, t->again ? "back" : "up");
}

static void rings_failed(struct capture *c, const struct opener_reply *m)
{
	struct tap *t = find_tap(c, m->ifindex);

	if (t && t->renewing) {
		t->renewing = false;
		log_errno(m->error, "%s keeps the ring that it has: %s", t->name, m->step);
		return;
	}
	if (!t || !t->asked)
		return;
	if (!strcmp(m->step, OPENER_STEP_BULK))
		log_error("Cannot capture on '%s': cannot load the filter of mode=auto: %s (it needs CAP_BPF, "
			  "CAP_PERFMON and Linux 5.19; mode=all needs none of it)", t->name,
			  strerror(-m->error));
	else if (m->error == -EPERM || m->error == -EACCES)
		log_error("Cannot capture on '%s': %s needs CAP_NET_RAW (run it as root, or give the file the "
			  "capability: setcap cap_net_raw+ep)", t->name, m->step);
	else if (m->error == -EPFNOSUPPORT)
		log_error("Cannot capture on '%s': frames of its kind are not understood", t->name);
	else
		log_errno(m->error, "Cannot capture on '%s': %s", t->name, m->step);
	note_error(c, m->error);
	tap_forget(c, t);
}

/* A list begins: the first one, or that of an opener that took over. */
static void list_begins(struct capture *c)
{
	if (c->listed && !c->renewing)
		log_tell(LOG_LEVEL_INFO, LOG_ID_OPENER, LOG_FIELDS({ "SYNFIND_STATE", "back" }),
			 "The opener is back");
	c->listed = c->renewing = false;
	for (struct tap *t = c->taps; t; t = t->next)
		t->listed = false;
}

/* What was not in it went while nobody looked; what was asked of the opener before is asked again. */
static void list_ends(struct capture *c)
{
	c->listed = true;
	for (struct tap *t = c->taps, *next; t; t = next) {
		next = t->next;
		if (!t->gone && !t->listed)
			tap_gone(c, t);
	}
}

static void take_reply(struct capture *c, const struct opener_reply *m, const int *fds, unsigned n)
{
	struct tap *t;

	if (m->kind != OPENER_RINGS)
		for (unsigned i = 0; i < n; i++)
			close(fds[i]);
	switch (m->kind) {
	case OPENER_HELLO:
		list_begins(c);
		break;
	case OPENER_LINK:
		t = find_tap(c, m->ifindex);
		if (t && t->asked && !t->listed)
			ask(c, t); /* of one that died over it */
		link_told(c, m);
		break;
	case OPENER_LISTED:
		list_ends(c);
		break;
	case OPENER_GONE:
		t = find_tap(c, m->ifindex);
		if (t)
			tap_gone(c, t);
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
	if (c->renewing && opener_connect(c->opener) == 0)
		return watch_opener(c);
	log_tell(*c->opener->path ? LOG_LEVEL_WARN : LOG_LEVEL_ERR, LOG_ID_OPENER,
		 LOG_FIELDS({ "SYNFIND_STATE", "gone" }),
		 *c->opener->path
			 ? "The opener is gone: looking for another"
			 : "The opener is gone: interfaces that come or go from now on are not seen");
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
		r = sd_event_add_time_relative(c->loop, &c->retry, CLOCK_MONOTONIC, RETRY_USEC, 0, on_retry, c);
	return r < 0 ? log_errno(r, "Cannot watch the opener") : 0;
}

/* ---- the end -------------------------------------------------------------------------------- */

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
		if (t->turning)
			turns_end(c, t);
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
		if (wanted_is_pattern(*w) || name_known(c, *w))
			continue;
		log_error("Cannot capture on '%s': there is no such interface", *w);
		return -ENODEV;
	}
	return 0;
}

static bool any_asked(const struct capture *c)
{
	for (const struct tap *t = c->taps; t; t = t->next)
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
		  struct publisher *publisher, struct opener *opener, struct store *store)
{
	int r;

	*c = (struct capture){ .o = o, .loop = loop, .publisher = publisher, .opener = opener,
			       .store = store, .starting = true };
	publisher->on_wake = on_wake;
	publisher->ifaces = iface_names;
	publisher->arg = c;
	adopt_taps(c);
	r = await_rings(c);
	if (r < 0)
		return r;
	c->starting = false;
	r = check_named(c);
	if (r < 0)
		return r;
	if (!c->taps)
		log_warn("No interface matches yet: waiting for one");
	return watch_opener(c);
}

void capture_reload(struct capture *c)
{
	for (struct tap *t = c->taps; t; t = t->next)
		for (unsigned i = 0; i < t->decoders; i++)
			if (decoder_configure(t->decoder[i], c->o) < 0)
				log_error("No memory for the limits of '%s': they stay as they were", t->name);
	ask_anew(c);
}

void capture_stop(struct capture *c)
{
	c->stopping = true;
	for (struct tap *t = c->taps; t; t = t->next)
		if (t->decoders)
			tap_stop(t);
	on_wake(c); /* there may be none */
}

void capture_pause(struct capture *c)
{
	c->stopping = true;
	for (struct tap *t = c->taps; t; t = t->next) {
		for (unsigned i = 0; i < t->decoders; i++)
			atomic_store(&t->decoder[i]->paused, true);
		if (t->decoders)
			tap_stop(t);
		for (unsigned i = 0; i < t->decoders; i++)
			decoder_join(t->decoder[i]);
		add_totals(&c->totals, t);
	}
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
	sd_event_source_disable_unref(c->opener_io);
	sd_event_source_disable_unref(c->retry);
	*c = (struct capture){ 0 };
}
