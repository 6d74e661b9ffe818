/* afring.h - a live source: frames of one interface from an AF_PACKET ring (TPACKET_V3).
 *
 * Creating the socket needs CAP_NET_RAW in the interface's network namespace.  Reading its ring
 * needs only the descriptor, in any namespace.  So a privileged process calls afring_socket(), and
 * the process that parses calls afring_map().
 *
 * No frame passes unfiltered: the socket receives nothing (protocol 0) until filter, lock and ring
 * are set up and bind() names protocol and interface.
 *
 * Kernel interface: linux/if_packet.h, Documentation/networking/packet_mmap.rst. */
#pragma once
#include <linux/filter.h> /* struct sock_fprog, by value */
#include <stdbool.h>
#include <stdint.h>

/* "source/source.h" */
struct source;
struct source_position;

enum { AFRING_GROUP_MAX = 64 }; /* the kernel allows 256 */

struct afring_config {
	int ifindex;		   /* 0: shared by all interfaces of this ... */
	int link;		   /* ... enum link_type; frame.iface is then their ifindex */
	const char *ifname;	   /* borrowed; returned by source_iface() */
	unsigned block_size;	   /* octets: a power of two, a multiple of the page size */
	unsigned block_nr;	   /* fewer if there is not enough memory */
	unsigned block_timeout_ms; /* a partly filled block is retired after this; > 0 */
	bool promiscuous;	   /* not for a shared ring, see afring_promiscuous() */
	struct sock_fprog filter;  /* borrowed; see bpf/tcp_filter.h; not empty */
	/* Borrowed: descriptors of eBPF programs that replace `filter`, one per ring; or NULL.  On
	 * loopback each must reject PACKET_OUTGOING. */
	const int *programs;
};

/* What a process needs, besides the descriptor, to map a ring.  Without pointers: it can be
 * sent. */
struct afring_geometry {
	uint32_t block_size, block_nr;
	uint8_t link;	  /* enum link_type */
	uint8_t vnet_hdr; /* a struct virtio_net_hdr precedes each frame */
	char ifname[16];  /* IFNAMSIZ */
	uint8_t shared;	  /* frames are of all interfaces, see afring_config.ifindex */
};

/* Hardware type (ARPHRD_* of linux/if_arp.h) of an interface in this network namespace, or -errno.
 * Needs no privilege. */
int afring_arphrd(int ifindex);

/* The enum link_type of frames of hardware type @arphrd; -EPFNOSUPPORT: wire/frame.c cannot read
 * them. */
int afring_link_type(int arphrd);

/* A socket that receives nothing, and keeps interfaces promiscuous that share a ring, until they
 * are gone or it is closed: a descriptor, owned by the caller, or -errno. */
int afring_deaf_socket(void);

/* Makes interface @ifindex promiscuous.  0 or -errno. */
int afring_promiscuous(int deaf_fd, int ifindex);

/* Creates a socket with its ring; it captures from now on.  Returns a descriptor, owned by the
 * caller, close-on-exec.  -errno: *reterr_step is a literal that names what failed; -EINVAL also
 * for invalid sizes; -EPFNOSUPPORT: as afring_link_type().  If the interface is down, the source
 * begins with -ENETDOWN. */
int afring_socket(const struct afring_config *config, struct afring_geometry *ret_geometry,
		  const char **reterr_step);

/* Maps the ring of @fd, which the source owns from success on.  It continues at @from, the position
 * of the last reader, whether or not that reader had returned the block; NULL: at the oldest block
 * that is not returned.  -EINVAL: also for a position outside of the ring.
 *
 * source_next() lends frames of one block at a time and returns the block to the kernel when it is
 * used up.  It returns -ENETDOWN once each time the interface goes down (frames may come again:
 * poll on), and -ENODEV, at each call, when the interface is gone.  An interface that is removed
 * while it is down wakes no poll(). */
int afring_map(int fd, const struct afring_geometry *geometry, const struct source_position *from,
	       struct source **ret);

/* As afring_socket(), but @n rings that share the frames of the interface (PACKET_FANOUT).
 * @program: descriptor of the eBPF program that assigns frames, see fanout_load(); -1: the kernel's
 * hash of addresses and ports (PACKET_FANOUT_HASH).  No ring gets a frame before all have joined,
 * so no connection moves from one ring to another.  -EINVAL with step "PACKET_FANOUT" also if the
 * interface is down on an older kernel, whose fanout_add() needs a running socket. */
int afring_socket_group(const struct afring_config *config, unsigned n, int program, int ret_fd[],
			struct afring_geometry ret_geometry[], const char **reterr_step);
