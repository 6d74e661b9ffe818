#include "wire/frame.h"
#include <string.h>
#include "base/cc.h"
#include "wire/ip.h"
#include "wire/segment.h"
#include "wire/tunnel.h"
#include "wire/walk.h"

enum { TCP_FIXED = 20 };

static const char *const verdict_name[FRAME_VERDICTS] = {
	[FRAME_TCP] = "tcp",	       [FRAME_TCP_CUT] = "tcp_cut",
	[FRAME_TCP_BAD] = "tcp_bad",   [FRAME_NOT_TCP] = "not_tcp",
	[FRAME_FRAGMENT] = "fragment", [FRAME_CUT] = "cut",
	[FRAME_BAD] = "bad",	       [FRAME_TOO_DEEP] = "too_deep",
	[FRAME_ICMP] = "icmp",	       [FRAME_TUNNELS_FULL] = "tunnels_full",
};

const char *frame_verdict_name(enum frame_verdict v)
{
	return verdict_name[v];
}

enum frame_verdict ip6_walk(struct span ip, struct upper *ret)
{
	if (ip.n < 40)
		return FRAME_CUT;
	if (ip.p[0] >> 4 != 6)
		return FRAME_BAD;

	uint32_t plen = be16_at(ip.p + 4), off = 40;
	uint8_t next = ip.p[6];
	bool first = false;

	for (unsigned n = 0; next != PROTO_TCP && ip6_header_len(next, 0); n++) {
		if (n == IP6_MAX_HEADERS)
			return FRAME_TOO_DEEP;
		if (ip.n < off + 2)
			return FRAME_CUT;
		if (next == IP6_FRAGMENT) {
			if (ip.n < off + 4)
				return FRAME_CUT;
			if (be16_at(ip.p + off + 2) & 0xfff8)
				return FRAME_FRAGMENT;
			first |= ip.p[off + 3] & 1;
		}
		uint32_t len = ip6_header_len(next, ip.p[off + 1]);

		next = ip.p[off];
		off += len;
	}
	*ret = (struct upper){ .l3_len = plen ? 40 + plen : 0,
			       .off = off,
			       .proto = next,
			       .first = first,
			       .extended = off > 40 };
	return FRAME_TCP;
}

static enum frame_verdict tcp_walk(const struct packet *p, const struct upper *u, struct segment *s)
{
	/* Length 0: BIG TCP (Linux) and TSO as captured leave the field empty. */
	uint32_t l3_len = u->l3_len ? u->l3_len : p->wire;

	if (u->later)
		return FRAME_FRAGMENT;
	if (p->ip.n <= u->off)
		return FRAME_CUT;
	if ((l3_len > p->wire && !p->part) || l3_len < u->off + TCP_FIXED)
		return FRAME_TCP_BAD;
	if (p->ip.n < u->off + TCP_FIXED)
		return FRAME_TCP_CUT;

	const uint8_t *t = p->ip.p + u->off;
	uint32_t hl = (t[12] >> 4) * 4u;

	if (hl < TCP_FIXED || u->off + hl > l3_len)
		return FRAME_TCP_BAD;

	size_t captured = p->ip.n - u->off;

	s->ip_v = p->ip_v;
	if (p->ip_v == 4) {
		memcpy(s->src, p->ip.p + 12, 4);
		memcpy(s->dst, p->ip.p + 16, 4);
	} else {
		memcpy(s->src, p->ip.p + 8, 16);
		memcpy(s->dst, p->ip.p + 24, 16);
	}
	s->sport = be16_at(t);
	s->dport = be16_at(t + 2);
	s->seq = be32_at(t + 4);
	s->ack = be32_at(t + 8);
	s->flags = be16_at(t + 12) & 0x0fff;
	s->window = be16_at(t + 14);
	s->options = (struct span){ t + TCP_FIXED, (captured < hl ? captured : hl) - TCP_FIXED };
	s->payload_len = l3_len - u->off - hl;
	s->fragment = u->first;
	s->extended = u->extended;
	return FRAME_TCP;
}

/* What one super-frame was on the wire: each segment repeats the headers (Linux GRO, TSO). */
static void count_wire(const struct frame *f, struct segment *s)
{
	uint32_t segs = 1, payload = s->payload_len;

	if (f->gso_size && payload > f->gso_size && payload < f->len)
		segs = (payload + f->gso_size - 1) / f->gso_size;
	s->wire_segs = segs > UINT16_MAX ? UINT16_MAX : (uint16_t)segs;
	s->wire_len = f->len + (s->wire_segs - 1u) * (f->len - payload);
}

/* Up to the first IP header; tags go to @s. */
static inline enum frame_verdict packet_walk(const struct frame *f, struct segment *s,
					     struct packet *ret)
{
	struct cursor c = cursor_of((struct span){ f->data, f->caplen });
	enum frame_verdict v;
	uint8_t ip_v;

	if (f->has_vlan)
		segment_add_vlan(s, f->vlan_tci);
	v = link_walk(f->link, &c, s, &ip_v);
	if (unlikely(v))
		return v;
	*ret = (struct packet){ .ip = { c.p, cursor_left(&c) },
				.wire = f->len - (uint32_t)(c.p - f->data),
				.ip_v = ip_v };
	return FRAME_TCP;
}

/* Any frame; frame_decode() has a shorter way for most. */
static enum frame_verdict decode_any(const struct frame *f, struct segment *ret)
{
	struct segment s = { .ts_ns = f->ts_ns, .iface = f->iface };
	struct packet p;
	struct upper u;
	enum frame_verdict v = packet_walk(f, &s, &p);

	if (likely(!v))
		v = ip_walk(&p, &u);
	if (unlikely(v))
		return v;
	if (u.proto != PROTO_TCP)
		return FRAME_NOT_TCP;
	v = tcp_walk(&p, &u, &s);
	if (unlikely(v))
		return v;
	count_wire(f, &s);
	*ret = s;
	return FRAME_TCP;
}

/* The segment behind an IP header at @ip of @off octets, in a packet of @l3_len; its addresses are
 * the caller's.  False: some length is out of order. */
static inline bool tcp_plain(const struct frame *f, const uint8_t *ip, uint32_t off,
			     uint32_t l3_len, struct segment *ret)
{
	const uint8_t *t = ip + off;
	uint64_t front = be64_at(t), back = be64_at(t + 8); /* ports, seq; ack, flags, window */
	uint32_t hl = back >> 26 & 0x3c, captured = f->caplen - (uint32_t)(t - f->data);

	if (l3_len > f->len - (uint32_t)(ip - f->data) || hl < TCP_FIXED || off + hl > l3_len)
		return false;
	ret->ts_ns = f->ts_ns;
	ret->sport = (uint16_t)(front >> 48);
	ret->dport = (uint16_t)(front >> 32);
	ret->seq = (uint32_t)front;
	ret->ack = (uint32_t)(back >> 32);
	ret->flags = back >> 16 & 0x0fff;
	ret->window = (uint16_t)back;
	ret->options = (struct span){ t + TCP_FIXED, (captured < hl ? captured : hl) - TCP_FIXED };
	ret->payload_len = l3_len - off - hl;
	ret->wire_len = f->len;
	ret->wire_segs = 1;
	ret->iface = f->iface;
	ret->vlan[0] = ret->vlan[1] = 0;
	ret->nvlan = 0;
	ret->fragment = ret->extended = false;
	return true;
}

/* Nearly all there is: Ethernet without a tag, an IP header without options or extensions, whole,
 * TCP behind it, and every length in order.  False: the long way will tell; it would find the same
 * here (tests/unit/test_frame.c). */
static inline bool decode_plain(const struct frame *f, struct segment *ret)
{
	enum { ETHERNET = 14, IP4 = 20, IP6 = 40 };
	const uint8_t *ip = f->data + ETHERNET;

	if (f->link != LINK_ETHERNET || f->caplen < ETHERNET + IP4 + TCP_FIXED || f->has_vlan ||
	    f->gso_size || f->len < f->caplen)
		return false;
	/* EtherType, version and length, TOS. */
	uint32_t head = be32_at(ip - 2);

	/* Flags, offset, TTL, protocol. */
	if (head >> 8 == 0x080045 && (be32_at(ip + 6) & 0x3fff00ff) == PROTO_TCP) {
		if (!tcp_plain(f, ip, IP4, be16_at(ip + 2), ret))
			return false;
		memset(ret->src, 0, sizeof ret->src);
		memset(ret->dst, 0, sizeof ret->dst);
		memcpy(ret->src, ip + 12, 4);
		memcpy(ret->dst, ip + 16, 4);
		ret->ip_v = 4;
		return true;
	}
	if (head >> 12 != 0x86dd6 || f->caplen < ETHERNET + IP6 + TCP_FIXED || ip[6] != PROTO_TCP ||
	    !be16_at(ip + 4) || !tcp_plain(f, ip, IP6, IP6 + be16_at(ip + 4), ret))
		return false;
	memcpy(ret->src, ip + 8, 16);
	memcpy(ret->dst, ip + 24, 16);
	ret->ip_v = 6;
	return true;
}

enum frame_verdict frame_decode(const struct frame *f, struct segment *ret)
{
	if (likely(decode_plain(f, ret)))
		return FRAME_TCP;
	return decode_any(f, ret);
}

/* One tunnel further, if @inside allows; FRAME_NOT_TCP: this packet is none. */
static enum frame_verdict enter(unsigned inner, unsigned level, const struct upper *u,
				struct packet *p, struct segment *s, struct tunnel *t)
{
	enum tunnel_type type = inner & INNER_TUNNELS ? tunnel_of(p, u) : TUNNEL_NONE;

	if (type == TUNNEL_NONE)
		return FRAME_NOT_TCP;
	if (u->later)
		return FRAME_FRAGMENT;
	return level == TUNNEL_MAX_LEVELS ? FRAME_TOO_DEEP : tunnel_walk(type, u, p, s, t);
}

enum frame_verdict frame_decode_inner(const struct frame *f, unsigned inner,
				      struct tunnel *ret_tunnel, struct segment *ret)
{
	struct segment s = { .ts_ns = f->ts_ns, .iface = f->iface };
	struct tunnel t = { .type = TUNNEL_NONE };
	struct packet p;
	struct upper u;
	enum frame_verdict v = packet_walk(f, &s, &p);

	for (unsigned level = 0; !v; level++) {
		v = ip_walk(&p, &u);
		if (v)
			return v;
		if (u.proto == PROTO_TCP) {
			v = tcp_walk(&p, &u, &s);
			break;
		}
		if (inner & INNER_ICMP && !u.later && icmp_may_quote(&p, &u)) {
			v = icmp_walk(&p, &u, &s);
			break;
		}
		v = enter(inner, level, &u, &p, &s, &t);
	}
	if (v != FRAME_TCP && v != FRAME_ICMP)
		return v;
	if (v == FRAME_TCP) {
		count_wire(f, &s);
		if (u.l3_len > p.wire) /* p.part: the rest of it was on the wire as well */
			s.wire_len += u.l3_len - p.wire;
	}
	*ret_tunnel = t;
	*ret = s;
	return v;
}

bool frame_holds_inner(const struct frame *f, unsigned inner)
{
	struct segment s = { .nvlan = 0 };
	struct packet p;
	struct upper u;

	if (packet_walk(f, &s, &p) || ip_walk(&p, &u) || u.later)
		return false;
	return (inner & INNER_TUNNELS && tunnel_of(&p, &u) != TUNNEL_NONE) ||
	       (inner & INNER_ICMP && icmp_may_quote(&p, &u));
}
