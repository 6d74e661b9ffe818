#!/usr/bin/python3
"""Twenty subscribers do not read for five seconds, while traffic flows at top speed: they lose only by their
policy and are told exactly how many events and which, and nobody else loses one.

STALL=5 OTHERS=12: seconds, and subscribers that read all the time."""
import json
import os
import re
import sys
import time
import zlib

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../support"))
import fast
import live
import tap

STALL = float(os.environ.get("STALL", "5"))
OTHERS = int(os.environ.get("OTHERS", "12"))
STALLED = 20
CAPTURES, CONNECTIONS = 4, 60_000
PER_UID = 8  # expressions
POLICIES = ["drop_oldest", "drop_newest", "disconnect"]
CLOSES, CLOSE = ["tcp_close"], b'"event_type":"tcp_close",'
HEAD = re.compile(rb'.{46}"event_type":"(\w+)","seq":(\d+),')
NOT_EVENTS = (b"hello", b"lost", b"error", b"subscribed")  # they have no number of their own


# Requests, and the same of a line: most of the time of this test is Python's.
CHOICES = [
    ({}, lambda line: True),
    ({"events": CLOSES}, lambda line: CLOSE in line),
    ({"events": CLOSES, "where": "tcp.reason != 'fin'"},
     lambda line: CLOSE in line and b'"reason":"fin"' not in line),
    ({"where": "ip_v == 6"}, lambda line: b'"ip_v":6,' in line),
    ({"events": ["tcp_established", "tcp_state"]},
     lambda line: b'"event_type":"tcp_established",' in line or b'"event_type":"tcp_state",' in line),
]


def port_range(low):
    def holds(line):
        port = re.search(rb'"src_port":(\d+),', line)
        return port and low <= int(port[1]) < low + 300

    return {"where": f"src_port >= {low} && src_port < {low + 300}"}, holds


class Wanted:
    """What one request chooses of the observer's lines: numbers in order, a sum of each line."""

    def __init__(self, holds):
        self.holds, self.sums = holds, {}

    def missing(self, have, first, last):
        return [seq for seq in self.sums if first <= seq <= last and seq not in have]


def lines_of(data):
    """(type, seq, line) from the answer to the request on, if there is one."""
    lines = data.split(b"\n")
    begin = next((i for i, line in enumerate(lines) if b'"event_type":"subscribed"' in line[:80]), 0)
    for line in lines[begin:-1]:
        kind, seq = HEAD.match(line).groups()
        yield kind, int(seq), line


def judge(policy, wanted, data, since):
    """(faults, events lost, octets before the first loss) of a subscriber that did not read for a while."""
    got = list(lines_of(data))
    have = {seq: zlib.crc32(line) for kind, seq, line in got if kind not in NOT_EVENTS}
    told = [json.loads(line) for kind, _, line in got if kind == b"lost"]
    faults, covered = [], set()
    if list(have) != sorted(have):
        faults.append("not in order")
    faults += [f"line {seq} is not the observer's" for seq, s in have.items() if wanted.sums.get(seq) != s][:1]
    last = max(wanted.sums)
    if policy == "disconnect" and got[-1][0] == b"error":  # the rest, up to this event
        last = got[-1][1]
        number = int(re.search(rb"(\d+) events were lost", got[-1][2])[1])
        told.append({"count": number, "first_seq": since, "last_seq": last})
    for e in told:
        gone = wanted.missing(have, e["first_seq"], e["last_seq"])
        if len(gone) != e["count"]:
            faults.append(f"{e}: {len(gone)} are missing")
        if e["first_seq"] != since and gone and (gone[0], gone[-1]) != (e["first_seq"], e["last_seq"]):
            faults.append(f"{e}: {gone[0]} to {gone[-1]} are missing")
        covered.update(gone)
    unsaid = set(wanted.missing(have, since, last)) - covered
    if unsaid:
        faults.append(f"{len(unsaid)} missing ones were not reported, from {min(unsaid)} on")
    at_loss = next((i for i, (kind, _, _) in enumerate(got) if kind == b"lost"), len(got))
    return faults, len(covered), sum(len(line) + 1 for _, _, line in got[:at_loss])


def wait_for_quiet(readers):
    """Until nothing has come for a while."""
    seen = []

    def quiet():
        seen.append([r.octets(i) for r in readers for i in range(len(r.files))])
        time.sleep(0.1)
        return seen[-5:] == [seen[-1]] * 5

    live.wait_until(quiet, "all to have read")


class Run:
    """Traffic at a pace, seen by all of them."""

    def __init__(self, ns, captures, tmp, pace):
        self.daemon = live.Synfind(ns, "veth-b", ring_size="64M", queue_size="64M", event_ring_size="65536",
                                   max_subscribers_per_uid="200", socket_mode="0666")
        self.orders, self.chosen, self.by_request = [], [], {}
        for i in range(STALLED):
            policy = POLICIES[i % len(POLICIES)]
            self.add(policy, CHOICES[i // len(POLICIES) % len(CHOICES)], stall=int(STALL * 1000))
        others = CHOICES[1:] + [port_range(33000 + 300 * i) for i in range(OTHERS)]
        for i in range(OTHERS):
            self.add(None, others[i], user=1000 + i // PER_UID)
        self.readers = fast.Readers(self.daemon.path, self.orders, tmp)
        self.observer = fast.Readers(self.daemon.path, [(None, {})], tmp)
        self.observer.urgent()
        self.readers.urgent()
        self.traffic(ns, captures, pace)
        self.observe()
        self.wrong = list(self.others())

    def add(self, policy, choice, **options):
        request, holds = choice
        self.orders.append(({**request, "policy": policy} if policy else request, options))
        self.chosen.append((policy, self.by_request.setdefault(str(request), Wanted(holds))))

    def traffic(self, ns, captures, pace):
        before = [self.readers.octets(i) for i in range(STALLED)]
        self.readers.stall()
        sender = fast.Sender(ns, captures, *pace)
        live.wait_until(lambda: all(self.readers.octets(i) > before[i] for i in range(STALLED)),
                        "them to read again")
        time.sleep(1)
        sender.stop()
        tap.diag(f"{sender.sent / max(sender.seconds, 1e-9):.0f} frames/s; load {os.getloadavg()[0]:.1f}")
        wait_for_quiet([self.readers, self.observer])
        self.daemon.stop()  # with the last lines, each stream ends
        self.observed, self.ends = self.observer.wait(), self.readers.wait()

    def observe(self):
        self.events = self.lost = 0
        for kind, seq, line in lines_of(self.observer.data()):
            self.lost += kind == b"lost"
            if kind not in NOT_EVENTS:
                self.events += 1
                total = zlib.crc32(line)
                for wanted in self.by_request.values():
                    if wanted.holds(line):
                        wanted.sums[seq] = total

    def others(self):
        """Those that read all the time: who has not exactly its lines."""
        for i in range(STALLED, STALLED + OTHERS):
            got = [(seq, zlib.crc32(line)) for kind, seq, line in lines_of(self.readers.data(i))
                   if kind != b"subscribed"]
            want = self.chosen[i][1].sums
            if got != list(want.items()):
                yield self.orders[i][0], len(got), len(want)

    def stalled(self, policy):
        """What judge() says of each with the policy."""
        for i in range(STALLED):
            if self.chosen[i][0] == policy:
                faults, gone, octets = judge(policy, self.chosen[i][1], self.readers.data(i), 1)
                yield [(self.orders[i][0], f) for f in faults], gone, octets


def run():
    """At top speed; or, where the machine is too busy for those that read all the time, slower."""
    ns, tmp = live.Netns(), fast.memory_dir()
    fast.wire(ns)
    captures = [os.path.join(tmp, f"churn-{i}") for i in range(CAPTURES)]
    for i, capture in enumerate(captures):
        fast.generate(capture, f"--seed {i + 1} --headers -n {CONNECTIONS} -w 2000 --segs 2 --ipv6 20 --refused 5 "
                      "--unanswered 1 --aborted 7")
    for pace in (), ("-p", "120000"), ("-p", "60000"):
        r = Run(ns, captures, tmp, pace)
        if not r.lost and not r.wrong:
            break
        tap.diag("the observer, or another one, was too slow")
        r.observer.remove()
        r.readers.remove()
    return r


live.need("ip")
with live.guarded("stalled"):
    r = run()
    tap.ok(all(STALL * 1000 <= x["stalled_ms"] < STALL * 1000 + 2000 for x in r.ends[:STALLED]),
           f"{STALLED} did not read for {STALL:.0f} s", [x["stalled_ms"] for x in r.ends[:STALLED]])
    tap.ok(not r.lost and r.observed[0]["ended"] and r.events > 10_000, "the observer lost nothing", r.lost, r.events)
    tap.ok(not r.wrong, f"{OTHERS} others have each their lines, and lost nothing", r.wrong[:3])
    found = {policy: list(r.stalled(policy)) for policy in POLICIES}
    for policy in POLICIES:
        faults = [f for some, _, _ in found[policy] for f in some]
        tap.ok(not faults, f"{policy}: they know exactly how many events they lost, and which", faults[:3])
    losers = {policy: [gone for _, gone, _ in found[policy]] for policy in POLICIES}
    tap.diag(f"{r.events} events; lost: {losers}")
    tap.ok(all(sum(map(bool, gone)) > 1 for gone in losers.values()), "with each policy, several lost some", losers)
    # Requests come in the same order for each policy.
    pairs = [(new - old, lost) for (_, _, old), (_, lost, new) in zip(found["drop_oldest"], found["drop_newest"])
             if lost > 100]
    tap.ok(len(pairs) > 3 and all(16 << 10 < more <= 40 << 10 for more, _ in pairs),
           "drop_newest keeps 32 KiB of the oldest lines that drop_oldest does not", pairs)
tap.done()
