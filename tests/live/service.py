#!/usr/bin/python3
"""The package and the service under a real systemd: install, confinement, journal, socket
activation, watchdog, reload, an opener that dies, several decoders, upgrade, purge; then
`make install`."""
import errno
import json
import os
import re
import signal
import socket
import struct
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../support"))
import confined
import inject
import live
import nspawn
import pseudonym
import tap
from nspawn import CONF, DEB, EVENTS, INSTALL, OPENER, UNIT

KEY = "synfind-pseudonym-key"
INTERFACES = "[capture]\ninterface = lo, veth*\nring-size = 4M\n"


def traces(m):
    """What in the file system, and who among users and groups, has the name."""
    found = m.run("find", "/etc", "/lib/", "/usr", "/var", "/run", "-xdev", "(", "-path", "/var/log",
                  "-o", "-path", "/var/cache", ")", "-prune", "-o", "-name", "*synfind*", "-print",
                  check=False)
    users = [line for f in ("passwd", "group", "shadow", "gshadow") for line in
             m.run("cat", f"/etc/{f}").splitlines() if line.startswith("synfind")]
    return sorted(set(found.split()) - {DEB}) + users


def install(s):
    m = s.m
    before = traces(m)
    tap.equal(before, [], "before the package is installed there is nothing of it")
    out = m.run(*INSTALL)
    live.wait_until(s.active, "the service to run")
    tap.ok(True, "installing the package starts the service", out)
    tap.equal(m.run("systemctl", "--failed", "--no-legend").strip(), "", "no unit has failed")
    for unit in (UNIT, "synfind.socket", "synfind-opener.socket"):
        tap.equal(m.run("systemctl", "is-enabled", unit, check=False).strip(), "enabled",
                  f"{unit} is enabled")
    sub = s.subscribe()
    tap.equal(sub.events[0]["interfaces"], ["lo"], "without a route, auto is loopback")
    boot = m.run("cat", "/proc/sys/kernel/random/boot_id").strip().replace("-", "")
    tap.equal(sub.events[0].get("boot_id"), boot, "the hello has the boot id, though /proc is hidden")
    confined.is_watched(sub, m.ns)
    tap.ok(True, "and connections are told")
    tap.equal(m.run("stat", "-c", "%A %U %G", EVENTS).strip(), "srw-rw---- root synfind",
              "the events socket is the group's")
    tap.equal(m.run("stat", "-c", "%A %U %G", "/run/synfind/opener.sock").strip(),
              "srw------- synfind synfind", "the opener's socket is the daemon's")
    sub.close()


def late_route(s):
    """The machine starts before its network does."""
    ns = s.m.ns
    sub = s.subscribe()
    other = live.Netns()
    live.join(ns, other, "veth-r", "veth-s", 9)
    ns.ip("route add default via 10.0.9.2")
    sub.wait_for("iface", in_iface="veth-r", state="up")
    tap.ok(True, "auto: an interface is watched once it carries a default route")
    ns.ip("link del veth-r")
    sub.wait_for("iface", in_iface="veth-r", state="gone")
    sub.close()


def access(s):
    def reads(*who):
        p = s.m.popen("setpriv", *who, "--clear-groups", "--", "socat", "-u",
                      f"UNIX-CONNECT:{EVENTS}", "-", stdout=subprocess.PIPE,
                      stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL)
        line = p.stdout.readline()
        p.kill()
        p.wait()
        return b'"hello"' in line

    tap.ok(reads("--reuid=65534", "--regid=synfind"), "a member of the group can subscribe")
    tap.ok(not reads("--reuid=65534", "--regid=65534"), "somebody else cannot")


def who_listens(s):
    """Lists, pseudonyms and their key as the unit gets them."""
    key = bytes(range(32))
    root = f"/proc/{s.m.leader}/root"
    s.m.run("install", "-d", "-m", "700", "/etc/credstore")
    with open(f"{root}/etc/credstore/{KEY}", "wb") as f:
        f.write(key)
    s.m.run("chmod", "600", f"/etc/credstore/{KEY}")

    def listen():
        return s.m.popen("setpriv", "--reuid=65534", "--regid=synfind", "--clear-groups", "--", "socat",
                         "-u", f"UNIX-CONNECT:{EVENTS}", "-", stdout=subprocess.PIPE,
                         stdin=subprocess.DEVNULL)

    s.configure(INTERFACES + "[events]\nallow-user = root\npseudonymize-group = synfind\n")
    s.m.run("systemctl", "restart", UNIT)
    member = listen()
    hello = json.loads(member.stdout.readline())
    tap.equal(hello.get("addresses"), "pseudonyms", "a member of a group that is to see pseudonyms does")
    sub = s.subscribe()
    tap.ok("addresses" not in sub.events[0], "who is allowed sees addresses")
    real = confined.is_watched(sub, s.m.ns)
    seen = next(e for e in map(json.loads, member.stdout) if e["seq"] == real["seq"])
    tap.equal((seen["src_ip"], seen["flow_id"]),
              (pseudonym.address(key, real["src_ip"]), pseudonym.flow_id(key, real["flow_id"])),
              "by the key of the credential store")
    member.kill()
    s.configure(INTERFACES + "[events]\nallow-user = root\n")
    s.m.run("systemctl", "reload", UNIT)
    member = listen()
    tap.equal(member.stdout.read(), b"", "after a reload without that group its member gets nothing")
    entries = live.wait_until(lambda: s.entries("SYNFIND_REASON=unlisted"), "an entry of the journal")
    tap.equal((entries[0]["SYNFIND_UID"], entries[0]["SYNFIND_STATE"]), ("65534", "refused"),
              "which the journal tells, with the user")
    sub.close()
    s.configure(INTERFACES)
    s.m.run("systemctl", "restart", UNIT)


def is_confined(s):
    confined.check_daemon("the service", s.pid())
    opener = live.wait_until(lambda: s.m.pid(OPENER), "the opener to run")
    confined.check_opener("the opener service", opener)
    uids = {confined.status(p)["Uid"].split()[0] for p in (s.pid(), opener)}
    tap.ok(len(uids) == 2 and "0" not in uids, "daemon and opener are two users, neither is root",
           uids)
    sub = s.subscribe()
    confined.is_watched(sub, s.m.ns)
    tap.ok(True, "and capture goes on")
    sub.close()


def analyze(s):
    units = [f"/usr/lib/systemd/system/{u}" for u in
             (UNIT, OPENER, "synfind.socket", "synfind-opener.socket")]
    # Other units of the image may have something to complain about.
    out = s.m.run("systemd-analyze", "verify", *units, check=False)
    tap.equal([line for line in out.splitlines() if "synfind" in line], [],
              "systemd-analyze verify is silent")
    for unit, threshold in ((UNIT, 4), (OPENER, 12)):
        def status(n):
            return s.m.status("systemd-analyze", "security", "--offline=true", f"--threshold={n}",
                              f"/usr/lib/systemd/system/{unit}")

        tap.equal((status(threshold), status(threshold - 1) != 0), (0, True),
                  f"{unit}: exposure is {threshold / 10}")


def journal(s):
    ready = [e for e in s.said("Ready: events on") if e.get("MESSAGE_ID")]
    tap.ok(ready, "the start is in the journal, with a MESSAGE_ID")
    entry = ready[0]
    tap.equal((entry["PRIORITY"], entry["SYSLOG_IDENTIFIER"]), ("6", "synfind"),
              "with priority and identifier")
    by_id = s.entries(f"MESSAGE_ID={entry['MESSAGE_ID']}")
    tap.ok(by_id and all("Ready" in e["MESSAGE"] for e in by_id), "and can be found by its id")
    watched = s.entries("SYNFIND_INTERFACE=lo", "SYNFIND_STATE=watched")
    tap.ok(watched and "Watching lo" in watched[0]["MESSAGE"],
           "an interface's entry can be found by its field", watched)


def status_text(s):
    shape = (r"\d+ packets/s, \d+ events/s; \d+ connections, \d+ half-open; 1 interfaces, "
             r"\d+ subscribers; dropped 0, lost to subscribers 0$")
    text = live.wait_until(lambda: re.match(shape, s.m.show(UNIT, "StatusText")), "a status")
    tap.ok(text, "the status has rates, connections, drops")


def opener_dies(s):
    ns, old = s.m.ns, s.m.pid(OPENER)
    s.configure(INTERFACES)
    s.m.run("systemctl", "reload", UNIT)
    daemon = s.pid()
    opener = live.wait_until(lambda: s.m.pid(OPENER) not in (None, old) and s.m.pid(OPENER),
                             "an opener with the new configuration")
    sub = s.subscribe()
    with ns.listen(("127.0.0.1", 90)) as l:
        c = ns.connect(("127.0.0.1", 90))
        served = l.accept()[0]
        os.kill(opener, signal.SIGKILL)
        live.wait_until(lambda: s.m.pid(OPENER) not in (None, opener), "another opener")
        live.join(ns, live.Netns(), "veth-a", "veth-b", 1)
        sub.wait_for("iface", in_iface="veth-a", state="up")
        tap.ok(True, "the opener is killed: another one comes, and tells of a new interface")
        c.close()
        served.close()
        close = sub.wait_for("tcp_close", dest_port=90)
    tap.equal(close["tcp"]["reason"], "fin", "a connection lives through it")
    tap.equal({e["in_iface"] for e in sub.events if e["event_type"] == "iface"}, {"veth-a"},
              "nothing else was disturbed")
    tap.equal(s.pid(), daemon, "the daemon is the same")
    ns.ip("link del veth-a")
    sub.close()


def opener_refuses(s):
    """Somebody who has taken over the daemon asks the opener for more than is configured."""
    ns = s.m.ns
    live.join(ns, live.Netns(), "other-a", "other-b", 4)
    with ns():
        index = {n: socket.if_nametoindex(n) for n in ("lo", "other-a")}
    s.m.run("systemctl", "stop", UNIT)

    def connect():
        c = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        c.settimeout(live.DEADLINE)
        c.connect(f"/proc/{s.m.leader}/root/run/synfind/opener.sock")
        return c

    def reply(c, *kinds):
        """The next reply of such a kind, its error, and how many descriptors came with it."""
        while True:
            data, fds, _, _ = socket.recv_fds(c, 1 << 16, 64)
            for fd in fds:
                os.close(fd)
            if not data:
                return "end", 0, 0
            kind, = struct.unpack_from("I", data)
            if kind in kinds:
                return kind, struct.unpack_from("i", data, 36)[0], len(fds)

    def request(kind, ifindex):
        return struct.pack("IiQ", kind, ifindex, 0)

    rings_of, clean = 1, 3
    hello, link, listed, rings, failed = 1, 2, 3, 5, 6
    c = connect()
    tap.equal(reply(c, link)[0], link, "the opener tells of interfaces that are configured")
    tap.equal(reply(c, link, listed)[0], listed, "and of no others")
    c.send(request(rings_of, index["lo"]))
    tap.equal(reply(c, rings, failed), (rings, 0, 1), "the ring of such a one can be had")
    c.send(request(rings_of, index["lo"]))
    tap.equal(reply(c, rings, failed), (failed, -errno.EALREADY, 0), "once")
    c.send(request(rings_of, index["other-a"]))
    tap.equal(reply(c, rings, failed), (failed, -errno.ENODEV, 0), "that of another one cannot")
    c.send(request(clean, 1))
    tap.equal(reply(c, rings, failed, 7)[0], 7, "a request to remove the events socket is answered")
    tap.ok(os.path.exists(s.path), "but that is systemd's, and stays")
    for what, octets in (("a request that is too short", b"\1\0\0"), ("one too long", bytes(64)),
                         ("one of no kind", request(77, 0))):
        c.send(octets)
        tap.equal(reply(c, rings, failed)[0], "end", f"{what} ends the connection")
        c.close()
        live.wait_until(lambda: s.m.show(OPENER, "ActiveState") != "active", "the opener to end")
        c = connect()
        tap.equal(reply(c, hello)[0], hello, "and the next one is served")
    c.close()
    s.m.run("systemctl", "reset-failed", OPENER, check=False)
    s.m.run("systemctl", "start", UNIT)
    sub = s.subscribe()
    confined.is_watched(sub, ns, 88)
    tap.ok(True, "after all that the daemon gets its rings")
    sub.close()
    ns.ip("link del other-a")


def reload(s):
    ns, pid = s.m.ns, s.pid()
    sub = s.subscribe()
    with ns.listen(("127.0.0.1", 91)) as l:
        c = ns.connect(("127.0.0.1", 91))
        served = l.accept()[0]
        sub.wait_for("tcp_established", dest_port=91)
        idle = ns.listen(("127.0.0.1", 92))
        d = ns.connect(("127.0.0.1", 92))
        sub.wait_for("tcp_established", dest_port=92)
        s.configure(INTERFACES + "decap = yes\n[tracking]\ntimeout-established = 1s\n"
                    "[events]\nstats-interval = 1s\nqueue-size = 8M\n")
        s.m.run("systemctl", "reload", UNIT)
        tap.equal(s.m.show(UNIT, "ActiveState"), "active", "reload: the service is active after it")
        sub.wait_for("stats")  # which the reload asked for
        close = sub.wait_for("tcp_close", dest_port=92)
        tap.equal(close["tcp"]["reason"], "idle", "reload: a new time-out counts for old connections")
        tap.ok(s.said("queue-size: the new value takes effect at the next start"),
               "reload: what it cannot change is said")

        s.configure(INTERFACES + "[tracking]\ntimeout-establishd = 5s\n")
        tap.ok(s.m.status("systemctl", "reload", UNIT) != 0, "reload: a bad file makes it fail")
        tap.ok(s.said(f"{CONF}:5: unknown option 'timeout-establishd'"),
               "reload: a bad file is told by file and line")
        tap.equal((s.active(), s.pid()), (True, pid), "and the service goes on")
        confined.is_watched(sub, ns, 93)
        tap.ok(sub.until(lambda e: live.find(e, "stats", seq=e[-1]["seq"]), "stats"),
               "with the configuration that it had")
        s.configure(INTERFACES)
        s.m.run("systemctl", "reload", UNIT)
        for x in (c, d, served, idle):
            x.close()
    tap.equal(s.pid(), pid, "reload: the process is the same")
    s.m.run("systemctl", "daemon-reexec")
    confined.is_watched(sub, ns, 94)
    tap.ok(not sub.checker.errors, "reload and daemon-reexec: the stream went on, whole",
           sub.checker.errors)
    sub.close()


def activation(s):
    s.m.run("systemctl", "stop", UNIT)
    tap.ok(not s.active(), "the service is stopped")
    sub = s.subscribe(hello=False)
    sub.wait_for("hello")
    tap.ok(s.active(), "a subscriber that connects starts it, and is served")
    old = s.pid()
    os.kill(old, signal.SIGKILL)
    early = s.subscribe()
    tap.ok(s.new_pid(old) != old, "killed, it comes back; who connects meanwhile is served")
    early.close()
    sub.close()
    s.configure(INTERFACES + "ring-sise = 1M\n")
    s.m.run("systemctl", "stop", UNIT)  # a restart would keep the store, and try again
    tap.ok(s.m.status("systemctl", "start", UNIT) != 0, "a bad configuration: it does not start")
    live.wait_until(lambda: s.m.show(UNIT, "ActiveState") == "failed", "the service to have failed")
    tap.ok(s.said(f"{CONF}:4: unknown option 'ring-sise'"),
           "which is told by file and line, and not tried again and again")
    s.configure(INTERFACES)
    sub = s.subscribe()
    tap.ok(s.active(), "put right, the next subscriber starts it")
    sub.close()


def for_people(s):
    """synfinctl of the package, as root, as a member of the group, as anybody."""
    def ctl(*args, by=()):
        p = s.m.popen(*by, "synfinctl", *args, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                      stderr=subprocess.STDOUT)
        return p.communicate(timeout=live.DEADLINE)[0].decode(), p.returncode

    def user(group):
        return ["setpriv", "--reuid=65534", f"--regid={group}", "--clear-groups"]

    text, status = ctl("doctor")
    tap.ok(status == 0 and "synfind.service is active" in text and "synfind-opener has the capabilities" in text,
           "synfinctl doctor: all is well", text)
    tap.ok(ctl("status", by=user("synfind"))[1] == 0, "a member of the group asks for the status")
    text, status = ctl("status", by=user("65534"))
    tap.ok(status == 3 and "join group synfind" in text, "anybody else is told how to get the permission", text)
    files = s.m.run("dpkg", "-L", "synfind").split()
    missing = [f for f in ("/usr/bin/synfinctl", "/usr/share/man/man1/synfinctl.1.gz",
                           "/usr/share/bash-completion/completions/synfinctl",
                           "/usr/share/zsh/vendor-completions/_synfinctl",
                           "/usr/share/fish/vendor_completions.d/synfinctl.fish") if f not in files]
    tap.equal(missing, [], "the package has synfinctl, its page and its completions")
    s.m.run("systemctl", "stop", UNIT, "synfind.socket")
    text, status = ctl("watch")
    tap.ok(status == 3 and "synfind.service is stopped" in text and "systemctl start synfind" in text,
           "the service is stopped: so it says, and how to start it", text)
    s.m.run("systemctl", "start", "synfind.socket", UNIT)
    live.wait_until(s.active, "the service to run")


def control(s):
    """The second socket of the unit, and what the confined daemon can answer there."""
    path = os.path.join(os.path.dirname(EVENTS), "control.sock")
    tap.equal(s.m.run("stat", "-c", "%A %U %G", path).strip(), "srw-rw---- root synfind",
              "the control socket is the group's")

    def ask(method):
        with socket.socket(socket.AF_UNIX) as c:
            c.settimeout(live.DEADLINE)
            c.connect(f"/proc/{s.m.leader}/root{path}")
            c.sendall(b'{"method":"io.synfind.Control.%s"}\0' % method.encode())
            got = b""
            while not got.endswith(b"\0"):
                got += c.recv(1 << 16) or b"\0"
        return json.loads(got[:-1])["parameters"]

    sub = s.subscribe()
    status = ask("Status")
    tap.ok(status["run_id"] == sub.events[0]["run_id"] and status["memory"].get("resident", 0) > 1 << 20,
           "it answers, with the memory of the process, though /proc is hidden", status)
    row = ask("Subscribers")["subscribers"][0]
    tap.ok(row["user"] == "root" and "program" not in row, "it knows users, and no other processes", row)
    options = {o["name"]: o for o in ask("Config")["options"]}
    tap.equal((options["interface"]["value"], options["interface"]["source"], options["interface"]["line"]),
              ("lo,veth*", "file", 2), "and the configuration")
    sub.close()
    s.m.run("systemctl", "stop", UNIT)
    tap.ok(ask("Status")["uptime_ns"] < 60e9 and s.active(), "a question starts the service, and is answered")


ALLOWED = {OPENER: "AmbientCapabilities=CAP_BPF CAP_PERFMON\nCapabilityBoundingSet=CAP_BPF CAP_PERFMON\n"
                   "SystemCallFilter=bpf capset\n",
           UNIT: "SystemCallFilter=bpf\n"}


def allow(s, *units):
    """As docs/operating.md says; returns the status of the daemon's restart."""
    for unit in units:
        s.m.run("mkdir", "-p", f"/run/systemd/system/{unit}.d")
        with open(f"/proc/{s.m.leader}/root/run/systemd/system/{unit}.d/t.conf", "w") as f:
            f.write("[Service]\n" + ALLOWED[unit])
    s.m.run("systemctl", "daemon-reload")
    s.m.run("systemctl", "stop", OPENER)
    return s.m.status("systemctl", "restart", UNIT)


def as_it_was(s):
    for unit in ALLOWED:
        s.m.run("rm", "-rf", f"/run/systemd/system/{unit}.d")
    s.configure(INTERFACES)
    s.m.run("systemctl", "daemon-reload")
    s.m.run("systemctl", "stop", UNIT, OPENER)
    s.m.run("systemctl", "start", UNIT)


def several_decoders(s):
    """The unit has no capability to load a program, unless it is given one."""
    def started_anew():  # a restart would keep the rings as they are
        s.m.run("systemctl", "stop", UNIT)
        s.m.run("systemctl", "start", UNIT)
        live.wait_until(s.active, "the service to run")
        return [e["MESSAGE"] for e in s.entries("SYNFIND_STATE=watched")][-1]

    s.configure("[capture]\ninterface = lo\nring-size = 4M\ndecoders = 3\n")
    tap.ok("3 decoders, assigned by the kernel's hash" in (said := started_anew()),
           "several decoders: as the unit is, the kernel's hash deals out", said)
    allow(s, OPENER)
    tap.ok("3 decoders, assigned by an eBPF program" in (said := started_anew()),
           "allowed to, the opener loads the program", said)
    sub = s.subscribe()
    for port in range(100, 110):
        confined.is_watched(sub, s.m.ns, port)
    caps = [confined.capabilities(confined.status(s.pid(), t)) for t in confined.threads(s.pid())]
    tap.ok(len(caps) > 3 and not any(any(c.values()) for c in caps),
           "and the daemon, with a thread for each, has no capability")
    sub.close()
    s.configure(INTERFACES)
    s.m.run("systemctl", "stop", OPENER)
    s.m.run("systemctl", "restart", UNIT)
    confined.check_opener("the opener, allowed to load programs but without need",
                          live.wait_until(lambda: s.m.pid(OPENER), "the opener to run"))
    as_it_was(s)


def mode_auto(s):
    """Both units have to be told."""
    s.configure("[capture]\ninterface = lo\nring-size = 128M\ndecoders = 2\nmode = auto\nauto-after = 1\n"
                "[events]\nstats-interval = 1s\n")
    tap.ok(allow(s) != 0 and s.said("needs CAP_BPF"),
           "mode auto: as the units are, it does not start, and says what is missing")
    tap.ok(allow(s, OPENER) != 0 and s.said("bpf(2) is not permitted"),
           "with the opener allowed to load alone, neither")
    tap.equal(allow(s, OPENER, UNIT), 0, "with both allowed, it starts")
    sub = s.subscribe()
    tap.equal(sub.events[0]["mode"], "auto", "and says so in hello")
    caps = [confined.capabilities(confined.status(s.pid(), t)) for t in confined.threads(s.pid())]
    tap.ok(len(caps) > 2 and not any(any(c.values()) for c in caps), "still without a capability")
    ports, missing = iter(range(2000, 3000)), []

    def withheld():
        """Another connection; has the kernel withheld anything of those that ended?"""
        port, sent = next(ports), 20000 * 1000
        with s.m.ns.listen(("127.0.0.1", port)) as l:
            c = s.m.ns.connect(("127.0.0.1", port))
            served = l.accept()[0]
            for _ in range(20000):
                c.sendall(bytes(1000))
                served.recv(1000, socket.MSG_WAITALL)
            c.close()
            served.recv(1)
            served.close()
        flow = sub.wait_for("tcp_close", dest_port=port)["flow"]
        if (flow["payload_toserver"], flow["gap_bytes"]) != (sent, 0):
            missing.append(flow)
        return any(d.get("withheld") for e in sub.events if e["event_type"] == "stats"
                   for d in e["decoders"])

    live.wait_until(withheld, "the kernel to withhold segments")
    tap.ok(not missing, "the kernel withholds segments, and none is missing in the count", missing)
    sub.close()
    as_it_was(s)


def mode_changes(s):
    """The opener reads the file again, the daemon keeps its mode.  An interface with a ring of its own, as
    a plain name has, gets one of the new mode; those that share one go on."""
    sub = s.subscribe()
    other = live.Netns()
    live.join(s.m.ns, other, "eth-m", "eth-n", 5)
    s.configure("[capture]\ninterface = lo, eth-m\nmode = control\n")
    old = s.m.pid(OPENER)
    s.m.run("systemctl", "reload", UNIT)
    live.wait_until(lambda: s.m.pid(OPENER) not in (None, old), "an opener with the new mode")
    sub.wait_for("iface", in_iface="eth-m", state="up")
    tap.ok(s.said("its opener has mode=control, this daemon has mode=all"),
           "a reload with another mode: for a new interface the journal says that the opener has it")
    with other.listen(("10.0.5.2", 96)) as l:
        c = s.m.ns.connect(("10.0.5.2", 96))
        served = l.accept()[0]
        c.sendall(b"x" * 100)
        served.recv(100)
        c.close()
        served.recv(1)
        served.close()
    confined.is_watched(sub, s.m.ns, 97)
    s.m.ns.ip("link del eth-m")  # what waits for a repeated FIN ends with it
    close = sub.wait_for("tcp_close", dest_port=96)
    tap.equal((close["flow"].get("counts"), close["flow"].get("stream_toserver")), ("sequence", 100),
              "its connections are told as mode control tells them")
    close = live.find(sub.events, "tcp_close", dest_port=97)
    tap.ok("counts" not in close["flow"], "those of others as before")
    sub.close()
    s.configure(INTERFACES)
    s.m.run("systemctl", "restart", UNIT)


def watchdog(s):
    if not inject.AVAILABLE:
        tap.skip("watchdog", "x86-64")
        return
    s.m.run("mkdir", "-p", f"/run/systemd/system/{UNIT}.d")
    s.m.run("sh", "-c", f"printf '[Service]\\nWatchdogSec=2s\\n' >/run/systemd/system/{UNIT}.d/t.conf")
    s.m.run("systemctl", "daemon-reload")
    s.m.run("systemctl", "restart", UNIT)
    pid = s.pid()
    live.wait_until(s.active, "the service to be ready")
    # Idle for longer than the watchdog waits: quiet is not dead.
    usec = int(s.m.show(UNIT, "WatchdogTimestampMonotonic"))
    live.wait_until(lambda: int(s.m.show(UNIT, "WatchdogTimestampMonotonic")) > usec + 4_000_000,
                    "the watchdog to be fed for twice its time")
    tap.equal(s.pid(), pid, "a daemon without traffic feeds the watchdog")
    decoder = max(confined.threads(pid))
    with inject.stopped(decoder):
        live.wait_until(lambda: s.said("has stalled"), "the daemon to see that its decoder hangs")
        tap.ok(True, "a stalled decoder is reported, while the loop runs")
        live.wait_until(lambda: "Watchdog timeout" in s.m.journal("-u", UNIT), "the watchdog")
    s.new_pid(pid)
    tap.ok(True, "and the watchdog restarts the service")
    s.m.run("rm", "-r", f"/run/systemd/system/{UNIT}.d")
    s.m.run("systemctl", "daemon-reload")


def upgrade_and_purge(s):
    old = s.pid()
    s.m.run(*INSTALL)
    s.new_pid(old)
    sub = s.subscribe()
    tap.equal(sub.events[0]["interfaces"], ["lo"], "after an upgrade it runs, as configured")
    s.m.run("dpkg", "--remove", "synfind")
    tap.ok(sub.to_end() is not None and not s.m.pid(UNIT), "removed, it does not run")
    tap.ok(os.path.exists(f"/proc/{s.m.leader}/root{CONF}"), "removed, its configuration stays")
    s.m.run("dpkg", "--purge", "synfind")
    s.m.run("systemctl", "daemon-reload")
    tap.equal(traces(s.m), [], "purged, it leaves nothing")
    tap.equal(s.m.run("systemctl", "list-units", "--all", "--no-legend", "synfind*").strip(), "",
              "nor a unit")


def by_make(s):
    """What `make install` puts there is as good, with three commands."""
    subprocess.run(["make", "-s", "-C", live.ROOT, "install", f"DESTDIR={s.m.root}"], check=True,
                   stdout=subprocess.DEVNULL)
    s.m.run("systemd-sysusers")
    s.m.run("systemctl", "daemon-reload")
    s.m.run("systemctl", "enable", "--now", UNIT)
    live.wait_until(s.active, "the service to run")
    sub = s.subscribe()
    confined.is_watched(sub, s.m.ns)
    tap.ok(True, "make install, systemd-sysusers, systemctl enable --now: it runs")
    tap.equal(s.m.run("readlink", f"/proc/{s.m.show(UNIT, 'MainPID')}/exe").strip(),
              "/usr/local/sbin/synfind", "from below /usr/local")
    sub.close()


nspawn.need("socat", "setpriv")
if not os.path.exists(f"{live.ROOT}/build/deb/built"):
    tap.ok(False, "built: make deb")
    tap.done()
machine = nspawn.Machine(live.Netns(), nspawn.put_package)
try:
    service = nspawn.Service(machine)
    for step in (install, late_route, access, who_listens, is_confined, analyze, journal, status_text, opener_dies,
                 opener_refuses, reload, activation, control, for_people, several_decoders, mode_auto, mode_changes, watchdog, upgrade_and_purge,
                 by_make):
        before = tap.failed
        with live.guarded(step.__name__):
            step(service)
        if tap.failed > before:
            tap.diag(machine.run("journalctl", "-u", "synfind*", "-n", "30", "--no-pager", check=False))
        if tap.failed > before and step is install:
            break  # the rest needs it
finally:
    machine.close()
tap.done()
