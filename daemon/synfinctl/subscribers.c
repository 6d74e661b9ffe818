/* synfinctl subscribers: who reads the events, which ones, and who loses some. */
#include <stdlib.h>
#include <string.h>
#include "common/clock.h"
#include "synfinctl/ask.h"
#include "synfinctl/commands.h"
#include "synfinctl/js.h"
#include "synfinctl/out.h"
#include "synfinctl/human.h"

struct subscribers_options {
	bool losing;
	struct out_options out;
	struct dial_options dial;
};

static const struct cli_flag subscribers_flags[] = {
	{ "losing", 0, CLI_BOOL, offsetof(struct subscribers_options, losing), NULL,
	  "Only those that lost events.", NULL },
	{ 0 },
};

static const struct cli_group subscribers_groups[] = {
	{ "Which subscribers", subscribers_flags, 0 },
	OUT_GROUP(struct subscribers_options, out),
	DIAL_GROUP(struct subscribers_options, dial),
	{ 0 },
};

struct table {
	const struct subscribers_options *o;
	struct out out;
	uint64_t rows;
};

/* "postgres, pid 812 (sink)" */
static void who(const json_t *s, char *ret, size_t size)
{
	char pid[32] = "standard output", user[64] = "";

	if (js_at(s, "pid"))
		snprintf(pid, sizeof pid, "pid %llu", (unsigned long long)js_u64(s, "pid"));
	if (js_at(s, "user"))
		snprintf(user, sizeof user, "%.40s, ", js_str(s, "user"));
	else if (js_at(s, "uid"))
		snprintf(user, sizeof user, "uid %llu, ", (unsigned long long)js_u64(s, "uid"));
	snprintf(ret, size, "%s%s%s%.30s", user, pid, js_at(s, "program") ? ", " : "",
		 js_str(s, "program"));
}

static void chosen(struct out *out, const json_t *s)
{
	const json_t *kind;
	size_t i;

	if (!js_at(s, "events") && !js_at(s, "where"))
		out_text(out, "everything");
	json_array_foreach((json_t *)js_at(s, "events"), i, kind)
		out_printf(out, "%s%s", i ? "," : "", json_string_value(kind));
	if (js_at(s, "where"))
		out_printf(out, "%s%s", js_at(s, "events") ? "  " : "", js_str(s, "where"));
}

static void row(struct table *t, const json_t *s)
{
	struct out *out = &t->out;
	uint64_t lost = js_u64(s, "lost"), since;
	char name[160];

	if (t->o->losing && !lost)
		return;
	if (t->o->out.json) {
		out_json(out, s);
		t->rows++;
		return;
	}
	if (!t->rows++) {
		out_styled(out, OUT_BOLD,
			   "SUBSCRIBER                    SINCE             BEHIND        LOST  "
			   "WANTS");
		out_end(out);
	}
	who(s, name, sizeof name);
	out_cell(out, OUT_PLAIN, 30, name);
	out_cell(out, OUT_PLAIN, 14,
		 human_parse_time(js_str(s, "since"), &since)
			 ? human_duration(wall_clock_ns() - since).s
			 : "?");
	out_cell(out, OUT_PLAIN, -10, human_octets(js_u64(s, "behind_octets")).s);
	out_cell(out, lost ? OUT_BAD : OUT_PLAIN, -12, human_count(lost).s);
	out_text(out, "  ");
	chosen(out, s);
	out_end(out);
}

static bool reply_rows(const json_t *parameters, void *arg)
{
	const json_t *s;
	size_t i;

	json_array_foreach((json_t *)js_at(parameters, "subscribers"), i, s) row(arg, s);
	return true;
}

static int subscribers_run(const void *options, char **operands)
{
	struct table t = { .o = options };
	int r;

	(void)operands;
	out_init(&t.out, t.o->out.color);
	r = ask(&t.o->dial, "Subscribers", NULL, true, reply_rows, &t);
	return r != CLI_FOUND ? r : t.rows ? CLI_FOUND : CLI_NOTHING;
}

const struct cli_command subscribers_command = {
	.name = "subscribers",
	.operands = "",
	.summary = "Show who reads the events, what each one chose, and who loses some",
	.text = "A subscriber loses events if it reads too slowly; no other one is affected.\n"
		"Exit status: 0, or 1 if there is none.\n",
	.examples = "  synfinctl subscribers\n"
		    "  synfinctl subscribers --losing\n",
	.groups = subscribers_groups,
	.size = sizeof(struct subscribers_options),
	.run = subscribers_run,
};
