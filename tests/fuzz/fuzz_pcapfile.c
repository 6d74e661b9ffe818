/* Any octets as a file: once mapped, once through a pipe.  Both must give the same frames and the
 * same end, and each octet of each frame must be there to be read. */
#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include "source/decompress.h"
#include "source/pcapfile.h"
#include "wire/frame.h"
#include "wire/link.h"

enum { INPUT_MAX = 60000 }; /* a pipe holds that much, so no second thread needs to write */

static void must(int truth)
{
	if (!truth)
		abort();
}

struct outcome {
	uint64_t frames, octets, sum, times, ifaces, drops;
	int end;
	char error[PCAPFILE_ERROR_MAX];
};

/* @writer  the other end of a pipe, -1: none; it must be open while @fd is opened
 * @most    octets that all frames have at most */
static struct outcome read_all(int fd, int writer, unsigned batch, size_t n, size_t most)
{
	struct outcome o = { 0 };
	struct source *s;
	struct source_stats st;
	struct frame f[7];
	char path[32];
	int r;

	snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
	o.end = pcapfile_open(path, &s, o.error);
	close(fd);
	if (writer >= 0)
		close(writer);
	if (o.end < 0)
		return o;
	while ((r = source_next(s, f, batch)) > 0) {
		must((unsigned)r <= batch);
		for (int i = 0; i < r; i++) {
			must(f[i].caplen <= f[i].len && f[i].caplen <= most);
			must(f[i].link < LINK_TYPES && f[i].iface < PCAPFILE_IFACES);
			must(f[i].ts_ns <= INT64_MAX);
			for (uint32_t k = 0; k < f[i].caplen; k++)
				o.sum = o.sum * 31 + f[i].data[k];
			o.octets += f[i].caplen;
			o.times = o.times * 31 + f[i].ts_ns;
			o.ifaces += strlen(source_iface(s, f[i].iface));
			o.frames++;
		}
	}
	o.end = r;
	snprintf(o.error, sizeof o.error, "%s", pcapfile_error(s));
	must(r == 0 || r == -EBADMSG);
	must((r == 0) == !*o.error);
	must(source_next(s, f, batch) == r);
	must(source_stats(s, &st) == 0 && st.packets == o.frames);
	o.drops = st.drops;
	must(o.octets <= most && pcapfile_offset(s) <= n);
	must(r || pcapfile_offset(s) == n);
	source_free(s);
	return o;
}

int LLVMFuzzerTestOneInput(const uint8_t *in, size_t n)
{
	int fds[2], fd = memfd_create("fuzz", MFD_CLOEXEC);

	if (n > INPUT_MAX)
		n = INPUT_MAX;
	must(fd >= 0 && write(fd, in, n) == (ssize_t)n);
	must(pipe2(fds, O_CLOEXEC) == 0 && (!n || write(fds[1], in, n) == (ssize_t)n));

	size_t most = n >= DECOMPRESS_MAGIC && decompress_knows(in) ? SIZE_MAX : n;
	struct outcome a = read_all(fd, -1, 7, n, most), b = read_all(fds[0], fds[1], 1, n, most);

	must(a.end == b.end && !strcmp(a.error, b.error));
	must(a.frames == b.frames && a.sum == b.sum && a.times == b.times && a.ifaces == b.ifaces &&
	     a.drops == b.drops);
	return 0;
}
