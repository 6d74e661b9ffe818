#!/usr/bin/python3
"""Drives every cell of the state table, and every edge of a window, through `synfind --read`.

cells.txt says which segment does what in which joint state; edges.txt the same for single numbers
around the edges of what is acceptable.  Each cell is a connection of its own: it is led into the
state, gets the one segment, and is led on to its end.  What is told from that segment on must be
what the tables say, event by event.  All connections go through in one capture, and again with
sequence numbers that wrap in the handshake and in the data.

    cells.py [WORD...]       TAP; only cells whose name contains one of the words ('OPEN A.rst')
    cells.py --show WORD...  the segments and the events of these cells

Timeouts: each state is left alone, and must be given up when and as cells.txt says.
"""
import collections
import os
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
ARGS = ["--anomalies-per-second=1000000", "--stats-interval=0", "--stuck-after=0"]
# ISNs of both ends, relative to which all else is told.
VARIANTS = {"plain": (1000, 5_000_000), "wrap in the data": (2**32 - 6, 2**32 - 11),
            "wrap in the handshake": (2**32 - 1, 2**32 - 2)}
ANOMALY = {"ba": "bad_ack", "au": "ack_unseen", "ow": "out_of_window", "si": "syn_in_established",
           "su": "syn_ack_unexpected", "rb": "rst_bad_ack", "rw": "rst_in_window",
           "ro": "rst_out_of_window", "fo": "fin_out_of_window", "fm": "fin_moved",
           "df": "data_after_fin", "bf": "bad_flags"}
# Flags, own number (n: behind the data; f: behind a FIN too; m: what is missing), ack (p: the peer's data; q: its FIN
# too, or an octet that was not sent; h: what came before its lost data; -: no ACK), octets.
CLASS = {"syn": ("SYN", "0", "-", 0), "syn2": ("SYN", "700000", "-", 0),
         "synack": ("SYN-ACK", "0", "1", 0),
         "ack": ("ACK", "f", "p", 0), "ackfin": ("ACK", "f", "q", 0),
         "data": ("DATA", "n", "p", 10), "data+": ("DATA", "n", "q", 10),
         "old": ("DATA", "o", "q", 10), "fill": ("DATA", "m", "h", 10), "fin": ("FIN", "n", "p", 0), "fin+": ("FIN", "n", "q", 0),
         "hfin": ("FIN", "n", "h", 0),
         "rst": ("RST", "f", "-", 0), "rsta": ("RST-ACK", "f", "p", 0),
         "rstw": ("RST", "w", "-", 0), "rsto": ("RST", "b", "-", 0),
         "synfin": ("SYN-FIN", "f", "-", 0), "none": ("NONE", "f", "-", 0)}
HANDSHAKE = ("NONE", "SYN", "CROSSED", "CROSSED-A", "CROSSED-B", "ANSWERED", "CLAIMED")
OVER = ("DONE-A", "DONE-B", "DONE-X", "RESET")
FIRST = {"FIN-A": "client", "HALF-A": "client", "LAST-A": "client",
         "FIN-B": "server", "HALF-B": "server", "LAST-B": "server",
         "BOTH": "both", "BOTH-A": "both", "BOTH-B": "both", "GAP-A": "both", "GAP-B": "both",
         "GAP-AB": "both", "WAIT-A": "both", "WAIT-B": "both"}
BOTH_FINS = [s for s in FIRST if not s.startswith(("FIN", "HALF"))]
# States in which data of a side is not acknowledged, so that an RST after both FINs takes it away.
UNACKED = {"A": ("GAP-A", "GAP-AB", "WAIT-B"), "B": ("GAP-B", "GAP-AB", "WAIT-A")}
TIMEOUTS = {"syn-sent": 20, "syn-received": 30, "established": 50, "closing": 40,
            "half-closed": 60, "time-wait": 25, "reset": 15}
STEP = 1_000_000  # ns between the segments of a connection, and between connections

State = collections.namedtuple("State", "client server next timeout reason zeek")
Cell = collections.namedtuple("Cell", "name start opts setup side segment outcome follow silent",
                              defaults=[False])


class Tables:
    """What cells.txt and edges.txt say."""

    def __init__(self):
        self.states, self.reach, self.cells = {}, {}, []
        columns, side = [], None
        for words in read("cells.txt"):
            if words[0] == "state":
                name, client, server, on, *rest = words[1:]
                self.states[name] = State(client, server, on, *rest)
            elif words[0] == "reach":
                self.reach[words[1]] = (words[1], words[2:])
            elif words[0] == "columns":
                columns = words[1:]
            elif words[0] == "from":
                side = words[1]
            else:
                if len(words) != len(columns) + 1:
                    raise SystemExit(f"cells.txt: {side} {words[0]}: {len(words) - 1} cells")
                for column, outcome in zip(columns, words[1:]):
                    if outcome != "~":
                        self._add(words[0], "", [], side, column, outcome)
        for words in read("edges.txt"):
            if words[0] == "reach":  # another way into a state, by a name of its own
                self.reach[words[1]] = (words[2], words[3:])
                continue
            start, setup, segment, outcome = [w.strip() for w in " ".join(words).split("|")][:4]
            start, _, opts = start.partition("/")
            side, text = segment.split(None, 1)
            self._add(start, opts, [s.split(None, 1) for s in setup.split(";") if s.strip()], side,
                      text, outcome)

    def _add(self, start, opts, setup, side, segment, outcome):
        outcome, _, stop = outcome.partition(" ")
        state = self.reach[start][0]
        silent = outcome.endswith("&")
        outcome = outcome.rstrip("&")
        after = outcome.rstrip("*")
        after = state if after == "." or after[0] in "!" else after
        ways = ["stop"] if stop else [""]
        if after in self.states and not stop and "," in self.states[after].next:
            ways = self.states[after].next.split(",")
        for n, way in enumerate(ways):
            what = [f"{s} {t};" for s, t in setup]
            name = " ".join([start + ("/" + opts if opts else ""), *what, f"{side}.{segment}"])
            self.cells.append(Cell(name + "'" * n, start, opts, setup, side, segment, outcome, way,
                                   silent))


def read(name):
    with open(os.path.join(HERE, name)) as f:
        for line in f:
            words = line.split("#", 1)[0].split()
            if words:
                yield words


class Talk:
    """Writes the script of one connection, and what it should make the daemon tell."""

    def __init__(self, tables, number, cell, isn, at):
        self.t, self.id, self.cell, self.at = tables, number, cell, at
        self.lines = [f"conn {number} C={self.address('A')} S={self.address('B')}"]
        for me, peer, n in (("C", "S", isn[0]), ("S", "C", isn[1])):  # sets the ISN, no more
            self.lines.append(f"@0 {me}{number} > {peer}{number} NONE seq=0 isn={n} lost")
        self.n = {"A": 1, "B": 1}  # behind the data, relative to the ISN
        self.hole = {"A": 1, "B": 1}  # behind the data before what was lost
        self.fin = {"A": 0, "B": 0}
        self.first = None  # time of the segment that matters
        self.state = self.came = None
        self.merged = False
        self.wants = []

    def address(self, side):
        net = 1 if side == "A" else 2
        return f"10.{net}.{self.id >> 8}.{self.id & 255}:{40000 if side == 'A' else 80}"

    def emit(self, side, words):
        """One line of the script, at the next moment; returns its time."""
        self.at += STEP
        me, peer = ("C", "S") if side == "A" else ("S", "C")
        words = list(words)
        if "wide" in self.cell.opts:
            words += ["win=262140"] if not any(w.startswith("win=") for w in words) else []
            words += ["wscale=2"] if words[0] in ("SYN", "SYN-ACK") else []
        if "uneven" in self.cell.opts:
            words += ["win=262140"] if side == "A" else []
            words += [f"wscale={2 if side == 'A' else 0}"] if words[0] in ("SYN", "SYN-ACK") else []
        if "ts" in self.cell.opts and words[0] in ("SYN", "SYN-ACK"):
            words.append("ts")
        self.lines.append(f"@{self.at // 10**9}.{self.at % 10**9:09d} {me}{self.id} > "
                          f"{peer}{self.id} " + " ".join(words))
        return self.at

    def words_of(self, side, segment):
        """A segment by the name of its column, or as it stands."""
        if segment not in CLASS:
            return segment.split()
        peer = "B" if side == "A" else "A"
        flags, seq, ack, length = CLASS[segment]
        own = {"n": self.n[side], "f": self.n[side] + self.fin[side], "o": self.n[side] - 10,
               "m": self.hole[side]}
        own |= {"w": own["f"] + 100, "b": own["f"] + 100_000}
        words = [flags, f"seq={own.get(seq, seq)}"]
        theirs = {"p": self.n[peer], "q": self.n[peer] + 1, "h": self.hole[peer]}
        if ack != "-":
            words.append(f"ack={theirs.get(ack, ack)}")
        return words + ([f"len={length}"] if length else [])

    def lead(self, start):
        """Into the state where the cell begins."""
        state, how = self.t.reach[start]
        if how:
            self.lead(how[0])
        for step in how[1:]:
            side, name = step.rstrip("?").split(".")
            flags, seq, _, length = CLASS[name]
            self.emit(side, self.words_of(side, name) + ["lost"] * step.endswith("?"))
            self.n[side] += length if seq == "n" else 0
            if length and not step.endswith("?"):
                self.hole[side] = self.n[side]
            self.fin[side] |= flags == "FIN"
        self.merge(self.state, state)
        self.state = state

    def merge(self, before, after):
        self.merged |= (before, after) in (("FIN-A", "LAST-A"), ("FIN-B", "LAST-B"))

    def compile(self):
        """The whole connection; returns itself."""
        c = self.cell
        self.lead(c.start)
        for side, text in c.setup:
            self.emit(side, text.split())
        self.came = self.state
        words = self.words_of(c.side, c.segment)
        # What is not taken is no part of the conversation: its numbers do not count.
        stray = (c.outcome[0] in "!>" and c.outcome != "!au" or self.state in OVER or
                 self.state == "NONE" and c.outcome == ".")
        self.first = self.emit(c.side, words + ["stray"] * stray)
        self.judge(c, words[0])
        if c.outcome[0] == ">":
            self.refuse(c, words)
        elif c.follow != "stop":
            self.go_on(c.follow)
        return self

    def judge(self, c, flags):
        """What the segment of the cell should do."""
        if c.outcome[0] == "!":
            self.want("tcp_anomaly", self.state, flags, kind=ANOMALY[c.outcome[1:]])
        elif c.outcome[0] == ">":
            if self.state not in OVER:
                self.want("tcp_close", self.state, flags, reason="reuse",
                          closed_by=FIRST.get(self.state, "none"),
                          teardown="none")
        elif c.outcome != ".":
            self.move(c.side, c.outcome, flags)

    def want(self, event_type, state, flags, **more):
        ends = self.t.states[state]
        self.wants.append({"event_type": event_type, "at": self.at, "client_state": ends.client,
                           "server_state": ends.server, "segment": segment_name(flags),
                           "label": 1, **more})

    def move(self, side, outcome, flags):
        before, after = self.state, outcome.rstrip("*")
        basis = "inferred" if outcome.endswith("*") else "observed"
        was, now = self.t.states[before], self.t.states[after]
        self.merge(before, after)
        self.state = after
        if before == "NONE":
            how = "port" if "SYN" not in flags else "syn_ack" if "ACK" in flags else "syn"
            return self.want("tcp_open", after, flags, basis=basis, midstream=how == "port",
                             direction_basis=how)
        if (was.client, was.server) == (now.client, now.server):
            return None
        more = {"basis": basis, "prev_client_state": was.client, "prev_server_state": was.server}
        if after in OVER:
            reset = after == "RESET" and (before not in BOTH_FINS or
                                          before in UNACKED["B" if side == "A" else "A"])
            reason = "fin" if not reset else "refused" if before == "SYN" and side == "B" else "rst"
            return self.want(
                "tcp_close", after, flags, **more, reason=reason,
                closed_by=("client" if side == "A" else "server") if reset else FIRST[before],
                teardown="reset" if reset else "simultaneous" if FIRST[before] == "both" else
                "three_segments" if self.merged else "four_segments")
        opened = before in HANDSHAKE and after not in HANDSHAKE
        return self.want("tcp_established" if opened else "tcp_state", after, flags, **more)

    def go_on(self, way):
        """To the end, all numbers right; where nothing is left to do, ACKs must do nothing."""
        while self.t.states[self.state].next != "-":
            way = way or self.t.states[self.state].next.split(",")[0]
            segment, after = way.split("=")
            side, name = segment.split(".")
            self.emit(side, [CLASS[name][0]])
            self.move(side, after, CLASS[name][0])
            way = ""
        # The peer first: it has an attempt of the other side to refuse, if there is one.
        for side in "BA" if self.cell.side == "A" else "AB":
            self.emit(side, ["ACK"])

    def refuse(self, c, words):
        """The new connection is told, and refused by the peer."""
        seq = next(int(w[4:]) for w in words if w.startswith("seq="))
        new = {"label": 2, "src_port": 40000 if c.side == "A" else 80, "basis": "observed"}
        self.want("tcp_open", "SYN", "SYN", **new, midstream=False, direction_basis="syn")
        self.emit("B" if c.side == "A" else "A", ["RST-ACK", "seq=0", f"ack={seq + 1}", "stray"])
        self.want("tcp_close", "RESET", "RST", **new, reason="refused", closed_by="server",
                  teardown="reset")

    # ---- what came

    def difference(self, got):
        """None, or the first difference as text."""
        ids = list(dict.fromkeys(e["flow_id"] for e in got))
        before = [e for e in got if events.time_ns(e["timestamp"]) < script.BASE_NS + self.first]
        rest = got[len(before):]
        ends = self.t.states[self.came]
        if self.came == "NONE":
            if before:
                return f"told before it began: {brief(before[0])}"
        elif not before or (before[-1]["tcp"]["client_state"],
                            before[-1]["tcp"]["server_state"]) != (ends.client, ends.server):
            return f"never came to {self.came}"
        if self.cell.follow == "stop":
            rest = [e for e in rest if e["tcp"].get("reason") != "capture_end"]
        for want, event in zip(self.wants, rest):
            for key, value in want.items():
                found = {**event, **event["tcp"], "label": ids.index(event["flow_id"]) + 1,
                         "at": events.time_ns(event["timestamp"]) - script.BASE_NS}.get(key)
                if found != value:
                    return f"{key} is {found}, not {value}: {brief(event)}"
        if len(rest) > len(self.wants):
            return f"not wanted: {brief(rest[len(self.wants)])}"
        return f"missing: {self.wants[len(rest)]}" if len(rest) < len(self.wants) else None


def segment_name(flags):
    has = {"DATA": {"ACK"}, "FIN": {"FIN", "ACK"}, "FIN-ONLY": {"FIN"}}.get(
        flags, set(flags.split("-")))
    for flag, name in (("RST", "rst"), ("SYN", "syn"), ("FIN", "fin")):
        if flag in has:
            return name + ("_ack" if flag != "RST" and "ACK" in has else "")
    return "ack"


def brief(event):
    tcp = event["tcp"]
    return " ".join([f"{event['timestamp'][17:]} {event['event_type']}"] + [
        f"{k}={tcp[k]}" for k in ("client_state", "server_state", "segment", "basis", "kind",
                                  "reason", "closed_by", "teardown", "conn_state") if k in tcp])


class Silence(Talk):
    """A connection that is left alone in a state, until its timeout; `late`: a straggler of a
    connection that is over comes just behind that, or just before."""

    def __init__(self, tables, number, state, isn, late=None):
        word = "" if late is None else " and an ACK just " + ("after" if late else "before")
        super().__init__(tables, number, Cell(f"{state} in silence{word}", state, "", [], "A", "ack",
                                              ".", "stop"), isn, 0)
        self.late = late

    def compile(self):
        name, rule = self.cell.start, self.t.states[self.cell.start]
        self.lead(name)
        self.came = name
        self.first = self.at + 1
        self.at += TIMEOUTS[rule.timeout] * 10**9
        if self.late is None:
            self.wants = [{"event_type": "tcp_close", "at": self.at, "client_state": rule.client,
                           "server_state": rule.server, "segment": "timeout", "basis": "timeout",
                           "reason": rule.reason, "closed_by": FIRST.get(name, "none"),
                           "teardown": "none"}]
            if rule.zeek != "-":
                self.wants[0]["conn_state"] = rule.zeek
            return self
        self.at += STEP if self.late else -2 * STEP
        self.emit("A", ["ACK"])
        if self.late:
            self.want("tcp_open", "OPEN", "ACK", midstream=True)
            self.at += TIMEOUTS["established"] * 10**9
            self.want("tcp_close", "OPEN", "ACK", reason="idle")
            self.wants[0]["label"] = self.wants[1]["label"] = 2
            self.wants[1]["segment"] = "timeout"
        return self


class Capture:
    """Connections in one pcap, and what must be told of them."""

    def __init__(self, talks, args):
        self.talks, self.args = [t.compile() for t in talks], ARGS + args
        self.pcap = tempfile.NamedTemporaryFile(prefix="synfind-", suffix=".pcap")
        self.again()

    def again(self):
        lines = "\n".join(line for t in self.talks for line in t.lines)
        frames = script.compile_script(lines)
        frames.sort(key=lambda f: f[0])
        script.write_pcap(frames, self.pcap.name)

    def run(self, synfind=SYNFIND):
        """The lines of the stream."""
        p = subprocess.run([synfind, "--read", self.pcap.name, *self.args], capture_output=True,
                           timeout=60)
        return p.stdout.splitlines() + ([b"exit status %d" % p.returncode] if p.returncode else [])

    def differences(self, stream):
        """(talk, its events, difference or None) of each connection."""
        by_pair = collections.defaultdict(list)
        for e in stream:
            if e["event_type"].startswith("tcp_"):
                by_pair[frozenset((e["src_ip"], e["dest_ip"]))].append(e)
        for t in self.talks:
            got = by_pair[frozenset(t.address(s).split(":")[0] for s in "AB")]
            yield t, got, t.difference(got)

    def uncounted(self, stream):
        """None, or what is wrong with the number of anomalies that were counted, not told."""
        silent = sum(t.cell.silent for t in self.talks)
        got = stream[-1]["decoders"][0]["anomalies_untold"]
        return None if got == silent else f"{got} anomalies counted in silence, not {silent}"


def captures(tables, names=()):
    """{what: Capture}: the cells and edges with each pair of ISNs, then the silence."""
    cells = [c for c in tables.cells if not names or any(n in c.name for n in names)]
    out = {}
    for variant, isn in VARIANTS.items():
        out[variant] = Capture([Talk(tables, i, c, isn, i * 20 * STEP) for i, c in enumerate(cells)],
                               [])
    talks = []
    for state, rule in tables.states.items():
        for late in (False, True) if state in OVER else (None,):
            if rule.timeout != "-" and (not names or any(n in state for n in names)):
                talks.append(Silence(tables, len(talks), state, VARIANTS["plain"], late))
    clock = Cell("time goes on", "SYN", "", [], "A", "syn", ".", "stop")
    talks.append(Talk(tables, len(talks), clock, VARIANTS["plain"], 100 * 10**9))
    out["silence"] = Capture(talks, [f"--timeout-{k}={v}s" for k, v in TIMEOUTS.items()])
    return out


def main():
    names = sys.argv[1:]
    show = names[:1] == ["--show"]
    for what, capture in captures(Tables(), names[show:]).items():
        stream, faults = events.check(capture.run())
        groups = collections.defaultdict(list)
        for talk, got, difference in capture.differences(stream):
            groups[talk.cell.start.split("/")[0], talk.cell.side].append((talk, difference))
            if show:
                print("#", what, talk.cell.name, "->", talk.cell.outcome, difference or "")
                print(*talk.lines, *map(brief, got), "", sep="\n")
        for (state, side), group in groups.items():
            bad = [(t, d) for t, d in group if d]
            tap.ok(not bad, f"{what}: {len(group)} of {side} at {state}",
                   [f"{t.cell.name} = {t.cell.outcome}: {d}" for t, d in bad])
        tap.ok(not faults, f"{what}: the stream keeps its promises", faults)
        tap.equal(capture.uncounted(stream), None, f"{what}: no anomaly goes by in silence")
    tap.done()


if __name__ == "__main__":
    main()
