/* The ring against the running kernel, in network namespaces of its own: nothing outside is
 * touched, and all of it goes with the process. */
#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <net/if.h> /* before what includes linux/if.h */
#include <linux/if_arp.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/if_tun.h>
#include <linux/tcp.h> /* struct tcp_info, in full */
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include "base/cc.h"
#include "bpf/tcp_filter.h"
#include "source/afring.h"
#include "source/source.h"
#include "tests/support/tap.h"
#include "wire/frame.h"
#include "wire/segment.h"

enum { BLOCK = 1 << 17, BLOCKS = 32, BATCH = 7, QUIET_MS = 60, HEADERS_MAX = 14 + 40 + 60 };

/* ---- faults: stands before the libc function for the whole program ---- */

static struct {
	int option, err;      /* this option is refused with that */
	unsigned most_blocks; /* rings of more are refused with ENOMEM, if not 0 */
} fault;

int setsockopt(int fd, int level, int name, const void *val, socklen_t len)
{
	if (level == SOL_PACKET && name == PACKET_RX_RING && fault.most_blocks &&
	    ((const struct tpacket_req3 *)val)->tp_block_nr > fault.most_blocks)
		return errno = ENOMEM, -1;
	if (fault.option && name == fault.option)
		return errno = fault.err, -1;
	return (int)syscall(SYS_setsockopt, fd, level, name, val, len);
}

/* ---- namespaces and interfaces ---- */

static int ns_a, ns_b; /* we are in A; B is deferred open by a child */
static pid_t ns_b_pid;

static bool sh(const char *command)
{
	if (!system(command))
		return true;
	printf("# failed: %s\n", command);
	return false;
}

static void enter(int ns)
{
	if (setns(ns, CLONE_NEWNET)) {
		perror("setns");
		exit(EXIT_FAILURE);
	}
}

/* Two fresh namespaces; NULL or what is missing. */
static const char *namespaces_make(void)
{
	int ready[2];
	char path[64], c;

	if (unshare(CLONE_NEWNET))
		return "needs CAP_SYS_ADMIN for network namespaces of its own";
	ns_a = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
	if (system("ip link set lo up"))
		return "needs CAP_NET_ADMIN and the ip command";
	if (ns_a < 0 || pipe(ready))
		return "no /proc, or no pipe";
	ns_b_pid = fork();
	if (!ns_b_pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (unshare(CLONE_NEWNET) || system("ip link set lo up") ||
		    write(ready[1], "", 1) != 1)
			_exit(1);
		pause();
	}
	close(ready[1]);
	if (read(ready[0], &c, 1) != 1)
		return "no second network namespace";
	snprintf(path, sizeof(path), "/proc/%d/ns/net", (int)ns_b_pid);
	ns_b = open(path, O_RDONLY | O_CLOEXEC);
	return ns_b < 0 ? "no second network namespace" : NULL;
}

/* va in A is 10.9.0.1 and fd09::1, vb in B is .2 and ::2. */
static bool veth_make(void)
{
	char command[256];
	bool good;

	snprintf(command, sizeof(command),
		 "ip link add va type veth peer name vb netns %d && ip addr add 10.9.0.1/24 dev va"
		 " && ip addr add fd09::1/64 dev va nodad && ip link set va up",
		 (int)ns_b_pid);
	good = sh(command);
	enter(ns_b);
	good = good && sh("ip addr add 10.9.0.2/24 dev vb && ip addr add fd09::2/64 dev vb nodad"
			  " && ip link set vb up");
	enter(ns_a);
	return good;
}

/* Descriptor of a new tap (IFF_TAP) or tun (IFF_TUN) interface, up. */
static int tun_make(const char *name, short kind)
{
	struct ifreq ifr = { .ifr_flags = (short)(kind | IFF_NO_PI) };
	char command[128];
	int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC | O_NONBLOCK);

	strncpy(ifr.ifr_name, name, sizeof(ifr.ifr_name) - 1);
	snprintf(command, sizeof(command), "ip link set %s up", name);
	if (fd >= 0 && (ioctl(fd, TUNSETIFF, &ifr) || !sh(command))) {
		close(fd);
		fd = -1;
	}
	return fd;
}

/* ---- rings ---- */

static struct sock_filter insns[TCP_FILTER_MAX];

static int source_open_pair(const struct afring_config *c, struct source *ret[2],
			    const char **reterr_step)
{
	struct afring_geometry g[2];
	int fd[2], r = afring_socket_group(c, 2, -1, fd, g, reterr_step);

	for (unsigned i = 0; i < 2 && r >= 0; i++)
		r = afring_map(fd[i], &g[i], NULL, &ret[i]);
	return r;
}

static struct afring_config config_for(const char *ifname)
{
	int ifindex = (int)if_nametoindex(ifname);
	int link = afring_link_type(afring_arphrd(ifindex));
	int n = tcp_filter_build(&(struct tcp_filter_spec){ .link = (enum link_type)link }, insns,
				 TCP_FILTER_MAX);

	return (struct afring_config){ .ifindex = ifindex,
				       .ifname = ifname,
				       .block_size = BLOCK,
				       .block_nr = BLOCKS,
				       .block_timeout_ms = 5,
				       .filter = { (unsigned short)n, insns } };
}

/* afring_socket() and afring_map(). */
static int source_open(const struct afring_config *config, struct source **ret,
		       const char **reterr_step)
{
	struct afring_geometry g;
	int fd = afring_socket(config, &g, reterr_step), r;

	if (fd < 0)
		return fd;
	r = afring_map(fd, &g, NULL, ret);
	if (r < 0)
		close(fd);
	return r;
}

static struct source *ring_open(const char *ifname)
{
	struct afring_config c = config_for(ifname);
	struct source *s = NULL;
	const char *step = "";
	int r = source_open(&c, &s, &step);

	if (r < 0) {
		printf("# cannot open %s: %s: %s\n", ifname, step, strerror(-r));
		exit(EXIT_FAILURE);
	}
	return s;
}

/* What came out of a ring. */
struct seen {
	unsigned frames, not_tcp, from_lo, cut, syn, synack, fin, super, netdown, gone;
	unsigned super_len; /* the longest frame with a gso_size */
	unsigned wire_segs, caplen_max;
	uint64_t payload;
	uint32_t first_seq, last_seq;
	bool in_order; /* sequence numbers went up by one */
	struct frame frame;
	struct segment seg; /* the last; what they borrow is gone */
	uint8_t bytes[256];
};

static void look(struct seen *s, const struct frame *f)
{
	struct segment seg;
	enum frame_verdict v = frame_decode(f, &seg);

	s->caplen_max = f->caplen > s->caplen_max ? f->caplen : s->caplen_max;
	s->not_tcp += !frame_claims_tcp(v);
	s->cut += f->caplen > f->len;
	if (v == FRAME_TCP) {
		s->syn += (seg.flags & (TCP_SYN | TCP_ACK)) == TCP_SYN;
		s->synack += (seg.flags & (TCP_SYN | TCP_ACK)) == (TCP_SYN | TCP_ACK);
		s->fin += !!(seg.flags & TCP_FIN);
		s->payload += seg.payload_len;
		s->from_lo += seg.src[0] == 127;
		s->wire_segs += seg.wire_segs;
		if (f->gso_size && seg.wire_segs > 1) {
			s->super++;
			s->super_len = f->len > s->super_len ? f->len : s->super_len;
		}
		s->in_order = s->frames ? s->in_order && seg.seq == s->last_seq + 1 : true;
		if (!s->frames)
			s->first_seq = seg.seq;
		s->last_seq = seg.seq;
		s->seg = seg;
	}
	s->frame = *f;
	memcpy(s->bytes, f->data, f->caplen < sizeof(s->bytes) ? f->caplen : sizeof(s->bytes));
	s->frames++;
}

/* Reads until nothing has come for QUIET_MS. */
static void drain(struct source *src, struct seen *s)
{
	struct frame f[BATCH];

	for (;;) {
		int n = source_next(src, f, BATCH);

		for (int i = 0; i < n; i++)
			look(s, &f[i]);
		s->netdown += n == -ENETDOWN;
		s->gone += n == -ENODEV;
		if (n > 0 || n == -ENETDOWN)
			continue;
		struct pollfd p = { .fd = source_fd(src), .events = POLLIN };

		if (n < 0 || poll(&p, 1, QUIET_MS) <= 0)
			return;
	}
}

/* ---- traffic ---- */

static void *read_all(void *arg)
{
	static char room[1 << 16];
	int fd = *(int *)arg;
	size_t total = 0;
	ssize_t n;

	while ((n = read(fd, room, sizeof(room))) > 0)
		total += (size_t)n;
	close(fd);
	return (void *)total;
}

/* Octets that exchange() sent again: on a busy machine the kernel takes a late ACK for a loss. */
static uint64_t resent;

/* A whole connection from namespace @client to @addr in @server that carries @octets and is
 * closed by both; false: it was not so. */
static bool exchange(int server, int client, const char *addr, size_t octets)
{
	bool v6 = strchr(addr, ':');
	struct sockaddr_storage ss = { .ss_family = v6 ? AF_INET6 : AF_INET };
	socklen_t len = v6 ? sizeof(struct sockaddr_in6) : sizeof(struct sockaddr_in);
	static char data[1 << 16];
	void *got = NULL;
	pthread_t reader;

	inet_pton(ss.ss_family, addr,
		  v6 ? (void *)&((struct sockaddr_in6 *)&ss)->sin6_addr
		     : (void *)&((struct sockaddr_in *)&ss)->sin_addr);
	enter(server);
	int l = socket(ss.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	bool good = !bind(l, (struct sockaddr *)&ss, len) && !listen(l, 1) &&
		    !getsockname(l, (struct sockaddr *)&ss, &len);
	enter(client);
	int c = socket(ss.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);

	good = good && !connect(c, (struct sockaddr *)&ss, len);
	enter(ns_a);
	int a = good ? accept(l, NULL, NULL) : -1;

	if (a < 0 || pthread_create(&reader, NULL, read_all, &a)) {
		perror("# exchange");
		close(c);
		close(l);
		return false;
	}
	for (size_t left = octets; left;) {
		ssize_t n = write(c, data, left < sizeof(data) ? left : sizeof(data));

		if (n <= 0)
			break;
		left -= (size_t)n;
	}
	shutdown(c, SHUT_WR);
	pthread_join(reader, &got);
	while (read(c, data, sizeof(data)) > 0)
		;
	struct tcp_info info = { 0 };

	getsockopt(c, IPPROTO_TCP, TCP_INFO, &info, &(socklen_t){ sizeof info });
	resent += info.tcpi_bytes_retrans;
	close(c);
	close(l);
	return (size_t)got == octets;
}

/* Ethernet (none if @raw), @tags, IPv4, TCP; without a receiver, so there is no answer. */
static size_t build_tcp(uint8_t *p, bool raw, const char *tags, size_t tags_len, uint32_t seq)
{
	size_t n = 0;

	if (!raw) {
		memcpy(p, "\2\0\0\0\0\1\2\0\0\0\0\2", 12);
		memcpy(p + 12, tags, tags_len);
		memcpy(p + 12 + tags_len, "\x08\0", 2);
		n = 14 + tags_len;
	}
	memcpy(p + n, "\x45\0\0\x2c\0\1\x40\0\x40\6\0\0\xc6\x33\x64\1\xc6\x33\x64\2", 20);
	memcpy(p + n + 20, "\x9c\x40\1\xbb\0\0\0\0\0\0\0\0\x50\x10\xff\xff\0\0\0\0data", 24);
	seq = htonl(seq);
	memcpy(p + n + 24, &seq, 4);
	return n + 44;
}

/* Frames numbered @from up to @to - 1 arrive at a tap. */
static bool interface_feed(int tap, uint32_t from, uint32_t to)
{
	uint8_t p[128];

	for (; from < to; from++) {
		size_t n = build_tcp(p, false, "", 0, from);

		if (write(tap, p, n) != (ssize_t)n)
			return false;
	}
	return true;
}

/* ---- tests ---- */

static void test_link_types(void)
{
	ok(afring_link_type(ARPHRD_ETHER) == LINK_ETHERNET &&
		   afring_link_type(ARPHRD_LOOPBACK) == LINK_ETHERNET,
	   "Ethernet and loopback have an Ethernet header");
	ok(afring_link_type(ARPHRD_NONE) == LINK_RAW_IP &&
		   afring_link_type(ARPHRD_SIT) == LINK_RAW_IP &&
		   afring_link_type(ARPHRD_PPP) == LINK_RAW_IP,
	   "tunnels have none");
	ok(afring_link_type(ARPHRD_IEEE80211_RADIOTAP) == -EPFNOSUPPORT,
	   "radiotap is -EPFNOSUPPORT");
	ok(afring_arphrd((int)if_nametoindex("lo")) == ARPHRD_LOOPBACK &&
		   afring_arphrd((int)if_nametoindex("va")) == ARPHRD_ETHER,
	   "hardware types of lo and a veth");
	ok(afring_arphrd(9999) == -ENODEV, "no such interface: -ENODEV");
}

static int open_error(const struct afring_config *c, const char **ret_step)
{
	struct source *s = NULL;
	int r;

	*ret_step = "";
	r = source_open(c, &s, ret_step);
	source_free(s);
	return r;
}

static int next_fd(void)
{
	int fd = dup(0);

	close(fd);
	return fd;
}

static void test_refusals(void)
{
	struct afring_config good = config_for("lo"), c;
	const char *step;
	int r, fd = next_fd();

	c = good, c.block_size = 3 << 16;
	ok(open_error(&c, &step) == -EINVAL && !strcmp(step, "block size"),
	   "a block size that is no power of two");
	c = good, c.block_size = (unsigned)sysconf(_SC_PAGESIZE) / 2;
	ok(open_error(&c, &step) == -EINVAL && !strcmp(step, "block size"),
	   "a block smaller than a page");
	c = good, c.block_nr = 0;
	ok(open_error(&c, &step) == -EINVAL, "no block");
	c = good, c.filter.len = 0;
	ok(open_error(&c, &step) == -EINVAL && !strcmp(step, "filter"), "no filter");
	c = good, c.ifindex = 9999;
	ok(open_error(&c, &step) == -ENODEV && !strcmp(step, "interface"), "no interface");

	fault.option = SO_ATTACH_FILTER, fault.err = EACCES;
	r = open_error(&good, &step);
	fault.option = 0;
	ok(r == -EACCES && !strcmp(step, "SO_ATTACH_FILTER"),
	   "a refused option: its errno, its name");
	fault.most_blocks = 1;
	r = open_error(&good, &step);
	fault.most_blocks = 0;
	ok(r == -ENOMEM && !strcmp(step, "PACKET_RX_RING"), "no memory for the smallest ring");
	ok(next_fd() == fd, "failures leave no descriptor open");
}

static void test_fallbacks(int tap)
{
	struct afring_config c = config_for("tap0");
	struct afring_geometry g;
	struct source *s = NULL;
	struct seen seen = { 0 };
	const char *step;

	fault.most_blocks = 10;
	int fd = afring_socket(&c, &g, &step);

	fault.most_blocks = 0;
	ok(fd >= 0 && g.block_nr == 8, "no memory for 32 blocks, nor for 16: 8");
	ok(fd >= 0 && !afring_map(fd, &g, NULL, &s) && interface_feed(tap, 0, 3000),
	   "and that ring maps");
	drain(s, &seen);
	ok(seen.frames == 3000 && seen.in_order, "and delivers");
	source_free(s);

	fault.option = PACKET_VNET_HDR, fault.err = EINVAL;
	s = ring_open("tap0");
	fault.option = 0;
	seen = (struct seen){ 0 };
	interface_feed(tap, 0, 10);
	drain(s, &seen);
	ok(seen.frames == 10 && seen.in_order && !seen.frame.gso_size,
	   "a kernel that refuses PACKET_VNET_HDR: frames all the same");
	source_free(s);
}

static void test_loopback(void)
{
	struct source *s = ring_open("lo");
	struct seen seen = { 0 };

	resent = 0;
	bool good =
		exchange(ns_a, ns_a, "127.0.0.1", 300000) && exchange(ns_a, ns_a, "::1", 300000);
	struct source_stats st;

	drain(s, &seen);
	ok(good && seen.syn == 2 && seen.synack == 2 && seen.fin == 4,
	   "lo: an IPv4 and an IPv6 connection, each frame once (%u SYN, %u SYN-ACK, %u FIN)",
	   seen.syn, seen.synack, seen.fin);
	ok(seen.payload == 600000 + resent, "lo: all octets counted (%llu)",
	   (unsigned long long)seen.payload);
	ok(!source_stats(s, &st) && st.packets == seen.frames && !st.drops,
	   "statistics count what was delivered (%u frames)", seen.frames);
	ok(!strcmp(source_iface(s, 0), "lo") && !*source_iface(s, 1), "the interface's name");
	source_free(s);
}

static void test_veth(void)
{
	struct source *a = ring_open("va"), *b;
	struct seen seen = { 0 };
	struct timespec t0, t1;

	enter(ns_b);
	b = ring_open("vb");
	enter(ns_a);
	clock_gettime(CLOCK_REALTIME, &t0);
	resent = 0;
	bool good = exchange(ns_b, ns_a, "10.9.0.2", 1 << 20);

	clock_gettime(CLOCK_REALTIME, &t1);
	drain(a, &seen);
	ok(good && seen.syn == 1 && seen.synack == 1 && seen.fin == 2 &&
		   seen.payload == (1 << 20) + resent,
	   "veth: a connection of 1 MiB, both directions, no octet missed");
	ok(seen.super && seen.super_len > 1514 && seen.wire_segs >= (1 << 20) / 1460,
	   "veth: super-frames of up to %u octets say their segment size, %u frames for %u "
	   "segments",
	   seen.super_len, seen.frames, seen.wire_segs);
	ok(seen.caplen_max <= HEADERS_MAX - 20 && !seen.cut, "IPv4: at most %u octets are copied",
	   seen.caplen_max);
	ok(seen.frame.ts_ns >= (uint64_t)t0.tv_sec * 1000000000 + (uint64_t)t0.tv_nsec &&
		   seen.frame.ts_ns <= (uint64_t)t1.tv_sec * 1000000000 + (uint64_t)t1.tv_nsec,
	   "the time of a frame is when it was captured");

	seen = (struct seen){ 0 };
	drain(b, &seen);
	ok(seen.syn == 1 && seen.fin == 2 && seen.payload == (1 << 20) + resent && seen.super,
	   "the same at the other end");
	resent = 0;
	good = exchange(ns_a, ns_b, "fd09::1", 1 << 20);
	seen = (struct seen){ 0 };
	drain(b, &seen);
	ok(good && seen.syn == 1 && seen.fin == 2 && seen.payload == (1 << 20) + resent &&
		   seen.super && seen.caplen_max <= HEADERS_MAX && seen.seg.ip_v == 6,
	   "IPv6, the other way: at most %u octets are copied", seen.caplen_max);
	source_free(a);
	source_free(b);
}

static atomic_bool flooding;

/* Refused connections on A's loopback. */
static void *flood_lo(void *arg)
{
	struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons(9) };

	inet_pton(AF_INET, "127.0.0.1", &to.sin_addr);
	while (flooding) {
		int fd = socket(AF_INET, SOCK_STREAM, 0);

		connect(fd, (struct sockaddr *)&to, sizeof(to));
		close(fd);
	}
	return arg;
}

/* UDP and ARP from B to A as fast as they go. */
static void *flood_va(void *arg)
{
	struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons(9) };
	struct sockaddr_ll ll = { .sll_family = AF_PACKET,
				  .sll_protocol = htons(ETH_P_ARP),
				  .sll_halen = 6,
				  .sll_addr = { 255, 255, 255, 255, 255, 255 } };
	static const uint8_t arp[28] = { 0,  1, 8, 0,  6, 4, 0, 1, 2, 0, 0,  0, 0, 9,
					 10, 9, 0, 77, 0, 0, 0, 0, 0, 0, 10, 9, 0, 1 };

	inet_pton(AF_INET, "10.9.0.1", &to.sin_addr);
	enter(ns_b); /* this thread only */
	ll.sll_ifindex = (int)if_nametoindex("vb");
	int udp = socket(AF_INET, SOCK_DGRAM, 0), raw = socket(AF_PACKET, SOCK_DGRAM, 0);

	while (flooding) {
		sendto(udp, "x", 1, 0, (struct sockaddr *)&to, sizeof(to));
		sendto(raw, arp, sizeof(arp), 0, (struct sockaddr *)&ll, sizeof(ll));
	}
	close(udp);
	close(raw);
	return arg;
}

static unsigned long rx_packets(const char *ifname)
{
	char path[128];
	unsigned long n = 0;

	/* /sys shows the namespace it was mounted in; /proc shows the reader's. */
	FILE *f = fopen("/proc/thread-self/net/dev", "r");

	while (f && fgets(path, sizeof(path), f)) {
		char *at = strstr(path, ifname);

		if (at && at[strlen(ifname)] == ':')
			sscanf(at + strlen(ifname) + 1, "%*u %lu", &n);
	}
	if (f)
		fclose(f);
	return n;
}

static void test_filter_first(void)
{
	enum { RINGS = 15 };
	struct seen seen = { 0 };
	pthread_t va, lo;
	unsigned long before = rx_packets("va"), before_lo = rx_packets("lo");

	flooding = true;
	if (!ok(!pthread_create(&va, NULL, flood_va, NULL) &&
			!pthread_create(&lo, NULL, flood_lo, NULL),
		"a flood of UDP and ARP, and one of TCP on another interface"))
		return;
	for (int i = 0; i < RINGS; i++) {
		struct source *s = ring_open("va");

		exchange(ns_b, ns_a, "10.9.0.2", 1000);
		drain(s, &seen);
		source_free(s);
	}
	flooding = false;
	pthread_join(va, NULL);
	pthread_join(lo, NULL);
	unsigned long flooded = rx_packets("va") - before, on_lo = rx_packets("lo") - before_lo;

	ok(flooded > 1000 && seen.syn == RINGS && seen.frames && !seen.not_tcp,
	   "%d rings opened within: %u frames of TCP, none of %lu others", RINGS, seen.frames,
	   flooded);
	ok(on_lo > 1000 && !seen.from_lo, "nor of %lu frames of TCP on lo", on_lo);
}

static void test_filter_locked(void)
{
	struct source *s = ring_open("va");
	int r = setsockopt(source_fd(s), SOL_SOCKET, SO_DETACH_FILTER, &(int){ 0 }, sizeof(int));

	ok(r == -1 && errno == EPERM, "the filter cannot be taken off again");
	source_free(s);
}

static void test_promiscuous(void)
{
	struct afring_config c = config_for("va");
	struct source *s = NULL;
	const char *step;

	c.promiscuous = true;
	ok(sh("ip -d link show va | grep -q 'promiscuity 0 '") && !source_open(&c, &s, &step) &&
		   sh("ip -d link show va | grep -q 'promiscuity 1 '"),
	   "promiscuous mode, if wanted");
	source_free(s);
	ok(sh("ip -d link show va | grep -q 'promiscuity 0 '"), "as long as the source lives");
}

static void test_vlan(int tap)
{
	struct source *s = ring_open("tap0");
	struct seen seen = { 0 };
	uint8_t p[128];
	size_t n = build_tcp(p, false, "\x81\0\x60\x64", 4, 1);

	ok(write(tap, p, n) == (ssize_t)n, "a frame with tag 100 arrives at a tap");
	drain(s, &seen);
	ok(seen.frames == 1 && seen.frame.has_vlan && seen.frame.vlan_tci == 0x6064 &&
		   !memcmp(seen.bytes + 12, "\x08\0\x45", 3) && seen.frame.len == n - 4,
	   "its tag is in the metadata and not in the frame");
	ok(seen.seg.nvlan == 1 && seen.seg.vlan[0] == 100, "and is decoded");

	seen = (struct seen){ 0 };
	n = build_tcp(p, false, "\x88\xa8\0\x07\x81\0\0\x08", 8, 1);
	ok(write(tap, p, n) == (ssize_t)n, "a frame with tags 7 and 8");
	drain(s, &seen);
	ok(seen.frames == 1 && seen.frame.vlan_tci == 7 && seen.seg.nvlan == 2 &&
		   seen.seg.vlan[0] == 7 && seen.seg.vlan[1] == 8 &&
		   !memcmp(seen.bytes + 12, "\x81\0\0\x08\x08\0", 6),
	   "the outer in the metadata, the inner in the frame");

	seen = (struct seen){ 0 };
	n = build_tcp(p, false, "", 0, 1);
	ok(write(tap, p, n) == (ssize_t)n, "a frame without");
	drain(s, &seen);
	ok(seen.frames == 1 && !seen.frame.has_vlan && !seen.seg.nvlan, "has none");
	source_free(s);
}

/* A socket filter that copies @octets of every frame of IPv4: the kernel itself says things in
 * IPv6. */
static int program_load(int octets)
{
	const struct bpf_insn insn[] = {
		{ .code = BPF_LDX | BPF_MEM | BPF_W,
		  .dst_reg = BPF_REG_2,
		  .src_reg = BPF_REG_1,
		  .off = offsetof(struct __sk_buff, protocol) },
		{ .code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = BPF_REG_0, .imm = 0 },
		{ .code = BPF_JMP | BPF_JNE | BPF_K,
		  .dst_reg = BPF_REG_2,
		  .imm = htons(ETH_P_IP),
		  .off = 1 },
		{ .code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = BPF_REG_0, .imm = octets },
		{ .code = BPF_JMP | BPF_EXIT },
	};

	return bpf_prog_load(BPF_PROG_TYPE_SOCKET_FILTER, NULL, "BSD", insn, ARRAY_SIZE(insn),
			     NULL);
}

static void test_group_programs(int tap)
{
	enum { OCTETS = 54, FLOWS = 64 };
	struct afring_config c = config_for("tap0");
	int program[2] = { program_load(OCTETS), program_load(OCTETS + 1) };
	struct source *s[2];
	const char *step = "";
	unsigned all = 0, own = 0;
	uint8_t p[128];

	if (program[0] < 0 || program[1] < 0) {
		tap_skip("eBPF filters of a group", "needs CAP_BPF");
		return;
	}
	c.programs = program;
	c.filter.len = 0;
	int r = source_open_pair(&c, s, &step);

	if (!ok(!r, "two rings share an interface, each with a program (last step: %s)", step))
		return;
	for (unsigned i = 0; i < FLOWS; i++) {
		size_t n = build_tcp(p, false, "", 0, i);

		p[14 + 20 + 1] = (uint8_t)i; /* source port */
		if (write(tap, p, n) != (ssize_t)n)
			break;
	}
	for (unsigned i = 0; i < 2; i++) {
		struct seen seen = { 0 };

		drain(s[i], &seen);
		all += seen.frames;
		own += seen.frames && seen.caplen_max == OCTETS + i;
		source_free(s[i]);
		close(program[i]);
	}
	ok(all == FLOWS && own == 2,
	   "each frame is in one of them, and went through its own program (%u, %u)", all, own);
}

/* Carries packets between two tun interfaces until the process ends. */
static void *carry(void *arg)
{
	const int *fd = arg;
	struct pollfd p[2] = { { .fd = fd[0], .events = POLLIN },
			       { .fd = fd[1], .events = POLLIN } };
	char room[2048];

	while (flooding) {
		poll(p, 2, 50);
		for (int i = 0; i < 2; i++) {
			ssize_t n;

			while ((n = read(fd[i], room, sizeof(room))) > 0)
				if (write(fd[!i], room, (size_t)n) != n)
					break;
		}
	}
	return NULL;
}

static void test_tun(void)
{
	int fd[2];
	struct seen seen = { 0 };
	pthread_t t;

	fd[0] = tun_make("tun0", IFF_TUN);
	enter(ns_b);
	fd[1] = tun_make("tun0", IFF_TUN);
	bool good = fd[1] >= 0 && sh("ip addr add 10.8.0.2/24 dev tun0");

	enter(ns_a);
	good = good && fd[0] >= 0 && sh("ip addr add 10.8.0.1/24 dev tun0");
	flooding = true;
	if (!ok(good && !pthread_create(&t, NULL, carry, fd), "two tun interfaces, tied together"))
		return;
	struct source *s = ring_open("tun0");

	resent = 0;
	good = exchange(ns_b, ns_a, "10.8.0.2", 100000);
	flooding = false;
	pthread_join(t, NULL);
	drain(s, &seen);
	ok(good && seen.syn == 1 && seen.synack == 1 && seen.fin == 2 &&
		   seen.payload == 100000 + resent && !seen.not_tcp &&
		   seen.frame.link == LINK_RAW_IP && seen.bytes[0] >> 4 == 4,
	   "tun: a connection without link headers (%u frames)", seen.frames);
	source_free(s);
	close(fd[0]);
	close(fd[1]);
}

/* Frames that a full ring could not take are reported, each of them. */
static void test_overflow(int tap)
{
	enum { SENT = 20000 };
	struct afring_config c = config_for("tap0");
	struct source *s;
	struct source_stats syn, st;
	struct seen seen = { 0 };
	const char *step;

	c.block_size = 1 << 16;
	c.block_nr = 4;
	ok(!source_open(&c, &s, &step) && interface_feed(tap, 0, SENT / 2) &&
		   !source_stats(s, &syn) && interface_feed(tap, SENT / 2, SENT) &&
		   !source_stats(s, &st),
	   "%d frames to a ring of 256 KiB without a reader", SENT);
	ok(syn.packets + syn.drops == SENT / 2 && syn.drops && st.packets == syn.packets &&
		   st.packets + st.drops == SENT && st.freezes,
	   "%llu packets + %llu drops are all of them, over two readings (%llu freezes)",
	   (unsigned long long)st.packets, (unsigned long long)st.drops,
	   (unsigned long long)st.freezes);
	drain(s, &seen);
	ok(seen.frames == st.packets && seen.in_order && seen.first_seq == 0,
	   "those that it took are delivered, in order");
	seen = (struct seen){ 0 };
	interface_feed(tap, 0, 500);
	drain(s, &seen);
	ok(seen.frames == 500 && seen.in_order, "and the ring continues");
	source_free(s);
}

/* What was lent stays as it is until the next call, whatever comes in meanwhile. */
static void test_loan(int tap)
{
	struct afring_config c = config_for("tap0");
	struct source *s;
	struct frame f[50];
	struct seen seen = { 0 };
	struct pollfd p;
	const char *step;
	unsigned changed = 0;
	int n;

	c.block_size = 1 << 16;
	c.block_nr = 2;
	ok(!source_open(&c, &s, &step) && interface_feed(tap, 0, 50), "50 frames");
	p = (struct pollfd){ .fd = source_fd(s), .events = POLLIN };
	poll(&p, 1, 1000);
	n = source_next(s, f, 50);
	interface_feed(tap, 1000, 5000);
	for (int i = 0; i < n; i++) {
		struct segment seg;

		changed += frame_decode(&f[i], &seg) != FRAME_TCP || seg.seq != (uint32_t)i;
	}
	ok(n > 0 && !changed, "%d lent frames are the same after the ring overflowed", n);
	drain(s, &seen);
	ok(seen.frames > 0, "and the rest follows");

	/* Batches of any size see each frame once; with room for a machine that is busy. */
	source_free(s);
	c.block_nr = 64;
	ok(!source_open(&c, &s, &step), "a ring of %u blocks", c.block_nr);
	seen = (struct seen){ 0 };
	for (uint32_t i = 0; i < 5000; i += 100) {
		interface_feed(tap, i, i + 100);
		while ((n = source_next(s, f, 1 + i / 100)) > 0)
			for (int k = 0; k < n; k++)
				look(&seen, &f[k]);
		usleep(500);
	}
	drain(s, &seen);
	ok(seen.frames == 5000 && seen.in_order, "5000 frames, in batches of 1 to 50, in order");
	ok(source_next(s, f, 0) == 0, "room for none: none");
	source_free(s);
}

static void test_down_up(void)
{
	struct source *s = ring_open("va");
	struct seen seen = { 0 };
	struct pollfd p = { .fd = source_fd(s), .events = POLLIN };
	struct frame f;

	drain(s, &seen);
	ok(poll(&p, 1, 0) == 0 && sh("ip link set va down") && poll(&p, 1, 1000) == 1 &&
		   p.revents & POLLERR,
	   "an interface that goes down wakes poll()");
	ok(source_next(s, &f, 1) == -ENETDOWN && source_next(s, &f, 1) == 0, "-ENETDOWN, once");
	ok(poll(&p, 1, 100) == 0, "then poll() sleeps");

	ok(sh("ip link set va up") && exchange(ns_b, ns_a, "10.9.0.2", 1000), "up again");
	drain(s, &seen);
	ok(seen.syn == 1 && seen.fin == 2 && !seen.netdown && !seen.gone, "frames flow again");

	sh("ip link set va down");
	struct source *late = ring_open("va");

	ok(source_next(late, &f, 1) == -ENETDOWN && source_next(late, &f, 1) == 0,
	   "a ring of an interface that is down says so first");
	sh("ip link set va up");
	exchange(ns_b, ns_a, "10.9.0.2", 1000);
	seen = (struct seen){ 0 };
	drain(late, &seen);
	ok(seen.syn == 1 && seen.fin == 2, "and delivers once it is up");

	/* In this order: late hears of the removal only after -ENETDOWN. */
	sh("ip link set va down");
	ok(source_next(late, &f, 1) == -ENETDOWN, "down");
	ok(sh("ip link del va") && source_next(late, &f, 1) == -ENODEV &&
		   source_next(late, &f, 1) == -ENODEV,
	   "an interface that is gone: -ENODEV, for good");
	seen = (struct seen){ 0 };
	drain(s, &seen);
	ok(seen.gone == 1 && !seen.netdown, "-ENODEV at once if both happened meanwhile");
	p.fd = source_fd(s);
	ok(poll(&p, 1, 100) == 0, "and poll() sleeps");
	source_free(s);
	source_free(late);
}

/* The process that reads has neither privilege nor the interface. */
static void test_unprivileged(int tap)
{
	struct afring_config c = config_for("tap0");
	struct afring_geometry g;
	const char *step;
	int status = -1, fd = afring_socket(&c, &g, &step);

	interface_feed(tap, 0, 100);
	pid_t child = fork();

	if (!child) {
		struct seen seen = { 0 };
		struct source_stats st = { 0 };
		struct source *s;
		int r = 0;

		if (unshare(CLONE_NEWNET) || setgroups(0, NULL) || setresgid(65534, 65534, 65534) ||
		    setresuid(65534, 65534, 65534))
			r |= 1;
		if (socket(AF_PACKET, SOCK_RAW, 0) >= 0 || errno != EPERM)
			r |= 2;
		if (afring_map(fd, &g, NULL, &s))
			_exit(r | 4);
		drain(s, &seen);
		if (seen.frames != 100 || !seen.in_order)
			r |= 8;
		if (source_stats(s, &st) || st.packets != 100)
			r |= 16;
		_exit(r);
	}
	waitpid(child, &status, 0);
	ok(fd >= 0 && status == 0, "a process without capabilities, elsewhere, reads the ring (%x)",
	   (unsigned)status);
	close(fd);
}

static void test_map_again(int tap)
{
	struct afring_config c = config_for("tap0");
	struct afring_geometry g;
	const char *step;
	struct source *s;
	struct frame f;
	struct seen seen = { 0 };
	uint32_t from = 0;

	c.block_size = 1 << 16;
	c.block_nr = 4;
	int fd = afring_socket(&c, &g, &step);

	/* Often enough to begin at each block. */
	for (int i = 0; i < 6; i++, from += 300) {
		interface_feed(tap, from, from + 300);
		if (afring_map(dup(fd), &g, NULL, &s))
			break;
		seen = (struct seen){ 0 };
		drain(s, &seen);
		source_free(s);
		if (seen.first_seq != from || seen.frames != 300 || !seen.in_order)
			break;
	}
	ok(from == 1800, "a ring that is mapped again continues where the last reader stopped");

	interface_feed(tap, from, from + 20000);
	usleep(20000);
	if (afring_map(dup(fd), &g, NULL, &s))
		exit(EXIT_FAILURE);
	int n = source_next(s, &f, 1);

	source_free(s);
	ok(n == 1, "a full ring, and a reader that stops in the middle of a block");
	if (afring_map(dup(fd), &g, NULL, &s))
		exit(EXIT_FAILURE);
	seen = (struct seen){ 0 };
	drain(s, &seen);
	ok(seen.first_seq == from && seen.in_order && seen.frames > 600,
	   "the next one begins with that block, and all the others follow in order (%u frames)",
	   seen.frames);
	source_free(s);

	struct afring_geometry bad = g;

	bad.block_nr *= 2;
	ok(afring_map(fd, &bad, NULL, &s) == -EINVAL, "a ring of another size does not map");
	bad = g;
	memset(bad.ifname, 'x', sizeof(bad.ifname));
	ok(afring_map(fd, &bad, NULL, &s) == -EINVAL, "a name without end neither");
	close(fd);
}

/* A reader that is gone after any number of frames, with or without the block given back: the
 * next one continues after what was kept. */
static void test_position(int tap)
{
	enum { FRAMES = 2500 };
	struct afring_config c = config_for("tap0");
	struct afring_geometry g;
	struct source_position at = { 0 };
	struct source *s;
	struct frame f[50];
	const char *step;
	uint32_t next = 0, random = 7, wrong = 0, lives = 0;

	c.block_size = 1 << 16;
	c.block_nr = 16;
	int fd = afring_socket(&c, &g, &step);

	interface_feed(tap, 0, FRAMES);
	usleep(20000);
	for (int idle = 0; next < FRAMES && idle < 100; lives++) {
		if (afring_map(dup(fd), &g, &at, &s))
			exit(EXIT_FAILURE);
		for (random = random * 1664525 + 1013904223;;
		     random = random * 1664525 + 1013904223) {
			int n = source_next(s, f, 1 + (random >> 16) % 50);

			if (random >> 28 == 0) /* ends with frames that were lent, and not kept */
				break;
			for (int i = 0; i < n; i++, next++) {
				struct segment seg;

				wrong += frame_decode(&f[i], &seg) != FRAME_TCP || seg.seq != next;
			}
			idle = n > 0 ? 0 : idle + 1;
			if (n <= 0)
				usleep(1000);
			source_position(s, &at);
			if (random >> 28 < 3 || n <= 0) /* ends in between */
				break;
		}
		source_free(s);
	}
	ok(!wrong && next == FRAMES && lives > 10,
	   "%u readers one after another, each ended anywhere: all frames once, in order", lives);

	struct source_counts counts = { 0 };

	if (afring_map(dup(fd), &g, &at, &s))
		exit(EXIT_FAILURE);
	ok(source_next(s, f, 50) == 0 && source_take_counts(s, &counts) == 0 &&
		   counts.packets == FRAMES && !counts.drops,
	   "the counts are those of all readers");
	ok(source_take_counts(s, &counts) == 0 && !counts.packets, "and are reported once");
	source_free(s);
	at.block = g.block_nr;
	ok(afring_map(fd, &g, &at, &s) == -EINVAL, "a position after the ring is refused");
	close(fd);
}

/* The block that was read comes round again before the next reader looks. */
static void test_position_round(int tap)
{
	struct afring_config c = config_for("tap0");
	struct afring_geometry g;
	struct source_position at = { 0 };
	struct source *s;
	struct frame f[50];
	struct seen seen = { 0 };
	const char *step;
	unsigned n = 0;

	c.block_size = 1 << 16;
	c.block_nr = 3;
	int fd = afring_socket(&c, &g, &step);

	if (afring_map(dup(fd), &g, NULL, &s))
		exit(EXIT_FAILURE);
	interface_feed(tap, 0, 20);
	for (int i = 0, r; n < 20 && i < 1000; i++, usleep(1000))
		n += (r = source_next(s, f, 50)) > 0 ? (unsigned)r : 0;
	source_position(s, &at);
	ok(n == 20 && source_next(s, f, 50) == 0, "a block is read and given back");
	source_free(s);
	interface_feed(tap, 20, 20000); /* until all three are full again */
	usleep(20000);
	if (afring_map(dup(fd), &g, &at, &s))
		exit(EXIT_FAILURE);
	drain(s, &seen);
	ok(seen.frames > 100 && seen.first_seq == 20 && seen.in_order,
	   "the next reader begins after it, though it is full of newer frames by now (%u frames)",
	   seen.frames);
	source_free(s);
	close(fd);
}

/* ---- blocks that lie ---- */

/* Ordered by what can still be read of a block. */
enum lie {
	TRUTH,
	MANY_FRAMES, /* all */
	ONE_FRAME,
	NEXT_FAR,
	NEXT_HUGE,
	NEXT_NONE,
	NEXT_ODD, /* the first frame */
	FIRST_FAR,
	FIRST_ODD,
	FIRST_ZERO,
	FIRST_LAST,
	MAC_ZERO, /* nothing */
	MAC_FAR,
	SNAPLEN_HUGE,
	SNAPLEN_OVER_LEN,
	LIES
};

static void set_lie(struct tpacket_block_desc *b, enum lie lie)
{
	struct tpacket_hdr_v1 *h = &b->hdr.bh1;
	struct tpacket3_hdr *f = (struct tpacket3_hdr *)((char *)b + h->offset_to_first_pkt);

	switch (lie) {
	case MANY_FRAMES:
		h->num_pkts = UINT32_MAX;
		break;
	case ONE_FRAME:
		h->num_pkts = 1;
		break;
	case FIRST_FAR:
		h->offset_to_first_pkt = UINT32_MAX & ~7u;
		break;
	case FIRST_ODD:
		h->offset_to_first_pkt += 3;
		break;
	case FIRST_ZERO:
		h->offset_to_first_pkt = 0;
		break;
	case FIRST_LAST:
		h->offset_to_first_pkt = (1 << 16) - 8;
		break;
	case NEXT_FAR:
		f->tp_next_offset = 1 << 16;
		break;
	case NEXT_HUGE:
		f->tp_next_offset = UINT32_MAX & ~7u;
		break;
	case NEXT_NONE:
		f->tp_next_offset = 0;
		break;
	case NEXT_ODD:
		f->tp_next_offset += 1;
		break;
	case MAC_ZERO:
		f->tp_mac = 0;
		break;
	case MAC_FAR:
		f->tp_mac = UINT16_MAX;
		break;
	case SNAPLEN_HUGE:
		f->tp_snaplen = f->tp_len = UINT32_MAX;
		break;
	case SNAPLEN_OVER_LEN:
		f->tp_snaplen = f->tp_len + 1;
		break;
	case TRUTH:
	case LIES:
		break;
	}
}

/* Reports @lie in each block that the reader has, once they hold @frames; the number of blocks. */
static int lie_in_ring(uint8_t *ring, unsigned blocks, unsigned frames, enum lie lie)
{
	for (int tries = 0; tries < 200; tries++, usleep(5000)) {
		unsigned n = 0;
		int reported = 0;

		for (unsigned i = 0; i < blocks; i++) {
			struct tpacket_block_desc *b = (void *)(ring + (size_t)i * (1 << 16));

			if (__atomic_load_n(&b->hdr.bh1.block_status, __ATOMIC_ACQUIRE) & 1)
				n += b->hdr.bh1.num_pkts;
		}
		if (n != frames)
			continue;
		for (unsigned i = 0; i < blocks; i++) {
			struct tpacket_block_desc *b = (void *)(ring + (size_t)i * (1 << 16));

			if (b->hdr.bh1.block_status & 1) {
				set_lie(b, lie);
				reported++;
			}
		}
		return reported;
	}
	return 0;
}

static void test_lies(int tap)
{
	enum { BLOCK_SIZE = 1 << 16, NR = 8 };
	struct afring_config c = config_for("tap0");
	struct source *s;
	struct frame f[BATCH];
	const char *step;
	unsigned outside = 0, wrong = 0, lost = 0;

	c.block_size = BLOCK_SIZE;
	c.block_nr = NR;
	if (source_open(&c, &s, &step))
		exit(EXIT_FAILURE);
	uint8_t *ring =
		mmap(NULL, BLOCK_SIZE * NR, PROT_READ | PROT_WRITE, MAP_SHARED, source_fd(s), 0);
	const uint8_t *base = NULL; /* where the source sees the ring */

	for (enum lie lie = TRUTH; lie < LIES; lie++) {
		struct seen seen = { 0 };
		int n, frames = 0;

		interface_feed(tap, 0, 8);
		int blocks = lie_in_ring(ring, NR, 8, lie);

		for (; (n = source_next(s, f, BATCH)) > 0; frames += n)
			for (int i = 0; i < n; i++) {
				if (!base) {
					struct tpacket_block_desc *b = (void *)ring;
					uint32_t first = b->hdr.bh1.offset_to_first_pkt;
					struct tpacket3_hdr *h = (void *)(ring + first);

					base = f[i].data - first - h->tp_mac;
				}
				size_t at = (size_t)(f[i].data - base);

				outside += at / BLOCK_SIZE >= NR || f[i].caplen > f[i].len ||
					   at % BLOCK_SIZE + f[i].caplen > BLOCK_SIZE;
			}
		if (!blocks || frames != (lie <= MANY_FRAMES ? 8 : lie <= NEXT_ODD ? blocks : 0)) {
			printf("# lie %d: %d frames in %d blocks\n", (int)lie, frames, blocks);
			wrong++;
		}
		interface_feed(tap, 100, 120);
		drain(s, &seen);
		lost += seen.frames != 20 || !seen.in_order || seen.first_seq != 100;
	}
	ok(!outside, "%d ways of a block to lie: no frame outside of its block", LIES - 1);
	ok(!wrong, "it is read up to where the lie shows");
	ok(!lost, "and the blocks after it as ever");
	munmap(ring, BLOCK_SIZE * NR);
	source_free(s);
}

int main(void)
{
	const char *missing = namespaces_make();

	setvbuf(stdout, NULL, _IOLBF, 0);
	signal(SIGPIPE, SIG_IGN);
	alarm(100); /* a source that makes poll() spin fails here */
	if (missing) {
		tap_skip("the ring against the running kernel", missing);
		return tap_done();
	}
	int probe = socket(AF_PACKET, SOCK_RAW, 0);

	if (probe < 0) {
		tap_skip("the ring against the running kernel", "needs CAP_NET_RAW");
		return tap_done();
	}
	close(probe);
	if (!ok(veth_make(), "two namespaces with a veth pair between them"))
		return tap_done();
	test_link_types();
	test_refusals();
	test_loopback();
	test_veth();
	test_filter_first();
	test_filter_locked();
	test_promiscuous();

	int tap = tun_make("tap0", IFF_TAP);

	if (tap < 0) {
		tap_skip("what takes a tap or tun", "needs CAP_NET_ADMIN and /dev/net/tun");
	} else {
		test_vlan(tap);
		test_group_programs(tap);
		test_tun();
		test_overflow(tap);
		test_loan(tap);
		test_fallbacks(tap);
		test_unprivileged(tap);
		test_map_again(tap);
		test_position(tap);
		test_position_round(tap);
		test_lies(tap);
		close(tap);
	}
	test_down_up();
	kill(ns_b_pid, SIGKILL);
	waitpid(ns_b_pid, NULL, 0);
	return tap_done();
}
