/* fanout.h - the eBPF program that deals the frames of an interface out to several rings
 * (bpf/fanout.bpf.c), loaded into the kernel.  Needs CAP_BPF; without it afring_open_group() can do
 * with the kernel's own hash, which knows neither tunnels nor what an ICMP error quotes, and takes a
 * fragment for a connection of its own. */
#pragma once
#include "bpf/fanout.h"

struct segment;

/* Loads the program with @config.  Returns a descriptor, owned by the caller, who can close it as soon
 * as a group has it; -errno. */
int fanout_load(const struct fanout_config *config);

/* Which of @members the program gives @s to: addresses, ip_v and ports count. */
unsigned fanout_member(uint64_t secret, const struct segment *s, unsigned members);
