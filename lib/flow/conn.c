#include "flow/conn.h"
#include <string.h>
#include "base/cc.h"
#include "wire/tcpopt.h"

/* Beside the code: who sent it. */
static uint64_t letter_of(unsigned side, enum history_code code)
{
	return code | (side == SIDE_A ? HISTORY_FROM_CLIENT : 0);
}

/* The letters of a half entry. */
static uint64_t half_history(bool answered)
{
	uint64_t syn_ack = letter_of(SIDE_B, HISTORY_SYN_ACK) << HISTORY_LETTER_BITS;

	return letter_of(SIDE_A, HISTORY_SYN) | (answered ? syn_ack : 0);
}

bool conn_pack(const struct conn *c, struct half *ret)
{
	bool answered = c->state == FSM_ANSWERED;
	unsigned syn_acks = c->pkts[SIDE_B];

	if (c->state != FSM_SYN && !answered)
		return false;
	/* Nothing but SYNs of one size without data, then SYN-ACKs of one size without data. */
	if (c->midstream || c->suspect || c->direction != DIRECTION_SYN || c->anomalies > 3 ||
	    c->tfo || c->history != half_history(answered) ||
	    c->payload_lo[0] || c->payload_lo[1] || !c->pkts[SIDE_A] ||
	    c->pkts[SIDE_A] > 15 || syn_acks > 7 || answered != !!syn_acks ||
	    c->retrans[SIDE_A] != c->pkts[SIDE_A] - 1 ||
	    c->retrans[SIDE_B] != (syn_acks ? syn_acks - 1 : 0) ||
	    dur40_ns(c->since[SIDE_B]) > UINT32_MAX)
		return false;
	/* Two offers and how long the answer took have no room beside each other, but if nothing was
	 * repeated before the answer that is known anyway. */
	bool apart = unlikely(c->offer.held) && c->offer.mss_client != c->offer.mss;

	if (apart && c->server_rtt.v != dur32_of(dur40_ns(c->since[SIDE_B])).v)
		return false;
	uint32_t header[2] = { c->header_lo[0] / c->pkts[0], syn_acks ? c->header_lo[1] / syn_acks : 0 };

	if (header[0] > 255 || header[1] > 255 || header[0] * c->pkts[0] != c->header_lo[0] ||
	    header[1] * syn_acks != c->header_lo[1])
		return false;
	*ret = (struct half){
		.start_ns = c->start_ns,
		.last = dur40_of(dur48_ns(c->last)),
		.answered_ns = (uint32_t)dur40_ns(c->since[SIDE_B]),
		.isn = { c->isn, answered ? c->next[SIDE_B] - 1 : 0 },
		.mss = c->offer.mss,
		.window = c->window[SIDE_B],
		.header = { (uint8_t)header[0], (uint8_t)header[1] },
		.syns = c->pkts[SIDE_A] & 15,
		.syn_acks = syn_acks & 7,
		.wscale0 = c->wscale0,
		.wscale1 = c->wscale1,
		.where = c->where,
		.sack = c->offer.sack,
		.timestamps = c->offer.timestamps,
		.tfo = c->offer.tfo,
		.ecn = c->offer.ecn,
		.mptcp = c->offer.mptcp,
		.client_end = c->client_end,
		.contested = c->contested,
		.anomalies = c->anomalies & 3,
		.server_rtt = c->server_rtt,
	};
	if (unlikely(c->offer.held)) {
		ret->held = 1;
		ret->mss_apart = apart;
		if (apart)
			ret->mss_client = c->offer.mss_client;
	}
	return true;
}

struct conn conn_unpack(const struct half *h)
{
	bool answered = h->syn_acks;
	bool scales = h->wscale0 != TCPOPT_WSCALE_NONE && h->wscale1 != TCPOPT_WSCALE_NONE;
	unsigned scale = scales ? h->wscale0 : 0; /* the client's window is not kept */

	return (struct conn){
		.start_ns = h->start_ns,
		.last = dur48_of(dur40_ns(h->last)),
		.since = { dur40_of(0), dur40_of(h->answered_ns) },
		.next = { h->isn[0] + 1, answered ? h->isn[1] + 1 : 0 },
		.acked = { answered ? h->isn[0] + 1 : h->isn[0], answered ? h->isn[1] : 0 },
		.isn = h->isn[0],
		.header_lo = { (uint32_t)h->header[0] * h->syns, (uint32_t)h->header[1] * h->syn_acks },
		.server_rtt = h->server_rtt,
		.offer = { .mss = h->mss,
			   .sack = h->sack,
			   .timestamps = h->timestamps,
			   .tfo = h->tfo,
			   .ecn = h->ecn,
			   .mptcp = h->mptcp },
		.pkts = { h->syns, h->syn_acks },
		.window = { answered ? UINT16_MAX >> scale : UINT16_MAX, h->window }, /* be liberal */
		.retrans = { h->syns - 1, answered ? h->syn_acks - 1 : 0 },
		.where = h->where,
		.history = half_history(answered),
		.anomalies = h->anomalies,
		.state = answered ? FSM_ANSWERED : FSM_SYN,
		.client_end = h->client_end,
		.wscale0 = h->wscale0,
		.wscale1 = h->wscale1,
		.complete = COMPLETE_SYN | (answered ? COMPLETE_SYN_ACK : 0),
		.direction = DIRECTION_SYN,
		.contested = h->contested,
		.sent = answered ? 3 : 1,
		.heard = answered ? 3 : 1,
	};
}

void conn_unpack_held(const struct half *h, struct conn *c)
{
	c->offer.held = 1;
	c->offer.mss_client = h->mss_apart ? (uint16_t)h->mss_client : h->mss;
	if (h->mss_apart)
		c->server_rtt = dur32_of(h->answered_ns);
}

void conn_history_add(struct conn *c, unsigned side, enum history_code code)
{
	unsigned n = 0;

	if (conn_history_has(c, side, code))
		return;
	for (uint64_t h = c->history; h; h >>= HISTORY_LETTER_BITS)
		n++;
	if (n < HISTORY_LETTERS)
		c->history |= letter_of(side, code) << n * HISTORY_LETTER_BITS;
}

/* To Zeek an end is up by the server's SYN, with ACK or without: the third segment does not matter.
 * An end that sends, but was never up, is "partial", and mostly counts like a silent one. */
enum conn_state conn_zeek_state(const struct conn *c, enum fsm_state s, int rst_by)
{
	bool fin_a = fsm_fin_seen(s, SIDE_A), fin_b = fsm_fin_seen(s, SIDE_B);
	bool syn = c->complete & COMPLETE_SYN;
	bool up_b = c->complete & COMPLETE_SYN_ACK || conn_history_has(c, SIDE_B, HISTORY_SYN);
	bool up_a = syn || (up_b && c->pkts[SIDE_A]);

	if (fin_a && fin_b)
		return CONN_SF;
	if (rst_by == SIDE_B) {
		if (!fin_a && !up_a)
			return CONN_RSTRH;
		return fin_a || up_b ? CONN_RSTR : CONN_REJ;
	}
	if (rst_by == SIDE_A) {
		if (up_b || fin_b)
			return CONN_RSTO;
		bool more = fin_a || conn_history_has(c, SIDE_A, HISTORY_ACK) ||
			    conn_history_has(c, SIDE_A, HISTORY_INCONSISTENT) ||
			    conn_history_has(c, SIDE_A, HISTORY_MULTI_FLAG);

		return syn && !more ? CONN_RSTOS0 : CONN_OTH;
	}
	if (fin_a)
		return up_b ? CONN_S2 : CONN_SH;
	if (fin_b)
		return up_a ? CONN_S3 : CONN_SHR;
	if (up_b)
		return up_a ? CONN_S1 : CONN_OTH;
	return syn && !conn_payload(c, SIDE_B) ? CONN_S0 : CONN_OTH;
}
