#include "common/sandbox.h"
#include <cap-ng.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/bpf.h>
#include <linux/if_packet.h>
#include <linux/sockios.h>
#include <pwd.h>
#include <sched.h>
#include <seccomp.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>
#include "common/log.h"

#if defined __SANITIZE_ADDRESS__ || defined __SANITIZE_THREAD__
#define SANITIZED 1
#else
#define SANITIZED 0
#endif

/* ---- privileges ---- */

bool sandbox_may_capture(void)
{
	return capng_get_caps_process() == 0 && capng_have_capability(CAPNG_EFFECTIVE, CAP_NET_RAW);
}

/* Even without capabilities, root owns root's files and processes. */
static int become_user(void)
{
	struct passwd *p = getpwnam("synfind") ?: getpwnam("nobody");

	if (geteuid() != 0)
		return 0;
	if (!p) {
		log_warn("Neither user 'synfind' nor 'nobody' exists: staying root, without "
			 "capabilities");
		return 0;
	}
	if (setgroups(0, NULL) < 0 || setresgid(p->pw_gid, p->pw_gid, p->pw_gid) < 0 ||
	    setresuid(p->pw_uid, p->pw_uid, p->pw_uid) < 0)
		return log_errno(errno, "Cannot become user '%s'", p->pw_name);
	return 0;
}

static bool is_daemon(enum sandbox_role role)
{
	return role == SANDBOX_DAEMON || role == SANDBOX_DAEMON_BPF;
}

/* May the role keep this capability, if the process has it? */
static bool is_kept(enum sandbox_role role, unsigned cap)
{
	return (cap == CAP_NET_RAW && !is_daemon(role)) ||
	       ((cap == CAP_BPF || cap == CAP_PERFMON) && role == SANDBOX_OPENER_BPF);
}

int sandbox_privileges(enum sandbox_role role)
{
	uint64_t permitted[2] = { 0 }; /* capabilities to drop, and to keep */
	bool bounds;
	int r;

	/* Under systemd it has one already.  Where it may not make one, the system call filter
	 * leaves only AF_UNIX. */
	if (is_daemon(role) && unshare(CLONE_NEWNET) < 0)
		log_debug("No network namespace of its own: %m");
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return log_errno(errno, "Cannot set no_new_privs");
	if (capng_get_caps_process() < 0)
		return log_errno(EPERM, "Cannot read capabilities");
	for (unsigned cap = 0; cap <= CAP_LAST_CAP; cap++)
		if (capng_have_capability(CAPNG_PERMITTED, cap))
			permitted[is_kept(role, cap)] |= UINT64_C(1) << cap;
	bounds = capng_have_capability(CAPNG_EFFECTIVE, CAP_SETPCAP);
	capng_clear(CAPNG_SELECT_ALL);
	/* First, while CAP_SETPCAP is there.  Without it no_new_privs has the same effect. */
	if (bounds && capng_apply(CAPNG_SELECT_BOUNDS) < 0)
		return log_errno(EPERM, "Cannot give up the bounding set of capabilities");
	r = is_daemon(role) ? become_user() : 0;
	if (r < 0)
		return r;
	for (unsigned cap = 0; cap <= CAP_LAST_CAP; cap++)
		if (permitted[true] >> cap & 1)
			capng_update(CAPNG_ADD, CAPNG_EFFECTIVE | CAPNG_PERMITTED, cap);
	/* If there is nothing to drop, the unit did it all, and may deny capset(2). */
	if ((permitted[false] && capng_apply(CAPNG_SELECT_CAPS) < 0) ||
	    prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) < 0)
		return log_errno(EPERM, "Cannot give up capabilities");
	return 0;
}

/* ---- system calls ---- */

struct rule {
	int nr;
	unsigned n; /* conditions, all of which must hold */
	struct scmp_arg_cmp arg[2];
};

/* clang-format off */
#define ALL(name)            { SCMP_SYS(name), 0, { { 0 } } }
#define IF(name, condition)  { SCMP_SYS(name), 1, { condition } }
#define SET(level, option)   { SCMP_SYS(setsockopt), 2, { ARG_IS(1, level), ARG_IS(2, option) } }
#define END                  { __NR_SCMP_ERROR, 0, { { 0 } } }
#define ARG_IS(i, value)     { .arg = i, .op = SCMP_CMP_EQ, .datum_a = (value) }
#define ARG_MASKED(i, m, is) { .arg = i, .op = SCMP_CMP_MASKED_EQ, .datum_a = (m), .datum_b = (is) }
#define ARG_HAS(i, mask)     ARG_MASKED(i, mask, mask)
#define ARG_HAS_NOT(i, mask) ARG_MASKED(i, mask, 0)

static const struct rule for_all[] = {
	/* octets, and files for reading */
	ALL(read), ALL(readv), ALL(pread64), ALL(write), ALL(writev), ALL(close), ALL(lseek),
	ALL(fstat), ALL(stat), ALL(newfstatat), ALL(statx), ALL(access), ALL(faccessat),
	ALL(faccessat2), ALL(dup), ALL(uname), ALL(readlink), ALL(readlinkat), ALL(getcwd),
	IF(open, ARG_HAS_NOT(1, O_ACCMODE | O_CREAT | O_TRUNC)),
	IF(openat, ARG_HAS_NOT(2, O_ACCMODE | O_CREAT | O_TRUNC)),
	/* F_SETOWN would have the kernel signal another process */
	IF(fcntl, ARG_IS(1, F_GETFD)), IF(fcntl, ARG_IS(1, F_SETFD)),
	IF(fcntl, ARG_IS(1, F_GETFL)), IF(fcntl, ARG_IS(1, F_SETFL)),
	IF(fcntl, ARG_IS(1, F_DUPFD_CLOEXEC)),
	/* memory that holds no code */
	ALL(brk), ALL(munmap), ALL(mremap), ALL(madvise),
	IF(mmap, ARG_HAS_NOT(2, PROT_EXEC)), IF(mprotect, ARG_HAS_NOT(2, PROT_EXEC)),
	/* signals (tgkill: see below), waiting, clocks */
	ALL(rt_sigaction), ALL(rt_sigprocmask), ALL(rt_sigreturn), ALL(sigaltstack), ALL(poll),
	ALL(ppoll), ALL(restart_syscall), ALL(nanosleep), ALL(clock_nanosleep),
	ALL(clock_gettime), ALL(clock_getres), ALL(gettimeofday), ALL(time), ALL(futex),
	ALL(sched_yield), ALL(getrandom), ALL(exit), ALL(exit_group), ALL(getpid), ALL(gettid),
	ALL(getppid), ALL(getuid), ALL(geteuid), ALL(getgid), ALL(getegid),
	/* AF_UNIX.  The address of sendmsg() is in memory, where a filter cannot see it. */
	IF(sendto, ARG_IS(4, 0)), ALL(sendmsg), ALL(recvfrom), ALL(recvmsg), ALL(shutdown),
	ALL(accept4), ALL(getsockname), ALL(getpeername), ALL(getsockopt), ALL(connect),
	IF(socket, ARG_IS(0, AF_UNIX)), SET(SOL_SOCKET, SO_SNDBUF), IF(ioctl, ARG_IS(1, TCGETS)),
	/* libsystemd logs a long message through these */
	ALL(memfd_create), ALL(ftruncate), IF(fcntl, ARG_IS(1, F_ADD_SEALS)),
	IF(fcntl, ARG_IS(1, F_GET_SEALS)), END
};

/* Threads and the event loop.  No bind(): a ring socket stays on its interface. */
static const struct rule for_daemon[] = {
	IF(clone, ARG_HAS(0, CLONE_THREAD)), IF(prctl, ARG_IS(0, PR_SET_NAME)),
	IF(prlimit64, ARG_IS(2, 0)), ALL(sendmmsg), ALL(set_robust_list), ALL(rseq),
	ALL(set_tid_address), ALL(sched_getaffinity), ALL(sched_setaffinity), ALL(epoll_create1),
	ALL(epoll_ctl), ALL(epoll_wait), ALL(epoll_pwait), ALL(epoll_pwait2), ALL(eventfd2),
	ALL(timerfd_create), ALL(timerfd_settime), ALL(signalfd4), ALL(sysinfo), END
};

/* Sockets, and the removal of the events socket at the end. */
static const struct rule for_opener[] = {
	IF(socket, ARG_IS(0, AF_PACKET)), IF(socket, ARG_IS(0, AF_NETLINK)), ALL(bind),
	IF(ioctl, ARG_IS(1, SIOCGIFNAME)), IF(ioctl, ARG_IS(1, SIOCGIFHWADDR)),
	SET(SOL_PACKET, PACKET_VERSION), SET(SOL_PACKET, PACKET_IGNORE_OUTGOING),
	SET(SOL_PACKET, PACKET_VNET_HDR), SET(SOL_PACKET, PACKET_RX_RING),
	SET(SOL_PACKET, PACKET_FANOUT), SET(SOL_PACKET, PACKET_FANOUT_DATA),
	SET(SOL_PACKET, PACKET_ADD_MEMBERSHIP), SET(SOL_SOCKET, SO_ATTACH_FILTER),
	SET(SOL_SOCKET, SO_ATTACH_BPF), SET(SOL_SOCKET, SO_LOCK_FILTER),
	ALL(unlink), ALL(unlinkat), ALL(rmdir), ALL(lstat), END
};

/* No BPF_PROG_LOAD, no BPF_MAP_CREATE.  No lookup either: the slots are mapped. */
static const struct rule for_maps[] = {
	IF(bpf, ARG_IS(0, BPF_MAP_UPDATE_ELEM)), IF(bpf, ARG_IS(0, BPF_MAP_DELETE_ELEM)), END
};

/* libbpf loads a program with these; it asks for the limit of locked memory. */
static const struct rule for_bpf[] = { ALL(bpf), ALL(dup3), IF(prlimit64, ARG_IS(2, 0)), END };

static const struct rule *const roles[][4] = {
	[SANDBOX_DAEMON]     = { for_all, for_daemon },
	[SANDBOX_DAEMON_BPF] = { for_all, for_daemon, for_maps },
	[SANDBOX_OPENER]     = { for_all, for_opener },
	[SANDBOX_OPENER_BPF] = { for_all, for_opener, for_bpf },
};
/* clang-format on */

int sandbox_system_calls(enum sandbox_role role)
{
	scmp_filter_ctx ctx;
	int r = 0;

	if (SANITIZED)
		return 0;
	ctx = seccomp_init(SCMP_ACT_ERRNO(EPERM));
	if (!ctx)
		return log_errno(ENOMEM, "Cannot make a system call filter");
	for (const struct rule *const *set = roles[role]; *set; set++)
		for (const struct rule *u = *set; r >= 0 && u->nr != __NR_SCMP_ERROR; u++) {
			r = seccomp_rule_add_array(ctx, SCMP_ACT_ALLOW, u->nr, u->n, u->arg);
			r = r == -EDOM ? 0 : r; /* this architecture has no such call */
		}
	if (r >= 0) /* abort() signals its own process */
		r = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(tgkill), 1,
				     SCMP_A0(SCMP_CMP_EQ, (scmp_datum_t)getpid()));
	if (r >= 0) /* a filter cannot see its flags; libc then uses clone() */
		r = seccomp_rule_add(ctx, SCMP_ACT_ERRNO(ENOSYS), SCMP_SYS(clone3), 0);
	if (r >= 0)
		r = seccomp_load(ctx);
	seccomp_release(ctx);
	return r < 0 ? log_errno(r, "Cannot load the system call filter") : 0;
}
