#include "synfind/ring_switch.h"
#include <stddef.h>
#include <string.h>
#include "base/hash.h"
#include "base/undo.h"

/* Measured on a busy machine of two processors: 165 us. */
static const uint64_t window_ns = 10000000;

/* How far stamps in one ring may go back: frames of several processors. */
static const uint64_t disorder_ns = 1000000;

/* The kernel's timer may retire a block this much later than its timeout. */
static const uint64_t timer_late_ns = 100000000;

enum { HASHED_OCTETS = 128 }; /* include the inner TCP header of most tunnels */

/* Both filters copy the same octets of a frame that both pass (bpf/tcp_filter.h). */
static uint64_t hash_of(const struct frame *f)
{
	static const struct hash_key key = { { 0x9e3779b97f4a7c15, 0xd1b54a32d192ed03 } };
	uint64_t w[2 + HASHED_OCTETS / 8] = { f->len, (uint64_t)f->has_vlan << 16 | f->vlan_tci };

	memcpy(w + 2, f->data, f->caplen < HASHED_OCTETS ? f->caplen : HASHED_OCTETS);
	return hash_words(&key, w, sizeof w / sizeof *w);
}

static uint64_t ns_between(uint64_t a, uint64_t b)
{
	return a > b ? a - b : b - a;
}

static bool stepped(const struct ring_switch *s, struct ring_switch_clock now)
{
	return ns_between(now.real, s->since.real + (now.monotonic - s->since.monotonic)) >
	       window_ns / 2;
}

void ring_switch_begin(struct ring_switch *s, struct ring_switch_clock now,
		       uint64_t block_timeout_ns)
{
	memset(s, 0, RING_SWITCH_SCALARS);
	s->since = now;
	s->latency_ns = timer_late_ns + 4 * block_timeout_ns;
	s->phase = RING_SWITCH_OLD;
}

void ring_switch_had(struct ring_switch *s, const struct frame *f)
{
	if (f->ts_ns > s->newest_ns)
		s->newest_ns = f->ts_ns;
	if (f->ts_ns < s->since.real || s->full)
		return; /* a cut is at least 3 windows later */
	if (s->records == RING_SWITCH_RECORDS) {
		s->full = true;
		return;
	}
	s->record[s->records++] =
		(struct ring_switch_record){ .hash = hash_of(f), .ts_ns = f->ts_ns };
}

enum ring_switch_verdict ring_switch_cut(struct ring_switch *s, struct ring_switch_clock now,
					 bool empty)
{
	uint64_t cut = s->newest_ns;

	if (s->full || stepped(s, now)) {
		s->phase = RING_SWITCH_NONE;
		return RING_SWITCH_IMPOSSIBLE;
	}
	/* An older frame would have been read. */
	if (empty && cut < now.real - s->latency_ns)
		cut = now.real - s->latency_ns;
	if (cut < s->since.real + 4 * window_ns)
		return RING_SWITCH_WAIT;
	/* Build the hash chains, oldest record first. */
	memset(s->head, 0, sizeof s->head);
	for (uint32_t i = s->records; i; i--) {
		uint32_t *head = &s->head[s->record[i - 1].hash % RING_SWITCH_HEADS];

		s->record[i - 1].next = *head;
		*head = i;
	}
	s->cut_ns = cut;
	s->until_ns = now.monotonic + s->latency_ns + 2 * window_ns;
	s->phase = RING_SWITCH_NEW;
	return RING_SWITCH_CUT;
}

/* Finds an equal frame of about that time on record and marks it used.  It takes the nearest one,
 * so that a wrong match among equal frames does not shift all later ones. */
static bool record_match(struct ring_switch *s, struct undo *u, const struct frame *f)
{
	uint64_t hash = hash_of(f), nearest = window_ns + 1;
	uint32_t *head = &s->head[hash % RING_SWITCH_HEADS];
	struct ring_switch_record *found = NULL;
	uint32_t first = *head;

	/* Unlink used and expired records at the start of a chain, which many equal frames would
	 * make long. */
	while (first &&
	       (s->record[first - 1].used || s->record[first - 1].ts_ns + 2 * window_ns < f->ts_ns))
		first = s->record[first - 1].next;
	if (first != *head) {
		undo_save(u, head, sizeof *head);
		*head = first;
	}
	for (uint32_t i = first; i; i = s->record[i - 1].next) {
		struct ring_switch_record *r = &s->record[i - 1];

		if (r->ts_ns > f->ts_ns + nearest + disorder_ns)
			break;
		if (r->used || r->hash != hash || ns_between(r->ts_ns, f->ts_ns) >= nearest)
			continue;
		found = r;
		nearest = ns_between(r->ts_ns, f->ts_ns);
	}
	if (!found)
		return false;
	undo_save(u, &found->used, sizeof found->used);
	found->used = 1;
	return true;
}

bool ring_switch_leaves_out(struct ring_switch *s, struct undo *u, const struct frame *f)
{
	if (f->ts_ns > s->newest_ns)
		s->newest_ns = f->ts_ns;
	if (f->ts_ns > s->cut_ns + window_ns)
		return false;
	if (f->ts_ns < s->since.real) /* these are not on record */
		return true;
	return record_match(s, u, f) || f->ts_ns <= s->cut_ns - window_ns;
}

bool ring_switch_over(struct ring_switch *s, struct ring_switch_clock now, bool empty)
{
	bool over = s->newest_ns > s->cut_ns + 3 * window_ns ||
		    (empty && now.monotonic >= s->until_ns) || stepped(s, now);

	if (over)
		s->phase = RING_SWITCH_NONE;
	return over;
}
