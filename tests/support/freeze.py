#!/usr/bin/python3
"""What the program does now, as hashes and numbers, to hold it against what it does after a change
that must not change it (names, places of functions).

    freeze.py record FILE [--only GROUP...]   writes what it does now
    freeze.py check FILE [--only GROUP...]    prints what differs; exit status 1 if anything does

Outputs are compared, never names of the sources.  An item that is missing differs, and so does one
that is new.  Groups:

    conformance   the lines of `synfind --read`: each case of tests/conformance, and each file
                  that cells.py, chaos.py and flood.py make
    traces        the same of each file in tests/fuzz/corpus, whatever it is, and the exit status
    workloads     the lines of build/tests/replay (support/replay.c) for the --quick workloads of
                  tests/bench; killed again and again it must tell what it tells undisturbed
    instructions  per packet, as callgrind counts them; at most 1 % more is the same
    rollback      hashes of the events that build/tests/test_rollback prints
    live          live/reload.py, handover.py and restore.py: their checks (numbers in names are
                  one), and the lives of connections that their streams tell (support/stories.py)

`record` does all but the instructions twice: what is not the same in both runs is left out, by
name ("unstable" in FILE).  So are the members of hello that name the host and the run, and stderr.
`synfind --read` draws a secret, which decides what an over-full table gives up (and, of chaos.py's
file 10, which refused segments are remembered): it runs with support/fixed_random.c, which makes
all secrets the same.

Live traffic differs from run to run.  Of it the SET of distinct lives is compared, and of that what
both recorded runs had: of lives that only one had (a segment that fell into the moment of an end,
or a frame that was dropped) nothing is said, and new ones are counted, but are no difference.  On
a machine that is too busy frames are dropped, and the live tests themselves fail.  Checks that
failed when they were recorded are not compared.

What a full table evicts is part of the output.  A change of the moment of eviction therefore changes
the items "small" of the workloads and the rollback hashes.  Then prove the rest apart: with the old
moment emulated in the new sources, all of them must be equal.
"""
import argparse
import collections
import contextlib
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
TESTS = os.path.join(ROOT, "tests")
sys.path[:0] = [HERE, os.path.join(TESTS, "conformance"), os.path.join(TESTS, "bench")]

SYNFIND = os.path.join(ROOT, "build/synfind")
REPLAY = os.path.join(ROOT, "build/tests/replay")
FIXED_RANDOM = os.path.join(ROOT, "build/tests/fixed_random.so")
ROLLBACK = os.path.join(ROOT, "build/tests/test_rollback")
HOST_DEPENDENT = ("host", "boot_id", "run_id", "version")
SMALL = ["--max-connections=1024", "--max-half-open=256"]
MORE = 1.01  # instructions: what is still the same
DEADLINE = 600


ENV = {k: v for k, v in os.environ.items() if k not in ("SEED", "KILLS", "RELOADS", "ONLY")}
FIXED = dict(ENV, LD_PRELOAD=FIXED_RANDOM)


def sha(data):
    return hashlib.sha256(data).hexdigest()


def sha_lines(out):
    """Of lines of the program; of hello only what is the same everywhere."""
    lines = out.split(b"\n")
    for i, line in enumerate(lines[:3]):
        if b'"event_type":"hello"' in line:
            hello = {k: v for k, v in json.loads(line).items() if k not in HOST_DEPENDENT}
            lines[i] = json.dumps(hello, sort_keys=True).encode()
    return sha(b"\n".join(lines))


def lines_of(*argv):
    """Hash of what a program writes, and its exit status, if that is not 0."""
    p = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=DEADLINE,
                       env=FIXED)
    return sha_lines(p.stdout) + (f" status {p.returncode}" if p.returncode else "")


# ---- groups: each yields (name, value)

def wrap(args):
    """Stands in for the program: passes its lines on, and notes their hash in $FREEZE_LOG."""
    files = [a for a in args if os.path.isfile(a)]
    with tempfile.TemporaryDirectory(prefix="freeze-") as tmp:
        known = os.path.join(tmp, "capture.pcap")  # the file's name is in the lines
        for name in files:
            os.symlink(name, known)
        p = subprocess.run([SYNFIND, *(known if a in files else a for a in args)],
                           stdout=subprocess.PIPE, env=FIXED)
    sys.stdout.buffer.write(p.stdout)
    digest = hashlib.sha256()
    for name in files:
        with open(name, "rb") as f:
            digest.update(f.read())
    rest = " ".join(a for a in args if a not in files)
    with open(os.environ["FREEZE_LOG"], "a") as f:
        noted = [rest, digest.hexdigest()[:16], sha_lines(p.stdout), p.returncode]
        f.write(json.dumps(noted) + "\n")
    return p.returncode


def through_wrapper(name):
    """Runs a program of tests/conformance; what each of its files gave, in order."""
    with tempfile.TemporaryDirectory(prefix="freeze-") as tmp:
        wrapper, log = os.path.join(tmp, "synfind"), os.path.join(tmp, "log")
        with open(wrapper, "w") as f:
            f.write(f'#!/bin/sh\nexec {sys.executable} {os.path.abspath(__file__)} wrap "$@"\n')
        os.chmod(wrapper, 0o755)
        p = subprocess.run([os.path.join(TESTS, "conformance", name)], stdout=subprocess.PIPE,
                           stderr=subprocess.DEVNULL, timeout=DEADLINE,
                           env=dict(ENV, SYNFIND=wrapper, FREEZE_LOG=log))
        yield f"{name} status", p.returncode
        with open(log) as f:
            for n, line in enumerate(f):
                rest, pcap, out, status = json.loads(line)
                yield f"{name} {n + 1} {rest}", f"{pcap} {out} {status}"


def conformance():
    import run
    import script
    for case in run.cases([]):
        path = os.path.join(run.HERE, case)
        args = run.read_want(os.path.join(path, "want.txt"))[1]
        with tempfile.TemporaryDirectory(prefix="freeze-") as tmp:
            pcap = os.path.join(path, "capture.pcap")
            if not os.path.exists(pcap):
                pcap = os.path.join(tmp, "capture.pcap")
                with open(os.path.join(path, "segs.txt")) as f:
                    text = f.read()
                script.write_pcap(script.compile_script(text), pcap, script.link_name(text))
            yield case, lines_of(SYNFIND, "--read", pcap, *args)
            yield (f"{case} --mode=control",
                   lines_of(SYNFIND, "--read", pcap, *args, "--mode=control"))
    for name in ("cells.py", "chaos.py", "flood.py"):
        yield from through_wrapper(name)


def traces():
    for folder, _, names in sorted(os.walk(os.path.join(TESTS, "fuzz/corpus"))):
        for name in sorted(names):
            path = os.path.join(folder, name)
            yield (os.path.relpath(path, TESTS),
                   lines_of(SYNFIND, "--read", path, "--decap", "--icmp"))


def loads(*names):
    import workloads
    made = workloads.Workloads(True)
    return {name: made[name] for name in names}


def workloads_():
    every = loads("W1", "W1r", "W2", "W3", "W4", "small-churn", "small-bulk", "small-flood")
    ways = {"plain": [], "kept": ["--kept"], "control": ["--control"],
            "kept control": ["--kept", "--control"],
            "small": SMALL, "kept small": ["--kept", *SMALL],
            "flood": ["--flood-half-open=50", "--flood-rate=20"],
            "kept flood": ["--kept", "--flood-half-open=50", "--flood-rate=20"]}
    for name, load in every.items():
        for way, options in ways.items():
            yield f"{name} {way}", lines_of(REPLAY, *options, load.pcap)
        yield f"{name} killed", lines_of(REPLAY, "--kill=40", load.pcap)
        yield f"{name} killed small", lines_of(REPLAY, "--kill=15", "--seed=2", *SMALL, load.pcap)
        if not name.startswith("W4"):
            yield f"{name} synfind", lines_of(SYNFIND, "--read", load.pcap)


def workloads_agree(items):
    """What has to be equal in itself."""
    for name, value in items.items():
        if " killed" in name and value != items.get(name.replace("killed", "kept")):
            print(f"workloads: {name} is not what it is without a kill")
            yield name


def instructions_of(*argv):
    p = subprocess.run(["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null", *argv],
                       stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, timeout=DEADLINE,
                       env=FIXED)
    m = re.search(r"Collected : (\d+)", p.stderr.decode(errors="replace"))
    if p.returncode or not m:
        raise SystemExit(f"freeze: callgrind {' '.join(argv)}: status {p.returncode}: "
                         + p.stderr.decode(errors="replace")[-500:])
    return int(m.group(1))


def instructions():
    import workloads
    if not shutil.which("valgrind"):
        raise SystemExit("freeze: valgrind is not installed")
    every = loads("small-churn", "small-bulk", "small-flood")
    programs = {"replay": [REPLAY, "--quiet"], "replay kept": [REPLAY, "--quiet", "--kept"],
                "synfind": [SYNFIND, "--quiet", "--read"]}
    for what, argv in programs.items():
        base = instructions_of(*argv, workloads.empty())
        for name, load in every.items():
            own = instructions_of(*argv, load.pcap) - base
            yield f"{name} {what}", round(own / load.frames, 2)


def rollback():
    p = subprocess.run([ROLLBACK], stdout=subprocess.PIPE, timeout=DEADLINE, env=ENV)
    yield "status", p.returncode
    for line in p.stdout.decode().splitlines():
        if line.startswith("# events: "):
            what, _, value = line[10:].rpartition(": ")
            yield what, value


def live(names=("reload", "handover", "takeover")):
    for name in names:
        with tempfile.TemporaryDirectory(prefix="freeze-") as tmp:
            out = os.path.join(tmp, "stories")
            p = subprocess.run([os.path.join(TESTS, "live", f"{name}.py")], stdout=subprocess.PIPE,
                               stderr=subprocess.DEVNULL, env=dict(ENV, FREEZE_OUT=out),
                               timeout=DEADLINE)
            stories = set()
            with contextlib.suppress(FileNotFoundError):
                with open(out) as f:
                    stories = set(f)
        checks = re.findall(r"^((?:not )?ok) \d+ - (.*)", p.stdout.decode(), re.M)
        yield f"{name} checks", sorted({f"{v}: {re.sub('[0-9]+', 'N', what)}"
                                        for v, what in checks})
        yield f"{name} stories", {sha(s.encode())[:16]: s.strip() for s in sorted(stories)}


GROUPS = {"conformance": conformance, "traces": traces, "workloads": workloads_,
          "instructions": instructions, "rollback": rollback, "live": live}


# ---- record and check

def note(text):
    print(f"[{time.strftime('%H:%M:%S')}] {text}", file=sys.stderr, flush=True)


def measure(group):
    before = time.monotonic()
    items = dict(GROUPS[group]())
    note(f"{group}: {len(items)} items, {time.monotonic() - before:.0f} s")
    return items


def both(a, b):
    """Of two runs: (what is the same, names of what is not)."""
    same, unstable = {}, []
    for name in {**a, **b}:
        x, y = a.get(name), b.get(name)
        if isinstance(x, dict) and isinstance(y, dict):
            same[name] = {k: v for k, v in x.items() if k in y}
            print(f"{name}: {len(same[name])} of {len({**x, **y})} are stable")
        elif x == y:
            same[name] = x
        else:
            unstable.append(name)
    return same, unstable


def record(path, groups):
    kept = {}
    if os.path.exists(path):  # other groups stay
        with open(path) as f:
            kept = json.load(f)
    bad = 0
    for group in groups:
        items, unstable = measure(group), []
        if group != "instructions":
            items, unstable = both(items, measure(group))
        if group == "workloads":
            bad += len(list(workloads_agree(items)))
        for name in unstable:
            print(f"{group}: not stable, left out: {name[:200]}")
        kept[group] = {"items": items, "unstable": sorted(unstable)}
        with open(path, "w") as f:
            json.dump(kept, f, indent=1)
            f.write("\n")
    return 1 if bad else 0


def differences(group, name, want, got):
    """Lines that say how an item differs; none: it is the same."""
    if got is None:
        return [f"{name}: missing"]
    if group == "instructions":
        change = f"{name}: {got:.2f} per packet, {100 * (got / want - 1):+.2f} %"
        if got > want * MORE:
            return [f"{change}, was {want:.2f}"]
        print(f"{group}: {change}")
        return []
    if isinstance(want, dict):
        new = got.keys() - want.keys()
        if new:
            print(f"{group}: {name}: {len(new)} that were not in both recorded runs, of {len(got)}")
        return [f"{name}: missing: {want[k]}" for k in want if k not in got]
    if isinstance(want, list):
        for x in set(got) - set(want):  # a check that fails now is missing among the passed ones
            print(f"{group}: {name}: not recorded: {x}")
        return [f"{name}: missing: {x}" for x in want if x not in got and x.startswith("ok")]
    return [] if got == want else [f"{name}: {got}, was {want}"]


def check(path, groups):
    with open(path) as f:
        kept = json.load(f)
    count = collections.Counter()
    for group in groups:
        if group not in kept:
            print(f"{group}: not recorded")
            count["differ"] += 1
            continue
        want, now = kept[group]["items"], measure(group)
        found = [d for name in want for d in differences(group, name, want[name], now.get(name))]
        found += [f"{name}: new" for name in now
                  if name not in want and name not in kept[group]["unstable"]]
        for line in found:
            print(f"{group}: {line}")
        if group == "workloads":
            count["differ"] += len(list(workloads_agree(now)))
        count["items"] += len(want)
        count["differ"] += len(found)
    print(f"{count['items']} items, {count['differ']} differences")
    return 1 if count["differ"] else 0


def main():
    if sys.argv[1:2] == ["wrap"]:
        sys.exit(wrap(sys.argv[2:]))
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    p.add_argument("what", choices=("record", "check"))
    p.add_argument("file")
    p.add_argument("--only", nargs="+", choices=list(GROUPS), default=list(GROUPS))
    a = p.parse_args()
    sys.stdout.reconfigure(line_buffering=True)
    sys.exit({"record": record, "check": check}[a.what](a.file, a.only))


if __name__ == "__main__":
    main()
