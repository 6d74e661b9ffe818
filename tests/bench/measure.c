/* measure - runs a program on one processor and tells what it cost, as one line of JSON.
 *
 *     measure -o FILE [-c CPU] [-H] [--] PROGRAM [ARG]...
 *
 * CPU time is that of the program and of all its children that it waited for; peak_kib the largest
 * resident set of any of them.  A program of its own for a reason: ru_maxrss counts what the
 * process was before it called exec(), and whoever is started by a Python process would begin with
 * Python's tens of megabytes.  SIGINT and SIGTERM are passed on. */
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static volatile sig_atomic_t child;

static void pass_on(int sig)
{
	if (child > 0)
		kill((pid_t)child, sig);
}

static double seconds(struct timeval t)
{
	return (double)t.tv_sec + (double)t.tv_usec / 1e6;
}

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static int usage(void)
{
	fprintf(stderr, "usage: measure -o FILE [-c CPU] [-H] [--] PROGRAM [ARG]...\n"
			"  -c CPU  on this processor only\n"
			"  -H      without transparent huge pages\n");
	return 125;
}

static int fail(const char *what)
{
	fprintf(stderr, "measure: %s: %s\n", what, strerror(errno));
	return 125;
}

int main(int argc, char **argv)
{
	const char *out = NULL;
	int cpu = -1, no_huge = 0, status;

	for (int k; (k = getopt(argc, argv, "+o:c:H")) != -1;)
		switch (k) {
		case 'o':
			out = optarg;
			break;
		case 'c':
			cpu = atoi(optarg);
			break;
		case 'H':
			no_huge = 1;
			break;
		default:
			return usage();
		}
	if (!out || optind == argc)
		return usage();
	if (cpu >= 0) {
		cpu_set_t set;

		CPU_ZERO(&set);
		CPU_SET((size_t)cpu, &set);
		if (sched_setaffinity(0, sizeof set, &set) < 0)
			return fail("sched_setaffinity");
	}
	if (no_huge && prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0) < 0)
		return fail("PR_SET_THP_DISABLE");

	/* Blocked until the child's number is known, so that no signal gets lost in between. */
	sigset_t pair, before;
	struct sigaction sa = { .sa_handler = pass_on, .sa_flags = SA_RESTART };
	double start = now();

	sigemptyset(&pair);
	sigaddset(&pair, SIGINT);
	sigaddset(&pair, SIGTERM);
	sigprocmask(SIG_BLOCK, &pair, &before);
	sigaction(SIGINT, &sa, NULL);
	sigaction(SIGTERM, &sa, NULL);
	child = fork();
	if (child < 0)
		return fail("fork");
	if (!child) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		sigprocmask(SIG_SETMASK, &before, NULL);
		execvp(argv[optind], argv + optind);
		_exit(fail(argv[optind]));
	}
	sigprocmask(SIG_SETMASK, &before, NULL);

	struct rusage u;

	while (wait4((pid_t)child, &status, 0, &u) < 0)
		if (errno != EINTR)
			return fail("wait4");
	child = 0;

	FILE *f = fopen(out, "w");

	if (!f)
		return fail(out);
	fprintf(f,
		"{\"user\":%.6f,\"sys\":%.6f,\"wall\":%.6f,\"peak_kib\":%ld,\"voluntary\":%ld,"
		"\"involuntary\":%ld}\n",
		seconds(u.ru_utime), seconds(u.ru_stime), now() - start, u.ru_maxrss, u.ru_nvcsw,
		u.ru_nivcsw);
	if (fclose(f))
		return fail(out);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}
