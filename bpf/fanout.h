/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only) */
/* fanout.h - assigns a connection to one of several decoders.  bpf/fanout.bpf.c uses it in the
 * kernel and the daemon uses it to check.
 *
 * Pure.  Both directions of a connection have the same hash.  It is keyed, so that an attacker
 * cannot direct connections to one decoder.  Addresses are words as they lie in memory: kernel and
 * process are on the same machine. */
#pragma once
#include <stdint.h>

/* Constants of the program, set before it is loaded. */
struct fanout_config {
	uint64_t secret;
	uint32_t inner;	 /* sum of enum frame_inner, "wire/frame.h" */
	uint32_t raw_ip; /* frames begin with the IP header; else they are Ethernet */
};

/* The finalizer of MurmurHash3 (Appleby): each bit of @x changes each bit of the result. */
static inline uint64_t fanout_mix(uint64_t x)
{
	x = (x ^ x >> 33) * 0xff51afd7ed558ccdu;
	x = (x ^ x >> 33) * 0xc4ceb9fe1a85ec53u;
	return x ^ x >> 33;
}

/* Hash of one end: an IPv6 address in two words, or an IPv4 address in @lo.  The port is always in
 * the same byte order. */
static inline uint64_t fanout_end(uint64_t secret, uint64_t hi, uint64_t lo, uint16_t port)
{
	return fanout_mix((secret ^ hi * 0x9e3779b97f4a7c15u ^ lo) + ((uint64_t)port << 40));
}

/* Hash of the connection between two ends, in either order. */
static inline uint32_t fanout_hash(uint64_t end, uint64_t other)
{
	return (uint32_t)((end + other) * 0x9e3779b97f4a7c15u >> 32);
}
