/* The line log and its subscribers, without the event loop around them. */
#include <fcntl.h>
#include <jansson.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include "../../daemon/synfind/filters.c"
#include "../../daemon/synfind/linelog.c"
#include "../../daemon/synfind/subscriber.c"
#include "base/cc.h"
#include "synfind/linelog_write.h"
#include "tests/support/line_log.h"
#include "tests/support/rand.h"
#include "tests/support/tap.h"

enum { LOG = 1 << 16, ROOM = 4096, MANY_ROOM = LOG / 4 };

/* ---- the log --------------------------------------------------------------------------------- */

static void test_size(void)
{
	static const struct {
		uint64_t asked, got;
	} sizes[] = {
		{ 0, LOG }, { 1, LOG }, { LOG, LOG }, { LOG + 1, 2 * LOG }, { 1 << 20, 1 << 20 }
	};
	unsigned wrong = 0;

	for (unsigned i = 0; i < ARRAY_SIZE(sizes); i++) {
		struct linelog l;

		wrong += log_new(&l, sizes[i].asked) || l.size != sizes[i].got;
		log_free(&l);
		linelog_unmap(&l);
	}
	ok(!wrong,
	   "a log is a power of two, at least as large as asked; it may be destroyed twice");

	struct linelog l = { 0 };

	ok(linelog_map(&l, -1, 0, LOG, NULL, NULL, NULL) == -EBADF && !l.base,
	   "without memory there is none");
}

static void test_twice(void)
{
	struct linelog l;
	volatile char *base; /* two addresses, one octet: more than the compiler expects */

	log_new(&l, LOG);
	base = l.base;
	base[LOG - 1] = 'x';
	base[0] = 'y';
	ok(base[2 * LOG - 1] == 'x' && base[LOG] == 'y', "the octets are there twice");
	ok(linelog_oldest(&l) == 0 && linelog_line_at(&l, 0) == l.end->mark_next,
	   "in an empty log the oldest line is the head");
	log_free(&l);
}

/* What a simple list of all lines ever says about those that are kept. */
static void test_marks(void)
{
	enum { LINES = 40000 };
	static uint64_t begin[LINES + 1], seq[LINES];
	struct linelog l;
	unsigned wrong = 0, torn = 0;
	uint64_t n = 0;

	log_new(&l, LOG);
	for (unsigned i = 0; i < LINES; i++) {
		size_t len = below(8) ? LINE_MIN + below(900) : LINE_MIN + below(15000);
		size_t room = len + below(64);
		char *p = linelog_reserve(&l, room);

		wrong += linelog_oldest(&l) + LOG <
			 l.end->head + room; /* nothing kept is overwritten */
		wrong += p != linelog_octets(&l, l.end->head);
		memset(p, (int)('a' + i % 26), len);
		begin[i] = l.end->head;
		seq[i] = n;
		linelog_append(&l, len, (struct linelog_mark){ .seq = n });
		n += 1 + !below(20) * 5ull;
		begin[i + 1] = l.end->head;

		uint64_t oldest = linelog_oldest(&l), first = *l.mark_first;

		wrong += l.end->mark_next != i + 1 || begin[first] != oldest;
		for (unsigned k = 0; k < 4; k++) {
			uint64_t state = i + 1 - first, line = first + below(state);
			uint64_t into = below(begin[line + 1] - begin[line]);
			uint64_t found = linelog_line_at(&l, begin[line] + into);
			struct linelog_mark m = linelog_mark(&l, line, n);

			wrong +=
				found != line + !!into || m.at != begin[line] || m.seq != seq[line];
			torn += *linelog_octets(&l, begin[line] + into) != (int)('a' + line % 26);
		}
		struct linelog_mark end = linelog_mark(&l, l.end->mark_next, n);

		wrong += linelog_line_at(&l, l.end->head) != l.end->mark_next ||
			 end.at != l.end->head || end.seq != n;
		wrong += linelog_line_at(&l, oldest / 2) != first; /* long overtaken */
	}
	ok(!wrong, "%u random lines: each kept one is found from wherever one is in it", LINES);
	ok(!torn, "%u random lines: kept ones are as they were written, across the end too", LINES);
	log_free(&l);
}

static void test_short_lines(void)
{
	struct linelog l;
	unsigned wrong = 0;

	log_new(&l, LOG);
	for (uint64_t i = 0; i < 3 * LOG / LINE_MIN; i++) {
		*linelog_reserve(&l, 16) = (char)i;
		linelog_append(&l, 1, (struct linelog_mark){ .seq = i });
		wrong += l.end->mark_next - *l.mark_first > l.mark_mask + 1 ||
			 linelog_mark(&l, l.end->mark_next - 1, 0).seq != i ||
			 linelog_mark(&l, *l.mark_first, 0).seq != linelog_oldest(&l);
	}
	ok(!wrong, "more short lines than it has marks for: the oldest are forgotten");
	log_free(&l);
}

/* ---- a publisher ----------------------------------------------------------------------------- */

enum { READERS = 6 };

struct offline {
	struct subscriber s;
	int fd;		   /* the other end */
	char buf[1 << 17]; /* what came, from the last whole line on */
	size_t n;
	uint64_t seq; /* everything up to this one is accounted for */
	uint64_t events, losts, lost;
	uint64_t segments, lost_segments;
	unsigned wrong;
	uint64_t first_lost;
	bool ended; /* it was disconnected */
};

enum { EVENT_KINDS_USED = 5 };

static uint64_t bits_of(uint64_t seq)
{
	return seq * UINT64_C(0x9e3779b97f4a7c15) >> 3;
}

/* Events @first to @last that @r wants. */
static uint64_t wanted(const struct offline *r, uint64_t first, uint64_t last)
{
	const struct subscription *want = &r->s.record->cursor.want;
	uint64_t n = 0;

	for (uint64_t seq = first; seq <= last; seq++)
		n += want->everything ||
		     (want->kinds >> seq % EVENT_KINDS_USED & 1 &&
		      (want->filter == FILTER_NONE || bits_of(seq) >> want->filter & 1));
	return n;
}

struct stage {
	struct linelog log;
	uint64_t seq;
	struct offline *reader[READERS];
	unsigned readers, overwritten;
	uint64_t segments[2]; /* lines for endpoint 0, endpoint 1 */
};

/* As the publisher does before each line. */
static void keep_clear(struct stage *g, size_t n)
{
	for (unsigned i = 0; i < g->readers; i++) {
		struct subscriber *s = &g->reader[i]->s;

		if (s->record->cursor.at + g->log.size < g->log.end->head + n)
			subscriber_skip(s->record, &g->log, NULL,
					g->log.end->head + n - g->log.size, g->seq);
		g->overwritten += s->record->cursor.at + g->log.size < g->log.end->head + n;
	}
}

/* An event's line of @len octets; now and then some events have numbers, but only one line. */
static void publish_in(struct stage *g, size_t room, size_t len, unsigned ring_lost)
{
	keep_clear(g, room);
	char *p = linelog_reserve(&g->log, room);
	uint64_t first = g->seq + 1;
	int n;

	g->seq += ring_lost ? ring_lost : 1;
	if (ring_lost)
		n = sprintf(p,
			    "{\"event_type\":\"lost\",\"count\":%u,\"first_seq\":%llu,\"last_seq\":"
			    "%llu",
			    ring_lost, (unsigned long long)first, (unsigned long long)g->seq);
	else
		n = sprintf(p, "{\"event_type\":\"tcp_state\",\"seq\":%llu",
			    (unsigned long long)g->seq);
	n += sprintf(p + n, ",\"len\":%zu,\"pad\":\"", len);
	for (; (size_t)n < len - 3; n++)
		p[n] = (char)('a' + (g->seq + (unsigned)n) % 26);
	memcpy(p + n, "\"}\n", 3);
	linelog_append(
		&g->log, len,
		(struct linelog_mark){ .seq = first - 1,
				       .kind = ring_lost ? LINE_LOST : first % EVENT_KINDS_USED,
				       .bits = bits_of(first) });
}

/* A line of a segment of endpoint @i, or one that says that @lost have none. */
static void publish_segment(struct stage *g, unsigned i, unsigned lost)
{
	char *p;
	int n;

	keep_clear(g, ROOM);
	p = linelog_reserve(&g->log, ROOM);
	if (lost)
		n = sprintf(p, "{\"event_type\":\"lost\",\"count\":%u,\"reason\":\"segment_rate\"",
			    lost);
	else
		n = sprintf(p, "{\"event_type\":\"tcp_segment\",\"endpoint\":%u", i);
	n += sprintf(p + n, ",\"seq\":%llu,\"pad\":\"%0*u\"}\n", (unsigned long long)g->seq,
		     (int)(LINE_MIN + below(200)), 0);
	linelog_append(&g->log, (size_t)n,
		       (struct linelog_mark){ .seq = g->seq,
					      .kind = lost ? LINE_LOST : EVENT_TCP_SEGMENT,
					      .endpoints = 1u << i,
					      .bits = lost ? lost : UINT64_MAX });
	g->segments[i] += lost ? lost : 1;
}

static void publish(struct stage *g, size_t len)
{
	publish_in(g, ROOM, len, 0);
}

static struct stage *stage_new(void)
{
	struct stage *g = calloc(1, sizeof *g);

	log_new(&g->log, LOG);
	return g;
}

static struct offline *join_fd(struct stage *g, int to, int from, bool is_socket)
{
	struct offline *r = calloc(1, sizeof *r);

	r->s = (struct subscriber){ .fd = to,
				    .is_socket = is_socket,
				    .record = calloc(1, sizeof *r->s.record) };
	*r->s.record = (struct subscriber_record){ .cursor = { .at = g->log.end->head,
							       .want = subscription_default } };
	r->fd = from;
	r->seq = g->seq;
	g->reader[g->readers++] = r;
	return r;
}

static struct offline *join(struct stage *g)
{
	int fds[2], small = 1;

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds) < 0)
		abort();
	setsockopt(fds[0], SOL_SOCKET, SO_SNDBUF, &small, sizeof small); /* the least there is */
	return join_fd(g, fds[0], fds[1], true);
}

static void stage_free(struct stage *g)
{
	for (unsigned i = 0; i < g->readers; i++) {
		close(g->reader[i]->s.fd);
		close(g->reader[i]->fd);
		free(g->reader[i]->s.record);
		free(g->reader[i]);
	}
	log_free(&g->log);
	free(g);
}

/* ---- a reader -------------------------------------------------------------------------------- */

static uint64_t number(const json_t *j, const char *key)
{
	return (uint64_t)json_integer_value(json_object_get(j, key));
}

/* A whole line: it must go on where the last one ended. */
static void take_line(struct offline *r, const char *p, size_t n)
{
	json_t *j = json_loadb(p, n, 0, NULL);
	const char *type = json_string_value(json_object_get(j, "event_type"));
	uint64_t len = number(j, "len"), seq = number(j, "seq"), was = r->seq;

	if (!type) {
		if (!r->wrong++)
			printf("# torn: %.*s\n", (int)(n < 200 ? n : 200), p);
	} else if (!strcmp(type, "tcp_segment")) {
		r->wrong += !(r->s.record->cursor.want.endpoints >> number(j, "endpoint") & 1) ||
			    seq < r->seq || wanted(r, r->seq + 1, seq);
		r->segments++;
	} else if (!strcmp(type, "lost") && !number(j, "first_seq")) {
		r->wrong += !r->s.record->cursor.want.endpoints || seq < r->seq ||
			    wanted(r, r->seq + 1, seq);
		r->lost_segments += number(j, "count");
	} else if (!strcmp(type, "lost")) {
		uint64_t first = number(j, "first_seq"), last = number(j, "last_seq");

		r->wrong += last < first ||
			    (r->seq < first - 1 && wanted(r, r->seq + 1, first - 1)) ||
			    number(j, "count") < wanted(r, first, last) ||
			    number(j, "count") > last - first + 1;
		r->seq = last;
		if (!len) { /* not the ring's */
			r->first_lost = r->losts++ ? r->first_lost : first;
			r->lost += number(j, "count");
		}
	} else if (!strcmp(type, "error")) {
		r->ended = true;
	} else if (strcmp(type, "hello")) {
		r->wrong += r->ended || seq <= r->seq || wanted(r, r->seq + 1, seq) != 1 ||
			    !wanted(r, seq, seq);
		r->seq = seq;
		r->events++;
	}
	if (type && len) {
		const char *pad = json_string_value(json_object_get(j, "pad"));

		r->wrong += len != n;
		for (size_t i = 0, at = n - 3 - strlen(pad); pad[i]; i++)
			r->wrong +=
				pad[i] !=
				(char)('a' + ((seq ? seq : number(j, "last_seq")) + at + i) % 26);
	}
	if (r->wrong == 1 && type)
		printf("# after %llu: %.*s\n", (unsigned long long)was, (int)(n < 120 ? n : 120),
		       p);
	json_decref(j);
}

/* Reads up to @max octets. */
static size_t receive(struct offline *r, size_t max)
{
	if (max > sizeof r->buf - r->n)
		max = sizeof r->buf - r->n;
	ssize_t n = read(r->fd, r->buf + r->n, max);
	size_t begin = 0;

	if (n <= 0)
		return 0;
	r->n += (size_t)n;
	for (char *nl; (nl = memchr(r->buf + begin, '\n', r->n - begin));) {
		size_t end = (size_t)(nl - r->buf) + 1;

		take_line(r, r->buf + begin, end - begin);
		begin = end;
	}
	memmove(r->buf, r->buf + begin, r->n -= begin);
	return (size_t)n;
}

/* Until everything is there. */
static void drain(struct stage *g, struct offline *r)
{
	for (;;) {
		enum subscriber_verdict v = subscriber_send(&r->s, &g->log, NULL, 0);

		while (receive(r, sizeof r->buf))
			;
		if (v != SUBSCRIBER_WAITS)
			return;
	}
}

static bool caught_up(const struct stage *g, const struct offline *r)
{
	return !r->wrong && !r->n && r->events + r->lost <= g->seq &&
	       (r->ended || !wanted(r, r->seq + 1, g->seq));
}

/* ---- one subscriber -------------------------------------------------------------------------- */

static void test_keeps_up(void)
{
	struct stage *g = stage_new();
	struct offline *r = join(g);
	unsigned differ = 0;
	uint64_t from = 0;
	char got[ROOM];

	for (unsigned i = 0; i < 2000; i++) {
		publish(g, LINE_MIN + below(1000));
		for (;;) {
			enum subscriber_verdict v = subscriber_send(&r->s, &g->log, NULL, 0);
			ssize_t n = read(r->fd, got, sizeof got);

			if (n > 0)
				differ += !!memcmp(got, linelog_octets(&g->log, from), (size_t)n);
			from += n > 0 ? (uint64_t)n : 0;
			if (v == SUBSCRIBER_IDLE && n < (ssize_t)sizeof got)
				break;
		}
	}
	ok(!differ && from == g->log.end->head && from > 10 * LOG &&
		   !r->s.record->cursor.lost_total,
	   "who keeps up gets the log octet for octet, many times round");
	stage_free(g);
}

/* @r has the first lines of the log and a part of the next one: its kernel buffer is full. */
static struct offline *stuck_in_a_line(struct stage *g)
{
	struct offline *r = join(g);

	for (unsigned i = 0; i < 40; i++)
		publish(g, 997);
	subscriber_send(&r->s, &g->log, NULL, 0);
	if (linelog_mark(&g->log, linelog_line_at(&g->log, r->s.record->cursor.at), g->seq).at ==
	    r->s.record->cursor.at)
		abort(); /* it happened to stop between two lines: not what this is about */
	return r;
}

static void test_overtaken(void)
{
	struct stage *g = stage_new();
	struct offline *r = stuck_in_a_line(g);
	uint64_t full = linelog_line_at(&g->log, r->s.record->cursor.at), lost = 0;

	while (!r->s.record->cursor.lost_total) {
		uint64_t before = g->seq;

		publish(g, 997);
		if (r->s.record->cursor.lost_total)
			lost = before;
	}
	uint64_t state = (linelog_line_at(&g->log, r->s.record->cursor.at));
	uint64_t resumes = linelog_mark(&g->log, state, g->seq).seq + 1;

	ok(r->s.record->cursor.lost_total == resumes - 1 - full &&
		   r->s.record->cursor.lost_first == full + 1 &&
		   r->s.record->cursor.lost_last == resumes - 1 && lost,
	   "overtaken within a line: what follows that line is lost");
	ok(r->s.record->cursor.prefix_len > r->s.record->cursor.prefix_at &&
		   r->s.record->cursor.prefix_len - r->s.record->cursor.prefix_at < 997,
	   "the rest of its line is kept");
	drain(g, r);
	ok(caught_up(g, r) && r->losts == 1 && r->lost == resumes - 1 - full &&
		   r->events == g->seq - r->lost,
	   "it gets the line whole, one 'lost' with first, last and count, then whole lines");
	publish(g, 500);
	drain(g, r);
	ok(caught_up(g, r) && r->losts == 1, "and then the stream as ever");
	stage_free(g);
}

static void test_coalesce(void)
{
	struct stage *g = stage_new();
	struct offline *r = stuck_in_a_line(g);
	unsigned times = 0;

	for (unsigned i = 0; i < 1000; i++) {
		uint64_t before = r->s.record->cursor.lost_total;

		publish(g, 999);
		times += r->s.record->cursor.lost_total != before;
		subscriber_send(&r->s, &g->log, NULL, 0); /* no reader, nothing is sent */
	}
	ok(times > 3, "overtaken %u times while nothing could be sent", times);
	drain(g, r);
	ok(caught_up(g, r) && r->losts == 1, "one 'lost' reports it all");
	for (unsigned i = 0; i < 1000; i++)
		publish(g, 999);
	drain(g, r);
	ok(caught_up(g, r) && r->losts == 2, "the next time there is another one");
	ok(r->lost == r->s.record->cursor.lost_total, "the count it keeps is what it reported");
	stage_free(g);
}

static const struct subscription some[] = {
	{ .kinds = 1, .filter = FILTER_NONE },
	{ .kinds = 6, .filter = 11, .policy = POLICY_DROP_NEWEST },
	{ .kinds = LINES_ALL, .filter = 3 },
	{ .kinds = LINES_ALL,
	  .filter = FILTER_NONE,
	  .policy = POLICY_DROP_NEWEST,
	  .everything = true },
	{ .kinds = 12, .filter = 40, .policy = POLICY_DISCONNECT },
	{ .kinds = LINES_ALL,
	  .filter = FILTER_NONE,
	  .policy = POLICY_DISCONNECT,
	  .everything = true },
};

/* Who wants few of the lines is not moved on by one of them for each new one. */
static void test_moved_on_rarely(void)
{
	enum { LINES = 5000, LEN = 160 };
	struct stage *g = stage_new();
	struct offline *r = join(g);
	unsigned times = 0;

	r->s.record->cursor.want = some[0];
	for (unsigned i = 0; i < LINES; i++) {
		uint64_t at = r->s.record->cursor.at;

		publish_in(g, LEN, LEN, 0);
		times += r->s.record->cursor.at != at;
	}
	ok(times > 10 && times < 50,
	   "one that chooses and does not read is moved on %u times in %u", times, LINES);
	drain(g, r);
	ok(caught_up(g, r) && r->losts == 1, "and is told how many it lost");
	stage_free(g);
}

static void test_line_boundary(void)
{
	struct stage *g = stage_new();
	struct offline *r = join(g);

	publish(g, 300);
	drain(g, r);
	for (unsigned i = 0; i < 300; i++)
		publish(g, 999);
	ok(r->s.record->cursor.prefix_at == r->s.record->cursor.prefix_len &&
		   r->s.record->cursor.lost_first == 2,
	   "overtaken between lines: nothing is kept aside");
	drain(g, r);
	ok(caught_up(g, r) && r->losts == 1 && r->s.record->cursor.lost_total == r->lost,
	   "and the loss is reported");
	stage_free(g);
}

static void test_hello_first(void)
{
	static const char hello[] = "{\"event_type\":\"hello\"}\n";
	struct stage *g = stage_new();
	struct offline *r = join(g);

	subscriber_prepend(r->s.record, hello, sizeof hello - 1);
	for (unsigned i = 0; i < 300; i++)
		publish(g, 999);
	subscriber_send(&r->s, &g->log, NULL, 0);
	char first[sizeof hello] = "";

	if (recv(r->fd, first, sizeof hello - 1, MSG_PEEK) < 0)
		abort();
	ok(!strcmp(first, hello), "what was put aside comes first, whatever was lost meanwhile");
	drain(g, r);
	ok(caught_up(g, r) && r->losts == 1, "then the loss, then the stream");
	stage_free(g);
}

/* A reservation may be much larger than the lines before it (stats), and lines are not all alike:
 * one call has to make the room that was asked for. */
static void test_clears_enough(void)
{
	struct stage *g = stage_new();

	join(g);
	for (unsigned i = 0; i < 200; i++) {
		publish(g, 999);
		if (g->log.end->head + ROOM > LOG - 200)
			break;
	}
	publish_in(g, MANY_ROOM, 9000, 0);
	ok(!g->overwritten,
	   "lines of 999 octets, then one with room for %u: what is unsent is safe", MANY_ROOM);
	drain(g, g->reader[0]);
	ok(caught_up(g, g->reader[0]), "and its reader has it all accounted for");
	stage_free(g);

	g = stage_new();
	join(g);
	for (unsigned i = 0; i < 12; i++)
		publish(g, LINE_MIN);
	while (g->log.end->head + ROOM <= LOG)
		publish(g, 4000);
	for (unsigned i = 0; i < 6; i++)
		publish(g, 4000);
	ok(!g->overwritten, "short lines, then long ones: what is unsent is safe");
	drain(g, g->reader[0]);
	ok(caught_up(g, g->reader[0]), "and its reader has it all accounted for");
	stage_free(g);
}

/* ---- ends ------------------------------------------------------------------------------------ */

static void test_gone(void)
{
	struct stage *g = stage_new();
	struct offline *r = join(g);

	ok(subscriber_send(&r->s, &g->log, NULL, 0) == SUBSCRIBER_IDLE, "nothing to send: idle");
	publish(g, 300);
	shutdown(r->fd, SHUT_RDWR);
	ok(subscriber_send(&r->s, &g->log, NULL, 0) == SUBSCRIBER_GONE,
	   "no reader left: disconnected");
	stage_free(g);

	int fds[2];

	g = stage_new();
	if (pipe(fds) < 0)
		abort();
	fcntl(fds[0], F_SETFL, O_NONBLOCK);
	r = join_fd(g, fds[1], fds[0], false);
	for (unsigned i = 0; i < 400; i++) {
		publish(g, 999);
		if (subscriber_send(&r->s, &g->log, NULL, 0) == SUBSCRIBER_WAITS && i > 100)
			break;
	}
	ok(subscriber_send(&r->s, &g->log, NULL, 0) == SUBSCRIBER_WAITS,
	   "a full pipe that blocks is waited for, not written to");
	drain(g, r);
	ok(caught_up(g, r), "and gets everything");
	stage_free(g);

	FILE *f = tmpfile();

	g = stage_new();
	r = join_fd(g, dup(fileno(f)), open("/dev/null", O_RDONLY), false);
	r->s.plain_file = true;
	publish(g, 999);
	publish(g, 500);
	ok(subscriber_send(&r->s, &g->log, NULL, 0) == SUBSCRIBER_IDLE &&
		   lseek(fileno(f), 0, SEEK_END) == 1499,
	   "a plain file takes everything");
	fclose(f);
	stage_free(g);
}

/* ---- what the next process finds ------------------------------------------------------------- */

static void test_taken_back(void)
{
	struct linelog l;
	struct linelog_end before;

	log_new(&l, LOG);
	for (unsigned i = 0; i < 300; i++) {
		memset(linelog_reserve(&l, ROOM), 'a', 500);
		linelog_append(&l, 500, (struct linelog_mark){ .seq = i });
	}
	before = *l.end;
	for (unsigned i = 300; i < 300 + LOG / 2 / 500 - ROOM / 500; i++) {
		memset(linelog_reserve(&l, ROOM), 'b', 500);
		linelog_append(&l, 500, (struct linelog_mark){ .seq = i });
	}
	*l.end = before;

	uint64_t oldest = linelog_oldest(&l);

	ok(linelog_is_sound(&l) && oldest < l.end->head &&
		   l.end->head - oldest < LOG / 2 + 2 * ROOM &&
		   memchr(linelog_octets(&l, oldest), 'b', l.end->head - oldest) == NULL,
	   "when lines are taken back, those that they overwrote are forgotten, all others are "
	   "whole");
	memset(linelog_reserve(&l, ROOM), 'c', 500);
	linelog_append(&l, 500, (struct linelog_mark){ .seq = 300 });
	ok(linelog_is_sound(&l) && linelog_mark(&l, 300, 0).seq == 300,
	   "and it continues from there");
	l.end->head -= 600;
	ok(!linelog_is_sound(&l), "a log whose last line begins after its end is not taken over");
	log_free(&l);
}

static void test_settle(void)
{
	struct subscriber_record t = { .cursor = { .at = 100,
						   .prefix_at = 5,
						   .prefix_len = 50,
						   .want = subscription_default } };
	struct linelog l;

	log_new(&l, LOG);
	linelog_reserve(&l, ROOM);
	linelog_append(&l, 500, (struct linelog_mark){ .seq = 1 });
	subscriber_settle(&t, &l);
	ok(t.cursor.at == 100 && t.cursor.prefix_at == 5, "no send was begun: nothing moves");
	t.flight = FLIGHT_LOG;
	t.from = 100;
	t.msg.msg_len = 0;
	subscriber_settle(&t, &l);
	ok(t.cursor.at == 100 && t.flight == FLIGHT_NONE, "the kernel took nothing: nothing moves");
	t.flight = FLIGHT_LOG;
	t.msg.msg_len = 30;
	subscriber_settle(&t, &l);
	t.flight = FLIGHT_LOG; /* as if it had been ended before its last store */
	subscriber_settle(&t, &l);
	ok(t.cursor.at == 130, "what the kernel took counts, once");
	t.flight = FLIGHT_PREFIX;
	t.from = 5;
	t.msg.msg_len = 45;
	subscriber_settle(&t, &l);
	ok(t.cursor.at == 130 && t.cursor.prefix_at == 50, "also of what was put aside");
	log_free(&l);
}

static void test_sound(void)
{
	static const struct {
		struct subscriber_cursor p;
		const char *what;
	} bad[] = {
		{ { .at = 1u << 20 }, "before the log's end" },
		{ { .at = 100 }, "in what is overwritten" },
		{ { .at = 200000, .prefix_len = SUBSCRIBER_PREFIX_MAX + 1 }, "too much aside" },
		{ { .at = 200000, .prefix_at = 2, .prefix_len = 1 }, "more sent than was aside" },
		{ { .at = 200000, .lost_first = 2, .lost_last = 1 }, "lost less than nothing" },
	};
	struct subscriber_record t = { .cursor = { .at = 200000 } };
	struct linelog l;
	unsigned wrong = 0;

	log_new(&l, LOG);
	for (unsigned i = 0; i < 420; i++) {
		linelog_reserve(&l, ROOM);
		linelog_append(&l, 500, (struct linelog_mark){ .seq = i });
	}
	wrong += !subscriber_is_sound(&t, &l);
	for (unsigned i = 0; i < ARRAY_SIZE(bad); i++) {
		t.cursor = bad[i].p;
		if (subscriber_is_sound(&t, &l)) {
			printf("# %s\n", bad[i].what);
			wrong++;
		}
	}
	ok(!wrong, "a place that cannot be is not taken over");
	log_free(&l);
}

/* ---- ended at any instruction ---------------------------------------------------------------- */

enum op { PUBLISH, SKIP, SEND, OPS };

/* What outlives the process that publishes. */
struct shared {
	struct linelog_end end;
	uint64_t seq; /* saved with it */
	uint64_t mark_first;
	enum op op; /* what is being done */
	struct subscriber_record record;
	CACHE_ALIGNED unsigned char undo[1024];
	struct linelog_mark marks[LOG / LINE_MIN];
};

enum { COPIED = offsetof(struct shared, marks) };

/* What comes now is looked at. */
static void mark(struct shared *m, enum op op)
{
	m->op = op;
	raise(SIGSTOP);
}

static void publish_shared(struct shared *m, struct linelog *l, struct undo *u)
{
	size_t len = 2500 + below(1500);
	char *p;
	int n;

	if (m->end.head + ROOM > m->record.cursor.at + LOG) {
		mark(m, SKIP);
		subscriber_skip(&m->record, l, u, m->end.head + ROOM - LOG, m->seq);
		undo_commit(u);
	}
	mark(m, PUBLISH);
	undo_save(u, &m->end, sizeof m->end + sizeof m->seq);
	p = linelog_reserve(l, ROOM);
	n = sprintf(p, "{\"event_type\":\"tcp_state\",\"seq\":%llu,\"x\":\"",
		    (unsigned long long)++m->seq);
	memset(p + n, 'x', len - (size_t)n - 3);
	memcpy(p + len - 3, "\"}\n", 3);
	linelog_append(l, len, (struct linelog_mark){ .seq = m->seq - 1 });
	undo_commit(u);
}

_Noreturn static void publish_for_ever(struct shared *m, struct linelog *l, struct undo *u,
				       struct subscriber *s)
{
	for (;;) {
		publish_shared(m, l, u);
		if (!below(3)) {
			mark(m, SEND);
			subscriber_send(s, l, u, 0);
		}
	}
}

/* Octets that are still to be sent, those of a loss to be reported included. */
static uint64_t unsent(const struct shared *m)
{
	const struct subscriber_cursor *p = &m->record.cursor;
	char line[LOST_LINE_MAX];
	struct strbuf t = { .p = line, .end = line + sizeof line };

	if (p->lost_first)
		json_lost(&t, p->lost_count, p->lost_first, p->lost_last, "subscriber", 0);
	return m->end.head - p->at + p->prefix_len - p->prefix_at + (uint64_t)(t.p - line);
}

/* Octets that are on their way to @r. */
static uint64_t in_socket(const struct offline *r)
{
	int n = 0;

	ioctl(r->fd, FIONREAD, &n);
	return (uint64_t)n;
}

/* What a process would find that takes @m over now. */
static bool take_over(const struct shared *m, const struct linelog *l, struct shared *ret)
{
	struct linelog view = *l;
	struct undo u;

	memcpy(ret, m, COPIED);
	undo_init(&u, ret, COPIED, ret->undo, sizeof ret->undo);
	if (undo_rollback(&u) != 0)
		return false;
	view.end = &ret->end;
	view.mark_first = &ret->mark_first;
	subscriber_settle(&ret->record, &view);
	return linelog_is_sound(&view) && subscriber_is_sound(&ret->record, &view);
}

/* Follows one operation, instruction by instruction, to the next mark: how many of them were wrong
 * to end at. */
static unsigned follow(pid_t pid, const struct shared *m, const struct linelog *l,
		       const struct offline *r, uint64_t *steps)
{
	static struct shared first, then, now; /* before it, after it, as it would be found */
	uint64_t sum;
	unsigned wrong = 0, changes = 0;
	enum op op = m->op; /* the next mark is made while this is followed */
	int status;

	wrong += !take_over(m, l, &first);
	sum = unsent(&first) + in_socket(r);
	then = first;
	for (;; ++*steps) {
		ptrace(PTRACE_SINGLESTEP, pid, NULL, NULL);
		if (waitpid(pid, &status, 0) != pid || !WIFSTOPPED(status))
			return wrong + 1;
		if (WSTOPSIG(status) == SIGSTOP)
			return wrong;
		wrong += !take_over(m, l, &now);
		if (op == SEND) { /* what is sent, and what is still to be sent, is all there is */
			wrong += unsent(&now) + in_socket(r) != sum;
			continue;
		}
		/* It has happened completely, or not at all. */
		if (memcmp(&now.end, &then.end, sizeof now.end + sizeof now.seq) ||
		    memcmp(&now.record.cursor, &then.record.cursor, sizeof now.record.cursor)) {
			wrong += changes++ > 0;
			then = now;
		}
	}
}

static void test_each_instruction(void)
{
	struct shared *m =
		mmap(NULL, sizeof *m, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	int fd = memfd_create("log", 0), fds[2], small = 1, status;
	unsigned wrong[OPS] = { 0 }, times[OPS] = { 0 };
	struct offline *r = calloc(1, sizeof *r);
	uint64_t steps = 0;
	struct linelog l;
	struct undo u;
	pid_t pid;

	if (ftruncate(fd, LOG) < 0 || socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds) < 0)
		abort();
	setsockopt(fds[0], SOL_SOCKET, SO_SNDBUF, &small, sizeof small);
	linelog_map(&l, fd, 0, LOG, m->marks, &m->end, &m->mark_first);
	undo_init(&u, m, COPIED, m->undo, sizeof m->undo);
	m->record.cursor.want = subscription_default;
	r->s = (struct subscriber){ .fd = fds[0], .is_socket = true, .record = &m->record };
	r->fd = fds[1];
	pid = fork();
	if (pid == 0) {
		ptrace(PTRACE_TRACEME, 0, NULL, NULL);
		publish_for_ever(m, &l, &u, &r->s);
	}
	if (waitpid(pid, &status, 0) != pid || !WIFSTOPPED(status)) {
		tap_skip("a publisher that ends at any instruction", "no ptrace");
		return;
	}
	for (unsigned i = 0; i < 100; i++) {
		enum op op = m->op;

		times[op]++;
		wrong[op] += follow(pid, m, &l, r, &steps);
		if (op == SEND)
			receive(r, 1 + below(20000));
	}
	kill(pid, SIGKILL);
	waitpid(pid, &status, 0);
	printf("# %llu instructions; %u lines, %u times moved on, %u times sent to; %llu events, "
	       "%llu lost\n",
	       (unsigned long long)steps, times[PUBLISH], times[SKIP], times[SEND],
	       (unsigned long long)r->events, (unsigned long long)r->lost);
	ok(!wrong[PUBLISH],
	   "ended at any instruction of publishing: the line is there, or it is not");
	ok(!wrong[SKIP], "ended as a subscriber is moved on: it was, or it was not");
	ok(!wrong[SEND], "ended at any instruction of sending: to the octet the rest is known");
	ok(times[SKIP] > 5 && times[SEND] > 15 && r->losts > 2, "of each there were many");
	undo_rollback(&u);
	subscriber_settle(&m->record, &l);
	for (enum subscriber_verdict v = SUBSCRIBER_WAITS; v == SUBSCRIBER_WAITS;) {
		v = subscriber_send(&r->s, &l, &u, 0);
		while (receive(r, sizeof r->buf))
			;
	}
	ok(!r->wrong && !r->n && r->seq == m->seq && r->lost == m->record.cursor.lost_total &&
		   r->events + r->lost == m->seq,
	   "and continues: whole lines, each number reported once, or as lost");
	close(fds[0]);
	close(fds[1]);
	close(fd);
	free(r);
	linelog_unmap(&l);
	munmap(m, sizeof *m);
}

/* ---- many subscribers at random -------------------------------------------------------------- */

/* All that the endpoints of @r had, since it began to read. */
static bool has_segments(const struct stage *g, const struct offline *r)
{
	uint64_t n = 0;

	for (unsigned i = 0; i < 2; i++)
		n += r->s.record->cursor.want.endpoints >> i & 1 ? g->segments[i] : 0;
	return r->ended || r->segments + r->lost_segments == n;
}

static void test_random(unsigned most_room, const struct subscription *want, unsigned nwant,
			const char *what)
{
	bool special = want[nwant - 1].endpoints;
	static struct filter_slot slots[FILTER_SLOTS];
	static const struct filters filters = { .slots = slots };
	struct stage *g = stage_new();
	unsigned wrong = 0;
	uint64_t lost = 0, losts = 0, lost_segments = 0, segments = 0;

	g->log.filters = &filters;
	for (unsigned i = 0; i < READERS; i++)
		join(g)->s.record->cursor.want = want[i % nwant];
	for (unsigned step = 0; step < 60000; step++) {
		unsigned i = below(READERS);
		struct offline *r = g->reader[i];

		switch (below(4)) {
		case 0:
		case 1: /* the first of them keep up, the last ones hardly ever read */
			if (special && !below(3))
				publish_segment(g, below(2), below(9) ? 0 : 1 + below(5));
			else if (!below(300))
				publish_in(g, most_room, LINE_MIN + below(most_room - LINE_MIN), 0);
			else
				publish_in(g, ROOM, LINE_MIN + below(1200),
					   below(50) ? 0 : 1 + below(9));
			break;
		case 2:
			subscriber_send(&r->s, &g->log, NULL, 0);
			break;
		default:
			if (!below(1 + i * i * 4))
				receive(r, below(8) ? 1 + below(3000) : sizeof r->buf);
			break;
		}
	}
	for (unsigned i = 0; i < READERS; i++) {
		struct offline *r = g->reader[i];

		drain(g, r);
		wrong += !caught_up(g, r) ||
			 (!r->ended && r->lost != r->s.record->cursor.lost_total);
		wrong += !has_segments(g, r);
		lost_segments += r->lost_segments;
		segments += r->segments;
		lost += r->lost;
		losts += r->losts;
	}
	printf("# %llu events, %u readers, %llu lost in %llu 'lost' lines\n",
	       (unsigned long long)g->seq, READERS, (unsigned long long)lost,
	       (unsigned long long)losts);
	ok(!g->overwritten, "%s: no octet that was still to be sent is overwritten", what);
	ok(!wrong, "%s: for every reader each number is an event or reported as lost, in order",
	   what);
	ok(losts > 100 && !g->reader[0]->wrong, "%s: many were overtaken", what);
	if (special)
		printf("# %llu segments, %llu lost\n", (unsigned long long)segments,
		       (unsigned long long)lost_segments);
	if (special)
		ok(segments > 100 && lost_segments > 1000,
		   "%s: each segment is a line or counted as lost, for those who asked", what);
	stage_free(g);
}

static const struct subscription with_segments[] = {
	{ .kinds = LINES_ALL, .filter = FILTER_NONE, .everything = true },
	{ .kinds = LINES_ALL, .filter = FILTER_NONE, .endpoints = 1 },
	{ .kinds = 6, .filter = 11, .policy = POLICY_DROP_NEWEST, .endpoints = 2 },
	{ .kinds = 1, .filter = FILTER_NONE },
	{ .kinds = 0, .filter = FILTER_NONE, .endpoints = 3 },
	{ .kinds = LINES_ALL, .filter = FILTER_NONE, .policy = POLICY_DISCONNECT, .endpoints = 1 },
};

/* What it has and what is lost are apart, in time, too. */
static void test_drop_newest(void)
{
	struct stage *g = stage_new();
	struct offline *r = join(g);

	r->s.record->cursor.want.policy = POLICY_DROP_NEWEST;
	for (unsigned i = 0; i < 500; i++)
		publish(g, 999);
	drain(g, r);
	ok(r->first_lost > SUBSCRIBER_PREFIX_MAX / 999 && caught_up(g, r) && r->losts == 1,
	   "drop_newest: it gets the oldest lines, then one 'lost' with all that followed");
	publish(g, 500);
	drain(g, r);
	ok(caught_up(g, r) && r->losts == 1, "and then the stream as ever");
	stage_free(g);
}

static void test_disconnect(void)
{
	struct stage *g = stage_new();
	struct offline *r = join(g);
	enum subscriber_verdict v = SUBSCRIBER_WAITS;

	r->s.record->cursor.want.policy = POLICY_DISCONNECT;
	for (unsigned i = 0; i < 500; i++)
		publish(g, 999);
	while (v == SUBSCRIBER_WAITS) {
		v = subscriber_send(&r->s, &g->log, NULL, 0);
		while (receive(r, sizeof r->buf))
			;
	}
	ok(v == SUBSCRIBER_GONE && r->ended && !r->wrong && !r->n,
	   "disconnect: the last line says why, and is whole");
	stage_free(g);
}

int main(void)
{
	alarm(60);
	rng = tap_seed(65536);
	test_size();
	test_twice();
	test_marks();
	test_short_lines();
	test_keeps_up();
	test_overtaken();
	test_coalesce();
	test_moved_on_rarely();
	test_line_boundary();
	test_hello_first();
	test_gone();
	test_taken_back();
	test_settle();
	test_sound();
	test_each_instruction();
	test_random(ROOM, &subscription_default, 1, "at random");
	test_random(ROOM, some, ARRAY_SIZE(some), "at random, with filters and policies");
	test_random(ROOM, with_segments, ARRAY_SIZE(with_segments), "at random, with segments");
	test_drop_newest();
	test_disconnect();
	test_clears_enough();
	test_random(MANY_ROOM, &subscription_default, 1,
		    "at random, with lines as long as a quarter of the log");
	return tap_done();
}
