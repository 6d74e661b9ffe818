#include "synfinctl/steps.h"
#include <inttypes.h>
#include <stdarg.h>
#include <string.h>
#include "base/cc.h"
#include "synfinctl/human.h"
#include "synfinctl/js.h"

enum { CLIENT, SERVER };
enum { TURNS_MAX = 8, MARKS_MAX = 12, PAUSES_MAX = 12, FREE_AFTER = 2 };
static const uint64_t pause_ns = 1000000000;

static const char *const who[] = { "client", "server" };

/* How much a row matters. */
enum weight {
	WEIGHT_USUAL,	  /* data and bare ACKs in order */
	WEIGHT_MARK,	  /* marked, but there may be thousands */
	WEIGHT_IMPORTANT, /* always shown */
};

/* ---- rows ------------------------------------------------------------------------------------ */

static void push(struct steps *s, const struct sequence_row *row)
{
	if (s->n < STEPS_ROWS)
		s->rows[s->n++] = *row;
}

static void say(struct sequence_row *row, enum out_style style, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

/* Adds to the words; the worst style wins. */
static void say(struct sequence_row *row, enum out_style style, const char *fmt, ...)
{
	static const int rank[OUT_STYLES] = { [OUT_DIM] = 0,  [OUT_PLAIN] = 1, [OUT_BOLD] = 1,
					      [OUT_GOOD] = 2, [OUT_WARN] = 3,  [OUT_BAD] = 4 };
	size_t n = strlen(row->words);
	va_list ap;

	if (n)
		n += (size_t)snprintf(row->words + n, sizeof row->words - n, "; ");
	if (n < sizeof row->words) {
		va_start(ap, fmt);
		vsnprintf(row->words + n, sizeof row->words - n, fmt, ap);
		va_end(ap);
	}
	if (rank[style] > rank[row->style])
		row->style = style;
}

static void fold_end(struct steps *s)
{
	struct steps_fold *f = &s->fold;
	struct sequence_row *row = &f->first;
	struct human_short up = human_octets(f->to_server), down = human_octets(f->to_client);
	char octets[120] = "", again[80] = "", time[48] = "";
	uint64_t ns;

	if (f->rows > 1) {
		ns = f->last_ns > s->begin_ns + row->at_ns ? f->last_ns - s->begin_ns - row->at_ns
							   : 0;
		if (f->to_client && f->to_server)
			snprintf(octets, sizeof octets, ", %s to the client, %s to the server",
				 down.s, up.s);
		else if (f->to_client || f->to_server)
			snprintf(octets, sizeof octets, ", %s to the %s",
				 f->to_client ? down.s : up.s, who[f->to_client ? CLIENT : SERVER]);
		if (f->again)
			snprintf(again, sizeof again, ", %s sent again", human_count(f->again).s);
		if (ns)
			snprintf(time, sizeof time, ", %s", human_duration(ns).s);
		row->kind = SEQUENCE_FOLD;
		row->style = OUT_DIM;
		row->client_state[0] = row->server_state[0] = row->words[0] = 0;
		snprintf(row->label, sizeof row->label, "%s%s%s%s",
			 human_plural(f->segments, "segment").s, octets, again, time);
		snprintf(row->brief, sizeof row->brief, "%s, %s%s",
			 human_plural(f->segments, "segment").s,
			 human_octets(f->to_client + f->to_server).s, time);
	}
	if (f->rows)
		push(s, row);
	*f = (struct steps_fold){ .rows = 0 };
}

struct folded {
	uint64_t segments, len;
	bool again;
};

static void fold_add(struct steps *s, const struct sequence_row *row, const struct folded *what)
{
	struct steps_fold *f = &s->fold;

	if (f->rows && s->fold_max_ns && s->last_ns > s->begin_ns + f->first.at_ns + s->fold_max_ns)
		fold_end(s);
	if (!f->rows++)
		f->first = *row;
	f->segments += what->segments;
	f->again += what->again;
	*(row->to_client ? &f->to_client : &f->to_server) += what->len;
	f->last_ns = s->last_ns;
}

/* Shows a row, or folds it. */
static void show(struct steps *s, const struct sequence_row *row, enum weight weight,
		 const struct folded *what)
{
	if (weight == WEIGHT_IMPORTANT) {
		s->free = FREE_AFTER;
		s->turns = s->marks = s->pauses = 0;
	} else if (weight == WEIGHT_MARK && s->marks < MARKS_MAX) {
		s->marks++;
		s->free = FREE_AFTER;
	} else if (weight == WEIGHT_USUAL) {
		if (what->len && row->to_client != s->data_to_client && s->turns < TURNS_MAX) {
			s->turns++;
			s->free = FREE_AFTER;
		} else if (row->since_ns > pause_ns && s->pauses < PAUSES_MAX) {
			s->pauses++;
			s->free = FREE_AFTER;
		}
		if (what->len)
			s->data_to_client = row->to_client;
	}
	if (weight != WEIGHT_IMPORTANT && !s->all && !s->free) {
		fold_add(s, row, what);
		return;
	}
	fold_end(s);
	s->free -= weight == WEIGHT_USUAL && s->free;
	push(s, row);
}

/* A row at the time of @e, of which nothing is set but the times. */
static struct sequence_row row_at(struct steps *s, const json_t *e, enum sequence_kind kind)
{
	struct sequence_row row = { .kind = kind, .style = OUT_PLAIN };
	uint64_t now;

	if (!human_parse_time(js_str(e, "timestamp"), &now))
		now = s->last_ns;
	if (!s->begin_ns)
		s->begin_ns = s->last_ns = now;
	row.at_ns = now > s->begin_ns ? now - s->begin_ns : 0;
	row.since_ns = now > s->last_ns ? now - s->last_ns : 0;
	s->last_ns = now;
	return row;
}

/* Keeps the states after @e, and puts them into the row where they changed. */
static bool take_states(struct steps *s, const json_t *e, struct sequence_row *row)
{
	static const char *const paths[] = { "tcp.client_state", "tcp.server_state" };
	bool changed = false;

	for (unsigned side = 0; side < 2; side++) {
		const char *state = js_str(e, paths[side]);
		char *to = side == CLIENT ? row->client_state : row->server_state;

		if (!*state || !strncmp(state, s->state[side], SEQUENCE_STATE - 1))
			continue;
		snprintf(s->state[side], SEQUENCE_STATE, "%s", state);
		snprintf(to, SEQUENCE_STATE, "%s", state);
		changed = true;
	}
	return changed;
}

/* ---- segments -------------------------------------------------------------------------------- */

struct seen {
	struct sequence_row *row;
	unsigned from;
	bool syn, ack, fin, rst;
	int64_t seq,
		end; /* numbers of its first octet, and after its last one; SYN and FIN count */
	int64_t acks;
	uint64_t len, window, segments, sack_blocks;
	bool again, changed, was_open, was_over, opening;
	enum weight weight;
};

/* The relative number that is nearest to @near: lines have 32 bits of it. */
static int64_t widen(uint64_t number, int64_t near)
{
	return near + (int32_t)((uint32_t)number - (uint32_t)near);
}

static bool is_over(const char *state)
{
	return !strcmp(state, "closed") || !strcmp(state, "time_wait");
}

static bool is_open(const struct steps *s)
{
	return !strcmp(s->state[CLIENT], "established") && !strcmp(s->state[SERVER], "established");
}

static bool has(const char *flags, char flag)
{
	return strchr(flags, flag);
}

static struct seen segment_of(struct steps *s, const json_t *e, struct sequence_row *row)
{
	const char *flags = js_str(e, "tcp.flags");
	struct seen t = { .row = row, .from = js_is(e, "tcp.from", "server") ? SERVER : CLIENT };
	struct steps_side *me = &s->side[t.from], *peer = &s->side[!t.from];
	uint64_t scale = js_u64(e, "tcp.window_scale");

	t.syn = has(flags, 'S');
	t.ack = has(flags, 'A');
	t.fin = has(flags, 'F');
	t.rst = has(flags, 'R');
	t.len = js_u64(e, "tcp.payload_len") & UINT32_MAX;
	t.seq = widen(js_u64(e, "tcp.seq"), me->seen ? me->next : 0);
	t.end = t.seq + (int64_t)t.len + t.syn + t.fin;
	t.acks = widen(js_u64(e, "tcp.ack"), peer->seen ? peer->next : 0);
	t.window = js_u64(e, "tcp.window") << (scale < 15 ? scale : 14);
	t.segments = js_u64(e, "tcp.wire_segs");
	t.segments = t.segments && t.segments < UINT32_MAX ? t.segments : 1;
	t.sack_blocks = js_u64(e, "tcp.options.sack_blocks");
	t.was_open = is_open(s);
	t.was_over = is_over(s->state[CLIENT]) && is_over(s->state[SERVER]);
	t.opening = !strcmp(s->state[CLIENT], "syn_sent");
	row->to_client = t.from == SERVER;
	return t;
}

static void label(const struct seen *t, const json_t *e)
{
	static const struct {
		char letter;
		const char *name;
	} names[] = { { 'S', "SYN" }, { 'F', "FIN" }, { 'R', "RST" }, { 'P', "PSH" },
		      { 'U', "URG" }, { 'E', "ECE" }, { 'C', "CWR" }, { 'A', "ACK" } };
	const char *flags = js_str(e, "tcp.flags");
	char numbers[96], len[48] = "";
	struct sequence_row *row = t->row;
	size_t n = 0;

	/* Every letter at most once, whatever the line has. */
	for (unsigned i = 0; i < ARRAY_SIZE(names); i++)
		if (has(flags, names[i].letter))
			n += (size_t)snprintf(row->label + n, sizeof row->label - n, "%s ",
					      names[i].name);
	if (t->len && t->segments > 1)
		snprintf(len, sizeof len, " len %" PRIu64 " in %" PRIu64 " segments", t->len,
			 t->segments);
	else if (t->len)
		snprintf(len, sizeof len, " len %" PRIu64, t->len);
	if (t->ack)
		snprintf(numbers, sizeof numbers, "seq %" PRId64 " ack %" PRId64 "%s", t->seq,
			 t->acks, len);
	else
		snprintf(numbers, sizeof numbers, "seq %" PRId64 "%s", t->seq, len);
	snprintf(row->label + n, sizeof row->label - n, "%s", numbers);
	if (t->len)
		snprintf(row->brief, sizeof row->brief, "seq %" PRId64 "%s", t->seq, len);
	else if (t->ack && !t->syn && !t->fin && !t->rst)
		snprintf(row->brief, sizeof row->brief, "ACK %" PRId64, t->acks);
	else
		snprintf(row->brief, sizeof row->brief, "%.*sseq %" PRId64, (int)n, row->label,
			 t->seq);
}

static void mark(struct seen *t, enum weight weight)
{
	if (weight > t->weight)
		t->weight = weight;
}

static void say_again(struct seen *t)
{
	t->again = true;
	t->row->kind = SEQUENCE_AGAIN;
	mark(t, WEIGHT_MARK);
}

static void say_syn(struct steps *s, struct seen *t)
{
	struct steps_side *me = &s->side[t->from];
	struct sequence_row *row = t->row;
	const char *name = who[t->from];
	struct human_short waited = human_duration(s->last_ns - me->first_ns);

	if (t->seq == 0 && (t->ack ? me->syn_ack : me->syn)) {
		say_again(t);
		if (t->was_over)
			say(row, OUT_WARN, "%s %s again", name, t->ack ? "agrees" : "asks");
		else if (t->ack)
			say(row, OUT_WARN, "%s agrees again: no ACK has come for %s", name,
			    waited.s);
		else
			say(row, OUT_WARN, "%s asks again: no answer for %s", name, waited.s);
		return;
	}
	mark(t, WEIGHT_IMPORTANT);
	if (t->ack)
		say(row, OUT_PLAIN, "%s agrees", name);
	else if (t->from == SERVER)
		say(row, OUT_PLAIN, "server asks to open at the same time");
	else
		say(row, OUT_PLAIN, "client asks to open");
	if (t->len)
		say(row, OUT_PLAIN, "sends data along with it");
	if (!me->syn)
		me->first_ns = s->last_ns;
	me->syn = true;
	me->syn_ack |= t->ack;
}

static void say_late(struct seen *t)
{
	mark(t, WEIGHT_MARK);
	say(t->row, OUT_WARN, "late: the connection is over");
}

static void say_rst(struct steps *s, struct seen *t)
{
	mark(t, t->was_over ? WEIGHT_MARK : WEIGHT_IMPORTANT);
	if (t->was_over && !s->opened && t->from == SERVER)
		say(t->row, OUT_BAD, "refused again");
	else if (t->was_over)
		say_late(t);
	else if (t->opening && t->from == SERVER && t->changed)
		say(t->row, OUT_BAD, "refused: nobody listens there");
	else if (!t->changed)
		say(t->row, OUT_WARN, "%s tries to break off, without effect", who[t->from]);
	else if (s->side[t->from].fin)
		say(t->row, OUT_BAD, "%s wants no more data, and breaks off", who[t->from]);
	else
		say(t->row, OUT_BAD, "%s breaks off", who[t->from]);
}

static void say_fin(struct steps *s, struct seen *t)
{
	struct steps_side *me = &s->side[t->from], *peer = &s->side[!t->from];

	if (me->fin && t->end == me->fin_at) {
		say_again(t);
		if (t->was_over)
			say(t->row, OUT_WARN, "%s says so again", who[t->from]);
		else
			say(t->row, OUT_WARN, "%s says so again: no ACK for %s", who[t->from],
			    human_duration(s->last_ns - me->fin_ns).s);
		return;
	}
	mark(t, WEIGHT_IMPORTANT);
	say(t->row, OUT_PLAIN, "%s has no more to send%s", who[t->from],
	    peer->fin ? ", either" : "");
	if (!me->fin) {
		me->fin_at = t->end;
		me->fin_ns = s->last_ns;
	}
	me->fin = true;
}

/* Removes what @from to @to has of the gaps.  True: it had some. */
static bool gaps_fill(struct steps_side *side, int64_t from, int64_t to)
{
	bool filled = false;

	for (unsigned i = 0; i < side->gaps; i++) {
		if (side->gap[i].from >= to || side->gap[i].to <= from)
			continue;
		filled = true;
		if (side->gap[i].from >= from && side->gap[i].to <= to)
			side->gap[i--] = side->gap[--side->gaps];
		else if (side->gap[i].from >= from)
			side->gap[i].from = to;
		else /* the end of it; or the middle, then its end is given up */
			side->gap[i].to = from;
	}
	return filled;
}

static void gaps_add(struct steps_side *side, int64_t from, int64_t to)
{
	if (side->gaps == STEPS_GAPS) { /* the oldest one is given up */
		memmove(&side->gap[0], &side->gap[1], sizeof side->gap - sizeof side->gap[0]);
		side->gaps--;
	}
	side->gap[side->gaps].from = from;
	side->gap[side->gaps++].to = to;
}

/* Where the octets stand among those that it sent before. */
static void say_octets(struct steps *s, struct seen *t)
{
	struct steps_side *me = &s->side[t->from], *peer = &s->side[!t->from];
	struct sequence_row *row = t->row;

	if (t->syn || t->rst || !me->seen)
		return;
	if (t->seq == me->next - 1 && t->len <= 1 && !t->fin && peer->acked >= me->next) {
		mark(t, WEIGHT_MARK);
		say(row, OUT_PLAIN, "%s",
		    peer->no_space ? "is there space again?" : "keep-alive: are you there?");
		return;
	}
	if (t->seq > me->next) {
		mark(t, WEIGHT_MARK);
		say(row, OUT_WARN, "%s before this %s not seen",
		    human_plural((uint64_t)(t->seq - me->next), "octet").s,
		    t->seq - me->next == 1 ? "was" : "were");
		gaps_add(me, me->next, t->seq);
		return;
	}
	if (!t->len || t->seq == me->next)
		return;
	if (gaps_fill(me, t->seq, t->end)) {
		say_again(t);
		say(row, OUT_WARN, "fills the gap: sent again, or late");
	} else if (!t->fin) {
		say_again(t);
		say(row, OUT_WARN, t->end > me->next ? "sent again in part" : "sent again");
	}
}

static void say_ack(struct steps *s, struct seen *t)
{
	struct steps_side *me = &s->side[t->from], *peer = &s->side[!t->from];

	if (!t->ack || t->rst)
		return;
	if (peer->seen && t->acks > peer->next) {
		mark(t, WEIGHT_MARK);
		say(t->row, OUT_WARN, "has got %s that the capture missed",
		    human_plural((uint64_t)(t->acks - peer->next), "octet").s);
		peer->next = t->acks;
	} else if (gaps_fill(peer, INT64_MIN, t->acks)) {
		mark(t, WEIGHT_MARK);
		say(t->row, OUT_WARN, "has got octets that the capture missed");
	} else if (!t->len && t->acks != me->missing &&
		   (t->sack_blocks || (peer->gaps && t->acks == me->acked))) {
		mark(t, WEIGHT_MARK); /* once: each later segment repeats it */
		me->missing = t->acks;
		say(t->row, OUT_WARN, "%s misses octets from %" PRId64 " on", who[t->from],
		    t->acks);
	}
	if (peer->fin && !peer->fin_acked && t->acks >= peer->fin_at) {
		peer->fin_acked = true;
		mark(t, WEIGHT_IMPORTANT);
		if (!t->fin)
			say(t->row, OUT_PLAIN, "%s has noted that", who[t->from]);
	}
	if (t->acks > me->acked)
		me->acked = t->acks;
}

static void say_window(struct steps *s, struct seen *t)
{
	struct steps_side *me = &s->side[t->from];

	if (t->rst || t->syn || t->fin)
		return;
	if (!t->window) {
		mark(t, WEIGHT_MARK);
		say(t->row, OUT_WARN,
		    me->no_space ? "still no space" : "window 0: %s has no space for more data",
		    who[t->from]);
	} else if (me->no_space) {
		mark(t, WEIGHT_MARK);
		say(t->row, OUT_PLAIN, "%s has space again: %s", who[t->from],
		    human_octets(t->window).s);
	}
	me->no_space = !t->window;
}

/* The first data of a side, and the first bare ACK of data: the later ones look the same. */
static void say_first(struct steps *s, struct seen *t)
{
	struct steps_side *me = &s->side[t->from], *peer = &s->side[!t->from];
	bool silent = !*t->row->words && !t->syn && !t->rst;

	if (t->len) {
		if (silent && !me->sent) {
			mark(t, WEIGHT_MARK);
			say(t->row, OUT_PLAIN, "%s sends data", who[t->from]);
		}
		me->sent = true;
	} else if (silent && peer->sent && t->acks == peer->next && !me->got) {
		mark(t, WEIGHT_MARK);
		say(t->row, OUT_PLAIN, "%s has got that", who[t->from]);
		me->got = true;
	}
}

static void say_anomaly(struct seen *t, const json_t *anomaly)
{
	static const struct {
		const char *kind, *words;
	} kinds[] = {
		{ "bad_ack", "acknowledges what was never sent: ignored" },
		{ "bad_flags", "flags that make no sense: ignored" },
		{ "out_of_window", "numbers that do not fit so far" },
		{ "rst_in_window", "number not exact: only a hint, maybe forged" },
		{ "rst_out_of_window", "number does not fit: ignored, maybe forged" },
		{ "rst_bad_ack", "answers another SYN: ignored" },
		{ "syn_in_established", "a SYN in an open connection" },
		{ "syn_ack_unexpected", "nobody asked for that: ignored" },
		{ "data_after_fin", "data after its own end: ignored" },
		{ "fin_out_of_window", "FIN does not fit: ignored" },
		{ "fin_moved", "another FIN at another place: ignored" },
	};
	const char *kind = js_str(anomaly, "tcp.kind");

	mark(t, WEIGHT_IMPORTANT);
	for (unsigned i = 0; i < ARRAY_SIZE(kinds); i++)
		if (!strcmp(kinds[i].kind, kind)) {
			say(t->row, OUT_BAD, "%s (%s)", kinds[i].words, kind);
			return;
		}
	say(t->row, OUT_BAD, "does not fit (%.40s)", kind);
}

/* Does the segment that @pending is about follow it at once? */
static bool belongs(const json_t *pending, const json_t *segment)
{
	return pending && js_is(pending, "timestamp", js_str(segment, "timestamp"));
}

static void note(struct steps *s, const json_t *at, enum out_style style, const char *text)
{
	struct sequence_row row = row_at(s, at, SEQUENCE_NOTE);

	say(&row, style, "%s", text);
	show(s, &row, WEIGHT_IMPORTANT, &(struct folded){ 0 });
}

static void take_segment(struct steps *s, const json_t *e)
{
	const json_t *cause = belongs(s->pending, e) ? s->pending : NULL;
	struct sequence_row row;
	struct seen t;

	if (cause && js_is(cause, "event_type", "tcp_open") && js_true(cause, "tcp.midstream"))
		note(s, e, OUT_WARN, "open before this: its beginning was not seen");
	row = row_at(s, e, SEQUENCE_ARROW);
	t = segment_of(s, e, &row);
	label(&t, e);
	t.changed = take_states(s, e, &row);
	if (t.changed)
		mark(&t, WEIGHT_IMPORTANT);
	if (cause && js_is(cause, "event_type", "tcp_anomaly") &&
	    !js_is(cause, "tcp.kind", "ack_unseen")) { /* that one counts: say_ack() */
		say_anomaly(&t, cause);
	} else {
		if (t.rst)
			say_rst(s, &t);
		else if (t.syn)
			say_syn(s, &t);
		else if (t.fin)
			say_fin(s, &t);
		else if (t.was_over && t.len)
			say_late(&t);
		if (!t.was_open && is_open(s) && !t.rst) {
			say(&row, OUT_GOOD, "open");
			s->opened = true;
		}
		if (!t.was_over) {
			say_octets(s, &t);
			say_ack(s, &t);
			say_window(s, &t);
			say_first(s, &t);
		}
		if (!t.was_over && !t.rst && is_over(s->state[CLIENT]) && is_over(s->state[SERVER]))
			say(&row, OUT_GOOD, "closed");
		if (!s->side[t.from].seen || t.end > s->side[t.from].next)
			s->side[t.from].next = t.end;
		s->side[t.from].seen = true;
	}
	if (cause) {
		json_decref(s->pending);
		s->pending = NULL;
	}
	s->segments++;
	s->segment_ns = s->last_ns;
	show(s, &row, t.weight, &(struct folded){ t.segments, t.len, t.again });
}

/* ---- events without their segment ------------------------------------------------------------ */

/* Who sent the segment that caused a state event: CLIENT, SERVER, or -1. */
static int sender_of(const json_t *e)
{
	static const char *const senders[] = { "fin_wait_1", "last_ack", "closing" };
	const char *segment = js_str(e, "tcp.segment"), *by = js_str(e, "tcp.closed_by");
	bool client =
		strcmp(js_str(e, "tcp.prev_client_state"), js_str(e, "tcp.client_state")) != 0;
	bool server =
		strcmp(js_str(e, "tcp.prev_server_state"), js_str(e, "tcp.server_state")) != 0;

	if (js_at(e, "tcp.from"))
		return js_is(e, "tcp.from", "server") ? SERVER : CLIENT;
	if (!strcmp(segment, "syn_ack"))
		return SERVER;
	if (!strcmp(segment, "syn") || js_is(e, "event_type", "tcp_established"))
		return CLIENT;
	if (!strcmp(segment, "rst"))
		return !strcmp(by, "server") ? SERVER : !strcmp(by, "client") ? CLIENT : -1;
	if (!strcmp(segment, "ack") && js_is(e, "event_type", "tcp_close"))
		return js_is(e, "tcp.client_state", "time_wait")
			       ? (js_is(e, "tcp.server_state", "time_wait") ? -1 : CLIENT)
			       : SERVER;
	for (unsigned i = 0; i < ARRAY_SIZE(senders); i++) {
		if (client && js_is(e, "tcp.client_state", senders[i]))
			return CLIENT;
		if (server && js_is(e, "tcp.server_state", senders[i]))
			return SERVER;
	}
	return -1;
}

/* Words for an event of which only the line is there. */
static void say_event(struct sequence_row *row, const json_t *e, int from)
{
	const char *segment = js_str(e, "tcp.segment");

	if (js_is(e, "event_type", "tcp_retry"))
		say(row, OUT_WARN, "%s again: no answer for %s",
		    !strcmp(segment, "syn") ? "asks" : "agrees",
		    human_duration(js_u64(e, "tcp.waited_ns")).s);
	else if (js_is(e, "tcp.reason", "refused"))
		say(row, OUT_BAD, "refused: nobody listens there");
	else if (!strcmp(segment, "rst"))
		say(row, OUT_BAD, "%s breaks off", from < 0 ? "one side" : who[from]);
	else if (!strcmp(segment, "syn"))
		say(row, OUT_PLAIN, "client asks to open");
	else if (!strcmp(segment, "syn_ack"))
		say(row, OUT_PLAIN, "server agrees");
	else if (js_is(e, "event_type", "tcp_established"))
		say(row, OUT_GOOD, "open");
	else if (!strncmp(segment, "fin", 3) && from >= 0)
		say(row, OUT_PLAIN, "%s has no more to send", who[from]);
	if (js_is(e, "event_type", "tcp_close") && js_is(e, "tcp.reason", "fin"))
		say(row, OUT_GOOD, "closed");
}

static void label_event(struct sequence_row *row, const char *segment)
{
	size_t i = 0;

	for (; segment[i] && i + 1 < sizeof row->label; i++)
		row->label[i] = (char)(segment[i] == '_'			? ' '
				       : segment[i] >= 'a' && segment[i] <= 'z' ? segment[i] - 32
										: segment[i]);
	row->label[i] = 0;
}

/* No segment came: a timeout, an ICMP error, the end of the capture. */
static bool without_segment(const json_t *e)
{
	const char *segment = js_str(e, "tcp.segment");

	return js_is(e, "tcp.reason", "reuse") || !*segment || !strcmp(segment, "none") ||
	       !strcmp(segment, "timeout") || !strcmp(segment, "icmp");
}

static void take_quiet(struct steps *s, const json_t *e)
{
	struct sequence_row row;
	struct description d;

	if (js_is(e, "tcp.reason", "capture_end") || js_is(e, "tcp.reason", "shutdown") ||
	    js_is(e, "tcp.reason", "reuse")) {
		fold_end(s); /* the outcome says it */
		return;
	}
	row = row_at(s, e, js_is(e, "tcp.segment", "icmp") ? SEQUENCE_ARROW : SEQUENCE_NOTE);
	take_states(s, e, &row);
	if (row.kind == SEQUENCE_ARROW) {
		row.to_client = true;
		snprintf(row.label, sizeof row.label, "ICMP destination unreachable");
		snprintf(row.brief, sizeof row.brief, "ICMP unreachable");
		say(&row, OUT_BAD, "a router or the server says: not reachable");
	} else if (js_is(e, "tcp.reason", "unanswered")) {
		say(&row, OUT_BAD, "no answer came");
	} else if (js_is(e, "tcp.reason", "half_open")) {
		say(&row, OUT_BAD, "the client's ACK never came");
	} else if (js_is(e, "tcp.reason", "idle")) {
		say(&row, OUT_WARN, "nothing came for too long: synfind forgets it");
	} else if (describe(e, &d)) {
		say(&row, d.style == OUT_PLAIN ? OUT_WARN : d.style, "%s", d.text);
	}
	show(s, &row, WEIGHT_IMPORTANT, &(struct folded){ 0 });
}

/* Shows the event whose segment did not come. */
static void flush_pending(struct steps *s)
{
	json_t *e = s->pending;
	struct sequence_row row;
	uint64_t now;
	int from;

	s->pending = NULL;
	if (!e)
		return;
	/* Its segment came before it: attempts of a flood. */
	if (s->segments && human_parse_time(js_str(e, "timestamp"), &now) && now <= s->segment_ns) {
		json_decref(e);
		return;
	}
	if (js_is(e, "event_type", "tcp_open") && js_true(e, "tcp.midstream"))
		note(s, e, OUT_WARN, "open before this: its beginning was not seen");
	from = sender_of(e);
	row = row_at(s, e, from < 0 ? SEQUENCE_NOTE : SEQUENCE_ARROW);
	row.to_client = from == SERVER;
	if (js_is(e, "event_type", "tcp_retry"))
		row.kind = SEQUENCE_AGAIN;
	take_states(s, e, &row);
	label_event(&row, js_str(e, "tcp.segment"));
	if (js_is(e, "event_type", "tcp_anomaly")) {
		struct seen t = { .row = &row };

		say_anomaly(&t, e);
	} else {
		say_event(&row, e, from);
	}
	if (row.kind == SEQUENCE_NOTE && !*row.words)
		say(&row, OUT_PLAIN, "%s", row.label);
	json_decref(e);
	show(s, &row, WEIGHT_IMPORTANT, &(struct folded){ 0 });
}

/* ---- the interface --------------------------------------------------------------------------- */

void steps_init(struct steps *s, bool all, uint64_t fold_max_ns)
{
	*s = (struct steps){ .all = all, .fold_max_ns = fold_max_ns, .free = FREE_AFTER };
}

void steps_head(const json_t *event, struct sequence_head *ret)
{
	char flow[DESCRIBE_FLOW], *server;
	uint64_t now = 0;

	describe_flow(event, flow);
	server = strstr(flow, " > ");
	if (server)
		*server = 0;
	human_safe(ret->client, sizeof ret->client, flow);
	human_safe(ret->server, sizeof ret->server, server ? server + 3 : "?");
	human_parse_time(js_str(event, "timestamp"), &now);
	snprintf(ret->when, sizeof ret->when, "%s", human_time(now, HUMAN_LOCAL, true).s);
	if (js_at(event, "in_iface")) {
		size_t n = strlen(ret->when);

		snprintf(ret->when + n, sizeof ret->when - n, ", %.80s", js_str(event, "in_iface"));
	}
}

void steps_take(struct steps *s, const json_t *e)
{
	struct description d;

	if (js_is(e, "event_type", "tcp_segment")) {
		if (s->pending && !belongs(s->pending, e))
			flush_pending(s);
		take_segment(s, e);
		return;
	}
	flush_pending(s);
	if (js_is(e, "event_type", "tcp_close")) {
		s->closed = true;
		describe(e, &s->outcome);
	}
	if (js_is(e, "event_type", "snapshot")) {
		if (describe(e, &d)) {
			struct sequence_row row = row_at(s, e, SEQUENCE_NOTE);

			take_states(s, e, &row);
			say(&row, OUT_PLAIN, "open: %s", d.text);
			show(s, &row, WEIGHT_IMPORTANT, &(struct folded){ 0 });
		}
	} else if (!js_at(e, "flow_id")) {
		if (describe(e, &d) && d.notice)
			note(s, e, d.style, d.text);
	} else if (without_segment(e)) {
		take_quiet(s, e);
	} else {
		s->pending = json_incref((json_t *)e);
	}
}

void steps_end(struct steps *s)
{
	flush_pending(s);
	fold_end(s);
}

bool steps_next(struct steps *s, struct sequence_row *ret)
{
	if (!s->n)
		return false;
	*ret = s->rows[0];
	memmove(&s->rows[0], &s->rows[1], --s->n * sizeof s->rows[0]);
	return true;
}

void steps_outcome(const struct steps *s, struct description *ret)
{
	if (s->closed) {
		*ret = s->outcome;
		return;
	}
	*ret = (struct description){ .word = "OPEN" };
	snprintf(ret->text, sizeof ret->text, "%s/%s, the newest event came after %s",
		 *s->state[CLIENT] ? s->state[CLIENT] : "?",
		 *s->state[SERVER] ? s->state[SERVER] : "?",
		 human_duration(s->last_ns > s->begin_ns ? s->last_ns - s->begin_ns : 0).s);
}

void steps_done(struct steps *s)
{
	json_decref(s->pending);
	s->pending = NULL;
}
