/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only) */
/* to_ebpf.h - a classic BPF program as eBPF instructions, to be put before an eBPF socket filter:
 * so a filter of the user's (capfilter.h) precedes bypass.bpf.c.
 *
 * The kernel runs classic programs in the same way: registers A and X become eBPF registers, and
 * BPF_LD_ABS and BPF_LD_IND end the program with 0 beyond the end of the frame (filter.rst).
 * Pure: no allocation, clock, log or global; any thread. */
#pragma once

struct bpf_insn;    /* <linux/bpf.h> */
struct sock_filter; /* <linux/filter.h> */

/* Writes at most @max instructions for the @n of @classic, whose context is a struct __sk_buff, and
 * returns their number; @insns may be NULL: only the number.  Where @classic jumps to its end, or
 * runs on beyond it, the result runs on beyond its own end, with the context in register 1 as at
 * the start of a program.
 *
 * -ENOSPC: @max is too small; -EINVAL: @classic jumps out of itself or has an
 * instruction that does not exist; -EOPNOTSUPP: it reads a value of the kernel's that eBPF programs
 * do not get (SKF_AD_HATYPE, SKF_AD_NLATTR, ...); -ENODATA: it does not come to its end. */
int to_ebpf(const struct sock_filter *classic, unsigned n, struct bpf_insn *insns, unsigned max);
