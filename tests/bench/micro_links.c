/* What a shared ring costs: frames of a file, as if they came from many interfaces, through the
 * decoder's frames -> events, beside the same frames from one interface.
 *
 *     micro_links FILE.pcap [INTERFACES [ROUNDS]]
 *
 * With 0 rounds it runs once over INTERFACES (0: a ring of one) and prints nothing: for callgrind,
 * --toggle-collect=run_frames.  With DEDUPE set, with --dedupe=yes. */
#include "../../daemon/synfind/decoder.c"
#include "common/options.h"
#include "flow/key.h"
#include "source/pcapfile.h"
#include "wire/segment.h"
#include "tests/bench/micro.h"

enum { FRAMES_MAX = 4 << 20 };

static struct event *take_event(struct event_sink *s)
{
	static struct event e;

	(void)s;
	return memset(&e, 0, sizeof e);
}

static void drop_event(struct event_sink *s)
{
	(void)s;
}

static void need(bool good, const char *what)
{
	if (!good) {
		fprintf(stderr, "micro_links: %s\n", what);
		exit(1);
	}
}

/* A pipeline in memory of its own, which watches interfaces 1 to @n. */
static void begin(struct decoder *d, const struct options *o, unsigned n)
{
	const struct decoder_share share = { .of = 1, .shared = n };
	struct decoder_state_sizes sizes = pipeline_sizes(o, &share);

	memset(d, 0, sizeof *d);
	need(decoder_state_private(&d->state, &sizes) >= 0, "memory");
	d->count = &d->state.progress->count;
	d->sink = (struct event_sink){ .reserve = take_event, .commit = drop_event };
	need(pipeline_init(&d->pipeline, o,
			   &(struct pipeline_parts){
				   .state = &d->state, .sink = &d->sink, .share = share }) >= 0,
	     "pipeline");
	links_begin(&d->links, &d->pipeline.origins, d->state.links, NULL, 0);
	d->shared = n;
	for (unsigned i = 1; i <= n; i++)
		links_post(&d->links,
			   &(struct link_news){
				   .kind = LINK_HERE, .ifindex = i, .slot = i, .watched = true });
	links_apply(&d->links);
}

static __attribute__((noinline)) void run_frames(struct decoder *d, const struct frame *all,
						 unsigned n)
{
	for (unsigned at = 0; at < n; at += TRACKER_BATCH) {
		struct frame batch[TRACKER_BATCH];
		int used = (int)(n - at < TRACKER_BATCH ? n - at : TRACKER_BATCH);

		memcpy(batch, all + at, (size_t)used * sizeof *batch);
		if (d->shared)
			used = shared_frames(d, batch, used);
		pipeline_frames(&d->pipeline, batch, used);
	}
}

static double timed(const struct options *o, struct frame *all, unsigned n, unsigned interfaces)
{
	static struct decoder d;
	double t;

	begin(&d, o, interfaces);
	t = micro_clock(CLOCK_THREAD_CPUTIME_ID);
	run_frames(&d, all, n);
	t = micro_clock(CLOCK_THREAD_CPUTIME_ID) - t;
	links_free(&d.links);
	pipeline_destroy(&d.pipeline);
	decoder_state_close(&d.state);
	return t * 1e9 / n;
}

/* A connection passes one interface: both directions the same. */
static void assign(struct frame *f, unsigned interfaces)
{
	struct segment s;
	struct flow_key k;

	f->iface = 0;
	if (!interfaces || frame_decode(f, &s) != FRAME_TCP)
		return;
	flow_key_of(&s, &k);
	f->iface = 1 + (uint32_t)(flow_id_of(&k, 0, 0) % interfaces);
}

int main(int argc, char **argv)
{
	char *args[] = { "synfind", getenv("DEDUPE") ? "--dedupe=yes" : "--dedupe=no", NULL };
	unsigned interfaces = argc > 2 ? (unsigned)atoi(argv[2]) : 250, n = 0;
	unsigned rounds = argc > 3 ? (unsigned)atoi(argv[3]) : 5;
	struct frame *all = calloc(FRAMES_MAX, sizeof *all);
	double one[99], many[99], ratio[99];
	char error[PCAPFILE_ERROR_MAX];
	struct source *source;
	struct options o;
	int got;

	need(argc > 1 && all && rounds < 99, "usage: micro_links FILE.pcap [INTERFACES [ROUNDS]]");
	need(options_parse(ARRAY_SIZE(args) - 1, args, &o) == 0, "options");
	need(pcapfile_open(argv[1], &source, error) >= 0, error);
	while (n + TRACKER_BATCH <= FRAMES_MAX &&
	       (got = source_next(source, all + n, TRACKER_BATCH)) > 0)
		n += (unsigned)got; /* the file stays mapped */
	for (unsigned i = 0; i < n; i++)
		assign(&all[i], interfaces);
	if (!rounds)
		timed(&o, all, n, interfaces);
	for (unsigned i = 0; i < rounds; i++) {
		one[i] = timed(&o, all, n, 0);
		many[i] = timed(&o, all, n, interfaces);
		ratio[i] = many[i] / one[i];
	}
	if (rounds) {
		micro_say("links: a frame of one interface", "ns", micro_median(one, rounds));
		micro_say("links: a frame of many interfaces", "ns", micro_median(many, rounds));
		micro_say("links: many to one", "ratio", micro_median(ratio, rounds));
	}
	source_free(source);
	return 0;
}
