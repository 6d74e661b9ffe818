#include "wire/checksum.h"
#include "tests/support/frames.h"

/* RFC 1071 4.1, octet by octet: the sum that the field has to make 0xffff. */
static uint16_t sum_slowly(const uint8_t *p, size_t n, uint32_t sum)
{
	for (size_t i = 0; i < n; i++)
		sum += i & 1 ? p[i] : (uint32_t)p[i] << 8;
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return (uint16_t)sum;
}

/* Of the pseudo-header, the length of the segment in it. */
static uint16_t pseudo_sum(unsigned v)
{
	size_t len = pkt_n - tcp_at;
	uint32_t rest = (uint32_t)len + 6;

	return v == 4 ? sum_slowly(pkt + ip_at + 12, 8, rest)
		      : sum_slowly(pkt + ip_at + 8, 32, rest);
}

static void build(unsigned v, unsigned payload)
{
	static unsigned salt;

	ethernet(v == 4 ? V4 : V6);
	v == 4 ? ip4(6, 0) : ip6(6);
	tcp(TCP_ACK, payload % 3 * 4, 0);
	for (unsigned i = 0; i < payload; i++)
		put8(i * 37 + salt * 101);
	salt++;
	finish();
	set16(tcp_at + 16, 0);
	set16(tcp_at + 16, 0xffff & ~sum_slowly(pkt + tcp_at, pkt_n - tcp_at, pseudo_sum(v)));
}

/* Of the frame as it is, @captured octets of it there. */
static bool wrong(uint32_t captured)
{
	fr.caplen = captured;
	if (decode() != FRAME_TCP)
		exit(EXIT_FAILURE);
	return checksum_wrong(&seg, fr.data + captured);
}

static void test_sums(unsigned v)
{
	unsigned right = 0, caught = 0, partial = 0, judged = 0, n = 0;

	for (unsigned payload = 0; payload < 200; payload++, n++) {
		uint32_t full;

		build(v, payload);
		full = (uint32_t)pkt_n;
		right += !wrong(full);
		/* any octet of the segment, and of the addresses */
		size_t at = payload & 1 ? ip_at + 12 + payload % 8
					: tcp_at + payload % (pkt_n - tcp_at);

		if (at == tcp_at + 12)
			at++; /* the header's length: another segment */
		pkt[at] ^= (uint8_t)(1 + payload);
		caught += wrong(full);
		if (payload)
			judged += wrong(full - 1);
		pkt[at] ^= (uint8_t)(1 + payload);
		set16(tcp_at + 16, pseudo_sum(v));
		partial += !wrong(full);
	}
	ok(right == n, "IPv%u: %u right ones", v, right);
	ok(caught == n, "IPv%u: one changed octet makes it wrong", v);
	ok(partial == n, "IPv%u: the pseudo-header's sum alone: the device is to do the rest", v);
	ok(!judged, "IPv%u: a segment without its last octet cannot be judged", v);
	build(v, 50);
	set16(tcp_at + 16, 0);
	ok(wrong((uint32_t)pkt_n), "IPv%u: 0 is no excuse (TCP, unlike UDP, has to have one)", v);
	build(v, 1);
	put_run(0xaa, 5);
	fr.len = (uint32_t)pkt_n;
	ok(!wrong(fr.len), "IPv%u: padding of the frame does not count", v);
}

static void test_unknowable(void)
{
	build(4, 100);
	pkt[pkt_n - 1] ^= 1;
	ok(wrong((uint32_t)pkt_n), "a wrong one");
	set16(ip_at + 6, 0x2000);
	ok(!wrong((uint32_t)pkt_n), "... of a fragment cannot be judged");
	set16(ip_at + 6, 0);
	fr.gso_size = 10;
	ok(!wrong((uint32_t)pkt_n), "... of a super-frame cannot be judged");
	ethernet(V6);
	ip6(43);
	extension(6, 2, 24);
	tcp(TCP_ACK, 0, 10);
	finish();
	ok(!wrong((uint32_t)pkt_n), "... after a routing header cannot be judged");
}

int main(void)
{
	test_sums(4);
	test_sums(6);
	test_unknowable();
	return tap_done();
}
