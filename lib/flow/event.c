#include "flow/event.h"

const struct word event_kind_word[EVENT_KINDS] = {
	[EVENT_TCP_OPEN] = WORD_OF("tcp_open"),
	[EVENT_TCP_STATE] = WORD_OF("tcp_state"),
	[EVENT_TCP_ESTABLISHED] = WORD_OF("tcp_established"),
	[EVENT_TCP_CLOSE] = WORD_OF("tcp_close"),
	[EVENT_TCP_ANOMALY] = WORD_OF("tcp_anomaly"),
	[EVENT_CAPTURE_LOSS] = WORD_OF("capture_loss"),
	[EVENT_SYN_FLOOD] = WORD_OF("syn_flood"),
};

const struct word event_segment_word[SEGMENTS] = {
	[SEGMENT_SYN] = WORD_OF("syn"),		[SEGMENT_SYN_ACK] = WORD_OF("syn_ack"),
	[SEGMENT_ACK] = WORD_OF("ack"),		[SEGMENT_FIN] = WORD_OF("fin"),
	[SEGMENT_FIN_ACK] = WORD_OF("fin_ack"), [SEGMENT_RST] = WORD_OF("rst"),
	[SEGMENT_ICMP] = WORD_OF("icmp"),	[SEGMENT_TIMEOUT] = WORD_OF("timeout"),
	[SEGMENT_NONE] = WORD_OF("none"),
};

const struct word event_basis_word[BASES] = {
	[BASIS_OBSERVED] = WORD_OF("observed"),
	[BASIS_INFERRED] = WORD_OF("inferred"),
	[BASIS_TIMEOUT] = WORD_OF("timeout"),
};

const struct word direction_basis_word[DIRECTIONS] = {
	[DIRECTION_SYN] = WORD_OF("syn"),
	[DIRECTION_SYN_ACK] = WORD_OF("syn_ack"),
	[DIRECTION_PORT] = WORD_OF("port"),
	[DIRECTION_FIRST_PACKET] = WORD_OF("first_packet"),
};

const struct word close_reason_word[REASONS] = {
	[REASON_FIN] = WORD_OF("fin"),
	[REASON_RST] = WORD_OF("rst"),
	[REASON_REFUSED] = WORD_OF("refused"),
	[REASON_UNREACHABLE] = WORD_OF("unreachable"),
	[REASON_UNANSWERED] = WORD_OF("unanswered"),
	[REASON_HALF_OPEN] = WORD_OF("half_open"),
	[REASON_IDLE] = WORD_OF("idle"),
	[REASON_REUSE] = WORD_OF("reuse"),
	[REASON_EVICTED] = WORD_OF("evicted"),
	[REASON_CAPTURE_END] = WORD_OF("capture_end"),
	[REASON_SHUTDOWN] = WORD_OF("shutdown"),
};

const struct word closed_by_word[CLOSED_BYS] = {
	[CLOSED_BY_NONE] = WORD_OF("none"),
	[CLOSED_BY_CLIENT] = WORD_OF("client"),
	[CLOSED_BY_SERVER] = WORD_OF("server"),
	[CLOSED_BY_BOTH] = WORD_OF("both"),
};

const struct word teardown_word[TEARDOWNS] = {
	[TEARDOWN_NONE] = WORD_OF("none"),
	[TEARDOWN_FOUR_SEGMENTS] = WORD_OF("four_segments"),
	[TEARDOWN_THREE_SEGMENTS] = WORD_OF("three_segments"),
	[TEARDOWN_SIMULTANEOUS] = WORD_OF("simultaneous"),
	[TEARDOWN_RESET] = WORD_OF("reset"),
};

const struct word conn_state_word[CONN_STATES] = {
	[CONN_S0] = WORD_OF("S0"),	   [CONN_S1] = WORD_OF("S1"),
	[CONN_SF] = WORD_OF("SF"),	   [CONN_REJ] = WORD_OF("REJ"),
	[CONN_S2] = WORD_OF("S2"),	   [CONN_S3] = WORD_OF("S3"),
	[CONN_RSTO] = WORD_OF("RSTO"),	   [CONN_RSTR] = WORD_OF("RSTR"),
	[CONN_RSTOS0] = WORD_OF("RSTOS0"), [CONN_RSTRH] = WORD_OF("RSTRH"),
	[CONN_SH] = WORD_OF("SH"),	   [CONN_SHR] = WORD_OF("SHR"),
	[CONN_OTH] = WORD_OF("OTH"),
};

const struct word anomaly_word[ANOMALIES] = {
	[ANOMALY_BAD_ACK] = WORD_OF("bad_ack"),
	[ANOMALY_ACK_UNSEEN] = WORD_OF("ack_unseen"),
	[ANOMALY_OUT_OF_WINDOW] = WORD_OF("out_of_window"),
	[ANOMALY_SYN_IN_OPEN] = WORD_OF("syn_in_established"),
	[ANOMALY_SYN_ACK_UNEXPECTED] = WORD_OF("syn_ack_unexpected"),
	[ANOMALY_RST_BAD_ACK] = WORD_OF("rst_bad_ack"),
	[ANOMALY_RST_IN_WINDOW] = WORD_OF("rst_in_window"),
	[ANOMALY_RST_OUT_OF_WINDOW] = WORD_OF("rst_out_of_window"),
	[ANOMALY_FIN_OUT_OF_WINDOW] = WORD_OF("fin_out_of_window"),
	[ANOMALY_FIN_MOVED] = WORD_OF("fin_moved"),
	[ANOMALY_DATA_AFTER_FIN] = WORD_OF("data_after_fin"),
	[ANOMALY_BAD_FLAGS] = WORD_OF("bad_flags"),
	[ANOMALY_ILLEGAL] = WORD_OF("illegal_segment"),
};

const struct word flood_phase_word[FLOOD_PHASES] = {
	[FLOOD_BEGIN] = WORD_OF("begin"),
	[FLOOD_UPDATE] = WORD_OF("update"),
	[FLOOD_END] = WORD_OF("end"),
};

const char *event_kind_name(enum event_kind k)
{
	return event_kind_word[k].s;
}

const char *event_segment_name(enum event_segment s)
{
	return event_segment_word[s].s;
}

const char *event_basis_name(enum event_basis b)
{
	return event_basis_word[b].s;
}

const char *direction_basis_name(enum direction_basis d)
{
	return direction_basis_word[d].s;
}

const char *close_reason_name(enum close_reason r)
{
	return close_reason_word[r].s;
}

const char *closed_by_name(enum closed_by c)
{
	return closed_by_word[c].s;
}

const char *teardown_name(enum teardown t)
{
	return teardown_word[t].s;
}

const char *conn_state_name(enum conn_state c)
{
	return conn_state_word[c].s;
}

const char *anomaly_name(enum anomaly a)
{
	return anomaly_word[a].s;
}

/* By code; the same of the client behind them (HISTORY_FROM_CLIENT). */
static const char history_letter[] = "?shadfrgtwiq^???"
				     "?SHADFRGTWIQ^???";

unsigned history_text(uint64_t history, char ret[static HISTORY_LETTERS + 1])
{
	unsigned n = 0;

	for (; history && n < HISTORY_LETTERS; history >>= HISTORY_LETTER_BITS)
		ret[n++] = history_letter[history & (HISTORY_FROM_CLIENT | 15)];
	ret[n] = '\0';
	return n;
}
