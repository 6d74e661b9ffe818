/* The kernel runs the filter; frame_decode() and frame_holds_inner() are the oracle.
 *
 * A filter on the receiving end of an AF_UNIX datagram pair sees exactly the octets of each
 * datagram: what it rejects never arrives, what it accepts arrives cut to the copy length. */
#include <bpf/libbpf.h>
#include <errno.h>
#include <linux/filter.h>
#include <skel/bypass.skel.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include "base/cc.h"
#include "bpf/tcp_filter.h"
#include "tests/support/tap.h"
#include "wire/frame.h"
#include "wire/link.h"
#include "wire/segment.h"
#include "wire/tunnel.h"

enum { FRAME_MAX = 20000, MUTATIONS = 150000, TCP_FIXED = 20 };

/* Socket pair with the filter of each link type on its receiving end, for each sum of enum
 * frame_inner. */
enum { INSIDES = 4 };
static int pair[INSIDES][LINK_TYPES][2];
static int control_pair[INSIDES][LINK_TYPES][2]; /* the same with `control` */
static int bypass_pair[LINK_TYPES][2]; /* the filter of mode=auto; 0: the kernel does not take it */
static unsigned inner;		       /* of the filter that is asked */

/* Copy length that the kernel finds for @frame; 0: rejected. */
static int kernel_asked(const int fd[2], const uint8_t *frame, size_t n)
{
	static uint8_t room[FRAME_MAX];

	if (send(fd[0], frame, n, 0) != (ssize_t)n) {
		perror("send");
		exit(EXIT_FAILURE);
	}
	ssize_t got = recv(fd[1], room, sizeof(room), MSG_DONTWAIT);

	if (got > 0 && memcmp(room, frame, (size_t)got))
		return -1;
	return got < 0 ? 0 : (int)got;
}

static int kernel_verdict(enum link_type link, const uint8_t *frame, size_t n)
{
	return kernel_asked(pair[inner][link], frame, n);
}

static struct frame frame_of(enum link_type link, const uint8_t *p, size_t caplen, size_t len)
{
	return (struct frame){
		.data = p, .caplen = (uint32_t)caplen, .len = (uint32_t)len, .link = (uint8_t)link
	};
}

static enum frame_verdict decode(enum link_type link, const uint8_t *p, size_t caplen, size_t len,
				 struct segment *ret)
{
	struct frame f = frame_of(link, p, caplen, len);

	return frame_decode(&f, ret);
}

static void print_frame(enum link_type link, const uint8_t *p, size_t n, const char *why,
			enum frame_verdict v, int copied)
{
	printf("# link %d, %zu octets, %s: %s by frame_decode(), %d octets by the kernel:\n# ",
	       link, n, why, frame_verdict_name(v), copied);
	for (size_t i = 0; i < n; i++)
		printf("%02x", p[i]);
	putchar('\n');
}

/* A tunnel or an ICMP error: the copy decodes as the whole does, as far as it goes. */
static const char *inner_agrees(enum link_type link, const uint8_t *p, size_t n, size_t copied)
{
	struct frame f = frame_of(link, p, n, n), g = frame_of(link, p, copied, n);
	struct segment full = { 0 }, cut = { 0 };
	struct tunnel t = { 0 }, u = { 0 };
	enum frame_verdict v = frame_decode_inner(&f, inner, &t, &full);
	enum frame_verdict w = frame_decode_inner(&g, inner, &u, &cut);

	if (v == FRAME_ICMP && (w != v || full.seq != cut.seq || full.dport != cut.dport))
		return "the copy of an ICMP error is too short";
	if (v != FRAME_TCP)
		return NULL;
	size_t end = (size_t)(full.options.p - p) + full.options.n;

	if (end > copied)
		return w == FRAME_TCP || w == FRAME_TCP_CUT || w == FRAME_CUT
			       ? NULL
			       : "the copy is not cut, but something else";
	if (w != v || full.seq != cut.seq || full.payload_len != cut.payload_len || t.id != u.id ||
	    t.type != u.type || full.options.n != cut.options.n)
		return "the copy of a tunnel decodes otherwise";
	return NULL;
}

/* Where the TCP header of a frame that passes is: the filter needs its first octet.  60 octets are
 * added, so that it can be cut there. */
static size_t tcp_header_at(enum link_type link, const uint8_t *p, size_t n)
{
	static uint8_t longer[FRAME_MAX];

	memcpy(longer, p, n);
	memset(longer + n, 0, 60);
	size_t end = (size_t)kernel_verdict(link, longer, n + 60);

	for (size_t hl = 60; hl > TCP_FIXED; hl -= 4)
		if (end >= hl && kernel_verdict(link, longer, end - hl + 1))
			return end - hl;
	return end - TCP_FIXED;
}

/* Of what the other filter copies, `control` takes tunnels and ICMP errors as they are, and TCP if
 * it has one of the three flags. */
static bool control_agrees(enum link_type link, const uint8_t *p, size_t n, bool deferred,
			   int copied)
{
	int want = copied;

	if (copied > 0 && !deferred) {
		size_t flags = tcp_header_at(link, p, n) + 13;

		want = n > flags && p[flags] & (TCP_SYN | TCP_FIN | TCP_RST) ? copied : 0;
	}
	return kernel_asked(control_pair[inner][link], p, n) == want;
}

/* Kernel and frame_decode() agree on the frame, and what the kernel copies is enough to decode
 * the same as from the whole. */
static bool agree(enum link_type link, const uint8_t *p, size_t n, int *ret_copied)
{
	struct segment full = { 0 }, cut = { 0 };
	enum frame_verdict v = decode(link, p, n, n, &full);
	int copied = kernel_verdict(link, p, n);
	const char *why = NULL;
	struct frame f = frame_of(link, p, n, n);
	bool deferred = frame_holds_inner(&f, inner);

	*ret_copied = copied;
	if (copied < 0) {
		why = "other octets arrived";
	} else if ((frame_claims_tcp(v) || deferred) != (copied > 0)) {
		why = "verdicts differ";
	} else if (copied && deferred) {
		why = inner_agrees(link, p, n, (size_t)copied);
	} else if (copied) {
		if (decode(link, p, (size_t)copied, n, &cut) != v)
			why = "the copy decodes otherwise";
	}
	if (!why && v == FRAME_TCP) {
		/* The options end the header, and no octet after it is copied. */
		size_t want = (size_t)(full.options.p - p) + full.options.n;

		if ((size_t)copied != want || full.options.n != cut.options.n ||
		    full.payload_len != cut.payload_len || full.seq != cut.seq ||
		    full.flags != cut.flags)
			why = "copy length";
	}
	if (!why && !control_agrees(link, p, n, deferred, copied))
		why = "control";
	if (!why && v == FRAME_TCP &&
	    segment_is_control(&full) != (kernel_asked(control_pair[inner][link], p, n) > 0))
		why = "control takes others than segment_is_control()";
	if (!why && !inner && bypass_pair[link][0] &&
	    kernel_asked(bypass_pair[link], p, n) != copied)
		why = "the filter of mode=auto differs";
	if (why)
		print_frame(link, p, n, why, v, copied);
	return !why;
}

/* ---- frames ---- */

struct build {
	uint8_t p[FRAME_MAX];
	size_t n;
};

static void add(struct build *b, const void *p, size_t n)
{
	memcpy(b->p + b->n, p, n);
	b->n += n;
}

static void add16(struct build *b, unsigned v)
{
	add(b, (uint8_t[]){ (uint8_t)(v >> 8), (uint8_t)v }, 2);
}

static void add_zero(struct build *b, size_t n)
{
	memset(b->p + b->n, 0, n);
	b->n += n;
}

/* MAC addresses, @n tags of @tag, EtherType. */
static void add_ethernet(struct build *b, const unsigned *tag, unsigned n, unsigned type)
{
	add(b, "\2\0\0\0\0\1\2\0\0\0\0\2", 12);
	for (unsigned i = 0; i < n; i++) {
		add16(b, tag[i]);
		add16(b, 100 + i);
	}
	add16(b, type);
}

/* Header of @hl octets for @payload octets of @proto. */
static void add_ip4(struct build *b, unsigned hl, unsigned proto, unsigned frag, size_t payload)
{
	add(b, (uint8_t[]){ (uint8_t)(0x40 | hl / 4), 0 }, 2);
	add16(b, (unsigned)(hl + payload));
	add16(b, 1);
	add16(b, frag);
	add(b, (uint8_t[]){ 64, (uint8_t)proto, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2 }, 12);
	memset(b->p + b->n, 1, hl - 20); /* no-operation options */
	b->n += hl - 20;
}

static void add_ip6(struct build *b, unsigned next, size_t payload)
{
	add(b, "\x60\0\0", 4);
	add16(b, (unsigned)payload);
	add(b, (uint8_t[]){ (uint8_t)next, 64 }, 2);
	add(b, "\xfd\0\0\0\0\0\0\0\0\0\0\0\0\0\0\1\xfd\0\0\0\0\0\0\0\0\0\0\0\0\0\0\2", 32);
}

/* Octets of extension header @kind with length octet @len. */
static size_t ext_size(unsigned kind, unsigned len)
{
	return kind == 44 ? 8 : kind == 51 ? (len + 2) * 4 : (len + 1) * 8;
}

static void add_ext(struct build *b, unsigned kind, unsigned next, unsigned len, unsigned frag)
{
	size_t start = b->n;

	add_zero(b, ext_size(kind, len));
	b->p[start] = (uint8_t)next;
	b->p[start + 1] = (uint8_t)len;
	if (kind == 44) {
		b->p[start + 2] = (uint8_t)(frag >> 8);
		b->p[start + 3] = (uint8_t)frag;
	}
}

static unsigned tcp_flags = TCP_ACK | TCP_PSH; /* of what add_tcp() makes */

static void add_tcp(struct build *b, unsigned hl, size_t payload)
{
	add16(b, 40000);
	add16(b, 443);
	add(b, "\x12\x34\x56\x78\x9a\xbc\xde\xf0", 8);
	add16(b, hl / 4 << 12 | tcp_flags);
	add(b, "\xff\xff\0\0\0", 6);
	memset(b->p + b->n, 1, hl - 20);
	b->n += hl - 20;
	memset(b->p + b->n, 'x', payload);
	b->n += payload;
}

/* ---- (a) by hand ---- */

static void check(const struct build *b, enum link_type link, int want, const char *what)
{
	int copied;
	bool same = agree(link, b->p, b->n, &copied);

	ok(same && copied == want, "%s: %d octets", what, want);
	if (copied != want)
		printf("# copied %d\n", copied);
}

static void test_ip4(void)
{
	struct build b = { .n = 0 };

	add_ethernet(&b, NULL, 0, 0x0800);
	add_ip4(&b, 20, 6, 0, 20 + 1000);
	add_tcp(&b, 20, 1000);
	check(&b, LINK_ETHERNET, 14 + 20 + 20, "IPv4 TCP with payload: headers only");
	b.n = 14 + 20 + 13;
	check(&b, LINK_ETHERNET, 14 + 20 + 13, "IPv4 TCP, cut after the data offset: all of it");
	b.n = 14 + 20 + 12;
	check(&b, LINK_ETHERNET, 14 + 20 + 12, "IPv4 TCP, cut before the data offset: all of it");
	b.n = 14 + 20 + 1;
	check(&b, LINK_ETHERNET, 35, "IPv4, one octet of TCP");
	b.n = 14 + 20;
	check(&b, LINK_ETHERNET, 0, "IPv4, cut before TCP");
	b.n = 0;
	check(&b, LINK_ETHERNET, 0, "no octet at all");

	add_ethernet(&b, NULL, 0, 0x0800);
	add_ip4(&b, 60, 6, 0, 60 + 500);
	add_tcp(&b, 60, 500);
	check(&b, LINK_ETHERNET, 14 + 60 + 60, "IPv4 and TCP with 40 octets of options each");
	b.p[14] = 0x44;
	check(&b, LINK_ETHERNET, 0, "IHL 4");
	b.p[14] = 0x5f;
	check(&b, LINK_ETHERNET, 0, "version 5");
	b.p[14] = 0x65;
	check(&b, LINK_ETHERNET, 0, "version 6 under EtherType 0800");

	static const struct {
		unsigned proto, frag;
		int want;
		const char *what;
	} c[] = {
		{ 17, 0, 0, "UDP" },
		{ 1, 0, 0, "ICMP" },
		{ 6, 0x2000, 54, "first fragment" },
		{ 6, 0x4000, 54, "don't fragment" },
		{ 6, 0x0001, 0, "last fragment, offset 8" },
		{ 6, 0x3000, 0, "middle fragment, high bit of the offset" },
		{ 6, 0x8000, 54, "reserved flag" },
	};
	for (unsigned i = 0; i < ARRAY_SIZE(c); i++) {
		b.n = 0;
		add_ethernet(&b, NULL, 0, 0x0800);
		add_ip4(&b, 20, c[i].proto, c[i].frag, 120);
		add_tcp(&b, 20, 100);
		check(&b, LINK_ETHERNET, c[i].want, c[i].what);
	}
	b.p[12] = 0x08, b.p[13] = 0x06;
	check(&b, LINK_ETHERNET, 0, "ARP");
	b.p[12] = 0x00, b.p[13] = 0x64;
	check(&b, LINK_ETHERNET, 0, "802.3 length in place of the EtherType");
}

static void test_vlan(void)
{
	static const unsigned tag[] = { 0x88a8, 0x8100, 0x9100, 0x8100, 0x88a8 };

	for (unsigned n = 1; n <= LINK_MAX_VLAN + 1; n++) {
		struct build b = { .n = 0 };
		bool fits = n <= LINK_MAX_VLAN;
		char what[64];

		add_ethernet(&b, tag, n, 0x0800);
		add_ip4(&b, 24, 6, 0, 200);
		add_tcp(&b, 20, 180);
		snprintf(what, sizeof(what), "IPv4 after %u tags", n);
		check(&b, LINK_ETHERNET, fits ? (int)(14 + 4 * n + 24 + 20) : 0, what);

		b.n = 0;
		add_ethernet(&b, tag, n, 0x86dd);
		add_ip6(&b, 6, 200);
		add_tcp(&b, 20, 180);
		snprintf(what, sizeof(what), "IPv6 after %u tags", n);
		check(&b, LINK_ETHERNET, fits ? (int)(14 + 4 * n + 40 + 20) : 0, what);
	}
	struct build b = { .n = 0 };

	add_ethernet(&b, (unsigned[]){ 0x9200 }, 1, 0x0800);
	add_ip4(&b, 20, 6, 0, 120);
	add_tcp(&b, 20, 100);
	check(&b, LINK_ETHERNET, 0, "a tag of unknown kind (0x9200)");
}

static void test_ip6(void)
{
	static const uint8_t kind[] = { 0, 43, 44, 51, 60, 135, 139, 140 };
	struct build b = { .n = 0 };
	char what[64];

	add_ethernet(&b, NULL, 0, 0x86dd);
	add_ip6(&b, 6, 20 + 500);
	add_tcp(&b, 20, 500);
	check(&b, LINK_ETHERNET, 14 + 40 + 20, "IPv6 TCP");
	b.p[14] = 0x45;
	check(&b, LINK_ETHERNET, 0, "version 4 under EtherType 86dd");
	b.p[14] = 0x60;
	b.p[20] = 17;
	check(&b, LINK_ETHERNET, 0, "IPv6 UDP");

	for (unsigned i = 0; i < ARRAY_SIZE(kind); i++) {
		unsigned len = kind[i] == 44 ? 0 : 4;

		b.n = 0;
		add_ethernet(&b, NULL, 0, 0x86dd);
		add_ip6(&b, kind[i], ext_size(kind[i], len) + 120);
		add_ext(&b, kind[i], 6, len, 0);
		add_tcp(&b, 20, 100);
		snprintf(what, sizeof(what), "IPv6, header %u, TCP", kind[i]);
		check(&b, LINK_ETHERNET, (int)(14 + 40 + ext_size(kind[i], len) + 20), what);
	}
	static const struct {
		unsigned frag;
		bool want;
		const char *what;
	} f[] = {
		{ 1, true, "IPv6 first fragment" },
		{ 6, true, "IPv6 fragment, reserved bits" },
		{ 8, false, "IPv6 fragment at offset 8" },
		{ 0x8000, false, "IPv6 fragment, high bit of the offset" },
	};
	for (unsigned i = 0; i < ARRAY_SIZE(f); i++) {
		b.n = 0;
		add_ethernet(&b, NULL, 0, 0x86dd);
		add_ip6(&b, 44, 128);
		add_ext(&b, 44, 6, 0, f[i].frag);
		add_tcp(&b, 20, 100);
		check(&b, LINK_ETHERNET, f[i].want ? 14 + 48 + 20 : 0, f[i].what);
	}
	for (unsigned n = IP6_MAX_HEADERS; n <= IP6_MAX_HEADERS + 1; n++) {
		b.n = 0;
		add_ethernet(&b, NULL, 0, 0x86dd);
		add_ip6(&b, 60, n * 8 + 120);
		for (unsigned i = 1; i <= n; i++)
			add_ext(&b, 60, i < n ? 60 : 6, 0, 0);
		add_tcp(&b, 20, 100);
		snprintf(what, sizeof(what), "IPv6 with %u extension headers", n);
		check(&b, LINK_ETHERNET, n <= IP6_MAX_HEADERS ? (int)(54 + n * 8 + 20) : 0, what);
	}
	b.n = 0;
	add_ethernet(&b, NULL, 0, 0x86dd);
	add_ip6(&b, 60, IP6_MAX_HEADERS * 2048 + 20);
	for (unsigned i = 1; i <= IP6_MAX_HEADERS; i++)
		add_ext(&b, 60, i < IP6_MAX_HEADERS ? 60 : 6, 255, 0);
	add_tcp(&b, 20, 0);
	check(&b, LINK_ETHERNET, (int)b.n, "IPv6, every extension header of 2048 octets");
}

static void test_raw_ip(void)
{
	struct build b = { .n = 0 };

	add_ip4(&b, 20, 6, 0, 1020);
	add_tcp(&b, 20, 1000);
	check(&b, LINK_RAW_IP, 40, "raw IPv4 TCP");
	for (unsigned v = 0; v < 16; v++) {
		char what[64];

		b.p[0] = (uint8_t)(v << 4 | 5);
		b.p[6] =
			6; /* next header, were it IPv6; reserved flag and part of offset in IPv4 */
		b.p[7] = 0;
		snprintf(what, sizeof(what), "raw, version %u", v);
		check(&b, LINK_RAW_IP, v == 6 ? 68 : 0, what);
	}
	b.n = 0;
	add_ip6(&b, 0, 8 + 1020);
	add_ext(&b, 0, 6, 0, 0);
	add_tcp(&b, 20, 1000);
	check(&b, LINK_RAW_IP, 68, "raw IPv6 TCP after hop-by-hop options");
	b.n = 0;
	check(&b, LINK_RAW_IP, 0, "raw, no octet at all");
}

static void prepend(struct build *b, const void *p, size_t n)
{
	memmove(b->p + n, b->p, b->n);
	memcpy(b->p, p, n);
	b->n += n;
}

static void prepend_header(struct build *b, const struct build *header)
{
	prepend(b, header->p, header->n);
}

/* An IPv4 or IPv6 header of @proto before what is there. */
static void put_in_ip(struct build *b, bool v4, unsigned proto)
{
	struct build h = { .n = 0 };

	if (v4)
		add_ip4(&h, 20, proto, 0, b->n);
	else
		add_ip6(&h, proto, b->n);
	prepend_header(b, &h);
}

static void put_in_ethernet(struct build *b)
{
	struct build h = { .n = 0 };

	add_ethernet(&h, NULL, 0, b->p[0] >> 4 == 4 ? 0x0800 : 0x86dd);
	prepend_header(b, &h);
}

static void put_in_udp(struct build *b, bool v4, unsigned port)
{
	struct build h = { .n = 0 };

	add16(&h, 50000);
	add16(&h, port);
	add16(&h, (unsigned)b->n + 8);
	add16(&h, 0);
	prepend_header(b, &h);
	put_in_ip(b, v4, 17);
}

static void make_tcp_packet(struct build *b, bool v4, size_t payload)
{
	b->n = 0;
	add_tcp(b, 32, payload);
	put_in_ip(b, v4, 6);
}

/* One flag after the other, after everything that may stand before it. */
static void test_control(void)
{
	static const char *const name[] = {
		"FIN", "SYN", "RST", "PSH", "ACK", "URG", "ECE", "CWR"
	};
	struct build b;
	char what[64];

	for (unsigned i = 0; i < 8; i++) {
		for (unsigned v4 = 0; v4 < 2; v4++) {
			unsigned tag[] = { 0x88a8, 0x8100 };

			tcp_flags = 1u << i;
			b.n = 0;
			add_ethernet(&b, tag, 2, v4 ? 0x0800 : 0x86dd);
			if (v4)
				add_ip4(&b, 24, 6, 0, 120);
			else
				add_ip6(&b, 60, 8 + 120);
			if (!v4)
				add_ext(&b, 60, 6, 0, 0);
			add_tcp(&b, 20, 100);
			int got = kernel_asked(control_pair[0][LINK_ETHERNET], b.p, b.n);
			int want = i < 3 ? (v4 ? 22 + 24 + 20 : 22 + 48 + 20) : 0;

			snprintf(what, sizeof what,
				 "control: %s alone, IPv%u after two tags: %d octets", name[i],
				 v4 ? 4 : 6, want);
			ok(got == want, "%s", what);
		}
	}
	tcp_flags = TCP_ACK | TCP_FIN;
	make_tcp_packet(&b, true, 0);
	ok(kernel_asked(control_pair[0][LINK_RAW_IP], b.p, 20 + 14) == 34 &&
		   !kernel_asked(control_pair[0][LINK_RAW_IP], b.p, 20 + 13),
	   "control: a frame must reach to the flags");
	tcp_flags = TCP_ACK | TCP_PSH;
}

static void test_links(void)
{
	struct build b;

	for (unsigned n = 1; n <= LINK_MAX_MPLS + 1; n++) {
		bool v4 = n & 1;
		char what[64];

		make_tcp_packet(&b, v4, 500);
		for (unsigned i = 0; i < n; i++)
			prepend(&b, i ? "\0\1\0\x40" : "\0\1\1\x40", 4);
		prepend(&b,
			n & 2 ? "\2\0\0\0\0\1\2\0\0\0\0\2\x88\x47"
			      : "\2\0\0\0\0\1\2\0\0\0\0\2\x88\x48",
			14);
		snprintf(what, sizeof what, "after %u MPLS labels", n);
		check(&b, LINK_ETHERNET,
		      n <= LINK_MAX_MPLS ? (int)(14 + 4 * n + (v4 ? 20 : 40) + 32) : 0, what);
	}
	static const struct {
		const char *octets;
		size_t n;
		bool v4, passes;
		const char *what;
	} c[] = {
		{ "\x88\x64\x11\0\0\7\0\x16\0\x21", 10, true, true, "PPPoE session, IPv4" },
		{ "\x88\x64\x11\0\0\7\0\x16\0\x57", 10, false, true, "PPPoE session, IPv6" },
		{ "\x88\x64\x11\0\0\7\0\x16\xc0\x21", 10, true, false, "PPPoE session, LCP" },
		{ "\x88\x64\x11\x65\0\7\0\x16\0\x21", 10, true, false, "PPPoE, not a session" },
		{ "\0\xff\xaa\xaa\3\0\0\0\x08\0", 10, true, true, "SNAP, IPv4" },
		{ "\0\xff\xaa\xaa\3\0\0\0\x86\xdd", 10, false, true, "SNAP, IPv6" },
		{ "\0\xff\xaa\xaa\3\0\0\1\x08\0", 10, true, false, "SNAP, another OUI" },
		{ "\0\xff\xaa\xaa\3\0\0\0\x81\0", 10, true, false, "SNAP, a tag" },
		{ "\x06\0\xaa\xaa\3\0\0\0\x08\0", 10, true, false, "SNAP after an EtherType" },
	};
	for (unsigned i = 0; i < ARRAY_SIZE(c); i++) {
		make_tcp_packet(&b, c[i].v4, 500);
		prepend(&b, c[i].octets, c[i].n);
		prepend(&b, "\2\0\0\0\0\1\2\0\0\0\0\2", 12);
		check(&b, LINK_ETHERNET,
		      c[i].passes ? (int)(12 + c[i].n + (c[i].v4 ? 20 : 40) + 32) : 0, c[i].what);
	}
}

/* What each filter does with tunnels and ICMP errors. */
static void test_inner(void)
{
	static const struct {
		unsigned proto, port;
	} tunnels[] = { { 4, 0 },     { 41, 0 },    { 47, 0 },	  { 17, 4789 },
			{ 17, 8472 }, { 17, 6081 }, { 17, 2152 }, { 17, 4790 } };
	struct build b;
	char what[80];

	for (inner = 0; inner < INSIDES; inner++) {
		for (unsigned i = 0; i < 2 * ARRAY_SIZE(tunnels); i++) {
			unsigned proto = tunnels[i / 2].proto, port = tunnels[i / 2].port;
			bool v4 = i & 1, passes = inner & INNER_TUNNELS && port != 4790;

			make_tcp_packet(&b, true, 1000);
			if (port)
				put_in_udp(&b, v4, port);
			else
				put_in_ip(&b, v4, proto);
			put_in_ethernet(&b);
			snprintf(what, sizeof what, "inner %u: protocol %u, port %u in IPv%u",
				 inner, proto, port, v4 ? 4 : 6);
			check(&b, LINK_ETHERNET,
			      passes ? 14 + (v4 ? 20 : 40) + TCP_FILTER_TUNNEL_OCTETS : 0, what);
		}
		for (unsigned i = 0; i < 16; i++) {
			bool v4 = i & 1, tcp = i & 2, error = i & 4, advice = i & 8;
			bool passes = inner & INNER_ICMP && tcp && error && !(v4 && advice);
			uint8_t icmp[8] = { v4 ? 3 : 1, advice ? 4 : 1 };

			if (!error)
				icmp[0]++;
			make_tcp_packet(&b, v4, 100);
			b.p[v4 ? 9 : 6] = tcp ? 6 : 17;
			prepend(&b, icmp, sizeof icmp);
			put_in_ip(&b, v4, v4 ? 1 : 58);
			snprintf(what, sizeof what,
				 "inner %u: ICMP of type %u, code %u, IPv%u, quotes %s", inner,
				 icmp[0], icmp[1], v4 ? 4 : 6, tcp ? "TCP" : "UDP");
			check(&b, LINK_RAW_IP, passes ? 2 * (v4 ? 20 : 40) + 8 + 8 : 0, what);
		}
	}
	inner = 0;
}

/* ---- (b) at random ---- */

static uint64_t rng;

static uint32_t rnd(uint32_t below)
{
	rng ^= rng << 13;
	rng ^= rng >> 7;
	rng ^= rng << 17;
	return (uint32_t)((rng >> 32) * below >> 32);
}

static unsigned rnd_of(const uint16_t *a, unsigned n)
{
	return a[rnd(n)];
}

/* A frame that is TCP as a rule, with tags, options and extension headers as the dice fall, more
 * of them than are followed now and then. */
static enum link_type random_plain(struct build *b)
{
	static const uint16_t tags[] = { 0x8100, 0x88a8, 0x9100 };
	static const uint16_t kinds[] = { 0, 43, 44, 51, 60, 135, 139, 140 };
	enum link_type link = rnd(4) ? LINK_ETHERNET : LINK_RAW_IP;
	bool v4 = rnd(2);
	size_t payload = rnd(90);

	tcp_flags = rnd(2) ? rnd(256) : TCP_ACK;
	unsigned tcp_hl = 20 + 4 * rnd(11);

	b->n = 0;
	if (link == LINK_ETHERNET) {
		unsigned tag[LINK_MAX_VLAN + 2], n = rnd(3) ? 0 : rnd(LINK_MAX_VLAN + 3);

		for (unsigned i = 0; i < n; i++)
			tag[i] = rnd_of(tags, ARRAY_SIZE(tags));
		switch (rnd(12)) {
		case 0:
			add_ethernet(b, tag, n, 0x8847 + rnd(2));
			for (unsigned labels = rnd(LINK_MAX_MPLS + 2); labels; labels--)
				add(b, labels == 1 ? "\0\1\1\x40" : "\0\1\0\x40", 4);
			break;
		case 1:
			add_ethernet(b, tag, n, 0x8864);
			add(b, v4 ? "\x11\0\0\7\0\x63\0\x21" : "\x11\0\0\7\0\x63\0\x57", 8);
			break;
		case 2:
			add_ethernet(b, tag, n, 0x63);
			add(b, v4 ? "\xaa\xaa\3\0\0\0\x08\0" : "\xaa\xaa\3\0\0\0\x86\xdd", 8);
			break;
		default:
			add_ethernet(b, tag, n, v4 ? 0x0800 : 0x86dd);
		}
	}
	if (v4) {
		add_ip4(b, 20 + 4 * rnd(11), 6, rnd(8) ? 0x4000 : 0x2000, tcp_hl + payload);
	} else {
		unsigned n = rnd(2) ? 0 : rnd(IP6_MAX_HEADERS + 2);
		unsigned kind[IP6_MAX_HEADERS + 2], len[IP6_MAX_HEADERS + 2];
		size_t ext = 0;

		for (unsigned i = 0; i < n; i++) {
			kind[i] = rnd_of(kinds, ARRAY_SIZE(kinds));
			len[i] = rnd(4) ? rnd(3) : rnd(256);
			ext += ext_size(kind[i], len[i]);
		}
		kind[n] = 6;
		add_ip6(b, kind[0], ext + tcp_hl + payload);
		for (unsigned i = 0; i < n; i++)
			add_ext(b, kind[i], kind[i + 1], len[i], rnd(2));
	}
	add_tcp(b, tcp_hl, payload);
	return link;
}

/* Some tunnel or ICMP error around it, by the layout of wire/tunnel.c. */
static void random_wrap(struct build *b, enum link_type *link)
{
	bool v4 = rnd(2), six = b->p[0] >> 4 == 6;
	static const uint8_t vxlan[8] = { 8, 0, 0, 0, 0, 0, 42, 0 };
	static const uint8_t geneve[12] = { 1, 0, 0x65, 0x58, 0, 0, 42, 0, 1, 2, 3, 0 };
	static const uint8_t nvgre[8] = { 0x20, 0, 0x65, 0x58, 0, 0, 42, 0 };
	static const uint8_t erspan[16] = { 0x10, 0, 0x88, 0xbe, 0, 0, 0, 1, 0x10, 0, 0, 42 };
	static const uint8_t gtp[12] = { 0x32, 255, 0, 0, 0, 0, 0, 42 };
	const uint8_t gre[4] = { 0, 0, six ? 0x86 : 0x08, six ? 0xdd : 0 };
	const uint8_t icmp[8] = { six ? 1 : 3, (uint8_t)rnd(5) };

	if (*link == LINK_ETHERNET) {
		switch (rnd(4)) {
		case 0:
			prepend(b, vxlan, sizeof vxlan);
			put_in_udp(b, v4, rnd(2) ? 4789 : 8472);
			break;
		case 1:
			prepend(b, geneve, sizeof geneve);
			put_in_udp(b, v4, 6081);
			break;
		case 2:
			prepend(b, nvgre, sizeof nvgre);
			put_in_ip(b, v4, 47);
			break;
		case 3:
			prepend(b, erspan, sizeof erspan);
			put_in_ip(b, v4, 47);
		}
	} else {
		switch (rnd(4)) {
		case 0:
			prepend(b, gtp, sizeof gtp);
			put_in_udp(b, v4, 2152);
			break;
		case 1:
			prepend(b, gre, sizeof gre);
			put_in_ip(b, v4, 47);
			break;
		case 2:
			put_in_ip(b, v4, six ? 41 : 4);
			break;
		case 3:
			prepend(b, icmp, sizeof icmp);
			put_in_ip(b, !six, six ? 58 : 1);
		}
	}
	*link = LINK_RAW_IP;
	if (rnd(3)) {
		put_in_ethernet(b);
		*link = LINK_ETHERNET;
	}
}

static enum link_type random_frame(struct build *b)
{
	enum link_type link = random_plain(b);

	if (inner)
		for (unsigned levels = rnd(4); levels; levels--)
			random_wrap(b, &link);
	return link;
}

/* Bit flips in what the filter looks at, an octet set to some kind of header, or a cut. */
static void mutate(struct build *b)
{
	static const uint16_t octets[] = { 0,	 6,    17,   43,   44,	 51,   60,   135,  139,
					   140,	 0x08, 0x86, 0xdd, 0x81, 0x88, 0xa8, 0x91, 0x45,
					   0x46, 0x60, 0x44, 0xff, 1,	 3,    4,    41,   47,
					   58,	 0x47, 0x64, 0x12, 0xb5, 0x21 };
	uint32_t headers = b->n < 120 ? (uint32_t)b->n : 120;

	switch (rnd(5)) {
	case 0: /* as it is */
		break;
	case 1:
	case 2:
		for (unsigned i = 0, n = 1 + rnd(3); i < n; i++)
			b->p[rnd(headers)] ^= (uint8_t)(1u << rnd(8));
		break;
	case 3:
		b->p[rnd(headers)] = (uint8_t)rnd_of(octets, ARRAY_SIZE(octets));
		break;
	case 4:
		b->n = rnd((uint32_t)b->n + 1);
		break;
	}
}

static void test_random(void)
{
	unsigned accepted = 0, disagreed = 0, done = 0;
	struct build b;
	int copied;

	for (; done < MUTATIONS && disagreed < 5; done++) {
		enum link_type link = random_frame(&b);

		mutate(&b);
		disagreed += !agree(link, b.p, b.n, &copied);
		accepted += copied > 0;
	}
	printf("# %u frames, %u accepted\n", done, accepted);
	ok(!disagreed, "inner %u: kernel and frame_decode() agree on %u mutated frames", inner,
	   done);
	ok(accepted > done / 8 && accepted < done - done / 8, "many of either verdict among them");

	/* Each possible cut of frames of each kind. */
	for (done = 0; done < 100 && disagreed < 5; done++) {
		enum link_type link = random_frame(&b);

		for (size_t n = b.n; disagreed < 5 && n-- > 0;)
			disagreed += !agree(link, b.p, n, &copied);
	}
	ok(!disagreed, "and on %u frames cut at every length", done);
}

/* ---- the builder ---- */

static void test_build(void)
{
	struct sock_filter insns[TCP_FILTER_MAX], small[TCP_FILTER_MAX];
	unsigned wrong = 0;
	int n = tcp_filter_build(&(struct tcp_filter_spec){ .link = LINK_ETHERNET }, insns,
				 TCP_FILTER_MAX);

	for (int max = 0; max < n; max++)
		wrong += tcp_filter_build(&(struct tcp_filter_spec){ .link = LINK_ETHERNET }, small,
					  (unsigned)max) != -ENOSPC;
	ok(n > 0 && !wrong, "%d instructions; -ENOSPC with room for any fewer", n);
	for (int l = 0; l < LINK_TYPES; l++) {
		bool fits = l == LINK_ETHERNET || l == LINK_RAW_IP;

		n = tcp_filter_build(&(struct tcp_filter_spec){ .link = (enum link_type)l }, insns,
				     TCP_FILTER_MAX);
		ok(fits ? n > 0 : n == -EPFNOSUPPORT, "link type %d: %s", l,
		   fits ? "a program" : "-EPFNOSUPPORT");
	}
}

/* The cost of the common case: three instructions of Ethernet, and straight through IPv4. */
static void test_common_path(void)
{
	struct sock_filter insns[TCP_FILTER_MAX];

	tcp_filter_build(&(struct tcp_filter_spec){ .link = LINK_ETHERNET }, insns, TCP_FILTER_MAX);
	unsigned to_v4 = 3 + insns[2].jt;

	ok(insns[to_v4].code == (BPF_LD | BPF_B | BPF_IND) && insns[to_v4].k == 9 &&
		   insns[to_v4 + 21].code == (BPF_RET | BPF_A),
	   "untagged IPv4 TCP takes 25 instructions");
}

static int silent(enum libbpf_print_level level, const char *format, va_list args)
{
	(void)level, (void)format, (void)args;
	return 0;
}

/* It watches no connection here, so that it must agree with the classic one. */
static void load_bulk(enum link_type link)
{
	struct bypass_bpf *skel = bypass_bpf__open();
	int *pair_of = bypass_pair[link], fd;

	if (!skel)
		abort();
	skel->rodata->raw_ip = link == LINK_RAW_IP;
	if (bypass_bpf__load(skel) < 0) {
		tap_skip("the filter of mode=auto agrees on each frame",
			 "the kernel does not take it: CAP_BPF?");
		return;
	}
	fd = bpf_program__fd(skel->progs.bypass);
	ok(!socketpair(AF_UNIX, SOCK_DGRAM, 0, pair_of) &&
		   !setsockopt(pair_of[1], SOL_SOCKET, SO_ATTACH_BPF, &fd, sizeof fd),
	   "the kernel takes the filter of mode=auto, link type %d", link);
}

int main(void)
{
	static const enum link_type links[] = { LINK_ETHERNET, LINK_RAW_IP };

	test_build();
	test_common_path();
	libbpf_set_print(silent);
	for (unsigned i = 0; i < ARRAY_SIZE(links); i++)
		load_bulk(links[i]);
	for (unsigned i = 0; i < INSIDES * ARRAY_SIZE(links); i++) {
		struct sock_filter insns[TCP_FILTER_MAX];
		struct tcp_filter_spec spec = { links[i / INSIDES], i % INSIDES, false };
		int n = tcp_filter_build(&spec, insns, TCP_FILTER_MAX);
		int *fd = pair[spec.inner][spec.link];
		int *control = control_pair[spec.inner][spec.link];
		struct sock_fprog prog = { .len = (unsigned short)n, .filter = insns };

		if (!ok(n > 0 && !socketpair(AF_UNIX, SOCK_DGRAM, 0, fd) &&
				!setsockopt(fd[1], SOL_SOCKET, SO_ATTACH_FILTER, &prog,
					    sizeof(prog)),
			"the kernel takes the program of link type %d, inner %u (%d instructions)",
			spec.link, spec.inner, n))
			return tap_done();
		spec.control = true;
		n = tcp_filter_build(&spec, insns, TCP_FILTER_MAX);
		prog.len = (unsigned short)n;
		if (!ok(n > 0 && !socketpair(AF_UNIX, SOCK_DGRAM, 0, control) &&
				!setsockopt(control[1], SOL_SOCKET, SO_ATTACH_FILTER, &prog,
					    sizeof(prog)),
			"and the one of control (%d instructions)", n))
			return tap_done();
	}
	test_control();
	test_ip4();
	test_vlan();
	test_ip6();
	test_raw_ip();
	test_links();
	test_inner();
	rng = tap_seed(20240607) | 1;
	for (inner = 0; inner < INSIDES; inner++)
		test_random();
	return tap_done();
}
