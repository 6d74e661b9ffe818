/* pseudonym.h - addresses that name nobody, and still stand for the same hosts and networks.
 *
 * Prefix-preserving: two addresses of a family that share exactly their k first bits have
 * pseudonyms that share exactly their k first bits.  So each address has one pseudonym, no two have
 * the same, and a network is a network of the same size (Fan, Xu, Ammar, Moon: "Prefix-preserving
 * IP address anonymization", Computer Networks 46, 2004: bit i is turned over, or not, by a
 * pseudo-random function of the i bits before it).  IPv4 and IPv6 have nothing to do with each
 * other: what an IPv6 address embeds is no pseudonym of that IPv4 address.
 *
 * The function is SipHash-2-4 (Aumasson, Bernstein, 2012), whose 64 bits serve six levels of the
 * tree of prefixes at once; its authors' own choice of rounds, since these outputs are for others
 * to see and to keep.  Pure; O(bits / 6). */
#pragma once
#include <stdint.h>

struct event;

enum { PSEUDONYM_KEY_OCTETS = 32 };

struct pseudonym_key {
	uint64_t addresses[2], flows[2];
};

/* The key that 32 octets are, the same on every machine. */
struct pseudonym_key pseudonym_key_of(const uint8_t octets[static PSEUDONYM_KEY_OCTETS]);

/* The pseudonym of an address in its place.  @ip_v 4 (the first 4 octets) or 6; network order. */
void pseudonym_address(const struct pseudonym_key *k, unsigned ip_v, uint8_t addr[static 16]);

/* One for a flow_id, which follows from the addresses by a function that anybody can compute. */
uint64_t pseudonym_flow_id(const struct pseudonym_key *k, uint64_t flow_id);

/* Puts pseudonyms in the place of all in @e that tells an address.  A community_id that is computed
 * from @e afterwards is that of the pseudonyms. */
void pseudonym_event(const struct pseudonym_key *k, struct event *e);
