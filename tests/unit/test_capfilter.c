/* The user's filter before ours.  The kernel runs both as one program, on the receiving end of a
 * pair of AF_UNIX sockets; the oracle is libpcap's bpf_filter() with the expression alone, on the
 * frame without tags, and the kernel with our filter alone. */
#include "../../daemon/common/capfilter.c"
#include <sys/socket.h>
#include <unistd.h>
#include "base/cc.h"
#include "bpf/tcp_filter.h"
#include "tests/support/rand.h"
#include "tests/support/tap.h"

enum { FRAME_MAX = 400, ROUNDS = 8000 };

static char error[CAPFILTER_ERROR_MAX];

/* ---- frames ---------------------------------------------------------------------------------- */

static uint8_t frame[FRAME_MAX];
static size_t frame_n;
static unsigned frame_tags;

static void put(unsigned v, unsigned octets)
{
	while (octets--)
		frame[frame_n++] = octets < 4 ? (uint8_t)(v >> 8 * octets) : 0;
}

static unsigned one_of(const uint16_t *of, unsigned n)
{
	return of[below(n)];
}
#define ONE_OF(...)                                                                                \
	one_of((const uint16_t[]){ __VA_ARGS__ }, sizeof((uint16_t[]){ __VA_ARGS__ }) / 2)

/* Mostly TCP to or from few hosts and ports, in IPv4 or IPv6, whole or a fragment; up to three
 * tags; sometimes cut. */
static void random_frame(void)
{
	bool v4 = below(2);
	unsigned proto = ONE_OF(6, 6, 6, 17, 132, 1), fragment = ONE_OF(0, 0, 0, 0x2000, 0x2001, 7);

	frame_n = 0;
	put(2, 6);
	put(below(2), 6);
	frame_tags = (unsigned)ONE_OF(0, 0, 1, 1, 2, 3);
	for (unsigned i = 0; i < frame_tags; i++) {
		put(ONE_OF(0x8100, 0x88a8, 0x9100), 2);
		put(below(3) << 13 | (4 + below(3)), 2);
	}
	put(below(20) ? (v4 ? 0x800 : 0x86dd) : ONE_OF(0x806, 0x8847, 0x8864, 46), 2);
	unsigned words = v4 ? 5 + below(3) : 10;
	bool header = !v4 && proto == 6 && !below(3);

	if (v4) {
		put(0x40 | words, 1);
		put(0, 1);
		put(words * 4 + 40, 2);
		put(below(65536), 2);
		put(fragment, 2);
		put(64, 1);
		put(proto, 1);
		put(0, 2);
		put(0x0a000000 + below(3), 4);
		put(0x0a000000 + below(3), 4);
		for (unsigned i = 5; i < words; i++)
			put(0x01010101, 4);
	} else {
		put(0x60000000, 4);
		put(header ? 48 : 40, 2);
		put(header ? 44 : proto, 1);
		put(64, 1);
		for (unsigned i = 0; i < 2; i++) {
			put(0xfd000000, 4);
			put(0, 4);
			put(0, 4);
			put(below(3), 4);
		}
		if (header) {
			put(proto, 1);
			put(0, 1);
			put(ONE_OF(0, 1, 8, 9), 2);
			put(1, 4);
		}
	}
	put(ONE_OF(443, 80, 22, 50000), 2);
	put(ONE_OF(443, 80, 22, 50000), 2);
	put(below(1000), 4);
	put(0, 4);
	put(5 << 4, 1);
	put(below(64), 1);
	put(0xfaf0, 2);
	put(0, 4);
	put(0, 4 * below(8));
	if (!below(8))
		frame_n = below(frame_n + 1);
}

/* The frame without @tags tags. */
static size_t without(unsigned tags, uint8_t ret[static FRAME_MAX])
{
	size_t out = 4 * tags;

	memcpy(ret, frame, frame_n);
	if (frame_n < 12 + out)
		return frame_n;
	memmove(ret + 12, ret + 12 + out, frame_n - 12 - out);
	return frame_n - out;
}

/* How many tags the frame shows, up to @most. */
static unsigned tags_seen(unsigned most)
{
	unsigned n = 0;

	for (; n < most && frame_n >= 14 + 4 * n; n++) {
		unsigned type = (unsigned)frame[12 + 4 * n] << 8 | frame[13 + 4 * n];

		if (type != 0x8100 && type != 0x88a8 && type != 0x9100)
			break;
	}
	return n;
}

/* ---- programs -------------------------------------------------------------------------------- */

static bool compile(const char *text, int dlt, struct bpf_program *ret)
{
	pcap_t *pcap = pcap_open_dead(dlt, SNAPLEN);
	bool done = !pcap_compile(pcap, ret, text, 1, PCAP_NETMASK_UNKNOWN);

	pcap_close(pcap);
	return done;
}

struct kernel {
	int pair[2];
};

/* @n instructions that run on beyond their end, then our filter. */
static bool kernel_open(struct kernel *k, struct sock_filter *insns, int n, enum link_type link)
{
	struct tcp_filter_spec spec = { .link = link };
	int ours = tcp_filter_build(&spec, insns + n, TCP_FILTER_MAX);
	struct sock_fprog p = { (unsigned short)(n + ours), insns };

	if (socketpair(AF_UNIX, SOCK_DGRAM, 0, k->pair) < 0)
		abort();
	return !setsockopt(k->pair[1], SOL_SOCKET, SO_ATTACH_FILTER, &p, sizeof p);
}

static void kernel_close(struct kernel *k)
{
	close(k->pair[0]);
	close(k->pair[1]);
}

/* Octets that it copies; 0: rejected. */
static int kernel_asks(const struct kernel *k)
{
	uint8_t got[FRAME_MAX];
	ssize_t n;

	if (send(k->pair[0], frame, frame_n, 0) != (ssize_t)frame_n)
		abort();
	n = recv(k->pair[1], got, sizeof got, MSG_DONTWAIT);
	return n < 0 ? 0 : (int)n;
}

static struct sock_filter space[CAPFILTER_MAX + TCP_FILTER_MAX];

/* ---- both as one ----------------------------------------------------------------------------- */

static const char *const expressions[] = {
	"port 443",
	"not port 443",
	"tcp dst port 443 and not host 10.0.0.1",
	"host 10.0.0.2 or host fd00::1",
	"net 10.0.0.0/31 and tcp",
	"ip6",
	"tcp[tcpflags] & (tcp-syn|tcp-fin) != 0",
	"ip[6:2] & 0x1fff = 0 and ip[8] = 64",
	"ether src 00:00:00:00:00:01 and (tcp port 80 or udp port 22)",
	"portrange 20-90",
	"ip proto 6 or ip6 proto 6",
	"greater 80",
	"tcp[ip[8] - 52] = 0x50 or ip6[6] = 44",
};

static void check_tagged(const char *text)
{
	struct bpf_program alone;
	struct kernel both, ours;
	unsigned passed = 0, rejected = 0, wrong = 0;
	int n = capfilter_build(text, LINK_ETHERNET, space, error);

	if (!ok(n > 0 && compile(text, DLT_EN10MB, &alone), "'%s' compiles: %s", text, error))
		return;
	if (!ok(kernel_open(&both, space, n, LINK_ETHERNET), "the kernel takes it, with ours"))
		return;
	kernel_open(&ours, space, 0, LINK_ETHERNET);
	for (unsigned i = 0; i < ROUNDS; i++) {
		uint8_t bare[FRAME_MAX];

		random_frame();
		size_t left = without(tags_seen(CAPFILTER_TAGS), bare);
		bool passes = bpf_filter(alone.bf_insns, bare, (unsigned)frame_n, (unsigned)left);
		int want = passes ? kernel_asks(&ours) : 0, got = kernel_asks(&both);

		passed += want > 0;
		rejected += !passes && kernel_asks(&ours) > 0;
		wrong += got != want;
	}
	ok(!wrong, "'%s': what passes the expression, without tags, and our filter", text);
	ok(passed && rejected, "it passed %u, and rejected %u that ours passes", passed, rejected);
	kernel_close(&both);
	kernel_close(&ours);
	pcap_freecode(&alone);
}

/* For files: the same without our filter. */
static void check_file(const char *text)
{
	struct bpf_program alone;
	struct capfilter c;
	unsigned wrong = 0;

	if (!ok(!capfilter_open(text, LINK_ETHERNET, &c, error), "'%s' opens: %s", text, error))
		return;
	compile(text, DLT_EN10MB, &alone);
	for (unsigned i = 0; i < ROUNDS; i++) {
		uint8_t bare[FRAME_MAX];

		random_frame();
		size_t left = without(tags_seen(CAPFILTER_TAGS), bare);
		struct frame f = { .data = frame,
				   .caplen = (uint32_t)frame_n,
				   .len = (uint32_t)frame_n };

		bool cut = frame_n < 14 + 4 * tags_seen(CAPFILTER_TAGS); /* within a tag */
		bool want =
			!cut && bpf_filter(alone.bf_insns, bare, (unsigned)frame_n, (unsigned)left);

		wrong += want != capfilter_passes(&c, &f);
	}
	ok(!wrong, "'%s': the same of a file", text);
	pcap_freecode(&alone);
	capfilter_close(&c);
	ok(!c.n && !c.insns, "and it can be closed");
}

/* ---- expressions with vlan ------------------------------------------------------------------- */

/* What the kernel's own values are for a frame: constants. */
static void know_tag(struct sock_filter *insns, unsigned n, bool present)
{
	unsigned tpid = (unsigned)frame[12] << 8 | frame[13];
	unsigned tci = (unsigned)frame[14] << 8 | frame[15];

	for (unsigned i = 0; i < n; i++) {
		struct sock_filter *f = &insns[i];
		unsigned field = f->k - (uint32_t)SKF_AD_OFF;

		if (f->code != (BPF_LD | BPF_B | BPF_ABS) || f->k < (uint32_t)SKF_AD_OFF)
			continue;
		f->code = BPF_LD | BPF_IMM;
		f->k = field == SKF_AD_VLAN_TAG_PRESENT ? present
		       : field == SKF_AD_VLAN_TPID	? tpid
							: tci;
	}
}

static void check_vlan(const char *text)
{
	static struct sock_filter known[CAPFILTER_MAX + 1];
	struct bpf_program alone;
	unsigned passed = 0, wrong = 0;
	int n = capfilter_build(text, LINK_ETHERNET, space, error);

	if (!ok(n > 0 && compile(text, DLT_EN10MB, &alone), "'%s' compiles: %s", text, error))
		return;
	space[n] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SNAPLEN);
	for (unsigned i = 0; i < ROUNDS; i++) {
		uint8_t bare[FRAME_MAX];

		random_frame();
		bool want = bpf_filter(alone.bf_insns, frame, (unsigned)frame_n, (unsigned)frame_n);
		bool beside = tags_seen(1) && frame_n >= 18; /* else the kernel leaves it */
		size_t left = without(beside, bare);

		memcpy(known, space, sizeof *known * (unsigned)(n + 1));
		know_tag(known, (unsigned)n, beside);
		wrong += want != !!bpf_filter((struct bpf_insn *)known, bare, (unsigned)frame_n,
					      (unsigned)left);
		passed += want;
	}
	ok(!wrong && passed, "'%s': as if the tag were in the frame (%u passed)", text, passed);
	pcap_freecode(&alone);
}

/* ---- what is refused ------------------------------------------------------------------------- */

static bool refused(const char *text, unsigned link, const char *why)
{
	int r;

	*error = '\0';
	r = capfilter_build(text, link, space, error);
	if (r < 0 && strstr(error, why))
		return true;
	printf("# '%s': %d, %s\n", text, r, error);
	return false;
}

static void check_refused(void)
{
	static char longest[CAPFILTER_TEXT_MAX + 1];
	size_t n = 0;

	ok(refused("port 44x", LINK_ETHERNET, "unknown port '44x'"), "libpcap says what is wrong");
	ok(refused("port 443 and", LINK_ETHERNET, "syntax error") &&
		   refused("(port 443", LINK_ETHERNET, "syntax error"),
	   "also where the syntax is");
	ok(refused("host www.example.com", LINK_ETHERNET, "unknown host 'www.example.com'"),
	   "a host that only the DNS would know is unknown");
	ok(refused("ip6 protochain 6", LINK_ETHERNET, "protochain is not possible"),
	   "loops are refused");
	ok(refused("vlan and ether[13] = 5", LINK_ETHERNET, "with vlan") &&
		   refused("vlan and ether [12:4] = 5", LINK_ETHERNET, "with vlan") &&
		   refused("vlan 5 and geneve", LINK_ETHERNET, "compute places"),
	   "a part of the tag that the kernel keeps cannot be read");
	ok(refused("ether host 1:2:3:4:5:6", LINK_RAW_IP, "ethernet") &&
		   refused("vlan 5", LINK_RAW_IP, "VLAN"),
	   "what a link type has not cannot be asked for");
	for (unsigned i = 0; n + 40 < sizeof longest; i++)
		n += (size_t)sprintf(longest + n, "%snet %u.0.0.0/8 and port %u", i ? " or " : "",
				     i % 11 + 1, i);
	ok(refused(longest, LINK_ETHERNET, "instructions; allowed: up to 1188"),
	   "a program that is too long is refused, with the limit: %s", error);
	ok(capfilter_build("port https and host localhost", LINK_ETHERNET, space, error) > 0,
	   "names of /etc/services and /etc/hosts are known");
}

/* The longest program that is allowed is one that the kernel takes. */
static void check_limits(void)
{
	static struct sock_filter user[2000];
	unsigned most = (CAPFILTER_MAX - 5 * CAPFILTER_TAGS) / (CAPFILTER_TAGS + 1);
	struct kernel k;
	int n;

	for (unsigned i = 0; i < most; i++)
		user[i] = (struct sock_filter)BPF_STMT(BPF_ALU | BPF_ADD | BPF_K, 1);
	user[most - 1] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, 1);
	n = capfilter_wrap(user, most, CAPFILTER_WITHOUT, space, CAPFILTER_MAX);
	ok(n > 0 && n <= CAPFILTER_MAX && kernel_open(&k, space, n, LINK_ETHERNET),
	   "the kernel takes the longest one, of %u instructions", most);
	random_frame();
	kernel_asks(&k);
	kernel_close(&k);
	user[most] = user[most - 1];
	ok(capfilter_wrap(user, most + 1, CAPFILTER_WITHOUT, space, CAPFILTER_MAX) == -ENOSPC,
	   "one more is too long");
	for (unsigned max = 0; max < 3 * 4 + 10; max++)
		if (capfilter_wrap(user + most - 3, 4, CAPFILTER_WITHOUT, space, max) != -ENOSPC)
			ok(false, "%u are too few", max);
}

static void check_unsound(void)
{
	static const struct {
		struct sock_filter f[3];
		const char *what;
	} c[] = {
		{ { BPF_STMT(BPF_JMP | BPF_JA, (uint32_t)-1), BPF_STMT(BPF_RET, 1),
		    BPF_STMT(BPF_RET, 1) },
		  "a jump back" },
		{ { BPF_STMT(BPF_JMP | BPF_JA, 2), BPF_STMT(BPF_RET, 1), BPF_STMT(BPF_RET, 1) },
		  "a jump beyond the end" },
		{ { BPF_JUMP(BPF_JMP | BPF_JEQ, 1, 2, 0), BPF_STMT(BPF_RET, 1),
		    BPF_STMT(BPF_RET, 1) },
		  "a branch beyond the end" },
		{ { BPF_JUMP(BPF_JMP | BPF_JEQ, 1, 0, 2), BPF_STMT(BPF_RET, 1),
		    BPF_STMT(BPF_RET, 1) },
		  "the other branch" },
		{ { BPF_STMT(BPF_RET | BPF_A, 0), BPF_STMT(BPF_RET, 1), BPF_STMT(BPF_RET, 1) },
		  "a result that is computed" },
		{ { BPF_STMT(BPF_RET, 1), BPF_STMT(BPF_RET, 1), BPF_STMT(BPF_LD | BPF_IMM, 1) },
		  "an end that does not return" },
	};

	for (unsigned i = 0; i < ARRAY_SIZE(c); i++)
		ok(capfilter_wrap(c[i].f, 3, CAPFILTER_AS_IS, space, 100) == -EINVAL, "%s: refused",
		   c[i].what);
	ok(capfilter_wrap(c[0].f, 0, CAPFILTER_AS_IS, space, 100) == -EINVAL, "nothing: refused");
}

/* Places that are computed from the start of the frame: tags cannot be skipped. */
static void check_computed(void)
{
	const char *text = "ether[ip[8] - 50] = 5";
	struct bpf_program alone;
	struct capfilter c;
	unsigned wrong = 0, passed = 0;

	compile(text, DLT_EN10MB, &alone);
	ok(!capfilter_open(text, LINK_ETHERNET, &c, error) && c.n == alone.bf_len + 1,
	   "'%s': there is one copy of it", text);
	for (unsigned i = 0; i < ROUNDS; i++) {
		random_frame();
		struct frame f = { .data = frame,
				   .caplen = (uint32_t)frame_n,
				   .len = (uint32_t)frame_n };
		bool want = bpf_filter(alone.bf_insns, frame, (unsigned)frame_n, (unsigned)frame_n);

		wrong += want != capfilter_passes(&c, &f);
		passed += want;
	}
	ok(!wrong, "it sees the frame as it is (%u passed)", passed);
	capfilter_close(&c);
	pcap_freecode(&alone);
}

/* Raw IP, and the link type whose header is skipped. */
static void check_raw(void)
{
	struct capfilter raw, null;
	unsigned wrong = 0, passed = 0;

	ok(!capfilter_open("port 443", LINK_RAW_IP, &raw, error) &&
		   !capfilter_open("port 443", LINK_NULL, &null, error),
	   "raw IP, and DLT_NULL");
	for (unsigned i = 0; i < ROUNDS; i++) {
		random_frame();
		if (frame_n < 14 + 4 * frame_tags)
			continue;
		const uint8_t *ip = frame + 14 + 4 * frame_tags;
		uint32_t n = (uint32_t)(frame_n - 14 - 4 * frame_tags);
		struct frame f = { .data = ip, .caplen = n, .len = n, .link = LINK_RAW_IP };
		struct frame g = {
			.data = ip - 4, .caplen = n + 4, .len = n + 4, .link = LINK_NULL
		};

		wrong += capfilter_passes(&raw, &f) != capfilter_passes(&null, &g);
		passed += capfilter_passes(&raw, &f);
	}
	ok(!wrong && passed, "pass the same packets (%u)", passed);
	ok(!capfilter_passes(
		   &null,
		   &(struct frame){ .data = frame, .caplen = 3, .len = 3, .link = LINK_NULL }),
	   "a frame shorter than its header does not pass");
	capfilter_close(&raw);
	capfilter_close(&null);
	for (unsigned link = 0; link < LINK_TYPES; link++) {
		ok(!capfilter_open("tcp port 443", link, &raw, error), "link type %u: %s", link,
		   error);
		capfilter_close(&raw);
	}
}

int main(void)
{
	rng = tap_seed(7);
	for (unsigned i = 0; i < ARRAY_SIZE(expressions); i++) {
		check_tagged(expressions[i]);
		check_file(expressions[i]);
	}
	check_vlan("vlan");
	check_vlan("vlan 5 and port 443");
	check_vlan("not vlan");
	check_vlan("vlan and not port 443");
	check_vlan("vlan 4 and vlan 5 and tcp port 80");
	check_vlan("port 80 or (vlan 6 and host 10.0.0.1)");
	check_vlan("ip[0:4] != 0 or (vlan and ip[0] = 0x45 and tcp[0:4] != 0)");
	check_vlan("ether proto 0x8100 and vlan and ip6[0:2] = 0x6000");
	check_refused();
	check_limits();
	check_unsound();
	check_computed();
	check_raw();
	return tap_done();
}
