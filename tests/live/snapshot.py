#!/usr/bin/python3
"""Snapshots: at any moment, under traffic, reloads and kills, the lines of a snapshot and the live lines
among them, applied in their order, are the truth."""
import contextlib
import json
import os
import random
import re
import resource
import socket
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../support"))
import events
import fast
import fdstore
import live
import tap
from kills import Reader, end_somewhere

MOMENTS = int(os.environ.get("MOMENTS", "100"))
KILLS = int(os.environ.get("KILLS", "10"))
RATE = int(os.environ.get("RATE", "5000"))  # connections/s, where they are fast
FAST_MOMENTS = int(os.environ.get("FAST_MOMENTS", "40"))
FAST_KILLS = int(os.environ.get("FAST_KILLS", "4"))
LONG = 2000  # connections of a long snapshot: more than a socket takes
HELD = 400  # connections that stay open for a while


HEAD = re.compile(rb'.{46}"event_type":"(\w+)","seq":(\d+),')
FLOW = re.compile(rb'"flow_id":"(\w+)"')
STATES = re.compile(rb'"client_state":"(\w+)","server_state":"(\w+)"')


class Truth:
    """What is open, by the lines of a stream.  There are many: json would take most of the time."""

    def __init__(self):
        self.open = {}

    def feed(self, line):
        """(type, seq) of the line."""
        kind, seq = HEAD.match(line).groups()
        if kind == b"tcp_close":
            self.open.pop(FLOW.search(line)[1], None)
        elif kind in (b"tcp_open", b"tcp_state", b"tcp_established", b"snapshot"):
            self.open[FLOW.search(line)[1]] = STATES.search(line).groups()
        return kind, int(seq)


class Churn(threading.Thread):
    """Connections that live for a while, opened and closed in any order, by either side."""

    def __init__(self, ns, rng):
        super().__init__(daemon=True)
        self.ns, self.rng, self.going, self.made = ns, rng, True, 0
        self.pairs = []
        self.l = ns.listen(("127.0.0.1", 80))

    def run(self):
        while self.going:
            if len(self.pairs) < HELD or self.rng.random() < 0.5:
                c = self.ns.connect(("127.0.0.1", 80))
                self.pairs.append([c, self.l.accept()[0]])
                self.made += 1
            pair = self.rng.choice(self.pairs)
            if len(self.pairs) > HELD // 2 and self.rng.random() < 0.8:
                if self.rng.random() < 0.3 and len(pair) == 2:
                    pair.pop(self.rng.randrange(2)).close()  # half-closed for a while
                else:
                    for s in pair:
                        s.close()
                    self.pairs.remove(pair)
            else:
                with contextlib.suppress(OSError):
                    pair[0].sendall(b"x")

    def stop(self):
        self.going = False
        self.join()
        for pair in self.pairs:
            for s in pair:
                s.close()


def read_snapshot(path, rng, request=b'{"snapshot":true,"id":"s"}'):
    """What comes to one who asks for a snapshot, to its end or a little further; None: the daemon was
    killed before this subscriber was stored."""
    parts, tail = [], b""
    with socket.socket(socket.AF_UNIX) as s:
        s.settimeout(live.DEADLINE)
        s.connect(path)
        with contextlib.suppress(BrokenPipeError):
            s.sendall(request + b"\n")
        while True:
            try:
                data = s.recv(rng.choice([512, 1 << 16]))
            except ConnectionResetError:
                data = b""
            if not data:
                return None
            parts.append(data)
            *lines, tail = (tail + data).split(b"\n")
            if any(b'"event_type":"snapshot_end"' in line for line in lines):
                return b"".join(parts)


def rows_of(data):
    return [e for e in map(json.loads, data[:data.rindex(b"\n")].split(b"\n")) if e["event_type"] == "snapshot"]


def understand(data):
    """Of what read_snapshot() has: the connections in its rows, what is open by the rows and the lines
    among them, its end."""
    lines, truth, listed = iter(data.split(b"\n")), Truth(), []
    next(line for line in lines if b'"event_type":"subscribed"' in line)
    for line in lines:
        kind, _ = truth.feed(line)
        if kind == b"snapshot":
            listed.append(FLOW.search(line)[1])
        if kind == b"snapshot_end":
            return listed, truth.open, json.loads(line)
    raise ValueError("no snapshot_end")


def take_across_end(m, rng):
    """A snapshot while the daemon is killed and started again."""
    box = []
    taker = threading.Thread(target=lambda: box.append(read_snapshot(m.path, rng)))
    taker.start()
    end_somewhere(m, rng)
    m.start(ready=False)
    live.wait_until(lambda: m.take_in() or not taker.is_alive(), "the snapshot")
    return box[0]


def moments(m, rng, most, kills, pause=0):
    """So many snapshots at random moments, some of them while the daemon is killed: what understand() says,
    what came in the first ones, and how many subscribers a restart disconnected."""
    found, first, killed, broken = [], [], 0, 0
    while len(found) < most:
        m.take_in()
        if killed * most < len(found) * kills:
            one = take_across_end(m, rng)
            killed += 1
        else:
            time.sleep(rng.random() * pause)
            one = read_snapshot(m.path, rng)
        broken += one is None
        if one:
            found.append(understand(one))
            first += [one] if len(first) < 20 else []
    return found, first, broken


def listed_twice(taken):
    return sum(len(listed) != len(set(listed)) for listed, _, _ in taken)


def differences(lines, taken):
    """Where snapshots differ from what an observer from the start knows; how many were open, each time."""
    wrong, open_, truth, at = [], [], Truth(), {}
    for _, got, end in taken:
        at.setdefault(end["seq"], []).append(got)
    for line in lines:
        _, seq = truth.feed(line)
        for got in at.pop(seq, ()):
            open_.append(len(got))
            if got != truth.open:
                wrong.append((seq, len(got), len(truth.open),
                              list(set(got.items()) ^ set(truth.open.items()))[:4]))
    return wrong + [(seq, "not seen") for seq in at], open_


def slow_take(m, ns, rng):
    """A snapshot that is longer than the daemon lives: the next process continues it."""
    l = ns.listen(("127.0.0.1", 81))
    held = []
    for _ in range(LONG):
        c = ns.connect(("127.0.0.1", 81))
        held.append((c, l.accept()[0]))
    live.wait_until(m.is_ready, "the daemon to be ready")
    sub = m.subscribe()
    sub.s.settimeout(live.DEADLINE)
    sub.s.sendall(b'{"snapshot":true,"events":[]}\n')
    data, kills = b"", 0
    while b'"snapshot_end"' not in data or not data.endswith(b"\n"):
        data += sub.s.recv(20_000)
        if rng.random() < 0.2 and kills < KILLS:
            end_somewhere(m, rng)
            m.start(ready=False)
            kills += 1
    rows = rows_of(data)
    ports = sorted(e["src_port"] for e in rows if e["dest_port"] == 81)
    tap.equal(ports, sorted(c.getsockname()[1] for c, _ in held),
              "a snapshot that several processes made lists each connection once")
    tap.ok(kills > 3, "they were killed while it lasted", kills)
    for pair in held:
        for s in pair:
            s.close()


def two_interfaces():
    """Two decoders on each of two interfaces: one walk."""
    a, b = live.veth_pair()
    daemon = live.Synfind(b, "veth-b,lo", "--decoders=2")
    watching = daemon.subscribe()
    l, m = b.listen(("10.0.1.2", 80)), b.listen(("127.0.0.1", 81))
    held = []
    for _ in range(30):
        held.append((a.connect(("10.0.1.2", 80)), l.accept()[0]))
        held.append((b.connect(("127.0.0.1", 81)), m.accept()[0]))
    watching.until(lambda e: sum(x["event_type"] == "tcp_established" for x in e) == 60, "60 connections")
    data = read_snapshot(daemon.path, rng, b'{"snapshot":true,"events":[]}')
    rows = rows_of(data)
    _, open_, end = understand(data)
    tap.equal(({(e["in_iface"], e["dest_port"]) for e in rows}, len(rows), len(open_), end["count"]),
              ({("veth-b", 80), ("lo", 81)}, 60, 60, 60),
              "two decoders on each of two interfaces: each connection once")
    data = read_snapshot(daemon.path, rng, b'{"snapshot":true,"where":"dest_port == 81"}')
    tap.equal(({e["dest_port"] for e in rows_of(data)}, understand(data)[2]["count"]), ({81}, 30), "where chooses among them")
    watching.close()
    daemon.stop()


def at_speed(rng):
    """The same while connections come and go faster than Python makes them."""
    ns, tmp = live.Netns(), fast.memory_dir()
    fast.wire(ns)
    pcap = os.path.join(tmp, "churn")
    made = fast.generate(pcap, "--headers -w 700 --segs 2 --refused 5 --unanswered 0.1 --aborted 7 --ipv6 20 "
                         f"-n {int(RATE * (FAST_MOMENTS * 0.12 + FAST_KILLS))}")
    m = fdstore.Manager(ns, "veth-b", queue_size="256M", ring_size="64M", ring_block_size="128K",
                        block_timeout="5ms", event_ring_size=65536)
    m.start()
    observer = fast.Readers(m.path, [(None, {})], tmp)
    observer.urgent()
    live.wait_until(lambda: len(m.readers()) == 1, "the observer to be stored")
    traffic = fast.Sender(ns, [pcap], "-p", str(made["frames"] * RATE // made["connections"]), "-b", "16")
    live.wait_until(lambda: observer.octets() > 1 << 22, "traffic")
    begin, octets = time.monotonic(), observer.octets()
    taken, _, broken = moments(m, rng, FAST_MOMENTS, FAST_KILLS, pause=0.03)
    live.wait_until(m.is_ready, "the daemon to be ready")
    seconds, octets = time.monotonic() - begin, observer.octets() - octets
    traffic.stop()
    last = max(end["seq"] for _, _, end in taken)
    live.wait_until(lambda: any(json.loads(line)["seq"] >= last for line in
                                observer.end_of(octets=8192).split(b"\n")[1:-1]), "the observer")
    observer.stop()
    with open(observer.files[0], "rb") as lines:
        wrong, open_ = differences(lines, taken)
        lines.seek(0)
        opened = sum(b'"event_type":"tcp_open"' in line for line in lines)
    # Frames that were lost are no connections; octets tell how many there were in the time of the snapshots.
    rate = opened * octets / observer.octets() / seconds
    tap.diag(f"at speed: {rate:.0f} connections/s for {seconds:.1f} s, {len(taken)} snapshots of {min(open_)} to "
             f"{max(open_)} open ones, {m.starts - 1} restarts, {broken} subscribers that a restart disconnected")
    tap.ok(not wrong and len(taken) == FAST_MOMENTS, f"at speed: {len(taken)} snapshots, each with the same "
           "connections in the same states as an observer from the start", wrong[:3])
    tap.equal(listed_twice(taken), 0, "at speed: no connection is listed twice")
    tap.ok(rate > RATE / 2 and min(open_) > 300 and m.starts > FAST_KILLS,
           "at speed: many connections came and went, and the daemon was killed", rate, min(open_), m.starts)
    m.end()
    m.empty()


live.need("ip")
resource.setrlimit(resource.RLIMIT_NOFILE, 2 * resource.getrlimit(resource.RLIMIT_NOFILE)[1:])
rng = random.Random(int(os.environ.get("SEED", "3")))
ns = live.Netns()
m = fdstore.Manager(ns, "lo", queue_size="64M", ring_size="64M", ring_block_size="128K",
                    block_timeout="5ms", event_ring_size=65536)
with live.guarded("two interfaces"):
    two_interfaces()
with live.guarded("at speed"):
    at_speed(rng)
with live.guarded("a long snapshot"):
    m.start()
    slow_take(m, ns, rng)
    m.end()
    m.empty()
with live.guarded("snapshots"):
    m.start()
    all_ = Reader(m.path)
    all_.start()
    live.wait_until(lambda: len(m.readers()) == 1, "the observer to be stored")
    churn = Churn(ns, rng)
    churn.start()
    live.wait_until(lambda: len(churn.pairs) > HELD // 2, "open connections")
    taken, first, broken = moments(m, rng, MOMENTS, KILLS)
    live.wait_until(m.is_ready, "the daemon to be ready")
    churn.stop()
    last = max(end["seq"] for _, _, end in taken)
    live.wait_until(lambda: b'"seq":%d,' % last in b"".join(all_.parts), "the observer")
    wrong, open_ = differences(all_.lines()[:-1], taken)
    tap.diag(f"{churn.made} connections, {len(taken)} snapshots of {min(open_)} to {max(open_)} open ones, "
             f"{m.starts - 1} restarts, {broken} subscribers that a restart disconnected")
    tap.ok(not wrong, f"{len(taken)} snapshots with the live lines among them: the same connections in "
           "the same states as an observer from the start", wrong[:3])
    tap.ok(all(end["count"] == len(listed) and end.get("id") == "s" for listed, _, end in taken),
           "snapshot_end has the number of its lines and the id of the request")
    tap.equal(listed_twice(taken), 0, "no connection is listed twice")
    checker = events.Checker()
    problems = [p for data in first for line in data.split(b"\n")[:-1]
                for p in [checker.validators.problem(json.loads(line))] if p]
    tap.ok(not problems, "the lines are as the schema says", problems[:3])
    tap.ok(min(open_) > 100 and m.starts > KILLS, "many were open, and the daemon was killed")
m.end()
m.empty()
tap.done()
