/* records.h - random event records, as the tracker could make them: every kind, and every optional
 * part there or not. */
#pragma once
#include <string.h>
#include "base/fmt.h"
#include "flow/event.h"
#include "flow/tcp_fsm.h"
#include "format/json.h"
#include "tests/support/rand.h"
#include "wire/tcpopt.h"
#include "wire/tunnel.h"

/* Numbers of any size that jansson can hold; small ones often, so that they are equal at times. */
static inline uint64_t random_number(unsigned bits)
{
	return below(2) ? below(4) : rand64() >> 1 >> below(bits) >> (63 - bits);
}

static inline uint64_t random_duration(void)
{
	return below(4) ? random_number(62) : DURATION_UNKNOWN;
}

static inline uint64_t random_time(void)
{
	return below(4) ? 1700000000000000000 + rand64() % 4000000000 : rand64() >> 1;
}

static inline struct event_options random_options(void)
{
	struct event_options o = { .mss = below(4) ? (uint16_t)(1 + below(65535)) : 0,
				   .sack = below(2),
				   .timestamps = below(2),
				   .tfo = below(2),
				   .ecn = below(2),
				   .mptcp = below(2) };

	o.wscale[0] = (uint8_t)below(TCPOPT_WSCALE_NONE + 1);
	o.wscale[1] = o.wscale[0] == TCPOPT_WSCALE_NONE ? TCPOPT_WSCALE_NONE : (uint8_t)below(15);
	return o;
}

static inline void random_totals(struct event_totals *n)
{
	n->start_ns = random_time();
	n->end_ns = below(8) ? n->start_ns + random_number(40) : random_time();
	n->history = 0;
	for (unsigned i = below(HISTORY_LETTERS + 1); i--;)
		n->history = n->history << HISTORY_LETTER_BITS | (1 + below(HISTORY_FLIPPED)) |
			     (below(2) ? HISTORY_FROM_CLIENT : 0);
	n->counts = below(3) ? COUNTS_SEGMENTS : COUNTS_SEQUENCE;
	for (unsigned i = 0; i < 2; i++) {
		n->bytes[i] = random_number(62);
		n->payload[i] = n->counts == COUNTS_SEGMENTS ? random_number(62)
				: below(2)		     ? random_number(32)
							     : DURATION_UNKNOWN;
		n->pkts[i] = (uint32_t)random_number(32);
		n->retrans[i] = (uint16_t)random_number(16);
	}
	n->gap_bytes = (uint32_t)random_number(32);
	n->closed_by = (uint8_t)below(CLOSED_BYS);
	n->conn_state = (uint8_t)below(CONN_STATES);
	n->completeness = (uint8_t)below(64);
	n->outstanding = (uint8_t)below(OUTSTANDINGS);
	n->lossy = below(2);
}

static inline void random_flood(struct event *e)
{
	e->flood.started_ns = random_time();
	for (unsigned i = 0; i < SYNFLOOD_COUNTS; i++)
		e->flood.count[i] = random_number(62);
	e->flood.half_open = (uint32_t)random_number(32);
	e->flood.new_attempts = (uint32_t)random_number(32);
	e->flood.rate = (uint32_t)random_number(32);
	e->flood.shares = (uint16_t)below(4);
	e->flood.phase = (uint8_t)below(SYNFLOOD_PHASES);
}

static inline void random_segment(struct event *e)
{
	e->wire.seq = (uint32_t)random_number(32);
	e->wire.ack = below(2) ? (uint32_t)random_number(32) : DURATION_UNKNOWN;
	e->wire.tsval = below(2) ? (uint32_t)random_number(32) : DURATION_UNKNOWN;
	e->wire.tsecr = below(2) ? e->wire.tsval : DURATION_UNKNOWN;
	e->wire.wscale = below(2) ? below(15) : DURATION_UNKNOWN;
	e->wire.window_scale = below(2) ? below(15) : DURATION_UNKNOWN;
	e->wire.payload_len = (uint32_t)random_number(32);
	e->wire.flags = (uint16_t)below(1 << 12);
	e->wire.window = (uint16_t)random_number(16);
	e->wire.wire_segs = (uint16_t)(1 + below(50));
	e->wire.mss = (uint16_t)random_number(16);
	e->wire.sack_blocks = (uint8_t)below(5);
	e->wire.sack_permitted = below(2);
	e->wire.from = (uint8_t)below(2);
	e->wire.has_options = e->wire.mss || e->wire.wscale != DURATION_UNKNOWN ||
			      e->wire.tsval != DURATION_UNKNOWN || e->wire.sack_blocks ||
			      e->wire.sack_permitted;
}

static inline struct event random_event(enum event_kind kind)
{
	struct event e = { .kind = (uint8_t)kind, .ts_ns = random_time(), .flow_id = rand64() };

	e.ip_v = below(2) ? 4 : 6;
	for (unsigned side = 0; side < 2; side++) {
		/* IPv6: runs of zeros; IPv4: a few networks. */
		for (unsigned i = 0; i < (e.ip_v == 4 ? 4u : 16u); i++)
			e.addr[side][i] = below(e.ip_v == 4 ? 2 : 3) ? 0 : (uint8_t)rand64();
		if (e.ip_v == 4)
			e.addr[side][0] = below(2) ? 10 : 192;
		else if (!below(8))
			memcpy(e.addr[side], "\0\0\0\0\0\0\0\0\0\0\xff\xff\x0a", 13);
		e.port[side] = below(2) ? (uint16_t)(442 + below(3)) : (uint16_t)rand64();
		e.vlan[side] = (uint16_t)below(4096);
		e.state[side] = (uint8_t)below(TCPS_STATES);
		e.prev_state[side] = (uint8_t)below(TCPS_STATES);
		e.prev_state_ns[side] = random_duration();
	}
	e.nvlan = (uint8_t)below(3);
	e.segment = (uint8_t)below(
		kind == EVENT_TCP_RETRY || kind == EVENT_TCP_ANOMALY ? SEGMENT_NONE : SEGMENTS);
	e.basis = (uint8_t)below(BASES);
	e.midstream = below(2);
	e.direction_basis = (uint8_t)below(DIRECTIONS);
	switch (kind) {
	case EVENT_TCP_SEGMENT:
		e.segment = (uint8_t)below(SEGMENT_ICMP);
		random_segment(&e);
		break;
	case EVENT_TCP_OPEN:
		e.open.options = random_options();
		e.open.has_options = below(4);
		e.open.prev_flow_id = below(2) ? rand64() : 0;
		break;
	case EVENT_TCP_ESTABLISHED:
		e.established.server_rtt_ns = random_duration();
		e.established.client_rtt_ns = random_duration();
		e.established.total_ns = random_duration();
		e.established.syn_retrans = (uint16_t)random_number(16);
		e.established.synack_retrans = (uint16_t)random_number(16);
		e.established.options = random_options();
		break;
	case EVENT_TCP_CLOSE:
		random_totals((struct event_totals *)&e.close);
		e.close.reason = (uint8_t)below(REASONS);
		e.close.teardown = (uint8_t)below(TEARDOWN_UNKNOWN + 1);
		break;
	case EVENT_SNAPSHOT:
		random_totals((struct event_totals *)&e.snapshot);
		e.snapshot.server_rtt = dur32_of(below(2) ? random_number(30) : DURATION_UNKNOWN);
		break;
	case EVENT_TCP_RETRY:
		e.retry.waited_ns = random_number(62);
		e.retry.count = (uint32_t)random_number(32);
		e.retry.from = (uint8_t)below(SIDES);
		break;
	case EVENT_TCP_STUCK:
		e.stuck.silent_ns = random_number(62);
		e.stuck.waits_for = (uint8_t)below(SIDES);
		break;
	case EVENT_TCP_ANOMALY:
		e.anomaly.count = (uint32_t)random_number(32);
		e.anomaly.kind = (uint8_t)below(ANOMALIES);
		e.anomaly.from = (uint8_t)below(SIDES);
		break;
	case EVENT_CAPTURE_LOSS:
		e.loss.count = random_number(62);
		e.loss.freezes = random_number(62);
		e.loss.from_ns = random_time();
		e.loss.to_ns = random_time();
		e.loss.reason = (uint8_t)below(LOSS_REASONS);
		break;
	case EVENT_SYN_FLOOD:
		random_flood(&e);
		break;
	default:
		break;
	}
	return e;
}

/* With @second for .second. */
static inline struct json_context random_context(struct fmt_second *second)
{
	static const char *const iface[] = {
		"eth0",
		"veth1a2b3c",
		"br\"0\\",
		"z\xc3\xbcrich",
		"tab\there\x01",
		"\xff\x80 bad",
		"a-name-that-is-longer-than-fifteen-octets.pcap",
		"",
	};
	struct json_context c = { .iface = iface[below(sizeof iface / sizeof *iface)],
				  .community = below(3),
				  .community_seed = (uint16_t)below(3),
				  .second = second };

	if (below(2)) {
		c.tunnel.type = (uint8_t)(1 + below(TUNNEL_TYPES - 1));
		c.tunnel.has_id = c.tunnel.type != TUNNEL_GTP_U && below(4);
		c.tunnel.id = c.tunnel.has_id ? (uint32_t)random_number(32) : 0;
	}
	return c;
}
