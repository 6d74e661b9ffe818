/* fanout.h - the eBPF program that deals the frames of an interface out to several rings
 * (bpf/fanout.bpf.c), loaded into the kernel.  Needs CAP_BPF; without it
 * afring_socket_group() can use the kernel's own hash, which ignores tunnels and what an ICMP error
 * quotes, and takes a fragment for a connection of its own. */
#pragma once
#include <string.h>
#include "bpf/fanout.h"
#include "wire/segment.h"

/* Loads the program with @config.  Returns a descriptor, owned by the caller, who can close it as
 * soon as a group has it; -errno. */
int fanout_load(const struct fanout_config *config);

/* What the program computes for the connection of @s: of it addresses, ip_v and ports count. */
static inline uint32_t fanout_hash_of(uint64_t secret, const struct segment *s)
{
	uint64_t src[2] = { 0 }, dst[2] = { 0 };
	uint32_t a;

	if (s->ip_v == 4) {
		memcpy(&a, s->src, sizeof a);
		src[1] = a;
		memcpy(&a, s->dst, sizeof a);
		dst[1] = a;
	} else {
		memcpy(src, s->src, sizeof src);
		memcpy(dst, s->dst, sizeof dst);
	}
	return fanout_hash(fanout_end(secret, src[0], src[1], s->sport),
			   fanout_end(secret, dst[0], dst[1], s->dport));
}

/* Which of @members the kernel then gives it to (fanout_demux_bpf()). */
static inline unsigned fanout_member(uint64_t secret, const struct segment *s, unsigned members)
{
	return fanout_hash_of(secret, s) % members;
}
