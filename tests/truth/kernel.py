"""The kernel's own account: the tracepoint sock:inet_sock_set_state, in a trace instance of ours.

The tracepoint is host-wide: what is not about our addresses is passed over.
"""
import ctypes
import os
import re
import subprocess
import time

import live

CLONE_NEWNS = 0x20000
MS_REC, MS_PRIVATE = 0x4000, 1 << 18
EVENT = "events/sock/inet_sock_set_state"
NAME = {"TCP_ESTABLISHED": "established", "TCP_SYN_SENT": "syn_sent",
        "TCP_SYN_RECV": "syn_received", "TCP_FIN_WAIT1": "fin_wait_1",
        "TCP_FIN_WAIT2": "fin_wait_2", "TCP_CLOSE": "closed",
        "TCP_TIME_WAIT": "time_wait", "TCP_CLOSE_WAIT": "close_wait", "TCP_LAST_ACK": "last_ack",
        "TCP_LISTEN": "listen", "TCP_CLOSING": "closing", "TCP_NEW_SYN_RECV": "syn_received"}
LINE = re.compile(r" (\d+)\.(\d{6}): inet_sock_set_state: family=(\S+) protocol=IPPROTO_TCP "
                  r"sport=(\d+) dport=(\d+) saddr=(\S+) daddr=(\S+) saddrv6=(\S+) daddrv6=(\S+) "
                  r"oldstate=(\S+) newstate=(\S+)")


class Unavailable(Exception):
    pass


class Trace:
    """Records into `path` until stop().  Raises Unavailable, with what is missing."""

    def __init__(self, path):
        self.path, self.dir, self.cat = path, None, None
        libc = ctypes.CDLL(None, use_errno=True)
        try:  # a mount that nobody else sees, and that goes with this process
            live._call("unshare", CLONE_NEWNS)
            live._call("mount", b"none", b"/", None, MS_REC | MS_PRIVATE, None)
            self.mount = live.tmpdir()
            if libc.mount(b"tracefs", self.mount.encode(), b"tracefs", 0, None) < 0:
                e = ctypes.get_errno()
                raise OSError(e, f"mount -t tracefs: {os.strerror(e)}")
            self._sweep()
            self.dir = f"{self.mount}/instances/synfind_{os.getpid()}"
            os.mkdir(self.dir)
            self._write("trace_clock", "mono")
            self._write("buffer_size_kb", "8192")
            self.real_minus_mono = [self._offset()]
            self._write(f"{EVENT}/enable", "1")
        except OSError as e:
            self.close()
            raise Unavailable(f"tracefs with {EVENT} (CAP_SYS_ADMIN): {e}") from e
        with open(path, "wb") as out:
            self.cat = subprocess.Popen(["cat", f"{self.dir}/trace_pipe"], stdout=out,
                                        stderr=subprocess.DEVNULL,
                                        preexec_fn=live.die_with_parent)

    def _sweep(self):
        """Instances of processes that were killed."""
        for name in os.listdir(f"{self.mount}/instances"):
            m = re.fullmatch(r"synfind_(\d+)", name)
            if m and not os.path.exists(f"/proc/{m[1]}"):
                os.rmdir(f"{self.mount}/instances/{name}")

    def _write(self, name, text):
        with open(f"{self.dir}/{name}", "w") as f:
            f.write(text)

    @staticmethod
    def _offset():
        mono = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
        return time.clock_gettime_ns(time.CLOCK_REALTIME) - mono

    def size(self):
        return os.path.getsize(self.path)

    def stop(self):
        """Ends the recording; returns how many entries the kernel lost."""
        self._write(f"{EVENT}/enable", "0")
        time.sleep(0.3)  # cat takes what is left
        self.real_minus_mono.append(self._offset())
        lost = 0
        for name in os.listdir(f"{self.dir}/per_cpu"):
            with open(f"{self.dir}/per_cpu/{name}/stats") as f:
                lost += sum(int(line.rsplit(":", 1)[1]) for line in f
                            if line.startswith(("overrun", "dropped")))
        self.close()
        return lost

    def close(self):
        if self.cat:
            self.cat.kill()
            self.cat.wait()
            self.cat = None
        if self.dir and os.path.isdir(self.dir):
            os.rmdir(self.dir)
        self.dir = None


class Socket:
    """One life of a kernel socket: its end's (side, port), its states, and when each began."""

    def __init__(self, end, key):
        self.end, self.key, self.path, self.times = end, key, [], []

    def add(self, state, t):
        if not self.path or self.path[-1] != state:  # FIN_WAIT2 is told twice
            self.path.append(state)
            self.times.append(t)


def read(path, side_of_text, real_minus_mono):
    """{key: [Socket]} of our addresses, listeners left out, and the faults of the trace itself."""
    sockets, open_, faults = {}, {}, []
    with open(path, errors="replace") as f:
        for line in f:
            m = LINE.search(line)
            if not m:
                if "LOST" in line:
                    faults.append("the trace lost events")
                continue
            s, us, family, sport, dport, a4, b4, a6, b6, old, new = m.groups()
            src, dst = (a4, b4) if family == "AF_INET" else (a6, b6)
            a, b = side_of_text.get(src), side_of_text.get(dst)
            if a is None or b is None:
                continue
            end, peer = (a, int(sport)), (b, int(dport))
            t = int(s) * 10**9 + int(us) * 1000 + real_minus_mono
            old, new = NAME[old], NAME[new]
            key = (end, peer) if end <= peer else (peer, end)
            lives = open_.setdefault((key, end), [])  # an attempt may fail while the last one lives
            if old in ("closed", "listen"):
                at = Socket(end, key)
                lives.append(at)
                sockets.setdefault(key, []).append(at)
            else:
                at = next((x for x in reversed(lives) if x.path[-1] == old), None)
                if at is None:
                    faults.append(f"{end} {peer}: {old} -> {new} after {[x.path for x in lives]}")
                    continue
            at.add(new, t)
    return sockets, faults
