#include "synfind/stream_state.h"
#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include "base/cc.h"
#include "base/layout.h"
#include "common/crash.h"
#include "common/log.h"
#include "format/json.h"
#include "opener/protocol.h"
#include "synfind/fdstore.h"
#include "synfind/subscriber.h"

enum {
	LAYOUT_VERSION = 6, /* raise it if kept memory changes its meaning but not its layout */
	PAGE = 4096,
	UNDO_OCTETS = 1 << 17, /* a transaction saves up to 400 for each of 256 records */
	CURSORS = STREAM_IFACES * OPENER_RINGS_MAX,
	RECORD_OCTETS = (sizeof(struct subscriber_record) + PAGE - 1) / PAGE * PAGE,
};

static const uint64_t magic = UINT64_C(0x316d72747364666e); /* "nfdstrm1" */

/* Offsets of the parts, in this order; the logs follow. */
struct layout {
	uint64_t undo, in_use, cursors, filters, segments, marks[ACCESS_LOGS], records, control;
};

static uint64_t layout_part(struct layout *l, uint64_t octets)
{
	uint64_t at = l->control;

	l->control += (octets + PAGE - 1) / PAGE * PAGE;
	return at;
}

static struct layout layout_of(uint64_t log_octets, unsigned records)
{
	struct layout l = { 0 };

	layout_part(&l, sizeof(struct stream_head));
	l.undo = layout_part(&l, UNDO_OCTETS);
	l.in_use = layout_part(&l, records * sizeof(uint32_t));
	l.cursors = layout_part(&l, CURSORS * sizeof(struct ring_cursor));
	l.filters = layout_part(&l, FILTER_SLOTS * sizeof(struct filter_slot));
	l.segments = layout_part(&l, ENDPOINTS_MAX * sizeof(struct segment_place));
	for (unsigned i = 0; i < ACCESS_LOGS; i++)
		l.marks[i] =
			layout_part(&l, linelog_marks(log_octets) * sizeof(struct linelog_mark));
	l.records = layout_part(&l, (uint64_t)records * RECORD_OCTETS);
	l.control = (l.control + (1 << 16) - 1) >> 16 << 16; /* a multiple of every page size */
	return l;
}

static uint64_t layout_hash(void)
{
	static const uint64_t values[] = {
		sizeof(struct stream_head),
		LAYOUT_MEMBER(struct stream_head, run_id),
		LAYOUT_MEMBER(struct stream_head, alive_ns),
		LAYOUT_MEMBER(struct stream_head, refused),
		LAYOUT_MEMBER(struct stream_head, key),
		LAYOUT_MEMBER(struct stream_head, rescue),
		LAYOUT_MEMBER(struct stream_head, mark_first),
		LAYOUT_MEMBER(struct stream_head, state),
		sizeof(struct stream_progress),
		LAYOUT_MEMBER(struct stream_progress, end),
		sizeof(struct ring_cursor),
		LAYOUT_MEMBER(struct ring_cursor, number),
		LAYOUT_MEMBER(struct ring_cursor, tail),
		sizeof(struct subscriber_record),
		LAYOUT_MEMBER(struct subscriber_record, cursor),
		LAYOUT_MEMBER(struct subscriber_record, msg),
		LAYOUT_MEMBER(struct subscriber_record, snapshot),
		LAYOUT_MEMBER(struct subscriber_snapshot, id),
		LAYOUT_MEMBER(struct subscriber_record, prefix),
		LAYOUT_MEMBER(struct subscriber_record, rows),
		sizeof(struct linelog_mark),
		LAYOUT_MEMBER(struct linelog_mark, bits),
		LAYOUT_MEMBER(struct subscriber_cursor, lost_count),
		LAYOUT_MEMBER(struct subscriber_cursor, prefix_at),
		LAYOUT_MEMBER(struct subscriber_cursor, want),
		sizeof(struct filter_slot),
		LAYOUT_MEMBER(struct filter_slot, text),
		sizeof(struct segment_place),
		LAYOUT_MEMBER(struct segment_place, uid),
		LINE_KINDS,
		CURSORS,
		UNDO_OCTETS,
	};

	return layout_fingerprint(LAYOUT_VERSION, values, ARRAY_SIZE(values));
}

static struct stream_geometry geometry_of(uint64_t log_octets, unsigned records)
{
	return (struct stream_geometry){ .magic = magic,
					 .octets = layout_of(log_octets, records).control +
						   ACCESS_LOGS * log_octets,
					 .log_octets = log_octets,
					 .layout = layout_hash(),
					 .records = records };
}

static int stream_map(struct stream_state *s, int fd, uint64_t log_octets, unsigned records)
{
	struct layout l = layout_of(log_octets, records);
	unsigned char *p = mmap(NULL, l.control, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	int r = 0;

	*s = (struct stream_state){ 0 };
	if (p == MAP_FAILED)
		return -errno;
	s->head = (struct stream_head *)p;
	s->state = &s->head->state;
	s->in_use = (uint32_t *)(p + l.in_use);
	s->cursors = (struct ring_cursor *)(p + l.cursors);
	s->record_memory = p + l.records;
	s->filters.slots = (struct filter_slot *)(p + l.filters);
	s->segments.places = (struct segment_place *)(p + l.segments);
	s->control_octets = l.control;
	undo_init(&s->undo, p, l.control, p + l.undo, UNDO_OCTETS);
	for (unsigned i = 0; i < ACCESS_LOGS && r >= 0; i++)
		r = linelog_map(&s->log[i], fd, l.control + i * log_octets, log_octets,
				(struct linelog_mark *)(p + l.marks[i]), &s->state->end[i],
				&s->head->mark_first[i]);
	for (unsigned i = 0; i < ACCESS_LOGS; i++)
		s->log[i].filters = &s->filters;
	if (r < 0)
		stream_state_close(s);
	return r;
}

/* Reads and checks the start of an earlier process's stream.  -ESTALE: it is of another version. */
static int stream_read_geometry(int fd, struct stream_geometry *ret)
{
	if (pread(fd, ret, sizeof *ret, 0) != sizeof *ret)
		return -EBADMSG;
	return ret->magic == magic && ret->layout == layout_hash() ? 0 : -ESTALE;
}

bool stream_state_rescue(int fd, struct stream_rescue *ret)
{
	struct stream_geometry g;

	return stream_read_geometry(fd, &g) == 0 &&
	       pread(fd, ret, sizeof *ret, offsetof(struct stream_head, rescue)) == sizeof *ret;
}

/* -ESTALE: the stream is of another version; -EUCLEAN: a new one is due (rescue.h), with
 * *ret. */
static int stream_adopt(struct stream_state *s, int fd, struct stream_rescue *ret)
{
	struct stream_geometry g, want;
	enum rescue_step step;
	struct stat st;
	int r = stream_read_geometry(fd, &g);

	if (r < 0)
		return r;
	if (fstat(fd, &st) < 0)
		return -errno;
	if (g.log_octets != linelog_size(g.log_octets) || g.records > UINT16_MAX + 2u)
		return -EBADMSG;
	want = geometry_of(g.log_octets, (unsigned)g.records);
	if (memcmp(&g, &want, sizeof g) != 0 || (uint64_t)st.st_size != g.octets)
		return -EBADMSG;
	r = stream_map(s, fd, g.log_octets, (unsigned)g.records);
	if (r < 0)
		return r;
	s->crashed = s->head->rescue.crashed;
	s->head->rescue.crashed = 0;
	crash_note(&s->head->rescue.crashed);
	step = rescue_adopt(&s->head->rescue.deaths, s->crashed);
	*ret = s->head->rescue; /* for a new stream */
	ret->deaths = rescue_renewed(&ret->deaths);
	r = step < RESCUE_NEW_MEMORY ? undo_rollback(&s->undo) : -EUCLEAN;
	for (unsigned i = 0; i < ACCESS_LOGS && r >= 0; i++)
		if (!linelog_is_sound(&s->log[i]))
			r = -EBADMSG;
	if (r < 0)
		stream_state_close(s);
	for (unsigned i = 0; i < ACCESS_LOGS && r >= 0; i++)
		s->committed[i] = s->state->end[i].head;
	s->step = step;
	s->deaths = ret->deaths.deaths;
	return r;
}

static int stream_create(struct stream_state *s, struct fdstore *fdstore, uint64_t log_octets,
			 unsigned records, const struct stream_rescue *rescue)
{
	struct stream_geometry g = geometry_of(log_octets, records);
	int fd = fdstore_memfd(fdstore, STREAM_NAME, g.octets), r;

	if (fd < 0)
		return fd;
	r = stream_map(s, fd, log_octets, records);
	close(fd);
	if (r < 0)
		return r;
	s->crashed = true;
	crash_note(&s->head->rescue.crashed);
	s->state->seq = 1; /* the start itself */
	s->head->rescue = *rescue;
	undo_order();
	s->head->geometry = g; /* last: now the stream is valid */
	return 0;
}

int stream_state_open(struct stream_state *s, struct fdstore *fdstore, uint64_t log_octets,
		      unsigned records, bool *ret_adopted)
{
	int fd = fdstore_take(fdstore, STREAM_NAME), r = -ENOENT;
	struct stream_rescue rescue = { .deaths.task = RESCUE_ADOPT };

	if (fd >= 0) {
		r = stream_adopt(s, fd, &rescue);
		close(fd);
		if (r < 0) {
			log_warn("Cannot resume the stream of the previous process (%s): starting "
				 "a new one",
				 r == -ESTALE	 ? "another version wrote it"
				 : r == -EUCLEAN ? "three processes ended in it"
						 : strerror(-r));
			stream_state_forget(fdstore);
		}
	}
	*ret_adopted = r >= 0;
	if (r < 0) {
		enum rescue_step step = r == -EUCLEAN ? RESCUE_NEW_MEMORY : RESCUE_NONE;

		r = stream_create(s, fdstore, linelog_size(log_octets),
				  records > STREAM_RECORDS_MIN ? records : STREAM_RECORDS_MIN,
				  &rescue);
		s->step = step;
		s->deaths = rescue.deaths.deaths;
	}
	return r < 0 ? log_errno(r, "Cannot set up the queue") : 0;
}

void stream_state_close(struct stream_state *s)
{
	crash_note(NULL);
	filters_destroy(&s->filters);
	for (unsigned i = 0; i < ACCESS_LOGS; i++)
		linelog_unmap(&s->log[i]);
	if (s->head)
		munmap(s->head, s->control_octets);
	*s = (struct stream_state){ 0 };
}

void stream_state_forget(struct fdstore *fdstore)
{
	fdstore_remove(fdstore, STREAM_NAME);
}

struct ring_cursor *stream_state_cursor(const struct stream_state *s, unsigned iface_id,
					unsigned index)
{
	return &s->cursors[iface_id % STREAM_IFACES * OPENER_RINGS_MAX + index % OPENER_RINGS_MAX];
}

struct subscriber_record *stream_state_record(const struct stream_state *s, unsigned i)
{
	return (struct subscriber_record *)(s->record_memory + (size_t)i * RECORD_OCTETS);
}
