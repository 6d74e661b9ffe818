/* bpf/fanout.bpf.c, run by the kernel, beside frame_decode(): whatever is TCP, or an error that
 * quotes it, goes where fanout_hash_of() says.  Frames of the fuzzer's corpus, as they are and
 * changed. */
#include "source/fanout.h"
#include <bpf/bpf.h>
#include <dirent.h>
#include <errno.h>
#include "base/cc.h"
#include "tests/support/frames.h"
#include "tests/support/rand.h"
#include "wire/link.h"

enum { KNOBS = 6, CHANGES = 40, MIN_FRAME = 14, BOTH = INNER_TUNNELS | INNER_ICMP };

static const uint64_t secret = 0x0123456789abcdef;
static int program[2][BOTH + 1]; /* [raw IP][inner] */
static unsigned compared, wrong, runs;

static int run(int fd, const uint8_t *p, size_t n, uint32_t *ret)
{
	LIBBPF_OPTS(bpf_test_run_opts, o, .data_in = p, .data_size_in = (uint32_t)n);
	int r = bpf_prog_test_run_opts(fd, &o);

	*ret = o.retval;
	return r;
}

/* The verdict on pkt with @inner; the segment is in seg. */
static enum frame_verdict look(bool raw, unsigned inner)
{
	fr = (struct frame){ .link = raw ? LINK_RAW_IP : LINK_ETHERNET,
			     .len = (uint32_t)pkt_n,
			     .caplen = (uint32_t)pkt_n };
	enum frame_verdict v = decode();

	return v == FRAME_NOT_TCP && inner ? decode_inner(inner) : v;
}

static void compare(bool raw, unsigned inner)
{
	static uint8_t octets[MIN_FRAME + sizeof pkt]; /* raw IP: after a header of zeros */
	size_t before = raw ? MIN_FRAME : 0;
	enum frame_verdict v = look(raw, inner);
	uint32_t got;

	memcpy(octets + before, pkt, pkt_n);
	if (pkt_n + before < MIN_FRAME ||
	    run(program[raw][inner], octets, pkt_n + before, &got) < 0)
		return;
	runs++;
	if (v != FRAME_TCP && v != FRAME_ICMP)
		return;
	compared++;
	if (got != fanout_hash_of(secret, &seg) && !wrong++)
		printf("# link %u inner %u verdict %s, %zu octets: %08x, not %08x\n", fr.link,
		       inner, frame_verdict_name(v), pkt_n, got, fanout_hash_of(secret, &seg));
}

static void change(void)
{
	for (unsigned n = 1 + below(3); n; n--) {
		size_t at = below(pkt_n < 120 ? pkt_n : 120);

		pkt[at] = (uint8_t)(below(2) ? rand64() : pkt[at] ^ 1u << below(8));
	}
}

static void compare_file(const char *path)
{
	uint8_t original[sizeof pkt];
	FILE *f = fopen(path, "rb");
	uint8_t knobs[KNOBS];

	if (!f)
		return;
	size_t k = fread(knobs, 1, sizeof knobs, f), n = fread(original, 1, sizeof original, f);

	fclose(f);
	if (k < KNOBS || !n ||
	    (knobs[0] % LINK_TYPES != LINK_ETHERNET && knobs[0] % LINK_TYPES != LINK_RAW_IP))
		return;
	for (unsigned i = 0; i < CHANGES; i++) {
		memcpy(pkt, original, pkt_n = n);
		if (i)
			change();
		for (unsigned inner = 0; inner <= BOTH; inner++)
			compare(knobs[0] % LINK_TYPES == LINK_RAW_IP, inner);
	}
}

static void compare_corpus(const char *folder)
{
	DIR *d = opendir(folder);
	unsigned files = 0;

	for (struct dirent *e; d && (e = readdir(d));) {
		char path[512];

		snprintf(path, sizeof path, "%s/%s", folder, e->d_name);
		if (e->d_name[0] == '.')
			continue;
		compare_file(path);
		files++;
	}
	if (d)
		closedir(d);
	ok(files > 0, "%u files of the corpus", files);
}

static void check_hash(void)
{
	struct segment s = { .ip_v = 6, .sport = 1000, .dport = 80 }, back;
	unsigned member[4] = { 0 }, both = 0;

	for (unsigned i = 0; i < 4000; i++) {
		for (unsigned k = 0; k < 16; k++) {
			s.src[k] = (uint8_t)rand64();
			s.dst[k] = (uint8_t)rand64();
		}
		s.sport = (uint16_t)rand64();
		s.ip_v = i % 2 ? 4 : 6;
		back = s;
		memcpy(back.src, s.dst, 16);
		memcpy(back.dst, s.src, 16);
		back.sport = s.dport;
		back.dport = s.sport;
		both += fanout_hash_of(secret, &s) == fanout_hash_of(secret, &back);
		member[fanout_member(secret, &s, ARRAY_SIZE(member))]++;
	}
	ok(both == 4000, "both directions have the same hash");
	for (unsigned i = 0; i < ARRAY_SIZE(member); i++)
		ok(member[i] > 800 && member[i] < 1200, "member %u of 4 has its share: %u of 4000",
		   i, member[i]);
	ok(fanout_hash_of(secret, &s) != fanout_hash_of(secret + 1, &s), "the secret counts");
}

int main(void)
{
	rng = tap_seed(1);
	check_hash();
	for (unsigned raw = 0; raw < 2; raw++)
		for (unsigned inner = 0; inner <= BOTH; inner++) {
			struct fanout_config c = { .secret = secret,
						   .inner = inner,
						   .raw_ip = raw };

			program[raw][inner] = fanout_load(&c);
			if (program[raw][inner] == -EPERM) {
				tap_skip("the program beside the decoder", "it needs CAP_BPF");
				return tap_done();
			}
			ok(program[raw][inner] >= 0,
			   "the kernel takes the program: raw IP %u, inner %u", raw, inner);
		}
	compare_corpus("tests/fuzz/corpus/frame");
	ok(runs > 1000 && compared > 500, "%u runs, %u of TCP", runs, compared);
	ok(!wrong, "the kernel's program and the decoder agree on whose each frame is: %u do not",
	   wrong);
	return tap_done();
}
