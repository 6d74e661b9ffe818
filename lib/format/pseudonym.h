/* pseudonym.h - replaces addresses with pseudonyms that keep hosts and networks distinct.
 *
 * Prefix-preserving: two addresses of one family that share exactly their first k bits have
 * pseudonyms that share exactly their first k bits.  So the mapping is one-to-one, and the hosts of
 * a network stay in one network of the same size (Fan, Xu, Ammar, Moon: "Prefix-preserving IP
 * address anonymization", Computer Networks 46, 2004: a pseudo-random function of the bits before
 * bit i decides whether to flip bit i).  IPv4 and IPv6 are independent: an IPv4 address embedded in
 * an IPv6 address does not become the pseudonym of the IPv4 address.
 *
 * The function is SipHash-2-4 (Aumasson, Bernstein, 2012), one hash for six levels of the tree of
 * prefixes.  The output is public, so it keeps the authors' own number of rounds.  Pure.
 * O(bits / 6). */
#pragma once
#include <stdint.h>

struct event;

enum { PSEUDONYM_KEY_OCTETS = 32 };

struct pseudonym_key {
	uint64_t addresses[2], flows[2];
};

/* The key in 32 octets, the same on every machine. */
struct pseudonym_key pseudonym_key_of(const uint8_t octets[static PSEUDONYM_KEY_OCTETS]);

/* Replaces an address in network order.  @ip_v: 4 (the first 4 octets) or 6. */
void pseudonym_address(const struct pseudonym_key *k, unsigned ip_v, uint8_t addr[static 16]);

/* The pseudonym of a flow_id, which is a public function of the addresses. */
uint64_t pseudonym_flow_id(const struct pseudonym_key *k, uint64_t flow_id);

/* Replaces everything in @e that reveals an address.  Afterwards @e yields the community_id of the
 * pseudonyms. */
void pseudonym_event(const struct pseudonym_key *k, struct event *e);
