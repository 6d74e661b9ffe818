#!/usr/bin/python3
"""Reloads that change the packet ring or its filter, amid traffic, beside another daemon on the same
interface that nobody disturbs: both must tell the same of every connection, to the octet, but for seq.
The same while the daemon is killed in the midst of it.

Both see each frame with the same timestamp: see twins.one_clock()."""
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
DEVICE = "sb"
BASE = ("ring-size = 16M\nblock-timeout = 10ms\n[events]\nqueue-size = 64M\nevent-ring-size = 65536\n"
        "stats-interval = 0\n[tracking]\ntimeout-established = 1h\n")
CHANGES = ["decap = yes\n", "", "icmp = yes\n", "decap = yes\nicmp = yes\n", "ring-block-size = 256K\n",
           "promiscuous = yes\n", ""]
NEW_RING = f"{DEVICE} has its new ring"


class Daemon(fdstore.Manager):
    def __init__(self, ns, store=True, decoders=1):
        self.decoders = decoders
        super().__init__(ns, DEVICE, store=store, decoders=decoders)
        self.argv = [a for a in self.argv if "stats-interval" not in a]
        self.conf = os.path.join(self.tmp, "conf")
        self.argv.append(f"--config={self.conf}")
        self.configure("")

    def configure(self, text):
        with open(self.conf, "w") as f:
            f.write("[capture]\n" + text + BASE)

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


def seq_settled(recorder):
    """Until nothing comes any more."""
    before, quiet = -1, 0
    while quiet < 10:
        quiet = quiet + 1 if recorder.octets == before else 0
        before = recorder.octets
        time.sleep(0.05)


class Scene:
    def __init__(self, near, far, run, **options):
        self.dir = live.tmpdir()
        self.calm, self.d = Daemon(far, store=False), Daemon(far, **options)
        for d in (self.calm, self.d):
            d.start()
        self.both = [twins.Recorder(n, d.path, self.dir) for n, d in (("alone", self.calm), ("reloaded", self.d))]
        self.load = near.popen(LOAD, near.path, far.path, "sa", RATE, "300", "1", str(run), stdin=-1, stdout=-1,
                               text=True)
        time.sleep(0.3)

    def compare(self, what, least=300):
        done = self.load.communicate(timeout=2 * live.DEADLINE)[0]
        for r in self.both:
            seq_settled(r)
        for d in (self.calm, self.d):
            d.end(signal.SIGINT)
        for r in self.both:
            live.wait_until(lambda r=r: r.ended, "the end of the stream")
        alone, other = (twins.Stream(r, 1 << 62) for r in self.both)
        tap.ok(not other.checker.errors, f"{what}: one stream, all of it right", *other.checker.errors[:5])
        tap.equal(other.of_kind("capture_loss"), [], f"{what}: no loss")
        compared, first, differ = twins.differences(alone, other, [])
        print(f"# {what}: {compared} connections compared; the load says {done.strip()[:300]}")
        tap.ok(compared > least, f"{what}: there was something to compare", compared)
        tap.ok(not differ, f"{what}: of all connections the same is told, to the octet", differ, *first)
        for d in (self.calm, self.d):
            d.empty()


def rings_change(near, far, what, run, **options):
    s = Scene(near, far, run, **options)
    pid = s.d.p.pid
    for i in range(RELOADS):
        s.d.reload(CHANGES[i % len(CHANGES)])
        time.sleep(0.1)
    tap.equal(s.d.whole_log().count(NEW_RING), RELOADS, f"{what}: each reload made a new ring")
    tap.ok(s.d.p.poll() is None and s.d.p.pid == pid, f"{what}: the process is the same")
    if s.d.store:
        rings = [n for n in s.d.names() if n.startswith(("ring-", "twin-"))]
        tap.equal(len(rings), s.d.decoders, f"{what}: each decoder has one ring in the store")
    s.compare(what)


def bad_file(near, far):
    s = Scene(near, far, 7)
    s.d.reload("decap = yes\nring-sise = 3\n", says="unknown option 'ring-sise'")
    tap.ok(f"{s.d.conf}:3: unknown option 'ring-sise'" in s.d.whole_log(),
           "a bad file is told by file and line, and the daemon is READY")
    s.d.reload("decoders = 3\nicmp = yes\n", says="keeps the ring that it has")
    tap.ok("decoders: a new value counts from the next start on" in s.d.whole_log(),
           "rings that the decoders cannot share are not taken, and the daemon is READY")
    tap.equal(s.d.whole_log().count(NEW_RING), 0, "neither made a new ring")
    s.d.reload("icmp = yes\n")
    tap.ok(True, "the next file that is right does")
    s.compare("bad files", 50)


def killed(near, far):
    rng = random.Random(int(os.environ.get("SEED", "1")))
    s = Scene(near, far, 8)
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
    s.compare("killed in the midst of it")


live.need("ip", "tc")
near, far = live.veth_pair("sa", DEVICE)
near.ip("addr add fd00:1::1/64 dev sa nodad")
far.ip(f"addr add fd00:1::2/64 dev {DEVICE} nodad")
with twins.one_clock(near, "sa"):
    with live.guarded("rings change"):
        rings_change(near, far, "10 reloads", 1)
    with live.guarded("several decoders"):
        rings_change(near, far, "three decoders", 2, decoders=3)
    with live.guarded("no store"):
        rings_change(near, far, "nothing is kept", 3, store=False)
    with live.guarded("bad file"):
        bad_file(near, far)
    with live.guarded("killed"):
        killed(near, far)
tap.done()
