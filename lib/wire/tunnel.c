#include "wire/tunnel.h"
#include "base/cc.h"
#include "wire/decode.h"

enum { UDP_HEADER = 8 };

static void set_id(struct decode *d, uint32_t id)
{
	d->tunnel.has_id = true;
	d->tunnel.id = id;
}

/* An inner Ethernet header: its VLAN tags replace the outer ones. */
static enum frame_verdict ethernet_decode(struct decode *d)
{
	d->s->nvlan = 0;
	return link_decode(LINK_ETHERNET, d);
}

/* Protocol types of GRE and Geneve. */
static enum frame_verdict payload_decode(struct decode *d, uint32_t type)
{
	if (type == 0x6558) /* Transparent Ethernet Bridging */
		return ethernet_decode(d);
	return type < 0x0600 ? FRAME_NOT_TCP : ethertype_decode(type, d);
}

static enum frame_verdict vxlan_decode(struct decode *d)
{
	uint32_t flags = cursor_be32(&d->c), vni = cursor_be32(&d->c);

	if (d->c.bad)
		return FRAME_CUT;
	if (!(flags & 0x08000000)) /* the VNI is not valid */
		return FRAME_NOT_TCP;
	set_id(d, vni >> 8);
	return ethernet_decode(d);
}

static enum frame_verdict geneve_decode(struct decode *d)
{
	uint32_t head = cursor_be32(&d->c), vni = cursor_be32(&d->c);

	cursor_take(&d->c, (head >> 24 & 0x3f) * 4); /* options */
	if (d->c.bad)
		return FRAME_CUT;
	if (head >> 30) /* version */
		return FRAME_NOT_TCP;
	set_id(d, vni >> 8);
	return payload_decode(d, head & 0xffff);
}

/* Type I has no header, type II 8 octets, type III 12 octets and 8 more with the O bit.  With the T
 * bit, the mirror cut the frame: the mirrored wire carried more. */
static enum frame_verdict erspan_decode(struct decode *d, uint32_t type, bool sequenced)
{
	bool third = type == 0x22eb;

	d->tunnel = (struct tunnel){ .type = TUNNEL_ERSPAN }; /* a GRE key is not the session */
	if (third || sequenced) {
		uint32_t head = cursor_be32(&d->c), rest;

		if (third)
			cursor_take(&d->c, 4); /* timestamp */
		rest = cursor_be32(&d->c);
		if (d->c.bad)
			return FRAME_CUT;
		if (head >> 28 != (third ? 2 : 1))
			return FRAME_NOT_TCP;
		set_id(d, head & 0x3ff);
		d->part |= !!(head & 0x400);
		if (third && rest & 1)
			cursor_take(&d->c, 8);
		if (third && (rest >> 10 & 0x1f) == 2) /* frame type: an IP packet */
			return link_decode(LINK_RAW_IP, d);
		if (third && (rest >> 10 & 0x1f) != 0)
			return FRAME_NOT_TCP;
	}
	return ethernet_decode(d);
}

/* RFC 2784 2, RFC 2890 2.  Source routes (RFC 1701) and version 1 (PPTP, RFC 2637) are not
 * supported. */
static enum frame_verdict gre_decode(struct decode *d)
{
	uint32_t flags = cursor_be16(&d->c), type = cursor_be16(&d->c);

	if (flags & 0x8000) /* checksum */
		cursor_take(&d->c, 4);
	if (flags & 0x2000)
		set_id(d, cursor_be32(&d->c));
	if (flags & 0x1000) /* sequence number */
		cursor_take(&d->c, 4);
	if (d->c.bad)
		return FRAME_CUT;
	if (flags & 0x4007)
		return FRAME_NOT_TCP;
	if (type == 0x88be || type == 0x22eb)
		return erspan_decode(d, type, flags & 0x1000);
	return payload_decode(d, type);
}

/* TS 29.281 5.1 and 5.2.1: any of the flags E, S and PN adds four octets, the last of which is the
 * type of the first extension header.  Each extension header ends with the type of the next. */
static enum frame_verdict gtp_u_decode(struct decode *d)
{
	uint8_t flags = cursor_u8(&d->c), message = cursor_u8(&d->c), next = 0;

	cursor_take(&d->c, 6); /* length, TEID */
	if (flags & 7) {
		cursor_take(&d->c, 3);
		next = cursor_u8(&d->c);
	}
	if (!(flags & 4))
		next = 0;
	for (unsigned n = 0; next; n++) {
		if (n == TUNNEL_MAX_GTP_HEADERS)
			return FRAME_TOO_DEEP;
		uint8_t words = cursor_u8(&d->c);
		const uint8_t *rest = words ? cursor_take(&d->c, words * 4u - 1) : NULL;

		if (!rest)
			return d->c.bad ? FRAME_CUT : FRAME_BAD;
		next = rest[words * 4u - 2];
	}
	if (d->c.bad)
		return FRAME_CUT;
	if (flags >> 4 != 3 || message != 255) /* version 1, GTP; T-PDU */
		return FRAME_NOT_TCP;
	return link_decode(LINK_RAW_IP, d);
}

/* decode: the cursor is after the IP header, and after the UDP header if there is one. */
static const struct {
	const char *name;
	enum frame_verdict (*decode)(struct decode *d);
	uint8_t ip_v; /* without `decode`: of the inner IP header */
} types[TUNNEL_TYPES] = {
	[TUNNEL_NONE] = { "none", NULL, 0 },
	[TUNNEL_VXLAN] = { "vxlan", vxlan_decode, 0 },
	[TUNNEL_GENEVE] = { "geneve", geneve_decode, 0 },
	[TUNNEL_GRE] = { "gre", gre_decode, 0 },
	[TUNNEL_ERSPAN] = { "erspan", NULL, 0 }, /* arrives as TUNNEL_GRE */
	[TUNNEL_IPIP] = { "ipip", NULL, 4 },
	[TUNNEL_6IN4] = { "6in4", NULL, 6 },
	[TUNNEL_4IN6] = { "4in6", NULL, 4 },
	[TUNNEL_6IN6] = { "6in6", NULL, 6 },
	[TUNNEL_GTP_U] = { "gtp_u", gtp_u_decode, 0 },
};

const char *tunnel_name(enum tunnel_type t)
{
	return types[t].name;
}

enum tunnel_type tunnel_of(const struct decode *d)
{
	const struct upper *u = &d->upper;

	if (cursor_left(&d->c) <= u->off)
		return TUNNEL_NONE;
	switch (u->proto) {
	case PROTO_GRE:
		return TUNNEL_GRE;
	case PROTO_IP4:
		return d->ip_v == 4 ? TUNNEL_IPIP : TUNNEL_4IN6;
	case PROTO_IP6:
		return d->ip_v == 4 ? TUNNEL_6IN4 : TUNNEL_6IN6;
	}
	if (u->proto != PROTO_UDP || cursor_left(&d->c) < u->off + 4)
		return TUNNEL_NONE;
	switch (be16_at(d->c.p + u->off + 2)) { /* destination; source ports are a hash */
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

enum frame_verdict tunnel_decode(struct decode *d, unsigned level)
{
	const struct upper *u = &d->upper;
	uint32_t l3_len = u->l3_len ? u->l3_len : d->wire;
	enum tunnel_type type = tunnel_of(d);
	const uint8_t *ip = d->c.p;

	if (type == TUNNEL_NONE)
		return FRAME_NOT_TCP;
	if (u->later)
		return FRAME_FRAGMENT;
	if (level == TUNNEL_MAX_LEVELS)
		return FRAME_TOO_DEEP;
	if ((l3_len > d->wire && !d->part) || l3_len <= u->off)
		return FRAME_BAD;
	d->tunnel = (struct tunnel){ .type = type };
	d->part |= u->first;
	if (l3_len < d->wire)
		d->wire = l3_len;
	if (l3_len < cursor_left(&d->c))
		d->c.end = ip + l3_len;
	cursor_take(&d->c, u->off + (u->proto == PROTO_UDP ? UDP_HEADER : 0));
	enum frame_verdict v =
		types[type].decode ? types[type].decode(d) : ip_follows(d, types[type].ip_v);

	d->wire -= (uint32_t)(d->c.p - ip);
	return v;
}
