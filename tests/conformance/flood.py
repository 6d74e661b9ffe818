#!/usr/bin/python3
"""A server under a SYN flood has one series of events, and real connections in it lose nothing.

Each file is read twice, with small thresholds and with --syn-flood-half-open=0: of every
connection that went on beyond SYN and SYN-ACK the events must be the same in both, and the numbers
of the series must be those of the file."""
import json
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
FROM, LIMIT, RATE = 16, 100, 50  # held from, flood from, and attempts in a second
THRESHOLDS = [f"--syn-flood-half-open={LIMIT}", f"--syn-flood-rate={RATE}"]
OFF = ["--syn-flood-half-open=0"]
TCP_SYN = "SYN mss=1460 wscale=7 sack ts"


class Story:
    """Lines of a script, at times in any order."""

    def __init__(self):
        self.conns, self.lines, self.n = [], [], 0

    def attempt(self, at, *more, server="10.0.0.2:80", client=None, syn=TCP_SYN, **via):
        """A SYN, and what follows: (seconds after it, "C" or "S", words)."""
        self.n += 1
        n = self.n
        client = client or f"10.1.{n >> 8}.{n & 255}:{1024 + n % 60000}"
        extra = "".join(f" {k}={v}" for k, v in via.items())
        self.conns.append(f"conn {n} C={client} S={server}{extra}")
        self.say(n, at, "C", syn)
        for after, who, words in more:
            self.say(n, at + after, who, words)
        return n

    def say(self, n, at, who, words):
        peer = "S" if who == "C" else "C"
        self.lines.append((at, len(self.lines), f"{who}{n} > {peer}{n} {words}"))

    def real(self, at, rtt=0.02, **more):
        return self.attempt(at, (rtt / 2, "S", "SYN-ACK mss=1400 wscale=8 sack ts"), (rtt, "C", "ACK"),
                            (rtt + 0.001, "C", "DATA len=100"), (2 * rtt, "S", "DATA len=200"),
                            (2 * rtt + 0.01, "C", "FIN"), (3 * rtt, "S", "FIN"),
                            (3 * rtt + 0.01, "C", "ACK"), **more)

    def flood(self, at, n, rate, *more, **where):
        for i in range(n):
            self.attempt(at + i / rate, *more, **where)

    def tick(self, *times):
        """Segments of nobody, by which time goes on."""
        for at in times:
            self.attempt(at, server="10.9.9.9:9")

    def text(self):
        return "\n".join(self.conns + [f"@{at:.6f} {line}" for at, _, line in sorted(self.lines)])


def read(story, *args):
    with tempfile.TemporaryDirectory(prefix="synfind-") as tmp:
        pcap = os.path.join(tmp, "f.pcap")
        script.write_pcap(script.compile_script(story.text()), pcap)
        p = subprocess.run([SYNFIND, "--read", pcap, *args], capture_output=True, timeout=120)
    checker = events.Checker()
    lines = [checker.feed(line) for line in p.stdout.splitlines()]
    checker.end()
    if p.returncode or checker.errors:
        tap.ok(False, "the stream is right", checker.errors, p.stderr.decode()[-1000:])
    return [e for e in lines if e]


def series(lines):
    return [e["flood"] for e in lines if e["event_type"] == "syn_flood"]


def phases(lines):
    return " ".join(f["phase"] for f in series(lines))


def flows(lines):
    """The events of each connection, without numbers, in the order of time."""
    by_id = {}
    for e in lines:
        if e["event_type"].startswith("tcp_"):
            e = json.loads(json.dumps({k: v for k, v in e.items() if k != "seq"}))
            by_id.setdefault(e["flow_id"], []).append(json.dumps(e, sort_keys=True))
    return by_id


def went_on(by_id):
    return {k: v for k, v in by_id.items() if any('"tcp_established"' in e for e in v)}


def retries(by_id):
    return {e for v in by_id.values() for e in v if '"tcp_retry"' in e}


def stats(lines):
    return lines[-1]["decoders"][0]


def compare(what, story, args=()):
    """Both ways; what went on is the same.  Returns the lines with the flood."""
    on = read(story, *THRESHOLDS, *args)
    off = read(story, *OFF, *args)
    a, b = went_on(flows(on)), went_on(flows(off))
    tap.ok(retries(a) <= retries(b), f"{what}: a flood adds no retries",
           sorted(retries(a) - retries(b))[:3])
    if series(on):  # it suppresses some, as it does with the opens of those that do not go on
        a, b = ({k: [e for e in v if '"tcp_retry"' not in e] for k, v in x.items()} for x in (a, b))
    bad = [k for k in b if a.get(k) != b[k]]
    tap.ok(a == b and b, f"{what}: {len(b)} connections are told as without", *bad[:1],
           *(a.get(bad[0], ["(nothing)"]) if bad else []), *(b[bad[0]] if bad else []))
    tap.ok(not series(off), f"{what}: no series with it off")
    return on, off


def plain_flood():
    """1,000 SYNs in two seconds, then silence until they are forgotten."""
    s = Story()
    s.flood(0.0, 1000, 500)
    for i in range(20):
        s.real(0.3 + i * 0.05)
    s.real(20, rtt=0.5)
    s.real(77, rtt=0.5)  # few are left: nobody has to wait
    s.tick(*range(3, 110))
    lines, off = compare("lone SYNs", s)
    got = series(lines)
    tap.equal(phases(lines), " ".join(["begin"] + ["update"] * (len(got) - 2) + ["end"]),
              "a flood: it begins, goes on and ends")
    end = got[-1]
    opens = sum(e["event_type"] == "tcp_open" for e in off)
    told = sum(e["event_type"] == "tcp_open" for e in lines)
    tap.equal((end["attempts"] + FROM + 1, end["completed"]), (1000 + 21, 21), "a flood: counted")
    tap.ok(len(got) >= 7, "a flood: an update for each ten seconds", len(got))
    tap.equal(told + end["expired"], opens, "a flood: each SYN is told, or counted as expired")
    tap.ok(told <= FROM + 1 + 22 + 107, "a flood: no more than the first ones are told", told)
    first = next(e for e in lines if e["event_type"] == "syn_flood")
    tap.equal((first["dest_ip"], first["dest_port"], first["ip_v"], first["flood"]["answered"] > 0),
              ("10.0.0.2", 80, 4, True), "a flood: its server")
    tap.ok(first["flood"]["half_open"] > LIMIT and 400 <= first["flood"]["rate"] <= 600,
           "a flood: the first line has its rate, and how many wait", first)
    tap.equal((stats(lines)["syn_flood"]["untold"], stats(lines)["syn_flood"]["servers"]),
              (end["expired"], 0), "a flood: stats count what was not told")
    times = [events.time_ns(e["timestamp"]) for e in lines if e["event_type"] == "syn_flood"]
    tap.ok(all(b - a >= 10 * 10**9 for a, b in zip(times[:-1], times[1:-1])),
           "a flood: an update at most every 10 s", times)
    over = (times[-1] - script.BASE_NS) // 10**9
    tap.ok(80 <= over <= 90, "a flood: over ten seconds after its SYNs are forgotten", over)


def busy_server():
    """400 connections a second at 200 ms: 80 half-open at all times, and all of them complete."""
    s = Story()
    for i in range(2000):
        s.real(i / 800, rtt=0.2)
    lines, off = compare("busy server", s)
    tap.equal(phases(lines), "", "a busy server is under no flood")
    tap.ok(stats(lines)["syn_flood"]["held"] > 1000, "a busy server: attempts had to wait",
           stats(lines))
    tap.equal(flows(lines), flows(off), "a busy server: every line is the same but for its place")


def dead_server():
    """40 attempts a second, none answered: slower than a flood."""
    s = Story()
    s.flood(0, 400, 40)
    for i in range(60):
        s.real(i / 4, server="10.9.9.9:9")
    lines, off = read(s, *THRESHOLDS), read(s, *OFF)
    tap.equal(phases(lines), "", "a server that is down and asked slowly is under no flood")
    tap.equal(flows(lines), flows(off), "a dead server: every attempt is told, and its retries")
    opens = [e for e in lines if e["event_type"] == "tcp_open"]
    tap.ok(stats(lines)["syn_flood"]["held"] > 300, "a dead server: attempts waited", stats(lines))
    newest = late = 0
    for e in opens:
        at = events.time_ns(e["timestamp"])
        newest = max(newest, at)
        late = max(late, newest - at)
    tap.ok(10**9 < late < 3 * 10**9, "a dead server: an attempt waits for a second or two", late)


def outage():
    """500 clients a second that do not give up, at a server that is gone: no flood, with the defaults."""
    s, again = Story(), [(at, "C", f"{TCP_SYN} seq=0") for at in (1.02, 3.05, 7.1)]
    s.flood(0, 5000, 500, *again)
    lines = read(s)
    tap.equal(phases(lines), "", "an outage is no flood")
    told = [(e["tcp"]["count"], e["tcp"]["waited_ns"]) for e in lines if e["event_type"] == "tcp_retry"]
    tap.equal({k: told.count(k) for k in told},
              {(1, 1_020_000_000): 5000, (2, 3_050_000_000): 5000, (3, 7_100_000_000): 5000},
              "an outage: each retry of each attempt is told")
    place = {e["flow_id"]: i for i, e in enumerate(lines) if e["event_type"] == "tcp_open"}
    tap.ok(all(i > place[e["flow_id"]] for i, e in enumerate(lines) if e["event_type"] == "tcp_retry"),
           "an outage: behind their tcp_open")


def slow_clients():
    """Attempts that waited, were told since there is no flood, and go on only then."""
    s = Story()
    s.flood(0, 60, 20)
    for syn in ("SYN mss=1460 sack", TCP_SYN, "SYN mss=1300"):
        s.attempt(1, (0.01, "S", "SYN-ACK mss=1400 wscale=8 sack ts"), (4, "C", "ACK"),
                  (4.1, "C", "DATA len=5"), (4.2, "C", "FIN"), syn=syn)
        s.attempt(1, (1.2, "C", syn), (4, "S", "SYN-ACK mss=1400"), (4.1, "C", "ACK"), syn=syn)
    s.tick(4, 6)
    lines, off = compare("slow clients", s)
    tap.equal((phases(lines), flows(lines)), ("", flows(off)), "slow clients: all is told as without")
    tap.ok(stats(lines)["syn_flood"]["held"] > 40, "slow clients: they had to wait", stats(lines))


def slow_server():
    """150 attempts a second, none answered, where 200 are allowed; and 100, where 300 may wait."""
    for rate, args in ((150, ["--syn-flood-half-open=100", "--syn-flood-rate=200"]),
                       (100, ["--syn-flood-half-open=300", "--syn-flood-rate=50"])):
        s = Story()
        s.flood(0, 5 * rate, rate)
        s.tick(6, 7, 8)
        lines = read(s, *args)
        tap.equal((phases(lines), stats(lines)["syn_flood"]["untold"]), ("", 0),
                  f"{rate} attempts a second: either condition alone makes no flood")


def refused_slowly():
    """A flood, a pause, then attempts that are refused: these keep it going, though few wait."""
    s = Story()
    s.flood(0, 1000, 500)
    s.tick(*(i + 0.5 for i in range(2, 60)))
    s.flood(8, 1700, 100, (0.3, "S", "RST-ACK"))
    lines = read(s, *THRESHOLDS, "--timeout-syn-sent=2s")
    ends = [e for e in lines if e["event_type"] == "syn_flood" and e["flood"]["phase"] == "end"]
    over = [(events.time_ns(e["timestamp"]) - script.BASE_NS) // 10**9 for e in ends]
    tap.ok(len(ends) == 1 and 34 <= over[0] <= 40, "a flood of few that wait goes on", over)
    tap.ok(ends[0]["flood"]["refused"] > 1600, "and is counted", ends[0])


def how_it_ends():
    """In a flood: refused by RST of either end, given up for another SYN, evicted, unreachable."""
    s = Story()
    s.flood(0, 300, 200)
    s.tick(1.6, 2.7)
    s.flood(3, 11, 100, (0.01, "S", "RST-ACK"))
    s.flood(3.2, 7, 100, (0.01, "S", "SYN-ACK mss=1400"), (0.02, "C", "RST seq=nxt"))
    s.flood(3.4, 5, 100, (0.1, "C", "SYN isn=77000"))
    s.flood(3.7, 3, 100, (0.01, "S", "ICMP"))
    s.real(4)
    lines = read(s, *THRESHOLDS, "--icmp")
    end = series(lines)[-1]
    tap.equal(phases(lines), "begin end", "ends of attempts: one series")
    tap.equal((end["refused"], end["replaced"], end["completed"]), (11 + 7 + 3, 5, 1),
              "refused, reset by who did not ask, unreachable, replaced")
    tap.equal(end["attempts"] + FROM + 1, 300 + 11 + 7 + 2 * 5 + 3 + 1, "ends of attempts: all")
    tap.equal(end["expired"] + end["evicted"], 0, "ends of attempts: no other ends")
    tap.equal(end["answered"], 7 + 1, "SYN-ACKs are counted")
    lone = sum(e["event_type"] == "tcp_open" and e["dest_port"] == 80 for e in lines)
    tap.equal(lone, FROM + 1 + 1, "ends of attempts: none of them is told")
    small = read(s, *THRESHOLDS, "--max-half-open=256")
    end = series(small)[-1]
    tap.ok(end["evicted"] > 0 and end["half_open"] <= 256,
           "a full table: evictions are counted, not told", end)
    tap.equal(sum(e["event_type"] == "tcp_close" and e["tcp"]["reason"] == "evicted" for e in small),
              FROM + 1, "a full table: but of those that were told")


def late_answers():
    """SYN-ACKs to attempts that a full table gave up begin nothing; one went on after all.  A server
    of which attempts wait, but under no flood, answers a SYN that was not seen."""
    s = Story()
    answer = "SYN-ACK mss=1400"
    s.flood(0, 20, 300)
    for i in range(40):
        s.attempt(0.1 + i / 300, (2.5, "S", answer), *[(2.6, "C", "DATA len=9")][:i == 7])
    s.flood(0.3, 600, 300)
    s.flood(2.4, 30, 100, server="10.0.0.3:80")
    s.attempt(2.6, (0.1, "S", answer), server="10.0.0.3:80", syn=TCP_SYN + " lost")
    s.tick(4)
    lines = read(s, *THRESHOLDS, "--max-half-open=256")
    tap.equal((phases(lines), series(lines)[-1]["late"]), ("begin end", 40), "late answers are counted")
    opens = [(e["dest_ip"], e["tcp"]["direction_basis"]) for e in lines
             if e["event_type"] == "tcp_open" and e["tcp"]["direction_basis"] != "syn"]
    tap.equal(opens, [("10.0.0.3", "syn_ack"), ("10.0.0.2", "port")],
              "they begin nothing; data does, and the answer of a server under no flood")


def real_ones():
    """Whatever a client does beyond a SYN, its story is told as if there were no flood."""
    s = Story()
    s.flood(0, 2000, 400)
    synack = (0.01, "S", "SYN-ACK mss=1400 wscale=8 sack ts")
    same = (0.01, "S", "SYN-ACK mss=1460")
    fin = [(0.3, "C", "FIN"), (0.31, "S", "FIN"), (0.32, "C", "ACK")]
    for at in (0.2, 1.5, 3.0):  # before it is known, and in the flood
        s.attempt(at, same, (0.02, "C", "ACK"), *fin, syn="SYN mss=1460")
        s.attempt(at, same, (0.02, "C", "ACK"), *fin, syn="SYN mss=1400")
        s.attempt(at, same, (0.02, "C", "ACK"), *fin, syn="SYN")  # no options at all
        s.attempt(at, same, (0.02, "C", "ACK"), *fin, syn="SYN-ECE-CWR mss=900 sack mptcp")
        s.attempt(at, synack, (0.02, "C", "DATA len=50"), *fin)  # its ACK was lost
        s.attempt(at, (0.2, "C", TCP_SYN), (0.25, "S", "SYN-ACK mss=1460"), (0.26, "C", "ACK"),
                  (0.3, "C", "FIN"))  # a SYN that was lost
        s.attempt(at, synack, (0.1, "S", "SYN-ACK mss=1400 wscale=8 sack ts"), (0.12, "C", "ACK"))
        s.attempt(at, (0.01, "S", "SYN-ACK lost"), (0.02, "C", "ACK"), (0.03, "S", "DATA len=5"))
        s.attempt(at, (0.01, "S", "SYN-ACK lost"), (0.02, "S", "ACK"), (0.03, "C", "ACK"),
                  (0.04, "C", "DATA len=5"))
        s.attempt(at, synack, (0.02, "C", "FIN"), (0.03, "S", "ACK"))
        s.attempt(at, synack, (0.02, "C", "ACK"), (0.1, "C", "RST"))
        s.attempt(at, (0.01, "S", "SYN mss=1000"), (0.02, "C", "SYN-ACK"), (0.02, "S", "SYN-ACK"))
        s.attempt(at, (0.01, "S", "SYN-ACK len=20"), (0.02, "C", "ACK"))
    on, _ = compare("odd handshakes", s)
    seen = {e["tcp"]["options"].get("mss") for e in on if e["event_type"] == "tcp_open"}
    tap.equal(seen, {None, 900, 1460, 1400}, "odd handshakes: every mss")


def servers_apart():
    """Address, port, address family, interface of the tunnel: each server its own series."""
    s = Story()
    where = [{"server": "10.0.0.2:80"}, {"server": "10.0.0.2:81"}, {"server": "10.0.0.3:80"},
             {"server": "10.0.0.2:80", "via": "vxlan:7"}]
    for w in where:
        s.flood(0, 400, 200, **w)
    n6 = 400
    for i in range(n6):
        s.attempt(i / 200, server="[fd00::2]:80", client=f"[fd00::1:{i:x}]:{2000 + i}")
    s.flood(0, 20, 10, server="10.0.0.4:80")
    s.tick(3, 4)
    lines = read(s, *THRESHOLDS, "--decap")
    ends = {(e["dest_ip"], e["dest_port"], "tunnel" in e): e["flood"]["attempts"]
            for e in lines if e["event_type"] == "syn_flood" and e["flood"]["phase"] == "end"}
    tap.equal(ends, {("10.0.0.2", 80, False): 400 - FROM - 1, ("10.0.0.2", 81, False): 400 - FROM - 1,
                     ("10.0.0.3", 80, False): 400 - FROM - 1, ("10.0.0.2", 80, True): 400 - FROM - 1,
                     ("fd00::2", 80, False): n6 - FROM - 1}, "a series for each server")
    ids = {e["flood"]["id"] for e in lines if e["event_type"] == "syn_flood"}
    tap.equal(len(ids), 5, "each has an id of its own")


def two_floods():
    """Half an hour apart: two series, and between them all is told as ever."""
    s = Story()
    s.flood(0, 500, 250)
    s.tick(*range(3, 100))
    s.attempt(200)
    s.flood(1800, 600, 250)
    lines = read(s, *THRESHOLDS)
    got = series(lines)
    tap.equal([f["phase"] for f in got if f["phase"] != "update"], ["begin", "end", "begin", "end"],
              "two floods: two series")
    ends = [f["attempts"] for f in got if f["phase"] == "end"]
    tap.equal(ends, [500 - FROM - 1, 600 - FROM - 1], "two floods: each counts its own")
    tap.ok(len({f["id"] for f in got}) == 2, "two floods: two ids")


def repeated():
    """The same file gives the same lines each time."""
    s = Story()
    s.flood(0, 3000, 1000)
    for i in range(50):
        s.real(0.5 + i * 0.03)
    tap.ok(read(s, *THRESHOLDS) == read(s, *THRESHOLDS), "the same each time")


def control_mode():
    """Whose handshake's ACK nobody is shown is told when it is answered."""
    s = Story()
    s.flood(0, 1000, 500)
    for i in range(20):
        s.real(0.3 + i * 0.05)
    compare("control mode", s, ["--mode=control"])
    lines = read(s, *THRESHOLDS, "--mode=control")
    end = series(lines)[-1]
    tap.equal((phases(lines), end["completed"]), ("begin end", end["answered"]),
              "control mode: a flood of lone SYNs has its series")


for story in (plain_flood, busy_server, dead_server, outage, slow_clients, slow_server, refused_slowly,
              how_it_ends, late_answers, real_ones, servers_apart, two_floods,
              repeated, control_mode):
    story()
tap.done()
