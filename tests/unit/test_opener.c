/* The daemon's end of the connection to its opener; the test is the opener. */
#include "../../daemon/synfind/opener.c"
#include "../../daemon/opener/protocol.c"
#include "../../daemon/common/log.c"
#include "tests/support/tap.h"

/* Not reached: no opener is started here. */
int spawn_opener(int argc, char **argv, const struct options *o,
		 void (*clean)(const struct options *o, unsigned directories))
{
	(void)argc, (void)argv, (void)o, (void)clean;
	abort();
}

bool sandbox_may_capture(void)
{
	return false;
}

void listen_remove(const struct options *o, unsigned directories)
{
	(void)o, (void)directories;
}

/* More requests than a socket holds: none is lost, and their order stays. */
static void test_full(void)
{
	enum { REQUESTS = 3000 };
	struct opener_reply reply = { .kind = OPENER_FAILED }, m;
	struct opener p = { .fd = -1 };
	int pair[2], fds[OPENER_FDS_MAX];
	unsigned n, in_order = 0, replies = 0;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK, 0, pair))
		abort();
	p.fd = pair[0];
	for (int i = 0; i < REQUESTS; i++)
		opener_ask(&p, OPENER_OPEN, i, 0);
	for (unsigned progress = 1; progress;) {
		struct opener_request q;

		progress = 0;
		while (opener_receive(pair[1], &q, sizeof q, fds, &n) > 0) {
			in_order += q.ifindex == (int)in_order && q.kind == OPENER_OPEN;
			if (!progress++) /* one reply for all that were read now */
				opener_send(pair[1], &reply, sizeof reply, NULL, 0);
		}
		while (opener_next(&p, &m, fds, &n) > 0)
			replies++;
	}
	ok(in_order == REQUESTS, "a slow opener gets each request, in order (%u of %u)", in_order,
	   REQUESTS);
	ok(replies > 1 && !p.queued, "the rest was sent when it replied (%u times)", replies);
	close(pair[1]);
	ok(opener_next(&p, &m, fds, &n) < 0 && p.fd < 0 && !p.queue, "it is gone: nothing is kept");
	opener_ask(&p, OPENER_OPEN, 1, 0);
	ok(!p.queued, "without a connection nothing is queued");
}

int main(void)
{
	test_full();
	return tap_done();
}
