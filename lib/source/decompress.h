/* decompress.h - the octets of a file or pipe, unpacked if gzip, xz or zstd packed them.
 *
 * The first octets decide.  Several members one after the other (bgzip, `cat a.gz b.gz`) are one
 * stream.  Memory is bounded whatever the file asks for: 256 MiB (xz), 128 MiB (zstd). */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct decompress;

enum { DECOMPRESS_MAGIC = 4 }; /* octets that decide */

/* True if a file that begins with @magic is unpacked. */
bool decompress_knows(const uint8_t magic[static DECOMPRESS_MAGIC]);

/* Reads @fd from its offset; @fd is borrowed.  NULL: out of memory. */
struct decompress *decompress_new(int fd);

/* As read(): octets, 0 at the end, or -errno.  -EINTR: call again.  -EBADMSG: the packed data is
 * corrupt or ends too early, after everything before was returned; also on every later call. */
ssize_t decompress_read(struct decompress *d, uint8_t *buf, size_t n);

/* True if the file turned out to be packed.  False for NULL. */
bool decompress_packed(const struct decompress *d);

/* Octets of the file itself that were read and used so far. */
uint64_t decompress_offset(const struct decompress *d);

/* After -EBADMSG, one sentence without the file's name: "truncated: the gzip data ends at byte 42".
 * Borrowed from @d. */
const char *decompress_error(const struct decompress *d);

/* NULL is fine. */
void decompress_free(struct decompress *d);
