#include "synfind/fdstore.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>
#include "common/log.h"

struct fdstore_entry {
	char *name;
	int fd;
};

/* systemd sets FDSTORE (the maximum number) since version 254; our unit sets it for older ones. */
static bool fdstore_available(void)
{
	const char *max = getenv("FDSTORE");

	return getenv("NOTIFY_SOCKET") && max && strtoul(max, NULL, 10) > 0;
}

int fdstore_init(struct fdstore *s)
{
	char **names = NULL;
	int n = sd_listen_fds_with_names(1, &names);

	*s = (struct fdstore){ .live = fdstore_available() };
	if (n <= 0)
		return n;
	s->entries = calloc((size_t)n, sizeof *s->entries);
	for (int i = 0; i < n; i++) {
		if (s->entries)
			s->entries[s->n++] =
				(struct fdstore_entry){ names[i], SD_LISTEN_FDS_START + i };
		else
			free(names[i]);
	}
	free(names);
	return s->entries ? 0 : -ENOMEM;
}

/* Removes entry @i; the caller frees its name. */
static struct fdstore_entry entry_remove(struct fdstore *s, unsigned i)
{
	struct fdstore_entry e = s->entries[i];

	memmove(s->entries + i, s->entries + i + 1, (--s->n - i) * sizeof e);
	return e;
}

static int entry_take(struct fdstore *s, unsigned i)
{
	struct fdstore_entry e = entry_remove(s, i);

	free(e.name);
	return e.fd;
}

void fdstore_destroy(struct fdstore *s)
{
	while (s->n)
		close(entry_take(s, s->n - 1));
	free(s->entries);
	*s = (struct fdstore){ 0 };
}

int fdstore_take(struct fdstore *s, const char *name)
{
	for (unsigned i = 0; i < s->n; i++)
		if (!strcmp(s->entries[i].name, name))
			return entry_take(s, i);
	return -ENOENT;
}

int fdstore_take_next(struct fdstore *s, const char *prefix,
		      char ret_name[static FDSTORE_NAME_MAX + 1])
{
	for (unsigned i = 0; i < s->n; i++) {
		if (strncmp(s->entries[i].name, prefix, strlen(prefix)) != 0)
			continue;
		snprintf(ret_name, FDSTORE_NAME_MAX + 1, "%s", s->entries[i].name);
		return entry_take(s, i);
	}
	return -ENOENT;
}

int fdstore_add(struct fdstore *s, const char *name, int fd)
{
	char state[FDSTORE_NAME_MAX + 64];
	int r;

	if (!s->live)
		return -ENOTCONN;
	/* Without FDPOLL=0 the manager drops a descriptor that has an error: a ring socket whose
	 * interface is down, or a subscriber that hung up.  We handle these ourselves. */
	snprintf(state, sizeof state, "FDSTORE=1\nFDPOLL=0\nFDNAME=%s", name);
	r = sd_pid_notify_with_fds(0, 0, state, &fd, 1);
	return r < 0 ? r : r == 0 ? -ENOTCONN : 0;
}

void fdstore_remove(struct fdstore *s, const char *name)
{
	if (s->live)
		sd_notifyf(0, "FDSTOREREMOVE=1\nFDNAME=%s", name);
}

void fdstore_sweep(struct fdstore *s)
{
	while (s->n) {
		struct fdstore_entry e = entry_remove(s, s->n - 1);

		log_debug("'%s' is inherited and not needed", e.name);
		fdstore_remove(s, e.name);
		close(e.fd);
		free(e.name);
	}
}

int fdstore_memfd(struct fdstore *s, const char *name, size_t octets)
{
	int fd = fdstore_take(s, name), r;
	struct stat st;

	if (fd >= 0 && fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && (uint64_t)st.st_size == octets)
		return fd;
	if (fd >= 0) {
		fdstore_remove(s, name);
		close(fd);
	}
	fd = memfd_create(name, MFD_CLOEXEC);
	if (fd < 0)
		return -errno;
	r = ftruncate(fd, (off_t)octets) < 0 ? -errno : 0;
	if (r == 0)
		r = fdstore_add(s, name, fd);
	if (r < 0 && r != -ENOTCONN) {
		close(fd);
		return r;
	}
	return fd;
}

void *fdstore_memory(struct fdstore *s, const char *name, size_t octets)
{
	int fd = fdstore_memfd(s, name, octets);
	void *p;

	if (fd < 0) {
		errno = -fd;
		return NULL;
	}
	p = mmap(NULL, octets, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	close(fd);
	return p == MAP_FAILED ? NULL : p;
}
