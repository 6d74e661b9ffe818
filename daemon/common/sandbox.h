/* sandbox.h - what a process gives up before it meets anything hostile.
 *
 * All of it is for good, and for threads that are made later.  Call it while there is one thread.
 * Logs what fails.  0 or -errno. */
#pragma once

enum sandbox_role {
	/* parses, publishes: no capability, no socket but AF_UNIX, no file written */
	SANDBOX_DAEMON,
	/* and bpf(2), to put keys into a map that it was given and to take them out; still no
	 * capability */
	SANDBOX_DAEMON_BPF,
	SANDBOX_OPENER, /* CAP_NET_RAW; AF_PACKET and AF_NETLINK too */
	/* and CAP_BPF, to deal frames out to several rings or to count them, and CAP_PERFMON,
	 * without which the verifier has to follow what a processor might guess, and gives the
	 * larger one up */
	SANDBOX_OPENER_BPF,
};

/* Keeps the capabilities of the role, of those that are there, and no other; none can come back
 * (no_new_privs, bounding set).  The daemon's role also goes into an empty network namespace, as
 * far as it may make one (CAP_SYS_ADMIN), and if it is root becomes `synfind`, or else `nobody`. */
int sandbox_privileges(enum sandbox_role role);

/* Allows the system calls of the role; any other fails with EPERM.  (A build with a sanitizer keeps
 * all, since those have calls of their own.) */
int sandbox_system_calls(enum sandbox_role role);
