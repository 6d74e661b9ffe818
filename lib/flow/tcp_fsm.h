/* tcp_fsm.h - the states of a connection as a bystander can know them, one const table.  Pure.
 *
 * One joint state stands for both endpoints.  A is the client (who opened), B the server.  The
 * state keeps who closed first, so that a repeated FIN is never taken for the peer's own (RFC 9293
 * section 3.6).  segment_check reduces a segment to what its numbers prove (enum fsm_evidence).
 * Each piece of evidence moves the state by one edge of the table, so an ACK and a FIN in one
 * segment make both moves. */
#pragma once
#include <stdbool.h>
#include <stdint.h>

/* Names of the endpoints' states are OpenTelemetry's network.connection.state (RFC 9293 3.3.2). */
enum tcp_state {
	TCPS_LISTEN,
	TCPS_SYN_SENT,
	TCPS_SYN_RECEIVED,
	TCPS_ESTABLISHED,
	TCPS_FIN_WAIT_1,
	TCPS_FIN_WAIT_2,
	TCPS_CLOSE_WAIT,
	TCPS_CLOSING,
	TCPS_LAST_ACK,
	TCPS_TIME_WAIT,
	TCPS_CLOSED,
	TCPS_STATES
};

/* Ordered: below FSM_OPEN the handshake is in progress, from FSM_DONE_A on the connection is over
 * (its tcp_close was reported) and the entry only keeps late segments from opening another one. */
enum fsm_state {
	FSM_NONE,      /* nothing known */
	FSM_SYN,       /* A's SYN */
	FSM_CROSSED,   /* SYNs of both (RFC 9293 3.5, simultaneous open) */
	FSM_CROSSED_A, /* ... and A's is acknowledged */
	FSM_CROSSED_B, /* ... and B's is acknowledged */
	FSM_ANSWERED,  /* B's SYN-ACK; A's own ACK is still to come */
	FSM_CLAIMED,   /* A behaves as if B had answered, which was not seen */
	FSM_OPEN,
	FSM_FIN_A, /* A's FIN, not acknowledged */
	FSM_FIN_B,
	FSM_HALF_A, /* A's FIN, acknowledged: half-closed */
	FSM_HALF_B,
	FSM_LAST_A, /* ... and then B's FIN, not acknowledged */
	FSM_LAST_B,
	FSM_BOTH,   /* FINs that crossed, none acknowledged */
	FSM_BOTH_A, /* ... and A's is acknowledged */
	FSM_BOTH_B,
	FSM_GAP_A, /* ... but octets of A's are missing: B cannot have A's FIN yet */
	FSM_GAP_B,
	FSM_GAP_AB, /* ... octets of both */
	FSM_WAIT_A, /* ... and A's is acknowledged, but A is not known to have B's */
	FSM_WAIT_B,
	FSM_DONE_A, /* both acknowledged, A closed first */
	FSM_DONE_B,
	FSM_DONE_X, /* both acknowledged, FINs had crossed */
	FSM_RESET,
	FSM_STATES,
	FSM_ILLEGAL = FSM_STATES, /* an edge that does not exist: count it and stay */
};

enum fsm_side { SIDE_A, SIDE_B, SIDES };

/* What a segment proves about its sender, in the order in which the proofs are applied. */
enum fsm_evidence {
	EV_SYN,	    /* it asks for a connection */
	EV_SYN_ACK, /* it answers, and acknowledges the peer's SYN */
	EV_ACK,	    /* it has the peer's SYN (an acceptable segment with an acceptable ACK) */
	EV_ACK_FIN, /* it has the peer's FIN too */
	EV_FILL,    /* both have said FIN, and now nothing of its own is missing before its FIN */
	EV_DATA,    /* it sends data in the window */
	EV_FIN,	    /* it closes, in the window */
	/* The same while octets are missing, before which no FIN can be received: its own, the
	 * peer's, or of both. */
	EV_FIN_GAP_OWN,
	EV_FIN_GAP_PEER,
	EV_FIN_GAP_BOTH,
	EV_RST, /* it aborts, with the number that the peer expects */
	EVIDENCES
};

static inline bool fsm_handshaking(enum fsm_state s)
{
	return s < FSM_OPEN;
}

/* Only SYNs and SYN-ACKs so far: what they offered is still of interest. */
static inline bool fsm_offering(enum fsm_state s)
{
	return s < FSM_CLAIMED;
}

/* What struct conn keeps in bits that mean something else in another phase. */
enum fsm_phase {
	PHASE_OFFER, /* fsm_offering() */
	PHASE_OPEN,  /* until both FINs were seen */
	PHASE_END    /* ... and afterwards, or reset */
};

static inline enum fsm_phase fsm_phase_of(enum fsm_state s)
{
	return (enum fsm_phase)((s >= FSM_CLAIMED) + (s >= FSM_LAST_A));
}

static inline bool fsm_over(enum fsm_state s)
{
	return s >= FSM_DONE_A;
}

/* The state that stands for all with the same pair of endpoint states: there are three in which the
 * SYNs crossed. */
static inline enum fsm_state fsm_pair(enum fsm_state s)
{
	return s == FSM_CROSSED_A || s == FSM_CROSSED_B ? FSM_CROSSED : s;
}

/* Follows one edge: the next state (the same one: nothing new), or FSM_ILLEGAL.  *ret_inferred is
 * set to true, and otherwise left alone, if the edge rests on segments that were not seen. */
enum fsm_state fsm_step(enum fsm_state from, enum fsm_side sender, enum fsm_evidence ev,
			bool *ret_inferred);

/* The state of one endpoint. */
enum tcp_state fsm_endpoint(enum fsm_state s, enum fsm_side side);

/* Who sent the first FIN: bits 1 << SIDE_A, 1 << SIDE_B; both if they crossed; 0 if none. */
unsigned fsm_first_closer(enum fsm_state s);

/* Has @side's FIN been seen in this state?  Not known once reset. */
bool fsm_fin_seen(enum fsm_state s, enum fsm_side side);

static inline bool fsm_both_fins(enum fsm_state s)
{
	return fsm_fin_seen(s, SIDE_A) && fsm_fin_seen(s, SIDE_B);
}

/* How long an entry is kept without a segment; parallel to the option names. */
enum fsm_timeout {
	FSM_T_SYN_SENT,
	FSM_T_SYN_RECEIVED,
	FSM_T_ESTABLISHED,
	FSM_T_HALF_CLOSED,
	FSM_T_CLOSING, /* a FIN waits for its acknowledgement */
	FSM_T_TIME_WAIT,
	FSM_T_RESET,
	FSM_TIMEOUTS
};

enum fsm_timeout fsm_timeout_of(enum fsm_state s);
