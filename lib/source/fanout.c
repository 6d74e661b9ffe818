#include "source/fanout.h"
#include <errno.h>
#include <fcntl.h>
#include <skel/fanout.skel.h>
#include <string.h>
#include "wire/segment.h"

int fanout_load(const struct fanout_config *config)
{
	libbpf_print_fn_t printer = libbpf_set_print(NULL); /* the caller knows what to say */
	struct fanout_bpf *b = fanout_bpf__open();
	int r = -errno;

	if (b) {
		b->rodata->config.secret = config->secret;
		b->rodata->config.inside = config->inside;
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

static uint64_t end_of(uint64_t secret, uint8_t ip_v, const uint8_t *addr, uint16_t port)
{
	uint64_t w[2] = { 0 };

	if (ip_v == 4) {
		uint32_t a;

		memcpy(&a, addr, sizeof a);
		w[1] = a;
	} else {
		memcpy(w, addr, sizeof w);
	}
	return fanout_end(secret, w[0], w[1], port);
}

unsigned fanout_member(uint64_t secret, const struct segment *s, unsigned members)
{
	return fanout_hash(end_of(secret, s->ip_v, s->src, s->sport),
			   end_of(secret, s->ip_v, s->dst, s->dport)) % members;
}
