/* checksum.h - is a segment's checksum what it should be (RFC 9293 3.1, RFC 1071, RFC 8200 8.1)? */
#pragma once
#include <stdbool.h>
#include <stdint.h>

struct segment;

/* Is the TCP checksum of @s wrong?
 * @s    from frame_decode(), its frame still there
 * @end  behind the last octet of the frame that was captured
 * False also where that cannot be known: the segment was not captured as a whole, is a fragment or
 * stands for several; IPv6 extension headers may hide the address that counts (RFC 8200 8.1, RFC
 * 6275 6.3); and where the field holds the sum of the pseudo-header alone, as a sender does that
 * leaves the rest to its device (Linux CHECKSUM_PARTIAL). */
bool checksum_wrong(const struct segment *s, const uint8_t *end);
