#include "source/pcapfile.h"
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include "base/bytes.h"
#include "base/cc.h"

enum { PCAP_HEADER = 24, RECORD_HEADER = 16, RECORD_HEADER_MODIFIED = 24 };
enum { NS_PER_S = 1000000000 };
/* Holds the largest record at any offset; untouched pages cost nothing.  One read() should fit the
 * CPU's cache until it is decoded. */
enum { BUFFER_OCTETS = PCAPFILE_RECORD_MAX + RECORD_HEADER_MODIFIED, READ_OCTETS = 1 << 20 };
/* The part of the map populated at once; a multiple of every page size. */
enum { WINDOW = 4 << 20 };

/* Block types (draft-ietf-opsawg-pcapng section 11.1) and options. */
enum {
	NG_SECTION = 0x0a0d0d0a,
	NG_IFACE = 1,
	NG_PACKET = 2,
	NG_SIMPLE = 3,
	NG_STATS = 5,
	NG_ENHANCED = 6
};
enum { NG_BYTE_ORDER = 0x1a2b3c4d };
enum {
	OPT_END = 0,
	OPT_IF_NAME = 2,
	OPT_IF_TSRESOL = 9,
	OPT_IF_TSOFFSET = 14,
	OPT_ISB_IFDROP = 5,
	OPT_ISB_OSDROP = 7
};
enum { BLOCK_HEADER = 8, BLOCK_TRAILER = 4 };

struct iface {
	char name[PCAPFILE_NAME_MAX + 1];
	uint16_t dlt;	  /* the file's number of the link type */
	uint8_t link;	  /* enum link_type; LINK_TYPES: not supported */
	uint32_t section; /* the last one that described it */
	uint32_t snaplen; /* 0: none */
	/* Unit of its times: the first of the three members that is not 0. */
	uint64_t ts_mult, ts_div; /* ns = t * ts_mult, t / ts_div */
	uint8_t ts_shift;	  /* ns = t * 10^9 / 2^ts_shift */
	int64_t ts_offset;	  /* s, added */
	uint64_t ts_plain;	  /* for lower times ns = t * ts_mult */
	uint64_t ifdrop, osdrop;  /* of this section, last report */
};

enum format { FORMAT_UNKNOWN, FORMAT_PCAP, FORMAT_PCAPNG };

struct pcapfile {
	struct source source;
	const uint8_t *p, *end; /* available and not lent yet */
	enum format format;
	bool swap; /* the file's (section's) integers are in the other byte order */
	bool eof;  /* read() returned 0 */
	/* pcap */
	uint32_t record_header;
	uint32_t frac_ns; /* unit of the fraction of a second */
	/* pcapng */
	uint64_t last_ts_ns;
	uint64_t drops_before; /* in sections before this one */
	uint32_t section;
	unsigned section_ifaces;
	uint8_t iface_of[PCAPFILE_IFACES]; /* section's interface id -> index */

	uint64_t frames;
	const uint8_t *base;  /* start of the map or buffer */
	uint64_t base_offset; /* its offset in the file */
	int fd;
	bool owns_fd;
	size_t map_size; /* 0: not mapped, see buffer */
	uint8_t *buffer;
	size_t file_size; /* mapped octets that still exist */

	/* Of PARSED_SHORT: `what` at p takes `need` octets, as its first `lead` octets say. */
	struct {
		const char *what;
		size_t lead, need;
	} wants;
	int failed; /* -errno, sticky */
	char error[PCAPFILE_ERROR_MAX];
	unsigned nifaces;
	struct iface ifaces[PCAPFILE_IFACES];
};

/* Result of one parsing step. */
enum parsed {
	PARSED_FRAME, /* *ret is a frame */
	PARSED_OTHER, /* something without a frame was skipped */
	PARSED_SHORT, /* more octets are needed (`wants`) */
	PARSED_BAD,   /* the file is broken (`failed`, `error`) */
};

static struct pcapfile *pcapfile_of(struct source *s)
{
	return (struct pcapfile *)s;
}

static uint16_t u16_at(const struct pcapfile *f, const uint8_t *p)
{
	uint16_t v;

	memcpy(&v, p, sizeof v);
	return f->swap ? __builtin_bswap16(v) : v;
}

static uint32_t u32_at(const struct pcapfile *f, const uint8_t *p)
{
	uint32_t v;

	memcpy(&v, p, sizeof v);
	return f->swap ? __builtin_bswap32(v) : v;
}

static uint64_t u64_at(const struct pcapfile *f, const uint8_t *p)
{
	uint64_t v;

	memcpy(&v, p, sizeof v);
	return f->swap ? __builtin_bswap64(v) : v;
}

static uint64_t offset_of(const struct pcapfile *f, const uint8_t *p)
{
	return f->base_offset + (uint64_t)(p - f->base);
}

/* Fails the source for good. */
__attribute__((format(printf, 3, 4))) static enum parsed pcapfile_fail(struct pcapfile *f, int err,
								       const char *fmt, ...)
{
	va_list ap;

	f->failed = err;
	va_start(ap, fmt);
	vsnprintf(f->error, sizeof f->error, fmt, ap);
	va_end(ap);
	/* The text may contain an interface name from the file: no control characters. */
	for (char *c = f->error; *c; c++)
		if ((unsigned char)*c < ' ' || *c == 0x7f)
			*c = '?';
	return PARSED_BAD;
}

#define corrupt(f, at, fmt, ...)                                                                   \
	pcapfile_fail((f), -EBADMSG, "corrupt at byte %llu: " fmt,                                 \
		      (unsigned long long)offset_of((f), (at)), ##__VA_ARGS__)

static enum parsed fall_short(struct pcapfile *f, const char *what, size_t lead, size_t need)
{
	f->wants.what = what;
	f->wants.lead = lead;
	f->wants.need = need;
	return PARSED_SHORT;
}

/* Numbers: draft-ietf-opsawg-pcaplinktype.  LINK_TYPES: not supported. */
static enum link_type link_of(uint32_t dlt)
{
	switch (dlt) {
	case 1:
		return LINK_ETHERNET;
	case 12: /* the system's own number of DLT_RAW, written by old tools */
	case 14: /* ... on OpenBSD */
	case 101:
	case 228: /* IPv4 */
	case 229: /* IPv6 */
		return LINK_RAW_IP;
	case 0:
	case 108:
		return LINK_NULL;
	case 113:
		return LINK_SLL;
	case 276:
		return LINK_SLL2;
	case 9:
	case 50:
		return LINK_PPP;
	case 51:
		return LINK_PPPOE;
	case 105:
		return LINK_80211;
	case 127:
		return LINK_RADIOTAP;
	default:
		return LINK_TYPES;
	}
}

/* --- pcap --- */

/* Only a record's length shows where the next one is, so parsing waits for memory at each record.
 * Records tend to have similar lengths, so this guess is good. */
static void prefetch_ahead(const uint8_t *p, size_t record, size_t left)
{
	size_t ahead = 4 * record;

	if (likely(ahead + 64 < left)) {
		__builtin_prefetch(p + ahead);
		__builtin_prefetch(p + ahead + 64);
	}
}

static enum parsed pcap_parse_header(struct pcapfile *f, uint32_t magic)
{
	static const struct {
		uint32_t magic, frac_ns, record_header;
	} kinds[] = {
		{ 0xa1b2c3d4, 1000, RECORD_HEADER },
		{ 0xa1b23c4d, 1, RECORD_HEADER },
		{ 0xa1b2cd34, 1000, RECORD_HEADER_MODIFIED }, /* A. Kuznetsov's patch to libpcap */
	};
	const uint8_t *p = f->p;
	unsigned kind = 0;

	for (; kind < ARRAY_SIZE(kinds); kind++) {
		f->swap = magic == __builtin_bswap32(kinds[kind].magic);
		if (f->swap || magic == kinds[kind].magic)
			break;
	}
	if (kind == ARRAY_SIZE(kinds))
		return pcapfile_fail(f, -EBADMSG,
				     "not a pcap or pcapng file: starts with %02x %02x %02x %02x",
				     p[0], p[1], p[2], p[3]);
	if (f->end - p < PCAP_HEADER)
		return fall_short(f, "file header", 0, PCAP_HEADER);

	unsigned major = u16_at(f, p + 4), minor = u16_at(f, p + 6);
	/* The upper bits hold the length of the FCS. */
	uint32_t dlt = u32_at(f, p + 20) & 0x03ffffff;
	enum link_type link = link_of(dlt);

	if (major != 2 || minor != 4)
		return pcapfile_fail(f, -EBADMSG,
				     "pcap version %u.%u is not supported, only 2.4 is", major,
				     minor);
	if (link == LINK_TYPES)
		return pcapfile_fail(f, -EBADMSG, "link type %u is not supported", dlt);
	f->format = FORMAT_PCAP;
	f->frac_ns = kinds[kind].frac_ns;
	f->record_header = kinds[kind].record_header;
	f->ifaces[0] = (struct iface){ .dlt = (uint16_t)dlt, .link = (uint8_t)link };
	f->nifaces = 1;
	f->p += PCAP_HEADER;
	return PARSED_OTHER;
}

/* 32 + 32 bits: (2^32 - 1) * (10^9 + 10^3) is below 2^63. */
static inline uint64_t pcap_time(uint32_t s, uint32_t frac, uint32_t frac_ns)
{
	return (uint64_t)s * NS_PER_S + (uint64_t)frac * frac_ns;
}

/* Parses complete records until one is incomplete or wrong, or @max is reached. */
static __always_inline unsigned pcap_parse_run(struct pcapfile *f, bool swap, struct frame *ret,
					       unsigned max)
{
	const uint8_t *p = f->p, *end = f->end;
	const size_t header = f->record_header;
	const uint32_t frac_ns = f->frac_ns;
	const uint8_t link = f->ifaces[0].link;
	unsigned n = 0;

	for (; n < max && (size_t)(end - p) >= header; n++) {
		size_t left = (size_t)(end - p);
		uint32_t r[4]; /* s, fraction, caplen, len */

		memcpy(r, p, sizeof r);
		for (unsigned i = 0; swap && i < ARRAY_SIZE(r); i++)
			r[i] = __builtin_bswap32(r[i]);
		if (unlikely(r[2] > left - header || r[2] > PCAPFILE_RECORD_MAX))
			break;
		prefetch_ahead(p, header + r[2], left);
		ret[n] = (struct frame){ .data = p + header,
					 .caplen = r[2],
					 .len = r[3] < r[2] ? r[2] : r[3],
					 .ts_ns = pcap_time(r[0], r[1], frac_ns),
					 .link = link,
					 .unverified = true };
		p += header + r[2];
	}
	f->p = p;
	return n;
}

/* Why pcap_parse_run() stopped. */
static enum parsed pcap_parse(struct pcapfile *f)
{
	size_t header = f->record_header;
	uint32_t caplen;

	if ((size_t)(f->end - f->p) < header)
		return fall_short(f, "record header", 0, header);
	caplen = u32_at(f, f->p + 8);
	if (caplen > PCAPFILE_RECORD_MAX)
		return corrupt(f, f->p, "a record claims %u octets, more than %d", caplen,
			       PCAPFILE_RECORD_MAX);
	return fall_short(f, "record header", header, header + caplen);
}

/* --- pcapng --- */

struct option {
	uint16_t code, len;
	const uint8_t *value;
};

/* Removes the next option from @rest.  False: none is left; rest->n is not 0 if a length is
 * wrong. */
static bool option_parse(const struct pcapfile *f, struct span *rest, struct option *ret)
{
	if (rest->n < 4)
		return false;

	struct option o = { u16_at(f, rest->p), u16_at(f, rest->p + 2), rest->p + 4 };
	size_t padded = 4 + ((o.len + 3u) & ~3u);

	if (o.code == OPT_END)
		rest->n = 0;
	if (o.code == OPT_END || padded > rest->n)
		return false;
	rest->p += padded;
	rest->n -= padded;
	*ret = o;
	return true;
}

static uint64_t power10(unsigned n)
{
	uint64_t v = 1;

	while (n--)
		v *= 10;
	return v;
}

/* @resol: bit 7: power of 2, else of 10; the rest is the negative exponent. */
static void set_resolution(struct iface *i, uint8_t resol)
{
	unsigned n = resol & 0x7f;

	i->ts_mult = i->ts_div = 0;
	if (resol & 0x80)
		i->ts_shift = (uint8_t)n;
	else if (n <= 9)
		i->ts_mult = power10(9 - n);
	else /* 10^19 is the largest that fits 64 bits; finer units cannot count to one ns */
		i->ts_div = n - 9 > 19 ? UINT64_MAX : power10(n - 9);
}

static uint64_t time_ns(const struct iface *i, uint64_t t)
{
	__int128 ns; /* 2^64 * 10^9 + 2^63 * 10^9 fits */

	/* The usual units, 10^-6 and 10^-9: 128 bits cost as much as the rest of parsing. */
	if (likely(t < i->ts_plain))
		return t * i->ts_mult;
	if (i->ts_mult)
		ns = (__int128)t * i->ts_mult;
	else if (i->ts_div)
		ns = t / i->ts_div;
	else
		ns = (__int128)t * NS_PER_S >> i->ts_shift;
	ns += (__int128)i->ts_offset * NS_PER_S;
	return ns < 0 ? 0 : ns > INT64_MAX ? INT64_MAX : (uint64_t)ns;
}

static uint64_t section_drops(const struct pcapfile *f)
{
	uint64_t n = 0;

	for (unsigned i = 0; i < f->nifaces; i++)
		n += f->ifaces[i].ifdrop + f->ifaces[i].osdrop;
	return n;
}

/* The parse_*() functions get a complete block of @len octets at @b, with header and trailer. */
static enum parsed parse_section(struct pcapfile *f, const uint8_t *b, uint32_t len)
{
	if (len < 28)
		return corrupt(f, b, "a section header of %u octets", len);

	unsigned major = u16_at(f, b + 12), minor = u16_at(f, b + 14);

	if (major != 1)
		return pcapfile_fail(f, -EBADMSG,
				     "pcapng version %u.%u is not supported, only 1.x is", major,
				     minor);
	f->drops_before += section_drops(f);
	for (unsigned i = 0; i < f->nifaces; i++)
		f->ifaces[i].ifdrop = f->ifaces[i].osdrop = 0;
	f->section++;
	f->section_ifaces = 0;
	return PARSED_OTHER;
}

/* The index of @like: that of an equal interface of an earlier section, or a new one; -1: too many.
 * Two interfaces of one section are never the same: they may have no names. */
static int iface_index(const struct pcapfile *f, const struct iface *like)
{
	for (unsigned i = 0; i < f->nifaces; i++) {
		const struct iface *have = &f->ifaces[i];

		if (have->section != like->section && have->dlt == like->dlt &&
		    !strcmp(have->name, like->name))
			return (int)i;
	}
	return f->nifaces < PCAPFILE_IFACES ? (int)f->nifaces : -1;
}

static enum parsed parse_iface(struct pcapfile *f, const uint8_t *b, uint32_t len)
{
	if (len < 20)
		return corrupt(f, b, "an interface description of %u octets", len);

	struct iface i = { .dlt = u16_at(f, b + 8),
			   .link = (uint8_t)link_of(u16_at(f, b + 8)),
			   .section = f->section,
			   .snaplen = u32_at(f, b + 12),
			   .ts_mult = 1000 }; /* us, unless if_tsresol says otherwise */
	struct span rest = { b + 16, len - 16 - BLOCK_TRAILER };
	struct option o;

	while (option_parse(f, &rest, &o)) {
		if (o.code == OPT_IF_NAME) {
			size_t n = o.len < PCAPFILE_NAME_MAX ? o.len : PCAPFILE_NAME_MAX;

			memcpy(i.name, o.value, n);
			i.name[n] = 0;
		} else if (o.code == OPT_IF_TSRESOL && o.len == 1) {
			set_resolution(&i, o.value[0]);
		} else if (o.code == OPT_IF_TSOFFSET && o.len == 8) {
			i.ts_offset = (int64_t)u64_at(f, o.value);
		} else if (o.code == OPT_IF_TSRESOL || o.code == OPT_IF_TSOFFSET) {
			return corrupt(f, b, "option %u of an interface has %u octets", o.code,
				       o.len);
		}
	}
	if (rest.n)
		return corrupt(f, b, "an option of an interface goes beyond its block");

	if (i.ts_mult && !i.ts_offset)
		i.ts_plain = INT64_MAX / i.ts_mult;

	int index = iface_index(f, &i);

	if (index < 0)
		return corrupt(f, b, "more than %d interfaces", PCAPFILE_IFACES);
	f->ifaces[index] = i;
	if ((unsigned)index == f->nifaces)
		f->nifaces++;
	f->iface_of[f->section_ifaces++] = (uint8_t)index;
	return PARSED_OTHER;
}

/* Interface @id of the section, which block @b refers to; NULL: unknown, and the source has
 * failed. */
static struct iface *iface_get(struct pcapfile *f, const uint8_t *b, uint32_t id)
{
	if (likely(id < f->section_ifaces))
		return &f->ifaces[f->iface_of[id]];
	corrupt(f, b, "a block refers to interface %u, its section has %u so far", id,
		f->section_ifaces);
	return NULL;
}

static enum parsed parse_stats(struct pcapfile *f, const uint8_t *b, uint32_t len)
{
	if (len < 24)
		return corrupt(f, b, "interface statistics of %u octets", len);

	struct iface *i = iface_get(f, b, u32_at(f, b + 8));
	struct span rest = { b + 20, len - 20 - BLOCK_TRAILER };
	struct option o;

	if (!i)
		return PARSED_BAD;
	while (option_parse(f, &rest, &o)) {
		if (o.code == OPT_ISB_IFDROP && o.len == 8)
			i->ifdrop = u64_at(f, o.value);
		else if (o.code == OPT_ISB_OSDROP && o.len == 8)
			i->osdrop = u64_at(f, o.value);
	}
	if (rest.n)
		return corrupt(f, b, "an option of interface statistics goes beyond its block");
	return PARSED_OTHER;
}

/* A frame of @i: @data must fit the @space that block @b has for it. */
static inline enum parsed give_frame(struct pcapfile *f, const uint8_t *b, const struct iface *i,
				     struct span data, size_t space, uint32_t len,
				     struct frame *ret)
{
	if (unlikely(data.n > space))
		return corrupt(f, b,
			       "a packet block has %zu octets of frame, its length leaves %zu",
			       data.n, space);
	if (unlikely(i->link == LINK_TYPES))
		return pcapfile_fail(f, -EBADMSG,
				     "link type %u at byte %llu is not supported: interface '%s'",
				     i->dlt, (unsigned long long)offset_of(f, b), i->name);
	*ret = (struct frame){ .data = data.p,
			       .caplen = (uint32_t)data.n,
			       .len = len < data.n ? (uint32_t)data.n : len,
			       .ts_ns = f->last_ts_ns,
			       .iface = (uint16_t)(i - f->ifaces),
			       .link = i->link,
			       .unverified = true };
	return PARSED_FRAME;
}

/* Enhanced Packet Block, and the obsolete one, which differs only in the interface's id. */
static inline enum parsed parse_packet(struct pcapfile *f, const uint8_t *b, uint32_t type,
				       uint32_t len, struct frame *ret)
{
	if (unlikely(len < 32))
		return corrupt(f, b, "a packet block of %u octets", len);

	const struct iface *i =
		iface_get(f, b, type == NG_ENHANCED ? u32_at(f, b + 8) : u16_at(f, b + 8));

	if (unlikely(!i))
		return PARSED_BAD;
	f->last_ts_ns = time_ns(i, (uint64_t)u32_at(f, b + 12) << 32 | u32_at(f, b + 16));
	return give_frame(f, b, i, (struct span){ b + 28, u32_at(f, b + 20) }, len - 32,
			  u32_at(f, b + 24), ret);
}

static enum parsed parse_simple(struct pcapfile *f, const uint8_t *b, uint32_t len,
				struct frame *ret)
{
	if (len < 16)
		return corrupt(f, b, "a simple packet block of %u octets", len);

	const struct iface *i = iface_get(f, b, 0);
	uint32_t wire = u32_at(f, b + 8);

	if (!i)
		return PARSED_BAD;
	return give_frame(
		f, b, i,
		(struct span){ b + 12, i->snaplen && i->snaplen < wire ? i->snaplen : wire },
		len - 16, wire, ret);
}

static enum parsed parse_block(struct pcapfile *f, const uint8_t *b, uint32_t type, uint32_t len,
			       struct frame *ret)
{
	switch (type) {
	case NG_SECTION:
		return parse_section(f, b, len);
	case NG_IFACE:
		return parse_iface(f, b, len);
	case NG_PACKET:
	case NG_ENHANCED:
		return parse_packet(f, b, type, len, ret);
	case NG_SIMPLE:
		return parse_simple(f, b, len, ret);
	case NG_STATS:
		return parse_stats(f, b, len);
	default:
		return PARSED_OTHER;
	}
}

static inline enum parsed pcapng_parse(struct pcapfile *f, struct frame *ret)
{
	const uint8_t *b = f->p;
	size_t left = (size_t)(f->end - b);

	if (unlikely(left < BLOCK_HEADER))
		return fall_short(f, "block header", 0, BLOCK_HEADER);

	uint32_t type = u32_at(f, b);

	if (unlikely(type == NG_SECTION)) { /* a palindrome; its byte order follows */
		uint32_t order;

		if (left < BLOCK_HEADER + 4)
			return fall_short(f, "section header", 0, BLOCK_HEADER + 4);
		memcpy(&order, b + 8, sizeof order);
		f->swap = order == __builtin_bswap32(NG_BYTE_ORDER);
		if (!f->swap && order != NG_BYTE_ORDER)
			return corrupt(f, b, "a section with byte-order magic %02x %02x %02x %02x",
				       b[8], b[9], b[10], b[11]);
	}

	uint32_t len = u32_at(f, b + 4);

	if (unlikely(len < BLOCK_HEADER + BLOCK_TRAILER || len % 4 || len > PCAPFILE_RECORD_MAX))
		return corrupt(f, b, "a block of %u octets", len);
	if (unlikely(left < len))
		return fall_short(f, "block", 0, len);

	uint32_t again = u32_at(f, b + len - BLOCK_TRAILER);

	if (unlikely(again != len))
		return corrupt(f, b, "a block begins with length %u and ends with length %u", len,
			       again);
	prefetch_ahead(b, len, left);

	enum parsed t = parse_block(f, b, type, len, ret);

	if (likely(t != PARSED_BAD))
		f->p = b + len;
	return t;
}

/* --- both --- */

/* Finds the format from the first octets of the file. */
static enum parsed file_header_parse(struct pcapfile *f)
{
	static const struct {
		uint8_t magic[3];
		const char *tool;
	} packed[] = {
		{ { 0x1f, 0x8b, 8 }, "gzip" }, { { 0x28, 0xb5, 0x2f }, "zstd" },
		{ { 0xfd, '7', 'z' }, "xz" },  { { 'B', 'Z', 'h' }, "bzip2" },
		{ { 4, 0x22, 0x4d }, "lz4" },
	};
	size_t left = (size_t)(f->end - f->p);
	uint32_t magic;

	if (left < sizeof magic)
		return fall_short(f, "file header", 0, sizeof magic);
	memcpy(&magic, f->p, sizeof magic);
	if (magic == NG_SECTION) {
		f->format = FORMAT_PCAPNG;
		return PARSED_OTHER;
	}
	for (unsigned i = 0; i < ARRAY_SIZE(packed); i++)
		if (!memcmp(f->p, packed[i].magic, sizeof packed[i].magic))
			return pcapfile_fail(f, -EBADMSG,
					     "compressed: unpack it with '%s -dc' first",
					     packed[i].tool);
	return pcap_parse_header(f, magic);
}

static inline enum parsed parse_next(struct pcapfile *f, struct frame *ret)
{
	if (likely(f->format == FORMAT_PCAP))
		return pcap_parse(f);
	if (likely(f->format == FORMAT_PCAPNG))
		return pcapng_parse(f, ret);
	return file_header_parse(f);
}

/* The file ended after PARSED_SHORT. */
static enum parsed fail_truncated(struct pcapfile *f)
{
	size_t left = (size_t)(f->end - f->p), lead = f->wants.lead;

	if (!f->format && !offset_of(f, f->end))
		return pcapfile_fail(f, -EBADMSG, "the file is empty");
	return pcapfile_fail(f, -EBADMSG,
			     "truncated at byte %llu: the %s at %llu %s %zu octets, %zu are left",
			     (unsigned long long)offset_of(f, f->end), f->wants.what,
			     (unsigned long long)offset_of(f, f->p), lead ? "says" : "takes",
			     f->wants.need - lead, left - lead);
}

/* Makes the map's next window available, and frees the pages before p, so that a huge file does not
 * look like a huge process.  Populating the window first costs nothing, because all of it will be
 * read, and turns a SIGBUS (bad disk, file truncated) into an error.  Linux 5.14; older kernels
 * still send the SIGBUS. */
static int pcapfile_map_more(struct pcapfile *f)
{
	size_t at = (size_t)(f->end - f->base), from = at & ~((size_t)WINDOW - 1);
	size_t done = (size_t)(f->p - f->base) & ~((size_t)WINDOW - 1);
	size_t to = f->file_size - from > WINDOW ? from + WINDOW : f->file_size;
	struct stat st;

	if (at >= f->file_size)
		return 0;
	if (done)
		madvise((void *)(f->base + done - WINDOW), WINDOW, MADV_DONTNEED);
	if (madvise((void *)(f->base + from), to - from, MADV_POPULATE_READ) < 0 &&
	    (errno == EFAULT || errno == EHWPOISON)) {
		if (fstat(f->fd, &st) < 0 || (uintmax_t)st.st_size >= to) {
			pcapfile_fail(f, -EIO, "cannot read at byte %zu: %s", from,
				      strerrordesc_np(EIO));
			return -EIO;
		}
		f->file_size = to = (size_t)st.st_size > at ? (size_t)st.st_size : at;
	}
	f->end = f->base + to;
	return to > at;
}

/* Gets more octets after those at p.  These may move, so no frame may be lent from the buffer.
 * 1; 0: end of file; -errno. */
static int pcapfile_refill(struct pcapfile *f)
{
	size_t left = (size_t)(f->end - f->p);

	if (f->map_size)
		return pcapfile_map_more(f);
	if (f->eof)
		return 0;
	if (f->p != f->buffer)
		memmove(f->buffer, f->p, left);
	f->base_offset = offset_of(f, f->p);
	f->base = f->p = f->buffer;
	f->end = f->p + left;

	for (;;) {
		ssize_t n = read(f->fd, f->buffer + left,
				 BUFFER_OCTETS - left < READ_OCTETS ? BUFFER_OCTETS - left
								    : READ_OCTETS);

		if (n > 0)
			f->end += n;
		if (n == 0)
			f->eof = true;
		if (n >= 0)
			return n > 0;
		/* O_NONBLOCK set by another process that shares stdin. */
		if (errno == EAGAIN && poll(&(struct pollfd){ f->fd, POLLIN, 0 }, 1, -1) >= 0)
			continue;
		if (errno == EINTR)
			return -EINTR;
		pcapfile_fail(f, -EIO, "cannot read at byte %llu: %m",
			      (unsigned long long)offset_of(f, f->end));
		return -EIO;
	}
}

static int pcapfile_next(struct source *s, struct frame *ret, unsigned max)
{
	struct pcapfile *f = pcapfile_of(s);
	unsigned n = 0;
	int r;

	while (!f->failed) {
		if (f->format == FORMAT_PCAP)
			n += f->swap ? pcap_parse_run(f, true, ret + n, max - n)
				     : pcap_parse_run(f, false, ret + n, max - n);
		if (n == max)
			break;
		switch (parse_next(f, ret + n)) {
		case PARSED_FRAME:
			n++;
			break;
		case PARSED_SHORT:
			if (n) /* lent frames: the buffer must not move */
				goto out;
			r = pcapfile_refill(f);
			if (r < 0)
				return r;
			if (r == 0 && f->p == f->end && f->format)
				return 0;
			if (r == 0)
				fail_truncated(f);
			break;
		case PARSED_OTHER:
		case PARSED_BAD:
			break;
		}
	}
out:
	f->frames += n;
	return n ? (int)n : f->failed;
}

static int pcapfile_stats(struct source *s, struct source_stats *ret)
{
	const struct pcapfile *f = pcapfile_of(s);

	*ret = (struct source_stats){ .packets = f->frames,
				      .drops = f->drops_before + section_drops(f) };
	return 0;
}

static const char *pcapfile_iface(struct source *s, unsigned index)
{
	const struct pcapfile *f = pcapfile_of(s);

	return index < f->nifaces ? f->ifaces[index].name : "";
}

static int pcapfile_fd(struct source *s)
{
	const struct pcapfile *f = pcapfile_of(s);

	return f->map_size ? -1 : f->fd;
}

static void pcapfile_free(struct source *s)
{
	struct pcapfile *f = pcapfile_of(s);

	if (f->map_size)
		munmap((void *)f->base, f->map_size);
	if (f->buffer)
		munmap(f->buffer, BUFFER_OCTETS);
	if (f->owns_fd)
		close(f->fd);
	free(f);
}

static const struct source_ops pcapfile_ops = {
	.next = pcapfile_next,
	.stats = pcapfile_stats,
	.iface = pcapfile_iface,
	.fd = pcapfile_fd,
	.free = pcapfile_free,
};

/* Maps the file from the descriptor's position on.  False: it must be read. */
static bool pcapfile_map(struct pcapfile *f, off_t size)
{
	off_t at = lseek(f->fd, 0, SEEK_CUR);

	if (at < 0 || size <= at || (uintmax_t)size > SIZE_MAX)
		return false;

	void *m = mmap(NULL, (size_t)size, PROT_READ, MAP_PRIVATE, f->fd, 0);

	if (m == MAP_FAILED)
		return false;
	madvise(m, (size_t)size, MADV_SEQUENTIAL);
	f->map_size = f->file_size = (size_t)size;
	f->base = m;
	f->p = f->end = f->base + at;
	return true;
}

/* Opens the file and reads its header.  0 or -errno; f->failed: with f->error. */
static int pcapfile_start(struct pcapfile *f, const char *path)
{
	struct stat st;

	f->owns_fd = strcmp(path, "-");
	f->fd = f->owns_fd ? open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY) : STDIN_FILENO;
	if (f->fd < 0) {
		f->owns_fd = false;
		return -errno;
	}
	if (fstat(f->fd, &st) < 0)
		return -errno;
	if (S_ISDIR(st.st_mode))
		return -EISDIR;
	if (!S_ISREG(st.st_mode) || !pcapfile_map(f, st.st_size)) {
		void *m = mmap(NULL, BUFFER_OCTETS, PROT_READ | PROT_WRITE,
			       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

		if (m == MAP_FAILED)
			return -errno;
		f->buffer = m;
		f->base = f->p = f->end = f->buffer;
	}
	while (S_ISREG(st.st_mode) && !f->format && !f->failed &&
	       file_header_parse(f) == PARSED_SHORT)
		if (pcapfile_refill(f) == 0)
			fail_truncated(f);
	return f->failed;
}

int pcapfile_open(const char *path, struct source **ret, char reterr[static PCAPFILE_ERROR_MAX])
{
	struct pcapfile *f = calloc(1, sizeof *f);
	int r = -ENOMEM;

	if (f) {
		f->source.ops = &pcapfile_ops;
		r = pcapfile_start(f, path);
	}
	if (r >= 0) {
		*ret = &f->source;
		return 0;
	}
	if (f && f->failed)
		memcpy(reterr, f->error, PCAPFILE_ERROR_MAX);
	else
		snprintf(reterr, PCAPFILE_ERROR_MAX, "%s", strerror(-r));
	if (f)
		pcapfile_free(&f->source);
	return r;
}

const char *pcapfile_error(const struct source *s)
{
	return ((const struct pcapfile *)s)->error;
}

uint64_t pcapfile_offset(const struct source *s)
{
	const struct pcapfile *f = (const struct pcapfile *)s;

	return offset_of(f, f->p);
}

uint64_t pcapfile_size(const struct source *s)
{
	return ((const struct pcapfile *)s)->map_size;
}
