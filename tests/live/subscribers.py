#!/usr/bin/python3
"""Many readers of one stream: all get the same octets; who reads slowly, or dies, harms nobody."""
import os
import socket
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../support"))
import events
import live
import tap
from live import closes, traffic

QUEUE = "64K"  # the least there is; a socket's own buffer takes some 200K more
TRAFFIC = 400  # connections: more than 1 MB of lines
BURST = 40  # connections: more than QUEUE, less than a socket takes


def numbers(stream):
    return {e["seq"] for e in stream if e["event_type"] not in ("hello", "lost")}


class Program:
    """socat or nc, reading the stream into a file."""

    def __init__(self, tmp, *argv):
        self.path = os.path.join(tmp, argv[0])
        with open(self.path, "wb") as out:
            self.p = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=out,
                                      preexec_fn=live.die_with_parent)

    def read(self):
        with open(self.path, "rb") as f:
            return f.read()


def same_octets(ns, daemon):
    tmp = live.tmpdir()
    programs = [Program(tmp, "socat", "-u", f"UNIX-CONNECT:{daemon.path}", "-"),
                Program(tmp, "nc", "-d", "-U", daemon.path)]
    for p in programs:
        live.wait_until(lambda: b"\n" in p.read(), "hello")
    with ns.listen(("127.0.0.1", 81)) as l, ns.connect(("127.0.0.1", 81)), l.accept()[0]:
        pass
    return programs


def paced(ns, reader, n, port):
    """Traffic at the pace of @reader, so that it never falls behind."""
    for done in range(10, n + 1, 10):
        traffic(ns, 10, port)
        reader.until(lambda e: closes(e, port) >= done, f"{done} closes")


def burst(ns, fast):
    """A reader that has room loses nothing, however much comes at once."""
    traffic(ns, BURST, port=86)
    traffic(ns, 1, port=87)
    fast.until(lambda e: closes(e, 87), "the last close of a burst")
    tap.equal(closes(fast.events, 86), BURST, "a burst larger than the queue reaches who has room")
    tap.ok(not [e for e in fast.events if e["event_type"] == "lost"], "which loses nothing",
           [e for e in fast.events if e["event_type"] == "lost"])


def slow_reader(ns, daemon, fast):
    """A reader that does not read loses its own events, is told so, and gets what comes later."""
    slow = daemon.subscribe()
    already = len(fast.events)
    paced(ns, fast, TRAFFIC, port=80)
    tap.equal(closes(fast.events, 80), TRAFFIC, "who reads gets all while another one sleeps")
    tap.ok(not live.find(fast.events[already:], "lost"), "who reads loses nothing")
    traffic(ns, 1, port=82)
    slow.until(lambda e: closes(e, 82), "the newest event at the slow reader")
    fast.until(lambda e: closes(e, 82), "the newest event at the fast reader")
    lost = [e for e in slow.events if e["event_type"] == "lost"]
    tap.ok(lost and all(e["reason"] == "subscriber" for e in lost),
           "a slow reader is told that it lost events", len(slow.events), lost)
    mine = numbers(slow.events)
    begin = slow.events[0]["seq"]
    tap.equal(sum(e["count"] for e in lost), max(mine) - begin - len(mine),
              "the count of the lost is exact")
    others = {line for line in fast.lines if b'"lost"' not in line}
    tap.ok(all(line in others for line in slow.lines[1:] if b'"lost"' not in line),
           "what a slow reader gets, the others got as well")
    tap.ok(not slow.checker.errors, "a slow reader's lines are whole and in order",
           slow.checker.errors)
    return slow


def dying_readers(ns, daemon, fast):
    """Readers that go away in the middle of a line, or at once."""
    for n in range(20):
        s = socket.socket(socket.AF_UNIX)
        s.connect(daemon.path)
        if n % 2:
            s.recv(100)
        traffic(ns, 2, port=83)
        s.close()
        fast.until(lambda e: closes(e, 83) == 2 * n + 2, "the closes")
    tap.ok(daemon.p.poll() is None, "readers that die in the middle of a line disturb nobody")


def talkative_reader(ns, daemon):
    """A client that writes to us all the time."""
    s = socket.socket(socket.AF_UNIX)
    s.connect(daemon.path)
    s.settimeout(1)
    try:
        for _ in range(1000):
            s.sendall(b"x" * 4096)
    except OSError:
        pass  # it may be cut off, or stop being read
    sub = daemon.subscribe()
    tap.ok(True, "a client that writes does not keep others out")
    sub.close()
    s.close()


live.need("ip", "socat", "nc")
ns = live.Netns()
daemon = live.Synfind(ns, "lo", "--stdout", ring_size="16M", queue_size=QUEUE)
fast = daemon.subscribe()
tap.equal((fast.events[0]["event_type"], fast.events[0]["schema"], fast.events[0]["interfaces"]),
          ("hello", "synfind/1", ["lo"]), "the first line is hello")

programs, slow = [], None
with live.guarded("socat and nc"):
    programs = same_octets(ns, daemon)
with live.guarded("dying readers"):
    dying_readers(ns, daemon, fast)
with live.guarded("a talkative reader"):
    talkative_reader(ns, daemon)
with live.guarded("the order of lines"):
    many = [daemon.subscribe() for _ in range(50)]
    traffic(ns, 1, port=84)
    for m in many:
        m.until(lambda e: closes(e, 84), "a close")
    fast.until(lambda e: closes(e, 84), "a close")
    tap.ok(all(m.lines[1:] == fast.lines[-len(m.lines) + 1:] for m in many),
           "fifty readers get the same lines")
    for m in many:
        m.close()
with live.guarded("socat and nc"):
    traffic(ns, 1, port=85)
    fast.until(lambda e: closes(e, 85), "a close")
    last = fast.lines[-1] + b"\n"
    for p in programs:
        live.wait_until(lambda: p.read().endswith(last), f"the last line at {p.path}")
    texts = [p.read() for p in programs]
    heads = [events.Checker(whole=False).feed(t.split(b"\n", 1)[0]) for t in texts]
    first = max(h["next_seq"] for h in heads)
    tails = []
    for t, h in zip(texts, heads):
        lines = t.split(b"\n")[1:]
        tails.append(b"\n".join(lines[first - h["next_seq"]:]))
    tap.ok(len(tails) == 2 and tails[0] == tails[1] and len(tails[0]) > 20_000,
           "socat and nc get the same octets", [len(t) for t in tails])
    faults = [events.check(t.splitlines(), whole=False, all_closed=False)[1] for t in texts]
    tap.ok(not any(faults), "each a right stream", *faults)
with live.guarded("a slow reader"):
    slow = slow_reader(ns, daemon, fast)
with live.guarded("a burst"):
    burst(ns, fast)
tap.equal(daemon.stop(), 0, "SIGTERM ends the daemon with status 0")
tap.ok(not fast.to_end(), "every line is right, to the end", fast.checker.errors)
if slow:
    tap.ok(not slow.to_end(), "the slow reader's stream ends in order", slow.checker.errors)
printed, faults = events.check(daemon.stdout().splitlines())
tap.ok(not faults, "--stdout prints a right stream", faults)
tap.ok(numbers(fast.events) <= numbers(printed), "--stdout prints all that subscribers get",
       len(printed), [e for e in printed if e["event_type"] == "lost"])
tap.done()
