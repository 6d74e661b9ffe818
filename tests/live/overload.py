#!/usr/bin/python3
"""Hard times: a storm of subscribers, no descriptor left, ten seconds of standstill,
interfaces that change their name or their namespace, a full disk, no journal, a clock that steps.
It goes on, and its counters say what it missed.

    overload.py            all
    overload.py NAME...    some, by the names of the functions
"""
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../support"))
import confined
import live
import nspawn
import tap
import twins
import uml

LOAD = os.path.join(live.ROOT, "build/tests/load")
STORM, STORM_S = 1000, 3


def fds(pid):
    return len(os.listdir(f"/proc/{pid}/fd"))


def newest_stats(sub, after):
    """The first stats line that was said after the event `after`."""
    return sub.until(lambda e: [x for x in e if x["event_type"] == "stats" and
                                x["seq"] > after["seq"]][:1], "stats")[0]


def storm():
    """Most leave without a word, some in the middle of a line, some stay as long as they may."""
    ns = live.Netns()
    d = live.Synfind(ns, "lo", max_subscribers=64, stats_interval="1s")
    sub = d.subscribe()
    tried, stayed = 0, []
    held = fds(d.p.pid)
    begun = time.monotonic()
    while tried < STORM * STORM_S:
        s = socket.socket(socket.AF_UNIX)
        s.settimeout(live.DEADLINE)
        s.connect(d.path)
        tried += 1
        if tried % 3 == 0:
            s.recv(100)
        if tried % 10 == 0:
            stayed.append(s)
        else:
            s.close()
        if tried % 100 == 0:
            confined.is_watched(sub, ns, 80)
            for s in stayed[:-64]:
                s.close()
            stayed = stayed[-64:]
            time.sleep(max(0, tried / STORM - (time.monotonic() - begun)))
    tap.ok(True, f"storm: {tried} subscribers in {time.monotonic() - begun:.1f} s, "
           "and connections are told to who was there before")
    for s in stayed:
        s.close()
    last = confined.is_watched(sub, ns, 81)

    def counted(e):
        stats = [x["subscribers"] for x in e if x["event_type"] == "stats"]
        return stats and stats[-1]["connected"] == 1 and \
            stats[-1]["accepted"] + stats[-1]["refused"] >= tried and stats[-1]

    got = sub.until(counted, "stats that count all of them")
    tap.ok(got["refused"] > 0, "storm: those above the limit are counted as refused", got)
    # Who asked whether it was ready, and who reads, are counted as well.
    tap.ok(tried + 1 <= got["accepted"] + got["refused"] <= tried + 3,
           "storm: each is counted once", got, tried)
    tap.ok(live.find(sub.events, "lost") is None, "storm: who reads loses nothing", last)
    tap.equal(fds(d.p.pid), held, "storm: no descriptor is left behind")
    tap.equal(d.stop(), 0, "storm: status 0")
    tap.ok(not sub.to_end(), "storm: every line is right", sub.checker.errors)


def cpu_ticks(pid):
    with open(f"/proc/{pid}/stat") as f:
        fields = f.read().rsplit(")", 1)[1].split()
    return int(fields[11]) + int(fields[12])


def no_descriptors():
    """More subscribers than it may have descriptors for."""
    ns = live.Netns()
    d = live.Synfind(ns, "lo")
    limit = fds(d.p.pid) + 8
    d.stop()
    d = live.Synfind(ns, "lo", stats_interval="1s", argv0=("prlimit", f"--nofile={limit}", "--"))
    sub = d.subscribe()
    others = []
    for _ in range(30):
        s = socket.socket(socket.AF_UNIX)
        s.connect(d.path)
        others.append(s)
    live.wait_until(lambda: "Too many open files" in d.stderr(), "the log to say it")
    flow = confined.is_watched(sub, ns, 80)
    tap.ok(flow, "no descriptor left: who is there goes on getting events")
    before = cpu_ticks(d.p.pid)
    stats = newest_stats(sub, newest_stats(sub, flow))
    ticks = cpu_ticks(d.p.pid) - before
    # It would be all of a second, or two, if it asked again and again.
    tap.ok(ticks < os.sysconf("SC_CLK_TCK") / 4, "no descriptor left: it does not spin", ticks)
    tap.ok(d.stderr().count("Too many open files") < 20, "and does not fill the log")
    tap.ok(stats["subscribers"]["connected"] < 30, "stats say how many are there", stats)
    for s in others[:-1]:
        s.close()
    others[-1].settimeout(live.DEADLINE)
    tap.ok(b"hello" in others[-1].recv(1000), "once there are some again, who waited is served")
    tap.equal(d.stop(), 0, "no descriptor left: status 0")
    tap.ok(not sub.to_end(), "no descriptor left: every line is right", sub.checker.errors)


def standstill():
    """200,000 frames, ten seconds of traffic, which the ring cannot hold."""
    ns, server = live.veth_pair("veth-l", "veth-m", 1)
    clock = twins.one_clock(server, "veth-m")
    options = {"ring_block_size": "128K", "stats_interval": "1s", "queue_size": "64M",
               **{k.replace("-", "_"): v for k, v in twins.TIMEOUTS.items()}}
    d = live.Synfind(ns, "veth-l", ring_size="16M", **options)
    alone = live.Synfind(ns, "veth-l", ring_size="256M", **options)
    tmp = live.tmpdir()
    readers = [twins.Recorder(n, x.path, tmp).greeted()
               for n, x in (("stopped", d), ("alone", alone))]
    load = ns.popen(LOAD, ns.path, server.path, "veth-l", "20000", "400", "1", "0",
                    stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def more(frames):
        """Until the other one has counted as many, however fast this machine makes them."""
        def count():
            stats = readers[1].newest("stats")
            return stats["decoders"][0]["packets"] if stats else 0

        end = count() + frames
        live.wait_until(lambda: count() >= end, f"{frames} frames", 8 * live.DEADLINE)

    more(20_000)
    d.p.send_signal(signal.SIGSTOP)
    more(200_000)
    d.p.send_signal(signal.SIGCONT)
    more(40_000)
    done = json.loads(load.communicate(timeout=live.DEADLINE)[0])
    for x in readers:
        twins.await_quiet(x)
    totals = [x.newest("stats") for x in readers]
    for x in readers:
        x.close()
    streams = [twins.Stream(x, t["seq"]) for x, t in zip(readers, totals)]
    stopped, other = (t["decoders"][0] for t in totals)
    told = streams[0].of_kind("capture_loss")
    missing = other["packets"] - stopped["packets"]
    tap.ok(missing > 0, "standstill: the ring could not hold it all", done)
    tap.equal((stopped["drops"], sum(e["count"] for e in told)), (missing, missing),
              "standstill: what is missing is counted, and told")
    tap.equal((other["drops"], other["lost"], stopped["lost"]), (0, 0, 0),
              "standstill: nothing else is")
    for s in streams:
        tap.ok(not s.checker.errors, f"standstill: every line of '{s.name}' is right",
               s.checker.errors)
    compared, first, differ = twins.differences(streams[1], streams[0], told)
    tap.ok(compared > 200 and not differ,
           f"standstill: {compared} connections before and after are told as by one that ran on",
           differ, first)
    clock.close()
    tap.equal((d.stop(), alone.stop()), (0, 0), "standstill: status 0")


def exchange(sub, a, b, port, iface):
    with b.listen(("10.0.1.2", port)) as l:
        c = a.connect(("10.0.1.2", port))
        s = l.accept()[0]
        c.close()
        s.recv(1)
        s.close()
    return sub.until(lambda e: live.find(e, "tcp_close", dest_port=port, in_iface=iface),
                     f"the close of port {port} on {iface}")


def renamed():
    left, right = live.veth_pair()
    live.join(left, right, "veth-c", "veth-d", 2)
    d = live.Synfind(left, "veth*", ring_size="4M")
    sub = d.subscribe()
    exchange(sub, left, right, 80, "veth-a")
    for old, new in (("veth-a", "veth-new"), ("veth-new", "other")):
        left.ip(f"link set {old} down")
        left.ip(f"link set {old} name {new}")
        left.ip(f"link set {new} up")
        sub.until(lambda e: live.find(e, "iface", in_iface=old, state="gone"), f"{old} to be gone")
        tap.ok(True, f"{old} is renamed to {new}: under its old name it is gone")
        if new == "veth-new":
            sub.until(lambda e: live.find(e, "iface", in_iface=new, state="up"), f"{new} to be up")
            live.wait_until(lambda: "state UP" in left.ip(f"link show {new}"), f"{new} to be up")
            exchange(sub, left, right, 81, new)
            tap.ok(True, "and under the new one, which matches, it is watched")
    tap.ok(not [e for e in sub.events if e["event_type"] == "iface" and
                e["in_iface"] in ("veth-c", "other")], "the others are undisturbed")
    tap.equal(d.stop(), 0, "renamed: status 0")
    tap.ok(not sub.to_end(), "renamed: every line is right", sub.checker.errors)


def moved():
    left, right = live.veth_pair()
    live.join(left, right, "veth-c", "veth-d", 2)
    d = live.Synfind(left, "veth-a,veth-c", ring_size="4M")
    sub = d.subscribe()
    exchange(sub, left, right, 80, "veth-a")
    elsewhere = live.Netns()
    left.ip(f"link set veth-a netns {elsewhere.path}")
    sub.until(lambda e: live.find(e, "iface", in_iface="veth-a", state="gone"), "veth-a to be gone")
    before = cpu_ticks(d.p.pid)
    elsewhere.ip("addr add 10.0.1.1/24 dev veth-a")
    elsewhere.ip("link set veth-a up")
    live.wait_until(lambda: "state UP" in elsewhere.ip("link show veth-a"), "veth-a to be up")
    with right.listen(("10.0.1.2", 81)) as l:
        for _ in range(200):
            c = elsewhere.connect(("10.0.1.2", 81))
            l.accept()[0].close()
            c.close()
    tap.ok(cpu_ticks(d.p.pid) - before < os.sysconf("SC_CLK_TCK") / 4,
           "moved: a ring without an interface does not keep it busy")
    tap.ok(not live.find(sub.events, "tcp_open", dest_port=81),
           "moved: what an interface carries elsewhere is none of its business")
    elsewhere.ip(f"link set veth-a netns {left.path}")
    left.ip("addr add 10.0.1.1/24 dev veth-a")
    left.ip("link set veth-a up")
    sub.until(lambda e: live.find(e, "iface", in_iface="veth-a", state="back"), "veth-a to be back")
    live.wait_until(lambda: "state UP" in left.ip("link show veth-a"), "veth-a to be up")
    exchange(sub, left, right, 82, "veth-a")
    tap.ok(True, "moved to another namespace it is gone, and back when it comes back")
    tap.ok(not [e for e in sub.events if e["event_type"] == "iface" and
                e["in_iface"] == "veth-c"], "moved: the other one is undisturbed")
    tap.equal(d.stop(), 0, "moved: status 0")
    tap.ok(not sub.to_end(), "moved: every line is right", sub.checker.errors)


# ---- what a machine can run out of ----

def starved():
    """No room on the disk or in /run, then no journal; each time it is killed as well."""
    why = nspawn.missing()
    if why:
        tap.skip("a full disk, no journal", f"missing: {why}")
        return
    machine = nspawn.Machine(live.Netns(), nspawn.put_package)
    try:
        s = nspawn.Service(machine)
        machine.run(*nspawn.INSTALL)
        s.configure("[capture]\ninterface = lo\nring-size = 4M\n")
        machine.run("systemctl", "restart", nspawn.UNIT)
        live.wait_until(s.active, "the service to run")
        for step in (full_disk, no_journal):
            with live.guarded(step.__name__):
                step(s)
    finally:
        machine.close()


def goes_on(s, what, port):
    """It does, and so does one that takes its place."""
    ns = s.m.ns
    sub = s.subscribe()
    confined.is_watched(sub, ns, port)
    tap.ok(not sub.checker.errors, f"{what}: connections are told", sub.checker.errors)
    sub.close()
    old = s.pid()
    os.kill(old, signal.SIGKILL)
    s.new_pid(old)
    sub = s.subscribe()
    confined.is_watched(sub, ns, port + 1)
    tap.ok(not sub.checker.errors, f"{what}: killed, it comes back and tells them", sub.checker.errors)
    status = live.wait_until(lambda: "packets/s" in (t := s.m.show(nspawn.UNIT, "StatusText")) and t,
                             "a status")
    tap.ok("dropped 0, lost to subscribers 0" in status, f"{what}: nothing is lost", status)
    sub.close()


def full_disk(s):
    disk = f"{s.m.tmp}/t"
    room = os.statvfs(disk)
    full = (room.f_blocks - room.f_bfree) * room.f_frsize
    subprocess.run(["mount", "-o", f"remount,size={full}", disk], check=True)
    used = s.m.run("df", "-B1", "--output=used", "/run").split()[-1]
    s.m.run("mount", "-o", f"remount,size={used}", "/run")
    for where in ("/root", "/run"):
        tap.ok(s.m.status("sh", "-c", f"head -c 100000 /dev/zero >{where}/x") != 0,
               f"{where} is full")
    goes_on(s, "a full disk", 80)
    s.m.run("mount", "-o", "remount,size=64m", "/run")
    subprocess.run(["mount", "-o", "remount,size=1g", disk], check=True)


def no_journal(s):
    units = [f"systemd-journald{x}" for x in ("-audit.socket", "-dev-log.socket", ".socket", ".service")]
    good = "[capture]\ninterface = lo\nring-size = 4M\n"

    def reload(wrong):
        s.configure(good + f"{wrong} = 4M\n")
        s.m.status("systemctl", "reload", nspawn.UNIT)  # fails, and has something to say
        s.m.run("systemctl", "kill", "--signal=HUP", "--kill-whom=main", nspawn.UNIT)
        s.configure(good)

    def stop():
        s.m.run("systemctl", "stop", *units)
        live.wait_until(lambda: not s.m.pid(units[-1]), "the journal to be gone")

    pid = s.pid()
    stop()
    for _ in range(3):
        reload("ring-sise")
    tap.equal((s.pid(), s.active()), (pid, True), "no journal: what cannot be logged does no harm")
    s.m.run("systemctl", "start", *reversed(units[1:]))
    reload("ring-seize")
    live.wait_until(lambda: s.said("unknown option 'ring-seize'"), "the journal to have it")
    tap.ok(True, "no journal: once it is back, it is told what comes")
    stop()
    goes_on(s, "no journal", 90)
    s.m.run("systemctl", "start", *reversed(units[1:]))


# ---- the clock, which is the whole machine's: in a kernel of its own ----

def clock():
    if uml.is_missing():
        tap.skip("a clock that steps", "user-mode-linux")
        return
    uml.run("a clock that steps", 11)


def step_clock(seconds):
    time.clock_settime(time.CLOCK_REALTIME, time.clock_gettime(time.CLOCK_REALTIME) + seconds)


def there_and_back():
    for hours in (-1, 1):
        stepped(hours)


def stepped(hours):
    what = f"the clock steps {'back' if hours < 0 else 'on'} an hour"
    ns = live.Netns()
    d = live.Synfind(ns, "lo", ring_size="4M", stats_interval="1s", timeout_established="8s",
                     max_connections=4096, max_half_open=256)
    sub = d.subscribe()
    before = confined.is_watched(sub, ns, 80)
    with ns.listen(("127.0.0.1", 81)) as l, ns.listen(("127.0.0.1", 82)) as other:
        c = ns.connect(("127.0.0.1", 81))
        s = l.accept()[0]
        port = c.getsockname()[1]
        sub.until(lambda e: live.find(e, "tcp_established", dest_port=81), "a connection")
        step_clock(hours * 3600)
        c.sendall(b"x" * 10)
        s.recv(10)
        c.close()
        s.recv(1)
        s.close()
        over = sub.until(lambda e: live.find(e, "tcp_close", src_port=port), "its close")
        silent = ns.connect(("127.0.0.1", 82)), other.accept()[0]
        idle = sub.until(lambda e: live.find(e, "tcp_close", dest_port=82),
                         "the close of a silent one")
        later = confined.is_watched(sub, ns, 83)
        for x in silent:
            x.close()
    if hours < 0:
        tap.equal(over["tcp"]["reason"], "fin", f"{what}: a connection that was open ends as it did")
        tap.equal(over["flow"]["payload_toserver"], 10, f"{what}: and is counted")
    else:
        tap.equal(over["tcp"]["reason"], "idle", f"{what}: a connection has been silent since then")
    tap.equal(idle["tcp"]["reason"], "idle", f"{what}: one that is silent is forgotten in time")
    tap.equal(later["tcp"]["reason"], "fin", f"{what}: a new one is told as ever")
    tap.ok((later["timestamp"] > before["timestamp"]) == (hours > 0),
           f"{what}: events have the new time")
    stats = newest_stats(sub, newest_stats(sub, later))["decoders"][0]
    tap.equal((stats["drops"], stats["lost"]), (0, 0),
              f"{what}: stats go on, and nothing was lost")
    tap.equal(d.stop(), 0, f"{what}: status 0")
    tap.ok(not sub.to_end(), f"{what}: every line is right", sub.checker.errors)


STEPS = (storm, no_descriptors, standstill, renamed, moved, starved, clock)

if os.getpid() == 1:
    uml.init(there_and_back)
else:
    live.need("ip", "tc", "prlimit")
    for path in (LOAD, uml.XSTATE, twins.UNSTAMP, f"{live.ROOT}/build/deb/built"):
        if not os.path.exists(path):
            tap.ok(False, f"built: {path}")
            tap.done()
    for step in STEPS:
        if not sys.argv[1:] or step.__name__ in sys.argv[1:]:
            with live.guarded(step.__name__):
                step()
    tap.done()
