"""System calls made from inside of another process: what it may do, not what it means to do.

A thread of it is stopped, made to enter the kernel with other registers, and put back.  x86-64.
"""
import contextlib
import ctypes
import os
import platform

import live

SEIZE, INTERRUPT, GETREGS, SETREGS, STEP, DETACH = 0x4206, 0x4207, 12, 13, 9, 17
WALL = 0x40000000

AVAILABLE = platform.machine() == "x86_64"
NR = {"open": 2, "mmap": 9, "mprotect": 10, "getpid": 39, "socket": 41, "sendto": 44, "sendmsg": 46, "bind": 49, "setsockopt": 54, "fcntl": 72,
      "tgkill": 234, "clone": 56,
      "fork": 57, "execve": 59, "kill": 62, "rename": 82, "mkdir": 83, "unlink": 87, "chmod": 90,
      "chown": 92, "ptrace": 101, "setuid": 105, "mount": 165, "sethostname": 170,
      "init_module": 175, "openat": 257, "unshare": 272, "perf_event_open": 298, "setns": 308,
      "process_vm_readv": 310, "bpf": 321, "execveat": 322, "io_uring_setup": 425, "openat2": 437,
      "close": 3, "listen": 50}
_NAMES = ("r15 r14 r13 r12 rbp rbx r11 r10 r9 r8 rax rcx rdx rsi rdi orig_rax rip cs eflags rsp ss "
          "fs_base gs_base ds es fs gs").split()


class _Regs(ctypes.Structure):
    _fields_ = [(n, ctypes.c_ulonglong) for n in _NAMES]


_libc = ctypes.CDLL(None, use_errno=True)
_libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
_libc.ptrace.restype = ctypes.c_long


def _ptrace(request, tid, data=None):
    if _libc.ptrace(request, tid, None, data) < 0:
        e = ctypes.get_errno()
        raise OSError(e, f"ptrace {request:#x} of {tid}: {os.strerror(e)}")


@contextlib.contextmanager
def stopped(tid):
    """Within it the thread stands still; the rest of its process goes on."""
    _ptrace(SEIZE, tid)
    try:
        _ptrace(INTERRUPT, tid)
        os.waitpid(tid, WALL)
        yield
    finally:
        try:
            _ptrace(DETACH, tid)
        except OSError:  # it was killed, and its end waits for us
            with contextlib.suppress(ChildProcessError):
                os.waitpid(tid, WALL)


class Inside:
    """`with Inside(pid) as call: call("socket", AF_INET, ...)` returns what the kernel did: a
    number, or -errno.  Arguments: integers, or octets, which are put on the thread's stack."""

    def __init__(self, tid):
        self.tid = tid

    def __enter__(self):
        live.wait_until(self._stop_in_call, f"thread {self.tid} to be in a system call")
        return self.call

    def _stop_in_call(self):
        """Only there it can be lent; else it runs on."""
        self.stop = stopped(self.tid)
        self.stop.__enter__()
        self.saved = _Regs()
        _ptrace(GETREGS, self.tid, ctypes.addressof(self.saved))
        with open(f"/proc/{self.tid}/mem", "rb", buffering=0) as mem:
            mem.seek(self.saved.rip - 2)  # the instruction is right behind it
            if mem.read(2) == b"\x0f\x05":
                return True
        self.stop.__exit__(None, None, None)
        return False

    def __exit__(self, *exc):
        with contextlib.suppress(OSError):
            _ptrace(SETREGS, self.tid, ctypes.addressof(self.saved))
        return self.stop.__exit__(*exc)

    def call(self, name, *args):
        regs = _Regs.from_buffer_copy(self.saved)
        room = self.saved.rsp - 4096  # below the red zone
        with open(f"/proc/{self.tid}/mem", "r+b", buffering=0) as mem:
            for register, value in zip(("rdi", "rsi", "rdx", "r10", "r8", "r9"), args):
                if isinstance(value, bytes):
                    mem.seek(room)
                    mem.write(value)
                    value, room = room, room + (len(value) + 15 & ~15)
                setattr(regs, register, value & (1 << 64) - 1)
        regs.rax, regs.orig_rax, regs.rip = NR[name], (1 << 64) - 1, self.saved.rip - 2
        _ptrace(SETREGS, self.tid, ctypes.addressof(regs))
        _ptrace(STEP, self.tid)
        _, status = os.waitpid(self.tid, WALL)
        if not os.WIFSTOPPED(status):
            raise RuntimeError(f"{name} ended the process: {status:#x}")
        _ptrace(GETREGS, self.tid, ctypes.addressof(regs))
        return ctypes.c_long(regs.rax).value
