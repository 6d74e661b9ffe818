#!/usr/bin/python3
"""The control socket: framing, every method, hostile callers, who may ask, restarts."""
import contextlib
import json
import os
import re
import signal
import socket
import stat
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../support"))
import events
import fdstore
import live
import tap

ALICE, BOB = 70001, 70002  # no names: nobody has an account for a test
CONTROL = "io.synfind.Control"
SERVICE = "org.varlink.service"
STATUS = b'{"method":"io.synfind.Control.Status"}'
INFO = b'{"method":"org.varlink.service.GetInfo"}'
CALL_MAX = 64 << 10


def control_of(d):
    return os.path.join(os.path.dirname(d.path), "control.sock")


class Client:
    """A connection, with octets as they are."""

    def __init__(self, path, user=None):
        self.s = socket.socket(socket.AF_UNIX)
        self.s.settimeout(live.DEADLINE)
        if user:
            live.connect_as(self.s, path, user, user)
        else:
            self.s.connect(path)
        self.rest = b""

    def send(self, octets):
        self.s.sendall(octets)
        return self

    def reply(self, end=b"\0"):
        """The next reply, which ends like that; None at the end of the connection."""
        while end not in self.rest:
            try:
                data = self.s.recv(1 << 20)
            except ConnectionResetError:
                data = b""
            if not data:
                return None
            self.rest += data
        one, self.rest = self.rest.split(end, 1)
        return json.loads(one)

    def ended(self):
        """The other side closes it, and sends nothing more."""
        with contextlib.suppress(ConnectionResetError):
            while data := self.s.recv(1 << 20):
                self.rest += data
        return not self.rest.strip(b"\0\n")

    def call(self, method, parameters=None, **flags):
        self.send(json.dumps({"method": method, "parameters": parameters or {}, **flags}).encode() + b"\0")
        return self.reply()

    def ask(self, method, **parameters):
        """The parameters of the one reply."""
        reply = self.call(f"{CONTROL}.{method}", parameters)
        if "error" in reply or reply.get("continues"):
            raise RuntimeError(f"{method}: {reply}")
        return reply["parameters"]

    def error(self, method, **parameters):
        """The error, without the name of its interface, and its parameters."""
        reply = self.call(method, parameters)
        return reply.get("error", "").rpartition(".")[2], reply["parameters"]

    def works(self):
        return self.call(f"{SERVICE}.GetInfo")["parameters"]["product"] == "synfind"

    def close(self):
        self.s.close()


def resident(d):
    with open(f"/proc/{d.p.pid}/statm") as f:
        return int(f.read().split()[1]) * os.sysconf("SC_PAGESIZE")


# ---- framing ----

def framing(ns, d):
    path = control_of(d)
    c = Client(path)
    tap.equal(c.send(INFO + b"\0").reply()["parameters"]["product"], "synfind",
              "a call that ends with a NUL gets a reply that ends with a NUL")
    tap.equal(c.send(INFO + b"\n").reply(b"\n")["parameters"]["product"], "synfind",
              "with a newline, one that ends with a newline")
    tap.equal(c.rest, b"", "and nothing after it")
    pretty = json.dumps(json.loads(INFO), indent=2).encode()
    tap.ok(c.send(pretty + b"\0").reply() and c.send(pretty + b"\n").reply(b"\n"),
           "newlines within the brackets end nothing")
    tap.ok(c.send(INFO + b"\n\0").reply(), "of a newline and a NUL, the NUL counts")
    c.send(b"\0\n\n \0" + INFO + b"\0" + INFO + b"\n" + STATUS + b"\0" + b"\n" + INFO + b"\0")
    got = [c.reply(), c.reply(b"\n"), c.reply(), c.reply()]
    tap.equal(["run_id" in r["parameters"] for r in got], [False, False, True, False],
              "several calls in one write are answered in order; empty ones are skipped")
    for octet in STATUS + b"\0":
        c.send(bytes([octet]))
    tap.ok("run_id" in c.reply()["parameters"], "a call may come octet by octet")
    c.send(STATUS[:20])
    other = Client(path)
    tap.ok(other.works(), "half a call holds up nobody else")
    tap.ok("run_id" in c.send(STATUS[20:] + b"\0").reply()["parameters"], "and is answered when it is whole")
    other.send(STATUS + b"\0" + STATUS[:20])
    other.s.shutdown(socket.SHUT_WR)
    tap.ok("run_id" in other.reply()["parameters"], "whoever ends its output gets what it asked for")
    tap.equal((other.reply()["error"], other.ended()), (f"{CONTROL}.InvalidCall", True),
              "half a call at the end is an error")
    text = ns.run("sh", "-c", f"echo '{STATUS.decode()}' | socat -t5 - UNIX-CONNECT:{path} | jq -r .parameters.mode")
    tap.equal(text, "all\n", "socat and jq are a client")
    c.close()


def wrong_calls(ns, d):
    c = Client(control_of(d))
    for what, octets, why in (
            ("no JSON", b"hello", "octet 5: "),
            ("an open bracket", b'{"method":"x"', "octet "),
            ("a string that does not end", b'{"method":"x', "octet "),
            ("invalid UTF-8", b'{"method":"\xff\xfe"}', "octet "),
            ("a NUL in a string", b'{"method":"a\\u0000b"}', "octet "),
            ("10,000 brackets", b"[" * 10000, "octet "),
            ("a member twice", b'{"method":"a.b","method":"a.b"}', "octet "),
            ("an array", b"[1]", "a call is an object"),
            ("no method", b"{}", '"method" is not a string'),
            ("a method that is a number", b'{"method":1}', '"method" is not a string'),
            ("parameters that are none", b'{"method":"a.b","parameters":[]}', '"parameters" is not'),
            ("flags that are none", b'{"method":"a.b","more":1}', "is not a boolean"),
            ("an upgrade", b'{"method":"a.b","upgrade":true}', '"upgrade" is not supported'),
            ("more and oneway", b'{"method":"a.b","more":true,"oneway":true}', "exclude each other")):
        reply = c.send(octets + b"\0").reply()
        tap.ok(reply["error"] == f"{CONTROL}.InvalidCall" and why in reply["parameters"]["message"],
               f"{what}: the reply says so", reply)
    tap.ok(c.works(), "after all of these the connection works")
    tap.equal(c.send(b"hello\n").reply(b"\n")["error"], f"{CONTROL}.InvalidCall",
              "a line that is wrong gets a line")
    tap.equal(c.error(f"{CONTROL}.Nothing"), ("MethodNotFound", {"method": f"{CONTROL}.Nothing"}),
              "a method that there is not")
    tap.equal(c.error("io.other.Thing.Do"), ("InterfaceNotFound", {"interface": "io.other.Thing"}),
              "an interface that there is not")
    tap.equal([c.error("Status")[0], c.error("")[0]], ["MethodNotFound"] * 2, "a method without interface")
    tap.equal(c.error(f"{SERVICE}.GetInterfaceDescription", interface="io.other"),
              ("InterfaceNotFound", {"interface": "io.other"}), "no description of another interface")
    for method, parameters, wrong in (("Status", {"x": 1}, "x"), ("Subscribers", {"limit": 0}, "limit"),
                                      ("Subscribers", {"limit": 101}, "limit"),
                                      ("Subscribers", {"limit": "1"}, "limit"),
                                      ("Subscribers", {"after": -1}, "after"),
                                      ("Subscribers", {"after": 1.5}, "after")):
        tap.equal(c.error(f"{CONTROL}.{method}", **parameters), ("InvalidParameter", {"parameter": wrong}),
                  f"{method}: {parameters} is refused by name")
    c.close()


def long_calls(ns, d):
    path = control_of(d)
    c = Client(path)
    call = INFO[:-1] + b"," + b" " * (CALL_MAX - len(INFO) - 7) + b'"x":1}'
    assert len(call) + 1 == CALL_MAX
    tap.ok("error" not in c.send(call + b"\0").reply(), "a call of 64 KiB is answered")
    before = resident(d)
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        c.send(b'{"method":"' + b"x" * (10 << 20))
    reply = c.reply(b"\n")
    tap.equal((reply["error"], c.ended()), (f"{CONTROL}.CallTooLong", True),
              "10 MB without an end: an error, and the end of the connection")
    bound = 1 << (24 if "address" in live.SYNFIND else 20)
    tap.ok(resident(d) - before < bound, "and no memory", resident(d) - before)


# ---- methods ----

def introspection(ns, d):
    c = Client(control_of(d))
    info = c.call(f"{SERVICE}.GetInfo")["parameters"]
    tap.equal(info["interfaces"], [SERVICE, CONTROL], "GetInfo names the interfaces")
    tap.ok(set(info) == {"vendor", "product", "version", "url", "interfaces"}, "and the rest", info)
    texts = {i: c.call(f"{SERVICE}.GetInterfaceDescription", {"interface": i})["parameters"]["description"]
             for i in info["interfaces"]}
    tap.ok(all(re.search(rf"^interface {re.escape(i)}$", t, re.M) for i, t in texts.items()),
           "each has a description")
    with open(os.path.join(live.ROOT, "docs/man/synfind-control.7")) as f:
        manual = f.read()
    names = re.findall(r"^(?:method|error) (\w+)", texts[CONTROL], re.M)
    names += re.findall(r"^  (\w+):", texts[CONTROL], re.M)
    tap.equal([n for n in names if not re.search(rf"\b{n}\b", manual)], [],
              "synfind-control(7) has every method, error and member")
    for name in set(re.findall(r"^method (\w+)", texts[CONTROL], re.M)) - {"Connection"}:
        tap.ok("error" not in c.call(f"{CONTROL}.{name}"), f"{name} answers")
    c.close()


def status(ns, d):
    sub = d.subscribe()
    c = Client(control_of(d))
    before = c.ask("Status")
    hello = sub.events[0]
    tap.equal({k: before[k] for k in ("version", "schema", "run_id", "host", "boot_id", "mode")},
              {k: hello[k] for k in ("version", "schema", "run_id", "host", "boot_id", "mode")},
              "Status: what the hello says")
    tap.equal((before["pid"], before["subscribers"]["connected"]), (d.p.pid, 1), "process and subscribers")
    with ns.listen(("127.0.0.1", 80)) as l:
        s = ns.connect(("127.0.0.1", 80))
        served = l.accept()[0]
        sub.wait_for("tcp_established", dest_port=80)
        now = live.wait_until(lambda: (lambda x: x["total"]["open"] and x)(c.ask("Status")), "a connection")
        lo = [i for i in now["interfaces"] if i["name"] == "lo"][0]
        tap.equal((lo["state"], lo["decoders"], lo["counts"]["open"], lo["counts"]["half_open"]),
                  ("up", 1, 1, 0), "an interface with its open connection")
        tap.equal(now["states"], [{"client": "established", "server": "established", "connections": 1}],
                  "the states of open connections")
        s.close()
        served.close()
    close = sub.wait_for("tcp_close", dest_port=80)
    # The kernel is asked for its counts once in a while.
    live.wait_until(lambda: c.ask("Status")["total"]["packets"] >= before["total"]["packets"] + 6, "packets")
    end = c.ask("Status")
    tap.ok(end["total"]["lost"] == 0 and end["seq"] >= close["seq"] and
           end["total"]["events"] >= before["total"]["events"] + 6, "counts move", before, end)
    tap.ok(end["uptime_ns"] > before["uptime_ns"] and end["started"] == before["started"] <= end["time"],
           "uptime", end)
    memory, limits = end["memory"], end["limits"]
    tap.ok(memory["queue"] == 16 << 20 and memory["rings"] == 64 << 20 and memory["tables"] > 100 << 20 and
           1 << 20 < memory["resident"] < memory["tables"] + memory["rings"] + memory["queue"] + (64 << 20),
           "memory", memory)
    tap.equal(limits, {"max_connections": 1048576, "max_half_open": 65536, "max_subscribers": 256,
                       "max_subscribers_per_uid": 64}, "limits")
    rates = live.wait_until(lambda: (lambda t: t if "packets_per_second" in t else None)(
        c.ask("Status")["total"]), "rates")
    tap.ok(rates["packets_per_second"] < 1000 and "events_per_second" in rates, "rates, after 10 s", rates)
    ns.ip("link set lo down")
    sub.wait_for("iface", in_iface="lo", state="down")
    tap.equal(c.ask("Status")["interfaces"][0]["state"], "down", "an interface that is down")
    ns.ip("link set lo up")
    sub.wait_for("iface", in_iface="lo", state="up")
    sub.close()
    c.close()


def subscribers(ns, d):
    c = Client(control_of(d))
    live.wait_until(lambda: not c.ask("Subscribers")["subscribers"], "no subscriber")
    subs = [d.subscribe() for _ in range(3)]
    bob = d.subscribe(user=(BOB, BOB))
    rows = c.ask("Subscribers")["subscribers"]
    tap.equal([r["id"] for r in rows], [0, 1, 2, 3], "Subscribers: all, by id")
    first, last = rows[0], rows[3]
    tap.equal((first["pid"], first["uid"], first["user"], first["pseudonyms"], first["lost"]),
              (os.getpid(), 0, "root", False, 0), "with process and user")
    tap.ok(last["uid"] == BOB and "user" not in last, "a user without a name has none", last)
    with open("/proc/self/comm") as f:
        tap.equal(first.get("program"), f.read().strip(), "and the program, where /proc shows it")
    tap.equal([r["behind_octets"] for r in rows], [0] * 4, "none is behind")
    pages, after = [], {}
    while True:
        page = c.ask("Subscribers", limit=3, **after)
        pages.append([r["id"] for r in page["subscribers"]])
        if "next" not in page:
            break
        after = {"after": page["next"]}
    tap.equal(pages, [[0, 1, 2], [3]], "in pages")
    tap.equal(c.ask("Subscribers", after=3), {"subscribers": []}, "beyond the last there is none")
    replies = [c.call(f"{CONTROL}.Subscribers", {"limit": 1}, more=True)]
    while replies[-1].get("continues"):
        replies.append(c.reply())
    tap.equal([(r["parameters"]["subscribers"][0]["id"], r.get("continues", False)) for r in replies],
              [(0, True), (1, True), (2, True), (3, False)], "more: page after page, and the last one says so")
    c.send(b'{"method":"io.synfind.Control.Subscribers","parameters":{"limit":1},"more":true}\n' + INFO + b"\0")
    got = [c.reply(b"\n") for _ in range(4)]
    tap.ok(not got[3].get("continues") and "vendor" in c.reply()["parameters"],
           "the next call is answered after the last page")
    c.send(b'{"method":"io.synfind.Control.Status","oneway":true}\0' + INFO + b"\0")
    tap.ok("vendor" in c.reply()["parameters"], "oneway: no reply")
    tap.equal([(r["policy"], "events" in r, "where" in r) for r in rows], [("drop_oldest", False, False)] * 4,
              "who did not choose gets everything")
    some = chooser(d, {"events": ["tcp_close"], "where": "dest_port == 443", "policy": "disconnect"}, 0)
    row = c.ask("Subscribers", after=3)["subscribers"][0]
    tap.equal((set(row["events"]) - {"iface", "stats", "restart", "lost"}, row["where"], row["policy"]),
              ({"tcp_close"}, "dest_port == 443", "disconnect"), "who did is shown with events, expression, policy")
    tap.ok("segments" not in row, "without segments")
    some.close()
    wanted = [{"net": "10.0.0.7", "port": 443}, {"net": "2001:db8::/32"}, {"port": 80}]
    some = chooser(d, {"segments": wanted}, 0)
    tap.equal(c.ask("Subscribers", after=3)["subscribers"][0]["segments"], wanted,
              "who asked for segments is shown with the endpoints, as the request has them")
    some.close()
    # One that does not read falls behind what its socket takes.
    sleeper = subs[0]
    with ns.listen(("127.0.0.1", 81)) as l:
        def behind():
            for _ in range(50):
                s = ns.connect(("127.0.0.1", 81))
                l.accept()[0].close()
                s.close()
            for s in subs[1:] + [bob]:
                s.read()
            return c.ask("Subscribers", limit=1)["subscribers"][0]["behind_lines"] > 50
        live.wait_until(behind, "a subscriber to be behind")
    row = c.ask("Subscribers", limit=1)["subscribers"][0]
    tap.ok(row["behind_octets"] > 100 * row["behind_lines"], "who does not read is behind, in octets and lines", row)
    while c.ask("Subscribers", limit=1)["subscribers"][0]["behind_octets"]:
        sleeper.read()
    tap.ok(not sleeper.checker.errors, "and when it has read on, it is not", sleeper.checker.errors)
    for s in subs + [bob]:
        s.close()
    c.close()


def config(ns):
    tmp = live.tmpdir()
    path = os.path.join(tmp, "conf")
    key = os.path.join(tmp, "key")
    secret = b"a-very-secret-key-of-32-octets!!"
    with open(key, "wb") as f:
        f.write(secret)
    os.chmod(key, 0o600)
    text = f"[events]\nmax-subscribers = 9\nallow-user = 0\nallow-user = {ALICE}\npseudonym-key-file = {key}\n"
    live.replace(path, text + "queue-size = 1M\n")
    d = live.Synfind(ns, "lo", f"--config={path}", "--stuck-after=5min,1h")
    c = Client(control_of(d))

    def options():
        answer = c.call(f"{CONTROL}.Config")
        return answer, {o["name"]: o for o in answer["parameters"]["options"]}

    answer, got = options()
    tap.equal(answer["parameters"]["file"], path, "Config: the file")
    tap.equal(got["max-subscribers"], {"name": "max-subscribers", "value": "9", "source": "file", "line": 2,
                                       "reload": "live"}, "a value of the file, with its line")
    tap.equal((got["interface"]["value"], got["interface"]["source"]), ("lo", "flag"), "one of the command line")
    tap.equal((got["ring-size"]["value"], got["ring-size"]["source"], got["ring-size"]["reload"]),
              ("64M", "default", "rings"), "one by default")
    tap.equal([got[n]["value"] for n in ("allow-user", "stuck-after", "mode", "socket-mode", "icmp",
                                         "community-id", "socket-group", "block-timeout")],
              [f"0,{ALICE}", "5min,1h", "all", "0660", "yes", "open-close", "", "2ms"],
              "values as they are written: lists, times, words, modes")
    tap.ok(got["allow-user"]["line"] == 4, "of a list, the last line", got["allow-user"])
    octets = json.dumps(answer).encode()
    tap.ok(key.encode() in octets and secret not in octets and b"secret" not in octets,
           "the name of a key file, not what is in it")
    live.replace(path, "\n" + text.replace("= 9", "= 8") + "queue-size = 2M\n")
    before = d.stderr().count("Configuration read again")
    d.p.send_signal(signal.SIGHUP)
    live.wait_until(lambda: d.stderr().count("Configuration read again") > before, "the reload")
    _, got = options()
    tap.equal([(got[n]["value"], got[n]["line"]) for n in ("max-subscribers", "queue-size")],
              [("8", 3), ("1M", 6)], "after a reload: what is in force, and the line it came from")
    d.stop()


# ---- connections ----

class Conversations:
    """Connections over loopback to one port, in the order in which they were opened."""

    def __init__(self, ns, port, n):
        self.port, self.pairs = port, []
        with ns.listen(("127.0.0.1", port)) as l:
            for _ in range(n):
                c = ns.connect(("127.0.0.1", port))
                self.pairs.append((c, l.accept()[0]))

    def ports(self):
        return [c.getsockname()[1] for c, _ in self.pairs]

    def say(self, i, octets):
        c, s = self.pairs[i]
        c.sendall(bytes(octets))
        while octets:
            octets -= len(s.recv(octets))

    def close(self, *which):
        for i in which or range(len(self.pairs)):
            for s in self.pairs[i]:
                s.close()


def ports(answer):
    return [row["src_port"] for row in answer["connections"]]


def stream(c, method, **parameters):
    """All replies to a call with more; the last one has no continues."""
    replies = [c.call(f"{CONTROL}.{method}", parameters, more=True)]
    while replies[-1].get("continues"):
        replies.append(c.reply())
    return [r["parameters"] for r in replies]


def connections(ns):
    d = live.Synfind(ns, "lo", queue_size="64K")
    c = Client(control_of(d))
    tap.equal(c.ask("Connections"), {"connections": [], "matched": 0}, "Connections: none is open")
    sub = d.subscribe()
    few, many = Conversations(ns, 80, 3), Conversations(ns, 8080, 247)
    every = few.ports() + many.ports()
    live.wait_until(lambda: c.ask("Connections", limit=0)["matched"] == 250, "250 open connections")
    tap.equal(c.ask("Connections", limit=0)["connections"], [], "limit 0: only how many")
    some = c.ask("Connections")
    tap.ok(len(set(ports(some))) == 100 and set(ports(some)) < set(every), "by default 100 of them")
    pages = stream(c, "Connections", limit=10000)
    tap.equal([len(p["connections"]) for p in pages], [100, 100, 50], "more: all of them, 100 a reply")
    tap.equal(sorted(x for p in pages for x in ports(p)), sorted(every), "each once")
    wrong = [events.validators().problem({**row, "seq": 1}) for p in pages for row in p["connections"]]
    tap.equal([w for w in wrong if w], [], "each is a snapshot of the schema, but for its seq")
    tap.equal(ports(c.ask("Connections", order="oldest", limit=9)), every[:9], "the oldest first")
    tap.equal(ports(c.ask("Connections", order="newest", limit=9)), every[:-10:-1], "the newest first")
    tap.equal([x for p in stream(c, "Connections", order="oldest", limit=250) for x in ports(p)], every,
              "all of them in order")
    for i, octets in ((3, 9000), (200, 5000), (77, 7000)):
        many.say(i, octets)
    big = [many.ports()[i] for i in (3, 77, 200)]
    live.wait_until(lambda: ports(c.ask("Connections", order="bytes", limit=3)) == big, "their octets")
    tap.ok(True, "those with the most bytes first")
    few.say(0, 1)
    live.wait_until(lambda: ports(c.ask("Connections", order="idle", limit=2)) == every[1:3], "a sign of life")
    tap.ok(True, "those idle for longest first")
    chosen = c.ask("Connections", where="dest_port == 80 && flow.payload_toserver == 1")
    tap.equal((ports(chosen), chosen["matched"]), (every[:1], 1), "where: those that hold")
    tap.equal(c.ask("Connections", where="src_ip == '127.0.0.1' && dest_port != 80", order="oldest",
                    limit=5)["matched"], 247, "with an order, matched counts all that hold")
    row = chosen["connections"][0]
    tap.equal(row["tcp"]["client_state"], "established", "with both states")
    error = c.error(f"{CONTROL}.Connections", where="dest_port == 80 && dest_prt == 1")
    tap.ok(error[0] == "InvalidExpression" and error[1]["at"] == 20 and "dest_port" in error[1]["message"],
           "a wrong expression: which character, and what it may mean", error)
    for parameters, wrong in (({"limit": 101}, "limit"), ({"limit": -1}, "limit"), ({"order": "age"}, "order"),
                              ({"order": 1}, "order"), ({"where": 1}, "where")):
        tap.equal(c.error(f"{CONTROL}.Connections", **parameters), ("InvalidParameter", {"parameter": wrong}),
                  f"{parameters} is refused by name")
    one_of_them(ns, d, c, sub, few, row)
    many.close()
    live.wait_until(lambda: c.ask("Connections", limit=0)["matched"] == 3, "the others to close")
    tap.equal(sorted(ports(c.ask("Connections"))), sorted(few.ports()), "what is closed is not listed")
    few.close()
    c.close()
    sub.close()
    tap.equal(d.stop(), 0, "status 0")


def one_of_them(ns, d, c, sub, few, row):
    flow = row["flow_id"]
    late = Conversations(ns, 81, 1)
    mine = live.wait_until(lambda: c.ask("Connections", where="dest_port == 81")["connections"], "it")[0]
    one = c.ask("Connection", flow_id=mine["flow_id"])
    tap.equal({k: one["connection"][k] for k in ("flow_id", "src_port", "dest_port")},
              {k: mine[k] for k in ("flow_id", "src_port", "dest_port")}, "Connection: by its flow_id")
    sub.wait_for("tcp_established", dest_port=81)
    tap.equal((one["events"], one["complete"]), (live.of_flow(sub.events, mine), True), "with its events so far")
    with ns.listen(("127.0.0.1", 82)) as l:  # 64K of other events
        for _ in range(60):
            live.Netns.connect(ns, ("127.0.0.1", 82)).close()
            l.accept()[0].close()
    sub.until(lambda e: sum(x["event_type"] == "tcp_close" for x in e) >= 60, "other events")
    old = c.ask("Connection", flow_id=flow)
    tap.equal((old["connection"]["flow_id"], old["events"], old["complete"]), (flow, [], False),
              "events that the queue has not any more are missing, which is said")
    late.close()
    sub.wait_for("tcp_close", dest_port=81)
    tap.equal(c.error(f"{CONTROL}.Connection", flow_id=mine["flow_id"]),
              ("NoSuchConnection", {"flow_id": mine["flow_id"]}), "one that is closed is none")
    for wrong in ("", flow[1:], flow + "0", flow.upper().replace("0", "G"), 1):
        tap.equal(c.error(f"{CONTROL}.Connection", flow_id=wrong), ("InvalidParameter", {"parameter": "flow_id"}),
                  f"flow_id {wrong!r} is refused")
    tap.equal(c.error(f"{CONTROL}.Connection"), ("InvalidParameter", {"parameter": "flow_id"}), "so is none")


def lists_at_once(ns):
    """Lists that are not read, and clients that go away in the middle."""
    d = live.Synfind(ns, "lo")
    talk = Conversations(ns, 80, 400)
    path = control_of(d)
    c = Client(path)
    live.wait_until(lambda: c.ask("Connections", limit=0)["matched"] == 400, "400 open connections")
    ask = json.dumps({"method": f"{CONTROL}.Connections", "parameters": {"limit": 10000}, "more": True}).encode()
    deaf = [Client(path).send(ask + b"\0") for _ in range(4)]
    for s in deaf:
        s.s.recv(1, socket.MSG_PEEK)  # it is being sent
    error = live.wait_until(lambda: (lambda r: r.get("error") and r)(
        c.call(f"{CONTROL}.Connections", {"limit": 1})), "the limit")
    tap.equal(error["error"], f"{CONTROL}.Busy", "four lists that nobody reads: a fifth is refused")
    tap.ok(c.ask("Status")["pid"] == d.p.pid, "other questions are answered")
    deaf.pop().close()
    live.wait_until(lambda: "parameters" in (r := c.call(f"{CONTROL}.Connections", {"limit": 1})) and "error" not in r,
                    "a place")
    for s in deaf:
        rows = []
        while True:
            reply = s.reply()
            rows += reply["parameters"]["connections"]
            if not reply.get("continues"):
                break
        tap.equal(sorted(r["src_port"] for r in rows), sorted(talk.ports()), "one that reads on gets all")
    for i in range(60):
        s = Client(path).send(ask + b"\0")
        if i % 2:
            s.s.recv(1)
        s.close()
    tap.ok(live.wait_until(lambda: (lambda r: "error" not in r and r)(c.call(f"{CONTROL}.Connections")), "a list"),
           "clients that go away in the middle of a list harm nobody")
    talk.close()
    tap.equal(d.stop(), 0, "status 0")
    tap.ok("error" not in d.stderr(), "nothing was wrong", d.stderr())


def listed_pseudonyms(ns):
    tmp = live.tmpdir()
    os.chmod(tmp, 0o711)
    d = live.Synfind(ns, "lo", tmp=tmp, socket_mode="0666", allow_user=0, pseudonymize_user=BOB)
    root, bob = Client(control_of(d)), Client(control_of(d), BOB)
    guest = d.subscribe(user=(BOB, BOB))
    talk = Conversations(ns, 80, 2)
    real = live.wait_until(lambda: (lambda r: r if len(r) == 2 else None)(
        root.ask("Connections", order="oldest")["connections"]), "both")
    seen = bob.ask("Connections", order="oldest")["connections"]
    tap.ok([r["src_port"] for r in seen] == [r["src_port"] for r in real] and
           not {r["src_ip"] for r in seen} & {"127.0.0.1"} and
           not {r["flow_id"] for r in seen} & {r["flow_id"] for r in real} and
           not {r["community_id"] for r in seen} & {r["community_id"] for r in real},
           "who sees pseudonyms gets the rows with pseudonyms", seen, real)
    tap.equal((bob.ask("Connections", where="src_ip == '127.0.0.1'")["matched"],
               bob.ask("Connections", where=f"src_ip == '{seen[0]['src_ip']}'")["matched"]), (0, 2),
              "an expression is about what is seen")
    tap.equal(bob.error(f"{CONTROL}.Connection", flow_id=real[0]["flow_id"])[0], "NoSuchConnection",
              "a real flow_id is none")
    guest.wait_for("tcp_established", dest_port=80)
    one = bob.ask("Connection", flow_id=seen[0]["flow_id"])
    tap.equal((one["connection"]["src_ip"], [e["event_type"] for e in one["events"]], one["complete"]),
              (seen[0]["src_ip"], ["tcp_open", "tcp_state", "tcp_established"], True),
              "a pseudonym finds its connection, and its events with pseudonyms")
    tap.ok("127.0.0.1" not in json.dumps(one), "and no address", one)
    talk.close()
    d.stop()


def several_decoders(ns):
    """Interfaces with several decoders each: one list."""
    left, right = live.veth_pair()
    d = live.Synfind(left, "lo,veth-a", decoders=2, ring_size="4M", max_connections=4096)
    c = Client(control_of(d))
    talk, over = Conversations(left, 80, 20), []
    with right.listen(("10.0.1.2", 80)) as l:
        for _ in range(20):
            over += [left.connect(("10.0.1.2", 80)), l.accept()[0]]
    want = talk.ports() + [s.getsockname()[1] for s in over[::2]]
    live.wait_until(lambda: c.ask("Connections", limit=0)["matched"] == 40, "40 connections")
    rows = c.ask("Connections", order="oldest")["connections"]
    tap.equal([(r["src_port"], r["in_iface"]) for r in rows],
              [(p, "lo") for p in want[:20]] + [(p, "veth-a") for p in want[20:]],
              "two interfaces with two decoders each: one order, each with its interface")
    tap.equal(c.ask("Connections", where="in_iface == 'veth-a'", limit=0)["matched"], 20, "by interface")
    tap.equal(len(c.ask("Connections", limit=30)["connections"]), 30, "a limit counts for all of them")
    left.ip("link del veth-a")
    live.wait_until(lambda: c.ask("Connections", limit=0)["matched"] == 20, "its connections to go")
    tap.ok(True, "those of an interface that is gone are not listed")
    tap.equal([i["state"] for i in c.ask("Status")["interfaces"]], ["up", "gone"], "which Status says, too")
    talk.close()
    d.stop()


# ---- who may ask, and how many ----

def permissions(ns):
    d = live.Synfind(ns, "lo", socket_mode="0640", socket_group="daemon")
    path = control_of(d)
    a, b = os.stat(path), os.stat(d.path)
    tap.equal((stat.S_IMODE(a.st_mode), a.st_gid, a.st_uid), (stat.S_IMODE(b.st_mode), b.st_gid, b.st_uid),
              "the socket has the mode and the group of the events socket")
    tap.equal((stat.S_IMODE(a.st_mode), a.st_gid), (0o640, 1), "which the options name")
    again = live.Synfind(ns, "lo", socket_path=f"{d.tmp}/other.sock", control_socket=path, wait=False)
    tap.ok(again.wait() == 1 and f"Cannot listen on '{path}'" in again.stderr() and
           "--control-socket=PATH" in again.stderr(), "a second daemon does not take it away", again.stderr())
    tap.ok(Client(path).works(), "it still answers")
    d.stop()
    tap.equal([f for f in os.listdir(d.tmp) if "sock" in f], [], "nothing is left behind")


def paths(ns):
    tmp = live.tmpdir()
    d = live.Synfind(ns, "lo", control_socket="off", tmp=tmp)
    tap.ok(not os.path.exists(control_of(d)), "off: there is none")
    d.stop()
    d = live.Synfind(ns, "lo", socket_path=f"{tmp}/other.sock", tmp=tmp)
    tap.ok(not os.path.exists(control_of(d)), "auto: none beside a socket of another name")
    d.stop()
    d = live.Synfind(ns, "lo", socket_path=f"{tmp}/other.sock", control_socket=f"{tmp}/a/c.sock", tmp=tmp)
    tap.ok(Client(f"{tmp}/a/c.sock").works(), "a path of its own, in a directory that is made")
    d.stop()
    tap.ok(not os.path.exists(f"{tmp}/a"), "and removed")


def chooser(d, request, uid):
    """A connection that has asked for events, and got its answer."""
    s = socket.socket(socket.AF_UNIX)
    s.settimeout(live.DEADLINE)
    live.connect_as(s, d.path, uid, uid)
    s.sendall(json.dumps(request).encode() + b"\n")
    got = b""
    while b'"subscribed"' not in got:
        got += s.recv(1 << 16) or b'"subscribed"'
    return s


def rights(ns):
    tmp = live.tmpdir()
    os.chmod(tmp, 0o711)
    path = os.path.join(tmp, "conf")
    live.replace(path, f"[events]\nallow-user = 0,{ALICE}\npseudonymize-user = {BOB}\n")
    d = live.Synfind(ns, "lo", f"--config={path}", tmp=tmp, socket_mode="0666")
    control = control_of(d)
    alice, bob = Client(control, ALICE), Client(control, BOB)
    tap.ok(alice.works() and bob.ask("Status")["pid"] == d.p.pid, "who may subscribe may ask")
    carol = Client(control, 70003)
    reply = carol.reply(b"\n")
    tap.equal((reply, carol.ended()), ({"error": f"{CONTROL}.Refused", "parameters": {
        "message": "this user may not read the events"}}, True), "who may not is refused, with the reason")
    tap.ok(re.search(r"Control client of user 70003 \(pid \d+\) is refused: this user may not", d.stderr()),
           "which the log says", d.stderr())
    live.replace(path, f"[events]\nallow-user = 0,{BOB}\n")
    d.p.send_signal(signal.SIGHUP)
    tap.ok(alice.ended(), "reload: who may not any more is disconnected")
    tap.ok(bob.ended(), "and who is to see something else")
    tap.ok(Client(control, BOB).works(), "and may come again")
    # Expressions have addresses.
    secret = "tcp and not host 10.9.8.7"
    live.replace(path, f"[capture]\nfilter = {secret}\n[events]\nallow-user = 0\npseudonymize-user = {BOB}\n")
    before = d.stderr().count("Configuration read again")
    d.p.send_signal(signal.SIGHUP)
    live.wait_until(lambda: d.stderr().count("Configuration read again") > before, "the reload")
    mine, his = "dest_ip == '10.9.8.7'", "src_ip == '1.2.3.4'"
    net, port = [{"net": "10.9.8.7"}], [{"port": 80}]
    subs = [chooser(d, {"where": mine, "segments": net}, 0), chooser(d, {"where": his, "segments": port}, BOB)]
    root, bob = Client(control, 0), Client(control, BOB)
    tap.equal([r.get("where") for r in root.ask("Subscribers")["subscribers"]], [mine, his],
              "who sees addresses sees what each subscriber chose")
    tap.equal([r.get("where") for r in bob.ask("Subscribers")["subscribers"]], [None, his],
              "who sees pseudonyms sees no expression with addresses")
    tap.equal([[r.get("segments") for r in x.ask("Subscribers")["subscribers"]] for x in (root, bob)],
              [[net, port], [None, port]], "nor endpoints with addresses")
    filters = [[o.get("value") for o in x.call(f"{CONTROL}.Config")["parameters"]["options"]
                if o["name"] == "filter"] for x in (root, bob)]
    tap.equal(filters, [[secret], [None]], "nor the filter of the capture, which may have some")
    for s in subs:
        s.close()
    d.stop()


def many(ns):
    tmp = live.tmpdir()
    os.chmod(tmp, 0o711)
    d = live.Synfind(ns, "lo", tmp=tmp, socket_mode="0666")
    path = control_of(d)
    clients = [Client(path, user) for user in range(71000, 71004) for _ in range(8)]
    tap.ok(all(c.works() for c in clients), "32 connections, 8 of a user")
    c = Client(path, 71000)
    tap.equal((c.reply(b"\n")["parameters"]["message"], c.ended()),
              ("this user has 8 connections already", True), "a 9th one of a user is refused, with the reason")
    c = Client(path, 71005)
    tap.equal((c.reply(b"\n")["parameters"]["message"], c.ended()),
              ("there are 32 connections already", True), "so is a 33rd")
    clients.pop().close()
    live.wait_until(lambda: (Client(path, 71005).call(f"{SERVICE}.GetInfo") or {}).get("parameters", {}).get(
        "vendor"), "a place")
    tap.ok(True, "one that leaves makes place")
    tap.ok(d.subscribe(), "subscribers have places of their own")
    for c in clients:
        c.close()
    d.stop()


def never_reads(ns):
    d = live.Synfind(ns, "lo")
    path = control_of(d)
    sub = d.subscribe()
    before = resident(d)
    deaf = [Client(path) for _ in range(4)]
    for c in deaf:
        c.s.setblocking(False)
    start = time.monotonic()

    def full():
        for c in deaf:
            with contextlib.suppress(BlockingIOError, BrokenPipeError, ConnectionResetError):
                while True:
                    c.s.send(STATUS + b"\0")
        other = Client(path)
        good = other.works()
        other.close()
        return good and time.monotonic() - start > 2

    live.wait_until(full, "their sockets to be full")
    bound = 4 << (24 if "address" in live.SYNFIND else 20)  # a sanitizer gives nothing back
    tap.ok(resident(d) - before < bound, "clients that ask and do not read: others are answered, and "
           "memory is bounded", resident(d) - before)
    told = live.exchange(ns, ns, "127.0.0.1")
    tap.ok(sub.wait_for("tcp_close", **told), "events come as before")

    def gone(c):
        try:
            while c.s.recv(1 << 20):
                pass
        except BlockingIOError:
            return False
        except ConnectionResetError:
            pass
        return True

    # Not reading before: that would be a sign of life.
    live.wait_until(lambda: time.monotonic() - start > 14, "their time to be over")
    tap.ok(all(gone(c) for c in deaf), "after 10 s they are disconnected")
    d.ends_well(sub)


def cpu_ns(d):
    """Of the main thread."""
    with open(f"/proc/{d.p.pid}/task/{d.p.pid}/schedstat") as f:
        return int(f.read().split()[0])


def pace(ns):
    """Callers in a loop: they get a tenth of the main thread, and events come as before."""
    d = live.Synfind(ns, "lo")
    sub = d.subscribe()
    path = control_of(d)
    long = b'{"method":"a.b","parameters":{' + b",".join(b'"%d":[[]]' % i for i in range(5000)) + b"}}\0"
    clients = [Client(path) for _ in range(8)]
    for c in clients:
        c.s.setblocking(False)
    queue = [long if i % 2 else (STATUS + b"\0") * 100 + b"\0" * 10000 for i in range(8)]
    left, answers = list(queue), 0
    start, before = time.monotonic(), cpu_ns(d)
    while time.monotonic() < start + 3:
        for i, c in enumerate(clients):
            with contextlib.suppress(BlockingIOError):
                while n := c.s.send(left[i]):
                    left[i] = left[i][n:] or queue[i]
            with contextlib.suppress(BlockingIOError):
                while data := c.s.recv(1 << 20):
                    answers += data.count(b"\0")
        time.sleep(0.002)
    share = (cpu_ns(d) - before) / (time.monotonic() - start) / 1e9
    tap.ok(answers > 100, "8 clients call without a pause: they are answered", answers)
    tap.ok(share < 0.25, "in a part of the main thread's time", share, answers)
    told = live.exchange(ns, ns, "127.0.0.1")
    tap.ok(sub.wait_for("tcp_close", **told), "and events come as before")
    for c in clients:
        c.close()
    d.ends_well(sub)


# ---- restarts ----

def restarts(ns):
    m = fdstore.Manager(ns, "lo")
    m.start()
    path = os.path.join(m.tmp, "control.sock")
    c = Client(path)
    run = c.ask("Status")
    inode = os.stat(path).st_ino
    for sig in (signal.SIGKILL, signal.SIGTERM):
        m.end(sig)
        tap.ok(c.ended(), f"{sig.name}: connections end with the process")
        waiting = Client(path).send(STATUS + b"\0")
        m.start()
        status = waiting.reply()["parameters"]
        tap.ok(status["run_id"] == run["run_id"] and status["pid"] == m.p.pid and
               os.stat(path).st_ino == inode, "a call made meanwhile is answered by the next one", status)
        c = waiting
    m.end(signal.SIGTERM)
    m.argv.append("--control-socket=off")
    m.start()
    c = Client(path)
    tap.equal((c.reply(b"\n")["parameters"]["message"], c.ended()), ("control-socket = off", True),
              "switched off by a restart, a socket that is kept refuses")
    m.end(signal.SIGINT)
    tap.ok(not os.path.exists(m.path), "an end for good removes the events socket")
    tap.ok("control" not in {n for n in m.names()}, "and takes the control socket out of the store", m.names())
    m.empty()


live.need("ip", "socat", "jq")
ns = live.Netns()
d = live.Synfind(ns, "lo", socket_mode="0666")
os.chmod(d.tmp, 0o711)
for step in (framing, wrong_calls, long_calls, introspection, status, subscribers):
    with live.guarded(step.__name__):
        step(ns, d)
tap.equal(d.stop(), 0, "status 0")
for step in (connections, lists_at_once, listed_pseudonyms, several_decoders, config, permissions, paths, rights, many, never_reads, pace, restarts):
    with live.guarded(step.__name__):
        step(ns)
tap.done()
