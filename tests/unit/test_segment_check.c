#include <string.h>
#include "base/cc.h"
#include "flow/conn.h"
#include "flow/entry.h"
#include "flow/fastpath.h"
#include "flow/gaps.h"
#include "flow/segment_check.h"
#include "tests/support/rand.h"
#include "tests/support/tap.h"
#include "wire/segment.h"
#include "wire/tcpopt.h"

/* Every case runs from each of these: numbers that stay clear of a turn, and ones across it. */
static const uint32_t bases[] = { 1000000, 0xffffffff, 0xffffffe0, 0x7ffffff0 };
static uint32_t at;	 /* the client's ISN */
static struct gaps gaps; /* of the connection under test; open_with() has none */

enum { PEER = 0x5000 /* the server's ISN is so far from the client's */, FLOOR = 65535 };
enum { WIN_A = 3000, WIN_B = 1000 };

static struct segment seg(unsigned flags, uint32_t seq, uint32_t ack, uint32_t len)
{
	return (struct segment){ .flags = (uint16_t)flags,
				 .seq = seq,
				 .ack = ack,
				 .payload_len = len,
				 .window = 500,
				 .wire_segs = 1 };
}

static struct verdict prove(struct conn c, enum fsm_side from, struct segment s)
{
	return segment_check(&c, from, &s, &gaps);
}

static struct conn after_syn(uint32_t data)
{
	return (struct conn){ .state = FSM_SYN,
			      .isn = at,
			      .next = { at + 1 + data },
			      .acked = { at },
			      .tally = { conn_tally(1, 0, WIN_A) },
			      .payload_lo = { data },
			      .wscale0 = TCPOPT_WSCALE_NONE,
			      .wscale1 = TCPOPT_WSCALE_NONE,
			      .sent = 1,
			      .heard = 1 };
}

static struct conn after_syn_ack(void)
{
	struct conn c = after_syn(0);

	c.state = FSM_ANSWERED;
	c.acked[SIDE_A] = at + 1;
	c.next[SIDE_B] = at + PEER + 1;
	c.acked[SIDE_B] = at + PEER;
	c.tally[SIDE_B] = conn_tally(1, 0, WIN_B);
	c.sent = c.heard = 3;
	return c;
}

/* Established; the client has @flight octets on their way. */
static struct conn open_with(uint32_t flight)
{
	struct conn c = after_syn_ack();

	c.state = FSM_OPEN;
	c.payload_hi[0] = c.payload_hi[1] = 0;
	c.gap_bytes = c.gaps = 0;
	gaps = gaps_none;
	c.next[SIDE_A] = at + 1 + flight;
	c.acked[SIDE_B] = at + PEER + 1;
	return c;
}

/* ... and its FIN after them, not acknowledged. */
static struct conn fin_with(uint32_t flight)
{
	struct conn c = open_with(flight);

	c.state = FSM_FIN_A;
	c.next[SIDE_A]++;
	return c;
}

static bool is_anomaly(struct verdict p, enum anomaly a)
{
	return p.anomaly == a && !p.evidence && !p.acceptable && !p.repeat;
}

static bool is_proof(struct verdict p, unsigned evidence)
{
	return p.evidence == evidence && p.anomaly == ANOMALY_NONE && p.acceptable && !p.repeat;
}

static bool is_repeat(struct verdict p)
{
	return p.repeat && !p.evidence && p.anomaly == ANOMALY_NONE;
}

enum { ACK = 1 << EV_ACK, ACK_FIN = 1 << EV_ACK_FIN, DATA = 1 << EV_DATA, FIN = 1 << EV_FIN };
enum { FILL = 1 << EV_FILL };

/* ---- opening -------------------------------------------------------------------------------- */

static void test_syn(void)
{
	struct conn none = { .state = FSM_NONE };

	ok(is_proof(prove(none, SIDE_A, seg(TCP_SYN, at, 0, 0)), 1 << EV_SYN),
	   "the first SYN opens");
	ok(is_repeat(prove(after_syn(0), SIDE_A, seg(TCP_SYN, at, 0, 0))),
	   "a SYN with the same ISN is a repetition");
	ok(is_repeat(prove(open_with(0), SIDE_A, seg(TCP_SYN, at, 0, 0))),
	   "and still is when it comes late");
	ok(is_anomaly(prove(open_with(0), SIDE_A, seg(TCP_SYN, at + 1, 0, 0)), ANOMALY_SYN_IN_OPEN),
	   "a SYN one off is another one (RFC 5961 4)");
	ok(is_anomaly(prove(open_with(0), SIDE_B, seg(TCP_SYN, at + PEER + 7, 0, 0)),
		      ANOMALY_SYN_IN_OPEN),
	   "so is the server's");
	ok(is_proof(prove(after_syn(0), SIDE_B, seg(TCP_SYN, at + PEER, 0, 0)), 1 << EV_SYN),
	   "the server's SYN crosses the client's");
}

static void test_syn_ack(void)
{
	struct conn c = after_syn(0), tfo = after_syn(10);
	unsigned f = TCP_SYN | TCP_ACK;
	struct verdict p;

	ok(is_anomaly(prove(c, SIDE_B, seg(f, at + PEER, at, 0)), ANOMALY_BAD_ACK),
	   "SYN-ACK of the ISN itself: it acknowledges nothing");
	ok(is_proof(prove(c, SIDE_B, seg(f, at + PEER, at + 1, 0)), 1 << EV_SYN_ACK),
	   "SYN-ACK of ISN + 1: the answer");
	ok(is_anomaly(prove(c, SIDE_B, seg(f, at + PEER, at + 2, 0)), ANOMALY_BAD_ACK),
	   "SYN-ACK of ISN + 2: more than was sent");
	ok(is_anomaly(prove(c, SIDE_B, seg(f, at + PEER, at + 1 + (1u << 31), 0)), ANOMALY_BAD_ACK),
	   "SYN-ACK half the numbers away");
	p = prove(tfo, SIDE_B, seg(f, at + PEER, at + 1, 0));
	ok(is_proof(p, 1 << EV_SYN_ACK) && p.refuses_data,
	   "data on the SYN, of which it takes none");
	p = prove(tfo, SIDE_B, seg(f, at + PEER, at + 11, 0));
	ok(is_proof(p, 1 << EV_SYN_ACK) && !p.refuses_data, "Fast Open: it takes all the data");
	ok(is_anomaly(prove(tfo, SIDE_B, seg(f, at + PEER, at + 12, 0)), ANOMALY_BAD_ACK),
	   "Fast Open: it cannot take more");
	ok(is_anomaly(prove(c, SIDE_A, seg(f, at, at + PEER + 1, 0)), ANOMALY_SYN_ACK_UNEXPECTED),
	   "a client does not answer itself");

	c = after_syn_ack();
	p = prove(c, SIDE_B, seg(f, at + PEER, at + 1, 0));
	ok(p.repeat && p.acceptable && p.anomaly == ANOMALY_NONE, "SYN-ACK again: a repetition");
	c = open_with(0);
	ok(is_repeat(prove(c, SIDE_B, seg(f, at + PEER, at + 1, 0))),
	   "SYN-ACK after the handshake: a repetition that moves nothing");
	ok(is_anomaly(prove(c, SIDE_B, seg(f, at + PEER, at + 2, 0)), ANOMALY_SYN_ACK_UNEXPECTED),
	   "SYN-ACK after the handshake, one off");
	ok(is_anomaly(prove(c, SIDE_A, seg(f, at, at + PEER + 1, 0)), ANOMALY_SYN_ACK_UNEXPECTED),
	   "SYN-ACK by the client after the handshake");

	c = after_syn(0); /* its ACK came first: another RX queue */
	c.state = FSM_CLAIMED;
	c.acked[SIDE_B] = at + PEER + 1;
	c.heard = 3;
	ok(is_proof(prove(c, SIDE_B, seg(f, at + PEER, at + 1, 0)), 1 << EV_SYN_ACK),
	   "SYN-ACK after the ACK that it caused");
	ok(is_anomaly(prove(c, SIDE_B, seg(f, at + PEER + 1, at + 1, 0)), ANOMALY_BAD_ACK),
	   "another SYN-ACK than the one that was acknowledged");
}

static void test_syn_window(void)
{
	struct conn c = after_syn(0);
	struct segment sa = seg(TCP_SYN | TCP_ACK, at + PEER, at + 1, 0);

	c.wscale0 = c.wscale1 = 7; /* the tracker has read the options by then */
	segment_learn(&c, SIDE_B, &sa, segment_check(&c, SIDE_B, &sa, &gaps), &gaps);
	c.state = FSM_OPEN;
	/* 500 octets, not 500 << 7; up to a granule of 128 more cannot be known. */
	ok(prove(c, SIDE_A, seg(TCP_FIN | TCP_ACK, at + 1 + 400, at + PEER + 1, 0)).evidence &
			   (1 << EV_FIN_GAP_OWN) &&
		   is_anomaly(
			   prove(c, SIDE_A, seg(TCP_FIN | TCP_ACK, at + 1 + 640, at + PEER + 1, 0)),
			   ANOMALY_FIN_OUT_OF_WINDOW),
	   "the window in a SYN-ACK is not scaled (RFC 7323 2.2)");

	c = (struct conn){ .state = FSM_NONE, .wscale0 = 7, .wscale1 = TCPOPT_WSCALE_NONE };
	struct segment syn = seg(TCP_SYN, at, 0, 0);

	syn.window = 2000;

	segment_learn(&c, SIDE_A, &syn, segment_check(&c, SIDE_A, &syn, &gaps), &gaps);
	c.state = FSM_SYN;
	c.isn = at;
	c.tally[SIDE_A] = conn_tally(1, 0, conn_window(&c.hot, SIDE_A));
	c.wscale1 = 7;
	segment_learn(&c, SIDE_B, &sa, segment_check(&c, SIDE_B, &sa, &gaps), &gaps);
	c.state = FSM_ANSWERED;
	ok(!prove(c, SIDE_B, seg(TCP_FIN | TCP_ACK, at + PEER + 1 + 70000, at + 1, 0)).evidence,
	   "nor is the one in the SYN, when the SYN-ACK agrees to scaling afterwards");
}

/* ---- RST ------------------------------------------------------------------------------------ */

static bool is_exact(struct verdict p)
{
	return p.evidence == 1 << EV_RST && p.anomaly == ANOMALY_NONE && !p.suspect;
}

static bool is_suspect(struct verdict p)
{
	return !p.evidence && p.suspect && p.anomaly == ANOMALY_RST_IN_WINDOW;
}

static void test_rst(void)
{
	struct conn c = open_with(100);
	uint32_t nxt = at + 1;

	ok(is_exact(prove(c, SIDE_A, seg(TCP_RST, nxt, 0, 0))),
	   "RST where everything is acknowledged up to");
	ok(is_exact(prove(c, SIDE_A, seg(TCP_RST, nxt + 50, 0, 0))),
	   "RST within what is in flight: the receiver may be anywhere there");
	ok(is_exact(prove(c, SIDE_A, seg(TCP_RST, nxt + 100, 0, 0))),
	   "RST after what is in flight");
	ok(is_suspect(prove(c, SIDE_A, seg(TCP_RST, nxt + 101, 0, 0))),
	   "RST one beyond: suspect (RFC 5961 3)");
	ok(is_suspect(prove(c, SIDE_A, seg(TCP_RST, nxt + WIN_B - 1, 0, 0))),
	   "RST at the last number of the window: suspect");
	ok(is_anomaly(prove(c, SIDE_A, seg(TCP_RST, nxt + WIN_B + 2, 0, 0)),
		      ANOMALY_RST_OUT_OF_WINDOW),
	   "RST beyond the window");
	ok(is_anomaly(prove(c, SIDE_A, seg(TCP_RST, nxt - 1, 0, 0)), ANOMALY_RST_OUT_OF_WINDOW),
	   "RST one before what is acknowledged");
	ok(is_anomaly(prove(c, SIDE_A, seg(TCP_RST, nxt + (1u << 31), 0, 0)),
		      ANOMALY_RST_OUT_OF_WINDOW),
	   "RST half the numbers away");
	ok(is_exact(prove(c, SIDE_B, seg(TCP_RST | TCP_ACK, at + PEER + 1, nxt, 0))),
	   "the server's RST, exact");
	ok(is_suspect(prove(c, SIDE_B, seg(TCP_RST, at + PEER + 2, 0, 0))),
	   "the server's RST, one beyond");

	c.wscale0 = c.wscale1 = 4;
	ok(is_suspect(prove(c, SIDE_A, seg(TCP_RST, nxt + (WIN_B << 4) - 1, 0, 0))),
	   "RST at the last number of a scaled window: suspect");
	ok(is_anomaly(prove(c, SIDE_A, seg(TCP_RST, nxt + ((WIN_B + 1) << 4) + 1, 0, 0)),
		      ANOMALY_RST_OUT_OF_WINDOW),
	   "RST beyond a scaled window");

	c = open_with(0);
	c.sent = c.heard = 0;
	c.direction = DIRECTION_PORT;
	ok(is_suspect(prove(c, SIDE_A, seg(TCP_RST, nxt, 0, 0))),
	   "RST of a side that nothing is known of: suspect");
}

static void test_rst_in_handshake(void)
{
	struct conn c = after_syn(0), again = after_syn_ack();

	ok(is_exact(prove(c, SIDE_B, seg(TCP_RST | TCP_ACK, 0, at + 1, 0))),
	   "in SYN-SENT a RST that acknowledges the SYN refuses (RFC 9293 3.10.7.3)");
	ok(is_anomaly(prove(c, SIDE_B, seg(TCP_RST | TCP_ACK, 0, at, 0)), ANOMALY_RST_BAD_ACK),
	   "in SYN-SENT a RST of the ISN itself does not");
	ok(is_anomaly(prove(c, SIDE_B, seg(TCP_RST | TCP_ACK, 0, at + 2, 0)), ANOMALY_RST_BAD_ACK),
	   "in SYN-SENT a RST of one more does not");
	ok(is_anomaly(prove(c, SIDE_B, seg(TCP_RST, at + 1, at + 1, 0)), ANOMALY_RST_BAD_ACK),
	   "in SYN-SENT a RST without ACK does not");
	ok(is_exact(prove(after_syn(10), SIDE_B, seg(TCP_RST | TCP_ACK, 0, at + 11, 0))),
	   "with data on the SYN it may acknowledge that too");
	ok(is_exact(prove(c, SIDE_A, seg(TCP_RST, at + 1, 0, 0))), "the client gives its SYN up");
	ok(is_exact(prove(again, SIDE_A, seg(TCP_RST, at + 1, 0, 0))),
	   "the client's RST to a SYN-ACK");
	ok(is_exact(prove(again, SIDE_B, seg(TCP_RST, at + PEER + 1, 0, 0))),
	   "the server gives its SYN-ACK up");
	ok(!is_exact(prove(again, SIDE_B, seg(TCP_RST | TCP_ACK, 7, at + 1, 0))),
	   "after its SYN-ACK the server's RST needs its own number");
	again.tally[SIDE_A] = conn_tally(2, 0, conn_window(&again.hot, SIDE_A));
	ok(is_exact(prove(again, SIDE_B, seg(TCP_RST | TCP_ACK, 7, at + 1, 0))),
	   "but not if the client, which repeats its SYN, never got that SYN-ACK");
}

/* ---- FIN ------------------------------------------------------------------------------------ */

static void test_fin(void)
{
	unsigned f = TCP_FIN | TCP_ACK;
	uint32_t nxt = at + 1, peer = at + PEER + 1;

	ok(is_proof(prove(open_with(0), SIDE_A, seg(f, nxt, peer, 0)), ACK | FIN),
	   "a FIN in sequence");
	ok(is_proof(prove(open_with(0), SIDE_A, seg(f, nxt, peer, 20)), ACK | DATA | FIN),
	   "a FIN with data");
	ok(is_proof(prove(open_with(100), SIDE_A, seg(f, nxt + 100, peer, 0)), ACK | FIN),
	   "a FIN after data in flight");
	ok(is_proof(prove(open_with(0), SIDE_A, seg(f, nxt + WIN_B - 1, peer, 0)),
		    ACK | 1 << EV_FIN_GAP_OWN),
	   "a FIN at the last number of the window");
	ok(is_proof(prove(open_with(0), SIDE_A, seg(f, nxt, peer, WIN_B - 1)), ACK | DATA | FIN),
	   "a FIN after data, both filling the window");
	ok(is_anomaly(prove(open_with(0), SIDE_A, seg(f, nxt + WIN_B + 2, peer, 0)),
		      ANOMALY_FIN_OUT_OF_WINDOW),
	   "a FIN beyond the window");
	ok(is_anomaly(prove(open_with(100), SIDE_A, seg(f, nxt + 98, peer, 0)),
		      ANOMALY_FIN_OUT_OF_WINDOW),
	   "a FIN before the end of what was sent");
	ok(!is_anomaly(prove(open_with(100), SIDE_A, seg(f, nxt + 99, peer, 0)),
		       ANOMALY_FIN_OUT_OF_WINDOW),
	   "but not one that a segment of its sender's may have overtaken: one number is missing");
	ok(is_anomaly(prove(open_with(0), SIDE_A, seg(f, nxt - 1, peer, 0)),
		      ANOMALY_FIN_OUT_OF_WINDOW),
	   "a FIN one before what is acknowledged");

	struct conn c = fin_with(100);

	ok(is_proof(prove(c, SIDE_A, seg(f, nxt + 100, peer, 0)), ACK | FIN), "the FIN again");
	ok(is_proof(prove(c, SIDE_A, seg(f, nxt + 50, peer, 50)), ACK | DATA | FIN) ||
		   is_proof(prove(c, SIDE_A, seg(f, nxt + 50, peer, 50)), ACK | FIN),
	   "the FIN again, with data before it");
	ok(is_anomaly(prove(c, SIDE_A, seg(f, nxt + 101, peer, 0)), ANOMALY_FIN_MOVED),
	   "a second FIN one further");
	ok(is_anomaly(prove(c, SIDE_A, seg(f, nxt + 99, peer, 0)), ANOMALY_FIN_MOVED),
	   "a second FIN one before");
	ok(is_anomaly(prove(c, SIDE_A, seg(TCP_ACK, nxt + 101, peer, 1)), ANOMALY_DATA_AFTER_FIN),
	   "data after the FIN");
	ok(is_anomaly(prove(c, SIDE_A, seg(TCP_ACK, nxt + 100, peer, 1)), ANOMALY_DATA_AFTER_FIN),
	   "data in the FIN's own place");
	ok(is_proof(prove(c, SIDE_A, seg(TCP_ACK, nxt + 90, peer, 10)), ACK | DATA),
	   "data before the FIN, again");
	ok(is_proof(prove(c, SIDE_A, seg(TCP_ACK, nxt + 101, peer, 0)), ACK),
	   "an ACK after the FIN");

	ok(is_proof(prove(c, SIDE_B, seg(TCP_ACK, peer, nxt + 101, 0)), ACK | ACK_FIN),
	   "an ACK of the FIN");
	ok(is_proof(prove(c, SIDE_B, seg(TCP_ACK, peer, nxt + 100, 0)), ACK),
	   "an ACK of all but the FIN");
	ok(is_proof(prove(c, SIDE_B, seg(f, peer, nxt + 101, 0)), ACK | ACK_FIN | FIN),
	   "the peer's FIN and its ACK of this one");
	ok(is_anomaly(prove(c, SIDE_B, seg(TCP_ACK, peer, nxt + 102, 0)), ANOMALY_BAD_ACK),
	   "an ACK of more than the FIN: nothing can have followed");
}

/* ---- ACK and data --------------------------------------------------------------------------- */

static void test_ack(void)
{
	struct conn c = open_with(100);
	uint32_t nxt = at + 1, peer = at + PEER + 1;
	struct verdict p;

	ok(is_proof(prove(c, SIDE_B, seg(TCP_ACK, peer, nxt + 100, 0)), ACK),
	   "an ACK of everything");
	ok(is_proof(prove(c, SIDE_B, seg(TCP_ACK, peer, nxt, 0)), ACK), "a duplicate ACK");
	ok(is_proof(prove(c, SIDE_B, seg(TCP_ACK, peer, nxt - FLOOR, 0)), ACK),
	   "an ACK as old as a window: reordered");
	ok(is_anomaly(prove(c, SIDE_B, seg(TCP_ACK, peer, nxt - FLOOR - 1, 0)), ANOMALY_BAD_ACK),
	   "an ACK one older: too old (RFC 5961 5.2)");
	p = prove(c, SIDE_B, seg(TCP_ACK, peer, nxt + 101, 0));
	ok(p.acceptable && p.evidence == ACK && p.anomaly == ANOMALY_ACK_UNSEEN,
	   "an ACK of one octet that was not seen: remarked");
	p = prove(c, SIDE_B, seg(TCP_ACK, peer, nxt + 100 + FLOOR, 0));
	ok(p.acceptable && p.anomaly == ANOMALY_ACK_UNSEEN, "an ACK of a window of them");
	ok(is_anomaly(prove(c, SIDE_B, seg(TCP_ACK, peer, nxt + 101 + FLOOR, 0)), ANOMALY_BAD_ACK),
	   "an ACK of more than a window of them");
	ok(is_anomaly(prove(after_syn_ack(), SIDE_A, seg(TCP_ACK, at + 1, at + PEER, 0)),
		      ANOMALY_BAD_ACK),
	   "the handshake's ACK, of the server's ISN itself");
	ok(is_proof(prove(after_syn_ack(), SIDE_A, seg(TCP_ACK, at + 1, peer, 0)), ACK),
	   "the handshake's ACK");
	ok(is_anomaly(prove(after_syn_ack(), SIDE_A, seg(TCP_ACK, at + 1, peer + 1, 0)),
		      ANOMALY_BAD_ACK),
	   "the handshake's ACK, of one more");
	ok(is_anomaly(prove(after_syn(0), SIDE_B, seg(TCP_ACK, peer, at, 0)), ANOMALY_BAD_ACK),
	   "a challenge ACK of an old connection is no answer to the SYN");
	ok(is_proof(prove(after_syn(0), SIDE_A, seg(TCP_ACK, at + 1, peer, 0)), ACK),
	   "the client's ACK of an answer that was not seen");
	ok(is_anomaly(prove(after_syn(0), SIDE_A, seg(TCP_ACK, at + 2, peer, 0)),
		      ANOMALY_OUT_OF_WINDOW),
	   "the same, one off");
}

static void test_window(void)
{
	struct conn c = open_with(0);
	uint32_t nxt = at + 1, peer = at + PEER + 1;

	ok(is_proof(prove(c, SIDE_A, seg(TCP_ACK, nxt, peer, 100)), ACK | DATA),
	   "data in sequence");
	ok(is_proof(prove(c, SIDE_A, seg(TCP_ACK, nxt + FLOOR, peer, 1)), ACK | DATA),
	   "data a window ahead: some went by unseen");
	ok(is_anomaly(prove(c, SIDE_A, seg(TCP_ACK, nxt + FLOOR + 1, peer, 1)),
		      ANOMALY_OUT_OF_WINDOW),
	   "data one further ahead");
	ok(is_proof(prove(c, SIDE_A, seg(TCP_ACK, nxt - FLOOR - 100, peer, 100)), ACK | DATA),
	   "data a window old: a retransmission");
	ok(is_anomaly(prove(c, SIDE_A, seg(TCP_ACK, nxt - FLOOR - 101, peer, 100)),
		      ANOMALY_OUT_OF_WINDOW),
	   "data one older");
	c.wscale0 = c.wscale1 = 10;
	ok(is_proof(prove(c, SIDE_A, seg(TCP_ACK, nxt + (WIN_B << 10), peer, 1)), ACK | DATA),
	   "a scaled window reaches further");
}

static void test_flags(void)
{
	static const unsigned bad[] = { TCP_SYN | TCP_FIN,
					TCP_SYN | TCP_RST,
					TCP_FIN | TCP_RST,
					TCP_SYN | TCP_FIN | TCP_RST | TCP_ACK,
					0,
					TCP_PSH | TCP_URG,
					TCP_FIN };
	unsigned wrong = 0;

	for (unsigned i = 0; i < ARRAY_SIZE(bad); i++)
		wrong += !is_anomaly(
			prove(open_with(0), SIDE_A, seg(bad[i], at + 1, at + PEER + 1, 0)),
			ANOMALY_BAD_FLAGS);
	ok(!wrong, "flags that contradict each other, or no ACK where one belongs");
}

static void test_probe(void)
{
	uint32_t nxt = at + 1, peer = at + PEER + 1;
	struct verdict p = prove(open_with(0), SIDE_A, seg(TCP_ACK, nxt - 1, peer, 0));

	ok(is_proof(p, ACK) && p.probe, "a keep-alive without an octet (RFC 9293 3.8.4)");
	p = prove(open_with(0), SIDE_A, seg(TCP_ACK, nxt - 1, peer, 1));
	ok(is_proof(p, ACK) && p.probe, "a keep-alive with an old octet is no data");
	p = prove(open_with(0), SIDE_A, seg(TCP_ACK, nxt - 1, peer, 2));
	ok(!p.probe && p.evidence & DATA, "with two it is data");
	p = prove(open_with(0), SIDE_A, seg(TCP_ACK, nxt, peer, 1));
	ok(!p.probe && p.evidence & DATA, "an octet in sequence is data");
	p = prove(open_with(10), SIDE_A, seg(TCP_ACK, nxt + 9, peer, 1));
	ok(!p.probe && p.evidence & DATA, "the last octet in flight again is a retransmission");
	p = prove(fin_with(0), SIDE_A, seg(TCP_FIN | TCP_ACK, nxt, peer, 0));
	ok(!p.probe && p.evidence & FIN, "nor is a FIN again a keep-alive");

	struct conn c = open_with(0);
	struct segment s = seg(TCP_ACK, nxt - 1, peer, 1);

	ok(!segment_learn(&c, SIDE_A, &s, segment_check(&c, SIDE_A, &s, &gaps), &gaps).again &&
		   c.next[SIDE_A] == nxt,
	   "a keep-alive is not learnt as a retransmission");
}

/* ---- learning ------------------------------------------------------------------------------- */

static bool learn(struct conn *c, enum fsm_side from, struct segment s)
{
	return segment_learn(c, from, &s, segment_check(c, from, &s, &gaps), &gaps).again;
}

static void test_learn(void)
{
	uint32_t nxt = at + 1, peer = at + PEER + 1;
	struct conn c = open_with(0);

	ok(!learn(&c, SIDE_A, seg(TCP_ACK, nxt, peer, 100)) && c.next[SIDE_A] == nxt + 100,
	   "new data moves what was sent");
	ok(learn(&c, SIDE_A, seg(TCP_ACK, nxt, peer, 100)) && c.next[SIDE_A] == nxt + 100,
	   "the same again is a retransmission");
	ok(learn(&c, SIDE_A, seg(TCP_ACK, nxt + 50, peer, 100)) && c.next[SIDE_A] == nxt + 150,
	   "so is what is partly new, and it counts");
	ok(!learn(&c, SIDE_A, seg(TCP_ACK, nxt + 250, peer, 50)) && c.gap_bytes == 100 &&
		   c.next[SIDE_A] == nxt + 300,
	   "skipped octets are a gap");
	ok(!learn(&c, SIDE_A, seg(TCP_ACK, nxt + 150, peer, 100)) && c.gap_bytes == 0 &&
		   c.next[SIDE_A] == nxt + 300,
	   "what fills it was reordered, not repeated");
	ok(!learn(&c, SIDE_A, seg(TCP_ACK, nxt + 100, peer, 0)),
	   "an ACK that comes late repeats nothing");
	ok(!learn(&c, SIDE_B, seg(TCP_ACK, peer, nxt + 300, 0)) && c.acked[SIDE_A] == nxt + 300 &&
		   conn_window(&c.hot, SIDE_B) == 500,
	   "an ACK moves what is acknowledged, and the window");

	struct segment old = seg(TCP_ACK, peer, nxt + 100, 0);

	old.window = 9;
	learn(&c, SIDE_B, old);
	ok(c.acked[SIDE_A] == nxt + 300 && conn_window(&c.hot, SIDE_B) == 500,
	   "an older ACK moves neither");
	learn(&c, SIDE_B, seg(TCP_ACK, peer, nxt + 301, 0));
	ok(c.acked[SIDE_A] == nxt + 300, "an ACK of what was not seen is not believed for RCV.NXT");
	c = fin_with(0);
	ok(learn(&c, SIDE_A, seg(TCP_FIN | TCP_ACK, nxt, peer, 0)) && c.next[SIDE_A] == nxt + 1,
	   "a FIN again is a retransmission");

	c = after_syn(10);
	learn(&c, SIDE_B, seg(TCP_SYN | TCP_ACK, at + PEER, at + 1, 0));
	ok(c.next[SIDE_A] == at + 1 && c.acked[SIDE_A] == at + 1 && c.next[SIDE_B] == at + PEER + 1,
	   "data on the SYN that was refused has not been sent");
	c = after_syn_ack();
	learn(&c, SIDE_B, seg(TCP_SYN | TCP_ACK, at + PEER + 99, at + 1, 0));
	ok(c.next[SIDE_B] == at + PEER + 100,
	   "a SYN-ACK with another ISN is believed until one is acknowledged (SYN cookies)");
}

/* ---- what is missing
 * -------------------------------------------------------------------------- */

/* Both have said FIN; 100 octets of the client's are missing before its own. */
static struct conn crossed_with_hole(void)
{
	struct conn c = open_with(50);

	learn(&c, SIDE_B, seg(TCP_FIN | TCP_ACK, at + PEER + 1, at + 1, 0));
	c.state = FSM_FIN_B;
	learn(&c, SIDE_A, seg(TCP_FIN | TCP_ACK, at + 151, at + PEER + 1, 0));
	c.state = FSM_GAP_A;
	return c;
}

static void test_holes(void)
{
	uint32_t nxt = at + 1, peer = at + PEER + 1;
	struct conn c = crossed_with_hole();

	ok(c.gap_bytes == 100 && c.gaps == 1 << SIDE_A, "what a FIN skips is a gap of its side");
	ok(prove(c, SIDE_A, seg(TCP_ACK, nxt + 50, peer, 100)).evidence & FILL,
	   "all of it fills the gap");
	ok(prove(c, SIDE_A, seg(TCP_FIN | TCP_ACK, nxt, peer, 150)).evidence & FILL,
	   "so does more than that, with the FIN again");
	ok(!(prove(c, SIDE_A, seg(TCP_ACK, nxt + 50, peer, 99)).evidence & FILL) &&
		   !(prove(c, SIDE_A, seg(TCP_ACK, nxt + 51, peer, 99)).evidence & FILL),
	   "one octet less does not");
	ok(!(prove(c, SIDE_B, seg(TCP_ACK, peer + 1, nxt, 0)).evidence & FILL),
	   "nor does anything of the other side's");

	struct conn syn = c;

	ok(!learn(&syn, SIDE_A, seg(TCP_ACK, nxt + 50, peer, 60)) && syn.gap_bytes == 40 &&
		   syn.gaps,
	   "a part of it is no retransmission, and the rest stays missing");
	ok(learn(&syn, SIDE_A, seg(TCP_ACK, nxt + 50, peer, 60)) && syn.gap_bytes == 40,
	   "the same part again is one");
	ok(prove(syn, SIDE_A, seg(TCP_ACK, nxt + 110, peer, 40)).evidence & FILL,
	   "the last part fills it");
	learn(&syn, SIDE_A, seg(TCP_ACK, nxt + 110, peer, 40));
	ok(!syn.gap_bytes && !syn.gaps, "then nothing is missing");
	ok(!(prove(syn, SIDE_A, seg(TCP_ACK, nxt + 50, peer, 100)).evidence & FILL),
	   "and nothing can fill it again");

	c = crossed_with_hole();
	gaps = gaps_none; /* forgotten */
	ok(!(prove(c, SIDE_A, seg(TCP_ACK, nxt + 50, peer, 100)).evidence & FILL),
	   "a gap that is forgotten may be anywhere");
	ok(prove(c, SIDE_A, seg(TCP_FIN | TCP_ACK, nxt, peer, 150)).evidence & FILL,
	   "but not in what repeats all that is not acknowledged");
	ok(!(prove(c, SIDE_A, seg(TCP_FIN | TCP_ACK, nxt + 1, peer, 149)).evidence & FILL),
	   "one octet less, and it may be there");
	ok(!(prove(c, SIDE_A, seg(TCP_ACK, nxt, peer, 149)).evidence & FILL),
	   "at the end as well as at the beginning");
	learn(&c, SIDE_B, seg(TCP_ACK, peer + 1, nxt + 60, 0));
	ok(c.gaps, "an ACK of a part of what was sent does not end it");

	struct segment all = seg(TCP_ACK, peer + 1, nxt + 151, 0);
	struct learned reported = segment_learn(&c, SIDE_B, &all, prove(c, SIDE_B, all), &gaps);

	ok(reported.acks_gap && !c.gaps, "an ACK of all does, and it was not seen here");
	c = open_with(0);
	learn(&c, SIDE_A, seg(TCP_ACK, nxt + 10, peer, 10));
	gaps = gaps_none;
	learn(&c, SIDE_A, seg(TCP_ACK, nxt + 30, peer, 10));
	learn(&c, SIDE_A, seg(TCP_ACK, nxt + 20, peer, 10));
	ok(c.gaps, "where one is forgotten, filling the next one ends nothing");
	c = open_with(50);
	learn(&c, SIDE_B, seg(TCP_FIN | TCP_ACK, peer, nxt, 0));
	c.state = FSM_FIN_B;
	learn(&c, SIDE_A, seg(TCP_FIN | TCP_ACK, nxt + 50, peer, 0));
	c.state = FSM_BOTH;
	ok(!(prove(c, SIDE_A, seg(TCP_FIN | TCP_ACK, nxt, peer, 50)).evidence & FILL),
	   "where nothing is missing nothing fills");

	c = crossed_with_hole();

	struct segment ack = seg(TCP_ACK, peer + 1, nxt + 100, 0);
	struct learned l = segment_learn(&c, SIDE_B, &ack, prove(c, SIDE_B, ack), &gaps);

	ok(l.acks_gap && c.gaps && c.gap_bytes == 100,
	   "an ACK of a part of it says that it was not seen here");
	ok(prove(c, SIDE_A, seg(TCP_ACK, nxt + 100, peer, 50)).evidence & FILL,
	   "and the rest alone fills it");
	ack.ack = nxt + 150;
	l = segment_learn(&c, SIDE_B, &ack, prove(c, SIDE_B, ack), &gaps);
	ok(l.acks_gap && !c.gaps && c.gap_bytes == 100,
	   "an ACK of all of it ends the gap, but it was never seen");
	l = segment_learn(&c, SIDE_B, &ack, prove(c, SIDE_B, ack), &gaps);
	ok(!l.acks_gap, "that is said once");

	c = after_syn_ack();
	gaps = gaps_none;
	learn(&c, SIDE_A, seg(TCP_ACK, nxt + 40, peer, 10)); /* the handshake's ACK was lost too */
	c.state = FSM_OPEN;
	c.gap_bytes = c.gaps = 0;
	segment_keep_gaps(&c, &gaps);
	ok(c.gap_bytes == 40 && c.gaps == 1 << SIDE_A,
	   "what the end of the handshake skips is kept then");
	c.gap_bytes = c.gaps = 0;
	c.acked[SIDE_A] = nxt + 40;
	segment_keep_gaps(&c, &gaps);
	ok(!c.gap_bytes && !c.gaps, "but not what was acknowledged by then");

	c = open_with(0);
	learn(&c, SIDE_A, seg(TCP_ACK, nxt + 1, peer, 0)); /* the ACK after the FIN came first */
	ok(prove(c, SIDE_A, seg(TCP_FIN | TCP_ACK, nxt, peer, 0)).evidence & FIN,
	   "a FIN that its own ACK has overtaken leaves no gap");
	c = open_with(0);
	learn(&c, SIDE_A, seg(TCP_ACK, nxt + 10, peer, 10));
	ok(prove(c, SIDE_A, seg(TCP_FIN | TCP_ACK, nxt + 20, peer, 0)).evidence &
		   1 << EV_FIN_GAP_OWN,
	   "a FIN after a gap has one before it");
	ok(prove(c, SIDE_B, seg(TCP_FIN | TCP_ACK, peer, nxt, 0)).evidence & 1 << EV_FIN_GAP_PEER,
	   "and the peer's FIN meets it");
}

/* ---- after a loss
 * ----------------------------------------------------------------------------- */

/* Does @s, after the server's @odd, make an open connection go on elsewhere?  What became of it is
 * in @ret. */
static bool resync(struct resync_candidate candidate, struct segment s, bool lossy,
		   struct conn *ret)
{
	*ret = open_with(0);
	return segment_resync(ret, SIDE_A, &s, &candidate, lossy);
}

static void test_resync(void)
{
	enum { FAR = 10 * FLOOR };
	uint32_t nxt = at + 1, peer = at + PEER + 1;
	/* Each acknowledges what the other sends; neither continues where it was. */
	struct resync_candidate both = {
		.seq = peer + FAR, .end = peer + FAR + 9, .ack = nxt + 2 * FAR, .side = SIDE_B
	};
	struct segment answer = seg(TCP_ACK, nxt + 2 * FAR, peer + FAR + 9, 5), wrong = answer;
	/* The server continues where it was and acknowledges what was not seen. */
	struct resync_candidate one = {
		.seq = peer, .end = peer, .ack = nxt + FAR, .side = SIDE_B
	};
	struct segment goes_on = seg(TCP_ACK, nxt + FAR, peer, 5);
	struct conn c, was = open_with(0);

	ok(!resync(both, answer, false, &c) && !memcmp(&c, &was, sizeof c),
	   "two sides that both jump are not believed: an off-path attacker could forge them");
	ok(resync(both, answer, true, &c) && c.next[SIDE_A] == nxt + 2 * FAR &&
		   c.acked[SIDE_A] == nxt + 2 * FAR && c.next[SIDE_B] == peer + FAR + 9 &&
		   c.acked[SIDE_B] == peer + FAR + 9,
	   "after a loss that the capture reported they are, and the numbers are theirs");
	ok(prove(c, SIDE_A, answer).acceptable, "so that the segment which showed it fits");
	wrong.ack += FAR;
	ok(!resync(both, wrong, true, &c) && !memcmp(&c, &was, sizeof c),
	   "a loss does not make two segments agree that do not");
	both.side = SIDE_A;
	ok(!resync(both, answer, true, &c), "nor one side be its own witness");
	ok(resync(one, goes_on, false, &c) && c.next[SIDE_A] == nxt + FAR && c.next[SIDE_B] == peer,
	   "without a loss one side may jump, if the other continues where it was");
}

/* ---- the short way
 * ---------------------------------------------------------------------------- */

/* Where the short way is taken, the long one would have come to the same. */
static void test_plain(void)
{
	unsigned plain = 0, wrong = 0;

	for (unsigned i = 0; i < 200000; i++) {
		static const uint32_t off[] = { 0, 0, 0, 0, 1, (uint32_t)-1, 500, 70000, 1u << 31 };
		struct conn c = open_with(below(3) ? 0 : below(100000)), d;
		enum fsm_side from = below(2);

		c.next[SIDE_B] += below(3) ? 0 : below(100000);
		c.state = below(4) ? FSM_OPEN : (FSM_SYN + below(FSM_STATES - FSM_SYN)) & 31;
		c.sent = below(9) ? 3 : below(4) & 3;
		c.heard = below(9) ? 3 : below(4) & 3;
		c.wscale0 = c.wscale1 = below(2) ? TCPOPT_WSCALE_NONE : below(15) & 15;
		if (c.state == FSM_OPEN)
			c.gap_bytes = (below(3) ? 0 : below(1000)) & 1023;

		struct segment s = seg(below(9) ? TCP_ACK : below(32), c.next[from], c.next[!from],
				       below(2) ? 0 : below(3000));

		s.seq += off[below(ARRAY_SIZE(off))];
		s.ack += off[below(ARRAY_SIZE(off))] - below(2) * below(2000);
		s.window = (uint16_t)(below(9) ? 500 : 0);
		struct table none = { .undo = NULL };
		struct conn_hot h;
		struct conn_cold k;

		c.noted = 15;
		full_entry_split(&c, &h, &k);
		if (!fastpath_open(&none, 0, &h, from, &s, 0, UINT64_MAX / 2))
			continue;
		plain++;

		struct verdict p = segment_check(&c, from, &s, &gaps);

		wrong += p.anomaly != ANOMALY_NONE || !p.acceptable || p.repeat || p.probe ||
			 p.suspect || p.evidence != (s.payload_len ? ACK | DATA : ACK);
		full_entry_join(&h, &k, &d);
		conn_account(&c, from, &s, s.payload_len);
		wrong += segment_learn(&c, from, &s, p, &gaps).again;
		full_entry_split(&c, &h, &k);
		wrong += memcmp(&h, &d.hot, sizeof h) || memcmp(&k, &d.cold, sizeof k);
	}
	printf("# %u were plain\n", plain);
	ok(!wrong && plain > 5000, "the short way proves and learns what the long one does");
}

int main(void)
{
	rng = tap_seed(3107);
	for (unsigned i = 0; i < ARRAY_SIZE(bases); i++) {
		at = bases[i];
		printf("# from ISN %#x\n", at);
		test_syn();
		test_syn_ack();
		test_syn_window();
		test_rst();
		test_rst_in_handshake();
		test_fin();
		test_ack();
		test_window();
		test_flags();
		test_probe();
		test_learn();
		test_holes();
		test_resync();
		test_plain();
	}
	return tap_done();
}
