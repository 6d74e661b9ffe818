#include "synfinctl/print.h"
#include <errno.h>
#include <string.h>
#include "format/where.h"
#include "synfinctl/choose.h"
#include "synfinctl/describe.h"
#include "synfinctl/js.h"
#include "synfinctl/human.h"

enum { WORD_WIDTH = 11, FLOW_WIDTH = 36, IFACE_WIDTH = 4, WIDTH_MAX = 95 };

const struct cli_flag print_flags[] = {
	{ "json", 'j', CLI_BOOL, offsetof(struct print_options, json), NULL,
	  "Print the lines of JSON as they come (synfind-events(7)).", NULL },
	{ "fields", 'f', CLI_LIST, offsetof(struct print_options, fields), "MEMBER,...",
	  "Print these members of each line, divided by tabs: timestamp,src_ip,tcp.reason.",
	  "timestamp|event_type|src_ip|src_port|dest_ip|dest_port|flow_id|in_iface|tcp.reason|"
	  "tcp.closed_by|tcp.client_state|tcp.server_state|flow.age_ns" },
	{ "time", 't', CLI_WORD, offsetof(struct print_options, time),
	  "clock|utc|date|relative|delta",
	  "Time of day here, in UTC, or with the date; seconds since the first line, or since the "
	  "line before. [clock]",
	  NULL },
	{ "color", 0, CLI_WORD, offsetof(struct print_options, color), "auto|always|never",
	  "auto: on a terminal, unless NO_COLOR is set. [auto]", NULL },
	{ 0 },
};

/* Is it a member that a line can have? */
static int check_field(const char *name)
{
	char text[CLI_TEXT_MAX];
	struct where *w = NULL;
	int r, n = snprintf(text, sizeof text, "has(%s)", name);

	if (name[strcspn(name, " ()!&|'\"")] || n >= (int)sizeof text)
		return cli_error(CLI_USAGE, "--fields: '%s' is not the name of a member", name);
	r = choose_compile("--fields", text, &w);
	where_free(w);
	return r;
}

int printer_init(struct printer *p, const struct print_options *o)
{
	for (unsigned i = 0; i < o->fields.n; i++) {
		int r = check_field(o->fields.items[i]);

		if (r)
			return r;
	}
	*p = (struct printer){ .options = o, .iface_width = IFACE_WIDTH, .flow_width = FLOW_WIDTH };
	out_init(&p->out, o->color);
	return CLI_FOUND;
}

static void print_time(struct printer *p, const json_t *event)
{
	uint64_t now, since;
	char text[48];

	if (!human_parse_time(js_str(event, "timestamp"), &now)) {
		out_cell(&p->out, OUT_DIM, 12, "?");
		return;
	}
	if (!p->first_ns)
		p->first_ns = p->last_ns = now;
	switch (p->options->time) {
	case PRINT_CLOCK:
		out_styled(&p->out, OUT_DIM, human_time(now, HUMAN_LOCAL, false).s);
		break;
	case PRINT_UTC:
		out_styled(&p->out, OUT_DIM, human_time(now, HUMAN_UTC, false).s);
		break;
	case PRINT_DATE:
		out_styled(&p->out, OUT_DIM, human_time(now, HUMAN_LOCAL, true).s);
		break;
	default:
		since = p->options->time == PRINT_DELTA ? p->last_ns : p->first_ns;
		/* A timeout carries its deadline, which can be before the line before it. */
		snprintf(text, sizeof text, "%.6f", ((double)now - (double)since) / 1e9);
		out_cell(&p->out, OUT_DIM, -12, text);
		break;
	}
	p->last_ns = now;
}

/* Columns grow with what is in them, and stay. */
static unsigned fit(unsigned *width, const char *s)
{
	unsigned n = (unsigned)strlen(s);

	if (n > *width)
		*width = n < WIDTH_MAX ? n : WIDTH_MAX;
	return *width;
}

static bool print_human(struct printer *p, const json_t *event)
{
	struct description d;
	char flow[DESCRIBE_FLOW];
	const char *iface = js_str(event, "in_iface");

	if (!describe(event, &d))
		return false;
	if (d.notice) {
		out_printf(&p->out, "!! ");
		out_styled(&p->out, d.style, d.text);
		out_end(&p->out);
		return false;
	}
	describe_flow(event, flow);
	print_time(p, event);
	out_text(&p->out, " ");
	out_cell(&p->out, OUT_PLAIN, (int)fit(&p->iface_width, iface), iface);
	out_text(&p->out, "  ");
	out_cell(&p->out, OUT_PLAIN, (int)fit(&p->flow_width, flow), flow);
	out_text(&p->out, "  ");
	out_cell(&p->out, d.style, WORD_WIDTH, d.word);
	out_text(&p->out, " ");
	out_text(&p->out, d.text);
	out_end(&p->out);
	return true;
}

static bool is_event(const json_t *event)
{
	static const char *const others[] = { "hello", "subscribed", "lost", "error",
					      "snapshot_end" };

	for (unsigned i = 0; i < sizeof others / sizeof *others; i++)
		if (js_is(event, "event_type", others[i]))
			return false;
	return true;
}

static void print_fields(struct printer *p, const json_t *event)
{
	char text[512];

	for (unsigned i = 0; i < p->options->fields.n; i++) {
		js_text(event, p->options->fields.items[i], text, sizeof text);
		if (i)
			putc('\t', p->out.f);
		out_text(&p->out, text);
	}
	out_end(&p->out);
}

bool printer_line(struct printer *p, const char *line, size_t n, const json_t *event)
{
	bool counts = event && is_event(event);

	if (!event) {
		p->garbage++;
		return false;
	}
	if (p->options->json) {
		out_json_line(&p->out, line, n);
	} else if (p->options->fields.n) {
		struct description d;

		if (counts)
			print_fields(p, event);
		else if (describe(event, &d) && d.notice)
			printer_note(p, d.text);
	} else {
		counts = print_human(p, event);
	}
	p->lines += counts;
	return counts;
}

void printer_note(struct printer *p, const char *text)
{
	if (p->options->json || p->options->fields.n) {
		cli_error(CLI_FAILED, "%s", text);
		return;
	}
	out_text(&p->out, "!! ");
	out_styled(&p->out, OUT_WARN, text);
	out_end(&p->out);
}

void printer_done(struct printer *p)
{
	if (p->garbage)
		cli_error(CLI_FAILED, "%s not JSON: skipped", human_plural(p->garbage, "line").s);
}
