#!/usr/bin/python3
"""Snapshots: at any moment, under traffic, reloads and kills, the lines of a snapshot and the live lines
among them, applied in their order, are the truth."""
import contextlib
import json
import os
import random
import resource
import socket
import sys
import threading

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../support"))
import events
import fdstore
import live
import tap
from kills import Reader, end_somewhere

MOMENTS = int(os.environ.get("MOMENTS", "100"))
KILLS = int(os.environ.get("KILLS", "10"))
LONG = 2000  # connections of a long snapshot: more than a socket takes
HELD = 400  # connections that stay open for a while


class Truth:
    """What is open, by the lines of a stream."""

    def __init__(self):
        self.open = {}

    def feed(self, e):
        kind = e["event_type"]
        if kind == "tcp_close":
            self.open.pop(e["flow_id"], None)
        elif kind in ("tcp_open", "tcp_state", "tcp_established", "snapshot"):
            self.open[e["flow_id"]] = (e["tcp"]["client_state"], e["tcp"]["server_state"])


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


def take(path, rng, request=b'{"snapshot":true,"id":"s"}'):
    """One snapshot; (its rows, its truth at the end and then, the last seq, what went wrong)."""
    s = socket.socket(socket.AF_UNIX)
    s.settimeout(live.DEADLINE)
    s.connect(path)
    with contextlib.suppress(BrokenPipeError):
        s.sendall(request + b"\n")
    truth, rest, asked, rows, end = Truth(), b"", False, [], None
    while not end:
        try:
            data = s.recv(rng.choice([512, 1 << 16]))
        except ConnectionResetError:
            data = b""
        if not data:
            return None  # the daemon was killed before this subscriber was stored
        *lines, rest = (rest + data).split(b"\n")
        for line in lines:
            e = json.loads(line)
            if asked and not end:
                truth.feed(e)
                rows += [e] if e["event_type"] == "snapshot" else []
                if e["event_type"] == "snapshot_end":
                    end = e
            asked |= e["event_type"] == "subscribed"
    s.close()
    return rows, truth.open, end


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
    rows = [e for e in map(json.loads, data.splitlines()) if e["event_type"] == "snapshot"]
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
    rows, open_, end = take(daemon.path, rng, request=b'{"snapshot":true,"events":[]}')
    tap.equal(({(e["in_iface"], e["dest_port"]) for e in rows}, len(rows), len(open_), end["count"]),
              ({("veth-b", 80), ("lo", 81)}, 60, 60, 60),
              "two decoders on each of two interfaces: each connection once")
    rows, _, end = take(daemon.path, rng, request=b'{"snapshot":true,"where":"dest_port == 81"}')
    tap.equal(({e["dest_port"] for e in rows}, end["count"]), ({81}, 30), "where chooses among them")
    watching.close()
    daemon.stop()


live.need("ip")
resource.setrlimit(resource.RLIMIT_NOFILE, 2 * resource.getrlimit(resource.RLIMIT_NOFILE)[1:])
rng = random.Random(int(os.environ.get("SEED", "3")))
ns = live.Netns()
m = fdstore.Manager(ns, "lo", queue_size="64M", ring_size="64M", ring_block_size="128K",
                    block_timeout="5ms", event_ring_size=65536)
with live.guarded("two interfaces"):
    two_interfaces()
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
    taken, killed, broken = [], 0, 0
    while len(taken) < MOMENTS:
        m.take_in()
        if killed * MOMENTS < len(taken) * KILLS:  # a child of a thread would end with it
            box = []
            taker = threading.Thread(target=lambda: box.append(take(m.path, rng)))
            taker.start()
            end_somewhere(m, rng)
            m.start(ready=False)
            live.wait_until(lambda: m.take_in() or not taker.is_alive(), "the snapshot")
            one = box[0]
            killed += 1
        else:
            one = take(m.path, rng)
        broken += one is None
        taken += [one] if one else []
    live.wait_until(m.is_ready, "the daemon to be ready")
    churn.stop()
    last = max(end["seq"] for _, _, end in taken)
    live.wait_until(lambda: b'"seq":%d,' % last in b"".join(all_.parts), "the observer")
    at = {end["seq"]: None for _, _, end in taken}
    truth = Truth()
    for line in b"".join(all_.parts).split(b"\n")[:-1]:
        e = json.loads(line)
        truth.feed(e)
        if e["seq"] in at:
            at[e["seq"]] = dict(truth.open)
    wrong, twice, open_ = [], 0, []
    for rows, got, end in taken:
        want = at[end["seq"]]
        if got != want:
            wrong.append((end["seq"], len(got), len(want), list(set(got.items()) ^ set(want.items()))[:4]))
        twice += len(rows) != len({r["flow_id"] for r in rows})
        open_.append(len(want))
    tap.diag(f"{churn.made} connections, {len(taken)} snapshots of {min(open_)} to {max(open_)} open ones, "
             f"{m.starts - 1} restarts, {broken} subscribers that a restart disconnected")
    tap.ok(not wrong, f"{len(taken)} snapshots with the live lines among them: the same connections in "
           "the same states as an observer from the start", wrong[:3])
    tap.ok(all(end["count"] == len(rows) and end.get("id") == "s" for rows, _, end in taken),
           "snapshot_end has the number of its lines and the id of the request")
    tap.equal(twice, 0, "no connection is listed twice")
    checker = events.Checker()
    problems = [p for rows, _, end in taken[:20] for e in [*rows, end]
                for p in [checker.validators.problem(e)] if p]
    tap.ok(not problems, "the lines are as the schema says", problems[:3])
    tap.ok(min(open_) > 100 and m.starts > KILLS, "many were open, and the daemon was killed")
m.end()
m.empty()
tap.done()
