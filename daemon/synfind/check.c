#include "synfind/check.h"
#include <errno.h>
#include <linux/filter.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include "base/guess.h"
#include "common/capfilter.h"
#include "common/log.h"
#include "common/options.h"
#include "common/opttable.h"
#include "flow/event.h"
#include "opener/linkwatch.h"
#include "opener/wanted.h"
#include "wire/link.h"

enum { SHOWN = 8, ERRORS_SHOWN = 100 }; /* interfaces that a pattern matches; missing ones */
enum { CONNECTION_OCTETS = 125, HALF_OPEN_OCTETS = 65 }; /* of the tables, about */

struct check {
	const struct options *o;
	struct wanted wanted;
	struct link *links; /* that exist */
	size_t n;
	int error;
};

static void on_link(void *arg, const struct link *l, bool gone)
{
	struct check *c = arg;
	struct link *grown = l && !gone ? realloc(c->links, (c->n + 1) * sizeof *grown) : NULL;

	if (!grown)
		return;
	c->links = grown;
	grown[c->n++] = *l;
}

static void list_begin(void *arg)
{
	struct check *c = arg;

	c->n = 0;
}

static int find_links(struct check *c)
{
	int fd = linkwatch_open(false), r = fd < 0 ? fd : -ENOBUFS;

	while (r == -ENOBUFS)
		r = linkwatch_list(fd, list_begin, on_link, c);
	if (fd >= 0)
		close(fd);
	wanted_look(&c->wanted);
	return r < 0 ? log_errno(r, "Cannot list interfaces") : 0;
}

/* One entry of the option: what it matches now.  Returns the number. */
static unsigned print_entry(const struct check *c, char *name)
{
	char *entry[] = { name, NULL };
	unsigned n = 0;
	bool named;

	if (!c->o->quiet)
		printf("  %-15s", name);
	for (size_t i = 0; i < c->n; i++)
		if (wanted_has(&c->wanted, entry, &c->links[i], &named) && n++ < SHOWN &&
		    !c->o->quiet)
			printf(" %s", named ? "exists" : c->links[i].name);
	if (!c->o->quiet)
		puts(n > SHOWN			? " ..."
		     : n			? ""
		     : options_is_pattern(name) ? " none now"
						: " does not exist");
	return n;
}

static void check_interfaces(struct check *c)
{
	unsigned missing = 0;

	for (size_t i = 0; i < c->o->interfaces.n; i++) {
		char *name = c->o->interfaces.names[i];
		struct guess g = GUESS_NONE;

		if (print_entry(c, name) || options_is_pattern(name))
			continue;
		c->error = -ENODEV;
		if (missing++ >= ERRORS_SHOWN)
			continue;
		for (size_t l = 0; l < c->n; l++)
			guess_offer(&g, name, "'", c->links[l].name, "'");
		log_error("%s: '%s' does not exist%s", options_place(c->o, i).s, name, g.text);
	}
	if (missing > ERRORS_SHOWN)
		log_error("%u more are missing", missing - ERRORS_SHOWN);
}

/* Interfaces that would be watched now. */
static unsigned count_wanted(const struct check *c)
{
	unsigned n = 0;
	bool named;

	for (size_t i = 0; i < c->n; i++)
		n += wanted_has(&c->wanted, c->o->interfaces.names, &c->links[i], &named);
	return n;
}

static const char *mib(uint64_t octets, char ret[static 32])
{
	snprintf(ret, 32, "%.1f MiB", (double)octets / (1 << 20));
	return ret;
}

static void print_sizes(const struct check *c)
{
	const struct options *o = c->o;
	uint64_t ring = o->decoders * o->ring_size_bytes;
	uint64_t tables = (uint64_t)o->max_connections * CONNECTION_OCTETS +
			  (uint64_t)o->max_half_open * HALF_OPEN_OCTETS +
			  (uint64_t)o->decoders * o->event_ring_size * sizeof(struct event);
	char a[32], b[32];

	bool shared = options_share_rings(o);
	unsigned wanted = o->opener ? 0 : count_wanted(c), sets = shared ? 1 : wanted;

	printf("decoders:    %u %s\n"
	       "ring:        %s per decoder, %llu blocks of %s\n"
	       "connections: at most %u, and %u half-open ones\n"
	       "event ring:  %u events per decoder\n"
	       "queue:       %s, shared by at most %u subscribers\n",
	       o->decoders, shared ? "for all interfaces, which share rings" : "per interface",
	       opt_number_text(OPT_SIZE, o->ring_size_bytes).s,
	       (unsigned long long)(o->ring_size_bytes / o->ring_block_size_bytes),
	       opt_number_text(OPT_SIZE, o->ring_block_size_bytes).s, o->max_connections,
	       o->max_half_open, o->event_ring_size,
	       opt_number_text(OPT_SIZE, o->queue_size_bytes).s, o->max_subscribers);
	printf("memory:      %s %s of rings, taken at once, and up to %s of tables\n",
	       shared ? "for all interfaces" : "per interface", mib(ring, a), mib(tables, b));
	if (shared)
		printf("             the same again if there are interfaces without a link header "
		       "(tun)\n");
	if (!o->opener)
		printf("             up to %s with the %u interfaces of now and the queue\n",
		       mib(sets * (ring + tables) + o->queue_size_bytes, a), wanted);
}

/* Has the kernel memory for the filter?  Its socket option needs no privilege. */
static int check_filter(const struct options *o)
{
	struct sock_filter insns[CAPFILTER_MAX + 1];
	char error[CAPFILTER_ERROR_MAX];
	int n = o->filter ? capfilter_build(o->filter, LINK_ETHERNET, insns, error) : 0;
	int fd = n > 0 ? socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0) : -1, r = 0;

	if (fd < 0)
		return n < 0 ? n : 0;
	insns[n] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, 0);
	if (setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER,
		       &(struct sock_fprog){ (unsigned short)(n + 1), insns },
		       sizeof(struct sock_fprog)) < 0)
		r = log_errno(errno, "filter: the kernel refuses it%s",
			      errno == ENOMEM ? " (net.core.optmem_max is too small)" : "");
	close(fd);
	if (!o->quiet)
		printf("filter:      %s\n", o->filter);
	return r;
}

int check_config(const struct options *o)
{
	struct check c = { .o = o };

	if (!o->quiet)
		printf("file:        %s\n", o->file ? o->file : "none");
	if (o->opener) {
		if (!o->quiet)
			printf("interfaces:  as the opener on %s sees them\n", o->opener);
	} else {
		if (!o->quiet)
			puts("interfaces:");
		c.error = find_links(&c);
		if (c.error >= 0)
			check_interfaces(&c);
	}
	int r = check_filter(o);

	c.error = c.error < 0 ? c.error : r;
	if (!o->quiet) {
		print_sizes(&c);
		puts(c.error < 0 ? "configuration NOT usable" : "configuration OK");
	}
	free(c.links);
	if (fflush(stdout) != 0 || ferror(stdout))
		return log_errno(errno, "Cannot write to standard output");
	return c.error;
}
