/* synfind-opener: opens ring sockets for synfind; started by systemd. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>
#include "common/log.h"
#include "common/options.h"
#include "common/sandbox.h"
#include "common/stdfds.h"
#include "opener/serve.h"

enum { EXIT_USAGE = 2 };

/* The daemon, from the socket that systemd listens on. */
static int await_daemon(void)
{
	int n = sd_listen_fds(1), fd;

	if (n != 1 || sd_is_socket(SD_LISTEN_FDS_START, AF_UNIX, SOCK_SEQPACKET, 1) <= 0) {
		log_error("systemd starts this program with one listening socket "
			  "(synfind-opener.socket); without it synfind starts its own opener");
		return -EINVAL;
	}
	fd = accept4(SD_LISTEN_FDS_START, NULL, NULL, SOCK_CLOEXEC);
	return fd < 0 ? log_errno(errno, "Cannot accept the daemon") : fd;
}

int main(int argc, char **argv)
{
	struct options o;
	int r;

	if (stdfds_open() < 0)
		return EXIT_FAILURE;
	log_set_name("synfind-opener");
	r = options_parse(argc, argv, &o);
	if (r)
		return r > 0 ? EXIT_SUCCESS : EXIT_USAGE;
	if (o.check) { /* synfind also checks which interfaces exist */
		options_free(&o);
		return puts("configuration OK") < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
	}
	log_set_level(o.log_level);
	r = sandbox_privileges(serve_role(&o));
	if (r >= 0)
		r = sandbox_system_calls(serve_role(&o));
	if (r >= 0)
		r = await_daemon();
	if (r >= 0) {
		struct serve s = { .o = &o, .fd = r };

		sd_notify(0, "READY=1\nSTATUS=Serving the daemon.");
		r = serve_run(&s); /* one daemon per process, so each gets a new configuration */
		close(s.fd);
	}
	options_free(&o);
	return r < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}
