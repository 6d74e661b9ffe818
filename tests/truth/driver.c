/* driver.c - plays the connections of a plan with the kernel's own TCP, between two namespaces.
 *
 *     driver SEED PART FIRST COUNT NET NETNS-OF-A NETNS-OF-B
 *
 * PART is "main", "cookies" or "bare": kinds that need another sysctl are played by themselves.
 * NET names the addresses: 198.18.NET.1 and .2, fd00:1812:NET::1 and ::2.  One process plays one
 * connection at a time, holding both its ends, and many processes play at once.  What a script
 * waits for comes or does not come (the path loses segments): each wait has an end, and then the
 * script goes on.  For each connection a line is printed: its number, kind and path, its ports,
 * and the steps as they went. */
#include <arpa/inet.h>
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include "plan.h"

enum { WORKERS = 96, PATIENCE_MS = 8000, EOF_MS = 4000 };

static struct {
	uint64_t seed;
	unsigned net;
	int netns[2], inner; /* which of them this process is in */
} d = { .inner = -1 };

struct script {
	struct plan p;
	unsigned i;
	int l, c, s; /* listener, opener's end, other end; -1 */
	char steps[1024];
	size_t len;
};

static void step(struct script *t, const char *format, ...)
{
	va_list ap;

	va_start(ap, format);
	if (t->len < sizeof t->steps - 64)
		t->len += (size_t)vsnprintf(t->steps + t->len, 64, format, ap);
	va_end(ap);
}

static unsigned roll(struct script *t, unsigned n)
{
	t->p.dice = plan_mix(t->p.dice);
	return (unsigned)(t->p.dice >> 33) % n;
}

static void nap_us(unsigned us)
{
	struct timespec t = { us / 1000000, us % 1000000 * 1000L };

	nanosleep(&t, NULL);
}

/* A pause such as programs make: none, about the path's delay, or longer. */
static void nap(struct script *t)
{
	unsigned upto[] = { 1, 1000, 5000, 50000 };

	nap_us(roll(t, upto[roll(t, 4)]));
}

/* ---- sockets --------------------------------------------------------------------------------- */

static socklen_t address(const struct script *t, unsigned side, unsigned port,
			 struct sockaddr_storage *ret)
{
	char text[64];

	memset(ret, 0, sizeof *ret);
	if (t->p.v6) {
		struct sockaddr_in6 *a = (struct sockaddr_in6 *)ret;

		snprintf(text, sizeof text, "fd00:1812:%x::%u", d.net, side + 1);
		a->sin6_family = AF_INET6;
		a->sin6_port = htons((uint16_t)port);
		inet_pton(AF_INET6, text, &a->sin6_addr);
		return sizeof *a;
	}
	struct sockaddr_in *a = (struct sockaddr_in *)ret;

	snprintf(text, sizeof text, "198.18.%u.%u", d.net, side + 1);
	a->sin_family = AF_INET;
	a->sin_port = htons((uint16_t)port);
	inet_pton(AF_INET, text, &a->sin_addr);
	return sizeof *a;
}

static void set(int fd, int level, int name, int value)
{
	if (setsockopt(fd, level, name, &value, sizeof value) < 0)
		err(1, "setsockopt %d %d", level, name);
}

/* A socket at @side, bound to @port. */
static int end_at(struct script *t, unsigned side, unsigned port)
{
	struct sockaddr_storage a;
	socklen_t len = address(t, side, port, &a);

	if (d.inner != (int)side && setns(d.netns[side], CLONE_NEWNET) < 0)
		err(1, "setns");
	d.inner = (int)side;
	int fd = socket(a.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	if (fd < 0)
		err(1, "socket");
	set(fd, SOL_SOCKET, SO_REUSEADDR, 1);
	set(fd, IPPROTO_TCP, TCP_NODELAY, 1);
	if (bind(fd, (struct sockaddr *)&a, len) < 0) {
		step(t, " bind:%s", strerrorname_np(errno));
		close(fd);
		return -1;
	}
	return fd;
}

static unsigned server_port(const struct script *t)
{
	return PLAN_SERVER_PORT + t->i;
}

static unsigned client_port(const struct script *t)
{
	return PLAN_CLIENT_PORT + t->i;
}

static void serve(struct script *t, int backlog, int buffer)
{
	t->l = end_at(t, !t->p.opener, server_port(t));
	if (t->l < 0)
		return;
	if (buffer)
		set(t->l, SOL_SOCKET, SO_RCVBUF, buffer);
	if (t->p.kind == FAST_OPEN || t->p.kind == FAST_OPEN_BARE)
		set(t->l, IPPROTO_TCP, TCP_FASTOPEN, 64);
	if (listen(t->l, backlog) < 0)
		err(1, "listen");
}

/* Begins to connect @fd, without waiting. */
static void call(struct script *t, int fd, unsigned side, unsigned port)
{
	struct sockaddr_storage a;
	socklen_t len = address(t, side, port, &a);

	if (connect(fd, (struct sockaddr *)&a, len) < 0 && errno != EINPROGRESS)
		step(t, " connect:%s", strerrorname_np(errno));
}

static bool await(int fd, short events, int ms)
{
	struct pollfd p = { .fd = fd, .events = events };

	return fd >= 0 && poll(&p, 1, ms) == 1;
}

static int error_of(int fd)
{
	int e = 0;
	socklen_t len = sizeof e;

	getsockopt(fd, SOL_SOCKET, SO_ERROR, &e, &len);
	return e;
}

static bool connected(struct script *t, int fd, int ms)
{
	if (!await(fd, POLLOUT, ms)) {
		step(t, " unconnected");
		return false;
	}
	int e = error_of(fd);

	if (e)
		step(t, " %s", strerrorname_np(e));
	return !e;
}

static void welcome(struct script *t, int ms)
{
	if (!await(t->l, POLLIN, ms))
		step(t, " unaccepted");
	else
		t->s = accept4(t->l, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
}

/* Opens t->c and t->s. */
static void join(struct script *t)
{
	if (t->c < 0)
		t->c = end_at(t, t->p.opener, client_port(t));
	if (t->c < 0 || t->l < 0)
		return;
	call(t, t->c, !t->p.opener, server_port(t));
	if (connected(t, t->c, PATIENCE_MS))
		welcome(t, PATIENCE_MS);
}

static void hang_up(struct script *t, int *fd)
{
	if (*fd < 0)
		return;
	step(t, " %c.close", fd == &t->c ? 'c' : 's');
	close(*fd);
	*fd = -1;
}

static void abort_it(struct script *t, int *fd)
{
	struct linger now = { 1, 0 };

	if (*fd < 0)
		return;
	step(t, " %c.abort", fd == &t->c ? 'c' : 's');
	setsockopt(*fd, SOL_SOCKET, SO_LINGER, &now, sizeof now);
	close(*fd);
	*fd = -1;
}

static void say_fin(struct script *t, int *fd)
{
	if (*fd < 0)
		return;
	step(t, " %c.shutdown", fd == &t->c ? 'c' : 's');
	shutdown(*fd, SHUT_WR);
}

static const char zeros[65536];

/* Gives @fd as much of @n octets as it takes now. */
static unsigned offer(int fd, unsigned n)
{
	ssize_t got =
		fd < 0 ? -1 : send(fd, zeros, n < sizeof zeros ? n : sizeof zeros, MSG_NOSIGNAL);

	return got < 0 ? 0 : (unsigned)got;
}

/* Moves @n octets from one end to the other, as far as the path lets it. */
static void pump(struct script *t, int from, int to, unsigned n)
{
	unsigned sent = 0, got = 0;
	char buf[65536];

	if (from < 0 || to < 0)
		return;
	while (got < n) {
		struct pollfd p[2] = { { .fd = to, .events = POLLIN },
				       { .fd = sent < n ? from : -1, .events = POLLOUT } };

		if (poll(p, 2, PATIENCE_MS) <= 0)
			break;
		if (p[1].revents & (POLLERR | POLLHUP))
			break;
		if (p[1].revents)
			sent += offer(from, n - sent);
		if (p[0].revents) {
			ssize_t k = recv(to, buf, sizeof buf, 0);

			if (k <= 0)
				break;
			got += (unsigned)k;
		}
	}
	if (got < n)
		step(t, " %u/%u", got, n);
}

/* Data both ways, some or none. */
static void talk(struct script *t)
{
	static const unsigned upto[] = { 1, 200, 5000, 40000 };

	pump(t, t->c, t->s, roll(t, upto[roll(t, 4)]));
	pump(t, t->s, t->c, roll(t, upto[roll(t, 4)]));
}

/* Reads until the other's FIN, an error, or the end of patience. */
static void hear_fin(struct script *t, int fd, int ms)
{
	char buf[65536];
	ssize_t n;

	if (fd < 0)
		return;
	for (;;) {
		if (!await(fd, POLLIN, ms)) {
			step(t, " no-eof");
			return;
		}
		n = recv(fd, buf, sizeof buf, 0);
		if (n == 0)
			return;
		if (n < 0) {
			step(t, " %s", strerrorname_np(errno));
			return;
		}
	}
}

static int *first_of(struct script *t)
{
	return t->p.first ? &t->s : &t->c;
}

static int *second_of(struct script *t)
{
	return t->p.first ? &t->c : &t->s;
}

/* ---- scripts --------------------------------------------------------------------------------- */

static void close_in_order(struct script *t)
{
	int *one = first_of(t), *two = second_of(t);

	if (roll(t, 2))
		hang_up(t, one);
	else
		say_fin(t, one);
	nap(t);
	if (roll(t, 4))
		hear_fin(t, *two, EOF_MS);
	nap(t);
	hang_up(t, two);
	hear_fin(t, *one, EOF_MS);
	hang_up(t, one);
}

static void orderly(struct script *t)
{
	serve(t, 8, 0);
	join(t);
	nap(t);
	talk(t);
	nap(t);
	close_in_order(t);
}

static void half_close(struct script *t)
{
	int *one = first_of(t), *two = second_of(t);

	serve(t, 8, 0);
	join(t);
	talk(t);
	say_fin(t, one);
	if (roll(t, 2))
		hear_fin(t, *two, EOF_MS);
	pump(t, *two, *one, 1 + roll(t, 30000));
	nap(t);
	pump(t, *two, *one, roll(t, 3000));
	if (roll(t, 2))
		say_fin(t, two);
	hang_up(t, two);
	hear_fin(t, *one, EOF_MS);
	hang_up(t, one);
}

static void crossed_close(struct script *t)
{
	int *one = first_of(t), *two = second_of(t);

	serve(t, 8, 0);
	join(t);
	talk(t);
	nap_us(20000);
	if (roll(t, 2)) { /* data before the FINs */
		offer(*one, 1 + roll(t, 20000));
		if (roll(t, 2))
			offer(*two, 1 + roll(t, 20000));
	}
	say_fin(t, one);
	nap_us(roll(t, 2) ? 0 : roll(t, 2000));
	say_fin(t, two);
	hear_fin(t, *one, EOF_MS);
	hear_fin(t, *two, EOF_MS);
	hang_up(t, one);
	hang_up(t, two);
}

static void linger_rst(struct script *t)
{
	int *one = first_of(t), *two = second_of(t);
	unsigned stage = roll(t, 6);

	step(t, " stage%u", stage);
	serve(t, 8, 0);
	join(t);
	if (stage)
		talk(t);
	if (stage == 2 || stage == 4) { /* in FIN-WAIT-1 or -2 */
		say_fin(t, one);
		if (stage == 2)
			hear_fin(t, *two, EOF_MS);
		nap(t);
	}
	if (stage == 3 || stage == 5) { /* in CLOSE-WAIT, or about to be */
		say_fin(t, two);
		if (stage == 3)
			hear_fin(t, *one, EOF_MS);
		nap(t);
	}
	abort_it(t, one);
	nap(t);
	if (roll(t, 2))
		await(*two, POLLIN, 300);
	if (roll(t, 3) == 0)
		offer(*two, 100);
	hang_up(t, two);
}

static void data_into_close(struct script *t)
{
	int *one = first_of(t), *two = second_of(t);

	serve(t, 8, 0);
	join(t);
	talk(t);
	hang_up(t, one);
	if (roll(t, 3))
		hear_fin(t, *two, EOF_MS);
	for (unsigned n = 1 + roll(t, 3); n; n--) {
		offer(*two, 1 + roll(t, 3000));
		nap(t);
	}
	hang_up(t, two);
}

static void unread_data(struct script *t)
{
	int *one = first_of(t), *two = second_of(t);

	serve(t, 8, 0);
	join(t);
	if (roll(t, 2))
		talk(t);
	offer(*two, 1 + roll(t, 20000));
	if (roll(t, 3) == 0)
		say_fin(t, two);
	if (roll(t, 3))
		await(*one, POLLIN, EOF_MS);
	nap(t);
	hang_up(t, one);
	nap(t);
	hang_up(t, two);
}

static void refused(struct script *t)
{
	t->c = end_at(t, t->p.opener, client_port(t));
	call(t, t->c, !t->p.opener, server_port(t));
	connected(t, t->c, PATIENCE_MS);
	hang_up(t, &t->c);
}

static void unanswered(struct script *t)
{
	serve(t, 8, 0);
	t->c = end_at(t, t->p.opener, client_port(t));
	set(t->c, IPPROTO_TCP, TCP_SYNCNT, 1);
	call(t, t->c, !t->p.opener, server_port(t));
	if (roll(t, 2))
		nap_us(roll(t, 1500000));
	else if (connected(t, t->c, PATIENCE_MS) && roll(t, 2))
		offer(t->c, 1 + roll(t, 3000));
	hang_up(t, &t->c);
	close(t->l);
	t->l = -1;
}

/* Chooses the number of the opener's SYN, shortly before 0. */
static void choose_isn(struct script *t, int fd)
{
	set(fd, IPPROTO_TCP, TCP_REPAIR, TCP_REPAIR_ON);
	set(fd, IPPROTO_TCP, TCP_REPAIR_QUEUE, TCP_SEND_QUEUE);
	set(fd, IPPROTO_TCP, TCP_QUEUE_SEQ, (int)(0u - 1 - roll(t, roll(t, 2) ? 4 : 30000)));
	set(fd, IPPROTO_TCP, TCP_REPAIR, TCP_REPAIR_OFF_NO_WP);
}

static void simultaneous(struct script *t)
{
	t->c = end_at(t, t->p.opener, client_port(t));
	t->s = end_at(t, !t->p.opener, server_port(t));
	if (t->p.kind == SEQUENCE_WRAP) {
		choose_isn(t, t->c);
		choose_isn(t, t->s);
	}
	call(t, t->c, !t->p.opener, server_port(t));
	nap_us(roll(t, 3) ? 0 : roll(t, 1200));
	call(t, t->s, t->p.opener, client_port(t));
	if (!connected(t, t->c, PATIENCE_MS) || !connected(t, t->s, PATIENCE_MS)) {
		hang_up(t, &t->c);
		hang_up(t, &t->s);
		return;
	}
	talk(t);
	nap(t);
	close_in_order(t);
}

static void self_connect(struct script *t)
{
	t->c = end_at(t, 0, server_port(t));
	call(t, t->c, 0, server_port(t));
	if (!connected(t, t->c, PATIENCE_MS))
		step(t, " failed");
	pump(t, t->c, t->c, roll(t, 2000));
	if (roll(t, 2))
		say_fin(t, &t->c);
	if (roll(t, 4) == 0)
		abort_it(t, &t->c);
	hang_up(t, &t->c);
}

static void fast_open(struct script *t)
{
	struct sockaddr_storage a;
	socklen_t len = address(t, !t->p.opener, server_port(t), &a);

	serve(t, 8, 0);
	t->c = end_at(t, t->p.opener, client_port(t));
	if (t->c < 0 || t->l < 0)
		return;
	ssize_t n = sendto(t->c, zeros, roll(t, 1200), MSG_FASTOPEN | MSG_NOSIGNAL,
			   (struct sockaddr *)&a, len);

	step(t, " fastopen:%zd", n);
	welcome(t, PATIENCE_MS);
	if (roll(t, 2) &&
	    t->s >= 0) { /* an answer before the handshake's end, and perhaps the FIN */
		offer(t->s, 1 + roll(t, 3000));
		if (roll(t, 3) == 0)
			say_fin(t, &t->s);
	}
	connected(t, t->c, PATIENCE_MS);
	nap(t);
	talk(t);
	close_in_order(t);
}

static void port_reuse(struct script *t)
{
	serve(t, 8, 0);
	for (unsigned n = 2 + roll(t, 2); n; n--) {
		t->p.first = roll(t, 2);
		join(t);
		talk(t);
		if (roll(t, 4) == 0)
			abort_it(t, first_of(t));
		close_in_order(t);
		step(t, " |");
		nap_us(roll(t, 2) ? 1200000 : roll(t, 30000));
	}
}

static void keep_alive(struct script *t)
{
	serve(t, 8, 0);
	join(t);
	for (int k = 0; k < 2; k++) {
		int fd = k ? t->s : t->c;

		if (fd < 0 || (roll(t, 2) && !k))
			continue;
		set(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
		set(fd, IPPROTO_TCP, TCP_KEEPIDLE, 1);
		set(fd, IPPROTO_TCP, TCP_KEEPINTVL, 1);
	}
	talk(t);
	if (roll(t, 2))
		say_fin(t, first_of(t)); /* half-closed and idle */
	nap_us(2300000);
	close_in_order(t);
}

static void zero_window(struct script *t)
{
	unsigned end = roll(t, 4);

	step(t, " end%u", end);
	serve(t, 8, 2304);
	join(t);
	for (unsigned n = 0; n < 4; n++) {
		offer(t->c, 20000);
		nap_us(20000);
	}
	nap_us(200000);
	switch (end) {
	case 0:
		say_fin(t, &t->c);
		hear_fin(t, t->s, EOF_MS);
		hang_up(t, &t->s);
		hang_up(t, &t->c);
		break;
	case 1: /* both FINs while data waits for the window */
		hang_up(t, &t->c);
		say_fin(t, &t->s);
		nap(t);
		hear_fin(t, t->s, EOF_MS);
		hang_up(t, &t->s);
		break;
	case 2:
		hang_up(t, &t->s);
		nap(t);
		hang_up(t, &t->c);
		break;
	default:
		say_fin(t, &t->s);
		hear_fin(t, t->c, EOF_MS);
		say_fin(t, &t->c);
		hear_fin(t, t->s, EOF_MS);
		hang_up(t, &t->c);
		hang_up(t, &t->s);
		break;
	}
}

static void sequence_wrap(struct script *t)
{
	if (roll(t, 3) == 0) {
		simultaneous(t);
		return;
	}
	serve(t, 8, 0);
	t->c = end_at(t, t->p.opener, client_port(t));
	choose_isn(t, t->c);
	join(t);
	pump(t, t->c, t->s, roll(t, 40000));
	close_in_order(t);
}

/* Two ask, one fits in.  The second has a port of its own. */
static void backlog(struct script *t)
{
	serve(t, 0, 0);
	t->c = end_at(t, t->p.opener, client_port(t));
	int other = end_at(t, t->p.opener, client_port(t) + PLAN_MAX);

	call(t, t->c, !t->p.opener, server_port(t));
	nap_us(roll(t, 2) ? 0 : 10000);
	call(t, other, !t->p.opener, server_port(t));
	connected(t, t->c, 1500);
	connected(t, other, 300);
	if (roll(t, 2))
		offer(t->c, 500);
	if (roll(t, 2))
		offer(other, 500);
	nap(t);
	if (roll(t, 2)) {
		welcome(t, 100);
		nap(t);
		connected(t, other, 1500);
	}
	close(other);
	hang_up(t, &t->c);
	nap(t);
	hang_up(t, &t->s);
	close(t->l);
	t->l = -1;
}

static void black_hole(struct script *t)
{
	serve(t, 8, 0);
	t->c = end_at(t, t->p.opener, client_port(t));
	call(t, t->c, !t->p.opener, server_port(t));
	if (connected(t, t->c, 1500))
		welcome(t, 1500);
	offer(t->c, 100 + roll(t, 3000));
	offer(t->s, roll(t, 3000));
	nap_us(100000);
	if (roll(t, 2))
		hang_up(t, first_of(t));
	nap_us(400000);
	hang_up(t, &t->c);
	hang_up(t, &t->s);
}

/* Many small segments, so that there is something to forge beside. */
static void forged(struct script *t)
{
	serve(t, 8, 0);
	join(t);
	for (unsigned n = 0; n < 8; n++) {
		pump(t, t->c, t->s, 1 + roll(t, 500));
		pump(t, t->s, t->c, 1 + roll(t, 500));
	}
	nap_us(10000);
	close_in_order(t);
}

static void (*const play[PLAN_KINDS])(struct script *) = {
	[ORDERLY] = orderly,
	[HALF_CLOSE] = half_close,
	[CROSSED_CLOSE] = crossed_close,
	[LINGER_RST] = linger_rst,
	[DATA_INTO_CLOSE] = data_into_close,
	[UNREAD] = unread_data,
	[REFUSED] = refused,
	[UNANSWERED] = unanswered,
	[SIMULTANEOUS_OPEN] = simultaneous,
	[SELF_CONNECT] = self_connect,
	[FAST_OPEN] = fast_open,
	[PORT_REUSE] = port_reuse,
	[KEEP_ALIVE] = keep_alive,
	[ZERO_WINDOW] = zero_window,
	[SEQUENCE_WRAP] = sequence_wrap,
	[BACKLOG] = backlog,
	[BLACK_HOLE] = black_hole,
	[FORGED] = forged,
	[SYN_COOKIES] = orderly,
	[FAST_OPEN_BARE] = fast_open,
};

static void play_one(unsigned i)
{
	struct script t = { .p = plan_of(d.seed, i), .i = i, .l = -1, .c = -1, .s = -1 };
	unsigned opener = t.p.opener;

	play[t.p.kind](&t);
	if (t.c >= 0)
		close(t.c);
	if (t.s >= 0)
		close(t.s);
	if (t.l >= 0)
		close(t.l);
	char line[1400];
	int n = snprintf(line, sizeof line,
			 "i=%u kind=%s path=%s v=%d opener=%c sport=%u dport=%u steps=%s\n", i,
			 plan_name[t.p.kind], path_name[t.p.path], t.p.v6 ? 6 : 4, "AB"[opener],
			 client_port(&t), server_port(&t), t.steps + (t.steps[0] == ' '));

	if (write(STDOUT_FILENO, line, (size_t)n) !=
	    n) /* one write: lines of processes do not mix */
		err(1, "write");
}

static bool in_part(const char *part, enum plan_kind kind)
{
	const char *wanted = kind == SYN_COOKIES      ? "cookies"
			     : kind == FAST_OPEN_BARE ? "bare"
						      : "main";

	return !strcmp(part, wanted);
}

int main(int argc, char **argv)
{
	if (argc != 8)
		errx(2, "usage: driver SEED PART FIRST COUNT NET NETNS-OF-A NETNS-OF-B");
	d.seed = strtoull(argv[1], NULL, 0);
	unsigned first = (unsigned)atoi(argv[3]), end = first + (unsigned)atoi(argv[4]);

	d.net = (unsigned)atoi(argv[5]);
	for (int k = 0; k < 2; k++) {
		d.netns[k] = open(argv[6 + k], O_RDONLY | O_CLOEXEC);
		if (d.netns[k] < 0)
			err(1, "%s", argv[6 + k]);
	}
	if (end > PLAN_MAX)
		errx(2, "at most %d connections: each has ports of its own", PLAN_MAX);
	signal(SIGPIPE, SIG_IGN);

	/* Worker w plays the connections of this part whose turn is w modulo WORKERS. */
	for (unsigned w = 0; w < WORKERS; w++) {
		pid_t pid = fork();

		if (pid < 0)
			err(1, "fork");
		if (pid)
			continue;
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		for (unsigned i = first, turn = 0; i < end; i++)
			if (in_part(argv[2], plan_of(d.seed, i).kind) && turn++ % WORKERS == w)
				play_one(i);
		_exit(0);
	}
	int status, failed = 0;

	while (wait(&status) > 0)
		failed |= status;
	return failed ? 1 : 0;
}
