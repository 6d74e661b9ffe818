#include "synfind/snapshot.h"
#include <stddef.h>
#include <string.h>
#include <time.h>
#include "base/strbuf.h"
#include "common/clock.h"
#include "common/log.h"
#include "common/options.h"
#include "flow/event.h"
#include "flow/listing.h"
#include "format/json.h"
#include "synfind/decoder.h"
#include "synfind/publisher_state.h"
#include "synfind/subscriber.h"

enum {
	PIECE = 16,	    /* rows that a decoder is asked for */
	RETRY_USEC = 10000, /* its mailbox is full, or it is not yet running */
};

/* Its members up to the id are about to change. */
static struct subscriber_snapshot *snapshot_edit(struct publisher *p, struct subscriber *s)
{
	struct subscriber_snapshot *snapshot = &s->record->snapshot;

	undo_save(&p->stream.undo, snapshot, offsetof(struct subscriber_snapshot, id));
	return snapshot;
}

static struct subscriber *find_asker(const struct publisher *p, uint32_t token, uint16_t serial)
{
	struct subscriber *s = p->subscribers.list;

	while (s && (s->index != token || (uint16_t)s->record->snapshot.serial != serial ||
		     !s->record->snapshot.walking))
		s = s->next;
	return s;
}

/* Space for one more line among the rows, of JSON_LINE_MAX octets.  .full: no space is left. */
static struct strbuf row_begin(struct subscriber *s)
{
	struct subscriber_record *record = s->record;
	char *at = record->rows + record->snapshot.rows_octets;
	size_t space = sizeof record->rows - record->snapshot.rows_octets;

	return (struct strbuf){ .p = at, .end = at + JSON_LINE_MAX, .full = space < JSON_LINE_MAX };
}

static void row_end(struct publisher *p, struct subscriber *s, const struct strbuf *line)
{
	struct subscriber_record *record = s->record;
	struct subscriber_snapshot *snapshot = &record->snapshot;

	if (!snapshot->rows_octets)
		snapshot->rows_at = p->stream.state->end[record->log].head;
	snapshot->rows_octets = (uint32_t)(line->p - record->rows);
}

static bool row_is_wanted(const struct publisher *p, const struct subscriber *s,
			  const struct event *e, const struct json_context *c)
{
	unsigned filter = s->record->cursor.want.filter;

	return filter == FILTER_NONE ||
	       where_event(p->stream.filters.where[filter], e, p->stream.state->seq, c);
}

void snapshot_take(struct publisher *p, const struct event *e, const struct json_context *c)
{
	struct subscriber *s = find_asker(p, e->snapshot.token, e->snapshot.generation);
	struct subscriber_snapshot *snapshot;
	struct event row = *e;
	struct strbuf line;

	if (!s)
		return;
	s->snapshot_asked = e->snapshot.left;
	snapshot = snapshot_edit(p, s);
	if (e->snapshot.no_row) {
		snapshot->next = e->snapshot.place;
		return;
	}
	line = row_begin(s);
	if (line.full) /* the walk continues here */
		return;
	snapshot->next = e->snapshot.place;
	if (s->record->log == ACCESS_PSEUDONYMS)
		pseudonym_event(&p->key, &row);
	if (!row_is_wanted(p, s, &row, c))
		return;
	json_event(&line, &row, p->stream.state->seq, c);
	if (line.full)
		return;
	row_end(p, s, &line);
	snapshot->count++;
}

/* The next decoder of the walk, from ring @from on, or NULL. */
static struct input_ring *next_ring(const struct publisher *p, uint32_t from)
{
	struct input_ring *next = NULL;

	for (struct input_ring *input = p->rings; input; input = input->next)
		if (input->cursor - p->stream.cursors >= from &&
		    (!next || input->cursor < next->cursor))
			next = input;
	return next;
}

static void walk_end(struct publisher *p, struct subscriber *s)
{
	struct subscriber_snapshot *snapshot = &s->record->snapshot;
	struct json_snapshot_end end = { .host = p->id.host,
					 .run_id = p->id.run_id,
					 .id = snapshot->has_id ? snapshot->id : NULL,
					 .count = snapshot->count };
	struct strbuf line = row_begin(s);

	json_snapshot_end(&line, &end, p->stream.state->seq, wall_clock_ns());
	row_end(p, s, &line);
	snapshot->walking = false;
}

static int on_snapshot_timer(sd_event_source *timer, uint64_t usec, void *arg)
{
	struct publisher *p = arg;

	(void)timer, (void)usec;
	subscribers_serve_all(&p->subscribers, false, wall_clock_ns());
	return 0;
}

static void pull_later(struct publisher *p)
{
	int r;

	if (p->snapshot_timer) {
		r = sd_event_source_set_time_relative(p->snapshot_timer, RETRY_USEC);
		if (r >= 0)
			r = sd_event_source_set_enabled(p->snapshot_timer, SD_EVENT_ONESHOT);
	} else {
		r = sd_event_add_time_relative(p->loop, &p->snapshot_timer, CLOCK_MONOTONIC,
					       RETRY_USEC, 1, on_snapshot_timer, p);
	}
	if (r < 0)
		log_errno(r, "Cannot continue a snapshot");
}

/* Asks for the next piece of a walk, of the next decoder if that one is through, or ends it. */
static void pull(struct publisher *p, struct subscriber *s)
{
	struct subscriber_snapshot *snapshot = &s->record->snapshot;
	struct input_ring *input = next_ring(p, snapshot->ring);
	uint32_t ring = input ? (uint32_t)(input->cursor - p->stream.cursors) : UINT32_MAX;

	stream_state_begin(&p->stream, NULL);
	snapshot_edit(p, s);
	if (input && ring == snapshot->ring && snapshot->next == LISTING_END &&
	    snapshot->generation == input->cursor->generation) {
		input = next_ring(p, ring + 1);
		ring = input ? (uint32_t)(input->cursor - p->stream.cursors) : UINT32_MAX;
	}
	if (input &&
	    (ring != snapshot->ring || snapshot->generation != input->cursor->generation)) {
		snapshot->ring = ring;
		snapshot->generation = input->cursor->generation;
		snapshot->next = 0;
	}
	if (!input)
		walk_end(p, s);
	stream_state_commit(&p->stream);
	if (!input)
		return;
	s->snapshot_asked = decoder_list(
		input->decoder, &(struct list_piece){ .token = s->index,
						      .generation = (uint16_t)snapshot->serial,
						      .rows = PIECE,
						      .cursor = snapshot->next });
	if (!s->snapshot_asked)
		pull_later(p);
}

bool snapshot_pull(void *publisher, struct subscriber *s)
{
	const struct subscriber_snapshot *snapshot = &s->record->snapshot;

	if (!snapshot->walking || snapshot->rows_octets || s->snapshot_asked)
		return false;
	pull(publisher, s);
	return !snapshot->walking;
}

void snapshot_removed(struct publisher *p, const struct input_ring *input)
{
	for (struct subscriber *s = p->subscribers.list; s; s = s->next)
		if (s->record->snapshot.ring == input->cursor - p->stream.cursors)
			s->snapshot_asked = false;
}
