#include "source/pcapfile.h"
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include "base/cc.h"
#include "source/decompress.h"
#include "wire/frame.h"
#include "wire/link.h"

enum { PCAP_HEADER = 24, RECORD_HEADER = 16, RECORD_HEADER_MODIFIED = 24 };
enum { NS_PER_S = 1000000000 };
/* The buffer takes the largest record at any alignment; untouched pages cost nothing.  One read()
 * should fit in the cache until it is decoded. */
enum { BUFFER_OCTETS = PCAPFILE_RECORD_MAX + RECORD_HEADER_MODIFIED, READ_OCTETS = 1 << 20 };
/* Octets of a map that are populated at once; a multiple of every page size. */
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
	/* The others depend on the block: its type << 16. */
	OPT_IF_NAME = NG_IFACE << 16 | 2,
	OPT_IF_TSRESOL = NG_IFACE << 16 | 9,
	OPT_IF_TSOFFSET = NG_IFACE << 16 | 14,
	OPT_ISB_IFDROP = NG_STATS << 16 | 5,
	OPT_ISB_OSDROP = NG_STATS << 16 | 7
};
enum { BLOCK_HEADER = 8, BLOCK_TRAILER = 4 };

struct iface {
	char name[PCAPFILE_NAME_MAX + 1];
	uint16_t dlt;	  /* link type, as in the file */
	uint8_t link;	  /* enum link_type; LINK_TYPES: not supported */
	uint32_t section; /* the last section that declares it */
	uint32_t snaplen; /* 0: none */
	/* Unit of timestamps: ns = t * ts_mult / ts_div / 2^ts_shift. */
	uint64_t ts_mult, ts_div;
	uint8_t ts_shift;
	int64_t ts_offset;	 /* s, added to each timestamp */
	uint64_t ts_plain;	 /* timestamps below it are t * ts_mult, without offset */
	uint64_t ifdrop, osdrop; /* last reported in the section */
};

/* Frames to return. */
struct batch {
	struct frame *frame;
	unsigned n, max;
};

struct pcapfile {
	struct source source;
	const uint8_t *p, *end; /* available, not yet returned */
	/* The next step through the file: head_parse() until the format is known. */
	int (*parse)(struct pcapfile *, struct batch *);
	bool swap; /* the file (section) has the other byte order */
	bool eof;
	/* pcap */
	uint32_t record_header;
	uint32_t frac_ns;   /* unit of the fraction of a second */
	uint8_t pcap_iface; /* index of its interface */
	/* pcapng */
	uint64_t last_ts_ns;
	uint64_t drops; /* of all interfaces and sections */
	uint32_t section;
	unsigned section_ifaces;
	uint8_t iface_of[PCAPFILE_IFACES]; /* interface id in the section -> index */

	uint64_t frames;
	uint8_t *base;	      /* start of the map or buffer ... */
	uint64_t base_offset; /* ... and its offset in the file */
	int fd;
	bool owns_fd;
	bool regular;
	struct decompress *input; /* NULL: mapped */
	size_t map_size;	  /* 0: not mapped, but buffered */
	size_t file_size;	  /* octets that can be read through the map */
	uint64_t size;		  /* of the file; 0: not a regular one */

	/* After PARSE_SHORT: `what` at p takes `need` octets, according to its first `lead`
	 * ones. */
	struct wants {
		const char *what;
		size_t lead, need;
	} wants;
	int failed; /* -errno, sticky */
	char error[PCAPFILE_ERROR_MAX];
	unsigned nifaces;
	struct iface ifaces[PCAPFILE_IFACES];
};

/* Result of one step through the file, if not -errno: the file is broken (`failed`, `error`). */
enum {
	PARSED,	     /* a frame, or something that is skipped */
	PARSE_SHORT, /* more octets are needed (`wants`) */
};

static struct pcapfile *pcapfile_of(struct source *s)
{
	return (struct pcapfile *)s;
}

/* Integers of the file: u16_at(), u32_at(), u64_at(). */
#define INTEGER_AT(bits)                                                                           \
	static uint##bits##_t u##bits##_at(const struct pcapfile *f, const uint8_t *p)             \
	{                                                                                          \
		uint##bits##_t v;                                                                  \
                                                                                                   \
		memcpy(&v, p, sizeof v);                                                           \
		return f->swap ? __builtin_bswap##bits(v) : v;                                     \
	}
INTEGER_AT(16)
INTEGER_AT(32)
INTEGER_AT(64)
#undef INTEGER_AT

static unsigned long long offset_of(const struct pcapfile *f, const uint8_t *p)
{
	return f->base_offset + (size_t)(p - f->base);
}

/* Breaks the source permanently; returns @err. */
__attribute__((format(printf, 3, 4))) static int fail(struct pcapfile *f, int err, const char *fmt,
						      ...)
{
	va_list ap;

	f->failed = err;
	va_start(ap, fmt);
	vsnprintf(f->error, sizeof f->error, fmt, ap);
	va_end(ap);
	/* Interface names come from the file and must not control a terminal. */
	for (char *c = f->error; *c; c++)
		if ((unsigned char)*c < ' ' || *c == 0x7f)
			*c = '?';
	return err;
}

#define corrupt(f, at, fmt, ...)                                                                   \
	fail((f), -EBADMSG, "corrupt at byte %llu: " fmt, offset_of((f), (at)), ##__VA_ARGS__)

static int fall_short(struct pcapfile *f, const char *what, size_t lead, size_t need)
{
	f->wants = (struct wants){ what, lead, need };
	return PARSE_SHORT;
}

/* LINK_TYPES: not supported.  Numbers: draft-ietf-opsawg-pcaplinktype; 12 and 14 are DLT_RAW in
 * files that have a system's own number. */
static enum link_type link_of(uint32_t dlt)
{
	static const struct {
		uint16_t dlt;
		uint8_t link;
	} known[] = {
		{ 1, LINK_ETHERNET }, { 101, LINK_RAW_IP }, { 228, LINK_RAW_IP },
		{ 229, LINK_RAW_IP }, { 12, LINK_RAW_IP },  { 14, LINK_RAW_IP },
		{ 0, LINK_NULL },     { 108, LINK_NULL },   { 113, LINK_SLL },
		{ 276, LINK_SLL2 },   { 9, LINK_PPP },	    { 50, LINK_PPP },
		{ 51, LINK_PPPOE },   { 105, LINK_80211 },  { 127, LINK_RADIOTAP },
	};

	for (unsigned i = 0; i < ARRAY_SIZE(known); i++)
		if (known[i].dlt == dlt)
			return known[i].link;
	return LINK_TYPES;
}

static inline void frame_set(struct frame *ret, const uint8_t *data, uint32_t caplen, uint32_t len,
			     uint64_t ts_ns, size_t iface, uint8_t link)
{
	*ret = (struct frame){ .data = data,
			       .caplen = caplen,
			       .len = len < caplen ? caplen : len,
			       .ts_ns = ts_ns,
			       .iface = (uint16_t)iface,
			       .link = link,
			       .unverified = true };
}

/* Declares an interface and returns its index: that of the same interface in an earlier section or
 * file, or the next one.  Interfaces of one section are always different, even if they have no
 * names.  PCAPFILE_IFACES: too many. */
static unsigned iface_add(struct pcapfile *f, const struct iface *new)
{
	unsigned i = 0;

	for (; i < f->nifaces; i++) {
		const struct iface *have = &f->ifaces[i];

		if (have->section != new->section && have->dlt == new->dlt &&
		    !strcmp(have->name, new->name))
			break;
	}
	if (i == PCAPFILE_IFACES)
		return i;
	f->ifaces[i] = *new;
	f->nifaces += i == f->nifaces;
	return i;
}

/* --- pcap --- */

/* The next record's place depends on this record's length, so a walk waits for memory at each
 * record.  Records tend to have similar lengths: guess. */
static void prefetch_ahead(const uint8_t *p, size_t record, size_t left)
{
	size_t ahead = 4 * record;

	if (likely(ahead + 64 < left)) {
		__builtin_prefetch(p + ahead);
		__builtin_prefetch(p + ahead + 64);
	}
}

/* Takes as many records as fit, with all it needs in registers: reading a file is mostly this. */
static int pcap_parse(struct pcapfile *f, struct batch *ret)
{
	const uint8_t *p = f->p, *const end = f->end, iface = f->pcap_iface;
	const uint8_t link = f->ifaces[iface].link;
	const size_t header = f->record_header;
	const uint32_t frac_ns = f->frac_ns;
	const bool swap = f->swap;
	struct frame *to = ret->frame + ret->n, *const last = ret->frame + ret->max;
	int result = PARSED;

	for (; to < last; to++) {
		const size_t left = (size_t)(end - p);
		struct {
			uint32_t s, frac, caplen, len;
		} r;

		if (unlikely(left < header)) {
			result = fall_short(f, "record header", 0, header);
			break;
		}
		memcpy(&r, p, sizeof r);
		if (unlikely(swap)) {
			r.s = __builtin_bswap32(r.s);
			r.frac = __builtin_bswap32(r.frac);
			r.caplen = __builtin_bswap32(r.caplen);
			r.len = __builtin_bswap32(r.len);
		}
		if (unlikely(r.caplen > PCAPFILE_RECORD_MAX)) {
			result = corrupt(f, p, "a record claims %u octets, more than %d", r.caplen,
					 PCAPFILE_RECORD_MAX);
			break;
		}
		if (unlikely(left - header < r.caplen)) {
			result = fall_short(f, "record header", header, header + r.caplen);
			break;
		}
		prefetch_ahead(p, header + r.caplen, left);
		/* 32 + 32 bits: (2^32 - 1) * (10^9 + 10^3) is below 2^63. */
		frame_set(to, p + header, r.caplen, r.len,
			  (uint64_t)r.s * NS_PER_S + (uint64_t)r.frac * frac_ns, iface, link);
		p += header + r.caplen;
	}
	ret->n = (unsigned)(to - ret->frame);
	f->p = p;
	return result;
}

static int pcap_parse_header(struct pcapfile *f, uint32_t magic)
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
		return fail(f, -EBADMSG,
			    "not a pcap or pcapng file: starts with %02x %02x %02x %02x", p[0],
			    p[1], p[2], p[3]);
	if (f->end - p < PCAP_HEADER)
		return fall_short(f, "file header", 0, PCAP_HEADER);

	unsigned major = u16_at(f, p + 4), minor = u16_at(f, p + 6);
	/* The upper bits describe the FCS. */
	uint32_t dlt = u32_at(f, p + 20) & 0x03ffffff;
	enum link_type link = link_of(dlt);

	if (major != 2 || minor != 4)
		return fail(f, -EBADMSG, "pcap version %u.%u is not supported, only 2.4 is", major,
			    minor);
	if (link == LINK_TYPES)
		return fail(f, -EBADMSG, "link type %u is not supported", dlt);

	unsigned index = iface_add(f, &(struct iface){ .dlt = (uint16_t)dlt,
						       .link = (uint8_t)link,
						       .section = f->section });

	if (index == PCAPFILE_IFACES)
		return fail(f, -EBADMSG, "more than %d interfaces", PCAPFILE_IFACES);
	f->parse = pcap_parse;
	f->frac_ns = kinds[kind].frac_ns;
	f->record_header = kinds[kind].record_header;
	f->pcap_iface = (uint8_t)index;
	f->p += PCAP_HEADER;
	return PARSED;
}

/* --- pcapng --- */

/* @resol: a negative exponent of 2 if bit 7 is set, else of 10. */
static void set_resolution(struct iface *i, uint8_t resol)
{
	unsigned n = resol & 0x7f, digits = resol & 0x80 ? 0 : n;

	i->ts_shift = resol & 0x80 ? (uint8_t)n : 0;
	i->ts_mult = i->ts_div = 1;
	for (; digits < 9; digits++)
		i->ts_mult *= 10;
	/* Units too fine for 64 bits cannot count to 1 ns. */
	for (; digits > 9; digits--)
		if (__builtin_mul_overflow(i->ts_div, 10, &i->ts_div))
			i->ts_div = UINT64_MAX;
}

static uint64_t time_ns(const struct iface *i, uint64_t t)
{
	/* The usual units, us and ns: 128 bits cost as much as the rest of the walk. */
	if (likely(t < i->ts_plain))
		return t * i->ts_mult;

	/* 2^64 * 10^9 + 2^63 * 10^9 fits. */
	__int128 ns = ((__int128)t * i->ts_mult / i->ts_div >> i->ts_shift) +
		      (__int128)i->ts_offset * NS_PER_S;

	return ns < 0 ? 0 : ns > INT64_MAX ? INT64_MAX : (uint64_t)ns;
}

/* A counter of dropped frames stands at @now.  One that is smaller than before began anew.  The sum
 * stops at what JSON readers can hold. */
static void drops_count(struct pcapfile *f, uint64_t *last, uint64_t now)
{
	uint64_t more = now - (now < *last ? 0 : *last);

	f->drops = more < INT64_MAX - f->drops ? f->drops + more : INT64_MAX;
	*last = now;
}

/* Reads the options of block @b, which are at @p up to @end, into @i. */
static int parse_options(struct pcapfile *f, const uint8_t *b, uint32_t type, const uint8_t *p,
			 const uint8_t *end, struct iface *i)
{
	while (end - p >= 4) {
		uint32_t code = u16_at(f, p), n = u16_at(f, p + 2), padded = (n + 3u) & ~3u;
		uint32_t option = type << 16 | code;
		const uint8_t *value = p + 4;

		if (code == OPT_END)
			break;
		if (padded > end - value)
			return corrupt(f, b, "an option of %s goes beyond its block",
				       type == NG_IFACE ? "an interface" : "interface statistics");
		p = value + padded;
		if (option == OPT_IF_NAME) {
			snprintf(i->name, sizeof i->name, "%.*s", (int)n, (const char *)value);
		} else if (option == OPT_IF_TSRESOL && n == 1) {
			set_resolution(i, *value);
		} else if (option == OPT_IF_TSOFFSET && n == 8) {
			i->ts_offset = (int64_t)u64_at(f, value);
		} else if (option == OPT_IF_TSRESOL || option == OPT_IF_TSOFFSET) {
			return corrupt(f, b, "option %u of an interface has %u octets", code, n);
		} else if ((option == OPT_ISB_IFDROP || option == OPT_ISB_OSDROP) && n == 8) {
			drops_count(f, option == OPT_ISB_IFDROP ? &i->ifdrop : &i->osdrop,
				    u64_at(f, value));
		}
	}
	return PARSED;
}

/* parse_*(): a block at @b of @len octets, header and trailer included, all available. */
static int parse_section(struct pcapfile *f, const uint8_t *b, uint32_t len)
{
	if (len < 28)
		return corrupt(f, b, "a section header of %u octets", len);

	unsigned major = u16_at(f, b + 12), minor = u16_at(f, b + 14);

	if (major != 1)
		return fail(f, -EBADMSG, "pcapng version %u.%u is not supported, only 1.x is",
			    major, minor);
	f->section++;
	f->section_ifaces = 0;
	return PARSED;
}

static int parse_iface(struct pcapfile *f, const uint8_t *b, uint32_t len)
{
	if (len < 20)
		return corrupt(f, b, "an interface description of %u octets", len);

	struct iface i = { .dlt = u16_at(f, b + 8),
			   .link = (uint8_t)link_of(u16_at(f, b + 8)),
			   .section = f->section,
			   .snaplen = u32_at(f, b + 12),
			   .ts_mult = 1000,
			   .ts_div = 1 }; /* us, unless if_tsresol says otherwise */
	int r = parse_options(f, b, NG_IFACE, b + 16, b + len - BLOCK_TRAILER, &i);

	if (r < 0)
		return r;
	if (i.ts_div == 1 && !i.ts_shift && !i.ts_offset)
		i.ts_plain = INT64_MAX / i.ts_mult;

	unsigned index = iface_add(f, &i);

	if (index == PCAPFILE_IFACES)
		return corrupt(f, b, "more than %d interfaces", PCAPFILE_IFACES);
	f->iface_of[f->section_ifaces++] = (uint8_t)index;
	return PARSED;
}

/* Interface @id of the section, which block @b refers to.  NULL: missing; breaks the source. */
static struct iface *iface_get(struct pcapfile *f, const uint8_t *b, uint32_t id)
{
	if (likely(id < f->section_ifaces))
		return &f->ifaces[f->iface_of[id]];
	corrupt(f, b, "a block refers to interface %u, its section has %u so far", id,
		f->section_ifaces);
	return NULL;
}

static int parse_stats(struct pcapfile *f, const uint8_t *b, uint32_t len)
{
	if (len < 24)
		return corrupt(f, b, "interface statistics of %u octets", len);

	struct iface *i = iface_get(f, b, u32_at(f, b + 8));

	return i ? parse_options(f, b, NG_STATS, b + 20, b + len - BLOCK_TRAILER, i) : f->failed;
}

/* Enhanced Packet Block; the obsolete one, which differs in the interface id; or the simple one. */
static inline int parse_packet(struct pcapfile *f, const uint8_t *b, uint32_t type, uint32_t len,
			       struct batch *ret)
{
	const bool simple = type == NG_SIMPLE;
	const uint32_t header = simple ? 12 : 28, around = header + BLOCK_TRAILER;

	if (unlikely(len < around))
		return corrupt(f, b, "a %spacket block of %u octets", simple ? "simple " : "", len);

	uint32_t id = type == NG_ENHANCED ? u32_at(f, b + 8) : simple ? 0 : u16_at(f, b + 8);
	const struct iface *i = iface_get(f, b, id);
	uint32_t wire = u32_at(f, b + header - 4), caplen = wire;

	if (unlikely(!i))
		return f->failed;
	if (!simple) {
		f->last_ts_ns = time_ns(i, (uint64_t)u32_at(f, b + 12) << 32 | u32_at(f, b + 16));
		caplen = u32_at(f, b + 20);
	} else if (i->snaplen && i->snaplen < wire) {
		caplen = i->snaplen;
	}
	if (unlikely(caplen > len - around))
		return corrupt(f, b, "a packet block has %u octets of frame, its length leaves %u",
			       caplen, len - around);
	if (unlikely(i->link == LINK_TYPES))
		return fail(f, -EBADMSG,
			    "link type %u at byte %llu is not supported: interface '%s'", i->dlt,
			    offset_of(f, b), i->name);
	frame_set(&ret->frame[ret->n++], b + header, caplen, wire, f->last_ts_ns,
		  (size_t)(i - f->ifaces), i->link);
	return PARSED;
}

static int parse_block(struct pcapfile *f, const uint8_t *b, uint32_t type, uint32_t len,
		       struct batch *ret)
{
	switch (type) {
	case NG_SECTION:
		return parse_section(f, b, len);
	case NG_IFACE:
		return parse_iface(f, b, len);
	case NG_PACKET:
	case NG_ENHANCED:
	case NG_SIMPLE:
		return parse_packet(f, b, type, len, ret);
	case NG_STATS:
		return parse_stats(f, b, len);
	default:
		return PARSED;
	}
}

static int pcapng_parse(struct pcapfile *f, struct batch *ret)
{
	const uint8_t *b = f->p;
	size_t left = (size_t)(f->end - b);

	if (unlikely(left < BLOCK_HEADER))
		return fall_short(f, "block header", 0, BLOCK_HEADER);

	uint32_t type = u32_at(f, b);

	if (unlikely(type == NG_SECTION)) { /* a palindrome; sets the byte order */
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

	int r = parse_block(f, b, type, len, ret);

	if (likely(r == PARSED))
		f->p = b + len;
	return r;
}

/* --- both --- */

/* The first octets of the file decide the format. */
static int head_parse(struct pcapfile *f, struct batch *ret)
{
	static const struct {
		uint8_t magic[3];
		const char *tool;
	} packed[] = { { { 'B', 'Z', 'h' }, "bzip2" }, { { 4, 0x22, 0x4d }, "lz4" } };
	size_t left = (size_t)(f->end - f->p);
	uint32_t magic;

	(void)ret;
	if (left < sizeof magic)
		return fall_short(f, "file header", 0, sizeof magic);
	memcpy(&magic, f->p, sizeof magic);
	if (magic == NG_SECTION) {
		f->parse = pcapng_parse;
		return PARSED;
	}
	if (decompress_knows(f->p))
		return fail(f, -EBADMSG, "compressed twice: unpack it first");
	for (unsigned i = 0; i < ARRAY_SIZE(packed); i++)
		if (!memcmp(f->p, packed[i].magic, sizeof packed[i].magic))
			return fail(f, -EBADMSG, "compressed: unpack it with '%s -dc' first",
				    packed[i].tool);
	return pcap_parse_header(f, magic);
}

/* Populates the next window of the map, and releases the pages before p, so that a huge file does
 * not make a huge process.  Populating is free, since all of it will be read, and reports a bad
 * disk or a truncated file as an error instead of a SIGBUS in the walk (Linux 5.14 or later). */
static int map_more(struct pcapfile *f)
{
	size_t at = (size_t)(f->end - f->base), from = at & ~((size_t)WINDOW - 1);
	size_t done = (size_t)(f->p - f->base) & ~((size_t)WINDOW - 1);
	size_t to = f->file_size - from > WINDOW ? from + WINDOW : f->file_size;
	struct stat st;

	if (at >= f->file_size)
		return 0;
	if (done)
		madvise(f->base + done - WINDOW, WINDOW, MADV_DONTNEED);
	if (madvise(f->base + from, to - from, MADV_POPULATE_READ) < 0 &&
	    (errno == EFAULT || errno == EHWPOISON)) {
		if (fstat(f->fd, &st) < 0 || (uintmax_t)st.st_size >= to)
			return fail(f, -EIO, "cannot read at byte %zu: %s", from,
				    strerrordesc_np(EIO));
		f->file_size = to = (size_t)st.st_size > at ? (size_t)st.st_size : at;
	}
	f->end = f->base + to;
	return to > at;
}

/* Makes more octets available after those at p, which may move: no frame may be lent from the
 * buffer.  1; 0: end of the file; -errno. */
static int refill(struct pcapfile *f)
{
	size_t left = (size_t)(f->end - f->p), space = BUFFER_OCTETS - left;
	ssize_t n;

	if (f->map_size)
		return map_more(f);
	if (f->eof)
		return 0;
	if (f->p != f->base)
		memmove(f->base, f->p, left);
	f->base_offset = offset_of(f, f->p);
	f->p = f->base;
	f->end = f->p + left;

	if (space > READ_OCTETS)
		space = READ_OCTETS;
	n = decompress_read(f->input, f->base + left, space);
	if (n == -EINTR)
		return -EINTR;
	if (n == -EBADMSG)
		return fail(f, -EBADMSG, "%s", decompress_error(f->input));
	if (n < 0)
		return fail(f, -EIO, "cannot read at byte %llu: %s", offset_of(f, f->end),
			    strerrordesc_np((int)-n));
	f->eof = !n;
	f->end += n;
	return n > 0;
}

/* After PARSE_SHORT.  1; 0: the file ended between two steps; -errno. */
static int read_more(struct pcapfile *f)
{
	int r = refill(f);
	size_t left = (size_t)(f->end - f->p), lead = f->wants.lead;

	if (r || (!left && f->parse != head_parse))
		return r;
	if (f->parse == head_parse && !offset_of(f, f->end))
		return fail(f, -EBADMSG, "the file is empty");
	return fail(f, -EBADMSG,
		    "truncated at byte %llu: the %s at %llu %s %zu octets, %zu are left",
		    offset_of(f, f->end), f->wants.what, offset_of(f, f->p),
		    lead ? "says" : "takes", f->wants.need - lead, left - lead);
}

static int pcapfile_next(struct source *s, struct frame *ret, unsigned max)
{
	struct pcapfile *f = pcapfile_of(s);
	struct batch b = { .frame = ret, .max = max };

	while (!f->failed && b.n < b.max) {
		if (likely(f->parse(f, &b) != PARSE_SHORT))
			continue;
		if (b.n) /* lent: the buffer stays as it is */
			break;
		int r = read_more(f);

		if (r <= 0)
			return r;
	}
	f->frames += b.n;
	return b.n ? (int)b.n : f->failed;
}

static int pcapfile_stats(struct source *s, struct source_stats *ret)
{
	const struct pcapfile *f = pcapfile_of(s);

	*ret = (struct source_stats){ .packets = f->frames, .drops = f->drops };
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

	return f->regular ? -1 : f->fd;
}

/* Gives back all that belongs to one file. */
static void file_close(struct pcapfile *f)
{
	if (f->base)
		munmap(f->base, f->map_size ? f->map_size : BUFFER_OCTETS);
	decompress_free(f->input);
	if (f->owns_fd && f->fd >= 0)
		close(f->fd);
	f->base = NULL;
	f->input = NULL;
	f->owns_fd = false;
}

static void pcapfile_free(struct source *s)
{
	file_close(pcapfile_of(s));
	free(s);
}

static const struct source_ops ops = {
	.next = pcapfile_next,
	.stats = pcapfile_stats,
	.iface = pcapfile_iface,
	.fd = pcapfile_fd,
	.free = pcapfile_free,
};

/* Maps a file that is not packed, from the current offset of its descriptor: true. */
static bool map_file(struct pcapfile *f, const struct stat *st)
{
	off_t at = f->regular ? lseek(f->fd, 0, SEEK_CUR) : -1;
	uint8_t magic[DECOMPRESS_MAGIC];
	void *m;

	if (at < 0 || at >= st->st_size || (uintmax_t)st->st_size > SIZE_MAX)
		return false;
	if (pread(f->fd, magic, sizeof magic, at) == sizeof magic && decompress_knows(magic))
		return false;
	m = mmap(NULL, (size_t)st->st_size, PROT_READ, MAP_PRIVATE, f->fd, 0);
	if (m == MAP_FAILED)
		return false;
	madvise(m, (size_t)st->st_size, MADV_SEQUENTIAL);
	f->map_size = f->file_size = (size_t)st->st_size;
	f->base = m;
	f->p = f->end = f->base + at;
	return true;
}

/* Opens the file.  0 or -errno, with `error` set. */
static int file_open(struct pcapfile *f, const char *path)
{
	struct stat st;

	f->owns_fd = strcmp(path, "-");
	f->fd = f->owns_fd ? open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY) : STDIN_FILENO;
	if (f->fd < 0 || fstat(f->fd, &st) < 0)
		return fail(f, -errno, "%m");
	if (S_ISDIR(st.st_mode))
		return fail(f, -EISDIR, "%s", strerrordesc_np(EISDIR));
	f->regular = S_ISREG(st.st_mode);
	f->size = f->regular ? (uint64_t)st.st_size : 0;
	if (!map_file(f, &st)) {
		void *m = mmap(NULL, BUFFER_OCTETS, PROT_READ | PROT_WRITE,
			       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

		f->input = decompress_new(f->fd);
		f->base = m == MAP_FAILED ? NULL : m;
		if (!f->base || !f->input)
			return fail(f, -ENOMEM, "out of memory");
		f->p = f->end = f->base;
	}
	while (f->regular && !f->failed && head_parse(f, NULL) == PARSE_SHORT)
		read_more(f);
	return f->failed;
}

int pcapfile_next_file(struct source *s, const char *path, char reterr[static PCAPFILE_ERROR_MAX])
{
	struct pcapfile *f = pcapfile_of(s);
	int r;

	file_close(f);
	f->parse = head_parse;
	f->swap = f->eof = false;
	f->map_size = f->file_size = 0;
	f->base_offset = 0;
	f->section++;
	f->section_ifaces = 0;
	f->failed = 0;
	*f->error = '\0';
	r = file_open(f, path);
	if (r < 0)
		memcpy(reterr, f->error, PCAPFILE_ERROR_MAX);
	return r;
}

int pcapfile_open(const char *path, struct source **ret, char reterr[static PCAPFILE_ERROR_MAX])
{
	struct pcapfile *f = calloc(1, sizeof *f);
	int r;

	if (!f) {
		snprintf(reterr, PCAPFILE_ERROR_MAX, "%m");
		return -ENOMEM;
	}
	f->source.ops = &ops;
	r = pcapfile_next_file(&f->source, path, reterr);
	if (r < 0)
		pcapfile_free(&f->source);
	else
		*ret = &f->source;
	return r;
}

const char *pcapfile_error(const struct source *s)
{
	return ((const struct pcapfile *)s)->error;
}

uint64_t pcapfile_offset(const struct source *s)
{
	const struct pcapfile *f = (const struct pcapfile *)s;

	return decompress_packed(f->input) ? decompress_offset(f->input) : offset_of(f, f->p);
}

uint64_t pcapfile_size(const struct source *s)
{
	return ((const struct pcapfile *)s)->size;
}
