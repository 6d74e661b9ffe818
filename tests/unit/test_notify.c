/* Messages to a service manager, which is this test: it reads when it likes, or not at all. */
#include "../../daemon/common/notify.c"
#include "../../daemon/common/log.c"
#include <sys/stat.h>
#include "tests/support/tap.h"

static char path[64];

/* A manager's socket, made anew. */
static int manager_new(void)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0);

	strcpy(a.sun_path, path);
	unlink(path);
	if (fd < 0 || bind(fd, (struct sockaddr *)&a, sizeof a))
		abort();
	return fd;
}

/* The next message; "": none.  *ret_fd: the descriptor with it; -1: none. */
static const char *received(int manager, int *ret_fd)
{
	static char text[TEXT_MAX + 1];
	char control[CMSG_SPACE(sizeof(int))];
	struct iovec iov = { text, TEXT_MAX };
	struct msghdr m = { .msg_iov = &iov,
			    .msg_iovlen = 1,
			    .msg_control = control,
			    .msg_controllen = sizeof control };
	ssize_t n = recvmsg(manager, &m, 0);
	struct cmsghdr *c = n < 0 ? NULL : CMSG_FIRSTHDR(&m);

	*ret_fd = -1;
	if (c)
		memcpy(ret_fd, CMSG_DATA(c), sizeof *ret_fd);
	text[n < 0 ? 0 : n] = '\0';
	return text;
}

static bool receives(int manager, const char *want)
{
	int fd;
	const char *got = received(manager, &fd);
	bool good = !strcmp(got, want);

	if (fd >= 0)
		close(fd);
	if (!good)
		printf("# got '%s', not '%s'\n", got, want);
	return good;
}

/* Until messages wait. */
static unsigned socket_fill(void)
{
	unsigned n = 0;

	while (!first)
		notify_send("FILL=%u", n++);
	return n - 1;
}

static bool takes(int manager, unsigned fillers)
{
	char want[32];

	for (unsigned i = 0; i < fillers; i++) {
		snprintf(want, sizeof want, "FILL=%u", i);
		if (!receives(manager, want))
			return false;
	}
	return true;
}

static void test_order(int manager, sd_event *loop)
{
	struct stat ours, theirs;
	unsigned fillers;
	char want[32];
	int fd;

	notify_send("READY=1\nSTATUS=%s", "Ready");
	ok(receives(manager, "READY=1\nSTATUS=Ready"),
	   "a manager that reads gets a message at once");
	fillers = socket_fill();
	ok(fillers > 0 && waiting == 1, "one that does not read makes the next message wait");
	ok(!notify_send_fd("FDSTORE=1\nFDNAME=a", STDIN_FILENO) && waiting == 2,
	   "one with a descriptor waits as well");
	notify_send("STATUS=old");
	notify_send("WATCHDOG=1");
	notify_send("FDSTOREREMOVE=1\nFDNAME=b");
	notify_send("FDSTOREREMOVE=1\nFDNAME=c");
	notify_send("STATUS=new");
	notify_send("WATCHDOG=1");
	ok(waiting == 6, "a newer status takes the place of an older one, as does WATCHDOG=1");
	notify_send_fd("FDSTORE=1\nFDNAME=d", STDIN_FILENO);
	ok(notify_withdraw("FDSTORE=1\nFDNAME=d") && !notify_withdraw("FDSTORE=1\nFDNAME=d") &&
		   !notify_withdraw("FDSTORE=1\nFDNAME=sent") && waiting == 6,
	   "what waits can be taken back");

	ok(takes(manager, fillers), "then it reads: first what was sent first");
	while (first && sd_event_run(loop, 1000000) > 0)
		;
	snprintf(want, sizeof want, "FILL=%u", fillers);
	ok(!first && receives(manager, want), "the event loop sends what waits, in order");
	ok(!strcmp(received(manager, &fd), "FDSTORE=1\nFDNAME=a") && fd >= 0 &&
		   !fstat(fd, &theirs) && !fstat(STDIN_FILENO, &ours) &&
		   ours.st_ino == theirs.st_ino,
	   "a descriptor comes with its message");
	ok(receives(manager, "FDSTOREREMOVE=1\nFDNAME=b") &&
		   receives(manager, "FDSTOREREMOVE=1\nFDNAME=c") &&
		   receives(manager, "STATUS=new") && receives(manager, "WATCHDOG=1") &&
		   receives(manager, ""),
	   "messages about different descriptors are all kept; of others the newest");
}

static void test_limit(int manager)
{
	unsigned fillers = socket_fill(), kept = 0;
	char text[64];
	int r = 0;

	for (unsigned i = 0; i < NOTIFY_WAITING_MAX + 10; i++) {
		snprintf(text, sizeof text, "FDSTOREREMOVE=1\nFDNAME=%u", i);
		r = notify_send_fd(text, -1);
		kept += r == 0;
	}
	ok(r == -ENOBUFS && waiting == NOTIFY_WAITING_MAX && kept == NOTIFY_WAITING_MAX - 1,
	   "no more than %d messages wait", NOTIFY_WAITING_MAX);
	takes(manager, fillers);
	notify_end(1000000);
	ok(!first && socket_fd < 0, "at its end it waits for a while, and gives up the rest");
	while (*received(manager, &r))
		;
}

int main(void)
{
	sd_event *loop;
	int manager;

	snprintf(path, sizeof path, "/tmp/synfind-notify-%d", (int)getpid());
	unsetenv("NOTIFY_SOCKET");
	ok(notify_send_fd("READY=1", -1) == -ENOTCONN && !notify_wanted(), "there is no manager");
	setenv("NOTIFY_SOCKET", path, 1);
	manager = manager_new();
	if (sd_event_new(&loop) < 0 || notify_watch(loop) < 0)
		abort();
	test_order(manager, loop);
	close(manager);
	manager = manager_new();
	notify_send("WATCHDOG=1");
	ok(receives(manager, "WATCHDOG=1"),
	   "a manager that has made its socket anew is found again");
	test_limit(manager);
	close(manager);
	unlink(path);
	sd_event_unref(loop);
	return tap_done();
}
