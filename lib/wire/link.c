#include "wire/link.h"
#include "base/cc.h"
#include "wire/segment.h"
#include "wire/walk.h"

enum {
	ETHERTYPE_MIN = 0x0600, /* below it is a length: IEEE 802.3 3.2.6 */
	ETHERTYPE_V4 = 0x0800,
	ETHERTYPE_V6 = 0x86dd,
	ETHERTYPE_MPLS = 0x8847,
	ETHERTYPE_MPLS_UPSTREAM = 0x8848, /* RFC 5332 2: also multicast */
	ETHERTYPE_PPPOE = 0x8864,
};
enum { PPP_V4 = 0x0021, PPP_V6 = 0x0057, PPP_MPLS = 0x0281 }; /* RFC 1332, 5072, 3032 4.2 */
enum { LLC_SNAP = 0xaaaa03 }; /* SAPs and UI: IEEE 802.2, RFC 1042 */

static bool is_vlan(uint32_t type)
{
	return type == 0x8100 || type == 0x88a8 || type == 0x9100;
}

static uint16_t le16_at(const uint8_t *p)
{
	return (uint16_t)(p[1] << 8 | p[0]);
}

static uint32_t le32_at(const uint8_t *p)
{
	return (uint32_t)le16_at(p + 2) << 16 | le16_at(p);
}

static enum frame_verdict ip_is(uint8_t ip_v, uint8_t *ret_ip_v)
{
	*ret_ip_v = ip_v;
	return FRAME_TCP;
}

/* Nothing names the protocol: the version nibble does (RFC 4928 3 tells why that is so in MPLS). */
static enum frame_verdict version_walk(const struct cursor *c, uint8_t *ret_ip_v)
{
	if (c->bad || !cursor_left(c))
		return FRAME_CUT;
	uint8_t v = *c->p >> 4;

	return v == 4 || v == 6 ? ip_is(v, ret_ip_v) : FRAME_NOT_TCP;
}

/* RFC 3032 2.1: entries of 4 octets, the last of the stack has the bit. */
static enum frame_verdict mpls_walk(struct cursor *c, uint8_t *ret_ip_v)
{
	for (unsigned n = 0; n < LINK_MAX_MPLS; n++) {
		uint32_t entry = cursor_be32(c);

		if (c->bad)
			return FRAME_CUT;
		if (entry & 0x100)
			return version_walk(c, ret_ip_v);
	}
	return FRAME_TOO_DEEP;
}

static enum frame_verdict ppp_protocol_walk(uint32_t protocol, struct cursor *c, uint8_t *ret_ip_v)
{
	if (c->bad)
		return FRAME_CUT;
	switch (protocol) {
	case PPP_V4:
		return ip_is(4, ret_ip_v);
	case PPP_V6:
		return ip_is(6, ret_ip_v);
	case PPP_MPLS:
		return mpls_walk(c, ret_ip_v);
	default:
		return FRAME_NOT_TCP;
	}
}

/* RFC 1661 2 and 6.5: the protocol takes one octet if that is odd.  RFC 1662 3.1: FF 03 before it,
 * unless the ends agreed to leave that out. */
static enum frame_verdict ppp_walk(struct cursor *c, uint8_t *ret_ip_v)
{
	uint32_t protocol = cursor_u8(c);

	if (protocol == 0xff && cursor_u8(c) == 0x03)
		protocol = cursor_u8(c);
	if (!(protocol & 1))
		protocol = protocol << 8 | cursor_u8(c);
	return ppp_protocol_walk(protocol, c, ret_ip_v);
}

/* RFC 2516 4: version 1, type 1, code 0, session, length.  IPv4 and IPv6 only, as the kernel's
 * filter has it. */
static enum frame_verdict pppoe_walk(struct cursor *c, uint8_t *ret_ip_v)
{
	uint32_t head = cursor_be32(c);

	cursor_be16(c);
	uint32_t protocol = cursor_be16(c);

	if (c->bad)
		return FRAME_CUT;
	if (head >> 16 != 0x1100 || protocol == PPP_MPLS)
		return FRAME_NOT_TCP;
	return ppp_protocol_walk(protocol, c, ret_ip_v);
}

/* The EtherType behind LLC and SNAP; 0: something else is there. */
static uint32_t snap_type(struct cursor *c)
{
	uint32_t head = cursor_be32(c), oui = cursor_be16(c), type = cursor_be16(c);

	return head >> 8 == LLC_SNAP && !(head & 0xff) && !oui ? type : 0;
}

enum frame_verdict type_walk(uint32_t type, struct cursor *c, struct segment *s, uint8_t *ret_ip_v)
{
	for (unsigned tags = 0; is_vlan(type); tags++) {
		if (tags == LINK_MAX_VLAN)
			return FRAME_TOO_DEEP;
		segment_add_vlan(s, cursor_be16(c));
		type = cursor_be16(c);
	}
	if (c->bad)
		return FRAME_CUT;
	if (type < ETHERTYPE_MIN) { /* and then IP at once, as the kernel's filter has it */
		type = snap_type(c);
		if (c->bad)
			return FRAME_CUT;
		if (type != ETHERTYPE_V4 && type != ETHERTYPE_V6)
			return FRAME_NOT_TCP;
	}
	switch (type) {
	case ETHERTYPE_V4:
		return ip_is(4, ret_ip_v);
	case ETHERTYPE_V6:
		return ip_is(6, ret_ip_v);
	case ETHERTYPE_MPLS:
	case ETHERTYPE_MPLS_UPSTREAM:
		return mpls_walk(c, ret_ip_v);
	case ETHERTYPE_PPPOE:
		return pppoe_walk(c, ret_ip_v);
	default:
		return FRAME_NOT_TCP;
	}
}

/* ---- IEEE 802.11 ---- */

enum { /* octet 0 and 1 of the frame control field: IEEE 802.11-2020 9.2.4.1 */
       FC_VERSION_AND_TYPE = 0x0f,
       FC_DATA = 0x08,
       FC_NO_DATA = 0x40,
       FC_QOS = 0x80,
       FC_TO_AND_FROM_DS = 0x03,
       FC_PROTECTED = 0x40,
       FC_HT_CONTROL = 0x80, /* with FC_QOS */
};
enum { QOS_AMSDU = 0x80 };

/* A data frame of one MSDU in clear, then LLC and SNAP.  @padded: the MAC header was filled up to
 * a multiple of 4 octets. */
static enum frame_verdict ieee80211_walk(struct cursor *c, bool padded, struct segment *s,
					 uint8_t *ret_ip_v)
{
	uint8_t fc0 = cursor_u8(c), fc1 = cursor_u8(c);
	unsigned header = 24;

	if (c->bad)
		return FRAME_CUT;
	if ((fc0 & FC_VERSION_AND_TYPE) != FC_DATA || fc0 & FC_NO_DATA || fc1 & FC_PROTECTED)
		return FRAME_NOT_TCP;
	cursor_take(c, 2 + 3 * 6); /* duration, addresses */
	const uint8_t *sequence = cursor_take(c, 2);

	if (sequence && sequence[0] & 0x0f)
		return FRAME_FRAGMENT;
	if ((fc1 & FC_TO_AND_FROM_DS) == FC_TO_AND_FROM_DS)
		cursor_take(c, 6), header += 6;
	if (fc0 & FC_QOS) {
		const uint8_t *qos = cursor_take(c, 2);

		header += 2;
		if (qos && qos[0] & QOS_AMSDU)
			return FRAME_TOO_DEEP; /* several MSDUs; a frame gives one segment */
		if (fc1 & FC_HT_CONTROL)
			cursor_take(c, 4), header += 4;
	}
	if (padded)
		cursor_take(c, -header & 3);
	uint32_t type = snap_type(c);

	if (type < ETHERTYPE_MIN)
		return c->bad ? FRAME_CUT : FRAME_NOT_TCP;
	return type_walk(type, c, s, ret_ip_v);
}

/* Radiotap (radiotap.org): little-endian; words of presence bits, each with bit 31 announces
 * another; then fields by ascending bit, aligned to their size. */
enum { RT_TSFT = 1, RT_FLAGS = 2 };
enum { RT_FLAG_PADDED = 0x20 };

static enum frame_verdict radiotap_walk(struct cursor *c, bool *ret_padded)
{
	const uint8_t *h = cursor_take(c, 8);

	if (!h)
		return FRAME_CUT;
	uint32_t len = le16_at(h + 2), present = le32_at(h + 4), at = 8;

	if (h[0] || len < at)
		return FRAME_BAD;
	if (!cursor_take(c, len - at))
		return FRAME_CUT;
	for (uint32_t more = present; more >> 31; at += 4) {
		if (at + 4 > len)
			return FRAME_BAD;
		more = le32_at(h + at);
	}
	if (present & RT_TSFT)
		at = ((at + 7) & ~7u) + 8;
	*ret_padded = present & RT_FLAGS && at < len && h[at] & RT_FLAG_PADDED;
	return FRAME_TCP;
}

enum frame_verdict link_walk(enum link_type link, struct cursor *c, struct segment *s,
			     uint8_t *ret_ip_v)
{
	bool padded = false;
	uint32_t type;

	switch (link) {
	case LINK_ETHERNET:
		cursor_take(c, 12);
		return type_walk(cursor_be16(c), c, s, ret_ip_v);
	case LINK_SLL:
		cursor_take(c, 14);
		return type_walk(cursor_be16(c), c, s, ret_ip_v);
	case LINK_SLL2:
		type = cursor_be16(c);
		cursor_take(c, 18);
		return type_walk(type, c, s, ret_ip_v);
	case LINK_NULL:
		cursor_take(c, 4);
		return version_walk(c, ret_ip_v);
	case LINK_PPP:
		return ppp_walk(c, ret_ip_v);
	case LINK_PPPOE:
		return pppoe_walk(c, ret_ip_v);
	case LINK_RADIOTAP: {
		enum frame_verdict v = radiotap_walk(c, &padded);

		if (v)
			return v;
		return ieee80211_walk(c, padded, s, ret_ip_v);
	}
	case LINK_80211:
		return ieee80211_walk(c, false, s, ret_ip_v);
	case LINK_RAW_IP:
	case LINK_TYPES:
		break;
	}
	return version_walk(c, ret_ip_v);
}
