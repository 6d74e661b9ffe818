#!/usr/bin/python3
"""The daemon is killed again and again, and a subscriber, too, which resumes by `from`: its stream is
that of an undisturbed one.  What others asked for is still in force in the next process."""
import json
import os
import random
import socket
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../support"))
import fdstore
import live
import tap
from kills import Reader, Traffic, end_somewhere, mark_the_end

RESUMES = int(os.environ.get("RESUMES", "50"))
KILLS = int(os.environ.get("KILLS", "10"))


class Resuming:
    """Connects, asks for what it has not got, reads a while, and is gone, again and again."""

    def __init__(self, path, run_id, rng):
        self.path, self.run_id, self.rng = path, run_id, rng
        self.lines = []
        self.seq = 0
        self.resumes = 0
        self.lost = []

    def once(self, until=None):
        s = socket.socket(socket.AF_UNIX)
        s.settimeout(live.DEADLINE)
        s.connect(self.path)
        s.sendall(json.dumps({"from": {"run_id": self.run_id, "seq": self.seq}}).encode() + b"\n")
        wanted = self.rng.randrange(1, 200_000)
        rest, asked, got = b"", False, 0
        while got < wanted or until:
            try:
                data = s.recv(1 << 16)
            except ConnectionResetError:
                data = b""
            if not data:
                break
            got += len(data)
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                e = json.loads(line)
                if asked:
                    self.lines.append(line)
                    self.seq = e["seq"]
                    self.lost += [e] if e["event_type"] == "lost" else []
                asked |= e["event_type"] == "subscribed"
            if until and until(lines):
                until = None
                wanted = 0
        s.close()
        self.resumes += 1


def asked(path, **request):
    r = Reader(path)
    r.s.sendall(json.dumps(request).encode() + b"\n")
    r.start()
    return r


def lines_of(reader):
    """The lines after the answer."""
    lines = b"".join(reader.parts).split(b"\n")[:-1]
    at = next((i for i, line in enumerate(lines) if b'"subscribed"' in line), 0)
    return lines[at + 1:]


live.need("ip")
rng = random.Random(int(os.environ.get("SEED", "77")))
ns = live.Netns()
m = fdstore.Manager(ns, "lo", queue_size="64M", ring_size="64M", ring_block_size="128K",
                    block_timeout="20ms", event_ring_size=65536)
with live.guarded("resuming"):
    m.start()
    all_ = Reader(m.path)
    all_.start()
    live.wait_until(lambda: all_.parts, "hello")
    hello = json.loads(all_.lines()[0])
    chosen = {"kinds": (asked(m.path, events=["tcp_close"]), lambda e: e["event_type"] == "tcp_close"),
              "an expression": (asked(m.path, where="src_port >= 45000", events=["tcp_open", "tcp_close"]),
                                lambda e: e["event_type"] in ("tcp_open", "tcp_close") and
                                e["src_port"] >= 45000)}
    live.wait_until(lambda: len(m.readers()) == 3, "the subscribers to be stored")
    sub = Resuming(m.path, hello["run_id"], rng)
    sub.seq = hello["seq"]
    t = Traffic(ns, 0.0005, 14_000)
    kills = 0
    for i in range(RESUMES):
        sub.once()
        if kills * RESUMES < (i + 1) * KILLS:
            end_somewhere(m, rng)
            kills += 1
            m.start(ready=bool(rng.randrange(2)))
        m.take_in()
    n = t.finish()
    live.wait_until(m.is_ready, "the daemon to be ready")
    mark_the_end(ns)
    all_.last.wait(live.DEADLINE)
    sub.once(until=lambda lines: any(b'"dest_port":99,' in x and b'"tcp_close"' in x for x in lines))
    reference = b"".join(all_.parts).split(b"\n")[1:-1]
    tap.diag(f"{n} connections, {len(reference)} lines, {sub.resumes} resumes, {kills} kills, "
             f"{len(sub.lost)} lost lines")
    tap.ok(sub.resumes > RESUMES and kills == KILLS and len(reference) > 1000,
           "the subscriber was gone as often as wanted, and the daemon, too")
    tap.ok(sub.lines == reference,
           "the joined stream is that of an undisturbed subscriber, to the octet", len(sub.lines),
           len(reference), next(((a, b) for a, b in zip(sub.lines, reference) if a != b), None))
    for name, (r, holds) in chosen.items():
        expected = [line for line in reference
                    if b'"restart"' in line[:80] or holds(json.loads(line))]
        first = json.loads(next(x for x in b"".join(r.parts).split(b"\n") if b'"subscribed"' in x))
        expected = [line for line in expected if json.loads(line)["seq"] >= first["next_seq"]]
        live.wait_until(lambda: len(lines_of(r)) >= len(expected), f"{name}: its lines")
        tap.ok(lines_of(r) == expected, f"{name}: what was asked for once is in force in each process",
               len(lines_of(r)), len(expected))
m.end()
m.empty()
tap.done()
