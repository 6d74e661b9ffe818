/* A tracker whose process ends anywhere in a transaction: what was done is put back, octet for
 * octet, and done again it reports the same. */
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>
#include "base/cc.h"
#include "base/undo.h"
#include "bpf/bypass.h"
#include "flow/bypass.h"
#include "flow/tracker.h"
#include "flow/tracker_state.h"
#include "tests/support/rand.h"
#include "tests/support/tap.h"

static const uint64_t ms = 1000000, second = 1000000000, start_ns = 1700000000000000000;

/* ---- a tracker and what it reported ---------------------------------------------------------- */

enum { EVENTS = 4096, LOG_OCTETS = 1 << 21 };

/* As a decoder keeps it: saved completely at the start of each transaction. */
struct front {
	struct tracker_counters count;
	uint32_t events; /* reported in this transaction */
	bool closing;	 /* all that is open, and not through with it */
};

struct rig {
	struct event_sink sink; /* first */
	struct tracker_config cfg;
	struct undo undo;
	unsigned char *region; /* shared: front, tracker; then the log */
	size_t octets;	       /* without the log */
	struct front *front;
	struct tracker *t;
	struct event *event; /* shared */
};

static void *memory_new(size_t octets)
{
	void *p = mmap(NULL, octets, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED)
		abort();
	return p;
}

static struct event *rig_reserve(struct event_sink *s)
{
	struct rig *r = (struct rig *)s;

	if (r->front->events == EVENTS)
		abort();
	return memset(&r->event[r->front->events], 0, sizeof *r->event);
}

static void rig_commit(struct event_sink *s)
{
	((struct rig *)s)->front->events++;
}

static struct rig *rig_new(uint32_t max_connections, uint32_t max_half_open, bool control)
{
	static const uint64_t timeout_s[FSM_TIMEOUTS] = { 20, 30, 400, 300, 200, 60, 10 };
	struct rig *r = calloc(1, sizeof *r);

	r->sink = (struct event_sink){ .reserve = rig_reserve, .commit = rig_commit };
	r->cfg = (struct tracker_config){ .max_connections = max_connections,
					  .max_half_open = max_half_open,
					  .anomalies_per_connection = 8,
					  .anomalies_per_second = 20,
					  .flood_half_open = 20,
					  .flood_rate = 5,
					  .flood_interval_ns = 2 * second,
					  .undo = &r->undo,
					  .control = control };
	for (unsigned i = 0; i < ARRAY_SIZE(r->cfg.secret.k); i++)
		r->cfg.secret.k[i] = i * 0x9e3779b97f4a7c15 + 1;
	for (unsigned i = 0; i < FSM_TIMEOUTS; i++)
		r->cfg.timeout_ns[i] = timeout_s[i] * second;
	r->octets = LINE_UP(sizeof *r->front) + LINE_UP(tracker_memory(&r->cfg));
	r->region = memory_new(r->octets + LOG_OCTETS);
	r->event = memory_new(EVENTS * sizeof *r->event);
	r->front = (struct front *)r->region;
	undo_init(&r->undo, r->region, r->octets, r->region + r->octets, LOG_OCTETS);
	r->t = tracker_new(&r->cfg, r->region + LINE_UP(sizeof *r->front), &r->sink,
			   &r->front->count);
	return r;
}

static void rig_free(struct rig *r)
{
	tracker_free(r->t);
	munmap(r->region, r->octets + LOG_OCTETS);
	munmap(r->event, EVENTS * sizeof *r->event);
	free(r);
}

/* ---- what happens to it ---------------------------------------------------------------------- */

enum { PAIRS_MAX = 4000 };

struct world { /* of whom the segments come */
	unsigned pairs;
	bool flooding; /* one server gets SYNs, and few handshakes complete */
	uint64_t now;
	struct {
		uint32_t isn[2], next[2];
	} end[PAIRS_MAX];
};

enum kind { FEED, UNREACHABLE, ADVANCE, LOSS, STEP, CLOSE };

struct deed {
	enum kind kind;
	unsigned n;
	struct segment s[TRACKER_BATCH];
	uint64_t from_ns, now_ns;
	uint32_t count;
};

/* Mostly what fits; at times what does not. */
static struct segment random_segment(struct world *w)
{
	static const unsigned flags[] = { TCP_SYN,	     TCP_SYN | TCP_ACK, TCP_ACK,
					  TCP_ACK,	     TCP_ACK,		TCP_ACK | TCP_PSH,
					  TCP_FIN | TCP_ACK, TCP_FIN | TCP_ACK, TCP_RST,
					  TCP_RST | TCP_ACK, TCP_SYN,		TCP_ACK };
	static const uint32_t off[] = { 1, (uint32_t)-1, 2, 100, 70000, 1u << 31, (uint32_t)-500 };
	unsigned pair = below(3) ? below(w->pairs) : below(w->pairs < 8 ? w->pairs : 8);
	unsigned from = below(2), f = flags[below(ARRAY_SIZE(flags))];
	bool candidate = !below(8);

	if (w->flooding && below(8)) {
		pair = below(w->pairs) / 4 * 4;
		from = below(6) ? 0 : 1;
		f = from ? TCP_SYN | TCP_ACK : TCP_SYN;
	}
	bool syn = f & TCP_SYN;
	struct segment s = {
		.ip_v = pair % 2 ? 6 : 4, .window = 60000, .wire_segs = 1, .ts_ns = w->now
	};

	if (syn && !below(12)) /* another incarnation, or a forgery */
		w->end[pair].isn[from] = (uint32_t)rand64();
	s.flags = (uint16_t)(candidate && !below(4) ? below(256) : f);
	s.seq = syn ? w->end[pair].isn[from] : w->end[pair].next[from];
	s.ack = w->end[pair].next[!from];
	s.payload_len = !syn && f & TCP_ACK && !below(3) ? below(3000) : 0;
	if (candidate && below(2))
		s.seq += off[below(ARRAY_SIZE(off))];
	else if (candidate)
		s.ack += off[below(ARRAY_SIZE(off))];
	s.wire_len = 54 + s.payload_len;
	/* Servers in plenty, and one that many ask. */
	memcpy(from ? s.dst : s.src, (uint8_t[4]){ 10, 1, (uint8_t)(pair >> 8), (uint8_t)pair }, 4);
	memcpy(from ? s.src : s.dst, (uint8_t[4]){ 10, 2, 0, pair % 4 ? (uint8_t)pair : 1 }, 4);
	if (s.ip_v == 6)
		s.src[15] = s.dst[15] = 1;
	s.sport = from ? 80 : 1000;
	s.dport = from ? 1000 : 80;
	if (pair == 7) { /* one with itself */
		memcpy(s.dst, s.src, sizeof s.dst);
		s.dport = s.sport;
	}
	if (!candidate || !below(4)) { /* the ends believe what they sent */
		if (syn)
			w->end[pair].next[from] = s.seq + 1;
		else if (!(f & TCP_RST) && (int32_t)(segment_end(&s) - w->end[pair].next[from]) > 0)
			w->end[pair].next[from] = segment_end(&s);
	}
	return s;
}

static void random_pause(struct world *w)
{
	unsigned dice = below(10000);

	w->now += 1 + below(dice < 9970	  ? ms
			    : dice < 9990 ? 2 * second
			    : dice < 9998 ? 70 * second
					  : 700 * second);
	if (!below(100000))
		w->now -= 3600 * second;
}

static void random_deed(struct world *w, const struct rig *r, struct deed *ret)
{
	unsigned dice = below(1000);

	if (!below(w->flooding ? 100 : 300))
		w->flooding = !w->flooding;
	ret->kind = r->front->closing	      ? CLOSE
		    : tracker_has_steps(r->t) ? STEP
		    : dice < 900	      ? FEED
		    : dice < 940	      ? UNREACHABLE
		    : dice < 970	      ? ADVANCE
		    : dice < 999	      ? LOSS
					      : CLOSE;
	ret->n = ret->kind == FEED ? 1 + below(below(4) ? 8 : TRACKER_BATCH) : 1;
	for (unsigned i = 0; i < ret->n && ret->kind <= UNREACHABLE; i++) {
		random_pause(w);
		ret->s[i] = random_segment(w);
	}
	ret->now_ns = w->now;
	ret->from_ns = w->now - below(1000) * ms;
	ret->count = 1 + below(9);
}

static void transaction_begin(struct rig *r)
{
	undo_save(&r->undo, r->front, sizeof *r->front);
	tracker_begin(r->t);
	r->front->events = 0;
}

static void transaction(struct rig *r, const struct deed *d)
{
	transaction_begin(r);
	switch (d->kind) {
	case FEED:
		tracker_input(r->t, d->s, d->n);
		break;
	case UNREACHABLE:
		tracker_unreachable(r->t, d->s);
		break;
	case ADVANCE:
		tracker_advance(r->t, d->now_ns);
		break;
	case LOSS:
		tracker_loss(r->t, LOSS_RING_FULL, d->from_ns, d->now_ns, d->count, 1);
		break;
	case STEP:
		tracker_step(r->t);
		break;
	case CLOSE:
		r->front->closing = tracker_close_some(r->t, REASON_CAPTURE_END);
		break;
	}
}

/* ---- what must hold -------------------------------------------------------------------------- */

#define PART(member) offsetof(struct tracker, member), #member

static void say_difference(const struct rig *r, const unsigned char *before, const char *where)
{
	static const struct {
		size_t at;
		const char *name;
	} parts[] = { { PART(cfg) },
		      { PART(now_ns) },
		      { PART(loss) },
		      { PART(incarnation) },
		      { PART(candidate) },
		      { PART(gaps) },
		      { PART(waiting) },
		      { PART(synflood_memory) },
		      { LINE_UP(sizeof(struct tracker)), "the table" } };
	size_t i = 0;

	while (r->region[i] == before[i])
		i++;
	size_t at = i - LINE_UP(sizeof(struct front));
	const char *name = i < LINE_UP(sizeof(struct front)) ? "counters" : "";

	for (unsigned k = 0; k < ARRAY_SIZE(parts) && !*name; k++)
		if (k + 1 == ARRAY_SIZE(parts) || at < parts[k + 1].at)
			name = parts[k].name;
	printf("# %s: octet %zu differs, in %s\n", where, i, name);
}

static bool same_events(const struct rig *a, const struct rig *b)
{
	return a->front->events == b->front->events &&
	       !memcmp(a->event, b->event, a->front->events * sizeof *a->event);
}

/* What was reported, as a number (FNV-1a): support/freeze.py compares it with its former value. */
static const uint64_t hash_begin = 0xcbf29ce484222325;

static void hash_events(uint64_t *h, const struct rig *r)
{
	const unsigned char *p = (const unsigned char *)r->event;

	for (size_t i = 0; i < r->front->events * sizeof *r->event; i++)
		*h = (*h ^ p[i]) * 0x100000001b3;
}

static void say_hash(const char *what, uint64_t h)
{
	printf("# events: %s: %016llx\n", what, (unsigned long long)h);
}

/* In the midst of a batch, to be sure that something was at stake. */
struct tally {
	unsigned rolled_back, wrong, failed, differ, records;
};

static void roll_back(struct rig *r, const struct deed *d, unsigned char *before, struct tally *y)
{
	memcpy(before, r->region, r->octets);
	transaction(r, d);
	y->records += r->undo.log->used > 0;
	y->failed += undo_rollback(&r->undo) != 0;
	y->rolled_back++;
	if (memcmp(before, r->region, r->octets) != 0 && y->wrong++ < 5) {
		say_difference(r, before, "rolled back");
		memcpy(r->region, before, r->octets); /* or it would show for ever */
	}
}

/* Now and then the limits and timeouts change, in both alike. */
static void configure(struct rig *r, unsigned how)
{
	struct tracker_config c = r->cfg;

	c.max_connections = how & 1 ? c.max_connections : c.max_connections / 2;
	c.max_half_open = how & 2 ? c.max_half_open : c.max_half_open / 2;
	for (unsigned i = 0; i < FSM_TIMEOUTS; i++)
		c.timeout_ns[i] = how & 4 ? c.timeout_ns[i] : c.timeout_ns[i] / 3;
	c.flood_half_open = how & 4 ? c.flood_half_open : 0;
	tracker_configure(r->t, &c);
}

static struct world *world_new(unsigned pairs)
{
	struct world *w = calloc(1, sizeof *w);

	w->pairs = pairs;
	w->now = start_ns;
	for (unsigned i = 0; i < pairs; i++)
		for (unsigned side = 0; side < 2; side++)
			w->end[i].next[side] = 1 + (w->end[i].isn[side] = (uint32_t)rand64());
	return w;
}

static void test_rolled_back(uint32_t max_connections, uint32_t max_half_open, unsigned pairs,
			     bool control, unsigned deeds)
{
	struct rig *r = rig_new(max_connections, max_half_open, control);
	struct rig *twin = rig_new(max_connections, max_half_open, control);
	unsigned char *before = memory_new(r->octets);
	struct world *w = world_new(pairs);
	struct tally y = { 0 };
	uint64_t events = 0, hash = hash_begin;
	char what[64];

	for (unsigned i = 0; i < deeds; i++) {
		struct deed d = { 0 };

		random_deed(w, r, &d);
		if (!below(3))
			roll_back(r, &d, before, &y);
		transaction(r, &d);
		undo_commit(&r->undo);
		transaction(twin, &d);
		undo_commit(&twin->undo);
		y.differ += !same_events(r, twin);
		events += r->front->events;
		hash_events(&hash, r);
		if (!below(500)) {
			unsigned how = below(3) ? 7 : below(8);

			configure(r, how);
			configure(twin, how);
		}
	}
	snprintf(what, sizeof what, "tables of %u and %u%s", max_connections, max_half_open,
		 control ? ", control" : "");
	printf("# %s: %llu events, evicted %llu and %llu, %llu anomalies, %llu attempts held\n",
	       what, (unsigned long long)events,
	       (unsigned long long)counter_get(&r->front->count.evicted_full),
	       (unsigned long long)counter_get(&r->front->count.evicted_syn),
	       (unsigned long long)counter_get(&r->front->count.anomalies),
	       (unsigned long long)counter_get(&r->front->count.deferred));
	say_hash(what, hash);
	ok(!y.failed && y.records == y.rolled_back, "%s: %u transactions, each is in the log", what,
	   y.rolled_back);
	ok(!y.wrong, "%s: rolled back, every octet is as it was", what);
	ok(!y.differ && events > deeds / 4,
	   "%s: done again, it tells what an undisturbed one tells", what);
	ok(!memcmp(&r->front->count, &twin->front->count, sizeof r->front->count),
	   "%s: and counts the same", what);
	munmap(before, r->octets);
	rig_free(r);
	rig_free(twin);
	free(w);
}

/* ---- ended at an instruction ----------------------------------------------------------------- */

/* A process that is killed after @steps instructions of @d.  False: it cannot be done here. */
static bool kill_within(struct rig *r, const struct deed *d, unsigned steps)
{
	int status;
	pid_t pid = fork();

	if (!pid) {
		if (ptrace(PTRACE_TRACEME, 0, NULL, NULL) < 0)
			_exit(1);
		raise(SIGSTOP);
		transaction(r, d);
		undo_commit(&r->undo);
		raise(SIGKILL);
	}
	if (pid < 0 || waitpid(pid, &status, 0) != pid)
		return false;

	bool traced = WIFSTOPPED(status);

	for (; traced && steps && WIFSTOPPED(status); steps--)
		if (ptrace(PTRACE_SINGLESTEP, pid, NULL, NULL) < 0 ||
		    waitpid(pid, &status, 0) != pid)
			break;
	kill(pid, SIGKILL);
	if (WIFSTOPPED(status))
		waitpid(pid, &status, 0);
	return traced;
}

static void test_killed(unsigned kills)
{
	struct rig *r = rig_new(40, 30, false), *twin = rig_new(40, 30, false);
	unsigned char *before = memory_new(r->octets), *after = memory_new(r->octets);
	struct world *w = world_new(120);
	struct tally y = { 0 };
	uint64_t hash = hash_begin;
	unsigned open = 0;

	for (unsigned i = 0; i < 40 * kills; i++) {
		struct deed d = { 0 };

		random_deed(w, r, &d);
		if (i % 40 == 39) {
			memcpy(before, r->region, r->octets);
			if (!kill_within(r, &d, below(100) * below(100) + below(200))) {
				tap_skip("a process that is killed at an instruction",
					 "needs ptrace(2)");
				break;
			}
			open += undo_is_open(&r->undo);
			y.failed += undo_rollback(&r->undo) != 0;
			memcpy(after, r->region, r->octets);
			/* It is as it was, or it is done. */
			memcpy(r->region, before, r->octets);
			transaction(r, &d);
			undo_commit(&r->undo);
			if (memcmp(after, before, r->octets) != 0 &&
			    memcmp(after, r->region, r->octets) != 0 && y.wrong++ < 5) {
				memcpy(r->region, after, r->octets);
				say_difference(r, before, "killed");
				memcpy(r->region, before, r->octets);
				transaction(r, &d);
				undo_commit(&r->undo);
			}
		} else {
			transaction(r, &d);
			undo_commit(&r->undo);
		}
		transaction(twin, &d);
		undo_commit(&twin->undo);
		y.differ += !same_events(r, twin);
		hash_events(&hash, twin);
	}
	say_hash("killed", hash);
	printf("# %u of %u within a transaction\n", open, kills);
	ok(!y.failed && !y.wrong && !y.differ && open > kills / 4,
	   "killed at any instruction, %u times: it is rolled back or done, and goes on alike",
	   kills);
	munmap(before, r->octets);
	munmap(after, r->octets);
	rig_free(r);
	rig_free(twin);
	free(w);
}

/* ---- another process continues --------------------------------------------------------------- */

static void test_adopted(void)
{
	struct rig *r = rig_new(40, 30, false), *twin = rig_new(40, 30, false);
	struct world *w = world_new(120);
	struct tracker_config c = r->cfg;
	uint64_t hash = hash_begin;
	unsigned differ = 0;

	for (unsigned i = 0; i < 4000; i++) {
		struct deed d = { 0 };

		random_deed(w, r, &d);
		if (i % 100 == 99) { /* what the process had of it is worth nothing any more */
			memset(r->t, 0xa5, offsetof(struct tracker, now_ns));
			r->t->cfg.secret = c.secret;
			c.secret = (struct hash_key){ { i } };
			r->t = tracker_adopt(&c, r->t, &r->sink, &r->front->count);
			c.secret = r->cfg.secret;
		}
		transaction(r, &d);
		undo_commit(&r->undo);
		transaction(twin, &d);
		undo_commit(&twin->undo);
		differ += !same_events(r, twin);
		hash_events(&hash, r);
	}
	say_hash("adopted", hash);
	ok(!differ, "adopted again and again it goes on, under the same secret");
	c.max_half_open++;
	ok(!tracker_adopt(&c, r->t, &r->sink, &r->front->count), "not for other limits");
	c.max_half_open--;
	r->t->layout ^= 2;
	ok(!tracker_adopt(&c, r->t, &r->sink, &r->front->count), "nor by another version");
	r->t->layout ^= 2;
	r->t->table.head->pool[1].high = r->t->table.head->pool[1].capacity + 1;
	ok(!tracker_adopt(&c, r->t, &r->sink, &r->front->count), "nor with a table that cannot be");
	rig_free(r);
	rig_free(twin);
	free(w);
}

/* ---- what the kernel bypasses is not silent -------------------------------------------------- */

static int bypass_watch(struct bypass_kernel *k, const struct bypass_key *keys, uint32_t slot)
{
	(void)k, (void)keys, (void)slot;
	return 0;
}

static void bypass_forget(struct bypass_kernel *k, const struct bypass_key *keys)
{
	(void)k, (void)keys;
}

static struct segment plain(bool from, uint16_t flags, uint32_t seq, uint32_t ack)
{
	struct segment s = { .ip_v = 4,
			     .flags = flags,
			     .seq = seq,
			     .ack = ack,
			     .sport = from ? 80 : 1000,
			     .dport = from ? 1000 : 80,
			     .window = 60000,
			     .wire_segs = 1,
			     .wire_len = 54,
			     .ts_ns = start_ns };

	s.src[0] = 1 + from;
	s.dst[0] = 2 - from;
	return s;
}

static void test_bypassed(void)
{
	struct bypass_slot *slots = calloc(BYPASS_SLOTS, sizeof *slots);
	struct bypass_kernel kernel = {
		.slots = slots, .after_pkts = 1, .watch = bypass_watch, .forget = bypass_forget
	};
	struct deed feed = { .kind = FEED,
			     .n = 4,
			     .s = { plain(0, TCP_SYN, 100, 0),
				    plain(1, TCP_SYN | TCP_ACK, 500, 101),
				    plain(0, TCP_ACK, 101, 501), plain(1, TCP_ACK, 501, 101) } };
	struct deed advance = { .kind = ADVANCE, .now_ns = start_ns + 3 * second };
	struct rig *r = rig_new(40, 30, false);
	unsigned char *before = memory_new(r->octets);
	struct tally y = { 0 };

	r->t->bypass = bypass_new(&kernel);
	transaction(r, &feed);
	undo_commit(&r->undo);
	slots[0].count[SIDE_A].last_ns = start_ns + second;

	/* Its full entry is the first of IPv4. */
	const struct conn_hot *h = table_hot(&r->t->table, table_slot(SHAPE_FULL << 1, 0));
	uint64_t last_ns = h->last_ns;

	memcpy(before, r->region, r->octets);
	transaction(r, &advance);
	bool moved = h->last_ns == start_ns + second && last_ns == start_ns;

	y.failed += undo_rollback(&r->undo) != 0;
	if (memcmp(before, r->region, r->octets) != 0) {
		say_difference(r, before, "rolled back");
		y.wrong++;
	}
	ok(moved && !y.failed && !y.wrong,
	   "the kernel bypassed some of a connection: rolled back, its time is as it was");
	munmap(before, r->octets);
	rig_free(r);
	free(slots);
}

int main(void)
{
	rng = tap_seed(20251122);
	setvbuf(stdout, NULL, _IOLBF, 0);
	test_rolled_back(4, 3, 9, false, 6000);
	test_rolled_back(40, 30, 120, false, 6000);
	test_rolled_back(300, 200, 1000, false, 6000);
	test_rolled_back(3000, 2000, 4000, false, 3000);
	test_rolled_back(40, 30, 120, true, 3000);
	test_killed(60);
	test_adopted();
	test_bypassed();
	return tap_done();
}
