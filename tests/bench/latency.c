/* latency - a subscriber that tells how old events are when it gets them.
 *
 *     latency SOCKET [REQUEST]
 *
 * REQUEST: docs/requests.md; without one it gets every event.
 * Age of an event: CLOCK_REALTIME when read() returned its line, less the line's own timestamp, by
 * which the kernel marked the frame.  Only events that a frame caused count: not those of a timer,
 * whose timestamp is a deadline.  An event older than one that came before it was held back on
 * purpose (an attempt at a server that has many, lib/flow/synflood.h): those are counted apart.  At
 * the end of the stream, or on SIGTERM, prints one line of JSON, in ns.  What it read before the
 * first such event (hello) does not count. */
#include <errno.h>
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

enum { BUFFER = 1 << 18, AGES_MAX = 1 << 23, MINUTE_KEY = 16 };

static volatile sig_atomic_t stop;

static void on_signal(int sig)
{
	(void)sig;
	stop = 1;
}

static int64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_REALTIME, &t);
	return t.tv_sec * INT64_C(1000000000) + t.tv_nsec;
}

static int64_t number(const char *p, unsigned digits)
{
	int64_t v = 0;

	while (digits--)
		v = v * 10 + (*p++ - '0');
	return v;
}

/* "2023-11-14T22:13:20.000000000Z", always of this form: see docs/events.md. */
static int64_t time_of(const char *p)
{
	static char minute[MINUTE_KEY];
	static int64_t minute_ns;

	if (memcmp(minute, p, MINUTE_KEY)) {
		struct tm t = { .tm_year = (int)number(p, 4) - 1900,
				.tm_mon = (int)number(p + 5, 2) - 1,
				.tm_mday = (int)number(p + 8, 2),
				.tm_hour = (int)number(p + 11, 2),
				.tm_min = (int)number(p + 14, 2) };

		minute_ns = timegm(&t) * INT64_C(1000000000);
		memcpy(minute, p, MINUTE_KEY);
	}
	return minute_ns + number(p + 17, 2) * 1000000000 + number(p + 20, 9);
}

struct ages {
	int64_t *ns;
	size_t n;
};

static void ages_add(struct ages *a, int64_t ns)
{
	if (a->n < AGES_MAX)
		a->ns[a->n++] = ns;
}

/* Did a frame cause this event? */
static bool counts(const char *line, size_t n)
{
	static const char kind[] = "\"event_type\":\"tcp_";
	const char *k = memmem(line, n, kind, sizeof kind - 1);

	if (!k || !strncmp(k + sizeof kind - 1, "close", 5)) /* its time may be a deadline */
		return false;
	return !memmem(line, n, "\"basis\":\"timeout\"", 17);
}

static int by_value(const void *a, const void *b)
{
	int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;

	return (x > y) - (x < y);
}

static void ages_sort(struct ages *a)
{
	qsort(a->ns, a->n, sizeof *a->ns, by_value);
}

static long long quantile(const struct ages *sorted, double q)
{
	size_t i = (size_t)(q * (double)sorted->n);

	return sorted->n ? sorted->ns[i < sorted->n ? i : sorted->n - 1] : 0;
}

static int connect_to(const char *path)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);

	if (strlen(path) >= sizeof a.sun_path) {
		errno = ENAMETOOLONG;
		return -1;
	}
	strcpy(a.sun_path, path);
	if (fd < 0 || connect(fd, (struct sockaddr *)&a, sizeof a) < 0)
		return -1;
	return fd;
}

int main(int argc, char **argv)
{
	static const char stamp[] = "{\"timestamp\":\"";
	static char buffer[BUFFER];
	struct sigaction sa = { .sa_handler = on_signal };
	struct ages prompt = { .ns = malloc(AGES_MAX * sizeof(int64_t)) };
	struct ages held = { .ns = malloc(AGES_MAX * sizeof(int64_t)) };
	int64_t newest = 0;
	size_t used = 0;

	if (argc < 2 || argc > 3 || !prompt.ns || !held.ns) {
		fprintf(stderr, "usage: latency SOCKET [REQUEST]\n");
		return 2;
	}
	sigaction(SIGTERM, &sa, NULL);
	sigaction(SIGINT, &sa, NULL);
	int fd = connect_to(argv[1]);

	if (fd < 0 || (argc > 2 && dprintf(fd, "%s\n", argv[2]) < 0)) {
		perror(argv[1]);
		return 1;
	}
	while (!stop) {
		ssize_t r = read(fd, buffer + used, sizeof buffer - used);
		int64_t now = now_ns();

		if (r < 0 && errno == EINTR)
			continue;
		if (r <= 0)
			break;
		used += (size_t)r;

		char *line = buffer, *end;

		for (; (end = memchr(line, '\n', used - (size_t)(line - buffer))); line = end + 1) {
			size_t length = (size_t)(end - line);

			if (length <= 64 || memcmp(line, stamp, sizeof stamp - 1) ||
			    !counts(line, length))
				continue;

			int64_t at = time_of(line + sizeof stamp - 1);

			ages_add(at < newest ? &held : &prompt, now - at);
			if (at > newest)
				newest = at;
		}
		used -= (size_t)(line - buffer);
		memmove(buffer, line, used);
		if (used == sizeof buffer) {
			fprintf(stderr, "latency: a line of more than %d octets\n", BUFFER);
			return 1;
		}
	}
	ages_sort(&prompt);
	ages_sort(&held);
	printf("{\"events\":%zu,\"p50\":%lld,\"p99\":%lld,\"p999\":%lld,\"max\":%lld,\"held\":%zu,"
	       "\"held_p50\":%lld,\"held_p99\":%lld}\n",
	       prompt.n, quantile(&prompt, 0.5), quantile(&prompt, 0.99), quantile(&prompt, 0.999),
	       quantile(&prompt, 1), held.n, quantile(&held, 0.5), quantile(&held, 0.99));
	return 0;
}
