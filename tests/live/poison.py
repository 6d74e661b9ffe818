#!/usr/bin/python3
"""What ends the daemon does not end each of its successors: a frame, an event, damaged memory.

The daemon has faults that this test chooses (tests/support/faults.c), and is started again whenever
it ends, as a service manager would do it."""
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

FAULTY = os.path.join(live.ROOT, "build/tests/synfind-faults")
DAMAGED = int(os.environ.get("DAMAGED", "5"))  # kept memories of each kind
SMALL = {"max_connections": 2048, "max_half_open": 2048, "event_ring_size": 1024, "queue_size": "1M",
         "ring_size": "2M", "block_timeout": "5ms"}
FRAME, HANGS, OPEN, EVENTS = 6661, 6662, 6663, 6664  # ports
os.environ["WATCHDOG_USEC"] = "2000000"
rng = random.Random(int(os.environ.get("SEED", "1")))


class Daemon(fdstore.Manager):
    def __init__(self, faults):
        os.environ["FAULTS"] = faults
        self.ns = live.Netns()
        self.deaths = 0
        super().__init__(self.ns, "lo", program=FAULTY, **SMALL)
        self.start()

    def whole_log(self):
        with open(self.log, errors="replace") as f:
            return f.read()

    def watch(self):
        """As a service manager: starts it again if it has ended; ends it if it feeds no watchdog."""
        self.take_in()
        if self.p.poll() is None and self.whole_log().count("has stalled") > self.stalled:
            time.sleep(1.5)  # it was fed 1 s before that: now 2 s are over
            self.p.send_signal(signal.SIGABRT)
            live.wait_until(self.has_ended, "the daemon to end")
        if self.p.poll() is not None:
            self.deaths += 1
            self.start(ready=False)

    def start(self, ready=True):
        self.stalled = self.whole_log().count("has stalled") if os.path.exists(self.log) else 0
        super().start(ready)

    def subscribe(self):
        """A subscriber that gets whatever comes now, and whom a restart does not disconnect."""
        before = len(self.readers())
        sub = live.Subscriber(self.path)
        sub.wait_for("hello")
        live.wait_until(lambda: len(self.readers()) > before, "the subscriber to be stored")
        return sub

    def refused(self, *ports):
        """A connection to each port, where nothing listens."""
        for port in ports:
            try:
                self.ns.connect(("127.0.0.1", port)).close()
            except ConnectionRefusedError:
                pass

    def until_closed(self, sub, port):
        """Restarts it until the close of that connection comes; returns how often it died."""
        before = self.deaths

        def came():
            self.watch()
            sub.read()
            return any(e["event_type"] == "tcp_close" and e["dest_port"] == port for e in sub.events)

        live.wait_until(came, f"the close of port {port}", live.DEADLINE)
        return self.deaths - before


def closes(sub):
    return sorted(e["dest_port"] for e in sub.events if e["event_type"] == "tcp_close")


def recovery(sub):
    return [e.get("recovery") for e in sub.events if e["event_type"] == "restart"]


def step(name, deaths, **of):
    return [{"step": name, "deaths": deaths, **of}]


LO = {"in_iface": "lo", "decoder": 0}


def poisoned(sub):
    return [e for e in sub.events if e["event_type"] == "capture_loss" and e["reason"] == "poison"]


def a_frame():
    d = Daemon(f"frame:{FRAME}:crash,frame:{HANGS}:hang")
    sub = d.subscribe()
    d.refused(*range(7001, 7031), FRAME, *range(7031, 7061))
    tap.equal(d.until_closed(sub, 7060), 2, "a frame ends the daemon twice")
    tap.equal(closes(sub), list(range(7001, 7061)),
              "every connection before and after it is reported, once")
    tap.equal(recovery(sub), [step("one_by_one", 1, **LO), step("skip", 2, **LO)], "restart tells what is done about it")
    tap.equal([(e["count"], e["in_iface"]) for e in poisoned(sub)], [(1, "lo")],
              "the frame that is skipped is a capture_loss")
    # Ethernet, IPv4 and TCP headers of a SYN to that port.
    tap.ok(f"{FRAME:04x}" in d.whole_log().split("this frame, which is skipped: ")[1].split("\n")[0],
           "and its octets are in the log")
    d.refused(7101, FRAME, 7102)
    tap.equal(d.until_closed(sub, 7102), 1, "the next one, soon after, ends it once")
    d.refused(*range(8000, 8600), FRAME, 8600)
    tap.equal(d.until_closed(sub, 8600), 2, "one that comes later ends it twice again")
    d.refused(*range(9000, 9600), HANGS, 9600)
    tap.equal(d.until_closed(sub, 9600), 2, "one in which it hangs trips the watchdog twice")
    tap.equal(closes(sub), [*range(7001, 7061), 7101, 7102, *range(8000, 8601), *range(9000, 9601)],
              "all others have been reported, once")
    tap.ok(not sub.checker.errors and not sub.checker.lost, "in one stream without a gap",
           sub.checker.errors, sub.checker.lost)
    d.end()
    d.empty()


def an_event():
    d = Daemon(f"open:{OPEN}:crash,event:{EVENTS}:crash")
    sub = d.subscribe()
    d.refused(7001, OPEN, 7002)
    tap.equal(d.until_closed(sub, 7002), 2, "an event ends it twice")
    tap.equal(closes(sub), [OPEN, 7001, 7002], "all others are reported, once")
    tap.equal([(e["reason"], e["count"]) for e in sub.events if e["event_type"] == "lost"],
              [("poison", 1)], "the one that is skipped is lost")
    tap.equal(recovery(sub), [step("one_by_one", 1), step("skip", 2)],
              "restart tells what is done about it")
    tap.ok(not sub.checker.errors, "the stream is right", sub.checker.errors)
    d.refused(*range(8000, 8600), EVENTS, 8600)
    live.wait_until(lambda: (d.watch(), d.deaths == 5)[1], "three more deaths")
    live.wait_until(d.is_ready, "the daemon to be ready")
    sub.to_end()
    tap.ok(True, "two in a row end it three times: then a new stream begins")
    sub = d.subscribe()
    d.refused(8601)
    tap.equal(d.until_closed(sub, 8601), 0, "in which all is well")
    tap.ok("three processes ended in it" in d.whole_log(), "the log says so")
    d.end()
    d.empty()


def a_connection():
    d = Daemon("sweep:0:crash")
    sub = d.subscribe()
    server = d.ns.listen(("127.0.0.1", 7000))
    client = d.ns.connect(("127.0.0.1", 7000))
    live.wait_until(lambda: (d.watch(), d.deaths == 3)[1], "three deaths")
    d.refused(7001)
    d.until_closed(sub, 7001)
    time.sleep(2.5)  # two sweeps
    d.watch()
    tap.equal(d.deaths, 3, "a connection that no sweep survives ends it three times")
    tap.equal(recovery(sub), [step("one_by_one", 1, **LO), step("one_by_one", 2, **LO), step("new_tables", 3, **LO)],
              "then it begins with new tables")
    tap.equal([e["tables"] for e in sub.events if e["event_type"] == "restart"],
              ["kept", "kept", "reset"], "and says that the connections are forgotten")
    for s in (client, server):
        s.close()
    d.end()
    d.empty()


# ---- damage -----------------------------------------------------------------------------------


def used(fd, first, end):
    """The offsets between the two of octets that are not zero."""
    offsets = []
    while first < end:
        try:
            first = os.lseek(fd, first, os.SEEK_DATA)
        except OSError:
            break
        if first >= end:
            break
        data = os.pread(fd, min(os.lseek(fd, first, os.SEEK_HOLE), end) - first, first)
        offsets += [first + i for i, octet in enumerate(data) if octet]
        first += max(len(data), 1)
    return offsets


def damage(fd, first, end):
    """Changes 1 to 1,000 octets: those of records, and some after them."""
    offsets = used(fd, first, end)
    for _ in range(rng.choice([1, 10, 100, 1000])):
        os.pwrite(fd, bytes([rng.randrange(256)]), rng.choice(offsets) + rng.choice([0, 0, rng.randrange(64)]))


def is_alive(d, clients):
    """Does it report a connection, survive segments of older ones, and live longer than a sweep takes?"""
    try:
        sub = live.Subscriber(d.path)
        sub.wait_for("hello")
        d.refused(7999)
        for c in clients:
            c.send(b"x")
        live.wait_until(lambda: 7999 in closes(sub) or d.has_ended() or not sub.read(), "a close", 5)
        until = time.monotonic() + 1.3
        while time.monotonic() < until and not d.has_ended():
            d.refused(7999)
            time.sleep(0.1)
        sub.close()
    except (OSError, live.Timeout):
        return False
    return not d.has_ended()


def survive(d, clients):
    """Starts it until it lives on; returns how often it died."""
    for deaths in range(10):
        d.start(ready=False)
        try:
            live.wait_until(d.is_ready, "the daemon to be ready", 5)
        except (RuntimeError, live.Timeout):
            d.end(signal.SIGABRT)
            continue
        if is_alive(d, clients):
            return deaths
        d.end(signal.SIGABRT)
    return 10


def damaged(kind, name, part):
    worst, died, dead = 0, 0, []
    for n in range(DAMAGED):
        d = Daemon("none:0:none")
        sub = d.subscribe()
        server = d.ns.listen(("127.0.0.1", 7000))
        clients = [d.ns.connect(("127.0.0.1", 7000)) for _ in range(20)]
        d.refused(*range(7001, 7021))
        d.until_closed(sub, 7020)
        d.end()
        fd = next(fd for n, fd in d.fds if n == name)
        damage(fd, *part(os.fstat(fd).st_size))
        deaths = survive(d, clients)
        died += deaths > 0
        worst = max(worst, deaths)
        if deaths > 4:
            dead.append(f"number {n}: {deaths} deaths; {d.stderr()[-1500:]}")
        for s in (*clients, server, sub):
            s.close()
        d.end()
        d.empty()
        d.ns.close()
    tap.diag(f"{kind}: {died} of {DAMAGED} damaged ones ended it, at most {worst} times")
    tap.ok(not dead, f"{kind}: {DAMAGED} damaged ones end it at most four times each", *dead[:3])


live.need("ip")
with live.guarded("a frame"):
    a_frame()
with live.guarded("an event"):
    an_event()
with live.guarded("a connection"):
    a_connection()
HEADS = 1 << 18  # head, progress, ring of events; then the tables
with live.guarded("damaged decoder"):
    damaged("decoder", "tables-0-0", lambda size: (0, HEADS))
with live.guarded("damaged tables"):
    damaged("tables", "tables-0-0", lambda size: (HEADS, size - (4 << 20)))
with live.guarded("damaged stream"):
    damaged("stream", "stream", lambda size: (0, min(size, 1 << 18)))
tap.done()
