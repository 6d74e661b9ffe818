/* protocol.h - the messages between the daemon and its opener.
 *
 * One message is one packet of a Unix SOCK_SEQPACKET socket: a struct as it lies in memory (both
 * ends are of one build, on one machine), with descriptors attached (SCM_RIGHTS).
 *
 * The opener starts: HELLO, a LINK for each interface that its configuration names, a MISSING for
 * each name in it without an interface, LISTED; then LINK and GONE as links change.  The daemon
 * requests rings by ifindex and gets RINGS or FAILED; interfaces that share rings, once for all.
 * The opener decides what is captured: it opens only interfaces that the configuration names, with
 * its own filter, and each one once.
 *
 * A second HELLO comes from a new opener: unanswered requests are void, and the list starts
 * again. */
#pragma once
#include <net/if.h>
#include <stdint.h>
#include "source/afring.h" /* struct afring_geometry: a ring as it is sent */

enum {
	OPENER_RINGS_MAX = AFRING_GROUP_MAX,   /* of one interface */
	OPENER_FDS_MAX = 3 * OPENER_RINGS_MAX, /* two maps per ring; at most SCM_MAX_FD, 253 */
};

/* In place of an ifindex: the rings that interfaces of this enum link_type share.  Negative. */
static inline int opener_shared(unsigned link)
{
	return -1 - (int)link;
}

/* The value of .step if CAP_BPF is missing. */
#define OPENER_STEP_BYPASS "filter of mode=auto"

enum opener_request_kind {
	OPENER_OPEN = 1, /* the rings of interface .ifindex */
	OPENER_AGAIN,	 /* read the configuration again, then HELLO */
	OPENER_CLEAN, /* remove the daemon's sockets; .ifindex: which directories; then CLEANED */
	OPENER_HOLD,  /* report changes of interface .ifindex, though it is not configured */
};

struct opener_request {
	uint32_t kind;
	int32_t ifindex;
	uint64_t secret; /* OPENER_OPEN: of the rings to be replaced; 0: a new one */
};

enum opener_reply_kind {
	OPENER_HELLO = 1,
	/* An interface is new or has changed: .ifindex .name .arphrd .flags .named .shared */
	OPENER_LINK,
	OPENER_LISTED, /* the list is complete; changes follow */
	OPENER_GONE,   /* interface .ifindex, of LINK or OTHER, was removed or moved elsewhere */
	/* .rings ring descriptors for .ifindex, or opener_shared(), and their geometry; with
	 * MODE_AUTO also as many maps `flows` and as many maps `slots` (bpf/bypass.bpf.c) */
	OPENER_RINGS,
	OPENER_FAILED, /* no rings: .error is -errno, .step what failed */
	OPENER_CLEANED,
	/* The configuration has the full name .name, which does not exist; .step: the nearest one
	 * that does, or "".  Before LISTED. */
	OPENER_MISSING,
	/* With shared rings: an interface that the configuration does not name: .ifindex .name */
	OPENER_OTHER,
};

struct opener_reply {
	uint32_t kind;
	int32_t ifindex;
	char name[IF_NAMESIZE];
	uint32_t arphrd, flags; /* ARPHRD_*, IFF_* */
	uint8_t named;		/* the configuration has its full name, not only a pattern */
	uint8_t shared;		/* its rings are opener_shared() */
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

/* Receives one message of exactly @octets with at most OPENER_FDS_MAX descriptors, which are the
 * caller's, close-on-exec.  If @ret_fds is NULL, the kernel closes them.  1; 0: the other end is
 * closed; -EAGAIN; -EBADMSG: another kind of message, discarded; -errno. */
int opener_receive(int fd, void *ret, size_t octets, int *ret_fds, unsigned *ret_nfds);

/* Closes the @n descriptors of a message that is not used. */
void opener_close_fds(const int *fds, unsigned n);
