#include "flow/tcp_fsm.h"
#include <assert.h>

/* Short names, so that the table fits the page. */
enum {
	NONE = FSM_NONE,
	SYNS = FSM_SYN,
	XSYN = FSM_CROSSED,
	XACA = FSM_CROSSED_A,
	XACB = FSM_CROSSED_B,
	ANSW = FSM_ANSWERED,
	CLAI = FSM_CLAIMED,
	OPEN = FSM_OPEN,
	FINA = FSM_FIN_A,
	FINB = FSM_FIN_B,
	HLFA = FSM_HALF_A,
	HLFB = FSM_HALF_B,
	LSTA = FSM_LAST_A,
	LSTB = FSM_LAST_B,
	BOTH = FSM_BOTH,
	BTHA = FSM_BOTH_A,
	BTHB = FSM_BOTH_B,
	GAPA = FSM_GAP_A,
	GAPB = FSM_GAP_B,
	GAPX = FSM_GAP_AB,
	WATA = FSM_WAIT_A,
	WATB = FSM_WAIT_B,
	DONA = FSM_DONE_A,
	DONB = FSM_DONE_B,
	DONX = FSM_DONE_X,
	RSET = FSM_RESET,
	xxxx = FSM_ILLEGAL,
	INFERRED = 0x20,
	/* edges that rest on segments which were not seen */
	clai = CLAI | INFERRED,
	answ = ANSW | INFERRED,
	open = OPEN | INFERRED,
	fina = FINA | INFERRED,
	finb = FINB | INFERRED,
};
static_assert((int)FSM_STATES < (int)INFERRED, "a state and the mark share an octet");

/* One reason per row; "stay" cells repeat the column's own state. */
/* clang-format off */
static const uint8_t edge[SIDES][EVIDENCES][FSM_STATES] = {
/* at:                  NONE  SYNS  XSYN  XACA  XACB  ANSW  CLAI  OPEN  FINA  FINB  HLFA  HLFB  LSTA
 * LSTB  BOTH  BTHA  BTHB  GAPA  GAPB  GAPX  WATA  WATB  DONA  DONB  DONX  RSET */
/* A is by definition whoever opened */
[SIDE_A][EV_SYN]     = { SYNS, SYNS, xxxx, xxxx, xxxx, xxxx, xxxx, xxxx, xxxx, xxxx, xxxx, xxxx, xxxx, xxxx, xxxx, xxxx, xxxx, xxxx, xxxx, xxxx, xxxx, xxxx, xxxx, xxxx, xxxx, xxxx },
/* B's SYN without ACK crosses A's: RFC 9293 3.5, figure 7 */
[SIDE_B][EV_SYN]     = { xxxx, XSYN, xxxx, xxxx, xxxx, xxxx, xxxx, xxxx, xxxx, xxxx, xxxx, xxxx, xxxx, xxxx, xxxx, xxxx, xxxx, xxxx, xxxx, xxxx, xxxx, xxxx, xxxx, xxxx, xxxx, xxxx },
/* A answers only a SYN that crossed; one behind B's SYN-ACK shows that B's had, and was
 * overtaken */
[SIDE_A][EV_SYN_ACK] = { xxxx, xxxx, XACB, OPEN, XACB, XACA, xxxx, xxxx, xxxx, xxxx, xxxx, xxxx, xxxx, xxxx, xxxx, xxxx, xxxx, xxxx, xxxx, xxxx, xxxx, xxxx, xxxx, xxxx, xxxx, xxxx },
/* without A's SYN before it the capture began late or reordered; behind A's ACK likewise */
[SIDE_B][EV_SYN_ACK] = { answ, ANSW, XACA, XACA, OPEN, ANSW, OPEN, xxxx, xxxx, xxxx, xxxx, xxxx, xxxx, xxxx, xxxx, xxxx, xxxx, xxxx, xxxx, xxxx, xxxx, xxxx, xxxx, xxxx, xxxx, xxxx },
/* A's own ACK completes the handshake; from SYNS it claims an answer that was not seen */
[SIDE_A][EV_ACK]     = { open, clai, XACB, OPEN, XACB, OPEN, CLAI, OPEN, FINA, FINB, HLFA, HLFB, LSTA, LSTB, BOTH, BTHA, BTHB, GAPA, GAPB, GAPX, WATA, WATB, DONA, DONB, DONX, RSET },
/* B's bare ACK proves that it has A's SYN, not that A has B's (challenge ACKs look like it) */
[SIDE_B][EV_ACK]     = { open, answ, XACA, XACA, OPEN, ANSW, open, OPEN, FINA, FINB, HLFA, HLFB, LSTA, LSTB, BOTH, BTHA, BTHB, GAPA, GAPB, GAPX, WATA, WATB, DONA, DONB, DONX, RSET },
[SIDE_A][EV_ACK_FIN] = { xxxx, xxxx, xxxx, xxxx, xxxx, xxxx, xxxx, xxxx, xxxx, HLFB, xxxx, HLFB, DONA, LSTB, BTHB, DONX, BTHB, WATB, BTHB, WATB, DONX, WATB, DONA, DONB, DONX, RSET },
[SIDE_B][EV_ACK_FIN] = { xxxx, xxxx, xxxx, xxxx, xxxx, xxxx, xxxx, xxxx, HLFA, xxxx, HLFA, xxxx, LSTA, DONB, BTHA, BTHA, DONX, BTHA, WATA, WATA, WATA, DONX, DONA, DONB, DONX, RSET },
/* now the peer has its FIN, which counts in sequence */
[SIDE_A][EV_FILL]    = { xxxx, xxxx, xxxx, xxxx, xxxx, xxxx, xxxx, xxxx, xxxx, xxxx, xxxx, xxxx, LSTA, LSTB, BOTH, BTHA, BTHB, BOTH, GAPB, GAPB, WATA, BTHB, DONA, DONB, DONX, RSET },
[SIDE_B][EV_FILL]    = { xxxx, xxxx, xxxx, xxxx, xxxx, xxxx, xxxx, xxxx, xxxx, xxxx, xxxx, xxxx, LSTA, LSTB, BOTH, BTHA, BTHB, GAPA, BOTH, GAPA, BTHA, WATB, DONA, DONB, DONX, RSET },
/* only who is established sends data: the ACK of its SYN was there, if not seen.  Data carries an
 * ACK too, and the proof of that comes first: where it moves the state nothing is left for data */
[SIDE_A][EV_DATA]    = { xxxx, xxxx, xxxx, xxxx, open, xxxx, CLAI, OPEN, FINA, FINB, HLFA, HLFB, LSTA, LSTB, BOTH, BTHA, BTHB, GAPA, GAPB, GAPX, WATA, WATB, DONA, DONB, DONX, RSET },
/* a server sends no data before the handshake's ACK (but with Fast Open: the segment check
 * knows) */
[SIDE_B][EV_DATA]    = { xxxx, xxxx, xxxx, open, xxxx, open, xxxx, OPEN, FINA, FINB, HLFA, HLFB, LSTA, LSTB, BOTH, BTHA, BTHB, GAPA, GAPB, GAPX, WATA, WATB, DONA, DONB, DONX, RSET },
[SIDE_A][EV_FIN]     = { xxxx, xxxx, fina, fina, fina, fina, fina, FINA, FINA, BOTH, HLFA, LSTB, LSTA, LSTB, BOTH, BTHA, BTHB, GAPA, GAPB, GAPX, WATA, WATB, DONA, DONB, DONX, RSET },
[SIDE_B][EV_FIN]     = { xxxx, xxxx, finb, finb, finb, finb, finb, FINB, BOTH, FINB, LSTA, HLFB, LSTA, LSTB, BOTH, BTHA, BTHB, GAPA, GAPB, GAPX, WATA, WATB, DONA, DONB, DONX, RSET },
/* crossed FINs, but octets are missing: no end is known to have the other's FIN (RFC 9293 3.10.7.4,
 * eighth step: a FIN counts in sequence) */
[SIDE_A][EV_FIN_GAP_OWN] =
		        { xxxx, xxxx, fina, fina, fina, fina, fina, FINA, FINA, GAPA, HLFA, LSTB, LSTA, LSTB, BOTH, BTHA, BTHB, GAPA, GAPB, GAPX, WATA, WATB, DONA, DONB, DONX, RSET },
[SIDE_A][EV_FIN_GAP_PEER] =
		        { xxxx, xxxx, fina, fina, fina, fina, fina, FINA, FINA, GAPB, HLFA, LSTB, LSTA, LSTB, BOTH, BTHA, BTHB, GAPA, GAPB, GAPX, WATA, WATB, DONA, DONB, DONX, RSET },
[SIDE_A][EV_FIN_GAP_BOTH] =
		        { xxxx, xxxx, fina, fina, fina, fina, fina, FINA, FINA, GAPX, HLFA, LSTB, LSTA, LSTB, BOTH, BTHA, BTHB, GAPA, GAPB, GAPX, WATA, WATB, DONA, DONB, DONX, RSET },
[SIDE_B][EV_FIN_GAP_OWN] =
		        { xxxx, xxxx, finb, finb, finb, finb, finb, FINB, GAPB, FINB, LSTA, HLFB, LSTA, LSTB, BOTH, BTHA, BTHB, GAPA, GAPB, GAPX, WATA, WATB, DONA, DONB, DONX, RSET },
[SIDE_B][EV_FIN_GAP_PEER] =
		        { xxxx, xxxx, finb, finb, finb, finb, finb, FINB, GAPA, FINB, LSTA, HLFB, LSTA, LSTB, BOTH, BTHA, BTHB, GAPA, GAPB, GAPX, WATA, WATB, DONA, DONB, DONX, RSET },
[SIDE_B][EV_FIN_GAP_BOTH] =
		        { xxxx, xxxx, finb, finb, finb, finb, finb, FINB, GAPX, FINB, LSTA, HLFB, LSTA, LSTB, BOTH, BTHA, BTHB, GAPA, GAPB, GAPX, WATA, WATB, DONA, DONB, DONX, RSET },
/* after both FINs an RST changes nothing that is told, but nobody is left: RFC 1337 */
[SIDE_A][EV_RST]     = { xxxx, RSET, RSET, RSET, RSET, RSET, RSET, RSET, RSET, RSET, RSET, RSET, RSET, RSET, RSET, RSET, RSET, RSET, RSET, RSET, RSET, RSET, DONA, DONB, DONX, RSET },
[SIDE_B][EV_RST]     = { xxxx, RSET, RSET, RSET, RSET, RSET, RSET, RSET, RSET, RSET, RSET, RSET, RSET, RSET, RSET, RSET, RSET, RSET, RSET, RSET, RSET, RSET, DONA, DONB, DONX, RSET },
};
/* clang-format on */

enum fsm_state fsm_step(enum fsm_state from, enum fsm_side sender, enum fsm_evidence ev,
			bool *ret_inferred)
{
	uint8_t to = edge[sender][ev][from];

	if (to & INFERRED)
		*ret_inferred = true;
	return to & (INFERRED - 1);
}

/* Everything else that depends on the state, one row each. */
static const struct {
	uint8_t end[SIDES];
	uint8_t closer; /* bits of enum fsm_side */
	uint8_t fins;
	uint8_t timeout;
} about[FSM_STATES] = {
#define ENDS(a, b)                                                                                 \
	{                                                                                          \
		TCPS_##a, TCPS_##b                                                                 \
	}
	[FSM_NONE] = { ENDS(CLOSED, CLOSED), 0, 0, FSM_T_SYN_SENT },
	[FSM_SYN] = { ENDS(SYN_SENT, LISTEN), 0, 0, FSM_T_SYN_SENT },
	[FSM_CROSSED] = { ENDS(SYN_RECEIVED, SYN_RECEIVED), 0, 0, FSM_T_SYN_RECEIVED },
	[FSM_CROSSED_A] = { ENDS(SYN_RECEIVED, SYN_RECEIVED), 0, 0, FSM_T_SYN_RECEIVED },
	[FSM_CROSSED_B] = { ENDS(SYN_RECEIVED, SYN_RECEIVED), 0, 0, FSM_T_SYN_RECEIVED },
	[FSM_ANSWERED] = { ENDS(SYN_SENT, SYN_RECEIVED), 0, 0, FSM_T_SYN_RECEIVED },
	[FSM_CLAIMED] = { ENDS(ESTABLISHED, SYN_RECEIVED), 0, 0, FSM_T_ESTABLISHED },
	[FSM_OPEN] = { ENDS(ESTABLISHED, ESTABLISHED), 0, 0, FSM_T_ESTABLISHED },
	[FSM_FIN_A] = { ENDS(FIN_WAIT_1, ESTABLISHED), 1, 1, FSM_T_CLOSING },
	[FSM_FIN_B] = { ENDS(ESTABLISHED, FIN_WAIT_1), 2, 2, FSM_T_CLOSING },
	[FSM_HALF_A] = { ENDS(FIN_WAIT_2, CLOSE_WAIT), 1, 1, FSM_T_HALF_CLOSED },
	[FSM_HALF_B] = { ENDS(CLOSE_WAIT, FIN_WAIT_2), 2, 2, FSM_T_HALF_CLOSED },
	[FSM_LAST_A] = { ENDS(FIN_WAIT_2, LAST_ACK), 1, 3, FSM_T_CLOSING },
	[FSM_LAST_B] = { ENDS(LAST_ACK, FIN_WAIT_2), 2, 3, FSM_T_CLOSING },
	[FSM_BOTH] = { ENDS(CLOSING, CLOSING), 3, 3, FSM_T_CLOSING },
	[FSM_BOTH_A] = { ENDS(TIME_WAIT, CLOSING), 3, 3, FSM_T_CLOSING },
	[FSM_BOTH_B] = { ENDS(CLOSING, TIME_WAIT), 3, 3, FSM_T_CLOSING },
	[FSM_GAP_A] = { ENDS(CLOSING, FIN_WAIT_1), 3, 3, FSM_T_CLOSING },
	[FSM_GAP_B] = { ENDS(FIN_WAIT_1, CLOSING), 3, 3, FSM_T_CLOSING },
	[FSM_GAP_AB] = { ENDS(FIN_WAIT_1, FIN_WAIT_1), 3, 3, FSM_T_CLOSING },
	[FSM_WAIT_A] = { ENDS(FIN_WAIT_2, CLOSING), 3, 3, FSM_T_CLOSING },
	[FSM_WAIT_B] = { ENDS(CLOSING, FIN_WAIT_2), 3, 3, FSM_T_CLOSING },
	[FSM_DONE_A] = { ENDS(TIME_WAIT, CLOSED), 1, 3, FSM_T_TIME_WAIT },
	[FSM_DONE_B] = { ENDS(CLOSED, TIME_WAIT), 2, 3, FSM_T_TIME_WAIT },
	[FSM_DONE_X] = { ENDS(TIME_WAIT, TIME_WAIT), 3, 3, FSM_T_TIME_WAIT },
	[FSM_RESET] = { ENDS(CLOSED, CLOSED), 0, 0, FSM_T_RESET },
#undef ENDS
};

enum tcp_state fsm_endpoint(enum fsm_state s, enum fsm_side side)
{
	return about[s].end[side];
}

unsigned fsm_first_closer(enum fsm_state s)
{
	return about[s].closer;
}

bool fsm_fin_seen(enum fsm_state s, enum fsm_side side)
{
	return about[s].fins >> side & 1;
}

enum fsm_timeout fsm_timeout_of(enum fsm_state s)
{
	return about[s].timeout;
}

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

const char *tcp_state_name(enum tcp_state s)
{
	return tcp_state_str[s].s;
}
