#include "synfind/ring_reload.h"
#include <string.h>
#include <unistd.h>
#include "common/log.h"
#include "common/options.h"
#include "source/afring.h"
#include "synfind/decoder.h"
#include "synfind/opener.h"
#include "synfind/fdstore.h"
#include "synfind/interface.h"

/* Each opener can be asked once; and the daemon does, when it lists the interface. */
void ring_reload_list(struct capture *c)
{
	c->reloading = c->listed;
	opener_ask(c->opener, OPENER_AGAIN, 0, 0);
}

static bool wants_others(const struct capture *c, const struct interface *t)
{
	uint64_t wants = decoder_state_wants(c->o);

	if (!t->gone && c->o->mode != MODE_AUTO)
		for (unsigned i = 0; i < t->decoders; i++)
			if (decoder_state_ring(&t->decoder[i]->state)->wants != wants)
				return true;
	return false;
}

void ring_reload_ask(struct capture *c, struct interface *t)
{
	const struct decoder_share *share;

	if (t->switching || !wants_others(c, t))
		return;
	share = &t->decoder[0]->share;
	t->wanted = decoder_state_wants(c->o);
	t->reloading = true;
	opener_ask(c->opener, OPENER_OPEN, t->ifindex, share->known ? share->secret : 0);
}

static void say_old_rings_stay(const struct interface *t, const char *why)
{
	log_error("%s keeps the ring that it has: %s", t->name, why);
}

/* Each connection must come to the decoder that has it. */
static const char *unfit(const struct interface *t, const struct opener_reply *m)
{
	const struct decoder_share *share = &t->decoder[0]->share;

	if (m->mode == MODE_AUTO || (m->mode == MODE_CONTROL) != share->control)
		return "the opener has another mode, which counts from the next start on";
	if (m->rings != t->decoders)
		return "there are to be as many rings as decoders";
	if (m->rings > 1 &&
	    (m->by_program != share->known || (share->known && m->secret != share->secret)))
		return "connections would be dealt out otherwise";
	return NULL;
}

/* The decoder goes over to it; takes the descriptor over, also on failure. */
static int switch_decoder(struct capture *c, struct interface *t, const struct opener_reply *m,
			  unsigned i, int fd)
{
	struct decoder_ring ring = interface_ring_of(c, m, i, fd);
	struct decoder *d = t->decoder[i];
	struct source *source;
	int r = afring_map(fd, &m->ring[i], NULL, &source);

	if (r < 0) {
		close(fd);
		return r;
	}
	if (c->fdstore->live)
		r = fdstore_put(
			c->fdstore,
			interface_stored(interface_ring_name[!d->state.head->current], t->id, i).s,
			fd);
	if (r < 0) {
		source_free(source);
		return r;
	}
	t->switching = true;
	decoder_switch_ring(d, source, &ring);
	return 0;
}

void ring_reload_rings(struct capture *c, struct interface *t, const struct opener_reply *m,
		       const int *fds, unsigned n)
{
	bool stale = t->wanted != decoder_state_wants(c->o); /* the next list is on its way */
	const char *why = unfit(t, m);

	t->reloading = false;
	if (why && !stale)
		say_old_rings_stay(t, why);
	if (why || stale) {
		for (unsigned i = 0; i < n; i++)
			close(fds[i]);
		return;
	}
	for (unsigned i = 0; i < n; i++) {
		int r = switch_decoder(c, t, m, i, fds[i]);

		if (r < 0)
			say_old_rings_stay(t, strerror(-r));
	}
}

void ring_reload_end(struct capture *c, struct interface *t)
{
	bool refused = false;

	for (unsigned i = 0; i < t->decoders; i++) {
		int switching = atomic_load(&t->decoder[i]->switching);

		if (switching == SWITCH_ASKED || switching == SWITCH_UNDER_WAY)
			return;
		refused |= switching == SWITCH_REFUSED;
	}
	for (unsigned i = 0; i < t->decoders; i++) {
		struct decoder *d = t->decoder[i];

		decoder_switched(d);
		fdstore_remove(
			c->fdstore,
			interface_stored(interface_ring_name[!d->state.head->current], t->id, i).s);
	}
	t->switching = false;
	if (refused)
		say_old_rings_stay(
			t, "the clock was set, or there are too many frames; reload once more");
	else
		log_info("%s has its new ring", t->name);
	if (t->wanted != decoder_state_wants(c->o) &&
	    !c->stopping) /* there was a reload meanwhile */
		ring_reload_list(c);
}
