#include "synfinctl/page.h"
#include <string.h>
#include "base/cc.h"
#include "synfinctl/describe.h"
#include "synfinctl/human.h"
#include "synfinctl/js.h"

enum { NAME_MIN = 21, NAME_MAX = 47, LABEL = 32 };

static struct human_short percent(uint64_t part, uint64_t all)
{
	struct human_short t;
	double v = all ? (double)part * 100 / (double)all : 0;

	snprintf(t.s, sizeof t.s, part && v < 0.05 ? "<0.1 %%" : "%.1f %%", v);
	return t;
}

static void head(struct out *out, const char *title)
{
	out_end(out);
	out_styled(out, OUT_BOLD, title);
}

/* ---- what it is about ------------------------------------------------------------------------ */

static struct human_short page_time(const struct printer *p, uint64_t ns, bool date)
{
	return human_time(ns, p->options->time == PRINT_UTC ? HUMAN_UTC : HUMAN_LOCAL, date);
}

static void print_span(struct printer *p, const char *first, const char *last)
{
	uint64_t from, to;

	if (!human_parse_time(first, &from) || !human_parse_time(last, &to))
		return;
	out_printf(&p->out, "%s, ", human_duration(to > from ? to - from : 0).s);
	out_printf(&p->out, "%s", page_time(p, from, true).s);
	out_printf(&p->out, " to %s",
		   page_time(p, to, to / 86400000000000 != from / 86400000000000).s);
	out_end(&p->out);
}

static void print_files(struct out *out, const struct page *page)
{
	size_t n = 0;

	while (page->files[n])
		n++;
	if (n > 1)
		out_printf(out, "%zu files: ", n);
	for (size_t i = 0; i < n && i < 3; i++)
		out_printf(out, "%s%s", i ? ", " : "", page->files[i]);
	out_text(out, n > 3 ? ", ..." : "");
}

static uint64_t both(const uint64_t sides[static SIDES])
{
	return sides[SIDE_CLIENT] + sides[SIDE_SERVER];
}

static void print_subject(const struct page *page, const struct digest *d, struct printer *p)
{
	struct out *out = &p->out;

	if (page->files)
		print_files(out, page);
	else
		out_text(out, page->truncated ? "The events that synfind still has"
					      : "All events since synfind's start");
	out_end(out);
	print_span(p, page->files ? d->begin : d->first, page->files ? d->end : d->last);
	out_printf(out, "%s, ", human_plural(both(d->frames), "segment").s);
	out_printf(out, "%s on the wire", human_octets(both(d->octets)).s);
	out_printf(out, " (%s to servers, ", human_octets(d->octets[SIDE_CLIENT]).s);
	out_printf(out, "%s to clients)", human_octets(d->octets[SIDE_SERVER]).s);
	out_end(out);
}

/* ---- outcomes -------------------------------------------------------------------------------- */

static void print_by(struct out *out, const struct digest_outcome *o)
{
	const char *comma = "";

	out_cell(out, OUT_PLAIN, LABEL + 2, "");
	if (o->by[SIDE_CLIENT]) {
		out_printf(out, "by client %s", human_count(o->by[SIDE_CLIENT]).s);
		comma = ", ";
	}
	if (o->by[SIDE_SERVER]) {
		out_printf(out, "%sby server %s", comma, human_count(o->by[SIDE_SERVER]).s);
		comma = ", ";
	}
	if (o->by_both)
		out_printf(out, "%sby both at once %s", comma, human_count(o->by_both).s);
	out_end(out);
}

static void print_outcome(struct out *out, const struct digest *d, unsigned i)
{
	const struct digest_outcome *o = &d->outcomes[i];
	const char *name = i == DIGEST_REASON_NEW ? "" : describe_nth_reason(i);

	out_text(out, "  ");
	out_cell(out, describe_reason_failed(name) ? OUT_BAD : OUT_PLAIN, 12,
		 describe_reason(name));
	out_cell(out, OUT_PLAIN, -11, human_count(o->connections).s);
	out_cell(out, OUT_PLAIN, -9, percent(o->connections, d->connections).s);
	out_printf(out, "  %s", describe_reason_meaning(name));
	out_end(out);
	/* What the first FIN of one that did not end so says is in its own line. */
	if (!strcmp(name, "fin") || !strcmp(name, "rst") || !strcmp(name, "refused"))
		print_by(out, o);
}

static void print_still_open(struct out *out, uint64_t n, const char *what)
{
	if (!n)
		return;
	out_cell(out, OUT_PLAIN, LABEL + 2, "");
	out_printf(out, "%s %s", human_count(n).s, what);
	out_end(out);
}

static void print_outcomes(const struct digest *d, struct out *out)
{
	head(out, "CONNECTIONS   ");
	out_cell(out, OUT_BOLD, -11, human_count(d->connections).s);
	if (d->connections) {
		out_text(out, "           ");
		out_cell(out, d->failed ? OUT_BAD : OUT_GOOD, 0, human_count(d->failed).s);
		out_printf(out, " failed (%s)", percent(d->failed, d->connections).s);
	}
	out_end(out);
	for (unsigned i = 0; i < PEER_REASONS; i++)
		if (d->outcomes[i].connections)
			print_outcome(out, d, i);
	print_still_open(out, d->unanswered_yet, "of them unanswered for over 1 s: failed");
	print_still_open(out, d->open_data, "of them with data unacknowledged");
	print_still_open(out, d->open_fin, "of them with a FIN unacknowledged");
}

static void print_floods(const struct digest *d, struct printer *p)
{
	if (!d->floods.n)
		return;
	head(&p->out, "SYN FLOODS");
	out_text(&p->out, "    their attempts are counted here, and nowhere else on this page");
	out_end(&p->out);
	for (unsigned i = 0; i < d->floods.n; i++) {
		json_t *event = json_loadb(d->floods.rows[i].line, d->floods.rows[i].n, 0, NULL);

		printer_line(p, d->floods.rows[i].line, d->floods.rows[i].n, event);
		json_decref(event);
	}
}

/* ---- peers ----------------------------------------------------------------------------------- */

static int name_width(const struct peers *peers, unsigned n)
{
	size_t width = NAME_MIN;

	for (unsigned i = 0; i < n && i < peers->n; i++)
		if (strlen(peers->rows[i].name) > width)
			width = strlen(peers->rows[i].name);
	return (int)(width < NAME_MAX ? width : NAME_MAX);
}

static void print_name(struct out *out, const char *name, int width)
{
	out_text(out, "  ");
	out_cell(out, OUT_PLAIN, width, name);
}

/* "REFUSED 37, RESET 3 (by server 2, by client 1)" */
static void print_reasons(struct out *out, const struct peer *p)
{
	const char *comma = "", *name;

	for (unsigned i = 0; i < DIGEST_REASON_NEW && (name = describe_nth_reason(i)); i++) {
		if (!p->by_reason[i] || !describe_reason_failed(name))
			continue;
		out_printf(out, "%s%s %s", comma, describe_reason(name),
			   human_count(p->by_reason[i]).s);
		comma = ", ";
		if (strcmp(name, "rst") != 0)
			continue;
		if (p->rst_by[SIDE_SERVER] && p->rst_by[SIDE_CLIENT])
			out_printf(out, " (by server %s)", human_count(p->rst_by[SIDE_SERVER]).s);
		else
			out_printf(out, " by %s", p->rst_by[SIDE_SERVER] ? "server" : "client");
	}
	if (p->unanswered_yet) {
		out_printf(out, "%sNO ANSWER YET %s", comma, human_count(p->unanswered_yet).s);
		comma = ", ";
	}
	if (p->retries)
		out_printf(out, "%sRETRY %s", comma, human_count(p->retries).s);
}

static void print_failed_row(struct out *out, const struct peer *p, const char *name, int width)
{
	print_name(out, name, width);
	out_cell(out, OUT_BAD, -9, human_count(p->failed).s);
	out_cell(out, OUT_PLAIN, -10, human_count(p->connections).s);
	out_cell(out, OUT_PLAIN, -9, percent(p->failed, p->connections).s);
	out_text(out, "  ");
	print_reasons(out, p);
	out_end(out);
}

static void print_pruned(struct out *out, const struct peers *peers)
{
	if (!peers->pruned)
		return;
	out_printf(out, "  There are more than %s: those with the fewest are added up in 'other';",
		   human_count(PEERS_MAX).s);
	out_end(out);
	out_printf(out, "  a row can miss up to %s.", human_count(peers->missing).s);
	out_end(out);
}

static bool is_bad(const struct peer *p)
{
	return p->failed || p->retries;
}

static void print_failed(struct out *out, struct peers *peers, const char *title, unsigned top)
{
	int width;

	peers_sort(peers, peers_by_failures);
	if (!peers->n || (!is_bad(&peers->rows[0]) && !is_bad(&peers->other)))
		return;
	width = name_width(peers, top);
	head(out, "");
	out_cell(out, OUT_BOLD, width + 2, title);
	out_styled(out, OUT_BOLD, "   FAILED        OF");
	out_end(out);
	for (unsigned i = 0; i < top && i < peers->n && is_bad(&peers->rows[i]); i++)
		print_failed_row(out, &peers->rows[i], peers->rows[i].name, width);
	if (is_bad(&peers->other))
		print_failed_row(out, &peers->other, "other", width);
	print_pruned(out, peers);
}

static void print_part(struct out *out, const struct peer *p, unsigned side)
{
	out_cell(out, OUT_PLAIN, -15, human_count(p->retrans[side]).s);
	out_cell(out, OUT_PLAIN, -8, percent(p->retrans[side], p->frames[side]).s);
}

static void print_retrans(struct out *out, struct peers *peers, const char *title, unsigned top)
{
	int width;

	peers_sort(peers, peers_by_retrans);
	if (!peers->n || !peer_retrans(&peers->rows[0]))
		return;
	width = name_width(peers, top);
	out_cell(out, OUT_BOLD, width + 2, title);
	out_styled(out, OUT_BOLD, "     THE SERVER SENT AGAIN  THE CLIENT SENT AGAIN");
	out_end(out);
	for (unsigned i = 0; i < top && i < peers->n && peer_retrans(&peers->rows[i]); i++) {
		print_name(out, peers->rows[i].name, width);
		print_part(out, &peers->rows[i], SIDE_SERVER);
		print_part(out, &peers->rows[i], SIDE_CLIENT);
		out_end(out);
	}
}

static void print_retries(struct out *out, uint64_t n, const char *what)
{
	if (!n)
		return;
	out_cell(out, OUT_WARN, -17, human_plural(n, "time").s);
	out_printf(out, " %s", what);
	out_end(out);
}

static void print_all_retrans(struct digest *d, struct out *out, unsigned top)
{
	uint64_t n = both(d->retrans);

	if (!n && !both(d->retries))
		return;
	head(out, "RETRANSMISSIONS  ");
	out_printf(out, "%s sent again", human_plural(n, "segment").s);
	out_printf(out, " (%s of all)", percent(n, both(d->frames)).s);
	out_end(out);
	print_retries(out, d->retries[SIDE_CLIENT], "a SYN had no answer in time");
	print_retries(out, d->retries[SIDE_SERVER],
		      "a SYN-ACK had none: ACK lost, or the server's accept queue full");
	print_retrans(out, &d->servers, "  SERVER", top);
	print_retrans(out, &d->clients, "  CLIENT", top);
}

/* ---- handshakes ------------------------------------------------------------------------------ */

static void print_quantiles(struct out *out, const char *label, const struct quantiles *q)
{
	static const unsigned permilles[] = { 500, 900, 990 };

	if (!q->n)
		return;
	out_text(out, "  ");
	out_cell(out, OUT_PLAIN, LABEL, label);
	for (unsigned i = 0; i < ARRAY_SIZE(permilles); i++)
		out_cell(out, OUT_PLAIN, -11, human_duration(quantiles_at(q, permilles[i])).s);
	out_cell(out, OUT_PLAIN, -11, human_duration(q->max).s);
	out_end(out);
}

static void print_handshakes(const struct digest *d, struct out *out)
{
	if (!d->established)
		return;
	head(out, "HANDSHAKES    ");
	out_cell(out, OUT_BOLD, -11, human_count(d->established).s);
	out_cell(out, OUT_BOLD, 9, "");
	out_styled(out, OUT_BOLD, "        p50        p90        p99        max");
	out_end(out);
	print_quantiles(out, "SYN to ACK: all of it", &d->total);
	print_quantiles(out, "SYN to SYN-ACK: the server", &d->server);
	print_quantiles(out, "SYN-ACK to ACK: the client", &d->client);
	if (d->syn_again || d->synack_again) {
		out_printf(out, "  The SYN was sent again in %s of them,",
			   human_count(d->syn_again).s);
		out_printf(out, " the SYN-ACK in %s", human_count(d->synack_again).s);
		out_end(out);
	}
}

static void print_top(const char *title, const struct top *t, unsigned max, struct printer *p)
{
	if (!t->n)
		return;
	head(&p->out, title);
	if (t->seen > 1)
		out_printf(&p->out, "  %s%s", human_count(t->seen < max ? t->seen : max).s,
			   t->seen > max ? " of " : "");
	if (t->seen > max)
		out_text(&p->out, human_count(t->seen).s);
	out_end(&p->out);
	for (unsigned i = 0; i < t->n && i < max; i++) {
		json_t *event = json_loadb(t->rows[i].line, t->rows[i].n, 0, NULL);

		printer_line(p, t->rows[i].line, t->rows[i].n, event);
		json_decref(event);
	}
}

/* ---- what was missed ------------------------------------------------------------------------- */

/* Counters of a stats line, and what they mean for whom it concerns. */
static const struct missed {
	const char *path, *meaning;
} missed_frames[] = {
	{ "drops", "frames dropped by the kernel" },
	{ "verdicts.tcp_cut", "TCP headers cut off: capture more of each frame (tcpdump -s 128)" },
	{ "verdicts.cut", "frames cut off before the TCP header" },
	{ "verdicts.tcp_bad", "TCP headers that contradict themselves" },
	{ "verdicts.bad", "frames with wrong headers" },
	{ "verdicts.fragment", "IP fragments without a TCP header: not put together" },
	{ "verdicts.too_deep", "frames with too many headers or tunnels" },
	{ "verdicts.tunnels_full", "frames in more tunnels than can be told apart" },
	{ "bad_checksum", "wrong TCP checksums (normal on the sender: its card writes them)" },
	{ "anomalies", "segments out of place: tcp_anomaly events of synfind --read" },
	{ "syn_flood.untold", "attempts of SYN floods, not counted as connections" },
	{ "connections.evicted", "connections given up because synfind's table was full" },
	{ "connections.evicted_half_open",
	  "half-open connections given up because synfind's table was full" },
};

static uint64_t missed_count(const json_t *stats, const char *path)
{
	const json_t *decoder;
	uint64_t sum = 0;
	size_t i;

	json_array_foreach((json_t *)js_at(stats, "decoders"), i, decoder) sum +=
		js_u64(decoder, path);
	return sum;
}

static unsigned print_missed(struct out *out, uint64_t n, const char *meaning)
{
	if (!n)
		return 0;
	out_text(out, "  ");
	out_cell(out, OUT_WARN, -11, human_count(n).s);
	out_printf(out, "  %s", meaning);
	out_end(out);
	return 1;
}

static void print_all_missed(const struct page *page, const struct digest *d, struct out *out)
{
	json_t *stats = page->files && d->stats ? json_loadb(d->stats, d->stats_n, 0, NULL) : NULL;
	unsigned rows = 0;
	char text[CLI_TEXT_MAX];

	head(out, page->files ? "WHAT THE CAPTURE MISSED" : "WHAT SYNFIND MISSED");
	out_end(out);
	rows += print_missed(out, d->frames_lost, "frames lost while capturing");
	rows += print_missed(out, d->events_lost, "events lost");
	rows += print_missed(out, d->lossy, "connections that lived while frames were lost");
	rows += print_missed(out, d->midstream, "connections whose beginning was not captured");
	snprintf(text, sizeof text, "connections with gaps: %s were sent, but not captured",
		 human_octets(d->gap_octets).s);
	rows += print_missed(out, d->gapped, text);
	if (page->files)
		rows += print_missed(
			out, digest_unassigned(d),
			"segments after the end of their connection, or that open none");
	for (unsigned i = 0; stats && i < ARRAY_SIZE(missed_frames); i++)
		rows += print_missed(out, missed_count(stats, missed_frames[i].path),
				     missed_frames[i].meaning);
	if (stats && missed_count(stats, "packets") != missed_count(stats, "verdicts.tcp")) {
		out_printf(out, "  Frames: %s,", human_count(missed_count(stats, "packets")).s);
		out_printf(out, " TCP in %s", human_count(missed_count(stats, "verdicts.tcp")).s);
		out_end(out);
	}
	json_decref(stats);
	if (!rows) {
		out_text(out, "  Nothing that can be seen in it.");
		out_end(out);
	}
	if (page->files) {
		out_text(out,
			 "  What the kernel dropped is in no file: tcpdump says it at its end.");
		out_end(out);
	}
}

void page_print(const struct page *page, struct digest *d, struct printer *p)
{
	print_subject(page, d, p);
	print_outcomes(d, &p->out);
	print_floods(d, p);
	print_failed(&p->out, &d->servers, "WORST SERVERS", page->top);
	print_failed(&p->out, &d->clients, "WORST CLIENTS", page->top);
	print_top("UNANSWERED", &d->unanswered, page->top, p);
	print_top("STUCK", &d->stuck, page->top, p);
	print_handshakes(d, &p->out);
	print_top("SLOWEST HANDSHAKES", &d->slowest, page->top, p);
	print_all_retrans(d, &p->out, page->top);
	print_all_missed(page, d, &p->out);
}

/* ---- JSON ------------------------------------------------------------------------------------ */

static json_t *number(uint64_t v)
{
	return json_integer((json_int_t)(v < INT64_MAX ? v : INT64_MAX));
}

/* Foreign text is made UTF-8. */
static json_t *string(const char *s)
{
	char safe[4096];

	human_safe(safe, sizeof safe, s);
	return json_string(safe);
}

static void set_sides(json_t *o, const char *name, const uint64_t sides[static SIDES])
{
	char key[32];

	snprintf(key, sizeof key, "%s_toserver", name);
	json_object_set_new(o, key, number(sides[SIDE_CLIENT]));
	snprintf(key, sizeof key, "%s_toclient", name);
	json_object_set_new(o, key, number(sides[SIDE_SERVER]));
}

static json_t *json_sides(const uint64_t sides[static SIDES])
{
	return json_pack("{s:o, s:o}", "client", number(sides[SIDE_CLIENT]), "server",
			 number(sides[SIDE_SERVER]));
}

static const char *reason_name(unsigned i)
{
	const char *name = i < DIGEST_REASON_NEW ? describe_nth_reason(i) : "new";

	return name ? name : "";
}

static json_t *json_outcomes(const struct digest *d)
{
	json_t *all = json_object();

	for (unsigned i = 0; i < PEER_REASONS; i++) {
		const struct digest_outcome *o = &d->outcomes[i];

		if (o->connections)
			json_object_set_new(all, reason_name(i),
					    json_pack("{s:o, s:o, s:o, s:o}", "connections",
						      number(o->connections), "by_client",
						      number(o->by[SIDE_CLIENT]), "by_server",
						      number(o->by[SIDE_SERVER]), "by_both",
						      number(o->by_both)));
	}
	return json_pack("{s:o, s:o, s:o, s:o}", "total", number(d->connections), "failed",
			 number(d->failed), "unanswered_yet", number(d->unanswered_yet),
			 "by_reason", all);
}

static json_t *json_quantiles(const struct quantiles *q)
{
	return json_pack("{s:o, s:o, s:o, s:o, s:o}", "n", number(q->n), "p50",
			 number(quantiles_at(q, 500)), "p90", number(quantiles_at(q, 900)), "p99",
			 number(quantiles_at(q, 990)), "max", number(q->max));
}

static json_t *json_peer(const struct peer *p, const char *name)
{
	json_t *reasons = json_object();
	json_t *o = json_pack("{s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "name", string(name),
			      "connections", number(p->connections), "failed", number(p->failed),
			      "unanswered_yet", number(p->unanswered_yet), "by_reason", reasons,
			      "retries", number(p->retries), "fin_by", json_sides(p->fin_by),
			      "rst_by", json_sides(p->rst_by));

	for (unsigned i = 0; i < PEER_REASONS; i++)
		if (p->by_reason[i])
			json_object_set_new(reasons, reason_name(i), number(p->by_reason[i]));
	set_sides(o, "frames", p->frames);
	set_sides(o, "retrans", p->retrans);
	return o;
}

static json_t *json_peers(struct peers *peers, int (*larger_first)(const void *, const void *),
			  unsigned top)
{
	bool failed = larger_first == peers_by_failures;
	json_t *list = json_array();

	peers_sort(peers, larger_first);
	for (unsigned i = 0; i < top && i < peers->n; i++) {
		const struct peer *p = &peers->rows[i];

		if (failed ? is_bad(p) : peer_retrans(p) > 0)
			json_array_append_new(list, json_peer(p, p->name));
	}
	return list;
}

static json_t *json_top(const struct top *t, unsigned max)
{
	json_t *list = json_array();

	for (unsigned i = 0; i < t->n && i < max; i++) {
		json_t *event = json_loadb(t->rows[i].line, t->rows[i].n, 0, NULL);

		if (event)
			json_array_append_new(list, event);
	}
	return list;
}

static json_t *json_missed(const struct page *page, const struct digest *d)
{
	json_t *o = json_pack("{s:o, s:o, s:o, s:o, s:o, s:o}", "midstream", number(d->midstream),
			      "lossy", number(d->lossy), "gap_connections", number(d->gapped),
			      "gap_bytes", number(d->gap_octets), "frames_lost",
			      number(d->frames_lost), "events_lost", number(d->events_lost));
	json_t *stats = page->files && d->stats ? json_loadb(d->stats, d->stats_n, 0, NULL) : NULL;
	json_t *decoder = json_array_get(js_at(stats, "decoders"), 0);

	if (page->files)
		json_object_set_new(o, "unassigned_segments", number(digest_unassigned(d)));
	if (decoder)
		json_object_set(o, "stats", decoder);
	json_decref(stats);
	return o;
}

static json_t *json_files(char *const *files)
{
	json_t *list = json_array();

	for (; *files; files++)
		json_array_append_new(list, string(*files));
	return list;
}

json_t *page_json(const struct page *page, struct digest *d)
{
	json_t *o = json_pack(
		"{s:o, s:o, s:o, s:o}", "begin", string(page->files ? d->begin : d->first), "end",
		string(page->files ? d->end : d->last), "connections", json_outcomes(d),
		"handshakes",
		json_pack("{s:o, s:o, s:o, s:o, s:o, s:o}", "complete", number(d->established),
			  "syn_again", number(d->syn_again), "synack_again",
			  number(d->synack_again), "total_ns", json_quantiles(&d->total),
			  "server_rtt_ns", json_quantiles(&d->server), "client_rtt_ns",
			  json_quantiles(&d->client)));
	const struct {
		const char *name;
		json_t *list;
	} lists[] = {
		{ "worst_servers", json_peers(&d->servers, peers_by_failures, page->top) },
		{ "worst_clients", json_peers(&d->clients, peers_by_failures, page->top) },
		{ "retrans_servers", json_peers(&d->servers, peers_by_retrans, page->top) },
		{ "retrans_clients", json_peers(&d->clients, peers_by_retrans, page->top) },
		{ "slowest", json_top(&d->slowest, page->top) },
		{ "unanswered", json_top(&d->unanswered, page->top) },
		{ "stuck", json_top(&d->stuck, page->top) },
		{ "syn_floods", json_top(&d->floods, page->top) },
		{ "missed", json_missed(page, d) },
	};

	if (page->files)
		json_object_set_new(o, "files", json_files(page->files));
	set_sides(o, "frames", d->frames);
	set_sides(o, "bytes", d->octets);
	set_sides(o, "retrans", d->retrans);
	for (unsigned i = 0; i < ARRAY_SIZE(lists); i++)
		json_object_set_new(o, lists[i].name, lists[i].list);
	if (d->servers.pruned)
		json_object_set_new(o, "other_servers", json_peer(&d->servers.other, "other"));
	if (d->clients.pruned)
		json_object_set_new(o, "other_clients", json_peer(&d->clients.other, "other"));
	return o;
}
