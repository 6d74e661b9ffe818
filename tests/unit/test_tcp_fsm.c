#include <string.h>
#include "base/cc.h"
#include "flow/event_names.h"
#include "flow/tcp_fsm.h"
#include "tests/support/tap.h"

static const char *const state_name[FSM_STATES] = {
	[FSM_NONE] = "none",	       [FSM_SYN] = "syn",
	[FSM_CROSSED] = "crossed",     [FSM_CROSSED_A] = "crossed_a",
	[FSM_CROSSED_B] = "crossed_b", [FSM_ANSWERED] = "answered",
	[FSM_CLAIMED] = "claimed",     [FSM_OPEN] = "open",
	[FSM_FIN_A] = "fin_a",	       [FSM_FIN_B] = "fin_b",
	[FSM_HALF_A] = "half_a",       [FSM_HALF_B] = "half_b",
	[FSM_LAST_A] = "last_a",       [FSM_LAST_B] = "last_b",
	[FSM_BOTH] = "both",	       [FSM_BOTH_A] = "both_a",
	[FSM_BOTH_B] = "both_b",       [FSM_GAP_A] = "hole_a",
	[FSM_GAP_B] = "hole_b",	       [FSM_GAP_AB] = "hole_ab",
	[FSM_WAIT_A] = "wait_a",       [FSM_WAIT_B] = "wait_b",
	[FSM_DONE_A] = "done_a",       [FSM_DONE_B] = "done_b",
	[FSM_DONE_X] = "done_x",       [FSM_RESET] = "reset",
};
static const char *const evidence_name[EVIDENCES] = {
	[EV_SYN] = "syn",
	[EV_SYN_ACK] = "syn_ack",
	[EV_ACK] = "ack",
	[EV_ACK_FIN] = "ack_fin",
	[EV_FILL] = "fill",
	[EV_DATA] = "data",
	[EV_FIN] = "fin",
	[EV_RST] = "rst",
	[EV_FIN_GAP_OWN] = "fin_hole_own",
	[EV_FIN_GAP_PEER] = "fin_hole_peer",
	[EV_FIN_GAP_BOTH] = "fin_hole_both",
};

/* ---- the table said another way: by what each end has, instead of by joint states
 * ------------- */

/* What is known of one end (RFC 9293 3.3.2, 3.5, 3.6). */
struct end {
	bool syn;	/* its SYN, or SYN-ACK, was seen or must have been */
	bool syn_acked; /* and the peer has acknowledged it */
	bool fin, fin_acked;
};

struct facts {
	struct end end[SIDES];
	bool none;	  /* nothing is known */
	bool crossed_syn; /* B sent a SYN of its own */
	bool crossed_fin; /* the second FIN did not acknowledge the first */
	bool has_not
		[SIDES]; /* ... and this end cannot have the peer's FIN yet, for all one knows */
	int first;	 /* who closed first, when they did not cross */
	bool reset;
};

static struct facts facts_of(enum fsm_state s)
{
	struct facts f = { .first = -1 };
	struct end *a = &f.end[SIDE_A], *b = &f.end[SIDE_B];

	f.none = s == FSM_NONE;
	f.reset = s == FSM_RESET;
	if (s == FSM_NONE || s == FSM_RESET)
		return f;
	a->syn = true;
	b->syn = s != FSM_SYN && s != FSM_CLAIMED;
	f.crossed_syn = s == FSM_CROSSED || s == FSM_CROSSED_A || s == FSM_CROSSED_B;
	a->syn_acked = s >= FSM_OPEN || s == FSM_ANSWERED || s == FSM_CROSSED_A;
	b->syn_acked = s >= FSM_OPEN || s == FSM_CLAIMED || s == FSM_CROSSED_B;
	a->fin = s >= FSM_OPEN && s != FSM_OPEN && s != FSM_FIN_B && s != FSM_HALF_B;
	b->fin = s >= FSM_OPEN && s != FSM_OPEN && s != FSM_FIN_A && s != FSM_HALF_A;
	f.has_not[SIDE_A] = s == FSM_GAP_B || s == FSM_GAP_AB || s == FSM_WAIT_A;
	f.has_not[SIDE_B] = s == FSM_GAP_A || s == FSM_GAP_AB || s == FSM_WAIT_B;
	f.crossed_fin = f.has_not[SIDE_A] || f.has_not[SIDE_B] || s == FSM_BOTH ||
			s == FSM_BOTH_A || s == FSM_BOTH_B || s == FSM_DONE_X;
	if (s == FSM_FIN_A || s == FSM_HALF_A || s == FSM_LAST_A || s == FSM_DONE_A)
		f.first = SIDE_A;
	if (s == FSM_FIN_B || s == FSM_HALF_B || s == FSM_LAST_B || s == FSM_DONE_B)
		f.first = SIDE_B;
	a->fin_acked = s == FSM_HALF_A || s == FSM_LAST_A || s == FSM_BOTH_A || s == FSM_WAIT_A ||
		       fsm_over(s);
	b->fin_acked = s == FSM_HALF_B || s == FSM_LAST_B || s == FSM_BOTH_B || s == FSM_WAIT_B ||
		       fsm_over(s);
	return f;
}

static bool same(const struct facts *f, const struct facts *g)
{
	for (unsigned i = 0; i < SIDES; i++) {
		const struct end *a = &f->end[i], *b = &g->end[i];

		if (a->syn != b->syn || a->syn_acked != b->syn_acked || a->fin != b->fin ||
		    a->fin_acked != b->fin_acked)
			return false;
	}
	return f->none == g->none && f->crossed_syn == g->crossed_syn &&
	       f->crossed_fin == g->crossed_fin && f->has_not[0] == g->has_not[0] &&
	       f->has_not[1] == g->has_not[1] && f->first == g->first && f->reset == g->reset;
}

static enum fsm_state state_of(const struct facts *f)
{
	for (unsigned s = 0; s < FSM_STATES; s++) {
		struct facts g = facts_of(s);

		if (same(f, &g))
			return s;
	}
	return FSM_ILLEGAL;
}

static bool handshake_done(const struct facts *f)
{
	return f->end[SIDE_A].syn_acked && f->end[SIDE_B].syn_acked;
}

/* Both have it all, seen or not; how the SYNs went does not matter any more. */
static void open_up(struct facts *f, bool *inferred)
{
	*inferred |= !handshake_done(f);
	f->none = f->crossed_syn = false;
	for (unsigned i = 0; i < SIDES; i++)
		f->end[i].syn = f->end[i].syn_acked = true;
}

/* An end's data comes with its ACK, which is applied first and changes these states. */
static bool moved_by_ack(enum fsm_state from, enum fsm_side me)
{
	struct facts f = facts_of(from);

	return !f.none && !fsm_over(from) && !f.end[!me].syn_acked;
}

/* The rules, from RFC 9293 3.5 (opening), 3.6 (closing), 3.10.7 (what arrives). */
static enum fsm_state expected(enum fsm_state from, enum fsm_side me, enum fsm_evidence ev,
			       bool *ret_inferred)
{
	struct facts f = facts_of(from);
	enum fsm_side peer = !me;
	bool over = fsm_over(from), inferred = false;

	switch (ev) {
	case EV_SYN: /* opens, is repeated, or crosses A's; a B is never the first */
		if (me == SIDE_A && (f.none || from == FSM_SYN))
			return FSM_SYN;
		return me == SIDE_B && from == FSM_SYN ? FSM_CROSSED : FSM_ILLEGAL;
	/* only in a handshake; A sends one only for B's SYN that crossed its own */
	case EV_SYN_ACK:
		if (me == SIDE_A && from == FSM_ANSWERED) /* it did, unseen: A is in SYN-RECEIVED */
			return FSM_CROSSED_A;
		if (handshake_done(&f) || over || (me == SIDE_A && !f.crossed_syn))
			return FSM_ILLEGAL;
		if (f.none) { /* A's SYN was not seen, but must have been there */
			f.none = false;
			f.end[SIDE_A].syn = inferred = true;
		}
		f.end[me].syn = f.end[peer].syn_acked = true;
		f.crossed_syn &= !handshake_done(&f);
		break;
	case EV_ACK: /* of the peer's SYN */
		if (over || handshake_done(&f))
			return from;
		if (f.none) {
			open_up(&f, &inferred);
			break;
		}
		inferred = !f.end[SIDE_B].syn;
		if (me == SIDE_B)
			f.end[SIDE_B].syn = true;
		else if (!f.end[SIDE_B].syn && f.end[SIDE_B].syn_acked)
			inferred = false; /* A's claim, repeated */
		f.end[peer].syn_acked = true;
		f.crossed_syn &= !handshake_done(&f);
		break;
	case EV_ACK_FIN: /* there has to be a FIN */
		if (over)
			return from;
		if (!f.end[peer].fin)
			return FSM_ILLEGAL;
		f.end[peer].fin_acked = true;
		f.has_not[me] = false;
		break;
	case EV_FILL: /* of what was missing before its FIN */
		if (over)
			return from;
		if (!f.end[me].fin || !f.end[peer].fin)
			return FSM_ILLEGAL;
		f.has_not[peer] = false;
		break;
	/* only an end that is established sends any; the ACK beside it is applied before */
	case EV_DATA:
		if (f.none || from == FSM_SYN || moved_by_ack(from, me))
			return FSM_ILLEGAL;
		if (over || handshake_done(&f))
			return from;
		if (!f.end[me].syn_acked && !(me == SIDE_A && from == FSM_CLAIMED))
			open_up(&f, &inferred); /* it has the ACK that was not seen here */
		break;
	case EV_FIN_GAP_OWN:
	case EV_FIN_GAP_PEER:
	case EV_FIN_GAP_BOTH:
	case EV_FIN: /* the same, and RFC 9293 3.6 lets SYN-RECEIVED send one as well */
		if (f.none || from == FSM_SYN)
			return FSM_ILLEGAL;
		if (over || f.end[me].fin)
			return from;
		open_up(&f, &inferred);
		f.end[me].fin = true;
		if (!f.end[peer].fin)
			f.first = me;
		else if (!f.end[peer].fin_acked) {
			f.crossed_fin = true;
			f.has_not[peer] = ev == EV_FIN_GAP_OWN || ev == EV_FIN_GAP_BOTH;
			f.has_not[me] = ev == EV_FIN_GAP_PEER || ev == EV_FIN_GAP_BOTH;
			f.first = -1;
		}
		break;
	case EV_RST:
		return f.none ? FSM_ILLEGAL : over ? from : FSM_RESET;
	case EVIDENCES:
		break;
	}
	*ret_inferred = inferred;
	return state_of(&f);
}

static void test_cells(void)
{
	unsigned cells = 0;

	for (unsigned s = 0; s < FSM_STATES; s++) {
		struct facts f = facts_of(s);

		if (state_of(&f) != s)
			ok(false, "the facts of %s are its own", state_name[s]);
	}
	for (unsigned side = 0; side < SIDES; side++) {
		for (unsigned ev = 0; ev < EVIDENCES; ev++) {
			unsigned wrong = 0;

			for (unsigned s = 0; s < FSM_STATES; s++, cells++) {
				bool want_inf = false, inf = false;
				enum fsm_state want = expected(s, side, ev, &want_inf);
				enum fsm_state to = fsm_step(s, side, ev, &inf);

				if (to == want && inf == want_inf)
					continue;
				wrong++;
				printf("# at %s: %s%s, want %s%s\n", state_name[s],
				       to == FSM_ILLEGAL ? "illegal" : state_name[to],
				       inf ? " (inferred)" : "",
				       want == FSM_ILLEGAL ? "illegal" : state_name[want],
				       want_inf ? " (inferred)" : "");
			}
			ok(!wrong, "%c's %s moves every state as the RFC's rules do", "AB"[side],
			   evidence_name[ev]);
		}
	}
	ok(cells == SIDES * EVIDENCES * FSM_STATES, "these were all %u cells", cells);
}

/* ---- what segment_check can ask -------------------------------------------------------------- */

/* Each segment proves a set of these, applied in order; never DATA or FIN without an ACK before. */
static const unsigned segments[] = {
	1 << EV_SYN,
	1 << EV_SYN_ACK,
	1 << EV_ACK,
	1 << EV_ACK | 1 << EV_DATA,
	1 << EV_ACK | 1 << EV_FIN,
	1 << EV_ACK | 1 << EV_DATA | 1 << EV_FIN,
	1 << EV_ACK | 1 << EV_ACK_FIN,
	1 << EV_ACK | 1 << EV_ACK_FIN | 1 << EV_DATA,
	1 << EV_ACK | 1 << EV_ACK_FIN | 1 << EV_FIN,
	1 << EV_ACK | 1 << EV_ACK_FIN | 1 << EV_DATA | 1 << EV_FIN,
	1 << EV_ACK | 1 << EV_FIN_GAP_OWN,
	1 << EV_ACK | 1 << EV_DATA | 1 << EV_FIN_GAP_PEER,
	1 << EV_ACK | 1 << EV_FIN_GAP_BOTH,
	1 << EV_ACK | 1 << EV_ACK_FIN | 1 << EV_FIN_GAP_OWN,
	1 << EV_ACK | 1 << EV_FILL | 1 << EV_DATA,
	1 << EV_ACK | 1 << EV_ACK_FIN | 1 << EV_FILL | 1 << EV_DATA,
	1 << EV_RST,
};

/* RFC 9293 figure 5, and the RST of 3.10.7 that closes from anywhere. */
static const struct {
	enum tcp_state from, to;
} figure5[] = {
	{ TCPS_CLOSED, TCPS_LISTEN },
	{ TCPS_CLOSED, TCPS_SYN_SENT },
	{ TCPS_LISTEN, TCPS_SYN_SENT },
	{ TCPS_LISTEN, TCPS_SYN_RECEIVED },
	{ TCPS_SYN_SENT, TCPS_SYN_RECEIVED },
	{ TCPS_SYN_SENT, TCPS_ESTABLISHED },
	{ TCPS_SYN_RECEIVED, TCPS_ESTABLISHED },
	{ TCPS_SYN_RECEIVED, TCPS_FIN_WAIT_1 },
	{ TCPS_ESTABLISHED, TCPS_FIN_WAIT_1 },
	{ TCPS_ESTABLISHED, TCPS_CLOSE_WAIT },
	{ TCPS_FIN_WAIT_1, TCPS_FIN_WAIT_2 },
	{ TCPS_FIN_WAIT_1, TCPS_CLOSING },
	{ TCPS_FIN_WAIT_2, TCPS_TIME_WAIT },
	{ TCPS_CLOSE_WAIT, TCPS_LAST_ACK },
	{ TCPS_CLOSING, TCPS_TIME_WAIT },
	{ TCPS_LAST_ACK, TCPS_CLOSED },
};

/* Least number of the figure's edges from one to the other; 99: there is no way. */
static unsigned distance(enum tcp_state from, enum tcp_state to)
{
	unsigned d[TCPS_STATES];

	for (unsigned i = 0; i < TCPS_STATES; i++)
		d[i] = i == from ? 0 : 99;
	for (unsigned round = 0; round < TCPS_STATES; round++)
		for (unsigned e = 0; e < ARRAY_SIZE(figure5); e++)
			if (d[figure5[e].from] + 1 < d[figure5[e].to])
				d[figure5[e].to] = d[figure5[e].from] + 1;
	return d[to];
}

/* A bystander sees one segment where an end made two moves, but only in these cases. */
static bool two_moves(enum tcp_state from, enum tcp_state to)
{
	return (from == TCPS_SYN_SENT && to == TCPS_FIN_WAIT_1) || /* ACK and FIN: by ESTABLISHED */
	       (from == TCPS_LISTEN &&
		to == TCPS_SYN_RECEIVED) || /* its SYN crossed: by SYN-SENT */
	       (from == TCPS_ESTABLISHED &&
		to == TCPS_CLOSING) || /* its FIN crossed: by FIN-WAIT-1 */
	       (from == TCPS_ESTABLISHED && to == TCPS_LAST_ACK) || /* ACK and FIN: by CLOSE-WAIT */
	       (from == TCPS_FIN_WAIT_1 && to == TCPS_TIME_WAIT);   /* ACK and FIN meet its FIN */
}

/* Follows the proofs of one segment; FSM_ILLEGAL if any is. */
static enum fsm_state follow(enum fsm_state s, enum fsm_side side, unsigned proofs, bool *inferred)
{
	for (unsigned ev = 0; ev < EVIDENCES && s != FSM_ILLEGAL; ev++)
		if (proofs >> ev & 1)
			s = fsm_step(s, side, ev, inferred);
	return s;
}

static void test_reachable(void)
{
	bool seen[FSM_STATES] = { [FSM_NONE] = true }, strict[FSM_STATES] = { [FSM_NONE] = true };
	bool again = true;

	while (again) {
		again = false;
		for (unsigned s = 0; s < FSM_STATES; s++) {
			for (unsigned i = 0; i < SIDES * ARRAY_SIZE(segments); i++) {
				bool inferred = false;
				unsigned to = follow(s, i & 1, segments[i / 2], &inferred);

				if (to == FSM_ILLEGAL)
					continue;
				again |= (seen[s] && !seen[to]) ||
					 (strict[s] && !inferred && !strict[to]);
				seen[to] |= seen[s];
				strict[to] |= strict[s] && !inferred;
			}
		}
	}
	for (unsigned s = 0; s < FSM_STATES; s++)
		ok(seen[s] && (strict[s] || s == FSM_CLAIMED), "%s can be reached%s", state_name[s],
		   s == FSM_CLAIMED ? ", with something unseen" : " with nothing unseen");
}

static void test_figure5(void)
{
	unsigned wrong = 0, backward = 0, moves = 0;

	for (unsigned s = FSM_SYN; s < FSM_STATES; s++) {
		for (unsigned i = 0; i < SIDES * ARRAY_SIZE(segments); i++) {
			bool inferred = false;
			unsigned to = follow(s, i & 1, segments[i / 2], &inferred);

			if (to == FSM_ILLEGAL || to == s)
				continue;
			for (unsigned side = 0; side < SIDES; side++) {
				enum tcp_state a = fsm_endpoint(s, side),
					       b = fsm_endpoint(to, side);
				unsigned d = distance(a, b);
				bool fine = a == b || to == FSM_RESET || d == 1 ||
					    (d == 2 && two_moves(a, b)) || (inferred && d < 99);

				moves += a != b;
				backward += d == 99 && to != FSM_RESET;
				wrong += !fine;
				if (!fine)
					printf("# %s to %s: %c goes from %s to %s\n", state_name[s],
					       state_name[to], "AB"[side], tcp_state_str[a].s,
					       tcp_state_str[b].s);
			}
		}
	}
	ok(!wrong && moves > 100,
	   "with nothing unseen, ends move along the edges of RFC 9293 figure 5");
	ok(!backward, "no end ever moves against them, whatever was unseen");
}

static void test_over(void)
{
	unsigned wrong = 0;

	for (unsigned s = FSM_DONE_A; s < FSM_STATES; s++) {
		for (unsigned i = 0; i < SIDES * ARRAY_SIZE(segments); i++) {
			bool inferred = false;
			unsigned to = follow(s, i & 1, segments[i / 2], &inferred);

			wrong += to != s && to != FSM_ILLEGAL;
		}
	}
	ok(!wrong, "nothing that comes after the end moves anything");
	for (unsigned s = 0; s < FSM_STATES; s++) {
		bool untouched = true;

		for (unsigned i = 0; i < SIDES * EVIDENCES; i++) {
			bool first = false, second = true;

			fsm_step(s, i & 1, i / 2, &first);
			fsm_step(s, i & 1, i / 2, &second);
			untouched &= second;
		}
		wrong += !untouched;
	}
	ok(!wrong, "no step takes back that something was inferred");
}

/* ---- what is read off a state ---------------------------------------------------------------- */

static void test_endpoints(void)
{
	static const struct {
		enum fsm_state s;
		enum tcp_state a, b;
		unsigned closer;
		enum fsm_timeout timeout;
	} want[] = {
		{ FSM_NONE, TCPS_CLOSED, TCPS_CLOSED, 0, FSM_T_SYN_SENT },
		{ FSM_SYN, TCPS_SYN_SENT, TCPS_LISTEN, 0, FSM_T_SYN_SENT },
		{ FSM_CROSSED, TCPS_SYN_RECEIVED, TCPS_SYN_RECEIVED, 0, FSM_T_SYN_RECEIVED },
		{ FSM_CROSSED_A, TCPS_SYN_RECEIVED, TCPS_SYN_RECEIVED, 0, FSM_T_SYN_RECEIVED },
		{ FSM_CROSSED_B, TCPS_SYN_RECEIVED, TCPS_SYN_RECEIVED, 0, FSM_T_SYN_RECEIVED },
		{ FSM_ANSWERED, TCPS_SYN_SENT, TCPS_SYN_RECEIVED, 0, FSM_T_SYN_RECEIVED },
		{ FSM_CLAIMED, TCPS_ESTABLISHED, TCPS_SYN_RECEIVED, 0, FSM_T_ESTABLISHED },
		{ FSM_OPEN, TCPS_ESTABLISHED, TCPS_ESTABLISHED, 0, FSM_T_ESTABLISHED },
		{ FSM_FIN_A, TCPS_FIN_WAIT_1, TCPS_ESTABLISHED, 1, FSM_T_CLOSING },
		{ FSM_FIN_B, TCPS_ESTABLISHED, TCPS_FIN_WAIT_1, 2, FSM_T_CLOSING },
		{ FSM_HALF_A, TCPS_FIN_WAIT_2, TCPS_CLOSE_WAIT, 1, FSM_T_HALF_CLOSED },
		{ FSM_HALF_B, TCPS_CLOSE_WAIT, TCPS_FIN_WAIT_2, 2, FSM_T_HALF_CLOSED },
		{ FSM_LAST_A, TCPS_FIN_WAIT_2, TCPS_LAST_ACK, 1, FSM_T_CLOSING },
		{ FSM_LAST_B, TCPS_LAST_ACK, TCPS_FIN_WAIT_2, 2, FSM_T_CLOSING },
		{ FSM_BOTH, TCPS_CLOSING, TCPS_CLOSING, 3, FSM_T_CLOSING },
		{ FSM_BOTH_A, TCPS_TIME_WAIT, TCPS_CLOSING, 3, FSM_T_CLOSING },
		{ FSM_BOTH_B, TCPS_CLOSING, TCPS_TIME_WAIT, 3, FSM_T_CLOSING },
		{ FSM_GAP_A, TCPS_CLOSING, TCPS_FIN_WAIT_1, 3, FSM_T_CLOSING },
		{ FSM_GAP_B, TCPS_FIN_WAIT_1, TCPS_CLOSING, 3, FSM_T_CLOSING },
		{ FSM_GAP_AB, TCPS_FIN_WAIT_1, TCPS_FIN_WAIT_1, 3, FSM_T_CLOSING },
		{ FSM_WAIT_A, TCPS_FIN_WAIT_2, TCPS_CLOSING, 3, FSM_T_CLOSING },
		{ FSM_WAIT_B, TCPS_CLOSING, TCPS_FIN_WAIT_2, 3, FSM_T_CLOSING },
		{ FSM_DONE_A, TCPS_TIME_WAIT, TCPS_CLOSED, 1, FSM_T_TIME_WAIT },
		{ FSM_DONE_B, TCPS_CLOSED, TCPS_TIME_WAIT, 2, FSM_T_TIME_WAIT },
		{ FSM_DONE_X, TCPS_TIME_WAIT, TCPS_TIME_WAIT, 3, FSM_T_TIME_WAIT },
		{ FSM_RESET, TCPS_CLOSED, TCPS_CLOSED, 0, FSM_T_RESET },
	};

	for (unsigned i = 0; i < ARRAY_SIZE(want); i++) {
		enum fsm_state s = want[i].s;
		struct facts f = facts_of(s);

		ok(fsm_endpoint(s, SIDE_A) == want[i].a && fsm_endpoint(s, SIDE_B) == want[i].b &&
			   fsm_first_closer(s) == want[i].closer &&
			   fsm_timeout_of(s) == want[i].timeout &&
			   fsm_fin_seen(s, SIDE_A) == f.end[SIDE_A].fin &&
			   fsm_fin_seen(s, SIDE_B) == f.end[SIDE_B].fin,
		   "%s: client %s, server %s, closed by %u", state_name[s],
		   tcp_state_str[want[i].a].s, tcp_state_str[want[i].b].s, want[i].closer);
	}
	ok(ARRAY_SIZE(want) == FSM_STATES, "no state is omitted");
}

static void test_names(void)
{
	static const char *const otel[] = { "listen",	   "syn_sent",	 "syn_received",
					    "established", "fin_wait_1", "fin_wait_2",
					    "close_wait",  "closing",	 "last_ack",
					    "time_wait",   "closed" };
	unsigned wrong = 0;

	for (unsigned i = 0; i < TCPS_STATES; i++)
		wrong += strcmp(tcp_state_str[i].s, otel[i]) != 0;
	ok(ARRAY_SIZE(otel) == TCPS_STATES && !wrong,
	   "states are spelled as in OpenTelemetry's network.connection.state");
}

int main(void)
{
	test_cells();
	test_reachable();
	test_figure5();
	test_over();
	test_endpoints();
	test_names();
	return tap_done();
}
