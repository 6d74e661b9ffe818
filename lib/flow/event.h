/* event.h - one change of a connection, as a record of fixed size that crosses threads by copy.
 *
 * Side 0 is the client, side 1 the server, in every array.  Times are ns since 1970 UTC, from the
 * capture; durations are ns.  Names are those of the JSON lines (docs/events.schema.json). */
#pragma once
#include <assert.h>
#include <stdbool.h>
#include <stdint.h>
#include "flow/duration.h"

enum event_kind {
	EVENT_TCP_OPEN,
	EVENT_TCP_STATE,
	EVENT_TCP_ESTABLISHED,
	EVENT_TCP_CLOSE,
	EVENT_TCP_RETRY,
	EVENT_TCP_STUCK,
	EVENT_TCP_ANOMALY,
	EVENT_CAPTURE_LOSS,
	EVENT_SYN_FLOOD,
	EVENT_SNAPSHOT,	   /* no change: what is known of an open connection */
	EVENT_TCP_SEGMENT, /* no change: a segment, or how many were not reported */
	EVENT_KINDS
};

enum event_segment { /* what was on the wire, by its flags; or no segment at all */
		     SEGMENT_SYN,
		     SEGMENT_SYN_ACK,
		     SEGMENT_ACK, /* with data or without */
		     SEGMENT_FIN,
		     SEGMENT_FIN_ACK,
		     SEGMENT_RST,
		     SEGMENT_ICMP, /* an error that quotes the connection's SYN */
		     SEGMENT_TIMEOUT,
		     SEGMENT_NONE, /* capture end, shutdown, eviction */
		     SEGMENTS
};

enum event_basis { BASIS_OBSERVED, BASIS_INFERRED, BASIS_TIMEOUT, BASES };

/* How it is known who is the client. */
enum direction_basis {
	DIRECTION_SYN,
	DIRECTION_SYN_ACK,
	DIRECTION_PORT,
	DIRECTION_FIRST_PACKET,
	DIRECTIONS
};

enum close_reason {
	REASON_FIN,
	REASON_RST,
	REASON_REFUSED,
	REASON_UNREACHABLE,
	REASON_UNANSWERED,
	REASON_HALF_OPEN,
	REASON_IDLE,
	REASON_REUSE,
	REASON_EVICTED,
	REASON_CAPTURE_END,
	REASON_SHUTDOWN,
	REASONS
};

/* What was not acknowledged when the daemon itself ended a connection. */
enum outstanding {
	OUTSTANDING_NONE,
	OUTSTANDING_SYN,
	OUTSTANDING_SYN_ACK,
	OUTSTANDING_DATA,
	OUTSTANDING_FIN,
	OUTSTANDINGS
};

enum closed_by { CLOSED_BY_NONE, CLOSED_BY_CLIENT, CLOSED_BY_SERVER, CLOSED_BY_BOTH, CLOSED_BYS };

enum teardown {
	TEARDOWN_NONE,
	TEARDOWN_FOUR_SEGMENTS,
	TEARDOWN_THREE_SEGMENTS,
	TEARDOWN_SIMULTANEOUS,
	TEARDOWN_RESET,
	TEARDOWNS,
	TEARDOWN_UNKNOWN = TEARDOWNS, /* not reported */
};

/* What the counts of a connection rest on. */
enum event_counts {
	COUNTS_SEGMENTS, /* every segment */
	/* The sequence numbers of SYN and FIN.  Of the counts only payload[] is set: the length of
	 * the stream modulo 2^32; UINT64_MAX: not known. */
	COUNTS_SEQUENCE,
};

/* Zeek's conn_state, by the letters of its documentation (conn.log). */
enum conn_state {
	CONN_S0,
	CONN_S1,
	CONN_SF,
	CONN_REJ,
	CONN_S2,
	CONN_S3,
	CONN_RSTO,
	CONN_RSTR,
	CONN_RSTOS0,
	CONN_RSTRH,
	CONN_SH,
	CONN_SHR,
	CONN_OTH,
	CONN_STATES
};

/* Wireshark's tcp.completeness. */
enum completeness {
	COMPLETE_SYN = 1,
	COMPLETE_SYN_ACK = 2,
	COMPLETE_ACK = 4,
	COMPLETE_DATA = 8,
	COMPLETE_FIN = 16,
	COMPLETE_RST = 32,
};

enum anomaly {
	ANOMALY_BAD_ACK,	    /* SYN-ACK or ACK that acknowledges nothing that was sent */
	ANOMALY_ACK_UNSEEN,	    /* ACK of octets that were not seen, within the window */
	ANOMALY_OUT_OF_WINDOW,	    /* segment far from what the receiver expects */
	ANOMALY_SYN_IN_OPEN,	    /* SYN with another ISN on a living connection (RFC 5961 4) */
	ANOMALY_SYN_ACK_UNEXPECTED, /* SYN-ACK that answers no SYN of this connection */
	ANOMALY_RST_BAD_ACK,	    /* RST to a SYN without acknowledging it (RFC 9293 3.10.7.3) */
	ANOMALY_RST_IN_WINDOW,	    /* RST not exactly at RCV.NXT (RFC 5961 3): suspect */
	ANOMALY_RST_OUT_OF_WINDOW,
	ANOMALY_FIN_OUT_OF_WINDOW,
	ANOMALY_FIN_MOVED, /* a second FIN at another place than the first */
	ANOMALY_DATA_AFTER_FIN,
	ANOMALY_BAD_FLAGS, /* SYN+FIN, SYN+RST, no ACK on an open connection */
	ANOMALY_ILLEGAL,   /* the table has no such edge */
	ANOMALIES
};

/* Why frames did not reach the tracker. */
enum loss_reason {
	LOSS_RING_FULL,	  /* the kernel dropped them */
	LOSS_RING_SWITCH, /* between two rings of one interface */
	LOSS_POISON,	  /* their decoding killed the process before */
	LOSS_REASONS
};

enum synflood_phase { SYNFLOOD_BEGIN, SYNFLOOD_UPDATE, SYNFLOOD_END, SYNFLOOD_PHASES };

/* Of the attempts of a flood: attempts = half_open + all from SYNFLOOD_COMPLETED on. */
enum synflood_count {
	SYNFLOOD_ATTEMPTS,
	SYNFLOOD_ANSWERED,  /* by a SYN-ACK, whatever became of them */
	SYNFLOOD_LATE,	    /* not attempts: SYN-ACKs to evicted ones */
	SYNFLOOD_COMPLETED, /* went on beyond SYN and SYN-ACK: reported as connections */
	SYNFLOOD_REPORTED,  /* reported as connections: not known for a flood yet */
	SYNFLOOD_REFUSED,   /* by RST, of either end, or ICMP */
	SYNFLOOD_EXPIRED,
	SYNFLOOD_EVICTED,
	SYNFLOOD_REPLACED, /* by another SYN of the same 4-tuple */
	SYNFLOOD_COUNTS
};

enum {
	HISTORY_LETTER_BITS = 5, /* code 1..15 of history_letter[], + 16: sent by the client */
	HISTORY_LETTERS = 12,
	HISTORY_FROM_CLIENT = 16,
};

enum history_code {
	HISTORY_SYN = 1,
	HISTORY_SYN_ACK,
	HISTORY_ACK,
	HISTORY_DATA,
	HISTORY_FIN,
	HISTORY_RST,
	HISTORY_GAP,
	HISTORY_RETRANSMIT,
	HISTORY_ZERO_WINDOW,
	HISTORY_INCONSISTENT,
	HISTORY_MULTI_FLAG,
	HISTORY_FLIPPED,
};

struct event_options {	   /* of a SYN, or what both sides agreed on */
	uint16_t mss;	   /* 0: absent */
	uint8_t wscale[2]; /* TCPOPT_WSCALE_NONE: absent; tcp_open: [0] only */
	bool sack, timestamps, tfo, ecn, mptcp;
};

struct event_totals {		   /* of a connection, from its start until now */
	uint64_t start_ns, end_ns; /* of its first segment, of the newest one */
	uint64_t history;	   /* first letter in the low bits */
	uint64_t bytes[2], payload[2];
	uint32_t pkts[2]; /* [0]: sent by the client, to the server */
	uint16_t retrans[2];
	uint32_t gap_bytes;
	uint8_t closed_by, conn_state, completeness;
	uint8_t counts; /* enum event_counts */
	uint8_t outstanding;
	bool lossy;
};

struct event {
	/* The producer's own count, from 0: a gap means records were lost.  A snapshot has none of
	 * its own, but that of the event after it. */
	uint64_t number;
	uint64_t ts_ns;
	uint64_t flow_id;
	uint8_t addr[2][16]; /* network order; IPv4 in the first 4 octets */
	uint16_t port[2];
	uint16_t vlan[2];
	uint8_t nvlan;
	uint16_t iface; /* within the producer: see "flow/origin.h" */
	uint8_t kind;	/* enum event_kind */
	uint8_t ip_v;
	uint8_t state[2];      /* enum tcp_state, after the event */
	uint8_t prev_state[2]; /* before it; tcp_state, tcp_established, tcp_close */
	uint8_t segment, basis;
	bool midstream;
	uint8_t direction_basis;
	/* Time in prev_state; DURATION_UNKNOWN: it did not move.  snapshot: time in state. */
	uint64_t prev_state_ns[2];
	union {
		struct {
			struct event_options options;
			bool has_options;
			uint64_t prev_flow_id; /* 0: none */
		} open;
		struct {
			uint64_t server_rtt_ns, client_rtt_ns, total_ns; /* DURATION_UNKNOWN */
			uint16_t syn_retrans, synack_retrans;
			struct event_options options;
		} established;
		struct {
			struct event_totals;
			uint8_t reason, teardown;
		} close;
		struct { /* ts_ns: the newest time that the tracker has seen */
			struct event_totals;
			struct dur32 server_rtt; /* until the handshake is complete; or unknown */
			uint32_t place;		 /* after it: the cursor of "flow/listing.h" */
			/* Not the tracker's, see "synfind/lister.h": */
			uint32_t token; /* who asked ... */
			uint16_t generation;
			uint8_t left; /* records of the answer after this one */
			bool no_row;  /* only `place` is meant */
		} snapshot;
		struct {		   /* numbers: DURATION_UNKNOWN if unknown or absent */
			uint64_t seq, ack; /* relative: "flow/segment_report.h" */
			uint64_t tsval, tsecr;
			uint64_t wscale, window_scale; /* the option; of `window` */
			uint64_t
				skipped; /* if not 0, this is about so many others: no connection */
			uint32_t payload_len;
			uint16_t flags, window, wire_segs, mss;
			uint16_t endpoints;  /* set of "flow/endpoints.h" */
			uint8_t skipped_why; /* enum endpoint_skip */
			uint8_t sack_blocks;
			uint8_t from; /* enum fsm_side */
			bool has_options, sack_permitted;
		} wire;
		struct {
			uint64_t waited_ns; /* since the first segment of the connection */
			uint32_t count;	    /* repetitions of this segment so far */
			uint8_t from;	    /* enum fsm_side */
		} retry;
		struct {
			uint64_t silent_ns;
			uint8_t waits_for; /* enum fsm_side: who has to close */
		} stuck;
		struct {
			uint32_t count; /* of this connection so far */
			uint8_t kind;	/* enum anomaly */
			uint8_t from;	/* enum fsm_side */
		} anomaly;
		struct {
			uint64_t count, freezes, from_ns, to_ns;
			uint8_t reason; /* enum loss_reason */
		} loss;
		struct { /* the server is side 1; side 0 is empty */
			uint64_t started_ns;
			uint64_t count[SYNFLOOD_COUNTS]; /* since then */
			uint32_t half_open;		 /* now, of those attempts */
			uint32_t new_attempts; /* since the last event of the series ... */
			uint32_t rate;	       /* ... in a second */
			uint16_t shares;       /* decoders that have a part of the attempts each */
			uint8_t phase;	       /* enum synflood_phase */
		} flood;
	};
};
static_assert(sizeof(struct event) == 192, "the budget of an event, see docs/architecture.md");

/* Where events go.  reserve() returns the record to fill, or NULL: the sink is full, and counts the
 * event as lost.  commit() hands the record over.  At most one is reserved at a time. */
struct event_sink {
	struct event *(*reserve)(struct event_sink *);
	void (*commit)(struct event_sink *);
	/* As reserve(), for a record that has no number of its own, EVENT_TCP_SEGMENT, and only if
	 * much space is left; NULL is no loss.  May be NULL where there are none. */
	struct event *(*offer)(struct event_sink *);
	/* Set by the tracker: the segment of tracker_input() that causes the event, from 0.  Events
	 * of a sweep leave it as it is. */
	unsigned current;
};
