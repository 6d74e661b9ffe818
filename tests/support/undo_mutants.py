#!/usr/bin/python3
"""Does test_rollback notice?  Leaves out one save of the undo log at a time, and runs the test on it.

Every statement of lib/flow/*.c that calls undo_save() is left out once.  The last line is
`N mutants, N died, N survived`; the status is 0 only if all died.
"""
import concurrent.futures
import glob
import os
import re
import subprocess
import sys
import tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
CC = ["gcc", "-std=gnu17", "-fms-extensions", "-O1", "-Ilib", "-I.", "-D_GNU_SOURCE", "-w"]
SAVE = re.compile(r"\bundo_save\([^;]*;")
TEST = "tests/unit/test_rollback.c"


def mutants():
    for path in sorted(glob.glob(os.path.join(ROOT, "lib/flow/*.c"))):
        with open(path) as f:
            text = f.read()
        for m in SAVE.finditer(text):
            line = text.count("\n", 0, m.start()) + 1
            what = re.sub(r"\s+", " ", m[0])
            yield f"{os.path.basename(path)}:{line}: {what}", path, \
                text[:m.start()] + ";" + text[m.end():]


def cc(*args):
    subprocess.run([*CC, *args], cwd=ROOT, check=True)


def survives(tmp, n, path, text):
    base = os.path.join(tmp, str(n))
    with open(base + ".c", "w") as f:
        f.write(text)
    cc("-c", "-o", base + ".o", base + ".c")
    cc("-o", base, os.path.join(tmp, "test.o"), base + ".o",
       *[os.path.join(tmp, os.path.basename(p)[:-2] + ".o")
         for p in glob.glob(os.path.join(ROOT, "lib/flow/*.c")) if p != path],
       os.path.join(ROOT, "build/libsynfind.a"))
    try:
        return subprocess.run([base], capture_output=True, timeout=120).returncode == 0
    except subprocess.TimeoutExpired:
        return False


def main():
    with tempfile.TemporaryDirectory(prefix="synfind-undo-") as tmp:
        cc("-c", "-o", os.path.join(tmp, "test.o"), TEST)
        for path in glob.glob(os.path.join(ROOT, "lib/flow/*.c")):
            cc("-c", "-o", os.path.join(tmp, os.path.basename(path)[:-2] + ".o"), path)
        with open(os.path.join(ROOT, "lib/flow/table.c")) as f:
            if not survives(tmp, "none", os.path.join(ROOT, "lib/flow/table.c"), f.read()):
                sys.exit("undo_mutants.py: the test fails without any mutation")
        found = list(mutants())
        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            alive = list(pool.map(lambda m: survives(tmp, m[0], *m[1][1:]), enumerate(found)))
    for (name, _, _), survived in zip(found, alive):
        print(f"{'survived' if survived else 'died'}: {name}")
    print(f"{len(found)} mutants, {len(found) - sum(alive)} died, {sum(alive)} survived")
    sys.exit(1 if any(alive) or not found else 0)


main()
