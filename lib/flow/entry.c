#include "flow/entry.h"
#include "flow/conn.h"
#include "wire/tcpopt.h"

/* The letters that a SYN entry stands for. */
static uint64_t syn_history(bool answered)
{
	uint64_t syn_ack = (uint64_t)HISTORY_SYN_ACK << HISTORY_LETTER_BITS;

	return HISTORY_SYN | HISTORY_FROM_CLIENT | (answered ? syn_ack : 0);
}

bool syn_entry_pack(const struct conn *c, struct syn_entry *ret)
{
	bool answered = c->state == FSM_ANSWERED;
	const struct conn_counts n[2] = { conn_counts(c, SIDE_A), conn_counts(c, SIDE_B) };
	unsigned syns = (unsigned)n[SIDE_A].pkts, syn_acks = (unsigned)n[SIDE_B].pkts;

	if (c->state != FSM_SYN && !answered)
		return false;
	/* Only SYNs of one size without data, then SYN-ACKs of one size without data. */
	if (c->suspect || c->direction != DIRECTION_SYN || c->anomalies > 3 || c->tfo ||
	    c->history != syn_history(answered) || n[0].payload || n[1].payload || !syns ||
	    syns > 15 || syn_acks > 7 || answered != !!syn_acks || c->retrans[SIDE_A] != syns - 1 ||
	    c->retrans[SIDE_B] != (syn_acks ? syn_acks - 1 : 0) ||
	    dur40_ns(c->since[SIDE_B]) > UINT32_MAX)
		return false;
	/* The entry cannot hold a second MSS, unless server_rtt follows from answered_ns: nothing
	 * was repeated before the answer. */
	bool apart = unlikely(c->offer.deferred) && c->offer.mss_client != c->offer.mss;

	if (apart && c->server_rtt.v != dur32_of(dur40_ns(c->since[SIDE_B])).v)
		return false;
	uint32_t header[2] = { (uint32_t)n[0].header / syns,
			       syn_acks ? (uint32_t)n[1].header / syn_acks : 0 };

	if (header[0] > 255 || header[1] > 255 || header[0] * syns != n[0].header ||
	    header[1] * syn_acks != n[1].header)
		return false;
	*ret = (struct syn_entry){
		.start_ns = c->start_ns,
		.last = dur40_of(conn_age(c)),
		.answered_ns = (uint32_t)dur40_ns(c->since[SIDE_B]),
		.isn = { c->isn, answered ? c->next[SIDE_B] - 1 : 0 },
		.mss = c->offer.mss,
		.window = conn_window(&c->hot, SIDE_B),
		.header = { (uint8_t)header[0], (uint8_t)header[1] },
		.syns = syns & 15,
		.syn_acks = syn_acks & 7,
		.wscale0 = c->wscale0,
		.wscale1 = c->wscale1,
		.where = { .iface = c->iface, .outer = c->outer, .inner = c->inner },
		.offer = c->offer.bits,
		.client_end = c->client_end,
		.rivalled = c->rivalled,
		.anomalies = c->anomalies & 3,
		.server_rtt = c->server_rtt,
	};
	if (unlikely(c->offer.deferred)) {
		ret->deferred = 1;
		ret->mss_apart = apart;
		if (apart)
			ret->mss_client = c->offer.mss_client;
	}
	return true;
}

void syn_entry_unpack(const struct syn_entry *restrict e, struct conn *restrict ret)
{
	bool answered = e->syn_acks;
	bool scales = e->wscale0 != TCPOPT_WSCALE_NONE && e->wscale1 != TCPOPT_WSCALE_NONE;
	unsigned scale = scales ? e->wscale0 : 0; /* the client's window is not kept */
	unsigned window = answered ? UINT16_MAX >> scale : UINT16_MAX; /* be liberal */

	*ret = (struct conn){
		.start_ns = e->start_ns,
		.last_ns = e->start_ns + dur40_ns(e->last),
		.since = { dur40_of(0), dur40_of(e->answered_ns) },
		.next = { e->isn[0] + 1, answered ? e->isn[1] + 1 : 0 },
		.acked = { answered ? e->isn[0] + 1 : e->isn[0], answered ? e->isn[1] : 0 },
		.isn = e->isn[0],
		.tally = { conn_tally(e->syns, (uint64_t)e->header[0] * e->syns, (uint16_t)window),
			   conn_tally(e->syn_acks, (uint64_t)e->header[1] * e->syn_acks,
				      e->window) },
		.server_rtt = e->server_rtt,
		.offer = { .mss = e->mss, .bits = e->offer },
		.retrans = { e->syns - 1, answered ? e->syn_acks - 1 : 0 },
		.iface = e->where.iface,
		.outer = e->where.outer,
		.inner = e->where.inner,
		.history = syn_history(answered),
		.anomalies = e->anomalies,
		.state = answered ? FSM_ANSWERED : FSM_SYN,
		.client_end = e->client_end,
		.wscale0 = e->wscale0,
		.wscale1 = e->wscale1,
		.complete = COMPLETE_SYN | (answered ? COMPLETE_SYN_ACK : 0),
		.direction = DIRECTION_SYN,
		.rivalled = e->rivalled,
		.sent = answered ? 3 : 1,
		.heard = answered ? 3 : 1,
	};
	if (unlikely(e->deferred)) {
		ret->offer.deferred = 1;
		ret->offer.mss_client = e->mss_apart ? (uint16_t)e->mss_client : e->mss;
		if (e->mss_apart)
			ret->server_rtt = dur32_of(e->answered_ns);
	}
}

static const uint64_t start_mask = (1ull << 56) - 1;

/* May the fast path take its segments? */
static bool is_quiet(const struct conn *c)
{
	return c->state == FSM_OPEN && !c->suspect && !c->rivalled && (c->sent & c->heard) == 3 &&
	       !c->gaps;
}

void full_entry_split(const struct conn *c, struct conn_hot *ret_hot, struct conn_cold *ret_cold)
{
	*ret_hot = c->hot;
	*ret_cold = c->cold;
	ret_hot->quiet = is_quiet(c);
	ret_cold->start = (c->start & ~start_mask) | (c->start_ns & start_mask);
}

void full_entry_join(const struct conn_hot *h, const struct conn_cold *k, struct conn *ret)
{
	ret->hot = *h;
	ret->cold = *k;
	ret->start_ns = h->last_ns - ((h->last_ns - k->start) & start_mask);
}
