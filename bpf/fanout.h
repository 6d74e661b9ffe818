/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only) */
/* fanout.h - which of several decoders a connection belongs to: the same answer in the kernel,
 * where bpf/fanout.bpf.c deals frames out, and here, where it is checked.
 *
 * Pure.  Both directions of a connection have the same hash.  It is keyed, so that nobody outside
 * can aim connections at one decoder.  Addresses are words as they lie in memory: kernel and
 * process are of the same machine. */
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

/* One end: an IPv6 address in two words, an IPv4 address in @lo; the port in any byte order, but
 * always in the same. */
static inline uint64_t fanout_end(uint64_t secret, uint64_t hi, uint64_t lo, uint16_t port)
{
	return fanout_mix((secret ^ hi * 0x9e3779b97f4a7c15u ^ lo) + ((uint64_t)port << 40));
}

/* Hash of the connection between two ends, whichever comes first. */
static inline uint32_t fanout_hash(uint64_t end, uint64_t other)
{
	return (uint32_t)((end + other) * 0x9e3779b97f4a7c15u >> 32);
}
