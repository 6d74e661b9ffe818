#!/usr/bin/python3
"""Both commands of the README, and the package, on fresh machines of each supported release.

    tests/support/distros.py [RELEASE...] [--tests 'WORD...'] [--keep]

Each release is bootstrapped once into build/distros/, from the mirror of this machine's apt.
A copy is booted with systemd-nspawn, in a network of its own with a route outside (slirp4netns).
It gets what git tracks in this tree, runs `make run` and `make check` (--tests: only these, see
tests/run), then builds, installs, restarts and purges the package.  Prints TAP.
"""
import argparse
import os
import re
import shutil
import signal
import subprocess
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import confined
import live
import nspawn
import tap

RELEASES = ("bookworm", "trixie")  # Debian 12 and 13
KEPT = f"{live.ROOT}/build/distros"
TREE = "/root/synfind"
INSTALLING = 1800  # s, of all packages, over a slow network
TESTING = 7200
# The least that boots; a README reader has make, since he has the command from there.
BASE = "systemd-sysv,dbus,make"


def mirror():
    """Where this machine's apt gets Debian from."""
    out = subprocess.run(["apt-get", "indextargets", "--no-release-info", "--format",
                          "$(REPO_URI) $(RELEASE) $(COMPONENT)", "Created-By: Packages"],
                         stdout=subprocess.PIPE, text=True, check=True).stdout
    with open("/etc/os-release") as f:
        here = re.search(r"^VERSION_CODENAME=(.*)$", f.read(), re.M)[1]
    return next(uri for uri, release, component in map(str.split, out.splitlines())
                if (release, component) == (here, "main"))


def bootstrap(release):
    """The release as it is after installation; made once."""
    base = f"{KEPT}/{release}"
    if not os.path.exists(base):
        shutil.rmtree(base + ".part", ignore_errors=True)
        os.makedirs(KEPT, exist_ok=True)
        subprocess.run(["debootstrap", "--variant=minbase", f"--include={BASE}", release,
                        base + ".part", mirror()], check=True, stdout=sys.stderr)
        os.rename(base + ".part", base)
    return base


def checkout(root):
    """Puts there what git tracks."""
    os.makedirs(root + TREE)
    files = subprocess.run(["git", "-C", live.ROOT, "ls-files", "-z"], stdout=subprocess.PIPE,
                           check=True).stdout
    pack = subprocess.Popen(["tar", "-C", live.ROOT, "--null", "-T", "-", "-c"],
                            stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    unpack = subprocess.Popen(["tar", "-C", root + TREE, "-x"], stdin=pack.stdout)
    pack.stdin.write(files)
    pack.stdin.close()
    if pack.wait() or unpack.wait():
        raise RuntimeError("the tree could not be copied")


class Distro:
    """A booted copy of a release."""

    def __init__(self, release):
        self.release = release
        self.tree = f"{KEPT}/{release}.machine"
        shutil.rmtree(self.tree, ignore_errors=True)
        subprocess.run(["cp", "-a", "--reflink=auto", bootstrap(release), self.tree], check=True)
        checkout(self.tree)
        debs = f"{KEPT}/{release}.debs"
        os.makedirs(f"{debs}/partial", exist_ok=True)
        self.ns = live.Netns()
        self.uplink = subprocess.Popen(["slirp4netns", "--configure", "--netns-type=path",
                                        self.ns.path, "tap0"], preexec_fn=live.die_with_parent,
                                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        live.wait_until(lambda: "default" in self.ns.ip("route"), "a route outside")
        with open(f"{self.tree}/etc/resolv.conf", "w") as f:
            f.write("nameserver 10.0.2.3\n")  # slirp4netns
        devices = [f"--bind={d}" for d in ("/dev/net/tun", "/dev/kvm") if os.path.exists(d)]
        self.m = nspawn.Machine(self.ns, tree=self.tree, options=[
            "--resolv-conf=off", f"--bind={debs}:/var/cache/apt/archives", *devices])
        # Its network is its own, so its tests may set this there.
        self.m.run("mount", "--bind", "/proc/sys/net", "/proc/sys/net")
        self.m.run("mount", "-o", "remount,bind,rw", "/proc/sys/net")

    def popen(self, command, **kw):
        """A shell command in the tree, as for a user who has just logged in."""
        return self.m.popen("env", "-i", "HOME=/root", "LANG=C.UTF-8",
                            "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin",
                            "sh", "-c", f"cd {TREE} && exec {command}",
                            stdin=subprocess.DEVNULL, **kw)

    def close(self, keep):
        self.m.close()
        self.uplink.kill()
        self.uplink.wait()
        self.ns.close()
        if not keep:
            shutil.rmtree(self.tree)


def answers(d):
    """Does a daemon there answer?"""
    return d.m.run("sh", "-c", f"{TREE}/build/synfinctl status >/dev/null 2>&1 && echo yes",
                   check=False).strip() == "yes"


def run(d):
    """`make run`: installs, builds, shows events, ends well."""
    log = f"{KEPT}/{d.release}.run.log"
    with open(log, "wb") as err:
        p = d.popen("make run", stdout=subprocess.PIPE, stderr=err)
    # Installing and building take minutes.
    end = time.monotonic() + INSTALLING
    ready = False
    while not ready and p.poll() is None and time.monotonic() < end:
        ready = answers(d)
        time.sleep(0.5)
    tap.ok(ready, f"{d.release}: make run: installs what is missing, builds and starts",
           open(log, errors="replace").read().splitlines()[-20:])
    if ready:
        live.exchange(d.ns, d.ns, "127.0.0.1", 4000)
        lines = iter(p.stdout.readline, b"")
        close = next((line for line in lines if b"> 127.0.0.1:4000 " in line and b"CLOSED" in line), None)
        tap.ok(close, f"{d.release}: make run: readable lines come on standard output")
        for pid in re.findall(r"\d+", d.m.run("pidof", "synfind")):
            d.m.run("kill", "-INT", pid)
    p.stdout.read()
    status = p.wait(timeout=live.DEADLINE)
    tap.equal(status, 0, f"{d.release}: make run: an interrupt ends it, with status 0")


def check(d, tests):
    """`make check`: no check fails."""
    log = f"{KEPT}/{d.release}.check.log"
    with open(log, "wb") as out:
        p = d.popen(f"make check TESTS='{tests}'", stdout=out, stderr=out)
        status = p.wait(timeout=TESTING)
    lines = open(log, errors="replace").read().splitlines()
    warnings = [line for line in lines if "warning:" in line]
    tap.ok(not warnings, f"{d.release}: the build has no warning", warnings)
    total = next((line for line in reversed(lines) if re.match(r"\d+ passed, ", line)), "no result")
    tap.ok(status == 0 and " 0 failed" in total, f"{d.release}: make check: {total}",
           f"see {os.path.relpath(log, live.ROOT)}", lines[-30:])


def package(d):
    """The package as docs/operating.md says; a restart keeps what is in the store."""
    m, name = d.m, d.release
    p = d.popen("sh -ec 'make deb && apt-get install -y ./build/deb/synfind_*.deb'",
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    out = p.communicate(timeout=INSTALLING)[0].decode(errors="replace")
    tap.equal(p.returncode, 0, f"{name}: the package is built, passes lintian, and is installed")
    if p.returncode:
        tap.diag("\n".join(out.splitlines()[-30:]))
        return
    s = nspawn.Service(m)
    live.wait_until(s.active, "the service to run")
    failed = m.run("systemctl", "list-units", "--failed", "--no-legend", "synfind*").strip()
    tap.equal(failed, "", f"{name}: no unit of it has failed")
    sub = s.subscribe(stored=True)
    with d.ns.listen(("127.0.0.1", 4001)) as l:
        c = d.ns.connect(("127.0.0.1", 4001))
        served = l.accept()[0]
        sub.wait_for("tcp_established", dest_port=4001)
        old = s.pid()
        m.run("systemctl", "restart", nspawn.UNIT)
        s.new_pid(old)
        c.close()
        served.recv(1)
        served.close()
        close = sub.wait_for("tcp_close", dest_port=4001)
    tap.ok(close["tcp"]["reason"] == "fin" and not close["tcp"]["lossy"],
           f"{name}: a connection goes on over a restart, its subscriber too", close)
    confined.is_watched(sub, d.ns, 4002)
    tap.ok(int(m.show(nspawn.UNIT, "NFileDescriptorStore")) > 0 and not sub.checker.errors,
           f"{name}: the store is kept, and the stream is whole", sub.checker.errors)
    m.run("dpkg", "--purge", "synfind")
    left = m.run("find", "/etc", "/run", "/usr", "/var/lib", "-xdev", "-name", "*synfind*",
                 check=False).split()
    users = m.run("grep", "^synfind", "/etc/passwd", "/etc/group", check=False)
    tap.equal((left, users), ([], ""), f"{name}: purged, it leaves nothing")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("release", nargs="*", help=f"of {', '.join(RELEASES)}; none: all")
    parser.add_argument("--tests", default="", help="words for tests/run")
    parser.add_argument("--keep", action="store_true", help="keep the machine's files")
    args = parser.parse_args()
    nspawn.need("debootstrap", "slirp4netns")
    for release in args.release or RELEASES:
        with live.guarded(release):
            d = Distro(release)
            try:
                run(d)
                check(d, args.tests)
                package(d)
            finally:
                d.close(args.keep)
    tap.done()


if __name__ == "__main__":
    main()
