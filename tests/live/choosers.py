#!/usr/bin/python3
"""A hundred subscribers with thirty different requests: each gets exactly its events, as an observer sees
them, while others do not read and lose by their own policy.

CONNECTIONS=5000 SUBSCRIBERS=100: how much of it."""
import hashlib
import json
import os
import random
import selectors
import socket
import struct
import subprocess
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../support"))
import live
import tap

GEN = os.environ.get("GEN", os.path.join(live.ROOT, "build/tests/gen"))
CONNECTIONS = os.environ.get("CONNECTIONS", "5000")
SUBSCRIBERS = int(os.environ.get("SUBSCRIBERS", "100"))
STALLED = SUBSCRIBERS // 5
END_PORT = 9

CLOSES = ["tcp_close"]


def is_close(e):
    return e["event_type"] == "tcp_close"


# Requests, and the same in Python.
CHOICES = [
    ({"events": CLOSES}, is_close),
    ({"events": ["tcp_established"]}, lambda e: e["event_type"] == "tcp_established"),
    ({"events": CLOSES, "where": "tcp.reason != 'fin'"},
     lambda e: is_close(e) and e["tcp"]["reason"] != "fin"),
    ({"where": "ip_v == 6"}, lambda e: e.get("ip_v") == 6),
    ({"where": "tcp.conn_state in ['REJ', 'RSTO', 'S0']"},
     lambda e: e.get("tcp", {}).get("conn_state") in ("REJ", "RSTO", "S0")),
    ({"events": CLOSES, "where": "flow.payload_toserver > 0 && flow.retrans_toserver == 0"},
     lambda e: is_close(e) and e["flow"]["payload_toserver"] > 0 and e["flow"]["retrans_toserver"] == 0),
] + [({"where": f"src_port >= {p} && src_port < {p + 1300}"},
      lambda e, p=p: p <= e.get("src_port", 0) < p + 1300) for p in range(33000, 64200, 1300)]


def capture():
    path = os.path.join(live.tmpdir(), "w.pcap")
    subprocess.run([GEN, *"--seed 14 -w 2000 --segs 2 --payload 400 --ipv6 20 --refused 5 "
                    "--unanswered 3 --aborted 7 --fin3 50".split(), "-n", CONNECTIONS, "-o", path],
                   check=True, stderr=subprocess.DEVNULL)
    with open(path, "rb") as f:
        data = f.read()
    nano = data[:4] in (b"\x4d\x3c\xb2\xa1", b"\xd4\xc3\xb2\xa1")
    at, frames = 24, []
    while at < len(data):
        n = struct.unpack_from("<I" if nano else ">I", data, at + 8)[0]
        frames.append(data[at + 16:at + 16 + n])
        at += 16 + n
    return frames


class Chooser:
    def __init__(self, path, request, holds, keep, user):
        self.s = socket.socket(socket.AF_UNIX)
        self.s.settimeout(live.DEADLINE)
        live.connect_as(self.s, path, user, user)
        self.s.sendall(json.dumps(request).encode() + b"\n")
        self.request, self.holds, self.keep = request, holds, keep
        self.hash, self.octets, self.parts = hashlib.blake2b(), 0, []
        head = b""
        while b'"subscribed"' not in head or not head.endswith(b"\n"):
            data = self.s.recv(1 << 16)
            if not data or b'"error"' in data:
                raise RuntimeError(f"{request}: {data!r}")
            head += data
        self.ended = False
        self.s.setblocking(False)

    def read(self):
        try:
            data = self.s.recv(1 << 18)
        except BlockingIOError:
            return
        self.ended |= not data
        self.octets += len(data)
        if self.keep:
            self.parts.append(data)
        else:
            self.hash.update(data)


def read_all(readers, stop):
    with selectors.DefaultSelector() as sel:
        for r in readers:
            sel.register(r.s, selectors.EVENT_READ, r)
        while not stop.is_set():
            for key, _ in sel.select(0.05):
                key.data.read()
                if key.data.ended:
                    sel.unregister(key.fileobj)


def judge_stalled(r, expected):
    lines = b"".join(r.parts).split(b"\n")[:-1]
    got = [json.loads(line) for line in lines]
    lost = [e for e in got if e["event_type"] == "lost"]
    have = {e["seq"] for e in got if e["event_type"] not in ("lost", "error")}
    gone = [seq for seq in expected if seq not in have]
    faults = []
    if any(expected.get(e["seq"]) != line for e, line in zip(got, lines)
           if e["event_type"] not in ("lost", "error")):
        faults.append("a line that the observer does not have")
    if r.request["policy"] == "disconnect" and r.ended:
        return faults, len(gone)
    if sum(e["count"] for e in lost) != len(gone):
        faults.append(f"{len(gone)} missing, {[e['count'] for e in lost]} reported")
    if any(not any(e["first_seq"] <= s <= e["last_seq"] for e in lost) for s in gone):
        faults.append("a missing one is in no lost line")
    return faults, len(gone)


live.need("ip")
rng = random.Random(5)
ns = live.Netns()
ns.ip("link add veth-a type veth peer name veth-b")
for device in ("veth-a", "veth-b"):
    ns.ip(f"link set {device} up")
live.wait_up(ns, "veth-a")
daemon = live.Synfind(ns, "veth-b", ring_size="64M", queue_size="2M", event_ring_size="65536",
                      max_subscribers_per_uid="200", socket_mode="0666")
with live.guarded("a hundred subscribers"):
    frames = capture()
    policies = ["drop_oldest", "drop_newest", "disconnect"]
    readers = []
    for i in range(SUBSCRIBERS):
        request, holds = CHOICES[i % len(CHOICES)]
        stalled = i < STALLED
        if stalled:
            request = {**CHOICES[i % 6][0], "policy": policies[i % 3]}
            holds = CHOICES[i % 6][1]
        user = 1000 + CHOICES.index((CHOICES[i % 6] if stalled else CHOICES[i % len(CHOICES)])) // 8
        readers.append(Chooser(daemon.path, request, holds, stalled, user))  # 8 expressions each
    observer = Chooser(daemon.path, {}, lambda e: True, True, 0)
    stop = threading.Event()
    threads = [threading.Thread(target=read_all, args=(part, stop), daemon=True)
               for part in ([observer], readers[STALLED:])]
    for t in threads:
        t.start()
    begin = time.monotonic()
    for i in range(0, len(frames), 1000):  # a burst fits in the queue, and the observer sets the pace
        ns.send("veth-a", frames[i:i + 1000])
        seen = []
        live.wait_until(lambda: seen.append(observer.octets) or seen[-4:] == [seen[-1]] * 4,
                        "the observer to have read")
    tap.diag(f"{len(frames)} frames in {time.monotonic() - begin:.1f} s")
    ns.run("ip", "link", "set", "veth-b", "down")  # the last event: iface
    live.wait_until(lambda: b'"iface"' in b"".join(observer.parts[-3:]), "the last event")
    lines = b"".join(observer.parts).split(b"\n")[:-1]
    events = [json.loads(line) for line in lines]
    tap.ok(not live.find(events, "lost") and len(events) > int(CONNECTIONS) * 4,
           "the observer has all events", len(events), live.find(events, "lost"))
    expected = {}
    for request, holds in CHOICES:
        wanted = [line for line, e in zip(lines, events) if holds(e)]
        expected[json.dumps(request)] = wanted
    fast = readers[STALLED:]

    def size(r):
        return sum(len(line) + 1 for line in expected[json.dumps(r.request)])

    live.wait_until(lambda: all(r.octets >= size(r) for r in fast), "all to have their lines")
    stop.set()
    for t in threads:
        t.join()
    wrong = []
    for r in fast:
        text = b"".join(line + b"\n" for line in expected[json.dumps(r.request)])
        if hashlib.blake2b(text).digest() != r.hash.digest():
            wrong.append((r.request, r.octets, len(text)))
    some = sum(bool(expected[json.dumps(r)]) for r, _ in CHOICES)
    tap.ok(not wrong and some == len(CHOICES) == 30,
           f"{len(fast)} subscribers with {len(CHOICES)} different requests: each has its lines, "
           "to the octet, while others do not read", wrong[:3], some)
    faults, losers = [], 0
    for r in readers[:STALLED]:
        want = {e["seq"]: line for line, e in zip(lines, events) if r.holds(e)}
        last = max(want)
        deadline = time.monotonic() + live.DEADLINE
        while not r.ended and time.monotonic() < deadline:
            r.read()
            tail = b"".join(r.parts[-2:]).split(b"\n")[-2:-1]
            if tail and json.loads(tail[0])["seq"] >= last:
                break
        found, lost = judge_stalled(r, want)
        losers += bool(lost)
        faults += [(r.request, f) for f in found]
    tap.ok(not faults, f"{STALLED} that do not read lose by their policy, and are told exactly what",
           faults[:3])
    tap.ok(losers > 3, "several of them lost something", losers)
daemon.stop()
tap.done()
