/* writers - the floor for a daemon with many subscribers: plain writes to as many sockets.
 *
 *     writers SOCKETS OCTETS LINE [BATCH]
 *
 * Writes OCTETS in all to SOCKETS stream sockets in turn, a line of LINE octets at a time, or as
 * many lines as fit in BATCH octets.  A process of its own reads them.  Prints one line of JSON:
 * CPU seconds of the writer. */
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <signal.h>
#include <unistd.h>

enum { SOCKETS_MAX = 1000, BATCH_MAX = 1 << 20, READ_AT_ONCE = 1 << 18 };

static void read_all(const int *fd, unsigned n)
{
	static struct pollfd p[SOCKETS_MAX];
	static char buffer[READ_AT_ONCE];

	for (unsigned i = 0; i < n; i++)
		p[i] = (struct pollfd){ .fd = fd[i], .events = POLLIN };
	for (unsigned open = n; open && poll(p, n, -1) > 0;)
		for (unsigned i = 0; i < n; i++)
			if (p[i].revents && read(p[i].fd, buffer, sizeof buffer) <= 0) {
				p[i].fd = -1;
				open--;
			}
}

static int write_all(const int *fd, unsigned n, uint64_t octets, size_t batch)
{
	static char text[BATCH_MAX];

	memset(text, 'x', batch);
	for (uint64_t done = 0, turn = 0; done < octets; done += batch, turn++)
		for (size_t at = 0; at < batch;) {
			ssize_t r = write(fd[turn % n], text + at, batch - at);

			if (r < 0) {
				perror("write");
				return 1;
			}
			at += (size_t)r;
		}
	return 0;
}

int main(int argc, char **argv)
{
	static int ours[SOCKETS_MAX], theirs[SOCKETS_MAX];
	unsigned n = argc > 3 ? (unsigned)atoi(argv[1]) : 0;
	uint64_t octets = argc > 3 ? strtoull(argv[2], NULL, 10) : 0;
	size_t line = argc > 3 ? strtoull(argv[3], NULL, 10) : 0;
	size_t batch = argc > 4 ? strtoull(argv[4], NULL, 10) : line;
	struct rusage u;

	if (argc > 5 || !n || n > SOCKETS_MAX || !octets || !line || batch > BATCH_MAX ||
	    batch < line) {
		fprintf(stderr, "usage: writers SOCKETS OCTETS LINE [BATCH]\n");
		return 2;
	}
	for (unsigned i = 0; i < n; i++) {
		int pair[2];

		if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair) < 0) {
			perror("socketpair");
			return 1;
		}
		ours[i] = pair[0];
		theirs[i] = pair[1];
	}
	if (!fork()) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		for (unsigned i = 0; i < n; i++)
			close(ours[i]);
		read_all(theirs, n);
		_exit(0);
	}
	for (unsigned i = 0; i < n; i++)
		close(theirs[i]);
	if (write_all(ours, n, octets, batch / line * line))
		return 1;
	getrusage(RUSAGE_SELF, &u);
	printf("{\"cpu\":%.6f}\n", (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) +
					   (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6);
	return 0;
}
