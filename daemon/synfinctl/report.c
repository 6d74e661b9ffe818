/* synfinctl report: captures, or the last minutes, on one page. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "format/where.h"
#include "synfinctl/choose.h"
#include "synfinctl/commands.h"
#include "synfinctl/describe.h"
#include "synfinctl/human.h"
#include "synfinctl/page.h"
#include "synfinctl/reader.h"
#include "synfinctl/subscription.h"

enum { TOP_DEFAULT = 5, TOP_MAX = 1000, FLOW_WIDTH = 46 };

struct report_options {
	bool connections;
	uint64_t top;
	struct choose_options choose;
	struct print_options print;
	struct dial_options dial;
};

static const struct cli_flag report_flags[] = {
	{ "top", 'T', CLI_NUMBER, offsetof(struct report_options, top), "N",
	  "N rows in each list: servers, clients, handshakes, ... [5]", NULL },
	{ "connections", 'c', CLI_BOOL, offsetof(struct report_options, connections), NULL,
	  "In place of the page a row for each connection, as it ends: segments and octets of each "
	  "direction, as 'tshark -q -z conv,tcp' counts them. With --json its tcp_close event.",
	  NULL },
	{ 0 },
};

static const struct cli_group report_groups[] = {
	{ "What to report", report_flags, 0 },
	CHOOSE_GROUP(struct report_options, choose),
	PRINT_GROUP(struct report_options, print),
	DIAL_GROUP(struct report_options, dial),
	{ 0 },
};

struct report {
	const struct report_options *o;
	char *const *files;
	struct choose choose;
	struct where *where; /* owned; NULL: every connection */
	struct printer p;
	struct fields f;       /* of a row of the table */
	struct digest *digest; /* owned; NULL: the table is wanted */
	uint64_t rows;
	uint64_t frames, unassigned; /* of the table: segments of its rows, and of no connection */
	uint64_t truncated;	     /* the queue begins later than the service */
};

/* ---- the table of connections ---------------------------------------------------------------- */

static void table_head(struct out *out)
{
	out_cell(out, OUT_BOLD, 13, "START");
	out_cell(out, OUT_BOLD, FLOW_WIDTH + 1, "CLIENT > SERVER");
	out_styled(out, OUT_BOLD,
		   "OUTCOME     SEGMENTS>     OCTETS>  <SEGMENTS     <OCTETS         AGE RETRANS");
	out_end(out);
}

static void table_number(struct report *r, int width, enum field field)
{
	out_cell(&r->p.out, OUT_PLAIN, -width, human_count(fields_u64(&r->f, field)).s);
}

static void table_row(struct report *r)
{
	struct out *out = &r->p.out;
	char client[PEER_NAME], server[PEER_NAME], flow[DESCRIBE_FLOW], text[CLI_TEXT_MAX];
	uint64_t start;

	fields_string(&r->f, F_START, text, sizeof text);
	if (!human_parse_time(text, &start))
		start = 0;
	out_cell(out, OUT_DIM, 13,
		 human_time(start, r->o->print.time == PRINT_UTC ? HUMAN_UTC : HUMAN_LOCAL,
			    r->o->print.time == PRINT_DATE)
			 .s);
	fields_endpoint(&r->f, F_SRC_IP, true, client, sizeof client);
	fields_endpoint(&r->f, F_DEST_IP, true, server, sizeof server);
	snprintf(flow, sizeof flow, "%s > %s", client, server);
	out_cell(out, OUT_PLAIN, FLOW_WIDTH, flow);
	fields_string(&r->f, F_REASON, text, sizeof text);
	out_text(out, " ");
	out_cell(out, describe_reason_failed(text) ? OUT_BAD : OUT_PLAIN, 11,
		 describe_reason(text));
	table_number(r, 10, F_PKTS_TOSERVER);
	table_number(r, 12, F_BYTES_TOSERVER);
	table_number(r, 11, F_PKTS_TOCLIENT);
	table_number(r, 12, F_BYTES_TOCLIENT);
	out_cell(out, OUT_PLAIN, -12, human_duration(fields_u64(&r->f, F_AGE)).s);
	out_cell(out, OUT_PLAIN, -8,
		 human_count(fields_u64(&r->f, F_RETRANS_TOSERVER) +
			     fields_u64(&r->f, F_RETRANS_TOCLIENT))
			 .s);
	out_end(out);
}

/* The last line of a capture: what was in no row. */
static void table_stats(struct report *r, const char *line, size_t n)
{
	uint64_t tcp = digest_stats_sum(line, n, "verdicts.tcp");

	r->unassigned = r->files && !r->where && tcp > r->frames ? tcp - r->frames : 0;
}

static void table_line(struct report *r, const char *line, size_t n)
{
	if (!fields_read(&r->f, line, n)) {
		r->p.garbage++;
		return;
	}
	if (fields_is(&r->f, F_TYPE, "stats"))
		table_stats(r, line, n);
	if (!fields_is(&r->f, F_TYPE, "tcp_close") || (r->where && !where_line(r->where, line, n)))
		return;
	r->rows++;
	r->frames += fields_u64(&r->f, F_PKTS_TOSERVER) + fields_u64(&r->f, F_PKTS_TOCLIENT);
	if (r->o->print.json) {
		out_json_line(&r->p.out, line, n);
	} else if (r->o->print.fields.n) {
		json_t *event = json_loadb(line, n, 0, NULL);

		printer_line(&r->p, line, n, event);
		json_decref(event);
	} else {
		if (r->rows == 1)
			table_head(&r->p.out);
		table_row(r);
	}
}

/* ---- where lines come from ------------------------------------------------------------------- */

static void report_line(void *arg, const char *line, size_t n)
{
	struct report *r = arg;

	if (r->digest)
		digest_line(r->digest, line, n);
	else
		table_line(r, line, n);
}

/* Is it a file of event lines, not a capture?  None of the formats of captures begins so. */
static bool is_lines(const char *name)
{
	int fd = strcmp(name, "-") != 0 ? open(name, O_RDONLY | O_CLOEXEC | O_NONBLOCK) : -1;
	char c = 0;
	bool is = fd >= 0 && read(fd, &c, 1) == 1 && c == '{' && lseek(fd, 0, SEEK_SET) == 0;

	if (fd >= 0)
		close(fd);
	return is;
}

static int report_captures(struct report *r, char *const *names)
{
	/* In a flood, too, each attempt is a row of the table. */
	static const char *const every[] = { "--syn-flood-half-open=0", NULL };
	static const char *const page[] = { "--community-id=off", NULL };
	struct reader_options ro = { .files = names,
				     .events = r->digest ? DIGEST_EVENTS : "tcp_close,stats",
				     .flags = r->digest ? page : every };
	struct reader reader = { .err = -1 };
	int status = reader_start(&reader, &ro);
	const char *line;
	size_t n;

	if (status)
		return status;
	while (reader_next(&reader, &line, &n, NULL))
		report_line(r, line, n);
	return reader_end(&reader);
}

/* All captures are read as one; files of lines each for itself. */
static int report_files(struct report *r)
{
	size_t n = 0, captures = 0;
	char **names;
	int status = CLI_FOUND, one;

	while (r->files[n])
		n++;
	names = calloc(n + 1, sizeof *names);
	if (!names)
		return cli_error(CLI_FAILED, "out of memory");
	for (size_t i = 0; i < n; i++) {
		if (!is_lines(r->files[i])) {
			names[captures++] = r->files[i];
			continue;
		}
		one = lines_of_file(r->files[i], report_line, r, &r->p.garbage);
		status = one ? one : status;
	}
	if (captures) {
		one = report_captures(r, names);
		status = one ? one : status;
	}
	free(names);
	return status;
}

static void queue_line(void *arg, const char *line, size_t n, const json_t *event)
{
	(void)event;
	report_line(arg, line, n);
}

static int report_queue(struct report *r)
{
	struct choose wanted = { 0 };
	int status;

	if (r->choose.n)
		choose_and(&wanted, "event_type == 'capture_loss' || (%s)", r->choose.text);
	choose_and(&wanted, "event_type in [%s]", r->digest ? DIGEST_KINDS : "'tcp_close'");
	status = choose_check(&wanted);
	return status ? status
		      : subscription_past(&r->o->dial, wanted.text, queue_line, r, &r->truncated);
}

/* ---- the command ----------------------------------------------------------------------------- */

static int report_prepare(struct report *r)
{
	int status = choose_make(&r->o->choose, &r->choose);

	if (!status)
		status = choose_check(&r->choose);
	if (!status)
		status = printer_init(&r->p, &r->o->print);
	if (status)
		return status;
	if (r->o->top > TOP_MAX)
		return cli_error(CLI_USAGE, "--top: at most %d", TOP_MAX);
	if (r->o->print.fields.n && !r->o->connections)
		return cli_error(CLI_USAGE, "--fields: only with --connections");
	if (r->choose.n)
		status = choose_compile("expression", r->choose.text, &r->where);
	fields_init(&r->f);
	return status;
}

static int report_json(struct report *r, const struct page *page)
{
	json_t *object = page_json(page, r->digest);

	if (!object)
		return cli_error(CLI_FAILED, "out of memory");
	out_json(&r->p.out, object);
	json_decref(object);
	return CLI_FOUND;
}

static int report_print(struct report *r)
{
	struct page page = { .files = r->files,
			     .top = r->o->top ? (unsigned)r->o->top : TOP_DEFAULT,
			     .truncated = r->truncated };

	r->rows = r->digest->events;
	if (r->o->print.json)
		return report_json(r, &page);
	page_print(&page, r->digest, &r->p);
	return CLI_FOUND;
}

static int report_run(const void *options, char **operands)
{
	struct report r = { .o = options, .files = *operands ? operands : NULL };
	int status = report_prepare(&r);

	if (!status && !r.o->connections) {
		r.digest = malloc(sizeof *r.digest);
		if (!r.digest ||
		    digest_init(r.digest, r.o->top ? (unsigned)r.o->top : TOP_DEFAULT, r.where))
			status = cli_error(CLI_FAILED, "out of memory");
	}
	if (!status) {
		status = r.files ? report_files(&r) : report_queue(&r);
		/* Of a broken file, what could be read is reported all the same. */
		if (r.digest && !status)
			status = report_print(&r);
		else if (r.digest && r.digest->events)
			report_print(&r);
	}
	if (r.unassigned)
		cli_error(CLI_FOUND,
			  "%s in no row: after the end of their connection, or open none",
			  human_plural(r.unassigned, "segment").s);
	if (r.digest) {
		r.p.garbage += r.digest->garbage;
		digest_done(r.digest);
	}
	free(r.digest);
	printer_done(&r.p);
	where_free(r.where);
	return status ? status : r.rows ? CLI_FOUND : CLI_NOTHING;
}

const struct cli_command report_command = {
	.name = "report",
	.operands = "[FILE...]",
	.max_operands = 1000000,
	.complete = "file",
	.summary = "Captures, or the last minutes, on one page: who failed, who was slow, who lost",
	.text = "FILE is a capture of tcpdump or Wireshark (pcap or pcapng, plain or packed by "
		"gzip,\n"
		"xz or zstd; -: standard input), or has lines of JSON that synfind wrote. Several "
		"files\n"
		"are read as one, in this order. Without FILE: what the queue of the running "
		"service has.\n"
		"p99 is the time that 99 of 100 handshakes did not exceed; quantiles are right to "
		"1 %.\n"
		"Failed is what was refused, reset, unreachable, unanswered or half-open, and a "
		"SYN that\n"
		"had waited for a second or longer when the capture ended. RETRY: so often a SYN "
		"or a\n"
		"SYN-ACK had no answer in time. Flags that choose connections choose events: an "
		"expression\n"
		"about tcp.reason leaves no handshakes. Segments that the capturing host had "
		"joined\n"
		"(offloads) count as one in a file, as in tshark.\n"
		"Exit status: 0, or 1 if there is no connection, 4 if a file is broken; what could "
		"be read\n"
		"of it is reported.\n" PAGE_JSON_HELP,
	.examples =
		"  synfinctl report trace.pcapng               the page\n"
		"  synfinctl report                            the last minutes of the service\n"
		"  synfinctl report --port 443 a.pcap b.pcap.gz\n"
		"  synfinctl report --connections trace.pcap   a row for each connection\n"
		"  synfinctl report --json trace.pcap | jq .handshakes.total_ns\n",
	.groups = report_groups,
	.size = sizeof(struct report_options),
	.run = report_run,
};
