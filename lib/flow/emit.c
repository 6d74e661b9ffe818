#include "flow/emit.h"
#include <string.h>
#include "flow/control_mode.h"
#include "wire/tcpopt.h"

void emit_common(struct event *e, enum event_kind kind, const struct flow_key *key,
		 const struct conn *c, enum fsm_state before, struct trigger trigger)
{
	unsigned client = c->client_end;

	e->ts_ns = trigger.ts_ns;
	e->flow_id = flow_id_of(key, c->start_ns, c->isn);
	flow_key_end(key, client, e->addr[0], &e->port[0]);
	flow_key_end(key, !client, e->addr[1], &e->port[1]);
	e->vlan[0] = c->outer;
	e->vlan[1] = c->inner;
	e->nvlan = (c->outer != VLAN_NONE) + (c->inner != VLAN_NONE);
	e->iface = c->iface;
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

void emit_open(struct event *e, const struct tcpopt *syn, bool ecn, uint64_t prev_flow_id)
{
	e->open.has_options = syn;
	e->open.prev_flow_id = prev_flow_id;
	if (syn)
		e->open.options = (struct event_options){ .mss = syn->mss,
							  .wscale = { syn->wscale },
							  .sack = syn->sack,
							  .timestamps = syn->timestamps,
							  .tfo = syn->tfo,
							  .ecn = ecn,
							  .mptcp = syn->mptcp };
}

void emit_established(struct event *e, const struct conn *c, enum fsm_state before, uint64_t now_ns)
{
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
	if (before == FSM_ANSWERED && seen) {
		/* From the last SYN-ACK that can have been the one answered. */
		uint64_t asked = c->retrans[SIDE_B] ? conn_age(c) : dur40_ns(c->since[SIDE_B]);

		e->established.client_rtt_ns = age > asked ? age - asked : 0;
	}
	/* Without the SYN: a SYN-ACK repeats only what was offered (RFC 7323 2.2, 3.2), but how far
	 * the client scales it does not say. */
	bool syn = c->complete & COMPLETE_SYN;
	unsigned agreed = syn ? 3 : 2;

	e->established.options.mss = c->offer.mss;
	if (syn && c->wscale0 != TCPOPT_WSCALE_NONE && c->wscale1 != TCPOPT_WSCALE_NONE) {
		e->established.options.wscale[0] = c->wscale0;
		e->established.options.wscale[1] = c->wscale1;
	}
	e->established.options.sack = (c->offer.sack & agreed) == agreed;
	e->established.options.timestamps = (c->offer.timestamps & agreed) == agreed;
	e->established.options.ecn = (c->offer.ecn & agreed) == agreed;
	e->established.options.mptcp = (c->offer.mptcp & agreed) == agreed;
	e->established.options.tfo = c->tfo;
}

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
	if (reason == REASON_FIN)
		return (enum closed_by)fsm_first_closer(before); /* its bits, by design */
	return CLOSED_BY_NONE;
}

void emit_close(struct event *e, const struct conn *c, enum fsm_state before,
		enum close_reason reason, int rst_by, bool lossy)
{
	e->close.start_ns = c->start_ns;
	e->close.end_ns = c->last_ns;
	e->close.history = c->history;
	for (unsigned side = 0; side < SIDES; side++) {
		struct conn_counts n = conn_counts(c, side);

		e->close.payload[side] = n.payload;
		e->close.bytes[side] = n.payload + n.header;
		e->close.pkts[side] = (uint32_t)n.pkts;
		e->close.retrans[side] = c->retrans[side];
	}
	e->close.gap_bytes = fsm_offering(c->state) ? 0 : c->gap_bytes;
	e->close.reason = reason;
	e->close.closed_by = closed_by_of(before, reason, rst_by);
	e->close.teardown = teardown_of(c, before, reason);
	e->close.conn_state = conn_zeek_state(c, before, rst_by);
	e->close.completeness = c->complete;
	e->close.counts = COUNTS_SEGMENTS;
	e->close.lossy = lossy;
}

void emit_flood(struct event *e, enum synflood_phase phase, const struct flow_key *k,
		uint16_t iface, uint64_t now_ns, uint64_t started_ns)
{
	e->ts_ns = now_ns;
	e->flow_id = flow_id_of(k, started_ns, 0);
	memset(e->addr[0], 0, sizeof e->addr[0]);
	e->port[0] = 0;
	flow_key_end(k, 0, e->addr[1], &e->port[1]);
	e->nvlan = 0;
	e->iface = iface;
	e->kind = EVENT_SYN_FLOOD;
	e->ip_v = k->ip_v;
	e->flood.phase = phase;
	e->flood.started_ns = started_ns;
}

void emit_close_control_mode(struct event *e, const struct conn *c, enum fsm_state before)
{
	e->close.counts = COUNTS_SEQUENCE;
	for (unsigned side = 0; side < SIDES; side++)
		e->close.payload[side] = control_mode_stream(c, before, side);
	/* Whether the second FIN was the first to acknowledge the other one. */
	if (e->close.teardown == TEARDOWN_FOUR_SEGMENTS ||
	    e->close.teardown == TEARDOWN_THREE_SEGMENTS)
		e->close.teardown = TEARDOWN_UNKNOWN;
}
