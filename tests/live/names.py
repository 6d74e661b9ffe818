#!/usr/bin/python3
"""Names of interfaces: misspelled ones, at the start, in a check and at a reload; those that appear
later; many, and odd ones."""
import os
import re
import signal
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../support"))
import live
import tap

ODD = 176  # interfaces


class Daemon(live.Synfind):
    """With its interfaces in a file."""

    def __init__(self, ns, text):
        self.conf = os.path.join(live.tmpdir(), "synfind.conf")
        self.configure(text)
        super().__init__(ns, "unused", f"--config={self.conf}", wait=False)
        self.p.kill()
        self.p.wait()
        self.argv = [a for a in self.argv if not a.startswith(("--interface", "--stats-interval"))]
        with open(self.log, "wb") as log:
            self.p = ns.popen(*self.argv, stdin=-3, stdout=log, stderr=log)
        live.wait_until(self.ready, "the daemon to be ready")

    def configure(self, text):
        live.replace(self.conf, text)

    def reload(self, text):
        """Returns what it says until the list of interfaces is read again."""
        before = self.stderr()
        self.configure(text)
        self.p.send_signal(signal.SIGHUP)
        live.wait_until(lambda: "Configuration read again" in self.stderr()[len(before):], "a reload")
        return before

    def says(self, words, before=""):
        return live.wait_until(lambda: words in self.stderr()[len(before):], words)


def cable(ns, other):
    live.join(ns, other, "eth0", "peer0", 1)


def told(sub, ns, other):
    """A connection over eth0 is told."""
    return sub.wait_for("tcp_close", in_iface="eth0", **live.exchange(ns, other, "10.0.1.2"))


def misspelled(ns, other):
    d = Daemon(ns, "[capture]\ninterface = eth0\n")
    sub = d.subscribe()
    told(sub, ns, other)
    before = d.reload("[capture]\ninterface = lo\ninterface = eht0\n[events]\nstats-interval = 1s\n")
    d.says("Interface eth0 is not configured any more, but kept", before)
    tap.ok(f"warning: {d.conf}:3: interface: 'eht0' does not exist; did you mean 'eth0'?" in
           d.stderr()[len(before):], "a misspelled name at a reload: place, and the nearest name",
           d.stderr())
    told(sub, ns, other)
    sub.wait_for("stats")
    tap.ok(not live.find(sub.events, "iface", in_iface="eth0"),
           "what was watched still is; all other options count")
    sub.wait_for("iface", in_iface="lo", state="up")

    ns.ip("link set eth0 down")
    sub.wait_for("iface", in_iface="eth0", state="down")
    ns.ip("link set eth0 up")
    sub.wait_for("iface", in_iface="eth0", state="up")
    tap.ok(True, "its link is followed as before")

    before = d.reload("[capture]\ninterface = lo, eth0\n")
    told(sub, ns, other)
    tap.ok("does not exist" not in d.stderr()[len(before):] and
           not live.find(sub.events, "iface", in_iface="eth0", state="gone"),
           "with the right name all is as before", d.stderr()[len(before):])

    d.reload("[capture]\ninterface = lo\n")
    sub.wait_for("iface", in_iface="eth0", state="gone")
    tap.ok(True, "without a misspelled name, what is not configured is given up")
    d.ends_well(sub, "misspelled")


def appears(ns, other):
    d = Daemon(ns, "[capture]\ninterface = eth0\n")
    sub = d.subscribe()
    before = d.reload("[capture]\ninterface = eth9\n")
    d.says("eth0 is not configured any more, but kept", before)
    ns.ip("link add eth9 up type veth peer name peer9")
    sub.wait_for("iface", in_iface="eth9", state="up")
    sub.wait_for("iface", in_iface="eth0", state="gone")
    tap.ok(True, "a missing interface that appears takes the place of the one that was kept")
    ns.ip("link del eth9")
    sub.wait_for("iface", in_iface="eth9", state="gone")
    d.ends_well(sub, "appears")


def removed(ns, other):
    d = Daemon(ns, "[capture]\ninterface = eth0\n")
    sub = d.subscribe()
    before = d.reload("[capture]\ninterface = eht0\n")
    d.says("eth0 is not configured any more, but kept", before)
    opener = live.children(live.children(d.p.pid)[0])[0]
    os.kill(opener, signal.SIGKILL)
    d.says("The opener is back", before)
    told(sub, ns, other)
    tap.ok(not live.find(sub.events, "iface", in_iface="eth0"), "another opener changes nothing")
    ns.ip("link del eth0")
    sub.wait_for("iface", in_iface="eth0", state="gone")
    tap.ok(True, "what was kept is gone when it is removed")
    d.ends_well(sub, "removed")


def check(ns):
    conf = os.path.join(live.tmpdir(), "synfind.conf")

    def run(text, *flags):
        with open(conf, "w") as f:
            f.write(text)
        p = ns.popen(live.SYNFIND, "--check-config", f"--config={conf}", *flags, stdout=-1, stderr=-1)
        out, err = p.communicate(timeout=live.DEADLINE)
        return p.returncode, out.decode(), err.decode()

    status, out, err = run("interface = lo, e*, x*\nring-size = 8M\nmax-connections = 1048576\n")
    tap.ok(status == 0 and not err and re.search(r"^  lo +exists$", out, re.M) and
           re.search(r"^  e\* +eth0$", out, re.M) and re.search(r"^  x\* +none now$", out, re.M),
           "--check-config lists which interfaces exist", out, err)
    tap.ok("for all interfaces 8.0 MiB of rings" in out and "up to 141.1 MiB of tables" in out and
           "up to 165.1 MiB with the 2 interfaces of now and the queue" in out,
           "and the memory that the configuration takes: of one ring", out)
    _, out, err = run("interface = lo, eth0\nring-size = 8M\nmax-connections = 1048576\n")
    tap.ok("per interface 8.0 MiB of rings" in out and
           "up to 314.1 MiB with the 2 interfaces of now and the queue" in out,
           "with plain names, of a ring for each", out, err)
    status, out, err = run("interface = lo\ninterface = eht0\n")
    tap.ok(status == 2 and f"{conf}:2: interface: 'eht0' does not exist; did you mean 'eth0'?" in err
           and re.search(r"^  eht0 +does not exist$", out, re.M),
           "a missing one is an error, with its place and the nearest name", status, out, err)
    status, out, err = run("interface = eht0\n", "--quiet")
    tap.ok(status == 2 and not out and err.count("\n") == 1, "--quiet: only the error", out, err)
    status, out, err = run("interface = eht0\n", "--opener=/nowhere", "--quiet")
    tap.ok(status == 0 and not out and not err, "names are the opener's, if there is one", out, err)
    d = live.Synfind(ns, "lo,eht0,eth7", wait=False)
    status = d.wait()
    tap.ok(status == 1 and "--interface: 'eht0' does not exist; did you mean 'eth0'?" in d.stderr()
           and "'eth7' does not exist" in d.stderr(), "at the start: all that are missing", status,
           d.stderr())


def odd(ns):
    """Names whose characters need six octets of JSON each."""
    names = ["".join(map(chr, (1 + i % 8, 1 + i // 8 % 8, 1 + i // 64))) + "\x01" * 12
             for i in range(ODD)]
    for a, b in zip(names[::2], names[1::2]):
        ns.run("ip", "link", "add", a, "type", "veth", "peer", "name", b)
    d = live.Synfind(ns, "any", ring_size="1M", max_connections=1024, event_ring_size=1024)
    sub = d.subscribe()
    hello = sub.events[0]
    tap.ok(len(hello["interfaces"]) == 64 and hello["interfaces_more"] == ODD + 1 - 64,
           f"{ODD} interfaces with odd names: hello names 64, and counts the others",
           len(hello["interfaces"]), hello.get("interfaces_more"))
    sub.wait_for("tcp_close", **live.exchange(ns, ns, "127.0.0.1"))
    d.ends_well(sub, "odd")


def main():
    live.need("ip")
    for step in (misspelled, appears, removed):
        ns, other = live.Netns(), live.Netns()
        cable(ns, other)
        with live.guarded(step.__name__):
            step(ns, other)
    ns, other = live.Netns(), live.Netns()
    cable(ns, other)
    with live.guarded("check"):
        check(ns)
    with live.guarded("odd"):
        odd(live.Netns())
    tap.done()


main()
