#include "opener/rings.h"
#include <errno.h>
#include "base/cc.h"
#include "bpf/tcp_filter.h"
#include "common/options.h"
#include "opener/linkwatch.h"

int rings_open(const struct options *o, const struct link *l, struct ring *ret, unsigned max,
	       const char **reterr_step)
{
	struct sock_filter insns[TCP_FILTER_MAX];
	int link = afring_link_type((int)l->arphrd), n;

	if (!max)
		return *reterr_step = "no room", -EINVAL;
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

	ret->fd = afring_socket(&cfg, &ret->geometry, reterr_step);
	return ret->fd < 0 ? ret->fd : 1;
}
