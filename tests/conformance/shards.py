#!/usr/bin/python3
"""A file read by several decoders gives what one gives: every case of this directory, random
segments, many connections, files from a pipe, and files that break.

The same lines, and those that a segment caused in the same order.  What one sweep of timeouts finds, and
what the end of the file closes, may come in another order (and so with another number)."""
import json
import os
import random
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
sys.path.insert(0, os.path.join(ROOT, "tests/support"))
import events
import script
import tap

SYNFIND = os.environ.get("SYNFIND", os.path.join(ROOT, "build/synfind"))
GEN = os.environ.get("GEN", os.path.join(ROOT, "build/tests/gen"))
SEED = int(os.environ.get("SEED", random.randrange(1 << 32)))
CHURN = "-n 6000 -w 700 --segs 2 --payload 400 --request 200 -s 128 --ipv6 20 --refused 5 " \
        "--unanswered 3 --aborted 7 --fin3 50 --reuse 20".split()


def read(pcap, decoders, args, stdin=None):
    argv = [SYNFIND, "--read", "-" if stdin else pcap, f"--decoders={decoders}", *args]
    p = subprocess.run(argv, capture_output=True, timeout=120, stdin=stdin)
    checker = events.Checker(schema=False)
    lines = [checker.feed(line) for line in p.stdout.splitlines(keepends=False)]
    checker.end()
    return lines, checker.errors, (p.returncode, p.stderr)


def is_late(e):
    """Is it told of no segment: a timeout, or the end?"""
    return "tcp" in e and e["tcp"].get("segment", "timeout") == "timeout"


def comparable(lines):
    """The lines without numbers: first in order those that a segment caused, then the others.  Of
    a connection that has no more than its open and a late close the open is among these: it may
    be an attempt that was held back, and is told with its end."""
    flows, on_time, late = {}, [], []
    for e in lines:
        flows.setdefault(e.get("flow_id"), []).append(e)
    for e in lines:
        flow = flows[e.get("flow_id")]
        text = json.dumps({k: v for k, v in e.items() if k not in ("seq", "run_id", "next_seq")},
                          sort_keys=True)
        (late if is_late(e) or "tcp" in e and is_late(flow[min(1, len(flow) - 1)])
         else on_time).append(text)
    return on_time + sorted(late)


def first_difference(a, b):
    for x, y in zip(a + ["(nothing)"] * len(b), b + ["(nothing)"] * len(a)):
        if x != y:
            return [f"one     {x}", f"several {y}"]
    return []


def same(what, pcap, args=(), decoders=(2, 3), piped=False):
    want, _, status = read(pcap, 1, args)
    for n in decoders:
        got, errors, got_status = read(pcap, n, args)
        a, b = comparable(want), comparable(got)
        tap.ok(a == b and got_status == status and not errors,
               f"{what}: {n} decoders, {len(a)} lines", first_difference(a, b), errors,
               f"status {status}", f"status {got_status}")
        again, _, _ = read(pcap, n, args)
        strip = [{k: v for k, v in e.items() if k != "run_id"} for e in got]
        tap.ok(strip == [{k: v for k, v in e.items() if k != "run_id"} for e in again],
               f"{what}: {n} decoders, the same each time")
    if piped:
        for n in decoders:
            with open(pcap, "rb") as f:
                cat = subprocess.Popen(["cat"], stdin=f, stdout=subprocess.PIPE)
            got, errors, _ = read(pcap, n, args, stdin=cat.stdout)
            cat.stdout.close()
            cat.wait()
            b = comparable(got)
            name = json.dumps(os.path.basename(pcap))
            b = [line.replace('"stdin"', name) for line in b]
            tap.ok(comparable(want) == b and not errors, f"{what}: {n} decoders, from a pipe",
                   first_difference(comparable(want), b), errors)


def case_args(case):
    with open(os.path.join(HERE, case, "want.txt")) as f:
        lines = [line.split("#", 1)[0].split() for line in f]
    return [w for words in lines if words[:1] == ["args"] for w in words[1:]]


def compiled(tmp, text, name):
    pcap = os.path.join(tmp, f"{name}.pcap")
    script.write_pcap(script.compile_script(text), pcap, script.link_name(text))
    return pcap


def all_cases(tmp):
    """Every case; then all that fit together in one file, each with ports of its own."""
    for case in sorted(c for c in os.listdir(HERE) if os.path.exists(f"{HERE}/{c}/want.txt")):
        pcap = os.path.join(HERE, case, "capture.pcap")
        if not os.path.exists(pcap):
            with open(os.path.join(HERE, case, "segs.txt")) as f:
                pcap = compiled(tmp, f.read(), case)
        same(case, pcap, case_args(case))


def jumbled(tmp, rng):
    """Many connections, frames late by up to seconds, gaps in which all times out, the clock set
    back: as times within the file."""
    text, clock = "", 0.0
    for n in range(400):
        text += f"conn {n} C=10.0.{n % 7}.{1 + n % 250}:{20000 + n} S=10.1.0.1:80\n"
    for _ in range(4000):
        n = rng.randrange(400)
        word = rng.choice(("SYN", "SYN-ACK", "ACK", "DATA len=9", "DATA len=9", "FIN", "RST"))
        c, s = (f"C{n}", f"S{n}") if rng.random() < 0.6 else (f"S{n}", f"C{n}")
        clock += rng.choice((0.001,) * 300 + (0.4,) * 20 + (3, 9, 30, 80))
        at = clock - (rng.random() * 3 if rng.random() < 0.1 else 0)
        if rng.random() < 0.001:
            clock -= rng.choice((5, 40))
        clock = max(clock, 0.0)
        text += f"@{max(at, 0):.6f} {c} > {s} {word}\n"
    return compiled(tmp, text, "jumbled")


tap.diag(f"SEED={SEED}")
with tempfile.TemporaryDirectory(prefix="synfind-") as tmp:
    all_cases(tmp)
    rng = random.Random(SEED)
    # Limits and thresholds of each decoder; conformance/flood.py has those of floods.
    none = ["--anomalies-per-second=0", "--syn-flood-half-open=0"]
    for i in range(3):
        pcap = jumbled(tmp, rng)
        same(f"jumbled {i}", pcap, none + ["--timeout-established=5s"], (2, 3, 7))
        same(f"jumbled {i}, control", pcap, none + ["--timeout-established=5s", "--mode=control"])
    pcap = os.path.join(tmp, "churn.pcap")
    subprocess.run([GEN, "--seed", str(SEED), *CHURN, "-o", pcap], check=True,
                   stderr=subprocess.DEVNULL)
    same("churn", pcap, none + ["--timeout-time-wait=100ms"], (2, 3, 16), piped=True)
    same("churn, control", pcap, none + ["--mode=control"], (2, 3), piped=True)
    with open(pcap, "rb") as f:
        octets = f.read()
    broken = os.path.join(tmp, "broken.pcap")
    with open(broken, "wb") as f:
        f.write(octets[: rng.randrange(len(octets) // 2, len(octets) - 100)])
    same("broken", broken, none)
tap.done()
