/* What subscribers want: who gets a slot for an expression, which lines its verdicts choose, and
 * what counts as lost for those who choose. */
#include <jansson.h>
#include "../../daemon/synfind/filters.c"
#include "../../daemon/synfind/linelog.c"
#include "../../daemon/synfind/subscriber.c"
#include "base/cc.h"
#include "base/fmt.h"
#include "format/pseudonym.h"
#include "synfind/linelog_write.h"
#include "tests/support/line_log.h"
#include "tests/support/records.h"
#include "tests/support/tap.h"

enum { ALICE = 1000, BOB, CAROL };
enum { NUMBERS_MAX = 8000, HOSTS = 4, KINDS = 4, NO_LINE = 0xff };

static const uint16_t port_of[] = { 443, 80, 22 };

/* ---- one stream and its filters, as the daemon has them -------------------------------------- */

static struct filter_slot slots[FILTER_SLOTS];
static struct filters filters;
static struct linelog logs[ACCESS_LOGS];
static struct fmt_second second;
static struct pseudonym_key key;
static uint64_t seq;

/* Each event by its number: the truth that subscribers are compared with. */
static struct made {
	uint8_t kind, host;
	uint16_t port;
} made[NUMBERS_MAX + 1];

struct reader {
	struct subscriber s;
	unsigned log;
	int fd;		       /* the other end */
	uint64_t disconnected; /* the last event at that time */
	uint8_t got[NUMBERS_MAX + 1];
	uint64_t losts, lost, lost_first, lost_last, ring_lost; /* by lines `lost` */
	unsigned segments, odd;
	char error[256];
	bool ended;
	size_t n;
	char buf[1 << 17];
};

static struct reader *readers[8];
static unsigned nreaders;

static void filters_begin(void)
{
	filters_destroy(&filters);
	memset(slots, 0, sizeof slots);
	filters.slots = slots;
	seq = 0;
}

static void stream_begin(uint64_t octets)
{
	filters_begin();
	for (unsigned i = 0; i < ACCESS_LOGS; i++) {
		if (log_new(&logs[i], octets) < 0)
			abort();
		logs[i].filters = &filters;
	}
	memset(made, NO_LINE, sizeof made);
}

static void stream_end(void)
{
	while (nreaders) {
		struct reader *r = readers[--nreaders];

		close(r->s.fd);
		close(r->fd);
		free(r->s.record);
		free(r);
	}
	for (unsigned i = 0; i < ACCESS_LOGS; i++)
		log_free(&logs[i]);
}

static int use(unsigned log, uid_t uid, const char *text)
{
	struct where_error error;

	return filters_use(&filters, log, uid, text, strlen(text), seq, &error);
}

/* One of many different expressions. */
static int use_nth(uid_t uid, unsigned n)
{
	char text[32];

	snprintf(text, sizeof text, "dest_port == %u", n);
	return use(ACCESS_ADDRESSES, uid, text);
}

static struct event event_of(unsigned kind, unsigned host, uint16_t port)
{
	return (struct event){
		.kind = (uint8_t)kind,
		.ip_v = 4,
		.ts_ns = 1700000000000000000,
		.addr = { { 10, 0, 0, (uint8_t)(1 + host) }, { 10, 1, 0, 1 } },
		.port = { 40000, port },
		.prev_state_ns = { DURATION_UNKNOWN, DURATION_UNKNOWN },
	};
}

/* The slots whose expressions hold for an event to @port. */
static uint64_t verdicts(unsigned log, uint16_t port)
{
	struct event e = event_of(EVENT_TCP_STATE, 0, port);
	struct json_context c = { .iface = "eth0", .second = &second };

	return filters_event(&filters, log, &e, 1, &c);
}

static uint64_t bit(int slot)
{
	return UINT64_C(1) << slot;
}

/* As the publisher does before each line. */
static void keep_clear(unsigned log)
{
	const struct linelog *l = &logs[log];

	for (unsigned i = 0; i < nreaders; i++) {
		struct reader *r = readers[i];
		struct subscriber_cursor *cursor = &r->s.record->cursor;
		bool closing = cursor->closing;

		if (r->log != log || cursor->at + l->size >= l->end->head + JSON_LINE_MAX)
			continue;
		subscriber_skip(r->s.record, l, NULL, l->end->head + JSON_LINE_MAX - l->size, seq);
		if (cursor->closing && !closing)
			r->disconnected = seq;
	}
}

static void append(unsigned log, const struct event *e, uint64_t number, unsigned endpoints)
{
	struct json_context c = { .iface = "eth0", .second = &second };
	char *p = linelog_reserve(&logs[log], JSON_LINE_MAX);
	struct strbuf t = { .p = p, .end = p + JSON_LINE_MAX };

	json_event(&t, e, number, &c);
	linelog_append(
		&logs[log], (size_t)(t.p - p),
		(struct linelog_mark){ .seq = endpoints ? number : number - 1,
				       .kind = e->kind,
				       .endpoints = endpoints,
				       .bits = filters_event(&filters, log, e, number, &c) });
}

static void publish(unsigned kind, unsigned host, uint16_t port)
{
	struct event e = event_of(kind, host, port);

	for (unsigned log = 0; log < ACCESS_LOGS; log++)
		keep_clear(log);
	if (++seq > NUMBERS_MAX)
		abort();
	made[seq] = (struct made){ (uint8_t)kind, (uint8_t)host, port };
	append(ACCESS_ADDRESSES, &e, seq, 0);
	pseudonym_event(&key, &e);
	append(ACCESS_PSEUDONYMS, &e, seq, 0);
}

static void publish_random(unsigned n)
{
	while (n--)
		publish(below(KINDS), below(HOSTS), port_of[below(ARRAY_SIZE(port_of))]);
}

/* Events without lines: the decoder's ring was full. */
static void publish_ring_loss(unsigned n)
{
	char *p;
	struct strbuf t;

	keep_clear(ACCESS_ADDRESSES);
	p = linelog_reserve(&logs[ACCESS_ADDRESSES], JSON_LINE_MAX);
	t = (struct strbuf){ .p = p, .end = p + JSON_LINE_MAX };
	json_lost(&t, n, seq + 1, seq + n, "ring", 0);
	linelog_append(&logs[ACCESS_ADDRESSES], (size_t)(t.p - p),
		       (struct linelog_mark){ .seq = seq, .kind = LINE_LOST });
	seq += n;
}

/* A segment of a connection that endpoint 0 is part of. */
static void publish_segment(uint16_t port)
{
	struct event e = event_of(EVENT_TCP_SEGMENT, 0, port);

	keep_clear(ACCESS_ADDRESSES);
	append(ACCESS_ADDRESSES, &e, seq, 1);
}

/* ---- a subscriber ---------------------------------------------------------------------------- */

static void answer(void *arg, struct strbuf *t, uint64_t next)
{
	struct json_subscribed s = { .host = "h", .run_id = "r", .policy = arg };

	json_subscribed(t, &s, next, 0);
}

static void ask(struct reader *r, struct subscription want, bool has_from, uint64_t from)
{
	struct subscriber_change change = { .want = want,
					    .has_from = has_from,
					    .from = from,
					    .gap = LOSS_REPLAY,
					    .answer = answer,
					    .arg = "drop_oldest" };

	if (subscriber_change(r->s.record, &logs[r->log], NULL, &change, seq) < 0)
		abort();
}

/* One that wants these from now on. */
static struct reader *join(unsigned log, struct subscription want)
{
	struct reader *r = calloc(1, sizeof *r);
	int fds[2];

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds) < 0)
		abort();
	r->log = log;
	r->fd = fds[1];
	r->s = (struct subscriber){ .fd = fds[0],
				    .is_socket = true,
				    .record = calloc(1, sizeof *r->s.record) };
	r->s.record->cursor.at = logs[log].end->head;
	ask(r, want, false, 0);
	return readers[nreaders++] = r;
}

static struct subscription chosen(uint32_t kinds, int filter)
{
	return (struct subscription){ .kinds = kinds, .filter = (uint8_t)filter };
}

static uint64_t number(const json_t *j, const char *name)
{
	return (uint64_t)json_integer_value(json_object_get(j, name));
}

static void take_lost(struct reader *r, const json_t *j)
{
	if (!strcmp(json_string_value(json_object_get(j, "reason")), "ring")) {
		r->ring_lost += number(j, "count");
		return;
	}
	r->lost_first = r->losts++ ? r->lost_first : number(j, "first_seq");
	r->lost_last = number(j, "last_seq");
	r->lost += number(j, "count");
}

static void take_line(struct reader *r, const char *p, size_t n)
{
	json_t *j = json_loadb(p, n, 0, NULL);
	const char *type = json_string_value(json_object_get(j, "event_type"));
	uint64_t at = number(j, "seq");

	if (!type || r->ended || at > NUMBERS_MAX)
		r->odd++;
	else if (!strcmp(type, "lost"))
		take_lost(r, j);
	else if (!strcmp(type, "tcp_segment"))
		r->segments++;
	else if (!strcmp(type, "error"))
		snprintf(r->error, sizeof r->error, "%s",
			 json_string_value(json_object_get(j, "error")));
	else if (strcmp(type, "subscribed"))
		r->got[at]++;
	json_decref(j);
}

/* Until everything is there. */
static void drain(struct reader *r)
{
	enum subscriber_verdict v;
	ssize_t n;

	do {
		v = subscriber_send(&r->s, &logs[r->log], NULL, 0);
		while ((n = read(r->fd, r->buf + r->n, sizeof r->buf - r->n)) > 0) {
			size_t begin = 0;

			r->n += (size_t)n;
			for (char *nl; (nl = memchr(r->buf + begin, '\n', r->n - begin));) {
				size_t end = (size_t)(nl - r->buf) + 1;

				take_line(r, r->buf + begin, end - begin);
				begin = end;
			}
			memmove(r->buf, r->buf + begin, r->n -= begin);
		}
	} while (v == SUBSCRIBER_WAITS);
	r->ended = v == SUBSCRIBER_GONE;
}

/* What a subscriber asked for, in other words than its expression. */
struct wish {
	uint32_t kinds;
	uint16_t port; /* 0: any */
	int host;      /* -1: any */
};

static bool wished(const struct wish *w, uint64_t i)
{
	const struct made *m = &made[i];

	return m->kind != NO_LINE && w->kinds >> m->kind & 1 && (!w->port || m->port == w->port) &&
	       (w->host < 0 || m->host == w->host);
}

/* Of the events after @from up to @to. */
struct tally {
	uint64_t got, missing, first, last; /* what was wished; first and last missing one */
	uint64_t wrong;			    /* others that came, and what came twice */
};

static struct tally tally(const struct reader *r, struct wish w, uint64_t from, uint64_t to)
{
	struct tally t = { .wrong = r->odd + r->n };

	for (uint64_t i = from + 1; i <= to; i++) {
		bool is_missing = wished(&w, i) && !r->got[i];

		t.got += r->got[i];
		t.wrong += r->got[i] > wished(&w, i);
		t.missing += is_missing;
		t.first = is_missing && !t.first ? i : t.first;
		t.last = is_missing ? i : t.last;
	}
	return t;
}

/* It has what it wished for, all of it, and nothing else. */
static bool has_exactly(const struct reader *r, struct wish w, uint64_t from)
{
	struct tally t = tally(r, w, from, seq), before = tally(r, (struct wish){ 0 }, 0, from);

	return t.got && !t.wrong && !t.missing && !before.wrong && !r->losts && !r->error[0];
}

/* ---- slots ----------------------------------------------------------------------------------- */

static void test_slots(void)
{
	struct where_error error = { 0 };
	int https, http, shorter, longer, masked;
	uint64_t active;

	filters_begin();
	https = use(ACCESS_ADDRESSES, ALICE, "dest_port == 443");
	http = use(ACCESS_ADDRESSES, ALICE, "dest_port == 80");
	ok(https >= 0 && http >= 0 && https != http, "each different expression gets a slot");
	ok(use(ACCESS_ADDRESSES, ALICE, "dest_port == 80") == http &&
		   use(ACCESS_ADDRESSES, BOB, "dest_port == 443") == https,
	   "an equal expression shares the slot, of the same user and of another one");
	shorter = use(ACCESS_ADDRESSES, ALICE, "dest_port == 44");
	longer = use(ACCESS_ADDRESSES, ALICE, "dest_port == 4430");
	ok(shorter >= 0 && longer >= 0 && shorter != https && longer != https &&
		   longer != shorter && verdicts(ACCESS_ADDRESSES, 44) == bit(shorter),
	   "the beginning of an expression is another one, and so is a longer one");
	masked = use(ACCESS_PSEUDONYMS, BOB, "dest_port == 80");
	ok(masked >= 0 && masked != http,
	   "those who see pseudonyms do not share a slot with those who see addresses");
	ok(verdicts(ACCESS_ADDRESSES, 80) == bit(http) &&
		   verdicts(ACCESS_PSEUDONYMS, 80) == bit(masked),
	   "an event has a bit for each expression that holds, of its own log only");
	active = filters.active[ACCESS_ADDRESSES];
	ok(filters_use(&filters, ACCESS_ADDRESSES, BOB, "dest_prt == 80", 14, 0, &error) ==
			   -EINVAL &&
		   error.at == 1 && error.text[0] && filters.active[ACCESS_ADDRESSES] == active,
	   "a wrong expression gets no slot, and the error says where");
}

static void test_quota_of_a_user(void)
{
	unsigned refused = 0;
	uint64_t active;
	int first;

	filters_begin();
	first = use_nth(ALICE, 1);
	for (unsigned i = 2; i <= FILTERS_PER_UID; i++)
		refused += use_nth(ALICE, i) < 0;
	ok(first >= 0 && !refused, "a user gets %d different expressions", FILTERS_PER_UID);
	active = filters.active[ACCESS_ADDRESSES];
	ok(use_nth(ALICE, 100) == -EDQUOT &&
		   use(ACCESS_PSEUDONYMS, ALICE, "dest_port == 1") == -EDQUOT &&
		   filters.active[ACCESS_ADDRESSES] == active && !filters.active[ACCESS_PSEUDONYMS],
	   "the next one is refused, in whichever log, and takes no slot");
	ok(use_nth(BOB, 200) >= 0, "what one user has does not count for another");
	ok(use_nth(ALICE, 200) >= 0 && use_nth(ALICE, 1) == first,
	   "who is at the limit may still share what is there");
	filters_release(&filters, (unsigned)first);
	ok(use_nth(ALICE, 100) == -EDQUOT, "what is still shared still counts");
	filters_release(&filters, (unsigned)first);
	ok(use_nth(ALICE, 100) >= 0 && use_nth(ALICE, 101) == -EDQUOT,
	   "what was released makes space for one, and for no more");
}

static void test_quota_of_all(void)
{
	unsigned refused = 0;
	uint64_t taken = 0;
	int fifth = -1;

	filters_begin();
	for (unsigned i = 0; i < FILTER_SLOTS; i++) {
		int slot = use_nth(ALICE + i / FILTERS_PER_UID, i);

		refused += slot < 0;
		taken |= slot < 0 ? 0 : bit(slot);
		fifth = i == 5 ? slot : fifth;
	}
	ok(!refused && taken == UINT64_MAX, "all users together get %d different expressions",
	   FILTER_SLOTS);
	ok(use_nth(ALICE + FILTER_SLOTS, 100) == -ENOSPC && use_nth(ALICE, 100) == -ENOSPC,
	   "the next one is refused, whoever asks");
	ok(use_nth(ALICE + FILTER_SLOTS, 5) == fifth, "one that is there is shared");
	ok(verdicts(ACCESS_ADDRESSES, 5) == bit(fifth), "each of them has its own bit");
	filters_release(&filters, (unsigned)fifth);
	filters_release(&filters, (unsigned)fifth);
	ok(use_nth(ALICE + FILTER_SLOTS, 100) == fifth &&
		   use_nth(ALICE + FILTER_SLOTS, 101) == -ENOSPC,
	   "a slot that was released is the next one's");
}

static void test_release(void)
{
	int https, http;

	filters_begin();
	https = use(ACCESS_ADDRESSES, ALICE, "dest_port == 443");
	use(ACCESS_ADDRESSES, BOB, "dest_port == 443");
	filters_release(&filters, (unsigned)https);
	http = use(ACCESS_ADDRESSES, CAROL, "dest_port == 80");
	ok(http != https && verdicts(ACCESS_ADDRESSES, 443) == bit(https),
	   "the first who leaves does not take the slot from those who share it");
	filters_release(&filters, FILTER_NONE);
	ok(verdicts(ACCESS_ADDRESSES, 443) == bit(https) &&
		   verdicts(ACCESS_ADDRESSES, 80) == bit(http),
	   "who has no expression releases nothing");
	filters_release(&filters, (unsigned)https);
	ok(!verdicts(ACCESS_ADDRESSES, 443), "a slot without users is not evaluated");
	ok(use(ACCESS_PSEUDONYMS, CAROL, "dest_port == 22") == https &&
		   !verdicts(ACCESS_ADDRESSES, 22) && verdicts(ACCESS_PSEUDONYMS, 22) == bit(https),
	   "the next expression gets it, of whichever log");
}

/* The memory stays; what was compiled goes. */
static void next_process(void)
{
	filters_destroy(&filters);
	filters.slots = slots;
}

static void test_resume(void)
{
	int https, masked, idle;
	unsigned refused = 0;

	filters_begin();
	https = use(ACCESS_ADDRESSES, ALICE, "dest_port == 443");
	masked = use(ACCESS_PSEUDONYMS, BOB, "dest_port == 443");
	idle = use(ACCESS_ADDRESSES, ALICE, "dest_port == 80");
	next_process();
	ok(!filters_resume(&filters, (unsigned)https, ACCESS_PSEUDONYMS) &&
		   !filters_resume(&filters, (unsigned)masked, ACCESS_ADDRESSES) &&
		   !filters.active[ACCESS_ADDRESSES] && !filters.active[ACCESS_PSEUDONYMS],
	   "after a restart nobody resumes the slot of the other log");
	ok(!filters_resume(&filters, FILTER_NONE, ACCESS_ADDRESSES) &&
		   !filters_resume(&filters, UINT8_MAX, ACCESS_ADDRESSES),
	   "nor a slot that there is not");
	slots[10] = slots[11] = slots[https];
	slots[10].octets = WHERE_TEXT_MAX + 1;
	slots[11].text[0] = '(';
	ok(!filters_resume(&filters, 10, ACCESS_ADDRESSES) &&
		   !filters_resume(&filters, 11, ACCESS_ADDRESSES) &&
		   !filters.active[ACCESS_ADDRESSES],
	   "nor one whose text is damaged");
	ok(filters_resume(&filters, (unsigned)https, ACCESS_ADDRESSES) &&
		   filters_resume(&filters, (unsigned)https, ACCESS_ADDRESSES) &&
		   verdicts(ACCESS_ADDRESSES, 443) == bit(https),
	   "those who shared a slot resume it");
	ok(use(ACCESS_ADDRESSES, CAROL, "dest_port == 443") == https, "and others share it");
	filters_release(&filters, (unsigned)https);
	filters_release(&filters, (unsigned)https);
	ok(verdicts(ACCESS_ADDRESSES, 443) == bit(https), "each of them releases it for itself");
	for (unsigned i = 1; i < FILTERS_PER_UID; i++)
		refused += use_nth(ALICE, i) < 0;
	ok(!refused && filters.active[ACCESS_ADDRESSES] & bit(idle) &&
		   use_nth(ALICE, 100) == -EDQUOT,
	   "a slot that nobody resumed is free and counts for nobody; a resumed one counts");
	filters_release(&filters, (unsigned)https);
	ok(!verdicts(ACCESS_ADDRESSES, 443), "the last one frees it");
}

/* ---- verdicts -------------------------------------------------------------------------------- */

/* Any event, by its record and by its line. */
static void test_both_getters(void)
{
	static const char *const texts[] = {
		"dest_port == 443",
		"src_ip == '10.0.0.0'",
		"event_type in ['tcp_open', 'tcp_stuck']",
		"tcp.client_state != 'established'",
		"has(tcp.handshake.total_ns) || seq > 1000",
		"tcp.reason == 'fin'",
	};
	unsigned differ = 0, holds = 0;
	char line[JSON_LINE_MAX];

	filters_begin();
	for (unsigned i = 0; i < ARRAY_SIZE(texts); i++)
		differ += use(ACCESS_PSEUDONYMS, ALICE, texts[i]) != (int)i;
	for (unsigned i = 0; i < 3000; i++) {
		struct json_context c = random_context(&second);
		struct event e = random_event(below(EVENT_KINDS));
		struct strbuf t = { .p = line, .end = line + sizeof line };
		uint64_t n = 1 + below(2000), bits;

		json_event(&t, &e, n, &c);
		bits = filters_event(&filters, ACCESS_PSEUDONYMS, &e, n, &c);
		holds += (unsigned)__builtin_popcountll(bits);
		differ += bits !=
			  filters_line(&filters, ACCESS_PSEUDONYMS, line, (size_t)(t.p - line));
		differ += filters_event(&filters, ACCESS_ADDRESSES, &e, n, &c) ||
			  filters_line(&filters, ACCESS_ADDRESSES, line, (size_t)(t.p - line));
	}
	ok(!differ && holds > 1000,
	   "the verdicts on an event are the same by its record and by its line");
}

/* Reuse of a slot: its bits beside older lines are those of another expression. */
static void test_since(void)
{
	const struct linelog *l = &logs[ACCESS_ADDRESSES];
	const struct wish http_wish = { LINES_EVENTS, 80, -1 };
	struct subscription want;
	struct reader *r, *late, *old;
	unsigned parsed_old = 0, parsed_new = 0, parsed_pass = 0;
	uint64_t before;
	int https, http;

	stream_begin(1 << 18);
	publish_random(100);
	https = use(ACCESS_ADDRESSES, ALICE, "dest_port == 443");
	old = join(ACCESS_ADDRESSES, chosen(LINES_EVENTS, https));
	publish_random(100);
	drain(old);
	ok(has_exactly(old, (struct wish){ LINES_EVENTS, 443, -1 }, 100),
	   "with an expression, a subscriber gets its events from then on, and no others");
	filters_release(&filters, (unsigned)https);
	nreaders--;
	http = use(ACCESS_ADDRESSES, BOB, "dest_port == 80");
	want = chosen(LINES_EVENTS, http);
	before = seq;
	r = join(ACCESS_ADDRESSES, want);
	ask(r, want, true, 0);
	publish_random(100);
	drain(r);
	ok(http == https && has_exactly(r, http_wish, 0),
	   "lines from before the slot was reused are judged by their text");
	for (uint64_t i = 0; i < seq; i++) {
		bool parsed;

		linelog_wants(l, i, &want, &parsed);
		parsed_old += parsed && i < before;
		parsed_new += parsed && i >= before;
		parsed_pass += linelog_pass(l, i, i + 1, &want) == i && i < before;
	}
	ok(parsed_old == before && parsed_pass == before,
	   "all of them: those of no expression, and those of another one");
	ok(!parsed_new, "from its first event on, a slot's bits are enough");
	next_process();
	filters_resume(&filters, (unsigned)http, ACCESS_ADDRESSES);
	late = join(ACCESS_ADDRESSES, want);
	ask(late, want, true, 50);
	publish_random(100);
	drain(late);
	drain(r);
	ok(has_exactly(r, http_wish, 0) && has_exactly(late, http_wish, 50),
	   "a restart changes nothing in what is chosen, of old lines and of new ones");
	readers[nreaders++] = old;
	stream_end();
}

static void pseudonym_of_host(unsigned host, char text[static 64])
{
	struct event e = event_of(EVENT_TCP_OPEN, host, 80);

	pseudonym_event(&key, &e);
	snprintf(text, 64, "src_ip == '%u.%u.%u.%u'", e.addr[0][0], e.addr[0][1], e.addr[0][2],
		 e.addr[0][3]);
}

static void test_masked(void)
{
	const struct wish host_1 = { LINES_EVENTS, 0, 1 };
	const char *real = "src_ip == '10.0.0.2'"; /* of host 1 */
	struct reader *plain, *guess, *masked, *guess_old, *masked_old;
	int by_address, by_real, by_pseudonym;
	char text[64];
	unsigned same = 0;

	stream_begin(1 << 18);
	for (unsigned i = 0; i < HOSTS; i++) {
		pseudonym_of_host(i, text);
		same += !strcmp(text, real);
	}
	pseudonym_of_host(1, text);
	publish_random(50);
	by_address = use(ACCESS_ADDRESSES, ALICE, real);
	by_real = use(ACCESS_PSEUDONYMS, BOB, real);
	by_pseudonym = use(ACCESS_PSEUDONYMS, BOB, text);
	plain = join(ACCESS_ADDRESSES, chosen(LINES_EVENTS, by_address));
	guess = join(ACCESS_PSEUDONYMS, chosen(LINES_EVENTS, by_real));
	masked = join(ACCESS_PSEUDONYMS, chosen(LINES_EVENTS, by_pseudonym));
	guess_old = join(ACCESS_PSEUDONYMS, chosen(LINES_EVENTS, by_real));
	masked_old = join(ACCESS_PSEUDONYMS, chosen(LINES_EVENTS, by_pseudonym));
	ask(guess_old, guess_old->s.record->cursor.want, true, 0);
	ask(masked_old, masked_old->s.record->cursor.want, true, 0);
	publish_random(100);
	for (unsigned i = 0; i < nreaders; i++)
		drain(readers[i]);
	ok(has_exactly(plain, host_1, 50), "an address finds its events for who sees addresses");
	ok(!same && !tally(guess, host_1, 0, seq).got && !tally(guess_old, host_1, 0, seq).got,
	   "it finds nothing for who sees pseudonyms, neither in old lines nor in new ones");
	ok(has_exactly(masked, host_1, 50) && has_exactly(masked_old, host_1, 0),
	   "a pseudonym finds its events there, old and new");
	stream_end();
}

static void test_kinds(void)
{
	const struct wish open_80 = { 1u << EVENT_TCP_OPEN, 80, -1 };
	struct reader *each[KINDS], *all, *none, *both, *segments;
	struct subscription want;
	unsigned wrong = 0, unreported = 0, unasked = 0;
	int http;

	stream_begin(1 << 18);
	http = use(ACCESS_ADDRESSES, ALICE, "dest_port == 80");
	for (unsigned i = 0; i < KINDS; i++)
		each[i] = join(ACCESS_ADDRESSES, chosen(1u << i, FILTER_NONE));
	all = join(ACCESS_ADDRESSES, subscription_default);
	none = join(ACCESS_ADDRESSES, chosen(0, FILTER_NONE));
	both = join(ACCESS_ADDRESSES, chosen(open_80.kinds, http));
	want = chosen(0, http);
	want.endpoints = 1;
	segments = join(ACCESS_ADDRESSES, want);
	publish_random(100);
	publish_ring_loss(7);
	publish_random(100);
	for (unsigned i = 0; i < 9; i++)
		publish_segment(port_of[i % ARRAY_SIZE(port_of)]);
	for (unsigned i = 0; i < nreaders; i++)
		drain(readers[i]);
	for (unsigned i = 0; i < KINDS; i++)
		wrong += !has_exactly(each[i], (struct wish){ 1u << i, 0, -1 }, 0);
	ok(!wrong, "who asks for one kind gets all lines of that kind, and no others");
	ok(has_exactly(all, (struct wish){ LINES_EVENTS, 0, -1 }, 0), "who does not ask gets all");
	ok(has_exactly(both, open_80, 0), "a line must be of a kind and pass the expression");
	for (unsigned i = 0; i < nreaders; i++)
		unreported += readers[i]->ring_lost != 7 || readers[i]->losts;
	ok(!unreported && !tally(none, (struct wish){ 0 }, 0, seq).wrong,
	   "events that were lost before anyone saw them are reported to everyone");
	for (unsigned i = 0; i < nreaders; i++)
		unasked += readers[i] != segments && readers[i]->segments;
	ok(!unasked && segments->segments == 3 &&
		   !tally(segments, (struct wish){ 0 }, 0, seq).wrong,
	   "segments come to who asked for their endpoint, by the expression, whatever the kinds");
	stream_end();
}

/* ---- losses ---------------------------------------------------------------------------------- */

/* It was overtaken: its `lost` lines say what of its own it has not got. */
static bool loss_is_exact(const struct reader *r, struct wish w)
{
	struct tally t = tally(r, w, 0, seq);

	return t.got && t.missing && !t.wrong && !r->error[0] && r->losts == 1 &&
	       r->lost == t.missing && r->lost_first == t.first && r->lost_last == t.last &&
	       r->s.record->cursor.lost_total == t.missing;
}

static void test_lost(void)
{
	const struct wish state_80 = { 1u << EVENT_TCP_STATE, 80, -1 };
	struct reader *oldest, *newest, *young, *kind, *unhurt;
	struct subscription want;
	int http, young_80;

	stream_begin(1 << 18);
	http = use(ACCESS_ADDRESSES, ALICE, "dest_port == 80");
	want = chosen(state_80.kinds, http);
	oldest = join(ACCESS_ADDRESSES, want);
	kind = join(ACCESS_ADDRESSES, chosen(state_80.kinds, FILTER_NONE));
	unhurt = join(ACCESS_ADDRESSES, chosen(1u << EVENT_TCP_STUCK, http));
	want.policy = POLICY_DROP_NEWEST;
	newest = join(ACCESS_ADDRESSES, want);
	publish_random(100);
	for (unsigned i = 0; i < nreaders; i++)
		drain(readers[i]);
	publish_random(200);
	young_80 = use(ACCESS_ADDRESSES, BOB, "80 == dest_port");
	young = join(ACCESS_ADDRESSES, chosen(state_80.kinds, young_80));
	ask(young, young->s.record->cursor.want, true, 0);
	publish_random(2500); /* what drop_newest keeps aside is full, too */
	publish(EVENT_TCP_STUCK, 0, 80);
	for (unsigned i = 0; i < nreaders; i++)
		drain(readers[i]);
	ok(loss_is_exact(oldest, state_80),
	   "lost counts only what kinds and expression wanted; first and last are such events");
	ok(loss_is_exact(newest, state_80), "so with drop_newest");
	ok(loss_is_exact(kind, (struct wish){ state_80.kinds, 0, -1 }), "so with kinds alone");
	ok(loss_is_exact(young, state_80), "so if a part of it is older than the expression");
	ok(has_exactly(unhurt, (struct wish){ 1u << EVENT_TCP_STUCK, 80, -1 }, 0) &&
		   !unhurt->s.record->cursor.lost_total,
	   "who was overtaken only by what it did not want has lost nothing");
	stream_end();
}

/* Its last line says exactly what it has not got of what it wanted, up to its end. */
static bool end_is_exact(const struct reader *r, struct wish w)
{
	struct tally t = tally(r, w, 0, r->disconnected);
	unsigned long long said = 0;

	sscanf(r->error, "too slow: %llu events", &said);
	if (said != t.missing)
		printf("# %s; missing %llu\n", r->error, (unsigned long long)t.missing);
	return r->ended && t.got && t.missing > 0 && !t.wrong && !r->losts && said == t.missing &&
	       r->s.record->cursor.lost_total == t.missing;
}

static void test_disconnect(void)
{
	const struct wish state_80 = { 1u << EVENT_TCP_STATE, 80, -1 };
	struct reader *all, *some, *unhurt, *segments;
	struct subscription want = subscription_default;
	unsigned long long said = 0;
	int http;

	stream_begin(1 << 20);
	http = use(ACCESS_ADDRESSES, ALICE, "dest_port == 80");
	want.policy = POLICY_DISCONNECT;
	all = join(ACCESS_ADDRESSES, want);
	want = chosen(state_80.kinds, http);
	want.policy = POLICY_DISCONNECT;
	some = join(ACCESS_ADDRESSES, want);
	want.kinds = 1u << EVENT_TCP_STUCK;
	unhurt = join(ACCESS_ADDRESSES, want);
	want.endpoints = 1;
	segments = join(ACCESS_ADDRESSES, want);
	publish_random(300);
	for (unsigned i = 0; i < nreaders; i++)
		drain(readers[i]);
	for (unsigned i = 0; i < 6; i++)
		publish_segment(port_of[i % ARRAY_SIZE(port_of)]);
	publish_random(6000);
	for (unsigned i = 0; i < nreaders; i++)
		drain(readers[i]);
	ok(*logs[ACCESS_ADDRESSES].mark_first > 2000 && all->disconnected &&
		   all->disconnected < seq,
	   "with the policy to disconnect, who is overtaken is disconnected then");
	ok(end_is_exact(all, (struct wish){ LINES_EVENTS, 0, -1 }),
	   "its last line counts all that it has not got, the rest of the log too");
	ok(some->disconnected && end_is_exact(some, state_80),
	   "of who chooses, it counts only what was wanted");
	sscanf(segments->error, "too slow: %llu events", &said);
	ok(segments->ended && said == 2, "lost segments count as well, and disconnect alone");
	ok(!unhurt->ended && !unhurt->disconnected && !unhurt->error[0] && !unhurt->losts,
	   "who was overtaken only by what it did not want stays connected");
	publish(EVENT_TCP_STUCK, 0, 443);
	publish(EVENT_TCP_STUCK, 0, 80);
	drain(unhurt);
	ok(has_exactly(unhurt, (struct wish){ 1u << EVENT_TCP_STUCK, 80, -1 }, 0) &&
		   !unhurt->s.record->cursor.lost_total,
	   "and gets what it wants, later");
	stream_end();
}

int main(void)
{
	uint8_t octets[PSEUDONYM_KEY_OCTETS];

	alarm(60);
	rng = tap_seed(64);
	for (unsigned i = 0; i < sizeof octets; i++)
		octets[i] = (uint8_t)(i * 7 + 1);
	key = pseudonym_key_of(octets);
	test_slots();
	test_quota_of_a_user();
	test_quota_of_all();
	test_release();
	test_resume();
	test_both_getters();
	test_since();
	test_masked();
	test_kinds();
	test_lost();
	test_disconnect();
	filters_destroy(&filters);
	return tap_done();
}
