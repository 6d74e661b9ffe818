/* uml_xstate.c - for LD_PRELOAD of user-mode Linux on a host with AMX.
 *
 * Its kernel writes the 2,696 octets of FPU state that there are without AMX.  The host wants the
 * whole state or nothing (EFAULT), and that kernel then dies with its first process.  The rest is
 * put there as the host has it. */
#include <elf.h>
#include <stdarg.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

static long set_xstate(long pid, const struct iovec *part)
{
	static char state[1 << 16];
	struct iovec whole = { state, sizeof state };

	if (syscall(SYS_ptrace, PTRACE_GETREGSET, pid, NT_X86_XSTATE, &whole) < 0)
		return -1;
	memcpy(state, part->iov_base,
	       part->iov_len < whole.iov_len ? part->iov_len : whole.iov_len);
	return syscall(SYS_ptrace, PTRACE_SETREGSET, pid, NT_X86_XSTATE, &whole);
}

/* As in ptrace(2). */
long ptrace(enum __ptrace_request request, ...)
{
	va_list args;

	va_start(args, request);
	long pid = va_arg(args, pid_t), address = va_arg(args, long);
	void *data = va_arg(args, void *);
	long word;

	va_end(args);
	if (request == PTRACE_SETREGSET && address == NT_X86_XSTATE)
		return set_xstate(pid, data);
	if (request != PTRACE_PEEKTEXT && request != PTRACE_PEEKDATA && request != PTRACE_PEEKUSER)
		return syscall(SYS_ptrace, request, pid, address, data);
	return syscall(SYS_ptrace, request, pid, address, &word) < 0 ? -1 : word;
}
