#include "opener/spawn.h"
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>
#include "common/clock.h"
#include "common/log.h"
#include "common/options.h"
#include "common/sandbox.h"
#include "opener/serve.h"

enum { STATUS_AGAIN = 3 };
enum {
	PAUSE_US = 100000, /* after the death of an opener */
	EARLY_NS = 1000000000,
	EARLY_DEATHS = 5, /* so many in a row, each EARLY_NS after its start, are enough */
};

struct supervisor {
	int argc;
	char **argv;
	struct serve serve;
	struct options o;
};

_Noreturn static void opener_run(const struct supervisor *w)
{
	int r;

	prctl(PR_SET_PDEATHSIG, SIGKILL); /* with the supervisor */
	if (sandbox_system_calls(serve_role(&w->o)) < 0)
		_exit(EXIT_FAILURE);
	r = serve_run(&w->serve);
	_exit(r < 0 ? EXIT_FAILURE : r == SERVE_AGAIN ? STATUS_AGAIN : EXIT_SUCCESS);
}

/* Reads the options again; keeps the old ones if the file is invalid. */
static void reread_options(struct supervisor *w)
{
	struct options fresh;

	if (options_parse(w->argc, w->argv, &fresh))
		return;
	/* The daemon keeps its mode, and the privileges of another mode are dropped. */
	fresh.mode = w->o.mode;
	options_free(&w->o);
	w->o = fresh;
	log_set_level(w->o.log_level);
}

/* Logs how an opener died.  True: another one may be started. */
static bool death_handle(int status, uint64_t lived_ns, unsigned *early_deaths)
{
	int sig = WIFSIGNALED(status) ? WTERMSIG(status) : 0;
	const char *how = sig ? sigdescr_np(sig) : "it failed";

	*early_deaths = lived_ns < EARLY_NS ? *early_deaths + 1 : 0;
	if (*early_deaths < EARLY_DEATHS) {
		log_warn("The opener died (%s): starting another one", how);
		return true;
	}
	log_error("The opener died %d times right after its start (%s): giving up%s", EARLY_DEATHS,
		  how, sig == SIGSEGV ? "; is the stack limit (ulimit -s) too small?" : "");
	return false;
}

_Noreturn static void supervise(struct supervisor *w)
{
	unsigned early_deaths = 0;

	for (;;) {
		uint64_t start = clock_ns(CLOCK_MONOTONIC);
		pid_t pid = fork();
		int status = 0, code;

		if (pid == 0)
			opener_run(w);
		if (pid > 0)
			while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
				;
		code = pid > 0 && WIFEXITED(status) ? WEXITSTATUS(status) : -1;
		if (code == EXIT_SUCCESS)
			_exit(EXIT_SUCCESS);
		if (poll(&(struct pollfd){ .fd = w->serve.fd }, 1, 0) != 0) /* the daemon is gone */
			_exit(EXIT_FAILURE);
		if (code == STATUS_AGAIN) {
			reread_options(w);
			continue;
		}
		if (pid > 0 &&
		    !death_handle(status, clock_ns(CLOCK_MONOTONIC) - start, &early_deaths))
			_exit(EXIT_FAILURE);
		usleep(PAUSE_US);
	}
}

static void leave_terminal(void)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	signal(SIGINT, SIG_IGN);
	signal(SIGTERM, SIG_IGN);
	signal(SIGHUP, SIG_IGN);
	signal(SIGCHLD, SIG_DFL);
	if (null >= 0) { /* a reader of the daemon's output must get EOF when the daemon ends */
		dup2(null, STDIN_FILENO);
		dup2(null, STDOUT_FILENO);
		close(null);
	}
}

int spawn_opener(int argc, char **argv, const struct options *o,
		 void (*clean)(const struct options *o, unsigned directories))
{
	int pair[2], r;
	pid_t pid;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		return -errno;
	fflush(NULL);
	pid = fork();
	if (pid == 0) {
		struct supervisor w = { argc, argv, { &w.o, pair[1], clean }, *o };

		/* A subscriber must get EOF when the daemon closes. */
		if (pair[1] > STDERR_FILENO + 1)
			close_range(STDERR_FILENO + 1, (unsigned)pair[1] - 1, 0);
		close_range((unsigned)pair[1] + 1, UINT_MAX, 0);
		leave_terminal();
		if (sandbox_privileges(serve_role(o)) < 0)
			_exit(EXIT_FAILURE);
		supervise(&w);
	}
	r = pid < 0 ? -errno : pair[0];
	close(pair[1]);
	if (pid < 0)
		close(pair[0]);
	else
		fcntl(pair[0], F_SETFL, O_NONBLOCK);
	return r;
}
