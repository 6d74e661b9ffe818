/* synfinctl status: the daemon in ten lines. */
#include <stdlib.h>
#include <string.h>
#include "synfinctl/ask.h"
#include "synfinctl/commands.h"
#include "synfinctl/js.h"
#include "synfinctl/out.h"
#include "synfinctl/human.h"

struct status_options {
	struct out_options out;
	struct dial_options dial;
};

static const struct cli_group status_groups[] = {
	OUT_GROUP(struct status_options, out),
	DIAL_GROUP(struct status_options, dial),
	{ 0 },
};

static void label(struct out *out, const char *name)
{
	out_cell(out, OUT_DIM, 14, name);
}

/* A count that should be 0. */
static void trouble(struct out *out, uint64_t n, const char *what)
{
	char text[96];

	snprintf(text, sizeof text, "%s %s", human_count(n).s, what);
	out_styled(out, n ? OUT_BAD : OUT_PLAIN, text);
}

static void rates(struct out *out, const json_t *counts)
{
	if (js_at(counts, "packets_per_second"))
		out_printf(out, "%s/s",
			   human_plural(js_u64(counts, "packets_per_second"), "frame").s);
	if (js_at(counts, "events_per_second"))
		out_printf(out, ", %s/s, ",
			   human_plural(js_u64(counts, "events_per_second"), "event").s);
}

/* The most frequent states first. */
static void states(struct out *out, const json_t *list)
{
	uint64_t below = UINT64_MAX;
	size_t n = json_array_size(list), i;

	for (size_t shown = 0; shown < n;) {
		uint64_t most = 0;
		const json_t *row;

		json_array_foreach((json_t *)list, i, row) if (js_u64(row, "connections") < below &&
							       js_u64(row, "connections") > most)
			most = js_u64(row, "connections");
		json_array_foreach((json_t *)list, i, row)
		{
			if (js_u64(row, "connections") != most)
				continue;
			label(out, "");
			out_cell(out, OUT_PLAIN, -11, human_count(most).s);
			out_printf(out, "  %s/%s", js_str(row, "client"), js_str(row, "server"));
			out_end(out);
			shown++;
		}
		if (!most)
			break;
		below = most;
	}
}

static void interface_line(struct out *out, const json_t *i, bool first)
{
	const char *state = js_str(i, "state");

	label(out, first ? "interfaces" : "");
	out_cell(out, OUT_PLAIN, 16, js_str(i, "name"));
	out_cell(out, strcmp(state, "up") ? OUT_BAD : OUT_GOOD, 8, state);
	if (js_at(i, "rings")) {
		out_printf(out, "shares a ring (%s): %s, ", js_str(i, "rings"),
			   human_plural(js_u64(i, "counts.packets"), "frame").s);
		out_printf(out, "%s", human_plural(js_u64(i, "counts.events"), "event").s);
		out_end(out);
		return;
	}
	rates(out, js_at(i, "counts"));
	out_printf(out, "%s open, ", human_count(js_u64(i, "counts.open")).s);
	trouble(out, js_u64(i, "counts.drops"), "frames dropped");
	out_end(out);
}

static void status_print(struct out *out, const json_t *s)
{
	const json_t *interface;
	size_t k;

	label(out, "synfind");
	out_printf(out, "%s on %s, mode %s, pid %llu, for %s", js_str(s, "version"),
		   js_str(s, "host"), js_str(s, "mode"), (unsigned long long)js_u64(s, "pid"),
		   human_duration(js_u64(s, "uptime_ns")).s);
	out_end(out);
	label(out, "run");
	out_printf(out, "%s, event %s", js_str(s, "run_id"), human_count(js_u64(s, "seq")).s);
	out_end(out);
	label(out, "connections");
	out_printf(out, "%s open", human_count(js_u64(s, "total.open")).s);
	out_printf(out, ", %s of them in the handshake",
		   human_count(js_u64(s, "total.half_open")).s);
	out_printf(out, "; limit %s per interface",
		   human_count(js_u64(s, "limits.max_connections")).s);
	out_end(out);
	states(out, js_at(s, "states"));
	label(out, "frames");
	out_printf(out, "%s", human_count(js_u64(s, "total.packets")).s);
	if (js_at(s, "total.packets_per_second"))
		out_printf(out, ", %s/s", human_count(js_u64(s, "total.packets_per_second")).s);
	out_printf(out, ", ");
	trouble(out, js_u64(s, "total.drops"), "dropped");
	out_end(out);
	label(out, "events");
	out_printf(out, "%s", human_count(js_u64(s, "total.events")).s);
	if (js_at(s, "total.events_per_second"))
		out_printf(out, ", %s/s", human_count(js_u64(s, "total.events_per_second")).s);
	out_printf(out, ", ");
	trouble(out, js_u64(s, "total.lost"), "lost");
	out_end(out);
	label(out, "subscribers");
	out_printf(out, "%s, ", human_count(js_u64(s, "subscribers.connected")).s);
	trouble(out, js_u64(s, "subscribers.refused"), "refused");
	out_printf(out, ", ");
	trouble(out, js_u64(s, "subscribers.lost"), "events lost by slow ones");
	out_end(out);
	label(out, "memory");
	if (js_at(s, "memory.resident"))
		out_printf(out, "%s resident, ", human_octets(js_u64(s, "memory.resident")).s);
	out_printf(out, "rings %s, ", human_octets(js_u64(s, "memory.rings")).s);
	out_printf(out, "tables up to %s, ", human_octets(js_u64(s, "memory.tables")).s);
	out_printf(out, "queue %s", human_octets(js_u64(s, "memory.queue")).s);
	out_end(out);
	json_array_foreach((json_t *)js_at(s, "interfaces"), k, interface)
		interface_line(out, interface, k == 0);
	if (js_u64(s, "interfaces_more")) {
		label(out, "");
		out_printf(out, "and %s", human_plural(js_u64(s, "interfaces_more"), "other").s);
		out_end(out);
	}
}

static int status_run(const void *options, char **operands)
{
	const struct status_options *o = options;
	json_t *status = NULL;
	struct out out;
	int r = ask_one(&o->dial, "Status", NULL, &status);

	(void)operands;
	if (r)
		return r;
	out_init(&out, o->out.color);
	if (o->out.json)
		out_json(&out, status);
	else
		status_print(&out, status);
	json_decref(status);
	return CLI_FOUND;
}

const struct cli_command status_command = {
	.name = "status",
	.operands = "",
	.summary = "Show how the daemon is doing",
	.text = "What is red is worth a look: synfinctl doctor says what to do.\n",
	.examples = "  synfinctl status\n"
		    "  synfinctl status --json | jq .total.drops\n",
	.groups = status_groups,
	.size = sizeof(struct status_options),
	.run = status_run,
};
