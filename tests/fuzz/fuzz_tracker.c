/* Segments as octets, in a small world of 4-tuples and numbers, against a small table.  The oracle
 * is what holds of every stream of events: one open and one close per flow, states only along
 * edges that an endpoint can take, no event out of turn, counts that agree; and a listing has what
 * is open by the events. */
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include "flow/event.h"
#include "flow/listing.h"
#include "flow/origin.h"
#include "flow/tracker.h"
#include "wire/segment.h"

enum { FLOWS = 4096, MAX_FULL = 24, MAX_SYN = 12 };

struct flow_seen {
	uint64_t id;
	uint8_t state[2];
	bool closed;
};

struct oracle {
	struct event_sink sink;
	struct event e;
	struct flow_seen seen[FLOWS];
	unsigned n, open;
	uint64_t refuse; /* bits: which reserve() finds no room */
	unsigned asked, refused;
	unsigned floods;
};

#define must(x)                                                                                    \
	do {                                                                                       \
		if (!(x))                                                                          \
			abort();                                                                   \
	} while (0)

static struct event *sink_reserve(struct event_sink *s)
{
	struct oracle *o = (struct oracle *)s;

	if (o->refuse >> (o->asked++ & 63) & 1) {
		o->refused++;
		return NULL;
	}
	memset(&o->e, 0xee, sizeof o->e); /* what is not set shows */
	return &o->e;
}

static struct flow_seen *find(struct oracle *o, uint64_t id)
{
	for (unsigned i = o->n; i--;)
		if (o->seen[i].id == id)
			return &o->seen[i];
	return NULL;
}

static void check_common(const struct event *e)
{
	must(e->kind < EVENT_KINDS && (e->ip_v == 4 || e->ip_v == 6));
	must(e->segment < SEGMENTS && e->basis < BASES && e->direction_basis < DIRECTIONS);
	for (unsigned i = 0; i < 2; i++)
		must(e->state[i] < TCPS_STATES && e->prev_state[i] < TCPS_STATES);
}

static void check_close(const struct event *e)
{
	must(e->close.reason < REASONS && e->close.closed_by < CLOSED_BYS);
	must(e->close.teardown < TEARDOWNS && e->close.conn_state < CONN_STATES);
	must(e->close.end_ns >= e->close.start_ns);
	for (unsigned i = 0; i < 2; i++)
		must(e->close.bytes[i] >= e->close.payload[i]);
	must(e->close.pkts[0] + e->close.pkts[1] > 0);
}

static void check_flood(struct oracle *o, const struct event *e)
{
	uint64_t ends = e->flood.half_open;

	must(e->flood.phase < SYNFLOOD_PHASES && e->flood.shares == 1 &&
	     e->flood.half_open <= MAX_SYN);
	must(e->ts_ns >= e->flood.started_ns);
	for (unsigned i = SYNFLOOD_COMPLETED; i < SYNFLOOD_COUNTS; i++)
		ends += e->flood.count[i];
	must(e->flood.count[SYNFLOOD_ATTEMPTS] == ends);
	o->floods += e->flood.phase == SYNFLOOD_BEGIN;
	o->floods -= e->flood.phase == SYNFLOOD_END;
}

static void sink_commit(struct event_sink *s)
{
	struct oracle *o = (struct oracle *)s;
	const struct event *e = &o->e;
	struct flow_seen *f;

	if (e->kind == EVENT_SYN_FLOOD) {
		check_flood(o, e);
		return;
	}
	check_common(e);
	if (o->refused) /* a stream with gaps: each event by itself only */
		return;
	f = find(o, e->flow_id);
	if (e->kind == EVENT_TCP_OPEN) {
		/* An entry that was given up, or one that is over, leaves no trace: the same SYN in
		 * the same nanosecond is then the same flow. */
		must((!f || f->closed) && o->n < FLOWS);
		f = &o->seen[o->n++];
		*f = (struct flow_seen){ .id = e->flow_id };
		o->open++;
	} else {
		must(f && !f->closed);
		if (e->kind != EVENT_TCP_ANOMALY)
			must(!memcmp(f->state, e->prev_state, 2));
		else
			must(!memcmp(f->state, e->state, 2));
	}
	if (e->kind == EVENT_TCP_STATE || e->kind == EVENT_TCP_ESTABLISHED)
		must(memcmp(e->state, e->prev_state, 2));
	if (e->kind == EVENT_TCP_CLOSE) {
		check_close(e);
		f->closed = true;
		o->open--;
	}
	memcpy(f->state, e->state, 2);
}

static void check_listing(struct oracle *o, const struct tracker *t)
{
	unsigned rows = 0;

	for (uint32_t cursor = 0; cursor != LISTING_END;) {
		struct event e[8];
		unsigned n = listing_read(t, &cursor, e, 8);

		rows += n;
		while (n--) {
			struct flow_seen *f = find(o, e[n].flow_id);

			check_common(&e[n]);
			must(o->refused || (f && !f->closed && !memcmp(f->state, e[n].state, 2)));
		}
	}
	must(o->refused || rows == o->open);
}

static const uint8_t *take(const uint8_t **p, size_t *n, size_t want)
{
	const uint8_t *at = *p;

	if (*n < want)
		return NULL;
	*p += want;
	*n -= want;
	return at;
}

/* Twelve octets of input make a segment near the numbers that are in play. */
static void make_segment(const uint8_t *b, uint64_t *now, const uint32_t isn[2], struct segment *s)
{
	static const uint32_t near[8] = {
		0, 1, 2, 100, 65536, 0x7fffffff, 0x80000000u, 0xffffffffu
	};
	static uint8_t mss[] = { 2, 4, 5, 0xb4, 1, 3, 3, 7, 8, 10, 0, 0, 0, 1, 0, 0, 0, 0 };
	bool back = b[0] & 1;
	uint8_t a = b[0] >> 2 & 3, z = b[0] >> 4 & 3;

	*now += (uint64_t)b[9] << (b[10] % 34); /* now and then minutes, now and then nothing */
	memset(s, 0, sizeof *s);
	/* Back in time, but never to the same nanosecond: that would be the same flow again. */
	s->ts_ns = b[11] & 0x80 ? *now - ((uint64_t)b[11] << 28) : *now;
	*now += b[11] >> 7;
	s->ip_v = b[0] & 2 ? 6 : 4;
	s->src[3] = back ? z : a;
	s->dst[3] = back ? a : z;
	s->sport = back ? 80 : (uint16_t)(80 + (b[0] >> 6));
	s->dport = back ? (uint16_t)(80 + (b[0] >> 6)) : 80;
	s->flags = b[1];
	s->seq = isn[back] + b[2] * (b[3] & 1) + near[b[3] >> 1 & 7];
	s->ack = isn[!back] + b[4] * (b[5] & 1) + near[b[5] >> 1 & 7];
	s->payload_len = b[6] & 0x80 ? 0 : b[6] & 0x40 ? 1448u * (b[6] & 63) : b[6];
	s->window = (uint16_t)(b[7] << 8 | b[8]);
	s->wire_segs = 1;
	s->wire_len = 54 + s->payload_len;
	s->options = (struct span){ mss, 0 };
	if (b[11] & 1)
		s->options.n = sizeof mss;
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
	static _Alignas(4096) uint8_t memory[1 << 23], numbers[1 << 23];
	static struct origins origins;
	static struct oracle o;
	static struct tracker_counters count;
	struct tracker_config cfg = { .max_connections = MAX_FULL,
				      .max_half_open = MAX_SYN,
				      .timeout_ns = { 3000000000u, 3000000000u, 60000000000u,
						      60000000000u, 10000000000u, 6000000000u,
						      1000000000u },
				      .stuck_ns = { 1000000000u, 2000000000u, 30000000000u },
				      .flood_rate = 1,
				      .flood_interval_ns = 2000000000,
				      .anomalies_per_connection = 8,
				      .anomalies_per_second = 100 };
	uint64_t now = 1700000000000000000u;
	const uint8_t *head = take(&p, &n, 9), *b;

	if (!head)
		return 0;
	must(tracker_memory(&cfg) <= sizeof memory);
	madvise(memory, sizeof memory, MADV_DONTNEED); /* zeroes, but for a few pages at no cost */
	memset(&count, 0, sizeof count);
	o = (struct oracle){ .sink = { .reserve = sink_reserve, .commit = sink_commit } };
	if (head[8] & 1)
		memcpy(&o.refuse, head, sizeof o.refuse);

	cfg.recorded = true;			/* the times of a file, which may come again */
	cfg.flood_half_open = head[8] >> 1 & 7; /* 0: off; MAX_SYN / 4 is the most */
	if (head[8] & 0x10) {			/* segments of four interfaces */
		must(origins_memory() <= sizeof numbers);
		madvise(numbers, sizeof numbers, MADV_DONTNEED);
		origins_init(&origins, numbers, &cfg.secret, NULL);
		origins.limit = head[8] & 0x20 ? ORIGIN_FIRST + 1 : ORIGINS_DEDUPED;
		cfg.origins = &origins;
	}
	struct tracker *t = tracker_new(&cfg, memory, &o.sink, &count);
	uint32_t isn[2] = { 0xffffff00u, 1000 };

	must(t);
	while ((b = take(&p, &n, 12)) && o.n < FLOWS - 8) {
		struct segment s;

		make_segment(b, &now, isn, &s);
		if (cfg.origins)
			s.iface = b[11] >> 4 & 3;
		if (b[1] & 0x40) { /* another incarnation's numbers from here on */
			isn[0] += b[2] << 16;
			isn[1] += b[4] << 20;
		}
		tracker_input(t, &s, 1);
		must(counter_get(&count.syn_entries) <= MAX_SYN &&
		     counter_get(&count.full_entries) <= MAX_FULL);
		if (!(n & 15))
			check_listing(&o, t);
	}
	check_listing(&o, t);
	tracker_close_all(t, REASON_CAPTURE_END);
	must(counter_get(&count.opened) == counter_get(&count.closed));
	must(!o.floods || o.refused);
	must(!counter_get(&count.floods));
	must(counter_get(&count.suppressed) <= counter_get(&count.deferred));
	must(!counter_get(&count.syn_entries) && !counter_get(&count.full_entries));
	for (unsigned i = 0; i < FSM_STATES; i++)
		must(!counter_get(&count.states[i]));
	for (unsigned i = 0; i < o.n && !o.refused; i++)
		must(o.seen[i].closed);
	tracker_free(t);
	return 0;
}
