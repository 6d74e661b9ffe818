#include "flow/trouble.h"
#include "flow/deferral.h"
#include "flow/emit.h"
#include "flow/entry_store.h"
#include "flow/tracker_state.h"

static const uint64_t second_ns = 1000000000;

/* 0: this is no wait; then one more at 1, 2, 4, 8 ... s. */
static unsigned doublings(uint64_t waited_ns)
{
	uint64_t seconds = waited_ns / second_ns;

	if (waited_ns < COPY_NS)
		return 0;
	return seconds ? 65u - (unsigned)__builtin_clzll(seconds) : 1;
}

void trouble_repeated(struct tracker *t, struct flow *f, enum fsm_side from,
		      const struct segment *s, uint64_t before_ns)
{
	const struct conn *c = f->c;
	uint64_t waited_ns = conn_offset(c, s->ts_ns);
	bool first = c->retrans[from] == 1;

	if (doublings(waited_ns) <= (first ? 0 : doublings(conn_offset(c, before_ns))))
		return;
	if (conn_deferred(c) && !deferral_tell(t, f))
		return;
	emit_retry(t, f, from, waited_ns, trigger_of(s, false));
}

/* ---- half closed ----------------------------------------------------------------------------- */

/* Where one end has closed, and the other has to: by its FIN, or by its ACK of one. */
static const uint32_t stuck_states =
	1 << FSM_HALF_A | 1 << FSM_HALF_B | 1 << FSM_LAST_A | 1 << FSM_LAST_B;

/* The next time of @h; 0: there is none. */
static uint64_t stuck_ns(const struct tracker *t, const struct conn_hot *h)
{
	/* In control mode most of what moves is not seen. */
	if (!(stuck_states >> h->state & 1) || h->stuck == STUCK_TIMES || t->cfg.control)
		return 0;
	return t->cfg.stuck_ns[h->stuck];
}

bool trouble_stuck_due(const struct tracker *t, table_ref r)
{
	if (table_shape_of(r) != SHAPE_FULL || !table_live(&t->table, r))
		return false;
	const struct conn_hot *h = table_hot(&t->table, r);
	uint64_t wait = stuck_ns(t, h);

	return unlikely(wait) && h->last_ns + wait <= t->now_ns;
}

void trouble_stuck(struct tracker *t, struct flow *f, uint64_t deadline_ns)
{
	struct conn *c = f->c;
	uint64_t wait;

	while ((wait = stuck_ns(t, &c->hot)) && c->last_ns + wait <= t->now_ns &&
	       c->last_ns + wait < deadline_ns) {
		struct trigger at = { c->last_ns + wait, SEGMENT_TIMEOUT, BASIS_TIMEOUT };
		bool server = c->state == FSM_HALF_A || c->state == FSM_LAST_B;

		c->stuck++;
		emit_stuck(t, f, server ? SIDE_B : SIDE_A, wait, at);
	}
	entry_save(t, f);
}
