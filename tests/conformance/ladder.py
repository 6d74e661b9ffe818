#!/usr/bin/python3
"""`synfinctl ladder --read`: the diagrams in ladder/, which people have looked at; widths, hostile text,
and what it does with files that are broken or have no such connection.

    ladder.py --update    writes them again: look at each difference"""
import gzip
import json
import os
import re
import struct
import subprocess
import sys
import tempfile
import unicodedata
import xml.etree.ElementTree

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
sys.path.insert(0, os.path.join(ROOT, "tests/support"))
import script
import tap

SYNFIND = os.environ.get("SYNFIND", os.path.join(ROOT, "build/synfind"))
CTL = os.environ.get("SYNFINCTL", os.path.join(os.path.dirname(SYNFIND), "synfinctl"))
GOLDEN = os.path.join(HERE, "ladder")
ENV = {**os.environ, "SYNFIND": SYNFIND, "LC_ALL": "C.UTF-8", "TZ": "UTC"}
ENV.pop("COLUMNS", None)
FOUND, NOTHING, USAGE, FAILED = 0, 1, 2, 4
CONTROLS = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069]")

TRACES = ["close-four-segments", "close-merged-no-data", "close-simultaneous-midstream",
          "close-three-segments", "forged-handshake", "half-close-left-open"]
# What goes wrong, one of each kind.
CASES = ["refused", "refused-retried", "syn-retransmitted", "unanswered", "half-open",
         "icmp-unreachable", "simultaneous-open", "retransmission", "retransmission-beside-gap",
         "capture-gap", "resync-after-loss", "zero-window", "keep-alive", "rst-data-lost",
         "rst-then-late-segments", "fin-retransmitted", "data-after-fin", "tfo-data-on-syn",
         "stuck-half-closed", "ipv6", "vlan", "new-incarnation"]


def download():
    """4 MB to the client, with a segment lost now and then before the capture."""
    t = ["+0 C > S SYN mss=1460 wscale=7 sack", "+0.010 S > C SYN-ACK mss=1460 wscale=7 sack",
         "+0.010 C > S ACK win=502", "+0.0001 C > S DATA len=120 win=502",
         "+0.010 S > C ACK win=509"]
    seq, lost, at = 1, None, 0
    for i in range(2800):
        is_lost = i % 700 == 350
        t.append(f"+0.0002 S > C DATA len=1448 seq={seq} win=509" + " lost" * is_lost)
        if is_lost:
            lost, at = seq, i
        seq += 1448
        if lost:
            t.append(f"+0.00001 C > S ACK ack={lost} win=502")
            if i == at + 4:
                t.append(f"+0.0100 S > C DATA len=1448 seq={lost} win=509")
                t.append(f"+0.0001 C > S ACK ack={seq} win=502")
                lost = None
        elif i % 2:
            t.append(f"+0.00001 C > S ACK ack={seq} win=502")
    t += ["+0.001 S > C FIN win=509", "+0.0001 C > S ACK win=502", "+0.02 C > S FIN win=502",
          "+0.01 S > C ACK win=509"]
    return "\n".join(t)


def chatty():
    """A thousand turns, then a reset."""
    t = ["+0 C > S SYN", "+0.010 S > C SYN-ACK", "+0.010 C > S ACK"]
    for _ in range(500):
        t += ["+0.2 C > S DATA len=36", "+0.001 S > C DATA len=52", "+0.04 C > S ACK"]
    return "\n".join(t + ["+5 C > S RST seq=nxt"])


MADE = {"download": download, "chatty": chatty}


def capture(case, folder):
    """The path of a case's capture, in a folder where its name is always the same."""
    path = os.path.join(folder, case + ".pcap")
    ready = os.path.join(HERE, case, "capture.pcap")
    if os.path.exists(ready):
        with open(ready, "rb") as src, open(path, "wb") as dst:
            dst.write(src.read())
        return path
    if case in MADE:
        text = MADE[case]()
    else:
        with open(os.path.join(HERE, case, "segs.txt"), encoding="utf-8") as f:
            text = f.read()
    script.write_pcap(script.compile_script(text), path, script.link_name(text))
    return path


def ladder(*args, stdin=None, **env):
    p = subprocess.run([CTL, "ladder", *args], input=stdin, stdout=subprocess.PIPE,
                       stderr=subprocess.PIPE, timeout=60, env={**ENV, **env})
    p.stdout = p.stdout.decode()
    p.stderr = p.stderr.decode()
    return p


def pictures():
    """(case, name of the file, arguments)"""
    for case in TRACES + ["download"]:
        yield case, f"{case}.80.txt", ["--width=80"]
        yield case, f"{case}.132.txt", ["--width=132"]
        yield case, f"{case}.60.ascii.txt", ["--width=60", "--ascii"]
        yield case, f"{case}.132.ascii.txt", ["--width=132", "--ascii"]
        yield case, f"{case}.svg", ["--svg=-"]
    for case in CASES + ["chatty"]:
        yield case, f"{case}.80.txt", ["--width=80"]
    for case in ("refused", "zero-window", "icmp-unreachable", "syn-retransmitted"):
        yield case, f"{case}.svg", ["--svg=-"]


def columns(line):
    return sum(2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in line)


def golden(tmp, update):
    seen = set()
    for case, name, args in pictures():
        path, picture = os.path.join(tmp, case + ".pcap"), os.path.join(GOLDEN, name)
        if not os.path.exists(path):
            capture(case, tmp)
        p = ladder("--read", path, *args)
        seen.add(name)
        if update:
            with open(picture, "w", encoding="utf-8") as f:
                f.write(p.stdout)
            continue
        want = ""
        if os.path.exists(picture):
            with open(picture, encoding="utf-8") as f:
                want = f.read()
        differ = [x for pair in zip(p.stdout.splitlines(), want.splitlines()) if pair[0] != pair[1]
                  for x in pair]
        tap.ok(p.stdout == want and p.returncode == FOUND, name, p.stderr, *differ[:6])
    tap.ok(update or set(os.listdir(GOLDEN)) == seen, "no picture is left over",
           set(os.listdir(GOLDEN)) ^ seen)


def widths(tmp):
    wide, not_ascii = [], []
    for case in ("half-close-left-open", "ipv6", "rst-then-late-segments", "chatty"):
        path = capture(case, tmp)
        for width in (60, 61, 71, 72, 80, 94, 95, 115, 116, 117, 132, 163, 240):
            for flag in ([], ["--ascii"]):
                out = ladder("--read", path, f"--width={width}", *flag).stdout
                if any(columns(line) > width for line in out.splitlines()) or not out:
                    wide.append((case, width, flag))
                if flag and not out.isascii():
                    not_ascii.append((case, width))
    tap.ok(not wide, "no line is wider than --width, from 60 to 240", wide[:5])
    tap.ok(not not_ascii, "--ascii prints nothing else", not_ascii[:5])
    path = capture("refused", tmp)
    tap.equal(ladder("--read", path, LC_ALL="C").stdout, ladder("--read", path, "--ascii").stdout,
              "a locale without UTF-8: as with --ascii")
    tap.equal(ladder("--read", path, COLUMNS="132").stdout, ladder("--read", path, "--width=132").stdout,
              "COLUMNS is the width where there is no terminal")


def arrows(text):
    """The rows that are a segment each, without folds."""
    return [line for line in text.splitlines() if re.search("│[◄─╌].*[─╌►]│", line)]


def folding(tmp):
    path = capture("download", tmp)
    lines = ladder("--read", path, "--json", "--all").stdout.splitlines()
    segments = sum(json.loads(x)["event_type"] == "tcp_segment" for x in lines)
    every = ladder("--read", path, "--all").stdout
    tap.equal(len(arrows(every)), segments, f"--all: a row for each of the {segments} segments")
    tap.ok("…" not in every, "--all: nothing is folded")
    short = ladder("--read", path).stdout
    folded = sum(int(n.replace(",", "")) for n in re.findall(r"… ([\d,]+) segment", short))
    tap.equal(len(arrows(short)) + folded, segments, "without it each segment is a row, or in a fold")
    tap.ok(len(short.splitlines()) < 80, "4 MB on a screen or two", len(short.splitlines()))


def rest(p):
    """Without the title, which has the file's name."""
    return p.stdout[p.stdout.index("seq:"):]


def selecting(tmp):
    path = capture("forged-handshake", tmp)
    p = ladder("--read", path)
    tap.ok("the first of 3 connections:" in p.stderr, "it says that there are others", p.stderr)
    p = ladder("--read", path, "--list")
    tap.ok(len(p.stdout.splitlines()) == 3 and "RESET" in p.stdout and p.returncode == FOUND,
           "--list: a line each", p.stdout)
    p = ladder("--read", path, "--flow", "192.168.59.135:8081")
    tap.ok("192.168.59.131:443 > 192.168.59.135:8081" in p.stdout and "bad_ack" in p.stdout and
           not p.stderr, "--flow: another one, by an end", p.stdout, p.stderr)
    p2 = ladder("--read", path, "--flow", "192.168.59.131:443")
    tap.ok(p2.stderr.startswith("synfinctl: the first of 3 connections that match"),
           "--flow: if several match, it says so", p2.stderr)
    with open(path, "rb") as f:
        data = f.read()
    q = ladder("--read", "-", "--flow=192.168.59.131:443,192.168.59.135:8081", stdin=data)
    tap.equal(rest(q), rest(p),
              "standard input: the same picture")
    packed = os.path.join(tmp, "forged-handshake.pcap.gz")
    with gzip.open(packed, "wb") as f:
        f.write(data)
    q = ladder("--read", packed, "--flow=192.168.59.131:443,192.168.59.135:8081")
    tap.equal(rest(q), rest(p), "a packed file: the same picture")
    out = ladder("--read", path, "--json", "--flow", "192.168.59.135:8081").stdout
    kinds = [json.loads(x)["event_type"] for x in out.splitlines()]
    tap.ok(kinds.count("tcp_segment") == 2 and "tcp_anomaly" in kinds and kinds[-1] == "tcp_close",
           "--json: its lines", kinds)
    svg = os.path.join(tmp, "x.svg")
    p = ladder("--read", path, "--svg", svg)
    with open(svg, encoding="utf-8") as f:
        text = f.read()
    tap.ok(p.stdout.startswith("RESET: by client") and
           text == ladder("--read", path, "--svg=-").stdout and "<text" in text,
           "--svg FILE: the diagram there, the outcome here", p.stdout)


def pcapng(name, frames):
    def block(kind, body):
        body += b"\0" * (-len(body) % 4)
        return struct.pack("<II", kind, len(body) + 12) + body + struct.pack("<I", len(body) + 12)

    raw = name.encode("utf-8", "surrogateescape")
    options = struct.pack("<HH", 2, len(raw)) + raw + b"\0" * (-len(raw) % 4) + b"\0\0\0\0"
    out = block(0x0A0D0D0A, struct.pack("<IHHq", 0x1A2B3C4D, 1, 0, -1))
    out += block(1, struct.pack("<HHI", 1, 0, 65535) + options)
    for t, f in frames:
        us = t // 1000
        out += block(6, struct.pack("<IIIII", 0, us >> 32, us & 0xFFFFFFFF, len(f), len(f)) + f)
    return out


def hostile(tmp):
    with open(os.path.join(HERE, "refused", "segs.txt"), encoding="utf-8") as f:
        frames = script.compile_script(f.read())
    names = ["\x1b[31mred\x07", "\x9b2J\u202egnp", "<script>alert('&\"</script>", "\udcff\udcc0bad",
             "\u4e2d\u6587" * 15, "]]><x>", "a" * 127]
    seen, unsafe, wide, broken = [], [], [], []
    for name in names:
        path = os.path.join(tmp, "hostile.pcapng")
        with open(path, "wb") as f:
            f.write(pcapng(name, frames))
        for args in (["--width=60"], ["--width=132"], ["--list"], ["--svg=-"], ["--color=always"]):
            p = ladder("--read", path, *args)
            out = re.sub("\x1b\\[[0-9;]*m", "", p.stdout) if "always" in args[0] else p.stdout
            if CONTROLS.search(out) or CONTROLS.search(p.stderr):
                unsafe.append((name, args, CONTROLS.search(out)))
            if "--width" in args[0] and any(columns(x) > int(args[0][8:]) for x in out.splitlines()):
                wide.append((name, args))
            if args == ["--svg=-"]:
                try:
                    root = xml.etree.ElementTree.fromstring(out)
                    seen.append("".join(root.itertext()))
                    if {e.tag.rsplit("}")[-1] for e in root.iter()} - {
                            "svg", "style", "rect", "title", "text", "line", "path"}:
                        broken.append((name, "elements"))
                except xml.etree.ElementTree.ParseError as e:
                    broken.append((name, str(e)))
    tap.ok(not unsafe, "names of interfaces: no control character and no bidirectional one gets out",
           unsafe)
    tap.ok(not wide, "nor a line that is too wide", wide)
    tap.ok(not broken and len(seen) == len(names), "the SVG is well formed", broken)
    tap.ok("<script>alert('&\"</script>" in seen[2], "its text is escaped, not lost", seen[2][:200])


def mistakes(tmp):
    p = ladder("--read", os.path.join(tmp, "absent.pcap"))
    tap.ok(p.returncode == FAILED and "absent.pcap: No such file" in p.stderr and
           p.stderr.count("\n") == 1, "a file that is not there: status 4, one line", p.stderr)
    path = capture("close-four-segments", tmp)
    with open(path, "rb") as f:
        data = f.read()
    cut = os.path.join(tmp, "cut.pcap")
    with open(cut, "wb") as f:
        f.write(data[:-20])
    p = ladder("--read", cut)
    tap.ok(p.returncode == FAILED and "truncated" in p.stderr and p.stderr.count("\n") == 1 and
           "server has no more to send" in p.stdout,
           "a truncated file: what it has, one error line, status 4", p.stdout[-300:], p.stderr)
    p = ladder("--read", path, "--flow=10.9.9.9:99")
    tap.ok(p.returncode == NOTHING and "no connection 10.9.9.9:99" in p.stderr and not p.stdout,
           "no such connection: status 1", p.stderr)
    p = ladder("--read", path, "--flow=nonsense")
    tap.ok(p.returncode == USAGE and "'nonsense' names no connection" in p.stderr,
           "a wrong --flow: status 2", p.stderr)
    p = ladder("10.0.0.1:1", "--list")
    tap.ok(p.returncode == USAGE and "--list: only with --read" in p.stderr,
           "--list without --read: status 2", p.stderr)
    p = ladder("--read", path, "--svg=/nonexistent/x.svg")
    tap.ok(p.returncode == FAILED and "/nonexistent/x.svg: No such file" in p.stderr,
           "an SVG that cannot be written: status 4", p.stderr)
    p = ladder("--read", path, SYNFIND="/nonexistent/synfind")
    tap.ok(p.returncode == FAILED and "cannot run /nonexistent/synfind" in p.stderr,
           "no program to read the files: status 4, and what to do", p.stderr)


def main():
    with tempfile.TemporaryDirectory(prefix="synfind-") as tmp:
        if sys.argv[1:] == ["--update"]:
            golden(tmp, True)
            return
        golden(tmp, False)
        widths(tmp)
        folding(tmp)
        selecting(tmp)
        hostile(tmp)
        mistakes(tmp)
    tap.done()


if __name__ == "__main__":
    main()
