#include "synfind/offline.h"
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "base/cc.h"
#include "base/fmt.h"
#include "base/strbuf.h"
#include "common/capfilter.h"
#include "common/clock.h"
#include "common/log.h"
#include "common/options.h"
#include "flow/origin.h"
#include "flow/tracker.h"
#include "format/json.h"
#include "source/pcapfile.h"
#include "source/source.h"
#include "synfind/decoder_state.h"
#include "synfind/identity.h"
#include "synfind/pipeline.h"
#include "wire/frame.h"
#include "wire/link.h"

enum { OUT_OCTETS = 1 << 17, PIPE_OCTETS = 1 << 20 };
static const uint64_t progress_every_ns = 500000000;

struct offline {
	/* Encodes each event at once.  Aligned, so that aligned_alloc() takes the size. */
	_Alignas(CACHE_LINE) struct event_sink sink;
	struct event event;
	struct source *source; /* owned */
	struct decoder_state state;
	struct pipeline pipeline;
	const struct options *o;
	struct capfilter filter[LINK_TYPES]; /* opened with the first frame of a link type */
	uint64_t rejected;		     /* frames, by the filter */
	char filter_error[CAPFILTER_ERROR_MAX];
	const char *name;		/* in_iface where the file names no interface */
	const char *file;		/* the current one */
	size_t files;			/* opened so far */
	int status;			/* 1: a file was broken */
	uint64_t progress_ns;		/* time of the next progress line; 0: not known yet */
	int error;			/* of standard output: -errno */
	uint64_t seq;			/* of the last line */
	uint64_t last_ns;		/* the largest timestamp of an event so far */
	uint64_t frame_ns;		/* of the last frame */
	uint64_t unanswered, half_open; /* attempts, when the capture ended */
	struct fmt_second second;
	struct strbuf lines; /* in .out, to be written */
	char out[OUT_OCTETS];
};

static void out_flush(struct offline *r)
{
	for (const char *p = r->out; p < r->lines.p && !r->error;) {
		ssize_t n = write(STDOUT_FILENO, p, (size_t)(r->lines.p - p));

		if (n >= 0)
			p += n;
		else if (errno == EAGAIN) /* a reader of the pipe set O_NONBLOCK */
			poll(&(struct pollfd){ STDOUT_FILENO, POLLOUT, 0 }, 1, -1);
		else if (errno != EINTR)
			r->error = -errno;
	}
	r->lines.p = r->out;
}

/* Space for a line of up to @n octets. */
static struct strbuf *line_space(struct offline *r, size_t n)
{
	if ((size_t)(r->lines.end - r->lines.p) < n)
		out_flush(r);
	r->lines.full = false;
	return &r->lines;
}

/* The first line.  It is written with the first event, whose time it has: the interfaces are known
 * then, and the same file always gives the same lines. */
static void write_hello(struct offline *r, uint64_t ts_ns)
{
	const char *names[PCAPFILE_IFACES];
	struct identity id;
	unsigned n = 0;

	while (n < ARRAY_SIZE(names) && *(names[n] = source_iface(r->source, n)))
		n++;
	if (!n)
		names[n++] = r->name;
	identity_init(&id, false);

	struct json_hello h = identity_hello(&id, capture_mode_name(r->o->mode), names, n);

	h.events = r->o->events;
	json_hello(line_space(r, OUT_OCTETS), &h, ++r->seq, ts_ns);
}

static struct event *sink_reserve(struct event_sink *s)
{
	struct offline *r = (struct offline *)s;

	if (!r->o->quiet)
		return &r->event;
	counter_add(&r->pipeline.count->events, 1);
	return NULL;
}

static struct event *sink_offer(struct event_sink *s)
{
	return &((struct offline *)s)->event;
}

static void sink_commit(struct event_sink *s)
{
	struct offline *r = (struct offline *)s;
	const struct event *e = &r->event;
	bool numbered = e->kind != EVENT_TCP_SEGMENT;
	struct json_context c = { .second = &r->second,
				  .community = r->o->community_id,
				  .community_seed = (uint16_t)r->o->community_id_seed };
	struct origin_view from = origin_look_up(&r->pipeline.origins, e->iface);

	c.tunnel = from.tunnel;
	c.iface = source_iface(r->source, from.iface);
	if (!*c.iface)
		c.iface = r->name;
	counter_add(&r->pipeline.count->events, numbered);
	if (unlikely(!r->seq))
		write_hello(r, e->ts_ns);
	if (numbered && e->ts_ns > r->last_ns)
		r->last_ns = e->ts_ns;
	r->seq += numbered;
	json_event(line_space(r, JSON_LINE_MAX), e, r->seq, &c);
}

static void write_stats(struct offline *r)
{
	struct decoder_counters *count = r->pipeline.count;
	struct source_stats source;
	struct stats_decoder d;
	uint64_t ts_ns = r->last_ns ?: r->frame_ns;

	source_stats(r->source, &source);
	counter_set(&count->packets, source.packets - r->rejected);
	counter_set(&count->drops, source.drops);
	counter_set(&count->freezes, source.freezes);
	pipeline_read_counters(&r->pipeline, r->name, &d);
	if (!r->o->quiet) {
		if (!r->seq)
			write_hello(r, ts_ns);
		if (r->o->events & 1u << LINE_STATS)
			json_stats(line_space(r, 2 * JSON_LINE_MAX),
				   &(struct json_stats){ .decoders = &d, .ndecoders = 1 }, ++r->seq,
				   ts_ns);
	}

	char several[32], waiting[128] = "";

	snprintf(several, sizeof several, "%zu files", r->o->read_files.n);
	if (r->unanswered || r->half_open)
		snprintf(waiting, sizeof waiting,
			 "; at the end %llu attempts were unanswered, %llu half-open",
			 (unsigned long long)r->unanswered, (unsigned long long)r->half_open);
	log_info("%s: %llu frames, %llu of them TCP, %llu connections, %llu events%s",
		 r->o->read_files.n > 1 ? several : r->name, (unsigned long long)source.packets,
		 (unsigned long long)d.count.verdicts[FRAME_TCP].v,
		 (unsigned long long)d.count.tracker.opened.v, (unsigned long long)d.count.events.v,
		 waiting);
}

/* Attempts that wait while the capture ends. */
static void count_waiting(struct offline *r)
{
	const struct counter *states = r->pipeline.count->tracker.states;

	r->unanswered = counter_get(&states[FSM_SYN]);
	for (unsigned s = FSM_CROSSED; s <= FSM_ANSWERED; s++)
		r->half_open += counter_get(&states[s]);
}

/* A program that runs this one wants lines of progress. */
static bool wants_progress_lines(void)
{
	const char *v = getenv("SYNFIND_PROGRESS");

	return v && *v;
}

/* Rewrites one line of the terminal while a long file is read; or writes lines. */
static void show_progress(struct offline *r, bool terminal)
{
	const char *begin = terminal ? "\r" : "progress ", *end = terminal ? " " : "\n";
	uint64_t now = wall_clock_ns(), size = pcapfile_size(r->source);
	uint64_t at = pcapfile_offset(r->source);
	unsigned long long opened = counter_get(&r->pipeline.count->tracker.opened);

	if (now < r->progress_ns)
		return;
	bool first = !r->progress_ns;

	r->progress_ns = now + progress_every_ns;
	if (first)
		return; /* most files end before the first line is due */
	if (size)
		fprintf(stderr, "%s%s: %3u %%, %llu connections%s", begin, r->file,
			(unsigned)((double)at * 100 / (double)size), opened, end);
	else
		fprintf(stderr, "%s%s: %llu MB, %llu connections%s", begin, r->file,
			(unsigned long long)at / 1000000, opened, end);
	fflush(stderr);
}

/* Keeps the frames that the filter passes, and returns their number; -EINVAL: the expression means
 * nothing for frames of this link type. */
static int filter_frames(struct offline *r, struct frame *frames, int n)
{
	int left = 0;

	for (int i = 0; i < n; i++) {
		struct capfilter *c = &r->filter[frames[i].link];

		if (!c->n && capfilter_open(r->o->filter, frames[i].link, c, r->filter_error) < 0)
			return -EINVAL;
		if (capfilter_passes(c, &frames[i]))
			frames[left++] = frames[i];
	}
	r->rejected += (unsigned)(n - left);
	return left;
}

/* Reads the current file to its end, or to the first broken record: 0 or -errno. */
static int pull_all(struct offline *r)
{
	bool pipe = source_fd(r->source) >= 0, terminal = isatty(STDERR_FILENO);
	bool progress = terminal || wants_progress_lines();
	struct frame frames[TRACKER_BATCH];
	unsigned batches = 0;
	int n, left;

	do {
		n = source_next(r->source, frames, TRACKER_BATCH);
		if (n > 0) {
			r->frame_ns = frames[n - 1].ts_ns;
			left = r->o->filter ? filter_frames(r, frames, n) : n;
			if (left < 0)
				return left;
			pipeline_frames(&r->pipeline, frames, left);
		}
		if (n == -EINTR)
			n = 1;
		if (pipe)
			out_flush(r); /* the next frame may come much later */
		if (progress && !(++batches & 0x3ff))
			show_progress(r, terminal);
	} while (n > 0 && !r->error);
	return n;
}

static void clear_progress(const struct offline *r)
{
	if (r->progress_ns && isatty(STDERR_FILENO))
		fputs("\r\033[K", stderr);
}

static void report_broken(struct offline *r, const char *error)
{
	clear_progress(r);
	log_error("%s: %s", r->file, error);
	r->status = 1;
}

/* Opens the next file that can be opened.  False: no file is left. */
static bool next_file(struct offline *r)
{
	char error[PCAPFILE_ERROR_MAX];

	while ((r->file = r->o->read_files.names[r->files])) {
		r->files++;
		if ((r->source ? pcapfile_next_file(r->source, r->file, error)
			       : pcapfile_open(r->file, &r->source, error)) == 0)
			return true;
		report_broken(r, error);
	}
	return false;
}

/* The file is mapped; truncating it while it is read raises SIGBUS. */
static void on_sigbus(int sig)
{
	static const char text[] = "synfind: error: the file was truncated while it was read\n";

	(void)sig;
	_exit(write(STDERR_FILENO, text, sizeof text - 1) < 0 ? 2 : 1);
}

static int offline_opened(struct offline *r)
{
	int pipe = fcntl(STDOUT_FILENO, F_GETPIPE_SZ);
	struct pipeline_parts parts = { .state = &r->state, .sink = &r->sink, .share.of = 1 };
	struct decoder_state_sizes sizes = pipeline_sizes(r->o, &parts.share);
	int e = decoder_state_private(&r->state, &sizes);

	if (e >= 0)
		e = pipeline_init(&r->pipeline, r->o, &parts);
	if (e < 0) {
		log_errno(e, "Cannot set up the flow table");
		return 1;
	}
	if (r->o->events & 1u << EVENT_TCP_SEGMENT && !r->o->quiet)
		pipeline_report_all(&r->pipeline);
	signal(SIGBUS, on_sigbus);
	/* The usual pipe of 64 KiB fills in the middle of each write: two context switches for
	 * every 128 KiB.  A failure is harmless: it is not a pipe, or pipe(7) limits its size. */
	if (pipe >= 0 && pipe < PIPE_OCTETS)
		(void)fcntl(STDOUT_FILENO, F_SETPIPE_SZ, PIPE_OCTETS);
	do {
		if (pull_all(r) < 0)
			report_broken(r, *r->filter_error ? r->filter_error
							  : pcapfile_error(r->source));
	} while (!r->error && next_file(r));
	count_waiting(r);
	tracker_close_all(r->pipeline.tracker, REASON_CAPTURE_END);
	clear_progress(r);
	write_stats(r);
	out_flush(r);
	if (r->error == -EPIPE) /* the reader wants no more */
		return 0;
	if (r->error)
		log_errno(r->error, "Cannot write events to standard output");
	return r->error ? 1 : r->status;
}

/* True if every file can be opened: a misspelled name shows before hours of reading. */
static bool files_exist(char **files)
{
	bool all = true;

	for (; *files; files++)
		if (strcmp(*files, "-") && access(*files, R_OK) < 0) {
			log_error("%s: %m", *files);
			all = false;
		}
	return all;
}

int offline_run(const struct options *o)
{
	struct offline *r = aligned_alloc(CACHE_LINE, sizeof *r);
	const char *name = *o->read_files.names;
	int status = 1;

	if (!r) {
		log_error("out of memory");
		return 1;
	}
	memset(r, 0, sizeof *r);
	r->o = o;
	r->lines = (struct strbuf){ .p = r->out, .end = r->out + OUT_OCTETS };
	r->sink = (struct event_sink){ .reserve = sink_reserve,
				       .offer = sink_offer,
				       .commit = sink_commit };
	r->name = strcmp(name, "-") ? basename(name) : "stdin";
	if (files_exist(o->read_files.names) && next_file(r))
		status = offline_opened(r);
	pipeline_destroy(&r->pipeline);
	decoder_state_close(&r->state);
	source_free(r->source);
	for (unsigned link = 0; link < LINK_TYPES; link++)
		capfilter_close(&r->filter[link]);
	free(r);
	return status;
}
