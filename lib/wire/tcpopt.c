#include "wire/tcpopt.h"

enum option_kind {
	OPT_END = 0,
	OPT_NOP = 1,
	OPT_MSS = 2,
	OPT_WSCALE = 3,
	OPT_SACK_PERMITTED = 4,
	OPT_TIMESTAMPS = 8,
	OPT_MPTCP = 30,
	OPT_TFO = 34,
	OPT_EXPERIMENT = 254,
};

enum { TFO_EXPERIMENT = 0xF989 };

/* @body: the option without kind and length. */
static void tcpopt_take(struct tcpopt *o, uint8_t kind, struct cursor body)
{
	size_t n = cursor_left(&body);

	switch (kind) {
	case OPT_MSS:
		if (n == 2)
			o->mss = cursor_be16(&body);
		break;
	case OPT_WSCALE:
		if (n == 1) {
			uint8_t shift = cursor_u8(&body);

			o->wscale = shift > TCPOPT_WSCALE_MAX ? TCPOPT_WSCALE_MAX : shift;
		}
		break;
	case OPT_SACK_PERMITTED:
		o->sack |= n == 0;
		break;
	case OPT_TIMESTAMPS:
		if (n == 8) {
			o->timestamps = true;
			o->tsval = cursor_be32(&body);
			o->tsecr = cursor_be32(&body);
		}
		break;
	case OPT_MPTCP:
		o->mptcp = true;
		break;
	case OPT_TFO:
		o->tfo = true;
		break;
	case OPT_EXPERIMENT:
		if (n >= 2 && cursor_be16(&body) == TFO_EXPERIMENT)
			o->tfo = true;
		break;
	default:
		break;
	}
}

struct tcpopt tcpopt_parse(struct span options)
{
	struct tcpopt o = { .wscale = TCPOPT_WSCALE_NONE };
	struct cursor c = cursor_of(options);

	/* Timestamps alone, after the handshake in nearly every segment: RFC 7323 appendix A. */
	if (options.n == 12 && be32_at(options.p) == 0x0101080a) {
		o.timestamps = true;
		o.tsval = be32_at(options.p + 4);
		o.tsecr = be32_at(options.p + 8);
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
		tcpopt_take(&o, kind, cursor_of((struct span){ body, len - 2u }));
	}
	return o;
}
