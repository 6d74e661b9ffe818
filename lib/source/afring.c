#include "source/afring.h"
#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_arp.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/virtio_net.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>
#include "base/cc.h"
#include "source/source.h"
#include "wire/frame.h"
#include "wire/link.h"

_Static_assert(sizeof(((struct afring_geometry *)NULL)->ifname) == IFNAMSIZ, "afring.h");

/* With fewer the kernel would wait for us at each block. */
enum { MIN_BLOCKS = 2 };

/* V3 ignores the frame size but checks it (packet_set_ring()). */
enum { FRAME_SIZE = TPACKET_ALIGNMENT << 7 };

/* The kernel aligns frames in a block to this (V3_ALIGNMENT, af_packet.c). */
enum { FRAME_ALIGN = 8 };

struct afring {
	struct source source;
	int fd;
	struct afring_geometry g;
	uint8_t *map; /* all blocks; NULL: not mapped */
	uint32_t at;  /* block that we hold, or the next one */
	bool held;
	bool was_down;	 /* a call without frames checks whether the interface still exists */
	uint32_t left;	 /* frames of the held block not lent yet */
	uint64_t offset; /* of the next one in the block */
	struct source_position position;
	struct source_stats total;
};

/* ---- what an interface is ---- */

int afring_arphrd(int ifindex)
{
	struct ifreq ifr = { .ifr_ifindex = ifindex };
	/* Interface ioctls work on any socket, and sandboxes usually allow AF_UNIX. */
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0), r;

	if (fd < 0)
		return -errno;
	if (ioctl(fd, SIOCGIFNAME, &ifr) < 0 || ioctl(fd, SIOCGIFHWADDR, &ifr) < 0)
		r = errno == ENXIO ? -ENODEV : -errno;
	else
		r = ifr.ifr_hwaddr.sa_family;
	close(fd);
	return r;
}

/* Devices without header_ops: SOCK_RAW frames begin with the IP header (tpacket_rcv(),
 * dev_has_header()).  A GRE tunnel without a remote address has header_ops: there they begin with
 * the outer IP header, so that TCP in it is a tunnel's. */
static const struct {
	uint16_t arphrd;
	uint8_t link;
} link_types[] = {
	{ ARPHRD_ETHER, LINK_ETHERNET }, { ARPHRD_LOOPBACK, LINK_ETHERNET },
	{ ARPHRD_NONE, LINK_RAW_IP }, /* tun, WireGuard */
	{ ARPHRD_RAWIP, LINK_RAW_IP },	 { ARPHRD_PPP, LINK_RAW_IP },
	{ ARPHRD_TUNNEL, LINK_RAW_IP },	 { ARPHRD_TUNNEL6, LINK_RAW_IP },
	{ ARPHRD_SIT, LINK_RAW_IP },	 { ARPHRD_IPGRE, LINK_RAW_IP },
};

int afring_link_type(int arphrd)
{
	for (size_t i = 0; i < ARRAY_SIZE(link_types); i++)
		if (link_types[i].arphrd == arphrd)
			return link_types[i].link;
	return -EPFNOSUPPORT;
}

/* ---- the socket ---- */

static bool ring_size_valid(uint32_t block_size, uint32_t block_nr)
{
	return block_nr && block_size && !(block_size & (block_size - 1)) &&
	       block_size % (uint32_t)sysconf(_SC_PAGESIZE) == 0;
}

/* Makes the ring with as many blocks as there is memory for. */
static int ring_make(int fd, const struct afring_config *config, uint32_t *block_nr)
{
	struct tpacket_req3 req = { .tp_block_size = config->block_size,
				    .tp_frame_size = FRAME_SIZE,
				    .tp_retire_blk_tov = config->block_timeout_ms };

	for (uint32_t n = config->block_nr;; n /= 2) {
		req.tp_block_nr = n;
		req.tp_frame_nr = req.tp_block_size / FRAME_SIZE * n;
		if (!setsockopt(fd, SOL_PACKET, PACKET_RX_RING, &req, sizeof(req))) {
			*block_nr = n;
			return 0;
		}
		if (errno != ENOMEM || n / 2 < MIN_BLOCKS)
			return -errno;
	}
}

int afring_deaf_socket(void)
{
	int fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0); /* protocol 0 */

	return fd < 0 ? -errno : fd;
}

int afring_promiscuous(int deaf_fd, int ifindex)
{
	struct packet_mreq m = { .mr_ifindex = ifindex, .mr_type = PACKET_MR_PROMISC };

	return setsockopt(deaf_fd, SOL_PACKET, PACKET_ADD_MEMBERSHIP, &m, sizeof m) ? -errno : 0;
}

struct sockopt {
	const char *step; /* NULL: the end */
	int level, name;
	const void *val; /* NULL: not wanted */
	socklen_t len;
};

/* The step is the option's name. */
#define OPTION(level, name, val) #name, level, name, val, sizeof *(val)

static const int enabled = 1;

static int options_set(int fd, const struct sockopt *o, const char **reterr_step)
{
	for (; o->step; o++)
		if (o->val && setsockopt(fd, o->level, o->name, o->val, o->len))
			return *reterr_step = o->step, -errno;
	return 0;
}

/* Makes a socket with its ring and binds it.  The caller closes *ret_fd, also after an error,
 * unless it is -1.  The filter comes before the ring, and the ring before bind(), so that no
 * unfiltered frame gets into the ring.  This filter rejects all frames; member_filter_set()
 * replaces it. */
static int socket_make(const struct afring_config *config, bool loopback, int *ret_fd,
		       struct afring_geometry *g, const char **reterr_step)
{
	/* Protocol 0: receives nothing until bind(). */
	int fd = *ret_fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (fd < 0)
		return *reterr_step = "socket(AF_PACKET)", -errno;

	struct sock_filter reject = BPF_STMT(BPF_RET | BPF_K, 0);
	const struct sock_fprog reject_all = { .len = 1, .filter = &reject };
	static const int version = TPACKET_V3;
	const struct sockopt before_ring[] = {
		{ OPTION(SOL_PACKET, PACKET_VERSION, &version) },
		/* Loopback shows each frame twice, outgoing and incoming. */
		{ OPTION(SOL_PACKET, PACKET_IGNORE_OUTGOING, loopback ? &enabled : NULL) },
		{ OPTION(SOL_SOCKET, SO_ATTACH_FILTER, &reject_all) },
		{ 0 },
	};
	int r = options_set(fd, before_ring, reterr_step);

	if (r < 0)
		return r;
	/* Optional.  Provides gso_size; without it a super-frame counts as one segment.  The kernel
	 * drops a frame whose GSO type this header cannot name, but TCP has no such type
	 * (virtio_net_hdr_from_skb()). */
	g->vnet_hdr = !setsockopt(fd, SOL_PACKET, PACKET_VNET_HDR, &enabled, sizeof(enabled));
	r = ring_make(fd, config, &g->block_nr);
	if (r < 0)
		return *reterr_step = "PACKET_RX_RING", r;

	struct sockaddr_ll ll = { .sll_family = AF_PACKET,
				  .sll_protocol =
					  htons(ETH_P_ALL), /* any other misses outgoing frames */
				  .sll_ifindex = config->ifindex };

	if (bind(fd, (struct sockaddr *)&ll, sizeof(ll)) < 0)
		return *reterr_step = "bind", -errno;

	*reterr_step = "PACKET_ADD_MEMBERSHIP";
	return config->promiscuous && !g->shared ? afring_promiscuous(fd, config->ifindex) : 0;
}

/* ---- blocks ---- */

static struct tpacket_block_desc *block_at(const struct afring *a, uint32_t i)
{
	return (struct tpacket_block_desc *)(a->map + (size_t)i * a->g.block_size);
}

/* The owner of a block is in block_status, which only these two functions access.  Acquire: the
 * kernel writes the frames before it sets USER.  Release: we read the frames before the kernel may
 * write there again.  Return blocks in ring order: the kernel waits only for the next one, and
 * drops frames meanwhile. */
static bool block_is_ours(const struct tpacket_block_desc *b)
{
	return __atomic_load_n(&b->hdr.bh1.block_status, __ATOMIC_ACQUIRE) & TP_STATUS_USER;
}

static void block_give_back(struct tpacket_block_desc *b)
{
	__atomic_store_n(&b->hdr.bh1.block_status, TP_STATUS_KERNEL, __ATOMIC_RELEASE);
}

static uint32_t block_after(const struct afring *a, uint32_t i)
{
	return i + 1 == a->g.block_nr ? 0 : i + 1;
}

/* Starts reading block a->at, which is ours. */
static void block_hold(struct afring *a)
{
	const struct tpacket_block_desc *b = block_at(a, a->at);

	a->held = true;
	a->left = b->hdr.bh1.num_pkts;
	a->offset = b->hdr.bh1.offset_to_first_pkt;
	a->position = (struct source_position){ b->hdr.bh1.seq_num, a->at, 0 };
}

/* Returns the held block and takes the next one; false: the kernel still has it. */
static bool block_take(struct afring *a)
{
	if (a->held) {
		block_give_back(block_at(a, a->at));
		a->held = false;
		a->at = block_after(a, a->at);
	}
	if (!block_is_ours(block_at(a, a->at)))
		return false;
	block_hold(a);
	return true;
}

/* The oldest block in a ring that may have been in use.  The kernel numbers blocks when it opens
 * them, so the highest number is the newest, and the blocks not returned are right before it.  In a
 * full ring these are all blocks, and the oldest one follows the newest. */
static uint32_t block_oldest(const struct afring *a)
{
	uint32_t at = 0, nr = a->g.block_nr;
	uint64_t newest = 0;

	for (uint32_t i = 0; i < nr; i++) {
		/* Acquire: if we see a number, we also see the status of the block before. */
		uint64_t seq = __atomic_load_n(&block_at(a, i)->hdr.bh1.seq_num, __ATOMIC_ACQUIRE);

		if (seq > newest) {
			newest = seq;
			at = i;
		}
	}
	for (uint32_t n = 1; n < nr; n++) {
		uint32_t before = at ? at - 1 : nr - 1;

		if (!block_is_ours(block_at(a, before)))
			break;
		at = before;
	}
	return at;
}

/* ---- frames ---- */

/* Payload per segment of a TCP super-frame, from its virtio_net_hdr; 0: not a super-frame. */
static uint32_t gso_size_before(const uint8_t *frame)
{
	struct virtio_net_hdr vnet; /* native byte order: the legacy layout (vio_le()) */

	memcpy(&vnet, frame - sizeof(vnet), sizeof(vnet));
	uint8_t type = vnet.gso_type & ~VIRTIO_NET_HDR_GSO_ECN;
	bool tcp = type == VIRTIO_NET_HDR_GSO_TCPV4 || type == VIRTIO_NET_HDR_GSO_TCPV6;

	return tcp ? vnet.gso_size : 0;
}

/* Where the kernel says which interface a frame is of: after the header, before the frame. */
static const struct sockaddr_ll *frame_from(const struct tpacket3_hdr *h)
{
	return (const struct sockaddr_ll *)((const uint8_t *)h + TPACKET_ALIGN(sizeof(*h)));
}

/* Is the checksum neither verified by device or kernel, nor still to be filled in? */
static bool is_unverified(const struct tpacket3_hdr *h)
{
	return !(h->tp_status & (TP_STATUS_CSUMNOTREADY | TP_STATUS_CSUM_VALID)) &&
	       h->tp_mac >= TPACKET3_HDRLEN && frame_from(h)->sll_pkttype != PACKET_OUTGOING;
}

/* The next frame of the held block.  An offset that leads out of the block ends it: we do not trust
 * the kernel that far. */
static bool frame_take(struct afring *a, struct frame *ret)
{
	uint64_t size = a->g.block_size, at = a->offset;
	size_t before = sizeof(struct tpacket3_hdr) + sizeof(struct virtio_net_hdr);

	if (!a->left)
		return false;
	a->left--;
	a->position.frames++;
	if (at % FRAME_ALIGN || at + before > size)
		goto corrupt;

	const uint8_t *p = (const uint8_t *)block_at(a, a->at) + at;
	const struct tpacket3_hdr *h = (const struct tpacket3_hdr *)p;

	if (h->tp_mac < before || at + h->tp_mac + h->tp_snaplen > size ||
	    h->tp_snaplen > h->tp_len)
		goto corrupt;
	a->offset = at + h->tp_next_offset;
	if (!h->tp_next_offset) /* the last one */
		a->left = 0;
	*ret = (struct frame){
		.data = p + h->tp_mac,
		.caplen = h->tp_snaplen,
		.len = h->tp_len,
		.ts_ns = h->tp_sec * UINT64_C(1000000000) + h->tp_nsec,
		.iface = unlikely(a->g.shared) && h->tp_mac >= TPACKET3_HDRLEN
				 ? (uint32_t)frame_from(h)->sll_ifindex
				 : 0,
		.gso_size = a->g.vnet_hdr ? gso_size_before(p + h->tp_mac) : 0,
		.vlan_tci = (uint16_t)h->hv1.tp_vlan_tci,
		.has_vlan = !!(h->tp_status & TP_STATUS_VLAN_VALID),
		.link = a->g.link,
		.unverified = is_unverified(h),
	};
	return true;
corrupt:
	a->left = 0;
	return false;
}

/* Continues at @p, saved by a reader that may have ended later.  If it returned that block, the
 * block is the kernel's or has a new number. */
static void block_resume(struct afring *a, const struct source_position *p)
{
	const struct tpacket_block_desc *b = block_at(a, p->block);
	struct frame f;

	a->at = p->block;
	if (!block_is_ours(b) || b->hdr.bh1.seq_num != p->block_seq) {
		a->at = block_after(a, a->at);
		a->position = *p;
		return;
	}
	block_hold(a);
	while (a->position.frames < p->frames && frame_take(a, &f))
		;
	a->position.frames = p->frames;
}

/* ---- the source ---- */

static struct afring *afring_of(struct source *s)
{
	return (struct afring *)s;
}

static void afring_position(const struct source *s, struct source_position *ret)
{
	*ret = ((const struct afring *)s)->position;
}

/* No frame is ready: 0, or the socket's error.  Reading the error clears it; otherwise poll() would
 * return at once for ever. */
static int error_take(struct afring *a)
{
	int err = 0;
	socklen_t n = sizeof(err);
	struct sockaddr_ll ll;

	if (getsockopt(a->fd, SOL_SOCKET, SO_ERROR, &err, &n) < 0)
		return -errno;
	if (err == ENETDOWN)
		a->was_down = true;
	/* The kernel sets the index to -1 when the interface is removed (packet_notifier()). */
	n = sizeof(ll);
	if (a->was_down && !getsockname(a->fd, (struct sockaddr *)&ll, &n) && ll.sll_ifindex == -1)
		return -ENODEV;
	return -err;
}

static int afring_next(struct source *s, struct frame *ret, unsigned max)
{
	struct afring *a = afring_of(s);
	unsigned n = 0;

	do {
		while (n < max && frame_take(a, &ret[n]))
			n++;
	} while (!n && max && block_take(a));
	return n || !max ? (int)n : error_take(a);
}

_Static_assert(sizeof(struct source_counts) == sizeof(struct tpacket_stats_v3) &&
		       offsetof(struct source_counts, drops) ==
			       offsetof(struct tpacket_stats_v3, tp_drops) &&
		       offsetof(struct source_counts, freezes) ==
			       offsetof(struct tpacket_stats_v3, tp_freeze_q_cnt),
	       "source.h");

static int afring_take_counts(struct source *s, struct source_counts *ret)
{
	socklen_t n = sizeof(*ret);

	return getsockopt(afring_of(s)->fd, SOL_PACKET, PACKET_STATISTICS, ret, &n) ? -errno : 0;
}

static int afring_stats(struct source *s, struct source_stats *ret)
{
	struct afring *a = afring_of(s);
	struct source_counts c;
	int r = afring_take_counts(s, &c);

	if (r < 0)
		return r;
	a->total.packets += c.packets - c.drops;
	a->total.drops += c.drops;
	a->total.freezes += c.freezes;
	*ret = a->total;
	return 0;
}

static const char *afring_iface(struct source *s, unsigned index)
{
	return index ? "" : afring_of(s)->g.ifname;
}

static int afring_fd(struct source *s)
{
	return afring_of(s)->fd;
}

static void afring_free(struct source *s)
{
	struct afring *a = afring_of(s);

	munmap(a->map, (size_t)a->g.block_size * a->g.block_nr);
	close(a->fd);
	free(a);
}

static const struct source_ops afring_ops = { .next = afring_next,
					      .stats = afring_stats,
					      .iface = afring_iface,
					      .fd = afring_fd,
					      .free = afring_free,
					      .position = afring_position,
					      .take_counts = afring_take_counts };

int afring_map(int fd, const struct afring_geometry *geometry, const struct source_position *from,
	       struct source **ret)
{
	if (!ring_size_valid(geometry->block_size, geometry->block_nr) ||
	    geometry->link >= LINK_TYPES ||
	    !memchr(geometry->ifname, 0, sizeof(geometry->ifname)) ||
	    (from && from->block >= geometry->block_nr))
		return -EINVAL;

	struct afring *a = malloc(sizeof(*a));

	if (!a)
		return -ENOMEM;
	*a = (struct afring){ .source = { &afring_ops }, .fd = fd, .g = *geometry };
	a->map = mmap(NULL, (size_t)a->g.block_size * a->g.block_nr, PROT_READ | PROT_WRITE,
		      MAP_SHARED, fd, 0);
	if (a->map == MAP_FAILED) {
		free(a); /* keeps errno */
		return -errno;
	}
	if (from && from->block_seq)
		block_resume(a, from);
	else
		a->at = block_oldest(a);
	*ret = &a->source;
	return 0;
}

/* ---- rings that share an interface ---- */

/* The @first member creates the group, the others join it.  A group's number may be 0: that of the
 * first one since the machine started. */
static int group_join(int fd, bool first, bool by_program, uint16_t *group,
		      const char **reterr_step)
{
	unsigned flags = by_program ? PACKET_FANOUT_EBPF : PACKET_FANOUT_HASH;
	unsigned arg = (flags | (first ? PACKET_FANOUT_FLAG_UNIQUEID : 0)) << 16 | *group;
	socklen_t n = sizeof(arg);

	*reterr_step = "PACKET_FANOUT";
	if (setsockopt(fd, SOL_PACKET, PACKET_FANOUT, &arg, sizeof(arg)) < 0 ||
	    getsockopt(fd, SOL_PACKET, PACKET_FANOUT, &arg, &n) < 0)
		return -errno;
	*group = (uint16_t)arg;
	return 0;
}

/* Fills fd[], which holds -1, with sockets of one group. */
static int group_make(const struct afring_config *config, unsigned n, int program, bool loopback,
		      int fd[], struct afring_geometry g[], const char **reterr_step)
{
	const struct sockopt assign[] = {
		{ OPTION(SOL_PACKET, PACKET_FANOUT_DATA, program >= 0 ? &program : NULL) },
		{ 0 },
	};
	uint16_t group = 0;
	int r = 0;

	for (unsigned i = 0; i < n && r >= 0; i++) {
		r = socket_make(config, loopback, &fd[i], &g[i], reterr_step);
		if (r >= 0 && n > 1)
			r = group_join(fd[i], i == 0, program >= 0, &group, reterr_step);
	}
	return r < 0 ? r : options_set(fd[0], assign, reterr_step);
}

/* Rejects outgoing frames of loopback, which are seen again as incoming ones.  The hook of a group
 * ignores PACKET_IGNORE_OUTGOING (fanout_add()).  Returns the number of instructions. */
static unsigned reject_outgoing(struct sock_filter *insns)
{
	const struct sock_filter program[] = {
		BPF_STMT(BPF_LD | BPF_B | BPF_ABS, (uint32_t)(SKF_AD_OFF + SKF_AD_PKTTYPE)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, PACKET_OUTGOING, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, 0),
	};

	memcpy(insns, program, sizeof program);
	return ARRAY_SIZE(program);
}

enum { PROLOGUE_MAX = 2 * ARRAY_SIZE(link_types) + 8 };

/* Rejects frames of other kinds of link than @link.  Returns the number of instructions. */
static unsigned reject_others(int link, struct sock_filter *insns)
{
	unsigned n = 0, loopback;

	insns[n++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_H | BPF_ABS,
						  (uint32_t)(SKF_AD_OFF + SKF_AD_HATYPE));
	for (size_t i = 0; i < ARRAY_SIZE(link_types); i++)
		if (link_types[i].link == link)
			insns[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K,
								  link_types[i].arphrd, 0, 0);
	for (unsigned i = 1; i < n; i++)
		insns[i].jt = (uint8_t)(n - i); /* over the others and the return */
	insns[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, 0);
	if (link != LINK_ETHERNET)
		return n;
	loopback = n++;
	n += reject_outgoing(insns + n);
	insns[loopback] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, ARPHRD_LOOPBACK,
						       0, (uint8_t)(n - loopback - 1));
	return n;
}

/* Sets the filter of member @i. */
static int member_filter_set(int fd, const struct afring_config *config, unsigned i, bool loopback,
			     const char **reterr_step)
{
	const int *program = config->programs ? &config->programs[i] : NULL;
	struct sock_filter insns[PROLOGUE_MAX + BPF_MAXINSNS];
	unsigned n = !config->ifindex ? reject_others(config->link, insns)
		     : loopback	      ? reject_outgoing(insns)
				      : 0;
	struct sock_fprog filter = { .len = (unsigned short)(n + config->filter.len),
				     .filter = insns };
	const struct sockopt options[] = {
		{ OPTION(SOL_SOCKET, SO_ATTACH_FILTER, program ? NULL : &filter) },
		{ OPTION(SOL_SOCKET, SO_ATTACH_BPF, program) },
		/* A process that gets the descriptor cannot remove the filter. */
		{ OPTION(SOL_SOCKET, SO_LOCK_FILTER, &enabled) },
		{ 0 },
	};

	if (!program) {
		if (n + config->filter.len > BPF_MAXINSNS)
			return *reterr_step = "filter", -EINVAL;
		memcpy(insns + n, config->filter.filter, config->filter.len * sizeof(*insns));
	}
	return options_set(fd, options, reterr_step);
}

int afring_socket_group(const struct afring_config *config, unsigned n, int program, int ret_fd[],
			struct afring_geometry ret_geometry[], const char **reterr_step)
{
	struct afring_geometry g = { .block_size = config->block_size };
	int fd[AFRING_GROUP_MAX];

	if (!n || n > AFRING_GROUP_MAX)
		return *reterr_step = "PACKET_FANOUT", -EINVAL;
	if (!ring_size_valid(config->block_size, config->block_nr))
		return *reterr_step = "block size", -EINVAL;
	if (!config->programs && !config->filter.len)
		return *reterr_step = "filter", -EINVAL;
	if (strlen(config->ifname) >= sizeof(g.ifname))
		return *reterr_step = "interface name", -EINVAL;
	strcpy(g.ifname, config->ifname);

	int arphrd = config->ifindex ? afring_arphrd(config->ifindex) : ARPHRD_VOID;

	if (arphrd < 0)
		return *reterr_step = "interface", arphrd;

	int link = config->ifindex ? afring_link_type(arphrd) : config->link;

	if (link < 0)
		return *reterr_step = "link type", link;
	g.link = (uint8_t)link;
	g.shared = !config->ifindex;
	for (unsigned i = 0; i < n; i++) {
		fd[i] = -1;
		ret_geometry[i] = g;
	}

	bool loopback = arphrd == ARPHRD_LOOPBACK;
	int r = group_make(config, n, program, loopback, fd, ret_geometry, reterr_step);

	for (unsigned i = 0; i < n && r >= 0; i++)
		r = member_filter_set(fd[i], config, i, loopback, reterr_step);
	for (unsigned i = 0; i < n; i++)
		if (r >= 0)
			ret_fd[i] = fd[i];
		else if (fd[i] >= 0)
			close(fd[i]);
	return r;
}

int afring_socket(const struct afring_config *config, struct afring_geometry *ret_geometry,
		  const char **reterr_step)
{
	int fd, r = afring_socket_group(config, 1, -1, &fd, ret_geometry, reterr_step);

	return r < 0 ? r : fd;
}
