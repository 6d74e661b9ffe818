#include "wire/frame.h"
#include "base/cc.h"
#include "wire/decode.h"

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

enum frame_verdict ip6_decode(struct decode *d)
{
	const uint8_t *ip = d->c.p;
	size_t captured = cursor_left(&d->c);

	if (captured < 40)
		return FRAME_CUT;
	if (ip[0] >> 4 != 6)
		return FRAME_BAD;

	uint32_t plen = be16_at(ip + 4), off = 40;
	uint8_t next = ip[6];
	bool first = false;

	for (unsigned n = 0; next != PROTO_TCP && ip6_header_len(next, 0); n++) {
		if (n == IP6_MAX_HEADERS)
			return FRAME_TOO_DEEP;
		if (captured < off + 2)
			return FRAME_CUT;
		if (next == IP6_FRAGMENT) {
			if (captured < off + 4)
				return FRAME_CUT;
			if (be16_at(ip + off + 2) & 0xfff8)
				return FRAME_FRAGMENT;
			first |= ip[off + 3] & 1;
		}
		uint32_t len = ip6_header_len(next, ip[off + 1]);

		next = ip[off];
		off += len;
	}
	d->upper = (struct upper){ .l3_len = plen ? 40 + plen : 0,
				   .off = off,
				   .proto = next,
				   .first = first,
				   .extended = off > 40 };
	return FRAME_TCP;
}

/* Decodes the TCP header, @off octets after an IP header at @ip, of which @captured octets are
 * there.  @l3_len: octets of the IP packet on the wire.  False: the data offset is wrong. */
static inline bool tcp_decode(const uint8_t *ip, uint32_t captured, uint32_t off, uint32_t l3_len,
			      struct segment *ret)
{
	const uint8_t *t = ip + off;
	uint64_t front = be64_at(t), back = be64_at(t + 8); /* ports, seq; ack, flags, window */
	uint32_t hl = back >> 26 & 0x3c, there = captured - off;

	if (hl < TCP_FIXED || off + hl > l3_len)
		return false;
	ret->sport = (uint16_t)(front >> 48);
	ret->dport = (uint16_t)(front >> 32);
	ret->seq = (uint32_t)front;
	ret->ack = (uint32_t)(back >> 32);
	ret->flags = back >> 16 & 0x0fff;
	ret->window = (uint16_t)back;
	ret->options = (struct span){ t + TCP_FIXED, (there < hl ? there : hl) - TCP_FIXED };
	ret->payload_len = l3_len - off - hl;
	return true;
}

/* The TCP segment in the IP packet. */
static enum frame_verdict segment_decode(struct decode *d)
{
	const struct upper *u = &d->upper;
	/* Length 0: BIG TCP (Linux), or a TSO frame before its device filled the field in. */
	uint32_t l3_len = u->l3_len ? u->l3_len : d->wire;
	uint32_t captured = (uint32_t)cursor_left(&d->c);

	if (u->later)
		return FRAME_FRAGMENT;
	if (captured <= u->off)
		return FRAME_CUT;
	if ((l3_len > d->wire && !d->part) || l3_len < u->off + TCP_FIXED)
		return FRAME_TCP_BAD;
	if (captured < u->off + TCP_FIXED)
		return FRAME_TCP_CUT;
	if (!tcp_decode(d->c.p, captured, u->off, l3_len, d->s))
		return FRAME_TCP_BAD;
	ip_copy_addresses(d);
	d->s->fragment = u->first;
	d->s->extended = u->extended;
	return FRAME_TCP;
}

/* Segments and octets of a super-frame on the wire: each segment repeats the headers (Linux GRO,
 * TSO). */
static void count_wire(const struct frame *f, struct segment *s)
{
	uint32_t segs = 1, payload = s->payload_len;

	if (f->gso_size && payload > f->gso_size && payload < f->len)
		segs = (payload + f->gso_size - 1) / f->gso_size;
	s->wire_segs = segs > UINT16_MAX ? UINT16_MAX : (uint16_t)segs;
	s->wire_len = f->len + (s->wire_segs - 1u) * (f->len - payload);
}

/* Up to the outermost IP header. */
static inline enum frame_verdict outer_decode(const struct frame *f, struct decode *d)
{
	enum frame_verdict v;

	d->c = cursor_of((struct span){ f->data, f->caplen });
	if (f->has_vlan)
		segment_add_vlan(d->s, f->vlan_tci);
	v = link_decode(f->link, d);
	d->wire = f->len - (uint32_t)(d->c.p - f->data);
	return v;
}

/* A copy for each constant @inner. */
static inline __attribute__((always_inline)) enum frame_verdict
any_decode(const struct frame *f, unsigned inner, struct tunnel *ret_tunnel, struct segment *ret)
{
	struct segment s = { .ts_ns = f->ts_ns, .iface = (uint16_t)f->iface };
	struct decode d = { .s = &s };
	enum frame_verdict v = outer_decode(f, &d);

	for (unsigned level = 0; !v; level++) {
		v = ip_decode(&d);
		if (v)
			return v;
		if (d.upper.proto == PROTO_TCP) {
			v = segment_decode(&d);
			break;
		}
		if (inner & INNER_ICMP && icmp_may_quote(&d)) {
			v = icmp_decode(&d);
			break;
		}
		v = inner & INNER_TUNNELS ? tunnel_decode(&d, level) : FRAME_NOT_TCP;
	}
	if (v != FRAME_TCP && v != FRAME_ICMP)
		return v;
	if (v == FRAME_TCP) {
		count_wire(f, &s);
		if (d.upper.l3_len > d.wire) /* d.part: the wire carried the rest as well */
			s.wire_len += d.upper.l3_len - d.wire;
	}
	*ret_tunnel = d.tunnel;
	*ret = s;
	return v;
}

/* As tcp_decode(), for a frame that is one segment on the wire; sets all but the addresses.  False:
 * a length is wrong. */
static inline bool plain_tcp_decode(const struct frame *f, const uint8_t *ip, uint32_t off,
				    uint32_t l3_len, struct segment *ret)
{
	uint32_t link = (uint32_t)(ip - f->data);

	if (l3_len > f->len - link || !tcp_decode(ip, f->caplen - link, off, l3_len, ret))
		return false;
	ret->ts_ns = f->ts_ns;
	ret->wire_len = f->len;
	ret->wire_segs = 1;
	ret->iface = (uint16_t)f->iface;
	ret->vlan[0] = ret->vlan[1] = 0;
	ret->nvlan = 0;
	ret->fragment = ret->extended = false;
	return true;
}

/* The common case: untagged Ethernet, an IP header without options, extensions or fragmentation,
 * then TCP with correct lengths.  False: any_decode() decides.  Both give the same result for the
 * same frame (tests/unit/test_frame.c). */
static inline bool plain_decode(const struct frame *f, struct segment *ret)
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
		if (!plain_tcp_decode(f, ip, IP4, be16_at(ip + 2), ret))
			return false;
		memset(ret->src, 0, sizeof ret->src);
		memset(ret->dst, 0, sizeof ret->dst);
		memcpy(ret->src, ip + 12, 4);
		memcpy(ret->dst, ip + 16, 4);
		ret->ip_v = 4;
		return true;
	}
	if (head >> 12 != 0x86dd6 || f->caplen < ETHERNET + IP6 + TCP_FIXED || ip[6] != PROTO_TCP ||
	    !be16_at(ip + 4) || !plain_tcp_decode(f, ip, IP6, IP6 + be16_at(ip + 4), ret))
		return false;
	memcpy(ret->src, ip + 8, 16);
	memcpy(ret->dst, ip + 24, 16);
	ret->ip_v = 6;
	return true;
}

enum frame_verdict frame_decode(const struct frame *f, struct segment *ret)
{
	struct tunnel none;

	if (likely(plain_decode(f, ret)))
		return FRAME_TCP;
	return any_decode(f, 0, &none, ret);
}

enum frame_verdict frame_decode_inner(const struct frame *f, unsigned inner,
				      struct tunnel *ret_tunnel, struct segment *ret)
{
	return any_decode(f, inner, ret_tunnel, ret);
}

bool frame_holds_inner(const struct frame *f, unsigned inner)
{
	struct segment s = { .nvlan = 0 };
	struct decode d = { .s = &s };

	if (outer_decode(f, &d) || ip_decode(&d) || d.upper.later)
		return false;
	return (inner & INNER_TUNNELS && tunnel_of(&d) != TUNNEL_NONE) ||
	       (inner & INNER_ICMP && icmp_may_quote(&d));
}
