/* latency - a subscriber that tells how old events are when it gets them.
 *
 *     latency SOCKET
 *
 * Age of an event: CLOCK_REALTIME when read() returned its line, less the line's own timestamp, by
 * which the kernel marked the frame.  Only events that a frame caused count: not those of a timer,
 * whose timestamp is a deadline.  At the end of the stream, or on SIGTERM, prints one line of
 * JSON, in ns.  What it read before the first such event (hello) does not count. */
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

static long long quantile(const int64_t *sorted, size_t n, double q)
{
	size_t i = (size_t)(q * (double)n);

	return n ? sorted[i < n ? i : n - 1] : 0;
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
	int64_t *ages = malloc(AGES_MAX * sizeof *ages);
	size_t n = 0, used = 0;

	if (argc != 2 || !ages) {
		fprintf(stderr, "usage: latency SOCKET\n");
		return 2;
	}
	sigaction(SIGTERM, &sa, NULL);
	sigaction(SIGINT, &sa, NULL);
	int fd = connect_to(argv[1]);

	if (fd < 0) {
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

			if (n < AGES_MAX && length > 64 && !memcmp(line, stamp, sizeof stamp - 1) &&
			    counts(line, length))
				ages[n++] = now - time_of(line + sizeof stamp - 1);
		}
		used -= (size_t)(line - buffer);
		memmove(buffer, line, used);
		if (used == sizeof buffer) {
			fprintf(stderr, "latency: a line of more than %d octets\n", BUFFER);
			return 1;
		}
	}
	qsort(ages, n, sizeof *ages, by_value);
	printf("{\"events\":%zu,\"p50\":%lld,\"p99\":%lld,\"p999\":%lld,\"max\":%lld}\n", n,
	       quantile(ages, n, 0.5), quantile(ages, n, 0.99), quantile(ages, n, 0.999),
	       quantile(ages, n, 1));
	return 0;
}
