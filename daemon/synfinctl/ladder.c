/* synfinctl ladder: the sequence diagram of one connection, live or from capture files. */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "format/where.h"
#include "synfinctl/ask.h"
#include "synfinctl/commands.h"
#include "synfinctl/describe.h"
#include "synfinctl/dial.h"
#include "synfinctl/flowarg.h"
#include "synfinctl/human.h"
#include "synfinctl/js.h"
#include "synfinctl/out.h"
#include "synfinctl/print.h"
#include "synfinctl/reader.h"
#include "synfinctl/sequence.h"
#include "synfinctl/steps.h"
#include "synfinctl/subscription.h"

struct ladder_options {
	bool read, list, next, all, ascii, json;
	const char *flow, *svg;
	uint64_t width;
	unsigned color; /* enum out_color */
	struct dial_options dial;
};

static const struct cli_flag source_flags[] = {
	{ "read", 'r', CLI_BOOL, offsetof(struct ladder_options, read), NULL,
	  "The operands are capture files: pcap or pcapng, packed by gzip, xz or zstd or not.",
	  NULL },
	{ "flow", 'f', CLI_STRING, offsetof(struct ladder_options, flow), "FLOW",
	  "With --read: this connection. [the first one]", NULL },
	{ "list", 'l', CLI_BOOL, offsetof(struct ladder_options, list), NULL,
	  "With --read: a line for each connection in the files, and no diagram.", NULL },
	{ "next", 'n', CLI_BOOL, offsetof(struct ladder_options, next), NULL,
	  "Live: wait for the next new connection of FLOW, which is one end.", NULL },
	{ 0 },
};

static const struct cli_flag picture_flags[] = {
	{ "all", 'a', CLI_BOOL, offsetof(struct ladder_options, all), NULL,
	  "A row for every segment: bulk data is not folded.", NULL },
	{ "svg", 0, CLI_STRING, offsetof(struct ladder_options, svg), "FILE",
	  "Write the diagram into this file, for a browser or a report; -: standard output.",
	  "file" },
	{ "ascii", 0, CLI_BOOL, offsetof(struct ladder_options, ascii), NULL,
	  "Draw with ASCII characters, as where the locale is not UTF-8.", NULL },
	{ "width", 0, CLI_NUMBER, offsetof(struct ladder_options, width), "COLUMNS",
	  "Width of the diagram, from 60. [that of the terminal]", NULL },
	{ "json", 'j', CLI_BOOL, offsetof(struct ladder_options, json), NULL,
	  "Print the lines of JSON that the diagram is made of (synfind-events(7)).", NULL },
	{ "color", 0, CLI_WORD, offsetof(struct ladder_options, color), "auto|always|never",
	  "auto: on a terminal, unless NO_COLOR is set. [auto]", NULL },
	{ 0 },
};

static const struct cli_group ladder_groups[] = {
	{ "Which connection", source_flags, 0 },
	{ "How to draw", picture_flags, 0 },
	DIAL_GROUP(struct ladder_options, dial),
	{ 0 },
};

enum { WIDTH_MIN = 60, WIDTH_MAX = 240, SVG_ROWS_MAX = 5000, QUIET_MAX = 16, ADDRESS_MAX = 64 };
static const uint64_t live_fold_ns = 10000000000;
static const unsigned quiet_ms = 300;

/* ---- the picture ----------------------------------------------------------------------------- */

struct ladder {
	const struct ladder_options *o;
	struct out out;
	struct steps steps;
	struct sequence_head head;
	struct sequence_text text;
	bool begun;
	struct sequence_row *rows; /* for SVG; owned */
	size_t n, undrawn;
};

static int ladder_init(struct ladder *l, const struct ladder_options *o, bool live)
{
	*l = (struct ladder){ .o = o };
	steps_init(&l->steps, o->all, live ? live_fold_ns : 0);
	out_init(&l->out, o->color);
	if (o->width)
		l->out.width = (unsigned)(o->width < WIDTH_MAX ? o->width : WIDTH_MAX);
	if (l->out.width < WIDTH_MIN)
		l->out.width = WIDTH_MIN;
	if (o->ascii)
		l->out.utf8 = false;
	if (!o->svg)
		return CLI_FOUND;
	l->rows = calloc(SVG_ROWS_MAX, sizeof *l->rows);
	return l->rows ? CLI_FOUND : cli_error(CLI_FAILED, "out of memory");
}

static void take_rows(struct ladder *l)
{
	struct sequence_row row;

	while (steps_next(&l->steps, &row))
		if (!l->rows)
			sequence_text_row(&l->text, &row);
		else if (l->n < SVG_ROWS_MAX)
			l->rows[l->n++] = row;
		else
			l->undrawn++;
	if (!l->rows && l->out.tty)
		fflush(stdout);
}

/* A line of the connection, or one about the stream. */
static void ladder_take(struct ladder *l, const char *line, size_t n, const json_t *event)
{
	if (l->o->json) {
		out_json_line(&l->out, line, n);
		l->begun = true;
		return;
	}
	if (!l->begun) {
		steps_head(event, &l->head);
		if (!l->rows)
			sequence_text_begin(&l->text, &l->out, &l->head);
	}
	l->begun = true;
	steps_take(&l->steps, event);
	take_rows(l);
}

/* Nothing comes for a while: shows what waits for the next line. */
static void ladder_quiet(struct ladder *l)
{
	if (l->o->json)
		return;
	steps_end(&l->steps);
	take_rows(l);
}

static int svg_write(struct ladder *l, enum out_style style, const char *outcome)
{
	bool standard = !strcmp(l->o->svg, "-");
	FILE *f = standard ? stdout : fopen(l->o->svg, "we");
	bool failed;

	if (!f)
		return cli_error(CLI_FAILED, "%s: %s", l->o->svg, strerror(errno));
	sequence_svg(f, &l->head, l->rows, l->n, style, outcome);
	failed = ferror(f);
	if ((standard ? fflush(f) : fclose(f)) || failed)
		return cli_error(CLI_FAILED, "%s: %s", l->o->svg, strerror(errno));
	if (l->undrawn)
		cli_error(CLI_FOUND, "%s rows are left out: at most %d are drawn",
			  human_count(l->undrawn).s, SVG_ROWS_MAX);
	return CLI_FOUND;
}

/* The last rows, and how it went. */
static int ladder_end(struct ladder *l)
{
	struct description d;
	char outcome[DESCRIBE_TEXT + 40];
	int r = CLI_FOUND;

	if (!l->begun || l->o->json)
		return r;
	steps_end(&l->steps);
	take_rows(l);
	steps_outcome(&l->steps, &d);
	snprintf(outcome, sizeof outcome, "%s: %s", d.word, d.text);
	if (!l->rows) {
		sequence_text_end(&l->text, d.style, outcome);
		return r;
	}
	r = svg_write(l, d.style, outcome);
	if (!r && strcmp(l->o->svg, "-")) {
		out_styled(&l->out, d.style, outcome);
		out_end(&l->out);
	}
	return r;
}

static void ladder_done(struct ladder *l)
{
	steps_done(&l->steps);
	free(l->rows);
}

/* ---- from files ------------------------------------------------------------------------------ */

/* A connection in the files. */
struct found {
	char client[ADDRESS_MAX], server[ADDRESS_MAX];
	unsigned client_port, server_port, vlans;
	bool tunnel, known;
	char begin[ADDRESS_MAX]; /* the timestamp of its tcp_open */
	char id[40];		 /* flow_id, without the filter */
	uint64_t others;	 /* that match, too */
	json_t *quiet;		 /* its events that no segment caused; owned */
};

static void found_take(struct found *f, const json_t *e)
{
	snprintf(f->client, sizeof f->client, "%s", js_str(e, "src_ip"));
	snprintf(f->server, sizeof f->server, "%s", js_str(e, "dest_ip"));
	snprintf(f->begin, sizeof f->begin, "%s", js_str(e, "timestamp"));
	f->client_port = (unsigned)js_u64(e, "src_port");
	f->server_port = (unsigned)js_u64(e, "dest_port");
	f->vlans = (unsigned)json_array_size(js_at(e, "vlan"));
	f->tunnel = js_at(e, "tunnel");
	snprintf(f->id, sizeof f->id, "%s", js_str(e, "flow_id"));
	f->known = true;
}

/* Did it happen because nothing came?  That depends on the other connections: their frames say what
 * time it is, and with a filter there are none. */
static bool is_quiet(const json_t *e)
{
	const char *segment = js_str(e, "tcp.segment");

	return js_is(e, "event_type", "tcp_stuck") ||
	       (js_is(e, "event_type", "tcp_close") &&
		(!*segment || !strcmp(segment, "none") || !strcmp(segment, "timeout")));
}

static bool found_is(const struct found *f, const json_t *e)
{
	return js_is(e, "src_ip", f->client) && js_is(e, "dest_ip", f->server) &&
	       js_u64(e, "src_port") == f->client_port &&
	       js_u64(e, "dest_port") == f->server_port && js_is(e, "timestamp", f->begin);
}

static bool is_address(const char *s)
{
	return *s && s[strspn(s, "0123456789abcdef.:")] == 0;
}

/* A filter for its frames, and the ICMP errors about them; false: there can be none. */
static bool found_filter(const struct found *f, char *ret, size_t size)
{
	/* In a tunnel the filter would see the addresses of the tunnel. */
	if (f->tunnel || f->vlans > 2 || !is_address(f->client) || !is_address(f->server))
		return false;
	snprintf(ret, size,
		 "%s%s(host %s and host %s and tcp port %u and tcp port %u or icmp or icmp6)",
		 f->vlans > 0 ? "vlan and " : "", f->vlans > 1 ? "vlan and " : "", f->client,
		 f->server, f->client_port, f->server_port);
	return true;
}

/* The expression for --flow; *@ret NULL: any connection. */
static int flow_compile(const char *flow, struct where **ret)
{
	struct choose c = { 0 };
	int r;

	*ret = NULL;
	if (!flow)
		return CLI_FOUND;
	r = flowarg_choose(flow, &c);
	if (!r)
		r = choose_compile("expression", c.text, ret);
	return r;
}

/* Finds the first connection that matches, and counts the others. */
static int files_search(char **files, const struct where *where, struct found *ret)
{
	struct reader_options o = { .files = files, .events = "tcp_open,tcp_close,tcp_stuck" };
	struct reader r;
	const char *line;
	const json_t *e;
	size_t n;
	int status = reader_start(&r, &o);

	if (status)
		return status;
	ret->quiet = json_array();
	while (reader_next(&r, &line, &n, &e))
		if (!js_is(e, "event_type", "tcp_open")) {
			if (ret->known && is_quiet(e) && js_is(e, "flow_id", ret->id) &&
			    json_array_size(ret->quiet) < QUIET_MAX)
				json_array_append(ret->quiet, (json_t *)e);
		} else if (where && !where_line(where, line, n)) {
			continue;
		} else if (ret->known) {
			ret->others++;
		} else {
			found_take(ret, e);
		}
	return reader_end(&r);
}

static void draw_event(struct ladder *l, const json_t *e)
{
	char *text = json_dumps(e, JSON_COMPACT);

	if (text)
		ladder_take(l, text, strlen(text), e);
	free(text);
}

/* Draws the events without a segment from before @e; NULL: all that are left. */
static void draw_quiet(struct ladder *l, struct found *f, const json_t *e)
{
	const json_t *first;

	while ((first = json_array_get(f->quiet, 0)) &&
	       (!e || strcmp(js_str(first, "timestamp"), js_str(e, "timestamp")) < 0)) {
		draw_event(l, first);
		json_array_remove(f->quiet, 0);
	}
}

/* Draws the connection @f; one that is not known yet is the first that matches. */
static int files_draw(struct ladder *l, char **files, const struct where *where, struct found *f)
{
	char filter[4 * ADDRESS_MAX], id[40] = "";
	bool filtered = f->known && found_filter(f, filter, sizeof filter);
	struct reader_options o = { .files = files,
				    .events = "all,tcp_segment",
				    .filter = filtered ? filter : NULL,
				    .quiet = f->known };
	struct reader r;
	const char *line;
	const json_t *e;
	size_t n;
	int status = reader_start(&r, &o);

	if (status)
		return status;
	while (reader_next(&r, &line, &n, &e)) {
		bool open = js_is(e, "event_type", "tcp_open") &&
			    (f->known ? found_is(f, e) : !where || where_line(where, line, n));

		if (open && !*id)
			snprintf(id, sizeof id, "%s", js_str(e, "flow_id"));
		else if (open && !f->known)
			f->others++;
		if (!*id || (!js_is(e, "flow_id", id) && !js_is(e, "event_type", "capture_loss")))
			continue;
		draw_quiet(l, f, e);
		if (!f->known || !is_quiet(e))
			ladder_take(l, line, n, e);
	}
	if (l->begun)
		draw_quiet(l, f, NULL);
	return reader_end(&r);
}

static int files_list(const struct ladder_options *o, char **files, const struct where *where)
{
	struct print_options po = { .json = o->json, .time = PRINT_DATE, .color = o->color };
	struct printer p;
	struct reader r;
	const char *line;
	const json_t *e;
	size_t n;
	int status = printer_init(&p, &po);

	if (!status)
		status = reader_start(
			&r, &(struct reader_options){ .files = files, .events = "tcp_close" });
	if (status)
		return status;
	while (reader_next(&r, &line, &n, &e))
		if (js_is(e, "event_type", "tcp_close") && (!where || where_line(where, line, n)))
			printer_line(&p, line, n, e);
	status = reader_end(&r);
	printer_done(&p);
	return status ? status : p.lines ? CLI_FOUND : CLI_NOTHING;
}

static bool reads_standard_input(char **files)
{
	for (; *files; files++)
		if (!strcmp(*files, "-"))
			return true;
	return false;
}

static void say_others(const struct ladder_options *o, uint64_t others)
{
	if (others && !o->json)
		cli_error(CLI_FOUND, "the first of %s%s: --list shows them, --flow draws another",
			  human_plural(others + 1, "connection").s, o->flow ? " that match" : "");
}

static int ladder_files(const struct ladder_options *o, char **files)
{
	struct found f = { .known = false };
	struct where *where;
	struct ladder l = { .o = o };
	int broken = CLI_FOUND, r = flow_compile(o->flow, &where);

	if (!r && o->list) {
		r = files_list(o, files, where);
		where_free(where);
		return r;
	}
	if (!r)
		r = ladder_init(&l, o, false);
	/* Standard input cannot be read twice: then every segment of it comes here. */
	if (!r && !reads_standard_input(files)) {
		broken = files_search(files, where, &f);
		if (!f.known)
			r = broken ? broken : CLI_NOTHING;
	}
	if (!r) {
		int again = files_draw(&l, files, where, &f);

		r = ladder_end(&l);
		r = r ? r : broken ? broken : again;
		if (!r && !l.begun)
			r = CLI_NOTHING;
		say_others(o, l.begun ? f.others : 0);
	}
	if (r == CLI_NOTHING)
		cli_error(CLI_NOTHING, "there is no %s%s in it",
			  o->flow ? "connection " : "TCP connection", o->flow ? o->flow : "");
	json_decref(f.quiet);
	where_free(where);
	ladder_done(&l);
	return r;
}

/* ---- live ------------------------------------------------------------------------------------ */

struct live {
	const struct ladder_options *o;
	struct ladder l;
	char id[40];	/* flow_id; "": not known yet */
	json_t *known;	/* the connection as control.sock has it; owned; NULL: it does not */
	bool past_only; /* it is over: the queue may have its events */
	bool closed;
};

static bool keep_row(const json_t *reply, void *arg)
{
	const json_t *row = json_array_get(js_at(reply, "connections"), 0);

	if (row)
		*(json_t **)arg = json_deep_copy(row);
	return false;
}

static bool is_notice(const json_t *e)
{
	return js_is(e, "event_type", "capture_loss") || js_is(e, "event_type", "lost") ||
	       js_is(e, "event_type", "restart");
}

/* What is known of it, in place of the beginning that is no longer in the queue. */
static void draw_known(struct live *v, const json_t *before)
{
	if (before)
		json_object_set(v->known, "timestamp", json_object_get(before, "timestamp"));
	json_object_set_new(v->known, "event_type", json_string("snapshot"));
	draw_event(&v->l, v->known);
}

static void live_line(struct live *v, const char *line, size_t n, const json_t *e)
{
	if (!*v->id && js_is(e, "event_type", "tcp_open") && !js_true(e, "tcp.midstream"))
		snprintf(v->id, sizeof v->id, "%s", js_str(e, "flow_id"));
	if (!*v->id || (!js_is(e, "flow_id", v->id) && !(is_notice(e) && v->l.begun)))
		return;
	if (!v->l.begun && v->known && !js_is(e, "event_type", "tcp_open"))
		draw_known(v, e);
	ladder_take(&v->l, line, n, e);
	v->closed |= js_is(e, "event_type", "tcp_close");
}

/* Draws what comes, until the connection is closed and nothing more comes. */
static int live_follow(struct live *v, const struct subscription_options *so)
{
	struct subscription s = { .fd = -1 };
	enum subscription_got got;
	const json_t *e;
	char *line;
	size_t n;
	int r = subscription_open(&s, so);

	if (r)
		return r;
	s.quiet_ms = quiet_ms;
	while ((got = subscription_next(&s, &line, &n, &e)) < SUBSCRIPTION_END) {
		if (got == SUBSCRIPTION_NOTE)
			cli_error(CLI_FOUND, "%s", s.note);
		else if (got == SUBSCRIPTION_LINE && e)
			live_line(v, line, n, e);
		if (got == SUBSCRIPTION_QUIET && v->closed)
			break;
		if (got == SUBSCRIPTION_QUIET && !v->l.begun && v->known)
			draw_known(v, NULL);
		if (got == SUBSCRIPTION_QUIET && v->l.begun)
			ladder_quiet(&v->l);
	}
	r = got == SUBSCRIPTION_FAILED ? s.status : CLI_FOUND;
	subscription_close(&s);
	return r;
}

/* The newest one stays. */
static void keep_id(void *arg, const char *line, size_t n, const json_t *event)
{
	struct live *v = arg;

	(void)line, (void)n;
	if (*js_str(event, "flow_id"))
		snprintf(v->id, sizeof v->id, "%s", js_str(event, "flow_id"));
}

/* Finds @flow, and makes the request for it. */
static int live_find(struct live *v, const char *flow, struct subscription_options *so)
{
	struct choose where = { 0 };
	int r = flowarg_choose(flow, &where);

	if (!r)
		r = ask(&v->o->dial, "Connections",
			json_pack("{s:s, s:i, s:s}", "where", where.text, "limit", 1, "order",
				  "newest"),
			false, keep_row, &v->known);
	if (r)
		return r;
	if (v->known)
		snprintf(v->id, sizeof v->id, "%s", js_str(v->known, "flow_id"));
	else
		r = subscription_past(&v->o->dial, where.text, keep_id, v, NULL);
	if (r)
		return r;
	if (!*v->id)
		return cli_error(CLI_NOTHING,
				 "no connection %s is open, nor in the queue of events", flow);
	v->past_only = so->no_follow = !v->known;
	so->past = true;
	where = (struct choose){ 0 };
	choose_and(&where, "flow_id == '%s' || event_type == 'capture_loss'", v->id);
	if (v->known)
		so->request = json_pack("{s:s, s:[{s:s, s:I}]}", "where", where.text, "segments",
					"net", js_str(v->known, "src_ip"), "port",
					(json_int_t)js_u64(v->known, "src_port"));
	else
		so->request = json_pack("{s:s}", "where", where.text);
	return so->request ? CLI_FOUND : cli_error(CLI_FAILED, "out of memory");
}

static int live_next(const char *flow, struct subscription_options *so)
{
	char ip[FLOWARG_IP];
	struct choose where = { 0 };
	unsigned port;
	json_t *end;

	if (!flowarg_end(flow, ip, &port))
		return cli_error(CLI_USAGE,
				 "--next: '%s' is not the end of a server, as in 10.9.0.2:8080 or "
				 ":8080",
				 flow);
	end = json_pack("{s:i}", "port", (int)port);
	choose_and(&where, "dest_port == %u || event_type == 'capture_loss'", port);
	if (*ip) {
		json_object_set_new(end, "net", json_string(ip));
		choose_and(&where, "dest_ip == '%s' || event_type == 'capture_loss'", ip);
	}
	so->request = json_pack("{s:s, s:[o]}", "where", where.text, "segments", end);
	if (isatty(STDERR_FILENO))
		cli_error(CLI_FOUND, "waiting for the next connection to %s", flow);
	return so->request ? CLI_FOUND : cli_error(CLI_FAILED, "out of memory");
}

/* Follows it.  If synfind cannot give its segments, the events alone have to do. */
static int live_draw(struct live *v, struct subscription_options *so)
{
	bool segments = json_object_get(so->request, "segments");
	json_t *without = json_copy(so->request); /* live_follow() consumes the request */
	int r;

	json_object_del(without, "segments");
	r = live_follow(v, so);
	if (r == CLI_USAGE && segments && !v->l.begun) {
		cli_error(CLI_FOUND, "without its segments: only what changes a state is drawn");
		so->request = without;
		return live_follow(v, so);
	}
	json_decref(without);
	return r;
}

static int ladder_live(const struct ladder_options *o, char **operands)
{
	struct subscription_options so = { .dial = &o->dial };
	struct live v = { .o = o };
	int r, drawn;

	if (operands[1])
		return cli_error(CLI_USAGE, "one FLOW at a time; for files: --read");
	r = ladder_init(&v.l, o, true);
	if (!r)
		r = o->next ? live_next(operands[0], &so) : live_find(&v, operands[0], &so);
	if (!r)
		r = live_draw(&v, &so);
	drawn = ladder_end(&v.l);
	if (!r)
		r = drawn ? drawn : v.l.begun ? CLI_FOUND : CLI_NOTHING;
	if (!r && v.past_only)
		cli_error(CLI_FOUND, "it is over: these are its events, because its segments were "
				     "not asked for when they came");
	json_decref(v.known);
	ladder_done(&v.l);
	return r;
}

static int ladder_run(const void *options, char **operands)
{
	const struct ladder_options *o = options;

	if (!o->read && (o->flow || o->list))
		return cli_error(CLI_USAGE, "--%s: only with --read; live, FLOW is the operand",
				 o->flow ? "flow" : "list");
	if (o->read && o->next)
		return cli_error(CLI_USAGE, "--next: only live, not with --read");
	return o->read ? ladder_files(o, operands) : ladder_live(o, operands);
}

const struct cli_command ladder_command = {
	.name = "ladder",
	.operands = "FLOW | --read FILE...",
	.min_operands = 1,
	.max_operands = 1000000,
	.complete = "file",
	.summary = "Draw one connection: who sent what when, and what it means",
	.text = "Time goes down. The line on the left is the client, the one on the right the\n"
		"server, each arrow a segment. With it stand the states that it leads to, where\n"
		"they change, and what it means. Long runs of data are one row.\n"
		"Live, the past comes from synfind's queue of events, then every segment until\n"
		"the connection is closed, or Ctrl-C.\n" FLOWARG_HELP
		"With --next it is the end of a server, or its port: the next new connection.\n"
		"Exit status: 0, or 1 if there is no such connection.\n",
	.examples = "  synfinctl ladder 10.9.0.1:46114              one that is open now\n"
		    "  synfinctl ladder --next 10.9.0.2:8080        the next one to this server\n"
		    "  synfinctl ladder --read trace.pcap           the first one of a capture\n"
		    "  synfinctl ladder --read trace.pcap --list    which ones there are\n"
		    "  synfinctl ladder --read trace.pcap.gz --flow 10.9.0.1:46114 --svg x.svg\n",
	.groups = ladder_groups,
	.size = sizeof(struct ladder_options),
	.run = ladder_run,
};
