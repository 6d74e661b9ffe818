/* frames.h - a frame, layer by layer, and its decoding, for the tests of lib/wire.  One frame at a
 * time, in pkt; include it once per program. */
#pragma once
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include "tests/support/tap.h"
#include "wire/frame.h"
#include "wire/link.h"
#include "wire/segment.h"
#include "wire/tunnel.h"

enum { V4 = 0x0800, V6 = 0x86dd, ARP = 0x0806 };

static uint8_t pkt[4096];
static size_t pkt_n, ip_at, tcp_at;
static struct frame fr;	   /* len and caplen follow pkt_n unless a test says otherwise */
static struct segment seg; /* of the last decode */
static struct tunnel tun;  /* of the last decode_inner() */
static size_t options_at;  /* where seg.options lay in the frame */

static inline void put8(unsigned v)
{
	pkt[pkt_n++] = (uint8_t)v;
}

static inline void put16(unsigned v)
{
	put8(v >> 8);
	put8(v);
}

static inline void put32(uint32_t v)
{
	put16(v >> 16);
	put16(v & 0xffff);
}

static inline void put_run(unsigned v, size_t n)
{
	while (n--)
		put8(v);
}

static inline void start(enum link_type link)
{
	memset(pkt, 0, sizeof pkt);
	pkt_n = ip_at = tcp_at = 0;
	fr = (struct frame){ .link = (uint8_t)link, .ts_ns = 42, .iface = 3 };
}

static inline void ethernet(unsigned type)
{
	start(LINK_ETHERNET);
	put_run(2, 12);
	put16(type);
}

/* In place of the EtherType that was put last: a tag in front of it. */
static inline void tag(unsigned tpid, unsigned tci)
{
	unsigned type = (unsigned)pkt[pkt_n - 2] << 8 | pkt[pkt_n - 1];

	pkt_n -= 2;
	put16(tpid);
	put16(tci);
	put16(type);
}

static inline void ip4(unsigned proto, unsigned options)
{
	ip_at = pkt_n;
	put8(0x40 | (5 + options / 4));
	put8(0);
	put_run(0, 6); /* length: finish() */
	put8(64);
	put8(proto);
	put16(0);
	put32(0xc0000201);
	put32(0xc6336402);
	put_run(1, options);
}

static inline void ip6(unsigned next)
{
	ip_at = pkt_n;
	put32(0x60000000);
	put16(0); /* length: finish() */
	put8(next);
	put8(64);
	put_run(0x20, 16);
	put_run(0x21, 16);
}

/* An extension header that is followed by @next; @len is its own length octet. */
static inline void extension(unsigned next, unsigned len, size_t octets)
{
	put8(next);
	put8(len);
	put_run(0, octets - 2);
}

static inline void tcp(unsigned flags, unsigned options, unsigned payload)
{
	tcp_at = pkt_n;
	put16(40000);
	put16(443);
	put32(0x01020304);
	put32(0x05060708);
	put16((5 + options / 4) << 12 | flags);
	put16(0x1234);
	put32(0);
	put_run(1, options);
	put_run('p', payload);
}

static inline void set16(size_t at, unsigned v)
{
	pkt[at] = (uint8_t)(v >> 8);
	pkt[at + 1] = (uint8_t)v;
}

static inline void finish(void)
{
	if (pkt[ip_at] >> 4 == 4)
		set16(ip_at + 2, (unsigned)(pkt_n - ip_at));
	else
		set16(ip_at + 4, (unsigned)(pkt_n - ip_at - 40));
	fr.len = fr.caplen = (uint32_t)pkt_n;
}

/* The frame in memory that ends where it ends: reading on is a crash. */
static inline uint8_t *lend(void)
{
	static uint8_t *room;
	size_t page = (size_t)sysconf(_SC_PAGESIZE), size = (sizeof pkt + page - 1) / page * page;

	if (!room) {
		room = mmap(NULL, size + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
			    -1, 0);
		if (room == MAP_FAILED || mprotect(room + size, page, PROT_NONE) < 0)
			exit(1);
	}
	uint8_t *at = room + size - fr.caplen;

	memcpy(at, pkt, fr.caplen);
	fr.data = at;
	memset(&seg, 0xee, sizeof seg);
	memset(&tun, 0xee, sizeof tun);
	return at;
}

static inline enum frame_verdict decode(void)
{
	uint8_t *at = lend();
	enum frame_verdict v = frame_decode(&fr, &seg);

	if (v == FRAME_TCP)
		options_at = (size_t)(seg.options.p - at);
	return v;
}

static inline enum frame_verdict decode_inner(unsigned inner)
{
	lend();
	return frame_decode_inner(&fr, inner, &tun, &seg);
}

#define is_inner(want, inner, ...)                                                                 \
	do {                                                                                       \
		enum frame_verdict is_ = decode_inner(inner);                                      \
		if (!ok(is_ == (want), __VA_ARGS__))                                               \
			printf("# verdict %s\n", frame_verdict_name(is_));                         \
	} while (0)

#define is(want, ...)                                                                              \
	do {                                                                                       \
		enum frame_verdict is_ = decode();                                                 \
		if (!ok(is_ == (want), __VA_ARGS__))                                               \
			printf("# verdict %s\n", frame_verdict_name(is_));                         \
	} while (0)

/* IEEE 802.11 header of @octets in all, frame control @fc0 @fc1. */
static inline void ieee80211(unsigned fc0, unsigned fc1, size_t octets)
{
	put8(fc0);
	put8(fc1);
	put_run(0, octets - 2);
}

/* LLC and SNAP. */
static inline void snap(unsigned type)
{
	put32(0xaaaa0300);
	put16(0);
	put16(type);
}

static inline bool untouched(void)
{
	const uint8_t *p = (const uint8_t *)&seg;

	for (size_t i = 0; i < sizeof seg; i++)
		if (p[i] != 0xee)
			return false;
	return true;
}
