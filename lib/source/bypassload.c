#include "source/bypassload.h"
#include <errno.h>
#include <fcntl.h>
#include <skel/bypass.skel.h>
#include <unistd.h>

/* The skeleton closes its own descriptor. */
static int fd_copy(int fd)
{
	return fcntl(fd, F_DUPFD_CLOEXEC, 0);
}

static int copy_all(const struct bypass_bpf *b, struct bypassload *ret)
{
	ret->program = fd_copy(bpf_program__fd(b->progs.bypass));
	ret->flows = ret->program < 0 ? -1 : fd_copy(bpf_map__fd(b->maps.flows));
	ret->slots = ret->flows < 0 ? -1 : fd_copy(bpf_map__fd(b->maps.slots));
	if (ret->slots >= 0)
		return 0;

	int r = -errno;

	bypassload_close(ret);
	return r;
}

int bypassload_load(bool raw_ip, bool loopback, struct bypassload *ret)
{
	libbpf_print_fn_t printer = libbpf_set_print(NULL); /* the caller reports errors */
	struct bypass_bpf *b = bypass_bpf__open();
	int r = -errno;

	*ret = (struct bypassload){ -1, -1, -1 };
	if (b) {
		b->rodata->raw_ip = raw_ip;
		b->rodata->loopback = loopback;
		r = bypass_bpf__load(b);
		if (r >= 0)
			r = copy_all(b, ret);
	}
	bypass_bpf__destroy(b);
	libbpf_set_print(printer);
	return r;
}

void bypassload_close(struct bypassload *b)
{
	int *const fds[] = { &b->program, &b->flows, &b->slots };

	for (unsigned i = 0; i < sizeof fds / sizeof *fds; i++) {
		if (*fds[i] >= 0)
			close(*fds[i]);
		*fds[i] = -1;
	}
}
