/* protocol.h - what the daemon and its opener say to each other.
 *
 * One message is one packet of a Unix SOCK_SEQPACKET socket: a struct as it lies in memory (both
 * ends are of one build, on one machine), with descriptors beside it (SCM_RIGHTS).
 *
 * The opener talks first: HELLO, a LINK for each interface that its configuration wants, LISTED;
 * then LINK and GONE as things change.  The daemon asks for rings by index and gets RINGS or
 * FAILED.  It can ask for nothing that the configuration does not name, for no other filter, and
 * for each interface once: the opener is the one who decides what is seen.
 *
 * A HELLO in the midst means that another opener has taken over: what was asked for and not
 * answered is forgotten, and the list begins anew. */
#pragma once
#include <net/if.h>
#include <stdint.h>
#include "source/afring.h" /* struct afring_geometry: a ring as it is sent */

enum {
	OPENER_RINGS_MAX = AFRING_GROUP_MAX, /* of one interface */
	OPENER_FDS_MAX =
		3 * OPENER_RINGS_MAX, /* with each ring two maps; the kernel has 253 (SCM_MAX_FD) */
};

/* The step that needs CAP_BPF. */
#define OPENER_STEP_BYPASS "filter of mode=auto"

enum opener_request_kind {
	OPENER_OPEN = 1, /* the rings of interface .ifindex */
	OPENER_AGAIN,	 /* read the configuration again, then HELLO */
	OPENER_CLEAN,	 /* remove the events socket; .ifindex: and its directory; then CLEANED */
};

struct opener_request {
	uint32_t kind;
	int32_t ifindex;
	uint64_t
		/* OPENER_OPEN: to deal out by, as rings did that they shall replace; 0: a new
		 * one */
		secret;
};

enum opener_reply_kind {
	OPENER_HELLO = 1,
	OPENER_LINK,   /* there is an interface: .ifindex .name .arphrd .flags .named */
	OPENER_LISTED, /* that were all; from here on what changes */
	OPENER_GONE,   /* interface .ifindex was removed, or moved elsewhere */
	/* .rings descriptors for .ifindex, and how to map them; with MODE_AUTO then as many of maps
	 * `flows`, then as many of maps `slots` (bpf/bypass.bpf.c) */
	OPENER_RINGS,
	OPENER_FAILED, /* none: .error is -errno, .step what failed */
	OPENER_CLEANED,
};

struct opener_reply {
	uint32_t kind;
	int32_t ifindex;
	char name[IF_NAMESIZE];
	uint32_t arphrd, flags; /* ARPHRD_*, IFF_* */
	uint8_t named;		/* the configuration has its full name, not a pattern */
	int32_t error;
	char step[32];
	uint32_t rings;
	uint8_t by_program; /* as in struct rings (rings.h) */
	uint8_t mode;	    /* enum capture_mode of the rings */
	uint64_t secret;
	struct afring_geometry ring[OPENER_RINGS_MAX];
};

/* Sends one message with @nfds descriptors, which stay the caller's.  0 or -errno. */
int opener_send(int fd, const void *message, size_t octets, const int *fds, unsigned nfds);

/* Receives one message of exactly @octets.  @max: how many descriptors may come with it; they are
 * the caller's, close-on-exec; 0: those that come are closed by the kernel.
 * 1; 0: the other end is closed; -EAGAIN; -EBADMSG: not such a message, all of it dropped;
 * -errno. */
int opener_receive(int fd, void *ret, size_t octets, int *ret_fds, unsigned max,
		   unsigned *ret_nfds);
