/* bypassload.h - loads the filter of mode=auto (bpf/bypass.bpf.c) for one ring, with its own maps,
 * maybe after a filter of the user's.
 * Needs CAP_BPF, and CAP_PERFMON on CPUs with Spectre mitigations.  Using the maps needs neither
 * (bpf/bypass.h describes them). */
#pragma once
#include <stdbool.h>

struct sock_filter; /* <linux/filter.h> */

/* Descriptors, owned by the caller: the program for SO_ATTACH_BPF, the hash map from keys to slot
 * numbers, and the array of slots, which can be mapped. */
struct bypassload {
	int program, flows, slots;
};

struct bypassload_config {
	bool raw_ip;   /* frames begin with the IP header */
	bool loopback; /* reject outgoing frames */
	/* A classic program of the user's that precedes it: it rejects a frame or runs on beyond
	 * its end, as capfilter_wrap() makes it.  Borrowed; 0 instructions: none. */
	const struct sock_filter *user;
	unsigned user_n;
};

enum { BYPASSLOAD_ERROR_MAX = 256 };

/* 0 or -errno.  *reterr: why the user's program is not possible, with the end of the verifier's
 * log; "": it is not because of that. */
int bypassload_load(const struct bypassload_config *config, struct bypassload *ret,
		    char reterr[static BYPASSLOAD_ERROR_MAX]);

/* Closes what is not -1 and sets it to -1.  The socket keeps its program, and the program its
 * maps. */
void bypassload_close(struct bypassload *b);
