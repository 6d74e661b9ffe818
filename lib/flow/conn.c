#include "flow/conn.h"
#include "wire/tcpopt.h"

/* ---- counts ---------------------------------------------------------------------------------- */

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

/* ---- letters and states ---------------------------------------------------------------------- */

void conn_history_add(struct conn_cold *k, unsigned side, enum history_code code)
{
	if (conn_history_has(k, side, code))
		return;
	/* No letter is 0: the highest bit is in the last one. */
	uint64_t history = k->history_word & HISTORY_MASK;
	unsigned bits = history ? 64 - (unsigned)__builtin_clzll(history) : 0;
	unsigned n = (bits + HISTORY_LETTER_BITS - 1) / HISTORY_LETTER_BITS;
	uint64_t letter = code | (side == SIDE_A ? HISTORY_FROM_CLIENT : 0);

	if (n < HISTORY_LETTERS)
		k->history_word |= letter << n * HISTORY_LETTER_BITS;
}

void conn_note_history(struct conn *c, enum fsm_side from, const struct segment *s,
		       struct conn_note n)
{
	bool syn = s->flags & TCP_SYN, fin = s->flags & TCP_FIN, rst = s->flags & TCP_RST;
	bool ack = s->flags & TCP_ACK, data = s->payload_len && !n.probe;
	struct conn_cold *k = &c->cold;
	enum fsm_side peer = !from;

	if (syn + fin + rst > 1) {
		conn_history_add(k, from, fin && rst ? HISTORY_INCONSISTENT : HISTORY_MULTI_FLAG);
		if (!rst && ack) /* a SYN-ACK whose FIN counts */
			k->complete |= COMPLETE_SYN_ACK | COMPLETE_FIN;
		return;
	}
	if (syn) {
		k->complete |= ack ? COMPLETE_SYN_ACK : COMPLETE_SYN;
		if (data && !ack)
			k->complete |= COMPLETE_DATA;
		/* A SYN-ACK of crossed SYNs has the number of the SYN: to Zeek it is the same. */
		if (!conn_history_has(k, from, ack ? HISTORY_SYN : HISTORY_SYN_ACK))
			conn_history_add(k, from, ack ? HISTORY_SYN_ACK : HISTORY_SYN);
		return;
	}
	if (ack)
		k->complete |= data ? COMPLETE_DATA : COMPLETE_ACK;
	k->complete |= (fin ? COMPLETE_FIN : 0) | (rst ? COMPLETE_RST : 0);
	conn_history_add(k, from,
			 rst	? HISTORY_RST
			 : fin	? HISTORY_FIN
			 : data ? HISTORY_DATA
				: HISTORY_ACK);
	if (!rst && !fin && fsm_phase_of(c->state) == PHASE_OPEN)
		c->noted |= conn_note_bit(from, data) & 15;
	/* A side that has sent its FIN needs no window any more. */
	if (!s->window && !rst && !fsm_fin_seen(c->state, peer))
		conn_history_add(k, from, HISTORY_ZERO_WINDOW);
	if (data && n.retransmits)
		conn_history_add(k, from, HISTORY_RETRANSMIT);
	if (n.gap && !fsm_offering(c->state) && k->complete & COMPLETE_SYN_ACK)
		conn_history_add(k, peer, HISTORY_GAP);
}

/* To Zeek an endpoint is up after the server's SYN, with ACK or without: the third segment does
 * not matter.  One that sends without having been up is "partial", and mostly counts as silent. */
enum conn_state conn_zeek_state(const struct conn *c, enum fsm_state s, int rst_by)
{
	bool fin_a = fsm_fin_seen(s, SIDE_A), fin_b = fsm_fin_seen(s, SIDE_B);
	bool syn = c->complete & COMPLETE_SYN;
	bool up_b =
		c->complete & COMPLETE_SYN_ACK || conn_history_has(&c->cold, SIDE_B, HISTORY_SYN);
	bool up_a = syn || (up_b && conn_counts(c, SIDE_A).pkts);

	if (fin_a && fin_b && rst_by < 0)
		return CONN_SF;
	if (rst_by == SIDE_B) {
		if (!fin_a && !up_a)
			return CONN_RSTRH;
		return fin_a || up_b ? CONN_RSTR : CONN_REJ;
	}
	if (rst_by == SIDE_A) {
		if (up_b || fin_b)
			return CONN_RSTO;
		bool more = fin_a || conn_history_has(&c->cold, SIDE_A, HISTORY_ACK) ||
			    conn_history_has(&c->cold, SIDE_A, HISTORY_INCONSISTENT) ||
			    conn_history_has(&c->cold, SIDE_A, HISTORY_MULTI_FLAG);

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

/* ---- beginning and moving -------------------------------------------------------------------- */

/* Without a SYN the client is a guess: not the end whose port looks like a service. */
static unsigned guess_client(const struct segment *s, unsigned sender, enum direction_basis *ret)
{
	enum { WELL_KNOWN = 1024, EPHEMERAL = 32768 }; /* IANA; Linux ip_local_port_range */
	bool low = s->sport < WELL_KNOWN, low_peer = s->dport < WELL_KNOWN;

	if (low == low_peer) {
		low = s->sport < EPHEMERAL;
		low_peer = s->dport < EPHEMERAL;
	}
	*ret = low == low_peer ? DIRECTION_FIRST_PACKET : DIRECTION_PORT;
	return low && !low_peer ? !sender : sender;
}

void conn_begin(struct conn *c, const struct segment *s, uint64_t start_ns, unsigned sender,
		const struct conn *old)
{
	enum direction_basis basis = DIRECTION_SYN;
	unsigned client = sender;
	bool syn = s->flags & TCP_SYN;

	*c = (struct conn){ .start_ns = start_ns,
			    .last_ns = start_ns,
			    .iface = s->iface,
			    .outer = segment_vlan(s, 0, VLAN_NONE),
			    .inner = segment_vlan(s, 1, VLAN_NONE),
			    .wscale0 = TCPOPT_WSCALE_NONE,
			    .wscale1 = TCPOPT_WSCALE_NONE };
	if (syn && s->flags & TCP_ACK) {
		basis = DIRECTION_SYN_ACK;
		client = !sender;
		c->isn = s->ack - 1;
		c->next[SIDE_A] = c->acked[SIDE_A] = s->ack;
		c->sent = c->heard = 1 << SIDE_A;
		c->server_rtt.v = UINT32_MAX;
		c->wscale0 = TCPOPT_WSCALE_MAX; /* the client's SYN was not seen: assume the most */
	} else if (!syn) {
		client = guess_client(s, sender, &basis);
		if (old) /* the same connection, which was taken for reset */
			client = old->client_end;
		c->isn = s->seq;
		c->wscale0 = c->wscale1 = TCPOPT_WSCALE_MAX; /* not known: assume the most */
	} else {
		c->isn = s->seq;
	}
	c->client_end = client & 1;
	c->direction = basis & 3;
	if (old)
		conn_begin_after(c, old->start_ns);
}

unsigned conn_offer_bits(const struct segment *s, const struct tcpopt *o)
{
	/* RFC 3168 6.1.1: a SYN asks for ECN with both flags, a SYN-ACK agrees with ECE alone. */
	unsigned ecn = s->flags & TCP_ACK ? TCP_ECE : TCP_ECE | TCP_CWR;

	return (o->sack ? OFFER_SACK : 0) | (o->timestamps ? OFFER_TIMESTAMPS : 0) |
	       (o->tfo ? OFFER_TFO : 0) | (o->mptcp ? OFFER_MPTCP : 0) |
	       ((s->flags & (TCP_ECE | TCP_CWR)) == ecn ? OFFER_ECN : 0);
}

void conn_learn_offer(struct conn *c, enum fsm_side from, const struct segment *s,
		      const struct tcpopt *o)
{
	if (from == SIDE_A)
		c->wscale0 = o->wscale;
	else
		c->wscale1 = o->wscale;
	if (!fsm_offering(c->state))
		return;
	if (o->mss && (!c->offer.mss || o->mss < c->offer.mss))
		c->offer.mss = o->mss;
	c->offer.bits |= conn_offer_bits(s, o) << from & OFFER_ALL;
}

/* The handshake is over: the high bits of the counts take the place of the offer. */
static void leave_offer(struct conn *c)
{
	struct conn_counts n[SIDES] = { conn_counts(c, SIDE_A), conn_counts(c, SIDE_B) };

	c->gap_bytes = c->gaps = 0;
	c->state = FSM_CLAIMED; /* any state after the offers */
	conn_set_counts(c, SIDE_A, n[SIDE_A]);
	conn_set_counts(c, SIDE_B, n[SIDE_B]);
}

bool conn_move(struct conn *c, enum fsm_state to, uint64_t ts_ns,
	       uint64_t ret_moved_ns[static SIDES])
{
	enum fsm_state before = c->state;
	uint64_t at = conn_offset(c, ts_ns);
	bool moved = false;

	for (unsigned side = 0; side < SIDES; side++) {
		ret_moved_ns[side] = DURATION_UNKNOWN;
		if (fsm_endpoint(before, side) == fsm_endpoint(to, side))
			continue;
		uint64_t since = dur40_ns(c->since[side]);

		ret_moved_ns[side] = at > since ? at - since : 0;
		c->since[side] = dur40_of(at);
		moved = true;
	}
	if (fsm_offering(before) && !fsm_offering(to))
		leave_offer(c);
	if (fsm_phase_of(before) != fsm_phase_of(to))
		c->noted = 0;
	c->merged |= (before == FSM_FIN_A && to == FSM_LAST_A) ||
		     (before == FSM_FIN_B && to == FSM_LAST_B);
	c->state = to & 31;
	return moved;
}
