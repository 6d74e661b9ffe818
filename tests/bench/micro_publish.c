/* micro_publish.c - what it costs to publish: the daemon's publisher, line log and subscribers,
 * with readers in another process.
 *
 * Events go through the SPSC ring of a decoder that has no thread: this program fills the ring when
 * it is empty and the slowest subscriber is less than half a log behind, so that nothing is lost
 * and the readers set the pace.  A run is over when every subscriber has been sent everything.
 *
 *   micro_publish [EVENTS [READERS]]     default 1500000, and 0, 1, 10, 100 readers, socat and nc
 *
 * Readers take 64 KiB at a time.  For each run: events per second of wall time, and ns of CPU of
 * the publishing process per event, which includes making it.  A line is encoded once: what each
 * reader adds is the kernel's copy of it. */
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>
#include "base/cc.h"
#include "common/clock.h"
#include "common/options.h"
#include "flow/origin.h"
#include "synfind/decoder.h"
#include "synfind/publisher.h"
#include "synfind/publisher_state.h"
#include "synfind/fdstore.h"
#include "synfind/subscriber.h"
#include "tests/bench/micro.h"
#include "tests/bench/micro_event.h"

enum { KINDS = 6 * 512, READERS_MAX = 100, READ_AT_ONCE = 1 << 16 };

static char dir[] = "/tmp/micro_publish.XXXXXX", path[sizeof dir + 8];
static struct event kinds[KINDS];

/* ---- readers: a process of their own --------------------------------------------------------- */

static int reader_connect(void)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);

	memcpy(a.sun_path, path, sizeof path);
	if (connect(fd, (void *)&a, sizeof a) < 0) {
		perror("connect");
		_exit(1);
	}
	return fd;
}

/* Reads from @n connections, to their ends. */
static void read_all(unsigned n)
{
	static char buf[READ_AT_ONCE];
	struct pollfd fds[READERS_MAX];

	for (unsigned i = 0; i < n; i++)
		fds[i] = (struct pollfd){ .fd = reader_connect(), .events = POLLIN };
	for (unsigned open = n; open;) {
		if (n > 1) /* one alone just reads */
			poll(fds, n, -1);
		for (unsigned i = 0; i < n; i++) {
			if (fds[i].fd < 0 || (n > 1 && !fds[i].revents))
				continue;
			if (read(fds[i].fd, buf, sizeof buf) <= 0) {
				close(fds[i].fd);
				fds[i].fd = -1;
				open--;
			}
		}
	}
}

static pid_t reader_start(const char *program, unsigned n)
{
	char address[sizeof path + 16];
	pid_t pid = fork();

	if (pid)
		return pid;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	snprintf(address, sizeof address, "UNIX-CONNECT:%s", path);
	if (!strcmp(program, "C")) {
		read_all(n);
		_exit(0);
	}
	dup2(open("/dev/null", O_RDWR), STDIN_FILENO);
	dup2(STDIN_FILENO, STDOUT_FILENO);
	if (!strcmp(program, "socat"))
		execlp("socat", "socat", "-u", address, "-", NULL);
	else
		execlp("nc", "nc", "-U", path, NULL);
	_exit(127);
}

/* ---- the publishing side --------------------------------------------------------------------- */

struct bench {
	struct options o;
	sd_event *loop;
	struct publisher publisher;
	struct fdstore fdstore;
	struct decoder decoder;
	uint64_t made;
};

static void fail(const char *what, int r)
{
	fprintf(stderr, "%s: %s\n", what, strerror(-r));
	exit(1);
}

static void bench_init(struct bench *b)
{
	char *argv[] = { "micro_publish",
			 "--socket",
			 path,
			 "--max-subscribers=200",
			 "--max-subscribers-per-uid=200",
			 "--log-level=err",
			 NULL };
	int r = options_parse(ARRAY_SIZE(argv) - 1, argv, &b->o);
	void *memory;

	if (r)
		fail("options", r);
	log_set_level(b->o.log_level);
	memory = aligned_alloc(CACHE_LINE, SPSC_OCTETS(b->o.event_ring_size, sizeof(struct event)));
	spsc_init(&b->decoder.ring, memory, b->o.event_ring_size, sizeof(struct event), 0);
	origins_init(&b->decoder.pipeline.origins, calloc(1, origins_memory()),
		     &(struct hash_key){ 0 }, NULL);
	r = sd_event_new(&b->loop);
	if (r >= 0)
		r = publisher_init(&b->publisher, &b->o, b->loop, &b->fdstore);
	if (r >= 0)
		r = publisher_add(&b->publisher, &b->decoder, 0, "eth0");
	if (r < 0)
		fail("publisher", r);
}

static void bench_free(struct bench *b)
{
	free(b->decoder.ring.words);
	free(b->decoder.pipeline.origins.memory);
	publisher_destroy(&b->publisher);
	sd_event_unref(b->loop);
	options_free(&b->o);
}

/* Octets that the slowest subscriber still has to be sent. */
static uint64_t behind(const struct publisher *p)
{
	uint64_t most = 0;

	for (const struct subscriber *s = p->subscribers.list; s; s = s->next)
		if (p->stream.state->end[0].head - s->record->cursor.at > most)
			most = p->stream.state->end[0].head - s->record->cursor.at;
	return most;
}

static void produce(struct bench *b, uint64_t n)
{
	for (; n; n--) {
		struct event *e = spsc_reserve(&b->decoder.ring);

		if (!e)
			break;
		*e = kinds[b->made % KINDS];
		e->number = b->made++;
		spsc_commit(&b->decoder.ring);
	}
	if (spsc_must_wake(&b->decoder.ring) &&
	    write(b->publisher.wake_fd, &(uint64_t){ 1 }, sizeof(uint64_t)) < 0)
		perror("eventfd");
}

static void turn(struct bench *b)
{
	int r = sd_event_run(b->loop, UINT64_MAX);

	if (r < 0)
		fail("loop", r);
}

/* @at_least: the goal, events per second; 0: none.  Returns ns of CPU per event. */
static double run(const char *program, unsigned readers, uint64_t events, double at_least)
{
	struct bench b = { 0 };
	char name[64];
	pid_t pid = 0;

	bench_init(&b);
	if (readers)
		pid = reader_start(program, readers);
	while (b.publisher.subscribers.connected < readers)
		turn(&b);

	uint64_t first = b.publisher.stream.state->seq;
	double wall = micro_clock(CLOCK_MONOTONIC), cpu = micro_clock(CLOCK_PROCESS_CPUTIME_ID);

	while (b.publisher.stream.state->seq - first < events || behind(&b.publisher)) {
		if (b.made < events && b.publisher.stream.state->seq - first == b.made &&
		    behind(&b.publisher) < b.publisher.stream.log[0].size / 2)
			produce(&b, events - b.made < 4096 ? events - b.made : 4096);
		if (b.publisher.subscribers.connected < readers) {
			fprintf(stderr, "%s: a reader is gone\n", program);
			exit(1);
		}
		turn(&b);
	}
	wall = micro_clock(CLOCK_MONOTONIC) - wall;
	cpu = micro_clock(CLOCK_PROCESS_CPUTIME_ID) - cpu;
	if (b.publisher.stream.state->lost_events)
		fprintf(stderr, "%s: %llu events lost\n", program,
			(unsigned long long)b.publisher.stream.state->lost_events);
	snprintf(name, sizeof name, "publish_to_%u_%s", readers, program);
	if (at_least > 0)
		micro_say_goal(name, "events/s", (double)events / wall, "at_least", at_least);
	else
		micro_say(name, "events/s", (double)events / wall);
	snprintf(name, sizeof name, "publish_to_%u_%s_cpu", readers, program);
	micro_say(name, "ns/event", cpu * 1e9 / (double)events);
	bench_free(&b);
	if (pid)
		waitpid(pid, NULL, 0);
	return cpu * 1e9 / (double)events;
}

static bool there(const char *program)
{
	char command[64];

	snprintf(command, sizeof command, "command -v %s >/dev/null", program);
	return !system(command);
}

int main(int argc, char **argv)
{
	uint64_t events = argc > 1 ? strtoull(argv[1], NULL, 10) : 1500000;

	signal(SIGPIPE, SIG_IGN);
	if (!mkdtemp(dir)) {
		perror(dir);
		return 1;
	}
	snprintf(path, sizeof path, "%s/s", dir);
	for (unsigned i = 0; i < KINDS; i++)
		kinds[i] = micro_event(i);
	if (argc > 2) {
		run("C", (unsigned)strtoul(argv[2], NULL, 10) % (READERS_MAX + 1), events, 0);
	} else {
		double one, hundred;

		run("C", 0, events, 0);
		one = run("C", 1, events, 3e6);
		if (there("socat"))
			run("socat", 1, events, 1.5e6);
		if (there("nc"))
			run("nc", 1, events, 0);
		run("C", 10, events / 4, 0);
		hundred = run("C", 100, events / 16, 0);
		micro_say_goal("publish_100_to_1", "ratio of ns/event", hundred / one, "at_most",
			       3);
	}
	rmdir(dir);
	return 0;
}
