/* where_eval.c - the verdicts of expressions, for a test that knows better (conformance/where.py).
 *
 *   where_eval SEED RANDOM [FILE...]
 *
 * Prints how many lines it has, and the lines: those of the capture files, of RANDOM random
 * records, and some that have no record.  Then it reads requests, each a line `FIRST COUNT HEX`: of
 * lines to judge, and the octets of an expression.  It answers `E AT TEXT`, or `V RECORDS LINES`:
 * two words with a digit for each line, 0, 1, or - if it has no record. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/cc.h"
#include "base/strbuf.h"
#include "flow/tracker.h"
#include "format/json.h"
#include "format/where.h"
#include "source/pcapfile.h"
#include "source/source.h"
#include "tests/support/records.h"
#include "wire/frame.h"
#include "wire/segment.h"

enum { SUBJECTS_MAX = 100000, EXPRESSION_MAX = 1 << 16 };

static struct subject {
	bool record;
	struct event event;
	uint64_t seq;
	struct json_context context;
	char *line;
	size_t n;
} subjects[SUBJECTS_MAX];
static unsigned count;
static struct fmt_second second;

static void keep(struct subject *s, const struct strbuf *t, const char *begin)
{
	if (t->full || t->p == begin || count == SUBJECTS_MAX)
		abort();
	s->n = (size_t)(t->p - begin);
	s->line = malloc(s->n);
	memcpy(s->line, begin, s->n);
	count++;
}

static void add_record(const struct event *e, uint64_t seq, const struct json_context *c)
{
	char line[JSON_LINE_MAX];
	struct strbuf t = { .p = line, .end = line + sizeof line };
	struct subject *s = &subjects[count];

	*s = (struct subject){ .record = true, .event = *e, .seq = seq, .context = *c };
	json_event(&t, e, seq, c);
	keep(s, &t, line);
}

/* ---- a capture file -------------------------------------------------------------------------- */

static struct event current;

static struct event *sink_reserve(struct event_sink *s)
{
	(void)s;
	return memset(&current, 0, sizeof current);
}

static void sink_commit(struct event_sink *s)
{
	(void)s;

	struct json_context c = random_context(&second);

	add_record(&current, count + 1, &c);
}

static struct event_sink sink = { .reserve = sink_reserve, .commit = sink_commit };

static void read_file(const char *path)
{
	struct tracker_config cfg = { .max_connections = 1 << 10,
				      .max_half_open = 1 << 10,
				      .anomalies_per_connection = 8,
				      .anomalies_per_second = 100,
				      .flood_half_open = 1024,
				      .flood_rate = 200,
				      .flood_interval_ns = 10000000000,
				      .recorded = true };
	static struct tracker_counters counters;
	struct frame frames[TRACKER_BATCH];
	struct segment segments[TRACKER_BATCH];
	char error[PCAPFILE_ERROR_MAX];
	struct source *source;
	struct tracker *t;
	void *memory;
	int n;

	for (unsigned i = 0; i < FSM_TIMEOUTS; i++)
		cfg.timeout_ns[i] = 60000000000;
	memset(&counters, 0, sizeof counters);
	memory = aligned_alloc(4096, (tracker_memory(&cfg) + 4095) / 4096 * 4096);
	memset(memory, 0, tracker_memory(&cfg));
	t = tracker_new(&cfg, memory, &sink, &counters);
	if (!t || pcapfile_open(path, &source, error) < 0) {
		fprintf(stderr, "where_eval: %s: cannot be read\n", path);
		exit(2);
	}
	while ((n = source_next(source, frames, TRACKER_BATCH)) > 0) {
		unsigned tcp = 0;

		for (int i = 0; i < n; i++)
			tcp += frame_decode(&frames[i], &segments[tcp]) == FRAME_TCP;
		tracker_input(t, segments, tcp);
	}
	tracker_close_all(t, REASON_CAPTURE_END);
	tracker_free(t);
	source_free(source);
	free(memory);
}

/* ---- lines without a record ------------------------------------------------------------------ */

static void add_stats(struct strbuf *t)
{
	struct stats_decoder d[2] = { { .iface = "eth0" }, { .iface = "lo" } };
	struct stats_subscribers s = {
		below(3), below(5), below(9), below(3), below(3), below(3), below(2) * below(4),
		below(2)
	};

	static const struct stats_interface links[2] = { { "veth1", "any", 3, 4 },
							 { "veth2", "any", 5, 6 } };

	json_stats(t,
		   &(struct json_stats){ .decoders = d,
					 .interfaces = links,
					 .ndecoders = 1 + below(2),
					 .ninterfaces = below(3),
					 .subscribers = s,
					 .interval_ns = 5000000000 * below(2) },
		   below(9), random_time());
}

static void add_restart(struct strbuf *t)
{
	static const char *const names[80] = { [0 ... 79] = "veth\"0" };
	struct json_recovery step = { .iface = "eth0", .deaths = 1, .step = "skip" };
	struct json_restart r = { .cause = below(2) ? "stop" : "crash",
				  .down_ns = random_number(40),
				  .reset = names,
				  .nreset = below(2) ? 80 * below(2) : 1,
				  .recovery = &step,
				  .nrecovery = below(2) };

	json_restart(t, &r, below(9), random_time());
}

static void add_other(unsigned kind)
{
	static const char *const state[] = { "up", "down", "gone", "back" };
	static const char *const reason[] = { "subscriber", "ring", "poison", "replay", "run" };
	static char line[1 << 16];
	struct strbuf t = { .p = line, .end = line + sizeof line };
	uint64_t first = below(9);

	switch (kind % 4) {
	case 0:
		add_stats(&t);
		break;
	case 1:
		json_iface(&t, below(2) ? "eth0" : "br\"0", state[below(4)], below(9),
			   random_time());
		break;
	case 2:
		add_restart(&t);
		break;
	default:
		json_lost(&t, 1 + below(3), first, first + below(3), reason[below(5)],
			  random_time());
	}
	keep(&subjects[count], &t, line);
}

/* ---- requests -------------------------------------------------------------------------------- */

static size_t unhex(const char *hex, char *ret)
{
	size_t n = 0;
	unsigned octet;

	for (; n < EXPRESSION_MAX && sscanf(hex + 2 * n, "%2x", &octet) == 1; n++)
		ret[n] = (char)octet;
	return n;
}

static void judge(const struct where *w, unsigned first, unsigned n)
{
	printf("V ");
	for (unsigned i = first; i < first + n; i++) {
		const struct subject *s = &subjects[i % count];

		putchar(!s->record					 ? '-'
			: where_event(w, &s->event, s->seq, &s->context) ? '1'
									 : '0');
	}
	putchar(' ');
	for (unsigned i = first; i < first + n; i++)
		putchar(where_line(w, subjects[i % count].line, subjects[i % count].n) ? '1' : '0');
	putchar('\n');
}

int main(int argc, char **argv)
{
	static char request[2 * EXPRESSION_MAX + 64], text[EXPRESSION_MAX];

	if (argc < 3)
		return 2;
	rng = strtoull(argv[1], NULL, 10);
	for (int i = 3; i < argc; i++)
		read_file(argv[i]);
	for (unsigned i = 0, n = (unsigned)atoi(argv[2]); i < n; i++) {
		struct event e = random_event(i % EVENT_KINDS);
		struct json_context c = random_context(&second);

		add_record(&e, random_number(62), &c);
		if (i % 8 == 0)
			add_other(i / 8);
	}
	printf("%u\n", count);
	for (unsigned i = 0; i < count; i++)
		fwrite(subjects[i].line, 1, subjects[i].n, stdout);
	fflush(stdout);
	while (fgets(request, sizeof request, stdin)) {
		unsigned first, n;
		int at = 0;
		struct where_error e;
		struct where *w;

		if (sscanf(request, "%u %u %n", &first, &n, &at) < 2)
			return 2;
		if (where_compile(&w, text, unhex(request + at, text), &e)) {
			printf("E %u %s\n", e.at, e.text);
			continue;
		}
		judge(w, first, n);
		where_free(w);
	}
	return 0;
}
