/* bypassload.h - loads the filter of mode=auto (bpf/bypass.bpf.c) for one ring, with its own maps.
 * Needs CAP_BPF, and CAP_PERFMON on CPUs with Spectre mitigations.  Using the maps needs neither
 * (bpf/bypass.h describes them). */
#pragma once
#include <stdbool.h>

/* Descriptors, owned by the caller: the program for SO_ATTACH_BPF, the hash map from keys to slot
 * numbers, and the array of slots, which can be mapped. */
struct bypassload {
	int program, flows, slots;
};

/* @raw_ip: frames begin with the IP header; @loopback: reject outgoing frames.  0 or -errno. */
int bypassload_load(bool raw_ip, bool loopback, struct bypassload *ret);

/* Closes what is not -1 and sets it to -1.  The socket keeps its program, and the program its
 * maps. */
void bypassload_close(struct bypassload *b);
