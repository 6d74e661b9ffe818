/* sha1.h - SHA-1 (FIPS 180-4) of a message that fits in one block.
 *
 * Uses the SHA instructions of x86 if the processor has them, else libmd, which needs 1.8 times as
 * long for a Community ID.  Pure. */
#pragma once
#include <stddef.h>
#include <stdint.h>

enum { SHA1_BLOCK = 64, SHA1_ONE_BLOCK_MAX = SHA1_BLOCK - 9, SHA1_OCTETS = 20 };

/* The digest of the first @n octets of @block, at most SHA1_ONE_BLOCK_MAX.  Overwrites the rest of
 * @block with the padding. */
void sha1_one_block(uint8_t block[static SHA1_BLOCK], size_t n, uint8_t ret[static SHA1_OCTETS]);
