#!/usr/bin/python3
"""Random segments on a few 4-tuples: whatever comes, the stream keeps its promises.

Half of them continue a conversation, the others are lost, repeated, reordered, stale or forged;
the clock jumps now and then.  SEED=N replays a run."""
import itertools
import os
import random
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "../support"))
import events
import script
import tap

SYNFIND = os.environ.get("SYNFIND", os.path.join(HERE, "../../build/synfind"))
SEED = int(os.environ.get("SEED", "10925"))
FILES, SEGMENTS, TUPLES = 12, 3000, 6

NEXT = ["SYN", "SYN-ACK", "ACK", "ACK", "DATA len=100", "DATA len=1400", "FIN", "RST-ACK", "RST"]
ODD = ["SYN-FIN", "SYN-RST", "FIN-ONLY", "NONE", "URG-ACK", "SYN-ACK-FIN", "FIN-RST-ACK"]
OPTIONS = ["", "mss=1460", "mss=9 wscale=7 sack ts", "tfo len=20", "len=30"]
WEIGHT = [3, 3, 8, 8, 8, 4, 4, 1, 1]


def segment(rnd):
    """One line of a script, without its time."""
    n = rnd.randrange(TUPLES)
    end = rnd.choice("CS")
    words = [f"{end}{n} > {'SC'['CS'.index(end)]}{n}"]
    flags = rnd.choice(ODD) if rnd.random() < 0.03 else rnd.choices(NEXT, WEIGHT)[0]
    words.append(flags)
    if flags.startswith("SYN"):
        words += rnd.choice(OPTIONS).split()
        if rnd.random() < 0.3:
            isn = rnd.choice([rnd.getrandbits(32), 2**32 - 1 - rnd.randrange(3000)])
            words.append(f"isn={isn}")
    luck = rnd.random()
    if luck < 0.10:
        words.append("lost")
    elif luck < 0.25:
        words.append(f"seq=nxt{rnd.choice([-1, -100, -1400, 1, 100, 70000, -70000, 10**9]):+d}")
        words.append(rnd.choice(["", "stray"]))
    elif luck < 0.35:
        words.append(f"ack=nxt{rnd.choice([-1, -100, 1, 1400, 10**8, -10**8]):+d}")
        words.append(rnd.choice(["", "stray"]))
    elif luck < 0.38:
        words.append(f"seq=abs:{rnd.getrandbits(32)} ack=abs:{rnd.getrandbits(32)} stray")
    if rnd.random() < 0.05:
        words.append("win=0")
    return " ".join(words)


def make(rnd):
    lines = [f"conn {n} C=10.0.0.1:{40000 + n} S=10.0.0.2:{80 + n}" for n in range(TUPLES - 1)]
    lines.append(f"conn {TUPLES - 1} C=10.0.0.9:5000 S=10.0.0.9:5000")  # a self-connection
    ns, used = 0, set()
    for _ in range(SEGMENTS):
        if rnd.random() < 0.99:
            ns += rnd.choice([10**3, 10**6, 10**7, 10**9, -10**6])
        else:
            ns += rnd.choice([7, 15, 80, 700, -30]) * 10**9
        ns = max(ns, 0)
        while ns in used:  # each frame has a time of its own, also where the clock steps back
            ns += 1
        used.add(ns)
        lines.append(f"@{ns // 10**9}.{ns % 10**9:09} {segment(rnd)}")
    return "\n".join(lines)


def one_each(stream):
    """A wire segment yields at most one event of a connection: [what breaks that]."""
    seen, twice = set(), []
    for e in stream:
        if e["event_type"].startswith("tcp_") and e["tcp"].get("segment", "timeout") != "timeout":
            key = e["flow_id"], e["timestamp"]
            if key in seen:
                twice.append(f"{e['event_type']} of {key}: {e['tcp']}")
            seen.add(key)
    return twice


def main():
    print(f"# seed {SEED} (SEED=... replays)")
    kinds = set()
    for n, mode in itertools.product(range(FILES), ("all", "control")):
        rnd = random.Random(SEED + n)
        with tempfile.TemporaryDirectory(prefix="synfind-") as tmp:
            pcap = os.path.join(tmp, "chaos.pcap")
            frames = script.compile_script(make(rnd))
            script.write_pcap(frames, pcap)
            p = subprocess.run([SYNFIND, "--read", pcap, "--anomalies-per-second=1000000",
                                f"--mode={mode}"], capture_output=True, timeout=120)
        stream, faults = events.check(p.stdout.splitlines())
        tap.ok(p.returncode == 0 and not faults, f"{len(frames)} random segments, mode {mode}: a right stream",
               f"SEED={SEED + n}", f"status {p.returncode}", faults, p.stderr.decode()[-500:])
        twice = one_each(stream)
        tap.ok(not twice, "and at most one event of a connection from each of them",
               f"SEED={SEED + n}", twice[:5])
        kinds |= {e["tcp"].get("reason", e["tcp"].get("kind", e["event_type"]))
                  for e in stream if "tcp" in e}
    tap.ok(len(kinds) > 15, f"{len(kinds)} kinds of endings and anomalies came up", sorted(kinds))
    tap.done()


if __name__ == "__main__":
    main()
