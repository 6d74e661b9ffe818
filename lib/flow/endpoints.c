#include "flow/endpoints.h"
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "flow/event.h"
#include "flow/key.h"
#include "wire/segment.h"

/* ---- text ------------------------------------------------------------------------------------ */

static unsigned address_bits(unsigned ip_v)
{
	return ip_v == 4 ? 32 : 128;
}

static void clear_host_bits(struct endpoint *e)
{
	for (unsigned bit = e->prefix; bit < sizeof e->addr * 8; bit++)
		e->addr[bit / 8] &= (uint8_t) ~(0x80 >> bit % 8);
}

/* A number of one to three digits, without more. */
static bool parse_prefix(const char *text, unsigned max, uint8_t *ret)
{
	size_t n = strspn(text, "0123456789");
	unsigned long v = strtoul(text, NULL, 10);

	*ret = (uint8_t)v;
	return n && n <= 3 && !text[n] && v <= max;
}

bool endpoint_parse(struct endpoint *ret, const char *text)
{
	char addr[INET6_ADDRSTRLEN];
	size_t n = strcspn(text, "/");

	ret->ip_v = memchr(text, ':', n) ? 6 : 4;
	ret->prefix = (uint8_t)address_bits(ret->ip_v);
	memset(ret->addr, 0, sizeof ret->addr);
	if (n >= sizeof addr)
		return false;
	memcpy(addr, text, n);
	addr[n] = '\0';
	if (inet_pton(ret->ip_v == 4 ? AF_INET : AF_INET6, addr, ret->addr) != 1 ||
	    (text[n] && !parse_prefix(text + n + 1, ret->prefix, &ret->prefix)))
		return false;
	clear_host_bits(ret);
	return true;
}

void endpoint_text(const struct endpoint *e, char ret[static ENDPOINT_TEXT_MAX])
{
	char addr[INET6_ADDRSTRLEN];

	if (!inet_ntop(e->ip_v == 4 ? AF_INET : AF_INET6, e->addr, addr, sizeof addr))
		addr[0] = '\0';
	if (e->prefix == address_bits(e->ip_v))
		snprintf(ret, ENDPOINT_TEXT_MAX, "%s", addr);
	else
		snprintf(ret, ENDPOINT_TEXT_MAX, "%s/%u", addr, e->prefix);
}

bool endpoint_equal(const struct endpoint *a, const struct endpoint *b)
{
	return a->ip_v == b->ip_v && a->prefix == b->prefix && a->has_port == b->has_port &&
	       a->port == b->port && !memcmp(a->addr, b->addr, sizeof a->addr);
}

/* ---- matching -------------------------------------------------------------------------------- */

static bool endpoint_is(const struct endpoint *e, unsigned ip_v, const uint8_t *addr, uint16_t port)
{
	unsigned octets = e->prefix / 8, bits = e->prefix % 8;

	if (e->has_port && e->port != port)
		return false;
	if (!e->ip_v)
		return true;
	return e->ip_v == ip_v && !memcmp(e->addr, addr, octets) &&
	       (!bits || (uint8_t)(e->addr[octets] ^ addr[octets]) >> (8 - bits) == 0);
}

static unsigned match(const struct endpoints *e, unsigned ip_v, const uint8_t *a, uint16_t a_port,
		      const uint8_t *b, uint16_t b_port)
{
	unsigned of = 0;

	for (unsigned left = e->used; left; left &= left - 1) {
		unsigned i = (unsigned)__builtin_ctz(left);

		if (endpoint_is(&e->at[i], ip_v, a, a_port) ||
		    endpoint_is(&e->at[i], ip_v, b, b_port))
			of |= 1u << i;
	}
	return of;
}

unsigned endpoints_of_segment(const struct endpoints *e, const struct segment *s)
{
	return match(e, s->ip_v, s->src, s->sport, s->dst, s->dport);
}

unsigned endpoints_of_event(const struct endpoints *e, const struct event *v)
{
	return match(e, v->ip_v, v->addr[0], v->port[0], v->addr[1], v->port[1]);
}

unsigned endpoints_of_key(const struct endpoints *e, const struct flow_key *k)
{
	uint8_t addr[2][16];
	uint16_t port[2];

	for (unsigned end = 0; end < 2; end++)
		flow_key_end(k, end, addr[end], &port[end]);
	return match(e, k->ip_v, addr[0], port[0], addr[1], port[1]);
}

/* ---- limits ---------------------------------------------------------------------------------- */

bool endpoint_meter_pass(struct endpoint_meter *m, unsigned of, uint64_t ts_ns, uint32_t rate)
{
	uint64_t second = ts_ns / 1000000000;
	bool pass = false;

	/* Late frames do not begin the second before again; a clock that was set back does. */
	if (second > m->second || second + 10 < m->second) {
		m->second = second;
		memset(m->n, 0, sizeof m->n);
	}
	for (unsigned left = of; left; left &= left - 1)
		pass |= m->n[__builtin_ctz(left)] < rate;
	for (unsigned left = of; left && pass; left &= left - 1)
		m->n[__builtin_ctz(left)]++;
	return pass;
}

void endpoint_meter_skip(struct endpoint_meter *m, unsigned of, enum endpoint_skip why)
{
	struct endpoint_skipped *s = m->skipped;

	while (s < m->skipped + m->skips && (s->of != of || s->why != why))
		s++;
	if (s == m->skipped + ENDPOINTS_MAX) { /* rather too much is reported than too little */
		s--;
		s->of |= (uint16_t)of;
	} else if (s == m->skipped + m->skips) {
		*s = (struct endpoint_skipped){ .of = (uint16_t)of, .why = (uint8_t)why };
		m->skips++;
	}
	s->count++;
}

void endpoint_meter_change(struct endpoint_meter *m, const struct endpoints *was,
			   const struct endpoints *now)
{
	unsigned same = was->used & now->used, kept = 0;

	for (unsigned i = 0; i < ENDPOINTS_MAX; i++) {
		if (same >> i & 1 && endpoint_equal(&was->at[i], &now->at[i]))
			continue;
		same &= ~(1u << i);
		m->n[i] = 0;
	}
	for (unsigned i = 0; i < m->skips; i++) {
		m->skipped[kept] = m->skipped[i];
		m->skipped[kept].of &= (uint16_t)same;
		kept += m->skipped[kept].of != 0;
	}
	m->skips = kept;
}
