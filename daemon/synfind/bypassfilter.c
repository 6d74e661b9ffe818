#include "synfind/bypassfilter.h"
#include <bpf/bpf.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>
#include "bpf/bypass.h"
#include "common/clock.h"
#include "common/log.h"

struct bypass_filter {
	struct bypass_kernel kernel;
	int flows_fd;
};

static const size_t slots_octets = (size_t)BYPASS_SLOTS * sizeof(struct bypass_slot);

static void bypass_forget(struct bypass_kernel *k, const struct bypass_key *keys)
{
	const struct bypass_filter *f = (struct bypass_filter *)k; /* its first member */

	for (unsigned d = 0; d < 2; d++)
		bpf_map_delete_elem(f->flows_fd, &keys[d]);
}

static int bypass_watch(struct bypass_kernel *k, const struct bypass_key *keys, uint32_t slot)
{
	const struct bypass_filter *f = (struct bypass_filter *)k; /* its first member */

	for (uint32_t d = 0; d < 2; d++) {
		uint32_t value = slot << 1 | d;

		if (bpf_map_update_elem(f->flows_fd, &keys[d], &value, BPF_ANY) < 0)
			return -errno;
	}
	return 0;
}

int bypass_filter_new(int flows_fd, int slots_fd, unsigned after_pkts, struct bypass_filter **ret)
{
	static const struct bypass_key keys[2]; /* IP version 0: no frame has it */
	struct bypass_filter *f = calloc(1, sizeof *f);

	if (!f) {
		close(flows_fd);
		close(slots_fd);
		return log_errno(ENOMEM, "Cannot use the filter of mode=auto");
	}
	*f = (struct bypass_filter){ .kernel = { .after_pkts = after_pkts,
						 .watch = bypass_watch,
						 .forget = bypass_forget },
				     .flows_fd = flows_fd };

	void *p = mmap(NULL, slots_octets, PROT_READ | PROT_WRITE, MAP_SHARED, slots_fd, 0);
	int r = p == MAP_FAILED ? -errno : 0;

	close(slots_fd);
	if (r >= 0) {
		f->kernel.slots = p;
		/* Try what the decoder will do: it cannot report that it is not permitted. */
		r = bypass_watch(&f->kernel, keys, 0);
		bypass_forget(&f->kernel, keys);
	}
	if (r < 0) {
		bypass_filter_free(f);
		if (r != -EPERM)
			return log_errno(r, "Cannot use the filter of mode=auto");
		log_error("Cannot use the filter of mode=auto: bpf(2) is not permitted (list it "
			  "in the unit's SystemCallFilter=; without CAP_BPF Linux 5.19 is needed)");
		return r;
	}
	bypass_filter_set_clock(f);
	*ret = f;
	return 0;
}

void bypass_filter_free(struct bypass_filter *f)
{
	if (!f)
		return;
	if (f->kernel.slots)
		munmap(f->kernel.slots, slots_octets);
	close(f->flows_fd);
	free(f);
}

struct bypass_kernel *bypass_filter_kernel(struct bypass_filter *f)
{
	return f ? &f->kernel : NULL;
}

void bypass_filter_set_clock(struct bypass_filter *f)
{
	if (f)
		f->kernel.wall_minus_mono = (int64_t)(wall_clock_ns() - clock_ns(CLOCK_MONOTONIC));
}
