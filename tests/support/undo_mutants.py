#!/usr/bin/python3
"""Does test_rollback notice?  Leaves out one save of the undo log at a time, and runs the test on it.

Kept memory is written only where a function lends it: those named `*_edit`, which save it first, and
table_insert() and table_reshape().  Each call of such a function in lib/flow is one mutant: at this
call alone nothing is saved.  So is each undo_save() and undo_edit() that is not all that a lender
does.

    undo_mutants.py [-j N] [WORD...]   only mutants whose name contains one of the words; 2 at a time

The last line is `N mutants, N died, N survived`; the status is 0 only if all died, but for those that
are listed below as equivalent, with the reason.
"""
import argparse
import concurrent.futures
import glob
import os
import re
import subprocess
import sys
import tempfile
import threading

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
CC = ["gcc", "-std=gnu17", "-fms-extensions", "-O1", "-Ilib", "-I.", "-D_GNU_SOURCE", "-w"]
CALL = re.compile(r"\b(\w+_edit|undo_save|table_insert|table_reshape)\(")
TEST = "tests/unit/test_rollback.c"
# What no test can notice: the function, the call in it, and why.
EQUIVALENT = {
    ("unwatch", "server_edit(d, &m->slot[i])"):
        "synflood_tick() has saved this slot, and synflood_end() takes the last one: nothing moves",
}


def closing(text, at):
    """Behind the parenthesis that closes the one before @at, and where its arguments are."""
    depth, begin, arguments = 1, at, []
    while depth:
        c = text[at]
        depth += (c in "([{") - (c in ")]}")
        if not depth or (c == "," and depth == 1):
            arguments.append(text[begin:at].strip())
            begin = at + 1
        at += 1
    return at, arguments


def function_around(text, at):
    """The name of the function whose body has @at, or None."""
    begin, end = text.rfind("\n{\n", 0, at), text.rfind("\n}\n", 0, at)
    if begin < 0 or end > begin:
        return None
    head = text[:begin + 1]
    head = head[max(head.rfind("\n\n"), head.rfind("*/\n")):]
    return re.search(r"(\w+)\((?!\()", head)[1]


def unsaved(name, arguments, statement):
    """The call, its arguments evaluated as ever, but nothing is saved in it."""
    taken = " ".join(f"__auto_type a{i}_ = {a};" for i, a in enumerate(arguments))
    call = f"{name}({', '.join(f'a{i}_' for i in range(len(arguments)))})"
    result, value = ("", "") if statement else ("__auto_type r_ = ", "r_; ")
    return f"({{ {taken} undo_skip = 1; {result}{call}; undo_skip = 0; {value}}})"


def mutants():
    """(function, call, where, path, text): each way to leave out a save."""
    for path in sorted(glob.glob(os.path.join(ROOT, "lib/flow/*.[ch]"))):
        with open(path) as f:
            text = f.read()
        for m in CALL.finditer(text):
            function = function_around(text, m.start())
            end, arguments = closing(text, m.end())
            before = text[:m.start()].rstrip()
            if not function or before.endswith("*/"):  # a declaration, a comment
                continue
            if function.endswith("_edit") and before.endswith(("return", "?")):
                continue  # all that a lender does: its calls are mutants
            call = re.sub(r"\s+", " ", text[m.start():end])
            yield function, call, f"{os.path.basename(path)}:{text.count(chr(10), 0, m.start()) + 1}", \
                path, text[:m.start()] + unsaved(m[1], arguments, before[-1] in ";{}" and
                                                 text[end] == ";") + text[end:]


def passes(test):
    """Ends the test as soon as it has seen a difference."""
    with subprocess.Popen([test], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as p:
        timer = threading.Timer(300, p.kill)
        timer.start()
        for line in p.stdout:
            if line.startswith("not ok") or " differs, in " in line:
                p.kill()
        timer.cancel()
    return p.returncode == 0


def cc(*args):
    subprocess.run([*CC, *args], cwd=ROOT, check=True)


def users(path):
    """The sources that include a header."""
    include = f'#include "flow/{os.path.basename(path)}"'
    found = []
    for source in sorted(glob.glob(os.path.join(ROOT, "lib/flow/*.c"))):
        with open(source) as f:
            if include in f.read():
                found.append(source)
    return found


class Bench:
    """What all mutants share: the objects, of an undo.h that can be told to save nothing."""

    def __init__(self, tmp):
        self.tmp = tmp
        os.makedirs(os.path.join(tmp, "include/base"))
        with open(os.path.join(ROOT, "lib/base/undo.h")) as f:
            text, n = re.subn(r"(static inline void undo_save\([^)]*\)\n\{\n)",
                              r"__attribute__((weak)) int undo_skip;\n\n\1\tif (undo_skip)\n"
                              r"\t\treturn;\n", f.read())
        if n != 1:
            sys.exit("undo_mutants.py: undo.h has changed")
        with open(os.path.join(tmp, "include/base/undo.h"), "w") as f:
            f.write(text)
        self.test = os.path.join(tmp, "test.o")
        self.compile(self.test, TEST)
        self.objects = {path: os.path.join(tmp, os.path.basename(path)[:-1] + "o")
                        for path in glob.glob(os.path.join(ROOT, "lib/flow/*.c"))}
        for path, name in self.objects.items():
            self.compile(name, path)

    def compile(self, name, path, *first):
        cc(*first, "-iquote", os.path.join(self.tmp, "include"), "-c", "-o", name, path)

    def survives(self, path, text):
        with tempfile.TemporaryDirectory(dir=self.tmp) as work:
            os.makedirs(os.path.join(work, "flow"))
            changed = os.path.join(work, "flow", os.path.basename(path))
            with open(changed, "w") as f:
                f.write(text)
            objects = dict(self.objects)
            for source in users(path) if path.endswith(".h") else [path]:
                objects[source] = os.path.join(work, os.path.basename(source)[:-1] + "o")
                self.compile(objects[source], changed if source == path else source,
                             "-iquote", work)
            test = os.path.join(work, "test")
            cc("-o", test, self.test, *objects.values(), os.path.join(ROOT, "build/libsynfind.a"))
            return passes(test)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("-j", type=int, default=2, metavar="N")
    parser.add_argument("words", nargs="*")
    args = parser.parse_args()
    found = [m for m in mutants()
             if not args.words or any(w in f"{m[2]}: {m[0]}: {m[1]}" for w in args.words)]
    with tempfile.TemporaryDirectory(prefix="synfind-undo-") as tmp:
        bench = Bench(tmp)
        table = os.path.join(ROOT, "lib/flow/table.c")
        with open(table) as f:
            if not bench.survives(table, f.read()):
                sys.exit("undo_mutants.py: the test fails without any mutation")
        died = excused = 0
        with concurrent.futures.ThreadPoolExecutor(args.j) as pool:
            for (function, call, where, _, _), alive in zip(
                    found, pool.map(lambda m: bench.survives(*m[3:]), found)):
                why = EQUIVALENT.get((function, call))
                died += not alive
                excused += bool(alive and why)
                print(f"{'equivalent' if alive and why else 'survived' if alive else 'died'}: {where}: "
                      f"{function}: {call}{f': {why}' if alive and why else ''}", flush=True)
                if why and not alive:
                    print("not equivalent after all")
    survived = len(found) - died - excused
    if excused:
        print(f"{excused} more cannot be noticed, for the reasons above")
    print(f"{len(found) - excused} mutants, {died} died, {survived} survived")
    sys.exit(1 if survived or not found else 0)


main()
