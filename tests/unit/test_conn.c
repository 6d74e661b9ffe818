#include <string.h>
#include "base/cc.h"
#include "flow/event_names.h"
#include "flow/conn.h"
#include "flow/entry.h"
#include "tests/support/rand.h"
#include "tests/support/tap.h"
#include "wire/tcpopt.h"

/* ---- durations ------------------------------------------------------------------------------ */

static uint64_t in32(uint64_t ns)
{
	return dur32_ns(dur32_of(ns));
}

static uint64_t in40(uint64_t ns)
{
	return dur40_ns(dur40_of(ns));
}

/* @from and @to - 1 come back cut to @unit, and so does what is between. */
static bool cut_to(uint64_t (*in)(uint64_t), uint64_t unit, uint64_t from, uint64_t to)
{
	unsigned wrong = in(from) != from / unit * unit || in(to - 1) != (to - 1) / unit * unit;

	for (unsigned i = 0; i < 10000; i++) {
		uint64_t ns = from + below(to - from);

		wrong += in(ns) != ns / unit * unit;
	}
	return !wrong;
}

static bool never_goes_back(uint64_t (*in)(uint64_t))
{
	unsigned wrong = 0;

	for (unsigned i = 0; i < 100000; i++) {
		uint64_t a = rand64() >> below(64), b = a + (rand64() >> below(64));

		wrong += b >= a && in(a) > in(b);
		wrong += in(a) != DURATION_UNKNOWN && in(a) > a;
	}
	return !wrong;
}

static void test_durations(void)
{
	const uint64_t us = 1000, ms = 1000000, s = 1000000000;

	ok(cut_to(in32, 1, 0, 1ull << 31), "dur32: exact below 2^31 ns");
	ok(cut_to(in32, us, 1ull << 31, ((1ull << 31) - 1) * us),
	   "dur32: to the microsecond up to 35 min");
	ok(in32(((1ull << 31) - 1) * us - 1) == ((1ull << 31) - 2) * us,
	   "dur32: the last one that is known");
	ok(in32(((1ull << 31)) * us) == DURATION_UNKNOWN && in32(UINT64_MAX) == DURATION_UNKNOWN,
	   "dur32: beyond, it is unknown and not wrong");
	ok(in32(((1ull << 31) - 1) * us) == DURATION_UNKNOWN,
	   "dur32: the mark for unknown is never read as a time");
	ok(never_goes_back(in32), "dur32: a longer time never comes back as a shorter one");

	ok(cut_to(in40, 1, 0, 1ull << 38), "dur40: exact below 2^38 ns (274 s)");
	ok(cut_to(in40, us, 1ull << 38, (1ull << 38) * us),
	   "dur40: to the microsecond up to 3 days");
	ok(cut_to(in40, ms, (1ull << 38) * us, (1ull << 38) * ms),
	   "dur40: to the millisecond up to 8 years");
	ok(cut_to(in40, s, (1ull << 38) * ms, UINT64_MAX), "dur40: to the second beyond");
	ok(never_goes_back(in40), "dur40: a longer time never comes back as a shorter one");
}

/* ---- history -------------------------------------------------------------------------------- */

static void test_history(void)
{
	char text[HISTORY_LETTERS + 1];
	struct conn c = { 0 };

	history_text(c.history, text);
	ok(!strcmp(text, ""), "history: nothing yet");
	conn_history_add(&c.cold, SIDE_A, HISTORY_SYN);
	conn_history_add(&c.cold, SIDE_B, HISTORY_SYN_ACK);
	conn_history_add(&c.cold, SIDE_A, HISTORY_ACK);
	conn_history_add(&c.cold, SIDE_A, HISTORY_DATA);
	conn_history_add(&c.cold, SIDE_B, HISTORY_DATA);
	conn_history_add(&c.cold, SIDE_A, HISTORY_DATA);
	conn_history_add(&c.cold, SIDE_B, HISTORY_FIN);
	history_text(c.history, text);
	ok(!strcmp(text, "ShADdf"),
	   "history: the client's letters are capitals, each is there once");

	struct conn all = { 0 };

	for (unsigned code = HISTORY_SYN; code <= HISTORY_FLIPPED; code++)
		conn_history_add(&all.cold, SIDE_B, code);
	history_text(all.history, text);
	ok(!strcmp(text, "shadfrgtwiq^"), "history: every letter of Zeek's, twelve of them");
	for (unsigned code = HISTORY_SYN; code <= HISTORY_FLIPPED; code++)
		conn_history_add(&all.cold, SIDE_A, code);
	history_text(all.history, text);
	ok(!strcmp(text, "shadfrgtwiq^"), "history: what does not fit is omitted, nothing moves");
	ok(all.anomalies == 0, "history: the octets beside it stay as they are");
}

static void test_history_search(void)
{
	unsigned wrong = 0;

	for (unsigned i = 0; i < 100000; i++) {
		struct conn c = { 0 };
		bool there[2][HISTORY_FLIPPED + 1] = { 0 };
		unsigned state = 0;

		for (uint64_t n = below(20); n; n--) {
			unsigned side = (unsigned)below(2),
				 code = 1 + (unsigned)below(HISTORY_FLIPPED);

			conn_history_add(&c.cold, side, code);
			if (!there[side][code] && state < HISTORY_LETTERS) {
				there[side][code] = true;
				state++;
			}
		}
		for (unsigned code = 1; code <= HISTORY_FLIPPED; code++)
			for (unsigned side = 0; side < SIDES; side++)
				wrong += conn_history_has(&c.cold, side, code) != there[side][code];
	}
	ok(!wrong, "history: any letter is found where it is, and not where it is not");
}

/* ---- shapes --------------------------------------------------------------------------------- */

static struct conn_offer random_offer(void)
{
	return (struct conn_offer){ .mss = (uint16_t)rand64(), .bits = rand64() & OFFER_ALL };
}

/* A connection of SYNs and SYN-ACKs alone, as the tracker has it. */
static struct conn random_half_open(bool answered)
{
	uint32_t syns = 1 + (uint32_t)below(15), syn_acks = answered ? 1 + (uint32_t)below(7) : 0;
	uint32_t isn[2] = { (uint32_t)rand64(), (uint32_t)rand64() };
	uint64_t start = rand64() >> 1;
	struct conn c = {
		.start_ns = start,
		.last_ns = start + in40(rand64() >> (8 + below(56))),
		.since = { dur40_of(0), dur40_of(answered ? rand64() >> (32 + below(32)) : 0) },
		.next = { isn[0] + 1, answered ? isn[1] + 1 : 0 },
		.acked = { isn[0] + answered, answered ? isn[1] : 0 },
		.isn = isn[0],
		.tally = { conn_tally(syns, syns * below(256), (uint16_t)rand64()),
			   conn_tally(syn_acks, syn_acks * below(256),
				      answered ? (uint16_t)rand64() : 0) },
		.server_rtt = { (uint32_t)rand64() },
		.offer = random_offer(),
		.retrans = { (uint16_t)(syns - 1), (uint16_t)(answered ? syn_acks - 1 : 0) },
		.anomalies = below(4) & 3,
		.iface = rand64() & 0xffff,
		.outer = rand64() & 0xfff,
		.inner = rand64() & 0xfff,
		.state = answered ? FSM_ANSWERED : FSM_SYN,
		.client_end = rand64() & 1,
		.wscale0 = rand64() & 15,
		.wscale1 = rand64() & 15,
		.complete = answered ? COMPLETE_SYN | COMPLETE_SYN_ACK : COMPLETE_SYN,
		.direction = DIRECTION_SYN,
		.rivalled = rand64() & 1,
		.sent = answered ? 3 : 1,
		.heard = answered ? 3 : 1,
	};

	conn_history_add(&c.cold, SIDE_A, HISTORY_SYN);
	if (answered)
		conn_history_add(&c.cold, SIDE_B, HISTORY_SYN_ACK);
	return c;
}

static void test_round_trip(bool answered)
{
	unsigned refused = 0, changed = 0, marked = 0, again = 0;

	for (unsigned i = 0; i < 100000; i++) {
		struct conn c = random_half_open(answered), back;
		struct syn_entry h, h2;

		if (!syn_entry_pack(&c, &h)) {
			refused++;
			continue;
		}
		syn_entry_unpack(&h, &back);
		conn_set_window(
			&c.hot, SIDE_A,
			conn_window(&back.hot, SIDE_A)); /* the one thing that is not kept */
		changed += !!memcmp(&c, &back, sizeof c);
		marked += h.incarnation;
		again += !syn_entry_pack(&back, &h2) || !!memcmp(&h, &h2, sizeof h);
	}
	const char *what = answered ? "SYNs and SYN-ACKs" : "SYNs";

	ok(!refused, "%s: random ones fit the small shape", what);
	ok(!changed,
	   "%s: they come out of it bit for bit as they went in, but for the SYN's window", what);
	ok(!marked, "%s: a packed one is not pending", what);
	ok(!again, "%s: and go into it again", what);
}

static bool refuses(struct conn c)
{
	struct syn_entry h, before;

	memset(&before, 0xa5, sizeof before);
	h = before;
	return !syn_entry_pack(&c, &h) && !memcmp(&h, &before, sizeof h);
}

#define REFUSES(answered, change, why)                                                             \
	do {                                                                                       \
		unsigned fit_ = 0;                                                                 \
		for (unsigned i_ = 0; i_ < 1000; i_++) {                                           \
			struct conn c = random_half_open(answered);                                \
			change;                                                                    \
			fit_ += !refuses(c);                                                       \
		}                                                                                  \
		ok(!fit_, "does not fit the small shape: " why);                                   \
	} while (0)

/* While it is deferred, what the SYN offered is kept beside what both did. */
static void test_held(void)
{
	unsigned changed = 0, kept_apart = 0;

	for (unsigned i = 0; i < 100000; i++) {
		struct conn c = random_half_open(true), back;
		struct syn_entry h;

		c.offer.deferred = 1;
		c.offer.mss_client = below(2) ? c.offer.mss : (uint16_t)rand64();
		if (below(2))
			c.server_rtt = dur32_of(dur40_ns(c.since[SIDE_B]));
		bool apart = c.offer.mss_client != c.offer.mss;
		bool known = c.server_rtt.v == dur32_of(dur40_ns(c.since[SIDE_B])).v;

		if (!syn_entry_pack(&c, &h)) {
			changed += !apart || known;
			continue;
		}
		syn_entry_unpack(&h, &back);
		conn_set_window(&c.hot, SIDE_A, conn_window(&back.hot, SIDE_A));
		changed += !!memcmp(&c, &back, sizeof c) || (apart && !known);
		kept_apart += apart;
	}
	ok(!changed && kept_apart > 1000,
	   "a deferred entry keeps the options of its SYN, or does not fit the small shape");
}

static uint64_t pkts(const struct conn *c, unsigned side)
{
	return conn_counts(c, side).pkts;
}

static void set_pkts(struct conn *c, unsigned side, uint64_t pkts)
{
	struct conn_counts n = conn_counts(c, side);

	n.pkts = pkts;
	conn_set_counts(c, side, n);
}

static void set_header(struct conn *c, unsigned side, uint64_t header)
{
	struct conn_counts n = conn_counts(c, side);

	n.header = header;
	conn_set_counts(c, side, n);
}

static void test_refusals(void)
{
	unsigned taken = 0;

	for (unsigned s = 0; s < FSM_STATES; s++) {
		struct conn c = random_half_open(s != FSM_SYN);

		c.state = s & 31;
		if (s != FSM_SYN && s != FSM_ANSWERED)
			taken += !refuses(c);
	}
	ok(!taken, "does not fit the small shape: any state but SYN and answered");
	REFUSES(true, c.direction = DIRECTION_PORT, "one picked up mid-stream");
	REFUSES(true, c.suspect = 1, "a suspect one");
	REFUSES(true, conn_history_add(&c.cold, SIDE_A, HISTORY_RST),
		"a letter more in the history");
	REFUSES(true, c.tfo = 1, "Fast Open that worked");
	REFUSES(true, c.direction = DIRECTION_SYN_ACK, "one whose SYN was not seen");
	REFUSES(false, c.direction = DIRECTION_PORT, "a guessed direction");
	REFUSES(false, c.anomalies = 4, "four anomalies");
	REFUSES(false, c.payload_lo[SIDE_A] = 1, "data on the SYN");
	REFUSES(true, c.payload_lo[SIDE_B] = 1, "data on the SYN-ACK");
	REFUSES(false, set_pkts(&c, SIDE_A, 0), "no SYN at all");
	REFUSES(false, (set_pkts(&c, SIDE_A, 16), c.retrans[SIDE_A] = 15), "sixteen SYNs");
	REFUSES(true, (set_pkts(&c, SIDE_B, 8), c.retrans[SIDE_B] = 7), "eight SYN-ACKs");
	REFUSES(false, c.retrans[SIDE_A]++, "more repetitions than SYNs");
	REFUSES(true, set_pkts(&c, SIDE_A, pkts(&c, SIDE_A) % 15 + 2), "a packet that is no SYN");
	REFUSES(true, set_pkts(&c, SIDE_B, pkts(&c, SIDE_B) % 15 + 2),
		"a packet that is no SYN-ACK");
	REFUSES(false, (set_pkts(&c, SIDE_B, 1), set_header(&c, SIDE_B, 54)),
		"an answer that was none");
	REFUSES(true, (set_pkts(&c, SIDE_B, 0), c.retrans[SIDE_B] = 0, set_header(&c, SIDE_B, 0)),
		"answered, but by no packet");
	REFUSES(true, c.since[SIDE_B] = dur40_of(1ull << 32), "an answer after more than 4.2 s");
	REFUSES(false, set_header(&c, SIDE_A, pkts(&c, SIDE_A) * 256),
		"a SYN's frame of 256 octets");
	REFUSES(true, set_header(&c, SIDE_B, pkts(&c, SIDE_B) * 256),
		"a SYN-ACK's frame of 256 octets");
	REFUSES(false,
		(set_pkts(&c, SIDE_A, 2), c.retrans[SIDE_A] = 1, set_header(&c, SIDE_A, 74 + 75)),
		"SYNs of two sizes");
	REFUSES(true,
		(set_pkts(&c, SIDE_B, 3), c.retrans[SIDE_B] = 2,
		 set_header(&c, SIDE_B, 74 + 74 + 66)),
		"SYN-ACKs of two sizes");
	REFUSES(false, set_pkts(&c, SIDE_A, pkts(&c, SIDE_A) + (1ull << CONN_PKTS_LO)),
		"more SYNs than the low bits say");
}

/* ---- the two parts of a full entry ---------------------------------------------------------- */

static struct conn_counts random_counts(bool offering)
{
	return (struct conn_counts){ .pkts = rand64() >> (32 + below(32)),
				     .header = rand64() >> (63 - below(offering ? 30 : 38)),
				     .payload = rand64() >>
						(offering ? 32 + below(32) : 16 + below(48)) };
}

/* Any at all that the tracker can have. */
static struct conn random_conn(void)
{
	struct conn c = random_half_open(below(2));

	c.state = (1 + below(FSM_STATES - 1)) & 31;
	c.last_ns = c.start_ns + (rand64() >> (8 + below(56)));
	c.suspect = below(4) == 0;
	c.rivalled = below(4) == 0;
	c.noted = below(16) & 15;
	c.sent = below(4) ? 3 : below(4) & 3;
	c.heard = below(4) ? 3 : below(4) & 3;
	c.complete = below(64) & 63;
	c.direction = below(4) & 3;
	if (!fsm_offering(c.state)) {
		c.gap_bytes = rand64() & CONN_GAP_MAX;
		c.gaps = below(4) ? 0 : below(4) & 3;
	}
	for (unsigned side = 0; side < SIDES; side++)
		conn_set_counts(&c, side, random_counts(fsm_offering(c.state)));
	return c;
}

static bool counts_are(const struct conn *c, unsigned side, struct conn_counts n)
{
	struct conn_counts m = conn_counts(c, side);

	return m.pkts == n.pkts && m.header == n.header && m.payload == n.payload;
}

static void test_parts(void)
{
	unsigned changed = 0, unquiet = 0, quiet = 0;

	for (unsigned i = 0; i < 100000; i++) {
		struct conn c = random_conn(), back;
		struct conn_hot h;
		struct conn_cold k;
		bool calm = c.state == FSM_OPEN && !c.suspect && !c.rivalled && c.sent == 3 &&
			    c.heard == 3 && !c.gaps;

		full_entry_split(&c, &h, &k);
		quiet += calm;
		unquiet += h.quiet != calm;
		full_entry_join(&h, &k, &back);
		c.quiet = back.quiet;
		c.start = back.start; /* start_ns says it */
		changed += !!memcmp(&c, &back, sizeof c);
	}
	ok(!changed, "a connection comes out of its parts bit for bit as it went in");
	ok(!unquiet && quiet > 100, "the hot part says whether anything is in doubt");
}

static void test_counts(void)
{
	const struct conn_counts most = { UINT64_MAX, UINT64_MAX, UINT64_MAX };
	unsigned wrong = 0, low = 0, beside = 0;

	for (unsigned i = 0; i < 100000; i++) {
		struct conn c = random_conn(), d;
		unsigned side = below(2) & 1, shift = (unsigned)below(32);
		uint16_t window = conn_window(&c.hot, side);
		uint32_t pkts = (uint32_t)(below(UINT16_MAX) >> below(16));
		uint32_t header = (uint32_t)(rand64() >> 32) >> shift;
		uint32_t payload = (uint32_t)(rand64() >> 32) >> shift;
		struct conn_counts n = random_counts(fsm_offering(c.state));
		struct conn_counts other = conn_counts(&c, !side);

		conn_set_counts(&c, side, n);
		wrong += !counts_are(&c, side, n);
		d = c;
		n.pkts += pkts;
		n.header += header;
		n.payload += payload;
		conn_set_counts(&d, side, n); /* at most what there is room for */
		conn_count(&c, side, pkts, header, payload);
		wrong += !!memcmp(&c, &d, sizeof c);
		beside += conn_window(&c.hot, side) != window || !counts_are(&c, !side, other);
		n = conn_counts(&c, side);
		d = c;
		if (conn_count_low(&c.hot, side, pkts, header, payload)) {
			conn_count(&d, side, pkts, header, payload);
			wrong += !!memcmp(&c, &d, sizeof c);
			low++;
		} else {
			wrong += !!memcmp(&c, &d, sizeof c);
		}
	}
	ok(!wrong && low > 1000, "counts: what is added to the low bits is what is added to all");
	ok(!beside, "counts: the window and the other side's stay as they are");

	struct conn c = { .state = FSM_OPEN };

	conn_set_counts(&c, SIDE_B, most);
	ok(counts_are(&c, SIDE_B,
		      (struct conn_counts){ UINT32_MAX, (1ull << 38) - 1, (1ull << 48) - 1 }),
	   "counts: beyond their bits they stay at the most there is");
	ok(!conn_count_low(&c.hot, SIDE_B, 1, 0, 0) && !conn_count_low(&c.hot, SIDE_B, 0, 1, 0) &&
		   !conn_count_low(&c.hot, SIDE_B, 0, 0, 1) &&
		   conn_count_low(&c.hot, SIDE_B, 0, 0, 0),
	   "counts: ... and low bits that are full take no more");
}

/* Notes kinds of segments in the order of the digits of @code (base 5, 0: the end).  0: other
 * letters, or another order, came out; -1: no order at all. */
static int notes(unsigned code)
{
	static const char letter[] = "AaDd";
	struct conn c = { .state = FSM_OPEN };
	char want[8] = "", text[HISTORY_LETTERS + 1];
	unsigned n = 0, bits = 0;

	for (; code % 5; code /= 5, n++) {
		bool data = code % 5 > 2;
		unsigned side = !(code % 5 & 1);
		struct segment s = { .flags = TCP_ACK, .payload_len = data, .window = 1 };

		if (bits & conn_note_bit(side, data))
			return -1;
		bits |= conn_note_bit(side, data);
		want[n] = letter[code % 5 - 1];
		conn_note_history(&c, side, &s, (struct conn_note){ 0 });
		conn_note_history(&c, side, &s, (struct conn_note){ 0 });
	}
	if (code)
		return -1; /* something after the end */
	history_text(c.history, text);
	bool ack = strpbrk(want, "Aa"), data = strpbrk(want, "Dd");

	return !strcmp(text, want) && c.noted == bits &&
	       c.complete == ((ack ? COMPLETE_ACK : 0) | (data ? COMPLETE_DATA : 0));
}

static void test_notes(void)
{
	unsigned wrong = 0, orders = 0;

	for (unsigned code = 0; code < 5 * 5 * 5 * 5; code++) {
		int r = notes(code);

		wrong += r == 0;
		orders += r > 0;
	}
	printf("# %u orders\n", orders);
	ok(!wrong && orders == 65, "the first of each kind gets its letter, once, in order");
}

/* ---- Zeek's words --------------------------------------------------------------------------- */

static void test_zeek_state(void)
{
	enum { NONE = 0, S = COMPLETE_SYN, H = COMPLETE_SYN_ACK, SH = S | H };
	static const struct {
		unsigned complete;
		enum fsm_state at;
		int rst_by;
		enum conn_state want;
		const char *why;
	} cases[] = {
		{ S, FSM_SYN, -1, CONN_S0, "attempt seen, no reply" },
		{ S, FSM_SYN, SIDE_B, CONN_REJ, "attempt rejected" },
		{ S, FSM_SYN, SIDE_A, CONN_RSTOS0,
		  "SYN, then a RST by the originator, no SYN-ACK" },
		{ H, FSM_ANSWERED, SIDE_B, CONN_RSTRH,
		  "SYN-ACK, then a RST by the responder, no SYN" },
		{ SH, FSM_OPEN, -1, CONN_S1, "established, not terminated" },
		{ SH, FSM_DONE_A, -1, CONN_SF, "normal end, client first" },
		{ SH, FSM_DONE_X, -1, CONN_SF, "normal end, both at once" },
		{ SH, FSM_LAST_B, SIDE_A, CONN_RSTO, "both closed, but the originator aborted" },
		{ SH, FSM_LAST_A, SIDE_B, CONN_RSTR, "both closed, but the responder aborted" },
		{ SH, FSM_HALF_A, -1, CONN_S2, "the originator's close, no reply" },
		{ SH, FSM_HALF_B, -1, CONN_S3, "the responder's close, no reply" },
		{ SH, FSM_OPEN, SIDE_A, CONN_RSTO, "the originator aborted" },
		{ SH, FSM_OPEN, SIDE_B, CONN_RSTR, "the responder aborted" },
		{ S, FSM_FIN_A, -1, CONN_SH, "SYN and FIN by the originator, no SYN-ACK" },
		{ H, FSM_FIN_B, -1, CONN_SHR, "SYN-ACK and FIN by the responder, no SYN" },
		{ NONE, FSM_OPEN, -1, CONN_OTH, "midstream" },
	};

	for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
		struct conn c = { .complete = cases[i].complete & 63 };

		ok(conn_zeek_state(&c, cases[i].at, cases[i].rst_by) == cases[i].want,
		   "Zeek's %s: %s", conn_state_str[cases[i].want].s, cases[i].why);
	}
}

int main(void)
{
	rng = tap_seed(44);
	test_durations();
	test_history();
	test_history_search();
	test_round_trip(false);
	test_round_trip(true);
	test_held();
	test_refusals();
	test_parts();
	test_counts();
	test_notes();
	test_zeek_state();
	return tap_done();
}
