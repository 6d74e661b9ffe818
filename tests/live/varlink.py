#!/usr/bin/python3
"""The control socket and Varlink clients that others wrote: Debian's package for Go (tests/support/
varlink_client), and systemd's varlinkctl where it is installed."""
import json
import os
import shutil
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../support"))
import live
import tap

SOURCE = os.path.join(live.ROOT, "tests/support/varlink_client")
PACKAGES = "/usr/share/gocode"
CONTROL = "io.synfind.Control"


def why_no_go():
    if not shutil.which("go"):
        return "go (package golang-go)"
    if not os.path.isdir(f"{PACKAGES}/src/github.com/varlink"):
        return "github.com/varlink/go (package golang-github-varlink-go-dev)"
    return ""


def go_client(address, subscribers, connections):
    if why := why_no_go():
        tap.skip("a client in Go", f"missing: {why}")
        return
    program = os.path.join(live.tmpdir(), "varlink_client")
    env = {**os.environ, "GOPATH": PACKAGES, "GO111MODULE": "off", "GOFLAGS": "", "GOPROXY": "off",
           "CGO_ENABLED": "0", "GOCACHE": os.path.join(live.ROOT, "build/tests/gocache")}
    built = subprocess.run(["go", "build", "-p", "1", "-o", program, "."], cwd=SOURCE, env=env, text=True,
                           stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    if not tap.ok(built.returncode == 0, "Go: the client can be built", built.stdout):
        return
    out = subprocess.run([program, address, str(subscribers), str(connections)], stdout=subprocess.PIPE, text=True,
                         stderr=subprocess.STDOUT, timeout=live.DEADLINE).stdout
    for line in out.splitlines():
        good, text = (False, line[7:]) if line.startswith("not ok ") else (line.startswith("ok "), line[3:])
        tap.ok(good, f"Go: {text}")
    tap.ok(out.endswith("ok it disconnects\n"), "Go: the client runs to its end", out)


def varlinkctl(address, subscribers, connections):
    if not shutil.which("varlinkctl"):
        tap.skip("varlinkctl", "missing: varlinkctl (systemd 255)")
        return

    def run(*args):
        p = subprocess.run(["varlinkctl", *args], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                           timeout=live.DEADLINE)
        return p.returncode, p.stdout

    status, text = run("info", address)
    tap.ok(status == 0 and CONTROL in text, "varlinkctl: info", text)
    status, text = run("introspect", address, CONTROL)
    tap.ok(status == 0 and "method Status" in text and "error InvalidCall" in text, "varlinkctl: introspect", text)
    for method in ("Status", "Subscribers", "Config", "Connections"):
        status, text = run("--json=short", "call", address, f"{CONTROL}.{method}", "{}")
        tap.ok(status == 0 and isinstance(json.loads(text), dict), f"varlinkctl: call {method}", text)
    status, text = run("--json=short", "--more", "call", address, f"{CONTROL}.Subscribers", '{"limit":1}')
    rows = text.replace("\x1e", "").split("\n")
    tap.equal((status, sum('"id"' in row for row in rows)), (0, subscribers), "varlinkctl: call --more")
    status, text = run("--json=short", "--more", "call", address, f"{CONTROL}.Connections",
                       '{"limit":10000,"order":"oldest"}')
    found = [row["flow_id"] for line in text.replace("\x1e", "").splitlines() if line.startswith("{")
             for row in json.loads(line)["connections"]]
    tap.equal((status, len(set(found))), (0, connections), "varlinkctl: call --more, connections")
    status, text = run("--json=short", "call", address, f"{CONTROL}.Connection", json.dumps({"flow_id": found[0]}))
    tap.ok(status == 0 and json.loads(text)["complete"], "varlinkctl: call Connection", text)
    status, text = run("call", address, f"{CONTROL}.Nothing", "{}")
    tap.ok(status != 0 and "MethodNotFound" in text, "varlinkctl: an error has its name", text)


live.need("ip")
ns = live.Netns()
d = live.Synfind(ns, "lo")
subs = [d.subscribe() for _ in range(3)]
subs[0].wait_for("tcp_close", **live.exchange(ns, ns, "127.0.0.1"))
pairs = []
with ns.listen(("127.0.0.1", 80)) as l:
    for _ in range(250):
        pairs.append((ns.connect(("127.0.0.1", 80)), l.accept()[0]))
subs[0].until(lambda e: sum(x["event_type"] == "tcp_established" for x in e) > 250, "250 connections")
path = "unix:" + os.path.join(d.tmp, "control.sock")
for step in (go_client, varlinkctl):
    with live.guarded(step.__name__):
        step(path, len(subs), len(pairs))
for s in subs[1:] + [x for pair in pairs for x in pair]:
    s.close()
subs[0].until(lambda e: sum(x["event_type"] == "tcp_close" for x in e) > 250, "251 closes")
d.ends_well(subs[0])
tap.done()
