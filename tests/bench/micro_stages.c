/* micro_stages - what each stage between a frame and its event costs by itself.
 *
 *     BENCH_PCAP=FILE micro_stages
 *
 * Frames are the first ones of FILE (a capture of the churn workload).  They are copied first: what
 * is timed is the stage, with its data as near as in a running decoder. */
#include <string.h>
#include <sys/mman.h>
#include "base/cc.h"
#include "base/spsc.h"
#include "flow/conn.h"
#include "flow/event.h"
#include "flow/fastpath.h"
#include "flow/gaps.h"
#include "flow/tcp_fsm.h"
#include "flow/segment_check.h"
#include "flow/key.h"
#include "flow/table.h"
#include "flow/tracker.h"
#include "source/pcapfile.h"
#include "tests/bench/micro.h"
#include "tests/support/rand.h"
#include "wire/frame.h"
#include "wire/segment.h"

enum {
	FRAMES = 1 << 16,
	FRAME_MAX = 256,
	ENTRIES = 1 << 20,
	FINDS = 1 << 18,
	HALVES = 1 << 16,
	STEPS = 1 << 18,
	EVENTS = 1 << 16,
	RING = 1 << 12,
};

struct stages {
	struct hash_key secret;
	uint8_t *octets;
	struct frame *frames;
	struct segment *segments;
	unsigned n; /* of both */

	struct table table;
	uint64_t *hashes; /* of keys in the table, in random order */
	struct flow_key *keys;

	struct conn open;
	struct segment data, fin;

	struct tracker_config config;
	struct tracker *tracker;
	void *memory;
	struct tracker_counters counters;
	struct event_sink sink;
	struct event event;

	struct spsc ring;
};

static void *memory_new(size_t octets)
{
	void *p = mmap(NULL, octets, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);

	if (p == MAP_FAILED) {
		perror("mmap");
		exit(1);
	}
	return p;
}

/* ---- frame ---------------------------------------------------------------------------------- */

static void load_frames(struct stages *s, const char *path)
{
	char error[PCAPFILE_ERROR_MAX];
	struct source *source;
	struct frame batch[64];
	int n;

	if (pcapfile_open(path, &source, error) < 0) {
		fprintf(stderr, "%s: %s\n", path, error);
		exit(1);
	}
	s->octets = memory_new((size_t)FRAMES * FRAME_MAX);
	s->frames = memory_new(FRAMES * sizeof *s->frames);
	s->segments = memory_new(FRAMES * sizeof *s->segments);
	while (s->n < FRAMES && (n = source_next(source, batch, ARRAY_SIZE(batch))) > 0)
		for (int i = 0; i < n && s->n < FRAMES; i++) {
			struct frame *f = &s->frames[s->n];
			uint8_t *p = s->octets + (size_t)s->n * FRAME_MAX;

			*f = batch[i];
			if (f->caplen > FRAME_MAX)
				f->caplen = FRAME_MAX;
			memcpy(p, f->data, f->caplen);
			f->data = p;
			if (frame_decode(f, &s->segments[s->n]) == FRAME_TCP)
				s->n++;
		}
	source_free(source);
	if (s->n < FRAMES) {
		fprintf(stderr, "%s: %u segments, %u wanted\n", path, s->n, (unsigned)FRAMES);
		exit(1);
	}
}

static uint64_t decode_all(void *arg)
{
	struct stages *s = arg;
	uint64_t sum = 0;

	for (unsigned i = 0; i < s->n; i++)
		sum += (uint64_t)frame_decode(&s->frames[i], &s->segments[i]);
	return sum + s->segments[s->n - 1].seq;
}

static uint64_t hash_all(void *arg)
{
	struct stages *s = arg;
	uint64_t sum = 0;

	for (unsigned i = 0; i < s->n; i++) {
		struct flow_key k;

		sum += flow_key_of(&s->segments[i], &k);
		sum += flow_key_hash(&k, &s->secret);
	}
	return sum;
}

/* ---- table ---------------------------------------------------------------------------------- */

static struct flow_key random_key(void)
{
	return (struct flow_key){ .ip_v = 4, .w = { rand64(), rand64() & 0xffffffff } };
}

static void fill_table(struct stages *s)
{
	rng = 1;
	s->keys = memory_new(FINDS * sizeof *s->keys);
	s->hashes = memory_new(FINDS * sizeof *s->hashes);
	table_init(&s->table, memory_new(table_size(ENTRIES, HALVES)), ENTRIES, HALVES);
	for (unsigned i = 0; i < ENTRIES; i++) {
		struct flow_key k = random_key();
		uint64_t hash = flow_key_hash(&k, &s->secret);
		struct table_edit e;

		table_insert(&s->table, hash, &k, SHAPE_FULL, &e);

		*e.hot = (struct conn_hot){ .last_ns = i };
		if (i % (ENTRIES / FINDS) == 0) {
			s->keys[i / (ENTRIES / FINDS)] = k;
			s->hashes[i / (ENTRIES / FINDS)] = hash;
		}
	}
	for (unsigned i = FINDS - 1; i; i--) { /* not in the order of the slots */
		unsigned j = below(i + 1);
		struct flow_key k = s->keys[i];
		uint64_t hash = s->hashes[i];

		s->keys[i] = s->keys[j];
		s->hashes[i] = s->hashes[j];
		s->keys[j] = k;
		s->hashes[j] = hash;
	}
}

static uint64_t find_one(struct stages *s, unsigned i)
{
	table_ref r = table_find(&s->table, s->hashes[i], &s->keys[i], NULL);

	return table_hot(&s->table, r)->last_ns;
}

static uint64_t find_in_order(void *arg)
{
	uint64_t sum = 0;

	for (unsigned i = 0; i < FINDS; i++)
		sum += find_one(arg, i);
	return sum;
}

static uint64_t find_in_batches(void *arg)
{
	struct stages *s = arg;
	uint64_t sum = 0;
	const void *entry;

	for (unsigned i = 0; i < FINDS; i += TRACKER_BATCH) {
		for (unsigned j = i; j < i + TRACKER_BATCH; j++)
			table_prefetch(&s->table, s->hashes[j]);
		for (unsigned j = i; j < i + TRACKER_BATCH; j++)
			table_prefetch_entry(&s->table, s->hashes[j], &entry);
		for (unsigned j = i; j < i + TRACKER_BATCH; j++)
			sum += find_one(s, j);
	}
	return sum;
}

/* A half-open entry comes and goes, as in a flood. */
static uint64_t insert_and_remove(void *arg)
{
	struct stages *s = arg;
	uint64_t sum = 0;

	rng = 2;
	for (unsigned i = 0; i < STEPS; i++) {
		struct flow_key k = random_key();
		uint64_t hash = flow_key_hash(&k, &s->secret);
		struct table_edit e;
		table_ref r = table_insert(&s->table, hash, &k, SHAPE_SYN, &e);

		*e.syn = (struct syn_entry){ .start_ns = i };
		sum += r;
		table_remove(&s->table, hash, r);
	}
	return sum;
}

/* ---- checks and states ----------------------------------------------------------------------- */

static void open_connection(struct stages *s)
{
	s->open = (struct conn){ .start_ns = 1,
				 .next = { 1000, 2000 },
				 .acked = { 1000, 2000 },
				 .tally = { conn_tally(0, 0, 65535), conn_tally(0, 0, 65535) },
				 .state = FSM_OPEN,
				 .sent = 3,
				 .heard = 3 };
	s->data = (struct segment){ .ip_v = 4,
				    .flags = TCP_ACK,
				    .window = 65535,
				    .wire_segs = 1,
				    .seq = 1000,
				    .ack = 2000,
				    .payload_len = 100,
				    .wire_len = 166 };
	s->fin = s->data;
	s->fin.flags |= TCP_FIN;
}

static uint64_t plain_data(void *arg)
{
	struct stages *s = arg;
	uint64_t plain = 0;
	struct conn c = s->open;

	for (unsigned i = 0; i < STEPS; i++) {
		s->data.seq = c.next[SIDE_A];
		c.acked[SIDE_A] = s->data.seq;
		if (!fastpath_predict(&c, SIDE_A, &s->data))
			abort();
		fastpath_learn(&c, SIDE_A, &s->data);
		plain++;
	}
	return plain;
}

static uint64_t prove_fin(void *arg)
{
	struct stages *s = arg;
	uint64_t sum = 0;

	for (unsigned i = 0; i < STEPS; i++) {
		s->fin.seq = s->open.next[SIDE_A];
		sum += segment_check(&s->open, SIDE_A, &s->fin, &gaps_none).evidence;
	}
	if (sum != STEPS * (uint64_t)segment_check(&s->open, SIDE_A, &s->fin, &gaps_none).evidence)
		abort();
	return sum;
}

static uint64_t walk_states(void *arg)
{
	/* A life: handshake, data, both FINs. */
	static const struct {
		enum fsm_side side;
		enum fsm_evidence ev;
	} life[] = { { SIDE_A, EV_SYN },  { SIDE_B, EV_SYN_ACK }, { SIDE_A, EV_ACK },
		     { SIDE_B, EV_DATA }, { SIDE_A, EV_FIN },	  { SIDE_B, EV_ACK_FIN },
		     { SIDE_B, EV_FIN },  { SIDE_A, EV_ACK_FIN } };
	uint64_t over = 0;

	(void)arg;
	for (unsigned i = 0; i < STEPS / ARRAY_SIZE(life); i++) {
		enum fsm_state state = FSM_NONE;
		bool inferred = false;

		for (unsigned j = 0; j < ARRAY_SIZE(life); j++)
			state = fsm_step(state, life[j].side, life[j].ev, &inferred);
		over += fsm_over(state);
	}
	if (over != STEPS / ARRAY_SIZE(life))
		abort();
	return over;
}

/* ---- tracker -------------------------------------------------------------------------------- */

static struct event *sink_reserve(struct event_sink *sink)
{
	return &((struct stages *)((char *)sink - offsetof(struct stages, sink)))->event;
}

static void sink_commit(struct event_sink *sink)
{
	(void)sink;
}

static void new_tracker(void *arg)
{
	struct stages *s = arg;
	size_t octets;

	if (!s->memory) {
		s->config = (struct tracker_config){ .max_connections = FRAMES,
						     .max_half_open = FRAMES,
						     .anomalies_per_connection = 8,
						     .anomalies_per_second = 100,
						     .secret = s->secret };
		for (unsigned i = 0; i < FSM_TIMEOUTS; i++)
			s->config.timeout_ns[i] = 60000000000;
	}
	octets = tracker_memory(&s->config);
	if (!s->memory)
		s->memory = memory_new(octets);
	memset(s->memory, 0, octets);
	tracker_free(s->tracker);
	memset(&s->counters, 0, sizeof s->counters);
	s->tracker = tracker_new(&s->config, s->memory, &s->sink, &s->counters);
	if (!s->tracker)
		abort();
}

static uint64_t track_all(void *arg)
{
	struct stages *s = arg;

	for (unsigned i = 0; i < s->n; i += TRACKER_BATCH)
		tracker_input(s->tracker, s->segments + i,
			      s->n - i < TRACKER_BATCH ? s->n - i : TRACKER_BATCH);
	return counter_get(&s->counters.opened);
}

/* ---- hand-over ------------------------------------------------------------------------------ */

static uint64_t hand_over(void *arg)
{
	struct stages *s = arg;
	uint64_t sum = 0;

	for (unsigned i = 0; i < EVENTS; i += TRACKER_BATCH) {
		for (unsigned j = 0; j < TRACKER_BATCH; j++) {
			struct event *e = spsc_reserve(&s->ring);

			*e = s->event;
			e->ts_ns = i + j;
			spsc_commit(&s->ring);
		}
		spsc_must_wake(&s->ring);
		unsigned n = spsc_ready(&s->ring);

		for (unsigned j = 0; j < n; j++)
			sum += ((const struct event *)spsc_at(&s->ring, j))->ts_ns;
		spsc_release(&s->ring, n);
	}
	return sum;
}

int main(void)
{
	const char *path = getenv("BENCH_PCAP");
	static struct stages s = { .secret = { { 0x243f6a8885a308d3, 0x13198a2e03707344,
						 0xa4093822299f31d0, 0x082efa98ec4e6c89,
						 0x452821e638d01377, 0xbe5466cf34e90c6c,
						 0xc0ac29b7c97c50dd, 0x3f84d5b5b5470917 } },
				   .sink = { sink_reserve, sink_commit } };

	if (!path) {
		fprintf(stderr, "usage: BENCH_PCAP=FILE micro_stages\n");
		return 2;
	}
	load_frames(&s, path);
	micro_run("frame: decode", s.n, decode_all, NULL, &s);
	micro_run("key: of a segment, and its hash", s.n, hash_all, NULL, &s);

	fill_table(&s);
	micro_run("table: find among 1 M, one by one", FINDS, find_in_order, NULL, &s);
	micro_run("table: find among 1 M, 64 prefetched", FINDS, find_in_batches, NULL, &s);
	micro_run("table: insert and remove a half-open entry", STEPS, insert_and_remove, NULL, &s);

	open_connection(&s);
	micro_run("segment_check: plain data", STEPS, plain_data, NULL, &s);
	micro_run("segment_check: prove a FIN", STEPS, prove_fin, NULL, &s);
	micro_run("fsm: one step", STEPS, walk_states, NULL, &s);

	micro_run("tracker: a segment of churn, all in", s.n, track_all, new_tracker, &s);

	spsc_init(&s.ring, memory_new(SPSC_OCTETS(RING, sizeof(struct event))), RING,
		  sizeof(struct event), 0);
	micro_run("spsc: an event handed over, one thread", EVENTS, hand_over, NULL, &s);
	return 0;
}
