#!/usr/bin/python3
"""`--read --events=tcp_segment`: a line for each segment, with the numbers that the frame has."""
import json
import os
import socket
import struct
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
LETTERS = "FSRPAUEC"
# Cases on Ethernet of which each frame belongs to a connection.
CASES = ["close-four-segments", "close-merged-no-data", "close-simultaneous-midstream",
         "close-three-segments", "half-close-left-open", "ipv6", "retransmission", "sequence-wrap",
         "simultaneous-open", "syn-retransmitted", "two-connections", "zero-window", "rst-exact",
         "wrap-at-fin", "capture-gap"]
MANY = 20000


def capture(case, folder):
    """The path of a case's capture."""
    ready = os.path.join(HERE, case, "capture.pcap")
    if os.path.exists(ready):
        return ready
    path = os.path.join(folder, case + ".pcap")
    with open(os.path.join(HERE, case, "segs.txt"), encoding="utf-8") as f:
        text = f.read()
    script.write_pcap(script.compile_script(text), path, script.link_name(text))
    return path


def frames(path):
    """(time, src, sport, dst, dport, flags, seq, ack, payload_len, window) of each frame."""
    with open(path, "rb") as f:
        data = f.read()
    times, at, out = script.pcap_times(path), 24, []
    for t in times:
        caplen = struct.unpack_from("<I", data, at + 8)[0]
        frame = data[at + 16:at + 16 + caplen]
        at += 16 + caplen
        if frame[12:14] == b"\x08\x00":
            ip, end, family = 26, 14 + struct.unpack_from("!H", frame, 16)[0], socket.AF_INET
            tcp, size = 14 + (frame[14] & 15) * 4, 4
        else:
            ip, end, family = 22, 54 + struct.unpack_from("!H", frame, 18)[0], socket.AF_INET6
            tcp, size = 54, 16
        sport, dport, seq, ack, off, window = struct.unpack_from("!HHIIHH", frame, tcp)
        flags = "".join(c for i, c in enumerate(LETTERS) if off >> i & 1)
        out.append((t, socket.inet_ntop(family, frame[ip:ip + size]), sport,
                    socket.inet_ntop(family, frame[ip + size:ip + 2 * size]), dport, flags, seq,
                    ack if "A" in flags else None, end - tcp - (off >> 12) * 4, window))
    return out


def relative(all_frames):
    """As docs/events.md says: the SYN has 0; if none was seen, the first number is 1."""
    base, out = {}, []
    for t, src, sport, dst, dport, flags, seq, ack, n, window in all_frames:
        me, peer = (src, sport, dst, dport), (dst, dport, src, sport)
        base.setdefault(me, seq if "S" in flags else seq - 1)
        if ack is not None:
            base.setdefault(peer, ack - 1)
        out.append((t, src, sport, flags, (seq - base[me]) & 0xFFFFFFFF,
                    None if ack is None else (ack - base[peer]) & 0xFFFFFFFF, n, window))
    return out


def read(path, *flags):
    p = subprocess.run([SYNFIND, "--config=/dev/null", "--read", path, *flags],
                       capture_output=True, timeout=120)
    return p.stdout.splitlines(), p


def of_lines(lines):
    out = []
    for line in lines:
        e = json.loads(line)
        if e["event_type"] == "tcp_segment":
            t, client = e["tcp"], e["tcp"]["from"] == "client"
            out.append((events.time_ns(e["timestamp"]),
                        e["src_ip"] if client else e["dest_ip"],
                        e["src_port"] if client else e["dest_port"], t["flags"], t["seq"],
                        t.get("ack"), t["payload_len"], t["window"]))
    return out


def without_segments(lines):
    return [x for x in lines if b'"event_type":"tcp_segment"' not in x]


def all_cases():
    return sorted(d for d in os.listdir(HERE)
                  if os.path.exists(os.path.join(HERE, d, "segs.txt")) or
                  os.path.exists(os.path.join(HERE, d, "capture.pcap")))


def main():
    with tempfile.TemporaryDirectory(prefix="synfind-") as tmp:
        for case in CASES:
            path = capture(case, tmp)
            want = relative(frames(path))
            lines, p = read(path, "--events=tcp_segment")
            got = of_lines(lines)
            differ = [pair for pair in zip(got, want) if pair[0] != pair[1]]
            tap.ok(got == want and want and p.returncode == 0,
                   f"{case}: {len(want)} frames, a line for each, with its numbers", len(got),
                   *differ[:2])

        wrong, beside = [], []
        for case in all_cases():
            path = capture(case, tmp)
            plain, with_them = read(path)[0], read(path, "--events=all,tcp_segment")[0]
            if without_segments(with_them)[1:] != plain[1:]:
                wrong.append(case)
            checker = events.Checker()
            for line in with_them:
                checker.feed(line)
            if not checker.end():
                beside.append((case, checker.errors[:2]))
        tap.ok(not wrong, "every case: the other lines, and their numbers, are as without them",
               wrong)
        tap.ok(not beside, "every case: a right stream, numbered without gaps", beside)

        text = "+0 C > S SYN\n+0 S > C SYN-ACK\n+0 C > S ACK\n"
        text += "+0.00001 S > C DATA len=10\n" * MANY
        path = os.path.join(tmp, "many.pcap")
        script.write_pcap(script.compile_script(text), path)
        lines, _ = read(path, "--events=tcp_segment,stats")
        tap.equal(len(of_lines(lines)), MANY + 3, f"{MANY} segments in 0.2 s: no limit with --read")
        tap.equal(json.loads(lines[-1])["decoders"][0]["events"], 0, "they are not numbered events")
        tap.ok(not of_lines(read(path)[0]), "without the option there are none")
        lines, p = read(path, "--events=tcp_segment", "--quiet")
        tap.ok(not lines and b"20003 frames" in p.stderr, "--quiet: only the summary", p.stderr)
    p = subprocess.run([SYNFIND, "--config=/dev/null", "--events=tcp_segment"], timeout=60,
                       capture_output=True)
    tap.ok(p.returncode == 2 and b"--events: tcp_segment only with --read" in p.stderr,
           "live capture refuses it, and says how to ask", p.stderr)
    tap.done()


if __name__ == "__main__":
    main()
