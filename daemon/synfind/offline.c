#include "synfind/offline.h"
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "base/cc.h"
#include "common/log.h"
#include "common/options.h"
#include "source/pcapfile.h"
#include "synfind/decoder.h"
#include "synfind/identity.h"
#include "synfind/shards.h"

enum { OUT_OCTETS = 1 << 17, PIPE_OCTETS = 1 << 20 };
static const uint64_t progress_every_ns = 500000000;

struct offline {
	struct event_sink sink; /* encodes at once: there is nobody to wait for */
	struct event event;
	struct decoder decoder;
	struct source *source;
	struct shards *shards; /* NULL: the decoder above does all of it */
	const struct options *o;
	char *name; /* of the file, for in_iface where the file has none */
	bool terminal;
	uint64_t progress_ns; /* when it is shown next; 0: not yet */
	char *out;	      /* lines that wait to be written */
	size_t used;
	int error;	  /* of stdout, -errno */
	uint64_t seq;	  /* of the last line */
	uint64_t last_ns; /* the newest time that was told */
	struct fmt_second second;
};

/* A pipe of the usual 64 KiB is full in the middle of each write: two switches to the reader and
 * back for every 128 KiB of lines.  Whatever forbids a larger one costs time and nothing else: it
 * is no pipe, or beyond what pipe(7) allows ("/proc files"). */
static void widen_pipe(int fd)
{
	int now = fcntl(fd, F_GETPIPE_SZ);

	if (now >= 0 && now < PIPE_OCTETS)
		(void)fcntl(fd, F_SETPIPE_SZ, PIPE_OCTETS);
}

static void flush(struct offline *r)
{
	for (size_t done = 0; done < r->used && !r->error;) {
		ssize_t n = write(STDOUT_FILENO, r->out + done, r->used - done);

		if (n >= 0)
			done += (size_t)n;
		else if (errno != EINTR)
			r->error = -errno;
	}
	r->used = 0;
}

/* Room for a line of up to @n octets. */
static struct strbuf line_begin(struct offline *r, size_t n)
{
	if (r->used + n > OUT_OCTETS)
		flush(r);
	return (struct strbuf){ .p = r->out + r->used, .end = r->out + OUT_OCTETS };
}

static void line_end(struct offline *r, const struct strbuf *t)
{
	r->used = (size_t)(t->p - r->out);
}

static struct event *sink_reserve(struct event_sink *s)
{
	struct offline *r = (struct offline *)s;

	if (!r->o->quiet)
		return &r->event;
	counter_add(&r->decoder.count->events, 1); /* counted, and nobody wants to know more */
	return NULL;
}

static const char *iface_name(const struct offline *r, unsigned i)
{
	const char *name = r->shards ? shards_iface(r->shards, i) : source_iface(r->source, i);

	return *name ? name : r->name;
}

/* The first line, once the first event is there: by then the interfaces are known, and its time is
 * the capture's, so that the same file gives the same lines. */
static void say_hello(struct offline *r, uint64_t ts_ns)
{
	const char *names[PCAPFILE_IFACES];
	struct identity id;
	unsigned n = 0;

	unsigned known = r->shards ? shards_ifaces(r->shards) : ARRAY_SIZE(names);

	for (; n < known; n++) {
		names[n] = r->shards ? shards_iface(r->shards, n) : source_iface(r->source, n);
		if (!*names[n])
			break;
	}
	if (!n)
		names[n++] = r->name;
	identity_init(&id, false);
	r->seq++;
	if (r->o->quiet)
		return;
	struct json_hello h = identity_hello(&id, names, n);
	struct strbuf t = line_begin(r, OUT_OCTETS);

	h.mode = capture_mode_name(r->o->mode);
	json_hello(&t, &h, r->seq, ts_ns);
	line_end(r, &t);
}

static void say_event(struct offline *r, const struct event *e)
{
	struct tunnel tunnel;
	unsigned iface = r->shards ? shards_where(r->shards, e->iface, &tunnel)
				   : decoder_where(&r->decoder, e->iface, &tunnel);

	if (unlikely(!r->seq))
		say_hello(r, e->ts_ns);
	r->seq++;
	if (e->ts_ns > r->last_ns)
		r->last_ns = e->ts_ns;
	struct json_context c = { .iface = iface_name(r, iface),
				  .tunnel = tunnel,
				  .second = &r->second,
				  .community = (enum community_policy)r->o->community_id,
				  .community_seed = (uint16_t)r->o->community_id_seed };
	struct strbuf t = line_begin(r, JSON_LINE_MAX);

	json_event(&t, e, r->seq, &c);
	line_end(r, &t);
}

static void sink_commit(struct event_sink *s)
{
	struct offline *r = (struct offline *)s;

	counter_add(&r->decoder.count->events, 1);
	say_event(r, &r->event);
}

static void say_stats(struct offline *r)
{
	struct source_stats s;
	struct stats_decoder d;

	if (r->shards)
		shards_read_counters(r->shards, r->name, &d);
	else
		decoder_read_counters(&r->decoder, r->name, &d);
	if (source_stats(r->source, &s) >= 0)
		d.source = s;
	if (!r->seq)
		say_hello(r, r->last_ns);
	r->seq++;
	if (!r->o->quiet) {
		struct strbuf t = line_begin(r, 2 * JSON_LINE_MAX);

		json_stats(&t, &d, 1, &(struct stats_subscribers){ 0 }, 0, r->seq, r->last_ns);
		line_end(r, &t);
	}
	log_info("%s: %llu frames, %llu of them TCP, %llu connections, %llu events", r->name,
		 (unsigned long long)d.source.packets, (unsigned long long)d.verdicts[FRAME_TCP],
		 (unsigned long long)d.opened, (unsigned long long)d.events);
}

/* A line that stays in place, on a terminal, while a long file is read. */
static void show_progress(struct offline *r)
{
	uint64_t now = wall_clock_ns(), size = pcapfile_size(r->source), at;
	struct stats_decoder d;

	if (now < r->progress_ns)
		return;
	bool first = !r->progress_ns;

	r->progress_ns = now + progress_every_ns;
	if (first)
		return; /* most files are done before this is worth a word */
	if (r->shards) {
		shards_read_counters(r->shards, r->name, &d);
		at = shards_offset(r->shards);
	} else {
		decoder_read_counters(&r->decoder, r->name, &d);
		at = pcapfile_offset(r->source);
	}
	if (size)
		fprintf(stderr, "\r%s: %3u %%, %llu connections ", r->name,
			(unsigned)((double)at * 100 / (double)size), (unsigned long long)d.opened);
	else
		fprintf(stderr, "\r%s: %llu MB, %llu connections ", r->name,
			(unsigned long long)at / 1000000, (unsigned long long)d.opened);
	fflush(stderr);
}

/* Reads to the end, or to where it breaks: 0 or -errno. */
static int pull_all(struct offline *r)
{
	unsigned batches = 0;
	int n;

	do {
		n = decoder_pull(&r->decoder);
		if (n == -EINTR)
			n = 1;
		if (source_fd(r->source) >= 0)
			flush(r); /* a pipe: the next frame may be long in coming */
		if (r->terminal && !(++batches & 0x3ff))
			show_progress(r);
	} while (n > 0 && !r->error);
	return n;
}

/* The same by several threads. */
static int merge_all(struct offline *r)
{
	bool pipe = source_fd(r->source) >= 0;
	unsigned events = 0;
	const struct event *e;
	enum shards_verdict v;

	do {
		v = shards_next(r->shards, r->terminal || pipe ? 0 : -1, &e);
		if (v == SHARDS_NONE) {
			if (pipe)
				flush(r);
			v = shards_next(r->shards, r->terminal ? 250 : -1, &e);
		}
		if (v == SHARDS_EVENT)
			say_event(r, e);
		if (r->terminal && (v == SHARDS_NONE || !(++events & 0xffff)))
			show_progress(r);
	} while (v != SHARDS_END && !r->error);
	return shards_finish(r->shards);
}

/* The file is mapped: who truncates it in the middle of the work takes the octets away. */
static void on_sigbus(int sig)
{
	static const char words[] = "synfind: error: the file was truncated while it was read\n";

	(void)sig;
	_exit(write(STDERR_FILENO, words, sizeof words - 1) < 0 ? 2 : 1);
}

static int offline_opened(struct offline *r)
{
	int e = r->o->decoders > 1
			? shards_start(r->o, r->source, &r->shards)
			: decoder_init(&r->decoder, r->o, r->source, NULL, &r->sink, 0, NULL);

	if (e < 0) {
		log_errno(e, "Cannot set up the flow table");
		return 1;
	}
	signal(SIGBUS, on_sigbus);
	widen_pipe(STDOUT_FILENO);
	r->terminal = isatty(STDERR_FILENO);
	if (r->shards) {
		e = merge_all(r);
	} else {
		e = pull_all(r);
		tracker_close_all(r->decoder.tracker, REASON_CAPTURE_END);
	}
	if (r->progress_ns)
		fputs("\r\033[K", stderr);
	say_stats(r);
	flush(r);
	if (r->error == -EPIPE) /* the reader has seen enough */
		return 0;
	if (r->error) {
		log_errno(r->error, "Cannot write events to standard output");
		return 1;
	}
	if (e < 0) {
		log_error("%s: %s", r->o->read_file, pcapfile_error(r->source));
		return 1;
	}
	return 0;
}

int offline_run(const struct options *o)
{
	struct offline *r = aligned_alloc(CACHE_LINE, sizeof *r);
	char error[PCAPFILE_ERROR_MAX];
	char *path = strdup(strcmp(o->read_file, "-") ? o->read_file : "stdin");
	int status = 1;

	if (!r || !path)
		goto out;
	memset(r, 0, sizeof *r);
	r->o = o;
	r->sink = (struct event_sink){ .reserve = sink_reserve, .commit = sink_commit };
	r->name = basename(path);
	r->out = malloc(OUT_OCTETS);
	if (!r->out)
		goto out;
	if (pcapfile_open(o->read_file, &r->source, error) < 0) {
		log_error("%s: %s", o->read_file, error);
		goto out;
	}
	status = offline_opened(r);
	if (r->shards || !r->decoder.source)
		source_free(r->source);
	shards_free(r->shards);
	decoder_destroy(&r->decoder);
out:
	if (r)
		free(r->out);
	free(r);
	free(path);
	return status;
}
