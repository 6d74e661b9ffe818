/* bypassload.h - the filter of mode=auto (bpf/bypass.bpf.c), loaded into the kernel for one ring,
 * with maps of its own.  Needs CAP_BPF, and CAP_PERFMON where speculation is guarded against; who
 * is given the maps needs neither (bpf/bypass.h says what is in them). */
#pragma once
#include <stdbool.h>

/* Descriptors, owned by who loaded: of the program, for SO_ATTACH_BPF; of the hash that leads from
 * keys to slots; of the array of slots, which can be mapped. */
struct bypassload {
	int program, flows, slots;
};

/* @raw_ip: frames begin with the IP header; @loopback: outgoing ones do not pass.  0 or -errno. */
int bypassload_load(bool raw_ip, bool loopback, struct bypassload *ret);

/* Closes what is not -1, and makes it so.  A program stays with the socket that has it, a map with
 * the program. */
void bypassload_close(struct bypassload *b);
