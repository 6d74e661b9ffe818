#!/usr/bin/python3
"""--events: what is left of the stream is what the full one has of these kinds, octet for octet but
for seq, which has no gaps.  Random segments of 4,000 connections, as in same.py, and a SYN flood.

FRAMES=N SEED=N: other numbers, other ones."""
import json
import os
import random
import re
import struct
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [os.path.join(HERE, "../support"), HERE]
import events
import same
import tap

SYNFIND = same.SYNFIND
ALL = ["tcp_open", "tcp_state", "tcp_established", "tcp_close", "tcp_retry", "tcp_stuck",
       "tcp_anomaly", "syn_flood", "stats"]
SETS = [[k] for k in ALL] + [["iface"], ["tcp_open", "tcp_close"], ALL[1:], ["tcp_retry", "tcp_stuck"]]
SEQ = re.compile(rb'"seq":\d+')
TIME = re.compile(rb'"timestamp":"[^"]*"')


def flood(us):
    """SYNs to one server that never answers."""
    for n in range(20000):
        us += 20
        tcp = struct.pack(">HHIIBBHHH", 1024 + n % 60000, 443, n, 0, 5 << 4, same.SYN, 64240, 0, 0)
        yield us, struct.pack(">BBHHHBBHII", 0x45, 0, 40, 0, 0, 64, 6, 0, 0x0b000000 + n,
                              0x0a090909) + tcp


def read(pcap, *args):
    p = subprocess.run([SYNFIND, "--read", pcap, "--stuck-after=1s,10s", *args],
                       capture_output=True, timeout=120)
    return p.stdout.splitlines(), p.returncode


def kind_of(line):
    return json.loads(line)["event_type"]


def rest(line, stats):
    """What must be the same.  stats counts events, and has the time of the newest one."""
    line = SEQ.sub(b"", line)
    return re.sub(rb'"events":\d+', b"", TIME.sub(b"", line)) if stats else line


def main():
    same.FRAMES = int(os.environ.get("FRAMES", "30000"))
    rnd = random.Random(same.SEED)
    print(f"# seed {same.SEED}, {same.FRAMES} frames")
    with tempfile.TemporaryDirectory(prefix="synfind-") as tmp:
        pcap = os.path.join(tmp, "kinds.pcap")
        with open(pcap, "wb") as f:
            f.write(struct.pack("<IHHIIII", 0xa1b2c3d4, 2, 4, 0, 0, 65535, 101))
            us = 0
            for make in (same.frames(rnd), flood(10**12 + 10**9)):
                for us, frame in make:
                    f.write(struct.pack("<IIII", us // 10**6, us % 10**6, len(frame), len(frame)))
                    f.write(frame)
        full, _ = read(pcap)
        of_kind = {}
        for line in full:
            kind = kind_of(line)
            of_kind.setdefault(kind, []).append(rest(line, kind == "stats"))
        for kind in ALL:
            tap.ok(of_kind.get(kind), f"the full stream has {kind}", sorted(of_kind))
        tap.ok("events" not in json.loads(full[0]), "its hello has no member events")

        for chosen in SETS:
            name = ",".join(chosen)
            some, status = read(pcap, f"--events={name}")
            want = [rest(line, b'"stats"' in line) for line in full if kind_of(line) in chosen]
            got = [rest(line, b'"stats"' in line) for line in some[1:]]
            tap.ok(got == want and not status, f"{name}: {len(want)} lines, those of the full stream",
                   len(got), got[:1], want[:1])
            hello = json.loads(some[0])
            tap.equal(sorted(hello["events"]), sorted(chosen), f"{name}: hello says so")
            checker = events.Checker()
            for line in some:
                checker.feed(line)
            tap.ok(checker.end(), f"{name}: a right stream, numbered without gaps", checker.errors)

        every = read(pcap, "--events=all")[0]
        tap.ok(every[1:] == full[1:], "all: the full stream")
        always = read(pcap, "--events=capture_loss,lost,restart")[0]
        tap.equal([json.loads(line).get("events") for line in always], [[]],
                  "what is always produced can be listed: here it is hello alone")
        newest = json.loads(read(pcap, "--events=stats")[0][0])["timestamp"]
        tap.ok(newest > "1970-01-12", "without an event, the time is that of the frames", newest)
        p = subprocess.run([SYNFIND, "--read", pcap, "--quiet", "--events=tcp_close"],
                           capture_output=True, timeout=120)
        tap.ok(f" {len(of_kind['tcp_close'])} events".encode() in p.stderr,
               "the summary counts those that were produced", p.stderr)
    p = subprocess.run([SYNFIND, "--read", "x", "--events=tcp_close,tcp_opn"], capture_output=True)
    tap.ok(p.returncode == 2 and b"--events: 'tcp_opn' is not a kind of event; did you mean "
           b"'tcp_open'?; allowed: all, tcp_open, " in p.stderr, "a wrong kind is an error", p.stderr)
    tap.done()


if __name__ == "__main__":
    main()
