"""What the tests that kill the daemon again and again have in common: readers, traffic, and ways to end it."""
import os
import signal
import socket
import sys
import threading
import time

import live

LAST = 99  # port of the connection that ends a run


class Reader(threading.Thread):
    """Reads into memory; `pace`: None as fast as it can, else (octets, seconds between).  `end`: what is
    in the last line, all of it."""

    def __init__(self, path, pace=None, end=(b'"dest_port":%d,' % LAST, b'"tcp_close"')):
        super().__init__(daemon=True)
        self.s = socket.socket(socket.AF_UNIX)
        self.s.connect(path)
        self.pace, self.end = pace, end
        self.go = threading.Event()
        self.ended = False
        self.parts = []
        self.last = threading.Event()

    def run(self):
        while True:
            n = 1 << 20
            if self.pace:
                n = self.pace[0]
                self.go.wait(self.pace[1])
                n = 1 << 20 if self.go.is_set() else n
            data = self.s.recv(n)
            if not data:
                self.ended = True
                self.last.set()
                return
            tail = (self.parts[-1][-4096:] if self.parts else b"") + data
            self.parts.append(data)
            if all(word in tail for word in self.end):
                self.last.set()

    def lines(self):
        return b"".join(self.parts).split(b"\n")


class Traffic:
    """Connections over loopback from a process of its own, until it is told to stop, or there are
    `most`."""

    def __init__(self, ns, pause, most=sys.maxsize):
        self.end, end = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            live.die_with_parent()
            live._call("setns", ns.fd, live.CLONE_NEWNET)
            signal.signal(signal.SIGTERM, self.stop)
            self.going = True
            n = 0
            with socket.create_server(("127.0.0.1", 80), backlog=64) as l:
                while self.going and n < most:
                    c = socket.create_connection(("127.0.0.1", 80))
                    s = l.accept()[0]
                    c.close()
                    s.close()
                    n += 1
                    if pause:
                        time.sleep(pause)
            while self.going:
                time.sleep(0.01)
            os.write(end, b"%d" % n)
            os._exit(0)
        os.close(end)

    def stop(self, *_):
        self.going = False

    def finish(self):
        os.kill(self.pid, signal.SIGTERM)
        n = int(os.read(self.end, 64))
        os.waitpid(self.pid, 0)
        return n


def mark_the_end(ns):
    """The last connection, of which all is told by one process."""
    with ns.listen(("127.0.0.1", LAST)) as l, ns.connect(("127.0.0.1", LAST)), l.accept()[0]:
        pass


def end_somewhere(m, rng):
    """Ends the process, at a place that differs each time.  What happened."""
    way = rng.randrange(6)
    if way == 0:  # possibly before it is ready
        time.sleep(rng.random() * 0.15)
        m.end()
        return "early"
    live.wait_until(m.is_ready, "the daemon to be ready")
    if way == 1:
        m.end(signal.SIGABRT)
        return "abort"
    if way == 2:
        m.end(signal.SIGTERM)
        return "stop"
    time.sleep(rng.random() * 0.1)
    if way == 3:
        m.end()
        return "kill"
    if way == 4:
        done = m.end_at_send(1 + rng.randrange(30), rng.choice([0, 0, 0, 1, 3, rng.randrange(100)]))
        return "send" if done else "no send"
    return "step" if m.end_after(rng.randrange(400)) else "gone"
