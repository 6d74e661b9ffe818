/* TCP in tunnels and in ICMP errors: frame_decode_inner(). */
#include "base/cc.h"
#include "tests/support/frames.h"

static size_t outer_at; /* the outer IPv4 header */

/* Outer header of @proto; what is put then is its payload. */
static void outer(unsigned proto)
{
	ethernet(V4);
	ip4(proto, 0);
	outer_at = ip_at;
}

static void udp(unsigned port)
{
	outer(17);
	put16(50000);
	put16(port);
	put32(0);
}

static void inner_ethernet(void)
{
	put_run(2, 12);
	put16(V4);
}

/* finish() for the inner packet and the outer one. */
static void finish_outer(void)
{
	finish();
	set16(outer_at + 2, (unsigned)(pkt_n - outer_at));
}

static void inner_tcp(void)
{
	ip4(6, 0);
	tcp(TCP_SYN, 8, 5);
	finish_outer();
}

static void vxlan_header(void)
{
	udp(4789);
	put32(0x08000000);
	put32(42 << 8);
	inner_ethernet();
}

static void vxlan(void)
{
	vxlan_header();
	inner_tcp();
}

/* What is there is TCP in a tunnel; @id -1: it has none. */
static void expect(enum tunnel_type type, int64_t id, const char *what)
{
	is(FRAME_NOT_TCP, "%s: not for frame_decode()", what);
	is_inner(FRAME_NOT_TCP, INNER_ICMP, "%s: nor where tunnels are not asked for", what);
	ok(frame_holds_inner(&fr, INNER_TUNNELS) && !frame_holds_inner(&fr, INNER_ICMP),
	   "%s: the filter is to let it pass for --decap", what);
	is_inner(FRAME_TCP, INNER_TUNNELS, "%s: TCP", what);
	ok(tun.type == type && tun.has_id == (id >= 0) && tun.id == (id < 0 ? 0 : id),
	   "... type and id of the tunnel");
	ok(seg.sport == 40000 && seg.dport == 443 && seg.payload_len == 5 && seg.options.n == 8 &&
		   seg.wire_len == pkt_n && seg.ts_ns == 42 && seg.iface == 3 &&
		   !memcmp(seg.src, "\xc0\0\2\1", 4),
	   "... the inner segment");
}

/* Each cut of the frame gives the verdict of what is left, without reading on. */
static void cut_everywhere(const char *what)
{
	uint32_t full = fr.caplen, wrong = 0, header = (uint32_t)tcp_at;

	for (fr.caplen = 0; fr.caplen <= full; fr.caplen++) {
		enum frame_verdict got = decode_inner(INNER_TUNNELS);
		enum frame_verdict want = fr.caplen <= header	    ? FRAME_CUT
					  : fr.caplen < header + 20 ? FRAME_TCP_CUT
								    : FRAME_TCP;
		/* Where the port, or the first octet after the header, is missing it is no
		 * tunnel. */
		bool early = fr.caplen < outer_at + 24 && got == FRAME_NOT_TCP;

		wrong += (got != want && !early) || (got != FRAME_TCP && !untouched());
	}
	fr.caplen = full;
	ok(!wrong, "%s: cut at each of %u octets", what, full);
}

static void test_vxlan(void)
{
	vxlan();
	expect(TUNNEL_VXLAN, 42, "VXLAN");
	cut_everywhere("VXLAN");
	set16(outer_at + 22, 8472);
	is_inner(FRAME_TCP, INNER_TUNNELS, "VXLAN: Linux's old port");
	set16(outer_at + 22, 4790);
	is_inner(FRAME_NOT_TCP, INNER_TUNNELS, "VXLAN: another port");
	set16(outer_at + 22, 4789);
	pkt[outer_at + 28] = 0xf7;
	is_inner(FRAME_NOT_TCP, INNER_TUNNELS, "VXLAN: the VNI is not valid");

	vxlan();
	fr.has_vlan = 1;
	fr.vlan_tci = 7;
	is_inner(FRAME_TCP, INNER_TUNNELS, "VXLAN: a tag outside");
	ok(!seg.nvlan, "... is not the inner frame's");
	vxlan_header();
	tag(0x8100, 0x2005);
	inner_tcp();
	is_inner(FRAME_TCP, INNER_TUNNELS, "VXLAN: a tag in the inner frame");
	ok(seg.nvlan == 1 && seg.vlan[0] == 5, "... is reported");
	vxlan_header();
	ip4(17, 0);
	put_run(0, 20);
	finish_outer();
	is_inner(FRAME_NOT_TCP, INNER_TUNNELS, "VXLAN: inner UDP");
}

static void test_lengths(void)
{
	vxlan();
	set16(outer_at + 6, 0x2000);
	is_inner(FRAME_TCP, INNER_TUNNELS, "the first fragment of the outer packet");
	set16(outer_at + 6, 0x2001);
	is_inner(FRAME_FRAGMENT, INNER_TUNNELS, "a later one");
	set16(outer_at + 6, 0);
	set16(ip_at + 2, 500);
	is_inner(FRAME_TCP_BAD, INNER_TUNNELS, "the inner packet is longer than the outer");
	set16(outer_at + 6, 0x2000);
	is_inner(FRAME_TCP, INNER_TUNNELS, "... which is a fragment");
	ok(seg.payload_len == 500 - 48 && seg.wire_len == pkt_n + 500 - 53,
	   "... all of the payload is on the wire, some elsewhere");
	set16(outer_at + 6, 0);
	set16(outer_at + 2, 0xffff);
	is_inner(FRAME_BAD, INNER_TUNNELS, "the outer packet is longer than the frame");
	set16(outer_at + 2, 19);
	is_inner(FRAME_BAD, INNER_TUNNELS, "the outer packet is shorter than its header");
	vxlan();
	put_run(0, 10);
	fr.len = fr.caplen = (uint32_t)pkt_n;
	set16(ip_at + 2, 60);
	is_inner(FRAME_TCP_BAD, INNER_TUNNELS, "padding of the frame is none of the inner packet");
	vxlan();
	fr.gso_size = 2;
	is_inner(FRAME_TCP, INNER_TUNNELS, "a super-frame");
	ok(seg.wire_segs == 3 && seg.wire_len == pkt_n + 2 * (pkt_n - 5),
	   "... each of its segments has all of the headers");
}

static void test_geneve(void)
{
	for (unsigned words = 0; words <= 63; words += 21) {
		udp(6081);
		put32(words << 24 | 0x6558);
		put32(0xffffff00);
		put_run(7, (size_t)words * 4);
		inner_ethernet();
		inner_tcp();
		expect(TUNNEL_GENEVE, 0xffffff, "Geneve");
		cut_everywhere("Geneve");
	}
	udp(6081);
	put32(V4);
	put32(0);
	inner_tcp();
	expect(TUNNEL_GENEVE, 0, "Geneve: IPv4");
	pkt[outer_at + 28] = 0x40;
	is_inner(FRAME_NOT_TCP, INNER_TUNNELS, "Geneve: version 1");
	pkt[outer_at + 28] = 0;
	set16(outer_at + 30, 0x0001);
	is_inner(FRAME_NOT_TCP, INNER_TUNNELS, "Geneve: a protocol type that is none");
}

static void test_gre(void)
{
	for (unsigned flags = 0; flags < 8; flags++) {
		bool sum = flags & 4, key = flags & 2, seq = flags & 1;

		outer(47);
		put16((unsigned)sum << 15 | (unsigned)key << 13 | (unsigned)seq << 12);
		put16(V4);
		if (sum)
			put32(0);
		if (key)
			put32(0xfffffffe);
		if (seq)
			put32(9);
		inner_tcp();
		expect(TUNNEL_GRE, key ? (int64_t)0xfffffffe : -1, "GRE");
		cut_everywhere("GRE");
	}
	outer(47);
	put32(0x20006558);
	put32(17);
	inner_ethernet();
	inner_tcp();
	expect(TUNNEL_GRE, 17, "NVGRE");
	outer(47);
	put32(0x8847);
	put32(0x140);
	inner_tcp();
	expect(TUNNEL_GRE, -1, "GRE: MPLS");
	outer(47);
	put32(V4);
	inner_tcp();
	pkt[outer_at + 20] = 0x40;
	is_inner(FRAME_NOT_TCP, INNER_TUNNELS, "GRE: a source route");
	pkt[outer_at + 20] = 0;
	pkt[outer_at + 21] = 1;
	is_inner(FRAME_NOT_TCP, INNER_TUNNELS, "GRE: version 1");
}

static void test_erspan(void)
{
	outer(47);
	put32(0x88be);
	inner_ethernet();
	inner_tcp();
	expect(TUNNEL_ERSPAN, -1, "ERSPAN I");
	outer(47);
	put32(0x300088be);
	put32(5); /* a key */
	put32(1);
	put32(0x10050000 | 0x3ff);
	put32(0);
	inner_ethernet();
	inner_tcp();
	expect(TUNNEL_ERSPAN, 0x3ff, "ERSPAN II");
	cut_everywhere("ERSPAN II");
	set16(ip_at + 2, 1000);
	is_inner(FRAME_TCP_BAD, INNER_TUNNELS, "ERSPAN II: the mirrored packet is longer");
	pkt[outer_at + 34] |= 4;
	is_inner(FRAME_TCP, INNER_TUNNELS, "ERSPAN II: ... for the mirror cut it");
	ok(seg.payload_len == 1000 - 48, "... its own length counts");
	pkt[outer_at + 32] = 0x20;
	is_inner(FRAME_NOT_TCP, INNER_TUNNELS, "ERSPAN II: another version");
	for (unsigned o = 0; o < 2; o++) {
		for (unsigned type = 0; type < 3; type++) {
			outer(47);
			put32(0x100022eb);
			put32(1);
			put32(0x20050000 | 3);
			put32(0);
			put32(type << 10 | o);
			put_run(9, o * 8);
			if (type == 0)
				inner_ethernet();
			inner_tcp();
			if (type != 1)
				expect(TUNNEL_ERSPAN, 3, "ERSPAN III");
			else
				is_inner(FRAME_NOT_TCP, INNER_TUNNELS,
					 "ERSPAN III: a frame of another kind");
		}
	}
	cut_everywhere("ERSPAN III");
}

static void test_ip_in_ip(void)
{
	size_t six;

	outer(4);
	inner_tcp();
	expect(TUNNEL_IPIP, -1, "IPv4 in IPv4");
	cut_everywhere("IPv4 in IPv4");
	outer(41);
	ip6(60);
	extension(6, 0, 8);
	tcp(TCP_SYN, 8, 5);
	finish_outer();
	is_inner(FRAME_TCP, INNER_TUNNELS, "IPv6 in IPv4");
	ok(tun.type == TUNNEL_6IN4 && seg.ip_v == 6 && seg.src[15] == 0x20 && seg.extended,
	   "... type, addresses, extension headers");
	ethernet(V6);
	ip6(0);
	extension(4, 0, 8);
	six = ip_at;
	ip4(6, 0);
	tcp(TCP_SYN, 8, 5);
	finish();
	set16(six + 4, (unsigned)(pkt_n - six - 40));
	expect(TUNNEL_4IN6, -1, "IPv4 in IPv6, after hop-by-hop options");
	ethernet(V6);
	ip6(41);
	six = ip_at;
	ip6(6);
	tcp(TCP_SYN, 8, 5);
	finish();
	set16(six + 4, (unsigned)(pkt_n - six - 40));
	is_inner(FRAME_TCP, INNER_TUNNELS, "IPv6 in IPv6");
	ok(tun.type == TUNNEL_6IN6 && !seg.extended, "... its type");

	for (unsigned levels = 1; levels <= 3; levels++) {
		size_t at[3];

		ethernet(V4);
		for (unsigned i = 0; i < levels; i++) {
			at[i] = pkt_n;
			ip4(4, 0);
		}
		ip4(6, 0);
		tcp(TCP_SYN, 8, 5);
		finish();
		for (unsigned i = 0; i < levels; i++)
			set16(at[i] + 2, (unsigned)(pkt_n - at[i]));
		is_inner(levels <= 2 ? FRAME_TCP : FRAME_TOO_DEEP, INNER_TUNNELS, "%u levels",
			 levels);
	}
}

static void test_gtp_u(void)
{
	udp(2152);
	put32(0x30ff0000);
	put32(7);
	inner_tcp();
	expect(TUNNEL_GTP_U, -1, "GTP-U");
	cut_everywhere("GTP-U");
	pkt[outer_at + 29] = 1;
	is_inner(FRAME_NOT_TCP, INNER_TUNNELS, "GTP-U: echo request");
	pkt[outer_at + 29] = 255;
	pkt[outer_at + 28] = 0x20;
	is_inner(FRAME_NOT_TCP, INNER_TUNNELS, "GTP-U: GTP'");
	for (unsigned n = 0; n <= 9; n++) {
		udp(2152);
		put32(n ? 0x34ff0000 : 0x32ff0000);
		put32(7);
		put32(0x85); /* the first extension header; without E of no meaning */
		for (unsigned i = 0; i < n; i++)
			put32(0x01000000 | (i + 1 < n ? 0x85 : 0));
		inner_tcp();
		if (n <= 8) {
			expect(TUNNEL_GTP_U, -1, "GTP-U with extension headers");
			cut_everywhere("GTP-U with extension headers");
		} else {
			is_inner(FRAME_TOO_DEEP, INNER_TUNNELS, "GTP-U: too many of them");
		}
	}
	pkt[outer_at + 40] = 0;
	is_inner(FRAME_BAD, INNER_TUNNELS, "GTP-U: an extension header of no length");
}

/* An ICMP error of @type about TCP of which @octets are quoted. */
static void icmp(unsigned v, unsigned type, unsigned code, unsigned octets)
{
	ethernet(v == 4 ? V4 : V6);
	v == 4 ? ip4(1, 0) : ip6(58);
	outer_at = ip_at;
	put8(type);
	put8(code);
	put_run(0, 6);
	v == 4 ? ip4(6, 0) : ip6(6);
	tcp(TCP_SYN, 0, 0);
	finish();
	pkt_n = tcp_at + octets;
	if (v == 4)
		set16(outer_at + 2, (unsigned)(pkt_n - outer_at));
	else
		set16(outer_at + 4, (unsigned)(pkt_n - outer_at - 40));
	fr.len = fr.caplen = (uint32_t)pkt_n;
}

static void test_icmp(unsigned v)
{
	unsigned type = v == 4 ? 3 : 1, addr = v == 4 ? 12 : 8, octets = v == 4 ? 4 : 16;
	unsigned length_at = v == 4 ? 20 + 5 : 40 + 4, wrong = 0;

	icmp(v, type, 1, 8);
	is(FRAME_NOT_TCP, "ICMP of IPv%u is nothing to frame_decode()", v);
	is_inner(FRAME_NOT_TCP, INNER_TUNNELS, "... nor where it is not asked for");
	is_inner(FRAME_ICMP, INNER_ICMP, "... 8 octets of TCP are quoted");
	ok(frame_holds_inner(&fr, INNER_ICMP) && !frame_holds_inner(&fr, INNER_TUNNELS),
	   "... the filter is to let it pass for --icmp");
	ok(seg.ip_v == v && seg.sport == 40000 && seg.dport == 443 && seg.seq == 0x01020304 &&
		   seg.ts_ns == 42 && seg.iface == 3 && !seg.flags && tun.type == TUNNEL_NONE &&
		   !memcmp(seg.src, pkt + ip_at + addr, octets) &&
		   !memcmp(seg.dst, pkt + ip_at + addr + octets, octets),
	   "... and all of them are read");
	for (fr.caplen = 0; fr.caplen < pkt_n; fr.caplen++)
		wrong += decode_inner(INNER_ICMP) <= FRAME_TCP_BAD || !untouched();
	ok(!wrong, "... no cut of the frame will do");

	icmp(v, type, 1, 20);
	pkt[outer_at + length_at] = v == 4 ? 7 : 6;
	is_inner(FRAME_ICMP, INNER_ICMP, "... 28 or 48 octets are the datagram (RFC 4884)");
	pkt[outer_at + length_at] = v == 4 ? 6 : 5;
	is_inner(FRAME_CUT, INNER_ICMP, "... 24 or 40 are");
	icmp(v, type + 1, 1, 20);
	is_inner(FRAME_NOT_TCP, INNER_ICMP, "... another type");
	icmp(v, type, 4, 20);
	is_inner(v == 4 ? FRAME_NOT_TCP : FRAME_ICMP, INNER_ICMP,
		 "... fragmentation needed; in IPv6 port unreachable");
	icmp(v, type, 1, 20);
	pkt[ip_at + (v == 4 ? 9 : 6)] = 17;
	is_inner(FRAME_NOT_TCP, INNER_ICMP, "... UDP is quoted");
	icmp(v, type, 1, 20);
	pkt[ip_at] = v == 4 ? 0x60 : 0x45;
	is_inner(FRAME_BAD, INNER_ICMP, "... the other version is quoted");
	icmp(v, type, 1, 20);
	pkt[outer_at + (v == 4 ? 9 : 6)] = v == 4 ? 58 : 1;
	is_inner(FRAME_NOT_TCP, INNER_ICMP, "... under the other version's number");
}

static void test_icmp_places(void)
{
	icmp(4, 3, 1, 20);
	set16(ip_at + 6, 0x0001);
	is_inner(FRAME_FRAGMENT, INNER_ICMP, "ICMP that quotes a later fragment");
	set16(ip_at + 6, 0);
	set16(outer_at + 6, 0x0001);
	is_inner(FRAME_NOT_TCP, INNER_ICMP, "a later fragment of an ICMP error");

	vxlan_header();
	ip4(1, 0);
	put32(0x03010000);
	put32(0);
	ip4(6, 0);
	tcp(TCP_SYN, 0, 0);
	finish_outer();
	is_inner(FRAME_ICMP, INNER_ICMP | INNER_TUNNELS, "an ICMP error in a tunnel");
	ok(tun.type == TUNNEL_VXLAN && tun.id == 42 && seg.dport == 443, "... which is reported");
}

static void test_names(void)
{
	for (unsigned i = 0; i < TUNNEL_TYPES; i++) {
		unsigned same = 0;

		for (unsigned j = 0; j < TUNNEL_TYPES; j++)
			same += !strcmp(tunnel_name(i), tunnel_name(j));
		ok(same == 1, "type %u is called %s and no other is", i, tunnel_name(i));
	}
}

int main(void)
{
	test_vxlan();
	test_lengths();
	test_geneve();
	test_gre();
	test_erspan();
	test_ip_in_ip();
	test_gtp_u();
	test_icmp(4);
	test_icmp(6);
	test_icmp_places();
	test_names();
	return tap_done();
}
