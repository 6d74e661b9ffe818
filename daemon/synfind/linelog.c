#include "synfind/linelog.h"
#include <errno.h>
#include <sys/mman.h>
#include "format/json.h"
#include "synfind/filters.h"

uint64_t linelog_size(uint64_t octets)
{
	uint64_t p = 1 << 16;

	while (p < octets)
		p <<= 1;
	return p;
}

int linelog_map(struct linelog *l, int fd, uint64_t offset, uint64_t size,
		struct linelog_mark *marks, struct linelog_end *end, uint64_t *mark_first)
{
	char *base =
		mmap(NULL, 2 * size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (base == MAP_FAILED)
		return -errno;
	for (unsigned i = 0; i < 2; i++) {
		if (mmap(base + i * size, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd,
			 (off_t)offset) != MAP_FAILED)
			continue;
		int r = -errno;

		munmap(base, 2 * size);
		return r;
	}
	*l = (struct linelog){ .base = base,
			       .size = size,
			       .marks = marks,
			       .mark_mask = linelog_marks(size) - 1,
			       .end = end,
			       .mark_first = mark_first };
	return 0;
}

void linelog_unmap(struct linelog *l)
{
	if (l->base)
		munmap(l->base, 2 * l->size);
	*l = (struct linelog){ 0 };
}

void linelog_clear(struct linelog *l)
{
	*l->mark_first = l->end->mark_next;
}

bool linelog_wants(const struct linelog *l, uint64_t i, const struct subscription *want,
		   bool *ret_parsed)
{
	struct linelog_mark m = linelog_mark(l, i, 0);

	*ret_parsed = false;
	if (m.endpoints && (!(m.endpoints & want->endpoints) || m.at < want->segments_at))
		return false;
	if (m.kind == LINE_LOST || m.kind == LINE_RESTART)
		return true;
	if (!m.endpoints && !(want->kinds >> m.kind & 1))
		return false;
	if (want->filter == FILTER_NONE)
		return true;
	if (m.seq >= l->filters->slots[want->filter].since_seq)
		return m.bits >> want->filter & 1;
	*ret_parsed = true;
	return where_line(l->filters->where[want->filter], linelog_octets(l, m.at),
			  linelog_mark(l, i + 1, 0).at - m.at);
}

uint64_t linelog_pass(const struct linelog *l, uint64_t i, uint64_t end,
		      const struct subscription *want)
{
	const uint64_t always = UINT64_C(1) << LINE_LOST | UINT64_C(1) << LINE_RESTART;
	uint64_t kinds = want->kinds | always, since = 0, bits = UINT64_MAX;

	if (want->filter != FILTER_NONE) {
		since = l->filters->slots[want->filter].since_seq;
		bits = UINT64_C(1) << want->filter;
	}
	for (; i < end; i++) {
		const struct linelog_mark *m = &l->marks[i & l->mark_mask];

		if (m->endpoints || always >> m->kind & 1)
			break;
		if (kinds >> m->kind & 1 &&
		    (want->filter == FILTER_NONE || m->bits & bits || m->seq < since))
			break;
	}
	return i;
}

bool linelog_is_sound(const struct linelog *l)
{
	uint64_t lines = l->end->mark_next - *l->mark_first, at = linelog_oldest(l);

	if (lines > l->mark_mask + 1 || at > l->end->head || l->end->head - at > l->size ||
	    l->end->special_end > l->end->head)
		return false;
	for (uint64_t i = *l->mark_first; i != l->end->mark_next; i++) {
		uint64_t next = linelog_mark(l, i, 0).at;

		if (next < at || next > l->end->head)
			return false;
		at = next;
	}
	return true;
}

enum mark_member { MARK_AT, MARK_SEQ };

static uint64_t mark_value(const struct linelog *l, uint64_t i, enum mark_member member)
{
	const struct linelog_mark *m = &l->marks[i & l->mark_mask];

	return member == MARK_AT ? m->at : m->seq;
}

/* Index of the first line whose @member is at least @value: mark_first .. mark_next. */
static uint64_t first_line(const struct linelog *l, enum mark_member member, uint64_t value)
{
	uint64_t lo = *l->mark_first, hi = l->end->mark_next;

	/* Most subscribers are near the end, where the marks are still in the CPU's cache. */
	for (uint64_t step = 16; hi - lo > step; step *= 2) {
		if (mark_value(l, hi - step, member) < value) {
			lo = hi - step + 1;
			break;
		}
		hi -= step;
	}
	while (lo < hi) {
		uint64_t mid = lo + (hi - lo) / 2;

		if (mark_value(l, mid, member) < value)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

uint64_t linelog_line_at(const struct linelog *l, uint64_t at)
{
	return first_line(l, MARK_AT, at);
}

uint64_t linelog_line_after(const struct linelog *l, uint64_t seq)
{
	return first_line(l, MARK_SEQ, seq);
}
