/* entry_layout.h - how a connection lies in the flow table: index-based memory without pointers.
 *
 *   full_entry   the two parts of a struct conn, each in an array of its own: conn_hot, what a
 *                segment of an open connection touches (52 octets, a cache line with an IPv4 key),
 *                and conn_cold, the rest (52 octets).  Among a million connections such a segment
 *                takes one line from memory and not three.
 *   syn_entry    44 octets, while only SYNs and SYN-ACKs without surprises were seen (FreeBSD:
 *                syncache), so that a flood of half-open connections costs little.
 *
 * The structures are packed: read and write their fields by name, never by address.  Pure.
 *
 * The same bits mean different things in different phases (enum fsm_phase):
 *
 *                     PHASE_OFFER          PHASE_OPEN             PHASE_END
 *   hot, bit 9        tfo                  noted, client's ACK    -
 *   hot, bit 10       -                    noted, client's data   merged
 *   hot, bit 11       -                    noted, server's ACK    tsval_ok
 *   hot, bit 12       -                    noted, server's data   -
 *   tally, 48..63     the window that was offered last            half of conn_tsval()
 *   cold, the end     server_rtt, offer    high bits of the counts, gap_bytes, gaps */
#pragma once
#include <assert.h>
#include <stdbool.h>
#include <stdint.h>
#include "flow/duration.h"

enum { VLAN_NONE = 0xfff }; /* IEEE 802.1Q reserves it, so no frame has it */

/* What a SYN offers: these of the client, and of the server shifted by one. */
enum conn_offer_bit {
	OFFER_SACK = 1 << 0,
	OFFER_TIMESTAMPS = 1 << 2,
	OFFER_TFO = 1 << 4,
	OFFER_ECN = 1 << 6,
	OFFER_MPTCP = 1 << 8,
	OFFER_ALL = 0x3ff, /* of both */
};

struct conn_offer {
	uint16_t mss;	       /* the smaller one of those offered; 0: none */
	uint16_t bits : 10;    /* sum of enum conn_offer_bit */
	uint16_t gaps : 1;     /* some are remembered: of a Fast Open server's data */
	uint16_t deferred : 1; /* not reported yet, see "flow/deferral.h"; SYN entries only */
	uint16_t : 4;
	uint16_t mss_client; /* if deferred: the MSS of the SYN */
} __attribute__((packed));

/* Low bits of the counts are hot; the high ones are cold. */
enum { CONN_PKTS_LO = 26, CONN_HEADER_LO = 22, CONN_PAYLOAD_LO = 32 };

struct conn_hot {
	uint64_t last_ns;  /* of the newest segment; UINT64_MAX: the entry is free */
	uint64_t tally[2]; /* what the side sent, and its window: see conn_tally() */
	uint32_t next[2];  /* after the last octet that the side sent (SND.NXT, as seen) */
	uint32_t acked[2]; /* the side's first octet that its peer has not acknowledged */
	uint32_t payload_lo[2];
	uint16_t iface; /* of the first segment: see "flow/origin.h" */
	union {
		struct {
			uint16_t state : 5;	 /* enum fsm_state; 0 in no live entry */
			uint16_t client_end : 1; /* which end of the key is the client */
			uint16_t suspect : 1;	 /* an inexact RST came, and nothing since */
			uint16_t rivalled : 1;	 /* a new incarnation waits in a SYN entry */
			/* In the table: FSM_OPEN, both sides are known, nothing is in doubt. */
			uint16_t quiet : 1;
			uint16_t noted : 4; /* PHASE_OPEN: sum of conn_note_bit() */
			uint16_t stuck : 2; /* times of cfg.stuck_ns that were reported */
			uint16_t : 1;
		} __attribute__((packed));
		struct {
			uint16_t : 9;
			uint16_t tfo : 1;      /* the SYN-ACK acknowledged data on the SYN */
			uint16_t merged : 1;   /* one segment had the ACK of a FIN and a FIN */
			uint16_t tsval_ok : 1; /* the last FIN had a timestamp */
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
		uint64_t start; /* in the table: the low 56 bits of start_ns (834 days) */
	};
	union {
		struct {
			uint64_t history : 60, anomalies : 4;
		} __attribute__((packed));
		uint64_t history_word; /* the compiler takes packed bit-fields octet by octet */
	};
	struct dur40 since[2]; /* each endpoint's last move, since the start */
	uint32_t isn;	       /* the client's (mid-stream: the first number seen) */
	uint16_t retrans[2];
	uint32_t outer : 12, inner : 12; /* VLANs of the first segment, or VLAN_NONE */
	uint32_t complete : 6;		 /* enum completeness */
	uint32_t direction : 2;		 /* enum direction_basis */
	uint16_t pkts_hi0 : 6, pkts_hi1 : 6;
	uint16_t sent : 2;  /* bit per side: next[] is known */
	uint16_t heard : 2; /* bit per side: acked[] is known */
	union {
		struct { /* from FSM_CLAIMED on */
			uint16_t payload_hi[2], header_hi[2];
			uint32_t gap_bytes : 30; /* octets that went by unseen */
			uint32_t gaps : 2;	 /* bit per side: it has an unacknowledged gap */
		} __attribute__((packed));
		struct { /* while fsm_offering(); never so many octets */
			struct dur32 server_rtt;
			struct conn_offer offer;
			uint8_t offering_header_hi[2];
		} __attribute__((packed));
	};
} __attribute__((packed));
static_assert(sizeof(struct conn_cold) == 52, "the budget of a connection, see table.h");

#define ENTRY_FREE UINT64_MAX /* where every shape has a time */

struct syn_where {				     /* where its first segment was seen */
	uint64_t iface : 16, outer : 12, inner : 12; /* iface: see "flow/origin.h" */
} __attribute__((packed));

struct syn_entry {
	uint64_t start_ns;    /* ENTRY_FREE: free */
	struct dur40 last;    /* since the start */
	uint32_t answered_ns; /* since the start: the first SYN-ACK */
	union {
		struct dur32 server_rtt;
		uint32_t mss_client; /* if mss_apart; then server_rtt equals answered_ns */
	};
	uint32_t isn[2];
	uint16_t mss;
	uint16_t window;   /* the server's */
	uint8_t header[2]; /* octets of the client's SYN and of the server's SYN-ACK on the wire */
	uint8_t syns : 4, syn_acks : 3, mss_apart : 1; /* deferred: mss is not what its SYN had */
	uint8_t wscale0 : 4, wscale1 : 4;
	struct syn_where where;
	uint16_t offer : 10; /* as conn_offer.bits */
	uint16_t client_end : 1;
	uint16_t incarnation : 1; /* of a 4-tuple in use, not confirmed: see incarnation.c */
	uint16_t rivalled : 1;	  /* as in struct conn_hot */
	uint16_t anomalies : 2;
	uint16_t deferred : 1; /* as in struct conn_offer */
} __attribute__((packed));
static_assert(sizeof(struct syn_entry) == 44, "the budget of a half-open connection, see table.h");
