/* replay.c - a capture file through the tracker, and each event as a line: what freeze.py compares.
 *
 *   replay [OPTION...] FILE
 *     --quiet                events are counted, not written
 *     --control              segments that segment_is_control() does not want are left out
 *     --kept                 in transactions over shared memory, as a decoder does it
 *     --kill=N               the same by processes that are killed, N times in all, at any
 *                            moment: each goes on where the one before it had committed
 *     --seed=N               of these moments
 *     --max-connections=N --max-half-open=N --flood-half-open=N --flood-rate=N
 *
 * The secret is fixed, time is the file's, and a batch is so many frames wherever it begins: the
 * same file gives the same octets.  The last line has the tracker's counters. */
#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include "base/cc.h"
#include "base/fmt.h"
#include "base/strbuf.h"
#include "base/undo.h"
#include "flow/event.h"
#include "format/json.h"
#include "flow/tracker.h"
#include "source/pcapfile.h"
#include "tests/support/rand.h"
#include "wire/frame.h"
#include "wire/segment.h"

static const uint64_t second = 1000000000;
static const size_t log_octets = 4 << 20;
/* Reserved, not used up: there must be room for all lines where nobody can write them earlier. */
static const size_t out_octets = (size_t)4 << 30;

enum phase { READING, CLOSING, DONE };

struct front { /* saved as a whole at the start of each transaction */
	struct tracker_counters count;
	uint64_t frames; /* of the file, that are behind us */
	uint64_t events;
	uint64_t used; /* octets of lines */
	uint32_t phase;
};

struct watch { /* for the parent, outside of what is rolled back */
	_Atomic uint64_t frames;
	_Atomic uint32_t working;
};

struct replay {
	struct event_sink sink; /* first */
	struct tracker_config cfg;
	struct undo undo;
	unsigned char *region; /* front, tracker; then the log */
	size_t octets;	       /* without the log */
	struct front *front;
	struct watch *watch;
	struct tracker *t;
	struct source *source;
	struct event event;
	struct fmt_second second; /* a process's own, saves time only */
	char *out;
	bool quiet;
	unsigned kills;
};

/* ---- events ---------------------------------------------------------------------------------- */

static struct event *take_event(struct event_sink *s)
{
	return memset(&((struct replay *)s)->event, 0, sizeof(struct event));
}

static void tell_event(struct event_sink *s)
{
	struct replay *r = (struct replay *)s;
	char name[16];

	r->front->events++;
	if (r->quiet)
		return;
	snprintf(name, sizeof name, "if%u", r->event.iface);
	struct json_context c = { .iface = name, .second = &r->second, .community_seed = 7 };
	struct strbuf t = { .p = r->out + r->front->used, .end = r->out + out_octets };

	json_event(&t, &r->event, r->front->events, &c);
	r->front->used = (uint64_t)(t.p - r->out);
}

static void flush(struct replay *r)
{
	fwrite(r->out, 1, r->front->used, stdout);
	r->front->used = 0;
}

static void tell_counters(const struct tracker_counters *c)
{
	const struct counter *all[] = { &c->opened,	  &c->closed,	 &c->evicted_syn,
					&c->evicted_full, &c->anomalies, &c->anomalies_suppressed,
					&c->unmatched,	  &c->bypassed,	 &c->syn_entries,
					&c->full_entries, &c->floods,	 &c->deferred,
					&c->suppressed,	  &c->unwatched };

	printf("{\"counters\":[");
	for (unsigned i = 0; i < ARRAY_SIZE(all); i++)
		printf("%s%llu", i ? "," : "", (unsigned long long)counter_get(all[i]));
	printf("],\"states\":[");
	for (unsigned i = 0; i < FSM_STATES; i++)
		printf("%s%llu", i ? "," : "", (unsigned long long)counter_get(&c->states[i]));
	printf("]}\n");
}

/* ---- transactions ---------------------------------------------------------------------------- */

static void begin(struct replay *r)
{
	if (!r->cfg.undo)
		return;
	undo_save(&r->undo, r->front, sizeof *r->front);
	tracker_begin(r->t);
}

static void commit(struct replay *r)
{
	if (r->cfg.undo)
		undo_commit(&r->undo);
	atomic_store(&r->watch->frames, r->front->frames);
	if (!r->kills && r->front->used > 1 << 20)
		flush(r);
}

/* The rest of a sweep, in parts. */
static void sweep(struct replay *r)
{
	while (r->cfg.undo && tracker_has_steps(r->t)) {
		begin(r);
		tracker_step(r->t);
		commit(r);
	}
}

/* Fills a batch, however the source deals out its frames, which stay: the file is mapped. */
static unsigned pull(struct replay *r, struct frame *frames)
{
	unsigned n = 0;
	int got = 1;

	while (n < TRACKER_BATCH && got > 0) {
		got = source_next(r->source, frames + n, TRACKER_BATCH - n);
		n += got > 0 ? (unsigned)got : 0;
	}
	return n;
}

static void feed(struct replay *r)
{
	struct frame frames[TRACKER_BATCH];
	struct segment segments[TRACKER_BATCH];
	unsigned n = pull(r, frames), tcp = 0;

	begin(r);
	for (unsigned i = 0; i < n; i++)
		if (frame_decode(&frames[i], &segments[tcp]) == FRAME_TCP)
			tcp += !r->cfg.control || segment_is_control(&segments[tcp]);
	tracker_input(r->t, segments, tcp);
	r->front->frames += n;
	if (n < TRACKER_BATCH)
		r->front->phase = CLOSING;
	commit(r);
	sweep(r);
}

static void end(struct replay *r)
{
	begin(r);
	if (!r->cfg.undo)
		tracker_close_all(r->t, REASON_CAPTURE_END);
	if (!r->cfg.undo || !tracker_close_some(r->t, REASON_CAPTURE_END))
		r->front->phase = DONE;
	commit(r);
}

static void work(struct replay *r)
{
	sweep(r);
	while (r->front->phase == READING)
		feed(r);
	while (r->front->phase == CLOSING)
		end(r);
}

/* ---- one process after the other ------------------------------------------------------------- */

static int fail(const char *what, int e)
{
	fprintf(stderr, "replay: %s: %s\n", what, strerror(-e));
	return 2;
}

/* Frames that a process before this one has committed. */
static void skip(struct replay *r)
{
	struct frame frames[TRACKER_BATCH];

	for (uint64_t left = r->front->frames; left;) {
		unsigned most = left < TRACKER_BATCH ? (unsigned)left : TRACKER_BATCH;
		int n = source_next(r->source, frames, most);

		if (n <= 0)
			break;
		left -= (unsigned)n;
	}
}

static int heir(struct replay *r)
{
	int e = undo_rollback(&r->undo);

	if (e < 0)
		return fail("undo_rollback", e);
	r->t = tracker_adopt(&r->cfg, r->t, &r->sink, &r->front->count);
	if (!r->t)
		return fail("tracker_adopt", -ESTALE);
	skip(r);
	atomic_store(&r->watch->working, 1);
	work(r);
	return 0;
}

static void rest(uint64_t ns)
{
	nanosleep(&(struct timespec){ .tv_nsec = (long)ns }, NULL);
}

/* Now and then while it takes over, else somewhere on its way through the file.  False: it came to
 * the end before. */
static bool let_it_work(struct replay *r, pid_t pid, uint64_t total)
{
	struct watch *w = r->watch;
	uint64_t until = atomic_load(&w->frames) + below(2 * total / (r->kills + 1) + 1);
	bool soon = !below(8);

	if (until > total)
		until = total;
	while (!soon && (!atomic_load(&w->working) || atomic_load(&w->frames) < until)) {
		if (waitpid(pid, NULL, WNOHANG | WNOWAIT) > 0)
			return false;
		rest(20000);
	}
	rest(below(soon ? 3000000 : 100000));
	return true;
}

static int succession(struct replay *r, uint64_t total)
{
	unsigned killed = 0;
	int status;

	do {
		atomic_store(&r->watch->working, 0);
		fflush(stdout);
		pid_t pid = fork();

		if (pid < 0)
			return fail("fork", -errno);
		if (!pid) {
			prctl(PR_SET_PDEATHSIG, SIGKILL);
			_exit(heir(r));
		}
		if (killed < r->kills && let_it_work(r, pid, total))
			kill(pid, SIGKILL);
		waitpid(pid, &status, 0);
		if (WIFEXITED(status) && WEXITSTATUS(status))
			return WEXITSTATUS(status);
		if (WIFSIGNALED(status) && WTERMSIG(status) != SIGKILL)
			return fail(strsignal(WTERMSIG(status)), -ECHILD);
		killed += WIFSIGNALED(status);
	} while (!WIFEXITED(status));
	fprintf(stderr, "replay: %u processes were killed\n", killed);
	return 0;
}

/* ---- life ------------------------------------------------------------------------------------ */

static void *memory_new(size_t octets, int how)
{
	void *p = mmap(NULL, octets, PROT_READ | PROT_WRITE, how | MAP_ANONYMOUS | MAP_NORESERVE,
		       -1, 0);

	if (p == MAP_FAILED)
		exit(fail("memory", -errno));
	return p;
}

static void open_file(struct replay *r, const char *path)
{
	char error[PCAPFILE_ERROR_MAX];

	if (pcapfile_open(path, &r->source, error) < 0) {
		fprintf(stderr, "replay: %s: %s\n", path, error);
		exit(2);
	}
}

/* How many frames the file has. */
static uint64_t count_frames(struct replay *r, const char *path)
{
	struct frame frames[TRACKER_BATCH];
	uint64_t total = 0;
	unsigned n;

	open_file(r, path);
	do
		total += n = pull(r, frames);
	while (n);
	source_free(r->source);
	return total;
}

static void set_up(struct replay *r)
{
	/* Shorter than the daemon's, or none of them would pass in a short file. */
	static const uint64_t timeout_s[FSM_TIMEOUTS] = { 20, 30, 400, 300, 200, 60, 10 };
	int how = r->cfg.undo ? MAP_SHARED : MAP_PRIVATE;

	for (unsigned i = 0; i < FSM_TIMEOUTS; i++)
		r->cfg.timeout_ns[i] = timeout_s[i] * second;
	for (unsigned i = 0; i < ARRAY_SIZE(r->cfg.secret.k); i++)
		r->cfg.secret.k[i] = i * 0x9e3779b97f4a7c15 + 1;
	r->cfg.recorded = true;
	r->octets = LINE_UP(sizeof *r->front) + LINE_UP(tracker_memory(&r->cfg));
	r->region = memory_new(r->octets + (r->cfg.undo ? log_octets : 0), how);
	r->watch = memory_new(sizeof *r->watch, how);
	r->out = memory_new(out_octets, how);
	r->front = (struct front *)r->region;
	if (r->cfg.undo)
		undo_init(&r->undo, r->region, r->octets, r->region + r->octets, log_octets);
	r->t = tracker_new(&r->cfg, r->region + LINE_UP(sizeof *r->front), &r->sink,
			   &r->front->count);
	if (!r->t)
		exit(fail("tracker_new", -ENOMEM));
}

static const struct option long_options[] = {
	{ "quiet", no_argument, NULL, 'q' },
	{ "control", no_argument, NULL, 'c' },
	{ "kept", no_argument, NULL, 'u' },
	{ "kill", required_argument, NULL, 'k' },
	{ "seed", required_argument, NULL, 's' },
	{ "max-connections", required_argument, NULL, 'w' },
	{ "max-half-open", required_argument, NULL, 'h' },
	{ "flood-half-open", required_argument, NULL, 'f' },
	{ "flood-rate", required_argument, NULL, 'r' },
	{ 0 },
};

static const char *take_options(struct replay *r, int argc, char **argv)
{
	for (int c; (c = getopt_long(argc, argv, "", long_options, NULL)) != -1;) {
		uint64_t n = optarg ? strtoull(optarg, NULL, 0) : 0;

		if (c == 'q')
			r->quiet = true;
		else if (c == 'c')
			r->cfg.control = true;
		else if (c == 'u')
			r->cfg.undo = &r->undo;
		else if (c == 'k')
			r->kills = (unsigned)n;
		else if (c == 's')
			rng = n;
		else if (c == 'w')
			r->cfg.max_connections = (uint32_t)n;
		else if (c == 'h')
			r->cfg.max_half_open = (uint32_t)n;
		else if (c == 'f')
			r->cfg.flood_half_open = (uint32_t)n;
		else if (c == 'r')
			r->cfg.flood_rate = (uint32_t)n;
		else
			exit(2);
	}
	if (optind + 1 != argc)
		exit(fail("usage: replay [OPTION...] FILE", -EINVAL));
	if (r->kills)
		r->cfg.undo = &r->undo;
	return argv[optind];
}

int main(int argc, char **argv)
{
	static struct replay replay;
	struct replay *r = &replay;
	uint64_t total;
	int e = 0;

	r->sink = (struct event_sink){ .reserve = take_event, .commit = tell_event };
	r->cfg = (struct tracker_config){ .max_connections = 1 << 20,
					  .max_half_open = 1 << 16,
					  .anomalies_per_connection = 8,
					  .anomalies_per_second = 100,
					  .flood_half_open = 1024,
					  .flood_rate = 200,
					  .flood_interval_ns = 10 * second };
	rng = 1;
	const char *path = take_options(r, argc, argv);

	total = r->kills ? count_frames(r, path) : 0;
	set_up(r);
	open_file(r, path);
	if (r->kills)
		e = succession(r, total);
	else
		work(r);
	flush(r);
	if (r->quiet)
		printf("%llu events\n", (unsigned long long)r->front->events);
	tell_counters(&r->front->count);
	if (*pcapfile_error(r->source))
		fprintf(stderr, "replay: %s: %s\n", path, pcapfile_error(r->source));
	tracker_free(r->t);
	source_free(r->source);
	return e;
}
