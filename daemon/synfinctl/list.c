/* synfinctl list: what is open now, as ss(8) shows sockets. */
#include <stdlib.h>
#include <string.h>
#include "base/cc.h"
#include "synfinctl/ask.h"
#include "synfinctl/choose.h"
#include "synfinctl/commands.h"
#include "synfinctl/describe.h"
#include "synfinctl/js.h"
#include "synfinctl/print.h"
#include "synfinctl/tally.h"
#include "synfinctl/human.h"

enum list_sort { SORT_NONE, SORT_AGE, SORT_NEWEST, SORT_IDLE, SORT_BYTES, SORT_RETRANS };

struct list_options {
	uint64_t older_ns, idle_ns, limit;
	unsigned sort, by;
	struct choose_options choose;
	struct print_options print;
	struct dial_options dial;
};

enum { LIMIT_DEFAULT = 100, LIMIT_MAX = 10000 };

static const struct cli_flag list_flags[] = {
	{ "older", 'o', CLI_TIME, offsetof(struct list_options, older_ns), "TIME",
	  "Only connections that began longer ago: 60s, 2h.", NULL },
	{ "idle", 'I', CLI_TIME, offsetof(struct list_options, idle_ns), "TIME",
	  "Only connections without a segment for so long.", NULL },
	{ "sort", 'S', CLI_WORD, offsetof(struct list_options, sort),
	  "none|age|newest|idle|bytes|retrans",
	  "Order: oldest, newest, longest idle, most octets, most retransmissions. [none]", NULL },
	{ "limit", 'l', CLI_NUMBER, offsetof(struct list_options, limit), "N",
	  "At most N connections, up to 10000. [100]", NULL },
	{ "by", 'b', CLI_WORD, offsetof(struct list_options, by), TALLY_WORDS,
	  "Count them by state, server, client, port or interface, in place of a line each; of up "
	  "to 10000 connections.",
	  NULL },
	{ 0 },
};

static const struct cli_group list_groups[] = {
	{ "What to list", list_flags, 0 },
	CHOOSE_GROUP(struct list_options, choose),
	PRINT_GROUP(struct list_options, print),
	DIAL_GROUP(struct list_options, dial),
	{ 0 },
};

struct listing {
	const struct list_options *o;
	struct printer p;
	struct tally tally;
	uint64_t rows, matched;
};

static void list_head(struct listing *l)
{
	out_styled(
		&l->p.out, OUT_BOLD,
		"CLIENT > SERVER                                CLIENT/SERVER STATE               "
		"AGE        IDLE   SENT  RECEIVED RETRANS");
	out_end(&l->p.out);
}

static void list_row(struct listing *l, const json_t *row)
{
	struct out *out = &l->p.out;
	char flow[DESCRIBE_FLOW], states[64];

	describe_flow(row, flow);
	snprintf(states, sizeof states, "%.20s/%.20s", js_str(row, "tcp.client_state"),
		 js_str(row, "tcp.server_state"));
	out_cell(out, OUT_PLAIN, 46, flow);
	out_text(out, " ");
	out_cell(out, OUT_PLAIN, 25, states);
	out_cell(out, OUT_PLAIN, -12, human_duration(js_u64(row, "flow.age_ns")).s);
	out_cell(out, OUT_PLAIN, -12, human_duration(js_u64(row, "tcp.idle_ns")).s);
	if (js_is(row, "flow.counts", "sequence")) {
		out_text(out, "      -       -       -");
	} else {
		out_cell(out, OUT_PLAIN, -7, human_octets(js_u64(row, "flow.payload_toserver")).s);
		out_cell(out, OUT_PLAIN, -10, human_octets(js_u64(row, "flow.payload_toclient")).s);
		out_cell(out, OUT_PLAIN, -8,
			 human_count(js_u64(row, "flow.retrans_toserver") +
				     js_u64(row, "flow.retrans_toclient"))
				 .s);
	}
	out_end(out);
}

static void list_one(struct listing *l, const json_t *row)
{
	const struct print_options *print = &l->o->print;

	l->rows++;
	if (l->o->by) {
		tally_add(&l->tally, row);
	} else if (print->json) {
		out_json(&l->p.out, row);
	} else if (print->fields.n) {
		printer_line(&l->p, "", 0, row);
	} else {
		if (l->rows == 1)
			list_head(l);
		list_row(l, row);
	}
}

static bool list_reply(const json_t *reply, void *arg)
{
	struct listing *l = arg;
	const json_t *row;
	size_t i;

	json_array_foreach((json_t *)js_at(reply, "connections"), i, row) list_one(l, row);
	l->matched = js_u64(reply, "matched");
	return true;
}

static int list_where(const struct list_options *o, struct choose *where)
{
	int r = choose_make(&o->choose, where);

	if (r)
		return r;
	if (o->older_ns)
		choose_and(where, "flow.age_ns >= %llu", (unsigned long long)o->older_ns);
	if (o->idle_ns)
		choose_and(where, "tcp.idle_ns >= %llu", (unsigned long long)o->idle_ns);
	return choose_check(where);
}

static json_t *list_request(const struct list_options *o, const struct choose *where)
{
	static const char *const orders[] = {
		NULL, "oldest", "newest", "idle", "bytes", "retrans"
	};
	uint64_t limit = o->limit ? o->limit : o->by ? LIMIT_MAX : LIMIT_DEFAULT;

	return json_pack("{s:I, s:s*, s:s*}", "limit", (json_int_t)limit, "order", orders[o->sort],
			 "where", where->n ? where->text : NULL);
}

static int list_run(const void *options, char **operands)
{
	const struct list_options *o = options;
	struct listing l = { .o = o };
	struct choose where;
	int r = list_where(o, &where);

	(void)operands;
	if (r)
		return r;
	if (o->limit > LIMIT_MAX)
		return cli_error(CLI_USAGE, "--limit: at most %d", LIMIT_MAX);
	r = printer_init(&l.p, &o->print);
	if (r)
		return r;
	tally_init(&l.tally, (enum tally_by)o->by);
	r = ask(&o->dial, "Connections", list_request(o, &where), true, list_reply, &l);
	if (r == CLI_FOUND && o->by)
		r = tally_print(&l.tally, &l.p.out, o->print.json);
	tally_done(&l.tally);
	if (r != CLI_FOUND)
		return r;
	if (l.matched > l.rows)
		cli_error(CLI_FOUND, "%s of %s matching ones; --limit or --by shows more",
			  human_count(l.rows).s, human_count(l.matched).s);
	return l.rows ? CLI_FOUND : CLI_NOTHING;
}

const struct cli_command list_command = {
	.name = "list",
	.operands = "",
	.summary = "List the connections that are open now",
	.text = "Exit status: 0, or 1 if there is none.\n",
	.examples =
		"  synfinctl list --sort age --limit 10           the ten oldest\n"
		"  synfinctl list --state close_wait --older 60s  leaks: a program does not close\n"
		"  synfinctl list --by state                      how many in which state\n"
		"  synfinctl list --sort retrans --by server      retransmissions per server\n"
		"  synfinctl list --port 443 --idle 10min\n",
	.groups = list_groups,
	.size = sizeof(struct list_options),
	.run = list_run,
};
