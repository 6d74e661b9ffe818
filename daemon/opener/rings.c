#include "opener/rings.h"
#include <errno.h>
#include <net/if_arp.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>
#include "base/cc.h"
#include "bpf/tcp_filter.h"
#include "common/capfilter.h"
#include "common/log.h"
#include "common/options.h"
#include "opener/linkwatch.h"
#include "opener/protocol.h"
#include "source/fanout.h"
#include "wire/link.h"

/* The kernel's hash splits tunnelled connections and misdirects ICMP errors.  If these are to be
 * captured and no program can be loaded, it opens one ring. */
static int open_group(const struct options *o, const struct link *l,
		      const struct afring_config *cfg, uint64_t secret, struct rings *ret,
		      const char **reterr_step)
{
	struct fanout_config fc = { .secret = secret,
				    .inner = options_inner(o),
				    .raw_ip = afring_link_type((int)l->arphrd) == LINK_RAW_IP };
	int program, r;

	if (!secret && getrandom(&fc.secret, sizeof fc.secret, 0) != sizeof fc.secret)
		return *reterr_step = "getrandom", -errno;
	program = fanout_load(&fc);
	if (program < 0 && fc.inner) {
		log_warn("%s has one decoder: cannot load the eBPF program that assigns tunnels "
			 "and ICMP errors to decoders: %s (it needs CAP_BPF)",
			 l->name, strerror(-program));
		ret->n = 1;
		return 0;
	}
	if (program < 0)
		log_warn("%s: the kernel's hash (PACKET_FANOUT_HASH) assigns frames to decoders "
			 "and may split fragmented connections: cannot load the eBPF program: %s "
			 "(it needs CAP_BPF)",
			 l->name, strerror(-program));
	r = afring_socket_group(cfg, ret->n, program, ret->fd, ret->geometry, reterr_step);
	if (program >= 0)
		close(program);
	if (r == -EINVAL && !(l->flags & IFF_UP)) {
		log_warn("%s has one decoder: it is down, and on this kernel rings can share "
			 "only an interface that is up",
			 l->name);
		ret->n = 1;
		return 0;
	}
	ret->by_program = program >= 0;
	ret->secret = fc.secret;
	return r;
}

/* Closes the filters from number @from on: there may be fewer rings than requested. */
static void close_filters(struct rings *rings, unsigned from)
{
	for (unsigned i = from; i < AFRING_GROUP_MAX; i++)
		bypassload_close(&rings->filter[i]);
}

/* The user's filter, if any, then ours, which with MODE_AUTO is no classic one.  The number of
 * instructions, or -errno. */
static int build_filter(const struct options *o, const struct link *l, int link,
			struct sock_filter *insns)
{
	struct tcp_filter_spec spec = { .link = link,
					.inner = options_inner(o),
					.control = o->mode == MODE_CONTROL };
	char error[CAPFILTER_ERROR_MAX];
	int n = 0, ours;

	if (o->filter)
		n = capfilter_build(o->filter, link, insns, error);
	if (n < 0) {
		log_error("%s: filter: %s", l->name, error);
		return n;
	}
	if (o->mode == MODE_AUTO)
		return n;
	ours = tcp_filter_build(&spec, insns + n, TCP_FILTER_MAX);
	return ours < 0 ? ours : n + ours;
}

/* Why a filter may be refused although it is right. */
static void explain_refusal(const struct options *o, const struct link *l, int error,
			    const char *step)
{
	if (o->filter && error == -ENOMEM &&
	    (!strcmp(step, "SO_ATTACH_FILTER") || !strcmp(step, "SO_ATTACH_BPF")))
		log_error("%s: filter: it needs more memory than the kernel allows: raise "
			  "net.core.optmem_max (sysctl)",
			  l->name);
}

/* Each ring has its own filter, whose slots are for its decoder's connections. */
static int load_bypass(const struct link *l, const struct bypassload_config *config,
		       struct rings *ret, int program[], const char **reterr_step)
{
	char error[BYPASSLOAD_ERROR_MAX];
	int r = 0;

	*reterr_step = OPENER_STEP_BYPASS;
	for (unsigned i = 0; r >= 0 && i < ret->n; i++) {
		r = bypassload_load(config, &ret->filter[i], error);
		program[i] = ret->filter[i].program;
	}
	if (r < 0 && *error) {
		log_error("%s: filter: with mode=auto %s", l->name, error);
		*reterr_step = "filter";
	}
	return r;
}

/* ifindex 0 is no interface.  Named as others name such a socket. */
struct link rings_shared_link(unsigned link)
{
	struct link l = { .arphrd = link == LINK_RAW_IP ? ARPHRD_NONE : ARPHRD_ETHER,
			  .flags = IFF_UP };

	snprintf(l.name, sizeof l.name, "%s", link == LINK_RAW_IP ? "any-ip" : "any");
	return l;
}

int rings_open(const struct options *o, const struct link *l, uint64_t secret, struct rings *ret,
	       const char **reterr_step)
{
	struct sock_filter insns[CAPFILTER_MAX + TCP_FILTER_MAX];
	int program[AFRING_GROUP_MAX];
	int link = afring_link_type((int)l->arphrd), n, r = 0;

	*ret = (struct rings){ .n = o->decoders, .mode = o->mode };
	for (unsigned i = 0; i < AFRING_GROUP_MAX; i++)
		ret->filter[i] = (struct bypassload){ -1, -1, -1 };
	if (link < 0)
		return *reterr_step = "link type", link;
	n = build_filter(o, l, link, insns);
	if (n < 0)
		return *reterr_step = "filter", n;

	struct afring_config cfg = {
		.ifindex = l->ifindex,
		.link = link,
		.ifname = l->name,
		.block_size = (unsigned)o->ring_block_size_bytes,
		.block_nr = (unsigned)(o->ring_size_bytes / o->ring_block_size_bytes),
		.block_timeout_ms = (unsigned)(o->block_timeout_ns / 1000000),
		.promiscuous = o->promiscuous,
		.filter = { .len = (unsigned short)n, .filter = insns },
		.programs = o->mode == MODE_AUTO ? program : NULL,
	};

	struct bypassload_config bypass = { .raw_ip = link == LINK_RAW_IP,
					    .loopback = l->arphrd == ARPHRD_LOOPBACK,
					    .user = insns,
					    .user_n = (unsigned)n };

	if (o->mode == MODE_AUTO)
		r = load_bypass(l, &bypass, ret, program, reterr_step);
	if (r >= 0 && ret->n > 1)
		r = open_group(o, l, &cfg, secret, ret, reterr_step);
	if (r >= 0 && ret->n == 1)
		r = ret->fd[0] = afring_socket(&cfg, &ret->geometry[0], reterr_step);
	close_filters(ret, r < 0 ? 0 : ret->n);
	if (r < 0)
		explain_refusal(o, l, r, *reterr_step);
	return r < 0 ? r : 0;
}

unsigned rings_collect(const struct rings *rings, int ret_fds[])
{
	unsigned n = rings->n;

	memcpy(ret_fds, rings->fd, n * sizeof *ret_fds);
	if (rings->mode != MODE_AUTO)
		return n;
	for (unsigned i = 0; i < n; i++) {
		ret_fds[n + i] = rings->filter[i].flows;
		ret_fds[2 * n + i] = rings->filter[i].slots;
	}
	return 3 * n;
}

void rings_close(struct rings *rings)
{
	for (unsigned i = 0; i < rings->n; i++)
		close(rings->fd[i]);
	close_filters(rings, 0);
}
