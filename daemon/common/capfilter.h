/* capfilter.h - the option `filter`: an expression in tcpdump's language (pcap-filter(7)).
 *
 * libpcap compiles it.  An expression is about the frame without its VLAN tags, as users mean it:
 * `port 443` and `not port 443` are right for tagged frames too.  One that says `vlan` is about the
 * frame with its tags.  Names of hosts are looked up in /etc/hosts only, so that the result does
 * not depend on the network.  Not for hostile text. */
#pragma once
#include <stdbool.h>

struct frame;	    /* "wire/frame.h" */
struct sock_filter; /* <linux/filter.h> */

enum {
	CAPFILTER_TEXT_MAX = 4096,
	CAPFILTER_MAX = 4096 - 512 - 8, /* instructions: leaves space for tcp_filter.h */
	CAPFILTER_ERROR_MAX = 256,
};

/* Writes the program for rings of @link (enum link_type: Ethernet or raw IP), which rejects a frame
 * or runs on beyond its end, and returns the number of its instructions, at most CAPFILTER_MAX.
 * -EINVAL, -ENOSPC or -ENOMEM: @reterr says why. */
int capfilter_build(const char *text, unsigned link, struct sock_filter *insns,
		    char reterr[static CAPFILTER_ERROR_MAX]);

/* For frames of files, of one link type. */
struct capfilter {
	unsigned n; /* instructions; 0: not compiled yet */
	struct sock_filter *insns;
};

/* 0; -EINVAL, -ENOSPC or -ENOMEM: @reterr says why. */
int capfilter_open(const char *text, unsigned link, struct capfilter *ret,
		   char reterr[static CAPFILTER_ERROR_MAX]);
void capfilter_close(struct capfilter *c);
bool capfilter_passes(const struct capfilter *c, const struct frame *f);
