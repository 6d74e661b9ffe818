#include "opener/rings.h"
#include <errno.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>
#include "base/cc.h"
#include "bpf/tcp_filter.h"
#include "common/log.h"
#include "common/options.h"
#include "opener/linkwatch.h"
#include "source/fanout.h"

/* The kernel's hash splits what is in tunnels, and loses ICMP errors: then there is one ring. */
static int open_group(const struct options *o, const struct link *l, const struct afring_config *cfg,
		      enum link_type link, struct rings *ret, const char **reterr_step)
{
	struct fanout_config fc = { .inside = options_inside(o), .raw_ip = link == LINK_RAW_IP };
	int program, r;

	if (getrandom(&fc.secret, sizeof fc.secret, 0) != sizeof fc.secret)
		return *reterr_step = "getrandom", -errno;
	program = fanout_load(&fc);
	if (program < 0 && fc.inside) {
		log_warn("%s has one decoder: the eBPF program that deals tunnels and ICMP errors out "
			 "cannot be loaded: %s (it needs CAP_BPF)", l->name, strerror(-program));
		ret->n = 1;
		return 0;
	}
	if (program < 0)
		log_warn("%s: the kernel's hash deals frames out (PACKET_FANOUT_HASH), which may split "
			 "connections that are fragmented: the eBPF program cannot be loaded: %s (it "
			 "needs CAP_BPF)", l->name, strerror(-program));
	r = afring_socket_group(cfg, ret->n, program, ret->fd, ret->geometry, reterr_step);
	if (program >= 0)
		close(program);
	if (r == -EINVAL && !(l->flags & IFF_UP)) {
		log_warn("%s has one decoder: it is down, and this kernel lets rings share only what is "
			 "up", l->name);
		ret->n = 1;
		return 0;
	}
	ret->by_program = program >= 0;
	ret->secret = fc.secret;
	return r;
}

int rings_open(const struct options *o, const struct link *l, struct rings *ret,
	       const char **reterr_step)
{
	struct sock_filter insns[TCP_FILTER_MAX];
	int link = afring_link_type((int)l->arphrd), n, r = 0;

	*ret = (struct rings){ .n = o->decoders };
	if (link < 0)
		return *reterr_step = "link type", link;
	n = tcp_filter_build(&(struct tcp_filter_spec){ .link = link, .inside = options_inside(o) },
			     insns, ARRAY_SIZE(insns));
	if (n < 0)
		return *reterr_step = "filter", n;

	struct afring_config cfg = {
		.ifindex = l->ifindex,
		.ifname = l->name,
		.block_size = (unsigned)o->ring_block_size_bytes,
		.block_nr = (unsigned)(o->ring_size_bytes / o->ring_block_size_bytes),
		.block_timeout_ms = (unsigned)(o->block_timeout_ns / 1000000),
		.promiscuous = o->promiscuous,
		.filter = { .len = (unsigned short)n, .filter = insns },
	};

	if (ret->n > 1)
		r = open_group(o, l, &cfg, (enum link_type)link, ret, reterr_step);
	if (r >= 0 && ret->n == 1)
		r = ret->fd[0] = afring_socket(&cfg, &ret->geometry[0], reterr_step);
	return r < 0 ? r : 0;
}
