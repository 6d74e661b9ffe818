#!/usr/bin/python3
"""Restart without loss, under a real systemd: the service is restarted, killed, upgraded, hung and
reloaded under traffic, beside a second daemon on the same interface that is left alone.  What
both tell of each connection must be the same, octet for octet; a subscriber that stayed connected
must have every number once; what the kernel dropped in a hang must be told.

    restart.py                        a short run, of `make check`
    restart.py --full                 the whole of it: `make restart-proof`
    restart.py --plan 'kill*3 restart' --rate 20000 --connections 500
    restart.py --plan '' --seconds 20     nobody is disturbed: do both agree?

SEED=N plays the same pauses again; the moments at which they end are the machine's.  With
KEEP=DIR the streams stay in that directory.
"""
import argparse
import contextlib
import json
import os
import random
import re
import signal
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../support"))
import confined
import inject
import live
import nspawn
import tap
import twins
from nspawn import INSTALL, UNIT

LOAD = os.path.join(live.ROOT, "build/tests/load")
DEVICE, PEER, SILENT = "veth-l", "veth-m", "10.0.1.3"
NEXT_DEB = "/root/synfind-next.deb"
WATCHDOG_S = 9

# A hang is to overflow the ring, a restart is not: 0.1 s, or seconds on a busy machine.  The kernel
# hands over a block when it is full, or after its time with whatever it holds: a stall uses up a
# block of the ring each time.
RING_S = 6.0
BLOCK, BLOCK_S = 128 << 10, 0.02
FRAME = 200  # octets of the ring, about
ENOUGH = 500  # connections, where a loss leaves out an unknown part of them

# Phases, each with traffic of its own: a connection that lives through a loss cannot be compared.
SHORT = "restart kill reload restart reexec killtwice upgrade restart / hang"
FULL = ("restart*3 kill*2 reload restart*3 killtwice reexec restart*2 upgrade kill restart*2 reload "
        "/ hang / kill hangall restart")

# How each kind of load.c ends, by the first port of its kind; not the ones that vary.
PORT, PORTS = 10000, 16
ENDS = {"client_fin": ("fin", "client"), "server_fin": ("fin", "server"),
        "client_rst": ("rst", "client"), "server_rst": ("rst", "server"),
        "half_client": ("fin", "client"), "half_server": ("fin", "server"),
        "slow_client_fin": ("fin", "client"), "slow_server_fin": ("fin", "server"),
        "slow_client_rst": ("rst", "client"), "slow_server_rst": ("rst", "server"),
        "slow_half_client": ("fin", "client"), "slow_half_server": ("fin", "server"),
        "refused": ("refused", "server"), "unanswered": ("unanswered", "none"), "silent": None,
        "long": ("fin", "client")}


def arguments():
    p = argparse.ArgumentParser()
    p.add_argument("--full", action="store_true")
    p.add_argument("--plan")
    p.add_argument("--rate", type=int, help="packets per second, on the interface")
    p.add_argument("--connections", type=int, help="new ones per second")
    p.add_argument("--seconds", type=float, default=0, help="of traffic, at least")
    p.add_argument("--default-ring", action="store_true", help="as the package has it")
    a = p.parse_args()
    a.rate = a.rate or (50_000 if a.full else 20_000)
    a.connections = a.connections or (1_000 if a.full else 400)
    a.plan = FULL if a.full and a.plan is None else SHORT if a.plan is None else a.plan
    a.phases = [[kind for word in phase.split() for kind, _, n in [word.partition("*")]
                 for _ in range(int(n or 1))] for phase in a.plan.split("/")]
    unknown = {kind for phase in a.phases for kind in phase} - set(DISTURBANCES)
    if unknown:
        p.error(f"no such step: {', '.join(sorted(unknown))}")
    return a


def options(a):
    """Of both daemons, by section."""
    blocks = round(RING_S * max(1 / BLOCK_S, a.rate * FRAME / BLOCK))
    ring = {} if a.default_ring else {
        "ring-size": str(blocks * BLOCK), "ring-block-size": str(BLOCK),
        "block-timeout": f"{BLOCK_S * 1000:.0f}ms"}
    return {"capture": {"interface": DEVICE, **ring},
            "tracking": twins.TIMEOUTS,
            "events": {"queue-size": "64M", "stats-interval": "1s"}}


# ---- the machine ----

def prepare(root):
    """The package, and the same as another version."""
    nspawn.put_package(root)
    tree = f"{root}/root/next"
    subprocess.run(["dpkg-deb", "-R", root + nspawn.DEB, tree], check=True)
    with open(f"{tree}/DEBIAN/control") as f:
        control = re.sub(r"^(Version: .*)$", r"\1+next", f.read(), flags=re.M)
    with open(f"{tree}/DEBIAN/control", "w") as f:
        f.write(control)
    subprocess.run(["dpkg-deb", "--root-owner-group", "-b", tree, root + NEXT_DEB], check=True,
                   stdout=subprocess.DEVNULL)


def start(s, a):
    text = "".join(f"[{section}]\n" + "".join(f"{k} = {v}\n" for k, v in values.items())
                   for section, values in options(a).items())
    s.m.run(*INSTALL)
    s.configure(text)
    s.m.run("mkdir", "-p", f"/run/systemd/system/{UNIT}.d")
    s.m.run("sh", "-c", f"printf '[Service]\\nWatchdogSec={WATCHDOG_S}s\\n' "
            f">/run/systemd/system/{UNIT}.d/t.conf")
    s.m.run("systemctl", "daemon-reload")
    # From here on nothing but a disturbance ends it, whatever the package's installation did.
    s.m.run("systemctl", "stop", UNIT, nspawn.OPENER)
    s.m.run("systemctl", "start", UNIT)
    live.wait_until(s.active, "the service to run")


class Run:
    """The traffic, both observers, and who reads them."""

    def __init__(self, service, server, a, seed, phase):
        self.s = service
        self.a = a
        self.steps = a.phases[phase]
        self.dice = random.Random(seed + phase)
        self.dir = os.path.join(os.environ.get("KEEP") or live.tmpdir(), str(phase))
        os.makedirs(self.dir, exist_ok=True)
        self.late = []
        self.restarts = 0
        self.hangs = []  # (from, to), ns since 1970
        ns = service.m.ns
        same = {k.replace("-", "_"): v for section in options(a).values()
                for k, v in section.items()}
        self.observer = live.Synfind(ns, **same | {
            "ring_size": "512M", "ring_block_size": "128K", "queue_size": "256M"})
        self.alone = twins.Recorder("alone", self.observer.path, self.dir)
        self.kept = service.stored() + 2  # and two subscribers
        self.fast = twins.Recorder("service", service.path, self.dir)
        self.slow = twins.Recorder("slow", service.path, self.dir)
        for r in (self.alone, self.fast, self.slow):
            live.wait_until(lambda: r.newest("stats"), f"stats at {r.name}")
        self.await_stored()
        self.before = self.fast.newest("stats")["decoders"][0]  # earlier phases had traffic as well
        self.load = ns.popen(LOAD, ns.path, server.path, DEVICE, str(a.rate), str(a.connections),
                             str(seed), str(phase), stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.began = time.monotonic()

    def pause(self, least, most):
        time.sleep(self.dice.uniform(least, most))

    def await_stored(self):
        """A restart disconnects who has just connected."""
        live.wait_until(lambda: self.s.stored() >= self.kept + len(self.late),
                        "the subscribers to be stored")

    def connect_meanwhile(self):
        """While nobody serves: systemd has the socket."""
        self.late.append(twins.Recorder(f"late-{len(self.late)}", self.s.path, self.dir))

    def disturb(self):
        for n, kind in enumerate(self.steps):
            self.pause(0.3, 1.2)
            self.slow.sleep()
            begun = time.monotonic()
            with live.guarded(kind):
                DISTURBANCES[kind](self)
            tap.diag(f"{kind}: {time.monotonic() - begun:.2f} s")
            if n % 2:
                self.slow.wake()
        self.slow.wake()
        self.pause(2, 3)
        time.sleep(max(0, self.a.seconds - (time.monotonic() - self.began)))

    def end(self):
        """Ends the traffic; returns what the load says of it, once all connections are over."""
        done = json.loads(self.load.communicate(timeout=2 * live.DEADLINE)[0])
        for r in (self.alone, self.fast):
            with live.guarded("the end"):
                twins.await_quiet(r)
        return done


def back(r, old):
    r.s.new_pid(old)
    r.await_stored()
    r.restarts += 1


def restart(r):
    old = r.s.pid()
    p = r.s.m.popen("systemctl", "restart", UNIT)
    live.wait_until(lambda: r.s.m.pid(UNIT) != old, "the old process to end")
    r.connect_meanwhile()
    tap.ok(p.wait(timeout=live.DEADLINE) == 0, "systemctl restart")
    back(r, old)


def kill(r):
    old = r.s.pid()
    r.pause(0, 0.05)
    os.kill(old, signal.SIGKILL)
    r.connect_meanwhile()
    back(r, old)


def kill_twice(r):
    """Again, while it takes over from the one killed before."""
    old = r.s.pid()
    os.kill(old, signal.SIGKILL)
    new = live.wait_until(lambda: (lambda p: p if p != old else None)(r.s.m.pid(UNIT)),
                          "another process")
    r.pause(0, 0.05)
    with contextlib.suppress(ProcessLookupError):
        os.kill(new, signal.SIGKILL)
    r.restarts += 1  # at least one of the two came to be told
    r.s.new_pid(new)
    r.await_stored()


def upgrade(r):
    old = r.s.pid()
    r.s.m.run(*INSTALL[:-1], NEXT_DEB)
    back(r, old)
    version = r.s.m.run("dpkg-query", "-W", "-f", "${Version}", "synfind")
    tap.ok(version.endswith("+next"), "another version is installed", version)


def is_dead(pid, thread):
    try:
        return confined.status(pid, thread)["State"][0] == "Z"
    except OSError:
        return True


def hang(r):
    """One decoder stands still; the watchdog sees it.  Its ring overflows."""
    if not inject.AVAILABLE:
        hang_all(r)
        return
    old = r.s.pid()
    begun = time.time_ns()
    thread = max(confined.threads(old))
    with inject.stopped(thread):  # its process cannot be gone before this is over
        live.wait_until(lambda: is_dead(old, thread), "the watchdog")
    back(r, old)
    r.hangs.append((begun, time.time_ns() + 10**9))  # it may be told a little later


def hang_all(r):
    old = r.s.pid()
    begun = time.time_ns()
    os.kill(old, signal.SIGSTOP)
    live.wait_until(lambda: r.s.m.pid(UNIT) != old, "the watchdog")
    back(r, old)
    r.hangs.append((begun, time.time_ns() + 10**9))  # it may be told a little later


def reload(r):
    old = r.s.pid()
    r.s.m.run("systemctl", "reload", UNIT)
    tap.equal(r.s.pid(), old, "reload: the process is the same")


def reexec(r):
    """systemd itself begins anew, and has to keep what it stores; then it is needed."""
    old = r.s.pid()
    r.s.m.run("systemctl", "daemon-reexec")
    tap.equal(r.s.pid(), old, "daemon-reexec: the process is the same")
    kill(r)


DISTURBANCES = {"restart": restart, "kill": kill, "killtwice": kill_twice, "upgrade": upgrade,
                "hang": hang, "hangall": hang_all, "reload": reload, "reexec": reexec}


# ---- what must hold ----

NO_STATS = {"seq": 1 << 62, "decoders": [{"packets": 0, "drops": 0, "lost": 0}]}  # read all there is


def judge(r, done):
    for recorder in (r.alone, r.fast, r.slow, *r.late):
        tap.ok(not recorder.ended, f"the subscriber '{recorder.name}' stayed connected")
    totals = {x: x.newest("stats") or NO_STATS for x in (r.alone, r.fast)}
    for x in (r.slow, *r.late):
        with contextlib.suppress(live.Timeout):
            live.wait_until(lambda: x.ended or x.last_seq() >= totals[r.fast]["seq"],
                            f"'{x.name}' to have it all")
    for x in (r.alone, r.fast, r.slow, *r.late):
        x.close()
    alone, service = (twins.Stream(x, totals[x]["seq"]) for x in (r.alone, r.fast))
    load_is_real(r, done, alone)
    windows = losses(r, service, totals)
    stream_is_whole(r, alone, service)
    same_connections(alone, service, windows)


def load_is_real(r, done, alone):
    seconds = done["ms"] / 1000
    tap.diag(f"{done['packets']} packets in {seconds:.1f} s, the slowest second had "
             f"{done['least']}; {done['alive_max']} connections at once; "
             f"{sum(done['connections'].values())} in all: {done['connections']}")
    tap.equal(done["failed"], 0, "no connection of the load failed")
    if r.a.full:  # which is to say what holds at that pace; else a busy machine may be slower
        tap.ok(done["packets"] > 0.9 * r.a.rate * seconds,
               "the traffic has the pace that was wanted", done)
    wrong = []
    for i, (kind, how) in enumerate(ENDS.items()):
        ports = range(PORT + i * PORTS, PORT + (i + 1) * PORTS)
        got = {k[1:]: n for k, n in alone.ends.items() if k[0] in ports}
        if how and sum(got.values()) and got != {how: done["connections"][kind]}:
            wrong.append(f"{kind}: {got}, made were {done['connections'][kind]}")
        if done["connections"][kind] and not got:
            wrong.append(f"{kind}: none was told")
    tap.ok(not wrong, "who was left alone tells each connection as it was made", wrong)


def losses(r, service, totals):
    """Checks what is told of them; returns the windows."""
    told = service.of_kind("capture_loss")
    alone, disturbed = (totals[x]["decoders"][0] for x in (r.alone, r.fast))
    tap.equal((alone["drops"], alone["lost"]), (0, 0), "who was left alone missed nothing")
    dropped = alone["packets"] - (disturbed["packets"] - r.before["packets"])
    tap.equal((sum(e["count"] for e in told), disturbed["drops"] - r.before["drops"]),
              (dropped, dropped),
              f"the kernel dropped {dropped} frames of the service's: capture_loss and stats say so")
    outside = [e for e in told if not any(a <= twins.events.time_ns(e["to"]) <= b
                                          for a, b in r.hangs)]
    tap.ok(not outside, "but for a hang it dropped none", outside)
    if r.hangs:
        tap.ok(dropped, "in the hang the ring was full")
    return told


def stream_is_whole(r, alone, service):
    for x in (alone, service):
        tap.ok(not x.checker.errors, f"'{x.name}': every number once, every line right",
               x.checker.errors)
        tap.ok(not x.checker.lost, f"'{x.name}': no event is lost", x.checker.lost)
    for recorder in (r.slow, *r.late):
        why = twins.same_octets(recorder, service)
        tap.ok(not why, f"the subscriber '{recorder.name}' has the same octets from its hello on",
               why)
    runs = {twins.hello(x).get("run_id") for x in (r.fast, r.slow, *r.late)}
    tap.equal(len(runs), 1, "whoever connects when: it is the same run")
    told = service.of_kind("restart")
    kept = [e for e in told if e.get("tables") == "kept"]
    tap.ok(len(told) >= r.restarts and len(kept) == len(told),
           f"{r.restarts} restarts are told, each with its tables kept", told)


def same_connections(alone, service, windows):
    compared, first, differ = twins.differences(alone, service, windows)
    left_out = len(alone.tuples.keys() | service.tuples.keys()) - compared
    tap.diag(f"{compared} connections compared, {left_out} left out, which overlap a loss")
    tap.ok(compared >= (ENOUGH if windows else left_out), "so many that it means something")
    tap.ok(not differ, f"{compared} connections are told the same, octet for octet",
           f"{differ} are not", first)


def play(run):
    with live.guarded("disturbances"):
        run.disturb()
    with live.guarded("comparison"):
        judge(run, run.end())
    run.observer.stop()


def main():
    a = arguments()
    seed = int(os.environ.get("SEED") or random.SystemRandom().randrange(1, 10**6))
    tap.diag(f"SEED={seed} rate={a.rate} connections={a.connections} "
             f"{options(a)['capture']}: {a.plan}")
    nspawn.need("dpkg-deb", "tc")
    for path in (f"{live.ROOT}/build/deb/built", LOAD, twins.UNSTAMP):
        if not os.path.exists(path):
            tap.ok(False, f"built: {path}")
            tap.done()
    ns, server = live.Netns(), live.Netns()
    live.join(ns, server, DEVICE, PEER, 1)
    address = json.loads(server.run("ip", "-j", "link", "show", PEER))[0]["address"]
    ns.ip(f"neigh add {SILENT} lladdr {address} dev {DEVICE}")
    machine = nspawn.Machine(ns, prepare)
    try:
        service = nspawn.Service(machine)
        start(service, a)
        with twins.one_clock(server, PEER):
            for phase in range(len(a.phases)):
                play(Run(service, server, a, seed, phase))
        if tap.failed:
            tap.diag(machine.run("journalctl", "-u", "synfind*", "-n", "40", "--no-pager",
                                 check=False))
    finally:
        machine.close()
    tap.done()


main()
