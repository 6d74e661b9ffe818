#include "flow/transition.h"
#include "flow/deferral.h"
#include "flow/emit.h"
#include "flow/entry_store.h"
#include "flow/tracker_state.h"
#include "wire/seq.h"
#include "wire/tcpopt.h"

/* After both FINs an RST takes nothing from @receiver if its data is acknowledged, and at most its
 * FIN is not.  So it is in TIME-WAIT (RFC 1337), or as good as there. */
static bool loses_nothing(const struct conn *c, enum fsm_side receiver)
{
	return c->heard >> receiver & 1 && seq_le(c->next[receiver] - 1, c->acked[receiver]);
}

/* @from's segment led from @before to @after. */
static enum close_reason reason_of(const struct conn *c, enum fsm_state before,
				   enum fsm_state after, enum fsm_side from)
{
	if (after != FSM_RESET || (fsm_both_fins(before) && loses_nothing(c, !from)))
		return REASON_FIN;
	/* An RST to a SYN refuses it, unless it is the client's own. */
	return before == FSM_SYN && from == SIDE_B ? REASON_REFUSED : REASON_RST;
}

static bool change_state(struct tracker *t, struct conn *c, enum fsm_state to, uint64_t ts_ns,
			 uint64_t ret_moved_ns[static SIDES])
{
	tracker_count_state(t, c->state, to);
	return conn_move(c, to, ts_ns, ret_moved_ns);
}

/* The timestamp of the last FIN: the next incarnation is compared with it. */
static void keep_tsval(struct conn *c, const struct segment *s)
{
	struct tcpopt o = tcpopt_parse(s->options);

	conn_set_tsval(c, o.tsval);
	c->tsval_ok = o.timestamps;
}

/* The handshake ends: @f goes to @to by @s. */
static __attribute__((noinline)) bool establish(struct tracker *t, struct flow *f,
						enum fsm_state to, const struct segment *s,
						bool inferred)
{
	struct conn offered = *f->c; /* before it is overwritten */
	struct handshake done = { .before = &offered };
	uint64_t moved_ns[SIDES];
	const void *repeated =
		unlikely(offered.retrans[SIDE_B]) ? recall_find(RECALL(t->answers), f->hash) : NULL;

	done.client_rtt_ns = answers_rtt(repeated, &offered, s);
	if (!change_state(t, f->c, to, s->ts_ns, moved_ns))
		return false;
	emit_move(t, f, (enum fsm_state)offered.state, trigger_of(s, inferred), moved_ns, &done);
	return true;
}

/* @f goes to @to by @s of @from, and that is reported.  False: there was nothing to report. */
static bool move(struct tracker *t, struct flow *f, enum fsm_side from, enum fsm_state to,
		 const struct segment *s, bool inferred)
{
	enum fsm_state before = f->c->state;
	uint64_t moved_ns[SIDES];
	bool deferred = unlikely(conn_deferred(f->c)) && deferral_moves(t, f, to, s);

	if (fsm_handshaking(before) && !fsm_handshaking(to) && !fsm_over(to))
		return establish(t, f, to, s, inferred);
	bool moved = change_state(t, f->c, to, s->ts_ns, moved_ns);

	if (fsm_both_fins(to) && !fsm_both_fins(before))
		keep_tsval(f->c, s);
	if (!moved)
		return false;
	if (deferred)
		return true;
	if (fsm_over(to)) {
		enum close_reason reason = reason_of(f->c, before, to, from);

		emit_close(t, f, before, reason, reason == REASON_FIN ? -1 : (int)from,
			   trigger_of(s, inferred), moved_ns);
		if (to == FSM_RESET)
			conn_reset(f->c, from, s->seq);
	} else {
		emit_move(t, f, before, trigger_of(s, inferred), moved_ns, NULL);
	}
	return true;
}

void transition_apply(struct tracker *t, struct flow *f, enum fsm_side from,
		      const struct segment *s, struct verdict v, enum fsm_state to, bool mirror)
{
	unsigned anomaly = v.anomaly;
	/* A FIN shows that there was a handshake, but not the ACK that ended it. */
	bool inferred = t->cfg.control && !(s->flags & TCP_SYN) && fsm_handshaking(to);

	for (unsigned left = v.evidence; left; left &= left - 1) {
		enum fsm_evidence ev = (enum fsm_evidence)__builtin_ctz(left);
		enum fsm_state next = fsm_step(to, from, ev, &inferred);

		if (next != FSM_ILLEGAL && mirror)
			next = fsm_step(next, !from, ev, &inferred);
		if (next == FSM_ILLEGAL) {
			anomaly = ANOMALY_ILLEGAL;
			break;
		}
		to = next;
	}
	bool reported = to != f->c->state && move(t, f, from, to, s, inferred);

	if (anomaly != ANOMALY_NONE)
		emit_anomaly(t, f, from, anomaly, trigger_of(s, false), !reported);
}

void transition_unreachable(struct tracker *t, struct flow *f, uint64_t ts_ns)
{
	struct trigger trigger = { ts_ns, SEGMENT_ICMP, BASIS_OBSERVED };
	bool suppressed = conn_deferred(f->c) && deferral_ends(t, f, SYNFLOOD_REFUSED);
	uint64_t moved_ns[SIDES];

	change_state(t, f->c, FSM_RESET, ts_ns, moved_ns);
	if (!suppressed)
		emit_close(t, f, FSM_SYN, REASON_UNREACHABLE, -1, trigger, moved_ns);
}
