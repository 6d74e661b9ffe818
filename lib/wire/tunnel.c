#include "wire/tunnel.h"
#include "base/cc.h"
#include "wire/segment.h"
#include "wire/walk.h"

enum { UDP_HEADER = 8 };

static const char *const type_name[TUNNEL_TYPES] = {
	[TUNNEL_NONE] = "none",	  [TUNNEL_VXLAN] = "vxlan",   [TUNNEL_GENEVE] = "geneve",
	[TUNNEL_GRE] = "gre",	  [TUNNEL_ERSPAN] = "erspan", [TUNNEL_IPIP] = "ipip",
	[TUNNEL_6IN4] = "6in4",	  [TUNNEL_4IN6] = "4in6",     [TUNNEL_6IN6] = "6in6",
	[TUNNEL_GTP_U] = "gtp_u",
};

const char *tunnel_name(enum tunnel_type t)
{
	return type_name[t];
}

/* Octets behind the IP header, as far as they were captured. */
static struct span payload_of(const struct packet *p, const struct upper *u)
{
	size_t end = p->ip.n;

	if (u->l3_len && u->l3_len < end)
		end = u->l3_len;
	return (struct span){ p->ip.p + u->off, end > u->off ? end - u->off : 0 };
}

enum tunnel_type tunnel_of(const struct packet *p, const struct upper *u)
{
	if (p->ip.n <= u->off)
		return TUNNEL_NONE;
	switch (u->proto) {
	case PROTO_GRE:
		return TUNNEL_GRE;
	case PROTO_IP4:
		return p->ip_v == 4 ? TUNNEL_IPIP : TUNNEL_4IN6;
	case PROTO_IP6:
		return p->ip_v == 4 ? TUNNEL_6IN4 : TUNNEL_6IN6;
	case PROTO_UDP:
		break;
	default:
		return TUNNEL_NONE;
	}
	if (p->ip.n < u->off + 4)
		return TUNNEL_NONE;
	switch (be16_at(p->ip.p + u->off + 2)) { /* the destination: sources are a hash */
	case PORT_VXLAN:
	case PORT_VXLAN_LINUX:
		return TUNNEL_VXLAN;
	case PORT_GENEVE:
		return TUNNEL_GENEVE;
	case PORT_GTP_U:
		return TUNNEL_GTP_U;
	default:
		return TUNNEL_NONE;
	}
}

static void identify(struct tunnel *t, uint32_t id)
{
	t->has_id = true;
	t->id = id;
}

/* An Ethernet header inside: tags are counted anew. */
static enum frame_verdict ethernet_walk(struct cursor *c, struct segment *s, uint8_t *ret_ip_v)
{
	s->nvlan = 0;
	return link_walk(LINK_ETHERNET, c, s, ret_ip_v);
}

/* What a protocol type of GRE or Geneve says. */
static enum frame_verdict payload_walk(uint32_t type, struct cursor *c, struct segment *s,
				       uint8_t *ret_ip_v)
{
	if (type == 0x6558) /* Transparent Ethernet Bridging */
		return ethernet_walk(c, s, ret_ip_v);
	return type < 0x0600 ? FRAME_NOT_TCP : type_walk(type, c, s, ret_ip_v);
}

static enum frame_verdict vxlan_walk(struct cursor *c, struct segment *s, struct tunnel *t,
				     uint8_t *ret_ip_v)
{
	cursor_take(c, UDP_HEADER);
	uint32_t flags = cursor_be32(c), vni = cursor_be32(c);

	if (c->bad)
		return FRAME_CUT;
	if (!(flags & 0x08000000)) /* the VNI is not valid */
		return FRAME_NOT_TCP;
	identify(t, vni >> 8);
	return ethernet_walk(c, s, ret_ip_v);
}

static enum frame_verdict geneve_walk(struct cursor *c, struct segment *s, struct tunnel *t,
				      uint8_t *ret_ip_v)
{
	cursor_take(c, UDP_HEADER);
	uint32_t head = cursor_be32(c), vni = cursor_be32(c);

	cursor_take(c, (head >> 24 & 0x3f) * 4); /* options */
	if (c->bad)
		return FRAME_CUT;
	if (head >> 30) /* version */
		return FRAME_NOT_TCP;
	identify(t, vni >> 8);
	return payload_walk(head & 0xffff, c, s, ret_ip_v);
}

/* Type I: no header.  II: 8 octets.  III: 12, and 8 more with the O bit.  What the mirror cut off
 * (T bit) was on the mirrored wire nevertheless. */
static enum frame_verdict erspan_walk(uint32_t type, bool sequenced, struct cursor *c,
				      struct segment *s, struct tunnel *t, bool *ret_part,
				      uint8_t *ret_ip_v)
{
	bool third = type == 0x22eb;

	*t = (struct tunnel){ .type = TUNNEL_ERSPAN }; /* a GRE key is not the session */
	if (third || sequenced) {
		uint32_t head = cursor_be32(c), rest;

		if (third)
			cursor_take(c, 4); /* time */
		rest = cursor_be32(c);
		if (c->bad)
			return FRAME_CUT;
		if (head >> 28 != (third ? 2 : 1))
			return FRAME_NOT_TCP;
		identify(t, head & 0x3ff);
		*ret_part |= !!(head & 0x400);
		if (third && rest & 1)
			cursor_take(c, 8);
		if (third && (rest >> 10 & 0x1f) == 2) /* frame type: an IP packet */
			return link_walk(LINK_RAW_IP, c, s, ret_ip_v);
		if (third && (rest >> 10 & 0x1f) != 0)
			return FRAME_NOT_TCP;
	}
	return ethernet_walk(c, s, ret_ip_v);
}

/* RFC 2784 2, RFC 2890 2.  Source routes (RFC 1701) and version 1 (PPTP, RFC 2637) are not for
 * us. */
static enum frame_verdict gre_walk(struct cursor *c, struct segment *s, struct tunnel *t,
				   bool *ret_part, uint8_t *ret_ip_v)
{
	uint32_t flags = cursor_be16(c), type = cursor_be16(c);

	if (flags & 0x8000) /* checksum */
		cursor_take(c, 4);
	if (flags & 0x2000)
		identify(t, cursor_be32(c));
	if (flags & 0x1000) /* sequence number */
		cursor_take(c, 4);
	if (c->bad)
		return FRAME_CUT;
	if (flags & 0x4007)
		return FRAME_NOT_TCP;
	if (type == 0x88be || type == 0x22eb)
		return erspan_walk(type, flags & 0x1000, c, s, t, ret_part, ret_ip_v);
	return payload_walk(type, c, s, ret_ip_v);
}

/* TS 29.281 5.1 and 5.2.1: with any of E, S and PN four octets more, of which the last names the
 * first extension header; each of those ends with the name of the next. */
static enum frame_verdict gtp_u_walk(struct cursor *c, struct segment *s, uint8_t *ret_ip_v)
{
	cursor_take(c, UDP_HEADER);
	uint8_t flags = cursor_u8(c), message = cursor_u8(c), next = 0;

	cursor_take(c, 6); /* length, TEID */
	if (flags & 7) {
		cursor_take(c, 3);
		next = cursor_u8(c);
	}
	if (!(flags & 4))
		next = 0;
	for (unsigned n = 0; next; n++) {
		if (n == TUNNEL_MAX_GTP_HEADERS)
			return FRAME_TOO_DEEP;
		uint8_t words = cursor_u8(c);
		const uint8_t *rest = words ? cursor_take(c, words * 4u - 1) : NULL;

		if (!rest)
			return c->bad ? FRAME_CUT : FRAME_BAD;
		next = rest[words * 4u - 2];
	}
	if (c->bad)
		return FRAME_CUT;
	if (flags >> 4 != 3 || message != 255) /* version 1, GTP; T-PDU */
		return FRAME_NOT_TCP;
	return link_walk(LINK_RAW_IP, c, s, ret_ip_v);
}

enum frame_verdict tunnel_walk(uint8_t type, const struct upper *u, struct packet *p,
			       struct segment *s, struct tunnel *ret)
{
	struct cursor c = cursor_of(payload_of(p, u));
	uint32_t l3_len = u->l3_len ? u->l3_len : p->wire;
	struct tunnel t = { .type = type };
	bool part = p->part || u->first;
	enum frame_verdict v = FRAME_TCP;
	uint8_t ip_v = 0;

	if ((l3_len > p->wire && !p->part) || l3_len <= u->off)
		return FRAME_BAD;
	switch ((enum tunnel_type)type) {
	case TUNNEL_VXLAN:
		v = vxlan_walk(&c, s, &t, &ip_v);
		break;
	case TUNNEL_GENEVE:
		v = geneve_walk(&c, s, &t, &ip_v);
		break;
	case TUNNEL_GTP_U:
		v = gtp_u_walk(&c, s, &ip_v);
		break;
	case TUNNEL_GRE:
	case TUNNEL_ERSPAN:
		v = gre_walk(&c, s, &t, &part, &ip_v);
		break;
	case TUNNEL_IPIP:
	case TUNNEL_4IN6:
		ip_v = 4;
		break;
	case TUNNEL_6IN4:
	case TUNNEL_6IN6:
		ip_v = 6;
		break;
	case TUNNEL_NONE:
	case TUNNEL_TYPES:
		return FRAME_NOT_TCP;
	}
	if (v)
		return v;
	uint32_t gone = (uint32_t)(c.p - p->ip.p);

	*p = (struct packet){ .ip = { c.p, cursor_left(&c) },
			      .wire = (l3_len < p->wire ? l3_len : p->wire) - gone,
			      .ip_v = ip_v,
			      .part = part };
	*ret = t;
	return FRAME_TCP;
}
