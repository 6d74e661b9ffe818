#include <string.h>
#include "base/cc.h"
#include "tests/support/frames.h"
#include "tests/support/rand.h"
#include "tests/support/tap.h"

/* --- the tests --- */

static void test_segment(void)
{
	static const uint8_t zero[12];

	ethernet(V4);
	ip4(6, 0);
	tcp(TCP_SYN | TCP_ECE | TCP_CWR | 0x100, 20, 7);
	finish();
	is(FRAME_TCP, "IPv4 over Ethernet");
	ok(seg.ts_ns == 42 && seg.iface == 3 && seg.ip_v == 4 && seg.sport == 40000 &&
		   seg.dport == 443 && seg.seq == 0x01020304 && seg.ack == 0x05060708 &&
		   seg.window == 0x1234,
	   "... its numbers");
	ok(!memcmp(seg.src, "\xc0\0\2\1", 4) && !memcmp(seg.dst, "\xc6\x33\x64\2", 4) &&
		   !memcmp(seg.src + 4, zero, 12) && !memcmp(seg.dst + 4, zero, 12),
	   "... its addresses, zeros after them");
	ok(seg.flags == (TCP_SYN | TCP_ECE | TCP_CWR | 0x100),
	   "... its flags, the ninth too, not the offset");
	ok(seg.payload_len == 7 && seg.wire_len == 81 && seg.wire_segs == 1 && !seg.fragment &&
		   !seg.nvlan,
	   "... its lengths");
	ok(options_at == 54 && seg.options.n == 20, "... its options, where they lie");

	ethernet(V6);
	ip6(6);
	tcp(TCP_ACK, 0, 9);
	finish();
	is(FRAME_TCP, "IPv6 over Ethernet");
	ok(seg.ip_v == 6 && seg.src[0] == 0x20 && seg.src[15] == 0x20 && seg.dst[0] == 0x21 &&
		   seg.dst[15] == 0x21 && seg.payload_len == 9 && seg.options.n == 0,
	   "... all of its addresses");

	ethernet(ARP);
	put_run(0, 46);
	finish();
	is(FRAME_NOT_TCP, "ARP");
	ok(untouched(), "... leaves the segment alone");
	ethernet(V4);
	ip4(17, 0);
	put_run(0, 8);
	finish();
	is(FRAME_NOT_TCP, "UDP over IPv4");
	ethernet(V6);
	ip6(58);
	put_run(0, 8);
	finish();
	is(FRAME_NOT_TCP, "ICMPv6");
	fr.caplen = (uint32_t)ip_at + 39;
	is(FRAME_CUT, "... cut within the IPv6 header");
	ethernet(1500); /* a length: IEEE 802.3 */
	put_run(0, 46);
	finish();
	is(FRAME_NOT_TCP, "a length in place of the EtherType");
	ethernet(V6);
	ip4(6, 0);
	put_run(0, 30);
	finish();
	is(FRAME_BAD, "EtherType of IPv6, version 4");
	ethernet(V4);
	ip6(6);
	finish();
	is(FRAME_BAD, "EtherType of IPv4, version 6");
}

static void test_links(void)
{
	for (unsigned v = 4; v <= 6; v += 2) {
		for (enum link_type link = 0; link < LINK_TYPES; link++) {
			static const char *const name[] = { "Ethernet", "raw IP", "NULL",
							    "SLL",	"SLL2",	  "PPP",
							    "PPPoE",	"802.11", "radiotap" };
			unsigned type = v == 4 ? V4 : V6, header = 14;

			start(link);
			if (link == LINK_ETHERNET) {
				ethernet(type);
			} else if (link == LINK_RAW_IP) {
				header = 0;
			} else if (link == LINK_NULL) {
				header = 4;
				put_run(v == 4 ? 2 : 30, 4);
			} else if (link == LINK_SLL) {
				header = 16;
				put_run(0, 14);
				put16(type);
			} else if (link == LINK_SLL2) {
				header = 20;
				put16(type);
				put_run(0, 18);
			} else if (link == LINK_PPP) {
				header = 4;
				put16(0xff03);
				put16(v == 4 ? 0x21 : 0x57);
			} else if (link == LINK_PPPOE) {
				header = 8;
				put32(0x11000007);
				put16(99);
				put16(v == 4 ? 0x21 : 0x57);
			} else {
				header = 32;
				if (link == LINK_RADIOTAP) {
					header += 8;
					put32(0x00000800);
					put32(0);
				}
				ieee80211(0x08, 0x01, 24);
				snap(type);
			}
			v == 4 ? ip4(6, 0) : ip6(6);
			tcp(TCP_ACK, 12, 5);
			finish();
			is(FRAME_TCP, "IPv%u over %s", v, name[link]);
			ok(seg.ip_v == v && seg.payload_len == 5 && ip_at == header &&
				   seg.wire_len == pkt_n,
			   "... %u octets before the IP header", header);
			for (fr.caplen = 0; fr.caplen < header; fr.caplen++)
				if (decode() != FRAME_CUT)
					break;
			ok(fr.caplen == header, "... cut within the link header");
		}
	}
	start(LINK_RAW_IP);
	put_run(0x50, 60);
	finish();
	is(FRAME_NOT_TCP, "raw IP of version 5");
	fr.caplen = fr.len = 0;
	is(FRAME_CUT, "raw IP of no octets");
	start(LINK_SLL2);
	put16(V4);
	put_run(0, 18);
	tag(0x8100, 0); /* not where SLL2 has its EtherType */
	finish();
	is(FRAME_CUT, "SLL2 and nothing after it");
	start(LINK_SLL);
	put_run(0, 14);
	put16(V4);
	tag(0x8100, 9);
	ip4(6, 0);
	tcp(TCP_ACK, 0, 0);
	finish();
	is(FRAME_TCP, "a tag after SLL");
	ok(seg.nvlan == 1 && seg.vlan[0] == 9, "... is kept");
}

static void tcp_packet(void)
{
	ip4(6, 0);
	tcp(TCP_ACK, 0, 5);
	finish();
}

static void test_80211(void)
{
	static const struct {
		unsigned fc0, fc1, octets;
		enum frame_verdict v;
		const char *what;
	} c[] = {
		{ 0x08, 0x02, 24, FRAME_TCP, "data from the access point" },
		{ 0x08, 0x03, 30, FRAME_TCP, "four addresses" },
		{ 0x88, 0x01, 26, FRAME_TCP, "QoS" },
		{ 0x88, 0x03, 32, FRAME_TCP, "QoS, four addresses" },
		{ 0x88, 0x81, 30, FRAME_TCP, "QoS, HT control" },
		{ 0x08, 0x81, 24, FRAME_TCP, "the order bit without QoS" },
		{ 0x08, 0x41, 24, FRAME_NOT_TCP, "protected" },
		{ 0x48, 0x01, 24, FRAME_NOT_TCP, "a data frame without data" },
		{ 0xc8, 0x01, 26, FRAME_NOT_TCP, "QoS null" },
		{ 0x80, 0x00, 24, FRAME_NOT_TCP, "a beacon" },
		{ 0xb4, 0x00, 16, FRAME_NOT_TCP, "RTS" },
		{ 0x09, 0x01, 24, FRAME_NOT_TCP, "version 1" },
	};

	for (unsigned i = 0; i < ARRAY_SIZE(c); i++) {
		start(LINK_80211);
		ieee80211(c[i].fc0, c[i].fc1, c[i].octets);
		snap(V4);
		tcp_packet();
		is(c[i].v, "802.11: %s", c[i].what);
		ok(c[i].v ? untouched() : seg.payload_len == 5, "... and what is in it");
	}
	start(LINK_80211);
	ieee80211(0x08, 0x01, 24);
	snap(V4);
	tcp_packet();
	pkt[22] = 0x13;
	is(FRAME_FRAGMENT, "802.11: the fourth fragment");
	pkt[22] = 0x10;
	is(FRAME_TCP, "802.11: the first");
	pkt[29] = 1;
	is(FRAME_NOT_TCP, "802.11: another OUI in SNAP");
	start(LINK_80211);
	ieee80211(0x88, 0x01, 26);
	pkt[24] = 0x80;
	snap(V4);
	tcp_packet();
	is(FRAME_TOO_DEEP, "802.11: an A-MSDU");
	start(LINK_80211);
	ieee80211(0x08, 0x01, 24);
	snap(0x8100);
	put16(9);
	put16(V4);
	tcp_packet();
	is(FRAME_TCP, "802.11: a tag after SNAP");
	ok(seg.nvlan == 1 && seg.vlan[0] == 9, "... is kept");
}

/* Radiotap header: length, words of presence bits, and where the flags are (0: nowhere). */
static void radiotap(unsigned len, uint32_t present, uint32_t more, unsigned flags_at)
{
	unsigned header = len < 8 ? 8 : len;

	start(LINK_RADIOTAP);
	put_run(more >> 31 ? 0x80 : 0, header);
	pkt[0] = pkt[1] = pkt[3] = 0;
	pkt[2] = (uint8_t)len;
	for (unsigned b = 0; b < 4; b++) {
		pkt[4 + b] = (uint8_t)(present >> 8 * b);
		if (present >> 31 && len >= 12)
			pkt[8 + b] = (uint8_t)(more >> 8 * b);
	}
	if (flags_at)
		pkt[flags_at] = 0x20;
	ieee80211(0x88, 0x01, 28); /* 26 and, if the flag says so, 2 of padding */
	snap(V4);
	tcp_packet();
}

static void test_radiotap(void)
{
	radiotap(8, 0, 0, 0);
	is(FRAME_NOT_TCP, "radiotap: without the flag there is no padding");
	radiotap(9, 2, 0, 8);
	is(FRAME_TCP, "radiotap: flags");
	radiotap(17, 3, 0, 16);
	is(FRAME_TCP, "radiotap: flags after TSFT, aligned to 8");
	radiotap(25, 0x80000003, 1, 24);
	is(FRAME_TCP, "radiotap: two words of presence bits");
	radiotap(25, 0x80000002, 0, 12);
	is(FRAME_TCP, "radiotap: flags after two words");
	radiotap(24, 0x80000003, 0x80000001, 0);
	is(FRAME_BAD, "radiotap: presence bits without an end");
	radiotap(8, 2, 0, 0);
	is(FRAME_NOT_TCP, "radiotap: flags announced after its end do not count");
	radiotap(7, 0, 0, 0);
	is(FRAME_BAD, "radiotap: a length that is too short");
	radiotap(9, 2, 0, 8);
	pkt[0] = 1;
	is(FRAME_BAD, "radiotap: version 1");
	pkt[0] = 0;
	for (fr.caplen = 0; fr.caplen <= tcp_at; fr.caplen++)
		if (decode() != FRAME_CUT)
			break;
	ok(fr.caplen == tcp_at + 1, "radiotap: cut before TCP");
}

static void test_carriers(void)
{
	start(LINK_PPP);
	put8(0x21);
	tcp_packet();
	is(FRAME_TCP, "PPP without FF 03, the protocol in one octet");
	start(LINK_PPP);
	put16(0x21);
	tcp_packet();
	is(FRAME_TCP, "PPP without FF 03");
	start(LINK_PPP);
	put16(0xff03);
	put16(0xc021);
	tcp_packet();
	is(FRAME_NOT_TCP, "PPP: LCP");
	start(LINK_PPP);
	put16(0x281);
	put32(0x140);
	tcp_packet();
	is(FRAME_TCP, "PPP: MPLS");
	ethernet(0x8864);
	put32(0x11000007);
	put16(99);
	put16(0x21);
	tcp_packet();
	is(FRAME_TCP, "PPPoE");
	pkt[15] = 0xa7;
	is(FRAME_NOT_TCP, "PPPoE: not a session's");
	for (unsigned n = 1; n <= 9; n++) {
		ethernet(0x8847);
		for (unsigned i = 1; i < n; i++)
			put32(0x10040);
		put32(0x10140);
		tcp_packet();
		is(n <= 8 ? FRAME_TCP : FRAME_TOO_DEEP, "%u MPLS labels", n);
	}
	ethernet(0x8848);
	tag(0x8100, 5);
	put32(0x10140);
	ip6(6);
	tcp(TCP_ACK, 0, 3);
	finish();
	is(FRAME_TCP, "a tag, a label, IPv6");
	ok(seg.nvlan == 1 && seg.ip_v == 6 && seg.payload_len == 3, "... all of them");
	pkt[ip_at] = 0;
	is(FRAME_NOT_TCP, "... a pseudowire's control word (RFC 4385)");
	ethernet(0x00ff);
	snap(V4);
	tcp_packet();
	is(FRAME_TCP, "a length, LLC and SNAP");
	for (fr.caplen = 0; fr.caplen <= tcp_at; fr.caplen++)
		if (decode() != FRAME_CUT)
			break;
	ok(fr.caplen == tcp_at + 1, "... cut before TCP");
	ethernet(0x00ff);
	snap(0x8100);
	tcp_packet();
	is(FRAME_NOT_TCP, "... a tag after SNAP");
}

static void tagged(unsigned n, unsigned tpid)
{
	ethernet(V4);
	for (unsigned i = 0; i < n; i++)
		tag(tpid, 0xe000 | (101 + i));
	ip4(6, 0);
	tcp(TCP_ACK, 0, 3);
	finish();
}

static void test_vlan(void)
{
	static const uint16_t tpids[] = { 0x8100, 0x88a8, 0x9100 };

	for (unsigned i = 0; i < ARRAY_SIZE(tpids); i++) {
		tagged(1, tpids[i]);
		is(FRAME_TCP, "one tag %#x", tpids[i]);
		ok(seg.nvlan == 1 && seg.vlan[0] == 101 && seg.payload_len == 3,
		   "... its id has 12 bits");
	}
	ethernet(V4);
	tag(0x88a8, 7);
	tag(0x8100, 8);
	ip4(6, 0);
	tcp(TCP_ACK, 0, 3);
	finish();
	is(FRAME_TCP, "QinQ");
	ok(seg.nvlan == 2 && seg.vlan[0] == 7 && seg.vlan[1] == 8, "... outermost first");
	fr.has_vlan = 1;
	fr.vlan_tci = 0x6005;
	is(FRAME_TCP, "QinQ in the frame, a third tag in the metadata");
	ok(seg.nvlan == 2 && seg.vlan[0] == 5 && seg.vlan[1] == 7, "... which is the outermost");
	tagged(0, 0);
	fr.has_vlan = 1;
	fr.vlan_tci = 0xffff;
	is(FRAME_TCP, "a tag in the metadata alone");
	ok(seg.nvlan == 1 && seg.vlan[0] == 0xfff, "... its id has 12 bits");
	fr.has_vlan = 0;
	is(FRAME_TCP, "metadata that is not valid");
	ok(!seg.nvlan, "... does not count");

	tagged(4, 0x8100);
	is(FRAME_TCP, "4 tags");
	ok(seg.nvlan == 2 && seg.vlan[0] == 101 && seg.vlan[1] == 102,
	   "... the outer two are kept");
	fr.has_vlan = 1;
	is(FRAME_TCP, "4 tags and one in the metadata");
	tagged(5, 0x8100);
	is(FRAME_TOO_DEEP, "5 tags");
	tagged(16, 0x88a8);
	is(FRAME_TOO_DEEP, "16 tags");
	ethernet(0x8100);
	put16(1);
	finish();
	is(FRAME_CUT, "a frame that ends within a tag");
}

static void test_ip4(void)
{
	for (unsigned options = 4; options <= 40; options += 36) {
		ethernet(V4);
		ip4(6, options);
		tcp(TCP_ACK, 8, 11);
		finish();
		is(FRAME_TCP, "%u octets of IPv4 options", options);
		ok(seg.dport == 443 && seg.payload_len == 11 && seg.options.n == 8,
		   "... are stepped over");
	}
	for (unsigned ihl = 0; ihl < 5; ihl++) {
		ethernet(V4);
		ip4(6, 0);
		tcp(TCP_ACK, 0, 0);
		finish();
		pkt[ip_at] = (uint8_t)(0x40 | ihl);
		is(FRAME_BAD, "header length %u", ihl * 4);
	}
	ethernet(V4);
	ip4(6, 0);
	tcp(TCP_ACK, 0, 0);
	finish();
	pkt[ip_at] = 0x4f;
	is(FRAME_CUT, "a header length of 60 where 40 octets are left");

	for (unsigned total = 1; total < 40; total++) {
		set16(ip_at + 2, total);
		pkt[ip_at] = 0x45;
		if (decode() != FRAME_TCP_BAD)
			break;
		if (total == 39)
			ok(true, "a total length of 1 to 39 octets has no room for the headers");
	}
	set16(ip_at + 2, 40);
	is(FRAME_TCP, "a total length of 40 has");
	set16(ip_at + 2, 41);
	is(FRAME_TCP_BAD, "a total length beyond the frame on the wire");
	set16(ip_at + 2, 0xffff);
	is(FRAME_TCP_BAD, "the largest one");

	set16(ip_at + 2, 39);
	fr.caplen = (uint32_t)tcp_at + 10;
	is(FRAME_TCP_BAD, "a total length that is too short is a lie even if the header is cut");

	ethernet(V4);
	ip4(6, 0);
	tcp(TCP_ACK, 0, 100);
	finish();
	set16(ip_at + 2, 0);
	fr.len = 14 + 40 + 200000;
	is(FRAME_TCP, "total length 0: BIG TCP");
	ok(seg.payload_len == 200000, "... the frame's length counts");

	ethernet(V4);
	ip4(6, 0);
	tcp(TCP_ACK, 0, 0);
	finish();
	put_run(0, 6);
	fr.len = fr.caplen = (uint32_t)pkt_n;
	is(FRAME_TCP, "a frame of 60 octets, 6 of them padding");
	ok(seg.payload_len == 0 && seg.wire_len == 60, "... which is not payload");

	ethernet(V4);
	ip4(6, 0);
	finish();
	is(FRAME_CUT, "an IPv4 header and nothing after it");
}

static void test_fragments(void)
{
	ethernet(V4);
	ip4(6, 0);
	tcp(TCP_ACK, 0, 8);
	finish();
	set16(ip_at + 6, 0x4000);
	is(FRAME_TCP, "IPv4: don't fragment");
	ok(!seg.fragment, "... is not one");
	set16(ip_at + 6, 0x2000);
	is(FRAME_TCP, "IPv4: the first fragment");
	ok(seg.fragment && seg.payload_len == 8, "... is marked");
	set16(ip_at + 6, 0x2001);
	is(FRAME_FRAGMENT, "IPv4: a later fragment");
	set16(ip_at + 6, 0x1000);
	is(FRAME_FRAGMENT, "IPv4: a far fragment");
	set16(ip_at + 6, 0x1fff);
	is(FRAME_FRAGMENT, "IPv4: the last fragment");

	static const struct {
		unsigned field;
		enum frame_verdict v;
		bool fragment;
		const char *what;
	} six[] = {
		{ 0x0001, FRAME_TCP, true, "the first fragment" },
		{ 0x0000, FRAME_TCP, false, "an atomic fragment (RFC 6946)" },
		{ 0x0006, FRAME_TCP, false, "reserved bits" },
		{ 0x0009, FRAME_FRAGMENT, false, "a later fragment" },
		{ 0xfff8, FRAME_FRAGMENT, false, "the last fragment" },
	};
	for (unsigned i = 0; i < ARRAY_SIZE(six); i++) {
		ethernet(V6);
		ip6(44);
		put8(6);
		put8(0);
		put16(six[i].field);
		put32(0x11223344);
		tcp(TCP_ACK, 0, 8);
		finish();
		is(six[i].v, "IPv6: %s", six[i].what);
		ok(six[i].v != FRAME_TCP ||
			   (seg.fragment == six[i].fragment && seg.payload_len == 8),
		   "... and its mark");
	}
	ethernet(V6);
	ip6(44);
	put8(17);
	put8(0);
	put16(8);
	put32(0);
	finish();
	is(FRAME_FRAGMENT, "IPv6: a later fragment of whatever");
	pkt[ip_at + 43] = 0;
	is(FRAME_NOT_TCP, "IPv6: the first fragment of a UDP datagram");
}

static void chain(unsigned n)
{
	ethernet(V6);
	ip6(n ? 60 : 6);
	for (unsigned i = 1; i <= n; i++)
		extension(i == n ? 6 : 60, 0, 8);
	tcp(TCP_ACK, 0, 5);
	finish();
}

static void test_ip6(void)
{
	static const struct {
		unsigned kind, len, octets;
		const char *name;
	} kinds[] = {
		{ 0, 0, 8, "hop-by-hop options" },
		{ 0, 1, 16, "16 octets of hop-by-hop options" },
		{ 43, 2, 24, "routing" },
		{ 60, 0, 8, "destination options" },
		{ 60, 255, 2048, "the longest one" },
		{ 135, 0, 8, "mobility" },
		{ 139, 4, 40, "HIP" },
		{ 140, 0, 8, "shim6" },
		{ 51, 4, 24, "AH, in units of 4 octets" },
		{ 51, 0, 8, "the shortest AH" },
	};

	for (unsigned i = 0; i < ARRAY_SIZE(kinds); i++) {
		ethernet(V6);
		ip6(kinds[i].kind);
		extension(6, kinds[i].len, kinds[i].octets);
		tcp(TCP_ACK, 4, 5);
		finish();
		is(FRAME_TCP, "IPv6: %s", kinds[i].name);
		ok(seg.dport == 443 && seg.payload_len == 5 && seg.options.n == 4,
		   "... is stepped over");
	}
	for (unsigned n = 0; n <= 8; n += 2) {
		chain(n);
		is(FRAME_TCP, "IPv6: %u extension headers", n);
	}
	chain(9);
	is(FRAME_TOO_DEEP, "IPv6: 9 extension headers");
	chain(8);
	pkt[ip_at + 40 + 7 * 8] = 59;
	is(FRAME_NOT_TCP, "IPv6: 8 extension headers and no next one");
	pkt[ip_at + 40 + 7 * 8] = 50;
	is(FRAME_NOT_TCP, "IPv6: ESP hides what follows");

	chain(2);
	pkt[ip_at + 40 + 1] = 255;
	is(FRAME_CUT,
	   "IPv6: an extension header that points past the end, another announced there");
	chain(1);
	pkt[ip_at + 40 + 1] = 255;
	is(FRAME_CUT, "IPv6: ... TCP announced there");
	chain(1);
	set16(ip_at + 4, 8);
	is(FRAME_TCP_BAD, "IPv6: a payload length that ends with the extension headers");
	set16(ip_at + 4, 27);
	is(FRAME_TCP_BAD, "IPv6: ... within the TCP header");
	set16(ip_at + 4, 28);
	is(FRAME_TCP, "IPv6: ... after it");
	ok(seg.payload_len == 0, "IPv6: what is after the payload length is padding");
	set16(ip_at + 4, 34);
	is(FRAME_TCP_BAD, "IPv6: a payload length beyond the frame on the wire");
	set16(ip_at + 4, 0);
	fr.len += 100000;
	is(FRAME_TCP, "IPv6: payload length 0: a jumbogram or BIG TCP");
	ok(seg.payload_len == 100005, "IPv6: ... the frame's length counts");

	/* RFC 2675: BIG TCP of older kernels, with its hop-by-hop option */
	ethernet(V6);
	ip6(0);
	put16(0x0600);
	put16(0xc204);
	put32(8 + 20 + 150000);
	tcp(TCP_ACK, 0, 0);
	finish();
	set16(ip_at + 4, 0);
	fr.len = 14 + 40 + 8 + 20 + 150000;
	is(FRAME_TCP, "IPv6: a jumbo payload option");
	ok(seg.payload_len == 150000, "IPv6: ... and its length");
}

static void test_tcp(void)
{
	for (unsigned v = 4; v <= 6; v += 2) {
		for (unsigned words = 0; words < 16; words++) {
			ethernet(v == 4 ? V4 : V6);
			v == 4 ? ip4(6, 0) : ip6(6);
			tcp(TCP_ACK, 0, 8);
			finish();
			pkt[tcp_at + 12] = (uint8_t)(words << 4);
			is(words < 5 || words > 7 ? FRAME_TCP_BAD : FRAME_TCP,
			   "IPv%u: data offset %u of 28 octets", v, words * 4);
			if (words >= 5 && words <= 7)
				ok(seg.options.n == words * 4 - 20 &&
					   seg.payload_len == 28 - words * 4,
				   "... parts options and payload");
		}
	}
}

/* Whatever the snaplen: never an octet more is read (decode() would crash), and the verdict is the
 * one that the layers before the cut allow. */
static void test_cuts(void)
{
	for (unsigned v = 4; v <= 6; v += 2) {
		unsigned wrong = 0, ip, header, full;

		ethernet(v == 4 ? V4 : V6);
		tag(0x8100, 5);
		if (v == 4) {
			ip4(6, 4);
		} else {
			ip6(0);
			extension(44, 0, 8);
			extension(6, 0, 8);
		}
		tcp(TCP_ACK, 12, 9);
		finish();
		ip = (unsigned)ip_at;
		header = (unsigned)tcp_at;
		full = (unsigned)pkt_n;
		ok(ip == 18, "IPv%u with a tag, options or extensions", v);
		for (fr.caplen = 0; fr.caplen <= full; fr.caplen++) {
			enum frame_verdict got = decode(), want = FRAME_TCP;
			uint32_t have = fr.caplen > header + 20 ? fr.caplen - header - 20 : 0;

			if (fr.caplen <= header)
				want = FRAME_CUT;
			else if (fr.caplen < header + 20)
				want = FRAME_TCP_CUT;
			wrong += got != want;
			if (got == FRAME_TCP)
				wrong += seg.payload_len != 9 || seg.wire_len != full ||
					 seg.options.n != (have > 12 ? 12 : have);
			else
				wrong += !untouched();
		}
		ok(!wrong,
		   "IPv%u cut at each of %u octets: the verdict of what is left; lengths of the "
		   "wire",
		   v, full);
	}
}

static void gso(uint32_t payload, uint32_t size)
{
	ethernet(V4);
	ip4(6, 0);
	tcp(TCP_ACK, 12, 0);
	finish();
	set16(ip_at + 2, payload + 52 > 0xffff ? 0 : payload + 52);
	fr.len = 66 + payload;
	fr.gso_size = size;
}

static void test_gso(void)
{
	static const struct {
		uint32_t payload, size, segs, octets;
	} cases[] = {
		{ 1448, 0, 1, 1514 },
		{ 1448, 1448, 1, 1514 },
		{ 0, 1448, 1, 66 },
		{ 1449, 1448, 2, 1449 + 132 },
		{ 2896, 1448, 2, 2 * 1514 },
		{ 28960, 1448, 20, 20 * 1514 },
		{ 65000, 1448, 45, 65000 + 45 * 66 },
		{ 500000, 1448, 346, 500000 + 346 * 66 },
	};

	for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
		gso(cases[i].payload, cases[i].size);
		is(FRAME_TCP, "%u octets of payload in segments of %u", cases[i].payload,
		   cases[i].size);
		ok(seg.wire_segs == cases[i].segs && seg.wire_len == cases[i].octets &&
			   seg.payload_len == cases[i].payload,
		   "... are %u segments, %u octets on the wire", seg.wire_segs, seg.wire_len);
	}
	gso(500000, 1);
	is(FRAME_TCP, "segments of 1 octet");
	ok(seg.wire_segs == UINT16_MAX, "... are no more than 16 bits can count");
}

/* The short way for Ethernet finds what the long one finds in the same packet without a link. */
static void test_plain(void)
{
	static const uint8_t base4[74] = {
		[12] = 0x08, [14] = 0x45, [17] = 60,   [22] = 64,   [23] = 6,	 [26] = 10,
		[29] = 1,    [30] = 10,	  [33] = 2,    [34] = 0x9c, [35] = 0x40, [37] = 80,
		[41] = 7,    [45] = 9,	  [46] = 0xa0, [47] = 0x10, [48] = 1,
	};
	static const uint8_t base6[94] = {
		[12] = 0x86, [13] = 0xdd, [14] = 0x60, [19] = 40,   [20] = 6,	 [21] = 64,
		[22] = 0x20, [37] = 1,	  [38] = 0x20, [53] = 2,    [54] = 0x9c, [55] = 0x40,
		[57] = 80,   [61] = 7,	  [65] = 9,    [66] = 0xa0, [67] = 0x10, [68] = 1,
	};
	unsigned wrong = 0, tcp = 0;

	rng = tap_seed(9907);
	for (unsigned i = 0; i < 300000; i++) {
		uint8_t d[sizeof base6 + 8] = { 0 };
		bool six = i & 1;
		uint32_t n = six ? sizeof base6 : sizeof base4;

		memcpy(d, six ? base6 : base4, n);
		for (unsigned bits = below(4); bits; bits--)
			d[14 + below(n - 14)] ^= (uint8_t)(1 << below(8));
		d[12] = six ? 0x86 : 0x08;
		struct frame eth = { .data = d, .link = LINK_ETHERNET, .ts_ns = i, .iface = 3 };

		eth.caplen = below(4) ? n : below(n + 1);
		eth.len = below(4) ? n : n + below(8);
		if (eth.len < eth.caplen)
			eth.len = eth.caplen;
		if (eth.caplen < 14)
			continue;
		struct frame raw = eth;

		raw.link = LINK_RAW_IP;
		raw.data += 14;
		raw.caplen -= 14;
		raw.len -= 14;
		/* Raw IP asks the version nibble, Ethernet the type. */
		if (raw.caplen && d[14] >> 4 != (six ? 6 : 4))
			continue;
		struct segment a, b;

		memset(&a, 0xaa, sizeof a);
		memset(&b, 0xaa, sizeof b);
		enum frame_verdict va = frame_decode(&eth, &a), vb = frame_decode(&raw, &b);

		wrong += va != vb;
		if (va != FRAME_TCP || vb != FRAME_TCP)
			continue;
		tcp++;
		wrong += memcmp(a.src, b.src, 16) || memcmp(a.dst, b.dst, 16) ||
			 a.sport != b.sport || a.dport != b.dport || a.ip_v != b.ip_v ||
			 a.fragment != b.fragment || a.nvlan != b.nvlan ||
			 a.extended != b.extended || a.vlan[0] != b.vlan[0] ||
			 a.vlan[1] != b.vlan[1] || a.iface != b.iface || a.flags != b.flags ||
			 a.window != b.window || a.wire_segs != b.wire_segs || a.seq != b.seq ||
			 a.ack != b.ack || a.payload_len != b.payload_len || a.ts_ns != b.ts_ns ||
			 a.wire_len != b.wire_len + 14 || a.options.p != b.options.p ||
			 a.options.n != b.options.n;
	}
	ok(!wrong && tcp > 10000,
	   "with or without a link header a packet gives the same segment (%u)", tcp);
}

static void test_names(void)
{
	unsigned claims = 0;

	for (unsigned i = 0; i < FRAME_VERDICTS; i++) {
		unsigned same = 0;

		for (unsigned j = 0; j < FRAME_VERDICTS; j++)
			same += !strcmp(frame_verdict_name(i), frame_verdict_name(j));
		ok(same == 1, "verdict %u is called %s and no other is", i, frame_verdict_name(i));
		claims += frame_claims_tcp(i);
	}
	ok(claims == 3 && frame_claims_tcp(FRAME_TCP) && frame_claims_tcp(FRAME_TCP_CUT) &&
		   frame_claims_tcp(FRAME_TCP_BAD),
	   "three verdicts claim to be TCP");
}

int main(void)
{
	test_segment();
	test_links();
	test_80211();
	test_radiotap();
	test_carriers();
	test_vlan();
	test_ip4();
	test_fragments();
	test_ip6();
	test_tcp();
	test_cuts();
	test_gso();
	test_plain();
	test_names();
	return tap_done();
}
