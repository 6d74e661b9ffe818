#!/usr/bin/python3
"""synfinctl against a real daemon: each command's answer, its exit status, and what it says when there
is no daemon, no permission, or a restart."""
import json
import os
import pty
import random
import re
import shlex
import shutil
import signal
import socket
import stat
import struct
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../support"))
import live
import tap

CTL = os.environ.get("SYNFINCTL", os.path.join(os.path.dirname(live.SYNFIND), "synfinctl"))
FOUND, NOTHING, USAGE, NO_DAEMON, FAILED = range(5)
NOBODY = 65534
KILLS = int(os.environ.get("KILLS", "20"))
CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f\x80-\x9f]")


class Ctl:
    def __init__(self, d):
        self.socket = f"--socket={d.path}"

    def __call__(self, *args, **kw):
        return subprocess.run([CTL, *args, self.socket], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, timeout=live.DEADLINE, text=True, **kw)


class Watch:
    """synfinctl watch, running; it is subscribed when this returns."""

    def __init__(self, d, *args):
        before = self.connected(d)
        self.p = subprocess.Popen([CTL, "watch", f"--socket={d.path}", *args], stdout=subprocess.PIPE,
                                  stderr=subprocess.PIPE, text=True, preexec_fn=live.die_with_parent)
        live.wait_until(lambda: self.connected(d) > before or self.p.poll() is not None, "the watcher")

    @staticmethod
    def connected(d):
        """Subscribers whose request was answered, or who need none."""
        answer = subprocess.run([CTL, "subscribers", "--json", f"--socket={d.path}"], text=True,
                                stdout=subprocess.PIPE).stdout
        return sum('"events"' in line or '"where"' in line for line in answer.splitlines())

    def line(self):
        return self.p.stdout.readline()

    def end(self, sig=signal.SIGINT):
        self.p.send_signal(sig)
        out, err = self.p.communicate(timeout=live.DEADLINE)
        return self.p.returncode, out, err


def reset(client, server, address):
    """A connection that its client resets."""
    with server.listen(address) as l:
        c = client.connect(address)
        s = l.accept()[0]
        c.send(b"x" * 100)
        s.recv(100)
        c.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        port = c.getsockname()[1]
        c.close()
        s.close()
    return port


def refused(client, address):
    with client():
        s = socket.socket()
    try:
        s.connect(address)
    except ConnectionRefusedError:
        pass
    return s.getsockname()[1]


def watch(client, server, d):
    failed, all_ = Watch(d, "--failed"), Watch(d, "--time=relative")
    port = Watch(d, "--failed", "--port=82", "--json")
    flow = live.exchange(client, server, "10.0.1.2")
    was_refused = refused(client, ("10.0.1.2", 81))
    was_reset = reset(client, server, ("10.0.1.2", 82))
    one, two = failed.line(), failed.line()
    tap.ok(re.fullmatch(rf"\d\d:\d\d:\d\d\.\d{{3}} veth-b  10\.0\.1\.1:{was_refused} > 10\.0\.1\.2:81 +REFUSED +"
                        r"by server after [\d.]+ ms\n", one), "watch --failed: a refused connection is one line", one)
    tap.ok(re.search(rf" 10\.0\.1\.1:{was_reset} > 10\.0\.1\.2:82 +RESET +by client, age .*, sent 100 B, received 0 B\n",
                     two), "and a reset one says who, when and how much", two)
    lines = [all_.line() for _ in range(3)]
    tap.ok(f":{flow['src_port']} > 10.0.1.2:80 " in lines[0] and "CLOSED      by client" in lines[0] and
           lines[0].split()[0] == "0.000000" and "REFUSED" in lines[1] and "RESET" in lines[2],
           "watch: the outcome of each connection, times from the first line", lines)
    event = json.loads(port.line())
    tap.equal((event["event_type"], event["dest_port"], event["tcp"]["reason"]), ("tcp_close", 82, "rst"),
              "watch --port --json: the lines of the port, as they came")
    tap.equal(failed.end()[0], FOUND, "Ctrl-C: status 0")
    tap.equal(port.end(signal.SIGTERM)[:2], (FOUND, ""), "SIGTERM: status 0, and nothing else was printed")
    all_.end()
    nothing = Watch(d, "--port=9999")
    tap.equal(nothing.end()[0], NOTHING, "nothing came: status 1")
    return flow, was_refused, was_reset


def past(ctl, flow, was_refused):
    p = ctl("watch", "--no-follow", "--failed", "--fields=src_port,dest_port,tcp.reason")
    tap.ok(p.returncode == FOUND and p.stdout.splitlines()[0] == f"{was_refused}\t81\trefused",
           "watch --no-follow: what the queue has, then it ends", p)
    p = ctl("watch", "--no-follow", "--since=1h", "--events", "--json", "--port=80")
    kinds = [json.loads(line)["event_type"] for line in p.stdout.splitlines()]
    tap.ok(kinds[0] == "tcp_open" and kinds[-1] == "tcp_close" and p.stderr == "",
           "watch --since --events: every event of the port, none reported as lost", kinds, p.stderr)
    p = ctl("watch", "--no-follow", "--limit=1", "--json")
    tap.equal(p.stdout.count("\n"), 1, "--limit ends it")
    p = ctl("show", f"10.0.1.1:{flow['src_port']}")
    words = [line.split()[5] for line in p.stdout.splitlines() if " > " in line[20:]]
    tap.ok(p.returncode == FOUND and words[0] == "OPEN" and words[-1] == "CLOSED" and "history " in p.stdout,
           "show: a connection that is over, its events in order, and what is known", p)
    tap.equal((ctl("show", "10.0.1.9:1").returncode, ctl("show", "nonsense").returncode), (NOTHING, USAGE),
              "show: no such connection is 1, nonsense 2")


def open_now(ctl, client, server):
    with server.listen(("10.0.1.2", 90)) as l:
        left = client.connect(("10.0.1.2", 90))
        other = client.connect(("10.0.1.2", 90))
        halves = [l.accept()[0] for _ in range(2)]
        left.close()  # the server does not close: CLOSE-WAIT
        port, stays = halves[0].getpeername()[1], other.getsockname()[1]
        live.wait_until(lambda: ctl("list", "--state=close_wait").returncode == FOUND, "close_wait")
        p = ctl("list", "--state=close_wait")
        tap.ok(re.search(rf"\n10\.0\.1\.1:{port} > 10\.0\.1\.2:90 +fin_wait_2/close_wait ", p.stdout) and
               p.stdout.count("\n") == 2, "list --state: the connection whose program does not close", p.stdout)
        p = ctl("list", "--port=90", "--by=state")
        tap.ok({tuple(line.split()[:2]) for line in p.stdout.splitlines()[1:]} ==
               {("fin_wait_2/close_wait", "1"), ("established/established", "1")}, "list --by state", p.stdout)
        p = ctl("list", "--port=90", "--sort=newest", "--limit=1", "--json")
        tap.ok(json.loads(p.stdout)["src_port"] == stays and "1 of 2" in p.stderr,
               "list --sort --limit --json: the first row, and how many there are", p)
        p = ctl("show", f"10.0.1.1:{stays},10.0.1.2:90")
        tap.ok(p.returncode == FOUND and "IS OPEN     established/established" in p.stdout,
               "show: an open connection, by both ends", p.stdout)
        tap.equal(ctl("list", "--port=90", "--older=1h").returncode, NOTHING, "list: nothing found is 1")
        status = ctl("status")
        tap.ok(re.search(r"\n +1  fin_wait_2/close_wait\n", status.stdout) and status.stdout.count("\n") <= 14,
               "status: on one screen, with the states", status.stdout)
        for s in (other, *halves):
            s.close()


def daemon(ctl, d):
    with live.Subscriber(d.path).s:
        p = ctl("subscribers")
        tap.ok("everything" in p.stdout and "root" in p.stdout, "subscribers: who, and what", p.stdout)
    tap.equal(ctl("subscribers", "--losing").returncode, NOTHING, "nobody loses events")
    p = ctl("doctor")
    tap.ok(p.returncode == FOUND and "veth-b is up" in p.stdout and "without any capability" in p.stdout,
           "doctor: all is well", p.stdout)
    status = json.loads(ctl("status", "--json").stdout)
    tap.equal(status["pid"], d.p.pid, "status --json: the daemon's answer")


def mistakes(ctl, d):
    for args, words in ((["watch", "--prot=3"], "did you mean --port?"),
                        (["wtch"], "did you mean watch?"),
                        (["watch", "-w", "tcp.reason == 'fim'"], "--where, character 15: "),
                        (["watch", "--fields=src_port,tcp.raeson"], "did you mean tcp.reason?"),
                        (["watch", "--port=http"], "'http' is not a port"),
                        (["watch", "--net=10.0.0.0"], "is not a network"),
                        (["watch", "--state=open"], "is not one of "),
                        (["watch", "--slow=soon"], "is not a time"),
                        (["watch", "more"], "is too much"),
                        (["list", "--limit=0"], "is not a number above 0"),
                        (["show"], "FLOW is missing")):
        p = ctl(*args)
        tap.ok(p.returncode == USAGE and words in p.stderr and p.stdout == "" and p.stderr.count("\n") == 1,
               f"{' '.join(args)}: one line says what is wrong, status 2", p)
    p = subprocess.run([CTL, "status", "--socket=/nonexistent/events.sock"], stderr=subprocess.PIPE, text=True)
    tap.ok(p.returncode == NO_DAEMON and "does not exist" in p.stderr and "synfind" in p.stderr.split(":", 2)[2],
           "no socket: status 3, and how to start the daemon", p)
    os.chmod(d.path, 0o600)
    for_all = shutil.copy(CTL, d.tmp)  # the tree can be in a folder that only root may enter
    p = subprocess.run([for_all, "watch", f"--socket={d.path}"], stderr=subprocess.PIPE, text=True, user=NOBODY,
                       group=NOBODY, extra_groups=[])
    tap.ok(p.returncode == NO_DAEMON and "no permission to open" in p.stderr and "sudo" in p.stderr,
           "no permission: status 3, and who may", p)
    for command in ("watch", "list", "show", "replay", "status", "subscribers", "doctor", "completion"):
        p = ctl(command, "--help")
        tap.ok(p.returncode == FOUND and "\nExamples:\n" in p.stdout and
               max(map(len, p.stdout.splitlines())) <= 100, f"{command} --help has examples", p.stdout)


def pipes(d, client):
    """The reader goes away: the command ends, though nothing comes any more."""
    w = Watch(d)
    refused(client, ("10.0.1.2", 81))
    w.line()
    w.p.stdout.close()
    tap.ok(w.p.wait(timeout=live.DEADLINE) in (FOUND, -signal.SIGPIPE), "a closed pipe ends watch at once",
           w.p.returncode)
    w.p.stderr.close()


def again(client, server, tmp):
    """The daemon ends and is started anew; the watcher waits, and misses nothing."""
    d = live.Synfind(server, "veth-b", tmp=tmp)
    cursor = os.path.join(tmp, "cursor")
    w = Watch(d, f"--cursor-file={cursor}", "--failed", "--fields=src_port")
    ports = [refused(client, ("10.0.1.2", 81))]
    got = [w.line().strip()]
    d.stop(signal.SIGKILL)
    w.p.stderr.readline()
    d = live.Synfind(server, "veth-b", tmp=tmp)
    ports.append(refused(client, ("10.0.1.2", 81)))
    got.append(w.line().strip())
    status, _, err = w.end()
    tap.ok(status == FOUND and got == [str(p) for p in ports] and "synfind is back" in err,
           "watch survives the end of the daemon: it waits, says so, and continues", got, ports, err)
    ports = [refused(client, ("10.0.1.2", 81)) for _ in range(3)]
    p = Ctl(d)("watch", f"--cursor-file={cursor}", "--failed", "--fields=src_port", "--limit=3")
    tap.equal(p.stdout.split(), [str(p) for p in ports], "--cursor-file: what came between two runs is not missed")
    tap.equal(d.stop(), 0, "the daemon ends with status 0")


def killed(server, tmp):
    """The watcher is killed at random; with --cursor-file the joined output has every event."""
    d = live.Synfind(server, "lo", tmp=tmp)
    observer = d.subscribe()
    ctl = Ctl(d)
    out, cursor = os.path.join(tmp, "out"), os.path.join(tmp, "cursor.killed")
    rng = random.Random(int(os.environ.get("SEED", "15")))
    ends = 0
    with open(out, "wb") as f:
        for _ in range(KILLS):
            p = subprocess.Popen([CTL, "watch", "--events", "--json", f"--cursor-file={cursor}", f"--socket={d.path}"],
                                 stdout=f, stderr=subprocess.DEVNULL, preexec_fn=live.die_with_parent)
            live.wait_until(lambda: '"connected":2' in ctl("status", "--json").stdout, "the watcher")
            size = os.path.getsize(out)
            live.traffic(server, rng.randrange(1, 30))
            live.wait_until(lambda: os.path.getsize(out) > size or p.poll() is not None, "some output")
            live.traffic(server, rng.randrange(0, 30))
            p.kill()
            ends += p.wait(timeout=live.DEADLINE) == -signal.SIGKILL
        live.traffic(server, 1, port=4321)
        last = observer.wait_for("tcp_close", dest_port=4321)
        p = subprocess.Popen([CTL, "watch", "--events", "--json", f"--cursor-file={cursor}", f"--socket={d.path}"],
                             stdout=f, preexec_fn=live.die_with_parent)
        def whole():
            with open(out, "rb") as g:
                return [x for x in g.read().split(b"\n") if x]
        live.wait_until(lambda: any(b'"dest_port":4321' in x and b"tcp_close" in x for x in whole()), "the last event")
        p.send_signal(signal.SIGINT)
        tap.equal(p.wait(timeout=live.DEADLINE), FOUND, "the last watcher ends with status 0")
    got, cut = {}, 0
    for x in whole():
        try:
            e = json.loads(x)
            got[e["seq"]] = e["event_type"]
        except ValueError:
            cut += 1  # a kill within a line
    first = min(got)
    want = {e["seq"]: e["event_type"] for e in observer.events
            if first <= e["seq"] <= last["seq"] and e["event_type"] not in ("hello", "stats")}
    tap.ok(ends == KILLS and len(want) > 5 * KILLS, f"{KILLS} kills, {len(want)} events", ends, cut)
    tap.equal({s: k for s, k in want.items() if got.get(s) != k}, {}, "no event is missing in the joined output")
    d.stop()


def hostile(tmp):
    """Saved lines of anybody: nothing that controls a terminal gets out."""
    path = os.path.join(tmp, "lines")
    bad = "\\u001b]0;x\\u0007\\u009b31m\u202e\x7f\u0085"
    lines = [json.dumps({"event_type": "tcp_close"}), "[]", "nonsense", "{" * 100000,
             f'{{"event_type":"tcp_close","timestamp":"{bad}","in_iface":"{bad}","src_ip":"{bad}","dest_ip":"{bad}",'
             f'"src_port":-1,"tcp":{{"reason":"{bad}","client_state":"{bad}"}},"flow":{{"age_ns":1e300}}}}',
             f'{{"event_type":"{bad}","tcp":[],"flow":7}}', f'{{"event_type":"lost","reason":"{bad}","count":"x"}}',
             f'{{"event_type":"error","error":"{bad}"}}', '{"event_type":"stats","decoders":[1,[],{}]}',
             '{"event_type":"tcp_state","tcp":{"client_state":"' + "x" * 100000 + '"}}', "x" * (3 << 20)]
    with open(path, "w") as f:
        f.write("\n".join(lines))
    for flags in ([], ["--fields=in_iface,src_ip,tcp.reason"], ["--time=delta"]):
        p = subprocess.run([CTL, "replay", path, *flags], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        tap.ok(p.returncode in (FOUND, NOTHING) and not CONTROLS.search(p.stdout) and "\u202e" not in p.stdout and
               "not JSON: skipped" in p.stderr, f"hostile lines {flags}: no control character is printed", p)
    master, slave = pty.openpty()
    p = subprocess.Popen([CTL, "replay", path, "--json"], stdout=slave, stderr=subprocess.DEVNULL)
    os.close(slave)
    out = b""
    try:
        while data := os.read(master, 65536):
            out += data
    except OSError:
        pass
    p.wait(timeout=live.DEADLINE)
    os.close(master)
    tap.ok(len(out) > 1000 and b"\x7f" not in out and b"\xc2\x85" not in out and b"\x1b" not in out,
           "--json on a terminal: what JSON may have raw is escaped", out[:200])


def completion():
    script = subprocess.run([CTL, "completion", "bash"], stdout=subprocess.PIPE, text=True, check=True).stdout
    ask = """
COMP_WORDS=(synfinctl %s); COMP_CWORD=$((${#COMP_WORDS[@]} - 1)); compopt() { :; }
_synfinctl; echo "${COMPREPLY[@]}"
"""
    for words, want in (("wat", "watch"), ("list --st", "--state="), ("list --by =", "state server"),
                        ("watch --state = close_", "close_wait"), ("completion z", "zsh")):
        p = subprocess.run(["bash", "-c", script + ask % words], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                           text=True)
        tap.ok(want in p.stdout and "rror" not in p.stdout, f"bash completes: {words}", p.stdout)


def documented():
    """Every command in README, docs and --help is accepted: without a daemon, or the file, it ends for that reason."""
    texts = [open(os.path.join(live.ROOT, "README.md")).read()]
    docs = os.path.join(live.ROOT, "docs")
    texts += [open(os.path.join(docs, f)).read() for f in sorted(os.listdir(docs)) if f.endswith(".md")]
    names = [line.split()[0] for line in subprocess.run([CTL, "--help"], stdout=subprocess.PIPE, text=True).stdout
             .splitlines() if re.match("  [a-z]+ +[A-Z]", line)]
    texts += [subprocess.run([CTL, n, "--help"], stdout=subprocess.PIPE, text=True).stdout for n in names]
    commands = set()
    for text in texts:
        for c in re.findall(r"(?:^ +(?:\$ )?|`)(synfinctl [a-z][^`\n]*)", text, re.M):
            c = re.split(r"   +|  [a-z]| \| | > /", c)[0].strip()
            if "FLOW" not in c and "..." not in c and "COMMAND" not in c:
                commands.add(c)
    wrong = {}
    for c in sorted(commands):
        args = shlex.split(c)[1:]
        if args[0] in ("completion",) or args == ["watch"]:
            continue
        if args[0] not in ("replay",) and "--read" not in args and not (args[0] == "report" and len(args) > 1 and
                                                                         args[1][0] != "-"):
            args.append("--socket=/nonexistent/events.sock")
        p = subprocess.run([CTL, *args], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                           text=True, timeout=live.DEADLINE, cwd="/")
        if p.returncode not in (FOUND, NO_DAEMON, FAILED):
            wrong[c] = p.stderr
    tap.ok(len(commands) > 30 and not wrong, f"{len(commands)} commands in the docs and --help are accepted", wrong)


def main():
    live.need("ip", "bash")
    tmp = live.tmpdir()
    client, server = live.veth_pair()
    d = live.Synfind(server, "veth-b")
    ctl = Ctl(d)
    flow = (None,) * 3
    with live.guarded("watch"):
        flow = watch(client, server, d)
    for part, args in ((past, (ctl, flow[0], flow[1])), (open_now, (ctl, client, server)), (daemon, (ctl, d)),
                       (pipes, (d, client)), (mistakes, (ctl, d))):
        with live.guarded(part.__name__):
            part(*args)
    tap.equal(d.stop(), 0, "the daemon ends with status 0")
    with live.guarded("again"):
        again(client, server, tmp)
    with live.guarded("killed"):
        killed(server, live.tmpdir())
    with live.guarded("hostile"):
        hostile(tmp)
    with live.guarded("completion"):
        completion()
    with live.guarded("documented"):
        documented()
    tap.done()


main()
