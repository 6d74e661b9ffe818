/* blast - sends the frames of a pcap file out of an interface, fast.
 *
 *     blast -i INTERFACE [-p PPS] [-b BATCH] [-n FRAMES] FILE
 *
 * sendmmsg() on a packet socket that skips the queueing discipline.  With -p the batches are paced
 * (it sleeps through long gaps and spins through short ones); -n stops after so many frames.
 * Prints one line of JSON.  For a veth of one's own. */
#include <errno.h>
#include <fcntl.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { BATCH_MAX = 512, FILE_HEADER = 24, RECORD_HEADER = 16 };

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void wait_until(double when)
{
	const double oversleep = 200e-6;
	double left = when - now();

	if (left > oversleep)
		usleep((useconds_t)((left - oversleep) * 1e6));
	while (now() < when)
		;
}

static int open_interface(const char *name)
{
	/* Protocol 0: this socket receives nothing. */
	int fd = socket(AF_PACKET, SOCK_RAW, 0), one = 1;
	struct sockaddr_ll a = { .sll_family = AF_PACKET,
				 .sll_ifindex = (int)if_nametoindex(name) };

	if (fd < 0 || !a.sll_ifindex || bind(fd, (struct sockaddr *)&a, sizeof a) < 0 ||
	    setsockopt(fd, SOL_PACKET, PACKET_QDISC_BYPASS, &one, sizeof one) < 0) {
		fprintf(stderr, "blast: %s: %s\n", name, strerror(errno));
		return -1;
	}
	return fd;
}

/* Sends all of @m; -1 on an error that will not pass. */
static int send_batch(int fd, struct mmsghdr *m, unsigned n, uint64_t *retries)
{
	for (unsigned done = 0; done < n;) {
		int r = sendmmsg(fd, m + done, n - done, 0);

		if (r > 0) {
			done += (unsigned)r;
		} else if (errno == ENOBUFS || errno == EAGAIN || errno == EINTR) {
			++*retries;
		} else {
			perror("blast: sendmmsg");
			return -1;
		}
	}
	return 0;
}

int main(int argc, char **argv)
{
	static struct mmsghdr m[BATCH_MAX];
	static struct iovec v[BATCH_MAX];
	const char *interface = NULL;
	double pps = 0;
	uint64_t limit = UINT64_MAX, sent = 0, retries = 0;
	unsigned batch = 64;

	for (int k; (k = getopt(argc, argv, "i:p:b:n:")) != -1;)
		switch (k) {
		case 'i':
			interface = optarg;
			break;
		case 'p':
			pps = atof(optarg);
			break;
		case 'b':
			batch = (unsigned)atoi(optarg);
			break;
		case 'n':
			limit = strtoull(optarg, NULL, 10);
			break;
		default:
			return 2;
		}
	if (!interface || optind + 1 != argc || !batch || batch > BATCH_MAX) {
		fprintf(stderr, "usage: blast -i INTERFACE [-p PPS] [-b BATCH] [-n FRAMES] FILE\n");
		return 2;
	}

	struct stat st;
	int file = open(argv[optind], O_RDONLY);

	if (file < 0 || fstat(file, &st) < 0) {
		perror(argv[optind]);
		return 1;
	}
	size_t size = (size_t)st.st_size;
	uint8_t *p = mmap(NULL, size, PROT_READ, MAP_PRIVATE | MAP_POPULATE, file, 0);
	int fd = open_interface(interface);

	if (p == MAP_FAILED || fd < 0)
		return 1;
	for (unsigned i = 0; i < BATCH_MAX; i++)
		m[i].msg_hdr = (struct msghdr){ .msg_iov = &v[i], .msg_iovlen = 1 };

	double start = now();

	for (size_t at = FILE_HEADER; sent < limit && at + RECORD_HEADER <= size;) {
		unsigned n = 0;

		for (; n < batch && sent + n < limit && at + RECORD_HEADER <= size; n++) {
			uint32_t cap;

			memcpy(&cap, p + at + 8, sizeof cap);
			v[n] = (struct iovec){ p + at + RECORD_HEADER, cap };
			at += RECORD_HEADER + cap;
		}
		if (send_batch(fd, m, n, &retries) < 0)
			return 1;
		sent += n;
		if (pps > 0)
			wait_until(start + (double)sent / pps);
	}
	double took = now() - start;

	printf("{\"sent\":%llu,\"seconds\":%.6f,\"pps\":%.0f,\"retries\":%llu}\n",
	       (unsigned long long)sent, took, (double)sent / took, (unsigned long long)retries);
	return 0;
}
