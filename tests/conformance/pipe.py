#!/usr/bin/python3
"""`--read` into a pipe: it is made larger, never smaller, and the lines are those of a file."""
import fcntl
import os
import subprocess
import sys
import tempfile
import threading

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
sys.path.insert(0, os.path.join(ROOT, "tests/support"))
import script
import tap

SYNFIND = os.environ.get("SYNFIND", os.path.join(ROOT, "build/synfind"))
WANTED = 1 << 20
with open("/proc/sys/fs/pipe-max-size") as limit:
    LARGEST = int(limit.read())


CONNECTION = """conn C=10.0.{0}.1:40000 S=10.1.0.1:443
+0.000  C > S  SYN mss=1460
+0.001  S > C  SYN-ACK mss=1460
+0.001  C > S  ACK
+0.010  C > S  FIN
+0.001  S > C  FIN
+0.001  C > S  ACK
"""


def read_into_pipe(pcap, octets):
    """Octets that came, the pipe's size afterwards, the exit status."""
    r, w = os.pipe()
    came = []
    with open(r, "rb") as reader:
        fcntl.fcntl(w, fcntl.F_SETPIPE_SZ, octets)
        p = subprocess.Popen([SYNFIND, "--read", pcap], stdout=w, stderr=subprocess.DEVNULL)
        drain = threading.Thread(target=lambda: came.append(reader.read()))
        drain.start()
        status = p.wait(60)
        size = fcntl.fcntl(w, fcntl.F_GETPIPE_SZ)
        os.close(w)
        drain.join()
    return came[0], size, status


def main():
    with tempfile.TemporaryDirectory(prefix="synfind-") as tmp:
        pcap = os.path.join(tmp, "connections.pcap")
        text = "".join(CONNECTION.format(i) for i in range(100))
        script.write_pcap(script.compile_script(text), pcap)
        path = os.path.join(tmp, "lines")
        with open(path, "wb") as f:
            subprocess.run([SYNFIND, "--read", pcap], stdout=f, stderr=subprocess.DEVNULL,
                           timeout=60, check=True)
        with open(path, "rb") as f:
            want = f.read()
        for octets in (4096, 65536, LARGEST):
            got, size, status = read_into_pipe(pcap, octets)
            what = f"a pipe of {octets} octets"
            tap.ok(status == 0 and got == want and len(want) > 10 * 4096,
                   f"{what}: every line of the file", status, len(got), len(want))
            if LARGEST < WANTED:
                tap.skip(f"{what}: its size afterwards", "fs.pipe-max-size is too small")
            else:
                tap.equal(size, max(octets, WANTED), f"{what}: its size afterwards")
    tap.done()


if __name__ == "__main__":
    main()
