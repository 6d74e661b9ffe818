"""Two streams of one traffic: one observer was left alone, what did the other one make of it?

Both see the same frames with the same times (`one_clock()`), so whatever is told of a connection
must be the same to the octet, but for `seq`.  Streams are kept in files: they are long.
"""
import array
import collections
import contextlib
import json
import os
import re
import socket
import threading

import events
import live
import stories

SO_TIMESTAMPNS = 35
UNSTAMP = os.path.join(live.ROOT, "build/tests/unstamp.bpf.o")
_SEQ = re.compile(rb'"seq":\d+,')


def one_clock(peer, device):
    """While the socket that this returns is open, the kernel stamps each frame once, before any
    packet socket sees it; else each ring asks the clock for itself (tpacket_rcv()).  What comes
    from `peer` through `device` must not look stamped: see unstamp.bpf.c."""
    peer.run("tc", "qdisc", "add", "dev", device, "clsact")
    peer.run("tc", "filter", "add", "dev", device, "egress", "bpf", "da", "obj", UNSTAMP, "sec", "tc")
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    s.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
    return s


class Recorder:
    """A subscriber that writes what it gets into a file, in a thread of its own.

    From greeted() on it gets everything, not from its making on."""

    def __init__(self, name, path, directory):
        self.name = name
        self.file = os.path.join(directory, f"{name}.ndjson")
        self.octets = 0
        self.ended = False
        self._go = threading.Event()
        self._go.set()
        self.s = socket.socket(socket.AF_UNIX)
        self.s.settimeout(live.DEADLINE)
        self.s.connect(path)
        self.s.settimeout(None)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def greeted(self):
        """Returns itself, once it has its hello."""
        live.wait_until(lambda: self.octets, f"the hello of '{self.name}'")
        return self

    def _run(self):
        with open(self.file, "wb", buffering=0) as f:
            while True:
                self._go.wait()
                try:
                    data = self.s.recv(1 << 20)
                except OSError:
                    data = b""
                if not data:
                    self.ended = True
                    return
                f.write(data)
                self.octets += len(data)

    def sleep(self):
        """Reads no more until wake()."""
        self._go.clear()

    def wake(self):
        self._go.set()

    def tail(self):
        """The newest whole lines."""
        if not os.path.exists(self.file):  # by the thread, when it has begun
            return []
        with open(self.file, "rb") as f:
            f.seek(max(0, os.path.getsize(self.file) - (1 << 18)))
            return f.read().split(b"\n")[1:-1]

    def last_seq(self):
        lines = self.tail()
        return json.loads(lines[-1])["seq"] if lines else 0

    def newest(self, kind):
        """The newest event of a kind among the last lines, or None."""
        mark = f'"event_type":"{kind}"'.encode()
        for line in reversed(self.tail()):
            if mark in line:
                return json.loads(line)
        return None

    def close(self):
        with contextlib.suppress(OSError):
            self.s.shutdown(socket.SHUT_RDWR)
        self._thread.join(live.DEADLINE)
        self.s.close()


# Shorter than the load's pauses where a timeout is to come, longer where none is: see load.c.
# What a loss can leave open ends soon, too: a handshake without its end, a FIN without an answer, an
# RST of which it is not certain that it is valid (that waits for timeout-time-wait).
TIMEOUTS = {"timeout-syn-sent": "3s", "timeout-syn-received": "5s", "timeout-established": "5s",
            "timeout-half-closed": "5s", "timeout-closing": "5s", "timeout-time-wait": "5s"}


def await_quiet(recorder):
    """Until two stats lines in a row have no connection open, and not a frame came between."""
    def newest():
        return [json.loads(line)["decoders"] for line in recorder.tail()
                if b'"event_type":"stats"' in line][-2:]

    def is_quiet():
        seen = newest()
        return recorder.ended or (
            len(seen) == 2 and not any(d["connections"]["total"] for ds in seen for d in ds)
            and [d["packets"] for d in seen[0]] == [d["packets"] for d in seen[1]])

    try:
        live.wait_until(is_quiet, f"the connections of '{recorder.name}' to be over")
    except live.Timeout as e:
        raise live.Timeout(f"{e}: {newest()}") from e


class Stream:
    """A recorded stream, read and checked up to the event with number `last`."""

    def __init__(self, recorder, last):
        self.name = recorder.name
        self.file = recorder.file
        self.checker = events.Checker()
        self.offsets = array.array("Q")  # of each line
        self.tuples = collections.defaultdict(list)  # both ends -> lines without seq
        self.lives = {}  # the same -> [time of its first event, of its last one]
        self.others = []  # events that are of no connection
        self.ends = collections.Counter()  # (dest_port, reason, closed_by) -> closes
        self.book = stories.Book()
        at = 0
        with open(self.file, "rb") as f:
            for line in f:
                event = self.checker.feed(line)
                self.offsets.append(at)
                at += len(line)
                if event:
                    self._sort(event, line)
                if not event or event["seq"] >= last:
                    break
        self.book.close()
        self.octets = at  # up to there
        self.hello = self.checker.hello or {"next_seq": 0}

    def _sort(self, event, line):
        if not event["event_type"].startswith("tcp_"):
            self.others.append(event)
            return
        self.book.add(event)
        # Whoever is told to be the client: picked up mid-stream, that is a guess.
        key = tuple(sorted(((event["src_ip"], event["src_port"]),
                            (event["dest_ip"], event["dest_port"]))))
        self.tuples[key].append(_SEQ.sub(b"", line, 1))
        now = event["timestamp"]
        life = self.lives.setdefault(key, [now, now])
        life[0], life[1] = min(life[0], now), max(life[1], now)
        if event["event_type"] == "tcp_close":
            tcp = event["tcp"]
            life[1] = max(life[1], event["flow"]["end"])
            self.ends[event["dest_port"], tcp["reason"], tcp["closed_by"]] += 1

    def of_kind(self, kind):
        return [e for e in self.others if e["event_type"] == kind]

    def offset_of(self, seq):
        """Where in the file the line of that number begins, if none is missing."""
        n = 1 + seq - self.hello["next_seq"]
        if n < 1:
            raise IndexError(seq)
        return self.offsets[n]


def hello(recorder):
    """The first line of a recorded stream, or {}."""
    with open(recorder.file, "rb") as f:
        try:
            return json.loads(f.readline())
        except ValueError:
            return {}


def same_octets(recorder, stream):
    """What another subscriber of the same stream has after its hello: "", or how it differs."""
    first = hello(recorder)
    if first.get("event_type") != "hello":
        return f"its first line is {first}"
    try:
        at = stream.offset_of(first["next_seq"])
    except IndexError:
        return f"it begins at {first['next_seq']}, where the other stream has nothing"
    with open(recorder.file, "rb") as f, open(stream.file, "rb") as g:
        f.readline()
        g.seek(at)
        while at < stream.octets:
            want = g.read(min(1 << 20, stream.octets - at))
            got = f.read(len(want))
            if got != want:
                n = next((i for i, (a, b) in enumerate(zip(got, want)) if a != b), len(got))
                return (f"at octet {at + n} of the other: {got[max(0, n - 300):n + 300]!r}, "
                        f"not {want[max(0, n - 300):n + 300]!r}")
            at += len(want)
    return ""


def overlaps(life, windows):
    return any(life[0] <= w["to"] and w["from"] <= life[1] for w in windows)


def differences(left_alone, other, windows):
    """Connections that do not overlap a window of loss: (how many were compared, the first
    differences, how many there are)."""
    def show(lines):
        return [line.decode(errors="replace").strip() for line in lines] or ["nothing"]

    compared = differ = 0
    first = []
    for key in left_alone.tuples.keys() | other.tuples.keys():
        if any(overlaps(s.lives[key], windows) for s in (left_alone, other) if key in s.lives):
            continue
        compared += 1
        a, b = left_alone.tuples.get(key, []), other.tuples.get(key, [])
        if a == b:
            continue
        differ += 1
        if len(first) < 3:
            n = next((i for i, (x, y) in enumerate(zip(a, b)) if x != y), min(len(a), len(b)))
            first += [f"{key}: {len(a)} events, {len(b)} in {other.name}; number {n + 1}:",
                      *("  alone: " + t for t in show(a[n:n + 1])),
                      *(f"  {other.name}: " + t for t in show(b[n:n + 1]))]
    return compared, first, differ
