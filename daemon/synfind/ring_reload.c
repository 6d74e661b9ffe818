#include "source/source.h"
#include "synfind/ring_reload.h"
#include "synfind/bypassfilter.h"
#include <string.h>
#include <unistd.h>
#include "common/log.h"
#include "common/options.h"
#include "source/afring.h"
#include "synfind/decoder.h"
#include "synfind/decoder_state.h"
#include "synfind/opener.h"
#include "synfind/fdstore.h"
#include "synfind/interface.h"

/* An opener opens each interface once, so a new one is needed.  ring_reload_ask() then follows its
 * list. */
void ring_reload_list(struct capture *c)
{
	c->reloading = c->listed;
	opener_ask(c->opener, OPENER_AGAIN, 0, 0);
}

void ring_reload_ask(struct capture *c, struct interface *iface)
{
	uint64_t wants = decoder_state_wants(c->o);
	const struct decoder_share *share;
	bool changed = false;

	/* During a switch the decoder's thread changes which ring is the current one. */
	if (iface->switching || iface->gone)
		return;
	for (unsigned i = 0; i < iface->decoders; i++)
		changed |= decoder_state_current_ring(&iface->decoder[i]->state)->wants != wants;
	if (!changed)
		return;
	share = &iface->decoder[0]->pipeline.share;
	iface->wanted = wants;
	iface->reloading = true;
	opener_ask(c->opener, OPENER_OPEN, iface->ifindex, share->known ? share->secret : 0);
}

/* Each connection must stay with its decoder. */
static const char *unfit(const struct interface *iface, const struct opener_reply *m)
{
	const struct decoder_share *share = &iface->decoder[0]->pipeline.share;

	if ((m->mode == MODE_AUTO) != !!iface->decoder[0]->bypass ||
	    (m->mode == MODE_CONTROL) != share->control)
		return "the opener has another mode, which takes effect at the next start";
	if (m->rings != iface->decoders)
		return "the number of rings and decoders differs";
	if (m->rings > 1 &&
	    (m->by_program != share->known || (share->known && m->secret != share->secret)))
		return "connections would move to other decoders";
	return NULL;
}

/* Starts a decoder's switch to ring @i of the reply; owns its descriptors, also on failure. */
static int switch_decoder(struct capture *c, struct interface *iface, const struct opener_reply *m,
			  unsigned i, const int *fds)
{
	struct decoder_ring ring = interface_ring_of(c, m, i, fds[i]);
	struct source *source = NULL;
	struct bypass_filter *bypass;
	int r = interface_take_filter(c, m, i, fds, &bypass);

	if (r >= 0)
		r = afring_map(fds[i], &m->ring[i], NULL, &source);
	if (r < 0) {
		bypass_filter_free(bypass);
		close(fds[i]);
		return r;
	}
	if (c->fdstore->live && !bypass)
		r = fdstore_add(c->fdstore, interface_spare_fdname(iface, i).s, fds[i]);
	if (r < 0) {
		source_free(source);
		return r;
	}
	iface->switching = true;
	decoder_switch_ring(iface->decoder[i], source, bypass, &ring);
	return 0;
}

void ring_reload_rings(struct capture *c, struct interface *iface, const struct opener_reply *m,
		       const int *fds, unsigned n)
{
	bool stale = iface->wanted != decoder_state_wants(c->o); /* a new list will come */
	const char *why = unfit(iface, m);

	iface->reloading = false;
	if (why && !stale)
		log_error("%s keeps its old ring: %s", iface->name, why);
	if (why || stale) {
		opener_close_fds(fds, n);
		return;
	}
	for (unsigned i = 0; i < m->rings; i++) {
		int r = switch_decoder(c, iface, m, i, fds);

		if (r < 0)
			log_error("%s keeps its old ring: %s", iface->name, strerror(-r));
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
		decoder_switched(iface->decoder[i]);
		fdstore_remove(c->fdstore, interface_spare_fdname(iface, i).s);
	}
	iface->switching = false;
	if (refused)
		log_error("%s keeps its old ring: the clock was changed; reload again",
			  iface->name);
	else
		log_info("%s has its new ring", iface->name);
	/* There was another reload meanwhile. */
	if (iface->wanted != decoder_state_wants(c->o) && !c->stopping)
		ring_reload_list(c);
}
