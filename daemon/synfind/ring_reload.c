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

static bool wants_others(const struct capture *c, const struct interface *iface)
{
	uint64_t wants = decoder_state_wants(c->o);

	if (!iface->gone && c->o->mode != MODE_AUTO)
		for (unsigned i = 0; i < iface->decoders; i++)
			if (decoder_state_current_ring(&iface->decoder[i]->state)->wants != wants)
				return true;
	return false;
}

void ring_reload_ask(struct capture *c, struct interface *iface)
{
	const struct decoder_share *share;

	if (iface->switching || !wants_others(c, iface))
		return;
	share = &iface->decoder[0]->share;
	iface->wanted = decoder_state_wants(c->o);
	iface->reloading = true;
	opener_ask(c->opener, OPENER_OPEN, iface->ifindex, share->known ? share->secret : 0);
}

static void log_ring_unchanged(const struct interface *iface, const char *why)
{
	log_error("%s keeps the ring that it has: %s", iface->name, why);
}

/* Each connection must come to the decoder that has it. */
static const char *unfit(const struct interface *iface, const struct opener_reply *m)
{
	const struct decoder_share *share = &iface->decoder[0]->share;

	if (m->bypass || m->control != share->control)
		return "the opener has another mode, which counts from the next start on";
	if (m->rings != iface->decoders)
		return "there are to be as many rings as decoders";
	if (m->rings > 1 &&
	    (m->by_program != share->known || (share->known && m->secret != share->secret)))
		return "connections would be dealt out otherwise";
	return NULL;
}

/* The decoder goes over to it; takes the descriptor over, also on failure. */
static int switch_decoder(struct capture *c, struct interface *iface, const struct opener_reply *m,
			  unsigned i, int fd)
{
	struct decoder_ring ring = interface_ring_of(c, m, i, fd);
	struct decoder *d = iface->decoder[i];
	struct source *source;
	int r = afring_map(fd, &m->ring[i], NULL, &source);

	if (r < 0) {
		close(fd);
		return r;
	}
	if (c->fdstore->live)
		r = fdstore_add(c->fdstore,
				interface_fdname(interface_ring_fdname[!d->state.head->current],
						 iface->id, i)
					.s,
				fd);
	if (r < 0) {
		source_free(source);
		return r;
	}
	iface->switching = true;
	decoder_switch_ring(d, source, &ring);
	return 0;
}

void ring_reload_rings(struct capture *c, struct interface *iface, const struct opener_reply *m,
		       const int *fds, unsigned n)
{
	bool stale = iface->wanted != decoder_state_wants(c->o); /* the next list is on its way */
	const char *why = unfit(iface, m);

	iface->reloading = false;
	if (why && !stale)
		log_ring_unchanged(iface, why);
	if (why || stale) {
		for (unsigned i = 0; i < n; i++)
			close(fds[i]);
		return;
	}
	for (unsigned i = 0; i < n; i++) {
		int r = switch_decoder(c, iface, m, i, fds[i]);

		if (r < 0)
			log_ring_unchanged(iface, strerror(-r));
	}
}

void ring_reload_end(struct capture *c, struct interface *iface)
{
	bool refused = false;

	for (unsigned i = 0; i < iface->decoders; i++) {
		int switching = atomic_load(&iface->decoder[i]->switching);

		if (switching == SWITCH_ASKED || switching == SWITCH_UNDER_WAY)
			return;
		refused |= switching == SWITCH_REFUSED;
	}
	for (unsigned i = 0; i < iface->decoders; i++) {
		struct decoder *d = iface->decoder[i];

		decoder_switched(d);
		fdstore_remove(c->fdstore,
			       interface_fdname(interface_ring_fdname[!d->state.head->current],
						iface->id, i)
				       .s);
	}
	iface->switching = false;
	if (refused)
		log_ring_unchanged(
			iface, "the clock was set, or there are too many frames; reload once more");
	else
		log_info("%s has its new ring", iface->name);
	if (iface->wanted != decoder_state_wants(c->o) &&
	    !c->stopping) /* there was a reload meanwhile */
		ring_reload_list(c);
}
