#!/usr/bin/python3
"""Runs each case of this directory through `synfind --read`, and compares its TCP events.

A case is a directory: segs.txt (tests/support/script.py) or capture.pcap, want.txt, README.

want.txt holds one wanted TCP event a line, in order, and no others may come:

    @1 tcp_open   C=syn_sent S=listen segment=syn
    @2 tcp_state  C=syn_sent S=syn_received prevC=syn_sent client_prev_ns=- server_rtt_ns=28000
    ?  tcp_anomaly kind=bad_ack|ack_unseen

@N: the event bears the time of frame N (a reordered or timed-out one: leave it out).  ?: this
event may be missing.  C S prevC prevS are tcp.client_state and so on.  Other keys are looked up
in tcp, tcp.handshake, tcp.options, flow and the event; dots lead further (options.tfo).  '-' is
absent, '*' is present, a|b is either.  flow=2 and prev=1 name flow_id and prev_flow_id: a label
stands for one id (flow=1 if left out).  A line `args --name=value` adds options of the daemon; in
a line `stats` keys are looked up in verdicts and in the decoder's object of the last line.

    run.py [CASE...]          TAP
    run.py --show CASE...     prints what comes, as a want.txt
"""
import json
import os
import re
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
sys.path.insert(0, os.path.join(ROOT, "tests/support"))
import events
import script
import tap

SYNFIND = os.environ.get("SYNFIND", os.path.join(ROOT, "build/synfind"))
ALIAS = {"C": "tcp.client_state", "S": "tcp.server_state",
         "prevC": "tcp.prev_client_state", "prevS": "tcp.prev_server_state",
         "flow": "flow_id", "prev": "tcp.prev_flow_id"}
PLACES = ("tcp", "tcp.handshake", "tcp.options", "flow", "")


class Want:
    """One line of want.txt, of an event or of the numbers at the end."""

    def __init__(self, line):
        words = line.split()
        self.text = " ".join(words)
        self.optional = words[0] == "?"
        if self.optional:
            words.pop(0)
        self.frame = int(words.pop(0)[1:]) if words[0].startswith("@") else None
        self.kind = words.pop(0)
        self.fields = dict(w.split("=", 1) for w in words)
        if self.kind != "stats":
            self.fields.setdefault("flow", "1")

    def mismatch(self, event, times, labels):
        """What differs, as text, or None; learns what the labels stand for."""
        if event["event_type"] != self.kind:
            return f"this is a {event['event_type']}"
        if self.frame and events.time_ns(event["timestamp"]) != times[self.frame - 1]:
            return f"not the time of frame {self.frame}: {event['timestamp']}"
        new = {}
        for key, want in self.fields.items():
            got = lookup(event, key)
            if key in ("flow", "prev") and want not in ("-", "*"):
                known = {**labels, **new}
                if known.get(want, got) != got:
                    return f"{key} is not {want}"
                if want not in known and got in known.values():
                    return f"{key}: {want} should be another connection"
                new[want] = got
            elif not agrees(got, want):
                return f"{key} is {'absent' if got is None else got}, not {want}"
        labels.update(new)
        return None


def lookup(event, key):
    path = ALIAS.get(key, key)
    for place in ("",) if key in ALIAS else PLACES:
        node = event
        for part in filter(None, f"{place}.{path}".split(".")):
            node = node.get(part) if isinstance(node, dict) else None
        if node is not None:
            return node
    return None


def agrees(got, want):
    if want in ("-", "*"):
        return (got is None) == (want == "-")
    text = got if isinstance(got, str) else json.dumps(got, separators=(",", ":"))
    return text in want.split("|")


def read_want(path):
    wants, args = [], []
    with open(path) as f:
        for line in f:
            line = line.split("#", 1)[0].strip()
            if line.startswith("args "):
                args += line.split()[1:]
            elif line:
                wants.append(Want(line))
    return wants, args


def run(case, args):
    """(TCP events and what `stats` names, faults, times of the frames)."""
    pcap = os.path.join(HERE, case, "capture.pcap")
    with tempfile.TemporaryDirectory(prefix="synfind-") as tmp:
        if not os.path.exists(pcap):
            pcap = os.path.join(tmp, "capture.pcap")
            with open(os.path.join(HERE, case, "segs.txt")) as f:
                text = f.read()
            script.write_pcap(script.compile_script(text), pcap, script.link_name(text))
        p = subprocess.run([SYNFIND, "--read", pcap, *args], capture_output=True, timeout=60)
        times = script.pcap_times(pcap)
    stream, faults = events.check(p.stdout.splitlines())
    if p.returncode:
        faults.append(f"exit status {p.returncode}")
    if not stream or stream[-1]["event_type"] != "stats":
        faults.append("the last line is not stats")
    if faults and p.stderr:
        faults.append(p.stderr.decode(errors="replace")[-2000:])
    wanted = [e for e in stream if e["event_type"].startswith("tcp_")]
    if not faults:
        counts = stream[-1]["decoders"][0]
        wanted.append({**counts["verdicts"], **counts, **stream[-1]})
    return wanted, faults, times


def compare(stream, wants, times):
    """None, or the first difference as lines."""
    labels, at = {}, 0
    if not any(w.kind == "stats" for w in wants):
        stream = [e for e in stream if e["event_type"] != "stats"]
    for event in stream:
        reasons = []
        while at < len(wants):
            why = wants[at].mismatch(event, times, labels)
            if why is None:
                break
            reasons.append(f"want {wants[at].text}: {why}")
            if not wants[at].optional:
                at = len(wants)
                break
            at += 1
        if at == len(wants):
            return (reasons or ["no further event is wanted"]) + ["got  " + show(event, times)]
        at += 1
    missing = [w for w in wants[at:] if not w.optional]
    return [f"missing: {missing[0].text}"] if missing else None


def show(event, times):
    """An event as a line of want.txt, with what is usually worth comparing."""
    t = events.time_ns(event["timestamp"])
    frame = f"@{times.index(t) + 1} " if times.count(t) == 1 else ""
    keys = ("C S segment basis kind count waited_ns waits_for silent_ns midstream direction_basis "
            "prev_flow_id server_rtt_ns client_rtt_ns syn_retrans synack_retrans reason outstanding "
            "closed_by teardown conn_state history completeness pkts_toserver pkts_toclient "
            "payload_toserver payload_toclient retrans_toserver retrans_toclient gap_bytes").split()
    if event["event_type"] != "tcp_close":
        keys = keys[:keys.index("reason")]
    values = ((k, lookup(event, k)) for k in keys)
    return frame + " ".join([event["event_type"], f"flow={event.get('flow_id', '')[:4]}"] + [
        f"{k}={v if isinstance(v, str) else json.dumps(v)}" for k, v in values
        if v not in (None, 0, "observed", False)])


def cases(names):
    every = sorted(d for d in os.listdir(HERE) if os.path.exists(f"{HERE}/{d}/want.txt"))
    return [c for c in every if not names or c in names] if names else every


def main():
    names = sys.argv[1:]
    if names and names[0] == "--show":
        for name in names[1:]:
            want = os.path.join(HERE, name, "want.txt")
            args = read_want(want)[1] if os.path.exists(want) else []
            stream, faults, times = run(name, args)
            print(*(show(e, times) for e in stream), *faults, sep="\n")
        return
    for name in cases(names):
        wants, args = read_want(os.path.join(HERE, name, "want.txt"))
        try:
            stream, faults, times = run(name, args)
        except (script.ScriptError, subprocess.TimeoutExpired, OSError) as e:
            tap.ok(False, name, str(e))
            continue
        difference = compare(stream, wants, times)
        tap.ok(not faults and not difference, name, faults, difference or [],
               ["all that came:"] + ["  " + show(e, times) for e in stream] if difference else [])
    for d in sorted(os.listdir(HERE)):
        path = os.path.join(HERE, d)
        if os.path.isdir(path) and d != "__pycache__" and not os.path.exists(f"{path}.py"):
            with open(os.path.join(path, "README")) as f:
                cited = re.search(r"RFC\s+\d+|IEEE 802\.1Q|pcap", f.read())
            tap.ok(cited and os.path.exists(f"{path}/want.txt"), 
                   f"{d}: README says why, want.txt what")
    tap.done()


if __name__ == "__main__":
    main()
