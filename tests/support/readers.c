/* readers - many subscribers in one program, for traffic at a speed that Python cannot read.
 *
 *     readers SOCKET < ORDERS
 *
 * An order is a line of stdin, in which REQUEST is the rest, may be empty, and is sent as it is:
 *
 *     FILE UID RATE STALL REQUEST
 *
 * A subscriber of user UID connects, and what it reads goes to FILE, octet for octet.  For each
 * read(2) FILE.at gets two numbers of 64 bits: octets so far, and CLOCK_REALTIME in ns.  RATE: so
 * many octets per second at most; 0: any number.  STALL: so many ms after SIGUSR1 without a read.
 *
 * Says "ready" when all of them have the answer to their request, or, without one, hello.  Ends at
 * SIGTERM, or with the last stream, with a line of JSON: for each its octets, whether its stream
 * ended, and for how many ms it did not read. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

enum { READERS = 256, BUFFER = 1 << 18, REQUEST = 4096, WAIT_MS = 1000 };

#define MS INT64_C(1000000)

struct reader {
	int fd, file, at; /* fd -1: its stream has ended */
	uint64_t octets;
	int64_t rate, stall_ns;
	int64_t next;		/* not read before */
	int64_t begin, stalled; /* of the stall; how long it was, once it is over */
	bool answered;
};

static struct reader list[READERS];
static unsigned readers;
static char buffer[BUFFER];
static volatile sig_atomic_t stop, stall;

static void on_signal(int sig)
{
	if (sig == SIGUSR1)
		stall = 1;
	else
		stop = 1;
}

static int64_t now_ns(clockid_t clock)
{
	struct timespec t;

	clock_gettime(clock, &t);
	return t.tv_sec * INT64_C(1000000000) + t.tv_nsec;
}

static void die(const char *what)
{
	fprintf(stderr, "readers: %s: %s\n", what, strerror(errno));
	exit(1);
}

static void put(int fd, const void *data, size_t n)
{
	if (write(fd, data, n) != (ssize_t)n)
		die("write");
}

/* The kernel notes who calls connect(2). */
static int connect_as(uid_t uid, const char *path)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);

	if (strlen(path) >= sizeof a.sun_path)
		exit(2);
	strcpy(a.sun_path, path);
	if (fd < 0 || seteuid(uid) < 0 || connect(fd, (struct sockaddr *)&a, sizeof a) < 0 ||
	    seteuid(0) < 0)
		die(path);
	return fd;
}

static int create(const char *name, const char *suffix)
{
	char path[REQUEST];
	int fd;

	snprintf(path, sizeof path, "%s%s", name, suffix);
	fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0644);
	if (fd < 0)
		die(path);
	return fd;
}

static void add(const char *path, char *line)
{
	struct reader *r = &list[readers];
	char file[512];
	unsigned uid;
	int used = 0;

	if (readers == READERS || sscanf(line, "%511s %u %" SCNd64 " %" SCNd64 " %n", file, &uid,
					 &r->rate, &r->stall_ns, &used) < 4) {
		fprintf(stderr, "readers: bad order: %s", line);
		exit(2);
	}
	r->stall_ns *= MS;
	r->file = create(file, "");
	r->at = create(file, ".at");
	r->fd = connect_as(uid, path);
	if (strlen(line + used) > 1) /* more than its newline */
		put(r->fd, line + used, strlen(line + used));
	else
		r->answered = true;
	readers++;
}

static void take(struct reader *r, int64_t now)
{
	size_t most = r->rate && r->rate / 20 < BUFFER ? (size_t)(r->rate / 20) : BUFFER;
	ssize_t n = read(r->fd, buffer, most);
	uint64_t mark[2];

	if (n < 0 && errno == EINTR)
		return;
	if (n <= 0) {
		close(r->fd);
		r->fd = -1;
		return;
	}
	r->octets += (uint64_t)n;
	mark[0] = r->octets;
	mark[1] = (uint64_t)now_ns(CLOCK_REALTIME);
	put(r->file, buffer, (size_t)n);
	put(r->at, mark, sizeof mark);
	if (!r->answered)
		r->answered = memmem(buffer, (size_t)n, "\"subscribed\"", 12);
	if (r->rate)
		r->next = now + n * 1000 * MS / r->rate;
}

static void stall_all(int64_t now)
{
	for (unsigned i = 0; i < readers; i++)
		if (list[i].stall_ns) {
			list[i].begin = now;
			list[i].next = now + list[i].stall_ns;
		}
}

/* What can be read; returns the ms until there may be more of that. */
static int choose(struct pollfd p[static READERS], int64_t now)
{
	int64_t wait = WAIT_MS * MS;

	for (unsigned i = 0; i < readers; i++) {
		struct reader *r = &list[i];

		p[i] = (struct pollfd){ .fd = r->next > now ? -1 : r->fd, .events = POLLIN };
		if (r->next > now && r->next - now < wait)
			wait = r->next - now;
		if (r->begin && !r->stalled && r->next <= now)
			r->stalled = now - r->begin;
	}
	return (int)(wait / MS) + 1;
}

/* Are they all there / is one of them? */
static bool all_answered(void)
{
	for (unsigned i = 0; i < readers; i++)
		if (!list[i].answered || !list[i].octets)
			return false;
	return true;
}

static bool any_open(void)
{
	for (unsigned i = 0; i < readers; i++)
		if (list[i].fd >= 0)
			return true;
	return false;
}

static void report(void)
{
	putchar('[');
	for (unsigned i = 0; i < readers; i++)
		printf("%s{\"octets\":%" PRIu64 ",\"ended\":%s,\"stalled_ms\":%" PRId64 "}",
		       i ? "," : "", list[i].octets, list[i].fd < 0 ? "true" : "false",
		       list[i].stalled / MS);
	puts("]");
}

int main(int argc, char **argv)
{
	static const struct sigaction sa = { .sa_handler = on_signal };
	static struct pollfd p[READERS];
	char line[REQUEST];
	bool ready = false;

	if (argc != 2) {
		fprintf(stderr, "usage: readers SOCKET < ORDERS\n");
		return 2;
	}
	sigaction(SIGTERM, &sa, NULL);
	sigaction(SIGUSR1, &sa, NULL);
	while (fgets(line, sizeof line, stdin))
		add(argv[1], line);
	while (!stop && any_open()) {
		int64_t now = now_ns(CLOCK_MONOTONIC);

		if (stall)
			stall_all(now);
		stall = 0;

		int wait = choose(p, now);

		if (poll(p, readers, wait) <= 0)
			continue;
		for (unsigned i = 0; i < readers; i++)
			if (p[i].revents)
				take(&list[i], now);
		if (!ready && all_answered()) {
			ready = true;
			puts("ready");
			fflush(stdout);
		}
	}
	report();
	return 0;
}
