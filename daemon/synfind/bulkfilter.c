#include "synfind/bulkfilter.h"
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <skel/bulk.skel.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>
#include "bpf/bulk.h"
#include "common/log.h"

struct bulk_filter {
	struct bulk_kernel kernel;
	struct bulk_bpf *skel;
	int flows_fd;
};

static const size_t slots_octets = (size_t)BULK_SLOTS * sizeof(struct bulk_slot);

static struct bulk_filter *of_kernel(struct bulk_kernel *k)
{
	return (struct bulk_filter *)k; /* its first member */
}

static void forget(struct bulk_kernel *k, const struct bulk_key *keys)
{
	for (unsigned d = 0; d < 2; d++)
		bpf_map_delete_elem(of_kernel(k)->flows_fd, &keys[d]);
}

static int watch(struct bulk_kernel *k, const struct bulk_key *keys, uint32_t slot)
{
	for (uint32_t d = 0; d < 2; d++) {
		uint32_t value = slot << 1 | d;

		if (bpf_map_update_elem(of_kernel(k)->flows_fd, &keys[d], &value, BPF_ANY) < 0)
			return -errno;
	}
	return 0;
}

static int on_libbpf(enum libbpf_print_level level, const char *format, va_list args)
{
	(void)level, (void)format,
		(void)args; /* errno says enough, and the verifier far too much */
	return 0;
}

static int load(struct bulk_filter *f, bool raw_ip, bool loopback)
{
	libbpf_set_print(on_libbpf);
	f->skel = bulk_bpf__open();
	if (!f->skel)
		return -errno;
	f->skel->rodata->raw_ip = raw_ip;
	f->skel->rodata->loopback = loopback;

	int r = bulk_bpf__load(f->skel);

	if (r < 0)
		return r;
	f->flows_fd = bpf_map__fd(f->skel->maps.flows);
	f->kernel.slots = mmap(NULL, slots_octets, PROT_READ | PROT_WRITE, MAP_SHARED,
			       bpf_map__fd(f->skel->maps.slots), 0);
	if (f->kernel.slots == MAP_FAILED) {
		f->kernel.slots = NULL;
		return -errno;
	}
	return 0;
}

int bulk_filter_load(bool raw_ip, bool loopback, unsigned after_pkts, struct bulk_filter **ret)
{
	struct bulk_filter *f = calloc(1, sizeof *f);

	if (!f)
		return log_errno(-ENOMEM, "Cannot load the filter of mode=auto");
	f->kernel.after_pkts = after_pkts;
	f->kernel.watch = watch;
	f->kernel.forget = forget;

	int r = load(f, raw_ip, loopback);

	if (r < 0) {
		bulk_filter_free(f);
		if (r == -EPERM || r == -EACCES)
			log_error("Cannot load the filter of mode=auto: that needs CAP_BPF (or "
				  "take mode=all, "
				  "which does not)");
		else
			log_errno(r, "Cannot load the filter of mode=auto: this needs eBPF in the "
				     "kernel, "
				     "5.12 or newer");
		return r;
	}
	bulk_filter_set_clock(f);
	*ret = f;
	return 0;
}

void bulk_filter_free(struct bulk_filter *f)
{
	if (!f)
		return;
	if (f->kernel.slots)
		munmap(f->kernel.slots, slots_octets);
	bulk_bpf__destroy(f->skel);
	free(f);
}

int bulk_filter_fd(const struct bulk_filter *f)
{
	return bpf_program__fd(f->skel->progs.bulk);
}

struct bulk_kernel *bulk_filter_kernel(struct bulk_filter *f)
{
	return f ? &f->kernel : NULL;
}

void bulk_filter_set_clock(struct bulk_filter *f)
{
	struct timespec wall, mono;

	if (!f)
		return;
	clock_gettime(CLOCK_MONOTONIC, &mono);
	clock_gettime(CLOCK_REALTIME, &wall);
	f->kernel.wall_minus_mono =
		(wall.tv_sec - mono.tv_sec) * 1000000000ll + (wall.tv_nsec - mono.tv_nsec);
}
