"""Network namespaces, the daemon in them, and its subscribers, for tests against a real kernel.

A namespace has no name: it lives as long as this process holds its descriptor, and its devices
go with it, so nothing is left behind however a test ends.  Children get SIGKILL when it ends.
"""
import contextlib
import ctypes
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

import events
import tap

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
SYNFIND = os.environ.get("SYNFIND", os.path.join(ROOT, "build/synfind"))
DEADLINE = float(os.environ.get("TEST_DEADLINE", "30"))  # s; a condition later than that fails

_libc = ctypes.CDLL(None, use_errno=True)
CLONE_NEWNET = 0x40000000
PR_SET_PDEATHSIG = 1


def _call(name, *args):
    if getattr(_libc, name)(*args) < 0:
        e = ctypes.get_errno()
        raise OSError(e, f"{name}: {os.strerror(e)}")


def die_with_parent():
    """For preexec_fn: SIGKILL when the test ends, whatever ends it.  SIGINT works, though a shell makes its
    background jobs ignore it."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    _call("prctl", PR_SET_PDEATHSIG, signal.SIGKILL)


def need(*programs):
    """Ends the test, as skipped, where it cannot run."""
    missing = [p for p in programs if not shutil.which(p)]
    if not missing:
        try:
            Netns().close()
        except OSError as e:
            missing = [f"CAP_SYS_ADMIN for a network namespace ({e})"]
    if missing:
        tap.skip(os.path.basename(sys.argv[0]), "missing: " + ", ".join(missing))
        tap.done()


def tmpdir():
    """A directory for this test, readable by all; removed at its end."""
    import atexit

    d = tempfile.mkdtemp(prefix="synfind-test-")
    os.chmod(d, 0o755)
    atexit.register(shutil.rmtree, d, ignore_errors=True)
    return d


class Timeout(Exception):
    pass


def wait_until(condition, what, deadline=None):
    """Polls `condition` until it is true; returns its value."""
    end = time.monotonic() + (deadline or DEADLINE)
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise Timeout(f"waited {deadline or DEADLINE:.0f} s for {what}")
        time.sleep(0.01)


def replace(path, text):
    """Writes a file anew, at once: a reload may still be reading the old one."""
    mode = os.stat(path).st_mode if os.path.exists(path) else 0o644
    with open(f"{path}.new", "w") as f:
        f.write(text)
    os.chmod(f"{path}.new", mode & 0o7777)
    os.rename(f"{path}.new", path)


def children(pid):
    with open(f"/proc/{pid}/task/{pid}/children") as f:
        return [int(p) for p in f.read().split()]


class Netns:
    """A network namespace with lo up."""

    def __init__(self):
        home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        try:
            _call("unshare", CLONE_NEWNET)
            self.fd = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        finally:
            _call("setns", home, CLONE_NEWNET)
            os.close(home)
        self.path = f"/proc/{os.getpid()}/fd/{self.fd}"
        self.run("ip", "link", "set", "lo", "up")

    @contextlib.contextmanager
    def __call__(self):
        """Within `with ns():` this thread's new sockets are in the namespace, and stay there."""
        home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        _call("setns", self.fd, CLONE_NEWNET)
        try:
            yield
        finally:
            _call("setns", home, CLONE_NEWNET)
            os.close(home)

    def popen(self, *argv, **kw):
        def enter():
            _call("setns", self.fd, CLONE_NEWNET)
            die_with_parent()

        return subprocess.Popen(argv, preexec_fn=enter, **kw)

    def run(self, *argv, check=True, **kw):
        """Runs a program to its end in the namespace; returns its output."""
        p = self.popen(*argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **kw)
        out = p.communicate(timeout=DEADLINE)[0].decode(errors="replace")
        if check and p.returncode:
            raise RuntimeError(f"{' '.join(argv)}: {out}")
        return out

    def ip(self, command):
        return self.run("ip", *command.split())

    def close(self):
        os.close(self.fd)

    def listen(self, address, backlog=4096, **options):
        """A listening socket; address as for socket.bind()."""
        with self():
            s = socket.socket(_family(address))
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        for name, value in options.items():
            s.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
        s.bind(address)
        s.listen(backlog)
        s.settimeout(DEADLINE)
        return s

    def connect(self, address, source=None):
        with self():
            s = socket.socket(_family(address))
        s.settimeout(DEADLINE)
        if source:
            s.bind(source)
        s.connect(address)
        return s


    def send(self, interface, frames):
        """Sends frames as they are."""
        with self():
            s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
        with s:
            s.bind((interface, 0))
            for frame in frames:
                s.send(frame)


def _family(address):
    return socket.AF_INET6 if ":" in address[0] else socket.AF_INET


def veth_pair(a="veth-a", b="veth-b", net=1):
    """Two namespaces joined by a cable: 10.0.net.1 on `a`, 10.0.net.2 on `b`, and IPv6 likewise."""
    left, right = Netns(), Netns()
    join(left, right, a, b, net)
    return left, right


def join(left, right, a, b, net):
    left.ip(f"link add {a} type veth peer name {b} netns {right.path}")
    for ns, name, host in ((left, a, 1), (right, b, 2)):
        ns.ip(f"addr add 10.0.{net}.{host}/24 dev {name}")
        ns.ip(f"-6 addr add fd00:{net}::{host}/64 dev {name} nodad")
        ns.ip(f"link set {name} up")
    wait_up(left, a)


def wait_up(ns, interface):
    wait_until(lambda: "state UP" in ns.ip(f"link show {interface}"), f"{interface} to be up")


def traffic(ns, n, port=80):
    """Connections over loopback, each closed by both sides."""
    with ns.listen(("127.0.0.1", port)) as l:
        for _ in range(n):
            c = ns.connect(("127.0.0.1", port))
            s = l.accept()[0]
            c.close()
            s.close()


def exchange(client, server, address, port=80):
    """One connection between two namespaces, closed by the client; returns how to find it."""
    with server.listen((address, port)) as l:
        c = client.connect((address, port))
        s = l.accept()[0]
        flow = {"src_port": c.getsockname()[1], "dest_port": port, "dest_ip": address}
        c.close()
        s.recv(1)
        s.close()
    return flow


class Talk:
    """An open connection of two namespaces, to 10.0.NET.2."""

    def __init__(self, near, far, net=1, port=80):
        with far.listen((f"10.0.{net}.2", port)) as l:
            self.client = near.connect((f"10.0.{net}.2", port))
            self.server = l.accept()[0]
        self.port = self.client.getsockname()[1]
        self.client.settimeout(DEADLINE)
        self.server.settimeout(DEADLINE)

    def say(self):
        self.client.sendall(b"x" * 100)
        n = 0
        while n < 100:
            n += len(self.server.recv(100))

    def close(self, wait=True):
        """The client is first; with @wait its FIN has come when the server closes."""
        self.client.close()
        if wait:
            self.server.recv(1)
        self.server.close()


class Synfind:
    """The daemon in a namespace.  Options as on the command line, '_' for '-'."""

    def __init__(self, ns, interface, *args, socket_path=None, tmp=None, wait=True, argv0=(),
                 **options):
        self.ns = ns
        self.tmp = tmp or tmpdir()
        self.path = socket_path or os.path.join(self.tmp, "events.sock")
        self.log = os.path.join(self.tmp, f"log.{id(self)}")
        self.out = os.path.join(self.tmp, f"out.{id(self)}")
        options.setdefault("stats_interval", "0")
        self.argv = [*argv0, SYNFIND, f"--interface={interface}", f"--socket={self.path}", *args]
        self.argv += [f"--{k.replace('_', '-')}={v}" for k, v in options.items()]
        with open(self.log, "wb") as log, open(self.out, "wb") as out:
            self.p = ns.popen(*self.argv, stdin=subprocess.DEVNULL, stdout=out, stderr=log)
        if wait:
            wait_until(self.ready, "the daemon to be ready")

    def ready(self):
        if self.p.poll() is not None:
            raise RuntimeError(f"{self.argv}: status {self.p.returncode}: {self.stderr()}")
        s = socket.socket(socket.AF_UNIX)
        s.settimeout(DEADLINE)
        try:
            s.connect(self.path)
            return s.recv(1)
        except OSError:
            return False
        finally:
            s.close()

    def stderr(self):
        with open(self.log, errors="replace") as f:
            return f.read()

    def stdout(self):
        with open(self.out, "rb") as f:
            return f.read()

    def subscribe(self, hello=True, user=None):
        """A new subscriber; from its hello on it gets everything, not from connect() on."""
        s = Subscriber(self.path, user=user)
        if hello:
            s.until(lambda e: e, "hello")
        return s

    def wait(self):
        """Its exit status, once it has ended by itself."""
        return self.p.wait(timeout=DEADLINE)

    def stop(self, sig=signal.SIGTERM):
        if self.p.poll() is None:
            self.p.send_signal(sig)
        return self.wait()

    def ends_well(self, sub, what=""):
        """How most tests end: stops it, and checks its status and all that a subscriber got."""
        what = what and f"{what}: "
        tap.equal(self.stop(), 0, f"{what}status 0")
        tap.ok(not sub.to_end(), f"{what}every line is right", sub.checker.errors, self.stderr())


def connect_as(s, path, uid, gid, groups=()):
    """Connects a socket as another user: the kernel notes who calls connect(2), not who reads."""
    pid = os.fork()
    if pid == 0:
        try:
            os.setgroups(groups)
            os.setresgid(gid, gid, gid)
            os.setresuid(uid, uid, uid)
            s.connect(path)
        except OSError as e:
            os._exit(e.errno)
        os._exit(0)
    error = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if error:
        raise OSError(error, os.strerror(error), path)


class Subscriber:
    """Reads the stream when asked to, checks every line, and keeps the events."""

    def __init__(self, path, whole=True, user=None):
        self.s = socket.socket(socket.AF_UNIX)
        self.s.settimeout(DEADLINE)
        if user:
            connect_as(self.s, path, *user)
        else:
            self.s.connect(path)
        self.checker = events.Checker(whole)
        self.events = []
        self.lines = []
        self.ended = False
        self._rest = b""

    def read(self, timeout=0.05):
        """Takes what is there now; False at the end of the stream."""
        self.s.settimeout(timeout)
        try:
            data = self.s.recv(1 << 20)
        except (TimeoutError, BlockingIOError):
            return True
        except ConnectionResetError:
            data = b""
        if not data:
            self.ended = True
            if self._rest:
                self.checker.fail(f"the stream ends within a line: {self._rest[:100]!r}")
            return False
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            event = self.checker.feed(line)
            if event:
                self.lines.append(line)
                self.events.append(event)
        return True

    def until(self, condition, what):
        """Reads on until condition(events) is true; returns its value."""
        end = time.monotonic() + DEADLINE
        while True:
            value = condition(self.events)
            if value:
                return value
            if time.monotonic() > end:
                raise Timeout(f"waited {DEADLINE:.0f} s for {what}")
            if not self.read():
                raise Timeout(f"the stream ended before {what}")

    def wait_for(self, kind, **fields):
        """Reads on until there is such an event, as find() has it; returns it."""
        return self.until(lambda e: find(e, kind, **fields), f"{kind} with {fields}")

    def stats_after(self, event):
        """The first stats that were taken later than an event."""
        return self.until(lambda e: [x for x in e if x["event_type"] == "stats" and
                                     x["timestamp"] > event["timestamp"]][:1], "stats")[0]

    def to_end(self):
        """Reads to the end of the stream; returns the faults of the whole."""
        end = time.monotonic() + DEADLINE
        while self.read():
            if time.monotonic() > end:
                self.checker.fail("the stream does not end")
                break
        self.checker.end()
        return self.checker.errors

    def close(self):
        self.s.close()


def of_flow(stream, event):
    """The events of one connection."""
    return [e for e in stream if e.get("flow_id") == event["flow_id"]]


def find(stream, kind, **fields):
    """The first event of a kind whose members (top, tcp or flow) are as given, or None."""
    for e in stream:
        if e["event_type"] == kind and all(
                v == e.get(k, e.get("tcp", {}).get(k, e.get("flow", {}).get(k)))
                for k, v in fields.items()):
            return e
    return None


def closes(stream, port):
    """How many connections to a port the stream has closed."""
    return sum(e["event_type"] == "tcp_close" and e.get("dest_port") == port for e in stream)


def path_of(stream, who):
    """The states that one end of a connection is told to be in, in order, each once."""
    states = []
    for e in stream:
        state = e["tcp"][f"{who}_state"]
        if e["event_type"] != "tcp_anomaly" and (not states or states[-1] != state):
            states.append(state)
    return states


@contextlib.contextmanager
def guarded(what):
    """A part of a test: an exception in it is one failed check, and the next part goes on."""
    try:
        yield
    except (Exception, subprocess.TimeoutExpired) as e:  # noqa: BLE001
        import traceback

        tap.ok(False, f"{what}: runs to its end", traceback.format_exc(limit=-4), str(e))


signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))


def octets_resent(sock):
    """tcpi_bytes_retrans: what the kernel sent again (linux/tcp.h)."""
    info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 256)
    return int.from_bytes(info[208:216], sys.byteorder) if len(info) >= 216 else 0
