#include "synfind/listen.h"
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <libgen.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <systemd/sd-daemon.h>
#include <systemd/sd-login.h>
#include <unistd.h>
#include "common/log.h"
#include "common/options.h"
#include "synfind/fdstore.h"

enum { BACKLOG = 128 };

static const struct {
	const char *noun, *option;
	const char *stored; /* its name in the fd store */
} kinds[LISTEN_KINDS] = {
	[LISTEN_EVENTS] = { "events socket", "socket", "listener" },
	[LISTEN_CONTROL] = { "control socket", "control-socket", "control" },
};

/* The path by the options; "": none. */
static void configured_path(const struct options *o, enum listen_kind kind, char ret[static 108])
{
	*ret = '\0';
	if (kind == LISTEN_CONTROL)
		options_control_path(o, ret);
	else if (o->socket)
		snprintf(ret, 108, "%s", o->socket); /* options.c checks that it fits */
}

static int address_of(const char *path, struct sockaddr_un *ret)
{
	*ret = (struct sockaddr_un){ .sun_family = AF_UNIX };
	if (strlen(path) >= sizeof ret->sun_path) {
		log_error("Cannot listen on '%s': the path is longer than %zu octets", path,
			  sizeof ret->sun_path - 1);
		return -ENAMETOOLONG;
	}
	memcpy(ret->sun_path, path, strlen(path));
	return 0;
}

/* The process that listens on @a (1 if its id is hidden); 0: none; or -errno. */
static int listener_of(const struct sockaddr_un *a)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), r;
	struct ucred peer = { 0 };
	socklen_t len = sizeof peer;

	if (fd < 0)
		return -errno;
	if (connect(fd, (const struct sockaddr *)a, sizeof *a) < 0 && errno != EAGAIN) {
		r = errno == ECONNREFUSED ? 0 : -errno;
	} else {
		getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len);
		r = peer.pid > 0 ? peer.pid : 1;
	}
	close(fd);
	return r;
}

/* Does the text of report_listener() name the unit that the package has? */
static bool is_service(const char *who)
{
	return strstr(who, "unit synfind.service") || strstr(who, "unit synfind.socket");
}

/* Process @pid listens there: who is it, and what may the user want? */
static void report_listener(const char *path, enum listen_kind kind, int pid)
{
	char who[320] = "another process", *unit = NULL;

	if (pid > 1)
		snprintf(who, sizeof who, "process %d", pid);
	if (pid > 1 && sd_pid_get_unit(pid, &unit) >= 0)
		snprintf(who, sizeof who, "process %d of unit %s", pid, unit);
	else if (pid == 1 && !strncmp(path, "/run/synfind/", 13)) /* systemd listens there */
		snprintf(who, sizeof who, "unit synfind.socket");
	if (kind == LISTEN_EVENTS && is_service(who))
		log_error("synfind.service is running; to watch: synfinctl watch (or start another "
			  "daemon with --socket=PATH)");
	else if (kind == LISTEN_EVENTS)
		log_error("Cannot listen on '%s': %s serves it already; to watch: synfinctl watch "
			  "--socket=%s (or start another daemon with --socket=PATH)",
			  path, who, path);
	else
		log_error("Cannot listen on '%s': %s serves it already; start another daemon with "
			  "--%s=PATH",
			  path, who, kinds[kind].option);
	free(unit);
}

/* May a socket be made at @path?  *ret_stale: one of a dead process is there. */
static int path_check(const char *path, enum listen_kind kind, const struct sockaddr_un *a,
		      bool *ret_stale)
{
	struct stat st;
	int owner;

	*ret_stale = false;
	if (lstat(path, &st) < 0)
		return errno == ENOENT ? 0 : log_errno(errno, "Cannot stat '%s'", path);
	if (!S_ISSOCK(st.st_mode)) {
		log_error("Cannot listen on '%s': the path exists and is not a socket", path);
		return -EEXIST;
	}
	owner = listener_of(a);
	if (owner > 0) {
		report_listener(path, kind, owner);
		return -EADDRINUSE;
	}
	if (owner < 0)
		return log_errno(owner, "Cannot find out which process listens on '%s'", path);
	*ret_stale = true;
	return 0;
}

static void lock_path(const char *path, char ret[static PATH_MAX])
{
	snprintf(ret, PATH_MAX, "%s.lock", path);
}

/* Takes the lock of @path for the life of the process: until another one has it, no socket at @path
 * is stale.  Returns a descriptor, to be closed only on failure; -EWOULDBLOCK: another has it. */
static int lock_take(const char *path)
{
	char name[PATH_MAX];
	struct stat ours, there;
	int fd, r = 0;

	lock_path(path, name);
	for (;;) {
		fd = open(name, O_RDONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
		if (fd < 0)
			return -errno;
		if (flock(fd, LOCK_EX | LOCK_NB) < 0 || fstat(fd, &ours) < 0)
			r = -errno;
		/* An ending daemon may have removed the file that we have opened. */
		if (r < 0 || (stat(name, &there) == 0 && there.st_ino == ours.st_ino &&
			      there.st_dev == ours.st_dev))
			break;
		close(fd);
	}
	if (r < 0)
		close(fd);
	return r < 0 ? r : fd;
}

static void lock_drop(const char *path, int lock)
{
	char name[PATH_MAX];

	lock_path(path, name);
	unlink(name);
	close(lock);
}

/* Removes a dead process's socket.  A second daemon must not take a socket between bind() and
 * listen() for one. */
static int path_claim(const char *path, enum listen_kind kind, const struct sockaddr_un *a)
{
	int lock = lock_take(path), r;
	bool stale;

	r = path_check(path, kind, a, &stale);
	if (r >= 0 && lock == -EWOULDBLOCK) {
		log_error("Cannot listen on '%s': another process is about to", path);
		r = -EADDRINUSE;
	} else if (r >= 0 && lock < 0) {
		r = log_errno(lock, "Cannot lock '%s.lock'", path);
	} else if (r >= 0 && stale) {
		log_info("Replacing '%s', which a dead process left", path);
		if (unlink(path) < 0)
			r = log_errno(errno, "Cannot remove '%s'", path);
	}
	if (r < 0 && lock >= 0)
		lock_drop(path, lock);
	return r < 0 ? r : lock;
}

static int set_access(const struct options *o, const char *path)
{
	struct group *g;

	if (o->socket_group) {
		g = getgrnam(o->socket_group);
		if (!g) {
			log_error("Cannot give '%s' to group '%s': there is no such group", path,
				  o->socket_group);
			return -ENOENT;
		}
		if (chown(path, (uid_t)-1, g->gr_gid) < 0)
			return log_errno(errno, "Cannot give '%s' to group '%s'", path,
					 o->socket_group);
	}
	if (chmod(path, o->socket_mode) < 0)
		return log_errno(errno, "Cannot set the mode of '%s'", path);
	return 0;
}

static int socket_bind(const struct sockaddr_un *a)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), r = 0;
	/* Others cannot connect before chmod(). */
	mode_t mask = umask(0177);

	if (fd < 0 || bind(fd, (const struct sockaddr *)a, sizeof *a) < 0)
		r = log_errno(errno, "Cannot listen on '%s'", a->sun_path);
	umask(mask);
	if (r < 0 && fd >= 0)
		close(fd);
	return r < 0 ? r : fd;
}

static const char *directory_of(const char *path, char copy[static PATH_MAX])
{
	snprintf(copy, PATH_MAX, "%s", path);
	return dirname(copy);
}

int listen_open(const struct options *o, enum listen_kind kind, bool *ret_directory_made)
{
	char path[108], copy[PATH_MAX];
	const char *dir;
	struct sockaddr_un a;
	int fd, lock, r;

	configured_path(o, kind, path);
	dir = directory_of(path, copy);
	r = address_of(path, &a);
	if (r < 0)
		return r;
	if (mkdir(dir, 0755) == 0)
		*ret_directory_made = true;
	else if (errno != EEXIST)
		return log_errno(errno, "Cannot create the directory '%s' of the %s", dir,
				 kinds[kind].noun);
	lock = path_claim(path, kind, &a);
	if (lock < 0)
		return lock;
	fd = socket_bind(&a);
	r = fd < 0 ? fd : set_access(o, path);
	if (r >= 0 && listen(fd, BACKLOG) < 0)
		r = log_errno(errno, "Cannot listen on '%s'", path);
	if (r >= 0)
		return fd;
	if (fd >= 0) {
		unlink(path);
		close(fd);
	}
	lock_drop(path, lock);
	return r;
}

/* Which of them is a socket of the service manager? */
static enum listen_kind kind_of(int fd)
{
	char path[108], copy[PATH_MAX];

	listen_path(fd, path);
	snprintf(copy, sizeof copy, "%s", path);
	return strcmp(basename(copy), "control.sock") ? LISTEN_EVENTS : LISTEN_CONTROL;
}

/* The service manager's. */
static int listen_managed(struct fdstore *fdstore, enum listen_kind kind)
{
	const char *name;

	for (unsigned i = 0; i < fdstore->n; i++) {
		int fd = fdstore_peek(fdstore, i, &name);

		if (fd >= 0 && !strcmp(name, EVENTS_SOCKET) && kind_of(fd) == kind)
			return fdstore_take_at(fdstore, i);
	}
	return -ENOENT;
}

int listen_inherited(struct fdstore *fdstore, enum listen_kind kind, bool *ret_own)
{
	int fd = listen_managed(fdstore, kind);
	bool own = fd < 0;

	if (own)
		fd = fdstore_take(fdstore, kinds[kind].stored);
	if (fd < 0)
		return fd;
	if (sd_is_socket_unix(fd, SOCK_STREAM, 1, NULL, 0) <= 0) {
		log_warn("The descriptor '%s' is not a listening socket: closing it",
			 own ? kinds[kind].stored : EVENTS_SOCKET);
		close(fd);
		return -ENOENT;
	}
	if (fcntl(fd, F_SETFL, O_NONBLOCK) < 0)
		return log_errno(errno, "Cannot use the %s", kinds[kind].noun);
	*ret_own = own;
	if (own) { /* best effort: while we listen, the socket is not stale */
		char path[108];

		listen_path(fd, path);
		lock_take(path);
	}
	return fd;
}

void listen_store(struct fdstore *fdstore, enum listen_kind kind, int fd)
{
	fdstore_add(fdstore, kinds[kind].stored, fd);
}

void listen_unstore(struct fdstore *fdstore, enum listen_kind kind)
{
	fdstore_remove(fdstore, kinds[kind].stored);
}

void listen_path(int fd, char ret[static 108])
{
	struct sockaddr_un a = { 0 };
	socklen_t len = sizeof a;

	*ret = '\0';
	if (getsockname(fd, (struct sockaddr *)&a, &len) == 0)
		snprintf(ret, sizeof a.sun_path, "%.*s", (int)sizeof a.sun_path - 1, a.sun_path);
}

static void path_remove(const char *path, bool directory)
{
	struct sockaddr_un a;
	char copy[PATH_MAX];

	/* If a process listens there, the path is no longer ours. */
	if (!*path || address_of(path, &a) < 0 || listener_of(&a) != 0)
		return;
	unlink(path);
	lock_path(path, copy);
	unlink(copy); /* last: our daemon still has the lock */
	if (directory)
		rmdir(directory_of(path, copy));
}

void listen_remove(const struct options *o, unsigned directories)
{
	char path[108];

	/* The events socket last: its directory may be that of both. */
	for (unsigned kind = LISTEN_KINDS; kind--;) {
		configured_path(o, kind, path);
		path_remove(path, directories >> kind & 1);
	}
}
