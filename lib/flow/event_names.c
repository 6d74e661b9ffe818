#include "flow/event_names.h"

const struct conststr tcp_state_str[TCPS_STATES] = {
	[TCPS_LISTEN] = CONSTSTR("listen"),
	[TCPS_SYN_SENT] = CONSTSTR("syn_sent"),
	[TCPS_SYN_RECEIVED] = CONSTSTR("syn_received"),
	[TCPS_ESTABLISHED] = CONSTSTR("established"),
	[TCPS_FIN_WAIT_1] = CONSTSTR("fin_wait_1"),
	[TCPS_FIN_WAIT_2] = CONSTSTR("fin_wait_2"),
	[TCPS_CLOSE_WAIT] = CONSTSTR("close_wait"),
	[TCPS_CLOSING] = CONSTSTR("closing"),
	[TCPS_LAST_ACK] = CONSTSTR("last_ack"),
	[TCPS_TIME_WAIT] = CONSTSTR("time_wait"),
	[TCPS_CLOSED] = CONSTSTR("closed"),
};

const struct conststr event_kind_str[EVENT_KINDS] = {
	[EVENT_TCP_OPEN] = CONSTSTR("tcp_open"),
	[EVENT_TCP_STATE] = CONSTSTR("tcp_state"),
	[EVENT_TCP_ESTABLISHED] = CONSTSTR("tcp_established"),
	[EVENT_TCP_CLOSE] = CONSTSTR("tcp_close"),
	[EVENT_TCP_RETRY] = CONSTSTR("tcp_retry"),
	[EVENT_TCP_STUCK] = CONSTSTR("tcp_stuck"),
	[EVENT_TCP_ANOMALY] = CONSTSTR("tcp_anomaly"),
	[EVENT_CAPTURE_LOSS] = CONSTSTR("capture_loss"),
	[EVENT_SYN_FLOOD] = CONSTSTR("syn_flood"),
	[EVENT_SNAPSHOT] = CONSTSTR("snapshot"),
	[EVENT_TCP_SEGMENT] = CONSTSTR("tcp_segment"),
};

const struct conststr event_segment_str[SEGMENTS] = {
	[SEGMENT_SYN] = CONSTSTR("syn"),	 [SEGMENT_SYN_ACK] = CONSTSTR("syn_ack"),
	[SEGMENT_ACK] = CONSTSTR("ack"),	 [SEGMENT_FIN] = CONSTSTR("fin"),
	[SEGMENT_FIN_ACK] = CONSTSTR("fin_ack"), [SEGMENT_RST] = CONSTSTR("rst"),
	[SEGMENT_ICMP] = CONSTSTR("icmp"),	 [SEGMENT_TIMEOUT] = CONSTSTR("timeout"),
	[SEGMENT_NONE] = CONSTSTR("none"),
};

const struct conststr event_basis_str[BASES] = {
	[BASIS_OBSERVED] = CONSTSTR("observed"),
	[BASIS_INFERRED] = CONSTSTR("inferred"),
	[BASIS_TIMEOUT] = CONSTSTR("timeout"),
};

const struct conststr event_side_str[SIDES] = {
	[SIDE_A] = CONSTSTR("client"),
	[SIDE_B] = CONSTSTR("server"),
};

const struct conststr direction_basis_str[DIRECTIONS] = {
	[DIRECTION_SYN] = CONSTSTR("syn"),
	[DIRECTION_SYN_ACK] = CONSTSTR("syn_ack"),
	[DIRECTION_PORT] = CONSTSTR("port"),
	[DIRECTION_FIRST_PACKET] = CONSTSTR("first_packet"),
};

const struct conststr outstanding_str[OUTSTANDINGS] = {
	[OUTSTANDING_NONE] = CONSTSTR("none"),	     [OUTSTANDING_SYN] = CONSTSTR("syn"),
	[OUTSTANDING_SYN_ACK] = CONSTSTR("syn_ack"), [OUTSTANDING_DATA] = CONSTSTR("data"),
	[OUTSTANDING_FIN] = CONSTSTR("fin"),
};

const struct conststr close_reason_str[REASONS] = {
	[REASON_FIN] = CONSTSTR("fin"),
	[REASON_RST] = CONSTSTR("rst"),
	[REASON_REFUSED] = CONSTSTR("refused"),
	[REASON_UNREACHABLE] = CONSTSTR("unreachable"),
	[REASON_UNANSWERED] = CONSTSTR("unanswered"),
	[REASON_HALF_OPEN] = CONSTSTR("half_open"),
	[REASON_IDLE] = CONSTSTR("idle"),
	[REASON_REUSE] = CONSTSTR("reuse"),
	[REASON_EVICTED] = CONSTSTR("evicted"),
	[REASON_CAPTURE_END] = CONSTSTR("capture_end"),
	[REASON_SHUTDOWN] = CONSTSTR("shutdown"),
};

const struct conststr closed_by_str[CLOSED_BYS] = {
	[CLOSED_BY_NONE] = CONSTSTR("none"),
	[CLOSED_BY_CLIENT] = CONSTSTR("client"),
	[CLOSED_BY_SERVER] = CONSTSTR("server"),
	[CLOSED_BY_BOTH] = CONSTSTR("both"),
};

const struct conststr teardown_str[TEARDOWNS] = {
	[TEARDOWN_NONE] = CONSTSTR("none"),
	[TEARDOWN_FOUR_SEGMENTS] = CONSTSTR("four_segments"),
	[TEARDOWN_THREE_SEGMENTS] = CONSTSTR("three_segments"),
	[TEARDOWN_SIMULTANEOUS] = CONSTSTR("simultaneous"),
	[TEARDOWN_RESET] = CONSTSTR("reset"),
};

const struct conststr conn_state_str[CONN_STATES] = {
	[CONN_S0] = CONSTSTR("S0"),	    [CONN_S1] = CONSTSTR("S1"),
	[CONN_SF] = CONSTSTR("SF"),	    [CONN_REJ] = CONSTSTR("REJ"),
	[CONN_S2] = CONSTSTR("S2"),	    [CONN_S3] = CONSTSTR("S3"),
	[CONN_RSTO] = CONSTSTR("RSTO"),	    [CONN_RSTR] = CONSTSTR("RSTR"),
	[CONN_RSTOS0] = CONSTSTR("RSTOS0"), [CONN_RSTRH] = CONSTSTR("RSTRH"),
	[CONN_SH] = CONSTSTR("SH"),	    [CONN_SHR] = CONSTSTR("SHR"),
	[CONN_OTH] = CONSTSTR("OTH"),
};

const struct conststr anomaly_str[ANOMALIES] = {
	[ANOMALY_BAD_ACK] = CONSTSTR("bad_ack"),
	[ANOMALY_ACK_UNSEEN] = CONSTSTR("ack_unseen"),
	[ANOMALY_OUT_OF_WINDOW] = CONSTSTR("out_of_window"),
	[ANOMALY_SYN_IN_OPEN] = CONSTSTR("syn_in_established"),
	[ANOMALY_SYN_ACK_UNEXPECTED] = CONSTSTR("syn_ack_unexpected"),
	[ANOMALY_RST_BAD_ACK] = CONSTSTR("rst_bad_ack"),
	[ANOMALY_RST_IN_WINDOW] = CONSTSTR("rst_in_window"),
	[ANOMALY_RST_OUT_OF_WINDOW] = CONSTSTR("rst_out_of_window"),
	[ANOMALY_FIN_OUT_OF_WINDOW] = CONSTSTR("fin_out_of_window"),
	[ANOMALY_FIN_MOVED] = CONSTSTR("fin_moved"),
	[ANOMALY_DATA_AFTER_FIN] = CONSTSTR("data_after_fin"),
	[ANOMALY_BAD_FLAGS] = CONSTSTR("bad_flags"),
	[ANOMALY_ILLEGAL] = CONSTSTR("illegal_segment"),
};

const struct conststr loss_reason_str[LOSS_REASONS] = {
	[LOSS_RING_FULL] = CONSTSTR("ring_full"),
	[LOSS_RING_SWITCH] = CONSTSTR("ring_switch"),
	[LOSS_POISON] = CONSTSTR("poison"),
};

const struct conststr synflood_phase_str[SYNFLOOD_PHASES] = {
	[SYNFLOOD_BEGIN] = CONSTSTR("begin"),
	[SYNFLOOD_UPDATE] = CONSTSTR("update"),
	[SYNFLOOD_END] = CONSTSTR("end"),
};

unsigned tcp_flags_text(unsigned flags, char ret[static TCP_FLAGS + 1])
{
	static const char letter[] = "FSRPAUECN321"; /* the last three are reserved */
	unsigned n = 0;

	for (unsigned i = 0; i < TCP_FLAGS; i++)
		if (flags >> i & 1)
			ret[n++] = letter[i];
	ret[n] = '\0';
	return n;
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
