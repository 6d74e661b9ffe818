/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only) */
#include "bpf/tcp_filter.h"
#include <errno.h>
#include <linux/filter.h>
#include <linux/if_ether.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>
#include "base/cc.h"
#include "wire/frame.h"
#include "wire/ip.h"
#include "wire/segment.h"
#include "wire/tunnel.h"

/* A load past the end of the frame ends the program with 0, "reject" (filter.rst).  The program
 * relies on this: it loads each octet that frame_decode() requires.  The last load, the first octet
 * of the TCP header, implies all before it.  Only what follows may be missing: see accept_tcp().
 *
 * A VLAN tag that the device or the kernel has removed needs nothing here: the program sees an
 * untagged frame, both incoming (__netif_receive_skb_core() untags before packet sockets read) and
 * outgoing (the tag is in the skb until the driver gets it).  It parses tags that are still in the
 * frame, such as the inner one of two. */

enum { TCP_FIXED = 20, TCP_OFFSET_AT = 12, IP6_HEADER = 40, ETH_P_9100 = 0x9100 };

/* Octet 0 of an IPv4 header, version and IHL in words: 5 words at least (RFC 791 3.1). */
enum { IP4_FIRST = 0x45, IP4_LAST = 0x4f, IP6_VERSION = 0x60, VERSION_MASK = 0xf0 };

/* Extension headers of (length octet + 1) * 8 octets, as in ip6_header_len(). */
static const uint8_t ip6_by8[] = { IP6_HOPOPTS,	 IP6_ROUTING, IP6_DSTOPTS,
				   IP6_MOBILITY, IP6_HIP,     IP6_SHIM6 };

/* Jump targets, always forward.  Some exist once per tag or extension header. */
enum label {
	NEXT, /* the following instruction; never placed */
	V4,
	V6,
	V6_TCP,
	SNAP,
	PPPOE,
	MPLS,
	VERSION,
	DROP,	 /* within reach of the code before IPv6 */
	V6_DROP, /* within reach of the extension headers */
	END,	 /* the last instruction: drops, too */
	OTHER,	 /* from here on: for IPv4, then for IPv6 */
	UDP = OTHER + 2,
	TUNNEL = UDP + 2,
	ICMP = TUNNEL + 2,
	SHORT = ICMP + 2,
	TAG = SHORT + 2,
	FRAGMENT = TAG + LINK_MAX_VLAN + 1,
	AH = FRAGMENT + IP6_MAX_HEADERS,
	BY8 = AH + IP6_MAX_HEADERS,
	ADVANCE = BY8 + IP6_MAX_HEADERS,
	BOTTOM = ADVANCE + IP6_MAX_HEADERS,
	LABELS = BOTTOM + LINK_MAX_MPLS
};
_Static_assert(LABELS <= UINT8_MAX, "the 8-bit fields of the jumps hold labels at first");

/* The program written so far; errors are sticky. */
struct prog {
	struct sock_filter *insns;
	unsigned n, max;
	unsigned at[LABELS];
	int err;
};

static void insn_add(struct prog *p, struct sock_filter insn)
{
	if (p->n == p->max)
		p->err = -ENOSPC;
	else
		p->insns[p->n++] = insn;
}

static void stmt(struct prog *p, uint16_t code, uint32_t k)
{
	insn_add(p, (struct sock_filter)BPF_STMT(code, k));
}

/* Compares A with @k by @op; resolve() turns the labels into distances. */
static void jump_if(struct prog *p, uint16_t op, uint32_t k, enum label yes, enum label no)
{
	insn_add(p,
		 (struct sock_filter)BPF_JUMP(BPF_JMP | op | BPF_K, k, (uint8_t)yes, (uint8_t)no));
}

static void jump_always(struct prog *p, enum label to)
{
	stmt(p, BPF_JMP | BPF_JA, to);
}

static void label_here(struct prog *p, enum label label)
{
	p->at[label] = p->n;
}

/* Number of instructions between @insn and @label, at most @max. */
static unsigned jump_distance(struct prog *p, unsigned insn, unsigned label, unsigned max)
{
	unsigned distance = label == NEXT ? 0 : p->at[label] - insn - 1;

	if (distance > max) /* a backward jump is one, too: it wraps */
		p->err = -ERANGE;
	return distance;
}

static int resolve(struct prog *p)
{
	for (unsigned i = 0; i < p->n && !p->err; i++) {
		struct sock_filter *f = p->insns + i;

		if (BPF_CLASS(f->code) != BPF_JMP)
			continue;
		if (BPF_OP(f->code) == BPF_JA) {
			f->k = jump_distance(p, i, f->k, UINT16_MAX);
		} else {
			f->jt = (uint8_t)jump_distance(p, i, f->jt, UINT8_MAX);
			f->jf = (uint8_t)jump_distance(p, i, f->jf, UINT8_MAX);
		}
	}
	return p->err ? p->err : (int)p->n;
}

/* X += @n, without changing A. */
static void skip(struct prog *p, uint32_t n)
{
	stmt(p, BPF_ST, 0);
	stmt(p, BPF_MISC | BPF_TXA, 0);
	stmt(p, BPF_ALU | BPF_ADD | BPF_K, n);
	stmt(p, BPF_MISC | BPF_TAX, 0);
	stmt(p, BPF_LD | BPF_W | BPF_MEM, 0);
}

/* EtherType after up to LINK_MAX_VLAN tags; X = offset of what follows it. */
static void ethernet(struct prog *p)
{
	for (unsigned tag = 0; tag <= LINK_MAX_VLAN; tag++) {
		enum label inner = TAG + tag + 1;

		label_here(p, TAG + tag);
		stmt(p, BPF_LDX | BPF_W | BPF_IMM, ETH_HLEN + 4 * tag);
		stmt(p, BPF_LD | BPF_H | BPF_ABS, ETH_HLEN - 2 + 4 * tag);
		jump_if(p, BPF_JEQ, ETH_P_IP, V4, NEXT);
		jump_if(p, BPF_JEQ, ETH_P_IPV6, V6, NEXT);
		if (tag < LINK_MAX_VLAN) {
			jump_if(p, BPF_JEQ, ETH_P_8021Q, inner, NEXT);
			jump_if(p, BPF_JEQ, ETH_P_8021AD, inner, NEXT);
			jump_if(p, BPF_JEQ, ETH_P_9100, inner, NEXT);
		}
		jump_if(p, BPF_JEQ, ETH_P_MPLS_UC, MPLS, NEXT);
		jump_if(p, BPF_JEQ, ETH_P_MPLS_MC, MPLS, NEXT);
		jump_if(p, BPF_JEQ, ETH_P_PPP_SES, PPPOE, NEXT);
		jump_if(p, BPF_JGE, ETH_P_802_3_MIN, DROP, SNAP);
	}
}

/* X = offset of 8 octets that IP follows: @size and @magic of those at 0, and at @type the kind. */
static void carrier(struct prog *p, uint16_t size, uint32_t magic, uint32_t type, uint32_t ip4,
		    uint32_t ip6)
{
	stmt(p, BPF_LD | size | BPF_IND, 0);
	jump_if(p, BPF_JEQ, magic, NEXT, DROP);
	stmt(p, BPF_LD | size | BPF_IND, type);
	skip(p, 8);
	jump_if(p, BPF_JEQ, ip4, V4, NEXT);
	jump_if(p, BPF_JEQ, ip6, V6, DROP);
}

/* X = offset of the first label (RFC 3032 2.1).  The version nibble after the last label decides;
 * V4 and V6 check it again. */
static void mpls(struct prog *p)
{
	label_here(p, MPLS);
	for (unsigned n = 0; n < LINK_MAX_MPLS; n++) {
		stmt(p, BPF_LD | BPF_B | BPF_IND, 4 * n + 2);
		jump_if(p, BPF_JSET, 1, BOTTOM + n, n + 1 < LINK_MAX_MPLS ? NEXT : DROP);
	}
	for (unsigned n = 0; n < LINK_MAX_MPLS; n++) {
		label_here(p, BOTTOM + n);
		stmt(p, BPF_LD | BPF_W | BPF_IMM, 4 * n + 4);
		if (n + 1 < LINK_MAX_MPLS)
			jump_always(p, VERSION);
	}
	label_here(p, VERSION);
	stmt(p, BPF_ALU | BPF_ADD | BPF_X, 0);
	stmt(p, BPF_MISC | BPF_TAX, 0);
	stmt(p, BPF_LD | BPF_B | BPF_IND, 0);
	jump_if(p, BPF_JGE, IP6_VERSION, V6, V4);
}

/* Accepts the frame and copies it up to octet X + @n. */
static void accept_to(struct prog *p, uint32_t n)
{
	stmt(p, BPF_MISC | BPF_TXA, 0);
	stmt(p, BPF_ALU | BPF_ADD | BPF_K, n);
	stmt(p, BPF_RET | BPF_A, 0);
}

/* The same up to X + A + @n. */
static void accept_more(struct prog *p, uint32_t n)
{
	stmt(p, BPF_ALU | BPF_ADD | BPF_X, 0);
	stmt(p, BPF_ALU | BPF_ADD | BPF_K, n);
	stmt(p, BPF_RET | BPF_A, 0);
}

/* Accepts if the frame has octet X + @off, the first of the TCP header; with @control if it has the
 * flags, and SYN, FIN or RST is set (RFC 9293 3.1).  Copies the header to its end by the data
 * offset, but at least the fixed part, by which frame_decode() finds a wrong data offset.  A frame
 * that ends before the data offset has nothing after the header. */
static void accept_tcp(struct prog *p, uint32_t off, bool control, enum label cut, enum label drop)
{
	stmt(p, BPF_LD | BPF_B | BPF_IND, control ? off + 13 : off);
	if (control) {
		jump_if(p, BPF_JSET, TCP_FIN | TCP_SYN | TCP_RST, NEXT, drop);
	} else {
		stmt(p, BPF_LD | BPF_W | BPF_LEN, 0);
		stmt(p, BPF_ALU | BPF_SUB | BPF_X, 0);
		jump_if(p, BPF_JGT, off + TCP_OFFSET_AT, NEXT, cut);
	}
	stmt(p, BPF_LD | BPF_B | BPF_IND, off + TCP_OFFSET_AT);
	stmt(p, BPF_ALU | BPF_RSH | BPF_K, 4);
	stmt(p, BPF_ALU | BPF_LSH | BPF_K, 2);
	jump_if(p, BPF_JGE, TCP_FIXED, NEXT, cut);
	accept_more(p, off);
	label_here(p, cut);
	accept_to(p, off + TCP_FIXED);
}

/* Moves X from the IPv4 header to what follows it; drops later fragments. */
static void ip4_skip(struct prog *p)
{
	stmt(p, BPF_LD | BPF_H | BPF_IND, 6);
	jump_if(p, BPF_JSET, 0x1fff, DROP, NEXT); /* fragment offset */
	stmt(p, BPF_LD | BPF_B | BPF_IND, 0);
	jump_if(p, BPF_JGE, IP4_FIRST, NEXT, DROP);
	jump_if(p, BPF_JGT, IP4_LAST, DROP, NEXT);
	stmt(p, BPF_ALU | BPF_AND | BPF_K, 0x0f);
	stmt(p, BPF_ALU | BPF_LSH | BPF_K, 2);
	stmt(p, BPF_ALU | BPF_ADD | BPF_X, 0);
	stmt(p, BPF_MISC | BPF_TAX, 0);
}

/* A = protocol, X = offset of its header.  Accepts what frame_holds_inner() accepts (tunnel_of() in
 * wire/tunnel.c, icmp_may_quote() in wire/icmp.c). */
static void tunnel_or_icmp(struct prog *p, unsigned inner, bool v6, enum label drop)
{
	static const uint16_t ports[] = { PORT_VXLAN, PORT_VXLAN_LINUX, PORT_GENEVE, PORT_GTP_U };
	enum label udp = UDP + v6, tunnel = TUNNEL + v6, icmp = ICMP + v6;

	if (inner & INNER_TUNNELS) {
		jump_if(p, BPF_JEQ, IPPROTO_GRE, tunnel, NEXT);
		jump_if(p, BPF_JEQ, IPPROTO_IPIP, tunnel, NEXT);
		jump_if(p, BPF_JEQ, IPPROTO_IPV6, tunnel, NEXT);
		jump_if(p, BPF_JEQ, IPPROTO_UDP, udp, NEXT);
	}
	if (inner & INNER_ICMP)
		jump_if(p, BPF_JEQ, v6 ? IPPROTO_ICMPV6 : IPPROTO_ICMP, icmp, NEXT);
	jump_always(p, drop);
	if (inner & INNER_TUNNELS) {
		label_here(p, udp);
		stmt(p, BPF_LD | BPF_H | BPF_IND, 2);
		for (unsigned i = 0; i < ARRAY_SIZE(ports); i++)
			jump_if(p, BPF_JEQ, ports[i], tunnel,
				i + 1 < ARRAY_SIZE(ports) ? NEXT : drop);
		label_here(p, tunnel);
		stmt(p, BPF_LD | BPF_B | BPF_IND, 0);
		accept_to(p, TCP_FILTER_TUNNEL_OCTETS);
	}
	if (inner & INNER_ICMP) {
		label_here(p, icmp);
		stmt(p, BPF_LD | BPF_B | BPF_IND, 0);
		jump_if(p, BPF_JEQ, v6 ? 1 : 3, NEXT, drop); /* destination unreachable */
		if (!v6) {
			stmt(p, BPF_LD | BPF_B | BPF_IND, 1);
			jump_if(p, BPF_JEQ, 4, drop, NEXT); /* fragmentation needed */
		}
		stmt(p, BPF_LD | BPF_B | BPF_IND, v6 ? 8 + 6 : 8 + 9);
		jump_if(p, BPF_JEQ, IPPROTO_TCP, NEXT, drop);
		if (v6) {
			accept_to(p, 8 + IP6_HEADER + 8);
		} else {
			stmt(p, BPF_LD | BPF_B | BPF_IND, 8);
			stmt(p, BPF_ALU | BPF_AND | BPF_K, 0x0f);
			stmt(p, BPF_ALU | BPF_LSH | BPF_K, 2);
			accept_more(p, 8 + 8);
		}
	}
}

/* X = offset of the IPv4 header (RFC 791 3.1).  Checks the protocol first, which ends most frames
 * that are not TCP. */
static void prog_ip4(struct prog *p, unsigned inner, bool control)
{
	label_here(p, V4);
	stmt(p, BPF_LD | BPF_B | BPF_IND, 9);
	jump_if(p, BPF_JEQ, IPPROTO_TCP, NEXT, inner ? OTHER : DROP);
	ip4_skip(p);
	accept_tcp(p, 0, control, SHORT, DROP);
	if (inner) {
		label_here(p, OTHER);
		stmt(p, BPF_ST, 0);
		ip4_skip(p);
		stmt(p, BPF_LD | BPF_W | BPF_MEM, 0);
		tunnel_or_icmp(p, inner, false, DROP);
	}
	label_here(p, DROP);
	stmt(p, BPF_RET | BPF_K, 0);
}

/* Extension header @n, with its kind in A, at X + 40.  Leaves the kind of the next one in A and its
 * offset - 40 in X.  Lengths as in ip6_header_len(). */
static void ip6_extension(struct prog *p, unsigned n, enum label other)
{
	jump_if(p, BPF_JEQ, IP6_FRAGMENT, FRAGMENT + n, NEXT);
	jump_if(p, BPF_JEQ, IP6_AH, AH + n, NEXT);
	for (unsigned i = 0; i < sizeof ip6_by8; i++)
		jump_if(p, BPF_JEQ, ip6_by8[i], BY8 + n, i + 1 < sizeof ip6_by8 ? NEXT : other);

	label_here(p, FRAGMENT + n);
	stmt(p, BPF_LD | BPF_H | BPF_IND, IP6_HEADER + 2);
	jump_if(p, BPF_JSET, 0xfff8, V6_DROP, NEXT);
	stmt(p, BPF_LD | BPF_W | BPF_IMM, 8);
	jump_always(p, ADVANCE + n);

	label_here(p, AH + n);
	stmt(p, BPF_LD | BPF_B | BPF_IND, IP6_HEADER + 1);
	stmt(p, BPF_ALU | BPF_ADD | BPF_K, 2);
	stmt(p, BPF_ALU | BPF_LSH | BPF_K, 2);
	jump_always(p, ADVANCE + n);

	label_here(p, BY8 + n);
	stmt(p, BPF_LD | BPF_B | BPF_IND, IP6_HEADER + 1);
	stmt(p, BPF_ALU | BPF_ADD | BPF_K, 1);
	stmt(p, BPF_ALU | BPF_LSH | BPF_K, 3);

	label_here(p, ADVANCE + n);
	stmt(p, BPF_ALU | BPF_ADD | BPF_X, 0);
	stmt(p, BPF_ST, 0);
	stmt(p, BPF_LD | BPF_B | BPF_IND, IP6_HEADER);
	stmt(p, BPF_LDX | BPF_W | BPF_MEM, 0);
}

/* X = offset of the IPv6 header (RFC 8200 3).  Classic BPF has no backward jumps, so the chain of
 * extension headers is unrolled.  X stays 40 less than the offset of the header, so that every
 * chain, also an empty one, ends in the same V6_TCP. */
static void prog_ip6(struct prog *p, unsigned inner, bool control)
{
	enum label other = inner ? OTHER + 1 : V6_DROP;

	label_here(p, V6);
	stmt(p, BPF_LD | BPF_B | BPF_IND, 0);
	stmt(p, BPF_ALU | BPF_AND | BPF_K, VERSION_MASK);
	jump_if(p, BPF_JEQ, IP6_VERSION, NEXT, V6_DROP);
	stmt(p, BPF_LD | BPF_B | BPF_IND, 6);
	for (unsigned n = 0; n < IP6_MAX_HEADERS; n++) {
		jump_if(p, BPF_JEQ, IPPROTO_TCP, V6_TCP, NEXT);
		ip6_extension(p, n, other);
	}
	jump_if(p, BPF_JEQ, IPPROTO_TCP, V6_TCP, other);
	label_here(p, V6_TCP);
	accept_tcp(p, IP6_HEADER, control, SHORT + 1, V6_DROP);
	label_here(p, V6_DROP);
	stmt(p, BPF_RET | BPF_K, 0);
	if (inner) {
		label_here(p, OTHER + 1);
		skip(p, IP6_HEADER);
		tunnel_or_icmp(p, inner, true, END);
		label_here(p, END);
		stmt(p, BPF_RET | BPF_K, 0);
	}
}

int tcp_filter_build(const struct tcp_filter_spec *spec, struct sock_filter *insns, unsigned max)
{
	struct prog p = { .insns = insns, .max = max };

	switch (spec->link) {
	case LINK_ETHERNET:
		ethernet(&p);
		label_here(&p, SNAP); /* RFC 1042 */
		carrier(&p, BPF_W, 0xaaaa0300, 4, ETH_P_IP, ETH_P_IPV6);
		label_here(&p, PPPOE); /* a session that carries IP: RFC 2516 4 */
		carrier(&p, BPF_H, 0x1100, 6, 0x0021, 0x0057);
		mpls(&p);
		break;
	case LINK_RAW_IP:
		/* X = 0, and the version nibble decides; V4 and V6 check it again. */
		stmt(&p, BPF_LDX | BPF_W | BPF_IMM, 0);
		stmt(&p, BPF_LD | BPF_B | BPF_ABS, 0);
		jump_if(&p, BPF_JGE, IP6_VERSION, V6, NEXT);
		break;
	default:
		return -EPFNOSUPPORT;
	}
	prog_ip4(&p, spec->inner, spec->control);
	prog_ip6(&p, spec->inner, spec->control);
	return resolve(&p);
}
