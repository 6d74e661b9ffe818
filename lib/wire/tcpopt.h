/* tcpopt.h - the TCP options of a handshake.
 *
 * Sources: RFC 9293 3.2 (MSS), RFC 7323 2-3 (window scale, timestamps), RFC 2018 2 (SACK
 * permitted), RFC 7413 4.1.1 (Fast Open, 34; experimental 254 with magic 0xF989, RFC 6994),
 * RFC 8684 3 (MPTCP, 30). */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include "base/bytes.h"

enum { TCPOPT_WSCALE_NONE = 15, TCPOPT_WSCALE_MAX = 14 };

struct tcpopt {
	uint16_t mss;	/* 0: absent */
	uint8_t wscale; /* 0..14 (RFC 7323 2.3: more counts as 14); TCPOPT_WSCALE_NONE: absent */
	bool sack;
	bool timestamps;
	bool tfo; /* Fast Open: a cookie or a request */
	bool mptcp;
	bool malformed;	       /* a length was wrong; the options before it are valid */
	uint32_t tsval, tsecr; /* with `timestamps` */
};

/* Parses the option octets of one header.  Pure, total, at most 40 steps. */
struct tcpopt tcpopt_parse(struct span options);

/* The blocks of its SACK option (RFC 2018 3); 0: none. */
uint8_t tcpopt_sack_blocks(struct span options);
