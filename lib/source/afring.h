/* afring.h - a live source: frames of one interface from an AF_PACKET ring (TPACKET_V3).
 *
 * Making the socket needs CAP_NET_RAW in the interface's network namespace; reading its ring
 * needs nothing but the descriptor, in any namespace.  So there are two halves: afring_socket()
 * for a privileged process, afring_map() for the one that parses.
 *
 * Not one frame passes unfiltered: the socket is deaf (protocol 0) until filter, lock and ring
 * are in place and bind() names protocol and interface.
 *
 * Kernel interface: linux/if_packet.h, Documentation/networking/packet_mmap.rst. */
#pragma once
#include <linux/filter.h> /* struct sock_fprog, by value */
#include <stdbool.h>
#include <stdint.h>
#include "source/source.h"

enum { AFRING_GROUP_MAX = 64 }; /* the kernel has 256 */

struct afring_config {
	int ifindex;
	const char *ifname;	   /* borrowed; what source_iface() will say */
	unsigned block_size;	   /* octets: a power of two, a multiple of the page size */
	unsigned block_nr;	   /* fewer are taken if there is no memory for so many */
	unsigned block_timeout_ms; /* a block that is not full is handed over after this; > 0 */
	bool promiscuous;
	struct sock_fprog filter; /* borrowed; see bpf/tcp_filter.h; its length must not be 0 */
	/* Borrowed: descriptors of eBPF programs in place of `filter`, one for each ring; NULL:
	 * none. On loopback each must leave out what is PACKET_OUTGOING. */
	const int *programs;
};

/* What a process needs besides the descriptor to map a ring.  No pointers: fit to be sent. */
struct afring_geometry {
	uint32_t block_size, block_nr;
	uint8_t link;	  /* enum link_type */
	uint8_t vnet_hdr; /* a struct virtio_net_hdr stands before each frame */
	char ifname[16];  /* IFNAMSIZ */
};

/* Hardware type (ARPHRD_* of linux/if_arp.h) of an interface in this network namespace; -ENODEV:
 * there is none of this index; another -errno.  No privilege needed. */
int afring_arphrd(int ifindex);

/* The enum link_type of frames from an interface of hardware type @arphrd; -EPFNOSUPPORT: its
 * frames begin with something that wire/frame.c does not read. */
int afring_link_type(int arphrd);

/* Makes the socket with its ring, capturing from now on.
 * Returns a descriptor (owned by the caller, close-on-exec); *ret_geometry has the number of
 * blocks that were taken.  -errno: *reterr_step is a literal that says what failed; -EINVAL:
 * also for sizes that the ring cannot have; -EPFNOSUPPORT: as afring_link_type().
 * An interface that is down is fine: the source then begins with -ENETDOWN. */
int afring_socket(const struct afring_config *config, struct afring_geometry *ret_geometry,
		  const char **reterr_step);

/* How far a ring was read.  No pointers: fit to outlive the process. */
struct afring_position {
	uint64_t block_seq; /* the kernel's number of that block; 0: nothing was read yet */
	uint32_t block;
	uint32_t frames; /* that were lent of it */
};

/* Maps the ring of @fd, which the source owns from success on.  @from: where the last reader was,
 * whether or not it had given that block back; NULL: at the oldest block that was not given back.
 * -EINVAL: also for a position outside this ring.  -errno: @fd is still the caller's.
 *
 * source_next() lends frames of one block at a time, and returns the block at the call that finds
 * it used up; one lent block does not disturb the kernel until it has filled all others.  It
 * returns -ENETDOWN once each time the interface goes down (frames may come again: poll on), and
 * -ENODEV, at each call, when the interface is gone for good.  An interface that is removed while
 * it is down wakes no poll(). */
int afring_map(int fd, const struct afring_geometry *geometry, const struct afring_position *from,
	       struct source **ret);

/* Behind all that has been lent.  The block stays ours until a later source_next() gives it back:
 * what is kept before that call has missed nothing, and repeats nothing. */
void afring_position(const struct source *s, struct afring_position *ret);

/* What the kernel has counted since it was last asked, by anyone. */
struct afring_counts {	  /* struct tpacket_stats_v3 */
	uint32_t packets; /* drops included */
	uint32_t drops, freezes;
};

/* It begins to count anew, and writes to @ret itself: whoever is killed over this call has the
 * counts in @ret, or the kernel still has them.  0 or -errno; source_stats() asks as well. */
int afring_take_counts(struct source *s, struct afring_counts *ret);

/* As afring_socket(), but @n rings that share the frames of the interface (PACKET_FANOUT): each
 * frame is in one of them.  @program: descriptor of the one that deals them out, see fanout_load();
 * -1: the kernel's own hash of addresses and ports (PACKET_FANOUT_HASH). A ring has nothing in it
 * before all have joined, so that no connection begins in one and goes on in another.  -EINVAL with
 * step "PACKET_FANOUT" also if the interface is down and the kernel lets nobody join then
 * (fanout_add() of older ones wants a socket that is running). */
int afring_socket_group(const struct afring_config *config, unsigned n, int program, int ret_fd[],
			struct afring_geometry ret_geometry[], const char **reterr_step);
