#include "flow/event.h"
#include "base/cc.h"

static const char *const kind_name[EVENT_KINDS] = {
	[EVENT_TCP_OPEN] = "tcp_open",
	[EVENT_TCP_STATE] = "tcp_state",
	[EVENT_TCP_ESTABLISHED] = "tcp_established",
	[EVENT_TCP_CLOSE] = "tcp_close",
	[EVENT_TCP_ANOMALY] = "tcp_anomaly",
	[EVENT_CAPTURE_LOSS] = "capture_loss",
};

static const char *const segment_name[SEGMENTS] = {
	[SEGMENT_SYN] = "syn",	   [SEGMENT_SYN_ACK] = "syn_ack", [SEGMENT_ACK] = "ack",
	[SEGMENT_FIN] = "fin",	   [SEGMENT_FIN_ACK] = "fin_ack", [SEGMENT_RST] = "rst",
	[SEGMENT_ICMP] = "icmp",   [SEGMENT_TIMEOUT] = "timeout", [SEGMENT_NONE] = "none",
};

static const char *const basis_name[BASES] = {
	[BASIS_OBSERVED] = "observed",
	[BASIS_INFERRED] = "inferred",
	[BASIS_TIMEOUT] = "timeout",
};

static const char *const direction_name[DIRECTIONS] = {
	[DIRECTION_SYN] = "syn",
	[DIRECTION_SYN_ACK] = "syn_ack",
	[DIRECTION_PORT] = "port",
	[DIRECTION_FIRST_PACKET] = "first_packet",
};

static const char *const reason_name[REASONS] = {
	[REASON_FIN] = "fin",
	[REASON_RST] = "rst",
	[REASON_REFUSED] = "refused",
	[REASON_UNREACHABLE] = "unreachable",
	[REASON_UNANSWERED] = "unanswered",
	[REASON_HALF_OPEN] = "half_open",
	[REASON_IDLE] = "idle",
	[REASON_REUSE] = "reuse",
	[REASON_EVICTED] = "evicted",
	[REASON_CAPTURE_END] = "capture_end",
	[REASON_SHUTDOWN] = "shutdown",
};

static const char *const by_name[CLOSED_BYS] = {
	[CLOSED_BY_NONE] = "none",
	[CLOSED_BY_CLIENT] = "client",
	[CLOSED_BY_SERVER] = "server",
	[CLOSED_BY_BOTH] = "both",
};

static const char *const teardown_names[TEARDOWNS] = {
	[TEARDOWN_NONE] = "none",
	[TEARDOWN_FOUR_SEGMENTS] = "four_segments",
	[TEARDOWN_THREE_SEGMENTS] = "three_segments",
	[TEARDOWN_SIMULTANEOUS] = "simultaneous",
	[TEARDOWN_RESET] = "reset",
};

static const char *const conn_name[CONN_STATES] = {
	[CONN_S0] = "S0",	  [CONN_S1] = "S1",	  [CONN_SF] = "SF",   [CONN_REJ] = "REJ",
	[CONN_S2] = "S2",	  [CONN_S3] = "S3",	  [CONN_RSTO] = "RSTO", [CONN_RSTR] = "RSTR",
	[CONN_RSTOS0] = "RSTOS0", [CONN_RSTRH] = "RSTRH", [CONN_SH] = "SH",   [CONN_SHR] = "SHR",
	[CONN_OTH] = "OTH",
};

static const char *const anomaly_names[ANOMALIES] = {
	[ANOMALY_BAD_ACK] = "bad_ack",
	[ANOMALY_ACK_UNSEEN] = "ack_unseen",
	[ANOMALY_OUT_OF_WINDOW] = "out_of_window",
	[ANOMALY_SYN_IN_OPEN] = "syn_in_established",
	[ANOMALY_SYN_ACK_UNEXPECTED] = "syn_ack_unexpected",
	[ANOMALY_RST_BAD_ACK] = "rst_bad_ack",
	[ANOMALY_RST_IN_WINDOW] = "rst_in_window",
	[ANOMALY_RST_OUT_OF_WINDOW] = "rst_out_of_window",
	[ANOMALY_FIN_OUT_OF_WINDOW] = "fin_out_of_window",
	[ANOMALY_FIN_MOVED] = "fin_moved",
	[ANOMALY_DATA_AFTER_FIN] = "data_after_fin",
	[ANOMALY_BAD_FLAGS] = "bad_flags",
	[ANOMALY_ILLEGAL] = "illegal_segment",
};

static const char history_letter[] = "?shadfrgtwiq^???";

const char *event_kind_name(enum event_kind k)
{
	return kind_name[k];
}

const char *event_segment_name(enum event_segment s)
{
	return segment_name[s];
}

const char *event_basis_name(enum event_basis b)
{
	return basis_name[b];
}

const char *direction_basis_name(enum direction_basis d)
{
	return direction_name[d];
}

const char *close_reason_name(enum close_reason r)
{
	return reason_name[r];
}

const char *closed_by_name(enum closed_by c)
{
	return by_name[c];
}

const char *teardown_name(enum teardown t)
{
	return teardown_names[t];
}

const char *conn_state_name(enum conn_state c)
{
	return conn_name[c];
}

const char *anomaly_name(enum anomaly a)
{
	return anomaly_names[a];
}

void history_text(uint64_t history, char ret[static HISTORY_LETTERS + 1])
{
	for (; history; history >>= HISTORY_LETTER_BITS) {
		char c = history_letter[history & 15];

		if (history & HISTORY_FROM_CLIENT && c >= 'a' && c <= 'z')
			c = (char)(c - 'a' + 'A');
		*ret++ = c;
	}
	*ret = '\0';
}
