#!/usr/bin/python3
"""Nobody is late because open connections are listed to others: the ages of live events at an observer,
before and while subscribers take snapshots, one of 1 MB/s and one as fast as it can; and the memory that
takes.

OPEN=1000000 SECONDS=20 PPS=50000: open connections, seconds of each part, packets of other traffic."""
import bisect
import datetime
import json
import os
import random
import socket
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../support"))
import fast
import live
import tap

OPEN = int(os.environ.get("OPEN", "50000"))
SECONDS = float(os.environ.get("SECONDS", "3"))
PPS = int(os.environ.get("PPS", "10000"))
SLOW = 1_000_000  # octets/s
CLOSED_PORT = 9
LATE_MS = 50


class Attempts(threading.Thread):
    """Connections to a port where nobody listens: each SYN is an event at once."""

    def __init__(self, ns):
        super().__init__(daemon=True)
        self.ns, self.going = ns, True

    def run(self):
        rng = random.Random(14)
        while self.going:
            with self.ns():
                s = socket.socket()
            with s:
                s.connect_ex(("10.0.1.2", CLOSED_PORT))
            time.sleep(0.002 + rng.random() * 0.003)


def memory(pid):
    """Resident octets."""
    with open(f"/proc/{pid}/statm") as f:
        return int(f.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def listing(path, rate=None, seconds=None):
    """One snapshot, or the part of it that comes within some seconds: (rows, snapshot_end)."""
    begin, octets, rows, tail = time.monotonic(), 0, 0, b""
    with socket.socket(socket.AF_UNIX) as s:
        s.settimeout(live.DEADLINE)
        s.connect(path)
        s.sendall(b'{"snapshot":true,"events":[]}\n')
        while not seconds or time.monotonic() < begin + seconds:
            data = s.recv(rate // 20 if rate else 1 << 20)
            *lines, tail = (tail + data).split(b"\n")
            rows += sum(b'"event_type":"snapshot",' in line for line in lines)
            octets += len(data)
            if lines and b'"snapshot_end"' in lines[-1]:
                return rows, json.loads(lines[-1])
            if rate:
                time.sleep(max(0, begin + octets / rate - time.monotonic()))
    return rows, None


def again_and_again(path):
    """Whole snapshots, one after the other."""
    end = time.monotonic() + SECONDS
    found = [listing(path)]
    while time.monotonic() < end:
        found.append(listing(path))
    return found


def stamp_ns(line):
    """The time of a line, from its first member."""
    text = line[14:43].decode()
    seconds = datetime.datetime.fromisoformat(text[:19] + "+00:00").timestamp()
    return int(seconds) * 10**9 + int(text[20:29])


class Parts:
    """Spans of time, and the ages of the events in each."""

    def __init__(self, pid):
        self.pid, self.spans, self.ages, self.grown = pid, {}, {}, {}

    def run(self, name, what, *args, **kw):
        time.sleep(0.5)
        before, begin = memory(self.pid), time.time_ns()
        result = what(*args, **kw)
        self.spans[name], self.grown[name] = (begin, time.time_ns()), memory(self.pid) - before
        return result

    def measure(self, observer):
        upto, times = observer.reads()
        at, attempt = 0, b'"dest_port":%d,' % CLOSED_PORT
        for line in observer.data().split(b"\n"):
            at += len(line) + 1
            if b'"event_type":"tcp_open"' in line and attempt in line:
                stamp = stamp_ns(line)
                age = times[bisect.bisect_left(upto, at)] - stamp
                for name, (begin, end) in self.spans.items():
                    if begin <= stamp < end:
                        self.ages.setdefault(name, []).append(age / 1e6)
        for name, ages in self.ages.items():
            ages.sort()
            begin, end = self.spans[name]
            tap.diag(f"{name}: {(end - begin) / 1e9:.1f} s, {len(ages)} events, age p50 {ages[len(ages) // 2]:.2f} "
                     f"p99 {self.p99(name):.2f} max {ages[-1]:.2f} ms; grown by {self.grown[name] // 1024} KiB")

    def p99(self, name):
        return self.ages[name][int(len(self.ages[name]) * 0.99)]


live.need("ip")
with live.guarded("listing"):
    tmp = fast.memory_dir()
    held, churn = (os.path.join(tmp, name) for name in ("held", "churn"))
    truth = fast.generate(held, f"--hold --leave-open --headers -n {OPEN} -w 1000 --ipv6 20")
    frames = fast.generate(churn, f"--seed 5 --headers -w 500 -n {int(PPS * (5 * SECONDS + 10) / 8)}")["frames"]
    a, b = live.veth_pair()
    daemon = live.Synfind(b, "veth-b", ring_size="64M", max_connections="2000000", queue_size="64M")
    observer = fast.Readers(daemon.path, [(None, {})], tmp)
    observer.urgent()  # what is measured is the daemon
    fast.blast(a, held, "-p", "200000").wait(120)
    attempts = Attempts(a)
    attempts.start()
    others = fast.blast(a, churn, "-p", str(PPS))
    parts = Parts(daemon.p.pid)
    parts.run("nothing listed", time.sleep, SECONDS)
    rows, end = parts.run("to 1 MB/s", listing, daemon.path, rate=SLOW, seconds=SECONDS)
    tap.ok(rows > 500 * SECONDS and not end, "a subscriber of 1 MB/s gets its lines as it reads", rows, end)
    found = parts.run("at full speed", again_and_again, daemon.path)
    tap.diag(f"{sum(rows for rows, _ in found)} lines in {len(found)} snapshots")
    tap.ok(all(OPEN <= rows == end["count"] for rows, end in found),
           "snapshots at full speed are complete", [r for r, _ in found][:5])
    tap.equal(others.poll(), None, "there is other traffic to the end")
    others.kill()
    attempts.going = False
    attempts.join()
    live.wait_until(lambda: observer.end_of().endswith(b"\n"), "whole lines")
    observer.stop()
    parts.measure(observer)
    least = max(LATE_MS, 5 * parts.p99("nothing listed"))
    for name in ("to 1 MB/s", "at full speed"):
        tap.ok(parts.p99(name) < least and len(parts.ages[name]) > 100,
               f"{name}: the events of others are not late", parts.p99(name), parts.p99("nothing listed"))
        tap.ok(parts.grown[name] < parts.grown["nothing listed"] + (2 << 20),
               f"{name}: the daemon does not grow, but for the other traffic", parts.grown)
    tap.equal(daemon.stop(), 0, "status 0")
tap.done()
