/* key.h - the 4-tuple of a connection, the same for both directions.
 *
 * End 0 sorts first by (address octets, port).  Words are in the machine's byte order: a key is for
 * hashing and comparing on one machine, not for files. */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include "base/hash.h"

struct segment;

struct flow_key {
	/* IPv4: w[0] addresses, w[1] rest; IPv6: w[0..3] addresses, w[4] rest; the rest is the
	 * interface in bits 32-47 (the same 4-tuple on two of them is two connections), ports
	 * of end 0 and end 1 in 16 bits each */
	uint64_t w[5];
	uint8_t ip_v; /* 4 or 6 */
	bool self;    /* both ends are the same address and port */
};

/* The key of @s.  Returns which end sent it: 0 or 1. */
unsigned flow_key_of(const struct segment *s, struct flow_key *ret);

/* Hash for tables, under the run's secret key. */
static inline uint64_t flow_key_hash(const struct flow_key *k, const struct hash_key *secret)
{
	return k->ip_v == 4 ? hash_quick(secret, k->w, 2) : hash_quick(secret, k->w, 5);
}

/* Address (network order, 16 octets, IPv4 in the first 4) and port of end @end. */
void flow_key_end(const struct flow_key *k, unsigned end, uint8_t ret_addr[static 16],
		  uint16_t *ret_port);

/* The flow id: a hash of the 4-tuple (and interface), the start and the first sequence number.  The
 * same in every run and on every machine; another one for the next connection of that 4-tuple. */
uint64_t flow_id_of(const struct flow_key *k, uint64_t start_ns, uint32_t isn);

/* The server of a key: its address (two words), port and interface. */
struct flow_server {
	uint64_t w[4];
	uint8_t ip_v;
	uint16_t hash; /* below FLOW_SERVERS; the same in every run */
};

enum { FLOW_SERVERS = 4096 }; /* a power of two */

/* The server of @k, whose client is end @client_end. */
static inline struct flow_server flow_server_of(const struct flow_key *k, unsigned client_end)
{
	static const struct hash_key fixed = {
		{ 0x73796e66696e6421, 0x666c6f6f64732121, 0x736572766572733f, 0x243f6a8885a308d3,
		  0x13198a2e03707344, 0xa4093822299f31d0, 0x082efa98ec4e6c89, 0x452821e638d01377 }
	};
	struct flow_server s = { .ip_v = k->ip_v };
	uint64_t rest = k->w[k->ip_v == 4 ? 1 : 4];

	if (k->ip_v == 4) {
		s.w[0] = (uint32_t)(client_end ? k->w[0] >> 32 : k->w[0]);
	} else {
		s.w[0] = k->w[client_end ? 0 : 2];
		s.w[1] = k->w[client_end ? 1 : 3];
	}
	s.w[2] = rest >> (client_end ? 16 : 0) & 0xffff;
	s.w[3] = rest >> 32;
	s.hash = (uint16_t)((hash_quick(&fixed, s.w, 4) >> 32) * FLOW_SERVERS >> 32);
	return s;
}
