"""`synfinctl report --connections` against `tshark -z conv,tcp`: connections, frames and octets of
each direction."""
import collections
import ipaddress
import json
import os
import re
import shutil
import subprocess

import events

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
SYNFIND = os.environ.get("SYNFIND", os.path.join(ROOT, "build/synfind"))
CTL = os.environ.get("SYNFINCTL", os.path.join(os.path.dirname(SYNFIND), "synfinctl"))
TSHARK = "4.0"
UNITS = {"bytes": 1, "kB": 10**3, "MB": 10**6, "GB": 10**9}
ROW = re.compile(r"(\S+):(\d+) +<-> (\S+):(\d+) +(\d+) ([\d,]+) (bytes|kB|MB|GB) +(\d+) ([\d,]+) (bytes|kB|MB|GB) ")

# A conversation: two ends (address, port), the smaller one first, and what each of them sent.
Conv = collections.namedtuple("Conv", "a b frames_a octets_a frames_b octets_b")


def missing():
    """Why there is nothing to compare with; "" if there is.  Other versions begin some streams elsewhere
    (docs/differential.md)."""
    if not shutil.which("tshark"):
        return "tshark"
    said = subprocess.run(["tshark", "--version"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                          text=True).stdout
    version = re.search(r"\d+\.\d+", said)[0]
    return "" if version == TSHARK else f"tshark {TSHARK} (here is {version})"


def report(*args, **kw):
    env = {**os.environ, "TZ": "UTC", "LC_ALL": "C.UTF-8", **kw.pop("env", {})}
    return subprocess.run([CTL, "report", *args], stdin=kw.pop("stdin", subprocess.DEVNULL),
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=120, env=env, **kw)


def end(address, port):
    return (ipaddress.ip_address(address).packed, int(port))


def ordered(a, b, a_sent, b_sent):
    if b < a:
        a, b, a_sent, b_sent = b, a, b_sent, a_sent
    return Conv(a, b, *a_sent, *b_sent)


def ours_json(*files):
    """From --connections --json."""
    found = []
    for line in report("--connections", "--json", *files).stdout.splitlines():
        e = json.loads(line)
        f = e["flow"]
        found.append(ordered(end(e["src_ip"], e["src_port"]), end(e["dest_ip"], e["dest_port"]),
                             (f["pkts_toserver"], f["bytes_toserver"]),
                             (f["pkts_toclient"], f["bytes_toclient"])))
    return found


def ours_table(*files):
    """From the table for people; its first line is the head."""
    found = []
    for line in report("--connections", *files).stdout.decode().splitlines()[1:]:
        m = re.match(r"\S+ +(\S+) > (\S+) +[A-Z-]+ +([\d,]+) +([\d,]+) +([\d,]+) +([\d,]+) ", line)
        ends = [e.replace("[", "").replace("]", "").rsplit(":", 1) for e in m.groups()[:2]]
        n = [int(x.replace(",", "")) for x in m.groups()[2:]]
        found.append(ordered(end(*ends[0]), end(*ends[1]), (n[0], n[1]), (n[2], n[3])))
    return found


def frames(path):
    """Stream -> [(sender, receiver, octets, time)], in order: each frame as tshark assigns it."""
    fields = "tcp.stream ip.src ipv6.src tcp.srcport ip.dst ipv6.dst tcp.dstport frame.len frame.time_epoch"
    out = subprocess.run(["tshark", "-n", "-r", path, "-Y", "tcp", "-T", "fields", "-E", "separator=/t",
                          "-E", "occurrence=f", *(a for f in fields.split() for a in ("-e", f))],
                         check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
                         timeout=120).stdout
    streams = collections.defaultdict(list)
    for line in out.splitlines():
        stream, s4, s6, sport, d4, d6, dport, octets, time = line.split("\t")
        streams[int(stream)].append((end(s4 or s6, sport), end(d4 or d6, dport), int(octets), time))
    return streams


def exact(streams):
    """The conversations of frames()."""
    found = []
    for rows in streams.values():
        a, b = rows[0][:2]
        sent = {a: [0, 0], b: [0, 0]}
        for sender, _, octets, _ in rows:
            sent[sender][0] += 1
            sent[sender][1] += octets
        found.append(ordered(a, b, sent[a], sent[b]))
    return found


def until_close(streams, *files):
    """The streams without what came after the end of our connection (docs/differential.md, after_close),
    and how many frames that is."""
    last = {}
    for line in report("--connections", "--json", *files).stdout.splitlines():
        e = json.loads(line)
        ends = {end(e["src_ip"], e["src_port"]), end(e["dest_ip"], e["dest_port"])}
        last[frozenset(ends), events.time_ns(e["flow"]["start"])] = events.time_ns(e["flow"]["end"])
    kept = {}
    for stream, rows in streams.items():
        to = last.get((frozenset(rows[0][:2]), _ns(rows[0][3])))
        kept[stream] = rows if to is None else [r for r in rows if _ns(r[3]) <= to]
    return kept, sum(map(len, streams.values())) - sum(map(len, kept.values()))


def _ns(text):
    s, _, fraction = text.partition(".")
    return int(s) * 10**9 + int(fraction.ljust(9, "0"))


def rounded(octets):
    """As the table of tshark has it: two digits at least."""
    for name, unit in UNITS.items():
        if octets < 10000 * unit:
            return (octets // unit, name)
    return (octets // 10**9, "GB")


def table(path):
    """The rows of `tshark -z conv,tcp`, with rounded octets."""
    out = subprocess.run(["tshark", "-n", "-q", "-z", "conv,tcp", "-r", path], check=True,
                         stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, timeout=120).stdout
    found = []
    for m in ROW.finditer(out):
        ends = end(*m.groups()[:2]), end(*m.groups()[2:4])
        to_a, to_b = ((int(m[i]), (int(m[i + 1].replace(",", "")), m[i + 2])) for i in (5, 8))
        found.append(ordered(*ends, to_b, to_a))
    return found


def as_table(convs):
    return [c._replace(octets_a=rounded(c.octets_a), octets_b=rounded(c.octets_b)) for c in convs]


def difference(ours, theirs):
    """What only one side has, as text; [] if they agree."""
    one, other = collections.Counter(ours), collections.Counter(theirs)
    return [f"{who} {_text(c)}" for who, d in (("ours", one - other), ("tshark", other - one))
            for c in sorted(d.elements())]


def _text(c):
    a, b = (f"{ipaddress.ip_address(e[0])}:{e[1]}" for e in (c.a, c.b))
    return f"{a} {c.frames_a} {c.octets_a}, {b} {c.frames_b} {c.octets_b}"
