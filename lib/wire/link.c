#include "wire/link.h"
#include "base/cc.h"
#include "wire/decode.h"

enum {
	ETHERTYPE_MIN = 0x0600, /* smaller values are lengths: IEEE 802.3 3.2.6 */
	ETHERTYPE_V4 = 0x0800,
	ETHERTYPE_V6 = 0x86dd,
	ETHERTYPE_MPLS = 0x8847,
	ETHERTYPE_MPLS_UPSTREAM = 0x8848, /* or multicast: RFC 5332 2 */
	ETHERTYPE_PPPOE = 0x8864,
};
enum { PPP_V4 = 0x0021, PPP_V6 = 0x0057, PPP_MPLS = 0x0281 }; /* RFC 1332, 5072, 3032 4.2 */
enum { LLC_SNAP = 0xaaaa03 }; /* SAPs and UI: IEEE 802.2, RFC 1042 */

static bool ethertype_is_vlan(uint32_t type)
{
	return type == 0x8100 || type == 0x88a8 || type == 0x9100;
}

/* The version nibble identifies the protocol (for MPLS: RFC 4928 3). */
static enum frame_verdict version_decode(struct decode *d)
{
	if (d->c.bad || !cursor_left(&d->c))
		return FRAME_CUT;
	uint8_t v = *d->c.p >> 4;

	return v == 4 || v == 6 ? ip_follows(d, v) : FRAME_NOT_TCP;
}

/* RFC 3032 2.1: entries of 4 octets; bit S marks the last one. */
static enum frame_verdict mpls_decode(struct decode *d)
{
	for (unsigned n = 0; n < LINK_MAX_MPLS; n++) {
		uint32_t entry = cursor_be32(&d->c);

		if (d->c.bad)
			return FRAME_CUT;
		if (entry & 0x100)
			return version_decode(d);
	}
	return FRAME_TOO_DEEP;
}

static enum frame_verdict ppp_protocol_decode(uint32_t protocol, struct decode *d)
{
	if (d->c.bad)
		return FRAME_CUT;
	if (protocol == PPP_MPLS)
		return mpls_decode(d);
	if (protocol != PPP_V4 && protocol != PPP_V6)
		return FRAME_NOT_TCP;
	return ip_follows(d, protocol == PPP_V4 ? 4 : 6);
}

/* RFC 1661 2 and 6.5: a protocol whose first octet is odd has one octet.  RFC 1662 3.1: FF 03
 * stands before it unless the ends negotiated it away. */
static enum frame_verdict ppp_decode(struct decode *d)
{
	uint32_t protocol = cursor_u8(&d->c);

	if (protocol == 0xff && cursor_u8(&d->c) == 0x03)
		protocol = cursor_u8(&d->c);
	if (!(protocol & 1))
		protocol = protocol << 8 | cursor_u8(&d->c);
	return ppp_protocol_decode(protocol, d);
}

/* RFC 2516 4: version 1, type 1, code 0, session, length.  IPv4 and IPv6 only, like the kernel's
 * filter. */
static enum frame_verdict pppoe_decode(struct decode *d)
{
	uint32_t head = cursor_be32(&d->c);

	cursor_be16(&d->c);
	uint32_t protocol = cursor_be16(&d->c);

	if (d->c.bad)
		return FRAME_CUT;
	if (head >> 16 != 0x1100 || protocol == PPP_MPLS)
		return FRAME_NOT_TCP;
	return ppp_protocol_decode(protocol, d);
}

/* The EtherType after LLC and SNAP; 0: no SNAP header, or cut. */
static uint32_t snap_type(struct cursor *c)
{
	uint32_t head = cursor_be32(c), oui = cursor_be16(c), type = cursor_be16(c);

	return head >> 8 == LLC_SNAP && !(head & 0xff) && !oui ? type : 0;
}

enum frame_verdict ethertype_decode(uint32_t type, struct decode *d)
{
	for (unsigned tags = 0; ethertype_is_vlan(type); tags++) {
		if (tags == LINK_MAX_VLAN)
			return FRAME_TOO_DEEP;
		segment_add_vlan(d->s, cursor_be16(&d->c));
		type = cursor_be16(&d->c);
	}
	if (d->c.bad)
		return FRAME_CUT;
	if (type < ETHERTYPE_MIN) { /* SNAP, then IP only, like the kernel's filter */
		type = snap_type(&d->c);
		if (d->c.bad)
			return FRAME_CUT;
		if (type != ETHERTYPE_V4 && type != ETHERTYPE_V6)
			return FRAME_NOT_TCP;
	}
	switch (type) {
	case ETHERTYPE_V4:
		return ip_follows(d, 4);
	case ETHERTYPE_V6:
		return ip_follows(d, 6);
	case ETHERTYPE_MPLS:
	case ETHERTYPE_MPLS_UPSTREAM:
		return mpls_decode(d);
	case ETHERTYPE_PPPOE:
		return pppoe_decode(d);
	default:
		return FRAME_NOT_TCP;
	}
}

/* ---- IEEE 802.11 ---- */

enum { /* octets 0 and 1 of the frame control field: IEEE 802.11-2020 9.2.4.1 */
       FC_VERSION_AND_TYPE = 0x0f,
       FC_DATA = 0x08,
       FC_NO_DATA = 0x40,
       FC_QOS = 0x80,
       FC_TO_AND_FROM_DS = 0x03,
       FC_PROTECTED = 0x40,
       FC_HT_CONTROL = 0x80, /* with FC_QOS */
};
enum { QOS_AMSDU = 0x80 };

/* An unencrypted data frame with one MSDU, then LLC and SNAP.  @padded: the MAC header is padded to
 * a multiple of 4 octets. */
static enum frame_verdict ieee80211_decode(struct decode *d, bool padded)
{
	const uint8_t *header = d->c.p;
	uint8_t fc0 = cursor_u8(&d->c), fc1 = cursor_u8(&d->c);

	if (d->c.bad)
		return FRAME_CUT;
	if ((fc0 & FC_VERSION_AND_TYPE) != FC_DATA || fc0 & FC_NO_DATA || fc1 & FC_PROTECTED)
		return FRAME_NOT_TCP;
	cursor_take(&d->c, 2 + 3 * 6); /* duration, addresses */
	const uint8_t *sequence = cursor_take(&d->c, 2);

	if (sequence && sequence[0] & 0x0f)
		return FRAME_FRAGMENT;
	if ((fc1 & FC_TO_AND_FROM_DS) == FC_TO_AND_FROM_DS)
		cursor_take(&d->c, 6); /* fourth address */
	if (fc0 & FC_QOS) {
		const uint8_t *qos = cursor_take(&d->c, 2);

		if (qos && qos[0] & QOS_AMSDU)
			return FRAME_TOO_DEEP; /* several MSDUs; a frame yields one segment */
		if (fc1 & FC_HT_CONTROL)
			cursor_take(&d->c, 4);
	}
	if (padded)
		cursor_take(&d->c, (size_t)(header - d->c.p) & 3);
	uint32_t type = snap_type(&d->c);

	if (type < ETHERTYPE_MIN)
		return d->c.bad ? FRAME_CUT : FRAME_NOT_TCP;
	return ethertype_decode(type, d);
}

/* Radiotap (radiotap.org), little-endian: words of presence bits, where bit 31 announces another
 * word; then the fields in the order of their bits, each aligned to its size. */
enum { RT_TSFT = 1, RT_FLAGS = 2 };
enum { RT_FLAG_PADDED = 0x20 };

static enum frame_verdict radiotap_decode(struct decode *d)
{
	const uint8_t *h = cursor_take(&d->c, 8);

	if (!h)
		return FRAME_CUT;
	uint32_t len = le16_at(h + 2), present = le32_at(h + 4), at = 8;

	if (h[0] || len < at)
		return FRAME_BAD;
	if (!cursor_take(&d->c, len - at))
		return FRAME_CUT;
	for (uint32_t more = present; more >> 31; at += 4) {
		if (at + 4 > len)
			return FRAME_BAD;
		more = le32_at(h + at);
	}
	if (present & RT_TSFT)
		at = ((at + 7) & ~7u) + 8;
	return ieee80211_decode(d, present & RT_FLAGS && at < len && h[at] & RT_FLAG_PADDED);
}

enum frame_verdict link_decode(enum link_type link, struct decode *d)
{
	uint32_t type;

	switch (link) {
	case LINK_ETHERNET:
	case LINK_SLL:
		cursor_take(&d->c, link == LINK_ETHERNET ? 12 : 14);
		return ethertype_decode(cursor_be16(&d->c), d);
	case LINK_SLL2:
		type = cursor_be16(&d->c);
		cursor_take(&d->c, 18);
		return ethertype_decode(type, d);
	case LINK_NULL:
		cursor_take(&d->c, 4);
		break;
	case LINK_PPP:
		return ppp_decode(d);
	case LINK_PPPOE:
		return pppoe_decode(d);
	case LINK_RADIOTAP:
		return radiotap_decode(d);
	case LINK_80211:
		return ieee80211_decode(d, false);
	case LINK_RAW_IP:
	case LINK_TYPES:
		break;
	}
	return version_decode(d);
}
