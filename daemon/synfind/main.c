/* synfind: publishes TCP connections as they open, change and close.  See docs/architecture.md. */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>
#include "base/cc.h"
#include "common/clock.h"
#include "common/log.h"
#include "common/notify.h"
#include "common/options.h"
#include "common/sandbox.h"
#include "common/stdfds.h"
#include "synfind/capture.h"
#include "synfind/check.h"
#include "synfind/control.h"
#include "synfind/watchdog.h"
#include "synfind/opener.h"
#include "synfind/publisher.h"
#include "synfind/publisher_state.h"
#include "synfind/restore.h"
#include "synfind/retry.h"
#include "synfind/subscribers.h"
#include "synfind/offline.h"
#include "synfind/fdstore.h"
#include "synfind/listen.h"

enum { EXIT_USAGE = 2 };
static const uint64_t end_wait_ns = 2000000000; /* for subscribers to read the rest */

struct daemon {
	int argc;
	char **argv;
	struct options o;
	unsigned full_capacity, syn_capacity; /* entries that the tables were made for */
	sd_event *loop;
	sd_event_source *stats_timer;
	struct opener opener;
	struct fdstore fdstore;
	struct retry retry;
	bool ready;
	struct publisher publisher;
	struct capture capture;
	struct control control;
	struct watchdog watchdog;
	bool paused; /* the next process continues the stream */
};

/* The first signal ends the daemon in order, the second one at once. */
static int on_signal(sd_event_source *s, const struct signalfd_siginfo *si, void *arg)
{
	struct daemon *d = arg;

	(void)s;
	if (d->capture.stopping)
		return sd_event_exit(d->loop, 0);
	notify_send("STOPPING=1");
	if (si->ssi_signo == SIGTERM && d->fdstore.live) {
		/* The next process continues: the service manager keeps the descriptors. */
		capture_pause(&d->capture);
		publisher_pause(&d->publisher);
		d->paused = true;
		return sd_event_exit(d->loop, 0);
	}
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

static int set_stats_timer(struct daemon *d)
{
	d->stats_timer = sd_event_source_disable_unref(d->stats_timer);
	if (!d->o.stats_interval_ns)
		return 0;
	return sd_event_add_time_relative(d->loop, &d->stats_timer, CLOCK_MONOTONIC,
					  d->o.stats_interval_ns / 1000, 0, on_stats, d);
}

/* ---- reload --------------------------------------------------------------------------------- */

/* The tables cannot grow. */
static void limit_fit(unsigned *limit, unsigned capacity, const char *name)
{
	if (*limit <= capacity)
		return;
	log_warn("%s: a value above %u takes effect at the next start", name, capacity);
	*limit = capacity;
}

/* Reads file and flags again; options that only a start can change stay. */
static int reload_options(struct daemon *d)
{
	struct options fresh;
	int r = options_parse(d->argc, d->argv, &fresh);

	if (r)
		return r < 0 ? r : -EINVAL;
	r = options_keep_fixed(&fresh, &d->o);
	if (r < 0) {
		options_free(&fresh);
		return log_errno(r, "Cannot apply the configuration");
	}
	limit_fit(&fresh.max_connections, d->full_capacity, "max-connections");
	limit_fit(&fresh.max_half_open, d->syn_capacity, "max-half-open");
	options_free(&d->o);
	d->o = fresh;
	return 0;
}

static void daemon_reload(struct daemon *d)
{
	uint64_t interval_ns = d->o.stats_interval_ns;

	notify_send("RELOADING=1\nMONOTONIC_USEC=%llu",
		    (unsigned long long)clock_ns(CLOCK_MONOTONIC) / 1000);
	if (reload_options(d) == 0) {
		log_set_level(d->o.log_level);
		if (d->o.stats_interval_ns != interval_ns) /* else each reload would put it off */
			set_stats_timer(d);
		subscribers_recheck(&d->publisher.subscribers);
		control_recheck(&d->control);
		capture_reload(&d->capture);
		log_event(LOG_LEVEL_INFO, LOG_ID_RELOADED, NULL, "Configuration read again");
	} else {
		log_event(LOG_LEVEL_ERR, LOG_ID_BAD_CONFIG, NULL,
			  "The configuration cannot be used: keeping the previous one");
	}
	notify_send("READY=1"); /* in both cases */
}

/* At a terminal: it was closed.  Otherwise: a request to reload. */
static int on_hangup(sd_event_source *s, const struct signalfd_siginfo *si, void *arg)
{
	struct daemon *d = arg;

	if (isatty(STDERR_FILENO))
		return on_signal(s, si, arg);
	if (!d->capture.stopping)
		daemon_reload(d);
	return 0;
}

/* ---- start and end -------------------------------------------------------------------------- */

static int loop_init(struct daemon *d)
{
	static const struct {
		int number;
		sd_event_signal_handler_t handler;
	} signals[] = { { SIGINT, on_signal }, { SIGTERM, on_signal }, { SIGHUP, on_hangup } };
	sigset_t set;
	int r;

	/* Before the first thread, so that all threads leave these signals to the loop. */
	sigemptyset(&set);
	for (unsigned i = 0; i < ARRAY_SIZE(signals); i++)
		sigaddset(&set, signals[i].number);
	sigprocmask(SIG_BLOCK, &set, NULL);
	signal(SIGPIPE, SIG_IGN);

	r = sd_event_default(&d->loop);
	for (unsigned i = 0; r >= 0 && i < ARRAY_SIZE(signals); i++)
		r = sd_event_add_signal(d->loop, NULL, signals[i].number, signals[i].handler, d);
	if (r >= 0)
		r = set_stats_timer(d);
	if (r >= 0)
		r = notify_watch(d->loop);
	return r < 0 ? log_errno(r, "Cannot set up the event loop") : 0;
}

/* First what needs privileges, then their end, then what reads hostile input. */
static int daemon_start(struct daemon *d)
{
	enum sandbox_role role = d->o.mode == MODE_AUTO ? SANDBOX_DAEMON_BPF : SANDBOX_DAEMON;
	bool all_new = restore_give_up(&d->fdstore);
	int r = opener_start(&d->opener, d->argc, d->argv, &d->o);

	if (r >= 0)
		r = loop_init(d);
	if (r >= 0)
		r = publisher_init(&d->publisher, &d->o, d->loop, &d->fdstore);
	d->publisher.all_new = all_new;
	if (r >= 0)
		r = control_open(&d->control, &d->o, &d->fdstore,
				 *d->publisher.subscribers.path &&
					 !d->publisher.subscribers.socket_made);
	if (r >= 0)
		r = sandbox_privileges(role);
	if (r >= 0)
		r = sandbox_system_calls(role);
	if (r >= 0)
		r = capture_start(&d->capture, &d->o, d->loop, &d->publisher, &d->opener,
				  &d->fdstore);
	if (r < 0)
		return r;
	publisher_start(&d->publisher); /* `restart` comes before what may end this process, too */
	r = capture_run(&d->capture);
	if (r >= 0)
		fdstore_sweep(&d->fdstore);
	return r;
}

static int daemon_run(struct daemon *d)
{
	const struct capture_totals *t = &d->capture.totals;
	int r = daemon_start(d);

	if (r < 0)
		return r;
	if (d->o.to_stdout)
		r = subscribers_stdout(&d->publisher.subscribers);
	if (r >= 0)
		r = watchdog_start(&d->watchdog, d->loop, &d->publisher);
	if (r >= 0)
		r = control_start(&d->control, d->loop, &d->publisher, &d->capture);
	if (r < 0)
		return r;
	d->ready = true;
	retry_end(&d->retry);
	log_event(LOG_LEVEL_INFO, LOG_ID_READY, NULL, "Ready%s%s",
		  *d->publisher.subscribers.path ? ": events on " : "",
		  d->publisher.subscribers.path);
	notify_send("READY=1\nSTATUS=Ready");

	r = sd_event_loop(d->loop);
	if (r < 0)
		return log_errno(r, "The event loop failed");
	if (!d->paused) {
		control_end(&d->control);
		publisher_end(&d->publisher, end_wait_ns);
	}
	log_event(LOG_LEVEL_INFO, LOG_ID_SUMMARY,
		  LOG_FIELDS({ "SYNFIND_PACKETS", log_number(t->packets).s },
			     { "SYNFIND_DROPS", log_number(t->drops).s },
			     { "SYNFIND_CONNECTIONS", log_number(t->connections).s },
			     { "SYNFIND_EVENTS", log_number(t->events).s },
			     { "SYNFIND_LOST", log_number(t->lost).s }),
		  "%llu packets, %llu dropped by the kernel, %llu connections, %llu events, %llu "
		  "lost",
		  (unsigned long long)t->packets, (unsigned long long)t->drops,
		  (unsigned long long)t->connections, (unsigned long long)t->events,
		  (unsigned long long)t->lost);
	return d->publisher.subscribers.output_error;
}

/* After a failure: the manager's socket unit would restart it at once.  Returns @status. */
static int pause_if_managed(int status)
{
	if (status && getenv("NOTIFY_SOCKET"))
		sleep(1);
	return status;
}

/* Hundreds of interfaces and subscribers need more than the usual 1,024 descriptors. */
static void raise_descriptor_limit(void)
{
	struct rlimit l;

	if (getrlimit(RLIMIT_NOFILE, &l) == 0) {
		l.rlim_cur = l.rlim_max;
		setrlimit(RLIMIT_NOFILE, &l);
	}
}

int main(int argc, char **argv)
{
	struct daemon d = { .argc = argc, .argv = argv, .opener.fd = -1, .control.listen_fd = -1 };
	bool socket_made;
	unsigned directories;
	int status, r = stdfds_open();

	if (r < 0)
		return EXIT_FAILURE;
	raise_descriptor_limit();
	r = fdstore_init(&d.fdstore);
	if (r < 0)
		log_errno(r, "Cannot restore the stored descriptors");
	retry_begin(&d.retry, &d.fdstore);
	r = options_parse(argc, argv, &d.o);
	if (r)
		return r > 0 ? EXIT_SUCCESS : pause_if_managed(retry_failed(&d.retry, EXIT_USAGE));
	log_set_level(d.o.log_level);
	if (d.o.check) {
		r = check_config(&d.o);
		options_free(&d.o);
		return r < 0 ? EXIT_USAGE : EXIT_SUCCESS;
	}
	if (d.o.read_files.n) {
		r = offline_run(&d.o);
		options_free(&d.o);
		return r;
	}
	d.full_capacity = d.o.max_connections;
	d.syn_capacity = d.o.max_half_open;
	r = daemon_run(&d);
	status = r < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
	if (r < 0 && !d.ready)
		status = retry_failed(&d.retry, status);
	/* Unchanged for the next start, which may succeed. */
	if (r < 0 && d.fdstore.live && !d.publisher.subscribers.output_error)
		capture_pause(&d.capture);
	socket_made = (d.publisher.subscribers.socket_made || d.control.socket_made) && !d.paused;
	directories = (unsigned)d.publisher.subscribers.directory_made << LISTEN_EVENTS |
		      (unsigned)d.control.directory_made << LISTEN_CONTROL;
	capture_destroy(&d.capture);
	control_destroy(&d.control); /* after the decoders, which may be adding to a list */
	publisher_destroy(&d.publisher);
	fdstore_destroy(&d.fdstore);
	notify_end(end_wait_ns);
	opener_end(&d.opener, socket_made, directories);
	sd_event_source_unref(d.stats_timer);
	sd_event_unref(d.loop);
	options_free(&d.o);
	return pause_if_managed(status);
}
