#!/usr/bin/python3
"""Checks the checker of event streams: a right stream is right, and each fault is found."""
import copy
import json
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../support"))
import events
import script
import tap

T = "2026-01-01T00:00:0{}.000000000Z"


def line(kind, seq, tcp, second=0, **more):
    return {"timestamp": T.format(second), "event_type": kind, "seq": seq,
            "flow_id": "00000000000000aa", "in_iface": "lo", "ip_v": 4,
            "src_ip": "10.0.0.1", "src_port": 40000,
            "dest_ip": "10.0.0.2", "dest_port": 80, "proto": "TCP", "tcp": tcp, **more}


def moved(client, server, was_client, was_server, **more):
    tcp = {"client_state": client, "server_state": server, "prev_client_state": was_client,
           "prev_server_state": was_server, "segment": "ack", "basis": "observed", **more}
    if client != was_client:
        tcp["client_prev_ns"] = 10**9
    if server != was_server:
        tcp["server_prev_ns"] = 10**9
    return tcp


OFFER = {"sack": True, "timestamps": True, "tfo": False, "ecn": False, "mptcp": False, "mss": 1460}
STREAM = [
    {"timestamp": T.format(0), "event_type": "hello", "seq": 1, "schema": "synfind/1",
     "version": "0.1.0", "host": "h", "boot_id": "b", "run_id": "r", "interfaces": ["lo"],
     "next_seq": 2, "policy": "drop_oldest"},
    line("tcp_open", 2, {"client_state": "syn_sent", "server_state": "listen", "segment": "syn",
                         "basis": "observed", "midstream": False, "direction_basis": "syn",
                         "options": {**OFFER, "wscale": 7}}),
    line("tcp_state", 3, moved("syn_sent", "syn_received", "syn_sent", "listen")),
    line("tcp_established", 4, moved(
        "established", "established", "syn_sent", "syn_received", options=OFFER,
        handshake={"syn_retrans": 0, "synack_retrans": 0, "total_ns": 5})),
    {"timestamp": T.format(1), "event_type": "lost", "seq": 6, "count": 2, "first_seq": 5,
     "last_seq": 6, "reason": "subscriber"},
    line("tcp_close", 7, moved(
        "closed", "closed", "established", "established", reason="rst", closed_by="client",
        teardown="reset", conn_state="RSTO", history="ShAR", completeness=39, midstream=False,
        lossy=False), second=2, flow={
            "start": T.format(0), "end": T.format(2), "age_ns": 2 * 10**9, "pkts_toserver": 3,
            "pkts_toclient": 1, "bytes_toserver": 120, "bytes_toclient": 60, "payload_toserver": 0,
            "payload_toclient": 0, "retrans_toserver": 0, "retrans_toclient": 0, "gap_bytes": 0}),
]
HELLO, OPEN, STATE, ESTABLISHED, LOST, CLOSE = range(len(STREAM))


def faults(stream):
    return events.check([json.dumps(e) for e in stream])[1]


def put(stream, index, path, value):
    """Sets (or, with None, removes) a member given by its dotted path."""
    *parents, last = path.split(".")
    node = stream[index]
    for p in parents:
        node = node[p]
    if value is None:
        del node[last]
    else:
        node[last] = value


def without_loss():
    """The stream without its lost line, so that nothing excuses a fault."""
    stream = copy.deepcopy(STREAM)
    del stream[LOST]
    stream[-1]["seq"] = 5
    return stream


def renumber(stream):
    for n, event in enumerate(stream, 1):
        event["seq"] = n


# What is changed, where: each one alone must be found.
MEMBERS = {
    "a member that nobody knows": (OPEN, "colour", "red"),
    "a member of tcp that nobody knows": (STATE, "tcp.colour", "red"),
    "a member that is missing": (OPEN, "src_ip", None),
    "a state that does not exist": (STATE, "tcp.server_state", "syn_recv"),
    "a time without nine digits": (OPEN, "timestamp", "2026-01-01T00:00:00.000000Z"),
    "a time that is not UTC": (OPEN, "timestamp", "2026-01-01T00:00:00.000000000+01:00"),
    "a flow_id that is too short": (OPEN, "flow_id", "aa"),
    "a number as text": (OPEN, "src_port", "40000"),
    "an event_type that nobody knows": (STATE, "event_type", "tcp_moved"),
    "an empty vlan": (OPEN, "vlan", []),
    "a negative duration": (STATE, "tcp.server_prev_ns", -1),
    "a gap in seq": (STATE, "seq", 4),
    "a hello whose next_seq is wrong": (HELLO, "next_seq", 3),
    "a lost that does not begin at the gap": (LOST, "first_seq", 4),
    "a lost with a wrong count": (LOST, "count", 3),
    "an end before the start": (CLOSE, "flow.end", "2025-01-01T00:00:00.000000000Z"),
    "an age that is not end - start": (CLOSE, "flow.age_ns", 1),
    "more payload than octets": (CLOSE, "flow.payload_toserver", 121),
    "a duration of an end that did not move": (STATE, "tcp.client_prev_ns", 1),
    "no duration of an end that moved": (STATE, "tcp.server_prev_ns", None),
}
LINES = {
    "no hello": lambda s: s.pop(HELLO),
    "a second hello": lambda s: s.insert(1, s[HELLO]),
    "a flow that is not opened": lambda s: (s.pop(OPEN), renumber(s)),
    "a flow that is not closed": lambda s: s.pop(),
    "a flow that is opened twice": lambda s: s.append({**s[OPEN], "seq": 6}),
    "a flow that is closed twice": lambda s: s.append({**s[-1], "seq": 6}),
    "an event after the close": lambda s: s.append({**s[STATE], "seq": 6}),
    "a previous state that was not": lambda s: put(s, STATE, "tcp.prev_client_state", "listen"),
    "a step that TCP does not know": lambda s: (
        put(s, ESTABLISHED, "tcp.client_state", "last_ack"),
        put(s, ESTABLISHED + 1, "tcp.prev_client_state", "last_ack"),
        put(s, ESTABLISHED + 1, "tcp.client_state", "time_wait")),
    "a state event in which nothing moves": lambda s: s.__setitem__(
        STATE, line("tcp_state", 3, moved("syn_sent", "listen", "syn_sent", "listen"))),
}

tap.ok(not faults(STREAM), "a right stream, with a gap that is told, is right", faults(STREAM))
tap.ok(not faults(without_loss()), "and so is one without a gap", faults(without_loss()))
for what, change in MEMBERS.items():
    stream = copy.deepcopy(STREAM)
    put(stream, *change)
    tap.ok(faults(stream), f"found: {what}")
for what, change in LINES.items():
    stream = without_loss()
    change(stream)
    tap.ok(faults(stream), f"found: {what}")
for text in ("C > S SYN", "+0 C > D SYN", "+0 C > S SIN", "+0 C > S SYN colour=red", "+x C > S"):
    try:
        script.compile_script(text)
        tap.ok(False, f"a script's line that makes no sense is refused: {text}")
    except script.ScriptError:
        tap.ok(True, f"a script's line that makes no sense is refused: {text}")
tap.done()
