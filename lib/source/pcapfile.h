/* pcapfile.h - frames from pcap and pcapng files, by the contract of source.h.
 *
 * Formats: draft-ietf-opsawg-pcap (magics for us and ns, the "modified" one with longer record
 * headers; either byte order), draft-ietf-opsawg-pcapng (sections of either byte order; Interface
 * Description, Enhanced, Simple and obsolete Packet, Interface Statistics; other blocks are
 * skipped).  Not by libpcap: it hides interfaces and byte offsets, refuses a file whose
 * interfaces differ in link type, and copies each packet.
 *
 * A regular file is mapped and frames are lent straight from the map.  Measured against pread()
 * into a buffer of the best size (1 MiB), file in the page cache: frames of 66 octets take half the
 * time if the cache holds large folios and the same if it does not, frames of 1514 octets take
 * half.  The price: a file that someone truncates between one window of 4 MiB and the next ends as
 * truncated, but in the middle of one it ends the process with SIGBUS, and no check ahead of the
 * access can rule that out.  `cat FILE |` reads such a file safely.  A file that grows is read up
 * to the size it had when it was opened.
 *
 * Anything else (a pipe, a FIFO, a terminal, what cannot be mapped) goes through a buffer as large
 * as the largest record, of which only what is needed is ever touched.  source_next() then hands
 * out what is complete; it waits in read() only if that is nothing, and returns -EINTR if a signal
 * ends the wait (call it again, or not).  source_fd() is the descriptor, for who would rather poll
 * it; 0 from source_next() is the end here too.
 *
 * Frames of a mapped file (source_fd() is -1) stay where they are until the source is freed, longer
 * than source.h promises.
 *
 * Frames: ts_ns is at most INT64_MAX, whatever the file says; len is at least caplen; no GSO, no
 * VLAN beside the frame; `unverified`.  Simple Packets have no time and get that of the frame
 * before. Interfaces: those of pcapng, where a later section's interface of the same name and link
 * type is the same one; at most PCAPFILE_IFACES.  A pcap file has one, without a name. Statistics:
 * frames handed out; drops as the last Interface Statistics Blocks of each section say.
 *
 * A broken file hands out all frames before the break, then source_next() returns -EBADMSG
 * (malformed, truncated, a link type that is not supported) or -EIO, and stays there. */
#pragma once
#include <stdint.h>
#include "source/source.h"

enum {
	PCAPFILE_IFACES = 255,		/* distinct interfaces in one file */
	PCAPFILE_NAME_MAX = 127,	/* octets kept of an interface's name */
	PCAPFILE_RECORD_MAX = 16 << 20, /* octets of one record or block; more is corrupt */
	PCAPFILE_ERROR_MAX = 200,
};

/* Opens @path; "-" is stdin, which stays open when the source is freed.
 * @ret	    owned by the caller, who frees it with source_free()
 * @reterr  one sentence without the file's name
 * Returns 0 or -errno: as open() and fstat(), -EISDIR, -ENOMEM, -EBADMSG.  The header of a regular
 * file is checked here; that of a pipe by the first source_next(), since it may have to wait. */
int pcapfile_open(const char *path, struct source **ret, char reterr[static PCAPFILE_ERROR_MAX]);

/* What is wrong, as one sentence without the file's name, once source_next() returned an error:
 * "truncated at byte 1250: the record header at 1218 says 96 octets, 16 are left".  Borrowed from
 * the source; "" if nothing is wrong. */
const char *pcapfile_error(const struct source *s);

/* Octets read so far, up to the first frame not yet handed out. */
uint64_t pcapfile_offset(const struct source *s);

/* Octets of the whole file; 0: unknown, it is not a regular one. */
uint64_t pcapfile_size(const struct source *s);
