#!/usr/bin/python3
"""Started by hand as root: what the daemon gives up, and how its opener dies and comes back."""
import os
import signal
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../support"))
import confined
import live
import tap


def family(d):
    """The daemon, the one that keeps watch, and the opener, once all three are there."""
    watch = live.wait_until(lambda: live.children(d.p.pid), "the opener's parent")[0]
    opener = live.wait_until(lambda: live.children(watch), "the opener")[0]
    return d.p.pid, watch, opener


def gone(pid):
    try:
        with open(f"/proc/{pid}/stat") as f:
            return f.read().rsplit(")", 1)[1].split()[0] == "Z"
    except OSError:
        return True


def gives_up(ns):
    d = live.Synfind(ns, "lo", ring_size="4M")
    sub = d.subscribe()
    daemon, watch, opener = family(d)
    confined.check_daemon("the daemon", daemon)
    live.wait_until(lambda: confined.sanitizer(opener) or
                    confined.status(opener)["Seccomp"] == "2", "the opener to be confined")
    confined.check_opener("the opener", opener)
    tap.equal(confined.capabilities(confined.status(watch))["CapPrm"], confined.CAP_NET_RAW,
              "the opener's parent: CAP_NET_RAW and no other capability")
    confined.is_watched(sub, ns)
    tap.ok(True, "after all that capture goes on")
    d.ends_well(sub)
    tap.ok(not os.path.lexists(d.path), "the socket is removed, though the daemon itself cannot")
    live.wait_until(lambda: gone(watch) and gone(opener), "the opener to end with the daemon")
    tap.ok(True, "the opener ends with the daemon")


def mode_auto(ns):
    d = live.Synfind(ns, "lo", "--mode=auto", "--auto-after=1", ring_size="4M")
    sub = d.subscribe()
    daemon, _, opener = family(d)
    confined.check_daemon("the daemon in mode auto", daemon)
    confined.check_maps("the daemon in mode auto", daemon)
    confined.is_watched(sub, ns)
    os.kill(opener, signal.SIGKILL)
    confined.is_watched(sub, ns, 81)
    tap.ok(True, "mode auto: capture goes on, and needs no opener for it")
    d.ends_well(sub, "mode auto")


def opener_comes_back():
    left, right = live.veth_pair()
    live.join(left, right, "veth-c", "veth-d", 2)
    d = live.Synfind(left, "lo,veth*", ring_size="4M")
    sub = d.subscribe()
    _, watch, opener = family(d)
    os.kill(watch, signal.SIGSTOP)  # or it would start another at once
    os.kill(opener, signal.SIGKILL)
    confined.is_watched(sub, left)
    tap.ok(True, "the opener is dead: what is watched is watched on")
    left.ip("link del veth-c")
    live.join(left, right, "veth-e", "veth-f", 3)
    os.kill(watch, signal.SIGCONT)
    sub.wait_for("iface", in_iface="veth-c", state="gone")
    sub.wait_for("iface", in_iface="veth-e", state="up")
    tap.ok(True, "it comes back: what went and came meanwhile is told")
    confined.is_watched(sub, left, 81)
    close = sub.wait_for("tcp_close", **live.exchange(left, right, "10.0.3.2", 82))
    tap.equal(close["in_iface"], "veth-e", "and the new interface is watched")
    tap.equal(sorted(e["state"] for e in sub.events if e["event_type"] == "iface"), ["gone", "up"],
              "interfaces that stayed are not told again")
    os.kill(watch, signal.SIGKILL)
    live.wait_until(lambda: "opener is gone" in d.stderr(), "the daemon to see it")
    confined.is_watched(sub, left, 83)
    tap.ok(True, "it is gone for good: that is said, and capture goes on")
    d.ends_well(sub, "without an opener")
    os.unlink(d.path)  # nobody was left to do it


def daemon_killed(ns):
    d = live.Synfind(ns, "lo", ring_size="4M")
    _, watch, opener = family(d)
    d.stop(signal.SIGKILL)
    live.wait_until(lambda: gone(watch) and gone(opener), "the opener to end")
    tap.ok(True, "the daemon is killed: its opener ends")


live.need("ip")
ns = live.Netns()
for step in (lambda _: confined.check_means(), gives_up, mode_auto, lambda _: opener_comes_back(),
             daemon_killed):
    with live.guarded(step.__name__):
        step(ns)
tap.done()
