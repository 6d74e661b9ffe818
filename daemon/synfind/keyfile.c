#include "synfind/keyfile.h"
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>
#include "common/log.h"

static int keyfile_check(int fd, const char *path)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		return log_errno(errno, "Cannot stat '%s'", path);
	if (!S_ISREG(st.st_mode) || st.st_size != PSEUDONYM_KEY_OCTETS) {
		log_error("'%s' is not a pseudonym key: it must be a file of %d octets", path,
			  PSEUDONYM_KEY_OCTETS);
		return -EINVAL;
	}
	if (st.st_mode & S_IRWXO) {
		log_error("'%s' is not a safe pseudonym key: others can read it (mode %04o)", path,
			  st.st_mode & 07777);
		return -EPERM;
	}
	return 0;
}

int keyfile_read(const char *path, uint8_t ret[static PSEUDONYM_KEY_OCTETS])
{
	const char *credentials = getenv("CREDENTIALS_DIRECTORY"); /* systemd.exec(5) */
	char credential[PATH_MAX];
	ssize_t n;
	int fd, r;

	if (!path && !credentials)
		return 0;
	if (!path) {
		snprintf(credential, sizeof credential, "%s/" KEYFILE_CREDENTIAL, credentials);
		if (access(credential, F_OK) < 0 && errno == ENOENT)
			return 0;
		path = credential;
	}
	fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	if (fd < 0)
		return log_errno(errno, "Cannot read the pseudonym key '%s'", path);
	r = keyfile_check(fd, path);
	if (r == 0 && (n = read(fd, ret, PSEUDONYM_KEY_OCTETS)) != PSEUDONYM_KEY_OCTETS)
		r = log_errno(n < 0 ? errno : EIO, "Cannot read the pseudonym key '%s'", path);
	close(fd);
	return r < 0 ? r : 1;
}
