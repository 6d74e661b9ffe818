/* pcapfile.h - frames from pcap and pcapng files, packed or not, a source (source.h).
 *
 * Formats: draft-ietf-opsawg-pcap (magics for us and ns, the "modified" one with longer record
 * headers; either byte order), draft-ietf-opsawg-pcapng (sections of either byte order; Interface
 * Description, Enhanced, Simple and obsolete Packet, Interface Statistics; other blocks are
 * skipped).  It does not use libpcap, which hides interfaces and byte offsets, refuses a file whose
 * interfaces have different link types, and copies each packet.
 *
 * A regular file is mapped, and frames point into the map.  Measured against pread() into the best
 * buffer (1 MiB), file in the page cache: frames of 1514 octets take half the time; frames of 66
 * octets take half the time if the cache has large folios, else the same.  The price: a file that
 * is truncated during the read ends as truncated, or, within one window of 4 MiB, ends the process
 * with SIGBUS.  `cat FILE |` reads such a file safely.  A growing file is read up to its size at
 * the time of pcapfile_open().
 *
 * Everything else (pipe, FIFO, terminal, packed or unmappable file) is read through decompress.h
 * into a buffer as large as the largest record; unused pages of it are never touched.
 * source_next() returns the complete frames in the buffer.  Only if there are none it blocks in
 * read(), and returns -EINTR if a signal interrupts that; it may be called again.  source_fd() is
 * the descriptor, to poll before the call; 0 from source_next() is the end of the file here too.
 *
 * Frames of a mapped file are valid until the source is freed or goes to the next file, longer than
 * source.h promises.
 *
 * Frames: ts_ns is at most INT64_MAX, whatever the file says; len is at least caplen; no GSO, no
 * VLAN metadata; `unverified` is set.  Simple Packets have no timestamp and get that of the frame
 * before.  Interfaces: those of pcapng; the same name and link type in a later section or file is
 * the same interface; at most PCAPFILE_IFACES.  A pcap file has one interface without a name.
 * Statistics: frames returned; drops from the Interface Statistics Blocks of each section.
 *
 * A broken file yields all frames before the break.  Then source_next() returns -EBADMSG
 * (malformed, truncated, unsupported link type) or -EIO, now and on every later call.  Offsets in
 * errors are those of the unpacked file. */
#pragma once
#include <stdint.h>
#include "source/source.h"

enum {
	PCAPFILE_IFACES = 255,		/* distinct interfaces in one file */
	PCAPFILE_NAME_MAX = 127,	/* octets of an interface's name; the rest is cut */
	PCAPFILE_RECORD_MAX = 16 << 20, /* octets of one record or block; more is corrupt */
	PCAPFILE_ERROR_MAX = 200,
};

/* Opens @path; "-" is stdin, which stays open when the source is freed.
 * @ret     owned by the caller: source_free()
 * @reterr  one sentence without the file's name
 * Returns 0 or -errno: as open() and fstat(), -EISDIR, -ENOMEM, -EBADMSG.  Checks the header of a
 * regular file; that of a pipe is checked by the first source_next(), because it may block. */
int pcapfile_open(const char *path, struct source **ret, char reterr[static PCAPFILE_ERROR_MAX]);

/* Goes on with another file, after any end of the one before.  The frames lent are invalid then;
 * interfaces and statistics are continued.  Returns as pcapfile_open(); on failure another file can
 * follow. */
int pcapfile_next_file(struct source *s, const char *path, char reterr[static PCAPFILE_ERROR_MAX]);

/* The error of source_next() as one sentence without the file's name: "truncated at byte 1250: the
 * record header at 1218 says 96 octets, 16 are left".  Borrowed from the source; "" without an
 * error. */
const char *pcapfile_error(const struct source *s);

/* Octets of this file read so far, up to the first frame not yet returned; of a packed file, those
 * unpacked. */
uint64_t pcapfile_offset(const struct source *s);

/* Octets of this file; 0: not a regular file. */
uint64_t pcapfile_size(const struct source *s);
