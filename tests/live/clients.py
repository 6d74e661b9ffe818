#!/usr/bin/python3
"""Programs that people use, and a thousand connections at once."""
import os
import resource
import socket
import subprocess
import sys
import threading

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../support"))
import live
import tap

MANY = 1000


def http(left, right, sub):
    root = live.tmpdir()
    with open(os.path.join(root, "page"), "wb") as f:
        f.write(b"p" * 100_000)
    server = right.popen("/usr/bin/python3", "-m", "http.server", "--bind", "10.0.1.2", "80",
                         cwd=root, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        live.wait_until(lambda: ":80" in right.run("ss", "-ltn"), "the web server")
        out = left.run("curl", "-s", "-o", "/dev/null", "-w", "%{size_download} %{local_port}",
                       "http://10.0.1.2/page")
        size, port = map(int, out.split())
        close = sub.wait_for("tcp_close", src_port=port, dest_port=80)
        tcp, flow = close["tcp"], close["flow"]
        tap.equal((size, tcp["reason"], tcp["conn_state"]), (100_000, "fin", "SF"),
                  "curl: the transfer is told as a normal close")
        tap.ok(100_000 < flow["payload_toclient"] < 101_000 and flow["gap_bytes"] == 0,
               "curl: the page and its header are counted", flow)
        path = live.path_of(live.of_flow(sub.events, close), "client")
        tap.ok(path[:2] == ["syn_sent", "established"] and path[-1] in ("time_wait", "closed"),
               "curl: the client's states", path)
    finally:
        server.kill()
        server.wait()


def netcat(left, right, sub):
    server = right.popen("nc", "-l", "-N", "10.0.1.2", "7000", stdin=subprocess.PIPE,
                         stdout=subprocess.PIPE)
    live.wait_until(lambda: ":7000" in right.run("ss", "-ltn"), "nc -l")
    client = left.popen("nc", "-N", "10.0.1.2", "7000", stdin=subprocess.PIPE,
                        stdout=subprocess.PIPE)
    got = client.communicate(b"hello nc\n", timeout=live.DEADLINE)[0]
    heard = server.communicate(b"", timeout=live.DEADLINE)[0]
    close = sub.wait_for("tcp_close", dest_port=7000)
    tap.equal((got, heard), (b"", b"hello nc\n"), "nc: the exchange")
    tap.equal((close["tcp"]["reason"], close["flow"]["payload_toserver"]), ("fin", 9),
              "nc: a normal close, nine octets")


def many(left, right, sub):
    """A thousand at once: opened, all of them open, closed by either side or reset."""
    listener = right.listen(("10.0.1.2", 8000))
    served = []

    def accept():
        while len(served) < MANY:
            served.append(listener.accept()[0])

    t = threading.Thread(target=accept, daemon=True)
    t.start()
    clients = [left.connect(("10.0.1.2", 8000)) for _ in range(MANY)]
    t.join(live.DEADLINE)
    tap.equal(len(served), MANY, f"{MANY} connections are open")

    def ours(stream, kind):
        return [e for e in stream if e["event_type"] == kind and e.get("dest_port") == 8000]

    sub.until(lambda e: len(ours(e, "tcp_established")) >= MANY, f"{MANY} tcp_established")
    tap.equal(len(ours(sub.events, "tcp_close")), 0, "none of them is told as closed")
    # Half are closed by the client first, half by the server.
    for s in clients[:MANY // 2] + served + clients[MANY // 2:]:
        s.close()
    sub.until(lambda e: len(ours(e, "tcp_close")) >= MANY, f"{MANY} tcp_close")
    counts = [len(ours(sub.events, k)) for k in ("tcp_open", "tcp_established", "tcp_close")]
    tap.equal(counts, [MANY] * 3, "each is told once as open, established, closed")
    closes = ours(sub.events, "tcp_close")
    tap.equal({e["tcp"]["reason"] for e in closes}, {"fin"}, "all closed normally")
    tap.equal(len({e["src_port"] for e in closes}), MANY, "each from its own port")
    tap.equal({e["tcp"]["closed_by"] for e in closes}, {"client", "server"}, "by either side")
    listener.close()


live.need("ip", "curl", "nc", "ss")
soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 4 * MANY) if hard > 0 else 4 * MANY, hard))
left, right = live.veth_pair()
daemon = live.Synfind(right, "veth-b", ring_size="16M")
sub = daemon.subscribe()
for step in (http, netcat, many):
    with live.guarded(step.__name__):
        step(left, right, sub)
daemon.ends_well(sub)
tap.done()
