#include "wire/frame.h"
#include <string.h>
#include "base/cc.h"
#include "wire/segment.h"

enum { ETHERTYPE_V4 = 0x0800, ETHERTYPE_V6 = 0x86dd, BY_IP_VERSION = 0x10000 };
enum { PROTO_TCP = 6 };
enum { IP6_HOPOPTS = 0, IP6_ROUTING = 43, IP6_FRAGMENT = 44, IP6_AH = 51, IP6_DSTOPTS = 60,
       IP6_MOBILITY = 135, IP6_HIP = 139, IP6_SHIM6 = 140 };
enum { TCP_FIXED = 20 };

static const char *const verdict_name[FRAME_VERDICTS] = {
	[FRAME_TCP] = "tcp",
	[FRAME_TCP_CUT] = "tcp_cut",
	[FRAME_TCP_BAD] = "tcp_bad",
	[FRAME_NOT_TCP] = "not_tcp",
	[FRAME_FRAGMENT] = "fragment",
	[FRAME_CUT] = "cut",
	[FRAME_BAD] = "bad",
	[FRAME_TOO_DEEP] = "too_deep",
};

const char *frame_verdict_name(enum frame_verdict v)
{
	return verdict_name[v];
}

/* Where the TCP header lies, found by the layers above it. */
struct inner {
	uint32_t l3_len;  /* IP header + payload on the wire; 0: "as long as the frame" */
	uint32_t tcp_off; /* octets from the IP header to the TCP header */
	bool fragment;
};

static bool is_vlan(uint32_t type)
{
	return type == 0x8100 || type == 0x88a8 || type == 0x9100;
}

static void keep_vlan(struct segment *s, uint16_t tci)
{
	if (s->nvlan < ARRAY_SIZE(s->vlan))
		s->vlan[s->nvlan++] = tci & 0x0fff;
}

/* Reads the link header and in-frame tags; *ret_type is an EtherType or BY_IP_VERSION. */
static enum frame_verdict link_decode(const struct frame *f, struct cursor *c, struct segment *s,
				      uint32_t *ret_type)
{
	uint32_t type = BY_IP_VERSION;

	switch ((enum link_type)f->link) {
	case LINK_ETHERNET:
		cursor_take(c, 12);
		type = cursor_be16(c);
		break;
	case LINK_SLL:
		cursor_take(c, 14);
		type = cursor_be16(c);
		break;
	case LINK_SLL2:
		type = cursor_be16(c);
		cursor_take(c, 18);
		break;
	case LINK_NULL:
		cursor_take(c, 4);
		break;
	case LINK_RAW_IP:
	case LINK_TYPES:
		break;
	}
	if (f->has_vlan)
		keep_vlan(s, f->vlan_tci);
	for (unsigned tags = 0; is_vlan(type); tags++) {
		if (tags == LINK_MAX_VLAN)
			return FRAME_TOO_DEEP;
		keep_vlan(s, cursor_be16(c));
		type = cursor_be16(c);
	}
	if (c->bad)
		return FRAME_CUT;
	*ret_type = type;
	return FRAME_TCP;
}

static enum frame_verdict ip4_decode(struct span ip, struct segment *s, struct inner *in)
{
	if (ip.n < 20)
		return FRAME_CUT;
	uint32_t hl = (ip.p[0] & 15u) * 4, total = be16_at(ip.p + 2);

	if (ip.p[0] >> 4 != 4 || hl < 20)
		return FRAME_BAD;
	if (ip.p[9] != PROTO_TCP)
		return FRAME_NOT_TCP;
	if (be16_at(ip.p + 6) & 0x1fff)
		return FRAME_FRAGMENT;
	if (ip.n <= hl)
		return FRAME_CUT;
	s->ip_v = 4;
	memcpy(s->src, ip.p + 12, 4);
	memcpy(s->dst, ip.p + 16, 4);
	*in = (struct inner){ .l3_len = total,
			      .tcp_off = hl,
			      .fragment = be16_at(ip.p + 6) & 0x2000 };
	return FRAME_TCP;
}

/* Octets of extension header @kind whose second octet is @len; 0: not one. */
static uint32_t ip6_header_len(uint8_t kind, uint8_t len)
{
	switch (kind) {
	case IP6_HOPOPTS:
	case IP6_ROUTING:
	case IP6_DSTOPTS:
	case IP6_MOBILITY:
	case IP6_HIP:
	case IP6_SHIM6:
		return (len + 1u) * 8;
	case IP6_AH:
		return (len + 2u) * 4;
	case IP6_FRAGMENT:
		return 8;
	default:
		return 0;
	}
}

static enum frame_verdict ip6_decode(struct span ip, struct segment *s, struct inner *in)
{
	if (ip.n < 40)
		return FRAME_CUT;
	if (ip.p[0] >> 4 != 6)
		return FRAME_BAD;

	uint32_t plen = be16_at(ip.p + 4), off = 40;
	uint8_t next = ip.p[6];
	bool fragment = false;

	for (unsigned n = 0; next != PROTO_TCP; n++) {
		if (!ip6_header_len(next, 0))
			return FRAME_NOT_TCP;
		if (n == IP6_MAX_HEADERS)
			return FRAME_TOO_DEEP;
		if (ip.n < off + 2)
			return FRAME_CUT;
		if (next == IP6_FRAGMENT) {
			if (ip.n < off + 4)
				return FRAME_CUT;
			if (be16_at(ip.p + off + 2) & 0xfff8)
				return FRAME_FRAGMENT;
			fragment |= ip.p[off + 3] & 1;
		}
		uint32_t len = ip6_header_len(next, ip.p[off + 1]);

		next = ip.p[off];
		off += len;
	}
	if (ip.n <= off)
		return FRAME_CUT;
	s->ip_v = 6;
	memcpy(s->src, ip.p + 8, 16);
	memcpy(s->dst, ip.p + 24, 16);
	*in = (struct inner){ .l3_len = plen ? 40 + plen : 0,
			      .tcp_off = off,
			      .fragment = fragment };
	return FRAME_TCP;
}

/* @wire is what the link header leaves of the frame on the wire, padding included. */
static enum frame_verdict tcp_decode(struct span ip, uint32_t wire, const struct inner *in,
				     struct segment *s)
{
	/* Length 0: BIG TCP (Linux) and TSO as captured leave the field empty. */
	uint32_t l3_len = in->l3_len ? in->l3_len : wire;

	if (l3_len > wire || l3_len < in->tcp_off + TCP_FIXED)
		return FRAME_TCP_BAD;
	if (ip.n < in->tcp_off + TCP_FIXED)
		return FRAME_TCP_CUT;

	const uint8_t *t = ip.p + in->tcp_off;
	uint32_t hl = (t[12] >> 4) * 4u;

	if (hl < TCP_FIXED || in->tcp_off + hl > l3_len)
		return FRAME_TCP_BAD;

	size_t captured = ip.n - in->tcp_off;

	s->sport = be16_at(t);
	s->dport = be16_at(t + 2);
	s->seq = be32_at(t + 4);
	s->ack = be32_at(t + 8);
	s->flags = be16_at(t + 12) & 0x0fff;
	s->window = be16_at(t + 14);
	s->options = (struct span){ t + TCP_FIXED, (captured < hl ? captured : hl) - TCP_FIXED };
	s->payload_len = l3_len - in->tcp_off - hl;
	s->fragment = in->fragment;
	return FRAME_TCP;
}

/* What one super-frame was on the wire: each segment repeats the headers (Linux GRO, TSO). */
static void count_wire(const struct frame *f, struct segment *s)
{
	uint32_t segs = 1, payload = s->payload_len;

	if (f->gso_size && payload > f->gso_size)
		segs = (payload + f->gso_size - 1) / f->gso_size;
	s->wire_segs = segs > UINT16_MAX ? UINT16_MAX : (uint16_t)segs;
	s->wire_len = f->len + (s->wire_segs - 1u) * (f->len - payload);
}

enum frame_verdict frame_decode(const struct frame *f, struct segment *ret)
{
	struct segment s = { .ts_ns = f->ts_ns, .iface = f->iface };
	struct cursor c = cursor_of((struct span){ f->data, f->caplen });
	struct inner in;
	uint32_t type;
	enum frame_verdict v = link_decode(f, &c, &s, &type);

	if (unlikely(v))
		return v;
	struct span ip = { c.p, cursor_left(&c) };
	uint32_t wire = f->len - (uint32_t)(c.p - f->data);

	if (type == BY_IP_VERSION) {
		if (!ip.n)
			return FRAME_CUT;
		if (ip.p[0] >> 4 == 4)
			type = ETHERTYPE_V4;
		else if (ip.p[0] >> 4 == 6)
			type = ETHERTYPE_V6;
	}
	if (type == ETHERTYPE_V4)
		v = ip4_decode(ip, &s, &in);
	else if (type == ETHERTYPE_V6)
		v = ip6_decode(ip, &s, &in);
	else
		v = FRAME_NOT_TCP;
	if (v)
		return v;
	v = tcp_decode(ip, wire, &in, &s);
	if (unlikely(v))
		return v;
	count_wire(f, &s);
	*ret = s;
	return FRAME_TCP;
}
