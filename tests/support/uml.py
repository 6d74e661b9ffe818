"""User-mode Linux over this file system, which it may only read, with a test program as init: for what
would disturb this kernel, or what it lacks.

    if os.getpid() == 1:
        uml.init(function)         # in that kernel: mounts, runs the checks, switches it off
    uml.run("what", least, ...)    # outside: starts this program there, and makes its checks ours
"""
import ctypes
import lzma
import os
import platform
import shutil
import subprocess
import sys

import live
import tap

KERNEL = "linux.uml"
XSTATE = os.path.join(live.ROOT, "build/tests/uml_xstate.so")
MODULES = "/usr/lib/uml/modules"


def is_missing():
    return not shutil.which(KERNEL)


def run(what, least, *args):
    """Runs the program itself there with @args; it must make @least checks."""
    p = subprocess.Popen(
        [KERNEL, "mem=512M", "root=/dev/root", "rootfstype=hostfs", "rootflags=/", "ro", "quiet",
         "con=null", "con0=fd:0,fd:1", "init=/usr/bin/python3", "--", os.path.abspath(sys.argv[0]), *args],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        env={**os.environ, "TMPDIR": "/run", "LD_PRELOAD": XSTATE},
        preexec_fn=live.die_with_parent)
    out = p.communicate(timeout=4 * live.DEADLINE)[0].decode(errors="replace").splitlines()
    checks = [line.strip() for line in out if line.startswith(("ok ", "not ok "))]
    rest = [line for line in out if not line.startswith("ok ")]
    for line in checks:
        tap.ok(line.startswith("ok "), line.split(" - ", 1)[1], rest)
    tap.ok(f"1..{len(checks)}" in [line.strip() for line in out] and len(checks) >= least,
           f"{what}: all was tried", rest)


def init(*steps):
    """As PID 1 of that kernel."""
    os.environ.update(PATH="/usr/sbin:/usr/bin:/sbin:/bin", HOME="/", TMPDIR="/run")
    for kind, where in (("proc", "/proc"), ("sysfs", "/sys"), ("tmpfs", "/run")):
        subprocess.run(["mount", "-t", kind, kind, where], check=True)
    for step in steps:
        with live.guarded(step.__name__):
            step()
    print(f"1..{tap.checks}", flush=True)
    subprocess.run(["poweroff", "-f"], check=False)


def load(*names):
    """Loads modules, and what they need first, as modules.dep has it."""
    home = os.path.join(MODULES, platform.release())
    needs = {}
    with open(os.path.join(home, "modules.dep")) as f:
        for line in f:
            module, rest = line.split(":")
            needs[os.path.basename(module).split(".")[0]] = [module, *rest.split()]
    libc = ctypes.CDLL(None, use_errno=True)
    loaded = set()
    for path in (p for n in names for p in reversed(needs[n])):
        if path in loaded:
            continue
        loaded.add(path)
        with (lzma.open if path.endswith(".xz") else open)(os.path.join(home, path), "rb") as f:
            octets = f.read()
        if libc.syscall({"x86_64": 175, "aarch64": 105}[platform.machine()], octets, len(octets), b"") < 0:
            e = ctypes.get_errno()
            raise OSError(e, f"{path}: {os.strerror(e)}")
