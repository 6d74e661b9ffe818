"""What a confined daemon and its opener may not do, tried from inside of them."""
import errno
import os
import re
import socket
import struct
import subprocess

import inject
import live
import tap

CAP_NET_RAW = 1 << 13
AF = {n: getattr(socket, n) for n in ("AF_INET", "AF_INET6", "AF_PACKET", "AF_NETLINK")}
SOL_PACKET, PACKET_ADD_MEMBERSHIP, PACKET_RX_RING, PACKET_MR_PROMISC = 263, 1, 5, 1
F_SETOWN = 8
LO_ADDRESS = bytes([17, 0, 0x88, 0xb5, 1, 0, 0, 0]) + bytes(12)  # sockaddr_ll: interface 1
FRAME = bytes(12) + b"\x88\xb5" + bytes(46)  # an EtherType for experiments
AT_FDCWD = -100


def status(pid, tid=None):
    """Fields of /proc/PID/status."""
    with open(f"/proc/{pid}/task/{tid or pid}/status") as f:
        return dict(re.findall(r"^(\w+):\s*(.*)$", f.read(), re.M))


def threads(pid):
    return [int(t) for t in os.listdir(f"/proc/{pid}/task")]


def capabilities(fields):
    return {k: int(fields[k], 16) for k in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")}


def ring_fd(pid):
    """A descriptor of the process that is a packet socket, as its own network namespace cannot
    list it: by what else it is not."""
    for fd in os.listdir(f"/proc/{pid}/fd"):
        try:
            if not os.readlink(f"/proc/{pid}/fd/{fd}").startswith("socket:"):
                continue
            with open(f"/proc/{pid}/maps") as f:
                inode = os.readlink(f"/proc/{pid}/fd/{fd}")[8:-1]
                if re.search(rf"\s{inode}\s+socket:", f.read()):
                    return int(fd)
        except OSError:
            continue
    return None


def sanitizer(pid):
    """A build with one loads no filter: why not to look for it, or ""."""
    with open(f"/proc/{pid}/maps") as f:
        found = re.search(r"lib([at]san)\.so", f.read())
    return f"a build without {found.group(1)}" if found else ""


def check_daemon(what, pid):
    """It has nothing, in any thread, and its system calls say so."""
    held = {t: capabilities(status(pid, t)) for t in threads(pid)}
    tap.ok(len(held) > 1 and not any(any(c.values()) for c in held.values()),
           f"{what}: no thread has a capability, nor could it get one", held)
    s = status(pid)
    tap.ok("0" not in s["Uid"].split(), f"{what}: it is not root", s["Uid"])
    tap.equal(s["NoNewPrivs"], "1", f"{what}: no new privileges")
    net = os.readlink(f"/proc/{pid}/ns/net")
    tap.ok(net not in (os.readlink("/proc/self/ns/net"), os.readlink(f"/proc/{os.getppid()}/ns/net")),
           f"{what}: a network namespace of its own", net)
    with open(f"/proc/{pid}/net/dev") as f:
        names = [line.split(":")[0].strip() for line in f.readlines()[2:]]
    tap.equal(names, ["lo"], f"{what}: which is empty")
    with open(f"/proc/{pid}/net/route") as f:
        tap.equal(f.readlines()[1:], [], f"{what}: and without routes")
    why = "x86-64" if not inject.AVAILABLE else sanitizer(pid)
    if why:
        tap.skip(f"{what}: system calls from inside", why)
        return
    tap.equal(s["Seccomp"], "2", f"{what}: a system call filter")
    check_calls(what, pid)


def check_calls(what, pid):
    ring = ring_fd(pid)
    tap.ok(ring is not None, f"{what}: it reads a ring")
    with inject.Inside(pid) as call:
        inside = int(status(pid)["NSpid"].split()[-1])
        tap.equal(call("getpid"), inside, f"{what}: system calls can be tried from inside")
        fd = call("socket", socket.AF_UNIX, socket.SOCK_STREAM, 0)
        tap.ok(fd >= 0 and call("close", fd) == 0, f"{what}: a local socket can be made", fd)
        fd = call("openat", AT_FDCWD, b"/proc/self/stat\0", os.O_RDONLY, 0)
        tap.ok(fd >= 0 and call("close", fd) == 0, f"{what}: a file can be read", fd)
        for name, af in AF.items():
            kind = socket.SOCK_RAW if name in ("AF_PACKET", "AF_NETLINK") else socket.SOCK_STREAM
            tap.ok(call("socket", af, kind, 0) in (-errno.EPERM, -errno.EAFNOSUPPORT),
                   f"{what}: no {name} socket can be made")
        path = b"/var/tmp/synfind-was-here\0"
        tries = {
            "a file made": ("openat", AT_FDCWD, path, os.O_WRONLY | os.O_CREAT, 0o600),
            "a file made, the old way": ("open", path, os.O_WRONLY | os.O_CREAT, 0o600),
            "a file made, the new way": ("openat2", AT_FDCWD, path, bytes(24), 24),
            "a file opened for writing": ("openat", AT_FDCWD, b"/dev/null\0", os.O_RDWR, 0),
            "a file truncated": ("openat", AT_FDCWD, b"/dev/null\0", os.O_TRUNC, 0),
            "a directory made": ("mkdir", path, 0o700),
            "a file removed": ("unlink", path),
            "a file renamed": ("rename", b"/etc/passwd\0", path),
            "a mode changed": ("chmod", b"/proc/self\0", 0o777),
            "a program started": ("execve", b"/bin/true\0", bytes(8), bytes(8)),
            "a program started by descriptor": ("execveat", 0, b"\0", bytes(8), bytes(8), 0x1000),
            "a process forked": ("fork",),
            "a process cloned": ("clone", 17, 0, 0, 0, 0),
            "a process traced": ("ptrace", inject.SEIZE, os.getppid(), 0, 0),
            "a process killed": ("kill", 1, 0),
            "memory of a process read": ("process_vm_readv", 1, bytes(16), 1, bytes(16), 1, 0),
            "memory made for code": ("mmap", 0, 4096, 7, 0x22, -1, 0),
            "code written": ("mprotect", 0x400000, 4096, 7),
            "a namespace made": ("unshare", 0x10000000),
            "a namespace entered": ("setns", 0, 0),
            "its user changed": ("setuid", 0),
            "a file system mounted": ("mount", b"/\0", b"/mnt\0", b"none\0", 0x1000, 0),
            "a module loaded": ("init_module", bytes(8), 8, b"\0"),
            "a BPF program loaded": ("bpf", 5, bytes(128), 128),
            "an event counter opened": ("perf_event_open", bytes(128), 0, -1, -1, 0),
            "an io_uring made": ("io_uring_setup", 1, bytes(128)),
            "the ring moved to another interface": ("bind", ring, LO_ADDRESS, 20),
            "a frame sent to an address": ("sendto", ring, FRAME, len(FRAME), 0, LO_ADDRESS, 20),
            "the ring's interface made promiscuous":
                ("setsockopt", ring, SOL_PACKET, PACKET_ADD_MEMBERSHIP,
                 bytes([1, 0, 0, 0, PACKET_MR_PROMISC, 0, 0, 0]) + bytes(8), 16),
            "the ring made anew": ("setsockopt", ring, SOL_PACKET, PACKET_RX_RING, bytes(28), 28),
            # The kernel would say that there is no such process.
            "a process signalled by its thread": ("tgkill", 1 << 30, 1 << 30, 0),
            "a process signalled by a descriptor": ("fcntl", ring, F_SETOWN, 1),
        }
        for done, args in tries.items():
            r = call(*args)
            tap.equal(r, -errno.EPERM, f"{what}: not permitted: {done}")
        tap.equal(call("tgkill", inside, inside, 0), 0, f"{what}: it can abort()")
    tap.ok(not os.path.exists(path[:-1]), f"{what}: and nothing was")
    still_possible(what, pid, ring)


def still_possible(what, pid, ring):
    """docs/security.md says so: the address of sendmsg() is in memory, where no filter sees it."""
    inside = inject.Inside(pid)
    with inside as call:
        base = inside.saved.rsp - 4096  # where inject.py puts octets
        at = {"iov": base + 56, "address": base + 72, "frame": base + 96}
        message = struct.pack("<QIIQQQQQ", at["address"], 20, 0, at["iov"], 1, 0, 0, 0)
        message += struct.pack("<QQ", at["frame"], len(FRAME)) + LO_ADDRESS + bytes(4) + FRAME
        tap.equal(call("sendmsg", ring, message, 0), len(FRAME),
                  f"{what}: as documented, sendmsg() on a ring can send a frame")


def check_maps(what, pid):
    """Mode auto: it may put keys into the map that it has, and do nothing else with bpf(2)."""
    if not inject.AVAILABLE or sanitizer(pid):
        tap.skip(f"{what}: bpf(2) from inside", "x86-64, a build without sanitizer")
        return
    maps = [int(fd) for fd in os.listdir(f"/proc/{pid}/fd")
            if os.readlink(f"/proc/{pid}/fd/{fd}").endswith("bpf-map")]
    tap.equal(len(maps), 1, f"{what}: it has a map of its filter")
    kinds = {"MAP_CREATE": 0, "MAP_LOOKUP_ELEM": 1, "MAP_GET_NEXT_KEY": 4, "PROG_LOAD": 5,
             "OBJ_PIN": 6, "PROG_ATTACH": 8, "PROG_GET_FD_BY_ID": 13, "MAP_GET_FD_BY_ID": 14,
             "LINK_CREATE": 28}
    attr = maps[0].to_bytes(8, "little") + bytes(120)  # the key is at address 0
    with inject.Inside(pid) as call:
        for name, kind in {"MAP_UPDATE_ELEM": 2, "MAP_DELETE_ELEM": 3}.items():
            tap.equal(call("bpf", kind, attr, 32), -errno.EFAULT, f"{what}: permitted: {name}")
        for name, kind in kinds.items():
            tap.equal(call("bpf", kind, attr, 32), -errno.EPERM, f"{what}: not permitted: {name}")


def check_opener(what, pid):
    s = status(pid)
    caps = capabilities(s)
    tap.equal((caps["CapPrm"], caps["CapEff"]), (CAP_NET_RAW, CAP_NET_RAW),
              f"{what}: CAP_NET_RAW and no other capability")
    tap.equal(s["NoNewPrivs"], "1", f"{what}: no new privileges")
    why = "x86-64" if not inject.AVAILABLE else sanitizer(pid)
    if why:
        tap.skip(f"{what}: system calls from inside", why)
        return
    tap.equal(s["Seccomp"], "2", f"{what}: a system call filter")
    with inject.Inside(pid) as call:
        for done, args in {
            "a program started": ("execve", b"/bin/true\0", bytes(8), bytes(8)),
            "a file made": ("openat", AT_FDCWD, b"/var/tmp/x\0", os.O_WRONLY | os.O_CREAT, 0o600),
            "a process forked": ("fork",),
            "an internet socket made": ("socket", socket.AF_INET, socket.SOCK_STREAM, 0),
            "memory made for code": ("mmap", 0, 4096, 7, 0x22, -1, 0),
        }.items():
            r = call(*args)
            tap.equal(r, -errno.EPERM, f"{what}: not permitted: {done}")


def check_means():
    """What the others are refused, a process that is not confined can do by the same means."""
    if not inject.AVAILABLE:
        tap.skip("not confined: system calls from inside", "x86-64")
        return
    p = subprocess.Popen(["sleep", "600"], preexec_fn=live.die_with_parent)
    path = os.path.join(live.tmpdir(), "made").encode() + b"\0"
    try:
        live.wait_until(lambda: (lambda s: (s["Name"], s["State"][0]) == ("sleep", "S"))(
            status(p.pid)), "sleep to sleep")
        with inject.Inside(p.pid) as call:
            for name, af in AF.items():
                kind = socket.SOCK_RAW if name in ("AF_PACKET", "AF_NETLINK") else socket.SOCK_STREAM
                tap.ok(call("socket", af, kind, 0) >= 0, f"not confined: {name} socket")
            tap.ok(call("openat", AT_FDCWD, path, os.O_WRONLY | os.O_CREAT, 0o600) >= 0 and
                   os.path.exists(path[:-1]), "not confined: a file made")
            tap.ok(call("unlink", path) == 0 and not os.path.exists(path[:-1]),
                   "not confined: a file removed")
            tap.ok(not -4096 < call("mmap", 0, 4096, 7, 0x22, -1, 0) < 0,
                   "not confined: memory made for code")
            tap.ok(call("kill", os.getpid(), 0) == 0, "not confined: a process signalled")
            tap.ok(call("unshare", 0x10000000) == 0, "not confined: a namespace made")
    finally:
        p.kill()
        p.wait()


def is_watched(sub, ns, port=80):
    """A connection within the namespace is told.  If a restart has just changed the ring, it may have
    fallen between the old and the new one: that is told, and the next one is not."""
    told = live.exchange(ns, ns, "127.0.0.1", port)

    def came():
        return sub.read() and (live.find(sub.events, "tcp_close", **told) or
                               live.find(sub.events, "capture_loss", reason="ring_switch"))

    event = live.wait_until(came, "a connection to be told, or a loss")
    if event["event_type"] == "tcp_close":
        return event
    return sub.wait_for("tcp_close", **live.exchange(ns, ns, "127.0.0.1", port))
