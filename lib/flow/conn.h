/* conn.h - one connection: as it is worked on, and as it lies in the flow table.
 *
 * `struct conn` is the whole truth, and everything above the table works on one.  The table has it
 * in one of two shapes, as index-based memory without pointers:
 *
 *   whole  its two parts, each in an array of its own.  What a segment of an open connection
 *	    touches is apart (struct conn_hot, 52 octets: a cache line with an IPv4 key behind it),
 *	    so that among a million connections one line comes from memory and not three.  The
 *	    rest is struct conn_cold, 52 octets as well.  full_entry_join() and full_entry_split().
 *   half   while no more than SYNs and SYN-ACKs without surprises was seen: the same facts in 44
 *	    octets, so that a flood of half-open connections costs little.  syn_entry_unpack() and
 *	    syn_entry_pack().
 *
 * Side 0 is the client, side 1 the server.  Sequence numbers are host order.  All are packed:
 * fields are read and written one by one, never by address. */
#pragma once
#include <assert.h>
#include <stdbool.h>
#include <stdint.h>
#include "flow/event.h"
#include "flow/tcp_fsm.h"

/* A short duration in 32 bits: ns below 2.1 s, then us up to 35 minutes; or unknown. */
struct dur32 {
	uint32_t v;
} __attribute__((packed));

static inline struct dur32 dur32_of(uint64_t ns)
{
	uint64_t us = ns / 1000;

	if (ns < 1ull << 31)
		return (struct dur32){ (uint32_t)ns };
	return (struct dur32){ us >> 31 ? UINT32_MAX : (uint32_t)(us | 1ull << 31) };
}

static inline uint64_t dur32_ns(struct dur32 d)
{
	if (d.v == UINT32_MAX)
		return DURATION_UNKNOWN;
	return d.v >> 31 ? (d.v & 0x7fffffffull) * 1000 : d.v;
}

/* A duration in 40 bits: 38 bits of ns, us, ms or s, whichever still fits.  Exact below 274 s;
 * then cut to the microsecond up to 3 days, to the millisecond up to 8 years. */
struct dur40 {
	uint32_t lo;
	uint8_t hi;
} __attribute__((packed));

static inline struct dur40 dur40_of(uint64_t ns)
{
	static const uint64_t unit[4] = { 1, 1000, 1000000, 1000000000 };
	uint64_t v = ns;
	unsigned u = 0;

	while (__builtin_expect(v >> 38 && u < 3, 0))
		v = ns / unit[++u];
	v = (v >> 38 ? (1ull << 38) - 1 : v) | (uint64_t)u << 38;
	return (struct dur40){ (uint32_t)v, (uint8_t)(v >> 32) };
}

static inline uint64_t dur40_ns(struct dur40 d)
{
	static const uint64_t unit[4] = { 1, 1000, 1000000, 1000000000 };
	uint64_t v = (uint64_t)d.hi << 32 | d.lo;

	return (v & ((1ull << 38) - 1)) * unit[v >> 38];
}

enum { VLAN_NONE = 0xfff }; /* reserved by IEEE 802.1Q, so never a real one */

struct conn_where {				     /* where its first segment was seen */
	uint64_t iface : 16, outer : 12, inner : 12; /* iface: see "flow/encap_id.h" */
} __attribute__((packed));

/* What the SYNs offered, two sides. */
struct conn_offer {
	uint16_t mss; /* the smaller one of those offered; 0: none */
	uint16_t sack : 2, timestamps : 2, tfo : 2, ecn : 2, mptcp : 2;
	uint16_t overtaken : 1; /* data came before the SYN-ACK: the client dropped it */
	uint16_t deferred : 1;	/* nothing was told of it: "flow/synflood.h"; in SYN entries only */
	uint16_t : 4;
	uint16_t mss_client; /* of one that is deferred: what its SYN offered */
} __attribute__((packed));

/* Bits of the counts that are hot; the others are cold. */
enum { CONN_PKTS_LO = 26, CONN_HEADER_LO = 22, CONN_PAYLOAD_LO = 32 };

struct conn_hot {
	uint64_t last_ns;  /* of the newest segment; UINT64_MAX: the entry is free */
	uint64_t tally[2]; /* what the side sent, and offers: see conn_tally() */
	uint32_t next[2];  /* behind the last octet that the side sent (SND.NXT, as seen) */
	uint32_t acked[2]; /* first octet of the side's that its peer has not acknowledged */
	uint32_t payload_lo[2];
	uint16_t iface; /* where its first segment was seen: see "flow/encap_id.h" */
	union {
		struct {
			uint16_t state : 5;	 /* enum fsm_state; 0 in no live entry */
			uint16_t client_end : 1; /* which end of the key is the client */
			uint16_t suspect : 1;	 /* an inexact RST was seen and nothing since */
			/* An unanswered SYN with another ISN waits in a SYN entry. */
			uint16_t rivalled : 1;
			/* In the table: FSM_OPEN, both sides are known, nothing is in doubt. */
			uint16_t quiet : 1;
			uint16_t noted : 4, noted_order : 3; /* see conn_note() */
		} __attribute__((packed));
		struct {
			uint16_t : 9;
			uint16_t
				tfo : 1; /* PHASE_OFFER: the SYN-ACK acknowledged data on the SYN */
			/* PHASE_END: the second FIN carried the first ACK of the first */
			uint16_t merged : 1;
			uint16_t tsval_ok : 1; /* PHASE_END */
			uint16_t : 4;
		} __attribute__((packed));
	};
} __attribute__((packed));
static_assert(sizeof(struct conn_hot) == 52, "a cache line less the key of IPv4, see table.h");

struct conn_cold {
	union {
		struct {
			uint64_t : 56; /* see `start` */
			uint64_t wscale0 : 4, wscale1 : 4;
		} __attribute__((packed));
		uint64_t start; /* its low 56 bits, of start_ns: none becomes 834 days old */
	};
	uint64_t history : 60, anomalies : 4;
	struct dur40 since[2]; /* each end's last move, since the start */
	uint32_t isn;	       /* the client's (mid-stream: the first number seen) */
	uint16_t retrans[2];
	uint32_t outer : 12, inner : 12; /* VLANs of its first segment, or VLAN_NONE */
	uint32_t complete : 6;		 /* enum completeness */
	uint32_t direction : 2;		 /* enum direction_basis */
	uint16_t pkts_hi0 : 6, pkts_hi1 : 6;
	uint16_t sent : 2;  /* bit per side: next[] is known */
	uint16_t heard : 2; /* bit per side: acked[] is known */
	union {
		struct { /* from FSM_CLAIMED on */
			uint16_t payload_hi[2], header_hi[2];
			uint32_t gap_bytes : 30; /* octets that went by unseen */
			uint32_t gaps : 2; /* bit per side: a gap of its is not acknowledged yet */
		} __attribute__((packed));
		struct { /* while fsm_offering(); never so many octets */
			struct dur32 server_rtt;
			struct conn_offer offer;
			uint8_t offering_header_hi[2];
		} __attribute__((packed));
	};
} __attribute__((packed));
static_assert(sizeof(struct conn_cold) == 52, "the budget of a connection, see table.h");

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

struct syn_entry {
	uint64_t start_ns;    /* UINT64_MAX: free */
	struct dur40 last;    /* since the start */
	uint32_t answered_ns; /* since the start: the first SYN-ACK */
	union {
		struct dur32 server_rtt;
		uint32_t mss_client; /* if mss_apart; then it is as long as answered_ns */
	};
	uint32_t isn[2];
	uint16_t mss;
	uint16_t window;   /* the server's */
	uint8_t header[2]; /* octets of the client's SYN and of the server's SYN-ACK on the wire */
	uint8_t syns : 4, syn_acks : 3,
		mss_apart : 1; /* deferred: mss is not what its SYN offered */
	uint8_t wscale0 : 4, wscale1 : 4;
	struct conn_where where;
	uint16_t sack : 2, timestamps : 2, tfo : 2, ecn : 2, mptcp : 2;
	uint16_t client_end : 1;
	uint16_t incarnation : 1; /* not told yet: see incarnation.c */
	uint16_t rivalled : 1;	  /* as in struct conn */
	uint16_t anomalies : 2;
	uint16_t deferred : 1; /* as in struct conn_offer */
} __attribute__((packed));
static_assert(sizeof(struct syn_entry) == 44, "the budget of a half-open connection, see table.h");

#define CONN_FREE UINT64_MAX

/* The parts of @c as the table shall have them, and back. */
void full_entry_split(const struct conn *c, struct conn_hot *ret_hot, struct conn_cold *ret_cold);
void full_entry_join(const struct conn_hot *h, const struct conn_cold *k, struct conn *ret);

/* Puts @c into @ret if it fits there; false: it does not, nothing is written.  Nothing is lost but
 * the window of the client's SYN, which comes back as the largest (its ACK brings the real one). */
bool syn_entry_pack(const struct conn *c, struct syn_entry *ret);

/* The same connection in full; if it is deferred, but for what syn_entry_unpack_deferred() adds to
 * @c. */
void syn_entry_unpack(const struct syn_entry *restrict h, struct conn *restrict ret);
void syn_entry_unpack_deferred(const struct syn_entry *h, struct conn *c);

/* Was it picked up behind its SYN and SYN-ACK?  Then something else told who is the client. */
static inline bool conn_is_midstream(const struct conn *c)
{
	return c->direction == DIRECTION_PORT || c->direction == DIRECTION_FIRST_PACKET;
}

/* A tally: packets, octets of headers, and above them the window as last offered, unscaled (once
 * both FINs were sent see conn_tsval()).  In one word by hand: the compiler takes bit-fields of
 * packed structures octet by octet. */
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
	uint64_t pkts_hi = side ? c->pkts_hi1 : c->pkts_hi0;
	uint64_t header_hi = offering ? c->offering_header_hi[side] : c->header_hi[side];
	uint64_t payload_hi = offering ? 0 : c->payload_hi[side];

	return (struct conn_counts){
		.pkts = pkts_hi << CONN_PKTS_LO | tally_pkts(c->tally[side]),
		.header = header_hi << CONN_HEADER_LO | tally_header(c->tally[side]),
		.payload = payload_hi << CONN_PAYLOAD_LO | c->payload_lo[side]
	};
}

/* What has no room stays at the most there is. */
void conn_set_counts(struct conn *c, unsigned side, struct conn_counts n);

/* Adds to the low bits alone; false: there is no room, nothing was done. */
static inline bool conn_count_low(struct conn_hot *h, unsigned side, uint32_t pkts, uint32_t header,
				  uint32_t payload)
{
	uint64_t was = h->tally[side];
	uint64_t p = (uint64_t)tally_pkts(was) + pkts, n = (uint64_t)tally_header(was) + header;
	uint64_t data = (uint64_t)h->payload_lo[side] + payload;

	if (__builtin_expect(
		    (p >> CONN_PKTS_LO | n >> CONN_HEADER_LO | data >> CONN_PAYLOAD_LO) != 0, 0))
		return false;
	h->tally[side] = conn_tally(p, n, (uint16_t)(was >> 48));
	h->payload_lo[side] = (uint32_t)data;
	return true;
}

/* Adds to all of them. */
void conn_count(struct conn *c, unsigned side, uint64_t pkts, uint64_t header, uint64_t payload);

/* Time of the newest segment since the first. */
static inline uint64_t conn_age(const struct conn *c)
{
	return c->last_ns - c->start_ns;
}

/* Once both sides sent a FIN: the timestamp of the last one, where windows were. */
static inline uint32_t conn_tsval(const struct conn *c)
{
	return (uint32_t)conn_window(&c->hot, SIDE_B) << 16 | conn_window(&c->hot, SIDE_A);
}

static inline void conn_set_tsval(struct conn *c, uint32_t tsval)
{
	conn_set_window(&c->hot, SIDE_A, (uint16_t)tsval);
	conn_set_window(&c->hot, SIDE_B, (uint16_t)(tsval >> 16));
}

/* In PHASE_OPEN, of an ACK without data, or of data, sent by @side: a bit in `noted` says that its
 * letter is in history, and its bit in complete. */
static inline unsigned conn_note_bit(unsigned side, bool data)
{
	return 1u << (side << 1 | data);
}

/* Notes the first of its kind (that bit is not set) on a connection in the table, of which history
 * is far away: noted_order keeps what full_entry_join() needs to write the letters in their order.
 * False: it cannot, nothing was done. */
bool conn_note(struct conn_hot *h, unsigned side, bool data);

/* noted_order where all have their letters. */
enum { CONN_ORDER_WRITTEN = 7 };

/* Is Zeek's letter @code by @side there?  All twelve fields at once: a field that equals the letter
 * is 0 after the XOR, and only below a true 0 can the borrow set a bit. */
static inline bool conn_history_has(const struct conn *c, unsigned side, enum history_code code)
{
	const uint64_t ones = 0x0084210842108421, tops = ones << 4;
	uint64_t letter = code | (side == SIDE_A ? HISTORY_FROM_CLIENT : 0);
	uint64_t x = c->history ^ letter * ones;

	return (x - ones) & ~x & tops;
}

/* Zeek's letter @code by @side, once; letters beyond HISTORY_LETTERS are not kept. */
void conn_history_add(struct conn *c, unsigned side, enum history_code code);

/* Zeek's conn_state, as its script base/protocols/conn decides it: @s is the last state before a
 * reset, or the present one; @rst_by the side whose RST ended it, or -1. */
enum conn_state conn_zeek_state(const struct conn *c, enum fsm_state s, int rst_by);
