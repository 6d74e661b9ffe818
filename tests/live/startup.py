#!/usr/bin/python3
"""How the daemon starts, refuses to start, and ends."""
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../support"))
import confined
import fdstore
import live
import tap

OPEN_AT_END = 400


def refuses(what, daemon, *words):
    """It ends by itself, with a status that is not 0 and a message with these words."""
    status = daemon.wait()
    text = daemon.stderr()
    tap.ok(status not in (0, None) and status > 0, f"{what}: it does not start", status, text)
    for w in words:
        tap.ok(w in text, f"{what}: the message names {w}", text)
    tap.ok(not daemon.stdout(), f"{what}: nothing on standard output")


def no_interface(ns):
    refuses("no such interface", live.Synfind(ns, "nosuch0", wait=False), "nosuch0")


def no_permission(ns):
    tmp = live.tmpdir()
    binary = os.path.join(tmp, "synfind")  # the checkout may not be readable for others
    shutil.copy(live.SYNFIND, binary)
    os.chmod(binary, 0o755)
    os.chmod(tmp, 0o777)
    keep, live.SYNFIND = live.SYNFIND, binary
    try:
        d = live.Synfind(ns, "lo", wait=False, tmp=tmp, argv0=(
            "setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--bounding-set=-all",
            "--inh-caps=-all", "--"))
        refuses("no permission", d, "CAP_NET_RAW", "root")
        p = ns.popen("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", binary,
                     stdout=-1, stderr=-1)
        text = p.communicate(timeout=live.DEADLINE)[1].decode()
        tap.ok(p.returncode == 1 and text.count("error") == 1 and "as root" in text,
               "no permission, no options: one message, which names root", p.returncode, text)
    finally:
        live.SYNFIND = keep


def closed_descriptors(ns):
    """Started with closed descriptors 0 to 2, no socket takes their place."""
    for closed in ((0,), (2,), (0, 1, 2)):
        d = live.Synfind(ns, "lo", wait=False, argv0=(
            "sh", "-c", "exec " + " ".join(f"{fd}{'<' if fd == 0 else '>'}&-" for fd in closed) +
            '; exec "$@"', "sh"))
        live.wait_until(d.ready, "the daemon to be ready")
        sub = d.subscribe()
        watch = live.wait_until(lambda: live.children(d.p.pid), "the opener's parent")[0]
        opener = live.wait_until(lambda: live.children(watch), "the opener")[0]
        for who, pid in (("daemon", d.p.pid), ("opener", opener)):
            got = [os.readlink(f"/proc/{pid}/fd/{fd}") for fd in closed]
            tap.equal(got, ["/dev/null"] * len(closed), f"{closed} closed: the {who} has /dev/null")
        sub.wait_for("tcp_close", **live.exchange(ns, ns, "127.0.0.1"))
        d.ends_well(sub, f"{closed} closed")


def closed_opener(_):
    """The opener of the service would write its messages into its own listening socket."""
    program = os.path.join(os.path.dirname(live.SYNFIND), "synfind-opener")
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as s:
        s.bind(os.path.join(live.tmpdir(), "opener.sock"))
        s.listen()

        def enter():
            os.dup2(s.fileno(), 3)
            os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="1")
            os.closerange(0, 3)

        p = subprocess.Popen([program], preexec_fn=enter, pass_fds=[3])
        c = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        c.settimeout(live.DEADLINE)
        c.connect(s.getsockname())
        tap.ok(c.recv(4096), "0 to 2 closed: the service's opener serves")
        got = [os.readlink(f"/proc/{p.pid}/fd/{fd}") for fd in range(3)]
        tap.equal(got, ["/dev/null"] * 3, "and has /dev/null as 0 to 2")
        c.close()
        p.wait(timeout=live.DEADLINE)


def socket_in_use(ns):
    first = live.Synfind(ns, "lo")
    second = live.Synfind(ns, "lo", socket_path=first.path, wait=False)
    refuses("a socket that a living daemon serves", second, f"process {first.p.pid}",
            f"synfinctl watch --socket={first.path}")
    first.subscribe()
    tap.ok(first.p.poll() is None, "the living daemon goes on")

    first.p.kill()
    first.p.wait()
    tap.ok(stat.S_ISSOCK(os.stat(first.path).st_mode), "kill -9 leaves a socket behind")
    third = live.Synfind(ns, "lo", socket_path=first.path)
    third.subscribe()
    tap.ok(True, "a socket that a dead daemon left is replaced")
    tap.equal(third.stop(), 0, "which ends with status 0")
    tap.equal([f for f in os.listdir(first.tmp) if f.startswith("events")], [],
              "the socket is gone at the end, and its lock")


def about_to_listen(ns):
    """A second daemon comes between bind() and listen() of the first one."""
    first = live.Synfind(ns, "lo", wait=False, argv0=("sh", "-c", 'kill -STOP $$; exec "$@"', "sh"))
    live.wait_until(lambda: "T" in confined.status(first.p.pid)["State"], "the shell to stop")
    t = fdstore.Tracer(first.p.pid)
    os.kill(first.p.pid, signal.SIGCONT)
    if not tap.ok(t.enters(fdstore.LISTEN), "the first daemon is about to listen"):
        return
    refuses("a socket that is about to listen",
            live.Synfind(ns, "lo", socket_path=first.path, wait=False), first.path, "about to")
    t.call(fdstore.PTRACE_DETACH)
    live.wait_until(first.ready, "the first daemon to be ready")
    first.ends_well(first.subscribe(), "the first daemon")
    first = live.Synfind(ns, "lo", socket_path=first.path)
    first.stop(signal.SIGKILL)
    tap.ok(os.path.exists(first.path + ".lock"), "SIGKILL leaves the lock's file")
    first = live.Synfind(ns, "lo", socket_path=first.path)
    tap.equal(first.stop(), 0, "which stops no other daemon")


def not_a_socket(ns):
    tmp = live.tmpdir()
    path = os.path.join(tmp, "events.sock")
    with open(path, "w") as f:
        f.write("precious\n")
    refuses("a file that is not a socket", live.Synfind(ns, "lo", tmp=tmp, wait=False), path)
    with open(path) as f:
        tap.equal(f.read(), "precious\n", "a file that is not a socket is left alone")


def no_socket(ns):
    tmp = live.tmpdir()
    refuses("a group that is not there",
            live.Synfind(ns, "lo", "--socket-group=nosuch", tmp=tmp, wait=False), "nosuch")
    tap.ok(not os.path.lexists(f"{tmp}/events.sock"), "and no socket is left behind")
    refuses("a directory that is not there",
            live.Synfind(ns, "lo", socket_path=f"{tmp}/no/where/events.sock", wait=False),
            f"{tmp}/no")


def full_output(ns):
    """Standard output cannot be written, at the start or later."""
    with open("/dev/full", "wb") as full:
        p = ns.popen(live.SYNFIND, "-ilo", "--stdout", "--socket=", stdin=-3, stdout=full,
                     stderr=-1)
        text = p.communicate(timeout=live.DEADLINE)[1].decode()
    tap.ok(p.returncode == 1 and "standard output: No space left on device" in text,
           "--stdout to a full device: status 1 and a message", p.returncode, text)
    disk = live.tmpdir()
    ns.run("mount", "-t", "tmpfs", "-o", "size=16k", "none", disk)
    try:
        with open(os.path.join(disk, "lines"), "wb") as out:
            p = ns.popen(live.SYNFIND, "-ilo", "--stdout", "--socket=", stdin=-3, stdout=out,
                         stderr=-1)
        live.wait_until(lambda: os.path.getsize(f"{disk}/lines"), "the first line")
        while p.poll() is None:
            live.exchange(ns, ns, "127.0.0.1")
        text = p.communicate(timeout=live.DEADLINE)[1].decode()
    finally:
        ns.run("umount", disk)
    tap.ok(p.returncode == 1 and "standard output: No space left on device" in text,
           "a disk that fills: the same", p.returncode, text)
    p = ns.popen(live.SYNFIND, "-ilo", "--stdout", "--socket=", stdin=-3, stdout=-1, stderr=-1)
    p.stdout.readline()
    p.stdout.close()
    live.exchange(ns, ns, "127.0.0.1")
    text = p.communicate(timeout=live.DEADLINE)[1].decode()
    tap.ok(p.returncode == 0 and "error" not in text, "a reader that has enough: status 0",
           p.returncode, text)


def small_stack(ns):
    """So small that the opener dies at once, and nothing else: how small depends on the C library."""
    for kib in range(64, 100, 4):
        d = live.Synfind(ns, "lo", wait=False,
                         argv0=("sh", "-c", f'ulimit -s {kib}; exec "$@"', "sh"))
        d.wait()
        if "giving up" in d.stderr():
            break
    refuses("a small stack", d, "giving up", "ulimit -s")
    tap.equal(d.stderr().count("starting another"), 4, "the opener is started a few times only")


def config(ns):
    tmp = live.tmpdir()
    path = os.path.join(tmp, "synfind.conf")
    with open(path, "w") as f:
        f.write("[capture]\ninterface = lo\n\n[tracking]\ntimout-established = 5s\n")
    refuses("a typo in the configuration", live.Synfind(ns, "lo", f"--config={path}", wait=False),
            f"{path}:5", "timout-established", "timeout-established")
    refuses("a flag with a typo", live.Synfind(ns, "lo", "--ring-sise=4M", wait=False), "ring-sise",
            "ring-size")
    refuses("a value out of range", live.Synfind(ns, "lo", ring_size="1", wait=False), "ring-size")
    gone = "/nonexistent/x.conf"
    d = live.Synfind(ns, "lo", f"--config={gone}", wait=False)
    refuses("a file that is not there", d, gone)
    good = os.path.join(tmp, "good.conf")
    with open(good, "w") as f:
        f.write(f"[events]\nsocket = {tmp}/other.sock\n")
    d = live.Synfind(ns, "lo", f"--config={good}", f"--socket={tmp}/events.sock", tmp=tmp)
    tap.ok(not os.path.exists(f"{tmp}/other.sock"), "a flag outweighs the configuration file")
    d.stop()


def ends(ns, sig):
    """With more connections open than their last lines fit into a socket's buffer."""
    name = signal.Signals(sig).name
    d = live.Synfind(ns, "lo")
    sub = d.subscribe()
    with ns.listen(("127.0.0.1", 80)) as l:
        clients = [ns.connect(("127.0.0.1", 80)) for _ in range(OPEN_AT_END)]
        served = [l.accept()[0] for _ in clients]
        sub.until(lambda e: sum(x["event_type"] == "tcp_established" for x in e) == OPEN_AT_END,
                  "all to be established")
        ready = d.stderr()
        d.p.send_signal(sig)
        tap.ok(not sub.to_end(), f"{name}: the stream ends whole", sub.checker.errors)
        tap.equal(d.wait(), 0, f"{name}: status 0")
        for s in clients + served:
            s.close()
    reasons = [e["tcp"]["reason"] for e in sub.events if e["event_type"] == "tcp_close"]
    tap.ok(reasons == ["shutdown"] * OPEN_AT_END,
           f"{name}: open connections are closed by shutdown", len(reasons))
    tap.ok(not os.path.lexists(d.path), f"{name}: the socket is gone")
    tap.ok("lo" in ready and d.path in ready,
           f"{name}: the start said what is watched and where", ready)
    summary = d.stderr()[len(ready):]
    tap.ok(any(ch.isdigit() for ch in summary), f"{name}: a summary comes at the end", d.stderr())
    tap.ok(not d.stdout(), f"{name}: without --stdout there is nothing on standard output")


def modes(ns):
    d = live.Synfind(ns, "lo", socket_mode="0600")
    mode = stat.S_IMODE(os.stat(d.path).st_mode)
    tap.equal(oct(mode), "0o600", "the socket has the mode asked for")
    d.stop()


def too_many(ns):
    d = live.Synfind(ns, "lo", max_subscribers=2)

    def admitted():
        s = d.subscribe(hello=False)
        return s if s.read(timeout=1) and s.events else None

    subs = [live.wait_until(admitted, "the first two to be admitted") for _ in range(2)]
    third = d.subscribe(hello=False)
    live.wait_until(lambda: not third.read() or third.events, "the end of a third one's stream")
    tap.ok(third.ended and not live.find(third.events, "hello"),
           "one subscriber too many is turned away")
    subs[0].close()
    live.wait_until(admitted, "the next one to be admitted")
    tap.ok(True, "another one is admitted once there is room")
    d.stop()


def stats(ns):
    d = live.Synfind(ns, "lo", stats_interval="1s")
    sub = d.subscribe()
    got = sub.until(lambda e: [x for x in e if x["event_type"] == "stats"][1:2], "two stats")[0]
    tap.equal([x["in_iface"] for x in got["decoders"]], ["lo"],
              "stats name each decoder's interface")
    tap.equal(got["decoders"][0]["drops"], 0, "nothing was dropped")
    d.stop()
    tap.ok(not sub.to_end(), "a stream with stats is right", sub.checker.errors)


def read_errors(ns):
    tmp = live.tmpdir()
    junk = os.path.join(tmp, "junk.pcap")
    with open(junk, "wb") as f:
        f.write(b"this is no capture" * 10)
    for what, path in (("no such file", "/nonexistent.pcap"), ("a file that is no capture", junk)):
        p = ns.popen(live.SYNFIND, "--read", path, stdout=-1, stderr=-1)
        out, err = p.communicate(timeout=live.DEADLINE)
        tap.ok(p.returncode > 0 and path in err.decode(), f"--read, {what}: status and message",
               err, p.returncode)
    for flag, word in (("--version", b"synfind"), ("--help", b"--interface")):
        p = ns.popen(live.SYNFIND, flag, stdout=-1, stderr=-1)
        out, err = p.communicate(timeout=live.DEADLINE)
        tap.ok(p.returncode == 0 and word in out and not err, f"{flag} answers and ends", out, err)


live.need("ip", "setpriv")
ns = live.Netns()
for step in (no_interface, no_permission, closed_descriptors, closed_opener, socket_in_use,
             about_to_listen, not_a_socket, no_socket, full_output, small_stack, config, modes, too_many,
             stats, read_errors):
    with live.guarded(step.__name__):
        step(ns)
for sig in (signal.SIGINT, signal.SIGTERM):
    with live.guarded(str(sig)):
        ends(ns, sig)
tap.done()
