/* Any octets as a frame.  The first ones choose what a source would know of it:
 *   0: link type   1: bit 0 VLAN in metadata   2-3: octets of the frame that were not captured, x 4
 *   4-5: gso_size
 * The rest is the frame, in memory of exactly its size. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include "wire/frame.h"
#include "wire/segment.h"

enum { KNOBS = 6 };

static void must(int truth)
{
	if (!truth)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *in, size_t n)
{
	if (n < KNOBS)
		return 0;

	uint32_t caplen = (uint32_t)(n - KNOBS);
	uint8_t *data = malloc(caplen);
	struct frame f = {.data = data,
			  .caplen = caplen,
			  .len = caplen + be16_at(in + 2) * 4u,
			  .ts_ns = 1,
			  .gso_size = be16_at(in + 4),
			  .iface = 2,
			  .vlan_tci = 0xffff,
			  .has_vlan = in[1] & 1,
			  .link = in[0] % LINK_TYPES};
	struct segment s, untouched;

	memcpy(data, in + KNOBS, caplen);
	memset(&s, 0xa5, sizeof s);
	memcpy(&untouched, &s, sizeof s);

	enum frame_verdict v = frame_decode(&f, &s);

	must(v < FRAME_VERDICTS);
	if (v != FRAME_TCP) {
		must(!memcmp(&s, &untouched, sizeof s));
	} else {
		must(s.ip_v == 4 || s.ip_v == 6);
		must(s.payload_len + 40 <= f.len);
		must(s.options.n <= 40);
		must(s.options.p >= data + 40 && s.options.p + s.options.n <= data + caplen);
		must(s.wire_segs >= 1 && s.wire_len >= f.len);
		must(s.wire_segs == 1 || f.gso_size);
		must(s.nvlan <= 2 && s.vlan[0] <= 0xfff && s.vlan[1] <= 0xfff);
		must(s.flags <= 0xfff);
		must(s.ts_ns == 1 && s.iface == 2);
	}
	free(data);
	return 0;
}
