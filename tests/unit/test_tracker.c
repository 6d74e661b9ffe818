#include <string.h>
#include "base/cc.h"
#include "flow/event_names.h"
#include "flow/tcp_fsm.h"
#include "flow/tracker.h"
#include "tests/support/rand.h"
#include "tests/support/tap.h"
#include "wire/segment.h"

static const uint64_t ms = 1000000, second = 1000000000, start_ns = 1700000000000000000;

/* Different in every state, so that one taken for another shows. */
static const uint64_t timeout_s[FSM_TIMEOUTS] = {
	[FSM_T_SYN_SENT] = 20,	   [FSM_T_SYN_RECEIVED] = 30, [FSM_T_ESTABLISHED] = 400,
	[FSM_T_HALF_CLOSED] = 300, [FSM_T_CLOSING] = 200,     [FSM_T_TIME_WAIT] = 60,
	[FSM_T_RESET] = 10,
};

/* ---- a tracker and what it reported ---------------------------------------------------------- */

enum { EVENTS = 4096 };

struct rig {
	struct event_sink sink; /* first */
	struct tracker_config cfg;
	struct tracker_counters count;
	struct tracker *t;
	void *memory;
	struct event event[EVENTS];
	unsigned cause[EVENTS]; /* the segment that was fed then ... */
	unsigned fed;		/* ... of all; before the call under way, if the test counts them */
	unsigned n;
	unsigned refuse; /* of 100 reservations */
	uint64_t now;
};

static struct event *rig_reserve(struct event_sink *s)
{
	struct rig *r = (struct rig *)s;

	if (r->refuse && below(100) < r->refuse)
		return NULL;
	if (r->n == EVENTS)
		abort();
	memset(&r->event[r->n], 0xa5,
	       sizeof *r->event); /* nothing may be left unset that is read */
	return &r->event[r->n];
}

static void rig_commit(struct event_sink *s)
{
	struct rig *r = (struct rig *)s;

	r->cause[r->n++] = r->fed + s->current;
}

static struct rig *rig_new(uint32_t max_connections, uint32_t max_half_open)
{
	struct rig *r = calloc(1, sizeof *r);

	r->sink = (struct event_sink){ .reserve = rig_reserve, .commit = rig_commit };
	r->cfg = (struct tracker_config){
		.max_connections = max_connections,
		.max_half_open = max_half_open,
		.anomalies_per_connection = 8,
		.anomalies_per_second = 1000000,
		.secret = { { 0x243f6a8885a308d3, 0x13198a2e03707344, 0xa4093822299f31d0,
			      0x082efa98ec4e6c89, 0x452821e638d01377, 0xbe5466cf34e90c6c,
			      0xc0ac29b7c97c50dd, 0x3f84d5b5b5470917 } }
	};
	for (unsigned i = 0; i < FSM_TIMEOUTS; i++)
		r->cfg.timeout_ns[i] = timeout_s[i] * second;
	size_t size = (tracker_memory(&r->cfg) + CACHE_LINE - 1) / CACHE_LINE * CACHE_LINE;

	r->memory = aligned_alloc(CACHE_LINE, size);
	memset(r->memory, 0, size);
	r->t = tracker_new(&r->cfg, r->memory, &r->sink, &r->count);
	r->now = start_ns;
	return r;
}

static void rig_free(struct rig *r)
{
	tracker_free(r->t);
	free(r->memory);
	free(r);
}

static uint64_t in_state(const struct rig *r, enum fsm_state s)
{
	return counter_get(&r->count.states[s]);
}

/* The events of kind @kind reported since @from; *ret_last is the last of them. */
static unsigned reported(const struct rig *r, unsigned from, enum event_kind kind,
			 const struct event **ret_last)
{
	unsigned n = 0;

	for (unsigned i = from; i < r->n; i++) {
		if (r->event[i].kind != kind)
			continue;
		n++;
		if (ret_last)
			*ret_last = &r->event[i];
	}
	return n;
}

/* ---- the two ends of a connection ------------------------------------------------------------ */

enum { ISN_A = 0xfffffff0 /* its numbers turn over soon */, ISN_B = 5000, DATA = 10 };

struct ends {
	uint16_t port; /* the client's: one end pair for each */
	uint32_t isn[2], next[2];
};

static struct ends ends_of(uint16_t port)
{
	return (struct ends){ port, { ISN_A, ISN_B }, { ISN_A + 1, ISN_B + 1 } };
}

static struct segment seg(const struct ends *e, unsigned from, unsigned flags, uint32_t seq,
			  uint32_t ack, uint32_t len)
{
	struct segment s = { .ip_v = 4,
			     .flags = (uint16_t)flags,
			     .window = 60000,
			     .wire_segs = 1,
			     .seq = seq,
			     .ack = ack,
			     .payload_len = len,
			     .wire_len = 54 + len };

	memcpy(from ? s.dst : s.src, (uint8_t[4]){ 10, 0, 0, 1 }, 4);
	memcpy(from ? s.src : s.dst, (uint8_t[4]){ 10, 0, 0, 2 }, 4);
	s.sport = from ? 80 : e->port;
	s.dport = from ? e->port : 80;
	return s;
}

static void feed(struct rig *r, struct segment s)
{
	s.ts_ns = r->now;
	tracker_input(r->t, &s, 1);
}

/* One segment for each letter, a millisecond apart; capitals are the client's:
 *   S SYN, s SYN-ACK, x bare SYN of the server, A ACK, D data, F FIN, R RST exact,
 *   g a FIN that does not acknowledge the client's, Q RST in the window but not exact */
static void play(struct rig *r, struct ends *e, const char *script)
{
	for (const char *c = script; *c; c++) {
		unsigned from = *c >= 'a', peer = !from;
		uint32_t next = e->next[from], ack = e->next[peer];

		r->now += ms;
		switch (*c | 0x20) {
		case 's':
			feed(r, seg(e, from, from ? TCP_SYN | TCP_ACK : TCP_SYN, e->isn[from],
				    from ? ack : 0, 0));
			break;
		case 'x':
			feed(r, seg(e, from, TCP_SYN, e->isn[from], 0, 0));
			break;
		case 'a':
			feed(r, seg(e, from, TCP_ACK, next, ack, 0));
			break;
		case 'd':
			feed(r, seg(e, from, TCP_ACK, next, ack, DATA));
			e->next[from] += DATA;
			break;
		case 'g':
			ack--; /* fallthrough */
			__attribute__((fallthrough));
		case 'f':
			feed(r, seg(e, from, TCP_FIN | TCP_ACK, next, ack, 0));
			e->next[from]++;
			break;
		case 'r':
			feed(r, seg(e, from, TCP_RST, next, 0, 0));
			break;
		case 'q':
			feed(r, seg(e, from, TCP_RST, next + 100, 0, 0));
			break;
		default:
			abort();
		}
	}
}

/* ---- states and timeouts --------------------------------------------------------------------- */

static const struct {
	enum fsm_state state;
	const char *script, *name;
	enum fsm_timeout timeout;
	int reason; /* -1: it is over, nothing is reported */
} states[] = {
	{ FSM_SYN, "S", "SYN", FSM_T_SYN_SENT, REASON_UNANSWERED },
	{ FSM_SYN, "SSS", "SYN, repeated", FSM_T_SYN_SENT, REASON_UNANSWERED },
	{ FSM_CROSSED, "Sx", "crossed SYNs", FSM_T_SYN_RECEIVED, REASON_HALF_OPEN },
	{ FSM_CROSSED_A, "Sxs", "crossed, one answered", FSM_T_SYN_RECEIVED, REASON_HALF_OPEN },
	{ FSM_CROSSED_B, "SxA", "crossed, the other answered", FSM_T_SYN_RECEIVED,
	  REASON_HALF_OPEN },
	{ FSM_ANSWERED, "Ss", "answered", FSM_T_SYN_RECEIVED, REASON_HALF_OPEN },
	{ FSM_CLAIMED, "SA", "claimed", FSM_T_ESTABLISHED, REASON_IDLE },
	{ FSM_OPEN, "SsA", "open", FSM_T_ESTABLISHED, REASON_IDLE },
	{ FSM_OPEN, "SxsA", "open, by crossed SYNs", FSM_T_ESTABLISHED, REASON_IDLE },
	{ FSM_OPEN, "D", "open, mid-stream", FSM_T_ESTABLISHED, REASON_IDLE },
	{ FSM_FIN_A, "SsAF", "client's FIN", FSM_T_CLOSING, REASON_IDLE },
	{ FSM_FIN_B, "SsAf", "server's FIN", FSM_T_CLOSING, REASON_IDLE },
	{ FSM_HALF_A, "SsAFa", "half-closed by the client", FSM_T_HALF_CLOSED, REASON_IDLE },
	{ FSM_HALF_B, "SsAfA", "half-closed by the server", FSM_T_HALF_CLOSED, REASON_IDLE },
	{ FSM_LAST_A, "SsAFf", "last ACK, client first", FSM_T_CLOSING, REASON_IDLE },
	{ FSM_LAST_B, "SsAfAF", "last ACK, server first", FSM_T_CLOSING, REASON_IDLE },
	{ FSM_BOTH, "SsAFg", "crossed FINs", FSM_T_CLOSING, REASON_IDLE },
	{ FSM_BOTH_A, "SsAFga", "crossed FINs, one acknowledged", FSM_T_CLOSING, REASON_IDLE },
	{ FSM_BOTH_B, "SsAFgA", "crossed FINs, the other acknowledged", FSM_T_CLOSING,
	  REASON_IDLE },
	{ FSM_DONE_A, "SsAFfA", "closed, client first", FSM_T_TIME_WAIT, -1 },
	{ FSM_DONE_B, "SsAfAFa", "closed, server first", FSM_T_TIME_WAIT, -1 },
	{ FSM_DONE_X, "SsAFgAa", "closed, both at once", FSM_T_TIME_WAIT, -1 },
	{ FSM_RESET, "SsAR", "reset by the client", FSM_T_RESET, -1 },
	{ FSM_RESET, "SsAr", "reset by the server", FSM_T_RESET, -1 },
};

/* What is left when time stands at the deadline of script @i plus @offset. */
static bool lives_at(unsigned i, int64_t offset, bool by_segment, const struct event **ret_close,
		     struct rig **ret)
{
	struct rig *r = *ret = rig_new(8, 8);
	struct ends e = ends_of(1000);

	play(r, &e, states[i].script);
	uint64_t last = r->now;

	r->now = last + timeout_s[states[i].timeout] * second + (uint64_t)offset;
	if (by_segment) {
		feed(r, seg(&e, 0, TCP_RST, e.isn[0] + 0x40000000, 0,
			    0)); /* opens nothing, fits nothing */
	} else {
		tracker_advance(r->t, r->now);
	}
	*ret_close = NULL;
	reported(r, 0, EVENT_TCP_CLOSE, ret_close);
	return counter_get(&r->count.syn_entries) + counter_get(&r->count.full_entries) == 1;
}

static void test_timeouts(void)
{
	for (unsigned i = 0; i < ARRAY_SIZE(states); i++) {
		const struct event *close;
		struct rig *r = rig_new(8, 8);
		struct ends e = ends_of(1000);
		unsigned wrong = 0;

		play(r, &e, states[i].script);
		ok(in_state(r, states[i].state) == 1, "%s: is the state after '%s'", states[i].name,
		   states[i].script);
		rig_free(r);
		for (unsigned by_segment = 0; by_segment < 2; by_segment++) {
			wrong += !lives_at(i, -1, by_segment, &close, &r);
			wrong += states[i].reason >= 0 && close;
			rig_free(r);
			wrong += lives_at(i, 0, by_segment, &close, &r);
			if (states[i].reason >= 0)
				wrong += !close || close->close.reason != states[i].reason ||
					 close->segment != SEGMENT_TIMEOUT ||
					 close->basis != BASIS_TIMEOUT || close->ts_ns != r->now ||
					 close->close.end_ns >= close->ts_ns ||
					 reported(r, 0, EVENT_TCP_CLOSE, NULL) != 1;
			else /* reported before, and once */
				wrong += reported(r, 0, EVENT_TCP_CLOSE, NULL) != 1 ||
					 close->segment == SEGMENT_TIMEOUT;
			rig_free(r);
		}
		ok(!wrong, "%s: lives a nanosecond before its deadline, and not at it",
		   states[i].name);
	}
}

static void test_suspect(void)
{
	struct rig *r = rig_new(8, 8);
	struct ends e = ends_of(1000);
	const struct event *close = NULL;

	play(r, &e, "SsADdQ");
	tracker_advance(r->t, r->now + timeout_s[FSM_T_TIME_WAIT] * second);
	ok(reported(r, 0, EVENT_TCP_CLOSE, &close) == 1 && close->close.reason == REASON_RST &&
		   close->close.closed_by == CLOSED_BY_CLIENT,
	   "an inexact RST that silence follows was one");
	rig_free(r);
	r = rig_new(8, 8);
	e = ends_of(1000);
	play(r, &e, "SsADdQdA");
	tracker_advance(r->t, r->now + timeout_s[FSM_T_TIME_WAIT] * second);
	ok(!reported(r, 0, EVENT_TCP_CLOSE, NULL) && in_state(r, FSM_OPEN) == 1,
	   "an inexact RST that traffic follows was none");
	rig_free(r);
}

/* ---- what is given up ------------------------------------------------------------------------ */

static void test_eviction(void)
{
	struct rig *r = rig_new(4, 2);
	struct ends e[8];
	const struct event *close = NULL;
	unsigned n;

	for (unsigned i = 0; i < 8; i++)
		e[i] = ends_of((uint16_t)(1000 + i));
	play(r, &e[0], "SsA");	  /* the oldest, open */
	play(r, &e[1], "SsAFa");  /* half-closed */
	play(r, &e[2], "Sx");	  /* half-open, in the large shape */
	play(r, &e[3], "SsAFfA"); /* over */
	ok(counter_get(&r->count.full_entries) == 4 && !counter_get(&r->count.syn_entries),
	   "the table is full");
	n = r->n;
	play(r, &e[4], "SsA");
	ok(!reported(r, n, EVENT_TCP_CLOSE, NULL) && !in_state(r, FSM_DONE_A) &&
		   in_state(r, FSM_OPEN) == 2,
	   "first goes what is over, and that is not reported again");
	n = r->n;
	play(r, &e[5], "SsA");
	ok(reported(r, n, EVENT_TCP_CLOSE, &close) == 1 && close->port[0] == 1002 &&
		   close->close.reason == REASON_EVICTED && close->segment == SEGMENT_NONE,
	   "then the half-open one, as evicted");
	n = r->n;
	play(r, &e[6], "SsA");
	ok(reported(r, n, EVENT_TCP_CLOSE, &close) == 1 && close->port[0] == 1001 &&
		   close->close.reason == REASON_EVICTED,
	   "then the half-closed one");
	n = r->n;
	play(r, &e[7], "SsA");
	ok(reported(r, n, EVENT_TCP_CLOSE, &close) == 1 && close->port[0] == 1000,
	   "then the established one that was silent longest");
	ok(counter_get(&r->count.evicted_full) == 3 && counter_get(&r->count.full_entries) == 4,
	   "each is counted once, and the table is still full");
	rig_free(r);

	r = rig_new(4, 2);
	for (unsigned i = 0; i < 4; i++) {
		e[i] = ends_of((uint16_t)(1000 + i));
		play(r, &e[i], "S");
	}
	ok(reported(r, 0, EVENT_TCP_CLOSE, &close) == 2 && close->port[0] == 1001 &&
		   counter_get(&r->count.evicted_syn) == 2 &&
		   counter_get(&r->count.syn_entries) == 2,
	   "SYNs go in the order in which they came");
	rig_free(r);
}

static void test_configure(void)
{
	struct rig *r = rig_new(8, 8);
	struct tracker_config c = r->cfg;
	struct ends e[16];
	unsigned n;

	for (unsigned i = 0; i < 16; i++)
		e[i] = ends_of((uint16_t)(1000 + i));
	for (unsigned i = 0; i < 8; i++)
		play(r, &e[i], "SsA");
	n = r->n;
	c.max_connections = 4;
	c.secret = (struct hash_key){ { 9, 9 } };
	tracker_configure(r->t, &c);
	ok(r->n == n && counter_get(&r->count.full_entries) == 8,
	   "a limit that is lowered gives up nothing at once");
	play(r, &e[0], "D");
	ok(!reported(r, n, EVENT_TCP_CLOSE, NULL) && !reported(r, n, EVENT_TCP_OPEN, NULL),
	   "who is there stays known: the secret is the old one");
	for (unsigned i = 8; i < 12; i++)
		play(r, &e[i], "SsA");
	ok(reported(r, n, EVENT_TCP_CLOSE, NULL) == 8 && counter_get(&r->count.full_entries) == 4,
	   "each one that comes displaces two, until the limit is reached");
	n = r->n;
	play(r, &e[12], "SsA");
	ok(reported(r, n, EVENT_TCP_CLOSE, NULL) == 1 && counter_get(&r->count.full_entries) == 4,
	   "and then one");
	c.max_connections = 100;
	tracker_configure(r->t, &c);
	n = r->n;
	for (unsigned i = 0; i < 8; i++)
		play(r, &e[i], "SsA");
	ok(counter_get(&r->count.full_entries) == 8 && reported(r, n, EVENT_TCP_CLOSE, NULL) == 4,
	   "a limit can be raised to what there was room for, not more");

	for (unsigned i = 0; i < FSM_TIMEOUTS; i++)
		c.timeout_ns[i] = second;
	tracker_configure(r->t, &c);
	n = r->n;
	r->now += 3 * second;
	for (unsigned i = 0; i < 8; i++)
		tracker_advance(r->t, r->now += second);
	ok(reported(r, n, EVENT_TCP_CLOSE, NULL) == 8 && !counter_get(&r->count.full_entries),
	   "a timeout that is shortened counts for those who are there");
	rig_free(r);
}

/* Lone SYNs to one server by the thousand, and between them handshakes of others that take longer
 * than a flood takes to fill the table. */
static void test_flood(void)
{
	enum { SYN_ENTRIES = 256, FLOOD = 20000, REAL = 20 };
	struct rig *r = rig_new(1024, SYN_ENTRIES);
	struct ends e[REAL];
	unsigned six = 0;
	uint32_t n = 0;

	for (unsigned i = 0; i < REAL; i++)
		e[i] = ends_of((uint16_t)(1000 + i));
	for (unsigned step = 0; step < 3 * REAL; step++) {
		unsigned i = step % REAL, from = step / REAL == 1;
		struct segment s = seg(&e[i], from,
				       step / REAL == 0 ? TCP_SYN
				       : from		? TCP_SYN | TCP_ACK
							: TCP_ACK,
				       from ? ISN_B : ISN_A + (step / REAL == 2),
				       from		  ? ISN_A + 1
				       : step / REAL == 2 ? ISN_B + 1
							  : 0,
				       0);

		if (i & 1) { /* every other one over IPv6 */
			s.ip_v = 6;
			six++;
		}
		feed(r, s);
		for (unsigned k = 0; k < FLOOD / (3 * REAL); k++) {
			struct ends bot = ends_of((uint16_t)(1024 + n % 60000));
			struct segment f = seg(&bot, 0, TCP_SYN, n * 2654435761u, 0, 0);

			memcpy(f.src, &(uint32_t){ 0x0b + (n++ << 8) }, 4);
			f.dst[3] = 99;
			r->n = 0; /* events of the flood are not kept */
			feed(r, f);
		}
	}
	ok(six && in_state(r, FSM_OPEN) == REAL &&
		   counter_get(&r->count.syn_entries) == SYN_ENTRIES &&
		   counter_get(&r->count.opened) == REAL + n,
	   "a flood of SYNs to one server pushes out no handshake with another");
	rig_free(r);
}

/* ---- a SYN with another ISN ------------------------------------------------------------------ */

static void other_syn(struct rig *r, const struct ends *e, unsigned from, uint32_t isn,
		      uint32_t len)
{
	r->now += ms;
	feed(r, seg(e, from, TCP_SYN, isn, 0, len));
}

static struct rig *rig_with_new_syn(struct ends *e)
{
	struct rig *r = rig_new(8, 8);

	*e = ends_of(1000);
	play(r, e, "SsADd");
	other_syn(r, e, 0, 777000, 0);
	return r;
}

static void test_new_incarnation(void)
{
	const struct event *open = NULL, *close = NULL;
	struct ends e;
	struct rig *r = rig_with_new_syn(&e);
	uint64_t old_id = r->event[0].flow_id;
	unsigned n = r->n;

	ok(reported(r, 0, EVENT_TCP_OPEN, NULL) == 1 &&
		   reported(r, 0, EVENT_TCP_ANOMALY, NULL) == 1 && in_state(r, FSM_OPEN) == 1,
	   "another ISN: remarked, not believed");
	r->now += ms;
	feed(r, seg(&e, 1, TCP_SYN | TCP_ACK, 99000, 777001, 0));
	ok(reported(r, n, EVENT_TCP_CLOSE, &close) == 1 && close->close.reason == REASON_REUSE &&
		   close->flow_id == old_id,
	   "answered: the old connection is over");
	ok(reported(r, n, EVENT_TCP_OPEN, &open) == 1 && open->open.prev_flow_id == old_id &&
		   open->ts_ns == close->ts_ns - ms && reported(r, n, EVENT_TCP_STATE, NULL) == 1 &&
		   in_state(r, FSM_ANSWERED) == 1,
	   "answered: the new one began with its SYN, and knows the old one");
	rig_free(r);

	r = rig_with_new_syn(&e);
	n = r->n;
	play(r, &e, "aDd");
	tracker_advance(r->t, r->now + 30 * second);
	ok(r->n == n && in_state(r, FSM_OPEN) == 1 && !counter_get(&r->count.syn_entries),
	   "challenged: nothing is reported and the old connection continues");
	rig_free(r);

	r = rig_with_new_syn(&e);
	n = r->n;
	tracker_advance(r->t, r->now + timeout_s[FSM_T_SYN_SENT] * second);
	ok(reported(r, n, EVENT_TCP_OPEN, &open) == 1 &&
		   reported(r, n, EVENT_TCP_CLOSE, &close) == 1 &&
		   close->flow_id == open->flow_id && close->close.reason == REASON_UNANSWERED &&
		   in_state(r, FSM_OPEN) == 1,
	   "silence: it was an unanswered SYN, and is reported with its end");
	rig_free(r);

	r = rig_with_new_syn(&e);
	n = r->n;
	r->now += ms;
	feed(r, seg(&e, 0, TCP_ACK, e.next[0], e.next[1], DATA)); /* only the client is heard */
	tracker_advance(r->t, r->now + timeout_s[FSM_T_SYN_SENT] * second);
	ok(r->n == n && in_state(r, FSM_OPEN) == 1 && !counter_get(&r->count.syn_entries),
	   "silence, but the old connection continued: an unmatched SYN");
	rig_free(r);

	r = rig_with_new_syn(&e);
	n = r->n;
	other_syn(r, &e, 0, 888000, 0);
	ok(!reported(r, n, EVENT_TCP_OPEN, NULL) && !reported(r, n, EVENT_TCP_CLOSE, NULL) &&
		   counter_get(&r->count.syn_entries) == 1,
	   "replaced: of several new SYNs against an open connection the last one is deferred");
	r->now += ms;
	feed(r, seg(&e, 1, TCP_RST | TCP_ACK, 0, 888001, 0));
	ok(reported(r, n, EVENT_TCP_OPEN, &open) == 1 &&
		   reported(r, n, EVENT_TCP_CLOSE, &close) == 2 &&
		   close->close.reason == REASON_REFUSED && close->flow_id == open->flow_id &&
		   open->open.prev_flow_id == old_id,
	   "refused: the last was answered with a RST, and the old connection is over");
	rig_free(r);

	r = rig_new(8, 8);
	e = ends_of(1000);
	play(r, &e, "SsAFa");
	other_syn(r, &e, 0, 777000, 0);
	n = r->n;
	play(r, &e, "fRa"); /* the ACK is a challenge from before the RST */
	ok(reported(r, n, EVENT_TCP_CLOSE, &close) == 1 && close->close.reason == REASON_FIN &&
		   !reported(r, n, EVENT_TCP_OPEN, NULL) && counter_get(&r->count.syn_entries) == 1,
	   "a challenge ACK after the RST that ended the old connection drops nothing");
	r->now += ms;
	feed(r, seg(&e, 1, TCP_SYN | TCP_ACK, 99000, 777001, 0));
	ok(reported(r, n, EVENT_TCP_OPEN, &open) == 1 && in_state(r, FSM_ANSWERED) == 1,
	   "the attempt is answered after that: a new connection");
	rig_free(r);
}

/* Every open has one close, whatever became of an attempt. */
static bool balanced(struct rig *r)
{
	tracker_close_all(r->t, REASON_CAPTURE_END);
	for (unsigned i = 0; i < r->n; i++) {
		unsigned opens = 0, closes = 0;

		for (unsigned k = 0; k < r->n; k++) {
			if (r->event[k].flow_id != r->event[i].flow_id)
				continue;
			opens += r->event[k].kind == EVENT_TCP_OPEN;
			closes += r->event[k].kind == EVENT_TCP_CLOSE;
		}
		if (opens != 1 || closes != 1) {
			printf("# event %u (kind %u, port %u): %u opens, %u closes\n", i,
			       r->event[i].kind, r->event[i].port[0], opens, closes);
			return false;
		}
	}
	return !counter_get(&r->count.syn_entries) && !counter_get(&r->count.full_entries);
}

static void test_pending_odd(void)
{
	struct ends e;
	struct rig *r = rig_with_new_syn(&e);

	for (unsigned i = 0; i < 20; i++)
		other_syn(r, &e, 0, 777000, 0);
	ok(balanced(r), "an attempt repeated twenty times: one open, one close");
	rig_free(r);

	r = rig_with_new_syn(&e);
	other_syn(r, &e, 0, 777000, 100);
	ok(balanced(r), "an attempt repeated with data: one open, one close");
	rig_free(r);

	r = rig_with_new_syn(&e);
	struct segment s = seg(&e, 0, TCP_SYN, 777000, 0, 0);

	s.wire_len = 67; /* the repetition has fewer options */
	r->now += ms;
	feed(r, s);
	ok(balanced(r), "an attempt repeated with a shorter header: one open, one close");
	rig_free(r);

	r = rig_with_new_syn(&e);
	other_syn(r, &e, 1, 555000, 0);
	play(r, &e, "DdDd");
	ok(balanced(r), "attempts of both ends on one connection: one open, one close");
	rig_free(r);

	r = rig_with_new_syn(&e);
	other_syn(r, &e, 1, 555000, 0);
	other_syn(r, &e, 0, 666000, 0);
	other_syn(r, &e, 1, 444000, 0);
	r->now += ms;
	feed(r, seg(&e, 1, TCP_SYN | TCP_ACK, 99000, 666001, 0));
	r->now += ms;
	feed(r, seg(&e, 0, TCP_ACK, 666001, 99001, 0));
	ok(balanced(r), "attempts of both ends in turn: one open, one close");
	rig_free(r);
}

/* ---- small things that were lost ------------------------------------------------------------- */

static void test_lost_handshake_ack(void)
{
	for (unsigned fin = 0; fin < 2; fin++) {
		for (unsigned len = 0; len <= 1000; len += 500) {
			struct rig *r = rig_new(8, 8);
			struct ends e = ends_of(1000);
			unsigned flags = fin ? TCP_FIN | TCP_ACK : TCP_ACK;

			play(r, &e, "Ss");
			r->now += ms;
			feed(r, seg(&e, 1, flags, ISN_B + 1, ISN_A + 1, len));
			ok(!reported(r, 0, EVENT_TCP_ANOMALY, NULL) &&
				   in_state(r, fin   ? FSM_FIN_B
					       : len ? FSM_OPEN
						     : FSM_ANSWERED) == 1,
			   "the handshake's ACK was not seen: the server's %u octets%s prove it%s",
			   len, fin ? " and FIN" : "", fin || len ? "" : " not");
			rig_free(r);
		}
	}
}

static void test_loss(void)
{
	struct rig *r = rig_new(64, 64);
	const struct event *e = NULL;
	struct ends before = ends_of(1), during = ends_of(2), after = ends_of(3);

	play(r, &before, "SsAFfA");
	ok(reported(r, 0, EVENT_TCP_CLOSE, &e) == 1 && !e->close.lossy, "no loss yet");
	play(r, &during, "SsA");
	uint64_t from = r->now;

	r->now += second;
	tracker_loss(r->t, LOSS_RING_FULL, from, r->now, 7, 2);
	ok(reported(r, 0, EVENT_CAPTURE_LOSS, &e) == 1 && e->loss.count == 7 &&
		   e->loss.freezes == 2 && e->loss.from_ns == from && e->loss.to_ns == r->now &&
		   e->ts_ns == r->now,
	   "a loss is reported");
	r->now += second;
	play(r, &during, "FfA");
	ok(reported(r, 0, EVENT_TCP_CLOSE, &e) == 2 && e->close.lossy,
	   "who lived meanwhile is lossy");
	play(r, &after, "SsAFfA");
	ok(reported(r, 0, EVENT_TCP_CLOSE, &e) == 3 && !e->close.lossy, "who came later is not");

	struct ends early = ends_of(4), late = ends_of(5);

	play(r, &early, "SsA");
	for (unsigned i = 0; i < 200; i++) { /* more than are remembered one by one */
		r->now += ms;
		tracker_loss(r->t, LOSS_RING_FULL, r->now, r->now, 1, 0);
	}
	play(r, &early, "FfA");
	ok(reported(r, 0, EVENT_TCP_CLOSE, &e) == 4 && e->close.lossy,
	   "many losses: who lived during the first of them is still lossy");
	play(r, &late, "SsAFfA");
	ok(reported(r, 0, EVENT_TCP_CLOSE, &e) == 5 && !e->close.lossy,
	   "many losses: who came after all of them is not");
	rig_free(r);
}

static void test_clock(void)
{
	struct rig *r = rig_new(8, 8);
	struct ends e = ends_of(1000), f = ends_of(1001);
	const struct event *close = NULL;

	play(r, &e, "SsAD");
	r->now -= 3600 * second;
	play(r, &e, "dD");
	play(r, &f, "Ss");
	ok(!reported(r, 0, EVENT_TCP_CLOSE, NULL) && in_state(r, FSM_OPEN) == 1,
	   "the clock goes back an hour: nothing ends by that");
	play(r, &e, "FfA");
	ok(reported(r, 0, EVENT_TCP_CLOSE, &close) == 1 && close->close.reason == REASON_FIN &&
		   close->close.end_ns >= close->close.start_ns,
	   "the connection continues and ends, no age is negative");
	tracker_advance(r->t, r->now + timeout_s[FSM_T_SYN_RECEIVED] * second);
	ok(reported(r, 0, EVENT_TCP_CLOSE, &close) == 2 && close->port[0] == 1001 &&
		   close->close.reason == REASON_HALF_OPEN,
	   "timeouts go by the new time");
	for (unsigned i = 0; i < r->n; i++)
		for (unsigned s = 0; s < SIDES; s++)
			if (r->event[i].prev_state_ns[s] != DURATION_UNKNOWN &&
			    r->event[i].prev_state_ns[s] > 86400 * second)
				ok(false, "event %u: time in a state went below zero", i);
	rig_free(r);
}

/* ---- a small world at random
 * ------------------------------------------------------------------ */

enum { PAIRS = 9, LEDGER = 1 << 16 };

/* What a subscriber knows of each connection, from the events alone. */
struct ledger_entry {
	uint64_t id;
	bool live;
	uint8_t state[2];
};

struct world {
	struct rig *r;
	struct ends e[PAIRS];
	struct ledger_entry *ledger;
	unsigned entries, live, wrong;
	unsigned reasons[REASONS];
};

static struct ledger_entry *ledger_find(struct world *w, uint64_t id)
{
	for (unsigned i = w->entries; i-- && i + 4096 > w->entries;)
		if (w->ledger[i].id == id)
			return &w->ledger[i];
	return NULL;
}

static void complain(struct world *w, const struct event *e, const char *what)
{
	if (w->wrong++ < 10)
		printf("# %s of %016llx (port %u): %s\n", event_kind_str[e->kind].s,
		       (unsigned long long)e->flow_id, e->port[0], what);
}

static void ledger_take(struct world *w, const struct event *e)
{
	struct ledger_entry *l = ledger_find(w, e->flow_id);

	if (e->kind == EVENT_TCP_OPEN) {
		if (l || w->entries == LEDGER) {
			complain(w, e, "reported a second time");
			return;
		}
		w->ledger[w->entries++] =
			(struct ledger_entry){ e->flow_id, true, { e->state[0], e->state[1] } };
		w->live++;
		return;
	}
	if (!l || !l->live) {
		complain(w, e, l ? "after its close" : "without an open");
		return;
	}
	if (memcmp(l->state, e->prev_state, 2))
		complain(w, e, "does not go on where it was");
	memcpy(l->state, e->state, 2);
	for (unsigned s = 0; s < SIDES; s++)
		if (e->prev_state_ns[s] != DURATION_UNKNOWN && e->prev_state_ns[s] >> 62)
			complain(w, e, "a negative time in a state");
	if (e->kind == EVENT_TCP_STATE && e->state[0] == e->prev_state[0] &&
	    e->state[1] == e->prev_state[1])
		complain(w, e, "nothing moved");
	if (e->kind != EVENT_TCP_CLOSE)
		return;
	if (e->close.end_ns < e->close.start_ns)
		complain(w, e, "ends before it starts");
	l->live = false;
	w->live--;
	w->reasons[e->close.reason]++;
}

static uint64_t living(const struct rig *r)
{
	uint64_t n = 0;

	for (unsigned s = FSM_SYN; s < FSM_STATES && !fsm_over(s); s++)
		n += in_state(r, s);
	return n;
}

/* What was reported since the last segment, and what the counters say. */
static void world_check(struct world *w)
{
	struct rig *r = w->r;
	unsigned own = 0;

	for (unsigned i = 0; i < r->n; i++) {
		const struct event *e = &r->event[i];

		own += (e->kind == EVENT_TCP_STATE || e->kind == EVENT_TCP_ESTABLISHED ||
			e->kind == EVENT_TCP_ANOMALY ||
			(e->kind == EVENT_TCP_CLOSE &&
			 (e->close.reason <= REASON_REFUSED && e->segment != SEGMENT_TIMEOUT)));
		ledger_take(w, e);
	}
	if (own > 1)
		complain(w, &r->event[r->n - 1], "more than one event for a segment");
	if (counter_get(&r->count.syn_entries) > r->cfg.max_half_open ||
	    counter_get(&r->count.full_entries) > r->cfg.max_connections)
		complain(w, &r->event[0], "the table is larger than it may be");
	if (counter_get(&r->count.opened) - counter_get(&r->count.closed) != w->live)
		complain(w, &r->event[0], "the counters do not agree with what was reported");
	uint64_t all = 0;

	for (unsigned s = FSM_SYN; s < FSM_STATES; s++)
		all += in_state(r, s);
	if (all != counter_get(&r->count.syn_entries) + counter_get(&r->count.full_entries) ||
	    living(r) < w->live)
		complain(w, &r->event[0], "the states do not add up to the entries");
	r->n = 0;
}

static struct segment random_segment(struct world *w)
{
	static const unsigned flags[] = { TCP_SYN,	     TCP_SYN | TCP_ACK, TCP_ACK,
					  TCP_ACK,	     TCP_ACK,		TCP_ACK | TCP_PSH,
					  TCP_FIN | TCP_ACK, TCP_FIN | TCP_ACK, TCP_RST,
					  TCP_RST | TCP_ACK, TCP_SYN,		TCP_ACK };
	unsigned pair = below(PAIRS), from = below(2);
	struct ends *e = &w->e[pair];
	bool odd = !below(8);
	unsigned f = odd && !below(4) ? below(256) : flags[below(ARRAY_SIZE(flags))];
	bool syn = f & TCP_SYN;
	uint32_t seq = syn ? e->isn[from] : e->next[from], ack = e->next[!from];
	uint32_t len = !syn && f & TCP_ACK && !below(3) ? below(3000) : 0;

	if (syn && !below(12)) /* another incarnation, or a forgery */
		e->isn[from] = seq = (uint32_t)rand64();
	if (odd) {
		static const uint32_t off[] = { 1,	  (uint32_t)-1,	 2, 100, 70000,
						1u << 31, (uint32_t)-500 };

		if (below(2))
			seq += off[below(ARRAY_SIZE(off))];
		else
			ack += off[below(ARRAY_SIZE(off))];
		len = below(4) ? len : below(200);
	}
	struct segment s = seg(e, from, f, seq, ack, len);

	s.wire_len += below(16) ? 0 : below(300);
	s.window = (uint16_t)(below(8) ? 60000 : rand64());
	if (pair >= 5) { /* IPv6 as well */
		s.ip_v = 6;
		s.src[15] = s.dst[15] = 1;
	}
	if (pair == PAIRS - 1) { /* and one with itself */
		memcpy(s.dst, s.src, sizeof s.dst);
		s.dport = s.sport = 80;
	}
	if (!odd || !below(4)) { /* the ends believe what they sent */
		if (syn)
			e->next[from] = seq + 1;
		else if (!(f & TCP_RST) && (int32_t)(segment_end(&s) - e->next[from]) > 0)
			e->next[from] = segment_end(&s);
	}
	return s;
}

/* Mostly microseconds; at times long enough for timeouts, or a clock that is set. */
static uint64_t random_pause(uint64_t now, bool steps)
{
	unsigned dice = below(1000);

	if (dice < 980)
		return now + 1 + below(1000000);
	if (dice < 990)
		return now + 1 + below(2000) * ms;
	if (dice < 997)
		return now + 1 + below(70) * second;
	if (!steps)
		return now + below(700) * second;
	return dice & 1 ? now - 3600 * second - below(second) : now + 3600 * second + below(second);
}

static struct world world_new(uint32_t max_connections, uint32_t max_half_open)
{
	struct world w = { .r = rig_new(max_connections, max_half_open),
			   .ledger = calloc(LEDGER, sizeof *w.ledger) };

	for (unsigned i = 0; i < PAIRS; i++)
		w.e[i] = ends_of((uint16_t)(1000 + i));
	return w;
}

static void world_free(struct world *w)
{
	rig_free(w->r);
	free(w->ledger);
}

static void test_world(uint32_t max_connections, uint32_t max_half_open, unsigned segments,
		       bool steps)
{
	struct world w = world_new(max_connections, max_half_open);
	struct rig *r = w.r;

	for (unsigned i = 0; i < segments && w.entries < LEDGER; i++) {
		r->now = random_pause(r->now, steps);
		struct segment s = random_segment(&w);

		s.ts_ns = r->now;
		if (below(40))
			tracker_input(r->t, &s, 1);
		else
			tracker_unreachable(r->t, &s);
		world_check(&w);
		if (!below(500)) {
			tracker_advance(r->t, r->now);
			tracker_loss(r->t, LOSS_RING_FULL, r->now - below(1000) * ms, r->now, 1, 0);
			r->n = r->n > 0 ? r->n - 1 : 0; /* capture_loss has no connection */
			world_check(&w);
		}
	}
	tracker_close_all(r->t, REASON_CAPTURE_END);
	for (unsigned i = 0; i < r->n; i++)
		ledger_take(&w, &r->event[i]);
	printf("# %u connections:", w.entries);
	for (unsigned i = 0; i < REASONS; i++)
		printf(" %s %u", close_reason_str[i].s, w.reasons[i]);
	printf("; evicted %llu full, %llu syn\n",
	       (unsigned long long)counter_get(&r->count.evicted_full),
	       (unsigned long long)counter_get(&r->count.evicted_syn));
	ok(!w.wrong,
	   "a table of %u and %u, %u random segments%s: one close for each open, in order",
	   max_connections, max_half_open, segments, steps ? ", a clock that is set" : "");
	ok(!w.live && !counter_get(&r->count.syn_entries) && !counter_get(&r->count.full_entries) &&
		   !living(r),
	   "a table of %u and %u: nothing is left when all is closed", max_connections,
	   max_half_open);
	world_free(&w);
}

static void test_lost_events(void)
{
	struct world w = world_new(4, 3);
	struct rig *r = w.r;
	unsigned over = 0;

	r->refuse = 60;
	for (unsigned i = 0; i < 100000; i++) {
		r->now = random_pause(r->now, true);
		feed(r, random_segment(&w));
		over += counter_get(&r->count.syn_entries) > 3 ||
			counter_get(&r->count.full_entries) > 4;
		r->n = 0;
	}
	tracker_close_all(r->t, REASON_SHUTDOWN);
	ok(!over, "events lost at random: the table keeps its bounds");
	ok(counter_get(&r->count.opened) == counter_get(&r->count.closed) && !living(r) &&
		   counter_get(&r->count.opened) > 1000,
	   "events lost at random: as many closes as opens are counted");
	world_free(&w);

	/* One connection, each of its events lost in turn: the others are as ever. */
	unsigned differ = 0;

	for (unsigned lost = 0; lost < 2; lost++) {
		struct ends e = ends_of(1000);

		r = rig_new(8, 8);
		r->refuse = lost ? 100 : 0;
		play(r, &e, "SsADdF");
		r->refuse = 0;
		unsigned n = r->n;

		play(r, &e, "fA");
		const struct event *close = NULL;

		differ += reported(r, n, EVENT_TCP_STATE, NULL) != 1 ||
			  reported(r, n, EVENT_TCP_CLOSE, &close) != 1 ||
			  close->close.payload[0] != DATA || close->close.payload[1] != DATA ||
			  close->close.reason != REASON_FIN;
		rig_free(r);
	}
	ok(!differ, "events lost: what follows is reported as if they had not been");
}

/* ---- ICMP, batches --------------------------------------------------------------------------- */

static void test_unreachable(void)
{
	static const struct {
		const char *script;
		unsigned from;
		uint32_t off;
		bool ends;
		const char *why;
	} cases[] = {
		{ "S", 0, 0, true, "quotes the SYN: the attempt failed" },
		{ "SS", 0, 0, true, "quotes a repeated SYN: the attempt failed" },
		{ "S", 0, 1, false, "quotes another number: not believed (RFC 5927 4.1)" },
		{ "S", 1, 0, false, "quotes the other direction: not believed" },
		{ "Ss", 0, 0, false, "comes after the answer: too late" },
		{ "SsA", 0, 0, false, "comes to an open connection: nothing (RFC 5927 5.2)" },
	};

	for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
		struct rig *r = rig_new(8, 8);
		struct ends e = ends_of(1000);
		const struct event *close = NULL;

		play(r, &e, cases[i].script);
		unsigned n = r->n;
		struct segment quoted =
			seg(&e, cases[i].from, TCP_SYN, e.isn[0] + cases[i].off, 0, 0);

		quoted.ts_ns = r->now + ms;
		tracker_unreachable(r->t, &quoted);
		tracker_unreachable(r->t, &quoted);
		if (cases[i].ends)
			ok(r->n == n + 1 && reported(r, n, EVENT_TCP_CLOSE, &close) == 1 &&
				   close->close.reason == REASON_UNREACHABLE &&
				   close->segment == SEGMENT_ICMP && balanced(r),
			   "an ICMP error %s", cases[i].why);
		else
			ok(r->n == n && balanced(r), "an ICMP error %s", cases[i].why);
		rig_free(r);
	}
}

/* The same segments one by one and in batches; equal, octet for octet, is what is reported. */
static void test_batches(void)
{
	enum { SEGMENTS_FED = 2000 };
	static struct segment s[SEGMENTS_FED];
	struct world w = world_new(4, 3);
	struct rig *one = rig_new(4, 3), *many = rig_new(4, 3);
	uint64_t now = start_ns;

	for (unsigned i = 0; i < SEGMENTS_FED; i++) {
		now = random_pause(now, true);
		s[i] = random_segment(&w);
		s[i].ts_ns = now;
	}
	for (; one->fed < SEGMENTS_FED; one->fed++)
		tracker_input(one->t, &s[one->fed], 1);
	for (unsigned n; many->fed < SEGMENTS_FED; many->fed += n) {
		n = below(TRACKER_BATCH + 1);
		n = n > SEGMENTS_FED - many->fed ? SEGMENTS_FED - many->fed : n;
		tracker_input(many->t, &s[many->fed], n);
	}
	ok(one->n == many->n && one->n > 500 &&
		   !memcmp(one->event, many->event, one->n * sizeof *one->event),
	   "batches of any size report what single segments report");

	unsigned wrong = 0, compared = 0;

	for (unsigned i = 0; i < one->n; i++) {
		if (one->event[i].ts_ns != s[one->cause[i]].ts_ns)
			continue; /* found by a sweep, or reported late */
		compared++;
		wrong += one->cause[i] != many->cause[i];
	}
	ok(!wrong && compared > 300, "and which segment of the batch an event is of");
	rig_free(one);
	rig_free(many);
	world_free(&w);
}

static void test_limits_of_one(void)
{
	struct rig *r = rig_new(1, 1);
	struct ends e[3] = { ends_of(1000), ends_of(1001), ends_of(1002) };

	play(r, &e[0], "SsA");
	play(r, &e[1], "SsA");
	play(r, &e[2], "SsAD");
	ok(in_state(r, FSM_OPEN) == 1 && balanced(r),
	   "a table of one: each takes the other's place");
	rig_free(r);
}

static void test_anomaly_limits(void)
{
	struct rig *r = rig_new(8, 8);
	struct ends e = ends_of(1000);

	play(r, &e, "SsA");
	for (unsigned i = 0; i < 100; i++) {
		r->now += ms;
		feed(r, seg(&e, 0, TCP_RST, e.next[0] + 0x40000000, 0, 0));
	}
	ok(reported(r, 0, EVENT_TCP_ANOMALY, NULL) == 8 &&
		   counter_get(&r->count.anomalies) == 100 &&
		   counter_get(&r->count.anomalies_suppressed) == 92,
	   "anomalies: a few are reported for each connection, all are counted");
	rig_free(r);
}

int main(void)
{
	uint64_t seed = tap_seed(9293);

	rng = seed;
	test_timeouts();
	test_suspect();
	test_eviction();
	test_configure();
	test_flood();
	test_new_incarnation();
	test_pending_odd();
	test_lost_handshake_ack();
	test_loss();
	test_clock();
	test_anomaly_limits();
	test_lost_events();
	test_world(64, 64, 100000, false);
	test_world(4, 3, 100000, false);
	test_world(4, 3, 100000, true);
	test_world(2, 2, 100000, true);
	test_unreachable();
	test_batches();
	test_limits_of_one();
	return tap_done();
}
