#!/usr/bin/python3
"""Checks an event stream: each line against docs/events.schema.json, and what holds across lines.

    checker = events.Checker()
    for line in stream: event = checker.feed(line)
    checker.end()
    assert not checker.errors

Across lines: seq has no gap but those that a lost line tells; each flow_id has one tcp_open, then
one tcp_close, then nothing but anomalies; prev_* states are those that the flow's last event told;
each endpoint moves along RFC 9293 figure 5 (as a bystander sees it: several steps may show in
one event, and crossed SYNs take the listening end straight to syn_received); times do not run
backwards within a close; the series of a SYN flood begins, ends, and its numbers add up.

As a program, it reads a stream from a file or stdin: events.py [--partial] [FILE]
"""
import calendar
import json
import os
import subprocess
import sys

SCHEMA = os.path.join(os.path.dirname(__file__), "../../docs/events.schema.json")
JSONLINES = os.path.join(os.path.dirname(__file__), "../../build/tests/jsonlines")

STEPS = {
    "listen": ["syn_received"],
    "syn_sent": ["syn_received", "established"],
    "syn_received": ["established", "fin_wait_1"],
    "established": ["fin_wait_1", "close_wait"],
    "fin_wait_1": ["fin_wait_2", "closing", "time_wait"],
    "fin_wait_2": ["time_wait"],
    "close_wait": ["last_ack"],
    "closing": ["time_wait"],
    "last_ack": [],
    "time_wait": [],
    "closed": [],
}


def _reachable():
    """Pairs of states with a way between them; every state may end in closed."""
    pairs = set()

    def walk(start, at):
        pairs.add((start, at))
        for to in STEPS[at]:
            if (start, to) not in pairs:
                walk(start, to)

    for state in STEPS:
        walk(state, state)
        pairs.add((state, "closed"))
    return pairs


REACHABLE = _reachable()

# Lines that carry the number of the event before the next one.
UNNUMBERED = ("snapshot", "snapshot_end", "tcp_segment")

# Each shows the state that the next one begins from.
STATE_KINDS = {"tcp_open", "tcp_state", "tcp_established", "tcp_close"}

# What becomes of an attempt on a flooded server.
FLOOD_ENDS = ("completed", "told", "refused", "expired", "evicted", "replaced")

SAMPLE_ALL = 2000  # lines of each kind that are all validated; then one in SAMPLE_STEP
SAMPLE_STEP = 100


def time_ns(text):
    """RFC 3339 with nine digits -> ns since 1970."""
    y, mo, d, h, mi, s, ns = (text[0:4], text[5:7], text[8:10], text[11:13], text[14:16],
                              text[17:19], text[20:29])
    return calendar.timegm((int(y), int(mo), int(d), int(h), int(mi), int(s))) * 10**9 + int(ns)


class _Validators:
    """One compiled validator per event_type: far faster, and errors name the member."""

    def __init__(self):
        import jsonschema

        with open(SCHEMA) as f:
            schema = json.load(f)
        jsonschema.Draft202012Validator.check_schema(schema)
        self.by_type = {}
        for branch in schema["oneOf"]:
            name = branch["$ref"].rsplit("/", 1)[1]
            resolved = _inline(schema["$defs"][name], schema["$defs"])
            self.by_type[name] = jsonschema.Draft202012Validator(resolved)

    def problem(self, event):
        validator = self.by_type.get(event.get("event_type"))
        if not validator:
            return f"unknown event_type {event.get('event_type')!r}"
        for error in validator.iter_errors(event):
            return "/".join(map(str, error.absolute_path)) + ": " + error.message[:300]
        return None


def _inline(node, defs):
    """The schema without $ref, which the validator would look up again and again."""
    if isinstance(node, dict):
        if "$ref" in node:
            return _inline(defs[node["$ref"].rsplit("/", 1)[1]], defs)
        return {k: _inline(v, defs) for k, v in node.items()}
    if isinstance(node, list):
        return [_inline(v, defs) for v in node]
    return node


_validators = None


def validators():
    global _validators
    _validators = _validators or _Validators()
    return _validators


class Checker:
    """Feed it every line of one stream.  `errors` holds the first 20 faults, as text.

    whole: the stream begins with the daemon, so no flow may show up without its tcp_open.
    A checker without schema=True does the checks across lines only.
    After a `subscribed` line with a choice, only what it chose is expected.  Where hello says that
    not all kinds of event are produced, states that follow from one another cannot be checked.
    """

    def __init__(self, whole=True, schema=True):
        self.whole = whole
        self.validators = validators() if schema else None
        self.errors = []
        self.lines = 0
        self.hello = None
        self.chosen = False  # a request chose some of the events
        self.some = False  # not all kinds of event are produced
        self.last = None  # the last event
        self.flows = {}  # flow_id -> [client_state, server_state, closed]
        self.floods = {}  # id -> the last line of a SYN flood that goes on
        self.counts = {}  # event_type -> events
        self.lost = 0
        self.lost_segments = 0
        self._shapes = set()
        self._next_seq = None

    def fail(self, text):
        if len(self.errors) < 20:
            self.errors.append(f"line {self.lines}: {text}")

    def feed(self, line):
        """Checks one line (str or bytes); returns the event, or None if it is not JSON."""
        self.lines += 1
        try:
            event = json.loads(line)
            kind = event["event_type"]
            seq = event["seq"]
        except (ValueError, KeyError, TypeError) as e:
            self.fail(f"not an event: {e}: {line[:200]!r}")
            return None
        n = self.counts[kind] = self.counts.get(kind, 0) + 1
        if self.validators and self._wanted(event, kind, n):
            problem = self.validators.problem(event)
            if problem:
                self.fail(f"{kind} against the schema: {problem}")
        self._seq(event, kind, seq)
        if kind == "tcp_segment":
            self._segment(event)
        elif kind.startswith("tcp_"):
            self._flow(event, kind)
        elif kind == "syn_flood":
            self._flood(event["flood"])
        elif kind == "snapshot":
            self._snapshot(event)
        self.last = event
        return event

    def end(self, all_closed=True):
        """After the last line.  all_closed: the stream ends with the daemon."""
        if all_closed:
            open_flows = [f for f, s in self.flows.items() if not s[2]]
            if open_flows and not self.lost and not self.some:
                self.fail(f"{len(open_flows)} flows without tcp_close, such as {open_flows[0]}")
            if self.floods and not self.lost:
                self.fail(f"{len(self.floods)} floods without an end")
        return not self.errors

    def _wanted(self, event, kind, n):
        if n <= SAMPLE_ALL or n % SAMPLE_STEP == 0:
            return True
        tcp = event.get("tcp")
        shape = (kind, len(event), tuple(tcp) if tcp else None)
        if shape in self._shapes:
            return False
        self._shapes.add(shape)
        return True

    def _seq(self, event, kind, seq):
        if self._next_seq is None:
            if kind != "hello":
                self.fail(f"the first line is {kind}, not hello")
        elif kind == "hello":
            self.fail("a second hello")
        elif kind == "error":
            return
        elif kind == "subscribed":
            self.chosen = len(event["events"]) < 13 or "where" in event
            self.whole = False
            self.flows = {}
        elif kind == "lost" and event["reason"].startswith("segment_"):
            self.lost_segments += event["count"]
            if seq != self._next_seq - 1 and not (self.chosen and seq >= self._next_seq):
                self.fail(f"lost segments: seq {seq} where {self._next_seq} comes next")
        elif kind == "lost":
            first, last, count = event["first_seq"], event["last_seq"], event["count"]
            self.lost += count
            if first != self._next_seq and not (self.chosen and first > self._next_seq):
                self.fail(f"lost from {first} on, but {self._next_seq} comes next")
            if seq != last or (count > last - first + 1 if self.chosen else last - first + 1 != count):
                self.fail(f"lost: seq {seq}, {first} to {last} are not {count}")
        elif kind in UNNUMBERED and self.chosen and seq >= self._next_seq:
            pass
        elif seq != self._next_seq - (kind in UNNUMBERED) and not (self.chosen and seq > self._next_seq):
            self.fail(f"seq {seq} where {self._next_seq} comes next")
        if kind == "hello":
            self.hello = event
            self.some = not STATE_KINDS <= set(event.get("events", STATE_KINDS))
            if event["next_seq"] != seq + 1:
                self.fail(f"hello: seq {seq} but next_seq {event['next_seq']}")
        self._next_seq = seq + 1

    def _flow(self, event, kind):
        flow_id, tcp = event["flow_id"], event["tcp"]
        gaps = self.lost or self.chosen or self.some
        now = tcp["client_state"], tcp["server_state"]
        flow = self.flows.get(flow_id)
        if kind == "tcp_open":
            if flow:
                self.fail(f"flow {flow_id} opened twice")
            if tcp.get("prev_flow_id") == flow_id:
                self.fail(f"flow {flow_id} follows itself")
            self.flows[flow_id] = [*now, False]
            return
        if not flow:
            if self.whole and not gaps:
                self.fail(f"{kind} of flow {flow_id}, which was not opened")
            if kind != "tcp_anomaly":
                self.flows[flow_id] = [*now, kind == "tcp_close"]
            return
        if kind in ("tcp_anomaly", "tcp_retry", "tcp_stuck"):
            if now != (flow[0], flow[1]) and not gaps and not flow[2]:
                self.fail(f"{kind} shows {now}, the flow was {flow[:2]}")
            if flow[2] and kind != "tcp_anomaly":
                self.fail(f"{kind} of flow {flow_id} after its tcp_close")
            return
        if flow[2]:
            self.fail(f"{kind} of flow {flow_id} after its tcp_close")
        prev = tcp["prev_client_state"], tcp["prev_server_state"]
        if prev != (flow[0], flow[1]) and not gaps:
            self.fail(f"{kind} comes from {prev}, the flow was {flow[:2]}")
        for was, is_, who in zip(prev, now, ("client", "server")):
            if (was, is_) not in REACHABLE:
                self.fail(f"{kind}: the {who} cannot go from {was} to {is_}")
            if was == is_ and f"{who}_prev_ns" in tcp:
                self.fail(f"{kind}: the {who} stays {is_}, but {who}_prev_ns is told")
            if was != is_ and f"{who}_prev_ns" not in tcp:
                self.fail(f"{kind}: the {who} moved, but {who}_prev_ns is missing")
        if kind == "tcp_state" and prev == now:
            self.fail(f"tcp_state in which nothing moved: {now}")
        if kind == "tcp_established" and "established" not in _passed(prev, now):
            self.fail(f"tcp_established from {prev} to {now}")
        flow[0], flow[1] = now
        if kind == "tcp_close":
            flow[2] = True
            self._close(event["flow"])

    def _segment(self, event):
        """Its states are those of the flow's last event: what it caused came before it."""
        now = [event["tcp"]["client_state"], event["tcp"]["server_state"]]
        flow = self.flows.get(event["flow_id"])
        if flow and not flow[2] and flow[:2] != now and not self.lost and not self.chosen:
            self.fail(f"tcp_segment shows {now}, the flow was {flow[:2]}")

    def _snapshot(self, event):
        """A row replaces what is known of its flow; what has ended stays so."""
        now = [event["tcp"]["client_state"], event["tcp"]["server_state"]]
        flow = self.flows.setdefault(event["flow_id"], [*now, False])
        if flow[2]:
            self.fail(f"snapshot of flow {event['flow_id']} after its tcp_close")
        if flow[:2] != now and not self.lost:
            self.fail(f"snapshot shows {now}, the flow was {flow[:2]}")
        flow[:2] = now

    def _flood(self, now):
        was = self.floods.pop(now["id"], None)
        if (was is None) != (now["phase"] == "begin") and self.whole and not self.lost:
            self.fail(f"a flood: {now['phase']} behind {was}")
        if now["attempts"] != sum(now[k] for k in FLOOD_ENDS) + now["half_open"]:
            self.fail(f"a flood whose numbers do not add up: {now}")
        for k in ("attempts", "answered", *FLOOD_ENDS):
            if was and now[k] < was[k]:
                self.fail(f"a flood: {k} was {was[k]}, and is {now[k]}")
        if now["new_attempts"] != now["attempts"] - (was["attempts"] if was else 0) and not self.lost:
            self.fail(f"a flood: new_attempts {now} behind {was}")
        if now["phase"] != "end":
            self.floods[now["id"]] = now

    def _close(self, flow):
        # Text of a fixed form: it sorts as the times do.
        if flow["end"] < flow["start"]:
            self.fail(f"end {flow['end']} before start {flow['start']}")
        if flow["age_ns"] != time_ns(flow["end"]) - time_ns(flow["start"]):
            self.fail(f"age_ns {flow['age_ns']} from {flow['start']} to {flow['end']}")
        for way in ("toserver", "toclient"):
            if "counts" not in flow and flow[f"payload_{way}"] > flow[f"bytes_{way}"]:
                self.fail(f"more payload than octets {way}")


def _passed(prev, now):
    """The states that an endpoint may have gone through or reached."""
    return {s for a, b in zip(prev, now) for s in STEPS
            if (a, s) in REACHABLE and (s, b) in REACHABLE}


def jansson(lines):
    """What an independent parser, the strict way, has against these lines: errors."""
    text = b"".join((l if isinstance(l, bytes) else l.encode()).rstrip(b"\n") + b"\n"
                    for l in lines)
    p = subprocess.run([JSONLINES], input=text, stdout=subprocess.PIPE)
    said = p.stdout.decode(errors="replace").strip()
    if p.returncode:
        return ["jansson: " + said]
    return [] if said == str(text.count(b"\n")) else [f"jansson counts {said} lines"]


def check(lines, whole=True, all_closed=True):
    """(events, errors) of a whole stream."""
    checker = Checker(whole)
    lines = list(lines)
    out = [checker.feed(line) for line in lines]
    checker.end(all_closed)
    return [e for e in out if e], checker.errors + (jansson(lines) if not checker.errors else [])


def main():
    args = sys.argv[1:]
    partial = "--partial" in args
    names = [a for a in args if a != "--partial"]
    checker = Checker(whole=not partial)
    with open(names[0], "rb") if names else sys.stdin.buffer as f:
        for line in f:
            checker.feed(line)
    checker.end(not partial)
    for e in checker.errors:
        print(e, file=sys.stderr)
    print(json.dumps({"lines": checker.lines, "flows": len(checker.flows), **checker.counts}))
    sys.exit(bool(checker.errors))


if __name__ == "__main__":
    main()
