#!/usr/bin/python3
"""200,000 generated connections through --read: the counts are the generator's truth, exactly."""
import json
import os
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../support"))
import events
import live
import tap

GEN = os.environ.get("GEN", os.path.join(live.ROOT, "build/tests/gen"))
CHURN = ("--seed 11 -n 200000 -w 20000 --segs 2 --payload 400 --request 200 -s 128 --ipv6 20 "
         "--refused 5 --unanswered 3 --aborted 7 --fin3 50").split()
LOADS = {"churn": CHURN, "reuse": CHURN + ["--reuse", "20"]}


def generate(options):
    """(path of a capture, what is in it)."""
    pcap, truth = (os.path.join(live.tmpdir(), f) for f in ("w.pcap", "truth"))
    subprocess.run([GEN, *options, "-o", pcap, "--truth", truth], check=True,
                   stderr=subprocess.DEVNULL)
    with open(truth) as f:
        return pcap, json.load(f)


def run(name, options):
    pcap, want = generate(options)
    checker = events.Checker()
    count, v6 = {}, 0
    p = subprocess.Popen([live.SYNFIND, "--read", pcap], stdout=subprocess.PIPE,
                         stderr=subprocess.PIPE)
    for line in p.stdout:
        e = checker.feed(line)
        if not e:
            continue
        kind = e["event_type"]
        if kind == "tcp_close":
            tcp = e["tcp"]
            kind = (tcp["reason"], tcp["teardown"], tcp["server_state"])
            v6 += e["ip_v"] == 6
        elif kind == "stats":
            decoder = e["decoders"][0]
        count[kind] = count.get(kind, 0) + 1
    err = p.stderr.read().decode(errors="replace")
    tap.equal(p.wait(), 0, f"{name}: status 0")
    checker.end()
    tap.ok(not checker.errors, f"{name}: {checker.lines} lines are right", checker.errors,
           err[-1000:])

    closes = {k: n for k, n in count.items() if isinstance(k, tuple)}

    def closed(reason, teardown=None, server=None):
        return sum(n for k, n in closes.items()
                   if k[0] == reason and teardown in (None, k[1]) and server in (None, k[2]))

    # An attempt that nobody answered may be told at the end of the file, before its timer, or
    # when its client begins anew.
    unanswered = sum(closed(r, server="listen") for r in ("unanswered", "capture_end", "reuse"))
    got = {
        "connections": count.get("tcp_open", 0),
        "ipv6_connections": v6,
        "established": count.get("tcp_established", 0),
        "closed_4seg": closed("fin", "four_segments"),
        "closed_3seg": closed("fin", "three_segments"),
        "aborted_rst": closed("rst"),
        "refused": closed("refused"),
        "unanswered": unanswered,
    }
    for what, n in got.items():
        tap.equal(n, want[what], f"{name}: {what}")
    if "--reuse" not in options:
        tap.equal(count.get("tcp_anomaly", 0), 0, f"{name}: no anomalies")
    tap.equal((decoder["verdicts"]["tcp"] + decoder["verdicts"]["tcp_cut"], decoder["lost"]),
              (want["frames"], 0), f"{name}: every frame is decoded, no event is lost")
    os.unlink(pcap)


def run_held(options):
    """Connections that stay open, with traffic among them: no end, no retransmission, no anomaly."""
    pcap, want = generate(options)
    checker = events.Checker()
    count, packets, payload, retransmitted = {}, 0, 0, 0
    out = subprocess.run([live.SYNFIND, "--read", pcap], stdout=subprocess.PIPE, check=True,
                         stderr=subprocess.DEVNULL).stdout
    for line in out.splitlines():
        e = checker.feed(line)
        if not e:
            continue
        kind = e["event_type"]
        if kind == "tcp_close":
            kind = e["tcp"]["reason"]
            flow = e["flow"]
            packets += flow["pkts_toserver"] + flow["pkts_toclient"]
            payload += flow["payload_toserver"] + flow["payload_toclient"]
            retransmitted += flow["retrans_toserver"] + flow["retrans_toclient"]
        count[kind] = count.get(kind, 0) + 1
    checker.end()
    tap.ok(not checker.errors, f"held open: {checker.lines} lines are right", checker.errors)
    tap.equal((count.get("tcp_established"), count.get("capture_end"), count.get("tcp_anomaly", 0)),
              (want["left_open"], want["left_open"], 0), "held open: all are open at the end")
    tap.equal((packets, payload, retransmitted), (want["frames"], 20000 * 100, 0),
              "held open: every segment is counted, though headers only were captured")


for name, options in LOADS.items():
    with live.guarded(name):
        run(name, options)
with live.guarded("held open"):
    run_held("--seed 5 -n 1000 -w 100 --hold --leave-open --segs 0 --headers --ipv6 20 "
             "--payload 100 --exchange 20000".split())
tap.done()
