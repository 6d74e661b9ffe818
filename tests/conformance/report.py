#!/usr/bin/python3
"""synfinctl report: the page of a small capture (report.txt); its numbers against a second count in
Python; connections, frames and octets against tshark; many peers; hostile lines.

    UPDATE=1 report.py     writes report.txt anew: read the difference"""
import collections
import gzip
import json
import os
import random
import re
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
sys.path.insert(0, os.path.join(ROOT, "tests/support"))
import conv
import events
import script
import tap

GEN = os.environ.get("GEN", os.path.join(ROOT, "build/tests/gen"))
GOLDEN = os.path.join(HERE, "report.txt")
LATE = """+0.000  C > S  SYN mss=1460
+0.010  S > C  SYN-ACK mss=1460
+0.010  C > S  ACK
+0.100  C > S  DATA len=100
+0.010  C > S  RST-ACK
+0.010  S > C  DATA len=1000
+0.010  C > S  RST seq=101
+0.010  S > C  DATA len=1000
+0.010  C > S  RST seq=101
"""
FAILED = ("refused", "unreachable", "unanswered", "half_open", "rst")
CONTROLS = re.compile(b"[\x00-\x08\x0b-\x1f\x7f]|\xc2[\x80-\x9f]")
NIGHT = """conn C=10.0.0.1:40000 S=10.0.0.2:443
conn 2 C=10.0.0.1:40002 S=10.0.0.2:9999
conn 3 C=10.0.0.7:40003 S=10.0.0.3:80
conn 4 C=[2001:db8::7]:40004 S=[2001:db8::3]:80
conn 5 C=10.0.0.7:40005 S=10.0.0.2:443
conn 6 C=10.0.0.8:40006 S=10.0.0.2:443
conn 7 C=10.0.0.8:40007 S=10.0.0.4:5432
conn 8 C=10.0.0.8:40008 S=10.0.0.5:22
conn 9 C=10.0.0.9:40009 S=10.0.0.4:5432
conn 10 C=10.0.0.9:40010 S=10.0.0.3:80
+0.000  C > S  SYN mss=1460
+0.010  S > C  SYN-ACK mss=1460
+0.002  C > S  ACK
+0.010  C > S  DATA len=300
+0.200  C > S  DATA seq=nxt-300 len=300
+0.010  S > C  DATA len=1400
+0.010  C > S  ACK
+1.000  C > S  FIN
+0.010  S > C  FIN
+0.010  C > S  ACK
+0.100  C2 > S2  SYN mss=1460
+0.000050  S2 > C2  RST-ACK
+0.500  C2 > S2  SYN isn=7777 mss=1460
+0.000030  S2 > C2  RST-ACK
+0.100  C3 > S3  SYN mss=1460
+1.000  C3 > S3  SYN mss=1460
+2.000  C3 > S3  SYN mss=1460
+0.100  C4 > S4  SYN mss=1460
+0.010  S4 > C4  SYN-ACK mss=1460
+1.000  S4 > C4  SYN-ACK mss=1460
+0.100  C5 > S5  SYN mss=1460
+1.000  C5 > S5  SYN mss=1460
+0.020  S5 > C5  SYN-ACK mss=1460
+0.001  C5 > S5  ACK
+0.010  C5 > S5  DATA len=100 badsum
+0.010  S5 > C5  RST-ACK
+0.100  C6 > S6  SYN mss=1460
+0.010  S6 > C6  SYN-ACK mss=1460
+0.001  C6 > S6  ACK
+0.010  C6 > S6  DATA len=100
+0.010  S6 > C6  DATA len=1000
+0.010  C6 > S6  RST-ACK
+0.100  C7 > S7  DATA len=100
+0.010  S7 > C7  DATA len=100
+0.010  C7 > S7  DATA len=1000 lost
+0.010  C7 > S7  DATA len=100
+0.010  S7 > C7  ACK
+0.100  C8 > S8  SYN mss=1460
+0.010  S8 > C8  SYN-ACK mss=1460
+0.002  C8 > S8  ACK
+0.100  C8 > S8  FIN
+0.010  S8 > C8  ACK
+80.00  C9 > S9  SYN mss=1460
+0.010  S9 > C9  SYN-ACK mss=1460
+0.003  C9 > S9  ACK
+5.000  C10 > S10  SYN mss=1460
+2.000  C9 > S9  DATA len=10
"""


def night(tmp):
    path = os.path.join(tmp, "night.pcap")
    script.write_pcap(script.compile_script(NIGHT), path)
    # Without the folder's name, which is another one each time.
    p = conv.report("--time=utc", "night.pcap", cwd=tmp)
    got = p.stdout.decode()
    if os.environ.get("UPDATE"):
        with open(GOLDEN, "w") as f:
            f.write(got)
    with open(GOLDEN) as f:
        want = f.read()
    tap.ok(got == want and (p.returncode, p.stderr) == (0, b""), "the page of a night is report.txt",
           p.stderr.decode(), *(f"got  {line}" for line in got.splitlines()))
    with open(path, "rb") as f, gzip.open(path + ".gz", "wb") as g:
        g.write(f.read())
    lines = os.path.join(tmp, "night.json")
    with open(lines, "wb") as f:
        f.write(read(path))
    pages = [json.loads(conv.report("--json", x).stdout) for x in (path, path + ".gz", lines)]
    for x in pages:
        x.pop("files")
        del x["missed"]["stats"]["in_iface"], x["missed"]["stats"]["events"]
        for e in (e for v in x.values() if isinstance(v, list) for e in v):
            for k in ("in_iface", "community_id", "seq"):
                e.pop(k, None)
    tap.ok(pages[0] == pages[1] == pages[2], "packed, or as saved lines, it is the same", *pages)
    with open(path, "rb") as f:
        p = conv.report("-", stdin=f)
    tap.ok(p.stdout.decode().split("\n")[1:3] == want.split("\n")[1:3], "so from standard input", p)
    rows = conv.report("--connections", "--port=443", path).stdout.decode().splitlines()
    tap.equal(len(rows), 1 + 3, "--connections --port: a head, and a row for each of them")
    p = conv.report("--port=1", path)
    tap.equal((p.returncode, p.stdout.count(b"CONNECTIONS             0")), (1, 1), "nothing found is 1")
    with open(path, "rb") as f, open(path + ".cut", "wb") as g:
        g.write(f.read()[:-7])
    p = conv.report(path + ".cut")
    tap.ok(p.returncode == 4 and b"truncated" in p.stderr and b"CONNECTIONS            11" in p.stdout,
           "a broken file is 4, and what could be read is reported", p)
    tap.equal((conv.report("--fields=seq", path).returncode, conv.report("--top=0", path).returncode,
               conv.report(path + ".no").returncode), (2, 2, 4), "wrong usage is 2, a missing file 4")


def read(path, *args):
    return subprocess.run([conv.SYNFIND, "--read", path, *args], stdout=subprocess.PIPE,
                          stderr=subprocess.DEVNULL, check=True, timeout=120).stdout


def generate(tmp, name, options):
    path = os.path.join(tmp, name + ".pcap")
    subprocess.run([GEN, *options.split(), "-o", path], check=True, stderr=subprocess.DEVNULL)
    return path


def rank(values, permille):
    values = sorted(values)
    return values[max(0, -(-len(values) * permille // 1000) - 1)]


def second_count(path):
    """What the page must say, from the lines and in another way."""
    stream = [json.loads(line) for line in read(path).splitlines()]
    closes = [e for e in stream if e["event_type"] == "tcp_close"]
    shakes = [e["tcp"]["handshake"] for e in stream if e["event_type"] == "tcp_established"]
    server, reasons, yet = collections.Counter(), collections.Counter(), 0
    for e in closes:
        reasons[e["tcp"]["reason"]] += 1
        waits = e["tcp"].get("outstanding") in ("syn", "syn_ack") and \
            events.time_ns(e["timestamp"]) - events.time_ns(e["flow"]["start"]) >= 10**9
        yet += waits
        if waits or e["tcp"]["reason"] in FAILED:
            ip = e["dest_ip"]
            server[f"[{ip}]:{e['dest_port']}" if ":" in ip else f"{ip}:{e['dest_port']}"] += 1
    return closes, shakes, server, reasons, yet


def numbers(path, what):
    j = json.loads(conv.report("--json", "--top=1000", path).stdout)
    closes, shakes, server, reasons, yet = second_count(path)
    c = j["connections"]
    tap.equal((c["total"], {k: v["connections"] for k, v in c["by_reason"].items()}, c["unanswered_yet"]),
              (len(closes), dict(reasons), yet), f"{what}: connections by outcome")
    tap.equal(({s["name"]: s["failed"] for s in j["worst_servers"] if s["failed"]}, c["failed"]),
              (dict(server), server.total()), f"{what}: failures of each server")
    tap.equal([j[k] for k in ("frames_toserver", "bytes_toclient", "retrans_toserver")],
              [sum(e["flow"][k] for e in closes) for k in ("pkts_toserver", "bytes_toclient",
                                                          "retrans_toserver")], f"{what}: sums")
    wrong = []
    for k in ("total_ns", "server_rtt_ns", "client_rtt_ns"):
        values = [h[k] for h in shakes if k in h]
        got, want = j["handshakes"][k], {"n": len(values), "max": max(values)}
        want.update((f"p{p // 10}", rank(values, p)) for p in (500, 900, 990))
        wrong += [(k, x, got[x], want[x]) for x in want if abs(got[x] - want[x]) > want[x] / 100]
    tap.ok(not wrong and j["handshakes"]["total_ns"]["n"] > 50, f"{what}: quantiles, to 1 %", wrong)
    slowest = [e["tcp"]["handshake"]["total_ns"] for e in j["slowest"]]
    tap.equal(slowest, sorted((h["total_ns"] for h in shakes if "total_ns" in h), reverse=True)[:1000],
              f"{what}: the slowest handshakes")


def compare(path, what, late=None):
    """@late: what tshark has and we have not, as text, where the two differ by rule."""
    streams = conv.frames(path)
    ours, theirs = conv.ours_json(path), conv.exact(streams)
    diff = conv.difference(ours, theirs)
    tap.ok(ours and (diff == [] if late is None else diff == late),
           f"{what}: {len(ours)} connections and {sum(map(len, streams.values()))} frames, as tshark's",
           diff)
    tap.ok(sorted(ours) == sorted(conv.ours_table(path)) and
           (late is not None or sorted(conv.as_table(ours)) == sorted(conv.table(path))),
           f"{what}: so in both tables", conv.difference(conv.as_table(ours), conv.table(path)))


LOADS = {
    "churn": "--seed 31 -n 400 -w 50 --segs 4 --ipv6 30 --refused 10 --unanswered 8 --aborted 10 --pps 200",
    "bulk": "--seed 32 -n 60 -w 10 --segs 80 --payload 1400 --upload 50 --nano",
    "reuse": "--seed 33 -n 400 -w 10 --segs 2 --reuse 40 --aborted 20 --refused 10",
    "held": "--seed 34 -n 200 -w 50 --hold --leave-open --exchange 600 --headers",
    "flood": "--seed 35 -n 50 -w 50 --flood 20000",
}
# docs/differential.md, rst_not_taken.
FORGED = ["ours 192.168.59.131:443 1 74, 192.168.59.135:8080 0 0",
          "ours 192.168.59.131:443 2 108, 192.168.59.135:8080 1 58",
          "tshark 192.168.59.131:443 3 182, 192.168.59.135:8080 1 58"]
# tshark puts fragments together, and takes the last one for the segment.
FRAGMENTS = ["ours 10.0.0.1:40000 5 350, 10.0.0.2:80 3 166",
             "tshark 10.0.0.1:40000 5 378, 10.0.0.2:80 3 166"]


def tshark(tmp):
    if conv.missing():
        tap.skip("as tshark -z conv,tcp counts", "missing: " + conv.missing())
        return
    late = {"forged-handshake": FORGED, "fragment-first": FRAGMENTS}
    for name in sorted(os.listdir(HERE)):
        path = os.path.join(HERE, name, "capture.pcap")
        if os.path.exists(path):
            compare(path, name, late.get(name))
    for name, options in LOADS.items():
        compare(generate(tmp, name, options), name)
    compare(os.path.join(tmp, "night.pcap"), "night")
    late_segments(tmp)


def late_segments(tmp):
    path = os.path.join(tmp, "late.pcap")
    script.write_pcap(script.compile_script(LATE), path)
    streams = conv.frames(path)
    kept, late = conv.until_close(streams, path)
    tap.equal((conv.difference(conv.ours_json(path), conv.exact(kept)), late), ([], 4),
              "what comes after the end of a connection is all that tshark has besides")
    p = conv.report("--connections", path)
    tap.ok(b": 4 segments in no row" in p.stderr and
           json.loads(conv.report("--json", path).stdout)["missed"]["unassigned_segments"] == 4,
           "and is counted", p)


def closed(i, reason, server, retrans=0):
    return json.dumps({"timestamp": "2026-01-01T00:00:00.000000000Z", "event_type": "tcp_close", "seq": i,
                       "flow_id": f"{i:016x}", "in_iface": "x", "ip_v": 4, "src_ip": "10.0.0.1",
                       "src_port": 1, "dest_ip": server, "dest_port": 80, "proto": "TCP",
                       "tcp": {"reason": reason, "closed_by": "server", "midstream": False},
                       "flow": {"start": "2026-01-01T00:00:00.000000000Z",
                                "end": "2026-01-01T00:00:00.000000000Z", "age_ns": 0, "pkts_toserver": 1,
                                "retrans_toclient": retrans}}, separators=(",", ":")) + "\n"


def many(tmp):
    """30,000 servers with a failure each; one with many, from the first line to the last."""
    path = os.path.join(tmp, "many.json")
    with open(path, "w") as f:
        for i in range(30000):
            f.write(closed(i, "refused", f"10.{1 + i // 65536}.{i // 256 % 256}.{i % 256}"))
            if i % 300 == 0:
                f.write(closed(i, "rst", "10.200.0.1"))
                f.write(closed(i, "fin", "10.200.0.2", retrans=2))
    j = json.loads(conv.report("--json", path).stdout)
    first, other = j["worst_servers"][0], j["other_servers"]
    tap.ok(first["name"] == "10.200.0.1:80" and first["failed"] == 100 and
           j["retrans_servers"][0]["name"] == "10.200.0.2:80" and
           j["retrans_servers"][0]["retrans_toclient"] == 200,
           "of 30,000 servers, the worst ones keep their rows and counts", j["worst_servers"], other)
    tap.ok(other["failed"] == other["connections"] > 19000 and j["connections"]["failed"] == 30100,
           "the others are added up", other, j["connections"])
    text = conv.report(path).stdout.decode()
    tap.ok(re.search(r"\n  other +[\d,]+ +[\d,]+ +100\.0 %  REFUSED [\d,]+\n  There are more than 10,000",
                     text), "and the page says so", text)


def hostile(tmp):
    seed = int(os.environ.get("SEED", "1"))
    rng = random.Random(seed)
    print(f"# seed {seed}")
    lines = read(os.path.join(tmp, "night.pcap")).splitlines()
    spoilt = []
    for _ in range(6000):
        line = bytearray(rng.choice(lines))
        for _ in range(rng.randrange(1, 12)):
            at = rng.randrange(1, max(2, len(line)))
            what = rng.randrange(4)
            if what == 0:
                line[at:at + 1] = rng.choice((b"\x1b", b"\0", b"\x07", b"\x9b", b"\xff", b'"', b"\\", b"{", b"}",
                                              b"[", b"]", b",", b":", b"9", b"-"))
            elif what == 1:
                del line[at:at + rng.randrange(20)]
            elif what == 2:
                line[at:at] = rng.choice((b"\x1b[2J", b"\xc2\x9b31m", b"99999999999999999999", b"[" * 40,
                                          b'","tcp":{"reason":"\x1b]0;x\x07"}', b"\xe2\x80\xae"))
            else:
                line = line[:at + 1]
        spoilt.append(bytes(line).replace(b"\n", b" "))
    path = os.path.join(tmp, "spoilt.json")
    with open(path, "wb") as f:
        f.write(b"\n".join([lines[0], *spoilt, b'{"a":' + b"x" * (3 << 20), b"{"]))
    for args in ([], ["--connections"], ["--json"], ["--top=1000"], ["--connections", "--fields=src_ip"]):
        p = conv.report(*args, path)
        tap.ok(p.returncode == 0 and not CONTROLS.search(p.stdout.replace(b"\n", b"").replace(b"\t", b"")) and
               len(p.stdout) > 500 and not CONTROLS.search(p.stderr.replace(b"\n", b"")),
               f"spoilt lines, {' '.join(args) or 'page'}: no control character leaves", p.returncode,
               CONTROLS.search(p.stdout.replace(b"\n", b"")), p.stderr[:300])
    tap.ok(json.loads(conv.report("--json", path).stdout), "and the object is JSON")


def main():
    with tempfile.TemporaryDirectory(prefix="synfind-") as tmp:
        night(tmp)
        numbers(os.path.join(generate(tmp, "churn", LOADS["churn"])), "churn")
        numbers(os.path.join(generate(tmp, "held", LOADS["held"])), "held open")
        tshark(tmp)
        many(tmp)
        hostile(tmp)
    tap.done()


if __name__ == "__main__":
    main()
