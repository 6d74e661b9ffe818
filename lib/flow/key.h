/* key.h - the 4-tuple of a connection, the same for both directions.
 *
 * End 0 is the one that sorts first by (address octets, port).  Words are as read from memory, so
 * a key is good for hashing and comparing on one machine only, never for storing elsewhere. */
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

/* An id that follows from the 4-tuple (and interface), the start and the first sequence number
 * alone: the same in every run and on every machine, and another one for the next connection of
 * that 4-tuple. */
uint64_t flow_id_of(const struct flow_key *k, uint64_t start_ns, uint32_t isn);
