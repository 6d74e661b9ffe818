/* relay.c - the path between two network namespaces, as bad as the plan wants it.
 *
 *   A [va] -- [ra]  stage 1  (middle: m.pcap, device m0)  stage 2  [rb] -- [vb] B
 *
 * Each TCP segment of a planned connection passes two stages; at each it is, by dice that depend
 * only on the seed, the connection, the way and the segment's number, dropped, doubled or delayed
 * (so that it is overtaken).  Everything else (ARP, neighbour discovery) passes at once.  Between
 * the stages all is sent to m0, whose other end somebody may watch, and written to m.pcap.  What
 * va and vb themselves see, in their order, is written to a.pcap and b.pcap; A's loopback too.
 * What befell a segment is a line of relay.log.
 *
 *     relay SEED DIRECTORY NETNS-OF-A NETNS-OF-B       in the namespace that has ra, rb, m0
 *
 * It prints "ready" and works until SIGTERM or SIGINT; then it fails if a recording has a gap. */
#include <arpa/inet.h>
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/ethtool.h>
#include <linux/if_packet.h>
#include <linux/sockios.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>
#include "plan.h"

enum {
	FRAME_MAX = 2048, /* of the path; loopback's are longer */
	LOOPBACK_MAX = 66000,
	FLOWS = PLAN_MAX,
	RECEIVE_BUFFER = 64 << 20
};
enum { RA, RB, VA, VB, LO, DEVICES }; /* sockets; RA and RB forward, the others record */

struct held { /* a segment on its way */
	uint64_t due_ns, order;
	unsigned stage, way, flow, number, len;
	uint8_t data[FRAME_MAX];
};

static struct relay {
	uint64_t seed;
	int fd[DEVICES], middle;
	int ifindex[DEVICES], middle_ifindex;
	FILE *pcap_a, *pcap_b, *pcap_m, *log;
	struct held **heap;
	size_t held, room;
	uint64_t order;
	uint16_t count[FLOWS][2];
	uint8_t forged[FLOWS];
} r;

static volatile sig_atomic_t stop;

static void on_signal(int sig)
{
	(void)sig;
	stop = 1;
}

static uint64_t now_ns(clockid_t clock)
{
	struct timespec t;

	clock_gettime(clock, &t);
	return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

/* ---- recordings ------------------------------------------------------------------------------ */

static FILE *file_in(const char *dir, const char *name)
{
	char path[4096];
	FILE *f;

	snprintf(path, sizeof path, "%s/%s", dir, name);
	f = fopen(path, "we");
	if (!f)
		err(1, "%s", path);
	return f;
}

static FILE *pcap_in(const char *dir, const char *name)
{
	/* nanoseconds, version 2.4, snaplen, Ethernet */
	static const uint32_t head[6] = { 0xa1b23c4d, 2 | 4 << 16, 0, 0, 65535, 1 };
	FILE *f = file_in(dir, name);

	fwrite(head, sizeof head, 1, f);
	return f;
}

static void pcap_add(FILE *f, uint64_t ts_ns, const void *data, unsigned len)
{
	uint32_t head[4] = { (uint32_t)(ts_ns / 1000000000), (uint32_t)(ts_ns % 1000000000), len,
			     len };

	fwrite(head, sizeof head, 1, f);
	fwrite(data, len, 1, f);
}

/* ---- what is in a frame ---------------------------------------------------------------------- */

/* The TCP header of a frame of a planned connection, or NULL; *ret_flow: its number. */
static struct tcphdr *planned(const uint8_t *frame, unsigned len, unsigned *ret_flow)
{
	unsigned type = frame[12] << 8 | frame[13], at = 14;

	if (len >= 54 && type == ETHERTYPE_IP && frame[23] == IPPROTO_TCP)
		at += (frame[14] & 15) * 4;
	else if (len >= 74 && type == ETHERTYPE_IPV6 && frame[20] == IPPROTO_TCP)
		at += 40;
	else
		return NULL;
	struct tcphdr *tcp = (struct tcphdr *)(frame + at);
	unsigned sport = ntohs(tcp->source), dport = ntohs(tcp->dest);

	if (at + sizeof *tcp > len)
		return NULL;
	unsigned low = sport < dport ? sport : dport;

	if (low < PLAN_SERVER_PORT || low >= PLAN_SERVER_PORT + PLAN_MAX)
		return NULL;
	*ret_flow = low - PLAN_SERVER_PORT;
	return tcp;
}

static unsigned payload_of(const uint8_t *frame, const struct tcphdr *tcp)
{
	unsigned at = (unsigned)((const uint8_t *)tcp - frame) + tcp->doff * 4u;

	if (frame[12] == 0x08)
		return 14u + (frame[16] << 8 | frame[17]) - at;
	return 54u + (frame[18] << 8 | frame[19]) - at;
}

static void note(const struct held *h, const char *fate)
{
	unsigned flow;
	const struct tcphdr *tcp = planned(h->data, h->len, &flow);

	fprintf(r.log,
		"%" PRIu64
		" flow=%u way=%s stage=%u n=%u %s sport=%u flags=%c%c%c%c seq=%u ack=%u len=%u\n",
		now_ns(CLOCK_REALTIME), h->flow, h->way ? "B>A" : "A>B", h->stage, h->number, fate,
		ntohs(tcp->source), tcp->syn ? 'S' : '-', tcp->fin ? 'F' : '-',
		tcp->rst ? 'R' : '-', tcp->ack ? 'A' : '-', ntohl(tcp->seq), ntohl(tcp->ack_seq),
		payload_of(h->data, tcp));
}

/* ---- frames that wait, by time --------------------------------------------------------------- */

static bool before(const struct held *a, const struct held *b)
{
	return a->due_ns != b->due_ns ? a->due_ns < b->due_ns : a->order < b->order;
}

static void hold(struct held *h)
{
	size_t i = r.held++;

	h->order = r.order++;
	if (r.held > r.room) {
		r.room = r.room ? r.room * 2 : 1024;
		r.heap = realloc(r.heap, r.room * sizeof *r.heap);
		if (!r.heap)
			err(1, "memory");
	}
	for (; i && before(h, r.heap[(i - 1) / 2]); i = (i - 1) / 2)
		r.heap[i] = r.heap[(i - 1) / 2];
	r.heap[i] = h;
}

static struct held *take(void)
{
	struct held *first = r.heap[0], *last = r.heap[--r.held];
	size_t i = 0;

	for (size_t child; (child = 2 * i + 1) < r.held; i = child) {
		if (child + 1 < r.held && before(r.heap[child + 1], r.heap[child]))
			child++;
		if (!before(r.heap[child], last))
			break;
		r.heap[i] = r.heap[child];
	}
	r.heap[i] = last;
	return first;
}

/* ---- the path -------------------------------------------------------------------------------- */

static void emit(int fd, int ifindex, const void *data, unsigned len)
{
	struct sockaddr_ll to = { .sll_family = AF_PACKET, .sll_ifindex = ifindex };

	if (sendto(fd, data, len, 0, (struct sockaddr *)&to, sizeof to) < 0)
		warn("a frame is lost between devices");
}

/* Does the plan want that this one never arrives? */
static bool blocked(const struct plan *p, const struct held *h, const struct tcphdr *tcp)
{
	bool from_opener = h->way == p->opener;

	if (p->kind == BLACK_HOLE)
		return h->number > p->silent_after;
	if (p->kind != UNANSWERED)
		return false;
	switch (p->block) {
	case BLOCK_SYN:
		return from_opener && tcp->syn;
	case BLOCK_SYN_ACK:
		return !from_opener && tcp->syn;
	default:
		return from_opener && !tcp->syn;
	}
}

/* Lets a segment enter a stage: it is dropped, or leaves the stage later, once or twice. */
static void enter(struct held *h)
{
	unsigned flow;
	struct plan p = plan_of(r.seed, h->flow);
	uint64_t dice = plan_mix(plan_mix(r.seed ^ (uint64_t)h->flow << 32) ^
				 (h->number << 4 | h->stage << 1 | h->way));
	uint32_t span = path_of[p.path].delay_max - path_of[p.path].delay_min + 1;
	uint64_t base = now_ns(CLOCK_MONOTONIC);

	if (dice % 1000 < path_of[p.path].drop ||
	    (h->stage == 2 && blocked(&p, h, planned(h->data, h->len, &flow)))) {
		note(h, "dropped");
		free(h);
		return;
	}
	h->due_ns = base + (path_of[p.path].delay_min + (dice >> 32) % span) * 1000;
	if ((dice >> 16) % 1000 < path_of[p.path].dup) {
		struct held *twin = malloc(sizeof *twin);

		if (!twin)
			err(1, "memory");
		*twin = *h;
		twin->due_ns = base + (path_of[p.path].delay_min + (dice >> 40) % span) * 1000;
		note(h, "doubled");
		hold(twin);
	}
	hold(h);
}

static uint16_t sum16(const uint8_t *p, size_t len, uint32_t sum)
{
	for (; len > 1; p += 2, len -= 2)
		sum += p[0] << 8 | p[1];
	if (len)
		sum += p[0] << 8;
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return (uint16_t)sum;
}

/* Cuts the frame behind its TCP header and makes lengths and checksums right again. */
static void refit(struct held *h, struct tcphdr *tcp)
{
	unsigned at = (unsigned)((uint8_t *)tcp - h->data);
	bool v6 = h->data[12] == 0x86;

	tcp->doff = 5;
	h->len = at + 20;
	if (v6) {
		h->data[18] = 0;
		h->data[19] = 20;
	} else {
		h->data[16] = 0;
		h->data[17] = (uint8_t)(h->len - 14);
		h->data[24] = h->data[25] = 0;
		uint16_t s = (uint16_t)~sum16(h->data + 14, at - 14, 0);

		h->data[24] = s >> 8;
		h->data[25] = s & 0xff;
	}
	tcp->check = 0;
	tcp->check = htons(
		(uint16_t)~sum16((uint8_t *)tcp, 20,
				 sum16(h->data + (v6 ? 22 : 26), v6 ? 32 : 8, 20 + IPPROTO_TCP)));
}

/* Behind @h goes another one as an attacker would make it, which its receiver must ignore (RFC
 * 5961; RFC 9293 3.10.7.4): it takes the same way and is not in the dice. */
static void forge(const struct held *h)
{
	unsigned flow, n = r.forged[h->flow]++;
	struct plan p = plan_of(r.seed, h->flow);
	struct held *f = malloc(sizeof *f);

	if (!f)
		err(1, "memory");
	*f = *h;
	struct tcphdr *tcp = planned(f->data, f->len, &flow);
	uint32_t seq = ntohl(tcp->seq) + payload_of(f->data, tcp), ack = ntohl(tcp->ack_seq);
	const char *what;

	tcp->psh = 0;
	tcp->window = htons(500);
	switch ((p.dice + n) % 6) {
	case 0:
		what = "forged-rst-in-window";
		tcp->rst = 1;
		seq += 3000;
		break;
	case 1:
		what = "forged-rst-outside";
		tcp->rst = 1;
		seq -= 100000;
		break;
	case 2:
		what = "forged-fin-outside";
		tcp->fin = 1;
		seq += 1u << 30;
		break;
	case 3:
		what = "forged-syn";
		tcp->syn = 1;
		tcp->ack = 0;
		seq += 4000;
		break;
	case 4:
		what = "forged-syn-ack";
		tcp->syn = 1;
		seq += 5000;
		break;
	default:
		what = "forged-ack-unsent";
		ack += 1u << 29;
		break;
	}
	tcp->seq = htonl(seq);
	tcp->ack_seq = htonl(ack);
	refit(f, tcp);
	note(f, what);
	f->stage = 1;
	f->due_ns = now_ns(CLOCK_MONOTONIC) + 1;
	hold(f);
}

/* A segment leaves a stage. */
static void leave(struct held *h)
{
	unsigned flow;

	if (h->stage == 1) {
		const struct tcphdr *tcp = planned(h->data, h->len, &flow);

		/* In this order: who watches m0's other end stamps it before the recording does,
		 * and after what was recorded before. */
		emit(r.middle, r.middle_ifindex, h->data, h->len);
		pcap_add(r.pcap_m, now_ns(CLOCK_REALTIME), h->data, h->len);
		if (plan_of(r.seed, h->flow).kind == FORGED && r.forged[h->flow] < 4 && !tcp->syn &&
		    !tcp->rst && !tcp->fin && h->number >= 4u + 2u * r.forged[h->flow])
			forge(h);
		h->stage = 2;
		enter(h);
		return;
	}
	emit(r.fd[!h->way], r.ifindex[!h->way], h->data, h->len);
	free(h);
}

static void arrive(unsigned way, const uint8_t *frame, unsigned len)
{
	unsigned flow;
	const struct tcphdr *tcp = planned(frame, len, &flow);

	if (!tcp) {
		emit(r.fd[!way], r.ifindex[!way], frame, len);
		return;
	}
	struct held *h = malloc(sizeof *h);

	if (!h)
		err(1, "memory");
	*h = (struct held){ .stage = 1, .way = way, .flow = flow, .len = len };
	h->number = ++r.count[flow][way];
	memcpy(h->data, frame, len);
	enter(h);
}

/* ---- devices --------------------------------------------------------------------------------- */

static void offloads_off(const char *name)
{
	static const uint32_t set[] = { ETHTOOL_STSO, ETHTOOL_SGSO, ETHTOOL_SGRO, ETHTOOL_STXCSUM };
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	for (unsigned i = 0; i < sizeof set / sizeof *set; i++) {
		struct ethtool_value off = { .cmd = set[i] };
		struct ifreq ifr = { .ifr_data = (char *)&off };

		strcpy(ifr.ifr_name, name);
		if (ioctl(fd, SIOCETHTOOL, &ifr) < 0 && errno != EOPNOTSUPP)
			err(1, "%s: offloads", name);
	}
	close(fd);
}

static int device(const char *name, int *ret_ifindex)
{
	int one = 1, room = RECEIVE_BUFFER;
	int fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	struct sockaddr_ll at = { .sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_ALL) };

	at.sll_ifindex = (int)if_nametoindex(name);
	if (fd < 0 || !at.sll_ifindex)
		err(1, "%s", name);
	setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &room, sizeof room);
	setsockopt(fd, SOL_SOCKET, SO_TIMESTAMPNS, &one, sizeof one);
	offloads_off(name);
	if (bind(fd, (struct sockaddr *)&at, sizeof at) < 0)
		err(1, "%s", name);
	*ret_ifindex = at.sll_ifindex;
	return fd;
}

static void enter_netns(const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0 || setns(fd, CLONE_NEWNET) < 0)
		err(1, "%s", path);
	close(fd);
}

static void receive(unsigned dev)
{
	static uint8_t frame[LOOPBACK_MAX];
	uint8_t control[256];
	struct sockaddr_ll from;

	for (;;) {
		struct iovec iov = { frame, sizeof frame };
		struct msghdr m = { .msg_name = &from,
				    .msg_namelen = sizeof from,
				    .msg_iov = &iov,
				    .msg_iovlen = 1,
				    .msg_control = control,
				    .msg_controllen = sizeof control };
		ssize_t n = recvmsg(r.fd[dev], &m, MSG_TRUNC);
		uint64_t ts_ns = 0;
		unsigned flow;

		if (n < 0)
			return;
		if ((size_t)n > (dev == LO ? sizeof frame : FRAME_MAX))
			errx(1, "a frame of %zd octets: offloads are not off", n);
		for (struct cmsghdr *c = CMSG_FIRSTHDR(&m); c; c = CMSG_NXTHDR(&m, c)) {
			if (c->cmsg_type != SO_TIMESTAMPNS)
				continue;
			struct timespec t;

			memcpy(&t, CMSG_DATA(c), sizeof t);
			ts_ns = (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
		}
		bool out = from.sll_pkttype == PACKET_OUTGOING;

		if (dev <= RB && !out)
			arrive(dev, frame, (unsigned)n);
		if (dev > RB && planned(frame, (unsigned)n, &flow) && !(dev == LO && out))
			pcap_add(dev == VB ? r.pcap_b : r.pcap_a, ts_ns, frame, (unsigned)n);
	}
}

static bool whole_recordings(void)
{
	bool whole = true;

	for (unsigned i = 0; i < DEVICES; i++) {
		struct tpacket_stats s;
		socklen_t len = sizeof s;

		if (getsockopt(r.fd[i], SOL_PACKET, PACKET_STATISTICS, &s, &len) < 0 ||
		    s.tp_drops) {
			warnx("device %u lost %u frames", i, s.tp_drops);
			whole = false;
		}
	}
	return whole;
}

int main(int argc, char **argv)
{
	if (argc != 5)
		errx(2, "usage: relay SEED DIRECTORY NETNS-OF-A NETNS-OF-B");
	r.seed = strtoull(argv[1], NULL, 0);
	r.pcap_a = pcap_in(argv[2], "a.pcap");
	r.pcap_b = pcap_in(argv[2], "b.pcap");
	r.pcap_m = pcap_in(argv[2], "m.pcap");
	r.log = file_in(argv[2], "relay.log");
	r.fd[RA] = device("ra", &r.ifindex[RA]);
	r.fd[RB] = device("rb", &r.ifindex[RB]);
	r.middle = device("m0", &r.middle_ifindex);
	enter_netns(argv[3]);
	r.fd[VA] = device("va", &r.ifindex[VA]);
	r.fd[LO] = device("lo", &r.ifindex[LO]);
	enter_netns(argv[4]);
	r.fd[VB] = device("vb", &r.ifindex[VB]);
	signal(SIGTERM, on_signal);
	signal(SIGINT, on_signal);
	puts("ready");
	fflush(stdout);

	while (!stop) {
		struct pollfd p[DEVICES];
		struct timespec wait = { 0, 100000000 };

		for (unsigned i = 0; i < DEVICES; i++)
			p[i] = (struct pollfd){ .fd = r.fd[i], .events = POLLIN };
		if (r.held) {
			uint64_t now = now_ns(CLOCK_MONOTONIC), due = r.heap[0]->due_ns;

			wait.tv_nsec = due <= now	       ? 0
				       : due - now < 100000000 ? (long)(due - now)
							       : 100000000;
		}
		ppoll(p, DEVICES, &wait, NULL);
		for (unsigned i = 0; i < DEVICES; i++)
			if (p[i].revents)
				receive(i);
		while (r.held && r.heap[0]->due_ns <= now_ns(CLOCK_MONOTONIC))
			leave(take());
	}
	bool whole = whole_recordings();

	if (fclose(r.pcap_a) | fclose(r.pcap_b) | fclose(r.pcap_m) | fclose(r.log))
		err(1, "a recording");
	return whole ? 0 : 1;
}
