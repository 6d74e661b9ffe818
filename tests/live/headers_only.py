#!/usr/bin/python3
"""No octet of payload enters the memory that the daemon can read: the ring itself is searched.  A
ring that a build with another filter left is replaced at the start."""
import ctypes
import mmap
import os
import re
import signal
import socket
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../support"))
import confined
import fdstore
import live
import tap

MARK = b"SECRET"  # the payload begins with it
RING = 4 << 20
SYS_PIDFD_GETFD = 438
SO_COOKIE = 57

libc = ctypes.CDLL(None, use_errno=True)


def taken(pid, fd):
    """A copy of a descriptor of another process."""
    pidfd = os.pidfd_open(pid)
    try:
        return libc.syscall(SYS_PIDFD_GETFD, pidfd, fd, 0)
    finally:
        os.close(pidfd)


def ring_memory(pid):
    fd = taken(pid, confined.ring_fd(pid))
    try:
        with mmap.mmap(fd, RING, mmap.MAP_SHARED, mmap.PROT_READ) as ring:
            return ring[:]
    finally:
        os.close(fd)


def secrets_sent(ns, address):
    """A connection with payload in both directions, and in segments of one octet more each."""
    with ns.listen((address, 80)) as l:
        c = ns.connect((address, 80))
        s = l.accept()[0]
        flow = {"src_port": c.getsockname()[1], "dest_port": 80}
        for n in range(len(MARK), 80):
            for end, other in ((c, s), (s, c)):
                end.sendall(MARK + b"." * (n - len(MARK)))
                got = 0
                while got < n:
                    got += len(other.recv(n - got))
        c.close()
        s.recv(1)
        s.close()
    return flow


def no_payload(ns):
    for mode, *more in (("all", "--icmp"), ("control", "--icmp"), ("auto",)):
        d = live.Synfind(ns, "lo", f"--mode={mode}", *more, ring_size="4M",
                         timeout_time_wait="1s")  # when mode=control closes
        sub = d.subscribe()
        for family, address in (("IPv4", "127.0.0.1"), ("IPv6", "::1")):
            flow = secrets_sent(ns, address)
            sub.wait_for("tcp_close", **flow)
            ring = ring_memory(d.p.pid)
            ports = flow["src_port"].to_bytes(2, "big") + (80).to_bytes(2, "big")
            tap.ok(ports in ring, f"mode={mode}, {family}: the headers are in the ring")
            at = ring.find(MARK)
            tap.ok(at < 0, f"mode={mode}, {family}: no payload is in the ring",
                   ring[max(at - 80, 0):at + 50])
        d.ends_well(sub, f"mode={mode}")


def older_filter(ns):
    """What a decoder keeps says what its ring was made for, right after the ring's cookie."""
    m = fdstore.Manager(ns, "lo", ring_size="4M")
    m.start()
    sub = m.subscribe()
    m.end(signal.SIGTERM)
    fd = dict(m.fds)
    cookie = socket.socket(fileno=os.dup(fd["ring-0-0"])).getsockopt(
        socket.SOL_SOCKET, SO_COOKIE, 8)
    head = os.pread(fd["tables-0-0"], 4096, 0)
    at = head.index(cookie) + 8
    os.pwrite(fd["tables-0-0"], bytes(b ^ 255 for b in head[at:at + 8]), at)
    m.start()
    live.wait_until(lambda: "lo has its new ring" in m.stderr(), "the ring to be replaced")
    tap.ok(True, "the ring of a build with another filter is replaced at the start")
    close = sub.wait_for("tcp_close", **live.exchange(ns, ns, "127.0.0.1"))
    tap.ok(close, "and capture continues")
    m.end(signal.SIGTERM)
    m.start()
    sub.wait_for("tcp_close", **live.exchange(ns, ns, "127.0.0.1", 81))
    tap.equal(len(re.findall("has its new ring", m.stderr())), 1,
              "a ring with the filter of this build stays")
    m.end(signal.SIGINT)
    tap.ok(not sub.to_end(), "every line is right", sub.checker.errors)


live.need("ip")
ns = live.Netns()
for step in (no_payload, older_filter):
    with live.guarded(step.__name__):
        step(ns)
tap.done()
