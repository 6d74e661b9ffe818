#!/usr/bin/python3
"""A service manager that does not read what it is sent does not stop the daemon, and subscribers that
come and go do not make it send much."""
import os
import signal
import socket
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../support"))
import fdstore
import live
import tap

NOBODY = 65534
CONNECTS = int(os.environ.get("CONNECTS", "10000"))


def fill(m):
    """Until nothing more goes into the manager's socket; returns how much that was."""
    n = 0
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as s:
        s.connect(m.notify.getsockname())
        while True:
            try:
                s.send(b"FILL=1")
                n += 1
            except BlockingIOError:
                return n


def come_and_go(path):
    """Many connections of user nobody, one after the other, from a process of its own."""
    pid = os.fork()
    if pid == 0:
        os.setgroups([])
        os.setresgid(NOBODY, NOBODY, NOBODY)
        os.setresuid(NOBODY, NOBODY, NOBODY)
        live.die_with_parent()  # after that, which resets it
        for _ in range(CONNECTS):
            with socket.socket(socket.AF_UNIX) as s:
                s.connect(path)
        os._exit(0)
    return pid


def answers(sub, ns, port):
    return sub.wait_for("tcp_close", **live.exchange(ns, ns, "127.0.0.1", port))


def all_seen(sub):
    """The newest counts of subscribers, if they have all connections."""
    counts = [e for e in sub.events if e["event_type"] == "stats"][-1]["subscribers"]
    return counts if counts["refused"] + counts["accepted"] >= CONNECTS else None


def stuck_manager(ns):
    m = fdstore.Manager(ns, "lo", ring_size="4M", socket_mode="0666", stats_interval="1s")
    m.start()
    root = m.subscribe()
    m.take_in()
    filled = fill(m)
    tap.ok(filled > 5, "the manager does not read, and its socket is full", filled)
    pid = come_and_go(m.path)
    young = live.Subscriber(m.path)  # beside them, another user is served
    young.until(lambda e: e, "hello")
    for port in range(1000, 1005):
        answers(young, ns, port)
    ended = os.waitpid(pid, 0)[1]
    tap.equal(ended, 0, f"{CONNECTS} connections of nobody come and go, whatever the manager does")
    seen = answers(root, ns, 1005)
    root.stats_after(seen)
    last = live.wait_until(lambda: root.read() and all_seen(root), "all of them to be accepted or refused")
    tap.ok(last["refused_by"].get("rate_limit", 0) > 0,
           "who connects too often is refused, and counted", last)
    tap.ok("more than 500 times a second" in m.stderr(), "the log says why", m.stderr())
    m.p.send_signal(signal.SIGHUP)
    answers(root, ns, 1006)
    tap.ok(True, "a reload does not wait for the manager either")
    m.said.clear()
    live.wait_until(lambda: len(m.readers()) == 2, "what waited, once the manager reads")
    live.wait_until(lambda: any("READY" in s for s in m.said), "READY after the reload")
    tap.ok(True, "once the manager reads, it gets what waited")
    sent = [s for s in m.said if "FILL" not in s]
    tap.ok(len(sent) < 20, "which is little", len(sent), sent[:20])
    m.end(signal.SIGTERM)
    m.start()
    for sub, name in ((root, "an old"), (young, "a later")):
        sub.wait_for("restart")
        tap.ok(not sub.checker.errors, f"{name} subscriber reads on after a restart", sub.checker.errors)
    m.end(signal.SIGINT)


def ends_beside_it(ns):
    """It gives the manager some time to read what it says last, not for ever."""
    m = fdstore.Manager(ns, "lo", ring_size="4M")
    m.start()
    m.take_in()
    fill(m)
    m.p.send_signal(signal.SIGTERM)
    m.p.wait(timeout=live.DEADLINE)
    tap.equal(m.p.returncode, 0, "a manager that does not read does not keep the daemon from its end")
    m.end()


live.need("ip")
ns = live.Netns()
for step in (stuck_manager, ends_beside_it):
    with live.guarded(step.__name__):
        step(ns)
tap.done()
