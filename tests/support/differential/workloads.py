"""Captures for the comparison: generated, spoilt on the way, and those of the conformance tests.

A capture is a list of (time in ns, octets captured, length on the wire), its times all different,
so that a time names a frame.
"""
import glob
import os
import re
import struct
import subprocess

import script

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(os.path.dirname(HERE)))
GEN = os.environ.get("GEN", os.path.join(ROOT, "build/tests/gen"))
CONFORMANCE = os.path.join(ROOT, "tests/conformance")
ETHERNET = 1


def read_pcap(path):
    with open(path, "rb") as f:
        data = f.read()
    unit = {0xA1B23C4D: 1, 0xA1B2C3D4: 1000}[struct.unpack_from("<I", data)[0]]
    if struct.unpack_from("<I", data, 20)[0] != ETHERNET:
        raise ValueError(f"{path}: not Ethernet")
    frames, at = [], 24
    while at < len(data):
        s, frac, caplen, length = struct.unpack_from("<IIII", data, at)
        frames.append((s * 10**9 + frac * unit, data[at + 16:at + 16 + caplen], length))
        at += 16 + caplen
    return frames


def write_pcap(frames, path):
    with open(path, "wb") as f:
        f.write(struct.pack("<IHHiIII", 0xA1B23C4D, 2, 4, 0, 0, 262144, ETHERNET))
        for t, octets, length in frames:
            f.write(struct.pack("<IIII", t // 10**9, t % 10**9, len(octets), length) + octets)


def distinct(frames):
    """The same frames; where two have one time, the later one is moved by a ns."""
    used, out = set(), []
    for t, *rest in frames:
        while t in used:
            t += 1
        used.add(t)
        out.append((t, *rest))
    return out


def generate(rng, path):
    """Some ten connections that play by the book, with options drawn from @rng."""
    options = {"seed": rng.randrange(1 << 30), "conns": rng.randrange(20, 60),
               "window": rng.randrange(1, 20), "segs": rng.randrange(2, 14),
               "payload": rng.choice((1, 100, 536, 1448)), "request": rng.choice((1, 80, 900)),
               "upload": rng.choice((0, 50)), "refused": rng.randrange(15),
               "unanswered": rng.randrange(10), "syn-retries": rng.randrange(4),
               "aborted": rng.randrange(30), "fin3": rng.randrange(100),
               "server-close": rng.randrange(100), "reuse": rng.choice((0, 30)),
               "ipv6": rng.choice((0, 40)), "pps": rng.choice((300, 5000, 200000))}
    args = [f"--{k}={v}" for k, v in options.items()]
    subprocess.run([GEN, "--nano", *args, "-o", path], check=True, stderr=subprocess.DEVNULL)
    return distinct(read_pcap(path)), " ".join(args)


SPOILS = ("drop", "duplicate", "reorder", "late", "cut")


def spoil(frames, how, rng):
    """What a worse place to listen would have got of it."""
    if how == "late":
        return frames[rng.randrange(len(frames) // 3):]
    if how == "cut":
        snaplen = rng.choice((78, 86, 96))
        return [(t, octets[:snaplen], length) for t, octets, length in frames]
    times = [t for t, *_ in frames]
    order = []  # (place, frame)
    for i, (_, *frame) in enumerate(frames):
        hit = rng.random() < 0.02
        if how == "drop" and hit:
            continue
        order.append((i + (rng.randrange(1, 6) + 0.5 if how == "reorder" and hit else 0), frame))
        if how == "duplicate" and hit:
            order.append((i + rng.choice((0.1, rng.randrange(1, 6) + 0.1)), frame))
    order.sort(key=lambda o: o[0])
    return distinct((times[min(int(place), len(times) - 1)], *frame) for place, frame in order)


def _renumbered(octets, number):
    """The frame with addresses of its own, so that many cases fit in one capture."""
    at = 12
    while octets[at:at + 2] in (b"\x81\x00", b"\x88\xa8"):
        at += 4
    v4 = octets[at:at + 2] == b"\x08\x00"
    places = (at + 2 + 13, at + 2 + 17) if v4 else (at + 2 + 14, at + 2 + 30)
    frame = bytearray(octets)
    for p in places:
        frame[p] = number
    return bytes(frame)


# Two answers to one SYN: one stream to the peers, two attempts here; docs/differential.md.
TWO_ANSWERS = "refused-then-answered"


def conformance_scripts():
    """(frames, names by number): the scripted cases in a row, 1000 s apart."""
    frames, names, now = [], {}, 0
    for path in sorted(glob.glob(f"{CONFORMANCE}/*/segs.txt")):
        case = os.path.basename(os.path.dirname(path))
        if case == TWO_ANSWERS:
            continue
        with open(os.path.join(CONFORMANCE, case, "want.txt")) as f:
            if any(line.startswith("args ") for line in f):
                continue  # it needs timeouts of its own
        with open(path) as f:
            text = f.read()
        if "via=" in text or "ICMP" in text or re.search(r"(?m)^link ", text):
            continue  # peers read the inside of tunnels, and other links, in their own ways
        one = script.compile_script(text)
        number = len(names) + 1
        names[number] = case
        frames += [(t + now, _renumbered(o, number), len(o)) for t, o in one]
        now = frames[-1][0] - script.BASE_NS + 1000 * 10**9
    return distinct(frames), names


# Peers put fragments together; here the first one counts, and the case says how.
FRAGMENTS = "fragment-first"


def conformance_captures():
    for path in sorted(glob.glob(f"{CONFORMANCE}/*/capture.pcap")):
        if FRAGMENTS in path:
            continue
        yield os.path.basename(os.path.dirname(path)), distinct(read_pcap(path))
