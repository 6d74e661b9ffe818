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
import stories
import tap

GEN = os.environ.get("GEN", os.path.join(live.ROOT, "build/tests/gen"))
KILLS = int(os.environ.get("KILLS", "25"))
CONNECTIONS = int(os.environ.get("CONNECTIONS", "6000"))
LOAD = ("--segs 4 --payload 100 --request 40 -w 2000 --ipv6 20 --refused 5 --aborted 7 --fin3 50 "
        "--reuse 10").split()
# 512 blocks of 20 ms: on a busy machine several starts in a row can take seconds.
RING = {"ring_size": "64M", "ring_block_size": "128K", "block_timeout": "20ms", "queue_size": "256M",
        "event_ring_size": 262144,
        # Which ones are told at the limit depends on when the second turned.
        "anomalies_per_second": 1000000}
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
    said, stats, book = collections.Counter(), {}, stories.Book()
    for line in lines:
        e = json.loads(line)
        book.add(e)
        e.pop("seq", None)
        if e.get("tcp", {}).get("reason") == "shutdown":
            del e["timestamp"]  # each at its own
        if e["event_type"].startswith("tcp_") or e["event_type"] == "capture_loss":
            said[json.dumps(e, sort_keys=True)] += 1
        elif e["event_type"] == "stats":
            stats = e
    book.close()
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
    live.wait_until(m.readers, "the subscriber to be stored")
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
    torn, calm = sums(torn), sums(calm)
    differ = {k: (torn.get(k), n) for k, n in calm.items() if torn.get(k) != n
              and not (k.startswith("syn_flood") and "decoders" in options)}  # of each decoder
    tap.ok(calm and not differ, f"{what}: both have counted the same", differ)
    tap.ok(sum(ways.values()) > 2, f"{what}: it was ended in the midst of it", ways)
    for d in (alone, m):
        d.empty()


# ---- what is not taken over, or not as it was

def tables(m):
    return next(fd for n, fd in m.fds if n.startswith("tables-"))


def damage(at, what):
    def do(m):
        fd = tables(m)
        os.pwrite(fd, what, at if at >= 0 else os.fstat(fd).st_size + at)
    return do


def option(text):
    return lambda m: m.argv.append(text)


UNDO = 4 << 20  # decoder_state.c
ANEW = [  # what happened in between: does the packet ring go on?
    ("limits that are others", option("--max-connections=2000"), True),
    ("tables of another version", damage(8, b"\1" * 8), True),
    ("a transaction that was too long to be rolled back", damage(-UNDO, b"\xff" * 8), True),
    ("a log that cannot be", damage(-UNDO, b"\x04" + bytes(7)), True),
    ("a ring that was not kept", lambda m: m.forget("ring-0-0"), False),
    ("tables that were not kept", lambda m: m.forget("tables-0-0"), False),
    ("memory that is none", damage(0, b"?"), False),
]


def begins_anew(near, far, what, change, ring_goes_on):
    m = fdstore.Manager(far, "sb")
    m.start()
    s = m.subscribe()
    talk = live.Talk(near, far)
    s.until(lambda e: live.find(e, "tcp_established", src_port=talk.port), "the connection")
    m.end()
    talk.say()
    change(m)
    m.start()
    if not ring_goes_on:
        talk.say()
    restart = s.until(lambda e: live.find(e, "restart"), "the restart")
    # Mostly as `midstream`; but the block that its beginning was in may not have gone back yet.
    s.until(lambda e: live.find(e[e.index(restart):], "tcp_open", src_port=talk.port), "the connection, anew")
    tap.equal((restart["tables"], restart.get("reset")), ("reset", ["sb"]), f"{what}: that is told")
    tap.ok(True, f"{what}: what is still there is told anew"
           + (", from frames of the time when nobody was there" if ring_goes_on else ""))
    tap.equal(sorted(n for n in m.names() if n[:5] in ("table", "ring-")), ["ring-0-0", "tables-0-0"],
              f"{what}: what is kept now is the new one's")
    m.end()
    m.start()
    talk.close(wait=False)
    s.until(lambda e: live.find(e, "tcp_close", src_port=talk.port), "its end")
    tap.equal(live.find(s.events[s.events.index(restart) + 1:], "restart")["tables"], "kept",
              f"{what}: and that goes on")
    m.end()
    m.empty()


def interface_meanwhile():
    near, far = live.veth_pair("sa", "sb")
    m = fdstore.Manager(far, "sb")
    m.start()
    s = m.subscribe()
    talk = live.Talk(near, far)
    s.until(lambda e: live.find(e, "tcp_established", src_port=talk.port), "the connection")
    for state in ("down", "up"):
        m.end()
        far.ip(f"link set sb {state}")
        m.start()
        s.until(lambda e: live.find(e, "iface", state=state), f"that it is {state}")
        m.end()
        m.start()
        talk.client.close()
    s.until(lambda e: live.find(e, "tcp_state", src_port=talk.port, segment="fin_ack") or
            live.find(e, "tcp_state", src_port=talk.port), "the connection goes on")
    m.end()
    far.ip("link del sb")
    m.argv[1] = "--interface=sb*"  # or the start fails, as it should
    m.start()
    s.until(lambda e: live.find(e, "iface", state="gone"), "that it is gone")
    s.until(lambda e: live.find(e, "tcp_close", src_port=talk.port, reason="capture_end"), "its end")
    live.wait_until(lambda: not [n for n in m.names() if n[:5] in ("table", "ring-")], "it to be forgotten")
    m.end()
    m.start()
    s.until(lambda e: len([x for x in e if x["event_type"] == "restart"]) == m.starts - 1, "the last restart")
    tap.equal([e["state"] for e in s.events if e["event_type"] == "iface"], ["down", "up", "gone"],
              "what became of the interface meanwhile is told, each once")
    tap.ok(not s.checker.errors, "in one stream", *s.checker.errors)
    m.end()
    m.empty()


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
for what, change, ring_goes_on in ANEW:
    with live.guarded(what):
        begins_anew(near, far, what, change, ring_goes_on)
with live.guarded("an interface that changes meanwhile"):
    interface_meanwhile()
tap.done()
