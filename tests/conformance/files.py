#!/usr/bin/python3
"""`--read` of several files, and of packed ones; into a pipe that does not block."""
import fcntl
import gzip
import json
import lzma
import os
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
sys.path.insert(0, os.path.join(ROOT, "tests/support"))
import script
import tap

SYNFIND = os.environ.get("SYNFIND", os.path.join(ROOT, "build/synfind"))
OPEN = """conn C=10.0.{0}.1:40000 S=10.1.0.1:443
+0.000  C > S  SYN mss=1460
+0.001  S > C  SYN-ACK mss=1460
+0.001  C > S  ACK
"""
CLOSE = """+0.010  C > S  FIN
+0.001  S > C  FIN
+0.001  C > S  ACK
"""


def zstd(data):
    return subprocess.run(["zstd", "-qc"], input=data, stdout=subprocess.PIPE, check=True).stdout


PACKERS = {"gzip": gzip.compress, "xz": lzma.compress, "zstd": zstd}
PCAP_HEADER = 24


def read(*files, stdin=None, **kw):
    return subprocess.run([SYNFIND, "--read", *files], input=stdin, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, timeout=60, check=False, **kw)


def write(path, data):
    with open(path, "wb") as f:
        f.write(data)
    return path


def records(pcap):
    """Where the records of a pcap file begin, and its end."""
    at = [PCAP_HEADER]
    while at[-1] < len(pcap):
        at.append(at[-1] + 16 + int.from_bytes(pcap[at[-1] + 8:at[-1] + 12], "little"))
    return at


def events(run):
    """Without what belongs to the file's name."""
    lines = [json.loads(line) for line in run.stdout.splitlines()]
    for e in lines:
        e.pop("in_iface", None)
        e.pop("interfaces", None)
        for d in e.get("decoders", ()):
            d.pop("in_iface")
    return lines


def errors(run):
    return [line for line in run.stderr.decode().splitlines() if ": error: " in line]


def check_packed(tmp, name, pack, pcap, plain):
    packed = pack(pcap)
    path = write(os.path.join(tmp, "a." + name), packed)
    run = read(path)
    tap.ok(run.returncode == 0 and events(run) == plain, f"{name}: the events of the plain file",
           run.stderr)
    with open(path, "rb") as f:
        run = subprocess.run([SYNFIND, "--read", "-"], stdin=f, stdout=subprocess.PIPE,
                             stderr=subprocess.PIPE, timeout=60, check=False)
    tap.ok(run.returncode == 0 and events(run) == plain, f"{name}: from a file as standard input",
           run.stderr)
    run = read("-", stdin=packed)
    tap.ok(run.returncode == 0 and events(run) == plain, f"{name}: from a pipe", run.stderr)

    middle = records(pcap)[len(records(pcap)) // 2] + 5  # within a record
    run = read(write(os.path.join(tmp, "members"), pack(pcap[:middle]) + pack(pcap[middle:])))
    tap.ok(run.returncode == 0 and events(run) == plain, f"{name}: two members are one file",
           run.stderr)

    cut = write(os.path.join(tmp, "cut." + name), packed[:len(packed) - 6])
    run = read(cut)
    said = errors(run)
    tap.ok(run.returncode == 1 and len(said) == 1 and f"{cut}: truncated: the {name} data ends at "
           f"byte {len(packed) - 6}" in said[0], f"{name}: a truncated file is an error", said)
    if name != "zstd":  # which unpacks whole blocks of 128 KiB
        tap.equal(len(run.stdout.splitlines()), len(plain), f"{name}: after all frames before it")
    run = read("-", stdin=packed[:len(packed) - 6])
    tap.ok(run.returncode == 1 and "-: truncated" in errors(run)[0], f"{name}: so in a pipe",
           run.stderr)

    bad = bytearray(packed)
    bad[len(bad) // 2:len(bad) // 2 + 8] = b"\xa5" * 8
    run = read(write(os.path.join(tmp, "bad." + name), bad))
    said = errors(run)
    tap.ok(run.returncode == 1 and len(said) == 1 and
           (f"bad.{name}: corrupt" in said[0] or f"bad.{name}: truncated" in said[0]),
           f"{name}: a corrupt file is an error", said)
    run = read(write(os.path.join(tmp, "twice"), pack(packed)))
    tap.ok(run.returncode == 1 and "twice: compressed twice" in errors(run)[0],
           f"{name}: packed twice is an error", run.stderr)


def check_several(tmp, pcap, plain):
    cuts = records(pcap)
    half = cuts[len(cuts) // 2 + 1]  # connections are open there
    head = pcap[:PCAP_HEADER]
    first = write(os.path.join(tmp, "1.pcap"), pcap[:half])
    second = write(os.path.join(tmp, "2.pcap.gz"), gzip.compress(head + pcap[half:]))
    run = read(first, second)
    tap.ok(run.returncode == 0 and events(run) == plain,
           "a capture in two files gives the events of one", run.stderr)
    tap.equal({json.loads(line).get("in_iface", "1.pcap") for line in run.stdout.splitlines()},
              {"1.pcap"}, "in_iface is the name of the first file")
    tap.ok("2 files: " in run.stderr.decode(), "the summary is one", run.stderr)
    run = read(first, "--read", second)
    tap.ok(events(run) == plain, "so with --read before each")
    run = read(os.path.join(tmp, "1.pcap"), "-", stdin=head + pcap[half:])
    tap.ok(run.returncode == 0 and events(run) == plain, "one of them can be standard input",
           run.stderr)

    broken = write(os.path.join(tmp, "broken.pcap"), pcap[:half - 3])
    run = read(broken, second)
    said = errors(run)
    ends = sum(e["event_type"] == "tcp_close" for e in events(run))
    tap.ok(run.returncode == 1 and len(said) == 1 and f"{broken}: truncated" in said[0],
           "a broken file is an error that names it", said)
    tap.equal(ends, sum(e["event_type"] == "tcp_close" for e in plain),
              "and the next file is read all the same")
    text = write(os.path.join(tmp, "text"), b"not a capture\n")
    run = read(text, first, second)
    tap.ok(run.returncode == 1 and f"{text}: not a pcap" in errors(run)[0] and
           events(run) == plain, "so if the first one is none", run.stderr)
    run = read(first, os.path.join(tmp, "nowhere"))
    tap.ok(run.returncode == 1 and not run.stdout and "nowhere: No such file" in errors(run)[0],
           "a missing file shows before any is read", run.stderr)


def check_nonblocking(path):
    r, w = os.pipe()
    fcntl.fcntl(w, fcntl.F_SETPIPE_SZ, 4096)
    fcntl.fcntl(w, fcntl.F_SETFL, fcntl.fcntl(w, fcntl.F_GETFL) | os.O_NONBLOCK)
    p = subprocess.Popen([SYNFIND, "--read", path], stdout=w, stderr=subprocess.PIPE)
    os.close(w)
    time.sleep(0.3)  # long enough to fill the pipe
    with open(r, "rb") as f:
        got = f.read()
    said = p.communicate()[1]
    whole = read(path).stdout
    tap.ok(p.returncode == 0 and got == whole and len(got) > 1 << 17,
           "a non-blocking pipe gets every line", p.returncode, len(got), len(whole), said)


def main():
    text = "".join(OPEN.format(i) + CLOSE for i in range(100))
    with tempfile.TemporaryDirectory(prefix="synfind-") as tmp:
        path = os.path.join(tmp, "plain.pcap")
        script.write_pcap(script.compile_script(text), path)
        with open(path, "rb") as f:
            pcap = f.read()
        plain = events(read(path))
        tap.ok(len(plain) > 500, "a plain file", len(plain))
        for name, pack in PACKERS.items():
            check_packed(tmp, name, pack, pcap, plain)
        check_several(tmp, pcap, plain)
        check_nonblocking(path)
    tap.done()


if __name__ == "__main__":
    main()
