#include "synfind/access.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include "common/log.h"
#include "common/options.h"

enum {
	REPORTED_APART = 64, /* users with a rate limit of the log of their own */
	COUNTED_APART = 64,  /* users whose connections are counted at the same time */
	CONNECTS_PER_S = 500,
};

static const struct {
	const char *name, *text;
} verdicts[ACCESS_VERDICTS] = {
	[ACCESS_ADDRESSES] = { "addresses", "it sees addresses" },
	[ACCESS_PSEUDONYMS] = { "pseudonyms", "it sees pseudonyms" },
	[ACCESS_UNLISTED] = { "unlisted", "neither its user nor a group is in the lists of those "
					  "that may subscribe" },
	[ACCESS_UID_LIMIT] = { "uid_limit", "its user has max-subscribers-per-uid already" },
	[ACCESS_LIMIT] = { "limit", "there are max-subscribers already" },
	[ACCESS_UNKNOWN] = { "unknown", "the kernel does not name its user" },
	[ACCESS_RATE_LIMIT] = { "rate_limit", "its user connects more than 500 times a second" },
};

int access_peer_of(int fd, struct access_peer *ret)
{
	struct ucred cred;
	socklen_t len = sizeof cred;
	gid_t *groups = NULL;

	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &len) < 0)
		return -errno;
	len = 0;
	if (getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, NULL, &len) < 0) {
		if (errno != ERANGE) /* ERANGE: len is now the size that is needed */
			return -errno;
		groups = malloc(len);
		if (!groups || getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, groups, &len) < 0) {
			int r = -errno;

			free(groups);
			return r;
		}
	}
	*ret = (struct access_peer){ cred.pid, cred.uid, cred.gid, groups, len / sizeof *groups };
	return 0;
}

void access_peer_free(struct access_peer *p)
{
	free(p->groups);
	*p = (struct access_peer){ 0 };
}

static bool id_list_has(const struct id_list *list, uint32_t id)
{
	for (size_t i = 0; i < list->n; i++)
		if (list->ids[i] == id)
			return true;
	return false;
}

static bool is_named(const struct access_peer *p, const struct id_list *users,
		     const struct id_list *groups)
{
	if (id_list_has(users, p->uid) || id_list_has(groups, p->gid))
		return true;
	for (size_t i = 0; groups->n && i < p->ngroups; i++)
		if (id_list_has(groups, p->groups[i]))
			return true;
	return false;
}

enum access_verdict access_by_name(const struct access_peer *p, const struct options *o)
{
	if (is_named(p, &o->allow_users, &o->allow_groups))
		return ACCESS_ADDRESSES;
	if (is_named(p, &o->pseudonymize_users, &o->pseudonymize_groups))
		return ACCESS_PSEUDONYMS;
	return o->allow_users.n || o->allow_groups.n ? ACCESS_UNLISTED : ACCESS_ADDRESSES;
}

enum access_verdict access_decide(const struct access_peer *p, const struct options *o,
				  unsigned all, unsigned of_uid)
{
	enum access_verdict v = access_by_name(p, o);

	if (access_refused(v))
		return v;
	if (of_uid >= o->max_subscribers_per_uid)
		return ACCESS_UID_LIMIT;
	return all >= o->max_subscribers ? ACCESS_LIMIT : v;
}

bool access_rate_pass(uid_t uid, uint64_t now_ns)
{
	static struct counted {
		uint64_t since_ns;
		unsigned n; /* 0: unused */
		uid_t uid;
	} users[COUNTED_APART];
	struct counted *c = users; /* the user's, or else the oldest */

	for (unsigned i = 0; i < COUNTED_APART; i++) {
		if (users[i].n && users[i].uid == uid) {
			c = &users[i];
			break;
		}
		if (users[i].since_ns < c->since_ns)
			c = &users[i];
	}
	if (c->uid != uid || now_ns - c->since_ns >= 1000000000)
		*c = (struct counted){ .since_ns = now_ns, .uid = uid };
	return ++c->n <= CONNECTS_PER_S;
}

void access_log(const struct access_peer *p, enum access_verdict v)
{
	static struct log_limit limits[2][REPORTED_APART];
	bool refused = access_refused(v);
	enum log_level level = refused ? LOG_LEVEL_WARN : LOG_LEVEL_INFO;
	char before[64] = "";
	uint64_t held_back;

	if (!log_enabled(level) ||
	    !log_limit_pass(&limits[refused][p->uid % REPORTED_APART], &held_back))
		return;
	if (held_back)
		snprintf(before, sizeof before, " (and %llu before it)",
			 (unsigned long long)held_back);
	log_event(level, LOG_ID_SUBSCRIBER,
		  LOG_FIELDS({ "SYNFIND_STATE", refused ? "refused" : "here" },
			     { "SYNFIND_REASON", verdicts[v].name },
			     { "SYNFIND_UID", log_number(p->uid).s },
			     { "SYNFIND_PID", log_number((uint64_t)p->pid).s }),
		  "Subscriber of user %u (pid %d) is %s%s: %s", p->uid, (int)p->pid,
		  refused ? "refused" : "here", before, verdicts[v].text);
}
