/* community.h - Community ID version 1: the same id for a connection in every tool.
 *
 * Source: community-id-spec (Corelight): SHA-1 of seed, ordered addresses, protocol and ordered
 * ports, in Base64.  Pure. */
#pragma once
#include <stdint.h>

enum { COMMUNITY_ID_CHARS = 30 }; /* "1:" and 28 characters */

/* Events that carry the id. */
enum community_policy {
	COMMUNITY_OPEN_CLOSE, /* tcp_open and tcp_close */
	COMMUNITY_ALL,
	COMMUNITY_OFF,
};

/* Writes the id of the TCP connection between two ends, terminated.
 * @ip_v  4 or 6; addresses in network order (IPv4: 4 octets), ports and seed in host order */
void community_id_of(char ret[static COMMUNITY_ID_CHARS + 1], unsigned ip_v, uint16_t seed,
		     const uint8_t *addr0, uint16_t port0, const uint8_t *addr1, uint16_t port1);
