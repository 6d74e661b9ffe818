/* pcapfile.h - a source for pcap and pcapng files.
 *
 * Formats: draft-ietf-opsawg-pcap (magics for us and ns, the "modified" one with longer record
 * headers; either byte order), draft-ietf-opsawg-pcapng (sections of either byte order; Interface
 * Description, Enhanced, Simple and obsolete Packet, Interface Statistics; other blocks are
 * skipped).  It does not use libpcap, which hides interfaces and byte offsets, refuses a file whose
 * interfaces differ in link type, and copies each packet.
 *
 * A regular file is mapped, and frames are lent from the map.  Compared with pread() into a buffer
 * of the best size (1 MiB), with the file in the page cache, frames of 1514 octets take half the
 * time; frames of 66 octets take half if the cache holds large folios, else the same.  The price: a
 * file that is truncated while it is read ends as truncated at the next window of 4 MiB, but within
 * a window it ends the process with SIGBUS, which no check before the access can prevent.  A
 * pipe (`cat FILE |`) is safe.  A file that grows is read up to its size when opened.
 *
 * Anything else (pipe, FIFO, terminal, not mappable) is read through a buffer as large as the
 * largest record; untouched pages of it cost nothing.  source_next() lends what is complete.  It
 * blocks in read() only if nothing is, and returns -EINTR if a signal ends the wait (it can be
 * called again).  source_fd() is the descriptor to poll; 0 from source_next() is the end here, too.
 *
 * Frames of a mapped file (source_fd() is -1) stay valid until the source is freed.
 *
 * Frames: ts_ns is at most INT64_MAX, whatever the file says; len is at least caplen; no GSO and no
 * separate VLAN tag; `unverified`.  Simple Packets have no time and get that of the frame before.
 * Interfaces: those of pcapng, at most PCAPFILE_IFACES; interfaces of different sections with the
 * same name and link type are the same one.  A pcap file has one, without a name.  Statistics:
 * frames lent; drops by the last Interface Statistics Blocks of each section.
 *
 * From a broken file all frames before the break are lent.  Then source_next() returns -EBADMSG
 * (malformed, truncated, link type not supported) or -EIO, at each call. */
#pragma once
#include <stdint.h>
#include "source/source.h"

enum {
	PCAPFILE_IFACES = 255,		/* distinct interfaces in one file */
	PCAPFILE_NAME_MAX = 127,	/* octets kept of an interface's name */
	PCAPFILE_RECORD_MAX = 16 << 20, /* octets of one record or block; more is corrupt */
	PCAPFILE_ERROR_MAX = 200,
};

/* Opens @path; "-" is stdin, which stays open when the source is freed.  @reterr: one sentence
 * without the file's name.  0 or -errno: as open() and fstat(), -EISDIR, -ENOMEM, -EBADMSG.  The
 * header of a regular file is checked here, that of a pipe by the first source_next(), because that
 * may block. */
int pcapfile_open(const char *path, struct source **ret, char reterr[static PCAPFILE_ERROR_MAX]);

/* The error of source_next(), as one sentence without the file's name: "truncated at byte 1250: the
 * record header at 1218 says 96 octets, 16 are left".  Borrowed; "": no error. */
const char *pcapfile_error(const struct source *s);

/* Octets read so far, up to the first frame not lent yet. */
uint64_t pcapfile_offset(const struct source *s);

/* Octets of the whole file; 0: unknown, not a regular file. */
uint64_t pcapfile_size(const struct source *s);
