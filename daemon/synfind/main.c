/* synfind: tells TCP connections as they open and close.  See docs/architecture.md. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <systemd/sd-daemon.h>
#include "common/log.h"
#include "common/options.h"
#include "common/sandbox.h"
#include "synfind/capture.h"
#include "synfind/opener.h"
#include "synfind/publisher.h"
#include "synfind/read.h"

enum { EXIT_USAGE = 2 };
static const uint64_t last_words_ns = 2000000000; /* for subscribers to take what is theirs */

struct daemon {
	struct options o;
	sd_event *loop;
	sd_event_source *stats_timer;
	struct opener opener;
	struct publisher publisher;
	struct capture capture;
};

/* The first one ends the daemon in order, the second one at once. */
static int on_signal(sd_event_source *s, const struct signalfd_siginfo *si, void *arg)
{
	struct daemon *d = arg;

	(void)s, (void)si;
	if (d->capture.stopping)
		return sd_event_exit(d->loop, 0);
	sd_notify(0, "STOPPING=1");
	capture_stop(&d->capture);
	return 0;
}

static int on_stats(sd_event_source *s, uint64_t usec, void *arg)
{
	struct daemon *d = arg;

	publisher_stats(&d->publisher, d->o.stats_interval_ns);
	publisher_drain(&d->publisher);
	sd_event_source_set_time(s, usec + d->o.stats_interval_ns / 1000);
	return sd_event_source_set_enabled(s, SD_EVENT_ONESHOT);
}

static int loop_init(struct daemon *d)
{
	sigset_t set;
	int r;

	/* Before any thread is there: all of them leave these to the loop. */
	sigemptyset(&set);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGTERM);
	sigprocmask(SIG_BLOCK, &set, NULL);
	signal(SIGPIPE, SIG_IGN);

	r = sd_event_default(&d->loop);
	if (r >= 0)
		r = sd_event_add_signal(d->loop, NULL, SIGINT, on_signal, d);
	if (r >= 0)
		r = sd_event_add_signal(d->loop, NULL, SIGTERM, on_signal, d);
	if (r >= 0 && d->o.stats_interval_ns)
		r = sd_event_add_time_relative(d->loop, &d->stats_timer, CLOCK_MONOTONIC,
					       d->o.stats_interval_ns / 1000, 0, on_stats, d);
	return r < 0 ? log_errno(r, "Cannot set up the event loop") : 0;
}

static void say_summary(const struct capture_totals *t)
{
	log_info("%llu packets, %llu dropped by the kernel, %llu connections, %llu events, %llu lost",
		 (unsigned long long)t->packets, (unsigned long long)t->drops,
		 (unsigned long long)t->connections, (unsigned long long)t->events,
		 (unsigned long long)t->lost);
}

/* What takes privileges, then the end of them, then what meets hostile octets. */
static int daemon_start(struct daemon *d, int argc, char **argv)
{
	int r = opener_start(&d->opener, argc, argv, &d->o);

	if (r >= 0)
		r = loop_init(d);
	if (r >= 0)
		r = publisher_init(&d->publisher, &d->o, d->loop);
	if (r >= 0)
		r = sandbox_privileges(SANDBOX_DAEMON);
	if (r >= 0)
		r = sandbox_system_calls(SANDBOX_DAEMON);
	if (r >= 0)
		r = capture_start(&d->capture, &d->o, d->loop, &d->publisher, &d->opener);
	return r;
}

static int daemon_run(struct daemon *d, int argc, char **argv)
{
	int r = daemon_start(d, argc, argv);

	if (r < 0)
		return r;
	if (d->o.to_stdout) {
		r = publisher_stdout(&d->publisher);
		if (r < 0)
			return r;
	}
	if (d->o.socket)
		log_info("Ready: events on %s", d->o.socket);
	else
		log_info("Ready");
	sd_notify(0, "READY=1");

	r = sd_event_loop(d->loop);
	if (r < 0)
		return log_errno(r, "The event loop failed");
	publisher_flush(&d->publisher, last_words_ns);
	say_summary(&d->capture.totals);
	return 0;
}

int main(int argc, char **argv)
{
	struct daemon d = { .opener.fd = -1 };
	bool socket_made, directory_made;
	int r = options_parse(argc, argv, &d.o);

	if (r)
		return r > 0 ? EXIT_SUCCESS : EXIT_USAGE;
	log_set_level(d.o.log_level);
	if (d.o.read_file) {
		r = read_run(&d.o);
		options_free(&d.o);
		return r;
	}
	r = daemon_run(&d, argc, argv);
	capture_destroy(&d.capture);
	socket_made = d.publisher.socket_made;
	directory_made = d.publisher.directory_made;
	publisher_destroy(&d.publisher);
	opener_end(&d.opener, socket_made, directory_made);
	sd_event_source_unref(d.stats_timer);
	sd_event_unref(d.loop);
	options_free(&d.o);
	return r < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}
