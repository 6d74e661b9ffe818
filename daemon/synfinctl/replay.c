/* synfinctl replay: saved lines again. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include "common/clock.h"
#include "format/where.h"
#include "synfinctl/choose.h"
#include "synfinctl/commands.h"
#include "synfinctl/js.h"
#include "synfinctl/lines.h"
#include "synfinctl/print.h"
#include "synfinctl/human.h"

struct replay_options {
	bool pace;
	uint64_t speed;
	struct choose_options choose;
	struct print_options print;
};

static const struct cli_flag replay_flags[] = {
	{ "pace", 'P', CLI_BOOL, offsetof(struct replay_options, pace), NULL,
	  "At the pace at which they happened, in place of as fast as possible.", NULL },
	{ "speed", 0, CLI_NUMBER, offsetof(struct replay_options, speed), "N",
	  "So many times faster than they happened.", NULL },
	{ 0 },
};

static const struct cli_group replay_groups[] = {
	{ "How fast", replay_flags, 0 },
	CHOOSE_GROUP(struct replay_options, choose),
	PRINT_GROUP(struct replay_options, print),
	{ 0 },
};

struct replay {
	const struct replay_options *o;
	struct where *where; /* NULL: everything */
	struct printer p;
	uint64_t first_ns;   /* of the lines */
	uint64_t started_ns; /* our clock */
};

/* Waits until it is the time of the line; a gap is kept, a step back is none. */
static void replay_wait(struct replay *r, const json_t *event)
{
	uint64_t now, due;
	struct timespec t;

	if ((!r->o->pace && !r->o->speed) || !human_parse_time(js_str(event, "timestamp"), &now))
		return;
	if (!r->first_ns) {
		r->first_ns = now;
		r->started_ns = clock_ns(CLOCK_MONOTONIC);
	}
	if (now <= r->first_ns)
		return;
	due = r->started_ns + (now - r->first_ns) / (r->o->speed ? r->o->speed : 1);
	fflush(stdout);
	t = (struct timespec){ (time_t)(due / 1000000000), (long)(due % 1000000000) };
	while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL) == EINTR)
		;
}

static void replay_line(void *arg, const char *line, size_t n)
{
	struct replay *r = arg;
	json_t *event = js_parse(line, n);

	if (!event || !r->where || where_line(r->where, line, n)) {
		if (event)
			replay_wait(r, event);
		printer_line(&r->p, line, n, event);
	}
	json_decref(event);
}

static int replay_run(const void *options, char **operands)
{
	struct replay r = { .o = options };
	struct choose where;
	int status = choose_make(&r.o->choose, &where);

	if (!status)
		status = choose_check(&where);
	if (status)
		return status;
	if (where.n)
		status = choose_compile("expression", where.text, &r.where);
	if (!status)
		status = printer_init(&r.p, &r.o->print);
	for (; *operands && !status; operands++)
		status = lines_of_file(*operands, replay_line, &r, &r.p.garbage);
	printer_done(&r.p);
	where_free(r.where);
	return status ? status : r.p.lines ? CLI_FOUND : CLI_NOTHING;
}

const struct cli_command replay_command = {
	.name = "replay",
	.operands = "FILE...",
	.min_operands = 1,
	.max_operands = 1000000,
	.complete = "file",
	.summary = "Print saved lines of JSON again, readable and filtered",
	.text = "FILE has lines as synfind, 'synfinctl watch --json' or 'synfind --read' wrote "
		"them; -: standard\n"
		"input. Exit status: 0, or 1 if no event is in them.\n",
	.examples = "  synfinctl replay saved.json --port 443\n"
		    "  synfinctl replay saved.json --pace --json | your-program    a test of a "
		    "consumer\n"
		    "  synfind --read trace.pcapng | synfinctl replay -\n",
	.groups = replay_groups,
	.size = sizeof(struct replay_options),
	.run = replay_run,
};
