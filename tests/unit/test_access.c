/* Who may listen, by options and credentials alone; and the file that keeps the key of
 * pseudonyms. */
#include "../../daemon/synfind/access.c"
#include "../../daemon/synfind/keyfile.c"
#include "../../daemon/common/log.c"
#include <sys/un.h>
#include "base/cc.h"
#include "tests/support/tap.h"

/* ---- who ------------------------------------------------------------------------------------ */

enum { ALICE = 1, BOB, STAFF, GUESTS };

#define LIST(...)                                                                                  \
	{                                                                                          \
		(uint32_t[]){ __VA_ARGS__ }, sizeof(uint32_t[]){ __VA_ARGS__ } / sizeof(uint32_t)  \
	}

static enum access_verdict of(const struct options *o, uid_t uid, gid_t gid, gid_t supplementary)
{
	struct access_peer p = { .uid = uid, .gid = gid, .groups = &supplementary, .ngroups = 1 };

	return access_by_name(&p, o);
}

static void by_name(void)
{
	const struct options none = { 0 };
	const struct options allow = { .allow_users = LIST(ALICE), .allow_groups = LIST(STAFF) };
	const struct options mask = { .pseudonymize_users = LIST(ALICE),
				      .pseudonymize_groups = LIST(GUESTS) };
	const struct options both = { .allow_groups = LIST(STAFF),
				      .pseudonymize_groups = LIST(GUESTS) };

	ok(of(&none, ALICE, 0, 0) == ACCESS_ADDRESSES && of(&none, 0, 0, 0) == ACCESS_ADDRESSES,
	   "no list: everybody sees addresses");
	ok(of(&allow, ALICE, 0, 0) == ACCESS_ADDRESSES &&
		   of(&allow, BOB, STAFF, 0) == ACCESS_ADDRESSES &&
		   of(&allow, BOB, 0, STAFF) == ACCESS_ADDRESSES,
	   "allowed: by user, by group, by supplementary group");
	ok(of(&allow, BOB, 0, 0) == ACCESS_UNLISTED &&
		   of(&allow, STAFF, ALICE, ALICE) == ACCESS_UNLISTED &&
		   of(&allow, 0, 0, 0) == ACCESS_UNLISTED,
	   "no one else then, whose numbers stand for something else, nor root");
	ok(of(&mask, ALICE, 0, 0) == ACCESS_PSEUDONYMS &&
		   of(&mask, BOB, GUESTS, 0) == ACCESS_PSEUDONYMS &&
		   of(&mask, BOB, 0, GUESTS) == ACCESS_PSEUDONYMS,
	   "pseudonyms: by user, by group, by supplementary group");
	ok(of(&mask, BOB, 0, 0) == ACCESS_ADDRESSES,
	   "without other lists, everybody else sees addresses");
	ok(of(&both, BOB, GUESTS, 0) == ACCESS_PSEUDONYMS &&
		   of(&both, BOB, 0, 0) == ACCESS_UNLISTED,
	   "with lists of both kinds, a user in neither is refused");
	ok(of(&both, BOB, STAFF, GUESTS) == ACCESS_ADDRESSES &&
		   of(&both, BOB, GUESTS, STAFF) == ACCESS_ADDRESSES,
	   "a user in both sees addresses");
}

static void by_number(void)
{
	const struct options o = { .max_subscribers = 5,
				   .max_subscribers_per_uid = 3,
				   .pseudonymize_users = LIST(BOB),
				   .allow_users = LIST(ALICE, 0) };
	const struct access_peer alice = { .uid = ALICE }, bob = { .uid = BOB },
				 root = { .uid = 0 }, other = { .uid = 77 };

	ok(access_decide(&alice, &o, 4, 2) == ACCESS_ADDRESSES &&
		   access_decide(&bob, &o, 4, 2) == ACCESS_PSEUDONYMS,
	   "one below both limits is admitted");
	ok(access_decide(&alice, &o, 3, 3) == ACCESS_UID_LIMIT &&
		   access_decide(&root, &o, 3, 3) == ACCESS_UID_LIMIT,
	   "not above the limit of a user, root's too");
	ok(access_decide(&alice, &o, 5, 0) == ACCESS_LIMIT, "nor above the limit of all");
	ok(access_decide(&alice, &o, 5, 3) == ACCESS_UID_LIMIT &&
		   access_decide(&other, &o, 5, 3) == ACCESS_UNLISTED,
	   "the reason is the one that holds longest");
}

/* Of a connection to ourselves. */
static void by_kernel(void)
{
	int pair[2], pipes[2];
	struct access_peer p;
	gid_t groups[1024];
	int n = getgroups(ARRAY_SIZE(groups), groups);

	if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair) < 0 || pipe(pipes) < 0 || n < 0)
		abort();
	ok(access_peer_of(pair[0], &p) == 0 && p.uid == geteuid() && p.gid == getegid() &&
		   p.pid == getpid(),
	   "the kernel reports user, group and process");
	ok(p.ngroups == (size_t)n && !memcmp(p.groups, groups, (size_t)n * sizeof *groups),
	   "and all supplementary groups, %d here", n);
	access_peer_free(&p);
	ok(!p.groups && access_peer_of(pipes[0], &p) == -ENOTSOCK &&
		   access_peer_of(-1, &p) == -EBADF,
	   "it reports nothing about a descriptor that is not a socket");
}

/* ---- the key -------------------------------------------------------------------------------- */

static char dir[] = "/tmp/synfind-key-XXXXXX", path[64];
static uint8_t key[PSEUDONYM_KEY_OCTETS];

static int read_of(size_t octets, mode_t mode)
{
	uint8_t content[64];
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);

	for (unsigned i = 0; i < sizeof content; i++)
		content[i] = (uint8_t)(i + 1);
	if (fd < 0 || write(fd, content, octets) != (ssize_t)octets || fchmod(fd, mode) < 0)
		abort();
	close(fd);
	memset(key, 0, sizeof key);
	return keyfile_read(path, key);
}

static void key_file(void)
{
	if (!mkdtemp(dir))
		abort();
	snprintf(path, sizeof path, "%s/" KEYFILE_CREDENTIAL, dir);
	unsetenv("CREDENTIALS_DIRECTORY");
	ok(keyfile_read(NULL, key) == 0, "no file and no credential: no key");
	ok(keyfile_read(path, key) == -ENOENT, "a file that is not there is an error");
	setenv("CREDENTIALS_DIRECTORY", dir, 1);
	ok(keyfile_read(NULL, key) == 0, "credentials, but none of that name: no key");
	ok(read_of(32, 0600) == 1 && key[0] == 1 && key[31] == 32, "32 octets are a key");
	memset(key, 0, sizeof key);
	ok(keyfile_read(NULL, key) == 1 && key[31] == 32, "from a credential as well");
	ok(read_of(32, 0440) == 1, "its group may read it: so systemd hands credentials over");
	ok(read_of(32, 0604) == -EPERM && read_of(32, 0666) == -EPERM, "not if others can read it");
	ok(read_of(31, 0600) == -EINVAL && read_of(33, 0600) == -EINVAL &&
		   read_of(0, 0600) == -EINVAL,
	   "not one octet less, nor more");
	ok(keyfile_read("/dev/zero", key) == -EINVAL && keyfile_read(dir, key) == -EINVAL,
	   "neither a device nor a directory");
	unlink(path);
	rmdir(dir);
}

int main(void)
{
	unsetenv("JOURNAL_STREAM");
	by_name();
	by_number();
	by_kernel();
	key_file();
	return tap_done();
}
