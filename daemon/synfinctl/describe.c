#include "synfinctl/describe.h"
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include "base/cc.h"
#include "synfinctl/js.h"
#include "synfinctl/human.h"

const char describe_failed_reasons[] = "'refused','unreachable','unanswered','half_open','rst'";

__attribute__((format(printf, 2, 3))) static void say(struct description *d, const char *fmt, ...)
{
	size_t n = strlen(d->text);
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(d->text + n, sizeof d->text - n, fmt, ap);
	va_end(ap);
}

static struct human_short ns(const json_t *e, const char *path)
{
	return human_duration(js_u64(e, path));
}

/* ", sent 78 B, received 27 kB", as the client sees it. */
static void say_octets(const json_t *e, struct description *d)
{
	bool sequence = js_is(e, "flow.counts", "sequence");
	const char *up = sequence ? "flow.stream_toserver" : "flow.payload_toserver";
	const char *down = sequence ? "flow.stream_toclient" : "flow.payload_toclient";

	if (js_at(e, up))
		say(d, ", sent %s", human_octets(js_u64(e, up)).s);
	if (js_at(e, down))
		say(d, ", received %s", human_octets(js_u64(e, down)).s);
}

static void say_retransmissions(const json_t *e, struct description *d)
{
	uint64_t n = js_u64(e, "flow.retrans_toserver") + js_u64(e, "flow.retrans_toclient");

	if (n)
		say(d, ", %s", human_plural(n, "retransmission").s);
}

static void say_age(const json_t *e, struct description *d)
{
	say(d, "age %s", ns(e, "flow.age_ns").s);
	say_octets(e, d);
	say_retransmissions(e, d);
}

static void say_states(const json_t *e, struct description *d)
{
	say(d, "%.20s/%.20s", js_str(e, "tcp.client_state"), js_str(e, "tcp.server_state"));
}

static void say_by(const json_t *e, struct description *d)
{
	const char *by = js_str(e, "tcp.closed_by");

	if (*by && strcmp(by, "none"))
		say(d, "by %.12s, ", strcmp(by, "both") ? by : "both at once");
}

static void close_usual(const json_t *e, struct description *d)
{
	say_by(e, d);
	say_age(e, d);
}

static void close_refused(const json_t *e, struct description *d)
{
	uint64_t syns = js_u64(e, "flow.pkts_toserver");

	say(d, "by %.10s after %s", js_str(e, "tcp.closed_by"), ns(e, "flow.age_ns").s);
	if (syns > 1)
		say(d, ", %s SYNs", human_count(syns).s);
}

static void close_unreachable(const json_t *e, struct description *d)
{
	say(d, "an ICMP error came after %s", ns(e, "tcp.client_prev_ns").s);
}

static void close_unanswered(const json_t *e, struct description *d)
{
	uint64_t syns = js_u64(e, "flow.pkts_toserver");

	say(d, "no answer to %s", human_plural(syns ? syns : 1, "SYN").s);
	if (syns > 1)
		say(d, " in %s", ns(e, "flow.age_ns").s);
}

static void close_half_open(const json_t *e, struct description *d)
{
	(void)e;
	say(d, "server answered, but the client did not complete the handshake");
}

static void close_given_up(const json_t *e, struct description *d)
{
	say_states(e, d);
	say(d, ", ");
	say_age(e, d);
}

static void close_idle(const json_t *e, struct description *d)
{
	say(d, "silent for too long in ");
	close_given_up(e, d);
}

static void close_reuse(const json_t *e, struct description *d)
{
	say(d, "a new connection took its ports; was ");
	close_given_up(e, d);
}

static void close_evicted(const json_t *e, struct description *d)
{
	say(d, "synfind's table is full; was ");
	close_given_up(e, d);
}

static void close_unfinished(const json_t *e, struct description *d)
{
	uint64_t syns = js_u64(e, "flow.pkts_toserver");

	say(d, "%s, ", js_is(e, "tcp.reason", "shutdown") ? "synfind stopped" : "capture ended");
	if (js_is(e, "tcp.outstanding", "syn")) {
		say(d, "no answer yet to %s", human_plural(syns ? syns : 1, "SYN").s);
	} else {
		say(d, "it was ");
		close_given_up(e, d);
	}
}

static const struct reason {
	const char *name, *word;
	enum out_style style;
	bool failed;
	void (*say)(const json_t *e, struct description *d);
	const char *meaning;
} reasons[] = {
	{ "fin", "CLOSED", OUT_GOOD, false, close_usual, "both ends closed it, as they should" },
	{ "rst", "RESET", OUT_BAD, true, close_usual, "one end broke it off" },
	{ "refused", "REFUSED", OUT_BAD, true, close_refused,
	  "nothing listens on this port of the host" },
	{ "unreachable", "UNREACHABLE", OUT_BAD, true, close_unreachable,
	  "the network says that there is no way" },
	{ "unanswered", "UNANSWERED", OUT_BAD, true, close_unanswered,
	  "the client's SYN got no answer" },
	{ "half_open", "HALF-OPEN", OUT_BAD, true, close_half_open,
	  "the client did not complete the handshake" },
	{ "idle", "IDLE", OUT_WARN, false, close_idle, "silent for too long: given up" },
	{ "reuse", "REUSED", OUT_WARN, false, close_reuse,
	  "its ports were used again before it closed" },
	{ "evicted", "EVICTED", OUT_WARN, false, close_evicted, "synfind's table was full" },
	{ "capture_end", "UNFINISHED", OUT_DIM, false, close_unfinished,
	  "still open when the capture ended" },
	{ "shutdown", "UNFINISHED", OUT_DIM, false, close_unfinished,
	  "still open when synfind stopped" },
};

static const struct reason *find_reason(const char *name)
{
	for (unsigned i = 0; i < ARRAY_SIZE(reasons); i++)
		if (!strcmp(reasons[i].name, name))
			return &reasons[i];
	return NULL;
}

const char *describe_reason(const char *reason)
{
	const struct reason *r = find_reason(reason);

	return r ? r->word : "?";
}

bool describe_reason_failed(const char *reason)
{
	const struct reason *r = find_reason(reason);

	return r && r->failed;
}

const char *describe_reason_meaning(const char *reason)
{
	const struct reason *r = find_reason(reason);

	return r ? r->meaning : "";
}

const char *describe_nth_reason(unsigned n)
{
	return n < ARRAY_SIZE(reasons) ? reasons[n].name : NULL;
}

/* What is true of the whole connection, and changes how far to trust the rest. */
static void say_doubts(const json_t *e, struct description *d)
{
	if (js_true(e, "tcp.midstream"))
		say(d, "; its beginning was not seen");
	if (js_true(e, "tcp.lossy"))
		say(d, "; frames were lost meanwhile");
}

static void say_close(const json_t *e, struct description *d)
{
	const char *name = js_str(e, "tcp.reason");
	const struct reason *r = find_reason(name);

	if (!r) {
		say(d, "%.40s, ", name);
		close_given_up(e, d);
		return;
	}
	d->word = r->word;
	d->style = r->style;
	d->failed = r->failed;
	r->say(e, d);
	say_doubts(e, d);
}

/* SYN-ACK for syn_ack */
static struct human_short segment_name(const char *s)
{
	struct human_short t = { "" };

	for (unsigned i = 0; s[i] && i + 1 < sizeof t.s; i++)
		t.s[i] = (char)(s[i] == '_' ? '-' : s[i] >= 'a' && s[i] <= 'z' ? s[i] - 32 : s[i]);
	return t;
}

static void say_open(const json_t *e, struct description *d)
{
	if (js_true(e, "tcp.midstream")) {
		say(d, "already open, now ");
		say_states(e, d);
	} else {
		say(d, "%s", segment_name(js_str(e, "tcp.segment")).s);
	}
}

static void say_move(const json_t *e, struct description *d, const char *who, const char *was,
		     const char *is)
{
	if (strcmp(js_str(e, was), js_str(e, is)) != 0)
		say(d, "%s%s %.20s > %.20s", *d->text ? ", " : "", who, js_str(e, was),
		    js_str(e, is));
}

static void say_state(const json_t *e, struct description *d)
{
	say_move(e, d, "client", "tcp.prev_client_state", "tcp.client_state");
	say_move(e, d, "server", "tcp.prev_server_state", "tcp.server_state");
	say(d, " (%s)", segment_name(js_str(e, "tcp.segment")).s);
}

static void say_established(const json_t *e, struct description *d)
{
	uint64_t again =
		js_u64(e, "tcp.handshake.syn_retrans") + js_u64(e, "tcp.handshake.synack_retrans");

	say(d, "handshake %s",
	    js_at(e, "tcp.handshake.total_ns") ? ns(e, "tcp.handshake.total_ns").s : "complete");
	if (js_at(e, "tcp.handshake.server_rtt_ns"))
		say(d, ", server %s", ns(e, "tcp.handshake.server_rtt_ns").s);
	if (js_at(e, "tcp.handshake.client_rtt_ns"))
		say(d, ", client %s", ns(e, "tcp.handshake.client_rtt_ns").s);
	if (again)
		say(d, ", %s", human_plural(again, "retransmission").s);
}

static void say_retry(const json_t *e, struct description *d)
{
	uint64_t n = js_u64(e, "tcp.count");

	say(d, "%s again after %s", segment_name(js_str(e, "tcp.segment")).s,
	    ns(e, "tcp.waited_ns").s);
	if (n > 1)
		say(d, ", %s times", human_count(n).s);
	if (js_is(e, "tcp.segment", "syn_ack"))
		say(d, ": the client's ACK does not arrive, or the accept queue is full");
}

static void say_stuck(const json_t *e, struct description *d)
{
	say(d, "%.10s does not close, silent for %s (", js_str(e, "tcp.waits_for"),
	    ns(e, "tcp.silent_ns").s);
	say_states(e, d);
	say(d, ")");
}

static void say_anomaly(const json_t *e, struct description *d)
{
	say(d, "%.40s: %s from %.10s", js_str(e, "tcp.kind"),
	    segment_name(js_str(e, "tcp.segment")).s, js_str(e, "tcp.from"));
}

static void say_snapshot(const json_t *e, struct description *d)
{
	say_states(e, d);
	say(d, ", ");
	say_age(e, d);
	say(d, ", idle %s", ns(e, "tcp.idle_ns").s);
	say_doubts(e, d);
}

static void say_segment(const json_t *e, struct description *d)
{
	say(d, "%.10s %.16s seq %" PRIu64, js_str(e, "tcp.from"), js_str(e, "tcp.flags"),
	    js_u64(e, "tcp.seq"));
	if (js_at(e, "tcp.ack"))
		say(d, " ack %" PRIu64, js_u64(e, "tcp.ack"));
	say(d, " len %" PRIu64, js_u64(e, "tcp.payload_len"));
}

static void say_flood(const json_t *e, struct description *d)
{
	const char *phase = js_str(e, "flood.phase");

	say(d, "%s: %s",
	    !strcmp(phase, "begin") ? "begins"
	    : !strcmp(phase, "end") ? "is over"
				    : "continues",
	    human_plural(js_u64(e, "flood.attempts"), "attempt").s);
	say(d, ", %s completed, %s/s", human_count(js_u64(e, "flood.completed")).s,
	    human_count(js_u64(e, "flood.rate")).s);
}

static void say_stats(const json_t *e, struct description *d)
{
	uint64_t packets = 0, drops = 0, open = 0, lost = 0;
	const json_t *decoder;
	size_t i;

	json_array_foreach((json_t *)js_at(e, "decoders"), i, decoder)
	{
		packets += js_u64(decoder, "packets");
		drops += js_u64(decoder, "drops");
		open += js_u64(decoder, "connections.total");
		lost += js_u64(decoder, "lost");
	}
	say(d, "%s since the start, ", human_plural(packets, "frame").s);
	say(d, "%s dropped, ", human_count(drops).s);
	say(d, "%s open, ", human_count(open).s);
	say(d, "%s lost", human_plural(lost, "event").s);
}

static void say_capture_loss(const json_t *e, struct description *d)
{
	say(d, "%s lost on %.64s", human_plural(js_u64(e, "count"), "frame").s,
	    js_str(e, "in_iface"));
	if (!js_at(e, "reason"))
		say(d, ": the capture ring was full (raise ring-size)");
	else
		say(d, " (%.40s)", js_str(e, "reason"));
}

static void say_iface(const json_t *e, struct description *d)
{
	say(d, "interface %.64s is %.20s", js_str(e, "in_iface"), js_str(e, "state"));
}

static void say_restart(const json_t *e, struct description *d)
{
	say(d, "synfind restarted (%.20s), down for %s: ", js_str(e, "cause"), ns(e, "down_ns").s);
	say(d, js_is(e, "tables", "kept") ? "nothing is lost" : "some connections were forgotten");
}

static void say_lost(const json_t *e, struct description *d)
{
	static const struct {
		const char *reason, *why;
	} whys[] = {
		{ "subscriber", "this reader is too slow" },
		{ "ring", "synfind's main thread is too slow" },
		{ "poison", "an event that ended synfind twice was skipped" },
		{ "replay", "the queue of synfind does not reach back so far" },
		{ "run", "synfind was started anew, and its queue does not reach back so far" },
		{ "segment_rate", "more segments than the limit of 5,000/s" },
		{ "segment_ring", "synfind's main thread is too slow for all segments" },
		{ "segment_slow", "this reader is too slow for all segments" },
	};
	const char *reason = js_str(e, "reason");
	bool segments = !strncmp(reason, "segment_", 8);

	say(d, "%s lost", human_plural(js_u64(e, "count"), segments ? "segment" : "event").s);
	for (unsigned i = 0; i < ARRAY_SIZE(whys); i++)
		if (!strcmp(whys[i].reason, reason))
			say(d, ": %s", whys[i].why);
}

static void say_error(const json_t *e, struct description *d)
{
	say(d, "synfind: %.200s", js_str(e, "error"));
}

static const struct kind {
	const char *name, *word;
	enum out_style style;
	bool notice;
	void (*say)(const json_t *e, struct description *d);
} kinds[] = {
	{ "tcp_open", "OPEN", OUT_PLAIN, false, say_open },
	{ "tcp_state", "STATE", OUT_PLAIN, false, say_state },
	{ "tcp_established", "ESTABLISHED", OUT_PLAIN, false, say_established },
	{ "tcp_close", "CLOSED", OUT_PLAIN, false, say_close },
	{ "tcp_retry", "RETRY", OUT_WARN, false, say_retry },
	{ "tcp_stuck", "STUCK", OUT_WARN, false, say_stuck },
	{ "tcp_anomaly", "ANOMALY", OUT_WARN, false, say_anomaly },
	{ "tcp_segment", "SEGMENT", OUT_DIM, false, say_segment },
	{ "snapshot", "IS OPEN", OUT_PLAIN, false, say_snapshot },
	{ "syn_flood", "SYN FLOOD", OUT_BAD, false, say_flood },
	{ "stats", "STATS", OUT_DIM, false, say_stats },
	{ "capture_loss", "", OUT_BAD, true, say_capture_loss },
	{ "iface", "", OUT_WARN, true, say_iface },
	{ "restart", "", OUT_WARN, true, say_restart },
	{ "lost", "", OUT_BAD, true, say_lost },
	{ "error", "", OUT_BAD, true, say_error },
};

bool describe(const json_t *event, struct description *ret)
{
	const char *type = js_str(event, "event_type");

	for (unsigned i = 0; i < ARRAY_SIZE(kinds); i++)
		if (!strcmp(kinds[i].name, type)) {
			*ret = (struct description){ kinds[i].word, kinds[i].style, kinds[i].notice,
						     kinds[i].style == OUT_WARN, "" };
			kinds[i].say(event, ret);
			return true;
		}
	return false;
}

static void say_endpoint(char *ret, size_t size, const char *ip, uint64_t port)
{
	snprintf(ret, size, strchr(ip, ':') ? "[%.45s]:%u" : "%.45s:%u", ip,
		 (unsigned)(port & 0xffff));
}

void describe_flow(const json_t *event, char ret[static DESCRIBE_FLOW])
{
	char client[56] = "", server[56] = "";

	if (js_at(event, "src_ip"))
		say_endpoint(client, sizeof client, js_str(event, "src_ip"),
			     js_u64(event, "src_port"));
	if (js_at(event, "dest_ip"))
		say_endpoint(server, sizeof server, js_str(event, "dest_ip"),
			     js_u64(event, "dest_port"));
	snprintf(ret, DESCRIBE_FLOW, "%s%s%s", client, *client ? " > " : "", server);
}
