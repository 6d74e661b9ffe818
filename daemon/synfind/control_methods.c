#include "synfind/control_methods.h"
#include <errno.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include "base/cc.h"
#include "base/strbuf.h"
#include "common/clock.h"
#include "common/options.h"
#include "common/opttable.h"
#include "flow/event_names.h"
#include "flow/tcp_fsm.h"
#include "format/json.h"
#include "format/where.h"
#include "synfind/capture_state.h"
#include "synfind/control_list.h"
#include "synfind/decoder.h"
#include "synfind/decoder_state.h"
#include "synfind/interface.h"
#include "synfind/publisher_state.h"
#include "synfind/subscriber.h"

enum {
	PAGE_MAX = 100,	  /* rows; also if the caller does not say */
	VALUE_MAX = 4096, /* of an option */
	CONNECTIONS_PAGE = 100,
	EVENTS_MAX = 100,
	SEARCH_OCTETS = 1 << 20, /* of the log, in a turn */
};

/* docs/man/synfind-control.7 explains it.  Comments are where every parser takes them. */
static const char description[] =
	"# What synfind(8) knows of itself; every method only reads. See synfind-control(7).\n"
	"interface " CONTROL_INTERFACE "\n"
	"\n"
	"# One interface. Counts are since the start of the run. Rates are of the last 5 s;\n"
	"# they are absent before. opening: its ring is awaited. gone: it was removed.\n"
	"# rings: it shares those of the entry of that name, which has the counts of all; its\n"
	"# own counts are packets and events.\n"
	"type Interface (\n"
	"  name: string,\n"
	"  state: (up, down, opening, gone),\n"
	"  decoders: int,\n"
	"  rings: ?string,\n"
	"  counts: Counts\n"
	")\n"
	"\n"
	"# drops: frames that the kernel dropped, in so many freezes of the ring. lost:\n"
	"# events that did not fit the event ring. open: connections, of which half_open are\n"
	"# in the handshake.\n"
	"type Counts (\n"
	"  packets: int,\n"
	"  drops: int,\n"
	"  freezes: int,\n"
	"  events: int,\n"
	"  lost: int,\n"
	"  open: int,\n"
	"  half_open: int,\n"
	"  packets_per_second: ?int,\n"
	"  events_per_second: ?int\n"
	")\n"
	"\n"
	"# Octets. resident: of the process, shared memory included. tables, rings: address\n"
	"# space, of which tables use what connections need. queue: of the newest lines.\n"
	"type Memory (\n"
	"  resident: ?int,\n"
	"  tables: int,\n"
	"  rings: int,\n"
	"  queue: int\n"
	")\n"
	"\n"
	"# Connections are limited for each interface, or all that share rings.\n"
	"type Limits (\n"
	"  max_connections: int,\n"
	"  max_half_open: int,\n"
	"  max_subscribers: int,\n"
	"  max_subscribers_per_uid: int\n"
	")\n"
	"\n"
	"# lost: events, summed over all subscribers.\n"
	"type SubscriberCounts (\n"
	"  connected: int,\n"
	"  accepted: int,\n"
	"  refused: int,\n"
	"  lost: int\n"
	")\n"
	"\n"
	"# Whose segments a reader gets one by one: an address or network, a port, or both.\n"
	"type Endpoint (\n"
	"  net: ?string,\n"
	"  port: ?int\n"
	")\n"
	"\n"
	"# A reader of the events. pid, uid: of the process that connected; absent for\n"
	"# standard output. user, program: their names, if they are known. since: its\n"
	"# connection, or the last restart. behind: what it has not been sent yet. lost:\n"
	"# events. events, where, segments: what it chose; absent if that is everything, or\n"
	"# no segments. where and segments are absent also if the caller may not see the\n"
	"# addresses in them.\n"
	"type Subscriber (\n"
	"  id: int,\n"
	"  pid: ?int,\n"
	"  uid: ?int,\n"
	"  user: ?string,\n"
	"  program: ?string,\n"
	"  since: string,\n"
	"  pseudonyms: bool,\n"
	"  events: ?[]string,\n"
	"  where: ?string,\n"
	"  segments: ?[]Endpoint,\n"
	"  policy: string,\n"
	"  behind_octets: int,\n"
	"  behind_lines: int,\n"
	"  lost: int\n"
	")\n"
	"\n"
	"# An option, as it would be written in the file. source: what set it; with file,\n"
	"# line is the last line that did. reload: what a reload can change. cut: the value\n"
	"# was too long. A value that has addresses is absent for who may not see them.\n"
	"type Option (\n"
	"  name: string,\n"
	"  value: ?string,\n"
	"  cut: ?bool,\n"
	"  source: (default, file, flag),\n"
	"  line: ?int,\n"
	"  reload: (start, rings, live)\n"
	")\n"
	"\n"
	"# Open connections in these states of client and server.\n"
	"type States (\n"
	"  client: string,\n"
	"  server: string,\n"
	"  connections: int\n"
	")\n"
	"\n"
	"# The condition of the daemon. schema, run_id, boot_id, host, mode: as in the hello\n"
	"# of the events. seq: number of the last event. started: this process; a run can\n"
	"# outlive it. interfaces: up to 64; interfaces_more: how many are left out.\n"
	"method Status() -> (\n"
	"  version: string,\n"
	"  schema: string,\n"
	"  run_id: string,\n"
	"  host: string,\n"
	"  boot_id: string,\n"
	"  pid: int,\n"
	"  time: string,\n"
	"  started: string,\n"
	"  uptime_ns: int,\n"
	"  mode: string,\n"
	"  seq: int,\n"
	"  interfaces: []Interface,\n"
	"  interfaces_more: int,\n"
	"  total: Counts,\n"
	"  states: []States,\n"
	"  memory: Memory,\n"
	"  limits: Limits,\n"
	"  subscribers: SubscriberCounts\n"
	")\n"
	"\n"
	"# Subscribers by id, at most limit (1 to 100) with an id above after. next: the\n"
	"# after of the next page; absent on the last one. With more, page after page.\n"
	"method Subscribers(limit: ?int, after: ?int) -> (\n"
	"  subscribers: []Subscriber,\n"
	"  next: ?int\n"
	")\n"
	"\n"
	"# Open connections that hold where, an expression over the members of a snapshot\n"
	"# line: at most limit (0 to 100; with more, 10000), the first ones by order: oldest,\n"
	"# newest, idle for longest, most bytes, most retransmissions. Each is a snapshot\n"
	"# line without its seq. matched: how many hold; without order, how many were found\n"
	"# until limit was reached.\n"
	"method Connections(\n"
	"  where: ?string,\n"
	"  order: ?(oldest, newest, idle, bytes, retrans),\n"
	"  limit: ?int\n"
	") -> (\n"
	"  connections: []object,\n"
	"  matched: int\n"
	")\n"
	"\n"
	"# An open connection, and its events, the newest 100 that the queue still has.\n"
	"# complete: they begin with its tcp_open.\n"
	"method Connection(flow_id: string) -> (\n"
	"  connection: object,\n"
	"  events: []object,\n"
	"  complete: bool\n"
	")\n"
	"\n"
	"# The value of each option in force. file: the configuration file that was read.\n"
	"method Config() -> (\n"
	"  file: ?string,\n"
	"  options: []Option\n"
	")\n"
	"\n"
	"# What came is not a call. The connection stays open.\n"
	"error InvalidCall (message: string)\n"
	"\n"
	"# A call is longer than 64 KiB. The connection ends.\n"
	"error CallTooLong (message: string)\n"
	"\n"
	"# This client may not connect, or too many have. The connection ends.\n"
	"error Refused (message: string)\n"
	"\n"
	"# where is wrong, at this character.\n"
	"error InvalidExpression (message: string, at: int)\n"
	"\n"
	"# No open connection has this flow_id.\n"
	"error NoSuchConnection (flow_id: string)\n"
	"\n"
	"# Others are listing connections already: ask later.\n"
	"error Busy (message: string)\n"
	"\n"
	"# The answer could not be made.\n"
	"error Failed (message: string)\n";

/* ---- parameters and errors ------------------------------------------------------------------- */

#define SERVICE "org.varlink.service"

static json_t *fail(struct control_request *q, const char *error, const char *name,
		    const char *value)
{
	q->error = error;
	return json_pack("{s:s}", name, value);
}

static json_t *invalid_parameter(struct control_request *q, const char *name)
{
	return fail(q, SERVICE ".InvalidParameter", "parameter", name);
}

static bool is_named(const char *name, const char *const *names)
{
	while (*names && strcmp(*names, name))
		names++;
	return *names;
}

/* The first parameter that is not one of @names (NULL ends them), or NULL: all are. */
static const char *unknown_parameter(const struct control_request *q, const char *const *names)
{
	const char *name;
	json_t *value;

	json_object_foreach((json_t *)q->parameters, name,
			    value) if (!is_named(name, names)) return name;
	return NULL;
}

/* A number from @min to @max, or null or absent: then *@ret stays.  False: it is something else. */
static bool parameter_number(const struct control_request *q, const char *name, uint64_t min,
			     uint64_t max, uint64_t *ret)
{
	const json_t *value = json_object_get(q->parameters, name);
	json_int_t n = json_integer_value(value);

	if (!value || json_is_null(value))
		return true;
	if (!json_is_integer(value) || n < 0 || (uint64_t)n < min || (uint64_t)n > max)
		return false;
	*ret = (uint64_t)n;
	return true;
}

/* Is a parameter a string, null or absent? */
static bool parameter_text(const struct control_request *q, const char *name)
{
	const json_t *value = json_object_get(q->parameters, name);

	return !value || json_is_null(value) || json_is_string(value);
}

/* ---- values ---------------------------------------------------------------------------------- */

static json_t *number(uint64_t v)
{
	return json_integer((json_int_t)v);
}

/* Text that others chose; octets that are not UTF-8 become question marks. */
static json_t *utf8_json(const char *s)
{
	char copy[VALUE_MAX + 1];
	size_t n = 0;

	while (*s && n + 4 < sizeof copy) {
		unsigned octets = strbuf_utf8_length(s);

		if (octets)
			memcpy(copy + n, s, octets);
		else
			copy[n] = '?';
		n += octets ?: 1;
		s += octets ?: 1;
	}
	return json_stringn(copy, n);
}

static json_t *timestamp(uint64_t ns)
{
	char octets[64];
	struct strbuf t = { .p = octets, .end = octets + sizeof octets };

	strbuf_timestamp(&t, ns);
	return json_stringn(octets + 1, (size_t)(t.p - octets) - 2); /* without its quotes */
}

/* ---- Status ---------------------------------------------------------------------------------- */

struct counts {
	uint64_t packets, drops, freezes, events, lost, open, half_open;
	uint64_t states[FSM_STATES]; /* open connections, by fsm_pair() */
	uint64_t packets_per_s, events_per_s;
	bool rates_known;
};

static void counts_add(struct counts *sum, const struct input_ring *input)
{
	const struct decoder_counters *c = input->decoder->count;

	sum->packets += counter_get(&c->packets);
	sum->drops += counter_get(&c->drops);
	sum->freezes += counter_get(&c->freezes);
	sum->events += counter_get(&c->events);
	sum->lost += counter_get(&c->lost);
	for (unsigned s = FSM_SYN; s < FSM_STATES && !fsm_over(s); s++) {
		uint64_t n = counter_get(&c->tracker.states[s]);

		sum->states[fsm_pair(s)] += n;
		sum->open += n;
		sum->half_open += fsm_handshaking(s) ? n : 0;
	}
	sum->packets_per_s += input->packets_per_s;
	sum->events_per_s += input->events_per_s;
	sum->rates_known |= input->rates_known;
}

static json_t *counts_json(const struct counts *c)
{
	return json_pack("{s:o,s:o,s:o,s:o,s:o,s:o,s:o,s:o*,s:o*}", "packets", number(c->packets),
			 "drops", number(c->drops), "freezes", number(c->freezes), "events",
			 number(c->events), "lost", number(c->lost), "open", number(c->open),
			 "half_open", number(c->half_open), "packets_per_second",
			 c->rates_known ? number(c->packets_per_s) : NULL, "events_per_second",
			 c->rates_known ? number(c->events_per_s) : NULL);
}

/* The pairs of states that there are. */
static json_t *states_json(const struct counts *c)
{
	json_t *list = json_array();

	for (unsigned s = FSM_SYN; s < FSM_STATES && !fsm_over(s); s++)
		if (c->states[s])
			json_array_append_new(
				list, json_pack("{s:s,s:s,s:o}", "client",
						tcp_state_str[fsm_endpoint(s, SIDE_A)].s, "server",
						tcp_state_str[fsm_endpoint(s, SIDE_B)].s,
						"connections", number(c->states[s])));
	return list;
}

static const char *interface_state(const struct interface *iface)
{
	if (iface->rings->asked)
		return "opening";
	if (!interface_runs(iface))
		return "gone";
	return iface->up ? "up" : "down";
}

static json_t *interface_json(const struct control_view *v, const struct interface *iface)
{
	struct counts counts = { 0 };

	for (const struct input_ring *input = v->publisher->rings; input; input = input->next)
		for (unsigned i = 0; i < iface->decoders; i++)
			if (iface->decoder[i] == input->decoder)
				counts_add(&counts, input);
	for (unsigned i = 0; i < iface->rings->decoders && iface->rings != iface && iface->slot;
	     i++) {
		const struct stored_link *l = &iface->rings->decoder[i]->state.links[iface->slot];

		counts.packets += counter_get(&l->frames);
		counts.events += counter_get(&l->events);
	}
	return json_pack("{s:o,s:s,s:i,s:s*,s:o}", "name", utf8_json(iface->name), "state",
			 interface_state(iface), "decoders", (int)iface->decoders, "rings",
			 iface->rings == iface ? NULL : iface->rings->name, "counts",
			 counts_json(&counts));
}

/* Shared rings come first, then captured interfaces, then those that are remembered. */
static int interface_rank(const struct interface *iface)
{
	return interface_is_rings(iface) ? 0 : interface_runs(iface) || iface->rings->asked ? 1 : 2;
}

static json_t *interfaces_json(const struct control_view *v, unsigned *ret_more)
{
	json_t *list = json_array();
	unsigned n = 0;

	for (int rank = 0; rank < 3; rank++)
		for (const struct interface *iface = v->capture->interfaces; iface;
		     iface = iface->next)
			if (interface_rank(iface) == rank && n++ < JSON_NAMES_MAX)
				json_array_append_new(list, interface_json(v, iface));
	*ret_more = n > JSON_NAMES_MAX ? n - JSON_NAMES_MAX : 0;
	return list;
}

/* Of this process; NULL: /proc does not say. */
static json_t *resident(void)
{
	FILE *f = fopen("/proc/self/statm", "re");
	unsigned long long all, pages;
	bool known = f && fscanf(f, "%llu %llu", &all, &pages) == 2;

	if (f)
		fclose(f);
	return known ? number(pages * (uint64_t)sysconf(_SC_PAGESIZE)) : NULL;
}

static json_t *memory_json(const struct control_view *v)
{
	const struct publisher *p = v->publisher;
	uint64_t tables = 0, rings = 0, queue = 0;

	for (const struct input_ring *input = p->rings; input; input = input->next) {
		const struct afring_geometry *g =
			&decoder_state_current_ring(&input->decoder->state)->geometry;

		tables += input->decoder->state.octets;
		rings += (uint64_t)g->block_size * g->block_nr;
	}
	for (unsigned i = 0; i < ACCESS_LOGS; i++)
		if (i == ACCESS_ADDRESSES || p->subscribers.reading[i])
			queue += p->stream.log[i].size;
	return json_pack("{s:o*,s:o,s:o,s:o}", "resident", resident(), "tables", number(tables),
			 "rings", number(rings), "queue", number(queue));
}

static json_t *subscriber_counts(const struct publisher *p)
{
	const struct stream_head *h = p->stream.head;
	uint64_t refused = 0;

	for (unsigned i = ACCESS_LOGS; i < ACCESS_VERDICTS; i++)
		refused += h->refused[i];
	return json_pack("{s:i,s:o,s:o,s:o}", "connected", (int)p->subscribers.connected,
			 "accepted", number(h->accepted), "refused", number(refused), "lost",
			 number(h->state.lost_events));
}

static json_t *answer_status(struct control_request *q)
{
	const struct control_view *v = q->view;
	const struct publisher *p = v->publisher;
	const struct options *o = v->o;
	struct counts total = { 0 };
	unsigned more;
	json_t *interfaces = interfaces_json(v, &more);

	for (const struct input_ring *input = p->rings; input; input = input->next)
		counts_add(&total, input);
	return json_pack(
		"{s:s,s:s,s:s,s:o,s:s,s:i,s:o,s:o,s:o,s:s,s:o,s:o,s:i,s:o,s:o,s:o,"
		"s:{s:o,s:o,s:o,s:o},s:o}",
		"version", SYNFIND_VERSION, "schema", JSON_SCHEMA, "run_id", p->id.run_id, "host",
		utf8_json(p->id.host), "boot_id", p->id.boot_id, "pid", (int)getpid(), "time",
		timestamp(wall_clock_ns()), "started", timestamp(v->started_ns), "uptime_ns",
		number(clock_ns(CLOCK_MONOTONIC) - v->started_mono_ns), "mode",
		capture_mode_name(o->mode), "seq", number(p->stream.state->seq), "interfaces",
		interfaces, "interfaces_more", (int)more, "total", counts_json(&total), "states",
		states_json(&total), "memory", memory_json(v), "limits", "max_connections",
		number(o->max_connections), "max_half_open", number(o->max_half_open),
		"max_subscribers", number(o->max_subscribers), "max_subscribers_per_uid",
		number(o->max_subscribers_per_uid), "subscribers", subscriber_counts(p));
}

/* ---- Subscribers ----------------------------------------------------------------------------- */

/* The @max subscribers with the lowest ids from @from on, in order.  *@ret_more: there are more. */
static unsigned select_page(const struct subscribers *all, uint64_t from, unsigned max,
			    const struct subscriber *ret[], bool *ret_more)
{
	unsigned n = 0;

	*ret_more = false;
	for (const struct subscriber *s = all->list; s; s = s->next) {
		unsigned at = n;

		if (s->index < from)
			continue;
		if (n == max) {
			*ret_more = true;
			if (ret[n - 1]->index < s->index)
				continue;
			at = --n;
		}
		for (; at && ret[at - 1]->index > s->index; at--)
			ret[at] = ret[at - 1];
		ret[at] = s;
		n++;
	}
	return n;
}

/* The program that now has this process id; NULL: unknown, as where /proc shows no others. */
static json_t *program_json(pid_t pid)
{
	char path[32], name[64] = "";
	FILE *f;

	snprintf(path, sizeof path, "/proc/%d/comm", (int)pid);
	f = pid > 0 ? fopen(path, "re") : NULL;
	if (!f)
		return NULL;
	if (fgets(name, sizeof name, f))
		name[strcspn(name, "\n")] = '\0';
	fclose(f);
	return utf8_json(name);
}

/* The kinds of line that it chose; NULL: all. */
static json_t *kinds_json(const struct subscription *want)
{
	json_t *kinds = want->kinds == LINES_ALL ? NULL : json_array();

	for (unsigned kind = 0; kinds && kind < LINE_KINDS; kind++)
		if (want->kinds >> kind & 1)
			json_array_append_new(kinds, json_string(line_kind_name(kind)));
	return kinds;
}

/* Its expression; NULL: none, or @hidden. */
static json_t *where_json(const struct subscribers *all, const struct subscription *want,
			  bool hidden)
{
	const struct filter_slot *slot;

	if (hidden || want->filter >= FILTER_SLOTS)
		return NULL;
	slot = &all->stream->filters.slots[want->filter];
	return json_stringn(slot->text, slot->octets);
}

/* Its endpoints, as a request has them; NULL: none, or @hidden. */
static json_t *segments_json(const struct subscribers *all, const struct subscription *want,
			     bool hidden)
{
	json_t *list = hidden || !want->endpoints ? NULL : json_array();

	for (unsigned left = list ? want->endpoints : 0; left; left &= left - 1) {
		const struct endpoint *e =
			&all->stream->segments.places[__builtin_ctz(left)].endpoint;
		char net[ENDPOINT_TEXT_MAX];

		if (e->ip_v)
			endpoint_text(e, net);
		json_array_append_new(list,
				      json_pack("{s:s*,s:o*}", "net", e->ip_v ? net : NULL, "port",
						e->has_port ? number(e->port) : NULL));
	}
	return list;
}

/* @pseudonyms: the caller may not see addresses. */
static json_t *subscriber_json(const struct subscribers *all, const struct subscriber *s,
			       bool pseudonyms)
{
	const struct subscriber_record *record = s->record;
	const struct linelog *log = &all->stream->log[record->log];
	const struct subscriber_cursor *c = &record->cursor;
	uint64_t age = clock_ns(CLOCK_MONOTONIC) - s->since_ns;
	bool peer = s->uid != (uid_t)-1, masked = record->log == ACCESS_PSEUDONYMS;
	bool hidden = pseudonyms && !masked;

	return json_pack(
		"{s:i,s:o*,s:o*,s:o*,s:o,s:b,s:o*,s:o*,s:o*,s:s,s:o,s:o,s:o}", "id", (int)s->index,
		"pid", peer ? number((uint64_t)s->pid) : NULL, "uid", peer ? number(s->uid) : NULL,
		"program", peer ? program_json(s->pid) : NULL, "since",
		timestamp(wall_clock_ns() - age), "pseudonyms", masked, "events",
		kinds_json(&c->want), "where", where_json(all, &c->want, hidden), "segments",
		segments_json(all, &c->want, hidden), "policy", filter_policy_name[c->want.policy],
		"behind_octets", number(log->end->head - c->at + c->prefix_len - c->prefix_at),
		"behind_lines", number(log->end->mark_next - linelog_line_at(log, c->at)), "lost",
		number(c->lost_total));
}

/* Adds names to the rows, by one pass through the file: nsswitch.conf could name what takes
 * long. */
static void add_users(json_t *rows)
{
	FILE *f = fopen("/etc/passwd", "re");
	struct passwd entry, *found;
	char buf[1024];
	size_t i;
	json_t *row;

	while (f && fgetpwent_r(f, &entry, buf, sizeof buf, &found) == 0)
		json_array_foreach(rows, i, row)
		{
			const json_t *uid = json_object_get(row, "uid");

			if (uid && json_integer_value(uid) == (json_int_t)entry.pw_uid)
				json_object_set_new(row, "user", utf8_json(entry.pw_name));
		}
	if (f)
		fclose(f);
}

static json_t *answer_subscribers(struct control_request *q)
{
	const struct subscribers *all = &q->view->publisher->subscribers;
	const struct subscriber *page[PAGE_MAX];
	uint64_t limit = PAGE_MAX, after = UINT64_MAX, from = q->from;
	json_t *rows, *next = NULL;
	unsigned n;
	bool more;

	if (!parameter_number(q, "limit", 1, PAGE_MAX, &limit))
		return invalid_parameter(q, "limit");
	if (!parameter_number(q, "after", 0, INT32_MAX, &after))
		return invalid_parameter(q, "after");
	if (!from)
		from = after + 1; /* 0 if it was not given */
	n = select_page(all, from, (unsigned)limit, page, &more);
	rows = json_array();
	for (unsigned i = 0; i < n; i++)
		json_array_append_new(rows, subscriber_json(all, page[i], q->pseudonyms));
	add_users(rows);
	if (more) {
		q->from = page[n - 1]->index + 1;
		q->continues = q->more;
		next = q->more ? NULL : number(page[n - 1]->index);
	}
	return json_pack("{s:o,s:o*}", "subscribers", rows, "next", next);
}

/* ---- Connections and Connection -------------------------------------------------------------- */

static const struct {
	const char *name;
	enum list_order order;
} orders[] = {
	{ "oldest", LIST_OLDEST }, { "newest", LIST_NEWEST },	{ "idle", LIST_IDLE },
	{ "bytes", LIST_OCTETS },  { "retrans", LIST_RETRANS },
};

static void list_begin(struct control_request *q, enum list_order order, unsigned limit)
{
	const struct control_view *v = q->view;
	struct control_list *l = control_list_new(v->publisher, order, limit);

	q->list = l;
	if (!l)
		return;
	l->filter.pseudonyms = q->pseudonyms;
	l->filter.key = v->publisher->key;
	l->filter.community = v->o->community_id;
	l->filter.community_seed = (uint16_t)v->o->community_id_seed;
	q->collects = true;
}

/* The order of the parameters; -EINVAL. */
static int parameter_order(const struct control_request *q)
{
	const char *name = json_string_value(json_object_get(q->parameters, "order"));

	if (!name)
		return parameter_text(q, "order") ? (int)LIST_ANY : -EINVAL;
	for (unsigned i = 0; i < ARRAY_SIZE(orders); i++)
		if (!strcmp(name, orders[i].name))
			return (int)orders[i].order;
	return -EINVAL;
}

static json_t *connections_begin(struct control_request *q)
{
	const json_t *where = json_object_get(q->parameters, "where");
	uint64_t limit = CONNECTIONS_PAGE, max = q->more ? CONTROL_LIST_MAX : CONNECTIONS_PAGE;
	int order = parameter_order(q), r = 0;
	struct where_error error;

	if (!parameter_number(q, "limit", 0, max, &limit))
		return invalid_parameter(q, "limit");
	if (order < 0)
		return invalid_parameter(q, "order");
	if (!parameter_text(q, "where"))
		return invalid_parameter(q, "where");
	list_begin(q, (enum list_order)order, (unsigned)limit);
	if (q->list && json_is_string(where))
		r = where_compile(&q->list->filter.where, json_string_value(where),
				  json_string_length(where), &error);
	if (r < 0)
		q->collects = false;
	if (r != -EINVAL)
		return NULL;
	q->error = CONTROL_INTERFACE ".InvalidExpression";
	return json_pack("{s:s,s:i}", "message", error.text, "at", (int)error.at);
}

/* As text: jansson takes twenty times as long for a page. */
static json_t *answer_connections(struct control_request *q)
{
	const size_t space = (CONNECTIONS_PAGE + 1) * JSON_LINE_MAX;
	unsigned i = (unsigned)q->from, end, n;
	struct strbuf t;

	if (!q->list)
		return connections_begin(q);
	q->json = malloc(space);
	if (!q->json)
		return NULL;
	n = q->list->all->n;
	end = n - i < CONNECTIONS_PAGE ? n : i + CONNECTIONS_PAGE;
	t = (struct strbuf){ .p = q->json, .end = q->json + space };
	strbuf_lit(&t, "{\"connections\":[");
	for (; i < end; i++) {
		if (i > q->from)
			strbuf_lit(&t, ",");
		control_list_row(q->list, i, &t);
	}
	strbuf_lit(&t, "],\"matched\":");
	strbuf_u64(&t, q->list->all->matched);
	strbuf_lit(&t, "}");
	q->json_octets = (size_t)(t.p - q->json);
	q->from = end;
	q->continues = end < n;
	return NULL;
}

/* A flow_id as events have it. */
static bool parse_flow_id(const char *text, uint64_t *ret)
{
	if (!text || strlen(text) != 16 || strspn(text, "0123456789abcdef") != 16)
		return false;
	*ret = strtoull(text, NULL, 16);
	return true;
}

/* Adds the line around @at, which lies in the log after @from, to the newest ones.  Returns its
 * end. */
static const char *add_line(json_t *lines, const char *from, const char *at, const char *head)
{
	const char *begin = memrchr(from, '\n', (size_t)(at - from));
	const char *end = memchr(at, '\n', (size_t)(head - at));

	begin = begin ? begin + 1 : from;
	if (!end)
		return head;
	json_array_append_new(lines, json_loadb(begin, (size_t)(end - begin), 0, NULL));
	if (json_array_size(lines) > EVENTS_MAX)
		json_array_remove(lines, 0);
	return end;
}

/* Looks for the lines of a connection in a piece of the log, from position q->from on.  False: that
 * was the last one. */
static bool search_log(struct control_request *q, const char *flow_id)
{
	unsigned which = q->pseudonyms ? ACCESS_PSEUDONYMS : ACCESS_ADDRESSES;
	const struct linelog *log = &q->view->publisher->stream.log[which];
	uint64_t oldest = linelog_oldest(log), head = log->end->head, to;
	char needle[32];
	int n = snprintf(needle, sizeof needle, "\"flow_id\":\"%s\"", flow_id);
	const char *from, *at, *end;

	if (q->from < oldest)
		q->from = oldest;
	/* Pieces end between two lines. */
	to = linelog_mark(log, linelog_line_at(log, q->from + SEARCH_OCTETS), 0).at;
	if (to > head || q->from + SEARCH_OCTETS >= head)
		to = head;
	from = at = linelog_octets(log, q->from);
	end = from + (to - q->from);
	while ((at = memmem(at, (size_t)(end - at), needle, (size_t)n)))
		at = add_line(q->rows, from, at, end);
	q->from = to;
	return to < head;
}

static json_t *list_row_json(const struct control_list *l, unsigned i)
{
	char octets[JSON_LINE_MAX];
	struct strbuf t = { .p = octets, .end = octets + sizeof octets };

	control_list_row(l, i, &t);
	return json_loadb(octets, (size_t)(t.p - octets), 0, NULL);
}

static json_t *answer_connection(struct control_request *q)
{
	const char *flow_id = json_string_value(json_object_get(q->parameters, "flow_id")), *first;
	uint64_t id;

	if (!parse_flow_id(flow_id, &id))
		return invalid_parameter(q, "flow_id");
	if (!q->list) {
		list_begin(q, LIST_ANY, 1);
		if (q->list) {
			q->list->filter.one = true;
			q->list->filter.flow_id = id;
		}
		return NULL;
	}
	if (!q->list->all->n)
		return fail(q, CONTROL_INTERFACE ".NoSuchConnection", "flow_id", flow_id);
	if (!q->rows)
		q->rows = json_array();
	q->again = search_log(q, flow_id);
	if (q->again)
		return NULL;
	first = json_string_value(json_object_get(json_array_get(q->rows, 0), "event_type"));
	return json_pack("{s:o,s:O,s:b}", "connection", list_row_json(q->list, 0), "events",
			 q->rows, "complete", first && !strcmp(first, "tcp_open"));
}

/* ---- Config ---------------------------------------------------------------------------------- */

/* @pseudonyms: the caller may not see addresses. */
static json_t *option_json(const struct options *o, const struct opt *opt, bool pseudonyms)
{
	static const char *const reload[] = {
		[AT_START] = "start", [RINGS] = "rings", [LIVE] = "live"
	};
	int by = options_set_by(o, opt);
	bool in_file = by != OPTION_BY_DEFAULT && by != OPTION_BY_FLAG;
	char value[VALUE_MAX];
	bool all = opt_value_text(opt, o, value, sizeof value);
	/* In tcpdump's language: host 192.0.2.1 */
	bool hidden = pseudonyms && !strcmp(opt->name, "filter");

	return json_pack(
		"{s:s,s:o*,s:o*,s:s,s:o*,s:s}", "name", opt->name, "value",
		hidden ? NULL : utf8_json(value), "cut", all ? NULL : json_true(), "source",
		in_file		       ? "file"
		: by == OPTION_BY_FLAG ? "flag"
				       : "default",
		"line", in_file ? number((uint64_t)by) : NULL, "reload", reload[opt->reload]);
}

static json_t *answer_config(struct control_request *q)
{
	const struct options *o = q->view->o;
	json_t *options = json_array();

	for (const struct opt *opt = opts; opt < opts + N_OPT; opt++)
		if (opt->section != FLAGS_ONLY)
			json_array_append_new(options, option_json(o, opt, q->pseudonyms));
	return json_pack("{s:o*,s:o}", "file", o->file ? utf8_json(o->file) : NULL, "options",
			 options);
}

/* ---- Varlink's own --------------------------------------------------------------------------- */

static json_t *answer_info(struct control_request *q)
{
	(void)q;
	return json_pack("{s:s,s:s,s:s,s:s,s:[s,s]}", "vendor", "synfind", "product", "synfind",
			 "version", SYNFIND_VERSION, "url", "man:synfind(8)", "interfaces", SERVICE,
			 CONTROL_INTERFACE);
}

/* As https://varlink.org/Service has it. */
static const char service_description[] =
	"# What every Varlink service answers.\n"
	"interface " SERVICE "\n"
	"\n"
	"method GetInfo() -> (\n"
	"  vendor: string,\n"
	"  product: string,\n"
	"  version: string,\n"
	"  url: string,\n"
	"  interfaces: []string\n"
	")\n"
	"\n"
	"method GetInterfaceDescription(interface: string) -> (description: string)\n"
	"\n"
	"error InterfaceNotFound (interface: string)\n"
	"\n"
	"error MethodNotFound (method: string)\n"
	"\n"
	"error MethodNotImplemented (method: string)\n"
	"\n"
	"error InvalidParameter (parameter: string)\n";

static json_t *answer_description(struct control_request *q)
{
	const char *name = json_string_value(json_object_get(q->parameters, "interface"));

	if (!name)
		return invalid_parameter(q, "interface");
	if (!strcmp(name, CONTROL_INTERFACE))
		return json_pack("{s:s}", "description", description);
	if (!strcmp(name, SERVICE))
		return json_pack("{s:s}", "description", service_description);
	return fail(q, SERVICE ".InterfaceNotFound", "interface", name);
}

/* ---- all ------------------------------------------------------------------------------------- */

static const char *const no_names[] = { NULL };
static const char *const interface_names[] = { "interface", NULL };
static const char *const page_names[] = { "limit", "after", NULL };
static const char *const list_names[] = { "where", "order", "limit", NULL };
static const char *const flow_names[] = { "flow_id", NULL };

static const struct control_method {
	const char *interface, *name;
	const char *const *parameters; /* that it takes */
	json_t *(*answer)(struct control_request *q);
} methods[] = {
	{ SERVICE, "GetInfo", no_names, answer_info },
	{ SERVICE, "GetInterfaceDescription", interface_names, answer_description },
	{ CONTROL_INTERFACE, "Status", no_names, answer_status },
	{ CONTROL_INTERFACE, "Subscribers", page_names, answer_subscribers },
	{ CONTROL_INTERFACE, "Connections", list_names, answer_connections },
	{ CONTROL_INTERFACE, "Connection", flow_names, answer_connection },
	{ CONTROL_INTERFACE, "Config", no_names, answer_config },
};

/* Is what stands before @dot of @method @interface? */
static bool is_interface(const char *method, const char *dot, const char *interface)
{
	size_t n = (size_t)(dot - method);

	return n == strlen(interface) && !strncmp(method, interface, n);
}

/* There is no method of that name.  Is there its interface? */
static json_t *not_found(struct control_request *q)
{
	const char *dot = strrchr(q->method, '.');
	bool known = !dot;

	for (unsigned i = 0; i < ARRAY_SIZE(methods); i++)
		known = known || is_interface(q->method, dot, methods[i].interface);
	if (known)
		return fail(q, SERVICE ".MethodNotFound", "method", q->method);
	q->error = SERVICE ".InterfaceNotFound";
	return json_pack("{s:s%}", "interface", q->method, (size_t)(dot - q->method));
}

json_t *control_answer(struct control_request *q)
{
	const char *dot = strrchr(q->method, '.');

	for (unsigned i = 0; dot && i < ARRAY_SIZE(methods); i++) {
		const struct control_method *m = &methods[i];
		const char *unknown;

		if (strcmp(dot + 1, m->name) || !is_interface(q->method, dot, m->interface))
			continue;
		unknown = unknown_parameter(q, m->parameters);
		return unknown ? invalid_parameter(q, unknown) : m->answer(q);
	}
	return not_found(q);
}
