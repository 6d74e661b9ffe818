#include "synfind/decoder_state.h"
#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include "base/cc.h"
#include "base/layout.h"
#include "base/spsc.h"
#include "bpf/tcp_filter.h"
#include "common/options.h"
#include "flow/event.h"
#include "flow/origin.h"
#include "flow/tracker.h"
#include "synfind/ring_switch.h"

/* Changes with the members of the head up to ring, which every version can read.  `layout` covers
 * the rest. */
static const uint64_t decoder_state_magic = 0x73796e746162b001;

/* Raise it if kept memory changes its meaning but not its sizes, which layout_hash() covers. */
enum { LAYOUT_VERSION = 3 };

/* A transaction is a batch, or a step of at most STEP_EVENTS: rarely as much as 200 kB.  Unused
 * pages cost no memory. */
static const size_t undo_octets = 4 << 20;

static uint64_t layout_hash(void)
{
	const uint64_t values[] = {
		sizeof(struct decoder_state_head),
		LAYOUT_MEMBER(struct decoder_state_head, current),
		LAYOUT_MEMBER(struct decoder_state_head, link_report_seq),
		LAYOUT_MEMBER(struct decoder_state_head, link_slots),
		LAYOUT_MEMBER(struct decoder_state_head, rescue),
		LAYOUT_MEMBER(struct decoder_state_head, segments),
		sizeof(struct decoder_progress),
		LAYOUT_MEMBER(struct decoder_progress, count),
		LAYOUT_MEMBER(struct decoder_progress, number),
		LAYOUT_MEMBER(struct decoder_progress, at),
		LAYOUT_MEMBER(struct decoder_progress, pending),
		sizeof(struct event),
		LAYOUT_MEMBER(struct event, number),
		LAYOUT_MEMBER(struct event, ts_ns),
		LAYOUT_MEMBER(struct event, kind),
		EVENT_KINDS,
		sizeof(struct spsc_words),
		LAYOUT_MEMBER(struct spsc_words, tail),
		sizeof(struct undo_record),
		sizeof(struct stored_link),
		LAYOUT_MEMBER(struct stored_link, reported),
		LAYOUT_MEMBER(struct stored_link, frames),
		sizeof(struct ring_switch),
		LAYOUT_MEMBER(struct ring_switch, after_gap),
		origins_memory(),
		tracker_layout(),
	};

	return layout_fingerprint(LAYOUT_VERSION, values, ARRAY_SIZE(values));
}

/* Takes the next @octets of the memory. */
static void *part(uintptr_t *at, size_t octets)
{
	void *p = (void *)*at;

	*at += LINE_UP(octets);
	return p;
}

/* Without @memory the view has no log, and only its .octets are of use. */
void decoder_state_open(struct decoder_state *state, void *memory,
			const struct decoder_state_sizes *s, bool shared)
{
	struct tracker_config c = { .max_connections = s->max_connections,
				    .max_half_open = s->max_half_open };
	uintptr_t start = (uintptr_t)memory, at = start;

	*state = (struct decoder_state){ .memory = memory };
	state->head = part(&at, sizeof *state->head);
	state->progress = part(&at, sizeof *state->progress);
	state->events = part(&at, s->events ? SPSC_OCTETS(s->events, sizeof(struct event)) : 0);
	state->tracker = part(&at, tracker_memory(&c));
	state->origins = part(&at, origins_memory());
	state->links = part(&at, LINK_SLOTS * sizeof *state->links);
	state->ring_switch = part(&at, sizeof *state->ring_switch);
	if (shared && memory)
		undo_init(&state->undo, memory, at - start, (void *)at, undo_octets);
	state->octets = at - start + (shared ? undo_octets : 0);
}

size_t decoder_state_octets(const struct decoder_state_sizes *s, bool shared)
{
	struct decoder_state state;

	decoder_state_open(&state, NULL, s, shared);
	return state.octets;
}

int decoder_state_private(struct decoder_state *state, const struct decoder_state_sizes *s)
{
	void *memory = mmap(NULL, decoder_state_octets(s, false), PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (memory == MAP_FAILED)
		return -errno;
	decoder_state_open(state, memory, s, false);
	return 0;
}

void decoder_state_sign(struct decoder_state *state, const struct decoder_ring *ring)
{
	state->head->octets = state->octets;
	state->head->layout = layout_hash();
	state->head->ring[0] = *ring;
	state->head->current = 0;
	state->head->link_slots = 1;
	undo_order();
	state->head->magic = decoder_state_magic;
}

/* Earlier versions had nothing in these places. */
static void learn_shared(struct decoder_state_head *h)
{
	for (unsigned i = 0; i < ARRAY_SIZE(h->ring); i++)
		h->ring[i].geometry.shared = h->ring[i].share.shared = h->ring[i].ifindex < 0;
}

int decoder_state_map(struct decoder_state *state, int fd)
{
	const struct decoder_state_head *h;
	const struct decoder_share *share;
	struct stat st;
	void *p;

	*state = (struct decoder_state){ 0 };
	if (fstat(fd, &st) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode) || (uint64_t)st.st_size < sizeof *h)
		return -EBADMSG;
	p = mmap(NULL, (size_t)st.st_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (p == MAP_FAILED)
		return -errno;
	h = p;
	*state = (struct decoder_state){ .memory = p, .octets = (size_t)st.st_size, .head = p };
	if (h->magic == decoder_state_magic && h->octets == state->octets &&
	    h->current < ARRAY_SIZE(h->ring)) {
		learn_shared(p);
		share = &h->ring[h->current].share;
		if (share->of <= AFRING_GROUP_MAX && share->index < share->of)
			return 0;
	}
	decoder_state_close(state);
	return -EBADMSG;
}

bool decoder_state_adopt(struct decoder_state *state, const struct decoder_state_sizes *s,
			 bool crashed)
{
	if (state->head->layout != layout_hash() ||
	    decoder_state_octets(s, true) != state->octets ||
	    memcmp(&state->head->sizes, s, sizeof *s) != 0)
		return false;
	decoder_state_open(state, state->memory, s, true);
	state->step = rescue_adopt(&state->head->rescue, crashed);
	state->deaths = state->head->rescue.deaths;
	return undo_rollback(&state->undo) == 0 && state->step < RESCUE_NEW_MEMORY &&
	       state->head->current < ARRAY_SIZE(state->head->ring);
}

const struct rescue *decoder_state_rescue(const struct decoder_state *state)
{
	return state->head->layout == layout_hash() ? &state->head->rescue : NULL;
}

void decoder_state_copy_links(struct decoder_state *to, const struct decoder_state *mapped)
{
	const struct decoder_state_head *h = mapped->head;
	struct decoder_state from;

	if (h->layout != layout_hash() || h->link_slots > LINK_SLOTS ||
	    decoder_state_octets(&h->sizes, true) != mapped->octets)
		return;
	decoder_state_open(&from, mapped->memory, &h->sizes, true);
	to->head->link_slots = h->link_slots;
	memcpy(to->links, from.links, h->link_slots * sizeof *from.links);
}

void decoder_state_close(struct decoder_state *state)
{
	if (state->memory)
		munmap(state->memory, state->octets);
	*state = (struct decoder_state){ 0 };
}

uint64_t decoder_state_wants(const struct options *o)
{
	uint64_t v = layout_add(decoder_state_fixed(o), options_inner(o));

	v = layout_add(v, TCP_FILTER_VERSION);
	for (const char *s = o->filter; s && *s; s++)
		v = layout_add(v, (unsigned char)*s);
	v = layout_add(v, o->promiscuous);
	v = layout_add(v, o->ring_size_bytes);
	v = layout_add(v, o->ring_block_size_bytes);
	return layout_add(v, o->block_timeout_ns);
}

uint64_t decoder_state_fixed(const struct options *o)
{
	return layout_add(layout_add(0, o->mode), o->decoders);
}

uint64_t decoder_state_cookie(int fd)
{
	uint64_t cookie = 0;
	socklen_t n = sizeof cookie;

	return getsockopt(fd, SOL_SOCKET, SO_COOKIE, &cookie, &n) < 0 ? 0 : cookie;
}
