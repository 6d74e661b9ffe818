/* synfinctl watch: connections as they fail, end, or do something else, live. */
#include <string.h>
#include <time.h>
#include "common/clock.h"
#include "synfinctl/choose.h"
#include "synfinctl/commands.h"
#include "synfinctl/describe.h"
#include "synfinctl/dial.h"
#include "synfinctl/print.h"
#include "synfinctl/subscription.h"
#include "synfinctl/human.h"

struct watch_options {
	bool failed, events, no_follow;
	uint64_t slow_ns, since_ns, limit;
	const char *cursor_file;
	struct choose_options choose;
	struct print_options print;
	struct dial_options dial;
};

static const struct cli_flag watch_flags[] = {
	{ "failed", 'F', CLI_BOOL, offsetof(struct watch_options, failed), NULL,
	  "Only what fails: refused, unreachable, unanswered, half-open, reset, a SYN sent again, "
	  "a connection that is stuck.",
	  NULL },
	{ "slow", 'S', CLI_TIME, offsetof(struct watch_options, slow_ns), "TIME",
	  "Only handshakes that take longer, such as 100ms; with --failed, these too.", NULL },
	{ "events", 'e', CLI_BOOL, offsetof(struct watch_options, events), NULL,
	  "Every event, not only the outcome of each connection.", NULL },
	{ "since", 0, CLI_TIME, offsetof(struct watch_options, since_ns), "TIME",
	  "Begin so long ago: 10min. As far as synfind's queue reaches back.", NULL },
	{ "no-follow", 0, CLI_BOOL, offsetof(struct watch_options, no_follow), NULL,
	  "End with the newest event of now. Without --since: all that the queue has.", NULL },
	{ "limit", 'l', CLI_NUMBER, offsetof(struct watch_options, limit), "N",
	  "End after N lines.", NULL },
	{ "cursor-file", 0, CLI_STRING, offsetof(struct watch_options, cursor_file), "FILE",
	  "Keep the place in this file, and continue there the next time: nothing is missed "
	  "between two runs.",
	  "file" },
	{ 0 },
};

static const struct cli_group watch_groups[] = {
	{ "What to watch", watch_flags, 0 },
	CHOOSE_GROUP(struct watch_options, choose),
	PRINT_GROUP(struct watch_options, print),
	DIAL_GROUP(struct watch_options, dial),
	{ 0 },
};

/* What concerns no single connection is always worth a line. */
#define NOTICES "'capture_loss','iface'"

/* The kinds of event: items of a list; "" for all. */
static const char *watch_kinds(const struct watch_options *o)
{
	if (o->events)
		return "";
	if (!o->slow_ns)
		return "'tcp_close','tcp_retry','tcp_stuck','syn_flood'," NOTICES;
	return o->failed ? "'tcp_established','tcp_close','tcp_retry','tcp_stuck','syn_flood'"
			   "," NOTICES
			 : "'tcp_established'," NOTICES;
}

/* Which of these events. */
static int watch_where(const struct watch_options *o, struct choose *ret)
{
	struct choose connections;
	int r = choose_make(&o->choose, &connections);

	if (r)
		return r;
	*ret = (struct choose){ 0 };
	if (connections.n)
		choose_and(ret, "event_type in [%s] || %s", NOTICES, connections.text);
	if (o->failed)
		choose_and(ret, "event_type != 'tcp_close' || tcp.reason in [%s]",
			   describe_failed_reasons);
	if (o->slow_ns)
		choose_and(ret, "event_type != 'tcp_established' || tcp.handshake.total_ns > %llu",
			   (unsigned long long)o->slow_ns);
	if (o->since_ns) {
		uint64_t now = wall_clock_ns();
		time_t s = (time_t)((o->since_ns < now ? now - o->since_ns : 0) / 1000000000);
		char text[32];
		struct tm tm;

		gmtime_r(&s, &tm);
		strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%S", &tm);
		choose_and(ret, "timestamp >= '%s'", text);
	}
	/* subscription_options.no_follow allows no "events" */
	if (o->no_follow && *watch_kinds(o))
		choose_and(ret, "event_type in [%s]", watch_kinds(o));
	ret->full |= connections.full;
	return choose_check(ret);
}

static json_t *watch_request(const struct watch_options *o, const struct choose *where)
{
	json_t *request = json_object(), *kinds = json_array();
	const char *list = watch_kinds(o);

	if (where->n)
		json_object_set_new(request, "where", json_string(where->text));
	for (; *list && !o->no_follow; list += *list == ',') {
		size_t n = strcspn(list, ",");

		json_array_append_new(kinds, json_stringn(list + 1, n - 2)); /* without quotes */
		list += n;
	}
	if (json_array_size(kinds))
		json_object_set(request, "events", kinds);
	json_decref(kinds);
	return request;
}

static int watch_run(const void *options, char **operands)
{
	const struct watch_options *o = options;
	struct subscription_options so = { .dial = &o->dial,
					   .past = o->since_ns || o->no_follow,
					   .no_follow = o->no_follow,
					   .cursor_file = o->cursor_file };
	struct subscription s = { .fd = -1 };
	struct choose where;
	struct printer p;
	const json_t *event;
	enum subscription_got got;
	char *line;
	size_t n;
	int r = watch_where(o, &where);

	(void)operands;
	if (r)
		return r;
	so.request = watch_request(o, &where);
	r = printer_init(&p, &o->print);
	if (!r)
		r = subscription_open(&s, &so);
	if (r)
		return r;
	while ((got = subscription_next(&s, &line, &n, &event)) < SUBSCRIPTION_END)
		if (got == SUBSCRIPTION_NOTE)
			printer_note(&p, s.note);
		else if (printer_line(&p, line, n, event) && p.lines == o->limit)
			break;
	if (s.truncated)
		cli_error(CLI_FOUND, "events before number %s are no longer in synfind's queue",
			  human_count(s.truncated).s);
	r = got == SUBSCRIPTION_FAILED ? s.status : p.lines ? CLI_FOUND : CLI_NOTHING;
	printer_done(&p);
	subscription_close(&s);
	return r;
}

const struct cli_command watch_command = {
	.name = "watch",
	.operands = "",
	.summary = "Watch connections live: one line for the outcome of each one",
	.text = "A line \"!!\" reports lost events, lost frames, an interface or the daemon. If "
		"the daemon\n"
		"restarts, the command waits for it and continues without a gap. Ctrl-C ends it.\n"
		"Exit status: 0, or 1 if no event came.\n",
	.examples =
		"  synfinctl watch --failed                     what fails, as it fails\n"
		"  synfinctl watch --failed --port 8080         of one service\n"
		"  synfinctl watch --slow 100ms                 slow handshakes\n"
		"  synfinctl watch --since 10min --no-follow    what ended in the last 10 minutes\n"
		"  synfinctl watch -w \"tcp.closed_by == 'server' && dest_port == 5432\"\n"
		"  synfinctl watch --json | jq .                for programs\n",
	.groups = watch_groups,
	.size = sizeof(struct watch_options),
	.run = watch_run,
};
