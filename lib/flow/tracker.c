#include "flow/tracker.h"
#include <stdlib.h>
#include <string.h>
#include "base/cc.h"
#include "flow/guard.h"
#include "flow/table.h"
#include "flow/tell.h"
#include "wire/segment.h"
#include "wire/seq.h"
#include "wire/tcpopt.h"

enum {
	LOSS_WINDOWS = 64,	/* remembered; older ones are merged into the oldest */
	EVICTION_SAMPLE = 32,	/* entries looked at for the one that is missed least */
	SWEEP_AT_LEAST = 65536, /* slots of a pool looked through at each turn ... */
	SWEEP_PARTS = 8,	/* ... or this part of those in use */
};
static const uint64_t sweep_every_ns = 1000000000;
static const uint64_t clock_tick_ns = 1000; /* of captures with microseconds */
static const uint64_t clock_step_ns = 10000000000; /* more is no reordering */

struct loss_window {
	uint64_t from_ns, to_ns;
};

struct tracker {
	struct tracker_config cfg;
	struct table table;
	struct event_sink *sink;
	struct tracker_counters *count;
	uint64_t now_ns; /* the newest time seen */
	uint64_t sweep_at_ns;
	uint32_t sweep_slot[TABLE_POOLS], evict_slot[TABLE_POOLS];
	uint64_t attempt_ns; /* start of the newest attempt that was held */
	uint64_t anomaly_second, anomalies_told; /* in that second */
	struct loss_window loss[LOSS_WINDOWS];
	unsigned losses;
};

/* One connection under work.  Whole entries are changed in place; a half entry is unpacked into
 * `unpacked` and put back by flow_store(). */
struct flow {
	struct flow_key key;
	uint64_t hash;
	table_ref ref; /* TABLE_NONE: not in the table */
	struct conn *c;
	struct conn unpacked;
};

/* ---- the table's entries -------------------------------------------------------------------- */

static void gauges(struct tracker *t)
{
	counter_set(&t->count->half, table_used(&t->table, SHAPE_HALF));
	counter_set(&t->count->whole, table_used(&t->table, SHAPE_WHOLE));
}

static void count_state(struct tracker *t, enum fsm_state from, enum fsm_state to)
{
	if (from != FSM_NONE)
		counter_add(&t->count->states[from], (uint64_t)-1);
	if (to != FSM_NONE)
		counter_add(&t->count->states[to], 1);
}

static void flow_load(const struct tracker *t, struct flow *f, table_ref ref)
{
	f->ref = ref;
	if (table_shape_of(ref) == SHAPE_WHOLE) {
		f->c = table_conn(&t->table, ref);
	} else {
		f->unpacked = conn_unpack(table_half(&t->table, ref));
		f->c = &f->unpacked;
	}
}

/* Frees the entry; nothing is told. */
static void flow_remove(struct tracker *t, struct flow *f)
{
	count_state(t, f->c->state, FSM_NONE);
	if (f->ref != TABLE_NONE)
		table_remove(&t->table, f->hash, f->ref);
	f->ref = TABLE_NONE;
	gauges(t);
}

static bool make_room(struct tracker *t, enum table_shape shape, unsigned ip_v, table_ref keep);

/* A new entry; a table that is full gives up another one for it, but not @keep. */
static table_ref flow_slot(struct tracker *t, const struct flow *f, enum table_shape shape,
			   table_ref keep)
{
	if (table_used(&t->table, shape) >= table_max(&t->table, shape) &&
	    !make_room(t, shape, f->key.ip_v, keep))
		return TABLE_NONE;
	return table_insert(&t->table, f->hash, &f->key, shape);
}

/* Puts an unpacked or new connection into the table, in the smallest shape that holds it. */
static void flow_store(struct tracker *t, struct flow *f)
{
	struct half half;

	if (f->c != &f->unpacked)
		return; /* changed in place */
	bool small = conn_pack(f->c, &half);

	if (f->ref != TABLE_NONE && small) {
		half.pending = table_half(&t->table, f->ref)->pending;
		*table_half(&t->table, f->ref) = half;
		return;
	}
	table_ref r = flow_slot(t, f, small ? SHAPE_HALF : SHAPE_WHOLE, f->ref);

	if (r == TABLE_NONE) /* not reached: something can always be given up for it */
		return;
	if (small)
		*table_half(&t->table, r) = half;
	else
		*table_conn(&t->table, r) = *f->c;
	if (f->ref != TABLE_NONE)
		table_remove(&t->table, f->hash, f->ref);
	f->ref = r;
	if (!small)
		f->c = table_conn(&t->table, r);
	gauges(t);
}

/* ---- telling -------------------------------------------------------------------------------- */

static struct event *event_begin(struct tracker *t)
{
	return t->sink->reserve(t->sink);
}

static void event_end(struct tracker *t)
{
	t->sink->commit(t->sink);
}

static uint64_t offset_of(const struct conn *c, uint64_t ts_ns)
{
	return ts_ns > c->start_ns ? ts_ns - c->start_ns : 0;
}

static bool was_lossy(const struct tracker *t, const struct conn *c)
{
	for (unsigned i = 0; i < t->losses; i++)
		if (c->start_ns <= t->loss[i].to_ns && t->loss[i].from_ns <= conn_last_ns(c))
			return true;
	return false;
}

/* Counts one; tells it, if @tell and if not too many were told. */
static void note_anomaly(struct tracker *t, struct flow *f, enum fsm_side from, unsigned kind,
			 struct cause cause, bool tell)
{
	uint64_t second = t->now_ns / 1000000000;

	counter_add(&t->count->anomalies, 1);
	if (second != t->anomaly_second) {
		t->anomaly_second = second;
		t->anomalies_told = 0;
	}
	if (!tell || f->c->anomalies >= t->cfg.anomalies_per_connection ||
	    t->anomalies_told >= t->cfg.anomalies_per_second) {
		counter_add(&t->count->anomalies_untold, 1);
		return;
	}
	f->c->anomalies++;
	t->anomalies_told++;

	struct event *e = event_begin(t);

	if (!e)
		return;
	tell_common(e, EVENT_TCP_ANOMALY, &f->key, f->c, f->c->state, cause);
	e->anomaly.kind = (uint8_t)kind;
	e->anomaly.from = from;
	e->anomaly.count = f->c->anomalies;
	event_end(t);
}

static void tell_end(struct tracker *t, struct flow *f, enum fsm_state before,
		     enum close_reason reason, int rst_by, struct cause cause,
		     const uint64_t *moved_ns)
{
	struct event *e = event_begin(t);

	counter_add(&t->count->closed, 1);
	if (!e)
		return;
	tell_common(e, EVENT_TCP_CLOSE, &f->key, f->c, before, cause);
	if (moved_ns)
		memcpy(e->prev_state_ns, moved_ns, sizeof e->prev_state_ns);
	tell_close(e, f->c, before, reason, rst_by, was_lossy(t, f->c));
	event_end(t);
}

static void tell_begin(struct tracker *t, const struct flow *f, const struct tcpopt *opt, bool ecn,
		       uint64_t prev_flow_id, struct cause cause)
{
	struct event *e = event_begin(t);

	counter_add(&t->count->opened, 1);
	if (!e)
		return;
	tell_common(e, EVENT_TCP_OPEN, &f->key, f->c, FSM_NONE, cause);
	tell_open(e, opt, ecn, prev_flow_id);
	event_end(t);
}

/* Closes a connection for a reason that no segment of its own gave: its ends stay as they are, as
 * far as anyone knows.  The entry is removed. */
static void flow_give_up(struct tracker *t, struct flow *f, enum close_reason reason, int rst_by,
			 struct cause cause)
{
	if (!fsm_over(f->c->state))
		tell_end(t, f, f->c->state, reason, rst_by, cause, NULL);
	flow_remove(t, f);
}

static enum event_segment segment_kind(const struct segment *s)
{
	if (s->flags & TCP_RST)
		return SEGMENT_RST;
	if (s->flags & TCP_SYN)
		return s->flags & TCP_ACK ? SEGMENT_SYN_ACK : SEGMENT_SYN;
	if (s->flags & TCP_FIN)
		return s->flags & TCP_ACK ? SEGMENT_FIN_ACK : SEGMENT_FIN;
	return SEGMENT_ACK;
}

static struct cause cause_of(const struct segment *s, bool inferred)
{
	return (struct cause){ .ts_ns = s->ts_ns,
			       .segment = segment_kind(s),
			       .basis = inferred ? BASIS_INFERRED : BASIS_OBSERVED };
}

/* ---- time and room -------------------------------------------------------------------------- */

static uint64_t timeout_of(const struct tracker *t, const struct conn *c)
{
	/* A RST that fell silent was a real one: its receiver would have answered (RFC 5961 3.2). */
	return t->cfg.timeout_ns[c->suspect ? FSM_T_TIME_WAIT : fsm_timeout_of(c->state)];
}

static uint64_t deadline_of(const struct tracker *t, const struct conn *c)
{
	return conn_last_ns(c) + timeout_of(t, c);
}

static enum close_reason silence_means(const struct conn *c)
{
	if (c->suspect)
		return REASON_RST;
	switch ((enum fsm_state)c->state) {
	case FSM_SYN:
		return REASON_UNANSWERED;
	case FSM_ANSWERED:
	case FSM_CROSSED:
	case FSM_CROSSED_A:
	case FSM_CROSSED_B:
		return REASON_HALF_OPEN;
	default:
		return REASON_IDLE;
	}
}

/* Whose RST was it?  The later of the two letters. */
static int suspect_side(const struct conn *c)
{
	int side = -1;

	for (uint64_t h = c->history; h; h >>= HISTORY_LETTER_BITS)
		if ((h & 15) == HISTORY_RST)
			side = h & HISTORY_FROM_CLIENT ? SIDE_A : SIDE_B;
	return side;
}

/* Tells the SYN of an attempt that was held back, as it was then. */
static void tell_attempt(struct tracker *t, const struct flow *f, uint64_t prev_flow_id)
{
	const struct conn *c = f->c;
	struct tcpopt offered = { .mss = c->offer.mss,
				  .wscale = c->wscale0,
				  .sack = c->offer.sack & 1,
				  .timestamps = c->offer.timestamps & 1,
				  .tfo = c->offer.tfo & 1,
				  .mptcp = c->offer.mptcp & 1 };

	tell_begin(t, f, &offered, c->offer.ecn & 1, prev_flow_id,
		   (struct cause){ .ts_ns = c->start_ns, .segment = SEGMENT_SYN });
}

static uint64_t flow_id(const struct flow *f)
{
	return flow_id_of(&f->key, f->c->start_ns, f->c->isn);
}

/* A pending attempt that nothing answered: was it one?  If the old connection went on meanwhile
 * it was a stray SYN; if not, it is told now, with its end. */
static void pending_settle(struct tracker *t, struct flow *f, enum close_reason reason,
			   struct cause cause)
{
	table_ref other, first = table_find(&t->table, f->hash, &f->key, &other);
	table_ref old_ref = first == f->ref ? other : first;
	uint64_t prev = 0;

	if (old_ref != TABLE_NONE) {
		struct flow old = { .key = f->key, .hash = f->hash };

		flow_load(t, &old, old_ref);
		old.c->contested = 0;
		flow_store(t, &old);
		/* Only the last of several attempts against a living connection can be one:
		 * nobody shall fill the stream with SYNs that nobody answers. */
		if (!fsm_over(old.c->state) &&
		    (reason == REASON_REUSE || conn_last_ns(old.c) > f->c->start_ns)) {
			flow_remove(t, f);
			return;
		}
		prev = flow_id(&old);
	}
	tell_attempt(t, f, prev);
	flow_give_up(t, f, reason, -1, cause);
}

/* Lets an entry go for silence if its time has come; true: it is gone. */
static bool flow_expire(struct tracker *t, struct flow *f)
{
	uint64_t at = deadline_of(t, f->c);

	if (t->now_ns < at)
		return false;
	struct cause cause = { .ts_ns = at, .segment = SEGMENT_TIMEOUT, .basis = BASIS_TIMEOUT };

	if (table_shape_of(f->ref) == SHAPE_HALF && table_half(&t->table, f->ref)->pending)
		pending_settle(t, f, silence_means(f->c), cause);
	else
		flow_give_up(t, f, silence_means(f->c), f->c->suspect ? suspect_side(f->c) : -1, cause);
	return true;
}

/* Loads slot @slot of pool @p if it is in use. */
static bool flow_at(const struct tracker *t, struct flow *f, unsigned p, uint32_t slot)
{
	table_ref r = table_slot(p, slot);

	if (!table_live(&t->table, r))
		return false;
	f->key = table_key(&t->table, r);
	f->hash = flow_key_hash(&f->key, &t->cfg.secret);
	flow_load(t, f, r);
	return true;
}

/* Has this slot outlived its time?  A look at a few octets of it, before any work is done. */
static bool slot_due(const struct tracker *t, unsigned p, uint32_t slot)
{
	table_ref r = table_slot(p, slot);

	if (!table_live(&t->table, r))
		return false;
	if (table_shape_of(r) == SHAPE_WHOLE)
		return deadline_of(t, table_conn(&t->table, r)) <= t->now_ns;
	const struct half *h = table_half(&t->table, r);
	enum fsm_timeout wait = h->syn_acks ? FSM_T_SYN_RECEIVED : FSM_T_SYN_SENT;

	return h->start_ns + dur40_ns(h->last) + t->cfg.timeout_ns[wait] <= t->now_ns;
}

/* Looks through a part of each pool. */
static void sweep(struct tracker *t)
{
	for (unsigned p = 0; p < TABLE_POOLS; p++) {
		uint32_t high = t->table.head->pool[p].high;
		uint32_t n = high / SWEEP_PARTS > SWEEP_AT_LEAST ? high / SWEEP_PARTS : SWEEP_AT_LEAST;

		for (n = n > high ? high : n; n; n--) {
			uint32_t slot = t->sweep_slot[p] < high ? t->sweep_slot[p] : 0;
			struct flow f;

			t->sweep_slot[p] = slot + 1;
			if (slot_due(t, p, slot) && flow_at(t, &f, p, slot))
				flow_expire(t, &f);
		}
	}
}

void tracker_advance(struct tracker *t, uint64_t now_ns)
{
	if (now_ns + clock_step_ns < t->now_ns) { /* somebody set the clock back: go on from there */
		t->now_ns = now_ns;
		t->sweep_at_ns = now_ns + sweep_every_ns;
	}
	if (now_ns <= t->now_ns)
		return;
	/* After a silence nothing may be late: the whole table, before anything else is told. */
	bool all = now_ns - t->now_ns > sweep_every_ns * SWEEP_PARTS && t->now_ns;

	t->now_ns = now_ns;
	if (now_ns < t->sweep_at_ns)
		return;
	t->sweep_at_ns = now_ns + sweep_every_ns;
	for (unsigned i = 0; i < (all ? SWEEP_PARTS + 1u : 1u); i++)
		sweep(t);
}

/* What is given up first has the highest rank: entries that are over, then half-open ones, then
 * half-closed and established ones; the oldest among equals. */
static unsigned eviction_rank(const struct conn *c)
{
	return fsm_over(c->state) ? 3 : fsm_handshaking(c->state) ? 2 : c->state == FSM_OPEN ? 0 : 1;
}

static void evict(struct tracker *t, struct flow *f)
{
	struct cause cause = { .ts_ns = t->now_ns, .segment = SEGMENT_NONE, .basis = BASIS_TIMEOUT };
	bool half = table_shape_of(f->ref) == SHAPE_HALF;

	if (!fsm_over(f->c->state))
		counter_add(half ? &t->count->evicted_half : &t->count->evicted_whole, 1);
	if (half && table_half(&t->table, f->ref)->pending)
		pending_settle(t, f, REASON_EVICTED, cause);
	else
		flow_give_up(t, f, REASON_EVICTED, -1, cause);
}

/* Gives one entry of @shape up, but not @keep.  A hand goes round each pool: half entries go in
 * the order in which they came; of the whole ones, the least missed of a few. */
static bool make_room(struct tracker *t, enum table_shape shape, unsigned ip_v, table_ref keep)
{
	unsigned p = (unsigned)shape << 1 | (ip_v == 6);
	unsigned look = shape == SHAPE_HALF ? 1 : EVICTION_SAMPLE;
	struct flow best = { .ref = TABLE_NONE }, f;

	if (!t->table.head->pool[p].used || (t->table.head->pool[p].used == 1 && keep != TABLE_NONE))
		p ^= 1; /* all of them are of the other family */
	uint32_t high = t->table.head->pool[p].high, *hand = &t->evict_slot[p];

	for (uint32_t n = 0; n < high && look; n++) {
		uint32_t slot = *hand < high ? *hand : 0;

		*hand = slot + 1;
		if (table_slot(p, slot) == keep || !flow_at(t, &f, p, slot))
			continue;
		look--;
		if (best.ref != TABLE_NONE) {
			unsigned rank = eviction_rank(f.c), least = eviction_rank(best.c);

			if (rank < least || (rank == least && conn_last_ns(f.c) >= conn_last_ns(best.c)))
				continue;
		}
		best = f;
		if (f.c == &f.unpacked)
			best.c = &best.unpacked;
		if (eviction_rank(best.c) == 3)
			break;
	}
	if (best.ref == TABLE_NONE)
		return false;
	evict(t, &best);
	return true;
}

/* ---- one segment ---------------------------------------------------------------------------- */

static void account(struct conn *c, enum fsm_side from, const struct segment *s, struct proof p)
{
	uint32_t payload = p.probe ? 0 : s->payload_len;
	uint64_t data = (uint64_t)c->payload_lo[from] + payload;
	uint64_t header = (uint64_t)c->header_lo[from] + s->wire_len - payload;

	c->payload_lo[from] = (uint32_t)data;
	c->header_lo[from] = (uint32_t)header;
	if (!fsm_offering(c->state)) {
		c->payload_hi[from] += (uint16_t)(data >> 32);
		c->header_hi[from] += (uint8_t)(header >> 32);
	}
	if (c->pkts[from] <= UINT32_MAX - s->wire_segs)
		c->pkts[from] += s->wire_segs;

	uint64_t at = offset_of(c, s->ts_ns);

	if (at > dur48_ns(c->last))
		c->last = dur48_of(at);
}

static void count_retrans(struct conn *c, enum fsm_side from)
{
	if (c->retrans[from] != UINT16_MAX)
		c->retrans[from]++;
}

/* Zeek's letters and Wireshark's bits. */
static void note_history(struct conn *c, enum fsm_side from, const struct segment *s, bool again,
			 bool probe)
{
	bool data = s->payload_len && !probe;

	switch (segment_kind(s)) {
	case SEGMENT_SYN:
		c->complete |= COMPLETE_SYN;
		conn_history_add(c, from, HISTORY_SYN);
		return;
	case SEGMENT_SYN_ACK:
		c->complete |= COMPLETE_SYN_ACK;
		conn_history_add(c, from, HISTORY_SYN_ACK);
		return;
	case SEGMENT_RST:
		c->complete |= COMPLETE_RST;
		conn_history_add(c, from, HISTORY_RST);
		return;
	case SEGMENT_FIN:
	case SEGMENT_FIN_ACK:
		c->complete |= COMPLETE_FIN | COMPLETE_ACK;
		break;
	default:
		c->complete |= COMPLETE_ACK;
		if (!data)
			conn_history_add(c, from, HISTORY_ACK);
		break;
	}
	if (data) {
		c->complete |= COMPLETE_DATA;
		conn_history_add(c, from, HISTORY_DATA);
		if (again)
			conn_history_add(c, from, HISTORY_RETRANSMIT);
	}
	if (s->flags & TCP_FIN)
		conn_history_add(c, from, HISTORY_FIN);
	if (!s->window && s->flags & TCP_ACK)
		conn_history_add(c, from, HISTORY_ZERO_WINDOW);
}

/* What a SYN or SYN-ACK offers. */
static void learn_offer(struct conn *c, enum fsm_side from, const struct segment *s,
			const struct tcpopt *o)
{
	unsigned bit = 1u << from;
	unsigned ecn = s->flags & (TCP_ECE | TCP_CWR);

	if (from == SIDE_A)
		c->wscale0 = o->wscale;
	else
		c->wscale1 = o->wscale;
	if (!fsm_offering(c->state))
		return;
	if (o->mss && (!c->offer.mss || o->mss < c->offer.mss))
		c->offer.mss = o->mss;
	c->offer.sack |= o->sack ? bit : 0;
	c->offer.timestamps |= o->timestamps ? bit : 0;
	c->offer.tfo |= o->tfo ? bit : 0;
	c->offer.mptcp |= o->mptcp ? bit : 0;
	/* RFC 3168 6.1.1: a SYN asks with both, a SYN-ACK agrees with ECE alone. */
	c->offer.ecn |= ecn == (s->flags & TCP_ACK ? TCP_ECE : TCP_ECE | TCP_CWR) ? bit : 0;
}

/* The connection goes to @to.  How long each end was where it was, if it moved: @ret_moved_ns. */
static bool change(struct tracker *t, struct conn *c, enum fsm_state to, uint64_t ts_ns,
		   uint64_t ret_moved_ns[static SIDES])
{
	enum fsm_state before = c->state;
	uint64_t at = offset_of(c, ts_ns);
	bool moved = false;

	for (unsigned side = 0; side < SIDES; side++) {
		ret_moved_ns[side] = DURATION_UNKNOWN;
		if (fsm_endpoint(before, side) == fsm_endpoint(to, side))
			continue;
		uint64_t since = dur40_ns(c->since[side]);

		ret_moved_ns[side] = at > since ? at - since : 0;
		c->since[side] = dur40_of(at);
		moved = true;
	}
	if (fsm_offering(before) && !fsm_offering(to)) {
		memset(c->payload_hi, 0, sizeof c->payload_hi);
		memset(c->header_hi, 0, sizeof c->header_hi);
		c->gap = 0;
	}
	c->merged |= (before == FSM_FIN_A && to == FSM_LAST_A) ||
		     (before == FSM_FIN_B && to == FSM_LAST_B);
	c->state = to & 31;
	count_state(t, before, to);
	return moved;
}

static bool both_fins(enum fsm_state s)
{
	return fsm_fin_seen(s, SIDE_A) && fsm_fin_seen(s, SIDE_B);
}

static enum close_reason reason_of(enum fsm_state before, enum fsm_state after, enum fsm_side from)
{
	if (after != FSM_RESET || both_fins(before))
		return REASON_FIN; /* after both FINs an RST changes nothing: RFC 1337 */
	/* an RST to a SYN refuses it, unless it is the client's own */
	return before == FSM_SYN && from == SIDE_B ? REASON_REFUSED : REASON_RST;
}

/* The connection goes to @to for @s; tells what its ends did.  False: nothing, there was no word
 * to say. */
static bool move(struct tracker *t, struct flow *f, enum fsm_side from, enum fsm_state to,
		 const struct segment *s, bool inferred)
{
	struct conn *c = f->c, offered = *c; /* what the handshake knew, before it is overwritten */
	enum fsm_state before = c->state;
	struct cause cause = cause_of(s, inferred);
	uint64_t moved_ns[SIDES];

	if (both_fins(to) && !both_fins(before)) {
		struct tcpopt o = tcpopt_parse(s->options);

		c->tsval = o.tsval; /* window[] is not needed any more */
		c->tsval_ok = o.timestamps;
	}
	if (!change(t, c, to, s->ts_ns, moved_ns))
		return false;
	if (fsm_over(to)) {
		tell_end(t, f, before, reason_of(before, to, from), to == FSM_RESET ? (int)from : -1,
			 cause, moved_ns);
		return true;
	}
	bool established = fsm_handshaking(before) && !fsm_handshaking(to);
	struct event *e = event_begin(t);

	if (!e)
		return true;
	tell_common(e, established ? EVENT_TCP_ESTABLISHED : EVENT_TCP_STATE, &f->key, c, before, cause);
	memcpy(e->prev_state_ns, moved_ns, sizeof moved_ns);
	if (established)
		tell_established(e, &offered, before, s->ts_ns);
	event_end(t);
	return true;
}

/* Applies proofs in their order, beginning at state @to.  With @mirror each is applied for both
 * sides: self-connection.  A remark that the proof carries is told only if nothing better is: one
 * segment, one event. */
static void apply(struct tracker *t, struct flow *f, enum fsm_side from, const struct segment *s,
		  struct proof p, enum fsm_state to, bool mirror)
{
	unsigned anomaly = p.anomaly;
	bool inferred = false;

	for (unsigned ev = 0; ev < EVIDENCES; ev++) {
		if (!(p.evidence >> ev & 1))
			continue;
		enum fsm_state next = fsm_step(to, from, ev, &inferred);

		if (next != FSM_ILLEGAL && mirror)
			next = fsm_step(next, !from, ev, &inferred);
		if (next == FSM_ILLEGAL) {
			anomaly = ANOMALY_ILLEGAL;
			break;
		}
		to = next;
	}
	bool told = to != f->c->state && move(t, f, from, to, s, inferred);

	if (anomaly != ANOMALY_NONE)
		note_anomaly(t, f, from, anomaly, cause_of(s, false), !told);
}

/* A segment that answers a SYN tells how long that took: before anything is changed. */
static void time_answer(struct conn *c, const struct segment *s)
{
	uint64_t at = offset_of(c, s->ts_ns), asked = dur48_ns(c->last);

	c->server_rtt = dur32_of(at > asked ? at - asked : 0);
}

/* A segment of a connection that is known and not over. */
static void flow_feed(struct tracker *t, struct flow *f, enum fsm_side from, const struct segment *s)
{
	struct conn *c = f->c;
	bool mirror = f->key.self && !(s->flags & TCP_RST), again = false;
	enum fsm_state before = c->state, at = before;

	if (mirror && at == FSM_SYN && s->flags & TCP_SYN && s->flags & TCP_ACK) {
		/* It received its own SYN meanwhile: that is a crossed one. */
		c->next[SIDE_B] = c->next[SIDE_A];
		c->acked[SIDE_B] = c->acked[SIDE_A];
		c->sent = c->heard = 3;
		at = FSM_CROSSED;
	}
	c->state = at & 31;
	struct proof p = guard_prove(c, from, s);

	c->state = before & 31;
	bool syn = s->flags & TCP_SYN;

	if (syn && (p.acceptable || p.repeat)) {
		struct tcpopt o = tcpopt_parse(s->options);

		learn_offer(c, from, s, &o);
		if (p.acceptable && c->state == FSM_SYN && from == SIDE_B && s->flags & TCP_ACK)
			time_answer(c, s);
		if (p.refuses_data) { /* it comes again: not counted twice */
			c->header_lo[SIDE_A] += c->payload_lo[SIDE_A];
			c->payload_lo[SIDE_A] = 0;
		} else if (p.acceptable && c->state == FSM_SYN && s->flags & TCP_ACK &&
			   c->payload_lo[SIDE_A]) {
			c->tfo = 1;
		}
	}
	/* The first of its kind may be overtaken by what it led to: then it repeats nothing. */
	bool late = p.repeat &&
		    !(c->complete & (s->flags & TCP_ACK ? COMPLETE_SYN_ACK : COMPLETE_SYN));

	account(c, from, s, p);
	if (p.acceptable || p.repeat) {
		again = guard_learn(c, from, s, p) || (p.repeat && !late);
		if (mirror) {
			c->next[!from] = c->next[from];
			c->acked[from] = c->acked[!from];
		}
		if (!(s->flags & TCP_RST))
			c->suspect = 0;
	}
	if (p.acceptable || p.repeat || s->flags & TCP_RST)
		note_history(c, from, s, again, p.probe);
	if (again)
		count_retrans(c, from);
	c->suspect |= p.suspect;
	apply(t, f, from, s, p, at, mirror);
}

/* ---- connections begin ---------------------------------------------------------------------- */

/* Who is the client, when no SYN says so?  The end whose port looks like a service is not. */
static unsigned guess_client(const struct segment *s, unsigned sender, enum direction_basis *ret)
{
	enum { WELL_KNOWN = 1024, EPHEMERAL = 32768 }; /* IANA; Linux ip_local_port_range */
	bool low = s->sport < WELL_KNOWN, low_peer = s->dport < WELL_KNOWN;

	if (low == low_peer) {
		low = s->sport < EPHEMERAL;
		low_peer = s->dport < EPHEMERAL;
	}
	*ret = low == low_peer ? DIRECTION_FIRST_PACKET : DIRECTION_PORT;
	return low && !low_peer ? !sender : sender;
}

static struct conn_where where_of(const struct segment *s)
{
	return (struct conn_where){ .iface = s->iface & 0xff,
				    .outer = s->nvlan > 0 ? s->vlan[0] & 0xfff : VLAN_NONE,
				    .inner = s->nvlan > 1 ? s->vlan[1] & 0xfff : VLAN_NONE };
}

/* An entry for the connection that @s begins, as it is before @s.  @old, if not NULL, is the one
 * that the 4-tuple had: where the clock is too coarse to tell them apart, the new one begins a
 * nanosecond later, since the flow id follows from the start. */
static void conn_begin(struct conn *c, const struct segment *s, unsigned sender,
		       const struct conn *old)
{
	enum direction_basis basis = DIRECTION_SYN;
	unsigned client = sender;
	bool syn = s->flags & TCP_SYN;

	*c = (struct conn){ .start_ns = s->ts_ns,
			    .where = where_of(s),
			    .wscale0 = TCPOPT_WSCALE_NONE,
			    .wscale1 = TCPOPT_WSCALE_NONE };
	if (syn && s->flags & TCP_ACK) {
		basis = DIRECTION_SYN_ACK;
		client = !sender;
		c->isn = s->ack - 1;
		c->next[SIDE_A] = c->acked[SIDE_A] = s->ack;
		c->sent = c->heard = 1 << SIDE_A;
		c->server_rtt.v = UINT32_MAX;
		c->wscale0 = TCPOPT_WSCALE_MAX; /* the client's SYN, not seen, may have said so */
	} else if (!syn) {
		client = guess_client(s, sender, &basis);
		c->isn = s->seq;
		c->midstream = 1;
		c->wscale0 = c->wscale1 = TCPOPT_WSCALE_MAX; /* not known: the most there is */
	} else {
		c->isn = s->seq;
	}
	c->client_end = client & 1;
	c->direction = basis & 3;
	if (old && old->start_ns - c->start_ns < clock_tick_ns)
		c->start_ns = old->start_ns + 1;
}

/* The first segment of a connection; @old, if not NULL, is the one that it takes over from. */
static void flow_open(struct tracker *t, struct flow *f, unsigned sender, const struct segment *s,
		      const struct conn *old)
{
	uint64_t prev_flow_id = old ? flow_id_of(&f->key, old->start_ns, old->isn) : 0;
	struct conn *c = f->c = &f->unpacked;
	struct tcpopt opt, *offered = NULL;
	bool inferred = false;

	f->ref = TABLE_NONE;
	conn_begin(c, s, sender, old);

	enum fsm_side from = sender != c->client_end;
	struct proof p = guard_prove(c, from, s);
	enum fsm_state to = FSM_NONE;

	for (unsigned ev = 0; p.acceptable && ev < EVIDENCES; ev++)
		if (p.evidence >> ev & 1)
			to = fsm_step(to, from, ev, &inferred);
	if (to == FSM_NONE || to == FSM_ILLEGAL) { /* an RST to nothing, a scan's odd flags */
		counter_add(&t->count->strays, 1);
		return;
	}
	c->state = to;
	if (s->flags & TCP_SYN) {
		opt = tcpopt_parse(s->options);
		offered = s->flags & TCP_ACK ? NULL : &opt;
		learn_offer(c, from, s, &opt);
	}
	account(c, from, s, p);
	guard_learn(c, from, s, p);
	note_history(c, from, s, false, false);
	count_state(t, FSM_NONE, to);
	tell_begin(t, f, offered, offered && c->offer.ecn >> from & 1, prev_flow_id,
		   cause_of(s, inferred));
	flow_store(t, f);
}

/* ---- a SYN with another ISN on a 4-tuple that is taken --------------------------------------- */

/* May @s begin a new connection at once, though the old one is not forgotten?  RFC 9293 3.6.1
 * and RFC 6191 2: where nobody waits any more, or when it is newer than the old connection. */
static bool supersedes(const struct conn *c, enum fsm_side from, const struct segment *s)
{
	if (fsm_endpoint(c->state, !from) != END_TIME_WAIT)
		return true;
	if (seq_lt(c->next[from], s->seq))
		return true;
	struct tcpopt o = tcpopt_parse(s->options);

	return c->tsval_ok && o.timestamps && seq_lt(c->tsval, o.tsval);
}

/* Holds @s as an attempt that nobody has answered yet, beside the old connection @old (states.md
 * in words: a new incarnation begins when the peer answers it; a challenge ACK drops it). */
static void pending_hold(struct tracker *t, struct flow *old, unsigned sender,
			 const struct segment *s)
{
	struct flow f = { .key = old->key, .hash = old->hash, .ref = TABLE_NONE };
	struct segment bare = *s;
	struct half half;

	bare.payload_len = 0; /* data on it will be sent again, or was never taken */
	bare.wire_len -= s->payload_len;
	f.c = &f.unpacked;
	conn_begin(f.c, &bare, sender, old->c);
	if (t->attempt_ns - f.c->start_ns < clock_tick_ns) /* as in conn_begin() */
		f.c->start_ns = t->attempt_ns + 1;
	t->attempt_ns = f.c->start_ns;
	f.c->state = FSM_SYN;

	struct tcpopt o = tcpopt_parse(s->options);
	struct proof p = { .evidence = 1 << EV_SYN, .anomaly = ANOMALY_NONE, .acceptable = true };

	learn_offer(f.c, SIDE_A, &bare, &o);
	account(f.c, SIDE_A, &bare, p);
	guard_learn(f.c, SIDE_A, &bare, p);
	note_history(f.c, SIDE_A, &bare, false, false);
	if (!conn_pack(f.c, &half))
		return; /* a header of more than 255 octets: not worth holding */
	half.pending = 1;
	f.ref = flow_slot(t, &f, SHAPE_HALF, old->ref);
	if (f.ref == TABLE_NONE)
		return;
	*table_half(&t->table, f.ref) = half;
	count_state(t, FSM_NONE, FSM_SYN);
	old->c->contested = 1;
	gauges(t);
}

/* Forgets the pending attempt @f; @old, if there is one, is not contested any more. */
static void pending_drop(struct tracker *t, struct flow *f, struct flow *old)
{
	flow_remove(t, f);
	if (old->ref != TABLE_NONE) {
		old->c->contested = 0;
		flow_store(t, old);
	}
}

/* The attempt @f was answered: the old connection is gone, this one is told. */
static void pending_confirm(struct tracker *t, struct flow *f, struct flow *old,
			    const struct segment *s)
{
	uint64_t prev = 0;

	if (old->ref != TABLE_NONE) {
		prev = flow_id(old);
		flow_give_up(t, old, REASON_REUSE, -1, cause_of(s, false));
	}
	table_half(&t->table, f->ref)->pending = 0;
	tell_attempt(t, f, prev);
}

/* The SYN of the attempt once more.  It stays a half entry: a repetition of another size is not
 * counted, but keeps it alive. */
static void pending_again(struct tracker *t, struct flow *f, const struct segment *s)
{
	struct half *h = table_half(&t->table, f->ref), again;
	struct segment bare = *s;

	bare.payload_len = 0;
	bare.wire_len -= s->payload_len;
	account(f->c, SIDE_A, &bare, (struct proof){ 0 });
	count_retrans(f->c, SIDE_A);
	if (conn_pack(f->c, &again)) {
		again.pending = 1;
		*h = again;
	} else {
		h->last = dur40_of(dur48_ns(f->c->last));
	}
}

/* What a segment means for a pending attempt. */
enum pending_verdict {
	PENDING_STANDS,
	PENDING_AGAIN,
	PENDING_CONFIRMED,
	PENDING_DROPPED,
	PENDING_REPLACED /* by yet another attempt */
};

static enum pending_verdict pending_judge(const struct conn *c, enum fsm_side from,
					  const struct segment *s)
{
	bool syn = s->flags & TCP_SYN, ack = s->flags & TCP_ACK, rst = s->flags & TCP_RST;

	if (from == SIDE_A) {
		if (syn && !ack)
			return s->seq == c->isn ? PENDING_AGAIN : PENDING_REPLACED;
		/* its third segment: the answer was not seen */
		return !rst && s->seq == c->isn + 1 ? PENDING_CONFIRMED : PENDING_STANDS;
	}
	if (syn && !ack) /* an attempt the other way round: one is held, the newest */
		return PENDING_REPLACED;
	if (ack && s->ack == c->isn + 1 && (syn || rst))
		return PENDING_CONFIRMED;
	/* a challenge ACK, or simply the old connection going on */
	return ack && !syn && !rst ? PENDING_DROPPED : PENDING_STANDS;
}

/* A segment of a 4-tuple with a pending attempt @pend_ref and, maybe, an old connection.  Returns
 * the entry that the segment is for, or TABLE_NONE; *ret_done: nothing is left to do. */
static table_ref contested_feed(struct tracker *t, const struct flow *f, table_ref pend_ref,
				table_ref old_ref, unsigned sender, const struct segment *s,
				bool *ret_done)
{
	struct flow pend = { .key = f->key, .hash = f->hash };
	struct flow old = { .key = f->key, .hash = f->hash, .ref = TABLE_NONE };

	if (old_ref != TABLE_NONE) {
		flow_load(t, &old, old_ref);
		if (flow_expire(t, &old))
			old.ref = TABLE_NONE;
	}
	flow_load(t, &pend, pend_ref);
	if (flow_expire(t, &pend))
		return old.ref;
	if (old.ref == TABLE_NONE) { /* nobody contests it any more: an attempt like any other */
		pending_confirm(t, &pend, &old, s);
		return pend.ref;
	}

	enum fsm_side from = sender != pend.c->client_end;

	switch (pending_judge(pend.c, from, s)) {
	case PENDING_AGAIN:
		pending_again(t, &pend, s);
		*ret_done = true;
		break;
	case PENDING_CONFIRMED:
		pending_confirm(t, &pend, &old, s);
		return pend.ref;
	case PENDING_DROPPED:
		pending_drop(t, &pend, &old);
		break;
	case PENDING_REPLACED:
		pending_settle(t, &pend, REASON_REUSE, cause_of(s, false));
		break;
	case PENDING_STANDS:
		break;
	}
	return old.ref;
}

/* ---- the entrance --------------------------------------------------------------------------- */

static bool bare_syn(const struct segment *s)
{
	return (s->flags & (TCP_SYN | TCP_ACK | TCP_RST | TCP_FIN)) == TCP_SYN;
}

/* Closes what was there and begins anew on the same 4-tuple. */
static void flow_replace(struct tracker *t, struct flow *f, unsigned sender, const struct segment *s)
{
	struct conn old = *f->c;

	flow_give_up(t, f, REASON_REUSE, -1, cause_of(s, false));
	flow_open(t, f, sender, s, &old);
}

/* A segment for a connection that is over: a straggler, or the first of the next one. */
static void over_feed(struct tracker *t, struct flow *f, unsigned sender, const struct segment *s)
{
	enum fsm_side from = sender != f->c->client_end;

	if (!bare_syn(s) || (from == SIDE_A && s->seq == f->c->isn))
		return;
	if (supersedes(f->c, from, s))
		flow_replace(t, f, sender, s);
	else
		pending_hold(t, f, sender, s);
	if (f->ref != TABLE_NONE)
		flow_store(t, f);
}

/* The short way for what is nearly all of the traffic: does what flow_feed() would do. */
static bool plain_feed(const struct flow *f, unsigned sender, const struct segment *s)
{
	struct conn *c = f->c;
	enum fsm_side from = sender != c->client_end;
	unsigned complete = COMPLETE_ACK | (s->payload_len ? COMPLETE_DATA : 0);

	if (!guard_is_plain(c, from, s) || c->suspect || f->key.self || (c->complete & complete) != complete ||
	    !conn_history_has(c, from, s->payload_len ? HISTORY_DATA : HISTORY_ACK))
		return false;
	account(c, from, s, (struct proof){ 0 });
	guard_learn_plain(c, from, s);
	return true;
}

static void known_feed(struct tracker *t, struct flow *f, unsigned sender, const struct segment *s)
{
	enum fsm_side from = sender != f->c->client_end;
	bool other_syn = bare_syn(s) && guard_prove(f->c, from, s).anomaly == ANOMALY_SYN_IN_OPEN;

	if (f->key.self)
		from = SIDE_A;
	if (other_syn && from == SIDE_A && f->c->state == FSM_SYN) {
		flow_replace(t, f, sender, s); /* it gave the first attempt up */
		return;
	}
	flow_feed(t, f, from, s);
	if (other_syn)
		pending_hold(t, f, sender, s);
	flow_store(t, f);
}

/* Does the 4-tuple of this entry have a second one? */
static bool entry_contested(const struct tracker *t, table_ref r)
{
	if (table_shape_of(r) == SHAPE_WHOLE)
		return table_conn(&t->table, r)->contested;
	const struct half *h = table_half(&t->table, r);

	return h->pending || h->contested;
}

/* Key and hash of @f are set; @sender is the end that sent @s. */
static void feed(struct tracker *t, struct flow *f, unsigned sender, const struct segment *s)
{
	tracker_advance(t, s->ts_ns);

	table_ref other = TABLE_NONE, ref = table_find(&t->table, f->hash, &f->key, NULL);

	if (ref != TABLE_NONE && unlikely(entry_contested(t, ref))) {
		bool done = false;

		ref = table_find(&t->table, f->hash, &f->key, &other);
		if (table_shape_of(ref) == SHAPE_HALF && table_half(&t->table, ref)->pending) {
			table_ref pending = ref;

			ref = other;
			other = pending;
		}
		if (other != TABLE_NONE)
			ref = contested_feed(t, f, other, ref, sender, s, &done);
		if (done)
			return;
	}
	if (ref != TABLE_NONE) {
		flow_load(t, f, ref);
		if (unlikely(flow_expire(t, f)))
			ref = TABLE_NONE;
	}
	if (ref == TABLE_NONE)
		flow_open(t, f, sender, s, NULL);
	else if (likely(plain_feed(f, sender, s)))
		return;
	else if (fsm_over(f->c->state))
		over_feed(t, f, sender, s);
	else
		known_feed(t, f, sender, s);
}

void tracker_feed(struct tracker *t, const struct segment *s, unsigned n)
{
	struct flow f[TRACKER_BATCH];
	unsigned sender[TRACKER_BATCH];

	/* A table of millions is memory far away: ask for all lines first, then work. */
	for (unsigned i = 0; i < n; i++) {
		sender[i] = flow_key_of(&s[i], &f[i].key);
		f[i].hash = flow_key_hash(&f[i].key, &t->cfg.secret);
		table_prefetch(&t->table, f[i].hash);
	}
	for (unsigned i = 0; i < n; i++)
		table_prefetch_entry(&t->table, f[i].hash);
	for (unsigned i = 0; i < n; i++)
		feed(t, &f[i], sender[i], &s[i]);
}

void tracker_unreachable(struct tracker *t, const struct segment *quoted)
{
	struct flow f;
	uint64_t moved_ns[SIDES];
	unsigned sender = flow_key_of(quoted, &f.key);

	tracker_advance(t, quoted->ts_ns);
	f.hash = flow_key_hash(&f.key, &t->cfg.secret);

	table_ref ref = table_find(&t->table, f.hash, &f.key, NULL);

	if (ref == TABLE_NONE || entry_contested(t, ref))
		return;
	flow_load(t, &f, ref);
	if (flow_expire(t, &f) || f.c->state != FSM_SYN || sender != f.c->client_end ||
	    quoted->seq != f.c->isn)
		return;
	change(t, f.c, FSM_RESET, quoted->ts_ns, moved_ns);
	tell_end(t, &f, FSM_SYN, REASON_UNREACHABLE, -1,
		 (struct cause){ .ts_ns = quoted->ts_ns, .segment = SEGMENT_ICMP }, moved_ns);
	flow_store(t, &f);
}

void tracker_loss(struct tracker *t, uint64_t from_ns, uint64_t to_ns, uint64_t count,
		  uint64_t freezes)
{
	struct event *e;

	if (t->losses == LOSS_WINDOWS) { /* the two oldest become one: rather too wide than unsaid */
		t->loss[1].from_ns = t->loss[0].from_ns;
		memmove(t->loss, t->loss + 1, sizeof *t->loss * (LOSS_WINDOWS - 1));
		t->losses--;
	}
	t->loss[t->losses++] = (struct loss_window){ from_ns, to_ns };
	e = event_begin(t);
	if (!e)
		return;
	e->ts_ns = to_ns;
	e->flow_id = 0;
	e->kind = EVENT_CAPTURE_LOSS;
	e->loss.count = count;
	e->loss.freezes = freezes;
	e->loss.from_ns = from_ns;
	e->loss.to_ns = to_ns;
	event_end(t);
}

void tracker_close_all(struct tracker *t, enum close_reason reason)
{
	struct cause cause = { .ts_ns = t->now_ns, .segment = SEGMENT_NONE, .basis = BASIS_OBSERVED };

	for (unsigned p = 0; p < TABLE_POOLS; p++) {
		for (uint32_t slot = 0; slot < t->table.head->pool[p].high; slot++) {
			struct flow f;

			if (!flow_at(t, &f, p, slot))
				continue;
			if (flow_expire(t, &f))
				continue;
			if (table_shape_of(f.ref) == SHAPE_HALF && table_half(&t->table, f.ref)->pending)
				pending_settle(t, &f, reason, cause);
			else
				flow_give_up(t, &f, reason, -1, cause);
		}
	}
}

size_t tracker_memory(const struct tracker_config *c)
{
	return table_size(c->max_connections, c->max_half_open);
}

struct tracker *tracker_new(const struct tracker_config *c, void *memory, struct event_sink *sink,
			    struct tracker_counters *counters)
{
	struct tracker *t = calloc(1, sizeof *t);

	if (!t)
		return NULL;
	t->cfg = *c;
	if (t->cfg.anomalies_per_connection > ANOMALIES_TOLD_MAX)
		t->cfg.anomalies_per_connection = ANOMALIES_TOLD_MAX;
	t->sink = sink;
	t->count = counters;
	table_init(&t->table, memory, c->max_connections, c->max_half_open);
	return t;
}

void tracker_free(struct tracker *t)
{
	free(t);
}
