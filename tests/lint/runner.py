#!/usr/bin/python3
"""tests/run fails what does not keep to tests/plan.txt, and reaps orphans; shown in a tree with one test."""
import os
import shutil
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "../support"))
import tap

TWO = "ok 1 - a\nok 2 - b\n1..2\n"
CASES = (  # what, plan, output of the test, end of what tests/run prints, whether it succeeds
    ("as planned", "live/x 2", TWO, "2 passed, 0 failed, 0 skipped", True),
    ("one check less than planned", "live/x 3", TWO, "2 passed, 1 failed, 0 skipped", False),
    ("one check more than planned", "live/x 1", TWO, "2 passed, 1 failed, 0 skipped", False),
    ("a planned test that is gone", "live/x 2\nlive/y 1", TWO, "2 passed, 1 failed, 0 skipped",
     False),
    ("one that is gone, one that is new", "live/y 2", TWO, "2 passed, 2 failed, 0 skipped", False),
    ("no plan at all yet", "", TWO, "2 passed, 0 failed, 0 skipped", True),
    ("a SKIP in place of several checks", "live/x 9", "ok 1 - a # SKIP none\nok 2 - b\n1..2\n",
     "1 passed, 0 failed, 1 skipped", True),
    ("a SKIP and more than planned", "live/x 1", "ok 1 - a # SKIP none\nok 2 - b\n1..2\n",
     "1 passed, 1 failed, 1 skipped", False),
    ("an end without 1..N", "live/x 2", "ok 1 - a\nok 2 - b\n", "2 passed, 1 failed, 0 skipped",
     False),
    ("a test that is not executable", "live/x 2", None, "0 passed, 1 failed, 0 skipped", False),
)

# Its child's child is without a parent, and ends.
ORPHAN = """
import os, time
r, w = os.pipe()
if os.fork() == 0:
    orphan = os.fork()
    if orphan:
        os.write(w, b"%d" % orphan)
    os._exit(0)
os.wait()
path, end = f"/proc/{os.read(r, 100).decode()}", time.monotonic() + 30
while os.path.exists(path) and time.monotonic() < end:
    time.sleep(0.01)
print("not " * os.path.exists(path) + "ok 1 - it is gone\\n1..1")
"""


def run(plan, program, mode=0o755):
    """Lines and exit status of tests/run."""
    with tempfile.TemporaryDirectory() as tree:
        os.makedirs(f"{tree}/tests/live")
        shutil.copy(os.path.join(HERE, "../run"), f"{tree}/tests/run")
        with open(f"{tree}/tests/plan.txt", "w") as f:
            f.write(plan)
        with open(f"{tree}/tests/live/x.py", "w") as f:
            f.write(program)
        os.chmod(f"{tree}/tests/live/x.py", mode)
        p = subprocess.run([f"{tree}/tests/run"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                           text=True)
    return p.stdout.splitlines(), p.returncode


for what, plan, output, last, good in CASES:
    lines, status = run(plan, f"print({output!r}, end='')\n", 0o755 if output else 0o644)
    tap.ok(lines[0].startswith("Plan: ") and lines[-1] == last and (status == 0) == good,
           f"{what}: {'success' if good else 'failure'}", lines)
lines, status = run("live/x 1", ORPHAN)
tap.equal((lines[-1], status), ("1 passed, 0 failed, 0 skipped", 0),
          "a test's orphan that has ended is gone while the test runs")
tap.done()
