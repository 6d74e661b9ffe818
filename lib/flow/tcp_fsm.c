#include "flow/tcp_fsm.h"
#include <assert.h>
#include "base/cc.h"

/* Two letters for each state, so that the table fits the page.  Lower case: the edge rests on
 * segments that were not seen (INFERRED).  xx: there is no such edge. */
/* clang-format off */
enum {
	NO = FSM_NONE,      SY = FSM_SYN,       XS = FSM_CROSSED,   XA = FSM_CROSSED_A,
	XB = FSM_CROSSED_B, AN = FSM_ANSWERED,  CL = FSM_CLAIMED,   OP = FSM_OPEN,
	FA = FSM_FIN_A,     FB = FSM_FIN_B,     HA = FSM_HALF_A,    HB = FSM_HALF_B,
	LA = FSM_LAST_A,    LB = FSM_LAST_B,    BO = FSM_BOTH,      BA = FSM_BOTH_A,
	BB = FSM_BOTH_B,    GA = FSM_GAP_A,     GB = FSM_GAP_B,     GX = FSM_GAP_AB,
	WA = FSM_WAIT_A,    WB = FSM_WAIT_B,    DA = FSM_DONE_A,    DB = FSM_DONE_B,
	DX = FSM_DONE_X,    RS = FSM_RESET,     xx = FSM_ILLEGAL,
	INFERRED = 0x20,
	cl = CL | INFERRED, an = AN | INFERRED, op = OP | INFERRED,
	fa = FA | INFERRED, fb = FB | INFERRED,
};
static_assert((int)FSM_STATES < (int)INFERRED, "a state and the mark share an octet");

/* One reason per row.  A cell that repeats the name of its column stays. */
#define ROW(side, ev) [SIDE_##side][EV_##ev] =
#define FINS(side) [SIDE_##side][EV_FIN ... EV_FIN_GAP_BOTH] =
#define EITHER(ev) [SIDE_A ... SIDE_B][EV_##ev] =
static const uint8_t edge[SIDES][EVIDENCES][FSM_STATES] = {
/* at:           NO SY XS XA XB AN CL OP FA FB HA HB LA LB BO BA BB GA GB GX WA WB DA DB DX RS */
/* The client is whoever opened. */
ROW(A, SYN)     {SY,SY,xx,xx,xx,xx,xx,xx,xx,xx,xx,xx,xx,xx,xx,xx,xx,xx,xx,xx,xx,xx,xx,xx,xx,xx},
/* B's SYN without an ACK crosses A's (RFC 9293 3.5, figure 7). */
ROW(B, SYN)     {xx,XS,xx,xx,xx,xx,xx,xx,xx,xx,xx,xx,xx,xx,xx,xx,xx,xx,xx,xx,xx,xx,xx,xx,xx,xx},
/* A answers only a SYN that crossed.  After B's SYN-ACK it shows that the SYNs had crossed. */
ROW(A, SYN_ACK) {xx,xx,XB,OP,XB,XA,xx,xx,xx,xx,xx,xx,xx,xx,xx,xx,xx,xx,xx,xx,xx,xx,xx,xx,xx,xx},
/* From NO the capture began late or was reordered.  From CL A's ACK overtook it. */
ROW(B, SYN_ACK) {an,AN,XA,XA,OP,AN,OP,xx,xx,xx,xx,xx,xx,xx,xx,xx,xx,xx,xx,xx,xx,xx,xx,xx,xx,xx},
/* A's own ACK completes the handshake.  From SY it implies an answer that was not seen. */
ROW(A, ACK)     {op,cl,XB,OP,XB,OP,CL,OP,FA,FB,HA,HB,LA,LB,BO,BA,BB,GA,GB,GX,WA,WB,DA,DB,DX,RS},
/* B's bare ACK proves that B has A's SYN, not that A has B's: a challenge ACK looks the same. */
ROW(B, ACK)     {op,an,XA,XA,OP,AN,op,OP,FA,FB,HA,HB,LA,LB,BO,BA,BB,GA,GB,GX,WA,WB,DA,DB,DX,RS},
/* A has B's FIN. */
ROW(A, ACK_FIN) {xx,xx,xx,xx,xx,xx,xx,xx,xx,HB,xx,HB,DA,LB,BB,DX,BB,WB,BB,WB,DX,WB,DA,DB,DX,RS},
/* B has A's FIN. */
ROW(B, ACK_FIN) {xx,xx,xx,xx,xx,xx,xx,xx,HA,xx,HA,xx,LA,DB,BA,BA,DX,BA,WA,WA,WA,DX,DA,DB,DX,RS},
/* A filled its gap, so B now has A's FIN, which counts in sequence. */
ROW(A, FILL)    {xx,xx,xx,xx,xx,xx,xx,xx,xx,xx,xx,xx,LA,LB,BO,BA,BB,BO,GB,GB,WA,BB,DA,DB,DX,RS},
/* B filled its gap, so A now has B's FIN. */
ROW(B, FILL)    {xx,xx,xx,xx,xx,xx,xx,xx,xx,xx,xx,xx,LA,LB,BO,BA,BB,GA,BO,GA,BA,WB,DA,DB,DX,RS},
/* Only an established side sends data.  Its ACK was applied first: where that moved the state,
 * data adds nothing. */
ROW(A, DATA)    {xx,xx,xx,xx,op,xx,CL,OP,FA,FB,HA,HB,LA,LB,BO,BA,BB,GA,GB,GX,WA,WB,DA,DB,DX,RS},
/* A server sends no data before the handshake's ACK, except with Fast Open (segment_check). */
ROW(B, DATA)    {xx,xx,xx,op,xx,op,xx,OP,FA,FB,HA,HB,LA,LB,BO,BA,BB,GA,GB,GX,WA,WB,DA,DB,DX,RS},
/* A closes.  If B closed too and neither has the other's FIN, see crossed[]. */
FINS(A)         {xx,xx,fa,fa,fa,fa,fa,FA,FA,BO,HA,LB,LA,LB,BO,BA,BB,GA,GB,GX,WA,WB,DA,DB,DX,RS},
/* B closes, likewise. */
FINS(B)         {xx,xx,fb,fb,fb,fb,fb,FB,BO,FB,LA,HB,LA,LB,BO,BA,BB,GA,GB,GX,WA,WB,DA,DB,DX,RS},
/* Either aborts.  After both FINs that changes nothing that is reported (RFC 1337). */
EITHER(RST)     {xx,RS,RS,RS,RS,RS,RS,RS,RS,RS,RS,RS,RS,RS,RS,RS,RS,RS,RS,RS,RS,RS,DA,DB,DX,RS},
};
#undef ROW
#undef FINS
#undef EITHER

/* FINs that cross (RFC 9293 3.6): a FIN counts in sequence (3.10.7.4, eighth step), so the octets
 * that are missing decide who can have received the other's FIN.  By EV_FIN and EV_FIN_GAP_*. */
static const uint8_t crossed[SIDES][4] = {
	/* missing: none, the sender's own, its peer's, both */
	[SIDE_A] = {BO,GA,GB,GX},
	[SIDE_B] = {BO,GB,GA,GX},
};
/* clang-format on */

enum fsm_state fsm_step(enum fsm_state from, enum fsm_side sender, enum fsm_evidence ev,
			bool *ret_inferred)
{
	uint8_t to = edge[sender][ev][from];

	if (unlikely(ev > EV_FIN && ev <= EV_FIN_GAP_BOTH && to == FSM_BOTH && from != FSM_BOTH))
		to = crossed[sender][ev - EV_FIN];
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
/* clang-format off */
#define ENDS(a, b) { TCPS_##a, TCPS_##b }
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
	/* clang-format on */
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
