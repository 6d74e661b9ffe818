#include <inttypes.h>
#include <jansson.h>
#include <string.h>
#include "base/cc.h"
#include "base/fmt.h"
#include "base/strbuf.h"
#include "flow/event_names.h"
#include "flow/event.h"
#include "format/community.h"
#include "format/json.h"
#include "tests/support/json_at.h"
#include "tests/support/tap.h"
#include "wire/tcpopt.h"

/* One line at a time: encoded, checked against what every line must be, and parsed. */
static char line[1 << 20];
static size_t line_len;

static json_t *parse(const struct strbuf *t)
{
	json_error_t error;
	json_t *j;

	line_len = (size_t)(t->p - line);
	if (t->full || !line_len || line[line_len - 1] != '\n' ||
	    memchr(line, '\n', line_len - 1)) {
		printf("# not one complete line\n");
		return NULL;
	}
	j = json_loadb(line, line_len, JSON_REJECT_DUPLICATES, &error);
	if (!j)
		printf("# %s at %d: %.*s", error.text, error.position, (int)line_len, line);
	return j;
}

static struct strbuf room(size_t n)
{
	return (struct strbuf){ .p = line, .end = line + n };
}

static struct fmt_second second;
static const struct json_context eth0 = { .iface = "eth0",
					  .community = COMMUNITY_OFF,
					  .second = &second };

static json_t *event_json(const struct event *e, uint64_t seq, const struct json_context *c)
{
	struct strbuf t = room(JSON_LINE_MAX);

	json_event(&t, e, seq, c);
	return parse(&t);
}

static bool str_is(const json_t *j, const char *path, const char *want)
{
	const char *s = json_string_value(at(j, path));

	return s && !strcmp(s, want);
}

/* By its digits, since jansson has no unsigned 64-bit numbers. */
static bool num_is(const json_t *j, const char *path, uint64_t want)
{
	const json_t *v = at(j, path);

	return json_is_integer(v) && (uint64_t)json_integer_value(v) == want;
}

static bool bool_is(const json_t *j, const char *path, bool want)
{
	const json_t *v = at(j, path);

	return want ? json_is_true(v) : json_is_false(v);
}

static bool absent(const json_t *j, const char *path)
{
	return !at(j, path);
}

static bool has(const char *words)
{
	return memmem(line, line_len, words, strlen(words));
}

/* ---- events of connections ------------------------------------------------------------------- */

static struct event event_of(enum event_kind kind)
{
	struct event e = {
		.ts_ns = 1552394626905987123,
		.flow_id = 0xb31f6c0d9e5a7741,
		.addr = { { 172, 16, 196, 142 }, { 172, 16, 196, 145 } },
		.port = { 41334, 60000 },
		.iface = 3,
		.kind = kind,
		.ip_v = 4,
		.state = { TCPS_ESTABLISHED, TCPS_SYN_RECEIVED },
		.prev_state = { TCPS_SYN_SENT, TCPS_LISTEN },
		.segment = SEGMENT_ACK,
		.basis = BASIS_OBSERVED,
		.direction_basis = DIRECTION_SYN,
		.prev_state_ns = { 5, DURATION_UNKNOWN },
	};

	return e;
}

static void test_common(void)
{
	for (unsigned kind = EVENT_TCP_OPEN; kind <= EVENT_TCP_ANOMALY; kind++) {
		struct event e = event_of(kind);
		json_t *j = event_json(&e, 77, &eth0);
		const char *name = event_kind_str[kind].s;

		ok(str_is(j, "event_type", name) && num_is(j, "seq", 77) &&
			   str_is(j, "timestamp", "2019-03-12T12:43:46.905987123Z"),
		   "%s: type, number and time", name);
		ok(str_is(j, "flow_id", "b31f6c0d9e5a7741") && str_is(j, "in_iface", "eth0") &&
			   num_is(j, "ip_v", 4) && str_is(j, "proto", "TCP") &&
			   str_is(j, "src_ip", "172.16.196.142") && num_is(j, "src_port", 41334) &&
			   str_is(j, "dest_ip", "172.16.196.145") && num_is(j, "dest_port", 60000),
		   "%s: who talks to whom, the client first", name);
		ok(str_is(j, "tcp.client_state", "established") &&
			   str_is(j, "tcp.server_state", "syn_received") && absent(j, "vlan") &&
			   absent(j, "community_id"),
		   "%s: both states; no VLAN and no Community ID unless there is one", name);
		json_decref(j);

		e.ip_v = 6;
		memcpy(e.addr[0], (uint8_t[16]){ 0x20, 1, 0xd, 0xb8, [15] = 1 }, 16);
		memcpy(e.addr[1], (uint8_t[16]){ [10] = 0xff, 0xff, 192, 0, 2, 1 }, 16);
		e.vlan[0] = 7;
		e.vlan[1] = 4094;
		e.nvlan = 1;
		j = event_json(&e, INT64_MAX, &eth0);
		ok(num_is(j, "ip_v", 6) && str_is(j, "src_ip", "2001:db8::1") &&
			   str_is(j, "dest_ip", "::ffff:192.0.2.1") &&
			   json_array_size(at(j, "vlan")) == 1 &&
			   json_integer_value(json_array_get(at(j, "vlan"), 0)) == 7,
		   "%s: IPv6 in one VLAN", name);
		json_decref(j);
		e.nvlan = 2;
		j = event_json(&e, 1, &eth0);
		ok(json_array_size(at(j, "vlan")) == 2 &&
			   json_integer_value(json_array_get(at(j, "vlan"), 1)) == 4094,
		   "%s: two VLANs, the outer one first", name);
		json_decref(j);
	}
}

static void test_community(void)
{
	for (unsigned policy = COMMUNITY_OPEN_CLOSE; policy <= COMMUNITY_OFF; policy++) {
		unsigned wrong = 0;

		for (unsigned kind = EVENT_TCP_OPEN; kind < EVENT_KINDS; kind++) {
			if (kind == EVENT_CAPTURE_LOSS || kind == EVENT_SYN_FLOOD)
				continue;
			struct event e = event_of(kind);
			struct json_context c = { .iface = "eth0",
						  .community = policy,
						  .community_seed = 4711,
						  .second = &second };
			bool ends = kind == EVENT_TCP_OPEN || kind == EVENT_TCP_CLOSE ||
				    kind == EVENT_SNAPSHOT;
			char id[COMMUNITY_ID_CHARS + 1];
			json_t *j = event_json(&e, 1, &c);

			community_id_of(id, 4, 4711, e.addr[0], e.port[0], e.addr[1], e.port[1]);
			if (policy == COMMUNITY_ALL || (policy == COMMUNITY_OPEN_CLOSE && ends))
				wrong += !str_is(j, "community_id", id);
			else
				wrong += !absent(j, "community_id");
			json_decref(j);
		}
		ok(!wrong, "Community ID on %s",
		   policy == COMMUNITY_OFF   ? "no event"
		   : policy == COMMUNITY_ALL ? "all events"
					     : "tcp_open, tcp_close and snapshot");
	}
}

static void test_open(void)
{
	struct event e = event_of(EVENT_TCP_OPEN);

	e.segment = SEGMENT_SYN;
	e.midstream = true;
	e.direction_basis = DIRECTION_PORT;
	json_t *j = event_json(&e, 1, &eth0);

	ok(bool_is(j, "tcp.midstream", true) && str_is(j, "tcp.direction_basis", "port") &&
		   str_is(j, "tcp.segment", "syn") && str_is(j, "tcp.basis", "observed") &&
		   absent(j, "tcp.options") && absent(j, "tcp.prev_flow_id"),
	   "tcp_open: without a SYN there are no options");
	json_decref(j);

	e.midstream = false;
	e.open.has_options = true;
	e.open.options =
		(struct event_options){ .mss = 1460, .wscale = { 14 }, .sack = true, .ecn = true };
	e.open.prev_flow_id = 0xf;
	j = event_json(&e, 1, &eth0);
	ok(num_is(j, "tcp.options.mss", 1460) && num_is(j, "tcp.options.wscale", 14) &&
		   bool_is(j, "tcp.options.sack", true) && bool_is(j, "tcp.options.ecn", true) &&
		   bool_is(j, "tcp.options.timestamps", false) &&
		   bool_is(j, "tcp.options.tfo", false) && bool_is(j, "tcp.options.mptcp", false) &&
		   bool_is(j, "tcp.midstream", false),
	   "tcp_open: options as the SYN had them");
	ok(str_is(j, "tcp.prev_flow_id", "000000000000000f"),
	   "tcp_open: the connection that it took over from");
	json_decref(j);

	e.open.options = (struct event_options){
		.wscale = { TCPOPT_WSCALE_NONE }, .timestamps = true, .tfo = true, .mptcp = true
	};
	j = event_json(&e, 1, &eth0);
	ok(absent(j, "tcp.options.mss") && absent(j, "tcp.options.wscale") &&
		   bool_is(j, "tcp.options.timestamps", true) &&
		   bool_is(j, "tcp.options.tfo", true) && bool_is(j, "tcp.options.mptcp", true) &&
		   bool_is(j, "tcp.options.sack", false),
	   "tcp_open: absent options are omitted");
	json_decref(j);
	e.open.options.wscale[0] = 0;
	j = event_json(&e, 1, &eth0);
	ok(num_is(j, "tcp.options.wscale", 0), "tcp_open: a scale of 0 is an option, too");
	json_decref(j);
}

static void test_state(void)
{
	unsigned wrong = 0;
	struct event e = event_of(EVENT_TCP_STATE);
	json_t *j = event_json(&e, 1, &eth0);

	ok(str_is(j, "tcp.prev_client_state", "syn_sent") &&
		   str_is(j, "tcp.prev_server_state", "listen") &&
		   num_is(j, "tcp.client_prev_ns", 5) && absent(j, "tcp.server_prev_ns"),
	   "tcp_state: where they were, and how long the end that moved was in its state");
	json_decref(j);
	for (unsigned s = 0; s < SEGMENTS; s++) {
		for (unsigned b = 0; b < BASES; b++) {
			e.segment = (uint8_t)s;
			e.basis = (uint8_t)b;
			j = event_json(&e, 1, &eth0);
			if (s == SEGMENT_NONE)
				wrong += !absent(j, "tcp.segment") || !absent(j, "tcp.basis");
			else
				wrong += !str_is(j, "tcp.segment", event_segment_str[s].s) ||
					 !str_is(j, "tcp.basis", event_basis_str[b].s);
			json_decref(j);
		}
	}
	ok(!wrong, "tcp_state: each cause by its name, none if there was none");
	for (unsigned s = 0; s < TCPS_STATES; s++) {
		e.state[0] = e.prev_state[1] = (uint8_t)s;
		e.state[1] = e.prev_state[0] = (uint8_t)(TCPS_STATES - 1 - s);
		j = event_json(&e, 1, &eth0);
		wrong += !str_is(j, "tcp.client_state", tcp_state_str[e.state[0]].s) ||
			 !str_is(j, "tcp.server_state", tcp_state_str[e.state[1]].s) ||
			 !str_is(j, "tcp.prev_client_state", tcp_state_str[e.prev_state[0]].s) ||
			 !str_is(j, "tcp.prev_server_state", tcp_state_str[e.prev_state[1]].s);
		json_decref(j);
	}
	ok(!wrong, "tcp_state: all states by their names");
}

static void test_established(void)
{
	struct event e = event_of(EVENT_TCP_ESTABLISHED);

	e.established.server_rtt_ns = 28000;
	e.established.client_rtt_ns = 236000;
	e.established.total_ns = 264000;
	e.established.syn_retrans = 1;
	e.established.synack_retrans = 65535;
	e.established.options =
		(struct event_options){ .mss = 536, .wscale = { 7, 9 }, .sack = true };
	json_t *j = event_json(&e, 1, &eth0);

	ok(num_is(j, "tcp.handshake.server_rtt_ns", 28000) &&
		   num_is(j, "tcp.handshake.client_rtt_ns", 236000) &&
		   num_is(j, "tcp.handshake.total_ns", 264000) &&
		   num_is(j, "tcp.handshake.syn_retrans", 1) &&
		   num_is(j, "tcp.handshake.synack_retrans", 65535),
	   "tcp_established: how the handshake went");
	ok(num_is(j, "tcp.options.client_wscale", 7) && num_is(j, "tcp.options.server_wscale", 9) &&
		   num_is(j, "tcp.options.mss", 536) && bool_is(j, "tcp.options.sack", true) &&
		   str_is(j, "tcp.prev_client_state", "syn_sent"),
	   "tcp_established: what was agreed on");
	json_decref(j);
	e.established.server_rtt_ns = e.established.client_rtt_ns = e.established.total_ns =
		DURATION_UNKNOWN;
	e.established.options.wscale[0] = e.established.options.wscale[1] = TCPOPT_WSCALE_NONE;
	j = event_json(&e, 1, &eth0);
	ok(absent(j, "tcp.handshake.server_rtt_ns") && absent(j, "tcp.handshake.client_rtt_ns") &&
		   absent(j, "tcp.handshake.total_ns") && absent(j, "tcp.options.client_wscale") &&
		   absent(j, "tcp.options.server_wscale"),
	   "tcp_established: what is not known is omitted");
	json_decref(j);
}

static void test_close(void)
{
	unsigned wrong = 0;
	struct event e = event_of(EVENT_TCP_CLOSE);

	e.close.start_ns = 1552394626905987000;
	e.close.end_ns = e.close.start_ns + 777000;
	e.close.history = (HISTORY_SYN | HISTORY_FROM_CLIENT) | HISTORY_SYN_ACK << 5;
	e.close.bytes[0] = 1;
	e.close.bytes[1] = 2;
	e.close.payload[0] = 3;
	e.close.payload[1] = 4;
	e.close.pkts[0] = 5;
	e.close.pkts[1] = 6;
	e.close.retrans[0] = 7;
	e.close.retrans[1] = 8;
	e.close.gap_bytes = 9;
	e.close.completeness = 63;
	e.close.lossy = true;
	json_t *j = event_json(&e, 1, &eth0);

	ok(str_is(j, "flow.start", "2019-03-12T12:43:46.905987000Z") &&
		   str_is(j, "flow.end", "2019-03-12T12:43:46.906764000Z") &&
		   num_is(j, "flow.age_ns", 777000),
	   "tcp_close: when it was");
	ok(num_is(j, "flow.bytes_toserver", 1) && num_is(j, "flow.bytes_toclient", 2) &&
		   num_is(j, "flow.payload_toserver", 3) && num_is(j, "flow.payload_toclient", 4) &&
		   num_is(j, "flow.pkts_toserver", 5) && num_is(j, "flow.pkts_toclient", 6) &&
		   num_is(j, "flow.retrans_toserver", 7) && num_is(j, "flow.retrans_toclient", 8) &&
		   num_is(j, "flow.gap_bytes", 9),
	   "tcp_close: each count in its place");
	ok(str_is(j, "tcp.history", "Sh") && num_is(j, "tcp.completeness", 63) &&
		   bool_is(j, "tcp.lossy", true) && bool_is(j, "tcp.midstream", false),
	   "tcp_close: history, completeness, loss");
	json_decref(j);
	e.close.end_ns = e.close.start_ns - 1;
	j = event_json(&e, 1, &eth0);
	ok(num_is(j, "flow.age_ns", 0), "tcp_close: an age is never negative");
	json_decref(j);
	for (unsigned i = 0; i < 16; i++) {
		e.close.reason = i % REASONS;
		e.close.closed_by = i % CLOSED_BYS;
		e.close.teardown = i % TEARDOWNS;
		e.close.conn_state = i % CONN_STATES;
		j = event_json(&e, 1, &eth0);
		wrong += !str_is(j, "tcp.reason", close_reason_str[i % REASONS].s) ||
			 !str_is(j, "tcp.closed_by", closed_by_str[i % CLOSED_BYS].s) ||
			 !str_is(j, "tcp.teardown", teardown_str[i % TEARDOWNS].s) ||
			 !str_is(j, "tcp.conn_state", conn_state_str[i % CONN_STATES].s);
		json_decref(j);
	}
	ok(!wrong, "tcp_close: reasons and all other words by their names");
}

static void test_snapshot(void)
{
	unsigned wrong = 0;
	struct event e = event_of(EVENT_SNAPSHOT);

	e.prev_state_ns[0] = 5;
	e.snapshot.start_ns = e.ts_ns - 777000;
	e.snapshot.end_ns = e.ts_ns - 999;
	e.snapshot.history = (HISTORY_SYN | HISTORY_FROM_CLIENT) | HISTORY_SYN_ACK << 5;
	for (unsigned i = 0; i < 2; i++) {
		e.snapshot.bytes[i] = 1 + i;
		e.snapshot.payload[i] = 3 + i;
		e.snapshot.pkts[i] = 5 + i;
		e.snapshot.retrans[i] = (uint16_t)(7 + i);
	}
	e.snapshot.gap_bytes = 9;
	e.snapshot.completeness = 63;
	e.snapshot.closed_by = CLOSED_BY_CLIENT;
	e.snapshot.conn_state = CONN_S1;
	e.snapshot.outstanding = OUTSTANDING_DATA;
	e.snapshot.server_rtt = dur32_of(1234);
	json_t *j = event_json(&e, 1, &eth0);

	ok(str_is(j, "flow.start", "2019-03-12T12:43:46.905210123Z") &&
		   num_is(j, "flow.age_ns", 777000) && num_is(j, "tcp.idle_ns", 999) &&
		   num_is(j, "tcp.client_state_ns", 5) && absent(j, "tcp.server_state_ns") &&
		   absent(j, "flow.end"),
	   "snapshot: since when it is open, silent, and in its states");
	ok(num_is(j, "flow.bytes_toserver", 1) && num_is(j, "flow.bytes_toclient", 2) &&
		   num_is(j, "flow.payload_toserver", 3) && num_is(j, "flow.payload_toclient", 4) &&
		   num_is(j, "flow.pkts_toserver", 5) && num_is(j, "flow.pkts_toclient", 6) &&
		   num_is(j, "flow.retrans_toserver", 7) && num_is(j, "flow.retrans_toclient", 8) &&
		   num_is(j, "flow.gap_bytes", 9),
	   "snapshot: each count in its place");
	ok(str_is(j, "tcp.history", "Sh") && num_is(j, "tcp.completeness", 63) &&
		   bool_is(j, "tcp.lossy", false) && bool_is(j, "tcp.midstream", false) &&
		   str_is(j, "tcp.direction_basis", "syn") &&
		   str_is(j, "tcp.closed_by", "client") && str_is(j, "tcp.conn_state", "S1") &&
		   str_is(j, "tcp.outstanding", "data") &&
		   num_is(j, "tcp.handshake.server_rtt_ns", 1234) && absent(j, "tcp.reason") &&
		   absent(j, "tcp.teardown") && absent(j, "tcp.segment") &&
		   absent(j, "tcp.basis") && absent(j, "tcp.prev_client_state"),
	   "snapshot: what a tcp_close would say so far, and nothing of an end");
	json_decref(j);
	e.snapshot.start_ns = e.ts_ns + 1;
	e.snapshot.end_ns = e.ts_ns + 2;
	e.snapshot.outstanding = OUTSTANDING_NONE;
	e.snapshot.server_rtt = (struct dur32){ UINT32_MAX };
	e.snapshot.counts = COUNTS_SEQUENCE;
	e.snapshot.payload[0] = UINT64_MAX;
	j = event_json(&e, 1, &eth0);
	ok(num_is(j, "flow.age_ns", 0) && num_is(j, "tcp.idle_ns", 0) &&
		   absent(j, "tcp.outstanding") && absent(j, "tcp.handshake"),
	   "snapshot: no time is negative, and what is not known is omitted");
	ok(str_is(j, "flow.counts", "sequence") && absent(j, "flow.pkts_toserver") &&
		   absent(j, "flow.stream_toserver") && num_is(j, "flow.stream_toclient", 4) &&
		   absent(j, "tcp.completeness"),
	   "snapshot: in control mode by sequence numbers alone");
	json_decref(j);
	for (unsigned i = 0; i < CONN_STATES; i++) {
		e.snapshot.conn_state = (uint8_t)i;
		e.snapshot.closed_by = i % CLOSED_BYS;
		e.snapshot.outstanding = i % OUTSTANDINGS;
		e.direction_basis = i % DIRECTIONS;
		j = event_json(&e, 1, &eth0);
		wrong += !str_is(j, "tcp.conn_state", conn_state_str[i].s) ||
			 !str_is(j, "tcp.closed_by", closed_by_str[i % CLOSED_BYS].s) ||
			 !str_is(j, "tcp.direction_basis", direction_basis_str[i % DIRECTIONS].s) ||
			 (i % OUTSTANDINGS &&
			  !str_is(j, "tcp.outstanding", outstanding_str[i % OUTSTANDINGS].s));
		json_decref(j);
	}
	ok(!wrong, "snapshot: all words by their names");

	struct json_snapshot_end s = { .host = "h\"", .run_id = "r", .count = 3 };
	struct strbuf t = room(JSON_LINE_MAX);

	json_snapshot_end(&t, &s, 7, 1000000000);
	j = parse(&t);
	ok(str_is(j, "event_type", "snapshot_end") && num_is(j, "seq", 7) &&
		   num_is(j, "count", 3) && str_is(j, "run_id", "r") && str_is(j, "host", "h\"") &&
		   absent(j, "id"),
	   "snapshot_end: how many there were, and of which run");
	json_decref(j);
	s.id = "a\"\n";
	t = room(JSON_LINE_MAX);
	json_snapshot_end(&t, &s, 7, 1000000000);
	j = parse(&t);
	ok(str_is(j, "id", "a\"\n"), "snapshot_end: the request's id comes back, whatever it is");
	json_decref(j);
}

static void test_segment(void)
{
	struct event e = event_of(EVENT_TCP_SEGMENT);

	e.segment = SEGMENT_SYN_ACK;
	e.wire.seq = 7;
	e.wire.ack = UINT32_MAX;
	e.wire.tsval = 0;
	e.wire.tsecr = 5;
	e.wire.wscale = 0;
	e.wire.window_scale = 14;
	e.wire.payload_len = 1460;
	e.wire.flags = 0xfff;
	e.wire.window = 65535;
	e.wire.wire_segs = 3;
	e.wire.mss = 536;
	e.wire.sack_blocks = 4;
	e.wire.from = SIDE_B;
	e.wire.has_options = e.wire.sack_permitted = true;
	json_t *j = event_json(&e, 3, &eth0);

	ok(str_is(j, "event_type", "tcp_segment") && str_is(j, "tcp.segment", "syn_ack") &&
		   str_is(j, "tcp.from", "server") && num_is(j, "tcp.seq", 7) &&
		   num_is(j, "tcp.ack", UINT32_MAX) && num_is(j, "tcp.payload_len", 1460) &&
		   num_is(j, "tcp.window", 65535) && num_is(j, "tcp.window_scale", 14) &&
		   num_is(j, "tcp.wire_segs", 3) && num_is(j, "seq", 3) &&
		   str_is(j, "flow_id", "b31f6c0d9e5a7741"),
	   "tcp_segment: who sent what");
	ok(str_is(j, "tcp.flags", "FSRPAUECN321"), "tcp_segment: a letter for each flag");
	ok(num_is(j, "tcp.options.mss", 536) && num_is(j, "tcp.options.wscale", 0) &&
		   bool_is(j, "tcp.options.sack_permitted", true) &&
		   num_is(j, "tcp.options.tsval", 0) && num_is(j, "tcp.options.tsecr", 5) &&
		   num_is(j, "tcp.options.sack_blocks", 4),
	   "tcp_segment: its options");
	json_decref(j);
	e.wire.ack = e.wire.window_scale = e.wire.wscale = e.wire.tsval = e.wire.tsecr =
		DURATION_UNKNOWN;
	e.wire.sack_blocks = 0;
	e.wire.sack_permitted = false;
	j = event_json(&e, 3, &eth0);
	ok(absent(j, "tcp.ack") && absent(j, "tcp.window_scale") &&
		   json_object_size(at(j, "tcp.options")) == 1 && num_is(j, "tcp.options.mss", 536),
	   "tcp_segment: what is not there is omitted");
	json_decref(j);
	e.wire.flags = 0;
	e.wire.has_options = false;
	j = event_json(&e, 3, &eth0);
	ok(absent(j, "tcp.options") && str_is(j, "tcp.flags", ""),
	   "tcp_segment: so are options without any, but not the flags");
	json_decref(j);
}

static void test_anomaly(void)
{
	unsigned wrong = 0;

	for (unsigned kind = 0; kind < ANOMALIES; kind++) {
		struct event e = event_of(EVENT_TCP_ANOMALY);

		e.segment = SEGMENT_RST;
		e.anomaly.kind = (uint8_t)kind;
		e.anomaly.from = kind & 1;
		e.anomaly.count = kind + 1;
		json_t *j = event_json(&e, 1, &eth0);

		wrong += !str_is(j, "tcp.kind", anomaly_str[kind].s) ||
			 !str_is(j, "tcp.from", kind & 1 ? "server" : "client") ||
			 !str_is(j, "tcp.segment", "rst") || !num_is(j, "tcp.count", kind + 1);
		json_decref(j);
	}
	ok(!wrong, "tcp_anomaly: each kind by its name, who sent it and how many there were");
}

static void test_capture_loss(void)
{
	struct event e = { .kind = EVENT_CAPTURE_LOSS,
			   .ts_ns = 2000000000,
			   .loss = { 12, 3, 1000000000, 2000000000 } };
	json_t *j = event_json(&e, 9, &eth0);

	ok(str_is(j, "event_type", "capture_loss") && str_is(j, "in_iface", "eth0") &&
		   num_is(j, "count", 12) && num_is(j, "freezes", 3) &&
		   str_is(j, "from", "1970-01-01T00:00:01.000000000Z") &&
		   str_is(j, "to", "1970-01-01T00:00:02.000000000Z") && num_is(j, "seq", 9) &&
		   absent(j, "flow_id") && absent(j, "tcp"),
	   "capture_loss: how many frames, from when to when");
	json_decref(j);
}

/* ---- the longest line ------------------------------------------------------------------------ */

/* Fills every field with what takes most room. */
static struct event greatest(enum event_kind kind)
{
	struct event e;

	memset(&e, 0xff, sizeof e);
	e.kind = kind;
	e.ip_v = 6;
	memset(e.addr, 0xab, sizeof e.addr);
	e.nvlan = 2;
	e.state[0] = e.state[1] = e.prev_state[0] = e.prev_state[1] = TCPS_SYN_RECEIVED;
	e.segment = SEGMENT_TIMEOUT;
	e.basis = BASIS_INFERRED;
	e.midstream = false;
	e.direction_basis = DIRECTION_FIRST_PACKET;
	e.prev_state_ns[0] = e.prev_state_ns[1] = UINT64_MAX - 1;
	switch (kind) {
	case EVENT_TCP_OPEN:
		e.open.has_options = true;
		e.open.options = (struct event_options){ .mss = 65535, .wscale = { 14 } };
		break;
	case EVENT_TCP_ESTABLISHED:
		e.established.server_rtt_ns = e.established.client_rtt_ns = e.established.total_ns =
			UINT64_MAX - 1;
		e.established.options =
			(struct event_options){ .mss = 65535, .wscale = { 14, 14 } };
		break;
	case EVENT_TCP_CLOSE:
		e.close.start_ns = 0;
		e.close.history = 0;
		for (unsigned i = 0; i < HISTORY_LETTERS; i++)
			e.close.history |= (uint64_t)HISTORY_FLIPPED << i * HISTORY_LETTER_BITS;
		e.close.reason = REASON_UNANSWERED;
		e.close.closed_by = CLOSED_BY_CLIENT;
		e.close.teardown = TEARDOWN_THREE_SEGMENTS;
		e.close.conn_state = CONN_RSTOS0;
		e.close.outstanding = OUTSTANDING_SYN_ACK;
		e.close.lossy = false;
		break;
	case EVENT_SNAPSHOT:
		e.snapshot.start_ns = e.snapshot.end_ns = 0;
		e.snapshot.history = 0;
		for (unsigned i = 0; i < HISTORY_LETTERS; i++)
			e.snapshot.history |= (uint64_t)HISTORY_FLIPPED << i * HISTORY_LETTER_BITS;
		e.snapshot.closed_by = CLOSED_BY_CLIENT;
		e.snapshot.conn_state = CONN_RSTOS0;
		e.snapshot.outstanding = OUTSTANDING_SYN_ACK;
		e.snapshot.server_rtt = (struct dur32){ UINT32_MAX - 1 };
		e.snapshot.lossy = false;
		break;
	case EVENT_TCP_RETRY:
	case EVENT_TCP_STUCK:
		break;
	case EVENT_TCP_SEGMENT:
		e.wire.seq = e.wire.ack = e.wire.tsval = e.wire.tsecr = UINT64_MAX - 1;
		e.wire.wscale = e.wire.window_scale = UINT64_MAX - 1;
		e.wire.from = SIDE_A;
		e.wire.has_options = e.wire.sack_permitted = true;
		break;
	case EVENT_TCP_ANOMALY:
		e.anomaly.kind = ANOMALY_SYN_ACK_UNEXPECTED;
		e.anomaly.from = SIDE_A;
		break;
	default:
		break;
	}
	return e;
}

#define BAD "\xef\xbf\xbd" /* U+FFFD */

static void test_longest(void)
{
	/* IFNAMSIZ leaves 15 octets; each may come out as \ufffd or \u001f. */
	const struct json_context nasty = {
		.iface = "\xff\x80\x01\x1f\"\\\xc0\xff\xff\xff\xff\xff\xff\xff\xff",
		.community = COMMUNITY_ALL,
		.community_seed = 65535,
		.second = &second,
	};
	size_t longest = 0;
	unsigned broken = 0;

	for (unsigned kind = 0; kind < EVENT_KINDS; kind++) {
		struct event e = greatest(kind);
		struct strbuf t = room(JSON_LINE_MAX);

		json_event(&t, &e, UINT64_MAX, &nasty);
		/* 2^64 - 1 is JSON, but not for jansson: the digits are checked as they stand. */
		broken += t.full || t.p[-1] != '\n';
		line_len = (size_t)(t.p - line);
		broken += !has(",\"seq\":18446744073709551615,");
		longest = line_len > longest ? line_len : longest;
	}
	printf("# the longest line has %zu octets\n", longest);
	ok(!broken && longest < JSON_LINE_MAX, "the longest line of any event fits");
	ok(longest < JSON_LINE_MAX / 2, "and there is room to spare");

	struct event e = greatest(EVENT_TCP_CLOSE);

	e.close.end_ns = INT64_MAX;
	e.prev_state_ns[0] = e.prev_state_ns[1] = INT64_MAX;
	for (unsigned i = 0; i < 2; i++)
		e.close.bytes[i] = e.close.payload[i] = INT64_MAX;
	json_t *j = event_json(&e, INT64_MAX, &nasty);

	ok(num_is(j, "flow.bytes_toserver", INT64_MAX) &&
		   num_is(j, "flow.pkts_toclient", UINT32_MAX) &&
		   num_is(j, "flow.retrans_toserver", UINT16_MAX) &&
		   str_is(j, "tcp.history", "^^^^^^^^^^^^") &&
		   str_is(j, "flow.end", "2262-04-11T23:47:16.854775807Z"),
	   "greatest numbers come back");
	ok(str_is(j, "in_iface", BAD BAD "\x01\x1f\"\\" BAD BAD BAD BAD BAD BAD BAD BAD BAD),
	   "and so does the name of a nasty interface");
	json_decref(j);

	unsigned torn = 0;

	for (size_t n = 0; n < line_len; n += 7) {
		struct strbuf t = room(n);

		json_event(&t, &e, INT64_MAX, &nasty);
		torn += !t.full || t.p > t.end;
	}
	ok(!torn, "too little space is reported, and nothing is written beyond it");

	unsigned wrong = 0;

	/* Long or short, and anywhere what has to be escaped, or nothing. */
	for (unsigned n = 0; n < 20; n++)
		for (unsigned quote = 0; quote <= n; quote++) {
			char iface[32] = "", want[32] = "";
			const struct json_context c = { .iface = iface, .second = &second };

			memset(iface, 'e', n);
			if (quote < n)
				iface[quote] = quote & 1 ? '"' : '\x1f';
			strcpy(want, iface);
			j = event_json(&e, 1, &c);
			wrong += !j || !str_is(j, "in_iface", want);
			json_decref(j);
		}
	ok(!wrong, "and names of any length, escaped at any place");

	char name[JSON_LINE_MAX];
	const struct json_context endless = { .iface = name, .second = &second };
	struct strbuf t = room(sizeof line);

	memset(name, 'x', sizeof name);
	name[sizeof name - 1] = '\0';
	json_event(&t, &e, 1, &endless);
	ok(t.full && t.p == line,
	   "a name too long for any line is reported, and nothing is written");
}

/* ---- the daemon's own events ----------------------------------------------------------------- */

static void test_hello(void)
{
	const char *const names[] = { "eth0",	   "",	       "we\"ird\\",
				      "tab\there", "\xff\xfe", "z\xc3\xbcrich" };
	struct json_hello h = { .version = "0.1.0",
				.host = "host\"\n",
				.boot_id = "b",
				.run_id = "r",
				.policy = "drop_oldest",
				.events = LINES_ALL,
				.ifaces = names,
				.nifaces = ARRAY_SIZE(names) };
	struct strbuf t = room(sizeof line);

	json_hello(&t, &h, 41, 0);
	json_t *j = parse(&t);

	ok(str_is(j, "event_type", "hello") && str_is(j, "schema", "synfind/1") &&
		   num_is(j, "seq", 41) && num_is(j, "next_seq", 42) &&
		   str_is(j, "version", "0.1.0") && str_is(j, "boot_id", "b") &&
		   str_is(j, "run_id", "r") && str_is(j, "policy", "drop_oldest") &&
		   str_is(j, "host", "host\"\n"),
	   "hello: who speaks");
	const json_t *a = at(j, "interfaces");
	unsigned wrong = json_array_size(a) != ARRAY_SIZE(names);

	for (unsigned i = 0; i < ARRAY_SIZE(names); i++) {
		const char *want = i == 4 ? "\xef\xbf\xbd\xef\xbf\xbd" : names[i];
		const char *got = json_string_value(json_array_get(a, i));

		wrong += !got || strcmp(got, want);
	}
	ok(!wrong, "hello: interfaces, whatever they are called");
	json_decref(j);
	h.nifaces = 0;
	t = room(sizeof line);
	json_hello(&t, &h, 0, 0);
	j = parse(&t);
	ok(json_is_array(at(j, "interfaces")) && !json_array_size(at(j, "interfaces")) &&
		   num_is(j, "next_seq", 1),
	   "hello: no interface yet");
	ok(!at(j, "addresses"), "hello: nothing about addresses, if they are real");
	ok(!at(j, "events"), "hello: nothing about events, if all are produced");
	json_decref(j);

	const char *many[JSON_NAMES_MAX];

	for (unsigned i = 0; i < ARRAY_SIZE(many); i++)
		many[i] = "\1\2\3\4\5\6\7\x8\x9\xa\xb\xc\xd\xe\xf";
	h.ifaces = many;
	h.nifaces = 176;
	t = room(1 << 14);
	json_hello(&t, &h, 0, 0);
	j = parse(&t);
	ok(json_array_size(at(j, "interfaces")) == 64 && num_is(j, "interfaces_more", 112),
	   "hello: 64 names, however odd, and the number of the others");
	json_decref(j);
	h.nifaces = 64;
	t = room(1 << 14);
	json_hello(&t, &h, 0, 0);
	j = parse(&t);
	ok(json_array_size(at(j, "interfaces")) == 64 && !at(j, "interfaces_more"),
	   "hello: 64 names are all");
	json_decref(j);

	struct json_restart reset = { .cause = "crash", .reset = many, .nreset = 255 };

	t = room(1 << 14);
	json_restart(&t, &reset, 7, 0);
	j = parse(&t);
	ok(json_array_size(at(j, "reset")) == 64 && num_is(j, "reset_more", 191),
	   "restart: so with the interfaces whose connections were lost");
	json_decref(j);
	h.pseudonyms = true;
	t = room(sizeof line);
	json_hello(&t, &h, 0, 0);
	j = parse(&t);
	ok(str_is(j, "addresses", "pseudonyms"), "hello: pseudonyms are reported as such");
	json_decref(j);
	h.events = LINES_ALWAYS | 1 << EVENT_TCP_CLOSE | 1 << LINE_STATS;
	t = room(sizeof line);
	json_hello(&t, &h, 0, 0);
	j = parse(&t);
	a = at(j, "events");
	ok(json_array_size(a) == 2 &&
		   !strcmp(json_string_value(json_array_get(a, 0)), "tcp_close") &&
		   !strcmp(json_string_value(json_array_get(a, 1)), "stats"),
	   "hello: the kinds that are produced, but not those that always are");
	json_decref(j);
	h.events = LINES_ALL & ~(1u << LINE_IFACE);
	t = room(sizeof line);
	json_hello(&t, &h, 0, 0);
	j = parse(&t);
	ok(json_array_size(at(j, "events")) == (size_t)__builtin_popcount(h.events & ~LINES_ALWAYS),
	   "hello: all kinds but one");
	json_decref(j);
}

static void test_lost_and_iface(void)
{
	struct strbuf t = room(256);

	json_lost(&t, INT64_MAX, 1, INT64_MAX, "subscriber", UINT64_MAX);
	json_t *j = parse(&t);

	ok(str_is(j, "event_type", "lost") && num_is(j, "seq", INT64_MAX) &&
		   num_is(j, "count", INT64_MAX) && num_is(j, "first_seq", 1) &&
		   num_is(j, "last_seq", INT64_MAX) && str_is(j, "reason", "subscriber"),
	   "lost: from, to and how many; its number is the last of them");
	json_decref(j);
	t = room(256);
	json_lost(&t, UINT64_MAX, UINT64_MAX, UINT64_MAX, "subscriber", UINT64_MAX);
	ok(!t.full && t.p[-1] == '\n', "lost: greatest numbers fit 256 octets");
	t = room(JSON_LINE_MAX);
	json_iface(&t, "br\"0", "gone", 5, 0);
	j = parse(&t);
	ok(str_is(j, "event_type", "iface") && str_is(j, "in_iface", "br\"0") &&
		   str_is(j, "state", "gone") && num_is(j, "seq", 5),
	   "iface: which one, and what became of it");
	json_decref(j);

	struct json_restart state = { .cause = "stop", .down_ns = 7 };
	struct json_restart reset = { .cause = "crash",
				      .reset = (const char *[]){ "eth0", "br\"0" },
				      .nreset = 2 };

	t = room(JSON_LINE_MAX);
	json_restart(&t, &state, 6, 0);
	j = parse(&t);
	ok(str_is(j, "event_type", "restart") && num_is(j, "seq", 6) &&
		   str_is(j, "cause", "stop") && num_is(j, "down_ns", 7) &&
		   str_is(j, "tables", "kept") && !json_object_get(j, "reset"),
	   "restart: why, and how long the daemon was down");
	json_decref(j);
	t = room(JSON_LINE_MAX);
	json_restart(&t, &reset, 7, 0);
	j = parse(&t);
	ok(str_is(j, "cause", "crash") && str_is(j, "tables", "reset") &&
		   json_array_size(json_object_get(j, "reset")) == 2 &&
		   !strcmp(json_string_value(json_array_get(json_object_get(j, "reset"), 1)),
			   "br\"0"),
	   "restart: the interfaces whose connections were forgotten");
	json_decref(j);
}

static void test_stats(void)
{
	struct stats_decoder d[8];
	struct stats_subscribers s = { 1, 2, 4, 50, 60, 70, 80, 90 };
	struct strbuf t = room(sizeof line);

	memset(d, 0, sizeof d);
	d[0] = (struct stats_decoder){
		.iface = "eth0",
		.count = { .packets = { 100 },
			   .drops = { 7 },
			   .freezes = { 2 },
			   .events = { 30 },
			   .lost = { 31 },
			   .tracker = { .opened = { 21 },
					.closed = { 22 },
					.syn_entries = { 23 },
					.full_entries = { 24 },
					.evicted_syn = { 25 },
					.evicted_full = { 26 },
					.anomalies = { 27 },
					.anomalies_suppressed = { 28 },
					.unmatched = { 29 },
					.floods = { 34 },
					.deferred = { 35 },
					.suppressed = { 36 },
					.unwatched = { 37 } } },
		.max_syn = 32,
		.max_full = 33,
	};
	for (unsigned v = 0; v < FRAME_VERDICTS; v++)
		d[0].count.verdicts[v].v = 10 + v;
	for (unsigned st = 0; st < FSM_STATES; st++)
		d[0].count.tracker.states[st].v = 1ull << st;
	d[1] = d[0];
	d[1].iface = "\xff";
	memset(d[1].count.tracker.states, 0, sizeof d[1].count.tracker.states);
	struct stats_interface links[64] = { { "veth\"1", "any", 8, 9 },
					     { "veth2", "any", 10, 11 } };
	struct json_stats all_of = { d, links, 2, 2, s, 10 };

	json_stats(&t, &all_of, 5, 0);
	json_t *j = parse(&t);
	const json_t *a = json_array_get(at(j, "decoders"), 0);

	ok(str_is(j, "event_type", "stats") && num_is(j, "seq", 5) &&
		   num_is(j, "interval_ns", 10) && num_is(j, "subscribers.connected", 1) &&
		   num_is(j, "subscribers.accepted", 2) && num_is(j, "subscribers.refused", 350) &&
		   num_is(j, "subscribers.refused_by.unlisted", 50) &&
		   num_is(j, "subscribers.refused_by.uid_limit", 60) &&
		   num_is(j, "subscribers.refused_by.limit", 70) &&
		   num_is(j, "subscribers.refused_by.unknown", 80) &&
		   num_is(j, "subscribers.refused_by.rate_limit", 90) &&
		   num_is(j, "subscribers.lost_events", 4) &&
		   json_array_size(at(j, "decoders")) == 2,
	   "stats: one line for all");
	ok(str_is(a, "in_iface", "eth0") && num_is(a, "packets", 100) && num_is(a, "drops", 7) &&
		   num_is(a, "freezes", 2) && num_is(a, "strays", 29) &&
		   num_is(a, "anomalies", 27) && num_is(a, "anomalies_untold", 28) &&
		   num_is(a, "events", 30) && num_is(a, "lost", 31) &&
		   num_is(a, "syn_flood.servers", 34) && num_is(a, "syn_flood.held", 35) &&
		   num_is(a, "syn_flood.untold", 36) && num_is(a, "syn_flood.unwatched", 37),
	   "stats: a decoder's counters");
	const json_t *link = json_array_get(at(j, "interfaces"), 0);

	ok(json_array_size(at(j, "interfaces")) == 2 && str_is(link, "in_iface", "veth\"1") &&
		   str_is(link, "rings", "any") && num_is(link, "frames", 8) &&
		   num_is(link, "events", 9),
	   "stats: interfaces that share rings");
	unsigned wrong = 0;

	for (unsigned v = 0; v < FRAME_VERDICTS; v++)
		wrong += json_integer_value(json_object_get(at(a, "verdicts"),
							    frame_verdict_name(v))) != 10 + v;
	ok(!wrong && json_object_size(at(a, "verdicts")) == FRAME_VERDICTS, "stats: every verdict");
	ok(num_is(a, "connections.opened", 21) && num_is(a, "connections.closed", 22) &&
		   num_is(a, "connections.evicted_half_open", 25) &&
		   num_is(a, "connections.evicted", 26) && num_is(a, "table.entries", 24) &&
		   num_is(a, "table.max_entries", 33) && num_is(a, "table.half_open_entries", 23) &&
		   num_is(a, "table.max_half_open_entries", 32),
	   "stats: connections and the table");

	/* States whose ends look alike are one member; those that are over are none. */
	uint64_t total = 0, half_open = 0, named = 0;
	const char *key;
	json_t *v;

	for (unsigned st = FSM_SYN; st < FSM_DONE_A; st++) {
		total += 1ull << st;
		half_open += st < FSM_OPEN ? 1ull << st : 0;
	}
	json_object_foreach(json_object_get(json_object_get(a, "connections"), "by_state"), key, v)
		named += (uint64_t)json_integer_value(v);
	ok(num_is(a, "connections.total", total) && num_is(a, "connections.half_open", half_open) &&
		   named == total &&
		   num_is(a, "connections.by_state.syn_received/syn_received",
			  1 << FSM_CROSSED | 1 << FSM_CROSSED_A | 1 << FSM_CROSSED_B),
	   "stats: connections by the states of both ends add up to all");
	a = json_array_get(at(j, "decoders"), 1);
	ok(str_is(a, "in_iface", "\xef\xbf\xbd") && json_is_object(at(a, "connections.by_state")) &&
		   !json_object_size(at(a, "connections.by_state")),
	   "stats: no connection is an empty object");
	json_decref(j);

	for (unsigned i = 0; i < ARRAY_SIZE(d); i++) {
		uint64_t *n = (uint64_t *)&d[i].count;

		d[i].iface = "\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01";
		for (; n < (uint64_t *)(&d[i] + 1); n++)
			*n = UINT64_MAX;
	}
	s = (struct stats_subscribers){ UINT64_MAX, UINT64_MAX, UINT64_MAX, UINT64_MAX,
					UINT64_MAX, UINT64_MAX, UINT64_MAX, UINT64_MAX };
	t = room(sizeof line);
	all_of = (struct json_stats){ d, links, ARRAY_SIZE(d), 0, s, UINT64_MAX };
	json_stats(&t, &all_of, UINT64_MAX, UINT64_MAX);
	size_t all = (size_t)(t.p - line);

	t = room(sizeof line);
	all_of.ndecoders = 1;
	json_stats(&t, &all_of, UINT64_MAX, UINT64_MAX);
	size_t one = (size_t)(t.p - line), each = (all - one) / (ARRAY_SIZE(d) - 1);

	printf("# greatest numbers: %zu octets for a decoder, %zu for eight\n", each, all);
	for (unsigned i = 0; i < ARRAY_SIZE(links); i++)
		links[i] =
			(struct stats_interface){ d[0].iface, d[0].iface, UINT64_MAX, UINT64_MAX };
	t = room(sizeof line);
	all_of.ndecoders = ARRAY_SIZE(d);
	all_of.ninterfaces = ARRAY_SIZE(links);
	json_stats(&t, &all_of, UINT64_MAX, UINT64_MAX);
	ok(!t.full && t.p - line <= 40 << 10,
	   "stats: eight decoders and 64 interfaces fit the publisher's 40 KiB");
}

static void test_syn_flood(void)
{
	struct event e = { .kind = EVENT_SYN_FLOOD,
			   .ts_ns = 3000000000,
			   .flow_id = 0xabc,
			   .ip_v = 4,
			   .addr = { [1] = { 192, 0, 2, 80 } },
			   .port = { [1] = 443 },
			   .flood = { .started_ns = 1000000000,
				      .count = { 90, 11, 10, 12, 13, 14, 15, 16, 17 },
				      .half_open = 3,
				      .new_attempts = 40,
				      .rate = 20,
				      .shares = 1 } };
	static const char *const phase[SYNFLOOD_PHASES] = { "begin", "update", "end" };
	unsigned wrong = 0;
	json_t *j;

	for (unsigned p = 0; p < SYNFLOOD_PHASES; p++) {
		e.flood.phase = (uint8_t)p;
		j = event_json(&e, 9, &eth0);
		wrong += !str_is(j, "flood.phase", phase[p]);
		json_decref(j);
	}
	ok(!wrong, "syn_flood: its phases");
	j = event_json(&e, 9, &eth0);
	ok(str_is(j, "event_type", "syn_flood") && str_is(j, "in_iface", "eth0") &&
		   num_is(j, "ip_v", 4) && str_is(j, "dest_ip", "192.0.2.80") &&
		   num_is(j, "dest_port", 443) && str_is(j, "proto", "TCP") &&
		   absent(j, "src_ip") && absent(j, "flow_id") && absent(j, "tcp") &&
		   absent(j, "tunnel") && absent(j, "vlan"),
	   "syn_flood: the server alone");
	ok(str_is(j, "flood.id", "0000000000000abc") &&
		   str_is(j, "flood.started", "1970-01-01T00:00:01.000000000Z") &&
		   num_is(j, "flood.attempts", 90) && num_is(j, "flood.answered", 11) &&
		   num_is(j, "flood.late", 10) && num_is(j, "flood.completed", 12) &&
		   num_is(j, "flood.told", 13) && num_is(j, "flood.refused", 14) &&
		   num_is(j, "flood.expired", 15) && num_is(j, "flood.evicted", 16) &&
		   num_is(j, "flood.replaced", 17) && num_is(j, "flood.half_open", 3) &&
		   num_is(j, "flood.new_attempts", 40) && num_is(j, "flood.rate", 20) &&
		   absent(j, "flood.decoders"),
	   "syn_flood: each number by its name");
	json_decref(j);
	e.flood.shares = 4;
	j = event_json(&e, 9, &eth0);
	ok(num_is(j, "flood.decoders", 4), "syn_flood: one of several decoders says so");
	json_decref(j);
}

int main(void)
{
	test_syn_flood();
	test_common();
	test_community();
	test_open();
	test_state();
	test_established();
	test_close();
	test_snapshot();
	test_segment();
	test_anomaly();
	test_capture_loss();
	test_longest();
	test_hello();
	test_lost_and_iface();
	test_stats();
	return tap_done();
}
