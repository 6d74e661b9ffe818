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
#include "bpf/link.bpf.h"
#include "bpf/predict.h"
#include "wire/ip.h"
#include "wire/link.h"

enum { FIN = 1, SYN = 2, RST = 4, ACK = 16 };
enum { STREAK = 8 }; /* plain frames after the marker before bypassing starts */
enum { TCP_HEADER_MAX = 60 };

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

struct headers {
	__u32 ip, tcp; /* offsets */
	__u32 ip_len;  /* of the IP header; 0: BIG TCP */
	bool part;     /* first of several fragments */
};

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

static __always_inline int u8_at(struct __sk_buff *skb, __u32 off)
{
	__u8 v;

	return bpf_skb_load_bytes(skb, off, &v, 1) ? -1 : v;
}

static __always_inline bool ip4_parse(struct __sk_buff *skb, struct headers *p)
{
	__u8 h[10];

	if (bpf_skb_load_bytes(skb, p->ip, h, sizeof h))
		return false;
	unsigned frag = h[6] << 8 | h[7];

	if (h[9] != PROTO_TCP || frag & 0x1fff || h[0] < 0x45 || h[0] > 0x4f)
		return false;
	p->tcp = p->ip + (h[0] & 15) * 4;
	p->ip_len = h[2] << 8 | h[3];
	p->part = frag & 0x2000;
	return true;
}

/* Returns the offset of the TCP header that follows the IPv6 header at @ip, and PART; 0: no TCP.  A
 * global function, and an offset with known bounds, so that the verifier checks each header
 * once. */
enum { PART = 1 << 16 };
__noinline __u32 ip6_skip(struct __sk_buff *skb, __u32 ip);
__noinline __u32 ip6_skip(struct __sk_buff *skb, __u32 ip)
{
	__u32 at = (ip + 40) & 0xffff, part = 0;
	int next = u8_at(skb, ip + 6);

	for (int n = 0; n < IP6_MAX_HEADERS && next != PROTO_TCP; n++) {
		__u8 e[4] = { 0 };

		if (next < 0 || !ip6_header_len(next, 0) ||
		    bpf_skb_load_bytes(skb, at, e, next == IP6_FRAGMENT ? 4 : 2))
			return 0;
		if (next == IP6_FRAGMENT) {
			if ((e[2] << 8 | e[3]) & 0xfff8)
				return 0;
			part |= (e[3] & 1) << 16;
		}
		at = (at + ip6_header_len(next, e[1])) & 0xffff;
		next = e[0];
	}
	return next == PROTO_TCP ? at | part : 0;
}

static __always_inline bool ip6_parse(struct __sk_buff *skb, struct headers *p)
{
	__u8 h[8];

	if (bpf_skb_load_bytes(skb, p->ip, h, sizeof h) || h[0] >> 4 != 6)
		return false;
	__u32 plen = h[4] << 8 | h[5], at = ip6_skip(skb, p->ip);

	p->ip_len = plen ? 40 + plen : 0;
	p->tcp = at & 0xffff;
	p->part = at & PART;
	return at;
}

static __always_inline bool before(__u32 a, __u32 b)
{
	return (__s32)(a - b) < 0;
}

static __always_inline struct numbers numbers_of(struct __sk_buff *skb, const struct headers *p,
						 const struct tcp *t)
{
	__u32 wire = skb->len - p->ip, len = p->ip_len ? p->ip_len : wire, head = p->tcp - p->ip;
	__u32 hl = (t->doff >> 4) * 4;
	struct numbers n = { .seq = bpf_ntohl(t->seq),
			     .ack = bpf_ntohl(t->ack),
			     .window = bpf_ntohs(t->window) };

	n.usual = (t->flags & (SYN | FIN | RST | ACK)) == ACK && !p->part && hl >= 20 &&
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
	s->base_next[0] = s->next[0];
	s->base_next[1] = s->next[1];
	s->base_acked[0] = s->acked[0];
	s->base_acked[1] = s->acked[1];
	__sync_val_compare_and_swap(&s->phase, BYPASS_READY, BYPASS_BYPASSED);
}

/* A frame before the marker.  Frames that are in the ring already are not known here. */
static __always_inline void slot_learn(struct bypass_slot *s, unsigned d, const struct numbers *n)
{
	if (!n->usual)
		return;
	if (s->seen[d] && is_predicted(s, d, n)) {
		slot_update(s, d, n);
		if (n->payload && s->seen[!d] && before(s->base_next[d], n->end)) {
			s->marker = n->end;
			s->marker_dir = d;
			s->marked = 1;
		}
		return;
	}
	s->seen[d] = 1;
	if (before(s->next[d], n->end))
		s->next[d] = n->end;
	if (before(s->acked[!d], n->ack))
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

static __always_inline struct bypass_slot *slot_lookup(struct __sk_buff *skb,
						       const struct headers *p, int version,
						       const struct tcp *t, unsigned *ret_d)
{
	struct bypass_key key = { .sport = t->sport, .dport = t->dport, .ip_v = version };

	if (version == 4) {
		bpf_skb_load_bytes(skb, p->ip + 12, key.src, 4);
		bpf_skb_load_bytes(skb, p->ip + 16, key.dst, 4);
	} else {
		bpf_skb_load_bytes(skb, p->ip + 8, key.src, 16);
		bpf_skb_load_bytes(skb, p->ip + 24, key.dst, 16);
	}
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
	struct headers p = { .ip = 0 };
	int version = raw_ip ? version_at(skb, 0) : skb_ethernet_walk(skb, &p.ip);
	struct tcp t;
	unsigned d = 0;

	if (loopback && skb->pkt_type == PACKET_OUTGOING)
		return 0;
	if (!version || !(version == 4 ? ip4_parse(skb, &p) : ip6_parse(skb, &p)) ||
	    u8_at(skb, p.tcp) < 0)
		return 0;

	int pass = p.tcp + TCP_HEADER_MAX;

	if (bpf_skb_load_bytes(skb, p.tcp, &t, sizeof t))
		return pass;

	struct bypass_slot *s = slot_lookup(skb, &p, version, &t, &d);

	if (!s)
		return pass;
	d &= 1;

	struct numbers n = numbers_of(skb, &p, &t);
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
