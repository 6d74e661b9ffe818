/* load.c - connections of many kinds between two namespaces, with the kernel's own TCP, at a pace.
 *
 *     load NETNS-OF-A NETNS-OF-B DEVICE-IN-A PACKETS-PER-SECOND CONNECTIONS-PER-SECOND SEED RUN
 *
 * A (10.0.1.1, fd00:1::1) is the client, B (10.0.1.2, fd00:1::2) the server; 10.0.1.3 must be an
 * address at which frames arrive and nobody answers.  New connections come evenly; what they leave
 * of the packets per second (counted by DEVICE) goes through connections that live throughout.
 * A slow one pauses before each thing it does, so that it can be met in any state.  No 4-tuple
 * comes twice, not in another RUN (0, 1, ..) either, and the server's port tells the kind:
 * PORT + KIND * PORTS + a number.
 *
 * At the end of standard input no more begin; when all that were begun are over, one line of JSON
 * says what there was.  One thread plays both sides. */
#include <arpa/inet.h>
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sched.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum kind {
	CLIENT_FIN,
	SERVER_FIN,
	CLIENT_RST,
	SERVER_RST,
	HALF_CLIENT, /* the client closes first, and the server goes on for a while */
	HALF_SERVER,
	SLOW, /* the same, slowly */
	REFUSED = 2 * SLOW,
	UNANSWERED,
	SILENT, /* about as long as the time-out for silence */
	LONG,	/* from the beginning to the end */
	KINDS,
};

static const char *const names[KINDS] = {
	[CLIENT_FIN] = "client_fin",
	[SERVER_FIN] = "server_fin",
	[CLIENT_RST] = "client_rst",
	[SERVER_RST] = "server_rst",
	[HALF_CLIENT] = "half_client",
	[HALF_SERVER] = "half_server",
	[SLOW + 0] = "slow_client_fin",
	[SLOW + 1] = "slow_server_fin",
	[SLOW + 2] = "slow_client_rst",
	[SLOW + 3] = "slow_server_rst",
	[SLOW + 4] = "slow_half_client",
	[SLOW + 5] = "slow_half_server",
	[REFUSED] = "refused",
	[UNANSWERED] = "unanswered",
	[SILENT] = "silent",
	[LONG] = "long",
};

static const unsigned weights[KINDS] = {
	[CLIENT_FIN] = 30, [SERVER_FIN] = 20, [CLIENT_RST] = 10, [SERVER_RST] = 8,
	[HALF_CLIENT] = 8, [HALF_SERVER] = 8, [SLOW + 0] = 1,	 [SLOW + 1] = 1,
	[SLOW + 2] = 1,	   [SLOW + 3] = 1,    [SLOW + 4] = 1,	 [SLOW + 5] = 1,
	[REFUSED] = 6,	   [UNANSWERED] = 2,  [SILENT] = 2,
};

enum {
	PORT = 10000,
	PORTS = 16, /* of each kind */
	CLIENT_PORT = 20000,
	CLIENT_PORTS = 40000,
	LONG_LIVED = 200,
	REQUEST = 64, /* octets */
	REPLY = 200,
	ROUNDS = 2,	  /* requests, and as many replies */
	PIECES = 3,	  /* sent after the peer's FIN */
	SLOW_MS = 2000,	  /* the longest pause */
	SILENT_MS = 4500, /* the shortest one, and at most SPREAD_MS more */
	SPREAD_MS = 1000,
	UNANSWERED_MS = 2500, /* time for two more SYNs */
	WHEEL_MS = 8192,
	MAX_FDS = 1 << 16,
	PACKETS_A_ROUND = 2,
};

enum action { NOTHING, ASK, ANSWER, PUSH, SHUT, CLOSE, RESET };

/* One end of a connection, or a listener, by its descriptor. */
struct end {
	enum { UNUSED, LISTENER, CONNECTING, CLIENT, SERVER } role;
	enum kind kind;
	enum action next; /* when its pause is over */
	unsigned rounds, got;
	unsigned generation;
	bool waits; /* a long-lived client's: for a reply */
};

struct pause {
	struct pause *next;
	int fd;
	unsigned generation;
};

static struct {
	int netns[2], inner, epoll, device;
	const char *device_name;
	uint64_t dice, now_ms, began_ms, wheel_ms;
	struct end ends[MAX_FDS];
	struct pause *wheel[WHEEL_MS];
	int longs[LONG_LIVED];
	unsigned next_long, alive, alive_max;
	uint64_t first, made[KINDS], failed, rounds;
} d = { .inner = -1 };

static uint64_t clock_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

static unsigned roll(unsigned n)
{
	d.dice ^= d.dice << 13; /* xorshift64 */
	d.dice ^= d.dice >> 7;
	d.dice ^= d.dice << 17;
	return (unsigned)(d.dice >> 33) % n;
}

/* ---- sockets --------------------------------------------------------------------------------- */

static socklen_t address(bool v6, unsigned host, unsigned port, struct sockaddr_storage *ret)
{
	memset(ret, 0, sizeof *ret);
	if (v6) {
		struct sockaddr_in6 *a = (struct sockaddr_in6 *)ret;

		a->sin6_family = AF_INET6;
		a->sin6_port = htons((uint16_t)port);
		inet_pton(AF_INET6, "fd00:1::", &a->sin6_addr);
		a->sin6_addr.s6_addr[15] = (uint8_t)host;
		return sizeof *a;
	}
	struct sockaddr_in *a = (struct sockaddr_in *)ret;

	a->sin_family = AF_INET;
	a->sin_port = htons((uint16_t)port);
	a->sin_addr.s_addr = htonl(0x0a000100u | host);
	return sizeof *a;
}

static void set(int fd, int level, int name, int value)
{
	if (setsockopt(fd, level, name, &value, sizeof value) < 0)
		err(1, "setsockopt %d %d", level, name);
}

static void watch(int fd, unsigned events)
{
	struct epoll_event e = { .events = events | EPOLLET, .data.fd = fd };

	if (epoll_ctl(d.epoll, EPOLL_CTL_ADD, fd, &e) < 0)
		err(1, "epoll_ctl");
}

static void enter(int side)
{
	if (d.inner != side && setns(d.netns[side], CLONE_NEWNET) < 0)
		err(1, "setns");
	d.inner = side;
}

/* A socket of @side, bound. */
static int bound(int side, bool v6, unsigned port)
{
	struct sockaddr_storage a;
	socklen_t len = address(v6, (unsigned)side + 1, port, &a);

	enter(side);
	int fd = socket(a.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	if (fd < 0 || fd >= MAX_FDS)
		err(1, "socket");
	set(fd, SOL_SOCKET, SO_REUSEADDR, 1);
	if (bind(fd, (struct sockaddr *)&a, len) < 0)
		err(1, "bind %u", port);
	return fd;
}

static struct end *begin(int fd, int role, enum kind kind)
{
	struct end *e = &d.ends[fd];

	*e = (struct end){ .role = role, .kind = kind, .generation = e->generation + 1 };
	if (role != LISTENER && ++d.alive > d.alive_max)
		d.alive_max = d.alive;
	return e;
}

static void end(int fd)
{
	struct end *e = &d.ends[fd];

	e->role = UNUSED;
	e->generation++;
	d.alive--;
	close(fd);
}

static void listen_all(void)
{
	for (unsigned port = PORT; port < PORT + KINDS * PORTS; port++) {
		enum kind kind = (port - PORT) / PORTS;

		for (int v6 = 0; v6 < 2 && kind != REFUSED && kind != UNANSWERED; v6++) {
			int fd = bound(1, v6, port);

			if (listen(fd, 4096) < 0)
				err(1, "listen");
			begin(fd, LISTENER, kind);
			watch(fd, EPOLLIN);
		}
	}
}

/* ---- what an end does ------------------------------------------------------------------------ */

static void pause_for(int fd, unsigned ms, enum action next)
{
	struct pause *p = malloc(sizeof *p), **slot = &d.wheel[(d.now_ms + 1 + ms) % WHEEL_MS];

	if (!p)
		err(1, "malloc");
	d.ends[fd].next = next;
	*p = (struct pause){ .next = *slot, .fd = fd, .generation = d.ends[fd].generation };
	*slot = p;
}

static void say(int fd, size_t octets)
{
	static const char words[REPLY];

	/* Few octets, and a peer that reads: there is room, or it is gone. */
	if (send(fd, words, octets, MSG_NOSIGNAL) != (ssize_t)octets)
		end(fd);
}

static void act(int fd, enum action a)
{
	struct end *e = &d.ends[fd];

	switch (a) {
	case NOTHING:
		return;
	case ASK:
		e->waits = true;
		say(fd, REQUEST);
		return;
	case ANSWER:
		say(fd, REPLY);
		return;
	case PUSH:
		for (int i = 0; i < PIECES && e->role != UNUSED; i++)
			say(fd, e->role == CLIENT ? REQUEST : REPLY);
		if (e->role != UNUSED)
			end(fd);
		return;
	case SHUT:
		shutdown(fd, SHUT_WR);
		return;
	case RESET:
		if (setsockopt(fd, SOL_SOCKET, SO_LINGER, &(struct linger){ 1, 0 },
			       sizeof(struct linger)) < 0)
			err(1, "SO_LINGER");
		/* fall through */
	case CLOSE:
		end(fd);
	}
}

static bool is_slow(enum kind k)
{
	return k >= SLOW && k < REFUSED;
}

static enum kind manner(enum kind k)
{
	return is_slow(k) ? k - SLOW : k;
}

static void soon(int fd, enum action a)
{
	if (is_slow(d.ends[fd].kind))
		pause_for(fd, roll(SLOW_MS), a);
	else
		act(fd, a);
}

static void reply_came(int fd)
{
	static const enum action last[KINDS] = {
		[CLIENT_FIN] = CLOSE,
		[CLIENT_RST] = RESET,
		[HALF_CLIENT] = SHUT,
		[SILENT] = CLOSE,
	};
	struct end *e = &d.ends[fd];

	e->waits = false;
	d.rounds++;
	if (e->kind == LONG)
		return;
	if (++e->rounds == ROUNDS)
		soon(fd, last[manner(e->kind)]);
	else if (e->kind == SILENT)
		pause_for(fd, SILENT_MS + roll(SPREAD_MS), ASK);
	else
		soon(fd, ASK);
}

static void request_came(int fd)
{
	struct end *e = &d.ends[fd];
	bool is_last = e->kind != LONG && ++e->rounds == ROUNDS;

	if (is_last && manner(e->kind) == SERVER_RST) {
		soon(fd, RESET);
		return;
	}
	act(fd, ANSWER);
	if (e->role != UNUSED && is_last && manner(e->kind) == SERVER_FIN)
		soon(fd, CLOSE);
	else if (e->role != UNUSED && is_last && manner(e->kind) == HALF_SERVER)
		soon(fd, SHUT);
}

static void eof_came(int fd)
{
	struct end *e = &d.ends[fd];
	bool goes_on = (manner(e->kind) == HALF_CLIENT && e->role == SERVER) ||
		       (manner(e->kind) == HALF_SERVER && e->role == CLIENT);

	soon(fd, goes_on ? PUSH : CLOSE);
}

static void readable(int fd)
{
	struct end *e = &d.ends[fd];
	unsigned size = e->role == CLIENT ? REPLY : REQUEST, generation = e->generation;
	char buf[4096];

	while (e->generation == generation) {
		ssize_t n = recv(fd, buf, sizeof buf, 0);

		if (n < 0 && errno == EAGAIN)
			return;
		if (n < 0) {
			end(fd); /* reset, as its kind wants it, or the count of failures tells */
			return;
		}
		if (n == 0) {
			eof_came(fd);
			return;
		}
		e->got += (unsigned)n;
		/* What comes behind the own FIN is read and not answered. */
		while (e->generation == generation && e->got >= size &&
		       (e->kind == LONG || e->rounds < ROUNDS)) {
			e->got -= size;
			if (e->role == CLIENT)
				reply_came(fd);
			else
				request_came(fd);
		}
	}
}

static void connected(int fd)
{
	struct end *e = &d.ends[fd];
	int error = 0;
	socklen_t len = sizeof error;

	getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &len);
	if (error) {
		if (e->kind != REFUSED || error != ECONNREFUSED)
			d.failed++;
		end(fd);
		return;
	}
	e->role = CLIENT;
	soon(fd, ASK);
}

static void accept_all(int fd)
{
	for (;;) {
		int c = accept4(fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

		if (c < 0)
			return;
		if (c >= MAX_FDS)
			errx(1, "too many descriptors");
		set(c, IPPROTO_TCP, TCP_NODELAY, 1);
		begin(c, SERVER, d.ends[fd].kind);
		watch(c, EPOLLIN);
	}
}

static void ready(const struct epoll_event *ev)
{
	int fd = ev->data.fd;
	struct end *e = &d.ends[fd];

	if (e->role == LISTENER)
		accept_all(fd);
	else if (e->role == CONNECTING && (ev->events & (EPOLLOUT | EPOLLERR | EPOLLHUP)))
		connected(fd);
	else if ((e->role == CLIENT || e->role == SERVER) &&
		 (ev->events & (EPOLLIN | EPOLLERR | EPOLLHUP)))
		readable(fd);
}

/* Returns its descriptor. */
static int connect_one(enum kind kind)
{
	struct sockaddr_storage a;
	uint64_t n = d.first + d.made[kind]++;
	bool v6 = n % 4 == 3 && kind != UNANSWERED;
	unsigned port = PORT + kind * PORTS + (unsigned)(n / CLIENT_PORTS);
	int fd = bound(0, v6, CLIENT_PORT + (unsigned)(n % CLIENT_PORTS));
	socklen_t len = address(v6, kind == UNANSWERED ? 3 : 2, port, &a);

	if (n / CLIENT_PORTS >= PORTS)
		errx(1, "no 4-tuples are left of kind %s", names[kind]);
	set(fd, IPPROTO_TCP, TCP_NODELAY, 1);
	begin(fd, CONNECTING, kind);
	if (connect(fd, (struct sockaddr *)&a, len) < 0 && errno != EINPROGRESS)
		err(1, "connect to port %u", port);
	watch(fd, EPOLLIN | EPOLLOUT);
	if (kind == UNANSWERED)
		pause_for(fd, UNANSWERED_MS, CLOSE);
	return fd;
}

static enum kind draw(void)
{
	unsigned sum = 0, at;
	enum kind k = 0;

	for (int i = 0; i < KINDS; i++)
		sum += weights[i];
	for (at = roll(sum); at >= weights[k]; k++)
		at -= weights[k];
	return k;
}

/* ---- the pace -------------------------------------------------------------------------------- */

/* Packets that the device has received and sent. */
static uint64_t packets(void)
{
	char text[8192], *line;
	unsigned long long in, out;
	ssize_t n = pread(d.device, text, sizeof text - 1, 0);

	text[n > 0 ? n : 0] = '\0';
	line = strstr(text, d.device_name);
	if (!line || sscanf(line + strlen(d.device_name),
			    ": %*u %llu %*u %*u %*u %*u %*u %*u %*u %llu", &in, &out) != 2)
		errx(1, "no counters of %s", d.device_name);
	return in + out;
}

static void turn_wheel(void)
{
	d.now_ms = clock_ms();
	for (; d.wheel_ms < d.now_ms; d.wheel_ms++) {
		struct pause **slot = &d.wheel[d.wheel_ms % WHEEL_MS], *p = *slot;

		*slot = NULL;
		while (p) {
			struct pause *next = p->next;

			if (d.ends[p->fd].generation == p->generation)
				act(p->fd, d.ends[p->fd].next);
			free(p);
			p = next;
		}
	}
}

static void wait_for_events(void)
{
	struct epoll_event ev[256];
	int n = epoll_wait(d.epoll, ev, 256, 1);

	for (int i = 0; i < n; i++)
		ready(&ev[i]);
}

static void ask_long_lived(uint64_t rounds)
{
	for (unsigned tried = 0; rounds && tried < LONG_LIVED; tried++) {
		int fd = d.longs[d.next_long++ % LONG_LIVED];

		if (d.ends[fd].role != CLIENT || d.ends[fd].waits)
			continue;
		act(fd, ASK);
		rounds--;
	}
}

static bool stdin_ended(void)
{
	struct pollfd p = { .fd = 0, .events = POLLIN };
	char c;

	return poll(&p, 1, 0) > 0 && read(0, &c, 1) <= 0;
}

/* The slowest second's packets are returned in @ret_least.  After a stall of more than 50 ms it
 * does not make up for it: what it missed shows in the counts. */
static uint64_t run(uint64_t rate, uint64_t connections, uint64_t *ret_least)
{
	uint64_t before = packets(), origin = clock_ms(), begun = 0, second = origin, mark = before;

	*ret_least = UINT64_MAX;
	while (!stdin_ended()) {
		uint64_t last = d.now_ms, done, due;

		wait_for_events();
		turn_wheel();
		if (d.now_ms == last)
			continue;
		if (d.now_ms - last > 50)
			origin += d.now_ms - last - 50;
		for (due = (d.now_ms - origin) * connections / 1000; begun < due; begun++)
			connect_one(draw());
		done = packets() - before;
		due = (d.now_ms - origin) * rate / 1000;
		if (due > done)
			ask_long_lived((due - done) / PACKETS_A_ROUND + 1);
		if (d.now_ms - second >= 1000) {
			uint64_t sum = packets(),
				 a_second = (sum - mark) * 1000 / (d.now_ms - second);

			*ret_least = a_second < *ret_least ? a_second : *ret_least;
			second = d.now_ms;
			mark = sum;
		}
	}
	return packets() - before;
}

int main(int argc, char *argv[])
{
	struct rlimit files;
	uint64_t sent, least, ms;

	if (argc != 8)
		errx(1, "usage: load NETNS-A NETNS-B DEVICE PACKETS/S CONNECTIONS/S SEED RUN");
	d.netns[0] = open(argv[1], O_RDONLY | O_CLOEXEC);
	d.netns[1] = open(argv[2], O_RDONLY | O_CLOEXEC);
	d.device_name = argv[3];
	d.dice = strtoull(argv[6], NULL, 10) * 0x9e3779b97f4a7c15u | 1;
	d.first = strtoull(argv[7], NULL, 10) * CLIENT_PORTS;
	d.epoll = epoll_create1(EPOLL_CLOEXEC);
	if (d.netns[0] < 0 || d.netns[1] < 0 || d.epoll < 0 || getrlimit(RLIMIT_NOFILE, &files) < 0)
		err(1, "start");
	files.rlim_cur = files.rlim_max;
	if (setrlimit(RLIMIT_NOFILE, &files) < 0)
		err(1, "RLIMIT_NOFILE");
	listen_all();
	enter(0);
	d.device = open("/proc/thread-self/net/dev", O_RDONLY | O_CLOEXEC);
	d.now_ms = d.wheel_ms = d.began_ms = clock_ms();
	for (int i = 0; i < LONG_LIVED; i++) {
		d.longs[i] = connect_one(LONG);
		wait_for_events();
	}
	d.now_ms = clock_ms();
	sent = run(strtoull(argv[4], NULL, 10), strtoull(argv[5], NULL, 10), &least);
	ms = clock_ms() - d.began_ms;
	for (int i = 0; i < LONG_LIVED; i++)
		if (d.ends[d.longs[i]].role == CLIENT && d.ends[d.longs[i]].kind == LONG)
			act(d.longs[i], SHUT); /* it still reads the last reply */
	while (d.alive) {
		wait_for_events();
		turn_wheel();
	}
	printf("{\"packets\":%ju,\"ms\":%ju,\"least\":%ju,\"failed\":%ju,\"rounds\":%ju,"
	       "\"alive_max\":%u,\"connections\":{",
	       (uintmax_t)sent, (uintmax_t)ms, (uintmax_t)least, (uintmax_t)d.failed,
	       (uintmax_t)d.rounds, d.alive_max / 2);
	for (int i = 0; i < KINDS; i++)
		printf("%s\"%s\":%ju", i ? "," : "", names[i], (uintmax_t)d.made[i]);
	printf("}}\n");
	return 0;
}
