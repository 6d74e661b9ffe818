/* fanout.h - loads the eBPF program that assigns the frames of an interface to several rings
 * (bpf/fanout.bpf.c).  Needs CAP_BPF.  Without it afring_socket_group() can use the kernel's hash,
 * which handles neither tunnels nor ICMP errors, and separates fragments from their connection. */
#pragma once
#include <string.h>
#include "bpf/fanout.h"
#include "wire/segment.h"

/* Loads the program.  Returns a descriptor, which the caller can close once a group has the
 * program; -errno. */
int fanout_load(const struct fanout_config *config);

/* The program's hash of the connection of @s: of its addresses, ip_v and ports. */
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

/* The member that gets the segment (fanout_demux_bpf()). */
static inline unsigned fanout_member(uint64_t secret, const struct segment *s, unsigned members)
{
	return fanout_hash_of(secret, s) % members;
}
