/* sandbox.h - what a process gives up before it reads hostile input.
 *
 * All of it is permanent, and holds for threads that are created later.  Call these functions while
 * there is one thread.  They log what fails, and return 0 or -errno. */
#pragma once
#include <stdbool.h>

/* Does this process have CAP_NET_RAW, which opens rings? */
bool sandbox_may_capture(void);

enum sandbox_role {
	/* parses and publishes: no capability, no socket but AF_UNIX, writes no file */
	SANDBOX_DAEMON,
	/* and bpf(2), to add and delete keys of a map that it received; still no capability */
	SANDBOX_DAEMON_BPF,
	/* CAP_NET_RAW; also AF_PACKET and AF_NETLINK */
	SANDBOX_OPENER,
	/* and CAP_BPF, for the programs of several decoders and of mode=auto; and CAP_PERFMON:
	 * without it the verifier follows speculative execution, and rejects the larger program */
	SANDBOX_OPENER_BPF,
};

/* Keeps those capabilities of the role that the process has, and no others; no_new_privs and the
 * bounding set prevent their return.  The daemon also enters an empty network namespace, if it may
 * create one (CAP_SYS_ADMIN).  If it is root, it becomes `synfind`, or else `nobody`. */
int sandbox_privileges(enum sandbox_role role);

/* Allows the system calls of the role; all others fail with EPERM.  (A build with a sanitizer
 * allows all, because sanitizers need more.) */
int sandbox_system_calls(enum sandbox_role role);
