/* tcpopt.h - the TCP options that matter when a connection opens.
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
	uint16_t mss; /* 0: absent */
	/* 0..14; TCPOPT_WSCALE_NONE: absent (RFC 7323 2.3: above 14 counts as 14) */
	uint8_t wscale;
	bool sack;
	bool timestamps;
	bool tfo; /* Fast Open option present, cookie or request */
	bool mptcp;
	bool malformed;	       /* a length octet lied; what came before it is kept */
	uint32_t tsval, tsecr; /* with `timestamps` */
};

/* Parses the option octets of one header.  Pure, total, at most 40 steps. */
struct tcpopt tcpopt_parse(struct span options);
