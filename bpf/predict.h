/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only) */
/* predict.h - header prediction: which segment of an open connection proves nothing new?
 *
 * One rule for the tracker's fast path (lib/flow/fastpath.c) and for the bypass (bypass.bpf.c).
 * The segment has ACK, and neither SYN, FIN nor RST; the caller checks the flags.  It is predicted
 * if it has the next octets in order, or none, acknowledges what was sent (RFC 9293 3.10.7.4), and
 * offers a window. */
#pragma once

/* The least window to believe in: what was offered may have been missed, and before RFC 7323 no
 * window was larger.  The largest that there is: RFC 7323 2.3. */
enum { WINDOW_FLOOR = 65535, WINDOW_MOST = 1 << 30 };

struct predict_side {	/* what is known of one side */
	unsigned next;	/* after the last octet that it sent */
	unsigned acked; /* its first octet that its peer has not acknowledged */
};

/* Is @ack one of what @peer sent and the sender has not acknowledged?  No, if one of them was not
 * seen: then acked is ahead of next. */
static inline _Bool predict_ack(struct predict_side peer, unsigned ack)
{
	return ack - peer.acked <= peer.next - peer.acked && peer.next - peer.acked <= WINDOW_MOST;
}

/* @most: how far the sender may be ahead of what the peer acknowledged. */
static inline _Bool predict(struct predict_side sender, struct predict_side peer, unsigned seq,
			    unsigned ack, unsigned window, unsigned most)
{
	return seq == sender.next && window && seq - sender.acked <= most && predict_ack(peer, ack);
}
