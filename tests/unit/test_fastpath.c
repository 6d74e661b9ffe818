/* The tracker's short ways beside the general one: two trackers, one with tracker_config.slow_only,
 * are fed the same, and must report the same, count the same, and leave the same in their tables.
 * Traffic is mostly as the textbook has it, since that is what the short ways take; now and then
 * something is wrong with a segment. */
#include <string.h>
#include "base/cc.h"
#include "flow/tracker.h"
#include "flow/tracker_state.h"
#include "tests/support/rand.h"
#include "tests/support/tap.h"
#include "wire/segment.h"

static const uint64_t ms = 1000000, second = 1000000000, start_ns = 1700000000000000000;

enum { EVENTS = 4096, TALKS = 40, FREE_OCTETS = 12 /* of an entry that is free, kept */ };

/* ---- two trackers ---------------------------------------------------------------------------- */

struct rig {
	struct event_sink sink; /* first */
	struct tracker_counters count;
	struct tracker *t;
	void *memory;
	struct event event[EVENTS];
	unsigned n, asked, refuse_each; /* 0: none is refused */
};

static struct event *rig_reserve(struct event_sink *s)
{
	struct rig *r = (struct rig *)s;

	if (r->refuse_each && ++r->asked % r->refuse_each == 0)
		return NULL;
	if (r->n == EVENTS)
		abort();
	return memset(&r->event[r->n], 0xa5, sizeof *r->event);
}

static void rig_commit(struct event_sink *s)
{
	((struct rig *)s)->n++;
}

static size_t table_octets(const struct tracker_config *c)
{
	return (tracker_memory(c) + CACHE_LINE - 1) / CACHE_LINE * CACHE_LINE;
}

static struct rig *rig_new(struct tracker_config c, bool slow_only, unsigned refuse_each)
{
	struct rig *r = calloc(1, sizeof *r);

	r->sink = (struct event_sink){ .reserve = rig_reserve, .commit = rig_commit };
	r->refuse_each = refuse_each;
	c.slow_only = slow_only;
	r->memory = aligned_alloc(CACHE_LINE, table_octets(&c));
	memset(r->memory, 0, table_octets(&c));
	r->t = tracker_new(&c, r->memory, &r->sink, &r->count);
	return r;
}

static void rig_free(struct rig *r)
{
	tracker_free(r->t);
	free(r->memory);
	free(r);
}

/* ---- traffic --------------------------------------------------------------------------------- */

struct talk { /* of two ends, as they see it */
	uint16_t port;
	uint8_t ip_v, step, vlans;
	bool fin[2], scale;
	uint32_t next[2], rcvd[2]; /* of each: its next number, and how far the peer has received */
	uint64_t gone;		   /* segments in this connection */
};

static uint8_t options_room[TRACKER_BATCH][40];

static struct span options_of(unsigned i, const struct talk *k, bool syn)
{
	uint8_t *p = options_room[i];
	size_t n = 0;

	if (syn) {
		if (below(8)) {
			uint16_t mss = below(4) ? 1460 : (uint16_t)rand64();

			memcpy(p, (uint8_t[4]){ 2, 4, (uint8_t)(mss >> 8), (uint8_t)mss }, 4),
				n = 4;
		}
		if (below(3))
			memcpy(p + n, (uint8_t[2]){ 4, 2 }, 2), n += 2;
		if (k->scale && below(20))
			memcpy(p + n, (uint8_t[3]){ 3, 3, (uint8_t)below(16) }, 3), n += 3;
		if (!below(8))
			memcpy(p + n, (uint8_t[2]){ 34, 2 }, 2), n += 2;
		if (!below(8))
			memcpy(p + n, (uint8_t[4]){ 30, 4, 0, 0 }, 4), n += 4;
	}
	if (below(2)) {
		memcpy(p + n, (uint8_t[4]){ 1, 1, 8, 10 }, 4);
		for (unsigned b = 4; b < 12; b++)
			p[n + b] = (uint8_t)rand64();
		n += 12;
	}
	return (struct span){ p, n };
}

static void talk_begin(struct talk *k)
{
	*k = (struct talk){ .port = (uint16_t)(1000 + below(TALKS)),
			    .ip_v = below(4) ? 4 : 6,
			    .vlans = (uint8_t)(below(8) ? 0 : below(3)),
			    .scale = below(2),
			    .next = { (uint32_t)rand64(), (uint32_t)rand64() } };
	if (!below(3)) /* numbers that turn over */
		k->next[below(2)] = -below(3000);
}

static void address(struct segment *s, const struct talk *k, unsigned from)
{
	uint8_t *end[2] = { from ? s->dst : s->src, from ? s->src : s->dst };
	unsigned n = k->ip_v == 4 ? 4 : 16;

	memset(s->src, 0, sizeof s->src);
	memset(s->dst, 0, sizeof s->dst);
	for (unsigned i = 0; i < 2; i++) { /* which sorts first is not always the same one */
		end[i][0] = 10;
		end[i][n - 1] = (uint8_t)((k->port + i) & 1);
	}
	s->sport = from ? 80 : k->port;
	s->dport = from ? k->port : 80;
}

static struct segment said(struct talk *k, unsigned from, unsigned flags, uint32_t len)
{
	struct segment s = { .ip_v = k->ip_v,
			     .flags = (uint16_t)flags,
			     .window = (uint16_t)(200 + below(65000)),
			     .wire_segs = 1,
			     .seq = k->next[from],
			     .ack = flags & TCP_ACK ? k->next[!from] : 0,
			     .payload_len = len,
			     .nvlan = k->vlans,
			     .vlan = { 7, 8 } };

	if (flags & TCP_SYN && below(4) == 0)
		s.flags |= flags & TCP_ACK ? TCP_ECE : TCP_ECE | TCP_CWR;
	if (flags & TCP_ACK && !(flags & TCP_SYN) && !below(3)) /* what it has not yet received */
		s.ack = k->rcvd[!from];
	else if (flags & TCP_ACK)
		k->rcvd[!from] = k->next[!from];
	if (flags & TCP_SYN)
		k->rcvd[from] = k->next[from] + 1;
	k->next[from] += len + !!(flags & TCP_SYN) + !!(flags & TCP_FIN);
	k->fin[from] |= flags & TCP_FIN;
	address(&s, k, from);
	return s;
}

/* What the textbook has next. */
static struct segment go_on(struct talk *k)
{
	unsigned from = below(2);
	uint32_t len = below(2) ? 1 + below(1400) : 0;

	switch (k->step) {
	case 0:
		k->step++;
		return said(k, 0, TCP_SYN, below(60) ? 0 : 10);
	case 1:
		if (!below(12)) { /* the SYN once more */
			k->next[0]--;
			return said(k, 0, TCP_SYN, 0);
		}
		k->step++;
		return said(k, 1, below(30) ? TCP_SYN | TCP_ACK : TCP_SYN, 0);
	case 2:
		k->step++;
		return said(k, 0, TCP_ACK | (below(20) ? 0 : TCP_FIN), below(4) ? 0 : len);
	default:
		break;
	}
	if (k->fin[0] && k->fin[1]) {
		struct segment s = said(k, from, TCP_ACK, 0);

		if (!below(3))
			talk_begin(k);
		return s;
	}
	if (k->fin[from])
		return said(k, from, TCP_ACK, 0);
	if (!below(100))
		k->step = 100;
	bool fin = !below(k->fin[!from] ? 3 : 12);

	return said(k, from, TCP_ACK | (fin ? TCP_FIN : 0), len);
}

/* A SYN of a new client, and perhaps an answer, another SYN, the answer once more: then nothing. */
static struct segment flood_on(struct talk *k)
{
	struct segment s;

	if (k->step == 1 && !below(4)) {
		k->step = 2;
		return said(k, 1, below(8) ? TCP_SYN | TCP_ACK : TCP_RST | TCP_ACK, 0);
	}
	if (k->step == 2 && below(2)) {
		k->step = 3;
		s = said(k, 0, TCP_SYN, 0);
		k->next[0]--;
		s.seq += 1000000;
		return s;
	}
	if (k->step == 3) {
		k->step = 4;
		k->next[1]--;
		return said(k, 1, TCP_SYN | TCP_ACK, 0);
	}
	talk_begin(k);
	k->port = (uint16_t)rand64();
	k->step = 1;
	return said(k, 0, TCP_SYN, 0);
}

static void spoil(struct segment *s, struct talk *k)
{
	static const int32_t off[] = { -70000, -2000, -1, 1, 100, 70000, 1 << 30 };

	switch (below(13)) {
	case 0:
		s->seq += (uint32_t)off[below(ARRAY_SIZE(off))];
		break;
	case 1:
		s->ack += (uint32_t)off[below(ARRAY_SIZE(off))];
		break;
	case 2:
		s->flags ^= 1 << below(9);
		break;
	case 3:
		s->window = 0;
		break;
	case 4:
		s->payload_len = below(3) ? below(3) : 1u << below(32);
		break;
	case 5:
		s->wire_segs = (uint16_t)(1 + below(3));
		break;
	case 6:
		s->flags = TCP_RST | (below(2) ? TCP_ACK : 0);
		break;
	case 7:
		k->next[below(2)] += below(3000); /* something was lost */
		break;
	case 8:
		talk_begin(k); /* the 4-tuple of another one, maybe */
		break;
	case 9:
		s->flags = TCP_SYN;
		break;
	case 10: /* with itself */
		memcpy(s->dst, s->src, sizeof s->dst);
		s->dport = s->sport;
		break;
	case 11: { /* the other end says it */
		struct segment same = *s;

		memcpy(s->src, same.dst, sizeof s->src);
		memcpy(s->dst, same.src, sizeof s->dst);
		s->sport = same.dport;
		s->dport = same.sport;
		break;
	}
	default:
		s->iface ^= 1;
	}
}

/* ---- the comparison -------------------------------------------------------------------------- */

struct compared {
	uint64_t segments, events, in_state[FSM_STATES], suppressed;
	unsigned differ;
};

/* A copy of the table, in which nothing is left of entries that are gone. */
static void *table_of(const struct rig *r, const struct tracker_config *c)
{
	const size_t own = LINE_UP(sizeof(struct tracker)), octets = tracker_memory(c) - own;
	void *copy = aligned_alloc(CACHE_LINE, LINE_UP(octets));
	struct table t;

	memcpy(copy, (char *)r->memory + own, octets);
	if (!table_adopt(&t, copy, c->max_connections + TABLE_SPARE,
			 c->max_half_open + TABLE_SPARE))
		abort();
	for (unsigned p = SHAPE_FULL << 1; p < TABLE_POOLS; p++)
		for (uint32_t slot = 0; slot < t.head->pool[p].high; slot++) {
			table_ref ref = table_slot(p, slot);
			struct table_edit e = table_edit(&t, ref);

			if (table_live(&t, ref))
				continue;
			memset((char *)e.hot + FREE_OCTETS, 0, sizeof *e.hot - FREE_OCTETS);
			memset(e.cold, 0, sizeof *e.cold);
		}
	return copy;
}

static bool same_table(struct rig *const r[2], const struct tracker_config *c)
{
	const size_t own = LINE_UP(sizeof(struct tracker));
	void *table[2] = { table_of(r[0], c), table_of(r[1], c) };
	bool same = !memcmp(table[0], table[1], tracker_memory(c) - own);

	free(table[0]);
	free(table[1]);
	return same;
}

static void compare(struct rig *const r[2], const struct tracker_config *c, struct compared *ret)
{
	const struct tracker *a = r[0]->t, *b = r[1]->t;

	ret->differ +=
		r[0]->n != r[1]->n ||
		memcmp(r[0]->event, r[1]->event, r[0]->n * sizeof *r[0]->event) ||
		memcmp(&r[0]->count, &r[1]->count, sizeof r[0]->count) ||
		memcmp(&a->synflood_memory, &b->synflood_memory, sizeof a->synflood_memory) ||
		memcmp(a->waiting, b->waiting, sizeof a->waiting) ||
		(!below(20) && !same_table(r, c));
	for (unsigned i = 0; i < FSM_STATES; i++)
		ret->in_state[i] += counter_get(&r[0]->count.states[i]);
	ret->events += r[0]->n;
	ret->suppressed = counter_get(&r[0]->count.suppressed);
	r[0]->n = r[1]->n = 0;
}

static struct compared run(unsigned full, unsigned syn, unsigned spoiled_each, unsigned refuse_each,
			   unsigned flood, uint64_t segments)
{
	struct tracker_config c = { .max_connections = full,
				    .max_half_open = syn,
				    .anomalies_per_connection = 8,
				    .anomalies_per_second = 1000,
				    .flood_half_open = flood,
				    .flood_rate = 5,
				    .flood_interval_ns = 2 * second };
	struct talk *talk = calloc(TALKS, sizeof *talk), flooder = { 0 };
	struct segment s[TRACKER_BATCH];
	struct compared ret = { 0 };
	uint64_t now = start_ns;

	for (unsigned i = 0; i < ARRAY_SIZE(c.secret.k); i++)
		c.secret.k[i] = rand64();
	for (unsigned i = 0; i < FSM_TIMEOUTS; i++)
		c.timeout_ns[i] = (2 + 3 * i) * second;
	for (unsigned i = 0; i < TALKS; i++)
		talk_begin(&talk[i]);
	struct rig *r[2] = { rig_new(c, false, refuse_each), rig_new(c, true, refuse_each) };

	while (ret.segments < segments && !ret.differ) {
		unsigned n = 1 + below(TRACKER_BATCH);

		for (unsigned i = 0; i < n; i++) {
			bool flooding = flood && now / (20 * second) % 2 && below(3);
			struct talk *k = flooding ? &flooder : &talk[below(TALKS)];

			if (i && !below(60)) { /* once more */
				s[i] = s[i - 1];
			} else {
				s[i] = flooding ? flood_on(k) : go_on(k);
				s[i].options = options_of(i, k, s[i].flags & TCP_SYN);
				if (!below(spoiled_each))
					spoil(&s[i], k);
				s[i].wire_len = 54 + (uint32_t)s[i].options.n + s[i].payload_len;
				if (!below(50)) /* something after the packet */
					s[i].wire_len += below(400);
			}
			s[i].ts_ns = now;
			now += below(200) ? below(3 * ms) : below(3 * second);
			if (!below(100)) /* late, or a clock that was set */
				s[i].ts_ns -= below(2) ? below(50 * ms) : below(2 * second);
		}
		for (unsigned k = 0; k < 2; k++)
			tracker_input(r[k]->t, s, n);
		ret.segments += n;
		compare(r, &c, &ret);
	}
	for (unsigned k = 0; k < 2; k++)
		tracker_close_all(r[k]->t, REASON_CAPTURE_END);
	compare(r, &c, &ret);
	rig_free(r[0]);
	rig_free(r[1]);
	free(talk);
	return ret;
}

static void test_equal(const char *what, unsigned full, unsigned syn, unsigned spoiled_each,
		       unsigned refuse_each, unsigned flood)
{
	struct compared c = run(full, syn, spoiled_each, refuse_each, flood, 300000);
	unsigned seen = 0;

	for (unsigned i = FSM_SYN; i < FSM_STATES; i++)
		seen += c.in_state[i] > 0;
	ok(!c.differ, "%s: short ways and the general one tell, count and keep the same", what);
	printf("# %llu segments, %llu events, %u states\n", (unsigned long long)c.segments,
	       (unsigned long long)c.events, seen);
	ok(c.events > c.segments / 20 && seen >= 12, "%s: connections begin, go on and end", what);
	if (flood)
		ok(c.suppressed > c.segments / 100, "%s: %llu attempts of a flood end untold", what,
		   (unsigned long long)c.suppressed);
}

/* A SYN, the SYN once more, and a SYN-ACK that was seen between them but comes after them. */
static void test_late_answer(void)
{
	struct tracker_config c = { .max_connections = 8, .max_half_open = 8 };
	struct talk k = { 0 };
	struct segment s[3];

	for (unsigned i = 0; i < FSM_TIMEOUTS; i++)
		c.timeout_ns[i] = 10 * second;
	struct rig *r[2] = { rig_new(c, false, 0), rig_new(c, true, 0) };

	talk_begin(&k);
	s[0] = s[1] = said(&k, 0, TCP_SYN, 0);
	s[2] = said(&k, 1, TCP_SYN | TCP_ACK, 0);
	for (unsigned i = 0; i < 3; i++)
		s[i].wire_len = 54;
	s[0].ts_ns = start_ns;
	s[1].ts_ns = start_ns + 90 * ms; /* too early for a tcp_retry */
	s[2].ts_ns = start_ns + 50 * ms;
	for (unsigned i = 0; i < 2; i++)
		tracker_input(r[i]->t, s, 3);
	ok(r[0]->n == 2 && r[1]->n == 2 &&
		   !memcmp(r[0]->event, r[1]->event, 2 * sizeof *r[0]->event) && same_table(r, &c),
	   "a SYN-ACK from before the repeated SYN: told and kept the same");
	rig_free(r[0]);
	rig_free(r[1]);
}

int main(void)
{
	rng = tap_seed(1812);
	test_equal("textbook traffic", 1000, 1000, 1000000, 0, 0);
	test_equal("a segment in 100 spoiled", 1000, 1000, 100, 0, 0);
	test_equal("a segment in 5 spoiled", 1000, 1000, 5, 0, 0);
	test_equal("tables that are full", 12, 6, 30, 0, 0);
	test_equal("events that find no room", 30, 30, 30, 7, 0);
	test_equal("servers with many half-open", 1000, 1000, 100, 0, 2);
	test_equal("servers that fill the table", 1000, 12, 30, 0, 2);
	test_late_answer();
	return tap_done();
}
