/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only) */
/* The filter of mode=auto.  It passes what tcp_filter.c passes, but for plain segments of the
 * connections in `slots`: in order, with the ACK and the window of an open connection, they prove
 * nothing that is not known (flow/guard.h, guard_is_plain()), so that counting them is enough.
 *
 * Link and IP headers are read as tcp_filter.c does; tests/unit/test_bulk.c holds both against
 * each other.  Socket filters get no pointer into the frame: all reads are copies. */
#include <linux/bpf.h>
#include <linux/if_packet.h>
#include <stdbool.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>
#include "bpf/bulk.h"
#include "wire/link.h"

enum { FIN = 1, SYN = 2, RST = 4, ACK = 16 };
enum { STREAK = 8 }; /* plain frames behind the marker before the first one is withheld */
enum { TCP_HEADER_MAX = 60 };

const volatile __u32 raw_ip;   /* frames begin with the IP header */
const volatile __u32 loopback; /* each frame is seen twice: as it goes out, and as it comes in */

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 2 * BULK_SLOTS);
	__type(key, struct bulk_key);
	__type(value, __u32); /* slot << 1 | direction */
} flows SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, BULK_SLOTS);
	__type(key, __u32);
	__type(value, struct bulk_slot);
} slots SEC(".maps");

struct place {
	__u32 ip, tcp; /* offsets */
	__u32 ip_len;  /* as the IP header says; 0: BIG TCP */
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
	bool usual; /* ACK without SYN, FIN and RST, and lengths that agree */
};

static __always_inline int u8_at(struct __sk_buff *skb, __u32 off)
{
	__u8 v;

	return bpf_skb_load_bytes(skb, off, &v, 1) ? -1 : v;
}

static __always_inline int be16_at(struct __sk_buff *skb, __u32 off)
{
	__be16 v;

	return bpf_skb_load_bytes(skb, off, &v, 2) ? -1 : bpf_ntohs(v);
}

/* Both return the IP version by which to go on, or 0; *off moves to the IP header. */
static __always_inline int by_version(struct __sk_buff *skb, __u32 off)
{
	int v = u8_at(skb, off);

	return v < 0 ? 0 : v >= 0x60 ? 6 : 4;
}

static __always_inline int mpls(struct __sk_buff *skb, __u32 *off)
{
	for (int n = 0; n < LINK_MAX_MPLS; n++) {
		int bottom = u8_at(skb, *off + 2);

		*off += 4;
		if (bottom < 0)
			return 0;
		if (bottom & 1)
			return by_version(skb, *off);
	}
	return 0;
}

static __always_inline int by_type(int type)
{
	return type == 0x0800 ? 4 : type == 0x86dd ? 6 : 0;
}

static __always_inline int pppoe(struct __sk_buff *skb, __u32 *off)
{
	int protocol = be16_at(skb, *off + 6);

	if (be16_at(skb, *off) != 0x1100)
		return 0;
	*off += 8;
	return protocol == 0x0021 ? 4 : protocol == 0x0057 ? 6 : 0;
}

static __always_inline int snap(struct __sk_buff *skb, __u32 *off)
{
	if (be16_at(skb, *off) != 0xaaaa || be16_at(skb, *off + 2) != 0x0300 ||
	    be16_at(skb, *off + 4) != 0)
		return 0;
	*off += 8;
	return by_type(be16_at(skb, *off - 2));
}

static __always_inline int ethernet(struct __sk_buff *skb, __u32 *off)
{
	int type = be16_at(skb, 12);

	*off = 14;
	for (int tag = 0; tag < LINK_MAX_VLAN; tag++) {
		if (type != 0x8100 && type != 0x88a8 && type != 0x9100)
			break;
		type = be16_at(skb, *off + 2);
		*off += 4;
	}
	if (type < 0)
		return 0;
	if (type == 0x8847 || type == 0x8848)
		return mpls(skb, off);
	if (type == 0x8864)
		return pppoe(skb, off);
	return type < 0x0600 ? snap(skb, off) : by_type(type);
}

static __always_inline bool ip4(struct __sk_buff *skb, struct place *p)
{
	__u8 h[10];

	if (bpf_skb_load_bytes(skb, p->ip, h, sizeof h))
		return false;
	unsigned frag = h[6] << 8 | h[7];

	if (h[9] != 6 || frag & 0x1fff || h[0] < 0x45 || h[0] > 0x4f)
		return false;
	p->tcp = p->ip + (h[0] & 15) * 4;
	p->ip_len = h[2] << 8 | h[3];
	p->part = frag & 0x2000;
	return true;
}

/* What follows the IPv6 header at @ip: offset of TCP, and PART; 0: something else.  A function of
 * its own (not static), and an offset without history, so that the verifier looks at each header once. */
enum { PART = 1 << 16 };
__noinline __u32 ip6_walk(struct __sk_buff *skb, __u32 ip);
__noinline __u32 ip6_walk(struct __sk_buff *skb, __u32 ip)
{
	__u32 at = (ip + 40) & 0xffff, part = 0;
	int next = u8_at(skb, ip + 6);

	for (int n = 0; n < IP6_MAX_HEADERS && next != 6; n++) {
		__u8 e[4] = { 0 };

		if (next < 0 || bpf_skb_load_bytes(skb, at, e, next == 44 ? 4 : 2))
			return 0;
		__u32 len = (e[1] + 1) * 8;

		if (next == 44) {
			if ((e[2] << 8 | e[3]) & 0xfff8)
				return 0;
			part |= (e[3] & 1) << 16;
			len = 8;
		} else if (next == 51) {
			len = (e[1] + 2) * 4;
		} else if (next != 0 && next != 43 && next != 60 && next != 135 && next != 139 &&
			   next != 140) {
			return 0;
		}
		at = (at + len) & 0xffff;
		next = e[0];
	}
	return next == 6 ? at | part : 0;
}

static __always_inline bool ip6(struct __sk_buff *skb, struct place *p)
{
	__u8 h[8];

	if (bpf_skb_load_bytes(skb, p->ip, h, sizeof h) || h[0] >> 4 != 6)
		return false;
	__u32 plen = h[4] << 8 | h[5], at = ip6_walk(skb, p->ip);

	p->ip_len = plen ? 40 + plen : 0;
	p->tcp = at & 0xffff;
	p->part = at & PART;
	return at;
}

static __always_inline bool before(__u32 a, __u32 b)
{
	return (__s32)(a - b) < 0;
}

static __always_inline struct numbers numbers_of(struct __sk_buff *skb, const struct place *p,
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

/* guard_is_plain(), with the window as the long way would look at it. */
static __always_inline bool is_plain(const struct bulk_slot *s, unsigned d, const struct numbers *n)
{
	unsigned peer = !d;
	__u64 window = (__u64)s->window[peer] << (s->shift[peer] & 15);

	if (window < BULK_WINDOW_FLOOR)
		window = BULK_WINDOW_FLOOR;
	return n->usual && n->window && n->seq == s->next[d] && n->seq - s->acked[d] <= window &&
	       n->ack - s->acked[peer] <= s->next[peer] - s->acked[peer] &&
	       s->next[peer] - s->acked[peer] <= BULK_WINDOW_MOST &&
	       s->may[d] & (n->payload ? BULK_MAY_DATA : BULK_MAY_ACK);
}

/* guard_learn_plain() */
static __always_inline void take(struct bulk_slot *s, unsigned d, const struct numbers *n)
{
	s->next[d] = n->end;
	s->acked[!d] = n->ack;
	s->window[d] = n->window;
}

/* A frame that passes behind the marker.  The last one that passes has data: no other frame ends where
 * it does, so that user space knows it again. */
static __always_inline void follow(struct bulk_slot *s, __u32 phase, unsigned d,
				   const struct numbers *n)
{
	if (!is_plain(s, d, n)) {
		s->odd = 1;
		return;
	}
	take(s, d, n);
	s->streak++;
	if (phase != BULK_READY || !n->payload || s->streak < STREAK)
		return;
	s->base_next[0] = s->next[0];
	s->base_next[1] = s->next[1];
	s->base_acked[0] = s->acked[0];
	s->base_acked[1] = s->acked[1];
	__sync_val_compare_and_swap(&s->phase, BULK_READY, BULK_WITHHELD);
}

/* A frame before the marker: what is in the ring before it is not known here. */
static __always_inline void learn(struct bulk_slot *s, unsigned d, const struct numbers *n)
{
	if (!n->usual)
		return;
	if (s->seen[d] && is_plain(s, d, n)) {
		take(s, d, n);
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

/* What the frame was on the wire, as count_wire() in wire/frame.c. */
static __always_inline void count(struct __sk_buff *skb, struct bulk_count *c, __u32 payload)
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

static __always_inline struct bulk_slot *slot_of(struct __sk_buff *skb, const struct place *p,
						 int version, const struct tcp *t, unsigned *ret_d)
{
	struct bulk_key key = { .sport = t->sport, .dport = t->dport, .ip_v = version };

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
int bulk(struct __sk_buff *skb)
{
	struct place p = { .ip = 0 };
	int version = raw_ip ? by_version(skb, 0) : ethernet(skb, &p.ip);
	struct tcp t;
	unsigned d = 0;

	if (loopback && skb->pkt_type == PACKET_OUTGOING)
		return 0;
	if (!version || !(version == 4 ? ip4(skb, &p) : ip6(skb, &p)) || u8_at(skb, p.tcp) < 0)
		return 0;

	int pass = p.tcp + TCP_HEADER_MAX;

	if (bpf_skb_load_bytes(skb, p.tcp, &t, sizeof t))
		return pass;

	struct bulk_slot *s = slot_of(skb, &p, version, &t, &d);

	if (!s)
		return pass;
	d &= 1;

	struct numbers n = numbers_of(skb, &p, &t);
	__u32 phase = *(volatile __u32 *)&s->phase;

	if ((phase == BULK_ARMED || phase == BULK_READY) && !s->odd) {
		if (s->marked)
			follow(s, phase, d, &n);
		else
			learn(s, d, &n);
	}
	if (phase != BULK_WITHHELD)
		return pass;
	if (!is_plain(s, d, &n)) {
		__sync_val_compare_and_swap(&s->phase, BULK_WITHHELD, BULK_FROZEN);
		return pass;
	}
	take(s, d, &n);
	count(skb, &s->count[d], n.payload);
	return 0;
}

char licence_of_bulk[] SEC("license") = "Dual BSD/GPL";
