#include "synfinctl/dial.h"
#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>
#include "synfinctl/unit.h"

const struct cli_flag dial_flags[] = {
	{ "socket", 0, CLI_STRING, offsetof(struct dial_options, socket), "PATH",
	  "Socket of the events; control.sock is beside it. [" DIAL_EVENTS "]", "file" },
	{ 0 },
};

void dial_path(const struct dial_options *o, enum dial_which which, char ret[static CLI_TEXT_MAX])
{
	const char *events = o->socket ? o->socket : DIAL_EVENTS, *slash = strrchr(events, '/');

	if (which == DIAL_TO_EVENTS)
		snprintf(ret, CLI_TEXT_MAX, "%s", events);
	else
		snprintf(ret, CLI_TEXT_MAX, "%.*scontrol.sock",
			 slash ? (int)(slash + 1 - events) : 0, events);
}

int dial(const struct dial_options *o, enum dial_which which)
{
	struct sockaddr_un sun = { .sun_family = AF_UNIX };
	char path[CLI_TEXT_MAX];
	int fd;

	dial_path(o, which, path);
	if (strlen(path) >= sizeof sun.sun_path)
		return -ENAMETOOLONG;
	memcpy(sun.sun_path, path, strlen(path));
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	if (connect(fd, (struct sockaddr *)&sun, sizeof sun) < 0) {
		int err = errno;

		close(fd);
		return -err;
	}
	return fd;
}

/* The socket is absent, or no process listens on it. */
static void explain_absent(const char *path, int err, char *ret, size_t size)
{
	struct unit_state service = unit_state("synfind.service");
	const char *what = err == ENOENT ? "does not exist" : "has no listener";

	if (!service.s[0])
		snprintf(ret, size,
			 "%s %s: synfind is not running. Start it: systemctl start synfind, or "
			 "without systemd: synfind",
			 path, what);
	else if (!strcmp(service.s, "absent"))
		snprintf(ret, size,
			 "%s %s, and there is no synfind.service. Install the package synfind, or "
			 "start the daemon by hand: synfind",
			 path, what);
	else if (!strcmp(service.s, "active"))
		snprintf(ret, size,
			 "%s %s, but synfind.service is active. Does its configuration have "
			 "another 'socket'? See: systemctl status synfind.socket, or use --socket",
			 path, what);
	else
		snprintf(ret, size,
			 "%s %s: synfind.service is %s. Start it: systemctl start synfind%s", path,
			 what, strcmp(service.s, "inactive") ? service.s : "stopped",
			 strcmp(service.s, "failed")
				 ? ""
				 : "; why it failed: journalctl -u synfind -n 20");
}

static void explain_permission(const char *path, char *ret, size_t size)
{
	struct passwd *user = getpwuid(geteuid());
	struct group *group;
	struct stat st;

	/* If the folder cannot be entered, the socket's group is not known. */
	if (stat(path, &st) < 0) {
		snprintf(ret, size, "no permission to look at %s. Use sudo", path);
		return;
	}
	group = getgrgid(st.st_gid);
	if (group && st.st_gid)
		snprintf(ret, size,
			 "no permission to open %s. Use sudo, or join group %s and log in again: "
			 "sudo usermod -aG %s %s",
			 path, group->gr_name, group->gr_name, user ? user->pw_name : "$USER");
	else
		snprintf(ret, size,
			 "no permission to open %s, which belongs to root. Use sudo, or give the "
			 "socket a group (socket-group in synfind.conf)",
			 path);
}

void dial_explain(const struct dial_options *o, enum dial_which which, int err,
		  char ret[static 2 * CLI_TEXT_MAX])
{
	char path[CLI_TEXT_MAX];
	size_t size = (size_t)2 * CLI_TEXT_MAX;

	dial_path(o, which, path);
	if (which == DIAL_TO_CONTROL && (err == ENOENT || err == ECONNREFUSED)) {
		int fd = dial(o, DIAL_TO_EVENTS);

		if (fd >= 0) {
			close(fd);
			snprintf(ret, size,
				 "%s does not exist, but synfind is running. Set control-socket = "
				 "auto in synfind.conf",
				 path);
			return;
		}
	}
	if (err == ENOENT || err == ECONNREFUSED || err == ENOTDIR)
		explain_absent(path, err, ret, size);
	else if (err == EACCES || err == EPERM)
		explain_permission(path, ret, size);
	else
		snprintf(ret, size, "cannot connect to %s: %s", path, strerror(err));
}

int dial_or_explain(const struct dial_options *o, enum dial_which which)
{
	char why[2 * CLI_TEXT_MAX];
	int fd = dial(o, which);

	if (fd < 0) {
		dial_explain(o, which, -fd, why);
		cli_error(CLI_NO_DAEMON, "%s", why);
	}
	return fd;
}
