#include "source/bulkload.h"
#include <errno.h>
#include <fcntl.h>
#include <skel/bulk.skel.h>
#include <unistd.h>

/* The skeleton closes its own. */
static int keep(int fd)
{
	return fcntl(fd, F_DUPFD_CLOEXEC, 0);
}

static int keep_all(const struct bulk_bpf *b, struct bulkload *ret)
{
	ret->program = keep(bpf_program__fd(b->progs.bulk));
	ret->flows = ret->program < 0 ? -1 : keep(bpf_map__fd(b->maps.flows));
	ret->slots = ret->flows < 0 ? -1 : keep(bpf_map__fd(b->maps.slots));
	if (ret->slots >= 0)
		return 0;

	int r = -errno;

	bulkload_close(ret);
	return r;
}

int bulkload_load(bool raw_ip, bool loopback, struct bulkload *ret)
{
	libbpf_print_fn_t printer = libbpf_set_print(NULL); /* the caller knows what to say */
	struct bulk_bpf *b = bulk_bpf__open();
	int r = -errno;

	*ret = (struct bulkload){ -1, -1, -1 };
	if (b) {
		b->rodata->raw_ip = raw_ip;
		b->rodata->loopback = loopback;
		r = bulk_bpf__load(b);
		if (r >= 0)
			r = keep_all(b, ret);
	}
	bulk_bpf__destroy(b);
	libbpf_set_print(printer);
	return r;
}

void bulkload_close(struct bulkload *b)
{
	int *const fds[] = { &b->program, &b->flows, &b->slots };

	for (unsigned i = 0; i < sizeof fds / sizeof *fds; i++) {
		if (*fds[i] >= 0)
			close(*fds[i]);
		*fds[i] = -1;
	}
}
