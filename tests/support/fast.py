"""Traffic and subscribers at a speed that Python does not reach: gen makes frames, blast sends them, and
readers (readers.c) keeps what subscribers got."""
import array
import atexit
import itertools
import json
import os
import shutil
import signal
import subprocess
import tempfile
import threading

import live

TESTS = os.path.join(live.ROOT, "build/tests")
GEN = os.environ.get("GEN", os.path.join(TESTS, "gen"))


def memory_dir():
    """A directory in memory; removed at the end."""
    d = tempfile.mkdtemp(prefix="synfind-test-", dir="/dev/shm" if os.path.isdir("/dev/shm") else None)
    atexit.register(shutil.rmtree, d, ignore_errors=True)
    return d


def generate(path, options):
    """Writes a capture; what is in it."""
    p = subprocess.run([GEN, *options.split(), "-o", path], check=True, stderr=subprocess.PIPE)
    return json.loads(p.stderr)


def wire(ns):
    """A cable within one namespace, for frames that no kernel answers."""
    ns.ip("link add veth-a type veth peer name veth-b")
    for device in ("veth-a", "veth-b"):
        ns.ip(f"link set {device} up")
    live.wait_up(ns, "veth-a")


def blast(ns, path, *options, interface="veth-a"):
    """Sends a capture, at top speed or as `options` say; the process, whose output is JSON."""
    return ns.popen(os.path.join(TESTS, "blast"), "-i", interface, *options, path, stdout=subprocess.PIPE)


class Sender(threading.Thread):
    """Sends captures one after the other, and from the first one again, until stop().  The same frames are
    new connections only once those before are forgotten."""

    def __init__(self, ns, paths, *options):
        super().__init__(daemon=True)
        self.ns, self.paths, self.options = ns, paths, options
        self.going, self.sent, self.seconds, self.p = True, 0, 0, None
        self.start()

    def run(self):
        for path in itertools.cycle(self.paths):
            self.p = blast(self.ns, path, *self.options)
            out = self.p.communicate()[0]
            if not self.going:
                return
            result = json.loads(out)
            self.sent += result["sent"]
            self.seconds += result["seconds"]

    def stop(self):
        """In the middle of a capture."""
        self.going = False
        self.p.kill()
        self.join()


class Readers:
    """Subscribers, each (request, options): user, rate (octets/s), stall (ms, after stall())."""

    def __init__(self, path, orders, tmp):
        self.files = [os.path.join(tmp, f"reader-{id(self)}-{i}") for i in range(len(orders))]
        self.p = subprocess.Popen([os.path.join(TESTS, "readers"), path], stdin=subprocess.PIPE,
                                  stdout=subprocess.PIPE, preexec_fn=live.die_with_parent, text=True)
        for file, (request, o) in zip(self.files, orders):
            text = json.dumps(request) if request else ""
            print(file, o.get("user", 0), o.get("rate", 0), o.get("stall", 0), text, file=self.p.stdin)
        self.p.stdin.close()
        self.p.stdin = None
        if self.p.stdout.readline() != "ready\n":
            raise RuntimeError("readers: not ready")

    def stall(self):
        self.p.send_signal(signal.SIGUSR1)

    def stop(self):
        self.p.send_signal(signal.SIGTERM)
        return self.wait()

    def wait(self):
        """After the end of each stream; for each: octets, ended, stalled_ms."""
        return json.loads(self.p.communicate(timeout=live.DEADLINE)[0])

    def urgent(self):
        """It runs before others, so that it loses nothing on a busy machine."""
        os.setpriority(os.PRIO_PROCESS, self.p.pid, -15)

    def remove(self):
        for file in self.files:
            os.unlink(file)
            os.unlink(file + ".at")

    def octets(self, i=0):
        return os.stat(self.files[i]).st_size

    def data(self, i=0):
        with open(self.files[i], "rb") as f:
            return f.read()

    def end_of(self, i=0, octets=4096):
        """The last octets so far."""
        with open(self.files[i], "rb") as f:
            f.seek(max(0, self.octets(i) - octets))
            return f.read()

    def reads(self, i=0):
        """(octets up to there, time in ns) of each read."""
        numbers = array.array("Q")
        with open(self.files[i] + ".at", "rb") as f:
            numbers.frombytes(f.read())
        return numbers[::2], numbers[1::2]
