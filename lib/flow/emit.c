#include "flow/emit.h"
#include <string.h>
#include "flow/control_mode.h"
#include "flow/entry_store.h"
#include "flow/tracker_state.h"
#include "wire/tcpopt.h"

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

struct trigger trigger_of(const struct segment *s, bool inferred)
{
	return (struct trigger){ s->ts_ns, segment_kind(s),
				 inferred ? BASIS_INFERRED : BASIS_OBSERVED };
}

/* The sink of unwanted kinds.  With one sink for each kind the wanted ones cost no test. */
static struct event *reserve_nothing(struct event_sink *s)
{
	(void)s;
	return NULL;
}

void emit_configure(struct tracker *t)
{
	t->nowhere = (struct event_sink){ .reserve = reserve_nothing };
	for (unsigned kind = 0; kind < EVENT_KINDS; kind++)
		t->sinks[kind] = t->cfg.unwanted & 1u << kind ? &t->nowhere : t->sink;
}

static struct event *emit_reserve(struct tracker *t, enum event_kind kind)
{
	return t->sinks[kind]->reserve(t->sinks[kind]);
}

/* Sets what every TCP event has: @f in its state after the event, @before in prev_state. */
static inline __attribute__((always_inline)) void
fill_tcp(const struct tracker *t, struct event *e, enum event_kind kind, const struct flow *f,
	 enum fsm_state before, struct trigger trigger)
{
	const struct conn *c = f->c;
	const struct flow_key *key = &f->key;
	unsigned client = c->client_end;

	e->ts_ns = trigger.ts_ns;
	e->flow_id = flow_id_of(key, c->start_ns, c->isn);
	flow_key_end(key, client, e->addr[0], &e->port[0]);
	flow_key_end(key, !client, e->addr[1], &e->port[1]);
	e->vlan[0] = c->outer;
	e->vlan[1] = c->inner;
	e->nvlan = (c->outer != VLAN_NONE) + (c->inner != VLAN_NONE);
	e->iface = tracker_origin(t, c->iface);
	e->kind = kind;
	e->ip_v = key->ip_v;
	e->segment = trigger.segment;
	e->basis = trigger.basis;
	e->midstream = conn_is_midstream(c);
	e->direction_basis = c->direction;
	for (unsigned side = 0; side < SIDES; side++) {
		e->state[side] = fsm_endpoint(c->state, side);
		e->prev_state[side] = fsm_endpoint(before, side);
		e->prev_state_ns[side] = DURATION_UNKNOWN;
	}
}

/* The record of the next event, filled so.  NULL: the event is lost, or not wanted. */
static inline __attribute__((always_inline)) struct event *
emit_begin_tcp(struct tracker *t, enum event_kind kind, const struct flow *f, enum fsm_state before,
	       struct trigger trigger)
{
	struct event *e = emit_reserve(t, kind);

	if (e)
		fill_tcp(t, e, kind, f, before, trigger);
	return e;
}

/* ---- tcp_open -------------------------------------------------------------------------------- */

static void fill_options(struct event_options *o, unsigned bits)
{
	o->sack = bits & OFFER_SACK;
	o->timestamps = bits & OFFER_TIMESTAMPS;
	o->tfo = bits & OFFER_TFO;
	o->ecn = bits & OFFER_ECN;
	o->mptcp = bits & OFFER_MPTCP;
}

void emit_open(struct tracker *t, const struct flow *f, int mss, uint64_t prev_flow_id,
	       struct trigger trigger)
{
	struct event *e = emit_begin_tcp(t, EVENT_TCP_OPEN, f, FSM_NONE, trigger);

	counter_add(&t->count->opened, 1);
	if (!e)
		return;
	e->open.has_options = mss != NO_OFFER;
	e->open.prev_flow_id = prev_flow_id;
	if (mss != NO_OFFER) {
		e->open.options =
			(struct event_options){ .mss = (uint16_t)mss, .wscale = { f->c->wscale0 } };
		fill_options(&e->open.options, f->c->offer.bits);
	}
	t->sink->commit(t->sink);
}

/* ---- tcp_state and tcp_established ----------------------------------------------------------- */

/* Leaves out times that rest on segments that were not seen. */
static void fill_established(struct event *e, const struct handshake *done, enum fsm_state before,
			     uint64_t now_ns)
{
	const struct conn *c = done->before;
	uint64_t age = now_ns > c->start_ns ? now_ns - c->start_ns : 0;

	e->established.server_rtt_ns = e->established.client_rtt_ns = e->established.total_ns =
		DURATION_UNKNOWN;
	e->established.syn_retrans = c->retrans[SIDE_A];
	e->established.synack_retrans = c->retrans[SIDE_B];
	e->established.options =
		(struct event_options){ .wscale = { TCPOPT_WSCALE_NONE, TCPOPT_WSCALE_NONE } };
	if (!fsm_offering(before))
		return;				/* an answer that was never seen */
	bool seen = e->basis == BASIS_OBSERVED; /* the segment that completed it */

	if (c->complete & COMPLETE_SYN && seen)
		e->established.total_ns = age;
	if (before == FSM_ANSWERED)
		e->established.server_rtt_ns = dur32_ns(c->server_rtt);
	if (before == FSM_ANSWERED && seen)
		e->established.client_rtt_ns = done->client_rtt_ns;
	/* Without the SYN: a SYN-ACK repeats what was offered (RFC 7323 2.2, 3.2), but not the
	 * client's scale. */
	bool syn = c->complete & COMPLETE_SYN;
	struct event_options *o = &e->established.options;

	o->mss = c->offer.mss;
	if (syn && c->wscale0 != TCPOPT_WSCALE_NONE && c->wscale1 != TCPOPT_WSCALE_NONE) {
		o->wscale[0] = c->wscale0;
		o->wscale[1] = c->wscale1;
	}
	fill_options(o, c->offer.bits >> 1 & (syn ? c->offer.bits : OFFER_ALL));
	o->tfo = c->tfo;
}

void emit_move(struct tracker *t, const struct flow *f, enum fsm_state before,
	       struct trigger trigger, const uint64_t moved_ns[static SIDES],
	       const struct handshake *done)
{
	struct event *e = done ? emit_begin_tcp(t, EVENT_TCP_ESTABLISHED, f, before, trigger)
			       : emit_begin_tcp(t, EVENT_TCP_STATE, f, before, trigger);

	if (!e)
		return;
	memcpy(e->prev_state_ns, moved_ns, sizeof e->prev_state_ns);
	if (done)
		fill_established(e, done, before, trigger.ts_ns);
	t->sink->commit(t->sink);
}

/* ---- tcp_close and snapshot ----------------------------------------------------------------- */

static enum teardown teardown_of(const struct conn *c, enum fsm_state before,
				 enum close_reason reason)
{
	if (reason == REASON_RST || reason == REASON_REFUSED)
		return TEARDOWN_RESET;
	if (reason != REASON_FIN)
		return TEARDOWN_NONE; /* not closed, as far as one knows */
	if (fsm_first_closer(before) == 3)
		return TEARDOWN_SIMULTANEOUS;
	return c->merged ? TEARDOWN_THREE_SEGMENTS : TEARDOWN_FOUR_SEGMENTS;
}

static enum closed_by closed_by_of(enum fsm_state before, enum close_reason reason, int rst_by)
{
	if (reason == REASON_RST || reason == REASON_REFUSED)
		return rst_by == SIDE_A ? CLOSED_BY_CLIENT : CLOSED_BY_SERVER;
	return (enum closed_by)fsm_first_closer(before); /* its bits, by design */
}

/* Has the peer acknowledged all that @side is known to have sent? */
static bool all_acked(const struct conn *c, enum fsm_side side)
{
	bool known = c->sent >> side & c->heard >> side & 1;

	return !known || c->acked[side] == c->next[side];
}

/* What nobody has acknowledged of a connection that goes on, as far as one knows. */
static enum outstanding outstanding_of(const struct conn *c)
{
	enum fsm_state s = c->state;

	if (s == FSM_SYN || s == FSM_CROSSED)
		return OUTSTANDING_SYN;
	if (s < FSM_CLAIMED)
		return OUTSTANDING_SYN_ACK;
	if (all_acked(c, SIDE_A) && all_acked(c, SIDE_B))
		return OUTSTANDING_NONE;
	return s == FSM_OPEN || s == FSM_CLAIMED || s == FSM_HALF_A || s == FSM_HALF_B
		       ? OUTSTANDING_DATA
		       : OUTSTANDING_FIN;
}

/* All but closed_by and outstanding.  @before, @rst_by: as in emit_close(). */
static inline __attribute__((always_inline)) void fill_totals(struct event_totals *n,
							      const struct tracker *t,
							      const struct conn *c,
							      enum fsm_state before, int rst_by)
{
	n->start_ns = c->start_ns;
	n->end_ns = c->last_ns;
	n->history = c->history;
	for (unsigned side = 0; side < SIDES; side++) {
		struct conn_counts k = conn_counts(c, side);

		n->payload[side] = k.payload;
		n->bytes[side] = k.payload + k.header;
		n->pkts[side] = (uint32_t)k.pkts;
		n->retrans[side] = c->retrans[side];
	}
	n->gap_bytes = fsm_offering(c->state) ? 0 : c->gap_bytes;
	n->conn_state = conn_zeek_state(c, before, rst_by);
	n->completeness = c->complete;
	n->counts = COUNTS_SEGMENTS;
	n->lossy = tracker_was_lossy(t, c);
	if (!t->cfg.control)
		return;
	/* The other segments are not seen. */
	n->counts = COUNTS_SEQUENCE;
	for (unsigned side = 0; side < SIDES; side++)
		n->payload[side] = control_mode_stream(c, before, side);
}

void emit_close(struct tracker *t, const struct flow *f, enum fsm_state before,
		enum close_reason reason, int rst_by, struct trigger trigger,
		const uint64_t *moved_ns)
{
	const struct conn *c = f->c;
	struct event *e = emit_begin_tcp(t, EVENT_TCP_CLOSE, f, before, trigger);

	counter_add(&t->count->closed, 1);
	if (!e)
		return;
	if (moved_ns)
		memcpy(e->prev_state_ns, moved_ns, sizeof e->prev_state_ns);
	fill_totals((struct event_totals *)&e->close, t, c, before, rst_by);
	e->close.reason = reason;
	e->close.closed_by = closed_by_of(before, reason, rst_by);
	e->close.teardown = teardown_of(c, before, reason);
	/* In control mode most of what acknowledges is not seen. */
	e->close.outstanding = trigger.segment != SEGMENT_NONE || t->cfg.control
				       ? OUTSTANDING_NONE
				       : outstanding_of(c);
	/* Whether the second FIN was the first to acknowledge the other one is not known then. */
	if (t->cfg.control && (e->close.teardown == TEARDOWN_FOUR_SEGMENTS ||
			       e->close.teardown == TEARDOWN_THREE_SEGMENTS))
		e->close.teardown = TEARDOWN_UNKNOWN;
	t->sink->commit(t->sink);
}

/* How long the end has been in its state.  A connection without a handshake came with it. */
static uint64_t time_in_state(const struct conn *c, enum fsm_side side, uint64_t now_ns)
{
	uint64_t since = dur40_ns(c->since[side]);

	if (!since && conn_is_midstream(c))
		return DURATION_UNKNOWN;
	return now_ns > c->start_ns + since ? now_ns - c->start_ns - since : 0;
}

void emit_snapshot(const struct tracker *t, const struct flow *f, struct event *ret)
{
	const struct conn *c = f->c;
	struct trigger trigger = { t->now_ns, SEGMENT_NONE, BASIS_OBSERVED };

	memset(ret, 0, sizeof *ret);
	fill_tcp(t, ret, EVENT_SNAPSHOT, f, c->state, trigger);
	for (unsigned side = 0; side < SIDES; side++)
		ret->prev_state_ns[side] = time_in_state(c, side, t->now_ns);
	fill_totals((struct event_totals *)&ret->snapshot, t, c, c->state, -1);
	ret->snapshot.closed_by = fsm_first_closer(c->state);
	ret->snapshot.outstanding = t->cfg.control ? OUTSTANDING_NONE : outstanding_of(c);
	ret->snapshot.server_rtt = (struct dur32){ UINT32_MAX };
	if (c->state == FSM_ANSWERED)
		ret->snapshot.server_rtt = c->server_rtt;
}

/* ---- tcp_segment ----------------------------------------------------------------------------- */

static void fill_segment_options(struct event *e, const struct segment *s)
{
	struct tcpopt o = tcpopt_parse(s->options);

	e->wire.mss = o.mss;
	e->wire.wscale = o.wscale == TCPOPT_WSCALE_NONE ? DURATION_UNKNOWN : o.wscale;
	e->wire.sack_permitted = o.sack;
	e->wire.tsval = o.timestamps ? o.tsval : DURATION_UNKNOWN;
	e->wire.tsecr = o.timestamps && s->flags & TCP_ACK ? o.tsecr : DURATION_UNKNOWN;
	e->wire.sack_blocks = tcpopt_sack_blocks(s->options);
	e->wire.has_options = o.mss || o.wscale != TCPOPT_WSCALE_NONE || o.sack || o.timestamps ||
			      e->wire.sack_blocks;
}

void emit_segment(const struct tracker *t, const struct flow *f, enum fsm_side from,
		  const struct segment *s, const struct segment_base *base, unsigned endpoints,
		  struct event *ret)
{
	const struct conn *c = f->c;
	bool scaled = c->wscale0 != TCPOPT_WSCALE_NONE && c->wscale1 != TCPOPT_WSCALE_NONE &&
		      !(s->flags & TCP_SYN);
	bool acks = s->flags & TCP_ACK && base->known >> !from & 1;

	fill_tcp(t, ret, EVENT_TCP_SEGMENT, f, c->state, trigger_of(s, false));
	ret->wire.seq = s->seq - base->base[from];
	ret->wire.ack = acks ? s->ack - base->base[!from] : DURATION_UNKNOWN;
	ret->wire.payload_len = s->payload_len;
	ret->wire.flags = s->flags;
	ret->wire.window = s->window;
	ret->wire.window_scale = DURATION_UNKNOWN;
	if (scaled)
		ret->wire.window_scale = from == SIDE_A ? c->wscale0 : c->wscale1;
	ret->wire.wire_segs = s->wire_segs;
	ret->wire.endpoints = (uint16_t)endpoints;
	ret->wire.from = from;
	ret->wire.skipped = 0;
	ret->wire.skipped_why = 0;
	fill_segment_options(ret, s);
}

/* ---- tcp_retry and tcp_stuck ----------------------------------------------------------------- */

void emit_retry(struct tracker *t, const struct flow *f, enum fsm_side from, uint64_t waited_ns,
		struct trigger trigger)
{
	struct event *e = emit_begin_tcp(t, EVENT_TCP_RETRY, f, f->c->state, trigger);

	if (!e)
		return;
	e->retry.waited_ns = waited_ns;
	e->retry.count = f->c->retrans[from];
	e->retry.from = from;
	t->sink->commit(t->sink);
}

void emit_stuck(struct tracker *t, const struct flow *f, enum fsm_side waits_for,
		uint64_t silent_ns, struct trigger trigger)
{
	struct event *e = emit_begin_tcp(t, EVENT_TCP_STUCK, f, f->c->state, trigger);

	if (!e)
		return;
	e->stuck.silent_ns = silent_ns;
	e->stuck.waits_for = waits_for;
	t->sink->commit(t->sink);
}

/* ---- the others ------------------------------------------------------------------------------ */

void emit_anomaly(struct tracker *t, struct flow *f, enum fsm_side from, enum anomaly kind,
		  struct trigger trigger, bool report)
{
	uint64_t second = t->now_ns / 1000000000;
	struct event *e;

	counter_add(&t->count->anomalies, 1);
	if (second != t->anomaly_second) {
		t->anomaly_second = second;
		t->anomalies_reported = 0;
	}
	if (!report || conn_deferred(f->c) || f->c->anomalies >= t->cfg.anomalies_per_connection ||
	    t->anomalies_reported >= t->cfg.anomalies_per_second) {
		counter_add(&t->count->anomalies_suppressed, 1);
		return;
	}
	f->c->anomalies++;
	t->anomalies_reported++;
	e = emit_begin_tcp(t, EVENT_TCP_ANOMALY, f, f->c->state, trigger);
	if (!e)
		return;
	e->anomaly.kind = (uint8_t)kind;
	e->anomaly.from = from;
	e->anomaly.count = f->c->anomalies;
	t->sink->commit(t->sink);
}

void emit_loss(struct tracker *t, const struct loss_window *w, enum loss_reason reason,
	       uint64_t count, uint64_t freezes)
{
	struct event *e = emit_reserve(t, EVENT_CAPTURE_LOSS);

	if (!e)
		return;
	e->ts_ns = w->to_ns;
	e->flow_id = 0;
	e->kind = EVENT_CAPTURE_LOSS;
	e->loss.reason = (uint8_t)reason;
	e->loss.count = count;
	e->loss.freezes = freezes;
	e->loss.from_ns = w->from_ns;
	e->loss.to_ns = w->to_ns;
	t->sink->commit(t->sink);
}

void emit_synflood(struct tracker *t, const struct synflood_report *r)
{
	const uint64_t *w = r->server.w;
	uint64_t rest = w[3] << 32 | w[2] << 16;
	struct flow_key k = { .ip_v = r->server.ip_v };
	struct event *e;

	if (r->phase == SYNFLOOD_PHASES)
		return;
	if (r->phase == SYNFLOOD_BEGIN)
		counter_add(&t->count->floods, 1);
	if (r->phase == SYNFLOOD_END)
		counter_add(&t->count->floods, (uint64_t)-1);
	e = emit_reserve(t, EVENT_SYN_FLOOD);
	if (!e)
		return;
	e->ts_ns = t->now_ns;
	/* The server is end 0: of an IPv4 key that is the upper half. */
	k.w[0] = k.ip_v == 4 ? w[0] << 32 : w[0];
	k.w[1] = k.ip_v == 4 ? rest : w[1];
	k.w[4] = rest;
	e->flow_id = flow_id_of(&k, r->started_ns, 0);
	memset(e->addr[0], 0, sizeof e->addr[0]);
	e->port[0] = 0;
	flow_key_end(&k, 0, e->addr[1], &e->port[1]);
	e->nvlan = 0;
	e->iface = tracker_origin(t, (uint16_t)w[3]);
	e->kind = EVENT_SYN_FLOOD;
	e->ip_v = k.ip_v;
	e->flood.phase = r->phase;
	/* A clock that was set back since then must not make it begin after its event. */
	e->flood.started_ns = r->started_ns < t->now_ns ? r->started_ns : t->now_ns;
	memcpy(e->flood.count, r->count, sizeof e->flood.count);
	e->flood.half_open = r->half_open;
	e->flood.new_attempts = r->new_attempts;
	e->flood.rate = r->rate;
	e->flood.shares = t->cfg.decoders;
	t->sink->commit(t->sink);
}
