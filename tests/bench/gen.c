/*
 * gen.c - deterministic TCP workload generator (writes a pcap file).
 *
 * The generator plays a given number of TCP connections against each other
 * and writes the frames in the order in which a sniffer on the path would see
 * them.  Everything follows from --seed: the same options give the same file,
 * byte for byte.
 *
 *   - Connection i has the outcome, the address family and the 4-tuple that
 *     hash(seed, i) gives.  The 4-tuple comes from a permutation (a 4-round
 *     Feistel network on 40 bits), so that no two connections share one unless
 *     --reuse asks for it.
 *   - At most --window connections are in play at once.  For each frame one of
 *     them is picked at random and emits its next frame; when it has finished,
 *     the next connection takes its place.
 *   - With --hold, connections that have finished their handshake are parked;
 *     when all are parked, they are taken up again in random order and closed.
 *     So all of them are open at the same time.  --exchange N has N data segments
 *     travel among them meanwhile, each on one picked at random, and --leave-open
 *     ends the file there: what comes behind the handshakes is then nothing but
 *     traffic on so many open connections.
 *   - With --flood N, N lone SYNs from random sources to one server are mixed
 *     evenly among the frames of the real connections.
 *
 * Frames have correct lengths, IPv4 header checksums and TCP checksums, and
 * sequence and acknowledgement numbers that fit together.  The payload is
 * pseudo-random (the same bytes in each segment).
 *
 * The truth about the file (what a tracker ought to report) goes to stderr
 * and, with --truth, to a file, as one JSON object.
 *
 * Build: cc -O2 -Wall -Wextra -o gen gen.c
 */
#define _GNU_SOURCE
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- pseudo-random numbers ---------------------------------------------- */

static uint64_t mix64(uint64_t x) /* a hash of one word */
{
	x += 0x9e3779b97f4a7c15ull;
	x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
	x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
	return x ^ (x >> 31);
}

static uint64_t rng_state;
static uint64_t rnd(void)
{
	rng_state += 0x9e3779b97f4a7c15ull;
	return mix64(rng_state);
}
static uint32_t rnd_below(uint32_t n)
{
	return (uint32_t)(((rnd() >> 32) * n) >> 32);
}

/* ---- options ------------------------------------------------------------- */

static struct opts {
	const char *out, *truth;
	uint64_t conns, window, flood, exchange, seed;
	uint32_t segs, payload, request, snaplen, servers, pps, syn_retries;
	double refused, aborted, unanswered, fin3, server_close, ipv6, upload, reuse;
	bool hold, nano, headers, leave_open;
} o = {
	.conns = 1000,
	.window = 100,
	.seed = 1,
	.segs = 2,
	.payload = 400,
	.request = 200,
	.snaplen = 65535,
	.servers = 256,
	.pps = 200000,
	.syn_retries = 1,
	.server_close = 30,
	.fin3 = 50,
	.upload = 0,
};

enum outcome { NORMAL4, NORMAL3, ABORTED, REFUSED, UNANSWERED, N_OUTCOMES };
static const char *const outcome_name[N_OUTCOMES] = { "closed_4seg", "closed_3seg", "aborted_rst",
						      "refused", "unanswered" };

/* ---- connections ---------------------------------------------------------- */

enum phase {
	PH_SYN,
	PH_SYNACK,
	PH_REFUSE,
	PH_ACK,
	PH_DATA,
	PH_FIN1,
	PH_FINACK,
	PH_FIN2,
	PH_LASTACK,
	PH_DONE
};

struct conn {
	uint64_t id;	 /* number of the connection: outcome, family */
	uint64_t tuple;	 /* number of the 4-tuple (== id without reuse) */
	uint32_t seq[2]; /* next sequence number of client, server */
	uint32_t ts[2];	 /* last timestamp value sent by client, server */
	uint32_t left;	 /* data segments still to be sent */
	uint8_t phase, outcome, pend, syns;
	bool v6, upload, closer, first;
};

static uint64_t conn_hash(uint64_t id)
{
	return mix64(o.seed * 0x10001 + mix64(id));
}

/* The k-th slice of 16 bits of a hash, as a number in [0, 100). */
static double pct(uint64_t h, int k)
{
	return (double)((h >> (16 * k)) & 0xffff) * 100 / 65536;
}

static enum outcome outcome_of(uint64_t h)
{
	double p = pct(h, 0);
	if (p < o.refused)
		return REFUSED;
	p -= o.refused;
	if (p < o.unanswered)
		return UNANSWERED;
	p -= o.unanswered;
	if (p < o.aborted)
		return ABORTED;
	return pct(h, 1) < o.fin3 ? NORMAL3 : NORMAL4;
}

/* Bijection on 40-bit numbers: distinct connections get distinct 4-tuples. */
static uint64_t permute40(uint64_t x)
{
	uint32_t l = (uint32_t)(x >> 20) & 0xfffff, r = (uint32_t)x & 0xfffff;
	for (int i = 0; i < 4; i++) {
		uint32_t f = (uint32_t)mix64(r ^ ((uint64_t)i << 32) ^ (o.seed << 36)) & 0xfffff,
			 t = l ^ f;
		l = r;
		r = t;
	}
	return (uint64_t)l << 20 | r;
}

/* ---- output ---------------------------------------------------------------- */

static FILE *out;
static uint64_t now_ns = 1700000000ull * 1000000000ull, n_frames, n_bytes, n_v6frames;
static uint8_t payload[65536];
static uint32_t *payload_sum; /* ones'-complement sum of payload[0..n) */

static void put16(uint8_t *p, uint32_t v)
{
	p[0] = (uint8_t)(v >> 8);
	p[1] = (uint8_t)v;
}
static void put32(uint8_t *p, uint32_t v)
{
	put16(p, v >> 16);
	put16(p + 2, v & 0xffff);
}

static uint32_t sum16(const uint8_t *p, size_t n)
{
	uint32_t s = 0;
	for (; n > 1; n -= 2, p += 2)
		s += (uint32_t)p[0] << 8 | p[1];
	return n ? s + ((uint32_t)p[0] << 8) : s;
}
static uint16_t fold(uint64_t s)
{
	while (s >> 16)
		s = (s & 0xffff) + (s >> 16);
	return (uint16_t)~s;
}

#define F_FIN 1
#define F_SYN 2
#define F_RST 4
#define F_PSH 8
#define F_ACK 16

/*
 * Write one frame.  `tuple` names the 4-tuple; dir 0 is client to server.
 * options: 0 none, 1 timestamps, 2 MSS+SACK+TS+WS (SYN), 3 MSS only.
 */
static void frame(uint64_t tuple, bool v6, int server, int dir, uint32_t seq, uint32_t ack,
		  unsigned flags, uint32_t len, int options, uint32_t tsval, uint32_t tsecr)
{
	static const uint16_t ports[8] = { 443, 443, 443, 80, 22, 8080, 5432, 6379 };
	static const uint8_t mac[2][6] = { { 2, 0, 0, 0, 0xc1, 1 }, { 2, 0, 0, 0, 0x5e, 1 } };
	static uint16_t ip_id;
	uint8_t b[14 + 40 + 60 + 65536], *ip = b + 14, *tcp, *opt;
	uint64_t t = permute40(tuple);
	uint16_t cport = (uint16_t)(32768 + (t & 0x7fff)), sport;
	uint32_t chost = (uint32_t)(t >> 15); /* 25 bits */
	uint64_t sh = server >= 0 ? (uint64_t)server : mix64(t ^ o.seed) % o.servers;
	uint64_t sum = 0;
	unsigned iphl = v6 ? 40 : 20, ol = options == 2	  ? 20
					   : options == 1 ? 12
					   : options == 3 ? 4
							  : 0;
	unsigned tcplen;

	sport = ports[mix64(sh) & 7];
	memcpy(b, mac[!dir], 6);
	memcpy(b + 6, mac[dir], 6);
	put16(b + 12, v6 ? 0x86dd : 0x0800);

	tcp = ip + iphl;
	put16(tcp, dir ? sport : cport);
	put16(tcp + 2, dir ? cport : sport);
	put32(tcp + 4, seq);
	put32(tcp + 8, flags & F_ACK ? ack : 0);
	tcp[12] = (uint8_t)((20 + ol) / 4 << 4);
	tcp[13] = (uint8_t)flags;
	put16(tcp + 14, flags & F_RST ? 0 : flags & F_SYN ? 64240 : 502);
	put32(tcp + 16, 0);
	opt = tcp + 20;
	if (options & 2) {
		opt[0] = 2;
		opt[1] = 4;
		put16(opt + 2, v6 ? 1440 : 1460);
		opt += 4;
	}
	if (options == 2) {
		opt[0] = 4;
		opt[1] = 2;
		opt += 2;
	}
	if (options == 1) {
		opt[0] = opt[1] = 1;
		opt += 2;
	}
	if (options == 1 || options == 2) {
		opt[0] = 8;
		opt[1] = 10;
		put32(opt + 2, tsval);
		put32(opt + 6, tsecr);
		opt += 10;
	}
	if (options == 2) {
		opt[0] = 1;
		opt[1] = 3;
		opt[2] = 3;
		opt[3] = 7;
		opt += 4;
	}
	memcpy(opt, payload, len);
	tcplen = 20 + ol + len;

	if (v6) {
		uint8_t a[2][16] = { { 0x20, 1, 0x0d, 0xb8, 0, 0xc },
				     { 0x20, 1, 0x0d, 0xb8, 0, 0x5 } };
		put32(a[0] + 12, chost);
		put32(a[0] + 8, (uint32_t)mix64(chost));
		put16(a[1] + 14, (uint32_t)sh + 1);
		put32(ip, 0x60000000);
		put16(ip + 4, tcplen);
		ip[6] = 6;
		ip[7] = dir ? 57 : 64;
		memcpy(ip + 8, a[dir], 16);
		memcpy(ip + 24, a[!dir], 16);
		sum = sum16(ip + 8, 32);
		n_v6frames++;
	} else {
		uint32_t c = 0x0a000000 + chost, s = 0xac100000 + (uint32_t)sh + 1;
		ip[0] = 0x45;
		ip[1] = 0;
		put16(ip + 2, 20 + tcplen);
		put16(ip + 4, ip_id++);
		put16(ip + 6, 0x4000);
		ip[8] = dir ? 57 : 64;
		ip[9] = 6;
		put16(ip + 10, 0);
		put32(ip + 12, dir ? s : c);
		put32(ip + 16, dir ? c : s);
		put16(ip + 10, fold(sum16(ip, 20)));
		sum = sum16(ip + 12, 8);
	}
	sum += 6 + tcplen + sum16(tcp, 20 + ol) + payload_sum[len];
	put16(tcp + 16, fold(sum));

	uint32_t wire = 14 + iphl + tcplen, keep = o.headers ? wire - len : wire;
	uint32_t cap = keep < o.snaplen ? keep : o.snaplen;
	uint32_t rec[4] = { (uint32_t)(now_ns / 1000000000u),
			    (uint32_t)(now_ns % 1000000000u) / (o.nano ? 1 : 1000), cap, wire };
	if (fwrite(rec, sizeof rec, 1, out) != 1 || fwrite(b, cap, 1, out) != 1) {
		perror("gen: write");
		exit(1);
	}
	n_frames++;
	n_bytes += wire;
	now_ns += rnd_below(2000000000u / o.pps) + 1;
}

/* One frame of a connection. */
static void say(struct conn *c, int dir, unsigned flags, uint32_t len)
{
	uint32_t ts = (uint32_t)(now_ns / 1000000) + (uint32_t)mix64(c->id * 2 + (unsigned)dir);
	int options = flags & F_SYN ? 2 : flags & F_RST ? 0 : 1;

	c->ts[dir] = ts;
	frame(c->tuple, c->v6, -1, dir, c->seq[dir], c->seq[!dir], flags, len, options, ts,
	      c->ts[!dir]);
	c->seq[dir] += len + !!(flags & F_SYN) + !!(flags & F_FIN);
}

static void conn_start(struct conn *c, uint64_t id, uint64_t tuple)
{
	uint64_t h = conn_hash(id), g = mix64(h);

	memset(c, 0, sizeof *c);
	c->id = id;
	c->tuple = tuple;
	c->outcome = (uint8_t)outcome_of(h);
	c->v6 = pct(conn_hash(tuple), 2) < o.ipv6;
	c->upload = pct(h, 3) < o.upload;
	c->closer = pct(g, 0) < o.server_close;
	c->seq[0] = (uint32_t)(g >> 32);
	c->seq[1] = (uint32_t)mix64(g);
	c->left = o.segs;
	c->first = true;
}

/* Number of frames that a connection will emit (needed to mix in the flood). */
static uint64_t conn_frames(uint64_t id)
{
	uint64_t data = o.segs ? o.segs + o.segs / 2 : 0; /* near enough */
	switch (outcome_of(conn_hash(id))) {
	case REFUSED:
		return 2;
	case UNANSWERED:
		return 1 + o.syn_retries;
	case ABORTED:
		return 4 + data;
	case NORMAL3:
		return 6 + data;
	default:
		return 7 + data;
	}
}

static void conn_step(struct conn *c)
{
	int sender;

	switch (c->phase) {
	case PH_SYN:
		if (c->syns)
			c->seq[0]--; /* a retransmission */
		say(c, 0, F_SYN, 0);
		c->syns++;
		if (c->outcome == UNANSWERED)
			c->phase = c->syns > o.syn_retries ? PH_DONE : PH_SYN;
		else
			c->phase = c->outcome == REFUSED ? PH_REFUSE : PH_SYNACK;
		break;
	case PH_REFUSE:
		c->seq[1] = 0;
		say(c, 1, F_RST | F_ACK, 0);
		c->phase = PH_DONE;
		break;
	case PH_SYNACK:
		say(c, 1, F_SYN | F_ACK, 0);
		c->phase = PH_ACK;
		break;
	case PH_ACK:
		say(c, 0, F_ACK, 0);
		c->phase = PH_DATA;
		break;
	case PH_DATA:
		sender = !c->upload;
		if (c->first && c->left) { /* the request */
			c->first = false;
			c->left--;
			say(c, 0, F_PSH | F_ACK, o.request);
			break;
		}
		if (c->pend >= 2 || (c->pend && !c->left)) {
			c->pend = 0;
			say(c, !sender, F_ACK, 0);
			break;
		}
		if (c->left) {
			c->left--;
			c->pend++;
			say(c, sender, c->left ? F_ACK : F_PSH | F_ACK, o.payload);
			break;
		}
		/* fall through */
	case PH_FIN1:
		if (c->outcome == ABORTED) {
			say(c, c->closer, c->closer ? F_RST | F_ACK : F_RST, 0);
			c->phase = PH_DONE;
			break;
		}
		say(c, c->closer, F_FIN | F_ACK, 0);
		c->phase = c->outcome == NORMAL3 ? PH_FIN2 : PH_FINACK;
		break;
	case PH_FINACK:
		say(c, !c->closer, F_ACK, 0);
		c->phase = PH_FIN2;
		break;
	case PH_FIN2:
		say(c, !c->closer, F_FIN | F_ACK, 0);
		c->phase = PH_LASTACK;
		break;
	case PH_LASTACK:
		say(c, c->closer, F_ACK, 0);
		c->phase = PH_DONE;
		break;
	}
}

/* ---- main ------------------------------------------------------------------- */

static void help(void)
{
	printf("Usage: gen [OPTION]... -o FILE\n"
	       "Write a pcap file of TCP connections; the same options give the same bytes.\n\n"
	       "  -o, --out FILE        the pcap file to write ('-': standard output)\n"
	       "      --truth FILE      also write the truth (JSON) there\n"
	       "  -n, --conns N         number of connections (%" PRIu64 ")\n"
	       "  -w, --window N        connections in play at once, interleaved (%" PRIu64 ")\n"
	       "      --hold            keep all connections open until each is established,\n"
	       "                        then close them in random order\n"
	       "      --exchange N      with --hold: data segments (of --payload octets) while\n"
	       "                        all are open (0)\n"
	       "      --leave-open      with --hold: do not close them\n"
	       "      --segs N          data segments per connection: one request, the rest\n"
	       "                        the reply; one ACK for each two (%u)\n"
	       "      --payload BYTES   payload of a reply segment (%u)\n"
	       "      --request BYTES   payload of the request (%u)\n"
	       "      --upload PCT      connections whose bulk goes client to server (0)\n"
	       "  -s, --snaplen BYTES   cut captured frames to this length (65535)\n"
	       "      --headers         capture headers only, whatever their length\n"
	       "      --refused PCT     SYN answered by RST (0)\n"
	       "      --unanswered PCT  SYN never answered (0)\n"
	       "      --syn-retries N   retransmissions of an unanswered SYN (%u)\n"
	       "      --aborted PCT     ended by RST instead of FIN (0)\n"
	       "      --fin3 PCT        of those closed by FIN: in 3 segments, not 4 (50)\n"
	       "      --server-close PCT  the server sends the first FIN or the RST (30)\n"
	       "      --reuse PCT       a new connection takes over the 4-tuple of the one\n"
	       "                        that ended in its place (0)\n"
	       "      --ipv6 PCT        connections over IPv6 (0)\n"
	       "      --servers N       number of servers (%u)\n"
	       "      --flood N         lone SYNs from random sources to one server (0)\n"
	       "      --pps N           mean rate that the timestamps show (%u)\n"
	       "      --nano            nanosecond timestamps\n"
	       "      --seed N          (1)\n",
	       o.conns, o.window, o.segs, o.payload, o.request, o.syn_retries, o.servers, o.pps);
}

int main(int argc, char **argv)
{
	enum {
		O_TRUTH = 256,
		O_HOLD,
		O_EXCHANGE,
		O_LEAVE_OPEN,
		O_HEADERS,
		O_SEGS,
		O_PAYLOAD,
		O_REQUEST,
		O_UPLOAD,
		O_REFUSED,
		O_UNANS,
		O_RETRIES,
		O_ABORTED,
		O_FIN3,
		O_SCLOSE,
		O_REUSE,
		O_IPV6,
		O_SERVERS,
		O_FLOOD,
		O_PPS,
		O_NANO,
		O_SEED
	};
	static const struct option lo[] = { { "out", 1, 0, 'o' },
					    { "truth", 1, 0, O_TRUTH },
					    { "conns", 1, 0, 'n' },
					    { "window", 1, 0, 'w' },
					    { "hold", 0, 0, O_HOLD },
					    { "exchange", 1, 0, O_EXCHANGE },
					    { "leave-open", 0, 0, O_LEAVE_OPEN },
					    { "headers", 0, 0, O_HEADERS },
					    { "segs", 1, 0, O_SEGS },
					    { "payload", 1, 0, O_PAYLOAD },
					    { "request", 1, 0, O_REQUEST },
					    { "upload", 1, 0, O_UPLOAD },
					    { "snaplen", 1, 0, 's' },
					    { "refused", 1, 0, O_REFUSED },
					    { "unanswered", 1, 0, O_UNANS },
					    { "syn-retries", 1, 0, O_RETRIES },
					    { "aborted", 1, 0, O_ABORTED },
					    { "fin3", 1, 0, O_FIN3 },
					    { "server-close", 1, 0, O_SCLOSE },
					    { "reuse", 1, 0, O_REUSE },
					    { "ipv6", 1, 0, O_IPV6 },
					    { "servers", 1, 0, O_SERVERS },
					    { "flood", 1, 0, O_FLOOD },
					    { "pps", 1, 0, O_PPS },
					    { "nano", 0, 0, O_NANO },
					    { "seed", 1, 0, O_SEED },
					    { "help", 0, 0, 'h' },
					    { 0, 0, 0, 0 } };
	int k;

	while ((k = getopt_long(argc, argv, "o:n:w:s:h", lo, NULL)) != -1)
		switch (k) {
		case 'o':
			o.out = optarg;
			break;
		case O_TRUTH:
			o.truth = optarg;
			break;
		case 'n':
			o.conns = strtoull(optarg, NULL, 10);
			break;
		case 'w':
			o.window = strtoull(optarg, NULL, 10);
			break;
		case O_HOLD:
			o.hold = true;
			break;
		case O_EXCHANGE:
			o.exchange = strtoull(optarg, NULL, 10);
			break;
		case O_LEAVE_OPEN:
			o.leave_open = true;
			break;
		case O_HEADERS:
			o.headers = true;
			break;
		case O_SEGS:
			o.segs = (uint32_t)atoi(optarg);
			break;
		case O_PAYLOAD:
			o.payload = (uint32_t)atoi(optarg);
			break;
		case O_REQUEST:
			o.request = (uint32_t)atoi(optarg);
			break;
		case O_UPLOAD:
			o.upload = atof(optarg);
			break;
		case 's':
			o.snaplen = (uint32_t)atoi(optarg);
			break;
		case O_REFUSED:
			o.refused = atof(optarg);
			break;
		case O_UNANS:
			o.unanswered = atof(optarg);
			break;
		case O_RETRIES:
			o.syn_retries = (uint32_t)atoi(optarg);
			break;
		case O_ABORTED:
			o.aborted = atof(optarg);
			break;
		case O_FIN3:
			o.fin3 = atof(optarg);
			break;
		case O_SCLOSE:
			o.server_close = atof(optarg);
			break;
		case O_REUSE:
			o.reuse = atof(optarg);
			break;
		case O_IPV6:
			o.ipv6 = atof(optarg);
			break;
		case O_SERVERS:
			o.servers = (uint32_t)atoi(optarg);
			break;
		case O_FLOOD:
			o.flood = strtoull(optarg, NULL, 10);
			break;
		case O_PPS:
			o.pps = (uint32_t)atoi(optarg);
			break;
		case O_NANO:
			o.nano = true;
			break;
		case O_SEED:
			o.seed = strtoull(optarg, NULL, 10);
			break;
		case 'h':
			help();
			return 0;
		default:
			return 2;
		}
	if (!o.out || optind != argc || !o.window || !o.conns || !o.servers || o.servers > 65000 ||
	    !o.pps || o.pps > 1000000000u || o.payload > 60000 || o.request > 60000 ||
	    o.syn_retries > 200 || ((o.exchange || o.leave_open) && !o.hold) ||
	    o.conns + o.flood >= 1ull << 40 || o.conns > 1ull << 31) {
		fprintf(stderr, "gen: bad or missing option; try --help\n");
		return 2;
	}
	out = strcmp(o.out, "-") ? fopen(o.out, "wb") : stdout;
	if (!out) {
		fprintf(stderr, "gen: %s: %s\n", o.out, strerror(errno));
		return 1;
	}
	setvbuf(out, NULL, _IOFBF, 1 << 20);

	rng_state = mix64(o.seed);
	payload_sum = calloc(65537, sizeof *payload_sum);
	for (int i = 0; i < 65536; i++)
		payload[i] = (uint8_t)mix64((uint64_t)i + o.seed * 977);
	for (int i = 0; i < 65536; i++)
		payload_sum[i + 1] =
			payload_sum[i] + (i & 1 ? payload[i] : (uint32_t)payload[i] << 8);

	struct {
		uint32_t magic;
		uint16_t maj, min;
		uint32_t zone, sig, snap, link;
	} fh = { o.nano ? 0xa1b23c4d : 0xa1b2c3d4, 2, 4, 0, 0, o.snaplen, 1 };
	fwrite(&fh, sizeof fh, 1, out);

	/* Truth that follows from the hashes alone. */
	uint64_t count[N_OUTCOMES] = { 0 }, real = 0, v6 = 0, reused = 0;
	for (uint64_t i = 0; i < o.conns; i++) {
		count[outcome_of(conn_hash(i))]++;
		real += conn_frames(i);
	}

	uint64_t win = o.window < o.conns ? o.window : o.conns, active = 0, next = 0, flooded = 0,
		 steps = 0;
	uint64_t nheld = 0, left_open = 0, peak_open = 0, open = 0;
	struct conn *w = calloc(win, sizeof *w),
		    *held = o.hold ? calloc(o.conns, sizeof *held) : NULL;
	bool closing = false;
	if (!w || (o.hold && !held)) {
		perror("gen");
		return 1;
	}

	for (;;) {
		while (active < win && !closing && next < o.conns) {
			conn_start(&w[active], next, next);
			v6 += w[active++].v6;
			next++;
		}
		if (o.hold && !closing && !active) { /* all are established */
			closing = true;
			for (uint64_t i = 0; i < o.exchange && nheld; i++) {
				struct conn *c = &held[rnd_below((uint32_t)nheld)];
				say(c, (int)(rnd() & 1), F_PSH | F_ACK, o.payload);
			}
			left_open = o.leave_open ? nheld : 0;
			nheld -= left_open;
			for (uint64_t i = nheld; i > 1; i--) {
				uint64_t j = rnd() % i;
				struct conn t = held[i - 1];
				held[i - 1] = held[j];
				held[j] = t;
			}
		}
		while (closing && active < win && nheld)
			w[active++] = held[--nheld];
		if (!active)
			break;

		uint64_t i = rnd_below((uint32_t)active);
		struct conn *c = &w[i];
		int before = c->phase;
		conn_step(c);
		if (before == PH_SYNACK && ++open > peak_open)
			peak_open = open;
		steps++;
		if (c->phase == PH_DONE) {
			open -= c->outcome == NORMAL3 || c->outcome == NORMAL4 ||
				c->outcome == ABORTED;
			uint64_t tuple = c->tuple;
			if (!closing && next < o.conns && o.reuse > 0 &&
			    (double)rnd_below(1000000) < o.reuse * 10000) {
				conn_start(c, next, tuple);
				v6 += c->v6;
				next++;
				reused++;
			} else
				*c = w[--active];
		} else if (o.hold && !closing && c->phase == PH_DATA) {
			held[nheld++] = *c;
			*c = w[--active];
		}
		while (flooded < o.flood && flooded * real < o.flood * steps) {
			uint64_t h = rnd();
			frame(o.conns + flooded, false, 0, 0, (uint32_t)h, 0, F_SYN, 0, 3, 0, 0);
			flooded++;
		}
	}
	while (flooded < o.flood) {
		frame(o.conns + flooded, false, 0, 0, (uint32_t)rnd(), 0, F_SYN, 0, 3, 0, 0);
		flooded++;
	}
	if (fflush(out) || ferror(out)) {
		perror("gen: write");
		return 1;
	}
	if (out != stdout)
		fclose(out);

	FILE *t[2] = { stderr, o.truth ? fopen(o.truth, "w") : NULL };
	for (int f = 0; f < 2; f++)
		if (t[f]) {
			fprintf(t[f],
				"{\"frames\":%" PRIu64 ",\"wire_bytes\":%" PRIu64
				",\"ipv6_frames\":%" PRIu64 ",\"connections\":%" PRIu64
				",\"ipv6_connections\":%" PRIu64 ",\"established\":%" PRIu64,
				n_frames, n_bytes, n_v6frames, o.conns, v6,
				count[NORMAL3] + count[NORMAL4] + count[ABORTED]);
			for (int i = 0; i < N_OUTCOMES; i++)
				fprintf(t[f], ",\"%s\":%" PRIu64, outcome_name[i], count[i]);
			if (left_open)
				fprintf(t[f], ",\"left_open\":%" PRIu64, left_open);
			fprintf(t[f],
				",\"flood_syns\":%" PRIu64 ",\"reused_4tuples\":%" PRIu64
				",\"peak_open\":%" PRIu64 ",\"seconds\":%.3f}\n",
				flooded, reused, peak_open,
				(double)(now_ns - 1700000000ull * 1000000000ull) / 1e9);
		}
	return 0;
}
