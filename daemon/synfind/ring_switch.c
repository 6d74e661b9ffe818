#include "synfind/ring_switch.h"

void ring_switch_begin(struct ring_switch *s, struct ring_switch_clock now,
		       uint64_t block_timeout_ns)
{
	uint64_t latency = ring_latency_ns(block_timeout_ns);

	*s = (struct ring_switch){ .phase = RING_SWITCH_OLD,
				   .since = now,
				   .time_ns = now.real + RING_SWITCH_GAP_NS,
				   .latency_ns = latency,
				   .until_ns = now.monotonic + 2 * RING_SWITCH_GAP_NS + latency };
}

bool ring_switch_skips(struct ring_switch *s, uint64_t ts_ns)
{
	bool old = s->phase == RING_SWITCH_OLD;
	uint64_t end = s->time_ns + RING_SWITCH_GAP_NS;

	if (ts_ns > s->newest_ns)
		s->newest_ns = ts_ns;
	if (ts_ns > s->time_ns && ts_ns <= end)
		s->in_gap[!old]++;
	else if (old && ts_ns > end)
		s->after_gap++;
	return old ? ts_ns > s->time_ns : ts_ns <= end;
}

/* Has CLOCK_REALTIME been set since the beginning? */
static bool clock_was_set(const struct ring_switch *s, struct ring_switch_clock now)
{
	int64_t drift = (int64_t)(now.real - s->since.real - (now.monotonic - s->since.monotonic));

	return drift > RING_SWITCH_GAP_NS || drift < -RING_SWITCH_GAP_NS;
}

void ring_switch_abandon(struct ring_switch *s)
{
	s->phase = RING_SWITCH_OVER;
}

bool ring_switch_advance(struct ring_switch *s, struct ring_switch_clock now, bool empty)
{
	bool old = s->phase == RING_SWITCH_OLD;
	/* Frames of two processors may be in another order than their stamps, by microseconds. */
	uint64_t passed = s->time_ns + (old ? 1 : 2) * RING_SWITCH_GAP_NS;

	if (old && clock_was_set(s, now)) {
		ring_switch_abandon(s);
		return true;
	}
	if (s->newest_ns <= passed && !(empty && now.monotonic >= s->until_ns))
		return false;
	s->phase = old ? RING_SWITCH_NEW : RING_SWITCH_OVER;
	s->newest_ns = s->after_gap = 0; /* the new ring has those */
	s->until_ns = now.monotonic + s->latency_ns;
	return true;
}

uint64_t ring_switch_lost(struct ring_switch *s, uint64_t *ret_to_ns)
{
	s->phase = RING_SWITCH_NONE;
	*ret_to_ns = s->after_gap ? s->newest_ns : s->time_ns + RING_SWITCH_GAP_NS;
	return (s->in_gap[0] > s->in_gap[1] ? s->in_gap[0] : s->in_gap[1]) + s->after_gap;
}
