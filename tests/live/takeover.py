#!/usr/bin/python3
"""The daemon is killed in the middle of heavy traffic, again and again, beside another one on the same
interface that nobody disturbs: both tell the same events, under the same flow ids, and count the same.

The same: each line is compared but for its seq.  Both see each frame with the same timestamp, since
somebody (we) wants timestamps of the kernel; else each packet socket takes its own."""
import collections
import json
import os
import random
import signal
import socket
import struct
import subprocess
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../support"))
import events
import fdstore
import live
import tap

GEN = os.environ.get("GEN", os.path.join(live.ROOT, "build/tests/gen"))
KILLS = int(os.environ.get("KILLS", "25"))
CONNECTIONS = int(os.environ.get("CONNECTIONS", "8000"))
LOAD = ("--segs 4 --payload 100 --request 40 -w 2000 --ipv6 20 --refused 5 --aborted 7 --fin3 50 "
        "--reuse 10").split()
RING = {"ring_size": "64M", "ring_block_size": "128K", "queue_size": "256M", "event_ring_size": 262144}
SO_TIMESTAMP = 29


def frames(seed):
    path = os.path.join(live.tmpdir(), "load.pcap")
    subprocess.run([GEN, *LOAD, "-n", str(CONNECTIONS), "--seed", str(seed), "-o", path], check=True,
                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    with open(path, "rb") as f:
        data = f.read()
    os.unlink(path)
    at, out = 24, []
    while at < len(data):
        n, = struct.unpack_from("<I", data, at + 8)
        out.append(data[at + 16:at + 16 + n])
        at += 16 + n
    return out


class Sender:
    """Sends frames from a process of its own, bursts with a pause in between."""

    def __init__(self, ns, interface, load, pause):
        self.pid = os.fork()
        if self.pid == 0:
            live.die_with_parent()
            live._call("setns", ns.fd, live.CLONE_NEWNET)
            s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
            s.bind((interface, 0))
            for i, frame in enumerate(load):
                s.send(frame)
                if i % 256 == 255:
                    time.sleep(pause)
            os._exit(0)

    def over(self, wait=False):
        if self.pid and os.waitpid(self.pid, 0 if wait else os.WNOHANG)[0]:
            self.pid = 0
        return not self.pid


class Reader(threading.Thread):
    def __init__(self, path):
        super().__init__(daemon=True)
        self.s = socket.socket(socket.AF_UNIX)
        self.s.connect(path)
        self.parts = []
        self.start()

    def run(self):
        while data := self.s.recv(1 << 20):
            self.parts.append(data)

    def octets(self):
        return sum(map(len, self.parts))

    def to_end(self):
        self.join(live.DEADLINE)
        return b"".join(self.parts).splitlines()


def settle(*readers):
    """Until nothing comes any more."""
    before, quiet = -1, 0
    while quiet < 10:
        now = sum(r.octets() for r in readers)
        quiet = quiet + 1 if now == before else 0
        before = now
        time.sleep(0.05)


def end_somewhere(m, rng):
    way = rng.choice(["kill", "kill", "decoder", "decoder", "decoder", "main", "stop", "abort", "early"])
    if way == "early":
        time.sleep(rng.random() * 0.05)
        m.end()
        return way
    live.wait_until(m.is_ready, "the daemon to be ready")
    time.sleep(rng.random() * 0.05)
    if way == "kill":
        m.end()
    elif way == "decoder":
        m.end_decoder_after(rng.randrange(3000), rng.randrange(4))
    elif way == "main":
        m.end_after(rng.randrange(1000))
    else:
        m.end(signal.SIGTERM if way == "stop" else signal.SIGABRT)
    return way


def told(lines):
    """(what was told of connections, the last stats)."""
    said, stats = collections.Counter(), {}
    for line in lines:
        e = json.loads(line)
        e.pop("seq", None)
        if e.get("tcp", {}).get("reason") == "shutdown":
            del e["timestamp"]  # each at its own
        if e["event_type"].startswith("tcp_") or e["event_type"] == "capture_loss":
            said[json.dumps(e, sort_keys=True)] += 1
        elif e["event_type"] == "stats":
            stats = e
    return said, stats


def sums(stats):
    """What the decoders counted, all together, but for what depends on who has a connection."""
    out = collections.Counter()
    for d in stats.get("decoders", []):
        for k, v in d.items():
            for kk, vv in (v.items() if isinstance(v, dict) else [("", v)]):
                if isinstance(vv, int) and not isinstance(vv, bool):
                    out[f"{k}.{kk}"] += vv
    return {k: v for k, v in out.items() if not k.startswith(("decoder.", "kernel_freezes", "freezes"))}


def take_over(what, near, far, seed, **options):
    rng = random.Random(seed)
    alone = fdstore.Manager(far, "sb", store=False, **RING, **options)
    m = fdstore.Manager(far, "sb", **RING, **options)
    for d in (alone, m):
        d.start()
    readers = [Reader(alone.path), Reader(m.path)]
    time.sleep(0.2)
    load = frames(seed)
    sender, ways = Sender(near, "sa", load, 0.002), collections.Counter()
    for _ in range(KILLS):
        if sender.over():
            break
        ways[end_somewhere(m, rng)] += 1
        m.start(ready=False)
    sender.over(wait=True)
    live.wait_until(m.is_ready, "the daemon to be ready")
    settle(*readers)
    for d in (alone, m):
        d.end(signal.SIGINT)
    (want, calm), (got, torn) = (told(r.to_end()) for r in readers)
    print(f"# {what}: {len(load)} frames, {sum(want.values())} events, ended: {dict(ways)}")
    checker = events.Checker()
    for line in b"".join(readers[1].parts).splitlines():
        checker.feed(line)
    checker.end()
    tap.ok(not checker.errors, f"{what}: one stream, all of it right", *checker.errors[:5])
    missing, extra = list((want - got).elements()), list((got - want).elements())
    tap.ok(not missing, f"{what}: nothing is missing that the undisturbed one tells", len(missing),
           *missing[:3])
    tap.ok(not extra, f"{what}: nothing is told twice, or otherwise", len(extra), *extra[:3])
    tap.ok(sum(want.values()) > 3 * CONNECTIONS, f"{what}: and that is a lot", sum(want.values()))
    tap.equal(sums(torn), sums(calm), f"{what}: both have counted the same")
    tap.ok(sum(ways.values()) > 5 and ways["decoder"], f"{what}: it was ended in the midst of it", ways)
    for d in (alone, m):
        d.empty()


live.need("ip")
seed = int(os.environ.get("SEED", "1"))
print(f"# seed {seed} (SEED=... replays)")
near, far = live.veth_pair("sa", "sb")
stamps = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
stamps.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMP, 1)
with live.guarded("one decoder"):
    take_over("one decoder", near, far, seed)
with live.guarded("three decoders"):
    take_over("three decoders", near, far, seed + 1, decoders=3)
with live.guarded("control"):
    take_over("control", near, far, seed + 2, mode="control")
tap.done()
