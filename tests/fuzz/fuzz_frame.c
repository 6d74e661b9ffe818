/* Any octets as a frame.  The first six are the source's metadata:
 *   0: link type   1: bit 0 VLAN in metadata, bits 1-2 enum frame_inner
 *   2-3: octets of the frame that were not captured, / 4   4-5: gso_size
 * The rest is the frame, in memory of exactly its size. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include "wire/checksum.h"
#include "wire/frame.h"
#include "wire/link.h"
#include "wire/segment.h"
#include "wire/tunnel.h"

enum { KNOBS = 6 };

static void must(int truth)
{
	if (!truth)
		abort();
}

static void check_segment(const struct segment *s, const struct frame *f)
{
	must(s->ip_v == 4 || s->ip_v == 6);
	must(s->options.n <= 40);
	must(s->options.p >= f->data + 40 && s->options.p + s->options.n <= f->data + f->caplen);
	must(s->wire_segs >= 1 && s->wire_len >= f->len && s->wire_len >= s->payload_len + 40);
	must(s->wire_segs == 1 || f->gso_size);
	must(s->nvlan <= 2 && s->vlan[0] <= 0xfff && s->vlan[1] <= 0xfff);
	must(s->flags <= 0xfff);
	must(s->ts_ns == 1 && s->iface == 2);
	(void)checksum_wrong(s, f->data + f->caplen);
}

/* frame_decode_inner() writes nothing on failure, and refines only FRAME_NOT_TCP of frame_decode():
 * the contract of the kernel's filter depends on that. */
static void check_inner(const struct frame *f, unsigned inner, enum frame_verdict plain)
{
	struct segment s, untouched;
	struct tunnel t = { .type = TUNNEL_TYPES };

	memset(&s, 0xa5, sizeof s);
	memcpy(&untouched, &s, sizeof s);

	enum frame_verdict v = frame_decode_inner(f, inner, &t, &s);

	must(v < FRAME_TUNNELS_FULL);
	must(plain == FRAME_NOT_TCP || v == plain);
	must(v == FRAME_NOT_TCP || plain != FRAME_NOT_TCP || frame_holds_inner(f, inner) ||
	     v == FRAME_FRAGMENT);
	if (v == FRAME_TCP) {
		must(t.type < TUNNEL_TYPES && (t.has_id || !t.id));
		must(!t.type || inner & INNER_TUNNELS);
		check_segment(&s, f);
	} else if (v == FRAME_ICMP) {
		must(inner & INNER_ICMP && t.type < TUNNEL_TYPES);
		must((s.ip_v == 4 || s.ip_v == 6) && s.ts_ns == 1 && s.iface == 2);
		must(!s.flags && !s.payload_len && !s.options.n);
	} else {
		must(t.type == TUNNEL_TYPES && !memcmp(&s, &untouched, sizeof s));
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *in, size_t n)
{
	if (n < KNOBS)
		return 0;

	uint32_t caplen = (uint32_t)(n - KNOBS);
	uint8_t *data = malloc(caplen);
	struct frame f = { .data = data,
			   .caplen = caplen,
			   .len = caplen + be16_at(in + 2) * 4u,
			   .ts_ns = 1,
			   .gso_size = be16_at(in + 4),
			   .iface = 2,
			   .vlan_tci = 0xffff,
			   .has_vlan = in[1] & 1,
			   .link = in[0] % LINK_TYPES };
	struct segment s, untouched;

	memcpy(data, in + KNOBS, caplen);
	memset(&s, 0xa5, sizeof s);
	memcpy(&untouched, &s, sizeof s);

	enum frame_verdict v = frame_decode(&f, &s);

	must(v < FRAME_VERDICTS);
	if (v != FRAME_TCP) {
		must(!memcmp(&s, &untouched, sizeof s));
	} else {
		must(s.payload_len + 40 <= f.len);
		check_segment(&s, &f);
	}
	check_inner(&f, in[1] >> 1 & 3, v);
	free(data);
	return 0;
}
