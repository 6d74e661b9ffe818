#!/usr/bin/python3
"""The same file always gives the same lines, whatever its connections do to each other.

Random segments of thousands of connections at once: most of them fit, others are refused, leave gaps,
begin anew or come from the past.  FRAMES=N RUNS=N SEED=N: other numbers, other ones."""
import hashlib
import os
import random
import struct
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "../support"))
import events
import tap

SYNFIND = os.environ.get("SYNFIND", os.path.join(HERE, "../../build/synfind"))
SEED = int(os.environ.get("SEED", "1"))
FRAMES = int(os.environ.get("FRAMES", "100000"))
TUPLES, RUNS = 4000, int(os.environ.get("RUNS", "8"))
FIN, SYN, RST, ACK = 1, 2, 4, 16
FLAGS = [SYN] * 4 + [SYN | ACK] * 4 + [ACK] * 12 + [FIN | ACK] * 3 + [RST, RST | ACK]


def frames(rnd):
    """(time in us, frame): raw IPv4."""
    numbers = [[rnd.getrandbits(32), rnd.getrandbits(32)] for _ in range(TUPLES)]
    us = 10**12
    for _ in range(FRAMES):
        n, side = rnd.randrange(TUPLES), rnd.randrange(2)
        own, peer = numbers[n][side], numbers[n][not side]
        flags = rnd.choice(FLAGS)
        octets = rnd.choice((0, 0, 100, 1400)) if flags == ACK else 0
        luck = rnd.random()
        if luck < 0.1:
            own += rnd.choice((1400, -1400, 70000, 10**6, 10**9))
        elif luck < 0.2:
            peer += rnd.choice((1400, -1400, 70000, 10**6, 10**9))
        us += rnd.choice((1, 1000, 1000, 1000, -3000)) if rnd.random() > 1e-4 else 5 * 10**6
        ends = struct.pack(">4sI", b"\x0a\0\0\1", 0xc0a80000 + n), struct.pack(">HH", 40000 + n, 80)
        a, p = (ends[0], ends[1]) if not side else (ends[0][4:] + ends[0][:4], ends[1][2:] + ends[1][:2])
        tcp = p + struct.pack(">IIBBHHH", own % 2**32, peer % 2**32 if flags & ACK else 0, 5 << 4,
                              flags, 64240, 0, 0)
        head = struct.pack(">BBHHHBBH", 0x45, 0, 40 + octets, 0, 0, 64, 6, 0) + a
        yield us, head + tcp + bytes(octets)
        if luck >= 0.2:
            numbers[n][side] = own + octets + bool(flags & (SYN | FIN))


def main():
    rnd = random.Random(SEED)
    print(f"# seed {SEED}, {FRAMES} frames")
    with tempfile.TemporaryDirectory(prefix="synfind-") as tmp:
        pcap = os.path.join(tmp, "same.pcap")
        with open(pcap, "wb") as f:
            f.write(struct.pack("<IHHIIII", 0xa1b2c3d4, 2, 4, 0, 0, 65535, 101))
            for us, frame in frames(rnd):
                f.write(struct.pack("<IIII", us // 10**6, us % 10**6, len(frame), len(frame)) + frame)
        sums = set()
        for _ in range(RUNS):
            out = subprocess.run([SYNFIND, "--read", pcap], capture_output=True, timeout=120).stdout
            # But for what names the run: the first line.
            sums.add(hashlib.sha256(out.split(b"\n", 1)[1]).hexdigest())
    lines = out.splitlines()
    tap.ok(len(lines) > FRAMES / 10, f"{len(lines)} lines of {FRAMES} random segments")
    tap.equal(len(sums), 1, f"the same ones in each of {RUNS} runs")
    faults = events.check(lines)[1]
    tap.ok(not faults, "a right stream, each flow_id of one connection", faults)
    tap.done()


if __name__ == "__main__":
    main()
