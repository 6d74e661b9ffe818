/* Classic programs as eBPF: the kernel runs both, on the receiving ends of two pairs of AF_UNIX
 * sockets, and what comes through must be as long.  Programs are those of libpcap and random ones;
 * last, a filter of the user's before the one of mode=auto. */
#include <bpf/bpf.h>
#include <errno.h>
#include <linux/filter.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>
#include "base/cc.h"
#include "bpf/capfilter.h"
#include "bpf/tcp_filter.h"
#include "bpf/to_ebpf.h"
#include "source/bypassload.h"
#include "tests/support/rand.h"
#include "tests/support/tap.h"
#include "wire/link.h"
#define bpf_insn classic_insn /* libpcap's, of the same name */
#include "../../daemon/common/capfilter.c"
#undef bpf_insn

enum { FRAME_MAX = 300, PROGRAMS = 1500, FRAMES = 60, PCAP_FRAMES = 1500, EBPF_MAX = 30000 };
enum { ACCEPT = 262144 };

static struct sock_filter classic[BPF_MAXINSNS + 1];
static struct bpf_insn insns[EBPF_MAX];
static char verifier_log[1 << 16];
static const uint8_t frame_of_zeroes[200];

/* ---- both in the kernel ---------------------------------------------------------------------- */

static int pair[2][2]; /* classic, eBPF */

static void open_pairs(void)
{
	for (unsigned i = 0; i < 2; i++)
		if (socketpair(AF_UNIX, SOCK_DGRAM, 0, pair[i]) < 0)
			abort();
}

static void close_pairs(void)
{
	for (unsigned i = 0; i < 4; i++)
		close(pair[i / 2][i % 2]);
}

/* Octets that come through; 0: rejected. */
static int asked(const int *fd, const uint8_t *frame, size_t n)
{
	uint8_t got[FRAME_MAX];
	ssize_t r;

	if (send(fd[0], frame, n, 0) != (ssize_t)n)
		abort();
	r = recv(fd[1], got, sizeof got, MSG_DONTWAIT);
	return r < 0 ? 0 : (int)r;
}

static bool attach_ebpf(int fd)
{
	bool done = fd >= 0 && !setsockopt(pair[1][1], SOL_SOCKET, SO_ATTACH_BPF, &fd, sizeof fd);

	if (fd >= 0)
		close(fd);
	return done;
}

static bool attach_classic(unsigned n)
{
	return !setsockopt(pair[0][1], SOL_SOCKET, SO_ATTACH_FILTER,
			   &(struct sock_fprog){ (unsigned short)n, classic },
			   sizeof(struct sock_fprog));
}

/* The @n of `classic`, which end in acceptance of @octets.  0; 1: the kernel refuses the classic
 * one; -errno. */
static int load_both(unsigned n, uint32_t octets)
{
	LIBBPF_OPTS(bpf_prog_load_opts, opts, .log_buf = verifier_log,
		    .log_size = sizeof verifier_log);
	int r = to_ebpf(classic, n, insns, EBPF_MAX - 2);

	*verifier_log = '\0';
	if (r < 0)
		return r;
	insns[r] = (struct bpf_insn){ .code = BPF_ALU | BPF_MOV | BPF_K, .imm = (int)octets };
	insns[r + 1] = (struct bpf_insn){ .code = BPF_JMP | BPF_EXIT };
	classic[n] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, octets);
	if (!attach_classic(n + 1))
		return 1;
	return attach_ebpf(bpf_prog_load(BPF_PROG_TYPE_SOCKET_FILTER, NULL, "GPL", insns,
					 (size_t)r + 2, &opts))
		       ? 0
		       : -errno;
}

/* ---- random programs ------------------------------------------------------------------------- */

static uint32_t any_number(void)
{
	switch (below(4)) {
	case 0:
		return below(4);
	case 1:
		return below(256);
	case 2:
		return 0x80000000u >> below(32);
	default:
		return (uint32_t)rand64();
	}
}

static struct sock_filter any_load(void)
{
	static const uint16_t special[] = { SKF_AD_PROTOCOL,  SKF_AD_PKTTYPE,
					    SKF_AD_MARK,      SKF_AD_QUEUE,
					    SKF_AD_RXHASH,    SKF_AD_VLAN_TAG,
					    SKF_AD_VLAN_TPID, SKF_AD_VLAN_TAG_PRESENT };
	static const uint16_t size[] = { BPF_W, BPF_H, BPF_B };
	uint16_t w = size[below(3)];

	switch (below(9)) {
	case 0:
		return (struct sock_filter)BPF_STMT(BPF_LD | BPF_IMM, any_number());
	case 1:
		return (struct sock_filter)BPF_STMT(BPF_LDX | BPF_IMM, any_number());
	case 2:
		return (struct sock_filter)BPF_STMT((below(2) ? BPF_LD : BPF_LDX) | BPF_MEM,
						    below(4));
	case 3:
		return (struct sock_filter)BPF_STMT((below(2) ? BPF_LD : BPF_LDX) | BPF_LEN, 0);
	case 4:
		return (struct sock_filter)BPF_STMT(BPF_LDX | BPF_MSH | BPF_B, below(60));
	case 5:
		return (struct sock_filter)BPF_STMT(BPF_LD | w | BPF_ABS,
						    (uint32_t)SKF_AD_OFF +
							    special[below(ARRAY_SIZE(special))]);
	case 6:
		return (struct sock_filter)BPF_STMT(BPF_LD | w | BPF_IND,
						    below(8) ? below(20) : any_number());
	default:
		return (struct sock_filter)BPF_STMT(BPF_LD | w | BPF_ABS, below(60));
	}
}

static struct sock_filter any_alu(void)
{
	static const uint16_t ops[] = { BPF_ADD, BPF_SUB, BPF_MUL, BPF_DIV, BPF_MOD, BPF_AND,
					BPF_OR,	 BPF_XOR, BPF_LSH, BPF_RSH, BPF_NEG };
	uint16_t op = ops[below(ARRAY_SIZE(ops))];
	uint32_t k = op == BPF_LSH || op == BPF_RSH ? below(32) : any_number();

	if ((op == BPF_DIV || op == BPF_MOD) && !k)
		k = 3;
	return (struct sock_filter)BPF_STMT(
		BPF_ALU | op | (below(2) && op != BPF_NEG ? BPF_X : BPF_K), k);
}

/* A jump over up to @left instructions. */
static struct sock_filter any_jump(unsigned left)
{
	static const uint16_t ops[] = { BPF_JEQ, BPF_JGT, BPF_JGE, BPF_JSET };

	if (!below(8))
		return (struct sock_filter)BPF_STMT(BPF_JMP | BPF_JA, below(left + 1));
	return (struct sock_filter)BPF_JUMP(BPF_JMP | ops[below(4)] | (below(2) ? BPF_X : BPF_K),
					    any_number(), (uint8_t)below(left + 1),
					    (uint8_t)below(left + 1));
}

/* @n instructions; the first ones fill the memory that the others read. */
static void random_program(unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		unsigned left = n - 1 - i, roll = below(20);

		if (i < 4)
			classic[i] = (struct sock_filter)BPF_STMT(BPF_ST, i);
		else if (roll < 8)
			classic[i] = any_load();
		else if (roll < 12)
			classic[i] = any_alu();
		else if (roll < 16)
			classic[i] = any_jump(left < 200 ? left : 200);
		else if (roll < 18)
			classic[i] =
				(struct sock_filter)BPF_STMT(below(2) ? BPF_ST : BPF_STX, below(4));
		else if (roll < 19)
			classic[i] = (struct sock_filter)BPF_STMT(
				BPF_MISC | (below(2) ? BPF_TAX : BPF_TXA), 0);
		else
			classic[i] = (struct sock_filter)BPF_STMT(
				BPF_RET | (below(2) ? BPF_A : BPF_K), below(FRAME_MAX));
	}
}

static void test_random(void)
{
	unsigned refused = 0, wrong = 0, endless = 0, lengths = 0, whole = 0, none = 0;

	for (unsigned i = 0; i < PROGRAMS && wrong + refused < 5; i++) {
		unsigned n = 5 + below(below(8) ? 25 : 200);
		uint8_t frame[FRAME_MAX];
		int r;

		random_program(n);
		open_pairs();
		r = load_both(n, FRAME_MAX);
		endless += r == -ENODATA;
		if (r && r != -ENODATA && ++refused)
			printf("# a program of %u: %d; %.300s\n", n, r, verifier_log);
		for (unsigned k = 0; !r && k < FRAMES; k++) {
			size_t octets = 1 + below(FRAME_MAX);

			for (size_t at = 0; at < octets; at++)
				frame[at] = below(2) ? (uint8_t)below(4) : (uint8_t)below(256);

			int want = asked(pair[0], frame, octets);
			int got = asked(pair[1], frame, octets);

			if (want != got && ++wrong)
				printf("# a program of %u, %zu octets: %d, not %d\n", n, octets,
				       got, want);
			lengths += want && (size_t)want < octets;
			whole += (size_t)want == octets;
			none += !want;
		}
		close_pairs();
	}
	ok(!refused, "the kernel takes each of %u random programs (%u never come to their end)",
	   PROGRAMS, endless);
	ok(!wrong && lengths > 1000 && whole > 5000 && none > 5000,
	   "as eBPF they return the same (%u frames cut, %u whole, %u rejected)", lengths, whole,
	   none);
}

/* ---- what the kernel knows of a frame -------------------------------------------------------- */

static bool lo_up(void)
{
	struct ifreq lo = { .ifr_name = "lo", .ifr_flags = IFF_UP };
	int fd = socket(AF_INET, SOCK_DGRAM, 0);
	bool done = fd >= 0 && !ioctl(fd, SIOCSIFFLAGS, &lo);

	close(fd);
	return done;
}

static void send_datagram(void)
{
	struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons(9) };
	int fd = socket(AF_INET, SOCK_DGRAM, 0), mark = 7;

	setsockopt(fd, SOL_SOCKET, SO_MARK, &mark, sizeof mark);
	to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	if (sendto(fd, frame_of_zeroes, sizeof frame_of_zeroes, 0, (struct sockaddr *)&to,
		   sizeof to) < 0)
		abort();
	close(fd);
}

/* A frame on loopback, out and in: as many octets pass as the value is, and one more. */
static void check_special(uint32_t field, const char *what)
{
	const struct sock_filter value[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, (uint32_t)SKF_AD_OFF + field),
		BPF_STMT(BPF_ALU | BPF_ADD | BPF_K, 1),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 0, 1, 0),
		BPF_STMT(BPF_RET | BPF_A, 0),
	};
	struct sockaddr_ll lo = { .sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_ALL) };
	struct timeval patience = { .tv_sec = 20 };
	int got[2][2];

	lo.sll_ifindex = (int)if_nametoindex("lo");
	for (unsigned i = 0; i < 2; i++) {
		pair[i][0] = -1;
		pair[i][1] = socket(AF_PACKET, SOCK_RAW, 0);
		setsockopt(pair[i][1], SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
	}
	memcpy(classic, value, sizeof value);

	int r = load_both(ARRAY_SIZE(value), ACCEPT);

	for (unsigned i = 0; i < 2; i++)
		if (bind(pair[i][1], (struct sockaddr *)&lo, sizeof lo) < 0)
			abort();
	send_datagram();
	for (unsigned i = 0; i < 4; i++) {
		char octets[FRAME_MAX];

		got[i / 2][i % 2] = (int)recv(pair[i / 2][1], octets, sizeof octets, 0);
	}
	ok(!r && got[0][0] > 0 && got[0][1] > 0 && got[0][0] == got[1][0] && got[0][1] == got[1][1],
	   "%s: %d and %d octets as a classic one, %d and %d", what, got[0][0], got[0][1],
	   got[1][0], got[1][1]);
	for (unsigned i = 0; i < 2; i++)
		close(pair[i][1]);
}

static void test_special(void)
{
	if (unshare(CLONE_NEWNET) < 0 || !lo_up()) {
		tap_skip("what the kernel knows of a frame", strerror(errno));
		return;
	}
	check_special(SKF_AD_PROTOCOL, "the protocol");
	check_special(SKF_AD_PKTTYPE, "the direction");
	check_special(SKF_AD_IFINDEX, "the interface");
	check_special(SKF_AD_MARK, "the mark");
	check_special(SKF_AD_QUEUE, "the queue");
	check_special(SKF_AD_RXHASH, "the hash");
	check_special(SKF_AD_VLAN_TAG_PRESENT, "whether there is a tag");
}

/* ---- libpcap's programs ---------------------------------------------------------------------- */

static uint8_t frame[FRAME_MAX];
static size_t frame_n;

static void put(uint32_t v, unsigned octets)
{
	while (octets--)
		frame[frame_n++] = octets < 4 ? (uint8_t)(v >> 8 * octets) : 0;
}

static uint32_t one_of(const uint16_t *of, unsigned n)
{
	return of[below(n)];
}
#define ONE_OF(...)                                                                                \
	one_of((const uint16_t[]){ __VA_ARGS__ }, sizeof((uint16_t[]){ __VA_ARGS__ }) / 2)

/* Mostly TCP of few hosts and ports, with some tags, options and extension headers; some octets are
 * others, and some of it is missing. */
static void random_frame(bool ethernet)
{
	bool v4 = below(2);
	uint32_t proto = ONE_OF(6, 6, 6, 6, 17, 132, 1, 58), words = 5 + (below(3) ? 0 : below(3));

	frame_n = 0;
	if (ethernet) {
		put(below(3), 6);
		put(below(3), 6);
		for (uint32_t tags = ONE_OF(0, 0, 0, 1, 2, 3); tags; tags--) {
			put(ONE_OF(0x8100, 0x88a8, 0x9100), 2);
			put(4 + below(3), 2);
		}
		switch (below(12)) {
		case 0:
			put(0x8847, 2);
			put(0x140, 4);
			break;
		case 1:
			put(0x8864, 2);
			put(0x11000007, 4);
			put(40, 2);
			put(v4 ? 0x21 : 0x57, 2);
			break;
		case 2:
			put(ONE_OF(0x806, 46, 0x8035), 2);
			break;
		default:
			put(v4 ? 0x800 : 0x86dd, 2);
		}
	}
	if (v4) {
		put(0x40 | words, 1);
		put(0, 1);
		put(words * 4 + 40, 2);
		put(below(65536), 2);
		put(ONE_OF(0, 0, 0, 0x2000, 0x2001, 7), 2);
		put(0x4000 | proto, 2);
		put(0, 2);
		put(0x0a000000 + below(3), 4);
		put(0x0a000000 + below(3), 4);
		for (unsigned i = 5; i < words; i++)
			put(0x01010101, 4);
	} else {
		put(0x60000000, 4);
		put(40, 2);
		put(proto << 8 | 64, 2);
		for (unsigned i = 0; i < 2; i++) {
			put(0xfd000000, 4);
			put(0, 8);
			put(below(3), 4);
		}
	}
	put(ONE_OF(443, 80, 22, 50000), 2);
	put(ONE_OF(443, 80, 22, 50000), 2);
	put(below(1000), 4);
	put(0, 4);
	put(5 << 12 | below(64), 2);
	put(0xfaf0, 2);
	put(0, 4);
	put(0, 4 * below(8));
	for (unsigned flips = below(3) ? 0 : below(4); flips; flips--)
		frame[below(60)] ^= (uint8_t)(1u << below(8));
	if (!below(8))
		frame_n = 1 + below((uint32_t)frame_n);
}

static const char *const expressions[] = {
	"port 443",
	"not port 443",
	"tcp dst port 443 and not host 10.0.0.1",
	"host 10.0.0.2 or host fd00::1",
	"src net 10.0.0.0/31 and tcp",
	"ip6",
	"arp or rarp",
	"tcp[tcpflags] & (tcp-syn|tcp-fin) != 0",
	"ip[6:2] & 0x1fff = 0 and ip[8] = 64",
	"ether src 00:00:00:00:00:01 and (tcp port 80 or udp port 22)",
	"portrange 20-90",
	"ip proto 6 or ip6 proto 6",
	"greater 80",
	"less 60 or len > 100",
	"tcp[ip[8] - 52] = 0x50 or ip6[6] = 44",
	"icmp6 or icmp",
	"sctp port 80",
	"ip[0] & 0xf != 5",
	"tcp[2:2] / 2 = 221 or tcp[0:2] % 7 = 3",
	"(ip[2:2] - ((ip[0] & 0xf) << 2)) - ((tcp[12] & 0xf0) >> 2) != 0",
	"vlan",
	"vlan 5 and port 443",
	"vlan and vlan 5 and tcp",
	"mpls and tcp port 443",
	"pppoes and tcp port 443",
	"ip broadcast or ether multicast",
	"ether[ip[8] - 50] = 5",
	"inbound",
	"tcp[4:4] > 500 and tcp[4:4] <= 900",
	"ip[8] ^ 3 = 67 and -ip[8] != 1",
};

static void check_expression(const char *text, int dlt)
{
	pcap_t *pcap = pcap_open_dead(dlt, ACCEPT);
	struct bpf_program p = { 0 };
	unsigned passed = 0, wrong = 0;
	bool compiles = !pcap_compile(pcap, &p, text, 1, 0);
	int n = -1, r = -1;

	pcap_close(pcap);
	if (!compiles) /* raw IP has no Ethernet header */
		return;
	n = capfilter_wrap((const struct sock_filter *)p.bf_insns, p.bf_len, CAPFILTER_AS_IS,
			   classic, BPF_MAXINSNS);
	pcap_freecode(&p);
	open_pairs();
	if (n > 0)
		r = load_both((unsigned)n, ACCEPT);
	for (unsigned i = 0; !r && i < PCAP_FRAMES; i++) {
		random_frame(dlt == DLT_EN10MB);

		int want = asked(pair[0], frame, frame_n);

		passed += want > 0;
		wrong += want != asked(pair[1], frame, frame_n);
	}
	ok(!r && !wrong, "'%s', DLT %d: the same (%u passed)", text, dlt, passed);
	if (r || wrong)
		printf("# %d, %d: %u are wrong; %.300s\n", n, r, wrong, verifier_log);
	close_pairs();
}

/* ---- before the filter of mode=auto ---------------------------------------------------------- */

static void check_before(const char *text, unsigned link)
{
	struct tcp_filter_spec spec = { .link = (enum link_type)link };
	struct bypassload_config config = { .raw_ip = link == LINK_RAW_IP, .user = classic };
	char error[CAPFILTER_ERROR_MAX], why[BYPASSLOAD_ERROR_MAX];
	unsigned passed = 0, rejected = 0, wrong = 0;
	struct bypassload b;
	int n = capfilter_build(text, link, classic, error), r;

	if (n < 0)
		return;
	config.user_n = (unsigned)n;
	open_pairs();
	r = bypassload_load(&config, &b, why);
	if (!ok(!r && attach_ebpf(b.program), "'%s': the kernel takes it with mode=auto, %d", text,
		r))
		printf("# %s\n", why);
	b.program = -1;
	bypassload_close(&b);
	n += tcp_filter_build(&spec, classic + n, BPF_MAXINSNS - (unsigned)n);
	if (!attach_classic((unsigned)n))
		abort();
	for (unsigned i = 0; !r && i < PCAP_FRAMES; i++) {
		random_frame(link == LINK_ETHERNET);

		int want = asked(pair[0], frame, frame_n);

		passed += want > 0;
		rejected += !want;
		wrong += want != asked(pair[1], frame, frame_n);
	}
	ok(!wrong && (!passed || rejected), "it passes what the classic one passes (%u), as long",
	   passed);
	close_pairs();
}

/* @parts of an expression; -errno. */
static int build_long(unsigned parts)
{
	char text[CAPFILTER_TEXT_MAX], error[CAPFILTER_ERROR_MAX];
	size_t at = 0;

	for (unsigned i = 0; i < parts; i++)
		at += (size_t)snprintf(text + at, sizeof text - at,
				       "%sport %u and net 10.%u.0.0/16", i ? " or " : "", 1000 + i,
				       i);
	return capfilter_build(text, LINK_ETHERNET, classic, error);
}

/* The longest one that is allowed, of libpcap's. */
static void check_longest(void)
{
	char why[BYPASSLOAD_ERROR_MAX] = "";
	struct bypassload_config config = { .user = classic };
	unsigned parts = 1;
	struct bypassload b;

	while (build_long(parts + 1) > 0)
		parts++;
	config.user_n = (unsigned)build_long(parts);

	int r = bypassload_load(&config, &b, why);

	open_pairs();
	ok(config.user_n > 3000 && !r && attach_ebpf(b.program),
	   "a program of %u instructions is possible before that of mode=auto", config.user_n);
	if (r)
		printf("# %d: %s\n", r, why);
	b.program = -1;
	bypassload_close(&b);
	close_pairs();
}

/* ---- what is refused ------------------------------------------------------------------------- */

static int translated(unsigned n, struct sock_filter a, struct sock_filter b)
{
	const struct sock_filter f[] = { a, b };

	return to_ebpf(f, n, insns, EBPF_MAX);
}

/* The kernel and we know the same ones. */
static void check_codes(void)
{
	unsigned known = 0, wrong = 0;

	open_pairs();
	for (uint16_t code = 0; code < 1024; code++) {
		classic[0] = (struct sock_filter)BPF_STMT(BPF_ST, 1);
		classic[1] = (struct sock_filter)BPF_STMT(code, 1);
		classic[2] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, 1);
		classic[3] = classic[2];

		int r = to_ebpf(classic, 3, NULL, 0);
		bool kernel = attach_classic(4), ours = r > 0 || r == -ENODATA;

		known += ours;
		if (kernel != ours && ++wrong)
			printf("# code %#x: %d here, %d there\n", code, ours, kernel);
	}
	close_pairs();
	ok(!wrong && known > 40, "of all codes we know the %u that the kernel knows", known);
}

static void check_refused(void)
{
	const struct sock_filter add = BPF_STMT(BPF_ALU | BPF_ADD | BPF_K, 1);
	const struct sock_filter jump = BPF_STMT(BPF_JMP | BPF_JA, 2);
	const struct sock_filter far = BPF_STMT(BPF_JMP | BPF_JA, (uint32_t)-1);
	const struct sock_filter yes = BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 0, 2, 0);
	const struct sock_filter no = BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 0, 0, 2);
	const struct sock_filter store = BPF_STMT(BPF_ST, BPF_MEMWORDS);
	const struct sock_filter read = BPF_STMT(BPF_LDX | BPF_MEM, BPF_MEMWORDS);
	const struct sock_filter type =
		BPF_STMT(BPF_LD | BPF_H | BPF_ABS, (uint32_t)(SKF_AD_OFF + SKF_AD_HATYPE));
	const struct sock_filter end = BPF_STMT(BPF_RET | BPF_K, 0);
	const struct sock_filter by_0 = BPF_STMT(BPF_ALU | BPF_DIV | BPF_K, 0);
	struct bypassload_config config = { .user = &by_0, .user_n = 1 };
	char why[BYPASSLOAD_ERROR_MAX];
	struct bypassload b;
	int n = translated(2, add, add);

	ok(n > 2 && translated(0, add, add) == n - 2, "two instructions, and none");
	ok(to_ebpf((struct sock_filter[]){ add, add }, 2, insns, (unsigned)n - 1) == -ENOSPC &&
		   to_ebpf((struct sock_filter[]){ add, add }, 2, NULL, 0) == n,
	   "too little space; or only the number");
	ok(to_ebpf(classic, BPF_MAXINSNS + 1, insns, EBPF_MAX) == -ENOSPC, "too many of them");
	ok(translated(2, jump, add) == -EINVAL && translated(2, far, add) == -EINVAL &&
		   translated(2, yes, add) == -EINVAL && translated(2, no, add) == -EINVAL,
	   "jumps beyond the end");
	ok(translated(2, store, add) == -EINVAL && translated(2, read, add) == -EINVAL,
	   "memory that there is not");
	ok(translated(2, type, add) == -EOPNOTSUPP, "what eBPF programs do not get");
	ok(translated(2, end, add) == -ENODATA, "a program that ends before its end");
	ok(translated(2, (struct sock_filter)BPF_STMT(BPF_JMP | BPF_JA, 1), type) > 0,
	   "what is not reached is left out");
	ok(bypassload_load(&config, &b, why) < 0 && b.program < 0 && b.slots < 0 &&
		   strstr(why, "div by zero"),
	   "the verifier's reason is in the error: %s", why);
}

int main(void)
{
	struct bypassload_config config = { .raw_ip = true };
	char why[BYPASSLOAD_ERROR_MAX];
	struct bypassload b;
	int r = bypassload_load(&config, &b, why);

	if (r < 0) {
		tap_skip("programs as eBPF", strerror(-r));
		return tap_done();
	}
	bypassload_close(&b);
	rng = tap_seed(20261130);
	test_random();
	test_special();
	for (unsigned i = 0; i < ARRAY_SIZE(expressions); i++) {
		check_expression(expressions[i], DLT_EN10MB);
		check_expression(expressions[i], DLT_RAW);
		check_before(expressions[i], LINK_ETHERNET);
		check_before(expressions[i], LINK_RAW_IP);
	}
	check_longest();
	check_codes();
	check_refused();
	return tap_done();
}
