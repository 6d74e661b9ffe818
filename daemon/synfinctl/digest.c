#include "synfinctl/digest.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "base/cc.h"
#include "format/where.h"
#include "synfinctl/describe.h"
#include "synfinctl/human.h"
#include "synfinctl/js.h"

enum { FLOODS_MAX = 16, STATS_MAX = 1 << 16 };

/* What has waited for less when the capture ends may be answered yet. */
static const uint64_t waits_too_long_ns = 1000000000;

int digest_init(struct digest *d, unsigned top, const struct where *where)
{
	*d = (struct digest){ .where = where };
	fields_init(&d->f);
	if (!peers_init(&d->servers) && !peers_init(&d->clients) && !top_init(&d->slowest, top) &&
	    !top_init(&d->unanswered, top) && !top_init(&d->stuck, DIGEST_STUCK_MAX) &&
	    !top_init(&d->floods, FLOODS_MAX))
		return 0;
	digest_done(d);
	return -ENOMEM;
}

void digest_done(struct digest *d)
{
	peers_done(&d->servers);
	peers_done(&d->clients);
	top_done(&d->slowest);
	top_done(&d->stuck);
	top_done(&d->unanswered);
	top_done(&d->floods);
	free(d->stats);
	d->stats = NULL;
}

/* Widens a span of time.  Times of a line have the same form, so that texts compare as times do. */
static void take_time(struct digest *d, enum field field, char *first, char *last)
{
	char text[DIGEST_TIME];

	fields_string(&d->f, field, text, sizeof text);
	if (strlen(text) != DIGEST_TIME - 1 || text[10] != 'T' || text[DIGEST_TIME - 2] != 'Z')
		return;
	if (first && (!*first || memcmp(text, first, DIGEST_TIME) < 0))
		memcpy(first, text, DIGEST_TIME);
	if (last && memcmp(text, last, DIGEST_TIME) > 0)
		memcpy(last, text, DIGEST_TIME);
}

static uint64_t ns_of(const struct digest *d, enum field field)
{
	char text[DIGEST_TIME];
	uint64_t ns;

	fields_string(&d->f, field, text, sizeof text);
	return human_parse_time(text, &ns) ? ns : 0;
}

static unsigned reason_index(const char *reason)
{
	const char *name;

	for (unsigned i = 0; i < DIGEST_REASON_NEW && (name = describe_nth_reason(i)); i++)
		if (!strcmp(name, reason))
			return i;
	return DIGEST_REASON_NEW;
}

/* What a connection adds to its server and to its client. */
struct closed {
	const char *reason;
	unsigned reason_index;
	bool failed, unanswered_yet;
	int by; /* a side; SIDES: both; -1: none */
	uint64_t frames[SIDES], octets[SIDES], retrans[SIDES];
};

/* A connection that was open at the end, with something unacknowledged. */
static void take_outstanding(struct digest *d, struct closed *c)
{
	bool syn = fields_is(&d->f, F_OUTSTANDING, "syn");
	bool syn_ack = fields_is(&d->f, F_OUTSTANDING, "syn_ack");

	d->open_syn += syn;
	d->open_syn_ack += syn_ack;
	d->open_data += fields_is(&d->f, F_OUTSTANDING, "data");
	d->open_fin += fields_is(&d->f, F_OUTSTANDING, "fin");
	if ((syn || syn_ack) && ns_of(d, F_TIMESTAMP) >= ns_of(d, F_START) + waits_too_long_ns)
		c->failed = c->unanswered_yet = true;
}

static void count_peer(struct digest *d, struct peers *peers, const struct closed *c, enum field ip,
		       bool port)
{
	char name[PEER_NAME];
	struct peer *p;

	fields_endpoint(&d->f, ip, port, name, sizeof name);
	p = peers_at(peers, name);
	p->connections++;
	p->failed += c->failed;
	p->unanswered_yet += c->unanswered_yet;
	p->by_reason[c->reason_index]++;
	if (c->by >= 0 && c->by < SIDES) {
		p->fin_by[c->by] += !strcmp(c->reason, "fin");
		p->rst_by[c->by] += !strcmp(c->reason, "rst");
	}
	for (unsigned side = 0; side < SIDES; side++) {
		p->frames[side] += c->frames[side];
		p->retrans[side] += c->retrans[side];
	}
}

static void count_outcome(struct digest *d, const struct closed *c)
{
	struct digest_outcome *o = &d->outcomes[c->reason_index];

	d->connections++;
	d->failed += c->failed;
	d->unanswered_yet += c->unanswered_yet;
	o->connections++;
	if (c->by >= 0 && c->by < SIDES)
		o->by[c->by]++;
	o->by_both += c->by == SIDES;
	for (unsigned side = 0; side < SIDES; side++) {
		d->frames[side] += c->frames[side];
		d->octets[side] += c->octets[side];
		d->retrans[side] += c->retrans[side];
	}
}

static void count_missed(struct digest *d)
{
	uint64_t gap = fields_u64(&d->f, F_GAP_BYTES);

	d->midstream += fields_true(&d->f, F_MIDSTREAM);
	d->lossy += fields_true(&d->f, F_LOSSY);
	d->gapped += gap > 0;
	d->gap_octets += gap;
}

static void count_close(struct digest *d, const char *line, size_t n)
{
	const struct fields *f = &d->f;
	char reason[32];
	struct closed c = {
		.reason = reason,
		.by = fields_is(f, F_CLOSED_BY, "client")   ? SIDE_CLIENT
		      : fields_is(f, F_CLOSED_BY, "server") ? SIDE_SERVER
		      : fields_is(f, F_CLOSED_BY, "both")   ? SIDES
							    : -1,
		.frames = { fields_u64(f, F_PKTS_TOSERVER), fields_u64(f, F_PKTS_TOCLIENT) },
		.octets = { fields_u64(f, F_BYTES_TOSERVER), fields_u64(f, F_BYTES_TOCLIENT) },
		.retrans = { fields_u64(f, F_RETRANS_TOSERVER), fields_u64(f, F_RETRANS_TOCLIENT) },
	};

	fields_string(f, F_REASON, reason, sizeof reason);
	c.reason_index = reason_index(reason);
	c.failed = describe_reason_failed(reason);
	if (fields_has(f, F_OUTSTANDING))
		take_outstanding(d, &c);
	count_outcome(d, &c);
	count_missed(d);
	count_peer(d, &d->servers, &c, F_DEST_IP, true);
	count_peer(d, &d->clients, &c, F_SRC_IP, false);
	take_time(d, F_START, d->begin, NULL);
	take_time(d, F_END, NULL, d->end);
	if (!strcmp(reason, "unanswered") ||
	    (c.unanswered_yet && fields_is(f, F_OUTSTANDING, "syn")))
		top_add(&d->unanswered, c.frames[SIDE_CLIENT], "", line, n);
}

static void count_established(struct digest *d, const char *line, size_t n)
{
	const struct fields *f = &d->f;

	d->established++;
	d->syn_again += fields_u64(f, F_SYN_RETRANS) > 0;
	d->synack_again += fields_u64(f, F_SYNACK_RETRANS) > 0;
	if (fields_has(f, F_SERVER_RTT))
		quantiles_add(&d->server, fields_u64(f, F_SERVER_RTT));
	if (fields_has(f, F_CLIENT_RTT))
		quantiles_add(&d->client, fields_u64(f, F_CLIENT_RTT));
	if (!fields_has(f, F_TOTAL))
		return;
	quantiles_add(&d->total, fields_u64(f, F_TOTAL));
	top_add(&d->slowest, fields_u64(f, F_TOTAL), "", line, n);
}

static void count_retry(struct digest *d, const char *line, size_t n)
{
	char name[PEER_NAME];

	(void)line;
	(void)n;
	fields_endpoint(&d->f, F_DEST_IP, true, name, sizeof name);
	peers_at(&d->servers, name)->retries++;
	fields_endpoint(&d->f, F_SRC_IP, false, name, sizeof name);
	peers_at(&d->clients, name)->retries++;
	d->retries[fields_is(&d->f, F_SEGMENT, "syn_ack") ? SIDE_SERVER : SIDE_CLIENT]++;
}

static void count_stuck(struct digest *d, const char *line, size_t n)
{
	char id[TOP_KEY_MAX];

	fields_string(&d->f, F_FLOW_ID, id, sizeof id);
	top_add(&d->stuck, fields_u64(&d->f, F_SILENT), id, line, n);
}

static void count_flood(struct digest *d, const char *line, size_t n)
{
	char id[TOP_KEY_MAX];

	fields_string(&d->f, F_FLOOD_ID, id, sizeof id);
	top_add(&d->floods, fields_u64(&d->f, F_ATTEMPTS), id, line, n);
}

static void count_capture_loss(struct digest *d, const char *line, size_t n)
{
	(void)line;
	(void)n;
	d->frames_lost += fields_u64(&d->f, F_COUNT);
}

static void count_lost(struct digest *d, const char *line, size_t n)
{
	(void)line;
	(void)n;
	d->events_lost += fields_u64(&d->f, F_COUNT);
}

static void keep_stats(struct digest *d, const char *line, size_t n)
{
	char *copy = n < STATS_MAX ? strndup(line, n) : NULL;

	if (!copy)
		return;
	free(d->stats);
	d->stats = copy;
	d->stats_n = n;
}

static const struct counted {
	const char *type;
	bool of_connection; /* the expression chooses it, or not */
	void (*count)(struct digest *d, const char *line, size_t n);
} counted[] = {
	{ "tcp_close", true, count_close }, { "tcp_established", true, count_established },
	{ "tcp_retry", true, count_retry }, { "tcp_stuck", true, count_stuck },
	{ "syn_flood", true, count_flood }, { "capture_loss", false, count_capture_loss },
	{ "lost", false, count_lost },	    { "stats", false, keep_stats },
};

void digest_line(struct digest *d, const char *line, size_t n)
{
	if (!fields_read(&d->f, line, n)) {
		d->garbage++;
		return;
	}
	for (unsigned i = 0; i < ARRAY_SIZE(counted); i++) {
		if (!fields_is(&d->f, F_TYPE, counted[i].type))
			continue;
		if (counted[i].of_connection) {
			if (d->where && !where_line(d->where, line, n))
				return;
			d->events++;
			take_time(d, F_TIMESTAMP, d->first, d->last);
		}
		counted[i].count(d, line, n);
		return;
	}
}

uint64_t digest_stats_sum(const char *line, size_t n, const char *path)
{
	json_t *stats = json_loadb(line, n, 0, NULL), *decoder;
	uint64_t sum = 0;
	size_t i;

	json_array_foreach(json_object_get(stats, "decoders"), i, decoder) sum +=
		js_u64(decoder, path);
	json_decref(stats);
	return sum;
}

uint64_t digest_unassigned(const struct digest *d)
{
	uint64_t sum = d->frames[SIDE_CLIENT] + d->frames[SIDE_SERVER], tcp;

	if (d->where || d->floods.n || !d->stats)
		return 0;
	tcp = digest_stats_sum(d->stats, d->stats_n, "verdicts.tcp");
	return tcp > sum ? tcp - sum : 0;
}
