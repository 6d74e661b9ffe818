#include "wire/tcpopt.h"

enum option_kind {
	OPT_END = 0,
	OPT_NOP = 1,
	OPT_MSS = 2,
	OPT_WSCALE = 3,
	OPT_SACK_PERMITTED = 4,
	OPT_SACK = 5,
	OPT_TIMESTAMPS = 8,
	OPT_MPTCP = 30,
	OPT_TFO = 34,
	OPT_EXPERIMENT = 254,
};

enum { TFO_EXPERIMENT = 0xF989, SACK_BLOCK = 8 };

static void timestamps_take(struct tcpopt *o, const uint8_t *body)
{
	o->timestamps = true;
	o->tsval = be32_at(body);
	o->tsecr = be32_at(body + 4);
}

/* @body: the @n octets of the option after kind and length. */
static void tcpopt_take(struct tcpopt *o, uint8_t kind, const uint8_t *body, size_t n)
{
	if (kind == OPT_MSS && n == 2)
		o->mss = be16_at(body);
	else if (kind == OPT_WSCALE && n == 1)
		o->wscale = *body > TCPOPT_WSCALE_MAX ? TCPOPT_WSCALE_MAX : *body;
	else if (kind == OPT_SACK_PERMITTED && n == 0)
		o->sack = true;
	else if (kind == OPT_TIMESTAMPS && n == 8)
		timestamps_take(o, body);
	else if (kind == OPT_MPTCP)
		o->mptcp = true;
	else if (kind == OPT_TFO ||
		 (kind == OPT_EXPERIMENT && n >= 2 && be16_at(body) == TFO_EXPERIMENT))
		o->tfo = true;
}

struct tcpopt tcpopt_parse(struct span options)
{
	struct tcpopt o = { .wscale = TCPOPT_WSCALE_NONE };
	struct cursor c = cursor_of(options);

	/* Timestamps alone, after the handshake in nearly every segment: RFC 7323 appendix A. */
	if (options.n == 12 && be32_at(options.p) == 0x0101080a) {
		timestamps_take(&o, options.p + 4);
		return o;
	}
	while (cursor_left(&c)) {
		uint8_t kind = cursor_u8(&c);

		if (kind == OPT_END)
			break;
		if (kind == OPT_NOP)
			continue;

		uint8_t len = cursor_u8(&c); /* counts kind and length too */
		const uint8_t *body = len >= 2 ? cursor_take(&c, len - 2u) : NULL;

		if (!body) {
			o.malformed = true;
			break;
		}
		tcpopt_take(&o, kind, body, len - 2u);
	}
	return o;
}

uint8_t tcpopt_sack_blocks(struct span options)
{
	struct cursor c = cursor_of(options);

	while (cursor_left(&c)) {
		uint8_t kind = cursor_u8(&c), len;

		if (kind == OPT_END)
			break;
		if (kind == OPT_NOP)
			continue;
		len = cursor_u8(&c);
		if (len < 2 || !cursor_take(&c, len - 2u))
			break;
		if (kind == OPT_SACK)
			return (uint8_t)((len - 2) / SACK_BLOCK);
	}
	return 0;
}
