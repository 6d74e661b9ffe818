"""A machine of its own for a test: a real systemd as PID 1, over an overlay of this system.

What it writes goes to memory.  Its network namespace is the test's (live.Netns), so the test makes
traffic there as everywhere.  Nothing is left however the test ends: the mounts are in a namespace
of the test's process, and a janitor, which reads a pipe until that is gone, kills what the
machine's control groups still have and removes them.
"""
import contextlib
import glob
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile

import live
import tap

CLONE_NEWNS = 0x00020000
CGROUPS = "/sys/fs/cgroup"  # hybrid: v2 is under unified/; unified: v2 is here
NSPAWN = "systemd-nspawn"

UNIT, OPENER = "synfind.service", "synfind-opener.service"
EVENTS = "/run/synfind/events.sock"
CONF = "/etc/synfind/synfind.conf"
DEB = "/root/synfind.deb"
INSTALL = ("dpkg", "--force-confold", "-i", DEB)

# What the image starts that has nothing to do with us, beside all that was enabled by hand.
MASKED = ("systemd-logind.service", "systemd-networkd.service", "systemd-resolved.service",
          "systemd-timesyncd.service", "getty.target", "console-getty.service",
          "systemd-udevd.service", "systemd-udev-trigger.service", "systemd-modules-load.service")


def _mounted():
    with open("/proc/mounts") as f:
        return f.read()


def _cgroup_roots():
    """Where the machine needs a group of its own; [] if there is no v2 hierarchy."""
    if " cgroup2 " not in _mounted():
        return []
    if os.path.exists(f"{CGROUPS}/cgroup.procs"):
        return [CGROUPS]
    return [f"{CGROUPS}/unified", f"{CGROUPS}/systemd"]


def missing():
    """Why no machine can be booted here; "" if one can."""
    if not shutil.which(NSPAWN):
        return f"{NSPAWN} (package systemd-container)"
    if os.geteuid() != 0:
        return "root"
    if not _cgroup_roots():
        return "control groups version 2"
    return ""


def need(*programs):
    """Ends the test, as skipped, where it cannot run."""
    live.need("ip", "nsenter", *programs)
    why = missing()
    if why:
        tap.skip(os.path.basename(sys.argv[0]), f"missing: {why}")
        tap.done()


class Machine:
    """A booted systemd.  `ns`: its network namespace; `root`: its file system, from outside."""

    def __init__(self, ns, prepare=None, tree=None, options=()):
        """`prepare`, called with the root before the boot, can put files there.

        `tree`: boots that directory as it is, not an overlay of this system.  `options`: further
        ones of systemd-nspawn."""
        self.ns = ns
        self.options = list(options)
        self.name = f"synfind-test-{os.getpid()}-{id(self) & 0xffff:x}"
        self.tmp = tempfile.mkdtemp(prefix="synfind-machine-")  # the janitor's, not ours, to remove
        self.root = tree or f"{self.tmp}/t/m"
        self.boot_log = f"{self.tmp}/boot.log"
        self.leader = None
        self.p = None
        self.groups = [f"{root}/{self.name}" for root in _cgroup_roots()]
        self._hire_janitor()
        if not tree:
            self._mount()
            self._trim()
        if prepare:
            prepare(self.root)
        self._boot()

    # ---- making ----

    def _mount(self):
        live._call("unshare", CLONE_NEWNS)
        live._call("mount", b"none", b"/", None, 0x44000, None)  # MS_REC | MS_PRIVATE
        t = f"{self.tmp}/t"
        os.mkdir(t)
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1g,mode=755", "tmpfs", t], check=True)
        for d in "uwm":
            os.mkdir(f"{t}/{d}")
        subprocess.run(["mount", "-t", "overlay", "overlay", "-o",
                        f"lowerdir=/,upperdir={t}/u,workdir={t}/w", f"{t}/m"], check=True)

    def _trim(self):
        """Only what a bare system starts."""
        etc = f"{self.root}/etc"
        for path in glob.glob(f"{etc}/systemd/system/*.wants"):
            shutil.rmtree(path)
        for unit in MASKED:
            path = f"{etc}/systemd/system/{unit}"
            if os.path.lexists(path):
                os.remove(path)
            os.symlink("/dev/null", path)
        open(f"{etc}/machine-id", "w").close()
        policy = f"{self.root}/usr/sbin/policy-rc.d"  # it would keep packages from starting units
        if os.path.lexists(policy):
            os.remove(policy)

    def _hire_janitor(self):
        """Before the mounts: it must not hold them."""
        sweep = ("cat >/dev/null; for i in $(seq 100); do left=; for g in " +
                 " ".join(self.groups) + "; do [ -d $g ] || continue; "
                 "find $g -name cgroup.procs -exec cat {} + | xargs -r kill -9; "
                 "find $g -depth -type d -exec rmdir {} + ; [ -d $g ] && left=1; done; "
                 f"[ $left ] || break; sleep 0.1; done; rm -rf {self.tmp}")
        self.janitor = subprocess.Popen(["sh", "-c", sweep], stdin=subprocess.PIPE,
                                        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                                        start_new_session=True)

    def _boot(self):
        os.mkdir(self.groups[0])

        def enter():
            with open(f"{self.groups[0]}/cgroup.procs", "w") as f:
                f.write(str(os.getpid()))
            os.setsid()
            live.die_with_parent()

        env = dict(os.environ, SYSTEMD_NSPAWN_UNIFIED_HIERARCHY="1")
        with open(self.boot_log, "wb") as log:
            self.p = subprocess.Popen(
                [NSPAWN, "-b", "-D", self.root, f"--machine={self.name}", "--register=no",
                 "--keep-unit", f"--network-namespace-path={self.ns.path}", "--capability=all",
                 "--system-call-filter=bpf perf_event_open", "--link-journal=no",
                 "--console=pipe", *self.options], preexec_fn=enter, env=env, stdin=subprocess.DEVNULL,
                stdout=log, stderr=log, pass_fds=[self.ns.fd])
        self.leader = live.wait_until(self._find_leader, "systemd to be there")
        try:
            live.wait_until(lambda: self._state() in ("running", "degraded"), "the machine to be up")
        except live.Timeout as e:
            raise RuntimeError(f"{e}: {self.run('systemctl', 'list-jobs', check=False)}") from e

    def _find_leader(self):
        if self.p.poll() is not None:
            with open(self.boot_log, errors="replace") as f:
                raise RuntimeError(f"{NSPAWN} ended: {f.read()[-2000:]}")
        # The first one only makes the second, which is PID 1 in there.
        for child in live.children(self.p.pid):
            with contextlib.suppress(OSError), open(f"/proc/{child}/status") as f:
                if re.search(r"^NSpid:.*\t1$", f.read(), re.M):
                    return child
        return None

    def _state(self):
        return self.run("systemctl", "is-system-running", check=False).strip()

    # ---- use ----

    def popen(self, *argv, **kw):
        return subprocess.Popen(["nsenter", "-t", str(self.leader), "-a", "--wdns=/", "--", *argv],
                                preexec_fn=live.die_with_parent, **kw)

    def run(self, *argv, check=True, **kw):
        """Runs a program to its end in the machine; returns its output."""
        kw.setdefault("stdin", subprocess.DEVNULL)
        p = self.popen(*argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **kw)
        out = p.communicate(timeout=live.DEADLINE * 4)[0].decode(errors="replace")
        if check and p.returncode:
            raise RuntimeError(f"{' '.join(argv)}: status {p.returncode}: {out}")
        return out

    def status(self, *argv):
        """Exit status of a program in the machine."""
        return self.popen(*argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                          stderr=subprocess.DEVNULL).wait(timeout=live.DEADLINE)

    def show(self, unit, what):
        """One property of a unit."""
        return self.run("systemctl", "show", "-P", what, unit).strip()

    def journal(self, *args):
        return self.run("journalctl", "--no-pager", *args)

    def pid(self, unit):
        """Main process of a unit, as a number outside of the machine; None: it has none."""
        inside = self.show(unit, "MainPID")
        if inside == "0":
            return None
        for path in glob.glob("/proc/[0-9]*/status"):
            try:
                with open(path) as f:
                    text = f.read()
            except OSError:
                continue
            ids = re.search(r"^NSpid:\t(.*)$", text, re.M).group(1).split()
            if len(ids) > 1 and ids[-1] == inside and self._is_mine(path):
                return int(path.split("/")[2])
        return None

    def _is_mine(self, path):
        try:
            a = os.readlink(os.path.join(os.path.dirname(path), "ns/pid"))
            return a == os.readlink(f"/proc/{self.leader}/ns/pid")
        except OSError:
            return False

    def write(self, path, text, mode=0o644):
        """A file in the machine; its directory is made.  (Its /tmp and /run cannot be reached so.)"""
        os.makedirs(os.path.dirname(self.root + path), exist_ok=True)
        with open(self.root + path, "w") as f:
            f.write(text)
        os.chmod(self.root + path, mode)

    def close(self):
        """Shuts the machine down in order; leaves the rest to the janitor."""
        hangs = False
        if self.p and self.p.poll() is None and self.leader:
            self.status("systemctl", "poweroff", "--force")
            try:
                self.p.wait(timeout=live.DEADLINE)
            except subprocess.TimeoutExpired:
                hangs = True
                self.p.send_signal(signal.SIGKILL)
                self.p.wait()
        for d in (f"{self.tmp}/t/m", f"{self.tmp}/t"):
            if os.path.ismount(d):
                subprocess.run(["umount", "-l", d], check=False)
        self.janitor.stdin.close()
        self.janitor.wait(timeout=live.DEADLINE)
        if hangs:
            raise RuntimeError(f"{self.name} did not shut down")
        for group in self.groups:
            if os.path.exists(group):
                raise RuntimeError(f"{group} is left behind")


def put_package(root):
    """For Machine(prepare=): the package as DEB."""
    debs = glob.glob(f"{live.ROOT}/build/deb/synfind_*.deb")
    subprocess.run(["cp", debs[0], root + DEB], check=True)


class Service:
    """The package's service in a machine."""

    def __init__(self, machine):
        self.m = machine
        self.path = f"/proc/{machine.leader}/root{EVENTS}"

    def subscribe(self, hello=True, stored=False):
        """`stored`: a restart does not disconnect it."""
        before = stored and self.stored()
        s = live.Subscriber(self.path)
        if hello:
            s.until(lambda e: e, "hello")
        if stored:
            live.wait_until(lambda: self.stored() > before, "the subscriber to be stored")
        return s

    def stored(self):
        """How many descriptors systemd keeps."""
        return int(self.m.show(UNIT, "NFileDescriptorStore"))

    def pid(self):
        return live.wait_until(lambda: self.m.pid(UNIT), "the daemon to run")

    def new_pid(self, old):
        """The main process, once it is another one, and ready."""
        live.wait_until(lambda: self.m.pid(UNIT) not in (None, old) and self.active(),
                        "the daemon to run again")
        return self.m.pid(UNIT)

    def active(self):
        return self.m.show(UNIT, "ActiveState") == "active"

    def configure(self, text):
        live.replace(f"/proc/{self.m.leader}/root{CONF}", text)

    def entries(self, *match):
        """The journal's entries of the service, parsed."""
        self.m.run("journalctl", "--sync")
        lines = self.m.journal("-o", "json", "-u", UNIT, *match).splitlines()
        return [json.loads(line) for line in lines if line.startswith("{")]

    def said(self, words):
        return [e for e in self.entries() if words in str(e.get("MESSAGE", ""))]
