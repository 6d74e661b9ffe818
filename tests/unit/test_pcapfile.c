#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include "base/cc.h"
#include "source/pcapfile.h"
#include "tests/support/tap.h"
#include "wire/frame.h"
#include "wire/link.h"

/* --- a file in memory, in either byte order --- */

struct file {
	uint8_t b[1 << 15];
	size_t n;
	bool swap;
	size_t ends[64]; /* where its records (blocks) end: a file cut there is complete */
	unsigned nends;
	unsigned frames_at[64]; /* frames before that end */
	unsigned frames;
};

static void put(struct file *f, const void *p, size_t n)
{
	memcpy(f->b + f->n, p, n);
	f->n += n;
}

static void put16(struct file *f, uint16_t v)
{
	v = f->swap ? __builtin_bswap16(v) : v;
	put(f, &v, sizeof v);
}

static void put32(struct file *f, uint32_t v)
{
	v = f->swap ? __builtin_bswap32(v) : v;
	put(f, &v, sizeof v);
}

static void put64(struct file *f, uint64_t v)
{
	v = f->swap ? __builtin_bswap64(v) : v;
	put(f, &v, sizeof v);
}

static void record_end(struct file *f)
{
	if (f->nends == ARRAY_SIZE(f->ends))
		return; /* no file that gets cut has that many */
	f->frames_at[f->nends] = f->frames;
	f->ends[f->nends++] = f->n;
}

/* @n octets that frame @i of a test alone has. */
static void add_data(struct file *f, unsigned i, size_t n)
{
	while (n--)
		f->b[f->n++] = (uint8_t)(0x40 + i);
}

static bool data_is(const struct frame *f, unsigned i, size_t n)
{
	if (f->caplen != n)
		return false;
	while (n--)
		if (f->data[n] != 0x40 + i)
			return false;
	return true;
}

static void pcap_header(struct file *f, bool swap, uint32_t magic, uint32_t link)
{
	*f = (struct file){ .swap = swap };
	put32(f, magic);
	put16(f, 2);
	put16(f, 4);
	put32(f, 0);
	put32(f, 0);
	put32(f, 65535);
	put32(f, link);
	record_end(f);
}

static void pcap_record(struct file *f, uint32_t sec, uint32_t frac, uint32_t caplen, uint32_t len)
{
	put32(f, sec);
	put32(f, frac);
	put32(f, caplen);
	put32(f, len);
	add_data(f, f->frames++, caplen);
	record_end(f);
}

static size_t block_begin(struct file *f, uint32_t type)
{
	size_t at = f->n;

	put32(f, type);
	put32(f, 0);
	return at;
}

static void block_end(struct file *f, size_t at)
{
	uint32_t len;

	while (f->n % 4)
		f->b[f->n++] = 0;
	len = (uint32_t)(f->n + 4 - at);
	put32(f, len);
	memcpy(f->b + at + 4, f->b + f->n - 4, 4);
	record_end(f);
}

static void option(struct file *f, uint16_t code, const void *p, uint16_t n)
{
	put16(f, code);
	put16(f, n);
	put(f, p, n);
	while (f->n % 4)
		f->b[f->n++] = 0;
}

static void option64(struct file *f, uint16_t code, uint64_t v)
{
	put16(f, code);
	put16(f, 8);
	put64(f, v);
}

static void ng_section(struct file *f)
{
	size_t at = block_begin(f, 0x0a0d0d0a);

	put32(f, 0x1a2b3c4d);
	put16(f, 1);
	put16(f, 0);
	put64(f, UINT64_MAX);
	block_end(f, at);
}

static void ng_start(struct file *f, bool swap)
{
	*f = (struct file){ .swap = swap };
	ng_section(f);
}

/* @tsresol, @offset: 0: no such option. */
static void ng_iface(struct file *f, uint16_t link, uint32_t snaplen, const char *name,
		     uint8_t tsresol, int64_t offset)
{
	size_t at = block_begin(f, 1);

	put16(f, link);
	put16(f, 0);
	put32(f, snaplen);
	if (name)
		option(f, 2, name, (uint16_t)strlen(name));
	if (tsresol)
		option(f, 9, &tsresol, 1);
	if (offset)
		option64(f, 14, (uint64_t)offset);
	option(f, 0, "", 0);
	block_end(f, at);
}

static void ng_packet(struct file *f, uint32_t iface, uint64_t ts, uint32_t caplen, uint32_t len)
{
	size_t at = block_begin(f, 6);

	put32(f, iface);
	put32(f, (uint32_t)(ts >> 32));
	put32(f, (uint32_t)ts);
	put32(f, caplen);
	put32(f, len);
	add_data(f, f->frames++, caplen);
	block_end(f, at);
}

static void ng_simple(struct file *f, uint32_t len, uint32_t caplen)
{
	size_t at = block_begin(f, 3);

	put32(f, len);
	add_data(f, f->frames++, caplen);
	block_end(f, at);
}

static void ng_stats(struct file *f, uint32_t iface, uint64_t ifdrop, uint64_t osdrop)
{
	size_t at = block_begin(f, 5);

	put32(f, iface);
	put64(f, 0);
	option64(f, 4, 1000000); /* isb_ifrecv: not a drop */
	option64(f, 5, ifdrop);
	option64(f, 7, osdrop);
	option(f, 0, "", 0);
	block_end(f, at);
}

/* --- reading it --- */

static char reterr[PCAPFILE_ERROR_MAX];

static struct source *open_fd(int fd)
{
	struct source *s = NULL;
	char path[32];

	reterr[0] = 0;
	snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
	if (pcapfile_open(path, &s, reterr) < 0)
		s = NULL;
	close(fd);
	return s;
}

static int memfd_of(const void *p, size_t n)
{
	int fd = memfd_create("test", MFD_CLOEXEC);

	if (fd < 0 || write(fd, p, n) != (ssize_t)n) {
		perror("memfd");
		exit(1);
	}
	return fd;
}

static struct source *open_file(const struct file *f)
{
	return open_fd(memfd_of(f->b, f->n));
}

/* A pipe whose other end writes @n octets, @step at a time, and closes. */
struct writer {
	const uint8_t *p;
	size_t n, step;
	int fd;
	pthread_t thread;
};

static void *write_all(void *arg)
{
	struct writer *w = arg;

	for (size_t at = 0, n; at < w->n; at += n) {
		n = w->n - at < w->step ? w->n - at : w->step;
		if (write(w->fd, w->p + at, n) != (ssize_t)n)
			break;
	}
	close(w->fd);
	return NULL;
}

static struct source *open_pipe(struct writer *w, const void *p, size_t n, size_t step)
{
	int fds[2];

	if (pipe2(fds, O_CLOEXEC) < 0)
		exit(1);
	*w = (struct writer){ .p = p, .n = n, .step = step, .fd = fds[1] };
	struct source *s = open_fd(fds[0]);

	pthread_create(&w->thread, NULL, write_all, w);
	return s;
}

/* Reads the next frame; the result of source_next(). */
static struct frame fr;

static int next(struct source *s)
{
	return source_next(s, &fr, 1);
}

static bool starts(const char *text, const char *with)
{
	return !strncmp(text, with, strlen(with));
}

/* Reads all in batches of @batch: frames with the right content, then *ret_end: 0 or -errno. */
static unsigned read_all(struct source *s, unsigned batch, const uint32_t *caplens, int *ret_end)
{
	struct frame f[8];
	unsigned n = 0;
	int r;

	while ((r = source_next(s, f, batch)) > 0)
		for (int i = 0; i < r; i++, n++)
			if (!data_is(&f[i], n, caplens[n]) || f[i].len < f[i].caplen)
				return 1000; /* no test has that many */
	*ret_end = r;
	return n;
}

/* --- the tests --- */

static void test_pcap_kinds(void)
{
	static const struct {
		uint32_t magic, frac_ns;
		const char *name;
	} kinds[] = { { 0xa1b2c3d4, 1000, "us" }, { 0xa1b23c4d, 1, "ns" } };
	static struct file f;

	for (unsigned k = 0; k < 4; k++) {
		bool swap = k & 1;

		pcap_header(&f, swap, kinds[k / 2].magic, 1);
		pcap_record(&f, 1700000000, 123456, 60, 1514);
		pcap_record(&f, 0xffffffff, 0xffffffff, 0, 0);
		pcap_record(&f, 1, 2, 61, 60);

		struct source *s = open_file(&f);
		const char *kind = kinds[k / 2].name, *order = swap ? "swapped" : "native";

		ok(s && next(s) == 1 && data_is(&fr, 0, 60) && fr.len == 1514 &&
			   fr.link == LINK_ETHERNET && fr.iface == 0 && fr.gso_size == 0 &&
			   fr.has_vlan == 0,
		   "pcap, %s, %s byte order: a frame", kind, order);
		ok(fr.ts_ns == 1700000000ull * 1000000000 + 123456 * kinds[k / 2].frac_ns,
		   "pcap, %s, %s: its time", kind, order);
		ok(next(s) == 1 && fr.caplen == 0 && fr.len == 0 && fr.ts_ns <= INT64_MAX &&
			   fr.ts_ns >= 4294967295ull * 1000000000,
		   "pcap, %s, %s: no octets, and the largest time", kind, order);
		ok(next(s) == 1 && fr.caplen == 61 && fr.len == 61,
		   "pcap, %s, %s: captured more than was sent: the length follows", kind, order);
		ok(next(s) == 0 && next(s) == 0 && !*pcapfile_error(s),
		   "pcap, %s, %s: the end, twice", kind, order);
		ok(!strcmp(source_iface(s, 0), "") && !strcmp(source_iface(s, 300), ""),
		   "pcap: the interface has no name");
		source_free(s);
	}
	pcap_header(&f, false, 0xa1b2cd34, 1);
	pcap_record(&f, 1, 2, 0, 0);
	memcpy(f.b + 24 + 8, &(uint32_t[]){ 4, 9 }, 8);
	put(&f, "ifixprotABCD", 12);
	struct source *s = open_file(&f);

	ok(s && next(s) == 1 && fr.caplen == 4 && fr.len == 9 && !memcmp(fr.data, "ABCD", 4) &&
		   next(s) == 0,
	   "pcap 'modified': record headers of 24 octets");
	source_free(s);
}

static void test_link_types(void)
{
	static const struct {
		uint32_t dlt;
		enum link_type link;
	} known[] = {
		{ 0, LINK_NULL },    { 1, LINK_ETHERNET }, { 12, LINK_RAW_IP },
		{ 14, LINK_RAW_IP }, { 101, LINK_RAW_IP }, { 108, LINK_NULL },
		{ 113, LINK_SLL },   { 228, LINK_RAW_IP }, { 229, LINK_RAW_IP },
		{ 276, LINK_SLL2 },
	};
	static struct file f;

	for (unsigned i = 0; i < ARRAY_SIZE(known); i++) {
		pcap_header(&f, i & 1, 0xa1b2c3d4,
			    known[i].dlt | 0x94000000); /* FCS: 4 octets, known */
		pcap_record(&f, 1, 2, 4, 4);
		struct source *s = open_file(&f);

		ok(s && next(s) == 1 && fr.link == known[i].link,
		   "pcap: link type %u, whatever the FCS bits say", known[i].dlt);
		source_free(s);
	}
	pcap_header(&f, false, 0xa1b2c3d4, 147);
	ok(!open_file(&f) && !strcmp(reterr, "link type 147 is not supported"),
	   "pcap: an unknown link type is refused: %s", reterr);

	ng_start(&f, false);
	ng_iface(&f, 1, 0, "eth0", 0, 0);
	ng_iface(&f, 227, 0, "can0\033[2J\177", 0, 0);
	ng_packet(&f, 0, 1, 10, 10);
	ng_packet(&f, 1, 1, 10, 10);
	struct source *s = open_file(&f);

	ok(next(s) == 1 && fr.iface == 0,
	   "pcapng: an interface of unknown link type alone does not matter");
	ok(next(s) == -EBADMSG && strstr(pcapfile_error(s), "link type 227") &&
		   strstr(pcapfile_error(s), "'can0?[2J?'"),
	   "pcapng: its frames do, and it is named without control characters: %s",
	   pcapfile_error(s));
	ok(next(s) == -EBADMSG, "the error stays");
	source_free(s);
}

static void test_not_ours(void)
{
	static const struct {
		const char *bytes;
		size_t n;
		const char *want;
	} bad[] = {
		{ "", 0, "the file is empty" },
		{ "\177ELF\2\1\1", 7, "not a pcap or pcapng file: starts with 7f 45 4c 46" },
		{ "\177ELF", 4, "not a pcap or pcapng file: starts with 7f 45 4c 46" },
		{ "abc", 3,
		  "truncated at byte 3: the file header at 0 takes 4 octets, 3 are left" },
		{ "\xd4\xc3\xb2\xa1\2\0\4", 7,
		  "truncated at byte 7: the file header at 0 takes 24 octets, 7 are left" },
		{ "\xd4\xc3\xb2\xa1\1\0\2\0zoneSIGFsnap\1\0\0\0", 24,
		  "pcap version 1.2 is not supported, only 2.4 is" },
		{ "\x1f\x8b\x08\0xxxx", 8, "truncated: the gzip data ends at byte 8" },
		{ "\x28\xb5\x2f\xfd", 4, "truncated: the zstd data ends at byte 4" },
		{ "BZh9xxxx", 8, "compressed: unpack it with 'bzip2 -dc' first" },
	};
	struct source *s;
	struct writer w;

	for (unsigned i = 0; i < ARRAY_SIZE(bad); i++) {
		ok(!open_fd(memfd_of(bad[i].bytes, bad[i].n)) && !strcmp(reterr, bad[i].want),
		   "file: %s", reterr);
		s = open_pipe(&w, bad[i].bytes, bad[i].n, 1);
		ok(s && next(s) == -EBADMSG && !strcmp(pcapfile_error(s), bad[i].want), "pipe: %s",
		   pcapfile_error(s));
		source_free(s);
		pthread_join(w.thread, NULL);
	}
	s = NULL;
	ok(pcapfile_open("/nonexistent/x.pcap", &s, reterr) == -ENOENT && !s &&
		   !strcmp(reterr, "No such file or directory"),
	   "a missing file: %s", reterr);
	ok(pcapfile_open("/tmp", &s, reterr) == -EISDIR && !s && !strcmp(reterr, "Is a directory"),
	   "a directory: %s", reterr);
	ok(pcapfile_open("/dev/null", &s, reterr) == 0 && next(s) == -EBADMSG &&
		   !strcmp(pcapfile_error(s), "the file is empty"),
	   "/dev/null is empty");
	source_free(s);
}

/* pcapng with all that it may hold, in one byte order or both. */
static void build_ng(struct file *f, bool swap)
{
	size_t at;

	ng_start(f, swap);
	ng_iface(f, 1, 0, "eth0", 0, 0);
	ng_iface(f, 101, 0, "tun0", 9, 0);
	ng_packet(f, 0, 1700000000123456, 61, 1514);
	at = block_begin(f, 0x0bad); /* an unknown type */
	put(f, "some octets", 11);
	block_end(f, at);
	ng_packet(f, 1, 1700000000123456789, 40, 40);
	ng_simple(f, 33, 33);
	at = block_begin(f, 2); /* the obsolete packet block */
	put16(f, 1);
	put16(f, 7);
	put32(f, 0);
	put32(f, 5);
	put32(f, 3);
	put32(f, 3);
	add_data(f, f->frames++, 3);
	block_end(f, at);
	ng_stats(f, 0, 1, 2);
	ng_stats(f, 0, 10, 20);
	ng_stats(f, 1, 100, 200);
	f->swap = !swap; /* sections need not agree */
	ng_section(f);
	ng_iface(f, 101, 0, "tun0", 0, 0);
	ng_iface(f, 113, 0, "eth0", 0, 0); /* the name alone does not make it the same */
	ng_iface(f, 1, 0, "eth0", 6, 0);
	ng_packet(f, 0, 6, 0, 0);
	ng_packet(f, 1, 7, 2, 2);
	ng_packet(f, 2, 8, 1, 1);
	ng_stats(f, 2, 1000, 2000);
}

static const uint32_t ng_caplens[] = { 61, 40, 33, 3, 0, 2, 1 };

static void test_pcapng(bool swap)
{
	static struct file f;

	build_ng(&f, swap);
	struct source *s = open_file(&f);
	struct source_stats st;

	ok(next(s) == 1 && data_is(&fr, 0, 61) && fr.len == 1514 && fr.link == LINK_ETHERNET &&
		   fr.ts_ns == 1700000000123456000 && !strcmp(source_iface(s, fr.iface), "eth0"),
	   "pcapng: an enhanced packet in us");
	ok(next(s) == 1 && data_is(&fr, 1, 40) && fr.link == LINK_RAW_IP &&
		   fr.ts_ns == 1700000000123456789 && !strcmp(source_iface(s, fr.iface), "tun0"),
	   "pcapng: another after an unknown block, of another link type, in ns");
	ok(next(s) == 1 && data_is(&fr, 2, 33) && fr.len == 33 && fr.iface == 0 &&
		   fr.ts_ns == 1700000000123456789,
	   "pcapng: a simple packet has interface 0 and the time of the one before");
	ok(next(s) == 1 && data_is(&fr, 3, 3) && fr.iface == 1 && fr.ts_ns == 5,
	   "pcapng: an obsolete packet block");
	ok(next(s) == 1 && fr.caplen == 0 && fr.iface == 1 && fr.ts_ns == 6000,
	   "pcapng: the second section is of the other byte order; same name and link type, same "
	   "interface, other unit of time");
	ok(next(s) == 1 && data_is(&fr, 5, 2) && fr.iface == 2 && fr.link == LINK_SLL &&
		   !strcmp(source_iface(s, 2), "eth0"),
	   "pcapng: same name, other link type: another interface");
	ok(next(s) == 1 && data_is(&fr, 6, 1) && fr.iface == 0,
	   "pcapng: ids are the section's own");
	ok(next(s) == 0 && source_stats(s, &st) == 0 && st.packets == 7 && st.freezes == 0 &&
		   st.drops == 10 + 20 + 100 + 200 + 1000 + 2000,
	   "pcapng: drops are the last ones of each interface and section: %llu",
	   (unsigned long long)st.drops);
	ok(pcapfile_size(s) == f.n && pcapfile_offset(s) == f.n, "pcapng: read to the last octet");
	source_free(s);
}

static void test_times(void)
{
	static const struct {
		uint8_t resol;
		int64_t offset;
		uint64_t t, ns;
	} times[] = {
		{ 0, 0, 1, 1000 },
		{ 3, 0, 5, 5000000 },
		{ 9, 0, INT64_MAX, INT64_MAX },
		{ 9, 0, INT64_MAX + 1ull, INT64_MAX },
		{ 6, 0, UINT64_MAX, INT64_MAX },
		{ 12, 0, 5999, 5 },
		{ 19, 0, UINT64_MAX, 1844674407 },
		{ 28, 0, UINT64_MAX - 1, 1 },
		{ 29, 0, UINT64_MAX - 1, 0 },
		{ 127, 0, UINT64_MAX - 1, 0 },
		{ 0x80, 0, 3, 3000000000 },
		{ 0x80, 0, UINT64_MAX, INT64_MAX },
		{ 0x80 | 20, 0, 1 << 19, 500000000 },
		{ 0x80 | 32, 0, 1700000000ull << 32 | 1u << 31, 1700000000500000000 },
		{ 0x80 | 63, 0, UINT64_MAX, 1999999999 },
		{ 0x80 | 64, 0, UINT64_MAX, 999999999 },
		{ 0x80 | 127, 0, UINT64_MAX, 0 },
		{ 6, 100, 1, 100000001000 },
		{ 6, 100, 0, 100000000000 },
		{ 29, 3, 0, 3000000000 },
		{ 6, -1, 1500000, 500000000 },
		{ 6, -2, 1500000, 0 },
		{ 6, INT64_MAX, UINT64_MAX, INT64_MAX },
		{ 0x80, INT64_MAX, UINT64_MAX, INT64_MAX },
		{ 9, INT64_MIN, UINT64_MAX, 0 },
	};
	static struct file f;

	for (unsigned i = 0; i < ARRAY_SIZE(times); i++) {
		ng_start(&f, i & 1);
		ng_iface(&f, 1, 0, NULL, times[i].resol, times[i].offset);
		ng_packet(&f, 0, times[i].t, 0, 0);
		struct source *s = open_file(&f);

		ok(next(s) == 1 && fr.ts_ns == times[i].ns,
		   "if_tsresol %#x, offset %lld, time %llu: %llu ns", times[i].resol,
		   (long long)times[i].offset, (unsigned long long)times[i].t,
		   (unsigned long long)fr.ts_ns);
		source_free(s);
	}
}

/* A file cut at each octet, read from a map and from a pipe, in batches and one by one. */
static void test_cut(const char *what, const struct file *f, const uint32_t *caplens)
{
	unsigned wrong_frames = 0, wrong_end = 0, wrong_text = 0;

	for (size_t cut = 0; cut <= f->n; cut++) {
		bool full = false;
		unsigned frames = 0;

		for (unsigned i = 0; i < f->nends && f->ends[i] <= cut; i++) {
			frames = f->frames_at[i];
			full = f->ends[i] == cut;
		}
		for (unsigned how = 0; how < 3; how++) {
			struct writer w = { 0 };
			struct source *s = how < 2 ? open_fd(memfd_of(f->b, cut))
						   : open_pipe(&w, f->b, cut, 4096);
			int end = -EBADMSG;
			unsigned n = s ? read_all(s, how ? 8 : 1, caplens, &end) : 0;
			const char *text = s ? pcapfile_error(s) : reterr;
			char want[64];

			snprintf(want, sizeof want, "truncated at byte %zu: ", cut);
			wrong_frames += n != frames;
			wrong_end += end != (full ? 0 : -EBADMSG);
			wrong_text += cut && !starts(text, full ? "" : want);
			wrong_text += full && *text;
			source_free(s);
			if (how == 2)
				pthread_join(w.thread, NULL);
		}
	}
	ok(!wrong_frames, "%s cut at each of %zu octets: all frames before the cut come out", what,
	   f->n);
	ok(!wrong_end, "%s cut: an end between records, an error elsewhere", what);
	ok(!wrong_text, "%s cut: the error says where", what);
}

static void test_cuts(void)
{
	static const uint32_t caplens[] = { 20, 0, 33 };
	static struct file f;
	struct source *s;

	for (unsigned swap = 0; swap < 2; swap++) {
		pcap_header(&f, swap, swap ? 0xa1b2c3d4 : 0xa1b23c4d, 1);
		for (unsigned i = 0; i < 3; i++)
			pcap_record(&f, i, i, caplens[i], 60);
		test_cut("pcap", &f, caplens);
		build_ng(&f, swap);
		test_cut("pcapng", &f, ng_caplens);
	}
	pcap_header(&f, false, 0xa1b2c3d4, 1);
	pcap_record(&f, 1, 1, 96, 96);
	f.n -= 80;
	s = open_file(&f);
	ok(next(s) == -EBADMSG &&
		   !strcmp(pcapfile_error(s), "truncated at byte 56: the record header at 24 says "
					      "96 octets, 16 are left"),
	   "%s", pcapfile_error(s));
	source_free(s);
}

/* @f, of which @frames frames are good, is then refused with a text that holds @want. */
static void refused(const struct file *f, unsigned frames, const char *want)
{
	struct source *s = open_file(f);
	unsigned n = 0;

	while (next(s) == 1)
		n++;
	ok(n == frames && next(s) == -EBADMSG && strstr(pcapfile_error(s), want), "%s",
	   pcapfile_error(s));
	source_free(s);
}

static void poke32(struct file *f, size_t at, uint32_t v)
{
	memcpy(f->b + at, &v, sizeof v);
}

static void test_lies(void)
{
	static struct file f;
	static const uint32_t lengths[] = { 0, 4, 8, 11, 13, 0x01000004, 0xffffffff, 0xfffffffc };
	size_t at;

	pcap_header(&f, false, 0xa1b2c3d4, 1);
	pcap_record(&f, 1, 1, 4, 4);
	pcap_record(&f, 1, 1, 4, 4);
	poke32(&f, 44 + 8, 16777217);
	refused(&f, 1, "corrupt at byte 44: a record claims 16777217 octets, more than 16777216");
	poke32(&f, 44 + 8, 0xffffffff);
	refused(&f, 1, "corrupt at byte 44: a record claims 4294967295 octets");

	for (unsigned i = 0; i < ARRAY_SIZE(lengths); i++) {
		ng_start(&f, false);
		ng_iface(&f, 1, 0, NULL, 0, 0);
		ng_packet(&f, 0, 1, 4, 4);
		at = f.n;
		ng_packet(&f, 0, 1, 4, 4);
		poke32(&f, at + 4, lengths[i]);
		refused(&f, 1, "corrupt at byte 88: a block of ");
	}
	poke32(&f, at + 4, 36);
	poke32(&f, f.n - 4, 40);
	refused(&f, 1, "a block begins with length 36 and ends with length 40");
	poke32(&f, f.n - 4, 36);
	poke32(&f, at + 20, 5);
	refused(&f, 1, "a packet block has 5 octets of frame, its length leaves 4");
	poke32(&f, at + 20, 0xffffffff);
	refused(&f, 1, "a packet block has 4294967295 octets of frame, its length leaves 4");
	poke32(&f, at + 20, 4);
	poke32(&f, at + 8, 1);
	refused(&f, 1, "a block refers to interface 1, its section has 1 so far");
	poke32(&f, at + 8, 0xffffffff);
	refused(&f, 1, "a block refers to interface 4294967295, its section has 1 so far");

	for (uint32_t type = 1; type <= 6; type++) { /* the shortest block of each known type */
		if (type == 4)
			continue; /* name resolution: skipped */
		ng_start(&f, false);
		at = block_begin(&f, type);
		block_end(&f, at);
		refused(&f, 0, " of 12 octets");
	}
	ng_start(&f, false);
	ng_simple(&f, 4, 4);
	refused(&f, 0, "interface 0, its section has 0");

	ng_start(&f, false);
	poke32(&f, 8, 0x12345678);
	refused(&f, 0, "corrupt at byte 0: a section with byte-order magic 78 56 34 12");
	ng_start(&f, false);
	f.b[12] = 2;
	refused(&f, 0, "pcapng version 2.0 is not supported");
	*(&f) = (struct file){ 0 };
	at = block_begin(&f, 0x0a0d0d0a);
	put32(&f, 0x1a2b3c4d);
	block_end(&f, at);
	refused(&f, 0, "a section header of 16 octets");

	ng_start(&f, false);
	at = f.n;
	ng_iface(&f, 1, 0, "eth0", 0, 0);
	f.b[at + 18] = 200; /* the name's length */
	refused(&f, 0, "an option of an interface goes beyond its block");
	f.b[at + 18] = 4;
	f.b[at + 16] = 9; /* now it is a resolution */
	refused(&f, 0, "option 9 of an interface has 4 octets");

	ng_start(&f, false);
	ng_iface(&f, 1, 8, NULL, 0, 0);
	ng_simple(&f, 100, 8);
	ng_simple(&f, 6, 6);
	at = f.n;
	ng_simple(&f, 7, 7);
	poke32(&f, at + 8, 0xffffffff);
	struct source *s = open_file(&f);

	ok(next(s) == 1 && data_is(&fr, 0, 8) && fr.len == 100,
	   "pcapng: the snaplen cuts a simple packet");
	ok(next(s) == 1 && data_is(&fr, 1, 6) && fr.len == 6, "pcapng: padding is not part of it");
	ok(next(s) == 1 && fr.caplen == 8 && fr.len == 0xffffffff, "pcapng: its length may lie");
	source_free(s);

	ng_start(&f, false);
	ng_iface(&f, 1, 0, NULL, 0, 0);
	ng_packet(&f, 0, 1, 9, 8);
	s = open_file(&f);
	ok(next(s) == 1 && fr.caplen == 9 && fr.len == 9,
	   "pcapng: captured more than was sent: the length follows");
	source_free(s);

	struct source_stats st;

	ng_start(&f, false);
	ng_iface(&f, 1, 0, "eth0", 0, 0);
	ng_stats(&f, 0, 3, 4);
	ng_section(&f); /* without eth0, whose drops still count once */
	ng_section(&f);
	s = open_file(&f);
	ok(next(s) == 0 && source_stats(s, &st) == 0 && st.drops == 7 && st.packets == 0,
	   "pcapng: drops of an interface that later sections do not have");
	source_free(s);

	ng_start(&f, false);
	ng_iface(&f, 1, 0, "eth0", 0, 0);
	ng_stats(&f, 0, 30, 0);
	ng_stats(&f, 0, 2, 0);
	s = open_file(&f);
	ok(next(s) == 0 && source_stats(s, &st) == 0 && st.drops == 32,
	   "pcapng: a counter of drops that begins anew adds up");
	source_free(s);
	ng_stats(&f, 0, UINT64_MAX, UINT64_MAX - 1);
	ng_stats(&f, 0, 5, UINT64_MAX);
	s = open_file(&f);
	ok(next(s) == 0 && source_stats(s, &st) == 0 && st.drops == INT64_MAX,
	   "pcapng: the sum of drops does not wrap");
	source_free(s);
}

static void test_interfaces(void)
{
	static struct file f;
	char name[400];
	bool good = true;

	ng_start(&f, false);
	for (unsigned i = 0; i < PCAPFILE_IFACES; i++)
		ng_iface(&f, 1, 0, NULL, 0, 0);
	ng_packet(&f, 254, 1, 1, 1);
	ng_section(&f);
	for (unsigned i = 0; i < PCAPFILE_IFACES; i++)
		ng_iface(&f, 1, 0, NULL, 0, 0);
	ng_packet(&f, 254, 1, 1, 1);
	struct source *s = open_file(&f);

	for (unsigned i = 0; i < 2; i++)
		good &= next(s) == 1 && fr.iface == 254;
	ok(good && next(s) == 0, "255 interfaces without names in one section differ; the next "
				 "section has the same ones");
	source_free(s);
	ng_iface(&f, 1, 0, NULL, 0, 0);
	refused(&f, 2, "more than 255 interfaces");

	ng_start(&f, false);
	memset(name, 'x', sizeof name);
	name[sizeof name - 1] = 0;
	ng_iface(&f, 1, 0, name, 0, 0);
	ng_packet(&f, 0, 1, 1, 1);
	s = open_file(&f);
	ok(next(s) == 1 && strlen(source_iface(s, 0)) == PCAPFILE_NAME_MAX,
	   "a long name is cut to %d octets", PCAPFILE_NAME_MAX);
	source_free(s);
}

static void test_pipe(void)
{
	static struct file f;
	struct writer w;
	struct source *s;
	struct frame two[2];
	int end, fds[2], keep = dup(STDIN_FILENO);

	for (unsigned swap = 0; swap < 2; swap++) {
		build_ng(&f, swap);
		s = open_pipe(&w, f.b, f.n, 1);
		ok(pcapfile_size(s) == 0 && source_fd(s) >= 0 &&
			   read_all(s, 8, ng_caplens, &end) == 7 && !end,
		   "a pipe fed octet by octet: all frames");
		ok(pcapfile_offset(s) == f.n, "a pipe: the offset counts what was read");
		source_free(s);
		pthread_join(w.thread, NULL);
	}

	pcap_header(&f, false, 0xa1b2c3d4, 1);
	pcap_record(&f, 1, 1, 4, 4);
	pcap_record(&f, 1, 1, 4, 4);
	if (pipe2(fds, O_NONBLOCK) < 0 || dup2(fds[0], STDIN_FILENO) < 0)
		exit(1);
	close(fds[0]);
	ok(pcapfile_open("-", &s, reterr) == 0, "'-' is stdin; opening it waits for nothing");
	ok(write(fds[1], f.b, 44 + 10) == 54 && source_next(s, two, 2) == 1 && two[0].caplen == 4,
	   "a frame is handed out while the next one is on its way");

	struct sigaction sa = { .sa_handler = (void (*)(int))(void (*)(void))getpid }, old;

	sigaction(SIGALRM, &sa, &old);
	ualarm(20000, 0);
	ok(source_next(s, two, 2) == -EINTR && !*pcapfile_error(s),
	   "a signal ends the wait of a read, O_NONBLOCK or not");
	sigaction(SIGALRM, &old, NULL);
	ok(write(fds[1], f.b + 54, 10) == 10 && source_next(s, two, 2) == 1 &&
		   data_is(&two[0], 1, 4),
	   "... and it continues where it was");
	close(fds[1]);
	ok(source_next(s, two, 2) == 0, "the writer is gone: the end");
	source_free(s);
	ok(fcntl(STDIN_FILENO, F_GETFD) >= 0, "stdin stays open");

	dup2(memfd_of(f.b, f.n), STDIN_FILENO);
	lseek(STDIN_FILENO, 0, SEEK_SET);
	ok(pcapfile_open("-", &s, reterr) == 0 && source_fd(s) == -1 && pcapfile_size(s) == f.n &&
		   source_next(s, two, 2) == 2 && source_next(s, two, 2) == 0,
	   "stdin that is a file is read as a file");
	source_free(s);
	dup2(keep, STDIN_FILENO);
}

/* Records of 0 to 16 MiB, more than one window of the map and one buffer of the pipe. */
static void test_large(void)
{
	static const uint32_t sizes[] = { 16 << 20, 0, 5 << 20, 3, (16 << 20) - 1, 4 << 20, 70000 };
	size_t n = 24, room = 64 << 20;
	uint8_t *b = calloc(1, room);
	static struct file f;

	pcap_header(&f, false, 0xa1b2c3d4, 1);
	memcpy(b, f.b, n);
	for (unsigned i = 0; i < ARRAY_SIZE(sizes); i++) {
		memcpy(b + n, &(uint32_t[]){ 1, 1, sizes[i], sizes[i] }, 16);
		memset(b + n + 16, (int)(0x40 + i), sizes[i]);
		n += 16 + sizes[i];
	}
	for (unsigned how = 0; how < 2; how++) {
		struct writer w;
		struct source *s = how ? open_pipe(&w, b, n, 1 << 20) : open_fd(memfd_of(b, n));
		int end = 1;

		ok(read_all(s, 8, sizes, &end) == ARRAY_SIZE(sizes) && end == 0 &&
			   pcapfile_offset(s) == n,
		   "frames of up to 16 MiB from a %s", how ? "pipe" : "file");
		source_free(s);
		if (how)
			pthread_join(w.thread, NULL);
	}

	int fd = memfd_of(b, n), copy = dup(fd);
	struct source *s = open_fd(fd);

	ok(next(s) == 1 && fr.caplen == sizes[0] && ftruncate(copy, 22 << 20) == 0 &&
		   next(s) == 1 && next(s) == 1 && data_is(&fr, 2, sizes[2]) && next(s) == 1 &&
		   next(s) == -EBADMSG && starts(pcapfile_error(s), "truncated at byte 23068672: "),
	   "a file that shrinks after the part that is being read: %s", pcapfile_error(s));
	source_free(s);
	close(copy);
	free(b);
}

int main(void)
{
	signal(SIGPIPE, SIG_IGN);
	test_pcap_kinds();
	test_link_types();
	test_not_ours();
	test_pcapng(false);
	test_pcapng(true);
	test_times();
	test_cuts();
	test_lies();
	test_interfaces();
	test_pipe();
	test_large();
	return tap_done();
}
