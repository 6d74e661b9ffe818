#!/usr/bin/python3
"""Reloads that change the packet ring or its filter, amid traffic, beside another daemon on the same
interface that nobody disturbs: both must tell the same of every connection, to the octet, but for seq,
except where a loss of up to a millisecond is told, which each change of the ring may cost.  The same
while the daemon is killed in the midst of it.

Both see each frame with the same timestamp: see twins.one_clock()."""
import collections
import json
import os
import random
import signal
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../support"))
import fdstore
import live
import tap
import twins

LOAD = os.environ.get("LOAD", os.path.join(live.ROOT, "build/tests/load"))
RATE = os.environ.get("RATE", "8000")
RELOADS = int(os.environ.get("RELOADS", "10"))
KILLS = int(os.environ.get("KILLS", "12"))
TURMOIL = float(os.environ.get("TURMOIL", "15"))  # seconds
CONNECTIONS = 300  # a second; fewer where the turmoil is long, since all are compared
MOST_DEVICES = 8  # at once; each takes a ring
DEVICE, PEER, SILENT = "sa", "sb", "10.0.1.3"
# 512 blocks of 10 ms last for 5 s without a process.
BASE = ("ring-size = 64M\nblock-timeout = 10ms\n[events]\nqueue-size = 64M\n"
        "stats-interval = 1s\n[tracking]\n" +
        "".join(f"{k} = {v}\n" for k, v in twins.TIMEOUTS.items()))
# Each another one than before it; what icmp is by default depends on the number of decoders.
CHANGES = ["decap = yes\nicmp = no\n", "icmp = no\n", "icmp = yes\n", "decap = yes\nicmp = yes\n",
           "ring-block-size = 256K\nicmp = no\n", "promiscuous = yes\nicmp = no\n", "icmp = no\n"]
LONGEST_NS = 100_000_000  # the gap, or what was read of an old ring after it before a kill
NEW_RING = f"{DEVICE} has its new ring"


class Daemon(fdstore.Manager):
    def __init__(self, ns, store=True, decoders=1, interface=DEVICE):
        self.decoders = decoders
        super().__init__(ns, interface, store=store)
        self.argv = [a for a in self.argv if "stats-interval" not in a]
        self.conf = os.path.join(self.tmp, "conf")
        self.argv.append(f"--config={self.conf}")
        self.configure("")

    def configure(self, text):
        decoders = "" if "decoders" in text else f"decoders = {self.decoders}\n"
        live.replace(self.conf, "[capture]\n" + text + decoders + BASE)

    def whole_log(self):
        with open(self.log, errors="replace") as f:
            return f.read()

    def reload(self, text, says=NEW_RING):
        before = self.whole_log().count(says)
        self.said.clear()
        self.configure(text)
        self.p.send_signal(signal.SIGHUP)
        live.wait_until(self.is_ready, "READY after the reload")
        live.wait_until(lambda: self.whole_log().count(says) > before, says)


def took(loss):
    return twins.events.time_ns(loss["to"]) - twins.events.time_ns(loss["from"])


class Scene:
    def __init__(self, run, connections=CONNECTIONS, **options):
        self.dir = live.tmpdir()
        self.calm, self.d = Daemon(near, store=False), Daemon(near, **options)
        for d in (self.calm, self.d):
            d.start()
        self.both = [twins.Recorder(n, d.path, self.dir).greeted() for n, d in
                     (("alone", self.calm), ("reloaded", self.d))]
        live.wait_until(lambda: self.d.readers() or not self.d.store, "the subscriber to be stored")
        self.load = near.popen(LOAD, near.path, far.path, DEVICE, RATE, str(connections), "1", str(run),
                               stdin=-1, stdout=-1, text=True)
        time.sleep(0.3)

    def compare(self, what, switches, least=300):
        done = self.load.communicate(timeout=2 * live.DEADLINE)[0]
        for r in self.both:
            with live.guarded(what):
                twins.await_quiet(r)
        for d in (self.calm, self.d):
            d.end(signal.SIGINT)
        for r in self.both:
            live.wait_until(lambda r=r: r.ended, "the end of the stream")
        alone, other = (twins.Stream(r, 1 << 62) for r in self.both)
        tap.ok(not other.checker.errors, f"{what}: one stream, all of it right", *other.checker.errors[:5])
        losses = other.of_kind("capture_loss")
        odd = [e for e in losses if e.get("reason") != "ring_switch" or took(e) > LONGEST_NS]
        tap.equal(odd, [], f"{what}: no loss but between two rings, of a moment")
        tap.ok(len(losses) <= switches * self.d.decoders, f"{what}: at most one for each", len(losses))
        compared, first, differ = twins.differences(alone, other, losses)
        print(f"# {what}: {compared} connections compared; the load says {done.strip()[:300]}")
        tap.ok(compared > least, f"{what}: there was something to compare", compared)
        tap.ok(not differ, f"{what}: of all connections the same is told, to the octet", differ, *first)
        for d in (self.calm, self.d):
            d.empty()


def rings_change(what, run, **options):
    s = Scene(run, **options)
    pid = s.d.p.pid
    for i in range(RELOADS):
        s.d.reload(CHANGES[i % len(CHANGES)])
        time.sleep(0.1)
    tap.equal(s.d.whole_log().count(NEW_RING), RELOADS, f"{what}: each reload made a new ring")
    tap.ok(s.d.p.poll() is None and s.d.p.pid == pid, f"{what}: the process is the same")
    if s.d.store:
        rings = [n for n in s.d.names() if n.startswith(("ring-", "twin-"))]
        tap.equal(len(rings), s.d.decoders, f"{what}: each decoder has one ring in the store")
    s.compare(what, RELOADS)


def bad_file():
    s = Scene(7)
    s.d.reload("decap = yes\nring-sise = 3\n", says="unknown option 'ring-sise'")
    tap.ok(f"{s.d.conf}:3: unknown option 'ring-sise'" in s.d.whole_log(),
           "a bad file is told by file and line, and the daemon is READY")
    s.d.reload("decoders = 3\nring-block-size = 256K\n", says="keeps its old ring")
    tap.ok("decoders: the new value takes effect at the next start" in s.d.whole_log(),
           "rings that the decoders cannot share are not taken, and the daemon is READY")
    tap.equal(s.d.whole_log().count(NEW_RING), 0, "neither made a new ring")
    s.d.reload("icmp = no\n")
    tap.ok(True, "the next file that is right does")
    s.compare("bad files", 1, 50)


def often():
    """Reloads that come faster than stats are due."""
    d = Daemon(near, store=False)
    d.start()
    sub = live.Subscriber(d.path)

    def stats_after_a_reload(seen):
        d.reload("", says="Configuration read again")
        return live.find(seen, "stats")

    sub.until(stats_after_a_reload, "stats")
    tap.ok(not sub.checker.errors, "reloads in a row do not put off stats", sub.checker.errors)
    d.end(signal.SIGINT)


def killed():
    rng = random.Random(int(os.environ.get("SEED", "1")))
    s = Scene(8)
    for i in range(KILLS):
        s.d.configure(CHANGES[i % len(CHANGES)])
        s.d.said.clear()
        s.d.p.send_signal(signal.SIGHUP)
        time.sleep(rng.random() * 0.4)
        if i % 2:
            s.d.end_decoder_after(rng.randrange(3000))
        else:
            s.d.end(rng.choice([signal.SIGKILL, signal.SIGTERM]))
        s.d.start()
    live.wait_until(lambda: len([n for n in s.d.names() if n.startswith(("ring-", "twin-"))]) == 1,
                    "the last turn to end")
    s.d.reload("decap = yes\nring-block-size = 512K\n")
    tap.ok(True, "after that many ends in the midst of it a reload makes a new ring")
    with open(s.both[1].file) as f:
        resets = [line for line in f if '"restart"' in line and '"reset"' in line]
    tap.equal(resets, [], "no table began anew")
    s.compare("killed in the midst of it", 2 * KILLS)


def turmoil():
    """All at once and at random; TURMOIL= seconds."""
    seed = int(os.environ.get("SEED", str(time.time_ns() % 100000)))
    rng = random.Random(seed)
    s = Scene(9, connections=min(CONNECTIONS, int(60_000 / TURMOIL)), interface=f"{DEVICE},sx*")
    devices, done = [], collections.Counter()
    until = time.monotonic() + TURMOIL
    while time.monotonic() < until:
        what = rng.choice(["kill", "stop", "reload", "reload", "mistake", "add", "add", "remove"])
        if what == "add" and len(devices) >= MOST_DEVICES:
            what = "remove"
        done[what] += 1
        time.sleep(rng.random() * 0.5)
        if what in ("reload", "mistake"):
            s.d.configure("ring-sise = 3\n" if what == "mistake" else rng.choice(CHANGES))
            s.d.p.send_signal(signal.SIGHUP)
        elif what == "add":
            devices.append(f"sx{done[what]}")
            near.ip(f"link add {devices[-1]} type veth peer name sy{done[what]}")
            near.ip(f"link set sy{done[what]} up")
        elif what == "remove" and devices:
            near.ip(f"link del {devices.pop(rng.randrange(len(devices)))}")
        elif what in ("kill", "stop"):
            s.d.configure(rng.choice(CHANGES))
            s.d.end(signal.SIGKILL if what == "kill" else signal.SIGTERM)
            s.d.said.clear()
            s.d.start()
    for device in devices:
        near.ip(f"link del {device}")
    print(f"# seed {seed}: {dict(done)}")
    with open(s.both[1].file) as f:
        restarts = [json.loads(line) for line in f if '"event_type":"restart"' in line]
    # One that appeared while no process ran has new tables, too.
    resets = [e for e in restarts if DEVICE in e.get("reset", []) or "skip" in str(e.get("recovery"))]
    tap.equal(resets, [], "turmoil: no table began anew, and no frame was skipped")
    s.compare("turmoil", 2 * sum(done.values()))


live.need("ip", "tc")
near, far = live.veth_pair(DEVICE, PEER)
mac = json.loads(far.run("ip", "-j", "link", "show", PEER))[0]["address"]
near.ip(f"neigh add {SILENT} lladdr {mac} dev {DEVICE}")
with twins.one_clock(far, PEER):
    with live.guarded("rings change"):
        rings_change("10 reloads", 1)
    with live.guarded("several decoders"):
        rings_change("three decoders", 2, decoders=3)
    with live.guarded("no store"):
        rings_change("nothing is kept", 3, store=False)
    with live.guarded("bad file"):
        bad_file()
    with live.guarded("often"):
        often()
    with live.guarded("killed"):
        killed()
    with live.guarded("turmoil"):
        turmoil()
tap.done()
