#!/usr/bin/python3
"""Requests on events.sock: each subscriber gets the events that it asks for, from where it left off."""
import json
import os
import random
import signal
import socket
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../support"))
import live
import tap
from live import closes, traffic

rng = random.Random(int(os.environ.get("SEED", "14")))


def ask(sub, request, answer="subscribed"):
    """Sends a request; returns the answer."""
    text = request if isinstance(request, bytes) else json.dumps(request).encode()
    before = sum(e["event_type"] in ("subscribed", "error") for e in sub.events)
    sub.s.sendall(text + b"\n")

    def answers(events):
        found = [e for e in events if e["event_type"] in ("subscribed", "error")]
        return found[before:]

    e = sub.until(answers, f"an answer to {text[:100]!r}")[0]
    if answer and e["event_type"] != answer:
        raise RuntimeError(f"{text[:200]!r}: {e}")
    return e


def since_answer(sub):
    """The lines after the last answer."""
    at = max(i for i, e in enumerate(sub.events) if e["event_type"] == "subscribed")
    return sub.lines[at + 1:], sub.events[at + 1:]


def choose(ns, daemon, all_):
    """Kinds and expressions, compared with a subscriber that asks for nothing."""
    wanted = {
        "kinds": ({"events": ["tcp_close", "tcp_retry"]},
                  lambda e: e["event_type"] in ("tcp_close", "tcp_retry")),
        "an expression": ({"where": "dest_port == 81"}, lambda e: e.get("dest_port") == 81),
        "both": ({"events": ["tcp_open", "tcp_close"], "where": "dest_port == 82"},
                 lambda e: e["event_type"] in ("tcp_open", "tcp_close") and e["dest_port"] == 82),
        "nothing": ({"events": []}, lambda e: False),
        "everything": ({}, lambda e: True),
    }
    subs = {name: daemon.subscribe() for name in wanted}
    answers = {name: ask(subs[name], {**wanted[name][0], "id": name}) for name in wanted}
    tap.ok(all(a["id"] == name and a["run_id"] == all_.events[0]["run_id"] and
               a["host"] == all_.events[0]["host"] for name, a in answers.items()),
           "the answer has the id of the request, run_id and host", answers)
    for _ in range(5):
        for port in (80, 81, 82):
            traffic(ns, 3, port)
    all_.until(lambda e: closes(e, 82) >= 15, "the closes")
    subs["everything"].until(lambda e: closes(e, 82) >= 15, "the closes")
    for name, (_, holds) in wanted.items():
        first = answers[name]["next_seq"]
        expected = [line for line, e in zip(all_.lines, all_.events)
                    if e["event_type"] != "hello" and e["seq"] >= first and holds(e)]
        subs[name].until(lambda _: len(since_answer(subs[name])[0]) >= len(expected), name)
        tap.equal(since_answer(subs[name])[0], expected,
                  f"a request for {name} gives exactly these lines")
        tap.ok(not subs[name].checker.errors, f"{name}: every line is right",
               subs[name].checker.errors)
        subs[name].close()


def refused(daemon):
    """Each gets an error, and the stream goes on."""
    sub = daemon.subscribe()
    deep = b"[" * 10000
    for what, request, says in (
            ("what is no JSON", b"hello", "this is no JSON"),
            ("half an object", b'{"events":', "this is no JSON"),
            ("a list", b"[]", "a request is a JSON object"),
            ("10,000 brackets", deep, "this is no JSON"),
            ("a NUL", b'{"id":"a\0b"}', "this is no JSON"),
            ("an escaped NUL", b'{"id":"\\u0000"}', "this is no JSON"),
            ("invalid UTF-8", b'{"id":"\xff"}', "this is no JSON"),
            ("a member twice", b'{"id":"a","id":"b"}', "this is no JSON"),
            ("another member", {"evnts": []}, "there is no member 'evnts'; did you mean 'events'?"),
            ("another kind", {"events": ["tcp_closed"]}, "did you mean 'tcp_close'?"),
            ("kinds that are no list", {"events": "tcp_close"}, "events must be a list"),
            ("another policy", {"policy": "wait"}, "policy must be"),
            ("a policy that is no string", {"policy": 1}, "policy must be"),
            ("from without run_id", {"from": {"seq": 1}}, "from must be"),
            ("a negative seq", {"from": {"run_id": "x", "seq": -1}}, "from must be"),
            ("a seq that is to come",
             {"from": {"run_id": sub.events[0]["run_id"], "seq": 1 << 60}}, "the last event has"),
            ("a long id", {"id": "x" * 257}, "at most 256"),
            ("a long expression", {"where": "x" * 1025}, "at most 1024"),
            ("an expression that is none", {"where": "dest_prt == 1"}, "where: ")):
        e = ask(sub, request, "error")
        tap.ok(says in e["error"], f"refused, with the reason: {what}", e)
    e = ask(sub, {"policy": "wait", "id": "mine"}, "error")
    e2 = ask(sub, b'{"events": nonsense}', "error")
    tap.ok(e.get("id") == "mine" or "id" not in e, "the error has the id if it was read", e)
    tap.ok(12 <= e2["at"] <= 20, "the error says at which character", e2)
    sub.s.sendall(b"\n \r\n")  # no request
    return sub


def long_request(daemon):
    """10 MB without a newline cost one error and no memory."""
    sub = daemon.subscribe()
    before = rss(daemon)
    for _ in range(160):
        sub.s.settimeout(live.DEADLINE)
        sub.s.sendall(b"x" * 65536)
        sub.read(0)
    e = ask(sub, b"", "error")
    tap.ok("at most 65536 octets" in e["error"], "10 MB are refused, with the reason", e)
    tap.ok(rss(daemon) - before < 512, "and cost no memory", before, rss(daemon))
    tap.equal(ask(sub, {"id": "after"})["id"], "after", "the next request is answered")
    sub.close()


def rss(daemon):
    with open(f"/proc/{daemon.p.pid}/smaps_rollup") as f:
        return sum(int(line.split()[1]) for line in f if line.startswith("Private_Dirty"))


def split_request(daemon):
    """A request may come in pieces, and several at once."""
    sub = daemon.subscribe()
    for octet in b'{"id":"in pieces"}':
        sub.s.sendall(bytes([octet]))
    tap.equal(ask(sub, b"")["id"], "in pieces", "a request that comes octet by octet is answered")
    sub.s.sendall(b"".join(json.dumps({"id": str(i)}).encode() + b"\n" for i in range(50)))
    sub.until(lambda e: sum("id" in x for x in e) >= 51, "50 answers")
    tap.equal([e["id"] for e in sub.events if "id" in e][1:], [str(i) for i in range(50)],
              "50 requests at once are answered in their order")
    sub.close()


def replay(ns, daemon, all_):
    """from: what was missed, then live, nothing twice."""
    traffic(ns, 20, 83)
    all_.until(lambda e: closes(e, 83) >= 20, "the closes")
    run = all_.events[0]["run_id"]
    lines = {e["seq"]: line for e, line in zip(all_.events, all_.lines)
             if e["event_type"] != "hello"}
    first, newest = min(lines), max(lines)
    wrong = []
    for _ in range(20):
        seq = rng.randrange(first, newest)
        sub = daemon.subscribe()
        a = ask(sub, {"from": {"run_id": run, "seq": seq}})
        sub.until(lambda e: e[-1]["seq"] >= newest, "the newest")
        got = since_answer(sub)[0]
        if a["next_seq"] != seq + 1 or got[:newest - seq] != [lines[i] for i in
                                                              range(seq + 1, newest + 1)]:
            wrong.append((seq, len(got), newest - seq))
        sub.close()
    tap.ok(not wrong, "from any event on, the lines are those of an undisturbed subscriber", wrong)
    sub = daemon.subscribe()
    ask(sub, {"from": {"run_id": run, "seq": newest}, "events": ["tcp_close"]})
    traffic(ns, 1, 84)
    sub.until(lambda e: closes(e, 84), "a live event")
    tap.ok(len(since_answer(sub)[0]) == 1, "from the newest event on: only what is new",
           since_answer(sub)[0])
    a = ask(sub, {"from": {"run_id": "another", "seq": 5}, "events": ["tcp_close"]})
    lost = sub.until(lambda e: [x for x in since_answer(sub)[1] if x["event_type"] == "lost"],
                     "lost")[0]
    tap.ok(lost["reason"] == "run" and a["next_seq"] == 1 and lost["first_seq"] == 1,
           "another run is reported as lost, and what the queue has follows", lost)
    sub.until(lambda _: closes(since_answer(sub)[1], 84), "the rest")
    tap.equal(closes(since_answer(sub)[1], 83), 20, "all that it has")
    a = ask(sub, {"from": {"run_id": run, "seq": first}, "where": "dest_port == 83",
                  "events": ["tcp_close"]})
    sub.until(lambda _: closes(since_answer(sub)[1], 83) >= 20, "old lines by an expression")
    tap.ok({e["dest_port"] for e in since_answer(sub)[1]} == {83},
           "an expression chooses among older lines, too")
    sub.close()


def replay_lost(ns):
    """What the queue no longer has is one lost line with exact numbers."""
    daemon = live.Synfind(ns, "lo", queue_size="64K", ring_size="16M")
    all_ = daemon.subscribe()
    for n in range(1, 13):
        traffic(ns, 20, 80)
        all_.until(lambda e: closes(e, 80) >= 20 * n, "the closes")
    run = all_.events[0]["run_id"]
    lines = {e["seq"]: line for e, line in zip(all_.events, all_.lines)}
    sub = daemon.subscribe()
    ask(sub, {"from": {"run_id": run, "seq": 3}})
    sub.until(lambda e: e[-1]["seq"] >= max(lines), "the newest")
    got, events = since_answer(sub)
    lost = events[0]
    tap.equal((lost["event_type"], lost["reason"], lost["first_seq"], lost["count"]),
              ("lost", "replay", 4, events[1]["seq"] - 4),
              "what the queue no longer has is one lost line, with exact numbers")
    tap.equal(got[1:], [lines[i] for i in range(lost["last_seq"] + 1, max(lines) + 1)],
              "and all that it has follows")
    slow(ns, daemon, all_)
    daemon.ends_well(all_, "after a replay")


def slow(ns, daemon, all_):
    """Who does not read loses only by its policy, and is told exactly what."""
    chosen = {"events": ["tcp_close"], "where": "dest_port == 81"}
    subs = {p: daemon.subscribe() for p in ("drop_oldest", "drop_newest", "disconnect")}
    starts = {p: ask(subs[p], {**chosen, "policy": p})["next_seq"] for p in subs}
    mark = len(all_.events)
    for n in range(1, 61):
        for port in (80, 81):
            traffic(ns, 20, port)
            all_.until(lambda e: closes(e[mark:], port) >= 20 * n, "the closes")
    mine = {e["seq"]: line for e, line in zip(all_.events, all_.lines)
            if e["event_type"] == "tcp_close" and e["dest_port"] == 81}
    for p, sub in subs.items():
        if p == "disconnect":
            sub.until(lambda e: e[-1]["event_type"] == "error" or sub.ended, "the end")
        else:
            sub.until(lambda e: e[-1]["seq"] >= max(mine), "the newest")
        got, events = since_answer(sub)
        lost = [e for e in events if e["event_type"] == "lost"]
        have = [e["seq"] for e in events if e["event_type"] == "tcp_close"]
        gone = sorted(s for s in mine if s >= starts[p] and s not in have)
        if p == "disconnect":
            tap.ok(not lost and "events were lost" in events[-1].get("error", ""),
                   "disconnect: the last line says why", events[-1])
            before = sum(s <= events[-1]["seq"] for s in gone)
            tap.ok(before and f" {before} events" in events[-1]["error"],
                   "and how many were lost until then", events[-1], before)
            continue
        told = [s for s in gone if any(e["first_seq"] <= s <= e["last_seq"] for e in lost)]
        tap.ok(lost and gone, f"{p}: a subscriber that does not read loses events", len(have))
        tap.equal(sum(e["count"] for e in lost), len(gone), f"{p}: the count of the lost is exact")
        tap.equal(told, gone, f"{p}: the lost lines name all of them")
        tap.ok(all(e["first_seq"] in gone and e["last_seq"] in gone for e in lost),
               f"{p}: from the first to the last one", lost)
        tap.equal([l for l in got if b'"lost"' not in l], [mine[s] for s in have],
                  f"{p}: what it gets is as others get it")
    first = {p: min(e["first_seq"] for e in since_answer(subs[p])[1] if e["event_type"] == "lost")
             for p in ("drop_oldest", "drop_newest")}
    tap.ok(first["drop_newest"] > first["drop_oldest"],
           "drop_newest keeps older lines than drop_oldest", first)


def quotas(daemon):
    """8 expressions of one user, 64 in all; equal ones are one."""
    subs = [daemon.subscribe(user=(1000 + i // 8, 1000)) for i in range(65)]
    for i, sub in enumerate(subs[:64]):
        ask(sub, {"where": f"dest_port == {i}"})
    e = ask(subs[64], {"where": "dest_port == 100"}, "error")
    tap.ok("64 different expressions" in e["error"], "65 different expressions: refused", e)
    tap.equal(ask(subs[64], {"where": "dest_port == 3"})["where"], "dest_port == 3",
              "one that is in use already costs nothing, whoever brought it")
    for sub in subs[:8] + subs[32:]:
        sub.close()
    sub = daemon.subscribe(user=(1001, 1000))
    e = live.wait_until(lambda: [e for e in [ask(sub, {"where": "dest_port == 101"}, None)]
                                 if "64" not in e.get("error", "")], "slots to be free")[0]
    tap.ok("your user has 8" in e["error"], "a ninth expression of one user: refused", e)
    sub.close()
    sub = daemon.subscribe(user=(1000, 1000))
    tap.equal(ask(sub, {"where": "dest_port == 102"})["event_type"], "subscribed",
              "the slots of subscribers that left are free again")
    sub.close()
    for sub in subs[8:32]:
        sub.close()


def documented(daemon):
    """The requests of docs/requests.md."""
    with open(os.path.join(live.ROOT, "docs/requests.md")) as f:
        texts = [line.strip() for line in f if line.startswith("    {") and '"from"' not in line]
    sub = daemon.subscribe()
    refused = [e for e in (ask(sub, t.encode(), None) for t in texts) if e["event_type"] == "error"]
    tap.ok(not refused and len(texts) >= 10, "the requests of docs/requests.md are accepted", refused)
    sub.close()


def masked(ns):
    """A subscriber with pseudonyms learns nothing through where."""
    daemon = live.Synfind(ns, "lo", socket_mode="0666", pseudonymize_user="1000", ring_size="16M")
    sub, open_ = daemon.subscribe(user=(1000, 1000)), daemon.subscribe()
    ask(sub, {"where": "src_ip == '127.0.0.1' || cidr('127.0.0.0/8').containsIP(dest_ip)"})
    traffic(ns, 3, 86)
    open_.until(lambda e: closes(e, 86) >= 3, "the closes")
    pseudonym = daemon.subscribe(user=(1000, 1000))
    traffic(ns, 1, 87)
    seen = pseudonym.wait_for("tcp_close", dest_port=87)["src_ip"]
    ask(sub, {"where": f"src_ip == '{seen}'", "from": {"run_id": sub.events[0]["run_id"], "seq": 1}})
    sub.until(lambda e: closes(e, 87), "the close, by its pseudonym")
    tap.ok(not [e for e in sub.events if e.get("src_ip") == "127.0.0.1"] and
           len([e for e in sub.events if e["event_type"] == "subscribed"]) == 2,
           "where of a subscriber with pseudonyms sees pseudonyms only")
    at = [i for i, e in enumerate(sub.events) if e["event_type"] == "subscribed"]
    tap.equal([e for e in sub.events[at[0] + 1:at[1]] if e["event_type"].startswith("tcp_")], [],
              "and an address chooses nothing")
    daemon.ends_well(open_, "with pseudonyms")


live.need("ip")
ns = live.Netns()
daemon = live.Synfind(ns, "lo", ring_size="16M", max_subscribers="200", socket_mode="0666",
                      max_subscribers_per_uid="100")
all_ = daemon.subscribe()
with live.guarded("choosing"):
    choose(ns, daemon, all_)
with live.guarded("bad requests"):
    sub = refused(daemon)
    traffic(ns, 1, 85)
    sub.until(lambda e: closes(e, 85), "an event after all these errors")
    tap.ok(not sub.checker.errors, "the stream continues after an error", sub.checker.errors)
with live.guarded("long requests"):
    long_request(daemon)
with live.guarded("requests in pieces"):
    split_request(daemon)
with live.guarded("replay"):
    replay(ns, daemon, all_)
with live.guarded("quotas"):
    quotas(daemon)
with live.guarded("the documentation"):
    documented(daemon)
daemon.ends_well(all_)
with live.guarded("pseudonyms"):
    masked(ns)
with live.guarded("a replay of too much"):
    replay_lost(ns)
tap.done()
