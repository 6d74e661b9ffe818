/* checksum.h - verifies the TCP checksum (RFC 9293 3.1, RFC 1071, RFC 8200 8.1). */
#pragma once
#include <stdbool.h>
#include <stdint.h>

struct segment;

/* Is the TCP checksum of @s wrong?
 * @s    from frame_decode(), its frame still valid
 * @end  end of the captured octets of the frame
 * False if unknown: the segment is cut, a fragment or a super-frame; IPv6 extension headers may
 * hide the address that the checksum covers (RFC 8200 8.1, RFC 6275 6.3).  False as well if the
 * field holds the sum of the pseudo-header only: the sender's device completes it (Linux
 * CHECKSUM_PARTIAL). */
bool checksum_wrong(const struct segment *s, const uint8_t *end);
