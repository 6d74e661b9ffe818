#!/usr/bin/python3
"""Mistakes in the configuration under a real systemd, by reload and by restart, amid traffic: systemctl
says so, the journal names file and line, no subscriber is disconnected, and no connection is missed,
each told once with all its packets."""
import collections
import json
import os
import re
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../support"))
import events
import live
import nspawn
import tap
import twins
from nspawn import CONF, INSTALL, UNIT

# A ring of 512 blocks that lasts for the time without a process, some ten seconds and more on a busy
# machine: a block is handed over after its time, full or not.
BASE = "[capture]\ninterface = lo\nblock-timeout = 100ms\n[events]\nstats-interval = 1s\n"
LINE = 1 + BASE.count("\n")  # of what a mistake adds
PORT, PAUSE_S = 7000, 0.005
MISTAKES = {
    "an unknown option": "rign-size = 64M\n",
    "an unknown section": "[captrue]\n",
    "no value": "max-subscribers\n",
    "a value that is no number": "max-subscribers = many\n",
    "a value out of range": "max-subscribers = 0\n",
    "an unknown word": "[capture]\nmode = fast\n",
    "an option of another section": "ring-size = 64M\n",
    "an option given twice": "stats-interval = 2s\n",
    "sizes that do not fit": "[capture]\nring-size = 5M\nring-block-size = 4M\n",
    "a user who is not there": "allow-user = nosuch\n",
    "not a text": "\x01\x02\x03\n",
    "an interface that is not there": "[capture]\ninterface = lp\n",
}


class Traffic(threading.Thread):
    """One connection after the other, each with five segments and a FIN of both."""

    def __init__(self, ns):
        super().__init__(daemon=True)
        self.ns = ns
        self.ports = []
        self.go = True
        self.start()

    def run(self):
        with self.ns.listen(("127.0.0.1", PORT)) as l:
            while self.go:
                c = self.ns.connect(("127.0.0.1", PORT))
                s = l.accept()[0]
                self.ports.append(c.getsockname()[1])
                c.close()
                s.recv(1)
                s.close()
                time.sleep(PAUSE_S)

    def end(self):
        self.go = False
        self.join()
        return collections.Counter(self.ports)


def place(text):
    """How the journal names the place: its line may be the first or the second that is added."""
    return rf"{CONF}:({LINE}|{LINE + 1}): "


def said(s, mark, text):
    """Errors since the mark that name the place."""
    return [e["MESSAGE"] for e in s.entries(f"--since=@{mark}") if re.match(place(text), e["MESSAGE"])]


def now(s):
    s.m.run("journalctl", "--sync")
    time.sleep(0.01)  # the next entries are later
    return f"{time.time():.6f}"


def by_reload(s, what, text):
    pid, mark = s.pid(), now(s)
    s.configure(BASE + text)
    status = s.m.status("systemctl", "reload", UNIT)
    tap.ok(status != 0, f"{what}, reload: the status says so", status)
    tap.ok(said(s, mark, text), f"{what}, reload: the journal names file and line",
           [e["MESSAGE"] for e in s.entries(f"--since=@{mark}")])
    tap.equal((s.active(), s.pid()), (True, pid), f"{what}, reload: the service goes on")


def by_restart(s, what, text):
    pid, mark = s.pid(), now(s)
    s.configure(BASE + text)
    status = s.m.status("systemctl", "restart", UNIT)
    tap.ok(status != 0, f"{what}, restart: the status says so", status)
    # With a missing interface the stored ones are resumed at each attempt, and left alone.
    wanted = int(s.m.show(UNIT, "NRestarts")) + (6 if "interface" in what else 2)
    live.wait_until(lambda: int(s.m.show(UNIT, "NRestarts")) >= wanted, "more attempts")
    got = said(s, mark, text)
    tap.ok(len(got) == 1, f"{what}, restart: the journal names file and line, once", got,
           [e["MESSAGE"] for e in s.entries(f"--since=@{mark}")])
    if what == "an unknown option":
        s.configure(BASE + "other = 1\n")
        live.wait_until(lambda: [m for m in said(s, mark, text) if "'other'" in m], "the other mistake")
        tap.ok(True, "another mistake, meanwhile, is named at once")
    s.configure(BASE)
    s.new_pid(pid)
    tap.ok(any("starts that failed" in e["MESSAGE"] for e in s.entries(f"--since=@{mark}")),
           f"{what}, restart: it starts by itself once the file is right")


def by_signal(s):
    """Nothing is checked first: what was watched stays."""
    pid, mark = s.pid(), now(s)
    s.configure(BASE.replace("interface = lo", "interface = lp"))
    s.m.run("systemctl", "kill", "--signal=HUP", UNIT)
    live.wait_until(lambda: s.said("Interface lo is not configured any more, but kept"), "lo to be kept")
    got = [e["MESSAGE"] for e in s.entries(f"--since=@{mark}")]
    tap.ok(f"{CONF}:2: interface: 'lp' does not exist; did you mean 'lo'?" in got,
           "a misspelled interface, SIGHUP: the journal names file, line and the nearest name", got)
    s.configure(BASE)
    s.m.run("systemctl", "reload", UNIT)
    tap.equal(s.pid(), pid, "SIGHUP: the process is the same")


def second_daemon(s):
    p = s.m.popen("/usr/sbin/synfind", stdin=-3, stdout=-3, stderr=-1)
    text = p.communicate(timeout=live.DEADLINE)[1].decode()
    tap.ok(p.returncode == 1 and "synfind.service is running; to watch: synfinctl watch" in text ,
           "a second daemon says that the service runs, and how to watch",
           p.returncode, text)


def told(recorder):
    """All that it got, checked."""
    checker = events.Checker()
    with open(recorder.file, "rb") as f:
        return [checker.feed(line.rstrip(b"\n")) for line in f], checker


def closes(recorder):
    with open(recorder.file, "rb") as f:
        return f.read().count(b'"event_type":"tcp_close"')


def judge(recorder, made, starts):
    tap.ok(not recorder.ended, "no subscriber was disconnected")
    recorder.close()
    lines, checker = told(recorder)
    tap.ok(not checker.errors, "every number came once, every line is right", checker.errors)
    opened, closed = collections.Counter(), collections.Counter()
    odd = []
    for e in lines:
        if e.get("dest_port") != PORT:
            continue
        opened[e["src_port"]] += e["event_type"] == "tcp_open"
        if e["event_type"] == "tcp_close":
            closed[e["src_port"]] += 1
            packets = (e["tcp"]["reason"], e["flow"]["pkts_toserver"], e["flow"]["pkts_toclient"])
            if packets[0] != "fin" or sum(packets[1:]) != 7 - (packets[2] == 2):
                odd.append(packets)
    kinds = collections.Counter(e["event_type"] for e in lines)
    tap.diag(f"{sum(made.values())} connections, {kinds}")
    tap.equal((kinds["capture_loss"], kinds["lost"]), (0, 0), "nothing was lost")
    tap.equal(kinds["iface"], 0, "the interface was watched all the time")
    tap.equal(kinds["restart"], starts, "each restart that went well is told, and no other")
    kept = [e for e in lines if e["event_type"] == "restart" and e["tables"] != "kept"]
    tap.ok(not kept, "with all connections known", kept)
    tap.ok(opened == made, "each connection was told once", (opened - made), (made - opened))
    tap.ok(closed == made, "and its end", (closed - made), (made - closed))
    tap.ok(not odd, "with all its packets", collections.Counter(odd))


def without_store(s):
    """Nothing to keep: a mistake is final."""
    s.m.run("systemctl", "stop", UNIT)
    s.configure(BASE + "rign-size = 64M\n")
    status = s.m.status("systemctl", "start", UNIT)
    live.wait_until(lambda: s.m.show(UNIT, "ActiveState") == "failed", "the start to fail")
    tap.equal((status, s.m.show(UNIT, "ExecMainStatus")), (1, "2"),
              "a mistake at the first start: status 2, and the unit has failed")
    s.configure(BASE)


def main():
    nspawn.need("dpkg-deb")
    if not os.path.exists(f"{live.ROOT}/build/deb/built"):
        tap.ok(False, "built: build/deb/built")
        tap.done()
    ns = live.Netns()
    machine = nspawn.Machine(ns, nspawn.put_package)
    try:
        s = nspawn.Service(machine)
        machine.run(*INSTALL)
        s.configure(BASE)
        machine.run("systemctl", "stop", UNIT, nspawn.OPENER)
        machine.run("systemctl", "start", UNIT)
        live.wait_until(s.active, "the service to run")
        kept = s.stored()
        recorder = twins.Recorder("service", s.path, live.tmpdir())
        live.wait_until(lambda: s.stored() > kept, "the subscriber to be stored")
        traffic = Traffic(ns)
        for what, text in MISTAKES.items():
            for step in (by_reload, by_restart):
                with live.guarded(f"{what}, {step.__name__}"):
                    step(s, what, text)
        for step in (by_signal, second_daemon):
            with live.guarded(step.__name__):
                step(s)
        s.configure(BASE)
        made = traffic.end()
        with live.guarded("closes"):
            live.wait_until(lambda: closes(recorder) >= sum(made.values()), "the close of each connection")
        judge(recorder, made, len(MISTAKES))
        with live.guarded("without_store"):
            without_store(s)
        if tap.failed:
            tap.diag(machine.run("journalctl", "-u", "synfind*", "-n", "60", "--no-pager", check=False))
    finally:
        machine.close()
    tap.done()


main()
