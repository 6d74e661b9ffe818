"""A service manager in miniature: keeps the daemon's descriptors, ends it, starts it again.

It does what systemd does with FDSTORE=1, FDSTOREREMOVE=1 and FDNAME= (sd_pid_notify_with_fds(3)):
whatever the process sent before its end is taken in before the next one starts.  And it can end
the process at an instruction of one's choice, which systemd cannot.
"""
import array
import ctypes
import fcntl
import os
import platform
import signal
import socket
import subprocess
import time

import live

_libc = ctypes.CDLL(None, use_errno=True)
_libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
_libc.ptrace.restype = ctypes.c_long
SENDMMSG = {"x86_64": 307, "aarch64": 269}.get(platform.machine())
LISTEN = {"x86_64": 50, "aarch64": 201}.get(platform.machine())
PTRACE_CONT, PTRACE_SINGLESTEP, PTRACE_DETACH, PTRACE_SYSCALL = 7, 9, 17, 24
PTRACE_SEIZE, PTRACE_INTERRUPT, PTRACE_GET_SYSCALL_INFO = 0x4206, 0x4207, 0x420e
PTRACE_O_TRACESYSGOOD = 1
ENTRY, EXIT = 1, 2  # ptrace_syscall_info.op
WALL = 0x40000000  # waitpid(2): threads as well


class Manager:
    """The daemon under it.  Options as in live.Synfind."""

    def __init__(self, ns, interface, store=True, program=live.SYNFIND, **options):
        self.ns = ns
        self.tmp = live.tmpdir()
        self.path = os.path.join(self.tmp, "events.sock")
        self.log = os.path.join(self.tmp, "log")
        self.fds = []  # (name, fd)
        self.said = []  # what the present process told
        self.starts = 0
        self.p = None
        self.store = store
        options.setdefault("stats_interval", "0")
        self.argv = [program, f"--interface={interface}", f"--socket={self.path}"]
        self.argv += [f"--{k.replace('_', '-')}={v}" for k, v in options.items()]
        # systemd reads at once; we do so now and then, and what is not delivered is lost by SIGKILL.
        with ns():
            with open("/proc/sys/net/unix/max_dgram_qlen", "w") as f:
                f.write("4096")
            self.notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self.notify.bind(os.path.join(self.tmp, "notify"))
        self.notify.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 << 20)
        os.chmod(self.notify.getsockname(), 0o777)

    # ---- the store ----

    def take_in(self):
        """Reads what the process has said so far."""
        while True:
            try:
                data, fds, _, _ = socket.recv_fds(self.notify, 1 << 16, 16)
            except BlockingIOError:
                return
            lines = data.decode().split("\n")
            fields = dict(line.split("=", 1) for line in lines if "=" in line)
            self.said.append(fields)
            if "FDSTOREREMOVE" in fields:
                self.forget(fields["FDNAME"])
            for fd in fds:
                os.set_inheritable(fd, False)
                if "FDSTORE" in fields and self.store and not self.has(fd):
                    self.fds.append((fields.get("FDNAME", "stored"), fd))
                else:
                    os.close(fd)

    def has(self, fd):
        def which(f):
            st = os.fstat(f)
            return st.st_dev, st.st_ino

        return any(which(fd) == which(f) for _, f in self.fds)

    def forget(self, name):
        for n, fd in self.fds:
            if n == name:
                os.close(fd)
        self.fds = [(n, fd) for n, fd in self.fds if n != name]

    def names(self):
        self.take_in()
        return sorted(n for n, _ in self.fds)

    def readers(self):
        """The subscribers in the store."""
        return [n for n in self.names() if n.startswith("reader-")]

    def subscribe(self, user=None):
        """A subscriber that a restart does not disconnect: it is in the store."""
        before = set(self.readers())
        s = live.Subscriber(self.path, user=user)
        s.until(lambda e: e, "hello")
        live.wait_until(lambda: set(self.readers()) - before, "the subscriber to be stored")
        return s

    def empty(self):
        for _, fd in self.fds:
            os.close(fd)
        self.fds = []

    # ---- the process ----

    def start(self, ready=True):
        self.take_in()
        self.said.clear()
        given = list(self.fds)

        def enter():
            live._call("setns", self.ns.fd, live.CLONE_NEWNET)
            live.die_with_parent()
            beyond = 3 + len(given)  # so that none is overwritten below
            high = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, beyond) for _, fd in given]
            for i, fd in enumerate(high):
                os.dup2(fd, 3 + i)
            os.environ["NOTIFY_SOCKET"] = os.path.join(self.tmp, "notify")
            if self.store:
                os.environ["FDSTORE"] = "4096"
            if given:
                os.environ["LISTEN_PID"] = str(os.getpid())
                os.environ["LISTEN_FDS"] = str(len(given))
                os.environ["LISTEN_FDNAMES"] = ":".join(n for n, _ in given)

        with open(self.log, "ab") as log:
            self.p = subprocess.Popen(self.argv, preexec_fn=enter, stdin=subprocess.DEVNULL,
                                      stdout=subprocess.DEVNULL, stderr=log,
                                      close_fds=False)  # enter() decides what it gets
        self.starts += 1
        if ready:
            live.wait_until(self.is_ready, "the daemon to be ready")

    def is_ready(self):
        self.take_in()
        if self.p.poll() is not None:
            raise RuntimeError(f"status {self.p.returncode}: {self.stderr()}")
        return any("READY" in s for s in self.said)

    def stderr(self):
        with open(self.log, errors="replace") as f:
            return f.read()[-4000:]

    def end(self, sig=signal.SIGKILL):
        """Ends the process, and takes in its last words."""
        if self.p.poll() is None:
            self.p.send_signal(sig)
        live.wait_until(self.has_ended, "the daemon to end")
        self.take_in()
        return self.p.returncode

    def has_ended(self):
        self.take_in()  # it waits for us, if it has much to say
        return self.p.poll() is not None

    # ---- its end at an instruction ----

    def end_at_send(self, sends, steps, patience=5):
        """SIGKILL where its main thread comes back from the kernel after so many sendmmsg(2), and
        so many instructions.  False: it did not send that often."""
        return self._traced(lambda t: t.sends(sends, patience) and t.step(steps))

    def end_after(self, steps):
        """SIGKILL so many instructions after wherever its main thread is now."""
        return self._traced(lambda t: t.interrupt() and t.step(steps))

    def end_decoder_after(self, steps, number=0):
        """The same of a decoder's thread."""
        threads = sorted(int(t) for t in os.listdir(f"/proc/{self.p.pid}/task"))[1:]
        if not threads:
            return False
        return self._traced(lambda t: t.interrupt() and t.step(steps), threads[number % len(threads)])

    def _traced(self, run, thread=None):
        t = Tracer(thread or self.p.pid)
        done = run(t)
        os.kill(self.p.pid, signal.SIGKILL)
        if thread:
            t.reap()
        self.end()
        return done


class Tracer:
    """ptrace(2) of one thread, from its SIGSTOP-less seizure to its end."""

    def __init__(self, pid):
        self.pid = pid
        self.call(PTRACE_SEIZE, PTRACE_O_TRACESYSGOOD)

    def call(self, request, data=0, addr=0):
        r = _libc.ptrace(request, self.pid, addr, data)
        if r < 0:
            e = ctypes.get_errno()
            raise OSError(e, f"ptrace {request:#x}: {os.strerror(e)}")
        return r

    def wait(self, deadline=None):
        """The signal it stopped with; None: it ended, or it is too late."""
        while True:
            pid, status = os.waitpid(self.pid, WALL | (os.WNOHANG if deadline else 0))
            if pid:
                return os.WSTOPSIG(status) if os.WIFSTOPPED(status) else None
            if time.monotonic() > deadline:
                return None
            time.sleep(0)

    def reap(self):
        """A thread that is traced is not gone before its tracer has heard of it."""
        while self.wait() is not None:
            pass

    def interrupt(self):
        self.call(PTRACE_INTERRUPT)
        return self.wait() is not None

    def sends(self, n, patience):
        deadline = time.monotonic() + patience
        info = array.array("Q", [0] * 16)
        at = info.buffer_info()[0]
        seen = False
        self.interrupt()
        while n:
            self.call(PTRACE_SYSCALL)
            sig = self.wait(deadline)
            if sig is None:
                return False
            if sig != signal.SIGTRAP | 0x80:
                continue
            self.call(PTRACE_GET_SYSCALL_INFO, at, info.itemsize * len(info))
            op = info[0] & 0xff
            if op == ENTRY:
                seen = info[3] == SENDMMSG
            elif op == EXIT and seen:
                n -= 1
        return True

    def enters(self, number):
        """Runs it until it is about to make a system call."""
        deadline = time.monotonic() + live.DEADLINE
        info = array.array("Q", [0] * 16)
        at = info.buffer_info()[0]
        while True:
            self.call(PTRACE_SYSCALL)
            sig = self.wait(deadline)
            if sig is None:
                return False
            if sig == signal.SIGTRAP | 0x80:
                self.call(PTRACE_GET_SYSCALL_INFO, at, info.itemsize * len(info))
                if info[0] & 0xff == ENTRY and info[3] == number:
                    return True

    def step(self, n):
        for _ in range(n):
            self.call(PTRACE_SINGLESTEP)
            if self.wait() is None:
                return False
        return True
