/* memwalk - the floor for a decoder that reads a capture file: what the memory alone costs.
 *
 *     memwalk FILE [PASSES [HUGE]]
 *
 * Over each packet of a pcap file in memory (Ethernet, native byte order):
 *   headers   walk the record headers
 *   parse     extract addresses, ports, seq, flags of IPv4 or IPv6 + TCP, and hash the 4-tuple
 *   in order  parse, and read and write one random cache line of a table of 256 MiB
 *   batch N   the same for N packets at a time: hash and prefetch first, then the lines
 * With HUGE the table lies on huge pages.  Prints JSON lines, the median of PASSES (9), in ns
 * of CPU time per packet.  It tracks nothing and makes no system call meanwhile: nobody can be
 * faster. */
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { PASSES = 9, PASSES_MAX = 99, BATCH_MAX = 64 };
static const size_t table_octets = 256 << 20;

struct file {
	const uint8_t *p;
	size_t n;
};

struct packet {
	uint64_t hash;
	uint32_t seq, ack;
	uint16_t len;
	uint8_t flags;
};

enum mode { HEADERS, PARSE, IN_ORDER, BATCHED };

static uint64_t *table, table_mask, sink;
static unsigned passes = PASSES;

static double cpu_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t); /* others may use the machine */
	return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

static inline uint64_t load64(const void *p)
{
	uint64_t v;

	memcpy(&v, p, sizeof v);
	return v;
}

static inline uint32_t load32(const void *p)
{
	uint32_t v;

	memcpy(&v, p, sizeof v);
	return v;
}

static inline uint16_t load16(const void *p)
{
	uint16_t v;

	memcpy(&v, p, sizeof v);
	return v;
}

static inline uint64_t mix(uint64_t a, uint64_t b)
{
	__uint128_t r = (__uint128_t)a * b;

	return (uint64_t)r ^ (uint64_t)(r >> 64);
}

/* False: not a whole TCP header without fragments or extensions. */
static inline int parse(const uint8_t *p, uint32_t cap, struct packet *ret)
{
	const uint64_t k1 = 0x9e3779b97f4a7c15, k2 = 0xd6e8feb86659fd93, k3 = 0xa0761d6478bd642f;
	uint64_t a, b;
	const uint8_t *t;
	uint32_t len;

	if (cap < 54)
		return 0;
	uint16_t type = load16(p + 12);
	p += 14;
	cap -= 14;
	if (type == 0x0008) {
		uint32_t hl = (p[0] & 15u) * 4;

		if (p[0] >> 4 != 4 || hl < 20 || p[9] != 6 || (load16(p + 6) & 0xff1f) ||
		    cap < hl + 20)
			return 0;
		a = load32(p + 12);
		b = load32(p + 16);
		t = p + hl;
		len = (uint32_t)__builtin_bswap16(load16(p + 2)) - hl;
	} else if (type == 0xdd86) {
		if (p[0] >> 4 != 6 || p[6] != 6 || cap < 60)
			return 0;
		a = mix(load64(p + 8) ^ k1, load64(p + 16) ^ k2);
		b = mix(load64(p + 24) ^ k1, load64(p + 32) ^ k2);
		t = p + 40;
		len = __builtin_bswap16(load16(p + 4));
	} else {
		return 0;
	}
	uint32_t ports = load32(t), offset = (uint32_t)(t[12] >> 4) * 4;

	if (offset < 20 || len < offset)
		return 0;
	a = mix(a ^ k3, (ports & 0xffff) ^ 0xe7037ed1a0b428db);
	b = mix(b ^ k3, (ports >> 16) ^ 0xe7037ed1a0b428db);
	ret->hash = mix(a + b, k1); /* symmetric: both directions are one connection */
	ret->seq = __builtin_bswap32(load32(t + 4));
	ret->ack = __builtin_bswap32(load32(t + 8));
	ret->flags = t[13];
	ret->len = (uint16_t)(len - offset);
	return 1;
}

static inline uint64_t *line_of(const struct packet *k)
{
	return &table[(k->hash & table_mask) * 8];
}

static inline void touch(const struct packet *k)
{
	uint64_t *line = line_of(k);

	line[0] += 1;
	line[1] ^= k->seq;
	line[2] += k->len | k->flags;
}

static uint64_t walk(struct file f, enum mode mode, unsigned batch)
{
	struct packet k[BATCH_MAX];
	unsigned waiting = 0;
	uint64_t packets = 0;

	for (size_t at = 24; at + 16 <= f.n;) {
		uint32_t cap = load32(f.p + at + 8);
		const uint8_t *p = f.p + at + 16;

		if (cap > f.n - at - 16)
			break;
		at += 16 + cap;
		packets++;
		if (mode == HEADERS) {
			sink += cap;
		} else if (mode == PARSE) {
			if (parse(p, cap, k))
				sink += k->hash ^ k->seq ^ k->flags ^ k->len;
		} else if (mode == IN_ORDER) {
			if (parse(p, cap, k))
				touch(k);
		} else if (parse(p, cap, &k[waiting])) {
			__builtin_prefetch(line_of(&k[waiting]), 1);
			if (++waiting == batch) {
				for (unsigned i = 0; i < waiting; i++)
					touch(&k[i]);
				waiting = 0;
			}
		}
	}
	for (unsigned i = 0; i < waiting; i++)
		touch(&k[i]);
	return packets;
}

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static void run(struct file f, const char *name, enum mode mode, unsigned batch)
{
	double ns[PASSES_MAX];

	for (unsigned i = 0; i < passes; i++) {
		double start = cpu_ns();
		uint64_t packets = walk(f, mode, batch);

		ns[i] = (cpu_ns() - start) / (double)(packets ? packets : 1);
	}
	qsort(ns, passes, sizeof *ns, by_value);
	printf("{\"name\":\"memwalk %s\",\"unit\":\"ns/packet\",\"value\":%.3f}\n", name,
	       ns[passes / 2]);
}

int main(int argc, char **argv)
{
	struct stat st;

	if (argc > 2)
		passes = (unsigned)atoi(argv[2]);
	if (argc < 2 || argc > 4 || !passes || passes > PASSES_MAX) {
		fprintf(stderr, "usage: memwalk FILE [PASSES [HUGE]]\n");
		return 2;
	}
	int fd = open(argv[1], O_RDONLY);

	if (fd < 0 || fstat(fd, &st) < 0) {
		perror(argv[1]);
		return 1;
	}
	struct file f = { .n = (size_t)st.st_size };

	f.p = mmap(NULL, f.n, PROT_READ, MAP_PRIVATE | MAP_POPULATE, fd, 0);
	table = mmap(NULL, table_octets, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
		     0);
	if (f.p == MAP_FAILED || table == MAP_FAILED) {
		perror("mmap");
		return 1;
	}
	if (f.n < 24 || load32(f.p) != 0xa1b2c3d4) {
		fprintf(stderr, "%s: not a pcap file of this machine's byte order\n", argv[1]);
		return 1;
	}
	madvise(table, table_octets, argc > 3 ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
	memset(table, 1, table_octets);
	table_mask = table_octets / 64 - 1;

	run(f, "headers", HEADERS, 0);
	run(f, "parse", PARSE, 0);
	run(f, "in order", IN_ORDER, 0);
	run(f, "batch 8", BATCHED, 8);
	run(f, "batch 16", BATCHED, 16);
	run(f, "batch 32", BATCHED, 32);
	run(f, "batch 64", BATCHED, 64);
	return sink == 42;
}
