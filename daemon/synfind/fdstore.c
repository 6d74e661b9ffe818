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
#include "common/notify.h"

struct fdstore_name fdstore_name(const char *kind, unsigned a, unsigned b)
{
	struct fdstore_name n;

	snprintf(n.s, sizeof n.s, "%s-%u-%u", kind, a, b);
	return n;
}

int fdstore_init(struct fdstore *s)
{
	/* The maximum number: systemd sets it since version 254, our unit for older ones. */
	const char *max = getenv("FDSTORE");
	int n;

	*s = (struct fdstore){ .live = notify_wanted() && max && strtoul(max, NULL, 10) };
	n = sd_listen_fds_with_names(1, &s->names);
	if (n > 0)
		s->n = (unsigned)n;
	return n < 0 ? n : 0;
}

int fdstore_take_at(struct fdstore *s, unsigned i)
{
	free(s->names[i]);
	s->names[i] = NULL;
	return SD_LISTEN_FDS_START + (int)i;
}

void fdstore_destroy(struct fdstore *s)
{
	for (unsigned i = 0; i < s->n; i++)
		if (s->names[i])
			close(fdstore_take_at(s, i));
	free(s->names);
	*s = (struct fdstore){ 0 };
}

bool fdstore_has(const struct fdstore *s, const char *name, bool equal)
{
	for (unsigned i = 0; i < s->n; i++)
		if (s->names[i] && !strcmp(s->names[i], name) == equal)
			return true;
	return false;
}

int fdstore_take(struct fdstore *s, const char *name)
{
	for (unsigned i = 0; i < s->n; i++)
		if (s->names[i] && !strcmp(s->names[i], name))
			return fdstore_take_at(s, i);
	return -ENOENT;
}

/* Without FDPOLL=0 the manager drops a descriptor that has an error: a ring socket whose interface
 * is down, or a subscriber that hung up.  We handle these ourselves. */
#define ADD    "FDSTORE=1\nFDPOLL=0\nFDNAME="
#define REMOVE "FDSTOREREMOVE=1\nFDNAME="

int fdstore_add(struct fdstore *s, const char *name, int fd)
{
	char text[FDSTORE_NAME_MAX + sizeof ADD];

	if (!s->live)
		return -ENOTCONN;
	snprintf(text, sizeof text, ADD "%s", name);
	return notify_send_fd(text, fd);
}

void fdstore_remove(struct fdstore *s, const char *name)
{
	char text[FDSTORE_NAME_MAX + sizeof ADD];

	snprintf(text, sizeof text, ADD "%s", name);
	/* What still waits to be stored is not; an earlier one of that name is removed already. */
	if (s->live && !notify_withdraw(text))
		notify_send(REMOVE "%s", name);
}

int fdstore_peek(const struct fdstore *s, unsigned i, const char **ret_name)
{
	*ret_name = s->names[i];
	return s->names[i] ? SD_LISTEN_FDS_START + (int)i : -ENOENT;
}

void fdstore_discard(struct fdstore *s, const char *prefix)
{
	for (unsigned i = s->n; i--;) {
		if (!s->names[i] || strncmp(s->names[i], prefix, strlen(prefix)) != 0)
			continue;
		log_debug("'%s' is inherited and not needed", s->names[i]);
		fdstore_remove(s, s->names[i]);
		close(fdstore_take_at(s, i));
	}
}

void fdstore_sweep(struct fdstore *s)
{
	fdstore_discard(s, "");
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
	r = ftruncate(fd, (off_t)octets) < 0 ? -errno : fdstore_add(s, name, fd);
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

	if (fd < 0)
		return NULL;
	p = mmap(NULL, octets, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	close(fd);
	return p == MAP_FAILED ? NULL : p;
}
