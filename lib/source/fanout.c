#include "source/fanout.h"
#include <errno.h>
#include <fcntl.h>
#include <skel/fanout.skel.h>

int fanout_load(const struct fanout_config *config)
{
	libbpf_print_fn_t printer = libbpf_set_print(NULL); /* the caller reports errors */
	struct fanout_bpf *b = fanout_bpf__open();
	int r = -errno;

	if (b) {
		b->rodata->config.secret = config->secret;
		b->rodata->config.inner = config->inner;
		b->rodata->config.raw_ip = config->raw_ip;
		r = fanout_bpf__load(b);
		if (r >= 0)
			r = fcntl(bpf_program__fd(b->progs.fanout), F_DUPFD_CLOEXEC, 0);
		if (r == -1)
			r = -errno;
	}
	fanout_bpf__destroy(b);
	libbpf_set_print(printer);
	return r;
}
