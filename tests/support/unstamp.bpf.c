/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only) */
/* Takes the time of departure off what leaves a device: "tc filter ... egress".
 *
 * TCP leaves it in the frame, it survives the way to a peer's namespace (skb_clear_tstamp() keeps a
 * monotonic time), and there the kernel takes the frame for stamped, while packet sockets do not:
 * each asks the clock for itself.  Without it the kernel stamps the frame once, for all. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

SEC("tc")
int unstamp(struct __sk_buff *skb)
{
	bpf_skb_set_tstamp(skb, 0, BPF_SKB_TSTAMP_UNSPEC);
	return -1; /* TC_ACT_UNSPEC: goes on as if nothing had been here */
}

char _license[] SEC("license") = "Dual BSD/GPL";
