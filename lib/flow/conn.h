/* conn.h - the working connection: what is known of one 4-tuple while a segment changes it.
 *
 * Everything above the table works on a struct conn, which joins the parts that
 * "flow/entry_layout.h" keeps in the table.  Side 0 is the client, side 1 the server.  Sequence
 * numbers are in host order.  Pure; knows no tracker. */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include "base/cc.h"
#include "flow/entry_layout.h"
#include "flow/event.h"
#include "flow/tcp_fsm.h"
#include "wire/segment.h"

struct tcpopt;

#define CONN_GAP_MAX ((1u << 30) - 1)

struct conn {
	union {
		struct conn_hot;
		struct conn_hot hot;
	};
	union {
		struct conn_cold;
		struct conn_cold cold;
	};
	uint64_t start_ns;
};

/* Was it picked up after its SYN and SYN-ACK?  Then the direction is a guess. */
static inline bool conn_is_midstream(const struct conn *c)
{
	return c->direction == DIRECTION_PORT || c->direction == DIRECTION_FIRST_PACKET;
}

/* Is it an attempt that is not reported yet?  See "flow/deferral.h". */
static inline bool conn_deferred(const struct conn *c)
{
	return fsm_offering(c->state) && c->offer.deferred;
}

/* ---- counts ---------------------------------------------------------------------------------- */

/* A tally: packets, octets of headers, and above them the window as last offered, unscaled (once
 * both FINs were sent: see conn_tsval()).  One word, packed by hand: the compiler takes bit-fields
 * of packed structures octet by octet. */
static inline uint64_t conn_tally(uint64_t pkts, uint64_t header, uint16_t window)
{
	return (uint64_t)window << 48 | header << CONN_PKTS_LO | pkts;
}

static inline uint32_t tally_pkts(uint64_t tally)
{
	return tally & ((1u << CONN_PKTS_LO) - 1);
}

static inline uint32_t tally_header(uint64_t tally)
{
	return tally >> CONN_PKTS_LO & ((1u << CONN_HEADER_LO) - 1);
}

static inline uint16_t conn_window(const struct conn_hot *h, unsigned side)
{
	return (uint16_t)(h->tally[side] >> 48);
}

static inline void conn_set_window(struct conn_hot *h, unsigned side, uint16_t window)
{
	h->tally[side] = (h->tally[side] & ((1ull << 48) - 1)) | (uint64_t)window << 48;
}

/* Octets and packets so far. */
struct conn_counts {
	uint64_t pkts, header, payload;
};

static inline struct conn_counts conn_counts(const struct conn *c, unsigned side)
{
	bool offering = fsm_offering(c->state);
	uint64_t tally = c->tally[side], pkts_hi = side ? c->pkts_hi1 : c->pkts_hi0;
	uint64_t header_hi = offering ? c->offering_header_hi[side] : c->header_hi[side];
	uint64_t payload_hi = offering ? 0 : c->payload_hi[side];

	return (struct conn_counts){ pkts_hi << CONN_PKTS_LO | tally_pkts(tally),
				     header_hi << CONN_HEADER_LO | tally_header(tally),
				     payload_hi << CONN_PAYLOAD_LO | c->payload_lo[side] };
}

/* A count that does not fit stays at its maximum. */
void conn_set_counts(struct conn *c, unsigned side, struct conn_counts n);

/* Adds to the low bits alone; false: they overflow, nothing was done. */
static inline bool conn_count_low(struct conn_hot *h, unsigned side, uint32_t pkts, uint32_t header,
				  uint32_t payload)
{
	uint64_t was = h->tally[side];
	uint64_t p = (uint64_t)tally_pkts(was) + pkts, n = (uint64_t)tally_header(was) + header;
	uint64_t data = (uint64_t)h->payload_lo[side] + payload;

	if (unlikely((p >> CONN_PKTS_LO | n >> CONN_HEADER_LO | data >> CONN_PAYLOAD_LO) != 0))
		return false;
	h->tally[side] = conn_tally(p, n, (uint16_t)(was >> 48));
	h->payload_lo[side] = (uint32_t)data;
	return true;
}

/* Adds to all of them. */
void conn_count(struct conn *c, unsigned side, uint64_t pkts, uint64_t header, uint64_t payload);

/* Counts @s, sent by @from with @payload octets that count as such; it is the newest. */
static inline void conn_account(struct conn *c, enum fsm_side from, const struct segment *s,
				uint32_t payload)
{
	uint32_t header = s->wire_len - payload;

	if (unlikely(!conn_count_low(&c->hot, from, s->wire_segs, header, payload)))
		conn_count(c, from, s->wire_segs, header, payload);
	if (s->ts_ns > c->last_ns)
		c->last_ns = s->ts_ns;
}

/* One retransmission more. */
static inline void conn_count_retrans(struct conn *c, enum fsm_side from)
{
	if (c->retrans[from] != UINT16_MAX)
		c->retrans[from]++;
}

/* @n octets more went by unseen; stays at the most that the field holds. */
static inline void conn_add_gap(struct conn *c, uint32_t n)
{
	c->gap_bytes = n > CONN_GAP_MAX - c->gap_bytes ? CONN_GAP_MAX : c->gap_bytes + n;
}

/* ---- times ----------------------------------------------------------------------------------- */

/* From the first segment to the newest. */
static inline uint64_t conn_age(const struct conn *c)
{
	return c->last_ns - c->start_ns;
}

/* Time since the start; 0 for a time before it. */
static inline uint64_t conn_offset(const struct conn *c, uint64_t ts_ns)
{
	return ts_ns > c->start_ns ? ts_ns - c->start_ns : 0;
}

/* An endpoint waits for at least 200 ms before it repeats a SYN or SYN-ACK.  One that comes sooner
 * is a copy that the path made, or the answer to such a copy. */
static const uint64_t COPY_NS = 100000000;

/* Captures have at most microseconds: starts that are closer get a nanosecond of difference,
 * because the flow id follows from the start. */
enum { CLOCK_TICK_NS = 1000 };

/* Lets @c start after another connection that started in the same tick. */
static inline void conn_begin_after(struct conn *c, uint64_t other_start_ns)
{
	if (other_start_ns - c->start_ns < CLOCK_TICK_NS)
		c->start_ns = c->last_ns = other_start_ns + 1;
}

/* Once both sides sent a FIN: the timestamp of the last one, kept where the windows were. */
static inline uint32_t conn_tsval(const struct conn *c)
{
	return (uint32_t)conn_window(&c->hot, SIDE_B) << 16 | conn_window(&c->hot, SIDE_A);
}

static inline void conn_set_tsval(struct conn *c, uint32_t tsval)
{
	conn_set_window(&c->hot, SIDE_A, (uint16_t)tsval);
	conn_set_window(&c->hot, SIDE_B, (uint16_t)(tsval >> 16));
}

/* ---- Zeek's letters and Wireshark's bits ----------------------------------------------------- */

/* In PHASE_OPEN: this bit of `noted` says that the first ACK without data, or the first data, of
 * @side is in history and complete. */
static inline unsigned conn_note_bit(unsigned side, bool data)
{
	return 1u << (side << 1 | data);
}

#define HISTORY_MASK ((1ull << 60) - 1)

/* Is Zeek's letter @code by @side there?  All twelve fields at once: a field that equals the
 * letter is 0 after the XOR, and only below a true 0 can the borrow set a bit. */
static inline bool conn_history_has(const struct conn_cold *k, unsigned side,
				    enum history_code code)
{
	const uint64_t ones = 0x0084210842108421, tops = ones << 4;
	uint64_t letter = code | (side == SIDE_A ? HISTORY_FROM_CLIENT : 0);
	uint64_t x = (k->history_word & HISTORY_MASK) ^ letter * ones;

	return (x - ones) & ~x & tops;
}

/* Adds Zeek's letter @code by @side, once; letters beyond HISTORY_LETTERS are dropped. */
void conn_history_add(struct conn_cold *k, unsigned side, enum history_code code);

/* What one segment adds to history and completeness. */
struct conn_note {
	bool probe;	  /* a keep-alive or window probe: not data */
	bool retransmits; /* octets that were seen before */
	bool gap;	  /* it acknowledges octets that were not seen */
};

/* One letter for the kind of segment, then those for what happened on it, in Zeek's order.  Data
 * and FIN do not count as an ACK, neither in Zeek nor in Wireshark. */
void conn_note_history(struct conn *c, enum fsm_side from, const struct segment *s,
		       struct conn_note n);

/* Zeek's conn_state, as its script base/protocols/conn decides it: @s is the last state before a
 * reset, or the present one; @rst_by the side whose RST aborted it, or -1. */
enum conn_state conn_zeek_state(const struct conn *c, enum fsm_state s, int rst_by);

/* ---- beginning and moving -------------------------------------------------------------------- */

/* The connection that @s begins at @start_ns, as it is before @s.  @old, if not NULL, is the one
 * that the 4-tuple had: the new one starts after it, however coarse the clock is; without a SYN it
 * has the same client. */
void conn_begin(struct conn *c, const struct segment *s, uint64_t start_ns, unsigned sender,
		const struct conn *old);

/* What a SYN or SYN-ACK offers. */
void conn_learn_offer(struct conn *c, enum fsm_side from, const struct segment *s,
		      const struct tcpopt *o);

/* The same as a sum of enum conn_offer_bit, as if the client sent it. */
unsigned conn_offer_bits(const struct segment *s, const struct tcpopt *o);

/* An RST with number @seq of @from has ended @c: from now on acked[] is what each side had sent
 * until then.  If @from had sent more than the RST says, its endpoint was gone already (RFC 9293
 * 3.10.7.1), and what comes of it was under way: then nothing is known.  See late.c. */
static inline void conn_reset(struct conn *c, unsigned from, uint32_t seq)
{
	if (c->next[from] != seq)
		c->sent = 0;
	c->acked[SIDE_A] = c->next[SIDE_A];
	c->acked[SIDE_B] = c->next[SIDE_B];
}

/* The state becomes @to.  How long each endpoint was in its state, if it moved: @ret_moved_ns
 * (else DURATION_UNKNOWN).  Returns whether an endpoint moved. */
bool conn_move(struct conn *c, enum fsm_state to, uint64_t ts_ns,
	       uint64_t ret_moved_ns[static SIDES]);
