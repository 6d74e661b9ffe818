#include "source/bypassload.h"
#include <bpf/bpf.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <skel/bypass.skel.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "bpf/to_ebpf.h"

static const char licence[] = "Dual BSD/GPL"; /* as bypass.bpf.c */

enum { FUNCTIONS_MAX = 32 };

/* The skeleton closes its own descriptor. */
static int fd_copy(int fd)
{
	return fcntl(fd, F_DUPFD_CLOEXEC, 0);
}

/* ---- with a program of the user's ------------------------------------------------------------ */

/* The last lines of the verifier's log, without the line of figures at its end. */
static void log_end(char *log, char ret[static BYPASSLOAD_ERROR_MAX])
{
	enum { LINES = 3 };
	char *figures = strstr(log, "\nprocessed "), *from;
	unsigned lines = 0;

	if (figures)
		*figures = '\0';
	for (from = log + strlen(log); from > log && lines < LINES; from--)
		lines += from[-1] == '\n' && from[0];
	from += lines == LINES;
	snprintf(ret, BYPASSLOAD_ERROR_MAX, "the kernel refuses it: %s", from);
	for (char *c = ret; *c; c++)
		if (*c == '\n')
			*c = c[1] ? '|' : '\0';
}

/* Our program with the user's before it. */
struct joined {
	struct bpf_insn *insns; /* owned */
	size_t n;
	/* Its functions in their order.  The kernel verifies global ones one by one, but only if it
	 * gets their types; otherwise it follows each path through all of them. */
	struct bpf_func_info func[FUNCTIONS_MAX];
	unsigned func_n;
	int btf_fd; /* borrowed */
};

static struct bypass_bpf *open_and_load(bool raw_ip, bool loopback, int *ret_error)
{
	struct bypass_bpf *b = bypass_bpf__open();

	*ret_error = -errno;
	if (!b)
		return NULL;
	b->rodata->raw_ip = raw_ip;
	b->rodata->loopback = loopback;
	*ret_error = bypass_bpf__load(b);
	if (*ret_error >= 0)
		return b;
	bypass_bpf__destroy(b);
	return NULL;
}

/* The types of our functions in their order, as the kernel has them.  It forgets functions that are
 * never called: with raw_ip some are not. */
static int read_types(struct joined *j)
{
	struct bpf_prog_info info = { .nr_func_info = FUNCTIONS_MAX,
				      .func_info_rec_size = sizeof *j->func,
				      .func_info = (uintptr_t)j->func };
	__u32 size = sizeof info;
	int r;
	struct bypass_bpf *complete = open_and_load(false, false, &r);

	if (!complete)
		return r;
	r = bpf_obj_get_info_by_fd(bpf_program__fd(complete->progs.bypass), &info, &size);
	r = r < 0 ? -errno : info.nr_func_info > FUNCTIONS_MAX ? -E2BIG : 0;
	j->func_n = info.nr_func_info;
	bypass_bpf__destroy(complete);
	return r;
}

static int compare_places(const void *a, const void *b)
{
	const uint32_t *x = a, *y = b;

	return (*x > *y) - (*x < *y);
}

/* The places of our functions, which begin @first instructions further on: all but the first one
 * are called. */
static int find_places(struct joined *j, uint32_t first)
{
	uint32_t place[FUNCTIONS_MAX] = { 0 };
	unsigned found = 1;

	for (uint32_t i = first; i < j->n; i++) {
		const struct bpf_insn *f = &j->insns[i];
		uint32_t to = i + 1 + (uint32_t)f->imm;
		unsigned at = 0;

		if (f->code != (BPF_JMP | BPF_CALL) || f->src_reg != BPF_PSEUDO_CALL)
			continue;
		while (at < found && place[at] != to)
			at++;
		if (at == FUNCTIONS_MAX)
			return -E2BIG;
		place[at] = to;
		found += at == found;
	}
	qsort(place, found, sizeof *place, compare_places);
	for (unsigned i = 0; i < found; i++)
		j->func[i].insn_off = place[i];
	return found == j->func_n ? 0 : -ESRCH;
}

static int join(const struct bypassload_config *c, const struct bpf_program *ours,
		struct joined *ret)
{
	size_t n = bpf_program__insn_cnt(ours);
	int first = to_ebpf(c->user, c->user_n, NULL, 0), r;

	if (first < 0)
		return first;
	ret->n = (size_t)first + n;
	ret->insns = calloc(ret->n, sizeof *ret->insns);
	if (!ret->insns)
		return -ENOMEM;
	to_ebpf(c->user, c->user_n, ret->insns, (unsigned)first);
	memcpy(ret->insns + first, bpf_program__insns(ours), n * sizeof *ret->insns);
	r = read_types(ret);
	return r < 0 ? r : find_places(ret, (uint32_t)first);
}

static int load_joined(const struct joined *j, char *log, size_t log_size)
{
	LIBBPF_OPTS(bpf_prog_load_opts, opts, .prog_btf_fd = (uint32_t)j->btf_fd,
		    .func_info = j->func, .func_info_cnt = j->func_n,
		    .func_info_rec_size = sizeof *j->func, .log_level = log ? 1 : 0, .log_buf = log,
		    .log_size = (uint32_t)log_size);

	return bpf_prog_load(BPF_PROG_TYPE_SOCKET_FILTER, NULL, licence, j->insns, j->n, &opts);
}

/* Loads it again for the log: an older kernel fails with -ENOSPC if that does not fit. */
static void explain(const struct joined *j, int error, char reterr[static BYPASSLOAD_ERROR_MAX])
{
	const size_t size = 16 << 20; /* costs memory only where it is written */
	char *log = calloc(1, size);
	int fd = log ? load_joined(j, log, size) : -1;

	if (fd >= 0)
		close(fd);
	if (log && *log)
		log_end(log, reterr);
	else
		snprintf(reterr, BYPASSLOAD_ERROR_MAX, "the kernel refuses it: %s",
			 strerror(-error));
	free(log);
}

/* Puts the user's program, translated, before ours.  The maps' descriptors are in ours.  Returns
 * the new one, or -errno. */
static int load_with_user(const struct bypassload_config *c, const struct bypass_bpf *b,
			  char reterr[static BYPASSLOAD_ERROR_MAX])
{
	struct joined j = { .btf_fd = bpf_object__btf_fd(b->obj) };
	int r = join(c, b->progs.bypass, &j);

	if (r < 0) {
		snprintf(reterr, BYPASSLOAD_ERROR_MAX, "it is not possible as an eBPF program: %s",
			 strerror(-r));
	} else {
		r = load_joined(&j, NULL, 0);
		if (r < 0)
			explain(&j, r, reterr);
	}
	free(j.insns);
	return r;
}

/* ---- all together ---------------------------------------------------------------------------- */

static int copy_all(const struct bypass_bpf *b, struct bypassload *ret)
{
	if (ret->program < 0)
		ret->program = fd_copy(bpf_program__fd(b->progs.bypass));
	ret->flows = ret->program < 0 ? -1 : fd_copy(bpf_map__fd(b->maps.flows));
	ret->slots = ret->flows < 0 ? -1 : fd_copy(bpf_map__fd(b->maps.slots));
	return ret->slots < 0 ? -errno : 0;
}

int bypassload_load(const struct bypassload_config *config, struct bypassload *ret,
		    char reterr[static BYPASSLOAD_ERROR_MAX])
{
	libbpf_print_fn_t printer = libbpf_set_print(NULL); /* the caller reports errors */
	struct bypass_bpf *b;
	int r;

	*ret = (struct bypassload){ -1, -1, -1 };
	*reterr = '\0';
	b = open_and_load(config->raw_ip, config->loopback, &r);
	if (r >= 0 && config->user_n)
		r = ret->program = load_with_user(config, b, reterr);
	if (r >= 0)
		r = copy_all(b, ret);
	if (r < 0)
		bypassload_close(ret);
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
