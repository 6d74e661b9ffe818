/* ringwalk - the floor for live capture: a TPACKET_V3 ring whose packets are counted.
 *
 *     ringwalk INTERFACE
 *
 * 64 blocks of 1 MiB, retired after 10 ms, a filter for TCP that keeps 128 octets: what synfind
 * asks for.  Touches nothing of a packet but its header.  On SIGINT or SIGTERM it prints one
 * line of JSON. */
#include <arpa/inet.h>
#include <linux/filter.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

enum { BLOCKS = 64, BLOCK = 1 << 20, RETIRE_MS = 10, SNAP = 128 };

static volatile sig_atomic_t stop;

static void on_signal(int sig)
{
	(void)sig;
	stop = 1;
}

static void die(const char *what)
{
	perror(what);
	exit(1);
}

/* TCP behind Ethernet and IPv4 or IPv6 without extension headers. */
static void set_filter(int fd)
{
	struct sock_filter f[] = {
		BPF_STMT(BPF_LD | BPF_H | BPF_ABS, 12),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, ETH_P_IPV6, 0, 2),
		BPF_STMT(BPF_LD | BPF_B | BPF_ABS, 20),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, IPPROTO_TCP, 3, 4),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, ETH_P_IP, 0, 3),
		BPF_STMT(BPF_LD | BPF_B | BPF_ABS, 23),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, IPPROTO_TCP, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SNAP),
		BPF_STMT(BPF_RET | BPF_K, 0),
	};
	struct sock_fprog program = { sizeof f / sizeof *f, f };

	if (setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof program) < 0)
		die("SO_ATTACH_FILTER");
}

static uint8_t *make_ring(int fd)
{
	int version = TPACKET_V3;
	struct tpacket_req3 r = { .tp_block_size = BLOCK,
				  .tp_block_nr = BLOCKS,
				  .tp_frame_size = 2048,
				  .tp_frame_nr = BLOCK / 2048 * BLOCKS,
				  .tp_retire_blk_tov = RETIRE_MS };

	if (setsockopt(fd, SOL_PACKET, PACKET_VERSION, &version, sizeof version) < 0 ||
	    setsockopt(fd, SOL_PACKET, PACKET_RX_RING, &r, sizeof r) < 0)
		die("PACKET_RX_RING");
	void *map = mmap(NULL, (size_t)BLOCK * BLOCKS, PROT_READ | PROT_WRITE,
			 MAP_SHARED | MAP_POPULATE, fd, 0);

	if (map == MAP_FAILED)
		die("mmap");
	return map;
}

int main(int argc, char **argv)
{
	struct sigaction sa = { .sa_handler = on_signal };
	uint64_t packets = 0, octets = 0, wakeups = 0;

	if (argc != 2) {
		fprintf(stderr, "usage: ringwalk INTERFACE\n");
		return 2;
	}
	sigaction(SIGINT, &sa, NULL);
	sigaction(SIGTERM, &sa, NULL);

	int fd = socket(AF_PACKET, SOCK_RAW, 0);

	if (fd < 0)
		die("socket");
	set_filter(fd);
	uint8_t *map = make_ring(fd);
	struct sockaddr_ll a = { .sll_family = AF_PACKET,
				 .sll_protocol = htons(ETH_P_ALL),
				 .sll_ifindex = (int)if_nametoindex(argv[1]) };

	if (!a.sll_ifindex || bind(fd, (struct sockaddr *)&a, sizeof a) < 0)
		die(argv[1]);

	struct pollfd poller = { .fd = fd, .events = POLLIN | POLLERR };

	for (unsigned b = 0; !stop;) {
		struct tpacket_block_desc *d = (void *)(map + (size_t)b * BLOCK);
		uint32_t *status = &d->hdr.bh1.block_status;

		if (!(__atomic_load_n(status, __ATOMIC_ACQUIRE) & TP_STATUS_USER)) {
			poll(&poller, 1, 200);
			wakeups++;
			continue;
		}
		uint8_t *p = (uint8_t *)d + d->hdr.bh1.offset_to_first_pkt;

		for (uint32_t i = 0; i < d->hdr.bh1.num_pkts; i++) {
			const struct tpacket3_hdr *h = (void *)p;

			packets++;
			octets += h->tp_len;
			p += h->tp_next_offset;
		}
		__atomic_store_n(status, TP_STATUS_KERNEL, __ATOMIC_RELEASE);
		b = (b + 1) % BLOCKS;
	}

	struct tpacket_stats_v3 s;
	socklen_t n = sizeof s;

	if (getsockopt(fd, SOL_PACKET, PACKET_STATISTICS, &s, &n) < 0)
		die("PACKET_STATISTICS");
	printf("{\"packets\":%llu,\"drops\":%u,\"octets\":%llu,\"wakeups\":%llu}\n",
	       (unsigned long long)packets, s.tp_drops, (unsigned long long)octets,
	       (unsigned long long)wakeups);
	return 0;
}
