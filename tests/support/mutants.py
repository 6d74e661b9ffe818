#!/usr/bin/python3
"""Do the tests notice?  Breaks the state table, the check of segments, the short ways and the SYN
floods in one place at a time, builds a synfind of each such mutant, and runs the tests on it until
one fails.

lib/flow/tcp_fsm.c: each legal cell to illegal and to another state, its `inferred` mark turned round;
each member of each row of about[].  fsm_step(), lib/flow/segment_check.c, fastpath.c,
conn.c, conn.h and bpf/predict.h: the pieces in segment_check_mutants.py, one check at a time.
lib/flow/transition.c, late.c, answers.c, trouble.c and recall.c: those in trouble_mutants.py.
lib/flow/listing.c, emit.c and table.c: those in listing_mutants.py.
lib/flow/dedupe.c: those in dedupe_mutants.py, which test_dedupe and conformance/dedupe.py must
notice.  lib/flow/segment_report.c, lib/wire/tcpopt.c, and of the daemon lister.c, filters.c, linelog.c and
subscriber.c: those in request_mutants.py, which the unit tests must notice.
lib/flow/synflood.c, deferral.c and close.c: those in synflood_mutants.py, which the unit tests of
synflood and fastpath and conformance/flood.py must notice.  The other tests: the unit tests of the
module, or of fastpath (where the short ways and the general one are compared), conformance/cells.py,
the cases of conformance/run.py; for the state table those come first, as few of its cells need
test_tcp_fsm, which alone reaches those that no sequence of segments does.

    mutants.py [-j N] [-v] [WORD...]   only mutants whose name contains one of the words; 2 at a time

Prints who survived; the last line is `N mutants, N died, N survived`.  The status is 0 only if all
died, but for those that are listed below as equivalent, with the reason.
"""
import argparse
import concurrent.futures
import glob
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "tests/conformance"))
import cells
import dedupe_mutants
import listing_mutants
import request_mutants
import synflood_mutants
import segment_check_mutants
import trouble_mutants
import run

FSM, CHECK, FASTPATH, CONN, SYNFLOOD, DEFERRAL, CLOSE = (
    f"lib/flow/{name}.c" for name in
    ("tcp_fsm", "segment_check", "fastpath", "conn", "synflood", "deferral", "close"))
TRANSITION, LATE, ANSWERS, TROUBLE, RECALL = (
    f"lib/flow/{name}.c" for name in ("transition", "late", "answers", "trouble", "recall"))
LISTING, EMIT, TABLE = (f"lib/flow/{name}.c" for name in ("listing", "emit", "table"))
DEDUPE = "lib/flow/dedupe.c"
SEGMENT_REPORT, TCPOPT = "lib/flow/segment_report.c", "lib/wire/tcpopt.c"
LISTER, FILTERS, LINELOG, SUBSCRIBER = (
    f"daemon/synfind/{name}.c" for name in ("lister", "filters", "linelog", "subscriber"))
CONN_H, PREDICT = "lib/flow/conn.h", "bpf/predict.h"
# What compiles a header, in the tracker.
USERS = {PREDICT: [FASTPATH, "lib/flow/tracker.c"], CONN_H: [CHECK]}
UNITS = {DEDUPE: ["test_dedupe"], FSM: ["test_tcp_fsm"], CHECK: ["test_segment_check", "test_fastpath"],
         FASTPATH: ["test_fastpath"], PREDICT: ["test_fastpath"],
         CONN: ["test_conn", "test_fastpath"], CONN_H: ["test_segment_check", "test_fastpath"],
         SYNFLOOD: ["test_synflood"], DEFERRAL: ["test_synflood", "test_fastpath"],
         CLOSE: ["test_synflood", "test_fastpath"],
         TRANSITION: ["test_fastpath"], LATE: ["test_fastpath"], ANSWERS: ["test_answers"],
         TROUBLE: ["test_fastpath"], RECALL: ["test_recall"],
         LISTING: ["test_listing"], EMIT: ["test_listing"], TABLE: ["test_listing", "test_table"],
         SEGMENT_REPORT: ["test_segment_report"], TCPOPT: ["test_tcpopt"],
         LISTER: ["test_lister"], FILTERS: ["test_filters"], LINELOG: ["test_filters"],
         SUBSCRIBER: ["test_filters", "test_linelog"]}
# Unit tests that include sources of the daemon: no other test is run on these.
INCLUDED = {"test_lister": [LISTER], "test_filters": [FILTERS, LINELOG, SUBSCRIBER],
            "test_linelog": [FILTERS, LINELOG, SUBSCRIBER]}
CC = ["gcc", "-std=gnu17", "-fms-extensions", "-O0", "-fno-lto", "-Ilib", "-I.", "-Idaemon",
      "-D_GNU_SOURCE", "-w"]
# What no test can notice, by how its name begins, and why.
EQUIVALENT = {
    "segment_check: a FIN overtaken though it was acknowledged":
        "the window, whose lower end is what was acknowledged, refuses it two lines later",
    "segment_check: early data after the handshake":
        "data moves nothing there, and in CLAIMED the ACK that it carries moves first",
    "segment_check: early data of the client":
        "its ACK has completed the handshake, and its SYNs cannot have crossed with Fast Open",
}


def equivalent(name):
    return next((why for start, why in EQUIVALENT.items() if name.startswith(start)), None)


class Mutant:
    def __init__(self, name, path, text):
        self.name, self.path, self.text = name, path, text


def twin(state, columns):
    """Where a wrong hand would put it: the same of the other side, or else the next column."""
    other = state[:-1] + {"A": "B", "B": "A"}.get(state[-1], "?")
    return other if other in columns else columns[(columns.index(state) + 1) % len(columns)]


def cell_mutants(text, name, row, columns):
    """Each legal cell of one row of states to illegal, to another state, and its mark turned round."""
    words = row[1].split(",")
    for i, (word, column) in enumerate(zip(words, columns, strict=True)):
        if word == "xx":
            continue
        state, inferred = word.upper(), word.islower()
        other = twin(state, TWO_LETTERS)
        for new in ["xx", other + (" | INFERRED" if inferred else ""),
                    state if inferred else state + " | INFERRED"]:
            cell = words[:i] + [new] + words[i + 1:]
            yield Mutant(f"{name} at {column}: {word} to {new}", FSM,
                         text[:row.start(1)] + ",".join(cell) + text[row.end(1):])


TWO_LETTERS = "NO SY XS XA XB AN CL OP FA FB HA HB LA LB BO BA BB GA GB GX WA WB DA DB DX RS".split()


def fsm_mutants(text):
    row = re.compile(r"\{([^}]*)\},")
    for m in re.finditer(r"^(ROW|FINS|EITHER)\(([^)]*)\)\s*(?=\{)", text, re.M):
        yield from cell_mutants(text, f"{m[1]} {m[2]}", row.match(text, m.end()), TWO_LETTERS)
    for m in re.finditer(r"\[(SIDE_[AB])\] = (?=\{BO)", text):
        yield from cell_mutants(text, f"crossed {m[1]}", row.match(text, m.end()),
                                ["none", "own", "peer", "both"])
    ends = "LISTEN SYN_SENT SYN_RECEIVED ESTABLISHED FIN_WAIT_1 FIN_WAIT_2 CLOSE_WAIT CLOSING " \
           "LAST_ACK TIME_WAIT CLOSED".split()
    waits = "SYN_SENT SYN_RECEIVED ESTABLISHED HALF_CLOSED CLOSING TIME_WAIT RESET".split()
    row = re.compile(r"\[(FSM_\w+)\]\s*= \{ ENDS\((\w+), (\w+)\), (\d), (\d), FSM_T_(\w+) \},")
    for m in row.finditer(text):
        def changed(group, new):
            return Mutant(f"about {m[1]}: {['', '', 'end A', 'end B', 'closer', 'fins', 'timeout'][group]} "
                          f"{m[group]} to {new}", FSM,
                          text[:m.start(group)] + str(new) + text[m.end(group):])
        for group in (2, 3):
            yield changed(group, ends[(ends.index(m[group]) + 1) % len(ends)])
        for group in (4, 5):
            yield changed(group, int(m[group]) ^ 1)
            yield changed(group, int(m[group]) ^ 2)
        yield changed(6, waits[(waits.index(m[6]) + 1) % len(waits)])


C_TOKEN = re.compile(r'\w+|"(?:\\.|[^"\\])*"|\S')


def piece_pattern(piece):
    """Finds a piece of C however it is laid out: the same tokens, any white space between them."""
    tokens = C_TOKEN.findall(piece)
    pattern = r"\s*".join(re.escape(t) for t in tokens)
    return re.compile(pattern)


def piece_mutants(path, text, pieces):
    name = os.path.basename(path)
    for piece, broken in pieces:
        found = list(piece_pattern(piece).finditer(text))
        if len(found) != 1:
            raise SystemExit(f"mutants.py: {name} has changed: {len(found)} times {piece!r}")
        for what, new in broken:
            yield Mutant(f"{name[:-2]}: {what}", path,
                         text[:found[0].start()] + new + text[found[0].end():])


# ---- one mutant

class Bench:
    """What all mutants share, made once: objects, captures, cases."""

    def __init__(self, tmp):
        self.tmp = tmp
        self.objects = []
        for path in glob.glob(os.path.join(ROOT, "build/obj/daemon/*/*.o")):
            source = os.path.join(ROOT, os.path.relpath(path, ROOT)[len("build/obj/"):-1] + "c")
            if "/synfinctl/" in path or path.endswith("opener/main.o") or not os.path.exists(source):
                continue  # another program's, or of a file that is gone
            name = os.path.join(tmp, os.path.relpath(path, ROOT).replace("/", "_"))
            shutil.copy(path, name)
            self.objects.append(name)
        self.lib = os.path.join(tmp, "libsynfind.a")
        shutil.copy(os.path.join(ROOT, "build/libsynfind.a"), self.lib)
        with open(os.path.join(ROOT, "Makefile")) as f:
            packages = re.search(r"^PKGS\s*:=\s*(.*)$", f.read(), re.M)[1].split()
        self.libs = subprocess.run(["pkg-config", "--libs", *packages],
                                   capture_output=True, text=True, check=True).stdout.split()
        self.libs.append("-pthread")
        for names in UNITS.values():
            for name in set(names) - set(INCLUDED):
                self.cc("-c", "-o", f"{tmp}/{name}.o", f"tests/unit/{name}.c")
        self.captures = cells.captures(cells.Tables())
        self.cases = [(case, *run.read_want(os.path.join(run.HERE, case, "want.txt")))
                      for case in run.cases([])]

    def cc(self, *args):
        subprocess.run([*CC, *args], cwd=ROOT, check=True, capture_output=True)

    def killer(self, mutant, work):
        """The name of the test that notices, or None."""
        synfind = os.path.join(work, "synfind")
        source = os.path.join(work, mutant.path)
        os.makedirs(os.path.dirname(source))
        with open(source, "w") as f:
            f.write(mutant.text)
        if mutant.path.startswith("daemon/"):
            return self.including(mutant, work)
        try:
            obj = []
            for user in USERS.get(mutant.path, [source]):
                obj.append(os.path.join(work, os.path.basename(user)[:-1] + "o"))
                self.cc("-iquote", work, "-iquote", f"{work}/lib", "-c", "-o", obj[-1], user)
            self.cc("-o", synfind, *self.objects, *obj, self.lib, *self.libs)
        except subprocess.CalledProcessError as e:
            return "the compiler: " + e.stderr.decode()[:200]
        try:
            if mutant.path == FSM:
                return self.cells(synfind) or self.conformance(synfind) or \
                    self.units(mutant, obj, work)
            why = self.units(mutant, obj, work)  # the quickest
            if mutant.path in (SEGMENT_REPORT, TCPOPT):
                return why
            if mutant.path == DEDUPE:
                return why or self.script("dedupe.py", synfind)
            if why or mutant.path in (SYNFLOOD, DEFERRAL, CLOSE):
                return why or self.flood(synfind)
            why = self.cells(synfind) or self.conformance(synfind)
            return why or (self.flood(synfind) if mutant.path == TROUBLE else None)
        except subprocess.TimeoutExpired:
            return "a timeout"

    def cells(self, synfind):
        for what, capture in self.captures.items():
            stream = parse(capture.run(synfind))
            if stream is None:
                return f"cells: {what}: no stream"
            for talk, _, difference in capture.differences(stream):
                if difference:
                    return f"cells: {what}: {talk.cell.name}"
            if capture.uncounted(stream):
                return f"cells: {what}: {capture.uncounted(stream)}"
        return None

    def script(self, name, synfind):
        p = subprocess.run([os.path.join(run.HERE, name)], capture_output=True, timeout=300,
                           env={**os.environ, "SYNFIND": synfind})
        return f"{name}: status" if p.returncode else None

    def flood(self, synfind):
        return self.script("flood.py", synfind)

    def conformance(self, synfind):
        run.SYNFIND = synfind
        for case, wants, args in self.cases:
            stream, faults, times = run.run(case, args)
            if faults or run.compare(stream, wants, times):
                return f"run: {case}"
        return None

    def including(self, mutant, work):
        """The same of a source that unit tests include, by a path from where they are."""
        for name in UNITS[mutant.path]:
            os.makedirs(os.path.join(work, "tests/unit"), exist_ok=True)
            test = os.path.join(work, "tests/unit", f"{name}.c")
            for source in [f"tests/unit/{name}.c", *INCLUDED[name]]:
                if source != mutant.path:
                    shutil.copy(os.path.join(ROOT, source), os.path.join(work, source))
            try:
                self.cc("-o", f"{work}/{name}", test, self.lib, *self.libs)
            except subprocess.CalledProcessError as e:
                return "the compiler: " + e.stderr.decode()[:200]
            if not passes(f"{work}/{name}"):
                return f"unit: {name}"
        return None

    def units(self, mutant, obj, work):
        for name in UNITS[mutant.path]:
            test = os.path.join(work, name)
            self.cc("-o", test, f"{self.tmp}/{name}.o", *obj, self.lib, *self.libs)
            if not passes(test):
                return f"unit: {name}"
        return None


def passes(test):
    """Ends the test as soon as something is not ok."""
    with subprocess.Popen(["stdbuf", "-oL", test], stdout=subprocess.PIPE,
                          stderr=subprocess.DEVNULL, text=True) as p:
        timer = threading.Timer(300, p.kill)
        timer.start()
        for line in p.stdout:
            if line.startswith("not ok"):
                p.kill()
        timer.cancel()
    return p.returncode == 0


def parse(lines):
    try:
        return [json.loads(line) for line in lines] or None
    except ValueError:
        return None


bench = None  # of this process


def try_one(mutant):
    with tempfile.TemporaryDirectory(dir=bench.tmp) as work:
        return mutant.name, bench.killer(mutant, work)


def read_all():
    """The sources, and all that is broken in them."""
    sources = {}
    for path in UNITS:
        with open(os.path.join(ROOT, path)) as f:
            sources[path] = f.read()
    pieces = {FSM: segment_check_mutants.FSM_PIECES,
              CHECK: segment_check_mutants.PIECES,
              FASTPATH: segment_check_mutants.FASTPATH_PIECES,
              PREDICT: segment_check_mutants.PREDICT_PIECES,
              CONN: segment_check_mutants.CONN_PIECES,
              CONN_H: segment_check_mutants.CONN_H_PIECES,
              SYNFLOOD: synflood_mutants.PIECES,
              DEFERRAL: synflood_mutants.DEFERRAL_PIECES,
              CLOSE: synflood_mutants.CLOSE_PIECES,
              TRANSITION: trouble_mutants.TRANSITION_PIECES,
              LATE: trouble_mutants.LATE_PIECES,
              ANSWERS: trouble_mutants.ANSWERS_PIECES,
              TROUBLE: trouble_mutants.TROUBLE_PIECES,
              RECALL: trouble_mutants.RECALL_PIECES,
              LISTING: listing_mutants.LISTING_PIECES,
              EMIT: listing_mutants.EMIT_PIECES,
              TABLE: listing_mutants.TABLE_PIECES,
              DEDUPE: dedupe_mutants.PIECES,
              SEGMENT_REPORT: request_mutants.SEGMENT_REPORT_PIECES,
              TCPOPT: request_mutants.TCPOPT_PIECES,
              LISTER: request_mutants.LISTER_PIECES,
              FILTERS: request_mutants.FILTERS_PIECES,
              LINELOG: request_mutants.LINELOG_PIECES,
              SUBSCRIBER: request_mutants.SUBSCRIBER_PIECES}
    return sources, [*fsm_mutants(sources[FSM]),
                     *(m for path, p in pieces.items() for m in piece_mutants(path, sources[path], p))]


def main():
    global bench
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("-j", type=int, default=2, metavar="N")
    parser.add_argument("-v", action="store_true", help="say what each died of")
    parser.add_argument("words", nargs="*")
    args = parser.parse_args()
    sources, mutants = read_all()
    if args.words:
        mutants = [m for m in mutants if any(w in m.name for w in args.words)]
    with tempfile.TemporaryDirectory(prefix="synfind-mutants-") as tmp:
        bench = Bench(tmp)
        survivors, killers = [], {}
        with concurrent.futures.ProcessPoolExecutor(args.j) as pool:
            # The tests must pass before a failure means anything.
            for _, why in pool.map(try_one, [Mutant("none", path, sources[path])
                                             for path in dict.fromkeys(m.path for m in mutants)]):
                if why:
                    sys.exit(f"mutants.py: {why} fails without any mutation")
            for n, (name, why) in enumerate(pool.map(try_one, mutants, chunksize=4), 1):
                if why:
                    if args.v:
                        print(f"died: {name}: {why}", flush=True)
                    kind = why.split(":")[0]
                    killers[kind] = killers.get(kind, 0) + 1
                else:
                    survivors.append(name)
                    print(f"survived: {name}", flush=True)
                if why and equivalent(name):
                    print(f"not equivalent after all ({why}): {name}")
                if n % 100 == 0:
                    print(f"{n} of {len(mutants)}, {len(survivors)} survived", flush=True)
    excused = [s for s in survivors if equivalent(s)]
    for name in excused:
        print(f"equivalent: {name}: {equivalent(name)}")
    print("killed by", ", ".join(f"{k}: {v}" for k, v in sorted(killers.items())))
    lost = len(survivors) - len(excused)
    if excused:
        print(f"{len(excused)} more cannot be noticed, for the reasons above")
    print(f"{len(mutants) - len(excused)} mutants, {sum(killers.values())} died, {lost} survived")
    sys.exit(1 if lost else 0)


if __name__ == "__main__":
    main()
