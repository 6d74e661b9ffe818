/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only) */
/* The filter of mode=auto.  It passes what tcp_filter.c passes, except plain segments of the
 * connections in `slots`.  A plain segment is in order and has the expected ACK and window of an
 * open connection.  It changes no state (flow/segment_check.h, fastpath_predict_open()), so
 * counting it is enough.
 *
 * It reads link and IP headers as tcp_filter.c does; tests/unit/test_tcp_filter.c compares both. */
#include <linux/bpf.h>
#include <linux/if_packet.h>
#include <stdbool.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>
#include "bpf/bypass.h"
#include "bpf/ip.bpf.h"
#include "bpf/link.bpf.h"
#include "bpf/predict.h"
#include "wire/seq.h"

enum { FIN = 1, SYN = 2, RST = 4, ACK = 16 };
enum { STREAK = 8 }; /* plain frames after the marker before bypassing starts */
enum { TCP_FIXED = 20 };

const volatile __u32 raw_ip;   /* frames begin with the IP header */
const volatile __u32 loopback; /* each frame is seen twice, outgoing and incoming */

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 2 * BYPASS_SLOTS);
	__type(key, struct bypass_key);
	__type(value, __u32); /* slot << 1 | direction */
} flows SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, BYPASS_SLOTS);
	__type(key, __u32);
	__type(value, struct bypass_slot);
} slots SEC(".maps");

struct tcp {
	__be16 sport, dport;
	__be32 seq, ack;
	__u8 doff, flags;
	__be16 window;
	__be32 rest;
};

struct numbers { /* of a segment */
	__u32 seq, ack, end, payload, window;
	bool usual; /* ACK without SYN, FIN and RST, and consistent lengths */
};

static __always_inline struct numbers numbers_of(struct __sk_buff *skb, __u32 at,
						 const struct ip *ip, const struct tcp *t)
{
	__u32 wire = skb->len - at, len = ip->len ? ip->len : wire, head = ip->at - at;
	__u32 hl = (t->doff >> 4) * 4;
	struct numbers n = { .seq = bpf_ntohl(t->seq),
			     .ack = bpf_ntohl(t->ack),
			     .window = bpf_ntohs(t->window) };

	n.usual = (t->flags & (SYN | FIN | RST | ACK)) == ACK && !ip->part && hl >= 20 &&
		  head + hl <= len && len <= wire;
	n.payload = len - head - hl;
	n.end = n.seq + n.payload;
	return n;
}

/* Is it predicted, by the window as the general path would look at it? */
static __always_inline bool is_predicted(const struct bypass_slot *s, unsigned d,
					 const struct numbers *n)
{
	unsigned peer = !d;
	__u32 window = s->window[peer] << (s->shift[peer] & 15);
	__u32 most = window < WINDOW_FLOOR ? WINDOW_FLOOR : window;

	return n->usual &&
	       predict((struct predict_side){ s->next[d], s->acked[d] },
		       (struct predict_side){ s->next[peer], s->acked[peer] }, n->seq, n->ack,
		       n->window, most) &&
	       s->may[d] & (n->payload ? BYPASS_MAY_DATA : BYPASS_MAY_ACK);
}

/* As the fast path learns. */
static __always_inline void slot_update(struct bypass_slot *s, unsigned d, const struct numbers *n)
{
	s->next[d] = n->end;
	s->acked[!d] = n->ack;
	s->window[d] = n->window;
}

/* A frame that passes after the marker.  The last one that passes has data, so no other frame has
 * the same end, and user space recognises it. */
static __always_inline void slot_follow(struct bypass_slot *s, __u32 phase, unsigned d,
					const struct numbers *n)
{
	if (!is_predicted(s, d, n)) {
		s->unpredicted = 1;
		return;
	}
	slot_update(s, d, n);
	s->streak++;
	if (phase != BYPASS_READY || !n->payload || s->streak < STREAK)
		return;
	__builtin_memcpy(s->base_next, s->next, sizeof s->next);
	__builtin_memcpy(s->base_acked, s->acked, sizeof s->acked);
	__sync_val_compare_and_swap(&s->phase, BYPASS_READY, BYPASS_BYPASSED);
}

/* A frame before the marker.  Frames that are in the ring already are not known here. */
static __always_inline void slot_learn(struct bypass_slot *s, unsigned d, const struct numbers *n)
{
	if (!n->usual)
		return;
	if (s->seen[d] && is_predicted(s, d, n)) {
		slot_update(s, d, n);
		if (n->payload && s->seen[!d] && seq_lt(s->base_next[d], n->end)) {
			s->marker = n->end;
			s->marker_dir = d;
			s->marked = 1;
		}
		return;
	}
	s->seen[d] = 1;
	if (seq_lt(s->next[d], n->end))
		s->next[d] = n->end;
	if (seq_lt(s->acked[!d], n->ack))
		s->acked[!d] = n->ack;
	s->window[d] = n->window;
}

/* Counts the frame as it was on the wire, like count_wire() in wire/frame.c. */
static __always_inline void slot_count(struct __sk_buff *skb, struct bypass_count *c, __u32 payload)
{
	__u32 segs = 1, gso = skb->gso_size, len = skb->len;

	if (gso && payload > gso && payload < len)
		segs = (payload + gso - 1) / gso;
	if (segs > 65535)
		segs = 65535;
	__sync_fetch_and_add(&c->pkts, segs);
	__sync_fetch_and_add(&c->wire, len + (__u64)(segs - 1) * (len - payload));
	__sync_fetch_and_add(&c->payload, payload);
	c->last_ns = bpf_ktime_get_ns();
}

static __always_inline struct bypass_slot *
slot_lookup(struct __sk_buff *skb, unsigned version, __u32 at, const struct tcp *t, unsigned *ret_d)
{
	struct bypass_key key = { .sport = t->sport, .dport = t->dport, .ip_v = version };

	__u32 n = version == 4 ? 4 : 16, addresses = at + (version == 4 ? 12 : 8);

	bpf_skb_load_bytes(skb, addresses, key.src, n);
	bpf_skb_load_bytes(skb, addresses + n, key.dst, n);
	__u32 *where = bpf_map_lookup_elem(&flows, &key);

	if (!where)
		return NULL;
	__u32 slot = *where >> 1;

	*ret_d = *where & 1;
	return bpf_map_lookup_elem(&slots, &slot);
}

SEC("socket")
int bypass(struct __sk_buff *skb)
{
	__u32 at = 0;
	unsigned version = raw_ip ? version_at(skb, 0) : skb_ethernet_walk(skb, &at);
	struct ip ip;
	struct tcp t;
	__u8 first;
	unsigned d = 0;

	if (loopback && skb->pkt_type == PACKET_OUTGOING)
		return 0;
	if (!version || !skb_ip_walk(skb, version, at, &ip) || ip.proto != PROTO_TCP ||
	    !LOAD(skb, ip.at, &first))
		return 0;

	/* The length that tcp_filter.c copies: up to the end of the header, without payload. */
	__u32 hl = LOAD(skb, ip.at + 12, &first) ? (first >> 4) * 4 : 0;
	int pass = ip.at + (hl < TCP_FIXED ? TCP_FIXED : hl);

	if (!LOAD(skb, ip.at, &t))
		return pass;

	struct bypass_slot *s = slot_lookup(skb, version, at, &t, &d);

	if (!s)
		return pass;
	d &= 1;

	struct numbers n = numbers_of(skb, at, &ip, &t);
	__u32 phase = *(volatile __u32 *)&s->phase;

	if ((phase == BYPASS_ARMED || phase == BYPASS_READY) && !s->unpredicted) {
		if (s->marked)
			slot_follow(s, phase, d, &n);
		else
			slot_learn(s, d, &n);
	}
	if (phase != BYPASS_BYPASSED)
		return pass;
	if (!is_predicted(s, d, &n)) {
		__sync_val_compare_and_swap(&s->phase, BYPASS_BYPASSED, BYPASS_FROZEN);
		return pass;
	}
	slot_update(s, d, &n);
	slot_count(skb, &s->count[d], n.payload);
	return 0;
}

char licence_of_bypass[] SEC("license") = "Dual BSD/GPL";
