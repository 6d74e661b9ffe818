/* micro_event.h - events of short connections, six each: open, state, established, state, state,
 * close; every fifth connection over IPv6.  The same index gives the same event. */
#pragma once
#include <string.h>
#include "flow/event.h"

static inline uint64_t micro_mix(uint64_t i)
{
	uint64_t h = (i + 1) * 0x9e3779b97f4a7c15u;

	return h ^ h >> 29;
}

static inline struct event micro_event(uint64_t i)
{
	static const struct {
		uint8_t kind, segment, state[2], prev[2];
	} life[6] = {
		{ EVENT_TCP_OPEN, SEGMENT_SYN, { TCPS_SYN_SENT, TCPS_LISTEN }, { 0 } },
		{ EVENT_TCP_STATE,
		  SEGMENT_SYN_ACK,
		  { TCPS_SYN_SENT, TCPS_SYN_RECEIVED },
		  { TCPS_SYN_SENT, TCPS_LISTEN } },
		{ EVENT_TCP_ESTABLISHED,
		  SEGMENT_ACK,
		  { TCPS_ESTABLISHED, TCPS_ESTABLISHED },
		  { TCPS_SYN_SENT, TCPS_SYN_RECEIVED } },
		{ EVENT_TCP_STATE,
		  SEGMENT_FIN_ACK,
		  { TCPS_FIN_WAIT_1, TCPS_ESTABLISHED },
		  { TCPS_ESTABLISHED, TCPS_ESTABLISHED } },
		{ EVENT_TCP_STATE,
		  SEGMENT_FIN_ACK,
		  { TCPS_FIN_WAIT_2, TCPS_LAST_ACK },
		  { TCPS_FIN_WAIT_1, TCPS_ESTABLISHED } },
		{ EVENT_TCP_CLOSE,
		  SEGMENT_ACK,
		  { TCPS_TIME_WAIT, TCPS_CLOSED },
		  { TCPS_FIN_WAIT_2, TCPS_LAST_ACK } },
	};
	uint64_t h = micro_mix(i / 6);
	unsigned step = i % 6;
	struct event_options options = {
		.mss = 1460, .wscale = { 7, 9 }, .sack = true, .timestamps = true
	};
	struct event e = { .ts_ns = 1700000000000000000u + i * 1234567,
			   .flow_id = h,
			   .port = { (uint16_t)(32768 + (h & 0x7fff)), 443 },
			   .kind = life[step].kind,
			   .ip_v = i / 6 % 5 ? 4 : 6,
			   .state = { life[step].state[0], life[step].state[1] },
			   .prev_state = { life[step].prev[0], life[step].prev[1] },
			   .segment = life[step].segment,
			   .prev_state_ns = { h >> 20 & 0xfffffff, DURATION_UNKNOWN } };

	if (e.ip_v == 4) {
		memcpy(e.addr[0],
		       (uint8_t[]){ 10, (uint8_t)(h >> 8), (uint8_t)(h >> 16), (uint8_t)h }, 4);
		memcpy(e.addr[1], (uint8_t[]){ 172, 16, 0, (uint8_t)(h >> 24) }, 4);
	} else {
		memcpy(e.addr[0], (uint8_t[]){ 0x20, 1, 0xd, 0xb8, 0, (uint8_t)(h >> 8) }, 6);
		memcpy(e.addr[0] + 8, &h, 8);
		memcpy(e.addr[1], (uint8_t[]){ 0x20, 1, 0xd, 0xb8, 0, 5 }, 6);
		e.addr[1][15] = (uint8_t)h;
	}
	if (e.kind == EVENT_TCP_OPEN) {
		e.open.has_options = true;
		e.open.options = options;
	} else if (e.kind == EVENT_TCP_ESTABLISHED) {
		e.established.server_rtt_ns = h & 0x3ffffff;
		e.established.client_rtt_ns = h >> 12 & 0x3ffffff;
		e.established.total_ns = e.established.server_rtt_ns + e.established.client_rtt_ns;
		e.established.options = options;
	} else if (e.kind == EVENT_TCP_CLOSE) {
		e.close.start_ns = e.ts_ns - (h >> 30 & 0x3fffffff);
		e.close.end_ns = e.ts_ns;
		e.close.history = h >> 24;
		e.close.bytes[0] = h & 0xfff;
		e.close.bytes[1] = h >> 12 & 0xfffff;
		e.close.payload[0] = h & 0xff;
		e.close.payload[1] = h >> 12 & 0xffff;
		e.close.pkts[0] = h & 0xf;
		e.close.pkts[1] = h >> 4 & 0x7f;
		e.close.teardown = TEARDOWN_THREE_SEGMENTS;
		e.close.closed_by = CLOSED_BY_CLIENT;
		e.close.conn_state = CONN_SF;
		e.close.completeness = 31;
	}
	return e;
}
