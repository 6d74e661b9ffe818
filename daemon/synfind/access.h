/* access.h - who may subscribe, and whether with addresses or pseudonyms.
 *
 * The kernel names the peer: its user, group and supplementary groups at connect(2), which cannot
 * change afterwards (unix(7), SO_PEERCRED; SO_PEERGROUPS).  The decision depends only on these and
 * the options. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct options;

struct access_peer {
	pid_t pid;
	uid_t uid;
	gid_t gid;
	gid_t *groups; /* supplementary ones; owned */
	size_t ngroups;
};

enum access_verdict {
	/* granted; for each of these there is a log of lines */
	ACCESS_ADDRESSES,
	ACCESS_PSEUDONYMS, /* in place of addresses; written only while a subscriber reads them */
	ACCESS_LOGS,
	/* refused */
	ACCESS_UNLISTED = ACCESS_LOGS, /* the peer is in none of the lists */
	ACCESS_UID_LIMIT,	       /* its user has too many */
	ACCESS_LIMIT,		       /* there are too many */
	ACCESS_UNKNOWN,		       /* the kernel does not name the peer */
	ACCESS_RATE_LIMIT,	       /* its user connects too often */
	ACCESS_VERDICTS
};

static inline bool access_refused(enum access_verdict v)
{
	return v >= ACCESS_LOGS;
}

/* The process at the other end of @fd.  0 (free it with access_peer_free()) or -errno. */
int access_peer_of(int fd, struct access_peer *ret);
void access_peer_free(struct access_peer *p);

/* What @p may see, by user and groups.  allow-* takes precedence over pseudonymize-*: a membership
 * never takes anything away, so giving one up gains nothing. */
enum access_verdict access_by_name(const struct access_peer *p, const struct options *o);

/* The same, with @all subscribers connected already, @of_uid of them of the same user. */
enum access_verdict access_decide(const struct access_peer *p, const struct options *o,
				  unsigned all, unsigned of_uid);

/* Counts a connection of @uid.  False: it is one too many in this second of the monotonic clock. */
bool access_rate_pass(uid_t uid, uint64_t now_ns);

/* Logs that @p was accepted or refused, at most once in ten seconds per user.  @p may be zeroed. */
void access_log(const struct access_peer *p, enum access_verdict v);
