#include "flow/conn.h"
#include <string.h>
#include "base/cc.h"
#include "wire/tcpopt.h"

/* Beside the code: who sent it. */
static uint64_t letter_of(unsigned side, enum history_code code)
{
	return code | (side == SIDE_A ? HISTORY_FROM_CLIENT : 0);
}

/* The letters of a SYN entry. */
static uint64_t syn_history(bool answered)
{
	uint64_t syn_ack = letter_of(SIDE_B, HISTORY_SYN_ACK) << HISTORY_LETTER_BITS;

	return letter_of(SIDE_A, HISTORY_SYN) | (answered ? syn_ack : 0);
}

bool syn_entry_pack(const struct conn *c, struct syn_entry *ret)
{
	bool answered = c->state == FSM_ANSWERED;
	const struct conn_counts n[2] = { conn_counts(c, SIDE_A), conn_counts(c, SIDE_B) };
	unsigned syns = (unsigned)n[SIDE_A].pkts, syn_acks = (unsigned)n[SIDE_B].pkts;

	if (c->state != FSM_SYN && !answered)
		return false;
	/* Nothing but SYNs of one size without data, then SYN-ACKs of one size without data. */
	if (c->suspect || c->direction != DIRECTION_SYN || c->anomalies > 3 || c->tfo ||
	    c->history != syn_history(answered) || n[0].payload || n[1].payload || !syns ||
	    syns > 15 || syn_acks > 7 || answered != !!syn_acks || c->retrans[SIDE_A] != syns - 1 ||
	    c->retrans[SIDE_B] != (syn_acks ? syn_acks - 1 : 0) ||
	    dur40_ns(c->since[SIDE_B]) > UINT32_MAX)
		return false;
	/* Two offers and how long the answer took have no room beside each other, but if nothing
	 * was repeated before the answer that is known anyway. */
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
		.sack = c->offer.sack,
		.timestamps = c->offer.timestamps,
		.tfo = c->offer.tfo,
		.ecn = c->offer.ecn,
		.mptcp = c->offer.mptcp,
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

void syn_entry_unpack(const struct syn_entry *restrict h, struct conn *restrict ret)
{
	bool answered = h->syn_acks;
	bool scales = h->wscale0 != TCPOPT_WSCALE_NONE && h->wscale1 != TCPOPT_WSCALE_NONE;
	unsigned scale = scales ? h->wscale0 : 0; /* the client's window is not kept */
	unsigned window = answered ? UINT16_MAX >> scale : UINT16_MAX; /* be liberal */

	*ret = (struct conn){
		.start_ns = h->start_ns,
		.last_ns = h->start_ns + dur40_ns(h->last),
		.since = { dur40_of(0), dur40_of(h->answered_ns) },
		.next = { h->isn[0] + 1, answered ? h->isn[1] + 1 : 0 },
		.acked = { answered ? h->isn[0] + 1 : h->isn[0], answered ? h->isn[1] : 0 },
		.isn = h->isn[0],
		.tally = { conn_tally(h->syns, (uint64_t)h->header[0] * h->syns, (uint16_t)window),
			   conn_tally(h->syn_acks, (uint64_t)h->header[1] * h->syn_acks,
				      h->window) },
		.server_rtt = h->server_rtt,
		.offer = { .mss = h->mss,
			   .sack = h->sack,
			   .timestamps = h->timestamps,
			   .tfo = h->tfo,
			   .ecn = h->ecn,
			   .mptcp = h->mptcp },
		.retrans = { h->syns - 1, answered ? h->syn_acks - 1 : 0 },
		.iface = h->where.iface,
		.outer = h->where.outer,
		.inner = h->where.inner,
		.history = syn_history(answered),
		.anomalies = h->anomalies,
		.state = answered ? FSM_ANSWERED : FSM_SYN,
		.client_end = h->client_end,
		.wscale0 = h->wscale0,
		.wscale1 = h->wscale1,
		.complete = COMPLETE_SYN | (answered ? COMPLETE_SYN_ACK : 0),
		.direction = DIRECTION_SYN,
		.rivalled = h->rivalled,
		.sent = answered ? 3 : 1,
		.heard = answered ? 3 : 1,
	};
}

void syn_entry_unpack_deferred(const struct syn_entry *h, struct conn *c)
{
	c->offer.deferred = 1;
	c->offer.mss_client = h->mss_apart ? (uint16_t)h->mss_client : h->mss;
	if (h->mss_apart)
		c->server_rtt = dur32_of(h->answered_ns);
}

/* ---- the whole shape ------------------------------------------------------------------------ */

static const uint64_t start_mask = (1ull << 56) - 1;

static uint64_t at_most(uint64_t v, unsigned bits)
{
	return likely(!(v >> bits)) ? v : (1ull << bits) - 1;
}

void conn_set_counts(struct conn *c, unsigned side, struct conn_counts n)
{
	bool offering = fsm_offering(c->state);
	uint64_t pkts = at_most(n.pkts, CONN_PKTS_LO + 6);
	uint64_t header = at_most(n.header, CONN_HEADER_LO + (offering ? 8 : 16));
	uint64_t payload = at_most(n.payload, CONN_PAYLOAD_LO + (offering ? 0 : 16));

	c->tally[side] =
		conn_tally(pkts & ((1 << CONN_PKTS_LO) - 1), header & ((1 << CONN_HEADER_LO) - 1),
			   conn_window(&c->hot, side));
	c->payload_lo[side] = (uint32_t)payload;
	if (side)
		c->pkts_hi1 = pkts >> CONN_PKTS_LO & 63;
	else
		c->pkts_hi0 = pkts >> CONN_PKTS_LO & 63;
	if (offering) {
		c->offering_header_hi[side] = (uint8_t)(header >> CONN_HEADER_LO);
	} else {
		c->header_hi[side] = (uint16_t)(header >> CONN_HEADER_LO);
		c->payload_hi[side] = (uint16_t)(payload >> CONN_PAYLOAD_LO);
	}
}

void conn_count(struct conn *c, unsigned side, uint64_t pkts, uint64_t header, uint64_t payload)
{
	struct conn_counts n = conn_counts(c, side);

	n.pkts += pkts;
	n.header += header;
	n.payload += payload;
	conn_set_counts(c, side, n);
}

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

/* noted_order: which permutation of the kinds in `noted` their order of coming is, or that all have
 * their letters.  Bit 0: of the first two the later one is the smaller; above it: how many of the
 * kinds before it are smaller than the third.  All four are never left to be told. */
enum { ORDER_KINDS = 3 };

/* Of four bits.  (A processor's own instruction is not in the baseline of x86-64.) */
static unsigned count_kinds(unsigned kinds)
{
	return 0x4332322132212110 >> (kinds & 15) * 4 & 7;
}

bool conn_note(struct conn_hot *h, unsigned side, bool data)
{
	unsigned bit = conn_note_bit(side, data), n = count_kinds(h->noted);
	unsigned rank = count_kinds(h->noted & (bit - 1));
	/* Where all have their letters any order will do. */
	unsigned order = h->noted_order == CONN_ORDER_WRITTEN ? 0 : h->noted_order;

	if (n == ORDER_KINDS)
		return false;
	h->noted_order = (n == 2 ? order | rank << 1 : n == 1 ? !rank : 0) & 7;
	h->noted = (h->noted | bit) & 15;
	return true;
}

/* Takes the lowest kind out of @kinds, or the one behind @skip others. */
static unsigned take_kind(unsigned *kinds, unsigned skip)
{
	unsigned rest = *kinds;

	while (skip--)
		rest &= rest - 1;
	unsigned kind = (unsigned)__builtin_ctz(rest);

	*kinds &= ~(1u << kind);
	return kind;
}

/* The letters that conn_note() left to be written. */
static __attribute__((noinline)) void write_noted(struct conn *c)
{
	unsigned kinds = c->noted, n = count_kinds(kinds), order = c->noted_order;
	unsigned kind[4] = { 0 };

	if (n == ORDER_KINDS)
		kind[2] = take_kind(&kinds, order >> 1);
	if (n >= 2)
		kind[1] = take_kind(&kinds, !(order & 1));
	kind[0] = take_kind(&kinds, 0);
	for (unsigned i = 0; i < n; i++) {
		bool data = kind[i] & 1;

		c->complete |= data ? COMPLETE_DATA : COMPLETE_ACK;
		conn_history_add(c, kind[i] >> 1, data ? HISTORY_DATA : HISTORY_ACK);
	}
	c->noted_order = CONN_ORDER_WRITTEN;
}

void full_entry_join(const struct conn_hot *h, const struct conn_cold *k, struct conn *ret)
{
	ret->hot = *h;
	ret->cold = *k;
	ret->start_ns = h->last_ns - ((h->last_ns - k->start) & start_mask);
	if (h->state == FSM_OPEN && h->noted && h->noted_order != CONN_ORDER_WRITTEN)
		write_noted(ret);
}

/* ---- letters and states --------------------------------------------------------------------- */

void conn_history_add(struct conn *c, unsigned side, enum history_code code)
{
	if (conn_history_has(c, side, code))
		return;
	/* No letter is 0: the highest bit is in the last one. */
	unsigned bits = c->history ? 64 - (unsigned)__builtin_clzll(c->history) : 0;
	unsigned n = (bits + HISTORY_LETTER_BITS - 1) / HISTORY_LETTER_BITS;

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
	bool up_a = syn || (up_b && conn_counts(c, SIDE_A).pkts);

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
	return syn && !conn_counts(c, SIDE_B).payload ? CONN_S0 : CONN_OTH;
}
