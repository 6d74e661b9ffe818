#!/usr/bin/python3
"""The daemon is killed at any instruction, again and again: who is subscribed reads one stream, of whole
lines, whose numbers have no gap and no repetition.

Under a service manager in miniature (tests/support/fdstore.py); under a real one: restart.py."""
import json
import os
import random
import signal
import socket
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../support"))
import events
import fdstore
import live
from kills import LAST, Reader, Traffic, end_somewhere, mark_the_end
import stories
import tap

KILLS = int(os.environ.get("KILLS", "40"))
PUMP = os.path.join(live.ROOT, "build/tests/pump")
PUMP_KILLS = 2 * KILLS
FITTING = 14_000  # connections, whose lines fit in 64M

class Account:
    """What one reader got."""

    def __init__(self, reader):
        *lines, rest = reader.lines()
        self.faults = [f"it ends within a line: {rest[:80]!r}"] if rest else []
        self.by_seq = {}
        self.times = []  # of events of connections
        self.lost = 0
        self.kinds = {}
        self.run_ids = set()
        expected = None
        for line in lines:
            try:
                e = json.loads(line)
                kind, seq = e["event_type"], e["seq"]
            except (ValueError, KeyError):
                self.faults.append(f"no line: {line[:200]!r}")
                continue
            self.kinds[kind] = self.kinds.get(kind, 0) + 1
            if kind == "hello":
                self.run_ids.add(e["run_id"])
                self.faults += ["a second hello"] if expected else []
                self.first = seq + 1
            elif kind == "lost":
                self.lost += e["count"]
                if e["first_seq"] != expected or e["last_seq"] != seq or \
                        e["count"] != seq - e["first_seq"] + 1:
                    self.faults.append(f"{line} where {expected} comes next")
            else:
                if seq != expected:
                    self.faults.append(f"seq {seq} where {expected} comes next")
                self.by_seq[seq] = line
                if kind.startswith("tcp_"):
                    self.times.append(e["timestamp"])
            expected = seq + 1
        self.end = expected
        self.raw = lines

    def same(self, other):
        """Both got the same line under each number that both have."""
        return all(other.by_seq.get(n, line) == line for n, line in self.by_seq.items())


def kill_again_and_again(ns, kills, queue, pause, rng, most=sys.maxsize):
    # 512 blocks of 20 ms: the ring lasts for 10 s without a process.
    m = fdstore.Manager(ns, "lo", queue_size=queue, ring_size="64M", ring_block_size="128K",
                        block_timeout="20ms", event_ring_size=65536)
    m.start()
    readers = {"fast": Reader(m.path), "slow": Reader(m.path, (3000, 0.01)),
               "stopped": Reader(m.path, (1, 600))}
    for r in readers.values():
        r.start()
    live.wait_until(lambda: len(m.readers()) == 3, "the readers to be stored")
    late, ways = [], {}
    t = Traffic(ns, pause, most)
    try:
        for i in range(kills):
            way = end_somewhere(m, rng)
            ways[way] = ways.get(way, 0) + 1
            m.start(ready=False)
            if i % 8 == 0:
                live.wait_until(m.is_ready, "the daemon to be ready")
                late.append(Reader(m.path))
                late[-1].start()
                live.wait_until(lambda: len(m.readers()) == 3 + len(late), "it to be stored")
    finally:
        n = t.finish()
    live.wait_until(m.is_ready, "the daemon to be ready")
    mark_the_end(ns)
    for r in [*readers.values(), *late]:
        r.go.set()
        if not r.last.wait(live.DEADLINE):
            raise live.Timeout("the last connection at a reader")
    print(f"# {n} connections, ended: {ways}")
    return m, readers, late, n, ways


def judge(what, m, readers, late, ways):
    a = {name: Account(r) for name, r in readers.items()}
    b = [Account(r) for r in late]
    fast = a["fast"]
    print(f"# {what}: {fast.kinds}, lost by slow {a['slow'].lost}, by stopped {a['stopped'].lost}")
    for name, one in a.items():
        tap.ok(not one.faults, f"{what}: the {name} reader has whole lines, no gap, none twice",
               *one.faults[:3], m.stderr() if one.faults else "")
        tap.ok(one.same(fast), f"{what}: the {name} reader has the lines that the others have")
    tap.ok(not any(one.faults for one in b), f"{what}: who came between two ends has that as well",
           *[one.faults[:1] for one in b])
    tap.equal({one.end for one in [*a.values(), *b]}, {fast.end}, f"{what}: all come to the same number")
    tap.equal({i for one in [*a.values(), *b] for i in one.run_ids}, fast.run_ids,
              f"{what}: the run is one")
    ended = m.starts - 1
    tap.ok(0.6 * ended <= fast.kinds.get("restart", 0) <= ended, f"{what}: restarts are told, each once",
           fast.kinds, ended)
    tap.ok(ways.get("send") and ways.get("step") and ways.get("kill"),
           f"{what}: it was ended at sends, within code, at any time", ways)
    return a


def one_stream(ns, seed):
    rng = random.Random(seed)
    m, readers, late, n, ways = kill_again_and_again(ns, KILLS, "64M", 0.0005, rng, FITTING)
    a = judge("64M", m, readers, late, ways)
    tap.equal([one.lost for one in a.values()], [0, 0, 0], "with room for all nobody loses anything")
    checker = events.Checker()
    book = stories.Book()
    for line in a["fast"].raw:
        book.add(checker.feed(line) or {"event_type": ""})
    book.close()
    checker.end(all_closed=True)
    tap.ok(not checker.errors, "connections go on", *checker.errors)
    tap.equal(a["fast"].kinds.get("tcp_close"), n + 1, "each is told once")
    m.end()
    m.empty()


def overtaken(ns, seed):
    """A log that is much too small: readers are overtaken, and told, whatever ends where."""
    rng = random.Random(seed)
    m, readers, late, _, ways = kill_again_and_again(ns, KILLS, "64K", 0, rng)
    a = judge("64K", m, readers, late, ways)
    tap.ok(a["stopped"].lost > 1000, "and who does not read was overtaken", a["stopped"].lost)
    m.end()
    m.empty()


def number_of(timestamp):
    """Which event of the pump's that is; -1: none."""
    since = events.time_ns(timestamp) - 1700000000 * 10**9
    return since // 1234567 if since % 1234567 == 0 else -1


def at_full_speed(ns, seed, queue):
    """The publisher alone, which does nothing but publish: so that is where it is killed."""
    rng = random.Random(seed)
    what = f"at full speed, {queue}"
    m = fdstore.Manager(ns, "lo", program=PUMP, queue_size=queue)
    m.start()
    end = (b'"in_iface":"pump"', b'"gone"')
    readers = {"fast": Reader(m.path, None, end), "slow": Reader(m.path, (20000, 0.01), end),
               "stopped": Reader(m.path, (1, 600), end)}
    for r in readers.values():
        r.start()
    live.wait_until(lambda: len(m.readers()) == 3, "the readers to be stored")
    for _ in range(PUMP_KILLS):
        time.sleep(rng.random() * 0.001)
        m.end()
        m.start()
    m.p.terminate()
    for name, r in readers.items():
        r.go.set()
        if not r.last.wait(live.DEADLINE):
            raise live.Timeout(f"the end at the {name} reader")
    a = {name: Account(r) for name, r in readers.items()}
    for name, one in a.items():
        tap.ok(not one.faults, f"{what}: the {name} reader has whole lines, no gap, none twice",
               *one.faults[:3])
        numbers = [number_of(t) for t in one.times]
        tap.ok(numbers[0] >= 0 and all(x < y for x, y in zip(numbers, numbers[1:])),
               f"{what}: the {name} reader has no event twice, and all in order")
        tap.ok(one.lost or numbers[-1] - numbers[0] + 1 == len(numbers),
               f"{what}: the {name} reader has all of them, unless it was told otherwise",
               numbers[0], numbers[-1], len(numbers))
        tap.ok(one.same(a["fast"]), f"{what}: the {name} reader has the lines that the others have")
    kinds = a["fast"].kinds
    print(f"# {what}: {kinds}, lost {[one.lost for one in a.values()]}")
    tap.equal({one.end for one in a.values()}, {a["fast"].end}, f"{what}: all come to the same number")
    tap.equal(a["fast"].lost or kinds["restart"], a["fast"].lost or PUMP_KILLS,
              f"{what}: each restart is told")
    tap.ok(a["stopped"].lost > 1000, f"{what}: who does not read was overtaken", a["stopped"].lost)
    m.end()
    m.empty()


def kept(m, *also):
    """The names in the store, without a subscriber's numbers."""
    return {n if not n.startswith("reader-") else "reader" for n in m.names()} - set(also)


def comings_and_goings(ns):
    m = fdstore.Manager(ns, "lo")
    m.start()
    s = live.Subscriber(m.path)
    s.until(lambda e: e, "hello")
    live.wait_until(lambda: "reader" in kept(m), "the subscriber in the store")
    tap.ok({"stream", "listener"} <= kept(m), "stream, socket and subscriber are in the store", m.names())
    s.close()
    live.wait_until(lambda: "reader" not in kept(m), "the store to forget it")
    tap.ok(True, "who leaves, leaves the store as well")
    stays, goes = m.subscribe(), m.subscribe()
    young = live.Subscriber(m.path)
    young.until(lambda e: e, "hello")
    m.end()
    young.to_end()
    tap.ok(young.ended and not young.checker.errors, "who has just connected is disconnected",
           young.checker.errors)
    goes.close()
    waiting = socket.socket(socket.AF_UNIX)
    waiting.connect(m.path)  # nobody is there to accept it
    m.start()
    stays.until(lambda e: live.find(e, "restart"), "the restart")
    restart = live.find(stays.events, "restart")
    tap.equal((restart["cause"], restart["seq"]), ("crash", stays.events[0]["next_seq"]),
              "a subscriber is told of the restart, under the next number")
    live.wait_until(lambda: len([n for n in m.names() if n.startswith("reader")]) == 2,
                    "who left meanwhile to be forgotten")
    tap.ok(True, "who left meanwhile is forgotten")
    waiting.settimeout(live.DEADLINE)
    hello = json.loads(waiting.makefile("rb").readline())
    tap.equal((hello["event_type"], hello["run_id"]), ("hello", stays.events[0]["run_id"]),
              "who connected meanwhile is greeted, in the same run")
    m.end(signal.SIGTERM)
    tap.ok(os.path.exists(m.path), "SIGTERM by a manager that keeps descriptors leaves the socket")
    m.start()
    stays.until(lambda e: live.find(e, "restart", cause="stop"), "the restart")
    tap.ok(not stays.checker.errors and not stays.ended, "and subscribers read on", stays.checker.errors)
    m.end(signal.SIGINT)
    stays.to_end()
    tap.ok(stays.ended and not stays.checker.errors, "SIGINT ends the stream", stays.checker.errors)
    tap.equal({"stream", "listener", "reader"} & kept(m), set(), "and empties the store of it")
    tap.ok(not os.path.exists(m.path), "and removes the socket")
    m.empty()


def what_cannot_go_on(ns):
    """A store that lacks something, or has what nobody understands."""
    m = fdstore.Manager(ns, "lo")
    m.start()
    s = m.subscribe()
    m.end()
    m.fds = [(n, fd) for n, fd in m.fds if not n.startswith("reader")]
    m.fds.append(("of-another-version", os.open("/dev/null", os.O_RDONLY)))
    m.start()
    t = m.subscribe()
    tap.equal(t.events[0]["run_id"], s.events[0]["run_id"],
              "a stream goes on without a subscriber that was not kept")
    tap.ok("of-another-version" not in m.names(), "what nobody knows is forgotten", m.names())
    s.close()
    m.end()
    fd, = (fd for n, fd in m.fds if n == "stream")
    os.pwrite(fd, b"x", 0)
    m.start()
    t.to_end()
    tap.ok(t.ended and not t.checker.errors, "a stream that is not understood ends for its subscribers",
           t.checker.errors)
    u = m.subscribe()
    tap.ok(u.events[0]["run_id"] != t.events[0]["run_id"] and u.events[0]["next_seq"] == 2,
           "and another begins", u.events[0])
    tap.equal([n for n in m.names() if n == "stream"], ["stream"], "which is the one that is kept")
    m.end()
    m.start()
    u.until(lambda e: live.find(e, "restart"), "the restart")
    tap.ok(not u.checker.errors, "and goes on in its turn", u.checker.errors)
    m.argv.append("--queue-size=1M")
    m.argv.append("--max-subscribers=2000")
    m.end(signal.SIGTERM)
    m.start()
    u.until(lambda e: live.find(e, "restart", cause="stop"), "the restart")
    tap.ok(not u.checker.errors, "also with another size: the stream keeps the one that it had")
    m.end()
    m.empty()


def without_a_store(ns):
    m = fdstore.Manager(ns, "lo", store=False)
    m.start()
    s = live.Subscriber(m.path)
    s.until(lambda e: e, "hello")
    tap.equal(m.names(), [], "without a store nothing is given away")
    m.end(signal.SIGTERM)
    s.to_end()
    tap.ok(s.ended and not s.checker.errors, "and SIGTERM ends the stream", s.checker.errors)


live.need("ip")
seed = int(os.environ.get("SEED", "1"))
print(f"# seed {seed} (SEED=... replays)")
ns = live.Netns()
with live.guarded("comings and goings"):
    comings_and_goings(ns)
with live.guarded("what cannot go on"):
    what_cannot_go_on(ns)
with live.guarded("without a store"):
    without_a_store(ns)
for queue in ("64K", "1M"):
    with live.guarded(f"at full speed, {queue}"):
        at_full_speed(ns, seed, queue)
if os.environ.get("ONLY") == "pump":
    tap.done()
with live.guarded("one stream"):
    one_stream(ns, seed)
with live.guarded("overtaken"):
    overtaken(ns, seed + 1)
tap.done()
