#!/usr/bin/python3
"""Holds the house's walls: who may include whom, no cycles, nothing mutable at file scope in lib/,
a comment over every prototype of lib/, nothing left to do in the sources."""
import os
import re
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "tests/support"))
import tap

os.chdir(ROOT)

# What a folder may include, besides itself.
MAY = {
    "lib/base": [],
    "lib/wire": ["lib/base"],
    "bpf": ["lib/base", "lib/wire"],
    "lib/source": ["lib/base", "lib/wire", "bpf"],
    "lib/flow": ["lib/base", "lib/wire", "bpf"],
    "lib/format": ["lib/base", "lib/wire", "lib/source", "lib/flow"],
    "daemon/common": ["lib/base", "lib/wire", "lib/source", "lib/flow", "lib/format", "bpf"],
}
DAEMON = MAY["daemon/common"] + ["daemon/common"]  # every other folder of daemon/
MAY["daemon/synfind"] = DAEMON + ["daemon/opener"]  # which it is without a service
SEARCH = ["lib", "", "daemon"]  # as the Makefile's -I


def sources():
    return sorted(os.path.join(d, f) for top in ("lib", "bpf", "daemon")
                  for d, _, files in os.walk(top) for f in files if f.endswith((".c", ".h")))


def text_of(path):
    with open(path, encoding="utf-8", errors="replace") as f:
        return f.read()


def folder(path):
    return os.path.dirname(path)


def includes(path):
    """The files of ours that a file includes: [(spelling, path or None)]."""
    found = []
    for name in re.findall(r'^\s*#\s*include\s+"([^"]+)"', text_of(path), re.M):
        places = [os.path.normpath(os.path.join(d, name)) for d in [*SEARCH, folder(path)]]
        found.append((name, next((p for p in places if os.path.exists(p)), None)))
    return found


def check_layers(graph):
    bad = []
    for path, found in graph.items():
        home = folder(path)
        if home not in MAY and not home.startswith("daemon/"):
            bad.append(f"{path}: no layer is known for {home}/")
            continue
        allowed = MAY.get(home, DAEMON)
        for name, target in found:
            if not target:
                bad.append(f"{path}: \"{name}\" is not there")
            elif folder(target) != home and folder(target) not in allowed:
                bad.append(f"{path}: {home}/ may not include {target}")
    tap.ok(graph and not bad, f"{len(graph)} files include lower layers and their own folder only",
           bad)


def check_cycles(graph):
    done, stack, cycles = set(), [], []

    def visit(path):
        if path in stack:
            cycles.append(" > ".join(stack[stack.index(path):] + [path]))
        elif path not in done:
            stack.append(path)
            for _, target in graph.get(path, []):
                if target:
                    visit(target)
            done.add(stack.pop())

    for path in graph:
        visit(path)
    tap.ok(not cycles, "no file includes itself, however far around", cycles)


def check_mutable(files):
    """Constants with addresses are in .data.rel.ro: read-only once relocated, so not meant."""
    bad, missing, symbols = [], [], 0
    for path in files:
        if not (path.startswith("lib/") and path.endswith(".c")):
            continue
        obj = f"build/obj/{path[:-2]}.o"
        if not os.path.exists(obj):
            missing.append(f"{obj} is not there: run make")
            continue
        out = subprocess.check_output(["nm", "--plugin=", "--format=sysv", obj], text=True)
        for line in out.splitlines():
            cells = [c.strip() for c in line.split("|")]
            if len(cells) == 7:
                symbols += 1
                if cells[2] in "bBdDCsS" and not cells[6].startswith(".data.rel.ro"):
                    bad.append(f"{path}: {cells[0]} is in {cells[6]}")
    tap.ok(symbols and not bad and not missing, "lib/ has no mutable variable at file scope",
           bad, missing)


PROTOTYPE = re.compile(
    r"^(?!typedef|struct \w+ \{|union|enum|#|\s|static inline|return|extern \"C\"|[/}*])"
    r"[A-Za-z_][^;{}=#]*\([^;{}]*\)[^;{}()]*;", re.M)


def check_comments(files):
    """A comment stands over each prototype, or over the block of lines that it belongs to."""
    bad, seen = [], 0
    for path in files:
        if not (path.startswith("lib/") and path.endswith(".h")):
            continue
        text = text_of(path)
        for m in PROTOTYPE.finditer(text):
            seen += 1
            before = text[:m.start()]
            if "*/" not in before.rsplit("\n\n", 1)[-1]:
                line = before.count("\n") + 1
                bad.append(f"{path}:{line}: {m[0].splitlines()[0]}")
    tap.ok(seen and not bad, f"each of {seen} prototypes of lib/ has a comment", bad)


def check_leftovers():
    words = re.compile(r"\b(TO" r"DO|FIX" r"ME|X" r"XX)\b")
    bad = []
    paths = ["Makefile", "README.md"]
    for top in ("lib", "bpf", "daemon", "tests", "docs", "conf", "systemd"):
        paths += [os.path.join(d, f) for d, _, files in os.walk(top) for f in files]
    for path in paths:
        binary = "/corpus/" in path or "__pycache__" in path or path.endswith(".pcap")
        if binary or not os.path.exists(path):
            continue
        for number, line in enumerate(text_of(path).splitlines(), 1):
            if words.search(line):
                bad.append(f"{path}:{number}: {line.strip()[:100]}")
    tap.ok(not bad, "nothing in the sources is left to do", bad)


files = sources()
graph = {path: includes(path) for path in files}
check_layers(graph)
check_cycles(graph)
check_mutable(files)
check_comments(files)
check_leftovers()
tap.done()
