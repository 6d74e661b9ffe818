/* synfinctl show: one connection, everything that is known, its events in order. */
#include <stdlib.h>
#include <string.h>
#include "synfinctl/ask.h"
#include "synfinctl/commands.h"
#include "synfinctl/describe.h"
#include "synfinctl/flowarg.h"
#include "synfinctl/js.h"
#include "synfinctl/print.h"
#include "synfinctl/subscription.h"
#include "synfinctl/human.h"

enum { OTHERS_MAX = 10 };

struct show_options {
	struct print_options print;
	struct dial_options dial;
};

static const struct cli_group show_groups[] = {
	PRINT_GROUP(struct show_options, print),
	DIAL_GROUP(struct show_options, dial),
	{ 0 },
};

/* What is kept of the connections that match: their lines, in order. */
struct history {
	json_t *flows; /* owned; flow_id -> [lines as strings] */
	char newest[40];
	size_t dropped;
};

enum { LINES_OF_FLOW_MAX = 1000, FLOWS_MAX = 1000 };

static void history_add(void *arg, const char *line, size_t n, const json_t *event)
{
	struct history *h = arg;
	const char *id = js_str(event, "flow_id");
	json_t *lines = json_object_get(h->flows, id);

	if (!*id)
		return;
	if (!lines) {
		if (json_object_size(h->flows) == FLOWS_MAX) {
			h->dropped++;
			return;
		}
		lines = json_array();
		json_object_set_new(h->flows, id, lines);
	}
	snprintf(h->newest, sizeof h->newest, "%s", id);
	if (json_array_size(lines) == LINES_OF_FLOW_MAX)
		json_array_remove(lines, 1); /* the beginning stays */
	json_array_append_new(lines, json_stringn(line, n));
}

static bool take_rows(const json_t *reply, void *arg)
{
	const json_t *row;
	size_t i;

	json_array_foreach((json_t *)js_at(reply, "connections"), i, row)
	{
		char *text = json_dumps(row, JSON_COMPACT);

		if (text)
			history_add(arg, text, strlen(text), row);
		free(text);
	}
	return true;
}

static void print_members(struct out *out, const json_t *e)
{
	static const struct {
		const char *label, *path;
		bool ns;
	} members[] = {
		{ "community id", "community_id", false },
		{ "vlan", "vlan", false },
		{ "tunnel", "tunnel", false },
		{ "history", "tcp.history", false },
		{ "Zeek's state", "tcp.conn_state", false },
		{ "direction by", "tcp.direction_basis", false },
		{ "outstanding", "tcp.outstanding", false },
		{ "gap octets", "flow.gap_bytes", false },
		{ "frames to server", "flow.pkts_toserver", false },
		{ "frames to client", "flow.pkts_toclient", false },
		{ "octets to server", "flow.bytes_toserver", false },
		{ "octets to client", "flow.bytes_toclient", false },
		{ "data to server", "flow.payload_toserver", false },
		{ "data to client", "flow.payload_toclient", false },
		{ "sent again by client", "flow.retrans_toserver", false },
		{ "sent again by server", "flow.retrans_toclient", false },
		{ "client's state for", "tcp.client_state_ns", true },
		{ "server's state for", "tcp.server_state_ns", true },
		{ "options", "tcp.options", false },
	};
	char text[256];

	for (unsigned i = 0; i < sizeof members / sizeof *members; i++) {
		if (!js_at(e, members[i].path))
			continue;
		if (members[i].ns)
			snprintf(text, sizeof text, "%s",
				 human_duration(js_u64(e, members[i].path)).s);
		else
			js_text(e, members[i].path, text, sizeof text);
		out_text(out, "  ");
		out_cell(out, OUT_DIM, 22, members[i].label);
		out_text(out, text);
		out_end(out);
	}
}

static void show_one(struct printer *p, const char *id, const json_t *lines)
{
	const json_t *line, *last = NULL;
	char flow[DESCRIBE_FLOW];
	size_t i;

	json_array_foreach((json_t *)lines, i, line)
	{
		const char *text = json_string_value(line);
		size_t n = json_string_length(line);
		json_t *event = json_loadb(text, n, 0, NULL);

		if (i == 0 && !p->options->json && !p->options->fields.n) {
			describe_flow(event, flow);
			out_styled(&p->out, OUT_BOLD, flow);
			out_printf(&p->out, "  flow_id %s", id);
			if (!js_is(event, "event_type", "tcp_open"))
				out_text(&p->out, "  (older events are no longer in the queue)");
			out_end(&p->out);
		}
		printer_line(p, text, n, event);
		json_decref((json_t *)last);
		last = event;
	}
	if (last && !p->options->json && !p->options->fields.n)
		print_members(&p->out, last);
	json_decref((json_t *)last);
}

static void show_others(struct printer *p, const struct history *h)
{
	size_t n = json_object_size(h->flows), shown = 0;
	const char *id;
	json_t *lines;

	if (n < 2 || p->options->json || p->options->fields.n)
		return;
	out_printf(&p->out,
		   "%s matched, too:", human_plural(n - 1 + h->dropped, "other connection").s);
	json_object_foreach(h->flows, id,
			    lines) if (strcmp(id, h->newest) != 0 && shown++ < OTHERS_MAX)
		out_printf(&p->out, " %s", id);
	out_printf(&p->out, "%s", shown > OTHERS_MAX ? " ..." : "");
	out_end(&p->out);
}

static int show_run(const void *options, char **operands)
{
	const struct show_options *o = options;
	struct history h = { .flows = json_object() };
	struct choose where = { 0 };
	struct printer p;
	int r = printer_init(&p, &o->print);

	if (!r)
		r = flowarg_choose(operands[0], &where);
	if (!r)
		r = subscription_past(&o->dial, where.text, history_add, &h, NULL);
	if (!r)
		r = ask(&o->dial, "Connections",
			json_pack("{s:s, s:i, s:s}", "where", where.text, "limit", OTHERS_MAX + 1,
				  "order", "newest"),
			false, take_rows, &h);
	if (!r) {
		if (*h.newest)
			show_one(&p, h.newest, json_object_get(h.flows, h.newest));
		show_others(&p, &h);
		r = *h.newest ? CLI_FOUND : CLI_NOTHING;
		if (r)
			cli_error(CLI_NOTHING,
				  "no connection %s is open, nor in the queue of events",
				  operands[0]);
	}
	json_decref(h.flows);
	return r;
}

const struct cli_command show_command = {
	.name = "show",
	.operands = "FLOW",
	.min_operands = 1,
	.max_operands = 1,
	.summary = "Show one connection: its events in order, and everything known of it",
	.text = FLOWARG_HELP
	"Of several that match, the newest one is shown. One that is over can be shown as long\n"
	"as synfind's queue has its events. Exit status: 0, or 1 if there is no such connection.\n",
	.examples = "  synfinctl show 10.9.0.1:46114\n"
		    "  synfinctl show '10.9.0.1:46114 > 10.9.0.2:9999'\n"
		    "  synfinctl show b31f6c0d9e5a7741 --json\n",
	.groups = show_groups,
	.size = sizeof(struct show_options),
	.run = show_run,
};
