/* conn.h - one connection as it lies in the flow table: index-based memory without pointers.
 *
 * Two shapes.  `struct conn` is the whole truth (104 octets); while no more than SYNs and
 * SYN-ACKs without surprises was seen, the same facts fit `struct half` (44 octets), so that a
 * flood of half-open connections costs little.  Everything above the table works on a struct
 * conn; conn_pack() and conn_unpack() change the shape.  The key stands behind either.
 *
 * Side 0 is the client, side 1 the server.  Sequence numbers are host order.  Both are packed:
 * fields are read and written one by one, never by address. */
#pragma once
#include <assert.h>
#include <stdbool.h>
#include <stdint.h>
#include "flow/event.h"
#include "flow/fsm.h"

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

	while (v >> 38 && u < 3)
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

/* The same in 48 bits: ns below 39 hours, then us. */
struct dur48 {
	uint32_t lo;
	uint16_t hi;
} __attribute__((packed));

static inline struct dur48 dur48_of(uint64_t ns)
{
	uint64_t v = ns;

	if (v >> 47) {
		v /= 1000;
		v = (v >> 47 ? (1ull << 47) - 1 : v) | 1ull << 47;
	}
	return (struct dur48){ (uint32_t)v, (uint16_t)(v >> 32) };
}

static inline uint64_t dur48_ns(struct dur48 d)
{
	uint64_t v = (uint64_t)d.hi << 32 | d.lo, low = v & ((1ull << 47) - 1);

	return v >> 47 ? low * 1000 : low;
}

enum { VLAN_NONE = 0xfff }; /* reserved by IEEE 802.1Q, so never a real one */

struct conn_where { /* where its first segment was seen */
	uint64_t iface : 16, outer : 12, inner : 12; /* iface: see "flow/tunnels.h" */
} __attribute__((packed));

/* What the SYNs offered, two sides. */
struct conn_offer {
	uint16_t mss; /* the smaller one of those offered; 0: none */
	uint16_t sack : 2, timestamps : 2, tfo : 2, ecn : 2, mptcp : 2;
	uint16_t overtaken : 1; /* data came before the SYN-ACK: the client dropped it */
	uint16_t held : 1; /* nothing was told of it: "flow/flood.h"; in half entries only */
	uint16_t : 4;
	uint16_t mss_client; /* of one that is held: what its SYN offered */
} __attribute__((packed));

struct conn {
	uint64_t start_ns;     /* UINT64_MAX: the entry is free */
	struct dur48 last;     /* of the newest segment, since the start */
	struct dur40 since[2]; /* each end's last move, since the start */
	uint32_t next[2];      /* behind the last octet that the side sent (SND.NXT, as seen) */
	uint32_t acked[2];     /* first octet of the side's that its peer has not acknowledged */
	uint32_t isn;	       /* the client's (mid-stream: the first number seen) */
	uint32_t payload_lo[2], header_lo[2];
	union {
		struct { /* from FSM_CLAIMED on */
			uint16_t payload_hi[2];
			uint8_t header_hi[2];
			uint32_t gap : 30; /* octets that went by unseen */
			uint32_t holes : 2; /* bit per side: a gap of its is not acknowledged yet */
		} __attribute__((packed));
		struct { /* while fsm_offering(); never so many octets */
			struct dur32 server_rtt;
			struct conn_offer offer;
		} __attribute__((packed));
	};
	uint32_t pkts[2];
	union {
		uint16_t window[2]; /* as last offered by the side, unscaled */
		uint32_t tsval;	    /* once both FINs were sent: of the last FIN */
	};
	uint16_t retrans[2];
	uint64_t history : 60, anomalies : 4;
	struct conn_where where;
	uint32_t state : 5;	 /* enum fsm_state; 0 in no live entry */
	uint32_t client_end : 1; /* which end of the key is the client */
	uint32_t wscale0 : 4, wscale1 : 4;
	uint32_t complete : 6; /* enum completeness */
	uint32_t midstream : 1;
	uint32_t direction : 2; /* enum direction_basis */
	uint32_t merged : 1;	/* the second FIN carried the first ACK of the first FIN */
	uint32_t suspect : 1;	/* an inexact RST was seen and nothing since */
	uint32_t contested : 1; /* an unanswered SYN with another ISN waits in a half entry */
	uint32_t tfo : 1;	/* the SYN-ACK acknowledged data on the SYN */
	uint32_t tsval_ok : 1;
	uint32_t sent : 2;	/* bit per side: next[] is known */
	uint32_t heard : 2;	/* bit per side: acked[] is known */
	/* Bit per side and kind, see conn_note_bit(): the letter is in history, the bit in complete. */
	uint8_t noted;
} __attribute__((packed));
static_assert(sizeof(struct conn) == 104, "the budget of a connection, see table.h");

struct half {
	uint64_t start_ns; /* UINT64_MAX: free */
	struct dur40 last;     /* since the start */
	uint32_t answered_ns;  /* since the start: the first SYN-ACK */
	union {
		struct dur32 server_rtt;
		uint32_t mss_client; /* if mss_apart; then it is as long as answered_ns */
	};
	uint32_t isn[2];
	uint16_t mss;
	uint16_t window; /* the server's */
	uint8_t header[2]; /* octets of the client's SYN and of the server's SYN-ACK on the wire */
	uint8_t syns : 4, syn_acks : 3, mss_apart : 1; /* held: mss is not what its SYN offered */
	uint8_t wscale0 : 4, wscale1 : 4;
	struct conn_where where;
	uint16_t sack : 2, timestamps : 2, tfo : 2, ecn : 2, mptcp : 2;
	uint16_t client_end : 1;
	uint16_t pending : 1;	/* not told yet: see attempt.c */
	uint16_t contested : 1; /* as in struct conn */
	uint16_t anomalies : 2;
	uint16_t held : 1; /* as in struct conn_offer */
} __attribute__((packed));
static_assert(sizeof(struct half) == 44, "the budget of a half-open connection, see table.h");

#define CONN_FREE UINT64_MAX

/* Puts @c into @ret if it fits there; false: it does not, nothing is written.  Nothing is lost but
 * the window of the client's SYN, which comes back as the largest (its ACK brings the real one). */
bool conn_pack(const struct conn *c, struct half *ret);

/* The same connection in full; if it is held, but for what conn_unpack_held() adds to @c. */
struct conn conn_unpack(const struct half *h);
void conn_unpack_held(const struct half *h, struct conn *c);

/* Of an ACK without data, or of data, sent by @side: the bit in `noted`. */
static inline uint8_t conn_note_bit(unsigned side, bool data)
{
	return (uint8_t)(1 << (side << 1 | data));
}

/* Octets and packets so far. */
static inline uint64_t conn_payload(const struct conn *c, unsigned side)
{
	uint64_t hi = fsm_offering(c->state) ? 0 : c->payload_hi[side];

	return hi << 32 | c->payload_lo[side];
}

static inline uint64_t conn_header(const struct conn *c, unsigned side)
{
	uint64_t hi = fsm_offering(c->state) ? 0 : c->header_hi[side];

	return hi << 32 | c->header_lo[side];
}

/* Time of the newest segment. */
static inline uint64_t conn_last_ns(const struct conn *c)
{
	return c->start_ns + dur48_ns(c->last);
}

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
